"""What the quantisers of weights share: their arguments, checked, and groups of columns that share scales."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array
from lowprec._extras import require
from lowprec._observer import finite
from lowprec.arrays import QuantizedArray
from lowprec.blocks import block_format, is_block_name
from lowprec.quantizers.recipe import Recipe, make_recipe
from lowprec.quantizers.steps import quantized
from lowprec.rounding import Rounding

EXTRA = "quantize"


@dataclass(frozen=True)
class Settings:
    """How a weight (outputs, inputs) is quantised, all but the choice of codes."""

    recipe: Recipe
    calibration: Any
    tensor_scale: Any = "auto"

    def quantize(self, w: Array, *, tensor_scale: Any = None) -> QuantizedArray:
        """Quantise a weight, or some of its columns that begin where a group does."""
        outer = self.tensor_scale if tensor_scale is None else tensor_scale
        return quantized(w, self.recipe, self.calibration, tensor_scale=outer)

    def groups(self, inputs: int) -> list[slice]:
        """Return the columns of each group; the last may have fewer."""
        size = self.recipe.block_size
        length = size if isinstance(size, int) else max(1, inputs)
        return [slice(begin, min(begin + length, inputs)) for begin in range(0, inputs, length)]


def settings(
    fmt: Any,
    *,
    block_size: int | None = None,
    symmetric: bool = True,
    calibration: Any = "absmax",
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
) -> Settings:
    """Check the arguments that all weight quantisers hand to `quantize`; no block: one scale for each output."""
    if is_block_name(fmt) and block_format(fmt).ggml:
        msg = (
            f"`fmt` must not be GGML's `{block_format(fmt)}`, whose codes and scales go together; use lowprec.quantize."
        )
        raise ValueError(msg)
    axis = 0 if block_size is None and not is_block_name(fmt) else 1
    recipe = make_recipe(
        fmt, 2, axis, block_size, symmetric, scale_dtype, scale_rule, divisor, "auto", "nearest_even", "raise"
    )
    return Settings(recipe, calibration)


def weight_of(w: Any) -> Array:
    """Return a weight as float32 or float64, finite, with two axes and an element."""
    values = finite(w, "w")
    if values.ndim != 2 or not values.size:
        msg = f"`w` must have shape (outputs, inputs) and an element, got {values.shape}."
        raise ValueError(msg)
    return values


def activations_of(x: Any, inputs: int, name: str = "x") -> Array:
    """Return calibration activations as (tokens, inputs), finite, one token or more."""
    if x is None:
        msg = (
            f"`{name}` must hold calibration activations of shape (tokens, {inputs}), got None; run the layer's inputs."
        )
        raise TypeError(msg)
    values = finite(x, name)
    if values.ndim < 1 or values.shape[-1] != inputs:
        msg = f"`{name}` must have {inputs} features on its last axis, as `w` has inputs, got shape {values.shape}."
        raise ValueError(msg)
    if not values.size:
        msg = f"`{name}` must hold one token of calibration data or more, got shape {values.shape}."
        raise ValueError(msg)
    return values.reshape(-1, inputs)


def moment(x: Array) -> Array:
    """Return the mean over tokens of the products of two inputs, (inputs, inputs) in float64."""
    x = x.astype(np.float64, copy=False)
    return np.asarray(x.T @ x / len(x))


def squared(wrong: Array, moments: Array) -> Array:
    """Return the mean squared error that an error of the weight makes in each output."""
    wrong = wrong.astype(np.float64, copy=False)
    return np.asarray(np.einsum("ij,ij->i", wrong @ moments, wrong))


def bar(steps: Iterable[Any], name: str, total: int, *, progress: bool) -> Iterable[Any]:
    """Return steps that show a progress bar once they have taken a second."""
    if not isinstance(progress, (bool, np.bool_)):
        msg = f"`progress` must be True or False, got {progress!r}."
        raise TypeError(msg)
    if not progress:
        return steps
    made: Iterable[Any] = require("tqdm", "A progress bar", EXTRA).tqdm(steps, name, total, leave=False, delay=1)
    return made


def share(value: Any, name: str) -> float:
    """Check a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"`{name}` must be a number from 0 to 1, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not 0 <= value <= 1:
        msg = f"`{name}` must be from 0 to 1, got {value}."
        raise ValueError(msg)
    return float(value)


def fresh(rng: Any) -> np.random.Generator:
    """Return a generator from a seed or a generator."""
    return (
        rng if isinstance(rng, np.random.Generator) else np.random.default_rng(_checks.seed(rng, Rounding.STOCHASTIC))
    )
