"""What all models of a sum share, and the checks of their parameters."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as resolve


def integer(value: Any, name: str, low: int, high: int) -> int:
    """Check an integer parameter."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer from {low} to {high}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)
    return int(value)


def member(value: Any, kind: Any, name: str, allowed: tuple[Any, ...] | None = None) -> Any:
    """Check a word that names a policy."""
    words = [str(m) for m in (allowed or tuple(kind))]
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value.lower() not in words:
        close = difflib.get_close_matches(value.lower(), words, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r}{hint}"
        raise ValueError(msg)
    return kind(value.lower())


def float_format(value: Any, name: str) -> FloatFormat:
    """Check a format that sums are kept in: signed, with a zero."""
    try:
        fmt = resolve(value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", f"`{name}`", 1)) from None
    if not isinstance(fmt, FloatFormat):
        msg = f"`{name}` must be a float format, got `{fmt}`; for an integer sum use lp.Integer(bits)."
        raise ValueError(msg)
    if not fmt.is_signed or not fmt.has_zero:
        msg = f"`{name}` must be a signed format with a zero, got `{fmt}`, in which sums cannot be kept."
        raise ValueError(msg)
    return fmt


@dataclass(frozen=True, repr=False)
class Accumulator:
    """Base of all models of a sum; make one of its subclasses.

    Raises
    ------
    TypeError
        If it is called itself.

    Notes
    -----
    Models are frozen, hashable, and equal where their parameters are.
    """

    def __post_init__(self) -> None:
        """Refuse to be made."""
        msg = "`Accumulator` must be one of its subclasses, such as lp.Sequential or lp.FusedTruncated."
        raise TypeError(msg)

    @property
    def result_format(self) -> Format | None:
        """Format of the running sum, of ``c`` and of the result; None where the operands or the caller decide."""
        return None

    def _set(self, **values: Any) -> None:
        """Write normalised parameters while the object is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Return the call that makes the model, parameters at their defaults left out."""
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value == self._default(each.name):
                continue
            if isinstance(value, (FloatFormat, IntFormat)):
                value = value.name if resolve_or_none(value.name) == value else value
            shown.append(f"{each.name}={(str(value) if isinstance(value, str) else value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _default(self, name: str) -> Any:
        """Return what a parameter is when it is not given."""
        made = type(self).__dataclass_fields__[name].default
        is_format = isinstance(made, str) and isinstance(getattr(self, name), (FloatFormat, IntFormat))
        return resolve_or_none(made) if is_format else made


def resolve_or_none(name: Any) -> Format | None:
    """Return the format of a name, or None."""
    try:
        return resolve(name)
    except (TypeError, ValueError):
        return None


class Hardware(Accumulator):
    """Base of the models of hardware: blocks of `length` products, K padded with +0 to whole blocks."""

    length: int

    @property
    def result_format(self) -> FloatFormat:
        """float32, unless the model says otherwise."""
        return resolve("float32")  # type: ignore[return-value]
