"""Blocks of float32 numbers into scales and codes, in one pass over memory.

A strip of numbers stays in the first cache while its blocks' extents, scales and codes are found, one after the other,
each in a loop that fills the vector registers. Blocks lie along rows, or down the columns of a matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.extents import extent_run
from lowprec.kernels.packing import pack_codes
from lowprec.kernels.rounding import power_bits
from lowprec.kernels.words import (
    add,
    bits_float,
    both,
    constant,
    either,
    equal,
    float_bits,
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

STRIP = 2048  # numbers that are worked on at a time, a multiple of 16
WIDTH = 1024  # columns that are worked on at a time, where blocks lie down the columns; not more than a strip
GIVEN, LINEAR, AFFINE, POWER = range(4)  # how scales are found
INTEGER, FLOAT = range(2)  # what elements are


class Numbers(NamedTuple):
    """The integers that quantising is made of; `lowprec._quantizing` makes them."""

    kind: int  # how scales are found; GIVEN: ``codes`` holds the bits of the divisors, ``points`` the zero points
    element: int  # INTEGER or FLOAT
    width: int  # of an element's code
    bits: int  # of a code in the result: its width if packed, else 8
    drop: int  # FLOAT: float32's mantissa bits beyond the element's
    emin: int  # FLOAT: float32's exponent field at the element's smallest normal number
    sign: int  # FLOAT: the sign bit of a code
    zero_sign: int  # FLOAT: the same where -0 exists, else 0
    emax: int = 0  # POWER: taken off the exponent
    bump: int = 0  # POWER: added to the bits before the exponent is taken
    zero: int = 0  # LINEAR, AFFINE: the scale's code for a block of zeros
    zero_bits: int = 0  # and its bits in float32
    scale_drop: int = 0  # as `drop`, of the scales
    scale_emin: int = 0  # as `emin`, of the scales
    scale_most: int = 0  # the largest scale's code
    scale_most_bits: int = 0  # and its bits in float32
    scale_least_bits: int = 0  # the bits of the smallest positive scale
    scale_up: int = 0  # 1 if scales are rounded up, 0 to nearest even


class Reals(NamedTuple):
    """The float32 numbers that quantising is made of."""

    divisor: float  # what the largest magnitude, or the extent, is divided by
    share: float  # and then by this, the scale above the scales
    tensor: float  # what a scale is multiplied by to give the divisor of numbers
    low: float  # least element
    high: float  # largest element


class Shape(NamedTuple):
    """Matrices of equal size, one after the other, with blocks down their columns; one column makes a row of blocks."""

    length: int  # numbers of one matrix
    columns: int
    block: int  # rows of a block; the last block of a matrix may have less


@inline
def _numbers(p):
    """Read `Numbers` out of an array."""
    return Numbers(
        p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13], p[14],
        p[15], p[16], p[17],
    )  # fmt: skip


@inline
def _reals(p):
    """Read `Reals` out of an array."""
    return Reals(p[0], p[1], p[2], p[3], p[4])


@inline
def shape_of(p):
    """Read a `Shape` out of an array."""
    return Shape(p[0], p[1], p[2])


@inline
def _magnitude(most, least):
    """Return the bits of the largest magnitude, from the signed and the unsigned maximum."""
    top = constant(most, 0x80000000)
    return larger(most, pick(less(least, top), constant(most, 0), sub(least, top)))


@inline
def _whole(x):
    """Round a number of magnitude below 2**22 to an integer, ties to even."""
    anchor = np.float32(12582912.0)
    return (x + anchor) - anchor


@inline
def _clipped(x, low, high):
    """Put a number between two others; NaN becomes the lower one."""
    x = x if x > low else low
    return x if x < high else high


@inline
def _step(value, r):
    """Return what numbers are divided by: scale times tensor scale, never 0."""
    step = bits_float(value) * r.tensor
    return bits_float(larger(float_bits(step), constant(value, 1)))


@inline
def _rounded_scale(u, n):
    """Round a positive number with these bits to the format of the scales; return the code, and the value's bits.

    Too small becomes the smallest positive scale, too large or infinite the largest. As `rounding.encode_word`.
    """
    zero, one, mantissa = constant(u, 0), constant(u, 1), constant(u, 23)
    drop, emin = np.uint32(n.scale_drop), np.uint32(n.scale_emin)
    field = shr(u, mantissa)
    exponent = larger(field, one)
    significand = add(sub(u, shl(field, mantissa)), pick(equal(field, zero), zero, constant(u, 0x800000)))
    above = larger(exponent, emin)
    shift = smaller(add(drop, sub(above, exponent)), constant(u, 25))
    rest = sub(shl(one, shift), one)
    nearest = add(shr(rest, one), both(shr(significand, shift), one))
    more = both(pick(n.scale_up != 0, rest, nearest), rest)
    code = add(shl(sub(above, emin), sub(mantissa, drop)), shr(add(significand, more), shift))
    value = pick(less(mantissa, shift), zero, both(add(u, more), sub(constant(u, 0xFFFFFFFF), rest)))
    code = smaller(larger(code, one), np.uint32(n.scale_most))
    return code, smaller(larger(value, np.uint32(n.scale_least_bits)), np.uint32(n.scale_most_bits))


@inline
def _find_scales(most, least, n, r, codes, steps, points):
    """Turn the extents of blocks into codes of scales, divisors of numbers, and zero points; count infinite blocks."""
    infinity, zero_code, zero_value = np.uint32(0x7F800000), np.uint32(n.zero), np.uint32(n.zero_bits)
    wrong = 0
    if n.kind == POWER:
        emax, bump = np.uint32(n.emax), np.uint32(n.bump)
        for i in range(codes.size):
            u = _magnitude(most[i], least[i])
            v = float_bits(bits_float(u) / r.divisor)
            fine = less(v, constant(u, 0x800000))
            field = shr(add(v, pick(fine, shr(bump, constant(u, 1)), bump)), constant(u, 23))
            code = smaller(sub(larger(field, emax), emax), constant(u, 254))
            codes[i] = code
            steps[i] = _step(power_bits(code, constant(u, 255)), r)
            wrong += infinity <= u
        return wrong
    affine = n.kind == AFFINE
    for i in range(codes.size):
        u = _magnitude(most[i], least[i])
        high = bits_float(most[i])
        low = bits_float(pick(less(least[i], constant(u, 0x80000000)), constant(u, 0), least[i]))
        extent = float_bits(high - low) if affine else u
        extent = smaller(extent, constant(u, 0x7F7FFFFF))  # the two ends may be further apart than the largest number
        code, value = _rounded_scale(float_bits(bits_float(extent) / r.divisor / r.share), n)
        codes[i] = pick(equal(u, constant(u, 0)), zero_code, code)
        steps[i] = _step(pick(equal(u, constant(u, 0)), zero_value, value), r)
        points[i] = low
        wrong += infinity <= u
    if affine:
        for i in range(codes.size):
            points[i] = _whole(_clipped(r.low - points[i] / steps[i], r.low, r.high))
    return wrong


@inline
def _encode(x, steps, points, n, r, out):
    """Encode numbers, each with its own divisor and zero point."""
    high = r.high
    if n.element == INTEGER:
        anchor, mask = np.float32(12582912.0), np.uint32((1 << n.width) - 1)
        for i in range(x.size):
            quotient, point = x[i] / steps[i], points[i]
            kept = _clipped(quotient, r.low - point, high - point)
            out[i] = both(add(float_bits(kept + anchor), float_bits(point + anchor)), mask)
    else:
        # 1.5 * 2**(exponent + dropped bits) has its last place where the element has it: the sum is rounded there,
        # and its bits count the element's units beyond the anchor's.
        smallest = np.uint32(n.emin << 23)
        more = np.uint32(n.drop << 23 | 1 << 22)
        drop, place = np.uint32(n.drop), np.uint32(32 - n.width)
        sign, zero = np.uint32(n.sign), np.uint32(n.zero_sign)
        for i in range(x.size):
            u = float_bits(x[i] / steps[i])
            magnitude = bits_float(both(u, constant(u, 0x7FFFFFFF)))
            magnitude = magnitude if magnitude < high else high
            field = larger(both(float_bits(magnitude), constant(u, 0x7F800000)), smallest)
            anchor = add(field, more)
            kept = sub(float_bits(magnitude + bits_float(anchor)), anchor)
            code = add(shr(sub(field, smallest), drop), kept)
            signs = pick(equal(code, constant(u, 0)), zero, sign)
            out[i] = either(code, both(shr(u, place), signs))


@inline
def spread(each, count, block, out):
    """Repeat each of some numbers ``block`` times; there must be room for 16 more."""
    if block == 1:
        for i in range(count):
            out[i] = each[i]
        return
    for b in range(count):
        for i in range(b * block, (b + 1) * block, 16):  # what is too much is written over, or ignored
            for j in range(16):
                out[i + j] = each[b]


@inline
def blocks_of_tile(shape):
    """Return how many blocks a tile has at most."""
    return max(1, STRIP // shape.block) if shape.columns == 1 else WIDTH


@inline
def blocks_of_matrix(shape):
    """Return how many blocks a matrix has down a column."""
    return (shape.length // shape.columns + shape.block - 1) // shape.block


@inline
def tiles_of_matrix(shape):
    """Return how many tiles a matrix has: runs of a row's blocks that fit a strip, or one block of `WIDTH` columns."""
    down, many = blocks_of_matrix(shape), blocks_of_tile(shape)
    return (down + many - 1) // many if shape.columns == 1 else down * ((shape.columns + WIDTH - 1) // WIDTH)


@inline
def tile_place(tile, shape):
    """Return where a tile lies.

    Its first block and number of blocks; its first number and the number after it; how many runs it is made of, how
    long they are, how far apart, and how often a block's scale is repeated in one.
    """
    columns, block, many = shape.columns, shape.block, blocks_of_tile(shape)
    tiles, down = tiles_of_matrix(shape), blocks_of_matrix(shape)
    matrix, tile = tile // tiles, tile % tiles
    base, at = matrix * shape.length, matrix * down * columns
    if columns == 1:
        first = tile * many
        count = min(many, down - first)
        start, end = base + first * block, base + min((first + count) * block, shape.length)
        runs = (end - start + STRIP - 1) // STRIP
        return at + first, count, start, end, runs, min(STRIP, end - start), STRIP, min(STRIP, block)
    across = (columns + WIDTH - 1) // WIDTH
    top, left = tile // across, tile % across * WIDTH
    rows = min(block, shape.length // columns - top * block)
    count = min(WIDTH, columns - left)
    start = base + top * block * columns + left
    return at + top * columns + left, count, start, start + (rows - 1) * columns + count, rows, count, columns, 1


@inline
def _row_extents(run, block, count, most, least):
    """Find how far the blocks of a row reach."""
    for i in range(count):
        place = i * block
        most[i], least[i] = extent_run(run.ctypes.data + 4 * place, min(block, run.size - place))


@inline
def _column_extents(x, rows, apart, count, most, least):
    """Find how far the columns of rows reach that lie ``apart`` numbers apart."""
    for i in range(count):
        most[i] = least[i] = constant(most[i], 0)
    for r in range(rows):
        row = x[r * apart : r * apart + count]
        for i in range(count):
            u = float_bits(row[i])
            most[i] = pick(less(u, constant(u, 0x80000000)), larger(most[i], u), most[i])
            least[i] = larger(least[i], u)


@njit()
def quantize_tiles(x, shape, first, last, numbers, reals, codes, points, out):
    """Quantise the tiles ``first`` to ``last``.

    Codes of scales go to ``codes`` and zero points to ``points``, in C order; the numbers' codes to ``out``, packed if
    they have less than 8 bits. Returns how many blocks are not finite; what is written for those means nothing.
    """
    full_width()
    mode = standard_float_mode()
    n, r, s = _numbers(numbers), _reals(reals), shape_of(shape)
    many = blocks_of_tile(s)
    most, least = np.empty(many, np.uint32), np.empty(many, np.uint32)
    step, point = np.empty(many, np.float32), np.zeros(many, np.float32)
    steps, shifts = np.empty(STRIP + 16, np.float32), np.zeros(STRIP + 16, np.float32)
    room = np.empty(STRIP, np.uint8)
    affine = n.kind == AFFINE or (n.kind == GIVEN and points.size > 0)
    wrong = 0
    for tile in range(first, last):
        at, count, start, end, runs, width, apart, repeats = tile_place(tile, s)
        if n.kind == GIVEN:
            for i in range(count):
                step[i] = bits_float(codes[at + i])
                point[i] = points[at + i] if affine else np.float32(0)
        else:
            if s.columns == 1:
                _row_extents(x[start:end], s.block, count, most, least)
            else:
                _column_extents(x[start:end], runs, apart, count, most, least)
            wrong += _find_scales(most, least, n, r, codes[at : at + count], step, point)
        spread(step, count, repeats, steps)
        if affine:
            spread(point, count, repeats, shifts)
            for i in range(count):
                points[at + i] = point[i]
        for run in range(runs):
            begin = start + run * apart
            stop = min(begin + width, end)
            target = out[begin:stop] if n.bits == 8 else room[: stop - begin]
            _encode(x[begin:stop], steps, shifts, n, r, target)
            if n.bits < 8:
                pack_codes(target, out[begin * n.bits // 8 :], n.bits)
    restore_float_mode(mode)
    return wrong


@njit()
def extent(x):
    """Return the signed maximum, at least 0, and the unsigned maximum of the bits of numbers."""
    return extent_run(x.ctypes.data, x.size)
