"""Sparse rows times a dense matrix: blocking and sharing as in `lowprec.kernels.gemm`, around the sparse micro-kernel.

A job is that of `gemm`, whose A are the kept numbers, row by row, and whose k counts the rows of B. After the operands
follow the numbers of `Places`, which say where in a row the kept numbers stand. A block of k is a whole number of
groups, so every row keeps equally many numbers of it; those beyond the end of k, in the last block, are left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.convert import FIELDS as OPERAND_FIELDS
from lowprec.kernels.convert import NEAREST
from lowprec.kernels.gemm import (
    B_DATA,
    ROWS,
    _aligned,
    _complete,
    _copy,
    _job,
    _keep,
    _pack_pieces,
    _room,
)
from lowprec.kernels.pack import WORST, _beyond, _operand
from lowprec.kernels.tile import FROM_ZERO, LAST
from lowprec.kernels.words import (
    add_to_four,
    at_address,
    atomic_add,
    call_6,
    call_9,
    full_width,
    restore_float_mode,
    standard_float_mode,
)

PLACES = B_DATA + OPERAND_FIELDS
CORNER_ROWS = 8  # of a tile that is not a whole number of vectors wide: a job's tile_rows


class Places(NamedTuple):
    """Where the kept numbers stand: int64 numbers in this order."""

    kept: int  # numbers kept of each group
    group: int
    nibbles: int  # address of the codes, two groups to a byte; 0 if there is a list
    nibble_step: int  # bytes from a row to the next
    table: int  # address of 256 lists of 2 * kept 32-bit words: bytes of a panel up to each number of two groups
    listed: int  # address of a list of 32-bit k, ascending in a row; those of no number are at least K
    listed_step: int  # 32-bit words from a row to the next
    chunk: int  # columns whose results stay in the second-level cache, a multiple of a panel's


SIZE = PLACES + len(Places._fields)


@inline
def _places(numbers):
    p = numbers
    return Places(
        p[PLACES], p[PLACES + 1], p[PLACES + 2], p[PLACES + 3], p[PLACES + 4], p[PLACES + 5], p[PLACES + 6],
        p[PLACES + 7],
    )  # fmt: skip


@inline
def _from_nibbles(p, row, first_group, groups, line, target):
    """Write how many bytes into a panel the line of each kept number of a run of groups lies."""
    full_width()
    source = numba.carray(at_address(p.nibbles + row * p.nibble_step + first_group // 2), (groups + 1) // 2, np.uint8)
    step = 2 * p.kept
    table = numba.carray(at_address(p.table), 256 * step, np.int32)
    out = numba.carray(at_address(target), groups * p.kept, np.int32)
    span = 2 * p.group * line
    if p.kept == 2:
        for i in range(groups // 2):
            add_to_four(p.table + 16 * np.int64(source[i]), target + 16 * i, np.int32(i * span))
    else:
        for i in range(groups // 2):
            at, base = step * np.int64(source[i]), np.int32(i * span)
            for t in range(step):
                out[step * i + t] = table[at + t] + base
    if groups % 2 == 1:
        i = groups // 2
        for t in range(p.kept):
            out[step * i + t] = table[step * np.int64(source[i]) + t] + np.int32(i * span)


@inline
def _from_list(p, row, first, count, first_k, line, target):
    """Write the same of places that are listed."""
    source = numba.carray(at_address(p.listed + 4 * (row * p.listed_step + first)), count, np.int32)
    out = numba.carray(at_address(target), count, np.int32)
    for i in range(count):
        out[i] = (source[i] - np.int32(first_k)) * np.int32(line)


@inline
def _pack_rows(j, p, first, rows, first_k, count, line, packed, scratch):
    """Write numbers and places of the rows of a block of k."""
    o = _operand(j.a)
    start, kept = first_k // p.group * p.kept, (count + p.group - 1) // p.group * p.kept
    length = kept * (j.item + 4)
    # Converters are slow at the last numbers of an odd count: some of the next block's stand where the places will be.
    whole = min((kept + 31) // 32 * 32, (j.k + p.group - 1) // p.group * p.kept - start)
    worst = numba.carray(at_address(scratch), WORST, np.uint64)
    for i in range(WORST):
        worst[i] = 0
    how = o.how
    while True:
        for i in range(rows):
            source = o.data + ((first + i) * o.row_step + start) * o.item
            call_6(o.convert, j.a, source, whole, packed + i * length, scratch, how)
        if how != NEAREST or not _beyond(scratch, o.item, o.limit):
            break
        how = 0  # the short way met a magnitude that it is not right for
    for i in range(rows):
        target = packed + i * length + kept * j.item
        if p.nibbles != 0:
            _from_nibbles(p, first + i, first_k // p.group, kept // p.kept, line, target)
        else:
            _from_list(p, first + i, start, kept, first_k, line, target)


@inline
def _cut_row(packed, kept, item, limit):
    """Leave out the numbers of a row whose places are beyond its end, the last ones; return how many stay."""
    words = numba.carray(at_address(packed + kept * item), kept, np.int32)
    left = kept
    while left > 0 and words[left - 1] >= limit:
        left -= 1
    if left < kept:  # the places follow the numbers
        _copy(packed + kept * item, 0, packed + left * item, 0, 1, left, 4)
    return left


@inline
def _tiles(j, packed, rows, kept, panel, c, columns, vectors, flags, corner, ahead):
    """Multiply packed rows by a panel."""
    if columns == vectors * j.lanes:
        call_9(j.tile, packed, panel, c, j.row_bytes, kept, rows, vectors, flags, ahead)
        return
    step = vectors * j.lanes * j.item
    for top in range(0, rows, CORNER_ROWS):
        height = min(CORNER_ROWS, rows - top)
        place = c + top * j.row_bytes
        if flags & FROM_ZERO == 0:
            _copy(place, j.row_bytes, corner, step, height, columns, j.item)
        source = packed + top * kept * (j.item + 4)
        call_9(j.tile, source, panel, corner, step, kept, height, vectors, flags, ahead)
        _copy(corner, step, place, j.row_bytes, height, columns, j.item)


@inline
def _kept_of(p, count):
    """Return how many numbers a row keeps of a block of k."""
    return (count + p.group - 1) // p.group * p.kept


@inline
def _pack_piece(j, p, first, rows, packed, stay, scratch):
    """Pack all of the rows of a piece, a block of k after the other, and write down how much of the last one stays."""
    line = j.tile_vectors * j.lanes * j.item
    for first_k in range(0, j.k, j.k_block):
        count = min(j.k_block, j.k - first_k)
        kept = _kept_of(p, count)
        at = packed + rows * _kept_of(p, first_k) * (j.item + 4)
        _pack_rows(j, p, first, rows, first_k, count, line, at, scratch)
        if first_k + count == j.k and count % p.group != 0:
            numbers = numba.carray(at_address(stay), rows, np.int64)
            for i in range(rows):
                numbers[i] = _cut_row(at + i * kept * (j.item + 4), kept, j.item, count * line)


@inline
def _row_piece(j, p, first, packed, corner, stay, scratch):
    """Compute the rows from ``first`` of one piece: some columns at a time, through all of k in ascending blocks."""
    rows = min(j.row_block, j.m - first)
    _pack_piece(j, p, first, rows, packed, stay, scratch)
    width = j.tile_vectors * j.lanes
    padded = (j.n + width - 1) // width * width
    numbers = numba.carray(at_address(stay), rows, np.int64)
    for begin in range(0, j.n, p.chunk):
        end = min(j.n, begin + p.chunk)
        for first_k in range(0, j.k, j.k_block):
            count = min(j.k_block, j.k - first_k)
            kept = _kept_of(p, count)
            strip = packed + rows * _kept_of(p, first_k) * (j.item + 4)
            flags = (FROM_ZERO if first_k == 0 and j.from_zero == 1 else 0) | (
                LAST if first_k + count == j.k and j.final == 1 else 0
            )
            ragged = count % p.group != 0
            for left in range(begin, end, width):
                columns = min(width, end - left)
                vectors = (columns + j.lanes - 1) // j.lanes
                panel = j.packed_b + (first_k * padded + left * count) * j.item
                ahead = panel + count * width * j.item
                if left + width >= end:  # the next panel is one of the next block
                    following = first_k + count
                    ahead = j.packed_b + (following * padded + begin * min(j.k_block, j.k - following)) * j.item
                c = j.c + first * j.row_bytes + left * j.item
                if not ragged:
                    _tiles(j, strip, rows, kept, panel, c, columns, vectors, flags, corner, ahead)
                    continue
                for i in range(rows):
                    row, place = strip + i * kept * (j.item + 4), c + i * j.row_bytes
                    _tiles(j, row, 1, numbers[i], panel, place, columns, vectors, flags, corner, ahead)


@inline
def _packed_size(j, p):
    """Return the bytes of a piece's packed rows, and some beyond for what converters write there."""
    return j.row_block * _kept_of(p, j.k) * (j.item + 4) // 64 * 64 + 512


@inline
def _take_part(j, p, numbers, room):
    """Claim and do pieces of a product until none is left; ``room`` is the address of this thread's own memory."""
    corner = room + _packed_size(j, p)
    stay = corner + j.tile_rows * j.tile_vectors * j.lanes * j.item
    scratch = stay + 8 * j.row_block
    _pack_pieces(j, numbers, scratch)
    pieces = (j.m + j.row_block - 1) // j.row_block
    while True:
        piece = atomic_add(numbers, ROWS, 1)
        if piece >= pieces:
            break
        _row_piece(j, p, piece * j.row_block, room, corner, stay, scratch)


@njit()
def sparse_gemm(numbers):
    """Take part in one product until nothing is left to claim; k is at least 1, the counters start at 0."""
    found = standard_float_mode()
    _complete(numbers)
    j, p = _job(numbers), _places(numbers)
    room = np.empty(_packed_size(j, p) + 8 * j.row_block + _room(j) + 64, np.uint8)
    _take_part(j, p, numbers, _aligned(room))
    _keep(room)
    restore_float_mode(found)
