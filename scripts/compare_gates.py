"""Hold lp.cost's formulas against the gates of the units that lp.rtl writes, which took no part in finding them.

Prints one line per kind of unit; with ``--designs`` one per design::

    python scripts/compare_gates.py [--designs]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import lowprec as lp


def formats(words: str) -> Any:
    """Return a format, a pair of them, a width or a pair of widths, as the table spells it."""
    each = [int(word) if word.isdigit() else word for word in words.split("/")]
    return each[0] if len(each) == 1 else tuple(each)


def closed_form(row: Any) -> float | None:
    """Return the gate equivalents that lp.cost gives for a unit, or None where it has no such unit."""
    fmt = formats(row.fmt)
    rounding, keep = row.rounding or "nearest_even", row.subnormals or "flush"
    if row.unit == "multiplier":
        if row.fmt in ("2", "3"):  # synthesis folds so much of these that formulas do not apply
            return None
        return float(lp.cost.multiplier(fmt, "array" if row.kind == "operator" else row.kind).ge)
    if row.unit == "mac" and row.kind != "booth":
        exact = row.accumulator == "exact"
        how = {} if exact or row.accumulator.startswith("int") else {"rounding": rounding, "subnormals": keep}
        return float(lp.cost.mac(fmt, row.accumulator, register=False, **how).ge)
    if row.unit == "cast":
        return float(lp.cost.cast(fmt, row.to, rounding=rounding).ge)
    if row.unit == "dot":
        accumulator = row.accumulator or "fp32"
        return float(lp.cost.dot(fmt, int(row.lanes), accumulator, rounding="toward_zero", register=False).ge)
    return None


def compared() -> list[tuple[str, str, float, float]]:
    """Return group, name, gates and formula of every stored unit that lp.cost has."""
    found = []
    for row in lp.rtl.stored():
        formula = closed_form(row)
        if formula is not None:
            is_float = row.unit == "mac" and not row.accumulator.startswith("int") and row.accumulator != "exact"
            group = {"mac": "float MAC" if is_float else "integer and exact MAC"}.get(row.unit, row.unit)
            group += f" ({row.kind})" * (row.unit == "multiplier" and row.kind == "booth")
            found.append((group, row.name, float(row.ge), formula))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", action="store_true", help="print every design")
    options = parser.parse_args()
    rows = compared()
    print("| units | designs | gates / formula | mean error |\n|---|---|---|---|")
    for group in dict.fromkeys(row[0] for row in rows):
        ratios = np.array([ge / formula for name, _, ge, formula in rows if name == group])
        print(
            f"| {group} | {len(ratios)} | {ratios.min():.3f} to {ratios.max():.3f} | {abs(1 / ratios - 1).mean():.1%} |"
        )
    ranks = [np.argsort(np.argsort([row[i] for row in rows])) for i in (2, 3)]
    print(f"\n{len(rows)} designs, Spearman {np.corrcoef(*ranks)[0, 1]:.4f}")
    if options.designs:
        for _, name, ge, formula in rows:
            print(f"{name:52} {ge:9.1f} {formula:9.1f} {ge / formula:6.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
