"""Products of Dask arrays have the bits of NumPy's, and a study on a cluster survives a worker that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp

dask = pytest.importorskip("dask", reason='needs dask; pip install "lowprec[distributed]"')
da = pytest.importorskip("dask.array", reason='needs dask; pip install "lowprec[distributed]"')


@pytest.fixture(autouse=True)
def in_this_thread() -> Any:
    with dask.config.set(scheduler="synchronous"):
        yield


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(got: Any, want: Any) -> None:
    """Compare the promise with what comes, and what comes with NumPy's bits."""
    assert isinstance(got, da.Array)
    found = np.asarray(got.compute())
    want = np.asarray(want)
    assert (got.shape, got.dtype) == (found.shape, found.dtype) == (want.shape, want.dtype)
    assert found.tobytes() == want.tobytes()


HOW: list[dict[str, Any]] = [
    {},
    {"dtype": "bf16"},
    {"dtype": "bf16", "accumulator": "bf16", "out_dtype": "bf16"},
    {"dtype": ("bf16", "e4m3fn"), "accumulator": "exact"},
    {"dtype": "e4m3fn", "accumulator": "nvidia-hopper"},
    {"dtype": "fp16", "accumulator": lp.Chunked("fp16", 8)},
    {"dtype": lp.FloatFormat("ours", exponent_bits=6, mantissa_bits=3), "rounding": "toward_zero"},
    {"dtype": "int8"},
    {"dtype": ("int8", "int4")},
    {"dtype": "mxfp4"},
    {"dtype": "nvfp4"},
]


@pytest.mark.parametrize("how", HOW, ids=str)
def test_bits_of_numpy(how: dict[str, Any]) -> None:
    a, b, c = random(3, 5, 40), random(40, 7, seed=1), random(5, 7, seed=2)
    a[1] *= 30  # so that blocks have other scales than the whole
    x, y = da.from_array(a, chunks=(2, 2, 16)), da.from_array(b, chunks=(10, 3))
    want = lp.matmul(a, b, **how)
    got = lp.matmul(x, y, **how)
    same(got, want)
    assert got.chunks == (x.chunks[0], x.chunks[1], y.chunks[1]), "blocks of M and N are kept"
    same(lp.matmul(x, b, **how), want)
    same(lp.matmul(a, y, **how), want)
    if how.get("dtype") not in ("nvfp4", "mxfp4"):
        same(lp.matmul(x, y, c=c, **how), lp.matmul(a, b, c=c, **how))
        same(lp.matmul(x, y, c=da.from_array(c, chunks=2), **how), lp.matmul(a, b, c=c, **how))


SHAPES = [
    *(((4, 6), (6, 5)), ((6,), (6, 5)), ((4, 6), (6,)), ((6,), (6,)), ((2, 1, 4, 6), (3, 6, 5)), ((1, 4, 6), (6, 5))),
    *(((0, 6), (6, 5)), ((4, 0), (0, 5)), ((2, 4, 6), (1, 6, 5)), ((1, 1), (1, 1)), ((0, 4, 6), (6,))),
]


@pytest.mark.parametrize(("one", "other"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_shapes_of_numpy(one: tuple[int, ...], other: tuple[int, ...], dtype: str) -> None:
    a, b = random(*one), random(*other, seed=1)
    same(lp.matmul(da.from_array(a, chunks=2), da.from_array(b, chunks=3), dtype), lp.matmul(a, b, dtype))


def test_other_dtypes() -> None:
    a = random(4, 6).astype(ml_dtypes.bfloat16)
    b = random(6, 3, seed=1)
    same(lp.matmul(da.from_array(a, chunks=2), da.from_array(b, chunks=2), "e5m2"), lp.matmul(a, b, "e5m2"))
    i, j = (np.random.default_rng(seed).integers(-9, 9, (6, 6)).astype(np.int8) for seed in range(2))
    same(lp.matmul(da.from_array(i, chunks=4), j), lp.matmul(i, j))
    same(lp.matmul(da.from_array(i, chunks=4), b, "int8"), lp.matmul(i, b, "int8"))
    d = random(6, 6).astype(np.float64) / 3
    same(lp.matmul(da.from_array(d, chunks=4), d, "int8"), lp.matmul(d, d, "int8"))


def test_quantised_and_sparse_operands_stay_whole() -> None:
    a, w = random(6, 32), random(8, 32, seed=1)
    x = da.from_array(a, chunks=(4, 16))
    q, s = lp.quantize(w, "int8", axis=0), lp.sparsify(w, "2:4")
    same(lp.linear(x, q), lp.linear(a, q))
    same(lp.linear(x, s, dtype="bf16"), lp.linear(a, s, dtype="bf16"))
    same(lp.matmul(q, x.T), lp.matmul(q, a.T))


def test_linear_and_vecdot() -> None:
    a, w, bias = random(2, 5, 24), random(7, 24, seed=1), random(7, seed=2)
    x, v = da.from_array(a, chunks=(1, 2, 8)), da.from_array(w, chunks=(3, 8))
    for how in ({"dtype": "bf16"}, {"dtype": "int8"}, {"dtype": "e4m3fn", "accumulator": "nvidia-hopper"}):
        want = lp.linear(a, w, bias, **how)
        same(lp.linear(x, v, bias, **how), want)
        same(lp.linear(x, w, da.from_array(bias, chunks=2), **how), want)
        same(lp.linear(x, v, **how), lp.linear(a, w, **how))
    same(lp.vecdot(x, v[:5], "bf16"), lp.vecdot(a, w[:5], "bf16"))
    same(lp.vecdot(x, w[0], "bf16"), lp.vecdot(a, w[0], "bf16"))


def test_nothing_is_computed_until_it_is_asked_for() -> None:
    def load(block: Any) -> Any:
        pytest.fail("computed")

    x = da.ones((8, 8), chunks=4, dtype=np.float32).map_blocks(
        load, dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    assert lp.matmul(x, x, "bf16").shape == (8, 8)
    assert lp.matmul(x, x, "int8").dtype == np.float32


def test_names_follow_the_arithmetic() -> None:
    """Dask tells results apart by name: another sum or format is another name."""
    x = da.ones((8, 8), chunks=4, dtype=np.float32)
    one, other = (lp.FloatFormat("ours", exponent_bits=e, mantissa_bits=9 - e) for e in (4, 5))
    hows: list[dict[str, Any]] = [{"dtype": one}, {"dtype": other}, {"dtype": one, "accumulator": "exact"}]
    assert len({lp.matmul(x, x, **how).name for how in hows}) == len(hows)


def test_scale_of_a_block_alone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: every block quantised by its own largest magnitude."""
    from lowprec import _dask

    monkeypatch.setattr(_dask, "_scales", lambda operands, named: [])
    with pytest.raises(AssertionError):
        test_bits_of_numpy({"dtype": "int8"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounding": "stochastic", "rng": 0}, "`rounding` must not be stochastic for Dask arrays"),
        (
            {"accumulator": lp.Sequential("bf16", rounding="stochastic"), "rng": 0},
            "`accumulator` must not be stochastic",
        ),
        ({"rng": 0}, "`rng` must be None for Dask arrays"),
        ({"out": np.zeros((4, 4), np.float32)}, "`out` must be None for Dask arrays"),
        (
            {"b": np.zeros((3, 4), np.float32)},
            r"must have equal lengths of K .*got shapes \(4, 4\) for `a` and \(3, 4\)",
        ),
        ({"a": np.zeros((2, 4, 4)), "b": da.zeros((3, 4, 4))}, "must have leading axes that broadcast"),
        ({"c": np.zeros(3)}, r"`c` must broadcast to the result's shape \(4, 4\), got \(3,\)"),
        ({"dtype": "bf17"}, "`dtype` must"),
        ({"accumulator": "nvidia-hoper"}, "`accumulator` must be"),
        ({"b": 3.0}, "`a` and `b` must have at least one axis"),
        (
            {"a": da.ones(9, chunks=3)[da.arange(9, chunks=3) > 4]},
            "must have blocks of known sizes.*compute_chunk_sizes",
        ),
    ],
)
def test_bad_input_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"a": da.ones((4, 4), chunks=2, dtype=np.float32), "b": np.ones((4, 4), np.float32)}
    with pytest.raises(ValueError, match=message):
        lp.matmul(**{**given, "dtype": "bf16", **change})


def test_not_a_number_is_refused_when_computed() -> None:
    a = np.array([[1.0, np.nan]], np.float32)
    with pytest.raises(ValueError, match=r"NaN|nan"):
        lp.matmul(da.from_array(a), a.T.copy(), "int8").compute()


def test_numpy_pays_nothing_for_it() -> None:
    """The check of one product of NumPy arrays, with Dask imported: under a microsecond."""
    from lowprec._call import is_dask

    a = random(2, 2)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            is_dask(a)
        times.append((time.perf_counter() - start) / 100)
    assert min(times) < 1e-6


CLUSTER = """
import json, sys
from distributed import Client, LocalCluster
import lowprec as lp
from test_study_engine import Toy
GRID = {"dtypes": ["bf16", "fp16"], "progress": False}
if __name__ == "__main__":
    once, cache = sys.argv[1:]
    with (
        LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        found = lp.study(Toy(8, ends=once), **GRID, cache=cache, executor=client.get_executor())
    print(json.dumps([found.cached, found.computed, found.table]))
"""


@pytest.mark.oracles
def test_study_on_a_cluster_survives_a_killed_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs distributed; pip install "lowprec[distributed]"')
    from test_study_engine import Toy

    (tmp_path / "script.py").write_text(CLUSTER)
    once = tmp_path / "once"
    roots = [str(Path(__file__).parent), str(Path(lp.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(once), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(roots)},
    )
    assert done.returncode == 0, done.stderr
    assert once.exists(), "a worker was killed"
    cached, computed, table = json.loads(done.stdout.splitlines()[-1])
    want = lp.study(Toy(8), ["bf16", "fp16"], cache=False, progress=False)
    assert (cached, computed) == (0, 16)
    assert json.dumps(table) == json.dumps(want.table)
    again = lp.study(Toy(8), ["bf16", "fp16"], cache=tmp_path / "cache", progress=False)
    assert (again.cached, again.computed) == (16, 0)
