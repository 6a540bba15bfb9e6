"""The parts of a Sparse24, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec._checks import Array, plain_array
from lowprec._compression import first_true, group_count
from lowprec._patterns import SparsityPattern, place_table
from lowprec._sparse_parts import Elements, group_index, is_zero, place_text, shown


def axis_of(axis: Any, ndim: int) -> int:
    """Return an axis counted from the front."""
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        msg = f"`axis` must be an integer, got {axis!r} of type {type(axis).__name__}."
        raise TypeError(msg)
    if not ndim:
        msg = "a Sparse24 must have at least one axis, got a 0-d array; pass it as an array with axes."
        raise ValueError(msg)
    if not -ndim <= axis < ndim:
        msg = f"`axis` must be from {-ndim} to {ndim - 1} for an array with {ndim} axes, got {axis}."
        raise ValueError(msg)
    return int(axis) % ndim


def groups_of(shape: tuple[int, ...], pattern: SparsityPattern, axis: int) -> int:
    """Return how many groups values of a shape fill."""
    if shape[axis] % pattern.kept:
        msg = (
            f'`values` must have a multiple of {pattern.kept} elements along axis {axis} for "{pattern}", got '
            f"{shape[axis]}."
        )
        raise ValueError(msg)
    return shape[axis] // pattern.kept


def length_of(length: Any, groups: int, pattern: SparsityPattern) -> int:
    """Return the length of the dense array."""
    whole = groups * pattern.group
    if length is None:
        return whole
    if isinstance(length, (bool, np.bool_)) or not isinstance(length, (int, np.integer)):
        msg = f"`length` must be an integer or None, got {length!r} of type {type(length).__name__}."
        raise TypeError(msg)
    if length < 0 or group_count(int(length), pattern) != groups:
        least = max(0, whole - pattern.group + 1)
        msg = f"`length` must be from {least} to {whole} for {groups} groups of {pattern.group}, got {length}."
        raise ValueError(msg)
    return int(length)


def places_of(indices: Any, shape: tuple[int, ...], pattern: SparsityPattern, axis: int) -> Array:
    """Return checked indices as uint8 with the sparse axis last."""
    found = plain_array(indices, "indices")
    if found.dtype.kind not in "iu" and found.size:
        msg = f"`indices` must be integers, got dtype {found.dtype}."
        raise TypeError(msg)
    groups_of(shape, pattern, axis)
    expected = (*shape[:axis], shape[axis] // pattern.run, *shape[axis + 1 :])
    if found.shape != expected:
        each = ", one for each pair" if pattern.run == 2 else ""
        msg = (
            f'`indices` must have shape {expected} for values of shape {shape}, axis={axis} and pattern="{pattern}"'
            f"{each}, got {found.shape}."
        )
        raise ValueError(msg)
    last = pattern.group // pattern.run - 1
    found = np.moveaxis(found, axis, -1)
    wrong = (found < 0) | (found > last)
    at = first_true(wrong)
    if at is not None:
        msg = f'`indices` must be from 0 to {last} for "{pattern}", got {found[at]} at {_moved_back(at, axis)}.'
        raise ValueError(msg)
    places = found.astype(np.uint8)
    if pattern.group != 2:
        at = first_true(places[..., 0::2] >= places[..., 1::2])
        if at is not None:
            pair = places[at[:-1]][2 * at[-1] : 2 * at[-1] + 2].tolist()
            start = (*at[:-1], 2 * at[-1])
            msg = f"`indices` must ascend in each group, got {pair} from {_moved_back(start, axis)} on."
            raise ValueError(msg)
    return places


def _moved_back(at: tuple[int, ...], axis: int) -> list[int]:
    """Return an index whose sparse axis is last in the array's own order."""
    items = list(at[:-1])
    items.insert(axis, at[-1])
    return items


def beyond_end(nibbles: Array, pattern: SparsityPattern, length: int) -> Array:
    """Say which kept elements of the last groups stand in the padding, as (..., kept); `length` cuts the group."""
    return np.asarray(place_table(pattern)[nibbles[..., -1]] >= length % pattern.group)


def check_padding(values: Elements, nibbles: Array, pattern: SparsityPattern, axis: int, length: int) -> None:
    """Refuse kept elements beyond the end that are not zero; `nibbles` (..., groups) with the sparse axis last."""
    start = (nibbles.shape[-1] - 1) * pattern.kept
    last = [slice(None)] * axis + [slice(start, None)]
    there = np.moveaxis(np.logical_not(is_zero(values))[tuple(last)], axis, -1)
    at = first_true(there & beyond_end(nibbles, pattern, length))
    if at is not None:
        where = _moved_back((*at[:-1], start + at[-1]), axis)
        place = int(place_table(pattern)[nibbles[at[:-1]][-1], at[-1]]) + length - length % pattern.group
        index = tuple(slice(i, i + 1) for i in where)
        msg = (
            f"`values` must be zero beyond the end of axis {axis}, `length` {length}, got {shown(values, index)} at "
            f"{where}, which stands for place {place}."
        )
        raise ValueError(msg)


def refuse_group(
    x: Elements, keep: Array, at: tuple[int, ...], pattern: SparsityPattern, axis: int, *, masked: bool
) -> None:
    """Raise for the first group in which more is to be kept than the pattern does."""
    where = place_text(at, axis, pattern, x.shape[axis])
    index = group_index(at, axis, pattern)
    rule = "at most 2 of 4 pairs" if pattern.run == 2 else f"at most {pattern.kept} of {pattern.group} elements"
    if masked:
        msg = (
            f'`mask` must keep {rule} along axis {axis} for "{pattern}", got {keep[index].astype(int).tolist()} at '
            f"{where}, where `x` is {shown(x, index)}; lp.sparsity_mask makes masks that do."
        )
    else:
        msg = (
            f'`x` must have {rule} that are not zero along axis {axis} for "{pattern}", got {shown(x, index)} at '
            f"{where}; choose what to keep with lp.sparsify, or pass mask=."
        )
    raise ValueError(msg)


def expanded_index(index: Any, ndim: int) -> list[Any]:
    """Return an index with one entry for every axis."""
    items: list[Any] = list(index) if isinstance(index, tuple) else [index]
    for item in items:
        good = isinstance(item, (int, np.integer, slice)) and not isinstance(item, (bool, np.bool_))
        if not good and item is not Ellipsis:
            msg = (
                f"an index of a Sparse24 must be integers, slices and an ellipsis, got {item!r}; index what "
                ".to_dense() gives, or .values and .indices."
            )
            raise TypeError(msg)
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1 or len(items) - len(dots) > ndim:
        msg = (
            f"an index of a Sparse24 with {ndim} axes must have at most one ellipsis and {ndim} entries, got {index!r}."
        )
        raise IndexError(msg)
    at = dots[0] if dots else len(items)
    return [*items[:at], *[slice(None)] * (ndim - (len(items) - len(dots))), *items[at + 1 :]]


def whole_groups(item: Any, length: int, block: int, axis: int) -> tuple[int, int]:
    """Return the ends of a slice along the sparse axis, which must be at multiples of `block` or the end."""
    if not isinstance(item, slice):
        msg = (
            f"an index along the sparse axis {axis} of a Sparse24 must be a slice of whole groups, got {item!r}; index "
            "what .to_dense() gives."
        )
        raise TypeError(msg)
    start, stop, step = item.indices(length)
    stop = max(start, stop)
    if step != 1 or (start % block and start < length) or (stop % block and stop < length):
        msg = f"a slice along sparse axis {axis} must begin and end at a multiple of {block}, with step 1, got {item}."
        raise ValueError(msg)
    return start, stop
