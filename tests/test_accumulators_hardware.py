"""Models of hardware: the kernels equal the slow twins, bit for bit, on operands that are hard for them.

Strips of columns hold ordinary and extreme pieces side by side: kernels may choose a faster way for each block.
"""

from __future__ import annotations

from typing import Any

import accumulator_points as points
import numpy as np
import pytest
from accumulator_cases import (
    Case,
    array,
    bits,
    check_zeros,
    drawn_wrong,
    keywords,
    nearest,
    places,
    product,
    scaled,
    wanted_bits,
    wrong,
)
from accumulator_points import wrong_points
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import _sums, reference
from lowprec import accumulators as acc

Fused, Late = acc.FusedTruncated, acc.FusedTruncatedLateC
FOUR = ("e2m1fn", "e2m1fn")
EIGHT = [("e4m3fn", "e5m2"), ("e5m2", "e5m2"), ("e4m3fn", "e4m3fn"), ("e2m3fn", "e4m3fn"), ("e2m1fn", "e3m2fn")]
HALF = [("fp16", "fp16"), ("bf16", "bf16"), ("fp16", "bf16")]
FNUZ = [("e5m2fnuz", "e4m3fnuz"), ("e4m3fnuz", "e4m3fnuz"), ("e5m2fnuz", "e5m2fnuz")]
CASES: list[tuple[acc.Accumulator, list[Any]]] = [
    (points.HOPPER, [*HALF, *EIGHT, ("tf32", "tf32"), ("fp32", "bf16")]),
    (points.AMPERE, [*HALF, ("tf32", "tf32")]),
    (points.HOPPER_F16, [*HALF, *EIGHT]),
    (points.HOPPER_FP8, EIGHT),
    (points.VOLTA_C16, HALF),
    (Fused(4, 23, "fp16", "rne", exponent_floor=-19), HALF),
    (Fused(4, 24, exponent_floor=-132), [("tf32", "tf32"), ("tf32", "bf16")]),
    (Fused(32, 25), EIGHT),
    (Fused(32, 13, "fp16", "rne"), EIGHT),
    (Fused(5, 27), HALF),
    (Fused(4, 28), HALF),
    (Fused(3, 29), HALF),
    (Fused(7, 40), HALF),
    (Fused(1, 1), HALF),
    (Fused(16, 25, "bf16", "rne"), HALF),
    (Fused(16, 25, "bf16"), HALF),
    (Fused(16, 25, "fp16", "rz"), HALF),
    (Fused(16, 25, "e5m7", "rne", exponent_floor=-30), HALF),
    (Fused(16, 25, "fp32", "rne", kept_bits=9), HALF),
    (Fused(16, 20, exponent_floor=-39), HALF),
    (Fused(16, 20, exponent_floor=-41), HALF),
    (Fused(16, 20, exponent_floor=0), HALF),
    (Fused(16, 20, exponent_floor=-400), HALF),
    (Fused(100, 22, rounding="rne"), HALF),
    (points.CDNA1, HALF),
    (acc.FusedExact(2), [("bf16", "bf16"), ("fp32", "fp32")]),
    (acc.FusedExact(11), [*HALF, ("tf32", "tf32")]),
    (points.CDNA2, [*HALF, *FNUZ]),
    (acc.FlushedPairwise(2), HALF),
    (points.CDNA3, [*HALF, ("tf32", "tf32")]),
    (Late(4), [("tf32", "tf32"), ("bf16", "fp16")]),
    (points.CDNA3_FP8, [*FNUZ, *HALF]),
    (Late(3, 40, 45), HALF),
    (Late(5, 23, 24, True), HALF),
    (Late(64, 24, 26), HALF),
    (points.ZEN5, [("bf16", "bf16")] * 3),
    (points.AMX, [("bf16", "bf16")] * 2),
    (acc.EvenOddPair(2), [("bf16", "bf16")]),
    (acc.EvenOddPair(6), [("bf16", "bf16")]),
    (points.ARM, [("bf16", "bf16")] * 2 + [("fp16", "bf16")]),
    (points.EBF16, [("bf16", "bf16")] * 2 + [("fp16", "bf16")]),
    (points.HMMA, EIGHT),
    (points.HMMA_F16, EIGHT),
]
SHAPES = [(3, 37, 300), (4, 5, 7), (3, 16, 129), (3, 33, 1), (2, 64, 128), (3, 1, 7), (5, 15, 130), (3, 150, 140)]
SLOW = (acc.FlushedPairwise, acc.FmaPairOddFirst, acc.EvenOddPair, acc.BfDotRoundOdd, acc.BfDotFused)  # their twins
NUMBERED = [(model, formats, 3 * n + t) for n, (model, pairs) in enumerate(CASES) for t, formats in enumerate(pairs)]


@pytest.mark.parametrize(("model", "formats", "number"), NUMBERED, ids=[f"{m!r}-{f}-{n}" for m, f, n in NUMBERED])
def test_hardware(model: acc.Accumulator, formats: Any, number: int) -> None:
    for turn in range(3):
        shape = SHAPES[(number + 3 * turn) % len(SHAPES)]
        case = Case(model, formats, shape, number, special=(0, 0, 1)[turn])
        got = product(case)
        lines = wrong(case, got, places(got.shape, 10 if isinstance(model, SLOW) else 60, number))
        assert not lines, f"{shape}: {len(lines)} wrong; " + "\n".join(lines[:2])


@pytest.mark.parametrize("model", [m for m, _ in CASES], ids=repr)
def test_every_short_length(model: acc.Accumulator) -> None:
    """Blocks that begin, end, and are not whole."""
    formats = next(pairs for m, pairs in CASES if m is model)[0]
    length = model.length
    for k in sorted({0, 1, 2, 3, length - 1, length, length + 1, 2 * length - 1, 2 * length, 2 * length + 3}):
        case = Case(model, formats, (2, k, 3), k, special=k % 3 == 0)
        lines = wrong(case, product(case), places((2, 3), 4))
        assert not lines, (k, lines[0])


def test_every_model_is_here() -> None:
    scaled = {acc.FusedTruncatedScaled, acc.FusedTruncatedGroupScaled}
    assert {type(m) for m, _ in CASES} | scaled == {*acc.Hardware.__subclasses__()}


# -------------------------------------------------------------------------------------------------- ties, cuts, borders
@pytest.mark.parametrize("f", [13, 20, 23, 24, 25, 26, 27, 28, 29])
@pytest.mark.parametrize("out", ["fp32", "fp16"])
def test_bits_at_the_cut(f: int, out: str) -> None:
    """One addend at every distance around the alignment's cut, beside a large one that another, or c, takes away."""
    model = Fused(16, f, out, "rne" if out == "fp16" else "rz")
    one = reference.encode(1.0, "bf16")
    for large in (1.0, -1.0, 1.5, -1.9921875):
        rows, columns, starts = [], [], []
        for distance in range(f - 3, f + 4):
            for small in (1.0, -1.0, 1.5, -1.75):
                rows.append([reference.encode(v, "bf16") for v in (large, small * 2.0 ** -(distance // 2), -large)])
                columns.append([one, reference.encode(2.0 ** -(distance - distance // 2), "bf16"), one])
                starts.append(reference.encode(0.0 if small > 0 else -large, out))
        a, b = array(rows, "bf16"), array(columns, "bf16")
        got = lp.vecdot(a, b, accumulator=model, c=array(starts, out))
        for n, (x, y, c) in enumerate(zip(rows, columns, starts, strict=True)):
            want = reference.accumulate(model, x, y, c, formats=("bf16", "bf16"))
            assert int(bits(got)[n]) == wanted_bits(want, model, out, got.dtype)


@pytest.mark.parametrize(("model", "fmt"), [(points.HOPPER, "bf16"), (Fused(4, 28), "bf16"), (points.CDNA3, "bf16")])
def test_exponents_far_apart(model: acc.Accumulator, fmt: str) -> None:
    """Every pair of exponents, one of them beside a zero: what a faster way has to hold or to hand over."""
    exponents = [-126, -64, -61, -60, -59, -41, -40, -39, -20, 0, 20, 39, 59, 60, 61, 64, 127]
    big = [reference.encode(s * 2.0**e, fmt) for e in exponents for s in (1.0, -1.5)]
    for other in (0.0, 2.0**-40, 2.0**-41, 2.0**-60, -(2.0**60)):
        a = np.array([[x, reference.encode(other, fmt)] for x in big])
        b = np.array([[y, reference.encode(1.0, fmt)] for y in [0, 0x8000, *big[::3]]]).T
        case = Case(model, (fmt, fmt), (len(a), 2, b.shape[1]))
        case.a, case.b, case.c = a, b, np.zeros((len(a), b.shape[1]), np.int64)
        lines = wrong(case, product(case), [(i, j) for i in range(len(a)) for j in range(b.shape[1])])
        assert not lines, f"{len(lines)} wrong; {lines[:2]}"


FLOORS = [
    points.HOPPER,
    points.AMPERE,
    points.HOPPER_F16,
    Fused(16, 20, exponent_floor=-41),
    Fused(8, 24, "fp16", "rne"),
]


@pytest.mark.parametrize("model", FLOORS, ids=repr)
def test_exponents_at_the_floor(model: acc.FusedTruncated, rng: np.random.Generator) -> None:
    """Without c, products about the smallest result, whose cut parts add up to one."""
    assert model.exponent_floor is not None
    lowest = max(model.exponent_floor - model.fraction_bits + 4, model.out.emin - model.out.mantissa_bits - 4)
    case = Case(model, ("bf16", "bf16"), (20, 16, 30))
    a, b = ((1 + rng.integers(0, 128, s) / 128) * rng.choice([-1.0, 1, 1, 1], s) for s in ((20, 16), (16, 30)))
    case.a = nearest(a * 2.0 ** (lowest // 2), "bf16")
    case.b = nearest(b * 2.0 ** (lowest - lowest // 2 + rng.integers(0, 4, b.shape)), "bf16")
    case.c = np.zeros((20, 30), np.int64)
    lines = wrong(case, product(case), list(np.ndindex(20, 30)))
    assert not lines, f"{len(lines)} wrong; {lines[:2]}"


@pytest.mark.parametrize("model", [points.CDNA3, Late(8, 24, 30), Late(8, 30, 33), points.CDNA3_FP8], ids=repr)
def test_bits_below_a_tie(model: acc.FusedTruncatedLateC) -> None:
    """A product of half a last place of c, and one at every distance below, down to and beyond where T is floored."""
    signs, ones = (1.0, -1.0), [1.0] * 40
    a = np.array([[s, 0.0, t * 2.0**-d] for d in range(12, 32) for s in signs for t in signs])
    b = np.array([ones, ones, ones]) * 2.0 ** -np.array([[24.0], [0.0], [4.0]])
    case = Case(model, ("bf16", "bf16"), (len(a), 3, 40))
    case.a, case.b = nearest(a, "bf16"), nearest(b, "bf16")
    starts = [s * (1 + n * 2.0**-23) for s in signs for n in range(4)] * 5
    case.c = nearest(np.broadcast_to(starts, (len(a), 40)), "fp32")
    lines = wrong(case, product(case), [(i, j) for i in range(len(a)) for j in range(8)])
    assert not lines, f"{len(lines)} wrong; {lines[:2]}"


FLOATS = [points.HOPPER, Fused(7, 40), points.CDNA1, points.CDNA2, points.CDNA3, points.ZEN5, points.ARM, points.EBF16]


@pytest.mark.parametrize("model", [*FLOATS, acc.EvenOddPair(2)], ids=repr)
@pytest.mark.parametrize("border", [-126, -149, 127], ids=str)
def test_borders_of_float32(model: acc.Accumulator, border: int) -> None:
    """Sums around the smallest normal and subnormal numbers, and around the largest, by one product and c."""
    half, signs = border // 2, (1.0, -1.0)
    numbers = [s * m * 2.0**e for s in signs for m in (1.0, 1.5) for e in (half, half - 1, half - 12)]
    others = [m * 2.0 ** (border - half - d) for m in (1.0, 1.9921875) for d in (0, 1, 12, 13)]
    case = Case(model, ("bf16", "bf16"), (len(numbers), 1, len(others)))
    case.a, case.b = nearest(np.array([numbers]).T, "bf16"), nearest(np.array([others]), "bf16")
    near = nearest(np.array(2.0**border), "fp32")
    for c in (0, near, near - 1, near + 1, 1, near ^ (1 << 31), (near - 1) ^ (1 << 31)):
        case.c = np.full((len(numbers), len(others)), c)
        lines = wrong(case, product(case), places(case.c.shape, 80, c % 1000))
        assert not lines, f"{len(lines)} wrong; {lines[:2]}"


@pytest.mark.parametrize("model", [m for m, pairs in CASES if ("bf16", "bf16") in pairs], ids=repr)
def test_signs_of_zeros(model: acc.Accumulator) -> None:
    check_zeros(model, [0.0, -0.0, 1.0, -1.0, 2.0**-80])


def test_vdpbf16ps_without_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sums._native, "multiply", lambda *_: False)
    for number in (0, 1):
        test_hardware(points.ZEN5, ("bf16", "bf16"), number)
    test_signs_of_zeros(points.ZEN5)
    test_borders_of_float32(points.ZEN5, -126)


# ------------------------------------------------------------------------------------------------------ points by hand
def by_vecdot(model: Any, a: Any, b: Any, c: Any = None, *, formats: Any, scales: Any = None) -> int:
    """Sum by `vecdot`, with the arguments of the twin."""
    c_format = getattr(model, "c_format", None) or model.result_format
    how = keywords(model, formats)
    x, y = (array(v, fmt) for v, fmt in zip((a, b), formats, strict=True))
    if scales is not None:
        x, y = (scaled(v, s, fmt, model) for v, s, fmt in zip((a, b), scales, formats, strict=True))
        how = {"accumulator": model}
    if model.result_format.name == "float16":
        how["out_dtype"] = "fp16"
    got = lp.vecdot(x, y, c=None if c is None else array([c], c_format)[0], **how)
    return int(bits(got)[0])


def test_points_by_hand() -> None:
    assert wrong_points(by_vecdot) == []


# --------------------------------------------------------------------------------------------------------- block scales
SCALED: list[tuple[Any, Any]] = [(points.MX, f) for f in EIGHT]
SCALED += [(acc.FusedTruncatedScaled(16, 30, -200), ("e5m2", "e4m3fn"))]
SCALED += [(m, FOUR) for m in (points.MXFP4, points.NVFP4, acc.FusedTruncatedGroupScaled(scale_block=16))]
SCALED += [(acc.FusedTruncatedGroupScaled(32, 8, 25, -133, 8, "e4m3fn"), FOUR)]
SCALED += [(acc.Chunked(points.MX, 64), EIGHT[0]), (acc.Chunked(points.NVFP4, 128, "fp16"), FOUR)]


@pytest.mark.parametrize(
    ("model", "formats"), SCALED, ids=lambda x: repr(x) if isinstance(x, acc.Accumulator) else None
)
def test_block_scales(model: Any, formats: Any) -> None:
    inner = model.inner if isinstance(model, acc.Chunked) else model
    for blocks, n in ((1, 7), (3, 131), (5, 20), (4, 5), (8, 40)):
        case = Case(model, formats, (3, blocks * getattr(inner, "scale_block", inner.length), n), blocks, blocks % 2)
        got = product(case)
        lines = wrong(case, got, places(got.shape, 25))
        assert not lines, f"{len(lines)} wrong; {lines[:2]}"


# ------------------------------------------------------------------------------------------------- any model, any codes
SHORT = st.sampled_from(
    ["fp16", "bf16", "e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "e5m2fnuz", "e4m3b11fnuz", "e3m4", "tf32"]
)


@given(st.data())
def test_any_fused_truncated(data: st.DataObject) -> None:
    out = data.draw(st.sampled_from(["fp32", "fp32", "fp16", "bf16", "e5m7", "e4m3", "e8m20"]))
    kept = data.draw(st.none() | st.integers(1, lp.format(out).mantissa_bits))
    floor = data.draw(st.none() | st.integers(-150, 0) | st.sampled_from([-400, -201, -200, -41, -40]))
    model = Fused(
        data.draw(st.integers(1, 20)),
        data.draw(st.integers(1, 50) | st.integers(22, 30)),
        out,
        data.draw(st.sampled_from(["rz", "rne"])),
        kept,
        floor,
        data.draw(st.sampled_from([None, "fp16"])) if out == "fp32" else None,
    )
    drawn_wrong(data, model, (data.draw(SHORT), data.draw(SHORT)), 24)


@given(st.data())
def test_any_late_c(data: st.DataObject) -> None:
    fraction = data.draw(st.integers(23, 40))
    final = data.draw(st.integers(max(24, fraction), 45))
    model = Late(data.draw(st.integers(1, 20)), fraction, final, data.draw(st.booleans()))
    drawn_wrong(data, model, (data.draw(SHORT), data.draw(SHORT)), 24)


@given(st.data())
def test_any_other(data: st.DataObject) -> None:
    even = acc.EvenOddPair(2 * data.draw(st.integers(1, 4)))
    models = [
        acc.FusedExact(data.draw(st.integers(1, 9))),
        acc.FlushedPairwise(2),
        points.CDNA2,
        points.ARM,
        points.EBF16,
    ]
    model = data.draw(st.sampled_from([*models, even, points.ZEN5]))
    pair = ("bf16", "bf16") if model in (even, points.ZEN5) else (data.draw(SHORT), data.draw(SHORT))
    drawn_wrong(data, model, pair, 18)


@given(st.data())
def test_any_fp8_via_f16(data: st.DataObject) -> None:
    eight = st.sampled_from(["e4m3fn", "e5m2", "e2m1fn", "e3m2fn"])
    drawn_wrong(
        data, acc.Fp8ViaF16(data.draw(st.sampled_from(["fp32", "fp16"]))), (data.draw(eight), data.draw(eight)), 40
    )


LOW = lp.FloatFormat(name="low", exponent_bits=5, mantissa_bits=3, bias=140)  # smallest normal 2**-139, subnormal -142


@pytest.mark.parametrize("low", ["e8m0fnu", LOW], ids=str)
@pytest.mark.parametrize("other", ["e3m4", "bf16"])
@pytest.mark.parametrize(
    "model", [acc.FusedTruncated(2, 25), acc.FusedTruncated(4, 13), acc.FusedTruncatedLateC(4)], ids=repr
)
def test_normal_numbers_below_those_of_float32(model: acc.Accumulator, low: Any, other: str) -> None:
    """A number that float32 holds as subnormal may be normal in its format: its exponent is the format's."""
    fmt, second, rng = lp.format(low), lp.format(other), np.random.default_rng(5)
    a = rng.integers(0, 4 if fmt.bits == 8 else 2**fmt.bits, (300, 4)).astype(fmt.code_dtype)
    b = rng.integers(0, 2**second.bits, (300, 4)).astype(second.code_dtype)
    x, y = (lp.decode(v, f, dtype=np.float64) for v, f in ((a, fmt), (b, second)))
    keep = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    got = lp.vecdot(x[keep], y[keep], dtype=(fmt, second), accumulator=model)
    for line, (p, q) in enumerate(zip(a[keep].tolist(), b[keep].tolist(), strict=True)):
        want = reference.accumulate(model, p, q, formats=(fmt, second))
        assert int(got[line].view(np.uint32)) == want, (p, q)
