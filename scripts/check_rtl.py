"""Compare gates of floating-point units with the emulation: all formats, accumulators, roundings and subnormals.

    python scripts/check_rtl.py                       all of them (hours on two cores)
    python scripts/check_rtl.py --sample 400          that many, drawn; --seed draws others
    python scripts/check_rtl.py --only cast           one kind of unit: mac, multiply, add, cast, dot, block

Every unit is synthesised, and its mapped netlist simulated in NumPy: all inputs where these are at most 2**17, all
pairs of a and b up to 16 bits, else --vectors drawn at corners. Prints a line per kind of unit; an exit status of 1
says that something differed. Needs the extra `rtl`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import lowprec as lp
from lowprec import rtl

FLOATS = [fmt.name for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat) and fmt.precision <= 24]
SIGNED = [name for name in FLOATS if name != "float8_e8m0fnu"]
NAN = [name for name in SIGNED if lp.format(name).has_nan]
ROUNDINGS = [str(mode) for mode in lp.Rounding if mode != "stochastic"]
SUBNORMALS = ("flush", "keep")
BLOCKS = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4")
Unit = tuple[str, tuple[Any, ...], dict[str, Any]]


def units() -> Iterator[Unit]:
    """Return every unit as what it is called and the arguments of `emit`."""
    both = [{"rounding": r, "subnormals": s} for r, s in itertools.product(ROUNDINGS, SUBNORMALS)]
    for a, b, how in itertools.product(FLOATS, FLOATS, both):
        for accumulator in NAN:
            if a <= b:
                yield "mac", ((a, b), accumulator), how
                yield "multiply", ((a, b), accumulator), how | {"unit": "multiply"}
        yield "cast", (a,), how | {"unit": "cast", "to": b}
    for a, how in itertools.product(SIGNED, both):
        yield "add", (a,), how | {"unit": "add"}
    for a, bits, rounding in itertools.product(FLOATS, (1, 4, 9), SUBNORMALS):
        yield "mac, stochastic", (a, lp.Sequential("bf16", "stochastic", random_bits=bits, subnormals=rounding)), {}
    for a, out, s, r in itertools.product(
        FLOATS, ("fp32", "bf16", "fp16"), SUBNORMALS, ("toward_zero", "nearest_even")
    ):
        for length, cut in ((1, 9), (2, 13), (4, 24)):
            yield "dot", (a, lp.FusedTruncated(length, cut, out, r)), {"unit": "dot", "subnormals": s}
    for a, accumulator, how in itertools.product(BLOCKS, ("fp32", "bf16", "fp16"), both):
        yield "block", (a, accumulator), how | {"unit": "dot", "lanes": 3}


def checked(unit: Unit, vectors: int) -> tuple[str, int, int, str]:
    """Return the kind, vectors, mismatches, and what is to be said of them."""
    kind, arguments, others = unit
    design = rtl.emit(*arguments, **others)
    count = min(vectors, 2_000) if kind in ("block", "mac, stochastic") else vectors
    mapped = rtl.synth(design, timeout=600)
    if kind in ("block", "mac, stochastic"):  # their emulation goes one number at a time
        inputs = design.vectors(np.random.default_rng(0), count, {})
        wrong = int((rtl.simulate(mapped, inputs)["y"] != design.expected(inputs)["y"]).sum())
        return kind, count, wrong, design.name
    report = rtl.check(design, mapped, vectors=count)
    return kind, report.vectors, report.mismatches, str(report)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, help="how many units, drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of unit that begin with this")
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    given = parser.parse_args()
    by_kind: dict[str, list[Unit]] = defaultdict(list)
    for unit in units():
        if unit[0].startswith(given.only):
            by_kind[unit[0]].append(unit)
    chosen = [unit for found in by_kind.values() for unit in found]
    if given.sample:
        draw = random.Random(given.seed)
        share = max(1, given.sample // len(by_kind))
        chosen = [unit for found in by_kind.values() for unit in draw.sample(found, min(share, len(found)))]
        draw.shuffle(chosen)
    start, end = time.monotonic(), time.monotonic() + 60 * given.minutes
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])

    def one(unit: Unit) -> tuple[str, int, int, str] | None:
        return checked(unit, given.vectors) if time.monotonic() < end else None

    with ThreadPoolExecutor(given.jobs) as pool:
        for answer in pool.map(one, chosen):
            if answer is None:
                continue
            kind, vectors, wrong, said = answer
            totals[kind] = [x + y for x, y in zip(totals[kind], (1, vectors, wrong), strict=True)]
            if wrong:
                print(said, flush=True)
    print("| unit | there are | checked | vectors | mismatches |\n| --- | ---: | ---: | ---: | ---: |")
    for kind, found in by_kind.items():
        designs, vectors, wrong = totals[kind]
        print(f"| {kind} | {len(found):,} | {designs:,} | {vectors:,} | {wrong} |")
    print(f"\n{time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(any(wrong for _, _, wrong in totals.values()))


if __name__ == "__main__":
    sys.exit(main())
