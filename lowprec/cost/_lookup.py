"""One operation in one format in a table of published numbers: as it stands there, or between two that do."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

from lowprec.codebooks import CodebookFormat, ElementFormat, element_of
from lowprec.cost._figure import Figure
from lowprec.cost._tables import Point, published
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as resolve

SPREAD = 2.0
"""Factor that one published number of a unit may be off by: what timing targets, styles and structures do to it."""
BEYOND = 4.0
"""The same for a number extrapolated beyond those of the table."""

_TIMING = "timing-driven"  # what notes say of units that are larger for their speed


class Unit(NamedTuple):
    """What is looked up.

    Parameters
    ----------
    table : str
        Where.
    quantity : str
        "energy" or "area".
    unit : str
        "pJ" or "um2".

    Raises
    ------
    Nothing.
    """

    table: str
    quantity: str
    unit: str

    def points(self, operation: str) -> list[Point]:
        """Return the numbers of an operation; the loosest timing target last."""
        return [
            point
            for point in published(self.table)
            if (point.quantity, point.value.unit, point.operation) == (self.quantity, self.unit, operation)
        ]

    def formats(self, operation: str) -> list[str]:
        """Return the formats of an operation."""
        return list(dict.fromkeys(point.format for point in self.points(operation)))

    def find(self, operation: str, fmt: ElementFormat, interpolate: bool, argument: str) -> Figure:
        """Return the number of an operation in a format, with its range.

        Parameters
        ----------
        operation : str
            "add" or "mult".
        fmt : FloatFormat, IntFormat or CodebookFormat
            The format.
        interpolate : bool
            Whether a format that is not there may be put between two that are.
        argument : str
            The name of the argument that the format comes from.

        Returns
        -------
        Figure
            Of kind "published" or "interpolated".

        Raises
        ------
        ValueError
            If the table has no such number, and none may or can be put in its place.
        """
        wanted = {fmt.name, f"{fmt.name}x{fmt.name}"}
        found = [point for point in self.points(operation) if point.format in wanted]
        if found:
            return self._published(operation, fmt.name, found)
        if not interpolate:
            self._refuse(operation, fmt, argument)
        return self._interpolated(operation, fmt, argument)

    def _published(self, operation: str, name: str, found: list[Point]) -> Figure:
        """Return a published number; of several timing targets the loosest, with the range of all."""
        values = [float(point.value) for point in found]
        value, states = values[-1], {point.state for point in found}
        low, high = min(values), max(values)
        how = f"{self.table}: {operation} {name}"
        if len(values) == 1:
            low, high = value / SPREAD, value * SPREAD
        else:
            how += f", {found[-1].condition}, range {found[0].condition} to {found[-1].condition}"
            low, high = min(low, value / SPREAD), max(high, value * SPREAD)
        flags = [point.note for point in found[-1:] if _TIMING in point.note]
        if flags:
            low, how = value / BEYOND, f"{how}; {flags[0]}"
        return Figure(value, self.unit, "published", f"{how} ({', '.join(sorted(states))})", low, high)

    def _refuse(self, operation: str, fmt: ElementFormat, argument: str) -> NoReturn:
        """Raise: the table has no such number."""
        has = self.formats(operation)
        if not has:
            what = f"the {self.quantity} of {operation} in {self.unit}"
            msg = f"`table` must have {what}, got {self.table!r}, which has none."
            raise ValueError(msg)
        mend = "; interpolate=True puts one between them" if len(set(self._sizes(operation, fmt).values())) > 1 else ""
        msg = (
            f"`{argument}` must be a format that {self.table} has the {self.quantity} of {operation} for "
            f"({', '.join(has)}), got {fmt.name}{mend}."
        )
        raise ValueError(msg)

    def _interpolated(self, operation: str, fmt: ElementFormat, argument: str) -> Figure:
        """Return a power of the size, through the two formats of the same family that are nearest in size."""
        family = self._sizes(operation, fmt)
        sizes = sorted(set(family.values()))
        if len(sizes) < 2:
            has = ", ".join(family) or "none"
            what = "floats" if isinstance(fmt, FloatFormat) else "integers"
            msg = (
                f"`{argument}` must be a format that {self.table} has, or one between two {what} of different widths, "
                f"got {fmt.name}; for {operation} it has {has}."
            )
            raise ValueError(msg)
        size = _size(fmt)
        near = sorted(sizes, key=lambda each: abs(math.log(each / size)))[:2]
        if sizes[0] < size < sizes[-1]:
            near = [max(each for each in sizes if each <= size), min(each for each in sizes if each >= size)]
        if near[0] == near[1]:
            near = sorted(sizes, key=lambda each: abs(math.log(each / size)))[:2]
        first, second = (self._at(operation, family, each) for each in near)
        power = math.log(second / first) / math.log(near[1] / near[0])
        value = first * (size / near[0]) ** power
        inside = sizes[0] <= size <= sizes[-1]
        off = SPREAD if inside else BEYOND
        names = [next(name for name, each in family.items() if each == one) for one in near]
        how = f"{self.table}: {operation} {fmt.name} {'between' if inside else 'beyond'} {' and '.join(names)}"
        if any(_TIMING in point.note for point in self.points(operation) if point.format in family):
            return Figure(value, self.unit, "interpolated", f"{how}; timing-driven", value / BEYOND, value * off)
        return Figure(value, self.unit, "interpolated", how, value / off, value * off)

    def _sizes(self, operation: str, fmt: ElementFormat) -> dict[str, int]:
        """Return the sizes of the formats of one family: floats, or integers, of the same sign if there are two."""
        if isinstance(fmt, CodebookFormat):
            return {}
        others = {name: _resolved(name) for name in self.formats(operation)}
        same = {name: other for name, other in others.items() if other is not None and type(other) is type(fmt)}
        signed = {name: other for name, other in same.items() if (other.min < 0) == (fmt.min < 0)}
        chosen = signed if len({other.bits for other in signed.values()}) > 1 else same
        return {name: _size(other) for name, other in chosen.items()}

    def _at(self, operation: str, family: dict[str, int], size: int) -> float:
        """Return the number of the first format of a size."""
        name = next(name for name, each in family.items() if each == size)
        return float([point for point in self.points(operation) if point.format == name][-1].value)


def _resolved(name: str) -> Format | None:
    """Return the format of a table's word: that of a square multiplier, or None for others."""
    first, _, second = name.partition("x")
    if second and first != second:
        return None
    try:
        return resolve(first)
    except ValueError:
        return None


def _size(fmt: ElementFormat) -> int:
    """Return what a unit grows with a power of: M + 1, the bits of the significand, or the bits of an integer."""
    return fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits


def accumulator_of(value: Any, multiplied: ElementFormat) -> ElementFormat:
    """Return the format that sums are kept in: float32 for floats and int32 for integers unless it is named."""
    if value is None:
        return resolve("float32" if isinstance(multiplied, FloatFormat) else "int32")
    return element_of(value, "accumulator")
