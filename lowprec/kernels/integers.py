"""Sums of integer products that wrap or saturate: a `Strip` kernel. Operands are int32, sums int64 in range."""

from __future__ import annotations

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.strip import COLUMNS, parameters, strip
from lowprec.kernels.words import at_address, full_width


@inline
def _integers(address, count, item):
    return numba.carray(at_address(address), count, item)


def integer(job):
    """Continue sums: blocks added exactly, then wrapped to ``bits``, or cut to the range."""
    full_width()
    j, p = strip(job), parameters(job)
    length, saturate, bits, signed = p[0], p[1], p[2], p[3]
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    mask, sign = (1 << bits) - 1, (1 << (bits - 1)) if signed else 0
    block = length if saturate else j.k
    sums = np.empty(COLUMNS, np.int64)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = _integers(j.c + (i * j.c_step + left) * 8, width, np.int64)
            a = _integers(j.a + i * j.a_step * 4, j.k, np.int32)
            for n in range(width):
                sums[n] = c[n]
            for first in range(0, j.k, block):
                for k in range(first, min(first + block, j.k)):
                    b = _integers(j.b + (k * j.b_step + left) * 4, width, np.int32)
                    x = np.int64(a[k])
                    for n in range(width):
                        sums[n] += x * np.int64(b[n])
                for n in range(width):
                    if saturate:
                        sums[n] = min(max(sums[n], low), high)
                    else:
                        sums[n] = ((sums[n] & mask) ^ sign) - sign
            for n in range(width):
                c[n] = sums[n]
