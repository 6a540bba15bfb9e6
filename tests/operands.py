"""Operands that matter for a sum of products: cancelling, tying, subnormal, overflowing, infinite, NaN-bearing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import lowprec as lp

Array = np.ndarray[Any, Any]


def _normal(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    return rng.standard_normal((m, k)), rng.standard_normal((k, n))


def _cancelling(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    a, b = _normal(rng, m, k, n)
    a, b = a * 2.0 ** rng.integers(-12, 13, (1, k)), b * 2.0 ** rng.integers(-12, 13, (k, 1))
    half = k // 2
    back = rng.permutation(half) + k - half
    a[:, back], b[back] = -a[:, :half], b[:half]
    return a, b


def _powers(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    """Signed powers of two and three times powers of two, whose sums tie again and again."""

    def draw(shape: tuple[int, int]) -> Array:
        return rng.choice([-1.0, 1.0, 1.5], shape) * 2.0 ** rng.integers(-13, 13, shape)

    return draw((m, k)), draw((k, n))


def _traps(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    """Leave sums 2**-46 off a tie by products of 48 bits: float64 on the way to float32 rounds twice."""
    a, b = np.ones(k, np.float32), np.ones(k, np.float32)
    r = np.float32(0)
    for i in range(k):
        if i % 2 == 0:
            odd = np.float32(1 + 2.0**-23 * (2 * rng.integers(0, 2**22) + 1))
            a[i], r = odd - r, odd
        else:  # r -+ ulp / 2 * (1 - 2**-46) rounds to r, and the tie would go to the even neighbour
            a[i] = 2.0**-24 * (1 + 2.0**-23)
            b[i] = rng.choice([-1, 1]) * (1 - 2.0**-23)
    return a * 2.0 ** rng.integers(-9, 9, (m, 1)), b[:, None] * rng.choice([-1.0, 1.0, 8.0], n)


def _zeros(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    values = [0.0, -0.0, 1.0, -1.0, 2.0**-75, -(2.0**-75)]
    return rng.choice(values, (m, k)), rng.choice(values, (k, n))


def _sprinkled(rng: np.random.Generator, m: int, k: int, n: int, values: Any, share: float) -> tuple[Array, Array]:
    a, b = (np.float32(x) for x in _normal(rng, m, k, n))
    for x in (a, b):
        hit = rng.random(x.shape) < share
        x[hit] = rng.choice(values, hit.sum())
    return a, b


def _bits(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    a, b = (rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32) for shape in ((m, k), (k, n)))
    return a, b


def _subnormal(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    a, b = _normal(rng, m, k, n)
    return a * 2.0**-70, b * 2.0 ** rng.integers(-79, -59, (k, n))


def _tiny(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    """Subnormal float32 times numbers around 1."""
    patterns = rng.integers(0, 2**23, (m, k), dtype=np.uint32) | (rng.integers(0, 2, (m, k), dtype=np.uint32) << 31)
    return patterns.view(np.float32), rng.standard_normal((k, n))


def _overflowing(rng: np.random.Generator, m: int, k: int, n: int) -> tuple[Array, Array]:
    a, b = _normal(rng, m, k, n)
    return a * 2.0**63, b * 2.0**62


_ODD_NANS = np.array([0x7F800001, 0xFFC12345, 0x7FFFFFFF, 0xFF80FFFF], np.uint32).view(np.float32)
KINDS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "normal": _normal,
    "cancelling": _cancelling,
    "powers": _powers,
    "traps": _traps,
    "zeros": _zeros,
    "subnormal": _subnormal,
    "tiny": _tiny,
    "overflowing": _overflowing,
    "infinite": functools.partial(_sprinkled, values=np.float32([np.inf, -np.inf, 0.0]), share=0.02),
    "nan": functools.partial(_sprinkled, values=_ODD_NANS, share=0.02),
    "bits": _bits,
}


def operands(kind: str, m: int, k: int, n: int, seed: int = 0) -> tuple[Array, Array]:
    """Return float32 operands of one kind, the same for the same arguments."""
    rng = np.random.default_rng([seed, m, k, n, list(KINDS).index(kind)])
    with np.errstate(all="ignore"):
        a, b = KINDS[kind](rng, m, k, n)
        return np.float32(a), np.float32(b)


def without_nan(x: Array, fmt: Any) -> Array:
    """Return ``x`` with NaN replaced by 1 where the format ``fmt`` holds none."""
    return x if lp.format(fmt).has_nan else np.where(np.isnan(x), x.dtype.type(1), x)


def random_values(fmt: Any, shape: tuple[int, ...], seed: int = 0, special: bool = True) -> Array:
    """Return an array of the format's storage dtype that holds random codes (random patterns, specials included)."""
    fmt = lp.format(fmt)
    rng = np.random.default_rng([seed, *shape])
    codes = rng.integers(0, 2**fmt.bits, shape, dtype=np.uint64).astype(fmt.code_dtype)
    if not special:
        magnitudes = codes & fmt.code_dtype.type(2**fmt.magnitude_bits - 1)
        codes = np.where(magnitudes > fmt.max_code, fmt.code_dtype.type(1), codes)
        if not fmt.has_negative_zero and fmt.is_signed:
            codes = np.where(codes == 1 << fmt.magnitude_bits, fmt.code_dtype.type(1), codes)
    if fmt.name == "tf32":
        codes <<= 13
    return codes.view(fmt.storage_dtype)
