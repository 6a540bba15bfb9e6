"""The study: metrics by hand, the network against an error bound, scales that change nothing, and every view."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec import _text_tables as tables
from lowprec.study import MLP, Record, StudyResult, _plots_bits, metrics, plots, study, workload, workloads

pytest.importorskip("sklearn", reason='needs scikit-learn; pip install "lowprec[study]"')
pytest.importorskip("matplotlib", reason='needs matplotlib; pip install "lowprec[study]"')

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "scripts" / "train_digits.py"
EVERY = [f.name for f in lp.formats() if isinstance(f, lp.FloatFormat) and f.is_signed and f.has_zero]
DB_PER_BIT = 20 * math.log10(2)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return study(progress=False)


@pytest.fixture(scope="module")
def digits() -> MLP:
    found = workload("digits")
    assert isinstance(found, MLP)
    return found


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_digits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(result: StudyResult, name: str) -> Record:
    return next(record for record in result.table if record["format"] == lp.format(name).name)


def toy(rows: int = 7, features: int = 5, classes: int = 3, seed: int = 0) -> MLP:
    rng = np.random.default_rng(seed)
    shapes = [(4, features), (classes, 4)]
    return MLP(
        "toy",
        rng.standard_normal((rows, features)).astype(np.float32),
        rng.integers(0, classes, rows),
        tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes),
        tuple(rng.standard_normal(shape[0]).astype(np.float32) for shape in shapes),
    )


# ------------------------------------------------------------------------------------------------------------ records


def test_default_is_every_format_that_holds_weights(result: StudyResult) -> None:
    assert [record["format"] for record in result.table] == EVERY
    assert "float8_e8m0fnu" not in EVERY


WHAT = ["workload", "format", "label", "bits", "exponent_bits", "mantissa_bits", "accumulator", "scales", "weights"]
WHAT += ["activations", "sparsity", "seed", "scaled", "weight_exponents", "activation_exponents"]
MEASURES = ["sqnr_db", "cross_entropy_nats", "cross_entropy_increase_nats", "accuracy", "top1_agreement", "samples"]


def test_records_are_complete(result: StudyResult) -> None:
    assert result.skipped == ()
    for record in result.table:
        fmt = lp.format(record["format"])
        assert list(record)[: len(WHAT) + len(MEASURES)] == WHAT + MEASURES
        assert record["scales"] == "power_of_two"
        assert all(record[name] is None for name in ("weights", "activations", "sparsity"))
        assert record["bits"] == fmt.bits
        assert record["exponent_bits"] + record["mantissa_bits"] + 1 == fmt.bits
        assert lp.format(record["label"]) == fmt
        assert record["samples"] == result.samples == len(workload("digits").labels)
        assert math.isfinite(record["sqnr_db"])
        assert math.isfinite(record["cross_entropy_nats"])
        assert record["accuracy"] * result.samples == pytest.approx(
            round(record["accuracy"] * result.samples), abs=1e-9
        )
        assert 0 <= record["top1_agreement"] <= 1
        gap = record["cross_entropy_nats"] - record["reference_cross_entropy"]
        assert record["cross_entropy_increase_nats"] == gap
        assert record["scaled"] == (fmt.bits < 16) == (record["weight_exponents"] != "0 0 0")


def test_default_accumulator_is_that_of_matmul(result: StudyResult) -> None:
    assert {record["format"] for record in result.table if record["accumulator"] == "fp64"} == {"float64"}
    assert {record["accumulator"] for record in result.table} == {"fp32", "fp64"}


@pytest.mark.parametrize("name", ["fp64", "fp32", "bf16", "e5m30", "e9m3", "e8m22", "e8m23", "e7m24", "e2m1fn"])
def test_default_accumulator_for_custom_formats(name: str) -> None:
    got = study(toy(), dtypes=[name], progress=False).table[0]["accumulator"]
    assert lp.format(got).storage_dtype == lp.linear(np.ones((1, 1)), np.ones((1, 1)), None, name).dtype


def test_same_arguments_same_records(result: StudyResult) -> None:
    before = lp.get_num_threads()
    try:
        for threads in (1, 2):
            lp.set_num_threads(threads)
            assert study(cache=False, progress=False).table == result.table
    finally:
        lp.set_num_threads(before)


def test_order_and_company_do_not_matter(result: StudyResult) -> None:
    names = EVERY[::-1]
    assert study(dtypes=names, cache=False, progress=False).table == result.table[::-1]
    assert study(dtypes="bf16", cache=False, progress=False).table == [row(result, "bf16")]
    assert study(dtypes=(lp.format(name) for name in ["bf16", "bfloat16"]), progress=False).table == [
        row(result, "bf16")
    ]


def test_accumulators_multiply(result: StudyResult) -> None:
    table = study(dtypes=["bf16", "fp32"], accumulators=["fp32", "fp64"], progress=False).table
    got = [(record["label"], record["accumulator"]) for record in table]
    assert got == [("bf16", "fp32"), ("bf16/fp64", "fp64"), ("fp32", "fp32"), ("fp32/fp64", "fp64")]
    assert table[0] == row(result, "bf16")
    assert table[3]["sqnr_db"] > table[2]["sqnr_db"]
    wide = study(dtypes=["fp64"], accumulators="fp32", progress=False).table[0]
    # An accumulator that is asked for is the one that is used: float64 operands with float32's sums are no better than
    # float32 operands, since this network's weights and activations are float32 numbers then.
    assert wide["accumulator"] == "fp32"
    assert wide["sqnr_db"] == row(result, "fp32")["sqnr_db"]


# ---------------------------------------------------------------------------------------------- the numbers are right


def float32_error_bound(digits: MLP) -> np.ndarray:
    """Return how far float32 logits, summed in any order, fused or not, can be from exact ones.

    One result of K products and a bias errs by at most gamma(K + 1) * (|w| |x| + |b|) (Higham, Accuracy and Stability
    of Numerical Algorithms, 3.1), gamma(n) = n u / (1 - n u), u = 2**-24; ReLU enlarges no error; an error e in x adds
    |w| e. Computed in float64, whose own errors are 2**-29 of the bound: the factor covers them.
    """
    error = np.zeros(digits.inputs.shape)
    x = digits.inputs.astype(np.float64)
    for weight, bias in zip(digits.weights, digits.biases, strict=True):
        w, b = weight.astype(np.float64), bias.astype(np.float64)
        n = (w.shape[1] + 1) * 2.0**-24
        size = (np.abs(x) + error) @ np.abs(w).T + np.abs(b)
        error = error @ np.abs(w).T + n / (1 - n) * size
        x = np.maximum(x @ w.T + b, 0)
    return error * (1 + 2.0**-20)


def test_fp32_is_the_float32_network(digits: MLP) -> None:
    logits = digits.forward("fp32").logits
    x = digits.inputs
    plain = digits.inputs
    for i, (weight, bias) in enumerate(zip(digits.weights, digits.biases, strict=True)):
        x = lp.linear(x, weight, bias)
        plain = plain @ weight.T + bias
        if i < len(digits.weights) - 1:
            x, plain = np.maximum(x, 0), np.maximum(plain, 0)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, x)
    bound = float32_error_bound(digits)
    reference = digits.reference()
    assert (np.abs(logits - reference) <= bound).all()
    assert (np.abs(plain - reference) <= bound).all()
    assert not (np.abs(digits.forward("bf16").logits - reference) <= bound).all(), "the bound would let bf16 pass"


def test_fp64_row_is_the_reference_up_to_the_order_of_rounding(digits: MLP, result: StudyResult) -> None:
    reference = digits.reference()
    bound = float32_error_bound(digits) * 2.0**-28  # u of float64 is 2**-53; 2**-28 leaves a factor of two
    logits = digits.forward("fp64").logits
    assert logits.dtype == np.float64
    assert (np.abs(logits - reference) <= bound).all()
    assert row(result, "fp64")["accuracy"] == row(result, "fp64")["reference_accuracy"]
    assert row(result, "fp64")["top1_agreement"] == 1


def test_a_significand_bit_is_six_decibels() -> None:
    """Halving every rounding error halves the logits' error: 6.02 dB per bit.

    A point's error is a sum over some hundred independent weight errors, so its power scatters by 1 dB or less about
    the rule (4.34 dB * sqrt(2 / 100) = 0.6 dB); the slope through nine points scatters by 1 dB / sqrt(60) = 0.13 dB.
    """
    widths = np.arange(2, 11)
    table = study(dtypes=[f"e8m{m}" for m in widths], progress=False).table
    sqnr = np.array([record["sqnr_db"] for record in table])
    assert (np.diff(sqnr) > 0).all()
    slope = np.polyfit(widths, sqnr, 1)[0]
    assert abs(slope - DB_PER_BIT) < 4 * 0.13


def test_sqnr_follows_precision(result: StudyResult) -> None:
    # fp16 has three significand bits more than bf16; half a bit is room for scatter, and less than a bit lost.
    gap = row(result, "fp16")["sqnr_db"] - row(result, "bf16")["sqnr_db"]
    assert abs(gap - 3 * DB_PER_BIT) < DB_PER_BIT / 2
    # tf32 has fp16's significand, and a range that none of these tensors needs, a few subnormal weights apart.
    assert abs(row(result, "tf32")["sqnr_db"] - row(result, "fp16")["sqnr_db"]) < 0.1
    order = ["e2m1fn", "e5m2", "e4m3fn", "e3m4", "bf16", "fp16", "fp32", "fp64"]  # by significand bits
    values = [row(result, name)["sqnr_db"] for name in order]
    assert values == sorted(values)


def test_reference_does_not_depend_on_blas(digits: MLP) -> None:
    """The reference is the ascending sum, one rounding per product and per sum, in plain Python floats."""
    sample = MLP("two", digits.inputs[:2], digits.labels[:2], digits.weights, digits.biases)
    for image, logits in zip(sample.inputs, sample.reference(), strict=True):
        x = [float(v) for v in image]
        for i, (weight, bias) in enumerate(zip(sample.weights, sample.biases, strict=True)):
            totals = []
            for w, b in zip(weight.tolist(), bias.tolist(), strict=True):
                total = 0.0
                for left, right in zip(x, w, strict=True):
                    total += left * right
                totals.append(total + b)
            x = [max(v, 0.0) for v in totals] if i < len(sample.weights) - 1 else totals
        np.testing.assert_array_equal(logits, x)


# -------------------------------------------------------------------------------------------------------------- scales


@pytest.mark.parametrize("name", ["e2m1fn", "e4m3fn", "e5m2", "e3m4", "bf16", "e4m3b11fnuz"])
def test_scale_is_the_largest_that_fits(name: str) -> None:
    fmt = lp.format(name)
    assert isinstance(fmt, lp.FloatFormat)
    room = min(Fraction(fmt.max), Fraction(2) ** 16)
    top = float(room)
    edges = [top, math.nextafter(top, 0), math.nextafter(top, math.inf), top / 2, 1.0, 5e-324, 1e308, 3.0, 0.1]
    for largest in edges:
        k = workloads.scale_exponent(np.array([largest / 2, -largest]), fmt)
        assert Fraction(largest) * Fraction(2) ** k <= room < Fraction(largest) * Fraction(2) ** (k + 1)


@pytest.mark.parametrize("tensor", [[], [0.0, -0.0], [np.inf, 1.0], [np.nan]])
def test_scale_of_nothing_is_one(tensor: list[float]) -> None:
    assert workloads.scale_exponent(np.array(tensor), lp.format("e4m3fn")) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["e8m2", "e8m3", "e8m5"])
def test_scales_are_exact(digits: MLP, name: str) -> None:
    """A format with float32's range needs no scale, and rounds the same bits with one: power-of-two equivariance."""
    scaled, plain = digits.forward(name), digits.forward(name, scaled=False)
    assert scaled.scaled
    assert not plain.scaled
    assert all(scaled.weight_exponents)
    np.testing.assert_array_equal(scaled.logits, plain.logits)


def test_scales_help_where_range_is_short(result: StudyResult) -> None:
    plain = study(dtypes=["e2m1fn", "e4m3fn", "bf16"], scaled=False, progress=False)
    assert not any(record["scaled"] for record in plain.table)
    assert row(plain, "e2m1fn")["sqnr_db"] < row(result, "e2m1fn")["sqnr_db"] - 2 * DB_PER_BIT
    assert row(plain, "bf16") == row(result, "bf16") | {"scales": "none", "label": "bf16, scales none"}
    assert not any(note.startswith("scaled:") for note in plain.notes)


# ------------------------------------------------------------------------------------------------------------- metrics


def test_sqnr_by_hand() -> None:
    reference = np.array([[3.0, 4.0]])
    assert metrics.sqnr_db(reference + np.array([[0.5, 0.0]]), reference) == 10 * math.log10(25 / 0.25)
    assert metrics.sqnr_db(reference, reference) == math.inf
    assert metrics.sqnr_db(np.array([[np.inf, 4.0]]), reference) == -math.inf
    assert math.isnan(metrics.sqnr_db(np.array([[np.nan, np.inf]]), reference))
    assert metrics.sqnr_db(np.zeros((1, 2)), reference) == 0.0


def test_cross_entropy_by_hand() -> None:
    logits, labels = np.array([[0.0, math.log(3)], [2.0, 2.0]]), np.array([1, 0])
    want = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    assert metrics.cross_entropy(logits, labels) == pytest.approx(want, abs=4 * np.finfo(float).eps)  # four roundings
    assert metrics.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])) == 1e4
    assert math.isnan(metrics.cross_entropy(np.array([[np.inf, 0.0]]), np.array([0])))


def test_accuracy_by_hand() -> None:
    logits = np.array([[1.0, 2.0], [5.0, 5.0], [np.nan, 0.0], [9.0, 0.0]])
    assert metrics.accuracy(logits, np.array([1, 0, 0, 1])) == 2 / 4
    assert metrics.top1_agreement(logits, np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])) == 3 / 4


def test_metrics_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match=r"`logits` must have the shape of `reference`, \(1, 2\), got \(2, 1\)"):
        metrics.sqnr_db(np.zeros((2, 1)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="`reference` must not be all zero"):
        metrics.sqnr_db(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="`logits` must have the shape"):
        metrics.top1_agreement(np.zeros((2, 1)), np.ones((1, 2)))


# --------------------------------------------------------------------------------------------------------------- views


def test_csv_holds_every_record_in_full(result: StudyResult, tmp_path: Path) -> None:
    path = result.to_csv(tmp_path / "study.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.table)
    for got, want in zip(rows, result.table, strict=True):
        for name, value in want.items():
            text = "" if value is None else str(value)
            assert (float(got[name]) == value) if isinstance(value, float) else (got[name] == text), name


def test_text_names_every_format_and_says_what_accuracy_hides(result: StudyResult) -> None:
    text = str(result)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[3 : 3 + len(EVERY)]] == [record["label"] for record in result.table]
    sentence = next(line for line in lines if line.startswith("Accuracy alone cannot tell formats apart: "))
    found = re.search(r"(\d+) of (\d+) rows have the accuracy ([\d.]+)%.*from ([\d.]+) to ([\d.]+) dB", sentence)
    assert found
    alike = [r for r in result.table if f"{r['accuracy']:.2%}" == f"{found[3]}%"]
    assert (len(alike), len(result.table)) == (int(found[1]), int(found[2]))
    values = [record["sqnr_db"] for record in alike]
    assert (f"{min(values):.1f}", f"{max(values):.1f}") == (found[4], found[5])
    assert "More is better: SQNR, accuracy, agreement; less is better: CE, increase of CE." in text
    assert repr(result) == f"StudyResult('digits', {len(EVERY)} records, {result.samples} samples)"


def test_one_row_has_its_sentence() -> None:
    only = study(toy(), dtypes=["bf16"], progress=False)
    assert "one sample in 7 is 14.29%" in str(only)
    assert str(only).startswith("toy: 1 run, 7 samples\n")


def test_rich_fits_eighty_columns(result: StudyResult) -> None:
    console = pytest.importorskip("rich.console").Console(width=80, record=True, file=io.StringIO())
    console.print(result)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    body = lines[3 : 3 + len(EVERY)]
    assert [line.split()[0] for line in body] == [record["label"] for record in result.table]
    assert [line.split()[-1] for line in body] == [f"{record['top1_agreement']:.2%}" for record in result.table]


class Cells(HTMLParser):
    """Collects table cells, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.cells: list[str] = []
        self.svgs = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta",):
            self.stack.append(tag)
        self.svgs += tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in ("td", "th"):
            self.cells.append(data)


def test_html_is_one_page_with_table_and_picture(result: StudyResult, tmp_path: Path) -> None:
    text = result.to_html(tmp_path / "study.html").read_text(encoding="utf-8")
    page = Cells()
    page.feed(text)
    assert page.stack == []
    assert page.svgs == len(result.kinds) == 2
    assert {record["label"] for record in result.table} <= set(page.cells)
    assert "Accuracy alone cannot tell formats apart" in text
    assert re.search(r"(src|href)=.https?://", text) is None, "the page must stand alone"
    assert result._repr_html_() in text


def test_html_escapes() -> None:
    assert "<b>" not in tables.to_html(tables.Table(["<b>"], [["<b>&"]], "<b>", ["<b>"])).replace("<tbody>", "")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_is_written(result: StudyResult, tmp_path: Path, suffix: str) -> None:
    path = result.plot(tmp_path / f"study.{suffix}")
    start = path.read_bytes()[:400]
    assert start.startswith({"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])


def test_plot_refuses_an_unknown_kind(result: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jpgg"):
        result.plot(tmp_path / "study.jpgg")


def test_svg_is_the_same_every_time(result: StudyResult) -> None:
    text = plots.svg(result)
    assert text == plots.svg(result)
    ET.fromstring(text.replace("xlink:", ""))


NEAR = [f"e{e}m{m}" for e in (4, 5) for m in range(2, 11)]


@pytest.mark.parametrize(
    ("dtypes", "accumulators"),
    [
        (None, None),
        (None, ["fp32", "fp64"]),
        (NEAR, None),
        (["bf16", "e8m8", "e8m9", "fp32"], ["fp32", "fp64"]),
        (["fp64"], None),
        (["e4m3b11fnuz", "e4m3fnuz", "e5m2fnuz"], None),
    ],
)
def test_labels_do_not_overlap(dtypes: Any, accumulators: Any) -> None:
    result = study(dtypes=dtypes, accumulators=accumulators, progress=False)
    figure = plots.figure(result)
    figure.draw_without_rendering()
    page = figure.bbox
    for panel, axes in enumerate(figure.axes):
        labels = [text for text in axes.texts if text.get_gid() == "label"]
        boxes = [label.get_window_extent() for label in labels]
        for i, box in enumerate(boxes):
            assert page.x0 <= box.x0 < box.x1 <= page.x1, labels[i].get_text()
            assert page.y0 <= box.y0 < box.y1 <= page.y1, labels[i].get_text()
            # Bounding boxes hold the room of letters that a label may not have; a tenth of the height is not ink.
            inner = box.padded(0, -0.1 * box.height)
            crossed = [labels[j].get_text() for j in range(i) if inner.overlaps(boxes[j].padded(0, -0.1 * box.height))]
            assert not crossed, (panel, labels[i].get_text(), crossed)
        named = " ".join(label.get_text() for label in labels) + axes.get_title(loc="right")
        assert all(record["label"].partition("/")[0] in named for record in result.table)


def test_labels_meet_without_the_spread(result: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail."""
    monkeypatch.setattr(_plots_bits, "spread", lambda heights, bottom, top: heights)
    with pytest.raises(AssertionError):
        test_labels_do_not_overlap(None, None)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"dtypes": ["uint8"]}, ValueError, "`dtypes` must be signed, got uint8"),
        ({"dtypes": ["e8m0fnu"]}, ValueError, "`dtypes` must hold negative values and zero, got float8_e8m0fnu"),
        ({"dtypes": ["fp8"]}, ValueError, "`dtypes` must name one format, got 'fp8'"),
        ({"dtypes": ["bf61"]}, ValueError, "`dtypes` must hold known formats, got 'bf61'; the closest: "),
        ({"dtypes": 3}, TypeError, "`dtypes` must be"),
        ({"dtypes": []}, ValueError, "`dtypes` must not be empty"),
        ({"accumulators": []}, ValueError, "`accumulators` must not be empty"),
        ({"accumulators": ["fp23"]}, ValueError, "`accumulators` must be"),
        ({"weights": ["int4/0"]}, ValueError, "`weights` must have a positive block size"),
        ({"weights": [3]}, TypeError, "`weights` must be"),
        ({"sparsity": ["2:4 wander"]}, ValueError, "`sparsity` must be a pattern and one of"),
        ({"scales": ["rows"]}, ValueError, "`scales` must be one of"),
        ({"scales": "row", "scaled": True}, ValueError, "`scaled` must be left out where `scales` is given"),
        ({"seed": "a"}, TypeError, "`seed` must be an integer, got 'a'"),
        ({"workload": "digit"}, ValueError, "got 'digit'; the closest: 'digits'"),
        ({"window": 3}, ValueError, "`window` must be an option of the workload 'digits', which has no options"),
        ({"workload": 3}, TypeError, "`workload` must be a name or a Workload, got 3"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        study(**arguments, progress=False)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"inputs": np.zeros((2, 3))}, TypeError, "`inputs` must be an ndarray of float32, got float64"),
        ({"labels": np.zeros(7)}, TypeError, "`labels` must be an ndarray of integers, got float64"),
        ({"labels": np.zeros(6, int)}, ValueError, "`labels` must have shape (7,), got (6,)"),
        ({"labels": np.full(7, 3)}, ValueError, "`labels` must be from 0 to 2, got 3 to 3"),
        ({"inputs": np.zeros((0, 5), np.float32)}, ValueError, "`inputs` must have shape (N, features)"),
        ({"weights": ()}, ValueError, "`weights` and `biases` must have one entry per layer, got 0, 2"),
        ({"biases": (np.zeros(4, np.float32),) * 2}, ValueError, "`biases[1]` must have shape (3,), got (4,)"),
        (
            {"weights": (np.zeros((4, 6), np.float32), np.zeros((3, 4), np.float32))},
            ValueError,
            "`weights[0]` must have shape (out_features, 5), got (4, 6)",
        ),
    ],
)
def test_bad_workloads(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    good = toy()
    facts = {name: getattr(good, name) for name in ("name", "inputs", "labels", "weights", "biases")}
    with pytest.raises(kind, match=re.escape(message)):
        MLP(**{**facts, **change})


def test_own_workload_runs() -> None:
    table = study(toy(), dtypes=["fp64", "e4m3fn"], progress=False).table
    assert [record["workload"] for record in table] == ["toy", "toy"]


def test_no_records_is_an_error() -> None:
    with pytest.raises(ValueError, match="`table` must have at least one record"):
        StudyResult([], workload="x", source="")


# -------------------------------------------------------------------------------------- lazy imports, missing packages


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package and what is loaded of it look as if it were not installed."""
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)


MEND = re.escape('pip install "lowprec[study]"')


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    workloads.digits.cache_clear()
    hide(monkeypatch, "sklearn")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=f"digits, fp64: The workload 'digits' needs scikit-learn.*{MEND}"):
        study(cache=False, progress=False)
    assert study(toy(), dtypes=["bf16"], progress=False).table


def test_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tqdm")
    with pytest.raises(ImportError, match=f"A progress bar needs tqdm.*{MEND}"):
        study(toy(), dtypes=["bf16"])
    assert study(toy(), dtypes=["bf16"], progress=False).table


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = study(toy(), dtypes=["bf16"], progress=False)
    hide(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=f"A plot needs matplotlib.*{MEND}"):
        result.plot(tmp_path / "study.png")
    with pytest.raises(ImportError, match=MEND):
        result.to_html(tmp_path / "study.html")
    assert list(tmp_path.iterdir()) == []
    assert result.to_csv(tmp_path / "study.csv").exists()


def test_progress_bar_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    study(toy(), dtypes=["bf16", "fp16"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "toy: 100%" in err
    assert "2/2" in err


def test_lazy_and_callable(tmp_path: Path) -> None:
    """`lowprec.study` is not loaded with lowprec, loads nothing heavy, and is called like a function."""
    code = """
import inspect, sys
import lowprec as lp
assert "lowprec.study" not in sys.modules
assert "study" in lp.__all__ and "study" in dir(lp)
call = lp.study
heavy = {"sklearn", "matplotlib", "rich", "tqdm"} & set(sys.modules)
assert not heavy, heavy
assert call is sys.modules["lowprec.study"] and callable(call)
import lowprec.study
assert lp.study is call
from lowprec import study
assert study is call
parameters = inspect.signature(lp.study).parameters
names = "workload dtypes accumulators weights sparsity scales scaled seed cache executor progress options"
assert list(parameters) == names.split(), parameters
result = lp.study("digits", ["bf16"], progress=False)
result.to_csv(sys.argv[1])
assert "matplotlib" not in sys.modules
result.plot(sys.argv[1] + ".png")
assert "matplotlib.pyplot" not in sys.modules
try:
    lp.nonsense
except AttributeError as error:
    assert "nonsense" in str(error)
else:
    raise SystemExit("no AttributeError")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "study.csv")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------- the committed weights


def test_weights_are_what_the_script_says(digits: MLP, script: ModuleType, result: StudyResult) -> None:
    with np.load(script.TARGET, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    assert REPOSITORY / str(content["script"]) == SCRIPT
    assert int(content["seed"]) == script.SEED
    indices = content["test_indices"]
    assert len(np.unique(indices)) == len(indices) == result.samples
    assert script.accuracy(content) == row(result, "fp32")["accuracy"]
    assert [weight.shape for weight in digits.weights] == [(128, 64), (64, 128), (10, 64)]
    for name, array in [(f"weight{i}", w) for i, w in enumerate(digits.weights)]:
        assert content[name].dtype == np.float32
        np.testing.assert_array_equal(content[name], array)
        assert not array.flags.writeable
    assert script.TARGET.stat().st_size < 100_000


def test_script_trains_the_same_split_as_well(script: ModuleType) -> None:
    """Another BLAS ends in other weights; the split is the same and the network as good, within four samples in 599."""
    with np.load(script.TARGET, allow_pickle=False) as file:
        content = {name: file[name] for name in file.files}
    again = script.train()
    np.testing.assert_array_equal(again["test_indices"], content["test_indices"])
    assert set(again) == set(content)
    assert abs(script.accuracy(again) - script.accuracy(content)) <= 4 / len(content["test_indices"])
