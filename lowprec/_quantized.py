"""Products of operands that carry scales: what they are made of, and which way they go."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from lowprec import _block_sums, _checks, hardware
from lowprec._block_sums import How, bias_of, model_of, plus, refuse_offset, tensor_scale
from lowprec._call import _as_array, is_quantized, is_whole, quantises
from lowprec._checks import Array, fmt_of, writable
from lowprec._choice import SCALED
from lowprec._dequantizing import by_blocks
from lowprec._grid import expanded
from lowprec._matrices import product
from lowprec._room import NUMBERS
from lowprec.accumulators import Chunked, Exact
from lowprec.arrays import QuantizedArray
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.codec import cast as cast_to
from lowprec.formats import FloatFormat, IntFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.quantizers.api import quantize


def multiply(a: Any, b: Any, how: How, c: Any = None, rng: Any = None, out: Any = None, bias: Any = None) -> Any:
    """Return the product of operands of which one at least is quantised, or is to be.

    The result is float32 (or `out_dtype`) of `numpy.matmul`'s shape; ``bias`` is added to the finished sums.
    """
    a, b, how = operands(a, b, how, rng)
    if not (is_quantized(a) and is_quantized(b)):
        return _plain(a, b, how, c, rng, out, bias)
    left, right = (x if x.ndim > 1 else expanded(x, 0 if first else 1) for x, first in ((a, True), (b, False)))
    if left.ndim < 2 or right.ndim < 2 or left.shape[-1] != right.shape[-2]:
        msg = f"`a` must have as many columns as `b` has rows, got shapes {a.shape} for `a` and {b.shape} for `b`."
        raise ValueError(msg)
    try:
        np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        msg = f"`a` and `b` must have axes before the last two that broadcast, got shapes {a.shape} and {b.shape}."
        raise ValueError(msg) from None
    _checks.modes(how.rounding, how.overflow, how.subnormals, how.random_bits)
    if how.dtype is not None:
        msg = f"`dtype` must be None for two QuantizedArray, which have their formats, got {how.dtype!r}."
        raise ValueError(msg)
    model = model_of(how.accumulator)
    if isinstance(model, Exact):
        total = _exact(left, right, model, c)
    elif _takes_scales(left, right, model):
        # The instruction scales its blocks itself.
        if c is not None and any(x.tensor_scale is not None for x in (left, right)):
            msg = "`c` must be None with a tensor scale, which multiplies the result, got an array; add it afterwards."
            raise ValueError(msg)
        total = np.asarray(product(left, right, how._replace(out_dtype=None), c, rng))
        outer = tensor_scale(left) * tensor_scale(right)
        with np.errstate(all="ignore"):
            if outer != 1:  # an instruction's NaN stays the one it is
                total = np.where(np.isnan(total), total, np.multiply(total, outer, dtype=total.dtype))
    else:
        total = canonical(_block_sums.multiply(left, right, how, c, rng, bias if c is None else None))
        bias = bias if c is not None else None
    return _finished(total, a, b, how, rng, out, bias)


def operands(a: Any, b: Any, how: How, rng: Any, along: tuple[int, int] = (-1, -2)) -> tuple[Any, Any, How]:
    """Return the operands, quantised on the fly if `dtype` says so."""
    dtype = tuple(how.dtype) if isinstance(how.dtype, list) else how.dtype
    if dtype is None:
        pair: tuple[Any, Any] = (None, None)
    elif isinstance(dtype, tuple):
        if len(dtype) != 2:
            msg = f"`dtype` must be one format or a pair (for a, for b), got {len(dtype)} of them."
            raise ValueError(msg)
        pair = dtype
    else:
        pair = (dtype, dtype)
    fly = [fmt is not None and quantises(fmt) and not is_quantized(x) for x, fmt in zip((a, b), pair, strict=True)]
    if not any(fly):
        pairs = ((a, b, "a"), (b, a, "b"))
        made = [_of_scale_1(x, name) if _raw(x, other) else x for x, other, name in pairs]
        return made[0], made[1], how
    if not all(flying or is_quantized(x) for flying, x in zip(fly, (a, b), strict=True)):
        msg = (
            f"`dtype` must be two formats to quantise to, or none, for operands not quantised yet, got {dtype!r}; "
            "call lp.quantize on one of them."
        )
        raise ValueError(msg)
    found = []
    for x, fmt, flying, name, axis in zip((a, b), pair, fly, ("a", "b"), along, strict=True):
        found.append(_quantize(x, fmt, how, rng, name, axis) if flying else x)
    return found[0], found[1], how._replace(dtype=None)


def _raw(x: Any, other: Any) -> bool:
    """Say whether an operand holds plain integers beside quantised ones."""
    fits = is_quantized(other) and isinstance(other.format, IntFormat)
    return fits and not is_quantized(x) and is_whole(x) and np.asarray(x).dtype.kind != "b"


def _of_scale_1(x: Any, name: str) -> QuantizedArray:
    """Return an array of integers as an operand whose scale is 1."""
    array = _as_array(x, name)
    if array.dtype.itemsize > 4:
        ends = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if not -(2**31) <= ends[0] <= ends[1] < 2**31:
            msg = f"`{name}` must hold integers of 32 bits at most, got {ends[0]} to {ends[1]}; pass floats instead."
            raise ValueError(msg)
        array = array.astype(np.int32)
    fmt = stored_format(array.dtype)
    if not isinstance(fmt, IntFormat):
        fmt = IntFormat(bits=8 * array.dtype.itemsize, is_signed=array.dtype.kind == "i")
        array = array.view(fmt.code_dtype)
    return QuantizedArray(array, 1.0, format=fmt)


def _quantize(x: Any, fmt: Any, how: How, rng: Any, name: str, axis: int) -> QuantizedArray:
    """Quantise an operand: one symmetric scale by its largest magnitude, or in blocks along K."""
    if not is_block_name(fmt) and is_whole(x):
        element = fmt_of(fmt, "dtype")
        return QuantizedArray(_clipped(x, cast(IntFormat, element)), 1.0, format=element)
    array = _as_array(x, name)
    keywords: dict[str, Any] = {"rounding": how.rounding, "rng": rng}
    if is_block_name(fmt):
        if block_format(fmt).ggml:
            msg = f"`dtype` must not be a format of GGML for operands quantised on the fly, got `{fmt}`;"
            msg += " call lp.quantize."
            raise ValueError(msg)
        keywords["axis"] = -1 if array.ndim == 1 else axis
    elif not cast(IntFormat, fmt_of(fmt, "dtype")).is_signed:
        msg = f"`dtype` must be a signed format for operands quantised on the fly, got `{fmt}`; call lp.quantize."
        raise ValueError(msg)
    try:
        return quantize(array, fmt, **keywords)
    except ValueError as wrong:  # which speaks of the arguments of `quantize`
        said = str(wrong).replace("`x`", f"`{name}`").replace("`fmt`", "`dtype`")
        msg = said.replace("pass nonfinite=", "call lp.quantize with nonfinite=")
        raise ValueError(msg) from None


def _clipped(x: Any, fmt: IntFormat) -> Array:
    """Return the codes of integers in a format; those out of its range saturate."""
    numbers = np.clip(np.asarray(x).astype(np.int64), int(fmt.min), int(fmt.max))
    return (numbers & ((1 << fmt.bits) - 1)).astype(fmt.code_dtype)


def _plain(a: Any, b: Any, how: How, c: Any, rng: Any, out: Any, bias: Any) -> Any:
    """Return a product of which one operand is quantised and becomes plain numbers first."""
    wide = how.dtype is not None
    own = [None if is_quantized(x) else _own(x, name) for x, name in ((a, "a"), (b, "b"))]
    values, room = [], None
    for x in (a, b):
        if not is_quantized(x):
            values.append(x)
        elif wide and not _fits_single(x):
            values.append(x.dequantize(np.float64))
        else:
            room = NUMBERS.borrow(4 * x.size)
            made = by_blocks(x, room[: 4 * x.size].view(np.float32))
            values.append(x.dequantize() if made is None else made)
    if how.dtype is None:
        how = how._replace(dtype=tuple(resolve("float32") if fmt is None else fmt for fmt in own))
    if bias is None:
        result = product(values[0], values[1], tuple(how), c, rng, out)
    else:
        total = np.asarray(product(values[0], values[1], tuple(how._replace(out_dtype=None)), c, rng))
        result = _finished(total, None, None, how, rng, out, bias)
    if room is not None:
        NUMBERS.give_back(room)
    return result


def _own(x: Any, name: str) -> FloatFormat:
    """Return the format of an operand that is a plain array."""
    array = _as_array(x, name)
    found = stored_format(array.dtype)
    if isinstance(found, FloatFormat):
        return found
    return cast(FloatFormat, resolve("float32" if array.dtype.itemsize <= 2 else "float64"))


def _fits_single(q: QuantizedArray) -> bool:
    """Say whether float32 holds every number of a quantised array."""
    bits = 8 if isinstance(q.format, CodebookFormat) else q.format.precision
    tensor = q.tensor_scale
    second = 0 if tensor is None or np.frexp(tensor)[0] == 0.5 else 24
    scale = cast(FloatFormat, q.scale_format)
    narrow = bits + int(q.zero_point is not None) + scale.precision + second <= 24
    return narrow and q.offset is None and not isinstance(q.format, CodebookFormat) and scale.name != "float32"


def _kinds(left: QuantizedArray, right: QuantizedArray) -> tuple[FloatFormat, int] | None:
    """Return the scale format and block size along K if both operands have the same."""
    kinds = []
    for q, axis in ((left, left.ndim - 1), (right, right.ndim - 2)):
        plain = q.axis == axis and isinstance(q.block_size, int) and q.zero_point is None and q.offset is None
        if not plain or q.scale_format.bits != 8:
            return None
        kinds.append((cast(FloatFormat, q.scale_format), cast(int, q.block_size)))
    return kinds[0] if kinds[0] == kinds[1] else None


def _takes_scales(left: QuantizedArray, right: QuantizedArray, model: Any) -> bool:
    """Say whether the accumulator is an instruction that scales blocks itself."""
    if isinstance(model, Chunked):
        model = model.inner
    if isinstance(model, SCALED):
        return True
    scales = _kinds(left, right)
    floats = isinstance(left.format, FloatFormat) and isinstance(right.format, FloatFormat)
    if not isinstance(model, str) or scales is None or not floats:
        return False
    try:
        row = hardware.select(model, (left.format, right.format), scales=scales)  # type: ignore[arg-type]
    except ValueError:
        return False
    return isinstance(row.model, SCALED)


def _exact(left: QuantizedArray, right: QuantizedArray, model: Exact, c: Any) -> Array:
    """Return correctly rounded sums of the numbers that the operands stand for."""
    values = []
    for q in (left, right):
        if q.offset is not None:
            refuse_offset(q)
        values.append(q.dequantize(np.float64))
    start = np.zeros(1) if c is None else _as_array(c, "c")
    negative_zero = bool((np.signbit(start) & (start == 0)).any())  # which parts of zeros would lose
    parts = [None] if negative_zero else [_single_parts(x) for x in values]
    if None not in parts:
        # An exact sum may be taken in any pieces: all products of the parts, as one longer sum, which has kernels.
        ones, others = cast("list[list[Array]]", parts)
        values = [
            np.concatenate([x for x in ones for _ in others], -1),
            np.concatenate([y for _ in ones for y in others], -2),
        ]
    return np.asarray(product(values[0], values[1], (None, model, None, "nearest_even", None, "keep", 32), c))


def _single_parts(x: Array) -> list[Array] | None:
    """Return float32 arrays whose exact sum is an array of finite float64, None if two or three are not enough."""
    parts: list[Array] = []
    rest = x
    with np.errstate(all="ignore"):
        while len(parts) < 3:
            parts.append(rest.astype(np.float32))
            rest = rest - parts[-1]  # exact: the numbers are close
            if not np.isfinite(rest).all():
                return None
            if not rest.any():
                return parts
    return None


def canonical(total: Array) -> Array:
    """Return sums with the one NaN: which one a CPU makes is its own affair."""
    found = np.isnan(total)
    return np.where(found, total.dtype.type(np.nan), total) if found.any() else total


def _finished(total: Array, a: Any, b: Any, how: How, rng: Any, out: Any, bias: Any) -> Any:
    """Return the sums plus a bias, without the axes of 1-D operands, rounded to `out_dtype`, in ``out`` if given."""
    if bias is not None:
        total = canonical(plus(total, bias_of(bias, total.shape[-1])))
    if b is not None and b.ndim == 1:
        total = total[..., 0]
    if a is not None and a.ndim == 1:
        total = total[..., 0, :] if b.ndim > 1 else total[..., 0]
    if how.out_dtype is not None:
        fmt = fmt_of(how.out_dtype, "out_dtype")
        modes: dict[str, Any] = {"rounding": how.rounding, "overflow": how.overflow, "subnormals": how.subnormals}
        total = np.asarray(cast_to(total, fmt, rng=rng, random_bits=how.random_bits, **modes))
    if out is None:
        return total if total.ndim else total[()]
    writable(out, total.shape, total.dtype)[...] = total
    return out
