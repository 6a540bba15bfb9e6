"""Dot units: against the reference, as gates, and the sums of the package that they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_rtl_float import FLOATS
from test_rtl_integer import RESERVED

import lowprec as lp
from lowprec import reference
from lowprec.blocks import block_formats

BLOCKS = [b.name for b in block_formats() if b.name.startswith(("mx", "nv"))]


def dot(fmt: Any, accumulator: Any = None, **others: Any) -> lp.rtl.Design:
    return lp.rtl.emit(fmt, accumulator, unit="dot", **others)


# ---------------------------------------------------------------------------------------------------- without the tools
def test_every_format_has_a_dot_unit() -> None:
    designs = [dot(fmt, lanes=1 + i % 3, subnormals=("keep", "flush")[i % 2]) for i, fmt in enumerate(FLOATS)]
    designs += [dot((fmt, "e5m2"), acc, lanes=2) for fmt in FLOATS for acc in ("fp16", "bf16")]
    designs += [dot(name, acc, lanes=lanes) for name in BLOCKS for acc in ("fp32", "bf16") for lanes in (1, 3)]
    designs += [dot("fp16", "nvidia-volta"), dot("bf16", "nvidia-hopper"), dot("tf32", "a100")]
    for design in designs:
        code = re.sub(r"//[^\n]*", "", design.verilog)
        for module in code.split("endmodule")[:-1]:
            declared = re.findall(r"\b(?:wire|input|output)\s+(?:\[[^\]]*\]\s*)?(\w+)", module)
            assert len(declared) == len(set(declared)), design.name
            assert not set(declared) & RESERVED, design.name
        assert not re.search(r"\[-|'d-|\{0\{|None", code), design.name


@pytest.mark.parametrize(
    ("fmt", "model"),
    [
        ("e4m3fn", lp.FusedTruncated(4, 13, rounding="rz13")),
        ("fp16", lp.FusedTruncated(4, 23, exponent_floor=-131, c_format="fp16")),
        ("bf16", lp.FusedTruncated(3, 10, "fp16", "nearest_even")),
        ("e8m0fnu", lp.FusedTruncated(2, 25)),
    ],
)
def test_what_is_expected_is_the_reference(fmt: str, model: lp.FusedTruncated) -> None:
    design, length = dot(fmt, model), model.length
    inputs = design.vectors(np.random.default_rng(2), 150, {})
    bits = lp.format(fmt).bits
    a, b = (lp.rtl.split(inputs[port], bits, length).tolist() for port in "ab")
    want = [
        reference.accumulate(model, x, y, z, formats=(fmt, fmt))
        for x, y, z in zip(a, b, inputs["c"].tolist(), strict=True)
    ]
    assert design.expected(inputs)["y"].tolist() == want


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3", "mxint8"])
def test_blocks_are_the_exact_product_of_quantized_arrays(name: str) -> None:
    """Code for code what lp.matmul gives over one block with the exact model; by default too where sums are exact."""
    design, block = dot(name, subnormals="keep"), lp.block_format(name)
    rng = np.random.default_rng(7)
    rows, size = 20, block.block_size
    x, y = (rng.standard_normal((rows, size)) * 2.0 ** rng.integers(-9, 9, (rows, 1)) for _ in range(2))
    qx, qy = (lp.quantize(each.astype(np.float32), name, axis=1) for each in (x, y))
    c = rng.standard_normal(rows).astype(np.float32)
    elements = block.element.bits
    scales = [lp.encode(np.asarray(q.scale, np.float64).reshape(rows), block.scale) for q in (qx, qy)]
    inputs = {
        port: lp.rtl.join(np.asarray(q.codes).view(np.uint8).astype(np.uint64), elements)
        for port, q in zip("ab", (qx, qy), strict=True)
    }
    inputs |= {"scale_a": scales[0].astype(np.uint64), "scale_b": scales[1].astype(np.uint64)}
    got = design.expected(inputs | {"c": c.view(np.uint32)})["y"].astype(np.uint32)
    start = np.broadcast_to(c[:, None], (rows, rows)).copy()
    for accumulator in ("exact",) if name == "mxfp8_e4m3" else ("exact", None):
        product = lp.matmul(qx, lp.quantize(y.T.astype(np.float32), name, axis=0), c=start, accumulator=accumulator)
        assert np.diag(product).view(np.uint32).tolist() == got.tolist()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dot("fp64"), "24 significand bits"),
        (lambda: dot("int8"), "float format"),
        (lambda: dot("bf16", "nvidia-hopper", lanes=3), "model's length, 16"),
        (lambda: dot("bf16", "nvidia-hopper", rounding="nearest_even"), "the model's"),
        (lambda: dot("bf16", "amd-cdna1"), "FusedTruncated"),
        (lambda: dot("e3m4", "nvidia-volta"), "`fmt` must be one of the operand formats"),
        (lambda: dot("bf16", "exact"), "FusedTruncated"),
        (lambda: dot("bf16", subnormals="flush_inputs"), "flush"),
        (lambda: dot("bf16", rounding="to_odd"), "rounding"),
        (lambda: dot("bf16", "e4m3fn"), "IEEE-like"),
        (lambda: dot("bf16", lanes=0), "lanes"),
        (lambda: dot("nf4"), "codebook"),
        (lambda: dot("q8_0"), "e8m0fnu or e4m3fn"),
        (lambda: dot("mxfp4", "e2m1fn"), "with NaN"),
    ],
)
def test_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# ------------------------------------------------------------------------------------------------------------- pyosys
@pytest.fixture
def pyosys() -> None:
    pytest.importorskip("pyosys", reason="pyosys is not installed; it comes with the extras `rtl` and `oracles`")


GATES = [
    ("e2m1fn", lp.FusedTruncated(2, 4, "e4m3"), {}),
    ("e2m1fn", lp.FusedTruncated(2, 4, "e3m3", "nearest_even"), {"subnormals": "flush", "register": True}),
    (("e4m3fn", "e5m2"), lp.FusedTruncated(1, 6, "fp16", "nearest_even"), {}),
    ("e3m4", lp.FusedTruncated(2, 12, "bf16", exponent_floor=-20), {}),
    ("mxfp4", "bf16", {"lanes": 3, "subnormals": "keep"}),
    ("mxfp8_e5m2", "e5m7", {"lanes": 1, "rounding": "toward_negative"}),
    ("nvfp4", "fp16", {"lanes": 2, "rounding": "toward_zero"}),
    ("mxint8", "bf16", {"lanes": 2, "rounding": "nearest_away"}),
]


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("fmt", "accumulator", "others"), GATES)
def test_gates_are_the_emulation(fmt: Any, accumulator: Any, others: dict[str, Any]) -> None:
    design = dot(fmt, accumulator, **others)
    mapped = lp.rtl.synth(design)
    inputs = design.vectors(np.random.default_rng(1), 1_500, {})
    got, want = lp.rtl.simulate(mapped, inputs)["y"], design.expected(inputs)["y"]
    assert np.flatnonzero(got != want).size == 0
    assert mapped.warnings == ()


FUSED = ("e4m3fn", lp.FusedTruncated(2, 10, "fp16"), {})
BLOCK = ("mxfp4", "e5m7", {"lanes": 2, "subnormals": "keep"})
# Faults that somebody could write: each must be seen.
PLANTED = [
    ("smaller exponent taken", FUSED, r"(larger_0_0 = \w+) >", r"\1 <"),
    ("zeros have exponents", FUSED, r"assign exponent = (\w+) & .*;", r"assign exponent = \1;"),
    ("one bit more is kept", FUSED, r"(wire \[11:0\] placed = ).*;", r"\1 {c_wide, 1'b0};"),
    ("no carry of a negative product", FUSED, r"(sum_1_and_carry = .*), p0_subtract\}", r"\1, 1'b0}"),
    ("sign of c forgotten", FUSED, r"wire total_sign = .*;", "wire total_sign = total_negative;"),
    (
        "infinities of both signs",
        ("e5m2", lp.FusedTruncated(2, 6, "e5m7"), {}),
        r"(wire nan = .*) \| \(minus_inf & plus_inf\)",
        r"\1",
    ),
    ("carry in the wrong place", BLOCK, r"(sum_0_0_and_carry = .*), p1_carry\}", r"\1, p0_carry}"),
    ("scale of b forgotten", BLOCK, r"scale_a_field \+ scale_b_field", "scale_a_field + 127"),
    ("sign of the first product", BLOCK, r"wire sum_sign = .*;", "wire sum_sign = 1'b0;"),
    ("NaN scale counts", BLOCK, r"wire product_nan = .*;", "wire product_nan = scale_a_nan;"),
    ("subnormal element normal", BLOCK, r"(wire \[1:0\] a_exponent = .*)\| ~a_hidden", r"\1"),
]


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("name", "unit", "pattern", "instead"), PLANTED, ids=[row[0] for row in PLANTED])
def test_planted_faults_are_seen(name: str, unit: tuple[Any, Any, dict[str, Any]], pattern: str, instead: str) -> None:
    design = dot(unit[0], unit[1], **unit[2])
    wrong, times = re.subn(pattern, instead, design.verilog)
    assert times, name
    mapped = lp.rtl.synth(replace(design, verilog=wrong))
    inputs = design.vectors(np.random.default_rng(1), 2_000, {})
    assert (lp.rtl.simulate(mapped, inputs)["y"] != design.expected(inputs)["y"]).any(), name
