"""Matrices transposed, a block that fits in the cache at a time."""

from __future__ import annotations

from lowprec._jit import njit
from lowprec.kernels.words import transpose_8x8

_BLOCK = 64  # rows and columns


@njit()
def transpose_into(source, target, first, last):
    """Write rows ``first`` to ``last`` of a matrix, whose columns are adjacent, to columns of another one."""
    rows, columns = last - first, source.shape[1]
    item = source.itemsize
    step, other = source.strides[0], target.strides[0]
    for top in range(0, rows, _BLOCK):
        for left in range(0, columns, _BLOCK):
            bottom, right = min(rows, top + _BLOCK), min(columns, left + _BLOCK)
            whole_rows, whole_columns = top + (bottom - top) // 8 * 8, left + (right - left) // 8 * 8
            for i in range(top, whole_rows, 8):
                for j in range(left, whole_columns, 8):
                    at = source.ctypes.data + (first + i) * step + j * item
                    to = target.ctypes.data + j * other + (first + i) * item
                    transpose_8x8(at, step, to, other, source[0, 0])
            for i in range(top, bottom):
                for j in range(left if i >= whole_rows else whole_columns, right):
                    target[j, first + i] = source[first + i, j]
