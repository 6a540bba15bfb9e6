"""One number at a time: decode, encode, round_to, fma, and the random words, written from the standards.

References
----------
IEEE 754-2019, IEEE Standard for Floating-Point Arithmetic.
OCP 8-bit Floating Point Specification (OFP8), revision 1.0; OCP Microscaling Formats (MX), version 1.0.
Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as _format
from lowprec.rounding import Overflow, Rounding, Subnormals

__all__ = ["decode", "dot", "encode", "fma", "matmul", "philox4x32", "random_word", "round_to"]

_HALF = Fraction(1, 2)


def decode(code: int, fmt: str | Format) -> float:
    """Return the value of a code, exactly.

    Parameters
    ----------
    code : int
        From 0 to ``2**bits - 1``.
    fmt : str or FloatFormat or IntFormat
        The format.

    Returns
    -------
    float
        Zeros carry their sign; infinities and NaN are Python's.

    Raises
    ------
    ValueError
        If `code` has more bits than the format.

    Notes
    -----
    IEEE 754-2019, 3.4: with sign S, biased exponent E and trailing significand T the value is
    ``(-1)**S * 2**(E - bias) * (1 + T / 2**m)``, or for E = 0 ``(-1)**S * 2**(1 - bias) * T / 2**m``. OFP8, 5, and
    OCP MX, 5.3, move or remove the special codes, as `FloatFormat` words it. An integer is two's complement.

    Examples
    --------
    >>> decode(0x7E, "e4m3fn"), decode(0x80, "e4m3fn"), decode(0xF, "int4")
    (448.0, -0.0, -1.0)
    """
    fmt = _format(fmt)
    if not 0 <= code < 2**fmt.bits:
        msg = f"`code` must be from 0 to {2**fmt.bits - 1} in {fmt.name}, got {code}."
        raise ValueError(msg)
    if isinstance(fmt, IntFormat):
        return float(code - 2**fmt.bits if fmt.is_signed and code >= 2 ** (fmt.bits - 1) else code)

    m = fmt.mantissa_bits
    top = 2 ** (fmt.exponent_bits + m) - 1
    negative, magnitude = divmod(code, top + 1)
    e, t = divmod(magnitude, 2**m)

    if fmt.nan == "ieee":
        is_inf = magnitude > top - 2**m and t == 0
        is_nan = magnitude > top - 2**m and t != 0
    else:
        is_nan = (fmt.nan == "all_ones" and magnitude == top) or (fmt.nan == "negative_zero" and code == top + 1)
        is_inf = fmt.has_inf and magnitude == (top - 1 if fmt.nan == "all_ones" else top)
    if is_nan:
        return math.nan
    if is_inf:
        return -math.inf if negative else math.inf

    if e == 0 and fmt.has_zero:
        value = _power_of_two(1 - fmt.bias) * Fraction(t, 2**m)
    else:
        value = _power_of_two(e - fmt.bias) * (1 + Fraction(t, 2**m))
    return -float(value) if negative else float(value)


def encode(
    x: float | Fraction,
    fmt: str | Format,
    *,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    word: int | None = None,
    random_bits: int = 32,
) -> int:
    """Round a real number once and return its code.

    Parameters
    ----------
    x : float or int or Fraction
        The source, taken exactly.
    fmt : str or FloatFormat or IntFormat
        The target.
    rounding : str
        A member of `Rounding`.
    overflow : str, optional
        A member of `Overflow`; the format's `default_overflow` if not given.
    subnormals : str
        A member of `Subnormals`; without effect on a format that has none.
    word : int, optional
        The 32 random bits of ``rounding="stochastic"``, see `random_word`.
    random_bits : int
        How many of them count, from the top: 1 to 32.

    Returns
    -------
    int
        The code; NaN is always `nan_code`.

    Raises
    ------
    ValueError
        If a policy is unknown, the format cannot express `overflow`, `x` is NaN and the format has none, or
        ``rounding="stochastic"`` comes without a `word`.

    Notes
    -----
    IEEE 754-2019, 4.3 (rounding, exponent range unbounded above), 7.4 (overflow, per direction), 7.5 (tininess after
    rounding, where results are flushed). An infinite source follows `overflow`. A negative source whose rounded
    magnitude is not zero is below the range of an unsigned format: NaN, or the smallest value under ``"saturate"`` or
    where there is no NaN. The same holds for a source of zero in a format without zero.

    Examples
    --------
    >>> hex(encode(464.0, "e4m3fn")), hex(encode(464.01, "e4m3fn"))
    ('0x7e', '0x7f')
    >>> encode(2**70, "int8"), encode(-0.5, "int8", rounding="toward_negative")
    (127, 255)
    """
    fmt = _format(fmt)
    mode, overflow, subnormals = Rounding(rounding), _overflow(overflow, fmt), Subnormals(subnormals)
    if not fmt.has_subnormals:
        subnormals = Subnormals.KEEP
    if isinstance(x, float) and math.isnan(x):
        return _nan_code(fmt, x)
    negative = math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0
    infinite = isinstance(x, float) and math.isinf(x)
    magnitude = Fraction(0) if infinite else abs(Fraction(x))

    smallest_normal = Fraction(fmt.smallest_normal)
    if subnormals is Subnormals.FLUSH_INPUTS and magnitude < smallest_normal:
        magnitude = Fraction(0)
    if not fmt.has_zero and magnitude == 0 and not infinite:
        return _below_range(fmt, overflow)

    rounded = _round_magnitude(magnitude, fmt, mode, negative, word, random_bits)
    largest = Fraction(-fmt.min if negative and fmt.is_signed else fmt.max)
    if negative and not fmt.is_signed:
        flushed = subnormals is Subnormals.FLUSH and rounded < smallest_normal
        return _below_range(fmt, overflow) if infinite or (rounded > 0 and not flushed) else 0
    if infinite or rounded > largest:
        inward = (
            mode in (Rounding.TOWARD_ZERO, Rounding.TO_ODD)
            or (mode is Rounding.TOWARD_NEGATIVE and not negative)
            or (mode is Rounding.TOWARD_POSITIVE and negative)
        )
        if overflow is Overflow.SATURATE or (inward and not infinite):
            rounded = largest
        elif overflow is Overflow.NAN:
            return _nan_code(fmt, x)
        else:
            return _signed_code(_present(fmt.inf_code), negative, fmt)
    if subnormals is Subnormals.FLUSH and rounded < smallest_normal:
        rounded = Fraction(0)
    return _signed_code(_magnitude_code(rounded, fmt), negative, fmt)


def round_to(
    x: float | Fraction,
    fmt: str | Format,
    *,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    word: int | None = None,
    random_bits: int = 32,
) -> float:
    """Round a real number once and return the value it lands on: `decode` of `encode`.

    Parameters
    ----------
    x, fmt, rounding, overflow, subnormals, word, random_bits
        As in `encode`.

    Returns
    -------
    float
        A value of the format.

    Raises
    ------
    ValueError
        As in `encode`.

    Examples
    --------
    >>> round_to(0.1, "bf16"), round_to(-0.1, "e2m1fn")
    (0.10009765625, -0.0)
    """
    policies = {"rounding": rounding, "overflow": overflow, "subnormals": subnormals}
    return decode(encode(x, fmt, **policies, word=word, random_bits=random_bits), fmt)  # type: ignore[arg-type]


def _overflow(overflow: str | None, fmt: Format) -> Overflow:
    """Return the policy, after checking that the format can express it."""
    policy = Overflow(fmt.default_overflow if overflow is None else overflow)
    if (policy is Overflow.INF and not fmt.has_inf) or (policy is Overflow.NAN and not fmt.has_nan):
        msg = f"`overflow` must be a policy that {fmt.name} can express, got {str(policy)!r}."
        raise ValueError(msg)
    return policy


def _round_magnitude(
    magnitude: Fraction, fmt: Format, mode: Rounding, negative: bool, word: int | None, random_bits: int
) -> Fraction:
    """Round ``magnitude`` to a multiple of its quantum (IEEE 754-2019, 4.3), whatever the format's largest value."""
    if not fmt.has_zero and magnitude < Fraction(fmt.smallest_normal):
        return Fraction(fmt.smallest_normal)
    quantum = _quantum(magnitude, fmt)
    significand = magnitude // quantum
    t = magnitude / quantum - significand
    if t == 0:
        return magnitude
    match mode:
        case Rounding.NEAREST_EVEN:
            away = t > _HALF or (t == _HALF and significand % 2 == 1)
        case Rounding.NEAREST_AWAY:
            away = t >= _HALF
        case Rounding.TOWARD_ZERO:
            away = False
        case Rounding.TOWARD_POSITIVE:
            away = not negative
        case Rounding.TOWARD_NEGATIVE:
            away = negative
        case Rounding.TO_ODD:
            away = significand % 2 == 0
        case Rounding.STOCHASTIC:
            if word is None or not 0 <= word < 2**32 or not 1 <= random_bits <= 32:
                msg = f"`word` must have 32 bits and `random_bits` be from 1 to 32, got {word} and {random_bits}."
                raise ValueError(msg)
            away = math.floor(t * 2**random_bits) + word // 2 ** (32 - random_bits) >= 2**random_bits
    return (significand + 1) * quantum if away else significand * quantum


def _quantum(magnitude: Fraction, fmt: Format) -> Fraction:
    """Return the gap between the neighbours of ``magnitude``: that of its binade, or of the lowest one."""
    if isinstance(fmt, IntFormat):
        return Fraction(1)
    return _power_of_two(_exponent(magnitude, fmt) - fmt.mantissa_bits)


def _exponent(magnitude: Fraction, fmt: FloatFormat) -> int:
    """Return floor(log2(magnitude)), but not less than the exponent of the smallest normal number."""
    e = 1 - fmt.bias if fmt.has_zero else -fmt.bias
    n, d = magnitude.numerator, magnitude.denominator
    if n == 0:
        return e
    guess = n.bit_length() - d.bit_length()  # log2(magnitude) lies strictly between guess - 1 and guess + 1
    return max(e, guess if magnitude >= _power_of_two(guess) else guess - 1)


def _magnitude_code(magnitude: Fraction, fmt: Format) -> int:
    """Return the code of a magnitude that the format holds: the inverse of `decode`'s formula."""
    if isinstance(fmt, IntFormat):
        return int(magnitude)
    e, m = _exponent(magnitude, fmt), fmt.mantissa_bits
    significand = int(magnitude / _power_of_two(e - m))
    if significand < 2**m:
        return significand
    return ((e + fmt.bias) << m) + (significand - (1 << m))


def _signed_code(magnitude_code: int, negative: bool, fmt: Format) -> int:
    """Give a magnitude's code its sign: two's complement, or a sign bit, but no code of -0 that the format lacks."""
    if not negative or (magnitude_code == 0 and not fmt.has_negative_zero):
        return magnitude_code
    if isinstance(fmt, IntFormat):
        return (1 << fmt.bits) - magnitude_code
    return (1 << (fmt.bits - 1)) + magnitude_code


def _below_range(fmt: Format, overflow: Overflow) -> int:
    """Return the code of a source below an unsigned format's range."""
    return 0 if overflow is Overflow.SATURATE or fmt.nan_code is None else fmt.nan_code


def _nan_code(fmt: Format, x: float | Fraction) -> int:
    """Return the code of the canonical NaN."""
    if fmt.nan_code is None:
        msg = f"`x` must not be NaN in {fmt.name}, which has no NaN, got {x}."
        raise ValueError(msg)
    return fmt.nan_code


def _present(code: int | None) -> int:
    """Return a code that the policies have shown to exist."""
    if code is None:
        raise AssertionError
    return code


def _power_of_two(e: int) -> Fraction:
    """Return ``2**e`` exactly."""
    return Fraction(2**e) if e >= 0 else Fraction(1, 2**-e)


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Return Philox4x32-10 of a counter and a key.

    Parameters
    ----------
    counter : sequence of 4 int
        32 bits each.
    key : sequence of 2 int
        32 bits each.

    Returns
    -------
    tuple of 4 int
        32 bits each.

    Raises
    ------
    ValueError
        If there are not 4 and 2 numbers.

    Notes
    -----
    Salmon et al. 2011, 3.3, with ten rounds and the constants of table 2.

    Examples
    --------
    >>> [hex(word) for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def random_word(seed: int, index: int, stream: int = 0) -> int:
    """Return the 32 random bits of one element.

    Parameters
    ----------
    seed : int
        From 0 to ``2**64 - 1``: the key, low word first.
    index : int
        The element's index in C order: the first two words of the counter, low word first.
    stream : int
        The third word of the counter: 0 for `encode`, `round_to`, `cast` and the first operand of `matmul`, 1 for its
        second operand, 2 for its result.

    Returns
    -------
    int
        The first output of `philox4x32`.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> hex(random_word(0, 0))
    '0x6627e8d5'
    """
    return philox4x32((index % 2**32, index // 2**32, stream, 0), (seed % 2**32, seed // 2**32))[0]


def fma(a: float, b: float, r: float, fmt: str | FloatFormat) -> float:
    """Return ``a * b + r``, exact, rounded once to the nearest value of a format, ties to even.

    Parameters
    ----------
    a, b, r : float
        Any doubles.
    fmt : str or FloatFormat
        The format of the result; it overflows as its `default_overflow` says.

    Returns
    -------
    float
        A value of the format.

    Raises
    ------
    ValueError
        If the result is NaN and the format has none.

    Notes
    -----
    IEEE 754-2019, 5.4.1 (fusedMultiplyAdd), 6.1 (infinities), 6.3 (an exact zero sum of operands with unlike signs
    is +0), 7.2 (NaN from an infinity times zero, and from the difference of infinities).

    Examples
    --------
    >>> fma(1 + 2**-12, 1 - 2**-12, -1.0, "fp32") == -(2.0**-24)
    True
    """
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(r)):
        product_is_infinite = math.isinf(a) or math.isinf(b)
        product_sign = math.copysign(1.0, a) * math.copysign(1.0, b)
        if any(map(math.isnan, (a, b, r))) or (product_is_infinite and (a == 0 or b == 0)):
            return round_to(math.nan, fmt)
        if not product_is_infinite:
            return round_to(r, fmt)
        if math.isinf(r) and r * product_sign < 0:
            return round_to(math.nan, fmt)
        return round_to(product_sign * math.inf, fmt)
    exact = Fraction(a) * Fraction(b) + Fraction(r)
    if exact == 0:
        both_negative = math.copysign(1.0, a) * math.copysign(1.0, b) < 0 and math.copysign(1.0, r) < 0
        return round_to(-0.0 if both_negative else 0.0, fmt)
    return round_to(exact, fmt)


def dot(
    a: Sequence[float], b: Sequence[float], c: float | None = None, accumulator: str | FloatFormat = "float32"
) -> float:
    """Return ``c + sum(a[k] * b[k])``, one fused multiply-add after the other, k ascending.

    Parameters
    ----------
    a, b : sequence of float
        Of equal length, already in their formats.
    c : float, optional
        Where the sum starts, a value of the accumulator's format; +0 if not given.
    accumulator : str or FloatFormat
        The format that every step rounds to.

    Returns
    -------
    float
        A value of `accumulator`.

    Raises
    ------
    ValueError
        If the lengths differ.

    Notes
    -----
    ``r = c or +0; for k ascending: r = fma(a[k], b[k], r)``.

    Examples
    --------
    >>> dot([1.0, 2.0**-24, 2.0**-24], [1.0, 1.0, 1.0])
    1.0
    >>> dot([2.0**-24, 2.0**-24, 1.0], [1.0, 1.0, 1.0])
    1.0000001192092896
    """
    r = 0.0 if c is None else c
    for x, y in zip(a, b, strict=True):
        r = fma(x, y, r, accumulator)
    return r


def matmul(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    c: Sequence[Sequence[float]] | None = None,
    accumulator: str | FloatFormat = "float32",
) -> list[list[float]]:
    """Return ``c + a @ b`` of nested lists: `dot` of every row of `a` with every column of `b`.

    Parameters
    ----------
    a, b : nested sequences of float
        M by K and K by N; with K = 0, `b` is empty and the result has no columns unless `c` gives them.
    c : nested sequence of float, optional
        M by N; +0 if not given.
    accumulator : str or FloatFormat
        The format that every step rounds to.

    Returns
    -------
    list of list of float
        M by N.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> matmul([[1.0, 2.0]], [[3.0], [4.0]])
    [[11.0]]
    """
    columns: list[tuple[float, ...]] = list(zip(*b, strict=True))
    if not b and c:
        columns = [()] * len(c[0])
    return [
        [dot(row, column, None if c is None else c[i][j], accumulator) for j, column in enumerate(columns)]
        for i, row in enumerate(a)
    ]
