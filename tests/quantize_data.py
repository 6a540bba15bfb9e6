"""Float32 data for comparing quantisers: plain, rich in ties, and spread over many binades."""

from __future__ import annotations

import numpy as np


def blocks(rng: np.random.Generator, count: int, size: int, *, spread: int = 60) -> np.ndarray:
    """Return ``count`` blocks: a quarter normal, two quarters of short numbers (ties), a quarter of all magnitudes."""
    n = count // 4
    normal = rng.standard_normal((n, size))
    eighths = np.ldexp(rng.integers(-64, 65, (n, size)), -3)
    short = np.ldexp(rng.integers(-31, 32, (n, size)), rng.integers(-6, 7, (n, 1)))
    wide = rng.standard_normal((n, size)) * np.exp2(rng.integers(-spread, spread, (n, 1)))
    return np.concatenate([normal, eighths, short, wide]).astype(np.float32)


def around(tops: list[float], rng: np.random.Generator, size: int, exponents: range) -> np.ndarray:
    """Return blocks whose largest magnitude is one of ``tops`` times a power of two, or a neighbour of it."""
    rows = []
    for e in exponents:
        for top in tops:
            middle = np.float32(np.ldexp(top, e))
            for value in (np.nextafter(middle, np.float32(0)), middle, np.nextafter(middle, np.float32(np.inf))):
                row = rng.uniform(-0.9, 0.9, size) * float(value)
                row[rng.integers(size)] = -value
                rows.append(row)
    return np.array(rows, np.float32)
