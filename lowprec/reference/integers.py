"""Exact sums of integer products with zero points, and their scaling to float32, one element at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from lowprec.reference.numbers import round_to

__all__ = ["integer_dot", "scaled"]


def integer_dot(
    a: Sequence[int],
    b: Sequence[int],
    *,
    zero_a: int = 0,
    zero_b: int = 0,
    start: int = 0,
    bits: int | None = 32,
) -> int:
    """Return ``start + sum((a[k] - zero_a) * (b[k] - zero_b))``, wrapped to two's complement.

    Parameters
    ----------
    a, b : sequence of int
        Of equal length.
    zero_a, zero_b : int
        Zero points.
    start : int
        What the sum starts from.
    bits : int, optional
        Width of the result; None: the sum itself.

    Returns
    -------
    int
        From ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``.

    Raises
    ------
    ValueError
        If the lengths differ.

    Notes
    -----
    Addition and multiplication are exact modulo ``2**bits``: the order of the sum, and where it wraps, do not matter.

    Examples
    --------
    >>> integer_dot([-128, 127], [255, 0], zero_b=128)
    -32512
    """
    total = start + sum((x - zero_a) * (y - zero_b) for x, y in zip(a, b, strict=True))
    if bits is None:
        return total
    half = 1 << (bits - 1)
    return (total + half) % (2 * half) - half


def scaled(total: int, row_scale: float, column_scale: float, bias: float | None = None) -> float:
    """Return an integer sum in float32: rounded, times the product of the scales, plus the bias.

    Parameters
    ----------
    total : int
        The sum.
    row_scale, column_scale : float
        Finite float32 numbers.
    bias : float, optional
        A finite float32 number.

    Returns
    -------
    float
        ``float32(float32(total) * float32(row_scale * column_scale))``, and with a bias ``float32(that + bias)``; each
        to nearest even, overflow to infinity.

    Raises
    ------
    Nothing.

    Notes
    -----
    IEEE 754-2019: 4.3.1 for each rounding, 6.3 for the signs of zeros.

    Examples
    --------
    >>> scaled(3, 0.5, 0.25, 1.0)
    1.375
    """
    x, scale = round_to(total, "fp32"), _times(row_scale, column_scale)
    y = _times(x, scale)
    return y if bias is None else _plus(y, bias)


def _times(x: float, y: float) -> float:
    """Return a product in float32."""
    sign = math.copysign(1, x) * math.copysign(1, y)
    if math.isinf(x) or math.isinf(y):
        return math.nan if 0 in (x, y) else math.copysign(math.inf, sign)
    return math.copysign(round_to(Fraction(x) * Fraction(y), "fp32"), sign)


def _plus(x: float, y: float) -> float:
    """Return a sum in float32."""
    if math.isinf(x) or math.isnan(x):
        return x
    if x == y == 0:
        return -0.0 if math.copysign(1, x) == math.copysign(1, y) == -1 else 0.0
    return round_to(Fraction(x) + Fraction(y), "fp32")
