"""What the scripts of the gallery share: run a study of SmolLM2, write its table, draw its differences from fp32."""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import lowprec as lp
from lowprec._drawing import COLOURS, MARKERS, STYLE, Label, blank, label_points

HERE = Path(__file__).resolve().parent
WINDOWS, LENGTH = 10, 128
COLUMNS = {
    "arithmetic": "arithmetic",
    "perplexity": "perplexity",
    "loss_increase_nats": "loss increase over fp32 (nats per token)",
    "loss_increase_nats_low": "least of a window",
    "loss_increase_nats_high": "largest of a window",
    "kl_nats": "KL divergence from fp32 (nats)",
    "top1_agreement": "top-1 agreement",
    "sqnr_db": "SQNR of the logits (dB)",
}
FORMATS = {
    "perplexity": ".4f",
    "kl_between": ".2e",
    "same_choice": ".2%",
    "loss_increase_nats": "+.6f",
    "loss_increase_nats_low": "+.6f",
    "loss_increase_nats_high": "+.6f",
    "kl_nats": ".2e",
    "top1_agreement": ".2%",
    "sqnr_db": ".2f",
    "ge": ".0f",
    "bits_per_weight": ".2f",
}


def arguments(about: str) -> argparse.Namespace:
    """Return the options of a script of the gallery."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--windows", type=int, default=WINDOWS, help="windows of text (default: %(default)s)")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a window (default: %(default)s)")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes (default: %(default)s); bits do not depend on it"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the table and the picture")
    return parser.parse_args()


def run(settings: Mapping[str, lp.nn.Arithmetic], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one record for each named arithmetic, in order, on the windows from the start of the text."""
    pool = ProcessPoolExecutor(options.workers) if options.workers > 1 else None
    try:
        result = lp.study(
            "smollm2", dtypes=list(settings.values()), windows=options.windows, length=options.length, executor=pool
        )
    finally:
        if pool is not None:
            pool.shutdown()
    if len(result.table) != len(settings):
        msg = f"{len(result.table)} records for {len(settings)} settings: two are equal, or one was refused."
        raise RuntimeError(msg)
    return [{"arithmetic": name, **record} for name, record in zip(settings, result.table, strict=True)]


def between(
    settings: Mapping[str, lp.nn.Arithmetic], base: str, records: Sequence[dict[str, Any]], options: argparse.Namespace
) -> None:
    """Add to each record how far its distributions are from those of another setting of the same format."""
    workload = lp.study.workload("smollm2", windows=options.windows, length=options.length)
    others = [log_softmax(workload.logits(settings[base], part)) for part in range(options.windows)]
    for record in records:
        own = (log_softmax(workload.logits(settings[record["arithmetic"]], part)) for part in range(options.windows))
        pairs = list(zip(others, own, strict=True))
        record["kl_between"] = float(np.mean([np.mean(np.sum(np.exp(p) * (p - q), axis=1)) for p, q in pairs]))
        record["same_choice"] = float(np.mean([np.mean(p.argmax(axis=1) == q.argmax(axis=1)) for p, q in pairs]))


def log_softmax(logits: Any) -> Any:
    """Return logarithms of probabilities, in float64."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def write(
    records: Sequence[Mapping[str, Any]], name: str, options: argparse.Namespace, more: Mapping[str, str] | None = None
) -> None:
    """Write the table that the page shows."""
    columns = COLUMNS | dict(more or {})
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"{name}.csv"
    with target.with_suffix(".part").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.values())
        for record in records:
            writer.writerow([_shown(record[key], FORMATS.get(key)) for key in columns])
    target.with_suffix(".part").replace(target)
    print(target.read_text(encoding="utf-8"))


def _shown(value: Any, style: str | None) -> str:
    if value is None:
        return ""
    return str(value) if style is None else format(value, style)


def draw(records: Sequence[Mapping[str, Any]], name: str, title: str, options: argparse.Namespace) -> None:
    """Draw the mean increase in loss of each arithmetic, with the range over windows, one line each."""
    with matplotlib.rc_context(STYLE):
        figure = blank(6.6, 0.9 + 0.32 * len(records))
        axes = figure.add_subplot()
        for place, record in enumerate(records):
            low, mean, high = (record[f"loss_increase_nats{end}"] for end in ("_low", "", "_high"))
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2, solid_capstyle="butt")
            axes.plot(mean, place, marker, color=colour, markersize=5.5)
            axes.annotate(f"{mean:+.4f}", (high, place), xytext=(6, -3), textcoords="offset points", fontsize=7.5)
        axes.axvline(0, color="#888888", linewidth=0.7)
        axes.set_yticks(range(len(records)), [record["arithmetic"] for record in records])
        axes.set_ylim(len(records) - 0.4, -0.6)
        axes.margins(x=0.18)
        axes.set_xlabel("loss increase over fp32, nats per token: mean and range over windows", loc="right")
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        figure.savefig(options.output / f"{name}.png", dpi=200)


def scatter(records: Sequence[Mapping[str, Any]], name: str, options: argparse.Namespace) -> None:
    """Draw the divergence from fp32 against gates, with the range over windows, and the front that nothing beats."""
    with matplotlib.rc_context(STYLE):
        figure = blank(6.6, 4.2)
        axes = figure.add_subplot()
        best = float("inf")
        stairs = []
        for record in sorted(records, key=lambda each: (each["ge"], each["kl_nats"])):
            if record["kl_nats"] < best:
                best = record["kl_nats"]
                stairs.append((record["ge"], best))
        corners = [(right[0], left[1]) for left, right in itertools.pairwise(stairs)]
        lines = [np.array([point for pair in itertools.zip_longest(stairs, corners) for point in pair if point])]
        axes.step(*zip(*stairs, strict=True), where="post", color="#bbbbbb", linewidth=1.0, zorder=1)
        for place, record in enumerate(records):
            low, mean, high = (record[f"kl_nats{end}"] for end in ("_low", "", "_high"))
            lines.append(np.array([(record["ge"], low), (record["ge"], high)]))
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]
            axes.plot([record["ge"]] * 2, [low, high], color=colour, linewidth=1.0)
            axes.plot(record["ge"], mean, marker, color=colour, markersize=6)
        axes.set_yscale("log")
        axes.margins(x=0.12, y=0.08)
        axes.set_xlabel("gates per product of a dot unit of 32 lanes (gate equivalents)")
        axes.set_ylabel("KL divergence of the next token from fp32's, nats")
        axes.set_title(
            "SmolLM2-135M: what a format loses against what it costs; lines: range over windows", loc="left", fontsize=9
        )
        label_points(
            axes,
            [Label(record["ge"], record["kl_nats"], record["arithmetic"]) for record in records],
            lines,
        )
        figure.savefig(options.output / f"{name}.png", dpi=200)
