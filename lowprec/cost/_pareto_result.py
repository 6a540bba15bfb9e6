"""What `pareto` found: one record for each candidate, those on the front marked, and the ways to look at them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypedDict

from lowprec import _text_tables as tables
from lowprec.cost._accuracy import METRICS
from lowprec.cost._printed import Printed


class ParetoRecord(TypedDict):
    """One candidate.

    `family` is float, narrow (a float with a scale), integer, block or stored (weights decoded before the product).
    `unit` is what `cost` is counted for: a MAC, or a lane of a dot unit. `cost_low` and `cost_high` are its range, and
    `relative` is `cost` over that of an int8 MAC with an int32 sum, None where that has no meaning. `bits` are those
    of a stored weight, with scales and what says which are kept.
    """

    candidate: str
    x_format: str
    w_format: str
    accumulator: str
    sparsity: str
    family: str
    unit: str
    bits: float
    cost: float
    cost_low: float
    cost_high: float
    cost_kind: str
    relative: float | None
    accuracy: float
    front: bool


@dataclass(frozen=True, eq=False, repr=False)
class ParetoResult(Printed):
    """The records of `pareto`; print it, or take `.table`, `.front`, `.to_csv`, `.plot`.

    Parameters
    ----------
    table : list of dict
        One record for each candidate, in the order given.
    metric, metric_label : str
        The measure of accuracy, and what it is in words.
    larger_is_better : bool
        Which way it goes.
    cost, cost_label : str
        What is paid, and what it is in words.
    shape : tuple of int
        Tokens, inputs and outputs: M, K, N.
    scales : str
        ``"tensor"`` or ``"row"``: where formats that need scales get them.
    logarithmic : bool
        Whether accuracy is drawn on a logarithmic axis.
    left_out : tuple of str
        The usual candidates that the cost has no model for.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.random.default_rng(0).standard_normal((2, 8, 64))
    >>> result = lp.cost.pareto(x, w, ["bf16", "int8", "int8/int24"], progress=False)
    >>> [record["candidate"] for record in result.front]
    ['int8/int24', 'bf16/fp32']
    """

    table: list[ParetoRecord]
    metric: str
    metric_label: str
    larger_is_better: bool
    cost: str
    cost_label: str
    shape: tuple[int, int, int]
    scales: str
    logarithmic: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def front(self) -> list[ParetoRecord]:
        """The records that no other beats, the cheapest first."""
        return sorted((record for record in self.table if record["front"]), key=lambda record: record["cost"])

    @property
    def notes(self) -> tuple[str, ...]:
        """How to read the table."""
        better = "more" if self.larger_is_better else "less"
        meaning = METRICS[self.metric].meaning if self.metric in METRICS else "of the product and its reference"
        said = [
            "* on the Pareto front: nothing else here is as good in both and better in one.",
            f"{self.metric}: {meaning}; {better} is better.",
        ]
        units = {record["unit"].rstrip("0123456789") for record in self.table}
        if self.cost == "ge":
            said += _GATES
            if len(units) > 1:
                said.append('Not like for like: the lanes of a dot share its tail. unit="dot" prices all as dot units.')
        if any(record["sparsity"] for record in self.table) and self.cost in ("ge", "energy"):
            said.append("Sparse: per product of the dense matrices, of which a sparse unit leaves some out.")
        lost = [record["candidate"] for record in self.table if math.isnan(record["accuracy"])]
        if lost:
            said.append(f"nan: the product has infinities or NaN ({', '.join(lost)}); never on the front.")
        if self.left_out:
            said.append(f"Left out, since {self.cost} has no number for them: {', '.join(self.left_out)}.")
        return tuple(said)

    def _view(self) -> tables.Table:
        """Return the records as strings, the cheapest first."""
        rows = sorted(self.table, key=lambda record: (math.isnan(record["cost"]), record["cost"]))
        relative = any(record["relative"] is not None for record in rows)
        ranges = any(record["cost_low"] < record["cost_high"] for record in rows)
        stored = self.cost != "bits"  # which are the cost itself then
        columns = ["<candidate", "<unit", *(["bits"] if stored else []), self.cost, *(["<range"] if ranges else [])]
        columns += [*(["rel. int8/int32"] if relative else []), self.metric, "<front"]
        cells = [
            [
                record["candidate"],
                record["unit"],
                *([f"{record['bits']:.5g}"] if stored else []),
                f"{record['cost']:.4g}",
                *([f"{record['cost_low']:.4g} to {record['cost_high']:.4g}"] if ranges else []),
                *(["" if record["relative"] is None else f"{record['relative']:.3f}"] if relative else []),
                f"{record['accuracy']:.4g}",
                "*" if record["front"] else "",
            ]
            for record in rows
        ]
        title = f"{self.metric_label} of a product of {' x '.join(map(str, self.shape))} against {self.cost_label}"
        return tables.Table(
            columns, cells, title, self.notes, optional=["range", "unit", *(["bits"] if stored else [])]
        )

    def __repr__(self) -> str:
        """Return one line."""
        said = f"{len(self.front)} of {len(self.table)} candidates on the front of {self.metric} by {self.cost}"
        return f"<ParetoResult: {said}>"

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write the records as comma-separated values, floats in full.

        Parameters
        ----------
        path : path
            File to write; an existing one is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        target = Path(path)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(ParetoRecord.__annotations__), lineterminator="\n")
            writer.writeheader()
            writer.writerows(dict(record) for record in self.table)
        return target

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw accuracy against cost: every candidate with its name and its range, and the front as a line.

        Parameters
        ----------
        path : path
            File to write; its suffix names the kind (``.png``, ``.pdf``, ``.svg``).

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        ValueError
            If matplotlib does not know the suffix.
        OSError
            If the file cannot be written.
        """
        from lowprec.cost import _pareto_plot

        return _pareto_plot.save(self, Path(path))


_GATES = (
    "ge: gate equivalents of a product and its addition, with the sum's register, by closed forms; with their range.",
    "MAC: a unit of its own. dotN: one lane of a unit that sums N products at once.",
)


def front(points: Sequence[tuple[float, float]], larger_is_better: bool) -> list[bool]:
    """Say which points of (cost, accuracy) no other is as good as in both and better in one; equal points stay.

    A cost that is not finite, or an accuracy that is NaN or infinite the wrong way, is on no front.
    """
    sign = 1.0 if larger_is_better else -1.0
    found = [False] * len(points)
    usable = [i for i, (cost, value) in enumerate(points) if math.isfinite(cost) and sign * value > -math.inf]
    best = -math.inf
    at = 0
    ordered = sorted(usable, key=lambda i: (points[i][0], -sign * points[i][1]))
    while at < len(ordered):
        cost, value = points[ordered[at]]
        if sign * value > best:
            best = sign * value
            while at < len(ordered) and points[ordered[at]] == (cost, value):
                found[ordered[at]] = True
                at += 1
        else:
            at += 1
    return found
