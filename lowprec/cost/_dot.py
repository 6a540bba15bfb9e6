"""dot: what a unit takes that adds several products at once."""

from __future__ import annotations

from typing import Any

from lowprec.cost._bill import GUARD_K
from lowprec.cost._dot_model import dot_bill
from lowprec.cost._result import Cost


def dot(
    fmt: Any,
    lanes: int | None = None,
    accumulator: Any = None,
    *,
    rounding: str | None = None,
    register: bool = True,
    multiplier: str = "array",
    k: int = GUARD_K,
) -> Cost:
    """Return what a dot unit takes: several products a cycle, added up and into one accumulator.

    Floats are aligned to the largest exponent, truncated, added as integers, and normalised and rounded once, as
    tensor cores do; integers are added in a tree; so are the elements of blocks, whose sum is then scaled and added
    to a float.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat or BlockFormat, or a pair of the first three
        Format of the operands; of block formats those whose elements multiply as they are (``"mxfp4"``, ``"mxint8"``,
        ``"nvfp4"``, ``"q8_0"``).
    lanes : int, optional
        Products per cycle: the model's length, a block's size, or 16.
    accumulator : str, Accumulator, FloatFormat, IntFormat or Preset, optional
        ``"fp32"`` for floats (aligned products cut at 25 bits, one more than float32's significand) and blocks,
        ``"int32"`` for integers; ``"exact"``; a preset, or a model such as ``lp.FusedTruncated(16, 13)``, whose
        fraction bits say where products are cut.
    rounding : str, optional
        A member of `Rounding`: the model's own, or nearest_even.
    register : bool
        Whether the accumulator's register is part of the unit.
    multiplier : {"array", "booth", "smaller"}
        How it multiplies; see `lowprec.cost.multiplier`.
    k : int
        Products per sum, which ``"exact"`` has to hold.

    Returns
    -------
    Cost
        ``ge`` is that of the whole unit, ``per_lane`` divided by `lanes`, what they share included.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, there are fewer than 2 lanes, the operands are a float and an integer, the elements come
        from a table or have an offset, or the accumulator adds one product at a time.

    Notes
    -----
    The formulas are written down in docs/cost.md, section Dot units.

    Examples
    --------
    >>> import lowprec as lp
    >>> [round(lp.cost.dot(fmt, 32).per_lane / lp.cost.dot("int8", 32).per_lane, 1) for fmt in ("mxfp4", "e4m3fn")]
    [0.4, 1.0]
    """
    if not isinstance(register, bool):
        msg = f"`register` must be True or False, got {register!r}."
        raise TypeError(msg)
    return Cost.of(dot_bill(fmt, lanes, accumulator, rounding=rounding, register=register, multiplier=multiplier, k=k))
