"""The picture of rooflines: operations a second against operations for each byte, both on log scales."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lowprec._drawing import COLOURS, MARKERS, STYLE, Label, blank, label_points
from lowprec._extras import require

_ROOM = 4.0  # factor that the axes reach beyond what is drawn


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
    drawn = blank(6.4, 4.2)
    axes = drawn.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    ridges = [mark.peak / mark.bandwidth for mark in marks]
    reach = [*ridges, *(mark.intensity for mark in marks)]
    left, right = min(reach) / _ROOM, max(reach) * _ROOM**1.5
    machines = list(dict.fromkeys(mark.machine for mark in marks))
    lines = [_roof(axes, mark, machines.index(mark.machine), left, right) for mark in _roofs(marks)]
    for mark in marks:
        style = machines.index(mark.machine)
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
        for i, name in enumerate(machines)
    ]
    axes.legend(handles=handles, loc="lower right", frameon=True, framealpha=1.0, edgecolor="none", fontsize=8)
    _name_peaks(axes, marks, right)
    label_points(axes, [Label(mark.intensity, mark.attained, mark.label) for mark in marks], lines)
    return drawn


def _roofs(marks: Sequence[Mark]) -> list[Mark]:
    """Return one mark for each roof."""
    return list({_roof_of(mark): mark for mark in marks}.values())


def _roof_of(mark: Mark) -> tuple[str, float, float]:
    """Return what a roof is."""
    return mark.machine, mark.peak, mark.bandwidth


def _roof(axes: Any, mark: Mark, style: int, left: float, right: float) -> Any:
    """Draw a roof; return it as a line."""
    ridge = mark.peak / mark.bandwidth
    line = np.array([[left, left * mark.bandwidth], [ridge, mark.peak], [right, mark.peak]])
    axes.plot(line[:, 0], line[:, 1], color=COLOURS[style % len(COLOURS)], linewidth=1.1, zorder=2)
    return line


def _name_peaks(axes: Any, marks: Sequence[Mark], right: float) -> None:
    """Write each peak above its level, and each bandwidth along its slope."""
    for mark in _roofs(marks):
        same = [other.level for other in marks if _roof_of(other) == _roof_of(mark)]
        level = f"{', '.join(dict.fromkeys(same))}: {mark.peak / 1e12:.4g} Top/s"
        axes.text(right / 1.08, mark.peak * 1.06, level, fontsize=7, ha="right", va="bottom", color="#444444")
    slopes = {(mark.machine, mark.bandwidth): mark for mark in marks}.values()
    for mark in slopes:
        at = axes.get_xlim()[0] * 1.25
        axes.text(
            at,
            at * mark.bandwidth * 1.25,
            f"{mark.bandwidth / 1e9:.4g} GB/s",
            fontsize=7,
            rotation=_angle(axes),
            rotation_mode="anchor",
            va="bottom",
            color="#444444",
        )


def _angle(axes: Any) -> float:
    """Return the angle of a slope of 1 on the page, in degrees."""
    axes.figure.draw_without_rendering()
    (x, y), (right, up) = axes.transData.transform([(1.0, 1.0), (10.0, 10.0)])
    return float(np.degrees(np.arctan2(up - y, right - x)))
