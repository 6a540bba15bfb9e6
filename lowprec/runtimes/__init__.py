"""The integer layers, quantisers and operators of deployed runtimes, bit by bit."""

from lowprec.runtimes._convert import dequantize_linear, dynamic_quantize_linear, quantize, quantize_linear
from lowprec.runtimes._layers import qconv2d, qlinear
from lowprec.runtimes._products import conv_integer, matmul_integer
from lowprec.runtimes._table import Rule, Runtime, describe, runtime, table

__all__ = [
    "Rule",
    "Runtime",
    "conv_integer",
    "dequantize_linear",
    "describe",
    "dynamic_quantize_linear",
    "matmul_integer",
    "qconv2d",
    "qlinear",
    "quantize",
    "quantize_linear",
    "runtime",
    "table",
]
