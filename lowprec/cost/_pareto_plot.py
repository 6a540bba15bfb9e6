"""The figure of a Pareto set: accuracy against cost, every candidate with its name, the front as a line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._drawing import COLOURS, LABEL_POINTS, LEGEND, MARKERS, STYLE, Label, blank, label_points
from lowprec._extras import require

if TYPE_CHECKING:
    from lowprec.cost._pareto_result import ParetoRecord, ParetoResult

_FAMILIES = {
    "float": "floats of 16 bits and more",
    "narrow": "narrow floats with a scale",
    "integer": "integers",
    "block": "blocks with scales",
    "stored": "narrow weights, decoded",
}


def save(result: ParetoResult, path: Path) -> Path:
    """Write the figure of a Pareto set.

    Parameters
    ----------
    result : ParetoResult
        What to draw.
    path : pathlib.Path
        File to write; its suffix names the kind.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If matplotlib does not know the suffix.
    OSError
        If the file cannot be written.
    """
    matplotlib = require("matplotlib", "A plot", "study")
    with matplotlib.rc_context(STYLE):
        figure(result).savefig(path, dpi=200)
    return path


def figure(result: ParetoResult) -> Any:
    """Draw a Pareto set on a figure that needs no display and touches no global state.

    Parameters
    ----------
    result : ParetoResult
        What to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel. Filled points are on the front, hollow ones are not; bars are the ranges of costs. Points that have
        no place on an axis (infinite, NaN, or zero on a logarithmic one) are named above it.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    rows = [record for record in result.table if _has_place(record, result.logarithmic)]
    missing = [record for record in result.table if record not in rows]
    drawn = blank(7.2, 4.9 + 0.02 * max(0, len(rows) - 20))
    axes = drawn.subplots()
    axes.set_xscale("log")
    if result.logarithmic:
        axes.set_yscale("log")
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    front = [record for record in result.front if record in rows]
    line = _staircase(front, max((record["cost_high"] for record in rows), default=1.0) * 1.1)
    axes.plot(*line.T, color="#777777", linewidth=1.0, zorder=1.5, solid_joinstyle="miter")
    for record in rows:
        _mark(axes, record)
    _limits(axes, rows)
    legend = _legend(axes, rows, result.larger_is_better)
    shape = " x ".join(map(str, result.shape))
    axes.set_xlabel(f"{_capital(result.cost_label)}, less is better")
    axes.set_ylabel(f"{_capital(result.metric_label)}, {'more' if result.larger_is_better else 'less'} is better")
    units = {record["unit"] for record in rows}
    common = f" {units.pop()}" if len(units) == 1 else ""  # a unit that all have stands in the title instead
    axes.set_title(f"Product of {shape}: what accuracy costs{common and f', all in{common}'}", loc="left", fontsize=9)
    if missing:
        said = ", ".join(f"{record['candidate']} ({record['accuracy']:.3g})" for record in missing)
        axes.set_title(f"not drawn: {said}", loc="right", fontsize=LABEL_POINTS, color="#555555")
    bars = [
        np.array([(record["cost_low"], record["accuracy"]), (record["cost_high"], record["accuracy"])])
        for record in rows
        if record["cost_low"] < record["cost_high"]
    ]
    names = [record["candidate"].removesuffix(common) for record in rows]
    labels = [Label(record["cost"], record["accuracy"], name) for record, name in zip(rows, names, strict=True)]
    label_points(
        axes,
        labels,
        [*bars, *([line] if len(line) else [])],
        strong=[record["front"] for record in rows],
        taken=[legend],
    )
    return drawn


def _capital(words: str) -> str:
    """Return words with a capital, a unit in front as it is."""
    return words if words.startswith("pJ") else words[:1].upper() + words[1:]


def _has_place(record: ParetoRecord, logarithmic: bool) -> bool:
    """Say whether a record can be drawn."""
    value, cost = record["accuracy"], record["cost"]
    return math.isfinite(value) and math.isfinite(cost) and cost > 0 and (value > 0 or not logarithmic)


def _mark(axes: Any, record: ParetoRecord) -> None:
    """Draw one point, its range behind it."""
    at = list(_FAMILIES).index(record["family"])
    colour = COLOURS[at]
    low, high = record["cost_low"], record["cost_high"]
    if low < high:
        axes.plot([low, high], [record["accuracy"]] * 2, color=colour, alpha=0.35, linewidth=1.6, zorder=1)
    axes.plot(
        record["cost"],
        record["accuracy"],
        marker=MARKERS[at],
        color=colour,
        markerfacecolor=colour if record["front"] else "white",
        markeredgewidth=1.1,
        markersize=6.0,
        linestyle="none",
        zorder=3,
    )


def _staircase(front: list[ParetoRecord], end: float) -> Any:
    """Return the corners of the line below which nothing is gained."""
    corners: list[tuple[float, float]] = []
    for record in front:
        if corners:
            corners.append((record["cost"], corners[-1][1]))
        corners.append((record["cost"], record["accuracy"]))
    return np.array([*corners, *([(end, corners[-1][1])] if corners else [])]).reshape(-1, 2)


def _limits(axes: Any, rows: list[ParetoRecord]) -> None:
    """Leave room around the points for their labels."""
    axes.margins(x=0.07, y=0.07)
    axes.autoscale_view()
    costs = [record["cost_low"] for record in rows] + [record["cost_high"] for record in rows]
    ticker = require("matplotlib.ticker", "A plot", "study")
    subs = (1, 2, 3, 5, 7) if costs and max(costs) < 20 * min(costs) else (1, 2, 5)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.6g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _legend(axes: Any, rows: list[ParetoRecord], upper: bool) -> Any:
    """Name the families, and what filled and hollow mean."""
    for at, (family, words) in enumerate(_FAMILIES.items()):
        if any(record["family"] == family for record in rows):
            axes.plot([], [], MARKERS[at], color=COLOURS[at], markersize=6.0, label=words)
    axes.plot([], [], color="#777777", linewidth=1.0, label="Pareto front (filled points)")
    # The corner of the accurate and cheap is empty: whatever stood there would be the front.
    return axes.legend(loc=f"{'upper' if upper else 'lower'} left", fontsize=7.5, **LEGEND)
