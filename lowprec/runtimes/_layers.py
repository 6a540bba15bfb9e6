"""qlinear and qconv2d: integer layers with the bits of a deployed runtime."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec._checks import Array
from lowprec._requantize import check_zero_point, integer_format
from lowprec.arrays import QuantizedArray
from lowprec.runtimes._finish import Codes, Scales, clipped, finish, scale_of
from lowprec.runtimes._operands import Operand, operand, scale_array
from lowprec.runtimes._products import conv_sums, linear_sums
from lowprec.runtimes._table import Operator, Rule, Runtime, runtime


class _Layer(NamedTuple):
    """A layer's arguments, checked."""

    x: Operand
    w: Operand
    rule: Rule
    scales: Scales
    codes: Codes
    bias: Array | None

    def finish(self, acc: Array, axis: int) -> Array:
        """Return the codes of the sums."""
        return finish(acc, self.bias, self.rule, self.scales, self.codes, axis)


def _bias(bias: Any, rule: Rule, outputs: int, row: Runtime, *, wide: bool) -> Array | None:
    """Check a bias and return one number for each output."""
    if bias is None:
        return None
    array = _checks.plain_array(bias, "bias")
    if array.shape not in ((outputs,), ()):
        msg = f"`bias` must have shape ({outputs},), got {array.shape}."
        raise ValueError(msg)
    array = np.broadcast_to(array, (outputs,))
    if rule.bias != "integer":
        if array.dtype.kind != "f":
            msg = f"`bias` must be float for `{row.name}`, which keeps it in float32, got dtype {array.dtype}."
            raise TypeError(msg)
        if not np.isfinite(array).all():
            msg = f"`bias` must be finite, got {array[~np.isfinite(array)][0]}."
            raise ValueError(msg)
        return array.astype(np.float32)
    if array.dtype.kind not in "iu":
        msg = (
            f"`bias` must hold integers for `{row.name}`, got dtype {array.dtype}; "
            "quantise it with the scale x_scale * w_scale and zero point 0."
        )
        raise TypeError(msg)
    bits = 63 if wide else 31
    if array.size and (int(array.min()) < -(2**bits) or int(array.max()) >= 2**bits):
        msg = f"`bias` must fit in {bits + 1} bits, got {int(array.max() if array.max() > 0 else array.min())}."
        raise ValueError(msg)
    return array.astype(np.int64)


def _operator(kind: str, x: Operand, w: Operand) -> Operator:
    """Return the table's name of a layer."""
    name = kind
    if x.fmt.bits == 16:
        name = "linear_16x8" if kind == "linear" else "conv_16x8"
    return f"{name}_per_channel" if kind == "linear" and w.scale.ndim else name  # type: ignore[return-value]


def _check(x: Operand, w: Operand, kind: str, row: Runtime, bias: Any, out: tuple[Any, Any, Any, Any]) -> _Layer:
    """Check what layers have in common."""
    if (x.fmt.name, w.fmt.name) not in row.operands:
        pairs = ", ".join(f"{a} x {b}" for a, b in row.operands)
        msg = f"`x` and `w` must be a pair that `{row.name}` has ({pairs}), got {x.fmt} x {w.fmt}."
        raise ValueError(msg)
    operator = _operator(kind, x, w)
    rule = row.rule(operator)
    if rule is None:
        have = ", ".join(name for name, _ in row.rules)
        msg = f"`runtime` must be one whose bits are known for the layer {operator!r}, got `{row.name}` ({have})."
        raise ValueError(msg)
    if w.zero.any() and not row.asymmetric_weights:
        msg = f"`w_zero_point` must be 0 for `{row.name}`, got {w.zero.flat[np.flatnonzero(w.zero)[0]]}."
        raise ValueError(msg)
    given, scale, zero_point, activation = out
    fmt = x.fmt if given is None else integer_format(given)
    if fmt != x.fmt:
        msg = f"`out` must be the format of `x` in `{row.name}`, {x.fmt}, got {fmt}."
        raise ValueError(msg)
    step = scale_array(scale, "out_scale")
    if step.ndim:
        msg = f"`out_scale` must be one number, got shape {step.shape}."
        raise ValueError(msg)
    zero = check_zero_point(zero_point, fmt, "out_zero_point")
    if fmt.bits == 16 and (x.zero.any() or zero):
        msg = f"`x_zero_point` and `out_zero_point` must be 0 for int16, got {int(x.zero)} and {zero}."
        raise ValueError(msg)
    scales = Scales(x.scale, w.scale, step)
    ratio = scale_of(rule, scales)
    if not (np.isfinite(ratio) & (ratio > 0)).all() or ratio.max(initial=0) >= row.largest_scale:
        msg = (
            f"`out_scale` must make x_scale * w_scale / out_scale positive and below {row.largest_scale:g} for "
            f"`{row.name}`, got {ratio.max(initial=0):g}; give a larger out_scale."
        )
        raise ValueError(msg)
    codes = clipped(row, activation, step, zero, fmt)
    added = _bias(bias, rule, w.values.shape[0], row, wide=fmt.bits == 16)
    return _Layer(x, w, rule, scales, codes, added)


def qlinear(
    x: ArrayLike | QuantizedArray,
    w: ArrayLike | QuantizedArray,
    bias: ArrayLike | None = None,
    *,
    x_scale: Any = None,
    x_zero_point: Any = 0,
    w_scale: Any = None,
    w_zero_point: Any = 0,
    out_scale: Any,
    out_zero_point: Any = 0,
    out: Any = None,
    runtime: str = "litert-xnnpack",
    activation: str | None = None,
) -> Array:
    """Apply a linear layer of integers with the bits of a deployed runtime.

    Parameters
    ----------
    x : array_like of int or QuantizedArray, shape (..., K)
        Activations: int8, uint8 or int16, as the runtime has them. A QuantizedArray brings its scale and zero point.
    w : array_like of int or QuantizedArray, shape (O, K)
        Weights.
    bias : array_like, shape (O,), optional
        Integers of the scale ``x_scale * w_scale``; for torch's runtimes float numbers.
    x_scale, out_scale : float
        Steps between two codes, float32.
    w_scale : float or array_like, shape (O,)
        One, or one for each output.
    x_zero_point, out_zero_point : int
        Codes of zero.
    w_zero_point : int or array_like, shape (O,)
        Codes of zero of the weights; 0 but for ONNX.
    out : str or IntFormat, optional
        Format of the result; that of `x`, which is the only one that these runtimes give.
    runtime : str
        A name of `lowprec.runtimes.table`.
    activation : {None, "relu", "relu6", "relu_n1_to_1"}
        What the runtime fuses into the layer.

    Returns
    -------
    ndarray, shape (..., O)
        Codes, in the integer dtype of `x`.

    Raises
    ------
    TypeError
        If operands or integer biases are not integers, a float bias is not float, or a scale is missing.
    ValueError
        If the runtime is unknown, does not have the layer, its operands or the activation; if a scale is zero,
        negative or not finite; if a zero point lies outside its format; if shapes do not fit.

    Notes
    -----
    The sums are exact modulo 2**32 (int16: in 64 bits). What follows is the runtime's row of
    `lowprec.runtimes.table`: how the three scales become one, how the bias enters, how the product is rounded.

    References
    ----------
    See `Runtime.source` and `Runtime.measured` of the row.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.array([[-40, 24, 8, 100]], np.int8), np.eye(4, dtype=np.int8)
    >>> for name in ("litert-reference", "litert-ruy", "litert-xnnpack"):
    ...     print(name, lp.qlinear(x, w, x_scale=0.25, w_scale=0.25, out_scale=1.0, runtime=name))
    litert-reference [[-3  2  1  6]]
    litert-ruy [[-2  2  1  6]]
    litert-xnnpack [[-2  2  0  6]]
    """
    row = _runtime(runtime)
    left = operand(x, x_scale, x_zero_point, "x", None)
    right = operand(w, w_scale, w_zero_point, "w", 0)
    if right.values.ndim != 2 or not left.values.ndim or left.values.shape[-1] != right.values.shape[-1]:
        msg = f"`x` and `w` must have shapes (..., K) and (O, K), got {left.values.shape} and {right.values.shape}."
        raise ValueError(msg)
    layer = _check(left, right, "linear", row, bias, (out, out_scale, out_zero_point, activation))
    acc = linear_sums(left.values, right.values, left.zero, right.zero)
    return layer.finish(acc, acc.ndim - 1)


def qconv2d(
    x: ArrayLike | QuantizedArray,
    w: ArrayLike | QuantizedArray,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    x_scale: Any = None,
    x_zero_point: Any = 0,
    w_scale: Any = None,
    w_zero_point: Any = 0,
    out_scale: Any,
    out_zero_point: Any = 0,
    out: Any = None,
    runtime: str = "litert-xnnpack",
    activation: str | None = None,
    layout: str = "NCHW",
    depthwise: bool | None = None,
) -> Array:
    """Apply a 2-D convolution of integers with the bits of a deployed runtime.

    Parameters
    ----------
    x : array_like of int or QuantizedArray, shape (N, C, H, W) or (C, H, W)
        Images.
    w : array_like of int or QuantizedArray, shape (O, C // groups, KH, KW)
        Weights.
    bias : array_like, shape (O,), optional
        As in `qlinear`.
    stride, padding, dilation, groups
        As in `lowprec.conv2d`. Padding is the zero point of `x`. "same" with a stride is TensorFlow's,
        ``ceil(length / stride)`` positions.
    x_scale, x_zero_point, w_scale, w_zero_point, out_scale, out_zero_point, out, runtime, activation
        As in `qlinear`.
    layout : {"NCHW", "NHWC"}
        Whether channels come first, or last: `x` (N, H, W, C), `w` (O, KH, KW, C // groups), result (N, OH, OW, O).
    depthwise : bool, optional
        Whether the runtime's depthwise operator is meant, which some round differently; by default where every channel
        is a group and there are two or more. TensorFlow's depthwise weights (1, KH, KW, O) are
        ``w.transpose(3, 0, 1, 2)`` here (channels first), or ``w.transpose(3, 1, 2, 0)`` (last).

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        Codes, in the integer dtype of `x`; in the layout of `x`.

    Raises
    ------
    TypeError
        As `qlinear`, and as `lowprec.conv2d` for `stride`, `padding`, `dilation` and `groups`.
    ValueError
        As `qlinear`, and as `lowprec.conv2d` for shapes; or if `layout` is unknown, or `depthwise` is True where groups
        have several channels.

    Notes
    -----
    One sum, one rule: see `qlinear`. LiteRT's plain CPU kernels ("litert-ruy") send grouped convolutions to the
    reference kernel, and round the last channels of a depthwise one, beyond a multiple of eight, by another rule than
    the rest.

    References
    ----------
    See `Runtime.source` and `Runtime.measured` of the row.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)
    >>> w = np.full((2, 1, 3, 3), 3, np.int8)
    >>> lp.qconv2d(x, w, x_scale=0.5, w_scale=[0.25, 0.5], out_scale=4.0, runtime="litert-ruy")[0, 1]
    array([[-5, -3],
           [ 2,  3]], dtype=int8)
    """
    row = _runtime(runtime)
    if layout not in ("NCHW", "NHWC"):
        msg = f"`layout` must be 'NCHW' or 'NHWC', got {layout!r}."
        raise ValueError(msg)
    left = operand(x, x_scale, x_zero_point, "x", None)
    right = operand(w, w_scale, w_zero_point, "w", 0)
    images, weights = left.values, right.values
    if layout == "NHWC":
        images = np.moveaxis(images, -1, -3) if images.ndim in (3, 4) else images
        weights = np.moveaxis(weights, -1, 1) if weights.ndim == 4 else weights
    acc = conv_sums(images, np.ascontiguousarray(weights), left.zero, right.zero, (stride, padding, dilation, groups))
    single = weights.shape[1] == 1
    if depthwise is None:
        depthwise = single and groups > 1
    if depthwise and not single:
        msg = f"`depthwise` must be False where a group has {weights.shape[1]} channels, got True."
        raise ValueError(msg)
    kind = "depthwise" if depthwise else "conv_grouped" if groups > 1 else "conv"
    layer = _check(left, right, kind, row, bias, (out, out_scale, out_zero_point, activation))
    result = layer.finish(acc, 1)
    if layout == "NHWC":
        result = np.ascontiguousarray(np.moveaxis(result, 1, -1))
    return result[0] if images.ndim == 3 else result


def _runtime(name: str) -> Runtime:
    """Return a row; the argument has the function's own name."""
    return runtime(name)
