"""A mapped netlist: gates by level, ready to be evaluated on words of 64 vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lowprec.rtl._liberty import FLIP_FLOP, GATES

Index = npt.NDArray[np.intp]


class Cell(NamedTuple):
    """One cell: its kind, the nets at its inputs in the order of the library's pins, and the net it drives."""

    kind: str
    inputs: tuple[int, ...]
    output: int


class Step(NamedTuple):
    """All gates of one kind on one level: nets in, one array per pin, and nets out."""

    kind: str
    inputs: tuple[Index, ...]
    outputs: Index


@dataclass(frozen=True, eq=False)
class Netlist:
    """Gates and flip-flops between ports.

    Parameters
    ----------
    name : str
        Of the top module.
    inputs, outputs : mapping of str to tuple of int
        The nets of each port, the lowest bit first; the clock is left out. Net 0 is constant 0 and net 1 constant 1.
    cells : tuple of Cell
        Gates and flip-flops, those of a flip-flop with its D alone.
    nets : int
        How many nets there are.

    Raises
    ------
    ValueError
        If gates form a loop, two drive one net, or one that is read is driven by nothing.
    """

    name: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    cells: tuple[Cell, ...]
    nets: int

    @property
    def counts(self) -> dict[str, int]:
        """Cells by kind."""
        return dict(sorted(Counter(cell.kind for cell in self.cells).items()))

    def flip_flops(self) -> tuple[Index, Index]:
        """Return the nets at the inputs and at the outputs of all flip-flops."""
        pairs = [(cell.inputs[0], cell.output) for cell in self.cells if cell.kind == FLIP_FLOP]
        array = np.array(pairs, np.intp).reshape(-1, 2)
        return array[:, 0], array[:, 1]

    def steps(self) -> list[Step]:
        """Return the gates level by level: each reads only what earlier steps, ports and flip-flops drive."""
        level = np.full(self.nets, -1, np.int64)
        level[[0, 1]] = 0
        for nets in self.inputs.values():
            level[list(nets)] = 0
        level[self.flip_flops()[1]] = 0
        gates = [cell for cell in self.cells if cell.kind != FLIP_FLOP]
        driver: dict[int, Cell] = {}
        for cell in self.cells:
            if cell.output in driver or (cell.kind != FLIP_FLOP and level[cell.output] == 0):
                msg = f"`netlist` must have one driver for each net, got two for net {cell.output} of {self.name}."
                raise ValueError(msg)
            driver[cell.output] = cell
        readers: dict[int, list[int]] = {}
        waiting = np.zeros(len(gates), np.int64)
        for place, cell in enumerate(gates):
            for net in cell.inputs:
                if level[net] < 0:
                    readers.setdefault(net, []).append(place)
                    waiting[place] += 1
        ready = [place for place in range(len(gates)) if waiting[place] == 0]
        order: list[int] = []
        for place in ready:  # grows while it runs
            order.append(place)
            cell = gates[place]
            level[cell.output] = 1 + max(level[net] for net in cell.inputs)
            for reader in readers.get(cell.output, ()):
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    ready.append(reader)
        if len(order) < len(gates):
            stuck = next(cell for place, cell in enumerate(gates) if waiting[place])
            net = next(net for net in stuck.inputs if level[net] < 0)
            why = "form no loop" if net in driver else "read driven nets only"
            msg = f"`netlist` must {why}, got a {stuck.kind} of {self.name} that waits for net {net}."
            raise ValueError(msg)
        groups: dict[tuple[int, str], list[Cell]] = {}
        for place in order:
            groups.setdefault((int(level[gates[place].output]), gates[place].kind), []).append(gates[place])
        steps = []
        for (_, kind), cells in sorted(groups.items(), key=lambda item: item[0]):
            pins = np.array([cell.inputs for cell in cells], np.intp).T
            steps.append(Step(kind, tuple(pins), np.array([cell.output for cell in cells], np.intp)))
        return steps


def read_netlist(data: Mapping[str, Any], top: str) -> Netlist:
    """Make a netlist of what yosys' `write_json` wrote.

    Parameters
    ----------
    data : mapping
        The parsed JSON.
    top : str
        Name of the top module.

    Returns
    -------
    Netlist
        Its cells, nets numbered as there.

    Raises
    ------
    ValueError
        If it holds a cell that the library does not have, or an output bit that nothing defines.
    """
    module = data["modules"][top]
    highest = 1

    def net(bit: int | str, where: str) -> int:
        nonlocal highest
        if isinstance(bit, str):
            if bit not in "01":
                msg = (
                    f"`verilog` must define every bit, got an undefined one at {where} of {top}: a slice out of range?"
                )
                raise ValueError(msg)
            return int(bit)
        highest = max(highest, bit)
        return bit

    inputs: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    for name, port in module["ports"].items():
        nets = tuple(net(bit, f"{name}[{place}]") for place, bit in enumerate(port["bits"]))
        if name != "clk":
            (inputs if port["direction"] == "input" else outputs)[name] = nets
    cells = []
    for name, cell in module["cells"].items():
        kind = cell["type"]
        if kind in {"$scopeinfo"}:
            continue
        if kind != FLIP_FLOP and kind not in GATES:
            msg = f"`verilog` must map to the library's gates, got a {kind} in {top}; latches and memories do not."
            raise ValueError(msg)
        pins = ("D",) if kind == FLIP_FLOP else GATES[kind].pins
        ends = cell["connections"]
        output = ends["Q" if kind == FLIP_FLOP else "Y"][0]
        cells.append(Cell(kind, tuple(net(ends[pin][0], f"pin {pin} of {name}") for pin in pins), net(output, name)))
    return Netlist(top, inputs, outputs, tuple(cells), highest + 1)
