"""Hand-worked points of every accumulator: small sums whose right code follows from the words of the model by hand.

Each point says what it shows. `wrong_points` runs them through any implementation that takes the arguments of
`lowprec.reference.accumulate`, so that planted bugs, and other implementations, can be held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lowprec import accumulators as acc
from lowprec import reference

INF = float("inf")
NVIDIA_NAN, ARM_NAN, X86_NAN = 0x7FFFFFFF, 0x7FC00000, 0xFFC00000
AMPERE, HOPPER = acc.FusedTruncated(8, 24, exponent_floor=-132), acc.FusedTruncated(16, 25)
HOPPER_F16 = acc.FusedTruncated(16, 25, "float16", "rne")
HOPPER_FP8 = acc.FusedTruncated(32, 13, rounding="rz13")
VOLTA_C16 = acc.FusedTruncated(4, 23, exponent_floor=-131, c_format="float16")
MX, MXFP4 = acc.FusedTruncatedScaled(), acc.FusedTruncatedGroupScaled()
NVFP4 = acc.FusedTruncatedGroupScaled(scale_block=16, scale_format="e4m3fn")
CDNA1, CDNA2, CDNA3 = acc.FusedExact(4), acc.FlushedPairwise(4), acc.FusedTruncatedLateC(8)
CDNA3_FP8 = acc.FusedTruncatedLateC(16, even_odd=True)
ZEN5, AMX = acc.FmaPairOddFirst(), acc.EvenOddPair()
ARM, EBF16 = acc.BfDotRoundOdd(), acc.BfDotFused()
HMMA, HMMA_F16 = acc.Fp8ViaF16(), acc.Fp8ViaF16("float16")


class Code(int):
    """A code, where a point needs bits that a value does not tell."""


class Point(NamedTuple):
    """One sum: values (or `Code`) in, a value (or `Code`) out."""

    shows: str
    model: acc.Accumulator
    fmt: str
    a: Sequence[float]
    b: Sequence[float]
    c: float | None
    want: float
    scales: tuple[Sequence[int], Sequence[int]] | None = None


def p2(*exponents: int) -> list[float]:
    """Return powers of two."""
    return [2.0**e for e in exponents]


ONE = Code(0x3F800000)
BELOW_ONE = Code(0x3F7FFFFF)

POINTS = [
    # ---------------------------------------------------------------------------------------- A6, FusedTruncated
    Point("25 alignment bits see 2^-25 beside 1", HOPPER, "bf16", [1, 2.0**-12, -1], [1, 2.0**-13, 1], None, 2.0**-25),
    Point("25 alignment bits do not see 2^-26", HOPPER, "bf16", [1, 2.0**-13, -1], [1, 2.0**-13, 1], None, 0.0),
    Point("24 alignment bits do not see 2^-25", AMPERE, "bf16", [1, 2.0**-12, -1], [1, 2.0**-13, 1], None, 0.0),
    Point("24 alignment bits see 2^-24", AMPERE, "bf16", [1, 2.0**-12, -1], [1, 2.0**-12, 1], None, 2.0**-24),
    Point("truncation, not floor", HOPPER, "bf16", [1, -(2.0**-13), -1], [1, 2.0**-13, 1], None, 0.0),
    Point("c is inside the aligned sum", HOPPER, "bf16", [1, 2.0**-12], [1, 2.0**-12], -1.0, 2.0**-24),
    Point("c aligns the products", HOPPER, "bf16", p2(-13, -13), p2(-13, -13), 1.0, ONE),
    Point("1.5 * 1.5 has exponent 0, not 1", HOPPER, "bf16", [1.5, 1.5, 2**-12], [1.5, -1.5, 2**-13], None, 2.0**-25),
    Point(
        "a subnormal is not normalised", HOPPER, "fp16", [2.0**-24, 2.0**-13], [1, 2.0**-13], None, 2.0**-24 + 2.0**-26
    ),
    Point(
        "the exponent -14 of a subnormal hides 2^-40",
        HOPPER,
        "fp16",
        [2.0**-24, 2.0**-20, -(2.0**-24)],
        [1, 2.0**-20, 1],
        None,
        0.0,
    ),
    Point(
        "a block of 8", AMPERE, "bf16", [1, 2.0**-12, 0, 0, 2.0**-12], [1, 2.0**-12, 0, 0, 2.0**-12], None, 1 + 2.0**-23
    ),
    Point("not of 16", AMPERE, "bf16", [1, 2.0**-12] + [0] * 6 + p2(-12), [1, 2.0**-12] + [0] * 6 + p2(-12), None, ONE),
    Point(
        "the second block is aligned by itself",
        AMPERE,
        "bf16",
        [0] * 8 + p2(-12, -12),
        [0] * 8 + p2(-12, -12),
        1.0,
        1 + 2.0**-23,
    ),
    Point("toward zero", HOPPER, "bf16", [1, 2.0**-12], [1, 1.5 * 2.0**-12], None, ONE),
    Point("toward zero, negative", HOPPER, "bf16", [-1, -(2.0**-12)], [1, 1.5 * 2.0**-12], None, -1.0),
    Point("2^128 is infinite, toward zero too", HOPPER, "bf16", p2(64), p2(64), None, INF),
    Point("so is all above", HOPPER, "bf16", [1.5 * 2.0**64], [2.0**64], None, INF),
    Point("products of 2^128 may cancel", HOPPER, "bf16", [2.0**64, 2.0**64, 1], [2.0**64, -(2.0**64), 0], None, 0.0),
    Point("between the largest and 2^128", HOPPER, "bf16", p2(64, 50), [2.0**64, -(2.0**53)], None, Code(0x7F7FFFFF)),
    Point("a NaN loses its payload", HOPPER, "bf16", [Code(0xFFC3), 1], [1, 1], None, Code(NVIDIA_NAN)),
    Point("a NaN c", HOPPER, "bf16", [1], [1], Code(0xFF812345), Code(NVIDIA_NAN)),
    Point("infinity times zero", HOPPER, "bf16", [INF, 1], [0, 1], None, Code(NVIDIA_NAN)),
    Point("infinities of both signs", HOPPER, "bf16", [INF], [1], -INF, Code(NVIDIA_NAN)),
    Point("float16's NaN", HOPPER_F16, "fp16", [INF], [0], None, Code(0x7FFF)),
    Point("an infinity stays", HOPPER_F16, "fp16", [-INF, 1], [1, 1], 1.0, -INF),
    Point("every zero is +0", HOPPER, "bf16", [-0.0], [1], -0.0, Code(0)),
    Point("negative underflow is +0", HOPPER, "bf16", p2(-80), [-(2.0**-75)], None, Code(0)),
    Point(
        "the floor hides 2^-159", HOPPER, "bf16", [33 * 2.0**-80, 2.0**-80], [31 * 2.0**-79, 2.0**-79], None, Code(0)
    ),
    Point("the floor shows 2^-158", HOPPER, "bf16", [7 * 2.0**-80, 2.0**-79], [73 * 2.0**-78, 2.0**-79], None, Code(1)),
    Point("no zero has exponent -126", HOPPER, "bf16", p2(*[-76] * 8), p2(*[-76] * 8), None, Code(1)),
    Point("kept bits: c is cut too", HOPPER_FP8, "e4m3fn", [0], [0], Code(0x3F800001), ONE),
    Point("13 alignment bits of c", HOPPER_FP8, "e4m3fn", [0], [0], Code(0x3F800FFF), Code(0x3F800C00)),
    Point("the low ten bits are zero", HOPPER_FP8, "e4m3fn", [1], [1], 1 + 2.0**-13, 2.0),
    Point("13 bits of a subnormal", HOPPER_FP8, "e4m3fn", [0], [0], Code(0x000007FF), Code(0x00000400)),
    Point("13 alignment bits", HOPPER_FP8, "e4m3fn", [1, 2.0**-7, -1], [1, 2.0**-7, 1], None, 0.0),
    Point("float16 ties to even", HOPPER_F16, "fp16", [2048, 1], [1, 1], None, 2048.0),
    Point("float16 rounds the whole sum", HOPPER_F16, "fp16", [2048, 1, 2.0**-7], [1, 1, 2.0**-7], None, 2050.0),
    Point("float16 rounds, not truncates", HOPPER_F16, "fp16", [2048, 3], [1, 1], None, 2052.0),
    Point("a subnormal float16 c has exponent -14", HOPPER_F16, "fp16", p2(-12, -21), p2(-13, -21), Code(2), Code(2)),
    Point("float16's floor", HOPPER_F16, "fp16", p2(-12, -12, -23), p2(-13, -13, -24), None, Code(1)),
    Point("a float16 c into a float32 sum", VOLTA_C16, "fp16", p2(-20), p2(-20), Code(1), 2.0**-24),
    Point("a normal float16 c", VOLTA_C16, "fp16", [1], [1], Code(0xBC01), -(2.0**-10)),
    # ------------------------------------------------------------------------------- A7, A8, scaled tensor cores
    Point("scales add to the exponents", MX, "e4m3fn", [1.5], [1], None, 12.0, ([130], [127])),
    Point("scale code 0 is 2^-127", MX, "e4m3fn", [1], [1], None, 1.0, ([0], [254])),
    Point("a NaN scale beside zeros", MX, "e4m3fn", [0], [0], None, Code(NVIDIA_NAN), ([255], [127])),
    Point("one scale for each 32", MX, "e2m1fn", [1] * 33, [1] * 33, None, 64.0 + 2, ([128, 127], [127, 128])),
    Point("25 alignment bits", MX, "e5m2", [1, 2.0**-12, -1], [1, 2.0**-13, 1], None, 2.0**-25, ([127], [127])),
    Point("and no more", MX, "e5m2", [1, 2.0**-13, -1], [1, 2.0**-13, 1], None, 0.0, ([127], [127])),
    Point("a large scale aligns c away", MX, "e4m3fn", [1, -1], [1, 1], 2.0**-6, 0.0, ([147], [127])),
    Point("a group is summed exactly", MXFP4, "e2m1fn", [6] * 64, [6] * 64, None, 2304.0, ([127] * 2, [127] * 2)),
    Point(
        "a group that cancels aligns",
        MXFP4,
        "e2m1fn",
        [1, -1] + [0] * 30 + [1],
        [1] * 33,
        None,
        0.0,
        ([163, 127], [127] * 2),
    ),
    Point("35 alignment bits", MXFP4, "e2m1fn", [1, -1] + [0] * 30 + [1], [1] * 33, None, 1.0, ([162, 127], [127] * 2)),
    Point(
        "a group of zeros does not align", MXFP4, "e2m1fn", [0] * 32 + [1], [1] * 33, None, 1.0, ([254, 127], [127] * 2)
    ),
    Point("e4m3 scales ignore their sign", NVFP4, "e2m1fn", [1], [1], None, 1.0, ([0xB8], [0x38])),
    Point("a subnormal e4m3 scale", NVFP4, "e2m1fn", [1], [1], None, 2.0**-9, ([0x01], [0x38])),
    Point("a NaN e4m3 scale", NVFP4, "e2m1fn", [0], [0], None, Code(NVIDIA_NAN), ([0xFF], [0x38])),
    Point("a zero e4m3 scale", NVFP4, "e2m1fn", [6], [6], 2.0**-40, 2.0**-40, ([0], [0x7E])),
    # ----------------------------------------------------------------------------------------- A9 to A12, AMD
    Point("nothing is lost", CDNA1, "fp16", p2(15, -24), p2(15, -24), -(2.0**30), 2.0**-48),
    Point("rounded once for each block", CDNA1, "bf16", p2(0, -12, -12, -20), p2(0, -12, -13, -20), None, 1 + 2.0**-23),
    Point("all -0 is +0", CDNA1, "bf16", [-0.0], [1], -0.0, Code(0)),
    Point("negative underflow is -0", CDNA1, "bf16", p2(-76), [-(2.0**-75)], None, Code(0x80000000)),
    Point("gradual underflow", CDNA1, "bf16", p2(-75), p2(-74), None, Code(1)),
    Point("a canonical NaN", CDNA1, "bf16", [Code(0xFFFF)], [1], None, Code(0x7FC00000)),
    Point("a subnormal float16 is +0", CDNA2, "fp16", [2.0**-15], [2.0**15], None, Code(0)),
    Point("a normal float16 is not", CDNA2, "fp16", [2.0**-14], [2.0**15], None, 2.0),
    Point("a subnormal product is zero", CDNA2, "bf16", p2(-64), p2(-63), None, Code(0)),
    Point("a subnormal c is zero", CDNA2, "bf16", [0], [0], Code(0x00400000), Code(0)),
    Point("a subnormal sum is zero", CDNA2, "bf16", [1.5 * 2.0**-63, 2.0**-63], [2.0**-63, -(2.0**-63)], None, Code(0)),
    Point("pairs: (0 + 1) + (2 + 3)", CDNA2, "bf16", [2.0**24, 1, 1, -(2.0**24)], [1] * 4, None, 1.0),
    Point("c after the pairs", CDNA2, "bf16", [1, 1], [1, 1], 2.0**24, 2.0**24 + 2),
    Point("once for four", CDNA2, "bf16", [1, 0, 1, 0], [1, 0, 1, 0], 2.0**24, 2.0**24 + 2),
    Point("an overflowing product", CDNA2, "bf16", p2(64, 64), [2.0**64, -(2.0**64)], None, Code(0x7FC00000)),
    Point(
        "-0 stays -0 within an instruction",
        CDNA2,
        "bf16",
        [-1.5 * 2.0**-63, 0, 0, 0] + [-(2.0**-64)] * 4,
        [2.0**-63, 0, 0, 0, *p2(*[-64] * 4)],
        2.0**-126,
        Code(0x80000000),
    ),
    Point(
        "and is +0 in the next",
        CDNA2,
        "bf16",
        [0] * 12 + [-1.5 * 2.0**-63, 0, 0, 0] + [-(2.0**-64)] * 4,
        [0] * 12 + [2.0**-63, 0, 0, 0] + p2(*[-64] * 4),
        2.0**-126,
        Code(0),
    ),
    Point("a tiny negative c is one unit", CDNA3, "bf16", [1], [1], Code(0x80000001), BELOW_ONE),
    Point("a tiny positive c is none", CDNA3, "bf16", [1], [1], Code(1), ONE),
    Point("products are truncated, not floored", CDNA3, "bf16", [1, -(2.0**-13)], [1, 2.0**-13], None, ONE),
    Point("the sum is floored beside a large c", CDNA3, "bf16", [-(2.0**-20)], [2.0**-20], 1.0, ONE),
    Point("c is outside the truncated sum", CDNA3, "bf16", p2(-13, -13), p2(-13, -13), 1.0, ONE),
    Point("a tiny sum keeps its bits beside c", CDNA3, "bf16", [2.0**-13] * 8, [2.0**-13] * 8, -1.0, -1 + 2.0**-23),
    Point("31 bits decide a tie", CDNA3, "bf16", p2(-12, -15), p2(-12, -16), 1.0, 1 + 2.0**-23),
    Point("the 32nd does not", CDNA3, "bf16", p2(-12, -16), p2(-12, -16), 1.0, ONE),
    Point("a block of 8", CDNA3, "bf16", [2.0**24, 1, 0, 0, 1], [1] * 5, None, 2.0**24 + 2),
    Point("a product of 2^128 is infinite", CDNA3, "bf16", p2(64), p2(64), None, INF),
    Point("and does not cancel", CDNA3, "bf16", p2(64, 64), [2.0**64, -(2.0**64)], None, Code(0x7FC00000)),
    Point("all zero is +0", CDNA3, "bf16", [-0.0], [1], -0.0, Code(0)),
    Point("negative underflow is -0", CDNA3, "bf16", p2(-80), [-(2.0**-80)], None, Code(0x80000000)),
    Point("fp8: c below e - 25 is dropped", CDNA3_FP8, "e4m3fnuz", [1], [1], -(2.0**-26), ONE),
    Point("fp8: c at e - 25 is floored", CDNA3_FP8, "e4m3fnuz", [1], [1], -(2.0**-25), BELOW_ONE),
    Point("fp8: odd k apart", CDNA3_FP8, "e5m2fnuz", [1, -(2.0**-12)], [1, 2.0**-13], None, BELOW_ONE),
    Point("fp8: even k together", CDNA3_FP8, "e5m2fnuz", [1, 0, -(2.0**-12)], [1, 0, 2.0**-13], None, ONE),
    # -------------------------------------------------------------------------------------------- A2, A3, x86
    Point("the odd element first", ZEN5, "bf16", [2.0**-15, 1], [2.0**-15, 1], -1.0, 2.0**-30),
    Point("then the even one", ZEN5, "bf16", [1, 2.0**-15], [1, 2.0**-15], -1.0, 0.0),
    Point("flushed though it would round up to 2^-126", ZEN5, "bf16", p2(-75), [-(2.0**-75)], 2.0**-126, Code(0)),
    Point("flushed, negative", ZEN5, "bf16", p2(-75), p2(-75), -(2.0**-126), Code(0x80000000)),
    Point("kept: 24 bits round up to 2^-126", ZEN5, "bf16", p2(-76), [-(2.0**-75)], 2.0**-126, Code(0x00800000)),
    Point("a subnormal operand is zero", ZEN5, "bf16", [2.0**-127], [2.0**100], None, Code(0)),
    Point("a subnormal c is zero", ZEN5, "bf16", [0], [0], Code(0x007FFFFF), Code(0)),
    Point("all -0 stays", ZEN5, "bf16", [-0.0, -0.0], [1, 1], -0.0, Code(0x80000000)),
    Point("a signalling NaN is quieted", ZEN5, "bf16", [Code(0xFF81)], [1], None, Code(0xFFC10000)),
    Point("NaN order: a even before b odd", ZEN5, "bf16", [Code(0x7FC1), 1], [1, Code(0x7FC2)], None, Code(0x7FC10000)),
    Point("NaN order: a odd before c", ZEN5, "bf16", [1, Code(0x7FC3)], [1, 1], Code(0x7FC12345), Code(0x7FC30000)),
    Point("NaN of c before infinity times zero", ZEN5, "bf16", [0, INF], [0, 0], Code(0x7F812345), Code(0x7FC12345)),
    Point("invalid", ZEN5, "bf16", [INF], [0], None, Code(X86_NAN)),
    Point("the difference of infinities", ZEN5, "bf16", [INF], [1], -INF, Code(X86_NAN)),
    Point("fused", ZEN5, "bf16", [1 + 2.0**-7], [1 + 2.0**-7], -1.0, 2.0**-6 + 2.0**-14),
    Point("c last", AMX, "bf16", [1, 2.0**-15], [1, 2.0**-15], -1.0, 0.0),
    Point("even and odd apart", AMX, "bf16", [2.0**24, 1, 0, 1], [1] * 4, None, 2.0**24 + 2),
    Point("c once for 32", AMX, "bf16", [1] + [0] * 30 + [1], [1] * 32, 2.0**24, 2.0**24 + 2),
    Point("c twice for 33", AMX, "bf16", [1] + [0] * 31 + [1], [1] * 33, 2.0**24, 2.0**24),
    Point("NaN order: c first", AMX, "bf16", [Code(0x7FC1)], [1], Code(0xFF800001), Code(0xFFC00001)),
    # -------------------------------------------------------------------------------------------- A4, A5, Arm
    Point("a sum to odd", ARM, "bf16", p2(0, -20), p2(0, -20), None, Code(0x3F800001)),
    Point("an odd sum stays", ARM, "bf16", p2(0, -20), p2(0, -20), 1.0, Code(0x40000001)),
    Point("c to odd", ARM, "bf16", [2.0**-20], [2.0**-20], -1.0, Code(0xBF7FFFFF)),
    Point("products are added first", ARM, "bf16", [1, -1], [1, 1], 2.0**-40, 2.0**-40),
    Point("overflow to infinity", ARM, "bf16", p2(64), p2(64), None, INF),
    Point("below the range it is the largest", ARM, "bf16", [2.0**100], [1], Code(0x7F7FFFFE), Code(0x7F7FFFFF)),
    Point("a tiny product is zero of its sign", ARM, "bf16", [-(2.0**-64)], [2.0**-63], -0.0, Code(0)),
    Point("two tiny products, all zeros -0", ARM, "bf16", [-(2.0**-64)] * 2, p2(-63, -63), -0.0, Code(0x80000000)),
    Point("tiny before rounding", ARM, "bf16", p2(-76), [0], Code(0x807FFFFF), Code(0)),
    Point("the default NaN", ARM, "bf16", [Code(0xFF81)], [1], Code(0x7FABCDEF), Code(ARM_NAN)),
    Point("invalid", ARM, "bf16", [INF], [0], None, Code(ARM_NAN)),
    Point("two products rounded once", EBF16, "bf16", p2(0, -12), p2(0, -12), None, ONE),
    Point("then c", EBF16, "bf16", p2(0, -12), p2(0, -12), 2.0**-24, ONE),
    Point("subnormals stay", EBF16, "bf16", [2.0**-75], [2.0**-74], Code(1), Code(2)),
    Point("the default NaN", EBF16, "bf16", [Code(0xFF81)], [1], None, Code(ARM_NAN)),
    Point("all -0 stays", EBF16, "bf16", [-0.0, -0.0], [1, 1], -0.0, Code(0x80000000)),
    # ---------------------------------------------------------------------------------- A13, FP8 by way of float16
    Point("k = 0, 1 and 4, 5 together", HMMA_F16, "e4m3fn", [64, 1, 0, 0, 0, 1], [32, 1, 0, 0, 0, 1], None, 2050.0),
    Point("k = 2 in the second sum", HMMA_F16, "e4m3fn", [64, 1, 1], [32, 1, 1], None, 2048.0),
    Point("k = 2 and 3 together", HMMA_F16, "e4m3fn", [64, 0, 1, 1], [32, 0, 1, 1], None, 2050.0),
    Point("{0, 1} before {2, 3}", HMMA_F16, "e4m3fn", [1, 1, 64], [1, 1, 32], None, 2050.0),
    Point("{2, 3} rounds with what was before", HMMA_F16, "e4m3fn", [1, 0, 64, 1], [1, 0, 32, 1], None, 2050.0),
    Point("c is added last, to nearest", HMMA, "e4m3fn", [1], [1], 2.0**-24 + 2.0**-47, 1 + 2.0**-23),
    Point("c rounds apart", HMMA_F16, "e4m3fn", [64, 1], [32, 1], 1.0, 2048.0),
    Point("the NaN of tensor cores", HMMA, "e4m3fn", [Code(0xFF)], [1], None, Code(NVIDIA_NAN)),
    Point("infinities meet in c", HMMA, "e5m2", [INF], [1], -INF, Code(NVIDIA_NAN)),
    Point("a zero is +0", HMMA, "e4m3fn", [-0.0], [1], -0.0, Code(0)),
]


def codes(values: Sequence[float], fmt: Any) -> list[int]:
    """Return the codes of values, which the format must hold."""
    found = []
    for v in values:
        code = int(v) if isinstance(v, Code) else reference.encode(float(v), fmt)
        assert isinstance(v, Code) or reference.decode(code, fmt) == v, f"{v} is not in {fmt}"
        found.append(code)
    return found


def wrong_points(accumulate: Callable[..., int], points: Sequence[Point] = POINTS) -> list[str]:
    """Return what goes wrong: one line for each point whose code is another."""
    wrong = []
    for p in points:
        c_fmt = getattr(p.model, "c_format", None) or p.model.result_format
        c = None if p.c is None else codes([p.c], c_fmt)[0]
        formats = (p.fmt, p.fmt)
        scales = {} if p.scales is None else {"scales": p.scales}
        got = accumulate(p.model, codes(p.a, p.fmt), codes(p.b, p.fmt), c, formats=formats, **scales)
        want = codes([p.want], p.model.result_format)[0]
        if got != want:
            wrong.append(f"{type(p.model).__name__}, {p.shows}: got {got:#x}, want {want:#x}")
    return wrong
