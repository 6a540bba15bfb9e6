"""Wanda: weights ranked by how much of the output they carry."""

from __future__ import annotations

import numpy as np

from lowprec._checks import Array
from lowprec.pruning.masks import magnitudes


def norms(squares: Array) -> Array:
    """Return the norm of each input over tokens: the root of its sum of squares, in float64."""
    return np.sqrt(squares)


def scores(w: Array, norm: Array) -> Array:
    """Return |w| times the norm of the input that it multiplies, for rows of weights, in float64."""
    return magnitudes(w).astype(np.float64) * norm
