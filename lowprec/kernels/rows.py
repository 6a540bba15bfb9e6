"""Sums along rows: ``r = fma(a[i, k], b[i, k], r)`` for k ascending, sixteen rows side by side."""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.mixed import fma_single
from lowprec.kernels.words import fma, full_width, restore_float_mode, standard_float_mode

_ROWS = 16
_BLOCK = 64


@njit()
def vecdot_rows(a, b, out, nan):
    """Continue the sums in ``out`` by the products of a's and b's rows, in the dtype that all three share."""
    full_width()
    found = standard_float_mode()
    count = a.shape[1]
    x = np.empty((_BLOCK, _ROWS), a.dtype)
    y = np.empty((_BLOCK, _ROWS), a.dtype)
    sums = np.empty(_ROWS, a.dtype)
    for first in range(0, a.shape[0], _ROWS):
        height = min(_ROWS, a.shape[0] - first)
        sums[:] = 0
        sums[:height] = out[first : first + height]
        x[:, :] = 0
        y[:, :] = 0
        for start in range(0, count, _BLOCK):
            length = min(_BLOCK, count - start)
            for i in range(height):
                for k in range(length):
                    x[k, i] = a[first + i, start + k]
                    y[k, i] = b[first + i, start + k]
            for k in range(length):
                for i in range(_ROWS):
                    sums[i] = fma(x[k, i], y[k, i], sums[i])
        for i in range(height):
            out[first + i] = sums[i] if sums[i] == sums[i] else nan
    restore_float_mode(found)


@njit()
def vecdot_mixed(a, b, out, nan):
    """Continue the binary32 sums in ``out`` by the products of float64 rows."""
    found = standard_float_mode()
    for i in range(a.shape[0]):
        r = out[i]
        for k in range(a.shape[1]):
            r = fma_single(a[i, k], b[i, k], r)
        out[i] = r if r == r else nan
    restore_float_mode(found)
