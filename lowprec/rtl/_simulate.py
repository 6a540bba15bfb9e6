"""simulate: a mapped netlist on many vectors at once, 64 to a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lowprec.rtl._bits import Array, from_words, port_arrays, to_words
from lowprec.rtl._liberty import GATES
from lowprec.rtl._netlist import Netlist, Step
from lowprec.rtl._synth import Synthesis

_BYTES = 1 << 25  # of one block of vectors


def _evaluate(values: npt.NDArray[np.uint64], steps: list[Step]) -> None:
    """Compute every gate's net from its inputs."""
    for step in steps:
        values[step.outputs] = GATES[step.kind].evaluate(*(values[pin] for pin in step.inputs))


def run_netlist(
    netlist: Netlist, inputs: Mapping[str, Array], edges: int, *, then_inverted: bool = False
) -> dict[str, Array]:
    """Return the outputs of a netlist after some clock edges; inputs are checked and hold still.

    With `then_inverted` all inputs are inverted after the last edge, before outputs are read: registers do not see it.
    """
    steps, (data, state) = netlist.steps(), netlist.flip_flops()
    count = next(iter(inputs.values())).size
    block = max(64, _BYTES // (8 * netlist.nets) * 64)
    parts: dict[str, list[Array]] = {port: [] for port in netlist.outputs}
    for start in range(0, max(count, 1), block):
        here = {port: array[start : start + block] for port, array in inputs.items()}
        size = min(block, count - start)
        values = np.zeros((netlist.nets, -(-size // 64)), np.uint64)
        values[1] = np.uint64(2**64 - 1)
        for port, nets in netlist.inputs.items():
            values[list(nets)] = to_words(here[port], len(nets))
        _evaluate(values, steps)
        for _ in range(edges):
            values[state] = values[data]
            _evaluate(values, steps)
        if then_inverted:
            for nets in netlist.inputs.values():
                values[list(nets)] = ~values[list(nets)]
            _evaluate(values, steps)
        for port, nets in netlist.outputs.items():
            parts[port].append(from_words(values[list(nets)], size))
    return {port: np.concatenate(found) for port, found in parts.items()}


def simulate(synthesis: Synthesis, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a mapped netlist, gate by gate, on many vectors.

    Parameters
    ----------
    synthesis : Synthesis
        What `synth` returned.
    inputs : mapping of str to array_like
        Unsigned codes of each input port, one element per vector; Python integers where a port is wider than 64 bits.
        They hold still while the design's `latency` clock edges pass; flip-flops start at 0.

    Returns
    -------
    dict of str to ndarray
        Unsigned codes of each output port: uint64, or Python integers beyond 64 bits.

    Raises
    ------
    TypeError
        If codes are not integers.
    ValueError
        If a port is missing or unknown, or a code does not fit on its port.

    Examples
    --------
    >>> import lowprec as lp
    >>> mapped = lp.rtl.synth(lp.rtl.emit("int8"))  # doctest: +SKIP
    >>> lp.rtl.simulate(mapped, {"a": [3], "b": [5], "c": [7]})  # doctest: +SKIP
    {'y': array([22], dtype=uint64)}
    """
    if not isinstance(synthesis, Synthesis):
        msg = f"`synthesis` must be what lp.rtl.synth returned, got {type(synthesis).__name__}."
        raise TypeError(msg)
    design = synthesis.design
    return run_netlist(synthesis.netlist, port_arrays(inputs, design.inputs, design.name), design.latency)
