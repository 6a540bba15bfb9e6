"""Floating-point units: written for every format, compared with the emulation as gates, planted faults seen."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_rtl_integer import RESERVED

import lowprec as lp
from lowprec import reference

FLOATS = [fmt for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat) and fmt.precision <= 24]
SIGNED = [fmt for fmt in FLOATS if fmt.is_signed and fmt.has_zero]
ROUNDINGS = [str(mode) for mode in lp.Rounding if mode != "stochastic"]
# Formats at the edges: no fraction, one exponent bit, infinities without NaN's room, no sign, no zero.
ODD = [
    lp.FloatFormat("e3m0", exponent_bits=3, mantissa_bits=0, has_inf=False, nan="negative_zero"),
    lp.FloatFormat("e1m2", exponent_bits=1, mantissa_bits=2, has_inf=False, nan="none"),
    lp.FloatFormat("e4m0i", exponent_bits=4, mantissa_bits=0, has_inf=True, nan="all_ones"),
    lp.FloatFormat("e4m2i", exponent_bits=4, mantissa_bits=2, has_inf=True, nan="all_ones"),
    lp.format("e5m7"),
]
UNSIGNED = [
    lp.FloatFormat("u5m3", exponent_bits=5, mantissa_bits=3, is_signed=False),
    lp.FloatFormat("u4m2z", exponent_bits=4, mantissa_bits=2, is_signed=False, has_zero=False, nan="all_ones"),
]


def every_unit() -> list[lp.rtl.Design]:
    """Return a unit for every format as operand, accumulator, source and result; policies take turns."""
    found, turn = [], 0

    def policies() -> dict[str, str]:
        nonlocal turn
        turn += 1
        return {"rounding": ROUNDINGS[turn % 6], "subnormals": ("flush", "keep")[turn % 2]}

    for fmt in [*FLOATS, *ODD, *UNSIGNED]:
        found += [lp.rtl.emit(fmt, accumulator, **policies()) for accumulator in ("fp32", "bf16", "fp16")]
        found += [lp.rtl.emit((fmt, "e5m2"), "e4m3fnuz", **policies())]
        found += [lp.rtl.emit(fmt, "e5m2", unit="multiply", **policies())]
        found += [lp.rtl.emit(fmt, unit="cast", to=to, **policies()) for to in [*FLOATS, *ODD, *UNSIGNED]]
    for fmt in [*SIGNED, *ODD]:
        found += [lp.rtl.emit(fmt, unit="add", **policies())]
        if fmt.has_nan:
            found += [lp.rtl.emit("e4m3", fmt, **policies())]
        else:
            found += [lp.rtl.emit("e2m1fn", fmt, **policies())]
    return found


# ---------------------------------------------------------------------------------------------------- without the tools
def test_every_format_has_units() -> None:
    """Written, with names that Verilog has not reserved, every wire declared once."""
    designs = every_unit()
    assert len({design.name for design in designs}) > 500
    for design in designs:
        code = re.sub(r"//[^\n]*", "", design.verilog)
        declared = re.findall(r"\b(?:wire|input|output)\s+(?:\[[^\]]*\]\s*)?(\w+)", code)
        assert len(declared) == len(set(declared)), design.name
        assert not set(declared) & RESERVED, design.name
        assert not re.search(r"\[-|'d-|\{0\{|None", code), design.name


def slow_mac(a: int, b: int, c: int, formats: tuple[Any, Any], model: lp.Sequential) -> int:
    """Return one step by the reference, of codes whose subnormals become zeros if the model flushes."""

    def flushed(code: int, fmt: Any) -> int:
        value = reference.decode(code, fmt)
        if model.subnormals == "flush" and abs(value) < fmt.smallest_normal:
            return reference.encode(math.copysign(0.0, value), fmt)
        return code

    codes = [flushed(code, fmt) for code, fmt in zip((a, b, c), (*formats, model.format), strict=True)]
    return reference.accumulate(model, [codes[0]], [codes[1]], codes[2], formats=formats)


@pytest.mark.parametrize(
    ("fmt", "accumulator"),
    [
        (("e4m3fn", "e5m2"), lp.Sequential("fp16", subnormals="flush")),
        (("e4m3fnuz", "e3m4"), lp.Sequential("e5m2fnuz", "toward_negative", subnormals="flush")),
        (("fp32", "bf16"), lp.Sequential("fp32", "to_odd")),
    ],
)
def test_what_is_expected_is_the_reference(fmt: tuple[str, str], accumulator: lp.Sequential) -> None:
    design = lp.rtl.emit(fmt, accumulator)
    inputs = design.vectors(np.random.default_rng(3), 300, {})
    formats = (lp.format(fmt[0]), lp.format(fmt[1]))
    want = [slow_mac(*codes, formats, accumulator) for codes in zip(*(inputs[p].tolist() for p in "abc"), strict=True)]
    assert design.expected(inputs)["y"].tolist() == want


def test_sums_and_products_expected() -> None:
    """Zeros keep their signs, subnormals of operands and results become zeros where they are flushed."""
    multiply = lp.rtl.emit("fp16", unit="multiply")
    x = [0x3C00, 0xBC00, 0x0001, 0x0400, 0x0400]  # 1, -1, smallest subnormal, smallest normal, again
    y = [0x8000, 0x8000, 0xC000, 0xB800, 0x3C00]  # -0, -0, -2, -0.5, 1
    assert multiply.expected({"a": x, "b": y})["y"].tolist() == [0x8000, 0x0000, 0x8000, 0x8000, 0x0400]
    add = lp.rtl.emit("fp16", unit="add", subnormals="keep", rounding="toward_negative")
    assert add.expected({"a": [0x0000, 0x8000, 0x3C00], "b": [0x8000, 0x8000, 0xBC00]})["y"].tolist() == [0x8000] * 3
    cast = lp.rtl.emit("fp32", unit="cast", to="e4m3fn")
    assert cast.expected({"a": [0x43E80000, 0x43E80001, 0xFF800000]})["y"].tolist() == [0x7E, 0x7F, 0x7F]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lp.rtl.emit("fp64"), "24 significand bits"),
        (lambda: lp.rtl.emit("bf16", "fp64"), "24 significand bits"),
        (lambda: lp.rtl.emit("e4m3fn", "e2m1fn"), "with NaN"),
        (lambda: lp.rtl.emit("bf16", lp.Sequential("fp32", fused=False)), "fused"),
        (lambda: lp.rtl.emit("bf16", "pairwise"), "fused"),
        (lambda: lp.rtl.emit("bf16", "nvidia-hopper"), "dot"),
        (lambda: lp.rtl.emit("bf16", subnormals="flush_inputs"), "flush"),
        (lambda: lp.rtl.emit("bf16", lp.Sequential("fp32", "to_odd"), rounding="toward_zero"), "that of the model"),
        (lambda: lp.rtl.emit("bf16", lp.Sequential("fp32"), subnormals="flush"), "that of the model"),
        (lambda: lp.rtl.emit("bf16", lp.Sequential("fp32", "to_odd"), rounding="nearest_even"), "that of the model"),
        (lambda: lp.rtl.emit("bf16", k=16), "`k`"),
        (lambda: lp.rtl.emit("bf16", unit="cast", to="e5m2", k=16), "`k`"),
        (lambda: lp.rtl.emit("bf16", unit="dot", k=16), "`k`"),
        (lambda: lp.rtl.emit("mxfp4", unit="dot", k=16), "`k`"),
        (lambda: lp.rtl.emit("nf4"), "codebook nf4"),
        (lambda: lp.rtl.emit("bf16", "e8m0fnu"), "signed format"),
        (lambda: lp.rtl.emit("bf16", lanes=4), "lanes"),
        (lambda: lp.rtl.emit(("bf16", "fp16"), unit="add"), "one format"),
        (lambda: lp.rtl.emit("bf16", "fp32", unit="add"), "one format"),
        (lambda: lp.rtl.emit("bf16", lp.Sequential("bf16", "stochastic"), unit="add"), "deterministic"),
        (lambda: lp.rtl.emit("bf16", unit="cast"), "`to`"),
        (lambda: lp.rtl.emit("bf16", "fp32", unit="cast", to="e5m2"), "accumulator"),
        (lambda: lp.rtl.emit("int8", unit="cast", to="e5m2"), "float format"),
        (lambda: lp.rtl.emit("bf16", unit="cast", to="int8"), "float format"),
    ],
)
def test_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# ------------------------------------------------------------------------------------------------------------- pyosys
@pytest.fixture
def pyosys() -> None:
    pytest.importorskip("pyosys", reason="pyosys is not installed; it comes with the extras `rtl` and `oracles`")


_ELABORATE = """
import sys
from pyosys import libyosys as ys
for name in sys.argv[1:]:
    design = ys.Design()
    for line in (f"read_verilog {name}.v", f"hierarchy -check -top {name.rsplit('/', 1)[1]}", "proc", "check -assert"):
        ys.run_pass(line, design)
"""


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
def test_every_tenth_unit_elaborates(tmp_path: Path) -> None:
    """No warning: a slice beyond a wire is one."""
    designs = {design.top: design for design in every_unit()[::10]}
    for name, design in designs.items():
        (tmp_path / f"{name}.v").write_text(design.verilog)
    names = [str(tmp_path / name) for name in designs]
    ran = subprocess.run(
        [sys.executable, "-c", _ELABORATE, *names], check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "Warning" not in ran.stdout + ran.stderr


BARE = lp.FloatFormat("e2m0", exponent_bits=2, mantissa_bits=0, nan="none")
BOTH = ("flush", "keep")
ENUMERATED = tuple(enumerate(ROUNDINGS))
GATES = [
    *((("e2m1fn", "e3m2"), lp.Sequential("e3m3", mode, subnormals=BOTH[i % 2]), {}) for i, mode in ENUMERATED),
    (("e2m1fn", "e3m2"), lp.Sequential("e3m3", subnormals="keep"), {}),
    (BARE, lp.Sequential("e2m1fn", "stochastic", random_bits=3), {}),
    ("e4m3fn", "bf16", {}),
    ("e5m2", "fp16", {"subnormals": "keep", "register": True}),
    *(("e4m3fn", None, {"unit": "multiply", "subnormals": word}) for word in BOTH),
    *(("e4m3", None, {"unit": "add", "subnormals": word}) for word in BOTH),
    *((f"e{n}m3", None, {"unit": "add", "rounding": "toward_negative", "subnormals": BOTH[n % 2]}) for n in (3, 4)),
    *(("fp16", None, {"unit": "cast", "to": to, "rounding": "to_odd"}) for to in ("e4m3fn", "e5m2fnuz")),
    ("fp16", None, {"unit": "cast", "to": "e2m1fn"}),
    ("fp32", None, {"unit": "cast", "to": "bf16"}),
    ("e4m3fnuz", None, {"unit": "cast", "to": "bf16"}),
    ("bf16", None, {"unit": "cast", "to": "e8m0fnu"}),
    ("bf16", None, {"unit": "cast", "to": "e5m2", "subnormals": "flush"}),
]  # fmt: skip


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("fmt", "accumulator", "others"), GATES)
def test_gates_are_the_emulation(fmt: Any, accumulator: Any, others: dict[str, Any]) -> None:
    report = lp.rtl.check(lp.rtl.emit(fmt, accumulator, **others), vectors=2_000)
    assert report.ok, str(report)


WIDE = ("e4m3fn", "e4m3", {})
MAC = (("e2m1fn", "e3m2"), lp.Sequential("e3m3", subnormals="keep"), {})
FLUSH = (("e2m1fn", "e3m2"), lp.Sequential("e3m3", subnormals="flush"), {})
CAST = ("fp16", None, {"unit": "cast", "to": "e4m3fn"})


def one_more(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) + 1};"


# Faults that somebody could write: each must be seen.
PLANTED = [
    ("sticky bit dropped", WIDE, r"wire c_sticky = .*;", "wire c_sticky = 1'b0;"),
    ("sticky bit of the normaliser dropped", MAC, r"(wire goes_up = .*?)\| sticky\w*", r"\1| 1'b0"),
    ("tie up", MAC, r"wire goes_up = (\S+) & .*;", r"wire goes_up = \1;"),
    ("aligner off by one", MAC, r"(wire \[\d+:0\] product_level = .*'d)(\d+);", one_more),
    ("sign of zero", MAC, r"wire zero_sign = .*;", "wire zero_sign = product_sign;"),
    ("infinity less infinity", MAC, r"wire nan = .*;", "wire nan = product_nan | c_nan;"),
    ("infinity times zero", MAC, r"wire product_nan = .*;", "wire product_nan = b_nan;"),
    ("subnormal result normalised", MAC, r"(wire shift_1 = .*?) & .*;", r"\1;"),
    ("subnormal operand with exponent 0", MAC, r"(wire \[1:0\] a_exponent = .*)\| ~a_hidden", r"\1"),
    ("zero product moves c", WIDE, r"wire c_leads = (.*?) \|.*;", r"wire c_leads = \1;"),
    ("no borrow", WIDE, r"wire borrowless = .*;", "wire borrowless = subtract;"),
    ("sign of a larger c", MAC, r"wire total_sign = .*;", "wire total_sign = product_sign;"),
    ("no overflow", MAC, r"wire overflow = .*;", "wire overflow = 1'b0;"),
    ("flushed too early", WIDE, r"wire reaches_normal = .*;", "wire reaches_normal = 1'b0;"),
    ("not flushed", FLUSH, r"wire below_normal = .*;", "wire below_normal = is_zero;"),
    ("subnormal c counts", FLUSH, r"(wire \[3:0\] c_significand = .*) & .*\}\}\};", r"\1};"),
    ("lower bits forgotten", CAST, r"(wire below = ).*;", r"\1 significand_sticky;"),
    ("no shift of subnormals", CAST, r"(wire \[\d+:0\] shift_amount = ).*;", r"\1 0;"),
    ("no overflow of a cast", CAST, r"wire is_nan = .*;", "wire is_nan = a_nan | a_inf;"),
]  # fmt: skip


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("name", "unit", "pattern", "instead"), PLANTED, ids=[row[0] for row in PLANTED])
def test_planted_faults_are_seen(name: str, unit: tuple[Any, Any, dict[str, Any]], pattern: str, instead: Any) -> None:
    design = lp.rtl.emit(unit[0], unit[1], **unit[2])
    wrong, times = re.subn(pattern, instead, design.verilog)
    assert times, name
    assert wrong != design.verilog
    report = lp.rtl.check(replace(design, verilog=wrong), vectors=2_000)
    assert report.mismatches, name
