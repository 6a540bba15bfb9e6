"""Multiply-accumulate units and adders of integers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from lowprec.accumulators import Integer
from lowprec.accumulators import model as model_of
from lowprec.formats import Format, IntFormat
from lowprec.matmul import vecdot
from lowprec.reference.integers import integer_dot
from lowprec.rtl._bits import Array, code_dtype, signed, unsigned
from lowprec.rtl._design import PRIMITIVES, Design, Ports, Vectors, registered
from lowprec.rtl._multiplier import KINDS, factor, product_expression
from lowprec.rtl._multiplier import body as multiplier_body
from lowprec.rtl._request import Request, unused, word
from lowprec.rtl._text import comment, module
from lowprec.rtl._vectors import draw

_WIDE = re.compile(r"int(3[3-9]|[45]\d|6[0-4])")


def _accumulator(value: Any) -> tuple[int, bool, bool, Integer | None]:
    """Return bits, signedness, saturation, and the model, which widths beyond 32 bits do not have."""
    if value is None:
        return 32, True, False, Integer(32)
    if isinstance(value, str) and (wide := _WIDE.fullmatch(value.strip().lower())):
        return int(wide[1]), True, False, None
    model = model_of(value)
    if not isinstance(model, Integer):
        msg = f"`accumulator` must be one of integers, such as 'int32' or lp.Integer(24), for integers, got {value!r}."
        raise ValueError(msg)
    if model.length != 1 or model.overflow == "raise":
        msg = f"`accumulator` must add one product at a time and wrap or saturate, got {model}."
        raise ValueError(msg)
    return model.bits, model.is_signed, model.overflow == "saturate", model


def _vectors(a: IntFormat, b: IntFormat, c: tuple[int, bool]) -> Vectors:
    """Return vectors whose addends lie at the corners, beside the negative product, and beside the range's ends."""
    bits, is_signed = c
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)

    def make(rng: np.random.Generator, count: int, given: Mapping[str, Array]) -> dict[str, Array]:
        x, y = given.get("a", draw(a, rng, count)), given.get("b", draw(b, rng, count))
        product = _numbers(x, a).astype(object) * _numbers(y, b).astype(object)
        near = np.array([-1, 0, 1], object)[rng.integers(0, 3, count)] - product
        end = np.where(rng.random(count) < 0.5, low, high).astype(object)
        corners = draw(IntFormat(bits=min(32, bits)), rng, count).astype(object)
        spread = np.array([int(s) for s in rng.integers(0, max(1, bits - 31), count)], object)
        picked = np.where(rng.random(count) < 0.5, near, near + end)
        addend = np.where(rng.random(count) < 0.5, picked, corners << spread)
        return {"a": x, "b": y, "c": given.get("c", unsigned(addend, bits))}

    return make


def _numbers(codes: Array, fmt: IntFormat) -> Array:
    """Return the integers of codes."""
    return signed(codes, fmt.bits) if fmt.is_signed else codes.astype(np.int64)


def _model(a: IntFormat, b: IntFormat, bits: int, is_signed: bool, model: Integer | None) -> Any:
    """Return the emulation: `lowprec.vecdot` of one product, or the reference where that has no such width."""
    c = IntFormat(bits=min(bits, 32), is_signed=is_signed)

    def expected(ports: Ports) -> Ports:
        x, y = _numbers(ports["a"], a), _numbers(ports["b"], b)
        if model is None:
            start = signed(ports["c"], bits)
            sums = [
                integer_dot([int(p)], [int(q)], start=int(r), bits=bits) for p, q, r in zip(x, y, start, strict=True)
            ]
            return {"y": unsigned(np.array(sums, object), bits)}
        start = _numbers(ports["c"], c)
        sums = vecdot(x[:, None], y[:, None], (a, b), accumulator=model, c=start)
        return {"y": unsigned(np.asarray(sums).astype(np.int64), bits)}

    return expected


def _sum_lines(bits: int, is_signed: bool, saturate: bool, product: int, product_signed: bool) -> list[str]:
    """Return the lines that add the product to c."""
    if not saturate:
        if product_signed:
            return ["assign y = $signed(c) + product;"]
        return ["assign y = c + product;"]
    wide = max(bits + (not is_signed), product + (not product_signed)) + 1
    widened = "$signed(c)" if is_signed else "$signed({1'b0, c})"
    addend = "product" if product_signed else "$signed({1'b0, product})"
    lines = [
        f"wire signed [{wide - 1}:0] first = {widened};",
        f"wire signed [{wide - 1}:0] second = {addend};",
        f"wire signed [{wide - 1}:0] sum = first + second;",
    ]
    sign = f"sum[{wide - 1}]"
    if is_signed:
        top = f"sum[{wide - 1}:{bits - 1}]"
        lines += [
            "// beyond the range where the bits above are not all copies of the sign",
            f"wire over = {top} != {{{wide - bits + 1}{{{sign}}}}};",
            f"assign y = over ? {{{sign}, {{{bits - 1}{{~{sign}}}}}}} : sum[{bits - 1}:0];",
        ]
    else:
        lines += [
            f"wire over = ~{sign} & |sum[{wide - 2}:{bits}];",
            f"assign y = {sign} ? {bits}'b0 : over ? {{{bits}{{1'b1}}}} : sum[{bits - 1}:0];",
        ]
    return lines


def build(request: Request) -> Design:
    """Return y = c + a * b, modulo the accumulator's width or saturated."""
    unused(request, "mac of integers", "lanes", "to", "rounding", "subnormals", "k")
    kind = word("operator" if request.kind is None else request.kind, "kind", KINDS)
    bits, is_signed, saturate, model = _accumulator(request.accumulator)
    first, second = request.a, request.b
    if not isinstance(first, IntFormat) or not isinstance(second, IntFormat):
        msg = f"`fmt` must be integers for an integer accumulator, got `{first}` and `{second}`."
        raise ValueError(msg)
    a, b = factor(first, "a"), factor(second, "b")
    product_signed = a.is_signed or b.is_signed
    size = a.bits + b.bits
    names = first.name if first == second else f"{first.name}_{second.name}"
    rule = f"{'' if is_signed else 'u'}int{bits}{'_saturate' if saturate else ''}"
    name = f"mac_{names}_{rule}" + ("" if kind == "operator" else f"_{kind}")
    inputs, outputs = {"a": a.bits, "b": b.bits, "c": bits}, {"y": bits}
    signed_word = "signed " if product_signed else ""
    text = comment(
        [
            f"y = c + a * b: a is {first.name}, b {second.name}, c and y {'' if is_signed else 'u'}int{bits},",
            "saturated." if saturate else f"modulo 2**{bits}.",
        ]
    )
    if kind == "operator":
        body = [f"wire {signed_word}[{size - 1}:0] product = {product_expression(a, b)};"]
        parts = ""
    else:
        inner = f"multiplier_{kind}"
        body = [
            f"wire {signed_word}[{size - 1}:0] product;",
            f"{inner} multiplier (.a(a), .b(b), .y(product));",
        ]
        parts = (
            "\n"
            + module(inner, {"a": a.bits, "b": b.bits}, {"y": size}, multiplier_body(kind, a, b))
            + "\n"
            + PRIMITIVES
        )
    body += _sum_lines(bits, is_signed, saturate, size, product_signed)
    text += module(name, inputs, outputs, body) + parts
    top = name
    if request.register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, inputs, outputs)
    formats: dict[str, Format] = {"a": first, "b": second}
    if bits <= 32:
        formats |= dict.fromkeys(("c", "y"), IntFormat(bits=bits, is_signed=is_signed))
    return Design(
        top,
        text,
        top,
        inputs,
        outputs,
        _model(first, second, bits, is_signed, model),
        unit="mac",
        facts={"a": first.name, "b": second.name, "accumulator": rule, "kind": kind},
        vectors=_vectors(first, second, (bits, is_signed)),
        formats=formats,
        latency=int(request.register),
    )


def adder(request: Request) -> Design:
    """Return y = a + b modulo the wider operand's range."""
    unused(request, "adder", "accumulator", "kind", "lanes", "to", "rounding", "subnormals", "k")
    a, b = factor(request.a, "a"), factor(request.b, "b")
    if a.is_signed != b.is_signed:
        msg = f"`fmt` must be two signed or two unsigned integers for an adder, got `{request.a}` and `{request.b}`."
        raise ValueError(msg)
    bits = max(a.bits, b.bits)
    sign = "_signed" if a.is_signed else ""
    name = f"adder_{a.bits}{sign}" if a.bits == b.bits else f"adder_{a.bits}x{b.bits}{sign}"
    inputs, outputs = {"a": a.bits, "b": b.bits}, {"y": bits}
    line = "$signed(a) + $signed(b)" if a.is_signed else "a + b"
    text = comment([f"y = a + b modulo 2**{bits}."]) + module(name, inputs, outputs, [f"assign y = {line};"])

    def expected(ports: Ports) -> Ports:
        x, y = ((signed(ports[f.port], f.bits) if f.is_signed else ports[f.port]).astype(object) for f in (a, b))
        return {"y": unsigned(x + y, bits).astype(code_dtype(bits))}

    top = name
    if request.register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, inputs, outputs)
    return Design(
        top, text, top, inputs, outputs, expected, unit="adder", facts={"bits": bits}, latency=int(request.register)
    )
