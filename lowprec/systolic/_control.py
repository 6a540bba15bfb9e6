"""What feeds a systolic array and reads it: one tile after the other, skewed, until nothing is left inside.

The number of cycles is counted here, one by one, as they pass. Nothing computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lowprec._checks import Array
from lowprec.systolic._arithmetic import Adder
from lowprec.systolic._machine import EMPTY, PADDING, Numbers, Output, Registers, Stationary

Watcher = Callable[[Registers, str, Array], None]
"""Is told after every cycle: the registers, what the cycle was for, and the places of the results that left in it."""


@dataclass
class Count:
    """What was counted."""

    fill: int = 0
    stream: int = 0
    drain: int = 0
    macs: int = 0
    tiles: int = 0

    def one(self, phase: str, macs: int) -> None:
        """Count a cycle."""
        setattr(self, phase, getattr(self, phase) + 1)
        self.macs += macs

    @property
    def cycles(self) -> int:
        """All cycles."""
        return self.fill + self.stream + self.drain


def padded(numbers: Numbers, rows: int, cols: int) -> Numbers:
    """Return a matrix filled up to whole tiles."""
    m, n = numbers.values.shape
    values = np.pad(numbers.values, ((0, -m % rows), (0, -n % cols)))
    return Numbers(values, padded_places(numbers.places, rows, cols))


def padded_places(places: Array, rows: int, cols: int) -> Array:
    """Return the places of a matrix filled up to whole tiles."""
    m, n = places.shape
    return np.pad(places, ((0, -m % rows), (0, -n % cols)), constant_values=PADDING)


def pick(numbers: Numbers, rows: Array, cols: Array) -> Numbers:
    """Return some numbers of a matrix."""
    return Numbers(numbers.values[rows, cols], numbers.places[rows, cols])


@dataclass
class Run:
    """A product on its way: the memory beside an array.

    Parameters
    ----------
    machine : Stationary or Output
        The array.
    results : array of int32
        The places of the result as the array sees it, transposed perhaps.
    adder : Adder, optional
        Adds up the sums of tiles outside the array; without one they enter it again at the top.
    watch : callable, optional
        Is told after every cycle.
    """

    machine: Registers
    results: Array
    adder: Adder | None = None
    watch: Watcher | None = None
    count: Count = field(default_factory=Count)

    def __post_init__(self) -> None:
        """Make the memory of sums, and of how many tiles are in each."""
        step = self.adder.step if self.adder else self.machine.step
        self.memory = np.zeros(self.results.size, step.dtype)
        self.done = np.zeros(self.memory.size if self.adder else 0, np.int32)

    def passed(self, phase: str, left: Numbers | None = None) -> None:
        """Count a cycle, and keep the results that left in it."""
        kept = np.zeros(0, np.int32)
        if left is not None:
            real = left.places >= 0
            kept = left.places[real]
            if kept.size:
                self.keep(left.values[real], kept)
        self.count.one(phase, int(np.count_nonzero(self.machine.active)))
        if self.watch is not None:
            self.watch(self.machine, phase, kept)

    def keep(self, values: Array, places: Array) -> None:
        """Write sums that have left the array to memory."""
        if self.adder is None:
            self.memory[places] = values
            return
        totals, numbers = self.memory[places], self.done[places]
        self.adder(np.ascontiguousarray(values), totals, places, numbers)
        self.memory[places] = totals
        self.done[places] = numbers + 1


def skewed(first: int, length: int, lanes: int) -> tuple[Array, Array]:
    """Return which lanes an item enters, and which, if item i enters lane l in cycle i + l.

    ``first`` is the cycle, counted from that of item 0 in lane 0.
    """
    lane = np.arange(max(0, first - length + 1), min(lanes - 1, first) + 1)
    return lane, first - lane


def stationary(run: Run, machine: Stationary, x: Numbers, w: Numbers, double_buffered: bool) -> None:
    """Multiply x (P, K), which moves, by w (K, Q), which stays: for each tile of columns all tiles of K in turn."""
    rows, cols = machine.active.shape
    count, (k, q) = x.values.shape[0], w.values.shape
    x, w, results = padded(x, 1, rows), padded(w, rows, cols), padded_places(run.results, 1, cols)
    tiles = [(at, left) for left in range(0, q, cols) for at in range(0, k, rows)]
    run.count.tiles = len(tiles)
    feed = _Feed(run, x, w, results, tiles, count)
    if double_buffered:
        _overlapped(run, machine, feed)
    else:
        for tile in range(len(tiles)):
            _alone(run, machine, feed, tile)


def _alone(run: Run, machine: Stationary, feed: _Feed, tile: int) -> None:
    """Run one tile: load it, and multiply until nothing is left in the array."""
    rows, cols = machine.active.shape
    at, left = feed.tiles[tile]
    for row in reversed(range(rows)):
        machine.load(pick(feed.w, np.full(cols, at + row), left + np.arange(cols)))
        run.passed("fill")
    first, expected = 0, feed.count * cols
    while expected:
        machine.cycle(feed.left([(tile, first)])[0], feed.sums([(tile, first)]))
        leaving = machine.bottom()
        expected -= leaving.there()
        run.passed("stream" if first < feed.count else "drain", leaving)
        first += 1


def _overlapped(run: Run, machine: Stationary, feed: _Feed) -> None:
    """Run all tiles, each loaded while the one before is worked on."""
    rows, cols = machine.active.shape
    now, oldest, expected = 0, 0, len(feed.tiles) * feed.count * cols
    loads, starts = [0], [rows]  # the cycles in which each tile's first number to wait enters, and first one to move
    while expected:
        if now == starts[-1] and len(starts) < len(feed.tiles):
            # The registers of waiting numbers become free from the corner on, in which the next ones enter.
            loads.append(now)
            starts.append(max(now + feed.count, now + rows))
        if now - starts[oldest] > feed.count + rows + cols:
            oldest += 1
        known = range(oldest, len(starts))
        left, swap = feed.left([(tile, now - starts[tile]) for tile in known])
        coming, addressee = feed.weights([(tile, now - loads[tile]) for tile in known])
        top = feed.sums([(tile, now - starts[tile]) for tile in known])
        machine.cycle(left, top, swap, coming, addressee)
        leaving = machine.bottom()
        expected -= leaving.there()
        streaming = any(starts[tile] <= now < starts[tile] + feed.count for tile in known)
        run.passed("stream" if streaming else "fill" if now < starts[-1] else "drain", leaving)
        now += 1


@dataclass
class _Feed:
    """What enters the edges of an array in a cycle, for tiles that began some cycles ago."""

    run: Run
    x: Numbers
    w: Numbers
    results: Array
    tiles: list[tuple[int, int]]
    count: int

    def left(self, tiles: list[tuple[int, int]]) -> tuple[Numbers, Array]:
        """Return what enters the rows from the left, and where it is the first of a tile."""
        rows, _ = self.run.machine.active.shape
        edge = Numbers.none((rows,), self.x.values.dtype)
        swap = np.zeros(rows, np.bool_)
        for tile, first in tiles:
            lane, item = skewed(first, self.count, rows)
            if lane.size:
                for own, new in zip(edge, pick(self.x, item, self.tiles[tile][0] + lane), strict=True):
                    own[lane] = new
                swap[lane[item == 0]] = True
        return edge, swap

    def sums(self, tiles: list[tuple[int, int]]) -> Numbers:
        """Return the sums that enter the columns from the top: +0, or those of the tile before."""
        _, cols = self.run.machine.active.shape
        edge = Numbers.none((cols,), self.run.memory.dtype)
        for tile, first in tiles:
            lane, item = skewed(first, self.count, cols)
            if lane.size:
                places = self.results[item, self.tiles[tile][1] + lane]
                edge.places[lane] = places
                if self.run.adder is None and self.tiles[tile][0]:
                    edge.values[lane] = np.where(places >= 0, self.run.memory[np.maximum(places, 0)], 0)
        return edge

    def weights(self, tiles: list[tuple[int, int]]) -> tuple[Numbers, Array]:
        """Return what enters the columns from the top to wait, and for which row it is."""
        rows, cols = self.run.machine.active.shape
        edge = Numbers.none((cols,), self.w.values.dtype)
        addressee = np.full(cols, EMPTY, np.int32)
        for tile, first in tiles:
            lane, item = skewed(first, rows, cols)
            if lane.size:
                at, left = self.tiles[tile]
                for own, new in zip(edge, pick(self.w, at + item, left + lane), strict=True):
                    own[lane] = new
                addressee[lane] = item
        return edge, addressee


def output(run: Run, machine: Output, a: Numbers, b: Numbers, drain: bool) -> None:
    """Multiply a (M, K), which moves right, by b (K, N), which moves down, a tile of the result at a time."""
    rows, cols = machine.active.shape
    (m, k), n = a.values.shape, b.values.shape[1]
    a, b, results = padded(a, rows, 1), padded(b, 1, cols), padded_places(run.results, rows, cols)
    for above in range(0, m, rows):
        for left in range(0, n, cols):
            run.count.tiles += 1
            machine.clear(results[above : above + rows, left : left + cols])
            first, expected = 0, rows * k
            while expected:
                row, at = skewed(first, k, rows)
                west = Numbers.none((rows,), a.values.dtype)
                west.values[row], west.places[row] = pick(a, above + row, at)
                col, at = skewed(first, k, cols)
                north = Numbers.none((cols,), b.values.dtype)
                north.values[col], north.places[col] = pick(b, at, left + col)
                machine.cycle(west, north)
                expected -= machine.right().there()
                read = None if drain or expected else Numbers(*(part.reshape(-1) for part in machine.sums))
                run.passed("stream" if first < k else "drain", read)
                first += 1
            while drain and machine.sums.there():
                read = machine.drain()
                run.passed("drain", read)
