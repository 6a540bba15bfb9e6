"""Conversion of a run of an operand's elements: decoded, rounded to the operand's format, widened or narrowed.

Each converter is a C function ``convert(operand, source, count, target, worst, how)`` of addresses and counts, for one
kind of element and one of result; `lowprec.kernels.pack` calls them by address. ``how`` is one of the constants below.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from lowprec._jit import inline
from lowprec.kernels.nearest import nearest_run
from lowprec.kernels.rounding import Decoding, Rule, decode_word, decoding, round_word, rule
from lowprec.kernels.words import at_address, bits_float, float_bits, full_width

GENERAL = 0  # any rule
NEAREST = 1  # nearest even, subnormals kept: the short way, unless a magnitude beyond the limit turns up
EXACT = 2  # codes of the very format, or float32 and float64 as they are: nothing to round
RULE, DECODING = len(Rule._fields), len(Decoding._fields)


class Operand(NamedTuple):
    """Where an operand lies and how it is read: int64 numbers in this order."""

    data: int  # address of the element at row 0, k 0
    row_step: int  # elements from a row to the next
    k_step: int  # elements from a k to the next
    item: int  # bytes of an element
    step: int  # bytes of a number that it is converted to
    convert: int  # address of its converter
    rule: int  # address of the `Rule` of the format that it is rounded to
    decoding: int  # address of the `Decoding` of its codes (unused otherwise)
    how: int  # GENERAL, NEAREST or EXACT
    limit: int  # NEAREST: the largest source magnitude, as bits, that the short way is right for


FIELDS = len(Operand._fields)
_AT_RULE, _AT_DECODING = Operand._fields.index("rule"), Operand._fields.index("decoding")


@inline
def _operand_rule(operand, word):
    return rule(numba.carray(at_address(numba.carray(at_address(operand), FIELDS, np.int64)[_AT_RULE]), RULE, word))


@inline
def _from_floats(operand, source, count, target, worst, how, word, result):
    """Convert float32 or float64 numbers, given as their bits."""
    full_width()
    x, line = numba.carray(at_address(source), count, word), numba.carray(at_address(target), count, result)
    f = _operand_rule(operand, word)
    if how == EXACT:
        for i in range(count):
            line[i] = bits_float(x[i])
    elif how == NEAREST:
        nearest_run(source, target, count, worst, f.drop, f.emin, f.sign, line[0])
    else:
        for i in range(count):
            line[i] = bits_float(round_word(x[i], f))


@inline
def _from_wide(operand, source, count, target, result):
    """Convert float32 numbers by a rule of 64 bits."""
    full_width()
    x, line = numba.carray(at_address(source), count, np.float32), numba.carray(at_address(target), count, result)
    f = _operand_rule(operand, np.uint64)
    for i in range(count):
        line[i] = bits_float(round_word(float_bits(np.float64(x[i])), f))


@inline
def _from_codes(operand, source, count, target, how, code, result):
    """Convert codes."""
    full_width()
    x, line = numba.carray(at_address(source), count, code), numba.carray(at_address(target), count, result)
    f = _operand_rule(operand, np.uint32)
    at = numba.carray(at_address(operand), FIELDS, np.int64)[_AT_DECODING]
    d = decoding(numba.carray(at_address(at), DECODING, np.uint32))
    if how == EXACT:
        for i in range(count):
            line[i] = bits_float(decode_word(np.uint32(x[i]), d))
    else:
        for i in range(count):
            line[i] = bits_float(round_word(decode_word(np.uint32(x[i]), d), f))


def float32_single(operand, source, count, target, worst, how):
    """Convert float32 numbers by a 32-bit rule, to float32."""
    _from_floats(operand, source, count, target, worst, how, np.uint32, np.float32)


def wide_single(operand, source, count, target, worst, how):
    """Convert float32 numbers by a 64-bit rule, to float32."""
    _from_wide(operand, source, count, target, np.float32)


def float64_single(operand, source, count, target, worst, how):
    """Convert float64 numbers by a 64-bit rule, to float32."""
    _from_floats(operand, source, count, target, worst, how, np.uint64, np.float32)


def uint8_single(operand, source, count, target, worst, how):
    """Convert 8-bit codes, to float32."""
    _from_codes(operand, source, count, target, how, np.uint8, np.float32)


def uint16_single(operand, source, count, target, worst, how):
    """Convert 16-bit codes, to float32."""
    _from_codes(operand, source, count, target, how, np.uint16, np.float32)


def float32_double(operand, source, count, target, worst, how):
    """Convert float32 numbers by a 32-bit rule, to float64."""
    _from_floats(operand, source, count, target, worst, how, np.uint32, np.float64)


def wide_double(operand, source, count, target, worst, how):
    """Convert float32 numbers by a 64-bit rule, to float64."""
    _from_wide(operand, source, count, target, np.float64)


def float64_double(operand, source, count, target, worst, how):
    """Convert float64 numbers by a 64-bit rule, to float64."""
    _from_floats(operand, source, count, target, worst, how, np.uint64, np.float64)


def uint8_double(operand, source, count, target, worst, how):
    """Convert 8-bit codes, to float64."""
    _from_codes(operand, source, count, target, how, np.uint8, np.float64)


def uint16_double(operand, source, count, target, worst, how):
    """Convert 16-bit codes, to float64."""
    _from_codes(operand, source, count, target, how, np.uint16, np.float64)


SIGNATURE = "void(int64, int64, int64, int64, int64, int64)"
CONVERTERS = {
    ("float32", 4): float32_single,
    ("wide", 4): wide_single,
    ("float64", 4): float64_single,
    ("uint8", 4): uint8_single,
    ("uint16", 4): uint16_single,
    ("float32", 8): float32_double,
    ("wide", 8): wide_double,
    ("float64", 8): float64_double,
    ("uint8", 8): uint8_double,
    ("uint16", 8): uint16_double,
}
