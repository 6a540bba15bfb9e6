"""A cycle of a systolic array as a picture, and all of them as an animation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowprec._drawing import COLOURS, STYLE, blank
from lowprec._extras import require
from lowprec.systolic._scene import Scene, depths, letters, scene

if TYPE_CHECKING:
    from lowprec.systolic._trace import Trace

_INCH = 0.62  # of an element
_STEP = 0.5  # from one number above or below the array to the next, in elements
_TITLE = 6.4
_INKS = {"a": COLOURS[0], "b": COLOURS[1], "c": COLOURS[2]}
_WORKING, _IDLE, _LINE = "#fdf3d8", "#ffffff", "#8a8a8a"


def _canvas(trace: Trace, scenes: list[Scene]) -> Any:
    """Return a figure with room for the array and what is around it."""
    rows, cols = trace.size
    west, north, south = depths(scenes)
    left, right = -west - 0.2, cols + 0.2
    missing = max(0.0, _TITLE - (right - left)) / 2  # a title wider than the array
    left, right = left - missing, right + missing
    above, below = -0.6 - _STEP * north, rows + 0.3 + _STEP * south
    figure = blank((right - left) * _INCH, (below - above) * _INCH)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(below, above)
    return figure


def _draw(axes: Any, trace: Trace, shown: Scene) -> None:
    """Draw a scene."""
    from matplotlib.patches import Rectangle

    rows, cols = trace.size
    stays, moves, total = tuple(letters(trace.dataflow))
    size = 7.0 if max(trace.shape) <= 10 else 5.2
    how: dict[str, Any] = {"ha": "center", "va": "center"}
    for r in range(rows):
        for c in range(cols):
            works = shown.active[r][c]
            face = _WORKING if works else _IDLE
            axes.add_patch(Rectangle((c + 0.05, r + 0.05), 0.9, 0.9, facecolor=face, edgecolor=_LINE, lw=0.7))
            held = dict(zip((stays, moves, total), shown.cells[r][c], strict=True))
            sign = "\u00d7 " if works else ""
            lines = ((0.25, stays, ""), (0.5, moves, sign), (0.77, total, "\u2192 " if works else ""))
            for down, letter, before in lines:
                if held[letter]:
                    ink = _INKS[letter] if held[letter] != "0" else _LINE
                    axes.text(c + 0.5, r + down, before + held[letter], color=ink, size=size, **how)
    for r, line in enumerate(shown.west):
        for ahead, name in enumerate(line):
            axes.text(-ahead - 0.5, r + 0.5, name, color=_INKS[moves] if name != "0" else _LINE, size=size, **how)
    outside = ((shown.north, stays, -0.3, -_STEP), (shown.south, total, rows + 0.3, _STEP))
    for queue, letter, start, step in outside:
        for c, line in enumerate(queue):
            for far, name in enumerate(line):
                axes.text(
                    c + 0.5, start + step * far, name, color=_INKS[letter] if name != "0" else _LINE, size=size, **how
                )
    left, right = axes.get_xlim()
    axes.text((left + right) / 2, axes.get_ylim()[1] + 0.25, shown.title, size=8.5, **how)


def save(trace: Trace, cycle: int, path: Path) -> Path:
    """Write the picture of a cycle.

    Parameters
    ----------
    trace : Trace
        What to draw.
    cycle : int
        Which cycle.
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
    matplotlib = require("matplotlib", "A picture of a systolic array", "study")
    with matplotlib.rc_context(STYLE):
        shown = scene(trace, cycle)
        figure = _canvas(trace, [shown])
        _draw(figure.axes[0], trace, shown)
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def animate(trace: Trace, path: Path, seconds: float) -> Path:
    """Write all cycles as an animated GIF.

    Parameters
    ----------
    trace : Trace
        What to draw.
    path : pathlib.Path
        File to write.
    seconds : float
        How long each cycle is shown.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    OSError
        If the file cannot be written.
    """
    matplotlib = require("matplotlib", "An animation of a systolic array", "study")
    animation = require("matplotlib.animation", "An animation of a systolic array", "study")
    with matplotlib.rc_context(STYLE):
        scenes = [scene(trace, cycle) for cycle in range(len(trace))]
        figure = _canvas(trace, scenes)
        axes = figure.axes[0]
        limits = axes.get_xlim(), axes.get_ylim()
        writer = animation.PillowWriter(fps=1 / seconds)
        with writer.saving(figure, path, dpi=110):
            for shown in scenes:
                axes.clear()
                axes.set_axis_off()
                axes.set_xlim(limits[0])
                axes.set_ylim(limits[1])
                _draw(axes, trace, shown)
                writer.grab_frame()
    return path
