"""AWQ: inputs that matter made larger before rounding, and ranges clipped where that helps the output."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._observer import integer
from lowprec.quantizers._settings import Settings, activations_of, bar, moment, settings, squared, weight_of
from lowprec.quantizers.result import QuantizedWeight
from lowprec.quantizers.transforms import Divide

_CLIPS = [1 - i / 20 for i in range(11)]  # 1, 0.95, ..., 0.5


def awq(
    w: ArrayLike,
    x: ArrayLike,
    fmt: Any,
    *,
    block_size: int | None = None,
    symmetric: bool = True,
    calibration: Any = "absmax",
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
    grid: int = 20,
    clip: bool = True,
    progress: bool = True,
) -> QuantizedWeight:
    """Quantise a weight whose inputs are scaled by how large their activations are.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like
        Calibration activations, inputs on the last axis.
    fmt, symmetric, calibration, scale_dtype, scale_rule, divisor
        As in `lowprec.quantize`; a block format of GGML is not taken.
    block_size : int, optional
        Inputs that share a scale, the last block shorter where it does not divide; by default that of a block format,
        else all inputs of an output.
    grid : int
        How many exponents are tried: 0, 1/grid, ..., (grid - 1)/grid.
    clip : bool
        Whether each block's range is then clipped to the share of 1, 0.95, ..., 0.5 that is best for the output.
    progress : bool
        Whether a progress bar is shown if it takes more than a second.

    Returns
    -------
    QuantizedWeight
        With a transform `Divide`: activations are divided by what the weight's inputs were multiplied by. `fold` puts
        it into the layer or norm before.

    Raises
    ------
    ImportError
        If tqdm is missing, with `progress`.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` and `x` do not fit, or hold NaN or infinities or nothing, or as `lowprec.quantize`.

    Notes
    -----
    Lin et al., "AWQ" (2023). With m the mean of ``|x|`` over tokens, of each input, and no less than 1e-4 of the
    largest, input j is multiplied by ``s = m**a`` divided by ``sqrt(max(s) * min(s))``. The a whose quantised weight
    has the least mean squared error of the output is taken, the smallest of equals. The error is
    ``trace(D C D^T)``, with C the mean of ``x^T x`` over tokens and D the error of the weight, in float64: that of all
    tokens, not of a sample. Clipping looks at each block of each output alone: the least ``d C d^T`` over the block's
    inputs, the longest range of equals.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> rng = np.random.default_rng(0)
    >>> w, x = rng.standard_normal((64, 128)), rng.standard_normal((2000, 128)) * rng.exponential(size=128) ** 2
    >>> methods = lp.quantizers.round_to_nearest, lp.quantizers.awq
    >>> errors = [method(w, x[:1000], "int4", block_size=32).error(w, x[1000:]) for method in methods]
    >>> errors[1] < 0.6 * errors[0]
    True
    """
    weight = weight_of(w)
    how = settings(
        fmt, block_size=block_size, symmetric=symmetric, calibration=calibration, scale_dtype=scale_dtype,
        scale_rule=scale_rule, divisor=divisor,
    )  # fmt: skip
    if integer(grid, "grid") < 1:
        msg = f"`grid` must be 1 or more, got {grid}."
        raise ValueError(msg)
    if not isinstance(clip, (bool, np.bool_)):
        msg = f"`clip` must be True or False, got {clip!r}."
        raise TypeError(msg)
    inputs = activations_of(x, weight.shape[1])
    moments, size = moment(inputs), np.abs(inputs).mean(axis=0, dtype=np.float64)
    size = np.maximum(size, 1e-4 * size.max()) if size.any() else np.ones_like(size)
    best, least = Divide(np.ones(len(size))), np.inf
    for step in bar(range(grid), "awq", grid, progress=progress):
        scale = size ** (step / grid)
        trial = Divide(scale / np.sqrt(scale.max() * scale.min()))
        back = trial.undo(how.quantize(trial.weight(weight)).dequantize(np.float64))
        error = float(squared(back - weight, moments).sum())
        if error < least:
            best, least = trial, error
    scaled = best.weight(weight)
    if clip:
        wide = best.scale.astype(np.float64)
        scaled = _clipped(scaled, moments / wide / wide[:, None], how)
    return QuantizedWeight(how.quantize(scaled), best, "awq")


def _clipped(weight: Array, moments: Array, how: Settings) -> Array:
    """Return a weight with each block of each output clipped where the error of its part of the output is least."""
    groups = how.groups(weight.shape[1])
    outer = how.quantize(weight).tensor_scale
    starts = [part.start for part in groups]
    lengths = [part.stop - part.start for part in groups]
    low = np.repeat(np.minimum(np.minimum.reduceat(weight, starts, axis=1), 0), lengths, axis=1)
    high = np.repeat(np.maximum(np.maximum.reduceat(weight, starts, axis=1), 0), lengths, axis=1)
    if how.recipe.symmetric:
        high = np.maximum(-low, high)
        low = -high
    best = np.ones((len(weight), len(groups)), weight.dtype)
    least = np.full(best.shape, np.inf)
    for ratio in _CLIPS:
        kept = weight.dtype.type(ratio)
        made = how.quantize(np.clip(weight, kept * low, kept * high), tensor_scale=outer)
        wrong = made.dequantize(np.float64) - weight
        errors = np.stack([squared(wrong[:, part], moments[part, part]) for part in groups], axis=1)
        better = errors < least
        best[better], least[better] = kept, errors[better]
    ratios = np.repeat(best, lengths, axis=1)
    return np.clip(weight, ratios * low, ratios * high)
