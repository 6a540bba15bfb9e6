"""Exact products of sparse rows of small integers with one column or two: every kept number is read once, as it is.

Nothing of A is packed. Eight groups of four k are taken at once: their codes shift the column's words of four bytes, so
that the two bytes that are kept of each come out as a pair of 16-bit integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowprec._jit import inline, njit
from lowprec.kernels.dots import Dots
from lowprec.kernels.tile import Shape
from lowprec.kernels.words import (
    add,
    at_address,
    atomic_add,
    both,
    differ,
    restore_float_mode,
    standard_float_mode,
    sub,
)

GROUPS = 8  # taken at once
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_UNROLL = 2


class Columns(NamedTuple):
    """A product with few columns: int64 numbers in this order."""

    values: int  # address of the bytes of the first row
    value_step: int  # bytes from a row to the next
    nibbles: int  # address of the codes of "2:4", two groups to a byte
    nibble_step: int
    mask: int  # kept numbers are ``((x & mask) ^ flip) - less`` with a word to subtract for each row
    flip: int
    row_lesses: int
    columns: int  # address of the bytes of the first column, already masked and flipped, adjacent
    column_step: int  # bytes from a column to the next
    column_lesses: int
    c: int
    row_bytes: int
    m: int
    n: int
    deep: int  # how many k there are
    from_zero: int
    scaled: int  # 1: the result is float32
    row_scales: int
    column_scales: int
    biases: int
    piece: int  # rows that a thread claims at once
    claimed: int  # pieces claimed, 0 at the start


CLAIMED = Columns._fields.index("claimed")


@inline
def _columns(s):
    return Columns(
        s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15], s[16],
        s[17], s[18], s[19], s[20], s[21],
    )  # fmt: skip


class _Writer(Dots):
    """Writes the LLVM of a run of groups of one row."""

    def eight(self, values, nibbles, words, how):
        """Emit the values of eight groups and the bytes of the column that they are multiplied by, as pairs."""
        build = self.builder
        mask, flip, less_a, less_b = how
        shifts = ir.Constant(self.words, [4 * i for i in range(GROUPS)])
        code = build.lshr(self.spread(nibbles, 0), shifts)
        word = self.load(words, 0)
        first = build.lshr(word, build.shl(build.and_(code, self.number(3)), self.number(3)))
        second = build.lshr(word, build.shl(build.and_(code, self.number(12)), self.number(1)))
        low = build.and_(first, self.number(0xFF))
        high = build.and_(build.shl(second, self.number(16)), self.number(0xFF0000))
        b = build.sub(build.bitcast(build.or_(low, high), self.halves), less_b)
        kind = ir.VectorType(_I8, 2 * GROUPS)
        x = build.zext(build.load(self.pointer(values, kind), align=1), self.halves)
        a = build.sub(build.xor(build.and_(x, mask), flip), less_a)
        return build.bitcast(a, self.words), build.bitcast(b, self.words)

    def everywhere(self, number):
        """Spread the low half of a number over a vector of halves."""
        half = self.builder.trunc(number, ir.IntType(16))
        one = self.builder.insert_element(ir.Constant(self.halves, ir.Undefined), half, _I32(0))
        lanes = ir.Constant(ir.VectorType(_I32, 2 * GROUPS), [0] * (2 * GROUPS))
        return self.builder.shuffle_vector(one, ir.Constant(self.halves, ir.Undefined), lanes)

    def row(self, values, nibbles, words, count, numbers):
        """Emit the sum of ``count`` times eight groups; return it as a word."""
        build = self.builder
        how = [self.everywhere(number) for number in numbers]
        slots = [cgutils.alloca_once(build, self.words) for _ in range(_UNROLL)]
        places = [cgutils.alloca_once(build, _I64) for _ in range(3)]
        left = cgutils.alloca_once(build, _I64)
        for slot in slots:
            build.store(self.number(0), slot)
        for place, begin in zip((*places, left), (values, nibbles, words, count), strict=True):
            build.store(begin, place)
        steps = (2 * GROUPS, GROUPS // 2, 4 * GROUPS)

        def some(number):
            for slot in slots[:number]:
                a, b = self.eight(*(build.load(place) for place in places), how)
                build.store(self.step(a, b, build.load(slot)), slot)
                for place, step in zip(places, steps, strict=True):
                    build.store(build.add(build.load(place), _I64(step)), place)

        for number in (_UNROLL, 1):
            self.while_left(left, number, lambda number=number: some(number))
        total = build.add(build.load(slots[0]), build.load(slots[1]))
        sums = [build.extract_element(total, _I32(i)) for i in range(GROUPS)]
        while len(sums) > 1:
            sums = [build.add(x, y) for x, y in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]


def _sum(way):
    """Make the intrinsic of the sum of whole groups of a row."""
    int64 = types.int64

    @intrinsic
    def total(typingctx, values, nibbles, words, count, mask, flip, less_a, less_b):  # noqa: ARG001, PLR0917
        def codegen(context, builder, signature, args):  # noqa: ARG001
            values, nibbles, words, count, *numbers = args
            return _Writer(builder, Shape(1, 1, GROUPS), way).row(values, nibbles, words, count, numbers)

        return types.uint32(*[int64] * 8), codegen

    return total


_sum_maddwd, _sum_plain = _sum("maddwd"), _sum("plain")


@inline
def _rest(j, row, column, first, less_a, less_b):
    """Return the sum of the groups from ``first``, of which the last may be beyond the end of k."""
    groups = (j.deep + 3) // 4
    values = numba.carray(at_address(j.values + row * j.value_step), 2 * groups, np.uint8)
    codes = numba.carray(at_address(j.nibbles + row * j.nibble_step), (groups + 1) // 2, np.uint8)
    b = numba.carray(at_address(j.columns + column * j.column_step), j.deep, np.uint8)
    total = np.uint32(0)
    for group in range(first, groups):
        code = np.int64(codes[group // 2]) >> (4 * (group % 2))
        for i in range(2):
            k = 4 * group + ((code >> (2 * i)) & 3)
            if k < j.deep:
                x = sub(differ(both(np.uint32(values[2 * group + i]), np.uint32(j.mask)), np.uint32(j.flip)), less_a)
                total = add(total, np.uint32(x * sub(np.uint32(b[k]), less_b)))
    return total


@inline
def _rows(j, first, rows, dot):
    """Compute some rows."""
    runs = j.deep // 4 // GROUPS
    row_lesses = numba.carray(at_address(j.row_lesses), j.m, np.uint32)
    column_lesses = numba.carray(at_address(j.column_lesses), j.n, np.uint32)
    for row in range(first, first + rows):
        c = numba.carray(at_address(j.c + row * j.row_bytes), j.n, np.uint32)
        values, codes = j.values + row * j.value_step, j.nibbles + row * j.nibble_step
        for column in range(j.n):
            a, b = row_lesses[row], column_lesses[column]
            words = j.columns + column * j.column_step
            total = dot(values, codes, words, runs, j.mask, j.flip, np.int64(a), np.int64(b))
            total = add(total, _rest(j, row, column, runs * GROUPS, a, b))
            c[column] = total if j.from_zero == 1 else add(total, c[column])
    if j.scaled == 1:
        scales = numba.carray(at_address(j.row_scales), j.m, np.float32)
        column_scales = numba.carray(at_address(j.column_scales), j.n, np.float32)
        biases = numba.carray(at_address(j.biases), j.n, np.float32)
        for row in range(first, first + rows):
            x = numba.carray(at_address(j.c + row * j.row_bytes), j.n, np.int32)
            y = numba.carray(at_address(j.c + row * j.row_bytes), j.n, np.float32)
            for column in range(j.n):
                y[column] = np.float32(x[column]) * (scales[row] * column_scales[column]) + biases[column]


@inline
def _take_part(numbers, dot):
    """Claim and do pieces until none is left."""
    found = standard_float_mode()
    j = _columns(numbers)
    while True:
        first = atomic_add(numbers, CLAIMED, 1) * j.piece
        if first >= j.m:
            break
        _rows(j, first, min(j.piece, j.m - first), dot)
    restore_float_mode(found)


@njit()
def rows_maddwd(numbers):
    """Take part in one product by VPMADDWD until nothing is left to claim."""
    _take_part(numbers, _sum_maddwd)


@njit()
def rows_plain(numbers):
    """Take part in one product in plain arithmetic until nothing is left to claim."""
    _take_part(numbers, _sum_plain)


WAYS = {"maddwd": rows_maddwd, "plain": rows_plain}
