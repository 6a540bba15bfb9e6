"""linear and vecdot: the same sums as matmul, other axes; the bias comes after the sum."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits
from operands import KINDS, operands, random_values

import lowprec as lp

VECTORS = [
    ((3,), (3,)),
    ((0,), (0,)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 3), (2, 3)),
    ((5, 1, 3), (4, 3)),
    ((5, 1, 3), (1, 4, 3)),
    ((4, 0), (0,)),
    ((0, 3), (3,)),
    ((0, 3), (1, 3)),
    ((2, 3), (1,)),  # np.vecdot refuses this one
    ((7, 33), (7, 33)),
    ((50, 257), (257,)),
]


# --------------------------------------------------------------------------------------------------------- checks
def check_vecdot(vecdot: Callable[..., np.ndarray], kind: str, dtype: str = "bf16", k: int = 67) -> None:
    """Rows with rows, in ascending k from `c` or +0."""
    a, b = operands(kind, 12, k, 12)
    b = np.ascontiguousarray(b.T)
    for c in (None, np.float32(-0.0), np.arange(-6, 6, dtype=np.float32)):
        assert_same_bits(vecdot(a, b, dtype, c=c), ORACLE.vecdot(a, b, dtype, c=c), f"{kind} {dtype}")


def check_linear(linear: Callable[..., np.ndarray], kind: str, dtype: str = "bf16", k: int = 67) -> None:
    """Rows of x with rows of w, then the bias."""
    x, w = operands(kind, 9, k, 21)
    w = np.ascontiguousarray(w.T)
    bias = np.float32(np.random.default_rng(1).standard_normal(21))
    bias[:3] = 0.0, -0.0, np.inf
    bias[3] = 2.0**24 if kind == "powers" else 1e-40 if kind == "subnormal" else 1.0
    for b in (None, bias, np.full(21, -0.0, np.float32)):
        assert_same_bits(linear(x, w, b, dtype), ORACLE.linear(x, w, b, dtype), f"{kind} {dtype}")


def check_bias_last(linear: Callable[..., np.ndarray]) -> None:
    """2**24 + 1 + 1 is 2**24 in binary32 from the left, 2**24 + 2 with the bias last."""
    x, w = np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)
    got = linear(x, w, np.float32([2.0**24]), "bf16")
    assert_same_bits(got, np.float32([[2.0**24 + 2]]))


# ---------------------------------------------------------------------------------------------------------- vecdot
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "e4m3fn", "fp64"])
@pytest.mark.parametrize("kind", KINDS)
def test_vecdot(kind: str, dtype: str) -> None:
    check_vecdot(lp.vecdot, kind, dtype)


@pytest.mark.parametrize("k", [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 127, 129, 256, 1000, 4099])
def test_vecdot_lengths(k: int) -> None:
    check_vecdot(lp.vecdot, "normal", "fp32", k)


@pytest.mark.parametrize(("first", "second"), VECTORS)
def test_vecdot_shapes(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.float32(rng.standard_normal(shape)) for shape in (first, second))
    try:
        want = np.vecdot(a, b)
    except ValueError:
        with pytest.raises(ValueError, match=r"\b3\b.*\b1\b"):
            lp.vecdot(a, b, "bf16")
        return
    got = lp.vecdot(a, b, "bf16")
    assert type(got) is type(want)
    assert_same_bits(np.asarray(got), np.asarray(ORACLE.vecdot(a, b, "bf16")))


def test_vecdot_layouts() -> None:
    rng = np.random.default_rng(1)
    a, b = np.float32(rng.standard_normal((6, 4, 40))), np.float32(rng.standard_normal((4, 40)))
    want = ORACLE.vecdot(a, b, "bf16")
    for x in (a, np.asfortranarray(a), a[::-1].copy()[::-1], a[..., ::-1].copy()[..., ::-1], a.astype(">f4")):
        assert_same_bits(lp.vecdot(x, b, "bf16"), want)
        assert_same_bits(lp.vecdot(b, x, "bf16"), want)  # products commute
    zero = np.broadcast_to(b[0], (4, 40))
    assert_same_bits(lp.vecdot(a, zero, "bf16"), ORACLE.vecdot(a, zero, "bf16"))
    assert_same_bits(lp.vecdot(a[::2, 1:3], b[::2], "bf16"), ORACLE.vecdot(a[::2, 1:3], b[::2], "bf16"))


def test_vecdot_pairs_stored_and_out() -> None:
    rng = np.random.default_rng(2)
    a, b = np.float32(rng.standard_normal((2, 5, 30)))
    pair = ("e4m3fn", "e5m2")
    assert_same_bits(lp.vecdot(a, b, pair), ORACLE.vecdot(a, b, pair))
    for fmt in ("float8_e4m3fn", "bfloat16", "float4_e2m1fn"):
        x, y = random_values(fmt, (5, 30)), random_values(fmt, (5, 30), seed=1)
        assert_same_bits(lp.vecdot(x, y), ORACLE.vecdot(x, y))
    assert_same_bits(lp.vecdot(a, b, "bf16", out_dtype="fp16"), ORACLE.vecdot(a, b, "bf16", out_dtype="fp16"))
    wide = ORACLE.vecdot(a, b, "bf16", accumulator="fp64")
    assert_same_bits(lp.vecdot(a, b, "bf16", accumulator="fp64"), wide)
    out = np.full(5, np.nan, np.float32)
    assert lp.vecdot(a, b, "bf16", out=out) is out
    assert_same_bits(out, ORACLE.vecdot(a, b, "bf16"))


def test_vecdot_stochastic() -> None:
    """Each operand is rounded once, by the element's index in its own C order, however it is broadcast."""
    rng = np.random.default_rng(3)
    a, b = np.float32(rng.standard_normal((4, 6, 20))), np.float32(rng.standard_normal((6, 20)))
    keywords = {"rounding": "stochastic", "rng": 99}
    assert_same_bits(lp.vecdot(a, b, "e4m3fn", **keywords), ORACLE.vecdot(a, b, "e4m3fn", **keywords))


# ---------------------------------------------------------------------------------------------------------- linear
@pytest.mark.parametrize("dtype", ["bf16", "fp32", "e4m3fn", "fp64"])
@pytest.mark.parametrize("kind", KINDS)
def test_linear(kind: str, dtype: str) -> None:
    check_linear(lp.linear, kind, dtype)


def test_linear_lengths() -> None:
    for k in (0, 1, 2, 8, 16, 17, 33, 128, 129, 257, 1000):
        check_linear(lp.linear, "normal", "fp32", k)


def test_bias_comes_last() -> None:
    check_bias_last(lp.linear)


@pytest.mark.parametrize("shape", [(5,), (0, 5), (3, 5), (2, 3, 5), (2, 0, 5), (4, 1, 3, 5)])
def test_linear_shapes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    x, w, bias = (np.float32(rng.standard_normal(s)) for s in (shape, (7, 5), (7,)))
    for b in (None, bias):
        got = lp.linear(x, w, b, "bf16")
        assert got.shape == (*shape[:-1], 7)
        assert_same_bits(got, ORACLE.linear(x, w, b, "bf16"))


def test_linear_is_matmul_then_bias() -> None:
    """The words of the contract, by the public functions, in every policy and with every keyword."""
    rng = np.random.default_rng(5)
    x, w = np.float32(rng.standard_normal((6, 30))), np.float32(rng.standard_normal((11, 30)))
    bias, c = np.float32(rng.standard_normal(11)), np.float32(rng.standard_normal((6, 11)))
    for keywords in (
        {},
        {"c": c},
        {"accumulator": "fp64"},
        {"rounding": "toward_zero", "subnormals": "flush"},
        {"rounding": "stochastic", "rng": 3, "random_bits": 5},
        {"overflow": "saturate"},
    ):
        product = lp.matmul(x, w.T, "e4m3fn", **keywords)
        assert_same_bits(lp.linear(x, w, None, "e4m3fn", **keywords), product)
        assert_same_bits(lp.linear(x, w, bias, "e4m3fn", **keywords), product + bias.astype(product.dtype))


def test_linear_rounds_the_result_after_the_bias() -> None:
    """With out_dtype, one rounding from the accumulator, bias included."""
    rng = np.random.default_rng(6)
    x, w = np.float32(rng.standard_normal((6, 30))), np.float32(rng.standard_normal((11, 30)))
    bias = np.float32(rng.standard_normal(11)) * 2.0**-6
    for out_dtype, b in itertools.product(("bf16", "fp16", "e4m3fn"), (None, bias)):
        want = ORACLE.linear(x, w, b, "bf16", out_dtype=out_dtype)
        assert_same_bits(lp.linear(x, w, b, "bf16", out_dtype=out_dtype), want)
        out = np.empty((6, 11), lp.format(out_dtype).storage_dtype)
        assert lp.linear(x, w, b, "bf16", out_dtype=out_dtype, out=out) is out
        assert_same_bits(out, want)


def test_linear_stored_operands() -> None:
    x = np.float32(np.random.default_rng(7).standard_normal((4, 16))).astype(ml_dtypes.bfloat16)
    w = random_values("float8_e4m3fn", (9, 16), special=False)
    assert_same_bits(lp.linear(x, w), ORACLE.linear(x, w))


def test_linear_leaves_operands_alone() -> None:
    x, w, bias = np.ones((3, 4), np.float32), np.ones((5, 4), np.float32), np.full(5, 0.1, np.float32)
    out = np.empty((3, 5), np.float32)
    lp.linear(x, w, bias, "e2m1fn", out=out)
    assert (bias == np.float32(0.1)).all()
    assert (x == 1).all()
    assert (w == 1).all()
