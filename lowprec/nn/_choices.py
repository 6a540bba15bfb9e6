"""The formats, the sum, the sparsity and the scales that an arithmetic is asked for, checked."""

from __future__ import annotations

from typing import Any

from lowprec._checks import fmt_of
from lowprec._patterns import hardware_pattern
from lowprec.accumulators import Chunked, Sequential
from lowprec.blocks import BlockFormat, is_block_name
from lowprec.cost._candidates import Candidate, _spelled
from lowprec.formats import FloatFormat, IntFormat
from lowprec.nn._weights import WeightRule

CRITERIA = ("magnitude", "wanda", "sparsegpt")


def candidate_of(dtype: Any, accumulator: Any, sparsity: str | None) -> Candidate:
    """Return formats and sum, or say what is wrong with them."""
    try:
        if isinstance(dtype, (str, Candidate)):
            found = Candidate.parse(dtype)
            plain = isinstance(dtype, str) and not set(dtype.strip()) & set(":/ ")
            if accumulator is not None or sparsity is not None:
                if not plain and accumulator is not None and found.accumulator != found.default_accumulator:
                    msg = f"`accumulator` must be named once, got {accumulator!r} beside {dtype!r}."
                    raise ValueError(msg)
                if found.sparsity is not None and sparsity not in (None, found.sparsity):
                    msg = f"`sparsity` must be named once, got {sparsity!r} beside {dtype!r}."
                    raise ValueError(msg)
                own = found.accumulator if accumulator is None else accumulator
                found = Candidate.parse(((found.x, found.w), own, sparsity or found.sparsity))
        else:
            pair = dtype if isinstance(dtype, tuple) else (dtype, dtype)
            if len(pair) != 2:
                msg = f"`dtype` must be a format or a pair of them, for activations and weights, got {dtype!r}."
                raise ValueError(msg)
            named = tuple(each if isinstance(each, BlockFormat) else _resolved(each) for each in pair)
            found = Candidate.parse((named, accumulator, sparsity))
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`formats`", "`dtype`")) from None
    if found.lanes is not None:
        msg = f"`dtype` must leave out the lanes, which are a matter of cost, got {dtype!r}."
        raise ValueError(msg)
    for fmt in (found.x, found.w):
        if isinstance(fmt, FloatFormat) and not (fmt.is_signed and fmt.has_zero):
            msg = f"`dtype` must hold negative values and zero, got {fmt.name}, a format of scales."
            raise ValueError(msg)
        if isinstance(fmt, IntFormat) and not fmt.is_signed:
            msg = f"`dtype` must be signed, got {fmt.name}; scales are symmetric. For weights: weights='{fmt.name}'."
            raise ValueError(msg)
    return found


def _resolved(value: Any) -> Any:
    """Return a format of anything that names one: a name, a dtype, a format."""
    return value if is_block_name(value) else fmt_of(value, "dtype")


def sparsity_of(value: Any) -> tuple[str | None, str]:
    """Return pattern and criterion."""
    if value is None:
        return None, "magnitude"
    if not isinstance(value, str):
        msg = f"`sparsity` must be a word such as '2:4' or '2:4 wanda', got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    words = value.split()
    if not 1 <= len(words) <= 2 or (len(words) == 2 and words[1] not in CRITERIA):
        msg = f"`sparsity` must be a pattern and one of {', '.join(CRITERIA)}, such as '2:4 wanda', got {value!r}."
        raise ValueError(msg)
    return str(hardware_pattern(words[0], "sparsity")), words[1] if len(words) == 2 else "magnitude"


def short(fmt: Any) -> str:
    """Return the short name of a format."""
    aliases = getattr(fmt, "aliases", ())
    return str(aliases[0] if aliases else fmt.name)


def summed(accumulator: Any) -> str:
    """Return a few words for what sums: a word that has one, else the call that makes the model."""
    if not isinstance(accumulator, Chunked):
        found = accumulator if isinstance(accumulator, str) else _spelled(accumulator)
        return found if isinstance(found, str) else repr(found)
    after = "" if accumulator.outer == Sequential() else f", then {summed(accumulator.outer)}"
    return f"{summed(accumulator.inner)} every {accumulator.every}{after}"


def called(rule: Any) -> str:
    """Return the name of a rule or function."""
    return str(rule) if isinstance(rule, WeightRule) else str(getattr(rule, "__name__", type(rule).__name__))
