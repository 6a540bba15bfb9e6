"""Design: a unit as Verilog text, with what the emulation says its outputs are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lowprec.formats import Format
from lowprec.rtl._bits import Array, port_arrays

Ports = dict[str, Array]
Vectors = Callable[[np.random.Generator, int, Mapping[str, Array]], Mapping[str, Any]]
_MODULE = re.compile(r"\bmodule\s+(\w+)\b(.*?)\bendmodule\b", re.DOTALL)
_INSTANCE = re.compile(r"(?:;|\bend)\s*(\w+)\s+(?:#\s*\([^;]*?\)\s*)?\w+\s*\(")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Design:
    """A unit of hardware: its Verilog, its ports, and the emulation that it has to agree with.

    `emit` makes them; one made by hand goes through `synth`, `simulate` and `check` as well.

    Parameters
    ----------
    name : str
        What it is called.
    verilog : str
        Plain Verilog-2001, one file with all modules.
    top : str
        Name of the top module.
    inputs, outputs : mapping of str to int
        Bits of each port. The clock `clk` of a design with registers is not among them.
    model : callable, optional
        The emulation: takes the inputs as arrays of unsigned codes, one element per vector, and returns the outputs.
        Codes are uint64, or Python integers where a port is wider than 64 bits.
    unit : str
        What kind of unit it is: ``"multiplier"``, ``"mac"`` ...
    facts : mapping
        What it was made from, and widths that follow.
    vectors : callable, optional
        Takes a `numpy.random.Generator`, a count, and a mapping of ports whose codes are chosen already; returns
        inputs, these among them, that go to the corners of this unit.
    refused : mapping of str to callable
        Of a port, which of an array of codes nothing is promised for: `check` leaves them out.
    formats : mapping of str to format
        How the codes of a port are to be printed; without an entry they are integers.
    latency : int
        Rising clock edges from inputs to outputs, which only they change: 0 for a unit without registers.

    Raises
    ------
    TypeError
        If a part is of the wrong kind.
    ValueError
        If there is no such top module, no output, or a port without bits.

    Examples
    --------
    >>> import lowprec as lp
    >>> text = "module both(input a, input b, output y); assign y = a & b; endmodule"
    >>> design = lp.rtl.Design("both", text, "both", {"a": 1, "b": 1}, {"y": 1}, lambda p: {"y": p["a"] & p["b"]})
    >>> design.expected({"a": [0, 1, 1], "b": [1, 0, 1]})["y"].tolist()
    [0, 0, 1]
    """

    name: str
    verilog: str = field(repr=False)
    top: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    model: Callable[[Ports], Mapping[str, Any]] | None = field(default=None, repr=False)
    unit: str = "custom"
    facts: Mapping[str, Any] = field(default_factory=dict)
    vectors: Vectors | None = field(default=None, repr=False)
    refused: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict, repr=False)
    formats: Mapping[str, Format] = field(default_factory=dict, repr=False)
    latency: int = 0

    def __post_init__(self) -> None:
        """Check what can be seen without a tool."""
        for name in ("name", "verilog", "top", "unit"):
            if not isinstance(getattr(self, name), str):
                msg = f"`{name}` must be a string, got {type(getattr(self, name)).__name__}."
                raise TypeError(msg)
        if not re.fullmatch(r"[A-Za-z_]\w*", self.top) or self.top not in modules(self.verilog):
            found = ", ".join(modules(self.verilog)) or "none"
            msg = f"`top` must name a module of `verilog`, got {self.top!r}; it has {found}."
            raise ValueError(msg)
        for name in ("inputs", "outputs"):
            ports = getattr(self, name)
            if not isinstance(ports, Mapping) or not all(type(bits) is int for bits in ports.values()):
                msg = f"`{name}` must map port names to bits, got {ports!r}."
                raise TypeError(msg)
            if not ports or min(ports.values()) < 1:
                msg = f"`{name}` must hold ports of one bit or more, got {ports!r}."
                raise ValueError(msg)
        if type(self.latency) is not int or self.latency < 0:
            msg = f"`latency` must be a number of clock edges, 0 or more, got {self.latency!r}."
            raise ValueError(msg)

    def __str__(self) -> str:
        """Return the Verilog."""
        return self.verilog

    @property
    def cells(self) -> dict[str, int]:
        """Full adders, half adders and ANDs that the text instantiates, counted through its hierarchy.

        Units that leave the structure to synthesis (``a * b``) have none of them.
        """
        return {cell: count(self.verilog, self.top, module) for cell, module in _PRIMITIVES.items()}

    def expected(self, inputs: Mapping[str, Any]) -> Ports:
        """Return the outputs by the package's emulation.

        Parameters
        ----------
        inputs : mapping of str to array_like
            Unsigned codes of each input port, one per vector.

        Returns
        -------
        dict of str to ndarray
            Unsigned codes of each output port.

        Raises
        ------
        TypeError
            If codes are not integers.
        ValueError
            If a port is missing, codes do not fit, or the design has no model.
        """
        if self.model is None:
            msg = f"`model` must be given for expected outputs, got None for {self.name}."
            raise ValueError(msg)
        outputs = self.model(port_arrays(inputs, self.inputs, self.name))
        return port_arrays(outputs, self.outputs, f"the model of {self.name}")

    def save(self, path: Any) -> None:
        """Write the Verilog to a file.

        Parameters
        ----------
        path : path_like
            Where to.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        Path(path).write_text(self.verilog, encoding="utf-8")


_PRIMITIVES = {"FA": "FA", "HA": "HA", "AND": "AND2"}

PRIMITIVES = """\
// A full adder: s + 2 c = x + y + z.
module FA (input x, input y, input z, output s, output c);
  assign s = x ^ y ^ z;
  assign c = (x & y) | (z & (x ^ y));
endmodule

// A half adder: s + 2 c = x + y.
module HA (input x, input y, output s, output c);
  assign s = x ^ y;
  assign c = x & y;
endmodule

// One bit of a partial product.
module AND2 (input x, input y, output s);
  assign s = x & y;
endmodule
"""
"""The modules that structural units are made of, so that their cells can be counted."""


def modules(verilog: str) -> dict[str, str]:
    """Return the modules of a text by name, without comments."""
    return {match[1]: match[2] for match in _MODULE.finditer(_COMMENT.sub("", verilog))}


def count(verilog: str, top: str, cell: str) -> int:
    """Count the instances of one module in a hierarchy, those in modules that are instantiated more often each time."""
    bodies = modules(verilog)
    known: dict[str, int] = {}

    def inside(name: str) -> int:
        if name not in known:
            children = [match[1] for match in _INSTANCE.finditer(bodies[name]) if match[1] in bodies]
            known[name] = sum((child == cell) + inside(child) for child in children)
        return known[name]

    return inside(top)


def registered(name: str, top: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> str:
    """Return a wrapper module that keeps every output of a core in registers: one clock edge of latency."""

    def bus(bits: int) -> str:
        return f"[{bits - 1}:0] " if bits > 1 else ""

    ports = ["input clk"] + [f"input {bus(bits)}{port}" for port, bits in inputs.items()]
    ports += [f"output reg {bus(bits)}{port}" for port, bits in outputs.items()]
    wires = "".join(f"  wire {bus(bits)}{port}_next;\n" for port, bits in outputs.items())
    links = [f".{port}({port})" for port in inputs] + [f".{port}({port}_next)" for port in outputs]
    keeps = "".join(f"    {port} <= {port}_next;\n" for port in outputs)
    return (
        f"// {top} with its outputs in registers:\n"
        "// wire y back to c to accumulate, or on to the next unit of an array.\n"
        f"module {name} (\n  " + ",\n  ".join(ports) + f"\n);\n{wires}"
        f"  {top} core ({', '.join(links)});\n  always @(posedge clk) begin\n{keeps}  end\nendmodule\n"
    )
