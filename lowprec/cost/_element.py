"""Which sums an element of a systolic array can form."""

from __future__ import annotations

from typing import Any

from lowprec.accumulators import Chunked, Exact, Sequential
from lowprec.cost._accumulator import Fixed, accumulator_of
from lowprec.cost._shape import pair_of


def inner_sum(accumulator: Any, rows: int, flow: str) -> Any:
    """Return the sum inside the array; chunks must be its tiles, as `lowprec.systolic.simulate` has them."""
    if not isinstance(accumulator, Chunked):
        return accumulator
    if flow == "os":
        msg = (
            "`accumulator` must not be chunked with dataflow='os', where a sum stays in its place, got "
            f"{accumulator!r}; choose dataflow='ws'."
        )
        raise ValueError(msg)
    if accumulator.every != rows:
        msg = (
            f"`accumulator` must be chunks of `rows` = {rows} products, one tile each, got {accumulator!r}; write "
            f"lp.Chunked(inner, every={rows})."
        )
        raise ValueError(msg)
    return accumulator.inner


def see_steps(sums: Any, dtype: Any) -> None:
    """See that the sum takes one product at a time, as an element has it; a dot unit has several in one sum."""
    model = accumulator_of(sums, pair_of(dtype)).model
    blocks = isinstance(model, Fixed) and model.overflow == "saturate" and model.length != 1
    if blocks or not isinstance(model, (Sequential, Exact, Fixed)):
        msg = (
            "`accumulator` must be a sum of one product after the other, as the elements of an array form it (a float "
            f"format, 'exact', lp.Sequential, lp.Integer, or lp.Chunked of these), got {sums!r}; lp.cost.dot has units "
            "of several products."
        )
        raise ValueError(msg)
