"""Unnormalised integer significands, as the multipliers and the aligners of matrix hardware see them.

Nothing here rounds but `pack`. The significand of a subnormal number keeps its leading zeros, and a product is neither
normalised nor bounded in its exponent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from lowprec.formats import FloatFormat
from lowprec.reference.numbers import decode


class Term(NamedTuple):
    """The number ``m * 2**(x - p)``: a signed significand m of p fraction bits, and its exponent x.

    `special` is an infinity or NaN, or None for all other numbers.
    """

    m: int
    x: int
    p: int
    special: float | None = None


@lru_cache(maxsize=1 << 16)
def term(code: int, fmt: FloatFormat) -> Term:
    """Take a code apart; zero and subnormal numbers have the exponent of the smallest normal number."""
    value, p = decode(code, fmt), fmt.mantissa_bits
    if not math.isfinite(value):
        return Term(0, fmt.emax + 1, p, value)
    e, t = divmod(code % 2 ** (fmt.exponent_bits + p), 2**p)
    m = t if e == 0 and fmt.has_zero else 2**p + t
    return Term(-m if value < 0 else m, max(e - fmt.bias, fmt.emin), p)


def product(a: Term, b: Term) -> Term:
    """Return the exact product; infinity times zero is NaN."""
    special = None
    if a.special is not None or b.special is not None:
        # Floats know the rules: infinity times the sign of a finite number, or times 0.0, which is NaN.
        factors = [float((t.m > 0) - (t.m < 0)) if t.special is None else t.special for t in (a, b)]
        special = factors[0] * factors[1]
    return Term(a.m * b.m, a.x + b.x, a.p + b.p, special)


def blocks(terms: Sequence[Term], length: int) -> Iterator[list[Term]]:
    """Yield blocks of `length` terms, the last one padded with zeros."""
    for start in range(0, len(terms), length):
        block = list(terms[start : start + length])
        yield block + [Term(0, 0, 0)] * (length - len(block))


def special_sum(terms: Sequence[Term]) -> float | None:
    """Return what infinities and NaN make of a sum: NaN, an infinity, or None if there are none."""
    found = {str(t.special) for t in terms if t.special is not None}
    if not found:
        return None
    return math.nan if "nan" in found or len(found) > 1 else float(found.pop())


def shift_truncated(m: int, k: int) -> int:
    """Return ``m * 2**k`` with the magnitude truncated to an integer."""
    magnitude = abs(m) << k if k >= 0 else abs(m) >> -k
    return -magnitude if m < 0 else magnitude


def shift_floored(m: int, k: int) -> int:
    """Return ``floor(m * 2**k)``."""
    return m << k if k >= 0 else m >> -k


def log2_floor(m: int) -> int:
    """Return floor(log2(|m|)) of a number that is not 0."""
    return abs(m).bit_length() - 1


def pack(m: int, q: int, fmt: FloatFormat, *, nearest: bool, kept: int | None = None) -> int:
    """Return the code of ``m * 2**q`` in an IEEE-like format, rounded once; a zero keeps the sign of `m`.

    The magnitude is truncated, or rounded to nearest even, to `kept` fraction bits, by default all; an exponent above
    the format's gives infinity in both.
    """
    p = fmt.mantissa_bits
    kept = p if kept is None else kept
    hidden = 1 << kept
    sign = 1 << (fmt.bits - 1) if m < 0 else 0
    if m == 0:
        return 0
    e = max(log2_floor(m) + q, fmt.emin)
    shift = q - (e - kept)
    t = shift_truncated(abs(m), shift)
    if nearest and shift < 0:
        rest = abs(m) - (t << -shift)
        half = 1 << (-shift - 1)
        t += rest > half or (rest == half and t % 2 == 1)
    if t == 2 * hidden:
        t, e = t // 2, e + 1
    if e > fmt.emax:
        return sign + fmt.max_code + 1
    if t < hidden:
        return sign + (t << (p - kept))
    return sign + ((e + fmt.bias) << p) + ((t - hidden) << (p - kept))
