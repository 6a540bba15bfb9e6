"""Products of numbers in blocks of K with a scale for each, in one pass of the product's own kernels."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from lowprec import _jit, _product
from lowprec._checks import Array
from lowprec._plan import Plan, lanes, make_plan
from lowprec.kernels import scaled_tile, tile

_SINGLE = np.dtype(np.float32)


@lru_cache(maxsize=64)
def _plan(block: int) -> Plan:
    """Return the plan of a float32 product whose kernel takes a block of k and a line of scales at a time."""
    base = make_plan(None, None, None, "nearest_even", None, "keep", 32, _SINGLE, _SINGLE)
    plan = replace(base)
    made = _jit.address(scaled_tile.TILES[lanes()], tile.SIGNATURE)
    plan.__dict__["kernels"] = base.kernels._replace(tile=made, k_block=block + 1)
    return plan


def multiply(a: Array, b: Array, rows: Array, columns: Array, block: int, out: Array, fresh: bool) -> None:
    """Continue ``out = fma(sum over a block, rows[i, t] * columns[t, j], out)`` for all blocks t of K, ascending.

    ``a`` (..., M, K) and ``b`` (..., K, N) are float32, as are the scales, (..., M or 1, blocks) and (..., blocks,
    N or 1); ``out`` is C-contiguous, and starts at +0 if ``fresh``. Sums are fused multiply-adds from +0.
    """
    (m, k), n = a.shape[-2:], b.shape[-1]
    count, whole = -(-k // block), k // block
    # The last block is filled up with -0 on one side and +0 on the other, which leave every sum as it is, -0 as well.
    left = np.empty((*a.shape[:-2], m, count, block + 1), np.float32)
    right = np.empty((*b.shape[:-2], count, block + 1, n), np.float32)
    left[..., :whole, :block] = a[..., : whole * block].reshape(*a.shape[:-1], whole, block)
    right[..., :whole, :block, :] = b[..., : whole * block, :].reshape(*b.shape[:-2], whole, block, n)
    if whole < count:
        rest = k - whole * block
        left[..., whole, :rest], left[..., whole, rest:block] = a[..., whole * block :], -0.0
        right[..., whole, :rest, :], right[..., whole, rest:block, :] = b[..., whole * block :, :], 0.0
    left[..., block] = rows
    right[..., block, :] = columns
    deep = count * (block + 1)
    whole_left, whole_right = left.reshape(*a.shape[:-2], m, deep), right.reshape(*b.shape[:-2], deep, n)
    _product.multiply(whole_left, whole_right, out, _plan(block), None if fresh else out)
