"""Every other sum and every other function with a Sparse24: what it must equal, bit for bit.

Sums that go one by one, exact sums and sums of integers are held against the specification and against the dense
product; sums in blocks against the dense product of each row's kept values with the rows of b at their places.
"""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from accumulator_cases import Case, array, has_draws, wanted_bits
from fma_oracle import assert_same_bits, bits
from sparse_slow import PATTERNS, Kept, Slow, keep, same_but_zeros

import lowprec as lp
from lowprec import reference

Array = np.ndarray[Any, Any]
F32 = np.float32
SEQUENTIAL: dict[str, tuple[Any, str]] = {
    "bf16": ("bf16", "bf16"),
    "fp16": ("fp16", "fp16"),
    "e4m3fn": ("e4m3fn", "e4m3fn"),
    "e2m3fn": (lp.Sequential("e2m3fn"), "e2m1fn"),
    "toward zero": (lp.Sequential("fp16", "toward_zero"), "fp16"),
    "up": (lp.Sequential("bf16", "toward_positive"), "bf16"),
    "down": (lp.Sequential("fp32", "toward_negative"), "bf16"),
    "away": (lp.Sequential("fp16", "nearest_away"), "e4m3fn"),
    "odd": (lp.Sequential("bf16", "to_odd"), "e5m2"),
    "not fused": (lp.Sequential("fp16", fused=False), "fp16"),
    "products in bf16": (lp.Sequential("fp32", product="bf16"), "bf16"),
    "saturating": (lp.Sequential("e4m3fn", overflow="saturate"), "e5m2"),
    "flushing": (lp.Sequential("fp16", subnormals="flush"), "fp16"),
    "stochastic": (lp.Sequential("bf16", "stochastic"), "bf16"),
    "stochastic, not fused": (lp.Sequential("fp16", "stochastic", fused=False, random_bits=7), "e4m3fn"),
    "fp64": ("fp64", "bf16"),
    "exact": ("exact", "e5m2"),
    "exact in bf16, down": (lp.Exact("bf16", "toward_negative"), "bf16"),
}
BLOCKS: dict[str, tuple[Any, str]] = {
    "chunks of fp32": (lp.Chunked("fp32", 8), "bf16"),
    "chunks of fp16": (lp.Chunked("fp16", 5), "fp16"),
    "chunks of trees": (lp.Chunked(lp.Pairwise("fp16", 2), 6, outer="bf16"), "fp16"),
    "tree": ("pairwise", "bf16"),
    "tree of threes": (lp.Pairwise("fp16", 3), "fp16"),
    "truncated": (lp.FusedTruncated(8, 24), "bf16"),
    "truncated to fp16": (lp.FusedTruncated(4, 24, "fp16", "nearest_even"), "fp16"),
}


def model_of(accumulator: Any) -> Any:
    """Return the model of a word."""
    words = {"exact": lp.Exact(), "pairwise": lp.Pairwise("fp32")}
    if isinstance(accumulator, str):
        return words[accumulator] if accumulator in words else lp.Sequential(accumulator)
    return accumulator


def hard(model: Any, fmt: str, shape: tuple[int, int, int], pattern: str, special: float) -> tuple[Kept, Array, Array]:
    """Return operands and starts that are hard for a sum."""
    case = Case(model, (fmt, fmt), shape, special=special)
    kept = keep(array(case.a, fmt), pattern)
    return kept, array(case.b, fmt), array(case.c, case.c_format)


def gathered(kept: Kept, b: Array, c: Any = None, **keywords: Any) -> Array:
    """Return the product row by row: dense products of the kept values with the rows of b at their places."""
    rows = []
    for i, mask in enumerate(kept.mask):
        start = None if c is None else c[i : i + 1]
        rows.append(lp.matmul(kept.dense[i : i + 1, mask], b[mask], c=start, **keywords))
    return np.concatenate(rows)


# -------------------------------------------------------------------------------------------- sums that go one by one
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sums_of_the_dense_product(name: str) -> None:
    """The bits of the dense product for finite operands, up to the sign of zeros; the words of its steps, too."""
    accumulator, fmt = SEQUENTIAL[name]
    model = model_of(accumulator)
    more = {"rng": 5} if has_draws(model) else {}
    for pattern, shape in (("2:4", (7, 39, 37)), ("4:8", (3, 21, 5)), ("1:2", (2, 66, 40))):
        kept, b, c = hard(model, fmt, shape, pattern, 0)
        if name == "flushing":
            c = np.where(np.abs(c) < 2.0**-14, np.float16(0), c)
        for start in (None, c):
            keywords = {"accumulator": accumulator, "c": start, **more}
            want = lp.matmul(kept.dense, b, **keywords)
            same_but_zeros(lp.matmul(kept.s, b, **keywords), want, f"{pattern}")
            columns = keep(np.ascontiguousarray(b.T), pattern)
            want = lp.matmul(kept.dense, columns.dense.T, **keywords)
            same_but_zeros(lp.matmul(kept.dense, columns.s.T, **keywords), want, f"{pattern}, on the right")


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sums_of_the_specification(name: str) -> None:
    """Infinities and NaN on both sides, signs of zeros, element by element."""
    accumulator, fmt = SEQUENTIAL[name]
    model = model_of(accumulator)
    more = {"rng": 5} if has_draws(model) else {}
    for pattern, special in itertools.product(PATTERNS, (0, 1.5)):
        kept, b, c = hard(model, fmt, (5, 27, 9), pattern, special)
        got = bits(lp.matmul(kept.s, b, accumulator=accumulator, c=c, **more))
        check_places(got, kept, b, c, model, fmt, 10)


def test_subnormal_c_waits_for_a_kept_place() -> None:
    """Where sums flush, the dense product's zeros flush a subnormal c, and places that are not kept do nothing."""
    s = lp.Sparse24(np.float16([[2.0**-14, 0]]), np.uint8([[2, 3]]))
    model, c, b = lp.Sequential("fp16", subnormals="flush"), np.float16([[2.0**-15]]), np.ones((4, 1), np.float16)
    assert lp.matmul(s, b, accumulator=model, c=c)[0, 0] == 1.5 * 2.0**-14
    assert lp.matmul(s.to_dense(), b, accumulator=model, c=c)[0, 0] == 2.0**-14
    nothing = lp.Sparse24(np.float16([[0, 0]]), np.uint8([[2, 3]]), length=2)
    assert lp.matmul(nothing, b[:2], accumulator=model, c=c)[0, 0] == 2.0**-15


def check_places(got: Array, kept: Kept, b: Array, c: Array, model: Any, fmt: str, count: int) -> None:
    """Hold some elements against the specification in integers and fractions."""
    rng = np.random.default_rng(0)
    out = model.result_format or lp.format("fp32")
    raw = codes(b, fmt)
    for i, j in zip(rng.integers(len(got), size=count), rng.integers(got.shape[1], size=count), strict=True):
        start = int(codes(c[i : i + 1, j : j + 1], getattr(model, "c_format", None) or out)[0, 0])
        code = reference.sparse_dot(
            model, codes(kept.values[i : i + 1], fmt)[0].tolist(), kept.indices[i].tolist(), raw[:, j].tolist(), start,
            formats=(fmt, fmt), pattern=kept.s.pattern, seed=5, index=int(i * got.shape[1] + j),
        )  # fmt: skip
        assert int(got[i, j]) == wanted_bits(code, model, out, f"f{got.dtype.itemsize}"), (i, j)


def codes(x: Array, fmt: Any) -> Array:
    """Return codes, of whatever array holds the numbers."""
    fmt = lp.format(fmt)
    if x.dtype == fmt.storage_dtype and fmt.name != "tf32":
        return bits(x).astype(object) & (1 << fmt.bits) - 1
    return np.asarray(lp.encode(x, fmt)).astype(object)


# ------------------------------------------------------------------------------------------------------ sums in blocks
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_count_kept_elements(name: str) -> None:
    """Rows keep different places, and with a tail different numbers of them."""
    accumulator, fmt = BLOCKS[name]
    model = model_of(accumulator)
    for pattern, shape, special in (("2:4", (6, 38, 35), 0), ("1:2", (3, 33, 4), 1.5), ("4:8", (4, 69, 17), 1.5)):
        kept, b, c = hard(model, fmt, shape, pattern, special)
        for start in (None, c):
            got = lp.matmul(kept.s, b, accumulator=accumulator, c=start)
            assert_same_bits(got, gathered(kept, b, start, accumulator=accumulator), pattern)
            if start is not None:
                check_places(bits(got), kept, b, c, model, fmt, 3)
        columns = keep(np.ascontiguousarray(b.T), pattern)
        got = lp.matmul(kept.dense, columns.s.T, accumulator=accumulator)
        want = gathered(columns, np.ascontiguousarray(kept.dense.T), None, accumulator=accumulator).T
        assert_same_bits(got, want, f"{pattern}, on the right")


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_nothing(name: str) -> None:
    """A row that keeps nothing below K: c or +0, beside rows that keep something."""
    accumulator, fmt = BLOCKS[name]
    values = np.zeros((3, 2), lp.format(fmt).storage_dtype)
    values[1] = 1
    s = lp.Sparse24(values[:, :2], np.uint8([[2, 3], [0, 1], [2, 3]]), length=2)
    b = np.ones((2, 5), values.dtype)
    for c in (None, np.full((3, 5), -2.0)):
        want = np.repeat([[0.0], [2.0], [0.0]], 5, 1) + (0 if c is None else c)
        np.testing.assert_array_equal(lp.matmul(s, b, accumulator=accumulator, c=c).astype(float), want)


def test_blocks_are_those_of_the_compressed_row() -> None:
    """One block of 4 kept elements is 8 dense ones: 2**12 + 1 + 1 is seen in float16 only if summed together."""
    s = lp.Sparse24(np.float16([[2048, 1, 0, 1]]), np.uint8([[0, 3, 0, 3]]))
    model, b = lp.FusedTruncated(4, 24, "fp16", "nearest_even"), np.ones((8, 1), np.float16)
    assert lp.matmul(s, b, accumulator=model)[0, 0] == 2050
    assert lp.matmul(s.to_dense(), b, accumulator=model)[0, 0] == 2048


def test_chunks_draw_the_words_of_compressed_steps() -> None:
    model = lp.Chunked(lp.Sequential("fp16", "stochastic"), 5)
    kept, b, c = hard(model, "fp16", (4, 30, 6), "2:4", 0)
    got = bits(lp.matmul(kept.s, b, accumulator=model, c=c, rng=5))
    check_places(got, kept, b, c, model, "fp16", 12)


SPARSE_HARDWARE = (
    "nvidia-ampere", "nvidia-ada", "nvidia-hopper", "nvidia-hopper-mma", "nvidia-blackwell", "nvidia-blackwell-mma",
    "nvidia-rtx-blackwell", "amd-cdna3",
)  # fmt: skip


def rows_of(preset: Any) -> list[tuple[str, Any]]:
    """Return formats of operands, one for each model of floats without block scales."""
    found = {}
    for row in preset.instructions:
        if row.scale_format is None and isinstance(row.a[0], lp.FloatFormat) and row.a == row.b:
            model = preset.instruction(row.a[0].name).model
            found.setdefault(repr(model), (row.a[0].name, model))
    return list(found.values())


@pytest.mark.parametrize("name", [preset.name for preset in lp.presets()])
@pytest.mark.filterwarnings("ignore::lowprec.ApproximationWarning")
def test_presets(name: str) -> None:
    """Hardware with sparse instructions sums kept elements, all other hardware the dense row."""
    for fmt, model in rows_of(lp.preset(name)):
        one_by_one = isinstance(model, lp.Sequential)
        kept, b, c = hard(model, fmt, (4, 75, 6), "1:2" if fmt == "tf32" else "2:4", 0 if one_by_one else 1)
        for start in (None, c):
            keywords = {"accumulator": name, "c": start, "dtype": fmt}
            got = lp.matmul(kept.s, b, **keywords)
            if one_by_one:
                same_but_zeros(got, lp.matmul(kept.dense, b, **keywords), fmt)
            elif name in SPARSE_HARDWARE:
                assert_same_bits(got, gathered(kept, b, **keywords), fmt)
            else:
                assert_same_bits(got, lp.matmul(kept.dense, b, **keywords), fmt)


def test_presets_differ() -> None:
    """The two ways differ on some operands, so that the test above can fail."""
    model = lp.preset("nvidia-ampere").instruction("bf16").model
    kept, b, c = hard(model, "bf16", (4, 75, 6), "2:4", 0)
    with_blocks = gathered(kept, b, c, accumulator=model)
    assert (bits(with_blocks) != bits(lp.matmul(kept.dense, b, c=c, accumulator=model))).any()
    assert (bits(lp.matmul(kept.s, b, c=c, accumulator="nvidia-ampere", out_dtype="bf16")) ==
            bits(gathered(kept, b, c, accumulator="nvidia-ampere", out_dtype="bf16"))).all()  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- integers
INTEGERS = (np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4)


def whole(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> Array:
    """Return integers of all sizes, the ends of the range among them."""
    fmt = lp.format(np.dtype(dtype))
    low, high = int(fmt.min), int(fmt.max)
    x = rng.integers(low, high, shape, endpoint=True)
    return np.where(rng.random(shape) < 0.3, rng.choice([low, high], shape), x).astype(dtype)


@pytest.mark.parametrize("left", INTEGERS, ids=lambda t: np.dtype(t).name)
def test_integers(left: Any, rng: np.random.Generator) -> None:
    """Exact int32 sums, which wrap."""
    for right in INTEGERS:
        for pattern, shape in zip(PATTERNS, ((5, 39, 33), (2, 65, 7), (3, 77, 18)), strict=True):
            kept, b = keep(whole(rng, left, shape[:2]), pattern), whole(rng, right, shape[1:])
            want = kept.dense.astype(np.int64) @ b.astype(np.int64)
            assert_same_bits(lp.matmul(kept.s, b), want.astype(np.int32), f"{right} {pattern}")
            columns = keep(np.ascontiguousarray(b.T), pattern)
            want = kept.dense.astype(np.int64) @ columns.dense.T.astype(np.int64)
            assert_same_bits(lp.matmul(kept.dense, columns.s.T), want.astype(np.int32), f"{right} {pattern}")


def test_integer_shapes(rng: np.random.Generator) -> None:
    """All sizes around vectors, tiles and groups of K; one thread and two."""
    a, b = whole(rng, np.int8, (97, 70)), whole(rng, np.int8, (70, 129))
    kept = keep(a)
    want = (kept.dense.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    for m, n in itertools.product((0, 1, 5, 8, 9, 33, 97), (0, 1, 3, 15, 16, 17, 33, 96, 129)):
        s = lp.Sparse24(kept.values[:m], kept.indices[:m], length=70)
        assert_same_bits(lp.matmul(s, b[:, :n]), want[:m, :n], f"{m} {n}")
    for k in (*range(14), *range(60, 68), *range(124, 132), 260, 515, 1030):
        kept, b = keep(whole(rng, np.int8, (9, k))), whole(rng, np.uint8, (k, 21))
        want = (kept.dense.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
        assert_same_bits(lp.matmul(kept.s, b), want, f"{k}")
        assert_same_bits(lp.matmul(kept.s, b[:, 4]), want[:, 4], f"{k}")
    kept, b, before = keep(whole(rng, np.int8, (150, 700))), whole(rng, np.int8, (700, 530)), lp.get_num_threads()
    want = (kept.dense.astype(F32) @ b.astype(F32)).astype(np.int32)  # below 2**24
    try:
        for count in (1, 2):
            lp.set_num_threads(count)
            assert_same_bits(lp.matmul(kept.s, b), want)
            assert_same_bits(lp.matmul(np.asfortranarray(b.T), kept.s.T), np.ascontiguousarray(want.T))
    finally:
        lp.set_num_threads(before)


def test_no_integers() -> None:
    """No rows, no columns, no k: zeros, or c."""
    for m, k, n in ((0, 8, 0), (2, 0, 3), (0, 8, 3), (2, 8, 0), (0, 0, 0)):
        s, b = keep(np.zeros((m, k), np.int8)).s, np.zeros((k, n), np.int8)
        assert_same_bits(lp.matmul(s, b), np.zeros((m, n), np.int32), f"{m} {k} {n}")
        assert_same_bits(lp.matmul(s, b, c=np.full((m, n), 7)), np.full((m, n), 7, np.int32), f"{m} {k} {n}")


def test_integer_extremes() -> None:
    """The largest products of int8 and uint8 in every place: nothing saturates on the way."""
    for left, right in itertools.product((-128, 127), (0, 255, -128)):
        b = np.full((256, 40), right, np.uint8 if right >= 0 else np.int8)
        kept = keep(np.full((6, 256), left, np.int8))
        assert (lp.matmul(kept.s, b) == 128 * left * right).all()
    kept = keep(np.full((2, 256), 255, np.uint8))
    assert (lp.matmul(kept.s, np.full((256, 3), 255, np.uint8)) == 128 * 255 * 255).all()


@pytest.mark.parametrize(
    "accumulator",
    ["int32", "int16", "int24", "int16_saturate", lp.Integer(32, "saturate"), lp.Integer(24, "saturate", 4),
     lp.Integer(16, "saturate", 3), lp.Integer(32, "raise"), "nvidia-ampere", "nvidia-turing",
     "x86-avx512vnni", "x86-avx512vnni-saturate"],
    ids=str,
)  # fmt: skip
def test_integer_accumulators(accumulator: Any, rng: np.random.Generator) -> None:
    """The bits of the dense sum: also where it saturates after each so many dense k."""
    a, b = whole(rng, np.uint8, (6, 51)), whole(rng, np.int8, (51, 18))
    a[:, ::5] = 255
    c = rng.integers(-30000, 30000, (6, 18)).astype(np.int32)
    for pattern in PATTERNS:
        kept = keep(a, pattern)
        for start in (None, c):
            want = lp.matmul(kept.dense, b, accumulator=accumulator, c=start)
            assert_same_bits(lp.matmul(kept.s, b, accumulator=accumulator, c=start), want, pattern)


def test_integer_sum_that_must_not_overflow() -> None:
    kept = keep(np.full((2, 20), 127, np.int8))
    b = np.full((20, 3), 127, np.int8)
    model = lp.Integer(16, "raise")
    with pytest.raises(OverflowError):
        lp.matmul(kept.s, b, accumulator=model)
    small = np.where(np.arange(20)[:, None] % 4 == 0, 127, 1).astype(np.int8)
    assert_same_bits(lp.matmul(kept.s, small // 16, accumulator=model),
                     lp.matmul(kept.dense, small // 16, accumulator=model))  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ quantised
QUANTISED: dict[str, tuple[str, dict[str, Any]]] = {
    "int8": ("int8", {}),
    "int8, row": ("int8", {"axis": 0}),
    "int8, points": ("int8", {"axis": 0, "symmetric": False}),
    "uint8, points": ("uint8", {"symmetric": False}),
    "int8, groups": ("int8", {"axis": 1, "block_size": 8}),
    "int4": ("int4", {"axis": 0}),
    "int4, groups": ("int4", {"axis": 1, "block_size": 16}),
    "uint4, groups": ("uint4", {"axis": 1, "block_size": 16, "symmetric": False}),
    "e4m3fn": ("e4m3fn", {"axis": 0}),
    "mxfp8": ("mxfp8_e4m3", {}),
    "mxfp4": ("mxfp4", {}),
    "nvfp4": ("nvfp4", {}),
    "tiles": ("e4m3fn", {"axis": (0, 1), "block_size": (4, 8)}),
}


def quantised(name: str, pattern: str, shape: tuple[int, ...] = (6, 64)) -> tuple[Kept, Any]:
    """Return a quantised sparse operand as such, and as the dense QuantizedArray."""
    fmt, keywords = QUANTISED[name]
    kept = keep(np.random.default_rng(len(name)).standard_normal(shape, F32), pattern)
    q = lp.quantize(kept.dense, fmt, **keywords)
    s = lp.Sparse24.from_dense(q, pattern=pattern, mask=kept.mask)
    np.testing.assert_array_equal(s.to_dense().codes, q.codes)
    return kept._replace(s=s, mask=s.mask), q  # in a shorter last group, more may be kept


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_times_floats(name: str, rng: np.random.Generator) -> None:
    """The dequantised kept values; what b holds elsewhere is not seen."""
    for pattern in PATTERNS:
        kept, q = quantised(name, pattern)
        b = rng.standard_normal((64, 19), F32)
        c = rng.standard_normal((6, 19), F32)
        assert_same_bits(lp.matmul(kept.s, b, c=c), Slow(kept.mask).matmul(q.dequantize(), b, c=c))
        narrow = b.astype(ml_dtypes.bfloat16)
        assert_same_bits(lp.matmul(kept.s, narrow), lp.matmul(kept.s.dequantize(), narrow))
        same_but_zeros(lp.matmul(kept.s, b), lp.matmul(q, b))
        same_but_zeros(lp.matmul(b.T, kept.s.T, "bf16"), lp.matmul(b.T, q.T, "bf16"))
        same_but_zeros(lp.matmul(kept.s, b, accumulator="fp16"), lp.matmul(q, b, accumulator="fp16"))
        assert_same_bits(lp.matmul(kept.s, b, "bf16", accumulator="nvidia-hopper"),
                         lp.matmul(kept.s.dequantize(), b, "bf16", accumulator="nvidia-hopper"))  # fmt: skip
        b[rng.random(b.shape) < 0.1] = np.inf
        assert_same_bits(lp.matmul(kept.s, b), Slow(kept.mask).matmul(q.dequantize(), b))


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_times_quantised(name: str, rng: np.random.Generator) -> None:
    """The product of the dense arrays, of every layout of the other operand."""
    for pattern, right in itertools.product(PATTERNS, ("int8", "int8, row", "int8, points", "int4, groups", "mxfp8",
                                                       "nvfp4")):  # fmt: skip
        kept, q = quantised(name, pattern)
        fmt, keywords = QUANTISED[right]
        other = lp.quantize(rng.standard_normal((11, 64), F32), fmt, **keywords).T
        for more in ({}, {"c": F32([[3.5]] * 6)}, {"out_dtype": "bf16"}):
            assert_same_bits(lp.matmul(kept.s, other, **more), lp.matmul(q, other, **more), f"{pattern} {right} {more}")
        assert_same_bits(lp.matmul(other.T, kept.s.T), lp.matmul(other.T, q.T), f"{pattern} {right}")
        assert_same_bits(lp.linear(other.T, kept.s, F32(range(6))), lp.linear(other.T, q, F32(range(6))))


def test_quantised_odd_shapes(rng: np.random.Generator) -> None:
    """Lengths that neither groups nor blocks divide; vectors; nothing at all."""
    for name, length in itertools.product(("int8", "int8, points", "int4, groups", "mxfp4"), (1, 3, 30, 61, 75)):
        kept, q = quantised(name, "2:4", (5, length))
        other = lp.quantize(rng.standard_normal((length, 9), F32), "int8", axis=1)
        assert_same_bits(lp.matmul(kept.s, other), lp.matmul(q, other), f"{name} {length}")
        b = rng.standard_normal((length, 3), F32)
        assert_same_bits(lp.matmul(kept.s, b), Slow(kept.mask).matmul(q.dequantize(), b), f"{name} {length}")
        assert_same_bits(lp.matmul(kept.s[2], b[:, 1]), np.asarray(lp.matmul(kept.s, b)[2, 1]))


@pytest.mark.parametrize("dtype", ["int8", "int4", "mxfp8_e4m3", "mxfp4", "nvfp4", ("int8", "uint8")], ids=str)
def test_quantised_on_the_fly(dtype: Any, rng: np.random.Generator) -> None:
    """As the dense product: what is not kept is zero and does not move a scale."""
    for pattern in PATTERNS:
        kept, b = keep(rng.standard_normal((6, 64), F32), pattern), np.abs(rng.standard_normal((64, 7), F32))
        if dtype == ("int8", "uint8"):
            b = whole(rng, np.uint8, (64, 7))
        assert_same_bits(lp.matmul(kept.s, b, dtype), lp.matmul(kept.dense, b, dtype), pattern)
        if not isinstance(dtype, tuple):
            assert_same_bits(lp.matmul(b.T, kept.s.T, dtype), lp.matmul(b.T, kept.dense.T, dtype), pattern)
            assert_same_bits(lp.linear(b.T, kept.s, None, dtype), lp.linear(b.T, kept.dense, None, dtype), pattern)
