"""Fused dot units as Verilog: several products and an addend, aligned to the largest exponent, truncated, added.

What tensor cores do: `lowprec.FusedTruncated` has the words, and the unit is one block of it. N. Khattak, M. Mikaitis,
arXiv:2512.07004; MMA-Sim, arXiv:2511.10909.
"""

from __future__ import annotations

from typing import Any

from lowprec.accumulators import FusedTruncated, Sequential
from lowprec.accumulators import model as model_of
from lowprec.formats import FloatFormat
from lowprec.hardware import select
from lowprec.rounding import Overflow, Rounding, Subnormals
from lowprec.rtl import _float_model as emulation
from lowprec.rtl._design import Design
from lowprec.rtl._float import exclusive_or, product_of
from lowprec.rtl._float_finish import Ends, Policy, finish, normalise
from lowprec.rtl._float_parts import (
    Bits,
    Module,
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
from lowprec.rtl._float_units import finished, float_operand, tail, words
from lowprec.rtl._request import Request, unused


class Scale:
    """The exponents of a unit, counted from the smallest that any addend has."""

    def __init__(self, formats: tuple[FloatFormat, FloatFormat], c_format: FloatFormat, floor: int) -> None:
        """Find the range."""
        a, b = formats
        self.zero = min(a.emin + b.emin, c_format.emin)  # the exponent that counts as 0
        most = (1 << c_format.exponent_bits) - 1 - c_format.bias
        products = sum((1 << fmt.exponent_bits) - 1 - fmt.bias for fmt in formats)
        self.floor = max(0, floor - self.zero)  # the least exponent to align to, on this scale
        self.width = max(max(most, products) - self.zero, self.floor).bit_length()


def lane_text(name: str, formats: tuple[FloatFormat, FloatFormat], scale: Scale, *, flush: bool) -> Module:
    """Return the product of one lane: sign, exponent on the unit's scale (0 for a zero), significand, kinds."""
    m = Module(name, f"one product: a in {formats[0]}, b in {formats[1]}; its exponent counts from {scale.zero}")
    a = unpack(m, m.input("a", formats[0].bits), formats[0], flush=flush, mask=False)
    b = unpack(m, m.input("b", formats[1].bits), formats[1], flush=flush, mask=False)
    p = product_of(m, a, b, flush=flush)
    m.note("exponent")
    shift = -formats[0].bias - formats[1].bias - scale.zero
    plus = f" + {number(shift, scale.width)}" if shift else ""
    total = m.wire("exponent_sum", scale.width, f"{p.exponents}{plus}")
    m.output("sign", 1, p.sign)
    m.output("significand", p.bits, p.significand.name)
    mask = "" if p.nonzero == "1'b1" else f" & {{{scale.width}{{{p.nonzero}}}}}"
    m.output("exponent", scale.width, f"{total}{mask}")
    m.output("inf", 1, p.inf)
    m.output("nan", 1, p.nan)
    return m


def align_text(name: str, bits: int, window: int, lead: int, scale: Scale) -> Module:
    """Return the aligner of a lane: its significand moved right to the unit's exponent, cut, and its sign applied."""
    m = Module(name, f"a significand of {bits} bits aligned in {window} bits and cut, inverted where it is subtracted")
    significand = m.input("significand", bits)
    exponent, largest = m.input("exponent", scale.width), m.input("largest", scale.width)
    subtract = m.input("subtract", 1)
    value = aligned(m, significand, exponent, largest, window, lead)
    m.output("addend", window + 1, f"{{1'b0, {value}}} ^ {{{window + 1}{{{subtract}}}}}")
    return m


def aligned(m: Module, significand: Bits, exponent: Bits, largest: Bits, window: int, lead: int) -> Bits:
    """Shift a significand right by its distance to the largest exponent; `lead` zeros stand above it in the window."""
    x = significand if not lead else m.wire("placed", lead + significand.width, joined(zeros(lead), significand.name))
    if x.width > window:
        x = m.wire("cut", window, x.top(window))
    distance = m.wire("distance", exponent.width, f"{largest} - {exponent}")
    steps = min(distance.width, window.bit_length())
    amount = distance
    if distance.width > steps:
        far = m.wire("is_far", 1, f"|{distance.part(distance.width - 1, steps)}").name
        amount = m.wire("amount", steps, f"{distance.part(steps - 1, 0)} | {{{steps}{{{far}}}}}")
    return shift_right(m, "aligned", x, amount, window, truncate=True)[0]


def largest(m: Module, exponents: list[Bits], name: str) -> Bits:
    """Return the largest of some unsigned numbers: a tree of comparisons."""
    level = 0
    while len(exponents) > 1:
        pairs = []
        for i in range(0, len(exponents) - 1, 2):
            x, y = exponents[i], exponents[i + 1]
            pairs.append(m.wire(f"{name}_{level}_{i // 2}", x.width, f"{x} > {y} ? {x} : {y}"))
        exponents = pairs + exponents[len(exponents) - len(exponents) % 2 :]
        level += 1
    return exponents[0]


def total_of(m: Module, addends: list[Bits], signs: list[str], width: int) -> Bits:
    """Add inverted or plain numbers, each with its sign as the carry, in a chain; the first one has no sign."""
    total = m.wire("sum_0", width, _extended(addends[0], width))
    for i, (addend, sign) in enumerate(zip(addends[1:], signs, strict=True), 1):
        total = with_carry(m, f"sum_{i}", width, total.name, _extended(addend, width), sign)
    return total


def _extended(x: Bits, width: int) -> str:
    """Return a two's complement number in more bits."""
    return x.name if x.width == width else f"{{{{{width - x.width}{{{x.bit(x.width - 1)}}}}}, {x}}}"


def dot_text(name: str, formats: tuple[FloatFormat, FloatFormat], model: FusedTruncated, *, flush: bool) -> str:
    """Return one block of a `FusedTruncated` sum: buses a and b (lane 0 lowest), c and y."""
    out, c_format = model.out, model.c_format or model.out
    kept = out.mantissa_bits if model.kept_bits is None else model.kept_bits
    scale = Scale(formats, c_format, model.exponent_floor or 0)
    length, fraction = model.length, model.fraction_bits
    window = fraction + 2
    product_bits = formats[0].precision + formats[1].precision
    lane = lane_text(f"{name}_lane", formats, scale, flush=flush)
    align = align_text(f"{name}_align", product_bits, window, 0, scale)
    align_c = align_text(f"{name}_align_c", c_format.precision, window, 1, scale)

    m = Module(
        name,
        f"y = c + a[0] * b[0] + ... + a[{length - 1}] * b[{length - 1}]: {formats[0]} times {formats[1]}, c in "
        f"{c_format}, y in {out}\naligned to the largest exponent, cut at {fraction} fraction bits, added exactly, "
        f"rounded {model.rounding}\nsubnormal numbers {'count as zeros' if flush else 'kept'}; every zero is +0",
    )
    a, b = (m.input(port, fmt.bits * length) for port, fmt in zip("ab", formats, strict=True))
    c = unpack(m, m.input("c", c_format.bits), c_format, flush=flush)
    m.note("c on the scale of the exponents; a zero has the least one")
    shift = -c_format.bias - scale.zero
    c_sum = f"({c.exponent} + {number(shift, scale.width)})" if shift else _widened(c.exponent, scale.width)
    c_exponent = m.wire("c_scaled", scale.width, f"{c_sum} & {{{scale.width}{{{c.nonzero}}}}}")

    m.note("the products")
    lanes = []
    for i in range(length):
        ports = {"sign": 1, "significand": product_bits, "exponent": scale.width, "inf": 1, "nan": 1}
        wires = {port: m.undriven(f"p{i}_{port}", width) for port, width in ports.items()}
        ins = {"a": slice_of(a, i, formats[0].bits), "b": slice_of(b, i, formats[1].bits)}
        m.instance(lane.name, f"lane_{i}", ins | {port: wire.name for port, wire in wires.items()})
        lanes.append(wires)

    m.note("the largest exponent")
    top = largest(m, [c_exponent, *(wires["exponent"] for wires in lanes)], "larger")
    if scale.floor:
        least = number(scale.floor, scale.width)
        top = m.wire("at_least_floor", scale.width, f"{top} > {least} ? {top} : {least}")

    m.note("all aligned to it; signs relative to that of c, so that c is what the others are added to")
    first = m.undriven("c_addend", window + 1)
    links = {"significand": c.significand.name, "exponent": c_exponent.name, "largest": top.name, "subtract": "1'b0"}
    m.instance(align_c.name, "align_c", links | {"addend": first.name})
    addends, signs = [first], []
    for i, wires in enumerate(lanes):
        signs.append(exclusive_or(m, f"p{i}_subtract", wires["sign"].name, c.sign))
        addend = m.undriven(f"p{i}_addend", window + 1)
        links = {"significand": wires["significand"].name, "exponent": wires["exponent"].name, "largest": top.name}
        m.instance(align.name, f"align_{i}", links | {"subtract": signs[-1], "addend": addend.name})
        addends.append(addend)
    m.note("the exact sum, and its absolute value")
    growth = length.bit_length()  # of length + 1 addends below 2 ** window
    width = window + growth + 1
    total = total_of(m, addends, signs, width)
    negative = total.bit(width - 1)
    body = total.part(width - 2, 0)
    magnitude = m.wire("magnitude", width - 1, f"({body} ^ {{{width - 1}{{{negative}}}}}) + {negative}")
    sign = exclusive_or(m, "total_sign", negative, c.sign)

    m.note("infinities and NaN")
    minus = m.wire("minus_inf", 1, any_of(all_of(c.inf, c.sign), *(f"({w['inf']} & {w['sign']})" for w in lanes)))
    plus = m.wire("plus_inf", 1, any_of(all_of(c.inf, f"~{c.sign}"), *(f"({w['inf']} & ~{w['sign']})" for w in lanes)))
    nan = m.wire("nan", 1, any_of(c.nan, *(f"{w['nan']}" for w in lanes), f"({minus} & {plus})"))
    inf = m.wire("inf", 1, f"{minus} | {plus}")
    ends = Ends(sign, "1'b0", inf.name, minus.name, nan.name)

    # a result of fewer fraction bits is one of a narrower format, with zeros behind it
    narrow = FloatFormat("kept", exponent_bits=out.exponent_bits, mantissa_bits=kept, bias=out.bias)
    policy = Policy(
        narrow,
        model.rounding,
        Overflow.INF,
        flush,
        always_overflow=True,
        nan_code=(1 << narrow.magnitude_bits) - 1,
        positive_zero=True,
    )
    code = round_sum(m, policy, magnitude, top, scale.zero + 1 + growth, ends)
    short = m.wire("code", narrow.bits, code)
    tail = f"{{{out.mantissa_bits - kept}{{{nan}}}}}" if kept < out.mantissa_bits else ""
    m.output("y", out.bits, joined(short.name, tail))
    return "\n".join(module.text() for module in (lane, align, align_c, m))


def slice_of(bus: Bits, lane: int, bits: int) -> str:
    """Return one lane of a bus."""
    return bus.part((lane + 1) * bits - 1, lane * bits)


def _widened(x: Bits, width: int) -> str:
    """Return an unsigned number in more bits."""
    return joined(zeros(width - x.width), x.name)


def round_sum(m: Module, policy: Policy, magnitude: Bits, exponent: Bits, weight: int, ends: Ends) -> str:
    """Normalise and round a magnitude whose top bit weighs 2 ** (exponent + weight); return the code."""
    fmt = policy.fmt
    high = (1 << exponent.width) - 1 + weight
    if policy.flush:
        width = signed_width(weight + fmt.bias - magnitude.width, high + fmt.bias)
        normal = normalise(m, magnitude, policy.keep, magnitude.width - 1)
        field = m.wire("field", width, f"{exponent} + {number(weight + fmt.bias, width)} - {normal.shifted}")
        return finish(m, policy, normal, field, ends)
    least = weight - fmt.emin  # of the top bit's distance to the smallest normal number
    above = max(0, min(policy.keep + 1, -least))
    width = signed_width(least + above, high - fmt.emin + above)
    m.note("by how much the top lies above the smallest normal number")
    level = m.wire("top_level", width, f"{exponent} + {number(least + above, width)}")
    body = level.part(width - 2, 0)
    if least + above < 0:
        body += f" & {{{width - 1}{{~{level.bit(width - 1)}}}}}"
    bound = m.wire("level", width - 1, body)
    window = m.wire("window", magnitude.width + above, joined(zeros(above), magnitude.name)) if above else magnitude
    normal = normalise(m, window, policy.keep, window.width - 1, level=bound)
    return finish(m, policy, normal, normal.level or bound, ends)


def build(request: Request) -> Design:
    """Return a fused dot unit: one block of a `FusedTruncated` sum."""
    unused(request, "dot", "kind", "to", "k")
    formats = float_operand(request.a, "fmt"), float_operand(request.b, "fmt")
    model = _model(request, formats)
    out, c_format = model.out, model.c_format or model.out
    subnormals = request.subnormals if request.subnormals_given else Subnormals.KEEP
    if subnormals is Subnormals.FLUSH_INPUTS:
        msg = '`subnormals` must be "flush" (operands and result) or "keep" in a dot unit, got "flush_inputs".'
        raise ValueError(msg)
    flush = subnormals is Subnormals.FLUSH
    pair = words(*(formats if formats[0] != formats[1] else formats[:1]))
    kept = "" if model.kept_bits is None else f"kept{model.kept_bits}"
    shape = f"x{model.length}_cut{model.fraction_bits}"
    name = words("dot", pair, shape, out, kept, tail(model.rounding, subnormals, Subnormals.KEEP))
    ports = {"a": formats[0].bits * model.length, "b": formats[1].bits * model.length, "c": c_format.bits}
    return finished(
        (dot_text(name, formats, model, flush=flush), ports, {"y": out.bits}),
        name,
        "dot",
        lambda inputs: emulation.dot(inputs, formats, model, flush=flush),
        request.register,
        facts={
            "a": formats[0].name,
            "b": formats[1].name,
            "lanes": model.length,
            "accumulator": repr(model),
            "subnormals": str(subnormals),
        },
        vectors=emulation.lane_vectors(formats, c_format, model.length),
        formats={"c": c_format, "y": out},
    )


def _model(request: Request, formats: tuple[FloatFormat, FloatFormat]) -> FusedTruncated:
    """Return the model of the sum: the one given, a preset's, or one as wide as the format that is named."""
    given: Any = request.accumulator
    found = model_of("float32" if given is None else given)
    if isinstance(found, str):
        try:
            found = select(found, formats).model
        except ValueError as error:
            raise ValueError(str(error).replace("`dtype`", "`fmt`", 1)) from None
    if isinstance(found, Sequential):
        rounding = request.rounding if request.rounding_given else Rounding.TOWARD_ZERO
        return FusedTruncated(request.lanes or 16, found.format.mantissa_bits, found.format, rounding)
    if not isinstance(found, FusedTruncated):
        msg = (
            "`accumulator` must be the name of a float format, a lp.FusedTruncated or a preset whose row is one, got "
            f"{given!r}, which is {found!r}."
        )
        raise ValueError(msg)
    if request.lanes is not None and request.lanes != found.length:
        msg = f"`lanes` must be left out or the model's length, {found.length}, got {request.lanes}."
        raise ValueError(msg)
    if request.rounding_given and request.rounding is not found.rounding:
        msg = f"`rounding` must be left out or the model's, {found.rounding}, got {request.rounding}."
        raise ValueError(msg)
    return found
