"""mac: what a multiplier, an adder and a register take."""

from __future__ import annotations

from typing import Any

from lowprec.cost._bill import GUARD_K
from lowprec.cost._mac_model import mac_bill
from lowprec.cost._result import Cost


def mac(
    fmt: Any,
    accumulator: Any = None,
    *,
    rounding: str | None = None,
    subnormals: str | None = None,
    register: bool = True,
    sparsity: Any = None,
    multiplier: str = "array",
    k: int = GUARD_K,
) -> Cost:
    """Return what a multiply-accumulate unit takes: one product a cycle, added to an accumulator.

    Parameters
    ----------
    fmt : str, FloatFormat or IntFormat, or a pair of them
        Format of the operands, or of `a` and of `b`: both floats or both integers.
    accumulator : str, Accumulator, FloatFormat, IntFormat or Preset, optional
        ``"fp32"`` for floats and ``"int32"`` for integers by default. A float format is a fused multiply-add rounded
        to it; ``"int24"``, ``"int48"``, ``"int16_saturate"`` and the like are two's complement sums of any width;
        ``"exact"`` is a fixed-point sum wide enough for `k` products; a model or a preset is what `lowprec.matmul`
        computes with. Where a model adds several products at once, the cost is that of a dot unit of its length
        divided by its lanes.
    rounding : str, optional
        A member of `Rounding`: the model's own, or nearest_even.
    subnormals : {"flush", "keep"}, optional
        Whether the unit handles subnormal numbers: as the model says, or flush, as most MACs are built.
        (`lowprec.matmul` keeps them by default; ``"keep"`` is what that costs.)
    register : bool
        Whether the accumulator's register is part of the unit.
    sparsity : str or SparsityPattern, optional
        Of `b`, the weights. Adds the multiplexer that chooses the element of `a`, 3 MUX a bit for ``"2:4"``; such a
        MAC stands for twice the dense products.
    multiplier : {"array", "booth", "smaller"}
        How it multiplies; see `lowprec.cost.multiplier`. Booth's makes an int8 MAC a seventh smaller, and that of a
        narrow float larger.
    k : int
        Products per sum, which ``"exact"`` has to hold.

    Returns
    -------
    Cost
        Parts: multiply, exponents, align, add, absolute, normalise, round, specials, subnormals, register and, where
        there are any, select, saturate, promote. A closed form, with the range seen in synthesis.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, the operands are a float and an integer, the format is a block or a table, the
        accumulator cannot sum the products, or `rounding` contradicts the model.

    Notes
    -----
    The formulas are written down in docs/cost.md, section MACs. Infinities and NaN are handled by float accumulators
    and not by exact ones.

    Examples
    --------
    >>> import lowprec as lp
    >>> unit = lp.cost.mac("e4m3fn", "fp32")
    >>> f"{unit.parts['multiply'] / unit.ge:.0%} multiplier, {unit.rel('int8/int32'):.1f} int8 MACs"
    '4% multiplier, 2.4 int8 MACs'
    >>> f"{lp.cost.mac('e4m3fn', 'exact').rel('int8/int32'):.1f}"
    '1.0'
    """
    if not isinstance(register, bool):
        msg = f"`register` must be True or False, got {register!r}."
        raise TypeError(msg)
    words = {"rounding": rounding, "subnormals": subnormals, "sparsity": sparsity, "multiplier": multiplier}
    return Cost.of(mac_bill(fmt, accumulator, register=register, k=k, **words))
