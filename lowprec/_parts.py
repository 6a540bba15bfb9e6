"""The parts of a QuantizedArray, checked and in their dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.formats import FloatFormat, IntFormat, stored_format


def read_only(array: Array) -> Array:
    """Return a view that cannot be written."""
    view = np.asarray(array).view()  # a scalar, too
    view.flags.writeable = False
    return view


def tensor_scale_of(value: Any) -> np.float32 | None:
    """Check the second scale."""
    if value is None:
        return None
    array = _checks.plain_array(value, "tensor_scale")
    if array.shape != () or array.dtype.kind not in "fiu":
        msg = f"`tensor_scale` must be one real number or None, got {value!r}."
        raise TypeError(msg)
    return np.float32(array[()])


def codes_of(codes: Any, fmt: ElementFormat) -> Array:
    """Return codes in the format's code dtype."""
    array = _checks.plain_array(codes, "codes")
    if (
        not isinstance(fmt, CodebookFormat)
        and array.dtype == fmt.storage_dtype
        and array.dtype.itemsize == fmt.code_dtype.itemsize
        and fmt.name != "tf32"
    ):
        array = array.view(fmt.code_dtype)
        return array & fmt.code_dtype.type((1 << fmt.bits) - 1) if fmt.bits < 8 else array
    if array.dtype.kind not in "iu":
        msg = (
            f"`codes` must be {fmt.code_dtype} codes of `{fmt}`, or an array of its own dtype, got dtype {array.dtype}."
        )
        raise TypeError(msg)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    last = len(fmt.values) - 1 if isinstance(fmt, CodebookFormat) else (1 << fmt.bits) - 1
    if low < 0 or high > last:
        msg = f"`codes` must be from 0 to {last} for `{fmt}`, got {low if low < 0 else high}."
        raise ValueError(msg)
    return array.astype(fmt.code_dtype, copy=False)


def scales_of(scale: Any, name: str) -> Array:
    """Return scales as an array of a floating dtype; Python numbers make float32."""
    array = _checks.plain_array(scale, name)
    if not hasattr(scale, "dtype") and array.dtype.kind in "iuf":
        array = array.astype(np.float32)
    if not isinstance(stored_format(array.dtype.newbyteorder("=")), FloatFormat):
        mend = (
            "; view codes of scales as their dtype, such as ml_dtypes.float8_e8m0fnu" if array.dtype.kind in "u" else ""
        )
        msg = f"`{name}` must be of a floating dtype of NumPy or ml_dtypes, got {array.dtype}{mend}."
        raise TypeError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def zero_points_of(point: Any, fmt: ElementFormat, shape: tuple[int, ...]) -> Array | None:
    """Return zero points as int64 of the scales' shape."""
    if point is None:
        return None
    if not isinstance(fmt, IntFormat):
        msg = f"`zero_point` must be None for `{fmt}`, which is no integer format, got {point!r}."
        raise ValueError(msg)
    array = _checks.plain_array(point, "zero_point")
    if array.dtype.kind not in "iu":
        msg = f"`zero_point` must be of integers, got dtype {array.dtype}."
        raise TypeError(msg)
    if array.shape not in ((), shape):
        msg = f"`zero_point` must be a scalar or have the shape of `scale`, {shape}, got {array.shape}."
        raise ValueError(msg)
    if array.size and (array.min() < fmt.min or array.max() > fmt.max):
        wrong = array.min() if array.min() < fmt.min else array.max()
        msg = f"`zero_point` must be from {int(fmt.min)} to {int(fmt.max)} for `{fmt}`, got {wrong}."
        raise ValueError(msg)
    return np.broadcast_to(array.astype(np.int64), shape)
