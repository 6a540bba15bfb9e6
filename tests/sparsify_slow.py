"""What sparsify means, in plain Python: groups, ties, tiles, Wanda's scores, SparseGPT by the full inverse."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

PATTERNS = {
    "2:4": (2, 4, 1),
    "1:2": (1, 2, 1),
    "4:8": (4, 8, 2),
    "1:4": (1, 4, 1),
    "3:5": (3, 5, 1),
    "7:16": (7, 16, 1),
}


def exact(x: Any) -> Any:
    """Return |x| as a Fraction, or infinity."""
    if isinstance(x, (int, np.integer)):
        return Fraction(abs(int(x)))
    return abs(Fraction(float(x))) if math.isfinite(float(x)) else math.inf


def row_mask(scores: Sequence[Any], pattern: str) -> list[bool]:
    """Keep the largest of each group of a row, the first of equals; runs by their sums."""
    kept, group, run = PATTERNS[pattern]
    mask = [False] * len(scores)
    for begin in range(0, len(scores), group):
        end = min(begin + group, len(scores))
        runs = [range(i, min(i + run, end)) for i in range(begin, end, run)]
        order = sorted(range(len(runs)), key=lambda i: -sum(scores[j] for j in runs[i]))  # stable
        for i in order[: kept // run]:
            for j in runs[i]:
                mask[j] = True
    return mask


def mask(scores: Any, pattern: str, axis: int = -1) -> np.ndarray:
    """Do so along an axis of nested lists of exact scores, an object array."""
    rows = np.moveaxis(np.asarray(scores, object), axis, -1)
    made = [row_mask(list(row), pattern) for row in rows.reshape(-1, rows.shape[-1])]
    return np.moveaxis(np.array(made, bool).reshape(rows.shape), -1, axis)


def magnitude_mask(w: np.ndarray, pattern: str, axis: int = -1) -> np.ndarray:
    """Return the mask by magnitude, exactly."""
    scores = np.empty(w.shape, object)
    scores[...] = np.array([exact(x) for x in w.ravel().tolist()], object).reshape(w.shape)
    return mask(scores, pattern, axis)


def wanda_mask(w: np.ndarray, x: np.ndarray, pattern: str) -> tuple[np.ndarray, bool]:
    """Return the mask of a weight (outputs, inputs) by w**2 * sum(x**2), exactly; "4:8" would need roots."""
    sums = [sum(Fraction(float(v)) ** 2 for v in column) for column in x.T]
    scores = [[Fraction(float(v)) ** 2 * s for v, s in zip(row, sums, strict=True)] for row in w]
    return mask(scores, pattern)


@functools.cache
def tile_patterns() -> list[tuple[tuple[bool, ...], ...]]:
    """Return all 4 x 4 tables with two in each row and column, in lexicographic order of the places kept."""
    rows = [row for row in itertools.product((True, False), repeat=4) if sum(row) == 2]
    return [
        table for table in itertools.product(rows, repeat=4) if all(sum(column) == 2 for column in np.array(table).T)
    ]


def best_tile(tile: Sequence[Sequence[Any]]) -> np.ndarray:
    """Return the first of the best of the 90 patterns."""

    def worth(table: Any) -> Any:
        return sum(tile[r][c] for r in range(4) for c in range(4) if table[r][c])

    return np.array(max(tile_patterns(), key=worth))  # max takes the first of equals


def greedy_tile(tile: Sequence[Sequence[Any]]) -> np.ndarray:
    """Take the largest first, at most two of a row or column."""
    out = np.zeros((4, 4), bool)
    for r, c in sorted(itertools.product(range(4), repeat=2), key=lambda place: -tile[place[0]][place[1]]):
        if out[r].sum() < 2 and out[:, c].sum() < 2:
            out[r, c] = True
    return out


def tiles_mask(scores: np.ndarray, how: str) -> np.ndarray:
    """Return the mask of a matrix whose sizes are multiples of 4."""
    out = np.zeros(scores.shape, bool)
    one = {"best": best_tile, "greedy": greedy_tile}[how]
    for r in range(0, scores.shape[0], 4):
        for c in range(0, scores.shape[1], 4):
            out[r : r + 4, c : c + 4] = one(scores[r : r + 4, c : c + 4].tolist())
    return out


def sparsegpt(
    w: np.ndarray, x: np.ndarray, pattern: str, damp: float, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and mask: one column at a time, each taken out of the inverse Hessian by elimination (OBS)."""
    group = PATTERNS[pattern][1]
    h = 2 * x.T.astype(np.float64) @ x.astype(np.float64)
    dead = np.diag(h) == 0
    h = h + damp * np.diag(h).mean() * np.eye(len(h)) + np.diag(dead.astype(float))
    inverses = [np.linalg.inv(h)]
    for j in range(len(h)):  # inverse j is that of the Hessian of the inputs from j on
        last = inverses[-1]
        inverses.append(last - np.outer(last[:, j], last[j]) / last[j, j])
    pivots = np.array([inverses[j][j, j] for j in range(len(h))])
    rest = w.astype(np.float64)
    keep = np.zeros(w.shape, bool) if given is None else given
    for j in range(len(h)):
        if given is None and j % group == 0:
            own = slice(j, j + group)
            scores = np.where(dead[own], 0.0, rest[:, own] ** 2 / pivots[own])
            keep[:, own] = mask(scores, pattern)
        wrong = np.where(keep[:, j], 0.0, rest[:, j]) / inverses[j][j, j]
        rest[:, j:] -= np.outer(wrong, inverses[j][j, j:])
        rest[~keep[:, j], j] = 0
    return rest, keep
