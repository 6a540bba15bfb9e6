"""Where scales lie over codes: blocks of elements along axes, and the grid of one scale to a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lowprec._checks import Array

if TYPE_CHECKING:
    from lowprec.arrays import QuantizedArray

Axis = int | tuple[int, ...] | None


def _tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return one number or several as a tuple."""
    return value if isinstance(value, tuple) else (value,)


def _integers(value: Any, name: str, what: str) -> tuple[int, ...]:
    """Return one integer or a sequence of them as a tuple."""
    items = value if isinstance(value, (tuple, list)) else (value,)
    for item in items:
        if isinstance(item, (bool, np.bool_)) or not isinstance(item, (int, np.integer)):
            msg = f"`{name}` must be {what}, got {value!r} of type {type(value).__name__}."
            raise TypeError(msg)
    return tuple(int(item) for item in items)


def layout(axis: Any, block_size: Any, ndim: int) -> tuple[Axis, int | tuple[int, ...] | None]:
    """Check `axis` and `block_size`; axes come back counted from the front, in ascending order."""
    if axis is None:
        if block_size is not None:
            _integers(block_size, "block_size", "an integer of 1 or more, or a tuple of them")
            msg = f"`axis` must be given with block_size={block_size}, got None; pass axis=-1 for the last one."
            raise ValueError(msg)
        return None, None
    axes = _integers(axis, "axis", "an integer, a tuple of integers or None")
    for one in axes:
        if not -ndim <= one < ndim:
            msg = f"`axis` must be from {-ndim} to {ndim - 1} for codes with {ndim} axes, got {one}."
            raise ValueError(msg)
    axes = tuple(one % ndim for one in axes)
    if len(set(axes)) != len(axes) or not axes:
        msg = f"`axis` must name at least one axis, each once, got {axis}."
        raise ValueError(msg)
    several = isinstance(axis, (tuple, list))
    order = sorted(range(len(axes)), key=axes.__getitem__)
    found = tuple(axes[i] for i in order) if several else axes[0]
    if block_size is None:
        return found, None
    blocks = _integers(block_size, "block_size", "an integer of 1 or more, or a tuple of them")
    if min(blocks, default=1) < 1:
        msg = f"`block_size` must be 1 or more, got {block_size}."
        raise ValueError(msg)
    if isinstance(block_size, (tuple, list)) != several or len(blocks) != len(axes):
        msg = f"`block_size` must have one number for each axis of axis={axis}, got {block_size}."
        raise ValueError(msg)
    return found, tuple(blocks[i] for i in order) if several else blocks[0]


def block_lengths(shape: tuple[int, ...], axis: Axis, block_size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return how many elements along each axis share a scale."""
    if axis is None:
        return shape
    axes = _tuple(axis)
    if block_size is None:
        return tuple(1 if i in axes else length for i, length in enumerate(shape))
    along = dict(zip(axes, _tuple(block_size), strict=True))
    return tuple(along.get(i, 1) for i in range(len(shape)))


def grid_shape(shape: tuple[int, ...], axis: Axis, block_size: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape that scales have."""
    if axis is None:
        return ()
    if block_size is None:
        return tuple(shape[i] for i in _tuple(axis))
    along = dict(zip(_tuple(axis), _tuple(block_size), strict=True))
    return tuple(-(-length // along.get(i, 1)) for i, length in enumerate(shape))


def open_grid(each: Array, ndim: int, axis: Axis, block_size: int | tuple[int, ...] | None) -> Array:
    """Return an array of the scales' shape with one axis for every axis of the codes."""
    if axis is None:
        return each.reshape((1,) * ndim)
    if block_size is not None:
        return each
    axes = _tuple(axis)
    lengths = iter(each.shape)
    return each.reshape([next(lengths) if i in axes else 1 for i in range(ndim)])


def spread(each: Array, shape: tuple[int, ...], axis: Axis, block_size: int | tuple[int, ...] | None) -> Array:
    """Return an array of the scales' shape, made to broadcast with the codes."""
    opened = open_grid(each, len(shape), axis, block_size)
    if axis is None or block_size is None:
        return opened
    for along, block in zip(_tuple(axis), _tuple(block_size), strict=True):
        if block != 1:
            repeated = np.repeat(opened, min(block, shape[along]), axis=along)
            opened = repeated[(slice(None),) * along + (slice(shape[along]),)]
    return opened


def turned(
    axis: Axis, block_size: int | tuple[int, ...] | None, order: tuple[int, ...]
) -> tuple[Axis, int | tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return axis and block size after a transposition of the codes, and the transposition of the scales."""
    if axis is None:
        return None, None, None
    places = [order.index(one) for one in _tuple(axis)]
    rank = sorted(range(len(places)), key=places.__getitem__)
    moved: Axis = tuple(places[i] for i in rank) if isinstance(axis, tuple) else places[0]
    if block_size is None:
        return moved, None, tuple(rank)
    blocks = tuple(block_size[i] for i in rank) if isinstance(block_size, tuple) else block_size
    return moved, blocks, order


def _expanded(index: Any, ndim: int) -> list[int | slice]:
    """Return an index with one entry for every axis."""
    items: list[Any] = list(index) if isinstance(index, tuple) else [index]
    for item in items:
        good = isinstance(item, (int, np.integer, slice)) and not isinstance(item, (bool, np.bool_))
        if not good and item is not Ellipsis:
            msg = (
                f"an index of a QuantizedArray must be integers, slices and an ellipsis, got {item!r}; "
                "index what .dequantize() gives, or .codes and .scale."
            )
            raise TypeError(msg)
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1 or len(items) - len(dots) > ndim:
        msg = f"an index of a QuantizedArray with {ndim} axes must have at most one ellipsis and {ndim} entries."
        raise IndexError(msg)
    at = dots[0] if dots else len(items)
    missing = ndim - (len(items) - len(dots))
    return [*items[:at], *[slice(None)] * missing, *items[at + 1 :]]


def _grid_index(item: int | slice, length: int, block: int, axis: int, differs: bool) -> int | slice:
    """Return the index of the scales that goes with an index of the codes along one axis, along which they differ."""
    shared = block >= length  # one block
    if isinstance(item, slice):
        if not differs:
            return slice(None)
        if block == 1:
            return item
        if shared:  # what is left of one block is one block, unless it is nothing
            return slice(None) if range(*item.indices(length)) else slice(0, 0)
        start, stop, step = item.indices(length)
        if step != 1 or start % block or (stop % block and stop < length):
            msg = (
                f"a slice along axis {axis} must begin and end at a multiple of its block size {block}, with step 1, "
                f"got {item}."
            )
            raise ValueError(msg)
        return slice(start // block, max(start // block, -(-stop // block)))
    place = int(item)
    if not -length <= place < length:
        msg = f"index {place} must be within axis {axis} of length {length}."
        raise IndexError(msg)
    return 0 if shared else (place % length) // block


def cut(q: QuantizedArray, index: Any) -> QuantizedArray:
    """Return a part of a quantised array."""
    items = _expanded(index, q.ndim)
    blocks = q.blocks
    own = () if q.axis is None else _tuple(q.axis)
    places = [
        _grid_index(item, n, b, i, i in own or (q.block_size is not None and q.axis is not None))
        for i, (item, n, b) in enumerate(zip(items, q.shape, blocks, strict=True))
    ]
    kept = [i for i, item in enumerate(items) if isinstance(item, slice)]
    number = {old: new for new, old in enumerate(kept)}
    codes = q.codes[tuple(items)]

    def part(each: Array | None) -> Array | None:
        """Return the scales, zero points or offsets of the part, with an axis for every axis that is kept."""
        return None if each is None else open_grid(each, q.ndim, q.axis, q.block_size)[tuple(places)]

    grids = [part(each) for each in (q.scale, q.zero_point, q.offset)]
    axis, block_size = q.axis, q.block_size
    if axis is None:
        shape: tuple[int, ...] = ()
    else:
        axes = tuple(number[one] for one in _tuple(axis) if one in number)
        if block_size is None:
            axis = axes if isinstance(axis, tuple) and axes else axes[0] if axes else None
            shape = tuple(codes.shape[one] for one in axes)
        elif axes:
            sizes = tuple(b for one, b in zip(_tuple(axis), _tuple(block_size), strict=True) if one in number)
            axis = axes if isinstance(axis, tuple) else axes[0]
            block_size = sizes if isinstance(axis, tuple) else sizes[0]
            shape = grid_shape(codes.shape, axis, block_size)
        else:  # every element that is left has a scale of its own
            axis, block_size = tuple(range(codes.ndim)) or None, None
            shape = codes.shape
    scale, point, offset = (None if grid is None else grid.reshape(shape) for grid in grids)
    return type(q)(
        codes,
        cast(Array, scale),
        point,
        format=q.format,
        axis=axis,
        block_size=block_size,
        tensor_scale=None if q.tensor_scale is None else float(q.tensor_scale),
        offset=offset,
        recipe=q.recipe,
    )


def expanded(q: QuantizedArray, place: int) -> QuantizedArray:
    """Return a quantised array with one more axis, of length 1, at a place counted from the front."""
    places = None if q.axis is None else tuple(one + int(one >= place) for one in _tuple(q.axis))
    axis: Axis = places if isinstance(q.axis, tuple) or places is None else places[0]

    def part(each: Array | None) -> Array | None:
        """Return scales, zero points or offsets with the axis too, if they have all axes."""
        return each if each is None or q.block_size is None else np.expand_dims(each, place)

    return type(q)(
        np.expand_dims(q.codes, place),
        cast(Array, part(q.scale)),
        part(q.zero_point),
        format=q.format,
        axis=axis,
        block_size=q.block_size,
        tensor_scale=None if q.tensor_scale is None else float(q.tensor_scale),
        offset=part(q.offset),
        recipe=q.recipe,
    )
