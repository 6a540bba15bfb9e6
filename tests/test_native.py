"""x86's VDPBF16PS and what stands in for it, against the emulation, the slow twin, and recorded bits."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _native, _sums
from lowprec import accumulators as acc
from tests import golden
from tests.accumulator_cases import Case, bits, places, product, twin
from tests.test_golden import operand

Array = np.ndarray[Any, Any]
Run = Callable[..., Array]
ROOT = Path(lp.__file__).resolve().parents[1]
MODEL = acc.FmaPairOddFirst()
BF16 = ("bf16", "bf16")
BFLOAT16 = ml_dtypes.bfloat16
SHAPES = [(1, 1, 1), (1, 2, 1), (3, 7, 5), (8, 16, 48), (9, 33, 49), (13, 257, 101), (9, 1030, 50), (70, 514, 130)]
X86 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture(params=["vdpbf16ps", "portable", "fma"])
def way(request: pytest.FixtureRequest) -> str:
    if request.param not in _native.can():
        pytest.skip(f"this CPU ({llvm.get_host_cpu_name()}) cannot go the way {request.param!r}")
    return str(request.param)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what calls a function with a way forced: no other one, and no emulation, is then gone."""

    def forced(chosen: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(_native, "way", lambda: chosen)
            if chosen != "0":
                patch.delattr(_sums, "_one")
            return function(*args, **keywords)

    return forced


def same(run: Run, way: str, *args: Any, **keywords: Any) -> Array:
    """Assert that a way gives the bits of the emulation; return them."""
    keywords.setdefault("accumulator", MODEL)
    got, want = (bits(run(each, lp.matmul, *args, **keywords)) for each in (way, "0"))
    bad = np.argwhere(got != want)
    shown = [(i.tolist(), hex(got[tuple(i)]), hex(want[tuple(i)])) for i in bad[:3]]
    assert not len(bad), f"{len(bad)} of {got.size} results differ; first, got and want: {shown}"
    return want


def raw(shape: tuple[int, ...], seed: int) -> Array:
    """Return bfloat16 numbers of any bits, every kind of NaN among them."""
    return np.random.default_rng(seed).integers(0, 1 << 16, shape).astype(np.uint16).view(BFLOAT16)


def near_the_flush(shape: tuple[int, int, int], seed: int) -> tuple[Array, Array, Array]:
    """Return operands whose sums lie around 2**-126: a few bits of 2**-151 away first, then subnormal operands too."""
    (m, k, n), rng = shape, np.random.default_rng(seed)
    kinds = np.resize([3, 3, 3, 0, 1, 0, 2, 0], k)
    kinds[min(k, 8) :][kinds[min(k, 8) :] == 3] = 0

    def side(lines: tuple[int, int], own: int) -> Array:
        odd = (1 + rng.integers(0, 128, lines) / 128) * rng.choice([-1.0, 1.0], lines)
        by_kind = [
            odd * 2.0 ** rng.choice([-62, -63, -64, -66], lines),
            odd if own == 1 else odd * 2.0 ** rng.choice([-127, -128, -130], lines),
            odd if own == 2 else odd * 2.0 ** rng.choice([-127, -128, -130], lines),
            rng.choice([1.0, -1.0, 1.5, -1.0], lines) * 2.0 ** rng.choice([-75, -76], lines),
        ]
        return np.choose(kinds[None, :], by_kind).astype(BFLOAT16)

    c = (1 + rng.choice([-2, -1, 0, 0, 0, 1], (m, n)) * 2.0**-23) * rng.choice([-1.0, 1.0], (m, n)) * 2.0**-126
    return side((m, k), 1), np.ascontiguousarray(side((n, k), 2).T), c.astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- the bits
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("special", [0.0, 0.5])
def test_hard_operands(way: str, run: Run, shape: tuple[int, int, int], special: float) -> None:
    for seed in range(2):
        case = Case(MODEL, BF16, shape, seed, special)
        got, want = (run(each, product, case) for each in (way, "0"))
        np.testing.assert_array_equal(got, want)
        for i, j in places(got.shape, 12 if shape[1] < 100 else 3, seed):
            assert int(got[i, j]) == twin(case, i, j)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_bits(way: str, run: Run, shape: tuple[int, int, int]) -> None:
    """The first NaN of a_lo, b_lo, a_hi, b_hi and c goes on, quiet, with its payload."""
    m, k, n = shape
    c = np.random.default_rng(3).integers(0, 2**32, (m, n), dtype=np.uint32).view(np.float32)
    a, b = raw((m, k), 1), raw((k, n), 2)
    got = same(run, way, a, b, c=c)
    if m * n * k > 300_000:
        assert len(set(got[np.isnan(got.view(np.float32))].tolist())) > 10
    few = np.random.default_rng(4)
    for x in (a, b):  # and with few NaN, so that sums get far
        where = few.random(x.shape) < 1 - 2 / k
        x[where] = few.standard_normal(x.shape).astype(BFLOAT16)[where]
    same(run, way, a, b, c=c)


def test_which_nan_goes_on(way: str, run: Run) -> None:
    """Every choice of NaN among a_lo, b_lo, a_hi, b_hi and c, and of what is invalid beside them."""
    nan = [0x7F81, 0xFF82, 0xFFC3, 0x7FC4, 0xFF812345]
    quiet = [0x7FC10000, 0xFFC20000, 0xFFC30000, 0x7FC40000, 0xFFC12345]
    for some in range(32):
        for other in ((0, 0x7F80), (0x7F80, 0x3F80), (0x3F80, 0x3F80)):
            words = [nan[i] if some >> i & 1 else other[i % 2] for i in range(4)]
            c = nan[4] if some >> 4 else 0xFF800000
            left, right = (np.array(words[i::2], np.uint16).view(BFLOAT16) for i in (0, 1))
            start = np.full((8, 17), c, np.uint32).view(np.float32)
            got = same(run, way, np.tile(left, (8, 1)), np.tile(right, (17, 1)).T, c=start)
            invalid = 0xFF800000 if other[0] == 0x3F80 else 0xFFC00000
            assert (got == next((quiet[i] for i in range(5) if some >> i & 1), invalid)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_around_the_smallest_number(way: str, run: Run, shape: tuple[int, int, int]) -> None:
    a, b, c = near_the_flush(shape, 5)
    same(run, way, a, b, c=c)
    same(run, way, a[:, :3], b[:3], c=c)


def test_signs_of_zero(way: str, run: Run) -> None:
    """The +0 that fills an odd K makes a -0 in c a +0."""
    minus = np.full((2, 3), -0.0, np.float32)
    for k in (1, 2, 3, 4):
        for x, y in ((0.0, 0.0), (-0.0, 0.0), (0.0, -0.0), (-0.0, -0.0)):
            got = same(run, way, np.full((2, k), x), np.full((k, 3), y), "bf16", c=minus)
            stays = k % 2 == 0 and np.signbit(x) != np.signbit(y)
            assert (got == (0x80000000 if stays else 0)).all()


def test_the_data_can_tell(run: Run) -> None:
    """Each wrong rule differs somewhere: the order of a pair, what is flushed, the order of a and b."""
    a, b, c = near_the_flush((20, 64, 40), 5)
    want = bits(run("0", lp.matmul, a, b, c=c, accumulator=MODEL))
    swapped = np.arange(64) ^ 1
    assert (bits(run("0", lp.matmul, a[:, swapped], b[swapped], c=c, accumulator=MODEL)) != want).any()
    assert (bits(lp.matmul(a[:, swapped], b[swapped], c=c, accumulator="fp32")) != want).any()
    few, kept = (bits(lp.matmul(a[:, :1], b[:1], c=c, accumulator=how)) & 0x7FFFFFFF for how in (MODEL, "fp32"))
    assert set(few[kept == 0x00800000].tolist()) == {0, 0x00800000}  # subnormal rounding would flush neither
    x, y = ((raw(lines, 1).view(np.uint16) | np.uint16(0x7F80)).view(BFLOAT16) for lines in ((20, 64), (64, 40)))
    want = bits(run("0", lp.matmul, x, y, accumulator=MODEL))
    turned = bits(run("0", lp.matmul, y.T, x.T, accumulator=MODEL)).T
    assert (turned != want).any()
    assert (bits(run("0", lp.matmul, x[:, swapped], y[swapped], accumulator=MODEL)) != want).any()


@pytest.mark.parametrize("name", [str(n) for n in golden.names() if "x86_vdp" in str(n)] or ["no golden vectors"])
def test_recorded_bits(way: str, run: Run, name: str) -> None:
    """Every row of a file as a product of its own, and as the diagonal of products of many rows."""
    case = golden.load(name)
    a, b = operand(case.A, case.formats[0]), operand(case.B, case.formats[1])
    c = operand(case.C, case.c_format)
    got = run(way, lp.matmul, a[:, None, :], b[:, :, None], c=c[:, None, None], accumulator=case.model)
    assert not golden.mismatches(bits(got[:, 0, 0]), case).any()
    step = 100
    for first in range(0, len(a), step):
        rows = slice(first, first + step)
        start = np.zeros((len(a[rows]), len(a[rows])), np.float32)
        np.fill_diagonal(start, c[rows])
        got = run(way, lp.matmul, a[rows], b[rows].T, c=start, accumulator=case.model)
        assert not golden.mismatches(bits(np.diagonal(got)), case, rows).any()


# ---------------------------------------------------------------------------------------------------- around the kernel
def test_sources(way: str, run: Run, rng: np.random.Generator) -> None:
    """Whatever the numbers come from: what is not bfloat16 is rounded, and its NaN lose their payload."""
    x, y = rng.standard_normal((2, 19, 77)), rng.standard_normal((2, 77, 51))
    x[0, 3, 5], y[1, 7, 2], x[1, 0, 0] = np.nan, -np.nan, np.inf
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn):
        with np.errstate(invalid="ignore"):
            same(run, way, x.astype(dtype), y.astype(dtype), "bf16")
    same(run, way, np.arange(-60, 60).reshape(5, 24), np.arange(24 * 7).reshape(24, 7), "bf16")
    same(run, way, x.astype(np.float32), raw((77, 51), 3), "bf16")
    for fmt in ("e4m3fn", "e5m2", "e2m1fn", ("bf16", "e3m2fn")):
        same(run, way, np.nan_to_num(x, posinf=3.0), np.nan_to_num(y), fmt)
    for mode in ("toward_zero", "toward_positive"):
        same(run, way, x, y, "bf16", rounding=mode, subnormals="flush")
    same(run, way, x, y, "bf16", rounding="stochastic", rng=4)
    up = np.full((300, 600), 2.0**-126 - 2.0**-149, np.float32)  # subnormal, and rounded to a number that is not
    same(run, way, up, np.ones((600, 20), np.float32), "bf16")
    same(run, way, np.ones((20, 600), np.float32), up.T, "bf16")


def test_other_formats(way: str, run: Run) -> None:
    """Formats that bfloat16 does not hold."""
    for formats in (("fp32", "fp32"), ("bf16", "fp32"), ("tf32", "e5m7")):
        case = Case(MODEL, formats, (9, 35, 50), 1, 0.3)
        got, want = (run(each, product, case) for each in (way, "0"))
        np.testing.assert_array_equal(got, want)
    words = np.random.default_rng(1).integers(0, 2**32, (2, 40, 40), dtype=np.uint32).view(np.float32)
    same(run, way, words[0], words[1], c=words[0])
    same(run, way, words[0], words[1], "fp32", subnormals="flush")


def test_codes_of_other_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any float16 bits, as they are."""
    halves = np.random.default_rng(1).integers(0, 1 << 16, (2, 20, 20)).astype(np.uint16).view(np.float16)
    found = []
    for each in _native.can():
        monkeypatch.setattr(_native, "way", lambda each=each: each)
        found.append(bits(lp.matmul(halves[0], halves[1], accumulator=MODEL)))
    for other in found[:-1]:
        np.testing.assert_array_equal(other, found[-1])


def test_batches_and_layouts(way: str, run: Run) -> None:
    a, b = raw((3, 1, 11, 38), 1), raw((2, 38, 53), 2)
    same(run, way, a, b)
    same(run, way, a, b[0], c=np.float32(-0.0))
    same(run, way, a[:, 0], b[:1])
    same(run, way, a[0, 0], b)
    same(run, way, np.asfortranarray(a[0, 0]), b[0, ::-1, ::-1])
    same(run, way, a[0, 0, ::2, 1::2], b[0, ::2][:19])
    same(run, way, a[:1, :, :1, :2], b[:1, :2])
    same(run, way, a[0, 0, 0], b[0])
    same(run, way, a[0, 0], b[0, :, 0])
    empty = run("0", lp.matmul, a[0, 0, :, :0], b[0, :0], accumulator=MODEL)
    assert empty.shape == (11, 53)
    assert not bits(empty).any()
    start = np.random.default_rng(3).integers(0, 2**32, (11, 53), dtype=np.uint32)
    same(run, way, a[0, 0, :, :0], b[0, :0], c=(start | 0x7F800000).view(np.float32))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(way: str, run: Run, threads: int) -> None:
    """More than one piece of rows, of columns, and of k; and the CPU is left in the mode it was in."""
    before = lp.get_num_threads()
    lp.set_num_threads(threads)
    try:
        a, b, c = near_the_flush((90, 601, 210), 6)
        same(run, way, a, b, c=c)
        batch = np.stack([a[:40, :80]] * 60)
        same(run, way, batch, b[:80, :40])
        same(run, way, batch, np.stack([b[:80, :40]] * 60))
        tiny = np.full((200, 200), 2.0**-140, np.float32)
        assert (lp.matmul(tiny, np.eye(200, dtype=np.float32)) == tiny).all()
        assert (tiny + tiny > tiny).all()
    finally:
        lp.set_num_threads(before)


def test_many_columns_and_much_k(way: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little room for packed operands the product is cut along n and k."""
    from lowprec import _product

    a, b, c = near_the_flush((20, 2 * 8192 + 5, 50), 7)
    want = bits(run("0", lp.matmul, a, b, c=c, accumulator=MODEL))
    monkeypatch.setattr(_product, "_PACKED_BYTES", 1 << 14)
    monkeypatch.setattr(_product, "_ALONE", 0)
    _product._blocking.cache_clear()
    got = bits(run(way, lp.matmul, a, b, c=c, accumulator=MODEL))
    _product._blocking.cache_clear()
    np.testing.assert_array_equal(got, want)


# ----------------------------------------------------------------------------------------------------------- the choice
def in_a_process(code: str, **environment: str) -> str:
    """Return what a fresh process prints."""
    own = ("LOWPREC_LANES", "LOWPREC_NATIVE", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    inherited = {k: v for k, v in os.environ.items() if k not in own}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return done.stdout if done.returncode == 0 else done.stderr


CHOICE = "from lowprec import _native; print(_native.way(), _native.can()[-1])"


def test_the_best_way_is_chosen() -> None:
    assert in_a_process(CHOICE) == f"{next(w for w in _native.can() if w != 'portable')} 0\n"
    assert in_a_process(CHOICE, LOWPREC_NATIVE="0") == "0 0\n"
    assert in_a_process(CHOICE, LOWPREC_LANES="plain") == "0 0\n"
    assert in_a_process(CHOICE, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == "0 0\n"


@pytest.mark.skipif(not X86, reason="this is not an x86 CPU")
def test_the_instruction_is_chosen_where_it_is() -> None:
    wide = "+fma,+avx2,+avx512f"
    for features, want in ((wide, "fma"), (wide + ",+avx512bf16", "vdpbf16ps"), ("+avx2", "0"), ("+avx2,+fma", "fma")):
        assert in_a_process(CHOICE, NUMBA_CPU_NAME="x86-64", NUMBA_CPU_FEATURES=features) == f"{want} 0\n"
    narrow = {"LOWPREC_LANES": "8", "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": wide + ",+avx512bf16"}
    assert in_a_process(CHOICE, **narrow) == "fma 0\n"


def test_an_unknown_way() -> None:
    assert re.search(
        r"ValueError: .*`LOWPREC_NATIVE` must be one of .*0 on this CPU, got '1'",
        in_a_process(CHOICE, LOWPREC_NATIVE="1"),
    )


# --------------------------------------------------------------------------------- the machine code, without such a CPU
ASSEMBLY = """
import llvmlite.binding as llvm, numba
llvm.initialize_native_asmparser()
from lowprec.kernels import native, tile
compiled = numba.cfunc(tile.SIGNATURE, error_model="numpy")(native.TILES["vdpbf16ps", "16"])
print(compiled._library.get_asm_str())
"""
PROBE = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define <16 x float> @own(<16 x float> %c, <32 x bfloat> %a, <32 x bfloat> %b) {
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %c, <32 x bfloat> %a, <32 x bfloat> %b)
  ret <16 x float> %r
}
"""


@pytest.mark.skipif(not X86, reason="this is not an x86 CPU")
@pytest.mark.parametrize("cpu", ["znver4", "sapphirerapids"])
def test_machine_code(cpu: str) -> None:
    """The loops hold the instruction, A's broadcast word first and B's second, and nothing goes to the stack."""
    text = in_a_process(ASSEMBLY, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="")
    blocks = [block.splitlines() for block in re.split(r"^(?=[.\w]+:)", text, flags=re.MULTILINE)]
    loops = [block for block in blocks if any("vdpbf16ps" in line for line in block)]
    assert sorted(len([line for line in loop if "vdpbf16ps" in line]) for loop in loops) == [8, 16, 24]
    for loop in loops:
        held: dict[str, str] = {}
        sums = []
        for line in loop:
            word, *rest = line.replace(",", " ").split() or [""]
            assert "rsp" not in line
            assert "rbp" not in line
            if word in ("vmovups", "vbroadcastss"):
                assert rest[1].startswith("%zmm")
                held[rest[1]] = word
            if word == "vdpbf16ps":
                b, a, c = rest
                assert (held[a], held[b]) == ("vbroadcastss", "vmovups")
                sums.append(c)
        assert len(set(sums)) == len(sums)
        assert not set(sums) & set(held)


@pytest.mark.skipif(not X86, reason="this is not an x86 CPU")
def test_the_same_machine_code_as_llvm_has_for_the_instruction() -> None:
    """The order of the sources is that of LLVM's own function for `_mm512_dpbf16_ps(c, a, b)`."""
    for init in (llvm.initialize_native_target, llvm.initialize_native_asmprinter, llvm.initialize_native_asmparser):
        init()
    text = in_a_process(ASSEMBLY.replace("get_asm_str", "get_llvm_str"), NUMBA_CPU_NAME="znver4", NUMBA_CPU_FEATURES="")
    found = re.search(r'asm (?:sideeffect )?("vdpbf16ps [^"]*", "[^"]*")\(', text)
    assert found is not None
    ours = (
        "define <16 x float> @ours(<16 x float> %c, <16 x float> %a, <16 x float> %b) {\n"
        f"  %r = call <16 x float> asm {found[1]}(<16 x float> %a, <16 x float> %b, <16 x float> %c)\n"
        "  ret <16 x float> %r\n}"
    )
    machine = llvm.Target.from_default_triple().create_target_machine(cpu="znver4", opt=3)
    lines = [line.split() for line in machine.emit_assembly(llvm.parse_assembly(PROBE + ours)).splitlines()]
    assert [line for line in lines if "vdpbf16ps" in line] == [["vdpbf16ps", "%zmm2,", "%zmm1,", "%zmm0"]] * 2
