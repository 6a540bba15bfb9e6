"""Codebooks learned from the numbers they will stand for: one-dimensional k-means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._observer import finite, integer
from lowprec.codebooks import CodebookFormat

_CELLS = 1024


def learn_codebook(
    x: ArrayLike,
    bits: int | None = None,
    *,
    k: int | None = None,
    weights: ArrayLike | None = None,
    iterations: int = 300,
    name: str | None = None,
) -> CodebookFormat:
    """Find the k values that represent numbers with the least squared error.

    Parameters
    ----------
    x : array_like
        Finite numbers, any shape. For a codebook of blocks with scales of their own: the numbers divided by their
        block's largest magnitude.
    bits : int, optional
        Width of a code, 1 to 8: ``k = 2**bits``.
    k : int, optional
        Number of values, 2 to 256, instead of `bits`.
    weights : array_like, optional
        What each number's squared error counts, 0 or more, of the shape of `x` or one that broadcasts to it (such as
        the mean square of each input's activations).
    iterations : int
        At most how many steps of Lloyd's algorithm.
    name : str, optional
        Name of the format; ``"kmeans16"`` for 16 values.

    Returns
    -------
    CodebookFormat
        Values in ascending order, rounded to float32; fewer than k where `x` has fewer different numbers. Quantise
        with ``lp.quantize(x, codebook, scale=1)``, or with ``divisor=1`` and a `block_size` for a codebook of numbers
        divided by their block's largest magnitude.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `x` holds no two different numbers that count, or NaN or infinities, a weight is negative or not finite, or
        `bits`, `k` or `iterations` is out of range or not given.

    Notes
    -----
    Up to 1024 different numbers are clustered exactly, by dynamic programming over the sorted numbers. More are put
    into 1024 cells of equal weight first, whose means are clustered exactly, and from there Lloyd's algorithm runs on
    all numbers until nothing moves: no random start, so the same numbers give the same codebook, in any order of theirs
    up to the rounding of float64 sums.

    Examples
    --------
    >>> import lowprec as lp
    >>> book = lp.learn_codebook([0, 0.1, 0.2, 5, 5.1, 9], k=3)
    >>> [round(value, 2) for value in book.values]
    [0.1, 5.05, 9.0]
    >>> lp.quantize([0.1, 8.0], book, scale=1).codes
    array([0, 2], dtype=uint8)
    """
    count = _count(bits, k)
    if integer(iterations, "iterations") < 0:
        msg = f"`iterations` must be 0 or more, got {iterations}."
        raise ValueError(msg)
    values = finite(x, "x").astype(np.float64)
    mass = np.ones(values.shape) if weights is None else finite(weights, "weights").astype(np.float64)
    try:
        mass = np.broadcast_to(mass, values.shape)
    except ValueError:
        msg = f"`weights` must broadcast to the shape of `x`, {values.shape}, got {mass.shape}."
        raise ValueError(msg) from None
    if mass.size and mass.min() < 0:
        msg = f"`weights` must be 0 or more, got {mass.min()}."
        raise ValueError(msg)
    points, place = np.unique(values[mass > 0], return_inverse=True)
    if points.size < 2:
        msg = f"`x` must hold two different numbers whose weight is not 0, got {points.size}."
        raise ValueError(msg)
    masses = np.bincount(place.ravel(), mass[mass > 0])
    centres = _clusters(points, masses, min(count, points.size), int(iterations))
    table = np.unique(centres.astype(np.float32))
    return CodebookFormat(name or f"kmeans{count}", tuple(float(v) for v in table), source="learn_codebook")


def _count(bits: Any, k: Any) -> int:
    """Return how many values are wanted."""
    if (bits is None) == (k is None):
        msg = f"`bits` must be given, or `k` instead, got bits={bits} and k={k}."
        raise ValueError(msg)
    if bits is not None:
        if not 1 <= integer(bits, "bits") <= 8:
            msg = f"`bits` must be from 1 to 8, got {bits}."
            raise ValueError(msg)
        return 1 << int(bits)
    if not 2 <= integer(k, "k") <= 256:
        msg = f"`k` must be from 2 to 256, got {k}."
        raise ValueError(msg)
    return int(k)


def _clusters(points: Array, mass: Array, k: int, iterations: int) -> Array:
    """Return k centres for points in ascending order."""
    if points.size <= _CELLS:
        return _exact(points, mass, k)
    running = np.cumsum(mass)
    cell = np.minimum((running - mass / 2) / running[-1] * _CELLS, _CELLS - 1).astype(np.int64)
    there, cell = np.unique(cell, return_inverse=True)
    weight = np.bincount(cell, mass)
    centres = _exact(np.bincount(cell, mass * points) / weight, weight, min(k, there.size))
    total = np.concatenate([[0.0], np.cumsum(mass * points)])
    amount = np.concatenate([[0.0], running])
    for _ in range(iterations):
        cuts = np.concatenate([[0], np.searchsorted(points, (centres[:-1] + centres[1:]) / 2, "right"), [points.size]])
        held = np.diff(amount[cuts])
        moved = np.where(held > 0, np.diff(total[cuts]) / np.where(held > 0, held, 1), centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _exact(points: Array, mass: Array, k: int) -> Array:
    """Return the k centres of least squared error for points in ascending order, by dynamic programming."""
    n = points.size
    shifted = points - points[n // 2]  # sums of squares cancel less
    w, s, q = (np.concatenate([[0.0], np.cumsum(mass * shifted**power)]) for power in range(3))
    first, last = np.arange(n)[:, None], np.arange(1, n + 1)[None]  # a cluster of the points first .. last - 1
    weight = np.where(first < last, w[last] - w[first], 1)
    cost = np.maximum(q[last] - q[first] - (s[last] - s[first]) ** 2 / weight, 0)
    cost = np.where(first < last, cost, np.inf)
    least = cost[0]  # of the points before `last`, in one cluster
    begins = np.zeros((k, n), np.int64)
    for used in range(1, k):
        trial = np.concatenate([[np.inf], least[:-1]])[:, None] + cost
        begins[used] = np.argmin(trial, axis=0)
        least = trial[begins[used], np.arange(n)]
    centres, end = np.empty(k), n
    for used in range(k - 1, -1, -1):
        begin = int(begins[used, end - 1])
        centres[used] = np.average(points[begin:end], weights=mass[begin:end])
        end = begin
    return centres
