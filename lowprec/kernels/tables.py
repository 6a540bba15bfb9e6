"""Numbers to the codes of a table: how many midpoints lie below each."""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.words import full_width

RUN = 2048


@njit()
def count_below(x, midpoints, order, out):
    """Write ``order[number of midpoints below x[i]]``; midpoints ascend and are at most 255, and of the dtype of x."""
    full_width()
    counts = np.empty(RUN, np.uint8)
    for first in range(0, x.size, RUN):
        count = min(RUN, x.size - first)
        for i in range(count):
            counts[i] = 0
        for m in range(midpoints.size):
            limit = midpoints[m]
            for i in range(count):
                counts[i] += np.uint8(x[first + i] > limit)
        for i in range(count):
            out[first + i] = order[counts[i]]
