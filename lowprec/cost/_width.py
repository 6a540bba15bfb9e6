"""accumulator_bits: how wide a fixed-point sum of products must be."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec.cost._shape import grid, pair_of
from lowprec.formats import Format, IntFormat


def products(a: Format, b: Format) -> int:
    """Return the largest magnitude of a product, counted in the finest step between products."""
    return grid(a)[1] * grid(b)[1]


def width(largest: int, signed: bool) -> int:
    """Return the bits of a two's complement number that holds every integer up to a magnitude."""
    return max(1, largest.bit_length()) + signed


def whole(value: Any, name: str, least: int = 1) -> int:
    """Check a count."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer of at least {least}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value < least:
        msg = f"`{name}` must be at least {least}, got {value}."
        raise ValueError(msg)
    return int(value)


def accumulator_bits(fmt: Any, k: int | None = None, *, weights: ArrayLike | None = None) -> int:
    """Return the bits of a fixed-point accumulator that holds every sum of products exactly.

    The width is tight: one bit fewer, and the largest sum no longer fits. With the products counted in their finest
    step (the product of the smallest subnormals) and P the largest of them, it is
    ``ceil(log2(k * P + 1)) + 1``, the last bit for the sign; without it where both formats are unsigned. Two's
    complement reaches one further down than up: where the largest sum is negative, that may save a bit.

    Parameters
    ----------
    fmt : str, FloatFormat or IntFormat, or a pair of them
        Format of the operands, or of `a` and of `b`.
    k : int, optional
        Products per sum. Not needed with `weights`, whose last axis it is.
    weights : array_like (..., K), optional
        The values of `b`: the sum of their magnitudes, row by row, bounds the sum of products more tightly than
        ``k`` times the largest. They must be values of `b`'s format.

    Returns
    -------
    int
        Bits, an exact count. Infinities and NaN have no place in a fixed-point sum.

    Raises
    ------
    TypeError
        If `k` is no integer, or `fmt` names no format.
    ValueError
        If `k` is less than 1 or missing, or is not the length of the weights; if a weight is no value of the format;
        if the format is a block or a table, or has no sign and no zero.

    Notes
    -----
    Kulisch's long accumulator, sized to a sum's length ([1]_, chapter 8). The form in [2]_,
    ``2**Ea + Ma + 2**Eb + Mb + ceil(log2(k)) - 1``, rounds two logarithms separately and gives one bit more.

    References
    ----------
    .. [1] U. Kulisch, "Computer Arithmetic and Validity", 2nd edition, de Gruyter 2013.
    .. [2] S. Aggarwal et al., "Shedding the Bits: Pushing the Boundaries of Quantization with Minifloats on FPGAs",
       FPL 2024.

    Examples
    --------
    >>> import lowprec as lp
    >>> [lp.cost.accumulator_bits(fmt, k=4608) for fmt in ("int8", "e4m3fn", "e3m2fn", "e2m3fn", "e2m1fn")]
    [28, 49, 31, 25, 21]
    >>> lp.cost.accumulator_bits("int8", weights=[[1, -2, 3], [0, 0, 4]])
    11
    """
    a, b = pair_of(fmt)
    if weights is None:
        if k is None:
            msg = "`k` must be given where `weights` are not."
            raise ValueError(msg)
        low, high = reach(b)
        return _bits(a, b, [(whole(k, "k") * high, 0), (0, whole(k, "k") * -low)])
    return _bits(a, b, _row_sums(weights, b, k))


def reach(fmt: Format) -> tuple[int, int]:
    """Return the least and the greatest number of a format, counted in its finest step."""
    step = grid(fmt)[0]
    return int(Fraction(fmt.min) / step), int(Fraction(fmt.max) / step)


def _bits(a: Format, b: Format, rows: Iterable[tuple[int, int]]) -> int:
    """Return the bits for sums of products of `a` with rows of `b`, of which the sums above and below 0 are given."""
    least, most = reach(a)
    highest = max((above * most - below * least for above, below in rows), default=0)
    lowest = min((above * least - below * most for above, below in rows), default=0)
    if not (a.is_signed or b.is_signed):
        return max(1, highest.bit_length())
    return max(1, highest.bit_length(), (-lowest - 1).bit_length() if lowest else 0) + 1


def _row_sums(weights: ArrayLike, fmt: Format, k: int | None) -> list[tuple[int, int]]:
    """Return the sums of the positive and of the negative numbers of each row, counted in the format's finest step."""
    from lowprec.codec import round_to

    values = np.asarray(weights)
    if values.ndim == 0 or values.shape[-1] == 0:
        msg = f"`weights` must have shape (..., K) with K of at least 1, got {values.shape}."
        raise ValueError(msg)
    if k is not None and whole(k, "k") != values.shape[-1]:
        msg = f"`k` must be the length of the last axis of `weights`, {values.shape[-1]}, got {k}; leave it out."
        raise ValueError(msg)
    if values.dtype.kind not in "iuf":
        values = values.astype(np.float64)
    exact = values.astype(np.float64)
    if isinstance(fmt, IntFormat):
        fits = (exact == np.round(exact)) & (exact <= fmt.max) & (exact >= fmt.min)
    else:
        with np.errstate(all="ignore"):
            fits = np.isfinite(exact) & (np.asarray(round_to(exact, fmt)) == exact)
    if not fits.all():
        where = tuple(int(i) for i in np.argwhere(~fits)[0])
        got = f"got {float(exact[where])!r} at {list(where)}"
        msg = f"`weights` must hold values of `{fmt}`, {got}; round or quantise them first."
        raise ValueError(msg)
    step = grid(fmt)[0]
    rows = exact.reshape(-1, values.shape[-1])
    parts = np.maximum(rows, 0), np.maximum(-rows, 0)
    unit = float(step) if abs(float(1 / step)) < 2.0**60 else 0.0
    if unit and np.abs(rows).max(initial=0.0) / unit * rows.shape[1] < 2.0**53:  # sums of such integers are exact
        above, below = ((part / unit).sum(axis=1).astype(np.int64).tolist() for part in parts)
    else:
        above, below = ([int(sum(map(Fraction, row)) / step) for row in part.tolist()] for part in parts)
    return list(zip(above, below, strict=True))
