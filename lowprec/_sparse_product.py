"""Products of sparse rows in float32 and float64: blocking, threads, and the run of the kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lowprec import _jit, _threads
from lowprec._checks import Array
from lowprec._patterns import SparsityPattern, place_table
from lowprec._plan import Plan, address, kernels, lanes
from lowprec._room import PACKED
from lowprec.kernels import gemm, sparse_gemm, sparse_tile
from lowprec.kernels.convert import Operand
from lowprec.kernels.gemm import Job
from lowprec.kernels.sparse_gemm import Places

_PACKED_BYTES = 1 << 25  # room for packed B at most
_ALONE = 3_000_000  # multiply-adds up to which the calling thread works alone
_PANEL_BYTES = 24 << 10  # of a panel of B, which has to stay in the first-level cache beside a row of the result
_K_BLOCK = 64
_ROW_BLOCK = 256
_PANELS = 2


class SparseRows(NamedTuple):
    """A matrix of which every row keeps equally many numbers of each group of columns."""

    values: Array  # (M, kept numbers), adjacent along the rows
    k: int  # columns
    kept: int  # numbers of a group
    group: int  # columns of a group
    nibbles: Array | None = None  # (M, bytes), two groups to a byte
    pattern: SparsityPattern | None = None  # what the nibbles mean
    listed: Array | None = None  # (M, kept numbers) of int32: columns, ascending; at least K for those of none


class _Blocking(NamedTuple):
    """How a product is cut."""

    columns: int  # of a chunk whose packed B fits its room
    deep: int  # k of such a chunk
    k_block: int
    vectors: int  # of a panel
    tall: int  # rows of a piece
    packed: int  # bytes of packed B


def _up(number: int, unit: int) -> int:
    """Round up to a multiple."""
    return -(-number // unit) * unit


@lru_cache(maxsize=512)
def _blocking(m: int, n: int, k: int, group: int, workers: int, item: int) -> _Blocking:
    """Choose how a product is cut: panels of equal width, as wide as the cache and the registers allow."""
    shape = sparse_tile.SHAPES[lanes(), item]
    unit = group if group % 16 == 0 or group > 8 else 16
    k_block = _up(_K_BLOCK, unit)
    most = max(1, min(shape.vectors, _PANEL_BYTES // (k_block * shape.lanes * item)))
    count = -(-n // shape.lanes)
    vectors = -(-count // -(-count // most))
    width = vectors * shape.lanes
    deep = min(k, max(1, 8192 // k_block) * k_block)
    columns = min(n, max(1, _PACKED_BYTES // (deep * item * width)) * width)
    if columns >= n:
        fits = max(1, _PACKED_BYTES // (k_block * item * _up(n, width))) * k_block
        deep = min(k, max(deep, fits))
    tall = min(m, _ROW_BLOCK) if workers == 1 else min(_ROW_BLOCK, -(-m // (4 * workers)))
    return _Blocking(columns, deep, k_block, vectors, max(1, tall), deep * _up(columns, width) * item)


@lru_cache(maxsize=64)
def _table(pattern: SparsityPattern, line: int) -> Array:
    """Return for each byte of two codes how far into a panel the lines of both groups' kept numbers lie."""
    places = place_table(pattern).astype(np.int32)
    codes = np.arange(256)
    both = np.concatenate([places[codes & 15], places[codes >> 4] + pattern.group], axis=1)
    return np.ascontiguousarray(both * np.int32(line))


def multiply(a: SparseRows, b: Array, out: Array, plan: Plan, fresh: bool) -> None:
    """Write the product of sparse rows and a matrix (K, N) to sums (M, N), whose columns are adjacent.

    ``plan.a`` says how the rows' values are read. Unless ``fresh``, the sums start from what is there.
    """
    m, n = out.shape
    item = plan.dtype.itemsize
    shape = sparse_tile.SHAPES[lanes(), item]
    workers = 1 if m * n * a.values.shape[1] <= _ALONE else _threads.get_num_threads()
    cut = _blocking(m, n, a.k, a.group, workers, item)
    width = cut.vectors * shape.lanes
    packers = kernels(plan.a.kind, plan.b.kind, item)
    tile = _jit.address(sparse_tile.TILES[lanes(), item], sparse_tile.SIGNATURE)
    table = np.zeros(1, np.int32) if a.pattern is None else _table(a.pattern, width * item)
    at_a, at_b, at_c = address(a.values), address(b), address(out)
    packed = PACKED.borrow(cut.packed + 64)
    room = _up(address(packed), 64)
    for first in range(0, n, cut.columns):
        for begin in range(0, a.k, cut.deep):
            part, deep = min(cut.columns, n - first), min(cut.deep, a.k - begin)
            start = begin // a.group * a.kept
            job = Job(
                tile=tile,
                pack=packers.pack,
                a=0,
                b=0,
                c=at_c + first * item,
                packed_b=room,
                row_bytes=out.strides[0],
                m=m,
                n=part,
                k=deep,
                from_zero=int(fresh and begin == 0),
                final=int(begin + deep == a.k),
                tile_rows=sparse_gemm.CORNER_ROWS,
                lanes=shape.lanes,
                tile_vectors=cut.vectors,
                item=item,
                k_block=cut.k_block,
                row_block=cut.tall,
                panel_block=_PANELS,
                tail=width,
            )
            values = a.values
            left = Operand(
                at_a + start * values.itemsize,
                values.strides[0] // values.itemsize,
                1,
                values.itemsize,
                item,
                packers.convert_a,
                *plan.a.numbers,
            )
            right = Operand(
                at_b + begin * b.strides[0] + first * b.strides[1],
                b.strides[1] // b.itemsize,
                b.strides[0] // b.itemsize,
                b.itemsize,
                item,
                packers.convert_b,
                *plan.b.numbers,
            )
            places = Places(
                a.kept,
                a.group,
                0 if a.nibbles is None else address(a.nibbles) + begin // a.group // 2,
                0 if a.nibbles is None else a.nibbles.strides[0],
                address(table),
                0 if a.listed is None else address(a.listed) + 4 * start,
                0 if a.listed is None else a.listed.strides[0] // 4,
            )
            numbers = np.array((*job, *[0] * gemm.COUNTERS, *left, *right, *places), np.int64)
            _threads.share(lambda numbers=numbers: sparse_gemm.sparse_gemm(numbers), workers)  # type: ignore[misc]
    PACKED.give_back(packed)
