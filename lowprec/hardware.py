"""THE table of hardware presets: product and operand formats to the model of its sum, with evidence and source.

To add hardware, add a function of rows and a line of `_table`, at the end of this file; names, tests, the command and
the docs follow.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from lowprec._instructions import ApproximationWarning, Evidence, Instruction, Preset, PresetTable, choose
from lowprec.accumulators import (
    Accumulator,
    BfDotFused,
    BfDotRoundOdd,
    EvenOddPair,
    FlushedPairwise,
    FmaPairOddFirst,
    Fp8ViaF16,
    FusedExact,
    FusedTruncated,
    FusedTruncatedGroupScaled,
    FusedTruncatedLateC,
    FusedTruncatedScaled,
    Integer,
    Sequential,
)
from lowprec.formats import FloatFormat, Format, IntFormat, formats
from lowprec.formats import format as resolve
from lowprec.rounding import Rounding

__all__ = ["ApproximationWarning", "Instruction", "Preset", "preset", "presets", "select"]


def preset(name: str) -> Preset:
    """Return the preset of a name.

    Parameters
    ----------
    name : str
        A name or an alias of the table, in any case.

    Returns
    -------
    Preset
        The row block of that hardware.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If no preset has that name; the close ones are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.preset("MI300X").name
    'amd-cdna3'
    """
    if isinstance(name, Preset):
        return name
    if not isinstance(name, str):
        msg = f"`name` must be the name of a preset, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    found = _by_name().get(name.strip().lower().replace("_", "-"))
    if found is None:
        close = difflib.get_close_matches(name.strip().lower(), list(_by_name()), n=4, cutoff=0.5)
        hint = f"the closest: {', '.join(map(repr, close))}." if close else "lp.presets() lists the names."
        msg = f"`name` must be the name of a hardware preset, got {name!r}; {hint}"
        raise ValueError(msg)
    return found


def select(
    word: str | Preset,
    operands: tuple[Format, Format],
    *,
    c: Format | None = None,
    out: Format | None = None,
    scales: tuple[FloatFormat, int] | None = None,
) -> Instruction:
    """Return the row that a product takes: what `Preset.instruction` does, for resolved formats.

    Parameters
    ----------
    word : str or Preset
        What `accumulator=` was given and no model has for a name.
    operands : tuple of two formats
        Formats of a and b.
    c, out : FloatFormat or IntFormat, optional
        Formats of the addend and of the wanted result.
    scales : tuple of FloatFormat and int, optional
        Format of the block scales and elements per scale.

    Returns
    -------
    Instruction
        The row.

    Raises
    ------
    ValueError
        If `word` names no preset, or it has no row for the operands.

    Examples
    --------
    >>> bf16 = resolve("bf16")
    >>> select("a100", (bf16, bf16)).model
    FusedTruncated(length=8, fraction_bits=24, exponent_floor=-132)
    """
    found = word if isinstance(word, Preset) else _by_name().get(word.replace("_", "-"))
    if found is None:
        word = str(word)
        names = [*_by_name(), "exact", "pairwise", "int32", *(n for f in formats() for n in (f.name, *f.aliases))]
        close = difflib.get_close_matches(word, names, n=4, cutoff=0.5)
        hint = f"the closest: {', '.join(map(repr, close))}." if close else "lp.presets() lists the hardware."
        msg = (
            "`accumulator` must be a model, the name of a float format, 'exact', 'pairwise', an integer such as "
            f"'int32' or a hardware preset, got {word!r}; {hint}"
        )
        raise ValueError(msg)
    return choose(found, *operands, c, out, scales, None)


def presets() -> tuple[Preset, ...]:
    """Return every hardware preset.

    Returns
    -------
    tuple of Preset
        The table; ``print`` shows it as one. It does not change while the program runs.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> [preset.name for preset in lp.presets()][:3]
    ['nvidia-volta', 'nvidia-turing', 'nvidia-ampere']
    """
    return _table()


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Preset]:
    """Return every name and alias with its preset."""
    return {word: each for each in _table() for word in (each.name, *each.aliases)}


# ----------------------------------------------------------------------------------------------------------- the table


def _floats(names: str) -> tuple[FloatFormat, ...]:
    """Return the float formats of some names."""
    return tuple(cast(FloatFormat, resolve(name)) for name in names.split())


_F64, _F32, _TF32, _BF16, _F16, _E8M0, _FP4 = _floats("fp64 fp32 tf32 bf16 fp16 e8m0fnu e2m1fn")
_FP8 = _floats("e4m3fn e5m2")
_FP8_FNUZ = _floats("e4m3fnuz e5m2fnuz")
_FP864 = _floats("e5m2 e4m3fn e3m2fn e2m3fn e2m1fn")
_INT32, _INT16 = IntFormat(bits=32), IntFormat(bits=16)
_INT8, _INT4 = (resolve("int8"), resolve("uint8")), (resolve("int4"), resolve("uint4"))
_WORDS = {"float16": "f16", "bfloat16": "bf16", "tf32": "tf32", "float32": "f32", "float64": "f64"}

_MMASIM = "MMA-Sim 2.1.1, arXiv:2511.10909v2, its tests on the hardware"
_KM = "Khattak and Mikaitis, arXiv:2512.07004"
_FASI = "Fasi et al., PeerJ Computer Science 7:e330, 2021"
_PTX = "NVIDIA PTX ISA, integer mma: exact, wraps without .satfinite"
_SDM = "Intel SDM, volume 2"
_ARM = "Arm A64 instruction set, BFDOT and BFMMLA, and the shared pseudocode"
_TF32_NOTE = (
    "The unit reads the top 19 bits of a float32 and ignores the others; to feed it unrounded float32 numbers, take "
    'rounding="toward_zero".'
)


def _recorded(gpus: str) -> str:
    """Cite the results that were recorded on some GPUs."""
    return f"{_KM}, results recorded on {gpus}; {_MMASIM}"


def _row(
    name: str,
    operands: Format | tuple[Format, ...],
    out: Format,
    k: int | tuple[int, ...],
    model: Accumulator,
    evidence: Evidence,
    source: str,
    **rest: Any,
) -> Instruction:
    """Return a row; unless said otherwise both operands have the same choice of formats, and c is as the result."""
    a = operands if isinstance(operands, tuple) else (operands,)
    sizes = k if isinstance(k, tuple) else (k,)
    facts = {"b": a, "c": out, **rest}
    return Instruction(name, a=a, out=out, k=sizes, model=model, evidence=evidence, source=source, **facts)


def _fused(
    length: int, fraction: int, out: FloatFormat = _F32, *, below: int = 7, kept: int | None = None
) -> Accumulator:
    """Return a tensor core's model; its exponent floor is `below` under the result's smallest normal exponent."""
    rounding = Rounding.NEAREST_EVEN if out == _F16 else Rounding.TOWARD_ZERO
    return FusedTruncated(length, fraction, out, rounding, kept_bits=kept, exponent_floor=out.emin - below)


def _tensor(
    name: str,
    operand: FloatFormat,
    k: int | tuple[int, ...],
    length: int,
    fraction: int,
    grade: Evidence,
    source: str,
    **rest: Any,
) -> Iterator[Instruction]:
    """Yield the rows of an instruction to float32, and of the one to float16 where the operands are that.

    ``OUT`` and ``IN`` in `name` stand for the formats.
    """
    below = {23: 5, 24: 6, 25: 7}[fraction]
    for out in (_F32, _F16) if operand == _F16 else (_F32,):
        spelled = name.replace("OUT", _WORDS[out.name]).replace("IN", _WORDS[operand.name])
        yield _row(spelled, operand, out, k, _fused(length, fraction, out, below=below), grade, source, **rest)


def _int_mma(name: str, k: int | tuple[int, ...], operands: tuple[Format, ...] = _INT8) -> Instruction:
    """Return the row of an integer tensor core."""
    return _row(name, operands, _INT32, k, Integer(32), "vendor-text", _PTX)


def _double(name: str, k: int | tuple[int, ...], note: str = "") -> Instruction:
    """Return the row of a float64 matrix unit."""
    return _row(name, _F64, _F64, k, Sequential(_F64), "upstream-silicon", _MMASIM, note=note)


def _volta() -> Iterator[Instruction]:
    """Yield the rows of Volta."""
    source = f"{_recorded('the V100')}; {_FASI}"
    yield from _tensor("mma.m8n8k4.OUT.IN.IN.OUT", _F16, 4, 4, 23, "silicon", source)
    model = FusedTruncated(4, 23, exponent_floor=-131, c_format=_F16)
    note = (
        "A float16 addend to a float32 sum. Sources disagree on subnormal addends (exponent -14 with leading zeros, as "
        "here, or the true one), which shows in the last bits where the addend is subnormal."
    )
    yield _row("mma.m8n8k4.f32.f16.f16.f16", _F16, _F32, 4, model, "upstream-silicon", _MMASIM, c=_F16, note=note)


def _turing() -> Iterator[Instruction]:
    """Yield the rows of Turing."""
    source = f"{_MMASIM}; {_FASI}, on the T4"
    yield from _tensor("mma.m16n8k8.OUT.IN.IN.OUT", _F16, 8, 8, 24, "upstream-silicon", source)
    note = "Volta's instruction, which Turing runs with Volta's arithmetic."
    yield from _tensor("mma.m8n8k4.OUT.IN.IN.OUT", _F16, 4, 4, 23, "upstream-silicon", _MMASIM, note=note)
    yield _int_mma("mma.m8n8k16.s32.A.B.s32", 16)
    yield _int_mma("mma.m8n8k32.s32.A.B.s32", 32, _INT4)


def _ampere() -> Iterator[Instruction]:
    """Yield the rows of Ampere, GA100 and GA10x."""
    yield from _ampere_floats(_recorded("the A100 and A2"))
    yield _double("mma.m8n8k4.f64.f64.f64.f64", 4)
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (16, 32))
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (32, 64), _INT4)


def _ampere_floats(source: str) -> Iterator[Instruction]:
    """Yield the rows of 16-bit and tf32 operands that Ampere and Ada share."""
    note = "Recorded with K = 8; K = 16 as two blocks rests on the simulator's tests."
    yield from _tensor("mma.m16n8kK.OUT.IN.IN.OUT", _F16, (8, 16), 8, 24, "silicon", source, note=note)
    yield from _tensor("mma.m16n8kK.OUT.IN.IN.OUT", _BF16, (8, 16), 8, 24, "silicon", source, note=note)
    note = f"Recorded with K = 4; K = 8 as two blocks rests on the simulator's tests. {_TF32_NOTE}"
    yield from _tensor("mma.m16n8kK.OUT.IN.IN.OUT", _TF32, (4, 8), 4, 24, "silicon", source, note=note)


def _ada() -> Iterator[Instruction]:
    """Yield the rows of Ada."""
    source = _recorded("the RTX 1000 Ada and L40S")
    yield from _ampere_floats(source)
    note = "The result keeps 13 fraction bits."
    model = _fused(16, 13, below=6, kept=13)
    yield _row("mma.m16n8kK.f32.A.B.f32", _FP8, _F32, (16, 32), model, "silicon", source, note=note)
    model = _fused(16, 13, _F16, below=6)
    yield _row("mma.m16n8kK.f16.A.B.f16", _FP8, _F16, (16, 32), model, "silicon", source)
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (16, 32))
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (32, 64), _INT4)


def _hopper() -> Iterator[Instruction]:
    """Yield the rows of Hopper's warp-group instructions, and of those that have none."""
    source = _recorded("the H100 and H200")
    note = "Recorded through mma.sync, which has the same model."
    yield from _tensor("wgmma.m64nNk16.OUT.IN.IN", _F16, 16, 16, 25, "silicon", source, note=note)
    yield from _tensor("wgmma.m64nNk16.OUT.IN.IN", _BF16, 16, 16, 25, "silicon", source, note=note)
    note = f"Recorded through mma.sync with K = 4; K = 8 rests on the simulator's tests. {_TF32_NOTE}"
    yield from _tensor("wgmma.m64nNk8.OUT.IN.IN", _TF32, 8, 8, 25, "silicon", source, note=note)
    note = "The result keeps 13 fraction bits. Recorded with c = 0; other c rest on the simulator's tests."
    yield _row("wgmma.m64nNk32.f32.A.B", _FP8, _F32, 32, _fused(32, 13, kept=13), "silicon", source, note=note)
    yield _row("wgmma.m64nNk32.f16.A.B", _FP8, _F16, 32, _fused(32, 13, _F16), "upstream-silicon", _MMASIM)
    yield _double("mma.m16n8kK.f64.f64.f64.f64", (4, 8, 16), "There is no warp-group instruction; this is mma.sync.")
    yield _int_mma("wgmma.m64nNk32.s32.A.B", 32)


def _warp_floats(source: str, grade: Evidence) -> Iterator[Instruction]:
    """Yield the rows of mma.sync with 16-bit and tf32 operands, which Hopper and Blackwell share."""
    half = "Smaller blocks than with K = 16, so other bits."
    for operand in (_F16, _BF16):
        yield from _tensor("mma.m16n8k16.OUT.IN.IN.OUT", operand, 16, 16, 25, grade, source)
        yield from _tensor("mma.m16n8k8.OUT.IN.IN.OUT", operand, 8, 8, 25, "upstream-silicon", _MMASIM, note=half)
    yield from _tensor("mma.m16n8k8.OUT.IN.IN.OUT", _TF32, 8, 8, 25, "upstream-silicon", _MMASIM, note=_TF32_NOTE)
    note = f"Smaller blocks than with K = 8, so other bits. {_TF32_NOTE}"
    yield from _tensor("mma.m16n8k4.OUT.IN.IN.OUT", _TF32, 4, 4, 25, grade, source, note=note)


_FP8_NOTE = "Not native: the compiler makes two float16 instructions and an addition of it (CUTLASS issue 1986)."


def _hopper_mma() -> Iterator[Instruction]:
    """Yield the rows of Hopper's mma.sync."""
    source = _recorded("the H100 and H200")
    yield from _warp_floats(source, "silicon")
    note = f"{_FP8_NOTE} Not recorded with a float32 result; assumed to be as on the B200."
    model = Fp8ViaF16()
    yield _row("mma.m16n8k32.f32.A.B.f32", _FP8, _F32, 32, model, "conjecture", f"{_KM}, by analogy", note=note)
    source = f"{_KM}, results recorded on the H100 and H200"
    yield _row("mma.m16n8k32.f16.A.B.f16", _FP8, _F16, 32, Fp8ViaF16(_F16), "silicon", source, note=_FP8_NOTE)
    yield _double("mma.m16n8kK.f64.f64.f64.f64", (4, 8, 16))
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (16, 32))


def _blackwell() -> Iterator[Instruction]:
    """Yield the rows of data-centre Blackwell's tcgen05."""
    grade: Evidence = "upstream-silicon"
    for operand in (_F16, _BF16):
        yield from _tensor("tcgen05.mma.mMnNk16.kind::f16.OUT.IN.IN", operand, 16, 16, 25, grade, _MMASIM)
    yield from _tensor("tcgen05.mma.mMnNk8.kind::tf32.OUT.IN.IN", _TF32, 8, 8, 25, grade, _MMASIM, note=_TF32_NOTE)
    name = "tcgen05.mma.mMnNk32.kind::f8f6f4.OUT.A.B"
    yield _row(name.replace("OUT", "f32"), _FP864, _F32, 32, _fused(32, 25), grade, _MMASIM)
    yield _row(name.replace("OUT", "f16"), _FP864, _F16, 32, _fused(32, 25, _F16), grade, _MMASIM)
    yield from _scaled("tcgen05.mma.mMnNkK.kind::KIND.f32.A.B.TYPE")
    yield _int_mma("tcgen05.mma.mMnNk32.kind::i8.s32.A.B", 32)


def _scaled(name: str) -> Iterator[Instruction]:
    """Yield the rows of block-scaled operands, which all Blackwells share."""
    note = "For e2m1fn x e2m1fn, taken before mxf8f6f4, which has K = 32 and other bits."
    group = FusedTruncatedGroupScaled
    rows: tuple[tuple[str, Any, int, FloatFormat, int, Accumulator, str], ...] = (
        ("mxf4", _FP4, 64, _E8M0, 32, group(), note),
        (
            "mxf4nvf4",
            _FP4,
            64,
            _FP8[0],
            16,
            group(scale_block=16, scale_format=_FP8[0]),
            "The scales' sign is ignored.",
        ),
        ("mxf4nvf4", _FP4, 64, _E8M0, 16, group(scale_block=16), ""),
        ("mxf8f6f4", _FP864, 32, _E8M0, 32, FusedTruncatedScaled(), ""),
    )
    for kind, operands, k, scale, block, model, said in rows:
        spelled = name.replace("KIND", f"{kind}.block{block}").replace("kK", f"k{k}")
        spelled = spelled.replace("TYPE", "ue8m0" if scale == _E8M0 else "ue4m3")
        spelled = spelled.replace("A.B", "A.B" if k == 32 else "e2m1.e2m1")
        facts = {"scale_format": scale, "scale_block": block, "note": said}
        yield _row(spelled, operands, _F32, k, model, "upstream-silicon", _MMASIM, **facts)


def _blackwell_mma() -> Iterator[Instruction]:
    """Yield the rows of data-centre Blackwell's mma.sync."""
    yield from _warp_floats(_recorded("the B200"), "silicon")
    source = f"{_KM}, results recorded on the B200"
    yield _row("mma.m16n8k32.f32.A.B.f32", _FP8, _F32, 32, Fp8ViaF16(), "silicon", source, note=_FP8_NOTE)
    yield _row("mma.m16n8k32.f16.A.B.f16", _FP8, _F16, 32, Fp8ViaF16(_F16), "silicon", source, note=_FP8_NOTE)
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (16, 32))


def _rtx_blackwell() -> Iterator[Instruction]:
    """Yield the rows of RTX Blackwell."""
    grade: Evidence = "upstream-silicon"
    source = f"{_MMASIM}; {_KM}"
    yield from _warp_floats(source, grade)
    for out in (_F32, _F16):
        word, model = _WORDS[out.name], _fused(32, 25, out)
        yield _row(f"mma.m16n8k32.kind::f8f6f4.{word}.A.B.{word}", _FP864, out, 32, model, grade, source)
        note = "Smaller blocks than with K = 32, so other bits."
        model = _fused(16, 25, out)
        yield _row(f"mma.m16n8k16.{word}.A.B.{word}", _FP8, out, 16, model, grade, _MMASIM, note=note)
    yield from _scaled("mma.m16n8kK.kind::KIND.f32.A.B.f32.TYPE")
    yield _int_mma("mma.m16n8kK.s32.A.B.s32", (16, 32))


def _cdna1() -> Iterator[Instruction]:
    """Yield the rows of AMD CDNA1."""
    grade: Evidence = "upstream-silicon"
    source = f"{_MMASIM}; {_KM}"
    yield _row("v_mfma_f32_MxNxKf16", _F16, _F32, (4, 8, 16), FusedExact(4), grade, source)
    yield _row("v_mfma_f32_MxNxKbf16", _BF16, _F32, (2, 4, 8), FusedExact(2), grade, source)
    yield _row("v_mfma_f32_MxNxKf32", _F32, _F32, (1, 2, 4), Sequential(), grade, _MMASIM)


def _cdna2(newer: bool) -> Iterator[Instruction]:
    """Yield the rows of AMD CDNA2, its bf16 by the older instructions or by the newer ones."""
    grade: Evidence = "upstream-silicon"
    source = f"{_MMASIM}; {_KM}; AMD ROCm documentation, on flushed subnormals"
    note = "c = -0 becomes +0 where an instruction begins: here at the largest K. Smaller K show it in signs of zeros."
    yield _row("v_mfma_f32_MxNxKf16", _F16, _F32, (4, 8, 16), FlushedPairwise(4), grade, source, note=note)
    if newer:
        yield _row("v_mfma_f32_MxNxKbf16_1k", _BF16, _F32, (4, 8, 16), FlushedPairwise(4), grade, source, note=note)
    else:
        note = f"{note} The newer instructions, with K from 4 to 16, are the preset amd-cdna2-1k."
        yield _row("v_mfma_f32_MxNxKbf16", _BF16, _F32, (2, 4, 8), FlushedPairwise(2), grade, _MMASIM, note=note)
    yield _row("v_mfma_f32_MxNxKf32", _F32, _F32, (1, 2, 4), Sequential(), grade, _MMASIM)
    yield _double("v_mfma_f64_MxNxKf64", 4)


def _cdna3() -> Iterator[Instruction]:
    """Yield the rows of AMD CDNA3."""
    grade: Evidence = "upstream-silicon"
    for operand in (_F16, _BF16):
        word = _WORDS[operand.name]
        model = FusedTruncatedLateC(8)
        yield _row(f"v_mfma_f32_MxNxK_{word}", operand, _F32, (8, 16), model, grade, _MMASIM)
        note = "Smaller blocks than with K = 8 or 16, so other bits."
        model = FusedTruncatedLateC(4)
        yield _row(f"v_mfma_f32_MxNx4_{word}", operand, _F32, 4, model, grade, _MMASIM, note=note)
    note = f"AMD's xf32 is tf32. {_TF32_NOTE}"
    yield _row("v_mfma_f32_MxNxK_xf32", _TF32, _F32, (4, 8), FusedTruncatedLateC(4), grade, _MMASIM, note=note)
    note = "fp8 is float8_e4m3fnuz, bf8 is float8_e5m2fnuz."
    model = FusedTruncatedLateC(16, even_odd=True)
    yield _row("v_mfma_f32_MxNxK_A_B", _FP8_FNUZ, _F32, (16, 32), model, grade, _MMASIM, note=note)
    yield _row("v_mfma_f32_MxNxK_f32", _F32, _F32, (1, 2, 4), Sequential(), grade, _MMASIM)
    yield _double("v_mfma_f64_MxNxK_f64", 4)


def _avx512bf16() -> Iterator[Instruction]:
    """Yield the rows of AVX512_BF16."""
    note = "Run on Zen 5. For Intel's CPUs it rests on Intel's text, which says the same."
    source = f"run on AMD Zen 5; {_SDM}, VDPBF16PS"
    yield _row("vdpbf16ps", _BF16, _F32, 2, FmaPairOddFirst(), "silicon", source, note=note)


def _vnni(saturate: bool) -> Iterator[Instruction]:
    """Yield the rows of AVX512_VNNI, without saturation or with it."""
    s = "s" if saturate else ""
    source = f"run on AMD Zen 5; {_SDM}, VPDPBUSD{s.upper()} and VPDPWSSD{s.upper()}"
    bytes_sum, words_sum = (Integer(32, "saturate", n) if saturate else Integer(32) for n in (4, 2))
    yield _row(f"vpdpbusd{s}", _INT8[1], _INT32, 4, bytes_sum, "silicon", source, b=_INT8[:1])
    yield _row(f"vpdpwssd{s}", _INT16, _INT32, 2, words_sum, "silicon", source)


def _amx() -> Iterator[Instruction]:
    """Yield the rows of AMX."""
    note = (
        "By the operation section of the manual; Intel's guide to intrinsics says otherwise (c first, k ascending). "
        "K is that of a full tile."
    )
    source = f"{_SDM}, TDPBF16PS; Bochs, amx.cc"
    yield _row("tdpbf16ps", _BF16, _F32, 32, EvenOddPair(), "vendor-text", source, note=note)
    source = f"{_SDM}, TDPBSSD, TDPBSUD, TDPBUSD and TDPBUUD"
    yield _row("tdpbABd", _INT8, _INT32, 64, Integer(32), "vendor-text", source, note="A and B are s or u.")


def _arm(extended: bool) -> Iterator[Instruction]:
    """Yield the rows of Arm's bf16 dot products, without FEAT_EBF16 or with it."""
    source = f"{_ARM}; QEMU {'' if extended else '7.2 and '}10.0.13"
    if extended:
        note = "With FPCR.EBF = 1 and the rest of FPCR 0."
        yield _row("bfdot, bfmmla", _BF16, _F32, (2, 4), BfDotFused(), "emulator", source, note=note)
        return
    note = (
        "With FPCR.EBF = 0; FPCR's rounding bits are not read. BFMLALB and BFMLALT are ordinary fused multiply-adds: "
        'accumulator="fp32".'
    )
    yield _row("bfdot, bfmmla", _BF16, _F32, (2, 4), BfDotRoundOdd(), "emulator", source, note=note)


def _tpu() -> Iterator[Instruction]:
    """Yield the row of Google's TPU."""
    note = (
        "An approximation: exact bfloat16 products and a float32 sum are public; alignment, order, rounding and what "
        "becomes of subnormals are not. Here k ascends and every step is rounded to nearest even."
    )
    source = "Jouppi et al., Ten Lessons From Three Generations Shaped Google's TPUv4i, ISCA 2021"
    yield _row("mxu", _BF16, _F32, (128, 256), Sequential(), "conjecture", source, note=note, approximate=True)


@lru_cache(maxsize=1)
def _table() -> PresetTable:
    """Make the table: name, aliases, vendor, title, rows."""
    rows: tuple[tuple[str, str, str, Iterator[Instruction]], ...] = (
        ("nvidia-volta", "v100", "NVIDIA Volta (sm_70)", _volta()),
        ("nvidia-turing", "t4 rtx20", "NVIDIA Turing (sm_75)", _turing()),
        ("nvidia-ampere", "a100 a2 rtx30", "NVIDIA Ampere (sm_80, sm_86)", _ampere()),
        ("nvidia-ada", "l40s rtx40", "NVIDIA Ada (sm_89)", _ada()),
        ("nvidia-hopper", "h100 h200", "NVIDIA Hopper (sm_90), wgmma", _hopper()),
        ("nvidia-hopper-mma", "", "NVIDIA Hopper (sm_90), mma.sync", _hopper_mma()),
        ("nvidia-blackwell", "b200", "NVIDIA Blackwell (sm_100), tcgen05", _blackwell()),
        ("nvidia-blackwell-mma", "", "NVIDIA Blackwell (sm_100), mma.sync", _blackwell_mma()),
        ("nvidia-rtx-blackwell", "rtx50 rtxpro6000", "NVIDIA RTX Blackwell (sm_120)", _rtx_blackwell()),
        ("amd-cdna1", "mi100", "AMD CDNA1", _cdna1()),
        ("amd-cdna2", "mi200 mi250x", "AMD CDNA2", _cdna2(newer=False)),
        ("amd-cdna2-1k", "", "AMD CDNA2, bf16 by the _1k instructions", _cdna2(newer=True)),
        ("amd-cdna3", "mi300x", "AMD CDNA3", _cdna3()),
        ("x86-avx512bf16", "zen5 cooperlake", "x86 AVX512_BF16: AMD Zen 5, Intel Cooper Lake", _avx512bf16()),
        ("x86-avx512vnni", "", "x86 AVX512_VNNI, wrapping", _vnni(saturate=False)),
        ("x86-avx512vnni-saturate", "", "x86 AVX512_VNNI, saturating", _vnni(saturate=True)),
        ("x86-amx-bf16", "x86-amx sapphirerapids", "Intel AMX: Sapphire Rapids", _amx()),
        ("arm-bf16", "neoverse-v1", "Arm FEAT_BF16: Neoverse V1, N2", _arm(extended=False)),
        ("arm-ebf16", "", "Arm FEAT_EBF16, FPCR.EBF = 1", _arm(extended=True)),
        ("tpu-approx", "", "Google TPU, an approximation", _tpu()),
    )
    vendors = {"nvidia": "NVIDIA", "amd": "AMD", "x86": "AMD and Intel", "arm": "Arm", "tpu": "Google"}
    return PresetTable(
        Preset(name, tuple(aliases.split()), vendors[name.partition("-")[0]], title, tuple(each))
        for name, aliases, title, each in rows
    )
