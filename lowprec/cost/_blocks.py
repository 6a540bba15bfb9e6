"""The blocks that arithmetic units are made of, as cells: adders, shifters, normalisers, multipliers.

Every function returns how many of each cell a block takes. Widths are in bits. Shifters and normalisers are chains of
stages that shift by 1, 2, 4, ... or not at all; a stage costs a multiplexer only at the bits where both of its sources
may be other than 0, and an AND elsewhere.
"""

from __future__ import annotations

from lowprec.cost._cells import total

GUARDS = 2
"""Bits below the last one that rounding looks at, besides a sticky bit."""


def stages(most: int) -> int:
    """Return the stages of a shifter by 0 to `most` places."""
    return most.bit_length()


def adder(bits: float) -> dict[str, float]:
    """Add two numbers of as many bits each: a full adder a bit."""
    return {"FA": bits}


def incrementer(bits: float) -> dict[str, float]:
    """Add a carry to a number: a half adder a bit."""
    return {"HA": bits}


def register(bits: float) -> dict[str, float]:
    """Keep bits from cycle to cycle."""
    return {"DFF": bits}


def shift_out(width: int, most: int, room: int) -> dict[str, float]:
    """Move a number right by up to `most` places into `room` bits, and catch in a sticky bit what falls off the end."""
    found: dict[str, float] = {}
    live = width
    for stage in range(stages(most)):
        step = 1 << stage
        grown = min(room, live + step)
        both = max(0, live - step)
        found = total(found, {"MUX": both, "AND": grown - both})
        live = grown
    return total(found, {"OR": room})


def shift_within(width: int, most: int) -> dict[str, float]:
    """Move a number right by up to `most` places within its own width."""
    found: dict[str, float] = {}
    for stage in range(stages(most)):
        step = 1 << stage
        found = total(found, {"MUX": max(0, width - step), "AND": min(step, width)})
    return found


def normaliser(width: int, kept: int) -> dict[str, float]:
    """Move a number of `width` bits left until its first bit is 1, and keep `kept` bits.

    The stages go from long to short steps; each asks whether its first bits are all 0.
    """
    found: dict[str, float] = {}
    for stage in reversed(range(stages(width - 1))):
        step = 1 << stage
        need = min(width, kept + step - 1)
        found = total(found, {"MUX": max(0, need - step), "AND": min(step, need), "OR": min(step, need) + step - 1})
    return found


def array(n: int, m: int) -> dict[str, float]:
    """Multiply n by m bits, unsigned, in an exact array: as many cells as in a Dadda tree with a ripple adder.

    ``n*m`` AND, ``n*(m-1) - m`` FA and ``m`` HA, for n >= m >= 2; by one bit it is n AND.
    """
    n, m = max(n, m), min(n, m)
    return {"AND": n} if m == 1 else {"FA": n * (m - 1) - m, "HA": m, "AND": n * m}


def sign_correction(n: int, m: int, signed: bool = True) -> dict[str, float]:
    """Allow for signs in a multiplier: two half adders, and an XOR per bit of both operands.

    The half adders are Baugh and Wooley's two constants. The XORs are measured: without them the formula lies 9.4 %
    from QKeras' 137 synthesised MACs, with them 5.7 %.
    """
    return {"HA": 2, "XOR": n + m} if signed else {}


def booth(n: int, m: int, signed: bool) -> dict[str, float]:
    """Multiply by radix-4 Booth recoding: recoders, rows of multiples, the additions of the rows.

    Two bits of the narrower factor make a digit from -2 to 2, which selects a multiple of the other, n + 1 bits wide.
    An unsigned factor of an even width has a last digit of 0 or 1, whose row is n AND.
    """
    full = m // 2 if m % 2 == 0 else (m + 1) // 2
    last = m % 2 == 0 and not signed
    recoders = {"XOR": 2 * full, "AND": full + n * last}
    selectors = {"MUX": full * (n + 1), "XOR": full * (n + 1)}
    return total(recoders, selectors, {"FA": (full + last - 1) * (n + 1)})
