"""Systolic arrays by their rule: one processing element at a time, in plain Python, with dictionaries for registers.

Written from the words of `lowprec.systolic.simulate` and of docs/systolic.md. In every cycle the registers of the next
one are made from those of this one, so nothing can be overwritten before it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lowprec as lp

NONE, PADDING = (-1, -1), (-2, -2)
Number = tuple[float, tuple[int, int]]
Element = dict[str, Any]
Grid = dict[tuple[int, int], Element]
EMPTY: Number = (0.0, NONE)


def stepper(model: Any, formats: tuple[Any, Any], seed: int, columns: int) -> Callable[..., float]:
    """Return what an element computes from a[m, k], b[k, n] and a sum: the definition of the model, one product."""

    def step(x: Number, y: Number, r: Number) -> float:
        (m, k), (_, n) = x[1], y[1]
        out = model.result_format
        codes = [lp.reference.encode(v[0], f) for v, f in zip((x, y, r), (*formats, out), strict=True)]
        code = lp.reference.accumulate(
            model, codes[:1], codes[1:2], codes[2], formats=formats, seed=seed, index=m * columns + n, first_k=k
        )
        return float(lp.reference.decode(code, out))

    return step


def blank(rows: int, cols: int) -> Grid:
    return {(r, c): {"a": EMPTY, "b": EMPTY, "c": EMPTY, "active": False} for r in range(rows) for c in range(cols)}


def number(matrix: Any, row: int, column: int) -> Number:
    inside = row < len(matrix) and column < len(matrix[0])
    return (matrix[row][column], (row, column)) if inside else (0.0, PADDING)


def real(*numbers: Number) -> bool:
    return all(n[1] not in (NONE, PADDING) for n in numbers)


def stationary(a: Any, b: Any, rows: int, cols: int, step: Any, buffered: bool) -> Iterator[tuple[str, Grid, list]]:
    """Yield phase, registers and what leaves, after every cycle; b stays."""
    m, k, n = len(a), len(b), len(b[0])
    memory = {(i, j): 0.0 for i in range(m) for j in range(n)}
    tiles = [(at, left) for left in range(0, n, cols) for at in range(0, k, rows)]
    period = max(m, rows)
    starts = [rows + f * period for f in range(len(tiles))]
    grid = blank(rows, cols)

    def compute(new: Grid) -> list:
        leaving = []
        for (r, _), e in new.items():
            e["active"] = real(e["a"], e["b"], e["c"])
            if e["active"]:
                e["c"] = (step(e["a"], e["b"], e["c"]), e["c"][1])
            if r == rows - 1 and real(e["c"]):
                memory[e["c"][1]] = e["c"][0]
                leaving.append(e["c"][1])
        return leaving

    def entering(new: Grid, now: int, started: list[int]) -> None:
        for f, begin in enumerate(started):
            at, left = tiles[f]
            for r in range(rows):
                if 0 <= now - begin - r < m:
                    new[r, 0]["a"] = number(a, now - begin - r, at + r)
            for c in range(cols):
                if 0 <= now - begin - c < m:
                    place = (now - begin - c, left + c)
                    there = place in memory
                    new[0, c]["c"] = (memory[place] if there and at else 0.0, place if there else PADDING)

    def moved(old: Grid) -> Grid:
        new = blank(rows, cols)
        for r, c in new:
            new[r, c]["b"] = old[r, c]["b"]
            new[r, c]["a"] = old[r, c - 1]["a"] if c else EMPTY
            new[r, c]["c"] = old[r - 1, c]["c"] if r else EMPTY
        return new

    if buffered:
        for now in range(starts[-1] + m + rows + cols - 2):
            grid = moved(grid)
            for r, c in grid:
                for f, begin in enumerate(starts):
                    if now == begin + r + c:
                        grid[r, c]["b"] = number(b, tiles[f][0] + r, tiles[f][1] + c)
            entering(grid, now, starts)
            streams = any(begin <= now < begin + m for begin in starts)
            left = compute(grid)
            yield "stream" if streams else "fill" if now < starts[-1] else "drain", grid, left
        return
    for f, (at, left_column) in enumerate(tiles):
        for cycle in range(rows):
            old, grid = grid, moved(grid)
            for r, c in grid:
                grid[r, c]["b"] = old[r - 1, c]["b"] if r else number(b, at + rows - 1 - cycle, left_column + c)
            yield "fill", grid, []
        begins = [-(10**9)] * f + [0]
        for now in range(m + rows + cols - 2):
            grid = moved(grid)
            entering(grid, now, begins)
            left = compute(grid)
            yield "stream" if now < m else "drain", grid, left


def output(a: Any, b: Any, rows: int, cols: int, step: Any, drain: bool) -> Iterator[tuple[str, Grid, list]]:
    """Yield the same for an array in which the sums stay."""
    m, k, n = len(a), len(b), len(b[0])
    grid = blank(rows, cols)
    for above in range(0, m, rows):
        for left in range(0, n, cols):
            for r, c in grid:
                inside = above + r < m and left + c < n
                grid[r, c]["c"] = (0.0, (above + r, left + c) if inside else PADDING)
            cycles = k + rows + cols - 2
            for now in range(cycles):
                new = blank(rows, cols)
                for (r, c), e in new.items():
                    at_r, at_c = now - r, now - c
                    west = number(a, above + r, at_r) if 0 <= at_r < k else EMPTY
                    north = number(b, at_c, left + c) if 0 <= at_c < k else EMPTY
                    e["a"] = grid[r, c - 1]["a"] if c else west
                    e["b"] = grid[r - 1, c]["b"] if r else north
                    e["c"] = grid[r, c]["c"]
                    e["active"] = real(e["a"], e["b"], e["c"])
                    if e["active"]:
                        e["c"] = (step(e["a"], e["b"], e["c"]), e["c"][1])
                grid = new
                read = [] if drain or now < cycles - 1 else [e["c"][1] for e in grid.values() if real(e["c"])]
                yield "stream" if now < k else "drain", grid, read
            for _ in range(rows if drain else 0):
                new = blank(rows, cols)
                for r, c in new:
                    new[r, c]["a"] = grid[r, c - 1]["a"] if c else EMPTY
                    new[r, c]["b"] = grid[r - 1, c]["b"] if r else EMPTY
                    new[r, c]["c"] = grid[r - 1, c]["c"] if r else EMPTY
                leaving = [grid[rows - 1, c]["c"][1] for c in range(cols) if real(grid[rows - 1, c]["c"])]
                grid = new
                yield "drain", grid, leaving


def simulate(a: Any, b: Any, rows: int, cols: int, dataflow: str, step: Any, flag: bool) -> Iterator[Any]:
    """Yield phase, registers and what leaves after every cycle; `flag` is double_buffered, or drain for "os"."""
    if dataflow == "os":
        yield from output(a, b, rows, cols, step, flag)
        return
    if dataflow == "ws":
        yield from stationary(a, b, rows, cols, step, flag)
        return

    def turned(n: Number) -> Number:
        return n[0], n[1][::-1]

    def step_turned(x: Number, y: Number, r: Number) -> float:
        return step(turned(y), turned(x), turned(r))

    across = stationary([*zip(*b, strict=True)], [*zip(*a, strict=True)], rows, cols, step_turned, flag)
    for phase, grid, left in across:
        named = {
            at: {"a": turned(e["b"]), "b": turned(e["a"]), "c": turned(e["c"]), "active": e["active"]}
            for at, e in grid.items()
        }
        yield phase, named, [place[::-1] for place in left]
