"""Exact products of sparse rows of small integers: blocks, sharing, and what is done to the sums.

A job is that of `lowprec.kernels.gemm`, whose A is a `Kept`, whose B is an `Integers` with the address of its words to
subtract in `sums`, and whose k counts groups. The numbers of a `Scaling` follow. A piece of rows takes k in parts of
some blocks: its kept numbers are packed once for all panels, and the sums of a part over one panel stay in room of the
thread's own, from which they go to C at the end of the part, scaled if it is the last.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.gemm import B_DATA, ROWS, _aligned, _complete, _job, _keep, _pack_pieces, _tail_width
from lowprec.kernels.pack import WORST
from lowprec.kernels.pack_integers import FIELDS as OPERAND_FIELDS
from lowprec.kernels.pack_pairs import ROOM, kept_rows, pack_rows
from lowprec.kernels.tile import FROM_ZERO
from lowprec.kernels.words import (
    add,
    at_address,
    atomic_add,
    call_9,
    copy_numbers,
    full_width,
    restore_float_mode,
    standard_float_mode,
)

SCALING = B_DATA + OPERAND_FIELDS


class Scaling(NamedTuple):
    """What is done to the sums: int64 numbers in this order. Addresses are of float32 numbers."""

    part: int  # groups that are packed together, whole blocks of k
    scaled: int  # 1: the result is float32
    row_scales: int
    column_scales: int
    biases: int


SIZE = SCALING + len(Scaling._fields)


@inline
def _scaling(s):
    i = SCALING
    return Scaling(s[i], s[i + 1], s[i + 2], s[i + 3], s[i + 4])


@inline
def _add(source, target, columns):
    """Add one row of words to another."""
    full_width()
    x = numba.carray(at_address(source), columns, np.uint32)
    y = numba.carray(at_address(target), columns, np.uint32)
    for i in range(columns):
        y[i] = add(x[i], y[i])


@inline
def _scale(s, source, target, row_scale, left, columns):
    """Turn one row of sums into float32 and scale it; each operation rounds once."""
    full_width()
    x = numba.carray(at_address(source), columns, np.int32)
    y = numba.carray(at_address(target), columns, np.float32)
    scales = numba.carray(at_address(s.column_scales + left * 4), columns, np.float32)
    biases = numba.carray(at_address(s.biases + left * 4), columns, np.float32)
    for i in range(columns):
        y[i] = np.float32(x[i]) * (row_scale * scales[i]) + biases[i]


@inline
def _finish(j, s, first, rows, left, columns, sums, width, fresh, last):
    """Take the sums of a part to C."""
    scales = numba.carray(at_address(s.row_scales + first * 4), rows, np.float32)
    for i in range(rows):
        source, target = sums + i * width * 4, j.c + (first + i) * j.row_bytes + left * 4
        if not fresh:
            _add(target, source, columns)
        if last and s.scaled == 1:
            _scale(s, source, target, scales[i], left, columns)
        else:
            copy_numbers(source, target, columns, np.float32(0))


@inline
def _row_piece(j, p, s, first, packed, sums, scratch):
    """Compute the rows from ``first`` of one piece, through all of k in ascending parts."""
    rows = min(j.row_block, j.m - first)
    width = j.tile_vectors * j.lanes
    padded = j.n // width * width + _tail_width(j, j.n % width)
    for begin in range(0, j.k, s.part):
        end = min(j.k, begin + s.part)
        pack_rows(p, first, rows, begin, end - begin, j.k_block, packed, scratch)
        for left in range(0, j.n, width):
            columns = min(width, j.n - left)
            across = _tail_width(j, columns)
            for first_k in range(begin, end, j.k_block):
                count = min(j.k_block, end - first_k)
                panel = j.packed_b + (first_k * padded + left * count) * j.item
                words = packed + (first_k - begin) * rows * p.pairs * ROOM
                flags = FROM_ZERO if first_k == begin else 0
                ahead = panel + j.k_block * padded * j.item
                call_9(
                    j.tile, words, panel, sums, across * 4, count * p.pairs, rows, across // j.lanes, flags, ahead
                )  # fmt: skip
            fresh = begin == 0 and j.from_zero == 1
            _finish(j, s, first, rows, left, columns, sums, across, fresh, end == j.k)


@inline
def _room_of(j, p, s):
    """Return how many bytes a thread needs: packed rows, sums, and scratch for packing rows or columns."""
    width = j.tile_vectors * j.lanes
    kept, columns, fours = s.part * p.pairs * 8, (j.panel_block + 1) * width, 2 * j.k_block
    own = max(2 * kept + 64, 8 * WORST + (8 * fours + columns) * 4 + columns * fours * 4)
    return j.row_block * (kept + width * 4) + own + 1024


@njit()
def sparse_dot_gemm(numbers):
    """Take part in one product until nothing is left to claim; k is at least 1, the counters start at 0."""
    found = standard_float_mode()
    _complete(numbers)
    j, s = _job(numbers), _scaling(numbers)
    p = kept_rows(j.a)
    room = np.empty(_room_of(j, p, s) + 64, np.uint8)
    sums = _aligned(room)
    packed = sums + j.row_block * j.tile_vectors * j.lanes * 4
    scratch = packed + j.row_block * s.part * p.pairs * 8 + 64
    _pack_pieces(j, numbers, scratch)
    pieces = (j.m + j.row_block - 1) // j.row_block
    while True:
        piece = atomic_add(numbers, ROWS, 1)
        if piece >= pieces:
            break
        _row_piece(j, p, s, piece * j.row_block, packed, sums, scratch)
    _keep(room)
    restore_float_mode(found)
