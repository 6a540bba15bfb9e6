"""matmul, vecdot, linear: operands rounded to a format, products summed in the order that is written down."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks, _product
from lowprec._checks import Array
from lowprec._plan import Plan, Side, make_plan
from lowprec.codec import round_into, round_to
from lowprec.formats import stored_format
from lowprec.kernels import codec as codec_kernels
from lowprec.rounding import Rounding

_FLOAT32 = np.dtype(np.float32)
_CHUNK_BYTES = 1 << 24  # of intermediate sums at most, where they are rounded to `out_dtype` afterwards


def _as_array(x: Any, name: str) -> Array:
    """Return an operand as a native, aligned array of real numbers."""
    if type(x) is np.ndarray and x.dtype is _FLOAT32 and x.flags.aligned:
        return x
    array = _checks.plain_array(x, name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    if array.dtype.kind not in "fiub" and stored_format(array.dtype) is None:
        _checks.source(array, name)  # raises, unless these are Python ints
    return array


class _Call:
    """One call's operands, and what its other arguments amount to."""

    __slots__ = ("a", "b", "names", "plan", "seed")

    def __init__(self, a: Array, b: Array, how: tuple[Any, ...], rng: Any, names: tuple[str, str] = ("a", "b")) -> None:
        self.a, self.b, self.names = a, b, names
        try:
            self.plan = make_plan(*how, a.dtype, b.dtype)
        except TypeError:  # an unhashable argument, or what the check itself says
            dtype = tuple(how[0]) if isinstance(how[0], list) else how[0]
            self.plan = make_plan.__wrapped__(dtype, *how[1:], a.dtype, b.dtype)
        self.seed = _checks.seed(rng, self.plan.modes.rounding)

    def prepare(self) -> None:
        """Make the operands readable for the kernels; nothing can fail after this."""
        plan = self.plan
        if plan.modes.rounding is Rounding.STOCHASTIC:
            self._round_stochastically()
            plan = self.plan
        if plan.ready:
            return
        self.a = _prepared(self.a, plan.a, plan, self.names[0])
        self.b = _prepared(self.b, plan.b, plan, self.names[1])

    def _round_stochastically(self) -> None:
        """Round both operands whole; that the packer rounds the results again changes nothing."""
        plan = self.plan
        rounded = []
        for x, side, stream, name in (
            (self.a, plan.a, 0, self.names[0]),
            (self.b, plan.b, 1, self.names[1]),
        ):
            values = np.ascontiguousarray(_checks.source(x, name).values).reshape(x.shape)
            if not side.fmt.has_nan:
                _refuse_nan(values, side.fmt.name, name)
            if side.fmt.max > np.finfo(values.dtype).max:
                values = values.astype(np.float64)
            out = np.empty_like(values)
            round_into(values, out, side.fmt, plan.modes, self.seed, codes=False, stream=stream)
            rounded.append(out)
        self.a, self.b = rounded
        modes = (*plan.modes[:3], plan.modes.random_bits)
        formats = (plan.a.fmt, plan.b.fmt)
        self.plan = make_plan(formats, plan.dtype, plan.out_fmt, *modes, self.a.dtype, self.b.dtype)


def _refuse_nan(x: Array, fmt: str, name: str) -> None:
    """Raise if an operand holds NaN."""
    if x.dtype in (np.float32, np.float64) and (x.flags.c_contiguous or x.flags.f_contiguous):
        found = bool(codec_kernels.any_nan(x.ravel(order="K")))
    else:
        found = bool(np.isnan(x).any())
    if found:
        msg = f"`{name}` must hold no NaN for `{fmt}`, which has none; replace it first, for example by np.nan_to_num."
        raise ValueError(msg)


def _prepared(x: Array, side: Side, plan: Plan, name: str) -> Array:
    """Return an operand as the packer sees it, and refuse NaN for a format without one."""
    if side.convert:
        src = _checks.source(x, name)
        x = src.values
        if src.exact is not None and side.fmt.precision > 51:
            x = np.asarray(round_to(src.exact, side.fmt, rounding=plan.modes.rounding))
    if not side.fmt.has_nan:
        _refuse_nan(x, side.fmt.name, name)
    return x


def _start(c: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Return ``c`` in the accumulator's format, or None."""
    if c is None:
        return None
    array = _as_array(c, "c")
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        msg = f"`c` must broadcast to the result's shape {shape}, got {array.shape}."
        raise ValueError(msg)
    if array.dtype == dtype:
        return array
    return np.asarray(round_to(array, dtype)).astype(dtype)


def _target(out: Any, shape: tuple[int, ...], call: _Call, c: Array | None) -> Array | None:
    """Check ``out``; it must not share memory with what is read after it is written."""
    if out is None:
        return None
    place = _checks.writable(out, shape, call.plan.out_dtype)
    for name, x in zip(call.names, (call.a, call.b), strict=True):
        if _checks.overlap(place, x):
            msg = f"`out` must not overlap `{name}`, got arrays that share memory; pass out=None or another array."
            raise ValueError(msg)
    if c is not None and _checks.overlap(place, c):
        same = place.ctypes.data == c.ctypes.data and place.strides == c.strides and place.shape == c.shape
        if not same:
            msg = "`out` must not overlap `c` unless it is `c`, got arrays that share memory; pass another array."
            raise ValueError(msg)
    return place


def _finish(total: Array, call: _Call, out: Array, bias: Array | None = None) -> None:
    """Write sums to ``out``, plus the bias, rounded to its format."""
    plan = call.plan
    if bias is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add(total, bias)
        total[np.isnan(total)] = np.nan
    if plan.out_fmt is None:
        if total is not out:
            out[...] = total
        return
    fmt = plan.out_fmt
    if not fmt.has_nan and np.isnan(total).any():
        msg = f"`out_dtype` must have a NaN for a result that is one, got `{fmt}`; choose another format."
        raise ValueError(msg)
    total = np.ascontiguousarray(total)
    if fmt.name == "tf32":
        values = np.empty_like(total)
        round_into(total, values, fmt, call.plan.modes, call.seed, codes=False, stream=2)
        out[...] = values
        return
    codes = np.empty(total.shape, fmt.code_dtype)
    round_into(total, codes, fmt, call.plan.modes, call.seed, codes=True, stream=2)
    out[...] = codes.view(plan.out_dtype)


def _refuse_shapes(rule: str, a: Array, b: Array) -> NoReturn:
    """Raise an error that shows both shapes."""
    msg = f"{rule}, got shapes {a.shape} for `a` and {b.shape} for `b`."
    raise ValueError(msg)


def _matrices(a: Array, b: Array) -> tuple[Array, Array, tuple[int, ...], tuple[int, ...]]:
    """Return the operands as stacks of matrices, the shape of the product, and that with 1-D operands' axes gone."""
    if a.ndim == 2 == b.ndim and a.shape[1] == b.shape[0]:
        shape = (a.shape[0], b.shape[1])
        return a, b, shape, shape
    if a.ndim == 0 or b.ndim == 0:
        _refuse_shapes("`a` and `b` must have at least one axis (multiply by a 0-d scalar with *)", a, b)
    x = a[np.newaxis, :] if a.ndim == 1 else a
    y = b[:, np.newaxis] if b.ndim == 1 else b
    if x.shape[-1] != y.shape[-2]:
        rule = "`a` must have as many columns as `b` has rows"
        _refuse_shapes(f"{rule} ({x.shape[-1]} and {y.shape[-2]})", a, b)
    try:
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        _refuse_shapes("`a` and `b` must have batch axes that broadcast together", a, b)
    full = (*batch, x.shape[-2], y.shape[-1])
    result = batch + (() if a.ndim == 1 else (x.shape[-2],)) + (() if b.ndim == 1 else (y.shape[-1],))
    return x, y, full, result


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
        Real numbers of any dtype that `encode` takes, ml_dtypes arrays as they are.
    dtype : str, FloatFormat, dtype, or a pair of them, optional
        Format that `a` and `b` are rounded to, each element once; a pair gives one for each. None: they are already
        in the format of their dtype.
    accumulator : {"fp32", "fp64"}, optional
        Format of the sum. By default fp32, and fp64 if a format does not fit in float32.
    c : array_like, optional
        What the sums start from, rounded to the accumulator's format (nearest even); must broadcast to the result.
    out_dtype : str, FloatFormat or dtype, optional
        Format that the sums are rounded to, once. By default the accumulator's own.
    rounding, overflow, subnormals, rng, random_bits
        How operands, and the result if `out_dtype` is given, are rounded; see `encode`. The sum itself always rounds
        to nearest even. In stochastic rounding the element index in `a`, `b` and the result draws from three streams.
    out : ndarray, optional
        Where to put the result; must not overlap `a` or `b`, and may be `c` itself.

    Returns
    -------
    ndarray
        The product, in float32 or float64 as the accumulator, or in the storage dtype of `out_dtype` (ml_dtypes for
        those that NumPy lacks). A scalar if both operands are 1-D.

    Raises
    ------
    TypeError
        If an operand holds no real numbers, or integers without a `dtype`; if an argument is of the wrong kind.
    ValueError
        If shapes do not fit (both are shown), a name is unknown, an operand holds NaN and its format has none, `out`
        has another shape, is read-only or overlaps an operand, or `rng` is missing. `out` is then untouched.

    Notes
    -----
    With fma(x, y, z) the sum x * y + z rounded once to nearest even in the accumulator's format, subnormals kept,
    every element of the result is::

        r = c or +0
        for k in 0, 1, ..., K - 1:
            r = fma(a[k], b[k], r)

    Overflow gives infinity; every NaN in the result is the canonical quiet NaN; ``K = 0`` gives c or +0.

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
    call = _Call(_as_array(a, "a"), _as_array(b, "b"), how, rng)
    x, y, full, shape = _matrices(call.a, call.b)
    start = _start(c, shape, call.plan.dtype)
    target = _target(out, shape, call, start)
    left, right = call.a, call.b
    call.prepare()
    plan = call.plan
    if call.a is not left or call.b is not right:
        x, y, _, _ = _matrices(call.a, call.b)
    if start is not None and shape != full:
        start = np.broadcast_to(start, shape).reshape(full)
    if plan.out_fmt is None and (target is None or _direct(target, full)):
        result = np.empty(shape, plan.dtype) if target is None else target
        _product.multiply(x, y, result if shape == full else result.reshape(full), plan, start)
        return result if result.ndim or target is not None else result[()]
    result = np.empty(shape, plan.out_dtype) if target is None else target
    whole = np.empty(full, plan.out_dtype) if shape != full or plan.out_fmt is None else result
    # A chunk of rows at a time, unless the element index matters.
    rows, per_row = full[-2], max(1, math.prod(full[:-2]) * full[-1] * plan.dtype.itemsize)
    step = rows if call.plan.modes.rounding is Rounding.STOCHASTIC else max(1, _CHUNK_BYTES // per_row)
    for first in range(0, rows, max(1, step)):
        part = slice(first, min(rows, first + step))
        total = np.empty((*full[:-2], part.stop - part.start, full[-1]), plan.dtype)
        begin = None if start is None else np.broadcast_to(start, full)[..., part, :]
        _product.multiply(x[..., part, :], y, total, plan, begin)
        _finish(total, call, whole[..., part, :])
    if whole is not result:
        result[...] = whole.reshape(shape)
    return result if result.ndim or target is not None else result[()]


def _direct(target: Array, full: tuple[int, ...]) -> bool:
    """Say whether the kernels can write to an array: native, columns adjacent, and no axes to be added."""
    return target.shape == full and target.dtype.isnative and target.flags.c_contiguous


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
    call = _Call(_as_array(a, "a"), _as_array(b, "b"), how, rng)
    if call.a.ndim == 0 or call.b.ndim == 0:
        _refuse_shapes("`a` and `b` must have at least one axis", call.a, call.b)
    if call.a.shape[-1] != call.b.shape[-1]:
        _refuse_shapes("`a` and `b` must have last axes of one length", call.a, call.b)
    try:
        shape = np.broadcast_shapes(call.a.shape[:-1], call.b.shape[:-1])
    except ValueError:
        _refuse_shapes("`a` and `b` must have leading axes that broadcast together", call.a, call.b)
    start = _start(c, shape, call.plan.dtype)
    target = _target(out, shape, call, start)
    call.prepare()
    total = _product.sum_rows(call.a, call.b, shape, call.plan, start)
    result = np.empty(shape, call.plan.out_dtype) if target is None else target
    _finish(total, call, result)
    return result if result.ndim or target is not None else result[()]


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
    w : array_like, shape (N, K)
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
    weights = _as_array(w, "w")
    if weights.ndim != 2:
        msg = f"`w` must have shape (N, K), got {weights.shape}."
        raise ValueError(msg)
    inputs = _as_array(x, "x")
    if inputs.ndim == 0 or inputs.shape[-1] != weights.shape[1]:
        rule = f"`x` must have shape (..., K) with K = {weights.shape[1]}, as `w` of shape {weights.shape} has it"
        msg = f"{rule}, got {inputs.shape}."
        raise ValueError(msg)
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    call = _Call(inputs, weights.T, how, rng, ("x", "w"))
    added = None
    if bias is not None:
        given = _as_array(bias, "bias")
        if given.shape not in (weights.shape[:1], ()):
            msg = f"`bias` must have shape ({weights.shape[0]},) for `w` of shape {weights.shape}, got {given.shape}."
            raise ValueError(msg)
        added = np.asarray(round_to(given, call.plan.dtype)).astype(call.plan.dtype)
    shape = (*inputs.shape[:-1], weights.shape[0])
    start = _start(c, shape, call.plan.dtype)
    target = _target(out, shape, call, start)
    call.prepare()
    left, right, full, _ = _matrices(call.a, call.b)
    total = np.empty(full, call.plan.dtype)
    if start is not None:
        start = np.broadcast_to(start, shape).reshape(full)
    _product.multiply(left, right, total, call.plan, start)
    if added is None and call.plan.out_fmt is None and target is None:
        return total.reshape(shape)
    result = np.empty(shape, call.plan.out_dtype) if target is None else target
    _finish(total.reshape(shape), call, result, added)
    return result
