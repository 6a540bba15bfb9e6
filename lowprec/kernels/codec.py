"""Elementwise loops over one-dimensional contiguous arrays; ``x`` and ``out`` must not overlap unless they are one.

``x`` holds the bits of float32 or float64 numbers unless said otherwise; ``p`` is a `Rule` or a `Decoding`.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.rounding import (
    decode_word,
    decoding,
    encode_word,
    encode_word_stochastic,
    power_bits,
    power_code,
    random_word,
    round_word,
    round_word_stochastic,
    rule,
)
from lowprec.kernels.words import bits_float, float_bits, full_width


@njit()
def any_nan(x):
    """Say whether a float array holds a NaN."""
    full_width()
    found = 0
    for i in range(x.size):
        found |= x[i] != x[i]
    return found != 0


@njit()
def round_array(x, out, p):
    """Round to values, bits to bits."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = round_word(x[i], f)


@njit()
def round_in_place(x, p):
    """Round to values where they lie."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        x[i] = round_word(x[i], f)


@njit()
def round_wide(x, out, p):
    """Round float32 numbers to values by a 64-bit rule, for formats whose exponents float32 lacks."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = bits_float(round_word(float_bits(np.float64(x[i])), f))


@njit()
def encode_powers(x, out, p, threshold):
    """Round float32 bits to codes of bare powers of two from 2**-127 on; ``p`` is the rule for codes."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = power_code(x[i], threshold, f)


@njit()
def round_powers(x, out, p, threshold):
    """Round float32 bits to values of such a format; ``p`` is the rule for codes."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = power_bits(power_code(x[i], threshold, f), f.nan)


@njit()
def round_stochastic(x, out, p, seed, start, stream, random_bits):
    """Round float numbers to values; element i has the index ``start + i``."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        word = random_word(seed, start + np.uint64(i), stream)
        out[i] = bits_float(round_word_stochastic(float_bits(np.float64(x[i])), f, word, random_bits))


@njit()
def encode_array(x, out, p):
    """Round to codes."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = encode_word(x[i], f)


@njit()
def encode_wide(x, out, p):
    """Round float32 numbers to codes by a 64-bit rule."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        out[i] = encode_word(float_bits(np.float64(x[i])), f)


@njit()
def encode_stochastic(x, out, p, seed, start, stream, random_bits):
    """Round float numbers to codes; element i has the index ``start + i``."""
    full_width()
    f = rule(p)
    for i in range(x.size):
        word = random_word(seed, start + np.uint64(i), stream)
        out[i] = encode_word_stochastic(float_bits(np.float64(x[i])), f, word, random_bits)


@njit()
def decode_32(codes, out, p):
    """Write the bits of the float32 values of codes."""
    full_width()
    d = decoding(p)
    for i in range(codes.size):
        out[i] = decode_word(np.uint32(codes[i]), d)


@njit()
def decode_64(codes, out, p):
    """Write the bits of the float64 values of codes."""
    full_width()
    d = decoding(p)
    for i in range(codes.size):
        out[i] = decode_word(np.uint64(codes[i]), d)


@njit()
def decode_integer(codes, out, sign, modulus):
    """Write the values of integer codes: those from ``sign`` on stand for themselves minus ``modulus``."""
    full_width()
    for i in range(codes.size):
        value = np.int64(codes[i])
        out[i] = value - (modulus if value >= sign else 0)
