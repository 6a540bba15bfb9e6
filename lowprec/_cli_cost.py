"""The commands `lowprec cost` and `lowprec pareto`: what formats take in gates, and which are worth it."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp
from lowprec import _text_tables as tables
from lowprec._checks import Array
from lowprec.blocks import BlockFormat
from lowprec.cost._accuracy import METRICS
from lowprec.cost._candidates import Candidate, candidates_of, check_lanes
from lowprec.cost._pareto import pareto
from lowprec.cost._prices import COSTS, Pricing, in_units, unit_of
from lowprec.cost._result import Cost

_ACTIVATIONS = ("gaussian", "student-t", "outliers")
_MOST = 4096


def add(commands: Any) -> None:
    """Add both subcommands to the parsers of the command.

    Parameters
    ----------
    commands : argparse's subparsers
        Where to add them.

    Raises
    ------
    Nothing.
    """
    cost = commands.add_parser(
        "cost",
        help="what formats take in gates",
        description="Print what a multiply-accumulate unit of each format takes: the rule of thumb (M+1)^2, its "
        "multiplier, and all of it, in gate equivalents. A FORMAT may be followed by /ACCUMULATOR, as in e4m3fn/exact, "
        "and is one of w after @, as in int8@int4; block formats are priced as a lane of a dot unit.",
    )
    cost.add_argument("formats", nargs="*", metavar="FORMAT", help="default: a choice of twenty")
    cost.add_argument("--accumulator", nargs="+", metavar="ACC", help="of all formats, in place of their own")
    cost.add_argument("--relative-to", default="int8/int32", metavar="UNIT", help="default: %(default)s")
    cost.add_argument("--dot", action="store_true", help="all as a lane of a dot unit")
    cost.add_argument("--lanes", type=int, default=32, metavar="N", help="of dot units (default: %(default)s)")
    cost.add_argument("--k", type=int, default=1024, metavar="K", help="products per sum (default: %(default)s)")
    cost.add_argument("--parts", action="store_true", help="also print the parts of each unit")
    cost.add_argument("--csv", type=Path, metavar="FILE", help="also write the table there")
    cost.set_defaults(run=run_cost)

    front = commands.add_parser(
        "pareto",
        help="which formats are worth their cost",
        description="Compute a product in many formats, bit by bit, and print how accurate each is against what it "
        "costs; * marks those that no other beats. Without files the product is of numbers drawn here.",
    )
    front.add_argument(
        "files", nargs="*", type=Path, metavar="X.npy W.npy", help="x (tokens, inputs), w (outputs, inputs)"
    )
    front.add_argument(
        "--formats", nargs="+", metavar="FORMAT", help="as in `lowprec cost`; also 'int8 2:4', 'bf16 dot16'"
    )
    front.add_argument("--accumulators", nargs="+", metavar="ACC", help="each with every format")
    front.add_argument("--metric", default="snr_db", choices=list(METRICS), help="default: %(default)s")
    front.add_argument("--cost", default="ge", choices=list(COSTS), help="default: %(default)s")
    front.add_argument("--dot", action="store_true", help="all as a lane of a dot unit")
    front.add_argument("--lanes", type=int, default=32, metavar="N", help="of dot units (default: %(default)s)")
    front.add_argument("--scales", default="tensor", choices=["tensor", "row"], help="default: %(default)s")
    front.add_argument("--table", default="jouppi2021", help="of energies (default: %(default)s)")
    front.add_argument("--interpolate", action="store_true", help="energies that the table lacks")
    front.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[128, 1024, 128],
        metavar="N",
        help="one number, or tokens, inputs and outputs, of what is drawn (default: 128 1024 128)",
    )
    front.add_argument("--seed", type=int, default=0, metavar="S", help="of what is drawn (default: %(default)s)")
    front.add_argument(
        "--activations", default="gaussian", choices=_ACTIVATIONS, help="what x is drawn from (default: %(default)s)"
    )
    front.add_argument("--csv", type=Path, metavar="FILE", help="also write the records there")
    front.add_argument("--plot", type=Path, metavar="FILE", help="also draw them there")
    front.set_defaults(run=run_pareto)


# --------------------------------------------------------------------------------------------------------------- cost


def run_cost(options: argparse.Namespace) -> None:
    """Print what units take.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or a format has no cost model.
    OSError
        If the file cannot be written.
    """
    if options.k < 1:
        msg = f"`--k` must be 1 or more, got {options.k}."
        raise ValueError(msg)
    check_lanes(options.lanes)
    unit = "dot" if options.dot else None
    found = candidates_of(options.formats or None, options.accumulator)
    chosen = list({str(each): each for each in (in_units(one, unit, options.lanes) for one in found)}.values())
    pricing = Pricing("ge", options.k, (1, options.k), "tensor", "", False)
    for candidate in chosen:
        pricing.of(candidate)  # names the candidate that has no model
    base = unit_of(in_units(Candidate.parse(options.relative_to), None, options.lanes), options.k)
    costs = {candidate: unit_of(candidate, options.k) for candidate in chosen}
    records = [_record(candidate, cost, base, pricing, options) for candidate, cost in costs.items()]
    tables.show(_table(records, options))
    if options.parts:
        for cost in costs.values():
            print()
            cost.show()
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)


def _record(
    candidate: Candidate, cost: Cost, base: Cost, pricing: Pricing, options: argparse.Namespace
) -> dict[str, Any]:
    """Return one line of the table."""
    pair = candidate.multiplied
    multiplier = lp.cost.multiplier(pair[0] if pair[0] == pair[1] else pair, "array")
    ge, ratio = cost.per_lane, cost.rel(base)
    return {
        "unit": str(candidate),
        "bits": float(pricing.bits(candidate)),
        "rule": multiplier.rule,
        "multiplier_ge": float(multiplier.ge),
        "ge": float(ge),
        "ge_low": ge.low,
        "ge_high": ge.high,
        "kind": ge.kind,
        "relative": float(ratio),
        "relative_low": ratio.low,
        "relative_high": ratio.high,
        "exact_bits": _exact_bits(candidate, options.k),
    }


def _exact_bits(candidate: Candidate, k: int) -> int:
    """Return the bits of a sum that is exact: of a block where there are scales, else of K products."""
    if isinstance(candidate.x, BlockFormat):
        k = candidate.x.block_size
    return lp.cost.accumulator_bits(candidate.multiplied, k=k)


def _table(records: list[dict[str, Any]], options: argparse.Namespace) -> tables.Table:
    """Return the records as strings."""
    columns = ["<unit", "bits", "rule", "multiplier", "GE", "<range", f"rel. {options.relative_to}", "exact sum"]
    sparse = any(":" in record["unit"] for record in records)
    rows = [
        [
            record["unit"],
            f"{record['bits']:g}",
            str(record["rule"]),
            f"{record['multiplier_ge']:.4g}",
            f"{record['ge']:.4g}",
            f"{record['ge_low']:.4g} to {record['ge_high']:.4g}",
            f"{record['relative']:.3f}",
            str(record["exact_bits"]),
        ]
        for record in records
    ]
    notes = [
        "GE: gate equivalents of a product, its addition and the sum's register; dotN: of one lane of N with one sum.",
        "rule: (M+1)^2, full adders of a grid: right for multipliers, misleading for all around them. multiplier: GE.",
        f"exact sum: bits that hold any sum of {options.k} products, or of a block.",
        "bits: of a stored weight, with scales.",
        *(["Sparse: each such unit stands for more products of the dense matrices, 2:4 for twice as many."] * sparse),
    ]
    return tables.Table(columns, rows, "", notes, optional=["range"])


# ------------------------------------------------------------------------------------------------------------- pareto


def run_pareto(options: argparse.Namespace) -> None:
    """Print a Pareto set.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong, or a file does not hold a matrix.
    ImportError
        If matplotlib is asked for and missing.
    OSError
        If a file cannot be read or written.
    """
    if len(options.files) not in (0, 2):
        msg = f"`FILES` must be two, x and w, or none, got {len(options.files)}."
        raise ValueError(msg)
    x, w = map(_array, options.files) if options.files else _drawn(options)
    result = pareto(
        x,
        w,
        options.formats,
        options.metric,
        options.cost,
        accumulators=options.accumulators,
        unit="dot" if options.dot else None,
        lanes=options.lanes,
        scales=options.scales,
        table=options.table,
        interpolate=options.interpolate,
        progress=sys.stderr.isatty(),
    )
    result.show()
    if options.csv is not None:
        result.to_csv(options.csv)
    if options.plot is not None:
        result.plot(options.plot)


def _drawn(options: argparse.Namespace) -> tuple[Array, Array]:
    """Return numbers to try it on: w of normals, x of what was asked for."""
    sizes = options.size * 3 if len(options.size) == 1 else options.size
    if len(sizes) != 3 or not all(1 <= size <= _MOST for size in sizes):
        msg = (
            f"`--size` must be one number or three, tokens, inputs and outputs, from 1 to {_MOST}, got {options.size}."
        )
        raise ValueError(msg)
    if options.seed < 0:
        msg = f"`--seed` must be 0 or more, got {options.seed}."
        raise ValueError(msg)
    tokens, inputs, outputs = sizes
    rng = np.random.default_rng(options.seed)
    w = rng.standard_normal((outputs, inputs))
    if options.activations == "student-t":
        x = rng.standard_t(3, (tokens, inputs))
    else:
        x = rng.standard_normal((tokens, inputs))
        if options.activations == "outliers":  # a few channels that are much larger, as in language models
            x[:, rng.choice(inputs, max(1, inputs // 128), replace=False)] *= 30
    return x.astype(np.float32), w.astype(np.float32)


def _array(path: Path) -> Array:
    """Return the numbers of a .npy file."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"`FILES` must be .npy files of numbers, got {path}: {error}."
        raise ValueError(msg) from None
    if not isinstance(array, np.ndarray):
        msg = f"`FILES` must be .npy files of one array each, got {path}."
        raise ValueError(msg)
    return array
