"""Observers against their definitions in plain Python, against torch, and with batches cut in different ways."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import _histogram, calibration
from lowprec._clipping import best_ranges, ratios

OBSERVERS = {
    "absmax": lp.AbsMax,
    "minmax": lp.MinMax,
    "moving_average": lp.MovingAverage,
    "percentile": lp.Percentile,
    "mse": lambda **how: lp.MSE("int4", **how),
    "entropy": lp.Entropy,
}


# ----------------------------------------------------------------------------- slow twins, written from the rule
def slow_counts(batches: list[list[float]], bins: int) -> tuple[float, list[int]]:
    """Return the top and the counts of magnitudes after batches: bins of the final width, filled one by one."""
    top = 0.0
    for batch in batches:
        largest = max(map(abs, batch))
        top = top or largest
        while top < largest:
            top *= 2
    counts = [0] * bins
    for number in (abs(v) for batch in batches for v in batch):
        counts[max(math.ceil(number / top * bins) - 1, 0) if top else 0] += 1
    return top, counts


def slow_percentile(top: float, counts: list[int], percent: float) -> float:
    running = 0
    for place, count in enumerate(counts, 1):
        running += count
        if running >= percent / 100 * sum(counts):
            return top * place / len(counts)
    raise AssertionError


def slow_entropy(top: float, counts: list[int], levels: int) -> float:
    """Return the threshold of TensorRT's algorithm, with lists."""
    best, threshold = math.inf, top
    for i in range(levels, len(counts) + 1):
        p = [float(c) for c in counts[:i]]
        p[-1] += sum(counts[i:])
        q = [0.0] * i
        for level in range(levels):
            run = [j for j in range(i) if j * levels // i == level]
            filled = [j for j in run if counts[j]]
            for j in filled:
                q[j] = sum(counts[k] for k in run) / len(filled)
        if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
            continue
        divergence = sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True) if a > 0)
        if divergence <= best:
            best, threshold = divergence, top * i / len(counts)
    return threshold


def slow_error(
    x: np.ndarray, lo: float, hi: float, fmt: Any, symmetric: bool, counts: np.ndarray | None = None
) -> float:
    """Return the squared error of quantising to a range, in float64, one number at a time."""
    fmt, total = lp.format(fmt), 0.0
    for number, count in zip(x.tolist(), [1] * x.size if counts is None else counts.tolist(), strict=True):
        if symmetric:
            scale = max(abs(lo), abs(hi)) / fmt.max or 1.0
            if isinstance(fmt, lp.IntFormat):
                back = max(-fmt.max, min(fmt.max, round(number / scale))) * scale
            else:
                back = float(lp.round_to(number / scale, fmt, overflow="saturate")) * scale
        else:
            lo, hi = min(lo, 0), max(hi, 0)
            scale = (hi - lo) / (fmt.max - fmt.min) or 1.0
            point = max(fmt.min, min(fmt.max, round(fmt.min - lo / scale)))
            back = (max(fmt.min, min(fmt.max, round(number / scale) + point)) - point) * scale
        total += count * (back - number) ** 2
    return total


# ------------------------------------------------------------------------------------------ ranges of batches
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5), min_size=1, max_size=5), st.floats(0.01, 1))
def test_ends_of_batches(batches: list[list[float]], momentum: float) -> None:
    everything = [v for batch in batches for v in batch]
    least, largest, average = lp.MinMax(), lp.AbsMax(), lp.MovingAverage(momentum)
    lo, hi = min(batches[0]), max(batches[0])
    for batch in batches:
        assert least.update(batch) is least
        largest.update(batch)
        average.update(batch)
        lo, hi = lo + momentum * (min(batch) - lo), hi + momentum * (max(batch) - hi)
    assert least.range == (min(everything), max(everything))
    assert largest.range == (-max(map(abs, everything)), max(map(abs, everything)))
    assert average.range == (lo, hi)
    assert least.count == len(everything)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axis_is_one_observer_for_each_index(name: str, axis: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 4, 500)).astype(np.float32)
    together = OBSERVERS[name](axis=axis if axis >= 0 else 1)
    apart = [OBSERVERS[name]() for _ in range(x[0].shape[axis if axis >= 0 else 1])]
    for batch in x:
        together.update(batch)
        for index, observer in enumerate(apart):
            observer.update(np.take(batch, index, axis=together.axis))
    np.testing.assert_array_equal(np.transpose(together.range), [observer.range for observer in apart])
    assert together.count == x.size


@pytest.mark.parametrize("name", OBSERVERS)
def test_dtypes(name: str, rng: np.random.Generator) -> None:
    """The same numbers in any dtype, order and strides give the same range."""
    x = np.round(rng.standard_normal((40, 30)) * 10)
    want = OBSERVERS[name]().update(x).range
    for same in (x.astype(np.float16), x.astype(ml_dtypes.bfloat16), x.astype(np.int64), x.T, x[::-1], x.tolist()):
        assert OBSERVERS[name]().update(same).range == want
    assert OBSERVERS[name]().update([]).update(x).update(np.zeros((0, 3))).range == want


@pytest.mark.parametrize("name", OBSERVERS)
def test_nothing_but_zeros(name: str) -> None:
    observer = OBSERVERS[name]().update([0.0, 0.0])
    assert observer.range == (0, 0)
    assert 0 < observer.update([0.0, 5.0]).range[1] <= 5


# ------------------------------------------------------------------------------------------------- histograms
NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20)


@given(st.lists(NUMBERS, min_size=1, max_size=4), st.sampled_from([2, 8, 64]))
def test_histogram(batches: list[list[float]], bins: int) -> None:
    histogram = _histogram.Histogram(1, bins)
    for batch in batches:
        histogram.add(np.array([batch]))
    top, counts = slow_counts(batches, bins)
    assert histogram.top[0] == top
    assert histogram.magnitudes()[0].tolist() == counts


def test_histogram_after_growth_is_that_of_the_wider_range(rng: np.random.Generator) -> None:
    """Nothing is interpolated: doubling gives the counts that the wide histogram would have had."""
    batches = [rng.standard_normal(1000) * scale for scale in (1, 3, 0.1, 50)]
    grown, wide = _histogram.Histogram(1, 128), _histogram.Histogram(1, 128)
    for batch in batches:
        grown.add(batch[None])
    wide.top[0] = grown.top[0]
    wide.add(np.concatenate(batches)[None])
    np.testing.assert_array_equal(grown.counts, wide.counts)
    assert grown.top[0] / 2 < np.abs(np.concatenate(batches)).max() <= grown.top[0]


@given(st.lists(NUMBERS, min_size=1, max_size=4), st.sampled_from([50.0, 90.0, 99.9, 100.0]))
def test_percentile(batches: list[list[float]], percent: float) -> None:
    observer = lp.Percentile(percent, bins=16)
    for batch in batches:
        observer.update(batch)
    top, counts = slow_counts(batches, 16)
    largest = max(abs(v) for batch in batches for v in batch)
    want = min(slow_percentile(top, counts, percent), largest) if top else 0.0
    # The twin divides fractions; one float64 product and quotient are up to 4 units of 2**-53 off.
    assert observer.range == pytest.approx((-want, want), rel=1e-15)


@pytest.mark.parametrize("percent", [90, 99, 99.9, 99.99])
def test_percentile_of_many(percent: float, rng: np.random.Generator) -> None:
    """At least that share lies within the range, and one bin less would not do."""
    x = rng.standard_normal(200_000)
    bin_width = np.abs(x).max() / 2048
    top = lp.Percentile(percent).update(x).range[1]
    assert (np.abs(x) <= top).mean() >= percent / 100 > (np.abs(x) < top - bin_width).mean()
    lo, hi = lp.Percentile(percent, symmetric=False).update(np.exp(x)).range
    cut = (1 - percent / 100) / 2
    assert (np.exp(x) > hi).mean() <= cut
    assert (np.exp(x) < lo).mean() <= cut
    assert lo >= 0


@pytest.mark.parametrize("kind", ["normal", "outlier", "relu", "laplace", "gaps"])
def test_entropy(kind: str, rng: np.random.Generator) -> None:
    x = {
        "normal": rng.standard_normal(3000),
        "outlier": np.append(rng.standard_normal(3000), 30.0),
        "relu": np.maximum(rng.standard_normal(3000), 0),
        "laplace": rng.laplace(size=3000),
        "gaps": rng.choice([0.1, 1.0, 5.0, 9.0], 3000),
    }[kind]
    got = lp.Entropy(bins=256, levels=32).update(x).range
    top, counts = slow_counts([x.tolist()], 256)
    want = min(slow_entropy(top, counts, 32), np.abs(x).max())
    assert got == (-want, want)
    if kind == "outlier":
        assert want < 8


def test_entropy_without_symmetry_stays_within_the_data(rng: np.random.Generator) -> None:
    lo, hi = lp.Entropy(symmetric=False).update(np.maximum(rng.standard_normal(10_000), 0)).range
    assert lo == 0
    assert hi > 1.5


# ----------------------------------------------------------------------------------------------- squared error
@pytest.mark.parametrize(("fmt", "symmetric"), [("int4", True), ("int8", True), ("uint4", False), ("int2", False)])
def test_mse_of_integers_is_the_best_of_all_trials(fmt: str, symmetric: bool, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 40)) * [[1], [1e-3], [100]] + (0 if symmetric else 1)
    x[1, 3] = 1
    lo, hi = best_ranges(x, lp.format(fmt), symmetric=symmetric, divisor=lp.format(fmt).max)
    for row, low, high in zip(x, lo, hi, strict=True):
        ends = (-np.abs(row).max(), np.abs(row).max()) if symmetric else (min(row.min(), 0), max(row.max(), 0))
        common = [slow_error(row, r * ends[0], r * ends[1], fmt, symmetric) for r in np.arange(1, 101) / 100]
        got = slow_error(row, low, high, fmt, symmetric)
        # Both sum up to 64 float64 squares in another order: less than 64 units of 2**-53; a step is far above 1e-9.
        assert got == pytest.approx(min(common), rel=1e-9) if symmetric else got <= min(common) * (1 + 1e-9)
        if not symmetric:  # and neither end alone can do better
            alone = [slow_error(row, low, r * ends[1], fmt, symmetric) for r in np.arange(1, 101) / 100]
            assert got <= min(alone) * (1 + 1e-9)


def test_mse_of_floats_may_lengthen_the_range(rng: np.random.Generator) -> None:
    """[6, 5, 5, 5] in E2M1: 5 lies between 4 and 6; with the largest at 4, 5 comes to 3.33, nearer to a value."""
    x = np.array([[6.0, 4.5, 4.5, 4.5]])
    lo, hi = best_ranges(x, lp.format("e2m1fn"), symmetric=True, divisor=6)
    errors = {r: slow_error(x[0], -6 * r, 6 * r, "e2m1fn", True) for r in np.arange(1, 201) / 100}
    assert hi[0] > 6
    # The same four squares, up to the rounding of their sum: pytest's 1e-6 is above 4 units of 2**-53.
    assert slow_error(x[0], lo[0], hi[0], "e2m1fn", True) == pytest.approx(min(errors.values()))


def test_first_trial_is_the_data_itself() -> None:
    """Of equal errors the range nearest to the data's is taken: exact data keep theirs."""
    x = np.arange(-7.0, 8)[None]
    assert best_ranges(x, lp.format("int4"), symmetric=True, divisor=7)[1] == [7]
    for fmt in ("int4", "e2m1fn"):
        tried = ratios(lp.format(fmt))
        assert tried[0] == 1
        assert sorted(tried) == [i / 100 for i in range(1, 101 if fmt == "int4" else 201)]


def test_mse_observer_sees_the_histogram(rng: np.random.Generator) -> None:
    x = rng.standard_normal(5000)
    observer = lp.MSE("int4", bins=64)
    for part in np.split(x, 5):
        observer.update(part)
    top, _ = slow_counts([part.tolist() for part in np.split(x, 5)], 64)
    edges = np.arange(-64, 65) / 64 * top
    counts = np.histogram(x, edges)[0]
    centres = (edges[1:] + edges[:-1]) / 2
    tried = {
        r: slow_error(centres, -edges[-1] * r, edges[-1] * r, "int4", True, counts) for r in np.arange(1, 101) / 100
    }
    got = observer.range[1]
    assert (
        slow_error(centres, -got, got, "int4", True, counts) <= min(tried.values()) * 1.02
    )  # its grid ends at the data


@pytest.mark.parametrize(("bits", "best"), [(2, 1.22), (3, 1.95), (4, 2.48), (8, 3.92)])
def test_mse_of_a_normal_distribution(bits: int, best: float) -> None:
    """The clip of least error for N(0, 1) and 2**bits - 1 even levels, found by integrating the error."""
    grid = np.linspace(-8, 8, 40_001)
    density = np.exp(-(grid**2) / 2)
    most = 2 ** (bits - 1) - 1

    def error(clip: float) -> float:
        step = clip / most
        return float(np.sum(density * (np.clip(np.rint(grid / step), -most, most) * step - grid) ** 2))

    clips = np.arange(0.5, 5, 0.02)
    exact = clips[np.argmin([error(clip) for clip in clips])]
    # The grid of clips has steps of 0.02.
    assert exact == pytest.approx(best, abs=0.02)
    got = lp.MSE(f"int{bits}").update(np.random.default_rng(1).standard_normal(300_000)).range[1]
    # Candidates lie a hundredth of the largest magnitude (about 4.7) apart, 0.05, on a flat minimum; so much again is
    # the sample's.
    assert got == pytest.approx(exact, abs=0.12)
    assert error(got) <= error(exact) * 1.03


# ------------------------------------------------------------------------------------- many groups at one time
@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_groups(kind: str, symmetric: bool, rng: np.random.Generator) -> None:
    """Each group gets what an observer of its own finds, padding aside."""
    many = {"entropy": 4}.get(kind, 300)
    groups = rng.standard_normal((many, 32)).astype(np.float32) + (0 if symmetric else 3)
    valid = np.ones(groups.shape, bool)
    valid[-1, 20:] = False
    groups[-1, 20:] = 99
    how: dict[str, Any] = {"fmt": lp.format("int4"), "symmetric": symmetric, "divisor": 7}
    lo, hi = calibration.ranges(kind, groups, valid, **how)
    assert lo.dtype == hi.dtype == np.float32
    plain = calibration.ranges(kind, groups[:-1], **how)
    np.testing.assert_array_equal(np.array([lo, hi])[:, :-1], plain)
    for index in (0, 2, many - 1):
        if kind == "mse":  # the numbers themselves, not a histogram
            want = best_ranges(groups[index][valid[index]][None], **how)
        else:
            want = calibration.make(kind, **how).update(groups[index][valid[index]]).range
        np.testing.assert_array_equal([lo[index], hi[index]], np.float32(want).reshape(2))


def test_thousands_of_groups_are_not_looped_over(rng: np.random.Generator) -> None:
    """576 x 1536 in groups of 32 within seconds, which a loop of Python over groups would not be."""
    groups = rng.standard_normal((27_648, 32), dtype=np.float32)
    lo, hi = calibration.ranges("mse", groups, fmt=lp.format("int4"), symmetric=True, divisor=7)
    ratio = hi / np.abs(groups).max(axis=1)
    assert 0.8 < np.median(ratio) < 1
    np.testing.assert_array_equal(lo, -hi)


# ---------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("name", OBSERVERS)
def test_no_data_no_range(name: str) -> None:
    with pytest.raises(ValueError, match=r"must see data before it has a range, got none; call update\(x\) first"):
        _ = OBSERVERS[name]().update([]).range


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e308])
def test_bad_numbers_are_not_counted(name: str, bad: float) -> None:
    observer = OBSERVERS[name]().update([1.0, 2.0])
    before = observer.range
    with pytest.raises(ValueError, match=r"`x` must be (finite, got -?(nan|inf) at index \(1, 0\)|less than 2)"):
        observer.update([[1.0, 2.0], [bad, 0.0]])
    assert (observer.range, observer.count) == (before, 2)


@pytest.mark.parametrize("name", OBSERVERS)
def test_shapes_must_fit(name: str) -> None:
    observer = OBSERVERS[name](axis=1).update(np.ones((2, 3)))
    with pytest.raises(ValueError, match="must have length 3 along axis 1 as before, got 4"):
        observer.update(np.ones((2, 4)))
    with pytest.raises(ValueError, match="must have the axis 1"):
        observer.update([1.0])
    with pytest.raises(TypeError, match="must hold real numbers"):
        observer.update(["a"])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: lp.AbsMax(axis="0"), TypeError, "`axis` must be an integer"),
        (lambda: lp.MovingAverage(0), ValueError, "`momentum` must be above 0 and at most 1, got 0"),
        (lambda: lp.MovingAverage("1"), TypeError, "`momentum` must be a number"),
        (lambda: lp.MovingAverage(np.nan), ValueError, "`momentum` must be above 0"),
        (lambda: lp.Percentile(101), ValueError, "`percentile` must be above 0 and at most 100, got 101"),
        (lambda: lp.Percentile(bins=7), ValueError, "`bins` must be even and 2 or more, got 7"),
        (lambda: lp.Percentile(bins=2.5), TypeError, "`bins` must be an integer"),
        (lambda: lp.Percentile(symmetric=1), TypeError, "`symmetric` must be True or False"),
        (lambda: lp.Entropy(levels=4096), ValueError, "`levels` must be from 2 to the number of bins, 2048, got 4096"),
        (lambda: lp.MSE("int99"), ValueError, "`fmt`"),
        (lambda: lp.MSE("uint8"), ValueError, "`symmetric` must be False for `uint8`"),
        (lambda: lp.MSE("e4m3fn", symmetric=False), ValueError, "only integers have a zero point"),
        (lambda: lp.MSE("int8", divisor=0), ValueError, "`divisor` must be above 0 and finite, got 0"),
        (lambda: calibration.make("msee", lp.format("int8"), divisor=127), ValueError, "the closest: 'mse'"),
        (lambda: calibration.make(3, lp.format("int8"), divisor=127), TypeError, "must be an observer or one of"),
    ],
)
def test_bad_parameters(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_parameters_stay_as_they_are() -> None:
    observer = lp.Percentile(99.9, bins=64, axis=0)
    for name in ("percentile", "bins", "axis", "count", "symmetric"):
        with pytest.raises(AttributeError):
            setattr(observer, name, 1)
    assert repr(observer) == "Percentile(99.9, bins=64, axis=0, count=0)"
    assert repr(lp.MSE("int4", symmetric=False)) == "MSE('int4', bins=2048, symmetric=False, count=0)"
    assert repr(lp.Entropy()) == "Entropy(bins=2048, levels=128, count=0)"
    assert repr(lp.MovingAverage(axis=1)) == "MovingAverage(momentum=0.01, axis=1, count=0)"


# ------------------------------------------------------------------------------------------------------ oracles
@pytest.mark.oracles
def test_moving_average_is_torchs(rng: np.random.Generator) -> None:
    """Equal to float32's last bits: torch averages in float32."""
    pytest.importorskip("torch")
    import torch
    from torch.ao.quantization.observer import MovingAverageMinMaxObserver

    theirs, ours = MovingAverageMinMaxObserver(averaging_constant=0.01), lp.MovingAverage(0.01)
    for _ in range(50):
        batch = rng.standard_normal(1000).astype(np.float32)
        theirs(torch.from_numpy(batch))
        ours.update(batch)
    # torch averages in float32: 50 steps of 2**-24 each.
    np.testing.assert_allclose(ours.range, [float(theirs.min_val), float(theirs.max_val)], rtol=3e-6)


# ----------------------------------------------------------------------------- planted: the twins see the mistakes
def test_planted_forgotten_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the outliers in P's last bin the shortest range, which merges nothing, would always win."""
    x = np.random.default_rng(2).standard_normal(3000)
    top, counts = slow_counts([x.tolist()], 256)
    right = slow_entropy(top, counts, 32)
    kept = _histogram.entropy_bins(np.array(counts), 32)
    assert kept / 256 * top == right
    cut = [_histogram.entropy_bins(np.array(counts[:i]), 32) for i in (32, 64)]
    assert cut == [32, cut[1]]
    assert kept > 64


def test_planted_growth_that_moves_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, channel: int, largest: float) -> None:
        self.top[channel] = max(self.top[channel], largest)  # the counts stay where they were

    monkeypatch.setattr(_histogram.Histogram, "_grow", wrong)
    with pytest.raises(AssertionError):
        test_histogram_after_growth_is_that_of_the_wider_range(np.random.default_rng(0))
