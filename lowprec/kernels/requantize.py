"""Sums of integers become codes: a multiplication by a scale and one rounding, or two, for each.

``acc`` holds int32 or int64 in C order as (rows, columns), ``out`` integers alike. A scale is the integer ``q`` with
the shifts ``left`` and ``right``, or the float ``f``. There is one for each row where ``by_row`` is true, taken in
turn, and else one for each column.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.words import fma, full_width

DOUBLE, HALF_UP, SINGLE, EVEN_32, AWAY_64, EXACT = range(6)


@inline
def _high_product(a, q, left):
    """Return (2 * a * q) >> 32, rounded half up; a is shifted first, in 32 bits, where it wraps."""
    a = np.int64(np.int32(np.int64(a) << left))
    return (a * q + (1 << 30)) >> 31


@inline
def _twice(a, q, left, right):
    """Round the product half up to 32 bits, then half away from zero."""
    d = _high_product(a, q, left)
    half = (np.int64(1) << right) >> 1
    return (d + half - (1 if (d < 0) & (right > 0) else 0)) >> right


@inline
def _half_up(a, q, left, right):
    """Round the product half up to 32 bits, then half up."""
    return (_high_product(a, q, left) + ((np.int64(1) << right) >> 1)) >> right


@inline
def _once(a, q, left, right):  # noqa: ARG001 - the signature of its siblings
    """Round the product half up, once."""
    return (np.int64(a) * q + ((np.int64(1) << right) >> 1)) >> right


@inline
def _even_32(a, f):
    """Round the float32 product half to even."""
    return np.float64(np.rint(np.float32(a) * np.float32(f)))


@inline
def _away_64(a, f):
    """Round the float64 product half away from zero."""
    y = np.float64(a) * f
    whole = np.trunc(y)
    return whole + (np.copysign(1.0, y) if abs(y - whole) >= 0.5 else 0.0)


@inline
def _exact(a, f):
    """Round the product half to even; only where float64 has put it on a tie is its own rounding to be undone."""
    x = np.float64(a)
    y = x * f
    whole = np.rint(y)
    rest = y - whole
    if abs(rest) == 0.5:
        error = fma(x, f, -y)
        if error * rest > 0:
            whole += 2 * rest
    return whole


@inline
def _fixed(rule, a, q, left, right):
    """Choose among the fixed-point rules; the loops below are compiled for each."""
    if rule == DOUBLE:
        return _twice(a, q, left, right)
    if rule == HALF_UP:
        return _half_up(a, q, left, right)
    return _once(a, q, left, right)


@inline
def _float(rule, a, f):
    """Choose among the floating-point rules."""
    if rule == EVEN_32:
        return _even_32(a, f)
    if rule == AWAY_64:
        return _away_64(a, f)
    return _exact(a, f)


@njit()
def fixed(acc, out, rule, q, left, right, by_row, first, zero, low, high):
    """Apply a fixed-point rule to rows of which the first is number ``first``."""
    full_width()
    for i in range(acc.shape[0]):
        x, y = acc[i], out[i]
        if by_row:
            k = (first + i) % q.size
            m, u, v = q[k], left[k], right[k]
            for j in range(x.size):
                y[j] = min(max(_fixed(rule, x[j], m, u, v) + zero, low), high)
        else:
            for j in range(x.size):
                y[j] = min(max(_fixed(rule, x[j], q[j], left[j], right[j]) + zero, low), high)


@njit()
def floating(acc, out, rule, f, by_row, first, zero, low, high):
    """Apply a floating-point rule; ``zero``, ``low`` and ``high`` are floats, too."""
    full_width()
    for i in range(acc.shape[0]):
        x, y = acc[i], out[i]
        if by_row:
            scale = f[(first + i) % f.size]
            for j in range(x.size):
                y[j] = np.int64(min(max(_float(rule, x[j], scale) + zero, low), high))
        else:
            for j in range(x.size):
                y[j] = np.int64(min(max(_float(rule, x[j], f[j]) + zero, low), high))
