"""matmul, vecdot, linear: operands rounded to a format, products summed in the order that is written down."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _product
from lowprec._call import (
    _as_array,
    _bias,
    _Call,
    _finish,
    _multiply,
    _start,
    _target,
    is_dask,
    is_quantized,
    is_sparse,
    wants_scales,
)
from lowprec._checks import Array, writable
from lowprec._matrices import matrices, product, refuse_shapes

_DASK = "dask.array"


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    dtype: Any = None,
    *,
    accumulator: Any = None,
    c: ArrayLike | None = None,
    out_dtype: Any = None,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Multiply matrices whose elements are rounded to a format, with a sum that is defined to the last bit.

    The bits of the result depend on the arguments only: not on the CPU, the threads, the memory layout, or how a
    batch is split.

    Parameters
    ----------
    a, b : array_like
        Operands with the shapes and the broadcasting of `numpy.matmul`: ``(..., M, K)`` and ``(..., K, N)``, or 1-D.
        Real numbers of any dtype that `encode` takes, ml_dtypes arrays as they are, `QuantizedArray` or `Sparse24`.
    dtype : str, FloatFormat, dtype, or a pair of them, optional
        Format that `a` and `b` are rounded to, each element once; a pair gives one for each. None: they are already
        in the format of their dtype. Floats with an integer format, or with a block format such as ``"mxfp4"``, are
        quantised by `quantize` first: with one symmetric scale by the largest magnitude, or in blocks along K.
    accumulator : str, Accumulator, FloatFormat or dtype, optional
        How products are summed: the name of a float format (`Sequential` in it), ``"exact"``, ``"pairwise"``, an
        integer such as ``"int32"`` or ``"int16_saturate"``, a hardware preset such as ``"nvidia-hopper"`` (`presets`
        lists them), or a model with parameters. By default fp32, fp64 if a format does not fit in float32, and int32
        for integers.
    c : array_like, optional
        What the sums start from, rounded to the accumulator's format (nearest even); must broadcast to the result.
    out_dtype : str, FloatFormat or dtype, optional
        Format that the sums are rounded to, once. By default the accumulator's own.
    rounding, overflow, subnormals, rng, random_bits
        How operands, and the result if `out_dtype` is given, are rounded; see `encode`. The sum rounds as its model
        says, to nearest even by default; `rng` is also the seed of a stochastic one. In stochastic rounding the element
        index in `a`, `b` and the result draws from three streams.
    out : ndarray, optional
        Where to put the result; must not overlap `a` or `b`, and may be `c` itself.

    Returns
    -------
    ndarray
        The product, in float32, or float64 if float32 does not hold the accumulator's format (int32 or uint32 for
        integers), or in the storage dtype of `out_dtype` (ml_dtypes for those that NumPy lacks). A scalar if both
        operands are 1-D.

    Warns
    -----
    ApproximationWarning
        If the accumulator is only near what the hardware of its name does.

    Raises
    ------
    TypeError
        If an operand holds no real numbers, or only one of them integers without a `dtype`; if an argument is of the
        wrong kind.
    ValueError
        If shapes do not fit (both are shown), a name is unknown, the accumulator does not take the operands' formats or
        scales, an operand holds NaN and its format has none, `out`
        has another shape, is read-only or overlaps an operand, or `rng` is missing. `out` is then untouched.

    Notes
    -----
    With fma(x, y, z) the sum x * y + z rounded once to nearest even in the accumulator's format, subnormals kept,
    every element of the result is::

        r = c or +0
        for k in 0, 1, ..., K - 1:
            r = fma(a[k], b[k], r)

    Overflow gives infinity; every NaN in the result is the canonical quiet NaN; ``K = 0`` gives c or +0. This is the
    default; each model's docstring has its own formula. With a preset, `out_dtype` chooses the instruction that has
    such a result if there is one (``out_dtype="fp16"`` accumulates in float16), and rounds the float32 sum otherwise.

    Two `QuantizedArray` are multiplied segment by segment of K, cut where a block of either ends. With P the
    accumulator's sum, rounded to float32, of the products of a segment's code values less their zero points, and S the
    product of both scales in float32 (each times its tensor scale, in float32)::

        r = c or +0
        for each segment, ascending:
            r = fma(P, S, r)                in float32

    ``"exact"`` sums the numbers of ``dequantize(np.float64)`` instead, and a preset with an instruction for both
    operands' scales is given them. The result is float32. One `QuantizedArray` and an array of floats are multiplied as
    if by `QuantizedArray.dequantize`; integers beside quantised integers have the scale 1.

    References
    ----------
    IEEE 754-2019, 5.4.1, fusedMultiplyAdd.

    Examples
    --------
    >>> import numpy as np
    >>> import lowprec as lp
    >>> a = np.array([[1.0, 1e-3]], np.float32)
    >>> lp.matmul(a, a.T, dtype="bf16")
    array([[1.000001]], dtype=float32)
    >>> lp.matmul(a, a.T, dtype=("e4m3fn", "e5m2"), out_dtype="bf16")
    array([[1]], dtype=bfloat16)
    """
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    if _DASK in sys.modules and (is_dask(a) or is_dask(b)):
        return _dask().matmul(matmul, a, b, how, c, rng, out)
    if is_sparse(a) or is_sparse(b):
        return _sparse().multiply(matmul, a, b, how, c, rng, out)
    if wants_scales(a, b, dtype):
        return _scales().multiply(a, b, _scales().How(*how), c, rng, out)
    return product(a, b, how, c, rng, out)


def vecdot(
    a: ArrayLike,
    b: ArrayLike,
    dtype: Any = None,
    *,
    accumulator: Any = None,
    c: ArrayLike | None = None,
    out_dtype: Any = None,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Sum products along the last axis, each element rounded to a format, with the sum of `matmul`.

    Parameters
    ----------
    a, b : array_like
        Operands with the axes of `numpy.vecdot`: the last axis is summed, the others broadcast.
    dtype, accumulator, c, out_dtype, rounding, overflow, subnormals, rng, random_bits, out
        As in `matmul`.

    Returns
    -------
    ndarray
        Of the broadcast shape without the last axis, in the dtype that `matmul` would give; a scalar if 0-d.

    Raises
    ------
    TypeError
        As `matmul`.
    ValueError
        As `matmul`.

    Notes
    -----
    One element is the loop of `matmul`, so ``vecdot(a[i], b[:, j])`` has the bits of ``matmul(a, b)[i, j]``.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([[1.0, 2.0], [3.0, 4.0]], [1.0, 0.1], dtype="e4m3fn")
    array([1.203125, 3.40625 ], dtype=float32)
    """
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    if _DASK in sys.modules and (is_dask(a) or is_dask(b)):
        return _dask().vecdot(vecdot, a, b, how, c, rng, out)
    if is_sparse(a) or is_sparse(b):
        return _sparse().sum_rows(vecdot, a, b, how, c, rng, out)
    if wants_scales(a, b, dtype):
        return _quantized_vecdot(a, b, how, c, rng, out)
    call = _Call(_as_array(a, "a"), _as_array(b, "b"), how, rng, c=c)
    if call.a.ndim == 0 or call.b.ndim == 0:
        refuse_shapes("`a` and `b` must have at least one axis", call.a, call.b)
    shape = _vecdot_shape(call.a, call.b)
    start = _start(c, shape, call.plan)
    target = _target(out, shape, call, start)
    call.prepare()
    if call.plan.model is None:
        total = _product.sum_rows(call.a, call.b, shape, call.plan, start)
    else:
        from lowprec import _sums

        total = _sums.sum_rows(call.a, call.b, shape, call.plan, start, call.seed)
    result = np.empty(shape, call.plan.out_dtype) if target is None else target
    _finish(total, call, result)
    return result if result.ndim or target is not None else result[()]


def _scales() -> Any:
    """Import the products of quantised operands; most programs never do."""
    from lowprec import _quantized

    return _quantized


def _dask() -> Any:
    """Import the products of Dask arrays; most programs never do."""
    from lowprec import _dask as module

    return module


def _sparse() -> Any:
    """Import the products of sparse operands; most programs never do."""
    from lowprec import _sparse

    return _sparse


def _sparse_linear(x: Any, w: Any, bias: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `linear` of sparse operands."""
    inputs, weights = (
        each if is_sparse(each) or is_quantized(each) else _as_array(each, name) for each, name in ((x, "x"), (w, "w"))
    )
    _check_linear(inputs.shape, weights.shape, None if bias is None else _as_array(bias, "bias").shape)
    return _sparse().multiply(linear, inputs, weights.T, how, c, rng, out, bias)


def _quantized_vecdot(a: Any, b: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `vecdot` of quantised operands, as products of one row and one column."""
    scales = _scales()
    a, b = (each if is_quantized(each) else _as_array(each, name) for each, name in ((a, "a"), (b, "b")))
    if a.ndim == 0 or b.ndim == 0:
        refuse_shapes("`a` and `b` must have at least one axis", a, b)
    a, b, others = scales.operands(a, b, scales.How(*how), rng, (-1, -1))
    rows = scales.expanded(a, a.ndim - 1) if is_quantized(a) else np.expand_dims(_as_array(a, "a"), -2)
    columns = scales.expanded(b, b.ndim) if is_quantized(b) else np.expand_dims(_as_array(b, "b"), -1)
    addend = None if c is None else _as_array(c, "c")
    shape = _vecdot_shape(a if is_quantized(a) else rows[..., 0, :], b if is_quantized(b) else columns[..., 0])
    if addend is not None:
        try:
            addend = np.broadcast_to(addend, shape)[..., np.newaxis, np.newaxis]
        except ValueError:
            msg = f"`c` must broadcast to the result's shape {shape}, got {addend.shape}."
            raise ValueError(msg) from None
    result = np.asarray(scales.multiply(rows, columns, others, addend, rng))[..., 0, 0]
    if out is None:
        return result[()]
    writable(out, shape, result.dtype)[...] = result
    return out


def _vecdot_shape(a: Any, b: Any) -> tuple[int, ...]:
    """Return the shape of `vecdot`'s result, or refuse operands that do not fit."""
    if a.shape[-1] != b.shape[-1]:
        refuse_shapes("`a` and `b` must have last axes of one length", a, b)
    try:
        return np.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    except ValueError:
        return refuse_shapes("`a` and `b` must have leading axes that broadcast together", a, b)


def _check_linear(x: tuple[int, ...], w: tuple[int, ...], bias: tuple[int, ...] | None = None) -> None:
    """Raise an error if the shapes of a linear layer do not fit."""
    if len(w) != 2:
        msg = f"`w` must have shape (N, K), got {w}."
        raise ValueError(msg)
    if not x or x[-1] != w[1]:
        msg = f"`x` must have shape (..., K) with K = {w[1]}, as `w` of shape {w} has it, got {x}."
        raise ValueError(msg)
    if bias is not None and bias not in (w[:1], ()):
        msg = f"`bias` must have shape ({w[0]},) for `w` of shape {w}, got {bias}."
        raise ValueError(msg)


def _quantized_linear(x: Any, w: Any, bias: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `linear` of quantised operands."""
    inputs, weights = (each if is_quantized(each) else _as_array(each, name) for each, name in ((x, "x"), (w, "w")))
    _check_linear(inputs.shape, weights.shape)
    return _scales().multiply(inputs, weights.T, _scales().How(*how), c, rng, out, bias)


def linear(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    dtype: Any = None,
    *,
    accumulator: Any = None,
    c: ArrayLike | None = None,
    out_dtype: Any = None,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Apply a linear layer, ``x @ w.T + bias``, with the rounding and the sum of `matmul`.

    Parameters
    ----------
    x : array_like, shape (..., K)
        Inputs.
    w : array_like, QuantizedArray or Sparse24, shape (N, K)
        Weights, one row per output.
    bias : array_like, shape (N,) or (), optional
        Rounded to the accumulator's format, and added to the finished sum with one rounding there.
    dtype : str, FloatFormat, dtype, or a pair of them, optional
        Format of `x` and `w`, or one for each; as in `matmul`.
    accumulator, c, out_dtype, rounding, overflow, subnormals, rng, random_bits, out
        As in `matmul`.

    Returns
    -------
    ndarray, shape (..., N)
        In the dtype that `matmul` would give.

    Raises
    ------
    TypeError
        As `matmul`.
    ValueError
        As `matmul`; or if `w` has not two axes, or `bias` not N elements.

    Notes
    -----
    The bias comes last, as in the epilogue of a GPU kernel; to start the sum from it, pass it as `c`.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.linear([1.0, 2.0], [[0.5, 0.25], [1.0, -1.0]], [0.1, 0.2], dtype="bf16")
    array([ 1.1, -0.8], dtype=float32)
    """
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    if _DASK in sys.modules and (is_dask(x) or is_dask(w)):
        return _dask().linear(linear, x, w, bias, how, c, rng, out)
    if is_sparse(x) or is_sparse(w):
        return _sparse_linear(x, w, bias, how, c, rng, out)
    if wants_scales(x, w, dtype):
        return _quantized_linear(x, w, bias, how, c, rng, out)
    inputs, weights = _as_array(x, "x"), _as_array(w, "w")
    _check_linear(inputs.shape, weights.shape)
    call = _Call(inputs, weights.T, how, rng, ("x", "w"), c)
    added = None
    if bias is not None:
        given = _as_array(bias, "bias")
        _check_linear(inputs.shape, weights.shape, given.shape)
        added = _bias(given, call.plan)
    shape = (*inputs.shape[:-1], weights.shape[0])
    start = _start(c, shape, call.plan)
    target = _target(out, shape, call, start)
    call.prepare()
    left, right, full, _ = matrices(call.a, call.b)
    total = np.empty(full, call.plan.dtype)
    if start is not None:
        start = np.broadcast_to(start, shape).reshape(full)
    _multiply(left, right, total, call, start)
    if added is None and call.plan.out_fmt is None and call.plan.out_dtype == total.dtype and target is None:
        return total.reshape(shape)
    result = np.empty(shape, call.plan.out_dtype) if target is None else target
    _finish(total.reshape(shape), call, result, added)
    return result
