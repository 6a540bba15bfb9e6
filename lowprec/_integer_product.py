"""Exact products of small integers, with zero points and scales: the driver of the integer kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec._checks import Array


def _words(x: Any) -> Array:
    """Return integers of any storage as int64."""
    array = np.asarray(x)
    return array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.int32).astype(np.int64)


def product(
    a: Array,
    b: Array,
    *,
    zero_a: Any = None,
    zero_b: Any = None,
    start: Array | None = None,
    out: Array | None = None,
    row_scale: Any = None,
    column_scale: Any = None,
    bias: Any = None,
) -> Array:
    """Return ``start + sum over k of (a[i, k] - zero_a[i]) (b[k, j] - zero_b[j])`` modulo 2**32, scaled if asked for.

    With a scale or a bias the result is float32: the sum rounded to float32, times
    ``float32(row_scale[i] * column_scale[j])``, plus ``bias[j]``, each step rounded once to nearest even.
    """
    x, y = _words(a), _words(b)
    if zero_a is not None:
        x = x - _words(zero_a)[..., np.newaxis] if np.ndim(zero_a) else x - int(zero_a)
    if zero_b is not None:
        y = y - (_words(zero_b)[..., np.newaxis, :] if np.ndim(zero_b) else int(zero_b))
    total = np.matmul(x, y)
    if start is not None:
        total = total + np.asarray(start, np.int64)
    sums = total.astype(np.uint32).view(np.int32)
    if row_scale is None and column_scale is None and bias is None:
        if out is None:
            return sums
        out[...] = sums
        return out
    result = sums.astype(np.float32)
    if row_scale is not None or column_scale is not None:
        rows = np.float32(1) if row_scale is None else np.asarray(row_scale, np.float32)
        columns = np.float32(1) if column_scale is None else np.asarray(column_scale, np.float32)
        rows = rows[..., np.newaxis] if np.ndim(rows) else rows
        columns = columns[..., np.newaxis, :] if np.ndim(columns) else columns
        result = result * (rows * columns)
    if bias is not None:
        result = result + np.asarray(bias, np.float32)
    if out is None:
        return np.asarray(result, np.float32)
    out[...] = result
    return out
