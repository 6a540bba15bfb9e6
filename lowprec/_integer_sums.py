"""`Integer` models: sums that the exact product gives, and those that raise an error."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from lowprec import _integer_product
from lowprec._checks import Array
from lowprec._plan import Plan
from lowprec.accumulators import Integer
from lowprec.formats import IntFormat

_BYTE = 8  # bits of the operands that the exact product takes
_ROOM = 1 << 22  # products at a time, where they are made one by one


def bounds(plan: Plan, k: int, start: Array | None) -> tuple[int, int]:
    """Return what no running sum of K products, in any order, can lie below or above."""
    a, b = plan.a.fmt, plan.b.fmt
    ends = [int(x) * int(y) for x in (a.min, a.max) for y in (b.min, b.max)]
    low, high = k * min(0, *ends), k * max(0, *ends)
    if start is not None and start.size:
        low, high = low + min(0, int(start.min())), high + max(0, int(start.max()))
    return low, high


def _range(model: Integer) -> tuple[int, int]:
    """Return the ends of a model's range."""
    return int(model.result_format.min), int(model.result_format.max)


def _fits(plan: Plan, k: int, start: Array | None) -> bool:
    """Say whether no running sum can leave the model's range."""
    low, high = bounds(plan, k, start)
    least, most = _range(plan.model)  # type: ignore[arg-type]
    return least <= low and high <= most


def _wrap(x: Array, model: Integer) -> None:
    """Wrap sums modulo 2**32 to a narrower range."""
    if model.bits == 32:
        return
    mask, sign = (1 << model.bits) - 1, 1 << (model.bits - 1) if model.is_signed else 0
    np.bitwise_and(x, mask, out=x)
    np.bitwise_xor(x, sign, out=x)
    np.subtract(x, sign, out=x)


def multiply(a: Array, b: Array, out: Array, plan: Plan, start: Array | None) -> bool:
    """Write the product of stacks of integer matrices if it is exact; say whether it is."""
    model = plan.model
    if not isinstance(model, Integer):
        return False
    small = max(plan.a.fmt.bits, plan.b.fmt.bits) <= _BYTE
    fits = model.overflow != "wrap" and _fits(plan, a.shape[-1], start)
    if model.overflow == "raise" and not (small and fits):
        total = _wide(a, b, plan, start, small)
        _check(total, model)
        out[...] = np.broadcast_to(total, out.shape)
        return True
    if not small or (model.overflow == "saturate" and not fits):
        return False
    words = out.view(np.int32) if out.dtype == np.uint32 else out
    _integer_product.product(a, b, start=start, out=words, formats=(plan.a.fmt, plan.b.fmt))
    if model.overflow == "wrap":
        _wrap(words, model)
    return True


def _numbers(x: Array) -> Array:
    """Return integers in a dtype that NumPy computes in."""
    return x if x.dtype.kind in "iub" else x.astype(np.int32)


def _exact_type(plan: Plan, k: int, start: Array | None) -> type:
    """Return a dtype in which sums are exact: int64, or Python's integers."""
    low, high = bounds(plan, k, start)
    return np.int64 if low >= -(2**63) and high < 2**63 else object


def _wide(a: Array, b: Array, plan: Plan, start: Array | None, small: bool) -> Array:
    """Return exact sums of more than 32 bits."""
    k, kind = a.shape[-1], _exact_type(plan, a.shape[-1], start)
    if not small:
        total = np.matmul(_numbers(a).astype(kind), _numbers(b).astype(kind))
        return total if start is None else np.asarray(total + start.astype(kind))
    formats: tuple[IntFormat, IntFormat] = (plan.a.fmt, plan.b.fmt)
    low, high = bounds(plan, 1, None)
    step = max(1, (2**31 - 1) // max(1, -low, high))  # so many products fit in 32 bits
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    result = np.zeros(shape, np.int64)
    if start is not None:
        result += start
    for first in range(0, k, step):
        part = slice(first, first + step)
        result += _integer_product.product(a[..., part], b[..., part, :], formats=formats)
    return result


def _check(total: Array, model: Integer) -> None:
    """Raise an error for the first sum that the model cannot hold."""
    low, high = _range(model)
    beyond = np.asarray((total < low) | (total > high))
    if beyond.any():
        index = tuple(int(i) for i in np.argwhere(beyond)[0])
        refuse(index, int(total[index]), model)


def refuse(index: tuple[int, ...], value: int, model: Integer) -> NoReturn:
    """Raise the error of a sum that the model cannot hold."""
    low, high = _range(model)
    where = f"[{', '.join(map(str, index))}] " if index else ""
    msg = (
        f"`accumulator` must hold every sum: element {where}of the result is {value}, outside {low} to {high} of "
        f'{model.result_format}; use more bits, or overflow="saturate" or "wrap".'
    )
    raise OverflowError(msg)


def sum_rows(a: Array, b: Array, shape: tuple[int, ...], plan: Plan, start: Array | None) -> Array | None:
    """Return the sums of products along the last axis where the model raises errors, or None."""
    model = plan.model
    if not isinstance(model, Integer) or model.overflow != "raise":
        return None
    k = a.shape[-1]
    kind = _exact_type(plan, k, start)
    total: Array = np.zeros(shape, kind)
    if start is not None:
        total[...] = start
    sides = [np.broadcast_to(_numbers(x), (*shape, k)) for x in (a, b)]
    step = max(1, _ROOM // max(1, k))
    flat: Any = total.reshape(-1)
    for first in range(0, flat.size, step):
        last = min(flat.size, first + step)
        where = np.unravel_index(np.arange(first, last), shape) if shape else ()
        rows: list[Array] = [side[where].reshape(-1, k).astype(kind) for side in sides]
        flat[first:last] += (rows[0] * rows[1]).sum(axis=1)
    _check(total, model)
    return total.astype(np.int64)


def add_bias(total: Array, bias: Array, model: Integer) -> Array:
    """Add a bias to finished sums, wrapped, cut or checked as the model says."""
    low, high = _range(model)
    result = np.asarray(total.astype(np.int64) + bias)
    if model.overflow == "raise":
        _check(result, model)
    if model.overflow == "saturate":
        result = np.clip(result, low, high)
    return np.asarray((result - low) % (high - low + 1) + low)
