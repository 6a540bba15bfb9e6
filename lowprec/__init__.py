"""Low-precision arithmetic, right to the last bit: formats, rounding, and products with a sum that is written down."""

import typing

from lowprec._threads import get_num_threads, set_num_threads
from lowprec.codebooks import CodebookFormat
from lowprec.codec import cast, decode, encode, pack, round_to, unpack
from lowprec.formats import FloatFormat, IntFormat, format, formats
from lowprec.matmul import linear, matmul, vecdot
from lowprec.rounding import Overflow, Rounding, Subnormals

if typing.TYPE_CHECKING:
    from lowprec._patterns import SparsityPattern
    from lowprec._probe import probe
    from lowprec._requantize import FixedPoint, quantize_multiplier, requantize
    from lowprec.accumulators import (
        BfDotFused,
        BfDotRoundOdd,
        Chunked,
        EvenOddPair,
        Exact,
        FlushedPairwise,
        FmaPairOddFirst,
        Fp8ViaF16,
        FusedExact,
        FusedTruncated,
        FusedTruncatedGroupScaled,
        FusedTruncatedLateC,
        FusedTruncatedScaled,
        Integer,
        Pairwise,
        Sequential,
    )
    from lowprec.arrays import QuantizedArray
    from lowprec.blocks import BlockFormat, block_format, block_formats
    from lowprec.calibration import MSE, AbsMax, Entropy, MinMax, MovingAverage, Percentile
    from lowprec.compare import compare_accumulators
    from lowprec.conv import conv2d
    from lowprec.files import load, save
    from lowprec.hardware import ApproximationWarning, Instruction, Preset, preset, presets
    from lowprec.pruning.api import sparsify, sparsity_mask
    from lowprec.pruning.permutation import ChannelPermutation, search_permutation
    from lowprec.pruning.report import SparsityReport, sparsity_report
    from lowprec.quantizers.api import quantize
    from lowprec.quantizers.codebook import learn_codebook
    from lowprec.quantizers.ggml import from_ggml_bytes, ggml_bytes
    from lowprec.runtimes import qconv2d, qlinear
    from lowprec.sparse_arrays import Sparse24
    from lowprec.study import study

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in the order of `sorted`
    "AbsMax",
    "ApproximationWarning",
    "BfDotFused",
    "BfDotRoundOdd",
    "BlockFormat",
    "ChannelPermutation",
    "Chunked",
    "CodebookFormat",
    "Entropy",
    "EvenOddPair",
    "Exact",
    "FixedPoint",
    "FloatFormat",
    "FlushedPairwise",
    "FmaPairOddFirst",
    "Fp8ViaF16",
    "FusedExact",
    "FusedTruncated",
    "FusedTruncatedGroupScaled",
    "FusedTruncatedLateC",
    "FusedTruncatedScaled",
    "Instruction",
    "IntFormat",
    "Integer",
    "MSE",
    "MinMax",
    "MovingAverage",
    "Overflow",
    "Pairwise",
    "Percentile",
    "Preset",
    "QuantizedArray",
    "Rounding",
    "Sequential",
    "Sparse24",
    "SparsityPattern",
    "SparsityReport",
    "Subnormals",
    "__version__",
    "block_format",
    "block_formats",
    "cast",
    "compare_accumulators",
    "conv2d",
    "decode",
    "encode",
    "format",
    "formats",
    "from_ggml_bytes",
    "get_num_threads",
    "ggml_bytes",
    "learn_codebook",
    "linear",
    "load",
    "matmul",
    "pack",
    "preset",
    "presets",
    "probe",
    "qconv2d",
    "qlinear",
    "quantize",
    "quantize_multiplier",
    "requantize",
    "round_to",
    "save",
    "search_permutation",
    "set_num_threads",
    "sparsify",
    "sparsity_mask",
    "sparsity_report",
    "study",
    "unpack",
    "vecdot",
]


# What many programs do not use is imported when it is first asked for.
_MODELS = (
    "BfDotFused",
    "BfDotRoundOdd",
    "Chunked",
    "EvenOddPair",
    "Exact",
    "FlushedPairwise",
    "FmaPairOddFirst",
    "Fp8ViaF16",
    "FusedExact",
    "FusedTruncated",
    "FusedTruncatedGroupScaled",
    "FusedTruncatedLateC",
    "FusedTruncatedScaled",
    "Integer",
    "Pairwise",
    "Sequential",
)
_HARDWARE = ("ApproximationWarning", "Instruction", "Preset", "preset", "presets")
_OBSERVERS = ("AbsMax", "Entropy", "MSE", "MinMax", "MovingAverage", "Percentile")
_LATER = {
    "QuantizedArray": "lowprec.arrays",
    "Sparse24": "lowprec.sparse_arrays",
    "SparsityPattern": "lowprec._patterns",
    **dict.fromkeys(("load", "save"), "lowprec.files"),
    **dict.fromkeys(("from_ggml_bytes", "ggml_bytes"), "lowprec.quantizers.ggml"),
    **dict.fromkeys(("BlockFormat", "block_format", "block_formats"), "lowprec.blocks"),
    "learn_codebook": "lowprec.quantizers.codebook",
    **dict.fromkeys(_OBSERVERS, "lowprec.calibration"),
    "compare_accumulators": "lowprec.compare",
    "conv2d": "lowprec.conv",
    "probe": "lowprec._probe",
    "quantize": "lowprec.quantizers.api",
    **dict.fromkeys(("sparsify", "sparsity_mask"), "lowprec.pruning.api"),
    **dict.fromkeys(("ChannelPermutation", "search_permutation"), "lowprec.pruning.permutation"),
    **dict.fromkeys(("SparsityReport", "sparsity_report"), "lowprec.pruning.report"),
    **dict.fromkeys(("FixedPoint", "quantize_multiplier", "requantize"), "lowprec._requantize"),
    **dict.fromkeys(("qconv2d", "qlinear"), "lowprec.runtimes"),
    **dict.fromkeys(_MODELS, "lowprec.accumulators"),
    **dict.fromkeys(_HARDWARE, "lowprec.hardware"),
}


def __getattr__(name: str) -> object:
    """Import a module of the package when it is first asked for; `lowprec.study` is also called like a function."""
    if name in _LATER:
        from importlib import import_module

        globals()[name] = getattr(import_module(_LATER[name]), name)
        return globals()[name]
    if name in {"cost", "nn", "quantizers", "reference", "rtl", "runtimes", "study", "systolic", "testing", "torch"}:
        from importlib import import_module

        return import_module(f"lowprec.{name}")
    msg = f"module 'lowprec' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """Name the public names, loaded or not."""
    return sorted({*globals(), *__all__})
