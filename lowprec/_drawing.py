"""What the figures of this package share: their style, their colours, and labels that do not meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowprec._extras import require

# Okabe and Ito's palette, distinct under every common colour blindness, and one marker each.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABEL_POINTS = 7.0
LEGEND: dict[str, Any] = {"frameon": True, "framealpha": 1.0, "edgecolor": "none"}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.hashsalt": "lowprec",
    "pdf.fonttype": 42,
}

Boxes = NDArray[np.float64]
"""Rectangles, shape (n, 4): left, bottom, right, top, in typographic points."""

_MARKER = 3.6  # half the side of the square that a marker takes
_DISTANCES = (7.0, 10.0, 14.0, 19.0, 25.0, 32.0, 40.0, 50.0, 62.0, 76.0, 92.0, 110.0)
_DIRECTIONS = tuple(2 * math.pi * step / 16 for step in range(16))
_PASSES = 8
_FAR = 11.0  # a label that is further from its point has a line to it


class Label(NamedTuple):
    """A label, and the point that it belongs to, in data coordinates."""

    x: float
    y: float
    text: str


def blank(width: float, height: float) -> Any:
    """Return a figure that needs no display and touches no global state; pyplot would do both.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        With nothing on it.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    drawn = require("matplotlib.figure", "A plot", "study").Figure(figsize=(width, height), layout="constrained")
    require("matplotlib.backends.backend_agg", "A plot", "study").FigureCanvasAgg(drawn)
    return drawn


def text_size(figure: Any, text: str, weight: str = "normal") -> tuple[float, float]:
    """Return how wide and how high a label is, in typographic points."""
    probe = figure.text(0, 0, text, fontsize=LABEL_POINTS, fontweight=weight)
    box = probe.get_window_extent()
    probe.remove()
    return float(box.width) * 72 / figure.dpi, float(box.height) * 72 / figure.dpi


def label_points(
    axes: Any,
    labels: Sequence[Label],
    lines: Sequence[NDArray[np.float64]] = (),
    strong: Sequence[bool] | None = None,
    taken: Sequence[Any] = (),
) -> None:
    """Write a label near each point, where it meets no other label, no point and, if there is room, no line.

    Each label takes the best of some two hundred places around its point, given where the others are, a few times in
    turn: the same places for the same figure every time. To be called last, once the axes' limits are final.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where the points are drawn.
    labels : sequence of Label
        One for each point.
    lines : sequence of ndarray
        Polylines to keep clear of, each of shape (n, 2), in data coordinates: error bars, a curve.
    strong : sequence of bool, optional
        Which labels are bold.
    taken : sequence of matplotlib artists
        What else has its place already, such as a legend.

    Raises
    ------
    Nothing.
    """
    if not labels:
        return
    figure = axes.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the labels must not move what they are placed by
    scale = 72 / figure.dpi
    points = axes.transData.transform([(label.x, label.y) for label in labels]) * scale
    weights = ["bold" if bold else "normal" for bold in (strong or [False] * len(labels))]
    sizes = np.array([text_size(figure, label.text, weight) for label, weight in zip(labels, weights, strict=True)])
    box = axes.get_window_extent()
    within = np.array([box.x0, box.y0, box.x1, box.y1]) * scale
    strokes = np.concatenate([np.empty((0, 2)), *(_dots(axes.transData.transform(line) * scale) for line in lines)])
    rectangles = [artist.get_window_extent().extents * scale for artist in taken]
    offsets = _places(points, sizes, within, strokes, np.array(rectangles).reshape(-1, 4))
    for label, weight, point, size, offset in zip(labels, weights, points, sizes, offsets, strict=True):
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=tuple(offset),
            textcoords="offset points",
            fontsize=LABEL_POINTS,
            fontweight=weight,
            ha="center",
            va="center",
            annotation_clip=False,
            zorder=5,
            gid="label",
        )
        near = np.clip(point, point + offset - size / 2, point + offset + size / 2) - point
        if math.hypot(*near) > _FAR - _MARKER:
            axes.annotate(
                "",
                (label.x, label.y),
                xytext=tuple(near),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
                annotation_clip=False,
                zorder=2,
            )


def _dots(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points on a polyline, a few typographic points apart."""
    pieces = [line[:1]]
    for start, end in pairwise(line):
        count = max(1, math.ceil(float(np.hypot(*(end - start))) / 3))
        pieces.append(start + (end - start) * np.arange(1, count + 1)[:, np.newaxis] / count)
    return np.concatenate(pieces)


def _boxes(centres: NDArray[np.float64], sizes: NDArray[np.float64], margin: float = 0.0) -> Boxes:
    """Return rectangles around centres."""
    half = sizes / 2 + margin
    return np.concatenate([centres - half, centres + half], axis=-1)


def _shared(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """Return the area that each rectangle of one array shares with each of another."""
    low = np.maximum(one[:, np.newaxis, :2], other[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:], other[np.newaxis, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=-1))


def _places(points: Boxes, sizes: Boxes, within: Boxes, strokes: Boxes, taken: Boxes) -> NDArray[np.float64]:
    """Return the offsets of the labels' centres from their points, in typographic points."""
    steps = np.array([(math.cos(angle), math.sin(angle), far) for far in _DISTANCES for angle in _DIRECTIONS])
    markers = _boxes(points, np.full_like(points, 2 * _MARKER))
    dots = _boxes(strokes, np.full_like(strokes, 1.0))
    tries, fixed = [], []
    for point, size in zip(points, sizes, strict=True):
        # The label's nearest edge lies `far` from the point: half its width aside, half its height above or below.
        offsets = steps[:, :2] * (steps[:, 2:] + size / 2 - np.array([0.0, 2.0]))
        boxes = _boxes(point + offsets, size, 0.8)
        outside = np.maximum(within[:2] - boxes[:, :2], 0).sum(1) + np.maximum(boxes[:, 2:] - within[2:], 0).sum(1)
        slant = 1.5 * np.abs(np.sin(2 * np.arctan2(steps[:, 1], steps[:, 0]))) + 1.0 * (steps[:, 0] < -0.5)
        cost = 0.9 * steps[:, 2] + slant + 60 * outside
        cost += 40 * _shared(boxes, markers).sum(1) + 3 * (_shared(boxes, dots) > 0).sum(1)
        cost += 200 * _shared(boxes, taken).sum(1) + 6 * _crossed(point, offsets, markers)
        cost += 2 * _crossed(point, offsets, dots)
        tries.append((offsets, boxes))
        fixed.append(cost)
    chosen = [int(np.argmin(cost)) for cost in fixed]
    paid = [float(cost.min()) for cost in fixed]
    for _ in range(_PASSES):
        for i in sorted(range(len(tries)), key=lambda i: -paid[i]):  # whose place is worst chooses first
            offsets, boxes = tries[i]
            others = np.array([tries[j][1][chosen[j]] for j in range(len(tries)) if j != i]).reshape(-1, 4)
            cost = fixed[i] + 200 * _shared(boxes, others).sum(1) + 12 * _crossed(points[i], offsets, others)
            chosen[i] = int(np.argmin(cost))
            paid[i] = float(cost[chosen[i]])
    return np.array([offsets[at] for (offsets, _), at in zip(tries, chosen, strict=True)])


def _crossed(point: Boxes, offsets: Boxes, boxes: Boxes) -> NDArray[np.float64]:
    """Return how many rectangles the line from a point to each place of its label goes through, its own apart."""
    shares = np.array([0.35, 0.5, 0.65, 0.8])
    along = point + offsets[:, np.newaxis] * shares[:, np.newaxis]
    inside = (along[:, :, np.newaxis] >= boxes[:, :2]) & (along[:, :, np.newaxis] <= boxes[:, 2:])
    own = (point >= boxes[:, :2]) & (point <= boxes[:, 2:])
    return np.asarray((inside.all(-1) & ~own.all(-1)).any(1).sum(1), np.float64)
