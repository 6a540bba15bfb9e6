"""Arithmetic: how all products of a model are computed, from the operands' formats to the sum."""

from __future__ import annotations

import difflib
import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from lowprec import codec
from lowprec._checks import Array, modes
from lowprec.accumulators import Exact
from lowprec.blocks import BlockFormat
from lowprec.cost._candidates import Candidate
from lowprec.formats import FloatFormat, IntFormat
from lowprec.matmul import linear, matmul
from lowprec.nn import _operands
from lowprec.nn._choices import called, candidate_of, short, sparsity_of, summed
from lowprec.nn._key import canonical
from lowprec.nn._operands import PreparedWeight, is_scaled, scale_exponent, spread
from lowprec.nn._weights import UNSCALED_BITS, Calibration, WeightRule
from lowprec.pruning.api import sparsify
from lowprec.quantizers.api import quantize
from lowprec.rounding import Rounding
from lowprec.sparse_arrays import Sparse24

SCALES = ("auto", "none", "tensor", "row", "power_of_two")


@dataclass(frozen=True, init=False)
class Arithmetic:
    """How all products of a model are computed: formats, scales, the sum, and what is done to weights before.

    Parameters
    ----------
    dtype : str, FloatFormat, IntFormat, BlockFormat, pair, tuple or Candidate
        The format that both operands are rounded to, or a pair for activations and weights; or a word of
        `lowprec.cost.Candidate`, ``[preset:]format[@format of w][/accumulator] [2:4]``.
    accumulator : str or Accumulator, optional
        How products are summed, as in `lowprec.matmul`.
    weights : str, format, WeightRule or callable, optional
        In which format weights are stored; they come back as float32 numbers, which then go through `dtype`. A word
        ``[method:]format[/block]`` (`WeightRule`), or a function ``(w, calibration) -> w`` of arrays (N, K).
    activations : str, format or WeightRule, optional
        The same for activations, by rounding to nearest; "row" is then a token.
    sparsity : str, optional
        Pattern and criterion of the weights: ``"2:4"``, ``"2:4 wanda"``, ``"2:4 sparsegpt"``.
    scales : {"auto", "none", "tensor", "row", "power_of_two"}
        What operands are divided by before they are rounded. "none": what `lowprec.matmul` does with `dtype`: nothing
        for floats, one scale per tensor for integers. "tensor", "row": the largest magnitude of the tensor, or of each
        row of the activations and each output of the weight, over the largest value of the format; for integers and
        floats below 16 bits. "auto": "row" for integers, "tensor" for those floats. "power_of_two": for those floats
        the largest power of two that keeps the tensor inside the format, at most 2**16; integers as "row". Block
        formats always have their own.
    scale_rule : str, optional
        How the scales of block formats are rounded, as in `lowprec.quantize`; by default the format's own rule.
    rounding : str
        How operands are rounded, as in `lowprec.encode`. The sum rounds as its model says.
    seed : int
        Of stochastic rounding. Equal operands and weights' names give equal bits.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown (close ones are listed), or the parts do not go together.

    Notes
    -----
    With ``scales="none"`` and nothing done to weights, `linear` has the bits of ``lowprec.linear(x, w, bias, dtype,
    accumulator=accumulator)``, and `matmul` those of `lowprec.matmul`. With scales, the product is that of two
    `lowprec.QuantizedArray`; an exact sum of floats' codes is rounded to float32, then scaled. A float's scale is
    larger where sums of K products could otherwise leave the accumulator's format.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.random.default_rng(0).standard_normal((2, 4, 64)).astype(np.float32)
    >>> hopper = lp.nn.Arithmetic("e4m3fn", "nvidia-hopper", scales="none")
    >>> bool((hopper.linear(x, w) == lp.matmul(x, w.T, "e4m3fn", accumulator="nvidia-hopper")).all())
    True
    >>> lp.nn.Arithmetic("bf16", weights="int4/32").label
    'bf16, weights int4/32'
    >>> lp.nn.Arithmetic("e4m3fn", lp.Chunked("nvidia-hopper", every=128)).label
    'e4m3fn/nvidia-hopper every 128'
    """

    candidate: Candidate
    weights: WeightRule | Callable[..., Any] | None
    activations: WeightRule | None
    criterion: str
    scales: str
    scale_rule: str | None
    rounding: Rounding
    seed: int

    def __init__(
        self,
        dtype: Any = "fp32",
        accumulator: Any = None,
        *,
        weights: Any = None,
        activations: Any = None,
        sparsity: str | None = None,
        scales: str = "auto",
        scale_rule: str | None = None,
        rounding: str = "nearest_even",
        seed: int = 0,
    ) -> None:
        pattern, criterion = sparsity_of(sparsity)
        found = candidate_of(dtype, accumulator, pattern)
        if weights is not None and found.is_storage:
            msg = f"`weights` must be None for {dtype!r}, which says already how weights are stored, got {weights!r}."
            raise ValueError(msg)
        if weights is not None and (isinstance(weights, type) or not callable(weights)):
            weights = WeightRule.parse(weights)
        if activations is not None:
            activations = WeightRule.parse(activations, "activations")
            if activations.method != "rtn":
                msg = f"`activations` must be rounded to nearest, got the method {activations.method}; leave it out."
                raise ValueError(msg)
        if not isinstance(scales, str):
            msg = f"`scales` must be a string, got {scales!r} of type {type(scales).__name__}."
            raise TypeError(msg)
        if scales not in SCALES:
            close = difflib.get_close_matches(scales, SCALES, n=2, cutoff=0.4)
            hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
            msg = f"`scales` must be one of {', '.join(SCALES)}, got {scales!r}{hint}."
            raise ValueError(msg)
        if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
            msg = f"`seed` must be an integer, got {seed!r} of type {type(seed).__name__}."
            raise TypeError(msg)
        if not 0 <= seed < 2**63:
            msg = f"`seed` must be from 0 to 2**63 - 1, got {seed}."
            raise ValueError(msg)
        if scale_rule is not None:
            if not found.is_block:
                msg = f"`scale_rule` must be None for {dtype!r}, got {scale_rule!r}; block formats have rules."
                raise ValueError(msg)
            quantize(np.zeros(1, np.float32), found.x, scale_rule=scale_rule)  # names the rules there are
        if scales == "power_of_two" and isinstance(found.multiplied[0], IntFormat):
            scales = "row"
        if found.preset is not None:
            _ = found.instruction  # raises if the hardware does not take the formats
        parts = (found, weights, activations, criterion, scales, scale_rule)
        modes_ = modes(rounding, None, "keep", 32)
        for name, value in zip((f.name for f in fields(self)), (*parts, modes_.rounding, int(seed)), strict=True):
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------------------------------------------------- facts
    @property
    def formats(self) -> tuple[Any, Any]:
        """Formats of the numbers that are multiplied, of activations and of weights; block formats as they are."""
        found = self.candidate
        return (found.x, found.w) if found.is_block else found.multiplied

    @property
    def accumulator(self) -> Any:
        """How products are summed: a word or a model."""
        return self.candidate.accumulator

    @property
    def sparsity(self) -> str | None:
        """Pattern and criterion of the weights."""
        pattern = self.candidate.sparsity
        return pattern if pattern is None or self.criterion == "magnitude" else f"{pattern} {self.criterion}"

    @property
    def needs_calibration(self) -> bool:
        """Whether weights cannot be prepared without activations."""
        rule = self.weights
        return self.criterion != "magnitude" or (isinstance(rule, WeightRule) and rule.needs_calibration)

    @property
    def weight_bits(self) -> float:
        """Bits in which a weight is stored: scales of blocks included, those of rows and tensors, and sparsity, not."""
        if isinstance(self.weights, WeightRule):
            return self.weights.bits
        return float(self.candidate.w.bits)

    @property
    def label(self) -> str:
        """A few words for tables and legends: what is not said is as by default."""
        found = self.candidate
        names = [short(found.x)] if found.x == found.w else [short(found.x), short(found.w)]
        words = ["@".join(names)]
        if found.accumulator != found.default_accumulator:
            words[0] += f"/{summed(found.accumulator)}"
        if self.scale_rule is not None:
            words[0] += f" {self.scale_rule}"
        if self.sparsity is not None:
            words[0] += f" {self.sparsity}"
        if self.weights is not None:
            words.append(f"weights {called(self.weights)}")
        if self.activations is not None:
            words.append(f"activations {self.activations}")
        if self.scales != "auto":
            words.append(f"scales {self.scales}")
        if self.rounding is not Rounding.NEAREST_EVEN:
            words.append(str(self.rounding))
        return ", ".join(words)

    def with_(self, **changes: Any) -> Self:
        """Return the same arithmetic with other arguments.

        Parameters
        ----------
        **changes
            Arguments of `Arithmetic`. A new `dtype` that is a format keeps the accumulator only if one is given.

        Returns
        -------
        Arithmetic
            A new one.

        Raises
        ------
        TypeError, ValueError
            As `Arithmetic`.
        """
        own: dict[str, Any] = {name: getattr(self, name) for name in _KEPT}
        if "dtype" not in changes:
            own["dtype"] = (self.candidate.x, self.candidate.w)
            own["accumulator"] = self.candidate.accumulator
        return type(self)(**(own | changes))

    def key(self) -> str:
        """Return a text that is equal for equal arguments, however they are spelled, and different for any other.

        Returns
        -------
        str
            A hash, in hexadecimal digits.

        Raises
        ------
        ValueError
            If `weights` is a method, a closure or another function whose code does not say all that it does; give it
            an attribute ``key``, a string.

        Notes
        -----
        Of formats and sums all parameters count, not only their names. A function counts by its compiled code, its
        defaults, and the functions and plain values that it reads from its module; not by its name or its place.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.nn.Arithmetic("bf16").key() == lp.nn.Arithmetic("bfloat16", "fp32").key()
        True
        >>> lp.nn.Arithmetic("bf16").key() == lp.nn.Arithmetic("bf16", "bf16").key()
        False
        """
        return hashlib.sha256(canonical(self).encode()).hexdigest()

    # ---------------------------------------------------------------------------------------------------- products
    def prepare(self, w: ArrayLike, calibration: Calibration = None, name: str = "") -> PreparedWeight:
        """Make a weight ready: pruned, stored and read back, scaled and rounded; once for many products.

        Parameters
        ----------
        w : array_like of float, shape (N, K)
            The weight: outputs and inputs.
        calibration : ndarray, shape (tokens, K), or callable, optional
            Activations that go into it, or a function that gives them; see `needs_calibration`.
        name : str
            Of the weight: what stochastic rounding draws by, beside the seed.

        Returns
        -------
        PreparedWeight
            For `linear`.

        Raises
        ------
        ValueError
            If `w` has not two axes, or calibration is needed and missing.
        """
        values = _floats(w, "w")
        if values.ndim != 2:
            msg = f"`w` must have shape (outputs, inputs), got {values.shape}; reshape it."
            raise ValueError(msg)
        if callable(calibration):
            calibration = cache(calibration)  # pruning and storing may both ask
        sparse = None
        if self.candidate.sparsity is not None:
            given = calibration() if callable(calibration) and self.criterion != "magnitude" else calibration
            if self.criterion != "magnitude" and given is None:
                msg = f"`calibration` must be given for {self.criterion}: activations of shape (tokens, K)."
                raise ValueError(msg)
            more: dict[str, Any] = (
                {} if self.criterion == "magnitude" else {"activations": given, "criterion": self.criterion}
            )
            sparse = sparsify(values, self.candidate.sparsity, **more)
            values = np.asarray(sparse.to_dense())
        values = self._stored(values, calibration)
        if sparse is not None:
            values = np.where(sparse.mask, values, values.dtype.type(0))
        operand: Any = values
        if sparse is not None:
            operand = sparsify(values, str(self.candidate.sparsity), mask=sparse.mask)
        one, other = self.formats
        exponent = 0
        if self._powers:
            exponent = scale_exponent(values, other) if other.bits < UNSCALED_BITS else 0
            operand = np.ldexp(values, exponent)
            if sparse is not None:
                operand = sparsify(operand, str(self.candidate.sparsity), mask=sparse.mask)
        elif is_scaled(one, self.scales) or is_scaled(other, self.scales):
            operand = _operands.quantized(
                operand, other, self.scales, self._model, rows=-2, k=values.shape[1], how=self._how(name)
            )  # fmt: skip
        shape = (int(values.shape[0]), int(values.shape[1]))
        return PreparedWeight(operand, shape, exponent, name, values, self)

    def linear(self, x: ArrayLike, w: ArrayLike | PreparedWeight, bias: ArrayLike | None = None) -> Array:
        """Return ``x @ w.T + bias``.

        Parameters
        ----------
        x : array_like of float, shape (..., K)
            Activations; all leading axes are tokens of one tensor.
        w : array_like (N, K) or PreparedWeight
            The weight.
        bias : array_like (N,), optional
            Added to the finished sum, as in `lowprec.linear`; to a scaled one in float32. Powers of two leave the
            accumulator's format at the sum's scale if that is narrower than float32.

        Returns
        -------
        ndarray, shape (..., N)
            float32, or float64 where the accumulator is wider.

        Raises
        ------
        TypeError
            If an operand holds no real numbers.
        ValueError
            If shapes do not fit, or the accumulator does not take the formats.
        """
        ready = w if isinstance(w, PreparedWeight) else self.prepare(w)
        if ready.arithmetic is not None and ready.arithmetic != self:
            msg = f"`w` must be prepared by the arithmetic that multiplies it, {self.label}, got a weight prepared by "
            raise ValueError(msg + f"{ready.arithmetic.label}; prepare it again.")
        x = _floats(x, "x")
        if bias is not None:
            bias = _floats(bias, "bias")
            if bias.shape not in ((), (ready.shape[0],)):
                msg = f"`bias` must have shape ({ready.shape[0]},) for a weight of shape {ready.shape}, "
                raise ValueError(msg + f"got {bias.shape}; one number for each output.")
        if x.ndim == 0 or x.shape[-1] != ready.shape[1]:
            msg = f"`x` must have shape (..., {ready.shape[1]}) for a weight of shape {ready.shape}, got {x.shape}."
            raise ValueError(msg)
        flat = self._active(x.reshape(math.prod(x.shape[:-1]), ready.shape[1]), ready.name)
        return self._linear(flat, ready, bias).reshape(*x.shape[:-1], ready.shape[0])

    def matmul(self, a: ArrayLike, b: ArrayLike) -> Array:
        """Return the product of two tensors of activations, both in the format of activations.

        Parameters
        ----------
        a, b : array_like of float
            Shapes and broadcasting of `numpy.matmul`, two axes at least. Each matrix of the batch has its own scale,
            or own scales of its rows and columns; with ``scales="none"`` integers have one for the whole batch, as in
            `lowprec.matmul`.

        Returns
        -------
        ndarray
            As `linear`.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.matmul`.
        """
        a, b = _floats(a, "a"), _floats(b, "b")
        if a.ndim < 2 or b.ndim < 2:
            msg = f"`a` and `b` must have two axes at least, got {a.shape} and {b.shape}; add an axis of length 1."
            raise ValueError(msg)
        if self.activations is not None:
            a = self._each_active(a, "a")
            b = np.ascontiguousarray(np.swapaxes(self._each_active(np.swapaxes(b, -1, -2), "b"), -1, -2))
        fmt = self.formats[0]
        two_level = isinstance(fmt, BlockFormat) and fmt.two_level and self.scales != "none"
        if a.ndim + b.ndim > 4 and (two_level or self._powers):
            return self._one_by_one(a, b)
        return self._matmul(a, b, "")

    # ------------------------------------------------------------------------------------------------------- steps
    @property
    def _model(self) -> Any:
        """What `lowprec.matmul` sums with."""
        found = self.candidate
        if found.preset is None:
            return found.model()
        if isinstance(found.multiplied[0], IntFormat) and not found.is_block:
            return found.instruction.model
        return found.preset

    @property
    def _block_model(self) -> Any:
        """The same; None for blocks summed as by default."""
        found = self.candidate
        return None if found.is_block and found.accumulator == found.default_accumulator else self._model

    @property
    def _reads_out(self) -> bool:
        """Whether exact sums of codes are rounded to float32 and scaled then."""
        floats = isinstance(self.formats[0], FloatFormat)
        return floats and isinstance(self._model, Exact) and not self.candidate.is_block

    @property
    def _powers(self) -> bool:
        """Whether numbers are multiplied by powers of two."""
        formats = self.formats
        return (
            self.scales == "power_of_two"
            and not self.candidate.is_block
            and all(isinstance(fmt, FloatFormat) for fmt in formats)
            and any(fmt.bits < UNSCALED_BITS for fmt in formats)
        )

    @property
    def _wide(self) -> bool:
        """Whether sums are read out in float32 or more."""
        found = self.candidate
        model: Any = found.model() if found.preset is None else found.instruction.model
        out = model.result_format
        return not isinstance(out, FloatFormat) or out.bits >= 32

    def _rng(self, name: str) -> int:
        return (self.seed + zlib.crc32(name.encode())) % 2**64

    def _how(self, name: str) -> dict[str, Any]:
        """Return how `lowprec.quantize` rounds."""
        how: dict[str, Any] = {"rounding": str(self.rounding), "rng": self._rng(name)}
        return how if self.scale_rule is None else how | {"scale_rule": self.scale_rule}

    def _stored(self, values: Array, calibration: Calibration) -> Array:
        """Return a weight as it comes back from its storage."""
        if self.candidate.is_storage:
            fmt: Any = self.candidate.w
            own = self.scales in ("auto", "row") or isinstance(fmt, BlockFormat)
            if own:
                return WeightRule("rtn", fmt).rounded(values)
            return np.asarray(quantize(values, fmt, nonfinite="propagate").dequantize(), np.float32)
        if self.weights is None:
            return values
        if isinstance(self.weights, WeightRule):
            return self.weights.apply(values, calibration, seed=self.seed)
        result = np.asarray(self.weights(values, calibration() if callable(calibration) else calibration))
        if result.shape != values.shape or result.dtype.kind != "f":
            msg = (
                f"`weights` must return an array of floats of shape {values.shape}, got {result.dtype} of shape "
                f"{result.shape}."
            )
            raise ValueError(msg)
        return result

    def _active(self, x: Array, name: str) -> Array:
        """Return activations as they come back from their format."""
        if self.activations is None:
            return x
        return self.activations.rounded(x, rounding=str(self.rounding), rng=self._rng(f"{name}, stored"))

    def _linear(self, x: Array, ready: PreparedWeight, bias: Any) -> Array:
        """Return the product of tokens (M, K) and a prepared weight."""
        one, other = self.formats
        rng = self._rng(ready.name)
        if self._powers:
            exponent = scale_exponent(x, one) if one.bits < UNSCALED_BITS else 0
            both = exponent + ready.exponent
            early = None if bias is None or self._wide else _ldexp(bias, both)
            total = linear(
                np.ldexp(x, exponent), ready.operand, early, (one, other), accumulator=self._model,
                rounding=str(self.rounding), rng=rng,
            )  # fmt: skip
            return _plus(_ldexp(total, -both), bias if self._wide else None)
        if not (is_scaled(one, self.scales) or is_scaled(other, self.scales)):
            return np.asarray(
                linear(
                    x, ready.operand, bias, (one, other), accumulator=self._model, rounding=str(self.rounding), rng=rng
                )
            )
        if not (x.size and ready.operand.size):
            return np.asarray(linear(x, ready.values, bias))
        left = _operands.quantized(
            x, one, self.scales, self._model, rows=-2, k=x.shape[1], how=self._how(f"{ready.name}, activations")
        )  # fmt: skip
        if not self._reads_out:
            return np.asarray(linear(left, ready.operand, bias, accumulator=self._block_model, rng=rng))
        dense: Any = ready.operand.to_dense() if isinstance(ready.operand, Sparse24) else ready.operand
        codes, weights = codec.decode(left.codes, one), codec.decode(dense.codes, other)
        total = linear(codes, weights, dtype=(one, other), accumulator=self._model)
        return _plus(_read_out(total, spread(left, -2), spread(dense, -2).T), bias)

    def _each_active(self, x: Array, name: str) -> Array:
        """Return matrices as they come back from their format: each with its own scale, where that is one."""
        rule = self.activations
        if x.ndim == 2 or x.size == 0 or rule is None or not rule.has_tensor_scale:
            return self._active(x, name)
        matrices = x.reshape(-1, *x.shape[-2:])
        return np.stack([self._active(m, f"{name} {i}") for i, m in enumerate(matrices)]).reshape(x.shape)

    def _matmul(self, a: Array, b: Array, name: str) -> Array:
        """Return the product of activations that came back from their format; `name` is that of their random words."""
        fmt = self.formats[0]
        rng = self._rng(name)
        if self._powers and fmt.bits < UNSCALED_BITS:
            ka, kb = scale_exponent(a, fmt), scale_exponent(b, fmt)
            a, b = np.ldexp(a, ka), np.ldexp(b, kb)
            total = matmul(a, b, fmt, accumulator=self._model, rounding=str(self.rounding), rng=rng)
            return _ldexp(total, -(ka + kb))
        if not is_scaled(fmt, self.scales) or not (a.size and b.size):
            return np.asarray(matmul(a, b, (fmt, fmt), accumulator=self._model, rounding=str(self.rounding), rng=rng))
        k = a.shape[-1]
        left = _operands.quantized(a, fmt, self.scales, self._model, rows=-2, k=k, how=self._how(name))
        right = _operands.quantized(b, fmt, self.scales, self._model, rows=-1, k=k, how=self._how(f"{name}, b"))
        if not self._reads_out:
            return np.asarray(matmul(left, right, accumulator=self._block_model, rng=rng))
        codes, others = codec.decode(left.codes, fmt), codec.decode(right.codes, fmt)
        total = matmul(codes, others, dtype=(fmt, fmt), accumulator=self._model)
        return _read_out(total, spread(left, -2), spread(right, -1))

    def _one_by_one(self, a: Array, b: Array) -> Array:
        """Return the products of a batch, each matrix by itself, for scales that `lowprec.quantize` makes of one."""
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        one, other = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
        parts = [self._matmul(one[place], other[place], f"{i}") for i, place in enumerate(np.ndindex(batch))]
        if not parts:
            return np.zeros((*batch, a.shape[-2], b.shape[-1]), np.float32)
        return np.stack(parts).reshape(*batch, a.shape[-2], b.shape[-1])


_KEPT = ("weights", "activations", "sparsity", "scales", "scale_rule", "rounding", "seed")


def _floats(x: Any, name: str) -> Array:
    """Return numbers as floats of 32 bits or more; half precision and ml_dtypes are exact in float32."""
    values = np.asarray(x)
    if values.dtype.kind == "f" and values.dtype.itemsize >= 4:
        return values
    if values.dtype.kind in "iub" or (values.dtype.kind in "fV" and values.dtype.names is None):
        return values.astype(np.float32)
    msg = f"`{name}` must hold real numbers, got {values.dtype}; convert it, for example by np.asarray(.., np.float32)."
    raise TypeError(msg)


def _ldexp(x: Any, exponent: int) -> Array:
    """Return numbers times a power of two; beyond the range infinity."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(x, exponent))


def _plus(x: Array, bias: Any) -> Array:
    """Return a finished sum and the bias, added in the sum's dtype; every NaN is the one that products give."""
    if bias is None:
        return x
    with np.errstate(over="ignore", invalid="ignore"):
        found = x + bias.astype(x.dtype)
        return np.asarray(np.where(np.isnan(found), np.nan, found), x.dtype)


def _read_out(total: Any, *scales: Array) -> Array:
    """Return an exact sum of codes in float32, times the product of both scales."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray(total * (scales[0] * scales[1]), np.float32)
    return np.asarray(np.where(np.isnan(found), np.nan, found), np.float32)
