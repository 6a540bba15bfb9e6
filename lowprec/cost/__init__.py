"""What a choice of format, accumulator and sparsity costs: gates, bits, cycles and energy.

Every figure carries its unit, how it was come by, its source and its range (`Figure`).
"""

from lowprec.cost._figure import Figure
from lowprec.cost._result import Cost, Part

__all__ = ["Cost", "Figure", "Part"]
