"""stored: designs that were synthesised before, with their gates, so that figures are at hand without the tools."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lowprec.rtl._design import Design
from lowprec.rtl._emit import emit

FILE = Path(__file__).with_name("data") / "synthesised.csv"


class Stored(NamedTuple):
    """A design that was synthesised, and what came of it.

    Parameters
    ----------
    name : str
        Of the design.
    unit, fmt, accumulator, kind, lanes, to, rounding, subnormals, k : str
        The arguments of `emit`; empty where they were left out, ``"int4/int8"`` for a pair of formats.
    study : str
        Name of the same unit in the study that the cost model was first held against, or empty.
    study_ge : float
        That study's gate equivalents; NaN where there are none.
    ge, ge_default : float
        Gate equivalents by ``flow="noalumacc"`` and by ``flow="default"``; NaN where it did not end in time.
    cells : int
        Cells of the former.
    seconds : float
        Wall-clock time of the former.
    version : str
        Of pyosys.

    Raises
    ------
    Nothing.
    """

    name: str
    unit: str
    fmt: str
    accumulator: str
    kind: str
    lanes: str
    to: str
    rounding: str
    subnormals: str
    k: str
    study: str
    study_ge: float
    ge: float
    ge_default: float
    cells: int
    seconds: float
    version: str

    def emit(self) -> Design:
        """Write the design anew.

        Returns
        -------
        Design
            What `emit` makes of the arguments.

        Raises
        ------
        ValueError
            If the file names arguments that `emit` does not take.
        """
        return emit(*arguments(self), **keywords(self))


def arguments(row: Any) -> tuple[Any, Any]:
    """Return the positional arguments of a row."""
    widths = [int(word) if word.isdigit() else word for word in row.fmt.split("/")]
    return widths[0] if len(widths) == 1 else tuple(widths), row.accumulator or None


def keywords(row: Any) -> dict[str, Any]:
    """Return the keyword arguments of a row."""
    given: dict[str, Any] = {name: getattr(row, name) or None for name in ("kind", "to", "rounding", "subnormals")}
    given |= {"unit": row.unit, "k": int(row.k) if row.k else None, "lanes": int(row.lanes) if row.lanes else None}
    return given


@lru_cache(maxsize=1)
def stored() -> tuple[Stored, ...]:
    """Return the designs whose gates are stored with the package.

    Returns
    -------
    tuple of Stored
        Named tuples; ``.emit()`` writes the Verilog of one.

    Raises
    ------
    OSError
        If the package's data file cannot be read.

    Examples
    --------
    >>> import lowprec as lp
    >>> [row.name for row in lp.rtl.stored() if row.fmt == "int4" and row.accumulator == "int24"]
    ['mac_int4_int24']
    """
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_read(row) for row in csv.DictReader(file))


def _read(row: dict[str, str]) -> Stored:
    """Turn the words of a line into numbers."""
    numbers: dict[str, Any] = {name: float(row[name]) for name in ("study_ge", "ge", "ge_default", "seconds")}
    words: dict[str, Any] = dict(row)
    return Stored(**(words | numbers | {"cells": int(row["cells"])}))
