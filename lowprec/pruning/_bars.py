"""The figure of a sparsity report: kept magnitude, and output error where there is one, as bars."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowprec._drawing import STYLE, blank
from lowprec._extras import require

if TYPE_CHECKING:
    from lowprec.pruning.report import SparsityReport

_COLOURS = {"magnitude": "#0072B2", "wanda": "#D55E00", "sparsegpt": "#009E73", "": "#8a8a8a"}
_STYLE = {**STYLE, "ytick.major.width": 0.0}


def save(report: SparsityReport, path: Path) -> Path:
    """Write the figure of a report.

    Parameters
    ----------
    report : SparsityReport
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
    with matplotlib.rc_context(_STYLE):
        figure(report).savefig(path, dpi=200)
    return path


def figure(report: SparsityReport) -> Any:
    """Draw a report on a figure that needs no display and touches no global state.

    Parameters
    ----------
    report : SparsityReport
        What to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel of bars from zero, each with its number; a second for output errors.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    kept = [row["kept_magnitude"] for row in report.table]
    errors = [row["output_error"] for row in report.table if row["output_error"] is not None]
    panels = 2 if errors else 1
    size = (4.2 + 2.6 * (panels - 1), 0.85 + 0.27 * len(kept))
    drawn = blank(*size)
    axes = drawn.subplots(1, panels, sharey=True, squeeze=False)[0]
    colours = [_COLOURS[row["criterion"] if row["pattern"] else ""] for row in report.table]
    _panel(axes[0], kept, colours, "{:.4f}", "Kept part of sum |w|")
    axes[0].set_yticks(range(len(kept)), [row["method"] for row in report.table])
    axes[0].invert_yaxis()
    if errors:
        _panel(axes[1], errors, colours, "{:.3g}", "Relative output error")
    return drawn


def _panel(axes: Any, values: list[float], colours: list[str], text: str, label: str) -> None:
    """Draw bars with their numbers."""
    lengths = [value if math.isfinite(value) else 0.0 for value in values]
    bars = axes.barh(range(len(values)), lengths, height=0.68, color=colours)
    axes.bar_label(bars, [text.format(value) for value in values], padding=3, fontsize=7.5)
    axes.set_xlabel(label)
    axes.set_xlim(0, 1.28 * max(lengths) or 1.0)  # with room for the longest bar's number
    axes.tick_params(axis="y", length=0)
