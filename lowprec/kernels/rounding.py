"""Rounding of one number, held as the bits of a float32 or float64: one branch-free path for every format and mode.

A `Rule` says all that a format, a rounding mode and the overflow and subnormal policies amount to, in words of the
source's width. Preconditions: the format's emin is not below the source's, and its precision not above the source's.

How it works: with ``shift`` the number of low significand bits to drop (more of them below the format's smallest
normal), ``significand + increment`` is cut at ``shift``; the increment, between 0 and ``2**shift - 1``, is what the
modes differ in. A carry out of the significand runs into the exponent by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from lowprec._jit import inline
from lowprec.kernels.words import (
    add,
    both,
    constant,
    either,
    equal,
    float_bits,
    integer_float,
    larger,
    less,
    pick,
    shl,
    shr,
    smaller,
    sub,
)


class Rule(NamedTuple):
    """The numbers that a rounding is made of; `lowprec.codec` makes them."""

    mantissa: int  # the format's trailing significand bits
    drop: int  # source mantissa bits beyond those
    emin: int  # the source's exponent field at the format's smallest normal, at least 1
    half: int  # mode: all ones if half of the dropped unit is added, else 0
    odd: int  # mode: 1 if the kept part's last bit is added, else 0
    up: int  # mode: added for positive numbers, then masked: 0, all ones (away) or -1 (with odd)
    down: int  # mode: the same for negative numbers
    flush_in: int  # source magnitudes below this count as zero
    flush_out: int  # result magnitudes below this become zero
    tiny: int  # bits of the smallest positive value
    floor: int  # formats without zero: no result magnitude lies below this (codes: and it is then taken off), else 0
    most: int  # largest magnitude of a positive result
    least: int  # largest magnitude of a negative result
    over: int  # result bits for a positive finite source beyond `most`
    under: int  # result bits for a negative finite source beyond `least`
    inf: int  # result bits for +infinity
    minus_inf: int  # result bits for -infinity
    nan: int  # result bits for NaN
    zero: int  # result bits for a source of +0 or -0, sign apart
    sign: int  # the sign bit where -0 exists, else 0
    negate: int  # codes of negative numbers are two's complement: all ones, else 0
    sign_code: int  # sign bit of a code
    bits: int  # the source's mantissa bits
    infinity: int  # the source's infinity
    top: int  # the source's sign bit


@inline
def rule(p):
    """Read a `Rule` out of an array, so that the compiler keeps it in registers."""
    return Rule(
        p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10],
        p[11], p[12], p[13], p[14], p[15], p[16], p[17], p[18], p[19], p[20], p[21], p[22], p[23], p[24],
    )  # fmt: skip


@inline
def split(u, f):
    """Split a source into its flushed magnitude, sign, exponent field and significand, and find what to drop."""
    zero, one = constant(u, 0), constant(u, 1)
    sign = both(u, f.top)
    magnitude = sub(u, sign)
    magnitude = pick(less(magnitude, f.flush_in), zero, magnitude)
    bits = f.bits
    field = shr(magnitude, bits)
    hidden = pick(equal(field, zero), zero, shl(one, bits))
    significand = either(both(magnitude, sub(shl(one, bits), one)), hidden)
    exponent = larger(field, one)
    shift = add(f.drop, sub(larger(f.emin, exponent), exponent))
    return magnitude, sign, exponent, significand, shift


@inline
def _increment(u, f, sign, significand, shift):
    """Return what the rounding mode adds before the cut, 0 to 2**shift - 1."""
    one = constant(u, 1)
    unit = shl(one, shift)
    last = both(shr(significand, shift), f.odd)
    by_sign = pick(equal(sign, constant(u, 0)), f.up, f.down)
    return both(add(add(both(shr(unit, one), f.half), last), by_sign), sub(unit, one))


@inline
def _specials(u, f, magnitude, sign, result, exceeds):
    """Put overflow, zeros, infinities and NaN where they belong; ``result`` already carries its sign."""
    positive = equal(sign, constant(u, 0))
    infinity = f.infinity
    result = pick(exceeds, pick(positive, f.over, f.under), result)
    result = pick(equal(magnitude, infinity), pick(positive, f.inf, f.minus_inf), result)
    return pick(less(infinity, magnitude), f.nan, result)


@inline
def round_word(u, f):
    """Return the bits of the value that the source with bits ``u`` rounds to."""
    zero, one = constant(u, 0), constant(u, 1)
    magnitude, sign, _, significand, shift = split(u, f)
    bits = f.bits
    deep = less(bits, shift)
    shift = smaller(shift, add(bits, constant(u, 2)))
    increment = _increment(u, f, sign, significand, shift)
    # Down to the last mantissa bit the magnitude itself can be cut; below that only zero and `tiny` are left.
    cut = sub(zero, shl(one, smaller(shift, bits)))
    shallow_result = both(add(magnitude, increment), cut)
    deep_result = pick(equal(shr(add(significand, increment), shift), zero), zero, f.tiny)
    result = pick(deep, deep_result, shallow_result)
    return _finish_value(u, f, magnitude, sign, result)


@inline
def _finish_value(u, f, magnitude, sign, result):
    """Apply range, zero and sign rules to a rounded magnitude."""
    zero = constant(u, 0)
    result = larger(result, f.floor)
    result = pick(less(result, f.flush_out), zero, result)
    exceeds = less(pick(equal(sign, zero), f.most, f.least), result)
    signed = either(result, pick(equal(result, zero), both(sign, f.sign), sign))
    signed = pick(equal(magnitude, zero), either(f.zero, both(sign, f.sign)), signed)
    return _specials(u, f, magnitude, sign, signed, exceeds)


@inline
def encode_word(u, f):
    """Return the code that the source with bits ``u`` rounds to (range fields of the rule hold codes)."""
    magnitude, sign, exponent, significand, shift = split(u, f)
    shift = smaller(shift, add(f.bits, constant(u, 2)))
    kept = shr(add(significand, _increment(u, f, sign, significand, shift)), shift)
    return _finish_code(u, f, magnitude, sign, exponent, kept)


@inline
def _finish_code(u, f, magnitude, sign, exponent, kept):
    """Assemble a code from the kept significand; range, zero and sign rules as in `_finish_value`."""
    zero = constant(u, 0)
    result = add(shl(sub(larger(exponent, f.emin), f.emin), f.mantissa), kept)
    result = larger(pick(less(result, f.flush_out), zero, result), f.floor)
    positive = equal(sign, zero)
    exceeds = less(pick(positive, f.most, f.least), result)
    result = sub(result, f.floor)
    sign_code = pick(positive, zero, f.sign_code)
    zero_sign = pick(equal(f.sign, zero), zero, sign_code)
    negative = pick(equal(f.negate, zero), either(result, sign_code), both(sub(zero, result), f.negate))
    signed = pick(equal(result, zero), zero_sign, pick(positive, result, negative))
    signed = pick(equal(magnitude, zero), either(f.zero, zero_sign), signed)
    return _specials(u, f, magnitude, sign, signed, exceeds)


@inline
def _mul32(a, b):
    """Return the high and low 32 bits of a product, each in a 64-bit word."""
    product = a * b
    return shr(product, constant(a, 32)), both(product, constant(a, 0xFFFFFFFF))


@inline
def philox_block(seed, index, stream, step):
    """Return Philox4x32-10 (Salmon et al., SC'11) of a seed, element index, stream and step: four 32-bit words."""
    low = constant(seed, 0xFFFFFFFF)
    c0, c1, c2, c3 = both(index, low), shr(index, constant(seed, 32)), stream, step
    k0, k1 = both(seed, low), shr(seed, constant(seed, 32))
    for _ in range(10):
        h0, l0 = _mul32(constant(seed, 0xD2511F53), c0)
        h1, l1 = _mul32(constant(seed, 0xCD9E8D57), c2)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0 = both(add(k0, constant(seed, 0x9E3779B9)), low)
        k1 = both(add(k1, constant(seed, 0xBB67AE85)), low)
    return c0, c1, c2, c3


@inline
def random_word(seed, index, stream):
    """Return the first word of `philox_block`, of step 0."""
    return philox_block(seed, index, stream, constant(seed, 0))[0]


@inline
def _stochastic(u, f, significand, shift, word, random_bits):
    """Return the kept significand, one more where the fraction's top bits plus the random bits carry (64-bit)."""
    wide = constant(u, 63)
    at = smaller(shift, wide)
    rest = sub(significand, shl(shr(significand, at), at))
    coarse = shr(rest, smaller(sub(larger(shift, random_bits), random_bits), wide))
    fine = shl(rest, smaller(sub(larger(random_bits, shift), shift), wide))
    fraction = pick(less(shift, random_bits), fine, coarse)
    draw = shr(word, sub(constant(u, 32), random_bits))
    return add(shr(significand, at), shr(add(fraction, draw), random_bits))


@inline
def encode_word_stochastic(u, f, word, random_bits):
    """Return the code that the float64 with bits ``u`` rounds to, given its random word."""
    magnitude, sign, exponent, significand, shift = split(u, f)
    kept = _stochastic(u, f, significand, shift, word, random_bits)
    return _finish_code(u, f, magnitude, sign, exponent, kept)


@inline
def round_word_stochastic(u, f, word, random_bits):
    """Return the bits of the value that the float64 with bits ``u`` rounds to, given its random word."""
    magnitude, sign, exponent, significand, shift = split(u, f)
    kept = _stochastic(u, f, significand, shift, word, random_bits)
    bits = f.bits
    zero = constant(u, 0)
    base = add(shl(sub(exponent, constant(u, 1)), bits), shl(kept, smaller(shift, bits)))
    # A source below the format's last place: nothing or one `tiny` is kept.
    result = pick(less(bits, shift), pick(equal(kept, zero), zero, f.tiny), base)
    return _finish_value(u, f, magnitude, sign, result)


class Decoding(NamedTuple):
    """The numbers that decoding is made of; `lowprec.codec` makes them."""

    magnitude: int  # mask of a code without its sign
    shift: int  # result mantissa bits minus the format's
    rebias: int  # added to the shifted code
    hidden: int  # first code of a normal number, 0 where shifting serves for subnormals too
    scale: int  # exponent of the smallest subnormal, in the result's exponent field
    zero: int  # result bits of code 0
    inf: int  # code of infinity, all ones if there is none
    infinity: int  # result bits of infinity
    last: int  # largest magnitude that is not NaN
    nan: int  # result bits of NaN
    nan_code: int  # one more code that is NaN, all ones if there is none
    sign: int  # position of the result's sign bit


@inline
def decoding(p):
    """Read a `Decoding` out of an array."""
    return Decoding(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11])


@inline
def decode_word(code, p):
    """Return the bits of a code's value; ``p`` is a `Decoding`."""
    zero, one = constant(code, 0), constant(code, 1)
    magnitude = both(code, p.magnitude)
    negative = less(p.magnitude, code)
    normal = add(shl(magnitude, p.shift), p.rebias)
    below = add(float_bits(integer_float(magnitude)), p.scale)
    result = pick(less(magnitude, p.hidden), below, normal)
    result = pick(equal(magnitude, zero), p.zero, result)
    result = pick(equal(magnitude, p.inf), p.infinity, result)
    result = either(result, pick(negative, shl(one, p.sign), zero))
    nan = less(p.last, magnitude)
    result = pick(nan, p.nan, result)
    return pick(equal(code, p.nan_code), p.nan, result)


@inline
def power_code(u, threshold, f):
    """Return the code of a format of bare powers of two from 2**-127 on, for the float32 with bits ``u``.

    The code is the exponent field, plus one if the mantissa reaches the threshold. Subnormal sources from 2**-127 on
    have their leading bit where others have half an ulp; smaller ones become the smallest power.
    """
    zero, one = constant(u, 0), constant(u, 1)
    sign = both(u, constant(u, 0x80000000))
    magnitude = sub(u, sign)
    field = shr(magnitude, constant(u, 23))
    mantissa = both(magnitude, constant(u, 0x7FFFFF))
    half = constant(u, 0x400000)
    below = shl(sub(larger(mantissa, half), half), one)
    mantissa = pick(equal(field, zero), below, mantissa)
    code = add(field, pick(less(mantissa, threshold), zero, one))
    code = pick(less(f.most, add(code, f.floor)), f.over, code)
    code = pick(equal(magnitude, zero), f.zero, code)
    code = pick(equal(magnitude, constant(u, 0x7F800000)), f.inf, code)
    code = pick(equal(sign, zero), code, f.under)
    return pick(less(constant(u, 0x7F800000), magnitude), f.nan, code)


@inline
def power_bits(code, nan):
    """Return the bits of the float32 value of such a code."""
    bits = pick(equal(code, constant(code, 0)), constant(code, 0x400000), shl(code, constant(code, 23)))
    return pick(equal(code, nan), constant(code, 0x7FC00000), bits)
