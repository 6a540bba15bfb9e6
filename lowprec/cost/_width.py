"""accumulator_bits: how wide a fixed-point sum of products must be."""

from __future__ import annotations

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
    ``ceil(log2(k * P + 1)) + 1``, the last bit for the sign; without it where both formats are unsigned.

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
    signed = a.is_signed or b.is_signed
    if weights is None:
        if k is None:
            msg = "`k` must be given where `weights` are not."
            raise ValueError(msg)
        return width(whole(k, "k") * products(a, b), signed)
    return width(grid(a)[1] * _row_sum(weights, b, k), signed)


def _row_sum(weights: ArrayLike, fmt: Format, k: int | None) -> int:
    """Return the largest sum of magnitudes in a row, counted in the format's finest step."""
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
    scaled = np.abs(exact) / float(step) if float(step) and abs(float(1 / step)) < 2.0**60 else None
    if scaled is not None and scaled.max(initial=0.0) * values.shape[-1] < 2.0**53:  # sums of such integers are exact
        return int(scaled.sum(axis=-1).max(initial=0.0))
    rows = exact.reshape(-1, values.shape[-1])
    return max((int(sum(abs(Fraction(float(v))) for v in row) / step) for row in rows), default=0)
