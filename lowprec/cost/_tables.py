"""Published numbers of energy and area, and synthesised gates: data files with their sources."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import NamedTuple, NoReturn

from lowprec import _text_tables as text
from lowprec.cost._figure import Figure
from lowprec.cost._printed import Records

SYNTHESISED = "synthesised"


class Source(NamedTuple):
    """Where the numbers of a table are from.

    Parameters
    ----------
    name : str
        How the table is called.
    citation : str
        The full reference.
    year : int
        When it was published.
    node_nm : float, optional
        Technology, in nanometres, where it is stated.
    voltage : float, optional
        Supply, in volts, where it is stated.
    licence : str
        Of the data that the numbers were read from.
    covers : str
        What is in it.

    Raises
    ------
    Nothing.
    """

    name: str
    citation: str
    year: int
    node_nm: float | None
    voltage: float | None
    licence: str
    covers: str


class TableInfo(NamedTuple):
    """One row of `tables`.

    Parameters
    ----------
    name : str
        What `table` and `cite` take.
    quantity : str
        What is in it: ``"energy"``, ``"area"``, ``"ratio"`` ...
    node_nm : float, optional
        Technology, in nanometres.
    points : int
        How many numbers.
    state : str
        The weakest state of its points (see `Point`); ``"own"`` for those of this package.
    covers : str
        What it is about.
    source : str
        The reference.

    Raises
    ------
    Nothing.
    """

    name: str
    quantity: str
    node_nm: float | None
    points: int
    state: str
    covers: str
    source: str


class Point(NamedTuple):
    """One published number.

    Parameters
    ----------
    operation : str
        What was measured: ``"add"``, ``"mult"``, ``"mac"``, ``"access"`` of a memory, or words of the source.
    format : str
        Its number format, the pair of a multiplier (``"uint8xuint4"``), or the level of a memory (``"sram-32KB"``).
    condition : str
        Such as the timing target of the synthesis, or ``"low"`` and ``"high"`` of a range.
    quantity : str
        Energy, area, power, delay, ratio or rate.
    value : Figure
        The number with its unit.
    state : str
        ``"seen"``: read in a copy or reproduction of the source; ``"second-hand"``: in somebody's summary of it;
        ``"memory"``: written from memory and not checked again.
    note : str
        What else a reader has to know.

    Raises
    ------
    Nothing.
    """

    operation: str
    format: str
    condition: str
    quantity: str
    value: Figure
    state: str
    note: str


class SynthesisedPoint(NamedTuple):
    """One synthesised design.

    Parameters
    ----------
    design : str
        Which unit: ``"mul_star_8"`` (``a * b``), ``"mul_dadda_8"``, ``"intmac_8_acc32"``, ``"intpe_..."`` (with
        registers), ``"fpmac_bf16_ftz"``, ``"kulisch_e4m3"``, ``"fpdot_e4m3x16"``, ``"cast_fp16"`` ...
    ge : Figure
        Gate equivalents, of the smaller of two runs, which are its range.
    flow : str
        Which run was smaller: with ``"alumacc"`` or with ``"noalumacc"``.
    ge_alumacc, ge_noalumacc : Figure
        Gate equivalents of each run.
    cells : int
        Cells of the smaller one.

    Raises
    ------
    Nothing.
    """

    design: str
    ge: Figure
    flow: str
    ge_alumacc: Figure
    ge_noalumacc: Figure
    cells: int


STATES = ("seen", "second-hand", "memory")
"""How well a number is known, the best first."""


def read(name: str) -> list[dict[str, str]]:
    """Return the rows of a data file of the package."""
    content = resources.files("lowprec.cost").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(content.splitlines()))


def unknown(value: object, names: Iterable[str], what: str, listed_by: str, argument: str) -> NoReturn:
    """Raise the error of a name that is not in a list, or of no name at all."""
    known = list(names)
    if not isinstance(value, str):
        msg = f"`{argument}` must be the name of a {what}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    close = difflib.get_close_matches(value.strip().lower(), known, n=3, cutoff=0.5)
    hint = f"the closest: {', '.join(map(repr, close))}." if close else f"{listed_by} lists them."
    msg = f"`{argument}` must be a known {what}, got {value!r}; {hint}"
    raise ValueError(msg)


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """Return all sources by name; not to be changed."""
    return {
        row["name"]: Source(
            row["name"],
            row["citation"],
            int(row["year"]),
            float(row["node_nm"]) if row["node_nm"] else None,
            float(row["voltage"]) if row["voltage"] else None,
            row["licence"],
            row["covers"],
        )
        for row in read("sources.csv")
    }


@lru_cache(maxsize=1)
def _published() -> dict[str, Records[Point]]:
    """Return the published tables by name; not to be changed."""
    found: dict[str, list[Point]] = {}
    for row in read("published.csv"):
        value = Figure(float(row["value"]), row["unit"], "published", f"{row['source']} ({row['state']})")
        point = Point(
            row["operation"], row["format"], row["condition"], row["quantity"], value, row["state"], row["note"]
        )
        found.setdefault(row["source"], []).append(point)
    return {name: Records(points) for name, points in found.items()}


@lru_cache(maxsize=1)
def _synthesised() -> Records[SynthesisedPoint]:
    """Return the synthesised designs."""
    points = []
    for row in read("synthesised.csv"):
        runs = [float(row["ge_alumacc"]), float(row["ge_noalumacc"])]
        best = Figure(min(runs), "GE", "synthesised", SYNTHESISED, min(runs), max(runs))
        first, second = (Figure(value, "GE", "synthesised", SYNTHESISED) for value in runs)
        points.append(SynthesisedPoint(row["design"], best, row["flow"], first, second, int(row["cells"])))
    return Records(points)


def word_of(name: str) -> str:
    """Return the name of a table as it is kept: in lower case, without a node after it ("jouppi2021-7nm")."""
    return re.sub(r"-\d+nm$", "", name.strip().lower())


def published(name: object, argument: str = "table") -> Records[Point]:
    """Return a table of published numbers, or raise."""
    if isinstance(name, str) and word_of(name) in _published():
        return _published()[word_of(name)]
    return unknown(name, _published(), "table of published numbers", "lp.cost.tables()", argument)


class TableList(Records[TableInfo]):
    """What `tables` returns; the printed table leaves out the references, which `cite` gives.

    Raises
    ------
    Nothing.
    """

    __slots__ = ()

    def _view(self) -> text.Table:
        view = super()._view()
        at = view.headings().index("source")
        notes = [
            "state: seen in a copy of the source, second-hand from somebody's summary, or written from memory; that of",
            "the weakest number. lp.cost.cite(name) gives the reference, lp.cost.table(name) the numbers.",
        ]
        return view._replace(columns=view.columns[:at], rows=[row[:at] for row in view.rows], notes=notes)


def tables() -> Records[TableInfo]:
    """Return what tables there are: published numbers by source, and synthesised designs.

    Returns
    -------
    tuple of TableInfo
        Prints as a table.

    Raises
    ------
    Nothing.

    See Also
    --------
    table : The numbers of one.
    cite : Its reference.

    Examples
    --------
    >>> import lowprec as lp
    >>> [row.name for row in lp.cost.tables()][:3]
    ['horowitz2014', 'horowitz2014-area', 'jouppi2021']
    >>> sum(row.points for row in lp.cost.tables() if row.name != "synthesised")
    360
    """
    found = []
    for name, source in sources().items():
        if name == SYNTHESISED:
            quantity, count, state = "area (GE)", len(_synthesised()), "own"
        else:
            points = _published()[name]
            quantity, count = ", ".join(dict.fromkeys(point.quantity for point in points)), len(points)
            state = max((point.state for point in points), key=STATES.index)
        found.append(TableInfo(name, quantity, source.node_nm, count, state, source.covers, source.citation))
    return TableList(found)


def table(name: str) -> Records[Point] | Records[SynthesisedPoint]:
    """Return the numbers of a table.

    Parameters
    ----------
    name : str
        One of `tables`; ``"synthesised"`` for the gates of synthesised designs.

    Returns
    -------
    tuple of Point or of SynthesisedPoint
        Prints as a table.

    Raises
    ------
    TypeError
        If `name` is no string.
    ValueError
        If no table is called so; close names are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.table("oconnor2017"))
    operation  format  condition  quantity        value  state        note
    ---------  ------  ---------  --------  -----------  -----------  --------------------------------------
    access     hbm2               energy    3.97 pJ/bit  second-hand  1.21 activate, 2.54 transfer, 0.22 I/O
    access     gddr5              energy      14 pJ/bit  second-hand
    >>> print(lp.cost.table("oconnor2017")[0].value)
    3.97 pJ/bit (published)
    """
    if isinstance(name, str) and word_of(name) == SYNTHESISED:
        return _synthesised()
    if isinstance(name, str) and word_of(name) in _published():
        return _published()[word_of(name)]
    return unknown(name, sources(), "table", "lp.cost.tables()", "name")


def cite(name: str) -> str:
    """Return where the numbers of a table are from.

    Parameters
    ----------
    name : str
        One of `tables`, or of `machines`.

    Returns
    -------
    str
        The reference, with technology and voltage where they are stated.

    Raises
    ------
    TypeError
        If `name` is no string.
    ValueError
        If nothing is called so; close names are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.cite("oconnor2017"))
    M. O'Connor et al., "Fine-Grained DRAM: Energy-Efficient DRAM for Extreme Bandwidth Systems", 50th International
    Symposium on Microarchitecture (MICRO), 2017.
    """
    word = word_of(name) if isinstance(name, str) else ""
    if word in sources():
        source = sources()[word]
        node = "" if source.node_nm is None else f" {source.node_nm:g} nm"
        volts = "" if source.voltage is None else f", {source.voltage:g} V"
        return f"{source.citation}.{f' Technology:{node}{volts}.' if node else ''}"
    by_machine: dict[str, list[str]] = {}
    for row in read("machines.csv"):
        by_machine.setdefault(row["machine"], []).append(row["source"])
    if word in by_machine:
        return f"{'; '.join(dict.fromkeys(by_machine[word]))}."
    return unknown(name, [*sources(), *by_machine], "table or machine", "lp.cost.tables()", "name")
