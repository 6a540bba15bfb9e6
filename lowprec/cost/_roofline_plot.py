"""The picture of rooflines: operations a second against operations for each byte, both on log scales."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lowprec._drawing import COLOURS, MARKERS, STYLE, Label, blank, label_points
from lowprec._extras import require

_ROOM = 4.0  # factor that the axes reach beyond what is drawn
_GAP = 0.035  # least distance of names of peaks, as a part of the axes' height


class Mark(NamedTuple):
    """A product: its label, its machine, what its roof is the peak of, and the numbers that place it."""

    label: str
    machine: str
    level: str
    peak: float
    bandwidth: float
    intensity: float

    @property
    def attained(self) -> float:
        """Operations a second at best."""
        return min(self.peak, self.intensity * self.bandwidth)


def save(marks: Sequence[Mark], path: Path) -> Path:
    """Write the figure.

    Parameters
    ----------
    marks : sequence of Mark
        The products, at least one.
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
        figure(marks).savefig(path, dpi=200)
    return path


def figure(marks: Sequence[Mark]) -> Any:
    """Draw the roofs and the products.

    Parameters
    ----------
    marks : sequence of Mark
        The products, at least one.

    Returns
    -------
    matplotlib.figure.Figure
        A slope for each bandwidth, a level for each peak, a marker for each product, each machine in a colour.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    drawn = blank(7.0, 4.2)
    axes = drawn.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    ridges = [mark.peak / mark.bandwidth for mark in marks]
    reach = [*ridges, *(mark.intensity for mark in marks)]
    left, right = min(reach) / _ROOM, max(reach) * _ROOM
    slopes = list(dict.fromkeys(_slope_of(mark) for mark in marks))
    lines = [_roof(axes, mark, slopes.index(_slope_of(mark)), left, right) for mark in _roofs(marks)]
    for mark in marks:
        style = slopes.index(_slope_of(mark))
        axes.plot(
            mark.intensity,
            mark.attained,
            MARKERS[style % len(MARKERS)],
            color=COLOURS[style % len(COLOURS)],
            markersize=6.0,
            zorder=4,
        )
    axes.set_xlim(left, right)
    low = min([mark.attained for mark in marks] + [left * mark.bandwidth for mark in marks])
    axes.set_ylim(low / 1.5, max(mark.peak for mark in marks) * 2.5)
    axes.set_xlabel("Operations for each byte")
    axes.set_ylabel("Operations a second")
    axes.grid(which="major", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    handles = [
        axes.plot([], [], MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], label=name)[0]
        for i, name in enumerate(slopes)
    ]
    axes.legend(handles=handles, loc="lower right", frameon=True, framealpha=1.0, edgecolor="none", fontsize=8)
    _name_peaks(axes, marks)
    label_points(axes, [Label(mark.intensity, mark.attained, mark.label) for mark in marks], lines)
    return drawn


def _roofs(marks: Sequence[Mark]) -> list[Mark]:
    """Return one mark for each roof."""
    return list({_roof_of(mark): mark for mark in marks}.values())


def _roof_of(mark: Mark) -> tuple[str, float, float]:
    """Return what a roof is."""
    return mark.machine, mark.peak, mark.bandwidth


def _slope_of(mark: Mark) -> str:
    """Return what is drawn in one colour."""
    return f"{mark.machine}, {mark.bandwidth / 1e9:.4g} GB/s"


def _roof(axes: Any, mark: Mark, style: int, left: float, right: float) -> Any:
    """Draw a roof; return it as a line."""
    ridge = mark.peak / mark.bandwidth
    line = np.array([[left, left * mark.bandwidth], [ridge, mark.peak], [right, mark.peak]])
    axes.plot(line[:, 0], line[:, 1], color=COLOURS[style % len(COLOURS)], linewidth=1.1, zorder=2)
    return line


def _name_peaks(axes: Any, marks: Sequence[Mark]) -> None:
    """Write each peak to the right of its level."""
    bottom, top = np.log(axes.get_ylim())
    height = -1.0
    for mark in sorted(_roofs(marks), key=lambda mark: mark.peak):
        same = [other.level for other in marks if _roof_of(other) == _roof_of(mark)]
        level = f"{', '.join(dict.fromkeys(same))}: {mark.peak / 1e12:.4g} Top/s"
        height = max((np.log(mark.peak) - bottom) / (top - bottom), height + _GAP)
        axes.text(1.01, height, level, fontsize=7, va="center", color="#444444", transform=axes.transAxes)
