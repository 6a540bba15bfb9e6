"""Bill: the parts of a unit as a formula found them, before they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lowprec.cost import _blocks, _calibration, _units
from lowprec.cost._cells import Cells, Part, present, times
from lowprec.cost._figure import Kind
from lowprec.cost._shape import Operand, operand_of
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as resolve
from lowprec.rounding import Rounding

FP32: FloatFormat = resolve("float32")  # type: ignore[assignment]
GUARD_K = 256
MULTIPLIERS = ("array", "booth", "smaller")
NO_INTEGERS = "`accumulator` must be a float format, 'exact' or a model of floats for {}, got {}."
READOUT = "The {width}-bit sum is exact for up to {k} products; reading it out into {out} takes {ge:.0f} GE more, once."
FEW_BITS = 4  # from which on multipliers are as their formulas say
UNSHRUNK = ("multiply", "register", "select")  # parts that formulas get right without calibration


class Bill(NamedTuple):
    """What a formula found: the fields of `Cost`, which see."""

    name: str
    rule: int
    elements: Mapping[str, Part]
    kind: Kind = "closed form"
    source: str = _calibration.SOURCE
    groups: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lanes: int = 1


def calibrated(parts: Mapping[str, Cells], group: str) -> dict[str, Part]:
    """Return parts as synthesis is expected to shrink them."""
    factor = _calibration.calibration(group).factor
    return present({name: Part(cells, 1.0 if name in UNSHRUNK else factor) for name, cells in parts.items()})


def with_groups(bill: Bill, *groups: str) -> Bill:
    """Return a bill whose range is over these groups of designs too."""
    return bill._replace(groups=tuple(dict.fromkeys((*bill.groups, *groups))))


def split(group: str, keep_subnormals: bool) -> str:
    """Return the group of float units that keep subnormals, or that do not."""
    return f"{group}, subnormals kept" if keep_subnormals else group


def multiplier_group(kind: str, bits: int) -> str:
    """Return the group of multipliers whose narrower factor has some bits: of few, synthesis leaves far less."""
    return f"{kind} of 2 or 3 bits" if bits < FEW_BITS else kind


def add_parts(
    fmt: FloatFormat, rounding: Rounding, keep_subnormals: bool, guards: int = _blocks.GUARDS
) -> dict[str, Part]:
    """Return a float adder, its parts named after those of the MAC it belongs to."""
    return calibrated(_units.add(fmt, rounding, keep_subnormals, guards), "float add")


def words_of(pair: tuple[Format, Format]) -> str:
    """Return the operands' names."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"


def recoded_signed(a: Operand, b: Operand) -> bool:
    """Return whether the factor that Booth's digits are made of has a sign: the narrower, or one of two as wide."""
    narrow = [each for each in (a, b) if each.precision == min(a.precision, b.precision)]
    return any(each.is_signed and not each.is_float for each in narrow)


def with_multiplier(bill: Bill, pair: tuple[Format, Format], kind: Any) -> Bill:
    """Return a bill whose multipliers are of a kind."""
    if not isinstance(kind, str):
        msg = f"`multiplier` must be one of {', '.join(MULTIPLIERS)}, got {kind!r} of type {type(kind).__name__}."
        raise TypeError(msg)
    if kind.lower() not in MULTIPLIERS:
        msg = f"`multiplier` must be one of {', '.join(MULTIPLIERS)}, got {kind!r}."
        raise ValueError(msg)
    a, b = map(operand_of, pair)
    n, m = max(a.precision, b.precision), min(a.precision, b.precision)
    booth = Part(times(_blocks.booth(n, m, recoded_signed(a, b)), bill.lanes))
    if kind.lower() == "array" or (kind.lower() == "smaller" and bill.elements["multiply"].ge <= booth.ge):
        return bill
    named = bill._replace(name=f"{bill.name}, Booth multipliers", elements={**bill.elements, "multiply": booth})
    return with_groups(named, multiplier_group("Booth multiplier", m))
