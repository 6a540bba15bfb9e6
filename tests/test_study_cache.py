"""What studies keep on disk: every bit of it, whole or not at all, and never for something else."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec.nn import Arithmetic
from lowprec.study import Metric, Workload, _cache, _engine, study
from lowprec.study._cache import StudyCache, cache_info, clear_cache, identity, plain

REPOSITORY = Path(__file__).resolve().parents[1]
WHO = identity()
KEY = "ab" * 32


class Counted(Workload):
    """Products of two numbers, and a log of what was computed."""

    name = "counted"
    metrics = (Metric("value", "value", "", True, ".3f"),)

    def __init__(self, log: Path, parts: int = 2, stop: int | None = None) -> None:
        self.log = log
        self.parts = tuple(f"part {i}" for i in range(parts))
        self.stop = stop

    def fingerprint(self) -> str:
        return f"counted, version 1, of {len(self.parts)}"

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        if self.stop is not None and len(lines) == self.stop:
            raise KeyboardInterrupt
        with self.log.open("a") as file:
            file.write(f"{arithmetic.label} {part}\n")
        x = np.random.default_rng(part).standard_normal((2, 8)).astype(np.float32)
        return {"value": arithmetic.linear(x, x)[0, 1], "curve": np.arange(2) / 3, "worst": math.nan}

    @property
    def done(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def equal(one: Any, other: Any) -> bool:
    """Compare records; NaN is NaN."""
    return json.dumps(one) == json.dumps(other)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


GRID: dict[str, Any] = {"dtypes": ["bf16", "fp16"], "accumulators": [None, "fp16"], "progress": False}


# ----------------------------------------------------------------------------------------------- what goes in comes out

WORDS = st.sampled_from(["", "a", "\n\0", "ö\u2028", "\U0001f600", "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(WORDS, JSON, max_size=4))
def test_every_bit_comes_back(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    kept = StudyCache(tmp_path_factory.getbasetemp() / "every bit")
    kept.put(WHO, KEY, value, {})
    assert equal(kept.get(WHO, KEY), plain(value))
    assert json.dumps(plain(plain(value))) == json.dumps(plain(value))


def test_floats_keep_their_bits(cache: Path) -> None:
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 2.0**-1074, 1 / 3]
    kept = StudyCache(cache)
    kept.put(WHO, KEY, {"numbers": numbers}, {})
    found = (kept.get(WHO, KEY) or {})["numbers"]
    assert np.array(found).tobytes() == np.array(numbers).tobytes()


def test_numpy_becomes_plain() -> None:
    given = {
        "a": np.float32(0.1),
        "b": np.int64(3),
        "c": np.bool_(True),
        "d": (np.array([[1, 2]]), np.float16(2)),
        "e": ml_dtypes.bfloat16(1.5),
        "f": np.array([0.5], ml_dtypes.bfloat16),
        "g": np.array(2.0),
    }
    want = {"a": float(np.float32(0.1)), "b": 3, "c": True, "d": [[[1, 2]], 2.0], "e": 1.5, "f": [0.5], "g": 2.0}
    found = plain(given)
    assert found == want
    assert json.loads(json.dumps(found)) == want


@pytest.mark.parametrize("value", [1j, object(), {"a": {1, 2}}, {3: 1}, b"bytes", [np.datetime64(0, "s")]])
def test_what_json_lacks_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"can be kept, got|must have names as keys, got 3 of type int"):
        plain(value)


# -------------------------------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("cut", [0, 1, 20, -1, -20])
def test_truncated_entry_is_none(cache: Path, cut: int) -> None:
    kept = StudyCache(cache)
    kept.put(WHO, KEY, {"a": 0.1}, {})
    path = next(cache.rglob("*.json"))
    path.write_bytes(path.read_bytes()[:cut])
    assert kept.get(WHO, KEY) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b'{"value": {"a": 0.1}}', b'{"value": 3, "check": ""}', b"\xff\xfe", b"[" * 9999]
)
def test_what_is_no_entry_is_none(cache: Path, content: bytes) -> None:
    kept = StudyCache(cache)
    kept.put(WHO, KEY, {"a": 0.1}, {})
    next(cache.rglob("*.json")).write_bytes(content)
    assert kept.get(WHO, KEY) is None


def test_changed_digit_and_entry_of_another_key_are_none(cache: Path) -> None:
    kept = StudyCache(cache)
    kept.put(WHO, KEY, {"a": 0.125}, {})
    path = next(cache.rglob("*.json"))
    other = path.with_name(f"{KEY[:-1]}c.json")
    shutil.copy(path, other)
    assert kept.get(WHO, other.stem) is None
    path.write_bytes(path.read_bytes().replace(b"0.125", b"0.126"))
    assert kept.get(WHO, KEY) is None
    kept.put(WHO, KEY, {"a": 0.125}, {})
    assert kept.get(WHO, KEY) == {"a": 0.125}


def test_damaged_entry_is_computed_again_without_a_word(
    log: Path, cache: Path, recwarn: pytest.WarningsRecorder
) -> None:
    first = study(Counted(log), cache=cache, **GRID)
    paths = sorted(cache.rglob("*.json"))
    assert len(paths) == first.computed == 8
    paths[0].write_bytes(b"{")
    paths[1].unlink()
    again = study(Counted(log), cache=cache, **GRID)
    assert (again.cached, again.computed) == (6, 2)
    assert equal(again.table, first.table)
    assert Counted(log).done == 10
    assert not recwarn.list


def _write(directory: Path, worker: int) -> None:
    kept = StudyCache(directory)
    for turn in range(60):
        value = {"values": [worker] * 2000}
        kept.put(WHO, KEY, value, {"turn": str(turn)})
        found = kept.get(WHO, KEY)
        if found is None or len(set(found["values"])) != 1:
            os._exit(1)


def test_two_processes_write_at_once(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(cache, number)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".json"], "nothing temporary is left"


# --------------------------------------------------------------------------------------------------- the key has it all


def test_second_run_computes_nothing(log: Path, cache: Path) -> None:
    first = study(Counted(log), cache=cache, **GRID)
    again = study(Counted(log), cache=cache, **GRID)
    bare = study(Counted(log), cache=False, **GRID)
    assert (first.cached, first.computed) == (0, 8)
    assert (again.cached, again.computed) == (8, 0)
    assert equal(first.table, again.table)
    assert equal(first.table, bare.table)
    assert Counted(log).done == 16


def test_bigger_grid_takes_what_is_there(log: Path, cache: Path) -> None:
    small = study(Counted(log), ["bf16"], cache=cache, progress=False)
    large = study(Counted(log), ["fp16", "bf16"], ["fp32", "bf16"], cache=cache, progress=False)
    assert (large.cached, large.computed) == (2, 6)
    assert equal([row for row in large.table if row["label"] == "bf16"], small.table)


KEYS: list[Any] = [
    Arithmetic("bf16"),
    Arithmetic("bf16", "bf16"),
    Arithmetic("bf16", lp.Sequential("fp32", rounding="toward_zero")),
    Arithmetic("bf16", lp.Chunked("fp32", 16)),
    Arithmetic("bf16", lp.Chunked("fp32", 32)),
    Arithmetic("nvidia-hopper:bf16"),
    Arithmetic("bf16", weights="int4/32"),
    Arithmetic("bf16", weights="int4/64"),
    Arithmetic("bf16", weights="mse:int4/32"),
    Arithmetic("bf16", activations="int8"),
    Arithmetic("bf16", sparsity="2:4"),
    Arithmetic("bf16", sparsity="2:4 wanda"),
    Arithmetic("bf16", scales="row"),
    Arithmetic("bf16", rounding="stochastic"),
    Arithmetic("bf16", rounding="stochastic", seed=1),
    Arithmetic(("bf16", "e4m3fn")),
    Arithmetic(("e4m3fn", "bf16")),
    Arithmetic(lp.FloatFormat("mine", exponent_bits=8, mantissa_bits=7)),
    Arithmetic(lp.FloatFormat("mine", exponent_bits=7, mantissa_bits=8)),
    Arithmetic("mxfp4"),
    Arithmetic("mxfp4", scale_rule="ceil"),
]


def keys(log: Path) -> list[str]:
    """Return the key of every arithmetic, of another part and of other data."""
    found = [_engine.key_of(Counted(log), each, 0) for each in KEYS]
    return [*found, _engine.key_of(Counted(log), KEYS[0], 1), _engine.key_of(Counted(log, 3), KEYS[0], 0)]


def test_keys_are_of_all_that_decides(log: Path) -> None:
    assert len(set(keys(log))) == len(KEYS) + 2
    assert keys(log) == keys(log)
    assert _engine.key_of(Counted(log), Arithmetic("bfloat16", "fp32"), 0) == keys(log)[0]


@pytest.mark.parametrize("forgotten", ["accumulator", "parameters"])
def test_key_that_forgets_is_seen(log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """Planted bugs: a key of the formats without the sum, and one of formats' names without their parameters."""

    def key(self: Arithmetic) -> str:
        names = [each.name for each in self.formats]
        return str(self.formats if forgotten == "accumulator" else (names, self.accumulator))

    right = study(Counted(log), cache=cache, **GRID).table
    monkeypatch.setattr(Arithmetic, "key", key)
    with pytest.raises(AssertionError):
        test_keys_are_of_all_that_decides(log)
    if forgotten == "accumulator":
        wrong = [
            study(Counted(log), dtype, total, cache=cache, progress=False).table[0]
            for dtype in GRID["dtypes"]
            for total in GRID["accumulators"]
        ]
        assert [row["value"] for row in wrong] != [row["value"] for row in right], "old numbers for another sum"


def test_source_of_a_users_workload_counts(tmp_path: Path, log: Path) -> None:
    text = "from test_study_cache import Counted\nclass Own(Counted):\n    name = 'own'\n"
    found = []
    for line in ("", "    unused = 1\n"):
        name = f"own_workload_{len(found)}"
        (tmp_path / f"{name}.py").write_text(text + line)
        sys.path.insert(0, str(tmp_path))
        try:
            module = __import__(name)
        finally:
            sys.path.remove(str(tmp_path))
        module.Own.__module__ = "own_workload"  # as if one file had been edited
        sys.modules["own_workload"] = module
        found.append(_engine.key_of(module.Own(log), KEYS[0], 0))
    assert found[0] != found[1]


def test_other_library_recomputes(log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study(Counted(log), cache=cache, **GRID)
    old = identity()
    for changed in (old._replace(software="numpy 9"), old._replace(cpu="another")):
        monkeypatch.setattr(_engine, "identity", lambda changed=changed: changed)
        again = study(Counted(log), cache=cache, **GRID)
        assert (again.cached, again.computed) == (0, 8)
        assert equal(again.table, first.table)
    assert cache_info(cache)[1:] == (24, cache_info(cache).size_bytes, 8)


def test_key_without_the_library_is_seen(log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: one directory for all versions."""
    monkeypatch.setattr(_cache.Identity, "digest", "0" * 20)
    with pytest.raises(AssertionError):
        test_other_library_recomputes(log, cache, monkeypatch)


# -------------------------------------------------------------------------------------------------------- what stops it


def test_interrupted_goes_on(log: Path, cache: Path) -> None:
    whole = study(Counted(log), cache=False, **GRID)
    log.unlink()
    for stop in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            study(Counted(log, stop=stop), cache=cache, **GRID)
        assert Counted(log).done == stop
    rest = study(Counted(log), cache=cache, **GRID)
    assert (rest.cached, rest.computed) == (5, 3)
    assert Counted(log).done == 8, "nothing is computed twice"
    assert equal(rest.table, whole.table)


KILLED = """
import sys, os
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_study_cache as t
class Dying(t.Counted):
    def evaluate(self, arithmetic, part):
        if self.done == 4:
            os.kill(os.getpid(), 9)
        return super().evaluate(arithmetic, part)
Dying.__mro__[0].__module__, Dying.__qualname__ = "test_study_cache", "Counted"
t._engine._source = lambda kind: "one"
t.study(Dying(Path(sys.argv[2])), cache=sys.argv[3], **t.GRID)
"""


def test_killed_goes_on(log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "_source", lambda kind: "one")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(log), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    rest = study(Counted(log), cache=cache, **GRID)
    assert (rest.cached, rest.computed) == (4, 4)
    assert equal(rest.table, study(Counted(log), cache=False, **GRID).table)


# ---------------------------------------------------------------------------------------------------------- directories


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """Give a path below a file, where nobody, not even root, can make a directory."""
    (tmp_path / "file").touch()
    return tmp_path / "file"


def test_cache_that_cannot_be_written(log: Path, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(locked))
    with pytest.raises(OSError, match=r"studies' cannot be written .*LOWPREC_CACHE_DIR.*cache=False"):
        study(Counted(log), **GRID)
    assert Counted(log).done == 0, "before anything is computed"
    assert study(Counted(log), cache=False, **GRID).computed == 8


@pytest.mark.parametrize("wrong", [3, 0.5, "", None])
def test_cache_of_another_kind(log: Path, wrong: Any) -> None:
    if wrong is None:
        assert study(Counted(log), cache=wrong, **GRID).computed == 8
        return
    with pytest.raises(TypeError, match="`cache` must be True, False or a path"):
        study(Counted(log), cache=wrong, **GRID)


def test_variable_says_where(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "here"))
    study(Counted(log), **GRID)
    assert len(list((tmp_path / "here" / "studies").rglob("*.json"))) == 8
    assert cache_info().directory == tmp_path / "here" / "studies"


def test_info_and_clear(log: Path, cache: Path) -> None:
    assert cache_info(cache) == (cache, 0, 0, 0)
    assert clear_cache(cache) == 0
    study(Counted(log), cache=cache, **GRID)
    (cache / "of the user").mkdir()
    (cache / "notes.txt").write_text("keep")
    files = list(cache.rglob("*.json"))
    assert cache_info(cache) == (cache, 8, sum(path.stat().st_size for path in files), 8)
    assert clear_cache(cache) == 8
    assert sorted(path.name for path in cache.iterdir()) == ["notes.txt", "of the user"]
    assert study(Counted(log), cache=cache, **GRID).computed == 8


def test_stale_versions_go(log: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, recent = cache / ("a" * 20), cache / ("b" * 20)
    for directory, days in ((old, 90), (recent, 1), (cache / "of the user", 90)):
        (directory / "aa").mkdir(parents=True)
        then = time.time() - days * 86400
        for path in (directory / "aa", directory):
            os.utime(path, (then, then))
    study(Counted(log), cache=cache, **GRID)
    assert {path.name for path in cache.iterdir()} == {recent.name, "of the user", identity().digest}


def test_digits_from_the_cache_load_no_digits(tmp_path: Path) -> None:
    code = """
import sys, time
start = time.process_time()
import lowprec as lp
result = lp.study("digits", ["bf16", "e4m3fn"], cache=sys.argv[1], progress=False)
print(result.computed, "sklearn" in sys.modules, time.process_time() - start, result.table)
"""
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", code, str(tmp_path)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(" ", 3))
    assert said[0][:2] == ["2", "True"]
    assert said[1][:2] == ["0", "False"]
    assert said[0][3] == said[1][3]
    assert float(said[1][2]) < 4, "twice what it takes on a quiet machine, the import included"
