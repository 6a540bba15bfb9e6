"""Low-precision arithmetic, right to the last bit."""

from lowprec._threads import get_num_threads, set_num_threads
from lowprec.codec import cast, decode, encode, pack, round_to, unpack
from lowprec.formats import FloatFormat, IntFormat, format, formats
from lowprec.matmul import linear, matmul, vecdot
from lowprec.rounding import Overflow, Rounding, Subnormals

__version__ = "0.1.0"

__all__ = [
    "FloatFormat",
    "IntFormat",
    "Overflow",
    "Rounding",
    "Subnormals",
    "__version__",
    "cast",
    "decode",
    "encode",
    "format",
    "formats",
    "get_num_threads",
    "linear",
    "matmul",
    "pack",
    "round_to",
    "set_num_threads",
    "unpack",
    "vecdot",
]
