"""GPTQ: columns quantised in turn, the error of each spread over those that are left."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._observer import integer
from lowprec.arrays import QuantizedArray
from lowprec.quantizers._columns import Columns
from lowprec.quantizers._compensation import Compensation, factor
from lowprec.quantizers._settings import Settings, activations_of, moment, settings, share, weight_of
from lowprec.quantizers.result import QuantizedWeight


def gptq(
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
    damp: float = 0.01,
    columns: int = 128,
    act_order: bool = False,
    static_groups: bool | None = None,
    progress: bool = True,
) -> QuantizedWeight:
    """Quantise a weight column by column, and let the columns that are left make up for the error.

    Parameters
    ----------
    w : array_like
        Weight, shape (outputs, inputs).
    x : array_like
        Calibration activations, inputs on the last axis; thousands of tokens.
    fmt, symmetric, calibration, scale_dtype, scale_rule, divisor
        As in `lowprec.quantize`; a block format of GGML is not taken.
    block_size : int, optional
        Inputs that share a scale, the last block shorter where it does not divide; by default that of a block format,
        else all inputs of an output.
    damp : float
        What is added to the diagonal of the Hessian, as a share of its mean: from 0 to 1.
    columns : int
        After how many columns the error is spread over all later ones at once; for speed, the result is the same but
        for the rounding of float64 sums.
    act_order : bool
        Take the inputs with the largest mean square first. Blocks stay consecutive inputs; their scales are then those
        of the weight before any correction.
    static_groups : bool, optional
        Whether scales are those of the weight before any correction; otherwise those of a block's numbers when its
        first column's turn comes. By default only with `act_order`.
    progress : bool
        Whether a progress bar is shown if it takes more than a second.

    Returns
    -------
    QuantizedWeight
        Without a transform.

    Raises
    ------
    ImportError
        If scipy, or tqdm with `progress`, is missing.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` and `x` do not fit, hold NaN or infinities or nothing, the Hessian is singular (``damp=0`` and too few
        tokens), or `act_order` comes with ``static_groups=False``.

    Notes
    -----
    Frantar et al., "GPTQ" (2022), with H = 2 x^T x / tokens + damp * mean(diagonal) * I in float64, and U the upper
    triangular matrix with H^-1 = U^T U, found as the inverse of the factor of H taken from its last row upwards, so
    that H^-1 itself is never formed. For each column j: q = quantised w[:, j]; e = (w[:, j] - q) / U[j, j];
    w[:, j+1:] -= e U[j, j+1:]. An input that is 0 in all of `x` has no say: its weights are rounded as they are. The
    result is the same on every run with the same number of BLAS threads; another BLAS or number of threads rounds H's
    sums in another order, which can move a number that lies near the middle of two codes.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> rng = np.random.default_rng(0)
    >>> w, x = rng.standard_normal((64, 128)), rng.standard_normal((2000, 20)) @ rng.standard_normal((20, 128))
    >>> methods = lp.quantizers.round_to_nearest, lp.quantizers.gptq
    >>> errors = [method(w, x[:1000], "int4", block_size=32).error(w, x[1000:]) for method in methods]
    >>> errors[1] < errors[0] / 3
    True
    """
    weight = weight_of(w)
    how = settings(
        fmt, block_size=block_size, symmetric=symmetric, calibration=calibration, scale_dtype=scale_dtype,
        scale_rule=scale_rule, divisor=divisor,
    )  # fmt: skip
    if static_groups is False and act_order:
        msg = "`static_groups` must not be False with act_order=True, because blocks stay consecutive inputs; leave it."
        raise ValueError(msg)
    if integer(columns, "columns") < 1:
        msg = f"`columns` must be 1 or more, got {columns}."
        raise ValueError(msg)
    hessian = 2 * moment(activations_of(x, weight.shape[1]))
    order = np.argsort(-np.diag(hessian), kind="stable") if act_order else np.arange(len(hessian))
    upper = factor(hessian[np.ix_(order, order)], share(damp, "damp"))
    static = bool(act_order) if static_groups is None else bool(static_groups)
    made = _compensate(weight, upper, order, how, columns, static=static, progress=progress)
    return QuantizedWeight(made, None, "gptq")


def _compensate(
    weight: Array, upper: Array, order: Array, how: Settings, step: int, *, static: bool, progress: bool
) -> QuantizedArray:
    """Return the weight quantised in an order of columns, the error of each spread over the later ones."""
    rows, inputs = weight.shape
    rest = weight[:, order].astype(np.float64)  # in the order of the work, as all that is indexed by `place`
    first = how.quantize(weight)  # its scales, if they are static; the second scale of two-level formats in any case
    groups = how.groups(inputs)
    group_of = np.repeat(np.arange(len(groups)), [part.stop - part.start for part in groups])
    parts: list[QuantizedArray | None] = [None] * len(groups)
    rules: list[Columns | None] = [None] * len(groups)
    codes = np.empty((rows, inputs), first.format.code_dtype)
    work = Compensation(rest, upper, step)

    def quantised(place: int) -> Array:
        """Return the values of a column's codes."""
        group = int(group_of[order[place]])
        rule = rules[group]
        if rule is None:
            own = groups[group]
            now = weight[:, own] if static else work.current(own).astype(weight.dtype)
            part = how.quantize(now, tensor_scale=first.tensor_scale)
            parts[group] = part
            rule = rules[group] = Columns(part, how, weight.dtype)
        codes[:, order[place]], values = rule.take(rest[:, place])
        return values

    work.run(quantised, "gptq", progress=progress)
    made = [part for part in parts if part is not None]
    return QuantizedArray(
        codes,
        _joined([part.scale for part in made]),
        None if first.zero_point is None else _joined([p.zero_point for p in made if p.zero_point is not None]),
        format=first.format,
        axis=first.axis,
        block_size=first.block_size,
        tensor_scale=None if first.tensor_scale is None else float(first.tensor_scale),
        recipe=f"gptq {first.recipe}",
    )


def _joined(arrays: list[Array]) -> Array:
    """Return the scales of all groups: one for each output and group, or for each output."""
    return arrays[0] if arrays[0].ndim == 1 else np.concatenate(arrays, axis=1)
