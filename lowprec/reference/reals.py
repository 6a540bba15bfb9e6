"""Exact reals that keep the sign of a zero, with IEEE 754's infinities and NaN: what sums are written in."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

from lowprec.formats import Format
from lowprec.reference.numbers import decode, encode


class Real(NamedTuple):
    """A number: its sign, its magnitude, and ``"inf"`` or ``"nan"`` where it has none."""

    negative: bool
    magnitude: Fraction
    special: str = ""


ZERO = Real(False, Fraction(0))
NAN = Real(False, Fraction(0), "nan")


def real(code: int, fmt: Format) -> Real:
    """Return the number that a code stands for."""
    value = decode(code, fmt)
    if math.isnan(value):
        return NAN
    negative = math.copysign(1.0, value) < 0
    if math.isinf(value):
        return Real(negative, Fraction(0), "inf")
    return Real(negative, abs(Fraction(value)))


def multiply(x: Real, y: Real) -> Real:
    """Return the exact product (IEEE 754-2019, 6.3: the signs' exclusive or; 7.2: infinity times zero is NaN)."""
    negative = x.negative != y.negative
    if "nan" in (x.special, y.special):
        return NAN
    if "inf" in (x.special, y.special):
        is_invalid = (not x.special and x.magnitude == 0) or (not y.special and y.magnitude == 0)
        return NAN if is_invalid else Real(negative, Fraction(0), "inf")
    return Real(negative, x.magnitude * y.magnitude)


def add(x: Real, y: Real, *, toward_negative: bool = False) -> Real:
    """Return the exact sum.

    IEEE 754-2019, 6.3: an exact zero sum of unlike signs is +0, rounding toward negative -0; 7.2: the difference of
    infinities is NaN.
    """
    if "nan" in (x.special, y.special) or (x.special == y.special == "inf" and x.negative != y.negative):
        return NAN
    if x.special or y.special:
        return x if x.special else y
    total = (-x.magnitude if x.negative else x.magnitude) + (-y.magnitude if y.negative else y.magnitude)
    if total == 0:
        return Real(x.negative if x.negative == y.negative else toward_negative, Fraction(0))
    return Real(total < 0, abs(total))


def rounded(
    x: Real,
    fmt: Format,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    word: int | None = None,
    random_bits: int | None = None,
) -> int:
    """Return the code of a number, rounded once as `encode` says."""
    source: float | Fraction = -x.magnitude if x.negative else x.magnitude
    if x.special or x.magnitude == 0:
        source = math.copysign({"nan": math.nan, "inf": math.inf, "": 0.0}[x.special], -1.0 if x.negative else 1.0)
    return encode(
        source,
        fmt,
        rounding=rounding,
        overflow=overflow,
        subnormals=subnormals,
        word=word,
        random_bits=32 if random_bits is None else random_bits,
    )
