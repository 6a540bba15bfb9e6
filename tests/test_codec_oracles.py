"""The specification and the kernels against ml_dtypes, gfloat and NumPy, none of which shares a line with them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import gfloat
import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import reference, testing

Encode = Callable[..., np.ndarray]

# Where ml_dtypes differs on purpose; each is taken out by the test that it would fail.
#   NaN sign: ml_dtypes keeps it, lowprec writes one canonical NaN. All codes of NaN count as equal here.
#   NaN in formats without NaN (fp4, fp6): ml_dtypes gives a zero, lowprec raises ValueError.
#   float8_e8m0fnu: ml_dtypes rounds float32 subnormals up, lowprec to nearest.
#   Integers: ml_dtypes truncates and wraps, lowprec rounds and saturates. Only integers within the range agree.
#   float64 and integer sources: ml_dtypes rounds to float32 first, lowprec rounds once. Sources here are float32.
STORED = [fmt for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat) and fmt.bits <= 16]
INTEGERS = [fmt for fmt in lp.formats() if isinstance(fmt, lp.IntFormat)]
CUSTOM = [
    lp.format("e5m7"),
    lp.format("e3m2"),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=2, has_inf=False, name="e4m2fn"),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=3, nan="negative_zero", has_inf=True, bias=8, name="fnuz with inf"),
    lp.FloatFormat(exponent_bits=6, mantissa_bits=9, name="e6m9 biased", bias=20),
]
FLOATS = [fmt for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat)] + CUSTOM


def one_by_one(x: np.ndarray, fmt: lp.FloatFormat, **modes: str) -> np.ndarray:
    """Encode with the specification."""
    return np.array([reference.encode(v, fmt, **modes) for v in x.tolist()], fmt.code_dtype)


@pytest.fixture(params=["reference", "kernels"])
def encode(request: pytest.FixtureRequest) -> Encode:
    """Return the implementation to hold against the oracle."""
    return one_by_one if request.param == "reference" else lp.encode


def thinned(x: np.ndarray, encode: Encode, rng: np.random.Generator, most: int = 2500) -> np.ndarray:
    """Return fewer sources for the slow specification."""
    return rng.choice(x, most, replace=False) if encode is one_by_one and x.size > most else x


@pytest.mark.parametrize("fmt", STORED, ids=str)
def test_float32_as_ml_dtypes(fmt: lp.FloatFormat, encode: Encode, rng: np.random.Generator) -> None:
    random = rng.integers(0, 2**32, 1 << 16, dtype=np.uint32).view(np.float32)
    x = np.concatenate([testing.points_that_matter(fmt, np.float32), random])
    x = thinned(x if fmt.has_nan else x[~np.isnan(x)], encode, rng)
    if not fmt.has_zero:
        x = x[(np.abs(x) >= np.finfo(np.float32).smallest_normal) | (x == 0) | np.isnan(x)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        want = x.astype(fmt.storage_dtype).view(fmt.code_dtype)
    testing.assert_codes_equal(encode(x, fmt), want, fmt, source=x)


@pytest.mark.parametrize("fmt", INTEGERS, ids=str)
def test_integers_in_range_as_ml_dtypes(fmt: lp.IntFormat, encode: Encode) -> None:
    x = np.arange(int(fmt.min), int(fmt.max) + 1)
    want = x.astype(fmt.storage_dtype).view(fmt.code_dtype) & (2**fmt.bits - 1)
    testing.assert_codes_equal(encode(x, fmt), want, fmt, source=x)


@pytest.mark.parametrize("fmt", INTEGERS, ids=str)
def test_float_to_integer_is_rint_and_clip(fmt: lp.IntFormat, encode: Encode) -> None:
    x = testing.points_that_matter(fmt)
    x = x[~np.isnan(x)]
    want = np.clip(np.rint(x), fmt.min, fmt.max).astype(np.int64) & (2**fmt.bits - 1)
    testing.assert_codes_equal(encode(x, fmt), want, fmt, source=x)


@pytest.mark.parametrize("name", ["float16", "float32"])
def test_float64_as_numpy(name: str, encode: Encode, rng: np.random.Generator) -> None:
    fmt = lp.format(name)
    random = np.ldexp(rng.uniform(-2, 2, 20000), rng.integers(-160, 130, 20000))
    x = thinned(np.concatenate([testing.points_that_matter(fmt), random]), encode, rng)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        want = x.astype(name).view(fmt.code_dtype)
    testing.assert_codes_equal(encode(x, fmt), want, fmt, source=x)


# gfloat

MODES = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "toward_positive": gfloat.RoundMode.TowardPositive,
    "toward_negative": gfloat.RoundMode.TowardNegative,
}


def as_gfloat(fmt: lp.FloatFormat) -> gfloat.FormatInfo:
    """Return gfloat's description of a format."""
    high_nans = {"ieee": 2**fmt.mantissa_bits - 1, "all_ones": 1}.get(fmt.nan, 0)
    return gfloat.FormatInfo(
        fmt.name,
        fmt.bits,
        fmt.precision,
        bias=fmt.bias,
        is_signed=fmt.is_signed,
        domain=gfloat.Domain.Extended if fmt.has_inf else gfloat.Domain.Finite,
        has_nz=fmt.has_negative_zero,
        num_high_nans=high_nans,
        has_subnormals=fmt.has_zero,
        is_twos_complement=False,
    )


def by_gfloat(x: np.ndarray, fmt: lp.FloatFormat, mode: gfloat.RoundMode, sat: bool, **random: object) -> np.ndarray:
    """Round and encode with gfloat, both vectorised."""
    info = as_gfloat(fmt)
    with np.errstate(all="ignore"):
        return gfloat.encode_ndarray(info, gfloat.round_ndarray(info, x, mode, sat, **random))


def for_gfloat(fmt: lp.FloatFormat, mode: str) -> np.ndarray:
    """Return the points that matter, less what gfloat defines otherwise."""
    x = testing.points_that_matter(fmt)
    if not fmt.has_nan:
        x = x[~np.isnan(x)]
    if not fmt.has_zero:
        # e8m0: gfloat rounds below the smallest value, to zero and to negatives as if the format held them, and
        # brings ties of one significand bit to the even code, where IEEE 754-2019, 4.3.1, says to the larger.
        x = x[(x >= fmt.smallest_normal) | np.isnan(x)]
        x = x[(np.frexp(x)[0] != 0.75) | (mode != "nearest_even")]
    return x


@pytest.mark.parametrize("sat", [False, True], ids=["overflows", "saturates"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fmt", FLOATS, ids=str)
def test_float64_as_gfloat(fmt: lp.FloatFormat, mode: str, sat: bool, encode: Encode, rng: np.random.Generator) -> None:
    if not sat and not (fmt.has_inf or fmt.has_nan):
        return
    x = thinned(for_gfloat(fmt, mode), encode, rng, 1000)
    want = by_gfloat(x, fmt, MODES[mode], sat)
    overflow = "saturate" if sat else None
    testing.assert_codes_equal(encode(x, fmt, rounding=mode, overflow=overflow), want, fmt, source=x)


@pytest.mark.parametrize("bits", [1, 3, 8, 23, 32])
@pytest.mark.parametrize("fmt", ["bf16", "fp16", "e4m3fn", "e5m2", "e2m1fn", "e5m7"])
def test_stochastic_as_gfloat(fmt: str, bits: int, rng: np.random.Generator) -> None:
    fmt, seed = lp.format(fmt), 0x0123456789ABCDEF
    points = testing.points_that_matter(fmt, np.float32).astype(np.float64)
    points = np.concatenate([points, rng.uniform(-fmt.max, fmt.max, 1000).astype(np.float32), np.linspace(-1, 1, 1000)])
    points = points.astype(np.float32).astype(np.float64)
    # gfloat compares t + R / 2**N with 1, where lowprec compares floor(t * 2**N) + R with 2**N. The two are the same
    # while float64 holds the sum: the last of a source's 24 bits must be worth 2**-52 of the gap or more.
    points = points[np.isfinite(points) & (np.abs(points) >= fmt.smallest_subnormal * 2.0**-28)]
    x = rng.choice(points, 1500)
    words = np.array([reference.random_word(seed, i) for i in range(x.size)])
    want = by_gfloat(x, fmt, gfloat.RoundMode.StochasticFastest, True, srbits=words >> (32 - bits), srnumbits=bits)
    modes = {"rounding": "stochastic", "overflow": "saturate", "random_bits": bits}
    testing.assert_codes_equal(lp.encode(x, fmt, rng=seed, **modes), want, fmt, source=x)
    spec = [reference.encode(v, fmt, word=int(w), **modes) for v, w in zip(x.tolist(), words, strict=True)]
    testing.assert_codes_equal(spec, want, fmt, source=x)


# A seeded sample of scripts/exhaustive_float32.py


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "exhaustive_float32.py"
    spec = importlib.util.spec_from_file_location("exhaustive_float32", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample(rng: np.random.Generator) -> np.ndarray:
    """Return every sign, exponent and leading mantissa bits with endings that decide, and random patterns."""
    high = np.arange(1 << 16, dtype=np.uint32) << 16
    endings = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    random = rng.integers(0, 2**32, 1 << 20, dtype=np.uint32)
    return np.concatenate([(high[:, None] | endings).ravel(), random])


@pytest.mark.parametrize("name", ["bf16", "fp16", "e4m3fn", "e5m2", "e2m1fn"])
def test_sample_of_all_float32_patterns(name: str, script: ModuleType, rng: np.random.Generator) -> None:
    assert name in script.FORMATS
    wrong = script.differing(sample(rng), name)
    assert [hex(pattern) for pattern in wrong[:10]] == []


def test_sweep_sees_a_wrong_code(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = lp.encode
    monkeypatch.setattr(lp, "encode", lambda x, fmt: right(x, fmt, rounding="nearest_away"))
    tie = np.float32([1 + 2.0**-8, 1.0]).view(np.uint32)
    assert script.differing(tie, "bf16").tolist() == [int(tie[0])]


def test_ml_dtypes_differences_are_still_there() -> None:
    x = np.float32([np.nan])
    assert x.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)[0] == 0
    with pytest.raises(ValueError, match="NaN"):
        lp.encode(x, "e2m1fn")
    assert np.float64([1 + 2.0**-8 + 2.0**-40]).astype(ml_dtypes.bfloat16)[0] == 1.0
    assert lp.round_to(1 + 2.0**-8 + 2.0**-40, "bf16") == 1 + 2.0**-7
