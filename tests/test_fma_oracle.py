"""The oracle of the other matmul tests, held against the C library, exact fractions and `lowprec.reference`."""

from __future__ import annotations

import itertools

import fma_oracle as oracle
import ml_dtypes
import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits, bits
from operands import KINDS, operands

import lowprec as lp
from lowprec import reference

ULP = 2.0**-23
HARD = np.float32(
    [
        *(0.0, 1.0, 1.5, 3.0, 2.0**24, 2.0**24 + 2, 2.0**-24, 2.0**-25, 2.0**-12, 1 + 2.0**-12, 1 - 2.0**-12),
        *(1 + ULP, 1 - ULP / 2, 1 + 3 * ULP, 2.0**-126, 2.0**-149, 2.0**-148, 2.0**-75, 2.0**-74, 1.5 * 2.0**-75),
        *(2.0**127, (2 - ULP) * 2.0**127, 2.0**64, 2.0**63 * (2 - ULP), 2.0**102, 2.0**103, np.inf, np.nan),
        *(2.0**-126 - 2.0**-149, 2.0**-63, (1 + ULP) * 2.0**-63, (1 - ULP / 2) * 2.0**-64),
    ]
)
HARD = np.concatenate([HARD, -HARD])


def hard_triples() -> np.ndarray:
    """Return every triple of the hard values (zeros, ties, thresholds of overflow and underflow, specials)."""
    return np.array(list(itertools.product(HARD, HARD, HARD)), np.float32).T


def random_triples(count: int) -> np.ndarray:
    """Return triples whose product and addend are close, opposite, or 24 to 50 bits apart (double-rounding traps)."""
    rng = np.random.default_rng(7)
    with np.errstate(all="ignore"):
        a, b = (rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32) for _ in range(2))
        b = np.where(np.abs(np.log2(np.abs(b) + 1e-38)) > 60, np.float32(rng.standard_normal(count)), b)
        near = (np.float64(a) * np.float64(b) * 2.0 ** rng.integers(-50, 51, count)).astype(np.float32)
        r = np.where(rng.random(count) < 0.4, -(a * b), near)
        r = np.where(rng.random(count) < 0.2, r + np.spacing(r), r)
        return np.array([a, b, r], np.float32)


def without_nan_sign(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), oracle.NAN32 if x.dtype == np.float32 else oracle.NAN64, x)


def test_fma32_equals_the_c_library() -> None:
    """Every hard triple and 40,000 random ones, bit for bit."""
    fmaf = oracle.libm("fmaf")
    if fmaf is None:
        pytest.skip("no fmaf in the C library")
    for triples in (hard_triples()[:, ::3], random_triples(40_000)):
        want = np.array([fmaf(*t) for t in triples.T.tolist()], np.float32)
        assert_same_bits(without_nan_sign(oracle.fma32(*triples)), without_nan_sign(want))


def test_fma32_equals_fractions_and_the_reference() -> None:
    """The same by exact arithmetic, ours and the package's."""
    triples = np.concatenate([hard_triples()[:, ::23], random_triples(2_000)], axis=1)
    got = without_nan_sign(oracle.fma32(*triples))
    for exact in (oracle.fma_exact, lambda a, b, r: reference.fma(a, b, r, "fp32")):
        want = np.array([exact(*t) for t in triples.T.tolist()], np.float32)
        assert_same_bits(got, without_nan_sign(want))


def test_fma64_equals_fractions_and_the_reference() -> None:
    """Binary64, on doubles whose bits reach into the 53rd."""
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 500))
    r = -a * b * 2.0 ** rng.choice([0.0, 0.0, 3.0, -20.0, -53.0], 500)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 2.0**-537, 2.0**1023, 2.0**512]
    triples = np.concatenate([np.array([a, b, r]), np.array(list(itertools.product(special, repeat=3))).T], axis=1)
    got = without_nan_sign(oracle.fma64(*triples))
    for exact in (
        lambda a, b, r: oracle.fma_exact(a, b, r, 53, -1022, 1023),
        lambda a, b, r: reference.fma(a, b, r, "fp64"),
    ):
        assert_same_bits(got, without_nan_sign(np.array([exact(*t) for t in triples.T.tolist()])))


def test_fma_of_wide_operands_rounds_once_to_binary32() -> None:
    """Doubles summed in binary32: the product is not exact in a double, so only fractions will do."""
    rng = np.random.default_rng(4)
    for a, b, r in rng.standard_normal((200, 3)).tolist():
        r32 = float(np.float32(r))
        assert oracle.fma_exact(a, b, r32) == reference.fma(a, b, r32, "fp32")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_product_equals_the_compiled_c_loop(kind: str, dtype: type) -> None:
    """The whole loop, k ascending, against C compiled on the spot."""
    if oracle.c_library() is None:
        pytest.skip("no C compiler `cc` found")
    a, b = operands(kind, 5, 67, 7)
    start = np.float32(np.random.default_rng(1).standard_normal((5, 7)))
    if dtype is np.float64:
        with np.errstate(all="ignore"):
            a, b = np.float64(a) * 2.0**-400, np.float64(b) / 3
    got = ORACLE.product(a, b, start, dtype)
    assert_same_bits(got, without_nan_sign(oracle.c_matmul(a, b, start, dtype)))


@pytest.mark.parametrize("fmt", [f.name for f in oracle.FLOATS])
@pytest.mark.parametrize("rounding", [str(r) for r in lp.Rounding])
def test_rounding_equals_the_reference(fmt: str, rounding: str) -> None:
    """The oracle's rounding, on midpoints and neighbours, in every mode and policy."""
    form = lp.format(fmt)
    rng = np.random.default_rng(11)
    spread = max(form.emin - form.mantissa_bits - 3, -1074), min(form.emax + 3, 1023)
    x = rng.choice([-1, 1, -1.5, 1.25, 1 + form.eps / 2, 1 + 1.5 * form.eps, 2 - form.eps / 2], 60)
    x = np.ldexp(x, rng.integers(*spread, 60))
    x = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, form.max, -form.max, form.smallest_normal]])
    x = np.concatenate([x, [5e-324, -5e-324, 2.0**-1060, -(2.0**-1060), 1e308, -1e308]])
    x = np.concatenate([x, np.nextafter(x, 0), [form.smallest_subnormal / 2 if form.bits < 64 else 0.0]])
    overflows = [p for p, ok in (("inf", form.has_inf), ("nan", form.has_nan), ("saturate", True)) if ok]
    for overflow, subnormals in itertools.product(overflows, ("keep", "flush", "flush_inputs")):
        keywords = {"rounding": rounding, "overflow": overflow, "subnormals": subnormals, "random_bits": 9}
        got = ORACLE.round(x, form, rng=5, stream=1, **keywords)
        want = [
            reference.round_to(v, form, word=reference.random_word(5, i, 1), **keywords)
            for i, v in enumerate(x.tolist())
        ]
        assert_same_bits(without_nan_sign(got), without_nan_sign(np.array(want)), f"{overflow} {subnormals}")


def test_rounding_equals_ml_dtypes() -> None:
    """From float32, where ml_dtypes is right; it keeps the sign of NaN, which the contract drops."""
    x = operands("bits", 40, 40, 1)[0]
    for name in ("bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz"):
        with np.errstate(all="ignore"):
            want = x.astype(getattr(ml_dtypes, name)).astype(np.float64)
        assert_same_bits(without_nan_sign(ORACLE.round(x, name)), without_nan_sign(want), name)


def test_philox_known_answers() -> None:
    """The vectors that the authors of Philox ship for philox4x32 with ten rounds (first word)."""
    assert oracle.philox(0, 0, 0) == 0x6627E8D5
    ones = 2**64 - 1
    counter = oracle.philox(np.uint64(ones), 0, 0)  # a counter whose third and fourth words are 0
    assert int(counter) == reference.random_word(0, ones, 0)
    for seed, index, stream in ((1, 2, 0), (2**63 + 5, 2**33 + 7, 1), (ones, 12, 2)):
        assert int(oracle.philox(index, stream, seed)) == reference.random_word(seed, index, stream)


def test_comparison_can_fail() -> None:
    """A NaN payload, a sign of zero, a dtype or a shape apart is a difference."""
    x = np.float32([0.0, 1.0, np.nan])
    for y in (np.float32([-0.0, 1.0, np.nan]), -x, x.astype(np.float64), x[None], bits(x)):
        with pytest.raises(AssertionError):
            assert_same_bits(y, x)
    assert_same_bits(x.astype(">f4").astype("<f4"), x)
