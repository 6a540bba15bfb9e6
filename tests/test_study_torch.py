"""Torch models as workloads: what the function may return, and what the measures are."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import workload
from lowprec.study._torch_workload import TorchWorkload

torch = pytest.importorskip("torch", reason='needs torch; pip install "lowprec[torch]"')
pytestmark = pytest.mark.oracles

MODULE = """
import torch

def load():
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)), [
        torch.randn(5, 16) for _ in range(3)]

def accuracy(output, target):
    return (output.argmax(-1) == target).float().mean()

def labelled():
    model, batches = load()
    return model.eval(), [(x, torch.zeros(5, dtype=torch.long)) for x in batches], accuracy

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
    def forward(self, x, *, y):
        return {"sum": self.layer(x) + y, "pair": (x, [y])}

def named():
    return Two(), [{"x": torch.ones(2, 4), "y": torch.zeros(2, 4)}]

class Noisy(Two):
    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x), 0.5, training=True)

def noisy(): return Noisy(), [torch.ones(8, 4)]
def three(): return 3
def one(): return (torch.nn.Linear(2, 2),)
def no_model(): return torch.ones(2), [torch.ones(2)]
def no_batches(): return torch.nn.Linear(2, 2), []
def a_tensor(): return torch.nn.Linear(2, 2), torch.ones(2)
def no_pairs(): return torch.nn.Linear(2, 2), [torch.ones(1, 2)], accuracy
def with_arguments(x): return x
def meta(): return torch.nn.Linear(2, 2, device="meta"), [torch.ones(2)]
value = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the module into the current folder under a name of its own."""
    name = f"models_of_{zlib.crc32(str(tmp_path).encode())}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return f"torch:{name}"


def test_targets_count_in_the_middle_too(module: str) -> None:
    made = f"{module}:labelled".removeprefix("torch:")
    study = TorchWorkload(made)
    found = []
    for value in (0.0, 1.0):
        target = np.zeros(5000)
        target[2500] = value
        study._batches = [(torch.ones(1, 16), target)]
        found.append(study._hash(torch, ""))
    assert found[0] != found[1]


def test_products_are_those_of_lowprec(module: str) -> None:
    study = workload(f"{module}:load")
    assert study.parts == ("batch 0", "batch 1", "batch 2")
    assert "training mode" in study.source
    how = Arithmetic("bf16", "bf16", scales="none")
    output, _, macs = study._run(how, 1)
    first, second = study.model[0], study.model[2]
    x = study._batches[1].numpy()
    for layer in (first, second):
        w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        x = lp.linear(x, w, b, "bf16", accumulator="bf16")
        x = np.maximum(x, 0) if layer is first else x
    assert output.numpy().tobytes() == np.asarray(x, np.float32).tobytes()
    assert macs == 5 * (16 * 32 + 32 * 10)


def test_measures(module: str) -> None:
    study = workload(f"{module}:labelled", batches=2)
    assert "training" not in study.source
    record = study.summarise([study.evaluate(Arithmetic("e4m3fn"), part) for part in range(2)])
    assert 15 < record["sqnr_db"] < 45
    right = [study._run(Arithmetic("e4m3fn"), part)[0].argmax(-1).eq(0).double().mean() for part in range(2)]
    assert record["accuracy"] == pytest.approx(float(sum(right) / 2))
    assert study.metrics[0].name == "accuracy"
    assert record["not_emulated"] == "none"


def test_all_tensors_of_an_output_are_compared(module: str) -> None:
    numbers = workload(f"{module}:named").evaluate(Arithmetic("int8"), 0)
    assert list(numbers["agreement"]) == ["output sum", "output pair 0", "output pair 1 0"]


def test_it_travels_and_knows_itself(module: str) -> None:
    study = workload(f"{module}:load", batches=1)
    again = pickle.loads(pickle.dumps(study))
    assert again.fingerprint() == study.fingerprint()
    assert again.evaluate(Arithmetic("int8"), 0) == study.evaluate(Arithmetic("int8"), 0)
    others = {workload(f"{module}:load", **how).fingerprint() for how in ({"seed": 1}, {"batches": 2}, {"skip": "0"})}
    assert len(others | {study.fingerprint()}) == 4


def test_calibration_is_a_batch_of_its_own(module: str) -> None:
    how = Arithmetic("bf16", weights="gptq:int4/16")
    assert "calibration=1" in str(workload(f"{module}:load").refuses(how))
    study = workload(f"{module}:load", calibration=1)
    assert len(study.parts) == 2
    assert study.refuses(how) is None
    numbers = study.evaluate(how, 0)
    assert numbers["macs"] == 5 * (16 * 32 + 32 * 10)
    assert np.isfinite(numbers["agreement"]["output"]).all()


def test_layers_that_are_skipped(module: str) -> None:
    numbers = workload(f"{module}:load", skip="0,2").evaluate(Arithmetic("e2m1fn"), 0)
    assert numbers["agreement"]["output"][2] < 1e-5
    assert len(numbers["not_emulated"]) == 2


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("three", TypeError, "returned a int"),
        ("one", TypeError, "tuple of 1"),
        ("no_model", TypeError, "torch.nn.Module first"),
        ("no_batches", ValueError, "at least 1 batches, got 0"),
        ("a_tensor", TypeError, "iterable of batches"),
        ("no_pairs", TypeError, "pairs"),
        ("with_arguments", TypeError, "which needs x"),
        ("meta", ValueError, "on meta"),
        ("value", TypeError, "which is a int"),
        ("loda", ValueError, "did you mean 'load'"),
        ("", ValueError, "module:function"),
    ],
)
def test_functions_that_do_not_fit(module: str, name: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        workload(f"{module}:{name}")


def test_options_that_do_not_fit(module: str) -> None:
    options: Any
    for options in ({"unsupported": "ignore"}, {"calibration": 2}, {"batches": 0}, {"batches": 9}, {"bathces": 1}):
        with pytest.raises(ValueError, match="`"):
            workload(f"{module}:load", **options)
    with pytest.raises(ValueError, match="no_such_module_here"):
        workload("torch:no_such_module_here:f")


def test_a_model_that_draws_random_numbers(module: str) -> None:
    with pytest.raises(ValueError, match="deterministic"):
        workload(f"{module}:noisy").evaluate(Arithmetic("bf16"), 0)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second block of docs/models.md is the module that the commands below it name."""
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")
    block = next(each.partition("```")[0] for each in page.split("```python\n") if each.startswith("# my_model.py"))
    (tmp_path / "my_model.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    study = workload("torch:my_model:load_with_labels", batches=1)
    assert 0 <= study.evaluate(Arithmetic("bf16"), 0)["accuracy"] <= 1
