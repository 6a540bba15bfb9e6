"""The table of hardware presets: consistent in itself, with the golden files, and plain where it has no row."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest

import lowprec as lp
from lowprec import hardware
from lowprec._instructions import CELLS, EVIDENCE, cells

PRESETS = lp.presets()
ROWS = [(preset, row) for preset in PRESETS for row in preset.instructions]
NAMES = {  # name: aliases
    "nvidia-volta": "v100",
    "nvidia-turing": "t4 rtx20",
    "nvidia-ampere": "a100 a2 rtx30",
    "nvidia-ada": "l40s rtx40",
    "nvidia-hopper": "h100 h200",
    "nvidia-hopper-mma": "",
    "nvidia-blackwell": "b200",
    "nvidia-blackwell-mma": "",
    "nvidia-rtx-blackwell": "rtx50 rtxpro6000",
    "amd-cdna1": "mi100",
    "amd-cdna2": "mi200 mi250x",
    "amd-cdna2-1k": "",
    "amd-cdna3": "mi300x",
    "x86-avx512bf16": "zen5 cooperlake",
    "x86-avx512vnni": "",
    "x86-avx512vnni-saturate": "",
    "x86-amx-bf16": "x86-amx sapphirerapids",
    "arm-bf16": "neoverse-v1",
    "arm-ebf16": "",
    "tpu-approx": "",
}


def label(case: tuple[lp.Preset, lp.Instruction]) -> str:
    preset, row = case
    return f"{preset.name}:{row.name}:{','.join(map(str, row.k))}"


# --------------------------------------------------------------------------------------------------------------- names


def test_names_and_aliases() -> None:
    assert {preset.name: " ".join(preset.aliases) for preset in PRESETS} == NAMES
    words = [word for preset in PRESETS for word in (preset.name, *preset.aliases)]
    assert len(set(words)) == len(words)
    taken = {word for fmt in lp.formats() for word in (fmt.name, *fmt.aliases)} | {"exact", "pairwise", "int32"}
    assert not taken & set(words), "a preset's name must not be that of a model"


@pytest.mark.parametrize("word", sorted({w for name, more in NAMES.items() for w in (name, *more.split())}))
def test_every_word_finds_its_preset(word: str) -> None:
    found = lp.preset(word)
    assert word in (found.name, *found.aliases)
    for spelled in (word.upper(), f" {word}\n", word.replace("-", "_"), found):
        assert lp.preset(spelled) is found
    assert found.preset_name == found.name


@pytest.mark.parametrize(
    ("word", "error", "message"),
    [
        (
            "nvidia-hoper",
            ValueError,
            "`name` must be the name of a hardware preset, got 'nvidia-hoper'; the closest: 'nvid",
        ),
        ("h10", ValueError, "the closest: .*'h100'"),
        ("amd-cdna4", ValueError, "the closest: 'amd-cdna"),
        ("xyzzy", ValueError, r"lp.presets\(\) lists the names"),
        ("", ValueError, "`name` must be the name of a hardware preset, got ''"),
        (None, TypeError, "`name` must be the name of a preset, got None of type NoneType"),
        (3, TypeError, "`name` must be the name of a preset"),
    ],
)
def test_unknown_names(word: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lp.preset(word)


def test_unknown_accumulators_name_the_close_words() -> None:
    bf16 = lp.format("bf16")
    for word, close in (("nvida-hopper", "'nvidia-hopper'"), ("bf17", "'bf16'"), ("exactly", "'exact'")):
        with pytest.raises(ValueError, match=f"`accumulator` must be a model, .*got '{word}'; the closest: .*{close}"):
            hardware.select(word, (bf16, bf16))
    with pytest.raises(ValueError, match=r"lp.presets\(\) lists the hardware"):
        hardware.select("xyzzy", (bf16, bf16))


# -------------------------------------------------------------------------------------------------- the rows themselves


@pytest.mark.parametrize("case", ROWS, ids=label)
def test_row_is_consistent(case: tuple[lp.Preset, lp.Instruction]) -> None:
    preset, row = case
    assert row.a
    assert row.b
    assert row.model.result_format == row.out
    c = getattr(row.model, "c_format", None) or row.out
    assert row.c == c
    assert row.k == tuple(sorted(set(row.k)))
    length = getattr(row.model, "length", 1)
    assert all(k % length == 0 for k in row.k), "shapes of one row cut the sum alike"
    assert row.evidence in EVIDENCE
    assert row.source
    assert (row.scale_format is None) == (row.scale_block is None)
    assert hasattr(row.model, "fraction_bits") or not preset.name.startswith("nvidia") or row.scales is None
    if isinstance(row.model, lp.FusedTruncatedGroupScaled):
        assert row.scales == (row.model.scale_format, row.model.scale_block)
    if isinstance(row.model, lp.FusedTruncatedScaled):
        assert row.scales == (lp.format("e8m0fnu"), row.model.length)
    assert row.approximate == (preset.name == "tpu-approx")
    for text in (row.source, row.note, preset.title):
        assert "/" not in text.replace("BF16/", "")
        assert text == text.strip()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_rows_differ_and_share(preset: lp.Preset) -> None:
    """Two rows with the same operands, scales and results differ in K and in the model, or they were one row."""
    for one, other in itertools.combinations(preset.instructions, 2):
        if (one.a, one.b, one.c, one.out, one.scales) == (other.a, other.b, other.c, other.out, other.scales):
            assert not set(one.k) & set(other.k)
            assert one.model != other.model


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_evidence_is_the_weakest_of_the_float_rows(preset: lp.Preset) -> None:
    grades = [row.evidence for row in preset.instructions if isinstance(row.out, lp.FloatFormat)]
    grades = grades or [row.evidence for row in preset.instructions]
    assert preset.evidence in grades
    assert all(EVIDENCE.index(grade) <= EVIDENCE.index(preset.evidence) for grade in grades)
    for row in preset.instructions:
        assert all(part in preset.source for part in row.source.split("; "))


def test_grades_that_matter() -> None:
    found = {name: lp.preset(name).evidence for name in NAMES}
    assert found["x86-avx512bf16"] == found["nvidia-ada"] == "silicon"
    assert found["amd-cdna3"] == found["nvidia-blackwell"] == "upstream-silicon"
    assert found["arm-bf16"] == "emulator"
    assert found["x86-amx-bf16"] == "vendor-text"
    assert found["tpu-approx"] == "conjecture"
    assert [name for name in NAMES if lp.preset(name).approximate] == ["tpu-approx"]
    assert lp.preset("nvidia-hopper-mma").instruction("e4m3fn", out_dtype="fp16").evidence == "silicon"
    assert lp.preset("nvidia-hopper-mma").instruction("e4m3fn").evidence == "conjecture"


def test_a_grade_must_be_one_of_the_words() -> None:
    row = PRESETS[0].instructions[0]
    facts = {name: getattr(row, name) for name in ("name", "a", "b", "c", "out", "k", "model", "source")}
    assert lp.Instruction(evidence="silicon", **facts).scales is None
    with pytest.raises(ValueError, match="`evidence` must be one of silicon, upstream-silicon, emulator"):
        lp.Instruction(evidence="sure", **facts)


def test_approximation_warning_is_a_user_warning() -> None:
    assert issubclass(lp.ApproximationWarning, UserWarning)


# --------------------------------------------------------------------------------------------- against the golden files


def preset_of(name: str, meta: dict[str, Any]) -> str:
    """Return the preset that a golden file is about, by what the file says of its hardware."""
    if meta.get("vendor") == "AMD":
        return f"amd-{meta['arch'].lower()}{'-1k' if '1k' in name else ''}"
    if not name.removeprefix("chain_").removeprefix("matmul_").startswith(("nv_", "silicon_nv_")):
        words = {"silicon_x86": "zen5", "model_x86_amx": "x86-amx", "qemu_arm_bf": "arm-bf16"}
        return "arm-ebf16" if "ebf1" in name else next(p for start, p in words.items() if name.startswith(start))
    generation = {"Ada Lovelace": "nvidia-ada", "RTX Blackwell": "nvidia-rtx-blackwell"}
    word = generation.get(meta["arch"], f"nvidia-{meta['arch'].lower()}")
    if word not in ("nvidia-hopper", "nvidia-blackwell"):
        return word
    path = meta.get("path", name).replace("wmma / mma", "mma")
    return word if re.search("wgmma|tcgen05", path) else f"{word}-mma"


def row_of(case: golden.Case) -> list[lp.Instruction]:
    """Return the rows that a golden file is about."""
    scales = None
    if "scale_block" in case.meta:
        scales = (lp.format(golden.FORMATS[case.meta["scale_fmt"]]), case.meta["scale_block"])
    return [
        row
        for row in lp.preset(preset_of(case.name, case.meta)).instructions
        if row.takes(*case.formats)
        and (row.c, row.out, row.scales) == (case.c_format, case.d_format, scales)
        and case.instruction_k in row.k
    ]


def spelling(row: lp.Instruction) -> str:
    """Return a regular expression for the names that a row's name stands for, without the vendor's first words."""
    name = re.sub(r"^(tcgen05\.mma|wgmma|mma|v_mfma)[._]", "", row.name)
    words = []
    for part in re.split(r"([._])", name):
        word = r"(e\d+m\d+|[bf]+p?\d+)" if part in ("A", "B") else re.escape(part)
        words.append(re.sub(r"(?<![A-Z])[MNK](?![A-Z])", r"\\d+", word))
    text = "".join(words)
    text = re.sub(r"kind::f8f6f4\W+", r"(kind::f8f6f4\\.)?", text)  # FP8 is also written without
    return text.replace("x4_", "x4(_4b)?_")


@pytest.mark.parametrize("name", golden.names())
def test_golden_file_has_one_row(name: str) -> None:
    case = golden.load(name)
    rows = row_of(case)
    assert len(rows) == 1
    assert rows[0].model == case.model
    written = case.meta.get("instruction")
    if written:
        assert re.fullmatch(spelling(rows[0]), written), (rows[0].name, written)


def test_golden_files_reach_every_model() -> None:
    """Models of float rows that no file is about are written down here, so that a new row is not forgotten."""
    reached = {row.model for name in golden.names() for row in row_of(golden.load(name))}
    alone = {row.model for _, row in ROWS if isinstance(row.out, lp.FloatFormat)} - reached
    assert alone == {lp.FusedTruncated(8, 25, "fp16", "rne")}  # m16n8k8 with a float16 result, on Hopper and later


# ------------------------------------------------------------------------------------------------------ choosing a row

CHOICES: list[tuple[str, Any, dict[str, Any], str, Any]] = [
    ("v100", "fp16", {}, "mma.m8n8k4.f32.f16.f16.f32", lp.FusedTruncated(4, 23, exponent_floor=-131)),
    ("v100", "fp16", {"out_dtype": "fp32"}, "mma.m8n8k4.f32.f16.f16.f32", None),
    ("v100", "fp16", {"c": "fp32"}, "mma.m8n8k4.f32.f16.f16.f32", None),
    ("v100", "fp16", {"c": "fp16"}, "mma.m8n8k4.f32.f16.f16.f16", None),
    ("v100", "fp16", {"c": "fp16", "out_dtype": "fp32"}, "mma.m8n8k4.f32.f16.f16.f16", None),
    ("v100", "fp16", {"c": "fp16", "out_dtype": "bf16"}, "mma.m8n8k4.f32.f16.f16.f16", None),
    ("v100", "fp16", {"c": "fp16", "out_dtype": "fp16"}, "mma.m8n8k4.f16.f16.f16.f16", None),
    ("v100", "fp16", {"c": "fp32", "out_dtype": "fp16"}, "mma.m8n8k4.f16.f16.f16.f16", None),
    ("a100", "fp16", {"c": "fp16"}, "mma.m16n8kK.f32.f16.f16.f32", None),
    ("a100", "fp16", {"out_dtype": "bf16"}, "mma.m16n8kK.f32.f16.f16.f32", None),
    ("a100", "bf16", {"out_dtype": "fp16"}, "mma.m16n8kK.f32.bf16.bf16.f32", None),
    ("a100", "tf32", {}, "mma.m16n8kK.f32.tf32.tf32.f32", lp.FusedTruncated(4, 24, exponent_floor=-132)),
    ("a100", np.float64, {}, "mma.m8n8k4.f64.f64.f64.f64", lp.Sequential("fp64")),
    ("a100", "fp64", {"out_dtype": "fp32"}, "mma.m8n8k4.f64.f64.f64.f64", None),
    ("a100", ("int8", "uint8"), {}, "mma.m16n8kK.s32.A.B.s32", lp.Integer(32)),
    ("a100", "int8", {"out_dtype": "int32"}, "mma.m16n8kK.s32.A.B.s32", None),
    ("a100", "int8", {"c": np.int32, "out_dtype": np.int8}, "mma.m16n8kK.s32.A.B.s32", None),
    ("t4", "fp16", {}, "mma.m16n8k8.f32.f16.f16.f32", lp.FusedTruncated(8, 24, exponent_floor=-132)),
    ("t4", "fp16", {"k": 4}, "mma.m8n8k4.f32.f16.f16.f32", lp.FusedTruncated(4, 23, exponent_floor=-131)),
    ("t4", "fp16", {"k": 4, "out_dtype": "fp16"}, "mma.m8n8k4.f16.f16.f16.f16", None),
    ("l40s", ("e5m2", "e4m3fn"), {}, "mma.m16n8kK.f32.A.B.f32", None),
    ("h100", "e4m3fn", {}, "wgmma.m64nNk32.f32.A.B", lp.FusedTruncated(32, 13, kept_bits=13)),
    ("h100", "e4m3fn", {"out_dtype": "fp16"}, "wgmma.m64nNk32.f16.A.B", lp.FusedTruncated(32, 13, "fp16", "rne")),
    ("nvidia-hopper-mma", "e4m3fn", {}, "mma.m16n8k32.f32.A.B.f32", lp.Fp8ViaF16()),
    ("nvidia-hopper-mma", "bf16", {"k": 8}, "mma.m16n8k8.f32.bf16.bf16.f32", lp.FusedTruncated(8, 25)),
    ("nvidia-hopper-mma", "tf32", {}, "mma.m16n8k8.f32.tf32.tf32.f32", lp.FusedTruncated(8, 25)),
    ("nvidia-hopper-mma", "tf32", {"k": 4}, "mma.m16n8k4.f32.tf32.tf32.f32", lp.FusedTruncated(4, 25)),
    ("b200", ("e2m3fn", "e5m2"), {}, "tcgen05.mma.mMnNk32.kind::f8f6f4.f32.A.B", lp.FusedTruncated(32, 25)),
    ("b200", "e2m1fn", {}, "tcgen05.mma.mMnNk32.kind::f8f6f4.f32.A.B", lp.FusedTruncated(32, 25)),
    ("b200", "e2m1fn", {"scales": ("e8m0fnu", 32)}, "tcgen05.mma.mMnNk64.kind::mxf4.block32.f32.e2m1.e2m1.ue8m0", None),
    (
        "b200",
        "e2m1fn",
        {"scales": ("e4m3fn", 16)},
        "tcgen05.mma.mMnNk64.kind::mxf4nvf4.block16.f32.e2m1.e2m1.ue4m3",
        lp.FusedTruncatedGroupScaled(scale_block=16, scale_format="e4m3fn"),
    ),
    (
        "b200",
        ("e2m1fn", "e4m3fn"),
        {"scales": ("e8m0fnu", 32)},
        "tcgen05.mma.mMnNk32.kind::mxf8f6f4.block32.f32.A.B.ue8m0",
        lp.FusedTruncatedScaled(),
    ),
    (
        "b200",
        "e2m1fn",
        {"scales": ("e8m0fnu", 32), "k": 32},
        "tcgen05.mma.mMnNk32.kind::mxf8f6f4.block32.f32.A.B.ue8m0",
        None,
    ),
    ("rtx50", "e4m3fn", {"k": 16}, "mma.m16n8k16.f32.A.B.f32", lp.FusedTruncated(16, 25)),
    ("mi250x", "bf16", {}, "v_mfma_f32_MxNxKbf16", lp.FlushedPairwise(2)),
    ("amd-cdna2-1k", "bf16", {}, "v_mfma_f32_MxNxKbf16_1k", lp.FlushedPairwise(4)),
    ("mi300x", ("e4m3fnuz", "e5m2fnuz"), {}, "v_mfma_f32_MxNxK_A_B", lp.FusedTruncatedLateC(16, even_odd=True)),
    ("mi300x", "fp16", {"k": 4}, "v_mfma_f32_MxNx4_f16", lp.FusedTruncatedLateC(4)),
    ("mi300x", "tf32", {}, "v_mfma_f32_MxNxK_xf32", lp.FusedTruncatedLateC(4)),
    ("x86-avx512vnni", ("uint8", "int8"), {}, "vpdpbusd", lp.Integer(32)),
    ("x86-avx512vnni-saturate", ("uint8", "int8"), {}, "vpdpbusds", lp.Integer(32, "saturate", 4)),
    ("x86-avx512vnni-saturate", "int16", {}, "vpdpwssds", lp.Integer(32, "saturate", 2)),
    ("x86-avx512vnni", lp.IntFormat(bits=16), {}, "vpdpwssd", None),
    ("x86-amx", ("uint8", "int8"), {}, "tdpbABd", lp.Integer(32)),
    ("neoverse-v1", "bf16", {}, "bfdot, bfmmla", lp.BfDotRoundOdd()),
]


@pytest.mark.parametrize(("word", "dtype", "more", "name", "model"), CHOICES)
def test_choice(word: str, dtype: Any, more: dict[str, Any], name: str, model: Any) -> None:
    row = lp.preset(word).instruction(dtype, **more)
    assert row.name == name
    assert model is None or row.model == model
    assert lp.preset(word).instruction(dtype, **more) is row, "the same row, not a new one"


@pytest.mark.parametrize("case", ROWS, ids=label)
def test_every_row_can_be_had(case: tuple[lp.Preset, lp.Instruction]) -> None:
    preset, row = case
    for a, b in itertools.product(row.a, row.b):
        c = row.c if row.c != row.out else None
        found = {preset.instruction((a, b), c=c, out_dtype=row.out, scales=row.scales, k=k) for k in row.k}
        assert found == {row}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_select_agrees(preset: lp.Preset) -> None:
    for row in preset.instructions:
        pair = (row.a[0], row.b[-1])
        for c, out in ((None, None), (row.c, row.out), (None, lp.format("fp16"))):
            expected = preset.instruction(pair, c=c, out_dtype=out, scales=row.scales)
            for word in (preset.name, preset, *preset.aliases):
                assert hardware.select(word, pair, c=c, out=out, scales=row.scales) is expected


REFUSED: list[tuple[str, Any, dict[str, Any], type[Exception], str]] = [
    (
        "v100",
        "bf16",
        {},
        ValueError,
        r"^`dtype` must be one of the operand formats of nvidia-volta \(float16 x float16 -> float32 or float16\), "
        r"got bfloat16 x bfloat16\.$",
    ),
    ("v100", "int8", {}, ValueError, "operand formats of nvidia-volta"),
    ("t4", "tf32", {}, ValueError, "any two of int8, uint8 -> int32"),
    ("a100", "e4m3fn", {}, ValueError, "nvidia-ampere .*got float8_e4m3fn x float8_e4m3fn"),
    ("a100", ("fp16", "bf16"), {}, ValueError, "got float16 x bfloat16"),
    ("h100", "fp32", {}, ValueError, "tf32 x tf32 -> float32;"),
    ("h100", "e4m3", {}, ValueError, "the format of that shape there is float8_e4m3fn"),
    ("h100", "e5m2fnuz", {}, ValueError, "the format of that shape there is float8_e5m2"),
    ("mi300x", "e4m3fn", {}, ValueError, "the format of that shape there is float8_e4m3fnuz"),
    ("mi100", "fp64", {}, ValueError, "operand formats of amd-cdna1"),
    (
        "h100",
        "e2m1fn",
        {"scales": ("e8m0fnu", 32)},
        ValueError,
        "got float4_e2m1fn x float4_e2m1fn with float8_e8m0fnu sc",
    ),
    ("b200", "e4m3fn", {"scales": ("e8m0fnu", 16)}, ValueError, "with float8_e8m0fnu scales per 16"),
    ("b200", "e2m1fn", {"scales": ("e4m3fn", 32)}, ValueError, "with float8_e4m3fn scales per 16 -> float32"),
    ("b200", "bf16", {"scales": ("e8m0fnu", 32)}, ValueError, "got bfloat16 x bfloat16 with"),
    ("x86-avx512vnni", "int8", {}, ValueError, "uint8 x int8 -> int32; int16 x int16 -> int32"),
    ("x86-avx512vnni", ("int8", "uint8"), {}, ValueError, "got int8 x uint8"),
    ("tpu-approx", "fp16", {}, ValueError, "operand formats of tpu-approx"),
    ("a100", "bf16", {"k": 32}, ValueError, "`k` must be a K of .* for bfloat16 x bfloat16: 8 or 16, got 32"),
    ("a100", "fp17", {}, ValueError, "`dtype` must be a known format name"),
    ("a100", "fp8", {}, ValueError, "`dtype` must name one format, got 'fp8', which is ambiguous"),
    ("a100", 16, {}, TypeError, "`dtype` must be a format name"),
    ("a100", None, {}, TypeError, "`dtype` must be a format name"),
    ("a100", ("fp16", "fp16", "fp16"), {}, ValueError, r"`dtype` must be a format, or a pair of them .*got 3"),
    ("a100", "fp16", {"c": "fp17"}, ValueError, "`c` must be a known format name"),
    ("a100", "fp16", {"out_dtype": "fp17"}, ValueError, "`out_dtype` must be a known format name"),
    ("b200", "e2m1fn", {"scales": "e8m0fnu"}, TypeError, "`scales` must be a pair such as"),
    ("b200", "e2m1fn", {"scales": ("e8m0fnu",)}, TypeError, "`scales` must be a pair such as"),
    ("b200", "e2m1fn", {"scales": ("fp17", 32)}, ValueError, "`scales` must be a known format name"),
]


@pytest.mark.parametrize(("word", "dtype", "more", "error", "message"), REFUSED)
def test_refusals_list_the_rows(word: str, dtype: Any, more: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        lp.preset(word).instruction(dtype, **more)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_refusal_lists_every_row(preset: lp.Preset) -> None:
    with pytest.raises(ValueError, match="`dtype` must be one of") as told:
        preset.instruction("e8m0fnu")
    text = str(told.value)
    for row in preset.instructions:
        listed = re.search(rf"{re.escape(row.operands)} -> ([^;)]*)", text)
        assert listed, row.operands
        assert str(row.out) in listed[1].split(" or ")


# ------------------------------------------------------------------------------------------------------ what is printed


def test_table_prints_every_row() -> None:
    lines = str(PRESETS).splitlines()
    assert lines[0].split() == ["preset", *CELLS]
    assert len(lines) == 2 + len(ROWS)
    assert all(line == line.rstrip() for line in lines)
    for line, (_, row) in zip(lines[2:], ROWS, strict=True):
        for cell in cells(row):
            assert cell in line
    assert [line.split("  ")[0] for line in lines[2:] if line[0] != " "] == list(NAMES)


def test_models_of_the_table_can_be_called() -> None:
    public = {name: getattr(lp, name) for name in lp.__all__}
    for _, row in ROWS:
        assert eval(cells(row)[CELLS.index("model")], public) == row.model
        assert eval(repr(row.model), public) == row.model


@pytest.mark.parametrize("case", ROWS, ids=label)
def test_text_of_rows_and_presets(case: tuple[lp.Preset, lp.Instruction]) -> None:
    preset, row = case
    assert repr(preset) == f"Preset({preset.name!r})"
    assert row.name in str(preset)
    assert row.name in repr(row)
    for part in (row.name, row.operands, str(row.out), str(row.model), row.evidence):
        assert part in str(row)
    assert "FloatFormat(" not in repr(row) + str(row)


def test_rows_are_frozen_and_hashable() -> None:
    assert len({row for _, row in ROWS}) <= len(ROWS)
    assert len(set(PRESETS)) == len(PRESETS)
    with pytest.raises(AttributeError):
        PRESETS[0].name = "x"
    with pytest.raises(AttributeError):
        PRESETS[0].instructions[0].k = (1,)
    assert isinstance(PRESETS, tuple)
    assert lp.presets() is PRESETS


def test_import_does_not_make_the_table() -> None:
    code = "import lowprec.hardware as h; assert h._table.cache_info().currsize == 0; h.presets()"
    where = Path(lp.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=where, check=True, timeout=60)


# ----------------------------------------------------------------------------------------- planted: the checks can fail


def planted(row: lp.Instruction) -> Iterator[lp.Accumulator]:
    """Yield models that differ from a tensor core's in one parameter."""
    m = row.model
    for change in (
        {"fraction_bits": m.fraction_bits + 1},
        {"fraction_bits": m.fraction_bits - 1},
        {"length": m.length * 2},
        {"exponent_floor": m.exponent_floor + 1},
        {"rounding": "nearest_even" if m.rounding == "toward_zero" else "toward_zero"},
        {"kept_bits": 9},
    ):
        yield dataclasses.replace(m, **change)


def test_planted_parameter_is_seen() -> None:
    for name in ("nv_ampere_mma_m16n8k16_bf16_f32", "nv_hopper_wgmma_m64n8k32_e4m3_e4m3_f16"):
        case = golden.load(name)
        (row,) = row_of(case)
        assert all(model != case.model for model in planted(row))


def test_order_of_rows_decides_only_between_equals() -> None:
    """A float32 result is preferred wherever its row stands; of two such rows the first one is taken."""
    fp16 = lp.format("fp16")
    for rows in itertools.permutations(lp.preset("v100").instructions):
        turned = lp.Preset("turned", (), "nobody", "Rows in another order", rows)
        assert turned.instruction("fp16").name == "mma.m8n8k4.f32.f16.f16.f32"
        assert turned.instruction("fp16", c="fp16").name == "mma.m8n8k4.f32.f16.f16.f16"
        assert turned.instruction("fp16", out_dtype="fp16").name == "mma.m8n8k4.f16.f16.f16.f16"
        assert hardware.select(turned, (fp16, fp16), c=lp.format("bf16")).name == "mma.m8n8k4.f32.f16.f16.f32"


# ---------------------------------------------------------------------------------------------------------- the pages


def test_pages_hold_every_preset_row_and_model() -> None:
    spec = importlib.util.spec_from_file_location("tables", Path(__file__).parents[1] / "docs" / "make_tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    parts = re.split(r"^### (.*)\n", tables.hardware_tables(), flags=re.MULTILINE)[1:]
    assert parts[::2] == list(NAMES)
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        rows = [
            [cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "|" in line
        ]
        want = [[row.name, *cells(row)] for row in lp.preset(name).instructions]
        assert rows[2:] == want
        for word in (*lp.preset(name).aliases, lp.preset(name).title, *(r.note for r in lp.preset(name).instructions)):
            assert word in text
    for preset, row in ROWS:
        for source in row.source.split("; "):
            (line,) = (line for line in tables.hardware_sources().splitlines() if line.startswith(f"- {source}: `"))
            assert f"`{preset.name}`" in line
    models = tables.models_list()
    assert models.count("```text") * 2 == models.count("```")
    parts = re.split(r"^### (.*)\n", models, flags=re.MULTILINE)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        users = {preset.name for preset, row in ROWS if type(row.model).__name__ == name}
        assert set(re.findall(r"`([\w-]+)`", text.partition("Presets: ")[2])) == users
    assert {type(row.model).__name__ for _, row in ROWS} <= set(parts[::2])
