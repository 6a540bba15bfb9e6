"""The micro-kernels of block scales: a block of products summed from +0, scaled, and added to the result.

The same C functions as in `lowprec.kernels.tile`, but each call takes one block of k and, as the last line of both
panels, its scales: ``c = fma(sum of the block, scale of the row * scale of the column, c)``. The scales' product is
rounded, and no other step is than the fused multiply-adds.
"""

from __future__ import annotations

from llvmlite import ir

from lowprec.kernels.tile import FROM_ZERO, LAST, SHAPES, Emitter, tile_of

_I64 = ir.IntType(64)


class ScaledEmitter(Emitter):
    """Writes the LLVM of one micro-kernel."""

    def loop(self, vectors, args):
        """Emit one block for a tile ``vectors`` wide."""
        a, b, c, row_bytes, count, flags = args
        builder, shape = self.builder, self.shape
        places = []
        for i in range(shape.rows):
            row = builder.add(c, builder.mul(row_bytes, _I64(i)))
            places += [self.bump(row, v * shape.lanes * self.size) for v in range(vectors)]
        line_a, line_b = shape.rows * self.size, vectors * shape.lanes * self.size
        products = builder.sub(count, _I64(1))
        entry = builder.append_basic_block("start")
        body = builder.append_basic_block("k_loop")
        done = builder.append_basic_block("done")
        end = builder.append_basic_block("end")
        builder.branch(entry)
        builder.position_at_end(entry)
        builder.cbranch(builder.icmp_signed(">", products, _I64(0)), body, done)

        builder.position_at_end(body)
        zero = ir.Constant(self.vector, [0.0] * shape.lanes)
        k, pa, pb = (builder.phi(_I64) for _ in range(3))
        sums = [builder.phi(self.vector) for _ in places]
        results = self.turn(pa, pb, sums, None)
        for counter, begin, amount in ((k, _I64(0), 1), (pa, a, line_a), (pb, b, line_b)):
            counter.add_incoming(begin, entry)
            counter.add_incoming(self.bump(counter, amount), body)
        for value, result in zip(sums, results, strict=True):
            value.add_incoming(zero, entry)
            value.add_incoming(result, body)
        builder.cbranch(builder.icmp_signed("<", self.bump(k, 1), products), body, done)

        builder.position_at_end(done)
        totals = [self.phi(((zero, entry), (result, body))) for result in results]
        at_a = builder.add(a, builder.mul(products, _I64(line_a)))
        at_b = builder.add(b, builder.mul(products, _I64(line_b)))
        columns = [self.load(self.bump(at_b, v * shape.lanes * self.size)) for v in range(vectors)]
        fresh = builder.icmp_unsigned("!=", builder.and_(flags, _I64(FROM_ZERO)), _I64(0))
        last = builder.icmp_unsigned("!=", builder.and_(flags, _I64(LAST)), _I64(0))
        for i in range(shape.rows):
            scalar = builder.load(self.pointer(self.bump(at_a, i * self.size), self.real), align=self.size)
            row = self.splat(scalar)
            for v in range(vectors):
                place = places[i * vectors + v]
                before = builder.select(fresh, zero, self.load(place))
                total = self.fma(totals[i * vectors + v], builder.fmul(row, columns[v]), before)
                final = builder.select(last, self.canonical(total), total)
                builder.store(final, self.pointer(place, self.vector), align=self.size)
        builder.branch(end)
        builder.position_at_end(end)


def _tile(lanes):
    """Make the intrinsic for a width of vectors."""
    shape, emulated = SHAPES[lanes, 4], lanes == "plain"
    return tile_of(lambda builder: ScaledEmitter(builder, shape, ir.FloatType(), emulated))


_scaled_16, _scaled_8, _scaled_4, _scaled_plain = _tile("16"), _tile("8"), _tile("4"), _tile("plain")


def scaled_16(a, b, c, row_bytes, count, vectors, flags):
    """Multiply a block with 512-bit vectors of float32."""
    _scaled_16(a, b, c, row_bytes, count, vectors, flags)


def scaled_8(a, b, c, row_bytes, count, vectors, flags):
    """Multiply a block with 256-bit vectors of float32."""
    _scaled_8(a, b, c, row_bytes, count, vectors, flags)


def scaled_4(a, b, c, row_bytes, count, vectors, flags):
    """Multiply a block with 128-bit vectors of float32."""
    _scaled_4(a, b, c, row_bytes, count, vectors, flags)


def scaled_plain(a, b, c, row_bytes, count, vectors, flags):
    """Multiply a block of float32 without an FMA instruction."""
    _scaled_plain(a, b, c, row_bytes, count, vectors, flags)


TILES = {"16": scaled_16, "8": scaled_8, "4": scaled_4, "plain": scaled_plain}
