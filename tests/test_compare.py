"""compare_accumulators: counts and ulp against plain loops, smallest inputs that reproduce, planted bugs told apart."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _inputs, _shrink
from lowprec._comparison import _exactly


def bits(x: Any) -> int:
    raw = np.asarray(x)
    return int(raw.view(f"u{raw.dtype.itemsize}"))


def reproduce(pair: Any, accumulators: list[Any], dtype: Any, **how: Any) -> None:
    """Check that a smallest input gives the results that it says, and that they differ."""
    small = pair.smallest
    for accumulator, result in zip(accumulators, small.results, strict=True):
        again = lp.vecdot(small.a, small.b, dtype, accumulator=accumulator, c=small.c, **how)
        assert bits(again) == bits(result)
    assert bits(small.results[0]) != bits(small.results[1]) or small.results[0].dtype != small.results[1].dtype
    for x, fmt in zip((small.a, small.b), dtype if isinstance(dtype, tuple) else (dtype, dtype), strict=True):
        if fmt is not None:
            np.testing.assert_array_equal(lp.round_to(x, fmt), x)


# ------------------------------------------------------------------------------------------------------ counts and ulp
@pytest.mark.parametrize("shape", [((5, 40), (40, 7)), ((40,), (40, 7)), ((5, 40), (40,)), ((3, 1, 5, 40), (2, 40, 7))])
def test_counts_are_those_of_a_loop(rng: np.random.Generator, shape: tuple[Any, Any]) -> None:
    a, b = (rng.standard_normal(each).astype(np.float32) for each in shape)
    names = ["fp32", "nvidia-hopper", "nvidia-ampere"]
    result = lp.compare_accumulators(a, b, "fp16", names)
    sums = {name: np.asarray(lp.matmul(a, b, "fp16", accumulator=name)) for name in names}
    assert [(pair.first, pair.second) for pair in result.pairs] == list(itertools.combinations(names, 2))
    for pair in result.pairs:
        x, y = sums[pair.first], sums[pair.second]
        steps = np.abs(x.view(np.int32).astype(np.int64) - y.view(np.int32))
        steps = np.where(np.signbit(x) == np.signbit(y), steps, 2**62)
        assert pair.different == (x != y).sum()
        assert pair.total == x.size
        if pair.different:
            assert pair.where is not None
            assert pair.largest_ulp == steps.max() == steps[pair.where]
            reproduce(pair, [pair.first, pair.second], "fp16")


def test_equal_accumulators_do_not_differ() -> None:
    pair = lp.compare_accumulators(dtype="bf16", accumulators=["a100", lp.preset("nvidia-ampere"), "fp32"]).pairs[0]
    assert (pair.different, pair.largest_ulp, pair.where, pair.smallest) == (0, 0, None, None)


def test_ulp_by_hand() -> None:
    toward_zero = lp.Sequential("fp32", "toward_zero")
    a, b = np.array([[1.0, 2.0**-12], [3.0, 1.0]]), np.array([[1.0], [1.5 * 2.0**-12]])
    pair = lp.compare_accumulators(a, b, "fp32", ["fp32", toward_zero]).pairs[0]
    assert (pair.different, pair.largest_ulp, pair.where) == (1, 1, (0, 0))
    pair = lp.compare_accumulators(
        [[1.0, -1.0]], [[1.0], [1.0]], "fp16", ["fp32", lp.Sequential("fp32", "toward_negative")]
    )
    assert (pair.pairs[0].different, pair.pairs[0].largest_ulp) == (1, 0)  # +0 and -0


def test_results_in_different_formats() -> None:
    a, b = np.array([[1.0, 2.0**-11]]), np.array([[1.0], [1.0]])
    pair = lp.compare_accumulators(a, b, "fp16", ["fp32", lp.Sequential("fp16")]).pairs[0]
    assert (pair.different, pair.largest_ulp) == (1, 0.5)
    same = lp.compare_accumulators(a, b, "fp16", [lp.Sequential("fp16"), lp.Sequential("fp16", "toward_positive")])
    assert (same.pairs[0].different, same.pairs[0].largest_ulp) == (1, 1)


def test_result_format_is_what_ulp_counts(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 30, 30))
    for out in ("bf16", "tf32", "fp16"):
        pair = lp.compare_accumulators(a, b.T, "bf16", ["fp32", lp.Sequential("bf16")], out_dtype=out).pairs[0]
        x, y = (lp.matmul(a, b.T, "bf16", accumulator=name, out_dtype=out) for name in ("fp32", "bf16"))
        codes = [lp.encode(np.asarray(v, np.float64), out).astype(np.int64) for v in (x, y)]
        sign = 2 ** (lp.format(out).bits - 1)
        ordered = [np.where(v >= sign, sign - v, v) for v in codes]
        assert pair.different == (codes[0] != codes[1]).sum() > 0
        assert pair.largest_ulp == np.abs(ordered[0] - ordered[1]).max()
        reproduce(pair, ["fp32", "bf16"], "bf16", out_dtype=out)


def test_nan_counts_apart() -> None:
    a = np.array([[math.nan, 1.0], [1.0, 1.0]], np.float32)
    pair = lp.compare_accumulators(a, np.ones((2, 1)), "bf16", ["nvidia-hopper", "arm-bf16"]).pairs[0]
    assert (pair.different, pair.one_nan, pair.nan_payloads, pair.largest_ulp) == (0, 0, 1, 0)
    big = np.array([[2.0**120, 2.0**120, 2.0**120]])
    other = np.array([[2.0**8], [-(2.0**8)], [0.0]])
    pair = lp.compare_accumulators(big, other, "bf16", ["nvidia-hopper", "arm-bf16"]).pairs[0]
    assert (pair.different, pair.one_nan, pair.largest_ulp) == (1, 1, 0)
    assert pair.smallest is not None


def test_c_is_handed_over(rng: np.random.Generator) -> None:
    a, b, c = rng.standard_normal((4, 16)), rng.standard_normal((16, 3)), rng.standard_normal((4, 3)).astype(np.float32)
    names = ["nvidia-ampere", "amd-cdna3"]
    pair = lp.compare_accumulators(a, b, "fp16", names, c=1e6 * c).pairs[0]
    x, y = (lp.matmul(a, b, "fp16", accumulator=name, c=1e6 * c) for name in names)
    assert pair.different == (x != y).sum() > 0
    reproduce(pair, names, "fp16")


def test_operands_that_carry_their_format() -> None:
    a = np.array([[1.0, 2.0, -8.0]], ml_dtypes.bfloat16)
    b = np.array([[1.0], [2.0**-25], [0.125]], ml_dtypes.bfloat16)
    pair = lp.compare_accumulators(a, b, None, ["fp32", "exact"]).pairs[0]
    assert pair.different == 1
    assert pair.smallest.a.dtype == ml_dtypes.bfloat16
    reproduce(pair, ["fp32", "exact"], None)


def test_integers() -> None:
    names = ["x86-avx512vnni", "x86-avx512vnni-saturate"]
    pair = lp.compare_accumulators(dtype=("uint8", "int8"), accumulators=names).pairs[0]
    assert pair.different > 0
    assert len(pair.smallest.a) == 1
    reproduce(pair, names, None)
    x = np.full((2, 8), 127, np.int8)
    pair = lp.compare_accumulators(x, x.T, None, ["int32", "int16"]).pairs[0]
    assert pair.different == 4
    reproduce(pair, ["int32", "int16"], None)


def test_chance_with_a_seed(rng: np.random.Generator) -> None:
    models = [lp.Sequential("fp16", "stochastic"), lp.Sequential("fp16")]
    a, b = rng.standard_normal((2, 3, 12))
    for seed in (3, np.random.default_rng(5)):
        pair = lp.compare_accumulators(a, b.T, "fp16", models, rng=seed).pairs[0]
        assert pair.different > 0
        assert pair.smallest is not None
        assert pair.smallest.results[0] != pair.smallest.results[1]


# ----------------------------------------------------------------------------------------------------- planted bugs
RIGHT = lp.FusedTruncated(16, 25)
HALF = lp.FusedTruncated(16, 25, "fp16", "rne")
BUGS = {
    "one alignment bit less": (RIGHT, lp.FusedTruncated(16, 24)),
    "one alignment bit more": (RIGHT, lp.FusedTruncated(16, 26)),
    "block length halved": (RIGHT, lp.FusedTruncated(8, 25)),
    "block length doubled": (RIGHT, lp.FusedTruncated(32, 25)),
    "nearest for toward zero": (RIGHT, lp.FusedTruncated(16, 25, rounding="rne")),
    "bits of the result lost": (RIGHT, lp.FusedTruncated(16, 25, kept_bits=22)),
    "c added late": (lp.FusedTruncated(8, 24, rounding="rne"), lp.FusedTruncatedLateC(8)),
    "one final bit less": (lp.FusedTruncatedLateC(8), lp.FusedTruncatedLateC(8, final_bits=30)),
    "even and odd": (lp.FusedTruncatedLateC(16), lp.FusedTruncatedLateC(16, even_odd=True)),
    "exponent of zeros": (HALF, lp.FusedTruncated(16, 25, "fp16", "rne", exponent_floor=-14)),
    "order in a pair": (lp.FmaPairOddFirst(), lp.Sequential(subnormals="flush")),
    "pairs fused": (lp.BfDotFused(), lp.Sequential()),
    "length of the pair": (lp.FlushedPairwise(2), lp.FlushedPairwise(4)),
    "exact blocks": (lp.FusedExact(2), lp.FusedExact(4)),
    "tile length": (lp.EvenOddPair(32), lp.EvenOddPair(16)),
    "subnormals": (lp.Sequential(), lp.Sequential(subnormals="flush")),
    "fused": (lp.Sequential("fp16"), lp.Sequential("fp16", fused=False)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_told_apart(bug: str) -> None:
    models = list(BUGS[bug])
    dtype = "fp16" if any(model.result_format.name == "float16" for model in models) else "bf16"
    pair = lp.compare_accumulators(dtype=dtype, accumulators=models).pairs[0]
    assert pair.different > 0, bug
    reproduce(pair, models, dtype)
    assert np.count_nonzero((pair.smallest.a != 0) & (pair.smallest.b != 0)) <= 4
    assert len(pair.smallest.a) <= 36


@pytest.mark.parametrize("dtype", ["fp16", "e4m3fn"])
def test_generations_are_told_apart(dtype: str) -> None:
    names = ["nvidia-ampere", "nvidia-ada", "nvidia-hopper", "nvidia-hopper-mma", "nvidia-blackwell"]
    names = names[1:] if dtype == "e4m3fn" else names[::2]
    for pair in lp.compare_accumulators(dtype=dtype, accumulators=names).pairs:
        models = [lp.preset(name).instruction(dtype).model for name in (pair.first, pair.second)]
        assert (pair.different > 0) == (models[0] != models[1]), pair
        if pair.smallest is not None:
            reproduce(pair, [pair.first, pair.second], dtype)


def test_ampere_and_hopper_differ_on_two_terms() -> None:
    pair = lp.compare_accumulators(dtype="bf16", accumulators=["nvidia-ampere", "nvidia-hopper"]).pairs[0]
    terms = np.count_nonzero((pair.smallest.a != 0) & (pair.smallest.b != 0)) + (pair.smallest.c is not None)
    assert terms == 2
    assert len(pair.smallest.a) <= 2
    numbers = [*pair.smallest.a.tolist(), *pair.smallest.b.tolist(), pair.smallest.c or 0.0]
    assert all(x == 0 or abs(math.frexp(x)[0]) == 0.5 for x in numbers)


# ----------------------------------------------------------------------------------------------------- the shrinking
def test_shrinking_finds_the_two_terms_that_matter(rng: np.random.Generator) -> None:
    def differs(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (a == 3).any(axis=1) & (np.abs(b) >= 5).any(axis=1)

    def holds(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (a == np.round(a)).all(axis=1) & (b == np.round(b)).all(axis=1)

    a, b = rng.integers(-9, 10, (2, 50)).astype(float)
    a[11], b[40] = 3, -7
    x, y, c = _shrink.shrink(differs, holds, (a, b, 2.5))
    assert differs(x[np.newaxis], y[np.newaxis], np.zeros(1))[0]
    assert c == 0
    assert len(x) <= 2
    assert sorted([*x, *y])[-2:] == [3, 8]
    assert np.count_nonzero([*x, *y]) <= 4


def test_shrinking_keeps_places_that_matter() -> None:
    def differs(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return (
            np.zeros(len(a), bool) if a.shape[1] < 9 else (a[:, 8] * b[:, 8] != 0) & (a[:, :8] * b[:, :8] != 0).any(1)
        )

    x, y, _ = _shrink.shrink(differs, lambda a, b, c: np.ones(len(a), bool), (np.full(40, 1.7), np.full(40, -3.0), 1.0))
    assert len(x) == 9
    assert np.count_nonzero(x * y) == 2
    assert set(np.abs([*x, *y]).tolist()) == {0.0, 1.0}


# ------------------------------------------------------------------------------------------------------- built inputs
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "tf32", "fp32", "e4m3fnuz"])
def test_built_rows_are_in_their_format(dtype: str) -> None:
    fmt = lp.format(dtype)
    made = _inputs.build((fmt, fmt), 20, 30, 0)
    for x in (made.a, made.b):
        np.testing.assert_array_equal(lp.round_to(x, fmt), x)
    assert np.array_equal(made.a, _inputs.build((fmt, fmt), 20, 30, 0).a, equal_nan=True)
    assert not np.array_equal(made.a, _inputs.build((fmt, fmt), 20, 30, 1).a, equal_nan=True)
    assert sorted(set(made.kinds)) == sorted(_inputs.KINDS)
    cancel = np.array([kind == "cancel" for kind in made.kinds])
    products = made.a[cancel].astype(np.float64) * made.b[cancel]
    assert (np.abs(products.sum(axis=1)) < np.abs(products).sum(axis=1)).all()
    if fmt.has_nan:
        assert np.isnan(made.a).any()
    assert (np.abs(made.a[made.a != 0]) < fmt.smallest_normal).any()


# -------------------------------------------------------------------------------------------------- printing and errors
def test_print() -> None:
    result = lp.compare_accumulators(dtype="bf16", accumulators=["nvidia-ampere", "nvidia-hopper"], k=16, seed=1)
    text = str(result)
    small = result.pairs[0].smallest
    for words in ("built rows of 16 products", "differ on:", f"a = [{_exactly(small.a[0])}", "0x"):
        assert words in text, words
    assert result.table[0]["different"] == result.pairs[0].different
    assert "<table>" in result._repr_html_()
    assert "no difference found" in str(lp.compare_accumulators(dtype="bf16", accumulators=["fp32", "fp32"]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.operands = ""  # type: ignore[misc]


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, -3.5, 2.0**-30, -(2.0**127), 3 * 2.0**40, 0.1, 1 / 3, math.inf, 2.0**-149, 189 * 2.0**-23]
)
def test_numbers_can_be_typed_back(value: float) -> None:
    again = eval(_exactly(np.float64(value)), {"inf": math.inf})
    assert again == value
    assert math.copysign(1, again) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"accumulators": ["fp32"]}, ValueError, "`accumulators` must have two or more entries, got 1"),
        ({"accumulators": "fp32"}, TypeError, "`accumulators` must be a list"),
        ({"accumulators": 3}, TypeError, "`accumulators` must be a list"),
        ({"accumulators": ["fp32", "fp99"]}, ValueError, "`accumulator`"),
        ({"a": [1.0]}, ValueError, "`b` must be given"),
        ({"b": [1.0]}, ValueError, "`a` must be given"),
        ({"c": [1.0]}, ValueError, "`c` must be None"),
        ({"dtype": None}, ValueError, "`dtype` must be given"),
        ({"dtype": "bf17"}, ValueError, "`dtype`"),
        ({"dtype": ("bf16", "int8")}, ValueError, "two float formats or two integer formats"),
        ({"dtype": ("bf16",) * 3}, ValueError, "a pair of them"),
        ({"k": 0}, ValueError, "`k` must be from 1"),
        ({"k": 2.0}, TypeError, "`k` must be an integer"),
        ({"seed": -1}, ValueError, "`seed` must be from 0"),
        ({"dtype": "fp16", "accumulators": ["fp32", "x86-amx-bf16"]}, ValueError, "x86-amx-bf16"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        lp.compare_accumulators(**{"dtype": "bf16", "accumulators": ["fp32", "bf16"], **arguments})
