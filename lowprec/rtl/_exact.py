"""Exact accumulators: sums of products in fixed point, which round nothing, and their readout, which rounds once.

U. Kulisch, "Computer Arithmetic and Validity", 2nd edition, de Gruyter 2013, chapter 8. The accumulator is as wide as
`k` products of the largest magnitude need, and no wider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lowprec._checks import odd_float
from lowprec.codec import decode, encode
from lowprec.cost._width import accumulator_bits
from lowprec.formats import FloatFormat
from lowprec.formats import format as resolve
from lowprec.rounding import Rounding, Subnormals
from lowprec.rtl._bits import Array, signed, unsigned
from lowprec.rtl._design import Design, Ports, Vectors, registered
from lowprec.rtl._request import Request, floats, unused
from lowprec.rtl._text import comment, module
from lowprec.rtl._vectors import draw

_MOST_BITS = 4096


def step(a: FloatFormat, b: FloatFormat) -> int:
    """Return the exponent of the last bit of a sum: that of the product of the smallest numbers."""
    return (a.emin - a.mantissa_bits) + (b.emin - b.mantissa_bits)


def _integers(codes: Array, fmt: FloatFormat, kind: Any) -> Array:
    """Return finite values in units of the smallest, by `lowprec.decode`: int64, or Python integers."""
    values = np.asarray(decode(codes.astype(fmt.code_dtype), fmt, dtype=np.float64))
    last = fmt.emin - fmt.mantissa_bits
    if kind is np.int64:
        return np.asarray(np.ldexp(values, -last).astype(np.int64))  # exact: less than 2**62, and 53 significant bits
    significand, exponent = np.frexp(values)
    whole = np.ldexp(significand, 53).astype(np.int64).astype(object)
    shift = np.where(whole != 0, exponent - 53 - last, 0)
    up, down = np.maximum(shift, 0).astype(object), np.maximum(-shift, 0).astype(object)
    return np.asarray((whole << up) >> down)


def _kind(bits: int) -> Any:
    """Return the dtype in which sums of so many bits are exact."""
    return np.int64 if bits <= 60 else object


def _special(fmt: FloatFormat) -> Callable[[Array], Array]:
    """Return what says which codes are infinities or NaN."""

    def found(codes: Array) -> Array:
        if fmt.nan == "negative_zero":
            return np.asarray(codes == np.uint64(1 << fmt.magnitude_bits))
        return np.asarray((codes & np.uint64((1 << fmt.magnitude_bits) - 1)) > np.uint64(fmt.max_code))

    return found


def _vectors(a: FloatFormat, b: FloatFormat, bits: int) -> Vectors:
    """Return vectors whose addends cancel the product, lie far from it, or are runs of ones."""
    specials = (_special(a), _special(b))

    def finite(fmt: FloatFormat, special: Callable[[Array], Array], codes: Array) -> Array:
        return np.where(special(codes), np.uint64(fmt.max_code), codes)

    def make(rng: np.random.Generator, count: int, given: Mapping[str, Array]) -> dict[str, Array]:
        x = given.get("a", finite(a, specials[0], draw(a, rng, count)))
        y = given.get("b", finite(b, specials[1], draw(b, rng, count)))
        kind = _kind(bits)
        product = _integers(x, a, kind) * _integers(y, b, kind)
        size = min(bits, 60)
        place = rng.integers(0, bits, count).astype(kind)
        some = rng.integers(0, 1 << size, count).astype(kind)
        minus = np.where(rng.random(count) < 0.5, -1, 1).astype(kind)
        run = (np.ones(count, kind) << place) - rng.integers(0, 2, count).astype(kind)
        near = rng.integers(-1, 2, count).astype(kind) - product
        # shifts stay small so that nothing leaves 64 bits; what leaves the width is cut off
        away = np.where(place % 2 == 0, product >> place % 30, product << place % 4)
        random = (some << (place % max(1, bits - size + 1))) >> (place % size)
        which = rng.integers(0, 4, count)
        sums = np.where(which == 0, near, np.where(which == 1, minus * run, np.where(which == 2, away, minus * random)))
        return {"a": x, "b": y, "c": given.get("c", unsigned(sums, bits))}

    return make


def _operand(port: str, fmt: FloatFormat) -> list[str]:
    """Return the lines that take a code apart: significand, and exponent, which is 1 for subnormals too."""
    m, e = fmt.mantissa_bits, fmt.exponent_bits
    field = f"{port}[{m + e - 1}:{m}]" if e > 1 else f"{port}[{m}]"
    tail = f", {port}[{m - 1}:0]" if m > 1 else f", {port}[0]" if m else ""
    ones = f"{{{e - 1}'b0, ~{port}_normal}}" if e > 1 else f"~{port}_normal"
    return [
        f"wire {port}_normal = |{field};",
        f"wire [{m}:0] {port}_significand = {{{port}_normal{tail}}};",
        f"wire [{e - 1}:0] {port}_exponent = {field} | {ones};",
    ]


def _keeps(request: Request) -> None:
    """See that nobody asks an exact sum to flush."""
    if request.subnormals_given and request.subnormals is not Subnormals.KEEP:
        msg = f"`subnormals` must be left out or 'keep' for an exact sum, which keeps them, got '{request.subnormals}'."
        raise ValueError(msg)


def _formats(request: Request) -> tuple[FloatFormat, FloatFormat, int]:
    """Return both formats and the width of the sum."""
    a, b = floats(request.a, "fmt"), floats(request.b, "fmt")
    bits = accumulator_bits((a, b), request.k)
    if bits > _MOST_BITS:
        msg = f"`fmt` must need at most {_MOST_BITS} bits in an exact sum, got `{a}` and `{b}`, which need {bits}."
        raise ValueError(msg)
    return a, b, bits


def build(request: Request) -> Design:
    """Return y = c + a * b in fixed point, c and y two's complement."""
    unused(request, "exact accumulator", "kind", "lanes", "to", "rounding")
    _keeps(request)
    a, b, bits = _formats(request)
    one = accumulator_bits((a, b), 1)
    low = step(a, b)
    names = a.name if a == b else f"{a.name}_{b.name}"
    name = f"mac_{names}_exact{bits}"
    size = a.precision + b.precision
    last = (a.emax - a.emin) + (b.emax - b.emin) + 2
    shift = last.bit_length()
    live = max(one - 1, size)
    inputs = {"a": a.bits, "b": b.bits, "c": bits}
    body = [
        *_operand("a", a),
        *_operand("b", b),
        f"wire negative = a[{a.bits - 1}] ^ b[{b.bits - 1}];",
        f"wire [{size - 1}:0] product = a_significand * b_significand;",
        f"wire [{shift - 1}:0] shift = a_exponent + b_exponent;",
        f"// in fixed point: the last bit weighs 2**{low}",
        f"wire [{live + 1}:0] placed = product << shift;  // by 2 or more, since exponents are 1 or more",
        f"wire [{bits - 1}:0] addend = {{{bits}{{negative}}}} ^ placed[{live + 1}:2];",
        "// the complement and one: the one goes in as a carry",
        f"wire [{bits}:0] sum = {{c, 1'b1}} + {{addend, negative}};",
        f"assign y = sum[{bits}:1];",
    ]
    text = comment(
        [
            f"y = c + a * b without rounding: a is {a.name}, b {b.name}, c and y two's complement of {bits} bits,",
            f"their last bit 2**{low}: room for {request.k} products of the largest magnitude.",
            "Subnormals count; infinities and NaN have no place in a fixed-point sum and must not come.",
        ]
    ) + module(name, inputs, {"y": bits}, body)

    def expected(ports: Ports) -> Ports:
        kind = _kind(bits)
        product = _integers(ports["a"], a, kind) * _integers(ports["b"], b, kind)
        return {"y": unsigned(signed(ports["c"], bits).astype(kind) + product, bits)}

    top = name
    if request.register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, inputs, {"y": bits})
    return Design(
        top,
        text,
        top,
        inputs,
        {"y": bits},
        expected,
        unit="mac",
        facts={"a": a.name, "b": b.name, "accumulator": "exact", "bits": bits, "last_bit": low, "k": request.k},
        vectors=_vectors(a, b, bits),
        refused={"a": _special(a), "b": _special(b)},
        formats={"a": a, "b": b},
        latency=int(request.register),
    )


def _up(mode: Rounding) -> str:
    """Return when a magnitude is rounded up, of `odd` (its last bit), `half` and `rest` (what is cut off)."""
    return {
        Rounding.NEAREST_EVEN: "half & (rest | odd)",
        Rounding.NEAREST_AWAY: "half",
        Rounding.TOWARD_ZERO: "1'b0",
        Rounding.TOWARD_POSITIVE: "~negative & (half | rest)",
        Rounding.TOWARD_NEGATIVE: "negative & (half | rest)",
        Rounding.TO_ODD: "~odd & (half | rest)",
    }[mode]


def _beyond(fmt: FloatFormat, mode: Rounding) -> tuple[str, str]:
    """Return the code of a magnitude beyond the range, and whether it keeps the sign (a NaN does not)."""
    width = fmt.magnitude_bits
    largest = f"{width}'d{fmt.max_code}"
    if fmt.default_overflow == "saturate" or mode in (Rounding.TOWARD_ZERO, Rounding.TO_ODD):
        return largest, "negative"
    top = fmt.inf_code if fmt.default_overflow == "inf" else fmt.nan_code
    code, sign = (f"{width}'d{(top or 0) & ((1 << width) - 1)}", "negative")
    if fmt.default_overflow == "nan":
        sign = "1'b1" if fmt.nan == "negative_zero" else "1'b0"
    inward = {Rounding.TOWARD_NEGATIVE: "~negative", Rounding.TOWARD_POSITIVE: "negative"}.get(mode)
    if inward is None:
        return code, sign
    return f"({inward}) ? {largest} : {code}", f"({inward}) ? negative : {sign}"


def readout_body(bits: int, low: int, fmt: FloatFormat, mode: Rounding) -> list[str]:
    """Return the lines that round a fixed-point sum to a float format."""
    m, width = fmt.mantissa_bits, fmt.magnitude_bits
    stages = max(1, (bits - 1).bit_length())
    size = max(bits, m + 3)  # significand, the half below it, and at least one bit of the rest
    bias_top = bits - 1 + low + fmt.bias  # exponent field of a number whose leading bit is the first
    floor = low + fmt.bias  # and of one whose leading bit is the last
    span = max(abs(bias_top), abs(floor), fmt.max_code >> m).bit_length() + 2
    lines = [
        f"wire negative = c[{bits - 1}];",
        f"wire [{bits - 1}:0] magnitude = ({{{bits}{{negative}}}} ^ c) + negative;",
        "// the leading bit to the top, and how far it was moved",
        f"wire [{bits - 1}:0] n{stages} = magnitude;",
    ]
    for stage in reversed(range(stages)):
        distance, source = 1 << stage, f"n{stage + 1}"
        if distance < bits:
            lines += [
                f"wire z{stage} = ~|{source}[{bits - 1}:{bits - distance}];",
                f"wire [{bits - 1}:0] n{stage} = z{stage} ? {source} << {distance} : {source};",
            ]
        else:
            lines += [f"wire z{stage} = 1'b0;", f"wire [{bits - 1}:0] n{stage} = {source};"]
    zeros = ", ".join(f"z{stage}" for stage in reversed(range(stages)))
    padded = f"{{n0, {size - bits}'b0}}" if size > bits else "n0"
    lines += [
        f"wire [{stages - 1}:0] moved = {{{zeros}}};",
        f"wire signed [{span - 1}:0] exponent = {_decimal(span, bias_top)} - $signed({{1'b0, moved}});",
        f"wire [{size - 1}:0] normal = {padded};",
    ]
    lost = ""
    if floor < 1:  # numbers below the smallest normal one can come: they have a place of their own, not moved
        up = bias_top - 1
        whole = f"{{magnitude, {size - bits}'b0}}" if size > bits else "magnitude"
        lines += [
            "// below the smallest normal number: not moved to the top, but to where that number's bits are",
            f"wire tiny = exponent < {_decimal(span, 1)};",
            f"wire [{size - 1}:0] placed = {whole};",
        ]
        if up >= 0:
            lines.append(f"wire [{size - 1}:0] lower = placed << {up};")
        else:
            down = min(-up, size + 1)
            lines += [
                f"wire [{size + down - 1}:0] lowered = {{placed, {down}'b0}} >> {down};",
                f"wire [{size - 1}:0] lower = lowered[{size + down - 1}:{down}];",
            ]
            lost = f"|lowered[{down - 1}:0]"
        lines += [
            f"wire [{size - 1}:0] kept = tiny ? lower : normal;",
            f"wire [{span - 1}:0] field = tiny ? {span}'d0 : exponent;",
        ]
    else:
        lines += [
            f"wire [{size - 1}:0] kept = normal;",
            f"wire [{span - 1}:0] field = kept[{size - 1}] ? exponent : {span}'d0;",
        ]
    tail = f", kept[{size - 2}:{size - 1 - m}]" if m > 1 else f", kept[{size - 2}]" if m else ""
    beyond, sign = _beyond(fmt, mode)
    rest = f"|kept[{size - 3 - m}:0]" if size - 3 - m > 0 else "kept[0]"
    if lost:
        rest += f" | {lost}"
    lines += [
        f"wire odd = kept[{size - 1 - m}];",
        f"wire half = kept[{size - 2 - m}];",
        f"wire rest = {rest};",
        f"wire up = {_up(mode)};",
        "// one carry runs from the last bit through the exponent",
        f"wire [{span + m - 1}:0] rounded = {{field{tail}}} + up;",
        f"wire over = rounded > {_unsigned(span + m, fmt.max_code)};",
        f"wire [{width - 1}:0] finite = rounded[{width - 1}:0];",
        f"wire [{width - 1}:0] code = over ? {beyond} : finite;",
    ]
    keeps = "negative" if fmt.has_negative_zero else "negative & |finite"
    lines += [f"wire sign = over ? {sign} : {keeps};", "assign y = {sign, code};"]
    return lines


def _decimal(bits: int, value: int) -> str:
    """Return a signed constant."""
    return f"-{bits}'sd{-value}" if value < 0 else f"{bits}'sd{value}"


def _unsigned(bits: int, value: int) -> str:
    return f"{bits}'d{value}"


def readout(request: Request) -> Design:
    """Return a unit that rounds an exact accumulator's sum to a float format, once."""
    unused(request, "readout", "kind", "lanes", "accumulator")
    _keeps(request)
    a, b, bits = _formats(request)
    to = floats(resolve("float32") if request.to is None else request.to, "to")
    low = step(a, b)
    names = a.name if a == b else f"{a.name}_{b.name}"
    name = f"readout_{names}_exact{bits}_{to.name}" + (
        "" if request.rounding is Rounding.NEAREST_EVEN else f"_{request.rounding}"
    )
    text = comment(
        [
            f"y = c as {to.name}, rounded once ({request.rounding}): c is two's complement of {bits} bits,",
            f"its last bit 2**{low}. Subnormals are kept; zero is +0.",
        ]
    ) + module(name, {"c": bits}, {"y": to.bits}, readout_body(bits, low, to, request.rounding))

    def expected(ports: Ports) -> Ports:
        # rounded to odd in 53 bits, which the rounding after it does not see
        values = [np.ldexp(odd_float(int(v)), low) for v in signed(ports["c"], bits)]
        codes = encode(np.array(values, np.float64), to, rounding=str(request.rounding))
        return {"y": np.asarray(codes).astype(np.uint64)}

    def vectors(rng: np.random.Generator, count: int, given: Mapping[str, Array]) -> dict[str, Any]:
        return {"c": given.get("c", unsigned(_sums(rng, count, bits, to.precision), bits))}

    top = name
    if request.register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, {"c": bits}, {"y": to.bits})
    return Design(
        top,
        text,
        top,
        {"c": bits},
        {"y": to.bits},
        expected,
        unit="readout",
        facts={
            "a": a.name,
            "b": b.name,
            "to": to.name,
            "bits": bits,
            "last_bit": low,
            "rounding": str(request.rounding),
        },
        vectors=vectors,
        formats={"y": to},
        latency=int(request.register),
    )


def _sums(rng: np.random.Generator, count: int, bits: int, precision: int) -> Array:
    """Return sums of every length: ties, one beside a tie, runs of ones, random."""
    lengths, picks = rng.integers(0, bits, count).tolist(), rng.integers(0, 5, count).tolist()
    found = np.empty(count, object)
    for i, (length, pick) in enumerate(zip(lengths, picks, strict=True)):
        random = int.from_bytes(rng.bytes(-(-bits // 8)), "little")
        value = (random | 1 << bits) >> (bits - length) if length else 0
        cut = length + 1 - precision
        if cut > 0 and pick < 3:  # a tie, or a number one step from it
            value = (value >> cut << cut) | 1 << (cut - 1)
            value += (0, 1, -1)[pick]
        elif pick == 3:
            value = (1 << length) - (random & 1)
        found[i] = -value if random & 2 else value
    return found
