"""SmoothQuant: outliers moved from activations into the weight, so that both quantise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec.quantizers._settings import activations_of, settings, share, weight_of
from lowprec.quantizers.result import QuantizedWeight
from lowprec.quantizers.transforms import Divide


def smoothquant(
    w: ArrayLike,
    x: ArrayLike,
    fmt: Any,
    *,
    alpha: float = 0.5,
    block_size: int | None = None,
    symmetric: bool = True,
    calibration: Any = "absmax",
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
) -> QuantizedWeight:
    """Quantise a weight after dividing the activations' inputs by numbers that even out their ranges.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like
        Calibration activations, inputs on the last axis.
    fmt, symmetric, calibration, scale_dtype, scale_rule, divisor
        As in `lowprec.quantize`; a block format of GGML is not taken.
    alpha : float
        How much of the range goes into the weight, from 0 (that of the weight's inputs is evened out) to 1 (all that of
        the activations); 0.5 in the paper.
    block_size : int, optional
        Inputs that share a scale, the last block shorter where it does not divide; by default that of a block format,
        else all inputs of an output.

    Returns
    -------
    QuantizedWeight
        With a transform `Divide`. The activations are for the caller to quantise:
        ``lp.quantize(result.transform.apply(x), "int8")``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` and `x` do not fit, or hold NaN or infinities or nothing, or as `lowprec.quantize`.

    Notes
    -----
    Xiao et al., "SmoothQuant" (2022): input j of the activations is divided by
    ``max(|x_j|)**alpha / max(|w_j|)**(1 - alpha)``, in float64 and rounded to float32; by 1 if either maximum is 0.
    It is made for quantised activations with one scale for all inputs. For a quantised weight alone it is no gain, and
    a layer whose activations have no outliers loses (`output` in this project's measurements does).

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> rng = np.random.default_rng(0)
    >>> w, x = rng.standard_normal((64, 128)), rng.standard_normal((1000, 128))
    >>> x[:, 7] *= 100
    >>> smooth = lp.quantizers.smoothquant(w, x, "int8")
    >>> wrong = [lp.quantize(y, "int8").dequantize() - y for y in (x, smooth.transform.apply(x))]
    >>> errors = np.abs(wrong[0] @ w.T).mean(), np.abs(wrong[1] @ smooth.weight.dequantize().T).mean()
    >>> bool(errors[1] < errors[0] / 5)
    True
    """
    weight = weight_of(w)
    how = settings(
        fmt, block_size=block_size, symmetric=symmetric, calibration=calibration, scale_dtype=scale_dtype,
        scale_rule=scale_rule, divisor=divisor,
    )  # fmt: skip
    kept = share(alpha, "alpha")
    inputs = np.abs(activations_of(x, weight.shape[1])).max(axis=0).astype(np.float64)
    columns = np.abs(weight).max(axis=0).astype(np.float64)
    there = (inputs > 0) & (columns > 0)
    scale = np.where(there, inputs, 1) ** kept / np.where(there, columns, 1) ** (1 - kept)
    limits = np.finfo(np.float32)
    transform = Divide(np.clip(scale, float(limits.smallest_normal), float(limits.max)))
    return QuantizedWeight(how.quantize(transform.weight(weight)), transform, "smoothquant")
