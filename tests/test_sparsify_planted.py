"""Wrong masks: each bug below, put where sparsify finds its parts, must turn a check red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_sparsify import check_codes, check_orders, check_sparsegpt, check_tiles, check_wanda, same

import lowprec as lp
from lowprec.pruning import _fast, _sparsegpt, _wanda, masks, transposable

Array = np.ndarray[Any, Any]
Check = Callable[[], None]
FLOAT = np.dtype(np.float32)
right_rows, right_keys, right_runs = _fast.kernels.compress_rows, masks.keys, masks.of_runs
right_factor, right_rules, right_patterns = _sparsegpt.factor, _fast._rules, transposable._patterns


def tail() -> None:
    """Check a last group of three."""
    w = np.random.default_rng(1).standard_normal((5, 11)).astype(np.float32)
    same(lp.sparsify(w), lp.Sparse24.from_dense(w, mask=lp.sparsity_mask(w)))


def orders() -> None:
    check_orders(FLOAT)


def integers() -> None:
    check_codes(np.dtype(np.int8))


def pairs() -> None:
    w = np.random.default_rng(1).integers(-9, 9, (8, 32)).astype(np.float32)
    want = np.abs(w).reshape(8, 16, 2).sum(axis=2)
    np.testing.assert_array_equal(lp.sparsity_mask(w, "4:8")[:, ::2], lp.sparsity_mask(want, "2:4"))


def on_nibbles(change: Callable[[Array], Array]) -> Callable[..., int]:
    """Make a kernel whose codes are changed."""

    def kernel(x: Array, groups: int, *rest: Any) -> int:
        most = right_rows(x, groups, *rest)
        rest[-1][:] = change(rest[-1])
        return int(most)

    return kernel


def reversed_groups(x: Array, groups: int, *rest: Any) -> int:
    """Let the last of equals win: groups turned round, and the result turned back."""
    *rules, values, nibbles = rest
    turned = np.ascontiguousarray(x.reshape(-1, 4)[:, ::-1]).ravel()
    most = right_rows(turned, groups, *rules, values, nibbles)
    values[:] = values.reshape(-1, 2)[:, ::-1].ravel()
    codes = np.stack([nibbles & 15, nibbles >> 4], axis=-1)
    codes = (3 - (codes >> 2)) | (3 - (codes & 3)) << 2
    nibbles[:] = codes[..., 0] | codes[..., 1] << 4
    return int(most)


def signs_kept(dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    shift, flip, mask = right_rules(dtype)
    return shift, flip, ~(mask & 0)


def wrapped(dtype: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """Mask the sign of two's complement off, as that of a float."""
    shift, flip, mask = right_rules(dtype)
    return shift, flip & 0, mask >> 1


def one_less() -> Array:
    return np.asarray(right_patterns()[:-1].copy())


BUGS: dict[str, tuple[Any, str, Any, Check]] = {
    "codes of a byte exchanged": (_fast.kernels, "compress_rows", on_nibbles(lambda c: c >> 4 | c << 4), orders),
    "bits of an index exchanged": (
        _fast.kernels, "compress_rows", on_nibbles(lambda c: (c & 0x55) << 1 | (c & 0xAA) >> 1), orders,
    ),
    "codes of the group before": (_fast.kernels, "compress_rows", on_nibbles(lambda c: np.roll(c, 1)), orders),
    "the last of equals": (_fast.kernels, "compress_rows", reversed_groups, orders),
    "by value, not magnitude": (_fast, "_rules", signs_kept, orders),
    "sign of integers masked": (_fast, "_rules", wrapped, integers),
    "the other ends of keys": (masks, "keys", lambda scores: right_keys(scores)[..., ::-1].copy(), orders),
    "pairs by their largest": (
        masks, "of_runs", lambda s, run: np.maximum.reduceat(s, np.arange(0, s.shape[-1], run), axis=-1), pairs,
    ),
    "squares, not norms": (_wanda, "norms", lambda squares: squares, check_wanda),
    "norms of inputs shifted": (_wanda, "norms", lambda squares: np.sqrt(np.roll(squares, 1)), check_wanda),
    "a pattern of tiles lost": (transposable, "_patterns", one_less,
                                lambda: check_tiles("best")),
    "SparseGPT, damped by a number and not a share": (
        _sparsegpt, "factor", lambda h, damp, **how: np.linalg.cholesky(np.linalg.inv(h + damp * np.eye(len(h)))).T,
        lambda: check_sparsegpt("2:4", 32, 8),
    ),
    "SparseGPT, error not spread": (
        _sparsegpt, "factor", lambda h, damp, **how: np.diag(np.diag(right_factor(h, damp, **how))),
        lambda: check_sparsegpt("2:4", 32, 8),
    ),
}  # fmt: skip
GREEN = (orders, integers, pairs, tail, check_wanda, lambda: check_tiles("best"), lambda: check_sparsegpt("2:4", 32, 8))


@pytest.mark.parametrize("run", GREEN)
def test_without_a_bug_it_is_green(run: Check) -> None:
    run()


def test_the_stand_in_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bug is made from is green without it."""
    monkeypatch.setattr(_fast.kernels, "compress_rows", on_nibbles(lambda codes: codes))
    orders()
    tail()


@pytest.mark.parametrize("name", BUGS)
def test_with_the_bug_it_is_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, bug, run = BUGS[name]
    monkeypatch.setattr(where, what, bug)
    with pytest.raises(AssertionError):
        run()


def test_tail_dropped_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the last group: the numbers do not fit their shape, and no result comes out."""
    monkeypatch.setattr(_fast, "group_count", lambda length, pattern: length // pattern.group)
    with pytest.raises((AssertionError, ValueError)):
        tail()
