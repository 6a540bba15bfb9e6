"""The parameters of a sum, measured from outside by vectors that are built to show one of them each."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lowprec import _order
from lowprec._align import Found, alignment, floor, largest, place_of_c
from lowprec._ask import Asker
from lowprec.formats import FloatFormat, formats

_SEARCH_LIMIT = 150  # calls at most for an order that has no name
_WIDEST = 100  # exponents between the largest and the smallest term, at most
_MODES: dict[str, Callable[[float], float]] = {
    "nearest_even": lambda x: float(round(x)),
    "nearest_away": lambda x: math.copysign(math.floor(abs(x) + 0.5), x),
    "toward_zero": math.trunc,
    "toward_positive": math.ceil,
    "toward_negative": math.floor,
    "to_odd": lambda x: x if x == math.floor(x) else math.floor(x) + (math.floor(x) % 2 == 0),
}


def check(ask: Asker) -> None:
    """See that the function is a dot product at all, and whether it adds c."""
    last = ask.k - 1
    alone = ask({}, 1.0)
    ask.has_c = alone != 0
    tests: list[tuple[str, dict[int, tuple[float, float]], float, float]] = [
        ("a[0] = b[0] = 1", {0: (1, 1)}, 0, 1),
        (f"a[{last}] = b[{last}] = 1", {last: (1, 1)}, 0, 1),
        ("a[0] = 2, b[0] = 1", {0: (2, 1)}, 0, 2),
        ("a[0] = 1, b[0] = -2", {0: (1, -2)}, 0, -2),
        (f"a[0] = b[0] = a[{last}] = b[{last}] = 1", {0: (1, 1), last: (1, 1)}, 0, 2),
    ]
    if ask.has_c:
        tests += [("all zeros", {}, 1, 1), ("a[0] = b[0] = 1", {0: (1, 1)}, 2, 3)]
    for words, products, c, expected in tests:
        got = ask(products, c)
        if got != expected:
            msg = (
                f"`function` must return c + a[0] * b[0] + ... + a[{last}] * b[{last}], got {got!r} in place of "
                f"{expected} for {words}, the other elements 0 and c = {c}."
            )
            raise ValueError(msg)


def _pair(ask: Asker, d: int, c_emax: int, *, last: bool = False) -> float:
    """Return 2**d + 1 as summed, minus 2**d at the end if `last`; NaN if no terms are so far apart."""
    powers = ask.powers
    by_c = d <= c_emax
    shift = min(0, powers.top - d) if last or not by_c else 0
    if by_c and shift < 0 and powers.holds(shift, subnormal=True):
        by_c = True
    if not powers.holds(shift, subnormal=True):
        return math.nan
    terms = {1: shift} if by_c else {0: d + shift, 1: shift}
    if last:
        terms[ask.k - 1] = d + shift
    got = ask.sum(terms, math.ldexp(1.0, d + shift) if by_c else 0.0, {ask.k - 1: -1})
    return math.ldexp(got, -shift)


def result_format(ask: Asker, found: Found) -> None:
    """Find significand bits and exponent range of the result, and the bits between the steps."""
    double = ask.dtype == np.float64
    wide, most = (1023, 51) if double else (127, 50)
    top = min(ask.powers.top, wide)
    by_products = largest(lambda e: ask.sum({0: e}) == math.ldexp(1.0, e), 1, top)
    found.c_emax = largest(lambda e: ask({}, math.ldexp(1.0, e)) == math.ldexp(1.0, e), 1, wide) if ask.has_c else -1
    found.emax = max(found.c_emax, wide if by_products == top and top > 15 else by_products)
    reach = found.c_emax
    found.mantissa_bits = largest(lambda d: _pair(ask, d, reach) == math.ldexp(1.0, d) + 1, 1, most + 1)
    known = [fmt for fmt in formats() if isinstance(fmt, FloatFormat) and fmt.is_signed and fmt.emax == found.emax]
    exact = [fmt for fmt in known if fmt.mantissa_bits == found.mantissa_bits or fmt.mantissa_bits > most]
    wider = [fmt for fmt in known if fmt.mantissa_bits > found.mantissa_bits and fmt.name in ("float16", "float32")]
    found.output = next(iter(exact or wider), None)
    if found.output in wider:
        found.kept_bits = found.mantissa_bits
    found.sum_bits = largest(lambda d: _pair(ask, d, reach, last=True) == 1, 1, most + 1)
    if math.isnan(_pair(ask, found.sum_bits + 1, reach, last=True)) or found.sum_bits > most:
        found.sum_bits = found.mantissa_bits  # no terms are far enough apart to tell
    if found.output is not None and found.mantissa_bits > most:
        found.mantissa_bits = found.sum_bits = found.output.mantissa_bits


def _tail(ask: Asker, bits: int, t: int, sign: float, *, by_c: bool, last: bool) -> float:
    """Return 4 and t quarters of its unit in the last place as rounded, in these units and less 4."""
    quarter = math.ldexp(1.0, -bits)
    end = {ask.k - 1: (-sign * 2.0, 2.0)} if last else {}
    if by_c:
        got = ask({0 if last else ask.k - 1: (1.5 * sign, 1.5), **end}, sign * (1.75 + t * quarter))
    else:
        x, y = ask.powers(-bits) if t % 4 < 2 else ask.powers(1 - bits)
        whole = ask.powers(2 - bits) if t > 3 else (0.0, 0.0)
        terms = [(1.5 * x if t % 4 == 3 else x, y), whole, (1.5, 1.0), (0.5, 0.5), (1.5, 1.5)]
        first = 0 if last else ask.k - len(terms)
        got = ask({first + at: (sign * x, y) for at, (x, y) in enumerate(terms)} | end)
    return (got - (0 if last else sign * 4)) / (4 * quarter)


def rounding(ask: Asker, found: Found, *, last: bool = False) -> str | None:
    """Find how a sum of two terms is rounded: the only mode that explains quarters of a unit, of both signs."""
    bits = (found.sum_bits or 0) if last else found.mantissa_bits
    if min(fmt.mantissa_bits for fmt in ask.powers.formats) < 1 or bits < 3:
        return None
    ways = ([True] if ask.has_c else []) + ([False] if ask.powers.holds(-bits, subnormal=True) else [])
    for by_c in ways:
        asked = [(sign * t / 4, (t, sign)) for t in (1, 2, 3, 6, 7) for sign in (1.0, -1.0)]
        got = [(x, _tail(ask, bits, *how, by_c=by_c, last=last)) for x, how in asked]
        left = [mode for mode, f in _MODES.items() if all(f(x) == y for x, y in got)]
        if len(left) == 1:
            return left[0]
        if not last and all(x == y for x, y in got):
            found.kept_bits = None  # a carry brings more bits: the alignment has few, not the result
            return None
    return None


def subnormals(ask: Asker, found: Found) -> None:
    """Find what becomes of subnormal operands, addends and results."""
    powers = ask.powers
    for which, name in ((0, "a"), (1, "b")):
        fmt, other = powers.formats[which], powers.high[1 - which]
        e = powers.least[which] + other
        if not fmt.has_subnormals or e < found.emin:
            found.subnormals[name] = None
            continue
        e = min(e, found.emax)
        factors = (fmt.smallest_subnormal, math.ldexp(1.0, e - powers.least[which]))
        found.subnormals[name] = _fate(ask({0: factors if which == 0 else factors[::-1]}), math.ldexp(1.0, e))
    low = math.ldexp(1.0, max(found.emin, 1 - found.c_emax) - 1)
    found.subnormals["c"] = _fate(ask({}, low), low) if ask.has_c else None
    below = found.emin - 1
    if powers.holds(below):
        found.subnormals["results"] = _fate(ask.sum({0: below}), math.ldexp(1.0, below))
    else:
        kept = found.subnormals["c"] == "keep" and found.c_emax == found.emax
        found.subnormals["results"] = "keep" if kept else None


def _fate(got: float, exact: float) -> str | None:
    """Say what became of a subnormal number."""
    return "keep" if got == exact else "flush" if got == 0 else None


def order(ask: Asker, found: Found) -> None:
    """Find which terms meet first."""
    count, powers = ask.k + ask.has_c, ask.powers
    bits = found.sum_bits or 0
    high = min(powers.top, found.emax - 1, found.c_emax - 1, 60)
    need = bits + 2 + count.bit_length()
    if count >= 2 ** (found.mantissa_bits + 1):
        return
    bottom = powers.floor if found.subnormals.get("a") == found.subnormals.get("b") == "keep" else powers.bottom
    # The wider apart the surer are units lost; but rounding that is not to nearest leaves traces of M, which must not
    # be so large that they hide the units.
    lows = [max(edge, found.least, high - _WIDEST) for edge in (bottom, powers.bottom)] + [high - need]
    usable = list(dict.fromkeys(low for low in lows if high - low >= need and powers.holds(low, subnormal=True)))
    for limit, low in [(0, low) for low in usable] + [(_SEARCH_LIMIT, low) for low in usable[:1]]:
        try:
            found.order, found.name = _order.discover(_sizes(ask, high, low, bits), ask.k, ask.has_c, limit)
        except _order.Unclear:
            continue
        found.length = found.name.length if found.name else None
        return


def _sizes(ask: Asker, high: int, low: int, bits: int) -> _order.Size:
    """Return the question that `_order.discover` asks, with M = 2**high, units of 2**low and sums of some bits."""
    count = ask.k + ask.has_c
    grid = 1 << (high - bits - 1 - low)

    def size(i: int, j: int) -> int:
        """Return how many terms are gone when M and -M meet."""
        terms = {at: high if at in (i, j) else low for at in range(ask.k)}
        c = math.ldexp(-1.0 if j == ask.k else 1.0, high if ask.k in (i, j) else low) if ask.has_c else 0.0
        got = ask.sum(terms, c, {j: -1})
        units = math.ldexp(got, -low) if math.isfinite(got) else 0.5
        if units != int(units) or int(units) % grid > count - 2:
            raise _order.Unclear
        return count - int(units) % grid

    return size


def block_length(ask: Asker, found: Found) -> None:
    """Find the block length by halves of a unit next to a large c, which count only where they meet."""
    if not ask.has_c or found.rounding not in ("toward_zero", "nearest_even"):
        return
    bits, e = found.mantissa_bits, min(ask.powers.top, found.emax - found.mantissa_bits - 1)
    if not ask.powers.holds(e):
        return
    c = math.ldexp(1.0, e + bits + 1)

    def together(i: int, j: int) -> bool:
        """Say whether two halves make a whole."""
        return ask.sum({i: e, j: e}, c) == c + math.ldexp(1.0, e + 1)

    if not together(0, 1):
        return
    found.length = largest(lambda j: together(0, j), 1, ask.k - 1) + 1
    if found.length < ask.k and (together(found.length - 1, found.length) or not together(1, found.length - 1)):
        found.length = None


def products(ask: Asker, found: Found) -> None:
    """Find whether products enter the sum unrounded: (1 + u)**2 less 1 + 2u leaves u**2."""
    bits = min(found.sum_bits or 0, *(fmt.mantissa_bits for fmt in ask.powers.formats))
    x, near, exact = 1 + math.ldexp(1.0, -bits), 1 + math.ldexp(1.0, 1 - bits), math.ldexp(1.0, -2 * bits)
    if not ask.has_c or bits < 1 or exact < math.ldexp(1.0, found.least):
        return
    got = ask({0: (x, x)}, -near)
    found.products = "exact" if got == exact else "rounded" if math.isfinite(got) else None


def specials(ask: Asker, found: Found) -> None:
    """Look at zeros, overflow and NaN."""
    zero = ask({0: (1, 1), 1: (-1, 1)})
    found.zeros["1 - 1"] = _sign(zero)
    a, b = np.full(ask.k, -0.0, ask.dtype), np.ones(ask.k, ask.dtype)
    found.zeros["all terms -0"] = _sign(ask.vectors(a, b, -0.0).value)
    under = found.least - 3
    if found.output and ask.powers.holds(under, subnormal=True) and not ask.powers.holds(under):
        under = max(under, ask.powers.bottom) if ask.powers.bottom < found.least - 1 else under
    if found.output and ask.powers.holds(under, subnormal=True):
        low = ask.sum({0: under}, 0.0, {0: -1})
        if low == 0:
            found.zeros["negative underflow"] = _sign(low)
    if ask.has_c and ask.powers.holds(found.emax):
        got = ask.sum({0: found.emax}, math.ldexp(1.0, found.emax))
        kinds = {math.isinf(got): "inf", math.isnan(got): "nan", math.isfinite(got): "saturate"}
        found.overflow = kinds[True]
    first = ask.powers.formats[0]
    tests: dict[str, dict[int, tuple[float, float]]] = {}
    if first.has_nan:
        tests["NaN * 1"] = {0: (math.nan, 1)}
    if first.has_inf:
        tests["inf * 0"] = {0: (math.inf, 0)}
        tests["inf - inf"] = {0: (math.inf, 1), 1: (-math.inf, 1)}
    for words, terms in tests.items():
        a, b = np.zeros((2, ask.k), ask.dtype)
        for at, (x, y) in terms.items():
            a[at], b[at] = x, y
        answer = ask.vectors(a, b, 0.0)
        shown = f"0x{answer.bits:0{answer.width // 4}X}"
        found.nans[words] = shown if math.isnan(answer.value) else repr(answer.value)


def _sign(zero: float) -> str:
    """Return a zero with its sign, or the number that is none."""
    return repr(zero) if zero != 0 else "-0" if math.copysign(1, zero) < 0 else "+0"


def measure(ask: Asker) -> Found:
    """Measure everything."""
    found = Found()
    result_format(ask, found)
    found.rounding = rounding(ask, found)
    narrow = found.sum_bits != found.mantissa_bits
    found.sum_rounding = rounding(ask, found, last=True) if narrow else found.rounding
    subnormals(ask, found)
    order(ask, found)
    if found.order is None:
        block_length(ask, found)
    alignment(ask, found)
    place_of_c(ask, found)
    products(ask, found)
    floor(ask, found)
    specials(ask, found)
    return found
