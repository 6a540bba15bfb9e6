"""The command `lowprec hardware`: the table of presets, one with all that is known of it, and where two differ."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import textwrap
from typing import Any

import lowprec as lp
from lowprec import _text_tables as tables
from lowprec._instructions import CELLS, cells
from lowprec.hardware import Instruction, Preset

_COLUMNS = (
    "name",
    "aliases",
    "instruction",
    "a",
    "b",
    "c",
    "out",
    "K",
    "scales",
    "model",
    "evidence",
    "source",
    "note",
)


def add(commands: Any) -> None:
    """Add the subcommand to the parsers of the command.

    Parameters
    ----------
    commands : argparse's subparsers
        Where to add it.

    Raises
    ------
    Nothing.
    """
    hardware = commands.add_parser(
        "hardware",
        help="the table of hardware presets",
        usage="%(prog)s [-h] [--csv] [NAME ...]\n       %(prog)s [-h] diff A B [--dtype FORMAT] [--out-dtype FORMAT] "
        "[--k K] [--seed S]",
        description="Print the table of hardware presets, or all that is known of some of them. With diff: how many "
        "sums of built rows differ between two accumulators, by how much, and a small input on which they do.",
    )
    hardware.add_argument("names", nargs="*", metavar="NAME", help="presets or their aliases, such as h100")
    hardware.add_argument("--dtype", metavar="FORMAT", help="diff: of the operands, or A,B for two (default: bf16)")
    hardware.add_argument("--out-dtype", metavar="FORMAT", help="diff: of the results, as in lowprec.matmul")
    hardware.add_argument("--k", type=int, metavar="K", help="diff: products of a sum (default: 64)")
    hardware.add_argument("--seed", type=int, metavar="S", help="diff: of the built rows (default: 0)")
    hardware.add_argument("--csv", action="store_true", help="print comma-separated values, models and sources in full")
    hardware.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the table, presets in full, or where two accumulators differ.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.
    """
    if options.names[:1] == ["diff"]:
        _show_difference(options)
        return
    for name in ("dtype", "out_dtype", "k", "seed"):
        if getattr(options, name) is not None:
            msg = f"`--{name.replace('_', '-')}` must be given with diff alone; write lowprec hardware diff A B ..."
            raise ValueError(msg)
    chosen = [lp.preset(word) for name in options.names for word in name.split(",") if word] or list(lp.presets())
    if options.csv:
        _write_csv(chosen)
    elif options.names:
        print("\n\n".join(_in_full(preset) for preset in chosen))
    else:
        _show_table(chosen)


def _show_difference(options: argparse.Namespace) -> None:
    """Print where two accumulators differ."""
    from lowprec.compare import compare_accumulators

    words = options.names[1:]
    if len(words) != 2 or options.csv:
        got = "--csv" if options.csv else f"{len(words)}: {', '.join(words) or 'none'}"
        msg = f"`diff` must be given two accumulators, such as diff nvidia-ampere nvidia-hopper, got {got}."
        raise ValueError(msg)
    dtype = (options.dtype or "bf16").split(",")
    more = {name: getattr(options, name) for name in ("out_dtype", "k", "seed") if getattr(options, name) is not None}
    compare_accumulators(dtype=dtype[0] if len(dtype) == 1 else tuple(dtype), accumulators=words, **more).show()


def _show_table(chosen: list[Preset]) -> None:
    """Print one row for every row of the presets."""
    rows = [
        [preset.name if i == 0 else "", *cells(row)] for preset in chosen for i, row in enumerate(preset.instructions)
    ]
    notes = [
        "result: format of the result, and of c where that is another. K: products of an instruction.",
        "model: lp.MODEL(...) makes it. The first row that takes the operands is used, one with an fp32 result before "
        "others unless out_dtype is given.",
        "Longer sums chain. lowprec hardware NAME tells instructions, sources, notes and aliases.",
    ]
    columns = ["<preset", *(f"<{name}" for name in CELLS)]
    tables.show(tables.Table(columns, rows, "", notes, optional=["model", "K", "evidence"]))


def _in_full(preset: Preset) -> str:
    """Return all that is known of a preset as text."""
    names = f"{preset.name}: {preset.title}"
    lines = [names, "=" * len(names)]
    lines += [f"aliases: {', '.join(preset.aliases)}"] if preset.aliases else []
    lines += [f"evidence: {preset.evidence}"]
    return "\n".join([*lines, *("\n" + _row_in_full(row) for row in preset.instructions)])


def _row_in_full(row: Instruction) -> str:
    """Return all that is known of a row as text."""
    operands, result, sizes, _, evidence = cells(row)
    facts = {
        "operands": operands,
        "result": result,
        "K": sizes,
        "model": repr(row.model),
        "which is": str(row.model),
        "evidence": evidence,
        "source": row.source,
        "note": row.note,
    }
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    lines = [row.name]
    for name, text in facts.items():
        if text:
            first, rest = f"  {name:<10}", " " * 12
            lines += textwrap.wrap(
                text, max(40, width), initial_indent=first, subsequent_indent=rest, break_long_words=False
            )
    return "\n".join(lines)


def _write_csv(chosen: list[Preset]) -> None:
    """Print presets as comma-separated values."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for preset in chosen:
        for row in preset.instructions:
            formats = [" ".join(map(str, side)) for side in (row.a, row.b, (row.c,), (row.out,), row.k)]
            scales = "" if row.scales is None else f"{row.scales[0]} per {row.scales[1]}"
            start = [preset.name, " ".join(preset.aliases), row.name]
            writer.writerow([*start, *formats, scales, repr(row.model), row.evidence, row.source, row.note])
