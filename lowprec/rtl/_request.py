"""What `emit` was asked for, checked: what every unit is made from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec._checks import fmt_of, member
from lowprec.blocks import BlockFormat, block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.rounding import Rounding, Subnormals

MOST_BITS = 64  # of an operand of a multiplier


@dataclass(frozen=True)
class Request:
    """The arguments of `emit`, resolved; a unit takes those that concern it and refuses the others.

    Parameters
    ----------
    a, b : FloatFormat or IntFormat
        Formats of the operands.
    accumulator : object
        As the caller gave it.
    kind : str or None
        Which structure.
    lanes : int or None
        How many products a dot unit takes.
    to : FloatFormat, IntFormat or None
        What a cast or a readout makes.
    rounding : Rounding
        How results are rounded.
    subnormals : Subnormals
        What becomes of them.
    k : int
        Products per sum that an exact accumulator has room for.
    register : bool
        Whether outputs are kept in registers.
    subnormals_given : bool
        Whether the caller said what becomes of subnormals; casts, dot units and readouts keep them otherwise.
    rounding_given : bool
        Whether the caller said how to round; dot units round toward zero otherwise.
    k_given : bool
        Whether the caller said for how many products.
    block : BlockFormat or None
        The block format whose elements `a` and `b` are.

    Raises
    ------
    Nothing.
    """

    a: Format
    b: Format
    accumulator: Any = None
    kind: str | None = None
    lanes: int | None = None
    to: Format | None = None
    rounding: Rounding = Rounding.NEAREST_EVEN
    subnormals: Subnormals = Subnormals.FLUSH
    k: int = 256
    register: bool = False
    subnormals_given: bool = False
    rounding_given: bool = False
    k_given: bool = False
    block: BlockFormat | None = None


def element(value: Any, name: str) -> Format:
    """Return a float or integer format; refuse those that have no arithmetic of their own."""
    if isinstance(value, str) and is_block_name(value) and isinstance(block_format(value).element, CodebookFormat):
        value = block_format(value).element
    if isinstance(value, BlockFormat) or (isinstance(value, str) and is_block_name(value)):
        msg = f"`{name}` must be a format of single elements, got the block format {value}; blocks are for unit='dot'."
        raise ValueError(msg)
    if isinstance(value, CodebookFormat):
        msg = f"`{name}` must be a float or integer format, got the codebook {value}, whose values are a table."
        raise ValueError(msg)
    return fmt_of(value, name)


def pair(value: Any, name: str = "fmt") -> tuple[Format, Format]:
    """Return the formats of both operands: of one format or a pair of them."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            msg = f"`{name}` must be a format or a pair of them, got {len(value)} of them."
            raise ValueError(msg)
        return element(value[0], name), element(value[1], name)
    return element(value, name), element(value, name)


def whole(value: Any, name: str, low: int, high: int) -> int:
    """Check a count."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer from {low} to {high}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)
    return int(value)


def word(value: Any, name: str, words: Iterable[str]) -> str:
    """Check a word of a list."""
    known = list(words)
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(known)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value.lower() not in known:
        close = difflib.get_close_matches(value.lower(), known, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`{name}` must be one of {', '.join(known)}, got {value!r}{hint}"
        raise ValueError(msg)
    return value.lower()


def flag(value: Any, name: str) -> bool:
    """Check a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        msg = f"`{name}` must be True or False, got {value!r}."
        raise TypeError(msg)
    return bool(value)


def rounding_of(value: Any) -> Rounding:
    """Return a rounding mode that gates have: any but the stochastic one."""
    mode = member(value, Rounding, "rounding")
    if mode is Rounding.STOCHASTIC:
        msg = (
            '`rounding` must be deterministic here, got "stochastic", which takes random bits from elsewhere; a float '
            'mac has a port for them with accumulator=lp.Sequential(fmt, "stochastic").'
        )
        raise ValueError(msg)
    return mode


def subnormals_of(value: Any) -> Subnormals:
    """Return what becomes of subnormals."""
    return member(value, Subnormals, "subnormals")


def floats(fmt: Format, name: str) -> FloatFormat:
    """Return a signed float format with a zero, or say why that cannot be."""
    if isinstance(fmt, IntFormat):
        msg = f"`{name}` must be a float format for this unit, got `{fmt}`."
        raise ValueError(msg)
    if not fmt.is_signed or not fmt.has_zero:
        msg = f"`{name}` must be a signed format with a zero, got `{fmt}`, which has no unit."
        raise ValueError(msg)
    return fmt


def unused(request: Request, unit: str, *names: str) -> None:
    """Refuse arguments that a unit has no use for, so that none is silently without effect."""
    for name in names:
        value = getattr(request, name)
        if getattr(request, f"{name}_given", value is not None and value is not False):
            value = str(value) if name in {"rounding", "subnormals"} else value
            msg = f"`{name}` must be left out for the unit {unit}, which has no use for it, got {value!r}."
            raise ValueError(msg)
