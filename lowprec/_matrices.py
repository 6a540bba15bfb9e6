"""Products of matrices once the arguments are sorted out: shapes, the sum, and the rounding of the result."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from lowprec._call import _Call, _finish, _multiply, _read, _start, _target
from lowprec._checks import Array

_CHUNK_BYTES = 1 << 24  # of intermediate sums at most, where they are rounded to `out_dtype` afterwards


def refuse_shapes(rule: str, a: Array, b: Array) -> NoReturn:
    """Raise an error that shows both shapes."""
    msg = f"{rule}, got shapes {a.shape} for `a` and {b.shape} for `b`."
    raise ValueError(msg)


def matrices(a: Array, b: Array) -> tuple[Array, Array, tuple[int, ...], tuple[int, ...]]:
    """Return the operands as stacks of matrices, the shape of the product, and that with 1-D operands' axes gone."""
    if a.ndim == 2 == b.ndim and a.shape[1] == b.shape[0]:
        shape = (a.shape[0], b.shape[1])
        return a, b, shape, shape
    if a.ndim == 0 or b.ndim == 0:
        refuse_shapes("`a` and `b` must have at least one axis (multiply by a 0-d scalar with *)", a, b)
    x = a[np.newaxis, :] if a.ndim == 1 else a
    y = b[:, np.newaxis] if b.ndim == 1 else b
    if x.shape[-1] != y.shape[-2]:
        rule = "`a` must have as many columns as `b` has rows"
        refuse_shapes(f"{rule} ({x.shape[-1]} and {y.shape[-2]})", a, b)
    try:
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        refuse_shapes("`a` and `b` must have batch axes that broadcast together", a, b)
    full = (*batch, x.shape[-2], y.shape[-1])
    result = batch + (() if a.ndim == 1 else (x.shape[-2],)) + (() if b.ndim == 1 else (y.shape[-1],))
    return x, y, full, result


def product(a: Any, b: Any, how: tuple[Any, ...], c: Any = None, rng: Any = None, out: Array | None = None) -> Any:
    """Return the product that `matmul` promises, of operands that need no quantisation.

    ``how`` are the arguments dtype, accumulator, out_dtype, rounding, overflow, subnormals and random_bits.
    """
    left, right, scales = _read(a, b)
    call = _Call(left, right, how, rng, c=c, scales=scales)
    x, y, full, shape = matrices(call.a, call.b)
    start = _start(c, shape, call.plan)
    target = _target(out, shape, call, start)
    left, right = call.a, call.b
    call.prepare()
    plan = call.plan
    if call.a is not left or call.b is not right:
        x, y, _, _ = matrices(call.a, call.b)
    if start is not None and shape != full:
        start = np.broadcast_to(start, shape).reshape(full)
    if plan.out_fmt is None and plan.out_dtype == plan.dtype and (target is None or _direct(target, full)):
        result = np.empty(shape, plan.dtype) if target is None else target
        _multiply(x, y, result if shape == full else result.reshape(full), call, start)
        return result if result.ndim or target is not None else result[()]
    result = np.empty(shape, plan.out_dtype) if target is None else target
    whole = np.empty(full, plan.out_dtype) if shape != full or plan.out_fmt is None else result
    # A chunk of rows at a time, unless the element index matters.
    rows, per_row = full[-2], max(1, math.prod(full[:-2]) * full[-1] * plan.dtype.itemsize)
    step = rows if plan.stochastic else max(1, _CHUNK_BYTES // per_row)
    for first in range(0, rows, max(1, step)):
        part = slice(first, min(rows, first + step))
        total = np.empty((*full[:-2], part.stop - part.start, full[-1]), plan.dtype)
        begin = None if start is None else np.broadcast_to(start, full)[..., part, :]
        _multiply(x[..., part, :], y, total, call, begin)
        _finish(total, call, whole[..., part, :])
    if whole is not result:
        result[...] = whole.reshape(shape)
    return result if result.ndim or target is not None else result[()]


def _direct(target: Array, full: tuple[int, ...]) -> bool:
    """Say whether the kernels can write to an array: native, columns adjacent, and no axes to be added."""
    return target.shape == full and target.dtype.isnative and target.flags.c_contiguous
