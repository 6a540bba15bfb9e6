"""Requantisation, one sum at a time: the fixed-point arithmetic of the runtimes, line by line from their sources.

References
----------
TensorFlow Lite, kernels/internal: quantization_util.cc (QuantizeMultiplier), common.h (MultiplyByQuantizedMultiplier).
gemmlowp, fixedpoint/fixedpoint.h (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT).
ruy, apply_multiplier.cc (MultiplyByQuantizedMultiplier).
"""

from __future__ import annotations

import math
from fractions import Fraction

from lowprec.reference.numbers import round_to

__all__ = ["multiplier", "requantize"]

_HALF = Fraction(1, 2)


def _away(x: Fraction) -> int:
    """Return the nearest integer, ties away from zero."""
    down = math.floor(abs(x) + _HALF)
    return -down if x < 0 else down


def _wrapped(x: int) -> int:
    """Return what 32 bits of two's complement keep."""
    return (x + 2**31) % 2**32 - 2**31


def _quotient(x: int, y: int) -> int:
    """Divide as C does, toward zero."""
    return -(-x // y) if x < 0 else x // y


def multiplier(scale: float | Fraction) -> tuple[int, int]:
    """Return the integer q and the exponent e of ``scale = q * 2**(e - 31)``, rounded to 31 bits.

    Parameters
    ----------
    scale : float or Fraction
        Positive, below 2**30.

    Returns
    -------
    tuple of int
        q from 2**30 to 2**31 - 1, and e; (0, 0) where e would be below -31.

    Raises
    ------
    ValueError
        If `scale` is not positive, or 2**30 or more.

    Notes
    -----
    QuantizeMultiplier: ``m, e = frexp(scale)``, q is m * 2**31 rounded half away; 2**31 itself is halved, e raised.

    Examples
    --------
    >>> multiplier(0.75), multiplier(2.0**-40)
    ((1610612736, 0), (0, 0))
    """
    if not 0 < scale < 2**30:
        msg = f"`scale` must be positive and below 2**30, got {scale!r}."
        raise ValueError(msg)
    exact = Fraction(scale)
    e = 0
    while exact >= 1:
        exact, e = exact / 2, e + 1
    while exact < _HALF:
        exact, e = exact * 2, e - 1
    q = _away(exact * 2**31)
    if q == 2**31:
        q, e = 2**30, e + 1
    return (0, 0) if e < -31 else (q, e)


def _high_product(a: int, b: int) -> int:
    """Return SaturatingRoundingDoublingHighMul: the upper half of 2 * a * b, rounded."""
    if a == b == -(2**31):
        return 2**31 - 1
    product = a * b
    nudge = 2**30 if product >= 0 else 1 - 2**30
    return _quotient(product + nudge, 2**31)


def _divide_by_power(x: int, exponent: int) -> int:
    """Return RoundingDivideByPOT: x / 2**exponent, ties away from zero."""
    mask = 2**exponent - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def _rounded(acc: int, scale: float | Fraction, method: str) -> int:
    """Return the product of a sum and a scale, rounded as the method says."""
    if method.startswith("fixed_point"):
        q, e = multiplier(scale)
        if method == "fixed_point_single_rounding":
            return (acc * q + (1 << (30 - e))) >> (31 - e)
        if method == "fixed_point_16x8":
            reduced = (q + 2**15) >> 16 if q < 0x7FFF0000 else 0x7FFF
            return (acc * reduced + (1 << (14 - e))) >> (15 - e)
        high = _high_product(_wrapped(acc << max(e, 0)), q)
        if method == "fixed_point":
            return _divide_by_power(high, max(-e, 0))
        return high if e >= 0 else (high + (1 << (-e - 1))) >> -e
    if method == "float":
        product = round_to(Fraction(round_to(acc, "float32")) * Fraction(round_to(scale, "float32")), "float32")
        return round(Fraction(product))
    if method == "float64_away":
        product = round_to(Fraction(round_to(acc, "float64")) * Fraction(round_to(scale, "float64")), "float64")
        return _away(Fraction(product))
    return round(acc * Fraction(scale))


def requantize(
    acc: int,
    scale: float | Fraction,
    method: str = "fixed_point",
    *,
    zero_point: int = 0,
    low: int = -128,
    high: int = 127,
) -> int:
    """Return the code of one sum.

    Parameters
    ----------
    acc : int
        The sum.
    scale : float or Fraction
        What it is multiplied by.
    method : str
        As in `lowprec.requantize`.
    zero_point, low, high : int
        What is added, and the least and the largest code.

    Returns
    -------
    int
        The code.

    Raises
    ------
    ValueError
        If a fixed-point method gets a scale that it cannot hold.

    Examples
    --------
    >>> [requantize(-24, 1 / 16, method) for method in ("fixed_point", "fixed_point_ruy", "float", "float64_away")]
    [-2, -1, -2, -2]
    """
    return min(max(_rounded(acc, scale, method) + zero_point, low), high)
