"""Measures against bits per value: two panels, one mark for each setting, each with its name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lowprec._drawing import COLOURS, LABEL_POINTS, LEGEND, MARKERS, Label, blank, label_points, text_size
from lowprec.formats import FloatFormat
from lowprec.formats import format as find
from lowprec.study._plots_common import (
    GAP_POINTS,
    OFFSET_POINTS,
    Record,
    axis_label,
    halo,
    logarithmic,
    namer,
    number,
    percent,
    said,
    spread,
    subject,
)

if TYPE_CHECKING:
    from lowprec.study.result import StudyResult

_AXES_POINTS = 440.0
_WIDEST = 32
_MOST_NAMED = 32
_FAR_POINTS = 60.0


class Point(NamedTuple):
    """One mark of a panel: where it stands, whether it is filled, its label and the label's width in points."""

    row: Record
    value: float
    filled: bool
    label: str
    width: float
    low: float
    high: float


def figure(result: StudyResult, table: Sequence[Record], metrics: Sequence[Any]) -> Any:
    """Draw measures against bits.

    Parameters
    ----------
    result : StudyResult
        What to draw.
    table : sequence of dict
        Its records that are drawn: one for each setting.
    metrics : sequence of Metric
        One or two measures, a panel each.

    Returns
    -------
    matplotlib.figure.Figure
        Panels one above the other. A measure of very different sizes is on a logarithmic axis, and its magnitude is
        drawn if some are negative, which are hollow. Points that have no place on an axis (infinite, NaN, zero on a
        logarithmic one) are left out and named above it with their value; so are formats wider than 32 bits, beside
        narrower ones. Bars are the spread over the workload's parts.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    drawn = blank(7.2, 0.6 + 3.6 * len(metrics))
    grid = drawn.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    table = [record for record in table if number(record, "bits") > 0]
    # By default a format that float32 cannot hold is summed in fp64: no reason to name the accumulator of every point.
    name = namer([record for record in table if record["bits"] <= _WIDEST] or table)
    panels = [_points(drawn, table, metric, name) for metric in metrics]
    for axes, metric, points in zip(grid, metrics, panels, strict=True):
        values = [point.value if point.filled else -point.value for point in points]
        if logarithmic(values) and metric.unit != "dB":
            axes.set_yscale("log")
        elif not all(point.filled for point in points):
            points[:] = [_signed(point) for point in points]
        axes.set_ylabel(_axis_label(axes, metric, points))
        percent(axes.yaxis, metric)
    _scale(grid[0], panels[0])
    for axes, points in zip(grid, panels, strict=True):
        _panel(axes, points)
    samples = "" if result.samples is None else f": {result.samples} samples"
    grid[0].set_title(f"{subject(result.workload, result.axes, table)}{samples}", loc="left", fontsize=9)
    grid[-1].set_xlabel("Bits per value")
    _legend(grid, panels)
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")  # the labels below must not move what they were placed by
    for axes, metric, points in zip(grid, metrics, panels, strict=True):
        _labels(axes, points, upwards=metric.larger_is_better)
    return drawn


def _points(drawn: Any, table: Sequence[Record], metric: Any, name: Any) -> list[Point]:
    """Return the marks of a panel: magnitudes, those of negative values hollow."""
    points = []
    for record in table:
        value = number(record, metric.name)
        low, high = number(record, f"{metric.name}_low"), number(record, f"{metric.name}_high")
        label = name(record)
        points.append(Point(record, abs(value), not value < 0, label, text_size(drawn, label)[0], low, high))
    return points


def _signed(point: Point) -> Point:
    """Return a mark at its own value instead of its magnitude."""
    return point if point.filled else point._replace(value=-point.value, filled=True)


def _axis_label(axes: Any, metric: Any, points: Sequence[Point]) -> str:
    """Return the label of the y-axis; bars around magnitudes where signs are drawn hollow."""
    if axes.get_yscale() == "log" and not all(point.filled for point in points):
        return f"|{metric.label}|{f' ({metric.unit})' if metric.unit else ''}"
    return axis_label(metric)


def _family(row: Record) -> str:
    """Return what a mark's colour stands for: the count of exponent bits of floats, else the kind of numbers."""
    family = row.get("family")
    if family in _NO_FLOATS:
        return _NO_FLOATS[family]
    try:
        fmt = find(str(row["format"]).partition("@")[0])
    except ValueError:
        return "other"
    return str(fmt.exponent_bits) if isinstance(fmt, FloatFormat) else _NO_FLOATS["integer"]


_NO_FLOATS = {"integer": "integers", "block": "blocks", "stored": "stored"}
# One colour and marker per count of exponent bits: formats of one width differ by how they split it.
_FAMILIES = ("11", "8", "5", "4", "3", "2", "integers", "blocks", "stored", "other")


def _style(row: Record) -> dict[str, Any]:
    """Return marker and colour of a record's family."""
    family = _family(row)
    index = _FAMILIES.index(family) if family in _FAMILIES else len(_FAMILIES) - 1
    colours, markers = (*COLOURS, "#666666", "#8C6D31", "#999999"), (*MARKERS, "p", "*", "h")
    return {"marker": markers[index], "color": colours[index], "markersize": 6.0, "linestyle": "none"}


def _narrow(points: list[Point]) -> list[Point]:
    """Leave out formats that are too wide to be drawn beside narrow ones."""
    return [point for point in points if point.row["bits"] <= _WIDEST] or points


def _drawable(points: list[Point], axes: Any) -> list[Point]:
    """Return the points that have a place on the axes."""
    positive = axes.get_yscale() == "log"
    return [point for point in _narrow(points) if math.isfinite(point.value) and (point.value > 0 or not positive)]


def _scale(axes: Any, points: list[Point]) -> None:
    """Set up the x-axis that both panels share, with room on its right for the labels of the widest formats."""
    points = _narrow(points)
    widths = sorted({point.row["bits"] for point in points})
    right = max(point.width for point in points if point.row["bits"] > 0.75 * widths[-1])
    share = (right + 2 * OFFSET_POINTS) / _AXES_POINTS
    left = widths[0] / 1.25
    axes.set_xscale("log", base=2)
    axes.set_xlim(left, widths[-1] * (widths[-1] / left) ** (share / (1 - share)))
    ticks = [width for at, width in enumerate(widths) if at == 0 or width >= 1.07 * widths[at - 1]]
    axes.set_xticks(ticks, labels=[f"{width:.3g}" for width in ticks])
    axes.set_xticks([], minor=True)


def _panel(axes: Any, points: list[Point]) -> None:
    """Draw the points, and name those that have no place."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    drawn = _drawable(points, axes)
    for point in drawn:
        style = _style(point.row)
        face = {} if point.filled else {"markerfacecolor": "white"}
        axes.plot(point.row["bits"], point.value, markeredgewidth=1.1, zorder=3, **style, **face)
        spread_fits = point.filled and (point.low > 0 or axes.get_yscale() != "log")
        if math.isfinite(point.low) and math.isfinite(point.high) and spread_fits:
            axes.vlines(point.row["bits"], point.low, point.high, color=style["color"], alpha=0.4, linewidth=1.4)
    missing = [f"{point.label} ({point.value:.4g})" for point in points if point not in drawn]
    words = [f"not drawn: {said(missing, 60)}"] if missing else []
    if len(drawn) > _MOST_NAMED:
        words.append("named: the best of each width")
    axes.set_title("; ".join(words), loc="right", fontsize=LABEL_POINTS, color="#555555")


def _legend(grid: Sequence[Any], panels: Sequence[list[Point]]) -> None:
    """Name the families in the first panel, and hollow points where there are any."""
    families = {_family(point.row): point.row for point in _narrow(panels[0])}
    for family in sorted(families, key=lambda each: _FAMILIES.index(each) if each in _FAMILIES else 99):
        grid[0].plot([], [], label=family, **_style(families[family]))
    floats = all(family.isdigit() for family in families)
    title = "Exponent bits" if floats else "Exponent bits, or kind"
    place = _empty_corner(panels[0], grid[0])
    grid[0].legend(title=title, loc=place, ncols=2, fontsize=8, title_fontsize=8, **LEGEND)
    for axes, points in zip(grid, panels, strict=True):
        hollow = not all(point.filled for point in _drawable(points, axes))
        if hollow:
            axes.plot([], [], "o", color="#555555", markerfacecolor="white", label="hollow: a decrease")
            handles, labels = axes.get_legend_handles_labels()
            if axes is grid[0]:
                axes.legend(title=title, loc=place, ncols=2, fontsize=8, title_fontsize=8, **LEGEND)
            else:
                axes.legend(handles, labels, loc="upper right", fontsize=8, **LEGEND)


def _empty_corner(points: list[Point], axes: Any) -> str:
    """Return the corner in which there are the fewest points: wide formats are good, so it is mostly the other."""
    drawn = _drawable(points, axes)
    if len(drawn) < 2:
        return "lower right"
    middle = sorted(point.value for point in drawn)[len(drawn) // 2]
    widest_bits = max(point.row["bits"] for point in drawn)
    right = [point.value for point in drawn if point.row["bits"] > widest_bits / 2]
    high = sum(value >= middle for value in right)
    return "lower right" if high * 2 >= len(right) else "upper right"


def _labels(axes: Any, points: list[Point], *, upwards: bool) -> None:
    """Label every point to its right; where labels would meet, stack them in the order of their points.

    Columns of points that are closer than a label is wide share one stack, so no two labels can overlap. Where a stack
    would be too high or too far from its points, labels stand wherever there is room around their points.
    """
    per_point = axes.figure.dpi / 72
    bounds = axes.get_window_extent()
    drawn = _drawable(points, axes)
    if len(drawn) > _MOST_NAMED:
        best = max if upwards else min
        widths = sorted({point.row["bits"] for point in drawn})
        same = ([point for point in drawn if point.row["bits"] == width] for width in widths)
        drawn = [best(each, key=lambda point: point.value if point.filled else -point.value) for each in same]
    spots = []  # in typographic points from the figure's lower left corner
    for point in drawn:
        x, y = axes.transData.transform((point.row["bits"], point.value)) / per_point
        spots.append(Spot(float(x), float(y), point))
    groups = _columns(_merged(spots))
    ends = [min(spot.x for spot in group) for group in groups[1:]] + [bounds.x1 / per_point]
    high = bounds.height / per_point
    if any(len(group) * GAP_POINTS > high or _reach(group) > _FAR_POINTS for group in groups):
        lines = [np.array([(p.row["bits"], p.value)] * 2) for p in _drawable(points, axes)]
        lines += [np.array([(p.row["bits"], p.low), (p.row["bits"], p.high)]) for p in drawn if p.low < p.high]
        labels = [Label(spot.point.row["bits"], spot.point.value, spot.point.label) for spot in spots]
        legend = axes.get_legend()
        label_points(axes, labels, lines, taken=[legend] if legend else [])
        halo(axes)
        return
    for group, end in zip(groups, ends, strict=bool(groups)):
        heights = spread([spot.y for spot in group], bounds.y0 / per_point, bounds.y1 / per_point)
        left = max(spot.x for spot in group) + OFFSET_POINTS
        if max(abs(spot.y - height) for spot, height in zip(group, heights, strict=True)) > GAP_POINTS / 3:
            room = end - left - max(spot.point.width for spot in group) - OFFSET_POINTS
            left += min(max(room, 0), OFFSET_POINTS)  # so that the lines to the labels are not too steep
        for spot, height in zip(group, heights, strict=True):
            anchor, offset = (spot.point.row["bits"], spot.point.value), (left - spot.x, height - spot.y)
            axes.annotate(
                spot.point.label,
                anchor,
                xytext=offset,
                textcoords="offset points",
                fontsize=LABEL_POINTS,
                va="center_baseline",
                annotation_clip=False,
                zorder=4,
                gid="label",
            )
            if abs(offset[1]) > GAP_POINTS / 3 or offset[0] > 2.5 * OFFSET_POINTS:
                axes.annotate(
                    "",
                    anchor,
                    xytext=(offset[0] - 1.5, offset[1]),
                    textcoords="offset points",
                    arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
                    zorder=2,
                )


def _reach(group: list[Spot]) -> float:
    """Return how far the leftmost point of a group is from its rightmost one."""
    return max(spot.x for spot in group) - min(spot.x for spot in group)


class Spot(NamedTuple):
    """A point and its place on the page, in typographic points."""

    x: float
    y: float
    point: Point


def _merged(spots: list[Spot]) -> list[Spot]:
    """Give one label, without the accumulator, to a format that lies at one place with every accumulator."""
    merged: list[Spot] = []
    for name in dict.fromkeys(_what(spot.point.row) for spot in spots):
        same = [spot for spot in spots if _what(spot.point.row) == name]
        first, heights = same[0], [spot.y for spot in same]
        if len(same) > 1 and max(heights) - min(heights) < GAP_POINTS / 3:
            word = str(first.point.row["label"]).partition("/")[0]
            merged.append(first._replace(point=first.point._replace(label=word)))
        else:
            merged += same
    return merged


def _what(row: Record) -> tuple[Any, ...]:
    """Return what of a record is not its accumulator."""
    return tuple(row.get(name) for name in ("format", "weights", "activations", "sparsity", "scales"))


def _columns(spots: list[Spot]) -> list[list[Spot]]:
    """Group points by their x, together with the next column where that is too near for a label; each from above."""
    groups: list[list[Spot]] = []
    for spot in sorted(spots, key=lambda spot: spot.x):
        if groups:
            end = groups[-1][-1].x + OFFSET_POINTS + max(each.point.width for each in groups[-1])
            if spot.x == groups[-1][-1].x or spot.x - OFFSET_POINTS / 2 < end:
                groups[-1].append(spot)
                continue
        groups.append([spot])
    return [sorted(group, key=lambda spot: -spot.y) for group in groups]
