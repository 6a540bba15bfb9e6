"""encode, decode, round_to, cast, pack, unpack: every code, the points that matter, every kind of source, bad input."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import reference, testing
from lowprec.rounding import Rounding, Subnormals

Format = lp.FloatFormat | lp.IntFormat

DETERMINISTIC = [mode.value for mode in Rounding if mode is not Rounding.STOCHASTIC]
SUBNORMALS = [policy.value for policy in Subnormals]
CUSTOM = [
    lp.format("e5m7"),
    lp.format("e2m1"),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=2, has_inf=False, name="e4m2fn"),
    lp.FloatFormat(exponent_bits=5, mantissa_bits=0, nan="none", has_inf=True, name="powers of two"),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=3, nan="negative_zero", has_inf=True, bias=8, name="fnuz with inf"),
    lp.FloatFormat(exponent_bits=4, mantissa_bits=4, is_signed=False, name="unsigned e4m4"),
    lp.FloatFormat(
        exponent_bits=5, mantissa_bits=3, is_signed=False, has_zero=False, nan="all_ones", name="unsigned, no zero"
    ),
    lp.FloatFormat(exponent_bits=1, mantissa_bits=3, nan="none", has_inf=False, name="almost all subnormal"),
    lp.FloatFormat(exponent_bits=8, mantissa_bits=3, bias=150, name="below float32"),
    lp.FloatFormat(exponent_bits=10, mantissa_bits=5, name="beyond float32"),
    lp.IntFormat(bits=5),
    lp.IntFormat(bits=12, is_signed=False),
]
EVERY = [*lp.formats(), *CUSTOM]


def policies(fmt: Format) -> list[str]:
    """Return the overflow policies that the format can express."""
    return [p for p, can in (("inf", fmt.has_inf), ("nan", fmt.has_nan), ("saturate", True)) if can]


def sources(fmt: Format, dtype: type, most: int | None, rng: np.random.Generator) -> np.ndarray:
    """Return the points that matter, without NaN where there is none, thinned at random to ``most``."""
    points = testing.points_that_matter(fmt, dtype)
    points = points if fmt.has_nan else points[~np.isnan(points)]
    if most is None or points.size <= most:
        return points
    # What lies around the ends of the range stays, and the specials; the rest is drawn.
    magnitude = np.abs(points.astype(np.float64))
    ends = (magnitude >= fmt.max / 2) | (magnitude <= fmt.smallest_subnormal * 2) | np.isnan(magnitude)
    ends |= (magnitude >= fmt.smallest_normal * 0.75) & (magnitude <= fmt.smallest_normal * 1.5)
    kept, rest = points[ends], points[~ends]
    kept = (
        kept
        if kept.size <= most
        else np.concatenate([rng.choice(kept, most, replace=False), points[~np.isfinite(points)]])
    )
    return np.concatenate([kept, rng.choice(rest, min(rest.size, most), replace=False)])


def specified(x: np.ndarray, fmt: Format, **modes: str) -> np.ndarray:
    """Encode one by one with the specification."""
    return np.array([reference.encode(v, fmt, **modes) for v in x.ravel().tolist()], fmt.code_dtype).reshape(x.shape)


def bits(x: np.ndarray) -> np.ndarray:
    """Return the bits of floats as unsigned integers."""
    x = np.asarray(x)
    return x.astype(x.dtype.newbyteorder("=")).view(f"u{x.itemsize}")


def value_bits(codes: np.ndarray, fmt: Format, dtype: type) -> np.ndarray:
    """Return the bits of the codes' values in a float dtype that holds them; every NaN the canonical one."""
    with np.errstate(over="ignore", under="ignore"):
        return bits(canonical(testing.values(fmt, codes)).astype(dtype))


def canonical(x: np.ndarray) -> np.ndarray:
    """Return ``x`` with every NaN positive and quiet."""
    return np.where(np.isnan(x), np.nan, x)


def holds(dtype: type, fmt: Format) -> bool:
    """Return whether a float dtype holds every value of a format, found by looking at the smallest and the largest."""
    info, lowest = np.finfo(dtype), fmt.smallest_subnormal if fmt.has_zero else fmt.min * fmt.eps
    return fmt.precision <= info.nmant + 1 and fmt.max <= float(info.max) and lowest >= float(info.smallest_subnormal)


# Every code


@pytest.mark.parametrize("fmt", [fmt for fmt in EVERY if fmt.bits <= 16], ids=str)
def test_every_code_decodes_and_encodes(fmt: Format) -> None:
    codes = testing.codes(fmt)
    want = testing.values(fmt)
    got = lp.decode(codes, fmt, dtype=np.float64)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(bits(canonical(got)), bits(canonical(want)))
    if holds(np.float32, fmt):
        got = lp.decode(codes, fmt)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(bits(canonical(got)), bits(canonical(want).astype(np.float32)))
    is_nan = np.isnan(want)
    expected = np.where(is_nan, fmt.nan_code or 0, codes).astype(fmt.code_dtype)
    for mode in DETERMINISTIC:  # exact values never move
        back = lp.encode(want, fmt, rounding=mode)
        assert back.dtype == fmt.code_dtype
        np.testing.assert_array_equal(back, expected)


@pytest.mark.parametrize("fmt", ["float32", "float64", "tf32"])
def test_codes_of_wide_formats(fmt: str, rng: np.random.Generator) -> None:
    fmt = lp.format(fmt)
    codes = rng.integers(0, 2**fmt.bits, 20000, dtype=np.uint64).astype(fmt.code_dtype)
    want = testing.values(fmt, codes)
    np.testing.assert_array_equal(bits(canonical(lp.decode(codes, fmt, dtype=np.float64))), bits(canonical(want)))
    back = lp.encode(want, fmt)
    np.testing.assert_array_equal(back, np.where(np.isnan(want), fmt.nan_code, codes))


# The points that matter, in every mode under every policy


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("fmt", EVERY, ids=str)
def test_float64_points_under_every_policy(fmt: Format, mode: str, rng: np.random.Generator) -> None:
    x = sources(fmt, np.float64, None if fmt.bits <= 8 and fmt.is_signed else 250, rng)
    for overflow in policies(fmt):
        for subnormals in SUBNORMALS:
            modes = {"rounding": mode, "overflow": overflow, "subnormals": subnormals}
            want = specified(x, fmt, **modes)
            got = lp.encode(x, fmt, **modes)
            assert got.dtype == fmt.code_dtype
            testing.assert_codes_equal(got, want, fmt, source=x)
            np.testing.assert_array_equal(
                bits(lp.round_to(x, fmt, **modes)), value_bits(want, fmt, np.float64), str(modes)
            )


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("fmt", [fmt for fmt in EVERY if fmt.bits > 8 or not fmt.is_signed], ids=str)
def test_many_float64_points(fmt: Format, mode: str, rng: np.random.Generator) -> None:
    x = sources(fmt, np.float64, 2500, rng)
    testing.assert_codes_equal(lp.encode(x, fmt, rounding=mode), specified(x, fmt, rounding=mode), fmt, source=x)


@pytest.mark.parametrize("mode", DETERMINISTIC)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("fmt", EVERY, ids=str)
def test_narrower_float_points(fmt: Format, dtype: type, mode: str, rng: np.random.Generator) -> None:
    x = sources(fmt, dtype, 600, rng)
    want = specified(x, fmt, rounding=mode)
    testing.assert_codes_equal(lp.encode(x, fmt, rounding=mode), want, fmt, source=x)
    got = lp.round_to(x, fmt, rounding=mode)
    assert got.dtype == (dtype if holds(dtype, fmt) or dtype is np.float32 else np.float32)
    if holds(got.dtype.type, fmt):
        np.testing.assert_array_equal(bits(got), value_bits(want, fmt, got.dtype.type))


@given(fmt=testing.formats(), data=st.data())
def test_any_format_any_array(fmt: Format, data: st.DataObject) -> None:
    x = data.draw(testing.arrays(fmt))
    modes = {
        "rounding": data.draw(st.sampled_from(DETERMINISTIC)),
        "overflow": data.draw(st.sampled_from(policies(fmt))),
        "subnormals": data.draw(st.sampled_from(SUBNORMALS)),
    }
    want = specified(x, fmt, **modes)
    testing.assert_codes_equal(lp.encode(x, fmt, **modes), want, fmt, source=x)
    np.testing.assert_array_equal(bits(lp.round_to(x, fmt, **modes)), value_bits(want, fmt, np.float64))


# Every kind of source

INTEGERS = [0, 1, -1, 7, -8, 127, 128, 255, -129, 2**24 + 1, 2**53 + 1, -(2**53) - 1, 2**62 + 2**38 + 1, 2**63 - 1]
FOR_SOURCES = ["fp64", "fp32", "tf32", "bf16", "fp16", "e4m3fn", "e2m1fn", "int8", "uint8", "int4"]


@pytest.mark.parametrize("fmt", FOR_SOURCES)
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">u8"])
def test_integer_arrays_round_once(fmt: str, dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.array([v for v in [*INTEGERS, info.min, info.max] if info.min <= v <= info.max], dtype)
    for mode in DETERMINISTIC:
        want = specified(x, lp.format(fmt), rounding=mode)
        testing.assert_codes_equal(lp.encode(x, fmt, rounding=mode), want, fmt, source=x)
        got = lp.round_to(x, fmt, rounding=mode)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(bits(got), value_bits(want, lp.format(fmt), np.float64))


@pytest.mark.parametrize("fmt", FOR_SOURCES)
@pytest.mark.parametrize(
    "x", [*INTEGERS, 2**64 - 1, 2**70, -(2**70), 2**70 + 2**17 + 1, 2**1023 + 1, 2**2000, -(10**400)], ids=hex
)
def test_python_integers_round_once(fmt: str, x: int) -> None:
    for mode in ("nearest_even", "toward_positive", "to_odd"):
        got = lp.encode(x, fmt, rounding=mode)
        assert hex(got) == hex(reference.encode(x, fmt, rounding=mode))
        assert type(got) is lp.format(fmt).code_dtype.type
        assert lp.encode([x, 1], fmt, rounding=mode).tolist() == [got, reference.encode(1, fmt)]


@pytest.mark.parametrize("fmt", FOR_SOURCES)
def test_booleans_and_python_floats(fmt: str) -> None:
    assert lp.encode(0.1, fmt) == reference.encode(0.1, fmt)
    assert lp.encode([0.1, 3], fmt).tolist() == [reference.encode(0.1, fmt), reference.encode(3, fmt)]


@pytest.mark.parametrize("source", [fmt for fmt in lp.formats() if fmt.storage_dtype and fmt.bits <= 16], ids=str)
def test_ml_dtypes_sources_are_taken_exactly(source: Format) -> None:
    codes = testing.codes(source)[:: 1 if source.bits <= 8 else 41]  # of 65,536 codes some 1,600, of every exponent
    values, x = testing.values(source, codes), codes.copy().view(source.storage_dtype)
    for fmt in (lp.format("bf16"), lp.format("fp16"), lp.format("e5m2")):
        testing.assert_codes_equal(lp.encode(x, fmt), specified(values, fmt), fmt, source=values)
        assert lp.round_to(x, fmt).dtype.kind == "f"


def test_double_rounding_does_not_happen() -> None:
    x = 1 + 2.0**-8 + 2.0**-40  # float32 would bring it to a tie of bfloat16
    assert lp.round_to(x, "bf16") == 1 + 2.0**-7
    assert lp.round_to(np.array([x]), "bf16")[0] == 1 + 2.0**-7
    assert lp.round_to(2**60 + 2**52 + 1, "bf16") == 2.0**60 + 2.0**53


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("fmt", ["bf16", "e4m3fn", "int4", "fp64"])
def test_layout_and_byte_order_do_not_matter(fmt: str, dtype: type, rng: np.random.Generator) -> None:
    plain = np.ascontiguousarray((rng.standard_normal((6, 10, 4)) * 20).astype(dtype))
    layouts = {
        "F order": np.asfortranarray(plain),
        "transposed": np.ascontiguousarray(plain.transpose(2, 0, 1)).transpose(1, 2, 0),
        "negative strides": np.ascontiguousarray(plain[::-1, :, ::-1])[::-1, :, ::-1],
        "every second": np.repeat(plain, 2, axis=1)[:, ::2],
        "big-endian": plain.astype(plain.dtype.newbyteorder(">")),
        "unaligned": np.frombuffer(b"\0" + plain.tobytes(), plain.dtype, offset=1).reshape(plain.shape),
        "broadcast": np.broadcast_to(plain[:1], plain.shape),
    }
    for name, x in layouts.items():
        expected = specified(np.array(x, dtype), lp.format(fmt))
        x.flags.writeable = False
        testing.assert_codes_equal(lp.encode(x, fmt), expected, fmt)
        got = lp.round_to(x, fmt)
        assert got.dtype.isnative, name
        np.testing.assert_array_equal(got.astype(np.float64), testing.values(fmt, expected), name)
        swapped = expected.astype(expected.dtype.newbyteorder(">"))[..., ::-1]
        np.testing.assert_array_equal(
            lp.decode(swapped, fmt, dtype=np.float64), testing.values(fmt, expected)[..., ::-1]
        )


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2, 0)])
def test_zero_size(shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    assert lp.encode(x, "fp16").shape == shape
    assert lp.decode(np.zeros(shape, np.uint8), "e4m3fn").shape == shape
    assert lp.round_to(x, "bf16").shape == shape
    assert lp.cast(x, "bf16").dtype == ml_dtypes.bfloat16
    assert lp.encode([], "fp16").shape == (0,)


def test_scalars_give_numpy_scalars() -> None:
    assert type(lp.encode(1.0, "fp16")) is np.uint16
    assert type(lp.encode(np.array(1.0), "bf16")) is np.uint16
    assert type(lp.decode(np.uint8(0x38), "e4m3fn")) is np.float32
    assert type(lp.decode(np.array(0x38, np.uint8), "e4m3fn", dtype=np.float64)) is np.float64
    assert type(lp.round_to(np.float32(0.1), "e4m3fn")) is np.float32
    assert type(lp.round_to(0.1, "e4m3fn")) is np.float64
    assert type(lp.cast(0.1, "bf16")) is ml_dtypes.bfloat16


def test_sources_are_not_changed(rng: np.random.Generator) -> None:
    x = rng.standard_normal(100)
    before = x.copy()
    lp.encode(x, "e2m1fn"), lp.round_to(x, "e2m1fn", subnormals="flush_inputs"), lp.cast(x, "e2m1fn")
    np.testing.assert_array_equal(bits(x), bits(before))


@pytest.mark.parametrize("fmt", ["bf16", "e4m3fn", "int8"])
def test_large_arrays_are_as_small_ones(fmt: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1031, 1033)).astype(np.float32) * 10
    got = lp.encode(x, fmt)
    rows = np.stack([lp.encode(row, fmt) for row in x])
    np.testing.assert_array_equal(got, rows)
    np.testing.assert_array_equal(lp.decode(got, fmt), lp.round_to(x, fmt))


# out=


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_is_filled_and_returned(dtype: type, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 7)).astype(dtype)
    want = lp.round_to(x, "e4m3fn")
    frame = np.full((10, 14), np.nan, dtype)
    outs = [np.empty_like(x), np.empty((7, 5), dtype).T, frame[::2, ::-2], np.empty_like(x)[::-1]]
    for out in outs:
        assert lp.round_to(x, "e4m3fn", out=out) is out
        np.testing.assert_array_equal(out, want)
    assert np.isnan(frame[1::2]).all()
    zero = np.empty((), dtype)
    lp.round_to(dtype(0.3), "e4m3fn", out=zero)
    assert zero == lp.round_to(0.3, "e4m3fn")


def test_out_may_be_the_source_itself(rng: np.random.Generator) -> None:
    for x in (rng.standard_normal((50, 60)), rng.standard_normal((50, 60))[::-1, ::2]):
        want = lp.round_to(x, "bf16")
        assert lp.round_to(x, "bf16", out=x) is x
        np.testing.assert_array_equal(x, want)


def test_out_of_the_wrong_kind() -> None:
    x = np.arange(6.0)
    fixed = np.empty(6)
    fixed.flags.writeable = False
    for source, out, kind in (
        (x, np.empty(5), ValueError),
        (x, np.empty((1, 6)), ValueError),
        (x, np.empty(6, np.int64), TypeError),
        (x, [0.0] * 6, TypeError),
        (x, fixed, ValueError),
    ):
        before = np.array(out)
        with pytest.raises(kind, match="`out` must"):
            lp.round_to(source, "bf16", out=out)
        np.testing.assert_array_equal(np.array(out), before)


@pytest.mark.parametrize("size", [6, 1000, 1_200_000])
@pytest.mark.parametrize("name", ["later", "earlier", "reversed", "interleaved"])
def test_out_that_overlaps_is_refused_or_right(name: str, size: int, rng: np.random.Generator) -> None:
    buffer = rng.standard_normal(2 * size + 8)
    x, out = {
        "later": (buffer[:size], buffer[3 : size + 3]),
        "earlier": (buffer[3 : size + 3], buffer[:size]),
        "reversed": (buffer[:size], buffer[size - 1 :: -1]),
        "interleaved": (buffer[:size], buffer[: 2 * size : 2]),
    }[name]
    want, before = lp.round_to(x.copy(), "bf16"), out.copy()
    try:
        lp.round_to(x, "bf16", out=out)
    except ValueError as error:
        assert "`out` must" in str(error)  # noqa: PT017
        want = before
    np.testing.assert_array_equal(out, want)


def test_out_is_whole_or_untouched() -> None:
    x = np.ones(300_000)
    x[-1] = np.nan
    out = np.full_like(x, 7)
    with pytest.raises(ValueError, match="NaN"):
        lp.round_to(x, "e2m1fn", out=out)
    assert (out == 7).all()


# cast


@pytest.mark.parametrize("fmt", [fmt for fmt in lp.formats() if fmt.bits <= 16], ids=str)
def test_cast_has_the_storage_dtype_and_the_codes_of_encode(fmt: Format, rng: np.random.Generator) -> None:
    x = sources(fmt, np.float64, 500, rng)
    got = lp.cast(x, fmt)
    assert got.dtype == fmt.storage_dtype
    mask = 2**fmt.bits - 1
    testing.assert_codes_equal(got.view(fmt.code_dtype) & mask, lp.encode(x, fmt), fmt, source=x)
    with np.errstate(invalid="ignore"):
        values = got.astype(np.float64)
    np.testing.assert_array_equal(values, testing.values(fmt, lp.encode(x, fmt)))


@pytest.mark.parametrize("fmt", ["fp32", "tf32", "fp64"])
def test_cast_to_wide_formats(fmt: str) -> None:
    x = np.array([[0.1, -0.0], [np.inf, 1e300]])
    got = lp.cast(x, fmt)
    assert got.dtype == lp.format(fmt).storage_dtype
    np.testing.assert_array_equal(bits(got.astype(np.float64)), bits(lp.round_to(x, fmt)))


def test_cast_without_storage() -> None:
    with pytest.raises((TypeError, ValueError), match=r"`fmt` must.*e5m7"):
        lp.cast([1.0], "e5m7")


# pack, unpack

WIDTHS = [lp.IntFormat(bits=n, is_signed=False) for n in range(1, 33)] + [
    lp.format(n) for n in ("fp4", "e2m3fn", "tf32", "fp64")
]


@pytest.mark.parametrize("fmt", WIDTHS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 1000])
def test_pack_is_a_stream_of_bits_lowest_first(fmt: Format, count: int, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 2**fmt.bits, count, dtype=np.uint64).astype(fmt.code_dtype)
    packed = lp.pack(codes, fmt)
    assert packed.dtype == np.uint8
    assert packed.shape == (-(-count * fmt.bits // 8),)
    stream = sum(int(code) << (i * fmt.bits) for i, code in enumerate(codes))
    assert int.from_bytes(packed.tobytes(), "little") == stream
    back = lp.unpack(packed, fmt, count)
    assert back.dtype == fmt.code_dtype
    np.testing.assert_array_equal(back, codes)


def test_pack_takes_any_shape_in_c_order(rng: np.random.Generator) -> None:
    codes = rng.integers(0, 16, (4, 6), dtype=np.uint8)
    np.testing.assert_array_equal(lp.pack(np.asfortranarray(codes), "fp4"), lp.pack(codes.ravel(), "fp4"))
    np.testing.assert_array_equal(lp.pack(codes[:, ::-1], "fp4"), lp.pack(codes[:, ::-1].ravel(), "fp4"))
    padded = np.append(lp.pack(codes, "fp4"), np.uint8(255))
    np.testing.assert_array_equal(lp.unpack(padded, "fp4", 24), codes.ravel())


# Bad input

BAD = [
    (lambda: lp.encode([1.0], "fp8"), ValueError, ["`fmt`", "fp8_e4m3", "fp8_e5m2"]),
    (lambda: lp.encode([1.0], "bf61"), ValueError, ["`fmt`", "bf16"]),
    (lambda: lp.encode([1.0], None), TypeError, ["`fmt`"]),
    (lambda: lp.encode(np.array([1.0], object), "fp16"), TypeError, ["`x` must", "object"]),
    (lambda: lp.encode(np.array(["a"]), "fp16"), TypeError, ["`x` must"]),
    (lambda: lp.encode("1.0", "fp16"), TypeError, ["`x` must"]),
    (lambda: lp.encode([1j], "fp16"), TypeError, ["`x` must", "complex"]),
    (lambda: lp.encode(None, "fp16"), TypeError, ["`x` must"]),
    (lambda: lp.encode(np.array(["2020-01-01"], "M8[D]"), "fp16"), TypeError, ["`x` must"]),
    (lambda: lp.encode([1.0, math.nan], "e2m1fn"), ValueError, ["`x` must", "NaN"]),
    (lambda: lp.encode(np.float32([math.nan]), "int8"), ValueError, ["`x` must", "NaN"]),
    (lambda: lp.round_to([math.nan], "e3m2fn"), ValueError, ["`x` must", "NaN"]),
    (lambda: lp.cast([math.nan], "int4"), ValueError, ["`x` must", "NaN"]),
    (lambda: lp.encode([1.0], "fp16", rounding="up"), ValueError, ["`rounding` must", "up", "toward_positive"]),
    (lambda: lp.encode([1.0], "fp16", rounding=1), TypeError, ["`rounding` must"]),
    (lambda: lp.encode([1.0], "fp16", overflow="clip"), ValueError, ["`overflow` must", "saturate"]),
    (lambda: lp.encode([1.0], "e4m3fn", overflow="inf"), ValueError, ["`overflow` must", "inf"]),
    (lambda: lp.encode([1.0], "e2m1fn", overflow="nan"), ValueError, ["`overflow` must", "saturate"]),
    (lambda: lp.encode([1.0], "fp16", subnormals="ftz"), ValueError, ["`subnormals` must", "flush"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic"), ValueError, ["`rng` must"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=-1), ValueError, ["`rng` must", "-1"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=2**64), ValueError, ["`rng` must"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=1.5), TypeError, ["`rng` must"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng="seed"), TypeError, ["`rng` must"]),
    (lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=1, random_bits=0), ValueError, ["`random_bits` must"]),
    (
        lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=1, random_bits=33),
        ValueError,
        ["`random_bits` must"],
    ),
    (
        lambda: lp.encode([1.0], "fp16", rounding="stochastic", rng=1, random_bits=8.0),
        TypeError,
        ["`random_bits` must"],
    ),
    (lambda: lp.decode([0.5], "fp16"), TypeError, ["`codes` must"]),
    (lambda: lp.decode(np.array([16], np.uint8), "fp4"), ValueError, ["`codes` must", "15", "16"]),
    (lambda: lp.decode(np.array([2**16], np.uint32), "fp16"), ValueError, ["`codes` must", "65535"]),
    (lambda: lp.decode(np.array([-1]), "fp16"), (TypeError, ValueError), ["`codes` must"]),
    (lambda: lp.decode(np.uint8([1]), "e4m3fn", dtype=np.int32), TypeError, ["`dtype` must"]),
    (lambda: lp.decode(np.uint64([1]), "fp64"), ValueError, ["`dtype` must", "float64"]),
    (lambda: lp.decode(np.uint16([1]), "bf16", dtype=np.float16), ValueError, ["`dtype` must"]),
    (lambda: lp.pack(np.array([16], np.uint8), "fp4"), ValueError, ["`codes` must", "15", "16"]),
    (lambda: lp.pack(np.array([0.5]), "fp4"), TypeError, ["`codes` must"]),
    (lambda: lp.unpack(np.zeros(2, np.uint8), "fp4", 5), ValueError, ["3", "2"]),
    (lambda: lp.unpack(np.zeros(2, np.uint8), "fp4", -1), ValueError, ["`count` must", "-1"]),
    (lambda: lp.unpack(np.zeros(2, np.uint8), "fp4", 1.5), TypeError, ["`count` must"]),
    (lambda: lp.unpack(np.zeros(2, np.float32), "fp4", 2), TypeError, ["must"]),
]


@pytest.mark.parametrize(("call", "kind", "parts"), BAD)
def test_bad_input(call, kind: type[Exception], parts: list[str]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert [part for part in parts if part not in str(caught.value)] == []
