"""Products of sparse rows in float32 and float64: blocking, threads, and the run of the kernels."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from lowprec import _jit, _threads
from lowprec._checks import Array
from lowprec._patterns import SparsityPattern, place_table
from lowprec._plan import Plan, address, kernels, lanes
from lowprec._room import PACKED
from lowprec._sparse_rows import SparseRows
from lowprec.kernels import gemm, sparse_gemm, sparse_tile
from lowprec.kernels.convert import Operand
from lowprec.kernels.gemm import Job
from lowprec.kernels.sparse_gemm import Places
from lowprec.kernels.tile import Shape
from lowprec.kernels.transpose import transpose_into

_PACKED_BYTES = 1 << 25  # room for packed B at most
_ALONE = 3_000_000  # multiply-adds up to which the calling thread works alone
# Measured with 8 lanes. Panels of many vectors need few passes over the numbers kept, blocks of many k few passes over
# the result. Lines of an odd number of vectors spread over the sets of the first-level cache.
_PANEL_BYTES = 28 << 10  # of a panel of B, which has to stay in that cache
_K_BLOCK, _NARROW_K_BLOCK, _WIDE_LANES_K_BLOCK = 80, 128, 48
_NARROW = 8  # vectors that are one panel
_RESULT_BYTES = 192 << 10  # of the results that are summed at a time, which have to stay in the second-level cache
_ROW_BLOCK = 128
_FEW_COLUMNS = 3  # up to which each is multiplied by itself
_LONG, _SHORT = 1024, 32  # k and rows of a block then
_PANELS = 2
_FEW = 1 << 14  # numbers up to which NumPy transposes


class _Blocking(NamedTuple):
    """How a product is cut."""

    columns: int  # of a chunk whose packed B fits its room
    deep: int  # k of such a chunk
    k_block: int
    vectors: int  # of a panel
    lanes: int  # of a vector
    tall: int  # rows of a piece
    packed: int  # bytes of packed B
    chunk: int  # columns that are summed through all of k before the next


def _up(number: int, unit: int) -> int:
    """Round up to a multiple."""
    return -(-number // unit) * unit


def _shape(n: int, item: int) -> Shape:
    """Return the micro-kernel's shape."""
    return sparse_tile.COLUMN if n <= _FEW_COLUMNS else sparse_tile.SHAPES[lanes(), item]


@lru_cache(maxsize=512)
def _blocking(m: int, n: int, k: int, group: int, workers: int, item: int) -> _Blocking:
    """Choose how a product is cut: panels of equal width, as wide as the cache and the registers allow."""
    shape = _shape(n, item)
    unit = group if group % 16 == 0 or group > 8 else 16
    few = shape is sparse_tile.COLUMN
    count = -(-n // shape.lanes)
    narrow = count <= min(_NARROW, shape.vectors) and shape.lanes <= 8
    k_block = _NARROW_K_BLOCK if narrow else _K_BLOCK if shape.lanes <= 8 else _WIDE_LANES_K_BLOCK
    k_block = max(1, (2 * (_LONG if few else k_block) + unit) // (2 * unit)) * unit  # to the nearest
    most = count if narrow else max(1, min(shape.vectors, _PANEL_BYTES // (k_block * shape.lanes * item)))
    most -= not narrow and most > 1 and most % 2 == 0
    vectors = -(-count // -(-count // most))
    vectors += not narrow and vectors % 2 == 0 and vectors < most
    width = vectors * shape.lanes
    deep = min(k, max(1, 8192 // k_block) * k_block)
    columns = min(n, max(1, _PACKED_BYTES // (deep * item * width)) * width)
    if columns >= n:
        fits = max(1, _PACKED_BYTES // (k_block * item * _up(n, width))) * k_block
        deep = min(k, max(deep, fits))
    most_rows = _SHORT if few else _ROW_BLOCK
    tall = min(m, most_rows) if workers == 1 else min(most_rows, -(-m // (4 * workers)))
    tall = max(1, tall)
    chunk = max(1, _RESULT_BYTES // (tall * width * item)) * width
    return _Blocking(columns, deep, k_block, vectors, shape.lanes, tall, deep * _up(columns, width) * item, chunk)


@cache  # for ever: jobs know its address
def _table(pattern: SparsityPattern, line: int) -> Array:
    """Return for each byte of two codes how far into a panel the lines of both groups' kept numbers lie."""
    places = place_table(pattern).astype(np.int32)
    codes = np.arange(256)
    both = np.concatenate([places[codes & 15], places[codes >> 4] + pattern.group], axis=1)
    return np.ascontiguousarray(both * np.int32(line))


@lru_cache(maxsize=512)
def _template(
    plan: Plan,
    shape: tuple[int, int, int],
    steps: tuple[int, ...],
    sizes: tuple[int, int],
    groups: tuple[int, int],
    table: int,
    cut: _Blocking,
    from_zero: bool,
    final: bool,
) -> Array:
    """Return a job's numbers but for the addresses of a, b, c, packed B and the places.

    ``steps`` are the bytes from row to row of a, of b, from column to column of b, from row to row of c, and from row
    to row of the nibbles and of the list.
    """
    item, (m, n, k) = plan.dtype.itemsize, shape
    packers = kernels(plan.a.kind, plan.b.kind, item)
    which = sparse_tile.TILES[lanes(), item] if cut.lanes > 1 else sparse_tile.column_tile(lanes(), item)
    job = Job(
        tile=_jit.address(which, sparse_tile.SIGNATURE),
        pack=packers.pack,
        a=0,
        b=0,
        c=0,
        packed_b=0,
        row_bytes=steps[3],
        m=m,
        n=n,
        k=k,
        from_zero=int(from_zero),
        final=int(final),
        tile_rows=sparse_gemm.CORNER_ROWS,
        lanes=cut.lanes,
        tile_vectors=cut.vectors,
        item=item,
        k_block=cut.k_block,
        row_block=cut.tall,
        panel_block=_PANELS,
        tail=cut.vectors * cut.lanes,
    )
    left = Operand(0, steps[0] // sizes[0], 1, sizes[0], item, packers.convert_a, *plan.a.numbers)
    right = Operand(0, steps[2] // sizes[1], steps[1] // sizes[1], sizes[1], item, packers.convert_b, *plan.b.numbers)
    places = Places(*groups, 0, steps[4], table, 0, steps[5] // 4, cut.chunk)
    return np.array((*job, *[0] * gemm.COUNTERS, *left, *right, *places), np.int64)


_NIBBLES, _LISTED = (sparse_gemm.PLACES + Places._fields.index(name) for name in ("nibbles", "listed"))


def multiply(a: SparseRows, b: Array, out: Array, plan: Plan, fresh: bool) -> None:
    """Write the product of sparse rows and a matrix (K, N) to sums (M, N), whose columns are adjacent.

    ``plan.a`` says how the rows' values are read. Unless ``fresh``, the sums start from what is there.
    """
    m, n = out.shape
    item = plan.dtype.itemsize
    if n <= _FEW_COLUMNS:  # the packer's other way writes whole vectors
        b = np.ascontiguousarray(b.T).T
    workers = 1 if m * n * a.values.shape[1] <= _ALONE else _threads.get_num_threads()
    cut = _blocking(m, n, a.k, a.group, workers, item)
    table = None if a.pattern is None else _table(a.pattern, cut.vectors * cut.lanes * item)
    at_a, at_b, at_c = address(a.values), address(b), address(out)
    at_nibbles = 0 if a.nibbles is None else address(a.nibbles)
    at_list = 0 if a.listed is None else address(a.listed)
    steps = (
        a.values.strides[0],
        *b.strides,
        out.strides[0],
        0 if a.nibbles is None else a.nibbles.strides[0],
        0 if a.listed is None else a.listed.strides[0],
    )
    sizes, groups = (a.values.itemsize, b.itemsize), (a.kept, a.group)
    at_table = 0 if table is None else address(table)
    packed = PACKED.borrow(cut.packed + 64)
    for first in range(0, n, cut.columns):
        for begin in range(0, a.k, cut.deep):
            shape = m, min(cut.columns, n - first), min(cut.deep, a.k - begin)
            whole, start = begin + shape[2] == a.k, begin // a.group * a.kept
            numbers = _template(plan, shape, steps, sizes, groups, at_table, cut, fresh and begin == 0, whole).copy()
            numbers[gemm.A_DATA] = at_a + start * sizes[0]
            numbers[gemm.B_DATA] = at_b + begin * steps[1] + first * steps[2]
            numbers[gemm.C] = at_c + first * item
            numbers[gemm.PACKED_B] = _up(address(packed), 64)
            numbers[_NIBBLES] = at_nibbles and at_nibbles + begin // a.group // 2
            numbers[_LISTED] = at_list and at_list + 4 * start
            _threads.share(lambda numbers=numbers: sparse_gemm.sparse_gemm(numbers), workers)  # type: ignore[misc]
    PACKED.give_back(packed)


def transpose(source: Array, target: Array) -> None:
    """Write a matrix to another one of float32 or float64, transposed."""
    if source.size <= _FEW or not target.flags.c_contiguous:
        target[...] = source.T
        return
    pieces = _threads.Pieces(-(-source.shape[0] // _ROW_BLOCK))

    def task() -> None:
        for piece in pieces:
            transpose_into(source, target, piece * _ROW_BLOCK, min(source.shape[0], (piece + 1) * _ROW_BLOCK))

    _threads.share(task, min(_threads.get_num_threads(), -(-source.shape[0] // _ROW_BLOCK)))
