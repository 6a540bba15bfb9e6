"""One step of every processing element of a systolic array: r becomes a * b + r where an element is active.

All arrays of a kernel are flat and of one length, one entry per processing element.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.rounding import philox_block, round_word, round_word_stochastic, rule
from lowprec.kernels.strip import _signed_nothing, odd_fma, odd_sum, signed_zero
from lowprec.kernels.words import (
    bits_float,
    float_bits,
    fma,
    full_width,
    restore_float_mode,
    standard_float_mode,
)


@njit()
def fused(a, b, r, active):
    """Add by fused multiply-adds in the arrays' own float32 or float64."""
    full_width()
    found = standard_float_mode()
    for i in range(r.size):
        total = fma(a[i], b[i], r[i])
        r[i] = total if active[i] else r[i]
    restore_float_mode(found)


@njit()
def integer(a, b, r, active, bits, signed, saturate):
    """Add integers; the sums, int64, wrap to ``bits`` or stop at the ends of the range."""
    full_width()
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    mask, sign = (1 << bits) - 1, (1 << (bits - 1)) if signed else 0
    if saturate:
        for i in range(r.size):
            total = r[i] + np.int64(a[i]) * np.int64(b[i])
            r[i] = min(max(total, low), high) if active[i] else r[i]
    else:
        for i in range(r.size):
            total = r[i] + np.int64(a[i]) * np.int64(b[i])
            r[i] = ((total & mask) ^ sign) - sign if active[i] else r[i]


@inline
def _word(seed, element, stream, step):
    """Return the random word of a step of an element."""
    words = philox_block(np.uint64(seed), np.uint64(element), np.uint64(stream), np.uint64(step // 4))
    turn = step % 4
    return words[0] if turn == 0 else words[1] if turn == 1 else words[2] if turn == 2 else words[3]


@inline
def _rounded(bits, f, random_bits, seed, element, stream, step):
    """Round a float64, given by its bits, by a rule or, with random bits, by chance."""
    if random_bits:
        return round_word_stochastic(bits, f, _word(seed, element, stream, step), np.uint64(random_bits))
    return round_word(bits, f)


@njit()
def rounded(a, b, r, active, element, step, rules, numbers):
    """Add products to sums, each rounded by a 64-bit rule.

    ``rules``: two rows, that of sums and that of products. ``numbers``: whether products are rounded, the random bits
    (0: none), the seed, the stream of the sums' random words, whether an exact zero is -0, and whether products of
    two operands may take more than 53 bits.
    """
    found = standard_float_mode()
    f, g = rule(rules[0]), rule(rules[1])
    product, random_bits, seed, stream = numbers[0], numbers[1], numbers[2], numbers[3]
    minus_zero, wide = np.uint64(-numbers[4]), numbers[5]
    for i in range(r.size):
        if not active[i]:
            continue
        x, y, z = np.float64(a[i]), np.float64(b[i]), np.float64(r[i])
        p = x * y
        if wide and not product:
            total = signed_zero(odd_fma(x, y, z), p, z, minus_zero)
        else:
            if product:
                if wide:
                    p = bits_float(odd_fma(x, y, _signed_nothing(x, y)))
                p = bits_float(_rounded(float_bits(p), g, random_bits, seed, element[i], stream + 1, step[i]))
            total = odd_sum(p, z)
            if not random_bits:
                total = signed_zero(total, p, z, minus_zero)
        r[i] = bits_float(_rounded(total, f, random_bits, seed, element[i], stream, step[i]))
    restore_float_mode(found)
