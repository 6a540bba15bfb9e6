"""The search for an order of channels: which windows and swaps the kernels try, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._packing import share
from lowprec._patterns import SparsityPattern
from lowprec.kernels import permute as kernels

MOST_DIVISIONS = 10_000  # of a window's channels into groups
_BLOCK = 8  # groups whose swaps are tried together
_LANES = 8  # rows come in multiples of it
_SLICE = 0.05  # seconds between two looks at the clock


@dataclass
class Clock:
    """How long a search may take, and what shows how far it is."""

    limit: float | None
    bar: Any = None
    started: float = field(default_factory=time.perf_counter)
    late: bool = False

    def over(self) -> bool:
        """Say whether time is up, and remember it."""
        self.late = self.late or (self.limit is not None and self.seconds() >= self.limit)
        return self.late

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.perf_counter() - self.started

    def show(self, steps: int, search: Search) -> None:
        """Move the progress bar."""
        if self.bar is not None and steps:
            self.bar.set_postfix_str(f"kept {search.kept() / max(1, search.total):.4f}", refresh=False)
            self.bar.update(steps)


def divisions(group: int, many: int) -> int:
    """Return in how many ways the channels of `many` groups can be divided into such groups."""
    product = 1
    for left in range(many, 0, -1):
        product *= comb(left * group - 1, group - 1)
    return product


def _windows(group: int, many: int) -> tuple[Array, Array, Array]:
    """Return the subsets of a window's places, the same as bits, and the divisions as numbers of subsets."""
    subsets = list(combinations(range(group * many), group))
    number = {subset: i for i, subset in enumerate(subsets)}
    parts: list[list[int]] = []

    def divide(left: tuple[int, ...], done: list[int]) -> None:
        if not left:
            parts.append(done)
            return
        for others in combinations(left[1:], group - 1):
            rest = tuple(place for place in left[1:] if place not in others)
            divide(rest, [*done, number[left[0], *others]])

    divide(tuple(range(group * many)), [])
    members = [sum(1 << place for place in subset) for subset in subsets]
    return np.array(subsets), np.array(members), np.array(parts)


class Search:
    """An order of channels and what it keeps, in whole numbers.

    `scores` are rows x channels, float64, from 0 to 1. The last group is filled up with channels that are worth nothing
    and never leave it. An escape moves `shaken` channels: enough that the next step
    does not just put them back.
    """

    shaken = 2

    def __init__(self, scores: Array, pattern: SparsityPattern, clock: Clock) -> None:
        self.pattern, self.clock = pattern, clock
        rows, self.real = scores.shape
        self.groups = -(-self.real // pattern.group)
        most = ((1 << 32) - 1) // (kernels.CHUNK * pattern.kept)  # so that sums over CHUNK rows fit in 32 bits
        self.scores = np.zeros((self.groups * pattern.group, -(-rows // _LANES) * _LANES), np.uint32)
        self.scores[: self.real, :rows] = np.rint(scores.T * most)
        self.order = np.arange(len(self.scores))
        self.total = int(self.scores.sum(dtype=np.int64))

    def kept(self) -> int:
        """Return what all groups keep."""
        size, kept, run = self.pattern.group, self.pattern.kept, self.pattern.run
        groups = self.order.reshape(-1, size)
        return sum(int(kernels.group_value(self.scores, each, kept, run)) for each in groups)

    def improve(self) -> None:
        """Go up until no step is left, or time is up."""
        raise NotImplementedError

    def forget(self, saved: Array) -> None:
        """Go back to an order."""
        raise NotImplementedError

    def disturb(self, places: Array) -> None:
        """Move the channel of each place to the next, whatever that costs; places of different groups."""
        raise NotImplementedError

    def run(self, escapes: int, rng: np.random.Generator) -> None:
        """Improve, then as often as asked move some channels at random, improve again, and keep that if no worse."""
        self.improve()
        best, size = self.kept(), self.pattern.group
        for _ in range(escapes if self.groups > 1 else 0):
            if self.clock.over():
                return
            saved = self.order.copy()
            places = rng.integers(0, self.real, min(self.shaken, self.groups))
            while len(set(places // size)) < len(places):
                places = rng.integers(0, self.real, len(places))
            self.disturb(places)
            self.improve()
            found = self.kept()
            if found < best:
                self.forget(saved)
            best = max(best, found)


class Swaps(Search):
    """Swap the two channels that gain most, until none gain."""

    shaken = 3

    def __init__(self, scores: Array, pattern: SparsityPattern, clock: Clock) -> None:
        super().__init__(scores, pattern, clock)
        self.place = self.order.copy()
        self.rule = (pattern.group, pattern.kept, pattern.run)
        self.values = np.zeros(self.groups, np.int64)
        self.gains = np.zeros(self.real, np.int64)
        self.partners = np.full(self.real, -1)
        self.table: Array | None = None

    @property
    def _state(self) -> tuple[Any, ...]:
        return (*self.rule, self.table, self.values, self.gains, self.partners)

    def _fill(self, first: int, last: int) -> None:
        head = (self.scores, self.order, self.real, first, last)
        kernels.fill_swaps(*head, *self.rule, self.table, self.values)

    def _begin(self) -> bool:
        """Fill the table of all swaps on all threads, or say that time is up."""
        self.table = np.zeros((self.real, self.real), np.int64)
        blocks = -(-self.groups // _BLOCK)

        def fill(first: int, last: int) -> None:
            if not self.clock.over():
                self._fill(first * _BLOCK, min(self.groups, last * _BLOCK))

        share(fill, blocks, 1)

        def choose(first: int, last: int) -> None:
            if not self.clock.over():
                head = (self.scores, self.order, self.place, self.real)
                kernels.best_swaps(*head, *self._state, first, last)

        share(choose, self.real, max(1, (1 << 16) // max(1, self.real)))
        return not self.clock.over()

    def improve(self) -> None:
        """Go up until no step is left, or time is up."""
        if self.table is None and not self._begin():
            return
        steps = 1
        while not self.clock.over():
            started = time.perf_counter()
            made = kernels.climb(self.scores, self.order, self.place, self.real, *self._state, steps)
            self.clock.show(made, self)
            if made < steps:
                return
            steps = steps * 2 if time.perf_counter() - started < _SLICE else max(1, steps // 2)

    def _renew(self, first: int, second: int) -> None:
        head = (self.scores, self.order, self.place, self.real)
        kernels.renew(*head, *self._state, first, second)

    def disturb(self, places: Array) -> None:
        """Move the channel of each place to the next, whatever that costs; places of different groups."""
        self.order[places] = np.roll(self.order[places], 1)
        self._moved([int(group) for group in places // self.pattern.group])

    def _moved(self, groups: list[int]) -> None:
        self.place[self.order] = np.arange(len(self.order))
        for group in groups:
            self._fill(group, group + 1)
        for group in groups:
            self._renew(group, group)

    def forget(self, saved: Array) -> None:
        """Go back to an order."""
        groups = np.unique(np.flatnonzero(self.order != saved) // self.pattern.group)
        self.order[:] = saved
        self._moved([int(group) for group in groups])


class Windows(Search):
    """Divide the channels of several groups anew in the best of all ways, for all such groups, until none gain."""

    def __init__(self, scores: Array, pattern: SparsityPattern, clock: Clock, many: int) -> None:
        super().__init__(scores, pattern, clock)
        self.many = min(many, self.groups)
        self.tables = _windows(pattern.group, self.many) if self.groups > 1 else ()
        self.changed = np.zeros(self.groups, np.int64)
        self.now, self.seen, self.fresh = 1, 0, True

    def improve(self) -> None:
        """Go up until no step is left, or time is up."""
        if self.groups < 2:
            return
        ahead = self.many - 1
        while True:
            divided = passed = 0
            for prefix in combinations(range(self.groups - 1), ahead):
                if self.clock.over():
                    return
                new, looked = kernels.search_windows(
                    *(self.scores, self.order, self.real, np.array(prefix), *self.tables),
                    *(self.pattern.kept, self.pattern.run, self.changed),
                    *(self.seen + passed, self.now + passed, self.fresh),
                )
                divided += new
                passed += self.groups - 1 - prefix[-1]
                self.clock.show(looked, self)
            self.seen, self.now, self.fresh = self.now, self.now + passed, False
            if not divided:
                return

    def disturb(self, places: Array) -> None:
        """Move the channel of each place to the next, whatever that costs; places of different groups."""
        self.order[places] = np.roll(self.order[places], 1)
        self.changed[places // self.pattern.group] = self.now
        self.now += 1  # later than what has been seen, and earlier than what comes

    def forget(self, saved: Array) -> None:
        """Go back to an order, which was searched to its end."""
        self.order[:] = saved
        self.changed[:] = 0
