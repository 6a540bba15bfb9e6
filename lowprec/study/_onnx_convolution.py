"""Convolutions as ONNX describes them: what their attributes mean, and the layer they come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec.nn import Arithmetic
from lowprec.nn._convolution import convolution, transposed_convolution

_SAME = ("SAME_UPPER", "SAME_LOWER")


class Window(NamedTuple):
    """Where a convolution reads, or where a transposed one writes; one number for each spatial axis.

    Parameters
    ----------
    stride, dilation : tuple of int
        Steps between positions, and between the elements of the kernel.
    sides : tuple of pair of int
        Zeros before and after; of a transposed convolution, what is cut from the result.
    groups : int
        Groups of channels.
    longer : tuple of int
        Of a transposed convolution: what the result is longer at the end.
    """

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    groups: int
    longer: tuple[int, ...] = ()


def window(
    x: Sequence[int],
    w: Sequence[int],
    *,
    auto_pad: Any = None,
    dilations: Any = None,
    group: Any = None,
    pads: Any = None,
    strides: Any = None,
    kernel_shape: Any = None,
) -> Window:
    """Return where a ``Conv`` reads.

    Parameters
    ----------
    x, w : sequence of int
        Shapes of the images and of the weights.
    auto_pad, dilations, group, pads, strides, kernel_shape
        Attributes of the operator; None where the file has none.

    Returns
    -------
    Window
        With every padding in numbers.

    Raises
    ------
    ValueError
        If `kernel_shape` is not that of the weights.

    References
    ----------
    ONNX, operator Conv, attributes ``auto_pad`` and ``pads``.

    Examples
    --------
    >>> from lowprec.study._onnx_convolution import window
    >>> window((1, 3, 8, 8), (4, 3, 3, 3), auto_pad="SAME_LOWER", strides=[2, 2]).sides
    ((1, 0), (1, 0))
    """
    axes, kernel = len(x) - 2, tuple(w[2:])
    _check_kernel(kernel, kernel_shape)
    stride, dilation = tuple(strides or (1,) * axes), tuple(dilations or (1,) * axes)
    if auto_pad in _SAME:
        # As many results as the stride fits into the image, rounded up.
        extents = (d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
        wanted = [
            max(0, (-(-length // step) - 1) * step + extent - length)
            for length, step, extent in zip(x[2:], stride, extents, strict=True)
        ]
        sides = tuple(_halves(total, larger_last=auto_pad == "SAME_UPPER") for total in wanted)
    elif auto_pad == "VALID" or not pads:
        sides = ((0, 0),) * axes
    else:
        sides = tuple(zip(pads[:axes], pads[axes:], strict=True))
    return Window(stride, dilation, sides, group or 1)


def transposed_window(
    x: Sequence[int],
    w: Sequence[int],
    *,
    auto_pad: Any = None,
    dilations: Any = None,
    group: Any = None,
    pads: Any = None,
    strides: Any = None,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
) -> Window:
    """Return where a ``ConvTranspose`` writes.

    Parameters
    ----------
    x, w : sequence of int
        Shapes of the images and of the weights.
    auto_pad, dilations, group, pads, strides, kernel_shape, output_padding, output_shape
        Attributes of the operator; None where the file has none.

    Returns
    -------
    Window
        With every padding in numbers.

    Raises
    ------
    ValueError
        If `kernel_shape` is not that of the weights.

    References
    ----------
    ONNX, operator ConvTranspose: the formulas for ``output_shape`` and ``pads``.

    Examples
    --------
    >>> from lowprec.study._onnx_convolution import transposed_window
    >>> transposed_window((1, 3, 8), (3, 4, 3), strides=[2], output_shape=[16]).sides
    ((1, 0),)
    """
    axes, kernel = len(x) - 2, tuple(w[2:])
    _check_kernel(kernel, kernel_shape)
    stride, dilation = tuple(strides or (1,) * axes), tuple(dilations or (1,) * axes)
    longer = tuple(output_padding or (0,) * axes)
    lengths = x[2:]
    if output_shape or auto_pad in _SAME:
        aims = list(output_shape)[-axes:] if output_shape else [n * s for n, s in zip(lengths, stride, strict=True)]
        full = _full(lengths, kernel, stride, dilation, longer)
        totals = [whole - aim for whole, aim in zip(full, aims, strict=True)]
        sides = tuple(_halves(total, larger_last=auto_pad == "SAME_UPPER") for total in totals)
    elif auto_pad == "VALID" or not pads:
        sides = ((0, 0),) * axes
    else:
        sides = tuple(zip(pads[:axes], pads[axes:], strict=True))
    return Window(stride, dilation, sides, group or 1, longer)


def convolve(arithmetic: Arithmetic, x: Array, w: Any, bias: Array | None, where: Window) -> Array:
    """Convolve.

    Parameters
    ----------
    arithmetic : Arithmetic
        How products are computed.
    x : ndarray
        Images.
    w : PreparedKernel
        Weights.
    bias : ndarray, optional
        One number for each output.
    where : Window
        Of `window`.

    Returns
    -------
    ndarray
        As `lowprec.nn._convolution.convolution` gives it. Zeros around the images are put there first where the two
        sides differ, which changes no bit.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    padding = tuple(first for first, _ in where.sides)
    if any(first != last or first < 0 for first, last in where.sides):
        x, padding = _padded(x, where.sides), (0,) * len(where.sides)
    return convolution(
        arithmetic, x, w, bias, stride=where.stride, padding=padding, dilation=where.dilation, groups=where.groups
    )


def convolve_transposed(arithmetic: Arithmetic, x: Array, w: Any, bias: Array | None, where: Window) -> Array:
    """Convolve by the transpose.

    Parameters
    ----------
    arithmetic, x, w, bias
        As in `convolve`.
    where : Window
        Of `transposed_window`.

    Returns
    -------
    ndarray
        The whole result, cut as ``where.sides`` says.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    whole = transposed_convolution(
        arithmetic,
        x,
        w,
        bias,
        stride=where.stride,
        dilation=where.dilation,
        groups=where.groups,
        output_padding=where.longer,
    )
    return np.ascontiguousarray(_padded(whole, tuple((-first, -last) for first, last in where.sides)))


def patches(x: Array, kernel: Sequence[int], where: Window) -> Array:
    """Return what a convolution multiplies by its weights.

    Parameters
    ----------
    x : ndarray
        Images.
    kernel : sequence of int
        Lengths of the kernel.
    where : Window
        Of `window`.

    Returns
    -------
    ndarray, shape (patches, K), or (groups, patches, K) of several groups
        K is (channel, place in the kernel), the last fastest.

    Raises
    ------
    ValueError
        If the kernel is larger than the images.
    """
    whole, axes = _padded(x, where.sides), len(kernel)
    extents = tuple(d * (k - 1) + 1 for d, k in zip(where.dilation, kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(whole, extents, tuple(range(2, 2 + axes)))
    steps = (*(slice(None, None, s) for s in where.stride), *(slice(None, None, d) for d in where.dilation))
    view = view[(slice(None), slice(None), *steps)]
    groups = where.groups
    apart = view.reshape(len(view), groups, -1, *view.shape[2:])
    turned = np.moveaxis(np.moveaxis(apart, 1, 0), 2, 2 + axes)
    rows = turned.reshape(groups, math.prod(turned.shape[1 : 2 + axes]), -1)
    return rows if groups > 1 else rows[0]


def _check_kernel(kernel: tuple[int, ...], stated: Any) -> None:
    """Refuse a kernel that is not as the operator says."""
    if stated is not None and tuple(stated) != kernel:
        msg = f"`kernel_shape` of a convolution must be that of its weights, {kernel}, got {tuple(stated)}."
        raise ValueError(msg)


def _full(lengths: Any, kernel: Any, stride: Any, dilation: Any, longer: Any) -> list[int]:
    """Return the lengths of a transposed convolution with nothing cut."""
    each = zip(lengths, kernel, stride, dilation, longer, strict=True)
    return [(length - 1) * step + d * (k - 1) + 1 + more for length, k, step, d, more in each]


def _halves(total: int, *, larger_last: bool) -> tuple[int, int]:
    """Return two halves, the larger one at the end or at the start."""
    half = total // 2
    return (half, total - half) if larger_last else (total - half, half)


def _padded(x: Array, sides: Sequence[tuple[int, int]]) -> Array:
    """Return images with zeros around them; a negative number cuts."""
    grown = np.pad(x, [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in sides)])
    cut = (slice(max(-a, 0), length - max(-b, 0)) for (a, b), length in zip(sides, grown.shape[2:], strict=True))
    return grown[(slice(None), slice(None), *cut)]
