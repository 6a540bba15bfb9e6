"""SystolicResult: the product that an array made, and what was counted on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lowprec import _text_tables as tables
from lowprec._checks import Array
from lowprec._dataflows import DATAFLOWS
from lowprec.accumulators import Accumulator
from lowprec.systolic._trace import Trace


@dataclass(frozen=True, eq=False)
class SystolicResult:
    """What `simulate` found.

    Parameters
    ----------
    values : array
        The product, (M, N), with the bits and the dtype of ``matmul(a, b, dtype, accumulator=...)``.
    rows, cols : int
        Processing elements along each side of the array.
    dataflow : str
        ``"ws"``, ``"os"`` or ``"is"``.
    shape : tuple of int
        M, K and N.
    accumulator : Accumulator
        The sum that the array formed: what `matmul` has to be given for the same bits.
    tiles : int
        Tiles that were loaded or, output-stationary, that results were made in.
    fill : int
        Cycles in which the array waited for the numbers that stay.
    stream : int
        Cycles in which a new row (output-stationary: a new k) entered at the corner.
    drain : int
        Cycles from then until the last number had left.
    macs : int
        Steps of processing elements that were of use: M K N.
    trace : Trace or None
        What every element held after every cycle, if that was asked for.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.ones((2, 2), np.int8)
    >>> print(lp.systolic.simulate(x, x, rows=2, cols=2))
    2 x 2 array, weight-stationary, of (2, 2) x (2, 2)
    counted  cycles
    -------  ------
    fill          2
    stream        2
    drain         2
    in all        6
    Tiles: 1. Multiply-adds: 8, 33.3% of what the array could do.
    Sum: int32 sum, each product added exactly, then wrap.
    """

    values: Array = field(repr=False)
    rows: int
    cols: int
    dataflow: str
    shape: tuple[int, int, int]
    accumulator: Accumulator
    tiles: int
    fill: int
    stream: int
    drain: int
    macs: int
    trace: Trace | None = field(default=None, repr=False)

    @property
    def cycles(self) -> int:
        """All cycles, from the first number that entered the array until the last one left it."""
        return self.fill + self.stream + self.drain

    @property
    def utilisation(self) -> float:
        """Steps that were of use, over those that all elements could have done."""
        return self.macs / (self.cycles * self.rows * self.cols)

    def _view(self) -> tables.Table:
        m, k, n = self.shape
        rows = [[name, str(getattr(self, name))] for name in ("fill", "stream", "drain")]
        rows.append(["in all", str(self.cycles)])
        title = f"{self.rows} x {self.cols} array, {DATAFLOWS[self.dataflow]}, of ({m}, {k}) x ({k}, {n})"
        notes = [
            f"Tiles: {self.tiles}. Multiply-adds: {self.macs}, {self.utilisation:.1%} of what the array could do.",
            f"Sum: {self.accumulator}.",
        ]
        return tables.Table(["<counted", "cycles"], rows, title, notes)

    def __str__(self) -> str:
        """Return the table as plain text."""
        return tables.plain(self._view())

    def __rich__(self) -> Any:
        """Return the table for rich."""
        return tables.rich_table(self._view())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return tables.to_html(self._view())

    def show(self) -> None:
        """Print the table to standard output, by rich where it is installed.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        tables.show(self._view())
