"""Products whose sum is not the CPU's own: blocks of rounded operands, threads, and the run of a model's evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lowprec import _integer_sums, _native, _threads
from lowprec._checks import Array
from lowprec._evaluation import Kernel, Place, Scales, evaluation
from lowprec._models import nan_bits, wide_integers
from lowprec._plan import Plan, Side
from lowprec.codec import round_to
from lowprec.formats import FloatFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.kernels import strip
from lowprec.rounding import Subnormals

_ROOM = 1 << 22  # rounded elements of an operand at a time
_PIECE = 1 << 21  # multiply-adds of a piece of work
_PIECE_ROWS = 32
_PIECE_COLUMNS = 2 * strip.COLUMNS
_ALONE = 200_000  # multiply-adds up to which the calling thread works alone


class Layout:
    """Where a result's elements lie in the whole that random words are counted in."""

    def __init__(self, first: int = 0, row: int | None = None, matrix: int | None = None) -> None:
        self.first, self.row, self.matrix = first, row, matrix


def values(x: Array, side: Side, plan: Plan) -> Array:
    """Return numbers of an operand, rounded to its format, in the dtype that the kernels take."""
    if plan.integer:
        if x.dtype.kind not in "iub":
            x = x.astype(np.int32)
        wide = wide_integers(plan.model, (plan.a.fmt, plan.b.fmt))  # type: ignore[arg-type]
        return np.ascontiguousarray(x, np.int64 if wide else np.int32)
    dtype = np.dtype(f"f{plan.item}")
    stored = stored_format(x.dtype)
    if x.dtype.itemsize == 2 and plan.raw and stored == resolve("bfloat16") == side.fmt:
        return np.left_shift(np.ascontiguousarray(x).view(np.uint16), 16, dtype=np.uint32).view(np.float32)
    own = isinstance(stored, FloatFormat) and stored == side.fmt
    if own and (plan.modes.subnormals is Subnormals.KEEP or plan.raw):
        return np.ascontiguousarray(x, dtype)
    if x.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        x = x.astype(np.float32)
    modes = plan.modes
    # A stochastic operand has been rounded before; toward zero leaves it as it is.
    rounding = "toward_zero" if str(modes.rounding) == "stochastic" else modes.rounding
    rounded = round_to(x, side.fmt, rounding=rounding, overflow=modes.overflow, subnormals=modes.subnormals)
    return np.ascontiguousarray(rounded, dtype)


def multiply(
    a: Array,
    b: Array,
    out: Array,
    plan: Plan,
    start: Array | None,
    seed: int = 0,
    layout: Layout | None = None,
    scales: tuple[Array, Array] | None = None,
) -> None:
    """Write the product of stacks of matrices, summed as the plan's model says."""
    if _integer_sums.multiply(a, b, out, plan, start) or _native.multiply(a, b, out, plan, start):
        return
    out[...] = 0 if start is None else start
    layout = layout or Layout()
    m, n = out.shape[-2:]
    row = n if layout.row is None else layout.row
    matrix = m * row if layout.matrix is None else layout.matrix
    batch = out.shape[:-2]
    if out.size and a.shape[-1]:
        a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
        b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
        for number, index in enumerate(np.ndindex(batch)):
            place = Place(0, layout.first + number * matrix, row, seed)
            parts = None if scales is None else (scales[0][index], scales[1][index])
            _one(a[index], b[index], out[index], plan, place, parts)
    finish(out, plan)


def finish(out: Array, plan: Plan) -> None:
    """Give every NaN the bits that the model gives it."""
    if out.dtype.kind != "f" or plan.raw:
        return
    found = np.isnan(out)
    if found.any():
        bits = nan_bits(plan.model)  # type: ignore[arg-type]
        out[found] = np.float64(np.nan) if out.itemsize == 8 else np.uint32(bits or 0).view(np.float32)


def _one(a: Array, b: Array, out: Array, plan: Plan, place: Place, scales: tuple[Array, Array] | None) -> None:
    """Write one product, a block of rounded operands at a time."""
    (m, k), n = a.shape, b.shape[1]
    rows, columns = max(1, _ROOM // k), max(strip.COLUMNS, _ROOM // k)
    for left in range(0, n, columns):
        right = values(b[:, left : left + columns], plan.b, plan)
        for top in range(0, m, rows):
            x = values(a[top : top + rows], plan.a, plan)
            c = out[top : top + rows, left : left + columns]
            part = None
            if scales is not None:
                across = np.ascontiguousarray(scales[1][:, left : left + columns])
                part = Scales(np.ascontiguousarray(scales[0][top : top + rows]), across)
            _share(x, right, c, plan, place.moved(top, left), part)


def _pieces(m: int, n: int, k: int, least: int) -> Iterator[tuple[slice, slice]]:
    """Cut a block of the result into pieces of at least so many rows, but no fewer than four."""
    wide = _PIECE_COLUMNS if n > _PIECE_COLUMNS else max(1, n)
    tall = min(m, max(least, _PIECE // (wide * k)), max(8, -(-m // 4)))
    for left in range(0, n, wide):
        for top in range(0, m, tall):
            yield slice(top, min(m, top + tall)), slice(left, min(n, left + wide))


def _share(a: Array, b: Array, c: Array, plan: Plan, place: Place, scales: Scales | None) -> None:
    """Run the pieces of a block on the threads."""
    run = evaluation(plan.model, (plan.a.fmt, plan.b.fmt), plan.item)
    # Sums of several parts are put together in Python, which pays for larger pieces only.
    least = _PIECE_ROWS if isinstance(run, Kernel) else 8 * _PIECE_ROWS
    pieces = list(_pieces(c.shape[0], c.shape[1], a.shape[1], least))
    claimed = _threads.Pieces(len(pieces))
    target = c
    wanted = np.int64 if plan.integer else a.dtype
    if c.dtype != wanted or c.strides[1] != c.itemsize:
        target = c.astype(wanted)

    def task() -> None:
        for number in claimed:
            rows, columns = pieces[number]
            part = None
            if scales is not None:
                part = Scales(scales.a[rows], scales.b[:, columns])
            run.run(a[rows], b[:, columns], target[rows, columns], place.moved(rows.start, columns.start), part)

    alone = c.size * a.shape[1] <= _ALONE
    _threads.share(task, 1 if alone else min(len(pieces), _threads.get_num_threads()))
    if target is not c:
        c[...] = target


def sum_rows(a: Array, b: Array, shape: tuple[int, ...], plan: Plan, start: Array | None, seed: int = 0) -> Array:
    """Return the sums of products along the last axis, leading axes broadcast to ``shape``."""
    checked = _integer_sums.sum_rows(a, b, shape, plan, start)
    if checked is not None:
        return checked
    dtype = np.dtype(np.int64) if plan.integer else np.dtype(f"f{plan.item}")
    total = np.zeros(shape, dtype)
    if start is not None:
        total[...] = start
    k = a.shape[-1]
    flat = total.reshape(-1, 1)
    if k and flat.size:
        run = evaluation(plan.model, (plan.a.fmt, plan.b.fmt), plan.item)
        sides = [np.broadcast_to(x, (*shape, k)) for x in (a, b)]
        step = max(1, _ROOM // k)
        for first in range(0, flat.shape[0], step):
            last = min(flat.shape[0], first + step)
            where = np.unravel_index(np.arange(first, last), shape) if shape else ()
            x, y = (
                values(np.ascontiguousarray(side[where]).reshape(-1, k), kind, plan)
                for side, kind in zip(sides, (plan.a, plan.b), strict=True)
            )
            _rows(run, x, y, flat[first:last], Place(0, first, 1, seed))
    finish(total, plan)
    return total


def _rows(run: Any, a: Array, b: Array, c: Array, place: Place) -> None:
    """Run an evaluation for every pair of rows."""
    count, k = a.shape
    step = max(1, _PIECE // (4 * k))
    claimed = _threads.Pieces(-(-count // step))

    def task() -> None:
        for number in claimed:
            rows = slice(number * step, min(count, (number + 1) * step))
            if isinstance(run, Kernel):
                first = rows.start
                job = run.job(
                    a[first : first + 1], b[first].reshape(k, 1), c[first : first + 1], place.moved(first, 0), None
                )
                strides = (a.strides[0], b.strides[0], c.strides[0])
                strip.many(run.address, job, rows.stop - first, *strides, 1)
                continue
            for i in range(rows.start, rows.stop):
                run.run(a[i : i + 1], b[i].reshape(k, 1), c[i : i + 1], place.moved(i, 0))

    alone = count * k <= _ALONE
    _threads.share(task, 1 if alone else min(-(-count // step), _threads.get_num_threads()))
