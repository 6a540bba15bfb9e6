"""SparseGPT: weights dropped column by column, the error of each spread over those that are left."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec._patterns import SparsityPattern
from lowprec.pruning.masks import chosen
from lowprec.quantizers._compensation import Compensation, factor


class Work(NamedTuple):
    """How the columns are gone through; what the words mean is said by `lowprec.sparsify`."""

    pattern: SparsityPattern
    tiles: str | None
    damp: float
    columns: int
    progress: bool


def compensated(w: Array, hessian: Array, how: Work, mask: Array | None) -> tuple[Array, Array]:
    """Return a weight (outputs, inputs) in float64 with zeros where nothing is kept, and what is kept.

    Groups are decided when their first column's turn comes, by w**2 / U[j, j]**2 of the weight as corrected so far; a
    mask decides beforehand. An input that is 0 in all tokens has no say and goes first.
    """
    upper = factor(hessian, how.damp, purpose="SparseGPT", name="activations")
    alive = np.diag(hessian) > 0
    importance = np.where(alive, np.diag(upper) ** -2.0, 0.0)
    work = Compensation(w.astype(np.float64), upper, how.columns)
    keep = np.zeros(w.shape, bool) if mask is None else mask
    kept = np.empty(w.shape)
    group, inputs = how.pattern.group, w.shape[1]

    def pruned(place: int) -> Array:
        """Return a column with zeros where it is dropped."""
        if mask is None and place % group == 0:
            own = slice(place, min(place + group, inputs))
            keep[:, own] = chosen(work.current(own) ** 2 * importance[own], how.pattern, how.tiles)
        kept[:, place] = np.where(keep[:, place], work.rest[:, place], 0.0)
        return kept[:, place]

    work.run(pruned, "sparsegpt", progress=how.progress)
    return kept, keep
