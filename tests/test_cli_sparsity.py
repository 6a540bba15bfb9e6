"""The command `lowprec sparsity`: the numbers of `sparsity_report`, files of three kinds, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import fails, run

import lowprec as lp

W = np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32)
X = np.random.default_rng(2).standard_normal((20, 16)).astype(np.float32)


def test_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "sparsity", "--size", "16", "--seed", "3")
    w = np.random.default_rng(3).standard_normal((16, 16)).astype(np.float32)
    assert printed.strip() == str(lp.sparsity_report(w, permute=10.0))


def test_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", W)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", X[:7])
    want = str(lp.sparsity_report(W, permute=False)).strip()
    assert run(capsys, "sparsity", str(tmp_path / "w.npy"), "--seconds", "0").strip() == want
    lp.save(tmp_path / "w.npz", {"a": W, "bias": W[0]})
    assert run(capsys, "sparsity", str(tmp_path / "w.npz"), "--seconds", "0").strip() == want
    pytest.importorskip("safetensors")
    lp.save(tmp_path / "w.safetensors", {"a": W, "b": W.T})
    path = str(tmp_path / "w.safetensors")
    assert run(capsys, "sparsity", path, "--name", "b", "--axis", "0", "--seconds", "0").strip() == want
    pytest.importorskip("scipy")
    arguments = ["--activations", str(tmp_path / "x.npy"), "--test", str(tmp_path / "y.npy"), "--seconds", "5"]
    printed = run(capsys, "sparsity", str(tmp_path / "w.npy"), *arguments, "--csv", str(tmp_path / "out.csv"))
    report = lp.sparsity_report(W, activations=X, test_activations=X[:7], permute=5.0)
    assert printed.strip() == str(report)
    assert (tmp_path / "out.csv").read_text() == report.to_csv(tmp_path / "own.csv").read_text()


def test_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(capsys, "sparsity", "--size", "8", "--plot", str(tmp_path / "a.svg"))
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lp.save(tmp_path / "two.npz", {"a": W, "b": W, "bias": W[0]})
    np.save(tmp_path / "w.npy", W)
    two, one = str(tmp_path / "two.npz"), str(tmp_path / "w.npy")
    assert "`--name` must be one of the arrays" in fails(capsys, "sparsity", two)
    assert "a, b; got c" in fails(capsys, "sparsity", two, "--name", "c")
    assert "`--name` must come with" in fails(capsys, "sparsity", one, "--name", "c")
    assert "`--size` must be from 1 to 8192" in fails(capsys, "sparsity", "--size", "0")
    assert "`--seed` must be 0 or more" in fails(capsys, "sparsity", "--seed", "-1")
    assert "`--seconds` must be 0 or more" in fails(capsys, "sparsity", "--seconds", "-1")
    assert "`--test` must come with `--activations`" in fails(capsys, "sparsity", one, "--test", one)
    assert "`FILE` must be a .npy file" in fails(capsys, "sparsity", str(tmp_path / "none.npy"))
    assert "`axis` must be from -2 to 1" in fails(capsys, "sparsity", one, "--axis", "2")
    assert "of one array" in fails(capsys, "sparsity", one, "--activations", two)
    np.save(tmp_path / "x.npy", X[:, :8])
    assert "`activations` must have 16 features" in fails(
        capsys, "sparsity", one, "--activations", str(tmp_path / "x.npy")
    )
