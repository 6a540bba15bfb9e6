"""What rounding, overflow and subnormals mean: each policy is one member, defined by its docstring."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class _Policy(StrEnum):
    """A string enum whose members carry their definition as a docstring."""

    def __new__(cls, value: str, doc: str = "") -> Self:
        """Make the member ``value`` with the docstring ``doc``."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.__doc__ = doc
        return member


class Rounding(_Policy):
    """Which of the two neighbouring values an inexact value goes to; exact values never move.

    The neighbours are those of the target format with its exponent range unbounded above (overflow is decided
    afterwards, see `Overflow`) and its subnormals included.
    """

    NEAREST_EVEN = (
        "nearest_even",
        "To the nearer neighbour; a tie goes to the neighbour whose significand is even. With one significand bit "
        "(`float8_e8m0fnu`) a tie between two normal numbers goes to the larger (IEEE 754-2019, 4.3.1).",
    )
    NEAREST_AWAY = ("nearest_away", "To the nearer neighbour; a tie goes away from zero (IEEE 754-2019, 4.3.1).")
    TOWARD_ZERO = ("toward_zero", "To the neighbour that is smaller in magnitude (IEEE 754-2019, 4.3.2).")
    TOWARD_POSITIVE = ("toward_positive", "To the larger neighbour (IEEE 754-2019, 4.3.2).")
    TOWARD_NEGATIVE = ("toward_negative", "To the smaller neighbour (IEEE 754-2019, 4.3.2).")
    TO_ODD = (
        "to_odd",
        "To the neighbour whose significand is odd (von Neumann's jamming), so that a second rounding to two or more "
        "bits fewer gives what one rounding would have given.",
    )
    STOCHASTIC = (
        "stochastic",
        "Away from zero with probability t, the distance from the neighbour nearer zero in units of the gap, cut to "
        "`random_bits` bits. The random word is Philox4x32-10 of the seed and the element's index in C order.",
    )


class Overflow(_Policy):
    """What becomes of a value whose rounded magnitude exceeds the format's largest (or least, where unsigned).

    Under all three, rounding toward zero, to odd, or toward the infinity of the other sign gives the largest
    finite value for a finite source (IEEE 754-2019, 7.4).
    """

    INF = ("inf", "Infinity of the same sign. Infinite sources stay infinite. Needs a format with infinities.")
    NAN = ("nan", "NaN, for infinite sources too. Needs a format with NaN.")
    SATURATE = (
        "saturate",
        "The largest finite value of the same sign, for infinite sources too; a value below an unsigned "
        "format's range becomes its smallest value. NaN stays NaN (CUDA's SATFINITE, ONNX's saturate=1).",
    )


class Subnormals(_Policy):
    """Whether values below the smallest normal number survive, in formats that have any."""

    KEEP = ("keep", "They do (gradual underflow).")
    FLUSH = (
        "flush",
        "A rounded result below the smallest normal number becomes zero of the same sign (FTZ, tininess after "
        "rounding).",
    )
    FLUSH_INPUTS = (
        "flush_inputs",
        "A source below the smallest normal number of the format counts as zero of the same sign before it is "
        "rounded (DAZ).",
    )
