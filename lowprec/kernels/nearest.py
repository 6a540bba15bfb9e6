"""The short way to nearest even, as LLVM vectors: for sources whose magnitude stays below a limit.

To round x, add 1.5 * 2**(exponent of x + dropped bits) and take it off again. The sum has its last place where the
format has its own (below the smallest normal number, where the subnormals have theirs), so the addition rounds as the
format does, and the subtraction is exact. The sign bit of the source is put back for results that are zero. All that
holds while the sum is finite and the result in range; the largest magnitudes are kept for the caller to look at.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FLOATS = {types.uint32: types.float32, types.uint64: types.float64}


class _Run:
    """Writes the loop over one run of numbers."""

    def __init__(self, context, builder, word, result, numbers):
        self.builder, self.word = builder, word
        self.bits = word.bitwidth
        self.mantissa = 23 if self.bits == 32 else 52
        self.real = context.get_value_type(_FLOATS[word])
        self.integer = context.get_value_type(word)
        self.result = context.get_value_type(result)
        self.step = result.bitwidth // 8
        self.drop, self.emin, self.sign = numbers

    def spread(self, value, lanes):
        """Fill a vector with a word."""
        if lanes == 1:
            return value
        kind = ir.VectorType(self.integer, lanes)
        none = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(none, value, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, none, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))

    def kinds(self, lanes):
        """Return the word, source and result types of so many lanes."""
        kinds = (self.integer, self.real, self.result)
        return kinds if lanes == 1 else tuple(ir.VectorType(kind, lanes) for kind in kinds)

    def body(self, u, worst, lanes):
        """Return the rounded numbers and the larger magnitudes."""
        builder = self.builder
        word, real, result = self.kinds(lanes)

        def constant(number):
            return ir.Constant(word, number if lanes == 1 else [number] * lanes)

        magnitude = builder.and_(u, constant((1 << (self.bits - 1)) - 1))
        worst = builder.select(builder.icmp_unsigned(">", magnitude, worst), magnitude, worst)
        exponent = builder.and_(magnitude, constant(((1 << (self.bits - 1)) - 1) >> self.mantissa << self.mantissa))
        smallest = self.spread(builder.shl(self.emin, self.integer(self.mantissa)), lanes)
        exponent = builder.select(builder.icmp_unsigned(">", exponent, smallest), exponent, smallest)
        more = builder.shl(self.drop, self.integer(self.mantissa))
        more = self.spread(builder.or_(more, self.integer(1 << (self.mantissa - 1))), lanes)
        anchor = builder.bitcast(builder.add(exponent, more), real)
        rounded = builder.fsub(builder.fadd(builder.bitcast(u, real), anchor), anchor)
        signed = builder.or_(builder.bitcast(rounded, word), builder.and_(u, self.spread(self.sign, lanes)))
        value = builder.bitcast(signed, real)
        if self.result != self.real:
            value = (builder.fpext if self.step == 8 else builder.fptrunc)(value, result)
        return value, worst

    def loop(self, source, target, count, done, worst, lanes):
        """Emit the loop that takes ``lanes`` numbers at once while there are so many."""
        builder, int64 = self.builder, ir.IntType(64)
        word, _, result = self.kinds(lanes)
        before = builder.block
        test, body, end = (builder.append_basic_block(f"nearest_{lanes}_{part}") for part in ("test", "body", "end"))
        builder.branch(test)
        builder.position_at_end(test)
        there, large = builder.phi(int64), builder.phi(word)
        there.add_incoming(done, before)
        large.add_incoming(worst, before)
        builder.cbranch(builder.icmp_signed("<=", builder.add(there, int64(lanes)), count), body, end)
        builder.position_at_end(body)
        place = builder.gep(builder.inttoptr(source, self.integer.as_pointer()), [there])
        u = builder.load(builder.bitcast(place, word.as_pointer()), align=self.bits // 8)
        value, larger = self.body(u, large, lanes)
        place = builder.gep(builder.inttoptr(target, self.result.as_pointer()), [there])
        builder.store(value, builder.bitcast(place, result.as_pointer()), align=self.step)
        there.add_incoming(builder.add(there, int64(lanes)), body)
        large.add_incoming(larger, body)
        builder.branch(test)
        builder.position_at_end(end)
        return there, large


_LANES = 16


@intrinsic
def nearest_run(typingctx, source, target, count, worst, drop, emin, sign, like):  # noqa: ARG001, PLR0917
    """Round ``count`` numbers from address to address into the type of ``like``; raise the 16 words at ``worst``."""
    if drop not in _FLOATS:
        return None
    int64 = types.int64
    signature = types.void(int64, int64, int64, int64, drop, drop, drop, like)

    def codegen(context, builder, signature, args):
        source, target, count, worst, drop_value, emin_value, sign_value, _ = args
        run = _Run(context, builder, drop, signature.args[-1], (drop_value, emin_value, sign_value))
        lanes = ir.VectorType(run.integer, _LANES)
        kept = builder.inttoptr(worst, lanes.as_pointer())
        done, large = run.loop(
            source, target, count, ir.IntType(64)(0), builder.load(kept, align=run.bits // 8), _LANES
        )
        builder.store(large, kept, align=run.bits // 8)
        first = builder.inttoptr(worst, run.integer.as_pointer())
        _, large = run.loop(source, target, count, done, builder.load(first), 1)
        builder.store(large, first)
        return context.get_dummy_value()

    return signature, codegen
