"""One product after the other in a short format, rounded stochastically, of ordinary data: a `Strip` kernel.

A stochastic rounding adds random bits below the format's last place and cuts. The float32 sum has the first of the
bits that are cut exactly, but for one unit: the outcome is in doubt only where the random bits bring it to the very
border, or where both are zero (the sum may have been rounded up to that), and there the general way decides. So does
it for runs of k that `lowprec.kernels.strip_fast` would not take, and for the rest of a run that has too many doubts.
"""

from __future__ import annotations

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.aligned import numbers
from lowprec.kernels.rounding import philox_block
from lowprec.kernels.strip import COLUMNS, parameters, part_of, run_part, strip
from lowprec.kernels.strip_fast import RUN, _largest, _ordinary
from lowprec.kernels.words import (
    add,
    at_address,
    bits_float,
    both,
    call_1,
    constant,
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


@inline
def _row(address, turn):
    """Return the random words of a step."""
    return numba.carray(at_address(address + turn * COLUMNS * 4), COLUMNS, np.uint32)


@inline
def _draw(j, words, element, width, step):
    """Fill in the random words of the four steps that one belongs to."""
    w0, w1, w2, w3 = _row(words, 0), _row(words, 1), _row(words, 2), _row(words, 3)
    for n in range(width):
        a, b, c, d = philox_block(np.uint64(j.seed), np.uint64(element + n), np.uint64(j.stream), np.uint64(step // 4))
        w0[n], w1[n], w2[n], w3[n] = np.uint32(a), np.uint32(b), np.uint32(c), np.uint32(d)


@inline
def _step(x, b, c, fresh, doubts, words, width, drop, bits, emin, top):
    """Write rounded sums, and which are in doubt; return whether any is, and whether any is out of range."""
    zero, one, field = constant(drop, 0), constant(drop, 1), constant(drop, 0x7F800000)
    rest = sub(shl(one, drop), one)
    kept = sub(constant(drop, 0xFFFFFFFF), rest)
    cut = sub(constant(drop, 32), smaller(bits, drop))
    raise_by = sub(drop, smaller(bits, drop))
    seen, low, high = zero, field, zero
    for n in range(width):
        u = float_bits(fma(x, b[n], c[n]))
        exponent = both(u, field)
        low, high = smaller(low, exponent), larger(high, exponent)
        more = shl(shr(words[n], cut), raise_by)
        fresh[n] = bits_float(both(add(u, more), kept))
        total = add(both(u, rest), more)
        doubt = pick(less(sub(total, rest), constant(drop, 2)), one, pick(equal(total, zero), one, zero))
        doubts[n] = doubt
        seen = either(seen, doubt)
    return seen, pick(less(low, emin), one, pick(less(high, top), zero, one))


def stochastic(job):
    """Continue sums; the first parameters are bits to drop, the smallest normal number and the largest number."""
    full_width()
    found = standard_float_mode()
    j, p = strip(job), parameters(job)
    drop, bits, emin = np.uint32(p[0]), np.uint32(j.random_bits), np.uint32(p[1])
    top = np.uint32(p[2] & 0x7F800000)
    part = part_of(job)
    part[14] = 0
    sums, doubts = np.empty(2 * COLUMNS, np.float32), np.empty(COLUMNS, np.uint32)
    words = np.empty(4 * COLUMNS, np.uint32)
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
                element = j.element + i * j.element_step + left
                if not fine_b or not _ordinary(a, last - first) or _largest(c, width) >= 0x6C800000:
                    part[9], part[10] = j.first_k + first, element
                    run_part(j, part, j.product, i, left, width, first, last - first)
                    continue
                old, new = np.int64(sums.ctypes.data), np.int64(sums.ctypes.data + 4 * COLUMNS)
                start = numbers(old, width)
                for n in range(width):
                    start[n] = c[n]
                bad = 0
                for k in range(first, last):
                    if bad >= 4 and 4 * bad >= k - first:
                        now = numbers(old, width)
                        for n in range(width):
                            c[n] = now[n]
                        part[9], part[10] = j.first_k + k, element
                        run_part(j, part, j.product, i, left, width, k, last - k)
                        break
                    step = j.first_k + k
                    if step % 4 == 0 or k == first:
                        _draw(j, words.ctypes.data, element, width, step)
                    b = numbers(j.b + (k * j.b_step + left) * 4, width)
                    now, fresh = numbers(old, width), numbers(new, width)
                    turn = _row(words.ctypes.data, step % 4)
                    doubt, outside = _step(a[k - first], b, now, fresh, doubts, turn, width, drop, bits, emin, top)
                    if doubt != 0 or outside != 0:
                        count = 0
                        for n in range(width):
                            count += doubts[n] != 0
                        outside |= count > 8
                        bad += outside != 0
                        for n in range(width):
                            if doubts[n] != 0 or outside != 0:
                                fresh[n] = now[n]
                                part[0], part[1] = j.a + (i * j.a_step + k) * 4, j.b + (k * j.b_step + left + n) * 4
                                part[2] = new + 4 * n
                                part[6], part[7], part[8], part[9], part[10] = 1, 1, 1, step, element + n
                                if outside == 0:
                                    call_1(j.product, part.ctypes.data)
                        if outside != 0:
                            part[1], part[2] = j.b + (k * j.b_step + left) * 4, new
                            part[7], part[10] = width, element
                            call_1(j.product, part.ctypes.data)
                    old, new = new, old
                else:
                    now = numbers(old, width)
                    for n in range(width):
                        c[n] = now[n]
    restore_float_mode(found)
