"""Matrix products: blocking and sharing of work around a packer for each operand and a micro-kernel.

Every thread that takes part calls `gemm` with the same job and the same counters, and claims pieces until none is
left: first of packing B, then, when all of B is packed, of rows of the result. Nobody waits for a thread that has not
started, only for pieces that a running thread has claimed, so any number of threads completes the job.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.convert import Operand
from lowprec.kernels.pack import WORST
from lowprec.kernels.tile import FROM_ZERO, LAST
from lowprec.kernels.words import (
    at_address,
    atomic_add,
    call_7,
    call_9,
    relax,
    restore_float_mode,
    standard_float_mode,
)


class Job(NamedTuple):
    """One product C = A B (+ C): int64 numbers in this order."""

    tile: int  # address of the micro-kernel
    pack: int  # address of the packer
    a: int  # address of A's `Operand`
    b: int  # address of B's `Operand`
    c: int  # address of C
    packed_b: int  # address of room for all of B, panel by panel, on a cache line
    row_bytes: int  # bytes from a row of C to the next (its columns are adjacent)
    m: int
    n: int
    k: int
    from_zero: int  # 1: start at +0; 0: start at what C holds
    final: int  # 1: no more of k follows, so NaN is made canonical
    tile_rows: int
    lanes: int  # numbers per vector
    tile_vectors: int
    item: int  # bytes per number
    k_block: int
    row_block: int  # rows of a piece, a multiple of tile_rows
    panel_block: int  # full panels of a piece of packing
    tail: int  # the last panel's width is a multiple of this one


FIELDS = len(Job._fields)
A, B, C, PACKED_B = (Job._fields.index(name) for name in ("a", "b", "c", "packed_b"))
COUNTERS = 3  # pieces of packing claimed, those done, pieces of rows claimed
CLAIMED, PACKED, ROWS = FIELDS, FIELDS + 1, FIELDS + 2
# A job travels as one array: its fields, the counters, and the `Operand` of A and that of B.
A_DATA = FIELDS + COUNTERS
B_DATA = A_DATA + len(Operand._fields)


@inline
def _job(j):
    return Job(
        j[0], j[1], j[2], j[3], j[4], j[5], j[6], j[7], j[8], j[9], j[10], j[11], j[12], j[13], j[14], j[15], j[16],
        j[17], j[18], j[19],
    )  # fmt: skip


@inline
def _tail_width(j, columns):
    """Return the width of a panel that holds ``columns`` columns: whole vectors, as few as serve."""
    return min(j.tile_vectors * j.lanes, (columns + j.tail - 1) // j.tail * j.tail)


@inline
def _pack_pieces(j, numbers, scratch):
    """Claim and pack pieces of B until none is left, then wait until others have finished theirs."""
    width = j.tile_vectors * j.lanes
    columns = j.panel_block * width
    across = (j.n + columns - 1) // columns
    total = across * ((j.k + j.k_block - 1) // j.k_block)
    padded = j.n // width * width + _tail_width(j, j.n % width)
    while True:
        piece = atomic_add(numbers, CLAIMED, 1)
        if piece >= total:
            break
        first_k = piece // across * j.k_block
        count = min(j.k_block, j.k - first_k)
        first, end = piece % across * columns, min(j.n, (piece % across + 1) * columns)
        out = j.packed_b + (first_k * padded + first * count) * j.item
        tail = _tail_width(j, (end - first) % width)
        call_9(j.pack, j.b, out, first, end - first, first_k, count, width, tail, scratch)
        atomic_add(numbers, PACKED, 1)
    while atomic_add(numbers, PACKED, 0) < total:
        relax()


@inline
def _copy(source, source_step, target, target_step, rows, columns, item):
    """Copy a block of numbers between addresses."""
    for i in range(rows):
        x = numba.carray(at_address(source + i * source_step), columns * item // 4, np.uint32)
        y = numba.carray(at_address(target + i * target_step), columns * item // 4, np.uint32)
        for word in range(columns * item // 4):
            y[word] = x[word]


@inline
def _row_piece(j, first, packed_a, corner, scratch):
    """Compute the rows from ``first`` of one piece, through all of k in ascending blocks."""
    rows = min(j.row_block, j.m - first)
    width = j.tile_vectors * j.lanes
    padded = j.n // width * width + _tail_width(j, j.n % width)
    for first_k in range(0, j.k, j.k_block):
        count = min(j.k_block, j.k - first_k)
        call_9(j.pack, j.a, packed_a, first, rows, first_k, count, j.tile_rows, j.tile_rows, scratch)
        flags = (FROM_ZERO if first_k == 0 and j.from_zero == 1 else 0) | (
            LAST if first_k + count == j.k and j.final == 1 else 0
        )
        for left in range(0, j.n, width):
            columns = min(width, j.n - left)
            vectors = _tail_width(j, columns) // j.lanes
            panel = j.packed_b + (first_k * padded + left * count) * j.item
            for top in range(0, rows, j.tile_rows):
                height = min(j.tile_rows, rows - top)
                strip = packed_a + top * count * j.item
                c = j.c + (first + top) * j.row_bytes + left * j.item
                if height == j.tile_rows and columns == vectors * j.lanes:
                    call_7(j.tile, strip, panel, c, j.row_bytes, count, vectors, flags)
                    continue
                step = width * j.item
                if flags & FROM_ZERO == 0:
                    _copy(c, j.row_bytes, corner, step, height, columns, j.item)
                call_7(j.tile, strip, panel, corner, step, count, vectors, flags)
                _copy(corner, step, c, j.row_bytes, height, columns, j.item)


@inline
def _room(j):
    """Return how many bytes a thread needs for its packed rows, a corner tile and the packers' scratch."""
    width = j.tile_vectors * j.lanes
    lines = max(j.panel_block * width, 8 * j.k_block)
    return (j.row_block * j.k_block + j.tile_rows * width + lines) * j.item + 8 * WORST


@inline
def _take_part(j, numbers, room):
    """Claim and do pieces of a product until none is left; ``room`` is the address of this thread's own memory."""
    corner = room + j.row_block * j.k_block * j.item
    scratch = corner + j.tile_rows * j.tile_vectors * j.lanes * j.item
    _pack_pieces(j, numbers, scratch)
    pieces = (j.m + j.row_block - 1) // j.row_block
    while True:
        piece = atomic_add(numbers, ROWS, 1)
        if piece >= pieces:
            break
        _row_piece(j, piece * j.row_block, room, corner, scratch)


@inline
def _aligned(room):
    """Return the address of the first cache line in an array of bytes that has 64 to spare."""
    return (room.ctypes.data + 63) // 64 * 64


@inline
def _keep(room):
    """Use an array once more: Numba frees it after its last use, and does not see that its address is in use."""
    room[0] = 0


@inline
def _complete(numbers):
    """Write the addresses of the operands, which travel in the same array, into the job."""
    numbers[A] = numbers.ctypes.data + 8 * A_DATA
    numbers[B] = numbers.ctypes.data + 8 * B_DATA


@inline
def _product(numbers):
    """Take part in the product of a job."""
    found = standard_float_mode()
    _complete(numbers)
    j = _job(numbers)
    room = np.empty(_room(j) + 64, np.uint8)
    _take_part(j, numbers, _aligned(room))
    _keep(room)
    restore_float_mode(found)


@njit()
def gemm(numbers):
    """Take part in one product until nothing is left to claim; k is at least 1, the counters start at 0."""
    _product(numbers)


@njit()
def gemm_alone(numbers, packed_size):
    """Do one product on this thread alone, with room for packed B of its own."""
    packed = np.empty(packed_size + 64, np.uint8)
    numbers[PACKED_B] = _aligned(packed)
    _product(numbers)
    _keep(packed)


@njit()
def gemm_float32(numbers, packed_size, a, b, c):
    """Do one product of contiguous float32 matrices on this thread alone: their addresses cost less here."""
    numbers[A_DATA], numbers[B_DATA], numbers[C] = a.ctypes.data, b.ctypes.data, c.ctypes.data
    packed = np.empty(packed_size + 64, np.uint8)
    numbers[PACKED_B] = _aligned(packed)
    _product(numbers)
    _keep(packed)


@njit()
def gemm_many(jobs, claimed, packed_size):
    """Take part in many small products of one shape: each is claimed whole and done by one thread.

    ``jobs`` has a row of numbers for each; their room for packed B is found here.
    """
    packed = np.empty(packed_size + 64, np.uint8)
    while True:
        index = atomic_add(claimed, 0, 1)
        if index >= jobs.shape[0]:
            break
        jobs[index, PACKED_B] = _aligned(packed)
        _product(jobs[index])
    _keep(packed)
