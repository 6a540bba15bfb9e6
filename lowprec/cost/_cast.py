"""cast: what a conversion between formats takes."""

from __future__ import annotations

from typing import Any

from lowprec.accumulators.base import member
from lowprec.cost import _blocks, _units
from lowprec.cost._bill import Bill, calibrated
from lowprec.cost._cells import Cells, Part, present, total
from lowprec.cost._result import Cost
from lowprec.cost._shape import element_of, operand_of
from lowprec.formats import FloatFormat
from lowprec.rounding import Rounding, Subnormals

_CUT = (Rounding.TOWARD_ZERO, Rounding.TO_ODD)


def cast(source: Any, to: Any, *, rounding: str = "nearest_even", subnormals: str = "keep") -> Cost:
    """Return what the conversion of a number from one format to another takes.

    Parameters
    ----------
    source, to : str, FloatFormat or IntFormat
        The formats.
    rounding : str
        A member of `Rounding`.
    subnormals : {"keep", "flush"}
        Whether results below the smallest normal number survive.

    Returns
    -------
    Cost
        Parts: exponents, round, specials (overflow saturates), subnormals; of integers also shift, absolute and
        normalise. `rule` is 0: nothing is multiplied.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or a format is a block or a table, or has no sign and no zero.

    Notes
    -----
    The formulas are written down in docs/cost.md, section Casts. Those between floats and integers were not
    synthesised; their range is a factor of 2.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.cost.cast("fp32", "bf16").ge < lp.cost.cast("fp32", "fp16").ge
    True
    """
    a, b = element_of(source, "source"), element_of(to, "to")
    how = member(rounding, Rounding, "rounding")
    keep = member(subnormals, Subnormals, "subnormals", (Subnormals.KEEP, Subnormals.FLUSH)) is Subnormals.KEEP
    name = f"cast {a} to {b} ({how}, subnormals {'kept' if keep else 'flushed'})"
    if isinstance(a, FloatFormat) and isinstance(b, FloatFormat):
        parts = calibrated(_units.cast(a, b, how, keep), "cast")
        exact = a.precision <= b.precision and (b.emin <= a.emin or not keep)
        group = "cast without rounding" if exact else "cast toward zero" if how in _CUT else "cast"
        return Cost.of(Bill(name, 0, parts, groups=(group,)))
    cells: dict[str, Cells]
    shape_a, shape_b = operand_of(a), operand_of(b)
    if isinstance(b, FloatFormat):
        cells = _units.readout(shape_a.bits, b, how)
    elif isinstance(a, FloatFormat):
        dropped = max(1, a.precision - 1)
        cells = {
            "exponents": {"HA": a.exponent_bits},
            "shift": _blocks.shift_within(max(a.precision, b.bits), max(1, b.bits)),
            "round": total(_units.rounder(b.bits, dropped, 0, how), {"OR": dropped}),
            "absolute": {"XOR": b.bits, "HA": b.bits} if b.is_signed else {},
            "specials": {"AND": a.exponent_bits + b.bits, "OR": b.bits},
        }
    else:
        lost = shape_b.bits < shape_a.bits
        cells = {"specials": {"AND": shape_a.bits, "OR": shape_b.bits, "XOR": 1} if lost else {}}
    unchecked = ("cast of integers",)
    return Cost.of(Bill(name, 0, present({part: Part(each) for part, each in cells.items()}), groups=unchecked))
