"""Sums by model against programs that share nothing with this package: MMA-Sim, apytypes, NumPy."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from accumulator_cases import Case, bits, nearest, product, values

import lowprec as lp
from lowprec import accumulators as acc

pytestmark = pytest.mark.oracles

Array = np.ndarray[Any, Any]

# Where MMA-Sim 2.1.1 differs from the hardware's description, and what is taken out for it:
#   CDNA3, 8-bit operands: NaN and infinite accumulators get the exponent -1 and are dropped beside large products.
#     Rows with a c or a result that is not finite are left out for these instructions.
#   NaN of AMD and of float64: MMA-Sim gives any; NaN counts as NaN there.
#   Integers, and FP8 by mma.sync on Hopper and Blackwell (`Fp8ViaF16`): MMA-Sim has none of them.
# Where apytypes 0.5.1 is wrong: products of subnormal operands, and products that overflow, in an accumulator with as
# many exponent bits as the operands and more than twice their significand. Operands there lie in the middle.
WORDS = {
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f64": "fp64",
    "tf32": "tf32",
    "xf32": "tf32",
    "e5m2": "e5m2",
    "e4m3": "e4m3fn",
    "e3m2": "e3m2fn",
    "e2m3": "e2m3fn",
    "e2m1": "e2m1fn",
    "fp8": "e4m3fnuz",
    "bf8": "e5m2fnuz",
    "ue8m0": "e8m0fnu",
    "ue4m3": "e4m3fn",
}
NVIDIA = {
    "Volta": "nvidia-volta",
    "Turing": "nvidia-turing",
    "Ampere": "nvidia-ampere",
    "Ada Lovelace": "nvidia-ada",
    "Hopper": "nvidia-hopper-mma",
    "Blackwell": "nvidia-blackwell-mma",
    "RTX Blackwell": "nvidia-rtx-blackwell",
}
# Instructions that a newer generation keeps, and that the table lists where they came first.
OLDER = {
    ("nvidia-turing", "f16", "f32"): "nvidia-volta",
    ("nvidia-ada", "f64", "f64"): "nvidia-ampere",
    ("nvidia-blackwell-mma", "f64", "f64"): "nvidia-ampere",
    ("nvidia-rtx-blackwell", "f64", "f64"): "nvidia-ampere",
}
PRESETS = [*NVIDIA.values(), "nvidia-hopper", "nvidia-blackwell", "amd-cdna1", "amd-cdna2", "amd-cdna2-1k", "amd-cdna3"]


class Made(NamedTuple):
    """An instruction of MMA-Sim: the preset that has it, and its formats."""

    preset: str
    simulate: Any
    a: str
    b: str
    c: str
    out: str
    k: int
    scale: str | None = None
    block: int | None = None


@cache
def simulator() -> Any:
    """Return MMA-Sim; it compiles some C++ when it is first imported, by the ninja of this environment."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmasim")
    torch.set_num_threads(1)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        from mmasim import amd, nv_ptx
        from mmasim.amd import isa_mfma
        from mmasim.nv_ptx import isa_mma, isa_tcgen05mma, isa_wgmma
    return torch, nv_ptx, amd, (isa_mma, isa_wgmma, isa_tcgen05mma, isa_mfma)


def nvidia() -> Iterator[Made]:
    """Yield NVIDIA's instructions, one for each K and formats."""
    _, nv, _, (mma, wgmma, tcgen05, _) = simulator()
    for arch, names in mma.mma_shape_and_type.items():
        for name in names:
            op = nv.MMA(arch, name)
            d, a, b, c = name.split(".")[-4:]
            yield Made(NVIDIA[arch], op, a, b, c, d, op.k)
    for arch, names in mma.mma_block_scale_shape_and_type.items():
        for name in names:
            op = nv.MMABlockScale(arch, name)
            yield Made(NVIDIA[arch], op, *name.split(".")[4:6], "f32", "f32", op.k, name.split(".")[-1], op.block_size)
    for name in wgmma.wgmma_shape_and_type["Hopper"]:
        if name.startswith("m64n8k"):
            op = nv.WGMMA("Hopper", name)
            d, a, b = name.split(".")[1:]
            yield Made("nvidia-hopper", op, a, b, d, d, op.k)
    for name in tcgen05.tcgen05mma_shape_and_type["Blackwell"]:
        if name.startswith("m64n8k"):
            op = nv.TCGen05MMA("Blackwell", name)
            d, a, b = name.split(".")[2:]
            yield Made("nvidia-blackwell", op, a, b, d, d, op.k)
    for name in tcgen05.tcgen05mma_block_scale_shape_and_type["Blackwell"]:
        if name.startswith("m128n8k"):
            op = nv.TCGen05MMABlockScale("Blackwell", name)
            a, b, s = name.split(".")[4:]
            yield Made("nvidia-blackwell", op, a, b, "f32", "f32", op.k, s, op.block_size)


def amd() -> Iterator[Made]:
    """Yield AMD's instructions, one for each K and formats."""
    _, _, amd_, (*_, mfma) = simulator()
    seen = set()
    for arch, names in mfma.arch_mfma_suffix.items():
        for name in names:
            op = amd_.MFMA(arch, name)
            words = name.removesuffix("_1k").split("_")
            a = next(w for w in ("bf16", "xf32", "f16", "f32", "f64", "fp8", "bf8") if words[-1].endswith(w))
            a, b = (words[-2], words[-1]) if words[-1] in ("fp8", "bf8") else (a, a)
            preset = f"amd-{arch.lower()}" + ("-1k" if name.endswith("_1k") else "")
            if (preset, a, b, op.k) not in seen:
                seen.add((preset, a, b, op.k))
                yield Made(preset, op, a, b, words[0], words[0], op.k)


def row_of(made: Made) -> Any:
    """Return the preset's row for an instruction."""
    a, b, c, out = (lp.format(WORDS[w]) for w in (made.a, made.b, made.c, made.out))
    scales = None if made.scale is None else (lp.format(WORDS[made.scale]), made.block)
    rows = [
        row
        for row in lp.preset(OLDER.get((made.preset, made.c, made.out), made.preset)).instructions
        if row.takes(a, b) and (row.c, row.out, row.scales) == (c, out, scales) and made.k in row.k
    ]
    assert len(rows) == 1, (made, [row.name for row in rows])
    return rows[0]


def tensor(codes: Array, word: str, packed: bool = False) -> Any:
    """Return codes as MMA-Sim takes them."""
    torch = simulator()[0]
    fmt = lp.format(WORDS[word])
    if packed:  # two in a byte, the first one in the high half
        return torch.from_numpy(((codes[:, 0::2] << 4) | codes[:, 1::2]).astype(np.uint8))
    if word in ("e3m2", "e2m3", "e2m1"):
        return torch.from_numpy((codes << (2 if word == "e2m1" else 0)).astype(np.uint8))
    if fmt.name == "tf32":
        return torch.from_numpy((codes << 13).astype(np.uint32).view(np.float32))
    kinds = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "e5m2": "float8_e5m2"}
    kinds |= {"e4m3": "float8_e4m3fn", "fp8": "float8_e4m3fnuz", "bf8": "float8_e5m2fnuz"}
    kinds |= {"ue8m0": "float8_e8m0fnu", "ue4m3": "float8_e4m3fn"}
    signed = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}[np.dtype(fmt.code_dtype).itemsize]
    contiguous = np.ascontiguousarray(codes.astype(fmt.code_dtype)).view(signed)
    return torch.from_numpy(contiguous).view(getattr(torch, kinds[word]))


def simulated(made: Made, case: Case) -> Array:
    """Return the bits that MMA-Sim gives."""
    packed = made.k == 64
    a, b = tensor(case.a, made.a, packed), tensor(case.b.T, made.b, packed).T
    operands = [a, b, tensor(case.c, made.c)]
    if case.scales is not None:
        operands += [tensor(s, str(made.scale)) for s in case.scales]
    with np.errstate(all="ignore"):
        found = made.simulate.arithmetic_op(*operands)
    kind = {"f16": np.uint16, "f32": np.uint32, "f64": np.uint64}[made.out]
    return found.contiguous().view(getattr(simulator()[0], f"int{8 * kind().itemsize}")).numpy().view(kind)


def in_result(got: Array, made: Made) -> Array:
    """Return the bits of a result in the instruction's own format."""
    if made.out != "f16":
        return got
    x = got.view(np.float32)
    half = x.astype(np.float16).view(np.uint16)
    return np.where(np.isnan(x), (got >> 13 & 0x3FF | 0x7C00).astype(np.uint16), half)


def raw(case: Case, seed: int) -> None:
    """Put random codes in place of every other row, column and addend."""
    rng = np.random.default_rng(seed)
    for x, fmt in ((case.a[::2], case.formats[0]), (case.b.T[::2], case.formats[1]), (case.c[:, ::3], case.c_format)):
        x[...] = rng.integers(0, 2 ** lp.format(fmt).bits, x.shape, dtype=np.uint64).astype(np.int64)


def compared(made: Made) -> tuple[int, list[str]]:
    """Hold an instruction against its row: return how many results were compared, and what is wrong."""
    row, count, lines = row_of(made), 0, []
    for seed in range(3):
        case = Case(row.model, (WORDS[made.a], WORDS[made.b]), (9, made.k, 33), seed, special=seed == 1)
        if seed == 2:
            raw(case, seed)
        got, want = in_result(product(case), made), simulated(made, case)
        dtype = np.dtype(f"f{want.itemsize}")
        bad = got != want
        if made.preset.startswith("amd") or made.out == "f64":
            bad &= ~(np.isnan(got.view(dtype)) & np.isnan(want.view(dtype)))
        kept = np.ones(bad.shape, bool)
        if made.a in ("fp8", "bf8"):
            kept = np.isfinite(values(case.c, case.c_format)) & np.isfinite(got.view(dtype))
        bad &= kept
        count += int(kept.sum())
        lines += [f"seed {seed} {i}: got {got[*i]:#x}, want {want[*i]:#x}" for i in np.argwhere(bad)[:2]]
    return count, lines


@pytest.mark.parametrize("vendor", [nvidia, amd])
def test_every_instruction_of_mmasim(vendor: Any) -> None:
    seen, wrong, count = [], [], 0
    for made in vendor():
        seen.append(replace(row_of(made), note=""))
        n, lines = compared(made)
        count += n
        wrong += [f"{made.preset}, {seen[-1].name}, {made.a} x {made.b}, K = {made.k}: {line}" for line in lines]
    assert not wrong, f"{len(wrong)} wrong; " + "\n".join(wrong[:10])
    assert count > 500 * len(seen)
    rows = [row for name in PRESETS if name.startswith(vendor.__name__) for row in lp.preset(name).instructions]
    known = [row for row in rows if not isinstance(row.model, (acc.Integer, acc.Fp8ViaF16))]
    assert [row.name for row in known if replace(row, note="") not in seen] == []


# ------------------------------------------------------------------------------------------------------------ apytypes
MODES = {
    "nearest_even": "TIES_EVEN",
    "nearest_away": "TIES_AWAY",
    "toward_zero": "TO_ZERO",
    "toward_positive": "TO_POS",
    "toward_negative": "TO_NEG",
    "to_odd": "JAM_UNBIASED",
}


@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize("fmt", ["fp16", "bf16", "e5m7", "e5m2", "e3m4", "e4m3", "tf32", "fp32"])
@pytest.mark.parametrize("pair", ["fp16", "bf16", "e4m3"])
def test_not_fused_as_apytypes(pair: str, fmt: str, how: str) -> None:
    apy = pytest.importorskip("apytypes")
    out, own = lp.format(fmt), lp.format(pair)
    for seed in range(3):
        case = Case(acc.Sequential(fmt, how, fused=False), (pair, pair), (7, 23, 29), seed, special=seed)
        case.c[...] = 0
        if (pair, fmt) == ("bf16", "fp32"):
            for x in (case.a, case.b):
                v = np.abs(values(x, pair))
                x[~(((v > 2.0**-60) & (v < 2.0**60)) | (v == 0))] = nearest(np.array(1.0), pair)
        a, b = (apy.APyFloatArray.from_bits(x.tolist(), own.exponent_bits, own.mantissa_bits) for x in (case.a, case.b))
        mode = getattr(apy.QuantizationMode, MODES[how])
        with apy.APyFloatAccumulatorContext(exp_bits=out.exponent_bits, man_bits=out.mantissa_bits, quantization=mode):
            found = (a @ b).to_numpy()
        with np.errstate(invalid="ignore"):
            want = found.astype(np.float32)
        got = product(case)
        np.testing.assert_array_equal(np.where(np.isnan(want), np.uint32(0x7FC00000), bits(want)), got)
