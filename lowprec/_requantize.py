"""requantize: sums of integers become the next layer's integers, by the rule of a deployed runtime."""

from __future__ import annotations

import difflib
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks, _threads
from lowprec._checks import Array
from lowprec.formats import Format, IntFormat
from lowprec.kernels import requantize as kernels

_CHUNK = 1 << 16  # elements that a thread takes at a time
_FIXED = {
    "fixed_point": kernels.DOUBLE,
    "fixed_point_ruy": kernels.HALF_UP,
    "fixed_point_single_rounding": kernels.SINGLE,
    "fixed_point_16x8": kernels.SINGLE,
}
_FLOAT = {"float": kernels.EVEN_32, "float64_away": kernels.AWAY_64, "exact": kernels.EXACT}
METHODS = (*_FIXED, *_FLOAT)


class FixedPoint(NamedTuple):
    """A scale as an integer and a shift: ``multiplier * 2**(shift - 31)``.

    Parameters
    ----------
    multiplier : int or ndarray of int32
        From 2**30 to 2**31 - 1, or 0.
    shift : int or ndarray of int32
        From -31 to 30.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.requantize([1000], lp.FixedPoint(2**30, -3))  # 1/16
    array([63], dtype=int8)
    """

    multiplier: Any
    shift: Any


def quantize_multiplier(scale: ArrayLike) -> FixedPoint:
    """Return scales as the 31-bit integers and the shifts that fixed-point runtimes multiply by.

    Parameters
    ----------
    scale : array_like
        Positive numbers below 2**30, taken as float64.

    Returns
    -------
    FixedPoint
        The pair ``(multiplier, shift)``: ``scale = multiplier * 2**(shift - 31)``, rounded to 31 bits. The multiplier
        is from 2**30 to 2**31 - 1 and the shift from -31 to 30. Where the shift would be below -31 both are 0, and
        every product is. Python ints for one scale, else int32 arrays of its shape.

    Raises
    ------
    TypeError
        If `scale` does not hold real numbers.
    ValueError
        If a scale is zero, negative, NaN, infinite, or 2**30 or more.

    Notes
    -----
    ``m, e = frexp(scale)``; the multiplier is ``m * 2**31`` rounded half away from zero. If that is 2**31, it is halved
    and the shift is one more. A subnormal scale is far below the smallest shift and gives (0, 0).

    References
    ----------
    TensorFlow Lite, kernels/internal/quantization_util.cc, QuantizeMultiplier.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.quantize_multiplier(0.75)
    FixedPoint(multiplier=1610612736, shift=0)
    >>> lp.quantize_multiplier(1 / 3).multiplier * 2.0 ** (-1 - 31)
    0.3333333332557231
    """
    scales = _scales(scale)
    if scales.size and scales.max() >= 2.0**30:
        msg = f"`scale` must be below 2**30 for a fixed-point multiplier, got {scales.max()}."
        raise ValueError(msg)
    fraction, exponent = np.frexp(scales)
    multiplier = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    exponent = exponent.astype(np.int64)
    full = multiplier == 2**31
    multiplier, exponent = np.where(full, 2**30, multiplier), exponent + full
    lost = exponent < -31
    multiplier, exponent = np.where(lost, 0, multiplier), np.where(lost, 0, exponent)
    if scales.ndim == 0:
        return FixedPoint(int(multiplier), int(exponent))
    return FixedPoint(multiplier.astype(np.int32), exponent.astype(np.int32))


def _scales(scale: Any, name: str = "scale") -> Array:
    """Check real scales and return them as float64."""
    given = _checks.plain_array(scale, name)
    try:
        array = given.astype(np.float64) if given.dtype.kind != "c" else None
    except (TypeError, ValueError):
        array = None
    if array is None or given.dtype.kind in "bSUmM":
        msg = f"`{name}` must hold real numbers, got dtype {given.dtype}."
        raise TypeError(msg)
    good = (array > 0) & np.isfinite(array)
    if not good.all():
        msg = f"`{name}` must be positive and finite, got {array[~good].flat[0]}; give the step between two codes."
        raise ValueError(msg)
    return array


def _pair(scale: Any) -> FixedPoint | None:
    """Return a given pair of multiplier and shift, checked, or None if `scale` is something else."""
    if not isinstance(scale, tuple) or len(scale) != 2:
        return None
    multiplier, shift = (np.asarray(each) for each in scale)
    if multiplier.dtype.kind not in "iu" or shift.dtype.kind not in "iu":
        return None
    if multiplier.shape != shift.shape:
        msg = f"`scale` must be a multiplier and a shift of one shape, got {multiplier.shape} and {shift.shape}."
        raise ValueError(msg)
    if multiplier.size and not (multiplier.min() >= 0 and multiplier.max() < 2**31):
        wrong = multiplier.min() if multiplier.min() < 0 else multiplier.max()
        msg = f"`scale` must have multipliers from 0 to 2**31 - 1, got {wrong}; see `quantize_multiplier`."
        raise ValueError(msg)
    if shift.size and not (shift.min() >= -31 and shift.max() <= 30):
        msg = f"`scale` must have shifts from -31 to 30, got {shift.min() if shift.min() < -31 else shift.max()}."
        raise ValueError(msg)
    return FixedPoint(multiplier.astype(np.int64), shift.astype(np.int64))


def check_method(method: Any) -> str:
    """Return a method's name, or raise with the close ones."""
    if isinstance(method, str) and method in METHODS:
        return method
    close = difflib.get_close_matches(str(method), METHODS, n=2, cutoff=0.4)
    hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
    msg = f"`method` must be one of {', '.join(METHODS)}, got {method!r}{hint}"
    raise (ValueError if isinstance(method, str) else TypeError)(msg)


def any_format(out: Any, name: str = "out") -> Format:
    """Return a format; of a dtype such as uint16 too, which is in no table."""
    if isinstance(out, (np.dtype, type)) and np.dtype(out).kind in "iu":
        out = np.dtype(out).name
    return _checks.fmt_of(out, name)


def integer_format(out: Any, name: str = "out") -> IntFormat:
    """Return an integer format."""
    fmt = any_format(out, name)
    if not isinstance(fmt, IntFormat):
        msg = f"`{name}` must be an integer format such as 'int8', got `{fmt}`."
        raise ValueError(msg)
    return fmt


def integer_dtype(fmt: IntFormat) -> np.dtype[Any]:
    """Return the dtype of an array of a format's integers as values."""
    return fmt.storage_dtype or np.dtype(f"{'i' if fmt.is_signed else 'u'}{fmt.code_dtype.itemsize}")


def check_zero_point(zero_point: Any, fmt: IntFormat, name: str = "zero_point") -> int:
    """Return one zero point of a format."""
    if isinstance(zero_point, (bool, np.bool_)) or not hasattr(zero_point, "__index__"):
        array = np.asarray(zero_point)
        if array.ndim or array.dtype.kind not in "iu":
            msg = f"`{name}` must be an integer, got {zero_point!r} of type {type(zero_point).__name__}."
            raise TypeError(msg)
        zero_point = array[()]
    if not fmt.min <= zero_point <= fmt.max:
        msg = f"`{name}` must be from {int(fmt.min)} to {int(fmt.max)} for `{fmt}`, got {int(zero_point)}."
        raise ValueError(msg)
    return int(zero_point)


def _bounds(clip: Any, fmt: IntFormat) -> tuple[int, int]:
    """Return the least and the largest code."""
    low, high = int(fmt.min), int(fmt.max)
    if clip is None:
        return low, high
    if not isinstance(clip, (tuple, list)) or len(clip) != 2:
        msg = f"`clip` must be a pair (least, largest) of integers, got {clip!r}."
        raise TypeError(msg)
    least = low if clip[0] is None else check_zero_point(clip[0], fmt, "clip")
    largest = high if clip[1] is None else check_zero_point(clip[1], fmt, "clip")
    if least > largest:
        msg = f"`clip` must be (least, largest), got ({least}, {largest})."
        raise ValueError(msg)
    return least, largest


def _sums(acc: Any, method: str) -> Array:
    """Check the sums and return them as int32 or int64."""
    array = _checks.plain_array(acc, "acc")
    if array.dtype.kind not in "iu":
        msg = f"`acc` must hold integers, the sums of products, got dtype {array.dtype}."
        raise TypeError(msg)
    if array.dtype.itemsize < 4 or array.dtype == np.int32:
        return array.astype(np.int32, copy=False)
    bits = 47 if method == "fixed_point_16x8" else 53 if method in _FLOAT else 31
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < -(2**bits) or high >= 2**bits:
            wrong = low if low < -(2**bits) else high
            msg = f"`acc` must be from -2**{bits} to 2**{bits} - 1 for method {method!r}, got {wrong}."
            raise ValueError(msg)
    return array.astype(np.int32 if bits == 31 else np.int64)


class _View(NamedTuple):
    """How an array is cut into rows: the scales go with rows or with columns."""

    shape: tuple[int, int]
    by_row: bool


def _view(shape: tuple[int, ...], axis: int | None) -> _View:
    """Choose rows that one scale goes with, or as many scales as there are columns."""
    size = math.prod(shape)
    if axis is None:
        return _View((1, size), True)
    inner = math.prod(shape[axis + 1 :])
    return _View((size // inner, inner), True) if inner > 1 else _View((size // shape[axis], shape[axis]), False)


def _run(kernel: Any, acc: Array, out: Array, rule: int, scales: tuple[Array, ...], by_row: bool, ends: Any) -> None:
    """Apply a kernel to blocks on all threads."""
    rows, columns = acc.shape
    tall, wide = max(1, _CHUNK // columns), columns if rows > 1 or not by_row else _CHUNK
    across = -(-columns // wide)
    pieces = _threads.Pieces(-(-rows // tall) * across)

    def task() -> None:
        for piece in pieces:
            begin, left = piece // across * tall, piece % across * wide
            block = slice(begin, begin + tall), slice(left, left + wide)
            kernel(acc[block], out[block], rule, *scales, by_row, begin, *ends)

    _threads.share(task, 1 if acc.size <= 2 * _CHUNK else _threads.get_num_threads())


def _shifts(pair: FixedPoint, method: str) -> tuple[Array, Array, Array]:
    """Return the multipliers and the shifts to the left and to the right of the kernels."""
    q, e = (np.ravel(np.asarray(each, np.int64)) for each in pair)
    none = np.zeros_like(e)
    if method == "fixed_point_single_rounding":
        return q, none, 31 - e
    if method == "fixed_point_16x8":
        if e.size and e.max() > 7:
            msg = f"`scale` must be below 2**7 for method {method!r}, got a shift of {e.max()}."
            raise ValueError(msg)
        return np.where(q < 0x7FFF0000, (q + 2**15) >> 16, 0x7FFF), none, 15 - e
    return q, np.maximum(e, 0), np.maximum(-e, 0)


def requantize(
    acc: ArrayLike,
    scale: Any,
    out: Any = "int8",
    *,
    zero_point: Any = 0,
    method: str = "fixed_point",
    axis: int | None = None,
    clip: tuple[int | None, int | None] | None = None,
) -> Array:
    """Multiply sums of integer products by a scale and round to integers, by the rule of a deployed runtime.

    Parameters
    ----------
    acc : array_like of int
        The sums, int32 or shorter; int64 where the method takes it (16x8 and the floating-point methods).
    scale : array_like or pair (multiplier, shift)
        ``x_scale * w_scale / out_scale``, positive; one, or with `axis` one for each index there. The fixed-point
        methods also take the pair that `quantize_multiplier` gives.
    out : str or IntFormat
        Format of the result: any integer format.
    zero_point : int
        The code of zero, added to the rounded product.
    method : str
        ``"fixed_point"``: gemmlowp's, the product rounded half up to 32 bits, then half away from zero by the shift;
        TFLite's reference kernels and TFLite Micro.
        ``"fixed_point_single_rounding"``: one rounding, half up; TFLite built with TFLITE_SINGLE_ROUNDING.
        ``"fixed_point_ruy"``: as the first, but half up both times; ruy, and Arm's NEON instructions.
        ``"fixed_point_16x8"``: a multiplier of 15 bits and 64-bit sums, one rounding, half up; TFLite's 16x8 layers.
        ``"float"``: ``rint(float32(acc) * float32(scale))``, half to even; ONNX Runtime, XNNPACK, FBGEMM, QNNPACK.
        ``"float64_away"``: the float64 product, half away from zero; LiteRT's reference fully-connected layer.
        ``"exact"``: the exact product of `acc` and the float64 `scale`, half to even; no runtime does this.
    axis : int, optional
        The axis of `acc` that several scales go with, such as the output channel.
    clip : pair of int, optional
        The least and the largest code to give, as a fused activation has it; None for the format's own.

    Returns
    -------
    ndarray
        Of the shape of `acc`, in the format's dtype: int8, uint8, int16, ..., or that of ml_dtypes below 8 bits.
        Codes beyond the ends are the ends.

    Raises
    ------
    TypeError
        If `acc` or `zero_point` does not hold integers, or an argument is of another kind.
    ValueError
        If a scale is zero, negative, NaN or infinite, or too large for the method, or rounds to zero in float32 for
        ``"float"``; if `zero_point` or `clip` lies outside `out`; if a sum has too many bits; if the number of scales
        does not fit `axis`.

    Notes
    -----
    The methods differ by 1 at most, unless something overflows, and almost only where the product lies on a tie: at
    scales such as 1/16, not at random ones. A scale of 1 or more is applied in the two-step methods by shifting `acc`
    left in 32 bits first, which wraps, as it does in the runtimes.

    A positive scale that is subnormal, or otherwise too small to move any sum away from zero, gives the zero point.

    References
    ----------
    Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
    arXiv:1712.05877, section 2.2.
    TensorFlow Lite, kernels/internal/common.h, MultiplyByQuantizedMultiplier; gemmlowp, fixedpoint/fixedpoint.h.

    Examples
    --------
    >>> import lowprec as lp
    >>> acc = [-40, -24, -8, 8, 24, 40]
    >>> for method in ("fixed_point", "fixed_point_single_rounding", "fixed_point_ruy", "float", "float64_away"):
    ...     print(f"{method:27} {lp.requantize(acc, 1 / 16, method=method)}")
    fixed_point                 [-3 -2 -1  1  2  3]
    fixed_point_single_rounding [-2 -1  0  1  2  3]
    fixed_point_ruy             [-2 -1  0  1  2  3]
    float                       [-2 -2  0  0  2  2]
    float64_away                [-3 -2 -1  1  2  3]
    >>> lp.requantize(acc, 1 / 16, "uint8", zero_point=3, clip=(3, None))  # with a fused ReLU
    array([3, 3, 3, 4, 5, 6], dtype=uint8)
    """
    method = check_method(method)
    fmt = integer_format(out)
    zero = check_zero_point(zero_point, fmt)
    low, high = _bounds(clip, fmt)
    sums = _sums(acc, method)
    pair = _pair(scale)
    if pair is not None and method in _FLOAT:
        msg = f"`scale` must be a real number for method {method!r}, got a pair of multiplier and shift."
        raise TypeError(msg)
    real = None if pair is not None else _scales(scale)
    shape = real.shape if pair is None and real is not None else np.shape(pair[0] if pair else ())
    place = _place(axis, shape, sums.shape)
    view = _view(sums.shape, place)
    dtype = integer_dtype(fmt)
    plain = dtype if dtype.type.__module__ == "numpy" else np.dtype("i1" if fmt.is_signed else "u1")
    result = np.empty(sums.shape, plain)
    if result.size:
        x, y = np.ascontiguousarray(sums).reshape(view.shape), result.reshape(view.shape)
        if real is not None and method in _FLOAT:
            _run(
                kernels.floating,
                x,
                y,
                _FLOAT[method],
                (_floats(real, method),),
                view.by_row,
                tuple(map(float, (zero, low, high))),
            )
        else:
            scales = _shifts(pair or quantize_multiplier(scale), method)
            _run(kernels.fixed, x, y, _FIXED[method], scales, view.by_row, (zero, low, high))
    return result if plain == dtype else result.astype(dtype)


def _floats(real: Array, method: str) -> Array:
    """Return scales as the kernels take them."""
    flat = np.ravel(real)
    if method == "float":
        with np.errstate(over="ignore", under="ignore"):
            short = flat.astype(np.float32)
        if not (np.isfinite(short) & (short > 0)).all():
            wrong = flat[~(np.isfinite(short) & (short > 0))][0]
            msg = f"`scale` must stay positive and finite in float32 for method 'float', got {wrong}."
            raise ValueError(msg)
        flat = short.astype(np.float64)
    return flat


def _place(axis: Any, scales: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """Return the axis that the scales go with, counted from the front."""
    count = math.prod(scales)
    if axis is None:
        if count != 1:
            msg = f"`axis` must say which axis of `acc` the {count} scales go with, got None."
            raise ValueError(msg)
        return None
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        msg = f"`axis` must be an integer or None, got {axis!r}."
        raise TypeError(msg)
    place = int(axis.__index__())
    if not -len(shape) <= place < len(shape):
        msg = f"`axis` must be from {-len(shape)} to {len(shape) - 1} for `acc` of shape {shape}, got {place}."
        raise ValueError(msg)
    place %= len(shape)
    if count == 1:
        return None
    if len(scales) != 1 or scales[0] != shape[place]:
        msg = f"`scale` must have shape ({shape[place]},) for axis {place} of `acc`, got {scales}."
        raise ValueError(msg)
    return place
