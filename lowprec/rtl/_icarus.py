"""The Verilog itself, simulated by Icarus Verilog where that is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lowprec.rtl._bits import Array, code_dtype
from lowprec.rtl._design import Design

_TIMEOUT = 300.0


def bench(design: Design, count: int) -> str:
    """Return a test bench that reads hexadecimal inputs from `in.hex` and prints hexadecimal outputs."""
    width, links, at = sum(design.inputs.values()), [], 0
    for port, bits in design.inputs.items():
        links.append(f".{port}(vector[{at + bits - 1}:{at}])")
        at += bits
    total, at = sum(design.outputs.values()), 0
    for port, bits in design.outputs.items():
        links.append(f".{port}(result[{at + bits - 1}:{at}])")
        at += bits
    clock = [".clk(clk)"] if design.latency else []
    after = "vector = ~vector; #1;  // registers do not see it" if design.latency else ""
    return f"""\
`timescale 1ns/1ns
module bench;
  reg clk;
  reg [{width - 1}:0] vectors [0:{count - 1}];
  reg [{width - 1}:0] vector;
  wire [{total - 1}:0] result;
  integer i, edge_count;
  {design.top} unit ({", ".join(clock + links)});
  initial begin
    clk = 0;
    $readmemh("in.hex", vectors);
    for (i = 0; i < {count}; i = i + 1) begin
      vector = vectors[i];
      #1;
      for (edge_count = 0; edge_count < {design.latency}; edge_count = edge_count + 1) begin
        clk = 1; #1; clk = 0; #1;
      end
      {after}
      $display("%h", result);
    end
  end
endmodule
"""


def run(design: Design, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of the Verilog, by Icarus Verilog; inputs are checked."""
    tools = [shutil.which(tool) for tool in ("iverilog", "vvp")]
    if None in tools:
        msg = (
            "`icarus` must be False without Icarus Verilog, got True: iverilog and vvp are not on the path; install "
            "your system's package iverilog, or let NumPy simulate the netlist."
        )
        raise FileNotFoundError(msg)
    count = next(iter(inputs.values())).size
    with tempfile.TemporaryDirectory(prefix="lowprec-rtl-") as folder:
        at = Path(folder)
        lines = []
        for row in zip(*(inputs[port].tolist() for port in design.inputs), strict=True):
            word, place = 0, 0
            for code, bits in zip(row, design.inputs.values(), strict=True):
                word |= code << place
                place += bits
            lines.append(f"{word:x}")
        (at / "in.hex").write_text("\n".join(lines) + "\n", encoding="ascii")
        (at / "unit.v").write_text(design.verilog, encoding="utf-8")
        (at / "bench.v").write_text(bench(design, count), encoding="utf-8")
        _call([str(tools[0]), "-g2005", "-s", "bench", "-o", "unit.vvp", "unit.v", "bench.v"], at, design.name)
        words = _call([str(tools[1]), "-n", "unit.vvp"], at, design.name).split()
    if len(words) != count or any(set(word) & set("xzXZ") for word in words):
        msg = f"`verilog` of {design.name} must define every output, got undefined bits or {len(words)} results."
        raise ValueError(msg)
    found, place = {}, 0
    for port, bits in design.outputs.items():
        codes = [int(word, 16) >> place & ((1 << bits) - 1) for word in words]
        found[port] = np.array(codes, code_dtype(bits))
        place += bits
    return found


def _call(command: list[str], folder: Path, name: str) -> str:
    """Run a tool in a folder and return what it printed."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        msg = f"Icarus Verilog did not end within {_TIMEOUT:g} s on {name} and was killed; try fewer `vectors`."
        raise TimeoutError(msg) from None
    if done.returncode:
        msg = (
            f"`verilog` of {name} must be Verilog that Icarus takes, got: {done.stderr.strip() or done.stdout.strip()}"
        )
        raise ValueError(msg)
    return done.stdout
