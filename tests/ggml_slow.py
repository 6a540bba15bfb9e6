"""GGML's quantisers for one block, in fractions rounded to float32 after every operation; data that matters."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lowprec import reference

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6)


def f32(x: Fraction | float) -> Fraction:
    """Round to float32."""
    return Fraction(reference.round_to(Fraction(x), "float32"))


def farthest(x: list[Fraction]) -> Fraction:
    """Return the first of the numbers farthest from 0."""
    return max(x, key=abs)


def inverse(d: Fraction) -> Fraction:
    """Return 1/d in float32, 0 where there is none."""
    return Fraction(0) if d == 0 or abs(1 / d) >= 2**128 else f32(1 / d)


def quantize(numbers: list[float], name: str) -> tuple[list[int], Fraction, Fraction | None]:
    """Return codes, the float32 scale, and the minimum."""
    x = [Fraction(v) for v in numbers]
    if name == "q8_0":
        d = f32(max(map(abs, x)) / 127)
        quotients = [f32(v * inverse(d)) for v in x]
        return [int(math.copysign(math.floor(abs(q) + Fraction(1, 2)), q)) % 256 for q in quotients], d, None
    if name in ("q4_0", "q5_0"):
        half = 8 if name == "q4_0" else 16
        d = f32(farthest(x) / -half)
        return [min(int(f32(f32(v * inverse(d)) + half + Fraction(1, 2))), 2 * half - 1) for v in x], d, None
    if name in ("q4_1", "q5_1"):
        last = 15 if name == "q4_1" else 31
        d = f32(f32(max(x) - min(x)) / last)
        shifted = [f32(f32(f32(v - min(x)) * inverse(d)) + Fraction(1, 2)) for v in x]
        return [min(int(v), last) for v in shifted], d, min(x)
    if name == "mxfp4":
        largest = max(map(abs, x))
        e = max(math.floor(f32(math.log2(largest))) - 2, -127) if largest else -127
        table = [Fraction(v) * Fraction(2) ** e for v in E2M1]
        return [min(range(16), key=lambda c: (abs(table[c] - v), c)) for v in x], Fraction(2) ** e, None
    return (*_iq4_nl(x), None)


def _nearest(v: Fraction) -> int:
    """Return the code of the nearest of IQ4_NL's values, of two the larger, the distances rounded to float32."""
    lower = max((c for c in range(16) if IQ4[c] <= v), default=0)
    return min({lower, min(lower + 1, 15)}, key=lambda c: (f32(abs(IQ4[c] - v)), -c))


def _iq4_nl(x: list[Fraction]) -> tuple[list[int], Fraction]:
    most = farthest(x)
    if abs(most) < f32(Fraction(1, 10**15)):
        return [8] * len(x), Fraction(0)
    weights = [f32(v * v) for v in x]
    d = best = Fraction(0)
    for attempt in (None, *range(-7, 8)):
        by = f32(1 / f32(-most / IQ4[0])) if attempt is None else f32(Fraction(attempt + IQ4[0]) / most)
        with_x = with_q = Fraction(0)
        for v, w in zip(x, weights, strict=True):
            q = IQ4[_nearest(f32(by * v))]
            with_x = f32(with_x + f32(f32(w * q) * v))
            with_q = f32(with_q + f32(f32(w * q) * q))
        if attempt is None or (with_q > 0 and f32(with_x * with_x) > f32(best * with_q)):
            d = f32(with_x / with_q) if with_q > 0 else Fraction(0)
            best = f32(d * with_x)
    return [_nearest(f32(inverse(d) * v)) for v in x], d


def blocks(count: int = 8192) -> dict[str, np.ndarray]:
    """Return blocks of 32, the same with every version of NumPy: wide, of ties, with single large numbers."""
    raw = np.random.PCG64(20250611).random_raw(4 * 32 * count).reshape(4, count, 32)
    whole = (raw[0] >> np.uint64(40)).astype(np.int64) - (1 << 23)
    exponents = (raw[1] >> np.uint64(59)).astype(np.int64)
    wide = np.ldexp(whole.astype(np.float32), (exponents - 44).astype(np.int32))
    even = np.ldexp(whole.astype(np.float32), np.int32(-23))
    ties = ((raw[2] >> np.uint64(59)).astype(np.int64) - 16).astype(np.float32) * np.float32(0.5)
    ties[::3, 5] = -8.0  # a scale of 1 in Q4_0
    ties[1::3, 7] = 127.0  # a scale of 1 in Q8_0 and IQ4_NL
    single = even * np.float32(2.0**-6)
    single[np.arange(count), (raw[3, :, 0] >> np.uint64(59)).astype(np.int64)] *= np.float32(2.0**11)
    return {"wide": wide, "even": even, "ties": ties, "single": single}
