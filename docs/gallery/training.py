"""Mixed-precision training: what fp16 loses of gradients, what bf16 loses of updates, and what mends both.

Run from the repository:  python docs/gallery/training.py [--output FOLDER] [--no-cache]

Writes training.png and prints the table of docs/training.md. Nothing to download: scikit-learn ships the digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lowprec as lp
from lowprec._drawing import COLOURS, LABEL_POINTS, LEGEND, MARKERS, STYLE, blank
from lowprec.study._extras import require

DRAWN = ("fp32", "fp16", "fp16+dynamic", "bf16-pure", "bf16-pure+sr")


def figure(table: list[dict[str, Any]]) -> Any:
    """Draw loss, gradients lost and updates lost."""
    records = {record["label"]: record for record in table}
    drawn = blank(7.2, 6.0)
    panels = drawn.subplot_mosaic("AA;BC", height_ratios=(1.25, 1))
    above, left, right = (panels[name] for name in "ABC")
    dashes = ("-", "-", (0, (4, 2)), "-", (0, (1.5, 1.5)))
    for index, label in enumerate(DRAWN):
        record, colour = records[label], COLOURS[(6, 1, 2, 0, 4)[index]]
        steps, y = record["steps"], record["loss_curve"]
        above.plot(steps, y, color=colour, linestyle=dashes[index], linewidth=1.6, label=label, zorder=3)
        above.fill_between(
            steps, record["loss_curve_low"], record["loss_curve_high"], color=colour, alpha=0.13, linewidth=0
        )
        if label != "fp16+dynamic":
            lost = record["lost_updates_curve"]
            right.plot(
                steps, [100 * v for v in lost], color=colour, linestyle=dashes[index], linewidth=1.4, label=label
            )
    above.set_yscale("log")
    above.set_ylim(None, 0.1)
    ticks = (0.04, 0.05, 0.06, 0.08, 0.1)
    above.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    above.set_yticks([], minor=True)
    above.set_ylabel("Training loss (mean squared error)")
    above.set_xlabel("Step")
    above.legend(fontsize=8, **LEGEND)
    above.set_title("autoencoder of digits, Adam, mean and range of the seeds", loc="left", fontsize=9)
    layers = range(1, len(records["fp16"]["underflow_layers"]) + 1)
    for index, (label, name, words) in enumerate(
        (
            ("fp16", "underflow_activations", "fp16, of activations"),
            ("fp16", "underflow_layers", "fp16, of weights"),
            ("fp16+dynamic", "underflow_layers", "fp16+dynamic, of weights"),
        )
    ):
        values = [100 * v for v in records[label][name]]
        spread = [
            [100 * (v - low) for v, low in zip(records[label][name], records[label][f"{name}_low"], strict=True)],
            [100 * (high - v) for v, high in zip(records[label][name], records[label][f"{name}_high"], strict=True)],
        ]
        left.errorbar(
            [layer + 0.06 * (index - 1) for layer in layers], values, spread, color=COLOURS[(3, 1, 2)[index]],
            marker=MARKERS[index], markersize=4, linewidth=1.2, elinewidth=0.8, capsize=2, label=words,
        )  # fmt: skip
    left.set_xlabel("Layer (1: next to the input)")
    left.set_ylabel("Gradients lost (%)")
    left.legend(fontsize=LABEL_POINTS, **LEGEND)
    right.set_xlabel("Step")
    right.set_ylabel("Weight updates lost (%)")
    right.legend(fontsize=LABEL_POINTS, **LEGEND)
    for axes in (above, left, right):
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.5)
        axes.set_axisbelow(True)
    return drawn


def lines(table: list[dict[str, Any]]) -> list[str]:
    """Return the table of the page."""
    found = [
        "| recipe | test loss, mean of the seeds (range) | gradients lost, first layer | updates lost, second half |",
        "|---|---|---|---|",
    ]
    for record in table:
        spread = f"{record['test_loss_low']:.4f} to {record['test_loss_high']:.4f}"
        found.append(
            f"| `{record['label']}` | {record['test_loss']:.4f} ({spread}) | {record['underflow_layers'][0]:.1%} | "
            f"{record['lost_updates']:.1%} |"
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--no-cache", action="store_true")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    result = lp.study("training", cache=not given.no_cache)
    with require("matplotlib", "A plot").rc_context(STYLE):
        figure(result.table).savefig(given.output / "training.png", dpi=200)
    print("\n".join(lines(result.table)))
