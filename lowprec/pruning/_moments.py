"""What calibration tells a criterion: sums over tokens of the squares, or of the products, of a layer's inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._observer import finite
from lowprec.quantizers._settings import activations_of

_SYMMETRIC = 1e-6  # what rounding may make of a symmetric matrix, as a share of its largest element


def batches(activations: Any, inputs: int) -> Iterator[Array]:
    """Yield the tokens of an array, or of each array of an iterable, as (tokens, inputs)."""
    listed = isinstance(activations, (list, tuple)) and any(hasattr(each, "__array__") for each in activations)
    lazy = isinstance(activations, Iterable) and not isinstance(activations, (list, tuple, str, bytes))
    if listed or (lazy and not hasattr(activations, "__array__")):
        for each in activations:
            yield activations_of(each, inputs, "activations")
    else:
        yield activations_of(activations, inputs, "activations")


def moments(activations: Any, hessian: Any, inputs: int, criterion: str, *, full: bool) -> Array:
    """Return sums of squares (inputs,), or of products (inputs, inputs), in float64; any multiple for a `hessian`."""
    if (activations is None) == (hessian is None):
        both = "neither" if hessian is None else "both"
        msg = (
            f'`activations` or `hessian` must be given, one of them, with criterion="{criterion}", got {both}; pass '
            f"what goes into the layer, shape (tokens, {inputs})."
        )
        raise ValueError(msg)
    if hessian is not None:
        return _given(hessian, inputs, full=full)
    total: Array = np.zeros((inputs, inputs) if full else inputs)
    seen = 0
    for batch in batches(activations, inputs):
        wide = batch.astype(np.float64, copy=False)
        total += wide.T @ wide if full else np.einsum("ij,ij->j", wide, wide)
        seen += len(batch)
    if not seen:
        msg = "`activations` must hold one token of calibration data or more, got no batch."
        raise ValueError(msg)
    if not np.isfinite(total).all():
        msg = "`activations` must have squares that add up to a finite number in float64, got too large ones."
        raise ValueError(msg)
    return total


def _given(hessian: Any, inputs: int, *, full: bool) -> Array:
    """Check sums that were taken elsewhere."""
    values = finite(hessian, "hessian").astype(np.float64)
    shapes = [(inputs, inputs)] if full else [(inputs, inputs), (inputs,)]
    if values.shape not in shapes:
        rule = " or ".join(str(shape) for shape in shapes)
        msg = f"`hessian` must have shape {rule}, as `w` has {inputs} inputs, got {values.shape}."
        raise ValueError(msg)
    diagonal = values if values.ndim == 1 else np.diag(values)
    if (diagonal < 0).any():
        place = int(np.argmax(diagonal < 0))
        msg = f"`hessian` must have no negative sum of squares, got {diagonal[place]} for input {place}."
        raise ValueError(msg)
    if full and values.size and np.abs(values - values.T).max() > _SYMMETRIC * np.abs(values).max():
        msg = "`hessian` must be symmetric, the sums of x.T @ x, got a matrix that is not."
        raise ValueError(msg)
    return values if full or values.ndim == 1 else np.asarray(diagonal)
