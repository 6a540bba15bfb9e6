"""mac: what a multiplier, an adder and a register take."""

from __future__ import annotations

from lowprec.cost._result import Cost


def mac_of_words(words: str) -> Cost:
    """Return the MAC that words such as ``"int8/int32"`` name."""
    raise NotImplementedError(words)
