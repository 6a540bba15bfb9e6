"""lp.cost.pareto: candidates, products, measures, prices, the front by its definition, the picture, and bad input."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec import reference
from lowprec.cost import Candidate, ParetoResult, _accuracy, _emulation, _pareto, _pareto_plot, _pareto_result, _prices
from lowprec.cost._candidates import DEFAULT
from lowprec.cost._pareto_result import front

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 64)).astype(np.float32)
W = RNG.standard_normal((5, 64)).astype(np.float32)
QUICK = ["bf16", "int8", "mxfp4", "e4m3fn/exact"]


def pareto(*arguments: Any, **others: Any) -> ParetoResult:
    return lp.cost.pareto(*arguments, progress=False, **others)


def by_name(result: ParetoResult) -> dict[str, Any]:
    return {record["candidate"]: record for record in result.table}


# --------------------------------------------------------------------------------------------------------- candidates
@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("bf16", "bf16/fp32"),
        (" BF16 / FP16 ", "bf16/fp16"),
        ("float8_e4m3fn/exact", "e4m3fn/exact"),
        ("bf16/float32", "bf16/fp32"),
        ("int8/int16_saturate", "int8/int16_saturate"),
        ("fp64", "fp64/fp64"),
        ("int8", "int8/int32"),
        ("int8@int4/int24 2:4", "int8@int4/int24 2:4"),
        ("e4m3fn@e5m2", "e4m3fn@e5m2/fp32"),
        ("nvidia-hopper:e4m3fn", "e4m3fn/nvidia-hopper"),
        ("e4m3fn/h100", "e4m3fn/nvidia-hopper"),
        ("mxfp4", "mxfp4"),
        ("mxfp4 dot16 2:4", "mxfp4 2:4 dot16"),
        ("bf16@nf4", "bf16@nf4/fp32"),
        ("bf16 dot8", "bf16/fp32 dot8"),
        (("bf16",), "bf16/fp32"),
        (("e4m3fn", lp.Sequential("bf16")), "e4m3fn/bf16"),
        (("int8", None, "2:4"), "int8/int32 2:4"),
        ((("int8", "int4"), "int24"), "int8@int4/int24"),
        ({"dtype": "e2m1fn", "accumulator": "exact", "lanes": 4}, "e2m1fn/exact dot4"),
        (lp.format("bf16"), "bf16/fp32"),
        (lp.block_format("mxint8"), "mxint8"),
        ("e5m7", "e5m7/fp32"),
    ],
)
def test_words(given: Any, word: str) -> None:
    made = Candidate.parse(given)
    assert str(made) == word
    assert Candidate.parse(word) == made
    assert str(Candidate.parse(made)) == word


def test_defaults_are_candidates_that_differ() -> None:
    words = [str(Candidate.parse(word)) for word in DEFAULT]
    assert len(set(words)) == len(DEFAULT) >= 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("bf17", "closest: 'bf16'"),
        ("mxfp5", "'mxfp4'"),
        ("fp8", "ambiguous"),
        ("bf16/fp33", "closest: 'fp32'"),
        ("nvidia-hoper:bf16", "closest: 'nvidia-hopper'"),
        ("nvidia-hopper:bf16/fp32", "one accumulator"),
        ("int8 3:4", '"2:4", "1:2"'),
        ("int8 dot0", "`lanes` must be from 1"),
        ("int8@int4@int4", "must hold words"),
        ("bf16 int8", "must hold words"),
        (":bf16", "must hold words"),
        ("@int4", "must hold words"),
        ("", "must hold words"),
        ("int8@bf16", "two floats, two integers"),
        ("e4m3fn@int4", "bf16@int4"),
        ("nf4", "bf16@nf4"),
        ("q4_0", "bf16@q4_0"),
        ("mxfp4@bf16", "pair the blocks"),
        ("mxfp4@nvfp4", "blocks of one size"),
        ({"accumulator": "fp32"}, "`dtype`"),
        ({"dtype": "bf16", "lane": 3}, "`dtype`"),
        (("bf16", None, None, None), "tuples"),
        ((("bf16", "bf16", "bf16"), None), "pair"),
    ],
)
def test_bad_words(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"`(formats|accumulator|sparsity|lanes|name)` must") as error:
        Candidate.parse(given)
    assert said in str(error.value)


def test_bad_kinds_of_words() -> None:
    with pytest.raises(TypeError, match="`formats` must hold words"):
        Candidate.parse(3.5)
    with pytest.raises(TypeError, match="`lanes` must be an integer"):
        Candidate.parse({"dtype": "bf16", "lanes": 2.0})
    with pytest.raises(TypeError, match="`formats` must be a list"):
        pareto(X, W, 7)


# ----------------------------------------------------------------------------------------------------------- products
def exact_sum(a: np.ndarray, b: np.ndarray) -> list[list[Fraction]]:
    return [
        [sum((Fraction(float(p)) * Fraction(float(q)) for p, q in zip(r, s, strict=True)), Fraction(0)) for s in b]
        for r in a
    ]


def codes(values: np.ndarray, fmt: str) -> tuple[np.ndarray, np.float32]:
    """Quantise by the rule: the largest magnitude becomes the largest value, every step in float32."""
    found = lp.format(fmt)
    scale = np.float32(np.abs(values).max()) / np.float32(found.max)
    ratio = (values / scale).astype(np.float32)
    return np.vectorize(
        lambda r: float(reference.decode(reference.encode(float(r), found, overflow="saturate"), found))
    )(ratio), scale


def single(value: Fraction) -> np.float32:
    return np.float32(float(reference.decode(reference.encode(value, lp.format("fp32")), lp.format("fp32"))))


@pytest.mark.parametrize(
    ("fmt", "accumulator"), [("e4m3fn", "exact"), ("e2m1fn", "exact"), ("int8", "int32"), ("int4", "int24")]
)
def test_scaled_products_by_fractions(fmt: str, accumulator: str) -> None:
    x, w = X[:3, :12], W[:2, :12]
    (p, s), (q, t) = codes(x, fmt), codes(w, fmt)
    want = np.array([[single(v) * (s * t) for v in row] for row in exact_sum(p, q)], np.float32)
    got = _emulation.product(Candidate.parse(f"{fmt}/{accumulator}"), x, w, "tensor")
    assert (got == want).all()
    # and the accuracy of it, against the exact product, by fractions
    true = exact_sum(x, w)
    noise = sum(
        (Fraction(float(g)) - v) ** 2
        for row, line in zip(got, true, strict=True)
        for g, v in zip(row, line, strict=True)
    )
    signal = sum(v * v for line in true for v in line)
    record = pareto(x, w, [f"{fmt}/{accumulator}"]).table[0]
    assert record["accuracy"] == pytest.approx(10 * math.log10(signal / noise), abs=1e-9)


def test_plain_products_are_those_of_linear() -> None:
    for word, dtype, accumulator in (
        ("tf32", "tf32", None),
        ("fp16/bf16", "fp16", "bf16"),
        ("nvidia-hopper:bf16", "bf16", "nvidia-hopper"),
    ):
        got = _emulation.product(Candidate.parse(word), X, W, "tensor")
        assert (got == lp.linear(X, W, dtype=dtype, accumulator=accumulator)).all()
    for name in ("mxfp4", "nvfp4", "mxint8"):
        assert (_emulation.product(Candidate.parse(name), X, W, "tensor") == lp.linear(X, W, dtype=name)).all()
    got = _emulation.product(Candidate.parse("int8"), X, W, "row")
    assert (got == lp.linear(lp.quantize(X, "int8", axis=0), lp.quantize(W, "int8", axis=0))).all()


def test_sparse_products_are_those_of_pruned_weights() -> None:
    dense = lp.sparsify(W, "2:4").to_dense()
    for word in ("int8", "bf16", "e4m3fn/exact", "mxfp4", "bf16@int4"):
        got = _emulation.product(Candidate.parse(f"{word} 2:4"), X, W, "tensor")
        assert (got == _emulation.product(Candidate.parse(word), X, dense, "tensor")).all(), word


def test_presets_of_integers_and_of_blocks() -> None:
    got = _emulation.product(Candidate.parse("nvidia-hopper:int8"), X, W, "tensor")
    assert (got == _emulation.product(Candidate.parse("int8"), X, W, "tensor")).all()
    found = by_name(pareto(X, W, ["nvidia-hopper:int8", "nvidia-blackwell:nvfp4"]))
    assert found["int8/nvidia-hopper"]["cost"] == lp.cost.mac("int8").ge
    model = lp.preset("nvidia-blackwell").instruction("e2m1fn", scales=("e4m3fn", 16)).model
    assert found["nvfp4/nvidia-blackwell dot32"]["cost"] == lp.cost.dot("nvfp4", 32, model).per_lane


def test_stored_weights_are_decoded_and_rounded() -> None:
    got = _emulation.product(Candidate.parse("bf16@int4"), X, W, "row")
    assert (got == lp.linear(X, lp.quantize(W, "int4", axis=0).dequantize(), dtype="bf16")).all()


def test_dot_units_add_as_their_cost_says() -> None:
    model = Candidate.parse("bf16 dot16").model()
    assert model == lp.FusedTruncated(16, 23, rounding="nearest_even")
    got = _emulation.product(Candidate.parse("bf16 dot16"), X, W, "tensor")
    assert (got == lp.linear(X, W, dtype="bf16", accumulator=model)).all()
    assert Candidate.parse("e4m3fn/fp16 dot8").model() == lp.FusedTruncated(8, 10, "fp16", rounding="nearest_even")
    for word in ("int8 dot16", "e4m3fn/exact dot4", "mxfp4 dot16"):
        plain = word.rsplit(" ", 1)[0]
        assert Candidate.parse(word).model() == Candidate.parse(plain).model()


def test_sums_of_scaled_floats_stay_inside_the_accumulator() -> None:
    """The worst there is: all of one sign, all as large as can be."""
    x = np.full((2, 4096), 3.0, np.float32)
    for word in ("e4m3fn/fp16", "e5m2/fp16", "e4m3fn/fp16 dot16"):
        y = _emulation.product(Candidate.parse(word), x, x, "tensor")
        assert np.isfinite(y).all(), word
        assert np.isfinite(_emulation.product(Candidate.parse(word), x[:, :1], x[:, :1], "row")).all(), word
    # sqrt(65504 / K) is 3.999 for K = 4096, of which 3.75 is left, and 255.9 for K = 1, which would round to 256
    assert _emulation.divisor(lp.format("e4m3fn"), lp.Sequential("fp16"), 4096) == 3.75
    assert _emulation.divisor(lp.format("e4m3fn"), lp.Sequential("fp16"), 1) == 240
    assert _emulation.divisor(lp.format("e4m3fn"), lp.Sequential("fp32"), 4096) is None
    assert _emulation.divisor(lp.format("int8"), lp.Integer(16), 4096) is None


# ----------------------------------------------------------------------------------------------------------- measures
def test_measures_by_hand() -> None:
    ref = np.array([[1.0, 2.0, -4.0], [0.0, 3.0, 1.0]])
    y = ref + np.array([[0.5, 0.0, 0.0], [0.0, -2.5, 0.0]])
    assert _accuracy.mse(y, ref) == (0.25 + 6.25) / 6
    assert _accuracy.snr_db(y, ref) == pytest.approx(10 * math.log10(31 / 6.5), abs=1e-12)
    assert _accuracy.max_rel(y, ref) == 2.5 / 3
    assert _accuracy.max_ulp(y, ref) == 2.5 / 2.0**-22  # 3 lies where float32 numbers are 2**-22 apart
    assert _accuracy.top1(y, ref) == 0.5
    assert _accuracy.snr_db(ref, ref) == math.inf
    assert _accuracy.max_rel(ref, ref) == 0
    assert _accuracy.max_rel(ref + 1, ref) == math.inf  # where the reference is 0
    assert _accuracy.max_ulp(ref + 2.0**-149, ref * 0) > 2.0**149
    assert _accuracy.snr_db(ref, ref * 0) == -math.inf


def test_ulp_is_the_gap_of_float32() -> None:
    ref = np.float32([1e-45, 1e-40, 1.5e-38, 0.1, 1, 1.9999999, 2, 3e38]).astype(np.float64)
    gaps = np.spacing(ref.astype(np.float32)).astype(np.float64)
    for value, gap in zip(ref, gaps, strict=True):
        assert _accuracy.max_ulp(np.array([value + gap]), np.array([value])) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", list(_accuracy.METRICS))
def test_more_bits_are_better_in_every_measure(metric: str) -> None:
    """A measure that goes the wrong way would turn these around."""
    result = pareto(X, W, ["fp32", "e2m1fn"], metric=metric, cost=lambda c: 1.0)
    best, worst = result.table
    assert (best["front"], worst["front"]) == (True, False)
    assert (best["accuracy"] > worst["accuracy"]) is result.larger_is_better


def test_own_measure_and_own_cost() -> None:
    def offset(y: Any, ref: Any) -> float:
        return float(np.abs(y.mean() - ref.mean()))

    result = pareto(X, W, ["bf16", "int4"], metric=offset, cost=lambda c: c.x.bits, larger_is_better=False)
    assert (result.metric, [record["cost"] for record in result.table]) == ("offset", [16.0, 4.0])
    want = (
        _emulation.product(Candidate.parse("bf16"), X, W, "tensor").mean() - _emulation.reference_product(X, W).mean()
    )
    assert result.table[0]["accuracy"] == abs(want)
    assert "offset" in str(result)


def test_own_reference_and_leading_axes() -> None:
    y = _emulation.product(Candidate.parse("bf16"), X, W, "tensor")
    result = pareto(X.reshape(2, 3, 64), W, ["bf16", "fp16"], reference=y.reshape(2, 3, 5))
    assert result.table[0]["accuracy"] == math.inf
    assert result.table[0]["front"]
    assert result.shape == (6, 64, 5)


# -------------------------------------------------------------------------------------------------------------- front
def by_definition(points: list[tuple[float, float]], larger: bool) -> list[bool]:
    """Compare point against point; what is not finite, but for a perfect accuracy, takes no part."""

    def usable(point: tuple[float, float]) -> bool:
        cost, value = point
        return math.isfinite(cost) and not math.isnan(value) and value != (-math.inf if larger else math.inf)

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        cheap, dear = one[0] <= other[0], one[0] < other[0]
        good, better = (one[1] >= other[1], one[1] > other[1]) if larger else (one[1] <= other[1], one[1] < other[1])
        return cheap and good and (dear or better)

    return [usable(p) and not any(usable(q) and beats(q, p) for q in points) for p in points]


def wrong_fronts(found: Callable[[list[tuple[float, float]], bool], list[bool]]) -> int:
    """Count the random sets, full of ties and of numbers that are none, on which a rule is not the definition."""
    rng = np.random.default_rng(5)
    wrong = 0
    for trial in range(300):
        n = int(rng.integers(1, 12))
        costs = rng.integers(1, 6, n).astype(float)
        values = rng.integers(-3, 4, n).astype(float)
        for place in range(n):
            if rng.random() < 0.15:
                values[place] = rng.choice([math.nan, math.inf, -math.inf])
            if rng.random() < 0.05:
                costs[place] = rng.choice([math.nan, math.inf])
        points = list(zip(costs.tolist(), values.tolist(), strict=True))
        wrong += found(points, bool(trial % 2)) != by_definition(points, bool(trial % 2))
    return wrong


def test_front_is_its_definition() -> None:
    assert wrong_fronts(front) == 0


@pytest.mark.parametrize(
    "bug",
    [
        lambda points, larger: front(points, not larger),  # the measure's direction flipped
        lambda points, larger: [
            b or (math.isfinite(p[0]) and i == 0)
            for i, (p, b) in enumerate(zip(points, front(points, larger), strict=True))
        ],
        lambda points, larger: [
            b and points.index(p) == i for i, (p, b) in enumerate(zip(points, front(points, larger), strict=True))
        ],  # no ties
    ],
    ids=["direction", "a dominated point stays", "ties lost"],
)
def test_planted_front_is_seen(bug: Callable[[list[tuple[float, float]], bool], list[bool]]) -> None:
    assert wrong_fronts(bug) > 10


def check(result: ParetoResult) -> list[str]:
    """Say what is wrong with the marks and the prices of a result."""
    points = [(record["cost"], record["accuracy"]) for record in result.table]
    wrong = [
        record["candidate"]
        for record, marked in zip(result.table, by_definition(points, result.larger_is_better), strict=True)
        if marked is not record["front"]
    ]
    k = result.shape[1]
    for record in result.table:
        made = Candidate.parse(record["candidate"])
        if made.is_block:
            unit = lp.cost.dot(record["x_format"], made.lanes)
        else:
            unit = lp.cost.mac(record["x_format"], made.accumulator, k=k)
        if record["cost"] != float(unit.per_lane) or (record["cost_low"], record["cost_high"]) != (
            unit.per_lane.low,
            unit.per_lane.high,
        ):
            wrong.append(f"cost of {record['candidate']}")
        if record["unit"] != (f"dot{made.lanes}" if made.is_block else "MAC"):
            wrong.append(f"unit of {record['candidate']}")
    return wrong


def test_marks_and_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(pareto(X, W, QUICK)) == []
    with monkeypatch.context() as patch:  # planted: a scalar MAC's price for a dot unit
        patch.setattr(_prices, "dot", lambda fmt, lanes, accumulator, k: lp.cost.mac("e2m1fn"))
        assert check(pareto(X, W, QUICK)) == ["cost of mxfp4 dot32"]
    with monkeypatch.context() as patch:  # planted: everything stays
        patch.setattr(_pareto, "front", lambda points, larger: [True] * len(points))
        assert check(pareto(X, W, ["bf16", "int4/int32", "e2m3fn/exact", "mxfp4"])) != []
    with monkeypatch.context() as patch:  # planted: the measure's direction
        patch.setattr(_pareto, "front", lambda points, larger: front(points, not larger))
        assert check(pareto(X, W, QUICK)) != []


def test_nothing_that_overflows_is_on_the_front() -> None:
    big = np.full((2, 8), 300.0, np.float32)
    result = pareto(big, big, ["fp16/fp16", "bf16", "mxfp4"])
    record = by_name(result)["fp16/fp16"]
    assert math.isnan(record["accuracy"])
    assert not record["front"]
    assert "never on the front" in str(result)
    everything = pareto(big, big, ["fp16/fp16"])
    assert everything.front == []
    str(everything)


# ------------------------------------------------------------------------------------------------------------- prices
def test_gates_of_units() -> None:
    found = by_name(
        pareto(X, W, ["int8", "int8 2:4", "bf16@int4", "bf16", "nvidia-hopper:bf16", "int8 dot16", "mxfp4 2:4"])
    )
    sparse = lp.cost.mac("int8", sparsity="2:4").ge
    assert found["int8/int32 2:4"]["cost"] == sparse / 2  # half of the dense products are made
    assert found["int8/int32 2:4"]["cost_high"] == sparse.high / 2
    assert found["bf16@int4/fp32"]["cost"] == found["bf16/fp32"]["cost"]
    assert found["bf16@int4/fp32"]["bits"] == 4
    assert found["bf16/nvidia-hopper"]["unit"] == "dot16"
    assert found["bf16/nvidia-hopper"]["cost"] == float(lp.cost.mac("bf16", "nvidia-hopper").ge)
    assert found["int8/int32 dot16"]["cost"] == float(lp.cost.dot("int8", 16).per_lane)
    assert found["int8/int32"]["relative"] == 1
    plain = lp.cost.dot("mxfp4", 32).per_lane
    assert plain / 2 < found["mxfp4 2:4 dot32"]["cost"] < plain


def test_like_for_like() -> None:
    words = ["bf16", "int8", "mxfp4 dot16", "e4m3fn/exact", "nvidia-hopper:bf16"]
    result = pareto(X, W, words, unit="dot", lanes=8)
    assert [record["unit"] for record in result.table] == ["dot8", "dot8", "dot16", "dot8", "dot16"]
    assert result.table[0]["cost"] == float(lp.cost.dot("bf16", 8).per_lane)
    assert result.table[3]["cost"] == float(lp.cost.dot("e4m3fn", 8, "exact", k=64).per_lane)
    assert "Not like for like" not in str(result)
    assert "Not like for like" in str(pareto(X, W, ["bf16", "mxfp4"]))


def test_bits() -> None:
    words = [
        "fp32",
        "bf16@nf4",
        "mxfp4",
        "nvfp4",
        "mxfp6_e2m3",
        "mxint8",
        "int8 2:4",
        "int4 2:4",
        "bf16 2:4",
        "int8@int4",
    ]
    result = pareto(X, W, words, cost="bits")
    assert [record["cost"] for record in result.table] == [32, 4.5, 4.25, 4.5, 6.25, 8.25, 5, 3, 9, 4]
    assert all(record["relative"] is None for record in result.table)
    assert pareto(X, W, ["int8"], cost="bits", scales="row").table[0]["cost"] == 8 + 32 / 64


def test_energy_is_of_a_named_table() -> None:
    found = by_name(pareto(X, W, ["bf16", "int8", "int8 2:4", "fp16/fp16"], cost="energy"))
    assert found["bf16/fp32"]["cost"] == pytest.approx(0.21 + 0.38)
    assert found["int8/int32"]["cost"] == pytest.approx(0.07 + 0.03)
    assert found["int8/int32 2:4"]["cost"] == pytest.approx(0.05)
    assert found["fp16/fp16"]["relative"] == pytest.approx(5.0)
    assert {record["cost_kind"] for record in found.values()} == {"published"}
    with pytest.raises(ValueError, match=r"'e4m3fn/fp32' has none.*interpolate=True"):
        pareto(X, W, ["bf16", "e4m3fn"], cost="energy")
    guessed = pareto(X, W, ["e4m3fn"], cost="energy", interpolate=True).table[0]
    assert guessed["cost_kind"] == "interpolated"
    horowitz = pareto(X, W, ["fp32"], cost="energy", table="horowitz2014").table[0]
    assert horowitz["cost"] == pytest.approx(3.7 + 0.9)


def test_energy_of_two_widths_is_that_of_the_wider() -> None:
    found = by_name(pareto(X, W, ["fp16@fp32", "fp32@fp16", "fp32"], cost="energy"))
    assert [record["cost"] for record in found.values()] == [pytest.approx(1.31 + 0.38)] * 3


def test_energy_by_a_table_without_int8() -> None:
    found = pareto(X, W, ["fp32"], cost="energy", table="aladdin2014").table[0]
    assert found["cost"] == lp.cost.energy(1, 1, 1, "fp32", table="aladdin2014", memory=None).compute
    assert found["relative"] is None


def test_lanes_as_numpy_counts_them() -> None:
    assert pareto(X, W, ["bf16"], unit="dot", lanes=np.int64(16)).table[0]["candidate"] == "bf16/fp32 dot16"


def test_usual_candidates_without_a_price_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pareto, "_product", lambda c, x, w, scales: _emulation.reference_product(x, w))
    result = pareto(X, W, cost="energy")
    assert "int8/int32" in by_name(result)
    assert "e4m3fn/exact" in result.left_out
    assert "e4m3fn/exact" in str(result)
    assert len(result.table) + len(result.left_out) == len(DEFAULT)
    for unit in (None, "dot"):  # all of them have gates
        assert pareto(X, W, unit=unit).left_out == ()


# ------------------------------------------------------------------------------------------- the table that was known
KNOWN = {  # SNR in dB of activations from a normal and from Student's t with 3 degrees of freedom
    "mxfp4 dot32": (15.7, 14.7),
    "mxfp6_e2m3 dot32": (28.1, 27.0),
    "mxint8 dot32": (38.7, 36.3),
    "e2m1fn/exact": (14.7, 2.9),
    "int4/int24": (11.3, 1.5),
    "e3m2fn/exact": (22.6, 22.4),
    "e4m3fn/exact": (28.6, 28.7),
    "int8/int32": (36.5, 20.1),
    "e5m2/exact": (22.6, 22.6),
    "e4m3fn/fp32": (28.6, 28.7),
    "bf16/fp32": (52.6, 52.6),
    "fp16/fp32": (70.7, 70.7),
    "fp32/fp32": (131.0, 131.0),
}
ON_FRONT = {"mxfp4 dot32", "mxfp6_e2m3 dot32", "mxint8 dot32", "bf16/fp32", "fp16/fp32", "fp32/fp32"}


def test_known_table() -> None:
    """The numbers of an independent computation of 128 x 1024 x 128, and its Pareto set.

    Not the same: fp32 there was summed by BLAS in an order of its own, which loses less than one product after the
    other; one scale for all hangs on the largest of heavy-tailed numbers, so on the draw.
    """
    rng = np.random.default_rng(0)
    w = rng.standard_normal((128, 1024)).astype(np.float32)
    drawn = rng.standard_normal((128, 1024)), rng.standard_t(3, (128, 1024))
    for at, x in enumerate(drawn):
        result = pareto(x.astype(np.float32), w, list(KNOWN))
        for name, record in by_name(result).items():
            tail = at == 1 and name in ("int8/int32", "int4/int24", "e2m1fn/exact")
            near = 8.0 if name == "fp32/fp32" else 3.0 if tail else 1.0
            assert record["accuracy"] == pytest.approx(KNOWN[name][at], abs=near), name
        assert {record["candidate"] for record in result.front} == ON_FRONT


# ---------------------------------------------------------------------------------------------------- looking at them
def test_views(tmp_path: Path) -> None:
    result = pareto(X, W, QUICK)
    text = str(result)
    lines = [line for line in text.splitlines() if line.split("  ")[0] in by_name(result)]
    costs = [by_name(result)[line.split("  ")[0]]["cost"] for line in lines]
    assert costs == sorted(costs)
    assert len(costs) == 4
    assert [line.endswith("*") for line in lines] == [by_name(result)[line.split("  ")[0]]["front"] for line in lines]
    assert "4 candidates" in repr(result)
    assert "<table>" in result._repr_html_()
    with result.to_csv(tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [record["accuracy"] for record in result.table]
    assert [row["front"] for row in rows] == [str(record["front"]) for record in result.table]
    assert list(rows[0]) == list(_pareto_result.ParetoRecord.__annotations__)
    pytest.importorskip("rich")
    from rich.console import Console

    with (tmp_path / "a.txt").open("w") as file:
        Console(file=file, width=200).print(result)
    assert "mxfp4 dot32" in (tmp_path / "a.txt").read_text()


def crowd(n: int) -> ParetoResult:
    """Return a result of many candidates on a small spot."""
    rng = np.random.default_rng(1)
    records = []
    for i in range(n):
        cost, value = float(np.exp(rng.normal(6, 0.4))), float(rng.normal(30, 6))
        records.append(
            {
                "candidate": f"e4m3fn/number{i}",
                "family": ["float", "narrow", "integer", "block", "stored"][i % 5],
                "unit": "MAC",
                "cost": cost,
                "cost_low": 0.9 * cost,
                "cost_high": 1.1 * cost,
                "accuracy": value if i else math.nan,
                "front": i == 1,
            }
        )
    return ParetoResult(records, "snr_db", "SNR (dB)", True, "ge", "GE", (1, 1, 1), "tensor")  # type: ignore[arg-type]


def overlaps(figure: Any) -> int:
    """Count the pairs of labels that meet, and the labels that leave the figure."""
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_gid() == "label"]
    assert len(boxes) > 3
    inside = figure.bbox
    outside = sum(b.x0 < inside.x0 or b.x1 > inside.x1 or b.y0 < inside.y0 or b.y1 > inside.y1 for b in boxes)
    return outside + sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_labels_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from lowprec import _drawing

    assert overlaps(_pareto_plot.figure(crowd(26))) == 0
    monkeypatch.setattr(_drawing, "_places", lambda points, *others: points * 0 + [20.0, 0.0])  # planted
    assert overlaps(_pareto_plot.figure(crowd(26))) > 3


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = pareto(X, W, QUICK)
    result.plot(tmp_path / "a.svg")
    first = (tmp_path / "a.svg").read_text()
    assert all(f">{record['candidate']}<" in first or record["candidate"] in first for record in result.table)
    figure = _pareto_plot.figure(crowd(8))
    assert "number0 (nan)" in figure.axes[0].get_title(loc="right")
    assert figure.axes[0].get_xscale() == "log"
    _pareto_plot.figure(pareto(X, W, ["bf16", "int4"], metric="max_rel", cost=lambda c: c.x.bits))
    _pareto_plot.figure(pareto(X, W, ["bf16"], metric="mse", cost=lambda c: 0.0))  # no place on either axis


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    lp.cost.pareto(X, W, ["bf16", "int8"])
    assert "bf16/fp32" in capsys.readouterr().err
    pareto(X, W, ["bf16"])
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)  # not installed: no bar, and no error
    assert len(lp.cost.pareto(X, W, ["bf16", "int8"]).table) == 2
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------------------------------------------- bad input
BAD = X.copy()
BAD[2, 3] = np.nan


@pytest.mark.parametrize(
    ("arguments", "others", "kind", "said"),
    [
        ((X, W.T), {}, ValueError, "the 5 inputs of `w`"),
        ((X.astype(np.float64) * 1e200, W.astype(np.float64) * 1e200), {}, ValueError, "that float64 holds"),
        ((X, lp.quantize(W, "int8")), {}, TypeError, "`w` must be a plain array"),
        ((X, W[0]), {}, ValueError, "`w` must have shape (outputs, inputs)"),
        ((X[:, :0], W[:, :0]), {}, ValueError, "`w` must have shape"),
        ((X[:0], W), {}, ValueError, "`x` must have shape"),
        ((np.float32(1), W), {}, ValueError, "`x` must have shape"),
        ((BAD, W), {}, ValueError, "`x` must be finite, got nan at index (2, 3)"),
        ((X, W * np.inf), {}, ValueError, "`w` must be finite"),
        ((["a"], W), {}, TypeError, "`x`"),
        ((X, W, []), {}, ValueError, "`formats` must have a candidate"),
        ((X, W, ["bf17"]), {}, ValueError, "'bf16'"),
        ((X, W, QUICK, "snr"), {}, ValueError, "closest: 'snr_db'"),
        ((X, W, QUICK, 3), {}, TypeError, "`metric` must be a name or a function"),
        ((X, W, QUICK, max), {}, ValueError, "`larger_is_better` must be given"),
        ((X, W, QUICK, "mse"), {"larger_is_better": True}, ValueError, "`larger_is_better` must be False"),
        ((X, W, QUICK, "mse"), {"larger_is_better": "no"}, TypeError, "`larger_is_better`"),
        ((X, W, QUICK, "mse", "gates"), {}, ValueError, "`cost` must be one of ge, bits, energy"),
        ((X, W, QUICK, "mse", "energi"), {}, ValueError, "closest: 'energy'"),
        ((X, W, QUICK, "mse", 1), {}, TypeError, "`cost` must be a name or a function"),
        ((X, W, QUICK, "mse", lambda c: "much"), {}, TypeError, "`cost` must return a number"),
        ((X, W, QUICK, "mse", lambda c: math.nan), {}, ValueError, "`cost` must return a number, got nan for"),
        ((X, W, QUICK, lambda y, r: y), {"larger_is_better": True}, TypeError, "`metric` must return a number"),
        ((X, W, QUICK), {"accumulators": []}, ValueError, "`accumulators` must have one"),
        ((X, W, QUICK), {"accumulators": ["fp33"]}, ValueError, "'fp32'"),
        ((X, W, QUICK), {"unit": "mac"}, ValueError, "`unit` must be one of dot"),
        ((X, W, QUICK), {"lanes": 0}, ValueError, "`lanes` must be from 1"),
        ((X, W, QUICK), {"scales": "rows"}, ValueError, "closest: 'row'"),
        ((X, W, QUICK), {"scales": 1}, TypeError, "`scales`"),
        (
            (X, W, QUICK),
            {"reference": np.zeros((5, 6))},
            ValueError,
            "`reference` must have the product's shape (6, 5)",
        ),
        ((X, W, QUICK), {"reference": np.full((6, 5), np.nan)}, ValueError, "`reference` must be finite"),
        ((X, W, ["bf16"], "mse", "energy"), {"table": "horowitz"}, ValueError, "horowitz2014"),
        ((X, W, ["int8/fp32"]), {}, ValueError, "'int8/fp32'"),
        ((X, W, ["bf16/int32"]), {}, ValueError, "'bf16/int32' has none"),
        ((X, W, ["mxfp4/bf16"]), {}, ValueError, "'mxfp4/bf16 dot32' has none"),
        ((X, W, ["mxfp8_e4m3@mxfp4"]), {}, ValueError, "a dot unit takes blocks of one format"),
        ((X, W, ["nvidia-volta:bf16"]), {}, ValueError, "'bf16/nvidia-volta'"),
        ((X, W, ["uint8"]), {}, ValueError, "uint8"),
    ],
)
def test_bad_input(arguments: Any, others: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as error:
        pareto(*arguments, **others)
    assert said in str(error.value)


def test_bad_progress() -> None:
    with pytest.raises(TypeError, match="`progress` must be True or False"):
        lp.cost.pareto(X, W, QUICK, progress="yes")  # type: ignore[arg-type]


def test_each_candidate_once_with_each_accumulator() -> None:
    result = pareto(X, W, ["bf16", "bf16/fp32", "fp16"], accumulators=["fp32", "bf16"], cost="bits")
    assert list(by_name(result)) == ["bf16/fp32", "bf16/bf16", "fp16/fp32", "fp16/bf16"]
    assert list(by_name(pareto(X, W, "bf16"))) == ["bf16/fp32"]
