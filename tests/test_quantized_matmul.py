"""Products of quantised operands against their definition in integers and fractions, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scaled_cases import Spec, check, make, model_of, some_codes

import lowprec as lp
from lowprec.reference.blocks import Row, block_dot, segments

Array = np.ndarray[Any, Any]
NF4, INT12 = lp.block_format("nf4").element, lp.IntFormat(bits=12)
INTEGERS: list[Any] = ["int8", "int4", "uint8", "uint4", INT12]
SHAPE = (3, 19, 4)  # no block below divides 19
LAYOUTS = {
    "tensor": None,
    "row": (1, 0),
    "groups of 8": (1, 8),
    "groups of 5": (1, 5),
    "one long group": (1, 64),
    "tiles of 2 x 8": (2, 8),
    "tiles of 3 x 5": (3, 5),
}


def pair(rng: np.random.Generator, a: Spec, b: Spec, shape: tuple[int, int, int] = SHAPE) -> Any:
    m, k, n = shape
    return make(rng, a, (m, k), -1), make(rng, b, (k, n), -2)


def bits(x: Any) -> Array:
    array = np.asarray(x)
    return array.view(f"u{array.dtype.itemsize}")


def same(x: Any, y: Any) -> None:
    assert np.asarray(x).dtype == np.asarray(y).dtype
    np.testing.assert_array_equal(bits(x), bits(y))


# ----------------------------------------------------------------------------------------------- formats and layouts


@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_layouts(left: str, right: str, rng: np.random.Generator) -> None:
    """Every layout meets every other; borders of one operand's blocks lie within the other's."""
    for fmt, points in (("int8", True), ("e4m3fn", False)):
        a, b = pair(rng, Spec(fmt, LAYOUTS[left], points), Spec(fmt, LAYOUTS[right], points))
        check(lp.matmul(a, b), a, b, count=3)


@pytest.mark.parametrize("left", INTEGERS, ids=str)
@pytest.mark.parametrize("right", INTEGERS, ids=str)
def test_integers(left: Any, right: Any, rng: np.random.Generator) -> None:
    for number, points in enumerate([(False, False), (True, False), (False, True), (True, True)]):
        layout = (None, (1, 8), (2, 5), (1, 0))[number]
        a, b = pair(rng, Spec(left, layout, points[0], "fp16"), Spec(right, (1, 8), points[1], "bf16"))
        check(lp.matmul(a, b), a, b, count=2)


@pytest.mark.parametrize("name", [row.name for row in lp.block_formats() if not row.ggml] + ["nvfp4, one level"])
@pytest.mark.parametrize("k", [64, 75])
def test_block_formats(name: str, k: int, rng: np.random.Generator) -> None:
    name, _, level = name.partition(", ")
    keywords: dict[str, Any] = {"tensor_scale": None} if level else {}
    a = lp.quantize(rng.standard_normal((5, k), np.float32), name, **keywords)
    b = lp.quantize(rng.standard_normal((k, 6), np.float32) * 100, name, axis=0, **keywords)
    assert (a.tensor_scale is not None) == (name in ("nvfp4", "mxint8") and not level)
    check(lp.matmul(a, b), a, b, count=4)


@pytest.mark.parametrize("left", ["e4m3fn", "e5m2", "bf16", "fp32", NF4, "fp64"], ids=str)
@pytest.mark.parametrize("right", ["e2m1fn", "tf32", "int4", NF4], ids=str)
def test_floats(left: Any, right: Any, rng: np.random.Generator) -> None:
    a, b = pair(rng, Spec(left, (1, 8), scale="e4m3", tensor=True), Spec(right, (1, 16), right == "int4", "e8m0"))
    check(lp.matmul(a, b), a, b, count=3)
    a, b = pair(rng, Spec(left, (1, 5)), Spec(right, (1, 8), tensor=True))
    check(lp.matmul(a, b), a, b, count=2)


@pytest.mark.parametrize("fmt", ["int8", "int4", "e4m3fn", "e2m1fn", NF4], ids=str)
def test_larger(fmt: Any, rng: np.random.Generator) -> None:
    """Several tiles of a kernel, several threads, many blocks."""
    for layout in ((1, 32), (1, 16), (16, 16)):
        a, b = pair(rng, Spec(fmt, layout, fmt == "int8"), Spec(fmt, (1, 32)), (70, 200, 130))
        check(lp.matmul(a, b), a, b, count=2)


def test_wrapped_sums_of_blocks() -> None:
    """Sums of int16 products beyond 2**31 wrap, as int32 does."""
    codes = np.full((1, 8), 0x8000, np.uint16)
    a = lp.QuantizedArray(codes, 0.5, format="int16")
    b = lp.QuantizedArray(codes.T, [[1.0], [2.0]], format="int16", axis=0, block_size=4)
    got = lp.matmul(a, b)
    assert got[0, 0] == 0.0  # 4 * 2**30 is 0 modulo 2**32
    check(got, a, b)
    a, b = (lp.QuantizedArray(x, 0.5, format="int16") for x in (codes[:, :6], codes[:, :6].T))
    check(lp.matmul(a, b), a, b)


# --------------------------------------------------------------------------------------------------------- other sums


@pytest.mark.parametrize(
    "accumulator",
    ["fp16", "bf16", "exact", "nvidia-hopper", lp.Exact("bf16"), lp.Chunked("fp16", 7), lp.Pairwise("fp32"), "fp64",
     lp.Sequential("fp32", "toward_zero")],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("fmt", ["e4m3fn", "bf16"])
def test_accumulators(accumulator: Any, fmt: str, rng: np.random.Generator) -> None:
    for left, right in (((1, 8), (1, 5)), (None, (2, 8)), ((1, 0), None)):
        a, b = pair(rng, Spec(fmt, left, scale="e8m0"), Spec(fmt, right, tensor=True))
        c = rng.standard_normal((3, 4)).astype(np.float32) * 100
        check(lp.matmul(a, b, accumulator=accumulator, c=c), a, b, model_of(accumulator, a, b), c=c, count=3)


@pytest.mark.parametrize(
    "model",
    [lp.Integer(16), lp.Integer(16, "saturate"), lp.Integer(24, "saturate", 4), lp.Integer(32, "saturate")],
    ids=str,
)
@pytest.mark.parametrize("formats", [("int8", "int8"), ("uint8", "int4"), (INT12, "int8")], ids=str)
def test_integer_accumulators(model: Any, formats: Any, rng: np.random.Generator) -> None:
    for points in (False, True):
        a, b = pair(rng, Spec(formats[0], (1, 8), points), Spec(formats[1], (1, 5), points))
        check(lp.matmul(a, b, accumulator=model), a, b, model, count=3)
    a, b = pair(rng, Spec(formats[0]), Spec(formats[1], (1, 0)))
    check(lp.matmul(a, b, accumulator=model), a, b, model, count=3)


@pytest.mark.parametrize("points", [False, True])
def test_exact_integers(points: bool, rng: np.random.Generator) -> None:
    a, b = pair(rng, Spec("int8", (1, 8), points), Spec("uint8", (1, 5), points))
    check(lp.matmul(a, b, accumulator="exact"), a, b, lp.Exact())


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4", "nvfp4", "nvfp4, one level"])
def test_block_scaled_instructions(name: str, rng: np.random.Generator) -> None:
    """Hardware that takes scales is handed them; the tensor scales come last."""
    name, _, level = name.partition(", ")
    keywords: dict[str, Any] = {"tensor_scale": None} if level else {}
    row = lp.block_format(name)
    for k in (128, 150):
        a = lp.quantize(rng.standard_normal((3, k)), name, **keywords)
        b = lp.quantize(rng.standard_normal((k, 4)), name, axis=0, **keywords)
        model = model_of("nvidia-blackwell", a, b, (row.scale, row.block_size))
        assert "Scaled" in type(model).__name__
        check(lp.matmul(a, b, accumulator="nvidia-blackwell"), a, b, model, count=4)
        if a.tensor_scale is None:
            c = rng.standard_normal((3, 4)).astype(np.float32)
            check(lp.matmul(a, b, accumulator="nvidia-blackwell", c=c), a, b, model, c=c, count=2)
        else:
            with pytest.raises(ValueError, match=r"`c` must be None with a tensor scale.*add it afterwards"):
                lp.matmul(a, b, accumulator="nvidia-blackwell", c=np.ones(4))
    # Scales of another kind: the instruction of the bare elements, block by block.
    if name.startswith("mxfp8"):
        a, b = pair(rng, Spec(row.element, (1, 8)), Spec(row.element, (1, 8)))
        check(lp.matmul(a, b, accumulator="nvidia-blackwell"), a, b, model_of("nvidia-blackwell", a, b), count=3)


# ------------------------------------------------------------------------------------------------------ every argument


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn"])
def test_cancelling_blocks(fmt: str, rng: np.random.Generator) -> None:
    """Blocks that all but cancel show the order of the sum and each rounding."""
    for c in (None, np.float32(-(2.0**20))):
        a, b = cancelling(fmt, rng)
        check(lp.matmul(a, b, c=c), a, b, c=c)


def cancelling(fmt: str, rng: np.random.Generator) -> Any:
    a, b = pair(rng, Spec(fmt, (1, 4)), Spec(fmt, (1, 6)), (3, 24, 4))
    codes = a.codes.copy()
    codes[:, 12:] = codes[:, :12] ^ 0x80 if fmt == "e4m3fn" else (-codes[:, :12].view(np.int8)).view(np.uint8)
    scale = np.concatenate([a.scale[:, :3], np.nextafter(a.scale[:, :3], np.float32(9))], 1)
    a = lp.QuantizedArray(codes, scale, format=fmt, axis=1, block_size=4)
    scale = np.concatenate([b.scale[:2], b.scale[:2]])
    return a, lp.QuantizedArray(np.concatenate([b.codes[:12]] * 2), scale, format=fmt, axis=0, block_size=6)


@pytest.mark.parametrize("fmt", ["int8", "e2m1fn"])
@pytest.mark.parametrize("layout", [None, (1, 0), (1, 8)])
def test_c_and_bias_and_out(fmt: str, layout: Any, rng: np.random.Generator) -> None:
    a, b = pair(rng, Spec(fmt, layout), Spec(fmt, (1, 8) if layout else None, scale="fp16"))
    c = rng.standard_normal((3, 4)).astype(np.float32) * 50
    bias = rng.standard_normal(4).astype(np.float32)
    for each in (None, c, c[0], c[:, :1], 2.5):
        check(lp.matmul(a, b, c=each), a, b, c=each, count=2)
        check(lp.linear(a, b.T, bias, c=each), a, b, c=each, bias=bias, count=2)
    check(lp.linear(a, b.T, 0.1), a, b, bias=np.float32(0.1), count=2)
    plain = lp.matmul(a, b)
    out = np.empty((3, 4), np.float32)
    assert lp.matmul(a, b, out=out) is out
    same(out, plain)
    out = c.copy()
    lp.matmul(a, b, c=out, out=out)
    same(out, lp.matmul(a, b, c=c))
    for dtype in ("bf16", "e5m2", "fp16", "float64"):
        want = np.asarray(lp.cast(plain, dtype))
        same(lp.matmul(a, b, out_dtype=dtype), want)
        out = np.empty((3, 4), want.dtype)
        assert lp.matmul(a, b, out_dtype=dtype, out=out) is out
        same(out, want)
    same(lp.matmul(a, b, out_dtype="e4m3fn", rounding="toward_zero", overflow="saturate"),
         lp.cast(plain, "e4m3fn", rounding="toward_zero", overflow="saturate"))  # fmt: skip


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn"])
def test_axes(fmt: str, rng: np.random.Generator) -> None:
    """1-D operands, stacks, and stacks that broadcast, as `numpy.matmul` has them."""
    a, b = pair(rng, Spec(fmt, (1, 8)), Spec(fmt, (1, 5)))
    whole = lp.matmul(a, b)
    same(lp.matmul(a[0], b), whole[0])
    same(lp.matmul(a, b[:, 1]), whole[:, 1])
    one = lp.matmul(a[2], b[:, 1])
    assert np.ndim(one) == 0
    same(one, whole[2, 1])
    for left, right in (
        ((2, 3, 19), (2, 19, 4)),
        ((3, 19), (2, 19, 4)),
        ((2, 1, 3, 19), (5, 19, 4)),
        ((0, 3, 19), (19, 4)),
    ):
        for spec in (Spec(fmt, (1, 8)), Spec(fmt), Spec(fmt, (3, 5))):
            a, b = make(rng, spec, left, -1), make(rng, Spec(fmt, (1, 5), fmt == "int8"), right, -2)
            check(lp.matmul(a, b), a, b, count=2)


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn", INT12], ids=str)
@pytest.mark.parametrize("layout", [None, (1, 0), (1, 8)])
def test_empty(fmt: Any, layout: Any, rng: np.random.Generator) -> None:
    """No k gives c or +0, whatever the scales are."""
    for shape in ((3, 0, 4), (0, 5, 4), (3, 5, 0), (0, 0, 0)):
        a, b = pair(rng, Spec(fmt, layout), Spec(fmt, layout), shape)
        m, _, n = shape
        got = lp.matmul(a, b)
        assert got.shape == (m, n)
        assert got.dtype == np.float32
        assert not bits(got).any()
        c = np.full((m, n), -0.0, np.float32)
        if shape[1] == 0:
            same(lp.matmul(a, b, c=c), c)
            same(lp.linear(a, b.T, np.full(n, 3.0)), np.full((m, n), 3, np.float32))


@pytest.mark.parametrize("fmt", ["int8", "e2m1fn"])
def test_vecdot(fmt: str, rng: np.random.Generator) -> None:
    a = make(rng, Spec(fmt, (1, 8)), (3, 19), -1)
    b = make(rng, Spec(fmt, (1, 5)), (3, 19), -1)
    got = lp.vecdot(a, b, c=[1.0, 2.0, 3.0])
    for i in range(3):
        same(got[i], lp.matmul(a[i], b[i], c=i + 1.0))
        same(lp.vecdot(a[i], b[i], c=i + 1.0), got[i])
    same(lp.vecdot(a, b[0]), lp.matmul(a, b[0]))
    out = np.empty(3, np.float32)
    assert lp.vecdot(a, b, out=out) is out
    same(out, lp.vecdot(a, b))


@pytest.mark.parametrize("accumulator", [None, "fp16", "exact"])
def test_threads(accumulator: Any, rng: np.random.Generator) -> None:
    before = lp.get_num_threads()
    for fmt in ("int8", "e4m3fn"):
        if accumulator == "fp16" and fmt == "int8":
            continue
        a, b = pair(rng, Spec(fmt, (1, 32)), Spec(fmt, (1, 24)), (130, 100, 150))
        try:
            got = []
            for count in (1, 2):
                lp.set_num_threads(count)
                got.append(lp.matmul(a, b, accumulator=accumulator))
        finally:
            lp.set_num_threads(before)
        same(*got)
        same(lp.matmul(a[:32], b, accumulator=accumulator), got[0][:32])


def test_memory_does_not_matter(rng: np.random.Generator) -> None:
    """Transposes and slices give the bits of fresh arrays."""
    for fmt in ("int4", "e4m3fn"):
        a, b = pair(rng, Spec(fmt, (1, 8)), Spec(fmt, (1, 8)), (6, 32, 5))
        whole = lp.matmul(a, b)
        same(lp.matmul(b.T, a.T), whole.T)
        same(lp.matmul(a[::2], b[:, 1:4]), whole[::2, 1:4])
        fresh = lp.QuantizedArray(b.codes.copy("F"), b.scale.copy("F"), format=fmt, axis=0, block_size=8)
        same(lp.matmul(a, fresh), whole)


# ------------------------------------------------------------------------------------------------------ special values


def of_scales(fmt: str, codes: Any, scales: Any, axis: int, block: int = 2) -> lp.QuantizedArray:
    return lp.QuantizedArray(np.asarray(codes, np.uint8), np.asarray(scales, np.float32), format=fmt, axis=axis,
                             block_size=block)  # fmt: skip


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn"])
@pytest.mark.parametrize("block", [2, 4])
def test_special_scales(fmt: str, block: int) -> None:
    """Scales that are NaN, infinite, 0, negative or subnormal do what the arithmetic says; NaN is the quiet one."""
    rng = np.random.default_rng(0)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.5, 2.0**-149, 3e38, 1.0]
    codes = some_codes(rng, fmt, (len(special), 4))
    codes[:, :2] = codes[0, :2]
    codes[::2, 2:] = 0
    a = of_scales(fmt, codes, np.repeat(np.array(special)[:, None], 4 // block, 1), 1, block)
    b = of_scales(fmt, some_codes(rng, fmt, (4, len(special))), np.repeat([special], 4 // block, 0), 0, block)
    got = lp.matmul(a, b)
    check(got, a, b, count=81)
    assert set(bits(got)[np.isnan(got)].tolist()) == {0x7FC00000}
    bias = np.full(len(special), -np.inf, np.float32)
    got = lp.linear(a, b.T, bias)
    assert set(bits(got)[np.isnan(got)].tolist()) == {0x7FC00000}
    check(got, a, b, bias=bias, count=20)


def test_special_codes() -> None:
    """NaN and infinities among the codes of floats."""
    codes = np.arange(256, dtype=np.uint8).reshape(32, 8)[[0, 15, 16, 31]]
    for fmt in ("e4m3fn", "e5m2"):
        a = lp.QuantizedArray(codes, np.full((4, 2), 3.0, np.float32), format=fmt, axis=1, block_size=4)
        b = lp.QuantizedArray(codes.T, 0.1, format=fmt)
        got = lp.matmul(a, b)
        assert np.isnan(got).any()
        check(got, a, b, count=16)


def test_zeros_are_positive() -> None:
    """The sum starts from +0, so a zero of either sign leaves +0, even under a negative scale."""
    for fmt in ("int8", "e4m3fn"):
        a = lp.QuantizedArray(np.zeros((1, 4), np.uint8), -1.0, format=fmt)
        b = lp.QuantizedArray(np.ones((4, 2), np.uint8), 1.0, format=fmt)
        assert not bits(lp.matmul(a, b)).any(), fmt
        assert not bits(lp.linear(a, b.T, np.full(2, -0.0))).any(), fmt


# ------------------------------------------------------------------------------------- one operand of plain numbers


@pytest.mark.parametrize("fmt", ["int4", "mxfp4", "nvfp4", "nf4", "q4_1", "q8_0", "e4m3fn"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bf16", np.float64])
def test_weight_only(fmt: str, dtype: Any, rng: np.random.Generator) -> None:
    """As if by the numbers that the codes stand for."""
    w = lp.quantize(rng.standard_normal((6, 64)), fmt, axis=-1)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    own = lp.format(dtype)
    x = np.asarray(lp.cast(x, own))
    numbers, bias = w.dequantize(), rng.standard_normal(6).astype(np.float32)
    same(lp.matmul(x, w.T), lp.matmul(x, numbers.T, (own, "fp32")))
    same(lp.matmul(w, x.T), lp.matmul(numbers, x.T, ("fp32", own)))
    same(lp.linear(x, w, bias), lp.linear(x, numbers, bias, (own, "fp32")))
    same(lp.vecdot(x[0], w), lp.vecdot(x[0], numbers, (own, "fp32")))
    wide = w.dequantize(np.float64)
    for to in ("bf16", ("e4m3fn", "fp16")):
        same(lp.matmul(x, w.T, to), lp.matmul(x, wide.T, to))
        same(lp.matmul(x, w.T, to, accumulator="fp16", out_dtype="fp16"),
             lp.matmul(x, wide.T, to, accumulator="fp16", out_dtype="fp16"))  # fmt: skip


def test_weight_only_rounds_once() -> None:
    """A number between two bfloat16 that float32 would put on the midpoint."""
    scale = np.float32(1 + 2.0**-8 + 2.0**-23)  # times 129: more bits than float32 has
    q = lp.QuantizedArray(np.array([[129]], np.uint8), scale, format="uint8")
    numbers = q.dequantize(np.float64)
    assert numbers.astype(np.float32) != numbers
    for to in ("bf16", "fp16", "fp64"):
        same(lp.matmul(np.ones((1, 1)), q, to), lp.matmul(np.ones((1, 1)), numbers, to))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_plain_integers(dtype: Any, rng: np.random.Generator) -> None:
    """Integers beside a quantised operand of integers have the scale 1."""
    x = rng.integers(0, 100, (3, 19)).astype(dtype)
    b = make(rng, Spec("int8", (1, 8), True), (19, 4), -2)
    fmt = lp.IntFormat(bits=min(24, 8 * x.itemsize), is_signed=x.dtype.kind == "i")
    codes = x.astype(fmt.code_dtype)
    a = lp.QuantizedArray(codes, 1.0, format=fmt)
    same(lp.matmul(x, b), lp.matmul(a, b))
    check(lp.matmul(x, b), a, b, count=3)


# ----------------------------------------------------------------------------------------------- quantised on the fly


@pytest.mark.parametrize("dtype", ["int8", "int4", ("int8", "int4")])
def test_on_the_fly(dtype: Any, rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((2, 3, 19)), rng.standard_normal((19, 4))
    first, second = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    a, b = lp.quantize(x, first), lp.quantize(y, second)
    same(lp.matmul(x, y, dtype), lp.matmul(a, b))
    check(lp.matmul(x, y, dtype), a, b, count=3)
    same(lp.matmul(x, y, dtype, accumulator="int16_saturate"), lp.matmul(a, b, accumulator="int16_saturate"))
    bias = rng.standard_normal(4)
    same(lp.linear(x, y.T, bias, dtype), lp.linear(a, b.T, bias))
    same(lp.vecdot(x[0], x[1], dtype), lp.vecdot(lp.quantize(x[0], first), lp.quantize(x[1], second)))
    same(lp.matmul(x.tolist(), y.tolist(), dtype), lp.matmul(x, y, dtype))


@pytest.mark.parametrize("dtype", ["mxfp8_e4m3", "mxfp4", "mxint8", "nvfp4", "nf4", ("mxfp8_e4m3", "mxfp4")])
def test_on_the_fly_in_blocks(dtype: Any, rng: np.random.Generator) -> None:
    """Blocks lie along K."""
    x, y = rng.standard_normal((3, 70), np.float32), rng.standard_normal((70, 4), np.float32)
    first, second = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    same(lp.matmul(x, y, dtype), lp.matmul(lp.quantize(x, first), lp.quantize(y, second, axis=0)))
    same(lp.linear(x, y.T, None, dtype), lp.matmul(x, y, dtype))
    same(lp.vecdot(x, y[:, 0], dtype), lp.matmul(lp.quantize(x, first), lp.quantize(y[:, 0], second)))
    same(lp.matmul(x[0], y[:, 0], dtype), lp.vecdot(x[0], y[:, 0], dtype))


def test_beside_a_quantised_operand(rng: np.random.Generator) -> None:
    """Of a pair, the format for an operand that is quantised already counts for nothing."""
    x = rng.standard_normal((3, 64))
    w = lp.quantize(rng.standard_normal((6, 64)), "int4", axis=-1, block_size=32)
    same(lp.matmul(x, w.T, "int8"), lp.matmul(lp.quantize(x, "int8"), w.T))


# ------------------------------------------------------------------------------------------------- the twin's own words


def test_twin_by_hand() -> None:
    """Two blocks by hand: 2 * (1 - 3) * 0.5 * 0.25 = -0.5, then fma(5 * 4, float32(0.1) * 2, -0.5)."""
    tenth = float(np.float32(0.1))
    a = Row((2, 5), "int8", (0.5, tenth), block=1)
    b = Row((1, 7), "uint8", (0.25, 2.0), block=1, zero_points=(3, 3))
    assert block_dot(a, b) == float(np.float32(20 * 2 * tenth - 0.5))
    assert list(segments(10, 4, 3)) == [(0, 3), (3, 4), (4, 6), (6, 8), (8, 9), (9, 10)]
    assert list(segments(0, 4, None)) == []
    assert block_dot(Row((), "int8", ()), Row((), "int8", ()), -0.0).hex() == "-0x0.0p+0"
    with pytest.raises(ValueError, match="same length"):
        block_dot(a, Row((1,), "int8", (1.0,)))
