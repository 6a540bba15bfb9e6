"""Products of bfloat16 numbers by pairs of k, as x86's VDPBF16PS makes them: kernels for `lowprec.kernels.gemm`.

The instruction takes words of two bfloat16 numbers, the even k in the low half. `pack_pairs` makes panels of them:
`pack` lays out float32 numbers, and what it wrote is folded where it lies, two lines into one. So a panel of n numbers
per k begins where it would, and its second half is unused; the micro-kernel is told the number of k, not of pairs.

The instruction is a fused multiply-add of the odd numbers, then one of the even numbers, to nearest even, subnormals
taken for zero in and out. So are two FMA instructions while the CPU is set to flush subnormals: both decide after
rounding to 24 bits whether a result is tiny, and hand on the first NaN of a, b and c (Intel SDM volume 1, 10.2.3 and
14.5; compared with reference bits in the tests). The micro-kernel "fma" does this with float32 panels, for other CPUs
and for formats that bfloat16 does not hold; "portable" does it with words, so that everything around the instruction
can be tried without it.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from lowprec._jit import inline
from lowprec.kernels.pack import pack
from lowprec.kernels.tile import SHAPES, Emitter, tile_of
from lowprec.kernels.words import (
    at_address,
    both,
    constant,
    either,
    flushing_float_mode,
    full_width,
    restore_float_mode,
    shl,
    shr,
)

_I64 = ir.IntType(64)
_HIGH = 0xFFFF0000


class _Assembly(Emitter):
    """Writes a micro-kernel whose step is an instruction by name: LLVM would choose the order of a and b."""

    unit = 2

    def __init__(self, builder, shape):
        super().__init__(builder, shape, ir.FloatType(), False)

    def step(self, name, a, b, c, effects):
        """Emit ``c += a b``: in AT&T order the second source comes first, the destination last."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.asm(kind, f"{name} $2, $1, $0", "=v,v,v,0", [a, b, c], effects)

    def fma(self, a, b, c):
        """Fuse in the CPU's present mode."""
        return self.step("vfmadd231ps", a, b, c, True)

    def canonical(self, value):
        """Leave NaN as it is."""
        return value


class _Instruction(_Assembly):
    """VDPBF16PS on words."""

    def turn(self, pa, pb, sums, left):  # noqa: ARG002
        return self.line(pa, pb, sums, lambda a, b, c: self.step("vdpbf16ps", a, b, c, False))


class _Words(_Assembly):
    """Two fused multiply-adds on words."""

    def half(self, words, odd):
        """Return the float32 numbers of a half of each word."""
        lanes = self.shape.lanes
        kind = ir.VectorType(ir.IntType(32), lanes)
        bits = self.builder.bitcast(words, kind)
        if odd:
            bits = self.builder.and_(bits, ir.Constant(kind, [_HIGH] * lanes))
        else:
            bits = self.builder.shl(bits, ir.Constant(kind, [16] * lanes))
        return self.builder.bitcast(bits, self.vector)

    def turn(self, pa, pb, sums, left):  # noqa: ARG002
        for odd in (True, False):
            sums = self.line(pa, pb, sums, lambda a, b, c, odd=odd: self.fma(self.half(a, odd), self.half(b, odd), c))
        return sums


class _Numbers(_Assembly):
    """Two fused multiply-adds on float32 numbers; beyond the end of k lie zeros."""

    lines = 2

    def __init__(self, builder, shape):
        super().__init__(builder, shape)
        size = max(shape.rows, shape.columns)
        zeros = cgutils.alloca_once(builder, ir.ArrayType(self.real, size), zfill=True)
        self.zeros = builder.ptrtoint(zeros, _I64)

    def turn(self, pa, pb, sums, left):
        builder, rows = self.builder, self.shape.rows
        there = builder.icmp_signed(">", left, _I64(1))
        columns = len(sums) // rows * self.shape.lanes
        odd = [
            builder.select(there, self.bump(panel, width * self.size), self.zeros)
            for panel, width in ((pa, rows), (pb, columns))
        ]
        return self.line(pa, pb, self.line(*odd, sums, self.fma), self.fma)


_instruction_16 = tile_of(lambda builder: _Instruction(builder, SHAPES["16", 4]))
_words_16 = tile_of(lambda builder: _Words(builder, SHAPES["16", 4]))
_words_8 = tile_of(lambda builder: _Words(builder, SHAPES["8", 4]))
_numbers_16 = tile_of(lambda builder: _Numbers(builder, SHAPES["16", 4]))
_numbers_8 = tile_of(lambda builder: _Numbers(builder, SHAPES["8", 4]))


def instruction_16(a, b, c, row_bytes, count, vectors, flags):
    """Multiply words by VDPBF16PS, which reads no mode."""
    _instruction_16(a, b, c, row_bytes, count, vectors, flags)


def words_16(a, b, c, row_bytes, count, vectors, flags):
    """Multiply words with 512-bit vectors."""
    found = flushing_float_mode()
    _words_16(a, b, c, row_bytes, count, vectors, flags)
    restore_float_mode(found)


def words_8(a, b, c, row_bytes, count, vectors, flags):
    """Multiply words with 256-bit vectors."""
    found = flushing_float_mode()
    _words_8(a, b, c, row_bytes, count, vectors, flags)
    restore_float_mode(found)


def numbers_16(a, b, c, row_bytes, count, vectors, flags):
    """Multiply float32 numbers with 512-bit vectors."""
    found = flushing_float_mode()
    _numbers_16(a, b, c, row_bytes, count, vectors, flags)
    restore_float_mode(found)


def numbers_8(a, b, c, row_bytes, count, vectors, flags):
    """Multiply float32 numbers with 256-bit vectors."""
    found = flushing_float_mode()
    _numbers_8(a, b, c, row_bytes, count, vectors, flags)
    restore_float_mode(found)


TILES = {
    ("vdpbf16ps", "16"): instruction_16,
    ("portable", "16"): words_16,
    ("portable", "8"): words_8,
    ("fma", "16"): numbers_16,
    ("fma", "8"): numbers_8,
}

_pack = inline(pack)


@inline
def _fold(panel, width, count):
    """Fold each two lines of a panel of float32 numbers into one of words; a last odd element is +0."""
    words = numba.carray(at_address(panel), width * count, np.uint32)
    for k in range(0, count, 2):
        even, odd, target = k * width, (k + 1) * width, k // 2 * width
        for i in range(width):
            low = words[even + i]
            low = shr(low, constant(low, 16))
            if k + 1 < count:
                high = words[odd + i]
                low = either(low, both(high, constant(high, 0xFFFF0000)))
            words[target + i] = low


def pack_pairs(operand, out, first_row, rows, first_k, count, width, tail, scratch):
    """Pack as `lowprec.kernels.pack.pack` does, numbers that bfloat16 holds, then fold them; ``first_k`` is even."""
    full_width()
    _pack(operand, out, first_row, rows, first_k, count, width, tail, scratch)
    for first in range(0, rows, width):
        _fold(out + first * count * 4, width if first + width <= rows else tail, count)


def bfloat16_single(operand, source, count, target, worst, how):
    """Convert bfloat16 codes to float32, NaN with their payload: a `lowprec.kernels.convert` converter."""
    full_width()
    x, line = numba.carray(at_address(source), count, np.uint16), numba.carray(at_address(target), count, np.uint32)
    for i in range(count):
        u = np.uint32(x[i])
        line[i] = shl(u, constant(u, 16))
