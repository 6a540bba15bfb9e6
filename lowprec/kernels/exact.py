"""The exact sum of products, and sums in a tree: `Strip` kernels."""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import numbers
from lowprec.kernels.fixed import LIMBS, add_number, clear, odd_total
from lowprec.kernels.rounding import philox_block, round_word, round_word_stochastic
from lowprec.kernels.strip import COLUMNS, odd_sum, parameters, read_rule, signed_zero, strip
from lowprec.kernels.words import bits_float, float_bits, fma, full_width, restore_float_mode, standard_float_mode


@inline
def _zero_sum(c, a, b, step, count, minus_zero):
    """Return the zero that an exact zero sum is: -0 if all addends are, else +0, or -0 toward negative."""
    negative = np.signbit(c)
    positive = not negative
    if c != 0.0:
        negative = False
        positive = False
    for k in range(count):
        product = np.float64(a[k]) * np.float64(b[k * step])
        sign = np.signbit(product)
        negative &= product == 0.0 and sign
        positive &= product == 0.0 and not sign
    return -0.0 if negative or (minus_zero and not positive) else 0.0


def exact(job):
    """Write the exact sums of c and all products, rounded by a 64-bit rule."""
    found = standard_float_mode()
    j = strip(job)
    f = read_rule(j.rule)
    limbs = np.empty(LIMBS, np.int64)
    for i in range(j.rows):
        a = numbers(j.a + i * j.a_step * 4, j.k)
        for n in range(j.columns):
            b = numbers(j.b + n * 4, j.k * j.b_step)
            c = numbers(j.c + (i * j.c_step + n) * 4, 1)
            clear(limbs)
            special = 0.0
            for k in range(-1, j.k):
                product = np.float64(c[0]) if k < 0 else np.float64(a[k]) * np.float64(b[k * j.b_step])
                if np.isfinite(product):
                    add_number(limbs, product)
                else:
                    special += product
            total = special if special != 0.0 else odd_total(limbs)
            if total == 0.0:
                total = _zero_sum(c[0], a, b, j.b_step, j.k, j.minus_zero)
            c[0] = np.float32(bits_float(round_word(float_bits(total), f)))
    restore_float_mode(found)


LEVELS = 40


@inline
def _add_rounded(target, other, width, f, minus_zero):
    """Add numbers to others, rounded."""
    for n in range(width):
        r = other[n]
        total = signed_zero(odd_sum(target[n], r), target[n], r, minus_zero)
        target[n] = bits_float(round_word(total, f))


def pairwise(job):
    """Add the tree sums of products to c; leaves of ``parameters[0]`` products each.

    As in a binary counter: the sums of 2**level leaves wait in ``waiting[level]`` for their neighbours.
    """
    full_width()
    found = standard_float_mode()
    j = strip(job)
    block = parameters(job)[0]
    f = read_rule(j.rule)
    minus_zero = np.uint64(-j.minus_zero)
    waiting = np.empty((LEVELS, COLUMNS), np.float64)
    leaf, products = np.empty(COLUMNS, np.float64), np.empty(COLUMNS, np.float64)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            count = 0
            for first in range(0, j.k, block):
                for n in range(width):
                    leaf[n] = 0.0
                for k in range(first, min(first + block, j.k)):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    x = np.float64(a[k])
                    for n in range(width):
                        products[n] = x * np.float64(b[n])
                    _add_rounded(leaf, products, width, f, minus_zero)
                level, rest = 0, count
                while rest & 1:
                    _add_rounded(leaf, waiting[level], width, f, minus_zero)
                    level, rest = level + 1, rest >> 1
                for n in range(width):
                    waiting[level, n] = leaf[n]
                count += 1
            level = 0
            while count >> level and not (count >> level) & 1:
                level += 1
            for n in range(width):
                leaf[n] = waiting[level, n] if count else 0.0
            for above in range(level + 1, LEVELS):
                if (count >> above) & 1:
                    _add_rounded(leaf, waiting[above], width, f, minus_zero)
            for n in range(width):
                r = np.float64(c[n])
                total = signed_zero(odd_sum(r, leaf[n]), r, leaf[n], minus_zero)
                c[n] = np.float32(bits_float(round_word(total, f)))
    restore_float_mode(found)


def pairwise_single(job):
    """Do what `pairwise` does, in float32 to nearest even, which the CPU adds in itself."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    block = parameters(job)[0]
    waiting = np.empty((LEVELS, COLUMNS), np.float32)
    leaf = np.empty(COLUMNS, np.float32)
    for left in range(0, j.columns, COLUMNS):
        width = min(COLUMNS, j.columns - left)
        for i in range(j.rows):
            c = numbers(j.c + (i * j.c_step + left) * 4, width)
            a = numbers(j.a + i * j.a_step * 4, j.k)
            count = 0
            for first in range(0, j.k, block):
                for n in range(width):
                    leaf[n] = 0.0
                for k in range(first, min(first + block, j.k)):
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    x = a[k]
                    for n in range(width):
                        leaf[n] = fma(x, b[n], leaf[n])
                level, rest = 0, count
                while rest & 1:
                    for n in range(width):
                        leaf[n] = waiting[level, n] + leaf[n]
                    level, rest = level + 1, rest >> 1
                for n in range(width):
                    waiting[level, n] = leaf[n]
                count += 1
            level = 0
            while not (count >> level) & 1:
                level += 1
            for n in range(width):
                leaf[n] = waiting[level, n]
            for above in range(level + 1, LEVELS):
                if (count >> above) & 1:
                    for n in range(width):
                        leaf[n] = waiting[above, n] + leaf[n]
            for n in range(width):
                c[n] = c[n] + leaf[n]
    restore_float_mode(found)


def add_rounded(job):
    """Add the numbers in the place of A to c, each sum rounded by a 64-bit rule, stochastic too (step ``first_k``)."""
    full_width()
    found = standard_float_mode()
    j = strip(job)
    f = read_rule(j.rule)
    minus_zero = np.uint64(-j.minus_zero)
    bits = np.uint64(j.random_bits)
    for i in range(j.rows):
        c = numbers(j.c + i * j.c_step * 4, j.columns)
        t = numbers(j.a + i * j.a_step * 4, j.columns)
        for n in range(j.columns):
            p, r = np.float64(t[n]), np.float64(c[n])
            if j.random_bits:
                index = np.uint64(j.element + i * j.element_step + n)
                words = philox_block(np.uint64(j.seed), index, np.uint64(j.stream), np.uint64(j.first_k // 4))
                turn = j.first_k % 4
                word = words[0] if turn == 0 else words[1] if turn == 1 else words[2] if turn == 2 else words[3]
                c[n] = np.float32(bits_float(round_word_stochastic(odd_sum(p, r), f, word, bits)))
            else:
                total = signed_zero(odd_sum(p, r), p, r, minus_zero)
                c[n] = np.float32(bits_float(round_word(total, f)))
    restore_float_mode(found)
