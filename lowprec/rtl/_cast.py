"""Casts between floating-point formats as Verilog."""

from __future__ import annotations

from dataclasses import replace

from lowprec.formats import FloatFormat
from lowprec.rounding import Overflow
from lowprec.rtl._float_finish import Ends, Policy, finish, finish_code, normalise, round_up
from lowprec.rtl._float_parts import (
    Bits,
    Module,
    Number,
    any_of,
    joined,
    number,
    shift_right,
    signed_width,
    unpack,
    zeros,
)


def cast_text(name: str, source: FloatFormat, policy: Policy) -> Module:
    """Return y = the number of a, rounded once to the policy's format."""
    fmt, daz = policy.fmt, policy.flush
    policy = replace(policy, flush=policy.flush and fmt.has_subnormals)
    m = Module(
        name,
        f"y = a, rounded once: a in {source}, y in {fmt}\n"
        f"rounding {policy.rounding}, subnormal numbers {'count as zeros' if daz else 'kept'}, beyond the range: "
        f"{policy.overflow}",
    )
    a = unpack(m, m.input("a", source.bits), source, flush=daz)
    gradual = source.has_subnormals and not daz and fmt.emin < source.emin  # some become normal numbers
    if not fmt.has_zero:
        value = _bare(m, a, policy)
    elif policy.flush:
        value = _flushing(m, a, policy, gradual=gradual)
    elif gradual:
        value = _widening(m, a, policy)
    else:
        value = _narrowing(m, a, policy)
    m.output("y", fmt.bits, value)
    return m


def _ends(m: Module, a: Number, fmt: FloatFormat) -> Ends:
    """Return what the number's datapath does not see; a format without sign has no negative numbers."""
    nan = a.nan if fmt.has_nan else "1'b0"  # without NaN there is nothing to make of one
    return Ends(a.sign, a.sign, a.inf, a.sign, nan)


def _top(m: Module, a: Number, policy: Policy) -> tuple[Bits, str]:
    """Return the upper bits of the significand that rounding reads, and whether anything lies below them."""
    size = a.significand.width
    if size <= policy.keep:
        return a.significand, "1'b0"
    kept = m.wire("upper", policy.keep, a.significand.top(policy.keep))
    return kept, m.wire("lower", 1, f"|{a.significand.part(size - policy.keep - 1, 0)}").name


def _exponent(m: Module, a: Number, shift: int) -> tuple[Bits, bool]:
    """Return the exponent, biased as in the other format, and whether it can be less than 1."""
    width = max(2, signed_width(shift, (1 << a.exponent.width) - 1 + shift))
    low = a.lowest + shift < 1 or (a.fmt.has_zero and shift < 0)
    if shift == 0:
        return m.wire("exponent", width, joined(zeros(width - a.exponent.width), a.exponent.name)), low
    return m.wire("exponent", width, f"{a.exponent} + {number(shift, width)}"), low


def _narrowing(m: Module, a: Number, policy: Policy) -> str:
    """Shift what lies below the smallest normal exponent right: the code is exponent and fraction, plus rounding."""
    fmt = policy.fmt
    shift, man, guards = fmt.bias - a.fmt.bias, fmt.mantissa_bits, policy.guards
    ends = _ends(m, a, fmt)
    kept, lower = _top(m, a, policy)
    m.note("exponent, biased as in the result")
    if shift == 0 and a.fmt.has_zero:  # the same smallest normal number: the code is cut
        field = Bits(f"{a.exponent.name.split('_')[0]}_field", a.exponent.width)
        whole = m.wire("fixed", policy.keep, joined(kept.name, zeros(policy.keep - kept.width)))
    else:
        exponent, low = _exponent(m, a, shift)
        sign = exponent.bit(exponent.width - 1)
        if not low:
            # a zero has no exponent
            mask = "" if a.nonzero == "1'b1" else f" & {{{exponent.width - 1}{{{a.nonzero}}}}}"
            field = m.wire("field", exponent.width - 1, f"{exponent.part(exponent.width - 2, 0)}{mask}")
            whole = m.wire("fixed", policy.keep, joined(kept.name, zeros(policy.keep - kept.width)))
        else:
            normal = m.wire("is_normal", 1, f"~{sign} & (|{exponent})").name
            deficit = m.wire("deficit", exponent.width, f"{number(1, exponent.width)} - {exponent}")
            steps = min(exponent.width, policy.keep.bit_length())
            amount = deficit.part(steps - 1, 0)
            if exponent.width > steps:
                far = m.wire("is_far", 1, f"|{deficit.part(exponent.width - 1, steps)}").name
                amount = f"({amount} | {{{steps}{{{far}}}}})"
            by = m.wire("shift_amount", steps, f"{amount} & {{{steps}{{~{normal}}}}}")
            whole, sticky = shift_right(m, "significand", kept, by, policy.keep)
            lower = m.flag("below", any_of(lower, sticky))
            size = exponent.width - 1
            field = m.wire("field", size, f"{exponent.part(size - 1, 0)} & {{{size}{{{normal}}}}}")
    m.note(f"round to {fmt.precision} significand bits, {policy.rounding}")
    rest = whole.part(guards - 1, 0) if guards else ""
    fraction = whole.part(man + guards - 1, guards) if man else ""
    lsb = whole.bit(guards)
    up = round_up(m, policy, "goes_up", lsb, rest, lower, ends)
    plus = "" if up == "1'b0" else f" + {up}"
    body = m.wire("rounded", field.width + man + 1, joined("1'b0", field.name, fraction) + plus)
    return finish_code(m, policy, body, ends)


def _widening(m: Module, a: Number, policy: Policy) -> str:
    """Normalise subnormal numbers, as far as the other format's smallest exponent allows."""
    fmt = policy.fmt
    width = max(1, ((1 << a.exponent.width) - 1 + fmt.bias - a.fmt.bias).bit_length())
    level = m.wire("level", width, f"{a.exponent} + {number(fmt.bias - a.fmt.bias - 1, width)}")
    normal = normalise(m, a.significand, policy.keep, a.significand.width - 1, level=level)
    return finish(m, policy, normal, normal.level or level, _ends(m, a, fmt))


def _flushing(m: Module, a: Number, policy: Policy, *, gradual: bool) -> str:
    """Round normal numbers; what is below the other format's is a zero."""
    fmt = policy.fmt
    shift = fmt.bias - a.fmt.bias
    most = a.significand.width - 1 if gradual else 0
    normal = normalise(m, a.significand, policy.keep, most)
    width = signed_width(shift - most, (1 << a.exponent.width) - 1 + shift)
    less = f" - {normal.shifted}" if most else ""
    field = m.wire("field", width, f"{a.exponent} + {number(shift, width)}{less}")
    return finish(m, policy, normal, field, _ends(m, a, fmt))


def _bare(m: Module, a: Number, policy: Policy) -> str:
    """Round to a format without sign, zero or subnormal numbers: numbers below its smallest become that."""
    fmt = policy.fmt
    saturates = policy.overflow is Overflow.SATURATE or not fmt.has_nan
    size, man = fmt.magnitude_bits, fmt.mantissa_bits
    shift = -a.fmt.bias - fmt.emin  # level of the top bit: exponent + shift
    width = signed_width(shift, (1 << a.exponent.width) - 1 + shift)
    level = m.wire("level", width, f"{a.exponent} + {number(shift, width)}")
    low = level.bit(width - 1)
    bound = m.wire("level_left", width - 1, f"{level.part(width - 2, 0)} & {{{width - 1}{{~{low}}}}}")
    subnormal = a.fmt.has_subnormals and not (policy.flush or a.nonzero == a.significand.bit(a.fmt.mantissa_bits))
    normal = normalise(m, a.significand, policy.keep, a.significand.width - 1 if subnormal else 0, level=bound)
    field = normal.level or bound
    guards = policy.guards
    whole = normal.bits
    lead = whole.bit(policy.keep - 1)
    rest = whole.part(guards - 1, 0) if guards else ""
    ends = Ends("1'b0")
    up = round_up(m, policy, "goes_up", whole.bit(guards), rest, normal.sticky, ends)
    fraction = whole.part(man + guards - 1, guards) if man else ""
    plus = "" if up == "1'b0" else f" + {up}"
    body = m.wire("rounded", field.width + man + 1, joined("1'b0", field.name, fraction) + plus)
    least = m.wire("is_least", 1, f"{low} | ~{lead}").name
    clear = m.wire("number", body.width, f"{body} & {{{body.width}{{~{least}}}}}")
    below = m.flag("below_range", any_of(a.sign, f"~{a.nonzero}" if a.nonzero != "1'b1" else "1'b0"))
    nan = any_of(a.nan, *(() if saturates else (below,))) if fmt.has_nan else "1'b0"
    inf = a.inf
    code = finish_code(m, policy, clear, Ends("1'b0", "1'b0", inf, "1'b0", m.flag("nan", nan)))
    if saturates and below != "1'b0":
        held = m.wire("in_range", size, code)
        return f"{below} ? {number(0, size)} : {held}"
    return code
