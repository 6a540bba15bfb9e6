"""The bridge to torch, product by product: the bits of lowprec.matmul and conv2d, forward and backward."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lowprec as lp

torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra `torch`")
pytestmark = pytest.mark.oracles
nn, F = torch.nn, torch.nn.functional

HOW: dict[str, dict[str, Any]] = {
    "bf16": {"dtype": "bf16"},
    "hopper": {"dtype": "e4m3fn", "accumulator": "nvidia-hopper"},
    "fp16 sums": {"dtype": "fp16", "accumulator": "fp16"},
    "pair": {"dtype": ("e5m2", "e4m3fn"), "accumulator": "bf16"},
}
PAIRS = {"bf16": ("bf16", "bf16"), "hopper": ("e4m3fn", "e4m3fn"), "fp16 sums": ("fp16", "fp16")}
PAIRS["pair"] = ("e5m2", "e4m3fn")


def some(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


def same(got: Any, want: Any) -> None:
    got = got.detach().float().numpy() if isinstance(got, torch.Tensor) else got
    np.testing.assert_array_equal(got, want)


def mul(a: Any, b: Any, formats: Any, how: str) -> Any:
    """Return a product by the package, of tensors or arrays."""
    a, b = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (a, b))
    return lp.matmul(a, b, formats, accumulator=HOW[how].get("accumulator"))


# ------------------------------------------------------------------------------------------------------------- forward
@pytest.mark.parametrize("how", HOW)
def test_linear_and_its_gradients(how: str) -> None:
    """Weights have their own format, gradients that of activations; each is hand-derived."""
    act, weight = PAIRS[how]
    x, layer = some(3, 5, 24).requires_grad_(), nn.Linear(24, 7)
    with lp.torch.emulate(**HOW[how]):
        y = layer(x)
        y.backward(some(3, 5, 7, seed=1))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    rows, grad = x.detach().numpy().reshape(15, 24), some(3, 5, 7, seed=1).numpy().reshape(15, 7)
    accumulator = HOW[how].get("accumulator")
    same(y.reshape(15, 7), lp.linear(rows, w, b, (act, weight), accumulator=accumulator))
    same(x.grad.reshape(15, 24), mul(grad, w, (act, weight), how))
    same(layer.weight.grad, mul(grad.T, rows, (act, act), how))
    same(layer.bias.grad, torch.from_numpy(grad).sum(0).numpy())


OPERATORS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], Callable[..., Any]]] = {
    "mm": (torch.mm, [(3, 20), (20, 4)], lambda m, a, b: m(a, b)),
    "bmm": (torch.bmm, [(2, 3, 20), (2, 20, 4)], lambda m, a, b: m(a, b)),
    "matmul": (torch.matmul, [(2, 1, 3, 20), (5, 20, 4)], lambda m, a, b: m(a, b)),
    "mv": (torch.mv, [(3, 20), (20,)], lambda m, a, b: m(a, b)),
    "dot": (torch.dot, [(20,), (20,)], lambda m, a, b: m(a, b)),
    "vdot": (torch.vdot, [(20,), (20,)], lambda m, a, b: m(a, b)),
    "einsum": (lambda a, b: torch.einsum("bik,jk->bij", a, b), [(2, 3, 20), (4, 20)], lambda m, a, b: m(a, b.T)),
    "tensordot": (
        lambda a, b: torch.tensordot(a, b, 2),
        [(3, 4, 5), (4, 5, 2)],
        lambda m, a, b: m(a.reshape(3, 20), b.reshape(20, 2)),
    ),
    "addmm": (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2),
        [(3, 4), (3, 20), (20, 4)],
        lambda m, c, a, b: m(a, b) * np.float32(2) + c * np.float32(0.5),
    ),
    "addmm, NaN times 0": (
        lambda c, a, b: torch.addmm(c / 0, a, b, beta=0),
        [(3, 4), (3, 20), (20, 4)],
        lambda m, c, a, b: m(a, b),
    ),
    "baddbmm": (torch.baddbmm, [(2, 3, 4), (2, 3, 20), (2, 20, 4)], lambda m, c, a, b: m(a, b) + c),
    "addbmm": (
        torch.addbmm,
        [(3, 4), (2, 3, 20), (2, 20, 4)],
        lambda m, c, a, b: m(a.transpose(1, 0, 2).reshape(3, 40), b.reshape(40, 4)) + c,
    ),
    "addmv": (torch.addmv, [(3,), (3, 20), (20,)], lambda m, c, a, b: m(a, b) + c),
    "_addmm_activation": (
        torch._addmm_activation,
        [(4,), (3, 20), (20, 4)],
        lambda m, c, a, b: np.maximum(m(a, b) + c, 0),
    ),
    "addmm_": (
        lambda c, a, b: c.clone().addmm_(a, b),
        [(3, 4), (3, 20), (20, 4)],
        lambda m, c, a, b: m(a, b) + c,
    ),
    "out": (
        lambda a, b: torch.mm(a, b, out=torch.empty(0)),
        [(3, 20), (20, 4)],
        lambda m, a, b: m(a, b),
    ),
}  # fmt: skip


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str, inference: bool) -> None:
    function, shapes, want = OPERATORS[name]
    tensors = [some(*shape, seed=at) for at, shape in enumerate(shapes)]
    with lp.torch.emulate("e4m3fn", "nvidia-hopper") as e, torch.inference_mode(inference):
        got = function(*tensors)
    same(got, want(lambda a, b: mul(a, b, "e4m3fn", "hopper"), *(t.numpy() for t in tensors)))
    assert e.report.table
    assert not e.report.native


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype: str) -> None:
    """The sum is rounded once to the tensor's dtype; float64 tensors round once to the format."""
    kind = getattr(torch, dtype)
    a, b = some(3, 20).to(kind), some(20, 4).to(kind)
    with lp.torch.emulate("e4m3fn", "exact"):
        got = torch.mm(a, b)
    assert got.dtype == kind
    want = lp.matmul(a.double().numpy(), b.double().numpy(), "e4m3fn", accumulator="exact")
    same(got, torch.from_numpy(want).to(kind).float().numpy())


def test_weight_on_the_left_and_tied_weights() -> None:
    w = nn.Parameter(some(4, 20))
    x = some(20, 3)
    with lp.torch.emulate(("e5m2", "e4m3fn")), torch.no_grad():
        left, cast, view = w @ x, w.double() @ x.double(), w[1:].clone() @ x
        tied = F.linear(x.T, w)
        free = (w * 1) @ x  # computed from a parameter: an activation
    same(left, lp.matmul(w.detach().numpy(), x.numpy(), ("e4m3fn", "e5m2")))
    same(cast, left.numpy())
    same(view, left.numpy()[1:])
    same(tied, left.numpy().T)
    same(free, lp.matmul(w.detach().numpy(), x.numpy(), "e5m2"))


def test_zero_sizes() -> None:
    layer, conv = nn.Linear(4, 3), nn.Conv2d(2, 3, 2)
    for how in ({"dtype": "bf16"}, {"dtype": "int8", "scales": "row", "weights": "int4/2"}, {"dtype": "mxfp4"}):
        with lp.torch.emulate(**how):
            y = layer(torch.zeros(0, 4))
            assert y.shape == (0, 3)
            y.sum().backward()
            assert conv(torch.zeros(0, 2, 4, 4)).shape == (0, 3, 3, 3)
            assert torch.equal(torch.mm(torch.zeros(2, 0), torch.zeros(0, 3)), torch.zeros(2, 3))
            assert torch.bmm(torch.zeros(0, 2, 3), torch.zeros(0, 3, 2)).shape == (0, 2, 2)


# -------------------------------------------------------------------------------------------------------- convolutions
def slow_patches(x: Any, kernel: tuple[int, ...], stride: Any, dilation: Any) -> Any:
    """Return (N, positions..., C, kernel...) of padded images, one loop for each place of the kernel."""
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    found = np.zeros((x.shape[0], *sizes, x.shape[1], *kernel), x.dtype)
    for place in itertools.product(*(range(k) for k in kernel)):
        cut = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in zip(place, dilation, sizes, stride, strict=True)
        )
        found[(..., *place)] = np.moveaxis(x[(slice(None), slice(None), *cut)], 1, -1)
    return found


def slow_convolution(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int, m: Any) -> Any:
    """Return a convolution as products with the matrix of patches of each group."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    each, depth = len(w) // groups, w.shape[1]
    outputs = []
    for g in range(groups):
        rows = slow_patches(padded[:, g * depth : (g + 1) * depth], w.shape[2:], stride, dilation)
        place = rows.shape[: x.ndim - 1]
        rows = rows.reshape(int(np.prod(place)), -1)
        outputs.append(m(rows, w[g * each : (g + 1) * each].reshape(each, -1).T).reshape(*place, each))
    return np.moveaxis(np.concatenate(outputs, -1), -1, 1)


def slow_input_gradient(grad: Any, w: Any, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int, m: Any):
    """Return the gradient of the images: zeros between, flipped kernels, inputs and outputs exchanged."""
    count = grad.ndim - 2
    full = [n + 2 * p - d * (k - 1) for n, p, d, k in zip(shape, padding, dilation, w.shape[2:], strict=True)]
    apart = np.zeros((*grad.shape[:2], *full), grad.dtype)
    cut = tuple(slice(0, (n - 1) * s + 1, s) for n, s in zip(grad.shape[2:], stride, strict=True))
    apart[(slice(None), slice(None), *cut)] = grad
    each = len(w) // groups
    turned = np.concatenate([w[g * each : (g + 1) * each].swapaxes(0, 1) for g in range(groups)])
    turned = np.flip(turned, tuple(range(2, 2 + count)))
    reach = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
    whole = slow_convolution(apart, turned, (1,) * count, reach, dilation, groups, m)
    return whole[(slice(None), slice(None), *(slice(p, p + n) for p, n in zip(padding, shape, strict=True)))]


LAYERS = {
    "1-D": (nn.Conv1d, (4, 6, 3), {"stride": 2, "padding": 1, "dilation": 2}, (2, 4, 17)),
    "2-D in groups": (nn.Conv2d, (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 2}, (2, 4, 9, 8)),
    "2-D depthwise": (nn.Conv2d, (4, 8, 3), {"padding": "same", "groups": 4}, (1, 4, 6, 7)),
    "2-D more padding than kernel": (nn.Conv2d, (3, 2, 2), {"padding": 3}, (1, 3, 4, 5)),
    "2-D steps left over": (nn.Conv2d, (3, 2, 3), {"stride": 3}, (2, 3, 8, 10)),
    "3-D": (nn.Conv3d, (2, 4, 2), {"stride": (1, 2, 1), "dilation": (1, 1, 2), "groups": 2}, (2, 2, 4, 5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_convolution_and_its_gradients(name: str) -> None:
    kind, sizes, options, shape = LAYERS[name]
    layer, x = kind(*sizes, **options), some(*shape).requires_grad_()
    with lp.torch.emulate(**HOW["pair"]):
        y = layer(x)
        grad = some(*y.shape, seed=1)
        y.backward(grad)
    w, count = layer.weight.detach().numpy(), x.ndim - 2
    where = (layer.stride, layer.padding, layer.dilation)
    if layer.padding == "same":
        where = (layer.stride, (1,) * count, layer.dilation)
    bias = layer.bias.detach().numpy().reshape(-1, *([1] * count))
    forward = slow_convolution(
        x.detach().numpy(), w, *where, layer.groups, lambda a, b: mul(a, b, PAIRS["pair"], "pair")
    )
    same(y, lp.round_to(forward + lp.round_to(bias, "bf16"), "bf16"))
    if count == 2:
        how = {"stride": where[0], "padding": where[1], "dilation": where[2], "groups": layer.groups}
        same(y, lp.conv2d(x.detach().numpy(), w, layer.bias.detach().numpy(), dtype=PAIRS["pair"],
                          accumulator="bf16", **how))  # fmt: skip
    back = slow_input_gradient(
        grad.numpy(), w, shape[2:], *where, layer.groups, lambda a, b: mul(a, b, PAIRS["pair"], "pair")
    )
    same(x.grad, back)
    # The weight: grad (outputs, all positions) @ patches.
    padded = np.pad(x.detach().numpy(), [(0, 0), (0, 0), *((p, p) for p in where[1])])
    each, depth, found = layer.out_channels // layer.groups, w.shape[1], []
    for g in range(layer.groups):
        rows = slow_patches(padded[:, g * depth : (g + 1) * depth], w.shape[2:], where[0], where[2])
        left = np.moveaxis(grad.numpy()[:, g * each : (g + 1) * each], 1, 0).reshape(each, -1)
        found.append(mul(left, rows.reshape(left.shape[1], -1), ("e5m2", "e5m2"), "pair"))
    same(layer.weight.grad, np.concatenate(found).reshape(w.shape))


TRANSPOSED = {
    "1-D": (nn.ConvTranspose1d, (4, 6, 3), {"stride": 3, "padding": 1, "output_padding": 2}, (2, 4, 7)),
    "2-D": (
        nn.ConvTranspose2d,
        (4, 6, (3, 2)),
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2},
        (2, 4, 4, 5),
    ),
    "2-D cut": (nn.ConvTranspose2d, (2, 3, 2), {"padding": 2}, (1, 2, 5, 6)),
    "3-D": (nn.ConvTranspose3d, (2, 2, 2), {"stride": 2}, (1, 2, 2, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution_and_its_gradients(name: str) -> None:
    """A transposed convolution is the input gradient of a convolution, and its own input gradient a convolution."""
    kind, sizes, options, shape = TRANSPOSED[name]
    layer, x = kind(*sizes, bias=False, **options), some(*shape).requires_grad_()
    with lp.torch.emulate(**HOW["pair"]):
        y = layer(x)
        grad = some(*y.shape, seed=1)
        y.backward(grad)
    w = layer.weight.detach().numpy()
    where = (layer.stride, layer.padding, layer.dilation)
    m = lambda a, b: mul(a, b, PAIRS["pair"], "pair")  # noqa: E731
    same(y, slow_input_gradient(x.detach().numpy(), w, y.shape[2:], *where, layer.groups, m))
    back = slow_convolution(grad.numpy(), w, *where, layer.groups, m)
    same(x.grad, back[(slice(None), slice(None), *(slice(n) for n in shape[2:]))])
    assert layer.weight.grad.shape == w.shape


# ----------------------------------------------------------------------------------------------------------- attention
def test_attention_by_hand() -> None:
    q, k, v = (some(1, 2, 5, 16, seed=s) for s in range(3))
    with lp.torch.emulate("bf16", "nvidia-ampere"):
        got = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    m = lambda a, b: lp.matmul(a, b, "bf16", accumulator="nvidia-ampere")  # noqa: E731
    scores = torch.from_numpy(m(q.numpy(), k.mT.numpy()) * np.float32(0.25))
    scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
    same(got, m(torch.softmax(scores, -1).numpy(), v.numpy()))


def test_attention_from_cpp_is_the_same() -> None:
    """Scripted code calls the fused kernel, which gives the same bits, and gradients."""

    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    with warnings.catch_warnings():  # torch plans to take scripts away
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(function)
    results = []
    for call in (function, scripted):
        tensors = [some(1, 2, 5, 16, seed=s).requires_grad_() for s in range(3)]
        with lp.torch.emulate("bf16"):
            y = call(*tensors)
            y.backward(some(1, 2, 5, 16, seed=4))
        results.append([y, *(t.grad for t in tensors)])
    for one, other in zip(*results, strict=True):
        same(one, other.detach().numpy())


def test_rows_without_keys_and_sixteen_bits() -> None:
    q = some(1, 1, 3, 8).bfloat16()
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    with lp.torch.emulate("bf16"):
        got = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert got.dtype == torch.bfloat16
    assert got[0, 0, 1].eq(0).all()
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, q, q, attn_mask=mask))
