"""Sums of aligned and truncated addends, one result at a time: the arithmetic of NVIDIA's and AMD's matrix units.

These are the general forms, for any exponents and special values; `lowprec.kernels.aligned_fast` does ordinary data.
An element is read as sign, significand m and exponent x of its own format: ``m * 2**(x - fraction bits)``, subnormals
with the exponent of the smallest normal number, nothing normalised.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.fixed import pack_float, shift_floor, shift_zero, top_bit
from lowprec.kernels.words import at_address, bits_float, float_bits

NOTHING = -100_000  # the exponent of a zero


class Aligned(NamedTuple):
    """What the models are made of: the parameters of a `Strip`, in this order."""

    length: int  # products of a block
    fraction: int  # alignment fraction bits
    floor: int  # smallest exponent of a block
    a_bits: int  # fraction bits of A's format
    a_emin: int
    b_bits: int
    b_emin: int
    c_bits: int  # fraction bits of the sum's format
    c_emin: int
    c_emax: int
    keep: int  # fraction bits kept in the result
    how: int  # bits: 1 to nearest even; others by model


@inline
def aligned(p):
    """Read the parameters."""
    return Aligned(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11])


@inline
def element(x, bits, emin):
    """Return the signed significand and the exponent of a finite float32 number of a format."""
    word = np.int64(float_bits(x))
    field = (word >> 23) & 0xFF
    fraction = word & 0x7FFFFF
    e = max(field, 1) - 127
    if field == 0 and fraction and emin < -126:  # subnormal as a float32, perhaps normal in a format that reaches lower
        e = max(top_bit(fraction) - 149, emin)
        m = fraction >> (149 + e - bits)
    else:
        m = (fraction | (0x800000 if field else 0)) >> (23 - bits + max(0, emin - e))
    return -m if word >> 31 else m, max(e, emin)


@inline
def is_special(x):
    """Say whether a float32 number is infinite or NaN."""
    return (np.int64(float_bits(x)) & 0x7F800000) == 0x7F800000


@inline
def specials(a, b, step, first, count, c, limit):
    """Return the sum of the infinite and NaN terms alone, else 0; ``limit`` is the least infinite product."""
    total = np.float64(c) if is_special(c) else 0.0
    for k in range(first, first + count):
        product = np.float64(a[k]) * np.float64(b[k * step])
        if not abs(product) < limit:
            total += product * np.inf
    return total


@inline
def fused_truncated(a, b, step, first, count, c, o, c_bits, c_emin):
    """Return one block: products and c aligned, truncated, summed, rounded."""
    special = specials(a, b, step, first, count, c, np.inf)
    if special != 0.0:
        return special
    mc, xc = element(c, c_bits, c_emin)
    e = max(o.floor, xc) if mc else o.floor
    for k in range(first, first + count):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            e = max(e, xa + xb)
    total = shift_zero(mc, o.fraction - c_bits + xc - e)
    for k in range(first, first + count):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            total += shift_zero(ma * mb, o.fraction - o.a_bits - o.b_bits + xa + xb - e)
    value = pack_float(total, e - o.fraction, o.c_emin, o.c_emax, o.keep, o.how & 1)
    return value if value != 0.0 else 0.0


@inline
def _scaled(a, b, step, first, count, c, o, offset):
    """Return one block whose products' exponents are raised by the offset of their scales."""
    special = specials(a, b, step, first, count, c, np.inf)
    if special != 0.0:
        return special
    mc, xc = element(c, o.c_bits, o.c_emin)
    e = max(o.floor, xc) if mc else o.floor
    for k in range(first, first + count):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            e = max(e, xa + xb + offset)
    total = shift_zero(mc, o.fraction - o.c_bits + xc - e)
    for k in range(first, first + count):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            total += shift_zero(ma * mb, o.fraction - o.a_bits - o.b_bits + xa + xb + offset - e)
    value = pack_float(total, e - o.fraction, o.c_emin, o.c_emax, o.keep, 0)
    return value if value != 0.0 else 0.0


@inline
def scale_parts(code, fraction):
    """Return a scale's significand and exponent: e8m0 (``fraction`` 0) or e4m3, whose sign is ignored."""
    if fraction == 0:
        return 1, code - 127
    magnitude = code & 0x7F
    if magnitude < 8:
        return magnitude, -6
    return 8 | (magnitude & 7), (magnitude >> 3) - 7


@inline
def scale_is_nan(code, fraction):
    """Say whether a scale's code is NaN."""
    return code == 0xFF if fraction == 0 else (code & 0x7F) == 0x7F


@inline
def _grouped(a, b, step, first, last, c, o, scale_a, scale_b, scale_step, scale_block):
    """Return one block of exact, scaled group sums; the group's size lies in `how`, above the scales' fraction bits."""
    special = specials(a, b, step, first, last - first, c, np.inf)
    if special != 0.0:
        return special
    fraction, group = o.how & 0xFF, o.how >> 8
    mc, xc = element(c, o.c_bits, o.c_emin)
    e = max(o.floor, xc) if mc else o.floor
    total = 0
    for turn in range(2):  # the largest exponent first, then the sum
        if turn == 1:
            total = shift_zero(mc, o.fraction - o.c_bits + xc - e)
        for start in range(first, last, group):
            at = start // scale_block
            m_a, x_a = scale_parts(scale_a[at], fraction)
            m_b, x_b = scale_parts(scale_b[at * scale_step], fraction)
            sum_of_group, some = 0, False
            for k in range(start, min(start + group, last)):
                ma, xa = element(a[k], o.a_bits, o.a_emin)
                mb, xb = element(b[k * step], o.b_bits, o.b_emin)
                some |= ma != 0 and mb != 0
                sum_of_group += ma * mb << (xa + xb - o.a_emin - o.b_emin)
            x = x_a + x_b if some and m_a * m_b else o.floor
            if turn == 0:
                e = max(e, x)
            else:
                units = o.a_emin + o.b_emin - o.a_bits - o.b_bits - 2 * fraction
                total += shift_zero(sum_of_group * (m_a * m_b), o.fraction + units + x - e)
    value = pack_float(total, e - o.fraction, o.c_emin, o.c_emax, o.keep, 0)
    return value if value != 0.0 else 0.0


@inline
def _aligned_sum(a, b, step, first, last, stride, o):
    """Return the largest exponent of the non-zero products of every ``stride``-th k, and their truncated sum."""
    e = NOTHING
    for k in range(first, last, stride):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            e = max(e, xa + xb)
    total = 0
    for k in range(first, last, stride):
        ma, xa = element(a[k], o.a_bits, o.a_emin)
        mb, xb = element(b[k * step], o.b_bits, o.b_emin)
        if ma and mb:
            total += shift_zero(ma * mb, o.fraction - o.a_bits - o.b_bits + xa + xb - e)
    return e, total


@inline
def add_late_c(total, ed, c, o):
    """Return a truncated sum in units of 2**(ed - fraction) plus c, both floored, to nearest even."""
    final, drop_c = o.how >> 1, o.how & 1
    mc, xc = element(c, o.c_bits, o.c_emin)
    e = max(ed, xc)
    if drop_c and xc < e - 25:
        mc = 0
    t = shift_floor(total, final + 1 - o.fraction + ed - e)
    t += shift_floor(mc, o.fraction - o.c_bits + xc - e) << (final + 1 - o.fraction)
    if t == 0:
        return 0.0
    top = max(top_bit(abs(t)) + e - final - 1, o.c_emin)
    return pack_float(shift_floor(t, e - top - 1), top - final, o.c_emin, o.c_emax, o.keep, 1)


@inline
def late_c(a, b, step, first, count, c, o):
    """Return one block of a truncated sum of products to which c is added late."""
    special = specials(a, b, step, first, count, c, 2.0**128)
    if special != 0.0:
        return special
    last = first + count
    if o.how & 1:
        e0, even = _aligned_sum(a, b, step, first, last, 2, o)
        e1, odd = _aligned_sum(a, b, step, first + 1, last, 2, o)
        ed = max(e0, e1)
        total = shift_floor(even, e0 - ed) + shift_floor(odd, e1 - ed)
    else:
        ed, total = _aligned_sum(a, b, step, first, last, 1, o)
    return add_late_c(total, ed, c, o)


@inline
def numbers(address, count):
    """Return the float32 numbers at an address."""
    return numba.carray(at_address(address), count, np.float32)


@inline
def codes(address, count):
    """Return the scales at an address."""
    return numba.carray(at_address(address), count, np.int64)


@inline
def clean(value, nan):
    """Return a float32 number, NaN with the given bits."""
    return np.float32(value) if value == value else bits_float(np.uint32(nan))
