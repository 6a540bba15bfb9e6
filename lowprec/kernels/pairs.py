"""Sums of pairs and fours in float32, as x86, Arm and AMD's CDNA1 and CDNA2 make them: `Strip` kernels.

Products of two bfloat16 or float16 numbers are exact in binary64, where sums are rounded to odd (see
`lowprec.kernels.strip`): each float32 operation below is one rounding of that.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import numbers
from lowprec.kernels.fixed import LIMBS, add_number, clear, odd_total
from lowprec.kernels.strip import COLUMNS, odd_sum, parameters, strip
from lowprec.kernels.words import (
    bits_float,
    both,
    constant,
    either,
    equal,
    float_bits,
    full_width,
    less,
    pick,
    restore_float_mode,
    standard_float_mode,
)

_SMALLEST = 2.0**-126
# Below this a sum rounds to less than 2**-126 at 24 bits.
_FLUSHED = 2.0**-126 - 2.0**-151
_CANONICAL = 0x7FC00000
_X86_INVALID = 0xFFC00000


@inline
def _no_subnormal(x):
    """Return a float32 number as float64, a subnormal one as zero of its sign."""
    u = float_bits(x)
    sign = both(u, constant(u, 0x80000000))
    small = less(both(u, constant(u, 0x7FFFFFFF)), constant(u, 0x800000))
    return np.float64(bits_float(pick(small, sign, u)))


@inline
def _flushed_single(bits, limit):
    """Return the float64 number of such bits, rounded to odd, in float32; below a limit it is zero of its sign."""
    sign = both(bits, constant(bits, 0x8000000000000000))
    small = less(both(bits, constant(bits, 0x7FFFFFFFFFFFFFFF)), float_bits(limit))
    return np.float32(bits_float(pick(small, sign, bits)))


@inline
def _fma86(x, y, z):
    """Return x * y + z as VDPBF16PS has it, NaN apart."""
    product = _no_subnormal(x) * _no_subnormal(y)
    return _flushed_single(odd_sum(product, _no_subnormal(z)), _FLUSHED)


@inline
def _first_nan(result, x, y, z):
    """Return the NaN that an operation gives: the first operand that is one, quieted, or the invalid one."""
    if result == result:
        return result
    u = float_bits(x)
    if x == x:
        u = float_bits(y) if y != y else float_bits(z)
    if x == x and y == y and z == z:
        u = constant(u, _X86_INVALID)
    return bits_float(either(u, constant(u, 0x400000)))


def odd_first(job):
    """Continue sums by pairs, the odd element first."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    fresh = np.empty(COLUMNS, np.float32)
    zeros = np.zeros(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for k in range(0, j.k, 2):
                whole = k + 1 < j.k
                even, odd = a[k], a[k + 1] if whole else np.float32(0.0)
                b0 = numbers(j.b + (k * j.b_step + left) * 4, width)
                b1 = numbers(j.b + ((k + 1) * j.b_step + left) * 4, width) if whole else zeros
                nan = False
                for n in range(width):
                    fresh[n] = _fma86(even, b0[n], _fma86(odd, b1[n], c[n]))
                    nan |= fresh[n] != fresh[n]
                if nan:
                    for n in range(width):
                        t = _first_nan(_fma86(odd, b1[n], c[n]), odd, b1[n], c[n])
                        fresh[n] = _first_nan(_fma86(even, b0[n], t), even, b0[n], t)
                for n in range(width):
                    c[n] = fresh[n]
    restore_float_mode(found)


@inline
def _add86(x, y):
    """Return x + y as TDPBF16PS has it."""
    result = _flushed_single(odd_sum(_no_subnormal(x), _no_subnormal(y)), _FLUSHED)
    return _first_nan(result, x, y, y)


def even_odd(job):
    """Continue sums by blocks: chains over even and odd k, added, then c."""
    found = standard_float_mode()
    j, length = strip(job), parameters(job)[0]
    even, odd = np.empty(COLUMNS, np.float32), np.empty(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for first in range(0, j.k, length):
                for n in range(width):
                    even[n] = 0.0
                    odd[n] = 0.0
                for k in range(first, min(first + length, j.k)):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    chain = odd if (k - first) % 2 else even
                    for n in range(width):
                        chain[n] = _first_nan(_fma86(a[k], b[n], chain[n]), a[k], b[n], chain[n])
                for n in range(width):
                    c[n] = _add86(c[n], _add86(even[n], odd[n]))
    restore_float_mode(found)


@inline
def _odd_single(bits):
    """Return the float64 number of such bits, rounded to odd, in float32 rounded to odd; tiny ones are zero."""
    magnitude = both(bits, constant(bits, 0x7FFFFFFFFFFFFFFF))
    sign = both(bits, constant(bits, 0x8000000000000000))
    low = constant(bits, 0x1FFFFFFF)
    sticky = pick(equal(both(bits, low), constant(bits, 0)), constant(bits, 0), constant(bits, 0x20000000))
    cut = either(both(magnitude, constant(bits, 0x7FFFFFFFE0000000)), sticky)
    infinite = float_bits(np.inf)
    cut = pick(less(magnitude, float_bits(2.0**128)), cut, pick(less(infinite, magnitude), magnitude, infinite))
    cut = pick(less(magnitude, float_bits(_SMALLEST)), constant(bits, 0), cut)
    return np.float32(bits_float(either(cut, sign)))


@inline
def _canonical(x):
    """Return a float32 number, NaN as the canonical one."""
    u = float_bits(x)
    nan = less(constant(u, 0x7F800000), both(u, constant(u, 0x7FFFFFFF)))
    return bits_float(pick(nan, constant(u, _CANONICAL), u))


@inline
def _arm_product(x, y):
    """Return x * y with subnormals zero in and out, and infinity from 2**128 on."""
    return np.float64(_odd_single(float_bits(_no_subnormal(x) * _no_subnormal(y))))


def round_odd(job):
    """Continue sums by pairs: products, their sum, then c, each rounded to odd."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    zeros = np.zeros(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for k in range(0, j.k, 2):
                whole = k + 1 < j.k
                even, odd = a[k], a[k + 1] if whole else np.float32(0.0)
                b0 = numbers(j.b + (k * j.b_step + left) * 4, width)
                b1 = numbers(j.b + ((k + 1) * j.b_step + left) * 4, width) if whole else zeros
                for n in range(width):
                    pair = _odd_single(odd_sum(_arm_product(even, b0[n]), _arm_product(odd, b1[n])))
                    total = odd_sum(_no_subnormal(c[n]), np.float64(pair))
                    c[n] = _canonical(_odd_single(total))
    restore_float_mode(found)


def fused_pair(job):
    """Continue sums by pairs: the exact sum of two products rounded, then c added."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    zeros = np.zeros(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for k in range(0, j.k, 2):
                whole = k + 1 < j.k
                even, odd = np.float64(a[k]), np.float64(a[k + 1]) if whole else 0.0
                b0 = numbers(j.b + (k * j.b_step + left) * 4, width)
                b1 = numbers(j.b + ((k + 1) * j.b_step + left) * 4, width) if whole else zeros
                for n in range(width):
                    pair = bits_float(odd_sum(even * np.float64(b0[n]), odd * np.float64(b1[n])))
                    c[n] = _canonical(c[n] + np.float32(pair))
    restore_float_mode(found)


@inline
def _flush(x):
    """Return a float32 number, a subnormal one as zero of its sign."""
    return np.float32(_no_subnormal(x))


@inline
def _input(x, smallest):
    """Return an operand, +0 for one below the smallest normal number of its format, NaN as it is."""
    return np.float32(0.0) if abs(x) < smallest else x


def flushed_pairwise(job):
    """Continue sums by twos or fours: float32 products and sums, each flushed."""
    full_width()
    found = standard_float_mode()
    j, p = strip(job), parameters(job)
    length = p[0]
    small_a, small_b = bits_float(np.uint32(p[1])), bits_float(np.uint32(p[2]))
    terms = np.zeros((4, COLUMNS), np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for first in range(0, j.k, length):
                if first % (4 * length) == 0:  # an instruction begins
                    for n in range(width):
                        c[n] = _input(c[n], np.float32(_SMALLEST))
                for turn in range(length):
                    k = first + turn
                    if k >= j.k:
                        for n in range(width):
                            terms[turn, n] = 0.0
                        continue
                    x = _input(a[k], small_a)
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    for n in range(width):
                        terms[turn, n] = _flush(x * _input(b[n], small_b))
                for n in range(width):
                    total = _flush(terms[0, n] + terms[1, n])
                    if length == 4:
                        total = _flush(total + _flush(terms[2, n] + terms[3, n]))
                    c[n] = _canonical(_flush(c[n] + total))
    restore_float_mode(found)


@inline
def _exact_block(limbs, a, b, step, first, last, c):
    """Return c plus products, exact, rounded to odd in binary64; infinities and NaN as in IEEE 754."""
    clear(limbs)
    special = 0.0
    if np.isfinite(c):
        add_number(limbs, np.float64(c))
    else:
        special += np.float64(c)
    for k in range(first, last):
        product = np.float64(a[k]) * np.float64(b[k * step])
        if np.isfinite(product):
            add_number(limbs, product)
        else:
            special += product
    return special if special != 0.0 else odd_total(limbs)


def fused_exact(job):
    """Continue sums by blocks: products and c summed exactly, then rounded.

    Two levels of exact sums, s and the sum of its errors, hold a block whose exponents lie within a hundred bits;
    others, and special values, are summed in fixed point.
    """
    full_width()
    found = standard_float_mode()
    j, length = strip(job), parameters(job)[0]
    limbs = np.empty(LIMBS, np.int64)
    sums, errors = np.empty(COLUMNS, np.float64), np.empty(COLUMNS, np.float64)
    lost = np.empty(COLUMNS, np.float64)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            for first in range(0, j.k, length):
                last = min(first + length, j.k)
                for n in range(width):
                    sums[n] = np.float64(c[n])
                    errors[n] = 0.0
                    lost[n] = 0.0
                for k in range(first, last):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    x = np.float64(a[k])
                    for n in range(width):
                        y, r = x * np.float64(b[n]), sums[n]
                        s = r + y
                        back = s - r
                        error = (r - (s - back)) + (y - back)
                        sums[n] = s
                        r = errors[n]
                        s = r + error
                        back = s - r
                        errors[n] = s
                        lost[n] += abs((r - (s - back)) + (error - back))
                bad = False
                for n in range(width):
                    bad |= not lost[n] == 0.0  # noqa: SIM201 - NaN is bad too
                for n in range(width):
                    if bad and not lost[n] == 0.0:  # noqa: SIM201
                        b = numbers(j.b + (left + n) * 4, j.k * j.b_step)
                        value = _exact_block(limbs, a, b, j.b_step, first, last, c[n])
                        c[n] = _canonical(np.float32(value + 0.0))
                    else:
                        c[n] = np.float32(bits_float(odd_sum(sums[n], errors[n])) + 0.0)
    restore_float_mode(found)
