"""The command `lowprec blocks`: every block format, numbers that are those of `quantize`, and mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import fails, parse, run

import lowprec as lp


def ratio(x: np.ndarray, q: lp.QuantizedArray) -> float:
    return float(10 * np.log10((x.astype(float) ** 2).sum() / ((q.dequantize(np.float64) - x) ** 2).sum()))


def test_every_block_format_with_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {row["format"]: row for row in parse(run(capsys, "blocks", "--size", "64"))}
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    for fmt in lp.block_formats():
        rules = ("floor", "ceil", "even", "rceil") if fmt.scale.mantissa_bits == 0 else (None,)
        for rule in rules:
            row = printed.pop(fmt.name if rule is None else f"{fmt.name} {rule}")
            q = lp.quantize(x, fmt) if rule is None else lp.quantize(x, fmt, scale_rule=rule)
            # Printed with one decimal.
            assert float(row["normal dB"]) == pytest.approx(ratio(x, q), abs=0.051)
            assert float(row["bits"]) == fmt.bits
            assert (row["element"], row["block"]) == (fmt.element.name, str(fmt.block_size))
    assert set(printed) == {f"int4, groups of {n}" for n in (32, 128)} | {
        f"{fmt}, a scale per row" for fmt in ("int8", "e4m3fn")
    }


def test_own_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((3, 40))
    np.save(tmp_path / "own.npy", x)
    printed = {row["format"]: row for row in parse(run(capsys, "blocks", str(tmp_path / "own.npy")))}
    got = float(printed["nvfp4"]["own.npy dB"])
    # Printed with one decimal.
    assert got == pytest.approx(ratio(x, lp.quantize(x.astype(np.float32), "nvfp4")), abs=0.051)
    assert printed["q8_0"]["own.npy dB"] == "no whole blocks"


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "ints.npy", np.arange(4))
    assert "multiple of 32" in fails(capsys, "blocks", "--size", "33")
    assert "`--seed` must be 0 or more" in fails(capsys, "blocks", "--seed", "-1")
    assert "`FILE` must be a .npy file" in fails(capsys, "blocks", str(tmp_path / "none.npy"))
    assert "`FILE` must hold an array of floats" in fails(capsys, "blocks", str(tmp_path / "ints.npy"))
