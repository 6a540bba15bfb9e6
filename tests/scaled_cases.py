"""Operands that carry scales, and what their product is by the definition: for the tests of quantised products."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import lowprec as lp
from lowprec import hardware, reference
from lowprec.reference.blocks import Row, block_dot

Array = np.ndarray[Any, Any]
DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "e8m0": ml_dtypes.float8_e8m0fnu,
          "e4m3": ml_dtypes.float8_e4m3fn}  # fmt: skip
SCALES = {"e8m0": "float8_e8m0fnu", "e4m3": "float8_e4m3fn"}


class Spec(NamedTuple):
    """How to make an operand: blocks are (along rows or columns, along K), 0 for all of them."""

    fmt: Any
    blocks: tuple[int, int] | None = None
    points: bool = False
    scale: str = "fp32"
    tensor: bool = False


def some_codes(rng: np.random.Generator, fmt: Any, shape: tuple[int, ...]) -> Array:
    """Return codes of finite values, smaller ones of wide formats."""
    if isinstance(fmt, lp.CodebookFormat):
        return rng.integers(0, len(fmt.values), shape).astype(np.uint8)
    form = lp.format(fmt)
    if isinstance(form, lp.IntFormat):
        return rng.integers(0, 1 << form.bits, shape).astype(form.code_dtype)
    return np.asarray(lp.encode(rng.standard_normal(shape) * min(form.max / 4, 100.0), fmt, overflow="saturate"))


def some_scales(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Return positive scales with all their bits, so that blocks cancel and roundings show."""
    return np.asarray(np.exp2(rng.uniform(-3, 3, shape))).astype(np.float32).astype(DTYPES[kind])


def make(rng: np.random.Generator, spec: Spec, shape: tuple[int, ...], along: int) -> lp.QuantizedArray:
    """Return an operand with random codes and scales whose K is the axis ``along``."""
    axis: Any = None
    block: Any = None
    grid: tuple[int, ...] = ()
    k = along % len(shape)
    other = k - 1 if along == -1 else k + 1
    if spec.blocks is not None and spec.blocks[1] == 0:  # one scale to a row or column
        axis, grid = other, (shape[other],)
    elif spec.blocks is not None and spec.blocks[0] == 1:
        axis, block = k, spec.blocks[1]
        grid = tuple(-(-n // block) if i == k else n for i, n in enumerate(shape))
    elif spec.blocks is not None:
        sizes = {k: spec.blocks[1], other: spec.blocks[0]}
        axis = tuple(sorted(sizes))
        block = tuple(sizes[i] for i in axis)
        grid = tuple(-(-n // sizes.get(i, 1)) for i, n in enumerate(shape))
    point = None
    if spec.points:
        form = lp.format(spec.fmt)
        point = rng.integers(int(form.min), int(form.max) + 1, grid)
    return lp.QuantizedArray(
        some_codes(rng, spec.fmt, shape), some_scales(rng, spec.scale, grid), point, format=spec.fmt, axis=axis,
        block_size=block, tensor_scale=float(np.float32(rng.uniform(0.1, 3))) if spec.tensor else None,
    )  # fmt: skip


def row(q: lp.QuantizedArray, place: tuple[int, ...], axis: int) -> Row:
    """Return an operand along one axis, by the words of `QuantizedArray`: element by element, scale by scale."""
    axes = () if q.axis is None else q.axis if isinstance(q.axis, tuple) else (q.axis,)
    sizes = {} if q.block_size is None else dict(
        zip(axes, q.block_size if isinstance(q.block_size, tuple) else (q.block_size,), strict=True)
    )  # fmt: skip
    count, block = q.shape[axis], sizes.get(axis)

    def of_scale(k: int) -> tuple[int, ...]:
        where = [*place[:axis], k, *place[axis:]]
        if q.block_size is None:
            return tuple(where[i] for i in axes)
        return tuple(where[i] // sizes.get(i, 1) for i in range(q.ndim))

    places = [of_scale(k) for k in range(0, count, block or max(1, count))]
    where = (*place[:axis], slice(None), *place[axis:])
    fmt: Any = q.format
    return Row(
        [int(code) for code in q.codes[where]],
        fmt.values if isinstance(fmt, lp.CodebookFormat) else fmt,
        [float(q.scale[one]) for one in places],
        block,
        None if q.zero_point is None else [int(q.zero_point[one]) for one in places],
        None if q.tensor_scale is None else float(q.tensor_scale),
        q.scale_format.name,
    )


def model_of(accumulator: Any, a: lp.QuantizedArray, b: lp.QuantizedArray, scales: Any = None) -> Any:
    """Return the model that an accumulator's name stands for."""
    if accumulator is None or not isinstance(accumulator, str):
        return accumulator
    try:
        preset = lp.preset(accumulator)
    except ValueError:
        return lp.Exact() if accumulator == "exact" else lp.Sequential(accumulator)
    return hardware.select(preset, (a.format, b.format), scales=scales).model


def wanted(
    a: lp.QuantizedArray, b: lp.QuantizedArray, where: tuple[int, ...], model: Any = None, c: float = 0.0,
    bias: float | None = None, dot: Any = block_dot,
) -> float:  # fmt: skip
    """Return one element of the product of stacks of matrices; ``where`` is its index."""
    *batch, i, j = where

    def own(shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the index of a batch of broadcast shape in an operand's own batch."""
        last = batch[len(batch) - len(shape) :]
        return tuple(0 if n == 1 else one for one, n in zip(last, shape, strict=True))

    left = row(a, (*own(a.shape[:-2]), i), a.ndim - 1)
    right = row(b, (*own(b.shape[:-2]), j), b.ndim - 2)
    return dot(left, right, c, model=model, bias=bias)


def single(x: float) -> np.float32:
    """Return a float as float32, which holds it."""
    assert math.isnan(x) or float(np.float32(x)) == x
    return np.float32(x)


def check(
    got: Any, a: lp.QuantizedArray, b: lp.QuantizedArray, model: Any = None, c: Any = None, bias: Any = None,
    count: int = 10, dot: Any = block_dot,
) -> None:  # fmt: skip
    """Compare some elements of a product with the definition, bit for bit."""
    got = np.asarray(got)
    assert got.shape == (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    assert got.dtype == np.float32
    start = np.zeros(got.shape, np.float32) if c is None else np.broadcast_to(np.asarray(c, np.float32), got.shape)
    rng = np.random.default_rng(got.size)
    for flat in rng.permutation(got.size)[:count].tolist():
        where = tuple(int(one) for one in np.unravel_index(flat, got.shape))
        added = None if bias is None else float(np.float32(np.broadcast_to(bias, got.shape[-1:])[where[-1]]))
        want = single(wanted(a, b, where, model, float(start[where]), added, dot))
        assert got[where].view(np.uint32) == want.view(np.uint32), (where, got[where], want)


__all__ = ["Spec", "check", "make", "model_of", "reference", "row", "some_codes", "some_scales", "wanted"]
