"""Orders of channels: a permutation that keeps more, the best there is for small weights, and the same network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import smollm
from hypothesis import given, settings
from hypothesis import strategies as st

import lowprec as lp
from lowprec.kernels import permute
from lowprec.pruning import _search

Array = np.ndarray[Any, Any]
PATTERNS = ("2:4", "1:2", "4:8", "1:4", "3:5", "4:6/2")


def kept(scores: Array, order: Any, pattern: str) -> float:
    """Return what a pattern keeps of scores with channels in an order: the definition, one group at a time."""
    what = _pattern(pattern)
    total = 0.0
    for row in scores[:, list(order)]:
        for first in range(0, len(row), what.group):
            group = row[first : first + what.group]
            runs = [group[at : at + what.run].sum() for at in range(0, len(group), what.run)]
            total += sum(sorted(runs, reverse=True)[: what.kept // what.run])
    return total


def _pattern(name: str) -> lp.SparsityPattern:
    kept, _, rest = name.partition(":")
    group, _, run = rest.partition("/")
    return lp.SparsityPattern(int(kept), int(group), int(run or (2 if name == "4:8" else 1)))


def divisions(channels: tuple[int, ...], group: int) -> Iterator[list[int]]:
    """Yield an order for every way to divide channels into groups."""
    if not channels:
        yield []
        return
    for others in combinations(channels[1:], group - 1):
        rest = tuple(c for c in channels[1:] if c not in others)
        for tail in divisions(rest, group):
            yield [channels[0], *others, *tail]


def fast_kept(scores: Array, order: Any) -> float:
    """Return what 2:4 keeps."""
    groups = scores[:, order].reshape(len(scores), -1, 4)
    return float(np.sort(groups, axis=-1)[..., 2:].sum())


def weight(seed: int, rows: int, columns: int) -> Array:
    return np.random.default_rng(seed).standard_t(3, (rows, columns))


# --------------------------------------------------------------------------------------------------- against the slow
def test_counts_of_divisions() -> None:
    # Pool and Yu, section 3: 35 for 8 columns, 5,775 for 12.
    assert [_search.divisions(4, many) for many in (1, 2, 3)] == [1, 35, 5775]
    for group, many in ((2, 3), (4, 2), (3, 3)):
        found = list(divisions(tuple(range(group * many)), group))
        subsets, members, parts = _search._windows(group, many)
        assert len(parts) == len(found) == _search.divisions(group, many)
        assert [list(np.concatenate(subsets[part])) for part in parts] == found
        assert [[int(b) for b in range(group * many) if m >> b & 1] for m in members] == subsets.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_all_divisions_of_eight(seed: int) -> None:
    w = weight(seed, 7, 8)
    best = max(kept(abs(w), order, "2:4") for order in divisions(tuple(range(8)), 4))
    found = lp.search_permutation(w, method="exhaustive")
    # Two float64 sums of 28 numbers each.
    assert found.kept_after * abs(w).sum() == pytest.approx(best, rel=1e-13)


def test_all_divisions_of_twelve() -> None:
    w = weight(5, 6, 12)
    best = max(fast_kept(abs(w), order) for order in divisions(tuple(range(12)), 4))
    found = lp.search_permutation(w, method="exhaustive", stripe=12)
    assert found.kept_after * abs(w).sum() == pytest.approx(best, rel=1e-13)
    # Two groups at a time reach it in some starts only; never more.
    eight = lp.search_permutation(w, method="exhaustive", escapes=30, rng=0)
    assert eight.kept_after <= found.kept_after + 1e-13


@pytest.mark.parametrize(("pattern", "stripe"), [("1:2", 6), ("1:4", 8), ("3:5", 10)])
def test_all_divisions_of_other_patterns(pattern: str, stripe: int) -> None:
    w = weight(6, 9, stripe)
    group = _pattern(pattern).group
    best = max(kept(abs(w), order, pattern) for order in divisions(tuple(range(stripe)), group))
    found = lp.search_permutation(w, pattern, method="exhaustive", stripe=stripe)
    assert found.kept_after * abs(w).sum() == pytest.approx(best, rel=1e-13)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("columns", [16, 13])
def test_greedy_ends_where_no_swap_gains(pattern: str, columns: int) -> None:
    w = weight(7, 6, columns)
    found = lp.search_permutation(w, pattern)
    assert found.finished
    assert found.kept_after > found.kept_before
    total, order = abs(w).sum(), list(found.order)
    for i, j in combinations(range(columns), 2):
        swapped = list(order)
        swapped[i], swapped[j] = swapped[j], swapped[i]
        # Scores are rounded to 2**-22 of the largest: a sum over 6 rows may be off by as much in each number.
        assert kept(abs(w), swapped, pattern) <= (found.kept_after + 1e-6) * total


def test_greedy_takes_the_swap_that_gains_most() -> None:
    """The slow search: every swap tried, the best one made, until none gains; on whole numbers nothing is rounded."""
    w = np.random.default_rng(8).integers(0, 1000, (5, 16)).astype(float)
    w[0, 0] = 1023
    order = list(range(16))
    while True:
        at = kept(w, order, "2:4")
        tried = {}
        for a, b in combinations(range(16), 2):
            swapped = [b if c == a else a if c == b else c for c in order]
            tried[a, b] = kept(w, swapped, "2:4") - at
        a, b = max(tried, key=lambda pair: tried[pair])  # the lowest of equals
        if tried[a, b] <= 0:
            break
        order = [b if c == a else a if c == b else c for c in order]
    found = lp.search_permutation(w)
    slow = [sorted(order[at : at + 4]) for at in range(0, 16, 4)]
    assert found.order.reshape(-1, 4).tolist() == slow


def test_paper_order_of_windows_reaches_no_more() -> None:
    """The best window first, as in the paper, ends in another local optimum: within half a percent of the total."""
    w = abs(weight(9, 40, 32))
    groups = [list(range(at, at + 4)) for at in range(0, 32, 4)]
    ways = list(divisions(tuple(range(8)), 4))
    while True:
        best: tuple[float, int, int, list[int]] = (1e-9, 0, 0, [])
        for g, h in combinations(range(8), 2):
            eight = np.array(groups[g] + groups[h])
            now = fast_kept(w, eight)
            for way in ways[1:]:
                gain = fast_kept(w, eight[way]) - now
                if gain > best[0]:
                    best = gain, g, h, eight[way].tolist()
        if not best[3]:
            break
        groups[best[1]], groups[best[2]] = best[3][:4], best[3][4:]
    theirs = fast_kept(w, np.concatenate(groups)) / w.sum()
    ours = lp.search_permutation(w, method="exhaustive")
    assert ours.kept_after > theirs - 0.005
    assert lp.search_permutation(w, method="exhaustive", escapes=200, rng=0).kept_after >= ours.kept_after
    assert ours.kept_after > lp.search_permutation(w).kept_before


def test_no_window_gains_at_the_end() -> None:
    """At its end no division of any two groups gains."""
    w = abs(weight(19, 6, 24))
    order = lp.search_permutation(w, method="exhaustive").order.reshape(-1, 4)
    for g, h in combinations(range(6), 2):
        eight = np.concatenate([order[g], order[h]])
        now = fast_kept(w, eight)
        for way in divisions(tuple(range(8)), 4):
            # Scores are rounded to 2**-22 of the largest.
            assert fast_kept(w, eight[way]) <= now + 1e-5 * w.max()


# -------------------------------------------------------------------------------------------------------- properties
@given(
    st.integers(1, 6),
    st.integers(1, 21),
    st.sampled_from(PATTERNS),
    st.sampled_from(["greedy", "exhaustive"]),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_properties(rows: int, columns: int, pattern: str, method: str, escapes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.integers(-8, 9, (rows, columns)) * rng.choice([0.0, 1.0, 1e-30, 1e30], (rows, columns))
    if _pattern(pattern).run > 1:
        method = "greedy"
    found = lp.search_permutation(w, pattern if pattern != "4:6/2" else _pattern(pattern), method=method,
                                  escapes=escapes, rng=seed)  # fmt: skip
    assert sorted(found.order.tolist()) == list(range(columns))
    assert np.array_equal(found.order[found.inverse], np.arange(columns))
    assert np.array_equal(found.inverse[found.order], np.arange(columns))
    assert found.kept_after >= found.kept_before
    assert np.array_equal(found.apply_inverse(found.apply(w)), w)
    assert np.array_equal(found.apply(w), w[:, found.order])
    total = abs(w).sum() or 1.0
    ratio = kept(abs(w), found.order, pattern) / total if abs(w).sum() else 1.0
    assert found.kept_after == pytest.approx(ratio, rel=1e-13)
    mask = lp.sparsity_mask(found.apply(w), _pattern(pattern))
    if abs(w).sum():
        assert found.kept_after == pytest.approx(abs(found.apply(w)[mask]).sum() / total, rel=1e-13)


@given(st.integers(0, 2**32), st.sampled_from(["greedy", "exhaustive"]))
@settings(max_examples=10, deadline=None)
def test_function_of_the_network_is_unchanged(seed: int, method: str) -> None:
    rng = np.random.default_rng(seed)
    x, w1, b1, w2, b2 = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((5, 9), (24, 9), (24,), (6, 24), (6,))
    )
    found = lp.search_permutation(w2, method=method)

    def network(w1: Array, b1: Array, w2: Array, accumulator: str) -> Array:
        hidden = np.maximum(lp.linear(x, w1, b1, "bf16", accumulator=accumulator), 0)
        return np.asarray(lp.linear(hidden, w2, b2, "bf16", accumulator=accumulator))

    before = w1, b1, w2
    after = found.apply(w1, axis=0), found.apply(b1), found.apply(w2)
    assert np.array_equal(network(*before, "exact"), network(*after, "exact"))
    # 24 products and their sums in float32, of numbers whose absolute values sum to less than 100.
    assert np.allclose(network(*before, "fp32"), network(*after, "fp32"), rtol=0, atol=25 * 2**-24 * 100)


# ------------------------------------------------------------------------------------------------------------ options
def test_axis_and_more_axes() -> None:
    w = weight(10, 12, 16)
    there = lp.search_permutation(w)
    assert np.array_equal(lp.search_permutation(w.T, axis=0).order, there.order)
    conv = w.reshape(4, 3, 16).transpose(0, 2, 1)[..., None]  # (outputs, channels, 3, 1)
    moved = lp.search_permutation(conv, axis=1)
    assert np.array_equal(moved.order, there.order)
    assert np.array_equal(moved.apply(conv, axis=1), conv[:, moved.order])


def test_weights_that_share_an_input() -> None:
    w = [weight(11, 5, 16), weight(12, 9, 16).astype(np.float32)]
    both = lp.search_permutation(w)
    assert np.array_equal(both.order, lp.search_permutation(np.concatenate(w)).order)
    total = sum(abs(each).sum(dtype=np.float64) for each in w)
    here = sum(kept(abs(each.astype(np.float64)), both.order, "2:4") for each in w)
    assert both.kept_after == pytest.approx(here / total, rel=1e-13)
    assert lp.search_permutation([[1.0, 0, 1, 0, 1, 0, 0, 0]] * 2).kept_after == 1  # a list of lists is one weight


def test_scores_decide() -> None:
    w = np.ones((1, 8))
    s = np.array([[1.0, 1, 1, 1, 0, 0, 0, 0]])
    assert lp.search_permutation(w).kept_before == 0.5
    assert lp.search_permutation(w, scores=s).kept_after == 1.0
    assert lp.search_permutation([w, w], scores=[s, s]).kept_after == 1.0


def test_quantized_weight_counts_by_its_numbers() -> None:
    w = weight(13, 8, 16)
    q = lp.quantize(w, "int8", axis=0)
    assert np.array_equal(lp.search_permutation(q).order, lp.search_permutation(q.dequantize(np.float64)).order)


@pytest.mark.parametrize("seed", range(6))
def test_all_divisions_of_a_group_and_a_half(seed: int) -> None:
    """Six channels: any four are the first group, and all of the other two is kept."""
    w = weight(seed, 5, 6)
    best = max(
        kept(abs(w), [*four, *(c for c in range(6) if c not in four)], "2:4") for four in combinations(range(6), 4)
    )
    found = lp.search_permutation(w, method="exhaustive")
    assert found.kept_after * abs(w).sum() == pytest.approx(best, rel=1e-13)


@pytest.mark.parametrize("method", ["greedy", "exhaustive"])
def test_one_escape_is_never_worse(method: str) -> None:
    w = weight(20, 16, 40)
    plain = lp.search_permutation(w, method=method).kept_after
    found = [lp.search_permutation(w, method=method, escapes=1, rng=seed).kept_after for seed in range(20)]
    assert min(found) == plain
    assert max(found) > plain


@pytest.mark.parametrize("method", ["greedy", "exhaustive"])
def test_escapes_are_reproducible_and_never_worse(method: str) -> None:
    w = weight(14, 16, 40)
    plain = lp.search_permutation(w, method=method)
    some = [lp.search_permutation(w, method=method, escapes=40, rng=3) for _ in range(2)]
    assert some[0].kept_after >= plain.kept_after
    assert np.array_equal(some[0].order, some[1].order)
    generator = np.random.default_rng(3)
    assert np.array_equal(lp.search_permutation(w, method=method, escapes=40, rng=generator).order, some[0].order)


def test_threads_do_not_matter() -> None:
    w, threads = weight(15, 30, 200), lp.get_num_threads()
    try:
        lp.set_num_threads(1)
        alone = lp.search_permutation(w)
        lp.set_num_threads(3)
        assert np.array_equal(lp.search_permutation(w).order, alone.order)
    finally:
        lp.set_num_threads(threads)


@pytest.mark.parametrize("method", ["greedy", "exhaustive"])
def test_time_limit(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = weight(16, 8, 32)
    ended = lp.search_permutation(w, method=method, time_limit=1e-9)
    assert not ended.finished
    assert ended.kept_after == ended.kept_before
    assert ended.order.tolist() == list(range(32))
    assert lp.search_permutation(w, method=method, time_limit=1000.0).finished
    # A clock that ends the search after some steps: what is found by then is returned, and is better than nothing.
    looks = iter(range(1000))
    monkeypatch.setattr(_search.Clock, "seconds", lambda _self: float(next(looks)))
    half = lp.search_permutation(w, method=method, time_limit=9.0, escapes=5, rng=0)
    assert not half.finished
    assert half.kept_after > half.kept_before


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm")
    shown = []

    class Bar(tqdm.tqdm):  # type: ignore[misc, name-defined, unused-ignore]
        def update(self, n: float = 1) -> bool | None:
            shown.append((n, self.postfix))
            return bool(super().update(n))

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    for method in ("greedy", "exhaustive"):
        shown.clear()
        found = lp.search_permutation(weight(17, 8, 32), method=method, progress=True)
        assert shown
        assert shown[-1][1] == f"kept {found.kept_after:.4f}"
    assert "Traceback" not in capsys.readouterr().err


def test_result() -> None:
    found = lp.search_permutation(weight(18, 4, 16))
    assert repr(found).startswith("ChannelPermutation(16 channels, '2:4', kept_before=0.")
    assert not found.order.flags.writeable
    assert not found.inverse.flags.writeable
    for other in (np.arange(16, dtype=np.int8), np.arange(16).astype(">f4"), ["a"] * 16):
        moved = found.apply(other)
        assert moved.dtype == np.asarray(other).dtype
        assert moved.tolist() == np.asarray(other)[found.order].tolist()
    with pytest.raises(AttributeError):
        found.pattern = "1:2"  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------------------- bad input
W = np.arange(32.0).reshape(2, 16)


@pytest.mark.parametrize(
    ("w", "arguments", "error", "message"),
    [
        (np.where(W == 5, np.nan, W), {}, ValueError, "`w` must not hold NaN, got one at index (0, 5)"),
        (np.where(W == 5, np.inf, W), {}, ValueError, "`w` must be finite, got inf at index (0, 5)"),
        (W[0], {}, ValueError, "`w` must have two axes or more"),
        (3.0, {}, ValueError, "`w` must have one axis or more"),
        (W[:, :0], {}, ValueError, "`w` must have an element, got shape (2, 0)"),
        (W.astype(str), {}, TypeError, "`w` must hold real numbers"),
        (W, {"axis": 2}, ValueError, "`axis` must be an axis of `w`, which has 2, got 2"),
        (W, {"axis": 1.0}, TypeError, "`axis` must be an integer"),
        (W, {"pattern": "4:2"}, ValueError, "`pattern` must keep at least 1"),
        (W, {"pattern": 24}, TypeError, "`pattern` must be a string"),
        (W, {"method": "greedyy"}, ValueError, "the closest: 'greedy'"),
        (W, {"method": "exhaustiv"}, ValueError, "the closest: 'exhaustive'"),
        (W, {"method": None}, TypeError, "`method` must be one of greedy, exhaustive, got None"),
        (W, {"stripe": 8}, ValueError, '`stripe` must be None with method="greedy"'),
        (W, {"method": "exhaustive", "stripe": 10}, ValueError, "`stripe` must be a multiple of 4"),
        (W, {"method": "exhaustive", "stripe": 4}, ValueError, "and at least 8, got 4"),
        (W, {"method": "exhaustive", "stripe": 8.0}, TypeError, "`stripe` must be an integer"),
        (W, {"method": "exhaustive", "stripe": 16}, ValueError, "which has 2627625; try 12"),
        (W, {"method": "exhaustive", "pattern": "1:16"}, ValueError, 'try method="greedy"'),
        (W, {"method": "exhaustive", "pattern": "4:8"}, ValueError, '`method` must be "greedy" for "4:8"'),
        (W, {"time_limit": 0}, ValueError, "`time_limit` must be above 0"),
        (W, {"time_limit": -1.0}, ValueError, "`time_limit` must be above 0"),
        (W, {"time_limit": "1"}, TypeError, "`time_limit` must be a number"),
        (W, {"escapes": -1}, ValueError, "`escapes` must be 0 or more"),
        (W, {"escapes": 1.5}, TypeError, "`escapes` must be an integer"),
        (W, {"escapes": 1}, ValueError, "`rng` must be given with `escapes`, got None"),
        (W, {"rng": -1}, ValueError, "`rng` must be a seed"),
        (W, {"rng": "x"}, TypeError, "`rng` must be an integer seed"),
        (W, {"progress": 1}, TypeError, "`progress` must be True or False"),
        (W, {"scores": W[:, :8]}, ValueError, "`scores` must have the shape (2, 16)"),
        (W, {"scores": W - 1}, ValueError, "`scores` must be 0 or more, got -1.0"),
        (W, {"scores": W * np.nan}, ValueError, "`scores` must be finite"),
        ([W, W[:, :8]], {}, ValueError, "the same number of channels along axis -1, got [8, 16]"),
        ([W, W], {"scores": [W]}, ValueError, "`scores` must hold one array for each of 2 weights, got 1"),
    ],
)
def test_bad_input(w: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        lp.search_permutation(w, **arguments)
    assert message in str(caught.value)


def test_bad_use_of_the_result() -> None:
    found = lp.search_permutation(W)
    q = lp.quantize(W, "int8")
    for call, error, message in (
        (lambda: found.apply(W[:, :8]), ValueError, "`x` must have 16 channels along axis -1, got shape (2, 8)"),
        (lambda: found.apply(W, axis=5), ValueError, "`axis` must be an axis of `x`"),
        (lambda: found.apply(q), TypeError, "permute channels before anything is quantised"),
        (lambda: found.apply_inverse(lp.sparsify(W)), TypeError, "`x` must be a plain array, got Sparse24"),
        (lambda: lp.ChannelPermutation([0, 0], "2:4", 1, 1, 0, True), ValueError, "every number from 0 to n - 1"),
        (lambda: lp.ChannelPermutation([0.0, 1.0], "2:4", 1, 1, 0, True), TypeError, "`order` must hold integers"),
    ):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


@pytest.mark.oracles
@pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")
def test_smollm_layer() -> None:
    """A real layer: the search keeps clearly more."""
    w = smollm.load().weight("blk.0.attn_q.weight")[:256, :64]
    found = lp.search_permutation(w, method="exhaustive")
    assert found.kept_after > found.kept_before + 0.02


# ------------------------------------------------------------------------------- bugs, each of which a check must see
class _Loose:
    """The kernels as they are, but for one."""

    CHUNK = permute.CHUNK

    def __init__(self, **changed: Any) -> None:
        vars(self).update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(permute, name)


def forgotten_group(scores: Array, order: Array, real: int, first: int, last: int, *rest: Any) -> None:
    """Leave out the last group of the table."""
    permute.fill_swaps(scores, order, real, first, min(last, len(order) // rest[0] - 1), *rest)


def windows_without_memory(*arguments: Any) -> tuple[int, int]:
    """Never look at a window twice."""
    return permute.search_windows(*arguments) if arguments[-1] else (0, 0)


@pytest.mark.parametrize(
    ("changed", "check"),
    [
        ({"fill_swaps": forgotten_group}, test_greedy_takes_the_swap_that_gains_most),
        ({"search_windows": windows_without_memory}, test_no_window_gains_at_the_end),
    ],
)
def test_planted_bug_is_seen(changed: dict[str, Any], check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_search, "kernels", _Loose(**changed))
    with pytest.raises((AssertionError, ValueError)):
        check()
