"""Verilog as text: buses, modules, and bodies made of full adders, half adders and ANDs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Column = list[str]


def bus(bits: int) -> str:
    """Return the range of a bus, nothing for one bit."""
    return f"[{bits - 1}:0] " if bits > 1 else ""


def comment(text: Iterable[str]) -> str:
    """Return lines of comment."""
    return "".join(f"// {line}".rstrip() + "\n" for line in text)


def module(name: str, inputs: Mapping[str, int], outputs: Mapping[str, int], body: Iterable[str]) -> str:
    """Return a module: ports of plain wires, and a body of lines."""
    ports = [f"input  {bus(bits)}{port}" for port, bits in inputs.items()]
    ports += [f"output {bus(bits)}{port}" for port, bits in outputs.items()]
    inside = "".join(f"  {line}".rstrip() + "\n" for line in body)
    return f"module {name} (\n  " + ",\n  ".join(ports) + f"\n);\n{inside}endmodule\n"


class Cells:
    """The body of a module made of cells that can be counted.

    Parameters
    ----------
    None.

    Raises
    ------
    Nothing.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names = 0

    def _wires(self, *kinds: str) -> list[str]:
        self._names += 1
        return [f"{kind}{self._names}" for kind in kinds]

    def note(self, text: str) -> None:
        """Write a line of comment."""
        self.lines.append(f"// {text}")

    def gate(self, x: str, y: str) -> str:
        """Instantiate an AND and return its output."""
        (s,) = self._wires("p")
        self.lines.append(f"wire {s}; AND2 and_{s} (.x({x}), .y({y}), .s({s}));")
        return s

    def half(self, x: str, y: str) -> tuple[str, str]:
        """Instantiate a half adder and return its sum and carry."""
        s, c = self._wires("s", "c")
        self.lines.append(f"wire {s}, {c}; HA ha_{s} (.x({x}), .y({y}), .s({s}), .c({c}));")
        return s, c

    def full(self, x: str, y: str, z: str) -> tuple[str, str]:
        """Instantiate a full adder and return its sum and carry."""
        s, c = self._wires("s", "c")
        self.lines.append(f"wire {s}, {c}; FA fa_{s} (.x({x}), .y({y}), .z({z}), .s({s}), .c({c}));")
        return s, c

    def reduce(self, columns: Sequence[Column]) -> list[Column]:
        """Reduce columns of bits to two rows as L. Dadda does it ("Some schemes for parallel multipliers", 1965).

        A stage takes columns to the next height of 2, 3, 4, 6, 9, 13 ... with as few adders as that takes; carries out
        of the last column are dropped.
        """
        heights = [2]
        while heights[-1] < max(map(len, columns)):
            heights.append(heights[-1] * 3 // 2)
        now = [list(column) for column in columns]
        for height in reversed(heights[:-1]):
            self.note(f"columns of at most {height} bits")
            carried: list[Column] = [[] for _ in range(len(now) + 1)]
            for place, column in enumerate(now):
                bits = column  # those of this stage first: the carries into it wait
                waiting = carried[place]
                while len(bits) + len(waiting) > height:
                    queue = bits + waiting
                    if len(queue) == height + 1:
                        s, c = self.half(queue[0], queue[1])
                        rest = queue[2:]
                    else:
                        s, c = self.full(queue[0], queue[1], queue[2])
                        rest = queue[3:]
                    bits, waiting = [*rest, s], []
                    carried[place + 1].append(c)
                now[place] = bits + waiting
        return now

    def total(self, columns: Sequence[Column], output: str) -> None:
        """Reduce columns, and add the two rows that are left with an adder that synthesis chooses."""
        rows = self.reduce(columns)
        first = ", ".join(column[0] if column else "1'b0" for column in reversed(rows))
        second = ", ".join(column[1] if len(column) > 1 else "1'b0" for column in reversed(rows))
        self.note("the two rows that are left")
        self.lines += [f"assign {output} = {{{first}}}", f"    + {{{second}}};"]
