"""The figures of a study: which kinds its records can be drawn as, which records each shows, and files of them."""

from __future__ import annotations

import difflib
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowprec._drawing import STYLE
from lowprec.study import _plots_bits, _plots_curves, _plots_gates, _plots_growth, _plots_heatmap
from lowprec.study._extras import require
from lowprec.study._plots_common import BOUNDED, Record, logarithmic, number
from lowprec.study._views import is_curve

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

KINDS = ("curves", "growth", "bits", "gates", "heatmap")


def kinds(result: StudyResult) -> tuple[str, ...]:
    """Return the kinds of figures that a result can be drawn as, the most telling first.

    Parameters
    ----------
    result : StudyResult
        What to draw.

    Returns
    -------
    tuple of str
        Of `KINDS`; none if nothing was measured.

    Raises
    ------
    Nothing.
    """
    table = _slice(result, None)
    scalar = [metric for metric in result.metrics if not is_curve(result.table, metric.name)]
    measured = [r for r in table if scalar and math.isfinite(number(r, scalar[0].name))]
    possible = {
        "curves": len(scalar) < len(result.metrics),
        "growth": bool(scalar) and result.axis is not None,
        "bits": any(number(record, "bits") > 0 for record in measured),
        "gates": len({record["ge"] for record in measured if record["ge"] is not None}) > 1,
        "heatmap": bool(scalar) and _is_grid(table),
    }
    return tuple(kind for kind in KINDS if possible[kind])


def _is_grid(table: Sequence[Record]) -> bool:
    """Say whether two accumulators at least summed two formats each."""
    formats: dict[Any, set[Any]] = {}
    for record in table:
        formats.setdefault(record.get("accumulator"), set()).add(record.get("format"))
    return sum(len(found) > 1 for found in formats.values()) > 1


def save(
    result: StudyResult,
    path: Path,
    kind: str | None = None,
    *,
    metric: str | Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Path:
    """Write a figure of a study.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    path : pathlib.Path
        File to write; its suffix names the kind of file.
    kind, metric, where
        As in `StudyResult.plot`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        As `figure`, or if matplotlib does not know the suffix.
    OSError
        If the file cannot be written.
    """
    matplotlib = require("matplotlib", "A plot")
    with matplotlib.rc_context(STYLE):
        figure(result, kind, metric=metric, where=where).savefig(path, dpi=200)
    return path


def svg(result: StudyResult, kind: str | None = None) -> str:
    """Return a figure of a study as an ``<svg>`` element, the same text every time.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    kind : str, optional
        As in `StudyResult.plot`.

    Returns
    -------
    str
        Without the XML prologue, to stand inside a page.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        As `figure`.
    """
    matplotlib = require("matplotlib", "A plot")
    with matplotlib.rc_context(STYLE):
        buffer = io.StringIO()
        figure(result, kind).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def figure(
    result: StudyResult,
    kind: str | None = None,
    *,
    metric: str | Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Any:
    """Draw a study on a figure that needs no display and touches no global state.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    kind, metric, where
        As in `StudyResult.plot`.

    Returns
    -------
    matplotlib.figure.Figure
        As the module of its kind says.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the records cannot be drawn so, or a measure, a column or a value is unknown.
    """
    require("matplotlib", "A plot")
    chosen = _kind(result, kind)
    curves = chosen == "curves"
    metrics = _metrics(result, metric, curves=curves)
    if chosen == "bits":
        table = _slice(result, where)
        return _plots_bits.figure(result, table, _two(table, metrics) if metric is None else metrics[:2])
    if chosen == "gates":
        return _plots_gates.figure(result, _slice(result, where), metrics[0])
    table = _where(result, where)
    panel = _panel(result, table)
    if chosen == "heatmap":
        return _plots_heatmap.figure(result, _slice(result, where, panel), metrics[0], panel)
    if curves:
        return _plots_curves.figure(result, table, metrics[0], panel)
    axis = result.axis
    if axis is None:  # as `kinds` says
        msg = "`kind` must be one that these records can be drawn as; 'growth' needs a column of numbers that varies."
        raise ValueError(msg)
    bounded = [each for each in metrics if each.name == BOUNDED and metric is None]
    return _plots_growth.figure(result, table, (bounded or metrics)[0], axis, panel)


def _kind(result: StudyResult, kind: Any) -> str:
    """Return the kind of figure, or say which there are."""
    possible = kinds(result)
    if kind is None:
        if not possible:
            msg = "`kind` must be given: these records have no measure that could be drawn."
            raise ValueError(msg)
        return possible[0]
    if not isinstance(kind, str):
        msg = f"`kind` must be a string, got {kind!r} of type {type(kind).__name__}."
        raise TypeError(msg)
    if kind not in KINDS:
        msg = f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}{_hint(kind, KINDS)}."
        raise ValueError(msg)
    if kind not in possible:
        msg = f"`kind` must be one that these records can be drawn as, {', '.join(possible)}, got {kind!r}."
        raise ValueError(msg)
    return kind


def _metrics(result: StudyResult, chosen: Any, *, curves: bool) -> list[Any]:
    """Return the measures to draw: those asked for, or all that are of the right kind."""
    right = {metric.name: metric for metric in result.metrics if is_curve(result.table, metric.name) == curves}
    if chosen is None:
        return list(right.values())
    names = [chosen] if isinstance(chosen, str) else chosen
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        msg = f"`metric` must be a name or a list of names, got {chosen!r}."
        raise TypeError(msg)
    for name in names:
        if name not in right:
            msg = f"`metric` must be one of {', '.join(right)} for this figure, got {name!r}{_hint(name, right)}."
            raise ValueError(msg)
    return [right[name] for name in names]


def _two(table: Sequence[Record], metrics: Sequence[Any]) -> list[Any]:
    """Return the first measure, and the next that tells settings apart by magnitudes, or else the second."""
    for metric in metrics[1:]:
        if logarithmic(number(record, metric.name) for record in table):
            return [metrics[0], metric]
    return list(metrics[:2])


def _where(result: StudyResult, where: Any) -> list[Record]:
    """Return the records that have certain values."""
    if where is None:
        return list(result.table)
    if not isinstance(where, Mapping):
        msg = f"`where` must be a dict of columns and values, got {where!r} of type {type(where).__name__}."
        raise TypeError(msg)
    table: list[Record] = list(result.table)
    for name, value in where.items():
        if not any(name in record for record in table):
            columns = list(result.table[0])
            msg = f"`where` must name columns of the table, {', '.join(columns)}, got {name!r}{_hint(name, columns)}."
            raise ValueError(msg)
        found = list(dict.fromkeys(str(record.get(name)) for record in table))
        table = [record for record in table if record.get(name) == value]
        if not table:
            msg = f"`where` must have a value of the column {name!r}, {', '.join(found[:12])}, got {value!r}."
            raise ValueError(msg)
    return table


def _slice(result: StudyResult, where: Any, kept: str | None = None) -> list[Record]:
    """Return one record for each setting (and each value of one column): the largest number, the first word."""
    table = _where(result, where)
    for name in result.axes:
        if name == kept:
            continue
        values = [record.get(name) for record in table]
        numbers = all(isinstance(value, (int, float)) for value in values)
        value = max(values) if numbers else values[0]  # type: ignore[type-var]
        table = [record for record in table if record.get(name) == value]
    return table


def _panel(result: StudyResult, table: Sequence[Record]) -> str | None:
    """Return the column of words that gives each of its values a panel."""
    for name in result.axes:
        if name != result.axis and len({record.get(name) for record in table}) > 1:
            return name
    return None


def _hint(word: Any, words: Any) -> str:
    """Return the close words, to end a sentence with."""
    close = difflib.get_close_matches(str(word), list(words), n=2, cutoff=0.4)
    return f"; the closest: {', '.join(map(repr, close))}" if close else ""
