"""Sums of float64 operands in binary32, each step rounded once: scalar, for the formats that float32 cannot hold."""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.words import fma, restore_float_mode, standard_float_mode

_TINY = 2.0**-250


@inline
def _two_sum(a, b):
    """Return the rounded sum and its exact error."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


@inline
def _odd_sum(a, b):
    """Return a + b rounded to odd in binary64."""
    total, error = _two_sum(a, b)
    bits = np.float64(total).view(np.int64)
    if error != 0.0 and bits & 1 == 0 and np.isfinite(total):
        away = (error > 0.0) == (total > 0.0)
        bits += 1 if away else -1
        return np.int64(bits).view(np.float64)
    return total


@inline
def fma_single(a, b, r):
    """Return a * b + r rounded once to binary32, for float64 a and b and a float32 r.

    The exact product is the sum of two float64 numbers, high + low; the sum of three is rounded to odd, and then to
    binary32 (Boldo and Melquiond, 2008). A product too small to reach a last place of binary32 is replaced by a small
    one of its sign, so that nothing underflows on the way.
    """
    high = a * b
    if not np.isfinite(high) or not np.isfinite(np.float64(r)) or not (np.isfinite(a) and np.isfinite(b)):
        if np.isfinite(a) and np.isfinite(b) and np.isfinite(np.float64(r)):
            return np.float32(high)  # the product alone is beyond binary64, so the sum is beyond binary32
        if np.isfinite(a) and np.isfinite(b):
            return r
        return np.float32(high + np.float64(r))
    if a == 0.0 or b == 0.0:
        return np.float32(high + np.float64(r))
    low = 0.0
    if abs(high) < _TINY:
        high = _TINY if (a > 0.0) == (b > 0.0) else -_TINY
    else:
        low = fma(a, b, -high)
    small, error = _two_sum(np.float64(r), low)
    large, rest = _two_sum(high, small)
    return np.float32(_odd_sum(large, _odd_sum(error, rest)))


@njit()
def dot_rows(a, b, out, first, last):
    """Continue the sums in ``out[first:last]`` by ``a[first:last] @ b``; b is given transposed."""
    found = standard_float_mode()
    for i in range(first, last):
        for j in range(b.shape[0]):
            r = out[i, j]
            for k in range(a.shape[1]):
                r = fma_single(a[i, k], b[j, k], r)
            out[i, j] = r if r == r else np.float32(np.nan)
    restore_float_mode(found)
