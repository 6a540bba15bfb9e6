"""How far the numbers of a run reach, as LLVM vectors: short runs too, where a plain loop would stay scalar.

The bits of float32 numbers, read as signed integers, have their maximum at the largest number; read as unsigned
integers they have it at the most negative one, if there is one. Infinities and NaN lie beyond every number in both.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD, _INT64 = ir.IntType(32), ir.IntType(64)


def _greater(builder, a, b, *, signed):
    """Return the larger of two words or vectors of words."""
    compare = builder.icmp_signed if signed else builder.icmp_unsigned
    return builder.select(compare(">", a, b), a, b)


def _loop(builder, source, count, done, found, lanes):
    """Emit the loop that takes ``lanes`` words at once while there are so many; return how many, and both maxima."""
    kind = ir.VectorType(_WORD, lanes) if lanes > 1 else _WORD
    before = builder.block
    test, body, end = (builder.append_basic_block(f"extent_{lanes}_{part}") for part in ("test", "body", "end"))
    builder.branch(test)
    builder.position_at_end(test)
    there, most, least = builder.phi(_INT64), builder.phi(kind), builder.phi(kind)
    for phi, value in zip((there, most, least), (done, *found), strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<=", builder.add(there, _INT64(lanes)), count), body, end)
    builder.position_at_end(body)
    place = builder.gep(builder.inttoptr(source, _WORD.as_pointer()), [there])
    u = builder.load(builder.bitcast(place, kind.as_pointer()), align=4)
    there.add_incoming(builder.add(there, _INT64(lanes)), body)
    most.add_incoming(_greater(builder, u, most, signed=True), body)
    least.add_incoming(_greater(builder, u, least, signed=False), body)
    builder.branch(test)
    builder.position_at_end(end)
    return there, (most, least)


def _folded(builder, found, lanes, parts):
    """Return the maxima of a vector's equal parts, as a vector of one part's length."""
    size = lanes // parts
    kinds = ir.VectorType(_WORD, size)

    def part(vector, first):
        mask = ir.Constant(kinds, list(range(first, first + size)))
        return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    results = []
    for vector, signed in zip(found, (True, False), strict=True):
        pieces = [part(vector, i * size) for i in range(parts)]
        while len(pieces) > 1:
            pieces = [_greater(builder, a, b, signed=signed) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
        results.append(pieces[0])
    return tuple(results)


@intrinsic
def extent_run(typingctx, source, count):  # noqa: ARG001
    """Return the larger of 0 and the signed maximum, and the unsigned maximum, of ``count`` words at an address."""
    signature = types.UniTuple(types.uint32, 2)(types.int64, types.int64)

    def codegen(context, builder, signature, args):
        source, count = args
        zero = ir.Constant(ir.VectorType(_WORD, 32), [0] * 32)
        done, found = _loop(builder, source, count, _INT64(0), (zero, zero), 32)
        done, found = _loop(builder, source, count, done, _folded(builder, found, 32, 4), 8)
        single = []
        for vector, name in zip(found, ("smax", "umax"), strict=True):
            kind = ir.FunctionType(_WORD, [vector.type])
            reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.{name}.v8i32")
            single.append(builder.call(reduce, [vector]))
        _, found = _loop(builder, source, count, done, tuple(single), 1)
        return context.make_tuple(builder, signature.return_type, found)

    return signature, codegen
