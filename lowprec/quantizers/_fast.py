"""What `quantize` gives to the kernels: float32 numbers in blocks that follow one another in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lowprec import _quantizing
from lowprec._checks import Array
from lowprec._grid import block_lengths, grid_shape
from lowprec._quantizing import Found, Scaling
from lowprec.formats import IntFormat
from lowprec.kernels.quantize import Shape
from lowprec.quantizers.recipe import Recipe
from lowprec.rounding import Rounding

_SMALL = 1 << 12  # numbers below which it does not pay, even compiled


def _blocks(values: Array, recipe: Recipe) -> Shape | None:
    """Return where the blocks lie, None where the kernels do not take numbers, blocks, elements or rounding."""
    if values.size < _SMALL or values.dtype != np.float32 or recipe.rounding is not Rounding.NEAREST_EVEN:
        return None
    if not _quantizing.encodable(recipe.element):
        return None
    return _quantizing.block_shape(values.shape, block_lengths(values.shape, recipe.axis, recipe.block_size))


def _ends(recipe: Recipe) -> tuple[int, int] | None:
    """Return the least and the largest code value of an integer format."""
    return recipe.ends if isinstance(recipe.element, IntFormat) else None


def found(
    values: Array, recipe: Recipe, calibration: Any, outer_of: Callable[[np.float32], np.float32 | None]
) -> tuple[Found, np.float32 | None] | None:
    """Return codes, scales and zero points of numbers calibrated by their extent, and the scale of the tensor.

    ``outer_of`` makes that one from the largest magnitude. None where the kernels do not serve, or a number
    is not finite.
    """
    if not isinstance(calibration, str) or calibration.strip().lower() not in ("absmax", "minmax"):
        return None
    shape = _blocks(values, recipe)
    scaling = Scaling(recipe.scale, recipe.rule, recipe.divisor, recipe.unit, None, recipe.symmetric)
    if shape is None or not _quantizing.scalable(scaling):
        return None
    numbers, outer = np.ascontiguousarray(values), None
    if recipe.two_level:
        top = _quantizing.largest(numbers)
        if not np.isfinite(top):
            return None
        outer = outer_of(top)
        scaling = scaling._replace(tensor=outer)
    made = _quantizing.quantize_blocks(numbers, shape, recipe.element, scaling, _ends(recipe))
    if made is None:
        return None
    grid = grid_shape(values.shape, recipe.axis, recipe.block_size)
    points = None if made.zero_point is None else made.zero_point.reshape(grid)
    return Found(made.codes, made.scale.reshape(grid), points), outer


def codes(values: Array, step: Array, points: Array | None, recipe: Recipe) -> Array | None:
    """Return the codes of finite numbers divided by their blocks' steps, as `Found` has them; None as in `found`."""
    shape = _blocks(values, recipe)
    if shape is None:
        return None
    numbers = np.ascontiguousarray(values)
    return _quantizing.encode_blocks(numbers, shape, recipe.element, step, points, _ends(recipe))
