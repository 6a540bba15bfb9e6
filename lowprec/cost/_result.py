"""Cost: what a unit takes in gates, part by part, and how it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lowprec import _text_tables as tables
from lowprec.cost import _cells
from lowprec.cost._cells import Cells
from lowprec.cost._figure import Figure, Kind


@dataclass(frozen=True)
class Part:
    """One part of a unit: its cells, and by how much synthesis is known to shrink them.

    Parameters
    ----------
    cells : mapping of str to float
        How many of each cell.
    factor : float
        What the gate equivalents of the cells are multiplied by: 1, or what calibration found.

    Raises
    ------
    Nothing.
    """

    cells: Cells
    factor: float = 1.0

    @property
    def ge(self) -> float:
        """Gate equivalents."""
        return _cells.area(self.cells) * self.factor


@dataclass(frozen=True, eq=False)
class Cost:
    """What a unit takes in gates.

    Parameters
    ----------
    name : str
        What it is, in words.
    rule : int
        The rule of thumb (M+1)x(M+1), in full adders of a grid of multipliers; shown beside everything else, since it
        is right for multipliers and misleading for all that is around them.
    elements : mapping of str to Part
        The parts.
    kind : str
        Of `ge`: ``"exact count"`` or ``"closed form"`` (see `Figure`).
    source : str
        Where its formulas are written down.
    span : tuple of float
        `ge` times these is the range: the least and the greatest ratio of gates to formula seen in synthesis.
    notes : tuple of str
        What a reader has to know.

    Raises
    ------
    Nothing.
    """

    name: str
    rule: int
    elements: Mapping[str, Part] = field(repr=False)
    kind: Kind = "closed form"
    source: str = ""
    span: tuple[float, float] = (1.0, 1.0)
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, Figure]:
        """Gate equivalents of each part."""
        low, high = self.span
        return {
            name: Figure(part.ge, "GE", self.kind, self.source, part.ge * low, part.ge * high)
            for name, part in self.elements.items()
        }

    @property
    def counts(self) -> dict[str, float]:
        """Cells in all, as the formulas count them: FA, HA and AND always, others where there are any."""
        found = _cells.total(part.cells for part in self.elements.values())
        whole = {"FA": 0.0, "HA": 0.0, "AND": 0.0} | found
        return {name: int(count) if count == int(count) else count for name, count in whole.items()}

    @property
    def ge(self) -> Figure:
        """Gate equivalents (areas of a two-input NAND) in all."""
        value = sum(part.ge for part in self.elements.values())
        low, high = self.span
        return Figure(value, "GE", self.kind, self.source, value * low, value * high)

    @property
    def combinational(self) -> Figure:
        """Gate equivalents without the part ``"register"``."""
        value = sum(part.ge for name, part in self.elements.items() if name != "register")
        low, high = self.span
        return Figure(value, "GE", self.kind, self.source, value * low, value * high)

    def rel(self, other: Cost | str) -> Figure:
        """Return how many times as large this is as something else.

        Parameters
        ----------
        other : Cost or str
            Another unit, or ``"format/accumulator"``, such as ``"int8/int32"``: the MAC of these.

        Returns
        -------
        Figure
            The ratio of the gate equivalents. Its range assumes that both may be off in opposite directions.

        Raises
        ------
        TypeError
            If `other` is neither.
        ValueError
            If a name is unknown or has no model.

        Examples
        --------
        >>> import lowprec as lp
        >>> round(float(lp.cost.multiplier("fp16").rel(lp.cost.multiplier("bf16"))), 2)
        1.98
        """
        if not isinstance(other, Cost):
            msg = f'`other` must be a cost or words such as "int8/int32", got {type(other).__name__}.'
            raise TypeError(msg)
        mine, others = self.ge, other.ge
        kind: Kind = "exact count" if self.kind == other.kind == "exact count" else "closed form"
        return Figure(
            mine / others, "", kind, f"{self.name} over {other.name}", mine.low / others.high, mine.high / others.low
        )

    def _view(self) -> tables.Table:
        whole = self.ge
        rows = [
            [name, f"{figure:.4g}", f"{figure / whole:.0%}" if whole else "", _words(self.elements[name].cells)]
            for name, figure in self.parts.items()
        ]
        rows.append(["in all", f"{whole:.4g}", "", _words(self.counts)])
        notes = [
            f"Range: {whole.low:.4g} to {whole.high:.4g} GE ({whole.kind}; {self.source}).",
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


def _words(cells: Cells) -> str:
    """Return cells as words."""
    return " ".join(f"{count:.4g} {name}" for name, count in cells.items() if count)


def present(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Return the parts that have cells."""
    return {name: part for name, part in parts.items() if any(part.cells.values())}
