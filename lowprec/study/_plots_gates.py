"""Accuracy against gates: each setting with its name and its spread, and the front as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._drawing import COLOURS, LABEL_POINTS, LEGEND, MARKERS, Label, blank, label_points
from lowprec.cost._pareto_result import front
from lowprec.study._extras import require
from lowprec.study._plots_common import Record, axis_label, halo, logarithmic, namer, number, percent, said, subject

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

_FAMILIES = {
    "float": "floats of 16 bits and more",
    "narrow": "narrow floats with a scale",
    "integer": "integers",
    "block": "blocks with scales",
    "stored": "narrow weights, decoded",
}

_MOST_NAMED = 32


def figure(result: StudyResult, table: Sequence[Record], metric: Any) -> Any:
    """Draw a measure against gate equivalents.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    table : sequence of dict
        Its records that are drawn: one for each setting.
    metric : Metric
        The measure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel. Filled points are on the Pareto front, hollow ones are not; bars are spreads over the workload's
        parts and ranges of the cost model. Records without a price, or without a place on an axis, are named.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    values = {id(record): number(record, metric.name) for record in table}
    log = logarithmic(values.values()) and all(value >= 0 for value in values.values() if math.isfinite(value))
    priced = [record for record in table if number(record, "ge") > 0]
    rows = [r for r in priced if math.isfinite(values[id(r)]) and (values[id(r)] > 0 or not log)]
    on = front([(number(record, "ge"), values[id(record)]) for record in rows], metric.larger_is_better)
    name = namer(table)
    drawn = blank(7.2, 5.2)
    axes = drawn.subplots()
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    bars = [bar for record, best in zip(rows, on, strict=True) for bar in _mark(axes, record, metric.name, best, log)]
    axes.margins(x=0.07, y=0.07)
    axes.autoscale_view()
    line = _staircase([r for r, best in zip(rows, on, strict=True) if best], metric.name, axes.get_xlim()[1])
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(*line.T, color="#777777", linewidth=1.0, zorder=1.5, solid_joinstyle="miter")
    axes.set(xlim=limits[0], ylim=limits[1])
    _ticks(axes, [number(record, "ge") for record in rows])
    axes.set_xlabel("Gate equivalents per product, less is better")
    axes.set_ylabel(axis_label(metric))
    axes.set_title(f"{subject(result.workload, result.axes, table)}: what accuracy costs", loc="left", fontsize=9)
    missing = [name(record) for record in table if record not in rows]
    below = [f"not drawn: {said(missing, 100)}"] if missing else []
    named = list(zip(rows, on, strict=True))
    if len(rows) > _MOST_NAMED:
        named = [pair for pair in named if pair[1]]
        below.append("only the front is named")
    if below:
        axes.set_xlabel(f"{axes.get_xlabel()}\n{'; '.join(below)}", fontsize=LABEL_POINTS + 1)
    percent(axes.yaxis, metric)
    _legend(drawn, rows)
    labels = [Label(number(record, "ge"), values[id(record)], name(record)) for record, _ in named]
    lines = [*bars, *([line] if len(line) else [])]
    others = [np.array([(number(r, "ge"), values[id(r)])] * 2) for r in rows]
    label_points(axes, labels, [*lines, *others], strong=[best for _, best in named])
    halo(axes)
    return drawn


def _mark(axes: Any, record: Record, metric: str, best: bool, log: bool) -> list[Any]:
    """Draw one point and its ranges, and return the latter as lines."""
    at = list(_FAMILIES).index(record["family"])
    x, y = number(record, "ge"), number(record, metric)
    bars = [
        np.array([(number(record, "ge_low"), y), (number(record, "ge_high"), y)]),
        np.array([(x, number(record, f"{metric}_low")), (x, number(record, f"{metric}_high"))]),
    ]
    bars = [bar for bar in bars if np.isfinite(bar).all() and (bar[0] != bar[1]).any() and (not log or (bar > 0).all())]
    for bar in bars:
        axes.plot(*bar.T, color=COLOURS[at], alpha=0.35, linewidth=1.6, zorder=1)
    face = COLOURS[at] if best else "white"
    style = {"marker": MARKERS[at], "color": COLOURS[at], "markerfacecolor": face, "markeredgewidth": 1.1}
    axes.plot(x, y, markersize=6.0, linestyle="none", zorder=3, **style)
    return bars


def _staircase(best: list[Record], metric: str, end: float) -> Any:
    """Return the corners of the line below which nothing is gained."""
    corners: list[tuple[float, float]] = []
    for record in sorted(best, key=lambda record: number(record, "ge")):
        x, y = number(record, "ge"), number(record, metric)
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return np.array([*corners, *([(end, corners[-1][1])] if corners else [])]).reshape(-1, 2)


def _ticks(axes: Any, costs: list[float]) -> None:
    """Write gates in full."""
    ticker = require("matplotlib.ticker", "A plot")
    subs = (1, 2, 3, 5, 7) if costs and max(costs) < 20 * min(costs) else (1, 2, 5)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.6g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _legend(drawn: Any, rows: list[Record]) -> None:
    """Name the families, and what filled and hollow mean, below the panel."""
    lines = require("matplotlib.lines", "A plot").Line2D
    handles = [
        lines([], [], marker=MARKERS[at], color=COLOURS[at], markersize=6.0, linestyle="none", label=words)
        for at, (family, words) in enumerate(_FAMILIES.items())
        if any(record["family"] == family for record in rows)
    ]
    handles.append(lines([], [], color="#777777", linewidth=1.0, label="Pareto front (filled points)"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7.5, **LEGEND)
