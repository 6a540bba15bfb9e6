"""The gates that closed forms count, and what each costs in gate equivalents.

A gate equivalent (GE) is the area of a two-input NAND. The costs are common ratios of 45 to 180 nm libraries; those of
FA and MUX were measured on a synthesis flow without such cells: a 32-bit adder takes 197.3 GE, a multiplexer of four
8-bit words 46.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def total(many: Iterable[Cells]) -> dict[str, float]:
    """Return how many there are of each cell in all."""
    found: dict[str, float] = {}
    for cells in many:
        for name, count in cells.items():
            found[name] = found.get(name, 0) + count
    return {name: found[name] for name in GE if found.get(name)}


def times(cells: Cells, factor: float) -> dict[str, float]:
    """Return `factor` times as many of each cell."""
    return {name: count * factor for name, count in cells.items()}
