"""Fake quantisers and weights kept in few bits: the numbers of lowprec.quantize and round_to, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lowprec as lp

torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra `torch`")
pytestmark = pytest.mark.oracles


def some(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


HOW: list[tuple[str, dict[str, Any]]] = [
    ("int8", {}),
    ("int4", {"axis": 0}),
    ("uint4", {"axis": 1, "block_size": 16, "symmetric": False}),
    ("e4m3fn", {"scale": 1.0}),
    ("e2m1fn", {"scale": 0.25}),
    ("mxfp4", {}),
    ("nvfp4", {}),
    ("nf4", {}),
    ("q4_1", {}),
    ("bf16", {"scale": 1.0, "rounding": "stochastic", "rng": 7}),
]


@pytest.mark.parametrize(("fmt", "how"), HOW, ids=lambda each: str(each)[:30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_fake_quantize_has_the_bits_of_quantize(fmt: str, how: dict[str, Any], dtype: str) -> None:
    x = some(4, 64).to(getattr(torch, dtype)).requires_grad_()
    y = lp.torch.fake_quantize(x, fmt, **how)
    want = lp.quantize(x.detach().float().numpy() if dtype != "float64" else x.detach().numpy(), fmt, **how)
    assert y.dtype == x.dtype
    assert torch.equal(y, torch.from_numpy(want.dequantize()).to(x.dtype))
    y.sum().backward()
    assert set(x.grad.unique().tolist()) <= {0.0, 1.0}
    assert x.grad.mean() > 0.9 or fmt == "e2m1fn"


def test_gradient_stops_where_numbers_are_clipped() -> None:
    x = torch.tensor([-7.0, -6.0, -1.1, 0.0, 5.9, 6.0, 6.1]).requires_grad_()
    lp.torch.fake_quantize(x, "e2m1fn", scale=1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    x = torch.tensor([-1.0, 0.0, 5.0, 15.0, 16.0, -0.001]).requires_grad_()
    lp.torch.fake_quantize(x, "uint4", scale=1.0, zero_point=0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]
    x = torch.tensor([-128.0, -127.0, 127.0, 127.4]).requires_grad_()
    lp.torch.fake_quantize(x, "int8", scale=1.0).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_observed_scale_is_kept_and_saved() -> None:
    quantizer = lp.torch.FakeQuantize("int8", scale="absmax", axis=0)
    x, wide = some(3, 8), some(3, 8) * 10
    with pytest.raises(RuntimeError, match="training mode"):
        quantizer.eval()(x)
    quantizer.train()
    assert torch.equal(quantizer(x), torch.from_numpy(lp.quantize(x.numpy(), "int8", axis=0).dequantize()))
    quantizer.eval()
    clipped = quantizer(wide)
    scale = lp.quantize(x.numpy(), "int8", axis=0).scale
    assert torch.equal(clipped, torch.from_numpy(lp.quantize(wide.numpy(), "int8", axis=0, scale=scale).dequantize()))
    other = lp.torch.FakeQuantize("int8", scale="absmax", axis=0).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(wide), clipped)
    quantizer.train().enable_observer(False)
    assert torch.equal(quantizer(wide), clipped)
    assert torch.equal(quantizer.enable_fake_quant(False)(wide), wide)


def test_learned_step_has_the_gradient_of_lsq() -> None:
    quantizer = lp.torch.FakeQuantize("int4", scale="lsq")
    x = some(50).requires_grad_()
    quantizer(x)
    start = quantizer.scale.item()
    assert start == pytest.approx(2 * x.abs().mean().item() / np.sqrt(7))
    y = quantizer(x)
    grad = some(50, seed=1)
    y.backward(grad)
    values = x.detach().double() / start
    inside = values.abs() <= 7
    codes = values.round().clamp(-7, 7)
    slope = torch.where(inside, codes - values, codes)
    assert quantizer.scale.grad.item() == pytest.approx((slope * grad).sum().item() / np.sqrt(50 * 7), rel=1e-4)
    assert torch.equal(x.grad, grad * inside)
    rows = lp.torch.FakeQuantize("e4m3fn", scale="lsq", axis=0, channels=3)
    rows(some(3, 8)).sum().backward()
    assert rows.scale.grad.shape == (3,)


def test_quantisation_aware_training_learns() -> None:
    """With a gradient that goes straight through, weights that are only seen in 4 bits fit all the same."""
    x, truth = some(256, 16), some(8, 16, seed=3)
    w = torch.nn.Parameter(some(8, 16, seed=5) * 0.1)
    quantizer = lp.torch.FakeQuantize("int4", axis=0)
    optimizer = torch.optim.Adam([w], lr=0.1)
    losses = []
    for _ in range(40):
        loss = (x @ quantizer(w).T - x @ truth.T).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"fmt": "int9x"}, ValueError, "int9x"),
        ({"scale": "lsqq"}, ValueError, "'lsq'"),
        ({"scale": -1.0}, ValueError, "positive"),
        ({"scale": None}, TypeError, "`scale`"),
        ({"scale": "lsq", "axis": 0}, ValueError, "`channels`"),
        ({"scale": "lsq", "symmetric": False}, ValueError, "`symmetric`"),
        ({"fmt": "mxfp4", "scale": "mse"}, ValueError, "dynamic"),
        ({"channels": 3}, ValueError, "`channels`"),
    ],
)
def test_bad_quantisers(arguments: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        lp.torch.FakeQuantize(**({"fmt": "int8"} | arguments))


def test_bad_tensors() -> None:
    with pytest.raises(TypeError, match="must be a tensor"):
        lp.torch.fake_quantize(np.ones(3), "int8")
    with pytest.raises(TypeError, match="floats"):
        lp.torch.fake_quantize(torch.ones(3, dtype=torch.int64), "int8")
    with pytest.raises(ValueError, match="CPU"):
        lp.torch.fake_quantize(torch.ones(3, device="meta"), "int8")
    assert lp.torch.fake_quantize(torch.zeros(0, 3), "int8").shape == (0, 3)


# ------------------------------------------------------------------------------------------------------ master weights
def test_weights_stall_in_bf16_and_stochastic_rounding_mends_it() -> None:
    found = {}
    for rounding in ("nearest_even", "stochastic"):
        w = torch.nn.Parameter(torch.ones(4096))
        optimizer = torch.optim.SGD([w], lr=1e-4)
        with lp.torch.master_weights(optimizer, "bf16", rounding=rounding, seed=1) as handle:
            for _ in range(100):
                w.grad = torch.ones(4096)
                optimizer.step()
        assert handle.steps == 100
        assert torch.equal(w, w.bfloat16().float())
        found[rounding] = w.mean().item()
    assert found["nearest_even"] == 1
    assert found["stochastic"] == pytest.approx(0.99, abs=5e-4)


def test_master_weights_round_once_per_step_and_the_state_too() -> None:
    w = torch.nn.Parameter(some(5, 7))
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    start = torch.from_numpy(lp.round_to(w.detach().numpy(), "e4m3fn"))
    handle = lp.torch.master_weights(optimizer, "e4m3fn", state="bf16")
    assert torch.equal(w, start)
    w.grad = some(5, 7, seed=1)
    optimizer.step()
    assert torch.equal(w, torch.from_numpy(lp.round_to((start - 0.1 * some(5, 7, seed=1)).numpy(), "e4m3fn")))
    assert torch.equal(optimizer.state[w]["momentum_buffer"], some(5, 7, seed=1).bfloat16().float())
    handle.remove()
    optimizer.step()
    assert not torch.equal(w, torch.from_numpy(lp.round_to(w.detach().numpy(), "e4m3fn")))


def test_bad_master_weights() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    with pytest.raises(TypeError, match="`optimizer`"):
        lp.torch.master_weights([torch.ones(3)])
    with pytest.raises(ValueError, match="`format`"):
        lp.torch.master_weights(optimizer, "bf17")
    with pytest.raises(ValueError, match="stochastic"):
        lp.torch.master_weights(optimizer, rounding="stochastik")
    with pytest.raises(TypeError, match="float32"):
        lp.torch.master_weights(torch.optim.SGD([torch.nn.Parameter(torch.ones(3).bfloat16())], lr=0.1))


# ------------------------------------------------------------------------------------------------------- documentation
def test_examples_and_docstrings() -> None:
    import importlib
    import inspect
    import pkgutil

    from test_docs import doctest, failures
    from test_public_api import faults

    import lowprec.torch as bridge

    said = ""
    for info in pkgutil.walk_packages(bridge.__path__, "lowprec.torch."):
        found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(info.name))
        said += "".join(failures(test) for test in found if test.examples)
    assert said == ""
    assert list(bridge.__all__) == sorted(bridge.__all__)
    functions = [name for name in bridge.__all__ if inspect.isfunction(getattr(bridge, name))]
    assert [fault for name in functions for fault in faults(name, getattr(bridge, name))] == []
