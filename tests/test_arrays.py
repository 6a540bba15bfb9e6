"""QuantizedArray: what it takes, what it refuses, and the numbers it stands for."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import reference

STORED = [fmt for fmt in lp.formats() if fmt.storage_dtype is not None and fmt.name != "tf32"]
SCALES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e8m0fnu, ml_dtypes.float8_e4m3fn]


def codes(fmt: Any, shape: tuple[int, ...] = (4, 64), seed: int = 0) -> Any:
    form = lp.format(fmt)
    top = 1 << form.bits
    return np.random.default_rng(seed).integers(0, top, shape, np.uint64).astype(form.code_dtype)


def same(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a), np.signbit(b))


# -------------------------------------------------------------------------------------------------------------- shapes


def test_per_tensor() -> None:
    q = lp.QuantizedArray(codes("int8"), 0.25, format="int8")
    assert (q.shape, q.ndim, q.size, len(q), q.axis, q.block_size) == ((4, 64), 2, 256, 4, None, None)
    assert q.scale.shape == ()
    assert q.scale.dtype == np.float32
    assert q.scale_format is lp.format("fp32")
    assert same(q.dequantize(), lp.decode(q.codes, "int8") * np.float32(0.25))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_per_axis(axis: int) -> None:
    shape = (3, 4, 5)
    scale = 2.0 ** np.arange(shape[axis]).astype(np.float32)
    q = lp.QuantizedArray(codes("int4", shape), scale, format="int4", axis=axis)
    assert q.axis == axis % 3
    for place in np.ndindex(shape):
        assert q.dequantize()[place] == lp.decode(q.codes[place], "int4") * scale[place[axis]]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("block", [1, 3, 16, 32, 64, 100])
def test_blocks(axis: int, block: int) -> None:
    """The last block of an axis may be shorter, and longer blocks than the axis are one."""
    shape = (33, 64)
    lengths = list(shape)
    lengths[axis] = -(-shape[axis] // block)
    scale = np.exp2(np.random.default_rng(0).integers(-8, 9, lengths)).astype(ml_dtypes.float8_e8m0fnu)
    q = lp.QuantizedArray(codes("e2m1fn", shape), scale, format="e2m1fn", axis=axis, block_size=block)
    values = q.dequantize()
    for place in [(0, 0), (2, 3), (3, 2), (32, 63), (16, 16), (15, 31)]:
        where = list(place)
        where[axis] //= block
        assert values[place] == lp.decode(q.codes[place], "e2m1fn") * np.float32(scale[tuple(where)])


@pytest.mark.parametrize(
    ("shape", "scale", "facts", "message"),
    [
        ((4, 64), (4, 3), {"axis": 1, "block_size": 32}, r"`scale` must have shape \(4, 2\) .* axis=1, block_size=32"),
        ((4, 33), (4, 1), {"axis": 1, "block_size": 32}, r"`scale` must have shape \(4, 2\)"),
        ((4, 64), (2, 4), {"axis": 1, "block_size": 32}, r"`scale` must have shape \(4, 2\)"),
        ((4, 64), (4,), {"axis": 1}, r"`scale` must have shape \(64,\)"),
        ((4, 64), (4, 1), {"axis": 0}, r"`scale` must have shape \(4,\)"),
        ((4, 64), (1,), {}, r"`scale` must have shape \(\) .*got \(1,\)"),
        ((4, 64), (4,), {}, r"`scale` must have shape \(\)"),
        ((), (1,), {}, r"`scale` must have shape \(\)"),
        ((4, 64), (), {"axis": 2}, r"`axis` must be from -2 to 1 .*got 2"),
        ((), (), {"axis": 0}, r"`axis` must be from 0 to -1"),
        ((4, 64), (), {"axis": -3}, r"`axis` must be from -2 to 1"),
        ((4, 64), (4, 2), {"block_size": 32}, r"`axis` must be given with block_size=32"),
        ((4, 64), (4, 2), {"axis": 1, "block_size": 0}, r"`block_size` must be 1 or more, got 0"),
        ((4, 64), (4, 2), {"axis": 1, "block_size": -1}, r"`block_size` must be 1 or more"),
    ],
)
def test_wrong_shapes(shape: Any, scale: Any, facts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lp.QuantizedArray(codes("int8", shape), np.ones(scale, np.float32), format="int8", **facts)


# --------------------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize("fmt", STORED, ids=str)
def test_storage_arrays_and_codes_are_the_same(fmt: Any) -> None:
    own = codes(fmt)
    stored = lp.decode(own, fmt, dtype=np.float64).astype(fmt.storage_dtype)
    if isinstance(fmt, lp.FloatFormat):
        stored = own.view(fmt.storage_dtype)  # NaN codes as they are
    q = lp.QuantizedArray(stored, 1.0, format=fmt)
    assert q.codes.dtype == fmt.code_dtype
    assert np.array_equal(q.codes, own)


def test_signed_storage_is_two_s_complement() -> None:
    assert lp.QuantizedArray(np.array([-1, -128, 127], np.int8), 1.0, format="int8").codes.tolist() == [255, 128, 127]
    assert lp.QuantizedArray(np.array([-1, -8, 7]).astype(ml_dtypes.int4), 1.0, format="int4").codes.tolist() == [
        15,
        8,
        7,
    ]


def test_wider_unsigned_codes_are_taken() -> None:
    q = lp.QuantizedArray(np.array([1, 15], np.uint32), 1.0, format="e2m1fn")
    assert q.codes.dtype == np.uint8
    assert lp.QuantizedArray([1, 15], 1.0, format="e2m1fn").dequantize().tolist() == [0.5, -6.0]


@pytest.mark.parametrize("dtype", SCALES)
def test_scale_keeps_its_dtype(dtype: Any) -> None:
    q = lp.QuantizedArray(codes("e4m3fn"), np.array(0.5, dtype), format="e4m3fn")
    assert q.scale.dtype == dtype
    assert q.scale_format == lp.format(dtype)
    assert same(q.dequantize(), lp.decode(q.codes, "e4m3fn") * np.float32(0.5))


@pytest.mark.parametrize(
    ("arguments", "facts", "error", "message"),
    [
        ((np.ones(2, np.float32), 1.0), {"format": "int8"}, TypeError, "`codes` must be uint8 codes of `int8`"),
        ((np.ones(2, bool), 1.0), {"format": "int8"}, TypeError, "`codes` must be"),
        (
            (np.ones(2, ml_dtypes.float8_e5m2), 1.0),
            {"format": "e4m3fn"},
            TypeError,
            "an array of its own dtype, got dtype float8_e5m2",
        ),
        ((np.array([16], np.uint8), 1.0), {"format": "e2m1fn"}, ValueError, "`codes` must be from 0 to 15 .*got 16"),
        ((np.array([-1]), 1.0), {"format": "e2m1fn"}, ValueError, "`codes` must be from 0 to 15 .*got -1"),
        ((np.ones(2, np.float32), 1.0), {"format": "tf32"}, TypeError, "`codes` must be uint32 codes of `tf32`"),
        ((np.ma.array([1], mask=[True]), 1.0), {"format": "int8"}, TypeError, "`codes` must not be a masked array"),
        (([1], np.uint8(1)), {"format": "int8"}, TypeError, "`scale` must be .*ml_dtypes.float8_e8m0fnu"),
        (([1], np.array(1, np.int32)), {"format": "int8"}, TypeError, "`scale` must be"),
        (([1], "one"), {"format": "int8"}, TypeError, "`scale` must be"),
        (([1], None), {"format": "int8"}, TypeError, "`scale` must be"),
        (([1], 1j), {"format": "int8"}, TypeError, "`scale` must be"),
        (([1], 1.0, 0), {"format": "e4m3fn"}, ValueError, "`zero_point` must be None for"),
        (([1], 1.0, 0.5), {"format": "int8"}, TypeError, "`zero_point` must be of integers"),
        (([1], 1.0, 128), {"format": "int8"}, ValueError, "`zero_point` must be from -128 to 127 .*got 128"),
        (([1], 1.0, -1), {"format": "uint8"}, ValueError, "`zero_point` must be from 0 to 255 .*got -1"),
        (
            ([1], 1.0, [1]),
            {"format": "uint8"},
            ValueError,
            "`zero_point` must be a scalar or have the shape of `scale`",
        ),
        (([1], 1.0), {"format": "int9000"}, ValueError, "`format` must be a known format name"),
        (([1], 1.0), {"format": 8}, TypeError, "`format` must be"),
        (([1], 1.0), {"format": "int8", "axis": 0.0}, TypeError, "`axis` must be an integer"),
        (([1], 1.0), {"format": "int8", "axis": True}, TypeError, "`axis` must be an integer"),
        (([1], 1.0), {"format": "int8", "axis": 0, "block_size": 1.5}, TypeError, "`block_size` must be an integer"),
        (([1], 1.0), {"format": "int8", "axis": 0, "block_size": True}, TypeError, "`block_size` must be an integer"),
    ],
)
def test_wrong_kinds(arguments: Any, facts: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lp.QuantizedArray(*arguments, **facts)


# -------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("fmt", ["e4m3fn", "e5m2", "e2m1fn", "int8", "uint4", "bf16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_dequantize_rounds_once(fmt: str, dtype: Any) -> None:
    """Against fractions: a float32 scale with a full significand, products on and near midpoints of the target."""
    form, target = lp.format(fmt), lp.format(dtype)
    own = np.unique(codes(fmt, (256,)))
    for scale in (np.float32(1 + 2**-11), np.float32(1 + 2**-8 + 2**-23), np.float32(1 / 3), np.float32(2**-149)):
        got = lp.QuantizedArray(own, scale, format=fmt).dequantize(dtype)
        assert got.dtype == dtype
        for code, value in zip(own.tolist(), got.astype(np.float64).tolist(), strict=True):
            number = reference.decode(code, form)
            if np.isfinite(number) and number:
                exact = Fraction(number) * Fraction(float(scale))
                assert value == reference.decode(reference.encode(exact, target), target), (code, scale)
            elif number == 0:
                assert (value, np.signbit(value)) == (0, np.signbit(number))
            else:
                assert str(value) == str(number)


def test_zero_point_is_exact() -> None:
    own = np.arange(256, dtype=np.uint8)
    q = lp.QuantizedArray(own, np.float32(1 / 3), 200, format="uint8")
    assert same(q.dequantize(np.float64), (np.arange(256.0) - 200) * np.float64(np.float32(1 / 3)))
    q = lp.QuantizedArray(own, np.float32(1 / 3), np.int8(-128), format="int8")
    assert same(q.dequantize(np.float64), (np.arange(256, dtype=np.uint8).view(np.int8) + 128.0) * np.float32(1 / 3))


def test_zero_points_of_slices_and_blocks() -> None:
    scale = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32)
    q = lp.QuantizedArray(np.full((2, 4), 7, np.uint8), scale, [[0, 1], [2, 3]], format="uint8", axis=1, block_size=2)
    assert q.dequantize().tolist() == [[7.0, 7.0, 12.0, 12.0], [20.0, 20.0, 32.0, 32.0]]
    one = lp.QuantizedArray(q.codes, scale, 7, format="uint8", axis=1, block_size=2)
    assert one.zero_point.shape == (2, 2)
    assert not one.dequantize().any()


def test_special_scales() -> None:
    """A NaN scale makes NaN, also of zeros; 2**-127 is a scale like any other."""
    scale = np.array([255, 0], np.uint8).view(ml_dtypes.float8_e8m0fnu)
    q = lp.QuantizedArray(np.zeros((2, 2), np.uint8), scale, format="e2m1fn", axis=0)
    assert np.isnan(q.dequantize()[0]).all()
    assert not q.dequantize()[1].any()
    q = lp.QuantizedArray(np.full((2, 2), 2, np.uint8), scale, format="e2m1fn", axis=0)
    assert q.dequantize()[1, 0] == 2.0**-127


def test_dequantize_refuses() -> None:
    q = lp.QuantizedArray([1], 1.0, format="int8")
    for wrong in (np.int8, np.complex64, bool, ml_dtypes.int4):
        with pytest.raises(TypeError, match="`dtype` must be a floating dtype"):
            q.dequantize(wrong)


# ---------------------------------------------------------------------------------------------------- plain frozen data


def test_nbytes() -> None:
    """MXFP4 takes 4.25 bits per element, NVFP4 4.5."""
    mx = np.ones((4, 2), ml_dtypes.float8_e8m0fnu)
    assert lp.QuantizedArray(codes("e2m1fn"), mx, format="e2m1fn", axis=1, block_size=32).nbytes == 256 * 4.25 / 8
    nv = np.ones((4, 4), ml_dtypes.float8_e4m3fn)
    assert lp.QuantizedArray(codes("e2m1fn"), nv, format="e2m1fn", axis=1, block_size=16).nbytes == 256 * 4.5 / 8
    assert lp.QuantizedArray(codes("e2m3fn", (5,)), 1.0, format="e2m3fn").nbytes == 4 + 4
    assert lp.QuantizedArray(codes("int8", (5,)), 1.0, 0, format="int8").nbytes == 5 + 4 + 1
    assert lp.QuantizedArray(codes("int8", (0,)), 1.0, format="int8").nbytes == 4


@pytest.mark.parametrize("facts", [{}, {"axis": 1}, {"axis": 2, "block_size": 2}])
@pytest.mark.parametrize("order", [(), (0, 2, 1), (2, 0, 1), (-1, 0, 1)])
def test_transpose(facts: Any, order: tuple[int, ...]) -> None:
    shape = (2, 3, 5)
    sizes = {None: (), 1: (3,), 2: (2, 3, 3)}[facts.get("axis")]
    scale = np.arange(1, 1 + int(np.prod(sizes)), dtype=np.float32).reshape(sizes)
    point = np.arange(int(np.prod(sizes))).reshape(sizes)
    q = lp.QuantizedArray(codes("uint8", shape), scale, point, format="uint8", **facts)
    moved = q.transpose(*order)
    assert same(moved.dequantize(), q.dequantize().transpose(order or None))
    assert np.shares_memory(moved.codes, q.codes)
    if not order:
        assert same(q.T.dequantize(), q.dequantize().T)
        assert same(q.mT.dequantize(), np.swapaxes(q.dequantize(), -1, -2))


def test_transpose_refuses() -> None:
    q = lp.QuantizedArray(codes("int8"), 1.0, format="int8")
    for wrong in ((0,), (0, 0), (0, 2), (0, 1, 2)):
        with pytest.raises(ValueError, match="`axes` must be the axes 0 to 1, each once"):
            q.transpose(*wrong)
    with pytest.raises(ValueError, match="`mT` must be asked of an array with 2 axes or more"):
        _ = lp.QuantizedArray([1], 1.0, format="int8").mT


def test_frozen_and_unwritable() -> None:
    own = codes("int8")
    q = lp.QuantizedArray(own, 1.0, 0, format="int8")
    assert np.shares_memory(q.codes, own)
    assert own.flags.writeable
    with pytest.raises(AttributeError, match="must not be set"):
        q.scale = 2.0
    for array in (q.codes, q.scale, q.zero_point):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


def test_never_a_plain_array_unasked() -> None:
    q = lp.QuantizedArray(codes("int8"), 1.0, format="int8")
    with pytest.raises(TypeError, match=r"call .dequantize\(\)"):
        np.asarray(q)
    for combine in (lambda: q @ np.ones((64, 2)), lambda: np.ones((2, 4)) @ q, lambda: np.add(q, 1), lambda: q + 1):
        with pytest.raises(TypeError):
            combine()
    with pytest.raises(TypeError, match="`len` must"):
        len(lp.QuantizedArray(np.uint8(1), 1.0, format="int8"))


def test_copies_and_repr() -> None:
    scale = np.ones((4, 2), ml_dtypes.float8_e8m0fnu)
    q = lp.QuantizedArray(codes("e2m1fn"), scale, format="e2m1fn", axis=-1, block_size=32)
    for twin in (pickle.loads(pickle.dumps(q)), copy.copy(q), copy.deepcopy(q)):
        assert same(twin.dequantize(), q.dequantize())
        assert repr(twin) == repr(q)
    assert repr(q).startswith("QuantizedArray(shape=(4, 64), format='float4_e2m1fn', scale='float8_e8m0fnu', axis=1")
    assert hash(q) == hash(q)
    assert "zero_point=True" in repr(lp.QuantizedArray([1], 1.0, 3, format="int8"))
