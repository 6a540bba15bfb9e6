"""Published numbers: all there, none changed, each with its source; and areas that come from them alone."""

from __future__ import annotations

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import lowprec as lp
from lowprec.cost import _lookup, _tables

DATA = resources.files("lowprec.cost").joinpath("data")
SHARED = os.environ.get("LOWPREC_SHARED")
needs_facts = pytest.mark.skipif(
    not SHARED or not (Path(SHARED or "") / "facts" / "cost_published.csv").exists(),
    reason="the fact sheet's CSV files are not here; LOWPREC_SHARED names their folder",
)
UM2_PER_GE = 0.798
FULL_ADDER = 6.0


def rank_correlation(x: list[float], y: list[float]) -> float:
    """Return Spearman's coefficient, ties having their mean rank."""

    def ranks(values: list[float]) -> list[float]:
        return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]

    a, b = ranks(x), ranks(y)
    mean = (len(a) + 1) / 2
    up = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    return up / math.sqrt(sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b))


def test_every_table_has_its_source_and_its_numbers() -> None:
    listed = lp.cost.tables()
    assert [row.name for row in listed] == list(_tables.sources())
    assert {row.name: row.points for row in listed if row.points >= 100} == {"qkeras": 190, "synthesised": 167}
    for row in listed:
        points = lp.cost.table(row.name)
        assert len(points) == row.points > 0
        assert lp.cost.cite(row.name).startswith(row.source)
        assert row.covers
        assert len(row.source) > 12
    text = str(listed)
    assert len(text.splitlines()) == len(listed) + 4
    assert "<table>" in listed._repr_html_()


def test_points_are_positive_and_say_what_they_are() -> None:
    for info in lp.cost.tables():
        if info.name == "synthesised":
            continue
        states = set()
        for point in lp.cost.table(info.name):
            states.add(point.state)
            assert 0 < point.value < 1e5
            assert point.value.kind == "published"
            assert point.value.source == f"{info.name} ({point.state})"
            assert point.quantity in {"energy", "area", "power", "delay", "ratio", "rate"}
            assert bool(point.value.unit) == (point.quantity != "ratio")
        assert states <= set(_tables.STATES)
        assert info.state == max(states, key=_tables.STATES.index)


def test_numbers_as_typed_from_the_papers() -> None:
    """A second hand typed them: the 45 nm and 7 nm energies, and the areas."""
    wanted = {
        "horowitz2014": {"add": (0.03, 0.05, 0.1, 0.4, 0.9), "mult": (0.2, 3.1, 1.1, 3.7)},
        "jouppi2021": {"add": (0.007, 0.03, 0.11, 0.16, 0.38), "mult": (0.07, 1.48, 0.21, 0.34, 1.31)},
        "horowitz2014-area": {"add": (36, 67, 137, 1360, 4184), "mult": (282, 3495, 1640, 7700)},
        "eyeriss2016": {"access over one 16-bit MAC": (1, 2, 6, 200)},
    }
    for name, by_operation in wanted.items():
        for operation, values in by_operation.items():
            found = [float(point.value) for point in lp.cost.table(name) if point.operation == operation]
            assert sorted(found) == sorted(values), (name, operation)


@needs_facts
def test_no_published_number_was_lost_or_changed() -> None:
    with (Path(SHARED or "") / "facts" / "cost_published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected: Counter[tuple[str, float]] = Counter()
    quantities = {"energy_pJ": "energy", "area_um2": "area", "area_gates": "area", "power_mW": "power"}
    for row in rows:
        if re.search(r"delay ([\d.]+) ns", row["note"]):
            expected["delay", float(re.search(r"delay ([\d.]+) ns", row["note"])[1])] += 1
        quantity = quantities.get(row["quantity"], "ratio")
        if row["source"].startswith("NVIDIA"):
            quantity = "rate"
        for value in row["value"].split("/"):
            expected[quantity, float(value)] += 1
    expected["energy", 30.0] += 1  # what every instruction takes, a note there and a row here
    found = Counter(
        (point.quantity, float(point.value))
        for info in lp.cost.tables()
        if info.name != "synthesised"
        for point in lp.cost.table(info.name)
    )
    assert found == expected


@needs_facts
def test_no_synthesised_design_was_lost_or_changed() -> None:
    with (Path(SHARED or "") / "facts" / "cost_synthesised.csv").open(encoding="utf-8") as file:
        rows = {row["design"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(lp.cost.table("synthesised")) == 167
    for point in lp.cost.table("synthesised"):
        row = rows[point.design]
        assert float(row["ge_synth"]) == pytest.approx(point.ge, abs=0.051)
        assert (float(row["ge_alumacc"]), float(row["ge_noalumacc"])) == (point.ge_alumacc, point.ge_noalumacc)
        assert int(row["cells"]) == point.cells
        assert (point.flow == "alumacc") == (row["flow"] == "def")


def test_synthesised_designs_are_the_smaller_run() -> None:
    for point in lp.cost.table("synthesised"):
        assert point.ge == min(point.ge_alumacc, point.ge_noalumacc) == point.ge.low
        assert point.ge.high == max(point.ge_alumacc, point.ge_noalumacc)
        assert point.ge.kind == "synthesised"
        assert point.ge_alumacc == point.ge_noalumacc or (point.flow == "alumacc") == (point.ge == point.ge_alumacc)


def test_data_files_are_plain_and_have_clean_notes() -> None:
    for name in ("sources.csv", "published.csv", "synthesised.csv", "machines.csv", "README.md"):
        text = DATA.joinpath(name).read_text(encoding="utf-8")
        assert text.isascii(), name
        assert not re.search(r"stored copy|this study|session|not re-verified", text), name
        if name.endswith(".csv"):
            rows = list(csv.DictReader(text.splitlines()))
            assert all(None not in row and None not in row.values() for row in rows), name
    names = [row["name"] for row in _tables.read("sources.csv")]
    assert len(names) == len(set(names))
    assert {row["source"] for row in _tables.read("published.csv")} == set(names) - {"synthesised"}


def test_citations_name_technology_and_voltage() -> None:
    assert lp.cost.cite("Horowitz2014").endswith("Technology: 45 nm, 0.9 V.")
    assert lp.cost.cite("jouppi2021").endswith("Technology: 7 nm.")
    assert "H100" in lp.cost.cite("h100")


def published_areas() -> list[tuple[str, float, float]]:
    """Return the nine areas of 45 nm with gate equivalents: formulas of integers, synthesised floats."""
    gates = {point.design: float(point.ge) for point in lp.cost.table("synthesised")}
    rows = []
    for point in lp.cost.table("horowitz2014-area"):
        if point.format.startswith("int"):
            bits = int(point.format[3:])
            ge = FULL_ADDER * bits if point.operation == "add" else float(lp.cost.multiplier(point.format, "array").ge)
        else:
            ge = gates[f"fp{'add' if point.operation == 'add' else 'mul'}_fp{point.format[5:]}_ftz"]
        rows.append((f"{point.operation} {point.format}", float(point.value), ge))
    return rows


def test_published_areas_rank_as_gates_do() -> None:
    """Acceptance: over nine operations; integer adders within 15 %; floats 2 to 4 times minimum area."""
    rows = published_areas()
    assert len(rows) == 9
    assert rank_correlation([area for _, area, _ in rows], [ge for *_, ge in rows]) > 0.9
    for name, area, ge in rows:
        if name.startswith("add int"):
            assert area / UM2_PER_GE == pytest.approx(ge, rel=0.15)
        if "float" in name:
            assert 2 < area / UM2_PER_GE / ge < 4


def test_page_has_these_gates() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "cost_tables.md").read_text(encoding="utf-8")
    rows = {name: (area, ge) for name, area, ge in published_areas()}
    for operation, formats in (("add", ("int8", "int16", "int32")), ("mult", ("int8", "int32"))):
        found = [rows[f"{operation} {each}"] for each in formats]
        here = ", ".join(f"{ge:.0f}" for _, ge in found)
        ratios = ", ".join(f"{area / UM2_PER_GE / ge:.2f}" for area, ge in found)
        assert f"| {here} | {ratios} |" in page


def test_rank_correlation_can_fail() -> None:
    areas = [area for _, area, _ in published_areas()]
    assert rank_correlation(areas, sorted(areas)) < 0.9
    assert rank_correlation(areas, areas) == pytest.approx(1)
    assert rank_correlation(areas, [-area for area in areas]) == pytest.approx(-1)


def test_area_is_the_published_one_with_a_range_of_two() -> None:
    found = lp.cost.area("int8", "mult")
    assert (found, found.low, found.high, found.unit, found.kind) == (282, 141, 564, "um2", "published")
    both = lp.cost.area("int8")
    assert (both, both.low, both.high) == (282 + 137, 209.5, 838)
    assert lp.cost.area("int8", accumulator="int16") == 282 + 67
    assert lp.cost.area("uint8", "mult", table="evoapprox") == 709.6
    assert lp.cost.area(("uint4", "uint8"), "mult", table="evoapprox") == 342.6
    assert lp.cost.area(("uint8", "uint8"), "mult", table="evoapprox") == 709.6
    assert lp.cost.area("mxint8", "mult") == 282
    for point in lp.cost.table("horowitz2014-area"):
        one = lp.cost.area(point.format, point.operation)
        assert one == point.value
        assert one.low <= one / 2 < one < one * 2 <= one.high
        assert point.state in one.source


def test_timing_targets_are_a_range() -> None:
    """The loosest target is the number, the others are its range."""
    found = lp.cost.area("int32", "mult", table="aladdin2014")
    assert (found, found.low, found.high) == (4600, 2300, 9200)
    found = lp.cost.area("fp32", "add", table="aladdin2014")
    assert (found, found.high) == (2060, 4360)
    assert "5 ns" in found.source


def test_areas_of_floats_are_flagged() -> None:
    for fmt, op in (("fp16", "add"), ("fp16", "mult"), ("fp32", "add"), ("fp32", "mult"), ("fp32", "mac")):
        found = lp.cost.area(fmt, op)
        assert "timing-driven" in found.source
        assert found.low == found / 4
    assert "timing-driven" not in lp.cost.area("int8").source
    between = lp.cost.area("tf32", "add", interpolate=True)
    assert between.kind == "interpolated"
    assert "timing-driven" in between.source
    assert between.low == between / 4


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "table": (lambda: lp.cost.table("horowitz"), ValueError, "the closest: 'horowitz2014', 'horowitz2014-area'"),
    "far": (lambda: lp.cost.table("zzz"), ValueError, r"lp.cost.tables\(\) lists them"),
    "kind": (lambda: lp.cost.table(3), TypeError, "`name` must be the name of a table, got 3 of type int"),
    "cite": (lambda: lp.cost.cite("jouppi21"), ValueError, "the closest: 'jouppi2021'"),
    "no row": (lambda: lp.cost.area("e4m3fn"), ValueError, r"\(int8, float16, int32, float32\).* interpolate=True"),
    "one": (lambda: lp.cost.area("int8", table="aladdin2014"), ValueError, r"\(int32\), got int8\."),
    "one point": (
        lambda: lp.cost.area("int8", table="aladdin2014", interpolate=True),
        ValueError,
        "one between two integers of different widths, got int8; for mult it has int32",
    ),
    "gates": (
        lambda: lp.cost.area("int8", table="qkeras"),
        ValueError,
        "areas in gates; gates are not turned into um2",
    ),
    "no area": (lambda: lp.cost.area("int8", table="jouppi2021"), ValueError, "which has no areas"),
    "own gates": (lambda: lp.cost.area("int8", table="synthesised"), ValueError, "table of published numbers"),
    "op": (lambda: lp.cost.area("int8", "div"), ValueError, "`op` must be one of mult, add, mac, got 'div'"),
    "op kind": (lambda: lp.cost.area("int8", 3), TypeError, "`op` must be one of"),
    "accumulator": (lambda: lp.cost.area("int8", "add", accumulator="int32"), ValueError, "`accumulator` must be None"),
    "no accumulator": (lambda: lp.cost.area("int8", accumulator="int24"), ValueError, "`accumulator` must be a format"),
    "codebook": (lambda: lp.cost.area("nf4"), ValueError, "got the table of values nf4"),
    "pair": (lambda: lp.cost.area(("int8", "int4"), "mult"), ValueError, "must be a pair that horowitz2014-area has"),
    "pair op": (lambda: lp.cost.area(("int8", "int8")), ValueError, 'or a pair with op="mult"'),
    "interpolate": (lambda: lp.cost.area("int8", interpolate=1), TypeError, "`interpolate` must be True or False"),
    "format": (lambda: lp.cost.area("fp8"), ValueError, "`fmt` must name one format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()


def test_a_power_goes_through_its_two_points() -> None:
    """The rule, from its definition: between the two formats the logarithm is linear in that of the size."""
    unit = _lookup.Unit("horowitz2014-area", "area", "um2")
    found = unit.find("add", lp.format("int24"), True, "fmt")
    share = (math.log(24) - math.log(16)) / (math.log(32) - math.log(16))
    assert found == pytest.approx(math.exp((1 - share) * math.log(67) + share * math.log(137)))
    assert (found.low, found.high) == pytest.approx((found / 2, found * 2))
    beyond = unit.find("add", lp.format("int4"), True, "fmt")
    assert beyond == pytest.approx(36 * (4 / 8) ** math.log2(67 / 36))
    assert beyond.high == pytest.approx(4 * beyond)


def test_names_may_say_the_node() -> None:
    assert lp.cost.table("jouppi2021-7nm") == lp.cost.table("jouppi2021")
    assert lp.cost.cite("Horowitz2014-45nm") == lp.cost.cite("horowitz2014")
    assert lp.cost.energy(64, 64, 64, "bf16", table="jouppi2021-7nm").table == "jouppi2021"
