"""Aligned and truncated sums of ordinary data, many columns at once: `Strip` kernels.

A float32 product of two short significands is exact. Times 2**(fraction bits - e), with e the block's exponent, and
converted to an integer, which truncates toward zero, it is the addend that the model asks for: four instructions.
That holds while no exponent is extreme: the exponents of all operands of a block are looked at first, and a block in
which one lies outside of -60 to 60, or whose largest addend lies below 2**-40, goes the general way. So do infinities
and NaN, whose exponent is larger still.

Exponents are kept in 16 bits, biased by `BIAS` each, with 0 for a zero: a sum below `ZERO` belongs to a zero product.
"""

from __future__ import annotations

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import aligned, numbers
from lowprec.kernels.strip import parameters, part_of, run_part, strip
from lowprec.kernels.words import (
    add,
    at_address,
    bits_float,
    both,
    constant,
    either,
    equal,
    float_bits,
    full_width,
    larger,
    less,
    narrow,
    pick,
    restore_float_mode,
    shl,
    shr,
    standard_float_mode,
    sub,
)

BIAS = 2048
ZERO = 3000
WINDOW = 60
LOWEST = -40
COLUMNS = 128


@inline
def _exponents(x, count, out, emin):
    """Write biased exponents; return whether those of all non-zero numbers lie in the window."""
    worst = np.uint32(0)
    for n in range(count):
        u = float_bits(x[n])
        zero, one = constant(u, 0), constant(u, 1)
        magnitude = both(u, constant(u, 0x7FFFFFFF))
        field = larger(shr(magnitude, constant(u, 23)), one)
        biased = larger(add(field, constant(u, 1921)), emin)  # 2048 - 127
        biased = pick(equal(magnitude, zero), zero, biased)
        outside = less(constant(u, 120), sub(biased, constant(u, 1988)))  # 2048 - 60
        outside_word = pick(equal(magnitude, zero), zero, pick(outside, one, zero))
        worst = either(worst, outside_word)
        out[n] = narrow(biased)
    return worst == 0


@inline
def _words(address, count):
    return numba.carray(at_address(address), count, np.uint16)


@inline
def _prepare(base, k_step, item_step, count, deep, length, emin, exponents, fine):
    """Find the exponents of ``count`` lines of ``deep`` numbers, and the blocks of each that are ordinary."""
    blocks = (deep + length - 1) // length
    for line in range(count):
        for block in range(blocks):
            first = block * length
            size = min(length, deep - first)
            x = numbers(base + (line * item_step + first * k_step) * 4, size)
            fine[line * blocks + block] = _exponents(x, size, _words(exponents + (line * deep + first) * 2, size), emin)


@inline
def _largest(a_exponents, b_exponents, start, deep, first, last, step, width, e):
    """Write the largest biased exponents of the products of every ``step``-th k of a block."""
    for n in range(width):
        e[n] = 0
    for k in range(first, last, step):
        x = a_exponents[start + k]
        if x != 0:
            y = _words(b_exponents + k * COLUMNS * 2, width)
            for n in range(width):
                e[n] = larger(e[n], add(x, y[n]))


@inline
def _truncated(a, b, b_step, left, first, last, step, width, scale, sums):
    """Add the truncated products of every ``step``-th k to integer sums."""
    for k in range(first, last, step):
        x = a[k]
        if x != 0.0:
            y = numbers(b + (k * b_step + left) * 4, width)
            for n in range(width):
                sums[n] = add(sums[n], np.int32(x * scale[n] * y[n]))


@inline
def _toward_zero(total, power, mask):
    """Return ``total * power`` cut to fraction bits, as float32."""
    return np.float32(bits_float(both(float_bits(total * power), mask)))


@inline
def _nearest(total, power, drop, emin, limit):
    """Return ``total * power`` rounded to nearest even, ``drop`` of binary64's bits fewer, as float32."""
    value = total * power
    u = float_bits(value)
    exponent = both(u, constant(u, 0x7FF0000000000000))
    exponent = larger(exponent, emin)
    anchor = bits_float(either(add(exponent, drop), constant(u, 0x8000000000000)))
    rounded = (value + anchor) - anchor
    w = float_bits(rounded)
    sign = both(w, constant(w, 0x8000000000000000))
    infinite = either(sign, constant(w, 0x7FF0000000000000))
    return np.float32(bits_float(pick(less(sub(w, sign), limit), w, infinite)))


@inline
def _power(biased, offset):
    """Return 2**(exponent) in binary64 for an exponent biased by 4096, and an offset that takes that off."""
    return bits_float(shl(add(np.uint64(biased), offset), np.uint64(52)))


def fused(job):
    """Continue sums of blocks aligned with c and truncated; to float32 toward zero, or to nearest even."""
    full_width()
    found = standard_float_mode()
    j, o = strip(job), aligned(parameters(job))
    blocks = (j.k + o.length - 1) // o.length
    part = part_of(job)
    a_exponents = np.empty(j.rows * j.k, np.uint16)
    a_fine = np.empty(j.rows * blocks, np.uint8)
    b_exponents = np.empty(j.k * COLUMNS, np.uint16)
    b_fine = np.empty(j.k, np.uint8)
    _prepare(j.a, 1, j.a_step, j.rows, j.k, o.length, np.uint32(o.a_emin + BIAS), a_exponents.ctypes.data, a_fine)
    e = np.empty(COLUMNS, np.uint16)
    top = np.empty(COLUMNS, np.uint32)
    scale = np.empty(COLUMNS, np.float32)
    sums = np.empty(COLUMNS, np.int32)
    total = np.empty(COLUMNS, np.float64)
    group = 1 << (29 - o.fraction)
    nearest = o.how & 1
    floor = np.uint32(max(o.floor, LOWEST) + 2 * BIAS)
    check = np.uint32(1 if o.floor < LOWEST else 0)
    scale_offset = np.uint32(o.fraction + 127 + 2 * BIAS)
    power_offset = np.uint64(1023 - o.fraction - 2 * BIAS)
    mask = np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(52 - o.keep)
    drop = np.uint64(52 - o.keep) << np.uint64(52)
    emin = np.uint64(o.c_emin + 1023) << np.uint64(52)
    limit = np.uint64(o.c_emax + 1024) << np.uint64(52)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for k in range(j.k):
            y = numbers(j.b + (k * j.b_step + left) * 4, width)
            place = _words(b_exponents.ctypes.data + k * COLUMNS * 2, width)
            b_fine[k] = _exponents(y, width, place, np.uint32(o.b_emin + BIAS))
        for i in range(j.rows):
            a = numbers(j.a + i * j.a_step * 4, j.k)
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            for block in range(blocks):
                first = block * o.length
                last = min(first + o.length, j.k)
                own_emin = j.random_bits if first == 0 and j.random_bits else o.c_emin
                c_emin = np.uint32(own_emin + 2 * BIAS)
                fine = a_fine[i * blocks + block] != 0
                for k in range(first, last):
                    fine &= b_fine[k] != 0
                extreme = np.uint32(0)
                if fine:
                    _largest(a_exponents, b_exponents.ctypes.data, i * j.k, j.k, first, last, 1, width, e)
                    for n in range(width):
                        u = float_bits(c[n])
                        zero, one = constant(u, 0), constant(u, 1)
                        magnitude = both(u, constant(u, 0x7FFFFFFF))
                        field = shr(magnitude, constant(u, 23))
                        xc = larger(add(larger(field, one), constant(u, 3969)), c_emin)  # 4096 - 127
                        xc = pick(equal(magnitude, zero), zero, xc)
                        largest = np.uint32(e[n])
                        largest = larger(pick(less(largest, constant(u, 3000)), zero, largest), xc)
                        low = both(pick(less(largest, floor), check, zero), pick(equal(largest, zero), zero, one))
                        extreme = either(extreme, either(low, pick(equal(field, constant(u, 255)), one, zero)))
                        largest = larger(largest, floor)
                        top[n] = largest
                        scale[n] = bits_float(shl(sub(scale_offset, largest), constant(u, 23)))
                        sums[n] = np.int32(c[n] * scale[n])
                if not fine or extreme != 0:
                    part[15] = j.random_bits if first == 0 else 0
                    run_part(j, part, j.product, i, left, width, first, last - first)
                    continue
                if last - first < group:
                    _truncated(a, j.b, j.b_step, left, first, last, 1, width, scale, sums)
                    for n in range(width):
                        total[n] = np.float64(sums[n])
                else:
                    for n in range(width):
                        total[n] = np.float64(sums[n])
                    for start in range(first, last, group):
                        for n in range(width):
                            sums[n] = 0
                        _truncated(a, j.b, j.b_step, left, start, min(start + group, last), 1, width, scale, sums)
                        for n in range(width):
                            total[n] += np.float64(sums[n])
                if nearest:
                    for n in range(width):
                        c[n] = _nearest(total[n], _power(top[n], power_offset), drop, emin, limit)
                else:
                    for n in range(width):
                        c[n] = _toward_zero(total[n], _power(top[n], power_offset), mask)
    restore_float_mode(found)
