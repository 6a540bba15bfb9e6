"""Packing: operands decoded, rounded and laid out in panels for the micro-kernels, in one pass.

A panel holds ``width`` rows (of A, or columns of B: here both are rows) side by side for each k:
``panel[k * width + i]``. Rows beyond the operand's end are zeros. Each packer is a C function
``pack(operand, out, first_row, rows, first_k, count, width, tail, scratch)`` of addresses and counts, for one kind of
source and one of result. It writes ``rows // width`` panels of ``count`` k each, one after the other, and, if rows are
left, one more that is ``tail`` wide. ``scratch`` has
room for eight lines of ``count`` numbers, and for one of ``rows + tail``.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba.extending import overload

from lowprec._jit import inline
from lowprec.kernels.nearest import nearest_run
from lowprec.kernels.rounding import decode_word, decoding, round_word, rule
from lowprec.kernels.words import (
    at_address,
    bits_float,
    copy_numbers,
    float_bits,
    full_width,
    size_of,
    transpose_8x8,
)

GROUP = 8  # rows converted together before they are transposed


class Operand(NamedTuple):
    """Where an operand lies and how it is read: int64 numbers in this order."""

    data: int  # address of the element at row 0, k 0
    row_step: int  # elements from a row to the next
    k_step: int  # elements from a k to the next
    rule: int  # address of the `Rule` of the format that it is rounded to
    decoding: int  # address of the `Decoding` of its codes (unused otherwise)
    how: int  # GENERAL, NEAREST or EXACT
    limit: int  # NEAREST: the largest source magnitude, as bits, that the short way is right for


GENERAL = 0  # any rule
NEAREST = 1  # nearest even, subnormals kept: the short way, unless a magnitude beyond the limit turns up
EXACT = 2  # codes of the very format, or float32 and float64 as they are: nothing to round


def convert(x, line, worst, how, f, d):
    """Write the numbers of ``x``, decoded and rounded to the operand's format, to ``line``."""
    raise NotImplementedError


@inline
def _convert_codes(x, line, worst, how, f, d):
    if how == EXACT:
        for i in range(line.size):
            line[i] = bits_float(decode_word(np.uint32(x[i]), d))
    else:
        for i in range(line.size):
            line[i] = bits_float(round_word(decode_word(np.uint32(x[i]), d), f))


@inline
def _convert_wide(x, line, worst, how, f, d):
    for i in range(line.size):
        line[i] = bits_float(round_word(float_bits(np.float64(x[i])), f))


@inline
def _convert_floats(x, line, worst, how, f, d):
    if how == EXACT:
        for i in range(line.size):
            line[i] = bits_float(x[i])
    elif how == NEAREST:
        nearest_run(x.ctypes.data, line.ctypes.data, line.size, worst, f.drop, f.emin, f.sign, line[0])
    else:
        for i in range(line.size):
            line[i] = bits_float(round_word(x[i], f))


@overload(convert, inline="always")
def _convert(x, line, worst, how, f, d):
    if x.dtype in (numba.types.uint8, numba.types.uint16):
        return lambda x, line, worst, how, f, d: _convert_codes(x, line, worst, how, f, d)
    if x.dtype == numba.types.float32:  # float32 numbers, for a format whose rule needs 64 bits
        return lambda x, line, worst, how, f, d: _convert_wide(x, line, worst, how, f, d)
    # bits of float32 or float64 numbers
    return lambda x, line, worst, how, f, d: _convert_floats(x, line, worst, how, f, d)


class _Block(NamedTuple):
    """What a call packs."""

    base: int  # address of its first element
    row_step: int  # bytes
    k_step: int  # bytes
    rows: int
    deep: int  # how many k
    width: int
    tail: int


@inline
def _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, source, word, result):
    """Pack; ``source``, ``word`` and ``result`` are the dtypes of elements, rule and panels."""
    full_width()
    o = numba.carray(at_address(operand), 7, np.int64)
    f = rule(numba.carray(at_address(o[3]), 22, word))
    d = decoding(numba.carray(at_address(o[4]), 12, np.uint32))
    size = size_of(source)
    base = o[0] + (first_row * o[1] + first_k * o[2]) * size
    b = _Block(base, o[1] * size, o[2] * size, rows, count, width, tail)
    how = o[5]
    across = b.row_step == size and b.k_step != size
    largest = np.zeros(16, word)
    worst = largest.ctypes.data
    while True:
        if across:
            _pack_across(b, out, worst, how, f, d, scratch, source, result)
        else:
            _pack_along(b, out, worst, how, f, d, scratch, source, result)
        if how != NEAREST or np.int64(largest.max()) <= o[6]:
            break
        how = GENERAL  # the short way met a magnitude that it is not right for


@inline
def _pack_across(b, out, worst, how, f, d, scratch, source, result):
    """Pack an operand whose rows lie side by side: convert them for one k, and hand them out to the panels."""
    step = size_of(result)
    padded = b.rows // b.width * b.width
    padded += b.tail if padded < b.rows else 0
    line = numba.carray(at_address(scratch), padded, result)
    line[b.rows :] = 0
    for k in range(b.deep):
        x = numba.carray(at_address(b.base + k * b.k_step), b.rows, source)
        convert(x, line[: b.rows], worst, how, f, d)
        for first in range(0, padded, b.width):
            width = min(b.width, padded - first)
            copy_numbers(scratch + first * step, out + (first * b.deep + k * width) * step, width, line[0])


@inline
def _pack_along(b, out, worst, how, f, d, scratch, source, result):
    """Pack an operand by converting each row for all k, some rows at a time, and transposing."""
    step = size_of(result)
    for first in range(0, b.rows, b.width):
        width = b.width if first + b.width <= b.rows else b.tail
        for start in range(0, width, GROUP):
            height = min(GROUP, width - start)
            for i in range(height):
                line = numba.carray(at_address(scratch + i * b.deep * step), b.deep, result)
                row = first + start + i
                if row >= b.rows:
                    line[:] = 0
                elif b.k_step == size_of(source):
                    x = numba.carray(at_address(b.base + row * b.row_step), b.deep, source)
                    convert(x, line, worst, how, f, d)
                else:
                    for k in range(b.deep):
                        x = numba.carray(at_address(b.base + row * b.row_step + k * b.k_step), 1, source)
                        convert(x, line[k : k + 1], worst, how, f, d)
            _spread(scratch, height, b.deep, out + (first * b.deep + start) * step, width, result)


@inline
def _spread(scratch, height, count, out, width, result):
    """Transpose ``height`` rows of ``count`` numbers into a panel."""
    step = size_of(result)
    done = 0
    if height == GROUP:
        done = count // 8 * 8
        like = numba.carray(at_address(scratch), 1, result)[0]
        for k in range(0, done, 8):
            transpose_8x8(scratch + k * step, count * step, out + k * width * step, width * step, like)
    for i in range(height):
        line = numba.carray(at_address(scratch + i * count * step), count, result)
        for k in range(done, count):
            numba.carray(at_address(out + (k * width + i) * step), 1, result)[0] = line[k]


def pack_float32_single(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float32 numbers by a 32-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint32, np.uint32, np.float32)


def pack_wide_single(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float32 numbers by a 64-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.float32, np.uint64, np.float32)


def pack_float64_single(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float64 numbers by a 64-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint64, np.uint64, np.float32)


def pack_uint8_single(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack 8-bit codes."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint8, np.uint32, np.float32)


def pack_uint16_single(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack 16-bit codes."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint16, np.uint32, np.float32)


def pack_float32_double(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float32 numbers by a 32-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint32, np.uint32, np.float64)


def pack_wide_double(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float32 numbers by a 64-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.float32, np.uint64, np.float64)


def pack_float64_double(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack float64 numbers by a 64-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint64, np.uint64, np.float64)


def pack_uint8_double(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack 8-bit codes, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint8, np.uint32, np.float64)


def pack_uint16_double(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack 16-bit codes, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch, np.uint16, np.uint32, np.float64)


SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"
PACKERS = {
    ("float32", 4): pack_float32_single,
    ("wide", 4): pack_wide_single,
    ("float64", 4): pack_float64_single,
    ("uint8", 4): pack_uint8_single,
    ("uint16", 4): pack_uint16_single,
    ("float32", 8): pack_float32_double,
    ("wide", 8): pack_wide_double,
    ("float64", 8): pack_float64_double,
    ("uint8", 8): pack_uint8_double,
    ("uint16", 8): pack_uint16_double,
}
