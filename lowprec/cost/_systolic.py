"""Systolic arrays: cycles and utilisation as exact counts, peak, area."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec._dataflows import DATAFLOWS, dataflow_of, flags_of
from lowprec.accumulators import Chunked
from lowprec.cost._cells import GE
from lowprec.cost._element import inner_sum, see_steps
from lowprec.cost._figure import Figure
from lowprec.cost._mac import mac
from lowprec.cost._printed import Printed
from lowprec.cost._result import Cost
from lowprec.cost._shape import operand_of

_SOURCE = "docs/systolic.md"
_MOST = 2**40


@dataclass(frozen=True, repr=False)
class SystolicArray(Printed):
    """A systolic array of processing elements, each a MAC with its registers; `systolic` makes one.

    Parameters
    ----------
    rows, cols : int
        Elements along each side.
    dtype : str, FloatFormat, IntFormat or pair of these
        The formats that are multiplied.
    dataflow : str
        ``"ws"``, ``"os"`` or ``"is"``.
    accumulator : str, Accumulator or None
        The sum of an element.
    clock : float
        Cycles a second.
    arrays : int
        How many of them work side by side.
    double_buffered : bool
        Whether the next tile is loaded while one is worked on.
    drain : bool
        With ``"os"``: whether results leave by the columns.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a size is not positive, a name is unknown, or the format or the accumulator has no model.

    Examples
    --------
    >>> import lowprec as lp
    >>> array = lp.cost.systolic(4, 4, "int8", clock=1e9)
    >>> array.elements, float(array.peak_ops), array.matmul(4, 4, 4).cycles
    (16, 32000000000.0, 14)
    """

    rows: int
    cols: int
    dtype: Any = "bf16"
    dataflow: str = "ws"
    accumulator: Any = None
    clock: float = 0.7e9
    arrays: int = 1
    double_buffered: bool = False
    drain: bool = False
    _mac: Cost = field(init=False, repr=False, compare=False)
    _bits: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check, and find the MAC."""
        sizes = {name: _size(getattr(self, name), name) for name in ("rows", "cols", "arrays")}
        flow = dataflow_of(self.dataflow)
        buffered, drained = flags_of(flow, self.double_buffered, self.drain)
        self._set(**sizes, dataflow=flow, clock=_clock(self.clock), double_buffered=buffered, drain=drained)
        dtype = tuple(self.dtype) if isinstance(self.dtype, list) else self.dtype
        sums = inner_sum(self.accumulator, sizes["rows"], flow)
        unit, bare = (_spoken(lambda r=register: mac(dtype, sums, register=r)) for register in (True, False))
        see_steps(sums, dtype)
        a, b = (operand_of(each, "dtype").bits for each in (dtype if isinstance(dtype, tuple) else (dtype, dtype)))
        flops = round((float(unit.ge) - float(bare.ge)) / GE["DFF"])  # of the sum
        self._set(dtype=dtype, _mac=unit, _bits=(a, b, flops))

    def _set(self, **values: Any) -> None:
        """Write checked values while the object is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def elements(self) -> int:
        """Processing elements of all arrays."""
        return self.rows * self.cols * self.arrays

    @property
    def peak_ops(self) -> Figure:
        """Operations a second if every element did a multiplication and an addition in every cycle."""
        what = f"2 x {self.rows} x {self.cols} x {self.arrays} at {self.clock:g} Hz"
        return Figure(2 * self.elements * self.clock, "op/s", "exact count", what)

    @property
    def element(self) -> Figure:
        """Gate equivalents of a processing element: the MAC, and registers of both operands and of the sum."""
        a, b, _ = self._bits
        stays = {"ws": b, "is": a, "os": 0}[self.dataflow]
        registers = (a + b + 2 * stays * self.double_buffered) * GE["DFF"]
        return self._figure(self._mac.ge + registers, self._mac.ge.low + registers, self._mac.ge.high + registers)

    @property
    def skew(self) -> Figure:
        """Gate equivalents of the registers around an array that delay what enters, and sums that leave."""
        a, b, sums = self._bits
        left = {"ws": a, "is": b, "os": a}[self.dataflow]
        other = b if self.dataflow == "os" else sums
        flops = left * self.rows * (self.rows - 1) // 2 + other * self.cols * (self.cols - 1) // 2
        return self._figure(flops * GE["DFF"])

    @property
    def ge(self) -> Figure:
        """Gate equivalents of all arrays: processing elements and skew; no memory, no control."""
        one, skew, count = self.element, self.skew, self.rows * self.cols
        parts = [self.arrays * (count * each + skew) for each in (one, one.low, one.high)]
        return self._figure(*parts)

    @property
    def area(self) -> Figure:
        """The same as `ge`: areas of a two-input NAND. Square micrometres come from a named table only."""
        return self.ge

    @staticmethod
    def _figure(value: float, low: float | None = None, high: float | None = None) -> Figure:
        return Figure(value, "GE", "closed form", _SOURCE, low, high)

    def matmul(self, M: int, K: int, N: int) -> SystolicRun:
        """Return what a product of matrices (M, K) and (K, N) takes.

        Parameters
        ----------
        M, K, N : int
            Sizes.

        Returns
        -------
        SystolicRun
            ``.cycles``, ``.utilisation``, ``.seconds``, ``.ops_per_second``; prints as a table.

        Raises
        ------
        TypeError
            If a size is no integer.
        ValueError
            If one is below 1.

        Notes
        -----
        With tiles of K and of columns, F = ceil(K / rows) ceil(N / cols) of them, weight-stationary::

            F (2 rows + cols + M - 2)                                       one after the other
            rows + (F - 1) max(M, rows) + M + rows + cols - 2               double-buffered

        input-stationary with M and N exchanged, and output-stationary, F = ceil(M / rows) ceil(N / cols)::

            F (K + rows + cols - 2)        and F rows more with drain=True

        Tiles of an edge take as long as whole ones. Several arrays share the tiles of columns (output-stationary:
        all tiles), and the one with most of them counts. `lowprec.systolic.simulate` counts the same cycles one by one.
        """
        return SystolicRun(self, _size(M, "M"), _size(K, "K"), _size(N, "N"))

    def _name(self) -> str:
        several = f"{self.arrays} x " if self.arrays > 1 else ""
        what = self._mac.name.removeprefix("MAC ")
        return f"{several}{self.rows} x {self.cols} array, {DATAFLOWS[self.dataflow]}, {what}"

    def _view(self) -> tables.Table:
        ge = self.ge
        rows = [
            ["processing elements", str(self.elements), ""],
            ["clock", f"{self.clock / 1e9:.4g}", "GHz"],
            ["peak", f"{self.peak_ops / 1e12:.4g}", "Top/s"],
            ["one element", f"{self.element:.4g}", "GE"],
            ["skew registers", f"{self.arrays * self.skew:.4g}", "GE"],
            ["in all", f"{ge:.4g}", "GE"],
            ["for 1 Top/s", f"{ge / self.peak_ops * 1e12:.4g}", "GE"],
        ]
        notes = [f"Range: {ge.low:.4g} to {ge.high:.4g} GE ({ge.kind}); without memory and control."]
        if isinstance(self.accumulator, Chunked):
            notes.append("What adds up the sums of tiles lies outside the array and is not counted.")
        return tables.Table(["<what", "", "<unit"], rows, self._name(), notes)

    def __repr__(self) -> str:
        """Return one line."""
        return f"<{self._name()}: {self.peak_ops / 1e12:.4g} Top/s, {self.ge:.4g} GE>"


@dataclass(frozen=True, repr=False)
class SystolicRun(Printed):
    """What a product of matrices takes on a systolic array: exact counts of cycles.

    Parameters
    ----------
    array : SystolicArray
        The array.
    M, K, N : int
        Sizes of the product.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> run = lp.cost.systolic(4, 4, "int8").matmul(100, 4, 4)
    >>> run.fill, run.stream, run.drain, run.cycles, f"{run.utilisation:.0%}"
    (4, 100, 6, 110, '91%')
    """

    array: SystolicArray
    M: int
    K: int
    N: int

    @property
    def _tiles(self) -> tuple[int, int]:
        """Tiles of all arrays, and of the one that has most of them."""
        one = self.array
        if one.dataflow == "os":
            tiles = -(-self.M // one.rows) * -(-self.N // one.cols)
            return tiles, -(-tiles // one.arrays)
        deep, wide = -(-self.K // one.rows), -(-(self.N if one.dataflow == "ws" else self.M) // one.cols)
        return deep * wide, deep * -(-wide // one.arrays)

    @property
    def tiles(self) -> int:
        """Tiles that are loaded or, output-stationary, that results are made in; of all arrays."""
        return self._tiles[0]

    @property
    def fill(self) -> int:
        """Cycles in which the array waits for the numbers that stay."""
        one, count = self.array, self._tiles[1]
        if one.dataflow == "os":
            return 0
        if one.double_buffered:
            return one.rows + (count - 1) * max(one.rows - self._rows, 0)
        return count * one.rows

    @property
    def _rows(self) -> int:
        """How many cycles something enters at the corner, for a tile."""
        return {"ws": self.M, "is": self.N, "os": self.K}[self.array.dataflow]

    @property
    def stream(self) -> int:
        """Cycles in which a new row (output-stationary: a new k) enters at the corner."""
        return self._tiles[1] * self._rows

    @property
    def drain(self) -> int:
        """Cycles from then until the last number has left."""
        one, count = self.array, self._tiles[1]
        once = one.rows + one.cols - 2
        if one.double_buffered:
            return once
        return count * (once + one.rows * one.drain)

    @property
    def cycles(self) -> int:
        """All cycles: an exact count."""
        return self.fill + self.stream + self.drain

    @property
    def macs(self) -> int:
        """Multiply-adds: M K N."""
        return self.M * self.K * self.N

    @property
    def utilisation(self) -> float:
        """Steps that are of use, over those that all elements could do in these cycles."""
        return self.macs / (self.cycles * self.array.elements)

    @property
    def seconds(self) -> Figure:
        """Time, if memory keeps up: `lowprec.cost.roofline` says whether it can."""
        return Figure(self.cycles / self.array.clock, "s", "closed form", f"cycles at {self.array.clock:g} Hz")

    @property
    def ops_per_second(self) -> Figure:
        """Operations a second that are attained, a multiplication and an addition counted apart."""
        return Figure(2 * self.macs / self.seconds, "op/s", "closed form", "2 M K N over the time")

    def _view(self) -> tables.Table:
        rows = [[name, str(getattr(self, name)), "cycles"] for name in ("fill", "stream", "drain")]
        rows += [
            ["in all", str(self.cycles), "cycles"],
            ["tiles", str(self.tiles), ""],
            ["utilisation", f"{self.utilisation:.1%}", ""],
            ["time", f"{self.seconds * 1e6:.4g}", "us"],
            ["attained", f"{self.ops_per_second / 1e12:.4g}", "Top/s"],
        ]
        title = f"({self.M}, {self.K}) x ({self.K}, {self.N}) on {self.array._name()}"
        return tables.Table(["<what", "", "<unit"], rows, title, ["Memory is taken to be as fast as the array."])

    def __repr__(self) -> str:
        """Return one line."""
        return f"<{self.M} x {self.K} x {self.N}: {self.cycles} cycles, {self.utilisation:.1%} of the array>"


def systolic(
    rows: int,
    cols: int,
    dtype: Any = "bf16",
    dataflow: str = "ws",
    *,
    accumulator: Any = None,
    clock: float = 0.7e9,
    arrays: int = 1,
    double_buffered: bool = False,
    drain: bool = False,
) -> SystolicArray:
    """Return what a systolic array costs, and what products take on it.

    Parameters
    ----------
    rows, cols : int
        Processing elements along each side.
    dtype : str, FloatFormat, IntFormat or pair of these
        The format of both operands, or one for each.
    dataflow : {"ws", "os", "is"}
        What stays in its place: ``"ws"`` the weights, ``"os"`` the results, ``"is"`` the inputs.
    accumulator : str, FloatFormat or Accumulator, optional
        The sum of an element, one product after the other, as `lowprec.cost.mac` takes it; None is float32 (integers:
        int32). ``Chunked(inner, every=rows)``: the sums of tiles are added up outside, which is not counted.
    clock : float
        Cycles a second.
    arrays : int
        How many arrays work side by side.
    double_buffered : bool
        Whether every element has registers for the next tile, which is loaded while one is worked on; not with
        ``"os"``, which loads none.
    drain : bool
        With ``"os"``: whether results leave by the columns, a row in each cycle, instead of being read in place.

    Returns
    -------
    SystolicArray
        ``.peak_ops``, ``.ge``, ``.matmul(M, K, N)``; prints as a table.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a size is not positive, a name is unknown, or the format or the accumulator has no model.

    Notes
    -----
    A processing element is the MAC with the register of its sum, and a register for each operand; double-buffered two
    more for the operand that stays, one in which the next number waits and one by which it comes. With operands of a
    and b bits and sums of s, the skew registers are a rows (rows - 1) / 2 flip-flops on the left, and s cols (cols - 1)
    / 2 (output-stationary: b in place of s) at the columns. Memory, control and wires are not counted.

    References
    ----------
    N. P. Jouppi et al., In-datacenter performance analysis of a tensor processing unit, ISCA 2017, section 2.

    See Also
    --------
    lowprec.systolic.simulate : The same array register by register, and its results bit by bit.

    Examples
    --------
    >>> import lowprec as lp
    >>> tpu = lp.cost.systolic(256, 256, "int8", clock=0.7e9)
    >>> round(tpu.peak_ops / 1e12, 2)
    91.75
    >>> lp.cost.systolic(128, 128).matmul(512, 512, 512)
    <512 x 512 x 512: 14304 cycles, 57.3% of the array>
    >>> lp.cost.systolic(128, 128, double_buffered=True).matmul(1, 512, 512)
    <1 x 512 x 512: 2303 cycles, 0.7% of the array>
    """
    return SystolicArray(rows, cols, dtype, dataflow, accumulator, clock, arrays, double_buffered, drain)


def _spoken(make: Any) -> Any:
    """Call, with errors that speak of `dtype` in place of `fmt`."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", "`dtype`", 1)) from None


def _size(value: Any, name: str) -> int:
    """Check a number of something."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not 1 <= value <= _MOST:
        msg = f"`{name}` must be from 1 to 2**40, got {value}."
        raise ValueError(msg)
    return int(value)


def _clock(value: Any) -> float:
    """Check cycles a second."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"`clock` must be a number of cycles a second, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    value = value.item() if isinstance(value, np.generic) else value
    if not 0 < value <= sys.float_info.max:  # NaN is not
        msg = f"`clock` must be a positive number of cycles a second, such as 0.7e9, got {value}."
        raise ValueError(msg)
    return float(value)
