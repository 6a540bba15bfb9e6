"""What is done to a tensor before it is multiplied: weights stored in few bits, activations rounded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lowprec._checks import Array
from lowprec.blocks import BlockFormat, block_format, block_formats, is_block_name
from lowprec.codebooks import CodebookFormat, element_of
from lowprec.codec import round_to
from lowprec.formats import FloatFormat, IntFormat, formats
from lowprec.quantizers.api import quantize

UNSCALED_BITS = 16
METHODS = ("rtn", "mse", "gptq", "awq", "hqq", "hadamard")
CALIBRATED = ("gptq", "awq")
_GRAMMAR = (
    f"[method:]format[/block], such as 'int4/32', 'gptq:int4/128', 'nf4' or 'mse:e4m3fn', with a method of "
    f"{', '.join(METHODS)}"
)

Calibration = Array | Callable[[], Array] | None
"""Activations that go into a weight, shape (tokens, K), or a function that gives them when they are asked for."""


@dataclass(frozen=True)
class WeightRule:
    """In which format a tensor is stored, and how its numbers are chosen.

    Parameters
    ----------
    method : {"rtn", "mse", "gptq", "awq", "hqq", "hadamard"}
        How codes are chosen: round to nearest, or a weight quantiser of `lowprec.quantizers`.
    fmt : FloatFormat, IntFormat, CodebookFormat or BlockFormat
        The format.
    block_size : int, optional
        Inputs that share a scale; None: one scale per output (floats below 16 bits with method rtn: one for all, wider
        ones: none), and their own for block formats.

    Raises
    ------
    Nothing; `parse` checks.

    Examples
    --------
    >>> from lowprec.nn import WeightRule
    >>> str(WeightRule.parse("gptq:int4/128")), WeightRule.parse("int4/32").bits
    ('gptq:int4/128', 5.0)
    """

    method: str
    fmt: FloatFormat | IntFormat | CodebookFormat | BlockFormat
    block_size: int | None = None

    @classmethod
    def parse(cls, value: Any, argument: str = "weights") -> Self:
        """Return the rule that a word or a format stands for.

        Parameters
        ----------
        value : str, format or WeightRule
            A word ``[method:]format[/block]``, or a format alone.
        argument : str
            What errors call it.

        Returns
        -------
        WeightRule
            Checked.

        Raises
        ------
        TypeError
            If it is of another kind.
        ValueError
            If a method or format is unknown (close names are listed), the block is no positive integer, or the method
            does not take the format.
        """
        if isinstance(value, cls):
            return value
        method, block = "rtn", None
        name: Any = value
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(?:([^:/]*):)?([^:/]+)(?:/([^:/]*))?\s*", value)
            if found is None:
                msg = f"`{argument}` must be a word {_GRAMMAR}; got {value!r}."
                raise ValueError(msg)
            method, name = ("rtn" if found[1] is None else found[1].strip().lower()), found[2].strip()
            if method not in METHODS:
                close = difflib.get_close_matches(method, METHODS, n=2, cutoff=0.4)
                hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
                msg = f"`{argument}` must name a method of {', '.join(METHODS)}, got {method!r} in {value!r}{hint}."
                raise ValueError(msg)
            if found[3] is not None:
                if not found[3].strip().isascii() or not found[3].strip().isdigit() or int(found[3]) == 0:
                    msg = f"`{argument}` must have a positive block size after '/', got {found[3]!r} in {value!r}."
                    raise ValueError(msg)
                block = int(found[3])
        rule = cls(method, _format(name, argument), block)
        rule._check(argument)
        return rule

    def _check(self, argument: str) -> None:
        """Refuse what no quantiser does."""
        if isinstance(self.fmt, BlockFormat):
            if self.block_size is not None:
                msg = f"`{argument}` must leave out the block size of `{self.fmt}`, which has its own, got {self}."
                raise ValueError(msg)
            if self.fmt.ggml and self.method != "rtn":
                msg = f"`{argument}` must have method rtn for `{self.fmt}`, whose rules are GGML's, got {self.method}."
                raise ValueError(msg)
        if self.method == "hqq" and not (isinstance(self.fmt, IntFormat) and not self.fmt.is_signed):
            msg = f"`{argument}` must have an unsigned integer for hqq, which is affine, got `{self.fmt}`; use uint4."
            raise ValueError(msg)
        if self.method != "rtn" and isinstance(self.fmt, FloatFormat) and self.fmt.bits >= UNSCALED_BITS:
            msg = f"`{argument}` must have method rtn for `{self.fmt}`, which needs no scale, got {self.method}."
            raise ValueError(msg)

    @property
    def needs_calibration(self) -> bool:
        """Whether activations are needed."""
        return self.method in CALIBRATED

    @property
    def bits(self) -> float:
        """Bits per number, scales of blocks included; those of whole rows, which are few, left out."""
        fmt = self.fmt
        if isinstance(fmt, BlockFormat):
            return float(fmt.bits)
        if self.block_size is None:
            return float(fmt.bits)
        point = fmt.bits if isinstance(fmt, IntFormat) and not fmt.is_signed else 0
        return fmt.bits + (32 + point) / self.block_size

    @property
    def affine(self) -> bool:
        """Whether there are zero points: for unsigned integers."""
        return isinstance(self.fmt, IntFormat) and not self.fmt.is_signed

    @property
    def has_tensor_scale(self) -> bool:
        """Whether a scale is found on the whole tensor: for floats below 16 bits, and formats of two levels."""
        if isinstance(self.fmt, BlockFormat):
            return self.fmt.two_level
        return isinstance(self.fmt, FloatFormat) and self.fmt.bits < UNSCALED_BITS and self.block_size is None

    def __str__(self) -> str:
        """Return the word that means this rule."""
        aliases = getattr(self.fmt, "aliases", ())
        name = aliases[0] if aliases else self.fmt.name
        head = "" if self.method == "rtn" else f"{self.method}:"
        return f"{head}{name}{'' if self.block_size is None else f'/{self.block_size}'}"

    def apply(self, w: Array, calibration: Calibration = None, *, seed: int = 0) -> Array:
        """Return a weight as it comes back from its storage.

        Parameters
        ----------
        w : ndarray of float32, shape (N, K)
            The weight.
        calibration : ndarray (tokens, K) or callable, optional
            What goes into it; asked for by gptq and awq alone.
        seed : int
            Of the signs that the Hadamard rotation draws.

        Returns
        -------
        ndarray of float32, shape (N, K)
            The dequantised numbers.

        Raises
        ------
        ValueError
            If calibration is needed and missing, or as the quantiser.
        """
        if self.method == "rtn":
            return self.rounded(w)
        from lowprec import quantizers

        x = None
        if self.needs_calibration:
            x = calibration() if callable(calibration) else calibration
            if x is None:
                msg = f"`calibration` must be given for {self}: activations of shape (tokens, {w.shape[1]})."
                raise ValueError(msg)
        how: dict[str, Any] = {} if self.block_size is None else {"block_size": self.block_size}
        if self.method in ("gptq", "awq"):
            how["progress"] = False
        if self.method == "hadamard":
            how["rng"] = seed
        if self.method != "hqq" and self.affine:
            how["symmetric"] = False
        names = {"mse": "mse_clip"}
        maker = getattr(quantizers, names.get(self.method, self.method))
        return np.asarray(maker(w, x, self.fmt, **how).dequantize(), np.float32)

    def rounded(self, x: Array, *, rounding: str = "nearest_even", rng: Any = None) -> Array:
        """Return numbers rounded to the format and back: scales per row, per tensor or per block, as the class says.

        Parameters
        ----------
        x : ndarray of float32, shape (..., K)
            Any number of leading axes; each vector along the last axis is a row.
        rounding, rng
            As in `lowprec.encode`.

        Returns
        -------
        ndarray of float32
            Of the same shape. NaN and infinities make NaN of what shares their scale.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.quantize`.
        """
        fmt = self.fmt
        if isinstance(fmt, FloatFormat) and fmt.bits >= UNSCALED_BITS and self.block_size is None:
            return np.asarray(round_to(x, fmt, rounding=rounding, rng=rng))
        if x.size == 0:
            return np.array(x, np.float32)
        how: dict[str, Any] = {}
        if isinstance(fmt, BlockFormat):
            axis: Any = -1
        elif self.block_size is not None:
            axis, how["block_size"] = -1, self.block_size
        else:
            axis = None if isinstance(fmt, FloatFormat) else tuple(range(x.ndim - 1)) or None
        if not (isinstance(fmt, BlockFormat) and fmt.ggml):
            how |= {"symmetric": not self.affine, "nonfinite": "propagate", "rounding": rounding, "rng": rng}
        return np.asarray(quantize(x, fmt, axis=axis, **how).dequantize(), np.float32)


def _format(value: Any, argument: str) -> FloatFormat | IntFormat | CodebookFormat | BlockFormat:
    """Return a format of elements or blocks, or say which names are close."""
    if is_block_name(value):
        return block_format(value)
    try:
        return element_of(value, argument)
    except ValueError:
        if not isinstance(value, str):
            raise
        names = [name for fmt in formats() for name in (fmt.name, *fmt.aliases)]
        names += [row.name for row in block_formats()]
        close = difflib.get_close_matches(value.lower(), names, n=4, cutoff=0.5)
        if not close:
            raise
        msg = f"`{argument}` must hold a known format, got {value!r}; the closest: {', '.join(map(repr, close))}."
        raise ValueError(msg) from None
