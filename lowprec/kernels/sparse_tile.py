"""The micro-kernels of sparse rows times a panel: ``r = fma(a[j], b[place of j], r)`` for the kept j ascending.

Each is a C function ``tile(a, b, c, row_bytes, count, rows, vectors, flags, ahead)`` of addresses and counts, built as
LLVM vectors. ``a`` holds for every row ``count`` numbers, and then ``count`` 32-bit words that say how many bytes into
the panel ``b`` the line lies that each is multiplied by. All sums of a row stay in registers; every number is spread
over a vector once, and lines of the panel are operands in memory of the multiply-adds, which is why the panel has to
stay in the first-level cache. ``ahead`` is where the next panel lies. Flags, ``vectors`` and ``c`` are as in
`lowprec.kernels.tile`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowprec.kernels.tile import FROM_ZERO, LAST, Emitter, Shape

_LINE = 64  # bytes of a cache line
_AHEAD = 256  # bytes asked for ahead with every row
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class _Writer(Emitter):
    """Writes the LLVM of one micro-kernel: a loop over rows, some at a time, around one over kept numbers."""

    def product(self, vectors, args):
        """Emit the product of all rows with a panel ``vectors`` wide."""
        left = self.rows(self.shape.rows, vectors, args)
        if self.shape.rows > 1:
            self.rows(1, vectors, left)

    def rows(self, height, vectors, args):
        """Emit a loop that takes so many rows at a time, as long as there are so many; return what is left to do."""
        a, b, c, row_bytes, count, rows, flags, ahead = args
        builder = self.builder
        start, body, end = builder.block, builder.append_basic_block("rows"), builder.append_basic_block("end")
        length = builder.mul(count, _I64(self.size + 4))
        builder.cbranch(builder.icmp_signed(">=", rows, _I64(height)), body, end)
        builder.position_at_end(body)
        left, at, place, soon = (builder.phi(_I64) for _ in range(4))
        sources, targets = [at], [place]
        for _ in range(height - 1):
            sources.append(self.bump(sources[-1], length))
            targets.append(self.bump(targets[-1], row_bytes))
        after = self.bump(targets[-1], row_bytes)
        places = [self.bump(each, v * self.shape.lanes * self.size) for each in targets for v in range(vectors)]
        for offset in range(0, vectors * self.shape.lanes * self.size, _LINE):
            self.prefetch(self.bump(after, offset), to_write=True)
        for offset in range(0, _AHEAD, _LINE):
            self.prefetch(self.bump(soon, offset))
        sums = self.sums(sources, b, places, count, flags)
        for where, value in zip(places, sums, strict=True):
            builder.store(value, self.pointer(where, self.vector), align=self.size)
        further = (
            (left, rows, builder.sub(left, _I64(height))),
            (at, a, self.bump(sources[-1], length)),
            (place, c, after),
            (soon, ahead, self.bump(soon, _AHEAD)),
        )
        for node, begin, following in further:
            node.add_incoming(begin, start)
            node.add_incoming(following, builder.block)
        latch = builder.block
        builder.cbranch(builder.icmp_signed(">=", further[0][2], _I64(height)), body, end)
        builder.position_at_end(end)
        merged = []
        for _, begin, following in further:
            node = builder.phi(_I64)
            node.add_incoming(begin, start)
            node.add_incoming(following, latch)
            merged.append(node)
        return (merged[1], b, merged[2], row_bytes, count, merged[0], flags, merged[3])

    def prefetch(self, address, to_write=False):
        """Ask for a cache line that will be written, or, in the second-level cache, for one that will be read."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        how = (_I32(int(to_write)), _I32(3 if to_write else 2), _I32(1))
        self.builder.call(function, [self.builder.inttoptr(address, byte), *how])

    def sums(self, sources, b, places, count, flags):
        """Emit the sums of some rows at once; return them, row by row."""
        builder, before = self.builder, self.builder.block
        fetch, ready, body, done, canonical, store = (
            builder.append_basic_block(name) for name in ("fetch", "ready", "j_loop", "done", "canonical", "store")
        )
        fresh = builder.icmp_unsigned("!=", builder.and_(flags, _I64(FROM_ZERO)), _I64(0))
        builder.cbranch(fresh, ready, fetch)
        builder.position_at_end(fetch)
        fetched = [self.load(place) for place in places]
        builder.branch(ready)

        builder.position_at_end(ready)
        zero = ir.Constant(self.vector, [0.0] * self.shape.lanes)
        first = [self.phi(((zero, before), (value, fetch))) for value in fetched]
        words = [builder.add(source, builder.mul(count, _I64(self.size))) for source in sources]
        builder.cbranch(builder.icmp_signed(">", count, _I64(0)), body, done)

        builder.position_at_end(body)
        j = builder.phi(_I64)
        sums = [builder.phi(self.vector) for _ in places]
        vectors, results = len(places) // len(sources), []
        for i, source in enumerate(sources):
            number = self.bump(source, builder.mul(j, _I64(self.size)))
            spread = self.splat(builder.load(self.pointer(number, self.real), align=self.size))
            word = builder.load(self.pointer(self.bump(words[i], builder.mul(j, _I64(4))), _I32), align=4)
            line = builder.add(b, builder.zext(word, _I64))
            results += [
                self.fma(spread, self.load(self.bump(line, v * self.shape.lanes * self.size)), sums[i * vectors + v])
                for v in range(vectors)
            ]
        j.add_incoming(_I64(0), ready)
        j.add_incoming(self.bump(j, 1), body)
        for value, begin, result in zip(sums, first, results, strict=True):
            value.add_incoming(begin, ready)
            value.add_incoming(result, body)
        builder.cbranch(builder.icmp_signed("<", self.bump(j, 1), count), body, done)

        builder.position_at_end(done)
        final = [self.phi(((f, ready), (r, body))) for f, r in zip(first, results, strict=True)]
        last = builder.icmp_unsigned("!=", builder.and_(flags, _I64(LAST)), _I64(0))
        builder.cbranch(last, canonical, store)
        builder.position_at_end(canonical)
        clean = [self.canonical(value) for value in final]
        builder.branch(store)
        builder.position_at_end(store)
        return [self.phi(((value, done), (pure, canonical))) for value, pure in zip(final, clean, strict=True)]


def _tile(shape, real, emulated=False):
    """Make the intrinsic of a micro-kernel."""
    int64 = types.int64

    @intrinsic
    def tile(typingctx, a, b, c, row_bytes, count, rows, vectors, flags, ahead):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
            writer = _Writer(builder, shape, real, emulated)
            *others, vectors, flags, ahead = args
            for number in range(1, shape.vectors + 1):
                with builder.if_then(builder.icmp_unsigned("==", vectors, _I64(number))):
                    writer.product(number, (*others, flags, ahead))
            return context.get_dummy_value()

        return types.void(*[int64] * 9), codegen

    return tile


SHAPES = {
    ("16", 4): Shape(1, 8, 16),
    ("16", 8): Shape(1, 8, 8),
    ("8", 4): Shape(1, 12, 8),
    ("8", 8): Shape(1, 12, 4),
    ("4", 4): Shape(1, 12, 4),
    ("4", 8): Shape(1, 12, 2),
    ("plain", 4): Shape(1, 2, 4),
    ("plain", 8): Shape(1, 2, 2),
}
COLUMN = Shape(8, 1, 1)  # for one column: some rows at once, as each waits for its own sum
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64)"
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()

_tile_16 = _tile(SHAPES["16", 4], _FLOAT)
_tile_8 = _tile(SHAPES["8", 4], _FLOAT)
_tile_4 = _tile(SHAPES["4", 4], _FLOAT)
_tile_plain = _tile(SHAPES["plain", 4], _FLOAT, emulated=True)
_tile_16_double = _tile(SHAPES["16", 8], _DOUBLE)
_tile_8_double = _tile(SHAPES["8", 8], _DOUBLE)
_tile_4_double = _tile(SHAPES["4", 8], _DOUBLE)
_column = _tile(COLUMN, _FLOAT)
_column_plain = _tile(COLUMN, _FLOAT, emulated=True)
_column_double = _tile(COLUMN, _DOUBLE)
_tile_plain_double = _tile(SHAPES["plain", 8], _DOUBLE)


def sparse_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 512-bit vectors of float32."""
    _tile_16(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 256-bit vectors of float32."""
    _tile_8(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_4(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 128-bit vectors of float32."""
    _tile_4(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_plain(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply float32 without an FMA instruction."""
    _tile_plain(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_16_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 512-bit vectors of float64."""
    _tile_16_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_8_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 256-bit vectors of float64."""
    _tile_8_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_4_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply with 128-bit vectors of float64."""
    _tile_4_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_plain_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply float64; without an FMA instruction LLVM calls the C library's fma."""
    _tile_plain_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_column(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply one column of float32."""
    _column(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_column_plain(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply one column of float32 without an FMA instruction."""
    _column_plain(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


def sparse_column_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead):
    """Multiply one column of float64."""
    _column_double(a, b, c, row_bytes, count, rows, vectors, flags, ahead)


TILES = {
    ("16", 4): sparse_16,
    ("8", 4): sparse_8,
    ("4", 4): sparse_4,
    ("plain", 4): sparse_plain,
    ("16", 8): sparse_16_double,
    ("8", 8): sparse_8_double,
    ("4", 8): sparse_4_double,
    ("plain", 8): sparse_plain_double,
}


def column_tile(lanes: str, item: int):
    """Return the micro-kernel for one column."""
    if item == 8:
        return sparse_column_double
    return sparse_column_plain if lanes == "plain" else sparse_column
