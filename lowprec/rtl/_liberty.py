"""The library that netlists are mapped to: seventeen gates and a flip-flop, with areas in gate equivalents.

The areas are ratios to a two-input NAND as they are common in CMOS libraries of 45 to 180 nm, written down here and
taken from no vendor's kit: a transistor pair per input, two inverters' worth more for a non-inverting gate. There is no
timing, so synthesis looks for the least area.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Gate:
    """One gate of the library.

    Parameters
    ----------
    area : float
        Gate equivalents.
    pins : tuple of str
        Names of the inputs.
    function : str
        The output in liberty's notation.
    evaluate : callable
        The output of words of 64 bits, one bit per vector: the inputs' words in the order of `pins`.
    mapped : float, optional
        Area that the mapper is told, where that is not `area`.

    Raises
    ------
    Nothing.
    """

    area: float
    pins: tuple[str, ...]
    function: str
    evaluate: Callable[..., Words]
    mapped: float | None = None


def _gate(area: float, pins: str, function: str, evaluate: Callable[..., Any], mapped: float | None = None) -> Gate:
    return Gate(area, tuple(pins), function, evaluate, mapped)


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "INV": _gate(0.67, "A", "!A", lambda a: ~a),
        "BUF": _gate(1.0, "A", "A", lambda a: a),
        "NAND2": _gate(1.0, "AB", "!(A&B)", lambda a, b: ~(a & b)),
        "NAND3": _gate(1.33, "ABC", "!(A&B&C)", lambda a, b, c: ~(a & b & c)),
        "NAND4": _gate(1.67, "ABCD", "!(A&B&C&D)", lambda a, b, c, d: ~(a & b & c & d)),
        "NOR2": _gate(1.0, "AB", "!(A|B)", lambda a, b: ~(a | b)),
        "NOR3": _gate(1.33, "ABC", "!(A|B|C)", lambda a, b, c: ~(a | b | c)),
        "NOR4": _gate(1.67, "ABCD", "!(A|B|C|D)", lambda a, b, c, d: ~(a | b | c | d)),
        "AND2": _gate(1.33, "AB", "(A&B)", lambda a, b: a & b),
        "OR2": _gate(1.33, "AB", "(A|B)", lambda a, b: a | b),
        # Told a little less than it is, so that the mapper takes it where two smaller gates would cost the same.
        "XOR2": _gate(2.0, "AB", "(A^B)", lambda a, b: a ^ b, 1.95),
        "XNOR2": _gate(2.0, "AB", "!(A^B)", lambda a, b: ~(a ^ b)),
        "AOI21": _gate(1.33, "ABC", "!((A&B)|C)", lambda a, b, c: ~((a & b) | c)),
        "OAI21": _gate(1.33, "ABC", "!((A|B)&C)", lambda a, b, c: ~((a | b) & c)),
        "AOI22": _gate(1.67, "ABCD", "!((A&B)|(C&D))", lambda a, b, c, d: ~((a & b) | (c & d))),
        "OAI22": _gate(1.67, "ABCD", "!((A|B)&(C|D))", lambda a, b, c, d: ~((a | b) & (c | d))),
        "MUX2": _gate(2.33, "ABS", "((A&!S)|(B&S))", lambda a, b, s: (a & ~s) | (b & s)),
    }
)
"""The gates by name; the output of each is its pin Y."""

FLIP_FLOP = "DFF"
FLIP_FLOP_AREA = 5.67  # pins CK, D, Q; no reset


def area(cells: Mapping[str, int]) -> float:
    """Return the gate equivalents of so many cells of each name."""
    return sum(count * (FLIP_FLOP_AREA if name == FLIP_FLOP else GATES[name].area) for name, count in cells.items())


def liberty() -> str:
    """Return the library as a liberty file, the form in which synthesis takes it.

    Returns
    -------
    str
        Areas in gate equivalents (NAND2 = 1); no timing, no power.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.rtl.liberty().count("cell(")
    18
    """
    lines = [
        "/* Areas in gate equivalents (NAND2 = 1); no timing, no power; from no vendor's library. */",
        "library(ge) {",
        "  delay_model : table_lookup;",
        '  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1mA"; pulling_resistance_unit : "1kohm";',
        "  capacitive_load_unit(1, pf);",
    ]
    for name, gate in GATES.items():
        lines.append(f"  cell({name}) {{ area : {gate.area if gate.mapped is None else gate.mapped};")
        lines += [f"    pin({pin}) {{ direction : input; capacitance : 0.01; }}" for pin in gate.pins]
        lines.append(f'    pin(Y) {{ direction : output; function : "{gate.function}"; }} }}')
    lines += [
        f"  cell({FLIP_FLOP}) {{ area : {FLIP_FLOP_AREA};",
        '    ff(IQ, IQN) { clocked_on : "CK"; next_state : "D"; }',
        "    pin(CK) { direction : input; clock : true; capacitance : 0.01; }",
        "    pin(D) { direction : input; capacitance : 0.01; }",
        '    pin(Q) { direction : output; function : "IQ"; } }',
        "}",
    ]
    return "\n".join(lines) + "\n"
