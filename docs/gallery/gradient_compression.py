"""Gradients compressed on the wire between data-parallel workers: bytes against loss.

Run from the repository:  python docs/gallery/gradient_compression.py [--output FOLDER] [--no-cache]

Writes gradient_compression.png and prints the table of docs/training.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp
from lowprec._drawing import COLOURS, LEGEND, MARKERS, STYLE, Label, blank, label_points
from lowprec.study._extras import require


def figure(table: list[dict[str, Any]]) -> Any:
    """Draw final loss against what a worker sends."""
    drawn = blank(6.4, 4.2)
    axes = drawn.subplots()
    kinds = ("no feedback", "error feedback", "compressed at each hop of the ring")
    for index, kind in enumerate(kinds):
        part = [r for r in table if (2 if "+ring" in r["label"] else int("+ef" in r["label"])) == index]
        y = np.array([r["train_loss"] for r in part])
        spread = np.array([[r["train_loss_low"] for r in part], [r["train_loss_high"] for r in part]])
        axes.errorbar(
            [r["megabytes"] for r in part], y, np.abs(spread - y), linestyle="none", color=COLOURS[index],
            marker=MARKERS[index], markersize=5, elinewidth=0.8, capsize=2, label=kind,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [t for t in (0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4) if low <= t <= high]
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color="#e4e4e4", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("Sent by each worker in all steps (MB)")
    axes.set_ylabel("Final training loss (nats)")
    axes.set_title("classifier of digits, 4 workers, gradient descent with momentum", loc="left", fontsize=9)
    legend = axes.legend(fontsize=8, loc="upper right", **LEGEND)
    bars = [np.array([[r["megabytes"], r["train_loss_low"]], [r["megabytes"], r["train_loss_high"]]]) for r in table]
    label_points(
        axes, [Label(r["megabytes"], r["train_loss"], r["label"]) for r in table], lines=bars, taken=[legend]
    )  # fmt: skip
    return drawn


def lines(table: list[dict[str, Any]]) -> list[str]:
    """Return the table of the page."""
    found = ["| on the wire | bytes per step | of fp32 | final training loss (range) |", "|---|---|---|---|"]
    for record in table:
        spread = f"{record['train_loss_low']:.4f} to {record['train_loss_high']:.4f}"
        share = record["bytes_per_step"] / table[0]["bytes_per_step"]
        found.append(
            f"| `{record['label']}` | {record['bytes_per_step']} | {share:.1%} | "
            f"{record['train_loss']:.4f} ({spread}) |"
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--no-cache", action="store_true")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    result = lp.study("data_parallel", cache=not given.no_cache)
    with require("matplotlib", "A plot").rc_context(STYLE):
        figure(result.table).savefig(given.output / "gradient_compression.png", dpi=200)
    print("\n".join(lines(result.table)))
