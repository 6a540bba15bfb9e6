"""The words that sparse tensor cores take the places of kept elements in, plain and in CUTLASS's order."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec._compression import FILLER, first_illegal
from lowprec._patterns import SparsityPattern

LAYOUTS = ("plain", "cutlass")


def word_dtype(bits: int) -> np.dtype[Any]:
    """Return the dtype of the words for elements of so many bits: two bytes hold 4 groups, four hold 8."""
    return np.dtype(np.uint16 if bits >= 16 else np.uint32)


def checked_layout(layout: Any) -> str:
    """Return the name of a layout."""
    if not isinstance(layout, str):
        msg = f'`layout` must be "plain" or "cutlass", got {layout!r} of type {type(layout).__name__}.'
        raise TypeError(msg)
    if layout not in LAYOUTS:
        msg = f'`layout` must be "plain" or "cutlass", got {layout!r}.'
        raise ValueError(msg)
    return layout


def words_of(nibbles: Array, dtype: np.dtype[Any]) -> Array:
    """Return codes (..., groups) as words (..., words), the first group in the lowest bits."""
    each = 2 * dtype.itemsize
    groups = nibbles.shape[-1]
    words = -(-groups // each)
    padded = np.full((*nibbles.shape[:-1], words * each), FILLER, np.uint8)
    padded[..., :groups] = nibbles
    found = np.zeros((*nibbles.shape[:-1], words), dtype)
    for place in range(each):
        found |= padded[..., place::each].astype(dtype) << dtype.type(4 * place)
    return found


def nibbles_of_words(words: Array, groups: int) -> Array:
    """Return the codes of the first `groups` groups of words (..., words)."""
    each = 2 * words.dtype.itemsize
    codes = np.empty((*words.shape[:-1], words.shape[-1] * each), np.uint8)
    for place in range(each):
        codes[..., place::each] = (words >> words.dtype.type(4 * place)) & words.dtype.type(15)
    return codes[..., :groups]


def swizzle(rows: int, words: int, itemsize: int) -> Array:
    """Return where the word of each row and column lies in CUTLASS's order, as offsets of shape (rows, words).

    Rows are dealt out within bands of 32 (16 for words of 32 bits), the words off the diagonal of each block of 2x2
    change places, and two columns lie interleaved, pair of columns after pair of columns.
    """
    band, step = (32, 4) if itemsize == 2 else (16, 2)
    row, column = np.arange(rows)[:, None], np.arange(words)[None, :]
    row = row // band * band + row % 8 * step + row % band // 8
    row, column = np.broadcast_arrays(row, column)
    move = (row % 2 == 0).astype(np.intp) * (column % 2 == 1) - (row % 2 == 1).astype(np.intp) * (column % 2 == 0)
    row, column = row + move, column - move
    offsets: Array = column // 2 * (2 * rows) + row * 2 + column % 2
    return offsets


def to_cutlass(words: Array) -> Array:
    """Return plain words of a matrix in CUTLASS's order."""
    moved = np.empty(words.size, words.dtype)
    moved[swizzle(words.shape[0], words.shape[1], words.dtype.itemsize)] = words
    return moved.reshape(words.shape)


def from_cutlass(words: Array) -> Array:
    """Return words in CUTLASS's order as plain ones."""
    return np.asarray(words.reshape(-1)[swizzle(words.shape[0], words.shape[1], words.dtype.itemsize)])


def check_cutlass(shape: tuple[int, ...], axis: int, bits: int, pattern: SparsityPattern) -> None:
    """Refuse what CUTLASS's order is not defined for; `shape` is that of the dense matrix."""
    rule = None
    rows = 32 if bits >= 16 else 16
    length = 2 * pattern.group * 2 * word_dtype(bits).itemsize
    if len(shape) != 2 or axis != 1:
        rule, got = "have two axes and be sparse along the last", f"shape {shape} and axis {axis}"
    elif shape[0] % rows:
        rule, got = f"have a multiple of {rows} rows for elements of {bits} bits", f"{shape[0]}"
    elif shape[1] % length:
        rule = f'have a multiple of {length} columns (two words) for elements of {bits} bits in "{pattern}"'
        got = f"{shape[1]}"
    if rule is not None:
        msg = f'a matrix with metadata in layout="cutlass" must {rule}, got {got}; take layout="plain", or pad it.'
        raise ValueError(msg)


def checked_words(metadata: Any, bits: int, shape: tuple[int, ...]) -> Array:
    """Return words in their unsigned dtype; `shape` is what they must have."""
    words = _checks.plain_array(metadata, "metadata")
    dtype = word_dtype(bits)
    if words.dtype.kind not in "iu" or words.dtype.itemsize != dtype.itemsize:
        size = "16 bits or more" if bits >= 16 else "less than 16 bits"
        msg = f"`metadata` must be {dtype} (or int{8 * dtype.itemsize}) for elements of {size}, got {words.dtype}."
        raise TypeError(msg)
    if words.shape != shape:
        each = 2 * dtype.itemsize
        msg = f"`metadata` must have shape {shape} for these values, {each} groups to a word, got {words.shape}."
        raise ValueError(msg)
    if not words.dtype.isnative:
        words = words.astype(words.dtype.newbyteorder("="))
    return words.view(dtype)


def check_nibbles(nibbles: Array, pattern: SparsityPattern, name: str) -> None:
    """Refuse codes that stand for no two ascending places; the first is named."""
    at = first_illegal(nibbles, pattern)
    if at is not None:
        legal = "0x4 and 0xE" if pattern.group == 2 else "0x4, 0x8, 0x9, 0xC, 0xD and 0xE"
        found = int(nibbles[at])
        msg = (
            f'`{name}` must have only the codes {legal} for "{pattern}", got 0b{found:04b} (0x{found:X}) for the group '
            f"at {list(at)}."
        )
        raise ValueError(msg)
