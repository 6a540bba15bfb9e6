"""The workload matmul: exact references, error bounds that hold and would not hold for less, and what it is to show."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import _matmul
from lowprec.study._matmul import matmul
from lowprec.study._matmul_data import DISTRIBUTIONS, OUTLIER_RANGE, OUTLIERS_EVERY, exact_product, operands


def records(
    word: Any, distribution: str, lengths: tuple[int, ...], seeds: int = 2, size: int = 4
) -> list[dict[str, Any]]:
    """Return the records of one setting."""
    workload = matmul(distribution, lengths, size=size, seeds=seeds)
    setting = word if isinstance(word, Arithmetic) else Arithmetic(word)
    return workload.summarise([workload.evaluate(setting, part) for part in range(len(workload.parts))])


# ---------------------------------------------------------------------------------------------------------------- data


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("k", [1, 2, 16, 300])
def test_reference_is_the_exact_sum(distribution: str, k: int) -> None:
    """Fractions, rounded once: the slow twin."""
    found = operands(distribution, k, 2, 3)
    assert found.x.shape == found.w.shape == (2, k)
    assert found.x.dtype == found.w.dtype == np.float32
    for i in range(2):
        for j in range(2):
            products = [Fraction(float(a)) * Fraction(float(b)) for a, b in zip(found.x[i], found.w[j], strict=True)]
            assert found.exact[i, j] == float(sum(products))
            assert found.sizes[i, j] == float(sum(map(abs, products)))


def test_exact_product_sees_what_cancels() -> None:
    x = np.array([[2.0**60, 1.0, -(2.0**60)]], np.float32)
    assert exact_product(x, np.ones((1, 3), np.float32)) == [[1.0]]


def test_seeds_and_lengths_give_other_numbers() -> None:
    places = [("normal", 64, 0), ("normal", 64, 1), ("normal", 65, 0), ("student_t", 64, 0)]
    firsts = {float(operands(name, k, 2, seed).w[0, 0]) for name, k, seed in places}
    assert len(firsts) == len(places)
    assert np.array_equal(operands("normal", 64, 2, 7).x, operands("normal", 64, 2, 7).x)


def test_activations_have_outlier_channels() -> None:
    x = operands("activations", 4 * OUTLIERS_EVERY, 64, 0).x
    sizes = np.sqrt(np.mean(np.square(x), axis=0))
    # The root mean square of 64 normals is within 0.5 and 1.5 of its size: 6 standard deviations of 1 / sqrt(128).
    outliers = sizes > OUTLIER_RANGE[0] / 2
    assert outliers.sum() == 4
    assert (sizes[outliers] < 1.5 * OUTLIER_RANGE[1]).all()
    assert (sizes[~outliers] < 1.5).all()
    assert (operands("lognormal", 64, 4, 0).x > 0).all()


# -------------------------------------------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(("word", "u"), [("fp32", 2.0**-24), ("bf16/bf16", 2.0**-8), ("fp16/fp16", 2.0**-11)])
@pytest.mark.parametrize("distribution", ["normal", "lognormal"])
def test_sum_error_obeys_the_worst_case(word: str, u: float, distribution: str) -> None:
    """|y - s| <= gamma(K) |x| |w| (Higham 2002, 3.1), of the rounded operands, which are (1 + u)**2 larger at most.

    The exact sum that it is compared with is rounded to float32: one more 2**-24.
    """
    for record in records(word, distribution, (4, 16, 64)):
        k = record["K"]
        gamma = k * u / (1 - k * u)
        assert 0 < record["sum_error"] <= (gamma + 2.0**-24) * (1 + u) ** 2, record


@pytest.mark.parametrize("word", ["fp32", "bf16", "fp16"])
def test_zero_mean_sums_do_not_even_walk(word: str) -> None:
    """Errors of fp32 sums stay below sqrt(K) u |x| |w| (Higham and Mary 2019, theorem 3.1, with lambda = 1).

    Not a certain bound: it fails with a probability that is negligible for the norm of 32 sums, each of which errs by
    about u here whatever K is (Higham and Mary 2020, on random data of zero mean).
    """
    for record in records(word, "normal", (256, 4096)):
        assert record["sum_error"] < 2.0**-24 * math.sqrt(record["K"])
        assert record["sum_error"] < 4 * 2.0**-24


def test_format_error_is_two_roundings() -> None:
    """X and w err by u / sqrt(3) in the root mean square at most each: sqrt(2/3) u in norm for independent errors.

    Products of independent numbers: E[(xw)^2 (dx + dw)^2] <= (2/3) u^2 E[(xw)^2]; norms of 32 sums scatter by
    sqrt(2 / 32) = 25 %: twice that is room enough, and far less than a bit. For fp32 it is the reference's rounding.
    """
    for word, u in (("bf16", 2.0**-8), ("fp16", 2.0**-11)):
        for record in records(word, "normal", (64, 1024)):
            assert record["format_error"] < 1.5 * math.sqrt(2 / 3) * u
            assert record["format_error"] > 0.3 * math.sqrt(2 / 3) * u
            assert record["error"] == pytest.approx(record["format_error"], rel=1e-3)
    assert records("fp32", "normal", (64,))[0]["format_error"] < 2.0**-24


def test_error_is_that_of_the_product() -> None:
    """The measures of one product, by hand."""
    data = operands("student_t", 64, 4, 0)
    y = lp.matmul(data.x, data.w.T, "bf16", accumulator="bf16").astype(np.float64)
    summed = lp.matmul(data.x, data.w.T, "bf16", accumulator="exact").astype(np.float64)
    record = records("bf16/bf16", "student_t", (64,), seeds=1)[0]
    norm = np.linalg.norm
    assert record["error"] == pytest.approx(norm(y - data.exact) / norm(data.exact), rel=1e-12)
    assert record["sqnr_db"] == pytest.approx(20 * math.log10(norm(data.exact) / norm(y - data.exact)), rel=1e-12)
    assert record["format_error"] == pytest.approx(norm(summed - data.exact) / norm(data.exact), rel=1e-12)
    assert record["sum_error"] == pytest.approx(norm(y - summed) / norm(data.sizes), rel=1e-12)
    drift = np.sum((y - summed) * np.sign(summed)) / np.sum(np.abs(summed))
    assert record["bias"] == pytest.approx(drift, rel=1e-9)
    ulp = np.ldexp(1.0, np.frexp(data.exact)[1] - 24)
    assert record["max_ulp"] == np.max(np.abs(y - data.exact) / ulp)
    assert "error_low" not in record
    assert record["not_finite"] == 0


def test_spread_is_over_seeds() -> None:
    whole = records("bf16", "normal", (64,), seeds=3)[0]
    single = [records("bf16", "normal", (64,), seeds=1)[0]["error"]]
    for seed in (1, 2):
        workload = matmul("normal", 64, size=4, seeds=1, seed=seed)
        single.append(workload.summarise([workload.evaluate(Arithmetic("bf16"), 0)])[0]["error"])
    assert (whole["error_low"], whole["error_high"]) == (min(single), max(single))
    assert min(single) < whole["error"] < max(single)


# --------------------------------------------------------------------------------------------- what it is there to show


def test_bf16_sums_stick() -> None:
    """A sum of positive products stops where the next one is below half a gap, 2**-9 of it.

    Products have the mean e (of lognormals with variances 1 and 1), so sums of K stop at the order of 2**9 e, but for
    the rare large ones; 65536 e is 2**7 times as much. Most of the sum is lost, towards zero; fp32 loses 1e-5 at most.
    """
    short, long = records("bf16/bf16", "lognormal", (16, 65536), seeds=1, size=2)
    assert short["error"] < 16 * 2.0**-8
    assert 0.75 < long["error"] <= 1
    assert long["bias"] == pytest.approx(-long["error"], rel=0.01)  # one sign
    assert records("bf16", "lognormal", (65536,), seeds=1, size=2)[0]["sum_error"] < 1e-5


def test_fp16_sums_overflow() -> None:
    """The true sum, 65536 e = 178000, is beyond fp16's 65504; that of 4096 is not, but it begins to stick."""
    short, long = records("fp16/fp16", "lognormal", (4096, 65536), seeds=1, size=2)
    assert short["not_finite"] == 0
    assert 0.05 < short["error"] < 0.5
    assert long["not_finite"] == 1
    assert long["error"] == long["max_ulp"] == math.inf
    assert long["sqnr_db"] == -math.inf
    assert records("fp16", "lognormal", (65536,), seeds=1, size=2)[0]["not_finite"] == 0


def test_tensor_cores_truncate_towards_zero() -> None:
    """Volta cuts every sum of four to 24 bits: it errs by 0 to 2**-23 of it, by half of that in the mean.

    Over K / 4 steps with a sum that grows evenly from 0 to s, the mean size is s / 2, and a number's gap is 2**-23 to
    2**-22 of ... its power of two: between 1/4 and 1 of K / 4 * 2**-23 s / 2 is lost. Nearest even has no such drift.
    """
    k = 4096
    step = k / 4 * 2.0**-23 / 2
    volta = records("nvidia-volta:fp16", "lognormal", (k,))[0]
    assert -2 * step < volta["bias"] < -step / 4
    assert volta["sum_error"] == pytest.approx(-volta["bias"], rel=0.1)
    nearest = records("fp16", "lognormal", (k,))[0]
    assert abs(nearest["bias"]) < step / 50
    # Of any sign the sums are, the drift is towards zero.
    assert records("nvidia-hopper:bf16", "normal", (k,))[0]["bias"] < 0


def test_fp8_on_fourteen_bits() -> None:
    """Hopper's FP8 aligns 32 products and the sum to 13 fraction bits and cuts: up to 2**-13 of the largest each time.

    Over K / 32 steps a positive sum loses K / 32 * 2**-13 at most of itself for each of the 33 terms cut, and 1/8 of
    that in the mean at least; the same products summed in fp32 lose nothing that could be seen beside it.
    """
    k = 1024
    hopper, plain = (records(word, "lognormal", (k,))[0] for word in ("nvidia-hopper:e4m3fn", "e4m3fn"))
    assert hopper["bias"] < -k / 32 * 2.0**-13 / 8
    assert hopper["bias"] > -33 * k / 32 * 2.0**-13
    assert hopper["sum_error"] > 1000 * plain["sum_error"]
    assert hopper["format_error"] == plain["format_error"]  # the same operands: only the sum differs


def test_planted_bug_a_sum_in_fp32_does_not_stick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above can fail: an arithmetic that forgets its accumulator is seen."""
    real = _matmul._product
    monkeypatch.setattr(_matmul, "_product", lambda arithmetic, x, w: real(Arithmetic("bf16"), x, w))
    with pytest.raises(AssertionError):
        test_bf16_sums_stick()
    with pytest.raises(AssertionError):
        test_fp16_sums_overflow()


# --------------------------------------------------------------------------------------------------------- the workload


def test_scales_that_differ_are_not_compared() -> None:
    """Sums in fp16 need smaller scales than exact ones, so the operands differ, and so would the two sums."""
    record = records("e4m3fn/fp16", "normal", (64,))[0]
    assert record["sum_error"] is record["format_error"] is record["bias"] is None
    assert record["error"] > 0
    assert "sum_error_low" not in record
    assert records("e4m3fn/fp16", "normal", (64,), seeds=1)[0]["error"] > 0
    plain = records(Arithmetic("e4m3fn", "fp16", scales="none"), "normal", (64,))[0]
    assert plain["sum_error"] > 0


@pytest.mark.parametrize("word", ["mxfp8_e4m3", "nvfp4", "bf16@int4", "int8 2:4"])
def test_other_arithmetics_run(word: str) -> None:
    for record in records(word, "activations", (64,)):
        assert 0 < record["error"] < 1


def test_calibrated_weights_run() -> None:
    assert 0 < records(Arithmetic("fp32", weights="gptq:int4/16"), "normal", (32,), seeds=1)[0]["error"] < 1


def test_table_and_notes() -> None:
    result = lp.study(
        "matmul", ["bf16", "e4m3fn/fp16"], K=(16, 64), size=2, seeds=2, distribution="normal", progress=False
    )
    assert [(row["label"], row["K"]) for row in result.table] == [
        ("bf16", 16), ("bf16", 64), ("e4m3fn/fp16", 16), ("e4m3fn/fp16", 64)
    ]  # fmt: skip
    assert result.axes == ("K",)
    assert result.axis == "K"
    assert result.kinds[0] == "growth"
    lines = str(result).splitlines()
    assert lines[1].split() == ["setting", "K=16", "K=64"]
    assert lines[3].split()[1:] == [f"{row['error']:.1e}" for row in result.table[:2]]
    assert any("Not told apart for e4m3fn/fp16" in note for note in result.notes)


def test_fingerprint_tells_parts_apart() -> None:
    made = [matmul(), matmul(seed=1), matmul(size=4), matmul(K=16), matmul("normal"), matmul(seeds=1)]
    assert len({each.fingerprint() for each in made}) == len(made)
    assert matmul().fingerprint() == matmul().fingerprint()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"distribution": "gaussian"},
            ValueError,
            "`distribution` must be of normal, student_t, lognormal, activations",
        ),
        ({"distribution": "lognorm"}, ValueError, "the closest: 'lognormal', 'normal'"),
        ({"distribution": 3}, TypeError, "`distribution` must be a name or names, got 3 of type int"),
        ({"distribution": []}, ValueError, "`distribution` must have a value, got none"),
        ({"K": 0}, ValueError, "`K` must be from 1 to 16777216, got 0"),
        ({"K": [16, 2.5]}, TypeError, "`K` must be an integer or integers, got 2.5 of type float"),
        ({"K": True}, TypeError, "`K` must be an integer or integers, got True"),
        ({"size": 0}, ValueError, "`size` must be from 1 to"),
        ({"seeds": 0}, ValueError, "`seeds` must be from 1 to"),
        ({"seed": -1}, ValueError, "`seed` must be from 0 to"),
        ({"seed": "1"}, TypeError, "`seed` must be an integer, got '1' of type str"),
    ],
)
def test_bad_options(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        matmul(**arguments)


def test_smallest_sizes() -> None:
    for record in records("fp32", "normal", (1,), seeds=1, size=1):
        assert record["error"] <= 2.0**-24
        assert record["sum_error"] == 0
    assert _matmul.LENGTHS[0] == 16
    assert _matmul.LENGTHS[-1] == 65536
