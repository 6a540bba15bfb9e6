"""The grid of a study and who computes it: what runs, what is refused, and the same table from any executor."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import MLP, Metric, Workload, _engine, _registry, study, workload
from lowprec.study._settings import facts, grid, label

QUIET: dict[str, Any] = {"progress": False, "cache": False}


class Toy(Workload):
    """One product for each part; parts can be made to fail, to end their process once, and to be slow."""

    name = "toy"
    metrics = (Metric("value", "value", "", True, ".3f"), Metric("curve", "curve", "", True, ".3f"))

    def __init__(self, parts: int = 3, fails: int = -1, ends: str = "", log: str = "") -> None:
        self.parts = tuple(f"seed {i}" for i in range(parts))
        self.fails = fails
        self.ends = ends
        self.log = log

    def fingerprint(self) -> str:
        return f"toy {len(self.parts)}"

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        if part == self.fails:
            msg = "this part fails"
            raise KeyError(msg)
        if self.ends and part == len(self.parts) - 1 and not Path(self.ends).exists():
            Path(self.ends).touch()
            os.kill(os.getpid(), 9)
        if self.log:
            with Path(self.log).open("a") as file:
                file.write(f"{arithmetic.label} {part} {os.getpid()}\n")
            time.sleep(0.01)
        x = np.random.default_rng(part).standard_normal((3, 16)).astype(np.float32)
        y = arithmetic.linear(x, x)
        return {"value": y[0, 1], "curve": y[0], "worst": math.nan}


GRID: dict[str, Any] = {
    "dtypes": ["bf16", "e4m3fn", "int8"],
    "accumulators": [None, "exact"],
    "weights": [None, "int4/16"],
}


@pytest.fixture(scope="module")
def table() -> str:
    return json.dumps(study(Toy(), **GRID, **QUIET).table)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------- the grid


def settings(dtypes: Any = None, accumulators: Any = None, of: Workload | None = None, **more: Any) -> list[str]:
    return [each.label for each in grid(Toy() if of is None else of, dtypes, accumulators, **more).settings]


def test_grid_is_the_product_in_order() -> None:
    assert settings(["bf16", "fp16"], [None, "fp64"], weights=[None, "int4/32"], sparsity=[None, "2:4"]) == [
        *("bf16", "bf16 2:4", "bf16, weights int4/32", "bf16 2:4, weights int4/32"),
        *("bf16/fp64", "bf16/fp64 2:4", "bf16/fp64, weights int4/32", "bf16/fp64 2:4, weights int4/32"),
        *("fp16", "fp16 2:4", "fp16, weights int4/32", "fp16 2:4, weights int4/32"),
        *("fp16/fp64", "fp16/fp64 2:4", "fp16/fp64, weights int4/32", "fp16/fp64 2:4, weights int4/32"),
    ]
    assert settings("e4m3fn", scales=["none", "row", "auto"]) == ["e4m3fn, scales none", "e4m3fn, scales row", "e4m3fn"]


def test_same_setting_once() -> None:
    assert settings(["bf16", "bfloat16", lp.format("bf16"), Arithmetic("bf16")], [None, "fp32", "float32"]) == ["bf16"]


def quarters(w: Any, calibration: Any = None) -> Any:
    return np.round(w * 4) / 4


def test_no_two_settings_have_one_label() -> None:
    def eighths(w: Any, calibration: Any = None) -> Any:
        return np.round(w * 8) / 8

    eighths.__name__ = quarters.__name__
    stored = study("matmul", "fp32", weights=[quarters, eighths], K=(2, 4), size=2, seeds=1, **QUIET)
    assert len({row["label"] for row in stored.table}) == 2
    assert all(row["label"] in str(stored) for row in stored.table)  # one row each, where labels name rows
    drawn = [Arithmetic("bf16", seed=seed) for seed in (1, 2)]
    labels = [row["label"] for row in study(Toy(1), [*drawn, "e4m3fn"], **QUIET).table]
    assert labels == ["bf16, seed 1", "bf16, seed 2", "e4m3fn"]


class Holes(Workload):
    """Parts that do not all have the same."""

    name = "holes"
    metrics = (Metric("value", "value", "", True, ".3f"), Metric("other", "other", "", True, ".3f"))
    parts = ("one", "two")

    def fingerprint(self) -> str:
        return "holes"

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        return {"value": 1.0, "other": None} | ({"of one part": 1} if part == 0 else {"other": 1.0})


def test_parts_with_holes() -> None:
    result = study(Holes(), "bf16", **QUIET)
    record = result.table[0]
    assert (record["value"], record["other"], "of one part" in record) == (1.0, None, False)
    assert "bf16" in str(result)
    with pytest.raises(ValueError, match="`workload` must have one part at least, got 'toy' with none"):
        study(Toy(0), "bf16", **QUIET)


def test_words_keep_their_own_sum_and_sparsity() -> None:
    assert settings(["bf16/exact", "nvidia-hopper:fp16", "bf16"], ["fp32", "bf16"]) == [
        *("bf16/exact", "fp16/nvidia-hopper", "bf16", "bf16/bf16")
    ]
    assert settings(["int8 2:4", "int8"], sparsity=[None, "1:2"]) == ["int8 2:4", "int8", "int8 1:2"]


def test_own_settings_take_the_other_lists() -> None:
    usual = settings()
    assert usual == ["fp32", "fp16", "bf16", "e4m3fn"]
    assert settings(accumulators=["fp64"]) == [f"{name}/fp64" for name in usual]
    assert settings(sparsity="2:4", weights="int8") == [f"{name} 2:4, weights int8" for name in usual]


def test_pairs_and_objects() -> None:
    pair = ("bf16", "e4m3fn")
    ours = lp.FloatFormat("ours", exponent_bits=6, mantissa_bits=5)
    assert settings([pair, ["e5m2", "e4m3fn"], ours, "bf16@int4"]) == [
        "bf16@e4m3fn",
        "e5m2@e4m3fn",
        "ours",
        "bf16@int4",
    ]
    assert settings(("bf16", "e4m3fn")) == ["bf16", "e4m3fn"], "a tuple alone is a list"
    assert settings(each for each in ("bf16", "fp16")) == ["bf16", "fp16"]


def test_what_cannot_run_is_skipped_with_its_reason() -> None:
    found = study(Toy(), ["bf16", "int8"], ["nvidia-volta", "fp32", "int32"], **QUIET)
    assert [row["label"] for row in found.table] == ["bf16", "int8"]
    reasons = dict(found.skipped)
    words = [*("bf16, accumulator nvidia-volta", "bf16/int32"), *("int8, accumulator nvidia-volta", "int8/fp32")]
    assert list(reasons) == words
    assert "volta" in reasons[words[0]]
    assert "takes integer operands" in reasons["bf16/int32"]
    assert "takes float operands" in reasons["int8/fp32"]


def test_workload_may_refuse() -> None:
    class Picky(Toy):
        def refuses(self, arithmetic: Arithmetic) -> str | None:
            return "no sparsity here" if arithmetic.sparsity else None

    found = grid(Picky(), "bf16", sparsity=[None, "2:4"])
    assert [each.label for each in found.settings] == ["bf16"]
    assert found.skipped == (("bf16 2:4", "no sparsity here"),)
    with pytest.raises(ValueError, match=r"`dtypes` must leave something to run, .*bf16 2:4: no sparsity here"):
        study(Picky(), "bf16", sparsity="2:4", **QUIET)


class Recipe:
    """A setting that is no Arithmetic."""

    def __init__(self, name: str) -> None:
        self.label = name

    def key(self) -> str:
        return f"recipe {self.label}"

    def columns(self) -> dict[str, Any]:
        return {"bits": 16}


class Cook(Toy):
    """A workload with words and settings of its own, and several records for each."""

    def setting(self, word: str) -> Recipe | None:
        return Recipe(word) if word.startswith("recipe") else None

    def default_settings(self) -> tuple[Any, ...]:
        return (Recipe("own"),)

    def evaluate(self, arithmetic: Any, part: int) -> dict[str, Any]:
        return {"value": float(len(arithmetic.label) + part), "curve": [0.0]}

    def summarise(self, parts: Any) -> Any:
        return [{"K": k, "value": part["value"]} for k, part in enumerate(parts)]


def test_settings_of_another_kind_and_several_records() -> None:
    found = study(Cook(2), ["recipe a", "bf16", Recipe("b")], **QUIET)
    rows = [(row["label"], row["bits"], row["K"], row["value"]) for row in found.table]
    assert rows == [(name, 16, k, len(name) + k) for name in ("recipe a", "bf16", "b") for k in range(2)]
    assert [row["format"] for row in study(Cook(1), **QUIET).table] == ["own"]
    with pytest.raises(ValueError, match="accumulator must not be given for own"):
        study(Cook(1), accumulators="fp32", **QUIET)


def test_columns_say_what_ran() -> None:
    found = facts(Arithmetic("bf16", weights="int4/32", sparsity="2:4", seed=3))
    assert found == {
        **{"format": "bfloat16", "label": "bf16 2:4, weights int4/32", "bits": 16, "exponent_bits": 8},
        **{"mantissa_bits": 7, "accumulator": "fp32", "scales": "auto", "weights": "int4/32", "activations": None},
        **{"sparsity": "2:4", "seed": 3},
    }
    assert facts(Arithmetic(("bf16", "e4m3fn")))["format"] == "bfloat16@float8_e4m3fn"
    assert facts(Arithmetic("mxfp4"))["exponent_bits"] is None
    assert label(Arithmetic("e4m3fn", scales="none"), "none") == "e4m3fn"


# -------------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"executor": 4}, TypeError, r"`executor` must be a .*Executor, got int; such as ProcessPoolExecutor\(4\)"),
        ({"executor": "processes"}, TypeError, "`executor` must be a .*Executor, got str"),
        ({"seed": -1}, ValueError, "`seed` must be from 0"),
        ({"accumulators": [3]}, TypeError, "`accumulators` must be"),
        ({"dtypes": [None]}, TypeError, "`dtypes` must"),
        ({"dtypes": ["bf16", "bf17"]}, ValueError, "`dtypes` must hold known formats, got 'bf17'"),
        ({"weights": ["gtpq:int4"]}, ValueError, "`weights` must name a method .*'gptq'"),
        ({"weights": []}, ValueError, "`weights` must not be empty"),
        ({"accumulators": "nvidia-hoper"}, ValueError, "`accumulators` must be .*nvidia-hopper"),
        ({"option": 3}, TypeError, "`options` must be none for a workload that is made already, got option"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        study(Toy(), **arguments, **QUIET)


def test_typo_is_no_skipped_setting() -> None:
    """A wrong word is an error even where others would run."""
    with pytest.raises(ValueError, match="`accumulators` must be"):
        study(Toy(), "bf16", ["fp32", "fp23"], **QUIET)


@pytest.mark.parametrize("name", ["digit", "matmull", "smolm2"])
def test_unknown_names_have_close_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"got '{name}'; the closest: '"):
        workload(name)


def test_registry_imports_what_it_says() -> None:
    assert set(_registry.describe()) >= {"digits", "matmul"}
    for entry in (*_registry.WORKLOADS.values(), *_registry.PREFIXES.values()):
        assert Path(lp.__file__).parents[1].joinpath(*entry.module.split(".")).with_suffix(".py").exists()
        assert entry.about
    for prefix in _registry.PREFIXES:
        with pytest.raises(ValueError, match=f"`workload` must have something after '{prefix}'"):
            workload(f"{prefix}:")


def test_failing_unit_is_named() -> None:
    with pytest.raises(RuntimeError, match="toy, bf16, seed 1: KeyError: 'this part fails'") as caught:
        study(Toy(fails=1), "bf16", **QUIET)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("value", [None, {"a": object()}, [1]])
def test_evaluate_that_returns_something_else_is_named(value: Any) -> None:
    class Wrong(Toy):
        def evaluate(self, arithmetic: Arithmetic, part: int) -> Any:
            return value

    with pytest.raises(TypeError, match="toy, bf16, seed 0: `evaluate` must return"):
        study(Wrong(), "bf16", **QUIET)


# ------------------------------------------------------------------------------------------------------------ executors


def test_threads_give_the_same(table: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert json.dumps(study(Toy(), **GRID, **QUIET, executor=threads).table) == table


def test_processes_give_the_same(table: str, pool: ProcessPoolExecutor) -> None:
    assert json.dumps(study(Toy(), **GRID, **QUIET, executor=pool).table) == table


class Backwards(Executor):
    """Computes here, in an order and at a time of its own."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        arguments = pickle.loads(pickle.dumps(arguments))
        if function is _engine.identity:
            future.set_result(function())
            return future
        self.waiting.append((future, function, arguments))
        if len(self.waiting) == 12:
            for waiting, call, given in reversed(self.waiting):
                waiting.set_result(call(*given))
        return future


def test_order_does_not_matter() -> None:
    alone = study(Toy(), "bf16", ["fp32", "fp16", "bf16", "exact"], **QUIET)
    other = study(Toy(), "bf16", ["fp32", "fp16", "bf16", "exact"], **QUIET, executor=Backwards())
    assert json.dumps(alone.table) == json.dumps(other.table)


def test_mixture_of_cached_and_new_is_the_same(table: str, tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    part = {**GRID, "dtypes": ["e4m3fn"]}
    log = str(tmp_path / "log")
    first = study(Toy(log=log), **part, cache=tmp_path / "cache", progress=False)
    both = study(Toy(log=log), **GRID, cache=tmp_path / "cache", executor=pool, progress=False)
    assert both.cached == first.computed > 0
    assert both.computed > 0
    assert json.dumps(both.table) == table
    lines = [line.rsplit(" ", 1)[0] for line in Path(log).read_text().splitlines()]
    assert len(set(lines)) == len(lines) == both.cached + both.computed, "nothing is computed twice"
    with ThreadPoolExecutor(1) as threads:
        again = study(Toy(log=log), **GRID, cache=tmp_path / "cache", executor=threads, progress=False)
    assert again.computed == 0


def test_named_workload_travels_by_name(pool: ProcessPoolExecutor) -> None:
    parcel = _engine.Parcel.of(_engine._Named("digits", {}, workload("digits").fingerprint()), "`workload`")
    assert len(parcel.content) < 500
    wrong = _engine.Parcel.of(_engine._Named("digits", {}, "another"), "`workload`")
    with pytest.raises(ValueError, match="`workload` 'digits' must be the same for all workers"):
        pool.submit(_engine._workload, wrong).result()
    pytest.importorskip("sklearn")
    here = study("digits", ["bf16", "e4m3fn"], **QUIET).table
    assert study("digits", ["bf16", "e4m3fn"], **QUIET, executor=pool).table == here


def test_failing_unit_cancels_the_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(RuntimeError, match="toy, bf16, seed 2: KeyError: 'this part fails'"),
    ):
        study(Toy(100, fails=2, log=str(log)), "bf16", cache=tmp_path / "cache", executor=threads, progress=False)
    done = len(log.read_text().splitlines())
    assert 2 <= done < 20
    rest = study(Toy(100, log=str(log)), "bf16", cache=tmp_path / "cache", progress=False)
    assert rest.cached >= 2, "what was done is kept"


def test_broken_pool_says_so_and_goes_on(tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    whole = json.dumps(study(Toy(6), "bf16", **QUIET).table)

    def run() -> Any:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as short:
            return study(Toy(6, ends=once), "bf16", cache=tmp_path / "cache", executor=short, progress=False)

    with pytest.raises(RuntimeError, match=r"`executor` broke \(BrokenProcessPool.*5 of 6 parts are done and kept"):
        run()
    rest = run()
    assert (rest.cached, rest.computed) == (5, 1)
    assert json.dumps(rest.table) == whole


def test_executor_that_is_shut_down() -> None:
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="`executor` must be one that still takes work, got one that is shut down"):
        study(Toy(), "bf16", **QUIET, executor=threads)


def test_what_cannot_travel_is_named(pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # which Dask brings, and which takes more
    own = Toy()
    own.function = lambda: 3  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"`workload` must be something that can be pickled .* got a Toy"):
        study(own, "bf16", **QUIET, executor=pool)

    def halve(w: Any, calibration: Any) -> Any:
        return w / 2

    with pytest.raises(TypeError, match="The setting 'bf16, weights halve' must be something that can be pickled"):
        study(Toy(), "bf16", weights=[halve], **QUIET, executor=pool)
    assert study(Toy(), "bf16", weights=[halve], **QUIET).table


class Elsewhere(Backwards):
    """An executor on machines with other packages, or another CPU."""

    def __init__(self, **other: str) -> None:
        super().__init__()
        self.who = _engine.identity()._replace(**other)

    def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        found = self.who if function is _engine.identity else (self.who, function(*arguments)[1])
        future.set_result(found)
        return future


def test_workers_with_other_packages_are_refused() -> None:
    with pytest.raises(
        RuntimeError, match=r"`executor` must have workers with the packages of this process, .*numpy 1"
    ):
        study(Toy(), "bf16", **QUIET, executor=Elsewhere(software="numpy 1"))


def test_workers_with_another_cpu_have_their_own_entries(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"cache": tmp_path, "progress": False}
    other = Elsewhere(cpu="another")
    assert study(Toy(), "bf16", **arguments, executor=other).computed == 3
    assert study(Toy(), "bf16", **arguments, executor=other).cached == 3
    assert study(Toy(), "bf16", **arguments).cached == 0

    class Mixed(Elsewhere):
        def submit(self, function: Any, /, *arguments: Any, **_: Any) -> Future[Any]:
            future = super().submit(function, *arguments)
            self.who = self.who._replace(cpu="a third")
            return future

    with pytest.raises(RuntimeError, match=r"workers on CPUs of one kind, .*got another and a third"):
        study(Toy(), "bf16", ["exact"], **arguments, executor=Mixed(cpu="another"))


def test_interrupt_cancels_what_waits(tmp_path: Path) -> None:
    class Stopped(Toy):
        def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
            if part == 2:
                raise KeyboardInterrupt
            return super().evaluate(arithmetic, part)

    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyboardInterrupt):
        study(Stopped(50), "bf16", cache=tmp_path, executor=threads, progress=False)
    assert study(Toy(50), "bf16", cache=tmp_path, progress=False).cached >= 0


def test_progress_counts_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    study(Toy(4), "bf16", cache=tmp_path, progress=False)
    study(Toy(4), ["bf16", "fp16"], cache=tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/8" in err
    assert "8/8" in err


def test_seed_reaches_the_arithmetic() -> None:
    rows = [study(Toy(), Arithmetic("e5m2", rounding="stochastic"), seed=seed, **QUIET).table for seed in (1, 1, 2)]
    assert json.dumps(rows[0]) == json.dumps(rows[1])
    assert rows[0][0]["value"] != rows[2][0]["value"]
    assert [row[0]["seed"] for row in rows] == [1, 1, 2]


def test_mlp_travels(pool: ProcessPoolExecutor) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((6, 4), (3, 4), (3,))]
    own = MLP("own", arrays[0], np.zeros(6, int), (arrays[1],), (arrays[2],))
    assert study(own, "bf16", **QUIET, executor=pool).table == study(own, "bf16", **QUIET).table
