"""The ways to an exact product: forced from outside, compiled for other CPUs, and spoilt on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import test_integer_matmul as whole
from llvmlite import ir
from test_integer_matmul import array, ends, want

import lowprec as lp
from lowprec import _dots, _integer_product, _jit
from lowprec.kernels import dots

HERE = Path(__file__).resolve().parent
PROGRAM = "import test_integer_variants as t; print(t.forced())"


def forced() -> str:
    """Say which way is gone, and whether products are right."""
    a, b = array("int8", (50, 600), 1, "ends"), array("uint8", (600, 70), 2, "ends")
    right = np.array_equal(lp.matmul(a, b), want(a, b))
    narrow = array("int4", (50, 600), 1, "low"), array("uint4", (600, 70), 2, "high")
    return f"{_dots.way()} {right} {np.array_equal(lp.matmul(*narrow), want(*narrow))}"


def in_a_process(way: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a way forced."""
    path = os.pathsep.join([str(HERE), str(Path(lp.__file__).resolve().parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "LOWPREC_INTEGER_DOT": way}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=180, check=False
    )


@pytest.mark.parametrize("way", _dots.WAYS)
def test_variable_forces_a_way(way: str) -> None:
    done = in_a_process(way)
    if way in _dots.can():
        assert done.stdout.split() == [way, "True", "True"], done.stderr
    else:
        assert re.search(r"ValueError: .*`LOWPREC_INTEGER_DOT` must be one of .* on this CPU, got", done.stderr)


def test_unknown_way() -> None:
    assert "`LOWPREC_INTEGER_DOT` must be one of" in in_a_process("amx").stderr


FEATURES = [
    ({"avx2"}, {"maddwd": 8, "plain": 8, "emulated": 8}),
    ({"avx2", "avxvnni"}, {"vnni": 8, "maddwd": 8, "plain": 8, "emulated": 8}),
    ({"avx2", "avx512f", "avx512bw"}, {"maddwd": 16, "plain": 16, "emulated": 16}),
    ({"avx2", "avx512f", "avx512bw", "avx512vnni"}, {"vnni": 16, "maddwd": 16, "plain": 16, "emulated": 16}),
    ({"neon"}, {"plain": 4, "emulated": 4}),
]


@pytest.mark.parametrize(("features", "ways"), FEATURES)
def test_choice_of_a_way(features: set[str], ways: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit, "cpu_features", lambda: frozenset(features))
    assert _dots.can.__wrapped__() == ways
    for way, lanes in ways.items():
        assert (way, lanes) in dots.TILES


# ------------------------------------------------------------------------------------------ compiled for another CPU
def assembly(way: str, lanes: int, cpu: str, features: str) -> str:
    """Return a micro-kernel's assembly, optimised for an x86 CPU."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = "x86_64-unknown-linux-gnu"
    kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 6)
    function = ir.Function(module, kind, "tile")
    set.add(function.attributes, '"prefer-vector-width"="512"')
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    shape = dots.SHAPES[lanes]
    writer: Any = dots.Dots
    writer(builder, shape, way).tile(shape.vectors, function.args)
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_triple(module.triple).create_target_machine(cpu=cpu, features=features, opt=3)
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return str(target.emit_assembly(parsed))


@pytest.mark.parametrize(
    ("lanes", "register", "features"),
    [(16, "zmm", "+avx512f,+avx512bw,+avx512vl,+avx512vnni"), (8, "ymm", "+avx2,+avxvnni")],
)
def test_instruction_is_compiled(lanes: int, register: str, features: str) -> None:
    """VPDPBUSD for every sum; what A's word was spread to is the unsigned operand (SDM: the first source)."""
    text, shape = assembly("vnni", lanes, "x86-64", features), dots.SHAPES[lanes]
    uses = re.findall(rf"vpdpbusd\s+%{register}(\d+), %{register}(\d+), %{register}(\d+)", text)
    assert len(uses) == 3 * shape.rows * shape.vectors  # two groups at a time, and an odd one
    spread = set(re.findall(rf"vpbroadcastd\s+\S+, %{register}(\d+)", text))
    assert {unsigned for _, unsigned, _ in uses} <= spread
    assert not {signed for signed, _, _ in uses} & {total for _, _, total in uses}
    assert "vpmulld" not in text
    assert "%rsp" not in text  # all sums stay in registers


def test_others_do_not_need_the_instruction() -> None:
    for way, cpu in (("emulated", "skylake-avx512"), ("maddwd", "skylake-avx512"), ("maddubs", "znver3")):
        assert "vpdpbusd" not in assembly(way, 16 if cpu[0] == "s" else 8, cpu, "")
    assert "vpmaddubsw" in assembly("maddubs", 8, "znver3", "")
    assert "vpmaddwd" in assembly("maddwd", 8, "znver3", "")


# ------------------------------------------------------------------------------------------------------ planted bugs
def saturating(a: Any, b: Any, way: str) -> _dots.Dots:
    """Choose sums of 16 bits for operands that are too wide for them."""
    chosen = right_choice(lp.format("int4"), lp.format("int4"), way)
    left, right = _dots._unsigned(a), _dots._signed(b, True)
    return chosen._replace(a=left, b=right, steps=8)


def one_step_too_many(a: Any, b: Any, way: str) -> _dots.Dots:
    """Add one group more in 16 bits than may be."""
    chosen = right_choice(a, b, way)
    return chosen._replace(steps=chosen.steps + 1) if chosen.steps else chosen


def wrong_offset(a: Any, b: Any, way: str) -> _dots.Dots:
    """Forget that operands were made unsigned."""
    chosen = right_choice(a, b, way)
    return chosen._replace(a=chosen.a._replace(offset=0))


right_choice = _dots.choose
BUGS: dict[str, tuple[Callable[..., _dots.Dots], str, tuple[str, str]]] = {
    "VPMADDUBSW saturates": (saturating, "maddwd", ("int8", "int8")),
    "one group too many": (one_step_too_many, "maddwd", ("uint8", "int4")),
    "one group too many of four bits": (one_step_too_many, "maddwd", ("uint4", "uint4")),
    "no correction of the shift": (wrong_offset, "emulated", ("int8", "int8")),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_every_pairing` turns red."""
    bug, way, pair = BUGS[name]
    if way not in _dots.can():
        pytest.skip(f"this CPU cannot go the way {way}")
    monkeypatch.setattr(_dots, "way", lambda: way)

    def check() -> None:
        for kind in ("any", "low", "high", "ends"):
            whole.test_every_pairing(*pair, kind, way)

    check()
    monkeypatch.setattr(_dots, "choose", bug)
    with pytest.raises(AssertionError):
        check()


def test_sums_of_16_bits_are_as_long_as_can_be() -> None:
    """The bound is tight: so many products at the ends of the range fit, a group more would not."""
    for one, other in (("int4", "int4"), ("uint4", "uint4"), ("uint8", "int4"), ("int2", "uint8")):
        if "maddwd" not in _dots.can():
            pytest.skip("this CPU cannot go the way maddwd")
        kernels = right_choice(lp.format(one), lp.format(other), "maddwd")
        span = ends(other)[1] - kernels.b.offset, ends(other)[0] - kernels.b.offset
        largest = (ends(one)[1] - kernels.a.offset) * max(abs(x) for x in span)
        assert 2 * largest * kernels.steps <= 32767 < 2 * largest * (kernels.steps + 1)


def test_uncorrected_zero_points_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of rows that are not those of the packed numbers turn the check of zero points red."""
    real = _integer_product._vector

    def off(x: Any, dtype: type, length: int, axes: int) -> Any:
        return real(x, dtype, length, axes) + np.asarray(dtype is np.uint32, dtype)

    a, b = array("int8", (5, 40), 1), array("uint8", (40, 6), 2)
    zeros = np.arange(5), np.arange(6)
    right = want(a, b, *zeros)
    assert np.array_equal(_integer_product.product(a, b, zero_a=zeros[0], zero_b=zeros[1]), right)
    monkeypatch.setattr(_integer_product, "_vector", off)
    assert not np.array_equal(_integer_product.product(a, b, zero_a=zeros[0], zero_b=zeros[1]), right)
