"""Sizes, strides and batches of products with a Sparse24: none of them may show in a bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits
from operands import operands, random_values
from sparse_slow import GROUP, PATTERNS, Product, Slow, digest, finite, keep
from test_variants import CAN, HERE

import lowprec as lp
from lowprec import reference

Array = np.ndarray[Any, Any]


SIZES = (0, *range(1, 10), 15, 16, 17, 31, 32, 33, 95, 96, 97, 127, 128, 129)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_rows_and_columns(dtype: str | None) -> None:
    """All sizes around vectors and tiles; one element does not know of the others."""
    a, b = operands("cancelling", 129, 26, 129)
    kept = keep(a)
    want = Slow(kept.mask).matmul(kept.dense, b, dtype)
    pairs = {(m, n) for m in SIZES for n in (1, 33, 129)} | {(m, n) for m in (1, 9) for n in SIZES}
    for m, n in sorted(pairs):
        s = lp.Sparse24(kept.values[:m], kept.indices[:m], length=26)
        assert_same_bits(lp.matmul(s, b[:, :n], dtype), want[:m, :n], f"{m} {n}")
        if m in (1, 33, 129):
            assert_same_bits(lp.matmul(b[:, :n].T, s.T, dtype), want[:m, :n].T, f"transposed {m} {n}")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_depths(pattern: str) -> None:
    """All lengths around groups, tiles and blocks of K, with tails of every size."""
    a, b = operands("cancelling", 10, 261, 19)
    kept = keep(a, pattern)
    group = GROUP[pattern]
    lengths = {*range(14), *range(60, 69), *range(124, 133), *range(255, 262)}
    for length, want in enumerate(Slow(kept.mask).after_each_k(kept.dense, b)):
        if length not in lengths:
            continue
        cut = -(-length // group) * group
        values, indices = kept.values[:, : cut // 2].copy(), kept.indices[:, : cut // (4 if pattern == "4:8" else 2)]
        for i, row in enumerate(indices):
            values[i, np.array(reference.kept_places(row.tolist(), pattern), int) >= length] = 0
        s = lp.Sparse24(values, indices, pattern=pattern, length=length)
        assert_same_bits(lp.matmul(s, b[:length]), want, f"{length}")
        assert_same_bits(lp.matmul(s[:3], b[:length, :2], "fp32"), want[:3, :2], f"{length}")


def test_large() -> None:
    """Several blocks of all three sizes, one thread and two; the dense product has its own tests."""
    before = lp.get_num_threads()
    a, b = operands("cancelling", 290, 1030, 530)
    kept = keep(a)
    want = lp.matmul(kept.dense, b)
    try:
        for count in (1, 2):
            lp.set_num_threads(count)
            assert_same_bits(lp.matmul(kept.s, b), want)
            assert_same_bits(lp.matmul(b.T, kept.s.T), want.T)
            assert_same_bits(lp.matmul(kept.s, b[:, 7]), want[:, 7])
            assert_same_bits(lp.matmul(kept.s, b, c=want), lp.matmul(kept.dense, b, c=want))
    finally:
        lp.set_num_threads(before)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_memory_layout(pattern: str) -> None:
    a, b = operands("normal", 9, 27, 14)
    kept = keep(a, pattern)
    want = Slow(kept.mask).matmul(kept.dense, b, "fp16")
    wide = np.zeros((54, 42), np.float32)
    wide[::2, ::3] = b
    for other in (np.asfortranarray(b), b[::-1, ::-1].copy()[::-1, ::-1], wide[::2, ::3], b.astype(">f4"), b.tolist()):
        assert_same_bits(lp.matmul(kept.s, other, "fp16"), want)
    read_only = b.copy()
    read_only.flags.writeable = False
    assert_same_bits(lp.matmul(kept.s, read_only, "fp16"), want)
    for s in (
        lp.Sparse24(np.asfortranarray(kept.values), np.asfortranarray(kept.indices), pattern=pattern, length=27),
        lp.Sparse24(kept.values.T, kept.indices.T, pattern=pattern, axis=0, length=27).T,
        lp.Sparse24(kept.values.repeat(2, 0)[::2], kept.indices.astype(np.int64), pattern=pattern, length=27),
        kept.s.T.T,
        kept.s[:],
    ):
        assert_same_bits(lp.matmul(s, b, "fp16"), want)
    assert_same_bits(lp.matmul(kept.s[::-2], b[:, 3], "fp16"), want[::-2, 3])
    assert_same_bits(lp.matmul(kept.s[4], b, "fp16"), want[4])
    assert_same_bits(lp.matmul(kept.s[4], b[:, 0], "fp16"), want[4, 0])
    assert_same_bits(lp.matmul(b[:, 0], kept.s.T, "fp16"), want[:, 0])
    group = GROUP[pattern]
    part = Slow(kept.mask[:, group : 3 * group]).matmul(kept.dense[:, group : 3 * group], b[group : 3 * group])
    assert_same_bits(lp.matmul(kept.s[:, group : 3 * group], b[group : 3 * group]), part)


def test_axis_that_is_not_summed() -> None:
    """Groups along rows of the left operand or columns of the right one: the product of the dense array."""
    a, b = operands("nan", 8, 12, 5)
    kept = keep(finite(a), axis=0)
    for other in (b, finite(b)):
        assert_same_bits(lp.matmul(kept.s, other), ORACLE.matmul(kept.dense, other))
    assert_same_bits(lp.matmul(b.T, kept.s.T, "bf16"), ORACLE.matmul(b.T, kept.dense.T, "bf16"))
    stack = keep(np.stack([finite(a)] * 4), axis=0)
    assert_same_bits(lp.matmul(stack.s, b), ORACLE.matmul(stack.dense, b))


def test_batches() -> None:
    rng = np.random.default_rng(5)
    for first, second in (
        ((2, 3, 5, 9), (9, 4)),
        ((5, 9), (2, 3, 9, 4)),
        ((2, 1, 5, 9), (3, 9, 4)),
        ((3, 5, 9), (3, 9, 4)),
        ((0, 5, 9), (9, 4)),
        ((2, 5, 9), (9,)),
        ((9,), (2, 9, 4)),
        ((9,), (9,)),
        ((2, 0, 9), (9, 4)),
    ):
        kept = keep(rng.standard_normal(first, np.float32))
        b = rng.standard_normal(second, np.float32)
        want = Slow(kept.mask).matmul(kept.dense, b, "bf16")
        got = lp.matmul(kept.s, b, "bf16")
        assert np.shape(got) == np.matmul(kept.dense, b).shape
        assert_same_bits(got, np.asarray(want), f"{first} {second}")
        columns = keep(rng.standard_normal(second, np.float32), "4:8", axis=max(-2, -len(second)))
        a = rng.standard_normal(first, np.float32)
        want = Slow(None, columns.mask).matmul(a, columns.dense)
        assert_same_bits(lp.matmul(a, columns.s), np.asarray(want), f"{first} {second}")
    kept = keep(rng.standard_normal((2, 5, 9), np.float32))
    b, c = rng.standard_normal((3, 1, 9, 4), np.float32), rng.standard_normal((3, 2, 5, 4), np.float32)
    for keywords in ({"c": c}, {"c": c[0], "out_dtype": "bf16", "rounding": "stochastic", "rng": 1}):
        assert_same_bits(lp.matmul(kept.s, b, **keywords), Slow(kept.mask).matmul(kept.dense, b, **keywords))
    assert_same_bits(lp.matmul(kept.s[1], b[2]), Slow(kept.mask[1]).matmul(kept.dense[1], b[2]))


# ----------------------------------------------------------------------------------------- vectors, and special values
@pytest.mark.parametrize("fmt", ["fp32", "bf16", "fp16", "e4m3fn", "e2m1fn", "fp64"])
def test_few_columns(fmt: str) -> None:
    """A matrix times one to five vectors, values as they are stored, infinities and NaN among them."""
    for m, k in ((1, 5), (1, 64), (3, 9), (7, 61), (9, 130), (34, 66), (65, 263)):
        pattern = PATTERNS[m % 3]
        kept = keep(random_values(fmt, (m, k)), pattern)
        tame = keep(random_values(fmt, (m, k), special=False), pattern)
        b = operands("cancelling", 1, k, 5)[1]
        want = Slow(tame.mask).matmul(tame.dense, b)
        for n in range(6):
            assert_same_bits(lp.matmul(tame.s, b[:, :n]), want[:, :n], f"{m} {k} {n}")
        assert_same_bits(lp.matmul(tame.s, b[:, 2]), want[:, 2], f"{m} {k}")
        assert_same_bits(lp.matmul(b[:, 2], tame.s.T), want[:, 2], f"{m} {k}")
        assert_same_bits(lp.linear(b[:, 2], tame.s), want[:, 2], f"{m} {k}")
        b[:: 1 + k // 7, ::2] = np.inf
        assert_same_bits(lp.matmul(kept.s, b[:, :3]), Slow(kept.mask).matmul(kept.dense, b[:, :3]), f"{m} {k}")
        assert_same_bits(lp.matmul(kept.s, b[:, 0]), Slow(kept.mask).matmul(kept.dense, b[:, 0]), f"{m} {k}")


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_few_special_values_in_large_operands(dtype: str | None) -> None:
    """What a kernel may not hide: infinities in places that are not kept, in kept ones, and kept ones themselves."""
    a, b = operands("normal", 100, 400, 260)
    b[3, 5], b[200, 255], b[399, 0], b[7, 100], b[130, 31] = np.inf, np.nan, -np.inf, -0.0, np.inf
    full = a.copy()
    full[99, 17], full[0, 200], full[50, 396] = np.inf, np.nan, -np.inf
    columns = [0, 5, 31, 100, 254, 255]
    for each in (a, full):
        kept = keep(each)
        got, own = lp.matmul(kept.s, b, dtype), np.ascontiguousarray(b[:, columns])
        assert_same_bits(np.ascontiguousarray(got[:, columns]), Slow(kept.mask).matmul(kept.dense, own, dtype))
        assert_same_bits(lp.matmul(b.T, kept.s.T, dtype), got.T)
        assert np.isnan(got[:, 255]).sum() in (kept.mask[:, 200].sum(), kept.mask[:, 200].sum() + 1)


# ------------------------------------------------------------------------------------------------------------- variants
@pytest.mark.parametrize("lanes", [name for name, can in CAN.items() if can][1:])  # the first is what all others run
def test_every_variant(lanes: str) -> None:
    """The bits of every other vector width and of the plain fallback, each forced in a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")}
    path = os.pathsep.join([str(HERE), str(Path(lp.__file__).resolve().parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", "import lowprec as lp, sparse_slow; print(sparse_slow.digest(lp.matmul))"],
        env={**inherited, "PYTHONPATH": path, "LOWPREC_LANES": lanes},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(Product())
