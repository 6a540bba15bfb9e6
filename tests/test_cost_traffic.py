"""Bits moved: equal to what the package's own arrays take, and to a count block by block and group by group."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec.cost import _traffic

Array = np.ndarray[Any, Any]
X = np.random.default_rng(0).standard_normal((16, 128)).astype(np.float32)
BLOCKS = [each.name for each in lp.block_formats()]


def counted(bits: int, shape: tuple[int, ...], blocks: tuple[int, ...] | None, scale: int, kept: Any = None) -> int:
    """Count bytes the slow way: visit every element, note its block and its group, and add up what each takes once."""
    elements, seen, groups = 0, set(), set()
    for place in product(*map(range, shape)):
        if blocks is not None:
            seen.add(tuple(i // block for i, block in zip(place, blocks, strict=True)))
        if kept is None:
            elements += 1
        else:
            groups.add((*place[:-1], place[-1] // kept[1]))
    if kept is not None:
        elements = len(groups) * kept[0]
    return sum(-(-part // 8) for part in (elements * bits, len(groups) * 4, len(seen) * scale))


def test_bits_per_element_of_block_formats() -> None:
    """Acceptance: scales included."""
    wanted = {"mxfp8_e4m3": 8.25, "mxfp8_e5m2": 8.25, "mxfp6_e2m3": 6.25, "mxfp6_e3m2": 6.25, "mxfp4": 4.25}
    wanted |= {"mxint8": 8.25, "nvfp4": 4.5}
    for name, bits in wanted.items():
        found = lp.cost.traffic(name).bits_per_element
        assert (found, found.unit, found.kind) == (bits, "bit", "exact count")
    for name in BLOCKS:
        assert lp.cost.traffic(name).bits_per_element == lp.block_format(name).bits


def test_bits_per_element_of_two_of_four() -> None:
    """Acceptance: 9, 5, 4, 3 bits for each element of 16, 8, 6, 4."""
    wanted = {"bf16": 9, "fp16": 9, "e4m3fn": 5, "int8": 5, "e2m3fn": 4, "int4": 3, "e2m1fn": 3}
    for name, bits in wanted.items():
        assert lp.cost.traffic(name, sparsity="2:4").bits_per_element == bits
    assert lp.cost.traffic("fp32", sparsity="1:2").bits_per_element == 18
    assert lp.cost.traffic("int4", sparsity="4:8").bits_per_element == 2.5
    assert lp.cost.traffic("mxfp4", sparsity="2:4").bits_per_element == 3.25
    assert lp.cost.traffic("int8", sparsity=lp.SparsityPattern(2, 4)).bits_per_element == 5


def test_groups_with_scales_and_zero_points() -> None:
    def bits(**options: Any) -> float:
        return float(lp.cost.traffic("int4", **options).bits_per_element)

    assert bits(block_size=32, scale_dtype="fp16") == 4.5
    assert bits(block_size=128, scale_dtype="fp16") == 4.125
    assert bits(block_size=128) == 4.25
    assert bits(block_size=128, scale_dtype="fp16", zero_point=True) == 4 + 20 / 128
    assert bits(block_size=128, scale_dtype="fp16", zero_point="int8") == 4 + 24 / 128
    assert bits(axis=(0, 1), block_size=(128, 128)) == 4 + 32 / 128**2
    assert bits() == 4


@pytest.mark.parametrize("name", BLOCKS)
def test_block_formats_take_what_their_arrays_take(name: str) -> None:
    for shape, axis in (((16, 128), -1), ((128, 6), 0), ((2, 3, 64), 2)):
        if lp.block_format(name).ggml and axis != -1:
            continue  # GGML's go along the last axis
        x = np.resize(X, shape)
        assert lp.cost.traffic(name, shape, axis=axis).bytes == lp.quantize(x, name, axis=axis).nbytes


ELEMENTS = [
    ("int8", {}),
    ("int4", {"axis": 0}),
    ("int8", {"axis": 1}),
    ("int4", {"axis": -1, "block_size": 32, "scale_dtype": "fp16"}),
    ("int3", {"axis": -1, "block_size": 128}),
    ("e4m3fn", {"axis": (0, 1), "block_size": (4, 32)}),
    ("e4m3fn", {"axis": -1, "block_size": 64, "scale_dtype": "e8m0fnu"}),
    ("e2m3fn", {"axis": 0, "scale_dtype": "bf16"}),
    ("uint4", {"axis": -1, "block_size": 16, "symmetric": False}),
    ("int8", {"axis": 0, "symmetric": False}),
]


@pytest.mark.parametrize(("name", "options"), ELEMENTS)
def test_elements_with_scales_take_what_their_arrays_take(name: str, options: dict[str, Any]) -> None:
    q = lp.quantize(X, name, **options)
    where = {key: value for key, value in options.items() if key in ("axis", "block_size")}
    made = lp.cost.traffic(
        name,
        X.shape,
        scale_dtype=options.get("scale_dtype", "fp32"),
        zero_point=q.zero_point is not None,
        **where,
    )
    assert made.bytes == q.nbytes
    assert made.bits == 8 * made.bytes == sum(made.parts.values())
    assert made.bits_per_element == made.bits / X.size


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "e4m3fn", "e5m2", "e2m3fn", "e2m1fn"])
@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8"])
def test_sparse_arrays_take_what_they_take(name: str, pattern: str) -> None:
    for shape in ((16, 128), (3, 8), (5, 24)):
        made = lp.cost.traffic(name, shape, sparsity=pattern)
        assert made.bytes == lp.sparsify(np.resize(X, shape), pattern, dtype=name).nbytes


def test_sparse_arrays_along_another_axis_and_with_scales() -> None:
    made = lp.cost.traffic("bf16", (64, 6), sparsity="2:4", sparse_axis=0)
    assert made.bytes == lp.sparsify(np.resize(X, (64, 6)), "2:4", axis=0, dtype="bf16").nbytes
    for name, pattern in (("mxfp4", "2:4"), ("mxfp4", "4:8"), ("nvfp4", "2:4"), ("mxfp8_e4m3", "2:4"), ("nf4", "2:4")):
        there = lp.sparsify(lp.quantize(X, name), pattern)
        assert lp.cost.traffic(name, X.shape, sparsity=pattern).bytes == there.nbytes


def test_tf32_lies_in_words_of_32_bits() -> None:
    assert lp.cost.traffic("tf32").bits_per_element == 32
    assert lp.cost.traffic("tf32", (16, 128), sparsity="1:2").bytes == lp.sparsify(X, "1:2", dtype="tf32").nbytes


SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


@given(SHAPES, st.sampled_from(["int8", "bf16", "e2m3fn", "int4", "int3"]), st.integers(1, 5), st.data())
def test_equal_to_the_count_of_blocks(shape: tuple[int, ...], name: str, block: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    blocks = tuple(block if i == axis % len(shape) else 1 for i in range(len(shape)))
    made = lp.cost.traffic(name, shape, axis=axis, block_size=block, scale_dtype="fp16")
    assert made.bytes == counted(lp.format(name).bits, shape, blocks, 16)


@given(SHAPES, st.sampled_from(["int8", "bf16", "e2m3fn", "int4"]), st.sampled_from([(2, 4), (1, 2), (4, 8)]))
def test_equal_to_the_count_of_groups(shape: tuple[int, ...], name: str, kept: tuple[int, int]) -> None:
    """The last group is padded where it does not fit."""
    made = lp.cost.traffic(name, shape, sparsity=f"{kept[0]}:{kept[1]}")
    assert made.bytes == counted(lp.format(name).bits, shape, None, 0, kept)


def test_planted_metadata_of_two_bits_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_traffic, "_NIBBLE", 2)
    assert lp.cost.traffic("int8", sparsity="2:4").bits_per_element != 5
    assert lp.cost.traffic("int8", (16, 128), sparsity="2:4").bytes != lp.sparsify(X, dtype="e4m3fn").nbytes


def test_empty_and_zero_dimensional() -> None:
    assert lp.cost.traffic("int4", (0, 8)).bytes == 0
    assert lp.cost.traffic("mxfp4", (4, 0)).bytes == 0
    assert lp.cost.traffic("int4", ()).bytes == 1
    assert lp.cost.traffic("bf16", 7).bytes == 14
    assert lp.cost.traffic("bf16", (8, 0), sparsity="2:4").bytes == 0


def test_of_is_the_same_for_another_shape() -> None:
    made = lp.cost.traffic("int4", block_size=32, scale_dtype="fp16")
    assert made.of((16, 64)).bytes == lp.cost.traffic("int4", (16, 64), block_size=32, scale_dtype="fp16").bytes
    assert (
        made.of((64, 3), axis=0).bytes
        == lp.cost.traffic("int4", (64, 3), axis=0, block_size=32, scale_dtype="fp16").bytes
    )
    with pytest.raises(ValueError, match="`shape` must be given for bits in all"):
        _ = made.bytes


def test_prints() -> None:
    made = lp.cost.traffic("mxfp4", (64, 128))
    assert repr(made) == "<Traffic of mxfp4: 4.25 bits per element, 64 x 128: 4352 bytes>"
    assert "scales" in str(made)
    assert "<table>" in made._repr_html_()


def test_matmul_reads_two_and_writes_one() -> None:
    made = lp.cost.matmul_traffic(3, 64, 5, "mxfp4")
    a, b = lp.quantize(np.ones((3, 64)), "mxfp4"), lp.quantize(np.ones((64, 5)), "mxfp4", axis=0)
    assert (made.a.bytes, made.b.bytes, made.c.bytes) == (a.nbytes, b.nbytes, 3 * 5 * 2)
    assert made.bytes == a.nbytes + b.nbytes + 30
    assert made.ops == 2 * 3 * 64 * 5
    assert made.intensity == made.ops / made.bytes
    assert made.macs == 3 * 64 * 5


def test_matmul_options() -> None:
    def parts(*args: Any, **options: Any) -> tuple[int, int, int]:
        made = lp.cost.matmul_traffic(*args, **options)
        return made.a.bytes, made.b.bytes, made.c.bytes

    assert parts(2, 8, 4, "fp32") == (64, 128, 32)
    assert parts(2, 8, 4, "int8") == (16, 32, 16)
    assert parts(2, 8, 4, "fp16") == (32, 64, 16)
    assert parts(2, 8, 4, "e4m3fn", out_dtype="fp32") == (16, 32, 32)
    assert parts(2, 8, 4, ("bf16", "int4")) == parts(2, 8, 4, "bf16", weights="int4") == (32, 16, 16)
    assert parts(2, 8, 4, "int8", sparsity="2:4") == (16, 20, 16)
    grouped = lp.cost.traffic("int4", block_size=4, scale_dtype="fp16")
    assert parts(2, 8, 4, "bf16", weights=grouped) == (32, 16 + 2 * 4 * 2, 16)
    assert lp.cost.matmul_traffic(2, 8, 4, "int8", sparsity="2:4").macs == 2 * 4 * 4
    sparse = lp.cost.traffic("int8", sparsity="2:4")
    assert parts(2, 8, 4, "int8", weights=sparse) == (16, 20, 16)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "format": (lambda: lp.cost.traffic("mxfp5"), ValueError, "`fmt` must be a known format name"),
    "kind": (lambda: lp.cost.traffic(3), TypeError, "`fmt` must be"),
    "shape": (lambda: lp.cost.traffic("int8", (2, -1)), ValueError, "`shape` must have lengths of 0 or more"),
    "shape kind": (lambda: lp.cost.traffic("int8", (2, 1.5)), TypeError, "`shape` must be an integer, got 1.5"),
    "huge": (lambda: lp.cost.traffic("int8", (2**40, 2**40)), ValueError, r"fewer than 2\*\*63 elements"),
    "axis": (lambda: lp.cost.traffic("mxfp4", (2, 64), axis=2), ValueError, "`axis` must be from -2 to 1"),
    "axis alone": (lambda: lp.cost.traffic("int8", axis=0), ValueError, "`shape` must be given for scales along axis"),
    "axis kind": (lambda: lp.cost.traffic("int8", axis="x", block_size=4), TypeError, "`axis` must be an integer"),
    "block": (lambda: lp.cost.traffic("int8", block_size=0), ValueError, "`block_size` must be 1 or more"),
    "block of a block": (lambda: lp.cost.traffic("mxfp4", block_size=16), ValueError, "which has its own, got 16"),
    "scale": (lambda: lp.cost.traffic("int8", scale_dtype="int8"), ValueError, "`scale_dtype` must be a float format"),
    "zero point": (lambda: lp.cost.traffic("bf16", zero_point=True), ValueError, "only integers have zero points"),
    "pattern": (
        lambda: lp.cost.traffic("int8", sparsity="1:4"),
        ValueError,
        '`sparsity` must be "2:4", "1:2" or "4:8"',
    ),
    "sparse axis": (
        lambda: lp.cost.traffic("int8", 8, sparsity="2:4", sparse_axis=1),
        ValueError,
        "`sparse_axis` must be from -1 to 0",
    ),
    "M": (lambda: lp.cost.matmul_traffic(0, 1, 1, "int8"), ValueError, r"`M` must be from 1 to 2\*\*30, got 0"),
    "K": (lambda: lp.cost.matmul_traffic(1, -1, 1, "int8"), ValueError, "`K` must be from 1"),
    "large": (lambda: lp.cost.matmul_traffic(1, 1, 2**30 + 1, "int8"), ValueError, "`N` must be from 1"),
    "N": (lambda: lp.cost.matmul_traffic(1, 1, True, "int8"), TypeError, "`N` must be an integer, got True"),
    "dtype": (lambda: lp.cost.matmul_traffic(1, 1, 1, "bf1"), ValueError, "`dtype` must be a known format"),
    "three": (lambda: lp.cost.matmul_traffic(1, 1, 1, ("int8",) * 3), ValueError, "or a pair of them, got 3"),
    "weights": (
        lambda: lp.cost.matmul_traffic(1, 1, 1, "bf16", weights="in4"),
        ValueError,
        "`weights` must be a known",
    ),
    "both": (
        lambda: lp.cost.matmul_traffic(1, 1, 1, ("bf16", "int4"), weights="int4"),
        ValueError,
        "`weights` must not be given with a pair",
    ),
    "sparsity twice": (
        lambda: lp.cost.matmul_traffic(1, 8, 1, "int8", weights=lp.cost.traffic("int8"), sparsity="2:4"),
        ValueError,
        "`sparsity` must go into `weights`",
    ),
    "out": (lambda: lp.cost.matmul_traffic(1, 1, 1, "bf16", out_dtype="x"), ValueError, "`out_dtype` must be a known"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()
