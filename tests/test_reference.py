"""The specification in code, against the definitions by brute force, libm, ml_dtypes and NumPy."""

import ast
import bisect
import ctypes
import ctypes.util
import inspect
import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import reference, testing
from lowprec.rounding import Rounding

DETERMINISTIC = [mode.value for mode in Rounding if mode is not Rounding.STOCHASTIC]
SMALL = [fmt for fmt in lp.formats() if fmt.bits <= 8]
STORED = [fmt for fmt in lp.formats() if fmt.bits <= 16 and fmt.storage_dtype is not None]


def same(got: float, want: float) -> bool:
    """Return whether two floats are the same value, sign of zero included, or both NaN."""
    if math.isnan(got) or math.isnan(want):
        return math.isnan(got) and math.isnan(want)
    return got == want and math.copysign(1.0, got) == math.copysign(1.0, want)


def test_imports_only_formats_rounding_and_the_standard_library() -> None:
    tree = ast.parse(inspect.getsource(reference.numbers))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"__future__", "math", "fractions", "collections.abc", "lowprec.formats", "lowprec.rounding"}
    assert names <= allowed


# Salmon et al.: the known answers that come with Random123 (kat_vectors, philox4x32, 10 rounds).
PHILOX_KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "want"), PHILOX_KNOWN, ids=["zeros", "ones", "pi"])
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], want: tuple[int, ...]) -> None:
    assert reference.philox4x32(counter, key) == want


def test_random_word_puts_low_words_first() -> None:
    index, seed = 0x85A308D3_243F6A88, 0x299F31D0_A4093822
    want = reference.philox4x32((0x243F6A88, 0x85A308D3, 2, 0), (0xA4093822, 0x299F31D0))[0]
    assert reference.random_word(seed, index, stream=2) == want


@pytest.mark.parametrize("fmt", STORED, ids=str)
def test_decode_is_what_ml_dtypes_decodes(fmt: lp.FloatFormat) -> None:
    codes = testing.codes(fmt)
    with np.errstate(invalid="ignore"):  # signalling NaN
        want = codes.view(fmt.storage_dtype).astype(np.float64)
    assert all(same(reference.decode(int(c), fmt), float(w)) for c, w in zip(codes, want, strict=True))


@pytest.mark.parametrize("fmt", ["float32", "float64"])
def test_decode_wide(fmt: str, rng: np.random.Generator) -> None:
    dtype = np.dtype(fmt)
    codes = rng.integers(0, 2 ** (8 * dtype.itemsize), 3000, dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):
        want = codes.view(dtype).astype(np.float64)
    assert all(same(reference.decode(int(c), fmt), float(w)) for c, w in zip(codes, want, strict=True))


@pytest.mark.parametrize("fmt", [fmt for fmt in lp.formats() if fmt.bits <= 16], ids=str)
def test_encode_gives_back_every_code(fmt: lp.FloatFormat) -> None:
    for code in range(2**fmt.bits):
        value = reference.decode(code, fmt)
        want = fmt.nan_code if math.isnan(value) else code
        assert reference.encode(value, fmt) == want


def extended_values(fmt: lp.FloatFormat) -> list[Fraction]:
    """Return the magnitudes of a format, and a few that it would have with a wider exponent."""
    if isinstance(fmt, lp.IntFormat):
        return [Fraction(i) for i in range(fmt.max_code + 4)]
    wider = {"exponent_bits": fmt.exponent_bits + 1, "mantissa_bits": fmt.mantissa_bits, "bias": fmt.bias}
    wide = lp.FloatFormat(**wider, nan="none", has_inf=False, is_signed=fmt.is_signed, has_zero=fmt.has_zero)
    return [Fraction(reference.decode(code, wide)) for code in range(fmt.max_code + 4)]


def by_search(x: Fraction, mags: list[Fraction], mode: str, is_even: list[bool]) -> Fraction:
    """Round by looking at the two neighbours in a list: the definition of the modes, word by word."""
    magnitude = abs(x)
    i = bisect.bisect_left(mags, magnitude)
    if mags[i] == magnitude:
        return magnitude
    if i == 0:  # below the smallest value of a format without zero
        return mags[0]
    low, high = mags[i - 1], mags[i]
    even = low if is_even[i - 1] else high
    odd = high if is_even[i - 1] else low
    nearer = low if magnitude - low < high - magnitude else high
    tie = magnitude - low == high - magnitude
    return {
        "nearest_even": even if tie else nearer,
        "nearest_away": high if tie else nearer,
        "toward_zero": low,
        "toward_positive": high if x > 0 else low,
        "toward_negative": low if x > 0 else high,
        "to_odd": odd,
    }[mode]


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("fmt", SMALL, ids=str)
def test_rounding_is_the_definition_by_search(fmt: lp.FloatFormat, mode: str) -> None:
    mags = extended_values(fmt)
    # The significand of a normal number is its code's last bit, hidden bit included: with one bit it is always odd.
    is_even = [i % 2 == 0 if fmt.mantissa_bits else i == 0 and fmt.has_zero for i in range(len(mags))]
    if isinstance(fmt, lp.IntFormat):
        is_even = [i % 2 == 0 for i in range(len(mags))]
    points = [m for low, high in itertools.pairwise(mags) for m in (low, (low + high) / 2, (low * 3 + high) / 4)]
    points += [(low + high * 3) / 4 for low, high in itertools.pairwise(mags)]
    tiny = Fraction(1, 2**1000)
    points += [(low + high) / 2 + d for low, high in itertools.pairwise(mags) for d in (tiny, -tiny)]
    points += [m + d for m in mags[:-1] for d in (tiny, -tiny) if m + d > 0]
    for x in [*points, *(-x for x in points)] if fmt.is_signed else points:
        want = by_search(x, mags, mode, is_even)
        largest = Fraction(-fmt.min if x < 0 else fmt.max)
        if want > largest or (x == 0 and not fmt.has_zero):
            continue
        got = reference.round_to(x, fmt, rounding=mode)
        assert Fraction(abs(got)) == want, (x, got, want)
        assert got == 0 or (got < 0) == (x < 0)


# (format, source, keywords, code): worked by hand from the standards.
WORKED = [
    ("bf16", 1 + 2.0**-8, {}, 0x3F80),
    ("bf16", 1 + 2.0**-8 + 2.0**-40, {}, 0x3F81),
    ("fp16", 65519.99, {}, 0x7BFF),
    ("fp16", 65520.0, {}, 0x7C00),
    ("fp16", -65520.0, {"rounding": "toward_positive"}, 0xFBFF),
    ("fp16", 2.0**-25, {}, 0x0000),
    ("fp16", 2.0**-25 * (1 + 2.0**-52), {}, 0x0001),
    ("fp16", 2.0**-14 * (1 - 2.0**-11), {}, 0x0400),
    ("e4m3fn", 464.0, {}, 0x7E),
    ("e4m3fn", math.nextafter(464.0, 500), {}, 0x7F),
    ("e4m3fn", math.inf, {"overflow": "saturate"}, 0x7E),
    ("e4m3fn", -math.inf, {"rounding": "toward_zero"}, 0x7F),
    ("e5m2", 61439.99, {}, 0x7B),
    ("e5m2", 61440.0, {}, 0x7C),
    ("e4m3fnuz", -0.0, {}, 0x00),
    ("e4m3fnuz", math.inf, {}, 0x80),
    ("e2m1fn", 2.5, {}, 0b0100),
    ("e2m1fn", 3.5, {}, 0b0110),
    ("e2m1fn", 1e300, {}, 0b0111),
    ("e2m1fn", -0.25, {}, 0b1000),
    ("e2m1fn", -0.25, {"rounding": "nearest_away"}, 0b1001),
    ("e2m1fn", 0.75, {"subnormals": "flush"}, 0b0010),
    ("e2m1fn", 0.75, {"subnormals": "flush_inputs"}, 0b0000),
    ("e2m1fn", -0.5, {"subnormals": "flush"}, 0b1000),
    ("e8m0fnu", 3.0, {}, 129),
    ("e8m0fnu", 6.0, {}, 130),
    ("e8m0fnu", 0.0, {}, 255),
    ("e8m0fnu", 0.0, {"overflow": "saturate"}, 0),
    ("e8m0fnu", 1e-300, {"rounding": "toward_zero"}, 0),
    ("e8m0fnu", -1.0, {"overflow": "saturate"}, 0),
    ("e8m0fnu", -1e-300, {}, 255),
    ("int4", 2.5, {}, 2),
    ("int4", -2.5, {"rounding": "nearest_away"}, 16 - 3),
    ("int4", -8.5, {}, 8),
    ("uint4", -0.5, {}, 0),
    ("uint4", -0.6, {}, 0),
    ("uint4", 2**70, {}, 15),
    ("int8", Fraction(255, 2), {}, 127),
    ("int8", 2.0**60 + 0.5, {}, 127),
    ("fp64", 2**53 + 1, {}, 0x4340000000000000),
    ("fp64", Fraction(2**54 + 3, 2), {}, 0x4340000000000001),
    ("fp64", 2**1024 - 2**970, {}, 0x7FF0000000000000),
    ("fp64", 2**1024 - 2**970 - 1, {}, 0x7FEFFFFFFFFFFFFF),
]


@pytest.mark.parametrize(("fmt", "x", "keywords", "code"), WORKED)
def test_worked_by_hand(fmt: str, x: float, keywords: dict[str, str], code: int) -> None:
    assert hex(reference.encode(x, fmt, **keywords)) == hex(code)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16], ids=["float16", "float32", "bfloat16"])
def test_nearest_even_is_the_host_conversion(dtype: type, rng: np.random.Generator) -> None:
    fmt = np.dtype(dtype).name
    exponent = rng.integers(-160, 130, 4000)
    x = np.ldexp(rng.uniform(-2, 2, 4000), exponent)
    with np.errstate(over="ignore", under="ignore"):
        if dtype is ml_dtypes.bfloat16:
            x = x.astype(np.float32).astype(np.float64)  # from float64 its conversion rounds twice
        want = x.astype(dtype).astype(np.float64)
    assert all(same(reference.round_to(float(a), fmt), float(w)) for a, w in zip(x, want, strict=True))


@given(st.fractions(max_denominator=10**40) | st.integers(-(2**1100), 2**1100))
def test_float64_of_an_exact_number_is_pythons(x: Fraction) -> None:
    try:
        want = float(x)
    except OverflowError:
        want = math.inf if x > 0 else -math.inf
    assert reference.round_to(x, "fp64") == want


@given(fmt=testing.formats(), data=st.data())
def test_modes_agree_with_each_other(fmt: lp.FloatFormat, data: st.DataObject) -> None:
    x = data.draw(st.floats(fmt.min, fmt.max))
    if x == 0 and not fmt.has_zero:
        return
    rounded = {mode: reference.round_to(x, fmt, rounding=mode) for mode in DETERMINISTIC}
    down, up = rounded["toward_negative"], rounded["toward_positive"]
    assert down <= x <= up or (not fmt.has_zero and x < fmt.smallest_normal)
    assert set(rounded.values()) <= {down, up}
    assert abs(rounded["toward_zero"]) == min(abs(down), abs(up))
    if down < x < up:
        assert abs(Fraction(rounded["nearest_even"]) - Fraction(x)) == min(
            Fraction(x) - Fraction(down), Fraction(up) - Fraction(x)
        )
    for value in rounded.values():  # exact values never move
        assert {reference.round_to(value, fmt, rounding=mode) for mode in DETERMINISTIC} == {value}


@given(x=st.floats(allow_nan=False, allow_infinity=False), narrow=st.sampled_from(["fp16", "bf16", "e4m3fn", "e5m2"]))
def test_to_odd_makes_a_second_rounding_harmless(x: float, narrow: str) -> None:
    middle = "e8m12" if narrow == "bf16" else "e6m12"
    through = reference.round_to(x, middle, rounding="to_odd")
    assert same(reference.round_to(through, narrow), reference.round_to(x, narrow))


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
@pytest.mark.parametrize("numerator", range(0, 65, 3))
def test_stochastic_probability_by_enumeration(bits: int, numerator: int) -> None:
    t = Fraction(numerator, 64)
    words = [top << (32 - bits) | 0x1234567 >> bits for top in range(2**bits)]
    for sign in (1, -1):
        x = sign * (1 + t / 8)  # between 1 and 1.125 in e4m3fn
        got = [reference.round_to(x, "e4m3fn", rounding="stochastic", word=w, random_bits=bits) for w in words]
        away = sum(abs(value) == 1.125 for value in got)
        assert away == math.floor(t * 2**bits) if t < 1 else away == 2**bits
        assert set(got) <= {sign * 1.0, sign * 1.125}


def test_stochastic_takes_the_top_bits_of_the_word() -> None:
    x = 1 + Fraction(1, 16)  # halfway between 1 and 1.125
    for word, want in ((0x80000000, 1.125), (0x7FFFFFFF, 1.0)):
        got = {reference.round_to(x, "e4m3fn", rounding="stochastic", word=word, random_bits=n) for n in (1, 8, 32)}
        assert got == {want}


def libm(name: str, real: type) -> "ctypes._NamedFuncPointer":
    path = ctypes.util.find_library("m")
    if path is None:
        pytest.skip("no C mathematics library (libm) found to compare fma with")
    function = getattr(ctypes.CDLL(path), name)
    function.restype, function.argtypes = real, [real] * 3
    return function


def operands(dtype: type, rng: np.random.Generator) -> np.ndarray:
    """Return triples a, b, r: random bits, products cancelled by r, tiny and huge ones, specials in every place."""
    bits = rng.integers(0, 2 ** (8 * np.dtype(dtype).itemsize), (600, 3), dtype=f"u{np.dtype(dtype).itemsize}")
    random = bits.view(dtype)
    close = rng.uniform(-2, 2, (600, 3)).astype(dtype)
    with np.errstate(all="ignore"):
        close[:, 2] = -(close[:, 0] * close[:, 1])
    info = np.finfo(dtype)
    small = close.copy()
    small[:, 0] *= np.sqrt(info.smallest_normal)
    small[:, 1] *= np.sqrt(info.smallest_normal) * 4
    small[:, 2] = rng.uniform(-4, 4, 600).astype(dtype) * info.smallest_normal
    huge = close.copy()
    huge[:, :2] *= np.sqrt(info.max)
    huge[:, 2] = rng.uniform(-1, 1, 600).astype(dtype) * info.max
    special = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, info.max, -info.smallest_subnormal]
    specials = np.array(list(itertools.product(special, repeat=3)), dtype=dtype)
    return np.concatenate([random, close, small, huge, specials])


@pytest.mark.parametrize(("fmt", "name", "real"), [("fp32", "fmaf", ctypes.c_float), ("fp64", "fma", ctypes.c_double)])
def test_fma_is_that_of_libm(fmt: str, name: str, real: type, rng: np.random.Generator) -> None:
    function = libm(name, real)
    for a, b, r in operands(lp.format(fmt).storage_dtype.type, rng).tolist():
        assert same(reference.fma(a, b, r, fmt), function(a, b, r)), (a, b, r)


def test_dot_is_a_loop_of_fmaf(rng: np.random.Generator) -> None:
    fmaf = libm("fmaf", ctypes.c_float)
    a, b = rng.standard_normal((2, 40, 25)).astype(np.float32).tolist()
    for x, y in zip(a, b, strict=True):
        r = 0.125
        for s, t in zip(x, y, strict=True):
            r = fmaf(s, t, r)
        assert reference.dot(x, y, 0.125) == r


def test_order_of_the_sum_is_that_of_k() -> None:
    one = [1.0, 1.0, 1.0]
    assert reference.dot([1.0, 2.0**-24, 2.0**-24], one) == 1.0
    assert reference.dot([2.0**-24, 2.0**-24, 1.0], one) == 1 + 2.0**-23
    assert reference.dot([1.0, 2.0**-24, 2.0**-24], one, accumulator="fp64") == 1 + 2.0**-23


def test_dot_and_matmul_of_nothing() -> None:
    assert same(reference.dot([], []), 0.0)
    assert same(reference.dot([], [], -0.0), -0.0)
    assert reference.matmul([[], []], [], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]) == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert reference.matmul([], [[1.0]]) == []


def test_matmul_is_dot_of_rows_and_columns(rng: np.random.Generator) -> None:
    a, b, c = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), rng.standard_normal((3, 2)).astype(np.float32)
    got = reference.matmul(a.tolist(), b.tolist(), c.tolist(), accumulator="bf16")
    for i, j in itertools.product(range(3), range(2)):
        assert got[i][j] == reference.dot(a[i].tolist(), b[:, j].tolist(), float(c[i, j]), "bf16")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: reference.decode(256, "e4m3fn"), "`code`"),
        (lambda: reference.encode(math.nan, "e2m1fn"), "NaN"),
        (lambda: reference.encode(1.0, "e4m3fn", overflow="inf"), "`overflow`"),
        (lambda: reference.encode(1.0, "int8", overflow="nan"), "`overflow`"),
        (lambda: reference.encode(1.0, "int8", rounding="up"), "up"),
        (lambda: reference.encode(0.1, "fp16", rounding="stochastic"), "`word`"),
        (lambda: reference.dot([1.0], [1.0, 2.0]), "zip"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
