"""Wrong products: each bug below, put where products of quantised operands find their parts, must turn a check red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scaled_cases import Spec, check, make

import lowprec as lp
from lowprec import _block_sums, _scaled_product

Array = np.ndarray[Any, Any]
Check = Callable[[], None]


def of(a: Spec, b: Spec, c: Any = None, **arguments: Any) -> Check:
    """Check a product as `test_block_sums_matmul` does."""

    def run() -> None:
        rng = np.random.default_rng(3)
        left, right = make(rng, a, (5, 29), -1), make(rng, b, (29, 6), -2)
        check(lp.matmul(left, right, c=c, **arguments), left, right, arguments.get("accumulator"), c=c, count=12)

    return run


# Blocks of 8 and 5 are summed one by one; blocks of 8 and 16 go to the kernel that takes all of them at once.
ONE_BY_ONE = of(Spec("e4m3fn", (1, 8), tensor=True), Spec("e4m3fn", (1, 5)))
AT_ONCE = of(Spec("e4m3fn", (1, 8), tensor=True), Spec("e4m3fn", (1, 16)))
INTEGERS = of(Spec("int8", (1, 8), True), Spec("uint8", (1, 5), True))
LONG = of(Spec("int8", None, True), Spec("uint8", (1, 0), True))
WRAPPED = of(Spec("int16"), Spec("int16", (1, 16)))


def adding(add: Callable[[Array, Array, Array, Array], Array]) -> Callable[..., None]:
    """Make what adds a block's sums to the total, from an expression."""

    def kernel(part: Array, rows: Array, columns: Array, total: Array) -> None:
        total[...] = add(part.astype(np.float32), rows[:, None], columns, total)

    return kernel


def in_wide(part: Array, rows: Array, columns: Array, total: Array) -> Array:
    """Multiply and add in float64, whose one rounding to float32 is that of an fma but for rare ties."""
    return (part * (rows * columns).astype(np.float64) + total).astype(np.float32)


def not_fused(part: Array, rows: Array, columns: Array, total: Array) -> Array:
    return part * (rows * columns) + total


def scales_not_rounded(part: Array, rows: Array, columns: Array, total: Array) -> Array:
    return (part * (rows.astype(np.float64) * columns) + total).astype(np.float32)


def scales_one_by_one(part: Array, rows: Array, columns: Array, total: Array) -> Array:
    return ((part * rows) * columns.astype(np.float64) + total).astype(np.float32)


def at_once(add: Callable[..., Array], order: int = 1) -> Callable[..., None]:
    """Make the product of all blocks at once from sums in float64, one rounding a step, and an expression."""

    def multiply(x: Array, y: Array, rows: Array, columns: Array, block: int, total: Array, fresh: bool) -> None:
        k = x.shape[-1]
        for t in range(-(-k // block))[::order]:
            part = np.zeros(total.shape, np.float32)
            for i in range(t * block, min(k, (t + 1) * block)):
                part = (x[:, i : i + 1].astype(np.float64) * y[i] + part).astype(np.float32)
            total[...] = add(part, rows[:, t, None], columns[t], total)

    return multiply


right_segments, right_points, right_side = _block_sums._segments, _block_sums._points, _block_sums._side


def descending(*arguments: Any) -> Any:
    return right_segments(*arguments)[::-1]


def of_the_first_block(side: Any, first: int) -> Any:
    return right_points(side, 0)


def without_borders_of_b(a: Any, b: Any, k: int) -> Any:
    return right_segments(a, b._replace(block=k), k)


def tensor_scale_lost(q: Any, axis: int, dtype: Any) -> Any:
    side = right_side(q, axis, dtype)
    return side if q.tensor_scale is None else side._replace(scale=(side.scale / q.tensor_scale).astype(np.float32))


def not_wrapped(x: Array, y: Array, *_: Any) -> Array:
    return (x.astype(np.float64) @ y.astype(np.float64)).astype(np.float32)


BUGS: dict[str, tuple[Any, str, Any, Check]] = {
    "not fused": (_block_sums.scaled, "scaled_add", adding(not_fused), ONE_BY_ONE),
    "scales not rounded": (_block_sums.scaled, "scaled_add", adding(scales_not_rounded), ONE_BY_ONE),
    "scales one by one": (_block_sums.scaled, "scaled_add", adding(scales_one_by_one), ONE_BY_ONE),
    "order descending": (_block_sums, "_segments", descending, ONE_BY_ONE),
    "a border of b lost": (_block_sums, "_segments", without_borders_of_b, ONE_BY_ONE),
    "tensor scale lost": (_block_sums, "_side", tensor_scale_lost, ONE_BY_ONE),
    "integers, not fused": (_block_sums.scaled, "scaled_add_integers", adding(not_fused), INTEGERS),
    "integers, order descending": (_block_sums, "_segments", descending, INTEGERS),
    "zero points of the first block": (_block_sums, "_points", of_the_first_block, INTEGERS),
    "zero points lost": (_block_sums, "_points", lambda side, first: None, LONG),
    "at once, not fused": (_scaled_product, "multiply", at_once(not_fused), AT_ONCE),
    "at once, scales not rounded": (_scaled_product, "multiply", at_once(scales_not_rounded), AT_ONCE),
    "at once, order descending": (_scaled_product, "multiply", at_once(in_wide, -1), AT_ONCE),
    "sums of integers not wrapped": (_block_sums, "product", not_wrapped, WRAPPED),
}  # fmt: skip


@pytest.mark.parametrize("run", [ONE_BY_ONE, AT_ONCE, INTEGERS, LONG, WRAPPED])
def test_without_a_bug_it_is_green(run: Check) -> None:
    run()


def test_the_stand_ins_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the bugs are made from is green without them."""
    monkeypatch.setattr(_block_sums.scaled, "scaled_add", adding(in_wide))
    monkeypatch.setattr(_block_sums.scaled, "scaled_add_integers", adding(in_wide))
    monkeypatch.setattr(_scaled_product, "multiply", at_once(in_wide))
    ONE_BY_ONE()
    AT_ONCE()
    INTEGERS()


@pytest.mark.parametrize("name", BUGS)
def test_with_the_bug_it_is_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, bug, run = BUGS[name]
    monkeypatch.setattr(where, what, bug)
    with pytest.raises(AssertionError):
        run()
