"""By how much synthesis shrinks what the formulas count, and how far off they then are: one row per group of units.

``data/calibration.csv`` has the factors, fitted on one set of synthesised designs; ``data/ranges.csv`` how far all
synthesised designs that ship with the package, those of `lowprec.rtl` included, lie from the formulas then. Both are
written by ``scripts/calibrate_cost.py``.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

SOURCE = "lowprec's closed forms (docs/cost.md), calibrated on its table of synthesised designs"


class Range(NamedTuple):
    """How far synthesised designs of a group lie from the formulas.

    Parameters
    ----------
    group : str
        Which units.
    designs : int
        How many were synthesised.
    low, high : float
        The least ratio of synthesis to formula, rounded down, and the greatest, rounded up.
    """

    group: str
    designs: int
    low: float
    high: float


# Gates that are not stored: of 40 units of lp.rtl of 5 pairs of formats, 4 to 28 random bits; and of none at all.
APART = (Range("stochastic rounding", 40, 0.80, 1.18), Range("cast of integers", 0, 0.5, 2.0))


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
        The least and the greatest ratio of synthesis to formula, of these designs.
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


@functools.lru_cache(maxsize=1)
def ranges() -> dict[str, Range]:
    """Return the ranges of all groups, those whose gates are not stored last."""
    text = (resources.files("lowprec.cost") / "data" / "ranges.csv").read_text(encoding="utf-8")
    found = [
        Range(row["group"], int(row["designs"]), float(row["low"]), float(row["high"]))
        for row in csv.DictReader(text.splitlines())
    ]
    return {each.group: each for each in (*found, *APART)}


def span_of(groups: Sequence[str]) -> tuple[float, float]:
    """Return the range of truth to formula of a unit whose parts are of some groups: the widest, and it holds 1."""
    found = [ranges()[group] for group in groups]
    return min((1.0, *(each.low for each in found))), max((1.0, *(each.high for each in found)))


def designs_of(groups: Sequence[str]) -> int:
    """Return over how many synthesised designs that range is."""
    return sum(ranges()[group].designs for group in groups)
