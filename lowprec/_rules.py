"""From formats and policies to the numbers that the kernels round and decode by, made once per combination."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec._checks import Array, Modes
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.kernels.rounding import Decoding, Rule
from lowprec.rounding import Overflow, Rounding, Subnormals

_MANTISSA = {32: 23, 64: 52}
_BIAS = {32: 127, 64: 1023}


def _bits(value: float, width: int) -> int:
    """Return the bits of a value in binary32 or binary64."""
    return int(np.array(value, f"f{width // 8}").view(f"u{width // 8}"))


def rule_width(fmt: Format) -> int:
    """Return the narrowest source, 32 or 64 bits, in whose words the format can be rounded to."""
    if isinstance(fmt, IntFormat):
        return 32 if fmt.bits <= 24 else 64
    return 32 if fmt.mantissa_bits <= 23 and fmt.emin >= -126 and fmt.emax <= 127 else 64


@lru_cache(maxsize=1024)
def make_rule(fmt: Format, width: int, modes: Modes, codes: bool) -> Array:
    """Return the `Rule` of rounding sources of ``width`` bits to codes, or to values of the same width.

    The array is made once and shared: kernels only read it.
    """
    policy = _checks.policy(fmt, modes.overflow)
    integer = isinstance(fmt, IntFormat)
    mantissa = _MANTISSA[width] if integer else fmt.mantissa_bits
    emin = _BIAS[width] + (_MANTISSA[width] if isinstance(fmt, IntFormat) else fmt.emin)
    smallest = 1 << fmt.mantissa_bits if codes else _bits(fmt.smallest_normal, width)
    flush_in = _bits(fmt.smallest_normal, width) if modes.subnormals is Subnormals.FLUSH_INPUTS else 0
    flush_out = smallest if modes.subnormals is Subnormals.FLUSH else 0
    if not fmt.has_subnormals:
        flush_in = flush_out = 0
    ones, rounding = (1 << width) - 1, modes.rounding
    half, odd, up, down = {
        Rounding.NEAREST_EVEN: (ones, 1, ones, ones),
        Rounding.NEAREST_AWAY: (ones, 0, 0, 0),
        Rounding.TOWARD_ZERO: (0, 0, 0, 0),
        Rounding.TOWARD_POSITIVE: (0, 0, ones, 0),
        Rounding.TOWARD_NEGATIVE: (0, 0, 0, ones),
        Rounding.TO_ODD: (0, 1, ones, ones),
        Rounding.STOCHASTIC: (0, 0, 0, 0),
    }[rounding]

    def result(value: float) -> int:
        """Return an end of the range, an infinity, or NaN as the kernel writes it."""
        if not codes:
            return _bits(value, width)
        if np.isnan(value):
            return fmt.nan_code or 0
        if isinstance(fmt, IntFormat):
            return int(value) & ((1 << fmt.bits) - 1)
        magnitude = fmt.inf_code if np.isinf(value) else 0 if value == fmt.min and not fmt.is_signed else fmt.max_code
        return (magnitude or 0) | (1 << (fmt.bits - 1) if value < 0 else 0)

    high = {Overflow.INF: np.inf, Overflow.NAN: np.nan, Overflow.SATURATE: fmt.max}[policy]
    low = {Overflow.INF: -np.inf, Overflow.NAN: np.nan, Overflow.SATURATE: fmt.min}[policy]
    if not fmt.is_signed:
        low = np.nan if fmt.has_nan and policy is not Overflow.SATURATE else fmt.min
    cut = rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
    over = fmt.max if cut or rounding is Rounding.TOWARD_NEGATIVE else high
    under = fmt.min if (cut or rounding is Rounding.TOWARD_POSITIVE) and fmt.is_signed else low
    floor = 0 if fmt.has_zero else (1 << fmt.mantissa_bits) if codes else _bits(fmt.min, width)
    if codes:
        most, least = fmt.max_code + floor, (fmt.max_code + int(integer)) * int(fmt.is_signed)
    else:
        most, least = _bits(fmt.max, width), _bits(abs(fmt.min), width) if fmt.is_signed else 0
    rule = Rule(
        mantissa=mantissa,
        drop=_MANTISSA[width] - mantissa,
        emin=emin,
        half=half,
        odd=odd,
        up=up,
        down=down,
        flush_in=flush_in,
        flush_out=flush_out,
        tiny=_bits(fmt.smallest_subnormal, width),
        floor=floor,
        most=most,
        least=least,
        over=result(over),
        under=result(under),
        inf=result(high),
        minus_inf=result(low),
        nan=result(np.nan),
        zero=0 if fmt.has_zero else result(low),
        sign=1 << (width - 1) if fmt.has_negative_zero else 0,
        negate=(1 << fmt.bits) - 1 if codes and integer else 0,
        sign_code=1 << (fmt.bits - 1) if codes and fmt.is_signed and not integer else 0,
        bits=_MANTISSA[width],
        infinity=_bits(np.inf, width),
        top=1 << (width - 1),
    )
    return np.array(rule, np.uint32 if width == 32 else np.uint64)


@lru_cache(maxsize=256)
def make_decoding(fmt: FloatFormat, width: int) -> Array:
    """Return the `Decoding` of a format's codes to values of ``width`` bits."""
    mantissa, bias, none = _MANTISSA[width], _BIAS[width], (1 << width) - 1
    gradual = fmt.has_zero and fmt.emin > 1 - bias
    decoding = Decoding(
        magnitude=(1 << fmt.magnitude_bits) - 1,
        shift=mantissa - fmt.mantissa_bits,
        rebias=(bias - fmt.bias) << mantissa,
        hidden=1 << fmt.mantissa_bits if gradual else 0,
        scale=((fmt.emin - fmt.mantissa_bits) << mantissa) & none,
        zero=0 if fmt.has_zero else _bits(fmt.min, width),
        inf=none if fmt.inf_code is None else fmt.inf_code,
        infinity=_bits(np.inf, width),
        last=fmt.max_code + int(fmt.has_inf),
        nan=_bits(np.nan, width),
        nan_code=none if fmt.nan != "negative_zero" or fmt.nan_code is None else fmt.nan_code,
        sign=width - 1,
    )
    return np.array(decoding, np.uint32 if width == 32 else np.uint64)


def decode_width(fmt: FloatFormat) -> int | None:
    """Return 32 if float32 holds every value and `decode_word` can make it in 32 bits, 64 if only it can, or None."""
    if not fits(fmt, np.dtype(np.float32)):
        return None
    normal = fmt.has_zero and (fmt.emin == -126 or fmt.emin - fmt.mantissa_bits >= -126)
    return 32 if normal or (fmt.mantissa_bits == 0 and fmt.bias == 127) else 64


def fits(fmt: Format, dtype: np.dtype[Any]) -> bool:
    """Say whether a float dtype holds every value of the format."""
    mantissa, smallest, largest = {
        2: (10, 2.0**-24, 65504.0),
        4: (23, 2.0**-149, float(np.finfo(np.float32).max)),
        8: (52, 2.0**-1074, np.inf),
    }[dtype.itemsize]
    last = fmt.smallest_subnormal if fmt.has_zero else fmt.min * fmt.eps
    if isinstance(fmt, IntFormat):
        return fmt.bits <= mantissa + 1
    return fmt.mantissa_bits <= mantissa and last >= smallest and fmt.max <= largest


# The mantissa from which a power of two goes up to the next; a tie goes up (one significand bit), odd is never up.
POWER_THRESHOLD = {
    Rounding.NEAREST_EVEN: 1 << 22,
    Rounding.NEAREST_AWAY: 1 << 22,
    Rounding.TOWARD_ZERO: 1 << 23,
    Rounding.TOWARD_POSITIVE: 1,
    Rounding.TOWARD_NEGATIVE: 1 << 23,
    Rounding.TO_ODD: 1 << 23,
}


def bare_powers(fmt: Format) -> bool:
    """Say whether a format is `float8_e8m0fnu` or one with its exponents: float32's, without mantissa, sign or zero."""
    return not fmt.has_zero and fmt.mantissa_bits == 0 and fmt.exponent_bits == 8 and fmt.bias == 127 and fmt.has_nan
