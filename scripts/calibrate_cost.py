"""Find by how much synthesis shrinks what lp.cost's formulas count, and how far off they then are.

Writes ``lowprec/cost/data/calibration.csv`` from ``synthesised.csv`` and ``booth.csv`` (pyosys 0.70: ``a * b``
mapped to Booth's, and those that lp.rtl draws) beside it, and ``ranges.csv`` from these and the units of lp.rtl that
``compare_gates.py`` has; and prints what it found::

    python scripts/calibrate_cost.py [--check] [--designs]

One factor per group of float units multiplies all parts but multiplier and register; it is the one of least squared
relative error. Units of integers are not calibrated. `left_out` is the error of each format by a factor found without
it. The units of lp.rtl have no part in the factors. A range is from the least ratio of gates to formula, rounded down,
to the greatest, rounded up.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import re
import sys
from pathlib import Path
from typing import NamedTuple

import compare_gates
import numpy as np
from compare_gates import Compared, part

import lowprec as lp
from lowprec.cost import _calibration, _dot_model, _units
from lowprec.cost._bill import UNSHRUNK
from lowprec.cost._cells import Cells, Part
from lowprec.cost._result import Cost
from lowprec.cost._shape import operand_of
from lowprec.rounding import Rounding

DATA = Path(__file__).resolve().parents[1] / "lowprec" / "cost" / "data"
UNCALIBRATED = ("integer MAC", "integer dot", "multiplier", "signed multiplier", "Booth multiplier")
NAMES = {"e4m3": "e4m3fn", "e3m2": "e3m2fn", "e2m3": "e2m3fn", "e2m1": "e2m1fn"}
BLOCKS = {"mxint8": "mxint8", "mxfp4": "mxfp4", "mxfp6e2m3": "mxfp6_e2m3", "mxfp6e3m2": "mxfp6_e3m2"}
NE = Rounding.NEAREST_EVEN


class Design(NamedTuple):
    """A synthesised design and what the formulas say of it: GE that calibration leaves alone, and those it scales."""

    name: str
    group: str
    family: str
    synthesised: float
    fixed: float
    scaled: float
    unit: Cost


def of_cells(name: str, group: str, family: str, ge: float, parts: dict[str, Cells], unit: Cost) -> Design:
    found = {part: Part(cells).ge for part, cells in parts.items()}
    fixed = sum(value for part, value in found.items() if part in UNSHRUNK)
    return Design(name, group, family, ge, fixed, sum(found.values()) - fixed, unit)


def of_unit(name: str, group: str, family: str, ge: float, unit: Cost) -> Design:
    """Take a unit whose own factors are not to be found: its GE count as they are."""
    return Design(name, group, family, ge, float(unit.ge), 0.0, unit)


def design(name: str, ge: float) -> Design | None:
    """Return a row of the table with the formulas' numbers, or None where lp.cost has no such unit."""
    family, *rest = name.split("_")
    word = rest[0] if rest else ""
    fmt = NAMES.get(word, word)
    if family == "fpmac":
        into = lp.format(NAMES.get(rest[1][3:], rest[1][3:]) if rest[1].startswith("acc") else "fp32")
        how = Rounding.TOWARD_ZERO if rest[-1] == "ftztr" else NE
        shape, keep = operand_of(fmt), rest[-1] == "ieee"
        unit = lp.cost.mac(fmt, into, rounding=how, subnormals="keep" if keep else "flush", register=False)
        return of_cells(name, "float MAC", word, ge, _units.multiply_add(shape, shape, into, how, keep), unit)
    if family == "fpadd":
        parts, keep = _units.add(lp.format(fmt), NE, rest[1] == "ieee"), rest[1] == "ieee"
        return of_cells(name, "float add", word, ge, parts, part("float add", name, parts, keep))
    if family == "fpmul":
        shape, keep = operand_of(fmt), rest[1] == "ieee"
        parts = _units.multiply(shape, shape, lp.format(fmt), NE, keep)
        return of_cells(name, "float multiply", word, ge, parts, part("float multiply", name, parts, keep))
    if family in ("kulisch", "fx2fp"):
        bits = lp.cost.accumulator_bits(fmt, k=256)
        shape = operand_of(fmt)
        if family == "kulisch":
            unit = lp.cost.mac(fmt, "exact", register=False)
            return of_cells(name, "exact MAC", word, ge, _units.fixed_point(shape, shape, bits), unit)
        parts = _units.readout(bits, lp.format("fp32"), NE)
        return of_cells(name, "readout", word, ge, parts, part("readout", name, parts))
    if family == "cast":
        unit = lp.cost.cast("fp32", fmt)
        return of_cells(name, "cast", word, ge, _units.cast(lp.format("fp32"), lp.format(fmt), NE, True), unit)
    if family == "fpdot":
        element, lanes = word.rsplit("x", 1)
        element = NAMES.get(element, element)
        bill = _dot_model.dot_bill(element, int(lanes), "fp32", register=False, rounding="toward_zero")
        cells = {name: each.cells for name, each in bill.elements.items()}
        return of_cells(name, "fused dot", element, ge, cells, Cost.of(bill))
    if family == "intdot":
        bits, lanes = word.split("x")
        return of_unit(name, "integer dot", bits, ge, lp.cost.dot(f"int{bits}", int(lanes), register=False))
    if family == "intmac":
        weight, _, x = word.removeprefix("w").rpartition("a")
        unit = lp.cost.mac((f"int{weight or x}", f"int{x}"), f"int{rest[1][3:]}", register=False)
        return of_unit(name, "integer MAC", word, ge, unit)
    if family == "mul":
        bits, kind = rest[1], rest[0]
        unit = lp.cost.multiplier(f"int{bits}" if kind == "sstar" else int(bits), "array")
        group = "signed multiplier" if kind == "sstar" else "multiplier"
        return of_unit(name, group, bits, ge, unit)
    block = re.fullmatch(r"(mx\w+?)x(\d+)", name)
    if block and block[1] in BLOCKS:
        unit = lp.cost.dot(BLOCKS[block[1]], int(block[2]), register=False)
        return of_unit(name, "block dot", block[1], ge, unit)
    booth = re.fullmatch(r"booth(_drawn)?(_signed)?_(\d+)", name)
    if booth:
        factor = f"int{booth[3]}" if booth[2] else int(booth[3])
        return of_unit(name, "Booth multiplier", booth[3], ge, lp.cost.multiplier(factor, "booth"))
    return None


def factor_of(designs: list[Design]) -> float:
    """Return the factor of least squared relative error."""
    scaled = np.array([each.scaled / each.synthesised for each in designs])
    missing = np.array([1 - each.fixed / each.synthesised for each in designs])
    return float(scaled @ missing / (scaled @ scaled)) if scaled.any() else 1.0


def read() -> list[Design]:
    rows = []
    for name in ("synthesised.csv", "booth.csv"):
        with (DATA / name).open(newline="", encoding="utf-8") as file:
            rows += [(row["design"], float(row["ge_synth"])) for row in csv.DictReader(file)]
    return [found for name, ge in rows if (found := design(name, ge)) is not None]


def calibrate(designs: list[Design]) -> tuple[str, dict[str, float]]:
    """Return the table as CSV, and the calibrated GE of every design."""
    out, predicted = io.StringIO(), {}
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["group", "designs", "factor", "low", "high", "error", "left_out"])
    for group in dict.fromkeys(each.group for each in designs):
        mine = [each for each in designs if each.group == group]
        factor = 1.0 if group in UNCALIBRATED else round(factor_of(mine), 3)
        found = {each.name: each.fixed + factor * each.scaled for each in mine}
        ratios = [each.synthesised / found[each.name] for each in mine]
        without = []
        for family in {each.family for each in mine}:
            others = [each for each in mine if each.family != family]
            other = factor if group in UNCALIBRATED else factor_of(others)
            without += [abs((d.fixed + other * d.scaled) / d.synthesised - 1) for d in mine if d.family == family]
        errors = [abs(found[each.name] / each.synthesised - 1) for each in mine]
        numbers = (factor, min(ratios), max(ratios), np.mean(errors), np.mean(without))
        writer.writerow([group, len(mine), *(f"{value:.3f}" for value in numbers)])
        predicted |= found
    return out.getvalue(), predicted


def known() -> list[Compared]:
    """Return every synthesised design once: those that were fitted on, and those of lp.rtl; drawn ones are of both."""
    apart = [each for each in read() if "_drawn_" not in each.name]
    return [Compared(each.name, each.synthesised, each.unit) for each in apart] + list(compare_gates.compared())


def ranges(designs: list[Compared]) -> str:
    """Return the ranges as CSV: of each group the units that are of it alone."""
    found: dict[str, list[float]] = {}
    for each in designs:
        if len(each.unit.groups) == 1:
            found.setdefault(each.unit.groups[0], []).append(each.gates / float(each.unit.ge))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_calibration.Range._fields)
    for group, ratios in found.items():
        low, high = math.floor(min(ratios) * 1000) / 1000, math.ceil(max(ratios) * 1000) / 1000
        writer.writerow([group, len(ratios), f"{low:.3f}", f"{high:.3f}"])
    return out.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    parser.add_argument("--designs", action="store_true", help="print every design")
    options = parser.parse_args()
    designs = read()
    text, predicted = calibrate(designs)
    print(text, end="")
    ranks = [
        np.argsort(np.argsort(v)) for v in ([predicted[d.name] for d in designs], [d.synthesised for d in designs])
    ]
    print(f"{len(designs)} designs, Spearman {np.corrcoef(*ranks)[0, 1]:.4f}")
    if options.designs:
        for each in designs:
            got = predicted[each.name]
            print(f"{each.name:24} {each.synthesised:9.1f} {got:9.1f} {each.synthesised / got:6.3f}")
    paths = DATA / "calibration.csv", DATA / "ranges.csv"
    if not options.check:
        paths[0].write_text(text, encoding="utf-8")
        _calibration.calibrations.cache_clear()
    wider = ranges(known())
    print(f"\n{wider}", end="")
    if options.check:
        return int([path.read_text(encoding="utf-8") for path in paths] != [text, wider])
    paths[1].write_text(wider, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
