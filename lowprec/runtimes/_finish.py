"""From the sums of an integer layer to its codes, by a row of the table of runtimes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array, odd_sum
from lowprec._requantize import integer_dtype, requantize
from lowprec.formats import IntFormat
from lowprec.runtimes._table import Rule, Runtime


class Scales(NamedTuple):
    """The scales of a layer, float32; that of the weights for each output channel, or one."""

    x: Array
    w: Array
    out: Array


class Codes(NamedTuple):
    """What codes of the result there are."""

    fmt: IntFormat
    zero: int
    low: int
    high: int


def _round(value: float, rule: str) -> int:
    """Round a float to an integer, ties away from zero or to even."""
    return int(np.rint(value)) if rule == "even" else int(np.trunc(value + np.copysign(0.5, value)))


def clipped(row: Runtime, activation: str | None, scale: Array, zero: int, fmt: IntFormat) -> Codes:
    """Return the ends that a fused activation sets."""
    low, high = int(fmt.min), int(fmt.max)
    if activation is None:
        return Codes(fmt, zero, low, high)
    if activation not in row.activations:
        known = ", ".join(map(repr, row.activations)) or "none"
        msg = f"`activation` must be one that `{row.name}` fuses ({known}), got {activation!r}."
        raise ValueError(msg)
    least, largest = {"relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}[activation]

    def code(value: float) -> int:
        step = np.float32(value) / scale[()]
        if row.bounds == "even":  # XNNPACK adds the zero point first, in float32
            return _round(float(np.float32(step + np.float32(zero))), "even")
        return zero + _round(float(step), "away")

    low = max(low, code(least))
    return Codes(fmt, zero, low, high if largest is None else min(high, code(largest)))


def scale_of(rule: Rule, scales: Scales) -> Array:
    """Return x_scale * w_scale / out_scale as the runtime computes it, as float64."""
    with np.errstate(all="ignore"):
        if rule.scale == "float64":
            wide: Array = scales.x.astype(np.float64) * scales.w.astype(np.float64)
            return np.asarray(wide / scales.out.astype(np.float64))
        product = np.asarray(scales.x * scales.w)
        if rule.scale == "float32_product":
            return np.asarray(product.astype(np.float64) / scales.out.astype(np.float64))
        if rule.scale == "float32_reciprocal":
            return np.asarray(product * (np.float32(1) / scales.out)).astype(np.float64)
        return np.asarray(product / scales.out).astype(np.float64)


def _spread(each: Array, ndim: int, axis: int) -> Array:
    """Make what there is for each channel broadcast with the sums."""
    return each.reshape([-1 if k == axis else 1 for k in range(ndim)]) if each.ndim else each


def _clip(values: Array, codes: Codes, add: int) -> Array:
    """Return rounded floats as codes."""
    whole = np.clip(values.astype(np.float64) + add, codes.low, codes.high)
    return whole.astype(integer_dtype(codes.fmt))


def _onednn(acc: Array, bias: Array | None, scales: Scales, codes: Codes, axis: int) -> Array:
    """Return oneDNN's codes: float32 at every step, the scales inverted twice on their way."""
    one = np.float32(1)
    x, w, step = one / (one / scales.x), one / (one / scales.w), one / scales.out
    total = acc.astype(np.float32) * _spread(np.asarray(x * w), acc.ndim, axis)
    if bias is not None:
        total = total + _spread(bias, acc.ndim, axis)
    return _clip(np.rint(total * step + np.float32(codes.zero)), codes, 0)


def finish(acc: Array, bias: Array | None, rule: Rule, scales: Scales, codes: Codes, axis: int) -> Array:
    """Return the codes of sums; ``axis`` is that of the output channels, ``bias`` has one dimension."""
    if rule.method == "onednn":
        return _onednn(acc, bias, scales, codes, axis)
    scale = scale_of(rule, scales)
    if bias is not None and rule.bias == "divided":
        factor = np.asarray(scales.x * scales.w)
        total = acc.astype(np.float32)
        if factor.ndim:
            total = total + _spread(np.asarray(bias / factor), acc.ndim, axis)
        else:
            added = bias.astype(np.float64) * (np.float32(1) / factor).astype(np.float64)  # exact
            total = odd_sum(total, _spread(added, acc.ndim, axis)).astype(np.float32)
        return _clip(np.rint(total * _spread(scale.astype(np.float32), acc.ndim, axis)), codes, codes.zero)
    if bias is not None:
        added = bias
        if rule.bias == "rounded":
            added = np.rint(bias * (np.float32(1) / np.asarray(scales.x * scales.w))).astype(np.int64)
        acc = acc + _spread(added, acc.ndim, axis).astype(acc.dtype)  # wraps, as in the runtimes
    how: dict[str, Any] = {
        "zero_point": codes.zero,
        "clip": (codes.low, codes.high),
        "axis": axis if scale.ndim else None,
    }
    done = requantize(acc, scale, codes.fmt, method=rule.method, **how)
    whole = acc.shape[axis] // 8 * 8
    if rule.tail and whole < acc.shape[axis]:
        last: tuple[Any, ...] = (slice(None),) * axis + (slice(whole, None),)
        done[last] = requantize(acc[last], scale[whole:] if scale.ndim else scale, codes.fmt, method=rule.tail, **how)
    return done
