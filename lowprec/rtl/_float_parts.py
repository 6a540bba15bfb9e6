"""The blocks that floating-point units are made of, as Verilog: unpack, align, normalise, round and pack.

Every block writes named wires into a `Module`. A sticky bit (whether anything below the last kept bit is not zero) goes
through every shifter beside the number. Numbers are held as a magnitude of some bits whose top bit has a known weight;
that weight is told as `level`: by how many binades it lies above the format's smallest normal number, plus one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lowprec.formats import FloatFormat


class Bits(NamedTuple):
    """A wire: its name and its width; `bits[3]`, `bits[7:4]` are what Verilog calls them."""

    name: str
    width: int

    def part(self, high: int, low: int) -> str:
        """Return bits `high` to `low`; all of a wire is its bare name, as a wire of one bit has no index."""
        if not 0 <= low <= high < self.width:
            msg = f"bits {high} to {low} of {self.name}, which has {self.width}"
            raise AssertionError(msg)
        if low == 0 and high == self.width - 1:
            return self.name
        return f"{self.name}[{high}]" if high == low else f"{self.name}[{high}:{low}]"

    def bit(self, place: int) -> str:
        """Return one bit."""
        return self.part(place, place)

    def top(self, count: int) -> str:
        """Return the upper `count` bits."""
        return self.part(self.width - 1, self.width - count)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def number(value: int, width: int) -> str:
    """Return a constant of `width` bits, negative ones in two's complement."""
    return f"{width}'d{value % (1 << width)}"


def joined(*parts: str) -> str:
    """Return bits side by side, empty strings left out."""
    found = [part for part in parts if part]
    return found[0] if len(found) == 1 else "{" + ", ".join(found) + "}"


def zeros(count: int) -> str:
    """Return `count` zero bits, or nothing."""
    return f"{count}'d0" if count > 0 else ""


def any_of(*signals: str) -> str:
    """Return the OR of signals, constants taken out."""
    found = [signal for signal in signals if signal != "1'b0"]
    if "1'b1" in found:
        return "1'b1"
    return " | ".join(found) if found else "1'b0"


def all_of(*signals: str) -> str:
    """Return the AND of signals, constants taken out."""
    found = [signal for signal in signals if signal != "1'b1"]
    if "1'b0" in found:
        return "1'b0"
    return " & ".join(f"({signal})" if "|" in signal else signal for signal in found) if found else "1'b1"


def signed_width(low: int, high: int) -> int:
    """Return how many bits two's complement needs for every integer from `low` to `high`."""
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0)


class Module:
    """A Verilog module that grows line by line."""

    def __init__(self, name: str, says: str) -> None:
        """Begin with the name and what the first comment says."""
        self.name, self.says = name, says
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._lines: list[str] = []

    def input(self, name: str, width: int) -> Bits:
        """Add a port."""
        self.inputs[name] = width
        return Bits(name, width)

    def note(self, text: str) -> None:
        """Begin a block with a comment."""
        self._lines += ["", *(f"  // {line}" for line in text.splitlines())]

    def wire(self, name: str, width: int, value: str) -> Bits:
        """Add a wire and what drives it."""
        size = "" if width == 1 else f"[{width - 1}:0] "
        self._lines.append(f"  wire {size}{name} = {value};")
        return Bits(name, width)

    def flag(self, name: str, value: str) -> str:
        """Add a wire of one bit; a constant stays a constant."""
        return value if value in ("1'b0", "1'b1") else self.wire(name, 1, value).name

    def undriven(self, name: str, width: int) -> Bits:
        """Add a wire that an instance drives."""
        size = "" if width == 1 else f"[{width - 1}:0] "
        self._lines.append(f"  wire {size}{name};")
        return Bits(name, width)

    def instance(self, module: str, name: str, ports: dict[str, str]) -> None:
        """Add an instance of another module."""
        links = ", ".join(f".{port}({signal})" for port, signal in ports.items())
        self._lines.append(f"  {module} {name} ({links});")

    def output(self, name: str, width: int, value: str) -> None:
        """Add a port and what drives it."""
        self.outputs[name] = width
        self._lines.append(f"  assign {name} = {value};")

    def parts(self) -> tuple[str, dict[str, int], dict[str, int]]:
        """Return the text and the ports."""
        return self.text(), self.inputs, self.outputs

    def text(self) -> str:
        """Return the module."""

        def port(kind: str, name: str, width: int) -> str:
            size = "" if width == 1 else f"[{width - 1}:0] "
            return f"  {kind} {size}{name}"

        ports = [port("input", name, width) for name, width in self.inputs.items()]
        ports += [port("output", name, width) for name, width in self.outputs.items()]
        head = [f"// {line}" for line in self.says.splitlines()]
        return "\n".join([*head, f"module {self.name} (", ",\n".join(ports), ");", *self._lines, "endmodule", ""])


@dataclass(frozen=True)
class Number:
    """An unpacked operand: signals for its sign and kind, its biased exponent, its significand with the hidden bit."""

    fmt: FloatFormat
    sign: str
    exponent: Bits
    significand: Bits
    nonzero: str
    inf: str
    nan: str
    lowest: int  # the least biased exponent, of a number that is not zero
    highest: int


def unpack(m: Module, code: Bits, fmt: FloatFormat, *, flush: bool, mask: bool = True) -> Number:
    """Take a code apart; with `flush` a subnormal number is a zero.

    Without `mask`, the fraction of a flushed number stays as it is, for units that clear it later.
    """
    n, man, exp = code.name, fmt.mantissa_bits, fmt.exponent_bits
    low = fmt.magnitude_bits
    m.note(f"{n}: sign, exponent and significand of {fmt.name}")
    sign = m.flag(f"{n}_sign", code.bit(low) if fmt.is_signed else "1'b0")
    field = m.wire(f"{n}_field", exp, code.part(low - 1, man))
    nan, inf = _specials(m, code, fmt, field)
    fraction = m.wire(f"{n}_fraction", man, code.part(man - 1, 0)).name if man else ""
    if not fmt.has_zero:
        nonzero = "1'b1"
        whole = m.wire(f"{n}_significand", man + 1, joined("1'b1", fraction))
        return Number(fmt, sign, field, whole, nonzero, inf, nan, 0, fmt.max_code >> man)
    hidden = m.wire(f"{n}_hidden", 1, f"|{field}").name
    if flush and man and fmt.is_signed and not fmt.has_negative_zero:  # a flushed number is the only zero there is
        sign = m.flag(f"{n}_sign_kept", f"{sign} & {hidden}")
    if flush or not man:
        cleared = f"{fraction} & {{{man}{{{hidden}}}}}" if mask and man else fraction
        whole = m.wire(f"{n}_significand", man + 1, joined(hidden, cleared))
        return Number(fmt, sign, field, whole, hidden, inf, nan, 1, fmt.max_code >> man)
    whole = m.wire(f"{n}_significand", man + 1, joined(hidden, fraction))
    nonzero = m.wire(f"{n}_nonzero", 1, f"{hidden} | (|{fraction})").name
    # a subnormal number has the exponent of the smallest normal one
    upper = field.part(exp - 1, 1) if exp > 1 else ""
    exponent = m.wire(f"{n}_exponent", exp, joined(upper, f"{field.bit(0)} | ~{hidden}"))
    return Number(fmt, sign, exponent, whole, nonzero, inf, nan, 1, max(1, fmt.max_code >> man))


def _specials(m: Module, code: Bits, fmt: FloatFormat, field: Bits) -> tuple[str, str]:
    """Find NaN and infinity."""
    n, man = code.name, fmt.mantissa_bits
    magnitude = code.part(fmt.magnitude_bits - 1, 0)
    nan = inf = "1'b0"
    if fmt.nan == "ieee":
        top = m.wire(f"{n}_top", 1, f"&{field}").name
        rest = m.wire(f"{n}_rest", 1, f"|{code.part(man - 1, 0)}").name
        return m.flag(f"{n}_nan", f"{top} & {rest}"), m.flag(f"{n}_inf", f"{top} & ~{rest}")
    if fmt.nan == "all_ones":
        nan = m.flag(f"{n}_nan", f"&{magnitude}")
    elif fmt.nan == "negative_zero":
        nan = m.flag(f"{n}_nan", f"{code} == {number(1 << fmt.magnitude_bits, fmt.bits)}")
    if fmt.inf_code is not None:
        inf = m.flag(f"{n}_inf", f"{magnitude} == {number(fmt.inf_code, fmt.magnitude_bits)}")
    return nan, inf


def with_carry(m: Module, name: str, width: int, x: str, y: str, carry: str) -> Bits:
    """Add two numbers of `width` bits and a carry in one adder: the carry comes out of an extra last place."""
    longer = m.wire(f"{name}_and_carry", width + 1, f"{{{x}, 1'b1}} + {{{y}, {carry}}}")
    return m.wire(name, width, longer.part(width, 1))


def shift_right(m: Module, name: str, x: Bits, amount: Bits, width: int, *, truncate: bool = False) -> tuple[Bits, str]:
    """Shift `x`, at the top of a window of `width` bits, right; return the window and the sticky bit."""
    rest = "is cut" if truncate else "is remembered in a sticky bit"
    m.note(f"{name}: shifted right by {amount.name}, small steps first; what falls out {rest}")
    live, sticky = x, []
    for stage in range(amount.width):
        step, go = 1 << stage, amount.bit(stage)
        if step >= width:  # everything leaves
            sticky.append(f"({go} & |{live})")
            kept = f"{live} & {{{live.width}{{~{go}}}}}"
            live = m.wire(f"{name}_{step}", live.width, kept)
            continue
        grown = min(width, live.width + step)
        lost = live.width + step - grown
        moved = joined(zeros(step), live.part(live.width - 1, lost) if lost < live.width else "")
        stayed = joined(live.name, zeros(grown - live.width))
        if lost:
            sticky.append(f"({go} & |{live.part(lost - 1, 0)})")
        live = m.wire(f"{name}_{step}", grown, f"{go} ? {moved} : {stayed}")
    whole = m.wire(f"{name}_shifted", width, joined(live.name, zeros(width - live.width)))
    return whole, "1'b0" if truncate else m.flag(f"{name}_sticky", any_of(*sticky))
