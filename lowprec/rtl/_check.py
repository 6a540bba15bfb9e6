"""check: a mapped netlist against the emulation, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec.codec import decode
from lowprec.formats import FloatFormat, IntFormat
from lowprec.rtl import _icarus
from lowprec.rtl._bits import Array, code_dtype, port_arrays, signed
from lowprec.rtl._design import Design
from lowprec.rtl._request import flag, whole
from lowprec.rtl._simulate import run_netlist
from lowprec.rtl._synth import Synthesis, synth
from lowprec.rtl._vectors import integer_corners

_SHOWN = 5  # mismatches that a report keeps
_ALL = 1 << 17  # vectors up to which all of them are tried
_PAIR_BITS = 16  # of a and b together, up to which all pairs are tried
_ROUNDS = 2  # times that all pairs are tried, with other inputs beside them


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What `check` found.

    Parameters
    ----------
    design : Design
        What was checked.
    vectors : int
        How many inputs were tried.
    exhaustive : str
        ``"all inputs"``, ``"all pairs"`` of a and b, or ``""`` where vectors were drawn.
    mismatches : int
        On how many of them an output differed.
    examples : tuple of dict
        The first of these: the ports' codes in and out, with what was expected.
    simulator : str
        What computed the outputs.
    seconds : float
        How long it took, synthesis apart.

    Raises
    ------
    Nothing.
    """

    design: Design
    vectors: int
    exhaustive: str
    mismatches: int
    examples: tuple[dict[str, int], ...]
    simulator: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing differed."""
        return self.mismatches == 0

    def _decoded(self, port: str, code: int) -> str:
        """Print a code as its number where the port has a format, else as an integer."""
        fmt = self.design.formats.get(port.partition(" ")[0])
        if isinstance(fmt, FloatFormat):
            value = decode(np.array([code], fmt.code_dtype), fmt, dtype=np.float64)[0]
            return f"{value!s} ({code:#x})"
        if isinstance(fmt, IntFormat) and fmt.is_signed:
            return str(int(signed(np.array([code], code_dtype(fmt.bits)), fmt.bits)[0]))
        return str(code)

    def __str__(self) -> str:
        """Return the verdict, and the first mismatches decoded."""
        how = f", {self.exhaustive}" if self.exhaustive else ", drawn at corners"
        head = (
            f"{self.design.name}: {self.mismatches} mismatches in {self.vectors} vectors{how}; "
            f"{self.simulator} against the emulation, {self.seconds:.1f} s"
        )
        if not self.examples:
            return head
        columns = list(self.examples[0])
        rows = [[self._decoded(port, found[port]) for port in columns] for found in self.examples]
        return head + "\n" + tables.plain(tables.Table(columns, rows))


def _enumerated(design: Design, rng: np.random.Generator, vectors: int) -> tuple[dict[str, Array], str]:
    """Return the inputs to try: all of them, all pairs of a and b, or as many as asked for, drawn."""
    total = sum(design.inputs.values())
    if 1 << total <= max(_ALL, vectors):
        every = np.arange(1 << total, dtype=np.uint64)
        found, start = {}, 0
        for port, bits in design.inputs.items():
            found[port] = (every >> np.uint64(start)) & np.uint64((1 << bits) - 1)
            start += bits
        return _allowed(design, found), "all inputs"
    pair = design.inputs.get("a", 99) + design.inputs.get("b", 99)
    if pair <= _PAIR_BITS:
        rounds = max(_ROUNDS, -(-vectors >> pair))
        every = np.tile(np.arange(1 << pair, dtype=np.uint64), rounds)
        low = np.uint64(design.inputs["a"])
        given = {"a": every & ((np.uint64(1) << low) - np.uint64(1)), "b": every >> low}
        given = _allowed(design, given)
        return dict(_made(design, rng, given["a"].size, given)), "all pairs"
    return dict(_made(design, rng, vectors, {})), ""


def _made(design: Design, rng: np.random.Generator, count: int, given: Mapping[str, Array]) -> Mapping[str, Any]:
    """Draw inputs: by the design's own rule, else at the corners of each port's width."""
    if design.vectors is not None:
        return design.vectors(rng, count, given)
    return {port: given.get(port, _any(rng, bits, count)) for port, bits in design.inputs.items()}


def _any(rng: np.random.Generator, bits: int, count: int) -> Array:
    """Return codes of a port of any width: half of them corners."""
    size = -(-bits // 8)
    raw = rng.bytes(size * count)
    mask = (1 << bits) - 1
    random = [int.from_bytes(raw[i * size : (i + 1) * size], "little") & mask for i in range(count)]
    corners = integer_corners(bits)
    picks = rng.integers(0, 2 * len(corners), count)
    found = np.empty(count, object)
    found[:] = [corners[p] if p < len(corners) else r for p, r in zip(picks.tolist(), random, strict=True)]
    return found.astype(code_dtype(bits))


def _allowed(design: Design, inputs: dict[str, Array]) -> dict[str, Array]:
    """Leave out vectors with codes that the design does not take."""
    keep = np.ones(next(iter(inputs.values())).size, bool)
    for port, special in design.refused.items():
        if port in inputs:
            keep &= ~special(inputs[port])
    return {port: array[keep] for port, array in inputs.items()}


def check(
    design: Design,
    synthesis: Synthesis | None = None,
    *,
    vectors: int = 20_000,
    rng: int | np.random.Generator = 0,
    icarus: bool = False,
) -> CheckReport:
    """Compare the gates of a design with the emulation, bit for bit.

    All inputs are tried where there are at most 2**17 of them; else all pairs of `a` and `b` where these have 16 bits
    or fewer together, each with two or more values of the other inputs; else `vectors` inputs, drawn where such units
    go wrong: exponents at both ends, significands of all ones, sums that cancel, addends up to 30 binades off.

    Of a design with registers, inputs hold still for its `latency` clock edges and are then inverted before outputs
    are read: a register that lets its input through is seen.

    Parameters
    ----------
    design : Design
        What `emit` returned.
    synthesis : Synthesis, optional
        What `synth` made of it; made here if not given.
    vectors : int
        How many inputs are drawn at least, 1 to 10 million.
    rng : int or numpy.random.Generator
        Seed of the vectors.
    icarus : bool
        Whether the Verilog itself is simulated, by Icarus Verilog (`iverilog` and `vvp` on the path), instead of the
        netlist by NumPy; no synthesis then.

    Returns
    -------
    CheckReport
        How many vectors, how many mismatches (``.ok``: none), and the first of them.

    Raises
    ------
    ImportError
        If pyosys is needed and missing; the message names the extra `rtl`.
    FileNotFoundError
        If Icarus Verilog is asked for and not installed.
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the design has no model.
    TimeoutError
        If synthesis does not end.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.rtl.check(lp.rtl.emit("e4m3fn", accumulator="exact")).mismatches  # doctest: +SKIP
    0
    """
    if not isinstance(design, Design):
        msg = f"`design` must be a Design, got {type(design).__name__}; lp.rtl.emit(fmt) makes one."
        raise TypeError(msg)
    if synthesis is not None and not isinstance(synthesis, Synthesis):
        msg = f"`synthesis` must be what lp.rtl.synth returned, got {type(synthesis).__name__}."
        raise TypeError(msg)
    if synthesis is not None and (dict(synthesis.design.inputs), dict(synthesis.design.outputs)) != (
        dict(design.inputs),
        dict(design.outputs),
    ):
        msg = f"`synthesis` must be of {design.name}, got one of {synthesis.design.name}, whose ports differ."
        raise ValueError(msg)
    count = whole(vectors, "vectors", 1, 10_000_000)
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(whole(rng, "rng", 0, 2**64 - 1))
    native = flag(icarus, "icarus")
    if not native and synthesis is None:
        synthesis = synth(design)
    start = time.perf_counter()
    inputs, exhaustive = _enumerated(design, rng, count)
    inputs = _allowed(design, port_arrays(inputs, design.inputs, design.name))
    expected = design.expected(inputs)
    if native or synthesis is None:
        got, simulator = _icarus.run(design, inputs), "Icarus Verilog"
    else:
        edges = design.latency
        got = run_netlist(synthesis.netlist, inputs, edges, then_inverted=edges > 0)
        simulator = "the netlist in NumPy"
    wrong = np.zeros(next(iter(inputs.values())).size, bool)
    for port in design.outputs:
        wrong |= np.asarray(got[port] != expected[port], bool)
    examples = []
    for place in np.flatnonzero(wrong)[:_SHOWN]:
        found = {port: int(array[place]) for port, array in inputs.items()}
        for port in design.outputs:
            found |= {port: int(got[port][place]), f"{port} expected": int(expected[port][place])}
        examples.append(found)
    seconds = time.perf_counter() - start
    return CheckReport(design, wrong.size, exhaustive, int(wrong.sum()), tuple(examples), simulator, seconds)
