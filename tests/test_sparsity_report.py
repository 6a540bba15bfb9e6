"""The report of what sparsity loses: its numbers by their definitions, its tables, its picture, and what it refuses."""

from __future__ import annotations

import csv
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smollm

import lowprec as lp
from lowprec.pruning import _losses

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
W = RNG.standard_t(4, (10, 24))
X = RNG.standard_normal((40, 24)) * RNG.gamma(1, 1, 24)
OTHER = RNG.standard_normal((30, 24))


def rows(report: lp.SparsityReport) -> dict[str, dict[str, Any]]:
    return {row["method"]: dict(row) for row in report.table}


def best(scores: Array, pattern: lp.SparsityPattern) -> Array:
    """Return the mask of the definition: of each group the choice with the largest sum, the first of equals."""
    mask = np.zeros(scores.shape, bool)
    for row in range(len(scores)):
        for first in range(0, scores.shape[1], pattern.group):
            group = scores[row, first : first + pattern.group]
            choice = max(pattern.choices, key=lambda places: group[list(places)].sum())
            mask[row, [first + place for place in choice]] = True
    return mask


def error(w: Array, sparse: Array, x: Array) -> float:
    return float(((x @ (w - sparse).T) ** 2).sum() / ((x @ w.T) ** 2).sum())


def check(w: Array, x: Array | None, other: Array | None) -> None:
    """Compare every row of a report with its definition."""
    made = rows(lp.sparsity_report(w, activations=x, test_activations=other, formats=[]))
    scores = abs(w.astype(np.float64))
    large = np.zeros(w.size, bool)
    large[np.argsort(-scores.reshape(-1), kind="stable")[: w.size - w.size // 2]] = True
    masks = {
        "unstructured 50 %": large.reshape(w.shape),
        "2:4": best(scores, lp.SparsityPattern(2, 4)),
        "1:2": best(scores, lp.SparsityPattern(1, 2)),
        "4:8 in pairs": best(scores, lp.SparsityPattern(4, 8, 2)),
    }
    found = lp.search_permutation(w, method="exhaustive")
    there = best(found.apply(scores), lp.SparsityPattern(2, 4))
    masks["2:4, channels permuted"] = np.array([row[found.inverse] for row in there])
    for how in ("best", "greedy"):
        masks[f"2:4 along both axes, {how}"] = lp.sparsity_mask(w, transposable=how)
    results = {name: (mask, np.where(mask, w, 0)) for name, mask in masks.items()}
    if x is not None:
        wanda = scores * np.sqrt((x**2).sum(axis=0))
        found = lp.search_permutation(w, scores=wanda, method="exhaustive")
        there = best(found.apply(wanda), lp.SparsityPattern(2, 4))
        for name, mask in (
            ("2:4 by Wanda", best(wanda, lp.SparsityPattern(2, 4))),
            ("2:4 by Wanda, channels permuted", np.array([row[found.inverse] for row in there])),
        ):
            results[name] = mask, np.where(mask, w, 0)
        gpt = lp.sparsify(w, criterion="sparsegpt", activations=x)
        results["2:4 by SparseGPT"] = gpt.mask, gpt.to_dense()
        gpt = lp.sparsify(w[:, found.order], criterion="sparsegpt", activations=x[:, found.order])
        back = np.argsort(found.order)
        results["2:4 by SparseGPT, channels permuted"] = gpt.mask[:, back], np.asarray(gpt.to_dense())[:, back]
    assert set(made) == set(results)
    for name, (mask, sparse) in results.items():
        row = made[name]
        assert row["density"] == mask.mean(), name
        # Sums of 240 float64 numbers in two orders.
        assert row["kept_magnitude"] == pytest.approx(scores[mask].sum() / scores.sum(), rel=1e-12), name
        if x is None:
            assert row["output_error"] is None
        else:
            assert row["output_error"] == pytest.approx(error(w, sparse, x if other is None else other), rel=1e-9), name


def test_rows_without_activations() -> None:
    check(W, None, None)


def test_rows_with_activations() -> None:
    check(W, X, None)


def test_rows_with_other_activations() -> None:
    check(W, X, OTHER)


def test_order_of_what_is_kept() -> None:
    """Nothing keeps more than unstructured; permuting never keeps less; two axes never keep more than one."""
    made = {name: row["kept_magnitude"] for name, row in rows(lp.sparsity_report(W, formats=[])).items()}
    assert made["unstructured 50 %"] >= made["2:4, channels permuted"] > made["2:4"] >= made["1:2"]
    assert made["2:4"] >= made["4:8 in pairs"]
    assert made["2:4"] >= made["2:4 along both axes, best"] >= made["2:4 along both axes, greedy"]


@pytest.mark.parametrize(("count", "kept"), [(8, 4), (9, 5)])
def test_unstructured_takes_the_first_of_equals(count: int, kept: int) -> None:
    mask = _losses.unstructured(np.array([[1.0] * count]))
    assert mask.tolist() == [[True] * kept + [False] * (count - kept)]
    mask = _losses.unstructured(np.array([[3, 1, 2, 1, 1, 2, 0, 0.0]]))
    assert mask.tolist() == [[True, True, True, False, False, True, False, False]]


def test_batches_and_axes() -> None:
    whole = lp.sparsity_report(W, activations=X, formats=[]).table
    parts = lp.sparsity_report(W, activations=[X[:15], X[15:]], formats=[]).table
    turned = lp.sparsity_report(W.T, axis=0, activations=X[None], formats=[]).table
    conv = lp.sparsity_report(W.reshape(5, 2, 24).transpose(0, 2, 1)[..., None], axis=1, activations=X, formats=[])
    assert conv.shape == (10, 24)
    for row, second, third, fourth in zip(whole, parts, turned, conv.table, strict=True):
        for other in (second, third, fourth):
            assert other["method"] == row["method"]
            assert other["kept_magnitude"] == pytest.approx(row["kept_magnitude"], rel=1e-12)
            assert other["output_error"] == pytest.approx(row["output_error"], rel=1e-9)


def test_criteria_and_permute() -> None:
    names = set(rows(lp.sparsity_report(W, activations=X, criteria=["wanda"], permute=False, formats=[])))
    assert names == {"2:4 by Wanda"}
    short = lp.sparsity_report(W, permute=1e-9, formats=[])
    row = rows(short)["2:4, channels permuted"]
    assert not row["finished"]
    assert row["kept_magnitude"] == rows(short)["2:4"]["kept_magnitude"]
    assert "at most 1e-09 s, which ended it." in short.notes[-1]
    assert not any(row["permuted"] for row in lp.sparsity_report(W, permute=False).table)


def test_zeros() -> None:
    made = lp.sparsity_report(np.zeros((4, 8)), activations=X[:, :8], criteria=["magnitude"])
    assert {row["kept_magnitude"] for row in made.table} == {1.0}
    assert {row["output_error"] for row in made.table} == {0.0}


def test_silent_inputs_hide_no_error() -> None:
    """All outputs are 0 of these activations, and not so once something is dropped."""
    made = lp.sparsity_report([[1.0, -1, 1, -1]], activations=[[1.0, 1, 1, 1]], criteria=["magnitude"], permute=False)
    assert rows(made)["2:4 along both axes, best"]["output_error"] in (0.0, np.inf)
    assert rows(lp.sparsity_report([[2.0, -1, -1, 0]], activations=[[1.0] * 4], criteria=["magnitude"]))["2:4"][
        "output_error"
    ] == np.inf  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ storage
def test_bits_per_element() -> None:
    made = lp.sparsity_report(W, permute=False, formats=["fp16", "bf16", "int8", "e4m3fn", "e2m3fn", "int4", "fp32"])
    found = [(row["format"], row["pattern"], row["sparse_bits"]) for row in made.storage]
    assert found == [
        ("float16", "2:4", 9),
        ("bfloat16", "2:4", 9),
        ("int8", "2:4", 5),
        ("float8_e4m3fn", "2:4", 5),
        ("float6_e2m3fn", "2:4", 4),
        ("int4", "2:4", 3),
        ("int4", "4:8", 2.5),
        ("float32", "2:4", 17),
        ("float32", "1:2", 18),
    ]
    for row in made.storage:
        assert row["ratio"] == row["sparse_bytes"] / row["dense_bytes"]
        assert row["sparse_bytes"] * 8 / W.size == row["sparse_bits"]


@pytest.mark.parametrize("columns", [24, 22])
def test_bytes_are_those_of_a_sparse_array(columns: int) -> None:
    w = W[:, :columns].astype(np.float32)
    made = {(row["format"], row["pattern"]): row for row in lp.sparsity_report(w, formats=["fp32", "bf16"]).storage}
    for pattern in ("2:4", "1:2"):
        s = lp.sparsify(w, pattern)
        assert made["float32", pattern]["sparse_bytes"] == s.nbytes
    assert made["bfloat16", "2:4"]["sparse_bytes"] == lp.sparsify(w, dtype="bf16").nbytes
    assert made["bfloat16", "2:4"]["dense_bytes"] == w.size * 2


@pytest.mark.parametrize("fmt", ["mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8"])
def test_bytes_of_block_formats(fmt: str) -> None:
    w = np.random.default_rng(1).standard_normal((6, 64)).astype(np.float32)
    row = lp.sparsity_report(w, permute=False, formats=[fmt]).storage[0]
    q = lp.quantize(w, fmt)
    alone = 4 if fmt == "mxint8" else 0  # its scale of the whole tensor is not counted
    assert row["dense_bytes"] == q.nbytes - alone
    assert row["sparse_bytes"] == lp.sparsify(q).nbytes - alone
    assert row["scale_bits"] == 0.25
    assert row["sparse_bits"] == lp.block_format(fmt).element.bits / 2 + 1 + 0.25


# ----------------------------------------------------------------------------------------------------------- printing
def test_text() -> None:
    report = lp.sparsity_report(W, activations=X, test_activations=OTHER)
    text = str(report)
    for row in report.table:
        assert re.search(
            rf"^{re.escape(row['method'])} +{row['density']:.4f} +{row['kept_magnitude']:.4f} "
            rf"+{re.escape(format(row['output_error'], '.4g'))}$",
            text,
            re.MULTILINE,
        )
    assert "of held-out activations" in text
    assert "of the activations that the criteria saw" in str(lp.sparsity_report(W, activations=X))
    assert "output error" not in str(lp.sparsity_report(W))
    assert "Storage" not in str(lp.sparsity_report(W, formats=[]))
    assert repr(report) == "SparsityReport(shape=(10, 24), 11 ways, 5 rows of storage)"
    html = report._repr_html_()
    assert html.count("<table>") == 2
    assert html.count("<tr>") == 2 + len(report.table) + len(report.storage)


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    report = lp.sparsity_report(W)
    report.show()
    assert capsys.readouterr().out.strip() == str(report)
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=100, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(report)
    assert "2:4, channels permuted" in captured.get()


def test_csv(tmp_path: Path) -> None:
    report = lp.sparsity_report(W, activations=X)
    with report.to_csv(tmp_path / "a.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["kept_magnitude"]) for row in read] == [row["kept_magnitude"] for row in report.table]
    assert [float(row["output_error"]) for row in read] == [row["output_error"] for row in report.table]
    with report.to_csv(str(tmp_path / "b.csv"), storage=True).open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(row["sparse_bytes"]) for row in read] == [row["sparse_bytes"] for row in report.storage]


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from lowprec.pruning import _bars

    for x, panels in ((None, 1), (X, 2)):
        report = lp.sparsity_report(W, activations=x, formats=[])
        drawn = _bars.figure(report)
        assert len(drawn.axes) == panels
        bars = drawn.axes[0].containers[0]
        assert [bar.get_width() for bar in bars] == [row["kept_magnitude"] for row in report.table]
        assert report.plot(tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    drawn.draw_without_rendering()
    window = drawn.bbox
    for axes in drawn.axes:  # no number is cut off
        for text in axes.texts:
            box = text.get_window_extent()
            assert window.x0 <= box.x0
            assert box.x1 <= window.x1
    with pytest.raises(ValueError, match="xyz"):
        report.plot(tmp_path / "plot.xyz")


# ---------------------------------------------------------------------------------------------------------- bad input
NAN = np.where(W[0, 5] == W, np.nan, W)


@pytest.mark.parametrize(
    ("w", "arguments", "kind", "message"),
    [
        (NAN, {}, ValueError, "`w` must not hold NaN, got one at index (0, 5)"),
        (NAN * 0 + np.inf, {}, ValueError, "`w` must"),
        (W[0], {}, ValueError, "`w` must have two axes or more"),
        (W[:0], {}, ValueError, "and an element, got shape (0, 24)"),
        (W, {"axis": 2}, ValueError, "`axis` must be from -2 to 1 for `w` of shape (10, 24), got 2"),
        (W, {"axis": None}, TypeError, "`axis` must be an integer"),
        (W, {"activations": X[:, :20]}, ValueError, "`activations` must have 24 features on its last axis"),
        (W, {"activations": X * np.nan}, ValueError, "`activations` must be finite"),
        (W, {"activations": X, "test_activations": X[:, 1:]}, ValueError, "`test_activations` must have 24 features"),
        (W, {"test_activations": X}, ValueError, "`test_activations` must come with `activations`"),
        (W, {"criteria": ["wanda"]}, ValueError, "`activations` must be given for the criterion 'wanda'"),
        (W, {"criteria": ["wnda"]}, ValueError, "got 'wnda'; the closest: 'wanda'"),
        (W, {"criteria": "wanda"}, TypeError, "`criteria` must be a list of names"),
        (W, {"criteria": []}, TypeError, "`criteria` must be a list of names"),
        (W, {"criteria": [3]}, TypeError, "`criteria` must be a list of names"),
        (W, {"permute": 0.0}, ValueError, "`permute` must be above 0"),
        (W, {"permute": -1}, ValueError, "`permute` must be above 0"),
        (W, {"permute": "yes"}, TypeError, "`permute` must be a number"),
        (W, {"formats": "bf16"}, TypeError, "write ['bf16']"),
        (W, {"formats": ["bf17"]}, ValueError, "`formats` must"),
        (W, {"formats": [None]}, TypeError, "`formats` must"),
    ],
)
def test_bad_input(w: Any, arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        lp.sparsity_report(w, **arguments)
    assert message in str(caught.value)


# ------------------------------------------------------------------------------- bugs, each of which a check must see
def _not_put_back(scores: Array, found: lp.ChannelPermutation) -> Array:
    return lp.sparsity_mask(scores, criterion=found.apply(scores))


def _put_back_twice(scores: Array, found: lp.ChannelPermutation) -> Array:
    return found.apply(lp.sparsity_mask(scores, criterion=found.apply(scores)))


def _smaller_half(scores: Array) -> Array:
    return scores <= np.median(scores)


def _of_magnitudes(w: Array, sparse: Array, hessian: Array) -> float:
    return float(((w - sparse) ** 2).sum() / (w**2).sum())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("in_order", _not_put_back),
        ("in_order", _put_back_twice),
        ("unstructured", _smaller_half),
        ("relative", _of_magnitudes),
    ],
)
def test_planted_bug_is_seen(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_losses, name, wrong)
    with pytest.raises(AssertionError):
        check(W, X, None)


# ------------------------------------------------------------------------------------------------------- a real layer
@pytest.mark.oracles
@pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")
def test_smollm_layer() -> None:
    """On text that no criterion has seen: SparseGPT before Wanda before magnitude, and permuted before not."""
    model = smollm.load()
    tokens = model.tokens(smollm.text())
    x, other = (smollm.activations(0, "attn_q", part.reshape(2, 128)) for part in (tokens[:256], tokens[256:512]))
    made = rows(
        lp.sparsity_report(
            model.weight("blk.0.attn_q.weight"), activations=x, test_activations=other, formats=[], permute=20.0
        )
    )
    errors = {name: row["output_error"] for name, row in made.items()}
    assert errors["2:4 by SparseGPT"] < errors["2:4 by Wanda"] < errors["2:4"]
    assert made["2:4, channels permuted"]["kept_magnitude"] > made["2:4"]["kept_magnitude"] + 0.01


def test_pairs_of_a_group() -> None:
    """The choices that `best` tries are all there are."""
    assert lp.SparsityPattern(2, 4).choices == tuple(combinations(range(4), 2))
