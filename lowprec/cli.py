"""The command `lowprec`: formats, blocks, value, matmul, study, hardware, sparsity, cost, pareto."""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NoReturn

import lowprec as lp
from lowprec import _cli_blocks, _cli_cost, _cli_fetch, _cli_hardware, _cli_sparsity, _cli_study, reference
from lowprec import _text_tables as tables
from lowprec.formats import FloatFormat, Format
from lowprec.rounding import Overflow, Rounding

_EXPONENT_LIMIT = 5000
_SIZE_LIMIT = 16384
_INTERRUPTED = 130
_BROKEN_PIPE = 141


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, where the help is, and leave with 2."""
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the command's name; those of the process if not given.

    Returns
    -------
    int
        The exit status: 0; 2 if an argument is wrong or a package is missing; 130 after Ctrl-C; 141 if the reader
        of the output has gone.

    Raises
    ------
    SystemExit
        With 2 if an argument cannot be parsed, with 0 after ``--help`` and ``--version``.

    Examples
    --------
    >>> main(["value", "1/3", "--format", "bf16"])
    1/3, nearest_even
    format        value  code    sign exponent mantissa  relative error       ulp
    ------  -----------  ------  ----------------------  --------------  --------
    bf16    0.333984375  0x3eab  0 01111101 0101011           +1.95e-03  +0.33333
    ulp: the gap between neighbours at the number. Errors: (value - number) / |number|, (value - number) / ulp.
    0
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            options = _parser().parse_args(_guard_negative_numbers(words))
            status = _run(options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence_standard_output()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print("lowprec: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return status


def _run(options: argparse.Namespace) -> int:
    """Run the subcommand; a user's mistake becomes one line."""
    try:
        options.run(options)
    except BrokenPipeError:
        raise
    except (TypeError, ValueError, ImportError, OSError, MemoryError) as error:
        if options.traceback:
            raise
        print(
            f"lowprec {options.command}: error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr
        )
        return 2
    return 0


def _silence_standard_output() -> None:
    """Keep the interpreter from writing what is left in the buffer to a pipe that nobody reads."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guard_negative_numbers(words: list[str]) -> list[str]:
    """Put a space before ``-0.1``, ``-inf`` and the like, so that argparse takes them for numbers, not options."""
    number = re.compile(r"-(\.?\d|inf|nan)", re.IGNORECASE)
    return [f" {word}" if number.match(word) else word for word in words] if "value" in words else words


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = _Parser(prog="lowprec", description="Low-precision arithmetic, right to the last bit.")
    parser.add_argument("--version", action="version", version=f"lowprec {lp.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the program an error arose")
    names = "{formats,value,matmul,study,fetch,hardware,blocks,sparsity}"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)

    formats = commands.add_parser("formats", help="the table of formats", description="Print the table of formats.")
    formats.add_argument("--csv", action="store_true", help="print comma-separated values, numbers in full")
    formats.set_defaults(run=_formats)

    value = commands.add_parser(
        "value",
        help="how a number lands in every format",
        description="Round numbers once to every format. A number is a decimal of any length (0.1, 1e-3), "
        "a fraction (1/3), hexadecimal (0x1.8p3), inf or nan.",
    )
    value.add_argument("numbers", nargs="+", metavar="NUMBER")
    value.add_argument("--format", nargs="+", metavar="FORMAT", help="only these formats (default: all)")
    value.add_argument(
        "--rounding", default="nearest_even", choices=list(map(str, Rounding)), help="default: %(default)s"
    )
    value.add_argument("--overflow", choices=list(map(str, Overflow)), help="default: each format's own")
    value.add_argument("--seed", type=int, help="of the random bits of --rounding stochastic")
    value.set_defaults(run=_value)

    matmul = commands.add_parser(
        "matmul",
        help="time and error of one product",
        description="Time lowprec.matmul against np.matmul in float32, in turns, and say how far both are from exact.",
    )
    matmul.add_argument("--dtype", default="bf16", metavar="FORMAT", help="of the operands (default: %(default)s)")
    matmul.add_argument("--accumulator", help="as in lowprec.matmul (default: its own)")
    matmul.add_argument("--size", type=int, default=512, metavar="N", help="N x N by N x N (default: %(default)s)")
    matmul.add_argument("--repeat", type=int, default=15, metavar="R", help="runs of each (default: %(default)s)")
    matmul.set_defaults(run=_matmul)

    _cli_study.add(commands)
    _cli_hardware.add(commands)
    _cli_blocks.add(commands)
    _cli_sparsity.add(commands)
    _cli_cost.add(commands)
    _cli_fetch.add(commands)
    return parser


def _split(words: Sequence[str] | None) -> list[str] | None:
    """Allow ``a,b`` beside ``a b``."""
    return None if words is None else [part for word in words for part in word.split(",") if part]


def _label(fmt: Format) -> str:
    """Return the short name of a format."""
    return fmt.aliases[0] if fmt.aliases else fmt.name


# ------------------------------------------------------------------------------------------------------------ formats


def _formats(options: argparse.Namespace) -> None:
    """Print the table of formats."""
    facts = {
        "<format": [fmt.name for fmt in lp.formats()],
        "<aliases": [" ".join(fmt.aliases) for fmt in lp.formats()],
        "bits": [fmt.bits for fmt in lp.formats()],
        "exp": [fmt.exponent_bits if isinstance(fmt, FloatFormat) else None for fmt in lp.formats()],
        "man": [fmt.mantissa_bits if isinstance(fmt, FloatFormat) else None for fmt in lp.formats()],
        "bias": [fmt.bias if isinstance(fmt, FloatFormat) else None for fmt in lp.formats()],
        "max": [fmt.max for fmt in lp.formats()],
        "normal": [fmt.smallest_normal for fmt in lp.formats()],
        "subnormal": [fmt.smallest_subnormal for fmt in lp.formats()],
        "eps": [fmt.eps for fmt in lp.formats()],
        "<inf": ["yes" if fmt.has_inf else "no" for fmt in lp.formats()],
        "<nan": ["yes" if fmt.has_nan else "no" for fmt in lp.formats()],
        "<overflow": [fmt.default_overflow for fmt in lp.formats()],
    }
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([name.removeprefix("<") for name in facts])
        writer.writerows(zip(*facts.values(), strict=True))
        return
    rows = [[_short(cell) for cell in row] for row in zip(*facts.values(), strict=True)]
    notes = [
        "exp, man: bits of the exponent and mantissa fields. normal, subnormal: the smallest positive one.",
        "overflow: what a value beyond max becomes unless `overflow` says otherwise.",
    ]
    tables.show(tables.Table(list(facts), rows, "", notes, optional=["aliases", "bias", "eps", "inf", "nan"]))


def _short(cell: object) -> str:
    """Return a fact as text, a number in full where that is short, else with three digits."""
    if cell is None:
        return ""
    text = str(cell).removesuffix(".0")
    return f"{cell:.3g}" if isinstance(cell, float) and len(text) > 8 else text


# -------------------------------------------------------------------------------------------------------------- value


def _value(options: argparse.Namespace) -> None:
    """Print how numbers land in formats."""
    chosen = _split(options.format)
    fmts = lp.formats() if chosen is None else tuple(map(lp.format, chosen))
    word = None
    if options.rounding == Rounding.STOCHASTIC:
        if options.seed is None or not 0 <= options.seed < 2**64:
            msg = "`--seed` must be given with --rounding stochastic, from 0 to 2**64 - 1; for example --seed 0."
            raise ValueError(msg)
        word = reference.random_word(options.seed, 0)
    numbers = [(text.strip(), parse_number(text)) for text in options.numbers]
    columns = ["<format", "value", "<code", "<sign exponent mantissa", "relative error", "ulp"]
    notes = [
        "ulp: the gap between neighbours at the number. Errors: (value - number) / |number|, (value - number) / ulp."
    ]
    for text, number in numbers:
        rows = [_landing(number, fmt, options.rounding, options.overflow, word) for fmt in fmts]
        title = f"{_cut(text)}, {options.rounding}"
        tables.show(tables.Table(columns, rows, title, notes, optional=["code"]))


def _cut(text: str) -> str:
    """Return the start of a long text."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_number(text: str) -> float | Fraction:
    """Read a number exactly, whatever its length.

    Parameters
    ----------
    text : str
        A decimal (``"0.1"``, ``"-1e-3"``), a fraction of two decimals (``"1/3"``), a hexadecimal number
        (``"0x1.8p3"``), or ``"inf"``, ``"-inf"``, ``"nan"``.

    Returns
    -------
    float or Fraction
        A float for zeros, infinities and NaN, a fraction for all else.

    Raises
    ------
    ValueError
        If `text` is none of these, or not between 1e-5000 and 1e5000 in magnitude.

    Examples
    --------
    >>> parse_number("0.1"), parse_number("-0x1.8p3"), parse_number("-0")
    (Fraction(1, 10), Fraction(-12, 1), -0.0)
    """
    word = text.strip().lower()
    unsigned = word.lstrip("+-")
    if len(word) - len(unsigned) <= 1:
        sign = -1 if word.startswith("-") else 1
        if unsigned in ("inf", "infinity"):
            return sign * math.inf
        if unsigned == "nan":
            return math.nan
        top, slash, bottom = unsigned.partition("/")
        try:
            magnitude = _magnitude(top) / (_magnitude(bottom) if slash else 1)
        except ZeroDivisionError:
            msg = f"`number` must not be divided by zero, got {_cut(text.strip())!r}."
            raise ValueError(msg) from None
        except InvalidOperation:
            magnitude = None
        if magnitude is not None:
            return sign * magnitude if magnitude else sign * 0.0
    msg = f"`number` must be like 0.1, 1e-3, 1/3, 0x1.8p3, inf or nan, got {_cut(text.strip())!r}."
    raise ValueError(msg)


def _magnitude(word: str) -> Fraction:
    """Read an unsigned decimal or hexadecimal number."""
    if hexadecimal := re.fullmatch(r"0x([0-9a-f]*)(?:\.([0-9a-f]*))?(?:p([+-]?\d{1,9}))?", word):
        whole, part, exponent = (group or "" for group in hexadecimal.groups())
        if whole or part:
            power = int(exponent or 0) - 4 * len(part)
            _check_exponent((power + 4 * len(whole + part)) / math.log2(10), word)
            return Fraction(int(whole + part, 16)) * Fraction(2) ** power
    if not re.fullmatch(r"(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", word, re.ASCII):
        raise InvalidOperation
    number = Decimal(word)
    if number:
        _check_exponent(number.adjusted(), word)
    return Fraction(number) if number else Fraction(0)


def _check_exponent(exponent: float, word: str) -> None:
    """Refuse numbers that would take forever, and that every format takes for infinity or zero anyway."""
    if abs(exponent) > _EXPONENT_LIMIT:
        msg = f"`number` must be from 1e-{_EXPONENT_LIMIT} to 1e{_EXPONENT_LIMIT} in magnitude, got {_cut(word)!r}."
        raise ValueError(msg)


def _landing(number: float | Fraction, fmt: Format, rounding: str, overflow: str | None, word: int | None) -> list[str]:
    """Return the row of one number in one format."""
    if isinstance(number, float) and math.isnan(number) and not fmt.has_nan:
        return [_label(fmt), "no NaN", "", "", "", ""]
    if (overflow == Overflow.INF and not fmt.has_inf) or (overflow == Overflow.NAN and not fmt.has_nan):
        return [_label(fmt), f"no {overflow}", "", "", "", ""]
    code = reference.encode(number, fmt, rounding=rounding, overflow=overflow, word=word)
    value = reference.decode(code, fmt)
    bits = f"{code:0{fmt.bits}b}"
    fields = (int(getattr(fmt, "is_signed", True)), fmt.exponent_bits, fmt.bits)
    ends = [sum(fields[: i + 1]) for i in range(3)] if isinstance(fmt, FloatFormat) else [fmt.bits]
    parts = [bits[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    shown = " ".join(part for part in parts if part)
    return [
        _label(fmt),
        repr(value).removesuffix(".0"),
        f"0x{code:0{(fmt.bits + 3) // 4}x}",
        shown,
        *_errors(number, value, fmt),
    ]


def _errors(number: float | Fraction, value: float, fmt: Format) -> tuple[str, str]:
    """Return the relative error and the error in ulp, as text."""
    if number == value:
        return "0", "0"
    if not math.isfinite(value) or isinstance(number, float):
        return "", ""
    error = Fraction(value) - number
    ulp = Fraction(1)
    if isinstance(fmt, FloatFormat):
        top, bottom = abs(number).numerator, number.denominator
        exponent = top.bit_length() - bottom.bit_length()
        exponent -= abs(number) < Fraction(2) ** exponent
        ulp = Fraction(2) ** (max(exponent, fmt.emin) - fmt.mantissa_bits)
    return _number(error / abs(number), "+.2e"), _number(error / ulp, "+.5g")


def _number(ratio: Fraction, style: str) -> str:
    """Return a ratio as text, even where no float holds it."""
    try:
        return format(float(ratio), style)
    except OverflowError:
        return "> 1e308" if ratio > 0 else "< -1e308"


# ------------------------------------------------------------------------------------------------------------- matmul


def _matmul(options: argparse.Namespace) -> None:
    """Time one product against np.matmul, and print both errors."""
    import numpy as np

    for name, value, limit in (("size", options.size, _SIZE_LIMIT), ("repeat", options.repeat, 10**6)):
        if not 1 <= value <= limit:
            msg = f"`--{name}` must be from 1 to {limit}, got {value}."
            raise ValueError(msg)
    fmt = lp.format(options.dtype)
    n = options.size
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, n, n)).astype(np.float32)
    start = time.perf_counter()
    product = lp.matmul(a, b, fmt, accumulator=options.accumulator)
    first = time.perf_counter() - start
    single = np.matmul(a, b)
    ours, theirs = [], []
    for _ in range(options.repeat):
        start = time.perf_counter()
        lp.matmul(a, b, fmt, accumulator=options.accumulator)
        middle = time.perf_counter()
        np.matmul(a, b)
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    exact = a.astype(np.float64) @ b
    rounded = lp.round_to(a, fmt).astype(np.float64) @ lp.round_to(b, fmt)
    scale = np.abs(exact).max()
    rows = []
    for name, seconds, result, same in (
        ("lowprec", ours, product, rounded),
        ("np.matmul float32", theirs, single, exact),
    ):
        median = statistics.median(seconds)
        errors = (np.abs(result - target).max() / scale for target in (same, exact))
        rows.append(
            [
                name,
                f"{1e3 * median:.3f}",
                f"{1e3 * min(seconds):.3f}",
                f"{2 * n**3 / median / 1e9:.1f}",
                *(f"{error:.2e}" for error in errors),
            ]
        )
    ratio = statistics.median(theirs) / statistics.median(ours)
    tables.show(
        tables.Table(
            ["<product", "median/ms", "fastest/ms", "GFLOP/s", "error of sum", "error in all"],
            rows,
            f"{n} x {n} x {n}, float32 normals rounded to {fmt.name}, {options.repeat} runs each in turns",
            [
                f"lowprec is {ratio:.2f} times as fast as np.matmul ({lp.get_num_threads()} threads); its first call, "
                f"with what had to be compiled or loaded, took {first:.2f} s.",
                "Errors: the largest, relative to the largest element of the product; of the sum alone, against the "
                "rounded operands' product in float64; in all, against the unrounded operands' product.",
            ],
        )
    )


if __name__ == "__main__":
    sys.exit(main())
