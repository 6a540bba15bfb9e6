"""Exact sums of integer layers, and ONNX's two operators that give nothing else."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._integer_product import product
from lowprec._patches import Layer, cut, lay_out, patches, rooms
from lowprec.runtimes._operands import integers, one_for_each, zero_points


def _multiply(a: Array, b: Array, zero_a: Array, zero_b: Array) -> Array:
    """Return the sums of a matrix product: int32, which wraps, or int64 where an operand has more than 8 bits."""
    if a.dtype.itemsize == b.dtype.itemsize == 1:
        return product(a, b, zero_a=_or_none(zero_a), zero_b=_or_none(zero_b))
    left = a.astype(np.float64) - (zero_a[:, np.newaxis] if zero_a.ndim else zero_a)
    right = b.astype(np.float64) - zero_b
    sums: Array = np.matmul(left, right).astype(np.int64)  # exact: 2**34 * K is below 2**53 for K up to 2**19
    return sums


def _or_none(zero: Array) -> Any:
    """Return a zero point as `product` takes it."""
    return zero if zero.ndim else (int(zero) or None)


def linear_sums(x: Array, w: Array, zero_x: Array, zero_w: Array) -> Array:
    """Return the sums of ``x @ w.T``."""
    flat = np.ascontiguousarray(x.reshape(-1, x.shape[-1]))
    return _multiply(flat, w.T, zero_x, zero_w).reshape(*x.shape[:-1], w.shape[0])


def same_padding(shape: tuple[int, ...], kernel: tuple[int, ...], stride: Any, dilation: Any) -> Any:
    """Return the padding of TensorFlow's "SAME": the result has ceil(length / stride) positions."""
    steps, spread = (tuple(each) if np.ndim(each) else (each, each) for each in (stride, dilation))
    sides = []
    for length, taps, step, apart in zip(shape, kernel, steps, spread, strict=True):
        total = max((-(-length // step) - 1) * step + apart * (taps - 1) + 1 - length, 0)
        sides.append((total // 2, total - total // 2))
    return tuple(sides)


def conv_sums(x: Array, w: Array, zero_x: Array, zero_w: Array, how: tuple[Any, Any, Any, Any]) -> Array:
    """Return the sums of a convolution, shape (N, O, OH, OW); ``how`` is stride, padding, dilation, groups.

    The padding is the zero point of ``x``.
    """
    stride, padding, dilation, groups = how
    whole = x if x.ndim == 4 else x[np.newaxis]
    if isinstance(padding, str) and padding == "same" and w.ndim == 4 and x.ndim in (3, 4):
        lay_out(whole, w, stride, [1 << 20, 1 << 20], dilation, groups)  # checks all but the padding
        padding = same_padding(whole.shape[2:], w.shape[2:], stride, dilation)
    layer = lay_out(whole, w, stride, padding, dilation, groups)
    v = layer.window
    reach = [
        (count - 1) * step + (taps - 1) * apart + 1
        for count, step, taps, apart in (
            (v.out_height, v.stride_rows, v.kernel_height, v.dilation_rows),
            (v.out_width, v.stride_columns, v.kernel_width, v.dilation_columns),
        )
    ]
    below, right = (
        max(0, need - top - n) for need, top, n in zip(reach, (v.top, v.left), whole.shape[2:], strict=True)
    )
    padded = np.pad(whole, ((0, 0), (0, 0), (v.top, below), (v.left, right)), constant_values=int(zero_x))
    unpadded = v._replace(height=padded.shape[2], width=padded.shape[3], top=0, left=0)
    layer = layer._replace(padded=False, window=unpadded)
    if layer.channels == layer.groups > 1:
        return _depthwise(padded, w, zero_x, zero_w, layer)
    return _by_patches(padded, w, zero_x, zero_w, layer)


def _depthwise(x: Array, w: Array, zero_x: Array, zero_w: Array, layer: Layer) -> Array:
    """Sum kernel element by kernel element where a channel is a group."""
    v, times = layer.window, layer.outputs // layer.channels
    dtype: Any = np.int32 if x.dtype.itemsize == w.dtype.itemsize == 1 else np.int64
    images: Array = np.asarray(x.astype(dtype) - zero_x.astype(dtype))
    kernels: Array = np.asarray(w.astype(dtype) - zero_w.astype(dtype).reshape(-1, 1, 1, 1))
    kernels = kernels.reshape(layer.channels, times, v.kernel_height, v.kernel_width)
    total = np.zeros((layer.images, layer.channels, times, v.out_height, v.out_width), dtype)
    for i in range(v.kernel_height):
        for j in range(v.kernel_width):
            rows = slice(
                i * v.dilation_rows, i * v.dilation_rows + (v.out_height - 1) * v.stride_rows + 1, v.stride_rows
            )
            first = j * v.dilation_columns
            columns = slice(first, first + (v.out_width - 1) * v.stride_columns + 1, v.stride_columns)
            total += images[:, :, np.newaxis, rows, columns] * kernels[:, :, i, j, np.newaxis, np.newaxis]
    return total.reshape(layer.images, layer.outputs, v.out_height, v.out_width)


def _by_patches(x: Array, w: Array, zero_x: Array, zero_w: Array, layer: Layer) -> Array:
    """Sum products of the weights with the matrix of patches, part by part."""
    v, groups = layer.window, layer.groups
    each, depth = layer.outputs // groups, layer.depth // groups
    dtype = np.int32 if x.dtype.itemsize == w.dtype.itemsize == 1 else np.int64
    total = np.empty((layer.images, layer.outputs, layer.positions), dtype)
    patterns = np.ascontiguousarray(x).view(f"u{x.itemsize}")
    parts = cut(layer, x.itemsize, each=False) if total.size else []
    room = rooms(layer, parts, patterns)
    weights = w.reshape(layer.outputs, depth)
    for part in parts:
        columns = patches(patterns, layer, part, room).view(x.dtype)
        for group in range(groups):
            outputs = slice(group * each, (group + 1) * each)
            zero = zero_w[outputs] if zero_w.ndim else zero_w
            read = columns[group * depth : (group + 1) * depth]
            sums = _multiply(weights[outputs], read, zero, zero_x)
            place = total[part.image : part.last_image, outputs, part.first : part.last]
            place[...] = sums.reshape(each, part.last_image - part.image, -1).transpose(1, 0, 2)
    return total.reshape(layer.images, layer.outputs, v.out_height, v.out_width)


def matmul_integer(a: ArrayLike, b: ArrayLike, a_zero_point: Any = 0, b_zero_point: Any = 0) -> Array:
    """Return ONNX's MatMulInteger: the exact product of 8-bit integers less their zero points.

    Parameters
    ----------
    a, b : array_like of int8 or uint8
        With the shapes and broadcasting of `numpy.matmul`; one-dimensional operands are not taken.
    a_zero_point : int or array_like
        One, or one for each row of `a`.
    b_zero_point : int or array_like
        One, or one for each column of `b`.

    Returns
    -------
    ndarray of int32
        Modulo 2**32.

    Raises
    ------
    TypeError
        If an operand or a zero point does not hold integers of 8 bits.
    ValueError
        If shapes do not fit, or a zero point lies outside the format of its operand.

    References
    ----------
    ONNX operator MatMulInteger-10.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> a, b = np.array([[11, 7, 3]], np.uint8), np.array([[1], [2], [3]], np.int8)
    >>> lp.runtimes.matmul_integer(a, b, a_zero_point=12)
    array([[-38]], dtype=int32)
    """
    x, x_fmt = integers(a, "a")
    y, y_fmt = integers(b, "b")
    _eight_bits(x, "a")
    _eight_bits(y, "b")
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-2]:
        msg = f"`a` and `b` must have shapes (..., M, K) and (..., K, N), got {x.shape} and {y.shape}."
        raise ValueError(msg)
    zero_x = zero_points(a_zero_point, x_fmt, x.shape[-2], "a_zero_point")
    zero_y = zero_points(b_zero_point, y_fmt, y.shape[-1], "b_zero_point")
    if x.ndim == y.ndim == 2:
        return _multiply(x, y, zero_x, zero_y)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    left = np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
    right = np.broadcast_to(y, (*batch, *y.shape[-2:])).reshape(-1, *y.shape[-2:])
    result = np.empty((math.prod(batch), x.shape[-2], y.shape[-1]), np.int32)
    for place, one, other in zip(result, left, right, strict=True):
        place[...] = _multiply(one, other, zero_x, zero_y)
    return result.reshape(*batch, *result.shape[1:])


def _eight_bits(x: Array, name: str) -> None:
    """Refuse longer integers."""
    if x.dtype.itemsize != 1:
        msg = f"`{name}` must hold integers of 8 bits or fewer, got dtype {x.dtype}."
        raise TypeError(msg)


def conv_integer(
    x: ArrayLike,
    w: ArrayLike,
    x_zero_point: Any = 0,
    w_zero_point: Any = 0,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """Return ONNX's ConvInteger in two dimensions: exact sums, padded with the zero point.

    Parameters
    ----------
    x : array_like of int8 or uint8, shape (N, C, H, W) or (C, H, W)
        Images.
    w : array_like of int8 or uint8, shape (O, C // groups, KH, KW)
        Weights.
    x_zero_point : int
        That of the images, and their padding.
    w_zero_point : int or array_like, shape (O,)
        One, or one for each output.
    stride, padding, dilation, groups
        As in `lowprec.conv2d`; "same" with a stride is TensorFlow's, ``ceil(length / stride)`` positions.

    Returns
    -------
    ndarray of int32, shape (N, O, OH, OW) or (O, OH, OW)
        Modulo 2**32.

    Raises
    ------
    TypeError
        If an operand or a zero point does not hold integers of 8 bits.
    ValueError
        As `lowprec.conv2d` for shapes; or if a zero point lies outside the format of its operand.

    References
    ----------
    ONNX operator ConvInteger-10.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.arange(2, 11, dtype=np.uint8).reshape(1, 1, 3, 3)
    >>> lp.runtimes.conv_integer(x, np.ones((1, 1, 2, 2), np.uint8), x_zero_point=1)
    array([[[[12, 16],
             [24, 28]]]], dtype=int32)
    """
    images, x_fmt = integers(x, "x")
    weights, w_fmt = integers(w, "w")
    _eight_bits(images, "x")
    _eight_bits(weights, "w")
    zero_x = one_for_each(zero_points(x_zero_point, x_fmt, 1, "x_zero_point"), 1, "x_zero_point")
    zero_w = zero_points(w_zero_point, w_fmt, weights.shape[0] if weights.ndim else 1, "w_zero_point")
    total = conv_sums(images, weights, zero_x, zero_w, (stride, padding, dilation, groups))
    return total[0] if images.ndim == 3 else total
