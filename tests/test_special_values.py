"""NaN, infinities, signed zero and overflow, per direction, per format and per policy: written out as tables.

The tables are in words, held against the specification and against the kernels. `max` is the largest finite value,
`low` the least (the smallest of an unsigned format), `tiny` the smallest positive value, and `nan!` a refusal. The
sources: `over` is twice the largest value, `tie` lies halfway between the largest value and the next one that an
unbounded exponent range would have, `small` is a quarter of the smallest positive value, `half` half of it.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

import lowprec as lp
from lowprec import reference

MODES = ["nearest_even", "nearest_away", "toward_zero", "toward_positive", "toward_negative", "to_odd"]

# One row per source: what becomes of it in each mode of MODES, or in all of them.
ANY_POLICY = """
     0    0
    -0   -0
     max  max
    -max -max
     small    0    0    0  tiny     0  tiny
    -small   -0   -0   -0    -0 -tiny -tiny
     half     0 tiny    0  tiny     0  tiny
    -half    -0 -tiny  -0    -0 -tiny -tiny
"""

INF = """
     nan   nan
     inf   inf
    -inf  -inf
     over  inf  inf  max  inf  max  max
    -over -inf -inf -max -max -inf -max
"""

NAN = """
     nan   nan
     inf   nan
    -inf   nan
     over  nan  nan  max  nan  max  max
    -over  nan  nan -max -max  nan -max
"""

SATURATE = """
     inf   max
    -inf  -max
     over  max
    -over -max
     tie   max
    -tie  -max
"""

# The tie at the end of the range: the largest value is odd, so nearest_even goes up, or it is even and stays.
ODD_INF = """
     tie   inf  inf  max  inf  max  max
    -tie  -inf -inf -max -max -inf -max
"""
ODD_NAN = """
     tie   nan  nan  max  nan  max  max
    -tie   nan  nan -max -max  nan -max
"""
EVEN_NAN = """
     tie   max  nan  max  nan  max  max
    -tie  -max  nan -max -max  nan -max
"""

UNSIGNED_INTEGER = """
     0      0
    -0      0
     max    max
     inf    max
    -inf    low
     over   max
    -over   low
     tie    max
     small    0    0    0  tiny    0 tiny
     half     0 tiny    0  tiny    0 tiny
    -small    0
    -half     0
     nan    nan!
"""

SIGNED_INTEGER = """
     0      0
    -0      0
     max    max
     inf    max
    -inf    low
     over   max
    -over   low
     tie    max
     nan    nan!
"""

SCALE_NAN = """
     0      nan
    -0      nan
     max    max
     inf    nan
    -inf    nan
    -max    nan
    -small  nan
    -tiny   nan
     nan    nan
     over   nan  nan  max  nan  max  max
     tie    nan  nan  max  nan  max  max
     small  tiny
     half   tiny
"""

SCALE_SATURATE = """
     0      low
    -0      low
     max    max
     inf    max
    -inf    low
    -max    low
    -small  low
     nan    nan
     over   max
     tie    max
     small  tiny
     half   tiny
"""

IEEE = ["fp64", "fp32", "tf32", "bf16", "fp16", "e5m2", "e4m3", "e3m4", "e5m7"]
FNUZ = ["e4m3fnuz", "e5m2fnuz", "e4m3b11fnuz"]
NO_NAN = ["e3m2fn", "e2m3fn", "e2m1fn"]
SIGNED, UNSIGNED = ["int8", "int4", "int2"], ["uint8", "uint4", "uint2", "uint1"]
NO_MINUS_ZERO = (
    "\n    -small    0    0    0     0 -tiny -tiny\n    -half     0 -tiny   0     0 -tiny -tiny\n    -0  0\n"
)
REFUSED = "\n nan nan!\n"

# (formats, policy, table); a later row of a table replaces an earlier one of the same source.
TABLES = [
    (IEEE, "inf", ANY_POLICY + INF + ODD_INF),
    (IEEE, "nan", ANY_POLICY + NAN + ODD_NAN),
    (IEEE, "saturate", ANY_POLICY + SATURATE + "\n nan nan\n"),
    (["e4m3fn"], "nan", ANY_POLICY + NAN + EVEN_NAN),
    (["e4m3fn"], "saturate", ANY_POLICY + SATURATE + "\n nan nan\n"),
    (FNUZ, "nan", ANY_POLICY + NAN + ODD_NAN + NO_MINUS_ZERO),
    (FNUZ, "saturate", ANY_POLICY + SATURATE + NO_MINUS_ZERO + "\n nan nan\n"),
    (NO_NAN, "saturate", ANY_POLICY + SATURATE + REFUSED),
    (SIGNED, "saturate", SIGNED_INTEGER),
    (UNSIGNED, "saturate", UNSIGNED_INTEGER),
    (["e8m0fnu"], "nan", SCALE_NAN),
    (["e8m0fnu"], "saturate", SCALE_SATURATE),
]
ROWS = [(fmt, policy, table) for fmts, policy, table in TABLES for fmt in fmts]


def source(word: str, fmt: lp.FloatFormat | lp.IntFormat) -> float | Fraction:
    """Return the number that a word of the tables stands for."""
    gap = Fraction(1) if isinstance(fmt, lp.IntFormat) else Fraction(2) ** (fmt.emax - fmt.mantissa_bits)
    tiny = Fraction(fmt.smallest_subnormal)
    sizes = {
        "nan": math.nan,
        "inf": math.inf,
        "0": 0.0,
        "max": fmt.max,
        "tiny": fmt.smallest_subnormal,
        "over": 2 * Fraction(fmt.max) + 2,
        "tie": Fraction(fmt.max) + gap / 2,
        "small": tiny / 4,
        "half": tiny / 2,
    }
    size = sizes[word.lstrip("-")]
    return -size if word.startswith("-") else size


def result(word: str, fmt: lp.FloatFormat | lp.IntFormat) -> float:
    """Return the value that a word of the tables stands for."""
    sizes = {"nan": math.nan, "inf": math.inf, "0": 0.0, "max": fmt.max, "low": fmt.min, "tiny": fmt.smallest_subnormal}
    size = sizes[word.lstrip("-")]
    return -size if word.startswith("-") else size


def rows(table: str) -> dict[str, list[str]]:
    """Read a table: source, then one word per mode."""
    lines = [line.split() for line in table.splitlines() if line.strip()]
    return {word: results * len(MODES) if len(results) == 1 else results for word, *results in lines}


def bits(x: float) -> int:
    """Return the bits of a float64; every NaN the canonical one."""
    return int(np.float64(math.nan if math.isnan(x) else x).view(np.uint64))


def as_number(x: float | Fraction, fmt: str) -> float | int | None:
    """Return a source as a Python float or int if one of them holds it, for the kernels."""
    if isinstance(x, float):
        return x
    if x.denominator == 1 and abs(x) >= 2**53:
        return int(x)
    value = float(x)
    return value if Fraction(value) == x else None


@pytest.mark.parametrize(("name", "overflow", "table"), ROWS, ids=[f"{fmt}-{policy}" for fmt, policy, _ in ROWS])
@pytest.mark.parametrize("implementation", ["reference", "kernels"])
def test_table(name: str, overflow: str, table: str, implementation: str) -> None:
    fmt = lp.format(name)
    for word, results in rows(table).items():
        exact = source(word, fmt)
        x = exact if implementation == "reference" else as_number(exact, name)
        if x is None:  # half of the smallest float64
            assert name == "fp64"
            continue
        for mode, want in zip(MODES, results, strict=True):
            modes = {"rounding": mode, "overflow": overflow}
            if want == "nan!":
                with pytest.raises(ValueError, match="NaN"):
                    (reference if implementation == "reference" else lp).encode(x, fmt, **modes)
                continue
            if implementation == "reference":
                got = reference.round_to(x, fmt, **modes)
            else:
                got = lp.decode(lp.encode(x, fmt, **modes), fmt, dtype=np.float64)
                assert bits(lp.round_to(x, fmt, **modes)) == bits(got)
            assert bits(got) == bits(result(want, fmt)), (word, mode, got, want)


def test_every_format_is_in_the_tables() -> None:
    """But int1, whose largest value is 0, and uint1, whose tiny is its max."""
    covered = {(lp.format(fmt).name, policy) for fmt, policy, _ in ROWS}
    for fmt in lp.formats():
        for policy, can in (("inf", fmt.has_inf), ("nan", fmt.has_nan), ("saturate", True)):
            assert not can or (fmt.name, policy) in covered or fmt.name == "int1"


@pytest.mark.parametrize("x", [-3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 0.51, 1.0, math.inf, -math.inf])
def test_int1_is_minus_one_and_zero(x: float) -> None:
    want = -1.0 if x <= -0.51 else 0.0
    assert lp.round_to(x, "int1") == want
    assert lp.encode(x, "int1") == (1 if want else 0)


@pytest.mark.parametrize("mode", MODES)
def test_negative_zero_sources_in_float32(mode: str) -> None:
    x = np.float32([-0.0, 0.0])
    for name in ("bf16", "fp16", "e4m3fn", "e2m1fn"):
        assert np.signbit(lp.round_to(x, name, rounding=mode)).tolist() == [True, False]
    for name in ("e4m3fnuz", "int8", "uint4"):
        assert np.signbit(lp.round_to(x, name, rounding=mode)).tolist() == [False, False]
        assert lp.encode(x, name, rounding=mode).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["fp16", "bf16", "e5m2", "e4m3fn", "e4m3fnuz", "e8m0fnu", "tf32", "fp32", "fp64"])
def test_every_nan_becomes_the_canonical_one(name: str, dtype: type, rng: np.random.Generator) -> None:
    width = 8 * np.dtype(dtype).itemsize
    mantissa = np.finfo(dtype).nmant
    top = ((1 << (width - 1 - mantissa)) - 1) << mantissa
    payloads = [1, 2, 1 << (mantissa - 1), (1 << mantissa) - 1, *rng.integers(1, 1 << mantissa, 50).tolist()]
    patterns = [top | p | sign for p in payloads for sign in (0, 1 << (width - 1))]
    x = np.array(patterns, f"u{width // 8}").view(dtype)
    fmt = lp.format(name)
    for policy in ("nan", "saturate"):
        assert set(lp.encode(x, fmt, overflow=policy).tolist()) == {fmt.nan_code}
    rounded = lp.round_to(x, fmt)
    quiet = np.array(np.nan, rounded.dtype).view(f"u{rounded.itemsize}")
    assert set(rounded.view(quiet.dtype).tolist()) == {int(quiet)}


@pytest.mark.parametrize("subnormals", ["flush", "flush_inputs"])
@pytest.mark.parametrize("name", ["fp16", "bf16", "e4m3fn", "e2m1fn", "fp32", "tf32", "e4m3fnuz"])
def test_flushing_keeps_the_sign_and_the_normal_numbers(name: str, subnormals: str) -> None:
    fmt = lp.format(name)
    normal, below = fmt.smallest_normal, fmt.smallest_normal - fmt.smallest_subnormal
    near = math.nextafter(normal, 0.0)  # rounds up to the smallest normal number
    x = np.array([normal, -normal, below, -below, near, -near])
    got = lp.round_to(x, fmt, subnormals=subnormals)
    zero, kept = [0.0, -0.0 if fmt.has_negative_zero else 0.0], [normal, -normal]
    want = [*kept, *zero, *(kept if subnormals == "flush" else zero)]
    assert [bits(v) for v in got] == [bits(v) for v in want]
    got = lp.decode(lp.encode(x, fmt, subnormals=subnormals), fmt, dtype=np.float64)
    assert [bits(v) for v in got] == [bits(v) for v in want]
