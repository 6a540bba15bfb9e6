"""The commands `lowprec cost` and `lowprec pareto`: the numbers of lp.cost, files, and mistakes in one line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from test_cli import fails, parse, run

import lowprec as lp

W = np.random.default_rng(1).standard_normal((4, 32)).astype(np.float32)
X = np.random.default_rng(2).standard_normal((6, 32)).astype(np.float32)
QUICK = ["--formats", "bf16", "int8", "mxfp4"]


def test_cost_is_the_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["bf16", "e4m3fn/exact", "int8", "mxfp4", "int8@int4", "int8 2:4"]
    printed = run(capsys, "cost", *words, "--k", "4608", "--csv", str(tmp_path / "a.csv"))
    rows = {row["unit"]: row for row in parse(printed)}
    base = lp.cost.mac("int8", "int32")
    units = {
        "bf16/fp32": lp.cost.mac("bf16"),
        "e4m3fn/exact": lp.cost.mac("e4m3fn", "exact", k=4608),
        "int8/int32": base,
        "mxfp4 dot32": lp.cost.dot("mxfp4", 32),
        "int8@int4/int32": lp.cost.mac(("int8", "int4")),
        "int8/int32 2:4": lp.cost.mac("int8", sparsity="2:4"),
    }
    assert list(rows) == list(units)
    for name, unit in units.items():
        assert rows[name]["GE"] == f"{unit.per_lane:.4g}"
        assert rows[name]["rel. int8/int32"] == f"{unit.rel(base):.3f}"
        assert rows[name]["range"] == f"{unit.per_lane.low:.4g} to {unit.per_lane.high:.4g}"
    assert [rows[name]["rule"] for name in units] == ["64", "16", "64", "4", "32", "64"]
    assert [rows[name]["bits"] for name in units] == ["16", "8", "8", "4.25", "4", "5"]
    assert rows["e4m3fn/exact"]["exact sum"] == str(lp.cost.accumulator_bits("e4m3fn", k=4608)) == "49"
    assert rows["mxfp4 dot32"]["exact sum"] == str(lp.cost.accumulator_bits("e2m1fn", k=32))
    assert "twice as many" in printed
    with (tmp_path / "a.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert [float(row["ge"]) for row in saved] == [float(unit.per_lane) for unit in units.values()]


def test_cost_relative_parts_and_dots(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "cost", "bf16", "--relative-to", "fp32", "--parts")
    assert f"{lp.cost.mac('bf16').rel('fp32/fp32'):.3f}" in printed
    assert str(lp.cost.mac("bf16")) in printed
    assert "2:4" not in printed
    dots = parse(run(capsys, "cost", "bf16", "int8", "--dot", "--lanes", "16"))
    assert [row["unit"] for row in dots] == ["bf16/fp32 dot16", "int8/int32 dot16"]
    assert dots[1]["GE"] == f"{lp.cost.dot('int8', 16).per_lane:.4g}"
    both = parse(run(capsys, "cost", "bf16", "e4m3fn", "--accumulator", "bf16", "fp32"))
    assert [row["unit"] for row in both] == ["bf16/bf16", "bf16/fp32", "e4m3fn/bf16", "e4m3fn/fp32"]
    assert len(parse(run(capsys, "cost"))) >= 20


def test_pareto_is_the_function(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "w.npy", W)
    files = [str(tmp_path / "x.npy"), str(tmp_path / "w.npy")]
    words = ["bf16", "int8", "mxfp4"]
    want = lp.cost.pareto(X, W, words, progress=False)
    printed = run(capsys, "pareto", *files, *QUICK, "--csv", str(tmp_path / "a.csv"))
    assert printed.strip() == str(want)
    assert (tmp_path / "a.csv").read_text() == want.to_csv(tmp_path / "b.csv").read_text()
    more = ["--metric", "max_rel", "--cost", "bits", "--scales", "row", "--accumulators", "fp32"]
    want = lp.cost.pareto(X, W, ["bf16"], "max_rel", "bits", accumulators=["fp32"], scales="row", progress=False)
    assert run(capsys, "pareto", *files, "--formats", "bf16", *more).strip() == str(want)
    want = lp.cost.pareto(X, W, words, cost="energy", table="horowitz2014", interpolate=True, progress=False)
    assert run(
        capsys, "pareto", *files, *QUICK, "--cost", "energy", "--table", "horowitz2014", "--interpolate"
    ).strip() == str(want)
    want = lp.cost.pareto(X, W, words, unit="dot", lanes=8, progress=False)
    assert run(capsys, "pareto", *files, *QUICK, "--dot", "--lanes", "8").strip() == str(want)


def test_pareto_draws_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((4, 32)).astype(np.float32), rng.standard_normal((8, 32)).astype(np.float32)
    want = str(lp.cost.pareto(x, w, ["bf16", "int8", "mxfp4"], progress=False))
    assert run(capsys, "pareto", *QUICK, "--size", "8", "32", "4", "--seed", "3").strip() == want
    assert "8 x 8 x 8" in run(capsys, "pareto", *QUICK, "--size", "8")
    accuracy = {
        kind: float(
            parse(run(capsys, "pareto", "--formats", "int8", "--size", "64", "--activations", kind))[0]["snr_db"]
        )
        for kind in ("gaussian", "student-t", "outliers")
    }
    assert accuracy["gaussian"] > accuracy["student-t"] + 5  # one scale for all suffers from the largest
    assert accuracy["gaussian"] > accuracy["outliers"]


def test_pareto_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(capsys, "pareto", *QUICK, "--size", "16", "--plot", str(tmp_path / "a.svg"))
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", W)
    one = str(tmp_path / "w.npy")
    assert "the closest: 'bf16'" in fails(capsys, "cost", "bf17")
    assert "`--k` must be 1 or more" in fails(capsys, "cost", "bf16", "--k", "0")
    assert "`lanes` must be from 1" in fails(capsys, "cost", "bf16", "--lanes", "0")
    assert "'mxfp4/bf16 dot32' has none" in fails(capsys, "cost", "mxfp4/bf16")
    assert "'fp32'" in fails(capsys, "cost", "bf16", "--relative-to", "int8/fp33")
    assert "`FILES` must be two" in fails(capsys, "pareto", one)
    assert "`FILES` must be .npy files" in fails(capsys, "pareto", one, str(tmp_path / "none.npy"))
    np.savez(tmp_path / "w.npz", W)
    assert "of one array each" in fails(capsys, "pareto", one, str(tmp_path / "w.npz"))
    assert "`--size` must be one number or three" in fails(capsys, "pareto", "--size", "8", "8")
    assert "`--size` must be one number or three" in fails(capsys, "pareto", "--size", "0")
    assert "`--seed` must be 0 or more" in fails(capsys, "pareto", "--seed", "-1")
    assert "invalid choice: 'snr'" in fails(capsys, "pareto", "--metric", "snr")
    assert "horowitz2014" in fails(capsys, "pareto", *QUICK, "--cost", "energy", "--table", "horowitz")
    np.save(tmp_path / "x.npy", X[:, :8])
    assert "`x` must have shape" in fails(capsys, "pareto", str(tmp_path / "x.npy"), one, *QUICK)
