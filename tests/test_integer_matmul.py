"""Exact products of integers: every pairing of formats, zero points, scales, against plain Python and NumPy integers."""

from __future__ import annotations

import numpy as np

from lowprec._integer_product import product


def test_product_first() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (5, 9), np.int8), rng.integers(0, 256, (9, 4), np.uint8)
    want = (a.astype(np.int64) - 3) @ (b.astype(np.int64) - 7)
    assert np.array_equal(product(a, b, zero_a=3, zero_b=7), want)
