"""The table of formats: what is derived against enumeration, ml_dtypes and NumPy; names, custom formats, errors."""

import copy
import dataclasses
import itertools
import math
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import lowprec as lp
from lowprec import reference, testing

FLOATS = [fmt for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat)]
INTEGERS = [fmt for fmt in lp.formats() if isinstance(fmt, lp.IntFormat)]
CUSTOM = [
    lp.FloatFormat(exponent_bits=4, mantissa_bits=2, has_inf=False),
    lp.FloatFormat(exponent_bits=5, mantissa_bits=0, nan="none", has_inf=True),
    lp.FloatFormat(exponent_bits=3, mantissa_bits=2, nan="all_ones", has_inf=True),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=3, nan="negative_zero", has_inf=True, bias=8),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=4, is_signed=False),
    lp.FloatFormat(exponent_bits=5, mantissa_bits=3, is_signed=False, has_zero=False, nan="none", has_inf=False),
    lp.FloatFormat(exponent_bits=1, mantissa_bits=3, nan="none", has_inf=False),
    lp.FloatFormat(exponent_bits=8, mantissa_bits=10, name="narrow tf32", bias=100),
    lp.IntFormat(bits=5),
    lp.IntFormat(bits=16, is_signed=False),
]


def facts_by_enumeration(fmt: lp.FloatFormat | lp.IntFormat) -> dict[str, object]:
    """Find every derived fact by looking at all codes."""
    values = {code: reference.decode(code, fmt) for code in range(2**fmt.bits)}
    finite = {code: v for code, v in values.items() if math.isfinite(v)}
    nans = [code for code, v in values.items() if math.isnan(v)]
    infs = [code for code, v in values.items() if v == math.inf]
    zeros = [math.copysign(1.0, v) for v in finite.values() if v == 0]
    positive = sorted({v for v in finite.values() if v > 0})
    largest = max(finite.values())
    return {
        "max": largest,
        "min": min(finite.values()),
        "max_code": next(code for code, v in finite.items() if v == largest),
        "has_nan": bool(nans),
        "num_nans": len(nans),
        "has_inf": bool(infs),
        "inf_code": infs[0] if infs else None,
        "num_values": len(set(finite.values())),
        "has_zero": bool(zeros),
        "has_negative_zero": -1.0 in zeros,
        "smallest_subnormal": positive[0] if positive else fmt.smallest_subnormal,
    }


@pytest.mark.parametrize("fmt", [fmt for fmt in [*FLOATS, *INTEGERS, *CUSTOM] if fmt.bits <= 16], ids=str)
def test_derived_facts_are_those_of_the_codes(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    want = facts_by_enumeration(fmt)
    assert {fact: getattr(fmt, fact) for fact in want} == want


@pytest.mark.parametrize("fmt", [fmt for fmt in [*FLOATS, *CUSTOM] if fmt.bits <= 16 and fmt.exponent_bits], ids=str)
def test_float_facts_are_those_of_the_codes(fmt: lp.FloatFormat) -> None:
    if fmt.nan_code is not None:
        assert math.isnan(reference.decode(fmt.nan_code, fmt))
    if fmt.nan == "ieee":  # quiet: the top bit of the trailing significand is set, the rest are not; positive
        assert fmt.nan_code == ((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits | 1 << (fmt.mantissa_bits - 1)
    # A normal number has its neighbours a power of two away that grows with the binade; below, the gap is constant.
    first_normal = int(fmt.has_zero) << fmt.mantissa_bits
    assert reference.decode(first_normal, fmt) == fmt.smallest_normal == 2.0**fmt.emin
    assert 2.0**fmt.emax <= fmt.max < 2.0 ** (fmt.emax + 1)
    if fmt.has_subnormals:
        assert fmt.smallest_subnormal < fmt.smallest_normal
    if fmt.smallest_normal <= 1 and fmt.max >= 2:
        one = reference.encode(1.0, fmt)
        assert reference.decode(one, fmt) == 1.0
        assert reference.decode(one + 1, fmt) - 1.0 == fmt.eps
    assert fmt.precision == fmt.mantissa_bits + 1
    assert fmt.bits == fmt.is_signed + fmt.exponent_bits + fmt.mantissa_bits


@given(fmt=testing.formats())
def test_facts_of_random_formats(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    assert reference.decode(fmt.max_code, fmt) == fmt.max
    assert fmt.inf_code is None or reference.decode(fmt.inf_code, fmt) == math.inf
    assert fmt.nan_code is None or math.isnan(reference.decode(fmt.nan_code, fmt))
    assert fmt.code_dtype.itemsize * 8 >= fmt.bits
    assert fmt.code_dtype.itemsize == 1 or fmt.code_dtype.itemsize * 4 < fmt.bits
    if fmt.bits <= 12 and isinstance(fmt, lp.FloatFormat):
        want = facts_by_enumeration(fmt)
        assert {fact: getattr(fmt, fact) for fact in want} == want


@pytest.mark.parametrize("fmt", [fmt for fmt in FLOATS if fmt.storage_dtype and fmt.name != "tf32"], ids=str)
def test_float_facts_are_those_of_finfo(fmt: lp.FloatFormat) -> None:
    info = ml_dtypes.finfo(fmt.storage_dtype)
    assert fmt.bits == info.bits
    assert fmt.max == float(info.max)
    assert fmt.min == float(info.min)
    assert fmt.eps == float(info.eps)
    assert fmt.smallest_normal == float(info.smallest_normal)
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert fmt.mantissa_bits == info.nmant
    assert fmt.exponent_bits == info.nexp
    assert fmt.emin == info.minexp
    assert fmt.emax + 1 == info.maxexp


@pytest.mark.parametrize("fmt", INTEGERS, ids=str)
def test_integer_facts_are_those_of_iinfo(fmt: lp.IntFormat) -> None:
    info = np.iinfo(fmt.storage_dtype) if fmt.bits == 8 else ml_dtypes.iinfo(fmt.storage_dtype)
    assert (fmt.bits, fmt.min, fmt.max) == (info.bits, info.min, info.max)


def test_tf32_is_float32_with_the_mantissa_of_float16() -> None:
    tf32 = lp.format("tf32")
    assert (tf32.bits, tf32.exponent_bits, tf32.mantissa_bits) == (19, 8, 10)
    assert tf32.max == (2 - 2.0**-10) * 2.0**127
    assert tf32.storage_dtype == np.float32


def test_table_is_complete_and_consistent() -> None:
    table = lp.formats()
    words = [word for fmt in table for word in (fmt.name, *fmt.aliases)]
    assert isinstance(table, tuple)
    assert len(set(words)) == len(words)
    assert len(set(table)) == len(table)
    assert all(fmt.source and fmt.source != "custom" for fmt in table)
    assert [fmt.bits for fmt in FLOATS] == sorted((fmt.bits for fmt in FLOATS), reverse=True)
    assert list(table) == [*FLOATS, *INTEGERS]


def test_every_dtype_of_ml_dtypes_is_a_row() -> None:
    exported = [getattr(ml_dtypes, name) for name in dir(ml_dtypes)]
    types = {np.dtype(t) for t in exported if isinstance(t, type) and issubclass(t, np.generic)}
    types = {t for t in types if "complex" not in t.name}  # pairs of numbers
    assert types
    assert types <= {fmt.storage_dtype for fmt in lp.formats()}


@pytest.mark.parametrize("fmt", lp.formats(), ids=str)
def test_names_aliases_dtypes_and_formats_find_the_row(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    assert all(lp.format(word) is fmt for word in (fmt.name, *fmt.aliases, fmt.name.upper(), f" {fmt.name} "))
    assert lp.format(fmt) is fmt
    assert str(fmt) == fmt.name
    if fmt.name != "tf32":  # stored in float32, whose own row float32 is
        assert lp.format(fmt.storage_dtype) is fmt
        assert lp.format(fmt.storage_dtype.type) is fmt


# design: these spellings are part of the contract.
SPELLINGS = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "tf32": "tf32",
    "fp32": "float32",
    "f32": "float32",
    "fp64": "float64",
    "e4m3fn": "float8_e4m3fn",
    "e4m3": "float8_e4m3",
    "e5m2": "float8_e5m2",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3b11fnuz": "float8_e4m3b11fnuz",
    "e3m4": "float8_e3m4",
    "e8m0fnu": "float8_e8m0fnu",
    "e2m3fn": "float6_e2m3fn",
    "e3m2fn": "float6_e3m2fn",
    "e2m1fn": "float4_e2m1fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "fp4": "float4_e2m1fn",
    **{name: name for name in ("int8", "uint8", "int4", "uint4", "int2", "uint2")},
}


@pytest.mark.parametrize(("word", "name"), SPELLINGS.items())
def test_spellings_of_the_contract(word: str, name: str) -> None:
    assert lp.format(word).name == name


@pytest.mark.parametrize(("exponent_bits", "mantissa_bits"), [(5, 7), (2, 1), (8, 1), (11, 52), (4, 10)])
def test_custom_names_make_ieee_formats(exponent_bits: int, mantissa_bits: int) -> None:
    fmt = lp.format(f"e{exponent_bits}m{mantissa_bits}")
    assert (fmt.exponent_bits, fmt.mantissa_bits, fmt.bias) == (
        exponent_bits,
        mantissa_bits,
        2 ** (exponent_bits - 1) - 1,
    )
    assert (fmt.nan, fmt.has_inf, fmt.is_signed, fmt.has_zero) == ("ieee", True, True, True)
    assert fmt.storage_dtype is None


@pytest.mark.parametrize(
    ("name", "row"), [("e5m10", "float16"), ("e8m7", "bfloat16"), ("e8m23", "float32"), ("e11m52", "float64")]
)
def test_custom_names_have_the_facts_of_the_rows(name: str, row: str) -> None:
    assert dataclasses.replace(lp.format(name), name=row) == lp.format(row)


def test_custom_format_has_derived_defaults() -> None:
    fmt = lp.FloatFormat(exponent_bits=4, mantissa_bits=2)
    assert (fmt.name, fmt.bias, fmt.nan, fmt.has_inf) == ("e4m2", 7, "ieee", True)
    assert lp.FloatFormat(exponent_bits=4, mantissa_bits=2, has_inf=False).nan == "all_ones"
    assert not lp.FloatFormat(exponent_bits=4, mantissa_bits=2, nan="none").has_inf
    assert lp.IntFormat(bits=5).name == "int5"
    assert lp.IntFormat(bits=5, is_signed=False).name == "uint5"
    assert lp.FloatFormat("numpy ints", exponent_bits=np.int64(4), mantissa_bits=np.uint8(2)).bits == 7


def test_formats_are_hashable_comparable_and_immutable() -> None:
    make = {"exponent_bits": 4, "mantissa_bits": 2}
    one, other = lp.FloatFormat("x", **make, source="a"), lp.FloatFormat("x", **make, source="b", aliases=("y",))
    assert one == other
    assert hash(one) == hash(other)
    assert one != lp.FloatFormat("x", **make, bias=8)
    assert {one: 1}[other] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.bias = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        lp.format("int4").bits = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        one.max = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("fmt", lp.formats(), ids=str)
def test_formats_survive_pickle_and_copy(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    before = fmt.max
    for twin in (pickle.loads(pickle.dumps(fmt)), copy.deepcopy(fmt), copy.copy(fmt)):
        assert twin == fmt
        assert (twin.max, twin.storage_dtype, twin.aliases) == (before, fmt.storage_dtype, fmt.aliases)


@pytest.mark.parametrize(
    ("fmt", "policy"),
    [
        ("fp16", "inf"),
        ("e5m2", "inf"),
        ("e4m3fn", "nan"),
        ("e4m3fnuz", "nan"),
        ("e8m0fnu", "nan"),
        ("fp4", "saturate"),
        ("int8", "saturate"),
        ("uint2", "saturate"),
    ],
)
def test_default_overflow(fmt: str, policy: str) -> None:
    assert lp.format(fmt).default_overflow == policy


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("fp8", ["ambiguous", "'fp8_e4m3'", "'fp8_e5m2'"]),
        ("FP8", ["ambiguous", "'fp8_e4m3'", "'fp8_e5m2'"]),
        ("float8", ["ambiguous"]),
        ("fp6", ["ambiguous", "'e2m3fn'", "'e3m2fn'"]),
        ("bf61", ["`fmt`", "'bf61'", "'bf16'"]),
        ("float17", ["'float16'"]),
        ("e4m3fnz", ["'e4m3fnuz'", "'e4m3fn'"]),
        ("int3000", ["'int"]),
        ("quux", ["lp.formats()"]),
        ("", ["lp.formats()"]),
        ("mxfp4", ["block format", "e2m1fn"]),
        ("nvfp4", ["block format"]),
        ("e12m3", ["`exponent_bits`", "11", "12"]),
        ("e5m53", ["`mantissa_bits`", "52", "53"]),
        ("e0m3", ["`exponent_bits`", "got 0"]),
        ("e1m3", ["exponent_bits >= 2"]),
        ("e5m0", ["mantissa_bits >= 1"]),
    ],
)
def test_unknown_names(word: str, parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - every part of the message is looked at below
        lp.format(word)
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    "what", [None, 8, 3.5, b"bf16", ["bf16"], int, object, complex, np.dtype("complex64"), np.dtype("S3"), object()]
)
def test_things_that_are_no_format(what: object) -> None:
    with pytest.raises(TypeError, match="`fmt` must be a format name"):
        lp.format(what)


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        ({"exponent_bits": 5.0, "mantissa_bits": 2}, TypeError, "`exponent_bits` must be an integer"),
        ({"exponent_bits": True, "mantissa_bits": 2}, TypeError, "`exponent_bits`"),
        ({"exponent_bits": 5, "mantissa_bits": "2"}, TypeError, "`mantissa_bits`"),
        ({"exponent_bits": 5, "mantissa_bits": -1}, ValueError, "`mantissa_bits`"),
        ({"exponent_bits": 12, "mantissa_bits": 2}, ValueError, "`exponent_bits`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "bias": 1.5}, TypeError, "`bias`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "bias": 4000}, ValueError, "`bias`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "bias": -4000}, ValueError, "`bias`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "nan": "quiet"}, ValueError, "`nan`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "nan": "ieee", "has_inf": False}, ValueError, "`has_inf`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "has_inf": "yes"}, TypeError, "`has_inf`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "is_signed": 1}, TypeError, "`is_signed`"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "nan": "negative_zero", "is_signed": False}, ValueError, "is_signed"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "has_zero": False}, ValueError, "`has_zero`"),
        ({"exponent_bits": 1, "mantissa_bits": 0, "nan": "all_ones", "has_inf": True}, ValueError, "finite value"),
        ({"exponent_bits": 5, "mantissa_bits": 2, "name": 3}, TypeError, "`name`"),
    ],
)
def test_bad_facts(facts: dict[str, object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        lp.FloatFormat(**facts)


@pytest.mark.parametrize(
    ("bits", "kind"), [(0, ValueError), (33, ValueError), (4.0, TypeError), (True, TypeError), ("4", TypeError)]
)
def test_bad_integer_widths(bits: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="`bits` must be"):
        lp.IntFormat(bits=bits)


@pytest.mark.parametrize("fmt", [fmt for fmt in [*lp.formats(), *CUSTOM] if fmt.bits <= 19], ids=str)
def test_testing_values_are_those_of_the_reference(fmt: lp.FloatFormat | lp.IntFormat) -> None:
    codes = testing.codes(fmt)[:: 1 if fmt.bits <= 16 else 37]
    want = np.array([reference.decode(int(code), fmt) for code in codes])
    got = testing.values(fmt, codes)
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.uint64), want[~nan].view(np.uint64))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("fmt", lp.formats(), ids=str)
def test_points_that_matter_hold_values_midpoints_and_neighbours(fmt: lp.FloatFormat, dtype: type) -> None:
    points = testing.points_that_matter(fmt, dtype)
    assert points.dtype == dtype
    assert np.unique(points.view(f"u{points.itemsize}")).size == points.size
    np.testing.assert_array_equal(points, testing.points_that_matter(fmt, dtype))
    low = [reference.decode(code, fmt) for code in range(min(8, fmt.max_code + 1))]
    wanted = [*low, *(a / 2 + b / 2 for a, b in itertools.pairwise(low)), fmt.max, 0.0, np.inf]
    with np.errstate(over="ignore", under="ignore"):
        wanted = np.array(wanted).astype(dtype)
    wanted = wanted[~np.isinf(wanted)]
    with np.errstate(over="ignore", under="ignore"):
        around = [*wanted, *np.nextafter(wanted, dtype(np.inf)), *np.nextafter(wanted, dtype(-np.inf))]
    assert np.isin(np.array(around), points).all()
    assert np.isin(-np.array(around), points).all()
    assert np.isnan(points).sum() == 1
    assert {True, False} == set(np.signbit(points[points == 0]).tolist())


def test_assert_codes_equal_shows_code_bits_and_value() -> None:
    testing.assert_codes_equal(np.array([[0x7C01, 0]]), np.array([[0xFE00, 0]]), "fp16")  # NaN is NaN
    with pytest.raises(AssertionError) as caught:
        testing.assert_codes_equal(np.array([[1, 2]]), np.array([[1, 3]]), "fp16", source=np.array([[0.5, 0.25]]))
    assert "[0, 1]  got 0x0002 = 0 00000 0000000010 = 1.1920928955078125e-07  want 0x0003" in str(caught.value)
    assert "0.25" in str(caught.value)
    with pytest.raises(AssertionError, match="shapes differ"):
        testing.assert_codes_equal(np.array([1]), np.array([1, 2]), "fp16")
    with pytest.raises(AssertionError, match="1 of 1"):  # zeros of unlike sign are different codes
        testing.assert_codes_equal(np.array([0x8000]), np.array([0]), "fp16")


def test_testing_refuses_what_it_cannot_list() -> None:
    with pytest.raises(ValueError, match="at most 24 bits"):
        testing.codes("fp32")
    with pytest.raises(TypeError, match="`dtype`"):
        testing.points_that_matter("fp16", np.int32)
