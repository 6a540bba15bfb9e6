"""One product after the other in a format of at most 22 bits, of ordinary data, in float32: `Strip` kernels.

Two short significands have an exact float32 product. Its sum with r is rounded to odd at 24 bits, from the error of the
addition, which is exact too. Then 1.5 * 2**(exponent + dropped bits) is added and taken off, which rounds to nearest
even where the format has its last place, and what the mode wants otherwise is put right from the rest. No product
may underflow: a run of k in which an operand lies outside of 2**-60 to 2**40, or whose sums begin at
2**90 or more, or end infinite or NaN, is done again the general way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import numbers
from lowprec.kernels.strip import COLUMNS, parameters, part_of, run_part, strip
from lowprec.kernels.words import (
    add,
    bits_float,
    both,
    constant,
    differ,
    either,
    equal,
    float_bits,
    fma,
    full_width,
    larger,
    less,
    pick,
    restore_float_mode,
    shl,
    shr,
    smaller,
    standard_float_mode,
    sub,
)

RUN = 256  # of k, after which sums are looked at
NEAREST, AWAY, DIRECTED = 0, 4, 8


class Step(NamedTuple):
    """A rounding, six of a kernel's parameters as float32 words."""

    drop: int  # bits to drop, in the exponent field
    emin: int  # the smallest normal number
    most: int  # the largest magnitude
    over: int  # what becomes of a larger positive sum
    under: int  # and of a negative one
    mode: int  # NEAREST, AWAY, or DIRECTED, plus 1 if positive numbers go up, and 2 if negative ones go down


@inline
def _step(p, at):
    """Read a `Step`."""
    return Step(
        np.uint32(p[at]), np.uint32(p[at + 1]), np.uint32(p[at + 2]), np.uint32(p[at + 3]), np.uint32(p[at + 4]),
        np.uint32(p[at + 5]),
    )  # fmt: skip


@inline
def _odd_single_sum(p, r):
    """Return the bits of p + r rounded to odd in binary32."""
    s = p + r
    back = s - p
    error = (p - (s - back)) + (r - back)
    u = float_bits(s)
    one, zero = constant(u, 1), constant(u, 0)
    inexact = pick(equal(both(float_bits(error), constant(u, 0x7FFFFFFF)), zero), zero, one)
    opposite = both(shr(differ(u, float_bits(error)), constant(u, 31)), inexact)
    return either(sub(u, opposite), inexact)


@inline
def _signed_zero(u, p, r, minus_zero):
    """Make an exact zero sum -0 where the mode says so, unless both addends are +0."""
    zero = constant(u, 0)
    negative = pick(equal(either(float_bits(p), float_bits(r)), zero), zero, minus_zero)
    return pick(equal(u, zero), negative, u)


@inline
def _finish(u, y, f):
    """Give a rounded sum the sign of the unrounded one, and see to overflow."""
    sign = both(u, constant(u, 0x80000000))
    magnitude = both(float_bits(y), constant(u, 0x7FFFFFFF))
    beyond = pick(equal(sign, constant(u, 0)), f.over, f.under)
    beyond = pick(less(constant(u, 0xFF000000), add(u, u)), magnitude, beyond)  # NaN stays
    return bits_float(pick(less(f.most, magnitude), beyond, either(magnitude, sign)))


@inline
def _anchor(u, f):
    """Return 1.5 times the power of two whose last place is that of the format at a sum."""
    exponent = larger(both(u, constant(u, 0x7F800000)), f.emin)
    return either(add(exponent, f.drop), constant(u, 0x400000))


@inline
def _nearest(u, f):
    """Round to nearest even."""
    anchor = bits_float(_anchor(u, f))
    return _in_range(u, (bits_float(u) + anchor) - anchor, f)


@inline
def _in_range(u, y, f):
    """Do what `_finish` does, where positive and negative sums overflow alike."""
    magnitude = both(float_bits(y), constant(u, 0x7FFFFFFF))
    magnitude = pick(abs(y) > bits_float(f.most), both(f.over, constant(u, 0x7FFFFFFF)), magnitude)
    return bits_float(either(magnitude, both(u, constant(u, 0x80000000))))


@inline
def _other(u, f):
    """Round to nearest away, toward zero, or toward an infinity."""
    word = _anchor(u, f)
    anchor = bits_float(word)
    s = bits_float(u)
    y = (s + anchor) - anchor
    rest = s - y
    unit = bits_float(add(word, constant(u, 1))) - anchor
    zero, one = constant(u, 0), constant(u, 1)
    v = float_bits(rest)
    away = equal(shr(differ(u, v), constant(u, 31)), zero)  # the rest points away from zero
    up = both(f.mode, pick(less(u, constant(u, 0x80000000)), one, constant(u, 2)))
    wrong = pick(away, up, pick(equal(up, zero), one, zero))  # directed: the wrong neighbour was the nearer
    tie = pick(away, pick(equal(float_bits(abs(rest) + abs(rest)), float_bits(unit)), one, zero), zero)
    wrong = pick(equal(f.mode, constant(u, 4)), tie, wrong)
    wrong = pick(equal(both(v, constant(u, 0x7FFFFFFF)), zero), zero, wrong)  # exact
    step = bits_float(either(float_bits(unit), both(v, constant(u, 0x80000000))))
    moved = y + step
    return _finish(u, bits_float(pick(equal(wrong, zero), float_bits(y), float_bits(moved))), f)


@inline
def _ordinary(x, count):
    """Say whether every number is zero, or within the window."""
    worst = np.uint32(0)
    for n in range(count):
        u = float_bits(x[n])
        zero, one = constant(u, 0), constant(u, 1)
        magnitude = both(u, constant(u, 0x7FFFFFFF))
        outside = less(constant(u, 0x32000000), sub(magnitude, constant(u, 0x21800000)))  # 2**-60 to 2**40
        worst = either(worst, pick(equal(magnitude, zero), zero, pick(outside, one, zero)))
    return worst == 0


@inline
def _largest(x, count):
    """Return the bits of the largest magnitude."""
    worst = np.uint32(0)
    for n in range(count):
        u = float_bits(x[n])
        worst = larger(worst, both(u, constant(u, 0x7FFFFFFF)))
    return worst


@inline
def _add_quick(products, x, b, c, fresh, width, f, has_product, to_even):
    """Write rounded sums, as if no bits were lost by the addition and no sum left the range of normal numbers.

    Return whether the dropped bits of any sum are those where lost bits matter (a tie, or none for a directed mode),
    and whether a sum lies outside of the range, or in its highest binade.
    """
    u = f.drop
    zero, one, field = constant(u, 0), constant(u, 1), constant(u, 0x7F800000)
    shift = shr(f.drop, constant(u, 23))
    rest = sub(shl(one, shift), one)
    half = shl(one, sub(shift, one))
    kept = sub(constant(u, 0xFFFFFFFF), rest)
    positive = pick(equal(f.mode, constant(u, 4)), half, pick(equal(both(f.mode, one), zero), zero, rest))
    negative = pick(equal(f.mode, constant(u, 4)), half, pick(equal(both(f.mode, constant(u, 2)), zero), zero, rest))
    doubtful = pick(less(f.mode, constant(u, 8)), half, zero)
    seen, low, high = zero, field, zero
    for n in range(width):
        s = products[n] + c[n] if has_product else fma(x, b[n], c[n])
        u = float_bits(s)
        exponent = both(u, field)
        low, high = smaller(low, exponent), larger(high, exponent)
        if to_even:
            increment = add(sub(half, one), both(shr(u, shift), one))
        else:
            increment = pick(less(u, constant(u, 0x80000000)), positive, negative)
        fresh[n] = bits_float(both(add(u, increment), kept))
        seen = either(seen, pick(equal(both(u, rest), doubtful), one, zero))
    top = both(f.most, field)
    outside = pick(less(low, f.emin), one, pick(less(high, top), zero, one))
    return seen, outside


@inline
def _lost(products, x, b, c, width, f, has_product):
    """Say whether any sum in doubt has lost bits."""
    u = f.drop
    zero, one = constant(u, 0), constant(u, 1)
    shift = shr(f.drop, constant(u, 23))
    rest = sub(shl(one, shift), one)
    doubtful = pick(less(f.mode, constant(u, 8)), shl(one, sub(shift, one)), zero)
    found = zero
    for n in range(width):
        p = products[n] if has_product else x * b[n]
        r = c[n]
        s = p + r
        back = s - p
        error = (p - (s - back)) + (r - back)
        doubt = pick(equal(both(float_bits(s), rest), doubtful), one, zero)
        found = either(found, pick(error == np.float32(0.0), zero, doubt))
    return found


@inline
def _add_sure(products, c, fresh, width, f, minus_zero):
    """Write sums of products and c, rounded to odd and then as the mode says."""
    if f.mode == NEAREST:
        for n in range(width):
            fresh[n] = _nearest(_odd_single_sum(products[n], c[n]), f)
    else:
        for n in range(width):
            total = _signed_zero(_odd_single_sum(products[n], c[n]), products[n], c[n], minus_zero)
            fresh[n] = _other(total, f)


@inline
def _round_products(products, x, b, width, g):
    """Write rounded products."""
    if g.mode == NEAREST:
        for n in range(width):
            products[n] = _nearest(float_bits(x * b[n]), g)
    else:
        for n in range(width):
            products[n] = _other(float_bits(x * b[n]), g)


@inline
def _run(a, j, left, width, old, new, products, f, g, has_product, minus_zero, first, last):
    """Continue sums over a run of k, from the address ``old``, to ``new`` and back in turns.

    The quick way is for sums of normal numbers whose lost bits do not matter; if it fails often, it is left.
    ``j.scale_a`` says that lost bits never matter.
    """
    to_even, trust = f.mode == NEAREST, j.scale_a != 0
    doubts = 0
    for k in range(first, last):
        x = a[k]
        b = numbers(j.b + (k * j.b_step + left) * 4, width)
        c, fresh = numbers(old, width), numbers(new, width)
        if has_product:
            _round_products(products, x, b, width, g)
        doubt, outside = np.uint32(1), np.uint32(1)
        if doubts < 8 or 3 * doubts < k - first:
            if has_product:
                if to_even:
                    doubt, outside = _add_quick(products, x, b, c, fresh, width, f, True, True)
                else:
                    doubt, outside = _add_quick(products, x, b, c, fresh, width, f, True, False)
            elif to_even:
                doubt, outside = _add_quick(products, x, b, c, fresh, width, f, False, True)
            else:
                doubt, outside = _add_quick(products, x, b, c, fresh, width, f, False, False)
            if outside == 0 and doubt != 0 and not trust:
                outside = _lost(products, x, b, c, width, f, has_product)
            doubts += outside != 0
        if outside != 0:
            if not has_product:
                for n in range(width):
                    products[n] = x * b[n]
            _add_sure(products, c, fresh, width, f, minus_zero)
        old, new = new, old


def sequential(job):
    """Continue sums, each step rounded; the first parameters are the `Step` of the sum, the next that of products."""
    full_width()
    found = standard_float_mode()
    j, p = strip(job), parameters(job)
    f, g = _step(p, 0), _step(p, 6)
    has_product = g.drop != 0
    minus_zero = np.uint32(0x80000000 if j.minus_zero else 0)
    part = part_of(job)
    part[14] = j.scale_b  # the `Rule` of products, for the general way
    runs = (j.k + RUN - 1) // RUN
    a_fine, b_fine = np.empty(j.rows * runs, np.uint8), np.empty(runs, np.uint8)
    for i in range(j.rows):
        for run in range(runs):
            count = min(RUN, j.k - run * RUN)
            a_fine[i * runs + run] = _ordinary(numbers(j.a + (i * j.a_step + run * RUN) * 4, count), count)
    products, sums = np.empty(COLUMNS, np.float32), np.empty(2 * COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for run in range(runs):
            b_fine[run] = 1
            for k in range(run * RUN, min(run * RUN + RUN, j.k)):
                b_fine[run] &= _ordinary(numbers(j.b + (k * j.b_step + left) * 4, width), width)
        for i in range(j.rows):
            a = numbers(j.a + i * j.a_step * 4, j.k)
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            for run in range(runs):
                first, last = run * RUN, min(run * RUN + RUN, j.k)
                fine = a_fine[i * runs + run] != 0 and b_fine[run] != 0
                if fine:
                    fine = _largest(c, width) < 0x6C800000  # 2**90
                if fine:
                    old, new = np.int64(sums.ctypes.data), np.int64(sums.ctypes.data + 4 * COLUMNS)
                    fresh = numbers(old, width)
                    for n in range(width):
                        fresh[n] = c[n]
                    _run(a, j, left, width, old, new, products, f, g, has_product, minus_zero, first, last)
                    fresh = numbers(new if (last - first) & 1 else old, width)
                    fine = _largest(fresh, width) < 0x7F800000
                if fine:
                    for n in range(width):
                        c[n] = fresh[n]
                else:
                    run_part(j, part, j.product, i, left, width, first, last - first)
    restore_float_mode(found)


@inline
def _add_single(x, b, c, width, up, down, odd, minus_zero):
    """Add products to float32 sums, cut toward zero and then as the mode says, or with the last bit set."""
    for n in range(width):
        p, r = x * b[n], c[n]
        s = p + r
        back = s - p
        error = (p - (s - back)) + (r - back)
        u = float_bits(s)
        one, zero = constant(u, 1), constant(u, 0)
        inexact = pick(equal(both(float_bits(error), constant(u, 0x7FFFFFFF)), zero), zero, one)
        cut = sub(u, both(shr(differ(u, float_bits(error)), constant(u, 31)), inexact))
        away = both(inexact, pick(less(u, constant(u, 0x80000000)), up, down))
        total = either(add(cut, away), both(inexact, odd))
        c[n] = bits_float(_signed_zero(total, p, r, minus_zero))


def single(job):
    """Continue float32 sums, each step rounded in a directed mode or to odd: the first three parameters say how."""
    full_width()
    found = standard_float_mode()
    j, p = strip(job), parameters(job)
    up, down, odd = np.uint32(p[0]), np.uint32(p[1]), np.uint32(p[2])
    minus_zero = np.uint32(0x80000000 if j.minus_zero else 0)
    part = part_of(job)
    part[14] = 0
    sums = np.empty(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for first in range(0, j.k, RUN):
            last = min(first + RUN, j.k)
            fine_b = True
            for k in range(first, last):
                fine_b &= _ordinary(numbers(j.b + (k * j.b_step + left) * 4, width), width)
            for i in range(j.rows):
                a = numbers(j.a + (i * j.a_step + first) * 4, last - first)
                c = numbers(j.c + (i * j.c_step + left) * 4, width)
                if not fine_b or not _ordinary(a, last - first) or _largest(c, width) >= 0x6C800000:
                    run_part(j, part, j.product, i, left, width, first, last - first)
                    continue
                for n in range(width):
                    sums[n] = c[n]
                for k in range(first, last):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    _add_single(a[k - first], b, sums, width, up, down, odd, minus_zero)
                for n in range(width):
                    c[n] = sums[n]
    restore_float_mode(found)
