"""A weight quantised column by column, with the scales that `quantize` finds for its groups."""

from __future__ import annotations

import numpy as np

from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.codebooks import CodebookFormat
from lowprec.codec import decode, encode
from lowprec.formats import IntFormat
from lowprec.quantizers._settings import Settings


class Columns:
    """Scales of one group of columns, and the codes and values that a column gets with them.

    Codes are those of `quantize`, operation by operation: the quotient in the weight's own dtype, rounded to nearest
    even. Values are exact in float64, but for the rounding of their last product.
    """

    def __init__(self, made: QuantizedArray, how: Settings, dtype: np.dtype[np.generic]) -> None:
        self.element = made.format
        outer = 1.0 if made.tensor_scale is None else made.tensor_scale
        wide = made.scale.reshape(made.shape[0]).astype(dtype)
        self.step = np.multiply(wide, dtype.type(outer), dtype=dtype)
        self.exact = made.scale.reshape(made.shape[0]).astype(np.float64) * float(outer)
        self.points = None if made.zero_point is None else made.zero_point.reshape(made.shape[0]).astype(np.float64)
        self.ends = how.recipe.ends if isinstance(self.element, IntFormat) else (0, 0)

    def take(self, column: Array) -> tuple[Array, Array]:
        """Return codes and float64 values of a column (outputs,) in float64."""
        with np.errstate(over="ignore", under="ignore"):
            quotient = column.astype(self.step.dtype) / self.step
        if isinstance(self.element, IntFormat):
            whole = np.rint(quotient).astype(np.float64)
            whole += 0.0 if self.points is None else self.points
            np.clip(whole, *self.ends, out=whole)
            codes = (whole.astype(np.int32) & ((1 << self.element.bits) - 1)).astype(self.element.code_dtype)
            return codes, (whole if self.points is None else whole - self.points) * self.exact
        if isinstance(self.element, CodebookFormat):
            codes = self.element.encode(quotient)
        else:
            codes = np.asarray(encode(quotient, self.element, overflow="saturate"))
        return codes, np.asarray(decode(codes, self.element, dtype=np.float64)) * self.exact
