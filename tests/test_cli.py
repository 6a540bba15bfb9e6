"""The command: outputs parsed and compared with the library, mistakes in one line, pipes and Ctrl-C."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import lowprec as lp
from lowprec import _text_tables as tables
from lowprec import cli

LABELS = [fmt.aliases[0] if fmt.aliases else fmt.name for fmt in lp.formats()]
DECIMALS = ["0.1", "-0.1", "3.14159", "1e-3", "448", "464", "-1e30", "1e-46", "0", "-0", "127.5", "6.2"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command and return what it prints; it must succeed and keep quiet on standard error."""
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def parse(text: str) -> list[dict[str, str]]:
    """Read a plain table: the columns are where the rule under the headings is."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if re.fullmatch(r"-+(  -+)+", line))
    spans = [match.span() for match in re.finditer("-+", lines[at])]
    heads = [lines[at - 1][a:b].strip() for a, b in spans]
    rows = []
    for line in lines[at + 1 :]:
        if len(line.split("  ")) < 2 or len(line) > spans[-1][1]:
            break
        rows.append(dict(zip(heads, (line[a:b].strip() for a, b in spans), strict=True)))
    return rows


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command, which must fail with 2 and one line on standard error; return the line."""
    try:
        status = cli.main(words)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert re.match(r"lowprec( \w+)?: error: ", err)
    return err


# ------------------------------------------------------------------------------------------------------------- formats


def test_formats_is_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = parse(run(capsys, "formats"))
    assert [row["format"] for row in rows] == [fmt.name for fmt in lp.formats()]
    for row, fmt in zip(rows, lp.formats(), strict=True):
        assert row["aliases"].split() == list(fmt.aliases)
        assert int(row["bits"]) == fmt.bits
        assert (row["inf"], row["nan"]) == tuple("yes" if has else "no" for has in (fmt.has_inf, fmt.has_nan))
        assert row["overflow"] == fmt.default_overflow
        for name, value in (("max", fmt.max), ("normal", fmt.smallest_normal), ("eps", fmt.eps)):
            # Three digits. Not float(): 1.8e+308, float64's largest in short, is beyond float64.
            assert abs(Fraction(row[name]) - Fraction(value)) <= Fraction(value) * Fraction(5, 1000)
        if isinstance(fmt, lp.FloatFormat):
            assert (int(row["exp"]), int(row["man"]), int(row["bias"])) == (
                fmt.exponent_bits,
                fmt.mantissa_bits,
                fmt.bias,
            )
        else:
            assert row["exp"] == row["man"] == row["bias"] == ""


def test_formats_csv_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "formats", "--csv"))))
    assert [row["format"] for row in rows] == [fmt.name for fmt in lp.formats()]
    for row, fmt in zip(rows, lp.formats(), strict=True):
        assert float(row["max"]) == fmt.max
        assert float(row["normal"]) == fmt.smallest_normal
        assert float(row["subnormal"]) == fmt.smallest_subnormal
        assert float(row["eps"]) == fmt.eps
        assert None not in row
        assert None not in row.values()


# --------------------------------------------------------------------------------------------------------------- value


@pytest.mark.parametrize("rounding", [mode for mode in lp.Rounding if mode != "stochastic"])
def test_value_is_encode(capsys: pytest.CaptureFixture[str], rounding: str) -> None:
    """The codes are those of the kernels, from float64 numbers that decimals of 17 digits stand for."""
    for number in (0.1, -0.1, 2.0**-7 + 2.0**-30, -448.0, 464.0, 1e-40, 65520.0, -1.75, 0.0, -0.0):
        rows = parse(
            run(
                capsys,
                "value",
                repr(Fraction(number)).replace("Fraction", "").strip("()").replace(", ", "/")
                if number
                else str(number),
                "--rounding",
                rounding,
            )
        )
        assert [row["format"] for row in rows] == LABELS
        for row, fmt in zip(rows, lp.formats(), strict=True):
            code = int(lp.encode(np.float64(number), fmt, rounding=rounding))
            assert int(row["code"], 16) == code, (number, fmt.name)
            assert int(row["sign exponent mantissa"].replace(" ", ""), 2) == code
            assert len(row["sign exponent mantissa"].replace(" ", "")) == fmt.bits
            value = float(lp.decode(np.array(code, fmt.code_dtype), fmt, dtype=np.float64))
            np.testing.assert_array_equal(float(row["value"]), value)


def test_value_separates_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    rows = parse(run(capsys, "value", "-0.1", "--format", "bf16", "e8m0fnu,int4", "e5m7"))
    widths = [[len(part) for part in row["sign exponent mantissa"].split()] for row in rows]
    assert widths == [[1, 8, 7], [8], [4], [1, 5, 7]]
    assert [row["format"] for row in rows] == ["bf16", "e8m0fnu", "int4", "e5m7"]


@pytest.mark.parametrize("text", DECIMALS)
def test_value_errors_are_right(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Relative error and ulp, worked out here from the neighbours that the format has."""
    exact = Fraction(text)
    for row, fmt in zip(parse(run(capsys, "value", text)), lp.formats(), strict=True):
        if row["value"] in ("nan", "inf", "-inf"):
            assert row["relative error"] == row["ulp"] == ""
            continue
        value = Fraction(float(row["value"]))
        if value == exact:
            assert row["relative error"] == row["ulp"] == "0"
            continue
        assert float(row["relative error"]) == float(f"{float((value - exact) / abs(exact)):.2e}")
        lowest = Fraction(fmt.smallest_subnormal) if fmt.has_zero else Fraction(fmt.smallest_normal) * Fraction(fmt.eps)
        gap = Fraction(1)
        if isinstance(fmt, lp.FloatFormat):
            gap = lowest
            while gap * 2**fmt.precision <= abs(exact):  # the binade's numbers are below 2**precision gaps
                gap *= 2
        assert float(row["ulp"]) == float(f"{float((value - exact) / gap):.5g}")
        if abs(value) not in (0, Fraction(fmt.max), -Fraction(fmt.min)) and fmt.has_zero:
            assert abs(value - exact) <= gap / 2


def test_value_rounds_once(capsys: pytest.CaptureFixture[str]) -> None:
    """As float64 the number would be the tie 1 + 2**-8, which goes to 1."""
    text = str(1 + 2.0**-8) + "0" * 30 + "1"
    assert float(text) == 1 + 2.0**-8
    assert parse(run(capsys, "value", text, "--format", "bf16"))[0]["value"] == str(1 + 2.0**-7)
    assert parse(run(capsys, "value", text[:-1], "--format", "bf16"))[0]["value"] == "1"
    long = "0." + "1234567890" * 1000  # beyond Python's own limit of digits for integers
    assert int(parse(run(capsys, "value", long, "--format", "fp64"))[0]["code"], 16) == int(
        np.float64(long).view(np.uint64)
    )


def test_value_of_specials(capsys: pytest.CaptureFixture[str]) -> None:
    for row, fmt in zip(parse(run(capsys, "value", "nan")), lp.formats(), strict=True):
        assert row["value"] == ("nan" if fmt.has_nan else "no NaN")
        assert row["code"] == ("" if fmt.nan_code is None else f"0x{fmt.nan_code:0{(fmt.bits + 3) // 4}x}")
    for row, fmt in zip(parse(run(capsys, "value", "-inf")), lp.formats(), strict=True):
        assert int(row["code"], 16) == int(lp.encode(-np.inf, fmt))
    rows = parse(run(capsys, "value", "1e9", "--overflow", "inf"))
    assert [row["value"] for row, fmt in zip(rows, lp.formats(), strict=True) if not fmt.has_inf] == ["no inf"] * sum(
        not fmt.has_inf for fmt in lp.formats()
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.1", Fraction(1, 10)),
        ("-.5", Fraction(-1, 2)),
        ("+5.", Fraction(5)),
        ("1e-3", Fraction(1, 1000)),
        ("2E3", Fraction(2000)),
        ("-1/3", Fraction(-1, 3)),
        ("0.5/0.25", Fraction(2)),
        ("0x1.8p3", Fraction(12)),
        ("-0X.8P-1", Fraction(-1, 4)),
        ("0xff", Fraction(255)),
        ("0x1.00000000000000000001", 1 + Fraction(1, 2**80)),
        (" 7 ", Fraction(7)),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("0.1e1000", Fraction(10) ** 999),
    ],
)
def test_parse_number(text: str, number: float | Fraction) -> None:
    got = cli.parse_number(text)
    assert got == number
    assert type(got) is type(number)


def test_parse_zeros_and_nan() -> None:
    for text, sign in (("0", 1), ("-0.0", -1), ("-0x0p5", -1), ("0e99999999999", 1), ("-0/3", -1)):
        number = cli.parse_number(text)
        assert isinstance(number, float)
        assert math.copysign(1, number) == sign
        assert number == 0
    for text in ("nan", "-NaN"):
        assert math.isnan(cli.parse_number(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", "abc", "--1", "+-1", "1e", "1.2.3", "0x", "0x.p1", "1_000", "1,5", "1/0", "1/2/3", "nan1", "snan", "1 2"),
        *("1e6000", "1e-6000", "0x1p99999", "1e99999999999999", "\u0661", "1" * 50000 + "x", "0x1p" + "9" * 5000),
    ],
    ids=lambda text: text[:20],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^`number` must") as caught:
        cli.parse_number(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["-0.1", "-.1", "-1e-3", "-inf", "-nan", "-0x1p3", "-1/3", "-5"])
def test_negative_numbers_are_no_options(capsys: pytest.CaptureFixture[str], text: str) -> None:
    out = run(capsys, "value", text, "0.5", "--format", "bf16")
    assert out.startswith(f"{text}, nearest_even\n")
    assert "\n0.5, nearest_even\n" in out


def test_value_stochastic_is_encode(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1, 2**64 - 1):
        rows = parse(run(capsys, "value", "1/3", "--rounding", "stochastic", "--seed", str(seed), "--format", "e4m3"))
        # 1/3 as float64 errs by 2**-54, far below the 2**-34 to which 32 bits tell apart the places in e4m3's gap
        assert int(rows[0]["code"], 16) == int(lp.encode(1 / 3, "e4m3", rounding="stochastic", rng=seed))


# -------------------------------------------------------------------------------------------------- matmul and study


def test_matmul_prints_times_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "matmul", "--size", "48", "--repeat", "2", "--dtype", "bf16")
    rows = parse(text)
    assert [row["product"] for row in rows] == ["lowprec", "np.matmul float32"]
    assert all(float(row["median/ms"]) > 0 and float(row["GFLOP/s"]) >= 0 for row in rows)
    # The sum of 48 products errs by at most gamma(48) * sum |a b|; the sum is at most 48 max|a| max|b| and in these
    # units at most 48 * 5 * 5 / 1, so the error is below 48 * 2**-24 * 1200. Rounding to bf16 (2**-9) shows above it.
    assert float(rows[0]["error of sum"]) < 48 * 2.0**-24 * 1200
    assert float(rows[0]["error in all"]) > 100 * float(rows[0]["error of sum"])
    assert rows[1]["error of sum"] == rows[1]["error in all"]
    assert re.search(r"lowprec is [\d.]+ times as fast as np.matmul", text)


def test_study_prints_and_saves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason='needs scikit-learn; pip install "lowprec[study]"')
    folder = tmp_path / "deep" / "out"
    words = ("study", "--dtypes", "bf16,e4m3fn", "fp16", "--output", str(folder))
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "3/3" in err, "the progress bar"
    rows = parse(out)
    assert [row["setting"] for row in rows] == ["bf16", "e4m3fn", "fp16"]
    assert "Accuracy alone cannot tell formats apart" in out
    for name in ("study.csv", "study.png", "study.html"):
        assert (folder / name).stat().st_size > 0
        assert str(folder / name) in out.splitlines()[-1]
    with (folder / "study.csv").open(newline="", encoding="utf-8") as file:
        for record, row in zip(csv.DictReader(file), rows, strict=True):
            assert f"{float(record['sqnr_db']):.1f}" == row["SQNR/dB"]
            assert f"{float(record['accuracy']):.2%}" == row["accuracy"]
    first = (folder / "study.csv").read_bytes()
    out = run(capsys, *words, "--no-progress")
    assert (folder / "study.csv").read_bytes() == first
    assert all(row["scaled"] == "no" for row in parse(run(capsys, *words, "--no-progress", "--no-scale")))


def test_study_of_another_workload(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs matplotlib; pip install "lowprec[study]"')
    words = (
        "study",
        "matmul",
        "--no-progress",
        "--dtypes",
        "bf16",
        "--accumulators",
        "none,bf16",
        "--output",
        str(tmp_path),
    )
    options = ("--option", "K=16,64", "size=2", "seeds=1", "distribution=normal", "--plot", "growth", "gates")
    options += ("--output", str(tmp_path))
    out = run(capsys, *words, *options)
    assert [row["setting"] for row in parse(out)] == ["bf16", "bf16/bf16"]
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["study.csv", "study.html", "study.png", "study_gates.png"]
    again = run(capsys, *words, *options)
    assert "4 of 4 units from the cache" in again
    listed = run(capsys, "study", "--list")
    assert all(word in listed for word in ("digits", "matmul", "smollm2"))


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required"),
        (("bogus",), "invalid choice: 'bogus'"),
        (("value",), "the following arguments are required: NUMBER"),
        (("value", "abc"), "`number` must be like 0.1"),
        (("value", "1/0"), "divided by zero"),
        (("value", "1", "--format", "fp8"), "ambiguous"),
        (("value", "1", "--format", "bf61"), "'bf16'"),
        (("value", "1", "--rounding", "up"), "invalid choice: 'up'"),
        (("value", "1", "--rounding", "stochastic"), "`--seed` must be given"),
        (("value", "1", "--rounding", "stochastic", "--seed", "-1"), "`--seed` must be given"),
        (("matmul", "--size", "0"), "`--size` must be from 1 to"),
        (("matmul", "--size", "many"), "invalid int value: 'many'"),
        (("matmul", "--repeat", "0"), "`--repeat` must be from 1 to"),
        (("matmul", "--dtype", "nope"), "must be a known format name"),
        (("matmul", "--size", "4", "--accumulator", "fp23"), "`accumulator` must be"),
        (("study", "--no-progress", "--dtypes", "fp8"), "`dtypes` must name one format"),
        (("study", "--no-progress", "--workload", "mnist"), "`workload` must be"),
        (("study", "digits", "--workload", "matmul"), "`--workload` must be named once, got 'digits' and 'matmul'"),
        (("study", "matmul", "--option", "K"), "`--option` must be KEY=VALUE, got 'K'"),
        (("study", "matmul", "--option", "K=1", "K=2"), "`--option` must have each key once, got 'K' twice"),
        (("study", "matmul", "--option", "seed=1"), "`--option` must be an option of the workload, got 'seed'"),
        (("study", "matmul", "--option", "distribution=gauss"), "`distribution` must be of normal"),
        (("study", "matmul", "--option", "kay=3"), "kay"),
        (("study", "--workers", "-1"), "`--workers` must be from 0 to"),
        (("study", "--plot", "bars"), "`--plot` must be of curves, growth, bits, gates, heatmap, got 'bars'"),
        (("study", "--no-scale", "--scales", "row"), "`--scales` must be left out"),
        (("formats", "--nonsense"), "unrecognized arguments: --nonsense"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason='needs scikit-learn; pip install "lowprec[study]"')
    file = tmp_path / "file"
    file.write_text("mine")
    assert "`--output` must be a folder" in fails(capsys, "study", "--no-progress", "--output", str(file))
    inside = fails(capsys, "study", "--no-progress", "--output", str(file / "inside"))
    assert "`--output` must be a folder that can be written" in inside
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("module", "project"), [("sklearn", "scikit-learn"), ("matplotlib",) * 2, ("tqdm",) * 2])
def test_missing_extra_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, project: str
) -> None:
    for name in ("sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(name)
    monkeypatch.setitem(sys.modules, module, None)
    line = fails(capsys, "study")
    assert f"needs {project}" in line
    assert 'pip install "lowprec[study]"' in line


def test_traceback_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="`number` must"):
        cli.main(["--traceback", "value", "abc"])


# --------------------------------------------------------------------------------------- terminals, pipes and signals


def test_terminal_gets_rich_and_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for width in (60, 80, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        text = re.sub(r"\x1b\[[\d;]*m", "", run(capsys, "formats"))
        assert max(map(len, text.splitlines())) <= width
        assert all(fmt.name in text for fmt in lp.formats())
        assert ("Left out of a terminal this narrow: aliases" in text) == (width < 200)


def test_without_rich_tables_are_plain(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    want = run(capsys, "formats")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name in ["rich", *(name for name in sys.modules if name.startswith("rich."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert run(capsys, "formats") == want
    with pytest.raises(ImportError):
        tables.rich_table(tables.Table(["a"], [["b"]]))


def test_interrupt_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "show", interrupted)
    assert cli.main(["formats"]) == 130
    assert capsys.readouterr().err == "lowprec: interrupted\n"


@pytest.mark.parametrize("words", [["formats"], ["value", "0.1"], ["--help"], ["formats", "--csv"]])
def test_closed_pipe_is_quiet(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lowprec.cli", *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141 or words == ["--help"], "argparse itself forgives a help text that nobody reads"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words, start in (
        (["--version"], f"lowprec {lp.__version__}\n"),
        (["value", "--help"], "usage: lowprec value "),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(start)
