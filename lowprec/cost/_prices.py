"""What a candidate costs, in each of the units that `pareto` knows."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from lowprec._patterns import pattern_of
from lowprec.cost._candidates import UNSCALED_BITS, Candidate
from lowprec.cost._cells import Part, times
from lowprec.cost._dot import dot
from lowprec.cost._energy import energy
from lowprec.cost._figure import Figure
from lowprec.cost._mac import mac
from lowprec.cost._result import Cost
from lowprec.cost._traffic import traffic
from lowprec.formats import FloatFormat, IntFormat

COSTS = ("ge", "bits", "energy")
BASE = Candidate.parse("int8/int32")
"""What costs are relative to."""

_LABELS = {
    "ge": "gate equivalents per product",
    "bits": "bits per weight",
    "energy": "pJ per product",
}


class Pricing(NamedTuple):
    """How candidates are priced.

    Parameters
    ----------
    cost : str or callable
        One of `COSTS`, or a function of a candidate.
    k : int
        Products per sum.
    shape : tuple of int
        Of the weights.
    scales : str
        ``"tensor"`` or ``"row"``.
    table : str
        Of energies.
    interpolate : bool
        Whether energies that the table lacks are guessed from those that it has.
    """

    cost: str | Callable[[Candidate], float]
    k: int
    shape: tuple[int, int]
    scales: str
    table: str
    interpolate: bool

    @property
    def label(self) -> str:
        """What is paid, in words."""
        if not isinstance(self.cost, str):
            return str(getattr(self.cost, "__name__", type(self.cost).__name__))
        return _LABELS[self.cost] + (f", {self.table}" if self.cost == "energy" else "")

    def of(self, candidate: Candidate) -> Figure:
        """Return what a candidate costs, or say why nobody knows."""
        if not isinstance(self.cost, str):
            return _said(self.cost(candidate), candidate)
        try:
            return {"ge": self._gates, "bits": self.bits, "energy": self._energy}[self.cost](candidate)
        except ValueError as error:
            msg = (
                f"`formats` must be candidates that cost={self.cost!r} has a model for; {str(candidate)!r} has none: "
                f"{error} Leave it out, or pass a function of the candidate as `cost`."
            )
            raise ValueError(msg) from None

    def _gates(self, candidate: Candidate) -> Figure:
        """Return gate equivalents per product of the dense matrices."""
        return _dense(unit_of(candidate, self.k).per_lane, candidate)

    def bits(self, candidate: Candidate) -> Figure:
        """Return bits per weight, with scales and what says which weights are kept."""
        fmt: Any = candidate.w
        scaled = isinstance(fmt, IntFormat) or (isinstance(fmt, FloatFormat) and fmt.bits < UNSCALED_BITS)
        if self.scales == "row" and scaled:
            return traffic(fmt, self.shape, axis=0, sparsity=candidate.sparsity).bits_per_element
        return traffic(fmt, sparsity=candidate.sparsity).bits_per_element

    def _energy(self, candidate: Candidate) -> Figure:
        """Return the energy of a multiplication and an addition, for each product of the dense matrices.

        Tables have multipliers of one width: a product of two widths takes the wider one.
        """
        dtype = candidate.multiplied if not candidate.is_block else (candidate.x, candidate.w)
        one, other = candidate.multiplied
        if _width(other) > _width(one):
            dtype = dtype[1], dtype[0]
        accumulator = candidate.accumulator
        if candidate.preset is not None:
            accumulator = candidate.instruction.out
        group = 8  # any number of whole groups of a pattern
        whole = energy(
            1,
            group,
            1,
            dtype,
            table=self.table,
            accumulator=accumulator,
            memory=None,
            sparsity=candidate.sparsity,
            interpolate=self.interpolate,
        ).compute
        parts = (figure / group for figure in (whole, whole.low, whole.high))
        return Figure(next(parts), "pJ", whole.kind, whole.source, *parts)

    def relative(self, price: Figure) -> float | None:
        """Return a price over that of an int8 MAC with an int32 sum; None where there is none, or none of that."""
        if self.cost not in ("ge", "energy"):
            return None
        try:
            return float(price) / float(self.of(BASE))
        except ValueError:  # a table without int8
            return None


def unit_of(candidate: Candidate, k: int) -> Cost:
    """Return the unit that multiplies and adds for a candidate: a MAC, or a dot unit.

    Parameters
    ----------
    candidate : Candidate
        What it is for.
    k : int
        Products per sum.

    Returns
    -------
    Cost
        `lowprec.cost.mac` or `lowprec.cost.dot`, with what selects operands where weights are sparse.

    Raises
    ------
    ValueError
        If the cost model has no such unit.
    """
    dtype, accumulator = _dtype(candidate), candidate.preset or candidate.accumulator
    if candidate.is_block and candidate.preset is not None:
        accumulator = candidate.instruction.model
    if candidate.is_block and candidate.preset is None and accumulator != candidate.default_accumulator:
        own = candidate.default_accumulator
        msg = f"a dot unit of blocks adds them up in {own} or as a preset does, not in {accumulator}."
        raise ValueError(msg)
    if candidate.is_block and candidate.x != candidate.w:
        msg = "a dot unit takes blocks of one format."
        raise ValueError(msg)
    if candidate.lanes is None:
        return mac(dtype, accumulator, k=k, sparsity=candidate.sparsity)
    unit = dot(dtype, candidate.lanes, accumulator, k=k)
    if candidate.sparsity is None:
        return unit
    select = mac(candidate.multiplied, sparsity=candidate.sparsity).elements["select"]
    more = Part(times(select.cells, unit.lanes), select.factor)
    return replace(unit, name=f"{unit.name}, {candidate.sparsity}", elements={**unit.elements, "select": more})


def _dtype(candidate: Candidate) -> Any:
    """Return the formats of the numbers that are multiplied, as `mac` and `dot` take them."""
    if candidate.is_block:
        return candidate.x if candidate.x == candidate.w else (candidate.x, candidate.w)
    one, other = candidate.multiplied
    return one if one == other else (one, other)


def _width(fmt: Any) -> int:
    """Return what a multiplier grows with: bits of a significand, or of an integer."""
    return int(fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits)


def _dense(unit: Figure, candidate: Candidate) -> Figure:
    """Return what a unit costs for each product of the dense matrices: a sparse one leaves some of them out."""
    if candidate.sparsity is None:
        return unit
    pattern = pattern_of(candidate.sparsity)
    part = pattern.kept / pattern.group
    return Figure(unit * part, unit.unit, unit.kind, unit.source, unit.low * part, unit.high * part)


def _said(price: Any, candidate: Candidate) -> Figure:
    """Check what a user's function says of a candidate."""
    if isinstance(price, Figure):
        return price
    try:
        value = float(price)
    except (TypeError, ValueError):
        msg = f"`cost` must return a number, got {price!r} for {str(candidate)!r}."
        raise TypeError(msg) from None
    if math.isnan(value):
        msg = f"`cost` must return a number, got nan for {str(candidate)!r}; leave the candidate out, or return inf."
        raise ValueError(msg)
    return Figure(value, "", "measured", "user")


def cost_of(value: Any) -> Any:
    """Check the argument `cost` of `pareto`."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in COSTS:
            return word
        close = difflib.get_close_matches(word, COSTS, n=2, cutoff=0.4)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`cost` must be one of {', '.join(COSTS)} or a function of a candidate, got {value!r}{hint}"
        raise ValueError(msg)
    if not callable(value):
        msg = f"`cost` must be a name or a function, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    return value


def in_units(candidate: Candidate, unit: str | None, lanes: int) -> Candidate:
    """Return a candidate with the unit that it is priced as: blocks always in a dot, all in one if asked for."""
    if candidate.is_block or (unit == "dot" and candidate.preset is None):
        return candidate if candidate.lanes else replace(candidate, lanes=lanes)
    return candidate
