"""`Sparse24` against torch's converters of CUTLASS's format, on the CPU: values, metadata and round trips identical.

torch's gather and scatter change the bits of NaN in float16 and bfloat16 (they pass through float32), so a NaN of ours
is held against a NaN of theirs, and its bits against the input. torch writes fp32 as "1:2"; its way back moves halves
of fp32 numbers as float16, so that way is held for numbers whose halves are no NaN.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _metadata

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "int8": np.int8}
SHAPES = {"float16": ((32, 32), (64, 96), (96, 256)), "bfloat16": ((32, 64), (128, 32)), "int8": ((16, 64), (48, 192))}


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def converters(torch: Any) -> Any:
    return pytest.importorskip("torch.sparse._semi_structured_conversions")


def to_torch(torch: Any, x: Array) -> Any:
    signed = torch.from_numpy(np.array(x, order="C").view(f"i{x.dtype.itemsize}"))
    return signed.view(getattr(torch, x.dtype.name))


def from_torch(torch: Any, x: Any, dtype: Any) -> Array:
    size = np.dtype(dtype).itemsize
    return x.contiguous().view({1: torch.int8, 2: torch.int16, 4: torch.int32}[size]).numpy().view(dtype)


def bits(x: Array) -> Array:
    return x.view(f"u{x.dtype.itemsize}")


def same(ours: Array, theirs: Array) -> None:
    """Check for equal bits, of NaN for NaN."""
    with np.errstate(invalid="ignore"):  # signalling ones
        nan = np.isnan(ours)
        np.testing.assert_array_equal(nan, np.isnan(theirs))
    np.testing.assert_array_equal(bits(ours)[~nan], bits(theirs)[~nan])


def two_of_four(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    """Return random bits, NaN and infinities among them, with at most two of four; dropped zeros of both signs."""
    rows, columns = shape
    size = np.dtype(dtype).itemsize
    x = rng.integers(0, 256, (rows, columns * size), np.uint8).view(f"u{size}")
    if np.dtype(dtype) != np.int8:
        x[rng.random(x.shape) < 0.05] = np.array([np.inf, np.nan], dtype).view(f"u{size}")[0]
        x[rng.random(x.shape) < 0.05] = np.array(np.nan, dtype).view(f"u{size}")
        x[rng.random(x.shape) < 0.05] = 1 << (8 * size - 1)  # -0
    keep = rng.permuted(np.tile([True, True, False, False], (rows, columns // 4, 1)), axis=-1).reshape(shape)
    keep &= rng.random(shape) < 0.85
    zero = 0 if np.dtype(dtype) == np.int8 else np.where(rng.random(shape) < 0.3, 1 << (8 * size - 1), 0)
    return np.where(keep, x, zero).astype(x.dtype).view(dtype)


def check(torch: Any, converters: Any, x: Array, pattern: str = "2:4") -> lp.Sparse24:
    """Check values and metadata in both layouts, and the way back; return the sparse array."""
    values, meta = converters.sparse_semi_structured_from_dense_cutlass(to_torch(torch, x))
    s = lp.Sparse24.from_dense(x, pattern=pattern)
    same(np.ascontiguousarray(s.values), from_torch(torch, values, x.dtype))
    words = s.metadata("cutlass")
    theirs = meta.numpy().view(words.dtype)
    np.testing.assert_array_equal(words, theirs)
    offsets = converters._calculate_meta_reordering_scatter_offsets(*meta.shape, meta.dtype, "cpu")
    plain = torch.gather(meta.view(-1), 0, offsets).view(meta.shape)
    np.testing.assert_array_equal(s.metadata(), plain.numpy().view(words.dtype))
    np.testing.assert_array_equal(_metadata.swizzle(*meta.shape, words.itemsize).ravel(), offsets.numpy())
    for layout, given in (("cutlass", meta), ("plain", plain)):
        back = lp.Sparse24.from_metadata(s.values, given.numpy(), layout=layout, pattern=pattern)
        np.testing.assert_array_equal(back.nibbles, s.nibbles)
    return s


@pytest.mark.parametrize("name", list(DTYPES))
def test_two_of_four(name: str, torch: Any, converters: Any, rng: np.random.Generator) -> None:
    for shape in SHAPES[name]:
        x = two_of_four(rng, shape, DTYPES[name])
        s = check(torch, converters, x)
        values = to_torch(torch, s.values)
        meta = torch.from_numpy(s.metadata("cutlass").view("i4" if name == "int8" else "i2"))
        dense = from_torch(torch, converters.sparse_semi_structured_to_dense_cutlass(values, meta), x.dtype)
        same(s.to_dense(), dense)
        np.testing.assert_array_equal(bits(s.to_dense())[s.mask], bits(x)[s.mask])
        assert not bits(s.to_dense())[~s.mask].any()
        sign = 0 if name == "int8" else 0x8000
        assert not (bits(x)[~s.mask] & ~np.uint16(sign)).any()


def test_every_set(torch: Any, converters: Any) -> None:
    """All sets of at most two places, as rows, at every place of a word."""
    sets = [flags for flags in itertools.product([0, 1], repeat=4) if sum(flags) <= 2]
    rows = np.zeros((32, 32, 4), np.float16)
    for place in range(32):
        for row in range(32):
            rows[row, place] = np.multiply(sets[(row + 3 * place) % len(sets)], row + 1)
    check(torch, converters, rows.reshape(32, 128))


def test_one_of_two(torch: Any, converters: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((32, 48)).astype(np.float32)
    first = rng.random((32, 24)) < 0.5
    x[:, 0::2][~first] = 0
    x[:, 1::2][first] = 0
    x[rng.random(x.shape) < 0.2] = 0
    s = check(torch, converters, x, "1:2")
    values, meta = to_torch(torch, s.values), torch.from_numpy(s.metadata("cutlass").view("i2"))
    back = from_torch(torch, converters.sparse_semi_structured_to_dense_cutlass(values, meta), np.float32)
    halves = np.isnan(x.view(np.float16).reshape(32, 48, 2)).any(-1)
    assert halves.mean() < 0.2
    np.testing.assert_array_equal(s.to_dense()[~halves], back[~halves])
    np.testing.assert_array_equal(bits(s.to_dense()), bits(x))


def test_a_wrong_order_is_seen(
    torch: Any, converters: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = two_of_four(rng, (32, 64), np.float16)
    right = _metadata.swizzle
    monkeypatch.setattr(_metadata, "swizzle", lambda rows, words, size: right(rows, words, 6 - size))
    with pytest.raises(AssertionError):
        check(torch, converters, x)
