"""What of a format decides the size of the hardware that multiplies it."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any, NamedTuple

from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.codebooks import element_of as any_format
from lowprec.formats import FloatFormat, Format, IntFormat


class Operand(NamedTuple):
    """An operand of a multiplier.

    Parameters
    ----------
    name : str
        Of the format.
    precision : int
        Bits of the significand with its leading 1, or of the integer with its sign: what the rule of thumb multiplies.
    exponent_bits : int
        Of a float; 0 for an integer.
    is_float : bool
        Whether it is one.
    is_signed : bool
        Whether negative numbers exist.
    bits : int
        In all.
    """

    name: str
    precision: int
    exponent_bits: int
    is_float: bool
    is_signed: bool
    bits: int


def element_of(fmt: Any, name: str = "fmt") -> Format:
    """Return the float or integer format that a word or a format means, and refuse those that nobody multiplies."""
    if is_block_name(fmt) and not isinstance(block_format(fmt).element, CodebookFormat):
        word = str(block_format(fmt))
        msg = (
            f"`{name}` must be a format of single elements, got the block format {word!r}, whose scale is shared by a "
            f"block; ask for lp.cost.dot({word!r}, lanes=...)."
        )
        raise ValueError(msg)
    found = block_format(fmt).element if is_block_name(fmt) else any_format(fmt, name)
    if isinstance(found, CodebookFormat):
        msg = (
            f"`{name}` must be a float or an integer format, got the table `{found}`, which is looked up, not "
            "multiplied; take the cost of the format that it is looked up into, such as 'fp16'."
        )
        raise ValueError(msg)
    if isinstance(found, FloatFormat) and (not found.has_zero or not found.is_signed):
        msg = f"`{name}` must be a format with signs and a zero, got `{found}`, which scales and does not multiply."
        raise ValueError(msg)
    return found


def operand_of(fmt: Any, name: str = "fmt") -> Operand:
    """Return what matters of a format."""
    return _operand(element_of(fmt, name))


@functools.lru_cache(maxsize=512)
def _operand(fmt: Format) -> Operand:
    if isinstance(fmt, IntFormat):
        return Operand(fmt.name, fmt.bits, 0, False, fmt.is_signed, fmt.bits)
    return Operand(fmt.name, fmt.precision, fmt.exponent_bits, True, fmt.is_signed, fmt.bits)


def pair_of(fmt: Any) -> tuple[Format, Format]:
    """Return the formats of both operands."""
    if isinstance(fmt, (tuple, list)):
        if len(fmt) != 2:
            msg = f"`fmt` must be a format or a pair of formats, got {len(fmt)} of them."
            raise ValueError(msg)
        a, b = element_of(fmt[0]), element_of(fmt[1])
    else:
        a = b = element_of(fmt)
    if isinstance(a, IntFormat) is not isinstance(b, IntFormat):
        msg = (
            f"`fmt` must be two floats or two integers, got `{a}` and `{b}`; hardware converts one of them first: "
            "take lp.cost.cast of that and the mac of the other."
        )
        raise ValueError(msg)
    return a, b


def grid(fmt: Format) -> tuple[Fraction, int]:
    """Return the finest step between numbers of a format, and the largest magnitude counted in it."""
    if isinstance(fmt, IntFormat):
        return Fraction(1), max(int(fmt.max), -int(fmt.min))
    step = Fraction(fmt.smallest_subnormal)
    largest = max(Fraction(fmt.max), -Fraction(fmt.min)) / step
    return step, int(largest)
