"""Exact products of integers: blocking and sharing as in `lowprec.kernels.gemm`, and what is done to a finished tile.

A job is that of `gemm`, with k counted in groups, and the operands are `Integers`. After them follow the numbers of a
`Finish`: the terms of the zero points, and a scaling to float32. Both happen on each tile while it is in the
first-level cache, so neither costs a pass over the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.dots import STEPS_SHIFT
from lowprec.kernels.gemm import (
    B_DATA,
    PACKED_B,
    ROWS,
    _aligned,
    _complete,
    _copy,
    _job,
    _keep,
    _pack_pieces,
    _room,
    _tail_width,
)
from lowprec.kernels.pack_integers import FIELDS as OPERAND_FIELDS
from lowprec.kernels.tile import FROM_ZERO
from lowprec.kernels.words import (
    add,
    at_address,
    atomic_add,
    call_7,
    call_9,
    full_width,
    restore_float_mode,
    standard_float_mode,
    sub,
)

FINISH = B_DATA + OPERAND_FIELDS  # an `Integers` has as many numbers as the `Operand` in its place


class Finish(NamedTuple):
    """What is done to a tile: int64 numbers in this order. Addresses are of the first element."""

    steps: int  # groups that "maddubs" adds in 16 bits
    deep: int  # how many k there are
    zeros: int  # 1: there are zero points
    row_zeros: int  # address of a word for each row of A: what is to be subtracted from its packed numbers
    column_zeros: int  # and for each column of B
    row_sums: int  # address of the sums of A's packed rows, a row of sums for each block of k
    column_sums: int  # and of B's packed columns
    scaled: int  # 1: the result is float32
    row_scales: int  # addresses of float32 numbers
    column_scales: int
    biases: int


FINISH_FIELDS = len(Finish._fields)
SIZE = FINISH + FINISH_FIELDS


@inline
def _finish(numbers):
    f, i = numbers, FINISH
    return Finish(
        f[i], f[i + 1], f[i + 2], f[i + 3], f[i + 4], f[i + 5], f[i + 6], f[i + 7], f[i + 8], f[i + 9], f[i + 10]
    )


@inline
def _totals(address, blocks, step, length, target):
    """Add up the sums of all blocks of k, ``step`` bytes apart."""
    out = numba.carray(at_address(target), length, np.uint32)
    for i in range(length):
        out[i] = 0
    for block in range(blocks):
        x = numba.carray(at_address(address + block * step), length, np.uint32)
        for i in range(length):
            out[i] = add(out[i], x[i])


@inline
def _correct(f, c, row_zero, row_sum, left, columns, totals):
    """Take the terms of the zero points off one row of a tile."""
    full_width()
    x = numba.carray(at_address(c), columns, np.uint32)
    sums = numba.carray(at_address(totals + left * 4), columns, np.uint32)
    zeros = numba.carray(at_address(f.column_zeros + left * 4), columns, np.uint32)
    term = sub(row_sum, np.uint32(row_zero * np.uint32(f.deep)))
    for j in range(columns):
        x[j] = sub(sub(x[j], np.uint32(row_zero * sums[j])), np.uint32(term * zeros[j]))


@inline
def _scale(f, c, row_scale, left, columns):
    """Turn one row of a tile into float32 and scale it; each operation rounds once."""
    full_width()
    x = numba.carray(at_address(c), columns, np.int32)
    y = numba.carray(at_address(c), columns, np.float32)
    scales = numba.carray(at_address(f.column_scales + left * 4), columns, np.float32)
    biases = numba.carray(at_address(f.biases + left * 4), columns, np.float32)
    for j in range(columns):
        y[j] = np.float32(x[j]) * (row_scale * scales[j]) + biases[j]


@inline
def _finish_tile(f, c, row_bytes, first, height, left, columns, sums, totals):
    """Do to a tile at rows from ``first``, columns from ``left``, what is to be done."""
    if f.zeros == 1:
        zeros = numba.carray(at_address(f.row_zeros + first * 4), height, np.uint32)
        own = numba.carray(at_address(sums), height, np.uint32)
        for i in range(height):
            _correct(f, c + i * row_bytes, zeros[i], own[i], left, columns, totals)
    if f.scaled == 1:
        scales = numba.carray(at_address(f.row_scales + first * 4), height, np.float32)
        for i in range(height):
            _scale(f, c + i * row_bytes, scales[i], left, columns)


@inline
def _row_piece(j, f, first, packed_a, corner, scratch, sums, totals):
    """Compute the rows from ``first`` of one piece."""
    rows = min(j.row_block, j.m - first)
    width = j.tile_vectors * j.lanes
    padded = j.n // width * width + _tail_width(j, j.n % width)
    blocks = (j.k + j.k_block - 1) // j.k_block
    for first_k in range(0, j.k, j.k_block):
        count = min(j.k_block, j.k - first_k)
        call_9(j.pack, j.a, packed_a, first, rows, first_k, count, j.tile_rows, j.tile_rows, scratch)
        flags = (FROM_ZERO if first_k == 0 and j.from_zero == 1 else 0) | (f.steps << STEPS_SHIFT)
        last = first_k + count == j.k
        if last and f.zeros == 1:
            _totals(f.row_sums + first * 4, blocks, j.m * 4, rows, sums)
        for left in range(0, j.n, width):
            columns = min(width, j.n - left)
            vectors = _tail_width(j, columns) // j.lanes
            panel = j.packed_b + (first_k * padded + left * count) * 4
            for top in range(0, rows, j.tile_rows):
                height = min(j.tile_rows, rows - top)
                strip = packed_a + top * count * 4
                c = j.c + (first + top) * j.row_bytes + left * 4
                if height == j.tile_rows and columns == vectors * j.lanes:
                    call_7(j.tile, strip, panel, c, j.row_bytes, count, vectors, flags)
                else:
                    step = width * 4
                    if flags & FROM_ZERO == 0:
                        _copy(c, j.row_bytes, corner, step, height, columns, 4)
                    call_7(j.tile, strip, panel, corner, step, count, vectors, flags)
                    _copy(corner, step, c, j.row_bytes, height, columns, 4)
                if last:
                    _finish_tile(f, c, j.row_bytes, first + top, height, left, columns, sums + top * 4, totals)


@inline
def _product(numbers):
    """Claim and do pieces of a job until none is left."""
    found = standard_float_mode()
    _complete(numbers)
    j, f = _job(numbers), _finish(numbers)
    own = _room(j)
    room = np.empty(own + 4 * (j.row_block + j.n) + 64, np.uint8)
    start = _aligned(room)
    corner = start + j.row_block * j.k_block * 4
    scratch = corner + j.tile_rows * j.tile_vectors * j.lanes * 4
    sums = start + own
    totals = sums + 4 * j.row_block
    _pack_pieces(j, numbers, scratch)
    if f.zeros == 1:
        _totals(f.column_sums, (j.k + j.k_block - 1) // j.k_block, j.n * 4, j.n, totals)
    pieces = (j.m + j.row_block - 1) // j.row_block
    while True:
        piece = atomic_add(numbers, ROWS, 1)
        if piece >= pieces:
            break
        _row_piece(j, f, piece * j.row_block, start, corner, scratch, sums, totals)
    _keep(room)
    restore_float_mode(found)


@njit()
def dot_gemm(numbers):
    """Take part in one product until nothing is left to claim; k is at least 1, the counters start at 0."""
    _product(numbers)


@njit()
def dot_gemm_many(jobs, claimed, packed_size):
    """Take part in many small products of one shape: each is claimed whole and done by one thread."""
    packed = np.empty(packed_size + 64, np.uint8)
    while True:
        index = atomic_add(claimed, 0, 1)
        if index >= jobs.shape[0]:
            break
        jobs[index, PACKED_B] = _aligned(packed)
        _product(jobs[index])
    _keep(packed)
