"""What a study found: records, and the ways to look at them."""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

from lowprec import _text_tables as tables


class Record(TypedDict):
    """One row of a study: one format with one accumulator.

    `sqnr_db` is ``10 * log10(sum(ref**2) / sum((logits - ref)**2))`` against the float64 reference: more is better.
    `weight_exponents` and `activation_exponents` are log2 of the scales, layer by layer.
    """

    workload: str
    format: str
    label: str
    bits: int
    exponent_bits: int
    mantissa_bits: int
    accumulator: str
    scaled: bool
    weight_exponents: str
    activation_exponents: str
    sqnr_db: float
    cross_entropy_nats: float
    cross_entropy_increase_nats: float
    accuracy: float
    top1_agreement: float
    samples: int


class StudyResult:
    """The records of a study and their views: text, CSV, plot, HTML.

    Parameters
    ----------
    table : sequence of Record
        At least one.
    workload, source : str
        What ran, and where its weights and data come from.
    samples : int
        Number of test samples.
    reference_cross_entropy, reference_accuracy : float
        Those of the float64 reference.

    Raises
    ------
    ValueError
        If there is no record.

    Examples
    --------
    >>> import lowprec as lp
    >>> result = lp.study("digits", dtypes=["bf16"], progress=False)
    >>> result.table[0]["bits"]
    16
    """

    def __init__(
        self,
        table: Sequence[Record],
        *,
        workload: str,
        source: str,
        samples: int,
        reference_cross_entropy: float,
        reference_accuracy: float,
    ) -> None:
        if not table:
            msg = "`table` must have at least one record."
            raise ValueError(msg)
        self.table = list(table)
        self.workload = workload
        self.source = source
        self.samples = samples
        self.reference_cross_entropy = reference_cross_entropy
        self.reference_accuracy = reference_accuracy

    @property
    def notes(self) -> tuple[str, ...]:
        """How to read the table: one sentence per entry, the numbers taken from it."""
        sentences = [
            self._accuracy_sentence(),
            "SQNR = 10 log10(sum ref^2 / sum (logits - ref)^2), ref: float64 with the same weights; more is better.",
            "CE: mean cross-entropy, and its increase over the reference's "
            f"{self.reference_cross_entropy:.5f} nats (reference accuracy {self.reference_accuracy:.2%}).",
            "agree: same class as the reference. sum in: the accumulator.",
        ]
        if any(row["scaled"] for row in self.table):
            sentences.append(
                "scaled: each tensor times a power of two so that its largest magnitude just fits the format, "
                "undone after the product; both exact."
            )
        return tuple(sentences)

    def _accuracy_sentence(self) -> str:
        """Say, with the numbers of this table, why accuracy is not enough."""
        shares = [row["accuracy"] for row in self.table]
        commonest = max(shares, key=lambda share: (shares.count(share), share))
        alike = [row["sqnr_db"] for row in self.table if row["accuracy"] == commonest]
        text = "Accuracy alone cannot tell formats apart: "
        if len(alike) > 1:
            return (
                f"{text}{len(alike)} of {len(shares)} rows have the accuracy {commonest:.2%}, "
                f"while their SQNR runs from {decibels(min(alike))} to {decibels(max(alike))} dB."
            )
        return f"{text}one sample in {self.samples} is {1 / self.samples:.2%}, so small errors do not show in it."

    def _view(self) -> tables.Table:
        """Return the columns that a reader needs, as strings."""
        columns = ["<format", "bits", "<sum in", "<scaled", "SQNR/dB", "CE/nats", "increase", "accuracy", "agree"]
        rows = [
            [
                row["label"],
                str(row["bits"]),
                row["accumulator"],
                "yes" if row["scaled"] else "no",
                decibels(row["sqnr_db"]),
                f"{row['cross_entropy_nats']:.5f}",
                f"{row['cross_entropy_increase_nats']:+.1e}",
                f"{row['accuracy']:.2%}",
                f"{row['top1_agreement']:.2%}",
            ]
            for row in self.table
        ]
        title = f"{self.workload}: {len(rows)} {'run' if len(rows) == 1 else 'runs'}, {self.samples} samples"
        return tables.Table(columns, rows, title, self.notes)

    def __str__(self) -> str:
        """Return the table as plain text."""
        return tables.plain(self._view())

    def __repr__(self) -> str:
        """Return one line."""
        return f"StudyResult({self.workload!r}, {len(self.table)} records, {self.samples} samples)"

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

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """Write all records as comma-separated values, floats in full.

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
            writer = csv.DictWriter(file, fieldnames=list(self.table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(dict(row) for row in self.table)
        return target

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw SQNR and the rise in cross-entropy against bits per value.

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
        from lowprec.study import plots

        return plots.save(self, Path(path))

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write one self-contained page: the table, the sentences below it, and the plot.

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
        target = Path(path)
        target.write_text(
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{plots.svg(self)}\n{self._repr_html_()}\n"
            f"<p>Source: {html.escape(self.source)}.</p>\n</body>\n</html>\n",
            encoding="utf-8",
        )
        return target


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "svg{width:100%;height:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "caption{text-align:left;font-weight:600}th,td{padding:.2rem .7rem;text-align:right}"
    "th{border-bottom:1px solid #888}tr:hover{background:#f3f3f3}"
)


def decibels(value: float) -> str:
    """Return a number of dB with one decimal, or ``inf``, ``-inf``, ``nan``."""
    return f"{value:.1f}" if math.isfinite(value) else str(value)
