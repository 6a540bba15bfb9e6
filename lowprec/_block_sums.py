"""Products of two quantised operands: the sums of each block of K, times its scales, added up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _checks, _scaled_product, _threads, accumulators
from lowprec._call import _as_array
from lowprec._checks import Array
from lowprec._grid import open_grid
from lowprec._integer_product import product as integer_product
from lowprec._matrices import product
from lowprec._models import is_stochastic
from lowprec._rules import fits
from lowprec.accumulators import Accumulator, Integer, Sequential
from lowprec.arrays import QuantizedArray
from lowprec.codec import decode, round_to
from lowprec.formats import FloatFormat, IntFormat
from lowprec.formats import format as resolve
from lowprec.kernels import scaled
from lowprec.rounding import Rounding

_ALONE = 100_000  # results up to which the calling thread adds alone
_GOLDEN = 0x9E3779B97F4A7C15  # from the seed of a block to that of the next


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


def model_of(value: Any) -> Any:
    """Return the model of the sum, a preset's name, or None for the default."""
    return None if value is None else accumulators.model(value)


def tensor_scale(q: QuantizedArray) -> np.float32:
    """Return the scale of the whole tensor."""
    return np.float32(1) if q.tensor_scale is None else q.tensor_scale


def refuse_offset(q: QuantizedArray) -> None:
    """Raise for an operand with offsets."""
    msg = f"`a` and `b` must have no offsets to be multiplied block by block, got {q!r}; multiply .dequantize()."
    raise ValueError(msg)


def _side(q: QuantizedArray, axis: int, dtype: Any) -> Side:
    """Return an operand in blocks along K."""
    if q.offset is not None:
        refuse_offset(q)
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
        scale = np.multiply(full(q.scale).astype(dtype), dtype(tensor_scale(q)), dtype=dtype)
    point = None if q.zero_point is None else full(q.zero_point)
    return Side(q, axis, max(1, min(blocks[axis], shape[axis])), scale, point)


def _segments(a: Side, b: Side, k: int) -> list[tuple[int, int]]:
    """Return the parts of K that are in one block of both operands."""
    borders = sorted({*range(0, k, a.block), *range(0, k, b.block), k})
    return list(pairwise(borders))


def multiply(left: QuantizedArray, right: QuantizedArray, how: How, c: Any, rng: Any, bias: Any) -> Array:
    """Return sums of block sums times their scales; ``bias`` comes last."""
    integers = isinstance(left.format, IntFormat) and isinstance(right.format, IntFormat)
    model = model_of(how.accumulator)
    usual = integers and (model is None or model == Integer())
    a, b = _side(left, left.ndim - 1, np.float32), _side(right, right.ndim - 2, np.float32)
    k = left.shape[-1]
    parts = _segments(a, b, k)
    byte = usual and left.format.bits <= 8 and right.format.bits <= 8
    shape = (*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    added = None if bias is None else bias_of(bias, shape[-1])
    numbers = [_whole_numbers(q) if integers else None for q in (left, right)]
    positive = not any(np.signbit(side.scale).any() for side in (a, b))  # 0 times a negative scale would be -0
    if byte and len(parts) == 1 and c is None and positive:
        return _one_block(a, b, cast("list[Array]", numbers), added)
    total = np.zeros(shape, np.float32) if c is None else _start(c, shape)
    if not parts or not total.size:
        return total if added is None else plus(total, added)
    block = _even(a, b, k) if usual or (not integers and _is_single(model)) else None
    if block is not None and _exact_in_single(a, b, block, integers):
        x, y = _float_numbers(a), _float_numbers(b)
        rows, columns = (_each_block(side, block) for side in (a, b))
        _scaled_product.multiply(x, y, rows, columns, block, total, c is None)
        return total if added is None else plus(total, added)
    inner = tuple(how._replace(out_dtype=None, dtype=None, rounding="nearest_even", overflow=None))
    if not integers:
        numbers = [_float_numbers(side) for side in (a, b)]
        formats = tuple(q.format if isinstance(q.format, FloatFormat) else resolve("float32") for q in (left, right))
        inner = (None if model is None else formats, *inner[1:])
    elif not byte:
        numbers = [_less_points(side, cast(Array, x)) for side, x in zip((a, b), numbers, strict=True)]
    x, y = cast("list[Array]", numbers)
    seed = _checks.seed(rng, Rounding.STOCHASTIC) if isinstance(model, Accumulator) and is_stochastic(model) else None
    for number, (first, last) in enumerate(parts):
        words = rng if seed is None else (seed + number * _GOLDEN) % 2**64  # each block draws its own
        one, other = x[..., first:last], y[..., first:last, :]
        part = _product(one, other, a, b, first) if byte else np.asarray(product(one, other, inner, None, words))
        _add(part, a.scale[..., first // a.block], b.scale[..., first // b.block, :], total)
    total[np.isnan(total)] = np.nan
    return total if added is None else plus(total, added)


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
    most = []
    for side in (a, b):
        fmt = cast(IntFormat, side.q.format)
        most.append(2 ** (fmt.bits - int(fmt.is_signed and side.point is None)))
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


def bias_of(bias: Any, n: int) -> Array:
    """Return a bias in float32."""
    array = _as_array(bias, "bias")
    if array.shape not in ((n,), ()):
        msg = f"`bias` must have shape ({n},), got {array.shape}."
        raise ValueError(msg)
    return np.broadcast_to(np.asarray(round_to(array, "float32"), np.float32), (n,))


def plus(total: Array, bias: Array) -> Array:
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
