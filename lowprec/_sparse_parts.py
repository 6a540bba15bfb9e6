"""The elements of a Sparse24, plain or quantised: their bits, their zeros, and the blocks of their scales."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec._grid import spread
from lowprec._patterns import SparsityPattern
from lowprec.arrays import QuantizedArray
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.formats import IntFormat, stored_format

Elements = Array | QuantizedArray


def elements_of(x: Any, name: str) -> Elements:
    """Return elements that a Sparse24 can hold: a QuantizedArray, or an array of a dtype that stores a format."""
    if isinstance(x, QuantizedArray):
        if x.offset is not None:
            msg = f"`{name}` must have no offsets, which make no place a zero; got {x!r}; take .dequantize()."
            raise ValueError(msg)
    else:
        x = _checks.plain_array(x, name)
        if not x.dtype.isnative:
            x = x.astype(x.dtype.newbyteorder("="))
        if stored_format(x.dtype) is None:
            msg = (
                f"`{name}` must be of a dtype that stores a format (float32, float16, int8, a dtype of ml_dtypes, ...) "
                f"or a QuantizedArray, got dtype {x.dtype}; convert it."
            )
            raise TypeError(msg)
    fmt = format_of(x)
    if not (isinstance(fmt, IntFormat) or (0.0 in fmt.values if isinstance(fmt, CodebookFormat) else fmt.has_zero)):
        msg = f"`{name}` must be of a format that has a zero, for the places that are not kept, got `{fmt}`."
        raise ValueError(msg)
    return x  # type: ignore[no-any-return]


def format_of(x: Elements) -> ElementFormat:
    """Return the format of elements."""
    return x.format if isinstance(x, QuantizedArray) else stored_format(x.dtype)  # type: ignore[return-value]


def bits_of(x: Elements) -> Array:
    """Return elements as unsigned integers; a view where they are plain."""
    return x.codes if isinstance(x, QuantizedArray) else x.view(f"u{x.dtype.itemsize}")


def zero_of(x: Elements) -> Any:
    """Return the bits of the zero that fills places: one number, or one for each element, to broadcast."""
    fmt = format_of(x)
    if isinstance(fmt, CodebookFormat):
        zeros = [code for code, value in enumerate(fmt.values) if value == 0]
        return min(zeros, key=lambda code: bool(np.signbit(fmt.values[code])))
    if not isinstance(x, QuantizedArray) or x.zero_point is None:
        return 0
    points = (x.zero_point & ((1 << fmt.bits) - 1)).astype(x.codes.dtype)
    if points.size and (points == points.flat[0]).all():
        return points.flat[0]
    return np.broadcast_to(spread(points, x.shape, x.axis, x.block_size), x.shape)


def is_zero(x: Elements) -> Array:
    """Say which elements are zero: of either sign, and those that equal their zero point."""
    fmt, bits = format_of(x), bits_of(x)
    if isinstance(fmt, CodebookFormat):
        return np.asarray((np.array(fmt.values) == 0)[bits])
    if isinstance(x, QuantizedArray) and x.zero_point is not None:
        return np.asarray(bits == zero_of(x))
    meaning = fmt.bits - int(not isinstance(fmt, IntFormat) and fmt.has_negative_zero)
    return np.asarray((bits & bits.dtype.type((1 << meaning) - 1)) == 0)


def like(x: Elements, bits: Array, axis: int, per: int, to: int) -> Elements:
    """Return other bits as elements like these, where `per` of these along `axis` have become `to`."""
    if not isinstance(x, QuantizedArray):
        return bits.view(x.dtype)
    return QuantizedArray(
        bits,
        x.scale,
        x.zero_point,
        format=x.format,
        axis=x.axis,
        block_size=resized(x, axis, per, to),
        tensor_scale=None if x.tensor_scale is None else float(x.tensor_scale),
        recipe=x.recipe,
    )


def resized(x: QuantizedArray, axis: int, per: int, to: int) -> int | tuple[int, ...] | None:
    """Return the block sizes of a quantised array in which `per` elements along `axis` have become `to`."""
    if x.axis is None:
        return None
    axes = x.axis if isinstance(x.axis, tuple) else (x.axis,)
    if (axis in axes) == (x.block_size is None):
        msg = (
            f"a Sparse24 must not have a scale for each index of its sparse axis {axis}, got {x!r}; give scales per "
            "tensor, per slice of another axis, or per block along it."
        )
        raise ValueError(msg)
    if x.block_size is None:
        return None
    sizes = list(x.block_size) if isinstance(x.block_size, tuple) else [x.block_size]
    place = axes.index(axis)
    block, length = sizes[place], x.shape[axis]
    if block % per and block < length:
        msg = (
            f"a Sparse24 must have blocks of scales that are whole groups, {per} elements along axis {axis} here, got "
            f"blocks of {block}."
        )
        raise ValueError(msg)
    sizes[place] = block // per * to if block % per == 0 else max(1, -(-length // per)) * to
    return tuple(sizes) if isinstance(x.block_size, tuple) else sizes[0]


def shown(x: Elements, index: tuple[Any, ...]) -> str:
    """Return some elements as text for an error: their numbers, codes for quantised ones."""
    part = bits_of(x)[index] if isinstance(x, QuantizedArray) else x[index]
    return ", ".join(str(each) for each in part.ravel()) + (" (codes)" if isinstance(x, QuantizedArray) else "")


def place_text(at: tuple[int, ...], axis: int, pattern: SparsityPattern, length: int) -> str:
    """Return the index of a group, whose axis was moved last, as it is written in the array's own order."""
    start = at[-1] * pattern.group
    words = [str(i) for i in at[:-1]]
    words.insert(axis, f"{start}:{min(start + pattern.group, length)}")
    return f"[{', '.join(words)}]"


def group_index(at: tuple[int, ...], axis: int, pattern: SparsityPattern) -> tuple[Any, ...]:
    """Return the same index to index with."""
    start = at[-1] * pattern.group
    items: list[Any] = list(at[:-1])
    items.insert(axis, slice(start, start + pattern.group))
    return tuple(items)
