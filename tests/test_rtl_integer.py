"""Multipliers, integer units, exact accumulators and readouts: counted, compared with slow twins, synthesised."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec import reference
from lowprec.rtl._stored import keywords

KINDS = ("grid", "array", "dadda", "booth", "operator")
SIZES = (2, 3, 4, 8, 11, 24)
# Words that Verilog-2001 keeps for itself and that one would like as names.
RESERVED = {"small", "medium", "large", "strong", "weak", "table", "event", "edge", "signed", "force", "join", "begin"}


def emit(fmt: Any, accumulator: Any = None, **others: Any) -> lp.rtl.Design:
    return lp.rtl.emit(fmt, accumulator, **others)


# ------------------------------------------------------------------------------------------------------ cells counted
@pytest.mark.parametrize("n", SIZES)
def test_cells_of_square_multipliers(n: int) -> None:
    """The rule (M+1)x(M+1) is the grid; the others are the closed forms, counted in the text."""
    assert emit(n, unit="multiplier", kind="grid").cells == {"FA": n * n, "HA": 0, "AND": n * n}
    assert emit(n, unit="multiplier", kind="array").cells == {"FA": n * (n - 2), "HA": n, "AND": n * n}
    tree = {"FA": n * n - 4 * n + 3, "HA": n - 1, "AND": n * n} if n > 2 else {"FA": 0, "HA": 0, "AND": 4}
    assert emit(n, unit="multiplier", kind="dadda").cells == tree


@pytest.mark.parametrize(("n", "m"), [(2, 2), (8, 5), (5, 8), (12, 2), (9, 4), (16, 3)])
def test_cells_of_oblong_multipliers(n: int, m: int) -> None:
    long, short = max(n, m), min(n, m)
    assert emit((n, m), unit="multiplier", kind="grid").cells == {"FA": n * m, "HA": 0, "AND": n * m}
    want = {"FA": long * (short - 1) - short, "HA": short, "AND": n * m}
    assert emit((n, m), unit="multiplier", kind="array").cells == want


def test_rule_of_formats() -> None:
    """576, 121, 64, 16, 9 and 4 full adders: a float stands for its significand."""
    names = ("fp32", "fp16", "bf16", "e4m3fn", "e5m2", "e2m1fn")
    found = [emit(name, unit="multiplier", kind="grid").cells["FA"] for name in names]
    assert found == [576, 121, 64, 16, 9, 4]


@pytest.mark.parametrize("kind", ["grid", "array", "dadda"])
def test_counts_are_those_of_the_closed_forms(kind: str) -> None:
    for n in (3, 4, 8, 11):
        closed = lp.cost.multiplier(n, kind=kind).counts
        drawn = emit(n, unit="multiplier", kind=kind).cells
        assert {cell: closed[cell] for cell in drawn} == drawn, n


def test_names_are_not_reserved() -> None:
    designs = [emit(5, unit="multiplier", kind=kind) for kind in KINDS]
    designs += [emit("int8", "int16_saturate", register=True), emit("uint4", "uint8_saturate"), emit("e4m3fn", "exact")]
    designs += [emit("e5m2", unit="readout", to="fp16"), emit("e2m1fn", unit="readout"), emit(8, unit="adder")]
    for design in designs:
        code = re.sub(r"//[^\n]*|\$\w+", "", design.verilog)
        declared = set(re.findall(r"\b(?:wire|reg)\s+(?:signed\s+)?(?:\[[^\]]*\]\s*)?(\w+)", code))
        assert not declared & RESERVED, design.name
        assert max(map(len, design.verilog.splitlines())) < 4000


# ----------------------------------------------------------------------------------------------- models and slow twins
def two_s(code: int, bits: int) -> int:
    return code - (code >> (bits - 1) << bits)


@pytest.mark.parametrize("fmt", [5, (6, 3), "int5", ("int3", "uint6"), ("uint2", "int7"), "int1", (24, 24), "int32"])
def test_products_are_exact(fmt: Any) -> None:
    design = emit(fmt, unit="multiplier", kind="operator")
    rng, bits = np.random.default_rng(1), design.inputs
    a, b = (rng.integers(0, 2 ** bits[port], 300).tolist() for port in "ab")
    signs = [design.formats[port].is_signed for port in "ab"]
    x, y = ([two_s(v, bits[p]) if s else v for v in codes] for p, codes, s in zip("ab", (a, b), signs, strict=True))
    want = [p * q % 2 ** design.outputs["y"] for p, q in zip(x, y, strict=True)]
    assert design.expected({"a": a, "b": b})["y"].tolist() == want


MACS = [
    ("int8", None), ("int8", "int24"), ("int4", "int16"), ("int8", "int16_saturate"), ("uint8", "uint16_saturate"),
    (("int4", "int8"), "int32"), (("uint8", "int8"), "uint24_saturate"), ("int8", "int12"), ("uint4", "int9_saturate"),
    ("int16", "int40"), ("int3", "int64"),
]  # fmt: skip


@pytest.mark.parametrize(("fmt", "accumulator"), MACS)
def test_integer_sums(fmt: Any, accumulator: str | None) -> None:
    design = emit(fmt, accumulator)
    found = re.fullmatch(r"(u?)int(\d+)(_saturate)?", accumulator or "int32")
    bits, low = int(found[2]), 0 if found[1] else -(2 ** (int(found[2]) - 1))
    high = low + 2**bits - 1
    inputs = {port: array.tolist() for port, array in design.vectors(np.random.default_rng(2), 2000, {}).items()}

    def number(port: str, code: int) -> int:
        fmt = design.formats.get(port)
        is_signed = fmt.is_signed if fmt else True
        return two_s(int(code), design.inputs[port]) if is_signed else int(code)

    want = []
    for a, b, c in zip(*(inputs[port] for port in "abc"), strict=True):
        total = number("c", c) + number("a", a) * number("b", b)
        want.append((min(max(total, low), high) if found[3] else total) % 2**bits)
    assert design.expected(inputs)["y"].tolist() == want


@pytest.mark.parametrize("fmt", ["e4m3fn", "e5m2", "e2m1fn", "fp16", "bf16", "e5m2fnuz", ("e4m3fn", "e2m3fn")])
def test_exact_sums(fmt: Any) -> None:
    """Against fractions: c in units of the last bit, plus the product, modulo the width."""
    design = emit(fmt, "exact")
    first, second = (design.formats[port] for port in "ab")
    bits, last = design.facts["bits"], Fraction(2) ** design.facts["last_bit"]
    inputs = {port: array.tolist() for port, array in design.vectors(np.random.default_rng(3), 400, {}).items()}
    got = design.expected(inputs)["y"].tolist()
    for a, b, c, y in zip(*(inputs[port] for port in "abc"), got, strict=True):
        product = Fraction(reference.decode(a, first)) * Fraction(reference.decode(b, second)) / last
        assert product.denominator == 1
        assert y == (c + product.numerator) % 2**bits
    assert not np.any([design.refused[port](np.array(inputs[port], np.uint64)) for port in "ab"])


@pytest.mark.parametrize("fmt", ["e4m3fn", "e2m1fn", "e5m2"])
@pytest.mark.parametrize("k", [1, 3, 256])
def test_width_is_tight(fmt: str, k: int) -> None:
    """As many products of the largest magnitude fit, and need the last bit."""
    design, found = emit(fmt, "exact", k=k), lp.format(fmt)
    largest = Fraction(found.max) ** 2 / Fraction(2) ** design.facts["last_bit"] * k
    assert 2 ** (design.facts["bits"] - 2) <= largest < 2 ** (design.facts["bits"] - 1)
    assert design.outputs["y"] == lp.cost.accumulator_bits(fmt, k)


@pytest.mark.parametrize("rounding", [mode for mode in lp.Rounding if mode != "stochastic"])
@pytest.mark.parametrize(
    ("fmt", "to"), [("e4m3fn", "e4m3fn"), ("e5m2", "fp16"), ("e2m1fn", "fp32"), ("fp16", "e5m2fnuz")]
)
def test_readout_is_one_rounding(fmt: str, to: str, rounding: str) -> None:
    design = emit(fmt, unit="readout", to=to, rounding=rounding)
    bits, last = design.facts["bits"], Fraction(2) ** design.facts["last_bit"]
    codes = design.vectors(np.random.default_rng(4), 300, {})["c"].tolist()
    want = [reference.encode(two_s(int(c), bits) * last, to, rounding=rounding) for c in codes]
    assert design.expected({"c": codes})["y"].tolist() == want


# --------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("fmt", "arguments", "error", "words"),
    [
        ("mxfp4", {}, ValueError, "block format"),
        ("nf4", {}, ValueError, "block format|codebook|`fmt`"),
        ("e4m3fm", {}, ValueError, "`fmt`"),
        (3.5, {}, TypeError, "`fmt`"),
        (("int8", "e4m3fn"), {}, ValueError, "two floats or two integers"),
        (("int8", "int8", "int8"), {}, ValueError, "pair"),
        ("e8m0fnu", {"accumulator": "exact"}, ValueError, "signed format with a zero"),
        ("int8", {"accumulator": "fp32"}, ValueError, "one of integers"),
        ("int8", {"accumulator": "exact"}, ValueError, "one of integers"),
        ("int8", {"accumulator": lp.Integer(32, "raise")}, ValueError, "wrap or saturate"),
        ("int8", {"accumulator": lp.Integer(32, length=4)}, ValueError, "one product at a time"),
        ("int8", {"accumulator": "int65"}, ValueError, "accumulator"),
        ("int8", {"kind": "wallace"}, ValueError, "dadda"),
        ("int8", {"kind": "grid"}, ValueError, "unsigned|signed"),
        ("int8", {"unit": "divider"}, ValueError, "multiplier"),
        ("int8", {"unit": 3}, TypeError, "`unit`"),
        ("int8", {"lanes": 4}, ValueError, "`lanes`"),
        ("int8", {"lanes": 0}, ValueError, "from 1"),
        ("int8", {"to": "fp32"}, ValueError, "`to`"),
        ("int8", {"register": 1}, TypeError, "True or False"),
        ("int8", {"rounding": "stochastic"}, ValueError, "deterministic"),
        ("int8", {"rounding": "nearest"}, ValueError, "nearest_even"),
        ("e4m3fn", {"accumulator": "exact", "k": 0}, ValueError, "`k` must be from 1"),
        ("e4m3fn", {"accumulator": "exact", "k": 1.0}, TypeError, "`k`"),
        ("e4m3fn", {"accumulator": "exact", "kind": "booth"}, ValueError, "`kind`"),
        (lp.format("fp64"), {"accumulator": "exact"}, ValueError, "at most 4096 bits"),
        ("int8", {"unit": "readout"}, ValueError, "float format"),
        ("e4m3fn", {"unit": "readout", "to": "int8"}, ValueError, "float format"),
        (0, {"unit": "multiplier"}, ValueError, "from 1 to 32"),
        (-3, {"unit": "multiplier"}, ValueError, "from 1 to 32"),
        (33, {"unit": "multiplier"}, ValueError, "from 1 to 32"),
        (True, {"unit": "multiplier"}, TypeError, "`fmt`"),
        (("int4", "uint4"), {"unit": "multiplier", "kind": "dadda"}, ValueError, "booth"),
        (("int4", "uint4"), {"unit": "adder"}, ValueError, "two signed or two unsigned"),
        ("int8", {"k": 16}, ValueError, "`k` must be left out"),
        ("int8", {"rounding": "toward_zero"}, ValueError, "`rounding` must be left out .* 'toward_zero'"),
        ("int8", {"subnormals": "keep"}, ValueError, "`subnormals` must be left out"),
        (8, {"unit": "adder", "rounding": "nearest_even"}, ValueError, "`rounding` must be left out"),
        (8, {"unit": "multiplier", "k": 256}, ValueError, "`k` must be left out"),
        ("e4m3fn", {"accumulator": "exact", "subnormals": "flush"}, ValueError, "`subnormals` must be left out"),
        ("e4m3fn", {"accumulator": "exact", "rounding": "toward_zero"}, ValueError, "`rounding` must be left out"),
        ("e4m3fn", {"unit": "readout", "subnormals": "flush"}, ValueError, "`subnormals` must be left out"),
    ],
)
def test_bad_arguments_of_emit(fmt: Any, arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        emit(fmt, **arguments)


# ------------------------------------------------------------------------------------------------------ stored gates
def test_stored_designs_are_emitted() -> None:
    rows = lp.rtl.stored()
    assert len({row.name for row in rows}) == len(rows) > 80
    for row in rows[:: max(1, len(rows) // 20)]:
        assert row.emit().name == row.name
        assert keywords(row)["unit"] == row.unit


# ------------------------------------------------------------------------------------------------------------ pyosys
@pytest.fixture
def pyosys() -> None:
    pytest.importorskip("pyosys", reason="pyosys is not installed; it comes with the extras `rtl` and `oracles`")


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(
    "name",
    [
        *("multiplier_operator_2", "multiplier_dadda_8", "multiplier_booth_11", "multiplier_operator_24"),
        *("mac_int4_int32", "mac_int8_int32", "mac_float8_e4m3fn_exact45", "readout_float4_e2m1fn_exact17_float32"),
    ],
)
def test_gates_are_the_stored_ones_and_compute_the_same(name: str) -> None:
    row = {row.name: row for row in lp.rtl.stored()}[name]
    design = row.emit()
    mapped = lp.rtl.synth(design)
    assert mapped.ge == pytest.approx(row.ge, rel=0.03)
    assert mapped.warnings == ()
    report = lp.rtl.check(design, mapped)
    assert report.ok, str(report)


BARE = lp.FloatFormat(exponent_bits=2, mantissa_bits=0, nan="none")

UNITS = [
    *((3, None, {"unit": "multiplier", "kind": kind}) for kind in KINDS),
    *(
        (fmt, None, {"unit": "multiplier", "kind": "booth"})
        for fmt in (("int4", "uint3"), ("uint4", "int3"), "int5", 1)
    ),
    (("int3", "int5"), None, {"unit": "multiplier", "kind": "dadda"}),
    ("int3", "int8_saturate", {"register": True}),
    (("uint3", "int2"), "uint7_saturate", {}),
    (BARE, "exact", {"register": True, "k": 2}),
    ("e2m1fn", None, {"unit": "readout", "to": "e2m1fn", "k": 2, "rounding": "toward_negative"}),
]


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("fmt", "accumulator", "others"), UNITS)
def test_small_units_on_all_inputs(fmt: Any, accumulator: str | None, others: dict[str, Any]) -> None:
    design = emit(fmt, accumulator, **others)
    mapped = lp.rtl.synth(design)
    report = lp.rtl.check(design, mapped)
    assert report.ok, str(report)
    assert report.exhaustive == "all inputs"
    if others.get("register"):
        assert mapped.counts["DFF"] == sum(design.outputs.values())
        assert mapped.register_ge == 5.67 * sum(design.outputs.values())


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
def test_gates_of_a_whole_sum_are_the_exact_accumulator() -> None:
    """K products through the gates of the accumulator, then those of the readout: lp.vecdot's bits."""
    mac, out = (lp.rtl.synth(design) for design in (emit("e5m2", "exact", k=16), emit("e5m2", unit="readout", k=16)))
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 0x7C, (2, 16, 500)) | rng.integers(0, 2, (2, 16, 500)) << 7
    codes[:, :2, :50] = 0x7B  # the largest
    total = np.zeros(500, object)
    for a, b in zip(*codes, strict=True):
        total = lp.rtl.simulate(mac, {"a": a, "b": b, "c": total})["y"]
    got = lp.rtl.simulate(out, {"c": total})["y"]
    x, y = (lp.decode(c.T.astype(np.uint8), "e5m2") for c in codes)
    want = lp.vecdot(x, y, "e5m2", accumulator="exact")
    assert np.array_equal(got.astype(np.uint32), want.view(np.uint32))


COARSE = lp.FloatFormat(exponent_bits=3, mantissa_bits=2, bias=-11, nan="none")  # all that comes is below its normals

# Faults that somebody could write: each must be seen.
READOUT, TREE = {"unit": "readout", "k": 16}, {"unit": "multiplier"}
PLANTED = [
    ("sticky bit dropped", ("e2m1fn", None, READOUT | {"to": "e4m3fn"}), r"wire rest = .*;", "wire rest = 1'b0;"),
    ("tie away", ("e2m1fn", None, READOUT | {"to": "e4m3fn"}), r"rest \| odd", "rest | 1'b1"),
    ("lost bits", ("e2m1fn", None, READOUT | {"to": COARSE}), r" \| \|lowered.*;", ";"),
    ("subnormal moved", ("e2m1fn", None, READOUT | {"to": "e2m1fn"}), r"lower = placed << \d+", "lower = placed << 1"),
    ("one of the complement", ("e2m1fn", "exact", {}), r"\{addend, negative\}", "{addend, 1'b0}"),
    ("subnormal's exponent", ("e2m3fn", "exact", {}), r"(wire \[1:0\] b_exponent = )(.*) \|.*;", r"\1\2;"),
    ("Booth's correction", (8, None, TREE | {"kind": "booth"}), r"wire neg2 = .*;", "wire neg2 = 1'b0;"),
    ("Booth's middle digit", (8, None, TREE | {"kind": "booth"}), r"wire two1 = \(.*?\) \|", "wire two1 ="),
    ("carry cut", (6, None, TREE | {"kind": "array"}), r"\.z\(c(\d+)\)(?=, \.s\(s40\))", ".z(1'b0)"),
    ("no corrections", ("int4", None, TREE | {"kind": "dadda"}), r"~(?=p\d+)", ""),
    ("carry of the sum", ("int4", "int16", {}), r"\$signed\(c\) \+", "$signed({c[15:8], 8'b0}) +"),
    ("saturates to the wrong end", ("int4", "int8_saturate", {}), r"over \? \{(sum\[\d+\])", r"over ? {~\1"),
    ("saturates too late", ("int4", "int8_saturate", {}), r"wire over = (.*);", r"wire over = \1 & ~c[0];"),
]  # fmt: skip


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize(("name", "unit", "pattern", "instead"), PLANTED, ids=[row[0] for row in PLANTED])
def test_planted_faults_are_seen(name: str, unit: tuple[Any, Any, dict[str, Any]], pattern: str, instead: str) -> None:
    design = emit(unit[0], unit[1], **unit[2])
    wrong, times = re.subn(pattern, instead, design.verilog)
    assert times, name
    report = lp.rtl.check(replace(design, verilog=wrong))
    assert report.mismatches, name
    assert report.examples


@pytest.mark.oracles
@pytest.mark.usefixtures("pyosys")
@pytest.mark.parametrize("row", ["multiplier_booth_6", "mac_int4_int16", "mac_float4_e2m1fn_exact17"])
def test_netlists_with_a_fault_are_seen(row: str) -> None:
    design = {stored.name: stored for stored in lp.rtl.stored()}[row].emit()
    mapped = lp.rtl.synth(design)
    alive = [what for what, wrong in lp.rtl.mutants(mapped, 15) if lp.rtl.check(design, wrong, vectors=2000).ok]
    assert alive == []
