"""The steps of quantising by a recipe: ranges, scales, zero points, codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec._grid import block_lengths, grid_shape, spread
from lowprec.arrays import QuantizedArray, assembled
from lowprec.codebooks import CodebookFormat
from lowprec.codec import cast, encode, pack, round_to
from lowprec.formats import IntFormat, stored_format
from lowprec.quantizers import _fast, scales
from lowprec.quantizers.recipe import CALIBRATIONS, Recipe
from lowprec.rounding import Rounding

_WIDE = IntFormat(bits=24)


def quantized(
    values: Array,
    recipe: Recipe,
    calibration: Any = "absmax",
    scale: Any = None,
    zero_point: Any = None,
    tensor_scale: Any = "auto",
    rng: Any = None,
    *,
    kernels: bool = True,
) -> QuantizedArray:
    """Quantise float32 or float64 numbers by a recipe; the result is the same without the kernels of blocks."""
    if kernels and scale is None:
        made = _fast.found(values, recipe, calibration, lambda top: _outer(values, recipe, tensor_scale, top))
        if made is not None:
            blocks, outer = made
            return _assembled(
                values.shape, blocks.codes, blocks.scale, blocks.zero_point, recipe, outer, _name(calibration)
            )
    bad = _bad_blocks(values, recipe)
    if bad is not None:
        values = np.where(np.isfinite(values), values, 0)
    outer = _outer(values, recipe, tensor_scale)
    how = _name(calibration)
    if scale is None:
        found, points = _calibrated(values, recipe, calibration, outer)
    else:
        found, points = _given(values, recipe, scale, zero_point)
        how = "given"
    wide = found.astype(values.dtype)
    with np.errstate(under="ignore"):
        step = np.multiply(wide, values.dtype.type(recipe.unit if outer is None else outer), dtype=values.dtype)
    step = np.where(step == 0, np.finfo(values.dtype).smallest_subnormal, step)  # a product of two scales underflows
    codes = _codes(values, spread(step, values.shape, recipe.axis, recipe.block_size), points, recipe, rng)
    if bad is not None:
        found = np.where(bad, np.array(np.nan, found.dtype), found)
        codes = np.where(spread(bad, values.shape, recipe.axis, recipe.block_size), 0, codes).astype(codes.dtype)
    packed = pack(codes, recipe.element) if recipe.element.bits < 8 else codes
    return _assembled(values.shape, packed, found, points, recipe, outer, how)


def _assembled(
    shape: tuple[int, ...],
    codes: Array,
    scale: Array,
    points: Array | None,
    recipe: Recipe,
    outer: np.float32 | None,
    how: str,
) -> QuantizedArray:
    """Return the array of codes, packed if they have less than 8 bits, and scales."""
    return assembled(
        codes,
        shape,
        scale,
        points,
        format=recipe.element,
        axis=recipe.axis,
        block_size=recipe.block_size,
        tensor_scale=outer if outer is not None else None if recipe.unit == 1.0 else np.float32(recipe.unit),
        recipe=_told(recipe, how),
    )


def _told(recipe: Recipe, how: str) -> str:
    """Return how an array was made, in words."""
    words = [] if recipe.block is None else [recipe.block.name]
    words += [] if recipe.rule == "nearest" else [recipe.rule]
    words += [] if how == "absmax" and words else [how]
    words += [] if recipe.symmetric else ["affine"]
    if recipe.divisor != scales.default_divisor(recipe.element):
        words.append(f"/{recipe.divisor:g}")
    return " ".join(words)


def _name(calibration: Any) -> str:
    """Return the name of a calibration."""
    if isinstance(calibration, str):
        return calibration.strip().lower()
    if isinstance(calibration, (int, float, list, tuple, np.ndarray, np.number)):
        return "clip"
    return type(calibration).__name__.lower()


def _bad_blocks(values: Array, recipe: Recipe) -> Array | None:
    """Return which blocks hold NaN or infinities, None for no block; or raise."""
    finite = np.isfinite(values)
    if finite.all():
        return None
    if not recipe.propagate:
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        place = f" at index {where if len(where) > 1 else where[0]}" if where else ""
        msg = (
            f"`x` must be finite, got {values[where]}{place}; replace it, for example by np.nan_to_num, or pass "
            "nonfinite='propagate' for a NaN scale."
        )
        raise ValueError(msg)
    return np.asarray(grouped(~finite, recipe).any(axis=-1)).reshape(_shape(values, recipe))


def _shape(values: Array, recipe: Recipe) -> tuple[int, ...]:
    """Return the shape of the scales."""
    return grid_shape(values.shape, recipe.axis, recipe.block_size)


def grouped(values: Array, recipe: Recipe, fill: Any = 0) -> Array:
    """Return the elements of each block in a row: the shape of the scales, flat, and one axis more."""
    blocks = block_lengths(values.shape, recipe.axis, recipe.block_size)
    # A block that is longer than its axis is not padded to its length, which may be beyond all memory.
    blocks = tuple(min(block, n or 1) for n, block in zip(values.shape, blocks, strict=True))
    lengths = [max(1, block) for block in blocks]
    counts = [1 if block == n else -(-n // max(1, block)) for n, block in zip(values.shape, blocks, strict=True)]
    whole = [count * block for count, block in zip(counts, lengths, strict=True)]
    if tuple(whole) != values.shape:
        padded = np.full(whole, fill, values.dtype)
        padded[tuple(slice(n) for n in values.shape)] = values
        values = padded
    split = values.reshape([n for pair in zip(counts, lengths, strict=True) for n in pair])
    order = [*range(0, 2 * len(counts), 2), *range(1, 2 * len(counts), 2)]
    return split.transpose(order).reshape(math.prod(counts), math.prod(lengths))


def _largest(values: Array, recipe: Recipe) -> Array:
    """Return the largest magnitude of each block."""
    return np.asarray(grouped(np.abs(values), recipe).max(axis=-1, initial=0)).reshape(_shape(values, recipe))


def _outer(values: Array, recipe: Recipe, given: Any, top: Any = None) -> np.float32 | None:
    """Return the scale of the whole tensor, or None; ``top`` is the largest magnitude where it is known."""
    if not recipe.two_level:
        return None
    if isinstance(given, str) and given == "auto":
        given = None
    if given is not None:
        if isinstance(given, (bool, np.bool_, str)) or np.ndim(given) != 0:
            msg = f"`tensor_scale` must be a real number, 'auto' or None, got {given!r} of type {type(given).__name__}."
            raise TypeError(msg)
        with np.errstate(over="ignore", under="ignore"):
            number = np.float32(given)
        if not (np.isfinite(number) and number > 0):
            msg = f"`tensor_scale` must be positive and finite in float32, got {given!r}."
            raise ValueError(msg)
        return number
    if top is None:
        top = np.abs(values).max(initial=0).astype(values.dtype)
    most = values.dtype.type(recipe.scale.max * recipe.element.max)
    with np.errstate(under="ignore", over="ignore"):
        number = np.minimum(np.float32(top / most), np.finfo(np.float32).max)
    return number if number > 0 else np.float32(1) if top == 0 else np.float32(np.finfo(np.float32).smallest_subnormal)


def _calibrated(
    values: Array, recipe: Recipe, calibration: Any, outer: np.float32 | None
) -> tuple[Array, Array | None]:
    """Return scales and zero points found from the numbers."""
    low, high = _range(values, recipe, calibration)
    if recipe.symmetric:
        return _symmetric(np.maximum(np.abs(low), np.abs(high)), recipe, outer), None
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    least, most = recipe.ends
    with np.errstate(over="ignore", under="ignore"):
        # The two ends may be further apart than the largest number.
        width = np.minimum(high - low, np.finfo(values.dtype).max)
        ratio = np.divide(width, values.dtype.type(most - least), dtype=values.dtype)
    if recipe.rule in scales.POWERS:
        exponents = scales.powers(np.asarray(width), "rceil", recipe.element, float(most - least), 1.0)
        found = scales.power_scales(exponents, recipe.scale)
    else:
        found = _ratios(ratio, np.asarray(width), recipe)
    step = found.astype(values.dtype)
    points = np.clip(np.rint(least - low / step), least, most).astype(np.int64)
    return np.asarray(found), np.asarray(points)


def _symmetric(largest: Array, recipe: Recipe, outer: np.float32 | None) -> Array:
    """Return the scales of blocks with these largest magnitudes."""
    largest = np.asarray(largest)
    if recipe.rule in scales.POWERS:
        exponents = scales.powers(largest, recipe.rule, recipe.element, recipe.divisor, recipe.unit)
        return scales.power_scales(exponents, recipe.scale)
    with np.errstate(under="ignore", over="ignore"):
        ratio = np.divide(largest, largest.dtype.type(recipe.divisor * recipe.unit), dtype=largest.dtype)
        if outer is not None:
            ratio = np.divide(ratio, largest.dtype.type(outer), dtype=largest.dtype)
    return _ratios(np.asarray(ratio), largest, recipe)


def _ratios(ratio: Array, largest: Array, recipe: Recipe) -> Array:
    """Return ratios rounded to the scale format; a block of zeros has 1, or the smallest scale of 8 bits."""
    found = scales.ratio_scales(ratio, recipe.scale, recipe.rule)
    if recipe.scale.bits > 8:
        found = np.where(largest == 0, np.ones((), found.dtype), found)
    return np.asarray(found)


def _range(values: Array, recipe: Recipe, calibration: Any) -> tuple[Array, Array]:
    """Return the ends of the range of each block."""
    shape = _shape(values, recipe)
    if isinstance(calibration, str):
        word = calibration.strip().lower()
        if word not in CALIBRATIONS:
            msg = (
                f"`calibration` must be one of {', '.join(CALIBRATIONS)}, an observer or numbers, got {calibration!r}."
            )
            raise ValueError(msg)
        if word in ("absmax", "minmax"):
            if recipe.symmetric:
                largest = _largest(values, recipe)
                return -largest, largest
            rows = grouped(values, recipe)
            return rows.min(axis=-1, initial=0).reshape(shape), rows.max(axis=-1, initial=0).reshape(shape)
        if values.size == 0:
            msg = f"`x` must hold numbers for calibration={word!r}, got shape {values.shape}."
            raise ValueError(msg)
        from lowprec.calibration import ranges

        ones = grouped(np.ones(values.shape, bool), recipe, False)
        valid = None if ones.all() else ones
        low, high = ranges(
            word, grouped(values, recipe), valid, symmetric=recipe.symmetric, fmt=recipe.element, divisor=recipe.divisor
        )
    elif hasattr(calibration, "range"):
        low, high = calibration.range
    else:
        array = _checks.plain_array(calibration, "calibration")
        if array.dtype.kind not in "fiu":
            msg = f"`calibration` must be a name, an observer or numbers, got {calibration!r}."
            raise TypeError(msg)
        if not (np.isfinite(array).all() and (array >= 0).all()):
            msg = f"`calibration` must be finite magnitudes of 0 or more, got {array.min() if array.size else array}."
            raise ValueError(msg)
        low, high = -array, array
    ends = []
    for end in (low, high):
        numbers = np.asarray(end).astype(values.dtype)
        if numbers.shape not in ((), shape) and numbers.size != int(np.prod(shape)):
            msg = f"`calibration` must have a range for all, or for each scale of shape {shape}, got {numbers.shape}."
            raise ValueError(msg)
        ends.append(np.broadcast_to(numbers if numbers.ndim == 0 else numbers.reshape(shape), shape))
    return ends[0], ends[1]


def _given(values: Array, recipe: Recipe, scale: Any, zero_point: Any) -> tuple[Array, Array | None]:
    """Return scales and zero points that the caller gave, checked."""
    shape = _shape(values, recipe)
    array = _checks.plain_array(scale, "scale")
    if array.dtype.kind == "b" or (array.dtype.kind not in "fiu" and stored_format(array.dtype) is None):
        msg = f"`scale` must be of real numbers, got dtype {array.dtype}; convert it, for example to np.float32."
        raise TypeError(msg)
    if stored_format(array.dtype) != recipe.scale:
        array = np.asarray(cast(array, recipe.scale, overflow="saturate" if not recipe.scale.has_nan else None))
    numbers = array.astype(np.float64)
    wrong = ~(np.isfinite(numbers) & (numbers > 0))
    if wrong.any():
        msg = f"`scale` must be positive and finite in {recipe.scale}, got {numbers[wrong].flat[0]}."
        raise ValueError(msg)
    if array.shape not in ((), shape):
        msg = f"`scale` must be a scalar or have shape {shape} for `x` of shape {values.shape}, got {array.shape}."
        raise ValueError(msg)
    array = np.broadcast_to(array, shape)
    if zero_point is None:
        return array, None if recipe.symmetric else np.zeros(shape, np.int64)
    if not isinstance(recipe.element, IntFormat):
        msg = f"`zero_point` must be None for `{recipe.element}`, which is no integer format, got {zero_point!r}."
        raise ValueError(msg)
    points = _checks.plain_array(zero_point, "zero_point")
    if points.dtype.kind not in "iu":
        msg = f"`zero_point` must be of integers of 64 bits at most, got dtype {points.dtype}."
        raise TypeError(msg)
    if points.shape not in ((), shape):
        msg = f"`zero_point` must be a scalar or have the shape of the scales, {shape}, got {points.shape}."
        raise ValueError(msg)
    low, high = int(recipe.element.min), int(recipe.element.max)
    if points.size and (int(points.min()) < low or int(points.max()) > high):
        wrong_one = points.min() if int(points.min()) < low else points.max()
        msg = f"`zero_point` must be from {low} to {high} for `{recipe.element}`, got {wrong_one}."
        raise ValueError(msg)
    return array, np.broadcast_to(points.astype(np.int64), shape)


def _codes(values: Array, step: Array, points: Array | None, recipe: Recipe, rng: Any) -> Array:
    """Return the codes of numbers divided by their scales."""
    with np.errstate(over="ignore", under="ignore"):
        quotient = np.divide(values, step, dtype=values.dtype)
    element, how = recipe.element, str(recipe.rounding)
    if isinstance(element, CodebookFormat) and recipe.block is not None and recipe.block.reciprocal:
        with np.errstate(over="ignore", invalid="ignore"):
            inverse = np.divide(np.float32(1), step, dtype=np.float32)
            quotient = np.where(np.isinf(inverse), quotient, np.multiply(values, inverse, dtype=np.float32))
        return element.encode_single(quotient)
    if isinstance(element, CodebookFormat):
        return element.encode(quotient)
    if not isinstance(element, IntFormat):
        return np.asarray(encode(quotient, element, rounding=how, overflow="saturate", rng=rng))
    if recipe.rounding is Rounding.NEAREST_EVEN:
        whole = np.rint(quotient)
    else:
        whole = np.asarray(round_to(quotient, _WIDE, rounding=how, rng=rng))
    if points is not None:
        whole = whole.astype(np.float64) + spread(points, values.shape, recipe.axis, recipe.block_size)
    least, most = recipe.ends
    wrapped = np.clip(whole, least, most).astype(np.int32) & ((1 << element.bits) - 1)
    return wrapped.astype(element.code_dtype)
