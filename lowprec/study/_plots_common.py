"""What the figures of a study share: names of settings, scales of axes, labels at the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lowprec._drawing import COLOURS, LABEL_POINTS, MARKERS, text_size
from lowprec.study._extras import require

Record = Mapping[str, Any]

GAP_POINTS = 8.2
OFFSET_POINTS = 7.0
BOUNDED = "sum_error"
"""The measure that theory bounds: the error of sums over ``|x| |w|``."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_LOGARITHMIC = 50.0


def namer(table: Sequence[Record]) -> Callable[[Record], str]:
    """Return what names the settings of a table in as few words as tell them apart.

    Parameters
    ----------
    table : sequence of dict
        Records.

    Returns
    -------
    callable
        From a record to its label, with its accumulator where labels alone are the same for several.
    """
    if len({(record["label"], record.get("accumulator")) for record in table}) > len({r["label"] for r in table}):
        return lambda record: f"{record['label']}, {record.get('accumulator')}"
    return lambda record: str(record["label"])


def axis_label(metric: Any) -> str:
    """Return the label of an axis: the measure, its unit, and which way is better."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return (
        f"{metric.label[:1].upper()}{metric.label[1:]}{unit}, {'more' if metric.larger_is_better else 'less'} is better"
    )


def short(value: float, metric: Any) -> str:
    """Return a number in three digits; shares in percent."""
    if not math.isfinite(value):
        return str(value)
    if metric.format.endswith("%"):
        return f"{100 * value:.1f}"
    plain = value == 0 or 1e-3 <= abs(value) < 1e4
    return f"{value:.3g}" if plain else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def percent(axis: Any, metric: Any) -> None:
    """Write the ticks of an axis in percent where the measure is a share."""
    if metric.format.endswith("%"):
        ticker = require("matplotlib.ticker", "A plot")
        axis.set_major_formatter(ticker.PercentFormatter(1.0))


def number(record: Record, name: str) -> float:
    """Return a number of a record; NaN for None and for what is no number."""
    value = record.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def logarithmic(values: Iterable[float]) -> bool:
    """Say whether magnitudes are so different that only a logarithmic axis shows all of them."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    return bool(sizes) and max(sizes) >= _LOGARITHMIC * min(sizes)


def spread(heights: Sequence[float], bottom: float, top: float, gap: float = GAP_POINTS) -> list[float]:
    """Move heights, given from above, as little as puts a gap between neighbours, within bottom and top.

    With i times the gap added to the i-th height the rule is "never increasing", which pooling neighbours that break
    it solves in least squares.
    """
    pools: list[list[float]] = []
    for i, height in enumerate(heights):
        pools.append([height + i * gap])
        while len(pools) > 1 and sum(pools[-1]) / len(pools[-1]) > sum(pools[-2]) / len(pools[-2]):
            last = pools.pop()
            pools[-1] += last
    level = [sum(pool) / len(pool) for pool in pools for _ in pool]
    room = bottom + gap / 2 + (len(heights) - 1) * gap
    level = [min(max(height, room), top - gap / 2) for height in level]
    return [height - i * gap for i, height in enumerate(level)]


def line_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of a line, together different for the first twenty-eight."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
        "markersize": 4.0,
        "linewidth": 1.1,
        "markeredgewidth": 0.0,
    }


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write labels right of the axes, each at the height of the end of its line, moved apart where they would meet.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Its limits and its place are final.
    ends : sequence of tuple
        x and y in data coordinates, text and colour.
    """
    if not ends:
        return
    per_point = axes.figure.dpi / 72
    box = axes.get_window_extent()
    right, bottom, top = box.x1 / per_point, box.y0 / per_point, box.y1 / per_point
    places = [axes.transData.transform((x, y)) / per_point for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=lambda i: -places[i][1])
    clipped = [min(max(float(places[i][1]), bottom), top) for i in order]
    slack = max(0.0, len(ends) * GAP_POINTS - (top - bottom)) / 2 + GAP_POINTS / 2
    for i, height in zip(order, spread(clipped, bottom - slack, top + slack), strict=True):
        x, y, text, colour = ends[i]
        offset = (right - float(places[i][0]) + 2 * OFFSET_POINTS, height - float(places[i][1]))
        axes.annotate(
            text,
            (x, y),
            xytext=offset,
            textcoords="offset points",
            fontsize=LABEL_POINTS,
            color=colour,
            va="center_baseline",
            annotation_clip=False,
            zorder=5,
            gid="label",
        )
        axes.annotate(
            "",
            (x, y),
            xytext=(offset[0] - 1.5, offset[1]),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3},
            annotation_clip=False,
            zorder=2,
        )


def widest(figure: Any, texts: Iterable[str]) -> float:
    """Return the width of the longest label, in points."""
    return max((text_size(figure, text)[0] for text in texts), default=0.0)


def halo(axes: Any) -> None:
    """Make labels readable where they stand on lines."""
    effects = require("matplotlib.patheffects", "A plot")
    for text in axes.texts:
        if text.get_gid() in ("label", "note", "theory"):
            text.set_path_effects([effects.withStroke(linewidth=1.8, foreground="white", alpha=0.85)])


def subject(workload: str, axes: Sequence[str], table: Sequence[Record]) -> str:
    """Return what a figure shows: the workload, and values that all of its records have of what else varies."""
    words = [workload]
    for name in axes:
        values = list(dict.fromkeys(record.get(name) for record in table))
        if len(values) == 1:
            words.append(values[0] if isinstance(values[0], str) else f"{name} = {values[0]}")
    return ", ".join(words)


def said(names: Sequence[str], width: int = 110) -> str:
    """Return names in a sentence's end, cut where there are too many."""
    text = ""
    for at, name in enumerate(names):
        more = f"{', ' if text else ''}{name}"
        if len(text) + len(more) > width:
            return f"{text} and {len(names) - at} more"
        text += more
    return text


def make_room(drawn: Any, grid: Any, margin: float) -> None:
    """Lay the panels out, then leave a margin for labels, in inches, right of each; the layout is final then."""
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")
    width = drawn.get_figwidth()
    down, across = grid.shape
    left = [min(grid[row, column].get_position().x0 for row in range(down)) for column in range(across)]
    start = left[0]
    inner = (0.16 if across > 1 else 0.0) / width  # what stands left of a panel that shares its axis
    each = (1 - start - inner * (across - 1)) / across
    for row in range(down):
        for column in range(across):
            box = grid[row, column].get_position()
            x = start + column * (each + inner)
            grid[row, column].set_position([x, box.y0, each - margin / width, box.height])
