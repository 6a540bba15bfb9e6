"""Gates that prove it: Verilog of the units whose sums the package emulates, synthesised and compared bit by bit.

Synthesis needs the extra `rtl`: ``pip install "lowprec[rtl]"``.
"""

from lowprec.rtl._bits import join, split
from lowprec.rtl._check import CheckReport, check
from lowprec.rtl._design import Design
from lowprec.rtl._emit import emit
from lowprec.rtl._liberty import liberty
from lowprec.rtl._mutants import mutants
from lowprec.rtl._netlist import Netlist
from lowprec.rtl._simulate import simulate
from lowprec.rtl._stored import Stored, stored
from lowprec.rtl._synth import Synthesis, synth

__all__ = [
    "CheckReport",
    "Design",
    "Netlist",
    "Stored",
    "Synthesis",
    "check",
    "emit",
    "join",
    "liberty",
    "mutants",
    "simulate",
    "split",
    "stored",
    "synth",
]
