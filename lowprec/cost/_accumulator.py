"""Which accumulator a cost is asked for: words, models, presets."""

from __future__ import annotations

import difflib
import re
from typing import Any, NamedTuple

from lowprec import accumulators as models
from lowprec.accumulators.base import Accumulator, member
from lowprec.accumulators.words import model as model_of
from lowprec.cost._blocks import GUARDS
from lowprec.formats import Format, IntFormat
from lowprec.formats import format as resolve
from lowprec.hardware import Preset, preset, presets
from lowprec.rounding import Rounding, Subnormals

_INTEGER = re.compile(r"(u?)int(\d+)(?:_(wrap|saturate|raise))?")
_WIDEST = 4096
FP32 = resolve("float32")


class Fixed(NamedTuple):
    """An integer accumulator of any width, `lp.Integer` without its limit of 32 bits."""

    bits: int
    overflow: str = "wrap"
    length: int = 1

    def __str__(self) -> str:
        """Return the word."""
        return f"int{self.bits}" + ("" if self.overflow == "wrap" else f"_{self.overflow}")


class Asked(NamedTuple):
    """An accumulator, and how its results are rounded and its subnormals treated."""

    model: Accumulator | Fixed
    words: str
    rounding: Rounding
    keep_subnormals: bool
    subnormals: Any = None  # what was asked for, of the parts of a model too

    @property
    def guards(self) -> int:
        """Bits below the last one that rounding looks at: 2 and a sticky bit, or as many as it adds random ones."""
        if self.rounding is not Rounding.STOCHASTIC:
            return GUARDS
        most = min(32, 52 - getattr(self.model, "format", FP32).precision)  # as `lowprec.Sequential` has it
        return max(GUARDS, getattr(self.model, "random_bits", None) or most)


def accumulator_of(
    value: Any, pair: tuple[Format, Format], rounding: Any = None, subnormals: Any = None, scales: Any = None
) -> Asked:
    """Return the accumulator that an argument means.

    A model brings its own rounding and subnormals; words take those that are asked for, or nearest_even and flush.
    """
    integers = isinstance(pair[0], IntFormat)
    if value is None:
        value = "int32" if integers else "fp32"
    words = value.strip().lower() if isinstance(value, str) else ""
    found: Any = _fixed(words) if words else None
    if found is None:
        try:
            found = model_of(value)
        except TypeError as error:
            raise TypeError(str(error).replace("`fmt`", "`accumulator`", 1)) from None
    if isinstance(found, models.Integer):
        found = Fixed(found.bits, found.overflow, found.length)
    if isinstance(found, str):
        row = _preset(found).instruction(pair, scales=scales)
        found, words = row.model, found
        if isinstance(found, models.Integer):
            found = Fixed(found.bits, found.overflow, found.length)
    elif isinstance(value, Preset):
        words = value.preset_name
    own = isinstance(value, Accumulator) or bool(
        words and not isinstance(found, (models.Sequential, models.Pairwise, models.Exact, Fixed))
    )
    how = member("nearest_even" if rounding is None else rounding, Rounding, "rounding")
    if rounding is None and hasattr(found, "rounding"):
        how = found.rounding
    keep = member(
        "flush" if subnormals is None else subnormals, Subnormals, "subnormals", (Subnormals.KEEP, Subnormals.FLUSH)
    )
    if subnormals is None and own and hasattr(found, "subnormals"):
        keep = found.subnormals
    parted = isinstance(found, models.Chunked)  # its sums round each in a way of its own
    if rounding is not None and own and (parted or getattr(found, "rounding", how) != how):
        msg = f"`rounding` must be left out with an accumulator that says how it rounds, got {str(how)!r} and {found}."
        raise ValueError(msg)
    return Asked(found, words or short(found), how, keep is Subnormals.KEEP, subnormals)


def _fixed(word: str) -> Fixed | None:
    """Return the integer accumulator that a word names, of any width."""
    match = _INTEGER.fullmatch(word)
    if match is None:
        return None
    bits = int(match[2])
    if not 2 <= bits <= _WIDEST:
        msg = f"`accumulator` must have 2 to {_WIDEST} bits, got {word!r}."
        raise ValueError(msg)
    return Fixed(bits, match[3] or "wrap")


def _preset(word: str) -> Preset:
    """Return the preset of a name."""
    try:
        return preset(word)
    except ValueError:
        names = [
            "fp32",
            "fp16",
            "bf16",
            "exact",
            "pairwise",
            "int32",
            "int24",
            *(each.preset_name for each in presets()),
        ]
        close = difflib.get_close_matches(word, names, n=3)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "; lp.presets() lists the presets."
        msg = (
            "`accumulator` must be a float format, an integer such as 'int32', 'exact', 'pairwise', a model or a "
            f"preset, got {word!r}{hint}"
        )
        raise ValueError(msg) from None


def short(model: Accumulator | Fixed) -> str:
    """Return few words for a model."""
    if isinstance(model, Fixed):
        return str(model)
    if isinstance(model, models.Sequential):
        return str(model.format)
    if isinstance(model, models.Exact):
        return "exact"
    return repr(model)
