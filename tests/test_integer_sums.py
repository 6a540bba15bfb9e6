"""`Integer` models through the public functions: wrap, saturate, raise, against the twin in `lowprec.reference`."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from test_integer_matmul import array, ends, wide

import lowprec as lp
from lowprec import reference

MODELS = [
    lp.Integer(),
    lp.Integer(32, is_signed=False),
    lp.Integer(16),
    lp.Integer(12, is_signed=False),
    lp.Integer(32, "saturate"),
    lp.Integer(16, "saturate", 4),
    lp.Integer(16, "saturate", is_signed=False),
    lp.Integer(32, "raise"),
    lp.Integer(20, "raise"),
]
PAIRS = [("int8", "int8"), ("uint8", "int8"), ("int4", "uint8"), ("uint4", "int2")]


def twin(model: lp.Integer, a: Any, b: Any, c: int, formats: tuple[str, str]) -> int:
    """Return one sum by the reference."""
    masks = [(1 << lp.format(fmt).bits) - 1 for fmt in formats]
    x, y = ([int(value) & mask for value in values] for values, mask in zip((a, b), masks, strict=True))
    code = reference.accumulate(model, x, y, c & ((1 << model.bits) - 1), formats=formats)
    return code - (1 << model.bits) if model.is_signed and code >> (model.bits - 1) else code


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_models(model: lp.Integer, pair: tuple[str, str]) -> None:
    """Wrap, saturate and raise where nothing overflows, one element at a time."""
    a, b = array(pair[0], (3, 45), 1), array(pair[1], (45, 6), 2, "ends")
    c = np.arange(18).reshape(3, 6)
    got = lp.matmul(a, b, accumulator=model, c=c)
    assert got.dtype == (np.int32 if model.is_signed else np.uint32)
    for i, j in itertools.product(range(3), range(6)):
        assert got[i, j] == twin(model, wide(a[i]), wide(b[:, j]), int(c[i, j]), pair), (i, j)
    assert np.array_equal(lp.vecdot(a[:, None], b.T, accumulator=model, c=c), got)
    assert np.array_equal(lp.linear(a, b.T, accumulator=model, c=c), got)
    assert np.array_equal(lp.matmul(a[0], b, accumulator=model, c=c[0]), got[0])
    assert lp.matmul(a[0], b[:, 0], accumulator=model, c=0) == lp.vecdot(a[0], b[:, 0], accumulator=model)


def test_default_is_int32() -> None:
    a, b = array("uint4", (20, 300), 1), array("int8", (4, 300, 33), 2)
    got = lp.matmul(a, b)
    assert got.dtype == np.int32
    assert np.array_equal(got, wide(a) @ wide(b))
    out = np.full((4, 20, 33), 5, np.int32)
    assert lp.matmul(a, b, c=out, out=out) is out
    assert np.array_equal(out, wide(a) @ wide(b) + 5)
    view = np.zeros((4, 20, 66), np.int32)[..., ::2]
    lp.matmul(a, b, out=view)
    assert np.array_equal(view, got)


def test_dtype_names_a_narrower_format() -> None:
    """Integers beyond it saturate; the storage need not be that of the format."""
    a, b = np.array([[100, -100, 3]], np.int32), np.array([[1], [1], [2]], np.int64)
    assert lp.matmul(a, b, "int4") == 7 - 8 + 6
    assert lp.matmul(a.astype(np.int8), b, ("int8", "uint2")) == 6
    assert lp.matmul(np.array([[True, False]]), np.array([[5], [9]], np.uint8)) == 5


def test_bias_wraps_saturates_or_raises() -> None:
    x, w = np.array([[100]], np.int8), np.array([[100]], np.int8)
    bias = np.array([2**31 - 1])
    assert lp.linear(x, w, bias) == 10_000 + 2**31 - 1 - 2**32
    assert lp.linear(x, w, bias, accumulator="int32_saturate") == 2**31 - 1
    with pytest.raises(OverflowError, match=r"element \[0, 0\] of the result is 2147493647, outside"):
        lp.linear(x, w, bias, accumulator=lp.Integer(32, "raise"))


def test_convolution() -> None:
    x, w = array("int8", (2, 3, 6, 7), 1), array("uint4", (4, 3, 3, 3), 2)
    got = lp.conv2d(x, w, padding=1, accumulator=lp.Integer(32, "raise"))
    assert np.array_equal(got, lp.conv2d(wide(x).astype(np.float64), wide(w).astype(np.float64), padding=1))
    assert np.array_equal(got, lp.conv2d(x, w, padding=1))


# ---------------------------------------------------------------------------------------------------------- the raising
RAISE = lp.Integer(16, "raise")


def test_message_names_index_value_and_range() -> None:
    a, b = np.ones((2, 3, 300), np.int8), np.ones((300, 4), np.int8)
    a[1, 2], b[:, 0] = 127, 0
    message = (
        r"`accumulator` must hold every sum: element \[1, 2, 1\] of the result is 38100, outside -32768 to 32767 of "
        r"int16; use more bits, or overflow=\"saturate\" or \"wrap\"\."
    )
    with pytest.raises(OverflowError, match=message):
        lp.matmul(a, b, accumulator=RAISE)
    with pytest.raises(OverflowError, match=r"element \[0, 0, 1\]"):
        lp.matmul(np.full_like(a, 127), b, accumulator=RAISE)
    with pytest.raises(OverflowError, match=message.replace(r"\[1, 2, 1\]", r"\[1\]")):
        lp.vecdot(a[1, 2], b.T, accumulator=RAISE)
    with pytest.raises(OverflowError, match=r"must hold every sum: element of the result is 38100"):
        lp.vecdot(a[1, 2], b[:, 1], accumulator=RAISE)


@pytest.mark.parametrize("end", [-(2**15), 2**15 - 1])
def test_ends_of_the_range(end: int) -> None:
    """The ends themselves are sums; one beyond is an error; c counts."""
    step = 1 if end > 0 else -1
    a = np.array([[step]], np.int8)
    one = np.ones((1, 1), np.int8)
    assert lp.matmul(a, one, accumulator=RAISE, c=end - step) == end
    for call in (lp.matmul, lp.vecdot):
        with pytest.raises(OverflowError, match=f"is {end + step}, outside -32768 to 32767"):
            call(a, one, accumulator=RAISE, c=[[end]] if call is lp.matmul else [end])
    with pytest.raises(OverflowError, match="is -1, outside 0 to 65535 of uint16"):
        lp.matmul(-one, one, accumulator=lp.Integer(16, "raise", is_signed=False))


def test_running_sums_do_not_count() -> None:
    """Only the final exact sum does: this one passes far beyond 16 bits, in any order of four products."""
    a = np.array([[127] * 300 + [-127] * 300], np.int8)
    b = np.full((600, 1), 127, np.int8)
    assert lp.matmul(a, b, accumulator=RAISE) == 0 == lp.vecdot(a[0], b[:, 0], accumulator=RAISE)


@pytest.mark.parametrize("pair", [("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8")], ids="-".join)
def test_more_products_than_fit_in_32_bits(pair: tuple[str, str]) -> None:
    k = 150_000
    a = array(pair[0], (2, k), 1, "low" if ends(pair[0])[0] else "high")
    b = array(pair[1], (k, 2), 2, "low" if ends(pair[1])[0] else "high")
    exact = wide(a) @ wide(b)
    assert np.abs(exact).max() >= 2**31 - 2**28
    a[1] = 0
    a[1, -3:] = 1
    right = wide(a) @ wide(b)
    with pytest.raises(OverflowError, match=f"is {right[0, 0]}, outside"):
        lp.matmul(a, b, accumulator=lp.Integer(24, "raise"))
    assert np.array_equal(lp.matmul(a[1:], b, accumulator=lp.Integer(24, "raise")), right[1:])


def test_wide_operands() -> None:
    """Integers of 16 and 32 bits, exact in int64 or Python's integers."""
    rng = np.random.default_rng(3)
    for dtype in (np.int16, np.uint16, np.int32, np.uint32):
        span = np.iinfo(dtype)
        a, b = (rng.integers(span.min, span.max, shape, dtype, endpoint=True) for shape in ((3, 9), (9, 2)))
        exact = a.astype(object) @ b.astype(object)
        low, high = -(2**19), 2**19 - 1
        first = next(int(x) for x in exact.ravel() if not low <= x <= high)
        with pytest.raises(OverflowError, match=f"is {first}, outside {low} to {high}"):
            lp.matmul(a, b, accumulator=lp.Integer(20, "raise"))
        with pytest.raises(OverflowError, match=f"is {first}, outside {low} to {high}"):
            lp.vecdot(a[:, np.newaxis], b.T, accumulator=lp.Integer(20, "raise"))
        small = (a % 7).astype(dtype), (b % 5).astype(dtype)
        want = small[0].astype(np.int64) @ small[1].astype(np.int64)
        assert np.array_equal(lp.matmul(*small, accumulator=lp.Integer(32, "raise")), want)


def test_raising_leaves_out_untouched() -> None:
    out = np.full((1, 1), 3, np.int32)
    big = np.full((1, 9), 127, np.int8)
    with pytest.raises(OverflowError):
        lp.matmul(big, big.T, accumulator=RAISE, out=out)
    assert out == 3


def test_twin_raises_too() -> None:
    with pytest.raises(OverflowError, match="the sum is 32768, outside -32768 to 32767 of int16"):
        reference.accumulate(RAISE, [1], [1], 32767, formats=("int8", "int8"))


def test_int4_storage_is_read_as_it_is() -> None:
    a = array("int4", (30, 64), 1)
    assert a.dtype == ml_dtypes.int4
    assert np.array_equal(lp.matmul(a, a.T), wide(a) @ wide(a).T)
