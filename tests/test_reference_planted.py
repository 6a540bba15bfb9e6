"""Wrong hardware models: each bug below must show in a sum worked by hand, and in a recorded or simulated one.

A bug is a parameter that is off, or one function of the twin exchanged. A bug that both sets pass would pass in a
kernel too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import golden
import pytest
from accumulator_points import wrong_points

from lowprec import accumulators as acc
from lowprec import reference
from lowprec.reference import amd, nvidia, vectors
from lowprec.reference.reals import add, multiply, real, rounded
from lowprec.reference.terms import Term, pack, shift_floored, shift_truncated, term

Accumulate = Callable[..., int]


def changed(kind: type[acc.Accumulator], **change: Any) -> Any:
    """Plant a change of a parameter: a value, or a function of the model's own one; None leaves the model alone."""

    @contextmanager
    def planted(_: pytest.MonkeyPatch) -> Iterator[Accumulate]:
        def accumulate(model: Any, *args: Any, **more: Any) -> int:
            if isinstance(model, kind):
                new = {name: f(model) if callable(f) else f for name, f in change.items()}
                if None not in new.values():
                    model = replace(model, **new)
            return reference.accumulate(model, *args, **more)

        yield accumulate

    return planted


def exchanged(module: Any, **functions: Any) -> Any:
    """Plant other functions into a module."""

    @contextmanager
    def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accumulate]:
        with monkeypatch.context() as patch:
            for name, f in functions.items():
                patch.setattr(module, name, f)
            yield reference.accumulate

    return planted


@contextmanager
def pairs_swapped(_: pytest.MonkeyPatch) -> Iterator[Accumulate]:
    """Take the even element of a pair first."""

    def accumulate(model: Any, a: Sequence[int], b: Sequence[int], *args: Any, **more: Any) -> int:
        if isinstance(model, acc.FmaPairOddFirst):
            spare = [0] * (len(a) % 2)
            a, b = [*a, *spare], [*b, *spare]
            a, b = ([x[k ^ 1] for k in range(len(x))] for x in (a, b))
        return reference.accumulate(model, a, b, *args, **more)

    yield accumulate


fused_block = nvidia.fused_block
late_c = amd._late_c


def c_late(terms: Sequence[Term], fraction: int, floor: int, out: Any, **how: Any) -> int:
    """Round the products alone first, then add c."""
    *products, c = terms
    inner = fused_block(products, fraction, floor, out, **how)
    return fused_block([term(inner, out), c], fraction, floor, out, **how)


def zeros_have_an_exponent(terms: Sequence[Term], fraction: int, floor: int, out: Any, **how: Any) -> int:
    """Let a zero count with the smallest normal exponent of the result."""
    return fused_block(terms, fraction, max(floor, out.emin) if any(t.m == 0 for t in terms) else floor, out, **how)


def products_normalised(terms: Sequence[Term], *args: Any, **how: Any) -> int:
    """Move a significand of 2 or more into the exponent."""
    moved = [t._replace(x=t.x + 1, p=t.p + 1) if abs(t.m) >= 2 ** (t.p + 1) else t for t in terms]
    return fused_block(moved, *args, **how)


def term_normalised(code: int, fmt: Any) -> Term:
    """Give a subnormal number its true exponent."""
    t = term(code, fmt)
    while t.m and abs(t.m) < 2**t.p:
        t = t._replace(m=t.m * 2, x=t.x - 1)
    return t


def rounded_before_flush(x: Any) -> int:
    """Decide the flush of VDPBF16PS on the subnormal grid."""
    return 0xFFC00000 if x.special == "nan" else rounded(x, vectors._FLOAT32, subnormals="flush")


def to_nearest(x: Any) -> Any:
    """Round to nearest even where Arm rounds to odd."""
    code = rounded(x, vectors._FLOAT32, subnormals="flush")
    return real(code, vectors._FLOAT32)


def c_first(model: Any, a: Any, b: Any, c: int, formats: Any) -> int:
    """Do as the intrinsics guide has AMX: c first, then the pairs in order."""
    for block in vectors._pairs(a, b, formats, model.length):
        for x, y in block:
            c = vectors.fma86(x, y, c)
    return c


def toward_zero_pack(m: int, q: int, fmt: Any, *, nearest: bool, kept: int | None = None) -> int:
    return pack(m, q, fmt, nearest=False, kept=kept)


def nearest_pack(m: int, q: int, fmt: Any, *, nearest: bool, kept: int | None = None) -> int:
    return pack(m, q, fmt, nearest=True, kept=kept)


def together(model: Any, *rest: Any) -> int:
    """Sum even and odd k together, and add every c, however small."""
    return late_c(replace(model, even_odd=False), *rest)


def second_part_first(model: Any, a: Any, b: Any, c: int, formats: Any) -> int:
    """Take k mod 4 in {2, 3} first."""
    a, b = ([*x, *[0] * (-len(x) % 32)] for x in (a, b))
    order = [k ^ 2 for k in range(len(a))]
    return nvidia_fp8(model, [a[k] for k in order], [b[k] for k in order], c, formats)


nvidia_fp8 = reference.models._HARDWARE[acc.Fp8ViaF16]


def in_table(kind: type[acc.Accumulator], f: Any) -> Any:
    @contextmanager
    def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accumulate]:
        with monkeypatch.context() as patch:
            patch.setitem(reference.models._HARDWARE, kind, f)
            yield reference.accumulate

    return planted


def c_inside(model: Any, a: Any, b: Any, c: int, formats: Any) -> int:
    """Add c where NVIDIA does."""
    return reference.accumulate(acc.FusedTruncated(model.length, model.fraction_bits), a, b, c, formats=formats)


def sequential_flushed(model: Any, a: Any, b: Any, c: int, formats: Any) -> int:
    """Add one product after the other."""
    r = real(c, model.result_format)
    for x, y in zip(a, b, strict=True):
        p = rounded(multiply(real(x, formats[0]), real(y, formats[1])), model.result_format, subnormals="flush")
        code = rounded(add(r, real(p, model.result_format)), model.result_format, subnormals="flush")
        r = real(code, model.result_format)
    return rounded(r, model.result_format)


def group_kept_apart(model: Any, a: Any, b: Any, c: int, formats: Any, scales: Any) -> int:
    """Align every scaled product by itself."""
    out = model.result_format
    terms = [term(c, out)]
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        by = nvidia.product(*(each[k // model.scale_block] for each in scales))
        terms.append(nvidia.product(nvidia.product(term(x, formats[0]), term(y, formats[1])), by))
    return nvidia.fused_block(terms, 25, -133, out)


HOPPER, AMPERE = "nv_hopper_mma_m16n8k16_bf16_f32", "nv_ampere_mma_m16n8k16_f16_f32"
HOPPER_F16, WGMMA_FP8 = "nv_hopper_mma_m16n8k16_f16_f16", "nv_hopper_wgmma_m64n8k32_e5m2_e4m3_f32"
CDNA1, CDNA2 = "amd_cdna1_mfma_16x16x16_f16_f32", "amd_cdna2_mfma_16x16x16_f16_f32"
CDNA3, BF8 = "amd_cdna3_mfma_16x16x16_bf16_f32", "amd_cdna3_mfma_16x16x32_bf8_bf8_f32"
MXFP4 = "nv_blackwell_tcgen05_mxf4nvf4_k64_b16_ue8m0"
NVFP4, MX = "nv_blackwell_tcgen05_nvf4_k64_b16_ue4m3", "nv_blackwell_tcgen05_mxf8f6f4_k32_e5m2_e4m3"
ZEN5, AMX, ARM = "silicon_x86_vdpbf16ps_k2", "model_x86_amx_tdpbf16ps_k32", "qemu_arm_bfdot_ebf0_k2"
NO_FILE = ""  # no recorded row tells the bug
Fused, Late = acc.FusedTruncated, acc.FusedTruncatedLateC

PLANTS: dict[str, tuple[Any, str]] = {
    "F + 1": (changed(Fused, fraction_bits=lambda m: m.fraction_bits + 1), HOPPER),
    "F - 1": (changed(Fused, fraction_bits=lambda m: m.fraction_bits - 1), HOPPER),
    "F + 1 on Ampere": (changed(Fused, fraction_bits=lambda m: m.fraction_bits + 1), AMPERE),
    "F - 1 of fp8": (changed(Fused, fraction_bits=lambda m: m.fraction_bits - 1), WGMMA_FP8),
    "block halved": (changed(Fused, length=lambda m: max(1, m.length // 2)), AMPERE),
    "block doubled": (changed(Fused, length=lambda m: 2 * m.length), AMPERE),
    "floor + 1": (changed(Fused, exponent_floor=lambda m: m.exponent_floor + 1), HOPPER),
    "floor - 1": (changed(Fused, exponent_floor=lambda m: m.exponent_floor - 1), HOPPER),
    "rz13 kept whole": (changed(Fused, kept_bits=lambda m: 23 if m.kept_bits else None), WGMMA_FP8),
    "nearest for toward zero": (exchanged(nvidia, pack=nearest_pack), HOPPER),
    "toward zero for nearest": (exchanged(nvidia, pack=toward_zero_pack), HOPPER_F16),
    "c late": (exchanged(nvidia, fused_block=c_late), HOPPER),
    "floor for truncation": (exchanged(nvidia, shift_truncated=shift_floored), HOPPER),
    "zeros have an exponent": (exchanged(nvidia, fused_block=zeros_have_an_exponent), HOPPER),
    "products normalised": (exchanged(nvidia, fused_block=products_normalised), HOPPER),
    "subnormals normalised": (exchanged(nvidia, term=term_normalised), HOPPER_F16),
    "-0 kept": (exchanged(nvidia, positive_zero=lambda code, _: code), HOPPER),
    "canonical NaN": (exchanged(nvidia, special_code=reference.encode), HOPPER),
    "MX: F - 1": (changed(acc.FusedTruncatedScaled, fraction_bits=24), MX),
    "MXFP4: F - 1": (changed(acc.FusedTruncatedGroupScaled, fraction_bits=34), MXFP4),
    "NVFP4: no groups": (exchanged(reference.models, _SCALED={
        acc.FusedTruncatedScaled: nvidia.scaled, acc.FusedTruncatedGroupScaled: group_kept_apart,
    }), NVFP4),
    "CDNA1: block halved": (changed(acc.FusedExact, length=lambda m: m.length // 2), CDNA1),
    "CDNA1: toward zero": (exchanged(amd, pack=toward_zero_pack), CDNA1),
    "CDNA2: not in pairs": (in_table(acc.FlushedPairwise, sequential_flushed), CDNA2),
    "CDNA2: pairs of 2": (changed(acc.FlushedPairwise, length=2), CDNA2),
    "CDNA3: c inside": (in_table(Late, c_inside), CDNA3),
    "CDNA3: truncation for floor": (exchanged(amd, shift_floored=shift_truncated), CDNA3),
    "CDNA3: floor for truncation": (exchanged(amd, shift_truncated=shift_floored), CDNA3),
    "CDNA3: F + 1": (changed(Late, fraction_bits=25), CDNA3),
    "CDNA3: final bits - 1": (changed(Late, final_bits=30), CDNA3),
    "CDNA3: block halved": (changed(Late, length=lambda m: m.length // 2), CDNA3),
    "CDNA3: finite products": (exchanged(amd, _bounded=lambda t: t), CDNA3),
    "CDNA3: even and odd together": (exchanged(amd, _late_c=together), BF8),
    "x86: even first": (pairs_swapped, ZEN5),
    "x86: flush on the subnormal grid": (exchanged(vectors, _flushed=rounded_before_flush), NO_FILE),
    "x86: subnormals kept": (exchanged(vectors, _input=lambda code: real(code, vectors._FLOAT32)), ZEN5),
    "x86: canonical NaN": (exchanged(vectors, _first_nan=lambda codes: None), ZEN5),
    "AMX: c first": (in_table(acc.EvenOddPair, c_first), AMX),
    "AMX: block halved": (changed(acc.EvenOddPair, length=lambda m: m.length // 2), AMX),
    "Arm: nearest for odd": (exchanged(vectors, _to_odd=to_nearest), ARM),
    "Arm: fused": (in_table(acc.BfDotRoundOdd, vectors.bf_dot_fused), ARM),
    "Arm: not fused": (in_table(acc.BfDotFused, vectors.bf_dot_round_odd), "qemu_arm_bfdot_ebf1_k2"),
    "FP8: {2, 3} first": (in_table(acc.Fp8ViaF16, second_part_first), "silicon_nv_h100_e4m3_f16"),
    "FP8: one instruction": (
        in_table(acc.Fp8ViaF16, lambda m, a, b, c, f: reference.accumulate(
            Fused(32, 25, m.out, "rne" if m.out.name == "float16" else "rz"), a, b, c, formats=f)),
        "silicon_nv_b200_e4m3_f32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_bug_shows_by_hand(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, _ = PLANTS[name]
    with plant(monkeypatch) as accumulate:
        assert wrong_points(accumulate) != []


def test_bugs_are_taken_out() -> None:
    assert wrong_points(reference.accumulate) == []


def first_wrong_row(case: golden.Case, accumulate: Accumulate) -> Any:
    """Return the index of a row that is wrong, or None; rows in a fixed disorder, so that few need to be run."""
    rows = case.rows()
    random.Random(1).shuffle(rows)
    for index, a, b, c, scales in rows:
        got = accumulate(case.model, a, b, c, formats=case.formats, c_format=case.c_format, scales=scales)
        if golden.mismatches(got, case, index):
            return index
    return None


@pytest.mark.parametrize("name", [name for name, (_, file) in PLANTS.items() if file != NO_FILE])
def test_bug_shows_in_golden_vectors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden.files()  # skips where there are none
    plant, file = PLANTS[name]
    with plant(monkeypatch) as accumulate:
        assert first_wrong_row(golden.load(file), accumulate) is not None
