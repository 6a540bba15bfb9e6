"""QuantizedArray in every layout: slices, transposes, packed bytes, copies and files against the numbers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp

NF4 = lp.block_format("nf4").element
SHAPE = (4, 6, 20)
LAYOUTS: dict[str, tuple[Any, Any]] = {
    "tensor": (None, None),
    "axis 0": (0, None),
    "axis 2": (2, None),
    "axes 0 and 2": ((0, 2), None),
    "every element": ((0, 1, 2), None),
    "groups": (2, 8),
    "groups of 1": (2, 1),
    "groups longer than the axis": (1, 100),
    "groups down": (0, 3),
    "tiles": ((1, 2), (4, 5)),
    "tiles of all axes": ((0, 1, 2), (2, 3, 7)),
}
FORMATS: list[Any] = ["int8", "uint4", "int3", "int12", "e2m1fn", "e3m2fn", "bf16", NF4]


def grid(axis: Any, block: Any, shape: tuple[int, ...] = SHAPE) -> tuple[int, ...]:
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if block is None:
        return tuple(shape[i] for i in axes)
    sizes = dict(zip(axes, block if isinstance(block, tuple) else (block,), strict=True))
    return tuple(-(-n // sizes.get(i, 1)) for i, n in enumerate(shape))


def array(fmt: Any, layout: str, seed: int = 0, **more: Any) -> lp.QuantizedArray:
    rng = np.random.default_rng(seed)
    axis, block = LAYOUTS[layout]
    form = fmt if isinstance(fmt, lp.CodebookFormat) else lp.format(fmt)
    codes = rng.integers(0, 1 << form.bits, SHAPE).astype(form.code_dtype)
    if fmt == "bf16":
        codes = lp.encode(rng.standard_normal(SHAPE), fmt)
    shape = grid(axis, block)
    point = rng.integers(int(form.min), int(form.max) + 1, shape) if isinstance(form, lp.IntFormat) else None
    offset = np.float16(rng.standard_normal(shape)) if fmt == "uint4" else None
    scale = rng.uniform(0.5, 2, shape).astype(np.float32)
    return lp.QuantizedArray(codes, scale, point, format=fmt, axis=axis, block_size=block, offset=offset, **more)


def same(q: lp.QuantizedArray, numbers: Any) -> None:
    got = q.dequantize()
    assert (q.shape, q.ndim, q.size) == (numbers.shape, numbers.ndim, numbers.size)
    np.testing.assert_array_equal(got.view(np.uint32), np.ascontiguousarray(numbers).view(np.uint32))


def equal(q: lp.QuantizedArray, other: lp.QuantizedArray) -> None:
    assert repr(q) == repr(other)
    assert (q.format, q.nbytes, q.scale.dtype) == (other.format, other.nbytes, other.scale.dtype)
    for name in ("codes", "scale", "zero_point", "offset", "packed"):
        mine, its = getattr(q, name), getattr(other, name)
        assert (mine is None) == (its is None), name
        if mine is not None:
            assert mine.dtype == its.dtype
            assert mine.tobytes() == its.tobytes()
            assert mine.shape == its.shape
    assert q.tensor_scale == other.tensor_scale


# ------------------------------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_dequantize(fmt: Any, layout: str) -> None:
    """Element by element, by the words of the class."""
    q = array(fmt, layout, tensor_scale=0.75)
    axis, block = LAYOUTS[layout]
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    sizes = {} if block is None else dict(zip(axes, block if isinstance(block, tuple) else (block,), strict=True))
    got = q.dequantize(np.float64)
    for place in [(0, 0, 0), (3, 5, 19), (1, 2, 7), (2, 3, 8), (3, 4, 5), (0, 5, 13)]:
        where = tuple(n // sizes.get(i, 1) for i, n in enumerate(place)) if sizes else tuple(place[i] for i in axes)
        value = float(np.asarray(lp.decode(q.codes[place], q.format, dtype=np.float64)))
        value -= 0 if q.zero_point is None else int(q.zero_point[where])
        value = value * (float(q.scale[where]) * 0.75)
        value += 0 if q.offset is None else float(q.offset[where])
        assert got[place] == value, place


def cuts(q: lp.QuantizedArray, index: tuple[Any, ...]) -> bool:
    """Say whether an index takes a part of a block where there are several, or goes through them in steps."""
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (q.ndim + 1 - len(index)), *index[at + 1 :])
    for one, n, size in zip(index, q.shape, q.blocks, strict=False):
        if isinstance(one, slice) and 1 < size < n:
            start, stop, step = one.indices(n)
            if step != 1 or start % size or (stop % size and stop < n):
                return True
    return False


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", ["int3", "uint4", NF4], ids=str)
def test_slices(fmt: Any, layout: str) -> None:
    q = array(fmt, layout)
    numbers = q.dequantize()
    tried = 0
    every = slice(None)
    for index in [(1,), (-1,), (slice(2, 4),), (every, every), (..., every), (..., 3), (2, ..., 5), (1, 2, 3),
                  (slice(0, 0),), (every, slice(2, 2)), (..., slice(0, 0)), (slice(None, None, -1),),
                  (every, slice(1, None, 2)), (slice(3, 99),), (np.int64(1), slice(-2, None)), (Ellipsis,),
                  (every, every, slice(0, 8)), (every, slice(4, None), slice(5, 15)),
                  (slice(2, None), slice(3, 6), slice(7, None))]:  # fmt: skip
        if cuts(q, index):
            with pytest.raises(ValueError, match="multiple of its block size"):
                _ = q[index]
            continue
        part = q[index]
        same(part, numbers[index])
        tried += 1
        same(part.T, part.dequantize().T)
        equal(part.T.T, part)
    assert tried >= 8


def test_every_slice_of_an_axis_without_blocks() -> None:
    q = array("int3", "groups")
    numbers = q.dequantize()
    for start in (None, -7, -2, 0, 1, 3, 9):
        for stop in (None, -7, -1, 0, 2, 9):
            for step in (None, -2, -1, 1, 2, 5):
                same(q[:, start:stop:step], numbers[:, start:stop:step])


def test_wrong_indices() -> None:
    q = array("int3", "groups")
    for index in (1.0, "a", None, [0, 1], np.array([0]), True, (0, None)):
        with pytest.raises(TypeError, match="an index of a QuantizedArray must be integers, slices and an ellipsis"):
            _ = q[index]
    for index in (4, -5, (0, 6), (0, 0, 0, 0), (..., ...)):
        with pytest.raises(IndexError):
            _ = q[index]
    for index in ((..., slice(1, None)), (..., slice(0, 4)), (..., slice(None, None, 2)), (..., slice(None, None, -1))):
        with pytest.raises(ValueError, match="must begin and end at a multiple of its block size 8, with step 1"):
            _ = q[index]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", ["int8", "int3"])
def test_transposes_of_transposes(fmt: str, layout: str) -> None:
    q = array(fmt, layout)
    numbers = q.dequantize()
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (-1, 0, 1), (1, 0, 2)]
    for first in orders:
        once = q.transpose(*first)
        same(once, numbers.transpose(first))
        for second in orders:
            twice = once.transpose(*second)
            same(twice, numbers.transpose(first).transpose(second))
            assert twice.nbytes == q.nbytes
        assert once.packed.tobytes() == lp.pack(once.codes, once.format).tobytes()
    equal(q.T.T, q)
    same(q.mT, np.swapaxes(numbers, -1, -2))


# -------------------------------------------------------------------------------------------------- bytes and copies


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_packed_bytes(fmt: Any) -> None:
    q = array(fmt, "axis 2")
    assert q.packed.dtype == np.uint8
    assert q.packed.tobytes() == lp.pack(q.codes, q.format).tobytes()
    points = 0 if q.zero_point is None else -(-20 * q.format.bits // 8)
    assert q.nbytes == -(-q.size * q.format.bits // 8) + 20 * 4 + points + (0 if q.offset is None else 20 * 2)
    for array_ in (q.codes, q.packed, q.scale):
        assert not array_.flags.writeable


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_copies(fmt: Any, layout: str) -> None:
    q = array(fmt, layout, recipe="mse", tensor_scale=None if fmt == "int8" else 1.5)
    for one in (q, q.T):
        for other in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one),
                      lp.QuantizedArray.from_arrays(one.to_arrays("a."), "a.")):  # fmt: skip
            equal(other, one)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(suffix: str, tmp_path: Path) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed; it comes with the extra `files`")
    kept: dict[str, Any] = {f"{fmt}, {name}": array(fmt, name) for fmt in FORMATS for name in LAYOUTS}
    kept |= {
        row.name: lp.quantize(np.random.default_rng(0).standard_normal((3, 64)), row) for row in lp.block_formats()
    }
    kept["turned"] = kept["mxfp4"].T
    kept["scalar"] = lp.quantize(1.5, "int8")
    kept["empty"] = lp.quantize(np.zeros((0, 4)), "int4")
    plain = {"bias": np.arange(3.0), "bf16": np.ones((2, 2), ml_dtypes.bfloat16), "number": np.float32(3),
             "int4": np.array([1, -2], ml_dtypes.int4), "big": np.arange(4, dtype=np.int64)}  # fmt: skip
    for path in (tmp_path / f"all{suffix}", str(tmp_path / f"again{suffix}")):
        lp.save(path, kept | plain)
        found = lp.load(path)
        assert found.keys() == (kept | plain).keys()
        for name, q in kept.items():
            equal(found[name], q)
        for name, numbers in plain.items():
            assert found[name].dtype == numbers.dtype
            assert found[name].tobytes() == numbers.tobytes()
            assert found[name].shape == numbers.shape


def test_savez(tmp_path: Path) -> None:
    q = array(NF4, "tiles", tensor_scale=3.0)
    np.savez(tmp_path / "two.npz", other=np.ones(2), **q.to_arrays("w."))
    with np.load(tmp_path / "two.npz") as file:
        equal(lp.QuantizedArray.from_arrays(file, "w."), q)


def test_wrong_files(tmp_path: Path) -> None:
    q = array("int3", "groups")
    path = tmp_path / "a.npz"
    for wrong in ("a.bin", "a.npy", "a", tmp_path / "a.pt"):
        for call in (lambda wrong=wrong: lp.save(wrong, {"q": q}), lambda wrong=wrong: lp.load(wrong)):
            with pytest.raises(ValueError, match=r"`path` must end in .npz or .safetensors, got"):
                call()
    with pytest.raises(TypeError, match="`arrays` must be a mapping"):
        lp.save(path, q)
    with pytest.raises(ValueError, match="names without '::'"):
        lp.save(path, {"a::b": q})
    with pytest.raises(FileNotFoundError):
        lp.load(tmp_path / "none.npz")
    arrays = q.to_arrays()
    for name in ("codes", "scale", "facts"):
        with pytest.raises(ValueError, match=f"`arrays` must have '{name}'.*pass the prefix"):
            lp.QuantizedArray.from_arrays({key: each for key, each in arrays.items() if key != name})
    with pytest.raises(ValueError, match="got facts that are none"):
        lp.QuantizedArray.from_arrays(arrays | {"facts": np.frombuffer(b"{}", np.uint8)})
    later = bytes(arrays["facts"]).replace(b'"version": 1', b'"version": 9')
    with pytest.raises(ValueError, match="must be of version 1, got 9"):
        lp.QuantizedArray.from_arrays(arrays | {"facts": np.frombuffer(later, np.uint8)})
    with pytest.raises(TypeError, match="`prefix` must be a string"):
        q.to_arrays(3)
    np.savez(path, **{"q::codes": arrays["codes"]})
    with pytest.raises(ValueError, match="`arrays` must have 'q::facts'"):
        lp.load(path)


def test_repr_tells_the_recipe() -> None:
    x = np.linspace(-1, 1, 64, dtype=np.float32)
    for arguments, told in [
        (("int8",), "format='int8', scale='float32', recipe='absmax')"),
        (("mxfp4",), "axis=0, block_size=32, recipe='mxfp4 floor')"),
        (("nvfp4",), "block_size=16, tensor_scale=0.000372024, recipe='nvfp4')"),
    ]:
        assert repr(lp.quantize(x, *arguments)).endswith(told)
    assert "recipe='mse affine'" in repr(lp.quantize(x, "uint4", symmetric=False, calibration="mse"))
    assert "recipe='absmax /128'" in repr(lp.quantize(x, "int8", divisor=128))
    assert "recipe='given'" in repr(lp.quantize(x, "int8", scale=0.1))
