"""Designs, synthesis, netlists and checks, whatever the unit: mostly without the tools, a few with pyosys."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_public_api import faults

import lowprec as lp
from lowprec.rtl import _bits, _icarus, _liberty, _synth, _vectors
from lowprec.rtl._netlist import Cell, Netlist, read_netlist
from lowprec.rtl._simulate import run_netlist


def design_of(body: str, bits: int = 4, out: int = 4, **others: object) -> lp.rtl.Design:
    text = f"module unit(input [{bits - 1}:0] a, input [{bits - 1}:0] b, output [{out - 1}:0] y); {body} endmodule"
    return lp.rtl.Design("unit", text, "unit", {"a": bits, "b": bits}, {"y": out}, **others)


def netlist_of(*cells: tuple[str, tuple[int, ...], int], outputs: tuple[int, ...] = (9,)) -> Netlist:
    return Netlist("unit", {"a": (2, 3), "b": (4, 5)}, {"y": outputs}, tuple(Cell(*cell) for cell in cells), 16)


# ------------------------------------------------------------------------------------------------------- the library
@pytest.mark.parametrize("name", _liberty.GATES)
def test_gate_is_its_liberty_function(name: str) -> None:
    """What NumPy computes is what the mapper is told, for every input: the string is evaluated anew here."""
    gate = _liberty.GATES[name]
    expression = gate.function.replace("!", "~")
    for bits in itertools.product((0, 1), repeat=len(gate.pins)):
        told = eval(expression, {}, dict(zip(gate.pins, bits, strict=True))) & 1
        words = [np.array([2**64 - 1 if bit else 0], np.uint64) for bit in bits]
        assert gate.evaluate(*words)[0] == np.uint64(2**64 - 1 if told else 0), (name, bits)


def test_areas_are_the_usual_ratios() -> None:
    usual = {"INV": 0.67, "NAND2": 1.0, "NOR2": 1.0, "AND2": 1.33, "OR2": 1.33, "XOR2": 2.0, "XNOR2": 2.0}
    assert {name: _liberty.GATES[name].area for name in usual} == usual
    assert len(_liberty.GATES) == 17
    assert _liberty.area({"NAND2": 3, "DFF": 2}) == 3 + 2 * 5.67


def test_areas_are_those_of_the_cost_model() -> None:
    from lowprec.cost._cells import GE

    assert all(_liberty.GATES[name].area == GE[cost] for name, cost in (("INV", "INV"), ("AND2", "AND"), ("OR2", "OR")))
    assert GE["DFF"] == _liberty.FLIP_FLOP_AREA


# ----------------------------------------------------------------------------------------------------- codes and words
@pytest.mark.parametrize("bits", [1, 7, 8, 33, 63, 64, 65, 130])
@pytest.mark.parametrize("count", [1, 63, 64, 65])
def test_words_and_back(bits: int, count: int) -> None:
    rng = np.random.default_rng(bits)
    codes = [int.from_bytes(rng.bytes(20), "little") % 2**bits for _ in range(count)]
    array = _bits.port_array(codes, bits, "a")
    words = _bits.to_words(array, bits)
    assert words.shape == (bits, -(-count // 64))
    bit = [[int(words[i, v // 64]) >> (v % 64) & 1 for v in range(count)] for i in range(bits)]
    assert bit == [[code >> i & 1 for code in codes] for i in range(bits)]
    assert [int(code) for code in _bits.from_words(words, count)] == codes


def test_lanes_on_a_bus() -> None:
    lanes = np.array([[1, 2, 3], [255, 0, 254]])
    bus = lp.rtl.join(lanes, 8)
    assert bus.tolist() == [1 + 2 * 256 + 3 * 65536, 255 + 254 * 65536]
    assert lp.rtl.split(bus, 8, 3).tolist() == lanes.tolist()
    wide = lp.rtl.join(np.full((2, 20), 7), 4)
    assert wide.dtype == object
    assert int(wide[0]) == int("7" * 20, 16)


def test_two_s_complement_of_any_width() -> None:
    for bits in (1, 5, 63, 64, 65, 90):
        codes = _bits.port_array([0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1], bits, "c")
        top = 2 ** (bits - 1)
        assert [int(v) for v in _bits.signed(codes, bits)] == [(int(c) ^ top) - top for c in codes]
        assert [int(c) for c in _bits.unsigned(_bits.signed(codes, bits), bits)] == [int(c) for c in codes]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"a": [1]}, ValueError, "ports a, b"),
        ({"a": [1], "b": [1], "c": [1]}, ValueError, "ports a, b"),
        ([1, 2], TypeError, "mapping"),
        ({"a": [1.5], "b": [1]}, TypeError, "integers"),
        ({"a": ["x"], "b": [1]}, TypeError, "integers"),
        ({"a": [16], "b": [1]}, ValueError, r"2\*\*4 - 1"),
        ({"a": [-1], "b": [1]}, ValueError, r"2\*\*4 - 1"),
        ({"a": [1, 2], "b": [1]}, ValueError, "equally many"),
        ({"a": [[1]], "b": [1]}, ValueError, "one axis"),
    ],
)
def test_bad_inputs(given: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        design_of("assign y = a;", model=lambda p: {"y": p["a"]}).expected(given)


# ---------------------------------------------------------------------------------------------------------- netlists
def test_netlist_is_evaluated_in_any_order_of_cells() -> None:
    net = netlist_of(("XOR2", (7, 8), 9), ("AND2", (2, 4), 7), ("NOR2", (3, 1), 8))
    a, b = np.arange(4, dtype=np.uint64).repeat(4), np.tile(np.arange(4, dtype=np.uint64), 4)
    assert run_netlist(net, {"a": a, "b": b}, 0)["y"].tolist() == (a & b & np.uint64(1)).tolist()
    assert [step.kind for step in net.steps()] == ["AND2", "NOR2", "XOR2"]


def test_flip_flops_take_edges() -> None:
    net = netlist_of(("AND2", (2, 4), 7), ("DFF", (7,), 8), ("DFF", (8,), 9))
    ones = {"a": np.array([1], np.uint64), "b": np.array([1], np.uint64)}
    assert [run_netlist(net, ones, edges)["y"].tolist() for edges in range(4)] == [[0], [0], [1], [1]]


def test_a_register_that_lets_its_input_through_is_seen() -> None:
    """Outputs are read after the edge and after the inputs have changed: wires in place of flip-flops are seen."""
    design = lp.rtl.emit(2, unit="multiplier", register=True)
    cells = [("AND2", (2, 4), 6), ("AND2", (3, 4), 7), ("AND2", (2, 5), 8), ("AND2", (3, 5), 9), ("XOR2", (7, 8), 10)]
    cells += [("AND2", (7, 8), 11), ("XOR2", (9, 11), 12), ("AND2", (9, 11), 13)]
    kept = [("DFF", (net,), 14 + place) for place, net in enumerate((6, 10, 12, 13))]
    made = []
    for extra, outputs in ((kept, (14, 15, 16, 17)), ([], (6, 10, 12, 13)), (kept[:3], (14, 15, 16, 13))):
        net = Netlist(
            design.top, {"a": (2, 3), "b": (4, 5)}, {"y": outputs}, tuple(Cell(*c) for c in cells + extra), 18
        )
        made.append(lp.rtl.check(design, _synth.Synthesis(design, net, "", 0.0, "")))
    assert [report.ok for report in made] == [True, False, False]
    assert [report.vectors for report in made] == [16, 16, 16]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([("AND2", (2, 8), 7), ("INV", (7,), 8), ("INV", (7,), 9)], "no loop"),
        ([("AND2", (2, 12), 9)], "driven nets only"),
        ([("INV", (2,), 9), ("INV", (3,), 9)], "one driver"),
        ([("INV", (2,), 3)], "one driver"),
    ],
)
def test_wrong_netlists_are_refused(cells: list[tuple[str, tuple[int, ...], int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        netlist_of(*cells).steps()


def yosys_json(kind: str = "INV", bit: object = 2) -> dict[str, object]:
    cell = {"type": kind, "connections": {"A": [bit], "Y": [3]}}
    ports = {"a": {"direction": "input", "bits": [2]}, "y": {"direction": "output", "bits": [3, "0"]}}
    return {"modules": {"unit": {"ports": ports, "cells": {"c1": cell}}}}


def test_netlist_is_read() -> None:
    net = read_netlist(yosys_json(), "unit")
    assert (net.inputs, net.outputs, net.cells) == ({"a": (2,)}, {"y": (3, 0)}, (Cell("INV", (2,), 3),))
    with pytest.raises(ValueError, match="latches"):
        read_netlist(yosys_json("$_DLATCH_P_"), "unit")
    with pytest.raises(ValueError, match="undefined"):
        read_netlist(yosys_json(bit="x"), "unit")


# ----------------------------------------------------------------------------------------------------------- designs
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"top": "other"}, ValueError, "module of `verilog`"),
        ({"top": "a b"}, ValueError, "module of `verilog`"),
        ({"verilog": 3}, TypeError, "string"),
        ({"outputs": {}}, ValueError, "one bit or more"),
        ({"inputs": {"a": 0}}, ValueError, "one bit or more"),
        ({"inputs": {"a": 1.5}}, TypeError, "port names to bits"),
        ({"latency": -1}, ValueError, "clock edges"),
    ],
)
def test_wrong_designs(change: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        replace(design_of("assign y = a;"), **change)


def test_design_without_model_has_no_expectation() -> None:
    with pytest.raises(ValueError, match="`model`"):
        design_of("assign y = a;").expected({"a": [1], "b": [2]})


def test_cells_are_counted_through_the_hierarchy() -> None:
    """From the text, comments left out: twice a module of two is four."""
    text = """
    module FA(input x, output s); assign s = x; endmodule
    module two(input a, output y); wire w; FA f(.x(a), .s(w)); FA g (.x(w), .s(y)); endmodule
    // FA comment (.x(a), .s(y));
    module top(input a, output y); wire w; two p(.a(a), .y(w)); two q(.a(w), .y(y)); endmodule
    """
    assert lp.rtl.Design("top", text, "top", {"a": 1}, {"y": 1}).cells == {"FA": 4, "HA": 0, "AND": 0}


def test_design_is_saved(tmp_path: Path) -> None:
    design = design_of("assign y = a;")
    design.save(tmp_path / "unit.v")
    assert (tmp_path / "unit.v").read_text() == str(design) == design.verilog


# ------------------------------------------------------------------------------------------------ synthesis, bad input
def test_missing_pyosys_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyosys", None)
    with pytest.raises(ImportError, match=r"lowprec\[rtl\]"):
        lp.rtl.synth(design_of("assign y = a;"))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"design": "text"}, TypeError, "Design"),
        ({"flow": "fast"}, ValueError, "noalumacc, default, smaller"),
        ({"flow": 3}, TypeError, "noalumacc, default, smaller"),
        ({"timeout": 0}, ValueError, "positive"),
        ({"timeout": "1"}, TypeError, "seconds"),
        ({"timeout": float("nan")}, ValueError, "positive"),
    ],
)
def test_bad_arguments_of_synth(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lp.rtl.synth(**({"design": design_of("assign y = a;")} | arguments))


def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    """The child of the child dies too: it would write a file a moment later."""
    late = tmp_path / "late"
    child = f"import time; time.sleep(0.6); open({str(late)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    assert _synth._run([sys.executable, "-c", parent], 0.3) is None
    assert time.monotonic() - start < 0.58
    time.sleep(0.5)
    assert not late.exists()


def test_timeouts_are_numbers_of_any_kind() -> None:
    assert [_synth._seconds(one) for one in (np.int64(5), np.float32(0.5), 3)] == [5.0, 0.5, 3.0]
    for long in (10**400, 1e300):
        with pytest.raises(ValueError, match="at most 604800"):
            _synth._seconds(long)


def test_timeout_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_synth, "_run", lambda command, timeout: None)
    monkeypatch.setattr(_synth, "require", lambda *words: None)
    with pytest.raises(TimeoutError, match=r"unit did not end within 5 s and was killed"):
        lp.rtl.synth(design_of("assign y = a;"), timeout=5)


def test_import_is_light() -> None:
    code = "import sys, lowprec as lp; assert 'lowprec.rtl' not in sys.modules; lp.rtl.emit\n"
    code += "assert 'pyosys' not in sys.modules"
    environment = dict(os.environ, PYTHONPATH=str(Path(lp.__file__).parents[1]))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


# ------------------------------------------------------------------------------------------------------ Icarus Verilog
FAKE_COMPILER = """#!{python}
import pathlib, sys
words = sys.argv[1:]
assert words[:5] == ["-g2005", "-s", "bench", "-o", "unit.vvp"], words
pathlib.Path("unit.vvp").write_text("".join(pathlib.Path(name).read_text() for name in words[5:]))
"""
FAKE_SIMULATOR = """#!{python}
import pathlib, sys
assert sys.argv[1:] == ["-n", "unit.vvp"] and pathlib.Path("unit.vvp").exists()
for line in pathlib.Path("in.hex").read_text().split():
    word = int(line, 16)
    print({result})
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, result: str) -> None:
    for name, text in (("iverilog", FAKE_COMPILER), ("vvp", FAKE_SIMULATOR)):
        tool = folder / name
        tool.write_text(text.format(python=sys.executable, result=result))
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


def test_icarus_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tools that do what Icarus would for a 4 by 4 multiplier: vectors in, products out."""
    design = lp.rtl.emit(4, unit="multiplier")
    install(tmp_path, monkeypatch, "'%x' % ((word & 15) * (word >> 4))")
    report = lp.rtl.check(design, icarus=True)
    assert (report.vectors, report.mismatches, report.simulator) == (256, 0, "Icarus Verilog")
    install(tmp_path, monkeypatch, "'%x' % ((word & 15) * (word >> 4) ^ (word == 0x73))")
    report = lp.rtl.check(design, icarus=True)
    assert report.mismatches == 1
    assert report.examples == ({"a": 3, "b": 7, "y": 20, "y expected": 21},)
    assert "20" in str(report)
    install(tmp_path, monkeypatch, "'xx'")
    with pytest.raises(ValueError, match="define every output"):
        lp.rtl.check(design, icarus=True)


def test_icarus_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="iverilog"):
        lp.rtl.check(design_of("assign y = a;", model=lambda p: {"y": p["a"]}), icarus=True)


def test_icarus_refuses_what_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "''")
    (tmp_path / "iverilog").write_text(f"#!{sys.executable}\nimport sys\nsys.exit('unit.v:1: syntax error')\n")
    with pytest.raises(ValueError, match=r"unit\.v:1: syntax error"):
        lp.rtl.check(lp.rtl.emit(4, unit="multiplier"), icarus=True)


def test_bench_clocks_registers() -> None:
    text = _icarus.bench(lp.rtl.emit("int4", "int16", register=True), 3)
    assert ".clk(clk)" in text
    assert "edge_count < 1;" in text
    assert text.index("edge_count < 1;") < text.index("vector = ~vector;") < text.index("$display")
    assert "~vector" not in _icarus.bench(lp.rtl.emit("int4", "int16"), 3)


# ----------------------------------------------------------------------------------------------------------- vectors
def test_vectors_go_to_the_corners() -> None:
    rng, fmt = np.random.default_rng(0), lp.format("bf16")
    codes = _vectors.draw(fmt, rng, 20_000)
    exponent, tail = (codes >> np.uint64(7)) & np.uint64(255), codes & np.uint64(127)
    for field in (0, 1, 254, 255):
        assert ((exponent == field) & (tail != 0)).sum() > 400, field
    assert {0x0000, 0x8000, 0x7F80, 0xFF80, 0x0001, 0x007F, 0x7F7F, 0x3F80} <= set(codes.tolist())
    assert (tail == 127).sum() > 2000
    assert np.array_equal(_vectors.draw(fmt, np.random.default_rng(0), 20_000), codes)


def test_addends_cancel_and_lie_far_off() -> None:
    rng, fmt = np.random.default_rng(0), lp.format("fp32")
    products = np.ldexp(1 + rng.random(4000), rng.integers(-20, 20, 4000))
    c = np.asarray(lp.decode(_vectors.addends(products, fmt, rng).astype(np.uint32), fmt, dtype=np.float64))
    with np.errstate(all="ignore"):
        near = np.abs(c + products) <= 4 * np.spacing(products.astype(np.float32)).astype(np.float64)
        apart = np.round(np.log2(np.abs(c / products)))
    assert near.mean() > 0.2
    assert {-30, 30} <= set(apart[np.isfinite(apart)].astype(int).tolist())
    assert (~np.isfinite(c)).any()


# ----------------------------------------------------------------------------------------------------------- pyosys
@pytest.fixture
def pyosys() -> None:
    pytest.importorskip("pyosys", reason="pyosys is not installed; it comes with the extras `rtl` and `oracles`")


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
def test_any_verilog() -> None:
    body = "assign y = a[0] ? a + b : {a[1:0], b[1:0]};"

    def model(p: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        a, b = p["a"], p["b"]
        four, three = np.uint64(15), np.uint64(3)
        return {"y": np.where(a & np.uint64(1), (a + b) & four, (a & three) << np.uint64(2) | b & three)}

    design = design_of(body, model=model)
    mapped = lp.rtl.synth(design, flow="smaller")
    report = lp.rtl.check(design, mapped)
    assert (report.vectors, report.mismatches, report.exhaustive) == (256, 0, "all inputs")
    assert mapped.ge == _liberty.area(mapped.counts) > 0
    assert mapped.cells == sum(mapped.counts.values())
    assert re.search(r"all +\d+ +[\d.]+", str(mapped))
    with pytest.raises(ValueError, match="whose ports differ"):
        lp.rtl.check(lp.rtl.emit("int8"), mapped)
    # a wrong model is seen, and shown
    wrong = replace(design, model=lambda p: {"y": model(p)["y"] ^ np.uint64(8)}, formats={"y": lp.format("int4")})
    report = lp.rtl.check(wrong, mapped)
    assert report.mismatches == 256
    assert len(report.examples) == 5
    assert "-8" in str(report)


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("assign y = a +;", r"design\.v:1: ERROR: syntax error"),
        ("assign y = missing_module(a);", "ERROR"),
        ("nothing n(.a(a));", "nothing"),
        ("wire [7:0] w; assign w = a; assign y = w[11:8];", "define every bit"),
        ("reg [3:0] r; always @* if (a[0]) r = b; assign y = r;", "latch"),
    ],
)
def test_bad_verilog_is_refused(body: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lp.rtl.synth(design_of(body))


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
def test_ports_must_be_those_of_the_module() -> None:
    with pytest.raises(ValueError, match="`outputs` must be the ports"):
        lp.rtl.synth(replace(design_of("assign y = a;"), outputs={"y": 5}))


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
def test_synthesis_that_does_not_end_is_killed() -> None:
    with pytest.raises(TimeoutError, match=r"did not end within 0\.2 s"):
        lp.rtl.synth(lp.rtl.emit(24, unit="multiplier"), timeout=0.2)


# -------------------------------------------------------------------------------------------------- the page, the names
def test_public_names_are_documented() -> None:
    names = [name for name in lp.rtl.__all__ if not isinstance(getattr(lp.rtl, name), type) or name == "Design"]
    assert {"emit", "synth", "simulate", "check", "mutants"} <= set(names)
    assert [fault for name in names for fault in faults(name, getattr(lp.rtl, name))] == []


def test_page_has_the_stored_gates() -> None:
    """The table of the page is that of the package's data; a changed number is seen."""
    path = Path(lp.__file__).parents[1] / "scripts" / "synthesise.py"
    spec = importlib.util.spec_from_file_location("synthesise", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page, rows = script.PAGE.read_text(encoding="utf-8"), list(lp.rtl.stored())
    assert script.write_page(page, rows) == page
    assert script.write_page(page, [*rows[:-1], rows[-1]._replace(ge=1.0)]) != page
    stored = {one.name for one in rows}
    assert [one.name for one in script.designs() if one.name in stored] == [one.name for one in rows]
