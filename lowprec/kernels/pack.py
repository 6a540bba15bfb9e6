"""Packing: operands decoded, rounded and laid out in panels for the micro-kernels, in one pass.

A panel holds ``width`` rows (of A, or columns of B: here both are rows) side by side for each k:
``panel[k * width + i]``. Rows beyond the operand's end are zeros. Each packer is a C function
``pack(operand, out, first_row, rows, first_k, count, width, scratch)`` of addresses and counts, for one kind of source
and one of result; it writes ``ceil(rows / width)`` panels of ``count`` k each, one after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numba.extending import overload

from lowprec._jit import inline
from lowprec.kernels.rounding import decode_word, decoding, round_word, rule
from lowprec.kernels.words import (
    add,
    at_address,
    bits_float,
    both,
    constant,
    either,
    float_bits,
    full_width,
    larger,
    shl,
    shr,
    size_of,
    sub,
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


def convert(x, line, o, f, d):
    """Write the numbers of ``x``, decoded and rounded to the operand's format, to ``line``."""
    raise NotImplementedError


@inline
def _convert_codes(x, line, o, f, d):
    if o[5] == EXACT:
        for i in range(line.size):
            line[i] = bits_float(decode_word(np.uint32(x[i]), d))
    else:
        for i in range(line.size):
            line[i] = bits_float(round_word(decode_word(np.uint32(x[i]), d), f))


@inline
def _convert_wide(x, line, o, f, d):
    for i in range(line.size):
        line[i] = bits_float(round_word(float_bits(np.float64(x[i])), f))


@inline
def _convert_floats(x, line, o, f, d):
    if o[5] == EXACT:
        for i in range(line.size):
            line[i] = bits_float(x[i])
    elif o[5] == GENERAL or not _nearest(x, line, o[6], f):
        for i in range(line.size):
            line[i] = bits_float(round_word(x[i], f))


@inline
def _nearest(x, line, limit, f):
    """Round to nearest even by adding and taking off 1.5 * 2**(exponent + dropped bits); say whether that was right.

    The sum has its last place where the format has its own, so the addition rounds as the format does, and the
    subtraction is exact. That holds while the sum is finite and the result in range, which the limit stands for.
    """
    like = f.drop
    one = constant(like, 1)
    bits = add(f.mantissa, f.drop)
    ones = sub(constant(like, 0), one)
    positive = shr(ones, one)
    infinity = shl(shr(positive, bits), bits)
    smallest = shl(f.emin, bits)
    magic = add(shl(f.drop, bits), shl(one, sub(bits, one)))
    worst = constant(like, 0)
    for i in range(line.size):
        u = x[i]
        magnitude = both(u, positive)
        worst = larger(worst, magnitude)
        anchor = bits_float(add(larger(both(magnitude, infinity), smallest), magic))
        rounded = (bits_float(u) + anchor) - anchor
        line[i] = bits_float(either(float_bits(rounded), both(u, f.sign)))
    return np.int64(worst) <= limit


@overload(convert, inline="always")
def _convert(x, line, o, f, d):
    if x.dtype in (numba.types.uint8, numba.types.uint16):
        return lambda x, line, o, f, d: _convert_codes(x, line, o, f, d)
    if x.dtype == numba.types.float32:  # float32 numbers, for a format whose rule needs 64 bits
        return lambda x, line, o, f, d: _convert_wide(x, line, o, f, d)
    return lambda x, line, o, f, d: _convert_floats(x, line, o, f, d)  # bits of float32 or float64 numbers


@inline
def _pack(operand, out, first_row, rows, first_k, count, width, scratch, source, word, result):
    """Pack; ``source``, ``word`` and ``result`` are the dtypes of elements, rule and panels."""
    full_width()
    o = numba.carray(at_address(operand), 7, np.int64)
    f = rule(numba.carray(at_address(o[3]), 22, word))
    d = decoding(numba.carray(at_address(o[4]), 12, np.uint32))
    size, step = size_of(source), size_of(result)
    base = o[0] + (first_row * o[1] + first_k * o[2]) * size
    row_step, k_step = o[1] * size, o[2] * size
    padded = (rows + width - 1) // width * width
    if row_step == size and k_step != size:
        line = numba.carray(at_address(scratch), padded, result)
        line[rows:] = 0
        for k in range(count):
            x = numba.carray(at_address(base + k * k_step), rows, source)
            convert(x, line[:rows], o, f, d)
            for panel in range(padded // width):
                place = out + (panel * count + k) * width * step
                part = numba.carray(at_address(place), width, result)
                for i in range(width):
                    part[i] = line[panel * width + i]
        return
    for first in range(0, padded, width):
        for start in range(0, width, GROUP):
            height = min(GROUP, width - start)
            for i in range(height):
                line = numba.carray(at_address(scratch + i * count * step), count, result)
                row = first + start + i
                if row >= rows:
                    line[:] = 0
                elif k_step == size:
                    x = numba.carray(at_address(base + row * row_step), count, source)
                    convert(x, line, o, f, d)
                else:
                    for k in range(count):
                        x = numba.carray(at_address(base + row * row_step + k * k_step), 1, source)
                        convert(x, line[k : k + 1], o, f, d)
            _spread(scratch, height, count, out + (first * count + start) * step, width, result)


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


def pack_float32_single(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float32 numbers by a 32-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint32, np.uint32, np.float32)


def pack_wide_single(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float32 numbers by a 64-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.float32, np.uint64, np.float32)


def pack_float64_single(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float64 numbers by a 64-bit rule."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint64, np.uint64, np.float32)


def pack_uint8_single(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack 8-bit codes."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint8, np.uint32, np.float32)


def pack_uint16_single(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack 16-bit codes."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint16, np.uint32, np.float32)


def pack_float32_double(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float32 numbers by a 32-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint32, np.uint32, np.float64)


def pack_wide_double(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float32 numbers by a 64-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.float32, np.uint64, np.float64)


def pack_float64_double(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack float64 numbers by a 64-bit rule, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint64, np.uint64, np.float64)


def pack_uint8_double(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack 8-bit codes, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint8, np.uint32, np.float64)


def pack_uint16_double(operand, out, first_row, rows, first_k, count, width, scratch):
    """Pack 16-bit codes, as float64."""
    _pack(operand, out, first_row, rows, first_k, count, width, scratch, np.uint16, np.uint32, np.float64)


SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64)"
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
