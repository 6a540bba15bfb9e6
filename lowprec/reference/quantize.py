"""One block at a time: its scale, its zero point and its codes, in exact fractions.

The arithmetic of a quantiser is float32's (or float64's): every operation here is exact and then rounded once to that
format, by `lowprec.reference.numbers`.

References
----------
OCP Microscaling Formats (MX), version 1.0, 6.3 (conversion) and 5.3 (element formats).
NVIDIA, Pretraining Large Language Models with NVFP4, arXiv:2509.25149, section 2 and appendix C (two-level scales).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as _format
from lowprec.reference.numbers import decode, encode, round_to

__all__ = ["Block", "dequantize_block", "half_code", "nearest_code", "quantize_block", "scale_exponent", "tensor_scale"]

Element = str | Format | Sequence[float]


class Block(NamedTuple):
    """What a block becomes."""

    codes: tuple[int, ...]
    scale: float
    zero_point: int | None


def quantize_block(
    x: Sequence[float],
    element: Element,
    *,
    symmetric: bool = True,
    divisor: float | None = None,
    scale_format: str | FloatFormat = "float32",
    scale_rule: str = "nearest",
    unit: float = 1.0,
    tensor_scale: float | None = None,
    reciprocal: bool = False,
    arithmetic: str | FloatFormat = "float32",
) -> Block:
    """Find a block's scale, then encode the block with it.

    Parameters
    ----------
    x : sequence of float
        The numbers that share a scale, each a value of `arithmetic`; at least one.
    element : str, FloatFormat, IntFormat or sequence of float
        The format of the elements; a sequence is a table, the value of every code.
    symmetric : bool
        False finds a zero point too (integers only).
    divisor : float, optional
        What the largest magnitude is divided by. The element's largest value if not given.
    scale_format : str or FloatFormat
        The format of the scale.
    scale_rule : str
        ``"nearest"`` (even) or ``"up"`` rounds the quotient to `scale_format`; ``"floor"``, ``"ceil"``, ``"even"`` and
        ``"rceil"`` take a power of two, see `scale_exponent`.
    unit : float
        What an element's value 1 stands for at the scale 1, a power of two: 2**-6 in MXINT8.
    tensor_scale : float, optional
        The scale above the block's, see `tensor_scale`.
    reciprocal : bool
        For tables: multiply by the rounded reciprocal of the scale and compare with midpoints that are float32 numbers,
        as bitsandbytes does.
    arithmetic : str or FloatFormat
        What every operation is rounded to: ``"float32"`` or ``"float64"``.

    Returns
    -------
    Block
        The codes, the scale, and the zero point (None if symmetric).

    Raises
    ------
    ValueError
        If `x` is empty, `scale_rule` is unknown or does not go with zero points, or an affine or symmetric quantiser
        is asked for that the element does not have.

    Notes
    -----
    With all operations rounded to `arithmetic`, and a the largest magnitude::

        symmetric   s = a / (divisor * unit), affine s = (hi - lo) / (qmax - qmin), lo = min(x, 0), hi = max(x, 0)
        with a tensor scale g                  s = (a / divisor) / g
        after s has been rounded               t = s * unit or s * g
        zero point                             z = clip(rint(qmin - lo / t), qmin, qmax)
        codes of floats and tables             the nearest to x / t, ties to the even code (to the smaller value of a
                                               table), clipped to the largest values
        codes of integers                      clip(rint(x / t) + z)

    A signed integer's codes are clipped to ``[-qmax, qmax]`` if it is symmetric and `divisor` is not above qmax. A
    scale that rounds to 0 becomes the smallest positive one, a scale above the largest becomes the largest (power of
    two). Affine scales that are powers of two take the rule ``"rceil"`` with hi - lo and qmax - qmin. A block of
    zeros has the scale 1, or the smallest where scales are powers of two or have 8 bits (e8m0, e4m3). A block with a
    NaN or an infinity has the scale NaN and the codes 0.

    Examples
    --------
    >>> quantize_block([1.0, -3.0, 0.1], "int4")
    Block(codes=(2, 9, 0), scale=0.4285714328289032, zero_point=None)
    >>> quantize_block([1.0, 7.9, -0.0], "e2m1fn", scale_format="e8m0fnu", scale_rule="floor")
    Block(codes=(2, 7, 8), scale=1.0, zero_point=None)
    >>> quantize_block([-1.0, 2.0], "uint8", symmetric=False)
    Block(codes=(0, 255), scale=0.0117647061124444, zero_point=85)
    """
    if not x:
        msg = "`x` must have a number or more, got none."
        raise ValueError(msg)
    fmt = _format(element) if isinstance(element, str) else element
    _check_symmetry(fmt, symmetric)
    scales = _floats(scale_format)
    if not symmetric and scale_rule in ("floor", "ceil", "even"):
        msg = f"`scale_rule` must be nearest, up or rceil with zero points, got {scale_rule!r}."
        raise ValueError(msg)
    if not all(map(math.isfinite, x)):
        return Block((0,) * len(x), math.nan, None if symmetric else 0)

    low, high = _range(fmt)
    divisor = high if divisor is None else divisor
    absmax = max(map(abs, x))
    lo, hi = min(0.0, *x), max(0.0, *x)
    if symmetric:
        quotient = _rounded(Fraction(absmax) / (Fraction(divisor) * Fraction(unit)), arithmetic)
        if tensor_scale is not None:
            quotient = _rounded(Fraction(quotient) / Fraction(tensor_scale), arithmetic)
    else:
        width = _rounded(Fraction(hi) - Fraction(lo), arithmetic)
        quotient = _rounded(Fraction(width) / Fraction(high - low), arithmetic)

    quotient_rule = scale_rule in ("nearest", "up")
    if absmax == 0:
        scale = 1.0 if quotient_rule and scales.bits > 8 else scales.smallest_subnormal
    elif quotient_rule:
        mode = "nearest_even" if scale_rule == "nearest" else "toward_positive"
        scale = round_to(Fraction(quotient), scales, rounding=mode, overflow="saturate")
        scale = max(scale, scales.smallest_subnormal)
    else:
        most, by = (absmax, divisor) if symmetric else (width, high - low)
        e = scale_exponent(most, fmt, scale_rule, unit=unit, divisor=by, arithmetic=arithmetic)
        scale = max(round_to(_power(min(e, scales.emax)), scales), scales.smallest_subnormal)

    step = scale * unit
    if tensor_scale is not None:
        step = _rounded(Fraction(scale) * Fraction(tensor_scale), arithmetic)
        step = max(step, _floats(arithmetic).smallest_subnormal)

    if reciprocal and not isinstance(fmt, FloatFormat | IntFormat):
        inverse = round_to(1 / Fraction(step), "float32")  # infinite below 2**-128: divide there
        if math.isinf(inverse):
            quotients = [_divided(v, step, arithmetic) for v in x]
        else:
            quotients = [_rounded(Fraction(v) * Fraction(inverse), "float32") for v in x]
        return Block(tuple(half_code(v, fmt) for v in quotients), scale, None)
    if not isinstance(fmt, IntFormat):
        return Block(tuple(_code(_divided(v, step, arithmetic), fmt) for v in x), scale, None)
    zero = 0
    if not symmetric:
        shift = _rounded(Fraction(low) - Fraction(_rounded(Fraction(lo) / Fraction(step), arithmetic)), arithmetic)
        zero = min(max(round(Fraction(shift)), int(low)), int(high))  # Python's round: ties to even
    elif fmt.is_signed and divisor <= high:
        low = -high
    whole = (round(Fraction(_divided(v, step, arithmetic))) + zero for v in x)
    codes = tuple(min(max(q, int(low)), int(high)) % 2**fmt.bits for q in whole)
    return Block(codes, scale, None if symmetric else zero)


def scale_exponent(
    absmax: float,
    element: Element,
    rule: str,
    *,
    unit: float = 1.0,
    divisor: float | None = None,
    arithmetic: str | FloatFormat = "float32",
) -> int:
    """Return the exponent of a power-of-two scale, before the scale's format limits it.

    Parameters
    ----------
    absmax : float
        The largest magnitude of the block, not 0.
    element : str, FloatFormat, IntFormat or sequence of float
        The format of the elements.
    rule : {"floor", "ceil", "even", "rceil"}
        Which.
    unit : float
        What an element's value 1 stands for at the scale 1, a power of two.
    divisor : float, optional
        What ``"rceil"`` divides by, the element's largest value if not given.
    arithmetic : str or FloatFormat
        What the division of ``"rceil"`` is rounded to.

    Returns
    -------
    int
        E of the scale ``2**E``.

    Raises
    ------
    ValueError
        If `rule` is unknown.

    Notes
    -----
    With emax the exponent of M, the element's largest value times `unit`: ``"floor"``, ``floor(log2 a) - emax`` (OCP
    MX 1.0, 6.3); ``"ceil"``, ``ceil(log2 a) - emax``; ``"even"``, ``floor(log2 a') - emax``, where a' is a rounded to
    the element's significand, halves up; ``"rceil"``, ``ceil(log2(a / M))``, the quotient rounded to
    `arithmetic`, or with `divisor` times `unit` in the place of M.

    Examples
    --------
    >>> [scale_exponent(7.0, "e2m1fn", rule) for rule in ("floor", "ceil", "even", "rceil")]
    [0, 1, 1, 1]
    """
    fmt = _format(element) if isinstance(element, str) else element
    largest = _range(fmt)[1]
    emax, a = _floor_log2(Fraction(largest) * Fraction(unit)), Fraction(absmax)
    match rule:
        case "floor":
            return _floor_log2(a) - emax
        case "ceil":
            return _ceil_log2(a) - emax
        case "even":
            quantum = _power(_floor_log2(a) - _fraction_bits(fmt))
            return _floor_log2(math.floor(a / quantum + Fraction(1, 2)) * quantum) - emax
        case "rceil":
            quotient = _rounded(a / (Fraction(largest if divisor is None else divisor) * Fraction(unit)), arithmetic)
            return _ceil_log2(Fraction(max(quotient, _floats(arithmetic).smallest_subnormal)))
    msg = f"`rule` must be one of nearest, up, floor, ceil, even, rceil, got {rule!r}."
    raise ValueError(msg)


def tensor_scale(
    x: Sequence[float],
    element: Element = "e2m1fn",
    scale_format: str | FloatFormat = "e4m3fn",
    *,
    arithmetic: str | FloatFormat = "float32",
) -> float:
    """Return the scale of a whole tensor above the scales of its blocks.

    Parameters
    ----------
    x : sequence of float
        All numbers of the tensor.
    element : str, FloatFormat, IntFormat or sequence of float
        The format of the elements.
    scale_format : str or FloatFormat
        The format of the blocks' scales.
    arithmetic : str or FloatFormat
        What the division is rounded to.

    Returns
    -------
    float
        The largest magnitude divided by the product of both formats' largest values, rounded to `arithmetic` and then
        to float32; 1 if all numbers are 0, float32's smallest positive number if the quotient rounds to 0, and NaN if a
        number is not finite.

    Raises
    ------
    ValueError
        If `x` is empty.

    Examples
    --------
    >>> tensor_scale([1.0, -2688.0])
    1.0
    """
    if not all(map(math.isfinite, x)):
        return math.nan
    absmax = max(map(abs, x))
    if absmax == 0:
        return 1.0
    fmt = _format(element) if isinstance(element, str) else element
    most = Fraction(_range(fmt)[1]) * Fraction(_floats(scale_format).max)
    quotient = round_to(Fraction(_rounded(Fraction(absmax) / most, arithmetic)), "float32", overflow="saturate")
    return max(quotient, _floats("float32").smallest_subnormal)


def dequantize_block(
    block: Block, element: Element, *, tensor_scale: float | None = None, unit: float = 1.0, fmt: str = "float32"
) -> list[float]:
    """Return the numbers that a block stands for.

    Parameters
    ----------
    block : Block
        As `quantize_block` makes it.
    element : str, FloatFormat, IntFormat or sequence of float
        The format of the elements.
    tensor_scale : float, optional
        The scale above the block's.
    unit : float
        As in `quantize_block`.
    fmt : str
        The format of the numbers.

    Returns
    -------
    list of float
        ``(value - zero point) * scale * unit * tensor scale``, exact, rounded once to `fmt`, ties to even.

    Raises
    ------
    ValueError
        If a code has more bits than the element.

    Examples
    --------
    >>> dequantize_block(Block((0, 255), 0.5, 85), "uint8")
    [-42.5, 85.0]
    """
    factor = 1.0 if tensor_scale is None else tensor_scale
    if not math.isfinite(block.scale) or not math.isfinite(factor):
        return [math.nan] * len(block.codes)
    element = _format(element) if isinstance(element, str) else element
    step, zero = Fraction(block.scale) * Fraction(factor) * Fraction(unit), block.zero_point or 0
    values = [decode(c, element) if isinstance(element, FloatFormat | IntFormat) else element[c] for c in block.codes]
    return [math.copysign(round_to((Fraction(v) - zero) * step, fmt), v - zero) for v in values]


def nearest_code(x: float | Fraction, table: Sequence[float]) -> int:
    """Return the code of the value nearest to a number.

    Parameters
    ----------
    x : float or Fraction
        The number, finite.
    table : sequence of float
        The value of every code.

    Returns
    -------
    int
        Of two values at the same distance the smaller one's code, of two equal values the smaller code.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> nearest_code(0.5, [1.0, 0.0, 0.0])
    1
    """
    return min(range(len(table)), key=lambda c: (abs(Fraction(table[c]) - Fraction(x)), table[c], c))


def half_code(x: float, table: Sequence[float]) -> int:
    """Return the code of the value nearest to a number, by midpoints that are rounded to float32.

    Parameters
    ----------
    x : float
        The number, or an infinity.
    table : sequence of float
        The value of every code.

    Returns
    -------
    int
        At a midpoint the smaller value's code; between two codes of one value, that value is the midpoint.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> half_code(0.5, [1.0, 0.0, 0.0]), half_code(0.1, [1.0, 0.0, 0.0]), half_code(0.0, [1.0, 0.0, 0.0])
    (2, 2, 1)
    """
    order = sorted(range(len(table)), key=lambda c: (table[c], c))
    sums = [_rounded(Fraction(table[a]) + Fraction(table[b]), "float32") for a, b in pairwise(order)]
    return order[sum(x > s / 2 for s in sums)]


def _code(x: float, fmt: Format | Sequence[float]) -> int:
    """Return the code of a number in a float format or in a table, clipped to the range."""
    return encode(x, fmt, overflow="saturate") if isinstance(fmt, FloatFormat | IntFormat) else nearest_code(x, fmt)


def _check_symmetry(fmt: Format | Sequence[float], symmetric: bool) -> None:
    """Refuse what an element cannot do."""
    is_integer = isinstance(fmt, IntFormat)
    if symmetric and isinstance(fmt, IntFormat) and not fmt.is_signed:
        msg = f"`symmetric` must be False for {fmt.name}, which has no negative values, got True."
        raise ValueError(msg)
    if not symmetric and not is_integer:
        msg = "`symmetric` must be True for elements that are not integers, got False."
        raise ValueError(msg)


def _range(fmt: Format | Sequence[float]) -> tuple[float, float]:
    """Return the least and the largest value; of a table the largest magnitude, and its negative."""
    if isinstance(fmt, FloatFormat | IntFormat):
        return fmt.min, fmt.max
    largest = max(map(abs, fmt))
    return -largest, largest


def _fraction_bits(fmt: Format | Sequence[float]) -> int:
    """Return how many bits an element's significand has below its leading one."""
    if isinstance(fmt, IntFormat):
        return fmt.precision - 1
    if isinstance(fmt, FloatFormat):
        return fmt.mantissa_bits
    msg = '`rule` "even" must go with elements that have a significand, got a table.'
    raise ValueError(msg)


def _floats(fmt: str | FloatFormat) -> FloatFormat:
    """Return a float format."""
    found = _format(fmt)
    if not isinstance(found, FloatFormat):
        msg = f"`scale_format` and `arithmetic` must be float formats, got {found.name}."
        raise ValueError(msg)
    return found


def _rounded(exact: Fraction, arithmetic: str | FloatFormat) -> float:
    """Round an exact result once, ties to even; beyond the largest number it stays there."""
    return round_to(exact, arithmetic, overflow="saturate")


def _divided(x: float, step: float, arithmetic: str | FloatFormat) -> float:
    """Return ``x / step`` with the sign of a zero kept."""
    return math.copysign(_rounded(Fraction(x) / Fraction(step), arithmetic), x)


def _floor_log2(a: Fraction) -> int:
    """Return ``floor(log2 a)`` of a positive number."""
    e = a.numerator.bit_length() - a.denominator.bit_length()
    return e if a >= _power(e) else e - 1


def _ceil_log2(a: Fraction) -> int:
    """Return ``ceil(log2 a)`` of a positive number."""
    e = _floor_log2(a)
    return e if a == _power(e) else e + 1


def _power(e: int) -> Fraction:
    """Return ``2**e``."""
    return Fraction(2) ** e
