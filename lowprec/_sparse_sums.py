"""Sums over what is kept of sparse rows, whatever their model: rows of B gathered, and multiplied as if dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _product, _threads
from lowprec._checks import Array
from lowprec._evaluation import Place, evaluation
from lowprec._plan import Plan
from lowprec._sparse_rows import SparseRows, columns_kept
from lowprec._sums import finish, values

_ROOM = 1 << 22  # rounded elements of an operand at a time
_COLUMNS = 256  # gathered at a time
_ALONE = 100_000  # multiply-adds up to which the calling thread works alone


def multiply(a: SparseRows, b: Array, out: Array, plan: Plan, place: Place, flipped: bool = False) -> None:
    """Add to the sums (M, N) the products of sparse rows and a matrix (K, N), summed as the plan's model says.

    ``plan.a`` is how the rows are read, ``plan.b`` how the matrix is; with ``flipped`` the matrix is the left operand,
    transposed, for models that tell their operands apart.
    """
    (m, n), (columns, stay) = out.shape, columns_kept(a)
    if plan.mixed:
        for i in range(m):
            kept = columns[i, : stay[i]]
            _product.multiply(a.values[i : i + 1, : stay[i]], b[kept], out[i : i + 1], plan, out[i : i + 1])
        return
    x = values(a.values, plan.a, plan)
    step = max(1, _ROOM // max(1, b.shape[0])) if n > _COLUMNS else n
    step = -(-step // _COLUMNS) * _COLUMNS
    formats = (plan.a.fmt, plan.b.fmt)
    run = evaluation(plan.model, formats[::-1] if flipped else formats, plan.item)
    for left in range(0, n, step):
        y = values(b[:, left : left + step], plan.b, plan)
        # A row that keeps nothing below K stays as it is.
        pieces = [(i, j) for j in range(0, y.shape[1], _COLUMNS) for i in range(m) if stay[i]]
        claimed = _threads.Pieces(len(pieces))

        def task(y: Array = y, left: int = left, pieces: Any = pieces, claimed: Any = claimed) -> None:
            for number in claimed:
                i, j = pieces[number]
                row, matrix = x[i : i + 1, : stay[i]], y[columns[i, : stay[i]], j : j + _COLUMNS]
                target = out[i : i + 1, left + j : left + j + matrix.shape[1]]
                if flipped:
                    total = np.array(target.T, row.dtype, order="C")
                    turned = np.ascontiguousarray(matrix.T), np.ascontiguousarray(row.T)
                    run.run(*turned, total, place.moved(left + j, i))
                    target[...] = total.T
                else:
                    total = target.astype(row.dtype)
                    run.run(row, matrix, total, place.moved(i, left + j))
                    target[...] = total

        work = int(stay.sum()) * y.shape[1]
        _threads.share(task, 1 if work <= _ALONE else min(len(pieces), _threads.get_num_threads()))
    finish(out, plan)
