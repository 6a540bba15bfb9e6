"""The short way to 2:4 by magnitude: values and their places in one pass over the bits of an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._compression import group_count
from lowprec._packing import operand, share
from lowprec._patterns import SparsityPattern
from lowprec.formats import FloatFormat, stored_format
from lowprec.kernels import sparsify as kernels
from lowprec.pruning.masks import refuse_nan
from lowprec.sparse_arrays import Sparse24, assembled

_FOURS = SparsityPattern(2, 4)
_PIECE = 1 << 17  # numbers that a thread takes at a time
_LONE = 0x8  # the code of a last group with one element, as Sparse24.from_dense has it


def compressed_by_magnitude(w: Array, axis: int, recipe: str) -> Sparse24:
    """Return the largest two of each four along an axis, the first of equals; refuse NaN."""
    along_rows = axis == w.ndim - 1 or np.moveaxis(w, axis, -1).flags.c_contiguous
    x = np.moveaxis(w, axis, -1) if along_rows else w
    place = x.ndim - 1 if along_rows else axis
    length = w.shape[axis]
    groups = group_count(length, _FOURS)
    before, after = x.shape[:place], x.shape[place + 1 :]
    if length % 4:
        padded = np.zeros((*before, 4 * groups, *after), w.dtype)
        padded[(slice(None),) * place + (slice(length),)] = x
        x = padded
    words = operand(np.ascontiguousarray(x)).reshape(-1).view(f"u{w.dtype.itemsize}")
    values = np.empty(words.size // 2, words.dtype)
    nibbles = np.empty((*before, *after, (groups + 1) // 2), np.uint8)
    work = _rows if along_rows else _columns
    flat = nibbles.reshape(-1)
    most = work(words, groups, math.prod(after), _rules(w.dtype), values, flat) if w.size else 0
    if most > _limit(w.dtype):
        refuse_nan(w, "w")
    if length % 4 == 1:
        last = nibbles[..., -1]
        nibbles[..., -1] = last & 0xF0 | _LONE if groups % 2 else last & 0x0F | _LONE << 4
    kept = values.view(w.dtype).reshape(*before, 2 * groups, *after)
    return assembled(np.moveaxis(kept, place, axis), nibbles, _FOURS, axis, length, recipe)


def _rules(dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """Return what turns the bits of a number into those of its magnitude: shift, flip and mask."""
    fmt, word = stored_format(dtype), np.dtype(f"u{dtype.itemsize}").type
    if isinstance(fmt, FloatFormat):  # magnitudes of codes are in the order of their numbers
        return word(0), word(0), word((1 << fmt.magnitude_bits) - 1)
    bits = 8 * dtype.itemsize if fmt is None else fmt.bits
    ones = (1 << 8 * dtype.itemsize) - 1
    return word(bits - 1), word(ones if fmt is not None and fmt.is_signed else 0), word((1 << bits) - 1)


def _limit(dtype: np.dtype[Any]) -> int:
    """Return the bits of the largest magnitude that cannot be NaN."""
    fmt = stored_format(dtype)
    if not isinstance(fmt, FloatFormat):
        return (1 << 8 * dtype.itemsize) - 1
    if fmt.nan == "negative_zero":
        return -1  # the magnitude of NaN is that of zero
    return fmt.max_code if fmt.inf_code is None else fmt.inf_code


def _rows(x: Array, groups: int, _: int, rules: tuple[Any, Any, Any], values: Array, nibbles: Array) -> int:
    """Compress rows on all threads; return the largest magnitude."""
    # Where the codes of a row fill whole bytes, rows do not matter: any two groups are a unit of work.
    unit = groups if groups % 2 else 2
    wide = (unit + 1) // 2

    def work(first: int, last: int) -> int:
        found: int = kernels.compress_rows(
            x[4 * unit * first : 4 * unit * last], groups if groups % 2 else unit * (last - first), *rules,
            values[2 * unit * first : 2 * unit * last], nibbles[wide * first : wide * last],
        )  # fmt: skip
        return found

    return max(map(int, share(work, x.size // (4 * unit), max(1, _PIECE // (4 * unit)))))


def _columns(x: Array, groups: int, columns: int, rules: tuple[Any, Any, Any], values: Array, nibbles: Array) -> int:
    """Compress columns on all threads; return the largest magnitude."""
    matrices, strips = x.size // (4 * groups * columns), -(-columns // kernels.WIDTH)

    def work(first: int, last: int) -> int:
        found: int = kernels.compress_columns(x, groups, columns, first, last, *rules, values, nibbles)
        return found

    return max(map(int, share(work, matrices * strips, max(1, _PIECE // (4 * groups * min(columns, kernels.WIDTH))))))
