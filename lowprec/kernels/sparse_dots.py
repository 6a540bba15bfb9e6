"""The micro-kernels of sparse rows of small integers times a panel: two kept numbers at a time, as LLVM vectors.

Each is a C function ``tile(a, b, c, row_bytes, count, rows, vectors, flags, ahead)`` of addresses and counts. A word of
32 bits holds two 16-bit integers, the first in the low half. ``a`` holds for every row ``count`` words, each two
neighbours of the kept numbers, and then ``count`` 16-bit offsets: how many bytes into the panel ``b`` the line lies
that holds the two rows of B that they are multiplied by, a word for each column. Words and offsets have room for a
multiple of four. All sums of a row stay in registers; lines are operands in memory of the multiplications, which is why
the panel has to stay in the first-level cache. Sums are int32 and wrap. ``vectors``, ``flags`` and ``c`` are as in
`lowprec.kernels.tile`; ``ahead`` is where the next panel lies, or any address: it is only asked for.

The ways: "maddwd" is x86's VPMADDWD and VPADDD, which LLVM makes one VPDPWSSD where it knows that to be faster; "plain"
is vector arithmetic for any CPU.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowprec.kernels.dots import Dots
from lowprec.kernels.tile import FROM_ZERO, Shape

_LINE = 64  # bytes of a cache line
_AHEAD = 128  # bytes asked for ahead with every row
_UNROLL = 2
_I16, _I32, _I64 = (ir.IntType(bits) for bits in (16, 32, 64))


class Pairs(Dots):
    """Writes the LLVM of one micro-kernel: a loop over rows around one over pairs."""

    def prefetch(self, address):
        """Ask for a cache line that will be read, in the second-level cache."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        place = self.builder.inttoptr(address, byte)
        self.builder.call(function, [place, _I32(0), _I32(2), _I32(1)])

    def pairs(self, slots, words, offsets, b, count):
        """Emit ``count`` pairs: a step for each sum with a line of the panel."""
        build, step = self.builder, 4 * self.shape.lanes
        at, places = build.load(words), build.load(offsets)
        for number in range(count):
            a = self.spread(at, 4 * number)
            word = build.load(self.pointer(build.add(places, _I64(2 * number)), _I16), align=2)
            line = build.add(b, build.zext(word, _I64))
            for v, slot in enumerate(slots):
                build.store(self.fixed(self.step(a, self.load(line, v * step), build.load(slot))), slot)
        build.store(build.add(at, _I64(4 * count)), words)
        build.store(build.add(places, _I64(2 * count)), offsets)

    def tile(self, vectors, args):
        """Emit the product of all rows with a panel ``vectors`` wide."""
        a, b, c, row_bytes, count, rows, flags, ahead = args
        build = self.builder
        fours = build.lshr(build.add(count, _I64(3)), _I64(2))
        length, stride = build.mul(fours, _I64(16)), build.mul(fours, _I64(24))
        fresh = build.icmp_unsigned("!=", build.and_(flags, _I64(FROM_ZERO)), _I64(0))
        at, place, soon, left = (cgutils.alloca_once_value(build, x) for x in (a, c, ahead, rows))
        for slot, value in ((at, a), (place, c), (soon, ahead), (left, rows)):
            build.store(value, slot)
        slots = [cgutils.alloca_once(build, self.words) for _ in range(vectors)]
        words, offsets, pairs = (cgutils.alloca_once(build, _I64) for _ in range(3))

        def row():
            here, source = build.load(place), build.load(at)
            for offset in range(0, _AHEAD, _LINE):
                self.prefetch(build.add(build.load(soon), _I64(offset)))
            with build.if_else(fresh) as (then, otherwise):
                with then:
                    for slot in slots:
                        build.store(self.number(0), slot)
                with otherwise:
                    for v, slot in enumerate(slots):
                        build.store(self.load(here, 4 * self.shape.lanes * v), slot)
            build.store(source, words)
            build.store(build.add(source, length), offsets)
            build.store(count, pairs)
            for number in (_UNROLL, 1):
                self.while_left(pairs, number, lambda number=number: self.pairs(slots, words, offsets, b, number))
            for v, slot in enumerate(slots):
                target = build.add(here, _I64(4 * self.shape.lanes * v))
                build.store(build.load(slot), self.pointer(target, self.words), align=4)
            for slot, step in ((at, stride), (place, row_bytes), (soon, _I64(_AHEAD))):
                build.store(build.add(build.load(slot), step), slot)

        self.while_left(left, 1, row)


def _tile(shape, way):
    """Make the intrinsic of a micro-kernel."""
    int64 = types.int64

    @intrinsic
    def tile(typingctx, a, b, c, row_bytes, count, rows, vectors, flags, ahead):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            *others, vectors, flags, ahead = args
            for number in range(1, shape.vectors + 1):
                with builder.if_then(builder.icmp_unsigned("==", vectors, _I64(number))):
                    Pairs(builder, shape, way).tile(number, (*others, flags, ahead))
            return context.get_dummy_value()

        return types.void(*[int64] * 9), codegen

    return tile


SHAPES = {16: Shape(1, 8, 16), 8: Shape(1, 8, 8), 4: Shape(1, 8, 4)}
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"

_maddwd_16, _maddwd_8 = (_tile(SHAPES[lanes], "maddwd") for lanes in (16, 8))
_plain_16, _plain_8, _plain_4 = (_tile(SHAPES[lanes], "plain") for lanes in (16, 8, 4))


def maddwd_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply pairs by VPMADDWD with 512-bit vectors."""
    _maddwd_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def maddwd_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply pairs by VPMADDWD with 256-bit vectors."""
    _maddwd_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def plain_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply pairs in plain arithmetic, 16 columns to a vector."""
    _plain_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def plain_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply pairs in plain arithmetic, 8 columns to a vector."""
    _plain_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def plain_4(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply pairs in plain arithmetic, 4 columns to a vector."""
    _plain_4(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


TILES = {
    ("maddwd", 16): maddwd_16,
    ("maddwd", 8): maddwd_8,
    ("plain", 16): plain_16,
    ("plain", 8): plain_8,
    ("plain", 4): plain_4,
}
