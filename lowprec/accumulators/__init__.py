"""What an accumulator is: frozen models of a sum of products, each with its parameters by name.

A model says how ``c + sum(a[k] * b[k])`` is evaluated: in which order, with which intermediate roundings, in which
format. Models hold no arrays and do no arithmetic; the kernels and, independently of them, `lowprec.reference` do.

References
----------
A short name in a docstring below stands for one of these.

MMA-Sim: Xu et al., MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and Matrix Cores, arXiv:2511.10909.
KM: Khattak, Mikaitis, Accurate Models of NVIDIA Tensor Cores, arXiv:2512.07004.
SDM: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
ARM: Arm Architecture Reference Manual for A-profile, shared pseudocode of BFDOT and BFMMLA.
"""

from lowprec.accumulators.amd import FlushedPairwise, FusedExact, FusedTruncatedLateC
from lowprec.accumulators.base import Accumulator, Hardware
from lowprec.accumulators.chunked import Chunked
from lowprec.accumulators.nvidia import Fp8ViaF16, FusedTruncated, FusedTruncatedGroupScaled, FusedTruncatedScaled
from lowprec.accumulators.sums import Exact, Integer, Pairwise, Sequential
from lowprec.accumulators.vectors import BfDotFused, BfDotRoundOdd, EvenOddPair, FmaPairOddFirst
from lowprec.accumulators.words import model

__all__ = [
    "Accumulator",
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
    "Hardware",
    "Integer",
    "Pairwise",
    "Sequential",
    "model",
]
