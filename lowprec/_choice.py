"""The model of a product's sum: chosen by the `accumulator` argument and the operands, and checked against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lowprec import accumulators, hardware
from lowprec._models import Facts, is_nvidia, is_stochastic, item_size, nan_bits
from lowprec._rules import fits
from lowprec.accumulators import Accumulator, Chunked, Exact, Integer, Sequential
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as resolve

_SINGLE = np.dtype(np.float32)


def choose(
    value: Any, formats: list[Format], c: Format | None, out: Format | None, scales: Any
) -> tuple[Accumulator | None, np.dtype[Any] | None, Facts]:
    """Return the model of the sum, the dtype of a native one in its place, and what a product has to know of it."""
    model, warning = _chosen(value, formats, c, out, scales)
    if model is None:
        model = Sequential()
    _check_model(model, formats, scales)
    native = _native(model)
    pair = (formats[0], formats[1])
    facts = Facts(
        integer=isinstance(model, Integer),
        item=item_size(model, pair),
        nan_bits=nan_bits(model),
        all_ones_nan=is_nvidia(model),
        stochastic=is_stochastic(model),
        warning=warning,
    )
    return None if native is not None else model, native, facts


def _native(model: Accumulator) -> np.dtype[Any] | None:
    """Return the dtype of a sum that is the CPU's own, a chain of fused multiply-adds, or None."""
    for name in ("float32", "float64"):
        if model == Sequential(name):  # type: ignore[arg-type]
            return np.dtype(name)
    return None


def _chosen(
    value: Any, formats: list[Format], c: Format | None, out: Format | None, scales: Any
) -> tuple[Accumulator | None, str | None]:
    """Return the model of the sum, None for the default one, and a warning where it is an approximation."""
    pair = (formats[0], formats[1])
    if value is None:
        integers = all(isinstance(fmt, IntFormat) for fmt in formats)
        return (Integer() if integers else None), None
    model = accumulators.model(value)
    approximate = False
    if isinstance(model, str):
        row = hardware.select(model, pair, c=c, out=out, scales=scales)
        model, approximate = row.model, row.approximate
    elif isinstance(model, Chunked) and isinstance(model.inner, str):
        row = hardware.select(model.inner, pair, scales=scales)
        model, approximate = replace(model, inner=row.model), row.approximate
    if isinstance(model, Exact) and model.format is None:
        fits_exact = isinstance(out, FloatFormat) and out.precision <= 24 and fits(out, _SINGLE) and out.has_nan
        model = replace(model, format=out if fits_exact else "float32")  # type: ignore[arg-type]
    warning = None
    if approximate:
        warning = (
            f"accumulator={value!r} is an approximation: the hardware's own order, alignment and rounding of sums are "
            "not public; the products are exact, the sums are float32."
        )
    return model, warning


SCALED = (accumulators.FusedTruncatedScaled, accumulators.FusedTruncatedGroupScaled)


def _check_model(model: Accumulator, formats: list[Format], scales: Any) -> None:
    """See that a model takes operands of these formats."""
    inner = model.inner if isinstance(model, Chunked) else model
    integers = all(isinstance(fmt, IntFormat) for fmt in formats)
    if integers != isinstance(inner, Integer):
        kind = "integer operands" if isinstance(inner, Integer) else "float operands"
        msg = (
            f"`accumulator` must suit the operands: {inner!r} takes {kind}, got {formats[0]} and {formats[1]}; "
            f"choose {'a float format or model' if isinstance(inner, Integer) else repr('int32')}, or another dtype."
        )
        raise ValueError(msg)
    if isinstance(inner, SCALED):
        length = inner.length if isinstance(inner, accumulators.FusedTruncatedScaled) else inner.scale_block
        if scales is None:
            msg = (
                f"`a` and `b` must have block scales for {inner!r}, got none; pass lp.QuantizedArray operands with one "
                f"scale for every {length} elements along K."
            )
            raise ValueError(msg)
        wanted = getattr(inner, "scale_format", resolve("e8m0fnu"))
        if scales != (wanted, length):
            msg = (
                f"`a` and `b` must have {wanted} scales for every {length} elements for {inner!r}, "
                f"got {scales[0]} for every {scales[1]}."
            )
            raise ValueError(msg)
    elif scales is not None:
        msg = (
            f"`accumulator` must be a block-scaled instruction for operands with block scales, got {inner!r}; choose "
            "'nvidia-blackwell', or multiply what `.dequantize()` gives."
        )
        raise ValueError(msg)
    if isinstance(inner, accumulators.Hardware):
        for fmt in formats:
            if isinstance(fmt, FloatFormat) and not fits(fmt, _SINGLE):
                msg = f"`dtype` must be formats within float32 for {inner!r}, got {fmt}."
                raise ValueError(msg)
