"""Weights rounded to the nearest codes: with the range of the data, and with that of least squared error."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from lowprec.quantizers._settings import settings, weight_of
from lowprec.quantizers.result import QuantizedWeight


def round_to_nearest(
    w: ArrayLike,
    x: ArrayLike | None,
    fmt: Any,
    *,
    block_size: int | None = None,
    symmetric: bool = True,
    calibration: Any = "absmax",
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
) -> QuantizedWeight:
    """Quantise a weight by rounding every number to the nearest code.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like or None
        Not used; here so that all weight quantisers are called in one way.
    fmt, symmetric, calibration, scale_dtype, scale_rule, divisor
        As in `lowprec.quantize`; a block format of GGML is not taken.
    block_size : int, optional
        Inputs that share a scale, the last block shorter where it does not divide; by default that of a block format,
        else all inputs of an output.

    Returns
    -------
    QuantizedWeight
        Without a transform.

    Raises
    ------
    TypeError, ValueError
        If `w` is no finite matrix, or as `lowprec.quantize`.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w = np.random.default_rng(0).standard_normal((64, 256))
    >>> lp.quantizers.round_to_nearest(w, None, "int4", block_size=32).weight.nbytes
    10240
    """
    del x
    how = settings(
        fmt, block_size=block_size, symmetric=symmetric, calibration=calibration, scale_dtype=scale_dtype,
        scale_rule=scale_rule, divisor=divisor,
    )  # fmt: skip
    return QuantizedWeight(how.quantize(weight_of(w)), None, "round_to_nearest")


def mse_clip(
    w: ArrayLike,
    x: ArrayLike | None,
    fmt: Any,
    *,
    block_size: int | None = None,
    symmetric: bool = True,
    scale_dtype: Any = None,
    scale_rule: str | None = None,
    divisor: float | None = None,
) -> QuantizedWeight:
    """Quantise a weight by rounding, each block clipped where its own squared error is least.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like or None
        Not used; here so that all weight quantisers are called in one way.
    fmt, symmetric, scale_dtype, scale_rule, divisor
        As in `lowprec.quantize`; a block format of GGML is not taken.
    block_size : int, optional
        As in `round_to_nearest`.

    Returns
    -------
    QuantizedWeight
        Without a transform.

    Raises
    ------
    TypeError, ValueError
        If `w` is no finite matrix, or as `lowprec.quantize`.

    Notes
    -----
    ``round_to_nearest(..., calibration="mse")``; `lowprec.MSE` names the ranges that are tried. The search is made with
    exact scales: rounding them to `scale_dtype` comes after it, so it helps little where they are powers of two.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w, x = np.random.default_rng(0).standard_normal((2, 64, 256))
    >>> methods = lp.quantizers.round_to_nearest, lp.quantizers.mse_clip
    >>> [round(method(w, None, "int3", block_size=32).error(w, x), 3) for method in methods]
    [0.052, 0.037]
    """
    done = round_to_nearest(
        w, x, fmt, block_size=block_size, symmetric=symmetric, calibration="mse", scale_dtype=scale_dtype,
        scale_rule=scale_rule, divisor=divisor,
    )  # fmt: skip
    return QuantizedWeight(done.weight, None, "mse_clip")
