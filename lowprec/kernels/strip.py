"""Sums other than the native ones: the job they share, and one product after the other in any format.

A kernel here is a C function of one argument, the address of a `Strip`: it continues the sums in a block of the result
by the products of a block of A's rows and of B's columns, all of k. A and B hold rounded numbers, B with k as its
first axis, so that neighbouring columns are neighbours in memory: every inner loop runs over columns, and LLVM fills
the vector registers with it.

In binary64 the product of two numbers of 26 bits is exact, and its sum with a third is rounded to odd, which a second
rounding to 51 bits or fewer does not see (Boldo and Melquiond, 2008). So one rounding is what the model says, in every
mode.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.convert import RULE
from lowprec.kernels.rounding import philox_block, round_word, round_word_stochastic, rule
from lowprec.kernels.words import (
    at_address,
    bits_float,
    both,
    call_1,
    constant,
    either,
    float_bits,
    fma,
    full_width,
    pick,
    restore_float_mode,
    shr,
    standard_float_mode,
    sub,
)

_TINY = 2.0**-900
_HUGE = 1.7e308
COLUMNS = 128  # of a strip: its sums stay in the first-level cache
PARAMETERS = 12
SIGNATURE = "void(int64)"


class Strip(NamedTuple):
    """A block of a product: int64 numbers in this order, then `PARAMETERS` more that the model defines."""

    a: int  # address of the block of A
    b: int
    c: int
    a_step: int  # elements from a row of A to the next
    b_step: int  # elements from a k of B to the next
    c_step: int
    rows: int
    columns: int
    k: int
    first_k: int  # the number of the first k, for random words
    element: int  # the element index of c[0, 0] in the result, for random words
    element_step: int
    seed: int
    rule: int  # address of the `Rule` of each step
    product: int  # address of the `Rule` of products, 0 if they enter exact; or of the kernel of the general way
    random_bits: int  # 0 unless rounding is stochastic
    stream: int
    minus_zero: int  # 1 if an exact zero sum is -0 (toward negative)
    scale_a: int  # addresses of scales, for the models that have them
    scale_b: int


FIELDS = len(Strip._fields)


@inline
def strip(job):
    """Read a `Strip`."""
    j = numba.carray(at_address(job), FIELDS, np.int64)
    return Strip(
        j[0], j[1], j[2], j[3], j[4], j[5], j[6], j[7], j[8], j[9], j[10], j[11], j[12], j[13], j[14], j[15], j[16],
        j[17], j[18], j[19],
    )  # fmt: skip


@inline
def parameters(job):
    """Return the model's own numbers."""
    return numba.carray(at_address(job + 8 * FIELDS), PARAMETERS, np.int64)


@inline
def part_of(job):
    """Return a copy of a job, for `run_part` to change."""
    part = np.empty(FIELDS + PARAMETERS, np.int64)
    whole = numba.carray(at_address(job), FIELDS + PARAMETERS, np.int64)
    for i in range(FIELDS + PARAMETERS):
        part[i] = whole[i]
    return part


@inline
def run_part(j, part, function, i, left, width, first, count):
    """Run another kernel on ``width`` results of a row, and on ``count`` of k."""
    part[0] = j.a + (i * j.a_step + first) * 4
    part[1] = j.b + (first * j.b_step + left) * 4
    part[2] = j.c + (i * j.c_step + left) * 4
    part[6], part[7], part[8] = 1, width, count
    call_1(function, part.ctypes.data)


@inline
def read_rule(address):
    """Read a 64-bit `Rule`."""
    return rule(numba.carray(at_address(address), RULE, np.uint64))


@inline
def odd_sum(p, r):
    """Return the bits of p + r rounded to odd in binary64; infinities and NaN as IEEE 754 has them."""
    s = p + r
    back = s - p
    error = (p - (s - back)) + (r - back)
    bits = float_bits(s)
    one, zero = constant(bits, 1), constant(bits, 0)
    inexact = pick(error > 0.0, one, pick(error < 0.0, one, zero))
    opposite = shr(bits ^ float_bits(error), constant(bits, 63))
    return either(sub(bits, both(opposite, inexact)), inexact)


@inline
def signed_zero(bits, p, r, minus_zero):
    """Make an exact zero sum -0 where the mode says so, unless both addends are +0."""
    nothing = constant(bits, 0)
    top = constant(bits, 0x8000000000000000)
    negative = pick(either(float_bits(p), float_bits(r)) == nothing, nothing, top)
    return pick(bits == nothing, both(negative, minus_zero), bits)


@inline
def odd_fma(a, b, r):
    """Return the bits of a * b + r rounded to odd in binary64, for any float64 a, b and an r within float32's range.

    The exact product is the sum of two float64 numbers, high + low; the sum of three is rounded to odd. A product too
    small to reach a last place of r's format is replaced by a small one of its sign, so that nothing underflows.
    """
    high = a * b
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(r)):
        if np.isfinite(a) and np.isfinite(b):
            return float_bits(r)
        return float_bits(high + r)
    if not np.isfinite(high):  # far beyond the range of r's format, but finite
        return float_bits(_HUGE if high > 0.0 else -_HUGE)
    if a == 0.0 or b == 0.0:
        return float_bits(high + r)
    low = 0.0
    if abs(high) < _TINY:
        high = _TINY if (a > 0.0) == (b > 0.0) else -_TINY
    else:
        low = fma(a, b, -high)
    small = r + low
    back = small - r
    error = (r - (small - back)) + (low - back)
    large = high + small
    back = large - high
    rest = (high - (large - back)) + (small - back)
    return odd_sum(large, bits_float(odd_sum(error, rest)))


@inline
def _draw(j, words, i, left, width, step, stream):
    """Fill in the random words of the four steps that one belongs to."""
    for n in range(width):
        index = np.uint64(j.element + i * j.element_step + left + n)
        w0, w1, w2, w3 = philox_block(np.uint64(j.seed), index, np.uint64(stream), np.uint64(step // 4))
        words[0, n], words[1, n], words[2, n], words[3, n] = w0, w1, w2, w3


@inline
def _round_products(products, words, width, g, bits):
    """Round products in place."""
    if bits:
        for n in range(width):
            products[n] = bits_float(round_word_stochastic(float_bits(products[n]), g, words[n], np.uint64(bits)))
    else:
        for n in range(width):
            products[n] = bits_float(round_word(float_bits(products[n]), g))


@inline
def _add_products(products, c, words, width, f, bits, minus_zero):
    """Add products to the sums, rounded."""
    if bits:
        for n in range(width):
            total = odd_sum(products[n], np.float64(c[n]))
            c[n] = bits_float(round_word_stochastic(total, f, words[n], np.uint64(bits)))
    else:
        for n in range(width):
            r = np.float64(c[n])
            total = signed_zero(odd_sum(products[n], r), products[n], r, minus_zero)
            c[n] = bits_float(round_word(total, f))


def sequential_single(job):
    """Continue sums of float32 operands, each step rounded by a 64-bit rule, in float32."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    f = read_rule(j.rule)
    g = read_rule(j.product if j.product else j.rule)
    minus_zero = np.uint64(-j.minus_zero)
    words, others = np.empty((4, COLUMNS), np.uint64), np.empty((4, COLUMNS), np.uint64)
    products = np.empty(COLUMNS, np.float64)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numba.carray(at_address(j.c + (i * j.c_step + left) * 4), width, np.float32)
            a = numba.carray(at_address(j.a + i * j.a_step * 4), j.k, np.float32)
            for k in range(j.k):
                step = j.first_k + k
                if j.random_bits and (step % 4 == 0 or k == 0):
                    _draw(j, words, i, left, width, step, j.stream)
                    _draw(j, others, i, left, width, step, j.stream + 1)
                b = numba.carray(at_address(j.b + (k * j.b_step + left) * 4), width, np.float32)
                x = np.float64(a[k])
                for n in range(width):
                    products[n] = x * np.float64(b[n])
                if j.product:
                    _round_products(products, others[step % 4], width, g, j.random_bits)
                _add_products(products, c, words[step % 4], width, f, j.random_bits, minus_zero)
    restore_float_mode(found)


def sequential_double(job):
    """Continue sums of float64 operands, in a format within float32's range, in float64."""
    found = standard_float_mode()
    j = strip(job)
    f = read_rule(j.rule)
    g = read_rule(j.product if j.product else j.rule)
    minus_zero = np.uint64(-j.minus_zero)
    words, others = np.empty((4, COLUMNS), np.uint64), np.empty((4, COLUMNS), np.uint64)
    products = np.empty(COLUMNS, np.float64)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numba.carray(at_address(j.c + (i * j.c_step + left) * 8), width, np.float64)
            a = numba.carray(at_address(j.a + i * j.a_step * 8), j.k, np.float64)
            for k in range(j.k):
                step = j.first_k + k
                if j.random_bits and (step % 4 == 0 or k == 0):
                    _draw(j, words, i, left, width, step, j.stream)
                    _draw(j, others, i, left, width, step, j.stream + 1)
                b = numba.carray(at_address(j.b + (k * j.b_step + left) * 8), width, np.float64)
                if j.product:
                    for n in range(width):
                        products[n] = bits_float(odd_fma(a[k], b[n], _signed_nothing(a[k], b[n])))
                    _round_products(products, others[step % 4], width, g, j.random_bits)
                    _add_products(products, c, words[step % 4], width, f, j.random_bits, minus_zero)
                    continue
                for n in range(width):
                    total = signed_zero(odd_fma(a[k], b[n], c[n]), a[k] * b[n], c[n], minus_zero)
                    if j.random_bits:
                        word = words[step % 4, n]
                        c[n] = bits_float(round_word_stochastic(total, f, word, np.uint64(j.random_bits)))
                    else:
                        c[n] = bits_float(round_word(total, f))
    restore_float_mode(found)


@inline
def _signed_nothing(a, b):
    """Return the zero that added to a product leaves its sign."""
    return -0.0 if (a * b == 0.0) and (np.signbit(a) != np.signbit(b)) else 0.0


def fused_single(job):
    """Continue float32 sums by fused multiply-adds."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numba.carray(at_address(j.c + (i * j.c_step + left) * 4), width, np.float32)
            a = numba.carray(at_address(j.a + i * j.a_step * 4), j.k, np.float32)
            for k in range(j.k):
                b = numba.carray(at_address(j.b + (k * j.b_step + left) * 4), width, np.float32)
                for n in range(width):
                    c[n] = fma(a[k], b[n], c[n])
    restore_float_mode(found)


def fused_double(job):
    """Continue float64 sums by fused multiply-adds."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numba.carray(at_address(j.c + (i * j.c_step + left) * 8), width, np.float64)
            a = numba.carray(at_address(j.a + i * j.a_step * 8), j.k, np.float64)
            for k in range(j.k):
                b = numba.carray(at_address(j.b + (k * j.b_step + left) * 8), width, np.float64)
                for n in range(width):
                    c[n] = fma(a[k], b[n], c[n])
    restore_float_mode(found)


@njit()
def many(function, job, count, a_bytes, b_bytes, c_bytes, index):
    """Run a kernel on many blocks of one shape, whose addresses and indices are steps apart."""
    for _ in range(count):
        call_1(function, job.ctypes.data)
        job[0] += a_bytes
        job[1] += b_bytes
        job[2] += c_bytes
        job[10] += index
