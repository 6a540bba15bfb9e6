"""Alignment, measured from outside: how far below the largest term of a step bits survive, and where c enters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from lowprec import _order
from lowprec._ask import Asker
from lowprec.formats import FloatFormat


@dataclass
class Found:
    """What has been found so far; None is not visible."""

    mantissa_bits: int = 0  # of a result, as far as it shows
    emax: int = 0
    c_emax: int = 0  # of the addend; -1 without one
    output: FloatFormat | None = None
    kept_bits: int | None = None  # fraction bits, where fewer than the format's
    sum_bits: int | None = None  # mantissa bits between the steps
    rounding: str | None = None
    sum_rounding: str | None = None
    overflow: str | None = None
    subnormals: dict[str, str | None] = field(default_factory=dict)
    order: _order.Order | None = None
    name: _order.Named | None = None
    length: int | None = None
    fraction_bits: int | None = None
    fraction_bits_c: float | None = None  # math.inf where no product is too small to count
    even_odd: bool = False  # even and odd places are aligned apart
    alignment: str | None = None
    late_alignment: str | None = None
    c_place: str | None = None
    products: str | None = None
    exponent_floor: int | None = None
    zeros: dict[str, str] = field(default_factory=dict)
    nans: dict[str, str] = field(default_factory=dict)

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal result."""
        return self.output.emin if self.output else 1 - self.emax

    @property
    def least(self) -> int:
        """Exponent of the smallest result."""
        kept = self.subnormals.get("results") == "keep"
        return self.emin - (self.output.mantissa_bits if self.output else self.mantissa_bits) * kept


def largest(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number from `low` to `high` for which something holds; low - 1 if it does nowhere."""
    low -= 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _step(tree: _order.Tree, most: int) -> list[int]:
    """Return the products that meet in one step, of the step that has most of them."""
    if isinstance(tree, int):
        return []
    own = [child for child in tree if isinstance(child, int) and child < most]
    return max([own, *(_step(child, most) for child in tree)], key=len)


def _beside(tree: _order.Tree, c: int) -> list[int]:
    """Return the products that are added in one step with the addend."""
    if isinstance(tree, int):
        return []
    if c in tree:
        return [child for child in tree if isinstance(child, int) and child != c]
    return next((found for child in tree if (found := _beside(child, c))), [])


def alignment(ask: Asker, found: Found) -> None:
    """Find the fraction bits to which products are aligned, to each other and to c, and what becomes of the rest."""
    powers = ask.powers
    step = _step(found.order.tree, ask.k) if found.order else list(range(found.length or 0))
    high = min(powers.top, found.emax - 1, found.c_emax - 1 if ask.has_c else 60, 60)
    low = max(powers.bottom if powers.bottom + 40 < high else powers.floor, found.least)
    beside_c = _beside(found.order.tree, ask.k) if found.order and ask.has_c else []
    by_c = len(step) == 2 == len(beside_c)
    if by_c:
        step = beside_c
    if found.order and len(step) + by_c >= 3 and high - low > 3:

        def rest(*x: tuple[float, float]) -> float:
            """Return what M, -M and products add up to."""
            first = {} if by_c else {step[0]: powers(high)}
            places = [step[1], *step[3::2]] if len(x) > 1 else step[-1:]
            minus = step[0] if by_c else step[2] if len(x) > 1 else step[1]
            terms = dict(zip(places, x, strict=False))
            return ask({**first, minus: powers(high, -1.0), **terms}, math.ldexp(1.0, high) if by_c else 0.0)

        bits = largest(lambda d: rest(powers(high - d)) == math.ldexp(1.0, high - d), 1, high - low)
        found.alignment = "exact"
        if bits < high - low:
            found.fraction_bits = bits
            found.alignment = _kind(ask, rest, high - bits)
            if len(step) >= 4 and powers.holds(high - bits - 1, subnormal=True):
                half = powers(high - bits - 1)
                found.even_odd = rest(half, half) == math.ldexp(1.0, high - bits)
    if len(step) >= 2 and ask.has_c:
        _alignment_to_c(ask, found, step)


def _kind(ask: Asker, rest: Callable[[tuple[float, float]], float], e: int) -> str | None:
    """Say what becomes of half a unit of the alignment."""
    if min(fmt.mantissa_bits for fmt in ask.powers.formats) < 1:
        return None
    x, y = ask.powers(e)
    unit = math.ldexp(1.0, e)
    got = rest((1.5 * x, y)) / unit, rest((-1.5 * x, y)) / unit
    kinds: dict[tuple[float, float], str] = {
        (1, -1): "toward_zero",
        (1, -2): "toward_negative",
        (2, -1): "toward_positive",
        (2, -2): "nearest",
    }
    return kinds.get(got)


def _alignment_to_c(ask: Asker, found: Found, step: list[int]) -> None:
    """Find how far below c a product still counts, and whether c is aligned with the products."""
    powers, bits = ask.powers, found.mantissa_bits
    nearest = found.rounding == "nearest_even"
    if (not nearest and found.rounding != "toward_zero") or (found.order and found.fraction_bits is None):
        return
    e = min(powers.top + bits, found.emax - 1, found.c_emax - 1, 80)  # of c
    half = e - bits - 1
    reach = min(e - max(powers.floor, found.least), 60)
    c = math.ldexp(1.0, e)
    if nearest and not (powers.holds(half, subnormal=True) and ask.sum({step[0]: half}, c) == c):
        return

    def counts(d: int) -> bool:
        """Say whether a product of c * 2**-d changes the result: below half a unit of -c, or next to a tie."""
        if nearest:
            return ask.sum({step[0]: half, step[1]: e - d}, c) != c
        return ask.sum({step[0]: e - d}, -c) != -c

    got = largest(counts, bits + nearest, reach)
    if got < bits + nearest or got == reach:
        found.fraction_bits_c = None if got < bits + nearest else math.inf
    else:
        found.fraction_bits_c = got
        if found.order is None:
            found.fraction_bits = got
            if not nearest and powers.holds(e - got - 1, subnormal=True):
                lost = ask.sum({step[0]: e - got - 1}, c, {step[0]: -1}) == c
                found.alignment = "toward_zero" if lost else "toward_negative"
    apart = found.name is not None and found.name.c != "first"
    if found.fraction_bits_c not in (None, found.fraction_bits) and not apart:
        one = min(0, powers.top)
        low = ask.sum({step[0]: one}, -math.ldexp(1.0, max(1 - found.c_emax, -120))) < math.ldexp(1.0, one)
        found.late_alignment = "toward_negative" if low else "toward_zero"


def place_of_c(ask: Asker, found: Found) -> None:
    """Say where c enters."""
    if not ask.has_c:
        found.c_place = "ignored"
    elif found.name and found.name.c in ("last", "each block"):
        found.c_place = "last" if found.name.c == "last" else "late"
    elif found.fraction_bits_c is not None and found.fraction_bits is not None:
        found.c_place = "inside" if found.fraction_bits_c == found.fraction_bits else "late"
    elif found.alignment == "exact":
        found.c_place = "inside"
    elif found.name and found.alignment is None:
        found.c_place = "first"


def floor(ask: Asker, found: Found) -> None:
    """Find the least exponent that alignment takes for a block's largest, where a result shows it."""
    bits, powers = found.fraction_bits, ask.powers
    kept = found.output is not None and found.subnormals.get("results") == "keep"
    if bits is None or not kept or found.c_place == "late" or not found.length:
        return
    least = found.least
    if found.rounding == "nearest_even":
        half = least - 1
        reach = -max(powers.floor, half - bits - 1)
        if not powers.holds(half, subnormal=True) or found.length < 2 or reach <= -half:
            return
        got = largest(lambda d: ask.sum({0: half, 1: -d}) > 0, -half + 1, reach)
        if -half < got < reach and got < bits - half:
            found.exponent_floor = bits - got
        return
    n, got = 1, 0
    while n <= found.length and powers.holds(least - n.bit_length() + 1, subnormal=True):
        e = least - n.bit_length() + 1
        if ask.sum(dict.fromkeys(range(n), e)) == 0:
            if n > 1 and bits - got > e - 1:
                found.exponent_floor = bits - got
            return
        n, got = 2 * n, -e
