"""Wrong sums: each bug below, put where `matmul` finds its evaluation, must turn a check of the sums red.

A bug is a wrong number on the way from a model to its kernel, or an evaluation that does something else. The bugs of
the twins are run over the kernels' operands too: an operand set that they pass would not see them in a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import test_accumulators as composed
import test_accumulators_hardware as hardware
from accumulator_cases import Case, places, twin
from test_accumulator_invariance import Product
from test_reference_planted import PLANTS

import lowprec as lp
from lowprec import _sums
from lowprec import accumulators as acc

Array = np.ndarray[Any, Any]
Run = Callable[..., None]
right_evaluation = _sums.evaluation


# ------------------------------------------------------------------------------------ the twins' bugs on these operands
KINDS = {
    "x86": acc.FmaPairOddFirst,
    "AMX": acc.EvenOddPair,
    "Arm: nearest": acc.BfDotRoundOdd,
    "Arm: fused": acc.BfDotRoundOdd,
    "Arm: not fused": acc.BfDotFused,
    "CDNA1": acc.FusedExact,
    "CDNA2": acc.FlushedPairwise,
    "CDNA3": acc.FusedTruncatedLateC,
    "FP8": acc.Fp8ViaF16,
    "MX:": acc.FusedTruncatedScaled,
    "MXFP4": acc.FusedTruncatedGroupScaled,
    "NVFP4": acc.FusedTruncatedGroupScaled,
}
ALL = [(model, pair) for model, pairs in hardware.CASES for pair in pairs] + hardware.SCALED


# These show only close to 2**-126, and where all is tiny: in test_borders_of_float32, test_exponents_at_the_floor.
APART = {"x86: flush on the subnormal grid", "floor + 1", "floor - 1"}


@pytest.mark.parametrize("name", sorted(PLANTS.keys() - APART))
def test_operands_show_the_bugs_of_the_twins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, _ = PLANTS[name]
    kind = next((kind for word, kind in KINDS.items() if name.startswith(word)), acc.FusedTruncated)
    chosen = [(model, pair) for model, pair in ALL if type(model) is kind]
    assert chosen
    with plant(monkeypatch) as accumulate:
        assert any(is_shown(accumulate, *one, number) for number in range(6) for one in chosen)


def is_shown(accumulate: Any, model: Any, formats: Any, number: int) -> bool:
    """Compare the package's own results, which no bug of the twin reaches, with a wrong twin's."""
    inner: Any = model.inner if isinstance(model, acc.Chunked) else model
    k = 3 * getattr(inner, "scale_block", 0) or min(2 * inner.length + 3, 70)
    case = Case(model, formats, (3, k, 40), number, special=number % 2)
    got = hardware.product(case)
    where = places(case.c.shape, 16)
    try:
        want = [hardware.wanted_bits(twin(case, i, j, accumulate), model, case.out, "f4") for i, j in where]
    except ValueError:  # the bug's parameter is none for this model
        return False
    return [int(got[i, j]) for i, j in where] != want


# ------------------------------------------------------------------------------------------ wrong numbers for a kernel
def other_model(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Make an evaluation of another model."""

    def evaluation(model: Any, operands: Any, item: int) -> Any:
        return right_evaluation(change(model), operands, item)

    return evaluation


def changed(**change: Any) -> Callable[..., Any]:
    """Make an evaluation of the model with another parameter: a value, or a function of the model."""
    return other_model(lambda m: replace(m, **{name: f(m) if callable(f) else f for name, f in change.items()}))


class Other:
    """An evaluation that does something else."""

    def __init__(self, run: Run, model: Any, operands: Any, item: int) -> None:
        self.inner, self.model, self.how = right_evaluation(model, operands, item), model, run

    def run(self, a: Array, b: Array, c: Array, place: Any, scales: Any = None) -> None:
        self.how(self, a, b, c, place)


def instead(run: Run) -> Callable[..., Any]:
    """Make an evaluation from a function of (evaluation, a, b, c, place) that writes c."""
    return lambda *key: Other(run, *key)


def step_by_step(each: Callable[..., Array]) -> Callable[..., Any]:
    """Make an evaluation from one step in float64: of a column of A, a row of B, c, and the model."""

    def run(self: Other, a: Array, b: Array, c: Array, _: Any) -> None:
        r = c.astype(np.float64)
        with np.errstate(all="ignore"):
            for k in range(b.shape[0]):
                r = each(a[:, k : k + 1].astype(np.float64), b[k].astype(np.float64), r, self.model)
            c[...] = r
            c[np.isnan(c)] = np.nan

    return instead(run)


def rounded(x: Array, model: Any, fmt: Any = None) -> Array:
    """Round with a model's mode."""
    return np.asarray(lp.round_to(x, model.format if fmt is None else fmt, rounding=model.rounding))


def reordered(order: Callable[[int], Any]) -> Callable[..., Any]:
    """Make an evaluation that takes k in another order."""

    def run(self: Other, a: Array, b: Array, c: Array, place: Any) -> None:
        k = np.array(order(b.shape[0]), int)
        self.inner.run(np.ascontiguousarray(a[:, k]), np.ascontiguousarray(b[k]), c, place)

    return instead(run)


def c_late(self: Other, a: Array, b: Array, c: Array, place: Any) -> None:
    t = np.zeros_like(c)
    self.inner.run(a, b, t, place)
    with np.errstate(all="ignore"):
        c[...] = lp.round_to(c.astype(np.float64) + t, self.model.result_format or "fp32")


def moved(**by: int) -> Callable[..., Any]:
    """Make an evaluation that draws the words of another place."""

    def run(self: Other, a: Array, b: Array, c: Array, place: Any) -> None:
        self.inner.run(a, b, c, place._replace(**{name: getattr(place, name) + n for name, n in by.items()}))

    return instead(run)


def plain_zero(self: Other, a: Array, b: Array, c: Array, place: Any) -> None:
    self.inner.run(a, b, c, place)
    c += 0


def sticky_lost(self: Other, a: Array, b: Array, c: Array, _: Any) -> None:
    """Round the exact sum to binary64 first."""
    for i, j in np.ndindex(c.shape):
        addends = [float(c[i, j]), *(a[i].astype(np.float64) * b[:, j]).tolist()]
        if all(map(math.isfinite, addends)):
            c[i, j] = lp.round_to(math.fsum(addends), self.model.format, rounding=self.model.rounding)


def tree_from_the_end(n: int) -> list[int]:
    return list(range(n))[::-1]


def pair_order(n: int) -> list[int]:
    return [k ^ 1 if k ^ 1 < n else k for k in range(n)]


Check = Callable[[], None]


def of(model: acc.Accumulator, *formats: str, shapes: int = 3) -> Check:
    """Check as `test_accumulators` does."""
    return lambda: composed.check(model, formats, 1, shapes=shapes, count=16)


def of_hardware(model: acc.Accumulator, *formats: str) -> Check:
    """Check as `test_accumulators_hardware` does."""
    return lambda: hardware.test_hardware(model, formats, 5)


def of_integer(model: acc.Integer, pair: str = "int8 int8") -> Check:
    return lambda: composed.test_integer(model, pair, np.random.default_rng(1))


def split_threads(model: Any) -> Check:
    """Check the blocking that decides nothing."""

    def check() -> None:
        with pytest.MonkeyPatch.context() as patch:
            one = Product(model, ("fp16", "fp16"))
            want = one.whole()
            for name, value in (("_ROOM", 200), ("_PIECE", 200), ("_PIECE_ROWS", 1)):
                patch.setattr(_sums, name, value)
            np.testing.assert_array_equal(one.whole(), want)

    return check


def some_of_zen5() -> None:
    for number in range(5):
        hardware.test_hardware(hardware.points.ZEN5, ("bf16", "bf16"), number)


def at_the_floor() -> None:
    hardware.test_exponents_at_the_floor(HOPPER, np.random.default_rng(1))


FP16, DRAWS = acc.Sequential("fp16"), acc.Sequential("fp16", "stochastic")
UNFUSED, DOWN = acc.Sequential("fp16", fused=False), acc.Sequential("bf16", "toward_negative")
TREE, CHUNKS = acc.Pairwise("fp16", 3), acc.Chunked("fp16", 7)
HOPPER, HALF = hardware.points.HOPPER, hardware.points.HOPPER_F16
EXACT_DOWN = acc.Exact("fp16", "toward_negative")
WRAP, SATURATE = acc.Integer(16), acc.Integer(16, "saturate", 4)

BUGS: dict[str, tuple[Callable[..., Any], Check]] = {
    "RNE for RZ": (changed(rounding="nearest_even"), of(acc.Sequential("fp16", "toward_zero"), "fp16", "fp16")),
    "RZ for RNE": (changed(rounding="toward_zero"), of(FP16, "fp16", "fp16")),
    "ties away": (changed(rounding="nearest_away"), of(FP16, "fp16", "fp16")),
    "up for down": (changed(rounding="toward_positive"), of(DOWN, "bf16", "bf16")),
    "RZ for odd": (changed(rounding="toward_zero"), of(acc.Sequential("bf16", "to_odd"), "bf16", "bf16")),
    "not fused": (changed(fused=False), of(FP16, "fp16", "fp16")),
    "fused": (changed(fused=True, product=None), of(UNFUSED, "fp16", "fp16")),
    "product in another format": (changed(product="bf16"), of(UNFUSED, "fp16", "fp16")),
    "saturates": (changed(overflow="saturate"), of(acc.Sequential("e5m2"), "e5m2", "e5m2")),
    "overflows": (changed(overflow=None), of(acc.Sequential("e5m2", overflow="saturate"), "e5m2", "e5m2")),
    "subnormals flushed": (changed(subnormals="flush"), of(FP16, "fp16", "fp16")),
    "subnormals kept": (changed(subnormals="keep"), of(acc.Sequential("e3m4", subnormals="flush"), "fp16", "fp16")),
    "double rounding": (
        step_by_step(lambda x, y, r, m: rounded((x * y + r).astype(np.float32).astype(np.float64), m)),
        lambda: composed.test_one_step_at_every_tie("fp16", ("fp16", "fp16")),
    ),
    "binary64 sum not to odd": (
        step_by_step(lambda x, y, r, m: rounded(x * y + r, m)),
        lambda: composed.test_one_step_at_every_tie("fp32", ("fp32", "fp32")),
    ),
    "k descending": (reordered(tree_from_the_end), of(FP16, "fp16", "fp16")),
    "last k lost": (reordered(lambda n: range(n - n % 2)), of(FP16, "fp16", "fp16")),
    "c last": (instead(c_late), of(FP16, "fp16", "fp16")),
    "+0 for -0": (instead(plain_zero), lambda: composed.test_signs_of_zeros(DOWN)),
    "a random bit more": (changed(random_bits=3), of(replace(DRAWS, random_bits=2), "fp16", "fp16")),
    "word of the next step": (moved(first_k=1), of(DRAWS, "fp16", "fp16")),
    "word of the next element": (moved(element=1), of(DRAWS, "fp16", "fp16")),
    "word of another seed": (moved(seed=1), of(DRAWS, "fp16", "fp16")),
    "words of the block": (
        instead(lambda self, a, b, c, place: self.inner.run(a, b, c, place._replace(element=0))),
        split_threads(DRAWS),
    ),
    "words of narrow rows": (moved(element_step=-1), of(DRAWS, "fp16", "fp16")),
    "leaf of one more": (changed(block=4), of(TREE, "fp16", "fp16")),
    "no tree": (other_model(lambda m: acc.Sequential(m.format, m.rounding)), of(TREE, "fp16", "fp16")),
    "a tree from the end": (reordered(tree_from_the_end), of(TREE, "fp16", "fp16")),
    "chunks of one more": (changed(every=8), of(CHUNKS, "fp16", "fp16")),
    "chunks not from zero": (other_model(lambda m: m.inner), of(CHUNKS, "fp16", "fp16")),
    "chunks added up in fp16": (changed(outer="fp16"), of(CHUNKS, "fp16", "fp16")),
    "exact, but for the sticky": (instead(sticky_lost), composed.test_exact_sees_every_bit),
    "exact, c last": (instead(c_late), of(acc.Exact("bf16"), "bf16", "bf16")),
    "exact, +0 for -0": (instead(plain_zero), lambda: composed.test_signs_of_zeros(EXACT_DOWN)),
    "wrap": (changed(overflow="wrap"), of_integer(SATURATE)),
    "saturate": (changed(overflow="saturate"), of_integer(WRAP, "int16 int16")),
    "saturated at each product": (changed(length=1), of_integer(SATURATE, "uint8 int8")),
    "saturated at each fourth": (changed(length=4), of_integer(acc.Integer(16, "saturate"), "uint8 int8")),
    "a bit more": (changed(bits=17), of_integer(WRAP, "int16 int16")),
    "unsigned": (changed(is_signed=False), of_integer(SATURATE)),
    "F + 1": (changed(fraction_bits=26), lambda: hardware.test_bits_at_the_cut(25, "fp32")),
    "F - 1": (changed(fraction_bits=24), lambda: hardware.test_bits_at_the_cut(25, "fp32")),
    "floor + 1": (changed(exponent_floor=-132), at_the_floor),
    "floor - 1": (changed(exponent_floor=-134), at_the_floor),
    "block halved": (changed(length=8), of_hardware(HOPPER, "bf16", "bf16")),
    "block doubled": (changed(length=32), of_hardware(HOPPER, "bf16", "bf16")),
    "nearest for toward zero": (changed(rounding="rne"), of_hardware(HOPPER, "bf16", "bf16")),
    "toward zero for nearest": (changed(rounding="rz"), of_hardware(HALF, "fp16", "fp16")),
    "tensor core's c late": (instead(c_late), of_hardware(HOPPER, "bf16", "bf16")),
    "CDNA3's c inside": (other_model(lambda _: HOPPER), of_hardware(hardware.points.CDNA3, "bf16", "bf16")),
    "even and odd together": (changed(even_odd=False), of_hardware(hardware.points.CDNA3_FP8, "e5m2fnuz", "e5m2fnuz")),
    "final bits": (changed(final_bits=30), lambda: hardware.test_bits_below_a_tie(hardware.points.CDNA3)),
    "the even one first": (reordered(pair_order), some_of_zen5),
    "blocks of AMX halved": (changed(length=16), of_hardware(hardware.points.AMX, "bf16", "bf16")),
    "CDNA1 halved": (changed(length=2), of_hardware(hardware.points.CDNA1, "fp16", "fp16")),
    "CDNA2 in pairs": (changed(length=2), of_hardware(hardware.points.CDNA2, "fp16", "fp16")),
    "Arm with EBF": (other_model(lambda _: acc.BfDotFused()), of_hardware(hardware.points.ARM, "bf16", "bf16")),
    "Arm without": (other_model(lambda _: acc.BfDotRoundOdd()), of_hardware(hardware.points.EBF16, "bf16", "bf16")),
    "one FP8 instruction": (other_model(lambda _: HOPPER), of_hardware(hardware.points.HMMA, "e4m3fn", "e5m2")),
}


@pytest.fixture(autouse=True)
def _no_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the CPU's own VDPBF16PS, which does not go by an evaluation."""
    monkeypatch.setattr(_sums._native, "multiply", lambda *_: False)


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_it_is_green(name: str) -> None:
    BUGS[name][1]()


@pytest.mark.parametrize("name", BUGS)
def test_with_the_bug_it_is_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, check = BUGS[name]
    monkeypatch.setattr(_sums, "evaluation", evaluation)
    with pytest.raises(AssertionError):
        check()
