"""The micro-kernels of exact integer products: MR x (NV vectors) sums at once, as LLVM vectors.

Each is a C function ``tile(a, b, c, row_bytes, groups, vectors, flags)`` of addresses and counts, like those of
`lowprec.kernels.tile`, but its panels hold words of 32 bits: a group of k of one row of A or one column of B, either
four bytes (k ascending from the low byte; A's unsigned, B's signed) or two 16-bit integers. Sums are int32 and wrap.

The ways:

- "vnni": four bytes, x86's VPDPBUSD, which multiplies unsigned by signed bytes and adds the four products to a sum.
- "emulated": the same written as plain vector arithmetic, so that all around the instruction can be tried without it.
- "maddwd": two integers of 16 bits, VPMADDWD and VPADDD. Exact: only 2 (-2**15)**2 wraps.
- "maddubs": four bytes, VPMADDUBSW, which adds two products and saturates at 16 bits, and sums of 16 bits that are
  widened every ``flags >> 8`` groups. Right where so many groups cannot leave 16 bits, so for narrow operands only.
- "plain": two integers of 16 bits in plain vector arithmetic, for every CPU.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowprec.kernels.tile import FROM_ZERO, Shape

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
STEPS_SHIFT = 8  # where the flags hold how many groups "maddubs" may add in 16 bits
_UNROLL = 2
_MADD = {
    "maddwd": {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"},
    "maddubs": {
        4: "llvm.x86.ssse3.pmadd.ub.sw.128",
        8: "llvm.x86.avx2.pmadd.ub.sw",
        16: "llvm.x86.avx512.pmaddubs.w.512",
    },
}
_DPBUSD = {lanes: f"llvm.x86.avx512.vpdpbusd.{32 * lanes}" for lanes in (4, 8, 16)}


class Dots:
    """Writes the LLVM of one micro-kernel."""

    def __init__(self, builder, shape, way):
        self.builder, self.shape, self.way = builder, shape, way
        self.words = ir.VectorType(_I32, shape.lanes)
        self.halves = ir.VectorType(_I16, 2 * shape.lanes)
        self.bytes = ir.VectorType(_I8, 4 * shape.lanes)
        self.sums = self.halves if way == "maddubs" else self.words

    def call(self, name, result, *args):
        """Call an LLVM intrinsic."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), args)

    def number(self, value):
        """Fill a vector of words with one number."""
        return ir.Constant(self.words, [value] * self.shape.lanes)

    def widened(self, total):
        """Return the sums of neighbours of 16 bits."""
        ones = ir.Constant(self.halves, [1] * (2 * self.shape.lanes))
        return self.call(_MADD["maddwd"][self.shape.lanes], self.words, total, ones)

    def step(self, a, b, total):
        """Add the products of a group of k."""
        build, lanes = self.builder, self.shape.lanes
        if self.way == "vnni":
            return self.call(_DPBUSD[lanes], self.words, total, a, b)
        if self.way == "maddwd":
            pair = self.call(
                _MADD["maddwd"][lanes], self.words, build.bitcast(a, self.halves), build.bitcast(b, self.halves)
            )
            return build.add(total, pair)
        if self.way == "maddubs":
            pair = self.call(
                _MADD["maddubs"][lanes], self.halves, build.bitcast(a, self.bytes), build.bitcast(b, self.bytes)
            )
            return build.add(total, pair)
        width = 8 if self.way == "emulated" else 16
        for place in range(0, 32, width):
            x = build.ashr(build.shl(a, self.number(32 - width - place)), self.number(32 - width))
            y = build.ashr(build.shl(b, self.number(32 - width - place)), self.number(32 - width))
            if self.way == "emulated":
                x = build.and_(x, self.number(255))
            total = build.add(total, build.mul(x, y))
        return total

    def fixed(self, total):
        """Hide from LLVM how a sum came about: it would add up products of several groups first, and spill."""
        if self.way in ("plain", "emulated"):
            return total
        return self.builder.asm(ir.FunctionType(total.type, [total.type]), "", "=v,0", [total], False)

    def pointer(self, address, kind):
        """Turn an address into a pointer."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address, offset):
        """Load a vector of words."""
        place = self.builder.add(address, _I64(offset)) if offset else address
        return self.builder.load(self.pointer(place, self.words), align=4)

    def spread(self, address, offset):
        """Load a word into every lane."""
        place = self.builder.add(address, _I64(offset)) if offset else address
        word = self.builder.load(self.pointer(place, _I32), align=4)
        one = self.builder.insert_element(ir.Constant(self.words, ir.Undefined), word, _I32(0))
        lanes = ir.Constant(ir.VectorType(_I32, self.shape.lanes), [0] * self.shape.lanes)
        return self.builder.shuffle_vector(one, ir.Constant(self.words, ir.Undefined), lanes)

    def lines(self, slots, pa, pb, count):
        """Emit ``count`` groups: a step for each accumulator with a line of either panel."""
        build, rows = self.builder, self.shape.rows
        vectors, step = len(slots) // rows, 4 * self.shape.lanes
        at_a, at_b = build.load(pa), build.load(pb)
        for line in range(count):
            row_b = [self.load(at_b, (line * vectors + v) * step) for v in range(vectors)]
            for i in range(rows):
                a = self.spread(at_a, 4 * (line * rows + i))
                for v in range(vectors):
                    slot = slots[i * vectors + v]
                    build.store(self.fixed(self.step(a, row_b[v], build.load(slot))), slot)
        build.store(build.add(at_a, _I64(4 * count * rows)), pa)
        build.store(build.add(at_b, _I64(step * count * vectors)), pb)

    def while_left(self, left, count, emit):
        """Emit a loop over ``count`` groups at a time while so many are left."""
        build = self.builder
        test, body, end = (build.append_basic_block(f"{name}_{count}") for name in ("test", "body", "end"))
        build.branch(test)
        build.position_at_end(test)
        build.cbranch(build.icmp_signed(">=", build.load(left), _I64(count)), body, end)
        build.position_at_end(body)
        emit()
        build.store(build.sub(build.load(left), _I64(count)), left)
        build.branch(test)
        build.position_at_end(end)

    def tile(self, vectors, args):
        """Emit the whole product of a tile ``vectors`` wide."""
        a, b, c, row_bytes, groups, flags = args
        build, rows = self.builder, self.shape.rows
        pa, pb = cgutils.alloca_once_value(build, a), cgutils.alloca_once_value(build, b)
        # Which way these are kept is LLVM's to say: they become registers.
        slots = [cgutils.alloca_once(build, self.sums) for _ in range(rows * vectors)]
        places, row = [], c
        for _ in range(rows):
            places += [build.add(row, _I64(4 * self.shape.lanes * v)) for v in range(vectors)]
            row = build.add(row, row_bytes)
        fresh = cgutils.alloca_once_value(build, build.and_(flags, _I64(FROM_ZERO)))
        if self.way == "maddubs":
            self.in_parts(slots, places, (pa, pb, fresh), groups, build.lshr(flags, _I64(STEPS_SHIFT)))
            return
        zero = self.number(0)
        is_fresh = build.icmp_unsigned("!=", build.load(fresh), _I64(0))
        with build.if_else(is_fresh) as (then, otherwise):
            with then:
                for slot in slots:
                    build.store(zero, slot)
            with otherwise:
                for slot, place in zip(slots, places, strict=True):
                    build.store(self.load(place, 0), slot)
        self.all_lines(slots, pa, pb, groups)
        for slot, place in zip(slots, places, strict=True):
            build.store(build.load(slot), self.pointer(place, self.words), align=4)

    def all_lines(self, slots, pa, pb, groups):
        """Emit the loops over groups."""
        left = cgutils.alloca_once_value(self.builder, groups)
        self.builder.store(groups, left)
        self.while_left(left, _UNROLL, lambda: self.lines(slots, pa, pb, _UNROLL))
        self.while_left(left, 1, lambda: self.lines(slots, pa, pb, 1))

    def in_parts(self, slots, places, state, groups, steps):
        """Emit sums of 16 bits that are added to those in ``c`` every so many groups."""
        build = self.builder
        pa, pb, fresh = state
        rest = cgutils.alloca_once_value(build, groups)
        test, body, end = (build.append_basic_block(f"part_{name}") for name in ("test", "body", "end"))
        build.branch(test)
        build.position_at_end(test)
        build.cbranch(build.icmp_signed(">", build.load(rest), _I64(0)), body, end)
        build.position_at_end(body)
        there = build.load(rest)
        part = build.select(build.icmp_signed("<", there, steps), there, steps)
        build.store(build.sub(there, part), rest)
        for slot in slots:
            build.store(ir.Constant(self.halves, [0] * (2 * self.shape.lanes)), slot)
        self.all_lines(slots, pa, pb, part)
        sums = [self.widened(build.load(slot)) for slot in slots]
        first = build.icmp_unsigned("!=", build.load(fresh), _I64(0))
        with build.if_else(first) as (then, otherwise):
            with then:
                for total, place in zip(sums, places, strict=True):
                    build.store(total, self.pointer(place, self.words), align=4)
            with otherwise:
                for total, place in zip(sums, places, strict=True):
                    more = build.add(total, self.load(place, 0))
                    build.store(more, self.pointer(place, self.words), align=4)
        build.store(_I64(0), fresh)
        build.branch(test)
        build.position_at_end(end)


def _tile(shape, way):
    """Make the intrinsic of a micro-kernel."""
    int64 = types.int64

    @intrinsic
    def tile(typingctx, a, b, c, row_bytes, groups, vectors, flags):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            a, b, c, row_bytes, groups, vectors, flags = args
            for number in range(1, shape.vectors + 1):
                with builder.if_then(builder.icmp_unsigned("==", vectors, _I64(number))):
                    Dots(builder, shape, way).tile(number, (a, b, c, row_bytes, groups, flags))
            return context.get_dummy_value()

        return types.void(int64, int64, int64, int64, int64, int64, int64), codegen

    return tile


SHAPES = {16: Shape(8, 3, 16), 8: Shape(6, 2, 8), 4: Shape(6, 2, 4)}
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64)"

_vnni_16, _vnni_8 = (_tile(SHAPES[lanes], "vnni") for lanes in (16, 8))
_emulated_16, _emulated_8, _emulated_4 = (_tile(SHAPES[lanes], "emulated") for lanes in (16, 8, 4))
_maddwd_16, _maddwd_8 = (_tile(SHAPES[lanes], "maddwd") for lanes in (16, 8))
_maddubs_16, _maddubs_8 = (_tile(SHAPES[lanes], "maddubs") for lanes in (16, 8))
_plain_16, _plain_8, _plain_4 = (_tile(SHAPES[lanes], "plain") for lanes in (16, 8, 4))


def vnni_16(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply bytes by VPDPBUSD with 512-bit vectors."""
    _vnni_16(a, b, c, row_bytes, groups, vectors, flags)


def vnni_8(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply bytes by VPDPBUSD with 256-bit vectors."""
    _vnni_8(a, b, c, row_bytes, groups, vectors, flags)


def emulated_16(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply bytes in plain arithmetic, 16 columns to a vector."""
    _emulated_16(a, b, c, row_bytes, groups, vectors, flags)


def emulated_8(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply bytes in plain arithmetic, 8 columns to a vector."""
    _emulated_8(a, b, c, row_bytes, groups, vectors, flags)


def emulated_4(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply bytes in plain arithmetic, 4 columns to a vector."""
    _emulated_4(a, b, c, row_bytes, groups, vectors, flags)


def maddwd_16(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply pairs of 16-bit integers with 512-bit vectors."""
    _maddwd_16(a, b, c, row_bytes, groups, vectors, flags)


def maddwd_8(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply pairs of 16-bit integers with 256-bit vectors."""
    _maddwd_8(a, b, c, row_bytes, groups, vectors, flags)


def maddubs_16(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply narrow bytes with 512-bit vectors, in sums of 16 bits."""
    _maddubs_16(a, b, c, row_bytes, groups, vectors, flags)


def maddubs_8(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply narrow bytes with 256-bit vectors, in sums of 16 bits."""
    _maddubs_8(a, b, c, row_bytes, groups, vectors, flags)


def plain_16(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply pairs of 16-bit integers in plain arithmetic, 16 columns to a vector."""
    _plain_16(a, b, c, row_bytes, groups, vectors, flags)


def plain_8(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply pairs of 16-bit integers in plain arithmetic, 8 columns to a vector."""
    _plain_8(a, b, c, row_bytes, groups, vectors, flags)


def plain_4(a, b, c, row_bytes, groups, vectors, flags):
    """Multiply pairs of 16-bit integers in plain arithmetic, 4 columns to a vector."""
    _plain_4(a, b, c, row_bytes, groups, vectors, flags)


TILES = {
    ("vnni", 16): vnni_16,
    ("vnni", 8): vnni_8,
    ("emulated", 16): emulated_16,
    ("emulated", 8): emulated_8,
    ("emulated", 4): emulated_4,
    ("maddwd", 16): maddwd_16,
    ("maddwd", 8): maddwd_8,
    ("maddubs", 16): maddubs_16,
    ("maddubs", 8): maddubs_8,
    ("plain", 16): plain_16,
    ("plain", 8): plain_8,
    ("plain", 4): plain_4,
}
