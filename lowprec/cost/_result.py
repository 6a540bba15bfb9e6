"""Cost: what a unit takes in gates, part by part, and how it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lowprec import _text_tables as tables
from lowprec.cost import _calibration, _cells
from lowprec.cost._bill import Bill
from lowprec.cost._cells import Part
from lowprec.cost._figure import Figure, Kind
from lowprec.cost._mac_model import bill_of_words


@dataclass(frozen=True, eq=False, repr=False)
class Cost:
    """What a unit takes in gates.

    Parameters
    ----------
    name : str
        What it is, in words.
    rule : int
        The rule of thumb (M+1)x(M+1), in full adders of a grid, times the lanes; it stands beside everything else,
        since it is right for multipliers and misleading for all that is around them.
    elements : mapping of str to Part
        The parts.
    kind : str
        Of the gate equivalents (see `Figure`).
    source : str
        Where the formulas are written down.
    groups : tuple of str
        The groups of synthesised designs that the range is over: rows of the table in docs/cost.md.
    notes : tuple of str
        What a reader has to know.
    lanes : int
        Products per cycle.
    counted : mapping of str to float, optional
        The cells as they are drawn, where synthesis is known to fold some of them: what `counts` gives.
    count_kind : str
        Of `counts`: ``"exact count"`` where a netlist of the same structure has exactly these cells.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> unit = lp.cost.mac("bf16")
    >>> unit.rule, unit.ge.unit, unit.ge.kind, sorted(unit.parts)[:3]
    (64, 'GE', 'closed form', ['absolute', 'add', 'align'])
    """

    name: str
    rule: int
    elements: Mapping[str, Part]
    kind: Kind = "closed form"
    source: str = ""
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lanes: int = 1
    counted: Mapping[str, float] | None = field(default=None, kw_only=True)
    count_kind: Kind = field(default="closed form", kw_only=True)

    @classmethod
    def of(cls, bill: Bill) -> Self:
        """Make it of what a formula found.

        Raises
        ------
        Nothing.
        """
        return cls(*bill)

    def _figure(self, value: float, source: str = "") -> Figure:
        low, high = self.span
        return Figure(value, "GE", self.kind, source or self.source, value * low, value * high)

    @property
    def span(self) -> tuple[float, float]:
        """The gate equivalents times these are the range: the least and the greatest ratio of synthesis to formula."""
        return _calibration.span_of(self.groups)

    @property
    def designs(self) -> int:
        """How many synthesised designs the range is over; none were of casts between floats and integers."""
        return _calibration.designs_of(self.groups)

    @property
    def parts(self) -> dict[str, Figure]:
        """Gate equivalents of each part."""
        return {name: self._figure(part.ge) for name, part in self.elements.items()}

    @property
    def counts(self) -> dict[str, float]:
        """Cells in all, as the formulas count them: FA, HA and AND always, others where there are any."""
        found = self.counted or _cells.total(*(part.cells for part in self.elements.values()))
        whole = {"FA": 0.0, "HA": 0.0, "AND": 0.0} | dict(found)
        return {name: int(count) if count == int(count) else count for name, count in whole.items()}

    @property
    def ge(self) -> Figure:
        """Gate equivalents (areas of a two-input NAND) in all."""
        return self._figure(sum(part.ge for part in self.elements.values()))

    @property
    def combinational(self) -> Figure:
        """Gate equivalents without the part ``"register"``."""
        return self._figure(sum(part.ge for name, part in self.elements.items() if name != "register"))

    @property
    def per_lane(self) -> Figure:
        """Gate equivalents per product of a cycle, what the lanes share included."""
        return self._figure(sum(part.ge for part in self.elements.values()) / self.lanes)

    def rel(self, other: Cost | str) -> Figure:
        """Return how many times as large this is as something else, per lane.

        Parameters
        ----------
        other : Cost or str
            Another unit, or ``"format/accumulator"``, such as ``"int8/int32"``: the MAC of these; a format alone
            takes its default accumulator.

        Returns
        -------
        Figure
            The ratio of the gate equivalents per lane. Its range assumes that both may be off in opposite directions.

        Raises
        ------
        TypeError
            If `other` is neither.
        ValueError
            If a name is unknown or has no model, or the other unit has no gates (int8 to int32 is wires).

        Examples
        --------
        >>> import lowprec as lp
        >>> round(float(lp.cost.mac("e4m3fn").rel("int8/int32")), 1)
        2.4
        """
        if isinstance(other, str):
            other = Cost.of(bill_of_words(other))
        if not isinstance(other, Cost):
            msg = f'`other` must be a cost or words such as "int8/int32", got {type(other).__name__}.'
            raise TypeError(msg)
        mine, others = self.per_lane, other.per_lane
        source = f"{self.name} over {other.name}"
        if not others:
            msg = f"`other` must take gates to be compared with, got {other.name}, which takes none."
            raise ValueError(msg)
        if self.elements == other.elements and self.lanes == other.lanes:
            return Figure(1.0, "", self.kind, source)
        return Figure(mine / others, "", self.kind, source, mine.low / others.high, mine.high / others.low)

    def _view(self) -> tables.Table:
        whole = self.ge
        rows = [
            [name, f"{figure:.4g}", f"{figure / whole:.0%}" if whole else "", _words(self.elements[name].cells)]
            for name, figure in self.parts.items()
        ]
        rows.append(["in all", f"{whole:.4g}", "", _words(self.counts)])
        lanes = f", {self.per_lane:.4g} GE per lane" if self.lanes > 1 else ""
        known = f"{whole.kind}, over {self.designs} synthesised designs" if self.designs else f"{whole.kind}, unchecked"
        notes = [
            f"Range: {whole.low:.4g} to {whole.high:.4g} GE ({known}){lanes}.",
            f"Rule of thumb (M+1)x(M+1): {self.rule} full adders.",
            *self.notes,
        ]
        return tables.Table(["<part", "GE", "share", "<cells"], rows, self.name, notes)

    def __str__(self) -> str:
        """Return the table of the parts."""
        return tables.plain(self._view())

    def __repr__(self) -> str:
        """Return one line."""
        return f"<Cost of {self.name}: {self.ge:.6g} GE, rule {self.rule}>"

    def __rich__(self) -> Any:
        """Return the table for rich."""
        return tables.rich_table(self._view())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return tables.to_html(self._view())

    def show(self) -> None:
        """Print the table to standard output, by rich where it is installed.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        tables.show(self._view())


def _words(cells: Mapping[str, float]) -> str:
    """Return cells as words."""
    return ", ".join(f"{count:.4g} {name}" for name, count in cells.items() if count)
