"""Packing: operands decoded, rounded and laid out in panels for the micro-kernels, in one pass.

A panel holds ``width`` rows (of A, or columns of B: here both are rows) side by side for each k:
``panel[k * width + i]``. Rows beyond the operand's end are zeros. A packer is a C function
``pack(operand, out, first_row, rows, first_k, count, width, tail, scratch)`` of addresses and counts, with ``operand``
the address of an `Operand`. It writes ``rows // width`` panels of ``count`` k each, one after the other, and, if rows
are left, one more that is ``tail`` wide. ``scratch`` has room for 128 bytes, and then for eight lines of ``count``
numbers, and for one of ``rows + tail``.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.convert import FIELDS, GENERAL, NEAREST, Operand
from lowprec.kernels.words import at_address, call_6, copy_numbers, transpose_8x8

WORST = 16  # words in which `nearest_run` keeps the largest magnitudes, at the start of the scratch
GROUP = 8  # rows converted together before they are transposed


class _Block(NamedTuple):
    """What a call packs."""

    operand: int
    convert: int
    base: int  # address of its first element
    row_step: int  # bytes
    k_step: int  # bytes
    item: int  # bytes of an element
    step: int  # bytes of a number in a panel
    rows: int
    deep: int  # how many k
    width: int
    tail: int


@inline
def _operand(operand):
    o = numba.carray(at_address(operand), FIELDS, np.int64)
    return Operand(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9])


@inline
def _beyond(scratch, item, limit):
    """Say whether a magnitude that `nearest_run` saw is above the limit."""
    found = False
    if item == 4:
        single = numba.carray(at_address(scratch), WORST, np.uint32)
        for i in range(WORST):
            found |= np.int64(single[i]) > limit
    else:
        double = numba.carray(at_address(scratch), WORST, np.int64)
        for i in range(WORST):
            found |= double[i] > limit
    return found


@inline
def _pack_across(b, out, scratch, how):
    """Pack an operand whose rows lie side by side: convert them for one k, and hand them out to the panels."""
    step = b.step
    place = scratch + 8 * WORST
    padded = b.rows // b.width * b.width
    padded += b.tail if padded < b.rows else 0
    _clear(place + b.rows * step, (padded - b.rows) * step)
    for k in range(b.deep):
        call_6(b.convert, b.operand, b.base + k * b.k_step, b.rows, place, scratch, how)
        for first in range(0, padded, b.width):
            width = min(b.width, padded - first)
            target = out + (first * b.deep + k * width) * step
            copy_numbers(place + first * step, target, width * step // 4, np.float32(0))


@inline
def _pack_along(b, out, scratch, how):
    """Pack an operand by converting each row for all k, some rows at a time, and transposing."""
    step = b.step
    place = scratch + 8 * WORST
    for first in range(0, b.rows, b.width):
        width = b.width if first + b.width <= b.rows else b.tail
        for start in range(0, width, GROUP):
            height = min(GROUP, width - start)
            for i in range(height):
                at = place + i * b.deep * step
                row = first + start + i
                if row >= b.rows:
                    _clear(at, b.deep * step)
                elif b.k_step == b.item:
                    call_6(b.convert, b.operand, b.base + row * b.row_step, b.deep, at, scratch, how)
                else:
                    for k in range(b.deep):
                        source = b.base + row * b.row_step + k * b.k_step
                        call_6(b.convert, b.operand, source, 1, at + k * step, scratch, how)
            _spread(place, height, b.deep, out + (first * b.deep + start) * step, width, step)


@inline
def _clear(address, size):
    """Set so many bytes to zero, a multiple of four."""
    words = numba.carray(at_address(address), size // 4, np.uint32)
    for i in range(size // 4):
        words[i] = 0


@inline
def _spread(scratch, height, count, out, width, step):
    """Transpose ``height`` rows of ``count`` numbers into a panel."""
    done = 0
    if height == GROUP:
        done = count // 8 * 8
        for k in range(0, done, 8):
            if step == 4:
                transpose_8x8(scratch + k * 4, count * 4, out + k * width * 4, width * 4, np.float32(0))
            else:
                transpose_8x8(scratch + k * 8, count * 8, out + k * width * 8, width * 8, np.float64(0))
    for i in range(height):
        for k in range(done, count):
            source, target = scratch + (i * count + k) * step, out + (k * width + i) * step
            for word in range(0, step, 4):
                x = numba.carray(at_address(source + word), 1, np.uint32)
                numba.carray(at_address(target + word), 1, np.uint32)[0] = x[0]


def pack(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack, as the head of this file says."""
    o = _operand(operand)
    base = o.data + (first_row * o.row_step + first_k * o.k_step) * o.item
    row_step, k_step = o.row_step * o.item, o.k_step * o.item
    b = _Block(operand, o.convert, base, row_step, k_step, o.item, o.step, rows, count, width, tail)
    worst = numba.carray(at_address(scratch), WORST, np.uint64)
    for i in range(WORST):
        worst[i] = 0
    how = o.how
    while True:
        if row_step == o.item and k_step != o.item:
            _pack_across(b, out, scratch, how)
        else:
            _pack_along(b, out, scratch, how)
        if how != NEAREST or not _beyond(scratch, o.item, o.limit):
            break
        how = GENERAL  # the short way met a magnitude that it is not right for


SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"
