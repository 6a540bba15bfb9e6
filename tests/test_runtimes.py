"""qlinear, qconv2d and the operators against loops in plain Python; the table; errors. The oracles are elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import reference
from lowprec.reference import requantize as slow
from lowprec.runtimes import _finish, _products

Array = np.ndarray[Any, Any]
ROWS = lp.runtimes.table()


# ------------------------------------------------------------------------------------------------- the slow twin
def f32(x: float | Fraction) -> Fraction:
    return Fraction(reference.round_to(x, "float32"))


def f64(x: Fraction) -> Fraction:
    return Fraction(reference.round_to(x, "float64"))


def one_scale(kind: str, x: float, w: float, out: float) -> Fraction:
    """Return x * w / out with the roundings of a kind."""
    a, b, c = f32(x), f32(w), f32(out)
    if kind == "float64":
        return f64(f64(a * b) / c)
    product = f32(a * b)
    if kind == "float32_product":
        return f64(product / c)
    return f32(product * f32(1 / c)) if kind == "float32_reciprocal" else f32(product / c)


def one_code(acc: int, bias: Any, rule: Any, scales: tuple[float, float, float], own: bool, ends: Any) -> int:
    """Return the code of one sum; ``own`` says whether each output has its own scale."""
    zero, low, high = ends
    x, w, out = map(f32, scales)
    if rule.method == "onednn":
        m = f32(f32(1 / f32(1 / x)) * f32(1 / f32(1 / w)))
        total = f32(f32(f32(acc) * m) + (0 if bias is None else Fraction(float(bias))))
        whole = round(f32(f32(total * f32(1 / out)) + zero))
        return min(max(whole, low), high)
    scale = one_scale(rule.scale, *scales)
    if bias is not None and rule.bias == "divided":
        m, b = f32(x * w), Fraction(float(bias))
        total = f32(f32(acc) + f32(b / m)) if own else f32(f32(acc) + b * f32(1 / m))
        return min(max(round(f32(total * scale)) + zero, low), high)
    if bias is not None and rule.bias == "rounded":
        bias = round(f32(Fraction(float(bias)) * f32(1 / f32(x * w))))
    total = acc + (0 if bias is None else int(bias))
    return slow.requantize(total, scale, rule.method, zero_point=zero, low=low, high=high)


def linear(x: Array, w: Array, bias: Any, row: Any, facts: dict[str, Any], ends: Any) -> Array:
    """Return a layer element by element."""
    own = np.ndim(facts["w_scale"]) > 0
    rule = row.rule("linear_per_channel" if own else "linear")
    result = np.zeros((len(x), len(w)), int)
    for i, j in np.ndindex(result.shape):
        acc = sum((int(a) - facts["x_zero_point"]) * int(b) for a, b in zip(x[i], w[j], strict=True))
        w_scale = float(np.broadcast_to(facts["w_scale"], len(w))[j])
        scales = (facts["x_scale"], w_scale, facts["out_scale"])
        result[i, j] = one_code(acc, None if bias is None else bias[j], rule, scales, own, ends)
    return result


HAVE = [(row, own) for row in ROWS for own in (False, True) if row.rule("linear_per_channel" if own else "linear")]


@pytest.mark.parametrize(("row", "own"), HAVE, ids=lambda value: str(getattr(value, "name", value)))
def test_linear_is_its_definition(row: Any, own: bool) -> None:
    rng = np.random.default_rng(0)
    dtype = row.operands[0][0] if not row.name.startswith("onnx") else "uint8"
    torch = row.name.startswith("torch")
    for scales in ((0.25, 0.25, 1.0), (1.75, 1.0, 1.0), (0.7, 0.3, 0.21), (0.7, 0.3, 0.42), (1.4, 0.5, 0.5)):
        x = rng.integers(-6, 7, (7, 5)) + (6 if dtype == "uint8" else 0)
        w = rng.integers(-9, 10, (6, 5)).astype(np.int8)
        step = np.float32(scales[1]) * (np.float32([1, 0.5, 0.75, 0.1, 1.5, 0.3]) if own else np.float32(1))
        facts = {"x_scale": scales[0], "x_zero_point": 4, "w_scale": step, "out_scale": scales[2], "out_zero_point": 5}
        bias: Array = rng.integers(-9, 10, 6).astype(np.int32)
        if torch:
            bias = (bias * 0.25 * scales[0] * np.broadcast_to(step, 6)).astype(np.float32)
        fmt = lp.format(dtype)
        for activation in (None, "relu") if "relu" in row.activations else (None,):
            ends = (5, 5 if activation else int(fmt.min), int(fmt.max))
            for b in (bias, None):
                got = lp.qlinear(x.astype(dtype), w, b, runtime=row.name, activation=activation, **facts)
                assert got.dtype == np.dtype(dtype)
                np.testing.assert_array_equal(got, linear(x, w, b, row, facts, ends), err_msg=str(scales))


def convolve(x: Array, w: Array, zero_x: int, zero_w: Array, how: dict[str, Any]) -> Array:
    """Return the sums of a convolution by its definition."""
    (sy, sx), ((top, bottom), (left, right)), (dy, dx), groups = (
        how[k] for k in ("stride", "padding", "dilation", "groups")
    )
    n, c, height, width = x.shape
    o, depth, kh, kw = w.shape
    padded = np.full((n, c, top + height + bottom, left + width + right), zero_x, int)
    padded[:, :, top : top + height, left : left + width] = x
    oh = (padded.shape[2] - dy * (kh - 1) - 1) // sy + 1
    ow = (padded.shape[3] - dx * (kw - 1) - 1) // sx + 1
    result = np.zeros((n, o, oh, ow), int)
    for image, out, i, j in np.ndindex(result.shape):
        first = out // (o // groups) * depth
        for ch, k, m in np.ndindex(depth, kh, kw):
            value = padded[image, first + ch, i * sy + k * dy, j * sx + m * dx] - zero_x
            result[image, out, i, j] += value * (int(w[out, ch, k, m]) - int(np.broadcast_to(zero_w, o)[out]))
    return result


LAYERS = [
    {},
    {"stride": (2, 1), "padding": ((1, 0), (2, 1))},
    {"dilation": (1, 2), "padding": ((1, 1), (1, 1)), "groups": 2},
    {"groups": 4, "padding": ((0, 1), (1, 0))},
    {"groups": 4, "stride": (2, 2), "dilation": (2, 1), "padding": ((2, 2), (0, 0))},
]


@pytest.mark.parametrize("number", range(len(LAYERS)))
@pytest.mark.parametrize("x_type", ["int8", "uint8", "int16"])
def test_convolution_is_its_definition(number: int, x_type: str) -> None:
    rng = np.random.default_rng(1)
    how: dict[str, Any] = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1} | LAYERS[
        number
    ]
    x = rng.integers(0, 100, (2, 4, 6, 7)).astype(x_type)
    w = rng.integers(-128, 128, (8, 4 // how["groups"], 2, 3)).astype(np.int8)
    if x_type == "int16":
        want = convolve(x, w, 0, np.zeros(()), how)
        codes = lp.qconv2d(x, w, runtime="litert-ruy", x_scale=1.0, w_scale=0.5, out_scale=4.0, **how)
        exact = [slow.requantize(int(a), 0.125, "fixed_point_16x8", low=-(2**15), high=2**15 - 1) for a in want.flat]
        np.testing.assert_array_equal(codes.ravel(), exact)
        return
    for zero_w in (np.array(0), np.array(-3), rng.integers(-128, 128, 8)):
        want = convolve(x, w, 7, zero_w, how)
        np.testing.assert_array_equal(lp.runtimes.conv_integer(x, w, 7, zero_w.astype(np.int8), **how), want)


def test_grouped_and_depthwise_rules() -> None:
    """LiteRT without XNNPACK: three operators, three rules, and the last channels of a depthwise one apart."""
    rng = np.random.default_rng(2)
    x = rng.integers(-9, 10, (1, 11, 5, 6)).astype(np.int8)
    w = rng.integers(-20, 20, (11, 1, 2, 2)).astype(np.int8)
    facts = {"x_scale": 0.5, "w_scale": np.full(11, 1 / 8, np.float32), "out_scale": 1.0, "runtime": "litert-ruy"}
    acc = lp.runtimes.conv_integer(x, w, groups=11)
    up, away = (lp.requantize(acc, 1 / 16, method=m) for m in ("fixed_point_ruy", "fixed_point"))
    assert (up[:, 8:] != away[:, 8:]).any()
    assert (up[:, :8] != away[:, :8]).any()
    depthwise = lp.qconv2d(x, w, groups=11, **facts)
    np.testing.assert_array_equal(depthwise[:, :8], up[:, :8])
    np.testing.assert_array_equal(depthwise[:, 8:], away[:, 8:])
    np.testing.assert_array_equal(lp.qconv2d(x, w, groups=11, depthwise=False, **facts), away)
    one = lp.runtimes.conv_integer(x[:, :1], w[:3])
    facts["w_scale"] = np.full(3, 1 / 8, np.float32)
    np.testing.assert_array_equal(
        lp.qconv2d(x[:, :1], w[:3], **facts), lp.requantize(one, 1 / 16, method="fixed_point_ruy")
    )
    np.testing.assert_array_equal(lp.qconv2d(x[:, :1], w[:3], depthwise=True, **facts), lp.requantize(one, 1 / 16))


def test_same_padding_is_tensorflows() -> None:
    rng = np.random.default_rng(3)
    for height, width, stride in ((7, 8, 2), (8, 7, (3, 2)), (5, 5, 1)):
        x, w = rng.integers(-9, 9, (1, 2, height, width)).astype(np.int8), np.ones((1, 2, 3, 2), np.int8)
        got = lp.runtimes.conv_integer(x, w, 1, stride=stride, padding="same")
        rows, columns = np.broadcast_to(stride, 2)
        assert got.shape == (1, 1, -(-height // rows), -(-width // columns))
        pads = _products.same_padding((height, width), (3, 2), stride, 1)
        np.testing.assert_array_equal(got, lp.runtimes.conv_integer(x, w, 1, stride=stride, padding=pads))
    assert _products.same_padding((7, 8), (3, 2), 2, 1) == ((1, 1), (0, 0))
    assert _products.same_padding((8, 7), (3, 2), 2, 1) == ((0, 1), (0, 1))


def test_quantized_arrays_bring_their_scales() -> None:
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((5, 32)).astype(np.float32), rng.standard_normal((6, 32)).astype(np.float32)
    qx, qw = lp.quantize(x, "int8", symmetric=False), lp.quantize(w, "int8", axis=0)
    bias = rng.integers(-900, 900, 6).astype(np.int32)
    got = lp.qlinear(qx, qw, bias, out_scale=0.1, out_zero_point=3)
    facts = {"x_scale": qx.scale, "x_zero_point": int(qx.zero_point), "w_scale": qw.scale, "out_scale": 0.1}
    want = lp.qlinear(qx.codes.view(np.int8), qw.codes.view(np.int8), bias, out_zero_point=3, **facts)
    np.testing.assert_array_equal(got, want)
    real = qx.dequantize() @ qw.dequantize().T + bias * qx.scale * qw.scale
    assert np.abs((got - 3.0) * 0.1 - np.clip(real, -13.1, 12.4)).max() < 0.051


def test_threads_and_layout_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (3, 16, 40, 41)).astype(np.int8)
    w = rng.integers(-127, 128, (24, 16, 3, 3)).astype(np.int8)
    facts = {"x_scale": 0.02, "x_zero_point": 3, "w_scale": rng.uniform(0.001, 0.01, 24), "out_scale": 0.4}
    before = lp.get_num_threads()
    try:
        lp.set_num_threads(1)
        want = lp.qconv2d(x, w, padding=1, **facts)
        lp.set_num_threads(4)
        np.testing.assert_array_equal(lp.qconv2d(np.asfortranarray(x), w, padding=1, **facts), want)
    finally:
        lp.set_num_threads(before)
    last = lp.qconv2d(x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1), padding=1, layout="NHWC", **facts)
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), want)
    np.testing.assert_array_equal(lp.qconv2d(x[1], w, padding=1, **facts), want[1])
    assert lp.qconv2d(x[:0], w, padding=1, **facts).shape == (0, 24, 40, 41)
    assert lp.qlinear(
        np.zeros((0, 4), np.int8), np.zeros((3, 4), np.int8), x_scale=1, w_scale=1, out_scale=1
    ).shape == (0, 3)


# ---------------------------------------------------------------------------------------------------- quantisers
def test_quantisers_are_their_definitions() -> None:
    rng = np.random.default_rng(6)
    for scale, zero in ((0.1, 3), (0.25, 5), (1 / 3, 0), (0.037, 7)):
        step = f32(scale)
        ties = ((np.arange(-60, 60) + 0.5) * scale).astype(np.float32)
        x = np.concatenate([ties, rng.standard_normal(60).astype(np.float32) * 9, np.float32([0, -0.0, 1e9, -1e9])])
        for rule in ("even_division", "even_reciprocal", "even_reciprocal_with_zero_point", "away_division"):
            want = []
            for v in map(float, x):
                ratio, inverse = f32(Fraction(v) / step), f32(1 / step)
                if rule == "away_division":
                    whole = int(abs(ratio) + Fraction(1, 2)) * (1 if ratio > 0 else -1) + zero
                elif rule == "even_reciprocal_with_zero_point":
                    whole = round(f32(Fraction(v) * inverse + zero))
                else:
                    whole = round(ratio if rule == "even_division" else f32(Fraction(v) * inverse)) + zero
                want.append(min(max(whole, -128), 127))
            got = lp.runtimes.quantize(x, scale, zero, runtime=rule)
            np.testing.assert_array_equal(got, want, err_msg=f"{rule} {scale}")
            if rule == "even_division":
                np.testing.assert_array_equal(lp.runtimes.quantize_linear(x, scale, np.int8(zero)), want)


def test_blocks_that_do_not_divide_the_axis() -> None:
    x = np.float32([[1, 2, 3, 4, 10]])
    scale = np.float32([[1, 2, 5]])
    got = lp.runtimes.quantize_linear(x, scale, out="int8", block_size=2)
    np.testing.assert_array_equal(got, [[1, 2, 2, 2, 2]])
    np.testing.assert_array_equal(lp.runtimes.dequantize_linear(got, scale, block_size=2), [[1, 2, 4, 4, 10]])


def test_float_formats() -> None:
    x = np.float32([0.3, -500, 1e6])
    assert lp.runtimes.quantize_linear(x, 2.0, out="e4m3fn").dtype == ml_dtypes.float8_e4m3fn
    assert lp.runtimes.quantize_linear(x, 2.0, out="e4m3fn").astype(float).tolist() == [0.15625, -256.0, 448.0]
    assert np.isnan(lp.runtimes.quantize_linear(x, 2.0, out="e4m3fn", saturate=False).astype(float)[2])
    assert np.isinf(lp.runtimes.quantize_linear(x, 2.0, out="e5m2", saturate=False).astype(float)[2])
    half = lp.runtimes.dequantize_linear(np.array([3], ml_dtypes.float8_e4m3fn), np.float16(0.5))
    assert half.dtype == np.float16
    assert half == 1.5


# ------------------------------------------------------------------------------------------------------- the table
def test_table() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    text = lp.runtimes.describe()
    for row in ROWS:
        assert lp.runtimes.runtime(row.name) is row
        assert row.source
        assert row.name in text
        for operator, rule in row.rules:
            assert row.rule(operator) is rule
    assert lp.runtimes.runtime("litert-ruy").rule("nothing") is None


# --------------------------------------------------------------------------------------------------- planted bugs


def test_another_order_of_the_scales_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is (x * w) / out; x * (w / out) rounds elsewhere."""

    def wrong(rule: Any, scales: Any) -> Array:
        del rule
        return np.asarray(scales.x * (scales.w / scales.out)).astype(np.float64)

    monkeypatch.setattr(_finish, "scale_of", wrong)
    with pytest.raises(AssertionError):
        test_linear_is_its_definition(lp.runtimes.runtime("onnxruntime"), own=True)


def test_a_zero_padded_image_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pad = np.pad
    monkeypatch.setattr(_products.np, "pad", lambda x, width, **_: pad(x, width))
    with pytest.raises(AssertionError):
        test_convolution_is_its_definition(1, "uint8")


def test_a_lost_tail_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    row = lp.runtimes.runtime("litert-ruy")
    rule = lp.runtimes.Rule("fixed_point_ruy", "float64")
    monkeypatch.setattr(type(row), "rule", lambda self, operator: rule)  # noqa: ARG005
    with pytest.raises(AssertionError):
        test_grouped_and_depthwise_rules()


# ------------------------------------------------------------------------------------------------------- bad input
X, W = np.ones((2, 4), np.int8), np.ones((3, 4), np.int8)
S = {"x_scale": 1.0, "w_scale": 1.0, "out_scale": 1.0}


def call(x: Any = X, w: Any = W, bias: Any = None, **facts: Any) -> Callable[[], Any]:
    return lambda: lp.qlinear(x, w, bias, **(S | facts))


def conv(**facts: Any) -> Callable[[], Any]:
    x, w = np.ones((1, 2, 4, 4), np.int8), np.ones((2, 2, 3, 3), np.int8)
    return lambda: lp.qconv2d(facts.pop("x", x), facts.pop("w", w), **(S | facts))


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "runtime": (call(runtime="litert-xnpack"), ValueError, "the closest: 'litert-xnnpack'"),
    "runtime kind": (call(runtime=3), TypeError, "`runtime` must be the name"),
    "float x": (call(x=X.astype(float)), TypeError, "`x` must hold integers"),
    "uint8 in LiteRT": (call(x=X.astype(np.uint8)), ValueError, "`x` and `w` must be a pair"),
    "int8 in torch": (call(runtime="torch-fbgemm"), ValueError, "uint8 x int8"),
    "shapes": (call(w=np.ones((3, 5), np.int8)), ValueError, "(..., K) and (O, K)"),
    "no scale": (call(x_scale=None), TypeError, "`x_scale` must be given"),
    "zero scale": (call(w_scale=0.0), ValueError, "`w_scale` must be positive and finite in float32, got 0.0"),
    "negative scale": (call(w_scale=[1, -1, 1]), ValueError, "`w_scale` must be positive"),
    "NaN scale": (call(out_scale=np.nan), ValueError, "`out_scale` must be positive"),
    "lost scale": (call(x_scale=1e-60), ValueError, "`x_scale` must be positive and finite in float32"),
    "count of scales": (call(w_scale=[1.0, 1.0]), ValueError, "one for each of 3 outputs"),
    "several out scales": (call(out_scale=[1.0, 1.0]), ValueError, "`out_scale` must be one number"),
    "large ratio": (call(x_scale=256.0), ValueError, "below 256"),
    "vanishing ratio": (call(x_scale=1e-30, w_scale=1e-30), ValueError, "positive and below"),
    "x zero point": (call(x_zero_point=200), ValueError, "`x_zero_point` must be from -128 to 127"),
    "several x zero points": (call(x_zero_point=[1, 2, 3, 4]), ValueError, "`x_zero_point` must be one number"),
    "float zero point": (call(x_zero_point=0.5), TypeError, "`x_zero_point` must hold integers"),
    "out zero point": (call(out_zero_point=-129), ValueError, "`out_zero_point` must be from -128"),
    "w zero point": (call(w_zero_point=1), ValueError, "`w_zero_point` must be 0 for `litert-xnnpack`, got 1"),
    "int16 zero point": (call(x=X.astype(np.int16), x_zero_point=1), ValueError, "must be 0 for int16"),
    "out": (call(out="uint8"), ValueError, "`out` must be the format of `x`"),
    "float bias": (call(bias=np.ones(3)), TypeError, "`bias` must hold integers"),
    "integer bias": (
        call(x=X.astype(np.uint8), bias=np.ones(3, int), runtime="torch-fbgemm"),
        TypeError,
        "`bias` must be float",
    ),
    "NaN bias": (
        call(x=X.astype(np.uint8), bias=np.float32([1, np.nan, 1]), runtime="torch-fbgemm"),
        ValueError,
        "`bias` must be finite",
    ),
    "long bias": (call(bias=np.array([0, 0, 2**31])), ValueError, "`bias` must fit in 32 bits"),
    "bias shape": (call(bias=np.ones(4, int)), ValueError, "`bias` must have shape (3,)"),
    "activation": (call(activation="gelu"), ValueError, "`activation` must be one that `litert-xnnpack` fuses"),
    "ONNX activation": (call(activation="relu", runtime="onnxruntime"), ValueError, "fuses (none)"),
    "unknown bits": (call(w_scale=[1.0, 1, 1], runtime="tflite-2.14-ruy"), ValueError, "linear_per_channel"),
    "grouped oneDNN": (
        conv(x=np.ones((1, 4, 4, 4), np.uint8), w=np.ones((4, 2, 3, 3), np.int8), groups=2, runtime="torch-onednn"),
        ValueError,
        "conv_grouped",
    ),
    "layout": (conv(layout="CHW"), ValueError, "`layout` must be"),
    "depthwise": (conv(depthwise=True), ValueError, "`depthwise` must be False"),
    "groups": (conv(groups=2), ValueError, "`x` must have 4 channels"),
    "padding": (conv(padding="full"), ValueError, "`padding` must be"),
    "block scales": (
        lambda: lp.qlinear(lp.quantize(np.ones((2, 4), np.float32), "int8", axis=1, block_size=2), W, out_scale=1.0),
        ValueError,
        "`x` must have one scale",
    ),
    "scale twice": (
        lambda: lp.qlinear(lp.quantize(np.ones((2, 4), np.float32), "int8"), W, **S),
        ValueError,
        "`x_scale` must be None",
    ),
    "matmul of int16": (lambda: lp.runtimes.matmul_integer(X.astype(np.int16), W.T), TypeError, "`a` must hold"),
    "matmul shapes": (lambda: lp.runtimes.matmul_integer(X, W), ValueError, "(..., M, K) and (..., K, N)"),
    "matmul zero point": (
        lambda: lp.runtimes.matmul_integer(X, W.T, 0, [1, 2]),
        ValueError,
        "`b_zero_point` must be one",
    ),
    "quantize NaN": (lambda: lp.runtimes.quantize([np.nan], 1.0), ValueError, "`x` must hold no NaN"),
    "quantize integers": (lambda: lp.runtimes.quantize([1], 1.0), TypeError, "`x` must hold floats"),
    "quantize float64": (lambda: lp.runtimes.quantize(np.ones(2), 1.0), TypeError, "float32 or shorter"),
    "quantize unknown": (
        lambda: lp.runtimes.quantize(np.ones(2, np.float32), 1.0, runtime="tflite-2.14-ruy"),
        ValueError,
        "known to the bit",
    ),
    "quantize axis": (
        lambda: lp.runtimes.quantize_linear(np.ones((2, 3), np.float32), [1.0, 1.0], axis=1),
        ValueError,
        "`scale` must have shape () or (3,)",
    ),
    "quantize blocks": (
        lambda: lp.runtimes.quantize_linear(np.ones((2, 3), np.float32), np.ones((2, 3)), block_size=2),
        ValueError,
        "`scale` must have shape (2, 2)",
    ),
    "quantize block size": (
        lambda: lp.runtimes.quantize_linear(np.ones((2, 3), np.float32), np.ones((2, 3)), block_size=0),
        ValueError,
        "`block_size` must be",
    ),
    "float zero point of fp8": (
        lambda: lp.runtimes.quantize_linear(np.ones(2, np.float32), 1.0, 1, out="e4m3fn"),
        ValueError,
        "`zero_point` must be 0",
    ),
    "dynamic infinity": (lambda: lp.runtimes.dynamic_quantize_linear(np.float32([np.inf])), ValueError, "finite step"),
    "dynamic subnormal": (lambda: lp.runtimes.dynamic_quantize_linear(np.float32([1e-45])), ValueError, "positive"),
    "dequantize float32": (lambda: lp.runtimes.dequantize_linear(np.ones(2, np.float32), 1.0), TypeError, "`codes`"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    attempt, error, words = BAD[name]
    with pytest.raises(error) as caught:
        attempt()
    assert words in str(caught.value), str(caught.value)
    assert str(caught.value).startswith("`")
