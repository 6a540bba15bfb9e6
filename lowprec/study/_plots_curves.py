"""Curves: a measure step by step, one line for each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._drawing import blank
from lowprec.study._plots_common import (
    Record,
    axis_label,
    label_ends,
    line_style,
    logarithmic,
    make_room,
    namer,
    percent,
    widest,
)

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

_DIVERGED = ", diverged"


def figure(result: StudyResult, table: Sequence[Record], metric: Any, panel: str | None) -> Any:
    """Draw lists of numbers against their places.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    table : sequence of dict
        Its records that are drawn.
    metric : Metric
        A measure that is a list in every record.
    panel : str, optional
        A column of which each value has its own panel.

    Returns
    -------
    matplotlib.figure.Figure
        Lines with their names at their right ends, shaded from the lowest to the highest part. The places are those
        of a list ``steps`` of the record, if it has one, else 0, 1, 2 ... A curve ends where it is no longer finite.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    kinds = list(dict.fromkeys(record[panel] for record in table)) if panel else [None]
    name = namer(table)
    names = list(dict.fromkeys(name(record) for record in table))
    curves = {id(record): curve(record, metric.name) for record in table}
    finite = np.concatenate([y[np.isfinite(y)] for _, y in curves.values()])
    log = logarithmic(finite.tolist()) and bool((finite > 0).all())
    ended = [f"{name(r)}{_DIVERGED}" for r in table if not np.isfinite(curves[id(r)][1][-1:]).all()]
    margin = (widest(blank(1, 1), [*names, *ended]) + 20) / 72
    height = max(3.4, 0.125 * len(names) + 0.9)
    drawn = blank(5.2 + margin, height * len(kinds) + 0.3)
    grid = drawn.subplots(len(kinds), 1, squeeze=False, sharex=True)
    ends = []
    for axes, kind in zip(grid.flat, kinds, strict=True):
        axes.grid(color="#e4e4e4", linewidth=0.5)
        axes.set_axisbelow(True)
        if log:
            axes.set_yscale("log")
        axes.set_title(result.workload if panel is None else str(kind), loc="left", fontsize=9)
        axes.set_ylabel(axis_label(metric))
        percent(axes.yaxis, metric)
        part = [record for record in table if panel is None or record[panel] == kind]
        ends.append([end for record in part for end in _line(axes, record, metric.name, name(record), names)])
    grid[-1, 0].set_xlabel("Step")
    make_room(drawn, grid, margin)
    for axes, found in zip(grid.flat, ends, strict=True):
        label_ends(axes, found)
    return drawn


def curve(record: Record, name: str) -> tuple[Any, Any]:
    """Return the steps and values of a list of numbers; None is NaN."""
    values = [math.nan if value is None else float(value) for value in record.get(name) or ()]
    steps = record.get("steps")
    places = steps if isinstance(steps, (list, tuple)) and len(steps) == len(values) else range(len(values))
    return np.array(places, float), np.array(values, float)


def _line(axes: Any, record: Record, name: str, label: str, names: list[str]) -> list[tuple[float, float, str, str]]:
    """Draw one curve with its spread, and return where its label stands."""
    x, y = curve(record, name)
    good = np.isfinite(y)
    if not good.any():
        return []
    style = line_style(names.index(label)) | {"marker": ""}
    axes.plot(x, np.where(good, y, np.nan), zorder=3, **style)
    low, high = curve(record, f"{name}_low")[1], curve(record, f"{name}_high")[1]
    if len(low) == len(high) == len(x):
        axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0, zorder=2)
    last = int(np.flatnonzero(good)[-1])
    stopped = "" if last == len(y) - 1 else _DIVERGED
    return [(float(x[last]), float(y[last]), label + stopped, str(style["color"]))]
