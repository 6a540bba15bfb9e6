"""Which kernels an exact product of small integers takes, and how its operands are read for them.

The ways: "vnni" is x86's 4-way byte dot product, VPDPBUSD (AVX512-VNNI or AVX-VNNI); "maddwd" is VPMADDWD on 16-bit
integers, and VPMADDUBSW on bytes where one operand is narrow enough for sums of 16 bits to be exact; "plain" is vector
arithmetic for any CPU; "emulated" is "vnni" with the instruction written out, for tests. All give the same integers.
The variable LOWPREC_INTEGER_DOT forces one.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from typing import NamedTuple

from lowprec import _jit
from lowprec.formats import IntFormat
from lowprec.kernels import dots, pack_integers
from lowprec.kernels.tile import Shape

WAYS = ("vnni", "maddwd", "plain", "emulated")
_FEWEST_STEPS = 4  # groups in sums of 16 bits, below which "maddubs" is slower than "maddwd"


@cache
def can() -> dict[str, int]:
    """Return the ways that this CPU can go, the best first, with the lanes of their vectors."""
    found = _jit.cpu_features()
    wide = 16 if "avx512f" in found else 8 if "avx2" in found else 4
    ways = {}
    if {"avx512vnni", "avx512f"} <= found:
        ways["vnni"] = 16
    elif {"avxvnni", "avx2"} <= found:
        ways["vnni"] = 8
    if {"avx512bw", "avx512f"} <= found:
        ways["maddwd"] = 16
    elif "avx2" in found:
        ways["maddwd"] = 8
    return {**ways, "plain": wide, "emulated": wide}


@cache
def way() -> str:
    """Return the way to go; the variable LOWPREC_INTEGER_DOT forces one."""
    forced = os.environ.get("LOWPREC_INTEGER_DOT")
    if forced is None:
        return next(iter(can()))
    if forced not in can():
        msg = f"the variable `LOWPREC_INTEGER_DOT` must be one of {', '.join(can())} on this CPU, got {forced!r}."
        raise ValueError(msg)
    return forced


class Reading(NamedTuple):
    """How bytes become what is packed, ``((x & mask) ^ flip) - less``; the integer is that plus `offset`."""

    mask: int
    flip: int
    less: int
    offset: int


class Dots(NamedTuple):
    """The kernels of a product, and how its operands are read."""

    tile: int  # address of the micro-kernel
    pack: int  # and of the packer
    shape: Shape
    per: int  # k of a group
    steps: int  # groups that are added in 16 bits, 0: all sums have 32
    a: Reading
    b: Reading
    folds: bool  # whether a zero point can be subtracted while packing


def _value(fmt: IntFormat) -> Reading:
    """Read the integer itself."""
    half = 1 << (fmt.bits - 1) if fmt.is_signed else 0
    return Reading((1 << fmt.bits) - 1, half, half, 0)


def _unsigned(fmt: IntFormat) -> Reading:
    """Read the integer from the smallest of its format up."""
    half = 1 << (fmt.bits - 1) if fmt.is_signed else 0
    return Reading((1 << fmt.bits) - 1, half, 0, -half)


def _signed(fmt: IntFormat, centred: bool) -> Reading:
    """Read the integer as a signed byte: an unsigned one less half its range, if that is asked for."""
    if fmt.is_signed or not centred:
        return _value(fmt)
    half = 1 << (fmt.bits - 1)
    return Reading((1 << fmt.bits) - 1, 0, half, half)


@lru_cache(maxsize=256)
def choose(a: IntFormat, b: IntFormat, chosen: str) -> Dots:
    """Return the kernels for operands of at most 8 bits."""
    lanes = can()[chosen]
    left, right = _unsigned(a), _signed(b, b.bits == 8 or a.bits > 4)
    largest = max(right.less, (1 << b.bits) - 1 - right.less)
    steps = 32767 // (2 * ((1 << a.bits) - 1) * largest)
    if chosen == "maddwd" and steps >= _FEWEST_STEPS:
        chosen = "maddubs"
    if chosen in ("maddwd", "plain"):
        left, right = _value(a), _value(b)
    halves = chosen in ("maddwd", "plain")
    return Dots(
        _jit.address(dots.TILES[chosen, lanes], dots.SIGNATURE),
        _jit.address(pack_integers.pack_halves if halves else pack_integers.pack_bytes, pack_integers.SIGNATURE),
        dots.SHAPES[lanes],
        2 if halves else 4,
        steps if chosen == "maddubs" else 0,
        left,
        right,
        halves,
    )
