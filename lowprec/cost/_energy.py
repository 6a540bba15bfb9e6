"""Energy of a product of matrices, from a table of published energies: multiplications, sums, accesses to memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec.codebooks import CodebookFormat
from lowprec.cost._figure import Figure, Kind
from lowprec.cost._lookup import Unit, accumulator_of
from lowprec.cost._operands import MatmulTraffic, matmul_traffic
from lowprec.cost._printed import Printed
from lowprec.cost._tables import Point, published, unknown, word_of

_ACCESS = {"pJ/64 bit": 64, "pJ/bit": 1}
_LEFT_OUT = (
    "Left out: instructions (lp.cost.table('dally2023')), registers and buffers between memory and multipliers, clock,",
    "leakage, decoding of weights stored in another format, and what the operands' own bits switch.",
)


@dataclass(frozen=True, eq=False, repr=False)
class Energy(Printed):
    """What a product of matrices takes, in picojoules.

    Parameters
    ----------
    traffic : MatmulTraffic
        Its products and its bytes.
    table : str
        Where the energies are from.
    multiply, accumulate : Figure
        Of one product and of one sum, in pJ.
    memory_level : str, optional
        The memory that each matrix crosses once.
    access : Figure, optional
        Of 64 bits of it, in pJ.

    Raises
    ------
    Nothing.
    """

    traffic: MatmulTraffic
    table: str
    multiply: Figure
    accumulate: Figure
    memory_level: str | None
    access: Figure | None

    @property
    def macs(self) -> int:
        """Products that are summed."""
        return self.traffic.macs

    @property
    def accesses(self) -> float:
        """Words of 64 bits that are read and written, each matrix once."""
        return self.traffic.bytes / 8

    @property
    def compute(self) -> Figure:
        """Of all multiplications and sums."""
        parts = self.multiply, self.accumulate
        return _sum([_times(part, self.macs) for part in parts], f"{self.macs} MACs, {self.table}")

    @property
    def memory(self) -> Figure:
        """Of reading A and B and writing C, once each; 0 without a memory."""
        if self.access is None:
            return Figure(0.0, "pJ", "exact count", "no memory was asked for")
        return _times(self.access, self.accesses)

    @property
    def total(self) -> Figure:
        """Of both."""
        parts = [self.compute] if self.access is None else [self.compute, self.memory]
        return _sum(parts, f"compute and memory, {self.table}")

    def _view(self) -> tables.Table:
        lines: list[tuple[str, Figure, str]] = [
            ("multiply", _times(self.multiply, self.macs), f"{self.macs:.4g} x {self.multiply:.4g} pJ"),
            ("accumulate", _times(self.accumulate, self.macs), f"{self.macs:.4g} x {self.accumulate:.4g} pJ"),
        ]
        if self.access is not None:
            lines.append((f"{self.memory_level}", self.memory, f"{self.accesses:.6g} x {self.access:.4g} pJ"))
        lines.append(("in all", self.total, ""))
        rows = [
            [word, f"{each / 1e6:.4g}", f"{each.low / 1e6:.4g}", f"{each.high / 1e6:.4g}", each.kind, how]
            for word, each, how in lines
        ]
        title = f"{' x '.join(map(str, self.traffic.sizes))} {self.traffic.name}, {self.table}"
        return tables.Table(["<part", "uJ", "low", "high", "<kind", "<of"], rows, title, _LEFT_OUT)

    def __repr__(self) -> str:
        """Return one line."""
        size = " x ".join(map(str, self.traffic.sizes))
        return f"<Energy of {size} {self.traffic.name}, {self.table}: {self.total / 1e6:.4g} uJ>"


def energy(
    M: int,
    K: int,
    N: int,
    dtype: Any,
    *,
    table: str = "jouppi2021",
    accumulator: Any = None,
    memory: str | None = "auto",
    weights: Any = None,
    sparsity: Any = None,
    out_dtype: Any = None,
    interpolate: bool = False,
) -> Energy:
    """Return the energy of a product of matrices: of its arithmetic, and of each matrix crossing a memory once.

    Parameters
    ----------
    M, K, N : int
        Sizes: A is (M, K), B is (K, N).
    dtype : str, FloatFormat, IntFormat, BlockFormat or dtype, or a pair of them
        Format of A and B; that of A is the one that is multiplied in.
    table : str
        A table of energies: "jouppi2021" (7 nm), "horowitz2014" (45 nm) or "aladdin2014" (40 nm).
    accumulator : str, FloatFormat or IntFormat, optional
        Format of the sums; "fp32" for floats and "int32" for integers by default.
    memory : str or None
        A level that the table has, such as "hbm2", "dram" or "sram-1MB"; None for arithmetic alone. "auto" is HBM2
        where the table has it, else DRAM, else none.
    weights, sparsity, out_dtype
        As in `matmul_traffic`; products that sparsity drops take no energy.
    interpolate : bool
        Whether a format that the table lacks may be put between those that it has.

    Returns
    -------
    Energy
        ``.compute``, ``.memory``, ``.total`` in pJ, each with its range; prints as a table.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a size is less than 1, a name is unknown, or the table lacks a format or a memory; what it has is listed.

    Notes
    -----
    ``macs * (multiply + accumulate) + accesses * energy of 64 bits``. A table has one number for each operation, at
    one voltage, for one timing target and operands of some distribution: its range here is a factor of 2 either way, or
    that of the table where it has one.

    Interpolated energies are a power of the size through the two nearest formats of the same table, floats among floats
    and integers among integers. The size is M + 1 for M mantissa bits, or the bits of an integer; the two formats
    decide which power, so that multipliers grow as they do there and adders as they do. Beyond the formats of the table
    the range is a factor of 4. These energies are of kind "interpolated".

    Left out are instructions (``lp.cost.table("dally2023")`` has what they take on a GPU), registers and buffers, clock
    and leakage.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.energy(512, 512, 512, "bf16"))
    512 x 512 x 512 bfloat16, jouppi2021
    part           uJ    low   high  kind       of
    ----------  -----  -----  -----  ---------  -------------------
    multiply    28.19  14.09  56.37  published  1.342e+08 x 0.21 pJ
    accumulate     51   25.5    102  published  1.342e+08 x 0.38 pJ
    hbm2        68.81  49.15  88.47  published  196608 x 350 pJ
    in all        148  88.75  246.9  published
    Left out: instructions (lp.cost.table('dally2023')), registers and buffers between memory and multipliers, clock,
    leakage, decoding of weights stored in another format, and what the operands' own bits switch.
    """
    if not isinstance(interpolate, bool):
        msg = f"`interpolate` must be True or False, got {interpolate!r} of type {type(interpolate).__name__}."
        raise TypeError(msg)
    word = _energies(table)
    bits = matmul_traffic(M, K, N, dtype, weights=weights, sparsity=sparsity, out_dtype=out_dtype)
    units = Unit(word, "energy", "pJ")
    compute = bits.compute
    if isinstance(compute, CodebookFormat):
        msg = f"`dtype` must be a format that is multiplied in, got the table of values {compute.name}; see `weights`."
        raise ValueError(msg)
    multiply = units.find("mult", compute, interpolate, "dtype")
    accumulate = units.find("add", accumulator_of(accumulator, compute), interpolate, "accumulator")
    level = _level(word, memory)
    access = None if level is None else memory_energy(level, 64, table=word)
    return Energy(bits, word, multiply, accumulate, level, access)


def memory_energy(level: str, bits: float = 64, *, table: str = "jouppi2021") -> Figure:
    """Return the energy of reading or writing some bits of a memory.

    Parameters
    ----------
    level : str
        Such as "hbm2", "dram", "sram-8KB", "sram-32KB", "sram-1MB".
    bits : float
        How many.
    table : str
        A table that has it.

    Returns
    -------
    Figure
        In pJ; the middle of the table's range where it has one, else the number with a factor of 2 either way.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the table is unknown or lacks the level, or `bits` is negative.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.memory_energy("hbm2"))
    350 pJ (250 to 450, published)
    >>> round(float(lp.cost.memory_energy("hbm2", 64, table="oconnor2017")), 1)
    254.1
    """
    if isinstance(bits, (bool, np.bool_)) or not isinstance(bits, (int, float, np.integer, np.floating)):
        msg = f"`bits` must be a number, got {bits!r} of type {type(bits).__name__}."
        raise TypeError(msg)
    if not 0 <= bits < math.inf:
        msg = f"`bits` must be 0 or more and finite, got {bits}."
        raise ValueError(msg)
    points = published(table)
    levels = _levels(points)
    word = level.strip().lower() if isinstance(level, str) else ""
    found = [point for point in points if point.operation == "access" and point.format.lower() == word]
    if not found:
        if not levels and isinstance(level, str):
            msg = f"`table` must have the energy of a memory, got {table!r}, which has none."
            raise ValueError(msg)
        if isinstance(level, str):
            msg = f"`level` must be a memory that {table} has ({', '.join(levels)}), got {level!r}."
            raise ValueError(msg)
        unknown(level, levels, "memory", "lp.cost.table(...)", "level")
    scale = float(bits) / _ACCESS[found[0].value.unit]
    values = [float(point.value) * scale for point in found]
    value = sum(values) / len(values)
    low, high = (min(values), max(values)) if len(values) > 1 else (value / 2, value * 2)
    source = f"{table}: {found[0].format}{', middle of its range' if len(values) > 1 else ''} ({found[0].state})"
    return Figure(value, "pJ", "published", source, low, high)


def _energies(table: Any) -> str:
    """Return the name of a table that has energies of arithmetic."""
    points = published(table)
    if not any(point.operation == "mult" and point.value.unit == "pJ" for point in points):
        msg = f"`table` must have energies of arithmetic in pJ, got {table!r}; lp.cost.tables() says what each has."
        raise ValueError(msg)
    return word_of(str(table))


def _levels(points: tuple[Point, ...]) -> list[str]:
    """Return the memories of a table."""
    return list(dict.fromkeys(point.format for point in points if point.operation == "access"))


def _level(table: str, memory: Any) -> str | None:
    """Return the memory that matrices cross."""
    levels = _levels(published(table))
    if memory is None:
        return None
    if isinstance(memory, str) and memory.strip().lower() == "auto":
        return next((level for level in ("hbm2", "dram") if level in levels), None)
    if not isinstance(memory, str):
        msg = f"`memory` must be the name of a memory or None, got {memory!r} of type {type(memory).__name__}."
        raise TypeError(msg)
    word = {level.lower(): level for level in levels}.get(memory.strip().lower())
    if word is None:
        has = ", ".join(levels) or "none"
        msg = f"`memory` must be one that {table} has ({has}), or None for arithmetic alone, got {memory!r}."
        raise ValueError(msg)
    return word


def _times(figure: Figure, factor: float) -> Figure:
    """Return a figure many times."""
    return Figure(figure * factor, figure.unit, figure.kind, figure.source, figure.low * factor, figure.high * factor)


def _sum(figures: list[Figure], source: str) -> Figure:
    """Return the sum of figures: of the weakest kind, all low or all high at once."""
    kind: Kind = "interpolated" if any(figure.kind == "interpolated" for figure in figures) else "published"
    low, high = sum(figure.low for figure in figures), sum(figure.high for figure in figures)
    return Figure(sum(figures), figures[0].unit, kind, source, low, high)
