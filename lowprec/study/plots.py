"""The figure of a study: SQNR and the rise in cross-entropy against bits per value."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lowprec._drawing import COLOURS, LABEL_POINTS, LEGEND, MARKERS, STYLE, blank, text_size
from lowprec.study._extras import require

if TYPE_CHECKING:
    from lowprec.study.result import Record, StudyResult

# One colour and marker per count of exponent bits: formats of one width differ by how they split it.
_GAP_POINTS = 8.2
_OFFSET_POINTS = 7.0
_AXES_POINTS = 440.0
_WIDEST = 32


def save(result: StudyResult, path: Path) -> Path:
    """Write the figure of a study.

    Parameters
    ----------
    result : StudyResult
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
    matplotlib = require("matplotlib", "A plot")
    with matplotlib.rc_context(STYLE):
        figure(result).savefig(path, dpi=200)
    return path


def svg(result: StudyResult) -> str:
    """Return the figure of a study as an ``<svg>`` element, the same text every time.

    Parameters
    ----------
    result : StudyResult
        What to draw.

    Returns
    -------
    str
        Without the XML prologue, to stand inside a page.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    matplotlib = require("matplotlib", "A plot")
    with matplotlib.rc_context(STYLE):
        buffer = io.StringIO()
        figure(result).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def figure(result: StudyResult) -> Any:
    """Draw a study on a figure that needs no display and touches no global state.

    Parameters
    ----------
    result : StudyResult
        What to draw.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels. Above: SQNR. Below: how much the cross-entropy differs from the reference's, on a log scale;
        hollow points are decreases. Points that have no place on an axis (infinite, NaN, or an increase of zero) are
        left out and named above it with their value; so are formats wider than 32 bits, beside narrower ones.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    drawn = blank(7.2, 7.8)
    above, below = drawn.subplots(2, 1, sharex=True)
    # By default a format that float32 cannot hold is summed in fp64: no reason to name the accumulator of every point.
    several = len({row["accumulator"] for row in result.table if row["bits"] <= _WIDEST}) > 1
    sqnr, rise = [], []
    for row in result.table:
        label = f"{row['label']}, {row['accumulator']}" if several else row["label"]
        width, gap = text_size(drawn, label)[0], row["cross_entropy_increase_nats"]
        sqnr.append(Point(row, row["sqnr_db"], True, label, width))
        rise.append(Point(row, abs(gap), gap >= 0, label, width))
    below.set_yscale("log")
    _scale(below, sqnr)
    _panel(above, sqnr)
    _panel(below, rise)
    above.set_title(f"{result.workload}: {result.samples} test samples, float64 reference", loc="left", fontsize=9)
    above.set_ylabel("SQNR of the logits (dB, more is better)")
    below.set_ylabel("|increase in cross-entropy| (nats)")
    below.set_xlabel("Bits per value")
    _legend(above, below, sqnr, rise)
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")  # the labels below must not move what they were placed by
    _labels(above, sqnr)
    _labels(below, rise)
    return drawn


class Point(NamedTuple):
    """One mark of a panel: where it stands, whether it is filled, its label and the label's width in points."""

    row: Record
    value: float
    filled: bool
    label: str
    width: float


def _style(row: Record) -> dict[str, Any]:
    """Return marker and colour of a record's family, which is its count of exponent bits."""
    families = (11, 8, 5, 4, 3, 2)
    index = families.index(row["exponent_bits"]) if row["exponent_bits"] in families else len(families)
    return {"marker": MARKERS[index], "color": COLOURS[index], "markersize": 6.0, "linestyle": "none"}


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
    share = (right + 2 * _OFFSET_POINTS) / _AXES_POINTS
    left = widths[0] / 1.25
    axes.set_xscale("log", base=2)
    axes.set_xlim(left, widths[-1] * (widths[-1] / left) ** (share / (1 - share)))
    axes.set_xticks(widths, labels=[str(width) for width in widths])
    axes.set_xticks([], minor=True)


def _panel(axes: Any, points: list[Point]) -> None:
    """Draw the points, and name those that have no place."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)
    drawn = _drawable(points, axes)
    for point in drawn:
        face = {} if point.filled else {"markerfacecolor": "white"}
        axes.plot(point.row["bits"], point.value, markeredgewidth=1.1, zorder=3, **_style(point.row), **face)
    missing = [f"{point.label} ({point.value:.4g})" for point in points if point not in drawn]
    if missing:
        axes.set_title(f"not drawn: {', '.join(missing)}", loc="right", fontsize=LABEL_POINTS, color="#555555")


def _legend(above: Any, below: Any, sqnr: list[Point], rise: list[Point]) -> None:
    """Name the families in the upper panel, and hollow points in the lower one."""
    families = {point.row["exponent_bits"]: point.row for point in _narrow(sqnr)}
    for bits in sorted(families, reverse=True):
        above.plot([], [], label=str(bits), **_style(families[bits]))
    above.legend(title="Exponent bits", loc="lower right", ncols=2, fontsize=8, title_fontsize=8, **LEGEND)
    if not all(point.filled for point in _drawable(rise, below)):
        below.plot([], [], "o", color="#555555", markerfacecolor="white", label="hollow: a decrease")
        below.legend(loc="upper right", fontsize=8, **LEGEND)


def _labels(axes: Any, points: list[Point]) -> None:
    """Label every point to its right; where labels would meet, stack them in the order of their points.

    Columns of points that are closer than a label is wide share one stack, so no two labels can overlap.
    """
    per_point = axes.figure.dpi / 72
    bounds = axes.get_window_extent()
    spots = []  # in typographic points from the figure's lower left corner
    for point in _drawable(points, axes):
        x, y = axes.transData.transform((point.row["bits"], point.value)) / per_point
        spots.append(Spot(float(x), float(y), point))
    groups = _columns(_merged(spots))
    ends = [min(spot.x for spot in group) for group in groups[1:]] + [bounds.x1 / per_point]
    for group, end in zip(groups, ends, strict=bool(groups)):
        heights = _spread([spot.y for spot in group], bounds.y0 / per_point, bounds.y1 / per_point)
        left = max(spot.x for spot in group) + _OFFSET_POINTS
        if max(abs(spot.y - height) for spot, height in zip(group, heights, strict=True)) > _GAP_POINTS / 3:
            room = end - left - max(spot.point.width for spot in group) - _OFFSET_POINTS
            left += min(max(room, 0), _OFFSET_POINTS)  # so that the lines to the labels are not too steep
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
            if abs(offset[1]) > _GAP_POINTS / 3 or offset[0] > 2.5 * _OFFSET_POINTS:
                axes.annotate(
                    "",
                    anchor,
                    xytext=(offset[0] - 1.5, offset[1]),
                    textcoords="offset points",
                    arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
                    zorder=2,
                )


class Spot(NamedTuple):
    """A point and its place on the page, in typographic points."""

    x: float
    y: float
    point: Point


def _merged(spots: list[Spot]) -> list[Spot]:
    """Give one label, without the accumulator, to a format that lies at one place with every accumulator."""
    merged: list[Spot] = []
    for name in dict.fromkeys(spot.point.row["format"] for spot in spots):
        same = [spot for spot in spots if spot.point.row["format"] == name]
        first, heights = same[0], [spot.y for spot in same]
        if len(same) > 1 and max(heights) - min(heights) < _GAP_POINTS / 3:
            merged.append(first._replace(point=first.point._replace(label=first.point.row["label"])))
        else:
            merged += same
    return merged


def _columns(spots: list[Spot]) -> list[list[Spot]]:
    """Group points by their x, together with the next column where that is too near for a label; each from above."""
    groups: list[list[Spot]] = []
    for spot in sorted(spots, key=lambda spot: spot.x):
        if groups:
            end = groups[-1][-1].x + _OFFSET_POINTS + max(each.point.width for each in groups[-1])
            if spot.x == groups[-1][-1].x or spot.x - _OFFSET_POINTS / 2 < end:
                groups[-1].append(spot)
                continue
        groups.append([spot])
    return [sorted(group, key=lambda spot: -spot.y) for group in groups]


def _spread(heights: list[float], bottom: float, top: float) -> list[float]:
    """Move heights, given from above, as little as puts `_GAP_POINTS` between neighbours, within bottom and top.

    With i times the gap added to the i-th height the rule is "never increasing", which pooling neighbours that break
    it solves in least squares.
    """
    pools: list[list[float]] = []
    for i, height in enumerate(heights):
        pools.append([height + i * _GAP_POINTS])
        while len(pools) > 1 and sum(pools[-1]) / len(pools[-1]) > sum(pools[-2]) / len(pools[-2]):
            last = pools.pop()
            pools[-1] += last
    level = [sum(pool) / len(pool) for pool in pools for _ in pool]
    room = bottom + _GAP_POINTS / 2 + (len(heights) - 1) * _GAP_POINTS
    level = [min(max(height, room), top - _GAP_POINTS / 2) for height in level]
    return [height - i * _GAP_POINTS for i, height in enumerate(level)]
