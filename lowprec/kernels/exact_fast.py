"""The exact sum of products of ordinary data, many columns at once: a `Strip` kernel.

A number is cut by adding and taking off 1.5 * 2**e: what remains of it is a multiple of 2**(e - 52), and sums of such
parts are exact while there are fewer than 2**52 of their units (Rump, Ogita and Oishi, 2008). Three cuts, each below
the last, hold about 120 bits from the largest product down. Products that reach lower, infinities and NaN are summed
again in fixed point.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import numbers
from lowprec.kernels.fixed import LIMBS, add_number, clear, odd_total, power
from lowprec.kernels.rounding import round_word
from lowprec.kernels.strip import COLUMNS, part_of, read_rule, run_part, strip
from lowprec.kernels.words import (
    bits_float,
    both,
    constant,
    either,
    float_bits,
    full_width,
    larger,
    restore_float_mode,
    standard_float_mode,
)


@inline
def _largest(x, count):
    """Return the exponent field of the largest magnitude."""
    worst = np.uint32(0)
    for n in range(count):
        u = float_bits(x[n])
        worst = larger(worst, both(u, constant(u, 0x7F800000)))
    return np.int64(worst) >> 23


@inline
def _anchor(e):
    """Return 1.5 * 2**e."""
    return 1.5 * power(e)


def exact(job):
    """Write the exact sums of c and all products, rounded by a 64-bit rule."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    f = read_rule(j.rule)
    part = part_of(job)
    limbs = np.empty(LIMBS, np.int64)
    high, middle = np.empty(COLUMNS, np.float64), np.empty(COLUMNS, np.float64)
    low = np.empty(COLUMNS, np.float64)
    count = 1
    while 1 << count < j.k:
        count += 1
    gain = 51 - count  # bits that a cut takes
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        most = 0
        for k in range(j.k):
            most = max(most, _largest(numbers(j.b + (k * j.b_step + left) * 4, width), width))
        for i in range(j.rows):
            a = numbers(j.a + i * j.a_step * 4, j.k)
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            own = _largest(a, j.k)
            lost = np.uint64(1)
            if own < 255 and most < 255 and _largest(c, width) < 255 and count < 30:
                lost = np.uint64(0)
                top = max(own, 1) + max(most, 1) - 254 + 2 + count  # of the sum of all magnitudes
                cut, next_cut, last_cut = _anchor(top + 1), _anchor(top + 1 - gain), _anchor(top + 1 - 2 * gain)
                for n in range(width):
                    high[n] = 0.0
                    middle[n] = 0.0
                    low[n] = 0.0
                for k in range(j.k):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    x = np.float64(a[k])
                    for n in range(width):
                        p = x * np.float64(b[n])
                        q = (p + cut) - cut
                        high[n] += q
                        p -= q
                        q = (p + next_cut) - next_cut
                        middle[n] += q
                        p -= q
                        q = (p + last_cut) - last_cut
                        low[n] += q
                        lost = either(lost, float_bits((p - q) + 0.0))  # a zero counts as +0
            if lost != 0:
                run_part(j, part, j.product, i, left, width, 0, j.k)
                continue
            for n in range(width):
                clear(limbs)
                add_number(limbs, np.float64(c[n]))
                add_number(limbs, high[n])
                add_number(limbs, middle[n])
                add_number(limbs, low[n])
                total = odd_total(limbs)
                if total == 0.0:
                    run_part(j, part, j.product, i, left + n, 1, 0, j.k)
                else:
                    c[n] = np.float32(bits_float(round_word(float_bits(total), f)))
    restore_float_mode(found)
