"""Error against the length of a sum: a line for each setting, a panel for each kind of data, and theory."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._drawing import LEGEND, blank
from lowprec.formats import FloatFormat
from lowprec.formats import format as find
from lowprec.study._extras import require
from lowprec.study._plots_common import (
    BOUNDED,
    Record,
    axis_label,
    halo,
    label_ends,
    line_style,
    logarithmic,
    make_room,
    namer,
    number,
    percent,
    said,
    subject,
    widest,
)

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

_PANEL = 2.9  # inches
_MOST_ROUNDOFFS = 3


def figure(result: StudyResult, table: Sequence[Record], metric: Any, axis: str, panel: str | None) -> Any:
    """Draw a measure against a number that the workload varies, such as K.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    table : sequence of dict
        Its records that are drawn.
    metric : Metric
        The measure.
    axis : str
        The column along x.
    panel : str, optional
        A column of which each value has its own panel.

    Returns
    -------
    matplotlib.figure.Figure
        Lines with their names at their right ends, bars from the lowest to the highest part (seed, window). Values
        that have no place on the axis (infinite, NaN, zero) end or interrupt their line, and are named below the
        panel. For ``sum_error``, an error relative to ``|x| |w|``, the worst case ``n u``
        (dotted) and the random walk ``sqrt(n) u`` (dashed) of up to three accumulators are drawn in grey.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    kinds = list(dict.fromkeys(record[panel] for record in table)) if panel else [None]
    name = namer(table)
    names = list(dict.fromkeys(name(record) for record in table))
    values = [number(record, metric.name) for record in table]
    finite = [value for value in values if math.isfinite(value)]
    log = logarithmic(finite) and min(finite, default=-1) >= 0
    across = 1 if len(kinds) == 1 else 2
    down = math.ceil(len(kinds) / across)
    margin = (widest(blank(1, 1), names) + 20) / 72
    width = across * (_PANEL + margin) + 0.9 if across > 1 else 4.6 + margin
    height = max(3.2 if across == 1 else 2.5, 0.12 * len(names) + 0.9)
    drawn = blank(width, down * height + 0.5)
    drawn.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    grid = drawn.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for at, (axes, kind) in enumerate(zip(grid.flat, kinds, strict=False)):
        part = [record for record in table if panel is None or record[panel] == kind]
        _axes(axes, part, axis, log)
        axes.set_title(
            subject(result.workload, result.axes, part) if panel is None else str(kind), loc="left", fontsize=9
        )
        percent(axes.yaxis, metric)
        if at >= len(kinds) - across:
            axes.set_xlabel(f"{axis}, products per sum" if axis == "K" else axis)
    drawn.supylabel(axis_label(metric), fontsize=8.5)
    for axes in grid.flat[len(kinds) :]:
        axes.set_axis_off()
    ends = [
        _lines(axes, [r for r in table if panel is None or r[panel] == kind], metric, axis, name, names, log)
        for axes, kind in zip(grid.flat, kinds, strict=False)
    ]
    limits = _limits(finite, log, room=any(axes.texts for axes in grid.flat))
    for axes in grid.flat[: len(kinds)]:
        axes.set_ylim(limits)
    theory = _theory(table, metric, axis)
    for axes in grid.flat[: len(kinds)]:
        _draw_theory(axes, theory)
    if theory:
        _legend(drawn)
    make_room(drawn, grid, margin)
    for axes, found in zip(grid.flat, ends, strict=False):
        label_ends(axes, found)
        halo(axes)
    return drawn


def _axes(axes: Any, part: Sequence[Record], axis: str, log: bool) -> None:
    """Set up the scales of a panel."""
    ticks = sorted({number(record, axis) for record in part})
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(require("matplotlib.ticker", "A plot").LogLocator(numticks=9))
    if min(ticks) > 0:
        axes.set_xscale("log", base=2)
    if len(ticks) <= 12:
        powers = max(ticks) > 999 and all(tick > 0 and math.log2(tick).is_integer() for tick in ticks)
        words = [f"$2^{{{int(math.log2(tick))}}}$" if powers else f"{tick:g}" for tick in ticks]
        axes.set_xticks(ticks, labels=words)
        axes.set_xticks([], minor=True)


def _lines(
    axes: Any, part: Sequence[Record], metric: Any, axis: str, name: Any, names: list[str], log: bool
) -> list[tuple[float, float, str, str]]:
    """Draw the lines of a panel, and return where their labels stand."""
    ends, missing = [], []
    for index, said_name in enumerate(names):
        rows = sorted((r for r in part if name(r) == said_name), key=lambda r: number(r, axis))
        x = np.array([number(record, axis) for record in rows])
        y = np.array([number(record, metric.name) for record in rows])
        good = np.isfinite(y) & ((y > 0) | (not log))
        style = line_style(index)
        if good.any():
            axes.plot(x, np.where(good, y, np.nan), zorder=3, **style)
            last = int(np.flatnonzero(good)[-1])
            ends.append((float(x[last]), float(y[last]), said_name, str(style["color"])))
        low = np.array([number(record, f"{metric.name}_low") for record in rows])
        high = np.array([number(record, f"{metric.name}_high") for record in rows])
        barred = good & np.isfinite(low) & np.isfinite(high) & ((low > 0) | (not log))
        if barred.any():
            axes.vlines(x[barred], low[barred], high[barred], color=style["color"], alpha=0.4, linewidth=1.4, zorder=2)
        given = np.array([record.get(metric.name) is not None for record in rows])
        lost = given & ~good
        for value in dict.fromkeys(y[lost].tolist()):
            places = x[lost & ((y == value) | (np.isnan(y) & math.isnan(value)))]
            words = f"{places[0]:g}" if len(places) == 1 else f"{places[0]:g} to {places[-1]:g}"
            missing.append(f"{said_name} ({value:g} at {words})")
    if missing:
        axes.text(
            0.015,
            0.985,
            textwrap.fill(f"not drawn: {said(missing, 110)}", 64),
            transform=axes.transAxes,
            fontsize=5.8,
            va="top",
            color="#555555",
            wrap=False,
            gid="note",
        )
    return ends


def _limits(finite: list[float], log: bool, *, room: bool) -> tuple[float, float]:
    """Return limits with room around all values, more of it above for what is not drawn."""
    if not finite:
        return 0.0, 1.0
    if log:
        positive = [value for value in finite if value > 0]
        low, high = min(positive) / 2.5, max(positive) * 2.5
        return low, high * (high / low) ** (0.1 if room else 0.0)
    span = (max(finite) - min(finite)) or abs(max(finite)) or 1.0
    return min(finite) - 0.06 * span, max(finite) + (0.16 if room else 0.06) * span


def _theory(table: Sequence[Record], metric: Any, axis: str) -> list[tuple[str, Any, float]]:
    """Return the unit roundoffs of accumulators that round each sum to a format, the finest and coarsest first."""
    if metric.name != BOUNDED:
        return []
    found: dict[float, str] = {}
    for word in dict.fromkeys(str(record["accumulator"]) for record in table):
        try:
            fmt = find(word)
        except (TypeError, ValueError):
            continue
        if isinstance(fmt, FloatFormat):
            found.setdefault(2.0**-fmt.precision, word)
    ks = np.array(sorted({number(record, axis) for record in table}))
    chosen = sorted(found)[:_MOST_ROUNDOFFS]
    return [(found[u], np.array([ks[0], ks[-1]]), u) for u in chosen]


def _draw_theory(axes: Any, theory: list[tuple[str, Any, float]]) -> None:
    """Draw n u and sqrt(n) u of each unit roundoff."""
    bottom, top = axes.get_ylim()
    for word, ends, u in theory:
        k = np.geomspace(ends[0], ends[1], 33)
        for power, dashes in ((1.0, (0, (1, 1.6))), (0.5, (0, (5, 3)))):
            axes.plot(k, k**power * u, color="#8a8a8a", linewidth=0.8, linestyle=dashes, zorder=1, scalex=False)
        x = ends[0] ** 0.6 * ends[1] ** 0.4
        y = x**0.5 * u
        if bottom < y < top:
            style = {"fontsize": 6.0, "color": "#707070", "ha": "right", "va": "bottom", "gid": "theory"}
            axes.annotate(word, (x, y), xytext=(0, 1), textcoords="offset points", **style)
    axes.set_ylim(bottom, top)


def _legend(drawn: Any) -> None:
    """Say what the grey lines are."""
    lines = require("matplotlib.lines", "A plot").Line2D
    style = {"color": "#8a8a8a", "linewidth": 0.9}
    handles = [
        lines([], [], linestyle=(0, (1, 1.6)), label="worst case n u", **style),
        lines([], [], linestyle=(0, (5, 3)), label=r"random walk $\sqrt{n}$ u (Higham and Mary 2019)", **style),
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.5, **LEGEND)
