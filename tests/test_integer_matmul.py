"""Exact products of integers: every way of every pairing of formats against Python's integers, and their scaling."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _dots
from lowprec._integer_product import product
from lowprec.reference import integer_dot, scaled

NAMES = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "int1", "uint1")
PAIRS = list(itertools.product(NAMES, NAMES))
FEW = [("int8", "int8"), ("int8", "uint8"), ("uint8", "int8"), ("uint8", "uint8"), ("int4", "uint4"), ("uint8", "int4")]
# Panels are 6 or 8 rows and 8 to 48 columns wide; a block of k is 512 or 1024 long.
SHAPES = [(1, 1, 1), (7, 5, 17), (13, 70, 49), (6, 1027, 16)]
Array = np.ndarray[Any, Any]


@pytest.fixture(params=[way for way in _dots.WAYS if way in _dots.can()])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Go each way that this CPU can go."""
    monkeypatch.setattr(_dots, "way", lambda: request.param)
    return str(request.param)


def ends(name: str) -> tuple[int, int]:
    """Return the smallest and the largest integer of a format."""
    bits = int(name.removeprefix("u").removeprefix("int"))
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def array(name: str, shape: tuple[int, ...], seed: int, kind: str = "any") -> Array:
    """Return integers of a format: any, all at the low or the high end, or most at either."""
    rng = np.random.default_rng(seed)
    low, high = ends(name)
    x = rng.integers(low, high + 1, shape)
    if kind != "any":
        end = {"low": low, "high": high}.get(kind)
        x = np.full(shape, end) if end is not None else np.where(x % 8 > 0, rng.choice([low, high], shape), x)
    dtype = getattr(ml_dtypes, name, None) or np.dtype(name)
    return x.astype(np.int8 if low else np.uint8).astype(dtype)


def wide(x: Array) -> Array:
    """Return the integers of an array as int64."""
    return x.astype(np.int32).astype(np.int64)


def want(a: Array, b: Array, zero_a: Any = 0, zero_b: Any = 0, start: Any = 0) -> Array:
    """Return the exact sum in NumPy's int64, wrapped to 32 bits."""
    rows, columns = np.atleast_1d(zero_a)[..., np.newaxis], np.atleast_1d(zero_b)[..., np.newaxis, :]
    total = (wide(a) - rows) @ (wide(b) - columns)
    return np.asarray((total + start).astype(np.uint32).view(np.int32))


def layouts(x: Array) -> Iterator[Array]:
    """Yield an array in several layouts."""
    yield x
    yield np.asfortranarray(x)
    room = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), x.dtype)
    room[..., ::2, 1::3] = x
    yield room[..., ::2, 1::3]
    yield np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]


def f32(x: Any) -> Array:
    """Return float32 numbers."""
    return np.asarray(x, np.float32)


# ------------------------------------------------------------------------------------------------- against the twin
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pairing_is_the_twins(one: str, other: str, way: str) -> None:
    a, b = array(one, (7, 37), 1), array(other, (37, 9), 2)
    got = product(a, b, zero_a=ends(one)[0], zero_b=ends(other)[1])
    for i, j in itertools.product(range(7), range(9)):
        row, column = wide(a[i]).tolist(), wide(b[:, j]).tolist()
        assert got[i, j] == integer_dot(row, column, zero_a=ends(one)[0], zero_b=ends(other)[1])


@pytest.mark.parametrize("kind", ["any", "low", "high", "ends"])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pairing(one: str, other: str, kind: str, way: str) -> None:
    """Also where all lanes are at an end of the range, so that any sum of too few bits would show."""
    for number, (m, k, n) in enumerate(SHAPES):
        a, b = array(one, (m, k), number, kind), array(other, (k, n), number + 9, kind)
        assert np.array_equal(product(a, b), want(a, b)), (m, k, n)
        if kind != "any":
            opposite = array(other, (k, n), number, "high" if kind == "low" else "low")
            assert np.array_equal(product(a, opposite), want(a, opposite)), (m, k, n)


@pytest.mark.parametrize(("one", "other"), FEW)
def test_every_k(one: str, other: str, way: str) -> None:
    """From nothing to more than a few groups, and around the borders of blocks of k."""
    for k in (*range(71), *(border + off for border in (512, 1024, 2048) for off in (-1, 0, 1, 3))):
        a, b = array(one, (3, k), k, "ends"), array(other, (k, 5), k + 1, "ends")
        got = product(a, b, zero_a=7, zero_b=[-3, 0, 200, 5, -128])
        assert np.array_equal(got, want(a, b, 7, [-3, 0, 200, 5, -128])), k


@pytest.mark.parametrize(("one", "other"), FEW[:4])
def test_long_sums_wrap(one: str, other: str, way: str) -> None:
    """A sum of 200,000 products leaves 32 bits; the result is what is left modulo 2**32."""
    k = 200_000
    a, b = array(one, (2, k), 1, "low" if one[0] != "u" else "high"), array(other, (k, 3), 2, "high")
    b[:, 1] = ends(other)[0]
    assert int(np.abs(wide(a) @ wide(b)).max()) > 2**31
    assert np.array_equal(product(a, b), want(a, b))
    assert product(a, b)[0, 0] == integer_dot(wide(a)[0].tolist(), wide(b)[:, 0].tolist())


@pytest.mark.parametrize(("one", "other"), FEW)
def test_layouts_batches_and_zero_points(one: str, other: str, way: str) -> None:
    a, b = array(one, (2, 1, 14, 45), 3), array(other, (3, 45, 19), 4)
    rng = np.random.default_rng(5)
    zero_a, zero_b = rng.integers(-300, 300, (2, 1, 14)), rng.integers(-300, 300, 19)
    start = rng.integers(-(2**31), 2**31, (2, 3, 14, 19))
    right = want(a, b, zero_a, zero_b, start)
    for x, y in itertools.product(layouts(a), layouts(b)):
        assert np.array_equal(product(x, y), want(a, b))
        assert np.array_equal(product(x, y, zero_a=zero_a, zero_b=zero_b, start=start), right)
    out = np.empty((2, 3, 14, 19), np.int32)
    assert product(a, b, zero_a=zero_a, zero_b=zero_b, start=start, out=out) is out
    assert np.array_equal(out, right)
    for zero in (*ends(one), 2**31 - 1, -(2**31), np.int8(-128), np.array([3], np.uint8)):
        assert np.array_equal(product(a, b, zero_a=zero, zero_b=zero), want(a, b, zero, zero)), zero


def test_large_products_share_threads(way: str) -> None:
    """Enough work for several threads, pieces of packing and of rows; one thread gives the same."""
    a, b = array("int8", (300, 1100), 6), array("uint8", (1100, 230), 7)
    zero_a, zero_b = np.arange(300) - 150, np.arange(230)
    before = lp.get_num_threads()
    right = want(a, b, zero_a, zero_b)
    try:
        for threads in (1, 2, 3):
            lp.set_num_threads(threads)
            assert np.array_equal(product(a, b, zero_a=zero_a, zero_b=zero_b), right), threads
    finally:
        lp.set_num_threads(before)


def test_columns_in_chunks(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More columns than there is room for packed ones."""
    from lowprec import _integer_product

    monkeypatch.setattr(_integer_product, "_PACKED_BYTES", 1 << 12)
    a, b = array("int8", (9, 70), 6), array("int8", (70, 230), 7)
    columns = np.arange(230, dtype=np.float32)
    assert np.array_equal(product(a, b, zero_b=np.arange(230)), want(a, b, 0, np.arange(230)))
    right = want(a, b).astype(np.float32) * (np.float32(0.5) * columns)
    assert np.array_equal(product(a, b, row_scale=np.float32(0.5), column_scale=columns), right)


# --------------------------------------------------------------------------------------------------------- the scaling
def test_scaling_is_the_twins(way: str) -> None:
    """Sums above 2**24 round to float32; products of scales round, the scaled sum rounds, the biased one too."""
    rng = np.random.default_rng(8)
    a, b = rng.integers(-128, -90, (5, 4097), np.int8), rng.integers(200, 256, (4097, 7), np.uint8)
    rows = (rng.standard_normal(5) * 2.0 ** rng.integers(-30, 30, 5)).astype(np.float32)
    columns = (rng.standard_normal(7) * 2.0 ** rng.integers(-30, 30, 7)).astype(np.float32)
    bias = (rng.standard_normal(7) * 2.0 ** rng.integers(-3, 40, 7)).astype(np.float32)
    sums = want(a, b, 0, 3)
    assert np.any(sums.astype(np.float32) != sums)
    for added in (None, bias):
        got = product(a, b, zero_b=3, row_scale=rows, column_scale=columns, bias=added)
        assert got.dtype == np.float32
        for i, j in itertools.product(range(5), range(7)):
            right = scaled(
                int(sums[i, j]), float(rows[i]), float(columns[j]), None if added is None else float(added[j])
            )
            assert got[i, j] == np.float32(right), (i, j)


def test_scaling_of_zeros_and_extremes(way: str) -> None:
    a, b = np.array([[0], [1], [-1]], np.int8), np.array([[1, 1, 1]], np.int8)
    rows, columns = f32([-1, 2.0**-126, 3e38]), f32([2, 2.0**-23, 2.0**-24])
    got = product(a, b, row_scale=rows, column_scale=columns)
    right = [[scaled(int(x), float(r), float(c)) for c in columns] for x, r in zip(a[:, 0], rows, strict=True)]
    assert got.tobytes() == f32(right).tobytes()  # -0, a subnormal, zero, infinity
    zeros = product(a[:1], b, row_scale=rows[:1], bias=f32([0.0, -0.0, 1.0]))
    assert np.signbit(zeros).tolist() == [[False, True, False]]


@pytest.mark.parametrize("keep", list(itertools.product([False, True], repeat=3)))
def test_scales_and_bias_may_be_left_out(keep: tuple[bool, bool, bool]) -> None:
    a, b = array("int8", (2, 4, 9), 1), array("int8", (9, 6), 2)
    given: dict[str, Any] = {"row_scale": f32([[1], [2]]) * f32([1, 3, 5, 7]), "column_scale": np.float32(0.75)}
    given["bias"] = np.arange(6, dtype=np.float32)
    chosen = {name: value for (name, value), there in zip(given.items(), keep, strict=True) if there}
    right: Any = want(a, b).astype(np.float32) if any(keep) else want(a, b)
    if keep[0] or keep[1]:
        rows = given["row_scale"][..., np.newaxis] if keep[0] else np.float32(1)
        right = right * (rows * (np.float32(0.75) if keep[1] else np.float32(1)))
    if keep[2]:
        right = right + given["bias"]
    got = product(a, b, **chosen)
    assert got.dtype == right.dtype
    assert np.array_equal(got, right)


def test_nothing_to_sum() -> None:
    a, b = np.zeros((2, 0), np.int8), np.zeros((0, 3), np.uint8)
    assert np.array_equal(product(a, b, zero_a=5), np.zeros((2, 3), np.int32))
    assert np.array_equal(product(a, b, start=np.array([7, 8, 9])), [[7, 8, 9]] * 2)
    assert np.array_equal(product(a, b, bias=[1, 2, 3]), f32([[1, 2, 3]] * 2))
    assert product(np.zeros((0, 4), np.int8), np.zeros((4, 3), np.int8)).shape == (0, 3)
    assert product(np.zeros((5, 0, 4), np.int8), np.zeros((4, 3), np.int8)).shape == (5, 0, 3)


def test_others_than_small_integers_are_refused() -> None:
    a = np.zeros((2, 2), np.int8)
    for wrong in (np.zeros((2, 2), np.int16), np.zeros((2, 2), np.float32), np.zeros((2, 2), ml_dtypes.bfloat16)):
        with pytest.raises(TypeError, match=r"`b` must hold integers of at most 8 bits, got dtype .*; convert it"):
            product(a, wrong)


def test_upper_bits_of_a_byte_do_not_count(way: str) -> None:
    """ml_dtypes' types of four bits and fewer do not look at them either."""
    raw = np.random.default_rng(0).integers(0, 256, (20, 40), np.uint8)
    for name in ("int4", "uint4", "int2", "uint1"):
        x = raw.view(getattr(ml_dtypes, name))
        assert np.array_equal(product(x, x.T), want(x, x.T))
