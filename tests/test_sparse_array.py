"""`Sparse24`: what it holds, against a definition in plain Python; round trips, parts, files, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import _compression, _metadata
from lowprec._call import is_sparse
from lowprec._patterns import pattern_of

Array = np.ndarray[Any, Any]
PATTERNS = ("2:4", "1:2", "4:8")
DTYPES = (
    np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float6_e2m3fn, ml_dtypes.float4_e2m1fn, np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4,
)  # fmt: skip


def slow_group(flags: list[bool], pattern: str) -> tuple[int, list[int]]:
    """Return the code and the kept places of one group, from the rule: what is not zero, and what fills it up."""
    if pattern == "1:2":
        places = [0] if flags[0] else [1]
        return (0x4 if flags[0] else 0xE), places
    units = flags if pattern == "2:4" else [flags[2 * i] or flags[2 * i + 1] for i in range(4)]
    pair = [i for i in range(4) if units[i]]
    if len(pair) < 2:
        pair = {(): [2, 3], (0,): [0, 2], (1,): [1, 2], (2,): [2, 3], (3,): [2, 3]}[tuple(pair)]
    code = pair[0] | pair[1] << 2
    return code, pair if pattern == "2:4" else [2 * i + j for i in pair for j in range(2)]


def slow_compress(row: list[float], pattern: str) -> tuple[list[float], list[int]]:
    """Return the kept numbers and the codes of a row."""
    group = pattern_of(pattern).group
    padded = row + [0.0] * (-len(row) % group)
    values, codes = [], []
    for start in range(0, len(padded), group):
        part = padded[start : start + group]
        code, places = slow_group([x != 0 for x in part], pattern)
        codes.append(code)
        values += [part[i] for i in places]
    return values, codes


def sparse(rng: np.random.Generator, shape: tuple[int, ...], pattern: str, axis: int, dtype: Any = np.float32) -> Array:
    """Return an array that fits a pattern, with groups that keep less than they may."""
    how = pattern_of(pattern)
    moved = [*shape[:axis], *shape[axis:][1:], -(-shape[axis] // how.group)]
    choice = np.array(how.choices)[rng.integers(len(how.choices), size=moved)]
    keep = np.zeros((*moved, how.group), bool)
    np.put_along_axis(keep, choice, values=True, axis=-1)
    x = np.where(keep & (rng.random(keep.shape) < 0.8), rng.integers(1, 4, keep.shape), 0)
    x = x.reshape(*moved[:-1], moved[-1] * how.group)[..., : shape[axis]]
    return np.moveaxis(x, -1, axis).astype(np.float32).astype(dtype)


def bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def same(x: Any, y: Any) -> None:
    """Check that two dense arrays, plain or quantised, have equal bits."""
    if isinstance(x, lp.QuantizedArray):
        assert (x.axis, x.block_size, x.format, x.recipe) == (y.axis, y.block_size, y.format, y.recipe)
        for part in ("codes", "scale", "zero_point"):
            one, other = getattr(x, part), getattr(y, part)
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(bits(one), bits(other))
        assert x.tensor_scale == y.tensor_scale
        return
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(bits(x), bits(y))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_group(pattern: str) -> None:
    how = pattern_of(pattern)
    rows = [
        [float(i + 1) if flag else 0.0 for i, flag in enumerate(flags)]
        for flags in itertools.product([False, True], repeat=how.group)
    ]
    units = [sum(any(row[i : i + how.run]) for i in range(0, how.group, how.run)) for row in rows]
    fit = [row for row, kept in zip(rows, units, strict=True) if kept <= how.kept // how.run]
    assert len(fit) == {"2:4": 11, "1:2": 3, "4:8": 1 + 4 * 3 + 6 * 9}[pattern]
    for row in rows:
        x = np.array(row, np.float32)
        if row not in fit:
            with pytest.raises(ValueError, match=re.escape(f"at [0:{how.group}]")):
                lp.Sparse24.from_dense(x, pattern=pattern)
            continue
        values, codes = slow_compress(row, pattern)
        s = lp.Sparse24.from_dense(x, pattern=pattern)
        assert s.values.tolist() == values
        assert s.nibbles.tolist() == [codes[0] | 0x40]
        assert s.metadata().tolist() == [codes[0] | 0x4440]
        same(s.to_dense(), x)
        same(lp.Sparse24(s.values, s.indices, pattern=pattern).to_dense(), x)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(3, 16), (16, 5), (2, 21, 3), (7,), (1, 1), (0, 8), (4, 0)])
def test_against_the_definition(pattern: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    for axis in range(len(shape)):
        x = sparse(rng, shape, pattern, axis)
        s = lp.Sparse24.from_dense(x, pattern=pattern, axis=axis)
        count = math.prod(shape[:axis] + shape[axis + 1 :])
        rows = np.moveaxis(x, axis, -1).reshape(count, shape[axis])
        expected = [slow_compress(row.tolist(), pattern) for row in rows]
        kept = np.moveaxis(s.values, axis, -1)
        assert kept.reshape(count, kept.shape[-1]).tolist() == [values for values, _ in expected]
        codes = [sum(code << 4 * i for i, code in enumerate(found)) for _, found in expected]
        groups = -(-shape[axis] // pattern_of(pattern).group)
        packed = s.nibbles.reshape(count, -(-groups // 2))
        assert [int.from_bytes(row.tobytes(), "little") % 16**groups for row in packed] == codes
        words = np.moveaxis(s.metadata(), axis, -1)
        assert words.dtype == np.uint16
        words = words.reshape(count, -(-groups // 4))
        assert [int.from_bytes(row.astype("<u2").tobytes(), "little") % 16**groups for row in words] == codes
        assert (s.shape, s.ndim, s.size, s.axis, len(s)) == (shape, len(shape), x.size, axis, shape[0])
        assert s.indices.dtype == np.uint8
        assert s.mask[x != 0].all()
        if x.size:
            assert s.density == s.mask.mean()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_round_trips(dtype: Any, pattern: str, rng: np.random.Generator) -> None:
    for shape, axis in (((6, 20), 1), ((13, 4), 0), ((2, 8, 3), 1)):
        x = sparse(rng, shape, pattern, axis, dtype)
        s = lp.Sparse24.from_dense(x, pattern=pattern, axis=axis)
        facts = {"pattern": pattern, "axis": axis, "length": shape[axis]}
        copies = (
            s, lp.Sparse24(s.values, s.indices, **facts), lp.Sparse24.from_metadata(s.values, s.metadata(), **facts),
            pickle.loads(pickle.dumps(s)), copy.deepcopy(s), lp.Sparse24.from_arrays(s.to_arrays("w."), "w."),
            s.with_values(s.values), s.T.T, s[...],
        )  # fmt: skip
        for each in copies:
            assert (each.pattern, each.axis, each.shape, each.nbytes) == (pattern, axis, shape, s.nbytes)
            np.testing.assert_array_equal(each.nibbles, s.nibbles)
            same(each.values, s.values)
            same(each.to_dense(), x)


def test_special_values() -> None:
    nan, inf = np.nan, np.inf
    x = np.float32([[nan, 0, 0, -inf], [0, -0.0, 0, 5], [-0.0, 1, -0.0, 0], [-0.0, 0, 0, 0]])
    x.view(np.uint32)[0, 0] = 0xFF812345  # a signalling NaN with a payload
    s = lp.Sparse24.from_dense(x)
    assert s.nibbles.tolist() == [[0x4C], [0x4E], [0x49], [0x4E]]
    kept = np.where(s.mask, x, np.float32(0))
    same(s.to_dense(), kept)
    assert bits(s.values)[0, 0] == 0xFF812345
    assert np.signbit(s.values).tolist() == [[True, True], [False, False], [False, True], [False, False]]
    with pytest.raises(ValueError, match="that are not zero"):
        lp.Sparse24.from_dense(np.float32([nan, nan, nan, 0]))
    fnuz = np.array([0x80, 0x80, 0, 0], np.uint8).view(ml_dtypes.float8_e4m3fnuz)  # NaN, not a zero
    assert lp.Sparse24.from_dense(fnuz).nibbles.tolist() == [0x44]


def test_nbytes() -> None:
    """9, 5, 4 and 3 bits for each original element at 16, 8, 6 and 4 bits; 18 of 32 for tf32 and 2.5 for pairs."""
    x = np.zeros((16, 64), np.float32)
    for dtype, per in (("float16", 9), ("bf16", 9), ("e4m3fn", 5), ("int8", 5), ("e2m3fn", 4), ("e2m1fn", 3)):
        s = lp.Sparse24.from_dense(lp.cast(x, dtype) if dtype != "int8" else x.astype(np.int8))
        assert s.nbytes * 8 == per * x.size
    assert lp.Sparse24.from_dense(x, pattern="1:2").nbytes * 8 == 18 * x.size
    assert lp.Sparse24.from_dense(lp.cast(x, "e2m1fn"), pattern="4:8").nbytes * 8 == 2.5 * x.size
    q = lp.quantize(lp.Sparse24.from_dense(x), "mxfp4")
    assert q.nbytes * 8 == 3 * x.size + 8 * x.size // 32
    odd = lp.Sparse24.from_dense(np.zeros((3, 5), ml_dtypes.float4_e2m1fn))
    assert odd.nbytes == 6 + 3  # 12 elements of 4 bits, 6 groups


QUANTIZED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("int8", {}), ("int8", {"axis": 0}), ("int8", {"symmetric": False}), ("e4m3fn", {"axis": 0}),
    ("int4", {"axis": 1, "block_size": 32}), ("uint4", {"axis": 1, "block_size": 16, "symmetric": False}),
    ("int8", {"axis": (0, 1), "block_size": (4, 8), "symmetric": False}), ("mxfp4", {}), ("mxfp6_e2m3", {}),
    ("nvfp4", {}), ("nf4", {}), ("q4_0", {}),
)  # fmt: skip


@pytest.mark.parametrize(("fmt", "how"), QUANTIZED, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_quantised(fmt: str, how: dict[str, Any], pattern: str, rng: np.random.Generator) -> None:
    x = sparse(rng, (6, 96), pattern, 1) * rng.normal(0.2, 1, (6, 96)).astype(np.float32) + np.float32(0)
    s = lp.Sparse24.from_dense(x, pattern=pattern)
    q, dense = lp.quantize(s, fmt, **how), lp.quantize(x, fmt, **how)
    assert is_sparse(q)
    same(q.to_dense(), dense)
    np.testing.assert_array_equal(q.nibbles, s.nibbles)
    zero = np.float32(0)  # added for its sign: of negative scales come negative zeros
    same(q.dequantize().to_dense() + zero, dense.dequantize() + zero)
    np.testing.assert_array_equal(q.dequantize(np.float64).values, q.values.dequantize(np.float64))
    for each in (pickle.loads(pickle.dumps(q)), lp.Sparse24.from_arrays(q.to_arrays()), q.T.T, q[:]):
        same(each.values, q.values)
        same(each.to_dense(), dense)
    facts = {"pattern": pattern, "axis": 1}
    same(lp.Sparse24.from_metadata(q.values, q.metadata(), **facts).to_dense(), dense)
    again = lp.Sparse24.from_dense(dense, **facts)
    same(again.to_dense().dequantize() + zero, dense.dequantize() + zero)  # what rounds to -0 may be dropped
    if how.get("symmetric", True):
        same(q[1:3, 64:].to_dense(), dense[1:3, 64:])


def test_quantised_padding(rng: np.random.Generator) -> None:
    """Zero points fill the padding, and a block of scale NaN does not spill into it."""
    x = sparse(rng, (4, 22), "2:4", 1) * rng.normal(0.2, 1, (4, 22)).astype(np.float32) + np.float32(0)
    for how in ({"symmetric": False, "axis": 1, "block_size": 8}, {"axis": 1, "block_size": 16}):
        q = lp.quantize(lp.Sparse24.from_dense(x), "int8", **how)
        same(q.to_dense(), lp.quantize(x, "int8", **how))
        assert q.values.shape == (4, 12)
        assert how.get("symmetric", True) or len(np.unique(q.values.zero_point)) > 4
        same(q.dequantize().to_dense(), lp.quantize(x, "int8", **how).dequantize() + np.float32(0))
        # What is kept of the padding is the zero point of the last block.
        codes = np.moveaxis(q.values.codes.reshape(4, 6, 2), 1, 0)[-1]
        beyond = q.indices.reshape(4, 6, 2)[:, -1] >= 2
        last = 0 if q.values.zero_point is None else np.broadcast_to(q.values.zero_point[:, -1:] & 255, (4, 2))[beyond]
        assert beyond.any()
        assert (codes[beyond] == last).all()
    x[0, 20:] = np.nan, 0
    q = lp.quantize(lp.Sparse24.from_dense(x), "e4m3fn", axis=0, nonfinite="propagate")
    assert np.isnan(q.values.scale).tolist() == [True, False, False, False]
    assert q.dequantize().shape == (4, 22)


def test_mask(rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 12)).astype(np.float32)
    x[0, 1], x[1, 5] = np.nan, np.inf
    mask = np.zeros((5, 12), bool)
    mask[:, [0, 3, 6, 9, 10]] = True
    s = lp.Sparse24.from_dense(x, mask=mask)
    same(s.to_dense(), np.where(mask, x, np.float32(0)))
    assert s.nibbles.tolist() == [[0xEC, 0x49]] * 5
    zeros = lp.Sparse24.from_dense(np.zeros_like(x), mask=mask)
    np.testing.assert_array_equal(zeros.nibbles, s.nibbles)
    q = lp.quantize(np.abs(rng.standard_normal((5, 12))) + 1, "uint8", symmetric=False, axis=0)
    kept = lp.Sparse24.from_dense(q, mask=mask).to_dense().dequantize()
    np.testing.assert_array_equal(kept, np.where(mask, q.dequantize(), 0))


def test_parts(rng: np.random.Generator) -> None:
    x = sparse(rng, (3, 22, 4), "2:4", 1)
    s = lp.Sparse24.from_dense(x, axis=1)
    for index in (
        0, -1, (slice(None), slice(8, 16)), (slice(2, None, -1), slice(4, None)), (Ellipsis, 2),
        (1, slice(None), slice(1, 3)), (0, slice(4, 12), 1), (slice(0, 0),), (slice(None), slice(8, 8)), Ellipsis,
        (slice(None), slice(20, 99)), (slice(None), slice(22, None)),
    ):  # fmt: skip
        same(s[index].to_dense(), x[index])
    for order in itertools.permutations(range(3)):
        turned = s.transpose(*order)
        same(turned.to_dense(), x.transpose(order))
        assert turned.axis == order.index(1)
        assert turned.nibbles.flags.c_contiguous
        same(lp.Sparse24.from_dense(turned.to_dense(), axis=turned.axis).to_dense(), x.transpose(order))
    same(s.mT.to_dense(), x.swapaxes(1, 2))
    assert [part.shape for part in s] == [(22, 4)] * 3
    assert s.T.values.base is not None  # a view
    for index, error, text in (
        ((0, 3), TypeError, "slice of whole groups"),
        ((0, slice(2, 8)), ValueError, "multiple of 4"),
        ((0, slice(0, 8, 2)), ValueError, "step 1"),
        (([0, 1],), TypeError, "integers, slices"),
        ((0, slice(None), 0, 0), IndexError, "3 axes"),
        (5, IndexError, "out of bounds"),
    ):
        with pytest.raises(error, match=text):
            s[index]
    blocks = lp.quantize(lp.Sparse24.from_dense(sparse(rng, (2, 64), "2:4", 1)), "mxfp4")
    with pytest.raises(ValueError, match="multiple of 32"):
        blocks[:, :16]
    one = blocks[:, :32]  # of one block any groups
    same(one[:, 4:12].dequantize().to_dense(), one.dequantize().to_dense()[:, 4:12])
    whole = lp.quantize(lp.Sparse24.from_dense(x[:, :6, 0]), "int8", axis=1, block_size=6)
    same(whole[:, 4:].dequantize().to_dense(), whole.dequantize().to_dense()[:, 4:])


def test_frozen_and_not_an_array(rng: np.random.Generator) -> None:
    s = lp.Sparse24.from_dense(sparse(rng, (4, 8), "2:4", 1))
    assert is_sparse(s)
    assert not is_sparse(s.values)
    for name in ("values", "axis", "_nibbles", "anything"):
        with pytest.raises(AttributeError, match="must not be set"):
            setattr(s, name, 0)
    with pytest.raises(AttributeError, match="must not be set"):
        del s.axis
    for part in (s.values, s.indices, s.nibbles, s.mask):
        with pytest.raises(ValueError, match="read-only"):
            part[...] = 0
    with pytest.raises(TypeError, match=r"to_dense\(\)"):
        np.asarray(s)
    for operation in (lambda: s + 1, lambda: np.ones((4, 8)) * s, lambda: s @ s, lambda: np.exp(s)):
        with pytest.raises(TypeError):
            operation()
    assert repr(s) == "Sparse24(shape=(4, 8), format='float32', pattern='2:4', axis=1)"
    assert repr(lp.quantize(lp.Sparse24(s.values, s.indices, recipe="magnitude"), "mxfp4", axis=1)) == (
        "Sparse24(shape=(4, 8), format='float4_e2m1fn', scale='float8_e8m0fnu', pattern='2:4', axis=1, "
        "recipe='magnitude')"
    )
    assert s.dequantize() is s
    assert s.dequantize("bfloat16").values.dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_files(suffix: str, tmp_path: Path, rng: np.random.Generator) -> None:
    if suffix == "safetensors":
        pytest.importorskip("safetensors")
    x = sparse(rng, (5, 22), "2:4", 1)
    s = lp.Sparse24.from_dense(lp.cast(x, "bf16"))
    q = lp.quantize(lp.Sparse24.from_dense(x), "int4", axis=1, block_size=16, symmetric=False)
    held = {"s": s, "q": q, "x": x, "plain": lp.quantize(x, "int8"), "turned": lp.Sparse24.from_dense(x.T, axis=0)}
    lp.save(tmp_path / f"all.{suffix}", held)
    found = lp.load(tmp_path / f"all.{suffix}")
    assert list(found) == list(held) or set(found) == set(held)
    for name in ("s", "q", "turned"):
        assert repr(found[name]) == repr(held[name])
        np.testing.assert_array_equal(found[name].nibbles, held[name].nibbles)
        same(found[name].to_dense(), held[name].to_dense())
    same(found["plain"], held["plain"])
    same(found["x"], x)
    arrays = s.to_arrays()
    arrays["nibbles"] = np.zeros_like(arrays["nibbles"])
    with pytest.raises(ValueError, match="0b0000"):
        lp.Sparse24.from_arrays(arrays)
    with pytest.raises(ValueError, match="facts that are none"):
        lp.Sparse24.from_arrays(lp.quantize(x, "int8").to_arrays())
    with pytest.raises(ValueError, match=r"must have 'w\.facts'"):
        lp.Sparse24.from_arrays(s.to_arrays(), "w.")


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, str, int]:
    """Draw an array that fits a pattern along an axis."""
    shape = tuple(draw(st.lists(st.integers(1, 19), min_size=1, max_size=3)))
    pattern, axis = draw(st.sampled_from(PATTERNS)), draw(st.integers(0, len(shape) - 1))
    dtype = draw(st.sampled_from((np.float32, ml_dtypes.bfloat16, np.int8, ml_dtypes.float4_e2m1fn)))
    return sparse(np.random.default_rng(draw(st.integers(0, 2**32))), shape, pattern, axis, dtype), pattern, axis


@given(cases(), st.data())
def test_properties(case: tuple[Array, str, int], data: st.DataObject) -> None:
    x, pattern, axis = case
    how = pattern_of(pattern)
    s = lp.Sparse24.from_dense(x, pattern=pattern, axis=axis)
    same(s.to_dense(), x)
    groups = _compression.grouped(np.moveaxis(s.mask, axis, -1), how, fill=False)
    assert (groups.sum(-1) <= how.kept).all()
    assert (groups[..., : x.shape[axis] // how.group, :].sum(-1) == how.kept).all()
    order = data.draw(st.permutations(range(x.ndim)))
    same(s.transpose(*order).to_dense(), x.transpose(order))
    whole = -(-x.shape[axis] // how.group)
    first = data.draw(st.integers(0, whole))
    last = data.draw(st.integers(first, whole))
    index = [slice(data.draw(st.integers(0, n)), None) for n in x.shape]
    index[axis] = slice(first * how.group, last * how.group)
    same(s[tuple(index)].to_dense(), x[tuple(index)])
    bits_kept = s.values.size * s.format.bits
    count = s.values.size // how.kept
    assert s.nbytes == -(-bits_kept // 8) + -(-4 * count // 8)
    again = lp.Sparse24.from_metadata(s.values, s.metadata(), pattern=pattern, axis=axis, length=x.shape[axis])
    np.testing.assert_array_equal(again.nibbles, s.nibbles)


@given(cases(), st.integers(0, 2**32))
def test_masks_decide(case: tuple[Array, str, int], seed: int) -> None:
    fit, pattern, axis = case
    mask = fit != 0
    x = np.random.default_rng(seed).integers(1, 4, fit.shape).astype(np.float32).astype(fit.dtype)
    s = lp.Sparse24.from_dense(x, pattern=pattern, axis=axis, mask=mask)
    same(s.to_dense(), np.where(mask, x, np.zeros((), x.dtype)))
    np.testing.assert_array_equal(s.nibbles, lp.Sparse24.from_dense(fit, pattern=pattern, axis=axis).nibbles)


ONE = np.float32([[1, 2]])
BAD: tuple[tuple[Any, type[Exception], str], ...] = (
    (lambda: lp.Sparse24(ONE, [[1, 0]]), ValueError, r"ascend in each group, got \[1, 0\] from \[0, 0\] on"),
    (lambda: lp.Sparse24(ONE, [[2, 2]]), ValueError, "ascend"),
    (lambda: lp.Sparse24(ONE, [[0, 4]]), ValueError, r"from 0 to 3 for \"2:4\", got 4 at \[0, 1\]"),
    (lambda: lp.Sparse24(ONE, [[-1, 3]]), ValueError, "from 0 to 3"),
    (lambda: lp.Sparse24(ONE, [[0, 2]], pattern="1:2"), ValueError, "from 0 to 1"),
    (lambda: lp.Sparse24(ONE, [[0.0, 1.0]]), TypeError, "must be integers"),
    (lambda: lp.Sparse24(ONE, [0, 1]), ValueError, r"shape \(1, 2\)"),
    (lambda: lp.Sparse24(np.zeros((1, 4), "f4"), np.zeros((1, 4), int), pattern="4:8"), ValueError, "each pair"),
    (lambda: lp.Sparse24(np.zeros(3, "f4"), [0, 1, 0]), ValueError, "multiple of 2 elements"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], length=5), ValueError, "from 1 to 4 for 1 groups"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], length=0), ValueError, "from 1 to 4"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], length=4.0), TypeError, "`length`"),
    (lambda: lp.Sparse24(ONE, [[0, 3]], length=3), ValueError, r"got 2\.0 at \[0, 1\], which stands for place 3"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], axis=2), ValueError, "`axis` must be from -2 to 1"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], axis=None), TypeError, "`axis` must be an integer"),
    (lambda: lp.Sparse24(np.float32(1), 0), ValueError, "at least one axis"),
    (lambda: lp.Sparse24(ONE, [[0, 1]], pattern="3:4"), ValueError, '"2:4", "1:2" or "4:8"'),
    (lambda: lp.Sparse24(ONE, [[0, 1]], recipe=1), TypeError, "`recipe`"),
    (lambda: lp.Sparse24(ONE.astype(np.int64), [[0, 1]]), TypeError, "stores a format"),
    (lambda: lp.Sparse24(ONE.astype(complex), [[0, 1]]), TypeError, "stores a format"),
    (lambda: lp.Sparse24(np.ma.masked_array(ONE), [[0, 1]]), TypeError, "masked"),
    (lambda: lp.Sparse24(lp.cast(ONE, "e8m0fnu"), [[0, 1]]), ValueError, "has a zero"),
    (lambda: lp.Sparse24.from_dense(lp.quantize(np.ones((1, 32)), "iq4_nl")), ValueError, "has a zero"),
    (lambda: lp.Sparse24.from_dense(lp.quantize(np.ones((1, 32)), "q4_1")), ValueError, "no offsets"),
    (
        lambda: lp.Sparse24.from_dense(lp.quantize(np.eye(4), "int8", axis=1)),
        ValueError,
        "scale for each index of its sparse axis 1",
    ),
    (
        lambda: lp.Sparse24.from_dense(lp.quantize(np.eye(8), "int8", axis=0, block_size=4)),
        ValueError,
        "scale for each index of its sparse axis 1",
    ),
    (
        lambda: lp.Sparse24.from_dense(lp.quantize(np.eye(8), "int8", axis=1, block_size=6)),
        ValueError,
        "whole groups, 4 elements along axis 1 here, got blocks of 6",
    ),
    (
        lambda: lp.Sparse24.from_dense(np.float32([[0, 0, 0, 0, 1, 2, 3, 0]])),
        ValueError,
        r"2 of 4 elements that are not zero along axis 1 .* got 0?.*1\.0, 2\.0, 3\.0, 0\.0 at \[0, 4:8\]",
    ),
    (
        lambda: lp.Sparse24.from_dense(np.float32([[0, 0, 0, 0, 1, 2, 3, 0]]).T, axis=0),
        ValueError,
        r"at \[4:8, 0\]",
    ),
    (lambda: lp.Sparse24.from_dense(np.ones(6, "i1"), pattern="4:8"), ValueError, "2 of 4 pairs"),
    (
        lambda: lp.Sparse24.from_dense(ONE.repeat(2), mask=[True, True, False, True]),
        ValueError,
        r"`mask` must keep at most 2 of 4 elements .* got \[1, 1, 0, 1\] at \[0:4\], where `x` is 1\.0, 1\.0, 2\.0",
    ),
    (lambda: lp.Sparse24.from_dense(ONE, mask=[[1, 0]]), TypeError, "dtype bool"),
    (lambda: lp.Sparse24.from_dense(ONE, mask=[True, False]), ValueError, "the shape of `x`"),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).with_values(ONE.T), ValueError, "those that they replace"),
    (lambda: lp.Sparse24(ONE * 0, [[0, 3]], length=3).with_values(ONE), ValueError, "beyond the end"),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).dequantize("int8"), TypeError, "floating dtype"),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).transpose(0), ValueError, "each once"),
    (lambda: lp.Sparse24(ONE[0], [0, 1]).mT, ValueError, "2 axes"),
    (lambda: lp.quantize(lp.quantize(lp.Sparse24(ONE, [[0, 1]]), "int8"), "int8"), TypeError, "plain array"),
    (lambda: lp.quantize(lp.Sparse24(ONE, [[0, 1]]), "int8", axis=1), ValueError, "each index of its sparse axis"),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).to_arrays(1), TypeError, "`prefix`"),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).metadata("csr"), ValueError, '"plain" or "cutlass"'),
    (lambda: lp.Sparse24(ONE, [[0, 1]]).metadata(0), TypeError, '"plain" or "cutlass"'),
    (lambda: lp.Sparse24.from_metadata(ONE, np.uint32([[4]])), TypeError, "uint16 .* for elements of 16 bits or more"),
    (lambda: lp.Sparse24.from_metadata(ONE.astype("i1"), np.uint16([[4]])), TypeError, "uint32 .* less than 16"),
    (lambda: lp.Sparse24.from_metadata(ONE, np.float32([[4]])), TypeError, "uint16"),
    (lambda: lp.Sparse24.from_metadata(ONE, np.uint16([4])), ValueError, r"shape \(1, 1\)"),
    (lambda: lp.Sparse24.from_metadata(ONE, np.uint16([[4]]), length=9), ValueError, "`length`"),
)


@pytest.mark.parametrize(("make", "error", "text"), BAD, ids=[text[:30] for _, _, text in BAD])
def test_bad_input(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_code(pattern: str) -> None:
    """The codes of two ascending places are taken, all others are named."""
    kept, how = np.zeros(2 * pattern_of(pattern).kept, np.float32), pattern_of(pattern)
    for code in range(16):
        low, high = code & 3, code >> 2
        legal = low < high if pattern != "1:2" else code in (0x4, 0xE)
        words = np.uint16([0x40 << 8 | code << 4 | 0xE])
        if legal:
            s = lp.Sparse24.from_metadata(kept, words, pattern=pattern)
            assert s.shape == (2 * how.group,)
            assert s.nibbles.tolist() == [code << 4 | 0xE]
            continue
        with pytest.raises(ValueError, match=rf"got 0b{code:04b} \(0x{code:X}\) for the group at \[1\]"):
            lp.Sparse24.from_metadata(kept, words, pattern=pattern)


@pytest.mark.parametrize(
    ("dtype", "shape", "axis", "text"),
    [
        (np.float16, (16, 32), 1, "multiple of 32 rows for elements of 16 bits, got 16"),
        (np.int8, (24, 64), 1, "multiple of 16 rows for elements of 8 bits, got 24"),
        (np.float16, (32, 16), 1, "multiple of 32 columns"),
        (np.int8, (16, 32), 1, "multiple of 64 columns"),
        (np.float16, (32, 32), 0, "sparse along the last"),
        (np.float16, (2, 32, 32), 2, "two axes"),
        (np.float16, (32, 31), 1, "multiple of 32 columns"),
    ],
)
def test_cutlass_shapes(dtype: Any, shape: tuple[int, ...], axis: int, text: str) -> None:
    s = lp.Sparse24.from_dense(np.zeros(shape, dtype), axis=axis)
    with pytest.raises(ValueError, match=text):
        s.metadata("cutlass")
    with pytest.raises(ValueError, match=text):
        lp.Sparse24.from_metadata(s.values, s.metadata(), layout="cutlass", axis=axis, length=shape[axis])


def swapped_bits(indices: Array, pattern: Any) -> Array:
    """Put the second place in the low bits."""
    return (indices[..., 1::2] | indices[..., 0::2] << 2).astype(np.uint8)


def second_of_the_previous(nibbles: Array, pattern: Any) -> Array:
    """Read the second place of the group before."""
    found = np.empty((*nibbles.shape[:-1], 2 * nibbles.shape[-1]), np.uint8)
    found[..., 0::2], found[..., 1::2] = nibbles & 3, np.roll(nibbles, 1, axis=-1) >> 2
    return found


def without_tail(length: int, pattern: Any) -> int:
    """Drop the group that is not whole."""
    return length // pattern.group  # type: ignore[no-any-return]


def high_half_first(nibbles: Array) -> Array:
    """Pack the first of two groups in the high half."""
    padded = np.concatenate([nibbles, np.full((*nibbles.shape[:-1], nibbles.shape[-1] % 2), 4, np.uint8)], axis=-1)
    return padded[..., 1::2] | padded[..., 0::2] << 4  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("nibbles_of_indices", swapped_bits),
        ("indices_of_nibbles", second_of_the_previous),
        ("group_count", without_tail),
        ("pack_nibbles", high_half_first),
    ],
)
def test_planted(name: str, bug: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(_compression, name, bug)

    def checks() -> None:
        test_against_the_definition("2:4", (5, 22), rng)
        test_round_trips(np.float32, "2:4", rng)

    with pytest.raises((AssertionError, ValueError, IndexError)):
        checks()


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_cutlass_order(dtype: Any, rng: np.random.Generator) -> None:
    """Word by word, as `reorder_meta` writes them into a column-major matrix of interleaved pairs of columns."""
    band, step, columns = (32, 4, 32) if dtype is np.float16 else (16, 2, 64)
    rows, words = 2 * band, 4
    s = lp.Sparse24.from_dense(sparse(rng, (rows, words // 2 * columns), "2:4", 1, dtype))
    plain, found = s.metadata(), s.metadata("cutlass").ravel()
    assert plain.shape == (rows, words)
    for row, word in itertools.product(range(rows), range(words)):
        to_row, to_word = row // band * band + row % 8 * step + row % band // 8, word
        if to_row % 2 == 0 and to_word % 2 == 1:
            to_row, to_word = to_row + 1, to_word - 1
        elif to_row % 2 == 1 and to_word % 2 == 0:
            to_row, to_word = to_row - 1, to_word + 1
        assert found[to_word // 2 * 2 * rows + 2 * to_row + to_word % 2] == plain[row, word]
    back = lp.Sparse24.from_metadata(s.values, s.metadata("cutlass"), layout="cutlass")
    np.testing.assert_array_equal(back.nibbles, s.nibbles)


def test_planted_swizzle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stay where they are would come back right, so the words themselves are held."""
    x = np.zeros((32, 32), np.float16)
    x[np.arange(32), np.arange(32)] = 1
    words = lp.Sparse24.from_dense(x).metadata("cutlass")
    monkeypatch.setattr(_metadata, "swizzle", lambda rows, words, size: np.arange(rows * words).reshape(rows, words))
    assert (lp.Sparse24.from_dense(x).metadata("cutlass") != words).any()
