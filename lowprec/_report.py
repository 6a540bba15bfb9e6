"""What `probe` returns: the parameters of a dot product, and the hardware that fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lowprec import _text_tables as tables
from lowprec.accumulators import Accumulator
from lowprec.formats import FloatFormat


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """What `probe` found; None stands for what these formats and results do not show.

    Parameters
    ----------
    operands : tuple of FloatFormat
        Formats of a and b.
    k : int
        Length of the vectors.
    calls : int
        How often the function was called.
    deterministic : bool
        Whether equal calls gave equal bits. If not, nothing else was measured.
    result_format : str, optional
        Format of the result, by its significand bits and exponents.
    kept_bits : int, optional
        Fraction bits of the result that are used, where fewer than the format has.
    sum_bits : int, optional
        Fraction bits that a sum keeps from one step to the next.
    rounding, sum_rounding : str, optional
        How the result, and a sum between two steps, is rounded: a member of `Rounding`, or ``"to_odd"``.
    products : {"exact", "rounded"}, optional
        Whether products enter the sum unrounded.
    block_length : int, optional
        Consecutive products that are added before a rounding, or as one group.
    order : str, optional
        Which terms meet first, in words.
    tree : str, optional
        The same in brackets: terms in one bracket are added in one step.
    alignment : str, optional
        What becomes of bits below the alignment within a step: ``"toward_zero"``, ``"toward_negative"``, ...;
        ``"exact"`` if none are lost.
    fraction_bits : int, optional
        How many bits below the largest term of a step survive.
    c_place : {"inside", "late", "first", "last", "ignored"}, optional
        Where c enters: in the aligned sum of a block; after it; as the first or the last term of a sum; nowhere.
    final_bits : int, optional
        Bits below c at which a block's sum is cut where c enters late.
    late_alignment : str, optional
        What becomes of bits of c below the alignment where c enters late.
    even_odd : bool
        Whether even and odd places are aligned apart.
    exponent_floor : int, optional
        The least exponent that alignment takes as a step's largest.
    subnormals : dict
        ``"keep"``, ``"flush"`` or None for ``"a"``, ``"b"``, ``"c"`` and ``"results"``.
    overflow : str, optional
        ``"inf"``, ``"nan"`` or ``"saturate"``.
    zeros : dict
        The sign of zero results.
    nans : dict
        Bits of NaN results, in the type that the function returned.
    model : Accumulator, optional
        A model that gave the bits of every call.
    presets : tuple of str
        Hardware presets with an instruction that gave the bits of every call.
    table : list of dict
        Every instruction that was compared: preset, instruction, model, evidence, and how many calls it missed.

    Raises
    ------
    Nothing.
    """

    operands: tuple[FloatFormat, FloatFormat]
    k: int
    calls: int
    deterministic: bool
    result_format: str | None = None
    kept_bits: int | None = None
    sum_bits: int | None = None
    rounding: str | None = None
    sum_rounding: str | None = None
    products: str | None = None
    block_length: int | None = None
    order: str | None = None
    tree: str | None = None
    alignment: str | None = None
    fraction_bits: int | None = None
    c_place: str | None = None
    final_bits: int | None = None
    late_alignment: str | None = None
    even_odd: bool = False
    exponent_floor: int | None = None
    subnormals: dict[str, str | None] = field(default_factory=dict)
    overflow: str | None = None
    zeros: dict[str, str] = field(default_factory=dict)
    nans: dict[str, str] = field(default_factory=dict)
    model: Accumulator | None = None
    presets: tuple[str, ...] = ()
    table: list[dict[str, Any]] = field(default_factory=list)

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Yield what was found, in words."""
        kept = "" if self.kept_bits is None else f", {self.kept_bits} fraction bits used"
        yield "result", f"{self.result_format or '?'}{kept}"
        yield "rounding", self.rounding or "?"
        if self.sum_rounding != self.rounding or self.kept_bits is None:
            between = f", {self.sum_rounding}" if self.sum_rounding != self.rounding else ""
            yield "between steps", f"{self.sum_bits} fraction bits{between}"
        yield "products", self.products or "?"
        yield "block length", str(self.block_length or "?")
        yield "order", self.order or "?"
        if self.order is None and self.tree:
            yield "tree", self.tree
        cut = "" if self.fraction_bits is None else f"{self.fraction_bits} fraction bits, the rest "
        apart = ", even and odd places apart" if self.even_odd else ""
        yield "alignment", f"{cut}{self.alignment or '?'}{apart}"
        late = f", cut at {self.final_bits} bits" if self.final_bits else ""
        floor = f", c {self.late_alignment}" if self.late_alignment else ""
        yield "c", f"{self.c_place or '?'}{late}{floor}"
        yield "subnormals", ", ".join(f"{name} {fate or '?'}" for name, fate in self.subnormals.items())
        if self.exponent_floor is not None:
            yield "exponent floor", str(self.exponent_floor)
        if self.overflow:
            yield "overflow", self.overflow
        yield "zeros", ", ".join(f"{name}: {sign}" for name, sign in self.zeros.items())
        if self.nans:
            yield "NaN", ", ".join(f"{name}: {bits}" for name, bits in self.nans.items())
        yield "model", repr(self.model) if self.model else "none that fits"

    def _view(self) -> tables.Table:
        """Return what was found as a table of strings."""
        a, b = self.operands
        words = f"{a}" if a == b else f"{a} x {b}"
        title = f"dot product of {self.k} {words}, {self.calls} calls"
        if not self.deterministic:
            return tables.Table(["<what", "<found"], [["equal calls", "gave other bits: not deterministic"]], title)
        notes = ["?: these formats do not show it."]
        if self.presets:
            notes.append("Presets with the same bits on every call:")
            fitting = [row for row in self.table if not row["missed"]]
            notes += [f"    {row['preset']}: {row['instruction']} ({row['evidence']})" for row in fitting]
        elif self.table:
            nearest = min(self.table, key=lambda row: row["missed"])
            notes.append(
                f"No preset has the same bits on every call; the nearest is {nearest['preset']}, "
                f"{nearest['instruction']}: {nearest['missed']} of {nearest['calls']} differ."
            )
        return tables.Table(["<what", "<found"], [list(row) for row in self._rows()], title, notes)

    def __str__(self) -> str:
        """Return the report as plain text."""
        return tables.plain(self._view())

    def _repr_html_(self) -> str:
        """Return the report for a notebook."""
        return tables.to_html(self._view())
