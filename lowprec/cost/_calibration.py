"""By how much synthesis shrinks what the formulas count, and how far off they then are: one row per group of units.

The rows are found by ``scripts/calibrate_cost.py`` from the synthesised designs that ship with the package.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources
from typing import NamedTuple

SOURCE = "lowprec's closed forms (docs/cost.md), calibrated on its table of synthesised designs"


class Calibration(NamedTuple):
    """What is known of a group of units.

    Parameters
    ----------
    group : str
        Which units.
    designs : int
        How many were synthesised.
    factor : float
        What their parts, multipliers and registers apart, are multiplied by.
    low, high : float
        The least and the greatest ratio of synthesis to formula.
    error : float
        Mean of the absolute relative differences.
    left_out : float
        The same for each format by a factor found without it.
    """

    group: str
    designs: int
    factor: float
    low: float
    high: float
    error: float
    left_out: float

    @property
    def span(self) -> tuple[float, float]:
        """The range of the ratio of truth to formula, which holds 1."""
        return min(1.0, self.low), max(1.0, self.high)


@functools.lru_cache(maxsize=1)
def calibrations() -> dict[str, Calibration]:
    """Return all rows by group."""
    text = (resources.files("lowprec.cost") / "data" / "calibration.csv").read_text(encoding="utf-8")
    return {
        row["group"]: Calibration(
            row["group"], int(row["designs"]), *(float(row[name]) for name in Calibration._fields[2:])
        )
        for row in csv.DictReader(text.splitlines())
    }


def calibration(group: str) -> Calibration:
    """Return the row of a group."""
    return calibrations()[group]
