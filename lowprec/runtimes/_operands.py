"""The integers of a layer with their scales and zero points, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.formats import IntFormat, stored_format
from lowprec.formats import format as _format


class Operand(NamedTuple):
    """Integers, in a NumPy dtype, with what turns them into numbers."""

    values: Array
    fmt: IntFormat
    scale: Array  # float32, of shape () or one for each output channel
    zero: Array  # int64, alike


def _from_quantized(q: QuantizedArray, name: str, axis: int | None) -> tuple[Array, IntFormat, Array, Array]:
    """Take a QuantizedArray apart."""
    if not isinstance(q.format, IntFormat):
        msg = f"`{name}` must hold integers, got a QuantizedArray of `{q.format}`."
        raise ValueError(msg)
    if q.block_size is not None or q.axis not in (None, axis):
        rule = "one scale" if axis is None else f"one scale, or one for each index of axis {axis}"
        msg = f"`{name}` must have {rule}, got {q!r}."
        raise ValueError(msg)
    if q.tensor_scale is not None or q.offset is not None:
        msg = f"`{name}` must have no tensor_scale and no offset, which integer layers do not know, got {q!r}."
        raise ValueError(msg)
    bits = q.format.bits
    values = q.codes.astype(np.int64)
    if q.format.is_signed:
        values = (values ^ (1 << (bits - 1))) - (1 << (bits - 1))
    dtype = np.dtype(f"{'i' if q.format.is_signed else 'u'}{q.format.code_dtype.itemsize}")
    zero = np.zeros((), np.int64) if q.zero_point is None else np.asarray(q.zero_point, np.int64)
    return values.astype(dtype), q.format, np.asarray(q.scale), zero


def integers(x: Any, name: str) -> tuple[Array, IntFormat]:
    """Return integers in a NumPy dtype, and their format."""
    array = _checks.plain_array(x, name)
    fmt = stored_format(array.dtype.newbyteorder("="))
    if isinstance(fmt, IntFormat) and array.dtype.type.__module__ != "numpy":
        return array.astype(np.int8 if fmt.is_signed else np.uint8), fmt
    if array.dtype.kind not in "iu":
        msg = f"`{name}` must hold integers such as int8, got dtype {array.dtype}; quantise it first."
        raise TypeError(msg)
    found = _format(f"{'int' if array.dtype.kind == 'i' else 'uint'}{min(32, array.dtype.itemsize * 8)}")
    if not isinstance(found, IntFormat) or array.dtype.itemsize > 4:
        msg = f"`{name}` must hold integers of 32 bits or fewer, got dtype {array.dtype}."
        raise TypeError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False), found


def scale_array(scale: Any, name: str) -> Array:
    """Check scales and return them as float32."""
    given = _checks.plain_array(scale, name)
    if given.dtype.kind not in "fiuV" and given.dtype.type.__module__ == "numpy":
        msg = f"`{name}` must hold real numbers, got dtype {given.dtype}."
        raise TypeError(msg)
    with np.errstate(over="ignore", under="ignore"):
        short = given.astype(np.float32)
    good = np.isfinite(short) & (short > 0)
    if not good.all():
        msg = (
            f"`{name}` must be positive and finite in float32, got {np.asarray(given[~good]).flat[0]}; give the step "
            "between two codes."
        )
        raise ValueError(msg)
    return short


def _zero_points(zero: Any, fmt: IntFormat, name: str) -> Array:
    """Check zero points and return them as int64."""
    array = _checks.plain_array(zero, name)
    if array.dtype.kind not in "iu" and not isinstance(stored_format(array.dtype), IntFormat):
        msg = f"`{name}` must hold integers, got dtype {array.dtype}."
        raise TypeError(msg)
    array = array.astype(np.int64)
    wrong = (array < fmt.min) | (array > fmt.max)
    if wrong.any():
        msg = f"`{name}` must be from {int(fmt.min)} to {int(fmt.max)} for `{fmt}`, got {array[wrong].flat[0]}."
        raise ValueError(msg)
    return array


def one_for_each(array: Array, count: int, name: str) -> Array:
    """Return an array of one number, or of one for each of ``count`` channels."""
    if array.size == 1:
        return array.reshape(())
    if array.shape != (count,):
        msg = f"`{name}` must be one number, or one for each of {count} outputs, got shape {array.shape}."
        raise ValueError(msg)
    return array


def operand(x: Any, scale: Any, zero: Any, name: str, axis: int | None) -> Operand:
    """Check an operand of a layer; ``axis`` is the one that several scales may go with, None for the activations."""
    if isinstance(x, QuantizedArray):
        if scale is not None:
            msg = f"`{name}_scale` must be None for a QuantizedArray, which has its own, got {scale!r}."
            raise ValueError(msg)
        values, fmt, scale, point = _from_quantized(x, name, axis)
    else:
        if scale is None:
            msg = f"`{name}_scale` must be given for an array of integers, got None; or pass a QuantizedArray."
            raise TypeError(msg)
        values, fmt = integers(x, name)
        point = _zero_points(zero, fmt, f"{name}_zero_point")
    count = 1 if axis is None or not values.ndim else values.shape[axis]
    scales = one_for_each(scale_array(scale, f"{name}_scale"), count, f"{name}_scale")
    return Operand(values, fmt, scales, one_for_each(point, count, f"{name}_zero_point"))


def zero_points(zero: Any, fmt: IntFormat, count: int, name: str) -> Array:
    """Check zero points: one, or one for each of ``count``."""
    return one_for_each(_zero_points(zero, fmt, name), count, name)
