"""Arithmetic on machine words that keeps their width, and what else of the machine Numba does not offer.

Numba widens every small integer to 64 bits; these intrinsics do not, so that one kernel text serves 32- and 64-bit
words and fills the vector registers with either. All words are unsigned; sums wrap.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _same(a, b):
    """Say whether two types are one unsigned type."""
    return isinstance(a, types.Integer) and a == b


def _binary(emit, doc):
    """Make an intrinsic of two words of one type."""

    @intrinsic
    def op(typingctx, a, b):  # noqa: ARG001
        if not _same(a, b):
            return None
        return a(a, b), lambda context, builder, signature, args: emit(builder, *args)  # noqa: ARG005

    op.__doc__ = doc
    return op


def _comparison(predicate, doc):
    """Make an intrinsic that compares two words of one type."""

    @intrinsic
    def op(typingctx, a, b):  # noqa: ARG001
        if not _same(a, b):
            return None

        def codegen(context, builder, signature, args):  # noqa: ARG001
            return builder.icmp_unsigned(predicate, *args)

        return types.boolean(a, b), codegen

    op.__doc__ = doc
    return op


def _largest(builder, a, b):
    return builder.select(builder.icmp_unsigned(">", a, b), a, b)


def _smallest(builder, a, b):
    return builder.select(builder.icmp_unsigned("<", a, b), a, b)


add = _binary(lambda builder, a, b: builder.add(a, b), "a + b, wrapping.")
sub = _binary(lambda builder, a, b: builder.sub(a, b), "a - b, wrapping.")
shl = _binary(lambda builder, a, b: builder.shl(a, b), "a << b for b less than the width.")
shr = _binary(lambda builder, a, b: builder.lshr(a, b), "a >> b for b less than the width, zeros shifted in.")
both = _binary(lambda builder, a, b: builder.and_(a, b), "Bitwise and.")
differ = _binary(lambda builder, a, b: builder.xor(a, b), "Bitwise exclusive or.")
either = _binary(lambda builder, a, b: builder.or_(a, b), "Bitwise or.")
larger = _binary(_largest, "Maximum.")
smaller = _binary(_smallest, "Minimum.")
less = _comparison("<", "a < b.")
equal = _comparison("==", "a == b.")


@intrinsic
def pick(typingctx, condition, a, b):  # noqa: ARG001
    """Return a if the condition holds, else b, without a branch."""
    if not isinstance(condition, types.Boolean) or not _same(a, b):
        return None
    return a(condition, a, b), lambda context, builder, signature, args: builder.select(*args)  # noqa: ARG005


@intrinsic
def constant(typingctx, like, value):  # noqa: ARG001
    """Return the literal ``value`` as a word of the type of ``like``."""
    if not isinstance(value, types.IntegerLiteral):
        return None
    number = value.literal_value

    def codegen(context, builder, signature, args):  # noqa: ARG001
        return ir.Constant(context.get_value_type(like), number & ((1 << like.bitwidth) - 1))

    return like(like, value), codegen


@intrinsic
def narrow(typingctx, u):  # noqa: ARG001
    """Return the low 16 bits of a 32-bit word."""
    if u != types.uint32:
        return None

    def codegen(context, builder, signature, args):  # noqa: ARG001
        return builder.trunc(args[0], ir.IntType(16))

    return types.uint16(u), codegen


_FLOAT_OF = {types.uint32: types.float32, types.uint64: types.float64}
_WORD_OF = {types.float32: types.uint32, types.float64: types.uint64}


@intrinsic
def float_bits(typingctx, x):  # noqa: ARG001
    """Return the bits of a float as a word."""
    if x not in _WORD_OF:
        return None
    word = _WORD_OF[x]
    return word(x), lambda context, builder, signature, args: builder.bitcast(  # noqa: ARG005
        args[0], context.get_value_type(word)
    )


@intrinsic
def bits_float(typingctx, u):  # noqa: ARG001
    """Return the float that a word's bits stand for."""
    if u not in _FLOAT_OF:
        return None
    real = _FLOAT_OF[u]
    return real(u), lambda context, builder, signature, args: builder.bitcast(  # noqa: ARG005
        args[0], context.get_value_type(real)
    )


@intrinsic
def integer_float(typingctx, u):  # noqa: ARG001
    """Return a word's integer value, read as two's complement, as a float of the same width."""
    if u not in _FLOAT_OF:
        return None
    real = _FLOAT_OF[u]
    return real(u), lambda context, builder, signature, args: builder.sitofp(  # noqa: ARG005
        args[0], context.get_value_type(real)
    )


@intrinsic
def fma(typingctx, a, b, c):  # noqa: ARG001
    """Return a * b + c rounded once."""
    if a not in _WORD_OF or not a == b == c:
        return None

    def codegen(context, builder, signature, args):  # noqa: ARG001
        return builder.fma(*args)

    return a(a, b, c), codegen


@intrinsic
def atomic_add(typingctx, array, index, value):  # noqa: ARG001
    """Add to an int64 array element, seen by all threads in one order; return what was there before."""
    if not isinstance(array, types.Array) or array.dtype != types.int64:
        return None
    signature = types.int64(array, types.intp, types.int64)

    def codegen(context, builder, signature, args):
        view = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0])
        where = builder.gep(view.data, [args[1]])
        return builder.atomic_rmw("add", where, args[2], "seq_cst")

    return signature, codegen


def _is_x86() -> bool:
    import platform  # noqa: PLC0415

    return platform.machine().lower() in {"x86_64", "amd64", "i686", "i386"}


def _float_mode(value, doc):
    """Make an intrinsic that sets x86's floating-point mode and returns the one found."""

    @intrinsic
    def mode(typingctx):  # noqa: ARG001
        def codegen(context, builder, signature, args):  # noqa: ARG001
            int32 = ir.IntType(32)
            if not _is_x86():
                return ir.Constant(int32, 0)
            pointer = ir.IntType(8).as_pointer()
            slot = cgutils.alloca_once(builder, int32)
            for name, wanted in (("stmxcsr", None), ("ldmxcsr", value)):
                function = cgutils.get_or_insert_function(
                    builder.module, ir.FunctionType(ir.VoidType(), [pointer]), f"llvm.x86.sse.{name}"
                )
                if wanted is None:
                    builder.call(function, [builder.bitcast(slot, pointer)])
                    found = builder.load(slot)
                else:
                    builder.store(ir.Constant(int32, wanted), slot)
                    builder.call(function, [builder.bitcast(slot, pointer)])
            return found

        return types.uint32(), codegen

    mode.__doc__ = doc
    return mode


standard_float_mode = _float_mode(
    0x1F80,
    """Set the CPU to IEEE arithmetic (nearest even, subnormals kept) and return the mode found; x86 only.

    Other libraries change it for the whole thread, so that subnormals vanish without a word.
    """,
)
flushing_float_mode = _float_mode(
    0x9FC0,
    """Set the CPU to nearest even with subnormals taken for zero, in and out, and return the mode found; x86 only.

    LLVM does not know: what is to be done in this mode must be inline assembly with side effects, which stays between
    this and `restore_float_mode`.
    """,
)


@intrinsic
def restore_float_mode(typingctx, found):  # noqa: ARG001
    """Set the CPU's floating-point mode back to what `standard_float_mode` found."""

    def codegen(context, builder, signature, args):  # noqa: ARG001
        if _is_x86():
            pointer = ir.IntType(8).as_pointer()
            slot = cgutils.alloca_once_value(builder, args[0])
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [pointer]), "llvm.x86.sse.ldmxcsr"
            )
            builder.call(function, [builder.bitcast(slot, pointer)])
        return context.get_dummy_value()

    return types.void(types.uint32), codegen


@intrinsic
def full_width(typingctx):  # noqa: ARG001
    """Let LLVM fill the widest vector registers, where it stops at 256 bits by default; call it first in a kernel."""

    def codegen(context, builder, signature, args):  # noqa: ARG001
        # llvmlite knows no string attributes; its attribute set prints what it holds.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def at_address(typingctx, address):  # noqa: ARG001
    """Turn an address into a pointer that `numba.carray` takes."""
    if not isinstance(address, types.Integer):
        return None

    def codegen(context, builder, signature, args):  # noqa: ARG001
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), codegen


def _caller(count):
    """Make an intrinsic that calls the C function at an address with ``count`` int64 arguments."""
    int64 = types.int64

    def codegen(context, builder, signature, args):  # noqa: ARG001
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * count)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[int64] * (count + 1)), codegen


@intrinsic
def call_1(typingctx, function, a):  # noqa: ARG001
    """Call the C function at an address with one int64 argument."""
    return _caller(1)


@intrinsic
def call_6(typingctx, function, a, b, c, d, e, f):  # noqa: ARG001, PLR0917
    """Call the C function at an address with six int64 arguments."""
    return _caller(6)


@intrinsic
def call_7(typingctx, function, a, b, c, d, e, f, g):  # noqa: ARG001, PLR0917
    """Call the C function at an address with seven int64 arguments."""
    return _caller(7)


@intrinsic
def call_9(typingctx, function, a, b, c, d, e, f, g, h, i):  # noqa: ARG001, PLR0917
    """Call the C function at an address with nine int64 arguments."""
    return _caller(9)


@intrinsic
def relax(typingctx):  # noqa: ARG001
    """Tell the CPU that this is a waiting loop."""

    def codegen(context, builder, signature, args):  # noqa: ARG001
        if _is_x86():
            pause = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def transpose_8x8(typingctx, source, source_step, target, target_step, like):  # noqa: ARG001, PLR0917
    """Transpose 8 x 8 floats of the type of ``like`` from address to address; steps are bytes from row to row."""
    if like not in _WORD_OF:
        return None
    signature = types.void(types.int64, types.int64, types.int64, types.int64, like)

    def codegen(context, builder, signature, args):
        address, step, out, out_step, _ = args
        row = ir.VectorType(context.get_value_type(like), 8)
        low = [i // 2 + 8 * (i % 2) for i in range(8)]
        mask_type = ir.VectorType(ir.IntType(32), 8)
        masks = [ir.Constant(mask_type, low), ir.Constant(mask_type, [m + 4 for m in low])]
        rows = []
        for _ in range(8):
            rows.append(builder.load(builder.inttoptr(address, row.as_pointer()), align=like.bitwidth // 8))
            address = builder.add(address, step)
        for _ in range(3):  # three perfect shuffles of rows i and i + 4 exchange the two 3-bit indices
            rows = [builder.shuffle_vector(rows[i], rows[i + 4], mask) for i in range(4) for mask in masks]
        for value in rows:
            builder.store(value, builder.inttoptr(out, row.as_pointer()), align=like.bitwidth // 8)
            out = builder.add(out, out_step)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_to_four(typingctx, source, target, base):  # noqa: ARG001
    """Write four 32-bit words from an address to another one, each plus a base."""
    signature = types.void(types.int64, types.int64, types.int32)

    def codegen(context, builder, signature, args):  # noqa: ARG001
        row, word = ir.VectorType(ir.IntType(32), 4), ir.IntType(32)
        places = [builder.inttoptr(address, row.as_pointer()) for address in args[:2]]
        spread = builder.insert_element(ir.Constant(row, ir.Undefined), args[2], word(0))
        spread = builder.shuffle_vector(spread, ir.Constant(row, ir.Undefined), ir.Constant(row, [0] * 4))
        builder.store(builder.add(builder.load(places[0], align=4), spread), places[1], align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def copy_numbers(typingctx, source, target, count, like):  # noqa: ARG001, PLR0917
    """Copy a few floats of the type of ``like`` from address to address, sixteen at once while there are so many."""
    if like not in _WORD_OF:
        return None
    signature = types.void(types.int64, types.int64, types.int64, like)

    def codegen(context, builder, signature, args):  # noqa: ARG001
        int64, size = ir.IntType(64), like.bitwidth // 8
        done = cgutils.alloca_once_value(builder, int64(0))
        for lanes in (16, 4, 1):
            row = ir.VectorType(context.get_value_type(like), lanes) if lanes > 1 else context.get_value_type(like)
            test, body, end = (builder.append_basic_block(f"copy_{lanes}_{part}") for part in ("test", "body", "end"))
            builder.branch(test)
            builder.position_at_end(test)
            there = builder.load(done)
            more = builder.icmp_signed("<=", builder.add(there, int64(lanes)), args[2])
            builder.cbranch(more, body, end)
            builder.position_at_end(body)
            offset = builder.mul(there, int64(size))
            places = [builder.inttoptr(builder.add(a, offset), row.as_pointer()) for a in args[:2]]
            builder.store(builder.load(places[0], align=size), places[1], align=size)
            builder.store(builder.add(there, int64(lanes)), done)
            builder.branch(test)
            builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def leading_zeros(typingctx, u):  # noqa: ARG001
    """Return how many zero bits an integer begins with; its width for 0."""
    if not isinstance(u, types.Integer):
        return None

    def codegen(context, builder, signature, args):  # noqa: ARG001
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return u(u), codegen


@intrinsic
def floor(typingctx, x):  # noqa: ARG001
    """Return a float64 number rounded down to an integer."""
    if x != types.float64:
        return None

    def codegen(context, builder, signature, args):  # noqa: ARG001
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.floor.f64"), args)

    return x(x), codegen
