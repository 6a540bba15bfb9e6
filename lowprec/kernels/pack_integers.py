"""Packing of small integers for the micro-kernels of `lowprec.kernels.dots`, with the sums of rows on the way.

A panel holds ``width`` rows (of A, or columns of B: here both are rows) side by side for each group of k:
``panel[group * width + i]`` is a word of four bytes, or of two 16-bit integers, k ascending from the low end. What lies
in it is ``((x & mask) ^ flip) - less``: with the sign bit for `flip` that is x from 0 up, and less half the range it is
x as a signed number, whatever the bits above x hold. Beyond the operand's end there are zeros. The signature is that of
`lowprec.kernels.pack`, with k counted in groups.

Where `sums` is not 0, the sum over k of what was packed for row i goes to ``sums[block * rows + i]``, one row of sums
for each block of `K_BLOCK` groups, so that threads that pack different blocks do not meet.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.pack import SIGNATURE, WORST
from lowprec.kernels.words import (
    add,
    at_address,
    both,
    copy_numbers,
    differ,
    either,
    full_width,
    shl,
    sub,
    transpose_8x8,
)

__all__ = ["FIELDS", "K_BLOCK", "SIGNATURE", "Integers", "pack_bytes", "pack_halves"]

K_BLOCK = 256  # groups: a panel of B then fills half of the first-level cache
_GROUP = 8  # rows that are transposed together


class Integers(NamedTuple):
    """Where an operand of bytes lies and how it is read: int64 numbers in this order."""

    data: int  # address of the element at row 0, k 0
    row_step: int  # bytes from a row to the next
    k_step: int  # bytes from a k to the next; one of both steps is 1
    rows: int
    deep: int  # how many k there are
    mask: int
    flip: int
    less: int
    sums: int  # address of the sums, or 0
    unused: int


FIELDS = len(Integers._fields)


@inline
def _integers(operand):
    o = numba.carray(at_address(operand), FIELDS, np.int64)
    return Integers(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9])


@inline
def _run(o, source, target, count, room, like):
    """Convert ``count`` bytes to numbers like ``like``, then zeros up to ``room``; return their sum."""
    x, y = numba.carray(at_address(source), count, np.uint8), numba.carray(at_address(target), room, like)
    mask, flip, less = np.uint32(o.mask), np.uint32(o.flip), np.uint32(o.less)
    total = np.uint32(0)
    for i in range(count):
        v = sub(differ(both(np.uint32(x[i]), mask), flip), less)
        y[i] = v
        total = add(total, v)
    for i in range(count, room):
        y[i] = 0
    return total


@inline
def _spread(lines, height, count, out, width):
    """Transpose ``height`` rows of ``count`` words into a panel.

    Eight words are written even where the panel is narrower; the next group writes over those that are too many.
    """
    done = count // 8 * 8
    if height < _GROUP:
        done = max(0, (count - 1) // 8 * 8)
    for k in range(0, done, 8):
        transpose_8x8(lines + k * 4, count * 4, out + k * width * 4, width * 4, np.float32(0))
    for i in range(height):
        x = numba.carray(at_address(lines + i * count * 4), count, np.uint32)
        y = numba.carray(at_address(out + i * 4), (count - 1) * width + 1, np.uint32)
        for k in range(done, count):
            y[k * width] = x[k]


@inline
def _along(o, out, first_row, rows, first_k, count, width, tail, scratch, sums, size, like):  # noqa: PLR0917
    """Pack an operand whose k lie side by side: each row converted, then some rows transposed."""
    per = 4 // size
    here = min(count * per, o.deep - first_k * per)
    sources = numba.carray(at_address(sums), rows, np.uint32)
    for first in range(0, rows, width):
        across = width if first + width <= rows else tail
        for start in range(0, across, _GROUP):
            height = min(_GROUP, across - start)
            for i in range(height):
                row, line = first + start + i, scratch + i * count * 4
                if row < rows:
                    at = o.data + (first_row + row) * o.row_step + first_k * per
                    total = _run(o, at, line, here, count * per, like)
                    if sums != 0:
                        sources[row] = total
                else:
                    words = numba.carray(at_address(line), count, np.uint32)
                    for k in range(count):
                        words[k] = 0
            _spread(scratch, height, count, out + (first * count + start) * 4, across)


@inline
def _word(o, x):
    return sub(differ(both(np.uint32(x), np.uint32(o.mask)), np.uint32(o.flip)), np.uint32(o.less))


@inline
def _two_lines(o, source, there, rows, place, low, shift, sums):
    """Put one line of bytes or two into words, above what they hold already, and add them to the sums."""
    full_width()
    w, s = numba.carray(at_address(place), rows, np.uint32), numba.carray(at_address(sums), rows, np.uint32)
    mask, first, second = np.uint32(low), np.uint32(shift), np.uint32(shift + (8 if low == 255 else 16))
    x = numba.carray(at_address(source), rows, np.uint8)
    y = numba.carray(at_address(source + (o.k_step if there > 1 else 0)), rows, np.uint8)
    keep = mask if there > 1 else np.uint32(0)
    for i in range(rows):
        u, v = both(_word(o, x[i]), mask), both(_word(o, y[i]), keep)
        w[i] = either(w[i], either(shl(u, first), shl(v, second)))
    if sums != 0:
        whole = np.uint32(0xFFFFFFFF) if there > 1 else np.uint32(0)
        for i in range(rows):
            s[i] = add(s[i], add(_word(o, x[i]), both(_word(o, y[i]), whole)))


@inline
def _across(o, out, first_row, rows, first_k, count, width, tail, scratch, sums, per):  # noqa: PLR0917
    """Pack an operand whose rows lie side by side: one group of k after the other, handed out to the panels."""
    padded = rows // width * width
    padded += tail if padded < rows else 0
    if sums != 0:
        totals = numba.carray(at_address(sums), rows, np.uint32)
        for i in range(rows):
            totals[i] = 0
    spare = numba.carray(at_address(scratch), padded, np.uint32)
    for i in range(rows, padded):
        spare[i] = 0
    for group in range(count):
        k = (first_k + group) * per
        there = min(per, o.deep - k)
        source = o.data + first_row + k * o.k_step
        for i in range(rows):
            spare[i] = 0
        for pair in range(0, there, 2):
            at = source + pair * o.k_step
            _two_lines(o, at, there - pair, rows, scratch, 255 if per == 4 else 65535, 8 * pair, sums)
        for first in range(0, padded, width):
            across = min(width, padded - first)
            copy_numbers(scratch + first * 4, out + (first * count + group * across) * 4, across, np.float32(0))


@inline
def _sums_of(o, first_row, first_k):
    return 0 if o.sums == 0 else o.sums + (first_k // K_BLOCK * o.rows + first_row) * 4


def pack_bytes(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack groups of four bytes."""
    o, place = _integers(operand), scratch + 8 * WORST
    sums = _sums_of(o, first_row, first_k)
    if o.k_step == 1:
        _along(o, out, first_row, rows, first_k, count, width, tail, place, sums, 1, np.uint8)
    else:
        _across(o, out, first_row, rows, first_k, count, width, tail, place, sums, 4)


def pack_halves(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack groups of two 16-bit integers."""
    o, place = _integers(operand), scratch + 8 * WORST
    sums = _sums_of(o, first_row, first_k)
    if o.k_step == 1:
        _along(o, out, first_row, rows, first_k, count, width, tail, place, sums, 2, np.uint16)
    else:
        _across(o, out, first_row, rows, first_k, count, width, tail, place, sums, 2)
