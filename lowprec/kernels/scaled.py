"""Sums of blocks added up with their scales."""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.words import fma, full_width


@njit()
def scaled_add(part, rows, columns, total):
    """Continue ``total = fma(part, rows[i] * columns[j], total)``, all of one float dtype; scales are vectors."""
    full_width()
    for i in range(part.shape[0]):
        scale = rows[i]
        for j in range(part.shape[1]):
            total[i, j] = fma(part[i, j], scale * columns[j], total[i, j])


@njit()
def scaled_add_integers(part, rows, columns, total):
    """Do the same with int32 sums, rounded to float32 first."""
    full_width()
    for i in range(part.shape[0]):
        scale = rows[i]
        for j in range(part.shape[1]):
            total[i, j] = fma(np.float32(part[i, j]), scale * columns[j], total[i, j])
