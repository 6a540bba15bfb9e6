"""Hold lp.cost's formulas against the gates of the units that lp.rtl writes, which took no part in finding them.

Those are `lp.rtl.stored()` and ``lowprec/cost/data/further.csv``, units further from what the formulas were found on.
Prints one line per group of units; with ``--designs`` one per design::

    python scripts/compare_gates.py [--designs] [--synthesise | --new]

With ``--synthesise`` the gates of ``further.csv`` are found anew first (pyosys 0.70, minutes), with ``--new`` those of
lines that have none.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import lowprec as lp
from lowprec.cost import _bill, _calibration, _units
from lowprec.cost._result import Cost
from lowprec.cost._shape import operand_of
from lowprec.rounding import Rounding

FURTHER = Path(__file__).resolve().parents[1] / "lowprec" / "cost" / "data" / "further.csv"
NE = Rounding.NEAREST_EVEN


class Compared(NamedTuple):
    """A synthesised unit and what lp.cost says of it."""

    name: str
    gates: float
    unit: Cost


def formats(words: str) -> Any:
    """Return a format, a pair of them, a width or a pair of widths, as the table spells it."""
    each = [int(word) if word.isdigit() else word for word in words.split("/")]
    return each[0] if len(each) == 1 else tuple(each)


def model(row: Any) -> Any:
    """Return the accumulator of a unit, or None: ``cut13`` adds all lanes at once, cut at 13 fraction bits."""
    cut = row.accumulator.removeprefix("cut")
    return lp.FusedTruncated(int(row.lanes), int(cut)) if cut != row.accumulator else row.accumulator or None


def part(group: str, name: str, cells: Any, keep: bool = False) -> Cost:
    """Return a float adder, a float multiplier or a readout, which lp.cost has as parts of units."""
    words = _bill.split(group, keep)
    return Cost.of(_bill.Bill(name, 0, _bill.calibrated(cells, group), groups=(words,)))


def closed_form(row: Any) -> Cost | None:
    """Return what lp.cost says of a unit, or None where it has no such unit: adders of integers."""
    fmt = formats(row.fmt)
    rounding, keep = row.rounding or "nearest_even", row.subnormals or "flush"
    if row.unit == "multiplier":
        return lp.cost.multiplier(fmt, "array" if row.kind == "operator" else row.kind)
    if row.unit == "mac":
        exact = row.accumulator == "exact"
        how = {} if exact or row.accumulator.startswith("int") else {"rounding": rounding, "subnormals": keep}
        how |= {"multiplier": "booth"} if row.kind == "booth" else {}
        return lp.cost.mac(fmt, row.accumulator, register=False, **how)
    if row.unit == "cast":
        return lp.cost.cast(fmt, row.to, rounding=rounding)
    if row.unit == "dot":
        how = {} if row.accumulator.startswith("cut") else {"rounding": "toward_zero"}
        return lp.cost.dot(fmt, int(row.lanes), model(row) or "fp32", register=False, **how)
    if row.unit == "add":
        return part("float add", row.unit, _units.add(lp.format(fmt), NE, keep == "keep"), keep == "keep")
    if row.unit == "multiply":
        shape = operand_of(fmt)
        cells = _units.multiply(shape, shape, lp.format(fmt), NE, keep == "keep")
        return part("float multiply", row.unit, cells, keep == "keep")
    if row.unit == "readout":
        bits = lp.cost.accumulator_bits(fmt, k=256)
        return part("readout", row.unit, _units.readout(bits, lp.format(row.to), NE))
    return None


class Further(NamedTuple):
    """A line of ``further.csv``."""

    unit: str
    fmt: str
    accumulator: str
    kind: str
    lanes: str
    to: str
    rounding: str
    subnormals: str
    ge: str
    cells: str

    def emit(self) -> Any:
        """Write the design."""
        how = {name: getattr(self, name) or None for name in ("kind", "to", "rounding", "subnormals")}
        return lp.rtl.emit(formats(self.fmt), model(self), unit=self.unit, **how)

    def synthesised(self) -> Further:
        """Find the gates anew."""
        mapped = lp.rtl.synth(self.emit(), timeout=600)
        return self._replace(ge=f"{mapped.ge:.2f}", cells=str(mapped.cells))


def further() -> list[Further]:
    """Return the lines of ``further.csv``."""
    with FURTHER.open(newline="", encoding="utf-8") as file:
        return [Further(**row) for row in csv.DictReader(file)]


def compared() -> Iterator[Compared]:
    """Yield every synthesised unit of lp.rtl that lp.cost has."""
    for row in (*lp.rtl.stored(), *further()):
        unit = closed_form(row)
        if unit is not None:
            name = getattr(row, "name", None) or " ".join(filter(None, row[:-2]))
            yield Compared(name, float(row.ge), unit)


def summary(rows: list[Compared]) -> list[str]:
    """Return the table of the page: of every group the range that figures state, and where the units of lp.rtl lie."""
    lines = ["| units | designs | range | of lp.rtl | gates / formula | mean error |", "|---|---|---|---|---|---|"]
    for stated in _calibration.ranges().values():
        ratios = np.array([row.gates / row.unit.ge for row in rows if row.unit.groups == (stated.group,)])
        words = f"{ratios.min():.3f} to {ratios.max():.3f} | {abs(1 / ratios - 1).mean():.1%}" if ratios.size else "|"
        if stated not in _calibration.APART:
            bounds = f"{stated.low:.3f} to {stated.high:.3f}"
            lines.append(f"| {stated.group} | {stated.designs} | {bounds} | {ratios.size} | {words} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", action="store_true", help="print every design")
    parser.add_argument("--synthesise", action="store_true", help="find the gates of further.csv anew")
    parser.add_argument("--new", action="store_true", help="synthesise only those of its lines that have no gates yet")
    options = parser.parse_args()
    if options.synthesise or options.new:
        with ThreadPoolExecutor(2) as pool:
            anew = options.synthesise
            found = list(pool.map(lambda row: row.synthesised() if anew or not row.ge else row, further()))
        with FURTHER.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([Further._fields, *found])
    rows = list(compared())
    print(*summary(rows), sep="\n")
    ranks = [np.argsort(np.argsort(each)) for each in zip(*((row.gates, row.unit.ge) for row in rows), strict=True)]
    print(f"\n{len(rows)} designs, Spearman {np.corrcoef(*ranks)[0, 1]:.4f}")
    if options.designs:
        for row in rows:
            print(f"{row.name:52} {row.gates:9.1f} {row.unit.ge:9.1f} {row.gates / row.unit.ge:6.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
