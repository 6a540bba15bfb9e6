"""What a row of the table of hardware presets is, what a preset is, and how a row is chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np

from lowprec.accumulators import Accumulator
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as resolve

Evidence = Literal["silicon", "upstream-silicon", "emulator", "vendor-text", "conjecture"]
EVIDENCE: tuple[str, ...] = get_args(Evidence)  # strongest first


class ApproximationWarning(UserWarning):
    """The arithmetic of the hardware is not public; what is computed is an approximation.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import warnings, lowprec as lp
    >>> warnings.simplefilter("ignore", lp.ApproximationWarning)
    """


@dataclass(frozen=True, repr=False)
class Instruction:
    """One row of the table: an instruction, or a family of them with the same arithmetic.

    Parameters
    ----------
    name : str
        As the vendor writes it. M, N and K stand for sizes, A and B for the words of the operand formats.
    a, b : tuple of FloatFormat and IntFormat
        Formats that each operand may have, in any combination.
    c, out : FloatFormat or IntFormat
        Formats of the addend and of the result.
    k : tuple of int
        Products per instruction: the K of its shapes. Longer sums chain, ``out`` of one being ``c`` of the next.
    model : Accumulator
        What the instruction computes.
    evidence : {"silicon", "upstream-silicon", "emulator", "vendor-text", "conjecture"}
        How well the model is known: checked against recorded results of the hardware; by the authors of a simulator
        on the hardware, and here against the simulator; against an emulator; the vendor's text alone; a guess.
    source : str
        Who says so.
    scale_format : FloatFormat, optional
        Format of block scales, for instructions that take them.
    scale_block : int, optional
        Elements along K that share a scale.
    note : str
        What else to know.
    approximate : bool
        Whether the model is known to be only near what the hardware does.

    Raises
    ------
    ValueError
        If `evidence` is none of the grades.

    Examples
    --------
    >>> import lowprec as lp
    >>> row = lp.preset("nvidia-hopper").instruction("bf16")
    >>> row.name, row.k, row.evidence
    ('wgmma.m64nNk16.f32.bf16.bf16', (16,), 'silicon')
    >>> row.model
    FusedTruncated(length=16, fraction_bits=25)
    """

    name: str
    a: tuple[Format, ...]
    b: tuple[Format, ...]
    c: Format
    out: Format
    k: tuple[int, ...]
    model: Accumulator
    evidence: Evidence
    source: str
    scale_format: FloatFormat | None = None
    scale_block: int | None = None
    note: str = ""
    approximate: bool = False

    def __post_init__(self) -> None:
        """Check the grade."""
        if self.evidence not in EVIDENCE:
            msg = f"`evidence` must be one of {', '.join(EVIDENCE)}, got {self.evidence!r}."
            raise ValueError(msg)

    @property
    def scales(self) -> tuple[FloatFormat, int] | None:
        """Format of the block scales and elements per scale, or None."""
        return None if self.scale_format is None or self.scale_block is None else (self.scale_format, self.scale_block)

    @property
    def operands(self) -> str:
        """The operand formats, and the scales, in words."""
        return _operands(self, str)

    def takes(self, a: Format, b: Format) -> bool:
        """Say whether the operands may have these formats.

        Parameters
        ----------
        a, b : FloatFormat or IntFormat
            Formats of the operands.

        Returns
        -------
        bool
            The answer.

        Raises
        ------
        Nothing.
        """
        return a in self.a and b in self.b

    def __str__(self) -> str:
        """Say what the instruction does."""
        addend = "" if self.c == self.out else f" + {self.c}"
        return f"{self.name}, {self.operands}{addend} -> {self.out}, K = {_or(self.k)}: {self.model} [{self.evidence}]"

    def __repr__(self) -> str:
        """Return the row in short."""
        return f"Instruction({self.name!r}, {self.operands} -> {self.out}, {self.model!r}, {self.evidence!r})"


@dataclass(frozen=True, repr=False)
class Preset:
    """Hardware by name: its instructions, each with the model of its sum.

    Parameters
    ----------
    name : str
        The name that `accumulator=` takes.
    aliases : tuple of str
        Other names.
    vendor : str
        Who makes the hardware.
    title : str
        What it is.
    instructions : tuple of Instruction
        The rows. Where several fit, the first one is taken.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> hopper = lp.preset("h100")
    >>> hopper
    Preset('nvidia-hopper')
    >>> hopper.title, hopper.evidence
    ('NVIDIA Hopper (sm_90), wgmma', 'upstream-silicon')
    """

    name: str
    aliases: tuple[str, ...]
    vendor: str
    title: str
    instructions: tuple[Instruction, ...]

    @property
    def preset_name(self) -> str:
        """The name: by it models such as `Chunked` take a preset."""
        return self.name

    @property
    def evidence(self) -> str:
        """The weakest grade of the rows; integer sums, exact by definition, count only where there is nothing else."""
        floating = [row.evidence for row in self.instructions if isinstance(row.out, FloatFormat)]
        return max(floating or [row.evidence for row in self.instructions], key=EVIDENCE.index)

    @property
    def source(self) -> str:
        """The sources of all rows, each once."""
        return "; ".join(dict.fromkeys(part for row in self.instructions for part in row.source.split("; ")))

    @property
    def approximate(self) -> bool:
        """Whether any row is known to be only near what the hardware does."""
        return any(row.approximate for row in self.instructions)

    def instruction(
        self, dtype: Any, *, c: Any = None, out_dtype: Any = None, scales: Any = None, k: int | None = None
    ) -> Instruction:
        """Return the row that a product with this preset takes.

        Parameters
        ----------
        dtype : str, format or dtype, or a pair of them
            Formats of the operands; ``"tf32"`` for tf32 and xf32.
        c : str, format or dtype, optional
            Format of the addend.
        out_dtype : str, format or dtype, optional
            Format of the result: ``"fp16"`` is the instruction that accumulates in float16.
        scales : tuple, optional
            Format of the block scales and elements per scale, ``("e8m0fnu", 32)``, where operands have them.
        k : int, optional
            The K of the instruction, where shapes differ in what they compute.

        Returns
        -------
        Instruction
            Of the rows that take the operands: the first whose result is `out_dtype`, else the first whose result is
            float32 (the result is then rounded to `out_dtype`), else the first. A row whose addend has a format of
            its own is taken only for a `c` of that format.

        Raises
        ------
        TypeError
            If an argument names no format.
        ValueError
            If no row takes the operands; the message lists the rows.

        Examples
        --------
        >>> import lowprec as lp
        >>> ampere = lp.preset("a100")
        >>> ampere.instruction("fp16").out.name, ampere.instruction("fp16", out_dtype="fp16").out.name
        ('float32', 'float16')
        >>> lp.preset("v100").instruction("bf16")
        Traceback (most recent call last):
        ...
        ValueError: `dtype` must be one of the operand formats of nvidia-volta (float16 x float16 -> float32 or
        float16), got bfloat16 x bfloat16.
        """
        pair = tuple(dtype) if isinstance(dtype, (tuple, list)) else (dtype, dtype)
        if len(pair) != 2:
            msg = f"`dtype` must be a format, or a pair of them (for a, for b), got {len(pair)}."
            raise ValueError(msg)
        a, b = (_format(each, "dtype") for each in pair)
        addend, out = _format(c, "c", none=True), _format(out_dtype, "out_dtype", none=True)
        return choose(self, a, b, addend, out, _scales(scales), k)

    def __str__(self) -> str:
        """Return title and rows as text."""
        rows = [[row.name, *cells(row)] for row in self.instructions]
        return "\n".join(
            [f"{self.title}: {', '.join([self.name, *self.aliases])}", *_columns([["instruction", *CELLS], *rows])]
        )

    def __repr__(self) -> str:
        """Return the name."""
        return f"Preset({self.name!r})"


class PresetTable(tuple[Preset, ...]):
    """A tuple of presets that prints as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return one line per row of every preset."""
        rows = [[p.name if row is p.instructions[0] else "", *cells(row)] for p in self for row in p.instructions]
        return "\n".join(_columns([["preset", *CELLS], *rows]))


CELLS = ("operands", "result", "K", "model", "evidence")


def cells(row: Instruction) -> tuple[str, ...]:
    """Return a row of the table as short text, one cell for each of `CELLS`.

    Parameters
    ----------
    row : Instruction
        The row.

    Returns
    -------
    tuple of str
        The cells.

    Raises
    ------
    Nothing.
    """
    result = _short(row.out) if row.c == row.out else f"{_short(row.out)}, c {_short(row.c)}"
    model = re.sub(r"(?<=\()length=(\d+)(, )?(?:fraction_bits=)?", r"\1\2", repr(row.model))
    return _operands(row, _short), result, ", ".join(map(str, row.k)), model, row.evidence


def _short(fmt: Format) -> str:
    """Return the short name of a format."""
    return fmt.aliases[0] if fmt.aliases else fmt.name


def _operands(row: Instruction, spell: Callable[[Format], str]) -> str:
    """Say which operands a row takes."""
    a, b = ([spell(fmt) for fmt in side] for side in (row.a, row.b))
    words = f"any two of {', '.join(a)}" if a == b and len(a) > 1 else f"{'|'.join(a)} x {'|'.join(b)}"
    scales = "" if row.scales is None else f" with {spell(row.scales[0])} scales per {row.scales[1]}"
    return words + scales


def _columns(rows: list[list[str]]) -> list[str]:
    """Return rows as lines with aligned columns, the first one underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _or(numbers: Iterable[Any]) -> str:
    """Return ``8 or 16``."""
    return " or ".join(map(str, numbers))


def _scale_words(scales: tuple[FloatFormat, int] | None) -> str:
    """Say how operands are scaled."""
    return "" if scales is None else f" with {scales[0]} scales per {scales[1]}"


# ------------------------------------------------------------------------------------------------------ choosing a row


def _format(value: Any, name: str, *, none: bool = False) -> Any:
    """Return a format, also of integers beyond the table such as int16 and int32."""
    if value is None and none:
        return None
    word = value
    if isinstance(value, (np.dtype, type)) and np.dtype(value).kind in "iu":
        word = np.dtype(value).name
    if isinstance(word, str) and (wide := re.fullmatch(r"(u?)int(16|32)", word.strip().lower())):
        return IntFormat(bits=int(wide[2]), is_signed=not wide[1])
    try:
        return resolve(value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", f"`{name}`", 1)) from None


def _scales(value: Any) -> tuple[FloatFormat, int] | None:
    """Return the format and the block length of block scales."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[1], (int, np.integer)):
        msg = f"`scales` must be a pair such as ('e8m0fnu', 32): format, and elements per scale, got {value!r}."
        raise TypeError(msg)
    return _format(value[0], "scales"), int(value[1])


@lru_cache(maxsize=1024)
def choose(
    which: Preset,
    a: Format,
    b: Format,
    c: Format | None,
    out: Format | None,
    scales: tuple[FloatFormat, int] | None,
    k: int | None,
) -> Instruction:
    """Return the row that fits, or raise with the rows that there are."""
    rows = [row for row in which.instructions if row.takes(a, b) and row.scales == scales]
    if not rows:
        raise ValueError(_refusal(which, a, b, scales))
    if k is not None and not (fitting := [row for row in rows if k in row.k]):
        sizes = sorted({size for row in rows for size in row.k})
        msg = f"`k` must be a K of the instructions of {which.name} for {a} x {b}: {_or(sizes)}, got {k}."
        raise ValueError(msg)
    rows = rows if k is None else fitting
    if any(row.out == out for row in rows):
        rows = [row for row in rows if row.out == out]
    else:
        rows = [row for row in rows if row.out.name == "float32"] or rows
    own = [row for row in rows if row.c != row.out and row.c == c]
    return (own or [row for row in rows if row.c == row.out] or rows)[0]


def _refusal(which: Preset, a: Format, b: Format, scales: tuple[FloatFormat, int] | None) -> str:
    """Say which operands a preset takes, and what was meant perhaps."""
    results: dict[str, list[str]] = {}
    for row in which.instructions:
        outs = results.setdefault(row.operands, [])
        if str(row.out) not in outs:
            outs.append(str(row.out))
    rows = "; ".join(f"{operands} -> {_or(outs)}" for operands, outs in results.items())
    near = [
        str(fmt)
        for fmt in dict.fromkeys(fmt for row in which.instructions for fmt in (*row.a, *row.b))
        for got in (a, b)
        if fmt != got and isinstance(fmt, FloatFormat) and isinstance(got, FloatFormat)
        if (fmt.exponent_bits, fmt.mantissa_bits) == (got.exponent_bits, got.mantissa_bits)
    ]
    hint = f"; the format of that shape there is {_or(dict.fromkeys(near))}" if near else ""
    return (
        f"`dtype` must be one of the operand formats of {which.name} ({rows}), "
        f"got {a} x {b}{_scale_words(scales)}{hint}."
    )
