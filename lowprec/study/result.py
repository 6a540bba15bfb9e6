"""What a study found: records, and the ways to look at them."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lowprec import _text_tables as tables
from lowprec.study import _views
from lowprec.study._costs import Prices, prices

Record = dict[str, Any]
"""One row of a study: a plain dict.

First what ran: `workload`, `format`, `label`, `bits`, `accumulator`, `scales`, `weights`, `activations`, `sparsity`,
`seed`; then what the workload says, measures under their names with `_low` and `_high` where they spread over several
parts (windows, seeds); then what it costs: `ge`, `ge_low`, `ge_high`, `ge_unit`, `bits_per_weight`, `energy_pj`, None
where `lowprec.cost` has no number.
"""


class StudyResult:
    """The records of a study and their views: text, CSV, pandas, plots, HTML.

    Parameters
    ----------
    table : sequence of dict
        Records, one at least.
    workload, source : str
        What ran, and where its weights and data come from.
    metrics : sequence of Metric
        What was measured, the most telling first; a record has the value under the metric's name.
    skipped : sequence of tuple
        Settings that could not run, each with its reason.
    notes : sequence of str
        Sentences of the workload on how to read its measures.
    seed : int
        That of the study.
    settings : sequence of Arithmetic, optional
        That of each record, which its costs are found for.
    cached, computed : int
        How many units of work came from the cache, and how many were run.

    Raises
    ------
    ValueError
        If there is no record, or not as many settings as records.

    Examples
    --------
    >>> import lowprec as lp
    >>> result = lp.study("digits", dtypes=["bf16"], progress=False)
    >>> result.table[0]["bits"], round(result.table[0]["ge"])
    (16, 956)
    """

    def __init__(
        self,
        table: Sequence[Mapping[str, Any]],
        *,
        workload: str,
        source: str,
        metrics: Sequence[Any] = (),
        skipped: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
        seed: int = 0,
        settings: Sequence[Any] = (),
        cached: int = 0,
        computed: int = 0,
    ) -> None:
        if not table:
            msg = "`table` must have at least one record."
            raise ValueError(msg)
        if settings and len(settings) != len(table):
            msg = f"`settings` must have one entry per record, {len(table)}, got {len(settings)}."
            raise ValueError(msg)
        found = [prices(setting)[0] for setting in settings] or [Prices()] * len(table)
        self.table: list[Record] = [{**record, **each._asdict()} for record, each in zip(table, found, strict=True)]
        for record in self.table:
            record.setdefault("label", record.get("format", ""))
        self.workload = workload
        self.source = source
        self.metrics = tuple(metrics)
        self.skipped = tuple(skipped)
        self.workload_notes = tuple(notes)
        self.seed = seed
        self.settings = tuple(settings)
        self.cached = cached
        self.computed = computed

    @property
    def notes(self) -> tuple[str, ...]:
        """How to read the table: one sentence per entry, the numbers taken from it; what was skipped, and why."""
        return _views.notes(self)

    @property
    def axes(self) -> tuple[str, ...]:
        """Columns by which the records of one setting differ, such as ``("distribution", "K")``; often none."""
        return _views.axes_of(self.table, self.metrics)

    @property
    def axis(self) -> str | None:
        """The first of them that holds numbers, such as ``"K"``."""
        for name in self.axes:
            values = [record.get(name) for record in self.table]
            if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
                return name
        return None

    @property
    def samples(self) -> int | None:
        """Number of samples, where all records have the same."""
        counts = {record.get("samples") for record in self.table}
        return counts.pop() if len(counts) == 1 else None

    def _view(self) -> tables.Table:
        """Return the columns that a reader needs, as strings."""
        return _views.view(self)

    def __str__(self) -> str:
        """Return the table as plain text."""
        return tables.plain(self._view())

    def __repr__(self) -> str:
        """Return one line."""
        count = len(self.table)
        more = "" if self.samples is None else f", {self.samples} samples"
        return f"StudyResult({self.workload!r}, {count} {'record' if count == 1 else 'records'}{more})"

    def __rich__(self) -> Any:
        """Return the table for rich, without the least columns where the terminal is narrow."""
        return _Fitted(self._view())

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

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write all records as comma-separated values, floats in full; lists (curves) as JSON.

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
        names = list(dict.fromkeys(name for record in self.table for name in record))
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
            writer.writeheader()
            for record in self.table:
                lists = {name: json.dumps(value) for name, value in record.items() if isinstance(value, (list, dict))}
                writer.writerow(record | lists)
        return target

    def to_pandas(self) -> Any:
        """Return the records as a data frame.

        Returns
        -------
        pandas.DataFrame
            One row for each record, one column for each name.

        Raises
        ------
        ImportError
            If pandas is missing; ``pip install "lowprec[pandas]"`` installs it.
        """
        from lowprec import _extras

        return _extras.require("pandas", "A data frame", "pandas").DataFrame(self.table)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The figures that these records can be drawn as, the default first."""
        from lowprec.study import plots

        return plots.kinds(self)

    def plot(
        self,
        path: str | PathLike[str],
        kind: str | None = None,
        *,
        metric: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Path:
        """Draw the study.

        Parameters
        ----------
        path : path
            File to write; its suffix names the kind of file (``.png``, ``.pdf``, ``.svg``).
        kind : {"bits", "gates", "growth", "heatmap", "curves"}, optional
            What to draw: measures against bits per value; a measure against gate equivalents, with the Pareto front;
            against a number that the workload varies, such as K; in a grid of formats by accumulators; curves of
            training. By default the first of `kinds`.
        metric : str or sequence of str, optional
            Names of measures, the first one of the study if not given; "bits" draws two, one above the other.
        where : dict, optional
            Values of columns that records must have to be drawn, such as ``{"K": 4096}``. What "bits", "gates" and
            "heatmap" cannot show beside each other is cut to the largest number or the first word, as the title says.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If the records cannot be drawn so, a measure or column is unknown, or matplotlib does not know the suffix.
        OSError
            If the file cannot be written.
        """
        from lowprec.study import plots

        return plots.save(self, Path(path), kind, metric=metric, where=where)

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write one self-contained page: the figures, the table, the sentences below it, and the source.

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
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        OSError
            If the file cannot be written.
        """
        from lowprec.study import plots

        title = html.escape(f"lowprec study: {self.workload}")
        figures = "\n".join(f"<figure>{plots.svg(self, kind)}</figure>" for kind in self.kinds)
        target = Path(path)
        target.write_text(
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{figures}\n{self._repr_html_()}\n"
            f"<p>Source: {html.escape(self.source)}. Seed: {self.seed}.</p>\n</body>\n</html>\n",
            encoding="utf-8",
        )
        return target


class _Fitted:
    """A table that leaves columns out when rich's console is too narrow for it."""

    def __init__(self, view: tables.Table) -> None:
        self.view = view

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Yield what rich prints."""
        yield tables.rich_table(self.view.fitted(options.max_width))


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "figure{margin:1.5rem 0}svg{width:100%;height:auto;max-height:90vh}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}"
    "caption{text-align:left;font-weight:600}th,td{padding:.2rem .7rem;text-align:right}"
    "th{border-bottom:1px solid #888}tr:hover{background:#f3f3f3}"
)
