"""qlinear, qconv2d and quantize against LiteRT's three interpreters, bit for bit, where ties are frequent.

The scales make ties: 1/16, 1/512, 1.75, and products of scales that lie one rounding beside a power of two, where only
the right order of float32 and float64 operations gives the right codes. Random scales alone would not tell the rules
apart.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from litert_models import RESOLVERS, Tensor, build, run

import lowprec as lp

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
F = np.float32
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
ACTIVATIONS = {None: 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


def fully_connected(x: Array, w: Array, bias: Array, facts: dict[str, Any], activation: str | None) -> bytes:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[activation]
    wide = x.dtype == np.int16
    version = 7 if wide else 12 if np.ndim(facts["w_scale"]) else 4
    step = F(facts["x_scale"]) * np.asarray(facts["w_scale"], F)
    tensors = [
        Tensor(x.shape, x.dtype.name, facts["x_scale"], facts["x_zero_point"]),
        Tensor(w.shape, "int8", facts["w_scale"], data=w),
        Tensor(bias.shape, "int64" if wide else "int32", step, data=bias),
    ]
    result = Tensor((len(x), len(w)), x.dtype.name, facts["out_scale"], facts["out_zero_point"])
    return build(schema, "FULLY_CONNECTED", version, tensors, result, options)


def random_layer(rng: np.random.Generator, kind: str, dtype: str, outputs: int, depth: int) -> dict[str, Any]:
    """Return scales of a kind, and operands whose sums lie inside the range of the codes then."""
    x_scale, w_scale, out_scale = {
        "1/16": (0.25, 0.25, 1.0),
        "1/512": (1 / 16, 1 / 32, 1.0),
        "1.75": (1.75, 1.0, 1.0),
        "generic": (0.0317, 0.0071, 0.0413),
    }.get(kind, (float(F(rng.uniform(0.01, 2))), float(F(rng.uniform(0.01, 2))), 0.0))
    if kind == "beside a tie":
        out_scale = float(F(x_scale) * F(w_scale) * F(rng.choice([2, 4, 8, 16])))
    scale = x_scale * w_scale / out_scale
    reach = 100 / scale / np.sqrt(depth)
    high_x, high_w = (int(np.clip(np.sqrt(reach), 2, 100)) for _ in range(2))
    wide = dtype == "int16"
    return {
        "x": rng.integers(-high_x, high_x + 1, (200, depth)).astype(dtype),
        "w": rng.integers(-high_w, high_w + 1, (outputs, depth)).astype(np.int8),
        "bias": rng.integers(-50, 50, outputs).astype(np.int64 if wide else np.int32),
        "facts": {
            "x_scale": x_scale,
            "x_zero_point": 0 if wide else int(rng.integers(-5, 6)),
            "w_scale": w_scale,
            "out_scale": out_scale,
            "out_zero_point": 0 if wide else int(rng.integers(-9, 10)),
        },
    }


KINDS = ("1/16", "1/512", "1.75", "generic", *["beside a tie"] * 6)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_fully_connected(resolver: str, per_channel: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for kind in KINDS:
        layer = random_layer(rng, kind, dtype, 40, 9)
        facts = layer["facts"]
        if per_channel:
            facts["w_scale"] = (facts["w_scale"] * np.resize([1, 0.5, 0.25, 0.7], 40)).astype(F)
        x, w, bias = layer["x"], layer["w"], layer["bias"]
        want = run(fully_connected(x, w, bias, facts, None), resolver, x)
        got = lp.qlinear(x, w, bias, runtime=f"litert-{resolver}", **facts)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want, err_msg=kind)
        seen |= set(want.ravel().tolist())
    assert len(seen) > 250


@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 257, 5), (3, 1, 1), (7, 33, 100)])
def test_fully_connected_of_any_shape(shape: tuple[int, int, int]) -> None:
    """Vectors, tails and matrices take different kernels of the same rule."""
    rng = np.random.default_rng(1)
    rows, outputs, depth = shape
    for resolver in RESOLVERS:
        for _ in range(3):
            layer = random_layer(rng, "1/16", "int8", outputs, depth)
            x = layer["x"][:rows]
            want = run(fully_connected(x, layer["w"], layer["bias"], layer["facts"], None), resolver, x)
            got = lp.qlinear(x, layer["w"], layer["bias"], runtime=f"litert-{resolver}", **layer["facts"])
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("activation", ["relu", "relu6", "relu_n1_to_1"])
def test_activations(resolver: str, activation: str) -> None:
    """Where 6 / scale is a tie, the interpreters set the upper end differently."""
    rng = np.random.default_rng(2)
    x, w = rng.integers(-100, 100, (50, 4)).astype(np.int8), rng.integers(-100, 100, (8, 4)).astype(np.int8)
    bias = np.zeros(8, np.int32)
    for scale in (4.0, 2.4, 12.0, 0.4, 0.1, 0.07, 2 / 3, 1 / 3):
        for zero in (0, 1, 3, -100):
            facts = {"x_scale": 1.0, "x_zero_point": 0, "w_scale": 1 / 64, "out_scale": scale, "out_zero_point": zero}
            want = run(fully_connected(x, w, bias, facts, activation), resolver, x)
            got = lp.qlinear(x, w, bias, runtime=f"litert-{resolver}", activation=activation, **facts)
            np.testing.assert_array_equal(got, want, err_msg=f"{scale} {zero}")


def convolution(x: Array, w: Array, bias: Array, facts: dict[str, Any], how: dict[str, Any], shape: Any) -> bytes:
    """Return a model of a convolution in TensorFlow's layout; weights (1, KH, KW, O) are depthwise."""
    depthwise = how["depthwise"]
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = 0 if how["padding"] == "same" else 1
    options.strideH, options.strideW = how["stride"]
    options.dilationHFactor, options.dilationWFactor = how["dilation"]
    if depthwise:
        options.depthMultiplier = w.shape[3] // x.shape[3]
    wide = x.dtype == np.int16
    step = F(facts["x_scale"]) * np.asarray(facts["w_scale"], F)
    tensors = [
        Tensor(x.shape, x.dtype.name, facts["x_scale"], facts["x_zero_point"]),
        Tensor(w.shape, "int8", facts["w_scale"], axis=3 if depthwise else 0, data=w),
        Tensor(bias.shape, "int64" if wide else "int32", step, data=bias),
    ]
    version = (5 if wide else 3) if depthwise else (4 if wide else 3)
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    result = Tensor(shape, x.dtype.name, facts["out_scale"], facts["out_zero_point"])
    return build(schema, name, version, tensors, result, options)


LAYERS: dict[str, dict[str, Any]] = {
    "plain": {"channels": 16, "outputs": 16},
    "few channels": {"channels": 3, "outputs": 5},
    "strided, same": {"channels": 8, "outputs": 9, "stride": (2, 1), "padding": "same"},
    "dilated": {"channels": 4, "outputs": 8, "dilation": (2, 2)},
    "pointwise": {"channels": 16, "outputs": 8, "kernel": (1, 1)},
    "groups": {"channels": 16, "outputs": 16, "groups": 4},
    "depthwise": {"channels": 16, "outputs": 16, "depthwise": True},
    "depthwise, 15": {"channels": 15, "outputs": 15, "depthwise": True},
    "depthwise, 7": {"channels": 7, "outputs": 7, "depthwise": True, "padding": "same"},
    "depthwise, times 4": {"channels": 5, "outputs": 20, "depthwise": True, "stride": (2, 2), "padding": "same"},
    "depthwise, one channel": {"channels": 1, "outputs": 9, "depthwise": True},
}


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_convolution(resolver: str, name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    how = {"stride": (1, 1), "dilation": (1, 1), "padding": "valid", "groups": 1, "depthwise": False, "kernel": (3, 2)}
    how |= LAYERS[name]
    channels, outputs, wide = how["channels"], how["outputs"], dtype == "int16"
    groups = channels if how["depthwise"] else how["groups"]
    for kind in ("ties", "generic", "one scale", *["beside a tie"] * 6):
        x = rng.integers(-20, 21, (2, 9, 10, channels)).astype(dtype)
        w = rng.integers(-20, 21, (outputs, *how["kernel"], channels // groups)).astype(np.int8)
        bias = rng.integers(-50, 50, outputs).astype(np.int64 if wide else np.int32)
        x_scale, out_scale = 0.5, 1.0
        ratio: Any = np.resize([1 / 16, 1 / 64, 1 / 4, 1 / 8, 1 / 32, 2.0**-6 * 3], outputs)
        if kind == "generic":
            ratio = rng.uniform(0.003, 0.1, outputs)
        elif kind == "beside a tie":
            x_scale, out_scale = (float(F(s)) for s in rng.uniform(0.01, 2, 2))
            ratio = np.resize([1 / 16, 3 / 32, 5 / 64, 7 / 64, 1 / 8], outputs)
        w_scale = (ratio * out_scale / x_scale).astype(F)
        facts = {
            "x_scale": x_scale,
            "x_zero_point": 0 if wide else 3,
            "w_scale": w_scale[0] if kind == "one scale" else w_scale,
            "out_scale": out_scale,
            "out_zero_point": 0 if wide else -5,
        }
        arguments = {k: how[k] for k in ("stride", "dilation", "padding", "depthwise")} | {"groups": groups}
        got = lp.qconv2d(x, w, bias, layout="NHWC", runtime=f"litert-{resolver}", **arguments, **facts)
        given = w.transpose(3, 1, 2, 0) if how["depthwise"] else w
        want = run(convolution(x, np.ascontiguousarray(given), bias, facts, how, got.shape), resolver, x)
        np.testing.assert_array_equal(got, want, err_msg=kind)
        turned = lp.qconv2d(
            x.transpose(0, 3, 1, 2),
            w.transpose(0, 3, 1, 2),
            bias,
            runtime=f"litert-{resolver}",
            **arguments,
            **facts,
        )
        np.testing.assert_array_equal(turned.transpose(0, 2, 3, 1), got)


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("out", ["int8", "uint8", "int16"])
def test_quantize(resolver: str, out: str) -> None:
    rng = np.random.default_rng(4)
    for scale, zero in ((0.1, 3), (0.25, 5), (0.037, 0), (1.3, 1), (1 / 3, 2)):
        ties = (np.arange(-300, 300) + 0.5) * scale
        near = [np.nextafter(ties.astype(F), F(s)) for s in (-1e9, 1e9)]
        # Beyond 2**31 codes LiteRT converts to int32, which C leaves undefined; here all codes saturate.
        x = np.concatenate([ties, *near, rng.standard_normal(20_000) * 50 * scale, [0, 1e7, -1e7]]).astype(F)
        point = 0 if out == "int16" else zero
        result, options = Tensor(x.shape, out, scale, point), schema.QuantizeOptionsT()
        model = build(schema, "QUANTIZE", 2, [Tensor(x.shape, "float32")], result, options)
        got = lp.runtimes.quantize(x, scale, point, out=out, runtime=f"litert-{resolver}")
        np.testing.assert_array_equal(got, run(model, resolver, x))


def test_left_shift_wraps_as_deployed() -> None:
    """A sum times 200 beyond 32 bits: LiteRT's convolution wraps before it rounds, XNNPACK does not."""
    x = np.full((1, 1, 1, 4096), 127, np.int8)
    x[..., ::3] = 3
    w = np.array([[1], [-1], [100], [127]], np.int8).repeat(4096, 1).reshape(4, 1, 1, 4096)
    facts = {"x_scale": 200.0, "x_zero_point": 0, "w_scale": np.ones(4, F), "out_scale": 1.0, "out_zero_point": 0}
    how = {"stride": (1, 1), "dilation": (1, 1), "padding": "valid", "depthwise": False}
    codes = {}
    for resolver in RESOLVERS:
        want = run(convolution(x, w, np.zeros(4, np.int32), facts, how, (1, 1, 1, 4)), resolver, x)
        got = lp.qconv2d(x, w, layout="NHWC", runtime=f"litert-{resolver}", **facts)
        np.testing.assert_array_equal(got, want)
        codes[resolver] = got.ravel().tolist()
    assert codes["reference"] == codes["ruy"] == [127, -128, 127, -128]
    assert codes["xnnpack"] == [127, -128, 127, 127]


def test_xnnpack_refuses_scales_from_256_on() -> None:
    x, w, bias = np.ones((1, 4), np.int8), np.ones((8, 4), np.int8), np.zeros(8, np.int32)
    facts = {"x_scale": 256.0, "x_zero_point": 0, "w_scale": 1.0, "out_scale": 1.0, "out_zero_point": 0}
    with pytest.raises(RuntimeError, match="XNNPACK"):
        run(fully_connected(x, w, bias, facts, None), "xnnpack", x)
    with pytest.raises(ValueError, match="below 256"):
        lp.qlinear(x, w, bias, runtime="litert-xnnpack", **facts)
