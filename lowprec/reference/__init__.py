"""The specification in code: exact integers and fractions, no NumPy, no Numba, slow, small.

Every kernel of the package is held against this package, which is written from the standards and from the words of
`lowprec.rounding`, `lowprec.formats` and `lowprec.accumulators`. It reads one number at a time and is meant to be read
itself.
"""

from lowprec.reference.integers import integer_dot, scaled
from lowprec.reference.models import accumulate
from lowprec.reference.numbers import decode, dot, encode, fma, matmul, philox4x32, random_word, round_to
from lowprec.reference.quantize import (
    Block,
    dequantize_block,
    half_code,
    nearest_code,
    quantize_block,
    scale_exponent,
    tensor_scale,
)
from lowprec.reference.sparse import expanded, kept_places, nibble_of, places_of, sparse_dot, sparse_matmul

__all__ = [
    "Block",
    "accumulate",
    "decode",
    "dequantize_block",
    "dot",
    "encode",
    "expanded",
    "fma",
    "half_code",
    "integer_dot",
    "kept_places",
    "matmul",
    "nearest_code",
    "nibble_of",
    "philox4x32",
    "places_of",
    "quantize_block",
    "random_word",
    "round_to",
    "scale_exponent",
    "scaled",
    "sparse_dot",
    "sparse_matmul",
    "tensor_scale",
]
