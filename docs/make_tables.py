"""Write the tables of the documentation from the package itself: formats, values, what becomes of specials."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np

import lowprec as lp

HERE = Path(__file__).resolve().parent
COLUMNS = {
    "NaN": "NaN",
    "inf": "+inf",
    "-inf": "-inf",
    "above": "above max",
    "below": "below -max",
    "-0": "-0",
    "-tiny": "rounds to -0",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def number(value: float) -> str:
    """Write a value exactly if that is short, else as a multiple of a power of two."""
    if math.isnan(value) or math.isinf(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}inf"
    if len(text := repr(abs(value)).removesuffix(".0")) <= 10 and "e" not in text:
        return f"{'-' if math.copysign(1, value) < 0 else ''}{text}"
    exact = Fraction(value)
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    if Fraction(abs(value)) < Fraction(2) ** power:
        power -= 1
    significand = exact / Fraction(2) ** power
    shown = f"{significand.numerator}/{significand.denominator}" if significand.denominator > 1 else str(significand)
    if significand.denominator > 512:  # of the wide formats: 2 - 2**-23 and its like
        rest = 2 - abs(significand)
        shown = f"{'-' if value < 0 else ''}(2 - 2^-{rest.denominator.bit_length() - 1})"
    return f"{shown} * 2^{power}" if shown not in ("1", "-1") else f"{shown[:-1]}2^{power}"


def code(value: int | None, bits: int) -> str:
    return "none" if value is None else f"`0x{value:0{-(-bits // 4)}x}`"


def formats_table() -> str:
    """Return one row per format."""
    rows = []
    for fmt in lp.formats():
        floating = isinstance(fmt, lp.FloatFormat)
        rows.append(
            [
                f"`{fmt.name}`",
                ", ".join(f"`{alias}`" for alias in fmt.aliases),
                str(fmt.bits),
                f"{fmt.exponent_bits}, {fmt.mantissa_bits}" if floating else "",
                str(fmt.bias) if floating else "",
                number(fmt.max),
                number(fmt.smallest_normal) if floating else "",
                number(fmt.smallest_subnormal),
                code(fmt.inf_code, fmt.bits),
                code(fmt.nan_code, fmt.bits),
                str(fmt.num_values),
                fmt.default_overflow,
            ]
        )
    head = ["name", "aliases", "bits", "exponent, mantissa", "bias", "max", "smallest normal", "smallest"]
    return table([*head, "inf code", "NaN code", "values", "overflow"], rows)


def block_formats_table() -> str:
    """Return one row per block format."""
    rows = [
        [
            f"`{row.name}`",
            row.element.name,
            str(row.block_size),
            row.scale.name + ", and float32 per tensor" * row.two_level + ", and a minimum" * row.offset,
            "GGML's" if row.ggml else row.scale_rule,
            f"{row.bits:g}",
            row.source,
        ]
        for row in lp.block_formats()
    ]
    return table(["name", "elements", "block", "scale", "scale rule", "bits per element", "source"], rows)


def sources_list() -> str:
    """Return where each format is defined."""
    return "".join(f"- `{fmt.name}`: {fmt.source}\n" for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat))


def values_tables() -> str:
    """Return all values of every float format up to 8 bits, codes row by row."""
    parts = []
    for fmt in lp.formats():
        if fmt.bits > 8 or not isinstance(fmt, lp.FloatFormat):
            continue
        wide = min(16, 1 << (fmt.bits // 2))
        values = [number(float(v)) for v in lp.decode(np.arange(1 << fmt.bits, dtype=np.uint8), fmt, dtype=np.float64)]
        digits = -(-fmt.bits // 4)
        rows = [[f"`0x{i:0{digits}x}`", *values[i : i + wide]] for i in range(0, len(values), wide)]
        head = ["code", *(f"+{i:x}" for i in range(wide))]
        parts.append(f"### {fmt.name}\n\n{table(head, rows)}\n")
    return "\n".join(parts)


def conversions_script() -> object:
    """Import scripts/measure_conversions.py, which names cases and results."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("conversions", HERE.parent / "scripts" / "measure_conversions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def specials_table() -> str:
    """Return what every format makes of special sources under every policy, beside what other software does."""
    conversions = conversions_script()
    peers = json.loads((HERE / "conversions.json").read_text(encoding="utf-8"))
    rows = []
    for fmt in lp.formats():
        if not isinstance(fmt, lp.FloatFormat) or fmt.bits > 19:
            continue
        for policy in ("inf", "nan", "saturate"):
            if (policy == "inf" and not fmt.has_inf) or (policy == "nan" and not fmt.has_nan):
                continue

            def convert(x: np.ndarray, name: str, policy: str = policy) -> np.ndarray:
                return lp.round_to(x, name, overflow=policy)

            told = conversions.answers(convert, fmt.name)
            first = not any(row[0] == f"`{fmt.name}`" for row in rows)
            default = " (default)" if policy == fmt.default_overflow else ""
            rows.append(
                [f"`{fmt.name}`" if first else "", f'lowprec, `overflow="{policy}"`{default}', *map(told.get, COLUMNS)]
            )
        for peer, answers in peers.items():
            for policy, told_by_format in answers.items():
                if policy != "version" and fmt.name in told_by_format:
                    how = f"{peer}, `{policy}`" if policy else peer
                    rows.append(["", how, *(told_by_format[fmt.name][case] for case in COLUMNS)])
    versions = ", ".join(f"{peer} {answers['version']}" for peer, answers in peers.items())
    return table(["format", "who", *COLUMNS.values()], rows) + f"\nAsked: {versions}.\n"


def overflow_table() -> str:
    """Return what each rounding mode makes of values beyond the largest, in a format that has all policies."""
    fmt = lp.format("float8_e5m2")
    x = np.array([2 * fmt.max, -2 * fmt.max, math.inf, -math.inf])
    rows = []
    for mode in lp.Rounding:
        for policy in lp.Overflow:
            rng = 0 if mode == lp.Rounding.STOCHASTIC else None
            values = lp.round_to(x, fmt, rounding=mode, overflow=policy, rng=rng)
            words = [result_word(float(v), fmt.max) for v in values]
            rows.append([f"`{mode}`", f"`{policy}`", *words])
    return table(["rounding", "overflow", "above max", "below -max", "+inf", "-inf"], rows)


def result_word(value: float, largest: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("-" if value < 0 else "") + {math.inf: "inf", largest: "max"}[abs(value)]


def modes_list() -> str:
    """Return the docstring of every member of the policies."""
    parts = []
    for policy in (lp.Rounding, lp.Overflow, lp.Subnormals):
        summary = policy.__doc__.split("\n\n")
        parts.append(f"### {policy.__name__.lower()}\n\n" + "\n\n".join(" ".join(p.split()) for p in summary) + "\n")
        parts += [f"`{member.value}`\n: {member.__doc__}\n" for member in policy]
    return "\n".join(parts)


def hardware_tables() -> str:
    """Return the rows of every hardware preset, and their notes."""
    from lowprec._instructions import CELLS, cells

    parts = []
    for preset in lp.presets():
        rows = []
        for row in preset.instructions:
            operands, result, sizes, model, evidence = cells(row)
            rows.append([f"`{row.name}`", operands, result, sizes, f"`{model}`", evidence])
        names = ", ".join(f"`{name}`" for name in preset.aliases)
        aliases = f"Aliases: {names}. " if names else ""
        lines = [f"### {preset.name}", f"{preset.title}. {aliases}Evidence: {preset.evidence}."]
        lines.append(table(["instruction", *CELLS], rows))
        notes: dict[str, list[str]] = {}
        for row in preset.instructions:
            if row.note and f"`{row.name}`" not in notes.setdefault(row.note, []):
                notes[row.note].append(f"`{row.name}`")
        lines += [f"- {', '.join(names)}: {note}" for note, names in notes.items()]
        parts.append("\n\n".join(lines[:3]) + "\n" + "\n".join(lines[3:]) + "\n")
    return "\n".join(parts)


def hardware_sources() -> str:
    """Return which source speaks of which preset."""
    sources: dict[str, list[str]] = {}
    for preset in lp.presets():
        for source in preset.source.split("; "):
            sources.setdefault(source, []).append(f"`{preset.name}`")
    return "".join(f"- {source}: {', '.join(names)}\n" for source, names in sources.items())


def models_list() -> str:
    """Return what every model says of itself, and which presets it is for."""
    from lowprec import accumulators

    bases = (accumulators.Accumulator, accumulators.Hardware)
    found = (each for each in vars(accumulators).values() if isinstance(each, type) and issubclass(each, bases[0]))
    parts = []
    for kind in (each for each in found if each not in bases):
        doc = inspect.cleandoc(kind.__doc__).replace("``", "`")
        said = re.split(r"\n\n(\w+)\n-+\n", doc)
        notes = dict(zip(said[1::2], said[2::2], strict=True)).get("Notes", "")
        told = re.sub(r"(\n\n)?::\n\n((?:    .*\n?|\n(?=    ))+)", formula, said[0])
        users = [f"`{p.name}`" for p in lp.presets() if any(type(row.model) is kind for row in p.instructions)]
        used = f"Presets: {', '.join(users)}." if users else ""
        parts.append("\n\n".join(part for part in (f"### {kind.__name__}", told.strip(), notes, used) if part) + "\n")
    return "\n".join(parts)


def formula(block: re.Match[str]) -> str:
    """Return a literal block of a docstring, with the colons before it, as Markdown."""
    return f"{'' if block[1] else ':'}\n\n```text\n{inspect.cleandoc(chr(10) + block[2])}\n```\n"


def command(*words: str) -> str:
    """Return what the command prints."""
    from lowprec.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main(list(words))
    return f"$ lowprec {' '.join(words)}\n{said.getvalue()}"


def write(folder: Path) -> None:
    """Write every table below ``folder``."""
    folder.mkdir(exist_ok=True)
    files = {
        "formats.md": formats_table(),
        "block_formats.md": block_formats_table(),
        "sources.md": sources_list(),
        "values.md": values_tables(),
        "specials.md": specials_table(),
        "overflow.md": overflow_table(),
        "modes.md": modes_list(),
        "hardware.md": hardware_tables(),
        "hardware_sources.md": hardware_sources(),
        "models.md": models_list(),
        "formats.txt": command("formats"),
        "value.txt": command("value", "0.1"),
        "hardware.txt": command("hardware", "zen5"),
        "blocks.txt": command("blocks", "--size", "256"),
        "sparsity.txt": command("sparsity", "--size", "128"),
        "cost.txt": command("cost", "bf16", "e4m3fn", "e4m3fn/exact", "int8", "mxfp4"),
        "pareto.txt": command("pareto", "--formats", "bf16", "e4m3fn", "int8", "mxfp4", "--size", "128"),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(HERE / "generated")
