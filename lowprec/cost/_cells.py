"""The gates that closed forms count, and what each costs in gate equivalents.

A gate equivalent (GE) is the area of a two-input NAND. The costs are common ratios of 45 to 180 nm libraries; those of
FA and MUX were measured on a synthesis flow without such cells: a 32-bit adder takes 197.3 GE, a multiplexer of four
8-bit words 46.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

GE: Mapping[str, float] = MappingProxyType(
    {
        "INV": 0.67,
        "AND": 1.33,
        "OR": 1.33,
        "XOR": 2.0,
        "HA": 3.33,  # half adder: XOR and AND
        "FA": 6.0,  # full adder
        "MUX": 1.92,  # two-input multiplexer of one bit
        "DFF": 5.67,  # flip-flop
    }
)
"""Gate equivalents of one cell."""

Cells = Mapping[str, float]
"""How many of each cell; fractions where a cell is shared."""


def area(cells: Cells) -> float:
    """Return the gate equivalents of some cells."""
    return sum(GE[name] * count for name, count in cells.items())


def total(*many: Cells) -> dict[str, float]:
    """Return how many there are of each cell in all."""
    found: dict[str, float] = {}
    for cells in many:
        for name, count in cells.items():
            found[name] = found.get(name, 0) + count
    return {name: found[name] for name in GE if found.get(name)}


def times(cells: Cells, factor: float) -> dict[str, float]:
    """Return `factor` times as many of each cell."""
    return {name: count * factor for name, count in cells.items()}


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
        return area(self.cells) * self.factor


def present(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Return the parts that have cells."""
    return {name: part for name, part in parts.items() if any(part.cells.values())}


def merged(parts: Iterable[Mapping[str, Part]]) -> dict[str, Part]:
    """Return parts of several units together, those of one name and one factor as one."""
    found: dict[str, Part] = {}
    for each in parts:
        for name, part in each.items():
            there = found.get(name)
            if there is None:
                found[name] = part
                continue
            whole = area(there.cells) + area(part.cells)
            factor = (there.ge + part.ge) / whole if whole else 1.0
            found[name] = Part(total(there.cells, part.cells), factor)
    return found


def scaled(parts: Mapping[str, Part], factor: float) -> dict[str, Part]:
    """Return `factor` times as many of everything."""
    return {name: Part(times(part.cells, factor), part.factor) for name, part in parts.items()}
