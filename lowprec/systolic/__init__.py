"""Systolic arrays, register by register: ``lp.systolic.simulate(a, b, rows=4, cols=4)``.

What such an array costs, in closed form and for any size: `lowprec.cost.systolic`.
"""

from lowprec.systolic._result import SystolicResult
from lowprec.systolic._simulate import simulate
from lowprec.systolic._trace import Held, Moment, Trace

__all__ = ["Held", "Moment", "SystolicResult", "Trace", "simulate"]
