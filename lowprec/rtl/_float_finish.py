"""The end of a floating-point unit, as Verilog: normalise, round, find overflow and underflow, put in the specials.

Two ways. Where results below the smallest normal number are flushed, the leading one goes to the top wherever it was,
and the biased exponent tells afterwards what is too small. Where they are kept, no shift passes the smallest normal
exponent: `level`, the biased exponent that the place above the top bit would have, is used up by the shifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lowprec.formats import FloatFormat
from lowprec.rounding import Overflow, Rounding
from lowprec.rtl._float_parts import Bits, Module, all_of, any_of, joined, number, zeros


@dataclass(frozen=True)
class Policy:
    """How a result is rounded and what becomes of it beyond the range."""

    fmt: FloatFormat
    rounding: Rounding
    overflow: Overflow
    flush: bool
    random_bits: int = 0
    always_overflow: bool = False  # as tensor cores: infinity in rounding toward zero too
    nan_code: int | None = None  # where it is not the format's canonical one
    positive_zero: bool = False  # every zero is +0

    @property
    def guards(self) -> int:
        """How many bits below the significand are read one by one; all others are one sticky bit."""
        if self.rounding is Rounding.STOCHASTIC:
            return self.random_bits
        return 1 if self.rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY) else 0

    @property
    def sees_sticky(self) -> bool:
        """Whether the rounding asks for the sticky bit."""
        return self.rounding not in (Rounding.TOWARD_ZERO, Rounding.NEAREST_AWAY, Rounding.STOCHASTIC)

    @property
    def keep(self) -> int:
        """Significand and guard bits."""
        return self.fmt.precision + self.guards


class Normal(NamedTuple):
    """A magnitude with its leading one on top: its upper bits, the sticky bit, the shift, what is left of a level."""

    bits: Bits
    sticky: str
    shifted: Bits
    level: Bits | None


class Ends(NamedTuple):
    """Signals about the result that the datapath does not see."""

    sign: str
    zero_sign: str = "1'b0"
    inf: str = "1'b0"
    inf_sign: str = "1'b0"
    nan: str = "1'b0"
    random: Bits | None = None


def normalise(m: Module, x: Bits, keep: int, most: int, *, sticky: str = "1'b0", level: Bits | None = None) -> Normal:
    """Shift the leading one of `x` to the top, by at most `most` places; keep the upper `keep` bits.

    Large steps first: a stage moves its bits up if the top ones are all zero (and the level allows it), and leaves to
    the sticky bit what no later stage can bring back.
    """
    limit = "" if level is None else ", as far as the smallest normal exponent allows"
    m.note(f"normalise: the leading one goes to the top, large steps first{limit}")
    stages, flags, live = most.bit_length(), [], x
    for stage in reversed(range(stages)):
        step = 1 << stage
        width = min(live.width, keep + step - 1)  # what later stages can still bring up
        fits = step < live.width and (level is None or stage < level.width)
        stays = f"(|{live.part(live.width - width - 1, 0)})" if live.width > width else "1'b0"
        if not fits:
            flags.append("1'b0")
            sticky = m.flag(f"sticky_{step}", any_of(sticky, stays))
            live = m.wire(f"normal_{step}", width, live.top(width))
            continue
        enough = "" if level is None else f" & (|{level.part(level.width - 1, stage)})"
        go = m.wire(f"shift_{step}", 1, f"~(|{live.top(step)}){enough}").name
        flags.append(go)
        rest = live.width - step
        moved = joined(live.part(rest - 1, max(0, rest - width)), zeros(width - rest))
        goes = f"({go} & (|{live.part(rest - width - 1, 0)}))" if rest > width else "1'b0"
        sticky = m.flag(f"sticky_{step}", any_of(sticky, "1'b0" if stays == "1'b0" else f"(~{go} & {stays})", goes))
        live = m.wire(f"normal_{step}", width, f"{go} ? {moved} : {live.top(width)}")
        if level is not None:
            lower = level.part(stage - 1, 0) if stage else ""
            upper = m.wire(f"level_{step}_upper", level.width - stage, f"{level.part(level.width - 1, stage)} - {go}")
            level = m.wire(f"level_{step}", level.width, joined(upper.name, lower))
    if live.width < keep:
        live = m.wire("normal", keep, joined(live.name, zeros(keep - live.width)))
    elif live.width > keep:
        sticky = m.flag("sticky", any_of(sticky, f"(|{live.part(live.width - keep - 1, 0)})"))
        live = m.wire("normal", keep, live.top(keep))
    count = m.wire("shifted_by", max(1, stages), joined(*flags) if flags else "1'b0")
    return Normal(live, sticky, count, level)


def finish(m: Module, policy: Policy, normal: Normal, field: Bits, ends: Ends) -> str:
    """Round and pack; return the code of the result.

    `field` is, where results are flushed, the biased exponent of the leading one in two's complement, and otherwise
    what is left of the level (the biased exponent less the leading one itself).
    """
    m.note(f"round to {policy.fmt.precision} significand bits, {policy.rounding}")
    guards = policy.guards
    significand = m.wire("significand", policy.fmt.precision, normal.bits.part(policy.keep - 1, guards))
    rest = normal.bits.part(guards - 1, 0) if guards else ""
    if policy.flush:
        finite, over, is_zero = _flushed(m, policy, significand, rest, normal.sticky, field, ends)
    else:
        finite, over, is_zero = _gradual(m, policy, significand, rest, normal.sticky, field, ends)
    return pack(m, policy, finite, over, is_zero, ends)


def finish_code(m: Module, policy: Policy, body: Bits, ends: Ends) -> str:
    """Pack a magnitude whose exponent and fraction are already rounded and side by side."""
    over = m.flag("overflow", greater(body, policy.fmt.max_code))
    finite = _fit(m, "finite", body, policy.fmt.magnitude_bits)
    return pack(m, policy, finite, over, f"~(|{finite})", ends)


def round_up(m: Module, policy: Policy, name: str, lsb: str, rest: str, sticky: str, ends: Ends) -> str:
    """Return whether the magnitude goes up; `rest` are the guard bits."""
    inexact = any_of(f"(|{rest})" if rest else "1'b0", sticky)
    match policy.rounding:
        case Rounding.NEAREST_EVEN:
            return m.flag(name, all_of(rest, any_of(lsb, sticky)))
        case Rounding.NEAREST_AWAY:
            return m.flag(name, rest)
        case Rounding.TOWARD_POSITIVE:
            return m.flag(name, all_of("1'b1" if ends.sign == "1'b0" else f"~{ends.sign}", inexact))
        case Rounding.TOWARD_NEGATIVE:
            return m.flag(name, all_of(ends.sign, inexact))
        case Rounding.TO_ODD:
            return m.flag(name, all_of(f"~{lsb}", inexact))
        case Rounding.STOCHASTIC if ends.random is not None:
            n = policy.random_bits
            total = m.wire(f"{name}_sum", n + 1, f"{{1'b0, {rest}}} + {{1'b0, {ends.random}}}")
            return total.bit(n)
    return "1'b0"


def _gradual(
    m: Module, policy: Policy, significand: Bits, rest: str, sticky: str, field: Bits, ends: Ends
) -> tuple[Bits, str, str]:
    """Round where subnormal numbers are kept: the magnitude's code, whether it overflows, whether it is exactly 0."""
    man, wide = policy.fmt.mantissa_bits, field.width
    lead = significand.bit(man)
    up = round_up(m, policy, "goes_up", significand.bit(0), rest, sticky, ends)
    held = m.wire("exponent_less_lead", wide, f"{field} & {{{wide}{{{lead}}}}}")  # of an exact zero anything is left
    if man and policy.rounding is Rounding.TO_ODD:  # from even to odd: nothing is carried
        lower, carry = joined(significand.part(man - 1, 1) if man > 1 else "", f"{significand.bit(0)} | {up}"), "1'b0"
    elif man and up != "1'b0":
        raised = m.wire("fraction_up", man + 1, f"{{1'b0, {significand.part(man - 1, 0)}}} + {up}")
        lower, carry = raised.part(man - 1, 0), raised.bit(man)
    else:
        lower, carry = significand.part(man - 1, 0) if man else "", up
    # the leading one and the carry are added to the exponent in one adder
    raised = m.wire("exponent_up", wide + 2, f"{{1'b0, {held}, 1'b1}} + {{{zeros(wide)}, {lead}, {carry}}}")
    body = m.wire("rounded", wide + 1 + man, joined(raised.part(wide + 1, 1), lower))
    rests = f"(|{rest})" if rest else "1'b0"
    is_zero = m.wire("is_zero", 1, f"~({any_of(f'(|{significand})', rests, sticky)})").name
    over = m.flag("overflow", greater(body, policy.fmt.max_code))
    return _fit(m, "finite", body, policy.fmt.magnitude_bits), over, is_zero


def _flushed(
    m: Module, policy: Policy, significand: Bits, rest: str, sticky: str, field: Bits, ends: Ends
) -> tuple[Bits, str, str]:
    """Round where results below the smallest normal number become zeros; returns the same."""
    man, wide, size = policy.fmt.mantissa_bits, field.width, policy.fmt.magnitude_bits
    up = round_up(m, policy, "goes_up", significand.bit(0), rest, sticky, ends)
    fraction = significand.part(man - 1, 0) if man else ""
    if man and policy.rounding is Rounding.TO_ODD:
        upper = significand.part(man - 1, 1) if man > 1 else ""
        value = joined(field.name, upper, f"{significand.bit(0)} | {up}")
    else:
        plus = "" if up == "1'b0" else f" + {up}"
        value = joined(field.name, fraction) + plus
    m.wire("rounded", wide + man, value)
    is_zero = m.wire("is_zero", 1, f"~{significand.bit(man)}").name
    low = m.wire("below_normal", 1, f"{field.bit(wide - 1)} | ~(|{field}) | {is_zero}").name
    over = m.flag("overflow", all_of(f"~{low}", greater(Bits("rounded", wide + man - 1), policy.fmt.max_code)))
    finite = _fit(m, "finite_normal", Bits("rounded", wide + man), size)
    edge = _reaches_normal(m, policy, significand, rest, sticky, ends)
    if edge == "1'b0":
        return m.wire("finite", size, f"{finite} & {{{size}{{~{low}}}}}"), over, is_zero
    m.note("just below the smallest normal number: half the precision remains, and rounding may still reach it")
    at_edge = m.wire("reaches_normal", 1, all_of(f"~(|{field})", significand.bit(man), edge)).name
    unit = joined(zeros(size - man - 1), at_edge, zeros(man))
    return m.wire("finite", size, f"{finite} & {{{size}{{~{low}}}}} | {unit}"), over, is_zero


def _reaches_normal(m: Module, policy: Policy, significand: Bits, rest: str, sticky: str, ends: Ends) -> str:
    """Return whether a number in the binade below the normal ones is rounded up to them: it has one bit less."""
    man = policy.fmt.mantissa_bits
    if policy.rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD) and man:
        return "1'b0"  # the last subnormal number is odd
    ones = f"(&{significand.part(man, 1)})" if man else "1'b1"
    below = joined(significand.bit(0), rest)
    if policy.rounding is Rounding.STOCHASTIC:
        n = policy.random_bits
        cut = m.wire("edge_rest", n + 1, below)
        up = round_up(m, policy, "edge_up", "1'b1", cut.part(n, 1), sticky, ends)
    elif policy.rounding is Rounding.NEAREST_EVEN and man:
        up = significand.bit(0)  # a tie goes up, from an odd significand
    else:
        cut = m.wire("edge_rest", policy.guards + 1, below)
        upper = cut.bit(cut.width - 1)
        if policy.guards:
            under = m.wire("edge_sticky", 1, any_of(f"(|{cut.part(cut.width - 2, 0)})", sticky)).name
            up = round_up(m, policy, "edge_up", "1'b1" if man else "1'b0", upper, under, ends)
        else:
            under = m.flag("edge_sticky", any_of(upper, sticky))
            up = round_up(m, policy, "edge_up", "1'b1" if man else "1'b0", "", under, ends)
    return all_of(ones, up)


def _fit(m: Module, name: str, x: Bits, width: int) -> Bits:
    """Cut a number to a width, or widen it."""
    if x.width >= width:
        return m.wire(name, width, f"{x.name}[{width - 1}:0]" if x.width > 1 else x.name)
    return m.wire(name, width, joined(zeros(width - x.width), x.name))


def greater(x: Bits, constant: int) -> str:
    """Return ``x > constant``, bit by bit: what comes above decides, and equal bits ask the ones below."""
    found = "1'b0"
    place = 0
    while place < x.width:
        one = constant >> place & 1
        top = place
        while top + 1 < x.width and constant >> (top + 1) & 1 == one:
            top += 1
        run = x.name if x.width == 1 else f"{x.name}[{top}:{place}]" if top > place else f"{x.name}[{place}]"
        here = f"({'&' if one else '|'}{run})"
        if one:
            found = "1'b0" if found == "1'b0" else f"({here} & {found})"
        else:
            found = here if found == "1'b0" else f"({here} | {found})"
        place = top + 1
    return found


def pack(m: Module, policy: Policy, finite: Bits, over: str, is_zero: str, ends: Ends) -> str:
    """Put sign, overflow, infinities and NaN into the code of a finite magnitude."""
    fmt, size = policy.fmt, policy.fmt.magnitude_bits
    m.note("sign, overflow and specials")
    magnitude, nan = finite.name, ends.nan
    inward = _inward(policy, ends.sign)
    outward_over = m.flag("over_range", all_of(over, "1'b1" if inward == "1'b0" else f"~({inward})"))
    if inward == "1'b1":
        outward_over = "1'b0"
    if inward != "1'b0" and over != "1'b0":
        stays = m.flag("at_largest", all_of(over, inward))
        magnitude = m.wire("limited", size, f"{stays} ? {number(fmt.max_code, size)} : {magnitude}").name
    beyond = any_of(outward_over, ends.inf)
    if policy.overflow is Overflow.NAN:
        nan = m.flag("is_nan", any_of(nan, beyond))
    elif beyond != "1'b0":
        code = fmt.max_code if policy.overflow is Overflow.SATURATE else fmt.inf_code or 0
        beyond = m.flag("is_beyond", beyond)
        magnitude = m.wire("ranged", size, f"{beyond} ? {number(code, size)} : {magnitude}").name
    if not fmt.is_signed:
        return _unsigned(m, policy, magnitude, nan, ends)
    sign = ends.sign
    if policy.positive_zero:
        sign = m.flag("sign_unless_zero", all_of(sign, f"(|{magnitude})"))
        if ends.inf != "1'b0":
            sign = m.flag("sign_of_inf", f"{ends.inf} ? {ends.inf_sign} : {sign}")
    else:
        if ends.zero_sign != sign:
            sign = m.flag("sign_or_zero", f"{is_zero} ? {ends.zero_sign} : {sign}")
        if ends.inf != "1'b0" and ends.inf_sign != sign:
            sign = m.flag("sign_of_inf", f"{ends.inf} ? {ends.inf_sign} : {sign}")
    if not fmt.has_negative_zero:
        sign = m.flag("sign_unless_zero", all_of(sign, f"(|{magnitude})"))
    result = Bits("finite_code", fmt.bits)
    m.wire(result.name, fmt.bits, joined(sign, magnitude))
    if nan == "1'b0":
        return result.name
    quiet = policy.nan_code if policy.nan_code is not None else fmt.nan_code
    if quiet is None:
        msg = f"{fmt.name} has no NaN"
        raise AssertionError(msg)
    return f"{nan} ? {number(quiet, fmt.bits)} : {result}"


def _unsigned(m: Module, policy: Policy, magnitude: str, nan: str, ends: Ends) -> str:
    """Pack a magnitude without sign: what is negative and not zero is below the range."""
    fmt, size = policy.fmt, policy.fmt.magnitude_bits
    result = m.wire("finite_code", size, magnitude)
    if ends.sign != "1'b0":
        below = m.wire("below_range", 1, f"{ends.sign} & (|{result})").name
        if policy.overflow is Overflow.SATURATE or not fmt.has_nan:
            result = m.wire("in_range", size, f"{result} & {{{size}{{~{below}}}}}")
        else:
            nan = m.flag("not_in_range", any_of(nan, below))
    return result.name if nan == "1'b0" else f"{nan} ? {number(fmt.nan_code or 0, size)} : {result}"


def _inward(policy: Policy, sign: str) -> str:
    """Return whether a finite result beyond the range stays at the largest number."""
    if policy.always_overflow:
        return "1'b0"
    match policy.rounding:
        case Rounding.TOWARD_ZERO | Rounding.TO_ODD:
            return "1'b1"
        case Rounding.TOWARD_POSITIVE:
            return sign
        case Rounding.TOWARD_NEGATIVE:
            return "1'b1" if sign == "1'b0" else f"~{sign}"
    return "1'b0"
