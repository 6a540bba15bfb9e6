"""A small input on which two sums still differ, from a large one: terms dropped, places moved, numbers made simple."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from lowprec._checks import Array

Differs = Callable[[Array, Array, Array], Array]  # rows of a, of b, and c, to one bool for each
Row = tuple[Array, Array, float]  # float64, whatever the formats
_ROUNDS = 400
_BATCH = 256


def _element_costs(x: Array) -> Array:
    """Return how complicated numbers are: 0 for zero, least for 1, more for bits and far exponents."""
    significand, e = np.frexp(np.abs(x))
    finite = np.isfinite(x)
    whole = np.ldexp(np.where(finite, significand, 0.5), 53).astype(np.int64)
    trailing = np.frexp((whole & -whole).astype(np.float64))[1]
    costs = 2 + 3.0 * (54 - trailing) + np.abs(e - 1) / 4 + 0.5 * np.signbit(x) - (x == 1)
    return np.asarray(np.where(x == 0, 0.25 * np.signbit(x), np.where(finite, costs, 6.0)))


def costs(a: Array, b: Array, c: Array) -> list[tuple[int, float]]:
    """Return how complicated rows are: terms, then numbers, places and length."""
    used = (a != 0) | (b != 0)
    places = np.where(used, np.arange(a.shape[1]) / 64, 0).sum(axis=1) + a.shape[1] / 4
    numbers = _element_costs(a).sum(axis=1) + _element_costs(b).sum(axis=1) + _element_costs(c) + places
    return list(zip((used.sum(axis=1) + (c != 0)).tolist(), numbers.tolist(), strict=True))


def cost(row: Row) -> tuple[int, float]:
    """Return how complicated a row is."""
    return costs(row[0][np.newaxis], row[1][np.newaxis], np.array([row[2]]))[0]


def _simpler(x: float) -> Iterable[float]:
    """Yield numbers that are simpler than one."""
    if not math.isfinite(x):
        yield from (1.0, 0.0)
        return
    if x == 0:
        if math.copysign(1, x) < 0:
            yield 0.0
        return
    yield from {math.copysign(1.0, x), abs(x), 1.0}
    significand, e = math.frexp(x)
    power = math.copysign(math.ldexp(0.5, e), x)
    yield from (power, 2 * power)
    if abs(x) != abs(power):
        yield from (math.ldexp(power, shift) for shift in range(-12, 13))
    yield from (math.copysign(math.ldexp(1.0, way), x) for way in {(e - 1) // 2, e - 1 - (e > 1) + (e < 1)})
    whole = int(math.ldexp(significand, 53))
    low = abs(whole) & -abs(whole)
    for cut in (low, low << 2, 1 << max(0, 53 - 5), 1 << max(0, 53 - 11)):
        kept = abs(whole) // (2 * cut) * 2 * cut
        if 0 < kept < abs(whole):
            yield math.copysign(math.ldexp(float(kept), e - 53), x)


def _changed(row: Row, at: int, pair: tuple[float, float]) -> Row:
    """Return a row with other factors at one place."""
    a, b = row[0].copy(), row[1].copy()
    a[at], b[at] = pair
    return a, b, row[2]


def _variants(row: Row) -> Iterable[Row]:
    """Yield rows of the same length that may be simpler."""
    a, b, c = row
    used = np.flatnonzero((a != 0) | (b != 0))
    free = np.setdiff1d(np.arange(len(a)), used)
    for at in used.tolist():
        x, y = float(a[at]), float(b[at])
        yield _changed(row, at, (0.0, 0.0))
        yield from (_changed(row, at, (other, y)) for other in _simpler(x))
        yield from (_changed(row, at, (x, other)) for other in _simpler(y))
        if math.isfinite(x * y):
            yield _changed(row, at, (x * y, 1.0))
            yield _changed(row, at, (1.0, x * y))
            yield _changed(row, at, (math.copysign(x, x * y), abs(y)))
        for to in free[free < at].tolist():
            moved = _changed(row, at, (0.0, 0.0))
            yield _changed(moved, to, (x, y))
    yield from ((a, b, other) for other in _simpler(c))
    yield a, b, 0.0
    yield -a, b, -c
    for e in (1, 2, 4, 8, 16, 32):
        for scale in (2.0**e, 2.0**-e):
            yield a * scale, b, c * scale
            yield a, b * scale, c * scale
    if len(used) > 1:
        yield from ((np.where(a == value, 1.0, a), b, c) for value in set(a[used].tolist()))


def _shorter(row: Row) -> Iterable[Row]:
    """Yield rows with runs of unused places taken out."""
    a, b, c = row
    unused = (a == 0) & (b == 0)
    if not unused.all() and unused.any():
        yield a[~unused], b[~unused], c
    length = len(a)
    for run in (64, 32, 16, 8, 4, 2, 1):
        for at in range(length - run, -1, -1):
            if run < length and unused[at : at + run].all():
                yield np.delete(a, slice(at, at + run)), np.delete(b, slice(at, at + run)), c


def _dropped(row: Row) -> Iterable[Row]:
    """Yield rows without some of their terms, many at a time first."""
    a, b, c = row
    used = np.flatnonzero((a != 0) | (b != 0))
    run = max(1, len(used) // 2)
    while run:
        for at in range(0, len(used), run):
            x, y = a.copy(), b.copy()
            x[used[at : at + run]] = y[used[at : at + run]] = 0
            yield x, y, c
        run //= 2
    yield a, b, 0.0


def shrink(differs: Differs, fits: Callable[[Array, Array, Array], Array], row: Row) -> Row:
    """Make a row small that two sums differ on.

    Parameters
    ----------
    differs : callable
        Says for rows of a and b, and c, whether the sums differ.
    fits : callable
        Says for the same whether the formats hold them.
    row : tuple
        a, b and c, on which the sums differ.

    Returns
    -------
    tuple
        a, b and c, on which they differ as well.
    """

    def best(candidates: Iterable[Row], *, first: bool = False) -> Row | None:
        """Return the least complicated candidate on which the sums differ, or one of the shortest."""
        by_length: dict[int, list[Row]] = {}
        for each in candidates:
            by_length.setdefault(len(each[0]), []).append(each)
        now = cost(row)
        for length in sorted(by_length):
            a, b, c = (np.array([each[i] for each in by_length[length]]) for i in range(3))
            ranked = costs(a, b, c)
            order = [i for i in sorted(range(len(ranked)), key=ranked.__getitem__) if first or ranked[i] < now]
            for begin in range(0, len(order), _BATCH):
                part = np.array(order[begin : begin + _BATCH])
                good = fits(a[part], b[part], c[part])
                good[good] = differs(a[part][good], b[part][good], c[part][good])
                if good.any():
                    return by_length[length][int(part[int(np.argmax(good))])]
        return None

    for step in (_dropped, _variants, _shorter, _variants, _shorter):
        for _ in range(_ROUNDS):
            found = best(step(row), first=step is _shorter)
            if found is None:
                break
            row = found
    return row
