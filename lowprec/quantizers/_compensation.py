"""Columns of a weight changed one after the other, the error of each spread over those that are left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lowprec._checks import Array
from lowprec._extras import require
from lowprec.quantizers._settings import EXTRA, bar


def factor(hessian: Array, damp: float, *, purpose: str = "GPTQ", name: str = "x") -> Array:
    """Return U, upper triangular, with U^T U the inverse of the damped Hessian."""
    linalg = require("scipy.linalg", purpose, EXTRA)
    diagonal = np.diag(hessian)
    dead = diagonal == 0
    added = damp * diagonal.mean() + np.where(dead, 1.0, 0.0)
    turned = (hessian + np.diag(added))[::-1, ::-1]
    try:
        lower = linalg.cholesky(turned, lower=True)
    except linalg.LinAlgError:
        lower = np.zeros((1, 1))
    if not (np.diag(lower) > 0).all():
        msg = f"`damp` must make the Hessian of `{name}` positive definite, got {damp}; raise it, or give more tokens."
        raise ValueError(msg)
    inverse = linalg.solve_triangular(lower[::-1, ::-1], np.eye(len(lower)), lower=False)
    return np.asarray(inverse)


class Compensation:
    """A weight at work: `rest` (outputs, inputs) in float64, of which the columns that are left take up errors.

    With e = (column j - what it becomes) / U[j, j], e U[j, k] is taken from each later column k: at once from those of
    the `step` columns at work, and from all others when these are through.
    """

    def __init__(self, rest: Array, upper: Array, step: int) -> None:
        self.rest, self._upper, self._step = rest, upper, step
        self._begin = self._end = self._place = 0
        self._errors = np.empty((len(rest), 0))

    def current(self, columns: slice) -> Array:
        """Return columns from the one at work on, which may reach beyond those that have seen all errors yet."""
        begin, end, place = self._begin, self._end, self._place
        if columns.stop <= end:
            return self.rest[:, columns]
        seen = self._errors[:, : place - begin] @ self._upper[begin:place, end : columns.stop]
        return np.concatenate([self.rest[:, columns.start : end], self.rest[:, end : columns.stop] - seen], axis=1)

    def run(self, change: Callable[[int], Array], name: str, *, progress: bool) -> None:
        """Go through the columns; ``change(place)`` returns what the column at a place becomes."""
        rest, upper, inputs = self.rest, self._upper, len(self._upper)
        begins = range(0, inputs, self._step)
        for begin in bar(begins, name, len(begins), progress=progress):
            end = min(begin + self._step, inputs)
            errors = self._errors = np.empty((len(rest), end - begin))
            self._begin, self._end = begin, end
            for place in range(begin, end):
                self._place = place
                errors[:, place - begin] = (rest[:, place] - change(place)) / upper[place, place]
                rest[:, place + 1 : end] -= np.outer(errors[:, place - begin], upper[place, place + 1 : end])
            rest[:, end:] -= errors @ upper[begin:end, end:]
