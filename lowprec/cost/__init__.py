"""What a choice of format, accumulator and sparsity costs: gates, bits, cycles and energy.

Every figure carries its unit, how it was come by, its source and its range (`Figure`).
"""

from lowprec.cost._area import area
from lowprec.cost._candidates import Candidate
from lowprec.cost._cast import cast
from lowprec.cost._cells import Part
from lowprec.cost._dot import dot
from lowprec.cost._energy import Energy, energy, memory_energy
from lowprec.cost._figure import Figure
from lowprec.cost._mac import mac
from lowprec.cost._machines import Machine, machine, machines, this_machine
from lowprec.cost._multiplier import multiplier
from lowprec.cost._operands import MatmulTraffic, matmul_traffic
from lowprec.cost._pareto import pareto
from lowprec.cost._pareto_result import ParetoResult
from lowprec.cost._result import Cost
from lowprec.cost._roofline import Roofline, roofline
from lowprec.cost._systolic import SystolicArray, SystolicRun, systolic
from lowprec.cost._tables import cite, table, tables
from lowprec.cost._traffic import Traffic, traffic
from lowprec.cost._width import accumulator_bits

__all__ = [
    "Candidate",
    "Cost",
    "Energy",
    "Figure",
    "Machine",
    "MatmulTraffic",
    "ParetoResult",
    "Part",
    "Roofline",
    "SystolicArray",
    "SystolicRun",
    "Traffic",
    "accumulator_bits",
    "area",
    "cast",
    "cite",
    "dot",
    "energy",
    "mac",
    "machine",
    "machines",
    "matmul_traffic",
    "memory_energy",
    "multiplier",
    "pareto",
    "roofline",
    "systolic",
    "table",
    "tables",
    "this_machine",
    "traffic",
]
