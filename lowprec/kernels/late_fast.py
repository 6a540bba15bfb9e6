"""Truncated sums to which c is added late, of ordinary data, many columns at once: a `Strip` kernel.

The products are truncated as in `lowprec.kernels.aligned_fast`. What follows is floors of numbers of less than 53 bits
times powers of two, which binary64 has exactly.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import aligned, numbers
from lowprec.kernels.aligned_fast import (
    BIAS,
    COLUMNS,
    LOWEST,
    _exponents,
    _largest,
    _prepare,
    _truncated,
    _words,
)
from lowprec.kernels.strip import parameters, part_of, run_part, strip
from lowprec.kernels.words import (
    add,
    bits_float,
    both,
    constant,
    either,
    equal,
    float_bits,
    floor,
    full_width,
    larger,
    less,
    pick,
    restore_float_mode,
    shl,
    shr,
    standard_float_mode,
    sub,
)


@inline
def _scales(e, top, scale, width, offset, lowest):
    """Write exponents (0 for none) and the powers of two that addends are multiplied by; say if one is extreme."""
    extreme = np.uint32(0)
    for n in range(width):
        largest = np.uint32(e[n])
        zero, one = constant(largest, 0), constant(largest, 1)
        none = less(largest, constant(largest, 3000))
        extreme = either(extreme, pick(none, zero, pick(less(largest, lowest), one, zero)))
        top[n] = pick(none, zero, largest)
        scale[n] = bits_float(shl(sub(offset, larger(largest, lowest)), constant(largest, 23)))
    return extreme


@inline
def _two_to(biased, base, offset):
    """Return 2.0**(biased - base + offset)."""
    field = np.int64(biased) - np.int64(base) + offset + 1023
    return bits_float(np.uint64(field << 52))


@inline
def _add_late(total, ed, c, fraction, final, drop_c):
    """Return a truncated sum, in units of 2**(ed - fraction), plus c, floored, to nearest even; ed is biased."""
    u = float_bits(c)
    zero = constant(u, 0)
    magnitude = both(u, constant(u, 0x7FFFFFFF))
    xc = add(larger(shr(magnitude, constant(u, 23)), constant(u, 1)), constant(u, 3969))  # 4096 - 127
    e = larger(ed, xc)
    dropped = both(pick(less(add(xc, constant(u, 25)), e), constant(u, 1), zero), drop_c)
    addend = np.float64(bits_float(pick(equal(dropped, zero), u, zero)))
    own = larger(ed, constant(u, 4056))  # 4096 - 40: without products the sum is 0, whatever it is multiplied by
    t = floor(total * _two_to(own, e, final + 1 - fraction))
    units = bits_float(np.uint64((final + 1 - fraction + 1023) << 52))
    t += floor(addend * _two_to(np.uint32(4096), e, fraction)) * units
    field = np.int64(shr(float_bits(t), constant(float_bits(t), 52))) & 0x7FF
    exponent = np.int64(e) - 4096
    top = max(field - 1023 + exponent - final - 1, -126)
    kept = floor(t * bits_float(np.uint64((exponent - top - 1 + 1023) << 52)))
    return np.float32(kept * bits_float(np.uint64((top - final + 1023) << 52)))


def late(job):
    """Continue sums of blocks truncated without c, which is added late."""
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
    top, other_top = np.empty(COLUMNS, np.uint32), np.empty(COLUMNS, np.uint32)
    scale, other_scale = np.empty(COLUMNS, np.float32), np.empty(COLUMNS, np.float32)
    sums, other_sums = np.empty(COLUMNS, np.int32), np.empty(COLUMNS, np.int32)
    final, even_odd = o.how >> 1, o.how & 1
    step = 2 if even_odd else 1
    drop_c = np.uint32(even_odd)
    lowest = np.uint32(LOWEST + 2 * BIAS)
    offset = np.uint32(o.fraction + 127 + 2 * BIAS)
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
                fine = a_fine[i * blocks + block] != 0
                for k in range(first, last):
                    fine &= b_fine[k] != 0
                extreme = np.uint32(0)
                if fine:
                    _largest(a_exponents, b_exponents.ctypes.data, i * j.k, j.k, first, last, step, width, e)
                    extreme = _scales(e, top, scale, width, offset, lowest)
                    if even_odd:
                        _largest(a_exponents, b_exponents.ctypes.data, i * j.k, j.k, first + 1, last, 2, width, e)
                        extreme = either(extreme, _scales(e, other_top, other_scale, width, offset, lowest))
                    for n in range(width):
                        u = both(float_bits(c[n]), constant(float_bits(c[n]), 0x7F800000))
                        one, zero = constant(u, 1), constant(u, 0)
                        extreme = either(extreme, pick(equal(u, constant(u, 0x7F800000)), one, zero))
                if not fine or extreme != 0:
                    run_part(j, part, j.product, i, left, width, first, last - first)
                    continue
                for n in range(width):
                    sums[n] = 0
                    other_sums[n] = 0
                _truncated(a, j.b, j.b_step, left, first, last, step, width, scale, sums)
                if even_odd:
                    _truncated(a, j.b, j.b_step, left, first + 1, last, 2, width, other_scale, other_sums)
                    for n in range(width):
                        ed = larger(top[n], other_top[n])
                        own, other = larger(top[n], lowest), larger(other_top[n], lowest)
                        base = larger(ed, lowest)
                        total = floor(np.float64(sums[n]) * _two_to(own, base, 0))
                        total += floor(np.float64(other_sums[n]) * _two_to(other, base, 0))
                        c[n] = _add_late(total, ed, c[n], o.fraction, final, drop_c)
                else:
                    for n in range(width):
                        c[n] = _add_late(np.float64(sums[n]), top[n], c[n], o.fraction, final, drop_c)
    restore_float_mode(found)
