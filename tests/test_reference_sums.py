"""The slow twins of the accumulators, against recorded hardware, sums worked by hand, and definitions reworded."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import accumulator_points
import golden
import numpy as np
import pytest
from accumulator_points import wrong_points
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import accumulators as acc
from lowprec import reference
from lowprec.rounding import Rounding

ROWS = 10**9 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 200  # of each golden file
DETERMINISTIC = [mode.value for mode in Rounding if mode is not Rounding.STOCHASTIC]


def encoded(values: Any, fmt: Any) -> list[int]:
    return [reference.encode(float(v), fmt) for v in values]


def value(model: acc.Accumulator, a: Any, b: Any, c: float | None = None, *, fmt: Any = "fp16", **more: Any) -> float:
    """Return the value of a sum of values."""
    out = model.result_format or lp.format("fp32")
    start = None if c is None else reference.encode(c, out)
    code = reference.accumulate(model, encoded(a, fmt), encoded(b, fmt), start, formats=(fmt, fmt), **more)
    return reference.decode(code, out)


def same(got: float, want: float) -> bool:
    return (math.isnan(got) and math.isnan(want)) or (got == want and math.copysign(1, got) == math.copysign(1, want))


# ------------------------------------------------------------------------------------------------------- golden vectors
def wrong_rows(case: golden.Case, accumulate: Callable[..., int], rows: int, model: Any = None) -> tuple[int, int, int]:
    """Return how many rows were run, how many are wrong, and how many are disputed and count for neither."""
    chosen = case.sample(rows)
    where = tuple(np.array([index for index, *_ in chosen]).T)
    how = {"formats": case.formats, "c_format": case.c_format}
    got = [accumulate(model or case.model, a, b, c, **how, scales=s) for _, a, b, c, s in chosen]
    bad = golden.mismatches(np.array(got, np.uint64), case, where)
    return len(chosen), int(bad.sum()), int(case.disputed[where].sum())


@pytest.mark.parametrize("name", golden.names())
def test_golden(name: str) -> None:
    golden.files()  # skips where there are none
    case = golden.load(name)
    count, bad, disputed = wrong_rows(case, reference.accumulate, ROWS)
    assert count >= min(case.D.size, len(np.unique(case.case)))
    assert bad == 0, f"{bad} of {count} rows, {disputed} disputed ones apart"


def test_golden_folder_is_whole() -> None:
    """Every file has a model, every row a length that the model's instruction divides, and no file is skipped."""
    assert len(golden.files()) == len(golden.names()) >= 150
    for path in golden.files():
        case = golden.load(path)
        assert case.A.shape[1] % case.instruction_k == 0
        assert isinstance(case.model, acc.Accumulator)
        assert int(case.disputed.sum()) < case.D.size / 10


def test_golden_comparison_sees_nan_by_class_and_by_bits() -> None:
    golden.files()
    for name, by_class in (("amd_cdna1_mfma_16x16x16_f16_f32", True), ("nv_ampere_mma_m16n8k16_f16_f32", False)):
        case = golden.load(name)
        nans = golden.is_nan(case.D, case.d_format)
        assert nans.any()
        other = np.where(nans, case.D ^ np.array(1, case.D.dtype), case.D)
        assert golden.mismatches(other, case).sum() == (0 if by_class else nans.sum())
        assert golden.mismatches(np.where(nans, 0, case.D), case).sum() == nans.sum()


def test_missing_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOWPREC_SHARED", raising=False)
    monkeypatch.setenv("LOWPREC_GOLDEN_DIR", "/nowhere")
    assert golden.names() == ["no golden vectors"]
    with pytest.raises(pytest.skip.Exception, match="NO GOLDEN VECTORS: set LOWPREC_GOLDEN_DIR"):
        golden.files()


# ----------------------------------------------------------------------------------------------------- points by hand
def test_points_by_hand() -> None:
    assert wrong_points(reference.accumulate) == []


def test_every_hardware_model_has_points() -> None:
    models = {type(p.model) for p in accumulator_points.POINTS}
    assert models == {*acc.Hardware.__subclasses__()}


# -------------------------------------------------------------------------------- composed sums, written another way

rows = st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), max_size=9)


@given(rows)
def test_sequential_is_a_chain_of_fma(row: list[tuple[int, int]]) -> None:
    a, b = ([reference.decode(code, "fp16") for code in each] for each in ([x for x, _ in row], [y for _, y in row]))
    for fmt in ("fp16", "fp32", "e4m3fn", "fp64"):
        want = reference.dot(a, b, -0.0, fmt)
        assert same(value(acc.Sequential(fmt), a, b, -0.0), want)


@given(rows)
def test_unfused_is_numpy(row: list[tuple[int, int]]) -> None:
    a, b = (np.array(each, np.uint16).view(np.float16) for each in ([x for x, _ in row], [y for _, y in row]))
    for fmt, dtype, product in (("fp16", np.float16, np.float16), ("fp32", np.float32, np.float16)):
        r = dtype(0)
        with np.errstate(all="ignore"):
            for x, y in zip(a.astype(product), b.astype(product), strict=True):
                r = dtype(dtype(x * y) + r)
        assert same(value(acc.Sequential(fmt, product="fp16"), a, b), float(r))


@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_sequential_rounds_each_step_as_it_says(rounding: str) -> None:
    """In an eight-bit format, against round_to of the exact step, for signs and remainders of every kind."""
    steps = [1.0, 0.03125, -0.0078125, 0.046875, -3.0, 0.0234375, 1e-5]
    for signs in itertools.product((1, -1), repeat=3):
        a = [s * x for s, x in zip(itertools.cycle(signs), steps, strict=False)]
        a = [reference.round_to(x, "fp16") for x in a]
        r = 0.0
        for x in a:
            r = reference.round_to(Fraction(x) + Fraction(r), "e4m3", rounding=rounding)
        assert value(acc.Sequential("e4m3", rounding), a, [1.0] * len(a)) == r


ZEROS = [(sx, sc) for sx in (0.0, -0.0) for sc in (0.0, -0.0)]


@pytest.mark.parametrize("model", [acc.Sequential, acc.Pairwise, partial(acc.Sequential, fused=False)])
@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_sign_of_an_exact_zero(model: Any, rounding: str) -> None:
    """IEEE 754-2019, 6.3."""
    how = model("fp16", rounding=rounding)
    unlike = -0.0 if rounding == "toward_negative" else 0.0
    assert same(value(how, [1.0], [-1.0], 1.0), unlike)
    if model is not acc.Pairwise:  # there every leaf starts from +0
        for x, c in ZEROS:
            like = math.copysign(1, x) == math.copysign(1, c)
            assert same(value(how, [x], [1.0], c), x if like else unlike)


@pytest.mark.parametrize(("c", "want"), [(None, 0.0), (0.0, 0.0), (-0.0, -0.0)])
def test_exact_zero_of_an_exact_sum(c: float | None, want: float) -> None:
    assert same(value(acc.Exact("fp16"), [-0.0, 0.0], [1.0, -1.0], c), want)
    assert same(value(acc.Exact("fp16"), [1.0, -1.0], [1.0, 1.0], c), 0.0)
    down = acc.Exact("fp16", "toward_negative")
    assert same(value(down, [1.0, -1.0], [1.0, 1.0], c), -0.0)
    assert same(value(down, [-0.0, 0.0], [1.0, -1.0], c), -0.0)
    assert same(value(down, [0.0, -0.0], [1.0, -1.0], c), want)
    assert same(value(down, [0.0], [-1.0], c), -0.0)


@given(rows, st.sampled_from(DETERMINISTIC))
def test_exact_is_a_sum_of_fractions(row: list[tuple[int, int]], rounding: str) -> None:
    pairs = [(reference.decode(x & 0xBFFF, "bf16"), reference.decode(y & 0xBFFF, "bf16")) for x, y in row]
    total = sum((Fraction(x) * Fraction(y) for x, y in pairs), Fraction(3, 8))
    got = value(acc.Exact("fp16", rounding), [x for x, _ in pairs], [y for _, y in pairs], 0.375, fmt="bf16")
    assert got == reference.round_to(total, "fp16", rounding=rounding)


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_pairwise_is_a_tree_in_numpy(count: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(count) * 2.0 ** rng.integers(-10, 10, count)).astype(np.float16)
    level = []
    for start in range(0, count, block):
        t = np.float32(0)
        for v in x[start : start + block]:
            t = np.float32(t + np.float32(v) * np.float32(1.0009765625))
        level.append(t)
    while len(level) > 1:
        level = [np.float32(sum(level[i : i + 2], np.float32(0))) for i in range(0, len(level), 2)]
    want = np.float32(np.float32(0.1) + (level[0] if level else np.float32(0)))
    ones = [1.0009765625] * count
    assert value(acc.Pairwise("fp32", block), x, ones, float(np.float32(0.1))) == float(want)


def test_pairwise_moves_the_odd_one_up() -> None:
    """2048 + 1 is 2048 in float16: who meets whom shows."""
    full = acc.Pairwise("fp16")
    assert value(full, [1024, 1024, 1], [1, 1, 1]) == 2048  # (1024 + 1024) + 1
    assert value(full, [1, 1, 2048], [1, 1, 1]) == 2050  # (1 + 1) + 2048
    assert value(full, [2048, 1, 1, 1, 0.5], [1] * 5) == 2050  # ((2048 + 1) + (1 + 1)) + 0.5
    assert value(acc.Pairwise("fp16", 2), [2048, 1, 1, 1], [1] * 4) == 2050
    assert value(acc.Pairwise("fp16", 3), [2048, 1, 1, 1], [1] * 4) == 2048
    assert value(full, [1, 1, 1025, -1025, 2048], [1] * 5) == 2050
    assert value(full, [1, 1], [1, 1], 2048) == 2050  # c last
    assert same(value(full, [2.0**-24], [-(2.0**-20)]), 0.0)  # the tree's -0, and c
    assert same(value(full, [2.0**-24], [-(2.0**-20)], -0.0), -0.0)


def word(seed: int, index: int, stream: int, k: int) -> int:
    return reference.philox4x32((index & 0xFFFFFFFF, index >> 32, stream, k // 4), (seed & 0xFFFFFFFF, seed >> 32))[
        k % 4
    ]


@pytest.mark.parametrize(("bits", "product"), [(None, None), (5, None), (None, "e5m2"), (3, "bf16")])
def test_stochastic_words_of_sum_and_product(bits: int | None, product: str | None, rng: np.random.Generator) -> None:
    model = acc.Sequential("fp16", "stochastic", product=product, random_bits=bits)
    more: dict[str, Any] = {"rounding": "stochastic", "random_bits": model.random_bits}
    results = set()
    for seed, index, first in itertools.product((7, 2**40 + 7), (5, 2**33 + 5), (0, 6)):
        a, b = (rng.standard_normal(9).astype(np.float16).tolist() for _ in range(2))
        r = Fraction(0)
        for k, (x, y) in enumerate(zip(a, b, strict=True), first):
            p = Fraction(x) * Fraction(y)
            if product is not None:
                p = Fraction(reference.round_to(p, product, word=word(seed, index, 4, k), **more))
            r = Fraction(reference.round_to(p + r, "fp16", word=word(seed, index, 3, k), **more))
        assert value(model, a, b, seed=seed, index=index, first_k=first) == r
        results.add(value(model, [0.3330078125] * 9, [0.0999755859375] * 9, seed=seed, index=index, first_k=first))
    assert len(results) > 1


def test_sequential_policies() -> None:
    big, tiny = [65504.0] * 2, [2.0**-10, -(2.0**-10)]
    assert value(acc.Sequential("fp16"), big, [1.0] * 2) == math.inf
    assert value(acc.Sequential("fp16", overflow="saturate"), big, [1.0] * 2) == 65504
    assert value(acc.Sequential("fp16", "toward_zero"), big, [1.0] * 2) == 65504
    assert math.isnan(value(acc.Sequential("fp16", overflow="nan"), big, [1.0] * 2))
    assert math.isnan(value(acc.Sequential("e4m3fn"), [448.0] * 2, [1.0] * 2))
    assert same(value(acc.Sequential("fp16", subnormals="flush"), tiny[1:], [2.0**-5], -0.0), -0.0)
    assert value(acc.Sequential("fp16", product="e4m3fn", subnormals="flush"), [2.0**-7], [1.0]) == 0
    assert value(acc.Sequential("fp16", product="e4m3fn"), [2.0**-7], [1.0]) == 2.0**-7
    assert value(acc.Sequential("fp32", product="fp16"), big, big) == math.inf


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize(("bits", "signed"), [(8, True), (16, True), (16, False), (32, True), (5, False)])
def test_integer(overflow: str, bits: int, signed: bool, rng: np.random.Generator) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for length in (1, 2, 4):
        a, b = (rng.integers(-128, 128, 11).tolist() for _ in range(2))
        r = start = int(rng.integers(low, high + 1))
        for i in range(0, 11, length):
            r += sum(x * y for x, y in zip(a[i : i + length], b[i : i + length], strict=True))
            r = min(max(r, low), high) if overflow == "saturate" else (r - low) % 2**bits + low
        codes = [[v % 256 for v in each] for each in (a, b)]
        model = acc.Integer(bits, overflow, length, signed)
        got = reference.accumulate(model, *codes, start % 2**bits, formats=("int8", "int8"))
        assert got == r % 2**bits


# --------------------------------------------------------------------------------------------------------- chunks
INNER = [acc.Sequential("fp16"), acc.Pairwise("bf16", 2), acc.Exact(), acc.FusedTruncated(4, 24), acc.FmaPairOddFirst()]


@pytest.mark.parametrize("inner", INNER, ids=repr)
@pytest.mark.parametrize(
    "outer", [acc.Sequential("fp32"), acc.Sequential("fp16", "to_odd", False), acc.Pairwise("fp16", 2)]
)
def test_chunks(inner: acc.Accumulator, outer: Any, rng: np.random.Generator) -> None:
    """The inner sums are those of the chunks alone; the outer one is its own sum of them, times one."""
    a, b = (rng.standard_normal(23).astype(np.float32).view(np.uint32) >> 16 for _ in range(2))
    for every in (1, 4, 6, 23, 50):
        parts = []
        for i in range(0, 23, every):
            code = reference.accumulate(
                inner, a[i : i + every].tolist(), b[i : i + every].tolist(), formats=("bf16",) * 2
            )
            parts.append(reference.decode(code, inner.result_format or "fp32"))
        start = reference.encode(0.3, outer.format)
        plain = replace(outer, product=None, fused=True) if isinstance(outer, acc.Sequential) else outer
        want = value(plain, parts, [1.0] * len(parts), reference.decode(start, outer.format), fmt="fp32")
        model = acc.Chunked(inner, every, outer)
        got = reference.accumulate(model, a.tolist(), b.tolist(), start, formats=("bf16", "bf16"))
        assert reference.decode(got, outer.format) == want


def test_chunks_draw_by_global_k_and_by_chunk(rng: np.random.Generator) -> None:
    inner, outer = acc.Sequential("fp16", "stochastic"), acc.Sequential("e5m7", "stochastic")
    more: dict[str, Any] = {"rounding": "stochastic", "random_bits": outer.random_bits}
    for _ in range(5):
        a, b = (rng.standard_normal(10).astype(np.float16).tolist() for _ in range(2))
        r = Fraction(0)
        for number, start in enumerate(range(0, 10, 3)):
            t = value(inner, a[start : start + 3], b[start : start + 3], seed=9, index=4, first_k=start)
            r = Fraction(reference.round_to(Fraction(t) + r, "e5m7", word=word(9, 4, 5, number), **more))
        assert value(acc.Chunked(inner, 3, outer), a, b, seed=9, index=4) == r


def test_chunks_cut_scales_and_lose_payloads() -> None:
    one = reference.encode(1.0, "e4m3fn")
    model = acc.Chunked(acc.FusedTruncatedScaled(), 64)
    how = {"formats": ("e4m3fn", "e4m3fn"), "scales": ([127, 128, 129], [127] * 3)}
    assert reference.decode(reference.accumulate(model, [one] * 70, [one] * 70, **how), "fp32") == 32 + 64 + 4 * 6
    nan = reference.accumulate(acc.Chunked(acc.FusedTruncated(4, 25)), [0x7F], [one], formats=how["formats"])
    assert nan == 0x7FC00000


def test_no_products() -> None:
    none: dict[str, Any] = {"formats": ("bf16", "bf16")}
    minus_zero = 0x80000000
    composed = (
        acc.Sequential(),
        acc.Exact(),
        acc.Pairwise(),
        acc.Chunked("fp16"),
        acc.Chunked("fp16", outer=acc.Pairwise()),
    )
    for model in (*composed, acc.FusedTruncated(16, 25), acc.EvenOddPair()):
        assert reference.accumulate(model, [], [], **none) == 0
        assert reference.accumulate(model, [], [], minus_zero, **none) == minus_zero
    assert reference.accumulate(acc.FusedTruncated(4, 23, c_format="fp16"), [], [], 0x3C00, **none) == 0x3F800000


BAD: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
    (TypeError, "`model`", "exact", {}),
    (ValueError, "`a` and `b`", acc.Exact(), {"b": [0]}),
    (ValueError, "`model`.*'nvidia-hopper'", acc.Chunked("nvidia-hopper"), {}),
    (ValueError, "`c_format`", acc.Sequential(), {"c_format": "fp16"}),
    (ValueError, "`c_format`", acc.FusedTruncated(4, 23, c_format="fp16"), {"c_format": "fp32"}),
    (ValueError, "`scales`", acc.Exact(), {"scales": ([0], [0])}),
    (ValueError, "`scales`", acc.FusedTruncatedScaled(), {}),
    (ValueError, "`scales`", acc.FusedTruncatedScaled(), {"scales": ([0, 0], [0])}),
    (ValueError, "multiple of 32", acc.Chunked(acc.FusedTruncatedScaled(), 48), {"scales": ([0], [0])}),
    (ValueError, "`formats`", acc.Integer(), {}),
    (ValueError, "`formats`", acc.FusedTruncated(4, 23), {"formats": ("int8", "int8")}),
    (ValueError, "`formats`", acc.FmaPairOddFirst(), {"formats": ("fp64", "fp64")}),
    (ValueError, "`formats`", acc.Fp8ViaF16(), {"formats": ("bf16", "bf16"), "a": [0x7F00, 0]}),
]


@pytest.mark.parametrize(("error", "said", "model", "more"), BAD)
def test_bad_input(error: type[Exception], said: str, model: Any, more: dict[str, Any]) -> None:
    how = {"a": [0, 0], "b": [0, 0], "formats": ("bf16", "bf16"), **more}
    with pytest.raises(error, match=said):
        reference.accumulate(model, **how)
