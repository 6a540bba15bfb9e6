"""HQQ: the zero of each block found without data, by half-quadratic splitting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._grid import spread
from lowprec._observer import integer, number
from lowprec.arrays import QuantizedArray
from lowprec.codec import cast
from lowprec.quantizers._settings import settings, weight_of
from lowprec.quantizers.result import QuantizedWeight


def hqq(
    w: ArrayLike,
    x: ArrayLike | None,
    fmt: Any,
    *,
    block_size: int | None = None,
    scale_dtype: Any = None,
    norm: float = 0.7,
    iterations: int = 20,
) -> QuantizedWeight:
    """Quantise a weight to integers with an offset for each block that is robust against outliers.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like or None
        Not used; here so that all weight quantisers are called in one way.
    fmt : str or IntFormat
        An integer format.
    block_size : int, optional
        Inputs that share a scale and an offset, the last block shorter where it does not divide; by default all inputs
        of an output.
    scale_dtype : str, FloatFormat or dtype, optional
        Format of scales and offsets; fp32 by default.
    norm : float
        The p of the norm that is made small, above 0 and at most 1.
    iterations : int
        How many steps.

    Returns
    -------
    QuantizedWeight
        Without a transform; the weight has an `offset`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` is no finite matrix, `fmt` is no integer format, or a number is out of range.

    Notes
    -----
    Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), with the numbers of their
    code: p = 0.7, beta = 10 growing by 1.01, 20 steps. With s = (max - min) / (levels - 1) of a block and the zero z at
    first -min / s, a step is: q = clip(rint(w / s + z)); r = s (q - z); e = shrunk(w - r), where
    ``shrunk(d) = sign(d) * max(|d| - |d|**(p - 1) / beta, 0)``; z = mean(q - (w - e) / s). Each block keeps the z of
    its least mean ``|w - r|`` of all steps (the published code looks at all blocks at once, and stops early). In
    float64; scales and offsets are rounded to `scale_dtype`, and then codes are the nearest for the rounded ones.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w, x = np.random.default_rng(0).standard_normal((2, 64, 256))
    >>> affine = lp.quantizers.round_to_nearest(w, None, "uint2", block_size=32, symmetric=False)
    >>> bool(lp.quantizers.hqq(w, None, "uint2", block_size=32).error(w, x) < affine.error(w, x))
    True
    """
    del x
    weight = weight_of(w)
    how = settings(fmt, block_size=block_size, symmetric=False, scale_dtype=scale_dtype)
    element, recipe = how.recipe.element, how.recipe
    power, steps = number(norm, "norm", 0, 1), integer(iterations, "iterations")
    if steps < 0:
        msg = f"`iterations` must be 0 or more, got {iterations}."
        raise ValueError(msg)
    low, high = recipe.ends
    scale, zero = _solve(weight.astype(np.float64), how.groups(weight.shape[1]), high - low, power, steps)
    shape = (len(weight),) if recipe.block_size is None else scale.shape
    kept = [np.asarray(cast(each.reshape(shape), recipe.scale)) for each in (scale, -(zero + low) * scale)]
    kept[0] = np.where(kept[0].astype(np.float64) > 0, kept[0], np.array(1, kept[0].dtype))
    wide, offset = (spread(each.astype(np.float64), weight.shape, recipe.axis, recipe.block_size) for each in kept)
    whole = np.clip(np.rint((weight - offset) / wide), low, high).astype(np.int64)
    codes = (whole & ((1 << element.bits) - 1)).astype(element.code_dtype)
    made = QuantizedArray(
        codes, kept[0], format=element, axis=recipe.axis, block_size=recipe.block_size, offset=kept[1], recipe="hqq"
    )
    return QuantizedWeight(made, None, "hqq")


def _solve(weight: Array, groups: list[slice], top: int, power: float, steps: int) -> tuple[Array, Array]:
    """Return scales and zeros of each output's groups, for codes from 0 to `top`."""
    scales, zeros = np.empty((2, len(weight), len(groups)))
    for index, part in enumerate(groups):
        block = weight[:, part]
        least, most = block.min(axis=1, keepdims=True), block.max(axis=1, keepdims=True)
        scale = (most - least) / top
        scale = np.where(scale > 0, scale, 1)
        zero = best = -least / scale
        lowest, beta = np.full(len(weight), np.inf), 10.0
        for _ in range(steps + 1):
            codes = np.clip(np.rint(block / scale + zero), 0, top)
            wrong = block - (codes - zero) * scale
            error = np.abs(wrong).mean(axis=1)
            better = error < lowest
            best, lowest = np.where(better[:, None], zero, best), np.where(better, error, lowest)
            size = np.abs(wrong)
            with np.errstate(divide="ignore"):
                kept = np.sign(wrong) * np.maximum(size - size ** (power - 1) / beta, 0)
            zero = (codes - (block - kept) / scale).mean(axis=1, keepdims=True)
            beta *= 1.01
        scales[:, index], zeros[:, index] = scale[:, 0], best[:, 0]
    return scales, zeros
