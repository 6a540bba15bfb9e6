"""Products of operands that carry scales: block by block, or with one of them made plain numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _checks, _scaled_product, _threads, accumulators, hardware
from lowprec._call import _as_array, is_quantized, is_whole, quantises
from lowprec._checks import Array, fmt_of, writable
from lowprec._grid import expanded, open_grid
from lowprec._integer_product import product as integer_product
from lowprec._matrices import product
from lowprec._rules import fits
from lowprec.accumulators import Exact, Integer, Sequential
from lowprec.arrays import QuantizedArray
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.codec import cast as cast_to
from lowprec.codec import decode, round_to
from lowprec.formats import FloatFormat, IntFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.kernels import scaled
from lowprec.quantizers.api import quantize

_ALONE = 100_000  # results up to which the calling thread adds alone
_SCALED = (accumulators.FusedTruncatedScaled, accumulators.FusedTruncatedGroupScaled)


class How(NamedTuple):
    """The arguments of a product that are not arrays."""

    dtype: Any
    accumulator: Any
    out_dtype: Any
    rounding: Any
    overflow: Any
    subnormals: Any
    random_bits: Any


class Side(NamedTuple):
    """An operand in blocks: its scales and zero points with all axes, one to a row or column and block of K."""

    q: QuantizedArray
    axis: int  # of K, from the front
    block: int  # elements of K that share a scale
    scale: Array  # float32 (or float64), (..., M or 1, blocks) for a, (..., blocks, N or 1) for b
    point: Array | None  # int64, of the same shape


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
    model = _model(how.accumulator)
    if isinstance(model, Exact):
        total = _exact(left, right, model, how, c)
    elif _takes_scales(left, right, model):
        # The instruction scales its blocks itself.
        if c is not None and any(x.tensor_scale is not None for x in (left, right)):
            msg = "`c` must be None with a tensor scale, which multiplies the result, got an array; add it afterwards."
            raise ValueError(msg)
        total = np.asarray(product(left, right, how._replace(out_dtype=None), c, rng))
        outer = _outer(left) * _outer(right)
        with np.errstate(all="ignore"):
            total = total if outer == 1 else np.multiply(total, outer, dtype=total.dtype)
    else:
        total = _blocks(left, right, how, c, rng, bias if c is None else None)
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
    values = []
    for x in (a, b):
        exact = not is_quantized(x) or _fits_single(x)
        values.append(x.dequantize(np.float32 if exact or not wide else np.float64) if is_quantized(x) else x)
    if how.dtype is None:
        how = how._replace(dtype=tuple(resolve("float32") if fmt is None else fmt for fmt in own))
    if bias is None:
        return product(values[0], values[1], tuple(how), c, rng, out)
    total = np.asarray(product(values[0], values[1], tuple(how._replace(out_dtype=None)), c, rng))
    return _finished(total, None, None, how, rng, out, bias)


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


def _model(value: Any) -> Any:
    """Return the model of the sum, a preset's name, or None for the default."""
    return None if value is None else accumulators.model(value)


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
    if isinstance(model, _SCALED):
        return True
    scales = _kinds(left, right)
    floats = isinstance(left.format, FloatFormat) and isinstance(right.format, FloatFormat)
    if not isinstance(model, str) or scales is None or not floats:
        return False
    try:
        row = hardware.select(model, (left.format, right.format), scales=scales)  # type: ignore[arg-type]
    except ValueError:
        return False
    return isinstance(row.model, _SCALED)


def _outer(q: QuantizedArray) -> np.float32:
    """Return the scale of the whole tensor."""
    return np.float32(1) if q.tensor_scale is None else q.tensor_scale


def _exact(left: QuantizedArray, right: QuantizedArray, model: Exact, how: How, c: Any) -> Array:
    """Return correctly rounded sums of the numbers that the operands stand for."""
    values = []
    for q in (left, right):
        if q.offset is not None:
            _refuse_offset(q)
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


def _refuse_offset(q: QuantizedArray) -> None:
    """Raise for an operand with offsets."""
    msg = f"`a` and `b` must have no offsets to be multiplied block by block, got {q!r}; multiply .dequantize()."
    raise ValueError(msg)


def _side(q: QuantizedArray, axis: int, dtype: Any) -> Side:
    """Return an operand in blocks along K."""
    if q.offset is not None:
        _refuse_offset(q)
    blocks, shape = q.blocks, q.shape
    if blocks[axis] < 2 <= shape[axis]:
        msg = (
            f"`a` and `b` must not have a scale for every k, got {q!r}; multiply .dequantize(), or quantise along "
            "other axes or in blocks."
        )
        raise ValueError(msg)

    def full(each: Array) -> Array:
        """Return scales or zero points with all axes, repeated along all but K."""
        grid = open_grid(each, q.ndim, q.axis, q.block_size)
        for i, (block, length) in enumerate(zip(blocks, shape, strict=True)):
            if i != axis and 1 < block < length and grid.shape[i] > 1:
                grid = np.repeat(grid, block, axis=i)[(slice(None),) * i + (slice(length),)]
        return grid

    with np.errstate(over="ignore", under="ignore"):
        scale = np.multiply(full(q.scale).astype(dtype), dtype(_outer(q)), dtype=dtype)
    point = None if q.zero_point is None else full(q.zero_point)
    return Side(q, axis, max(1, min(blocks[axis], shape[axis])), scale, point)


def _segments(a: Side, b: Side, k: int) -> list[tuple[int, int]]:
    """Return the parts of K that are in one block of both operands."""
    borders = sorted({*range(0, k, a.block), *range(0, k, b.block), k})
    return list(pairwise(borders))


def _blocks(left: QuantizedArray, right: QuantizedArray, how: How, c: Any, rng: Any, bias: Any) -> Array:
    """Return sums of block sums times their scales; ``bias`` comes last."""
    integers = isinstance(left.format, IntFormat) and isinstance(right.format, IntFormat)
    model = _model(how.accumulator)
    usual = integers and (model is None or model == Integer())
    a, b = _side(left, left.ndim - 1, np.float32), _side(right, right.ndim - 2, np.float32)
    k = left.shape[-1]
    parts = _segments(a, b, k)
    byte = usual and left.format.bits <= 8 and right.format.bits <= 8
    shape = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    added = None if bias is None else _bias(bias, shape[-1])
    numbers = [_whole_numbers(q) if integers else None for q in (left, right)]
    positive = not any(np.signbit(side.scale).any() for side in (a, b))  # 0 times a negative scale would be -0
    if byte and len(parts) == 1 and c is None and positive:
        return _one_block(a, b, cast("list[Array]", numbers), added)
    total = np.zeros(shape, np.float32) if c is None else _start(c, shape)
    if not parts or not total.size:
        return total if added is None else _plus(total, added)
    block = _even(a, b, k) if usual or (not integers and _is_single(model)) else None
    if block is not None and _exact_in_single(a, b, block, integers):
        x, y = _float_numbers(a), _float_numbers(b)
        rows, columns = (_each_block(side, block) for side in (a, b))
        _scaled_product.multiply(x, y, rows, columns, block, total, c is None)
        return total if added is None else _plus(total, added)
    inner = tuple(how._replace(out_dtype=None, dtype=None, rounding="nearest_even", overflow=None))
    if not integers:
        numbers = [_float_numbers(side) for side in (a, b)]
        formats = tuple(q.format if isinstance(q.format, FloatFormat) else resolve("float32") for q in (left, right))
        inner = (None if model is None else formats, *inner[1:])
    elif not byte:
        numbers = [_less_points(side, cast(Array, x)) for side, x in zip((a, b), numbers, strict=True)]
    x, y = cast("list[Array]", numbers)
    for first, last in parts:
        one, other = x[..., first:last], y[..., first:last, :]
        part = _product(one, other, a, b, first) if byte else np.asarray(product(one, other, inner, None, rng))
        _add(part, a.scale[..., first // a.block], b.scale[..., first // b.block, :], total)
    total[np.isnan(total)] = np.nan
    return total if added is None else _plus(total, added)


def _is_single(model: Any) -> bool:
    """Say whether sums are fused multiply-adds in float32."""
    return model is None or model == Sequential("float32")  # type: ignore[arg-type]


def _even(a: Side, b: Side, k: int) -> int | None:
    """Return the length of blocks if all segments but the last have one, and None if not."""
    small, large = sorted((a.block, b.block))
    return small if k and (large % small == 0 or large >= k) else None


def _exact_in_single(a: Side, b: Side, block: int, integers: bool) -> bool:
    """Say whether float32 numbers and sums do for a block: of integers, if no sum is beyond 2**24."""
    if not integers:
        return all(_float_numbers_fit(side.q.format) for side in (a, b))
    most = [
        2 ** cast(IntFormat, side.q.format).bits - (side.point is None) * 2 ** (side.q.format.bits - 1)
        for side in (a, b)
    ]
    return bool(most[0] * most[1] * block <= 1 << 24)


def _each_block(side: Side, block: int) -> Array:
    """Return the scales of an operand's blocks, for blocks that are as long or shorter."""
    count = -(-side.q.shape[side.axis] // block)
    places = np.arange(count) * block // side.block
    return np.asarray(np.take(side.scale, places, axis=side.axis))


def _start(c: Any, shape: tuple[int, ...]) -> Array:
    """Return what the sums start from, in float32."""
    array = _as_array(c, "c")
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        msg = f"`c` must broadcast to the result's shape {shape}, got {array.shape}."
        raise ValueError(msg)
    return np.broadcast_to(np.asarray(round_to(array, "float32"), np.float32), shape).copy()


def _bias(bias: Any, n: int) -> Array:
    """Return a bias in float32."""
    array = _as_array(bias, "bias")
    if array.shape not in ((n,), ()):
        msg = f"`bias` must have shape ({n},), got {array.shape}."
        raise ValueError(msg)
    return np.broadcast_to(np.asarray(round_to(array, "float32"), np.float32), (n,))


def _plus(total: Array, bias: Array) -> Array:
    """Return sums plus a bias, in the format of the sums."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.add(total, bias, dtype=total.dtype)


def _whole_numbers(q: QuantizedArray) -> Array:
    """Return the code values of an integer format as integers, bytes where they fit."""
    fmt, codes = cast(IntFormat, q.format), q.codes
    if not fmt.is_signed:
        return codes
    half = fmt.code_dtype.type(1 << (fmt.bits - 1))
    width = 8 * codes.itemsize
    own = codes if fmt.bits == width else (codes ^ half) - half
    return own.view(f"i{codes.itemsize}")


def _less_points(side: Side, numbers: Array) -> Array:
    """Return code values less their zero points, as int32."""
    wide = numbers.astype(np.int64)
    if side.point is not None:
        wide = wide - _along(side.point, side)
    if wide.size and not -(2**31) <= int(wide.min()) <= int(wide.max()) < 2**31:
        msg = f"`a` and `b` must lie within 32 bits once zero points are taken off, got {wide.min()} to {wide.max()}."
        raise ValueError(msg)
    return wide.astype(np.int32)


def _along(each: Array, side: Side) -> Array:
    """Return one number to a block as one number to an element of K."""
    if each.shape[side.axis] == 1:
        return each
    spread = np.repeat(each, side.block, axis=side.axis)
    return spread[(slice(None),) * side.axis + (slice(side.q.shape[side.axis]),)]


def _float_numbers_fit(fmt: Any) -> bool:
    """Say whether float32 holds a format's numbers."""
    return not isinstance(fmt, FloatFormat) or fits(fmt, np.dtype(np.float32))


def _float_numbers(side: Side) -> Array:
    """Return code values less their zero points, as float32 (exact for all formats but the widest)."""
    fmt = side.q.format
    values = np.asarray(decode(side.q.codes, fmt, dtype=np.float32 if _float_numbers_fit(fmt) else np.float64))
    if side.point is not None:
        values = values - _along(side.point, side).astype(values.dtype)
    return values


def _points(side: Side, first: int) -> Array | None:
    """Return the zero points of a block of K, one to a row or column."""
    if side.point is None:
        return None
    return np.asarray(np.take(side.point, first // side.block, axis=side.axis))


def _product(x: Array, y: Array, a: Side, b: Side, first: int, **epilogue: Any) -> Array:
    """Return the exact sums of one block of K, less zero points."""
    rows, columns = _points(a, first), _points(b, first)
    formats = (cast(IntFormat, a.q.format), cast(IntFormat, b.q.format))
    return integer_product(x, y, zero_a=rows, zero_b=columns, formats=formats, **epilogue)


def _one_block(a: Side, b: Side, numbers: list[Array], bias: Array | None) -> Array:
    """Return scaled sums where one block is all of K, scaled while they are in cache."""
    rows, columns = (np.take(side.scale, 0, axis=side.axis) for side in (a, b))
    return _product(numbers[0], numbers[1], a, b, 0, row_scale=rows, column_scale=columns, bias=bias)


def _add(part: Array, rows: Array, columns: Array, total: Array) -> None:
    """Add sums of a block, times their scales, to the total; all stacks of matrices."""
    kernel = scaled.scaled_add_integers if part.dtype == np.int32 else scaled.scaled_add
    if part.dtype not in (np.dtype(np.int32), np.dtype(np.float32)):
        with np.errstate(over="ignore", under="ignore"):
            part = part.astype(np.float32)
    m, n = total.shape[-2:]
    across = np.broadcast_to(rows, total.shape[:-1]).astype(np.float32).reshape(-1, m)
    down = np.broadcast_to(columns, (*total.shape[:-2], n)).astype(np.float32).reshape(-1, n)
    stacks, sums = np.broadcast_to(part, total.shape).reshape(-1, m, n), total.reshape(-1, m, n)
    step = max(1, _ALONE // max(1, n))
    pieces = [(i, first) for i in range(sums.shape[0]) for first in range(0, m, step)]
    claimed = _threads.Pieces(len(pieces))

    def task() -> None:
        for number in claimed:
            i, first = pieces[number]
            part = slice(first, first + step)
            kernel(stacks[i, part], across[i, part], down[i], sums[i, part])

    _threads.share(task, 1 if len(pieces) < 2 else min(len(pieces), _threads.get_num_threads()))


def _finished(total: Array, a: Any, b: Any, how: How, rng: Any, out: Any, bias: Any) -> Any:
    """Return the sums plus a bias, without the axes of 1-D operands, rounded to `out_dtype`, in ``out`` if given."""
    if bias is not None:
        total = _plus(total, _bias(bias, total.shape[-1]))
    if total.dtype.kind == "f" and np.isnan(total).any():
        total = np.where(np.isnan(total), total.dtype.type(np.nan), total)  # which NaN a CPU makes is its own affair
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
