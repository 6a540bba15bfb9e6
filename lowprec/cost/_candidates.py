"""What a Pareto set chooses from: formats of both operands, the sum, sparsity, and the unit that they cost."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lowprec import hardware
from lowprec._patterns import hardware_pattern
from lowprec._rules import fits
from lowprec.accumulators import Accumulator, FusedTruncated, Integer, Sequential
from lowprec.accumulators import words as models
from lowprec.blocks import BlockFormat, block_format, block_formats, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.formats import FloatFormat, IntFormat, formats
from lowprec.formats import format as resolve

Operand = FloatFormat | IntFormat | BlockFormat

DEFAULT = (
    *("fp32", "tf32", "fp16", "bf16", "fp16/fp16", "bf16/bf16"),
    *("e4m3fn", "e4m3fn/fp16", "e4m3fn/exact", "e5m2", "e5m2/exact", "e3m2fn/exact", "e2m3fn/exact", "e2m1fn/exact"),
    *("int8", "int8 2:4", "int4/int24"),
    *("mxfp8_e4m3", "mxint8", "mxfp6_e2m3", "mxfp4", "nvfp4"),
)
"""What `pareto` compares unless told otherwise."""

UNSCALED_BITS = 16
"""Floats of as many bits take numbers as they are; narrower ones get a scale."""

_GRAMMAR = (
    "[preset:]format[@format of w][/accumulator] [2:4] [dotN], such as 'bf16', 'e4m3fn/exact', 'int8@int4/int32 2:4', "
    "'e4m3fn dot16' or 'nvidia-hopper:e4m3fn'"
)
_KEYS = ("dtype", "accumulator", "sparsity", "lanes")


@dataclass(frozen=True)
class Candidate:
    """One choice: the formats of both operands, how products are summed, sparsity, and the unit that does it.

    Parameters
    ----------
    x, w : FloatFormat, IntFormat or BlockFormat
        Formats of the activations and of the weights.
    accumulator : str or Accumulator
        How products are summed, as in `lowprec.matmul`.
    sparsity : str, optional
        Pattern of the weights, such as ``"2:4"``.
    lanes : int, optional
        Products that a fused dot unit sums at once; None for a MAC, one product at a time. Block formats always go
        through a dot unit.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> c = lp.cost.Candidate.parse("int8@int4 2:4")
    >>> c.w.name, c.accumulator, c.sparsity, c.lanes, str(c)
    ('int4', 'int32', '2:4', None, 'int8@int4/int32 2:4')
    """

    x: Operand
    w: Operand
    accumulator: Any
    sparsity: str | None = None
    lanes: int | None = None

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Return the candidate that a word, a tuple or a dict stands for.

        Parameters
        ----------
        value : str, tuple, dict, format or Candidate
            A word ``[preset:]format[@format of w][/accumulator] [2:4] [dotN]``; a tuple ``(dtype, accumulator)`` or
            ``(dtype, accumulator, sparsity)``; a dict with ``dtype`` and any of ``accumulator``, ``sparsity``,
            ``lanes``; or a format alone. A `dtype` is a format or a pair of them, an accumulator None for the default.

        Returns
        -------
        Candidate
            With everything found.

        Raises
        ------
        TypeError
            If it is of another kind.
        ValueError
            If a name is unknown, or the parts do not go together.

        Examples
        --------
        >>> import lowprec as lp
        >>> str(lp.cost.Candidate.parse(("bf16", lp.Sequential("bf16"))))
        'bf16/bf16'
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls._worded(value)
        if isinstance(value, Mapping):
            unknown = [key for key in value if key not in _KEYS]
            if unknown or "dtype" not in value:
                msg = f"`formats` must hold dicts with `dtype` and any of {', '.join(_KEYS[1:])}, got {dict(value)!r}."
                raise ValueError(msg)
            return cls._made(**value)
        if isinstance(value, tuple):
            if not 1 <= len(value) <= 3:
                msg = f"`formats` must hold tuples (dtype, accumulator, sparsity), got {value!r}."
                raise ValueError(msg)
            return cls._made(*value)
        return cls._made(value)

    @classmethod
    def _worded(cls, text: str) -> Self:
        """Read a word."""
        rest = text.strip()
        lanes = sparsity = accumulator = None
        while found := re.fullmatch(r"(.*\S)\s+(dot(\d+)|\d+:\d+)", rest):
            rest = found[1]
            if found[3]:
                lanes = int(found[3])
            else:
                sparsity = found[2]
        if "/" in rest:
            rest, accumulator = (part.strip() for part in rest.split("/", 1))
        if ":" in rest:
            before, rest = (part.strip() for part in rest.split(":", 1))
            if accumulator is not None:
                msg = f"`formats` must name one accumulator, got {before!r} and {accumulator!r} in {text!r}."
                raise ValueError(msg)
            accumulator = hardware.preset(before).name if before else ""
        pair = tuple(part.strip() for part in rest.split("@"))
        if len(pair) > 2 or not all(pair) or accumulator == "" or re.search(r"\s", rest):
            msg = f"`formats` must hold words {_GRAMMAR}; got {text!r}."
            raise ValueError(msg)
        return cls._made(pair if len(pair) == 2 else rest, accumulator, sparsity, lanes)

    @classmethod
    def _made(cls, dtype: Any, accumulator: Any = None, sparsity: Any = None, lanes: Any = None) -> Self:
        """Check the parts, and put in what was left out."""
        if isinstance(dtype, tuple) and len(dtype) != 2:
            msg = f"`formats` must hold a format or a pair of them for x and w, got {dtype!r}."
            raise ValueError(msg)
        x, w = map(_operand, dtype if isinstance(dtype, tuple) else (dtype, dtype))
        pattern = None if sparsity is None else str(hardware_pattern(sparsity, "sparsity"))
        if lanes is not None:
            lanes = check_lanes(lanes)
        made = cls(x, w, accumulator, pattern, lanes)
        made._check()
        if accumulator is None:
            return replace(made, accumulator=made.default_accumulator)
        model = models.model(accumulator)
        if isinstance(model, str):
            return replace(made, accumulator=_preset(model, accumulator))
        return replace(made, accumulator=_spelled(model))

    def _check(self) -> None:
        """Refuse operands that no unit multiplies."""
        one, other = self.x, self.w
        if isinstance(one, BlockFormat) and (one.ggml or isinstance(one.element, CodebookFormat)):
            msg = f"`formats` must have `{one}` for weights alone, which no unit multiplies; write bf16@{one}."
        elif isinstance(one, BlockFormat) and not isinstance(other, BlockFormat):
            msg = f"`formats` must pair the blocks `{one}` of x with blocks of w, got `{other}`."
        elif isinstance(one, BlockFormat) and isinstance(other, BlockFormat):
            if one.block_size == other.block_size:
                return
            msg = f"`formats` must pair blocks of one size, got `{one}` of {one.block_size} and `{other}`."
        elif (isinstance(one, FloatFormat) and (isinstance(other, FloatFormat) or one.bits >= UNSCALED_BITS)) or (
            isinstance(one, IntFormat) and isinstance(other, IntFormat)
        ):
            return
        else:
            msg = (
                f"`formats` must be two floats, two integers, two formats of blocks, or a float of {UNSCALED_BITS} "
                f"bits or more with weights stored in any format, got `{one}` and `{other}`; such as bf16@{other}."
            )
        raise ValueError(msg)

    @property
    def is_storage(self) -> bool:
        """Whether weights are only stored in their format, and decoded to that of x before they are multiplied."""
        return isinstance(self.x, FloatFormat) and not isinstance(self.w, FloatFormat)

    @property
    def is_block(self) -> bool:
        """Whether both operands are in blocks with scales."""
        return isinstance(self.x, BlockFormat)

    @property
    def family(self) -> str:
        """``"float"``, ``"narrow"`` (a float with a scale), ``"integer"``, ``"block"`` or ``"stored"``."""
        if self.is_storage:
            return "stored"
        if self.is_block:
            return "block"
        if isinstance(self.x, IntFormat):
            return "integer"
        return "float" if min(self.x.bits, self.w.bits) >= UNSCALED_BITS else "narrow"

    @property
    def multiplied(self) -> tuple[Any, Any]:
        """Formats of the numbers that are multiplied: elements of blocks, and that of x for stored weights."""
        if isinstance(self.x, BlockFormat) and isinstance(self.w, BlockFormat):
            return self.x.element, self.w.element
        return self.x, self.x if self.is_storage else self.w

    @property
    def default_accumulator(self) -> str:
        """What sums unless told otherwise: as in `lowprec.matmul`, and fp32 for blocks."""
        one, other = self.multiplied
        if isinstance(one, IntFormat) and not self.is_block:
            return "int32"
        return "fp32" if all(fits(fmt, np.dtype(np.float32)) for fmt in (one, other)) else "fp64"

    @property
    def preset(self) -> str | None:
        """Name of the hardware preset that sums, if one does."""
        word = self.accumulator
        return word if isinstance(word, str) and isinstance(models.model(word), str) else None

    @property
    def instruction(self) -> hardware.Instruction:
        """The row of the preset's table that sums."""
        scales = (self.x.scale, self.x.block_size) if isinstance(self.x, BlockFormat) else None
        return hardware.preset(str(self.preset)).instruction(self.multiplied, scales=scales)

    def model(self) -> Accumulator | str:
        """Return what `lowprec.matmul` is to sum with.

        Returns
        -------
        Accumulator or str
            The accumulator; for a dot unit of floats, in place of one product after the other, the fused sum of its
            lanes: aligned to the largest, truncated at as many fraction bits as the accumulator's format has.

        Raises
        ------
        Nothing.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.cost.Candidate.parse("bf16 dot16").model()
        FusedTruncated(length=16, fraction_bits=23, rounding='nearest_even')
        """
        found = models.model(self.accumulator)
        floats = isinstance(self.multiplied[0], FloatFormat)
        if self.lanes is None or self.is_block or not floats or not isinstance(found, Sequential):
            return found
        out = found.format
        return FusedTruncated(self.lanes, out.mantissa_bits, out, rounding="nearest_even")  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Return the word that means this candidate, the default accumulator of block formats left out."""
        names = [_label(self.x)] if self.x == self.w else [_label(self.x), _label(self.w)]
        said = self.accumulator if isinstance(self.accumulator, str) else repr(self.accumulator)
        standard = self.is_block and said == self.default_accumulator
        more = [self.sparsity or "", f"dot{self.lanes}" if self.lanes else ""]
        return " ".join(["@".join(names) + ("" if standard else f"/{said}"), *(word for word in more if word)])


def check_lanes(lanes: Any) -> int:
    """Check a number of lanes."""
    if isinstance(lanes, (bool, np.bool_)) or not isinstance(lanes, (int, np.integer)):
        msg = f"`lanes` must be an integer, got {lanes!r} of type {type(lanes).__name__}."
        raise TypeError(msg)
    if not 1 <= lanes <= 1024:
        msg = f"`lanes` must be from 1 to 1024, got {lanes}."
        raise ValueError(msg)
    return int(lanes)


def candidates_of(chosen: Any, accumulators: Any) -> list[Candidate]:
    """Return the candidates that the arguments of `pareto` mean, each once, in order."""
    if chosen is None:
        chosen = DEFAULT
    if isinstance(chosen, (str, Mapping, Candidate, FloatFormat, IntFormat, BlockFormat)):
        chosen = [chosen]
    if not isinstance(chosen, Iterable):
        msg = f"`formats` must be a list of {_GRAMMAR}; got {chosen!r}."
        raise TypeError(msg)
    found = [Candidate.parse(each) for each in chosen]
    if not found:
        msg = "`formats` must have a candidate, got none; leave it out for the usual twenty."
        raise ValueError(msg)
    if accumulators is not None:
        words = [accumulators] if isinstance(accumulators, (str, Accumulator)) else list(accumulators)
        if not words:
            msg = "`accumulators` must have one, got none; leave it out for each format's own."
            raise ValueError(msg)
        found = [Candidate._made((each.x, each.w), word, each.sparsity, each.lanes) for each in found for word in words]
    return list({str(each): each for each in found}.values())


def _operand(value: Any) -> Operand:
    """Return a format, or say which names are close."""
    if is_block_name(value):
        return block_format(value)
    try:
        return resolve(value)
    except ValueError as error:
        if not isinstance(value, str):
            raise ValueError(str(error).replace("`fmt`", "`formats`", 1)) from None
        names = [name for fmt in formats() for name in (fmt.name, *fmt.aliases)]
        names += [row.name for row in block_formats()]
        close = difflib.get_close_matches(value.lower(), names, n=4, cutoff=0.5)
        if "ambiguous" in str(error) or not close:
            raise ValueError(str(error).replace("`fmt`", "`formats`", 1)) from None
        msg = f"`formats` must hold known formats, got {value!r}; the closest: {', '.join(map(repr, close))}."
        raise ValueError(msg) from None
    except TypeError:
        msg = f"`formats` must hold words {_GRAMMAR}, tuples or dicts, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg) from None


def _preset(word: str, given: Any) -> str:
    """Return the name of a preset, or say which names are close."""
    try:
        return hardware.preset(word).name
    except ValueError:
        fp32 = resolve("fp32")
        hardware.select(str(given), (fp32, fp32))  # raises with the names of all accumulators
        raise


def _label(fmt: Operand) -> str:
    """Return the short name of a format."""
    aliases = getattr(fmt, "aliases", ())
    return aliases[0] if aliases else fmt.name


def _spelled(model: Accumulator) -> str | Accumulator:
    """Return the word of a model that has one, else the model."""
    words = ["exact", "pairwise"]
    if isinstance(model, Sequential):
        words.append(_label(model.format))
    if isinstance(model, Integer):
        words.append(
            f"{'' if model.is_signed else 'u'}int{model.bits}{'' if model.overflow == 'wrap' else '_saturate'}"
        )
    return next((word for word in words if models.model(word) == model), model)
