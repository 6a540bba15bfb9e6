"""Run as a program, in a process of its own that can be killed: read Verilog, map it, write the netlist as JSON.

It imports nothing of the package, so that starting it is quick. Arguments: the folder to work in, which holds
`design.v` and `gates.lib`; the top module; the options of yosys' `synth`. The mapped netlist goes to `netlist.json`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

# Written for the least area: structural hashing, redundancy removal, rewriting twice, choices, then area mapping.
SCRIPT = "+strash;ifraig;scorr;dc2;dc2;dch;amap"


def main(folder: str, top: str, options: str) -> None:
    """Synthesise one design."""
    yosys: Any = importlib.import_module("pyosys.libyosys")
    at = Path(folder)
    design = yosys.Design()
    for command in (
        f"read_verilog {at / 'design.v'}",
        f"hierarchy -check -top {top}",
        # ABC sees the netlist once, with the library: a first run with its own gates would fix a structure.
        f"synth -flatten -noabc -top {top} {options}",
        "opt",
        f"dfflibmap -liberty {at / 'gates.lib'}",
        f"abc -liberty {at / 'gates.lib'} -script {SCRIPT}",
        "opt_clean -purge",
        f"write_json {at / 'netlist.json'}",
    ):
        yosys.run_pass(command, design)


if __name__ == "__main__":
    main(*sys.argv[1:])
