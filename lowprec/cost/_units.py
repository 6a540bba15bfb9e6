"""Float units as blocks: fused multiply-add, addition, multiplication, fixed-point sums, casts.

Words, as in docs/cost.md: P bits of the exact product, G bits of the accumulator's significand, E exponent bits of the
operands, X bits of an exponent inside the unit, W bits of the window in which product and accumulator are added.
Every function returns the cells of each part, before calibration.
"""

from __future__ import annotations

from lowprec.cost import _blocks
from lowprec.cost._blocks import GUARDS
from lowprec.cost._cells import Cells, times, total
from lowprec.cost._shape import Operand
from lowprec.formats import FloatFormat
from lowprec.rounding import Rounding

_WORD = 32  # random bits of a stochastic rounding are drawn elsewhere and shared; adding them is not


def rounder(kept: int, dropped: int, exponent: int, rounding: Rounding) -> Cells:
    """Round a significand of `kept` bits with `exponent` bits above it, of which a carry may run up."""
    if rounding in (Rounding.TOWARD_ZERO, Rounding.TO_ODD):
        return {"OR": dropped} if rounding is Rounding.TO_ODD else {}
    if rounding is Rounding.STOCHASTIC:
        return {"FA": min(_WORD, max(1, dropped)), "HA": kept + exponent}
    directed = rounding in (Rounding.TOWARD_POSITIVE, Rounding.TOWARD_NEGATIVE)
    return {"HA": kept + exponent, "AND": 2 if directed else 0}


def specials(widths: tuple[int, ...], result: int) -> Cells:
    """Zeros, infinities and NaN: found in each operand, and written over the result."""
    return {"AND": sum(widths) + result, "MUX": result, "OR": result / 2}


def multiplier(a: Operand, b: Operand) -> Cells:
    """Return the cells of a product: of significands, or of integers with their signs."""
    signed = not a.is_float and (a.is_signed or b.is_signed)
    return total(_blocks.array(a.precision, b.precision), _blocks.sign_correction(a.precision, b.precision, signed))


def multiply_add(
    a: Operand, b: Operand, into: FloatFormat, rounding: Rounding, keep_subnormals: bool, guards: int = GUARDS
) -> dict[str, Cells]:
    """round(a * b + c), rounded once, on a single path: c is moved to the product, added, normalised and rounded.

    The product stays where it is, and c is moved right across a window of W = P + R + 2 + G bits. With subnormals the
    product may begin anywhere, so that R = G + 3 bits lie right of it; without, R = max(2, G + 3 - P) will do. Only P
    bits of the sum see two numbers. Its first 1 is sought in W + 2 bits; G + 2 are kept. Stochastic rounding keeps as
    many bits as it adds random ones in place of the 2 (`guards`), and R grows by as many.
    """
    product, g, fields = a.precision + b.precision, into.precision, into.exponent_bits
    e = max(a.exponent_bits, b.exponent_bits)
    right = g + 1 + guards if keep_subnormals else max(2, g + 1 + guards - product)
    window = product + right + 2 + g
    x = max(e, fields) + 3
    narrow = min(x, e + 2)
    count = min(x, (window + 1).bit_length())
    parts: dict[str, Cells] = {
        "multiply": multiplier(a, b),
        "exponents": {"FA": (e + 2) + x + 2 * narrow, "MUX": x},
        "align": _blocks.shift_out(g, window - 1, window),
        "add": {"FA": product + 3, "HA": window - product, "XOR": window + 1},
        "absolute": _blocks.incrementer(window + 2),
        "normalise": total(_blocks.normaliser(window + 2, g + guards), {"MUX": x}),
        "round": total(rounder(g, guards, fields, rounding), {"FA": count, "HA": x - count + x, "MUX": x}),
        "specials": specials((a.bits, b.bits, into.bits), into.bits - 1),
    }
    if keep_subnormals:
        parts["subnormals"] = subnormal_output(g, x)
    return parts


def subnormal_output(g: int, x: int) -> Cells:
    """Move a result below the smallest normal number right, with its sticky bit, by what its exponent lacks."""
    return total(_blocks.shift_within(g + 2, g + 1), {"OR": g, "FA": x, "MUX": x})


def add(fmt: FloatFormat, rounding: Rounding, keep_subnormals: bool, guards: int = GUARDS) -> dict[str, Cells]:
    """round(a + b): exponents compared, operands exchanged, the smaller moved right, added, normalised, rounded."""
    g, e = fmt.precision, fmt.exponent_bits
    room = g + 1 + guards
    return {
        "exponents": {"FA": 2 * e, "MUX": e},
        "swap": {"MUX": 2 * (g - 1), "FA": g - 1},
        "align": _blocks.shift_out(g, room, room),
        "add": {"FA": room, "XOR": room, "HA": 1},
        "normalise": total(_blocks.normaliser(room + 1, g + guards), {"MUX": e}),
        "round": total(rounder(g, guards, e, rounding), {"FA": e, "MUX": e}),
        "specials": specials((fmt.bits, fmt.bits), fmt.bits - 1),
        "subnormals": {"FA": e, "MUX": 2 * e, "OR": g} if keep_subnormals else {},
    }


def multiply(a: Operand, b: Operand, into: FloatFormat, rounding: Rounding, keep_subnormals: bool) -> dict[str, Cells]:
    """round(a * b): with subnormals the operands are normalised first and the result may be moved right."""
    g, fields = into.precision, into.exponent_bits
    e = max(a.exponent_bits, b.exponent_bits)
    x = max(e, fields) + 2
    product = a.precision + b.precision
    parts: dict[str, Cells] = {
        "multiply": multiplier(a, b),
        "exponents": {"FA": (e + 2) + x},
        "normalise": {"MUX": min(product, g + 2)},
        "round": total(rounder(g, max(0, product - g), fields, rounding), {"OR": max(0, product - g), "MUX": x}),
        "specials": specials((a.bits, b.bits), into.bits - 1),
    }
    if keep_subnormals:
        before = total(*(_blocks.normaliser(each.precision, each.precision) for each in (a, b) if each.precision > 1))
        parts["subnormals"] = total(before, {"FA": 2 * x}, subnormal_output(g, x))
    return parts


def fixed_point(a: Operand, b: Operand, width: int) -> dict[str, Cells]:
    """Add a product exactly to a fixed-point sum of `width` bits (Kulisch): move it, apply its sign, add."""
    product = a.precision + b.precision
    found: dict[str, float] = {}
    live, reach = product, width - product
    for stage in range(_blocks.stages(max(1, reach))):
        step = 1 << stage
        grown = min(width, live + step)
        both = max(0, live - step)
        found = total(found, {"MUX": both, "AND": grown - both})
        live = grown
    e = max(a.exponent_bits, b.exponent_bits)
    return {
        "multiply": multiplier(a, b),
        "exponents": {"FA": e + 1, "AND": a.bits + b.bits},
        "align": found,
        "add": {"XOR": width, "FA": width},
    }


def readout(width: int, into: FloatFormat, rounding: Rounding) -> dict[str, Cells]:
    """Turn a fixed-point sum into a float: take its magnitude, seek its first 1, round. Once per result."""
    kept = min(width, into.precision + 2)
    x = width.bit_length() + 1  # the exponent is a constant less the place of the first 1
    return {
        "absolute": {"HA": width, "XOR": width},
        "normalise": _blocks.normaliser(width, kept),
        "round": total(
            rounder(min(into.precision, width), 2, into.exponent_bits, rounding) if width > into.precision else {},
            {"FA": x, "OR": max(0, width - kept)},
        ),
        "specials": {"OR": width, "AND": kept},
    }


def cast(source: FloatFormat, to: FloatFormat, rounding: Rounding, keep_subnormals: bool) -> dict[str, Cells]:
    """Turn one float into another: rebias, round, and put the largest or the smallest number where it does not fit."""
    dropped = max(0, source.precision - to.precision)
    narrower = to.exponent_bits < source.exponent_bits or to.bias != source.bias
    kept = to.bits - 1
    lost = dropped or (to.precision if keep_subnormals and to.emin > source.emin else 0)  # small results move right
    parts: dict[str, Cells] = {
        "exponents": {"HA": source.exponent_bits} if narrower else {},
        "round": total(
            rounder(to.precision - 1, lost, to.exponent_bits, rounding) if lost else {},
            {"OR": dropped},
        ),
        "specials": {"AND": source.exponent_bits + kept, "OR": kept},
    }
    if keep_subnormals and narrower and lost:
        parts["subnormals"] = total(
            _blocks.shift_within(to.precision + 1, to.precision), {"OR": to.precision, "HA": to.exponent_bits}
        )
    elif keep_subnormals and to.exponent_bits > source.exponent_bits:
        parts["subnormals"] = total(
            _blocks.normaliser(source.precision, source.precision) if source.precision > 1 else {},
            {"FA": to.exponent_bits},
        )
    return parts


def aligned_lane(a: Operand, b: Operand, kept: int, exponent: int, sum_bits: int) -> dict[str, Cells]:
    """Take one product of a fused dot: multiply, compare exponents, move it to the largest, apply its sign, add."""
    product = a.precision + b.precision
    e = max(a.exponent_bits, b.exponent_bits)
    found: dict[str, float] = {}
    live = product
    for stage in range(_blocks.stages(kept + 1)):
        step = 1 << stage
        grown = min(kept + 1, live + step)
        both = max(0, live - step)
        found = total(found, {"MUX": both, "AND": grown - both})
        live = grown
    return {
        "multiply": multiplier(a, b),
        "exponents": {"FA": (e + 1) + 2 * exponent, "MUX": exponent},
        "align": found,
        "add": {"XOR": kept + 1, "FA": sum_bits, "HA": 1},
    }


def aligned_tail(into: FloatFormat, kept: int, exponent: int, sum_bits: int, rounding: Rounding) -> dict[str, Cells]:
    """Finish a fused dot, once: move and add c, take the sum's magnitude, seek its first 1, round."""
    g = into.precision
    keep = min(sum_bits, g + 2)
    return {
        "exponents": {"FA": 2 * exponent, "MUX": exponent},
        "align": _blocks.shift_within(kept + 1, kept),
        "add": {"XOR": kept + 1, "FA": sum_bits},
        "absolute": {"HA": sum_bits, "XOR": sum_bits},
        "normalise": total(_blocks.normaliser(sum_bits, keep), {"MUX": exponent}),
        "round": total(rounder(g, 2, into.exponent_bits, rounding), {"FA": exponent, "HA": exponent}),
        "specials": {"AND": into.bits, "OR": into.bits - 1},
    }


def shared(parts: dict[str, Cells], by: float) -> dict[str, Cells]:
    """Return a part of everything."""
    return {name: times(cells, 1 / by) for name, cells in parts.items()}
