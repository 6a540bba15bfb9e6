"""The range that quantises a group of numbers with the least squared error, found by trying."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.codec import round_to
from lowprec.formats import IntFormat

_PIECE = 1 << 15  # elements worked on at a time: they stay in the cache through all trials


def ratios(fmt: ElementFormat) -> list[float]:
    """Return the multiples of the data's range that are tried, the range itself first, then by distance from it.

    Hundredths from 0.01 to 1; up to 2 for formats whose values are not evenly spaced, where a larger scale can put the
    largest number on a better place of the grid (4 instead of 6 in E2M1).
    """
    top = 100 if isinstance(fmt, IntFormat) else 200
    return [i / 100 for i in sorted(range(1, top + 1), key=lambda i: (abs(i - 100), i))]


def limits(fmt: ElementFormat, divisor: float) -> tuple[float, float]:
    """Return the least and largest code value in symmetric use: even about zero unless `divisor` asks for more."""
    low, high = float(fmt.min), float(fmt.max)
    return (-high, high) if isinstance(fmt, IntFormat) and divisor <= high and low < 0 else (low, high)


def affine(lo: Array, hi: Array, fmt: ElementFormat) -> tuple[Array, Array]:
    """Return scale and zero point for ranges, each of which is taken to hold 0."""
    lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    low, high = lo.dtype.type(fmt.min), lo.dtype.type(fmt.max)
    with np.errstate(over="ignore", under="ignore"):
        scale = (hi - lo) / (high - low)
        scale = np.where(scale > 0, scale, lo.dtype.type(1))
        return scale, np.clip(np.rint(low - lo / scale), low, high)


def fake(x: Array, lo: Array, hi: Array, fmt: ElementFormat, *, symmetric: bool, divisor: float) -> Array:
    """Return groups quantised for ranges and back: `x` is (groups, elements), `lo` and `hi` are (groups,)."""
    kind = x.dtype.type
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        if not symmetric:
            scale, point = (each[:, None] for each in affine(lo, hi, fmt))
            codes: Array = x / scale
            np.rint(codes, out=codes)
            codes += point
            np.clip(codes, kind(fmt.min), kind(fmt.max), out=codes)
            codes -= point
            codes *= scale
            return codes
        scale = (np.maximum(np.abs(lo), np.abs(hi)) / kind(divisor))[:, None]
        scale = np.where(scale > 0, scale, kind(1))
        y: Array = x / scale
        if isinstance(fmt, IntFormat):
            low, high = limits(fmt, divisor)
            np.rint(y, out=y)
            np.clip(y, kind(low), kind(high), out=y)
        elif isinstance(fmt, CodebookFormat):
            y = fmt.decode(fmt.encode(y), dtype=x.dtype)
        else:
            y = round_to(y, fmt, overflow="saturate")
        y *= scale
        return y


def best_ranges(
    x: Array, fmt: ElementFormat, *, symmetric: bool, divisor: float, weights: Array | None = None
) -> tuple[Array, Array]:
    """Return for each group the range with the least sum of squared errors.

    Parameters
    ----------
    x : ndarray of float32 or float64
        Shape (groups, elements).
    fmt : format
        Of the elements.
    symmetric : bool
        Whether zero points are 0.
    divisor : float
        What the range is divided by for the scale, in symmetric use.
    weights : ndarray, optional
        What each element's squared error counts; 0 for places that hold none.

    Returns
    -------
    lo, hi : ndarray of x's dtype
        Shape (groups,). Symmetric: ``lo = -hi``.
    """
    lo, hi = np.empty((2, len(x)), x.dtype)
    rows = max(1, _PIECE // max(1, x.shape[1]))
    for begin in range(0, len(x), rows):
        part = slice(begin, begin + rows)
        each = None if weights is None else weights[part]
        lo[part], hi[part] = _search(x[part], fmt, each, symmetric=symmetric, divisor=divisor)
    return lo, hi


def _search(x: Array, fmt: ElementFormat, weights: Array | None, **how: Any) -> tuple[Array, Array]:
    """Search the ranges of some groups: a common ratio for both ends, and without symmetry then each end alone."""
    here = x if weights is None else np.where(weights > 0, x, x.dtype.type(0))
    lo = np.minimum(here.min(axis=1, initial=0), 0)
    hi = np.maximum(here.max(axis=1, initial=0), 0)
    if how["symmetric"]:
        hi = np.maximum(-lo, hi)
        lo = -hi
    tried = np.array(ratios(fmt), x.dtype)
    shrunk = _least(x, fmt, weights, tried[:, None] * lo, tried[:, None] * hi, **how)
    if how["symmetric"]:
        return shrunk
    own = shrunk
    ends = np.concatenate([own[0][None], tried[:, None] * lo]), np.broadcast_to(own[1], (len(tried) + 1, len(x)))
    own = _least(x, fmt, weights, *ends, **how) if lo.any() else own
    ends = np.broadcast_to(own[0], (len(tried) + 1, len(x))), np.concatenate([own[1][None], tried[:, None] * hi])
    return _least(x, fmt, weights, *ends, **how) if hi.any() else own


def _least(
    x: Array, fmt: ElementFormat, weights: Array | None, lo: Array, hi: Array, **how: Any
) -> tuple[Array, Array]:
    """Return for each group the trial of least error, the first of equals; `lo` and `hi` are (trials, groups)."""
    errors = np.zeros(lo.shape)
    for begin in range(0, x.shape[1], _PIECE):
        piece = x[:, begin : begin + _PIECE]
        counts = None if weights is None else weights[:, begin : begin + _PIECE]
        for trial in range(len(lo)):
            wrong = fake(piece, lo[trial], hi[trial], fmt, **how)
            wrong -= piece
            errors[trial] += _squares(wrong, counts)
    best = np.argmin(errors, axis=0)
    return lo[best, np.arange(len(x))], hi[best, np.arange(len(x))]


def _squares(wrong: Array, counts: Array | None) -> Array:
    """Return the sum of squares of each row, weighted, in float64."""
    wrong = wrong.astype(np.float64)
    if counts is None:
        return np.asarray(np.einsum("ij,ij->i", wrong, wrong))
    return np.asarray(np.einsum("ij,ij,ij->i", wrong, wrong, counts.astype(np.float64)))
