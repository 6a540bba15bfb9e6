"""From codes and scales back to numbers: the way to the kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lowprec._checks import Array
from lowprec._packing import PIECE, operand, share, unpacked
from lowprec._quantizing import aligned, block_shape, is_long, long_blocks, tiles_of
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.codec import decode
from lowprec.formats import stored_format
from lowprec.kernels import dequantize as kernels
from lowprec.kernels.quantize import Shape

if TYPE_CHECKING:
    from lowprec.arrays import QuantizedArray

_SMALL = 1 << 12  # numbers below which kernels are not called, that might have to be compiled


def by_blocks(q: QuantizedArray, out: Array | None = None) -> Array | None:
    """Return what a quantised array stands for in float32, None where the kernels do not serve.

    A transposed array gives a transposed view. ``out`` is room for the numbers, float32 of shape (size,).
    """
    if q.format.bits > 8 or q.size < _SMALL:
        return None
    inverse = None
    if q._codes is None and q._order is not None:
        inverse = sorted(range(q.ndim), key=q._order.__getitem__)
    elif q._codes is not None and not q._codes.flags.c_contiguous:
        strides = q._codes.strides
        inverse = sorted(range(q.ndim), key=lambda axis: -strides[axis])
    back = q if inverse is None else q.transpose(*inverse)
    shape = block_shape(back.shape, back.blocks)
    codes = back._bytes if back._codes is None else back._codes
    if shape is None or codes is None or not codes.flags.c_contiguous:
        return None
    tensor = 1.0 if q.tensor_scale is None else float(q.tensor_scale)
    flat = dequantize_blocks(
        codes.reshape(-1), q.size, shape, q.format, back.scale, tensor, back.zero_point, back.offset, out
    )
    numbers = flat.reshape(back.shape)
    return numbers if inverse is None else numbers.transpose(sorted(range(q.ndim), key=inverse.__getitem__))


def dequantize_blocks(
    codes: Array,
    size: int,
    shape: Shape,
    element: ElementFormat,
    scale: Array,
    tensor: float = 1.0,
    points: Array | None = None,
    offsets: Array | None = None,
    out: Array | None = None,
) -> Array:
    """Return the numbers that codes stand for, in one pass over memory.

    Parameters
    ----------
    codes : ndarray of uint8
        One code to a byte, or, of an element of less than 8 bits, as `lowprec.pack` packs them.
    size : int
        How many numbers there are.
    shape : Shape
        Where the blocks lie.
    element : IntFormat, FloatFormat or CodebookFormat
        One of at most 8 bits.
    scale : ndarray of float
        One scale to a block, in C order; of a dtype that float64 holds.
    tensor : float
        The scale above the scales.
    points, offsets : ndarray, optional
        Zero points and offsets, likewise.
    out : ndarray of float32, shape (size,), optional
        Where to put them.

    Returns
    -------
    ndarray of float32, shape (size,)
        ``(value - point) * (scale * tensor) + offset``, computed in float64 and rounded once to float32.
    """
    codes, out = operand(codes), np.empty(size, np.float32) if out is None else out
    bits = element.bits
    if bits < 8 and not aligned(bits, shape):
        codes, bits = unpacked(codes, bits, size), 8
    scales = _numbers(scale.reshape(-1))
    none = np.empty(0, np.float64)
    each = [none if one is None else np.array(one.reshape(-1), np.float64) for one in (points, offsets)]
    table = _table(element)

    def part(codes: Array, shape: Shape, grids: list[Array], out: Array) -> None:
        where = np.array(shape, np.int64)
        same, *others = grids
        tiles, grain = tiles_of(out.size, shape)

        def work(first: int, last: int) -> None:
            kernels.dequantize_tiles(codes, bits, where, first, last, table, same, tensor, *others, out)

        share(work, tiles, grain)

    if not is_long(scales, shape):
        part(codes, shape, [scales, *each], out)
    else:
        for i, block in enumerate(long_blocks(size, shape)):
            few = Shape(block.stop - block.start, 1, PIECE)
            grids = [np.repeat(one[i : i + 1], -(-few.length // PIECE)) for one in (scales, *each)]
            part(codes[block.start * bits // 8 :], few, grids, out[block])
    return out


def _numbers(scale: Array) -> Array:
    """Return scales in float64, a new array; NumPy's own way is slow for the dtypes of ml_dtypes."""
    fmt = stored_format(scale.dtype)
    if fmt is None or scale.dtype.type.__module__ == "numpy":
        return np.array(scale, np.float64)
    return np.asarray(decode(np.ascontiguousarray(scale).view(fmt.code_dtype), fmt, dtype=np.float64))


@lru_cache(maxsize=256)
def _table(element: ElementFormat) -> Array:
    """Return the float64 value of every byte as a code; NaN for bytes that are no code."""
    table = np.full(256, np.nan)
    count = len(element.values) if isinstance(element, CodebookFormat) else 1 << element.bits
    table[:count] = decode(np.arange(count), element, dtype=np.float64)
    return table
