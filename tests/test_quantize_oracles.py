"""`quantize` against torchao, bitsandbytes, onnxruntime, torch and gfloat: codes and scales equal.

Where an oracle departs from the definition, the test says how, asks for exactly that, and lets nothing else through.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest
import quantize_data

import lowprec as lp
from lowprec import reference
from lowprec._codebook_tables import FP4_BNB, NF4

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
MX = {
    "mxfp8_e4m3": "float8_e4m3fn",
    "mxfp8_e5m2": "float8_e5m2",
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp4": "float4_e2m1fn_x2",
}


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torchao(torch: Any) -> Any:
    """Return the module of microscaling with the functions of NVFP4."""
    logging.disable(logging.WARNING)  # it tells of CUDA extensions that cannot be loaded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchao")
        from torchao.prototype.mx_formats import mx_tensor, nvfp4_tensor
    logging.disable(logging.NOTSET)
    mx_tensor.nvfp4 = nvfp4_tensor
    return mx_tensor


def unpacked(packed: Array, shape: tuple[int, ...], *, high_first: bool) -> Array:
    """Return the two codes of every byte."""
    low, high = packed & 15, packed >> 4
    return np.stack([high, low] if high_first else [low, high], axis=-1).reshape(shape)


def each(scales: Array, size: int) -> Array:
    """Return every block's number once for each of its elements."""
    return np.repeat(scales, size, axis=-1)


# ------------------------------------------------------------------------------------------------------------ torchao
def to_mx(torchao: Any, torch: Any, x: Array, name: str, rule: str) -> tuple[Array, Array]:
    """Return the bytes of the scales and the codes as torchao makes them."""
    kind = getattr(torch, MX[name], MX[name])
    scales, codes = torchao.to_mx(torch.from_numpy(x), kind, 32, torchao.ScaleCalculationMode[rule.upper()])
    found = codes.view(torch.uint8).numpy()
    return scales.view(torch.uint8).numpy(), unpacked(found, x.shape, high_first=False) if name == "mxfp4" else found


@pytest.fixture(scope="module")
def microscaled() -> Array:
    """Return 600,000 numbers, many of them ties, with largest magnitudes at every border of the rules."""
    rng = np.random.default_rng(11)
    tops = [1.0, 1.25, 1.5, 1.75, 1.875, 1.9375, 1.96875]  # powers of two, largest elements, where "even" carries
    borders = quantize_data.around(tops, rng, 32, range(-90, 91, 4))
    return np.concatenate([quantize_data.blocks(rng, 18000, 32), borders, np.zeros((2, 32), np.float32)])


@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil"])
@pytest.mark.parametrize("name", MX)
def test_torchao_microscaling(torchao: Any, torch: Any, microscaled: Array, name: str, rule: str) -> None:
    x = microscaled
    assert x.size > 600_000
    scales, codes = to_mx(torchao, torch, x, name, rule)
    q = lp.quantize(x, name, scale_rule=rule)
    own = q.scale.view(np.uint8)
    odd = np.zeros(own.shape, bool)
    if rule == "rceil":
        # torchao takes ceil(log2(quotient)) of a rounded logarithm: a quotient just above a power of two loses a step.
        quotient = np.abs(x).max(axis=1, keepdims=True) / np.float32(lp.block_format(name).element.max)
        fraction, _ = np.frexp(quotient)
        odd = (fraction > 0.5) & (fraction < 0.5 + 2.0**-18) & (scales == own - 1)
        assert 0 < np.count_nonzero(odd) < 200
    assert np.array_equal(own[~odd], scales[~odd])
    some = ~odd[:, 0]
    assert np.array_equal(q.codes[some], codes[some])


@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil"])
@pytest.mark.parametrize("name", MX)
def test_torchao_at_the_ends(torchao: Any, torch: Any, name: str, rule: str) -> None:
    rng = np.random.default_rng(12)
    tiny = rng.standard_normal((2048, 32)) * np.exp2(rng.integers(-149, -105, (2048, 1)))
    huge = rng.uniform(-1, 1, (256, 32)) * 3.4e38
    x = np.concatenate([tiny, huge]).astype(np.float32)
    scales, codes = to_mx(torchao, torch, x, name, rule)
    q = lp.quantize(x, name, scale_rule=rule)
    assert np.array_equal(q.scale.view(np.uint8), scales)
    least = scales[:, 0] == 0
    assert 1000 < np.count_nonzero(least) < 2000
    assert np.array_equal(q.codes[~least], codes[~least])
    # With the scale 2**-127 torchao divides by 2**-126 instead, and in "rceil" by 1.
    applied = np.ldexp(x[least], 0 if rule == "rceil" else 126)
    assert np.array_equal(codes[least], lp.encode(applied, lp.block_format(name).element, overflow="saturate"))


@pytest.fixture(scope="module")
def fours() -> Array:
    return quantize_data.blocks(np.random.default_rng(13), 34000, 16, spread=6)


@pytest.mark.parametrize(("levels", "top"), [(1, 448.0), (2, 336.0), (2, 960.0), (2, 1000.0)])
def test_torchao_nvfp4(torchao: Any, torch: Any, fours: Array, levels: int, top: float) -> None:
    x = fours * np.float32(0.5 if top < 960 else 1)
    x[np.abs(x) > top] = 0
    x[0, 0] = top
    assert x.size > 500_000
    tensor = torch.from_numpy(x)
    outer = torchao.nvfp4.per_tensor_amax_to_scale(tensor.abs().max()) if levels == 2 else None
    found, packed = torchao.nvfp4.nvfp4_quantize(tensor, 16, outer)
    scales, codes = found.view(torch.uint8).numpy(), unpacked(packed.numpy(), x.shape, high_first=False)
    q = lp.quantize(x, "nvfp4", **({} if levels == 2 else {"tensor_scale": None}))
    assert (q.tensor_scale is None) == (levels == 1)
    if outer is not None:
        assert float(outer) == q.tensor_scale
    # torchao's block scales stop at 2**-6, the smallest normal number; the format goes on to 2**-9.
    own = q.scale.view(np.uint8)
    low = own < 8
    assert np.count_nonzero(low) > 20
    assert (scales[low] == 8).all()
    assert np.array_equal(own[~low], scales[~low])
    # torchao multiplies by a rounded reciprocal: a few quotients next to a tie go the other way.
    one = np.float32(1)
    inverse = (one if outer is None else one / q.tensor_scale) / found.view(torch.uint8).numpy().view(
        q.scale.dtype
    ).astype(np.float32)
    assert np.array_equal(lp.encode(x * each(inverse, 16), "e2m1fn", overflow="saturate"), codes)
    differ = (q.codes != codes) & ~each(low, 16)
    assert np.count_nonzero(differ) <= 100
    assert differ.any() == (top == 960.0)
    exact = x.astype(np.float64) / each(q.scale.astype(np.float64) * float(1 if outer is None else outer), 16)
    magnitudes = np.abs(exact[differ])
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert (np.abs(magnitudes[:, None] - ties).min(axis=1, initial=9) < magnitudes * 2.0**-22).all()


# ------------------------------------------------------------------------------------------------------- bitsandbytes
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize(("name", "kind", "table"), [("nf4", "nf4", NF4), ("fp4_bnb", "fp4", FP4_BNB)])
def test_bitsandbytes(torch: Any, name: str, kind: str, table: tuple[float, ...], size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("bitsandbytes")
        import bitsandbytes.functional as bnb
    rng = np.random.default_rng(size)
    values = np.array(table, np.float32)
    order = np.argsort(values, kind="stable")
    halves = (values[order][:-1] + values[order][1:]) / np.float32(2)
    points = np.concatenate([halves, np.nextafter(halves, np.float32(2)), np.nextafter(halves, np.float32(-2)), values])
    ties = rng.choice(points, (80_000 // size, size)) * np.exp2(rng.integers(-10, 10, (80_000 // size, 1)))
    ties[:, 0] = np.exp2(np.round(np.log2(np.abs(ties).max(axis=1))))  # a scale of 1 for most
    plain = quantize_data.blocks(rng, 540_000 // size, size, spread=20)
    x = np.concatenate([plain, ties]).astype(np.float32)
    packed, state = bnb.quantize_4bit(torch.from_numpy(x), blocksize=size, quant_type=kind)
    codes = unpacked(packed.numpy(), x.shape, high_first=True)
    absmax = state.absmax.numpy().reshape(-1, 1)
    q = lp.quantize(x, name, block_size=size)
    assert x.size > 600_000
    assert np.array_equal(q.scale, absmax)
    assert np.array_equal(q.codes, codes)
    # The oracle reads our codes as we do.
    again = values[q.codes] * absmax
    assert np.array_equal(again, q.dequantize())


# -------------------------------------------------------------------------------------------------------- onnxruntime
def quantize_linear(x: Array, scale: Array, zero: Array, fmt: str, axis: int, block: int) -> Array:
    """Return the integers of QuantizeLinear, run by onnxruntime."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    from onnx import helper

    kind = getattr(onnx.TensorProto, fmt.upper())
    attributes = {"axis": axis} | ({"block_size": block} if block else {})
    parts = [
        helper.make_tensor("s", onnx.TensorProto.FLOAT, scale.shape, scale.ravel().tolist()),
        helper.make_tensor("z", kind, zero.shape, zero.ravel().tolist()),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
        helper.make_node("Cast", ["q"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(x.shape))],
        parts,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("block", [0, 32])
@pytest.mark.parametrize("fmt", ["int8", "uint8", "int4", "uint4"])
def test_onnxruntime(fmt: str, block: int) -> None:
    rng = np.random.default_rng(21)
    element = lp.format(fmt)
    x = quantize_data.blocks(rng, 2048, 256, spread=8)
    shape = (len(x), 256 // block) if block else (len(x),)
    # Generic scales, and powers of two, where halves are exact; odd zero points too.
    scale = np.where(rng.random(shape) < 0.5, np.exp2(rng.integers(-6, 3, shape)), rng.uniform(0.001, 2, shape))
    scale = scale.astype(np.float32)
    zero = rng.integers(int(element.min), int(element.max) + 1, shape)
    want = quantize_linear(x, scale, zero, fmt, 1 if block else 0, block)
    q = lp.quantize(
        x,
        fmt,
        axis=-1 if block else 0,
        block_size=block or None,
        symmetric=False,
        scale=scale,
        zero_point=zero,
    )
    assert x.size > 500_000
    assert np.array_equal(lp.decode(q.codes, fmt), want)
    assert np.array_equal(q.scale, scale)


# -------------------------------------------------------------------------------------------------------------- torch
@pytest.mark.parametrize(("scale", "zero"), [(0.125, 7), (0.25, -4), (0.3, 3), (0.0123456, 0)])
def test_torch_fake_quantize(torch: Any, scale: float, zero: int) -> None:
    x = quantize_data.blocks(np.random.default_rng(22), 20_000, 32, spread=6)
    step = np.float32(scale)
    want = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(step), zero, -128, 127).numpy()
    q = lp.quantize(x, "int8", symmetric=False, scale=step, zero_point=zero)
    got = q.dequantize()
    assert x.size > 600_000
    # torch multiplies by 1 / scale: exact for powers of two; else quotients next to a half may go the other way.
    differ = got != want
    exact = x.astype(np.float64) / float(step)
    assert (np.abs(np.abs(exact - np.trunc(exact)) - 0.5)[differ] <= np.abs(exact[differ]) * 2.0**-22).all()
    assert np.count_nonzero(differ) <= (0 if scale in (0.125, 0.25) else x.size // 100)
    whole = np.clip(np.rint(x * (np.float32(1) / step)) + zero, -128, 127) - zero
    assert np.array_equal(whole.astype(np.float32) * step, want)


@pytest.mark.parametrize(("scale", "zero"), [(0.125, 8), (0.125, 7), (0.3, 2)])
def test_torch_quantize_per_tensor(torch: Any, scale: float, zero: int) -> None:
    x = quantize_data.blocks(np.random.default_rng(23), 20_000, 32, spread=6)
    step = np.float32(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = torch.quantize_per_tensor(torch.from_numpy(x), float(step), zero, torch.quint8).int_repr().numpy()
    q = lp.quantize(x, "uint8", symmetric=False, scale=step, zero_point=zero)
    # torch rounds after adding the zero point: ties go the other way where it is odd.
    inverse = np.float32(1) / step
    assert np.array_equal(np.clip(np.rint(x * inverse + np.float32(zero)), 0, 255), want)
    differ = q.codes != want
    exact = x.astype(np.float64) / float(step)
    off = np.abs(np.abs(exact - np.trunc(exact)) - 0.5)
    assert (off[differ] <= (np.abs(exact[differ]) + zero) * 2.0**-22).all()
    if scale == 0.125:
        assert differ.any() == (zero % 2 == 1)
        # Every tie in range, and nothing else: rint(t + 7) = rint(t) + 7 only where t is no tie.
        inside = (exact > -zero) & (exact < 255 - zero)
        assert np.array_equal(differ & inside, (off == 0) & inside & (zero % 2 == 1))


# ------------------------------------------------------------------------------------------------------------- gfloat
def test_gfloat_mxint8() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("gfloat")
        from gfloat import block as blocks
        from gfloat import formats
    rng = np.random.default_rng(24)
    x = quantize_data.blocks(rng, 512, 32, spread=20)
    back = lp.quantize(x, "mxint8").dequantize(np.float64)
    for row, got in zip(x.astype(np.float64), back, strict=True):
        if not row.any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = blocks.quantize_block(formats.format_info_mxint8, row, blocks.compute_scale_amax)
        # The code -128 is optional in the specification (5.3.4); gfloat uses it, this package does not.
        top = 2.0 ** reference.scale_exponent(float(np.abs(row).max()), "int8", "floor", unit=2.0**-6)
        assert np.array_equal(np.maximum(want, -top * 127 / 64), got)
