"""conv2d in every format and accumulator: the bits of matmul on the matrix of all patches."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from conv_slow import SLOW, layer
from fma_oracle import FLOATS, Array, assert_same_bits
from operands import random_values, without_nan

import lowprec as lp
from lowprec import _patches


@pytest.mark.parametrize("fmt", [fmt.name for fmt in FLOATS if fmt.is_signed])
def test_formats(fmt: str) -> None:
    """Every format, from float32 and float64, and as stored codes, in every rounding mode."""
    x, w = layer((2, 2, 5, 6), (3, 2, 3, 3), "subnormal" if fmt == "float32" else "normal")
    keywords = {"padding": ((1, 1), (1, 1))}
    for rounding, subnormals in itertools.product(lp.Rounding, lp.Subnormals):
        if rounding != "stochastic":
            how = {"rounding": str(rounding), "subnormals": str(subnormals), "dtype": fmt, **keywords}
            assert_same_bits(lp.conv2d(x, w, **how), SLOW(x, w, **how), f"{rounding} {subnormals}")
    assert lp.format(fmt).has_zero
    assert_same_bits(lp.decode(np.zeros(1, int), fmt, dtype=np.float64), np.zeros(1))  # code 0 is +0, the padding
    wide = np.float64(x) * (1 + 2.0**-30)
    assert_same_bits(lp.conv2d(wide, w, dtype=fmt, **keywords), SLOW(wide, w, dtype=fmt, **keywords))
    x, w = random_values(fmt, (2, 2, 5, 6)), random_values(fmt, (3, 2, 3, 3), seed=1)
    if lp.format(fmt).storage_dtype not in (np.float32, np.float64):
        assert_same_bits(lp.conv2d(x, w, **keywords), SLOW(x, w, **keywords))
        for dtype in ("bf16", ("e4m3fn", "e5m2")):
            a, b = (without_nan(np.float32(v), "bf16") for v in (x, w))
            assert_same_bits(lp.conv2d(x, w, dtype=dtype, **keywords), SLOW(a, b, dtype=dtype, **keywords))


def test_custom_formats_overflow_and_integers() -> None:
    x, w = layer((2, 2, 5, 6), (3, 2, 3, 3))
    keywords = {"padding": ((1, 1), (1, 1))}
    for dtype in ("e5m7", ("e3m2", "bf16"), ["fp16", "tf32"]):
        pair = tuple(dtype) if isinstance(dtype, list) else dtype
        assert_same_bits(lp.conv2d(x, w, dtype=dtype, **keywords), SLOW(x, w, dtype=pair, **keywords))
    for overflow in ("saturate", "nan"):
        how = {"dtype": "e4m3fn", "overflow": overflow, **keywords}
        assert_same_bits(lp.conv2d(x * 500, w, **how), SLOW(x * 500, w, **how))
    whole = np.int64(x * 1000)
    assert_same_bits(lp.conv2d(whole, w, dtype="bf16", **keywords), SLOW(whole, w, dtype="bf16", **keywords))
    mixed = {"dtype": ("fp64", "bf16"), "accumulator": "fp32", **keywords}
    assert_same_bits(lp.conv2d(np.float64(x) / 3, w, **mixed), SLOW(np.float64(x) / 3, w, **mixed))
    for accumulator in ("fp32", "fp64"):
        how = {"dtype": "bf16", "accumulator": accumulator, **keywords}
        assert_same_bits(lp.conv2d(x, w, **how), SLOW(x, w, **how))


# -------------------------------------------------------------------------------------------------- other accumulators
MODELS: list[tuple[Any, Any, dict[str, Any]]] = [
    ("fp16", "fp16", {}),
    ("bf16", "bf16", {}),
    ("exact", "bf16", {}),
    ("pairwise", "bf16", {}),
    ("nvidia-volta", "fp16", {}),
    ("nvidia-hopper", "bf16", {}),
    ("nvidia-hopper", ("e4m3fn", "e5m2"), {}),
    ("amd-cdna3", "bf16", {}),
    ("x86-avx512bf16", "bf16", {}),
]


def explicit(x: Array, w: Array, groups: int, dtype: Any, images_left: bool, **keywords: Any) -> Array:
    """Return the layer by `lp.matmul` of the whole matrix of patches, padding 1."""
    read = SLOW.patches(x, w.shape[2:], (1, 1), ((1, 1), (1, 1)), (1, 1))
    left, right = SLOW.matrices(read, w, groups)
    if images_left:
        turned = lp.matmul(right.swapaxes(-1, -2), left.swapaxes(-1, -2), dtype, **keywords)
        return np.ascontiguousarray(turned.swapaxes(-1, -2)).reshape(len(x), len(w), *x.shape[2:])
    return lp.matmul(left, right, dtype[::-1] if isinstance(dtype, tuple) else dtype, **keywords).reshape(
        len(x), len(w), *x.shape[2:]
    )


@pytest.mark.parametrize("kind", ["normal", "cancelling", "zeros", "nan", "infinite"])
@pytest.mark.parametrize(("accumulator", "dtype", "keywords"), MODELS, ids=str)
def test_accumulators(
    accumulator: Any, dtype: Any, keywords: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = layer((2, 6, 5, 7), (8, 3, 3, 3), kind)
    want = explicit(x, w, 2, dtype, True, accumulator=accumulator, **keywords)
    for room in (1, 1000, 1 << 22):
        monkeypatch.setattr(_patches, "_BUFFER_BYTES", room)
        monkeypatch.setattr(_patches, "_FEWEST_POSITIONS", 1)
        got = lp.conv2d(x, w, padding=1, groups=2, dtype=dtype, accumulator=accumulator, **keywords)
        assert_same_bits(got, np.ascontiguousarray(want), f"{accumulator} {kind}")


@pytest.mark.parametrize("accumulator", ["x86-avx512bf16", "x86-amx"])
def test_stored_nan_keep_their_payload(accumulator: str) -> None:
    """Where the hardware hands a NaN on, which of two goes on depends on the side, and x is the left one."""
    rng = np.random.default_rng(4)
    x, w = (random_values("bf16", shape) for shape in ((2, 4, 5, 6), (3, 2, 3, 3)))
    for v in (x.view(np.uint16), w.view(np.uint16)):
        hit = rng.random(v.shape) < 0.3
        v[hit] = v[hit] & 0x807F | 0x7F81
    x = np.concatenate((x, x[:, :2]), axis=1)
    want = explicit(x, w, 3, None, True, accumulator=accumulator)
    assert len(np.unique(want.view(np.uint32)[np.isnan(want)])) > 3
    assert (want.view(np.uint32) != explicit(x, w, 3, None, False, accumulator=accumulator).view(np.uint32)).any()
    assert_same_bits(lp.conv2d(x, w, padding=1, groups=3, accumulator=accumulator), want)


def test_stochastic_sum_draws_by_the_index_in_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the products of weights and patches, image by image, whose result has the same order."""
    x, w = layer((3, 4, 5, 6), (6, 2, 3, 3))
    model = lp.Sequential("fp16", rounding="stochastic")
    want = explicit(x, w, 2, "fp16", False, accumulator=model, rng=7)
    assert (want[0] != explicit(x, w, 2, "fp16", False, accumulator=model, rng=8)[0]).any()
    for room in (1, 500, 3000, 1 << 22):
        monkeypatch.setattr(_patches, "_BUFFER_BYTES", room)
        monkeypatch.setattr(_patches, "_FEWEST_POSITIONS", 1)
        got = lp.conv2d(x, w, padding=1, groups=2, dtype="fp16", accumulator=model, rng=7)
        assert_same_bits(got, want, str(room))


def test_integer_arrays_give_the_exact_sum() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.integers(-128, 128, (2, 4, 5, 6), np.int8), rng.integers(-128, 128, (6, 2, 3, 3), np.int8)
    read = SLOW.patches(x, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    left, right = SLOW.matrices(read, w, 2)
    want = np.matmul(left.astype(np.int32), right.astype(np.int32)).reshape(2, 6, 5, 6)
    bias = rng.integers(-1000, 1000, 6, np.int32)
    assert_same_bits(lp.conv2d(x, w, padding=1, groups=2), want)
    assert_same_bits(lp.conv2d(x, w, bias, padding=1, groups=2), want + bias[:, None, None])
