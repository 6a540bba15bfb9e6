"""Operands of a product as an arithmetic wants them: rounded, quantised, sparse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.blocks import BlockFormat
from lowprec.codec import encode
from lowprec.cost._emulation import divisor
from lowprec.formats import FloatFormat, IntFormat
from lowprec.nn._weights import UNSCALED_BITS
from lowprec.quantizers.api import quantize
from lowprec.sparse_arrays import Sparse24

_LARGEST_TARGET = 2.0**16
Operand = FloatFormat | IntFormat | BlockFormat


@dataclass(frozen=True, eq=False)
class PreparedWeight:
    """A weight made ready once, for many products.

    Parameters
    ----------
    operand : ndarray, QuantizedArray or Sparse24
        What `lowprec.linear` is given.
    shape : tuple of int
        Outputs and inputs.
    exponent : int
        log2 of the power of two that the numbers were multiplied by.
    name : str
        Of the weight, as it was prepared.
    values : ndarray of float32, shape (outputs, inputs)
        The numbers before they are rounded for the product: sparse, and as they come back from their storage; in
        float64 if they were given so and not stored.
    arithmetic : Arithmetic, optional
        What prepared it, and alone may multiply it.

    Raises
    ------
    Nothing; `Arithmetic.prepare` makes it.
    """

    operand: Any
    shape: tuple[int, int]
    exponent: int
    name: str
    values: Array
    arithmetic: Any = None

    def __repr__(self) -> str:
        """Return one line."""
        kind = type(self.operand).__name__
        return f"PreparedWeight({self.name!r}, shape={self.shape}, {kind})"


def is_scaled(fmt: Operand, scales: str) -> bool:
    """Say whether numbers are divided by a scale before they are rounded to a format."""
    if isinstance(fmt, (IntFormat, BlockFormat)):
        return True
    return fmt.bits < UNSCALED_BITS and scales in ("auto", "tensor", "row")


def axes_of(fmt: Operand, scales: str, ndim: int, rows: int) -> Any:
    """Return the axes along which scales differ: those of the batch, and that of the rows where they have their own.

    With "none" there are none, as in `lowprec.matmul`.
    """
    if scales == "none":
        return None
    own = scales == "row" or (scales == "auto" and isinstance(fmt, IntFormat))
    batch = tuple(range(ndim - 2))
    axes = (*batch, rows % ndim) if own else batch
    return tuple(sorted(axes)) or None


def quantized(x: Array, fmt: Operand, scales: str, model: Any, *, rows: int, k: int, how: dict[str, Any]) -> Any:
    """Quantise one operand of a product: rows along one axis, sums along the other of the last two.

    Parameters
    ----------
    x : ndarray
        Shape (..., M, K) with rows=-2, or (..., K, N) with rows=-1; matrices of a batch have their own scales.
    fmt : FloatFormat, IntFormat or BlockFormat
        Of the codes.
    scales : str
        As in `Arithmetic`.
    model : Accumulator or str
        What sums, which bounds what the largest magnitude may become.
    rows : {-2, -1}
        The axis of the rows.
    k : int
        Products per sum.
    how : dict
        Of `lowprec.quantize`: rounding, rng, scale_rule.

    Returns
    -------
    QuantizedArray
        Of the shape of `x`.
    """
    if isinstance(fmt, BlockFormat):
        return quantize(x, fmt, axis=-1 if rows == -2 else -2, nonfinite="propagate", **how)
    how = {name: value for name, value in how.items() if name != "scale_rule"}
    if not is_scaled(fmt, scales):
        if isinstance(x, Sparse24):
            return quantize(x, fmt, scale=np.float32(1.0), nonfinite="propagate", **how)
        return QuantizedArray(encode(x, fmt, **how), np.float32(1.0), format=fmt)
    largest = None if scales == "none" or k == 0 else divisor(fmt, model, k)
    axis = axes_of(fmt, scales, x.ndim, rows)
    return quantize(x, fmt, axis=axis, divisor=largest, nonfinite="propagate", **how)


def spread(q: Any, rows: int) -> Array:
    """Return scales as an array that broadcasts over the product: (..., M, 1) of rows, (..., 1, N) of columns."""
    along = () if q.axis is None else q.axis if isinstance(q.axis, tuple) else (q.axis,)
    shape = [length if axis in along else 1 for axis, length in enumerate(q.shape)]
    return np.asarray(np.reshape(q.scale, shape))


def scale_exponent(tensor: Array, fmt: FloatFormat) -> int:
    """Return log2 of the power of two that maps a tensor's largest magnitude just inside a format.

    Parameters
    ----------
    tensor : ndarray of float
        Any shape.
    fmt : FloatFormat
        The format that the tensor will be rounded to.

    Returns
    -------
    int
        The largest k with ``max(abs(tensor)) * 2**k <= min(fmt.max, 2**16)``, found without rounding; 0 for a tensor
        that is empty, all zero, or not finite.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp, numpy as np
    >>> from lowprec.nn._operands import scale_exponent
    >>> scale_exponent(np.array([0.5, -3.0]), lp.format("e2m1fn"))  # 3 * 2 = 6, the format's largest value
    1
    """
    largest = float(np.max(np.abs(tensor), initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return 0
    (have, have_exponent), (room, room_exponent) = math.frexp(largest), math.frexp(min(fmt.max, _LARGEST_TARGET))
    return room_exponent - have_exponent - int(have > room)
