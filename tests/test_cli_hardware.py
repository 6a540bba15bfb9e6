"""The command `lowprec hardware`: it prints the table, one preset in full where asked, and mistakes in one line."""

from __future__ import annotations

import csv
import io
import re

import pytest
from test_cli import fails, parse, run

import lowprec as lp
from lowprec import cli
from lowprec._instructions import CELLS, cells

ROWS = [(preset, row) for preset in lp.presets() for row in preset.instructions]


def test_table_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    printed = parse(run(capsys, "hardware"))
    assert len(printed) == len(ROWS)
    name = ""
    for told, (preset, row) in zip(printed, ROWS, strict=True):
        name = told["preset"] or name
        assert name == preset.name
        assert tuple(told[cell] for cell in CELLS) == cells(row)


def test_csv_is_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "hardware", "--csv"))))
    assert len(rows) == len(ROWS)
    public = {name: getattr(lp, name) for name in lp.__all__}
    for told, (preset, row) in zip(rows, ROWS, strict=True):
        assert (told["name"], told["instruction"]) == (preset.name, row.name)
        assert told["aliases"].split() == list(preset.aliases)
        assert eval(told["model"], public) == row.model
        assert [int(k) for k in told["K"].split()] == list(row.k)
        for side in ("a", "b"):
            assert [lp.format(name) if name != "int16" else row.a[0] for name in told[side].split()] == list(
                getattr(row, side)
            )
        assert (told["c"], told["out"], told["evidence"]) == (str(row.c), str(row.out), row.evidence)
        assert (told["source"], told["note"]) == (row.source, row.note)
        assert told["scales"] == ("" if row.scales is None else f"{row.scale_format} per {row.scale_block}")


@pytest.mark.parametrize("word", ["nvidia-hopper", "H100", "x86-avx512vnni", "tpu-approx", "nvidia-blackwell"])
def test_one_preset_in_full(capsys: pytest.CaptureFixture[str], word: str) -> None:
    text = run(capsys, "hardware", word)
    preset = lp.preset(word)
    flat = " ".join(text.split())
    assert text.startswith(f"{preset.name}: {preset.title}\n=====")
    for row in preset.instructions:
        for part in (row.name, repr(row.model), str(row.model), row.evidence, row.source, row.note):
            assert " ".join(part.split()) in flat
    for alias in preset.aliases:
        assert alias in text
    assert all(len(line) <= 120 and line == line.rstrip() for line in text.splitlines())


def test_several_presets(capsys: pytest.CaptureFixture[str]) -> None:
    one = run(capsys, "hardware", "v100")
    two = run(capsys, "hardware", "t4")
    assert run(capsys, "hardware", "v100", "t4") == run(capsys, "hardware", "v100,t4") == f"{one}\n{two}"
    assert len(list(csv.reader(io.StringIO(run(capsys, "hardware", "v100", "--csv"))))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("h10",), "`name` must be the name of a hardware preset, got 'h10'; the closest: .*'h100'"),
        (("xyzzy",), r"lp.presets\(\) lists the names"),
        (("--xml",), "unrecognized arguments: --xml"),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert re.search(message, fails(capsys, "hardware", *words))


def test_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = run(capsys, "hardware", "h100")
    longest = max(len(word) for word in text.split())
    assert all(len(line) <= max(60, 12 + longest) for line in text.splitlines())


def test_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    assert "hardware" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------- diff


def test_diff_is_compare_accumulators(capsys: pytest.CaptureFixture[str]) -> None:
    both = ["nvidia-ampere", "nvidia-hopper"]
    told = run(capsys, "hardware", "diff", *both, "--dtype", "bf16", "--k", "16", "--seed", "1")
    result = lp.compare_accumulators(dtype="bf16", accumulators=both, k=16, seed=1)
    assert told == f"{result}\n"
    (row,) = parse(told)
    assert int(row["different"]) == result.pairs[0].different > 0
    assert run(capsys, "hardware", "diff", *both, "--k", "16", "--seed", "1") == told, "bf16 is the default"


def test_diff_takes_pairs_and_any_accumulator(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "hardware", "diff", "h100", "exact", "--dtype", "e4m3fn,e5m2", "--out-dtype", "fp16", "--k", "8")
    result = lp.compare_accumulators(dtype=("e4m3fn", "e5m2"), accumulators=["h100", "exact"], out_dtype="fp16", k=8)
    assert told == f"{result}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("diff",), "`diff` must be given two accumulators, .*got 0: none"),
        (("diff", "h100"), "`diff` must be given two accumulators, .*got 1: h100"),
        (("diff", "h100", "a100", "v100"), "`diff` must be given two accumulators, .*got 3"),
        (("diff", "h100", "a100", "--csv"), "`diff` must be given two accumulators, .*got --csv"),
        (("diff", "h100", "a10"), "`accumulator` must be a model, .*got 'a10'; the closest: .*'a100'"),
        (("diff", "h100", "v100", "--dtype", "bf16"), "`dtype` must be one of the operand formats of nvidia-volta"),
        (("diff", "h100", "a100", "--k", "x"), "argument --k: invalid int value: 'x'"),
        (("h100", "--dtype", "bf16"), "`--dtype` must be given with diff alone"),
        (("--out-dtype", "bf16"), "`--out-dtype` must be given with diff alone"),
    ],
)
def test_diff_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert re.search(message, fails(capsys, "hardware", *words))
