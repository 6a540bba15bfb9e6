"""torch's quantised layers and quantisers, engine by engine, bit for bit.

The scales make ties, and biases lie on fractions of the product of the scales, where every step's rounding shows.
Left out: activations of 8 bits beside int8 weights, which FBGEMM adds in 16 bits that saturate on CPUs without VNNI, so
activations have 7 bits; and oneDNN's grouped convolutions that are not depthwise, whose steps differ by shape.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import lowprec as lp

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]
F = np.float32
torch: Any = pytest.importorskip("torch")
ENGINES = ("fbgemm", "x86", "qnnpack", "onednn")
SCALES = [
    (0.25, 0.25, 1.0),
    (1 / 16, 1 / 32, 0.25),
    (1.75, 1.0, 1.0),
    (1.4, 0.5, 0.5),
    (0.7, 0.3, 0.21),
    (0.1, 0.3, 0.6),
]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Any:
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this build of torch has no {request.param}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


def tensors(x: Array, w: Array, facts: dict[str, Any]) -> tuple[Any, Any]:
    """Return quantised tensors of operands."""
    scale = np.asarray(facts["w_scale"], np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), facts["x_scale"], facts["x_zero_point"])
        if not scale.ndim:
            return one, torch._make_per_tensor_quantized_tensor(torch.from_numpy(w), float(scale), 0)
        zeros = torch.zeros(len(w), dtype=torch.long)
        return one, torch._make_per_channel_quantized_tensor(torch.from_numpy(w), torch.from_numpy(scale), zeros, 0)


def random_facts(
    rng: np.random.Generator, scales: Any, outputs: int, per_channel: bool
) -> tuple[dict[str, Any], Array]:
    """Return scales and zero points, and a bias."""
    steps = np.resize(np.array([0.5, 0.75, 1, 1.25, 1.5, 0.1, 0.3]), outputs) if per_channel else np.ones(())
    w_scale = (F(scales[1]) * steps.astype(F)).astype(F)
    facts = {
        "x_scale": float(F(scales[0])),
        "x_zero_point": 5,
        "w_scale": w_scale if per_channel else float(w_scale),
        "out_scale": float(F(scales[2])),
        "out_zero_point": int(rng.choice([120, 121])),
    }
    bias = (rng.integers(-80, 80, outputs) * 0.25 * scales[0] * np.broadcast_to(w_scale, outputs)).astype(F)
    return facts, bias


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_linear(engine: str, per_channel: bool, activation: str | None) -> None:
    rng = np.random.default_rng(0)
    run = torch.ops.quantized.linear if activation is None else torch.ops.quantized.linear_relu
    for scales in SCALES:
        for outputs in (45, 48):
            x = rng.integers(2, 9, (300, 32)).astype(np.uint8)
            w = rng.integers(-3, 4, (outputs, 32)).astype(np.int8)
            facts, bias = random_facts(rng, scales, outputs, per_channel)
            one, other = tensors(x, w, facts)
            for b in (bias, None):
                packed = torch.ops.quantized.linear_prepack(other, None if b is None else torch.from_numpy(b))
                want = run(one, packed, facts["out_scale"], facts["out_zero_point"]).int_repr().numpy()
                got = lp.qlinear(x, w, b, runtime=f"torch-{engine}", activation=activation, **facts)
                np.testing.assert_array_equal(got, want, err_msg=f"{scales} {b is None}")


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn"], indirect=True)
@pytest.mark.parametrize("groups", [1, 4, 20])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(engine: str, groups: int, per_channel: bool) -> None:
    rng = np.random.default_rng(1)
    for scales in SCALES:
        x = rng.integers(2, 9, (2, 20, 9, 10)).astype(np.uint8)
        w = rng.integers(-3, 4, (20, 20 // groups, 3, 3)).astype(np.int8)
        facts, bias = random_facts(rng, (*scales[:2], scales[2] * (4 if groups < 20 else 1)), 20, per_channel)
        one, other = tensors(x, w, facts)
        how = {"stride": 1, "padding": 1, "groups": groups}
        if engine == "onednn" and groups == 4:
            with pytest.raises(ValueError, match="conv_grouped"):
                lp.qconv2d(x, w, bias, runtime="torch-onednn", **how, **facts)
            return
        packed = torch.ops.quantized.conv2d_prepack(other, torch.from_numpy(bias), [1, 1], [1, 1], [1, 1], groups)
        want = torch.ops.quantized.conv2d(one, packed, facts["out_scale"], facts["out_zero_point"]).int_repr().numpy()
        got = lp.qconv2d(x, w, bias, runtime=f"torch-{engine}", **how, **facts)
        np.testing.assert_array_equal(got, want, err_msg=str(scales))


def test_int_mm() -> None:
    rng = np.random.default_rng(2)
    for shape in ((17, 64, 32), (33, 1000, 40), (1, 8, 8)):
        a, b = (rng.integers(-128, 128, s).astype(np.int8) for s in (shape[:2], shape[1:]))
        want = torch._int_mm(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_array_equal(lp.runtimes.matmul_integer(a, b), want)


@pytest.mark.parametrize("out", ["uint8", "int8"])
def test_quantize_per_tensor(out: str) -> None:
    rng = np.random.default_rng(3)
    kind = torch.quint8 if out == "uint8" else torch.qint8
    for scale in (0.1, 0.25, 1 / 3, 0.037, 1.3):
        for zero in (0, 3, 7):
            ties = (np.arange(-400, 400) + 0.5) * F(scale)
            near = [np.nextafter(ties, F(s)) for s in (-1e9, 1e9)]
            x = np.concatenate([ties, *near, rng.standard_normal(100_003) * 60 * scale]).astype(F)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                want = torch.quantize_per_tensor(torch.from_numpy(x), float(F(scale)), zero, kind).int_repr().numpy()
            got = lp.runtimes.quantize(x, scale, zero, out=out, runtime="torch-fbgemm")
            np.testing.assert_array_equal(got, want)


def test_fake_quantize() -> None:
    """``(clip(rint(x * (1 / scale)) + zero) - zero) * scale``: XNNPACK's codes, and ONNX's numbers."""
    rng = np.random.default_rng(4)
    for scale in (0.1, 0.25, 1 / 3, 0.037):
        for zero in (0, 3):
            ties = (np.arange(-400, 400) + 0.5) * F(scale)
            x = np.concatenate([ties, rng.standard_normal(100_000) * 60 * scale]).astype(F)
            step = float(F(scale))
            want = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), step, zero, -128, 127).numpy()
            codes = lp.runtimes.quantize(x, scale, zero, runtime="even_reciprocal")
            np.testing.assert_array_equal(lp.runtimes.dequantize_linear(codes, F(scale), np.int8(zero)), want)
