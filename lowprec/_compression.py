"""Groups of a sparse matrix as codes of 4 bits: found in a dense array, packed in bytes, and undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._patterns import ONE_OF_TWO, SparsityPattern, fill_table, legal_nibbles

FILLER = 0x4
"""What stands where a byte or a word has room for more groups than there are: a legal code."""


def group_count(length: int, pattern: SparsityPattern) -> int:
    """Return how many groups a length has, the last one padded."""
    return -(-length // pattern.group)


def pack_nibbles(nibbles: Array) -> Array:
    """Pack codes along the last axis, two to a byte, the first in the low half; an odd one gets a legal neighbour."""
    if nibbles.shape[-1] % 2:
        nibbles = np.concatenate([nibbles, np.full((*nibbles.shape[:-1], 1), FILLER, np.uint8)], axis=-1)
    packed: Array = nibbles[..., 0::2] | nibbles[..., 1::2] << 4
    return packed


def unpack_nibbles(packed: Array, groups: int) -> Array:
    """Return `groups` codes of each row of bytes, one to a uint8."""
    codes = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    np.bitwise_and(packed, 15, out=codes[..., 0::2])
    np.right_shift(packed, 4, out=codes[..., 1::2])
    return codes[..., :groups]


def nibbles_of_indices(indices: Array, pattern: SparsityPattern) -> Array:
    """Return the codes of checked positions, (..., groups * positions) -> (..., groups)."""
    if pattern.group == 2:
        return np.where(indices == 0, np.uint8(ONE_OF_TWO[0]), np.uint8(ONE_OF_TWO[1])).astype(np.uint8)
    codes: Array = (indices[..., 0::2] | indices[..., 1::2] << 2).astype(np.uint8)
    return codes


def indices_of_nibbles(nibbles: Array, pattern: SparsityPattern) -> Array:
    """Return the positions that codes stand for: of elements in their group, of pairs for "4:8"."""
    if pattern.group == 2:
        return np.asarray(nibbles == ONE_OF_TWO[1]).astype(np.uint8)
    both = np.empty((*nibbles.shape[:-1], 2 * nibbles.shape[-1]), np.uint8)
    both[..., 0::2] = nibbles & 3
    both[..., 1::2] = nibbles >> 2
    return both


def grouped(x: Array, pattern: SparsityPattern, fill: Any = 0) -> Array:
    """Return (..., K) as (..., groups, elements of a group), padded with `fill`: one, or the last along its axis."""
    groups = group_count(x.shape[-1], pattern)
    short = groups * pattern.group - x.shape[-1]
    if short:
        pad = np.empty((*x.shape[:-1], short), x.dtype)
        pad[...] = fill if np.ndim(fill) == 0 else fill[..., -1:]
        x = np.concatenate([x, pad], axis=-1)
    return x.reshape(*x.shape[:-1], groups, pattern.group)


def nibbles_of_keep(keep: Array, pattern: SparsityPattern) -> Array:
    """Return the code of each group of (..., K) booleans, 0 where more is to be kept than the pattern does.

    Groups that keep less are filled up as `fill_table` says.
    """
    each = grouped(keep, pattern, fill=False)
    if pattern.run == 2:
        each = each[..., 0::2] | each[..., 1::2]
    weights = (1, 2, 4, 8) if each.shape[-1] == 4 else (3, 12)
    sets = np.zeros(each.shape[:-1], np.uint8)
    for place, weight in enumerate(weights):
        sets |= each[..., place].view(np.uint8) * np.uint8(weight)
    return np.asarray(fill_table()[sets])


def gather(x: Array, nibbles: Array, pattern: SparsityPattern, fill: Any = 0) -> Array:
    """Return the kept elements of (..., K), as (..., groups * kept)."""
    runs = _in_runs(grouped(x, pattern, fill), pattern)
    kept = np.empty((*runs.shape[:-2], pattern.kept // pattern.run, pattern.run), x.dtype)
    for slot, place, here in _moves(nibbles, pattern):
        np.copyto(kept[..., slot, :], runs[..., place, :], where=here)
    return kept.reshape(*x.shape[:-1], nibbles.shape[-1] * pattern.kept)


def scatter(values: Array, nibbles: Array, pattern: SparsityPattern, length: int, fill: Any = 0) -> Array:
    """Return (..., groups * kept) elements in their places of (..., length); `fill`, or (..., groups, 1), elsewhere."""
    groups = nibbles.shape[-1]
    each = np.empty((*values.shape[:-1], groups, pattern.group), values.dtype)
    each[...] = fill
    kept = _in_runs(values.reshape(*values.shape[:-1], groups, pattern.kept), pattern)
    for slot, place, here in _moves(nibbles, pattern):
        np.copyto(_in_runs(each, pattern)[..., place, :], kept[..., slot, :], where=here)
    return each.reshape(*values.shape[:-1], groups * pattern.group)[..., :length]


def _in_runs(each: Array, pattern: SparsityPattern) -> Array:
    """Return (..., elements) as (..., runs, elements of a run)."""
    return each.reshape(*each.shape[:-1], each.shape[-1] // pattern.run, pattern.run)


def _moves(nibbles: Array, pattern: SparsityPattern) -> Iterator[tuple[int, int, Array]]:
    """Yield each kept run of a group, each place that it can have, and in which groups it has it."""
    slots = pattern.kept // pattern.run
    indices = indices_of_nibbles(nibbles, pattern)
    for slot in range(slots):
        for place in range(slot, pattern.group // pattern.run - slots + slot + 1):
            yield slot, place, (indices[..., slot::slots] == place)[..., None]


def first_illegal(nibbles: Array, pattern: SparsityPattern) -> tuple[int, ...] | None:
    """Return the index of the first code that is not legal."""
    wrong = ~legal_nibbles(pattern)[nibbles]
    return first_true(wrong)


def first_true(wrong: Array) -> tuple[int, ...] | None:
    """Return the index of the first True in C order."""
    if not wrong.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
