"""mutants: netlists with one fault each, which a check worth its name has to find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lowprec.rtl._liberty import FLIP_FLOP
from lowprec.rtl._netlist import Cell
from lowprec.rtl._request import whole
from lowprec.rtl._synth import Synthesis

# A gate whose output is the complement.
_INVERSE = {
    "INV": "BUF",
    "AND2": "NAND2",
    "OR2": "NOR2",
    "XOR2": "XNOR2",
}
_INVERSE |= {there: here for here, there in _INVERSE.items()}
# A gate that somebody could have taken instead.
_TWIN = {
    "AND2": "OR2",
    "NAND2": "NOR2",
    "NAND3": "NOR3",
    "NAND4": "NOR4",
    "AOI21": "OAI21",
    "AOI22": "OAI22",
    "XOR2": "OR2",
}
_TWIN |= {there: here for here, there in _TWIN.items()}


def _faults(cell: Cell) -> list[tuple[str, Cell]]:
    """Return the faults that a gate can have: stuck, inverted, or of the wrong kind."""
    found = [("stuck at 0", Cell("BUF", (0,), cell.output)), ("stuck at 1", Cell("BUF", (1,), cell.output))]
    for why, table in (("inverted", _INVERSE), ("of the wrong kind", _TWIN)):
        if cell.kind in table:
            found.append((f"{why}: {table[cell.kind]}", cell._replace(kind=table[cell.kind])))
    return found


def mutants(
    synthesis: Synthesis, count: int = 20, *, rng: int | np.random.Generator = 0
) -> Iterator[tuple[str, Synthesis]]:
    """Return netlists with one fault each: a gate stuck at 0 or 1, inverted, or of the wrong kind.

    A fault may be without effect, where a netlist is redundant or inputs that would show it are refused; of a netlist
    that was mapped for area there are few of these.

    Parameters
    ----------
    synthesis : Synthesis
        What `synth` returned.
    count : int
        How many to draw, 1 to 1 million.
    rng : int or numpy.random.Generator
        Seed of the draw.

    Returns
    -------
    iterator of (str, Synthesis)
        What is wrong, and the netlist with that fault.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the netlist has no gates.

    Examples
    --------
    >>> import lowprec as lp
    >>> design = lp.rtl.emit(4, unit="multiplier")
    >>> mapped = lp.rtl.synth(design)  # doctest: +SKIP
    >>> [lp.rtl.check(design, wrong).ok for _, wrong in lp.rtl.mutants(mapped, 3)]  # doctest: +SKIP
    [False, False, False]
    """
    if not isinstance(synthesis, Synthesis):
        msg = f"`synthesis` must be what lp.rtl.synth returned, got {type(synthesis).__name__}."
        raise TypeError(msg)
    number = whole(count, "count", 1, 1_000_000)
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(whole(rng, "rng", 0, 2**64 - 1))
    places = [place for place, cell in enumerate(synthesis.netlist.cells) if cell.kind != FLIP_FLOP]
    if not places:
        msg = f"`synthesis` must have gates to put a fault into, got none in {synthesis.design.name}."
        raise ValueError(msg)
    return _drawn(synthesis, number, places, rng)


def _drawn(
    synthesis: Synthesis, count: int, places: list[int], rng: np.random.Generator
) -> Iterator[tuple[str, Synthesis]]:
    """Draw gates and faults."""
    cells = synthesis.netlist.cells
    for _ in range(count):
        place = places[int(rng.integers(len(places)))]
        faults = _faults(cells[place])
        why, wrong = faults[int(rng.integers(len(faults)))]
        netlist = replace(synthesis.netlist, cells=(*cells[:place], wrong, *cells[place + 1 :]))
        yield f"{cells[place].kind} {place} {why}", replace(synthesis, netlist=netlist)
