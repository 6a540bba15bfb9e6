"""Results of any workload: tables, files, pages and the five figures, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import Metric, StudyResult
from lowprec.study._plots_common import GAP_POINTS, spread

pytest.importorskip("matplotlib", reason='needs matplotlib; pip install "lowprec[study]"')
from lowprec.study import plots

ERROR = Metric("error", "relative error", "", False, ".1e")
SCORE = Metric("score", "score", "dB", True, ".1f")
SHARE = Metric("share", "agreement", "", True, ".1%")


def facts(how: Arithmetic) -> dict[str, Any]:
    """Return the first columns of a record, as the engine has them."""
    found = how.candidate
    return {
        "workload": "made",
        "format": found.x.name if found.x == found.w else f"{found.x.name}@{found.w.name}",
        "label": how.label,
        "bits": how.weight_bits,
        "accumulator": str(found.accumulator),
        "scales": how.scales,
        "weights": None if how.weights is None else str(how.weights),
        "activations": None,
        "sparsity": how.sparsity,
        "seed": 0,
    }


def made(words: list[Any], **more: Any) -> StudyResult:
    """Return a result of one record for each word."""
    rng = random.Random(0)
    settings = [word if isinstance(word, Arithmetic) else Arithmetic(word) for word in words]
    table = []
    for how in settings:
        error = 2.0 ** -float(how.weight_bits) * rng.uniform(1, 2)
        spread_of = {"error_low": error / 1.5, "error_high": error * 1.5}
        share = {"share": 1 - min(error, 0.5), "samples": 64}
        table.append({**facts(how), "error": error, **spread_of, "score": -20 * math.log10(error), **share})
    arguments: dict[str, Any] = {"workload": "made", "source": "by hand", "metrics": (ERROR, SCORE, SHARE)}
    return StudyResult(table, settings=settings, **(arguments | more))


def grown(words: list[str], lengths: tuple[int, ...] = (16, 256, 4096), kinds: tuple[str, ...] = ("one", "two")) -> Any:
    """Return a result whose records vary with K and kind."""
    settings, table = [], []
    for at, word in enumerate(words):
        for kind in kinds:
            for k in lengths:
                how = Arithmetic(word)
                settings.append(how)
                error = 2.0**-20 * (at + 1) * math.sqrt(k)
                table.append({**facts(how), "kind": kind, "K": k, "error": error, "sum_error": error / 2})
    metrics = (ERROR, Metric("sum_error", "error of the sum", "", False, ".1e"))
    return StudyResult(table, settings=settings, workload="made", source="by hand", metrics=metrics)


def trained(names: list[str], steps: int = 20) -> StudyResult:
    """Return a result with curves, the last of which diverges."""
    table: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        loss = [2.0 * math.exp(-step / (5 + at)) for step in range(steps)]
        if at == len(names) - 1:
            loss[steps // 2 :] = [math.nan] * (steps - steps // 2)
        bands = {"loss_low": [0.9 * y for y in loss], "loss_high": [1.1 * y for y in loss]}
        table.append({"workload": "made", "label": name, "final": loss[-1], "loss": loss, **bands})
    metrics = (Metric("final", "final loss", "nats", False, ".4f"), Metric("loss", "loss", "nats", False, ".4f"))
    return StudyResult(table, workload="made", source="by hand", metrics=metrics)


FEW = ["fp32", "bf16", "bf16/bf16", "e4m3fn", "int8", "mxfp4", "bf16@int4"]
SUMS = [None, "fp16", "bf16", "exact", "nvidia-hopper"]


def many() -> StudyResult:
    """Return a result with more rows than a figure can name."""
    words: list[Any] = []
    for word in ("fp32", "tf32", "fp16", "bf16", "e4m3fn", "e5m2", "int8", "int4"):
        for accumulator in SUMS:
            try:
                words.append(Arithmetic(word, accumulator))
            except ValueError:
                continue
    words += [
        Arithmetic(word, weights=rule) for word in ("fp16", "bf16") for rule in ("int4/32", "gptq:int4/128", "nf4")
    ]
    return made(list({how.key(): how for how in words}.values()))


# ------------------------------------------------------------------------------------------------------------- records


def test_records_have_their_costs() -> None:
    result = made([*FEW, Arithmetic("bf16", weights="int4/32"), "bf16/pairwise"])
    rows = {row["label"]: row for row in result.table}
    pareto = lp.cost.dot("bf16", 32, "fp32", k=1024).per_lane
    assert rows["bf16"]["ge"] == float(pareto)
    assert (rows["bf16"]["ge_low"], rows["bf16"]["ge_high"]) == (pareto.low, pareto.high)
    assert rows["bf16"]["ge_unit"] == "dot32"
    assert rows["bf16"]["energy_pj"] is not None
    assert rows["e4m3fn"]["energy_pj"] is None
    assert rows["mxfp4"]["bits_per_weight"] == 4.25
    assert rows["bf16, weights int4/32"]["bits_per_weight"] == 5
    assert rows["bf16, weights int4/32"]["ge"] == rows["bf16"]["ge"]
    assert rows["bf16/pairwise"]["ge"] is None
    assert "No model of gates for bf16/pairwise." in result.notes
    assert any(note.startswith("No published energy for ") and "e4m3fn" in note for note in result.notes)


@pytest.mark.parametrize(("word", "sum_in"), [("fp16/fp16", "fp16"), ("e4m3fn/exact", "exact"), ("int8", "int32")])
def test_gates_are_those_of_a_lane(word: str, sum_in: str) -> None:
    fmt = word.partition("/")[0]
    assert made([word]).table[0]["ge"] == float(lp.cost.dot(fmt, 32, sum_in, k=1024).per_lane)


def test_gates_of_sparse_products_are_of_the_dense_ones() -> None:
    dense, sparse = (row["ge"] for row in made(["int8", "int8 2:4"]).table)
    assert dense / 2 < sparse < dense  # half the products, and what selects their operands


def test_records_without_settings_have_no_costs() -> None:
    result = trained(["a", "b"])
    assert all(row["ge"] is row["energy_pj"] is row["family"] is None for row in result.table)
    assert not any("GE" in note for note in result.notes)


def test_skipped_are_named_with_their_reason() -> None:
    result = made(["bf16"], skipped=[("int8/volta", "no row"), ("int4/volta", "no row"), ("x", "other")])
    assert "Skipped int8/volta, int4/volta: no row" in result.notes
    assert "Skipped x: other" in result.notes


def test_axes_are_what_varies_within_a_setting() -> None:
    assert made(FEW).axes == ()
    assert grown(["fp32", "bf16"]).axes == ("kind", "K")
    assert grown(["fp32", "bf16"]).axis == "K"
    assert grown(["fp32"], lengths=(16,)).axes == ("kind",)


# --------------------------------------------------------------------------------------------------------------- views


def test_truth_is_no_number_to_draw_against() -> None:
    table = [{**facts(Arithmetic("bf16")), "settled": settled, "error": 0.1} for settled in (True, False)]
    result = StudyResult(table, workload="made", source="by hand", metrics=(ERROR,))
    assert (result.axes, result.axis) == (("settled",), None)
    del table[1]["settled"]
    assert "True" in str(StudyResult(table, workload="made", source="by hand", metrics=(ERROR,)))


def test_table_has_spread_and_directions() -> None:
    text = str(made(["fp32", "e4m3fn"]))
    lines = text.splitlines()
    assert lines[0] == "made: 2 runs, 64 samples"
    assert re.split(r"\s{2,}", lines[1])[:3] == ["setting", "bits", "sum in"]
    row = made(["fp32", "e4m3fn"]).table[1]
    assert f"{row['error']:.1e}  {row['error_low']:.1e} to {row['error_high']:.1e}" in text
    assert "More is better: score, agreement; less is better: relative error." in text


def test_growth_is_a_table_by_length() -> None:
    lines = str(grown(["fp32", "bf16"])).splitlines()
    assert lines[0] == "made: 12 runs: relative error, less is better"
    assert lines[1].split() == ["kind", "setting", "K=16", "K=256", "K=4096"]
    assert lines[3].split() == ["one", "fp32", "3.8e-06", "1.5e-05", "6.1e-05"]
    assert lines[4].split()[0] == "bf16"  # "one" is said once


@pytest.mark.parametrize(
    ("value", "format", "want"),
    [
        (None, ".2f", ""),
        (1, ".2f", "1.00"),
        (0.0, ".2f", "0.00"),
        (1e-5, ".2f", "1.0e-05"),
        (0.25, ".1%", "25.0%"),
        (math.inf, ".2f", "inf"),
        (math.nan, ".1%", "nan"),
        (3e20, ".3g", "3e+20"),
        (-1e-9, "+.1e", "-1.0e-09"),
    ],
)
def test_numbers_are_written_as_the_measure_says(value: Any, format: str, want: str) -> None:  # noqa: A002
    from lowprec.study._views import text

    assert text(value, Metric("x", "x", "", True, format)) == want


def test_rich_fits_the_console() -> None:
    console = pytest.importorskip("rich.console").Console(width=60, record=True, file=io.StringIO())
    console.print(made(FEW))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 60
    assert "Left out of a terminal this narrow" in text.replace("\n", " ")


def test_csv_holds_curves_and_all_columns(tmp_path: Path) -> None:
    result = trained(["a", "b"])
    with result.to_csv(tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["loss"])[0] for row in rows] == [2.0, 2.0]
    assert rows[0]["ge"] == ""
    assert list(rows[0]) == list(result.table[0])


def test_pandas_has_the_records() -> None:
    pytest.importorskip("pandas")
    result = made(FEW)
    frame = result.to_pandas()
    assert list(frame["label"]) == [row["label"] for row in result.table]
    assert list(frame.columns) == list(result.table[0])


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=re.escape('pip install "lowprec[pandas]"')):
        made(["bf16"]).to_pandas()


def test_page_holds_every_figure(tmp_path: Path) -> None:
    result = grown(["fp32", "bf16", "e4m3fn"], kinds=("<b>", "two"))
    text = result.to_html(tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count("<svg") == len(result.kinds) == 3
    assert "<b>" not in text
    assert re.search(r"(src|href)=.https?://", text) is None


# ------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("result", "kinds"),
    [
        (made(["bf16"]), ("bits",)),
        (made(FEW), ("bits", "gates")),
        (made(["bf16", "bf16/bf16", "fp16", "fp16/bf16"]), ("bits", "gates", "heatmap")),
        (grown(["fp32", "bf16"]), ("growth", "bits", "gates")),
        (trained(["a", "b"]), ("curves",)),
    ],
)
def test_kinds_follow_the_records(result: StudyResult, kinds: tuple[str, ...]) -> None:
    assert result.kinds == kinds


CASES = [
    ("few", lambda: made(FEW), None),
    ("one", lambda: made(["bf16"]), None),
    ("many", many, None),
    ("grown", lambda: grown(["fp32", "bf16", "bf16/bf16", "fp16/fp16", "e4m3fn", "int8", "tf32", "fp16"]), None),
    ("trained", lambda: trained([f"recipe {at}" for at in range(12)]), None),
]


@pytest.mark.parametrize(("name", "make", "kind"), CASES)
def test_labels_keep_apart(name: str, make: Any, kind: str | None) -> None:
    """No label meets another or leaves the page; the check can fail, see below."""
    result = make()
    for each in result.kinds:
        check_labels(plots.figure(result, each), (name, each))


def check_labels(figure: Any, place: Any) -> None:
    """Raise if labels of a panel meet, or one leaves the page."""
    figure.draw_without_rendering()
    page = figure.bbox
    found = 0
    for axes in figure.axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in axes.texts if text.get_gid() == "label"]
        found += len(boxes)
        for i, (word, box) in enumerate(boxes):
            assert page.x0 - 1 <= box.x0 < box.x1 <= page.x1 + 1, (place, word)
            assert page.y0 - 1 <= box.y0 < box.y1 <= page.y1 + 1, (place, word)
            inner = box.padded(0, -0.12 * box.height)  # boxes hold the room of letters that a label may not have
            met = [other for other, that in boxes[:i] if inner.overlaps(that.padded(0, -0.12 * that.height))]
            assert not met, (place, word, met)
    assert found, place


def test_labels_would_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    from lowprec.study import _plots_common

    monkeypatch.setattr(_plots_common, "spread", lambda heights, bottom, top: list(heights))
    words = ["fp32", "bf16", "bf16/bf16", "fp16/fp16", "e4m3fn", "int8", "tf32", "fp16"]
    with pytest.raises(AssertionError):
        check_labels(plots.figure(grown(words), "growth"), "planted")


def test_gates_front_is_what_nothing_beats() -> None:
    """Filled marks, against the definition."""
    result = made(["fp32", "bf16", "bf16/bf16", "e4m3fn", "int8", "int4", "mxfp4"])
    axes = plots.figure(result, "gates", metric="score").axes[0]
    drawn = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): line.get_markerfacecolor() != "white"
        for line in axes.lines
        if line.get_marker() not in ("None", "") and len(line.get_xdata()) == 1
    }
    points = [(row["ge"], row["score"]) for row in result.table]
    assert set(drawn) == set(points)
    for cost, score in points:
        beaten = any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
        assert drawn[cost, score] == (not beaten)


def test_growth_has_the_lines_of_theory() -> None:
    axes = plots.figure(grown(["fp32", "bf16/bf16", "nvidia-hopper:bf16"]), "growth").axes[0]
    grey = [line for line in axes.lines if line.get_color() == "#8a8a8a"]
    ends = sorted(float(line.get_ydata()[-1]) for line in grey)
    want = sorted(power * u for u in (2.0**-24, 2.0**-8) for power in (4096.0, 64.0))
    assert ends == pytest.approx(want)
    assert not [line for line in plots.figure(grown(["fp32"]), "growth", metric="error").axes[0].lines if line in grey]


def test_slices_take_the_largest_and_say_so() -> None:
    figure = plots.figure(grown(["fp32", "bf16"]), "gates")
    assert figure.axes[0].get_title(loc="left") == "made, one, K = 4096: what accuracy costs"
    figure = plots.figure(grown(["fp32", "bf16"]), "gates", where={"K": 16, "kind": "two"})
    assert figure.axes[0].get_title(loc="left") == "made, two, K = 16: what accuracy costs"


def test_values_without_a_place_are_named() -> None:
    result = grown(["fp32", "bf16"], lengths=(16, 256, 65536), kinds=("one",))
    result.table[2]["sum_error"], result.table[4]["sum_error"] = math.inf, 0.0
    notes = [text.get_text() for text in plots.figure(result, "growth").axes[0].texts if text.get_gid() == "note"]
    assert notes == ["not drawn: fp32 (inf at 65536), bf16 (0 at 256)"]
    lost = made(["bf16", "e4m3fn", "int8"])
    lost.table[1]["error"] = math.nan
    assert "not drawn: e4m3fn" in plots.figure(lost, "gates", metric="error").axes[0].get_xlabel()


@pytest.mark.parametrize("kind", ["bits", "gates", "heatmap"])
def test_figures_are_the_same_every_time(kind: str) -> None:
    result = made(["bf16", "bf16/bf16", "fp16", "fp16/bf16", "e4m3fn"])
    assert plots.svg(result, kind) == plots.svg(result, kind)


def test_spread_moves_as_little_as_it_must() -> None:
    assert spread([100.0, 50.0], 0, 200) == [100.0, 50.0]
    assert spread([100.0, 100.0], 0, 200, gap=10) == [105.0, 95.0]
    assert spread([], 0, 200) == []
    low = spread([3.0, 3.0, 3.0], 0, 200)
    assert low[-1] == pytest.approx(GAP_POINTS / 2)
    assert np.diff(low) == pytest.approx([-GAP_POINTS, -GAP_POINTS])


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"kind": "bit"},
            ValueError,
            "`kind` must be one of curves, growth, bits, gates, heatmap, got 'bit'; the closest",
        ),
        (
            {"kind": "growth"},
            ValueError,
            "`kind` must be one that these records can be drawn as, bits, gates, got",
        ),
        ({"kind": 3}, TypeError, "`kind` must be a string, got 3 of type int"),
        (
            {"metric": "eror"},
            ValueError,
            "`metric` must be one of error, score, share for this figure, got 'eror'",
        ),
        ({"metric": 3}, TypeError, "`metric` must be a name or a list of names, got 3"),
        ({"metric": []}, TypeError, "`metric` must be a name or a list of names, got []"),
        ({"where": {"Kay": 3}}, ValueError, "`where` must name columns of the table"),
        ({"where": {"label": "bf61"}}, ValueError, "`where` must have a value of the column 'label', fp32, bf16"),
        ({"where": 3}, TypeError, "`where` must be a dict of columns and values, got 3"),
    ],
)
def test_bad_figures(tmp_path: Path, arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        made(FEW).plot(tmp_path / "x.png", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_bad_results() -> None:
    with pytest.raises(ValueError, match="`table` must have at least one record"):
        StudyResult([], workload="x", source="")
    with pytest.raises(ValueError, match="`settings` must have one entry per record, 1, got 2"):
        StudyResult([{"label": "x"}], workload="x", source="", settings=[None, None])
    bare = StudyResult([{"label": "x"}], workload="x", source="")
    assert bare.kinds == ()
    with pytest.raises(ValueError, match="`kind` must be given: these records have no measure"):
        bare.plot("x.png")
    assert str(bare).startswith("x: 1 run\n")
