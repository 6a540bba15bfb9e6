"""Synthesise every unit in the list below, compare with an earlier study, and keep the result in the package.

    python scripts/synthesise.py                    print the table of stored gates
    python scripts/synthesise.py --page             and write it into docs/rtl.md
    python scripts/synthesise.py --update           synthesise all of them anew and store the result (minutes)
    python scripts/synthesise.py --update --only 'mac_int.*'    some of them; the others stay as they are
    python scripts/synthesise.py --check            compare every mapped netlist with the emulation, bit for bit
    python scripts/synthesise.py --icarus           the same of the Verilog itself, by Icarus Verilog

The study is `facts/cost_synthesised.csv` in the folder that the variable LOWPREC_SHARED names, read by --update: yosys
0.23, other Verilog, the smaller of two flows. Needs the extra `rtl`.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lowprec import _text_tables as tables
from lowprec import rtl
from lowprec.rtl._stored import FILE, Stored, arguments, keywords

TIMEOUT = 600.0
PAGE = Path(__file__).resolve().parents[1] / "docs" / "rtl.md"


def row(unit: str, fmt: object, accumulator: str = "", study: str = "", **others: object) -> Stored:
    """Return a row that is yet to be synthesised."""
    words = {name: str(others.pop(name, "")) for name in ("kind", "lanes", "to", "rounding", "subnormals", "k")}
    if others:
        raise TypeError(others)
    blank = Stored(
        "",
        unit,
        str(fmt),
        accumulator,
        **words,
        study=study,
        study_ge=math.nan,
        ge=0,
        ge_default=0,
        cells=0,
        seconds=0,
        version="",
    )
    return blank._replace(name=rtl.emit(*arguments(blank), **keywords(blank)).name)


def multipliers() -> Iterator[Stored]:
    study = {"grid": "seed", "array": "array", "dadda": "dadda", "operator": "star"}
    for n in (2, 3, 4, 5, 6, 8, 11, 12, 16, 24):
        for kind in ("grid", "array", "dadda", "booth", "operator"):
            yield row("multiplier", n, study=f"mul_{study[kind]}_{n}" if kind in study else "", kind=kind)
    for n in (4, 8, 16):
        for kind in ("dadda", "booth", "operator"):
            yield row("multiplier", f"int{n}", study=f"mul_sstar_{n}" if kind == "operator" else "", kind=kind)


def integers() -> Iterator[Stored]:
    for n in (8, 16, 24, 32):
        yield row("adder", n, study=f"add_{n}")
    for n, bits in ((2, 16), (2, 32), (4, 16), (4, 24), (4, 32), (8, 24), (8, 32), (16, 40), (16, 48)):
        yield row("mac", f"int{n}", f"int{bits}", f"intmac_{n}_acc{bits}")
    yield row("mac", "int4/int8", "int32", "intmac_w4a8_acc32")
    for fmt, accumulator in (("int8", "int16_saturate"), ("uint8/int8", "int32"), ("int4", "int16_saturate")):
        yield row("mac", fmt, accumulator)
    for fmt in ("int8", "int4"):
        yield row("mac", fmt, "int32", kind="booth")


def exact() -> Iterator[Stored]:
    for fmt, name in (("e4m3fn", "e4m3"), ("e5m2", "e5m2"), ("e3m2fn", "e3m2"), ("e2m3fn", "e2m3"), ("e2m1fn", "e2m1")):
        yield row("mac", fmt, "exact", f"kulisch_{name}")
    yield row("mac", "fp16", "exact", "kulisch_fp16")
    for fmt in ("e4m3fn", "e5m2", "e2m1fn"):
        yield row("readout", fmt, to="fp32")
        yield row("readout", fmt, to="bf16")


def floats() -> Iterator[Stored]:
    short = {"e4m3": "e4m3", "e5m2": "e5m2", "e3m2": "e3m2fn", "e2m3": "e2m3fn", "e2m1": "e2m1fn"}
    for name in ("fp32", "tf32", "fp16", "bf16", *short):
        yield row("mac", short.get(name, name), "fp32", f"fpmac_{name}_ftz")
        yield row("mac", short.get(name, name), "fp32", f"fpmac_{name}_ieee", subnormals="keep")
        yield row("mac", short.get(name, name), "fp32", f"fpmac_{name}_ftztr", rounding="toward_zero")
    for name in ("e4m3", "e5m2", "e2m1"):
        for accumulator in ("fp16", "bf16"):
            yield row("mac", short[name], accumulator, f"fpmac_{name}_acc{accumulator}_ftz")
    for name in ("bf16", "fp16"):
        yield row("mac", name, name, f"fpmac_{name}_acc{name}_ftz")
    for name in ("fp32", "tf32", "fp16", "bf16"):
        for subnormals, word in (("flush", "ftz"), ("keep", "ieee")):
            yield row("add", name, study=f"fpadd_{name}_{word}", subnormals=subnormals)
            yield row("multiply", name, study=f"fpmul_{name}_{word}", subnormals=subnormals)
    for name in ("tf32", "fp16", "bf16", *short):
        yield row("cast", "fp32", study=f"cast_{name}", to=short.get(name, name))


def dots() -> Iterator[Stored]:
    short = {"e4m3": "e4m3", "e5m2": "e5m2", "e2m1": "e2m1fn"}
    for name in ("fp16", "bf16", *short):
        yield row("dot", short.get(name, name), "fp32", f"fpdot_{name}x4", lanes=4, subnormals="flush")
    for name in ("e4m3", "e2m1"):
        yield row("dot", short[name], "fp32", f"fpdot_{name}x16", lanes=16, subnormals="flush")
    for block, name, lanes in (("mxfp4", "mxfp4", 16), ("mxfp4", "mxfp4", 32), ("mxfp6_e2m3", "mxfp6e2m3", 16)):
        yield row("dot", block, "fp32", f"{name}x{lanes}", lanes=lanes, rounding="toward_zero")
    yield row("dot", "mxint8", "fp32", "mxint8x16", lanes=16, rounding="toward_zero")


def designs() -> list[Stored]:
    """Return every row, in the order of the table."""
    return [*multipliers(), *integers(), *exact(), *floats(), *dots()]


def synthesised(blank: Stored) -> Stored:
    """Synthesise one."""
    design, found = blank.emit(), {}
    for flow in ("noalumacc", "default"):
        try:
            found[flow] = rtl.synth(design, flow=flow, timeout=TIMEOUT)
        except TimeoutError as error:
            print(error, file=sys.stderr)
            if flow == "noalumacc":
                raise
    plain = found["noalumacc"]
    print(f"{design.name}: {plain.ge:.1f} GE", file=sys.stderr, flush=True)
    return blank._replace(
        ge=round(plain.ge, 2),
        ge_default=round(found["default"].ge, 2) if "default" in found else math.nan,
        cells=plain.cells,
        seconds=round(plain.seconds, 1),
        version=plain.version,
    )


def study() -> dict[str, float]:
    """Return the study's gate equivalents by name, nothing where it is not at hand."""
    path = Path(os.environ.get("LOWPREC_SHARED", "")) / "facts" / "cost_synthesised.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {line["design"]: float(line["ge_synth"]) for line in csv.DictReader(file)}


def smaller(one: Stored) -> float:
    """Return the gates of the smaller flow, which is what the study has."""
    return one.ge if math.isnan(one.ge_default) else min(one.ge, one.ge_default)


def lines(rows: list[Stored]) -> list[list[str]]:
    """Return what is printed of each row: gates by both flows, and the ratio of the smaller to the study's."""

    def number(x: float) -> str:
        return "" if math.isnan(x) else f"{x:.1f}"

    return [
        [one.name, number(one.ge), number(one.ge_default), str(one.cells), number(one.seconds), number(one.study_ge),
         "" if math.isnan(one.study_ge) else f"{smaller(one) / one.study_ge:.3f}"]
        for one in rows
    ]  # fmt: skip


COLUMNS = ("<design", "GE", "GE, default flow", "cells", "s", "GE, study", "ratio")


def notes(rows: list[Stored]) -> list[str]:
    """Return what follows the table: versions, and how far the study is."""
    ratios = sorted(smaller(one) / one.study_ge for one in rows if not math.isnan(one.study_ge))
    said = [f"pyosys {', '.join(sorted({one.version for one in rows}))}; areas without wires or timing."]
    if ratios:
        middle = statistics.median(ratios)
        near = sum(abs(ratio - 1) <= 0.05 for ratio in ratios)
        said.append(
            f"{len(ratios)} units are in the study too: the median of the ratios is {middle:.3f}, the range "
            f"{ratios[0]:.3f} to {ratios[-1]:.3f}, and {near} are within 5 percent."
        )
    return said


def page_table(rows: list[Stored]) -> str:
    """Return the table of the page."""
    heads = [column.removeprefix("<") for column in COLUMNS]
    rule = ["---" if column.startswith("<") else "---:" for column in COLUMNS]
    cells = [[f"`{line[0]}`", *line[1:]] for line in lines(rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *cells])
    return f"{text}\n\n{' '.join(notes(rows))}\n"


def write_page(text: str, rows: list[Stored]) -> str:
    """Return the page with the table between its marks."""
    return re.sub(
        r"(<!-- table[^>]*-->\n).*?(<!-- end of table -->)", rf"\1\n{page_table(rows)}\n\2", text, flags=re.DOTALL
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="synthesise and store")
    parser.add_argument("--page", action="store_true", help="write the table into docs/rtl.md")
    parser.add_argument("--check", action="store_true", help="compare netlists with the emulation")
    parser.add_argument("--icarus", action="store_true", help="compare the Verilog with the emulation")
    parser.add_argument("--only", default="", help="designs whose names match this regular expression")
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    stored = {one.name: one for one in rtl.stored()} if FILE.exists() else {}
    rows = designs()
    asked = [one for one in rows if re.fullmatch(given.only or ".*", one.name)]
    if given.update:
        with ThreadPoolExecutor(given.jobs) as pool:
            stored |= {one.name: one for one in pool.map(synthesised, asked)}
        known = study()
        kept = [stored[one.name] for one in rows if one.name in stored]
        if known:
            kept = [one._replace(study_ge=known.get(one.study, math.nan)) for one in kept]
        stored = {one.name: one for one in kept}
        with FILE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Stored._fields)
            writer.writerows(kept)
    wrong = 0
    if given.check or given.icarus:
        for one in asked:
            report = rtl.check(one.emit(), vectors=given.vectors, icarus=given.icarus)
            wrong += not report.ok
            print(report, flush=True)
    if given.page:
        kept = [stored[one.name] for one in rows if one.name in stored]
        PAGE.write_text(write_page(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")
    shown = [stored[one.name] for one in asked if one.name in stored]
    print(tables.plain(tables.Table(COLUMNS, lines(shown), notes=notes(shown))))
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
