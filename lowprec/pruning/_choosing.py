"""What is kept of an array: the arguments of `sparsify` and `sparsity_mask`, checked, and the mask they ask for."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec._observer import finite, integer
from lowprec._patterns import SparsityPattern
from lowprec.arrays import QuantizedArray
from lowprec.pruning import _wanda
from lowprec.pruning._moments import moments
from lowprec.pruning.masks import Score, magnitudes, mask_of, numbers_of
from lowprec.sparse_arrays import Sparse24

FOURS = SparsityPattern(2, 4)
_CRITERIA = ("magnitude", "wanda", "sparsegpt")
_TILES = ("greedy", "best")


class Choice(NamedTuple):
    """How what is kept is chosen: the arguments that both functions share, checked."""

    pattern: SparsityPattern
    axis: int
    criterion: str  # one of `_CRITERIA`, or "scores"
    scores: Array | None
    activations: Any
    hessian: Any
    tiles: str | None


def choice_of(
    w: Any, pattern: SparsityPattern, axis: Any, criterion: Any, activations: Any, hessian: Any, tiles: Any
) -> Choice:
    """Check what does not depend on the numbers."""
    if isinstance(w, Sparse24):
        msg = f"`w` must be dense, got {w!r}; pass .to_dense()."
        raise TypeError(msg)
    shape = w.shape if isinstance(w, QuantizedArray) else np.shape(w)
    if not shape:
        msg = "`w` must have one axis or more, got a scalar."
        raise ValueError(msg)
    along = integer(axis, "axis")
    if not -len(shape) <= along < len(shape):
        msg = f"`axis` must be from {-len(shape)} to {len(shape) - 1} for `w` of shape {shape}, got {axis}."
        raise ValueError(msg)
    scores = None
    if not isinstance(criterion, str):
        scores = _scores(criterion, shape)
    elif criterion not in _CRITERIA:
        close = difflib.get_close_matches(criterion.lower(), _CRITERIA, n=1)
        hint = f"; the closest: {close[0]!r}." if close else "."
        msg = f"`criterion` must be one of {', '.join(_CRITERIA)}, or scores, got {criterion!r}{hint}"
        raise ValueError(msg)
    name = criterion if scores is None else "scores"
    if name in ("magnitude", "scores") and not (activations is None and hessian is None):
        given = "hessian" if activations is None else "activations"
        used = 'criterion="magnitude"' if scores is None else "scores in `criterion`"
        msg = f'`{given}` must be left out with {used}, which does not use it; write criterion="wanda" or "sparsegpt".'
        raise ValueError(msg)
    how = Choice(pattern, along % len(shape), name, scores, activations, hessian, tiles)
    _check_tiles(how, len(shape))
    return how


def _scores(criterion: Any, shape: tuple[int, ...]) -> Array:
    """Check a user's own scores."""
    if criterion is None or isinstance(criterion, (bool, dict)):
        msg = f"`criterion` must be one of {', '.join(_CRITERIA)}, or an array of scores, got {criterion!r}."
        raise TypeError(msg)
    scores = numbers_of(criterion, "criterion") if np.ndim(criterion) else np.asarray(criterion)
    if scores.shape != shape:
        msg = f"`criterion` must have the shape of `w`, {shape}, where it is scores, got {scores.shape}."
        raise ValueError(msg)
    return scores.astype(np.float64)


def _check_tiles(how: Choice, axes: int) -> None:
    """Check that masks for both axes can be made."""
    if how.tiles is None:
        return
    if not isinstance(how.tiles, str):
        msg = f'`transposable` must be None, "greedy" or "best", got {how.tiles!r}.'
        raise TypeError(msg)
    if how.tiles not in _TILES:
        msg = f'`transposable` must be None, "greedy" or "best", got {how.tiles!r}.'
        raise ValueError(msg)
    if how.pattern != FOURS:
        msg = f'`transposable` must be None for "{how.pattern}", because tiles are 2:4 both ways, got {how.tiles!r}.'
        raise ValueError(msg)
    if axes < 2 or how.axis < axes - 2:
        msg = f"`axis` must be one of the last two with `transposable`, got axis {how.axis} of {axes}."
        raise ValueError(msg)


def mask_for(w: Any, how: Choice) -> Array:
    """Return what is kept of an array, of its shape."""
    adds = how.tiles is not None or how.pattern.run > 1
    numbers = numbers_of(w, "w")
    if how.criterion == "wanda" or (how.tiles is not None and how.scores is None):
        finite(numbers, "w")
    if how.scores is not None and adds:
        finite(how.scores, "criterion")
        if how.tiles is not None and (how.scores < 0).any():
            msg = f"`criterion` must hold scores of 0 or more with `transposable`, got {how.scores.min()}."
            raise ValueError(msg)
    ranked = numbers if how.scores is None else how.scores
    norm = None
    if how.criterion == "wanda":
        inputs = numbers.shape[how.axis]
        norm = _wanda.norms(moments(how.activations, how.hessian, inputs, how.criterion, full=False))
    # Tiles lie the same way whatever the axis, so that both directions have the same mask.
    last = ranked.ndim - 1 if how.tiles is not None else how.axis
    rows = np.moveaxis(ranked, last, -1)
    if norm is not None and last != how.axis:
        norm = norm[:, None]
    out = np.empty(rows.shape, bool)
    matrix = (-1, *rows.shape[-2:]) if how.tiles is not None else (1, -1, rows.shape[-1])
    if rows.size:
        flat = rows.reshape(matrix)
        made = [mask_of(_ranking(each, how, norm), each.shape, how.pattern, how.tiles) for each in flat]
        out[...] = np.stack(made).reshape(rows.shape)
    return np.ascontiguousarray(np.moveaxis(out, -1, last))


def _ranking(rows: Array, how: Choice, norm: Array | None) -> Score:
    """Return what gives the scores of some rows of a matrix."""
    if how.scores is not None:
        return lambda part: rows[part]
    if norm is None:
        return lambda part: magnitudes(rows[part])
    column = norm.ndim > 1
    return lambda part: _wanda.scores(rows[part], norm[part] if column else norm)
