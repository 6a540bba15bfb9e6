"""Wrong products: each bug below, in the definition put in the place of `matmul`, must turn a check red.

A check is a test of `test_sparse_matmul` or `test_sparse_shapes`, which look `lp.matmul` up when they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import test_sparse_matmul as checks
import test_sparse_shapes as shapes
from fma_oracle import Model
from sparse_slow import GROUP, Product, Slow

import lowprec as lp

Array = np.ndarray[Any, Any]
Check = Callable[[], None]


# ------------------------------------------------------------------------------------------------------- wrong places
def of_places(change: Callable[[Array, Any], Array]) -> Product:
    """Make a product that takes the values to be elsewhere: a function of (k of each value, Sparse24)."""

    class Wrong(Product):
        def places(self, s: Any) -> Array:
            return np.clip(change(super().places(s), s), 0, s.shape[s.axis] + 7)

    return Wrong()


def grouped(change: Callable[[Array], Array]) -> Callable[[Array, Any], Array]:
    """Make a change of the places within groups, shape (..., groups, kept)."""

    def changed(k: Array, s: Any) -> Array:
        group = GROUP[s.pattern]
        starts = k // group * group
        own = (k - starts).reshape(*k.shape[:-1], -1, group // 2)
        return change(own).reshape(k.shape) + starts

    return changed


def of_the_group_before(own: Array) -> Array:
    """Take the last place of a group from the group before."""
    found = own.copy()
    found[..., 1:, -1] = own[..., :-1, -1]
    return found


def halves_exchanged(own: Array) -> Array:
    """Read the high nibble of a byte first."""
    found, even = own.copy(), own.shape[-2] // 2 * 2
    found[..., 0:even:2, :], found[..., 1:even:2, :] = own[..., 1:even:2, :], own[..., 0:even:2, :]
    return found


def low_half_twice(own: Array) -> Array:
    return own[..., np.arange(own.shape[-2]) // 2 * 2, :]


def of_the_next_row(k: Array, s: Any) -> Array:
    return np.roll(k, -1, 0) if k.ndim > 1 else k


def of_the_first_row(k: Array, s: Any) -> Array:
    return np.broadcast_to(k[:1], k.shape).copy() if k.ndim > 1 else k


def pairs_apart(k: Array, s: Any) -> Array:
    """Take the places of "4:8" for those of elements."""
    return k if s.pattern != "4:8" else k - k % 8 + (k % 8) // 2 + 4 * (np.arange(k.shape[-1]) % 2)


def first_of_two(k: Array, s: Any) -> Array:
    """Read both codes of "1:2" as the first place."""
    return k // 2 * 2 if s.pattern == "1:2" else k


class TailDropped(Product):
    """Leave the group out that is not whole."""

    def parts(self, s: Any) -> tuple[Array, Array]:
        dense, mask = super().parts(s)
        whole = s.shape[s.axis] // GROUP[s.pattern] * GROUP[s.pattern]
        shape = tuple(-1 if axis == s.axis else 1 for axis in range(s.ndim))
        return dense, mask & (np.arange(s.shape[s.axis]).reshape(shape) < whole)


# --------------------------------------------------------------------------------------------------------- wrong sums
class AllSeen(Product):
    """Multiply the dense array."""

    def parts(self, s: Any) -> tuple[Array, Array]:
        dense, mask = super().parts(s)
        return dense, np.ones_like(mask)


class ZerosSkipped(Product):
    """Leave kept zeros out."""

    def parts(self, s: Any) -> tuple[Array, Array]:
        dense, mask = super().parts(s)
        return dense, mask & (dense != 0)


class DrawnByCompressedIndex(Product):
    """Round the values before they are put in their places."""

    def __call__(self, a: Any, b: Any, dtype: Any = None, **keywords: Any) -> Array:
        if keywords.get("rounding") == "stochastic" and isinstance(a, lp.Sparse24):
            rules = {key: keywords[key] for key in ("rounding", "rng", "random_bits") if key in keywords}
            a = a.with_values(lp.round_to(np.asarray(a.values), dtype, **rules))
        return super().__call__(a, b, dtype, **keywords)


def of_sums(name: str, method: Any) -> Product:
    """Make a product of sums with another method."""
    made = Product()
    made.slow = type("Wrong", (Slow,), {name: method})
    return made


def firsts_then_seconds(self: Model, length: int) -> Iterable[int]:
    return [*range(0, length, 2), *range(1, length, 2)]


def not_fused(self: Model, a: Array, b: Array, r: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(a * b + r).astype(r.dtype)


def beyond_the_end(self: Model, r: Array, c: Any) -> Array:
    """Add what pads the last group, times infinity."""
    with np.errstate(all="ignore"):
        return Model.finish(self, r + np.zeros((), r.dtype), c)


def c_late(self: Slow, a: Array, b: Array, c: Any, dtype: type) -> Array:
    r = Slow.product(self, a, b, None, dtype)
    with np.errstate(all="ignore"):
        return Model.finish(self, r if c is None else (r + np.asarray(c)).astype(dtype), c)


def two_chains(self: Slow, a: Array, b: Array, c: Any, dtype: type) -> Array:
    first, second = a.copy(), a.copy()
    first[..., 1::2], second[..., 0::2] = 0, 0
    with np.errstate(all="ignore"):
        r = Slow.product(self, first, b, c, dtype) + Slow.product(self, second, b, None, dtype)
        return Model.finish(self, r, c)


PLACES, GROUPS = checks.test_index_of_each_value_is_its_own, checks.test_every_place_of_a_group
BUGS: dict[str, tuple[Product, Check]] = {
    "index bits swapped": (of_places(grouped(lambda own: own[..., ::-1])), checks.test_order_of_values),
    "second index of the group before": (of_places(grouped(of_the_group_before)), PLACES),
    "nibbles of a byte exchanged": (of_places(grouped(halves_exchanged)), PLACES),
    "one nibble of a byte": (of_places(grouped(low_half_twice)), PLACES),
    "indices of the next row": (of_places(of_the_next_row), PLACES),
    "indices of the first row": (of_places(of_the_first_row), PLACES),
    "one place on": (of_places(lambda k, s: k + 1), PLACES),
    "pairs of 4:8 apart": (of_places(pairs_apart), PLACES),
    "one code of 1:2": (of_places(first_of_two), PLACES),
    "tail group dropped": (TailDropped(), PLACES),
    "tail group dropped, depths": (TailDropped(), lambda: shapes.test_depths("2:4")),
    "infinities at other places": (AllSeen(), checks.test_infinities_and_nan_are_seen_at_kept_places_only),
    "all places": (AllSeen(), lambda: GROUPS("2:4")),
    "+0 for -0": (AllSeen(), checks.test_zero_keeps_the_sign_of_the_sum_of_kept_products),
    "kept zeros skipped": (ZerosSkipped(), checks.test_infinities_and_nan_are_seen_at_kept_places_only),
    "kept zeros of either sign": (ZerosSkipped(), lambda: GROUPS("4:8")),
    "padding is added": (of_sums("finish", beyond_the_end), checks.test_nothing_kept),
    "c late": (of_sums("product", c_late), lambda: checks.test_kinds("cancelling")),
    "two chains": (of_sums("product", two_chains), checks.test_order_is_ascending_k),
    "firsts, then seconds": (of_sums("order", firsts_then_seconds), checks.test_order_is_ascending_k),
    "descending": (of_sums("order", lambda self, n: range(n)[::-1]), checks.test_order_is_ascending_k),
    "not fused": (of_sums("fma", not_fused), lambda: checks.test_kinds("traps")),
    "drawn by compressed index": (
        DrawnByCompressedIndex(),
        lambda: checks.test_stochastic_operands_draw_by_their_place_in_the_dense_array("2:4"),
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong, check = BUGS[name]
    put(wrong, monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_definition_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a bug the same checks pass."""
    put(Product(), monkeypatch)
    for check in {id(check): check for _, check in BUGS.values()}.values():
        check()


def put(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a product in the place of `matmul` for sparse operands."""
    right = lp.matmul

    def matmul(a: Any, b: Any, *arguments: Any, **keywords: Any) -> Any:
        sparse = isinstance(a, lp.Sparse24) or isinstance(b, lp.Sparse24)
        return (product if sparse else right)(a, b, *arguments, **keywords)

    monkeypatch.setattr(lp, "matmul", matmul)
