"""Dot units of blocks with scales as Verilog: elements multiplied and added as integers, scaled, one float addition.

OCP Microscaling Formats (MX), version 1.0, 6.1: the dot of two blocks is the product of their scales times the sum of
the products of their elements. Here that sum is exact, and so is its product with the scales; it is added to c and
rounded once: what `lowprec.matmul` of two `QuantizedArray` gives over one block with ``accumulator=lp.Exact(fmt)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from lowprec.blocks import BlockFormat
from lowprec.codec import decode
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.reference import reals
from lowprec.rounding import Rounding, Subnormals
from lowprec.rtl import _float_model as emulation
from lowprec.rtl import _vectors
from lowprec.rtl._bits import Array, split
from lowprec.rtl._design import Design
from lowprec.rtl._dot import slice_of
from lowprec.rtl._float import Product, check_nan, exclusive_or, fused_sum, product_of
from lowprec.rtl._float_finish import Policy
from lowprec.rtl._float_parts import Bits, Module, Number, all_of, any_of, joined, number, unpack, with_carry, zeros
from lowprec.rtl._float_units import finished, float_operand, policy_of, sum_model, tail, words
from lowprec.rtl._request import Request, unused


def last_bit(fmt: Format) -> int:
    """Return the exponent of a format's smallest step."""
    return 0 if isinstance(fmt, IntFormat) else fmt.emin - fmt.mantissa_bits


def product_bits(fmt: Format) -> int:
    """Return how many bits the magnitude of a product of two elements has, in steps of the smallest product."""
    largest = int(max(-fmt.min, fmt.max) * 2.0 ** -last_bit(fmt))
    return (largest * largest).bit_length()


def lane_text(name: str, fmt: Format) -> Module:
    """Return the product of two elements in fixed point: inverted if it is negative, and its sign."""
    size = product_bits(fmt)
    m = Module(name, f"the product of two elements in {fmt}, in steps of 2 ** {2 * last_bit(fmt)}")
    a, b = m.input("a", fmt.bits), m.input("b", fmt.bits)
    m.input("reference", 1)
    if isinstance(fmt, IntFormat):
        m.note("signs, and magnitudes")
        both = [_magnitude(m, x, fmt) for x in (a, b)]
        sign = exclusive_or(m, "product_sign", both[0][1], both[1][1])
        placed = m.wire("placed", size, f"{both[0][0]} * {both[1][0]}")
        inf = nan = "1'b0"
    else:
        x, y = unpack(m, a, fmt, flush=False), unpack(m, b, fmt, flush=False)
        p = product_of(m, x, y, flush=False)
        sign, inf, nan = p.sign, p.inf, p.nan
        m.note("in fixed point")
        placed = _placed(m, p, (x, y), size)
    m.note("inverted where it is subtracted from the others")
    subtract = exclusive_or(m, "subtract", sign, "reference")
    m.output("addend", size + 1, f"{{1'b0, {placed}}} ^ {{{size + 1}{{{subtract}}}}}")
    m.output("carry", 1, subtract)
    m.output("sign", 1, sign)
    m.output("inf", 1, inf)
    m.output("nan", 1, nan)
    return m


def _magnitude(m: Module, x: Bits, fmt: IntFormat) -> tuple[Bits, str]:
    """Return the magnitude of an integer and its sign."""
    if not fmt.is_signed:
        return x, "1'b0"
    sign = x.bit(fmt.bits - 1)
    return m.wire(f"{x.name}_magnitude", fmt.bits, f"({x} ^ {{{fmt.bits}{{{sign}}}}}) + {sign}"), sign


def _placed(m: Module, p: Product, factors: tuple[Number, Number], size: int) -> Bits:
    """Shift a product to its place: left by both exponents, counted from the smallest normal one."""
    counts = [
        m.wire(f"{x.exponent}_less_1", x.exponent.width, f"{x.exponent} - {number(1, x.exponent.width)}")
        for x in factors
    ]
    most = sum((x.fmt.max_code >> x.fmt.mantissa_bits) - 1 for x in factors)
    if most <= 0:
        return m.wire("placed", size, p.significand.part(size - 1, 0) if size <= p.bits else p.significand.name)
    width = most.bit_length()
    shift = m.wire("shift", width, f"{counts[0]} + {counts[1]}")
    wide = max(size, p.bits)
    source = joined(zeros(wide - p.bits), p.significand.name)
    whole = m.wire("shifted", wide, f"{source} << {shift}")
    return m.wire("placed", size, whole.part(size - 1, 0))


def tree(m: Module, addends: list[Bits], carries: list[str]) -> Bits:
    """Add numbers in a tree; each adder takes the carry of its right half's first number, the very first has none."""
    level = 0
    while len(addends) > 1:
        sums, kept = [], []
        for i in range(0, len(addends) - 1, 2):
            x, y = addends[i], addends[i + 1]
            width = max(x.width, y.width) + 1
            sums.append(with_carry(m, f"sum_{level}_{i // 2}", width, _wide(x, width), _wide(y, width), carries[i + 1]))
            kept.append(carries[i])
        odd = len(addends) % 2
        addends, carries = sums + addends[len(addends) - odd :], kept + carries[len(carries) - odd :]
        level += 1
    return addends[0]


def _wide(x: Bits, width: int) -> str:
    """Return a two's complement number in more bits."""
    return x.name if x.width == width else f"{{{{{width - x.width}{{{x.bit(x.width - 1)}}}}}, {x}}}"


def block_dot_text(
    name: str, block: BlockFormat, element: Format, scale: FloatFormat, lanes: int, policy: Policy
) -> str:
    """Return y = round(c + scale_a * scale_b * (a[0] * b[0] + ...))."""
    fmt, daz = policy.fmt, policy.flush
    policy = replace(policy, flush=policy.flush and fmt.has_subnormals)
    lane = lane_text(f"{name}_lane", element)
    m = Module(
        name,
        f"y = c + scale_a * scale_b * (a[0] * b[0] + ... + a[{lanes - 1}] * b[{lanes - 1}]), rounded once\n"
        f"{block}: elements in {element}, scales in {scale}; c and y in {fmt}\n"
        f"rounding {policy.rounding}, subnormal numbers of c and y {'count as zeros' if daz else 'kept'}",
    )
    a, b = (m.input(port, element.bits * lanes) for port in "ab")
    scale_a, scale_b = (unpack(m, m.input(f"scale_{port}", scale.bits), scale, flush=False) for port in "ab")
    c = unpack(m, m.input("c", fmt.bits), fmt, flush=daz)
    m.note("the products of the elements; signs relative to that of the first one")
    size = product_bits(element)
    found = []
    reference = ""
    for i in range(lanes):
        wires = {
            port: m.undriven(f"p{i}_{port}", width)
            for port, width in {"addend": size + 1, "carry": 1, "sign": 1, "inf": 1, "nan": 1}.items()
        }
        reference = reference or wires["sign"].name
        links = {"a": slice_of(a, i, element.bits), "b": slice_of(b, i, element.bits), "reference": reference}
        m.instance(lane.name, f"lane_{i}", links | {port: wire.name for port, wire in wires.items()})
        found.append(wires)
    m.note("their sum")
    total = tree(m, [w["addend"] for w in found], ["1'b0"] + [w["carry"].name for w in found[1:]])
    top = total.width - 1
    negative = total.bit(top)
    body = total.part(top - 1, 0)
    magnitude = m.wire("sum", top, f"({body} ^ {{{top}{{{negative}}}}}) + {negative}")
    by = product_of(m, scale_a, scale_b, flush=False)
    is_sum = m.wire("sum_nonzero", 1, all_of(f"(|{magnitude})", by.nonzero)).name
    significand = magnitude
    if scale.mantissa_bits:
        significand = m.wire("scaled", top + by.bits, f"{magnitude} * {by.significand}")
    m.note("the sign: that of the sum, and of a zero by the rule for sums of zeros")
    signs = [exclusive_or(m, f"p{i}_signed", w["sign"].name, by.sign) for i, w in enumerate(found)]
    down = policy.rounding is Rounding.TOWARD_NEGATIVE
    zero_sign = m.flag("sum_zero_sign", (" | " if down else " & ").join(signs))
    signed = exclusive_or(m, "sum_signed", exclusive_or(m, "sum_sign", negative, reference), by.sign)
    sign = m.flag("product_sum_sign", f"{is_sum} ? {signed} : {zero_sign}")
    inf, nan, inf_sign = _specials(m, element, found, signs, by.nan)
    p = Product(
        sign if inf == "1'b0" else m.flag("signed_inf", f"{inf} ? {inf_sign} : {sign}"),
        significand,
        is_sum,
        inf,
        nan,
        by.exponents,
        by.bias - 2 * last_bit(element) - 2 * _unit(block),
        by.most,
        by.lowest,
        by.highest,
        is_normal=False,
    )
    m.output("y", fmt.bits, fused_sum(m, policy, p, c))
    return "\n".join((lane.text(), m.text()))


def _unit(block: BlockFormat) -> int:
    """Return the exponent of what an element of 1 stands for."""
    return int(np.log2(block.unit))


def _specials(
    m: Module, element: Format, found: list[dict[str, Bits]], signs: list[str], scale_nan: str
) -> tuple[str, str, str]:
    """Return whether the sum is an infinity, whether it is NaN, and the sign of the infinity."""
    nan = scale_nan
    if element.has_nan:
        nan = m.flag("any_nan", any_of(nan, *(w["nan"].name for w in found)))
    if not element.has_inf:
        return "1'b0", nan, "1'b0"
    minus = m.wire("minus_inf", 1, any_of(*(f"({w['inf']} & {sign})" for w, sign in zip(found, signs, strict=True))))
    plus = m.wire("plus_inf", 1, any_of(*(f"({w['inf']} & ~{sign})" for w, sign in zip(found, signs, strict=True))))
    nan = m.flag("inf_less_inf", any_of(nan, f"({minus} & {plus})"))
    return m.flag("any_inf", f"{minus} | {plus}"), nan, minus.name


def expected(
    inputs: Mapping[str, Array], block: BlockFormat, element: Format, scale: FloatFormat, lanes: int, policy: Policy
) -> dict[str, Array]:
    """Return the exact sum rounded once, one element at a time, by `lowprec.reference`."""
    fmt = policy.fmt
    a, b = (split(inputs[port], element.bits, lanes).astype(element.code_dtype) for port in "ab")
    c = inputs["c"].astype(fmt.code_dtype)
    c = emulation.flushed(c, fmt) if policy.flush else c
    down = policy.rounding is Rounding.TOWARD_NEGATIVE
    units = reals.Real(False, Fraction(block.unit) ** 2)
    elements = [reals.real(code, element) for code in range(1 << element.bits)]
    scales = [reals.real(code, scale) for code in range(1 << scale.bits)]
    found = []
    for x, y, s, t, z in zip(
        a.tolist(), b.tolist(), inputs["scale_a"].tolist(), inputs["scale_b"].tolist(), c.tolist(), strict=True
    ):
        by = reals.multiply(reals.multiply(scales[s], scales[t]), units)
        start = reals.real(z, fmt)
        addends = [start] + [
            reals.multiply(reals.multiply(elements[p], elements[q]), by) for p, q in zip(x, y, strict=True)
        ]
        total = _sum(addends)
        if not total.special and total.magnitude == 0:
            zero = {e.negative if e.magnitude == 0 else None for e in addends}
            total = reals.Real(zero != {False} if down else zero == {True}, total.magnitude)
        code = reals.rounded(
            total, fmt, str(policy.rounding), str(policy.overflow), "flush" if policy.flush else "keep"
        )
        found.append(code)
    return {"y": np.array(found, np.uint64)}


def _sum(addends: list[Any]) -> Any:
    """Return the exact sum of numbers."""
    if any(x.special for x in addends):
        total = addends[0]
        for x in addends[1:]:
            total = reals.add(total, x)
        return total
    value = sum(-x.magnitude if x.negative else x.magnitude for x in addends)
    return reals.Real(value < 0, abs(value))


def build(request: Request) -> Design:
    """Return the dot unit of a block format."""
    unused(request, "dot", "kind", "to", "k")
    block, element = request.block, request.a
    if not isinstance(block, BlockFormat):
        raise AssertionError
    scale = block.scale
    if not isinstance(scale, FloatFormat) or scale.has_inf or block.offset:
        msg = (
            f"`fmt` must be a block format of plain elements with scales in e8m0fnu or e4m3fn, got `{block}`; it is "
            "dequantised first: take the unit of the format that it becomes."
        )
        raise ValueError(msg)
    lanes = block.block_size if request.lanes is None else request.lanes
    given = replace(request, accumulator="float32" if request.accumulator is None else request.accumulator)
    model = sum_model(given)
    fmt = float_operand(model.format, "accumulator")
    check_nan(fmt, (scale,))
    if model.rounding is Rounding.STOCHASTIC:
        msg = '`rounding` must be deterministic in this unit, got "stochastic", which the float mac has.'
        raise ValueError(msg)
    policy = policy_of(model)
    name = words("dot", block, f"x{lanes}", fmt, tail(model.rounding, model.subnormals))
    ports = {"a": element.bits * lanes, "b": element.bits * lanes, "scale_a": scale.bits, "scale_b": scale.bits}
    ports["c"] = fmt.bits
    subnormals = "flush" if model.subnormals is Subnormals.FLUSH else "keep"
    return finished(
        (block_dot_text(name, block, element, scale, lanes, policy), ports, {"y": fmt.bits}),
        name,
        "dot",
        lambda inputs: expected(inputs, block, element, scale, lanes, policy),
        request.register,
        facts={"a": block.name, "b": block.name, "lanes": lanes, "accumulator": fmt.name, "subnormals": subnormals},
        vectors=_block_vectors(element, scale, lanes, fmt, block),
        formats={"scale_a": scale, "scale_b": scale, "c": fmt, "y": fmt},
    )


def _block_vectors(element: Format, scale: FloatFormat, lanes: int, fmt: FloatFormat, block: BlockFormat) -> Any:
    """Return the maker of blocks: elements at corners, scales near each other's inverse, c near minus the sum."""
    rows = emulation.lane_vectors((element, element), fmt, lanes)

    def make(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        found = dict(rows(rng, count, {}))
        top = (1 << scale.magnitude_bits) - 1
        near = np.clip((scale.bias << scale.mantissa_bits) + rng.integers(-12, 13, count), 0, top).astype(np.uint64)
        drawn = _vectors.draw(scale, rng, count)
        found["scale_a"] = np.where(rng.random(count) < 0.5, near, drawn)
        opposite = np.clip(2 * (scale.bias << scale.mantissa_bits) - found["scale_a"].astype(np.int64), 0, top)
        opposite = np.clip(opposite + rng.integers(-3, 4, count), 0, top).astype(np.uint64)
        found["scale_b"] = np.where(rng.random(count) < 0.7, opposite, _vectors.draw(scale, rng, count))
        a, b = (split(found[port], element.bits, lanes).astype(element.code_dtype) for port in "ab")
        with np.errstate(all="ignore"):
            x, y = (np.asarray(decode(codes, element, dtype=np.float64)) for codes in (a, b))
            s, t = (emulation.values(found[port], scale, flush=False) for port in ("scale_a", "scale_b"))
            total = (x * y).sum(axis=1) * s * t * block.unit**2
        found["c"] = given.get("c", _vectors.addends(total, fmt, rng))
        return found

    return make
