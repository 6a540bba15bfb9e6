"""Area of one unit, from a table of published areas; nothing turns gate equivalents into square micrometres."""

from __future__ import annotations

from typing import Any

from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import CodebookFormat, ElementFormat, element_of
from lowprec.cost._figure import Figure, Kind
from lowprec.cost._lookup import SPREAD, Unit, accumulator_of
from lowprec.cost._tables import published, word_of

_OPERATIONS = ("mult", "add", "mac")


def area(
    fmt: Any,
    op: str = "mac",
    *,
    table: str = "horowitz2014-area",
    accumulator: Any = None,
    interpolate: bool = False,
) -> Figure:
    """Return the area of a multiplier, an adder or both, as somebody published it.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat or dtype, or a pair of them
        The format; a pair for a multiplier of two widths ("evoapprox" has some).
    op : {"mac", "mult", "add"}
        Of what. A "mac" is a multiplier and an adder of the accumulator's format, added up: no register, nothing fused.
    table : str
        A table of areas: "horowitz2014-area" (45 nm), "aladdin2014" (40 nm), "evoapprox" (45 nm, integers).
    accumulator : str, FloatFormat or IntFormat, optional
        Format of the adder of a "mac"; "fp32" for floats and "int32" for integers by default.
    interpolate : bool
        Whether a format that the table lacks may be put between those that it has, as `energy` does.

    Returns
    -------
    Figure
        In um2, with a range of a factor of 2 either way or more: timing targets, styles and structures do that much.
        The floats of "horowitz2014-area" are 2 to 4 times the area of minimum-area synthesis, as their range and
        source say.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the table is unknown, has no areas in um2, or lacks the format; those that it has are listed.

    See Also
    --------
    lowprec.cost.mac : Gate equivalents, for any format.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.area("int8", "mult"))
    282 um2 (141 to 564, published)
    >>> print(lp.cost.area("int8"))
    419 um2 (209.5 to 838, published)
    >>> lp.cost.area("fp16", "add").source
    'horowitz2014-area: add float16; 2 to 4 times the area of minimum-area synthesis: timing-driven (seen)'
    """
    if not isinstance(interpolate, bool):
        msg = f"`interpolate` must be True or False, got {interpolate!r} of type {type(interpolate).__name__}."
        raise TypeError(msg)
    word = _operation(op)
    units = Unit(_areas(table), "area", "um2")
    if isinstance(fmt, (tuple, list)):
        return _pair(units, fmt, word)
    element = _element(fmt)
    if word != "mac":
        if accumulator is not None:
            msg = f'`accumulator` must be None for op="{word}", which has none, got {accumulator!r}.'
            raise ValueError(msg)
        return units.find(word, element, interpolate, "fmt")
    first = units.find("mult", element, interpolate, "fmt")
    second = units.find("add", accumulator_of(accumulator, element), interpolate, "accumulator")
    kind: Kind = "interpolated" if "interpolated" in (first.kind, second.kind) else "published"
    source = f"{first.source}, and {second.source}"
    return Figure(first + second, "um2", kind, source, first.low + second.low, first.high + second.high)


def _operation(op: Any) -> str:
    """Check the name of an operation."""
    if not isinstance(op, str):
        msg = f"`op` must be one of {', '.join(_OPERATIONS)}, got {op!r} of type {type(op).__name__}."
        raise TypeError(msg)
    if op.strip().lower() not in _OPERATIONS:
        msg = f"`op` must be one of {', '.join(_OPERATIONS)}, got {op!r}."
        raise ValueError(msg)
    return op.strip().lower()


def _areas(table: Any) -> str:
    """Return the name of a table that has areas in um2."""
    units = list(dict.fromkeys(point.value.unit for point in published(table) if point.quantity == "area"))
    if "um2" not in units:
        has = f"areas in {units[0]}s" if units else "no areas"
        msg = f"`table` must have areas in um2, got {table!r}, which has {has}; gates are not turned into um2."
        raise ValueError(msg)
    return word_of(str(table))


def _element(fmt: Any) -> ElementFormat:
    """Return the format of a unit."""
    element = block_format(fmt).element if is_block_name(fmt) else element_of(fmt, "fmt")
    if isinstance(element, CodebookFormat):
        msg = f"`fmt` must be a format that is multiplied in, got the table of values {element.name}."
        raise ValueError(msg)
    return element


def _pair(units: Unit, fmt: Any, op: str) -> Figure:
    """Return the area of a multiplier of two formats."""
    if len(fmt) != 2 or op != "mult":
        msg = f'`fmt` must be one format, or a pair with op="mult", got {fmt!r} with op="{op}".'
        raise ValueError(msg)
    names = [_element(each).name for each in fmt]
    wanted = {"x".join(names), "x".join(reversed(names))} | ({names[0]} if names[0] == names[1] else set())
    found = [point for point in units.points("mult") if point.format in wanted]
    if not found:
        has = ", ".join(units.formats("mult"))
        msg = f"`fmt` must be a pair that {units.table} has a multiplier for ({has}), got {'x'.join(names)}."
        raise ValueError(msg)
    value = float(found[-1].value)
    source = f"{units.table}: mult {found[-1].format} ({found[-1].state})"
    return Figure(value, "um2", "published", source, value / SPREAD, value * SPREAD)
