"""Draw what each rounding mode does: the staircase between -3 and 3 in a format with few values."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

import lowprec as lp

FORMAT = "e2m1fn"
REACH = 3
SAMPLES = 3001
NOTES = {
    "nearest_even": "ties to the even significand",
    "nearest_away": "ties away from zero",
    "toward_zero": "truncation",
    "toward_positive": "up",
    "toward_negative": "down",
    "to_odd": "inexact to the odd significand",
    "stochastic": "away from zero with probability t",
}


def draw(path: Path) -> None:
    """Draw the staircases into an SVG or PNG file."""
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "lowprec"
    from matplotlib import pyplot as plt

    modes = list(lp.Rounding)
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.6), sharex=True, sharey=True, layout="constrained")
    values = np.unique(lp.decode(np.arange(16, dtype=np.uint8), FORMAT))
    values = values[np.abs(values) <= REACH]
    x = np.linspace(-REACH, REACH, SAMPLES)
    for ax, mode in zip(axes.flat, modes, strict=False):
        stochastic = mode == lp.Rounding.STOCHASTIC
        y = lp.round_to(x, FORMAT, rounding=mode, rng=0 if stochastic else None)
        ax.plot([-REACH, REACH], [-REACH, REACH], color="0.8", linewidth=1)
        # Dots, not lines: nothing is joined that is not joined.
        ax.plot(x, y, "." if stochastic else "o", markersize=2, color="C0", alpha=0.12 if stochastic else 1, mew=0)
        exact = lp.round_to(values, FORMAT, rounding=mode, rng=0 if stochastic else None)
        ax.plot(values, exact, "o", markersize=4, color="C1")
        if not stochastic:
            ties = (values[1:] + values[:-1]) / 2
            ax.plot(ties, lp.round_to(ties, FORMAT, rounding=mode), "k|", markersize=6)
        ax.set_title(f"{mode}\n", fontsize=10)
        ax.text(0.5, 1.02, NOTES[mode], transform=ax.transAxes, ha="center", fontsize=8, color="0.4")
        ax.set_xticks(range(-2, 3))
        ax.set_yticks(values)
        ax.set_aspect("equal")
        ax.grid(color="0.93")
    for ax in axes.flat[len(modes) :]:
        ax.axis("off")
        words = (
            f"blue: x, and what it rounds to in {FORMAT};\n    stochastic: one draw for each x\n\n"
            "orange: the format's own values,\n    which no mode moves\n\n"
            "black: midpoints of neighbours (ties)"
        )
        ax.text(0, 0.9, words, fontsize=9, va="top")
    figure.supxlabel("x", fontsize=10)
    figure.supylabel(f'round_to(x, "{FORMAT}")', fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "generated" / "rounding_modes.svg")
