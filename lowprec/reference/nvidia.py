"""NVIDIA tensor cores: `FusedTruncated`, its scaled forms for MX and NVFP4, and FP8 by way of float16.

References
----------
MMA-Sim (arXiv:2511.10909); Khattak and Mikaitis (arXiv:2512.07004).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from lowprec.accumulators import Fp8ViaF16, FusedTruncated, FusedTruncatedGroupScaled, FusedTruncatedScaled
from lowprec.formats import FloatFormat
from lowprec.reference.numbers import decode, encode
from lowprec.reference.reals import add, real, rounded
from lowprec.reference.terms import Term, blocks, pack, product, shift_truncated, special_sum, term

_FLOAT16 = FloatFormat("float16", exponent_bits=5, mantissa_bits=10)


def special_code(special: float, fmt: FloatFormat) -> int:
    """Return an infinity, or the NaN of tensor cores: every bit but the sign set."""
    if math.isnan(special):
        return int(2**fmt.magnitude_bits - 1)
    return encode(special, fmt)


def positive_zero(code: int, fmt: FloatFormat) -> int:
    """Return the code, -0 made +0."""
    return 0 if code == 2 ** (fmt.bits - 1) else code


def fused_block(
    terms: Sequence[Term],
    fraction_bits: int,
    floor: int,
    out: FloatFormat,
    *,
    nearest: bool = False,
    kept: int | None = None,
) -> int:
    """Return the code of one fused sum; c is one of the terms."""
    special = special_sum(terms)
    if special is not None:
        return special_code(special, out)
    e = max([floor, *(t.x for t in terms if t.m != 0)])
    total = sum(shift_truncated(t.m, fraction_bits - t.p + t.x - e) for t in terms)
    return positive_zero(pack(total, e - fraction_bits, out, nearest=nearest, kept=kept), out)


def fused_truncated(
    model: FusedTruncated,
    a: Sequence[int],
    b: Sequence[int],
    c: int,
    formats: tuple[FloatFormat, FloatFormat],
    c_format: FloatFormat,
) -> int:
    """Return the code of the sum; only the first c is in `c_format`."""
    products = [product(term(x, formats[0]), term(y, formats[1])) for x, y in zip(a, b, strict=True)]
    out, nearest = model.out, model.rounding == "nearest_even"
    for block in blocks(products, model.length):
        terms = [*block, term(c, c_format)]
        c = fused_block(
            terms, model.fraction_bits, model.exponent_floor or 0, out, nearest=nearest, kept=model.kept_bits
        )
        c_format = out
    return c if c_format == out else encode(decode(c, c_format), out)


def scaled(
    model: FusedTruncatedScaled,
    a: Sequence[int],
    b: Sequence[int],
    c: int,
    formats: tuple[FloatFormat, FloatFormat],
    scales: tuple[Sequence[Term], Sequence[Term]],
) -> int:
    """Return the code of the sum; one scale of each operand for each block."""
    out = model.result_format
    products = [product(term(x, formats[0]), term(y, formats[1])) for x, y in zip(a, b, strict=True)]
    for block, sa, sb in zip(blocks(products, model.length), *scales, strict=True):
        by = product(sa, sb)
        terms = [t._replace(x=t.x + by.x) for t in block]
        terms += [term(c, out), Term(0, 0, 0, by.special)]
        c = fused_block(terms, model.fraction_bits, model.exponent_floor, out)
    return c


def group_scaled(
    model: FusedTruncatedGroupScaled,
    a: Sequence[int],
    b: Sequence[int],
    c: int,
    formats: tuple[FloatFormat, FloatFormat],
    scales: tuple[Sequence[Term], Sequence[Term]],
) -> int:
    """Return the code of the sum; a group of products is summed exactly and is one addend."""
    out, floor = model.result_format, model.exponent_floor
    products = [product(term(x, formats[0]), term(y, formats[1])) for x, y in zip(a, b, strict=True)]
    for start in range(0, len(products), model.length):
        addend = term(c, out)
        groups, specials = [], [addend]
        for g in range(start, min(start + model.length, len(products)), model.group):
            members = products[g : g + model.group]
            by = product(*(each[g // model.scale_block] for each in scales))
            specials += [*members, by]
            exact = sum((Fraction(t.m) * Fraction(2) ** (t.x - t.p) for t in members), Fraction(0))
            is_zero = by.m == 0 or all(t.m == 0 for t in members)
            groups.append((exact * by.m / 2**by.p, floor if is_zero else by.x))
        special = special_sum(specials)
        if special is not None:
            c = special_code(special, out)
            continue
        e = max([floor if addend.m == 0 else addend.x, *(x for _, x in groups)])
        total = shift_truncated(addend.m, model.fraction_bits - addend.p + addend.x - e)
        total += sum(math.trunc(value * Fraction(2) ** (model.fraction_bits + x - e)) for value, x in groups)
        c = positive_zero(pack(total, e - model.fraction_bits, out, nearest=False), out)
    return c


def fp8_via_f16(
    model: Fp8ViaF16, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: operands become float16, two fused sums of 16 start from +0, c is added after."""
    out = model.out
    floor, nearest = (-21, True) if out.name == "float16" else (-133, False)
    products = [product(_half(x, formats[0]), _half(y, formats[1])) for x, y in zip(a, b, strict=True)]
    for block in blocks(products, model.length):
        t = 0
        for first in (0, 2):
            part = [p for k, p in enumerate(block) if k % 4 in (first, first + 1)]
            t = fused_block([*part, term(t, out)], 25, floor, out, nearest=nearest)
        total = add(real(t, out), real(c, out))
        c = special_code(math.nan, out) if total.special == "nan" else rounded(total, out)
    return c


def _half(code: int, fmt: FloatFormat) -> Term:
    """Return an operand as the float16 that the compiler makes of it."""
    value = decode(code, fmt)
    half = encode(value, _FLOAT16)
    if not math.isnan(value) and decode(half, _FLOAT16) != value:
        msg = f"`formats` must be within float16 for this model, got {fmt}, whose {value} is not."
        raise ValueError(msg)
    return term(half, _FLOAT16)
