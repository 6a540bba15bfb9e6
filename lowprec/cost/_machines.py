"""Machines with their peaks, bandwidth and power: those of data sheets, and the one that this runs on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec._patterns import SparsityPattern, hardware_pattern
from lowprec.codebooks import ElementFormat, element_of
from lowprec.cost._figure import Figure
from lowprec.cost._printed import Printed, Records
from lowprec.cost._tables import STATES, read, unknown

_TITLES = {
    "v100": "NVIDIA V100 SXM2",
    "a100-40gb": "NVIDIA A100 SXM4 40 GB",
    "a100-80gb": "NVIDIA A100 SXM4 80 GB",
    "h100": "NVIDIA H100 SXM5",
    "h200": "NVIDIA H200 SXM",
    "b200": "NVIDIA B200 in HGX, 1,000 W",
    "tpuv1": "Google TPU v1",
    "tpuv2": "Google TPU v2",
    "tpuv3": "Google TPU v3",
    "tpuv4": "Google TPU v4",
    "tpuv5e": "Google TPU v5e",
    "edgetpu": "Google Coral Edge TPU",
}
_ALIASES = {"a100": "a100-80gb", "edge-tpu": "edgetpu", "edge tpu": "edgetpu", "tpuv5": "tpuv5e"}


@dataclass(frozen=True, eq=False, repr=False)
class Machine(Printed):
    """A machine as a roofline sees it.

    Parameters
    ----------
    name : str
        What `machine` takes.
    title : str
        What it is.
    peaks : mapping of str to Figure
        Operations a second by format, a multiplication and an addition counting as two; dense.
    sparse_peaks : mapping of str to Figure
        The same with structured sparsity, counting what is not kept, for the formats that have it.
    bandwidth : Figure
        Bytes a second of its memory.
    power : Figure, optional
        Watts: the limit of the data sheet, or the most that was measured.

    Raises
    ------
    Nothing.
    """

    name: str
    title: str
    peaks: Mapping[str, Figure]
    sparse_peaks: Mapping[str, Figure]
    bandwidth: Figure
    power: Figure | None = field(default=None)

    def __post_init__(self) -> None:
        """Keep the peaks from being changed."""
        for name in ("peaks", "sparse_peaks"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> Any:
        """Pickle by what it is made of."""
        peaks = dict(self.peaks), dict(self.sparse_peaks)
        return type(self), (self.name, self.title, *peaks, self.bandwidth, self.power)

    def peak(self, fmt: Any, sparsity: Any = None) -> Figure:
        """Return the operations a second in a format.

        Parameters
        ----------
        fmt : str, FloatFormat, IntFormat or dtype
            An element format.
        sparsity : {"2:4", "1:2", "4:8"} or SparsityPattern, optional
            With structured sparsity.

        Returns
        -------
        Figure
            In op/s.

        Raises
        ------
        TypeError
            If `fmt` is of the wrong kind.
        ValueError
            If the machine has no number for the format, or none with sparsity; what it has is listed.

        Examples
        --------
        >>> import lowprec as lp
        >>> print(lp.cost.machine("h100").peak("bf16"))
        9.894e+14 op/s (published)
        """
        element = element_of(fmt, "dtype")
        pattern = None if sparsity is None else hardware_pattern(sparsity, "sparsity")
        return self._peak(element, pattern)

    def _peak(self, element: ElementFormat, pattern: SparsityPattern | None) -> Figure:
        """Return a peak, or say what there is."""
        found = self.peaks if pattern is None else self.sparse_peaks
        if element.name in found:
            return found[element.name]
        if pattern is not None and element.name in self.peaks:
            has = f"it has it for {', '.join(found)}" if found else "it has none"
            msg = f"`sparsity` must be None for {element.name} on {self.name}, got {pattern}; {has}."
            raise ValueError(msg)
        msg = (
            f"`dtype` must be a format that {self.name} has a peak for ({', '.join(found or self.peaks)}), got "
            f"{element.name}; for storage alone pass weights=, for another machine peak= and bandwidth=."
        )
        raise ValueError(msg)

    def _view(self) -> tables.Table:
        rows = [
            [name, f"{peak / 1e12:.5g}", f"{self.sparse_peaks[name] / 1e12:.5g}" if name in self.sparse_peaks else ""]
            for name, peak in self.peaks.items()
        ]
        watts = "" if self.power is None else f", {self.power:.4g} W ({self.power.kind})"
        notes = [
            f"Memory: {self.bandwidth / 1e9:.5g} GB/s ({self.bandwidth.kind}){watts}.",
            *dict.fromkeys(figure.source for figure in (*self.peaks.values(), self.bandwidth)),
        ]
        return tables.Table(["<format", "dense Top/s", "sparse Top/s"], rows, self.title, notes)

    def __repr__(self) -> str:
        """Return one line."""
        return f"<Machine {self.name}: {', '.join(self.peaks)}; {self.bandwidth / 1e9:.5g} GB/s>"


class Machines(Records[Machine]):
    """What `machines` returns.

    Raises
    ------
    Nothing.
    """

    __slots__ = ()

    def _view(self) -> tables.Table:
        rows = []
        for each in self:
            best = max(each.peaks, key=lambda name: each.peaks[name])
            wide = next((name for name in ("bfloat16", "float16") if name in each.peaks), "")
            state = max((row["state"] for row in _rows()[each.name]), key=STATES.index)
            rows.append(
                [
                    each.name,
                    each.title,
                    f"{each.peaks[wide] / 1e12:.4g}" if wide else "",
                    f"{each.peaks[best] / 1e12:.4g}",
                    best,
                    "yes" if each.sparse_peaks else "",
                    f"{each.bandwidth / 1e9:.4g}",
                    f"{each.power:.4g}" if each.power is not None else "",
                    state,
                ]
            )
        columns = ["<name", "<machine", "16-bit Top/s", "most Top/s", "<in", "<2:4", "GB/s", "W", "<state"]
        notes = ["Dense peaks of data sheets. state: of the weakest number; lp.cost.machine(name) has all formats."]
        return tables.Table(columns, rows, "", notes, ("machine", "state"))


@lru_cache(maxsize=1)
def _rows() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the data file by machine; not to be changed."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read("machines.csv"):
        found.setdefault(row["machine"], []).append(row)
    return found


@lru_cache(maxsize=1)
def _known() -> dict[str, Machine]:
    """Return the machines by name; not to be changed."""
    return {name: _made(name, rows) for name, rows in _rows().items()}


def _made(name: str, rows: list[dict[str, str]]) -> Machine:
    """Return a machine from its rows."""
    peaks: dict[str, Figure] = {}
    sparse: dict[str, Figure] = {}
    rest: dict[str, Figure] = {}
    for row in rows:
        source = f"{row['source']} ({row['state']})"
        if row["quantity"] != "peak":
            unit = {"bandwidth": "byte/s", "power": "W"}[row["quantity"]]
            rest[row["quantity"]] = Figure(float(row["value"]), unit, "published", source)
            continue
        for fmt in row["formats"].split():
            peaks[fmt] = Figure(float(row["value"]), "op/s", "published", source)
            if row["sparse"]:
                sparse[fmt] = Figure(float(row["sparse"]), "op/s", "published", source)
    return Machine(name, _TITLES[name], peaks, sparse, rest["bandwidth"], rest.get("power"))


def machines() -> Machines:
    """Return the machines that have a name.

    Returns
    -------
    tuple of Machine
        Prints as a table.

    Raises
    ------
    Nothing.

    See Also
    --------
    this_machine : The one that this runs on, measured.

    Examples
    --------
    >>> import lowprec as lp
    >>> [machine.name for machine in lp.cost.machines()][:4]
    ['v100', 'a100-40gb', 'a100-80gb', 'h100']
    """
    return Machines(_known().values())


def machine(name: str) -> Machine:
    """Return a machine by its name.

    Parameters
    ----------
    name : str
        One of `machines`; "a100" is the one with 80 GB.

    Returns
    -------
    Machine
        Prints as a table, with its sources.

    Raises
    ------
    TypeError
        If `name` is no string.
    ValueError
        If no machine is called so; close names are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.machine("tpuv4"))
    Google TPU v4
    format    dense Top/s  sparse Top/s
    --------  -----------  ------------
    bfloat16          275
    int8              275
    uint8             275
    Memory: 1200 GB/s (published), 192 W (published).
    Google, Cloud TPU documentation, v4 (seen)
    """
    word = name.strip().lower() if isinstance(name, str) else ""
    word = _ALIASES.get(word, word)
    if word in _known():
        return _known()[word]
    return unknown(name, [*_known(), *_ALIASES], "machine", "lp.cost.machines()", "machine")


def this_machine(formats: Any = ("bf16", "int8"), *, size: int = 512) -> Machine:
    """Measure the machine that this runs on, as Python programs see it: what `lowprec.matmul` reaches, not gates.

    Parameters
    ----------
    formats : iterable of str or format
        In which `lowprec.matmul` is measured; NumPy's float32 product always is.
    size : int
        Of the square matrices.

    Returns
    -------
    Machine
        Peaks and the bandwidth of a copy of 64 MB, the best of a few runs each, of kind "measured". About a second; the
        first time also what compilation takes.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or `size` is not from 16 to 4096.

    Notes
    -----
    On the threads that `lowprec.set_num_threads` gives, and on those of NumPy's BLAS. With "fp32" among the formats the
    faster of the two products counts. Other programs on the machine show.

    Examples
    --------
    >>> import lowprec as lp
    >>> here = lp.cost.this_machine(["bf16"], size=64)
    >>> here.peaks["float32"].kind, here.bandwidth.unit
    ('measured', 'byte/s')
    """
    from lowprec.matmul import matmul

    if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)):
        msg = f"`size` must be an integer, got {size!r} of type {type(size).__name__}."
        raise TypeError(msg)
    if not 16 <= size <= 4096:
        msg = f"`size` must be from 16 to 4096, got {size}."
        raise ValueError(msg)
    if not isinstance(formats, Iterable):
        msg = f"`formats` must be a list of formats, got {formats!r} of type {type(formats).__name__}."
        raise TypeError(msg)
    names = [formats] if isinstance(formats, str) else list(formats)
    elements = [element_of(name, "formats") for name in names]
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, size, size), dtype=np.float32)
    ops = 2 * size**3
    peaks = {"float32": Figure(ops / _best(lambda: np.matmul(a, b)), "op/s", "measured", _how("np.matmul", size))}
    for element in elements:
        x, y = _operands(element, a, b)
        dtype = None if x.dtype.kind in "iu" else element
        rate = ops / _best(lambda x=x, y=y, dtype=dtype: matmul(x, y, dtype=dtype))  # type: ignore[misc]
        if rate > peaks.get(element.name, 0.0):
            peaks[element.name] = Figure(rate, "op/s", "measured", _how("lowprec.matmul", size))
    source = np.ones(1 << 23)
    target = np.empty_like(source)
    rate = 2 * source.nbytes / _best(lambda: np.copyto(target, source))
    bandwidth = Figure(rate, "byte/s", "measured", "np.copyto of 64 MB, bytes read and written")
    return Machine("this machine", "This machine, measured", peaks, {}, bandwidth)


def _operands(element: ElementFormat, a: Any, b: Any) -> tuple[Any, Any]:
    """Return operands: integers as integers, since that is what integer products take."""
    from lowprec.formats import IntFormat

    if not isinstance(element, IntFormat):
        return a, b
    kind = np.int8 if element.min < 0 else np.uint8
    if element.bits > 8:
        return a, b
    low, high = max(int(element.min), -127), int(element.max)
    x, y = (np.clip(np.rint(40 * each), low, high).astype(kind) for each in (a, b))
    return x, y


def _how(what: str, size: int) -> str:
    """Say how something was measured."""
    return f"{what}, {size} x {size} x {size}, the best of a few runs"


def _best(run: Callable[[], object], seconds: float = 0.15, fewest: int = 3) -> float:
    """Return the shortest time that a call takes, after one that does not count."""
    run()
    best, spent, count = float("inf"), 0.0, 0
    while count < fewest or spent < seconds:
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
        best, spent, count = min(best, took), spent + took, count + 1
    return best
