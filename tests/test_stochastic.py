"""Stochastic rounding: the specification bit for bit, the same bits for any cut of the work, exact probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import reference, testing

FORMATS = ["fp32", "tf32", "bf16", "fp16", "e4m3fn", "e5m2", "e4m3fnuz", "e8m0fnu", "e2m1fn", "int8", "uint4", "e5m7"]
SEEDS = [0, 1, 0xDEADBEEF, 2**32, 0x0123456789ABCDEF, 2**64 - 1]


def specified(x: np.ndarray, fmt: str, seed: int, **modes: object) -> np.ndarray:
    """Encode one by one: the word of an element is that of its index in C order."""
    fmt = lp.format(fmt)
    words = (reference.random_word(seed, i) for i in range(x.size))
    codes = [
        reference.encode(v, fmt, rounding="stochastic", word=word, **modes)
        for v, word in zip(x.ravel().tolist(), words, strict=True)
    ]
    return np.array(codes, fmt.code_dtype).reshape(x.shape)


def sources(fmt: str, rng: np.random.Generator, dtype: type = np.float64) -> np.ndarray:
    """Return points that matter and numbers between them, at random places."""
    fmt = lp.format(fmt)
    points = testing.points_that_matter(fmt, dtype)
    points = points if fmt.has_nan else points[~np.isnan(points)]
    high = min(fmt.max, float(np.finfo(dtype).max) / 2)
    between = rng.uniform(max(fmt.min, -high), high, 300).astype(dtype)
    ones = rng.uniform(-4, 4, 300).astype(dtype)
    return rng.permutation(np.concatenate([rng.choice(points, min(points.size, 600), replace=False), between, ones]))


@pytest.mark.parametrize("random_bits", [1, 4, 13, 31, 32])
@pytest.mark.parametrize("fmt", FORMATS)
def test_as_specified(fmt: str, random_bits: int, rng: np.random.Generator) -> None:
    x = sources(fmt, rng)
    got = lp.encode(x, fmt, rounding="stochastic", rng=7, random_bits=random_bits)
    testing.assert_codes_equal(got, specified(x, fmt, 7, random_bits=random_bits), fmt, source=x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("fmt", FORMATS)
def test_narrower_sources_as_specified(fmt: str, dtype: type, rng: np.random.Generator) -> None:
    x = sources(fmt, rng, dtype)
    modes = {"rounding": "stochastic", "rng": 2**40 + 3}
    want = specified(x, fmt, 2**40 + 3)
    testing.assert_codes_equal(lp.encode(x, fmt, **modes), want, fmt, source=x)
    got = lp.round_to(x, fmt, **modes)
    np.testing.assert_array_equal(got.astype(np.float64), testing.values(fmt, want))


@pytest.mark.parametrize("seed", SEEDS, ids=hex)
def test_seeds_as_specified(seed: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(200)
    want = specified(x, "bf16", seed)
    for same in (seed, np.uint64(seed)):
        testing.assert_codes_equal(lp.encode(x, "bf16", rounding="stochastic", rng=same), want, "bf16", source=x)


@pytest.mark.parametrize("subnormals", ["keep", "flush", "flush_inputs"])
@pytest.mark.parametrize("fmt", ["fp16", "e4m3fn", "e5m2", "e2m1fn", "uint4", "e8m0fnu", "e4m3fnuz"])
def test_policies_as_specified(fmt: str, subnormals: str, rng: np.random.Generator) -> None:
    x = sources(fmt, rng)
    can = lp.format(fmt)
    for overflow in [p for p, ok in (("inf", can.has_inf), ("nan", can.has_nan), ("saturate", True)) if ok]:
        modes = {"overflow": overflow, "subnormals": subnormals}
        got = lp.encode(x, fmt, rounding="stochastic", rng=99, **modes)
        testing.assert_codes_equal(got, specified(x, fmt, 99, **modes), fmt, source=x)


@pytest.mark.parametrize("x", [2**53 + 1, [2**70 + 12345, -3, 2**63 - 1], np.arange(-500, 500) * 12345678901])
def test_integers_as_specified(x: object) -> None:
    numbers = np.array(x, dtype=object)
    want = specified(numbers, "bf16", 5)
    testing.assert_codes_equal(lp.encode(x, "bf16", rounding="stochastic", rng=5), want, "bf16")


@given(data=st.data(), seed=st.integers(0, 2**64 - 1), random_bits=st.integers(1, 32))
def test_any_format_any_seed(data: st.DataObject, seed: int, random_bits: int) -> None:
    fmt = data.draw(testing.formats())
    x = data.draw(testing.arrays(fmt, max_side=4))
    got = lp.encode(x, fmt, rounding="stochastic", rng=seed, random_bits=random_bits)
    testing.assert_codes_equal(got, specified(x, fmt, seed, random_bits=random_bits), fmt, source=x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_order_does_not_matter(dtype: type, rng: np.random.Generator) -> None:
    x = rng.standard_normal((9, 11, 6)).astype(dtype)
    want = lp.encode(x, "e4m3fn", rounding="stochastic", rng=3)
    testing.assert_codes_equal(want, specified(x, "e4m3fn", 3), "e4m3fn")
    for same in (
        np.asfortranarray(x),
        np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0),
        np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
        np.repeat(x, 3, axis=2)[:, :, ::3],
        x.astype(x.dtype.newbyteorder(">")),
    ):
        np.testing.assert_array_equal(lp.encode(same, "e4m3fn", rounding="stochastic", rng=3), want)
        out = np.empty((6, 11, 9), dtype).T
        lp.round_to(same, "e4m3fn", rounding="stochastic", rng=3, out=out)
        np.testing.assert_array_equal(out, testing.values("e4m3fn", want))
    np.testing.assert_array_equal(lp.encode(x.ravel(), "e4m3fn", rounding="stochastic", rng=3), want.ravel())


def test_threads_and_chunks_do_not_matter(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1_500_001).astype(np.float32)
    threads = lp.get_num_threads()
    try:
        lp.set_num_threads(1)
        one = lp.encode(x, "bf16", rounding="stochastic", rng=11)
        lp.set_num_threads(3)
        three = lp.encode(x, "bf16", rounding="stochastic", rng=11)
    finally:
        lp.set_num_threads(threads)
    np.testing.assert_array_equal(one, three)
    for size in (1, 1000, 262_143, 262_145, 1_000_003):  # an element's word depends on its index alone
        np.testing.assert_array_equal(lp.encode(x[:size], "bf16", rounding="stochastic", rng=11), one[:size])
    for i in [0, x.size - 1, *rng.integers(0, x.size, 300).tolist()]:
        word = reference.random_word(11, i)
        assert one[i] == reference.encode(float(x[i]), "bf16", rounding="stochastic", word=word)


@pytest.mark.parametrize("fmt", [fmt for fmt in lp.formats() if fmt.bits <= 16], ids=str)
def test_exact_values_never_move(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    codes, x = testing.codes(fmt), testing.values(fmt)
    for seed in range(20):
        for random_bits in (1, 32):
            got = lp.encode(x, fmt, rounding="stochastic", rng=seed, random_bits=random_bits)
            testing.assert_codes_equal(got, codes, fmt, source=x)


def test_infinities_nan_and_zeros_stay() -> None:
    x = np.tile([np.inf, -np.inf, 0.0, -0.0, np.nan], 2000)
    got = lp.round_to(x, "fp16", rounding="stochastic", rng=1)
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(np.signbit(got[~np.isnan(x)]), np.signbit(x[~np.isnan(x)]))
    got = lp.round_to(x, "e4m3fn", rounding="stochastic", rng=1, overflow="saturate")
    np.testing.assert_array_equal(got, np.tile([448.0, -448.0, 0.0, -0.0, np.nan], 2000))


@pytest.mark.parametrize("random_bits", [1, 2, 3, 6])
def test_how_often_is_exactly_what_the_words_say(random_bits: int) -> None:
    """With N bits away is chosen for floor(t * 2**N) of the 2**N words, which the specification's tests enumerate."""
    n, seed = 4096, 21
    tops = np.array([reference.random_word(seed, i) >> (32 - random_bits) for i in range(n)])
    for t in np.linspace(0, 1, 2 ** (random_bits + 2), endpoint=False):
        x = np.full(n, 1 + t / 8)
        away = lp.round_to(x, "e4m3fn", rounding="stochastic", rng=seed, random_bits=random_bits) == 1.125
        np.testing.assert_array_equal(away, tops >= 2**random_bits - math.floor(t * 2**random_bits))


def test_mean_is_the_source() -> None:
    n, t = 1 << 18, 0.3
    x = np.full(n, -(1 + t / 128))
    mean = -lp.round_to(x, "bf16", rounding="stochastic", rng=0).mean()
    # The fraction that moves is binomial: standard deviation sqrt(t (1 - t) / n). Seeded, so six of them never fail.
    assert abs((mean - 1) * 128 - t) < 6 * math.sqrt(t * (1 - t) / n)
    assert (mean - 1) * 128 != 0


def test_a_generator_draws_one_seed() -> None:
    x = np.full(1000, 0.3)
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    first = lp.encode(x, "e4m3fn", rounding="stochastic", rng=one)
    np.testing.assert_array_equal(first, lp.encode(x, "e4m3fn", rounding="stochastic", rng=other))
    assert (first != lp.encode(x, "e4m3fn", rounding="stochastic", rng=one)).any()
    other.integers(0, 2**64, dtype=np.uint64)
    assert one.bit_generator.state == other.bit_generator.state


def test_cast_and_round_to_use_the_words_of_encode(rng: np.random.Generator) -> None:
    x = rng.standard_normal((40, 50))
    modes = {"rounding": "stochastic", "rng": 17, "random_bits": 9}
    codes = lp.encode(x, "bf16", **modes)
    np.testing.assert_array_equal(lp.cast(x, "bf16", **modes).view(np.uint16), codes)
    np.testing.assert_array_equal(lp.round_to(x, "bf16", **modes), testing.values("bf16", codes))
