"""Products of prepared operands: chooses blocking and threads, builds the kernels' jobs, and runs them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from lowprec import _threads
from lowprec._checks import Array
from lowprec._plan import Kernels, Plan, Side, address
from lowprec._room import PACKED
from lowprec.codec import round_to
from lowprec.kernels import gemm, mixed, rows
from lowprec.kernels.convert import Operand
from lowprec.kernels.gemm import Job

_PACKED_BYTES = 1 << 25  # room for packed B at most
_ALONE = 6_000_000  # multiply-adds up to which the calling thread works alone
_SMALL = 4_000_000  # multiply-adds up to which the products of a batch are shared out whole
_FLOAT32 = np.dtype(np.float32)
_ROW_BLOCK = 256
_PANELS = 4
_ROWS_AT_ONCE = 1 << 22  # elements of an operand of `sum_rows` at a time
_CANONICAL = {4: np.float32(np.nan), 8: np.float64(np.nan)}


def multiply(a: Array, b: Array, out: Array, plan: Plan, start: Array | None) -> None:
    """Write the product of stacks of matrices, as the plan's packers see them, to a C-contiguous array of sums."""
    k = a.shape[-1]
    if out.size == 0:
        return
    if start is not None and start is not out:
        out[...] = start
    if k == 0:
        if start is None:
            out[...] = 0
        else:
            out[np.isnan(out)] = np.nan
        return
    if plan.mixed:
        _multiply_mixed(a, b, out, plan, start is None)
        return
    if out.ndim == 2:
        _multiply_one(a, b, out, plan, start is None)
        return
    if b.ndim == 2 and a.flags.c_contiguous:  # one matrix for all: the batch is rows
        _multiply_one(a.reshape(-1, k), b, out.reshape(-1, out.shape[-1]), plan, start is None)
        return
    batch = out.shape[:-2]
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    if math.prod(out.shape[-2:]) * k <= _SMALL:
        _multiply_many(a, b, out, plan, start is None)
        return
    for index in np.ndindex(batch):
        _multiply_one(a[index], b[index], out[index], plan, start is None)


def _up(number: int, unit: int) -> int:
    """Round up to a multiple."""
    return -(-number // unit) * unit


@lru_cache(maxsize=512)
def _blocking(m: int, n: int, k: int, workers: int, chosen: Kernels, item: int) -> tuple[int, int, int, int]:
    """Return columns and k of a chunk whose packed B fits its room, rows of a piece, and bytes of packed B."""
    shape = chosen.shape
    unit = chosen.k_block
    count = min(k, max(1, 8192 // unit) * unit)
    columns = min(n, max(1, _PACKED_BYTES // (count * item * shape.columns)) * shape.columns)
    if columns >= n:
        fits = max(1, _PACKED_BYTES // (unit * item * _up(n, shape.lanes))) * unit
        count = min(k, max(count, fits))
    tall = min(m, _ROW_BLOCK) if workers == 1 else min(_ROW_BLOCK, -(-m // (4 * workers)))
    return columns, count, _up(max(1, tall), shape.rows), count * _up(columns, shape.lanes) * item


@lru_cache(maxsize=1024)
def _template(
    plan: Plan,
    m: int,
    n: int,
    k: int,
    strides: tuple[int, ...],
    sizes: tuple[int, int],
    tall: int,
    from_zero: bool,
    final: bool,
) -> Array:
    """Return a job's numbers but for the addresses of a, b, c and packed B; ``strides`` are a's, b's and c's row's."""
    chosen, item = plan.kernels, plan.dtype.itemsize
    shape = chosen.shape
    job = Job(
        tile=chosen.tile,
        pack=chosen.pack,
        a=0,
        b=0,
        c=0,
        packed_b=0,
        row_bytes=strides[4],
        m=m,
        n=n,
        k=k,
        from_zero=int(from_zero),
        final=int(final),
        tile_rows=shape.rows,
        lanes=shape.lanes,
        tile_vectors=shape.vectors,
        item=item,
        k_block=chosen.k_block,
        row_block=tall,
        panel_block=_PANELS,
        tail=shape.lanes,
    )
    left = Operand(0, strides[0] // sizes[0], strides[1] // sizes[0], sizes[0], item, chosen.convert_a, *plan.a.numbers)
    right = Operand(
        0, strides[3] // sizes[1], strides[2] // sizes[1], sizes[1], item, chosen.convert_b, *plan.b.numbers
    )
    return np.array((*job, *[0] * gemm.COUNTERS, *left, *right), np.int64)


def _plain(x: Array) -> bool:
    """Say whether `gemm_float32` takes an array, which it is compiled for this kind of array only."""
    return x.dtype is _FLOAT32 and x.flags.carray


def _multiply_one(a: Array, b: Array, out: Array, plan: Plan, fresh: bool) -> None:
    """Write one product, all threads on it if it is large."""
    m, k = a.shape
    n = b.shape[1]
    workers = 1 if m * n * k <= _ALONE else _threads.get_num_threads()
    columns, count, tall, packed_bytes = _blocking(m, n, k, workers, plan.kernels, plan.dtype.itemsize)
    strides, sizes = (*a.strides, *b.strides, out.strides[0]), (a.itemsize, b.itemsize)
    if workers == 1 and columns >= n and count >= k:
        numbers = _template(plan, m, n, k, strides, sizes, tall, fresh, True).copy()
        if _plain(a) and _plain(b) and _plain(out):
            gemm.gemm_float32(numbers, packed_bytes, a, b, out)
        else:
            numbers[gemm.A_DATA], numbers[gemm.B_DATA], numbers[gemm.C] = address(a), address(b), address(out)
            gemm.gemm_alone(numbers, packed_bytes)
        return
    at_a, at_b, at_c = address(a), address(b), address(out)
    packed = PACKED.borrow(packed_bytes + 64)
    room = (address(packed) + 63) // 64 * 64
    for first in range(0, n, columns):
        for begin in range(0, k, count):
            part, deep = min(columns, n - first), min(count, k - begin)
            last = begin + deep == k
            numbers = _template(plan, m, part, deep, strides, sizes, tall, fresh and begin == 0, last).copy()
            numbers[gemm.A_DATA] = at_a + begin * strides[1]
            numbers[gemm.B_DATA] = at_b + begin * strides[2] + first * strides[3]
            numbers[gemm.C] = at_c + first * plan.dtype.itemsize
            numbers[gemm.PACKED_B] = room
            _threads.share(lambda numbers=numbers: gemm.gemm(numbers), workers)  # type: ignore[misc]
    PACKED.give_back(packed)


def _multiply_many(a: Array, b: Array, out: Array, plan: Plan, fresh: bool) -> None:
    """Write the products of a batch of small matrices, each done by one thread."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    count, shape = math.prod(out.shape[:-2]), plan.kernels.shape
    strides, sizes = (*a.strides[-2:], *b.strides[-2:], out.strides[-2]), (a.itemsize, b.itemsize)
    template = _template(plan, m, n, k, strides, sizes, _up(min(m, _ROW_BLOCK), shape.rows), fresh, True)
    jobs = np.tile(template, (count, 1))
    for place, x in ((gemm.A_DATA, a), (gemm.B_DATA, b), (gemm.C, out)):
        jobs[:, place] = address(x) + _offsets(x)
    claimed = np.zeros(1, np.int64)
    size = k * _up(n, shape.lanes) * plan.dtype.itemsize
    workers = 1 if count * m * n * k <= _ALONE else min(count, _threads.get_num_threads())
    _threads.share(lambda: gemm.gemm_many(jobs, claimed, size), workers)


def _offsets(x: Array) -> Array:
    """Return the byte offset of every matrix of a stack, in C order."""
    total = np.zeros((), np.int64)
    for length, step in zip(x.shape[:-2], x.strides[:-2], strict=True):
        total = np.add.outer(total, np.arange(length) * step)
    return total.reshape(-1)


def _whole(x: Array, side: Side, plan: Plan) -> Array:
    """Return an operand as rounded float64 values."""
    modes = plan.modes
    # A stochastic operand has been rounded before; toward zero leaves it as it is.
    rounding = "toward_zero" if str(modes.rounding) == "stochastic" else modes.rounding
    values = round_to(x, side.fmt, rounding=rounding, overflow=modes.overflow, subnormals=modes.subnormals)
    return np.ascontiguousarray(values, np.float64)


def _multiply_mixed(a: Array, b: Array, out: Array, plan: Plan, fresh: bool) -> None:
    """Write products of float64 operands summed in binary32."""
    if fresh:
        out[...] = 0
    batch = out.shape[:-2]
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    for index in np.ndindex(batch):
        x, y, z = _whole(a[index], plan.a, plan), _whole(b[index].T, plan.b, plan), out[index]
        pieces = _threads.Pieces(-(-z.shape[0] // 8))

        def task(x: Array = x, y: Array = y, z: Array = z, pieces: _threads.Pieces = pieces) -> None:
            for piece in pieces:
                mixed.dot_rows(x, y, z, 8 * piece, min(z.shape[0], 8 * piece + 8))

        _threads.share(task, min(_threads.get_num_threads(), max(1, z.size * x.shape[1] // 100_000)))


def sum_rows(a: Array, b: Array, shape: tuple[int, ...], plan: Plan, start: Array | None) -> Array:
    """Return the sums of products along the last axis, leading axes broadcast to ``shape``."""
    total = np.zeros(shape, plan.dtype)
    if start is not None:
        total[...] = start
    length = a.shape[-1]
    if length == 0:
        total[np.isnan(total)] = np.nan
        return total
    dtype = np.dtype(np.float64) if plan.mixed else plan.dtype
    kernel = rows.vecdot_mixed if plan.mixed else rows.vecdot_rows
    sides = [
        np.broadcast_to(_whole(x, side, plan).astype(dtype, copy=False), (*shape, length))
        for x, side in ((a, plan.a), (b, plan.b))
    ]
    flat = total.reshape(-1)
    step = max(16, _ROWS_AT_ONCE // length // 16 * 16)
    pieces = _threads.Pieces(-(-flat.size // step))

    def task() -> None:
        for piece in pieces:
            part = slice(piece * step, min(flat.size, (piece + 1) * step))
            where = np.unravel_index(np.arange(part.start, part.stop), shape) if shape else ()
            x, y = (np.ascontiguousarray(side[where]).reshape(-1, length) for side in sides)
            kernel(x, y, flat[part], _CANONICAL[plan.dtype.itemsize])

    _threads.share(task, min(_threads.get_num_threads(), -(-flat.size // step)))
    return total.reshape(shape)
