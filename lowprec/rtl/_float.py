"""Floating-point units as Verilog: fused multiply-add, multiply, add.

The fused multiply-add has one path: the addend is shifted against the product in a window, one adder, one absolute
value, one normaliser, one rounding. See docs/rtl.md for the widths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lowprec.formats import FloatFormat
from lowprec.rounding import Rounding
from lowprec.rtl._float_finish import Ends, Policy, finish, normalise
from lowprec.rtl._float_parts import (
    Bits,
    Module,
    Number,
    all_of,
    any_of,
    joined,
    number,
    shift_right,
    signed_width,
    unpack,
    with_carry,
    zeros,
)


def exclusive_or(m: Module, name: str, x: str, y: str) -> str:
    """Return the XOR of two signals, constants taken out."""
    if "1'b0" in (x, y):
        return m.flag(name, y if x == "1'b0" else x)
    return m.flag(name, f"{x} ^ {y}")


@dataclass(frozen=True)
class Product:
    """What is added to c: a sign, a significand, the sum of two exponents, kinds.

    Its last bit weighs ``2 ** (exponents - bias)``. If `is_normal`, a product that is not zero has a one in its two
    upper bits.
    """

    sign: str
    significand: Bits
    nonzero: str
    inf: str
    nan: str
    exponents: str
    bias: int
    most: int  # of the sum of exponents, any code
    lowest: int  # of a number that is neither zero nor special
    highest: int
    is_normal: bool

    @property
    def bits(self) -> int:
        """Width of the significand."""
        return self.significand.width


def product_of(m: Module, a: Number, b: Number, *, flush: bool) -> Product:
    """Multiply two unpacked numbers."""
    m.note("product: sign, exact significand, kinds")
    nonzero = m.flag("product_nonzero", all_of(a.nonzero, b.nonzero))
    first = a.significand
    if flush and nonzero != "1'b1":  # one mask makes the product of zeros zero
        first = m.wire("a_masked", first.width, f"{first} & {{{first.width}{{{nonzero}}}}}")
    invalid = any_of(*(all_of(x.inf, f"~{y.nonzero}") for x, y in ((a, b), (b, a)) if y.nonzero != "1'b1"))
    return Product(
        sign=exclusive_or(m, "product_sign", a.sign, b.sign),
        significand=m.wire("product", a.fmt.precision + b.fmt.precision, f"{first} * {b.significand}"),
        nonzero=nonzero,
        inf=m.flag("product_inf", any_of(a.inf, b.inf)),
        nan=m.flag("product_nan", any_of(a.nan, b.nan, f"({invalid})" if invalid != "1'b0" else invalid)),
        exponents=f"{a.exponent} + {b.exponent}",
        bias=a.fmt.bias + b.fmt.bias + a.fmt.mantissa_bits + b.fmt.mantissa_bits,
        most=(1 << a.exponent.width) + (1 << b.exponent.width) - 2,
        lowest=a.lowest + b.lowest,
        highest=a.highest + b.highest,
        is_normal=flush,
    )


def check_nan(fmt: FloatFormat, operands: tuple[FloatFormat, ...]) -> None:
    """Refuse a result format without NaN where a NaN may arise."""
    if not fmt.has_nan and any(x.has_nan or x.has_inf for x in operands):
        source = next(x for x in operands if x.has_nan or x.has_inf)
        msg = f"`accumulator` must be a format with NaN for operands in `{source}`, which give one, got `{fmt}`."
        raise ValueError(msg)


def mac_text(name: str, formats: tuple[FloatFormat, FloatFormat], policy: Policy) -> Module:
    """Return y = round(a * b + c), c and y in the policy's format."""
    fmt, daz = policy.fmt, policy.flush
    policy = replace(policy, flush=policy.flush and fmt.has_subnormals)
    m = Module(
        name,
        f"y = a * b + c, rounded once: a in {formats[0]}, b in {formats[1]}, c and y in {fmt}\n"
        f"rounding {policy.rounding}, subnormal numbers {'count as zeros' if daz else 'kept'}",
    )
    a = unpack(m, m.input("a", formats[0].bits), formats[0], flush=daz, mask=False)
    b = unpack(m, m.input("b", formats[1].bits), formats[1], flush=daz, mask=False)
    c = unpack(m, m.input("c", fmt.bits), fmt, flush=daz)
    random = m.input("random", policy.random_bits) if policy.rounding is Rounding.STOCHASTIC else None
    p = product_of(m, a, b, flush=daz)
    m.output("y", fmt.bits, fused_sum(m, policy, p, c, random))
    return m


def fused_sum(m: Module, policy: Policy, p: Product, c: Number, random: Bits | None = None) -> str:
    """Add an exact product and a number of the result's format, and round once; return the code."""
    fmt, flush, guards = policy.fmt, policy.flush, policy.guards
    subtract = exclusive_or(m, "subtract", p.sign, c.sign)

    # The window, from its top: c where it is largest, `left` guard bits, the product, `right` bits for a small c.
    size, precision = p.bits, fmt.precision
    left = guards + 1
    # `level`: the biased exponent of the place above the window's top; of the product's window it is its exponents plus
    offset = size + left + fmt.bias + fmt.mantissa_bits - p.bias
    least, most = offset, p.most + offset
    reach = p.highest + offset - 1  # the largest shift of a c that is not zero
    right = guards + 2 + precision - (size if p.is_normal else 0)
    right = max(0, min(right, reach - size - left))
    window = size + right + left + precision
    m.note("exponents: how far c is shifted right against the product, and the exponent of the window's top")
    width = signed_width(least - (1 << c.exponent.width), max(most, 1 << c.exponent.width))
    ahead = m.wire("product_level", width, f"{p.exponents} + {number(offset, width)}")
    shift = m.wire("c_shift", width, f"{ahead} - {c.exponent}")
    alone = m.wire("c_leads", 1, any_of(shift.bit(width - 1), "1'b0" if p.nonzero == "1'b1" else f"~{p.nonzero}")).name
    c_level = joined(zeros(width - c.exponent.width), c.exponent.name)
    level = m.wire("level", width, f"{alone} ? {c_level} : {ahead}")
    steps = min(max(1, reach).bit_length(), window.bit_length(), width - 1)
    low = shift.part(steps - 1, 0)
    if reach >= 1 << steps:
        far = m.wire("c_is_far", 1, f"|{shift.part(width - 2, steps)}").name
        low = f"({low} | {{{steps}{{{far}}}}})"
    amount = m.wire("c_shift_amount", steps, f"{low} & {{{steps}{{~{alone}}}}}")
    aligned, sticky = shift_right(m, "c", c.significand, amount, window)

    m.note("add or subtract; what was shifted out of c is borrowed; then the absolute value")
    addend = m.wire("addend", window, f"{aligned} ^ {{{window}{{{subtract}}}}}")
    carry = m.flag("borrowless", all_of(subtract, "1'b1" if sticky == "1'b0" else f"~{sticky}"))
    wide = joined(zeros(1 + left + precision), p.significand.name, zeros(right))
    total = with_carry(m, "total", window + 1, wide, f"{{1'b0, {addend}}}", carry)
    negative = m.flag("c_is_larger", all_of(subtract, f"~{total.bit(window)}"))
    raw = total.part(window - 1, 0)
    magnitude = m.wire("magnitude", window, f"({raw} ^ {{{window}{{{negative}}}}}) + {negative}")
    sign = exclusive_or(m, "total_sign", p.sign, negative)

    lowest = max(0, min(right, right + size - 2 - precision) if p.is_normal else right - precision)
    if flush:
        normal = normalise(m, magnitude, policy.keep, window - 1 - lowest, sticky=sticky)
        span = signed_width(min(least, 0) - window, max(most, 1 << c.exponent.width))
        extended = joined(f"{{{span - width}{{{level.bit(width - 1)}}}}}" if span > width else "", level.name)
        field = m.wire("field", span, f"{extended} - {normal.shifted}")
    else:
        padded = m.wire("padded", window + 1, f"{{1'b0, {magnitude}}}")
        bound = m.wire("level_left", width - 1, level.part(width - 2, 0))
        normal = normalise(m, padded, policy.keep, window - lowest, sticky=sticky, level=bound)
        field = normal.level if normal.level is not None else bound
    down = policy.rounding is Rounding.TOWARD_NEGATIVE
    zero_sign = m.flag("zero_sign", any_of(p.sign, subtract) if down else all_of(p.sign, f"~{subtract}"))
    clash = all_of(p.inf, c.inf, subtract)
    nan = m.flag("nan", any_of(p.nan, c.nan, f"({clash})" if clash != "1'b0" else clash))
    inf = m.flag("inf", any_of(p.inf, c.inf))
    inf_sign = p.sign if c.inf == "1'b0" else c.sign if p.inf == "1'b0" else f"({p.inf} ? {p.sign} : {c.sign})"
    return finish(m, policy, normal, field, Ends(sign, zero_sign, inf, inf_sign, nan, random))


def multiply_text(name: str, formats: tuple[FloatFormat, FloatFormat], policy: Policy) -> Module:
    """Return y = round(a * b), y in the policy's format."""
    fmt, daz = policy.fmt, policy.flush
    policy = replace(policy, flush=policy.flush and fmt.has_subnormals)
    m = Module(
        name,
        f"y = a * b, rounded once: a in {formats[0]}, b in {formats[1]}, y in {fmt}\n"
        f"rounding {policy.rounding}, subnormal numbers {'count as zeros' if daz else 'kept'}",
    )
    a = unpack(m, m.input("a", formats[0].bits), formats[0], flush=daz, mask=False)
    b = unpack(m, m.input("b", formats[1].bits), formats[1], flush=daz, mask=False)
    p = product_of(m, a, b, flush=daz)
    ends = Ends(p.sign, p.sign, p.inf, p.sign, p.nan)
    size = p.bits
    if policy.flush:
        m.note("exponent: biased, of the product's top bit")
        offset = size - 1 + fmt.bias - p.bias
        width = signed_width(offset - 1, p.most + offset)
        level = m.wire("level", width, f"{p.exponents} + {number(offset, width)}")
        normal = normalise(m, p.significand, policy.keep, 1)
        field = m.wire("field", width, f"{level} - {normal.shifted}")
    else:
        m.note(
            "exponent: by how much the top of the window lies above the smallest normal one, which ends all shifts;\n"
            "a product that is too small for the window is all sticky bit"
        )
        least = p.lowest - p.bias + size - 1 - fmt.emin  # of the product's top bit
        above = max(0, min(fmt.precision + policy.guards + 1, -least))
        offset = size - 1 + above - fmt.emin - p.bias
        width = signed_width(offset, p.most + offset)
        level = m.wire("level", width, f"{p.exponents} + {number(offset, width)}")
        body = level.part(width - 2, 0)
        if least + above < 0:
            body = f"{body} & {{{width - 1}{{~{level.bit(width - 1)}}}}}"
        bound = m.wire("level_left", width - 1, body)
        window = m.wire("window", size + above, joined(zeros(above), p.significand.name))
        normal = normalise(m, window, policy.keep, window.width - 1, level=bound)
        field = normal.level if normal.level is not None else bound
    m.output("y", fmt.bits, finish(m, policy, normal, field, ends))
    return m


def add_text(name: str, policy: Policy) -> Module:
    """Return y = round(a + b), all in the policy's format."""
    fmt, daz = policy.fmt, policy.flush
    policy = replace(policy, flush=policy.flush and fmt.has_subnormals)
    m = Module(
        name,
        f"y = a + b, rounded once: all in {fmt}\n"
        f"rounding {policy.rounding}, subnormal numbers {'count as zeros' if daz else 'kept'}",
    )
    first, second = m.input("a", fmt.bits), m.input("b", fmt.bits)
    a, b = (unpack(m, code, fmt, flush=daz) for code in (first, second))
    m.note("the larger magnitude goes first, so that no difference is negative")
    top, precision = fmt.magnitude_bits - 1, fmt.precision
    swap = m.wire("swap", 1, f"{first.part(top, 0)} < {second.part(top, 0)}").name
    sign = m.flag("large_sign", f"{swap} ? {b.sign} : {a.sign}")
    width = a.exponent.width
    exponent = m.wire("large_exponent", width, f"{swap} ? {b.exponent} : {a.exponent}")
    lower = m.wire("small_exponent", width, f"{swap} ? {a.exponent} : {b.exponent}")
    large = m.wire("larger", precision, f"{swap} ? {b.significand} : {a.significand}")
    small = m.wire("smaller", precision, f"{swap} ? {a.significand} : {b.significand}")
    subtract = m.flag("subtract", f"{a.sign} ^ {b.sign}")
    m.note("align the smaller one")
    right = policy.guards + 1
    window = precision + right
    shift = m.wire("distance", width, f"{exponent} - {lower}")
    steps = min(width, window.bit_length())
    amount = shift
    if width > steps:
        far = m.wire("is_far", 1, f"|{shift.part(width - 1, steps)}").name
        amount = m.wire("distance_amount", steps, f"{shift.part(steps - 1, 0)} | {{{steps}{{{far}}}}}")
    aligned, sticky = shift_right(m, "smaller", small, amount, window)
    m.note("add or subtract; what was shifted out is borrowed")
    addend = m.wire("addend", window, f"{aligned} ^ {{{window}{{{subtract}}}}}")
    carry = m.flag("borrowless", all_of(subtract, "1'b1" if sticky == "1'b0" else f"~{sticky}"))
    wide = joined("1'b0", large.name, zeros(right))
    total = with_carry(m, "total", window + 1, wide, f"{{{subtract}, {addend}}}", carry)
    if policy.flush:
        normal = normalise(m, total, policy.keep, window, sticky=sticky)
        span = signed_width(-window, (1 << width))
        field = m.wire("field", span, f"{exponent} - {normal.shifted} + {number(1, span)}")
    else:
        normal = normalise(m, total, policy.keep, window, sticky=sticky, level=exponent)
        field = normal.level if normal.level is not None else exponent
    down = policy.rounding is Rounding.TOWARD_NEGATIVE
    zero_sign = m.flag("zero_sign", any_of(a.sign, subtract) if down else all_of(a.sign, f"~{subtract}"))
    clash = all_of(a.inf, b.inf, subtract)
    nan = m.flag("nan", any_of(a.nan, b.nan, f"({clash})" if clash != "1'b0" else clash))
    inf = m.flag("inf", any_of(a.inf, b.inf))
    ends = Ends(sign, zero_sign, inf, sign, nan)
    m.output("y", fmt.bits, finish(m, policy, normal, field, ends))
    return m
