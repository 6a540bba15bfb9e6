"""Multipliers of integers, in the structures that closed forms count, and as synthesis chooses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.rtl._bits import Array, signed, unsigned
from lowprec.rtl._design import PRIMITIVES, Design, Ports, registered
from lowprec.rtl._request import Request, unused, word
from lowprec.rtl._text import Cells, comment, module
from lowprec.rtl._vectors import plain_vectors

KINDS = ("grid", "array", "dadda", "booth", "operator")


class Factor(NamedTuple):
    """A port of a multiplier: its name, its bits, and whether it is two's complement."""

    port: str
    bits: int
    is_signed: bool


def factor(fmt: Format, port: str) -> Factor:
    """Return what is multiplied of a format: an integer, or a float's significand with its leading bit."""
    if isinstance(fmt, FloatFormat):
        return Factor(port, fmt.precision, False)
    return Factor(port, fmt.bits, fmt.is_signed)


def grid_body(cells: Cells, a: Factor, b: Factor) -> None:
    """Rows of full adders, one for each pair of bits, zeros at the edges: the (M+1)x(M+1) rule, drawn."""
    n, m = a.bits, b.bits
    above = ["1'b0"] * (n + 1)  # the sum so far, from the column of this row's first bit on
    result = []
    for j in range(m):
        cells.note(f"a times bit {j} of b, added to what is above")
        carry, row = "1'b0", []
        for i in range(n):
            s, carry = cells.full(cells.gate(f"a[{i}]", f"b[{j}]"), above[i], carry)
            row.append(s)
        result.append(row[0])
        above = [*row[1:], carry, "1'b0"]
    cells.lines.append(f"assign y = {{{', '.join(reversed(result + above[:n]))}}};")


def array_body(cells: Cells, a: Factor, b: Factor) -> None:
    """Make the exact array: the grid without the cells that zeros make needless."""
    long, short = (a, b) if a.bits >= b.bits else (b, a)
    n, m = long.bits, short.bits
    above = [cells.gate(f"{long.port}[{i}]", f"{short.port}[0]") for i in range(n)]
    result, carry = [above.pop(0)], ""
    for j in range(1, m):
        cells.note(f"{long.port} times bit {j} of {short.port}, added to what is above")
        row: list[str] = []
        for i in range(n):
            terms = [cells.gate(f"{long.port}[{i}]", f"{short.port}[{j}]"), *above[i : i + 1], *([carry] if i else [])]
            s, carry = (
                cells.full(*terms) if len(terms) == 3 else cells.half(*terms) if len(terms) == 2 else (terms[0], "1'b0")
            )
            row.append(s)
        result.append(row[0])
        above = [*row[1:], carry]
    rest = above if m > 1 else [*above, "1'b0"]
    cells.lines.append(f"assign y = {{{', '.join(reversed(result + rest))}}};")


def dadda_body(cells: Cells, a: Factor, b: Factor) -> None:
    """Make a Dadda tree; of two's complement numbers by the corrections of Baugh and Wooley (1973)."""
    n, m = a.bits, b.bits
    columns: list[list[str]] = [[] for _ in range(n + m)]
    for j in range(m):
        for i in range(n):
            bit = cells.gate(f"a[{i}]", f"b[{j}]")
            edge = a.is_signed and (i == n - 1) != (j == m - 1)
            columns[i + j].append(f"~{bit}" if edge else bit)
    if a.is_signed:
        cells.note(f"Baugh-Wooley: the inverted products, and ones in columns {n - 1}, {m - 1} and {n + m - 1}")
        _constant(columns, (1 << (n - 1)) + (1 << (m - 1)) + (1 << (n + m - 1)))
    cells.total(columns, "y")


def _constant(columns: list[list[str]], value: int) -> None:
    """Put the ones of a constant, modulo the width, into columns."""
    for place in range(len(columns)):
        if value >> place & 1:
            columns[place].append("1'b1")


def booth_body(cells: Cells, a: Factor, b: Factor) -> None:
    """Recode b into digits of -2 to 2 (MacSorley, 1961), select multiples of a, and add them in a Dadda tree."""
    n, m = a.bits, b.bits
    digits = -(-m // 2) if b.is_signed else m // 2 + 1
    columns: list[list[str]] = [[] for _ in range(n + m)]
    correction = 0

    def bit(place: int) -> str:
        if place < 0:
            return "1'b0"
        return f"b[{place}]" if place < m else f"b[{m - 1}]" if b.is_signed else "1'b0"

    extended = f"{{a[{n - 1}], a}}" if a.is_signed else "{1'b0, a}"
    cells.lines += [f"wire [{n}:0] once = {extended};", f"wire [{n}:0] twice = {{a, 1'b0}};"]
    for i in range(digits):
        high, mid, low = bit(2 * i + 1), bit(2 * i), bit(2 * i - 1)
        cells.note(f"digit {i}: {low} + {mid} - 2 {high}")
        cells.lines += [
            f"wire one{i} = {mid} ^ {low};",
            f"wire two{i} = ({high} & ~{mid} & ~{low}) | (~{high} & {mid} & {low});",
            f"wire neg{i} = {high};",
            f"wire [{n}:0] row{i} = (({{{n + 1}{{one{i}}}}} & once) | ({{{n + 1}{{two{i}}}}} & twice)) "
            f"^ {{{n + 1}{{neg{i}}}}};",
        ]
        # A row is two's complement, its sign bit the inverted one below less a constant: no sign is extended.
        sign, top = (f"row{i}[{n}]", n) if a.is_signed else (f"neg{i}", n + 1)
        for place in range(top):
            if 2 * i + place < n + m:
                columns[2 * i + place].append(f"row{i}[{place}]")
        if 2 * i + top < n + m:
            columns[2 * i + top].append(f"~{sign}")
            correction -= 1 << (2 * i + top)
        if high != "1'b0":
            columns[2 * i].append(f"neg{i}")  # a negative row is the complement and one
    _constant(columns, correction)
    cells.total(columns, "y")


def operator_body(cells: Cells, a: Factor, b: Factor) -> None:
    """Leave the structure to synthesis."""
    cells.lines.append(f"assign y = {product_expression(a, b)};")


def product_expression(a: Factor, b: Factor) -> str:
    """Return the product as Verilog, signed where a factor is."""
    if not (a.is_signed or b.is_signed):
        return f"{a.port} * {b.port}"
    first, second = (f"$signed({x.port})" if x.is_signed else f"$signed({{1'b0, {x.port}}})" for x in (a, b))
    return f"{first} * {second}"


_BODIES = {
    "grid": grid_body,
    "array": array_body,
    "dadda": dadda_body,
    "booth": booth_body,
    "operator": operator_body,
}


def multiply(a: Array, b: Array, first: Factor, second: Factor) -> Array:
    """Return the codes of exact products of codes."""
    bits = first.bits + second.bits
    x, y = (signed(v, f.bits) if f.is_signed else v.astype(object) for v, f in ((a, first), (b, second)))
    if bits <= 62:
        return unsigned(x.astype(np.int64) * y.astype(np.int64), bits)
    return unsigned(x.astype(object) * y.astype(object), bits)


def body(kind: str, a: Factor, b: Factor) -> list[str]:
    """Return the lines of a multiplier in a structure, y = a * b; refuse signs that the structure does not have."""
    if kind in {"grid", "array"} and (a.is_signed or b.is_signed):
        msg = f'`kind` must be "dadda", "booth" or "operator" for signed integers, got {kind!r}; or take uint{a.bits}.'
        raise ValueError(msg)
    if kind == "dadda" and a.is_signed != b.is_signed:
        msg = '`kind` must be "booth" or "operator" where one factor alone is signed, got "dadda".'
        raise ValueError(msg)
    cells = Cells()
    _BODIES[kind](cells, a, b)
    return cells.lines


def build(request: Request) -> Design:
    """Return a multiplier."""
    unused(request, "multiplier", "accumulator", "lanes", "to", "rounding", "subnormals", "k")
    a, b = factor(request.a, "a"), factor(request.b, "b")
    usual = "grid" if not (a.is_signed or b.is_signed) else "dadda" if a.is_signed and b.is_signed else "booth"
    kind = word(usual if request.kind is None else request.kind, "kind", KINDS)
    lines = body(kind, a, b)
    sign = {(False, False): "unsigned", (True, True): "signed"}.get((a.is_signed, b.is_signed), "mixed")
    size = f"{a.bits}" if a.bits == b.bits else f"{a.bits}x{b.bits}"
    name = f"multiplier_{kind}_{size}" + {"unsigned": "", "signed": "_signed", "mixed": "_mixed"}[sign]
    inputs, outputs = {"a": a.bits, "b": b.bits}, {"y": a.bits + b.bits}
    head = comment([f"y = a * b, {a.bits} by {b.bits} bits, {sign}: {_WORDS[kind]}."])
    text = head + module(name, inputs, outputs, lines)
    if kind != "operator":
        text += "\n" + PRIMITIVES
    ports: dict[str, Format] = {f.port: _integer(f) for f in (a, b) if f.bits <= 32}

    def model(given: Ports) -> Ports:
        return {"y": multiply(given["a"], given["b"], a, b)}

    top = name
    if request.register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, inputs, outputs)
    return Design(
        top,
        text,
        top,
        inputs,
        outputs,
        model,
        unit="multiplier",
        facts={"kind": kind, "n": a.bits, "m": b.bits, "sign": sign},
        vectors=plain_vectors(ports) if len(ports) == 2 else None,
        formats=ports,
        latency=int(request.register),
    )


_WORDS = {
    "grid": "a full adder for each pair of bits",
    "array": "the grid without cells that zeros make needless",
    "dadda": "a Dadda tree",
    "booth": "Booth's digits, radix 4, in a Dadda tree",
    "operator": "as synthesis builds it",
}


def _integer(f: Factor) -> IntFormat:
    return IntFormat(bits=f.bits, is_signed=f.is_signed)
