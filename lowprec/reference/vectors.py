"""Vector and tile units of CPUs: VDPBF16PS, AMX, Arm BFDOT; they work on float32 codes because NaN payloads count.

References
----------
Intel SDM, volume 2, VDPBF16PS and TDPBF16PS; Arm ARM, shared pseudocode of BFDOT and BFMMLA.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lowprec.accumulators import BfDotFused, BfDotRoundOdd, EvenOddPair, FmaPairOddFirst
from lowprec.formats import FloatFormat
from lowprec.reference.reals import Real, add, multiply, real, rounded

_FLOAT32 = FloatFormat("float32", exponent_bits=8, mantissa_bits=23)
_TINY = Fraction(2) ** -126  # the smallest normal number
_WIDE = FloatFormat("wide", exponent_bits=11, mantissa_bits=23)  # 24 bits, and room for any sum of float32 products
_QUIET = 1 << 22
_X86_DEFAULT = 0xFFC00000
_ARM_DEFAULT = 0x7FC00000


def widen(code: int, fmt: FloatFormat) -> int:
    """Return the float32 code of a value, a NaN's sign and payload kept, its quiet bit as it is."""
    if fmt.mantissa_bits > 23 or fmt.exponent_bits > 8:
        msg = f"`formats` must be within float32 for this model, got {fmt}."
        raise ValueError(msg)
    x = real(code, fmt)
    if x.special != "nan" or fmt.nan != "ieee":
        return rounded(x, _FLOAT32)
    sign, payload = code >> (fmt.bits - 1), code & ((1 << fmt.mantissa_bits) - 1)
    return (sign << 31) | 0x7F800000 | (payload << (23 - fmt.mantissa_bits))


def _pairs(
    a: Sequence[int], b: Sequence[int], formats: Sequence[FloatFormat], length: int
) -> list[list[tuple[int, int]]]:
    """Return blocks of `length` (a, b) pairs of float32 codes, the last one padded with +0."""
    both = [(widen(x, formats[0]), widen(y, formats[1])) for x, y in zip(a, b, strict=True)]
    both += [(0, 0)] * (-len(both) % length)
    return [both[i : i + length] for i in range(0, len(both), length)]


def _input(code: int) -> Real:
    """Return the number of a float32 code, a subnormal one zero of its sign."""
    x = real(code, _FLOAT32)
    return x._replace(magnitude=Fraction(0)) if not x.special and x.magnitude < _TINY else x


# ------------------------------------------------------------------------------------------------------------- x86
def _first_nan(codes: Sequence[int]) -> int | None:
    """Return the first NaN of some operands, quieted."""
    return next((code | _QUIET for code in codes if code & 0x7FFFFFFF > 0x7F800000), None)


def _flushed(x: Real) -> int:
    """Round to 24 bits, nearest even, whatever the exponent; then zero below 2**-126 and infinity above the range."""
    if x.special == "nan":
        return _X86_DEFAULT
    wide = real(rounded(x, _WIDE), _WIDE)
    return rounded(wide, _FLOAT32, subnormals="flush_inputs")


def fma86(x: int, y: int, z: int) -> int:
    """Return ``x * y + z`` on float32 codes as VDPBF16PS does it."""
    nan = _first_nan((x, y, z))
    return _flushed(add(multiply(_input(x), _input(y)), _input(z))) if nan is None else nan


def add86(x: int, y: int) -> int:
    """Return ``x + y`` on float32 codes, with the rules of `fma86`."""
    nan = _first_nan((x, y))
    return _flushed(add(_input(x), _input(y))) if nan is None else nan


def fma_pair_odd_first(
    model: FmaPairOddFirst, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: in each pair the odd element first."""
    for even, odd in _pairs(a, b, formats, model.length):
        c = fma86(*even, fma86(*odd, c))
    return c


def even_odd_pair(
    model: EvenOddPair, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: even and odd k apart from +0, added, then c."""
    for block in _pairs(a, b, formats, model.length):
        sums = [0, 0]
        for k, (x, y) in enumerate(block):
            sums[k % 2] = fma86(x, y, sums[k % 2])
        c = add86(c, add86(*sums))
    return c


# ------------------------------------------------------------------------------------------------------------- Arm
def _to_odd(x: Real) -> Real:
    """Round to odd; zero below 2**-126 before rounding, infinity from 2**128 on."""
    if x.special:
        return x
    if x.magnitude < _TINY:
        return x._replace(magnitude=Fraction(0))
    if x.magnitude >= Fraction(2) ** 128:
        return x._replace(special="inf")
    return real(rounded(x, _FLOAT32, "to_odd"), _FLOAT32)


def _arm_code(x: Real) -> int:
    """Return the float32 code, every NaN the default one."""
    return _ARM_DEFAULT if x.special == "nan" else rounded(x, _FLOAT32)


def bf_dot_round_odd(
    model: BfDotRoundOdd, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: two products, their sum, then c, each rounded to odd."""
    for pair in _pairs(a, b, formats, model.length):
        products = [_to_odd(multiply(_input(x), _input(y))) for x, y in pair]
        c = _arm_code(_to_odd(add(_input(c), _to_odd(add(*products)))))
    return c


def bf_dot_fused(
    model: BfDotFused, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: the exact sum of two products rounded, then c added."""
    for pair in _pairs(a, b, formats, model.length):
        t = rounded(add(*(multiply(real(x, _FLOAT32), real(y, _FLOAT32)) for x, y in pair)), _FLOAT32)
        c = _arm_code(add(real(c, _FLOAT32), real(t, _FLOAT32)))
    return c
