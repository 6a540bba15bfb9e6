"""A heat map: formats by accumulators, or whatever else tells the settings apart, one number in each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._drawing import LABEL_POINTS, blank, text_size
from lowprec.study._extras import require
from lowprec.study._plots_common import Record, axis_label, logarithmic, number, percent, short, subject

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

_CELL = 0.3  # inches


def figure(result: StudyResult, table: Sequence[Record], metric: Any, panel: str | None) -> Any:
    """Draw a measure of formats by accumulators.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    table : sequence of dict
        Its records that are drawn.
    metric : Metric
        The measure.
    panel : str, optional
        A column of which each value has its own panel.

    Returns
    -------
    matplotlib.figure.Figure
        Rows are formats (with what else differs but the accumulator), columns accumulators. Darker is worse, in the
        colours of cividis, which look alike to all eyes; combinations that did not run are empty.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    kinds = list(dict.fromkeys(record[panel] for record in table)) if panel else [None]
    rows = list(dict.fromkeys(_row(record) for record in table))
    columns = list(dict.fromkeys(record["accumulator"] for record in table))
    values = [number(record, metric.name) for record in table]
    finite = [value for value in values if math.isfinite(value)]
    log = logarithmic(finite) and min(finite) >= 0
    probe = blank(1, 1)
    cell = max(_CELL, (max(text_size(probe, short(value, metric))[0] for value in values) + 8) / 72)
    left = max(text_size(probe, name)[0] for name in rows) / 72
    across = min(len(kinds), max(1, int(9.5 / (left + cell * len(columns) + 0.3))))
    down = math.ceil(len(kinds) / across)
    long = _slanted(probe, columns, cell)
    head = max(text_size(probe, name)[0] for name in columns) / 72 if long else 0.12
    width = across * (left + 0.35 + cell * len(columns)) + 1.3
    height = down * (_CELL * len(rows) + head + 0.45) + 0.4
    drawn = blank(max(width, 4.6), max(height, 2.6))
    grid = drawn.subplots(down, across, squeeze=False)
    image = None
    for axes, kind in zip(grid.flat, kinds, strict=False):
        part = [record for record in table if panel is None or record[panel] == kind]
        image = _panel(axes, part, rows, columns, metric, finite, log, long) or image
        if panel:
            axes.set_title(str(kind), loc="left", fontsize=8.5)
    for axes in grid.flat[len(kinds) :]:
        axes.set_axis_off()
    if image is not None:
        bar = drawn.colorbar(image, ax=grid, shrink=0.9, aspect=30, pad=0.02)
        bar.set_label(axis_label(metric), fontsize=8)
        percent(bar.ax.yaxis, metric)
        bar.outline.set_linewidth(0.5)
    title = f"{subject(result.workload, result.axes, table)}: format by accumulator"
    drawn.suptitle(title, x=0.01, ha="left", fontsize=9)
    return drawn


def _row(record: Record) -> str:
    """Return the name of a row: the setting without its accumulator."""
    return str(record["label"]).replace(f"/{record['accumulator']}", "", 1)


def _slanted(probe: Any, columns: list[str], cell: float) -> bool:
    """Say whether the names of columns are too long to stand beside each other."""
    return any(text_size(probe, name)[0] / 72 > cell - 0.1 for name in columns)


def _panel(
    axes: Any,
    part: Sequence[Record],
    rows: list[str],
    columns: list[str],
    metric: Any,
    finite: list[float],
    log: bool,
    long: bool,
) -> Any:
    """Draw one panel, and return its image."""
    colours = require("matplotlib.colors", "A plot")
    maps = require("matplotlib", "A plot").colormaps
    cells = np.full((len(rows), len(columns)), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for record in part:
        place = rows.index(_row(record)), columns.index(record["accumulator"])
        cells[place] = number(record, metric.name)
        texts[place] = short(float(cells[place]), metric)
    shown = np.where(np.isfinite(cells) & ((cells > 0) | (not log)), cells, np.nan)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if log:
        low = min(value for value in finite if value > 0)
    norm = (colours.LogNorm if log else colours.Normalize)(low, high if high > low else low + (abs(low) or 1.0))
    palette = maps["cividis" if metric.larger_is_better else "cividis_r"].with_extremes(bad="#ececec")
    image = axes.imshow(shown, cmap=palette, norm=norm, aspect="auto", interpolation="none")
    for (row, column), text in texts.items():
        value = shown[row, column]
        dark = math.isfinite(value) and _luminance(palette(norm(value))) < 0.45
        colour = "white" if dark else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=LABEL_POINTS, color=colour, gid="label")
    for row in range(len(rows)):
        for column in range(len(columns)):
            if (row, column) not in texts:
                axes.text(column, row, "-", ha="center", va="center", fontsize=LABEL_POINTS, color="#999999")
    axes.set_yticks(range(len(rows)), labels=rows, fontsize=LABEL_POINTS)
    axes.set_xticks(range(len(columns)), labels=columns, fontsize=LABEL_POINTS, rotation=90 if long else 0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)
    return image


def _luminance(colour: Any) -> float:
    """Return how light a colour looks, from 0 to 1."""
    red, green, blue = colour[:3]
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)
