"""lp.systolic: registers against a slow twin, bits against matmul, cycles against the formula, traces, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.systolic import _control, _machine, _simulate, _trace
from tests import systolic_slow

WAYS = {
    "ws": {"dataflow": "ws"},
    "ws double-buffered": {"dataflow": "ws", "double_buffered": True},
    "is": {"dataflow": "is"},
    "is double-buffered": {"dataflow": "is", "double_buffered": True},
    "os": {"dataflow": "os"},
    "os drained": {"dataflow": "os", "drain": True},
}
SHAPES = 72  # of each way


def operands(rng: np.random.Generator, m: int, k: int, n: int, dtype: str = "bf16") -> tuple[Any, Any]:
    if "int" in dtype:
        return rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-128, 128, (k, n)).astype(np.int8)
    spread = [10.0 ** rng.integers(-3, 3, shape) for shape in ((m, k), (k, n))]
    a, b = rng.standard_normal((m, k)) * spread[0], rng.standard_normal((k, n)) * spread[1]
    return lp.round_to(a, dtype), lp.round_to(b, dtype)


def same_bits(got: Any, want: Any) -> bool:
    return got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()


# ------------------------------------------------------------------------------------------------ register for register
def differences(a: Any, b: Any, rows: int, cols: int, dtype: str, accumulator: Any, **how: Any) -> list[str]:
    """Say in which cycles any register, flag or leaving result differs from the twin's."""
    got = lp.systolic.simulate(
        a, b, rows=rows, cols=cols, dtype=dtype, accumulator=accumulator, trace=True, rng=5, **how
    )
    formats = (lp.format(dtype), lp.format(dtype))
    step = systolic_slow.stepper(got.accumulator, formats, 5, b.shape[1])
    flag = how.get("double_buffered", how.get("drain", False))
    twin = systolic_slow.simulate(a.tolist(), b.tolist(), rows, cols, how["dataflow"], step, flag)
    found, cycles = [], 0
    for cycle, (phase, grid, left) in enumerate(twin):
        cycles += 1
        if cycle >= got.cycles:
            continue
        moment = got.trace.at(cycle)
        if moment.phase != phase or sorted(map(tuple, moment.left.tolist())) != sorted(left):
            found.append(f"cycle {cycle}: {moment.phase}, {moment.left.tolist()} left; {phase}, {left}")
        for (r, c), element in grid.items():
            if bool(moment.active[r, c]) != element["active"]:
                found.append(f"cycle {cycle}, ({r}, {c}): active")
            for name in "abc":
                held = getattr(moment, name)
                value, place = element[name]
                if tuple(held.indices[r, c].tolist()) != place or (place[0] >= 0 and held.values[r, c] != value):
                    found.append(f"cycle {cycle}, ({r}, {c}): {name}")
    return found + ([f"{got.cycles} cycles, not {cycles}"] if got.cycles != cycles else [])


SMALL = [(4, 4, 4, 4, 4), (1, 1, 1, 1, 1), (3, 5, 7, 2, 3), (5, 3, 2, 4, 1), (1, 7, 5, 3, 2), (6, 2, 9, 1, 4)]
KINDS = [("bf16", None), ("e4m3fn", "fp16"), ("int8", "int16_saturate")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", range(len(SMALL)))
def test_registers_are_the_twins(rng: np.random.Generator, way: str, place: int) -> None:
    m, k, n, rows, cols = SMALL[place]
    dtype, accumulator = KINDS[place % len(KINDS)]
    a, b = operands(rng, m, k, n, dtype)
    assert differences(a, b, rows, cols, dtype, accumulator, **WAYS[way]) == []


def test_random_words_are_the_twins(rng: np.random.Generator) -> None:
    a, b = operands(rng, 3, 5, 4)
    for way in ("ws", "is double-buffered", "os"):
        assert differences(a, b, 2, 3, "bf16", lp.Sequential("bf16", "stochastic"), **WAYS[way]) == []


# -------------------------------------------------------------------------------------------------- bits and cycles
@pytest.mark.parametrize("way", WAYS)
def test_bits_of_matmul_and_cycles_of_the_formula(rng: np.random.Generator, way: str) -> None:
    how = WAYS[way]
    for _ in range(SHAPES):
        m, k, n, rows, cols = (int(rng.choice([1, 2, 3, 4, 5, 7, 8, 11, 13])) for _ in range(5))
        a, b = operands(rng, m, k, n)
        got = lp.systolic.simulate(a, b, rows=rows, cols=cols, dtype="bf16", accumulator="fp16", **how)
        run = lp.cost.systolic(rows, cols, "bf16", accumulator="fp16", **how).matmul(m, k, n)
        assert same_bits(got.values, lp.matmul(a, b, "bf16", accumulator="fp16")), (m, k, n, rows, cols)
        counts = [(x.fill, x.stream, x.drain, x.cycles, x.tiles, x.macs) for x in (got, run)]
        assert counts[0] == counts[1], (m, k, n, rows, cols)
        assert got.macs == m * k * n
        assert got.utilisation == run.utilisation


ACCUMULATORS: list[Any] = [
    *(None, "fp16", "bf16", "e5m2", "e4m3fn", "tf32", "fp64"),
    lp.Sequential("fp32", "toward_zero"),
    lp.Sequential("fp16", "toward_negative"),
    lp.Sequential("bf16", "toward_positive", fused=False),
    lp.Sequential("fp16", product="e5m2"),
    lp.Sequential("fp16", "to_odd", subnormals="flush"),
    lp.Sequential("e4m3fn", "nearest_away", overflow="saturate"),
    lp.Sequential("bf16", "stochastic"),
    lp.Sequential("bf16", "stochastic", fused=False),
    lp.Sequential("fp64", "toward_zero"),
]


@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=repr)
def test_every_float_sum(rng: np.random.Generator, accumulator: Any) -> None:
    specials = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 1e-45, -1e-8, 65504.0])
    for dtype in ("bf16", "e4m3fn", "fp32", "fp64", ("e4m3fn", "e5m2")):
        for way in ("ws double-buffered", "is", "os"):
            m, k, n = rng.integers(1, 7, 3).tolist()
            a, b = (rng.standard_normal(s) * 10.0 ** rng.integers(-5, 4, s) for s in ((m, k), (k, n)))
            a.flat[rng.integers(a.size)], b.flat[rng.integers(b.size)] = rng.choice(specials, 2)
            got = lp.systolic.simulate(a, b, rows=2, cols=3, dtype=dtype, accumulator=accumulator, rng=7, **WAYS[way])
            assert same_bits(got.values, lp.matmul(a, b, dtype, accumulator=accumulator, rng=7)), (dtype, way)
            assert same_bits(got.values, lp.matmul(a, b, dtype, accumulator=got.accumulator, rng=7)), (dtype, way)


@pytest.mark.parametrize("outer", ["fp32", "fp16", lp.Sequential("bf16", "stochastic")], ids=repr)
def test_tiles_added_up_outside(rng: np.random.Generator, outer: Any) -> None:
    for way in ("ws", "ws double-buffered", "is", "is double-buffered"):
        for rows in (1, 3, 9):
            model = lp.Chunked("fp16", every=rows, outer=outer)
            a, b = operands(rng, 4, 8, 5)
            got = lp.systolic.simulate(a, b, rows=rows, cols=2, dtype="bf16", accumulator=model, rng=3, **WAYS[way])
            assert same_bits(got.values, lp.matmul(a, b, "bf16", accumulator=model, rng=3))
            assert got.accumulator == model


@pytest.mark.parametrize("accumulator", [None, "int16", "int12_saturate", "uint16_saturate", "int8", lp.Integer(20)])
def test_every_integer_sum(rng: np.random.Generator, accumulator: Any) -> None:
    for kinds in (("int8", "int8"), ("uint8", "int4"), ("int16", "int16"), ("int32", "int32"), ("uint32", "uint32")):
        for way, how in WAYS.items():
            m, k, n = rng.integers(1, 7, 3).tolist()
            low = 0 if kinds[0] == "uint32" else -(2**31)
            a, b = (rng.integers(low, 2**31, s).astype(np.uint32 if low == 0 else np.int32) for s in ((m, k), (k, n)))
            if "32" not in kinds[0]:
                a, b = a >> 20, b >> 20
            got = lp.systolic.simulate(a, b, rows=3, cols=2, dtype=kinds, accumulator=accumulator, **how)
            assert same_bits(got.values, lp.matmul(a, b, kinds, accumulator=accumulator)), (kinds, way)


def test_padding_leaves_a_negative_zero_alone() -> None:
    """A sum of -0 goes down through rows that K does not fill; adding 0 x 0 would make it +0."""
    a, b = np.float32([[-(2.0**-20)]]), np.float32([[2.0**-20]])
    for way in ("ws", "is", "os"):
        got = lp.systolic.simulate(a, b, rows=3, cols=2, dtype="bf16", accumulator="fp16", **WAYS[way]).values
        assert np.signbit(got[0, 0])
        assert same_bits(got, lp.matmul(a, b, "bf16", accumulator="fp16"))


def test_storage_types_and_list_operands() -> None:
    x = lp.cast(np.float32([[1, 2], [3, 4]]), "e4m3fn")
    assert same_bits(lp.systolic.simulate(x, x, rows=2, cols=2).values, lp.matmul(x, x))
    assert lp.systolic.simulate([[1, 2]], [[3], [4]], rows=2, cols=2, dtype="int8").values.tolist() == [[11]]


# --------------------------------------------------------------------------------------------------- planted bugs
def skew_off_by_one(first: int, length: int, lanes: int) -> Any:
    lane = np.arange(max(0, first - length), min(lanes - 1, first) + 1)
    item = first - lane - (lane > 1)  # the third lane is a cycle late
    good = (item >= 0) & (item < length)
    return lane[good], item[good]


def load_late(self: Any, row: Any) -> None:
    """Let a weight enter a cycle late: what enters is the row before."""
    late = getattr(self, "late", _machine.Numbers.none(row.values.shape, row.values.dtype))
    self.late = row
    LOAD(self, late)


def clear_not(self: Any, places: Any) -> None:
    self.sums.places[...] = places


def swap_early(self: Any, left: Any, top: Any, swap: Any = None, *rest: Any) -> None:
    CYCLE(self, left, top, None if swap is None else np.full_like(swap, swap.any()), *rest)


def drain_uncounted(self: Any, phase: str, macs: int) -> None:
    if phase != "drain":
        COUNT(self, phase, macs)


LOAD, CYCLE, COUNT = _machine.Stationary.load, _machine.Stationary.cycle, _control.Count.one
BUGS: dict[str, tuple[Any, str, Any, str]] = {
    "skew off by one": (_control, "skewed", skew_off_by_one, "ws"),
    "weight loaded a cycle late": (_machine.Stationary, "load", load_late, "ws"),
    "weights swapped before their turn": (_machine.Stationary, "cycle", swap_early, "ws double-buffered"),
    "sum not cleared": (_machine.Output, "clear", clear_not, "os"),
    "drain not counted": (_control.Count, "one", drain_uncounted, "os drained"),
}


def faults(rng: np.random.Generator, way: str) -> list[str]:
    """Say what of bits and cycles is wrong for a few shapes."""
    found = []
    for m, k, n, rows, cols in ((4, 4, 4, 4, 4), (9, 11, 10, 4, 5), (2, 12, 10, 5, 3)):
        a, b = operands(rng, m, k, n)
        got = lp.systolic.simulate(a, b, rows=rows, cols=cols, dtype="bf16", **WAYS[way])
        if not same_bits(got.values, lp.matmul(a, b, "bf16")):
            found.append("bits")
        if got.cycles != lp.cost.systolic(rows, cols, **WAYS[way]).matmul(m, k, n).cycles:
            found.append("cycles")
    return found


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_seen(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    where, name, replacement, way = BUGS[bug]
    assert faults(rng, way) == []
    monkeypatch.setattr(where, name, replacement)
    found = faults(rng, way)
    assert found
    assert set(found) <= {"bits", "cycles"}
    a, b = operands(rng, 4, 9, 5)
    if "counted" not in bug:
        assert differences(a, b, 4, 4, "bf16", None, **WAYS[way])


# ------------------------------------------------------------------------------------------------------------ traces
@pytest.fixture(scope="module")
def traced() -> Any:
    x = np.arange(16, dtype=np.int8).reshape(4, 4)
    return lp.systolic.simulate(x, x, rows=4, cols=4, trace=True)


def test_the_example_of_every_introduction(traced: Any) -> None:
    """a[m, k] meets b[k, n] in row k and column n, k + n cycles after a[m, 0] entered row 0."""
    assert traced.cycles == 14 == len(traced.trace)
    for cycle in range(14):
        moment = traced.trace.at(cycle)
        for r in range(4):
            for c in range(4):
                m = cycle - 4 - r - c
                assert moment.active[r, c] == (0 <= m < 4)
                if 0 <= m < 4:
                    places = [getattr(moment, x).indices[r, c].tolist() for x in "abc"]
                    assert places == [[m, r], [r, c], [m, c]]
                    x = np.arange(16).reshape(4, 4)
                    assert moment.c.values[r, c] == x[m, : r + 1] @ x[: r + 1, c]
    assert traced.trace.at(-1).left.tolist() == [[3, 3]]


def test_table_of_a_cycle(traced: Any) -> None:
    text = traced.trace.table(7)
    assert text.splitlines()[0] == "cycle 7, stream"
    assert "a03 b30 > c00" in text
    assert text.splitlines()[-1] == "left the array: c00"
    assert "a00" not in traced.trace.table(0)
    assert "." in traced.trace.table(0)
    assert str(traced.trace).count("cycle ") == 14
    wide = lp.systolic.simulate(np.ones((1, 11)), np.ones((11, 1)), rows=12, cols=1, dtype="fp16", trace=True)
    assert "a0,10 b10,0 > c0,0" in wide.trace.table(22)
    assert "0 c0,0" in wide.trace.table(23)


def test_pictures(traced: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed; it comes with the extra `study`")
    svg = traced.trace.plot(tmp_path / "cycle.svg", cycle=7).read_text(encoding="utf-8")
    for word in ("a03", "b30", "c00", "a33", "streaming"):
        assert f"{word} " in svg or f"{word}<" in svg or word in svg
    assert svg == traced.trace.plot(tmp_path / "again.svg", cycle=-7).read_text(encoding="utf-8")
    x = np.ones((2, 2), np.int8)
    small = lp.systolic.simulate(x, x, rows=2, cols=2, dataflow="os", drain=True, trace=True).trace
    path = small.to_gif(tmp_path / "cycles.gif", seconds=0.5)
    from PIL import Image

    with Image.open(path) as image:
        assert image.n_frames == len(small) == 6
        assert image.info["duration"] == 500


def test_page_holds_everything_and_loads_nothing(traced: Any, tmp_path: Path) -> None:
    text = traced.trace.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "src=" not in text
    assert text.count('"title":') == 14
    assert 'max="13"' in text
    assert "$" not in text


def test_results_print(traced: Any) -> None:
    assert "in all" in str(traced)
    assert "<table>" in traced._repr_html_()
    assert "values" not in repr(traced)
    assert traced.cycles == 14
    assert traced.utilisation == 64 / (14 * 16)


def test_public_names_are_documented() -> None:
    from tests.test_public_api import faults

    made = [(lp.systolic, lp.systolic.__all__), (lp.cost, ["systolic", "SystolicArray", "SystolicRun"])]
    assert [fault for package, names in made for name in names for fault in faults(name, getattr(package, name))] == []


# --------------------------------------------------------------------------------------------------------- bad input
X = np.ones((2, 2), np.float32)
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rows": 0}, ValueError, "`rows` must be from 1"),
    ({"cols": -3}, ValueError, "`cols` must be from 1"),
    ({"rows": 2.0}, TypeError, "`rows` must be an integer"),
    ({"rows": 10**6, "cols": 10**6}, ValueError, "`rows` x `cols` must be at most"),
    ({"dataflow": "weight_stationery"}, ValueError, "the closest: 'weight-stationary'"),
    ({"dataflow": 1}, TypeError, "`dataflow` must be one of"),
    ({"dataflow": "os", "double_buffered": True}, ValueError, "`double_buffered` must be False"),
    ({"drain": True}, ValueError, "`drain` must be False"),
    ({"double_buffered": 1}, TypeError, "`double_buffered` must be True or False"),
    ({"trace": "no"}, TypeError, "`trace` must be True or False"),
    ({"a": np.ones((2, 3), np.float32)}, ValueError, "as many columns as `b` has rows"),
    ({"a": np.ones((0, 2), np.float32)}, ValueError, "M, K and N at least 1"),
    ({"a": np.ones((2, 0)), "b": np.ones((0, 2))}, ValueError, "M, K and N at least 1"),
    ({"a": np.ones(2, np.float32)}, ValueError, "must be matrices"),
    ({"a": np.ones((1, 2, 2), np.float32)}, ValueError, "must be matrices"),
    ({"dtype": "int8"}, TypeError, "would have to be quantised"),
    ({"dtype": "mxfp4"}, TypeError, "would have to be quantised"),
    ({"dtype": "bf61"}, ValueError, "bf16"),
    ({"accumulator": "exact"}, ValueError, "one product after the other"),
    ({"accumulator": "pairwise"}, ValueError, "one product after the other"),
    ({"accumulator": "nvidia-hopper", "dtype": "fp16"}, ValueError, "one product after the other"),
    ({"accumulator": "int32"}, ValueError, "takes integer operands"),
    ({"accumulator": lp.Chunked("fp16", every=3)}, ValueError, "chunks of `rows` = 2"),
    ({"accumulator": lp.Chunked("fp16", every=2), "dataflow": "os"}, ValueError, "must not be chunked"),
    ({"accumulator": lp.Chunked("fp16", every=2, outer=lp.Pairwise())}, ValueError, "one after the other"),
    ({"accumulator": lp.Sequential("fp16", "stochastic")}, ValueError, "`rng` must be given"),
    ({"a": np.ones((2, 2), np.int8), "b": np.ones((2, 2), np.int8), "accumulator": lp.Integer(8, "raise")}, ValueError,
     "wraps or saturates"),
    ({"a": np.ones((2, 2), np.int8), "b": np.ones((2, 2), np.int8), "accumulator": lp.Integer(8, "saturate", 4)},
     ValueError, "wraps or saturates"),
    ({"a": lp.quantize(X, "int8")}, TypeError, "scales"),
    ({"a": lp.Sparse24.from_dense(np.zeros((2, 4))), "b": np.ones((4, 2))}, TypeError, "dense"),
    ({"a": X * np.nan, "dtype": "e2m1fn"}, ValueError, "no NaN"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_input(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments: dict[str, Any] = {"a": X, "b": X, "rows": 2, "cols": 2, **change}
    with pytest.raises(error, match="(?s).*" + words.replace("(", r"\(")):
        lp.systolic.simulate(arguments.pop("a"), arguments.pop("b"), **arguments)


def test_bad_cycles_and_large_traces(traced: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cycle, error in ((14, ValueError), (-15, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="`cycle`"):
            traced.trace.table(cycle)
    with pytest.raises(ValueError, match=r"end in \.gif"):
        traced.trace.to_gif(tmp_path / "x.png")
    with pytest.raises(ValueError, match="`seconds`"):
        traced.trace.to_gif(tmp_path / "x.gif", seconds=0)
    wide = lp.systolic.simulate(X, X, rows=33, cols=1, trace=True).trace
    for draw in (lambda: wide.plot(tmp_path / "x.png", cycle=0), lambda: wide.to_html(tmp_path / "x.html")):
        with pytest.raises(ValueError, match="at most 32"):
            draw()
    monkeypatch.setattr(_trace, "_ROOM", 1000)
    with pytest.raises(ValueError, match="`trace` must be False"):
        lp.systolic.simulate(X, X, rows=4, cols=4, trace=True)
    monkeypatch.setattr(_simulate, "_PLACES", 3)
    with pytest.raises(ValueError, match="fewer than"):
        lp.systolic.simulate(X, X, rows=4, cols=4)
