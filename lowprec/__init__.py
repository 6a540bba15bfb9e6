"""Low-precision arithmetic, right to the last bit."""

from lowprec.formats import FloatFormat, IntFormat, format, formats
from lowprec.rounding import Overflow, Rounding, Subnormals

__version__ = "0.1.0"

__all__ = ["FloatFormat", "IntFormat", "Overflow", "Rounding", "Subnormals", "__version__", "format", "formats"]
