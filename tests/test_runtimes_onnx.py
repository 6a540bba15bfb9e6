"""ONNX's quantised operators against onnxruntime, the node cases of the onnx package, and a real int8 model.

Not imitated:

- On CPUs without VNNI onnxruntime adds pairs of products uint8 x int8 in 16 bits that saturate (vpmaddubsw), so that
  its MatMulInteger is not exact; int8 has 7 bits here beside uint8.
- Casts of floats to integers of 4 and 2 bits beyond their range, which the node cases wrap (their values are
  made with ml_dtypes) and onnxruntime wraps after rounding half away; here casts saturate.
- QuantizeLinear of -0 to float4_e2m1fn, which the node case makes +0 by adding a zero point; onnxruntime keeps -0 in
  its float formats, and so does this package.
- Casts of NaN to float4_e2m1fn, which has none; here NaN is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_models
import pytest

import lowprec as lp

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
F = np.float32
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx: Any = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
SIGNS = [(a, b) for a in ("uint8", "int8") for b in ("uint8", "int8")]


def numbers(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) + 1


def whole(rng: np.random.Generator, dtype: str, shape: Any) -> Array:
    return rng.integers(*numbers(dtype), shape).astype(dtype)


# ------------------------------------------------------------------------------------------------------- onnxruntime
@pytest.mark.parametrize("out", ["uint8", "int8", "uint16", "int16"])
def test_quantize_linear(out: str) -> None:
    rng = np.random.default_rng(0)
    for scale in (0.1, 0.25, 1 / 3, 0.037):
        for zero in (0, 3, 7):
            ties = (np.arange(-400, 400) + 0.5) * F(scale)
            x = np.concatenate([ties, rng.standard_normal(50_000) * 60 * scale, [0, -0.0, 1e9, -1e9]]).astype(F)
            (want,) = onnx_models.run("QuantizeLinear", [x, F(scale), np.array(zero, out)], [out])
            got = lp.runtimes.quantize_linear(x, F(scale), np.array(zero, out))
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
            (back,) = onnx_models.run("DequantizeLinear", [want, F(scale), np.array(zero, out)], ["float32"])
            np.testing.assert_array_equal(lp.runtimes.dequantize_linear(got, F(scale), np.array(zero, out)), back)
            if out == "uint8":
                np.testing.assert_array_equal(
                    lp.runtimes.quantize(x, scale, zero, out=out, runtime="onnxruntime"), want
                )


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("out", ["uint8", "int8", "int4", "uint4"])
def test_quantize_linear_along_an_axis(axis: int, out: str) -> None:
    rng = np.random.default_rng(1)
    x = (rng.integers(-90, 90, (6, 8, 10)) / 4).astype(F)
    dtype = np.dtype(getattr(ml_dtypes, out, out))
    scale = rng.choice([0.25, 0.5, 0.3, 1.5], x.shape[axis]).astype(F)
    zero = rng.integers(0, 7, x.shape[axis]).astype(dtype)
    (want,) = onnx_models.run("QuantizeLinear", [x, scale, zero], [out], axis=axis)
    got = lp.runtimes.quantize_linear(x, scale, zero, axis=axis)
    np.testing.assert_array_equal(got.astype(int), want.astype(int))
    (back,) = onnx_models.run("DequantizeLinear", [got, scale, zero], ["float32"], axis=axis)
    np.testing.assert_array_equal(lp.runtimes.dequantize_linear(got, scale, zero, axis=axis), back)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("out", ["int4", "uint4", "uint8"])
def test_quantize_linear_in_blocks(axis: int, out: str) -> None:
    rng = np.random.default_rng(2)
    x = (rng.integers(-90, 90, (64, 96)) / 8).astype(F)
    dtype = np.dtype(getattr(ml_dtypes, out, out))
    shape = (2, 96) if axis == 0 else (64, 3)
    scale = rng.choice([0.25, 0.5, 0.3, 1.5], shape).astype(F)
    zero = rng.integers(0, 7, shape).astype(dtype)
    (want,) = onnx_models.run("QuantizeLinear", [x, scale, zero], [out], axis=axis, block_size=32)
    got = lp.runtimes.quantize_linear(x, scale, zero, axis=axis, block_size=32)
    np.testing.assert_array_equal(got.astype(int), want.astype(int))
    (back,) = onnx_models.run("DequantizeLinear", [got, scale, zero], ["float32"], axis=axis, block_size=32)
    np.testing.assert_array_equal(lp.runtimes.dequantize_linear(got, scale, zero, axis=axis, block_size=32), back)


def test_dynamic_quantize_linear() -> None:
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal(1000) * s + m for s in (1, 1e-3, 1e20) for m in (0, 2, -5)]
    inputs += [np.zeros(5), np.full(4, 3.0), np.full(4, -3.0), np.arange(-128, 128) / 7, [1e-30], [-0.0]]
    for x in inputs:
        given = np.asarray(x, F)
        want = onnx_models.run("DynamicQuantizeLinear", [given], ["uint8", "float32", "uint8"])
        for one, other in zip(lp.runtimes.dynamic_quantize_linear(given), want, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("a_type", "b_type"), SIGNS)
def test_matmul_integer(a_type: str, b_type: str) -> None:
    rng = np.random.default_rng(4)
    for shape in ((7, 1000, 33), (1, 3, 1), (64, 64, 64)):
        a, b = whole(rng, a_type, shape[:2]), whole(rng, b_type, shape[1:])
        if (a_type, b_type) == ("uint8", "int8"):
            b >>= 1
        for zero_b in (whole(rng, b_type, ()), whole(rng, b_type, shape[2:])):
            zero_a = whole(rng, a_type, ())
            (want,) = onnx_models.run("MatMulInteger", [a, b, zero_a, zero_b], ["int32"])
            np.testing.assert_array_equal(lp.runtimes.matmul_integer(a, b, zero_a, zero_b), want)
    a, b = whole(rng, a_type, (2, 1, 5, 6)), whole(rng, b_type, (3, 6, 4)) >> 1
    (want,) = onnx_models.run("MatMulInteger", [a, b], ["int32"])
    np.testing.assert_array_equal(lp.runtimes.matmul_integer(a, b), want)


LAYERS: list[dict[str, Any]] = [
    {"channels": 6, "outputs": 10},
    {"channels": 6, "outputs": 12, "groups": 3, "stride": (2, 1), "padding": ((1, 0), (2, 1))},
    {"channels": 8, "outputs": 8, "groups": 8, "padding": 1, "dilation": 2},
    {"channels": 3, "outputs": 9, "groups": 3, "stride": 2},
]


def images(rng: np.random.Generator, layer: dict[str, Any], x_type: str, w_type: str) -> tuple[Array, Array, Any, Any]:
    """Return operands, and the layer as this package and as ONNX say it."""
    groups = layer.get("groups", 1)
    x = whole(rng, x_type, (2, layer["channels"], 9, 11))
    w = whole(rng, w_type, (layer["outputs"], layer["channels"] // groups, 3, 2))
    how = {k: layer[k] for k in ("stride", "padding", "dilation", "groups") if k in layer}
    padding = layer.get("padding", 0)
    sides = [(padding, padding)] * 2 if isinstance(padding, int) else list(padding)
    pads = [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]
    pair = {k: list(np.broadcast_to(layer.get(k, 1), 2)) for k in ("stride", "dilation")}
    attributes = {"pads": pads, "strides": pair["stride"], "dilations": pair["dilation"], "group": groups}
    return x, w, how, attributes


@pytest.mark.parametrize("number", range(len(LAYERS)))
@pytest.mark.parametrize(("x_type", "w_type"), [("uint8", "uint8"), ("uint8", "int8")])
def test_conv_integer(number: int, x_type: str, w_type: str) -> None:
    rng = np.random.default_rng(5)
    x, w, how, attributes = images(rng, LAYERS[number], x_type, w_type)
    zero_x, zero_w = whole(rng, x_type, ()), whole(rng, w_type, ())
    (want,) = onnx_models.run("ConvInteger", [x, w, zero_x, zero_w], ["int32"], **attributes)
    got = lp.runtimes.conv_integer(x, w, zero_x, zero_w, **how)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(lp.runtimes.conv_integer(x[0], w, zero_x, zero_w, **how), want[0])


SCALES = [
    (0.25, 0.25, 1.0),
    (1 / 16, 1 / 32, 1.0),
    (1.75, 1.0, 4.0),
    (1.4, 0.5, 2.0),
    (0.7, 0.3, 0.21),
    (0.1, 0.3, 0.6),
]
# And products of scales one rounding beside a power of two, where the order of the operations decides ties.
_DRAWS = np.random.default_rng(0).uniform(0.01, 2, (8, 2)).astype(F)
SCALES += [(float(x), float(w), float(x * w * F(2 ** (1 + k % 3)))) for k, (x, w) in enumerate(_DRAWS)]


@pytest.mark.parametrize("number", range(len(LAYERS)))
@pytest.mark.parametrize(("x_type", "w_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
def test_qlinear_conv(number: int, x_type: str, w_type: str) -> None:
    rng = np.random.default_rng(6)
    for scales in SCALES:
        for per_channel in (False, True):
            x, w, how, attributes = images(rng, LAYERS[number], x_type, w_type)
            zero_w = 0 if w_type == "int8" else 128
            x, w = (x // 16).astype(x_type), (w // 32 + (zero_w and 124)).astype(w_type)
            outputs = len(w)
            w_scale = F(scales[1]) * (np.resize([1, 0.5, 0.75, 0.1], outputs) if per_channel else 1)
            facts = {
                "x_scale": F(scales[0]),
                "x_zero_point": 5,
                "w_scale": np.asarray(w_scale, F),
                "w_zero_point": np.full(outputs, zero_w) if per_channel else zero_w,
                "out_scale": F(scales[2]),
                "out_zero_point": 7,
            }
            bias = rng.integers(-50, 50, outputs).astype(np.int32)
            inputs = [x, facts["x_scale"], np.array(5, x_type), w, facts["w_scale"]]
            inputs += [np.asarray(facts["w_zero_point"]).astype(w_type), facts["out_scale"], np.array(7, x_type), bias]
            (want,) = onnx_models.run("QLinearConv", inputs, [x_type], **attributes)
            got = lp.qconv2d(x, w, bias, runtime="onnxruntime", **how, **facts)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("a_type", "b_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
def test_qlinear_matmul_and_qgemm(a_type: str, b_type: str) -> None:
    rng = np.random.default_rng(7)
    low = 0 if a_type == "uint8" else -8
    for scales in SCALES:
        for per_column in (False, True):
            a = rng.integers(low, low + 16, (200, 24)).astype(a_type)
            zero_b = 3 if b_type == "uint8" else 0
            b = (rng.integers(-6, 7, (24, 45)) + (6 if b_type == "uint8" else 0)).astype(b_type)
            b_scale = np.asarray(F(scales[1]) * (np.resize([1, 0.5, 0.75, 0.1], 45) if per_column else 1), F)
            point = np.full(45, zero_b, b_type) if per_column else np.array(zero_b, b_type)
            facts = {
                "x_scale": F(scales[0]),
                "x_zero_point": low + 5,
                "w_scale": b_scale,
                "w_zero_point": point,
                "out_scale": F(scales[2]),
                "out_zero_point": 7,
            }
            given = [a, facts["x_scale"], np.array(low + 5, a_type), b, b_scale, point]
            ends = [facts["out_scale"], np.array(7, a_type)]
            (want,) = onnx_models.run("QLinearMatMul", [*given, *ends], [a_type])
            np.testing.assert_array_equal(lp.qlinear(a, b.T, runtime="onnxruntime", **facts), want)
            bias = rng.integers(-50, 50, 45).astype(np.int32)
            (want,) = onnx_models.run("QGemm", [*given, bias, *ends], [a_type], domain="com.microsoft")
            np.testing.assert_array_equal(lp.qlinear(a, b.T, bias, runtime="onnxruntime", **facts), want)


# ------------------------------------------------------------------------------------------------------- node cases
FILES = ("cast", "castlike", "quantizelinear", "dequantizelinear", "dynamicquantizelinear")
FILES += ("qlinearmatmul", "qlinearconv", "matmulinteger", "convinteger")


def array(given: Any) -> Array:
    return np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else onnx.numpy_helper.to_array(given)


@cache
def node_cases() -> dict[str, tuple[Any, list[Array], list[Array]]]:
    """Return name -> node, inputs, outputs, of the operators here; the loader of all cases would take much longer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("onnx.backend.test.case.node")
        for name in FILES:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    found = {}
    for case in package._NodeTestCases:
        node = case.model.graph.node
        if len(node) == 1 and node[0].op_type.lower() in FILES and "_expanded" not in case.name:
            (data,) = case.data_sets
            found[case.name] = (node[0], [array(v) for v in data[0]], [array(v) for v in data[1]])
    return found


def cast(node: Any, inputs: list[Array], want: Array) -> Array:
    """Do ONNX's Cast by this package's."""
    at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x = inputs[0]
    if want.dtype.name == "float4_e2m1fn":
        x = np.where(np.isnan(x), 0, x)
    if want.dtype.kind in "iu" or want.dtype.name.startswith(("int", "uint")):
        return np.asarray(lp.cast(x, want.dtype, rounding="toward_zero", overflow="saturate"))
    if want.dtype.name == "float8_e8m0fnu":
        assert at["round_mode"] == b"up"
        return np.asarray(lp.cast(x, want.dtype, rounding="toward_positive", overflow="saturate"))
    policy = None
    if want.dtype.name.startswith("float8"):
        fmt = lp.format(want.dtype)
        policy = "saturate" if at.get("saturate", 1) else "inf" if fmt.has_inf else "nan"
    elif want.dtype.name.startswith("float4"):
        policy = "saturate"
    return np.asarray(lp.cast(x, want.dtype, overflow=policy))


def quantised(node: Any, inputs: list[Array], want: list[Array]) -> list[Array]:
    """Do a node by this package."""
    at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    block = at.get("block_size") or None
    match node.op_type:
        case "Cast" | "CastLike":
            return [cast(node, inputs, want[0])]
        case "QuantizeLinear":
            return [
                lp.runtimes.quantize_linear(
                    inputs[0], inputs[1], *inputs[2:], out=want[0].dtype, axis=at.get("axis", 1), block_size=block
                )
            ]
        case "DequantizeLinear":
            return [lp.runtimes.dequantize_linear(*inputs, axis=at.get("axis", 1), block_size=block)]
        case "DynamicQuantizeLinear":
            return list(lp.runtimes.dynamic_quantize_linear(*inputs))
        case "MatMulInteger":
            return [lp.runtimes.matmul_integer(*inputs)]
        case "ConvInteger":
            return [lp.runtimes.conv_integer(*inputs, padding=at.get("pads", [0])[0])]
        case "QLinearConv":
            x, x_scale, x_zero, w, w_scale, w_zero, scale, zero = inputs
            facts = {"x_scale": x_scale, "x_zero_point": x_zero, "w_scale": w_scale, "w_zero_point": w_zero}
            return [lp.qconv2d(x, w, runtime="onnxruntime", out_scale=scale, out_zero_point=int(zero), **facts)]
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = inputs
    facts = {"x_scale": a_scale, "x_zero_point": a_zero, "w_scale": b_scale, "w_zero_point": b_zero}
    facts |= {"out_scale": scale[0], "out_zero_point": int(zero[0]), "runtime": "onnxruntime"}
    if a.ndim == 2:
        return [lp.qlinear(a, b.T, **facts)]
    return [np.stack([lp.qlinear(one, other.T, **facts) for one, other in zip(a, b, strict=True)])]


def wrapped(inputs: list[Array], want: Array) -> Array:
    """Say which values of a cast to integers lie beyond the range."""
    x = np.trunc(inputs[0].astype(np.float64))
    fmt = lp.format(want.dtype)
    return ~((x >= fmt.min) & (x <= fmt.max))


def test_node_cases() -> None:
    """Run all of them; one list of what differs says more than one test each."""
    compared = beyond = 0
    wrong = {}
    for name, (node, inputs, want) in node_cases().items():
        got = quantised(node, inputs, want)
        for one, other in zip(got, want, strict=True):
            assert one.dtype == other.dtype, name
            left = np.ones(other.shape, bool)
            if node.op_type.startswith("Cast") and other.dtype.name.lstrip("u").startswith("int"):
                left = ~wrapped(inputs, other)
            elif node.op_type.startswith("Cast") and other.dtype.name == "float4_e2m1fn":
                left = ~np.isnan(inputs[0].astype(F))
            compared += int(left.sum())
            beyond += int((~left).sum())
            nan = np.isnan(one.astype(np.float64))
            same = (one == other) | (nan & np.isnan(other.astype(np.float64)))
            if (one.dtype.kind == "f" or "float" in one.dtype.name) and node.op_type != "QuantizeLinear":
                same &= (np.signbit(one.astype(F)) == np.signbit(other.astype(F))) | nan
            if not same[left].all():
                wrong[name] = (inputs[0][left & ~same], one[left & ~same], other[left & ~same])
    assert wrong == {}
    assert len(node_cases()) == 60 + 56 + 13 + 14 + 3 + 8 + 1 + 1 + 2
    assert compared > 1900, (compared, beyond)


# ------------------------------------------------------------------------------------------------- a real int8 model
def find_model() -> Path | None:
    """Return the captcha reader's file, from its directory or from the installed package."""
    if os.environ.get("LOWPREC_DDDDOCR"):
        return Path(os.environ["LOWPREC_DDDDOCR"])
    spec = importlib.util.find_spec("ddddocr")
    return Path(spec.submodule_search_locations[0]) / "common_old.onnx" if spec else None


def test_real_model() -> None:
    """Every quantised node of ddddocr's common_old.onnx, on what comes to it: 21 + 22 + 1 nodes, 0.49 GMAC."""
    path = find_model()
    if path is None:
        pytest.skip("ddddocr is not installed: pip install --no-deps ddddocr==1.6.1, or set LOWPREC_DDDDOCR")
    model = onnx.load(path)
    kinds = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"}
    nodes = [node for node in model.graph.node if node.op_type in kinds]
    known = {v.name for v in model.graph.output}
    wanted = list(dict.fromkeys(n for node in nodes for n in (*node.input, *node.output) if n))
    constants = {v.name: array(v) for v in model.graph.initializer}
    for name in wanted:
        if name not in constants and name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    rng = np.random.default_rng(0)
    running = onnx_models.session(model)
    x = rng.standard_normal((1, 1, 64, 160)).astype(F)
    x[..., 20:44, 10:150] += 3 * np.sign(np.sin(np.arange(140) / 5))
    fetched = [name for name in wanted if name not in constants]
    values = constants | dict(zip(fetched, running.run(fetched, {running.get_inputs()[0].name: x}), strict=True))
    products = 0
    for node in nodes:
        inputs = [values[name] for name in node.input]
        if node.op_type == "DynamicQuantizeLinear":
            got = lp.runtimes.dynamic_quantize_linear(*inputs)
        elif node.op_type == "MatMulInteger":
            got = (lp.runtimes.matmul_integer(*inputs),)
            products += got[0].size * inputs[0].shape[-1]
        else:
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert at["pads"][0] == at["pads"][3]
            how = {"stride": at["strides"], "padding": at["pads"][0], "groups": at["group"]}
            got = (lp.runtimes.conv_integer(*inputs, **how),)
            products += got[0].size * inputs[1][0].size
        for one, name in zip(got, node.output, strict=True):
            assert one.dtype == values[name].dtype
            np.testing.assert_array_equal(one, values[name], err_msg=node.name)
    assert len(nodes) == 44
    assert products > 0.48e9
