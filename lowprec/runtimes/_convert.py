"""Floats to codes and back, as ONNX, LiteRT and torch do it."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec._checks import Array, odd_sum
from lowprec._requantize import any_format, integer_dtype, integer_format
from lowprec.codec import cast
from lowprec.formats import FloatFormat, Format, IntFormat, stored_format
from lowprec.runtimes._operands import integers, scale_array, zero_points
from lowprec.runtimes._table import runtime as find_runtime

Saturation = Literal["saturate", "inf", "nan"]


def _numbers(x: Any, name: str) -> Array:
    """Return float32 numbers without NaN."""
    array = _checks.plain_array(x, name)
    if array.dtype == np.float64 and not hasattr(x, "dtype"):  # Python's numbers
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if isinstance(stored_format(array.dtype.newbyteorder("=")), IntFormat) or array.dtype.kind not in "fV":
        msg = f"`{name}` must hold floats, got dtype {array.dtype}."
        raise TypeError(msg)
    if array.dtype.itemsize > 4:
        msg = f"`{name}` must be float32 or shorter, as in the runtimes, got {array.dtype}; convert it first."
        raise TypeError(msg)
    array = array.astype(np.float32)
    if np.isnan(array).any():
        msg = f"`{name}` must hold no NaN, for which runtimes give arbitrary codes; replace it first."
        raise ValueError(msg)
    return array


def _integer_codes(whole: Array, zero: Array, fmt: IntFormat) -> Array:
    """Add zero points to whole floats, and clip."""
    dtype = integer_dtype(fmt)
    codes = np.clip(whole.astype(np.float64) + zero, fmt.min, fmt.max)
    return codes.astype(dtype if dtype.type.__module__ == "numpy" else np.int64).astype(dtype)


def _blocks(each: Array, shape: tuple[int, ...], axis: int, block_size: int | None, name: str) -> Array:
    """Make scales or zero points broadcast with the numbers."""
    if each.ndim == 0 or (each.ndim == 1 and each.size == 1 and block_size is None):
        return each.reshape(())
    if not shape:
        msg = f"`{name}` must be one number for a 0-d array, got shape {each.shape}."
        raise ValueError(msg)
    place = _axis(axis, len(shape))
    if block_size is None:
        if each.shape != (shape[place],):
            msg = f"`{name}` must have shape () or ({shape[place]},) for axis {place}, got {each.shape}."
            raise ValueError(msg)
        return each.reshape([-1 if k == place else 1 for k in range(len(shape))])
    if isinstance(block_size, bool) or not hasattr(block_size, "__index__") or block_size < 1:
        msg = f"`block_size` must be an integer of 1 or more, or None, got {block_size!r}."
        raise (ValueError if isinstance(block_size, int) and not isinstance(block_size, bool) else TypeError)(msg)
    wanted = (*shape[:place], -(-shape[place] // block_size), *shape[place + 1 :])
    if each.shape != wanted:
        msg = f"`{name}` must have shape {wanted} for blocks of {block_size} along axis {place}, got {each.shape}."
        raise ValueError(msg)
    spread = np.repeat(each, block_size, axis=place)
    return spread[tuple(slice(length) for length in shape)]


def _axis(axis: Any, ndim: int) -> int:
    """Check an axis."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        msg = f"`axis` must be an integer, got {axis!r}."
        raise TypeError(msg)
    if not -ndim <= axis < ndim:
        msg = f"`axis` must be from {-ndim} to {ndim - 1} for an array with {ndim} axes, got {axis}."
        raise ValueError(msg)
    return int(axis) % ndim


def _out_format(out: Any, zero_point: Any) -> Format:
    """Return the format of the codes: what is asked for, else that of the zero point, else uint8."""
    if out is not None:
        return any_format(out)
    dtype = getattr(zero_point, "dtype", None)
    found = None if dtype is None else stored_format(np.dtype(dtype).newbyteorder("="))
    if found is not None:
        return found
    if dtype is not None and np.dtype(dtype).kind in "iu":
        return integers(np.zeros(1, dtype), "zero_point")[1]
    return any_format("uint8")


def quantize_linear(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: Any = None,
    *,
    out: Any = None,
    axis: int = 1,
    block_size: int | None = None,
    saturate: bool = True,
) -> Array:
    """Return ONNX's QuantizeLinear: ``clip(rint(x / scale) + zero_point)``, in float32.

    Parameters
    ----------
    x : array_like of float32 or shorter
        Numbers.
    scale : array_like
        Positive; one, one for each index of `axis`, or with `block_size` one for each block along it.
    zero_point : int or array_like, optional
        One, or of the shape of `scale`. An array's dtype is that of the result.
    out : str, FloatFormat or IntFormat, optional
        Format of the result; that of `zero_point`, or uint8.
    axis : int
        Of several scales, or of the blocks.
    block_size : int, optional
        Length of a block; the last may be shorter.
    saturate : bool
        For float formats: the largest value beyond the range, or else infinity or NaN.

    Returns
    -------
    ndarray
        In the dtype of the format.

    Raises
    ------
    TypeError
        If `x` does not hold floats of 32 bits or fewer, or another argument is of the wrong kind.
    ValueError
        If `x` holds NaN; if a scale is zero, negative or not finite; if shapes do not fit; if a zero point lies outside
        the format, or is not 0 for a float format.

    Notes
    -----
    The zero point is added after rounding half to even, so ties do not move with it. Infinities saturate.

    References
    ----------
    ONNX operator QuantizeLinear-25.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> lp.runtimes.quantize_linear(np.float32([-1, 0.5, 1.5, 900]), 1.0, 127)
    array([126, 127, 129, 255], dtype=uint8)
    """
    values = _numbers(x, "x")
    fmt = _out_format(out, zero_point)
    steps = _blocks(scale_array(scale, "scale"), values.shape, axis, block_size, "scale")
    with np.errstate(over="ignore"):
        ratio = np.asarray(values / steps)
    if not isinstance(fmt, IntFormat):
        _refuse_zero_point(zero_point, fmt)
        return np.asarray(cast(ratio, fmt, overflow=_overflow(fmt, saturate=saturate)))
    zero: Array = np.zeros((), np.int64)
    if zero_point is not None:
        given = np.asarray(zero_point)
        points = zero_points(given.reshape(-1), fmt, given.size, "zero_point").reshape(given.shape)
        zero = _blocks(points, values.shape, axis, block_size, "zero_point")
    return _integer_codes(np.rint(ratio), zero, fmt)


def _refuse_zero_point(zero_point: Any, fmt: FloatFormat) -> None:
    """Raise if there is a zero point that is not zero."""
    if zero_point is not None and np.asarray(zero_point).astype(np.float64).any():
        msg = f"`zero_point` must be 0 for the float format `{fmt}`, got {zero_point!r}."
        raise ValueError(msg)


def _overflow(fmt: FloatFormat, *, saturate: bool) -> Saturation:
    """Return what ONNX does beyond the range of a float format."""
    return "saturate" if saturate or not fmt.has_nan else "inf" if fmt.has_inf else "nan"


def dequantize_linear(
    codes: ArrayLike,
    scale: ArrayLike,
    zero_point: Any = None,
    *,
    axis: int = 1,
    block_size: int | None = None,
) -> Array:
    """Return ONNX's DequantizeLinear: ``(codes - zero_point) * scale``.

    Parameters
    ----------
    codes : array_like
        Codes in the dtype of their format: integers, or low-precision floats of ml_dtypes.
    scale : array_like
        As in `quantize_linear`; its dtype is that of the result (float32 for Python numbers).
    zero_point : int or array_like, optional
        One, or of the shape of `scale`.
    axis, block_size
        As in `quantize_linear`.

    Returns
    -------
    ndarray
        Of the dtype of `scale`; computed in float32 and, where `scale` is shorter, rounded once more.

    Raises
    ------
    TypeError
        If `codes` are neither integers nor floats of 16 bits or fewer.
    ValueError
        If a scale is zero, negative or not finite, shapes do not fit, or a zero point lies outside its format, or is
        not 0 for a float format.

    References
    ----------
    ONNX operator DequantizeLinear-25.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> lp.runtimes.dequantize_linear(np.uint8([0, 128, 255]), 0.5, 128)
    array([-64. ,   0. ,  63.5], dtype=float32)
    """
    array = _checks.plain_array(codes, "codes")
    fmt = stored_format(array.dtype.newbyteorder("="))
    if isinstance(fmt, FloatFormat) and array.dtype.itemsize > 2:
        msg = f"`codes` must hold integers or floats of 16 bits or fewer, got dtype {array.dtype}."
        raise TypeError(msg)
    given = _checks.plain_array(scale, "scale")
    result = given.dtype if given.dtype.kind in "fV" and hasattr(scale, "dtype") else np.dtype(np.float32)
    steps = _blocks(scale_array(scale, "scale"), array.shape, axis, block_size, "scale")
    if isinstance(fmt, FloatFormat):
        _refuse_zero_point(zero_point, fmt)
        values = array.astype(np.float32)
    else:
        whole, kind = integers(array, "codes")
        values = whole.astype(np.float64)
        if zero_point is not None:
            point = np.asarray(zero_point)
            points = zero_points(point.reshape(-1), kind, point.size, "zero_point").reshape(point.shape)
            values = values - _blocks(points, array.shape, axis, block_size, "zero_point")
        values = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values * steps, np.float32).astype(result)


def dynamic_quantize_linear(x: ArrayLike) -> tuple[Array, Array, Array]:
    """Return ONNX's DynamicQuantizeLinear: uint8 codes, their scale and their zero point.

    Parameters
    ----------
    x : array_like of float32 or shorter
        Finite numbers.

    Returns
    -------
    codes : ndarray of uint8
        ``clip(rint(x / scale) + zero_point)``.
    scale : ndarray of float32, shape ()
        ``(max(x, 0) - min(x, 0)) / 255``, in float32; 1 where all of `x` is zero, or `x` is empty.
    zero_point : ndarray of uint8, shape ()
        ``clip(rint(-min(x, 0) / scale))``.

    Raises
    ------
    TypeError
        If `x` does not hold floats of 32 bits or fewer.
    ValueError
        If `x` holds a NaN or an infinity, or numbers so far apart that their distance overflows, or so small that the
        scale is zero.

    References
    ----------
    ONNX operator DynamicQuantizeLinear-11.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> codes, scale, zero = lp.runtimes.dynamic_quantize_linear(np.float32([-1, 0, 1.55]))
    >>> codes, float(scale), int(zero)
    (array([  0, 100, 255], dtype=uint8), 0.009999999776482582, 100)
    """
    values = _numbers(x, "x")
    low = np.minimum(values.min(initial=np.float32(0)), np.float32(0))
    high = np.maximum(values.max(initial=np.float32(0)), np.float32(0))
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    if not np.isfinite(scale) or scale == 0:
        msg = f"`x` must have a range with a positive, finite step in float32, got {low} to {high}."
        raise ValueError(msg)
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    codes = np.clip(np.rint(values / scale).astype(np.float64) + zero, 0, 255).astype(np.uint8)
    return codes, np.asarray(scale), np.asarray(zero)


_QUANTIZERS = (
    "even_division",
    "even_reciprocal",
    "even_reciprocal_with_zero_point",
    "away_division",
)


def quantize(
    x: ArrayLike,
    scale: Any,
    zero_point: int = 0,
    *,
    out: Any = "int8",
    runtime: str = "litert-xnnpack",
) -> Array:
    """Turn floats into codes with one scale, as the named runtime does.

    Parameters
    ----------
    x : array_like of float32 or shorter
        Numbers.
    scale : float
        Step between two codes, float32.
    zero_point : int
        Code of zero.
    out : str or IntFormat
        Format of the codes.
    runtime : str
        A name of `lowprec.runtimes.table`, or one of the rules below.

    Returns
    -------
    ndarray
        Codes, in the dtype of the format, clipped to its range.

    Raises
    ------
    TypeError
        If `x` does not hold floats of 32 bits or fewer.
    ValueError
        If `x` holds NaN; if the scale is zero, negative or not finite; if the zero point lies outside the format; if
        the runtime is unknown, or its quantiser is not known to the bit.

    Notes
    -----
    All in float32. ``"even_division"``: ``rint(x / scale) + zero_point`` (ONNX). ``"even_reciprocal"``:
    ``rint(x * (1 / scale)) + zero_point`` (XNNPACK, LiteRT's fast kernels). ``"away_division"``: ``x / scale``, half
    away from zero, plus the zero point (LiteRT's reference). ``"even_reciprocal_with_zero_point"``: ``rint`` of
    ``fma(x, 1 / scale, zero_point)``, so that an odd zero point turns ties around (torch's quantize_per_tensor).

    References
    ----------
    TensorFlow Lite, kernels/internal/reference/quantize.h; FBGEMM, QuantUtilsAvx2.cc, QuantizeAvx2.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.float32([0.5, 1.5, 2.5])
    >>> for name in ("litert-reference", "litert-xnnpack", "torch-fbgemm"):
    ...     print(name, lp.runtimes.quantize(x, 1.0, 1, out="uint8", runtime=name))
    litert-reference [2 3 4]
    litert-xnnpack [1 3 3]
    torch-fbgemm [2 2 4]
    """
    values = _numbers(x, "x")
    fmt = integer_format(out)
    rule = runtime if runtime in _QUANTIZERS else find_runtime(runtime).quantize
    if rule is None:
        close = difflib.get_close_matches(runtime, ["litert-ruy", "litert-reference"], n=1, cutoff=0.3)
        msg = f"`runtime` must be one whose quantiser is known to the bit, got {runtime!r}; the closest: {close}."
        raise ValueError(msg)
    step = scale_array(scale, "scale")
    if step.ndim:
        msg = f"`scale` must be one number, got shape {step.shape}."
        raise ValueError(msg)
    zero = zero_points(zero_point, fmt, 1, "zero_point")
    with np.errstate(over="ignore"):
        if rule == "even_division":
            return _integer_codes(np.rint(values / step), zero, fmt)
        if rule == "away_division":
            ratio = (values / step).astype(np.float64)
            return _integer_codes(np.trunc(ratio + np.copysign(0.5, ratio)), zero, fmt)
        reciprocal = np.float32(1) / step
        if rule == "even_reciprocal":
            return _integer_codes(np.rint(values * reciprocal), zero, fmt)
        product = values.astype(np.float64) * np.float64(reciprocal)  # exact
        total = odd_sum(product, np.full_like(product, float(zero)))
        return _integer_codes(np.rint(total.astype(np.float32)), np.zeros((), np.int64), fmt)
