"""Packing for the micro-kernels of `lowprec.kernels.sparse_dots`: pairs of kept numbers, and pairs of rows of B.

A panel of B holds, for each group of k, a line for every pair of rows of B that a pair of kept numbers can be
multiplied by; a line has a word of two 16-bit integers for each column. "2:4" has the six pairs of four k in the order
of the codes, "4:8" the four pairs of neighbours of eight k. Numbers are ``((x & mask) ^ flip) - less`` with a `less`
for each column of B and each row of A, so that zero points are gone. Rows of B beyond the end are zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowprec._jit import inline
from lowprec.kernels.pack import SIGNATURE, WORST
from lowprec.kernels.pack_integers import _across, _along, _integers
from lowprec.kernels.words import add, at_address, both, copy_numbers, differ, full_width, sub

__all__ = ["BESIDE", "CHOSEN", "SIGNATURE", "Kept", "kept_rows", "pack_pairs", "pack_rows"]

CHOICES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # of four k, in the order of the codes
NEIGHBOURS = ((0, 1), (2, 3))
CHOSEN, BESIDE = len(CHOICES), len(NEIGHBOURS)
ROOM = 6  # bytes of a packed pair: a word and an offset of 16 bits
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Kept(NamedTuple):
    """Where the kept numbers of A lie and how they are read: int64 numbers in this order."""

    values: int  # address of the bytes of the first row
    value_step: int  # bytes from a row to the next
    nibbles: int  # address of the codes, two groups to a byte
    nibble_step: int  # bytes from a row to the next
    mask: int
    flip: int
    lesses: int  # address of a word for each row
    pairs: int  # of a group: 1 or 2
    table: int  # address of 256 lists of offsets into a panel for the pairs of two groups
    span: int  # bytes of a panel for two groups


@inline
def kept_rows(operand):
    """Read the description of A from an address."""
    o = numba.carray(at_address(operand), 10, np.int64)
    return Kept(o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9])


# ---------------------------------------------------------------------------------------------------------- panels of B
class _Lines:
    """Writes the LLVM of a loop over some columns at once."""

    def __init__(self, builder, lanes, pairs):
        self.builder, self.lanes, self.pairs = builder, lanes, pairs
        self.words = ir.VectorType(_I32, lanes)

    def number(self, value):
        """Fill a vector of words with one number."""
        return ir.Constant(self.words, [value] * self.lanes)

    def there(self, k, deep):
        """Return words of ones if ``k`` is below ``deep``, else zeros."""
        word = self.builder.sext(self.builder.icmp_signed("<", _I64(k), deep), _I32)
        one = self.builder.insert_element(ir.Constant(self.words, ir.Undefined), word, _I32(0))
        return self.builder.shuffle_vector(one, ir.Constant(self.words, ir.Undefined), self.number(0))

    def place(self, address, offset):
        """Return a pointer to a vector."""
        return self.builder.inttoptr(self.builder.add(address, offset), self.words.as_pointer())

    def loop(self, done, raw, lesses, out, columns, step, deep):
        """Emit the loop, from column ``done`` on while a whole vector is left."""
        build, lanes = self.builder, self.lanes
        kept = [self.there(k, deep) for k in range(4)]
        test, body, end = (build.append_basic_block(f"{part}_{lanes}") for part in ("test", "body", "end"))
        build.branch(test)
        build.position_at_end(test)
        here = build.load(done)
        build.cbranch(build.icmp_signed("<=", build.add(here, _I64(lanes)), columns), body, end)
        build.position_at_end(body)
        offset = build.mul(here, _I64(4))
        word, less = (build.load(self.place(address, offset), align=4) for address in (raw, lesses))
        low, high = [], []
        for k in range(4):
            byte = build.and_(build.lshr(word, self.number(8 * k)), self.number(255))
            value = build.and_(build.sub(byte, less), kept[k])
            low.append(build.and_(value, self.number(0xFFFF)))
            high.append(build.shl(value, self.number(16)))
        for line, (first, second) in enumerate(self.pairs):
            target = self.place(build.add(out, build.mul(step, _I64(line))), offset)
            build.store(build.or_(low[first], high[second]), target, align=4)
        build.store(build.add(here, _I64(lanes)), done)
        build.branch(test)
        build.position_at_end(end)


def _lines(pairs):
    """Make the intrinsic that turns words of four bytes, k ascending, into lines of pairs."""
    int64 = types.int64

    @intrinsic
    def lines(typingctx, raw, lesses, out, columns, step, deep):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            done = cgutils.alloca_once_value(builder, _I64(0))
            builder.store(_I64(0), done)
            for lanes in (8, 4):  # panels are a multiple of four columns wide
                _Lines(builder, lanes, pairs).loop(done, *args)
            return context.get_dummy_value()

        return types.void(*[int64] * 6), codegen

    return lines


_choices, _neighbours = _lines(CHOICES), _lines(NEIGHBOURS)


def pack_pairs(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack columns of B, an `Integers` whose last number says how many fours of k are a group: 1 or 2.

    First come words of four bytes, as they would be packed for other kernels, and from them the lines.
    """
    o = _integers(operand)
    fours = o.unused
    begin, number, pairs = first_k * fours, count * fours, CHOSEN if fours == 1 else BESIDE
    padded = rows // width * width
    padded += tail if padded < rows else 0
    own = scratch + 8 * WORST
    raw = own + (8 * number + rows + tail) * 4
    if o.k_step == 1:
        _along(o, raw, first_row, rows, begin, number, width, tail, own, 0, 1, np.uint8)
    else:
        _across(o, raw, first_row, rows, begin, number, width, tail, own, 0, 4)
    for first in range(0, padded, width):
        columns = min(width, padded - first)
        lesses, line = o.sums + (first_row + first) * 4, columns * 4
        for i in range(number):
            source, target = raw + first * number * 4 + i * line, out + (first * number + i * columns) * pairs * 4
            if fours == 1:
                _choices(source, lesses, target, columns, line, o.deep - (begin + i) * 4)
            else:
                _neighbours(source, lesses, target, columns, line, o.deep - (begin + i) * 4)


# ----------------------------------------------------------------------------------------------------------- rows of A
@inline
def _numbers(p, source, count, target, less):
    """Convert bytes to 16-bit integers."""
    full_width()
    x, y = numba.carray(at_address(source), count, np.uint8), numba.carray(at_address(target), count, np.uint16)
    mask, flip = np.uint32(p.mask), np.uint32(p.flip)
    for i in range(count):
        y[i] = sub(differ(both(np.uint32(x[i]), mask), flip), less)


@inline
def _offsets(p, source, groups, target):
    """Write where in a panel the lines of each pair lie, two groups at a time."""
    count = (groups + 1) // 2
    codes = numba.carray(at_address(source), count, np.uint8)
    table = numba.carray(at_address(p.table), 256 * p.pairs, np.uint32)
    out = numba.carray(at_address(target), count * p.pairs, np.uint32)
    step = np.uint32(p.span * 0x10001)
    base = np.uint32(0)
    if p.pairs == 1:
        for i in range(count):
            out[i] = add(table[codes[i]], base)
            base = add(base, step)
    else:
        for i in range(count):
            at = 2 * np.int64(codes[i])
            out[2 * i] = add(table[at], base)
            out[2 * i + 1] = add(table[at + 1], base)
            base = add(base, step)


@inline
def _length(count):
    """Return for how many pairs a packed row has room."""
    return (count + 3) // 4 * 4


@inline
def pack_rows(p, first, rows, first_group, groups, block, packed, scratch):
    """Write words and offsets of some groups of some rows: for each ``block`` of groups, row by row."""
    lesses = numba.carray(at_address(p.lesses + first * 4), rows, np.uint32)
    for i in range(rows):
        row = first + i
        source = p.values + row * p.value_step + first_group * p.pairs * 2
        _numbers(p, source, groups * p.pairs * 2, scratch, lesses[i])
        for begin in range(0, groups, block):
            count = min(block, groups - begin)
            codes = p.nibbles + row * p.nibble_step + (first_group + begin) // 2
            length = _length(count * p.pairs)
            target = packed + (begin * p.pairs * rows + i * length) * ROOM
            copy_numbers(scratch + begin * p.pairs * 4, target, count * p.pairs, np.float32(0))
            _offsets(p, codes, count, target + length * 4)
