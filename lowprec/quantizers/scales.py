"""From the largest magnitude of a block to its scale: the scale rules."""

from __future__ import annotations

import math

import numpy as np

from lowprec._checks import Array
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.codec import cast, round_to
from lowprec.formats import FloatFormat, IntFormat

POWERS = ("floor", "ceil", "even", "rceil")
RULES = ("nearest", "up", *POWERS)


def emax(element: ElementFormat, unit: float) -> int:
    """Return the exponent of the binade of the largest element."""
    return math.frexp(element.max * unit)[1] - 1


def fraction_bits(element: ElementFormat) -> int:
    """Return the bits after the leading one of the largest element, to which the rule "even" rounds."""
    if isinstance(element, CodebookFormat):
        return 0
    return element.mantissa_bits if isinstance(element, FloatFormat) else max(0, element.precision - 1)


def powers(largest: Array, rule: str, element: ElementFormat, divisor: float, unit: float) -> Array:
    """Return the exponents of scales that are powers of two, as int64; those of 0 are far below every range.

    ``largest`` are the magnitudes in float32 or float64, all finite.
    """
    dtype = largest.dtype
    if rule == "rceil":
        with np.errstate(over="ignore", under="ignore"):
            share = np.divide(largest, dtype.type(divisor * unit), dtype=dtype)
        fraction, exponent = np.frexp(share)
        found = np.where(fraction == 0.5, exponent - 1, exponent)  # the ceiling of the logarithm
        return np.where(share == 0, -(1 << 20), found).astype(np.int64)
    fraction, exponent = np.frexp(largest.astype(np.float64))
    if rule == "ceil":
        found = np.where(fraction == 0.5, exponent - 1, exponent)
    elif rule == "even":  # half up in the bits of the element; only a carry into the exponent matters
        limit = 1 - 2.0 ** -(fraction_bits(element) + 2)
        found = np.where(fraction >= limit, exponent, exponent - 1)
    else:
        found = exponent - 1
    return np.where(largest == 0, -(1 << 20), found - emax(element, unit)).astype(np.int64)


def power_scales(exponents: Array, fmt: FloatFormat) -> Array:
    """Return powers of two as an array of a scale format, the nearest in its range."""
    lowest = round(math.log2(fmt.smallest_subnormal))
    kept = np.clip(exponents, lowest, fmt.emax)
    return np.asarray(cast(np.ldexp(1.0, kept.astype(np.int32)), fmt))


def ratio_scales(ratios: Array, fmt: FloatFormat, rule: str) -> Array:
    """Return float scales rounded to a scale format; 0 becomes its smallest positive number, too large its largest."""
    smallest = fmt.smallest_subnormal if fmt.has_zero else fmt.min
    rounding = "nearest_even" if rule == "nearest" else "toward_positive"
    rounded = np.asarray(round_to(np.asarray(ratios), fmt, rounding=rounding, overflow="saturate"), np.float64)
    return np.asarray(cast(np.where(rounded < smallest, smallest, rounded), fmt))


def default_divisor(element: ElementFormat) -> float:
    """Return what the largest magnitude is divided by if not told: the largest element."""
    if isinstance(element, CodebookFormat):
        return max(abs(element.min), abs(element.max))
    return element.max


def integer_ends(element: IntFormat, symmetric: bool, divisor: float) -> tuple[int, int]:
    """Return the least and the largest code value that is used."""
    if symmetric and divisor <= element.max:
        return -int(element.max), int(element.max)
    return int(element.min), int(element.max)
