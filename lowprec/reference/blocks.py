"""Products of operands with scales: one element of a result, from two rows of codes to a float32 number.

References
----------
IEEE 754-2019: 4.3.1 (nearest even) for each rounding, 5.4.1 (fusedMultiplyAdd) for each step of the sum of blocks.
OCP Microscaling Formats (MX), version 1.0, 6.2 (the general dot product, whose inner and outer precision it leaves
open).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, cast

from lowprec.accumulators import (
    Accumulator,
    Exact,
    FusedTruncatedGroupScaled,
    FusedTruncatedScaled,
    Integer,
    Sequential,
)
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as _format
from lowprec.reference import sums
from lowprec.reference.models import accumulate
from lowprec.reference.numbers import decode, encode, fma, round_to
from lowprec.reference.reals import Real, multiply

__all__ = ["Row", "block_dot", "segments"]

_DIFFERENCE = IntFormat(bits=24)
_SINGLE = cast(FloatFormat, _format("float32"))


class Row(NamedTuple):
    """One operand along K.

    Parameters
    ----------
    codes : sequence of int
        Codes of `element`.
    element : str, FloatFormat, IntFormat or sequence of float
        The format of the codes; a sequence is a table, the value of every code.
    scales : sequence of float
        One for each block, or one for all.
    block : int, optional
        How many consecutive k share a scale, the last block may be shorter; None: all.
    zero_points : sequence of int, optional
        One for each scale.
    tensor_scale : float, optional
        The second scale.
    scale_format : str
        The format of the scales, which the block-scaled instructions of hardware read.

    Raises
    ------
    Nothing.
    """

    codes: Sequence[int]
    element: str | Format | Sequence[float]
    scales: Sequence[float]
    block: int | None = None
    zero_points: Sequence[int] | None = None
    tensor_scale: float | None = None
    scale_format: str = "float32"


def block_dot(a: Row, b: Row, c: float = 0.0, *, model: Accumulator | None = None, bias: float | None = None) -> float:
    """Return one element of the product of two operands that carry scales.

    Parameters
    ----------
    a, b : Row
        A row of the first operand and a column of the second, of equal length.
    c : float
        A float32 number that the sum of the blocks starts from.
    model : Accumulator, optional
        How the code values of a block are summed. ``Integer(32)`` if both elements are integers, ``Sequential("fp64")``
        if one has numbers that float32 does not hold, ``Sequential("fp32")`` otherwise.
    bias : float, optional
        A float32 number that is added at the end, in float32.

    Returns
    -------
    float
        A float32 number; of the format of `model` if that is `Exact`.

    Raises
    ------
    ValueError
        If the lengths differ, or `model` does not take the formats.

    Notes
    -----
    K is cut wherever a block of `a` or of `b` ends (`segments`); without blocks all of it is one segment, and without
    any k there is none. All operations are float32's, to nearest even::

        P[t] = float32(the model's sum, from 0, over the k of segment t, ascending, of (A[k] - za) * (B[k] - zb))
        S[t] = float32(float32(scale_a * tensor_scale_a) * float32(scale_b * tensor_scale_b))
        r = c
        for t in 0, 1, ...:
            r = fma(P[t], S[t], r)
        r = float32(r + bias)

    A and B are the values of the codes, without scales, those of a table rounded to float32; za, zb are the zero points
    and scale_a, scale_b the scales of the blocks that t lies in.

    ``Exact()`` has no segments: c and all products ``(A[k] - za) * scale_a * tensor_scale_a * (B[k] - zb) * ...`` are
    summed exactly and rounded once. A model with block scales is handed codes, scales and c as they are; its sum times
    ``float32(tensor_scale_a * tensor_scale_b)`` is the result.

    Examples
    --------
    >>> a = Row((3, 4, 5), "int8", (0.5, 2.0), block=2)
    >>> b = Row((1, 1, 1), "int8", (1.0,))
    >>> block_dot(a, b), list(segments(3, 2, None))
    (13.5, [(0, 2), (2, 3)])
    """
    if len(a.codes) != len(b.codes):
        msg = f"`a` and `b` must have the same length, got {len(a.codes)} and {len(b.codes)}."
        raise ValueError(msg)
    if model is None:
        model = _default(_element(a), _element(b))
    if isinstance(model, Exact):
        return _exact(a, b, c, model, bias)
    if isinstance(model, (FusedTruncatedScaled, FusedTruncatedGroupScaled)):
        r = _instruction(a, b, c, model)
    else:
        r = c
        for start, stop in segments(len(a.codes), a.block, b.block):
            r = fma(_sum(a, b, start, stop, model), _times(_scale(a, start), _scale(b, start)), r, "fp32")
    return r if bias is None else fma(bias, 1.0, r, "fp32")


def segments(count: int, first: int | None, second: int | None) -> Iterator[tuple[int, int]]:
    """Yield where each segment of K begins and where it ends.

    Parameters
    ----------
    count : int
        How many k there are.
    first, second : int, optional
        The block sizes of both operands.

    Yields
    ------
    tuple of int
        Begin and end, ascending.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> list(segments(7, 2, 3))
    [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]
    """
    borders = {0, count}
    for block in (first, second):
        borders |= set(range(0, count, block or max(1, count)))
    yield from pairwise(sorted(borders))


def _element(row: Row) -> Format | tuple[float, ...]:
    """Return the format of the codes, or the table."""
    element = row.element
    return _format(element) if isinstance(element, (str, FloatFormat, IntFormat)) else tuple(element)


def _default(*elements: Format | tuple[float, ...]) -> Accumulator:
    """Return the model of a sum for which none is asked."""
    if all(isinstance(element, IntFormat) for element in elements):
        return Integer(32)
    for fmt in elements:
        if isinstance(fmt, FloatFormat) and (
            fmt.precision > _SINGLE.precision
            or fmt.max > _SINGLE.max
            or fmt.smallest_subnormal < _SINGLE.smallest_subnormal
        ):
            return Sequential("fp64")  # type: ignore[arg-type]
    return Sequential(_SINGLE)


def _place(row: Row, k: int) -> int:
    """Return which scale is that of k."""
    return 0 if row.block is None else k // row.block


def _scale(row: Row, k: int) -> float:
    """Return the scale of k times the tensor scale, in float32."""
    scale = row.scales[_place(row, k)]
    return scale if row.tensor_scale is None else _times(scale, row.tensor_scale)


def _times(x: float, y: float) -> float:
    """Return a product in float32; fma with a zero of its own sign keeps that of a zero product."""
    return fma(x, y, math.copysign(0.0, math.copysign(1.0, x) * math.copysign(1.0, y)), "fp32")


def _value(row: Row, k: int) -> float:
    """Return the value of a code less its zero point."""
    element = _element(row)
    value = element[row.codes[k]] if isinstance(element, tuple) else decode(row.codes[k], element)
    return value if row.zero_points is None else value - row.zero_points[_place(row, k)]


def _codes(row: Row, start: int, stop: int) -> tuple[list[int], Format]:
    """Return the values of a segment, less their zero point, as codes of a format that holds them."""
    element = _element(row)
    if isinstance(element, FloatFormat):
        return list(row.codes[start:stop]), element
    held = _SINGLE if isinstance(element, tuple) else _DIFFERENCE
    return [encode(_value(row, k), held) for k in range(start, stop)], held


def _sum(a: Row, b: Row, start: int, stop: int, model: Accumulator) -> float:
    """Return the model's sum over a segment, in float32."""
    (x, of_x), (y, of_y) = _codes(a, start, stop), _codes(b, start, stop)
    code = accumulate(model, x, y, formats=(of_x, of_y))
    return round_to(decode(code, model.result_format or _SINGLE), _SINGLE)


def _real(x: float) -> Real:
    """Return a float as an exact number."""
    special = "nan" if math.isnan(x) else "inf" if math.isinf(x) else ""
    return Real(math.copysign(1.0, x) < 0 and special != "nan", Fraction(0) if special else abs(Fraction(x)), special)


def _number(row: Row, k: int) -> Real:
    """Return the number that a code stands for, exactly."""
    found = multiply(_real(_value(row, k)), _real(row.scales[_place(row, k)]))
    return found if row.tensor_scale is None else multiply(found, _real(row.tensor_scale))


def _exact(a: Row, b: Row, c: float, model: Exact, bias: float | None) -> float:
    """Return the sum of the products of the numbers, rounded once; then the bias."""
    out = model.result_format or _SINGLE
    products = [multiply(_number(a, k), _number(b, k)) for k in range(len(a.codes))]
    r = decode(sums.exact(model, products, _real(c), out), out)
    return r if bias is None else fma(bias, 1.0, r, out)


def _instruction(a: Row, b: Row, c: float, model: FusedTruncatedScaled | FusedTruncatedGroupScaled) -> float:
    """Return what the block-scaled instructions of hardware give, times the tensor scales."""
    scales = tuple([encode(scale, row.scale_format) for scale in row.scales] for row in (a, b))
    (x, of_x), (y, of_y) = (_codes(row, 0, len(row.codes)) for row in (a, b))
    code = accumulate(model, x, y, encode(c, "fp32"), formats=(of_x, of_y), scales=scales)  # type: ignore[arg-type]
    r = decode(code, model.result_format)
    if a.tensor_scale is None and b.tensor_scale is None:
        return r
    factors = (1.0 if row.tensor_scale is None else row.tensor_scale for row in (a, b))
    return _times(r, _times(*factors))
