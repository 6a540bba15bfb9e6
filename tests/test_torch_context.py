"""emulate as a context: layers and rules, what it leaves alone, what it refuses, what it reports."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import lowprec as lp

torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra `torch`")
pytestmark = pytest.mark.oracles
nn, F = torch.nn, torch.nn.functional


def some(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32))


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.Sequential(nn.Tanh(), nn.Linear(16, 16)), nn.Linear(16, 4))


def rows(e: Any) -> dict[tuple[str, str], str]:
    return {(row["layer"], row["phase"]): row["arithmetic"].split(",")[0] for row in e.report.table}


def array(tensor: Any) -> Any:
    return tensor.detach().numpy()


# --------------------------------------------------------------------------------------------------- layers and rules
def test_rules_by_name_forward_and_backward() -> None:
    net, x = model(), some(3, 16)
    rules = {"1.*": {"dtype": "e4m3fn", "gradients": "e5m2"}, "2": None, "*": "fp16"}
    with lp.torch.emulate("bf16", rules=rules) as e:
        y = net(x)
        y.sum().backward()
    found = rows(e)
    assert found[("0", "forward")] == found[("0", "backward")] == "fp16"
    assert found[("1.1", "forward")] == "e4m3fn"
    assert found[("1.1", "backward")] == "e5m2@e4m3fn"
    assert ("2", "forward") not in found
    assert {row["layer"] for row in e.report.native} == {"2"}
    inner = torch.tanh(torch.from_numpy(lp.linear(x.numpy(), *map(array, net[0].parameters()), "fp16")))
    middle = torch.from_numpy(lp.linear(inner.numpy(), *map(array, net[1][1].parameters()), "e4m3fn"))
    assert torch.equal(y, net[2](middle))
    ones = torch.ones(3, 4) @ net[2].weight  # torch's own
    want = lp.matmul(array(ones).T, inner.numpy(), ("e5m2", "e4m3fn"))
    np.testing.assert_array_equal(net[1][1].weight.grad, want)


def test_pattern_of_a_module_holds_for_what_is_inside() -> None:
    with lp.torch.emulate("bf16", skip="1") as e, torch.no_grad():
        model()(some(3, 16))
    assert [row["layer"] for row in e.report.table] == ["0", "2"]
    assert [row["layer"] for row in e.report.native] == ["1.1"]


def test_pattern_that_fits_nothing_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"got '1\.3', which fits none; there are '1\.1'"), lp.torch.emulate(
        "bf16", skip=["1.3"]
    ):  # fmt: skip
        model()(some(3, 16))


def test_gradients_apart_and_backward_of_its_own() -> None:
    layer, x, grad = nn.Linear(16, 8, bias=False), some(5, 16).requires_grad_(), some(5, 8, seed=1)
    w = array(layer.weight)
    own = lp.nn.Arithmetic("bf16", "fp16", scales="none")
    for options, to_x, to_w in (
        ({"gradients": {"input": "e5m2", "weight": "fp16"}}, ("e5m2", "e4m3fn"), ("fp16", "e4m3fn")),
        ({"backward": {"dtype": "bf16"}}, "bf16", "bf16"),
        ({"backward": own, "gradients": "e5m2"}, ("e5m2", "bf16"), ("e5m2", "bf16")),
    ):
        layer.weight.grad = x.grad = None
        with lp.torch.emulate("e4m3fn", **options):
            layer(x).backward(grad)
        sums = {"accumulator": "fp16"} if "gradients" in options and "backward" in options else {}
        np.testing.assert_array_equal(x.grad, lp.matmul(grad.numpy(), w, to_x, **sums))
        np.testing.assert_array_equal(layer.weight.grad, lp.matmul(grad.numpy().T, array(x), to_w, **sums))
    layer.weight.grad = None
    with lp.torch.emulate("e4m3fn", backward="native") as e:
        layer(x).backward(grad)
    assert torch.equal(layer.weight.grad, grad.T @ x)
    assert {row["why"] for row in e.report.native} == {"backward='native'"}


@pytest.mark.parametrize("scales", ["none", "tensor", "row", "power_of_two"])
@pytest.mark.parametrize("dtype", ["int8", "e4m3fn", "mxfp8_e4m3"])
def test_scales_are_those_of_arithmetic(dtype: str, scales: str) -> None:
    layer, x, grad = nn.Linear(32, 8), some(5, 32), some(5, 8, seed=1)
    with lp.torch.emulate(dtype, scales=scales):
        y = layer(x)
        y.backward(grad)
    how = lp.nn.Arithmetic(dtype, scales=scales)
    np.testing.assert_array_equal(array(y), how.linear(x.numpy(), array(layer.weight), array(layer.bias)))
    np.testing.assert_array_equal(layer.weight.grad, how.linear(grad.numpy().T, x.numpy().T))


def test_weights_are_stored_once_until_they_change() -> None:
    """Forward and backward multiply the stored weight; it is made again when it is written to, also through .data."""
    calls = []

    def halves(w: Any, calibration: Any) -> Any:
        calls.append(w.shape)
        assert calibration.shape == (5, 16)
        return np.trunc(w * 2) / 2

    layer, x = nn.Linear(16, 8, bias=False), some(5, 16).requires_grad_()
    with torch.no_grad():
        layer.weight.mul_(10)
    with lp.torch.emulate("bf16", weights=halves):
        for _ in range(2):
            x.grad = None
            y = layer(x)
            y.backward(torch.ones(5, 8))
        stored = np.trunc(array(layer.weight) * 2) / 2
        assert calls == [(8, 16)]
        np.testing.assert_array_equal(array(y), lp.matmul(array(x), stored.T, "bf16"))
        np.testing.assert_array_equal(x.grad, lp.matmul(np.ones((5, 8), np.float32), stored, "bf16"))
        layer.weight.data.add_(1)
        y = layer(x)
        assert len(calls) == 2
    np.testing.assert_array_equal(array(y), lp.matmul(array(x), (np.trunc(array(layer.weight) * 2) / 2).T, "bf16"))


@pytest.mark.parametrize("weights", ["int4/8", "gptq:int4/16", "nf4"])
def test_weight_rules_and_activations(weights: str) -> None:
    layer, conv, x = nn.Linear(64, 8), nn.Conv2d(4, 8, 4), some(70, 64)
    how = lp.nn.Arithmetic("bf16", weights=weights, activations="int8", scales="none")
    with lp.torch.emulate(how):
        y = layer(x)
        y.backward(torch.ones_like(y))
        assert conv(some(2, 4, 9, 9)).shape == (2, 8, 6, 6)
    ready = how.prepare(array(layer.weight), x.numpy())
    np.testing.assert_array_equal(array(y), how.linear(x.numpy(), ready, array(layer.bias)))
    rounded = how.activations.rounded(x.numpy())
    np.testing.assert_array_equal(layer.weight.grad, lp.matmul(np.ones((8, 70), np.float32), rounded, "bf16"))


def test_weights_that_an_inner_context_writes_to_are_made_again() -> None:
    layer, x = nn.Linear(16, 8, bias=False), some(5, 16)
    how = lp.nn.Arithmetic("bf16", weights="int4/8", scales="none")
    with lp.torch.emulate(how), torch.no_grad():
        layer(x)
        with lp.torch.emulate("fp16"):
            layer.weight.data.mul_(-3)
        y = layer(x)
    np.testing.assert_array_equal(array(y), how.linear(x.numpy(), array(layer.weight)))


def test_stochastic_rounding_draws_anew_and_repeats() -> None:
    layer, x = nn.Linear(64, 8), some(5, 64)
    results = []
    for _ in range(2):
        with lp.torch.emulate("e4m3fn", rounding="stochastic", seed=3), torch.no_grad():
            results.append([layer(x), layer(x)])
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][0], results[0][1])


# ---------------------------------------------------------------------------------------------- fp32 is torch's, nearly
NETS = {
    "mlp": lambda: (nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.Linear(30, 5)), some(7, 20)),
    "cnn": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, groups=4),
            nn.Flatten(), nn.Linear(72, 5),
        ),
        some(2, 3, 8, 8),
    ),
    "encoder": lambda: (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True), 2),
        some(2, 5, 16),
    ),
    "lstm": lambda: (nn.LSTM(5, 6, 2, bidirectional=True), some(4, 2, 5)),
    "bilinear": lambda: (nn.Bilinear(6, 6, 3), some(4, 6)),
}  # fmt: skip


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_fp32_is_torch_within_rounding(name: str, train: bool) -> None:
    torch.manual_seed(0)
    net, x = NETS[name]()
    net.train(train)
    results = []
    for emulated in (False, True):
        net.zero_grad()
        e = lp.torch.emulate("fp32", "fp32") if emulated else None
        with e if e is not None else torch.enable_grad():
            y = net(x, x) if name == "bilinear" else net(x)
            y = y[0] if isinstance(y, tuple) else y
            (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in net.parameters())])
    assert e is not None
    assert not e.report.native
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(one.abs().max()) + 1e-12)


# ------------------------------------------------------------------------------------------------------------- nesting
def test_inner_context_holds_and_outer_goes_on() -> None:
    net, x = model(), some(3, 16)
    with lp.torch.emulate("e4m3fn") as outer:
        with lp.torch.emulate("bf16", skip="0") as inner, torch.no_grad():
            net(x)
        assert not outer.report.table
        with torch.no_grad():
            net(x)
    assert rows(inner) == {("1.1", "forward"): "bf16", ("2", "forward"): "bf16"}
    assert [row["calls"] for row in outer.report.table] == [1, 1, 1]


def state() -> tuple[Any, ...]:
    from torch.nn.modules import module
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    return (
        len(module._global_forward_hooks), len(module._global_forward_pre_hooks),
        len(module._global_forward_hooks_always_called),
        _get_current_dispatch_mode_stack(), torch.overrides._get_current_function_mode_stack(),
        torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled(),
    )  # fmt: skip


def test_exceptions_leave_nothing_behind() -> None:
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyError("on purpose")

    before, net, x = state(), model(), some(3, 16)
    for failing in (nn.Sequential(net, Fails()), nn.Sequential(nn.LSTM(7, 3))):
        with pytest.raises((KeyError, RuntimeError)), lp.torch.emulate("bf16"):
            failing(x)
        assert state() == before
    e = lp.torch.emulate("bf16")
    with e, pytest.raises(KeyError):
        nn.Sequential(net, Fails())(x)
    with e, torch.no_grad():  # layers have their own names again
        net(x)
        with pytest.raises(RuntimeError, match="make another one"):
            e.__enter__()
    assert {row["layer"] for row in e.report.table} == {"0.0", "0.1.1", "0.2", "0", "1.1", "2"}
    assert state() == before


def test_other_threads_are_not_emulated() -> None:
    layer, x, found = nn.Linear(16, 4), some(3, 16), []
    with lp.torch.emulate("e4m3fn") as e:
        thread = threading.Thread(target=lambda: found.append(layer(x)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], layer(x))
    assert not e.report.table


# ----------------------------------------------------------------------------------- torch's other ways to call things
def test_checkpoint_names_its_layers() -> None:
    from torch.utils.checkpoint import checkpoint

    net, x = model(), some(3, 16).requires_grad_()
    grads = []
    for run in (lambda: net(x), lambda: checkpoint(net, x, use_reentrant=False)):
        net.zero_grad()
        with lp.torch.emulate("e4m3fn", gradients="e5m2") as e:
            run().sum().backward()
        assert {row["layer"] for row in e.report.table} == {"0", "1.1", "2"}
        assert all("e5m2" in row["arithmetic"] for row in e.report.table if row["phase"] == "backward")
        grads.append([p.grad.clone() for p in net.parameters()])
    assert all(map(torch.equal, *grads))


def test_checkpointed_attention() -> None:
    from torch.utils.checkpoint import checkpoint

    def function(q: Any) -> Any:
        return F.scaled_dot_product_attention(q, q, q)

    grads = []
    for again in (False, True):
        q = some(1, 2, 5, 16).requires_grad_()
        with lp.torch.emulate("bf16"):
            (checkpoint(function, q, use_reentrant=False) if again else function(q)).square().sum().backward()
        grads.append(q.grad)
    assert torch.equal(*grads)


def test_torch_func_and_autocast() -> None:
    layer, x = nn.Linear(16, 4), some(3, 16)
    params = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(p: Any, x: Any) -> Any:
        return torch.func.functional_call(layer, p, (x,)).sum()

    with lp.torch.emulate(("e5m2", "e4m3fn")):
        grad = torch.func.grad(loss)(params, x)["weight"]
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, x)["weight"]
        batch = torch.func.vmap(lambda a, b: a @ b)(some(2, 3, 8), some(2, 8, 4))
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
            attention = F.scaled_dot_product_attention(*[some(1, 1, 3, 8)] * 3)
    np.testing.assert_array_equal(grad, lp.matmul(np.ones((4, 3), np.float32), x.numpy(), "e5m2"))
    np.testing.assert_array_equal(each, lp.round_to(x.numpy(), "e5m2")[:, None].repeat(4, 1))
    np.testing.assert_array_equal(batch, lp.matmul(some(2, 3, 8).numpy(), some(2, 8, 4).numpy(), "e5m2"))
    assert y.dtype == attention.dtype == torch.bfloat16
    w, b = (p.detach().bfloat16().float().numpy() for p in layer.parameters())
    want = lp.linear(x.bfloat16().float().numpy(), w, b, ("e5m2", "e4m3fn"))
    assert torch.equal(y, torch.from_numpy(want).bfloat16())


def test_views_in_place_and_inference() -> None:
    x = some(8, 16)
    with lp.torch.emulate("bf16"):
        y = torch.zeros(8, 8)
        y[::2] += x[::2] @ x.T  # a view of the result, and views of one storage on both sides
        y.t().addmm_(x, x.T)
        with torch.inference_mode():
            z = F.linear(x[1:4], x)
    whole = lp.matmul(x.numpy(), x.numpy().T, "bf16")
    want = np.zeros((8, 8), np.float32)
    want[::2] += whole[::2]
    np.testing.assert_array_equal(y, (want.T + whole).T)
    np.testing.assert_array_equal(z, whole[1:4])


def test_compiled_and_scripted_modules() -> None:
    """In a process of its own: torch.compile changes torch for good."""
    code = """
import warnings; warnings.simplefilter("ignore")
import torch, lowprec as lp; torch.manual_seed(0)
net, x = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.ReLU()), torch.ones(2, 16) / 3
import sys
lt = lp.torch
with lt.emulate("e4m3fn"): want = net(x)
assert "torch._dynamo" not in sys.modules, "the compiler is loaded for nothing"
with lt.emulate("e4m3fn") as e: inside = torch.compile(net, backend="eager")(x)  # torch._dynamo comes in here
assert torch.equal(inside, want), "compiled inside"
compiled = torch.compile(net, backend="eager"); plain = compiled(x)
with lt.emulate("e4m3fn") as e: got = compiled(x)
assert torch.equal(got, want) and not torch.equal(plain, want) and torch.equal(compiled(x), plain), "compiled before"
assert e.report.notes and e.report.table[0]["layer"] == "0", e.report
scripted = torch.jit.script(net)
with lt.emulate("e4m3fn") as e: got = scripted(x)
assert torch.equal(got, want) and "Scripted" in e.report.notes[0]
from torch.nn.attention.flex_attention import flex_attention
q = torch.ones(1, 1, 16, 16)
try:
    with lt.emulate("bf16"): flex_attention(q, q, q)
except lt.UnsupportedOperatorError as error: assert "flex_attention" in str(error), error
else: raise AssertionError("not refused")
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.strip() == "done", done.stderr[-2000:]


# ---------------------------------------------------------------------------------------------------- what is not done
REFUSED = {
    "_cdist_forward": lambda: torch.cdist(some(3, 4), some(3, 4)),
    "_pdist_forward": lambda: F.pdist(some(3, 4)),
    "_fft_r2c": lambda: torch.fft.rfft(some(8)),
    "_linalg_solve_ex": lambda: torch.linalg.solve(some(3, 3), some(3)),
    "_sparse_addmm": lambda: torch.sparse.mm(torch.eye(3).to_sparse(), some(3, 3)),
    "sparse_csr": lambda: torch.eye(3).to_sparse_csr() @ some(3, 3),
    "complex64": lambda: some(3, 3).to(torch.complex64) @ some(3, 3).to(torch.complex64),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_refused_or_native(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = REFUSED[name]()
        with pytest.raises(lp.torch.UnsupportedOperatorError, match=name) as caught, lp.torch.emulate("bf16"):
            REFUSED[name]()
        assert "unsupported='native'" in str(caught.value)
        with lp.torch.emulate("bf16", unsupported="native") as e:
            got = REFUSED[name]()
    assert torch.equal(got.to_dense() if got.layout != torch.strided else got, want)
    assert len(e.report.native) == 1
    if name.startswith("_"):
        assert "addmm" in str(caught.value)


@pytest.mark.parametrize("layout", ["strided", "jagged"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused_or_native(layout: str) -> None:
    x = torch.nested.nested_tensor([some(2, 4), some(3, 4)], layout=getattr(torch, layout))
    layer = nn.Linear(4, 3)
    with pytest.raises(lp.torch.UnsupportedOperatorError, match="to_padded_tensor"), lp.torch.emulate("bf16"):
        layer(x)
    with lp.torch.emulate("bf16", unsupported="native") as e:
        got = layer(x)
    assert all(map(torch.equal, got.unbind(), layer(x).unbind()))
    assert ("(model)", "aten::linear") in {(row["layer"], row["operator"]) for row in e.report.native}


def test_integers_and_meta_tensors_run_as_they_are() -> None:
    with lp.torch.emulate("bf16") as e:
        assert (torch.ones(3, 3, dtype=torch.long) @ torch.ones(3, 3, dtype=torch.long)).sum() == 27
        assert torch.mm(torch.ones(3, 3, device="meta"), torch.ones(3, 3, device="meta")).is_meta
    assert [row["why"] for row in e.report.native] == [
        "integers are exact",
        "tensors on the meta device hold no numbers",
    ]


def test_mixed_dtypes_devices_and_shapes() -> None:
    layer = nn.Linear(4, 3)
    with lp.torch.emulate("bf16"):
        with pytest.raises(TypeError, match="one dtype, got float32, float64 in addmm of layer"):
            layer(some(2, 4).double())
        with pytest.raises(ValueError, match="one device, got cpu, meta in mm"):
            torch.mm(torch.ones(3, 3, device="meta"), torch.ones(3, 3))
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            torch.mm(some(3, 4), some(3, 4))
        with pytest.raises(RuntimeError, match="matrix"):
            torch.mm(some(1, 3, 4), some(4, 3))


BAD = [
    ({"dtype": "bf17"}, ValueError, "`dtype`.*bf16"),
    ({"accumulator": "nvidia-hoper"}, ValueError, "nvidia-hopper"),
    ({"dtype": "bf16", "scales": "rows"}, ValueError, "'row'"),
    ({"skip": 3}, TypeError, "`skip`"),
    ({"skip": [nn.Linear]}, TypeError, "`skip`"),
    ({"rules": ["a"]}, TypeError, "`rules`"),
    ({"rules": {"a": {"dtyp": "bf16"}}}, ValueError, "'dtype'"),
    ({"rules": {"a": {"dtype": "bf17"}}}, ValueError, r"`rules\['a'\]`.*bf16"),
    ({"rules": {"a": 3}}, TypeError, "`rules"),
    ({"gradients": "e5mm2"}, ValueError, "`gradients`"),
    ({"gradients": {"x": "e5m2"}}, ValueError, "'input'"),
    ({"dtype": "int8", "gradients": "e5m2"}, ValueError, "`gradients`"),
    ({"backward": {"weights": "int4"}}, ValueError, "`backward`"),
    ({"backward": 3}, TypeError, "`backward`"),
    ({"backward": "native", "gradients": "e5m2"}, ValueError, "`gradients`"),
    ({"unsupported": "natve"}, ValueError, "'native'"),
    ({"report": 1}, TypeError, "`report`"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=lambda each: str(each)[:40])
def test_bad_arguments(options: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        lp.torch.emulate(**options)


# ----------------------------------------------------------------------------------------------------------- the report
def test_report(tmp_path: Any) -> None:
    layer, x = nn.Linear(64, 8, bias=False), some(5, 64)
    with lp.torch.emulate("e4m3fn", report=True) as e:
        for _ in range(2):
            y = layer(x)
    (row,) = e.report.table
    assert (row["calls"], row["macs"], row["shapes"]) == (2, 2 * 5 * 64 * 8, "5x64, 64x8")
    exact = x.double().numpy() @ array(layer.weight).astype(np.float64).T
    want = 10 * np.log10(np.sum(exact**2) / np.sum((array(y) - exact) ** 2))
    assert row["sqnr_db"] == pytest.approx(want, abs=1e-9)
    assert "SQNR" in str(e.report)
    assert "<table>" in e.report._repr_html_()
    assert repr(e.report) == "<Report: 2 products in 1 layers emulated, 0 products by torch; print it>"
    e.report.to_csv(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text().splitlines()[0].startswith("layer,phase,operator")
    with lp.torch.emulate("e4m3fn") as quick:
        layer(x)
    assert quick.report.table[0]["sqnr_db"] is None


def test_operators_are_those_that_are_emulated() -> None:
    from lowprec.torch import _handlers, _operators, _session

    named = {row.name for row in lp.torch.operators()}
    assert set(_handlers.PRODUCTS) <= named
    assert not named & _operators.REFUSED
    for name in named - {"scaled_dot_product_attention", "bilinear", "lstm"}:
        assert _session.kind_of(getattr(torch.ops.aten, name).default) == "product"
    known = {name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if "aten::" in name}
    assert _operators.REFUSED - known <= {"_scaled_mm_v2", "_foreach_mm", "_scaled_grouped_mm_v2"}
    assert "mm" in str(lp.torch.operators())


# -------------------------------------------------------------------------------------------------------- planted bugs
def test_planted_bugs_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of activations applied to weights, gradients as torch has them, layers of the backward pass lost."""
    from lowprec.torch import _layers, _products

    layer, x = nn.Linear(32, 8, bias=False), some(5, 32)

    def run() -> tuple[bool, bool, str]:
        layer.weight.grad = None
        with lp.torch.emulate(("e5m2", "e4m3fn"), gradients="bf16") as e:
            y = layer(x)
            y.backward(y.detach() * 1)
        right = lp.matmul(x.numpy(), array(layer.weight).T, ("e5m2", "e4m3fn"))
        grad = lp.matmul(array(y).T, x.numpy(), ("bf16", "e5m2"))
        return (
            bool((array(y) == right).all()),
            bool((layer.weight.grad.numpy() == grad).all()),
            e.report.table[-1]["layer"],
        )

    assert run() == (True, True, "(model)")
    with monkeypatch.context() as patch:
        patch.setattr(_products.Products, "_forward_role", lambda self, tensor, scheme: "activation")
        assert run()[0] is False
    with monkeypatch.context() as patch:
        patch.setattr(_products.Products, "backward", lambda self, a, b, scheme, place: a.numpy() @ b.numpy())
        assert run()[:2] == (True, False)
    with monkeypatch.context() as patch:
        patch.setattr(_layers.Layers, "_mark", lambda self, layer: None)
        assert run()[2] == "(outside)"
