"""Rooflines: the times by hand and by definition, the machines and their sources, the picture, and what is refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec.cost import _tables


def test_decoding_by_hand() -> None:
    """Acceptance: one row times 4096 x 4096 weights at 3.35 TB/s."""
    wanted = {"bf16": (33.6, 10.0), "int4": (8.4, 2.5), "int8 2:4": (10.5, 3.1)}
    found = {
        "bf16": lp.cost.roofline(1, 4096, 4096, "bf16"),
        "int4": lp.cost.roofline(1, 4096, 4096, "bf16", weights="int4"),
        "int8 2:4": lp.cost.roofline(1, 4096, 4096, "int8", sparsity="2:4"),
    }
    assert {name: (round(r.bytes / 1e6, 1), round(r.seconds * 1e6, 1)) for name, r in found.items()} == wanted
    assert found["bf16"].bytes == 2 * (4096 + 4096**2 + 4096)
    assert {r.bound for r in found.values()} == {"memory"}


SIZES = st.integers(1, 5000)


@given(SIZES, SIZES, SIZES, st.sampled_from([1e9, 3e11, 1e15]), st.sampled_from([1e6, 5e10, 8e12]))
def test_the_definition(m: int, k: int, n: int, peak: float, bandwidth: float) -> None:
    r = lp.cost.roofline(m, k, n, "fp16", peak=peak, bandwidth=bandwidth)
    moved = 2 * (m * k + k * n + m * n)
    assert r.bytes == moved
    assert r.seconds == max(2 * m * k * n / peak, moved / bandwidth)
    assert r.bound == ("memory" if moved / bandwidth > 2 * m * k * n / peak else "compute")
    assert r.bound == ("memory" if r.intensity < r.ridge else "compute") or r.intensity == pytest.approx(r.ridge)
    assert r.attained == pytest.approx(min(peak, r.intensity * bandwidth))


def test_figures_say_what_they_are() -> None:
    r = lp.cost.roofline(64, 256, 128, "e4m3fn", "h100")
    units = {"seconds": "s", "intensity": "op/byte", "ridge": "op/byte", "attained": "op/s"}
    assert {name: getattr(r, name).unit for name in units} == units
    assert r.seconds.kind == "closed form"
    assert r.intensity.kind == "exact count"
    assert r.peak.kind == "published"
    assert "h100" in r.seconds.source
    assert "Bound by memory" in str(r)
    assert "<table>" in r._repr_html_()
    assert repr(r).startswith("<Roofline of 64 x 256 x 128 float8_e4m3fn on h100: ")


def test_sparsity_doubles_the_peak_that_the_data_sheet_has() -> None:
    dense, sparse = (lp.cost.roofline(4096, 4096, 4096, "int8", "h100", sparsity=s) for s in (None, "2:4"))
    assert (dense.peak, sparse.peak) == (1978.9e12, 3957.8e12)
    assert (dense.bound, sparse.bound) == ("compute", "compute")
    assert sparse.seconds == pytest.approx(dense.seconds / 2)
    assert sparse.traffic.ops == dense.traffic.ops


def test_machines_have_sources_and_agree_with_each_other() -> None:
    listed = {machine.name: machine for machine in lp.cost.machines()}
    assert len(listed) == len(lp.cost.machines()) == 12
    for name, machine in listed.items():
        assert lp.cost.machine(name) is machine
        for fmt, peak in machine.peaks.items():
            lp.format(fmt)
            assert (peak.unit, peak.kind) == ("op/s", "published")
            assert re.search(r"\((seen|second-hand|memory)\)$", peak.source)
            assert machine.sparse_peaks.get(fmt, 2 * peak) == pytest.approx(2 * peak, rel=1e-3)
            assert machine.peak(fmt) is peak
        assert machine.bandwidth.unit == "byte/s"
        assert machine.power is None or 1 < machine.power < 2000
        assert lp.cost.cite(name)
        assert machine.title in str(machine)
    assert {row["state"] for row in _tables.read("machines.csv")} <= set(_tables.STATES)
    assert listed["h100"].peaks == listed["h200"].peaks
    assert lp.cost.machine("a100") is listed["a100-80gb"]
    assert lp.cost.machine("Edge TPU") is listed["edgetpu"]
    assert str(lp.cost.machines()).count("\n") == 14


def test_machines_by_what_they_are_built_of() -> None:
    """Arrays times their clock, for TPUs; FMAs of a multiprocessor, for the V100: within the digits of the sheets."""
    for name, fmt, macs, clock in (
        ("tpuv1", "int8", 256 * 256, 0.7e9),
        ("tpuv2", "bf16", 2 * 128 * 128, 0.7e9),
        ("tpuv3", "bf16", 4 * 128 * 128, 0.94e9),
        ("tpuv4", "bf16", 8 * 128 * 128, 1.05e9),
        ("v100", "fp16", 80 * 512, 1.53e9),
        ("a100", "fp16", 108 * 1024, 1.41e9),
        ("h100", "fp16", 132 * 2048, 1.83e9),
    ):
        assert lp.cost.machine(name).peak(fmt) == pytest.approx(2 * macs * clock, rel=0.005), name
    edge = lp.cost.machine("edgetpu")
    assert edge.peak("int8") / edge.power == 2e12


def test_this_machine_is_measured() -> None:
    here = lp.cost.this_machine(["bf16"], size=64)
    assert set(here.peaks) == {"float32", "bfloat16"}
    for figure in (*here.peaks.values(), here.bandwidth):
        assert figure.kind == "measured"
        assert 1e7 < figure < 1e15
    r = lp.cost.roofline(64, 64, 64, "bf16", here)
    assert r.seconds.kind == "measured"
    assert "np.matmul" in str(here)


def test_results_pickle_and_do_not_change() -> None:
    h100 = lp.cost.machine("h100")
    again = pickle.loads(pickle.dumps(h100))
    assert (again.peaks, again.bandwidth.source) == (h100.peaks, h100.bandwidth.source)
    with pytest.raises(TypeError):
        h100.peaks["int4"] = 1.0
    r = lp.cost.roofline(8, 16, 24, "bf16")
    assert pickle.loads(pickle.dumps(r)).seconds == r.seconds


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one = lp.cost.roofline(1, 4096, 4096, "bf16")
    more = [lp.cost.roofline(m, 4096, 4096, "int8", name) for m in (1, 4096) for name in ("h100", "tpuv4")]
    assert one.plot(tmp_path / "one.png").stat().st_size > 5000
    path = one.plot(tmp_path / "more.svg", *more, labels=["decode", "a", "b", "c", "d"])
    text = path.read_text(encoding="utf-8")
    for word in ("decode", "h100, 3350 GB/s", "tpuv4", "Operations for each byte", "int8: 1979 Top/s"):
        assert word in text, word
    with pytest.raises(ValueError, match="one for each product, 5, got 1"):
        one.plot(tmp_path / "no.svg", *more, labels=["x"])
    with pytest.raises(TypeError, match=r"`others` must be results of lp\.cost\.roofline, got 'h100'"):
        one.plot(tmp_path / "no.svg", "h100")
    assert not (tmp_path / "no.svg").exists()


def test_points_lie_on_their_roofs() -> None:
    pytest.importorskip("matplotlib")
    from lowprec.cost import _roofline_plot

    marks = [
        _roofline_plot.Mark("a", "m", "int8", 100.0, 10.0, 2.0),
        _roofline_plot.Mark("b", "m", "int8", 100.0, 10.0, 50),
    ]
    axes = _roofline_plot.figure(marks).axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in points] == [(2, 20), (50, 100)]
    roofs = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(roofs) == 1
    assert (roofs[0].get_xdata()[1], roofs[0].get_ydata()[1]) == (10, 100)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "machine": (lambda: lp.cost.machine("h10"), ValueError, "the closest: 'h100'"),
    "machine kind": (lambda: lp.cost.machine(100), TypeError, "`machine` must be the name of a machine, got 100"),
    "roofline machine": (lambda: lp.cost.roofline(1, 1, 1, "bf16", "tpu4"), ValueError, "the closest: 'tpuv4'"),
    "roofline kind": (lambda: lp.cost.roofline(1, 1, 1, "bf16", 4), TypeError, "`machine` must be the name"),
    "format": (
        lambda: lp.cost.roofline(1, 1, 1, "int4", "h100"),
        ValueError,
        r"h100 has a peak for \(tf32, .* got int4",
    ),
    "fp8": (lambda: lp.cost.roofline(1, 1, 1, "e4m3fn", "a100"), ValueError, "a100-80gb has a peak for"),
    "sparse": (lambda: lp.cost.roofline(1, 4, 1, "bf16", "tpuv4", sparsity="2:4"), ValueError, "on tpuv4, got 2:4"),
    "sparse fp32": (
        lambda: lp.cost.roofline(1, 4, 1, "fp32", sparsity="2:4"),
        ValueError,
        "it has it for tf32, float16",
    ),
    "both": (lambda: lp.cost.roofline(1, 1, 1, "bf16", "h100", peak=1e12), ValueError, "not be given with a machine"),
    "both, other": (
        lambda: lp.cost.roofline(1, 1, 1, "bf16", "h100", peak=1e12, bandwidth=1e9),
        ValueError,
        "`peak` must not be given with a machine",
    ),
    "one": (lambda: lp.cost.roofline(1, 1, 1, "bf16", peak=1e12), ValueError, "must be given together"),
    "zero": (lambda: lp.cost.roofline(1, 1, 1, "bf16", peak=0, bandwidth=1), ValueError, "`peak` must be above 0"),
    "infinite": (
        lambda: lp.cost.roofline(1, 1, 1, "bf16", peak=1, bandwidth=float("inf")),
        ValueError,
        "`bandwidth` must be above 0 and finite",
    ),
    "peak kind": (
        lambda: lp.cost.roofline(1, 1, 1, "bf16", peak="1", bandwidth=1),
        TypeError,
        "`peak` must be a number",
    ),
    "M": (lambda: lp.cost.roofline(0, 1, 1, "bf16"), ValueError, "`M` must be from 1"),
    "N": (lambda: lp.cost.roofline(1, 1, -3, "bf16"), ValueError, "`N` must be from 1"),
    "K": (lambda: lp.cost.roofline(1, "4", 1, "bf16"), TypeError, "`K` must be an integer"),
    "no list": (lambda: lp.cost.this_machine(5), TypeError, "`formats` must be a list of formats, got 5"),
    "size": (lambda: lp.cost.this_machine(size=8), ValueError, "`size` must be from 16 to 4096"),
    "size kind": (lambda: lp.cost.this_machine(size=64.0), TypeError, "`size` must be an integer"),
    "formats": (lambda: lp.cost.this_machine(["bf1"], size=64), ValueError, "`formats` must be a known format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()


def test_an_infinite_peak_is_refused_as_a_figure_too() -> None:
    peak = lp.cost.Figure(float("inf"), "op/s", "published")
    with pytest.raises(ValueError, match="`peak` must be above 0 and finite"):
        lp.cost.roofline(1, 2, 3, "bf16", peak=peak, bandwidth=1.0)
