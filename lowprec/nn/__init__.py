"""How all products of a model are computed: one object that says it, and layers that obey it."""

from __future__ import annotations

from lowprec.nn._arithmetic import Arithmetic
from lowprec.nn._convolution import convolution, transposed_convolution, weight_gradient
from lowprec.nn._operands import PreparedWeight
from lowprec.nn._weights import WeightRule

__all__ = ["Arithmetic", "PreparedWeight", "WeightRule", "convolution", "transposed_convolution", "weight_gradient"]
