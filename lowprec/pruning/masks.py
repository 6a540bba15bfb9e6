"""Masks from scores: the largest of each group along rows, the first of equals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec._packing import share
from lowprec._patterns import SparsityPattern
from lowprec.arrays import QuantizedArray
from lowprec.kernels.sparsify import keep_largest
from lowprec.pruning import transposable

_PIECE = 1 << 16  # numbers that a thread ranks at a time

Score = Callable[[slice], Array]  # the scores of some rows, float64 or uint64


def numbers_of(w: Any, name: str) -> Array:
    """Return real numbers without NaN, in a dtype of native byte order: those of a QuantizedArray in float64."""
    if isinstance(w, QuantizedArray):
        values = w.dequantize(np.float64)
    else:
        values = _checks.plain_array(w, name)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        if values.dtype.kind not in "iu":
            found = _checks.source(values, name)  # refuses what is no real number
            values = values if found.exact is None and found.dtype == values.dtype else found.values
    if values.ndim < 1:
        msg = f"`{name}` must have one axis or more, got a scalar."
        raise ValueError(msg)
    refuse_nan(values, name)
    return values


def refuse_nan(values: Array, name: str) -> None:
    """Name the first NaN, which is neither larger nor smaller than another number."""
    if values.dtype.kind in "iu" or not values.size:
        return
    wrong = np.isnan(values)
    if wrong.any():
        where = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        place = where if len(where) > 1 else where[0]
        msg = f"`{name}` must not hold NaN, got one at index {place}; replace it first, for example by np.nan_to_num."
        raise ValueError(msg)


def magnitudes(x: Array) -> Array:
    """Return |x| exactly: in float64, or in uint64 for integers."""
    if x.dtype.kind in "iu":
        wide = x.astype(np.int64 if x.dtype.kind == "i" else np.uint64)
        return np.abs(wide).view(np.uint64)  # |-2**63| wraps to itself, which is right without a sign
    return np.abs(x.astype(np.float64))


def keys(scores: Array) -> Array:
    """Return words in the order of scores: integers as they are, float64 by their bits, with both zeros the same."""
    if scores.dtype == np.uint64:
        return scores
    bits = (scores + 0.0).view(np.int64)  # -0 + 0 is +0
    return np.where(bits < 0, ~bits, bits ^ np.int64(-(2**63))).view(np.uint64)


def of_runs(scores: Array, run: int) -> Array:
    """Return the sums of scores that are kept or dropped together, in float64."""
    starts = np.arange(0, scores.shape[-1], run)
    with np.errstate(over="ignore"):
        return np.asarray(np.add.reduceat(scores.astype(np.float64), starts, axis=-1))


def largest(scores: Array, pattern: SparsityPattern) -> Array:
    """Return which elements of (rows, K) float64 or uint64 scores are kept."""
    run = pattern.run
    each = scores if run == 1 else of_runs(scores, run)
    out = np.zeros(each.shape, bool)
    keep_largest(keys(np.ascontiguousarray(each)), pattern.kept // run, pattern.group // run, out)
    return out if run == 1 else np.repeat(out, run, axis=-1)[:, : scores.shape[-1]]


def chosen(scores: Array, pattern: SparsityPattern, tiles: str | None) -> Array:
    """Return which elements of (rows, K) scores are kept along rows, or in tiles along both axes."""
    return largest(scores, pattern) if tiles is None else transposable.doubly_sparse(scores, tiles)


def mask_of(score: Score, shape: tuple[int, int], pattern: SparsityPattern, tiles: str | None) -> Array:
    """Return the mask of a matrix whose groups lie along rows, on all threads."""
    rows, length = shape
    out = np.zeros(shape, bool)
    high = transposable.TILE

    def work(first: int, last: int) -> None:
        part = slice(first * high, min(rows, last * high))
        out[part] = chosen(score(part), pattern, tiles)

    share(work, -(-rows // high) if length else 0, max(1, _PIECE // (high * max(1, length))))
    return out
