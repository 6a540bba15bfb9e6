"""The product of a candidate on given tensors, by the package's own quantisers and products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lowprec import codec
from lowprec._checks import Array
from lowprec.accumulators import Accumulator, Chunked, Exact
from lowprec.blocks import BlockFormat
from lowprec.cost._candidates import UNSCALED_BITS, Candidate, Operand
from lowprec.formats import FloatFormat, IntFormat
from lowprec.matmul import linear
from lowprec.pruning.api import sparsify
from lowprec.quantizers.api import quantize
from lowprec.sparse_arrays import Sparse24

Scales = str
"""``"tensor"``: one scale for all of x and one for all of w. ``"row"``: one for each row of both."""


def product(candidate: Candidate, x: Array, w: Array, scales: Scales) -> Array:
    """Return x w^T as a candidate computes it.

    Parameters
    ----------
    candidate : Candidate
        What to compute with.
    x, w : ndarray
        Finite floats of shapes (M, K) and (N, K).
    scales : {"tensor", "row"}
        Where formats that need scales get them.

    Returns
    -------
    ndarray
        Float64 of shape (M, N).

    Raises
    ------
    ValueError
        If the product cannot be computed: the accumulator does not take the formats.
    """
    model = candidate.preset or candidate.model()
    if candidate.preset is not None and isinstance(candidate.multiplied[0], IntFormat) and not candidate.is_block:
        model = candidate.instruction.model
    weights: Any = w if candidate.sparsity is None else sparsify(w, candidate.sparsity)
    if candidate.is_storage:
        weights = _decoded(weights, candidate, scales)
    if candidate.is_block:
        own = None if candidate.accumulator == candidate.default_accumulator else model
        result = linear(quantize(x, candidate.x), quantize(weights, candidate.w), accumulator=own)
    elif any(map(_scaled, candidate.multiplied)):
        result = _scaled_product(candidate, model, x, weights, scales)
    else:
        result = linear(x, weights, dtype=candidate.multiplied, accumulator=model)
    return np.asarray(result).astype(np.float64)


def _scaled(fmt: Any) -> bool:
    """Say whether numbers are divided by a scale before they are rounded to a format."""
    return isinstance(fmt, IntFormat) or fmt.bits < UNSCALED_BITS


def _scaled_product(candidate: Candidate, model: Any, x: Array, weights: Any, scales: Scales) -> Any:
    """Return the product of codes, summed by the accumulator, times both scales in float32."""
    one, other = candidate.multiplied
    left = _quantized(x, one, candidate, model, x.shape[1], scales)
    right = _quantized(weights, other, candidate, model, x.shape[1], scales)
    if not isinstance(model, Exact) or isinstance(one, IntFormat):
        return linear(left, right, accumulator=model)
    # The exact sum of codes is rounded to float32 when it is read out, then scaled, as by an accumulator in hardware.
    dense: Any = right.to_dense() if isinstance(right, Sparse24) else right
    codes, weights = codec.decode(left.codes, one), codec.decode(dense.codes, other)
    total = linear(codes, weights, dtype=(one, other), accumulator=model)
    steps = [np.broadcast_to(q.scale, (q.shape[0],)) for q in (left, dense)]
    with np.errstate(over="ignore", invalid="ignore"):
        return total * np.multiply.outer(*steps)


def _quantized(values: Any, fmt: Operand, candidate: Candidate, model: Any, k: int, scales: Scales) -> Any:
    """Quantise one operand of a pair of which one has scales; the other keeps its numbers, with a scale of 1."""
    if not _scaled(fmt):
        return quantize(values, fmt, scale=np.float32(1.0))
    axis = 0 if scales == "row" else None
    return quantize(values, fmt, axis=axis, divisor=divisor(fmt, model, k))


def divisor(fmt: Any, model: Any, k: int) -> float | None:
    """Return what the largest magnitude becomes, None for the largest value of the format.

    A float's is kept small enough for sums of k products to stay inside the accumulator's format, whatever the data:
    the largest value up to ``sqrt(accumulator's max / k)``. This costs floats nothing but subnormals at the other end.
    Integers keep all of their range: what they overflow is seen in the result.
    """
    if isinstance(model, Chunked):
        parts = [divisor(fmt, model.inner, min(k, model.every)), divisor(fmt, model.outer, k)]
        return min((part for part in parts if part is not None), default=None)
    out = getattr(model, "format", None) or getattr(model, "out", None)
    if not isinstance(fmt, FloatFormat) or not isinstance(model, Accumulator) or not isinstance(out, FloatFormat):
        return None
    most = math.sqrt(out.max / k)
    if most >= fmt.max:
        return None
    return float(codec.round_to(most, fmt, rounding="toward_zero")) or None


def _decoded(weights: Any, candidate: Candidate, scales: Scales) -> Any:
    """Return weights that were stored in a narrow format, as numbers."""
    fmt = candidate.w
    axis = 0 if scales == "row" and not isinstance(fmt, BlockFormat) else None
    stored = quantize(weights, fmt, axis=axis)
    if not isinstance(stored, Sparse24):
        return stored.dequantize()
    dense: Any = stored.to_dense()
    return sparsify(dense.dequantize(), str(candidate.sparsity))


def reference_product(x: Array, w: Array) -> Array:
    """Return x w^T in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(x.astype(np.float64) @ w.astype(np.float64).T)
