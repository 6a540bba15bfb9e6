"""sparsity_report: what a weight loses by structured sparsity, in one call."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _text_tables as tables
from lowprec._checks import Array
from lowprec._observer import finite, integer, number
from lowprec.arrays import QuantizedArray
from lowprec.pruning import _losses
from lowprec.pruning._losses import CRITERIA, Loss, Storage
from lowprec.pruning._moments import moments
from lowprec.pruning.masks import numbers_of

_FORMATS = ("bf16", "e4m3fn", "e2m3fn", "int4")
_SECONDS = 60.0


@dataclass(frozen=True, eq=False)
class SparsityReport:
    """What `sparsity_report` found: two tables, and the ways to look at them.

    Parameters
    ----------
    shape : tuple of int
        Outputs and inputs.
    table : tuple of Loss
        What each way to make the weight sparse leaves of it.
    storage : tuple of Storage
        What it then takes in each format.
    held_out : bool
        Whether output errors are of other activations than those that criteria saw.
    seconds : float
        How long each search of a permutation was allowed to take; 0 for no search.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> report = lp.sparsity_report(np.random.default_rng(0).standard_normal((8, 16)), formats=["bf16"])
    >>> report.storage[0]["sparse_bits"], report.storage[0]["sparse_bytes"]
    (9.0, 144)
    """

    shape: tuple[int, int]
    table: tuple[Loss, ...]
    storage: tuple[Storage, ...]
    held_out: bool
    seconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """How to read the first table."""
        sentences = ["kept: the part of sum |w| whose places are kept. density: the part of the elements."]
        if self.table[0]["output_error"] is not None:
            of = "of held-out activations" if self.held_out else "of the activations that the criteria saw"
            sentences.append(f"output error: sum (x (w - sparse)^T)^2 / sum (x w^T)^2, {of}.")
        if any(row["permuted"] for row in self.table):
            ended = "" if all(row["finished"] for row in self.table) else ", which ended it"
            sentences.append(
                f"permuted: exhaustive search in windows of 8 channels, at most {self.seconds:g} s{ended}."
            )
        return tuple(sentences)

    def _view(self) -> tables.Table:
        """Return the losses as strings."""
        with_error = self.table[0]["output_error"] is not None
        columns = ["<way", "density", "kept", *(["output error"] if with_error else [])]
        rows = [
            [
                row["method"],
                f"{row['density']:.4f}",
                f"{row['kept_magnitude']:.4f}",
                *([f"{row['output_error']:.4g}"] if with_error else []),
            ]
            for row in self.table
        ]
        return tables.Table(columns, rows, f"Weight of {self.shape[0]} x {self.shape[1]}", self.notes)

    def _storage_view(self) -> tables.Table:
        """Return the storage as strings."""
        columns = ["<format", "<pattern", "dense bits", "sparse bits", "dense bytes", "sparse bytes", "ratio"]
        rows = [
            [
                row["format"],
                row["pattern"],
                f"{row['dense_bits']:g}",
                f"{row['sparse_bits']:g}",
                str(row["dense_bytes"]),
                str(row["sparse_bytes"]),
                f"{row['ratio']:.4f}",
            ]
            for row in self.storage
        ]
        notes = ["bits: per element of the dense weight, with 4 for each group that say which are kept, and scales."]
        return tables.Table(columns, rows, "Storage", notes)

    def _tables(self) -> list[tables.Table]:
        return [self._view(), *([self._storage_view()] if self.storage else [])]

    def __str__(self) -> str:
        """Return the tables as plain text."""
        return "\n\n".join(map(tables.plain, self._tables()))

    def __repr__(self) -> str:
        """Return one line."""
        return f"SparsityReport(shape={self.shape}, {len(self.table)} ways, {len(self.storage)} rows of storage)"

    def __rich__(self) -> Any:
        """Return the tables for rich."""
        from rich.console import Group

        return Group(*map(tables.rich_table, self._tables()))

    def _repr_html_(self) -> str:
        """Return the tables for a notebook."""
        return "\n".join(map(tables.to_html, self._tables()))

    def show(self) -> None:
        """Print the tables to standard output, by rich where it is installed.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        for place, table in enumerate(self._tables()):
            if place:
                print()
            tables.show(table)

    def to_csv(self, path: str | PathLike[str], *, storage: bool = False) -> Path:
        """Write the records as comma-separated values, floats in full.

        Parameters
        ----------
        path : path
            File to write; an existing one is replaced.
        storage : bool
            Whether those of `storage` are written, in place of those of `table`.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        target, names = Path(path), list((Storage if storage else Loss).__annotations__)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(dict(row) for row in (self.storage if storage else self.table))
        return target

    def plot(self, path: str | PathLike[str]) -> Path:
        """Draw the kept magnitude of each way as bars and, with activations, the output error beside it.

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
        from lowprec.pruning import _bars

        return _bars.save(self, Path(path))


def sparsity_report(
    w: ArrayLike | QuantizedArray,
    *,
    axis: int = -1,
    activations: Any = None,
    test_activations: Any = None,
    criteria: Iterable[str] | None = None,
    permute: bool | float = True,
    formats: Iterable[Any] = _FORMATS,
) -> SparsityReport:
    """Say what a weight loses by 2:4 sparsity, chosen in each of the ways there are, and what it saves.

    Parameters
    ----------
    w : array_like or QuantizedArray
        A weight of two axes or more, finite.
    axis : int
        The axis along which products sum; all others together are the outputs.
    activations : array_like or iterable of array_like, optional
        What goes into the layer, shape (..., inputs), or batches of it: with it, output errors are reported, and
        Wanda and SparseGPT take part.
    test_activations : array_like or iterable of array_like, optional
        Others, of which the output error is taken: that of the activations that a criterion saw flatters it.
    criteria : iterable of {"magnitude", "wanda", "sparsegpt"}, optional
        All that the arguments allow, if not given.
    permute : bool or float
        Whether permuted channels take part; a number is the seconds that each search may take, True is 60.
    formats : iterable of str, FloatFormat, IntFormat, CodebookFormat or BlockFormat
        Formats whose storage is reported.

    Returns
    -------
    SparsityReport
        Print it, or take its `.table`, `.storage`, `.to_csv`, `.plot`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` has fewer than two axes, a number is not finite, the axis does not exist, activations do not fit, a name
        is not known, or a criterion needs activations and there are none.
    ImportError
        If SparseGPT takes part and scipy is missing; ``pip install "lowprec[quantize]"`` installs it.

    Notes
    -----
    All 2:4 ways keep half of the elements. Unstructured 50 % keeps the larger half of the whole weight: no choice of
    half the elements keeps more magnitude. "Along both axes" is for weights that are used transposed too. Errors are
    in float64, from ``x.T @ x``. All is done by `lowprec.sparsify`, `lowprec.sparsity_mask` and
    `lowprec.search_permutation`; for SparseGPT channels are permuted by the scores of Wanda.

    Stored are the kept elements, four bits for each group, and the scales of block formats; other formats have scales
    too few to count. 4-bit elements (no codebooks) are also reported as "4:8" in pairs and 32-bit ones as "1:2", the
    patterns that sparse tensor cores have for them.

    References
    ----------
    A. Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, section 3, arXiv:2104.08378.

    See Also
    --------
    sparsify : The weight itself.
    search_permutation : The order of channels.

    Examples
    --------
    >>> import lowprec as lp
    >>> w = [[4.0, 3.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0]] * 4
    >>> print(lp.sparsity_report(w, formats=["bf16", "int4"]))
    Weight of 4 x 8
    way                          density    kept
    ---------------------------  -------  ------
    unstructured 50 %             0.5000  1.0000
    2:4                           0.5000  0.8000
    2:4, channels permuted        0.5000  1.0000
    1:2                           0.5000  0.7000
    4:8 in pairs                  0.5000  0.9000
    2:4 along both axes, best     0.5000  0.5000
    2:4 along both axes, greedy   0.5000  0.5000
    kept: the part of sum |w| whose places are kept. density: the part of the elements.
    permuted: exhaustive search in windows of 8 channels, at most 60 s.
    <BLANKLINE>
    Storage
    format    pattern  dense bits  sparse bits  dense bytes  sparse bytes   ratio
    --------  -------  ----------  -----------  -----------  ------------  ------
    bfloat16  2:4              16            9           64            36  0.5625
    int4      2:4               4            3           16            12  0.7500
    int4      4:8               4          2.5           16            10  0.6250
    bits: per element of the dense weight, with 4 for each group that say which are kept, and scales.
    """
    weight = _weight(w, axis)
    chosen = _criteria(criteria, activations is not None)
    limit = _seconds(permute)
    stored = tuple(row for fmt in _formats(formats) for row in _losses.storage(fmt, weight.shape))
    inputs = weight.shape[1]
    if test_activations is not None and activations is None:
        msg = "`test_activations` must come with `activations`, which criteria see, got None for these."
        raise ValueError(msg)
    seen = None if activations is None else moments(activations, None, inputs, "report", full=True)
    other = seen if test_activations is None else _held_out(test_activations, inputs)
    table = tuple(_losses.loss(way, weight, other) for way in _losses.ways(weight, seen, chosen, limit))
    return SparsityReport(weight.shape, table, stored, test_activations is not None, limit)


def _weight(w: Any, axis: Any) -> Array:
    """Return a weight as (outputs, inputs)."""
    values = finite(numbers_of(w, "w"), "w")
    if values.ndim < 2 or not values.size:
        msg = f"`w` must have two axes or more, outputs and inputs, and an element, got shape {values.shape}."
        raise ValueError(msg)
    at = integer(axis, "axis")
    if not -values.ndim <= at < values.ndim:
        msg = f"`axis` must be from {-values.ndim} to {values.ndim - 1} for `w` of shape {values.shape}, got {at}."
        raise ValueError(msg)
    return np.ascontiguousarray(np.moveaxis(values, at, -1).reshape(-1, values.shape[at]))


def _criteria(criteria: Any, informed: bool) -> tuple[str, ...]:
    """Check names of criteria."""
    if criteria is None:
        return CRITERIA if informed else CRITERIA[:1]
    names = tuple(criteria) if isinstance(criteria, Iterable) and not isinstance(criteria, str) else criteria
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        msg = f"`criteria` must be a list of names from {', '.join(CRITERIA)}, got {criteria!r}."
        raise TypeError(msg)
    for name in names:
        if name not in CRITERIA:
            close = difflib.get_close_matches(name.lower(), CRITERIA, n=1)
            hint = f"; the closest: {close[0]!r}." if close else "."
            msg = f"`criteria` must be of {', '.join(CRITERIA)}, got {name!r}{hint}"
            raise ValueError(msg)
        if name != "magnitude" and not informed:
            msg = f"`activations` must be given for the criterion {name!r}, got None; pass what goes into the layer."
            raise ValueError(msg)
    return names


def _seconds(permute: Any) -> float:
    """Return how long a search may take; 0 for none."""
    if isinstance(permute, (bool, np.bool_)):
        return _SECONDS if permute else 0.0
    return number(permute, "permute", 0, np.inf)


def _formats(formats: Any) -> tuple[Any, ...]:
    """Check a list of formats."""
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        msg = f"`formats` must be a list of formats, got {formats!r}; write [{formats!r}]."
        raise TypeError(msg)
    return tuple(formats)


def _held_out(activations: Any, inputs: int) -> Array:
    """Return the sums of products of other activations."""
    try:
        return moments(activations, None, inputs, "report", full=True)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`activations`", "`test_activations`")) from None
