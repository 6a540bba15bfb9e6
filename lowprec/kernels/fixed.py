"""Exact sums of float64 numbers in fixed point, and integers back to floating point.

The sum is an array of digits of 32 bits in signed 64-bit limbs, the lowest worth 2**-320: room for every product of
two float32 numbers, and for 2**28 additions before carries have to run.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.words import bits_float, float_bits, leading_zeros

LIMBS = 26
_LOWEST = 320
_MASK = 0xFFFFFFFF


@inline
def power(e):
    """Return 2.0**e for e from -1022 to 1023."""
    return bits_float(np.uint64((e + 1023) << 52))


@inline
def top_bit(n):
    """Return the position of the highest bit of a positive integer."""
    return 63 - np.int64(leading_zeros(np.uint64(n)))


@inline
def clear(limbs):
    """Start at zero."""
    for i in range(LIMBS):
        limbs[i] = 0


@inline
def add_number(limbs, x):
    """Add a finite float64 number, zero or at least 2**-320 in its last place."""
    bits = np.int64(float_bits(x))
    field = (bits >> 52) & 0x7FF
    if field == 0:
        return
    m = (bits & 0xFFFFFFFFFFFFF) | (1 << 52)
    place = field - 1075 + _LOWEST
    if place < 0:  # only zeros are cut off
        m >>= -place
        place = 0
    at, shift = place >> 5, place & 31
    low = (m & _MASK) << shift
    high = (m >> 32) << shift
    middle = np.int64(np.uint64(low) >> np.uint64(32)) + (high & _MASK)
    sign = -1 if bits < 0 else 1
    limbs[at] += sign * (low & _MASK)
    limbs[at + 1] += sign * middle
    limbs[at + 2] += sign * (high >> 32)


@inline
def odd_total(limbs):
    """Run the carries and return the sum rounded to odd in binary64; exactly zero is +0."""
    carry = 0
    for i in range(LIMBS):
        value = limbs[i] + carry
        limbs[i] = value & _MASK
        carry = value >> 32
    negative = carry < 0
    if negative:
        carry = 1
        for i in range(LIMBS):
            value = (limbs[i] ^ _MASK) + carry
            limbs[i] = value & _MASK
            carry = value >> 32
    top = LIMBS - 1
    while top >= 2 and limbs[top] == 0:
        top -= 1
    head = (np.uint64(limbs[top]) << np.uint64(32)) | np.uint64(limbs[top - 1])
    if head == 0:
        last = limbs[top - 2] if top >= 2 else 0
        if last == 0:
            return 0.0
    shift = np.int64(leading_zeros(head)) if head != 0 else 32
    below = np.uint64(limbs[top - 2])
    word = head
    rest = below
    if shift:
        word = (head << np.uint64(shift)) | (below >> np.uint64(32 - shift))
        rest = below & np.uint64((1 << (32 - shift)) - 1)
    sticky = rest != 0 or (word & np.uint64(0x7FF)) != 0
    for i in range(top - 2):
        sticky |= limbs[i] != 0
    m = np.int64(word >> np.uint64(11)) | np.int64(sticky)
    total = np.float64(m) * power(32 * (top - 1) - _LOWEST - shift + 11)
    return -total if negative else total


@inline
def shift_zero(m, k):
    """Return a signed integer times 2**k, truncated toward zero."""
    if k >= 0:
        return m << k
    down = min(-k, 63)
    return m >> down if m >= 0 else -((-m) >> down)


@inline
def shift_floor(m, k):
    """Return a signed integer times 2**k, rounded down."""
    return m << k if k >= 0 else m >> min(-k, 63)


@inline
def pack_float(total, q, emin, emax, keep, nearest):
    """Return ``total * 2**q`` rounded to ``keep`` fraction bits, toward zero or to nearest even, as float64.

    Below ``2**emin`` the last place is that of ``2**emin``; from ``2**(emax + 1)`` on the result is infinite.
    """
    if total == 0:
        return 0.0
    m = abs(total)
    drop = max(top_bit(m) + q, emin) - keep - q
    if drop > 0:
        down = min(drop, 63)
        rest = m & ((1 << down) - 1)
        m >>= down
        if nearest:
            half = 1 << (down - 1)
            if rest > half or (rest == half and m & 1):
                m += 1
        q += drop
    value = np.float64(m) * power(q)
    if value >= power(emax + 1):
        value = np.inf
    return -value if total < 0 else value
