"""What tells one Arithmetic from another, what errors say, and faults that the comparison with the twin must see."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic, PreparedWeight, WeightRule
from tests.nn_slow import Slow
from tests.test_nn import bits, check, data, fp32

FACTOR = 2


def doubled(w: Any, _: Any) -> Any:
    """Read a value of this module."""
    return w * FACTOR


def made(factor: float) -> Any:
    """Return functions of equal text and different defaults."""

    def scaled(w: Any, _: Any, by: float = factor) -> Any:
        return w * by

    return scaled


def closed(factor: float) -> Any:
    """Return a closure."""
    return lambda w, _: w * factor


class Scaler:
    """An object with a method."""

    def times(self, w: Any, _: Any) -> Any:
        """Return it."""
        return w


@dataclasses.dataclass(frozen=True)
class Times:
    """A value that can be called."""

    factor: float

    def __call__(self, w: Any, _: Any) -> Any:
        """Return w times the factor."""
        return w * self.factor


E4M4 = {"name": "mine", "exponent_bits": 4, "mantissa_bits": 4}
DIFFERENT: list[Arithmetic] = [
    Arithmetic(), Arithmetic("bf16"), Arithmetic("bf16", "bf16"), Arithmetic("bf16", "exact"),
    Arithmetic("bf16", lp.Chunked("fp32", 64)), Arithmetic("bf16", lp.Chunked("fp32", 128)),
    Arithmetic("bf16", lp.Chunked("fp16", 64)), Arithmetic("bf16", "nvidia-hopper"),
    Arithmetic("bf16", "nvidia-ampere"),
    Arithmetic(("bf16", "fp16")), Arithmetic(("fp16", "bf16")), Arithmetic("bf16", seed=1), Arithmetic("bf16 2:4"),
    Arithmetic("bf16 2:4", sparsity="2:4 wanda"), Arithmetic("bf16", rounding="stochastic"), Arithmetic("bf16@int4"),
    Arithmetic("bf16", weights="int4"), Arithmetic("bf16", weights="int4/32"), Arithmetic("bf16", activations="int4"),
    Arithmetic("bf16", weights="gptq:int4"), Arithmetic("bf16", scales="row"), Arithmetic("mxfp4"),
    Arithmetic("mxfp4", scale_rule="rceil"), Arithmetic(lp.FloatFormat(**E4M4, bias=7)),
    Arithmetic(lp.FloatFormat(**E4M4, bias=8)), Arithmetic("bf16", weights=doubled), Arithmetic(weights=made(1)),
    Arithmetic(weights=made(2)), Arithmetic(weights=lambda w, _: w), Arithmetic(weights=lambda w, _: w + w),
    Arithmetic(weights=Times(1.0)), Arithmetic(weights=Times(2.0)),
]  # fmt: skip
SAME = [
    (Arithmetic("bf16"), Arithmetic("bfloat16", "fp32")), (Arithmetic("bf16"), Arithmetic(ml_dtypes.bfloat16)),
    (Arithmetic("bf16/exact"), Arithmetic("bf16", lp.Exact())),
    (Arithmetic("int8 2:4"), Arithmetic("int8", sparsity="2:4")),
    (Arithmetic("nvidia-hopper:e4m3fn"), Arithmetic("e4m3fn", "nvidia-hopper")),
    (Arithmetic("int8", scales="power_of_two"), Arithmetic("int8", scales="row")),
    (Arithmetic("bf16", weights="INT4/32"), Arithmetic("bf16", weights=WeightRule("rtn", lp.format("int4"), 32))),
    (Arithmetic(weights=made(3)), Arithmetic(weights=made(3))),
]  # fmt: skip


def test_keys_differ_where_the_arithmetic_does() -> None:
    keys = [how.key() for how in DIFFERENT]
    assert len(set(keys)) == len(keys)
    assert len({*DIFFERENT}) == len(DIFFERENT)
    one, other = (lambda w, _: w), (lambda w, _: w * 2)  # on one line: of equal text
    assert Arithmetic(weights=one).key() != Arithmetic(weights=other).key()


@pytest.mark.parametrize(("one", "other"), SAME, ids=lambda how: how.label)
def test_keys_are_equal_where_it_is(one: Arithmetic, other: Arithmetic) -> None:
    assert one.key() == other.key()


def test_keys_follow_the_values_that_a_function_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Arithmetic(weights=doubled).key()
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3)
    assert Arithmetic(weights=doubled).key() != before


@pytest.mark.parametrize("function", [closed(2), Scaler().times, np.round, print], ids=["closure", "method", "np", "c"])
def test_functions_that_do_not_say_all_need_a_key(function: Any) -> None:
    with pytest.raises(ValueError, match=r"^`weights` must have an attribute `key`, a string that tells .+ from other"):
        Arithmetic(weights=function).key()


def test_a_function_may_say_its_key() -> None:
    one, other = closed(2), closed(2)
    one.key, other.key = "times 2", "times 3"
    assert Arithmetic(weights=one).key() != Arithmetic(weights=other).key()


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "import lowprec as lp\n"
        "for how in [lp.nn.Arithmetic('bf16', lp.Chunked('fp16', 64)), lp.nn.Arithmetic('mxfp4', weights='nf4'),\n"
        "            lp.nn.Arithmetic(weights=lambda w, _: w if w.ndim in {'a', 'b', 'c', 'd'} else -w)]:\n"
        "    print(how.key())\n"
    )
    with contextlib.redirect_stdout(io.StringIO()) as here:
        exec(compile(code, "here", "exec", dont_inherit=True), {})
    path = os.pathsep.join([str(Path(lp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = dict(os.environ, PYTHONHASHSEED=str(hash("a") % 1000), PYTHONPATH=path)
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert here.getvalue() == there.stdout
    assert len(set(there.stdout.split())) == 3


def test_pickle_hash_with_and_facts() -> None:
    for how in DIFFERENT[:26]:
        again = pickle.loads(pickle.dumps(how))
        assert again == how == how.with_()
        assert hash(again) == hash(how)
        assert again.key() == how.key() == how.with_().key()
    how = Arithmetic("e4m3fn", "nvidia-hopper", weights="gptq:int4/128", sparsity="2:4 wanda", seed=3)
    assert how.label == "e4m3fn/nvidia-hopper 2:4 wanda, weights gptq:int4/128"
    assert how.with_(dtype="bf16").accumulator == "fp32"
    assert how.with_(dtype="bf16").weights == how.weights
    assert how.with_(weights=None).needs_calibration
    assert not how.with_(weights=None, sparsity="2:4").needs_calibration
    assert str(how.candidate) == "e4m3fn/nvidia-hopper 2:4"
    sizes = {"int4/32": 5.0, "uint4/32": 5.125, "nf4": 4.5, "mxfp4": 4.25, "int8": 8.0}
    assert {word: Arithmetic("bf16", weights=word).weight_bits for word in sizes} == sizes
    assert Arithmetic("bf16@int4").weight_bits == 4
    assert Arithmetic("bf16", weights=ml_dtypes.int4).label == "bf16, weights int4"


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("bf15", {}, ValueError, "`dtype` must hold known formats, got 'bf15'; the closest: .*'bf16'"),
    (3, {}, TypeError, "`dtype` must"), (("bf16",) * 3, {}, ValueError, "`dtype` must be a format or a pair"),
    ("bf16 dot4", {}, ValueError, "`dtype` must leave out the lanes"),
    ("e8m0fnu", {}, ValueError, "`dtype` must hold neg"),
    ("uint8", {}, ValueError, "`dtype` must be signed, got uint8; .*weights='uint8'"),
    ("bf16", {"accumulator": "fp33"}, ValueError, "`accumulator` must"),
    ("bf16/exact", {"accumulator": "bf16"}, ValueError, "`accumulator` must be named once"),
    ("e4m3fn", {"accumulator": "nvidia-volta"}, ValueError, "nvidia-volta"),
    ("bf16", {"weights": "gtpq:int4"}, ValueError, "`weights` must name a method .*'gtpq'.*closest: 'gptq'"),
    ("bf16", {"weights": "int4/0"}, ValueError, "`weights` must have a positive block size"),
    ("bf16", {"weights": "nf5"}, ValueError, "`weights` must hold a known format, got 'nf5'; the closest: .*'nf4'"),
    ("bf16", {"weights": "hqq:int4"}, ValueError, "`weights` must have an unsigned integer for hqq"),
    ("bf16", {"weights": "mxfp4/32"}, ValueError, "`weights` must leave out the block size"),
    ("bf16@int4", {"weights": "int4"}, ValueError, "`weights` must be None for 'bf16@int4'"),
    ("bf16", {"activations": "gptq:int4"}, ValueError, "`activations` must be rounded to nearest, got the method gptq"),
    ("bf16", {"sparsity": "2:3"}, ValueError, "`sparsity` must"),
    ("bf16", {"sparsity": 2}, TypeError, "`sparsity` must"),
    ("bf16", {"sparsity": "2:4 wnada"}, ValueError, "`sparsity` must be a pattern and one of magnitude, wanda"),
    ("bf16", {"scales": "rows"}, ValueError, "`scales` must be one of .*got 'rows'; the closest: 'row'"),
    ("bf16", {"scales": 1}, TypeError, "`scales` must be a string"),
    ("bf16", {"scale_rule": "rceil"}, ValueError, "`scale_rule` must be None for 'bf16'"),
    ("mxfp4", {"scale_rule": "up to"}, ValueError, "`scale_rule` must"),
    ("bf16", {"rounding": "nearest"}, ValueError, "`rounding` must"), ("bf16", {"seed": 1.0}, TypeError, "`seed` must"),
    ("bf16", {"seed": -1}, ValueError, "`seed` must be from 0"), ("bf16", {"seed": True}, TypeError, "`seed` must"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "more", "kind", "message"), WRONG, ids=str)
def test_wrong_words(dtype: Any, more: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Arithmetic(dtype, **more)


def test_wrong_operands() -> None:
    x, w = data(1, 3, 8), data(2, 4, 8)
    for how in map(Arithmetic, ("bf16", "e4m3fn", "e4m3fn/exact", "int8", "mxfp4")):
        for bad in (np.ones((4, 8), complex), [["a"] * 8], "a"):
            for name, call, operands in [
                ("w", how.prepare, (bad,)), ("x", how.linear, (bad, w)), ("a", how.matmul, (bad, w)),
                ("b", how.matmul, (x, bad)), ("bias", how.linear, (x, w, bad)),
            ]:  # fmt: skip
                with pytest.raises(TypeError, match=rf"^`{name}` must hold real numbers, got .*; convert it"):
                    call(*operands)
        for bias in (np.ones(3), np.ones((3, 4)), np.ones((1, 4))):
            with pytest.raises(ValueError, match=r"^`bias` must have shape \(4,\) for a weight of shape \(4, 8\), got"):
                how.linear(x, w, bias)
        with pytest.raises(ValueError, match=r"^`w` must have shape \(outputs, inputs\), got \(8,\); reshape"):
            how.prepare(w[0])
        with pytest.raises(ValueError, match=r"^`x` must have shape \(\.\.\., 8\) for a weight of shape \(4, 8\), got"):
            how.linear(x[:, :5], w)
        with pytest.raises(ValueError, match="two axes at least"):
            how.matmul(x, w[0])
    for how in (Arithmetic("bf16", weights="gptq:int4"), Arithmetic("bf16", sparsity="2:4 wanda")):
        with pytest.raises(ValueError, match=r"`calibration` must be given for .*activations of shape"):
            how.prepare(w)
    with pytest.raises(ValueError, match=r"`weights` must return an array of floats of shape \(4, 8\), got"):
        Arithmetic(weights=lambda w, _: w[:2]).prepare(w)


def test_a_weight_is_multiplied_by_what_prepared_it() -> None:
    """Its scale would be lost: by powers of two, the result is wrong by 128."""
    x, w = data(1, 3, 8), data(2, 4, 8)
    ready = Arithmetic("e4m3fn", scales="power_of_two").prepare(w)
    assert isinstance(ready, PreparedWeight)
    with pytest.raises(ValueError, match=r"`w` must be prepared by the arithmetic that multiplies it.*; prepare"):
        Arithmetic("e4m3fn", scales="none").linear(x, ready)


def test_calibration_is_asked_for_once_and_only_where_it_is_used() -> None:
    asked = []

    def calibration() -> Any:
        asked.append(1)
        return data(5, 32, 8)

    Arithmetic("bf16", weights="gptq:int4", sparsity="2:4 wanda").prepare(data(2, 4, 8), calibration)
    assert len(asked) == 1
    Arithmetic("bf16", weights="int4", sparsity="2:4").prepare(data(2, 4, 8), calibration)
    assert len(asked) == 1


# ------------------------------------------------------------------------------------------------------ planted faults
def test_activations_rule_on_weights_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = data(1, 2, 9), data(2, 3, 9)
    how, twin = Arithmetic(activations="int4"), Slow("fp32", "fp32", fp32, activations=lp.format("int4"))
    check(how, twin, x, w)
    prepare = Arithmetic.prepare
    monkeypatch.setattr(Arithmetic, "prepare", lambda self, w, *more: prepare(self, self.activations.rounded(w), *more))
    with pytest.raises(AssertionError):
        check(how, twin, x, w)


def test_one_scale_for_a_batch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = data(1, 2, 3, 9), data(2, 2, 9, 3)
    a[1] *= 1000
    how = Arithmetic("e4m3fn")

    def alone() -> bool:
        return bits(how.matmul(a, b)) == bits([how.matmul(*pair) for pair in zip(a, b, strict=True)])

    assert alone()
    monkeypatch.setattr("lowprec.nn._operands.axes_of", lambda *_: None)
    assert not alone()


def test_a_key_without_the_accumulator_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = dataclasses.fields
    monkeypatch.setattr(
        "lowprec.nn._key.fields", lambda value: [each for each in fields(value) if each.name != "accumulator"]
    )
    assert len({how.key() for how in DIFFERENT}) < len(DIFFERENT)
