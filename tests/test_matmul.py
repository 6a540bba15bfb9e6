"""matmul, bit for bit against the oracle. The checks take the function, so that planted bugs go through them too."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import FLOATS, NAN32, NAN64, NARROW, ORACLE, assert_same_bits
from operands import KINDS, operands, random_values, without_nan

import lowprec as lp
from lowprec.testing import points_that_matter

Matmul = Callable[..., np.ndarray]
LENGTHS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 127, 128, 129, 255, 256, 257, 383, 384, 385, 511, 512, 513, 1000)
ROWS = (*range(1, 10), 13, 17)
COLUMNS = (*range(1, 51), 95, 96, 97, 145)
NAMES = [fmt.name for fmt in NARROW]


def agree(mm: Matmul, a: Any, b: Any, dtype: Any = None, **keywords: Any) -> None:
    """Fail unless ``mm`` returns the oracle's dtype, shape and bits."""
    got = mm(a, b, dtype, **keywords)
    what = f"{np.shape(a)} @ {np.shape(b)}, dtype={dtype}, {', '.join(keywords)}"
    assert_same_bits(got, ORACLE.matmul(a, b, dtype, **keywords), what)


def draw(kind: str, dtype: Any, m: int, k: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return operands of a kind that both formats of ``dtype`` can take."""
    first, second = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    a, b = operands(kind, m, k, n, seed)
    return without_nan(a, first), without_nan(b, second)


# --------------------------------------------------------------------------------------------------------- checks
def check_kind(mm: Matmul, kind: str, dtype: Any, lengths: Iterable[int] = (17, 65), m: int = 5, n: int = 50) -> None:
    """Operands of one kind in one format."""
    for k in lengths:
        agree(mm, *draw(kind, dtype, m, k, n), dtype)


def check_edges(mm: Matmul, rows: Iterable[int] = ROWS, columns: Iterable[int] = COLUMNS, k: int = 5) -> None:
    """Every remainder of M and N: outputs do not depend on each other, so one product serves as the oracle of all."""
    rows, columns = tuple(rows), tuple(columns)
    a, b = draw("normal", "bf16", max(rows), k, max(columns))
    want = ORACLE.matmul(a, b, "bf16")
    for m, n in itertools.product(rows, columns):
        assert_same_bits(mm(a[:m], b[:, :n], "bf16"), want[:m, :n], f"{m} x {k} x {n}")


def check_operand_rounding(mm: Matmul, fmt: str, source: type = np.float32, **policies: Any) -> None:
    """Products with 1, started at -0, show how each operand was rounded, the sign of zero included."""
    x = without_nan(points_that_matter(fmt, source), fmt)
    if x.size > 4000:  # the ends of the range, and a sample of what lies between
        form = lp.format(fmt)
        size = np.abs(x.astype(np.float64))
        ends = (size <= 4 * form.smallest_subnormal) | (size >= 0.99 * form.max) | ~np.isfinite(x)
        x = np.concatenate([x[ends], np.random.default_rng(5).choice(x, 3000, replace=False)])
    one, zero = np.ones((1, 1), np.float32), np.float32(-0.0)
    agree(mm, x[:, None], one, (fmt, "fp32"), c=zero, **policies)
    agree(mm, one, x[None, :], ("fp32", fmt), c=zero, **policies)


def check_float64_source(mm: Matmul, fmt: str) -> None:
    """Doubles a hair off a midpoint, which rounding to float32 on the way would move onto it."""
    form = lp.format(fmt)
    rng = np.random.default_rng(1)
    x = 1 + form.eps * (rng.integers(0, 2, 64) + 0.5) + rng.choice([-1, 1], 64) * 2.0**-45
    x *= 2.0 ** rng.integers(max(form.emin, -1), min(2, form.emax), 64)
    a, b = x.reshape(4, 16), x[::-1].reshape(16, 4)
    assert (ORACLE.matmul(a, b, fmt) != ORACLE.matmul(np.float32(a), np.float32(b), fmt)).any()  # it is a trap
    agree(mm, a, b, fmt)


def check_start(mm: Matmul, dtype: str = "bf16") -> None:
    """``c`` is where the sum starts: first, not last; its NaN made canonical, its -0 kept; +0 without it."""
    for kind, k in itertools.product(("normal", "powers", "zeros", "subnormal"), (0, 1, 16, 40)):
        a, b = draw(kind, dtype, 4, k, 19)
        c = np.float32(np.random.default_rng(k).standard_normal((4, 19)))
        c *= np.float32({"powers": 2.0**24, "subnormal": 2.0**-135}.get(kind, 1.0))
        c[0, :4] = np.float32([-0.0, 0.0, np.inf, -np.inf])
        c[1, :4] = np.array([0x7F800001, 0xFFC00000, 0xFFFFFFFF, 0x00000001], np.uint32).view(np.float32)
        for start in (None, c, c[2], c[:, :1], np.float32(-0.0), np.float32(3.0)):
            agree(mm, a, b, dtype, c=start)


def check_signed_zeros(mm: Matmul) -> None:
    """Sum -0 from +0, which is +0; only a start of -0 stays -0."""
    a, b = np.float32([[-0.0, -0.0]]), np.float32([[1.0], [1.0]])
    for dtype, c in itertools.product(("fp32", "bf16", "e4m3fn"), (None, np.float32(-0.0), np.float32(0.0))):
        agree(mm, a, b, dtype, c=c)
        agree(mm, a[:, :1], b[:1], dtype, c=c)
        agree(mm, -a, b, dtype, c=c)
    agree(mm, np.float32([[1.0, -1.0]]), np.float32([[1.0], [1.0]]), "bf16", c=np.float32(-0.0))


def check_out_dtype(mm: Matmul) -> None:
    """Round the result once, from the accumulator."""
    storable = [fmt for fmt in FLOATS if fmt.storage_dtype is not None and fmt.has_zero]
    for fmt, kind in itertools.product(storable, ("normal", "subnormal", "overflowing", "nan")):
        if kind == "nan" and not fmt.has_nan:
            continue
        a, b = draw(kind, "bf16", 6, 9, 20)
        agree(mm, a, b, "bf16", out_dtype=fmt.name)
    # Accumulated values that lie a hair off a bfloat16 midpoint of float16's grid: two roundings would show.
    a = np.float32([[1.0, 2.0**-9, 2.0**-20], [1.0, 2.0**-9, -(2.0**-20)]])
    agree(mm, a, np.ones((3, 5), np.float32), "fp32", out_dtype="bf16")


def check_fp64(mm: Matmul) -> None:
    """Sum in binary64, asked for or by default where an operand's format needs it."""
    for kind in ("normal", "cancelling", "infinite", "zeros"):
        a, b = draw(kind, "bf16", 3, 17, 11)
        c = np.float64(np.random.default_rng(2).standard_normal((3, 11))) / 3
        agree(mm, a, b, "bf16", accumulator="fp64")
        agree(mm, a, b, "fp32", accumulator="float64", c=c)
        wide = np.float64(a) / 3, np.float64(b) / 7
        agree(mm, *wide)
        agree(mm, *wide, ("fp64", "bf16"))
        agree(mm, wide[0], b)
        agree(mm, *wide, "bf16")  # the format decides, not the source's dtype: this is fp32
        agree(mm, *wide, out_dtype="fp16")
    huge = np.float64([[1e300, 1e200, -1e-300]])
    agree(mm, huge, huge.T)
    agree(mm, np.float64([[5e-324, 3e-310]]), np.float64([[0.5], [0.75]]))


def check_fp32_of_wide_operands(mm: Matmul) -> None:
    """Doubles as they are, summed in binary32: each product and sum rounded once."""
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((3, 9)), rng.standard_normal((9, 4))
    b[4:] = a.ravel()[:20].reshape(5, 4)
    agree(mm, a, b, accumulator="fp32")
    agree(mm, a * 1e30, b * 1e10, "fp64", accumulator="fp32", c=np.float32(1.0))
    trap = np.float64([[1 + 2.0**-23, 2.0**-24 * (1 - 2.0**-53)]])  # float64 would see a tie
    agree(mm, trap, np.ones((2, 3)), accumulator="fp32")


def check_mixed_pairs(mm: Matmul, names: Iterable[str] = NAMES) -> None:
    """Each operand in its own format, also across storage dtypes."""
    for first, second in itertools.product(names, repeat=2):
        a, b = draw("normal", (first, second), 3, 5, 7)
        agree(mm, a, b, (first, second))


def check_stored(mm: Matmul, fmt: str) -> None:
    """Arrays of the storage dtype, every code of narrow formats among them, as they are and rounded further."""
    a, b = random_values(fmt, (6, 35)), random_values(fmt, (35, 50), seed=1)
    with np.errstate(all="ignore"):
        agree(mm, a, b, "tf32" if fmt == "tf32" else None)
        agree(mm, a, np.float32(b), (fmt, "fp32"))
        agree(mm, a, b, "bf16")
        agree(mm, a, b, ("e5m2", "e4m3fn"))


def check_policies(mm: Matmul, dtype: str, rounding: str = "nearest_even") -> None:
    """Carry every policy of rounding, overflow and subnormals to both operands."""
    form = lp.format(dtype)
    overflows = [None, *(p for p, ok in (("inf", form.has_inf), ("nan", form.has_nan), ("saturate", True)) if ok)]
    for kind, scale in (("normal", 1.0), ("normal", form.max), ("normal", form.smallest_normal), ("infinite", 1.0)):
        a, b = draw(kind, dtype, 5, 7, 20)
        with np.errstate(all="ignore"):
            a, b = a * np.float32(scale), b * np.float32(min(scale, 8.0))
        for overflow, subnormals in itertools.product(overflows, ("keep", "flush", "flush_inputs")):
            keywords = {"rounding": rounding, "overflow": overflow, "subnormals": subnormals}
            if rounding == "stochastic":
                keywords |= {"rng": 2**40 + 3, "random_bits": 7}
            agree(mm, a, b, dtype, **keywords)


# ---------------------------------------------------------------------------------------------------------- tests
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_every_length(kind: str, dtype: str) -> None:
    check_kind(lp.matmul, kind, dtype, LENGTHS, m=7, n=50)


@pytest.mark.parametrize("kind", KINDS)
def test_several_thousand_products(kind: str) -> None:
    check_kind(lp.matmul, kind, "fp16", (4099,), m=9, n=49)
    check_kind(lp.matmul, kind, "fp32", (4099,), m=2, n=33)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", NAMES)
def test_every_format(kind: str, dtype: str) -> None:
    check_kind(lp.matmul, kind, dtype, (1, 34, 130))


def test_every_remainder_of_rows_and_columns() -> None:
    check_edges(lp.matmul)
    check_edges(lp.matmul, (1, 5, 8, 16, 25, 47), (1, 16, 47, 49, 96, 191), 257)


@pytest.mark.parametrize("rounding", [str(r) for r in lp.Rounding if r != "stochastic"])
@pytest.mark.parametrize("fmt", NAMES)
def test_operand_rounding(fmt: str, rounding: str) -> None:
    check_operand_rounding(lp.matmul, fmt, rounding=rounding)


@pytest.mark.parametrize("fmt", NAMES)
def test_operand_rounding_from_other_sources(fmt: str) -> None:
    check_operand_rounding(lp.matmul, fmt, np.float64)
    check_operand_rounding(lp.matmul, fmt, np.float16)


@pytest.mark.parametrize("fmt", [name for name in NAMES if name not in ("float32", "float8_e8m0fnu")])
def test_float64_rounds_once(fmt: str) -> None:
    check_float64_source(lp.matmul, fmt)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_integer_sources_round_once(dtype: type) -> None:
    rng = np.random.default_rng(9)
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max, (5, 6), dtype=dtype, endpoint=True)
    want = np.array([[float(lp.reference.round_to(v, "bf16")) for v in row] for row in a.tolist()])
    one = np.eye(6, dtype=np.float32)
    assert_same_bits(lp.matmul(a, one, "bf16"), ORACLE.matmul(want, one, "fp32"))


def test_start() -> None:
    check_start(lp.matmul)
    check_start(lp.matmul, "fp32")


def test_signed_zeros() -> None:
    check_signed_zeros(lp.matmul)


def test_out_dtype() -> None:
    check_out_dtype(lp.matmul)


def test_fp64_accumulator() -> None:
    check_fp64(lp.matmul)


def test_fp32_accumulator_of_wide_operands() -> None:
    check_fp32_of_wide_operands(lp.matmul)


def test_mixed_pairs() -> None:
    check_mixed_pairs(lp.matmul)


@pytest.mark.parametrize("fmt", NAMES)
def test_stored_operands(fmt: str) -> None:
    check_stored(lp.matmul, fmt)


@pytest.mark.parametrize("rounding", [str(r) for r in lp.Rounding])
@pytest.mark.parametrize("dtype", ["bf16", "e4m3fn", "e5m2", "e2m1fn", "e4m3fnuz", "e8m0fnu", "e5m7"])
def test_policies(dtype: str, rounding: str) -> None:
    check_policies(lp.matmul, dtype, rounding)


def test_stochastic_streams() -> None:
    """The words of an operand depend on the seed and on the element's index in C order, on nothing else."""
    x = np.float32(np.random.default_rng(0).standard_normal((24, 24)))
    one = np.eye(24, dtype=np.float32)
    keywords = {"rounding": "stochastic", "rng": 11}
    left, right = lp.matmul(x, one, ("e4m3fn", "fp32"), **keywords), lp.matmul(one, x, ("fp32", "e4m3fn"), **keywords)
    assert (left != right).any()  # stream 0 and stream 1
    assert_same_bits(left, np.float32(lp.round_to(x, "e4m3fn", **keywords)))
    for layout in (np.asfortranarray(x), x.astype(">f4"), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1]):
        assert_same_bits(lp.matmul(layout, one, ("e4m3fn", "fp32"), **keywords), left)
    batch = np.stack([x, x + 1])
    agree(lp.matmul, batch, x, "e4m3fn", **keywords)
    agree(lp.matmul, x, batch, "e4m3fn", **keywords)
    agree(lp.matmul, x, x, "e4m3fn", out_dtype="e5m2", **keywords)
    generator = np.random.default_rng(4)
    seed = int(np.random.default_rng(4).integers(0, 2**64, dtype=np.uint64))
    got = lp.matmul(x, x, "e4m3fn", rounding="stochastic", rng=generator)
    assert_same_bits(got, ORACLE.matmul(x, x, "e4m3fn", rounding="stochastic", rng=seed))


def test_nan_is_canonical() -> None:
    """Whatever NaN goes in, or is born, one NaN comes out."""
    strange = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    for a in (strange[None], np.float32([[np.inf, -np.inf]]), np.float32([[np.inf, 0.0]])):
        for dtype in (None, "fp32", "bf16", "e5m2"):
            got = lp.matmul(a, np.float32([[1.0, 0.0], [1.0, 0.0]]), dtype)
            assert_same_bits(got, ORACLE.matmul(a, np.float32([[1.0, 0.0], [1.0, 0.0]]), dtype))
    assert_same_bits(lp.matmul(strange[None, :1], np.float32([[1.0]])), np.array([[NAN32]]))
    assert_same_bits(lp.matmul(np.float64([[-np.nan]]), np.float64([[1.0]])), np.array([[NAN64]]))


def test_formats_by_every_spelling() -> None:
    """Alias, canonical name, dtype and FloatFormat are one; custom formats serve too."""
    a, b = draw("normal", "e4m3fn", 4, 9, 5)
    want = ORACLE.matmul(a, b, "float8_e4m3fn")
    for dtype in (
        "e4m3fn",
        "fp8_e4m3",
        ml_dtypes.float8_e4m3fn,
        np.dtype(ml_dtypes.float8_e4m3fn),
        lp.format("e4m3fn"),
    ):
        assert_same_bits(lp.matmul(a, b, dtype), want)
        assert_same_bits(lp.matmul(a, b, (dtype, dtype)), want)
    for custom in ("e5m7", "e8m3", "e2m12", lp.FloatFormat(exponent_bits=4, mantissa_bits=2, has_inf=False, bias=9)):
        for kind in ("normal", "overflowing", "subnormal"):
            agree(lp.matmul, *draw(kind, custom, 4, 9, 5), custom)
    wide = lp.FloatFormat(exponent_bits=10, mantissa_bits=6)
    agree(lp.matmul, a, b, wide)  # its exponents do not fit float32: the accumulator is fp64


def test_out() -> None:
    """The result goes into `out`, contiguous or not, and `out` comes back; `c` may be it."""
    a, b = draw("normal", "bf16", 9, 33, 50)
    c = np.float32(np.random.default_rng(3).standard_normal((9, 50)))
    want, sum_ = ORACLE.matmul(a, b, "bf16"), ORACLE.matmul(a, b, "bf16", c=c)
    base = np.full((18, 150), 7.0, np.float32)
    for out in (np.empty((9, 50), np.float32), base[::2, ::3], base[9:, 50:100], np.empty((50, 9), np.float32).T):
        out[...] = np.nan
        assert lp.matmul(a, b, "bf16", out=out) is out
        assert_same_bits(out, want)
        out[...] = c
        assert lp.matmul(a, b, "bf16", c=out, out=out) is out
        assert_same_bits(out, sum_)
    assert (base[1::2, 51::3] == 7.0).sum() + (base[:9:2, 1::3] == 7.0).sum() > 0
    half = np.empty((9, 50), ml_dtypes.bfloat16)
    assert lp.matmul(a, b, "bf16", out_dtype="bf16", out=half) is half
    assert_same_bits(half, ORACLE.matmul(a, b, "bf16", out_dtype="bf16"))


def test_operands_are_left_alone() -> None:
    """Neither operand, nor `c`, is written to."""
    a, b = draw("normal", "fp32", 9, 33, 50)
    c = np.ones((9, 50), np.float32)
    before = a.copy(), b.copy(), c.copy()
    lp.matmul(a, b, "e4m3fn", c=c)
    for now, then in zip((a, b, c), before, strict=True):
        assert_same_bits(now, then)
