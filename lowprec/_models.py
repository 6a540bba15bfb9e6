"""What a product has to know of the model of its sum."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from lowprec import accumulators
from lowprec._rules import fits
from lowprec.accumulators import Accumulator, Chunked, Integer, Sequential
from lowprec.formats import Format
from lowprec.rounding import Rounding

_SINGLE = np.dtype(np.float32)
NVIDIA_NAN = 0x7FFFFFFF
CANONICAL_NAN = 0x7FC00000


class Facts(NamedTuple):
    """What a product has to know of the model of its sum."""

    integer: bool  # integers are multiplied
    item: int  # bytes of the numbers that the kernels take
    nan_bits: int | None  # of a float32 result; None: the operands' NaN are kept
    all_ones_nan: bool  # NaN is all ones but the sign
    stochastic: bool  # random words are drawn
    warning: str | None


def item_size(model: Accumulator, operands: tuple[Format, Format]) -> int:
    """Return the bytes of the numbers that a model is evaluated in: 4 (float32 or int32) or 8 (float64)."""
    if isinstance(model, Integer):
        return 4
    formats = [*operands, model.result_format, getattr(model, "product", None)]
    if isinstance(model, Chunked):
        inner = cast(Accumulator, model.inner)
        formats += [inner.result_format, getattr(inner, "product", None)]
    return 4 if all(fmt is None or fits(fmt, _SINGLE) for fmt in formats) else 8


def wide_integers(model: Integer, operands: tuple[Format, Format]) -> bool:
    """Say whether the exact sum of a block may not fit in 64 bits; a sum that wraps may be wrong above them."""
    need = sum(fmt.bits for fmt in operands) + model.length.bit_length() + 1
    return model.overflow == "saturate" and (need > 62 or any(fmt.max >= 2.0**31 for fmt in operands))


def nan_bits(model: Accumulator) -> int | None:
    """Return the bits of the float32 NaN that a model gives, None where it keeps its operands'."""
    if isinstance(model, (accumulators.FmaPairOddFirst, accumulators.EvenOddPair)):
        return None
    return NVIDIA_NAN if is_nvidia(model) else CANONICAL_NAN


def is_nvidia(model: Accumulator) -> bool:
    """Say whether a model gives NVIDIA's NaN, all ones but the sign."""
    return isinstance(
        model,
        (
            accumulators.FusedTruncated,
            accumulators.FusedTruncatedScaled,
            accumulators.FusedTruncatedGroupScaled,
            accumulators.Fp8ViaF16,
        ),
    )


def is_stochastic(model: Accumulator | None) -> bool:
    """Say whether a model draws random words."""
    if isinstance(model, Chunked):
        return is_stochastic(model.outer) or is_stochastic(cast(Accumulator, model.inner))
    return isinstance(model, Sequential) and model.rounding is Rounding.STOCHASTIC
