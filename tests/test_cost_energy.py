"""Energy from published tables: the numbers by hand, the rule between them, what it leaves out, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.cost import _lookup

MACS = 512**3


def test_numbers_by_hand() -> None:
    """Acceptance: 512 cubed in bf16 and int8 at 7 nm, each matrix once through HBM2."""
    bf16 = lp.cost.energy(512, 512, 512, "bf16")
    assert bf16.macs == MACS == 134_217_728
    assert bf16.accesses == 196_608
    assert bf16.compute == pytest.approx(MACS * (0.21 + 0.38))
    assert round(bf16.compute / 1e6, 1) == 79.2
    assert bf16.memory == 196_608 * 350
    assert round(bf16.memory / 1e6, 1) == 68.8
    assert bf16.total == bf16.compute + bf16.memory
    assert round(lp.cost.energy(512, 512, 512, "int8").compute / 1e6, 1) == 13.4


def test_relative_macs_of_both_tables() -> None:
    """A multiplication and a sum, over int8 and int32: what the two papers give."""

    def relative(fmt: str, table: str) -> float:
        one, base = (lp.cost.energy(1, 1, 1, name, table=table, memory=None) for name in (fmt, "int8"))
        return round(one.total / base.total, 1)

    assert [relative(fmt, "horowitz2014") for fmt in ("fp16", "fp32")] == [6.7, 15.3]
    assert [relative(fmt, "jouppi2021") for fmt in ("bf16", "fp16", "fp32")] == [5.9, 7.2, 16.9]


def test_figures_say_what_they_are() -> None:
    found = lp.cost.energy(8, 8, 8, "bf16")
    for figure in (found.compute, found.memory, found.total, found.multiply, found.accumulate, found.access):
        assert (figure.unit, figure.kind) == ("pJ", "published")
        assert 0 < figure.low < figure < figure.high
    assert (found.memory.low, found.memory.high) == (found.accesses * 250, found.accesses * 450)
    assert (found.multiply.low, found.multiply.high) == (0.105, 0.42)
    assert found.total.low == pytest.approx(found.compute.low + found.memory.low)
    assert found.total.high == pytest.approx(found.compute.high + found.memory.high)


def test_memories() -> None:
    def level(table: str, memory: Any = "auto") -> str | None:
        return lp.cost.energy(8, 8, 8, "fp32", table=table, memory=memory).memory_level

    assert [level(table) for table in ("jouppi2021", "horowitz2014", "aladdin2014")] == ["hbm2", "dram", None]
    assert level("jouppi2021", "SRAM-1mb") == "sram-1MB"
    none = lp.cost.energy(8, 8, 8, "fp32", memory=None)
    assert none.memory == 0
    assert none.total == none.compute
    small = lp.cost.energy(8, 8, 8, "fp32", memory="sram-8KB")
    assert small.memory == 3 * 64 * 4 / 8 * 7.5


def test_energy_of_an_access() -> None:
    assert lp.cost.memory_energy("sram-32KB") == 8.5
    assert lp.cost.memory_energy("sram-32KB", 32, table="horowitz2014") == 10
    dram = lp.cost.memory_energy("DRAM", table="horowitz2014")
    assert (dram, dram.low, dram.high) == (1950, 1300, 2600)
    assert (
        lp.cost.memory_energy("sram-32KB", np.int64(32)) == lp.cost.memory_energy("sram-32KB", np.float32(32)) == 4.25
    )
    assert lp.cost.memory_energy("gddr5", 8, table="oconnor2017") == 8 * 14
    # Two papers on HBM2: the interface alone is at the lower end of the whole.
    assert 250 < lp.cost.memory_energy("hbm2", table="oconnor2017") < 450


def test_bits_are_those_of_traffic() -> None:
    options = {"weights": lp.cost.traffic("int4", block_size=16, scale_dtype="fp16"), "out_dtype": "fp32"}
    found = lp.cost.energy(3, 64, 5, "bf16", **options)
    assert found.accesses == lp.cost.matmul_traffic(3, 64, 5, "bf16", **options).bytes / 8
    half = lp.cost.energy(4, 64, 4, "int8", sparsity="2:4", memory=None)
    assert half.compute == lp.cost.energy(4, 64, 4, "int8", memory=None).compute / 2


def test_accumulators() -> None:
    def accumulate(fmt: str, accumulator: str | None = None) -> float:
        return float(lp.cost.energy(1, 1, 1, fmt, accumulator=accumulator).accumulate)

    assert accumulate("bf16") == accumulate("bf16", "fp32") == 0.38
    assert accumulate("bf16", "bf16") == 0.11
    assert accumulate("int8") == 0.03
    assert accumulate("int8", "int8") == 0.007


def test_a_format_that_is_not_there_is_refused_or_marked() -> None:
    with pytest.raises(ValueError, match=r"\(int8, int32, bfloat16, float16, float32\), got float8_e4m3fn; interp"):
        lp.cost.energy(8, 8, 8, "e4m3fn")
    found = lp.cost.energy(8, 8, 8, "e4m3fn", interpolate=True)
    assert found.multiply.kind == found.compute.kind == found.total.kind == "interpolated"
    assert found.accumulate.kind == found.memory.kind == "published"
    assert "beyond bfloat16 and float16" in found.multiply.source
    assert lp.cost.energy(8, 8, 8, "bf16", interpolate=True).total.kind == "published"
    power = math.log(0.34 / 0.21) / math.log(121 / 64)
    assert found.multiply == pytest.approx(0.21 * (16 / 64) ** power)
    assert found.multiply.high == pytest.approx(4 * found.multiply)


def left_out(table: str, operation: str, fmt: str, monkeypatch: pytest.MonkeyPatch) -> tuple[float, lp.cost.Figure]:
    """Return a published energy, and what the rule puts in its place when the table does not have it."""
    full = lp.cost.table(table)
    value = next(float(p.value) for p in full if (p.operation, p.format) == (operation, fmt))
    rest = [point for point in full if (point.operation, point.format) != (operation, fmt)]
    with monkeypatch.context() as patched:
        patched.setattr(_lookup, "published", lambda _: rest)
        return value, _lookup.Unit(table, "energy", "pJ").find(operation, lp.format(fmt), True, "fmt")


def test_the_rule_gives_back_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 10 % between two formats, and within the stated range beyond them."""
    inside = [("jouppi2021", "mult", "float16"), ("jouppi2021", "add", "float16"), ("horowitz2014", "add", "int16")]
    for table, operation, fmt in inside:
        value, found = left_out(table, operation, fmt, monkeypatch)
        assert found.kind == "interpolated"
        assert found == pytest.approx(value, rel=0.1)
    for table, operation, fmt in (
        ("jouppi2021", "mult", "bfloat16"),
        ("jouppi2021", "mult", "float32"),
        ("jouppi2021", "add", "bfloat16"),
        ("jouppi2021", "add", "float32"),
        ("horowitz2014", "add", "int8"),
        ("horowitz2014", "add", "int32"),
    ):
        value, found = left_out(table, operation, fmt, monkeypatch)
        assert found.low < value < found.high, (table, operation, fmt, value, found)


def test_more_bits_take_more() -> None:
    for table in ("jouppi2021", "horowitz2014"):
        for names in (("int2", "int4", "int8", "int16", "int32"), ("e2m1fn", "e4m3fn", "fp16", "fp32", "fp64")):
            values = [
                lp.cost.energy(1, 1, 1, name, table=table, memory=None, interpolate=True).multiply for name in names
            ]
            assert values == sorted(values)
            assert len(set(values)) == len(values)


def test_what_is_left_out_is_said() -> None:
    text = str(lp.cost.energy(512, 512, 512, "bf16"))
    assert "Left out: instructions (lp.cost.table('dally2023'))" in text
    assert "uJ" in text
    overhead = {point.operation: float(point.value) for point in lp.cost.table("dally2023")}
    assert [round(overhead["overhead"] / overhead[name], 2) for name in ("HFMA", "HDP4A")] == [20, 5]
    assert "<table>" in lp.cost.energy(1, 1, 1, "bf16")._repr_html_()
    assert repr(lp.cost.energy(512, 512, 512, "bf16")) == "<Energy of 512 x 512 x 512 bfloat16, jouppi2021: 148 uJ>"


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "table": (lambda: lp.cost.energy(1, 1, 1, "bf16", table="jouppi"), ValueError, "the closest: 'jouppi2021'"),
    "table kind": (lambda: lp.cost.energy(1, 1, 1, "bf16", table=7), TypeError, "`table` must be the name"),
    "no arithmetic": (lambda: lp.cost.energy(1, 1, 1, "bf16", table="dally2023"), ValueError, "energies of arithmetic"),
    "no bf16": (lambda: lp.cost.energy(1, 1, 1, "bf16", table="horowitz2014"), ValueError, "got bfloat16; interpolate"),
    "memory": (lambda: lp.cost.energy(1, 1, 1, "bf16", memory="hbm3"), ValueError, r"\(sram-8KB, .* hbm2\)"),
    "memory kind": (lambda: lp.cost.energy(1, 1, 1, "bf16", memory=2), TypeError, "`memory` must be the name"),
    "accumulator": (lambda: lp.cost.energy(1, 1, 1, "bf16", accumulator="fp64"), ValueError, "`accumulator` must be a"),
    "word": (lambda: lp.cost.energy(1, 1, 1, "bf16", accumulator="exact"), ValueError, "`accumulator` must be a known"),
    "codebook": (lambda: lp.cost.energy(1, 1, 1, "nf4"), ValueError, "got the table of values nf4"),
    "size": (lambda: lp.cost.energy(1, 0, 1, "bf16"), ValueError, "`K` must be from 1"),
    "interpolate": (lambda: lp.cost.energy(1, 1, 1, "bf16", interpolate="yes"), TypeError, "`interpolate` must be"),
    "level": (lambda: lp.cost.memory_energy("sram"), ValueError, "`level` must be a memory that jouppi2021 has"),
    "level kind": (lambda: lp.cost.memory_energy(3), TypeError, "`level` must be the name of a memory"),
    "no memory": (lambda: lp.cost.memory_energy("dram", table="qkeras"), ValueError, "`table` must have the energy"),
    "bits": (lambda: lp.cost.memory_energy("dram", -1), ValueError, "`bits` must be 0 or more"),
    "bits kind": (lambda: lp.cost.memory_energy("dram", "8"), TypeError, "`bits` must be a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    call, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()
