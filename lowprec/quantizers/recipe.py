"""What `quantize` was asked for, with every default filled in and every rule checked."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from lowprec import _checks
from lowprec._grid import layout
from lowprec.blocks import BlockFormat, block_format, block_formats, is_block_name
from lowprec.codebooks import CodebookFormat, ElementFormat, element_of
from lowprec.formats import FloatFormat, IntFormat
from lowprec.quantizers import scales
from lowprec.rounding import Rounding

CALIBRATIONS = ("absmax", "minmax", "mse", "percentile", "entropy")


@dataclass(frozen=True)
class Recipe:
    """How to quantise, all but the numbers."""

    element: ElementFormat
    block: BlockFormat | None
    axis: int | tuple[int, ...] | None
    block_size: int | tuple[int, ...] | None
    symmetric: bool
    scale: FloatFormat
    rule: str
    divisor: float
    unit: float
    two_level: bool
    rounding: Rounding
    propagate: bool

    @property
    def ends(self) -> tuple[int, int]:
        """The least and the largest code value in use, for integers."""
        return scales.integer_ends(cast(IntFormat, self.element), self.symmetric, self.divisor)


def make_recipe(
    fmt: Any,
    ndim: int,
    axis: Any,
    block_size: Any,
    symmetric: Any,
    scale_dtype: Any,
    scale_rule: Any,
    divisor: Any,
    tensor_scale: Any,
    rounding: Any,
    nonfinite: Any,
) -> Recipe:
    """Check the arguments of `quantize` and fill in what they leave open."""
    block = block_format(fmt) if is_block_name(fmt) else None
    element = _element(fmt) if block is None else block.element
    if block is not None:
        if ndim == 0:
            msg = f"`x` must have an axis for the block format `{block}`, got a scalar; quantise to an element format."
            raise ValueError(msg)
        axis = -1 if axis is None else axis
        block_size = block.block_size if block_size is None else block_size
    along, blocks = layout(axis, block_size, ndim)
    if not isinstance(symmetric, (bool, np.bool_)):
        msg = f"`symmetric` must be True or False, got {symmetric!r}."
        raise TypeError(msg)
    if not symmetric and (not isinstance(element, IntFormat) or (block is not None and not block.ggml)):
        msg = f"`symmetric` must be True for `{block or element}`, got False; only integers have zero points."
        raise ValueError(msg)
    if symmetric and isinstance(element, IntFormat) and not element.is_signed:
        msg = f"`symmetric` must be False for the unsigned `{element}`, got True; or choose a signed format."
        raise ValueError(msg)
    if symmetric and isinstance(element, IntFormat) and element.bits == 1:
        msg = f"`fmt` must have a positive value for symmetric scales, got `{element}`; choose int2 or wider."
        raise ValueError(msg)
    if isinstance(element, IntFormat) and element.bits > 16:
        msg = f"`fmt` must have at most 16 bits to be quantised to, got `{element}`."
        raise ValueError(msg)
    if isinstance(element, FloatFormat) and not element.is_signed:
        msg = f"`fmt` must be a signed format, got `{element}`."
        raise ValueError(msg)
    scale, rule = _scale(scale_dtype, scale_rule, block)
    two_level = block is not None and block.two_level and tensor_scale is not None
    given = tensor_scale is not None and not (isinstance(tensor_scale, str) and tensor_scale == "auto")
    if given and (block is None or not block.two_level):
        msg = f"`tensor_scale` must be left out for `{block or element}`, got {tensor_scale!r}; nvfp4 has one."
        raise ValueError(msg)
    if not symmetric and rule in ("floor", "ceil", "even"):
        if scale_rule is not None:
            msg = f"`scale_rule` must be nearest, up or rceil with symmetric=False, got {scale_rule!r}."
            raise ValueError(msg)
        rule = "rceil"
    propagate = _nonfinite(nonfinite, scale)
    how = _checks.modes(rounding, None, "keep", 32).rounding
    if isinstance(element, CodebookFormat) and how is not Rounding.NEAREST_EVEN:
        msg = f"`rounding` must be 'nearest_even' for the codebook `{element}`, got {how}."
        raise ValueError(msg)
    return Recipe(
        element=element,
        block=block,
        axis=along,
        block_size=blocks,
        symmetric=bool(symmetric),
        scale=scale,
        rule=rule,
        divisor=_divisor(divisor, element, rule, bool(symmetric)),
        unit=1.0 if block is None else block.unit,
        two_level=two_level,
        rounding=how,
        propagate=propagate,
    )


def _element(fmt: Any) -> ElementFormat:
    """Return the format of a name that is no block format's; block formats count among the close names."""
    try:
        return element_of(fmt, "fmt")
    except ValueError as wrong:
        names = [row.name for row in block_formats()]
        close = difflib.get_close_matches(fmt.strip().lower(), names, n=3, cutoff=0.6) if isinstance(fmt, str) else []
        if not close or "known" not in str(wrong):
            raise
        msg = f"`fmt` must be a known format or block format, got {fmt!r}; the closest: {', '.join(map(repr, close))}."
        raise ValueError(msg) from None


def _scale(dtype: Any, rule: Any, block: BlockFormat | None) -> tuple[FloatFormat, str]:
    """Return the scale format and rule."""
    power = isinstance(dtype, str) and dtype.strip().lower() in ("power_of_two", "pow2")
    if dtype is None:
        found = element_of("float32", "scale_dtype") if block is None else block.scale
    else:
        found = element_of("float32" if power else dtype, "scale_dtype")
    if not isinstance(found, FloatFormat) or found.storage_dtype is None or found.name in ("tf32", "float64"):
        msg = (
            f"`scale_dtype` must be a float format with a storage dtype of 32 bits at most, got `{found}`; "
            "usual are fp32, fp16, bf16, e8m0fnu, e4m3fn and power_of_two."
        )
        raise ValueError(msg)
    if rule is None:
        own = block is not None and found == block.scale and not power
        bare = power or found.mantissa_bits == 0
        return found, block.scale_rule if own and block is not None else "floor" if bare else "nearest"
    if not isinstance(rule, str):
        msg = f"`scale_rule` must be a string or None, got {rule!r} of type {type(rule).__name__}."
        raise TypeError(msg)
    word = rule.strip().lower()
    if word not in scales.RULES:
        close = difflib.get_close_matches(word, scales.RULES, n=2, cutoff=0.4)
        hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
        msg = f"`scale_rule` must be one of {', '.join(scales.RULES)}, got {rule!r}{hint}."
        raise ValueError(msg)
    if power and word not in scales.POWERS:
        msg = f"`scale_rule` must be one of {', '.join(scales.POWERS)} for powers of two, got {rule!r}."
        raise ValueError(msg)
    return found, word


def _nonfinite(value: Any, scale: FloatFormat) -> bool:
    """Return whether NaN and infinities make the scale of their block NaN."""
    if value not in ("raise", "propagate"):
        msg = f"`nonfinite` must be 'raise' or 'propagate', got {value!r}."
        raise ValueError(msg)
    if value == "propagate" and not scale.has_nan:
        msg = f"`nonfinite` must be 'raise' for scales without NaN, `{scale}`, got 'propagate'."
        raise ValueError(msg)
    return bool(value == "propagate")


def _divisor(value: Any, element: ElementFormat, rule: str, symmetric: bool) -> float:
    """Return what the largest magnitude is divided by."""
    if value is None:
        return scales.default_divisor(element)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"`divisor` must be a real number, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        msg = f"`divisor` must be positive and finite, got {value}; int8 has 127, 127.5 and 128."
        raise ValueError(msg)
    if rule in ("floor", "ceil", "even") or not symmetric:
        why = f"with scale_rule={rule!r}" if symmetric else "with symmetric=False"
        msg = f"`divisor` must be left out {why}, which does not use it, got {value}."
        raise ValueError(msg)
    return number
