"""What ran in the emulation, layer by layer, and what ran as it is."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lowprec import _text_tables as tables
from lowprec._extras import require
from lowprec.cost._printed import Printed
from lowprec.torch._arrays import to_array
from lowprec.torch._layers import Place

COLUMNS = ("layer", "phase", "operator", "shapes", "calls", "arithmetic", "macs", "sqnr_db")


class _Sums:
    """What a row counts."""

    __slots__ = ("calls", "compared", "macs", "noise", "signal")

    def __init__(self) -> None:
        self.calls = self.macs = self.compared = 0
        self.signal = self.noise = 0.0


class Report(Printed):
    """What `emulate` did: a row for each layer, direction, operator and shape.

    Parameters
    ----------
    compare : bool
        Whether every result is compared with the float64 product of the same operands.

    Raises
    ------
    Nothing.
    """

    def __init__(self, compare: bool = False) -> None:
        self.compare = compare
        self._rows: dict[tuple[Any, ...], _Sums] = {}
        self._native: dict[tuple[str, str, str], int] = {}
        self._notes: dict[str, None] = {}

    # -------------------------------------------------------------------------------------------------------- filling
    def add(
        self, place: Place, name: str, tensors: Sequence[torch.Tensor], arithmetic: str, macs: int,
        results: Sequence[torch.Tensor | None], reference: Callable[[], Any],
    ) -> None:  # fmt: skip
        """Count a product, and compare it if that was asked for."""
        key = (*place, name, arithmetic, *[tensor.shape for tensor in tensors])
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Sums()
        row.calls += 1
        row.macs += macs
        if not self.compare:
            return
        exact = reference()
        exact = exact if isinstance(exact, (tuple, list)) else (exact,)
        for result, truth in zip(results, exact, strict=True):
            if result is None or truth is None or result.numel() == 0:
                continue
            right = to_array(truth).astype(np.float64)
            with np.errstate(all="ignore"):
                wrong = to_array(result).astype(np.float64) - right
                row.signal += float(np.sum(right * right))
                row.noise += float(np.sum(wrong * wrong))
            row.compared += 1

    def ran_natively(self, place: Place, name: str, why: str) -> None:
        """Count a product that torch computed."""
        key = (place.layer, name, why)
        self._native[key] = self._native.get(key, 0) + 1

    def note(self, text: str) -> None:
        """Add a sentence to be printed below the table."""
        self._notes[text] = None

    # -------------------------------------------------------------------------------------------------------- reading
    @property
    def table(self) -> list[dict[str, Any]]:
        """Records, one for each row: the columns of the table; `sqnr_db` is None where nothing was compared."""
        found = []
        for (layer, backward, name, arithmetic, *sizes), row in self._rows.items():
            phase = "backward" if backward else "forward"
            shapes = ", ".join("x".join(map(str, size)) for size in sizes)
            values = (layer, phase, name, shapes, row.calls, arithmetic, row.macs, _decibels(row))
            found.append(dict(zip(COLUMNS, values, strict=True)))
        return found

    @property
    def native(self) -> list[dict[str, Any]]:
        """Records of what torch computed itself: layer, operator, why, calls."""
        return [
            {"layer": layer, "operator": name, "why": why, "calls": calls}
            for (layer, name, why), calls in self._native.items()
        ]

    @property
    def notes(self) -> list[str]:
        """Sentences about the run."""
        return list(self._notes)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __repr__(self) -> str:
        """Return one line."""
        layers = len({key[0] for key in self._rows})
        calls = sum(row.calls for row in self._rows.values())
        outside = sum(self._native.values())
        return f"<Report: {calls} products in {layers} layers emulated, {outside} products by torch; print it>"

    def _view(self) -> tables.Table:
        compared = any(row.compared for row in self._rows.values())
        columns = [
            "<layer",
            "<phase",
            "<operator",
            "<shapes",
            "calls",
            "<arithmetic",
            *(["SQNR/dB"] if compared else []),
        ]
        rows = []
        for each in self.table:
            cells = [str(each[name]) for name in ("layer", "phase", "operator", "shapes", "calls", "arithmetic")]
            if compared:
                cells.append("" if each["sqnr_db"] is None else f"{each['sqnr_db']:.1f}")
            rows.append(cells)
        notes = [
            f"By torch itself: {each['operator']} in {each['layer']}, {each['calls']} times: {each['why']}."
            for each in self.native
        ]
        title = "Products in the emulation" if rows else "No product ran in the emulation."
        return tables.Table(columns, rows, title, [*notes, *self.notes], ("shapes", "arithmetic"))

    def to_csv(self, path: Any) -> None:
        """Write the table as comma-separated values.

        Parameters
        ----------
        path : path-like
            Where to.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.table)

    def to_pandas(self) -> Any:
        """Return the table as a data frame.

        Returns
        -------
        pandas.DataFrame
            One row per record.

        Raises
        ------
        ImportError
            If pandas is missing.
        """
        return require("pandas", "A data frame", "study").DataFrame(self.table, columns=list(COLUMNS))


def _decibels(row: _Sums) -> float | None:
    """Return the ratio of the sums of squares; infinity where nothing is lost, NaN where a result is not finite."""
    if not row.compared:
        return None
    if not (math.isfinite(row.signal) and math.isfinite(row.noise)):
        return math.nan
    if row.noise == 0:
        return math.inf
    return 10 * math.log10(row.signal / row.noise) if row.signal else -math.inf
