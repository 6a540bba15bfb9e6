"""linear, vecdot and conv2d with a Sparse24: the sums of matmul, bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import conv_slow
import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits
from operands import operands
from sparse_slow import PATTERNS, Kept, Slow, finite, keep, same_but_zeros
from test_sparse_products import gathered, hard, quantised, whole

import lowprec as lp

Array = np.ndarray[Any, Any]
F32 = np.float32


# --------------------------------------------------------------------------------------------------------------- linear
def test_linear() -> None:
    """Sparse weights (N, K) along K; sparse inputs; the bias last."""
    for pattern, kind in itertools.product(PATTERNS, ("normal", "cancelling", "nan")):
        w, x = operands(kind, 9, 27, 14)
        x, kept, bias = x.T, keep(w, pattern), operands("normal", 9, 1, 1)[0][:, 0]
        slow = Slow(None, kept.mask.T)
        assert_same_bits(lp.linear(x, kept.s), slow.linear(x, kept.dense))
        assert_same_bits(lp.linear(x, kept.s, bias, "bf16"), slow.linear(x, kept.dense, bias, "bf16"))
        for keywords in ({"out_dtype": "bf16"}, {"accumulator": "fp64"}, {"c": bias}):
            got = lp.linear(x, kept.s, bias, ("e4m3fn", "fp16"), **keywords)
            assert_same_bits(got, slow.linear(x, kept.dense, bias, ("e4m3fn", "fp16"), **keywords), f"{keywords}")
        assert_same_bits(lp.linear(x[3], kept.s, bias), slow.linear(x[3], kept.dense, bias))
        batch = np.stack([x, -x]).reshape(2, 7, 2, 27)
        assert_same_bits(lp.linear(batch, kept.s, 0.5), slow.linear(batch, kept.dense, 0.5))
        inputs = keep(np.ascontiguousarray(x), pattern)
        assert_same_bits(lp.linear(inputs.s, w, bias), Slow(inputs.mask).linear(inputs.dense, w, bias))
        out = np.empty((14, 9), F32)
        assert lp.linear(x, kept.s, bias, out=out) is out
        assert_same_bits(out, slow.linear(x, kept.dense, bias))


def test_linear_other_sums(rng: np.random.Generator) -> None:
    kept, b, _ = hard(lp.Sequential("fp16"), "fp16", (9, 27, 14), "2:4", 0)
    x, bias = np.ascontiguousarray(b.T), rng.standard_normal(9, F32)
    for accumulator in ("fp16", "exact", "fp64", lp.Sequential("bf16", "toward_zero")):
        same_but_zeros(lp.linear(x, kept.s, bias, accumulator=accumulator),
                       lp.linear(x, kept.dense, bias, accumulator=accumulator))  # fmt: skip
    for accumulator in ("nvidia-ampere", lp.Chunked("fp16", 4)):
        want = gathered(kept, b, None, accumulator=accumulator).T
        assert_same_bits(lp.linear(x, kept.s, accumulator=accumulator), np.ascontiguousarray(want))
    x, w = whole(rng, np.int8, (5, 30)), keep(whole(rng, np.int8, (7, 30)))
    assert_same_bits(lp.linear(x, w.s), lp.linear(x, w.dense))
    flat = keep(w.dense, axis=0)  # along an axis that is not summed: the dense array
    assert_same_bits(lp.linear(x, flat.s), lp.linear(x, flat.dense))


# --------------------------------------------------------------------------------------------------------------- vecdot
def test_vecdot() -> None:
    for pattern, kind in itertools.product(PATTERNS, ("cancelling", "nan")):
        a, b = operands(kind, 6, 21, 6)
        b = np.ascontiguousarray(b.T)
        kept = keep(a, pattern)
        slow, other = Slow(kept.mask[:, None]), Slow(None, kept.mask[..., None])
        assert_same_bits(lp.vecdot(kept.s, b), slow.vecdot(kept.dense, b))
        assert_same_bits(lp.vecdot(b, kept.s, "bf16", out_dtype="fp16"),
                         other.vecdot(b, kept.dense, "bf16", out_dtype="fp16"))  # fmt: skip
        assert_same_bits(lp.vecdot(kept.s, b[2], c=F32([1, 2, 3, 4, 5, 6])),
                         slow.vecdot(kept.dense, b[2], c=F32([1, 2, 3, 4, 5, 6])))  # fmt: skip
        got = lp.vecdot(kept.s[3], b[:, None])
        assert_same_bits(got, Slow(kept.mask[3][None]).vecdot(kept.dense[3], b[:, None]))
        assert_same_bits(np.asarray(lp.vecdot(kept.s[3], b[3])), np.asarray(lp.matmul(kept.s[3], b[3])))


def test_vecdot_other_sums(rng: np.random.Generator) -> None:
    kept, b, _ = hard(lp.Sequential("fp16"), "fp16", (6, 27, 6), "2:4", 0)
    for accumulator in ("fp16", "exact", "nvidia-ampere", lp.Pairwise("fp16")):
        got = lp.vecdot(kept.s, np.ascontiguousarray(b.T), accumulator=accumulator)
        want = np.diagonal(lp.matmul(kept.s, b, accumulator=accumulator))
        same_but_zeros(got, want, str(accumulator))
    x, w = whole(rng, np.int8, (7, 30)), keep(whole(rng, np.int8, (7, 30)))
    assert_same_bits(lp.vecdot(w.s, x), lp.vecdot(w.dense, x))
    kept, q = quantised("int8", "2:4")
    other = lp.quantize(rng.standard_normal((6, 64), F32), "int8")
    assert_same_bits(lp.vecdot(kept.s, other), lp.vecdot(q, other))


# --------------------------------------------------------------------------------------------------------------- conv2d
def slow_conv2d(x: Array, kept: Kept, bias: Any, geometry: Any, dtype: Any = None, product: Any = None) -> Array:
    """Return the layer's result: sums over kept (channel, kernel row, kernel column), ascending."""
    stride, sides, dilation, groups = geometry
    fmt = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    images, _ = ORACLE.operand(x if x.ndim == 4 else x[None], fmt[0], 0, {})
    weights, _ = ORACLE.operand(kept.dense, fmt[1], 1, {})
    read = conv_slow.SLOW.patches(images, weights.shape[2:], stride, sides, dilation)
    left, right = conv_slow.SLOW.matrices(read, weights, groups)
    mask = kept.mask.reshape(left.shape)
    r = Slow(mask).product(left, right, None, F32) if product is None else product(left, mask, right)
    r = conv_slow.SLOW.end(r.reshape(read.shape[0], weights.shape[0], *read.shape[4:]), bias)
    return r[0] if x.ndim == 3 else r


@pytest.mark.parametrize("number", range(len(conv_slow.GEOMETRIES)))
def test_conv2d(number: int) -> None:
    """Groups of channels at each place of the kernel; every geometry of the dense layer, tails in most."""
    shape, weights, stride, sides, dilation, groups = conv_slow.GEOMETRIES[number]
    x, w = conv_slow.layer(shape, weights, "cancelling")
    bias = operands("normal", weights[0], 1, 1)[0][:, 0]
    for pattern, dtype in (("2:4", "bf16"), (PATTERNS[number % 3], None)):
        kept = keep(w, pattern, axis=1)
        keywords = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups, "dtype": dtype}
        want = slow_conv2d(x, kept, bias, (stride, sides, dilation, groups), dtype)
        assert_same_bits(lp.conv2d(x, kept.s, bias, **keywords), want, pattern)


WIDE = ((2, 16, 5, 6), (6, 8, 3, 2), (1, 1), ((1, 1), (1, 0)), (1, 1), 2)


@pytest.mark.parametrize("kind", ["zeros", "nan", "overflowing", "subnormal"])
def test_conv2d_kinds(kind: str) -> None:
    x, w = conv_slow.layer(WIDE[0], WIDE[1], kind)
    for pattern in PATTERNS:
        kept = keep(w, pattern, axis=1)
        got = lp.conv2d(x, kept.s, padding=WIDE[3], groups=2)
        assert_same_bits(got, slow_conv2d(x, kept, None, WIDE[2:]), pattern)


def test_conv2d_other_sums(rng: np.random.Generator) -> None:
    x, w = (each.astype(np.float16) for each in conv_slow.layer(WIDE[0], WIDE[1], "cancelling"))
    kept, how = keep(w, axis=1), {"padding": WIDE[3], "groups": 2}
    for accumulator in ("fp16", "exact", lp.Sequential("fp16", "stochastic")):
        more = {"accumulator": accumulator, "rng": 3} | how
        same_but_zeros(lp.conv2d(x, kept.s, **more), lp.conv2d(x, kept.dense, **more), str(accumulator))

    def by_rows(left: Array, mask: Array, right: Array) -> Array:
        found = np.empty((*right.shape[:2], left.shape[1], right.shape[3]), F32)
        for image, group, row in np.ndindex(found.shape[:3]):
            own = mask[group, row]
            found[image, group, row] = lp.matmul(left[group, row, own], right[image, group, own], "fp16",
                                                 accumulator=accumulator)  # fmt: skip
        return found

    for accumulator in ("nvidia-ampere", lp.Pairwise("fp16")):
        want = slow_conv2d(x, kept, None, WIDE[2:], "fp16", by_rows)
        assert_same_bits(lp.conv2d(x, kept.s, accumulator=accumulator, **how), want, str(accumulator))
    x, w = whole(rng, np.int8, WIDE[0]), whole(rng, np.int8, WIDE[1])
    kept = keep(w, axis=1)
    assert_same_bits(lp.conv2d(x, kept.s, **how), lp.conv2d(x, kept.dense, **how))
    flat = keep(finite(conv_slow.layer(WIDE[0], WIDE[1])[1]), axis=3)
    x = conv_slow.layer(WIDE[0], WIDE[1])[0]
    got, want = lp.conv2d(x, flat.s, **how), slow_conv2d(x, flat, None, WIDE[2:])
    same_but_zeros(got, want)
