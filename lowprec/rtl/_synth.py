"""synth: from Verilog to gates, counted."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec._extras import require
from lowprec.rtl import _liberty, _worker
from lowprec.rtl._design import Design
from lowprec.rtl._netlist import Netlist, read_netlist

_FLOWS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"noalumacc": ("-noalumacc",), "default": ("",), "smaller": ("-noalumacc", "")}
)

_LONGEST = 7 * 24 * 3600  # seconds


@dataclass(frozen=True, eq=False)
class Synthesis:
    """What synthesis made of a design.

    Parameters
    ----------
    design : Design
        What was synthesised.
    netlist : Netlist
        The mapped netlist.
    flow : str
        Options of yosys' `synth` that gave it.
    seconds : float
        Wall-clock time of the tool.
    version : str
        Of pyosys.
    warnings : tuple of str
        What the tool warned of.

    Raises
    ------
    Nothing.
    """

    design: Design
    netlist: Netlist = field(repr=False)
    flow: str
    seconds: float
    version: str
    warnings: tuple[str, ...] = ()

    @property
    def ge(self) -> float:
        """Gate equivalents (areas of a two-input NAND), flip-flops included."""
        return _liberty.area(self.netlist.counts)

    @property
    def register_ge(self) -> float:
        """Gate equivalents of the flip-flops alone."""
        return _liberty.FLIP_FLOP_AREA * self.netlist.counts.get(_liberty.FLIP_FLOP, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Cells by name."""
        return self.netlist.counts

    @property
    def cells(self) -> int:
        """How many cells in all."""
        return len(self.netlist.cells)

    def _table(self) -> tables.Table:
        rows = []
        for name, count in self.counts.items():
            rows.append([name, str(count), f"{_liberty.area({name: count}):.1f}"])
        rows.append(["all", str(self.cells), f"{self.ge:.1f}"])
        note = f"pyosys {self.version}, synth {self.flow or '(default)'}, {self.seconds:.1f} s; area only, no wires."
        return tables.Table(["<cell", "count", "GE"], rows, self.design.name, [note])

    def __str__(self) -> str:
        """Return the table as plain text."""
        return tables.plain(self._table())

    def __rich__(self) -> Any:
        """Return the table for rich."""
        return tables.rich_table(self._table())

    def _repr_html_(self) -> str:
        return tables.to_html(self._table())

    def show(self) -> None:
        """Print the cells, by rich where that is installed.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        tables.show(self._table())


def _seconds(timeout: Any) -> float:
    """Check a timeout."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float, np.integer, np.floating)):
        msg = f"`timeout` must be a number of seconds, got {timeout!r} of type {type(timeout).__name__}."
        raise TypeError(msg)
    timeout = timeout.item() if isinstance(timeout, np.generic) else timeout
    if not 0 < timeout <= _LONGEST:  # NaN is not
        msg = f"`timeout` must be a positive number of seconds, at most {_LONGEST} (a week), got {timeout}."
        raise ValueError(msg)
    return float(timeout)


def _run(command: list[str], timeout: float) -> tuple[int, str] | None:
    """Run a program in a process group of its own; return its status and words, or None after killing the group."""
    process = subprocess.Popen(  # no shell; its own session, so that ABC dies with it
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, said.decode(errors="replace")


def _once(design: Design, options: str, timeout: float) -> Synthesis:
    """Run the flow once."""
    with tempfile.TemporaryDirectory(prefix="lowprec-rtl-") as folder:
        at = Path(folder)
        (at / "design.v").write_text(design.verilog, encoding="utf-8")
        (at / "gates.lib").write_text(_liberty.liberty(), encoding="utf-8")
        start = time.monotonic()
        ended = _run([sys.executable, "-P", str(_worker.__file__), folder, design.top, options], timeout)
        seconds = time.monotonic() - start
        if ended is None:
            other = "" if "-noalumacc" in options else ', or flow="noalumacc"'
            msg = f"synthesis of {design.name} did not end within {timeout:g} s and was killed; "
            msg += f"give a longer `timeout`{other}."
            raise TimeoutError(msg)
        status, said = ended
        if status or not (at / "netlist.json").exists():
            errors = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-3:]
            words = " ".join(errors).replace(f"{folder}/", "") or f"status {status}"
            msg = f"`verilog` of {design.name} must be Verilog that yosys can synthesise, got: {words}"
            raise ValueError(msg)
        data = json.loads((at / "netlist.json").read_text(encoding="utf-8"))
    warnings = re.findall(r"^Warning: (.*)$", said, re.MULTILINE)
    netlist = read_netlist(data, design.top)
    for name in ("inputs", "outputs"):
        want, got = getattr(design, name), {port: len(nets) for port, nets in getattr(netlist, name).items()}
        if dict(want) != got:
            msg = f"`{name}` must be the ports of module {design.top}, which has {got}, got {dict(want)}."
            raise ValueError(msg)
    version = importlib.metadata.version("pyosys")
    return Synthesis(design, netlist, options, seconds, version, tuple(dict.fromkeys(warnings)))


def synth(design: Design, *, timeout: float = 120, flow: str = "noalumacc", booth: bool = False) -> Synthesis:
    """Synthesise a design to gates, and count them.

    Yosys elaborates and optimises the Verilog, ABC maps it for area to seventeen gates and a flip-flop (`liberty`).
    No timing, no wires, no clock tree: absolute areas of a chip differ by a factor of two either way. It runs in a
    process of its own.

    Parameters
    ----------
    design : Design
        What `emit` returned.
    timeout : float
        Seconds after which the tool is killed; for each of the two runs of ``flow="smaller"``.
    flow : {"noalumacc", "default", "smaller"}
        "noalumacc" keeps yosys from merging products with sums, which makes multiply-accumulate units larger;
        "default" lets it; "smaller" does both and keeps the smaller.
    booth : bool
        Whether yosys maps products to Booth-encoded multipliers.

    Returns
    -------
    Synthesis
        Gate equivalents (``.ge``), cells, the netlist.

    Raises
    ------
    ImportError
        If pyosys is missing; the message names the extra `rtl`.
    TypeError, ValueError
        If an argument is of the wrong kind, unknown or out of range, or the Verilog cannot be synthesised.
    TimeoutError
        If it does not end in time.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.rtl.synth(lp.rtl.emit("int4", unit="multiplier", kind="array"))  # doctest: +SKIP
    """
    if not isinstance(design, Design):
        msg = f"`design` must be a Design, got {type(design).__name__}; lp.rtl.emit(fmt) makes one."
        raise TypeError(msg)
    seconds = _seconds(timeout)
    if not isinstance(flow, str):
        msg = f"`flow` must be one of {', '.join(_FLOWS)}, got {flow!r}."
        raise TypeError(msg)
    if flow not in _FLOWS:
        msg = f"`flow` must be one of {', '.join(_FLOWS)}, got {flow!r}."
        raise ValueError(msg)
    require("pyosys", "synthesis", "rtl")
    runs = [_once(design, f"{options} -booth".strip() if booth else options, seconds) for options in _FLOWS[flow]]
    return min(runs, key=lambda run: run.ge)
