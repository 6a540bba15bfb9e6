"""The register-blocked micro-kernels: ``r = fma(a[k], b[k], r)`` for k ascending, on MR x (NV vectors) outputs at once.

Each is a C function ``tile(a, b, c, row_bytes, k, vectors, flags)`` of addresses and counts, built as LLVM vectors:
``a`` is a packed panel of MR numbers per k, ``b`` one of ``vectors * lanes`` numbers per k (1 <= vectors <= NV), ``c``
MR rows ``row_bytes`` apart. All MR x vectors accumulators stay in registers over the whole of k; between blocks of k
they pass through ``c``, so the order in k is kept. The bits depend on none of MR, NV and the lanes.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FROM_ZERO = 1  # flag: start at +0 instead of the contents of ``c``
LAST = 2  # flag: these are the final values: make every NaN the canonical one

_I64 = ir.IntType(64)


class Shape(NamedTuple):
    """A micro-kernel's blocking: rows, vectors per row, and numbers per vector."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of a full tile."""
        return self.vectors * self.lanes


class Emitter:
    """Writes the LLVM of one micro-kernel."""

    unit = 1  # how many k a turn of the loop takes
    lines = 1  # and how many lines of the panels

    def __init__(self, builder, shape, real, emulated):
        self.builder, self.shape, self.emulated = builder, shape, emulated
        self.real = real
        self.vector = ir.VectorType(real, shape.lanes)
        self.size = 4 if isinstance(real, ir.FloatType) else 8

    def pointer(self, address, kind):
        """Turn an address into a pointer."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def splat(self, scalar):
        """Fill a vector with one number."""
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.shape.lanes), [0] * self.shape.lanes)
        return self.builder.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), mask)

    def fma(self, a, b, c):
        """Return a * b + c rounded once, by the instruction or, without one, by the definition."""
        if self.emulated:
            return self.fma_by_rounding_to_odd(a, b, c)
        name = f"llvm.fma.v{self.shape.lanes}f{8 * self.size}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def fma_by_rounding_to_odd(self, a, b, c):
        """Fuse in binary64: the product is exact there, the sum is rounded to odd, and then once to binary32.

        Rounding to odd at 53 bits and then to nearest at 24 is one rounding (Boldo and Melquiond, 2008).
        """
        builder, lanes = self.builder, self.shape.lanes
        wide = ir.VectorType(ir.DoubleType(), lanes)
        words = ir.VectorType(_I64, lanes)
        zero, one = ir.Constant(words, [0] * lanes), ir.Constant(words, [1] * lanes)
        x, y, z = (builder.fpext(v, wide) for v in (a, b, c))
        product = builder.fmul(x, y)
        total = builder.fadd(product, z)
        back = builder.fsub(total, product)
        error = builder.fadd(builder.fsub(product, builder.fsub(total, back)), builder.fsub(z, back))
        bits = builder.bitcast(total, words)
        inexact = builder.fcmp_ordered("!=", error, ir.Constant(wide, [0.0] * lanes))
        even = builder.icmp_unsigned("==", builder.and_(bits, one), zero)
        same_sign = builder.icmp_signed(">=", builder.xor(bits, builder.bitcast(error, words)), zero)
        step = builder.select(same_sign, one, builder.sub(zero, one))
        moved = builder.select(builder.and_(inexact, even), builder.add(bits, step), bits)
        return builder.fptrunc(builder.bitcast(moved, wide), self.vector)

    def canonical(self, value):
        """Replace every NaN by the positive quiet NaN without payload."""
        word = ir.IntType(8 * self.size)
        quiet = 0x7FC00000 if self.size == 4 else 0x7FF8000000000000
        lanes = self.shape.lanes
        nan = self.builder.bitcast(ir.Constant(ir.VectorType(word, lanes), [quiet] * lanes), self.vector)
        return self.builder.select(self.builder.fcmp_unordered("uno", value, value), nan, value)

    def bump(self, address, amount):
        """Return an address further on."""
        return self.builder.add(address, _I64(amount) if isinstance(amount, int) else amount)

    def load(self, address):
        """Load a vector."""
        return self.builder.load(self.pointer(address, self.vector), align=self.size)

    def turn(self, pa, pb, sums, left):  # noqa: ARG002
        """Emit one turn of the loop, with ``left`` of k still to do; return the new sums."""
        return self.line(pa, pb, sums, self.fma)

    def line(self, pa, pb, sums, step):
        """Emit a step for each accumulator with a line of either panel; return the new sums."""
        builder, vectors = self.builder, len(sums) // self.shape.rows
        row_b = [self.load(self.bump(pb, v * self.shape.lanes * self.size)) for v in range(vectors)]
        results = []
        for i in range(self.shape.rows):
            scalar = builder.load(self.pointer(self.bump(pa, i * self.size), self.real), align=self.size)
            spread = self.splat(scalar)
            results += [step(spread, row_b[v], sums[i * vectors + v]) for v in range(vectors)]
        return results

    def loop(self, vectors, args):
        """Emit the whole product for a tile ``vectors`` wide."""
        a, b, c, row_bytes, count, flags = args
        builder, rows = self.builder, self.shape.rows
        row_address = [c]
        for _ in range(rows - 1):
            row_address.append(self.bump(row_address[-1], row_bytes))
        places = [self.bump(row, v * self.shape.lanes * self.size) for row in row_address for v in range(vectors)]
        entry = builder.append_basic_block("start")
        fetch = builder.append_basic_block("fetch")
        ready = builder.append_basic_block("ready")
        body = builder.append_basic_block("k_loop")
        done = builder.append_basic_block("done")
        canonical = builder.append_basic_block("canonical")
        store = builder.append_basic_block("store")
        end = builder.append_basic_block("end")
        builder.branch(entry)

        builder.position_at_end(entry)
        fresh = builder.icmp_unsigned("!=", builder.and_(flags, _I64(FROM_ZERO)), _I64(0))
        builder.cbranch(fresh, ready, fetch)
        builder.position_at_end(fetch)
        fetched = [self.load(place) for place in places]
        builder.branch(ready)

        builder.position_at_end(ready)
        zero = ir.Constant(self.vector, [0.0] * self.shape.lanes)
        first = [self.phi(((zero, entry), (value, fetch))) for value in fetched]
        builder.cbranch(builder.icmp_signed(">", count, _I64(0)), body, done)

        builder.position_at_end(body)
        k, pa, pb = (builder.phi(_I64) for _ in range(3))
        sums = [builder.phi(self.vector) for _ in places]
        results = self.turn(pa, pb, sums, builder.sub(count, k))
        line_a, line_b = rows * self.size, vectors * self.shape.lanes * self.size
        for counter, begin, amount in (
            (k, _I64(0), self.unit),
            (pa, a, self.lines * line_a),
            (pb, b, self.lines * line_b),
        ):
            counter.add_incoming(begin, ready)
            counter.add_incoming(self.bump(counter, amount), body)
        for value, begin, result in zip(sums, first, results, strict=True):
            value.add_incoming(begin, ready)
            value.add_incoming(result, body)
        builder.cbranch(builder.icmp_signed("<", self.bump(k, self.unit), count), body, done)

        builder.position_at_end(done)
        final = [self.phi(((f, ready), (r, body))) for f, r in zip(first, results, strict=True)]
        last = builder.icmp_unsigned("!=", builder.and_(flags, _I64(LAST)), _I64(0))
        builder.cbranch(last, canonical, store)
        builder.position_at_end(canonical)
        clean = [self.canonical(value) for value in final]
        builder.branch(store)
        builder.position_at_end(store)
        for value, pure in zip(final, clean, strict=True):
            merged = builder.phi(self.vector)
            merged.add_incoming(value, done)
            merged.add_incoming(pure, canonical)
        merges = list(store.instructions)
        for place, merged in zip(places, merges, strict=True):
            builder.store(merged, self.pointer(place, self.vector), align=self.size)
        builder.branch(end)
        builder.position_at_end(end)

    def phi(self, incoming):
        """Make a phi node at the start of the current block."""
        node = self.builder.phi(self.vector)
        for value, block in incoming:
            node.add_incoming(value, block)
        return node


def tile_of(emitter):
    """Make the intrinsic of the micro-kernel that an emitter, made for a builder, writes."""
    int64 = types.int64

    @intrinsic
    def tile(typingctx, a, b, c, row_bytes, count, vectors, flags):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            writer = emitter(builder)
            a, b, c, row_bytes, count, vectors, flags = args
            for number in range(1, writer.shape.vectors + 1):
                with builder.if_then(builder.icmp_unsigned("==", vectors, _I64(number))):
                    writer.loop(number, (a, b, c, row_bytes, count, flags))
            return context.get_dummy_value()

        return types.void(int64, int64, int64, int64, int64, int64, int64), codegen

    return tile


def _tile(shape, real, emulated=False):
    """Make the intrinsic of fused multiply-adds for k ascending."""
    return tile_of(lambda builder: Emitter(builder, shape, real, emulated))


SHAPES = {
    ("16", 4): Shape(8, 3, 16),
    ("16", 8): Shape(8, 3, 8),
    ("8", 4): Shape(6, 2, 8),
    ("8", 8): Shape(6, 2, 4),
    ("4", 4): Shape(6, 2, 4),
    ("4", 8): Shape(6, 2, 2),
    ("plain", 4): Shape(4, 1, 4),
    ("plain", 8): Shape(4, 1, 2),
}
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64)"
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()

_tile_16 = _tile(SHAPES["16", 4], _FLOAT)
_tile_8 = _tile(SHAPES["8", 4], _FLOAT)
_tile_4 = _tile(SHAPES["4", 4], _FLOAT)
_tile_plain = _tile(SHAPES["plain", 4], _FLOAT, emulated=True)
_tile_16_double = _tile(SHAPES["16", 8], _DOUBLE)
_tile_8_double = _tile(SHAPES["8", 8], _DOUBLE)
_tile_4_double = _tile(SHAPES["4", 8], _DOUBLE)
_tile_plain_double = _tile(SHAPES["plain", 8], _DOUBLE)


def tile_16(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 512-bit vectors of float32."""
    _tile_16(a, b, c, row_bytes, count, vectors, flags)


def tile_8(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 256-bit vectors of float32."""
    _tile_8(a, b, c, row_bytes, count, vectors, flags)


def tile_4(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 128-bit vectors of float32."""
    _tile_4(a, b, c, row_bytes, count, vectors, flags)


def tile_plain(a, b, c, row_bytes, count, vectors, flags):
    """Multiply float32 without an FMA instruction."""
    _tile_plain(a, b, c, row_bytes, count, vectors, flags)


def tile_16_double(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 512-bit vectors of float64."""
    _tile_16_double(a, b, c, row_bytes, count, vectors, flags)


def tile_8_double(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 256-bit vectors of float64."""
    _tile_8_double(a, b, c, row_bytes, count, vectors, flags)


def tile_4_double(a, b, c, row_bytes, count, vectors, flags):
    """Multiply with 128-bit vectors of float64."""
    _tile_4_double(a, b, c, row_bytes, count, vectors, flags)


def tile_plain_double(a, b, c, row_bytes, count, vectors, flags):
    """Multiply float64; without an FMA instruction LLVM calls the C library's fma."""
    _tile_plain_double(a, b, c, row_bytes, count, vectors, flags)


TILES = {
    ("16", 4): tile_16,
    ("8", 4): tile_8,
    ("4", 4): tile_4,
    ("plain", 4): tile_plain,
    ("16", 8): tile_16_double,
    ("8", 8): tile_8_double,
    ("4", 8): tile_4_double,
    ("plain", 8): tile_plain_double,
}
