"""Models by name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from lowprec.accumulators.base import Accumulator, float_format, resolve_or_none
from lowprec.accumulators.sums import Exact, Integer, Pairwise, Sequential
from lowprec.formats import FloatFormat, IntFormat
from lowprec.formats import format as resolve

_INTEGER_WORDS = {
    f"{'' if signed else 'u'}int{bits}{'' if overflow == 'wrap' else '_saturate'}": (bits, overflow, signed)
    for bits in range(2, 33)
    for overflow in ("wrap", "saturate")
    for signed in (True, False)
}


@lru_cache(maxsize=512)
def _named(word: str) -> Accumulator | None:
    """Return the model that a word names, or None if it names none here."""
    if word == "exact":
        return Exact()
    if word == "pairwise":
        return Pairwise()
    if word in _INTEGER_WORDS:
        bits, overflow, signed = _INTEGER_WORDS[word]
        return Integer(bits, overflow, is_signed=signed)  # type: ignore[arg-type]
    fmt = resolve_or_none(word)
    return Sequential(float_format(fmt, "accumulator")) if isinstance(fmt, FloatFormat) else None


def model(value: Any, name: str = "accumulator") -> Accumulator | str:
    """Return the model that an argument stands for; a word that names none here comes back, for the presets' table.

    Parameters
    ----------
    value : Accumulator, str, FloatFormat, dtype, Preset or Instruction
        A model, the name of a float format (`Sequential` in it), ``"exact"``, ``"pairwise"``, ``"int32"``,
        ``"int16_saturate"`` and the like, another word, a preset (its name), or a row of one (its model).
    name : str
        The argument's name, for errors.

    Returns
    -------
    Accumulator or str
        The model, or the word in lower case.

    Raises
    ------
    TypeError
        If `value` is of another kind.
    ValueError
        If it is a format in which sums cannot be kept.

    Examples
    --------
    >>> model("bf16")
    Sequential(format='bfloat16')
    >>> model("nvidia-hopper")
    'nvidia-hopper'
    """
    if isinstance(value, Accumulator):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        found = _named(word)
        if found is None and (word in ("fp8", "float8", "fp6") or re.fullmatch(r"e\d+m\d+", word)):
            float_format(word, name)  # raises, and says what is wrong with the format
        return found or word
    if isinstance(value, IntFormat):
        return Integer(max(2, value.bits), is_signed=value.is_signed)
    if isinstance(value, (FloatFormat, np.dtype, type)):
        fmt = resolve(value)
        return model(fmt, name) if isinstance(fmt, IntFormat) else Sequential(float_format(fmt, name))
    if isinstance(name_of := getattr(value, "preset_name", None), str):
        return name_of
    if isinstance(row := getattr(value, "model", None), Accumulator):
        return row
    msg = f"`{name}` must be a model such as lp.Sequential('fp16'), or a name, got {value!r} of {type(value).__name__}."
    raise TypeError(msg)
