"""What `compare_accumulators` returns: pairs, their smallest inputs, and the ways to look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec._checks import Array
from lowprec.codec import encode
from lowprec.formats import FloatFormat, Format, stored_format


@dataclass(frozen=True, eq=False)
class SmallestInput:
    """An input on which two accumulators differ, as small as it was found.

    Parameters
    ----------
    a, b : ndarray
        One row and one column.
    c : scalar or None
        What the sum starts from; None if that makes no difference.
    results : tuple of two scalars
        The sum by the one and by the other accumulator.

    Raises
    ------
    Nothing.
    """

    a: Array
    b: Array
    c: Any
    results: tuple[Any, Any]

    def __str__(self) -> str:
        """Return the input, one line for each part."""
        lines = [f"a = {_listed(self.a)}", f"b = {_listed(self.b)}"]
        return "\n".join([*lines, f"c = {_exactly(self.c)}"] if self.c is not None else lines)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two accumulators compared.

    Parameters
    ----------
    first, second : str
        The accumulators.
    different : int
        Results whose bits differ; two NaN count as equal.
    total : int
        Results.
    one_nan : int
        Results that are NaN by one accumulator only; they are among the different ones.
    nan_payloads : int
        Results that are NaN by both, with other bits.
    largest_ulp : int or float
        The largest difference in steps of the result's format; NaN left out. Where the accumulators have results in
        different formats, in units in the last place of the coarser.
    where : tuple of int, optional
        Index of that result.
    smallest : SmallestInput, optional
        A small input on which the two differ; None where they never do.

    Raises
    ------
    Nothing.
    """

    first: str
    second: str
    different: int
    total: int
    one_nan: int
    nan_payloads: int
    largest_ulp: float
    where: tuple[int, ...] | None
    smallest: SmallestInput | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_accumulators` found.

    Parameters
    ----------
    accumulators : tuple of str
        What was compared.
    operands : str
        What was multiplied, in words.
    pairs : tuple of Pair
        One for every two accumulators.

    Raises
    ------
    Nothing.
    """

    accumulators: tuple[str, ...]
    operands: str
    pairs: tuple[Pair, ...]

    @property
    def table(self) -> list[dict[str, Any]]:
        """The pairs as records, without the inputs."""
        names = ("first", "second", "different", "total", "one_nan", "nan_payloads", "largest_ulp", "where")
        return [{name: getattr(pair, name) for name in names} for pair in self.pairs]

    def _view(self) -> tables.Table:
        """Return the columns that a reader needs, as strings."""
        columns = ["<first", "<second", "different", "results", "share", "largest/ulp", "one NaN", "NaN bits"]
        rows = [
            [
                pair.first,
                pair.second,
                str(pair.different),
                str(pair.total),
                f"{pair.different / max(1, pair.total):.2%}",
                f"{pair.largest_ulp:.6g}" if isinstance(pair.largest_ulp, float) else str(pair.largest_ulp),
                str(pair.one_nan),
                str(pair.nan_payloads),
            ]
            for pair in self.pairs
        ]
        notes = ["one NaN: of the different ones, NaN in one only. NaN bits: NaN in both, counted as equal."]
        for pair in self.pairs:
            if pair.smallest is None:
                notes += ["", f"{pair.first} and {pair.second}: no difference found."]
                continue
            notes += ["", f"{pair.first} and {pair.second} differ on:", *_indented(str(pair.smallest))]
            width = max(len(pair.first), len(pair.second))
            results = zip((pair.first, pair.second), pair.smallest.results, strict=True)
            notes += [f"    {name.ljust(width)}  {_exactly(value)}  {_hex(value)}" for name, value in results]
        return tables.Table(columns, rows, self.operands, notes)

    def __str__(self) -> str:
        """Return the table as plain text, with the smallest inputs below it."""
        return tables.plain(self._view())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return tables.to_html(self._view())

    def show(self) -> None:
        """Print the table to standard output.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        tables.show(self._view())


def _indented(text: str) -> list[str]:
    """Return lines moved to the right."""
    return [f"    {line}" for line in text.splitlines()]


def _exactly(x: Any) -> str:
    """Return a number so that it can be typed back: in short digits, or as an integer times a power of two."""
    if isinstance(x, (int, np.integer)):
        return str(int(x))
    value = float(x)
    if not np.isfinite(value) or len(repr(value)) < 9:
        return repr(value)
    numerator, denominator = abs(value).as_integer_ratio()
    e = (numerator & -numerator).bit_length() - denominator.bit_length()
    odd = numerator >> max(0, (numerator & -numerator).bit_length() - 1)
    if odd >= 10**6:
        return repr(value)
    return f"{'-' if value < 0 else ''}{f'{odd}*' if odd > 1 else ''}2**{e}"


def _listed(x: Array) -> str:
    """Return a vector as a list."""
    return f"[{', '.join(map(_exactly, x))}]"


def _hex(x: Any) -> str:
    """Return the bits of a scalar."""
    raw = np.asarray(x).tobytes()
    return f"0x{int.from_bytes(raw, 'little'):0{2 * len(raw)}X}"


def _ordered(x: Array, fmt: Format | None) -> Array:
    """Return integers that count the steps of a format, which holds the numbers."""
    if x.dtype.kind in "iu":
        return x.astype(np.int64)
    if fmt is not None and fmt != stored_format(x.dtype):
        codes = encode(np.where(_isnan(x), x.dtype.type(0), x), fmt)
        width = fmt.bits
    else:
        codes = _bits(x)
        width = 8 * x.dtype.itemsize
    magnitude = (codes.astype(np.uint64) & np.uint64(2 ** (width - 1) - 1)).astype(np.int64)
    return np.asarray(np.where(codes.astype(np.uint64) >> np.uint64(width - 1), -magnitude, magnitude))


def _bits(x: Array) -> Array:
    """Return an array's bits."""
    return np.asarray(np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")).reshape(x.shape)


def _isnan(x: Array) -> Array:
    """Say where an array is NaN."""
    return np.zeros(x.shape, bool) if x.dtype.kind in "iu" else np.asarray(np.isnan(x.astype(np.float64)))


class Differences:
    """Two arrays of results, compared element by element; their formats are what ulp are counted in."""

    def __init__(self, x: Array, y: Array, formats: tuple[Format | None, Format | None] = (None, None)) -> None:
        nan_x, nan_y = _isnan(x), _isnan(y)
        wide_x, wide_y = x.astype(np.float64), y.astype(np.float64)
        if x.dtype == y.dtype:
            different = _bits(x) != _bits(y)
        else:
            different = (wide_x != wide_y) | (np.signbit(wide_x) != np.signbit(wide_y))
        self.one_nan = nan_x ^ nan_y
        self.unequal = different & ~(nan_x & nan_y)
        self.payloads = different & nan_x & nan_y & (x.dtype == y.dtype)
        if x.dtype == y.dtype and formats[0] == formats[1]:
            steps = _ordered(x, formats[0]), _ordered(y, formats[0])
            distance = np.maximum(*steps).astype(np.uint64) - np.minimum(*steps).astype(np.uint64)
        else:
            unit, emin = max(_unit(v, fmt) for v, fmt in zip((x, y), formats, strict=True))
            with np.errstate(all="ignore"):
                e = np.maximum(np.frexp(np.maximum(np.abs(wide_x), np.abs(wide_y)))[1] - 1, emin)
                distance = np.abs(wide_x - wide_y) / np.ldexp(unit, e)
        self.distance = np.where(nan_x | nan_y | ~self.unequal, distance.dtype.type(0), distance)

    def largest(self) -> tuple[float, tuple[int, ...] | None]:
        """Return the largest distance and where it is."""
        if not self.unequal.any():
            return 0, None
        at = np.unravel_index(int(np.argmax(np.where(np.isnan(self.distance), 0, self.distance))), self.distance.shape)
        if not self.distance[at]:
            at = np.unravel_index(int(np.argmax(self.unequal)), self.distance.shape)
        return self.distance[at].item(), tuple(map(int, at))


def _unit(x: Array, fmt: Format | None) -> tuple[float, int]:
    """Return the unit in the last place at 1, and the smallest normal exponent, of a format."""
    fmt = fmt or stored_format(x.dtype)
    return (fmt.eps, fmt.emin) if isinstance(fmt, FloatFormat) else (1.0, 0)
