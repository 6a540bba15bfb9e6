"""How long a product takes at least on a machine: the time of its arithmetic or of its bytes, whichever is longer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec.cost._figure import Figure, Kind
from lowprec.cost._machines import Machine, machine
from lowprec.cost._operands import MatmulTraffic, matmul_traffic
from lowprec.cost._printed import Printed
from lowprec.cost._tables import unknown

_DEFAULT = "h100"


@dataclass(frozen=True, eq=False, repr=False)
class Roofline(Printed):
    """Where a product stands under the roof of a machine.

    Parameters
    ----------
    traffic : MatmulTraffic
        Its operations and bytes.
    machine : str
        Name of the machine, or "given".
    peak : Figure
        Operations a second that bound it.
    bandwidth : Figure
        Bytes a second that bound it.

    Raises
    ------
    Nothing.
    """

    traffic: MatmulTraffic
    machine: str
    peak: Figure
    bandwidth: Figure

    @property
    def _kind(self) -> Kind:
        return "measured" if "measured" in (self.peak.kind, self.bandwidth.kind) else "closed form"

    @property
    def name(self) -> str:
        """What is multiplied, in words."""
        return f"{' x '.join(map(str, self.traffic.sizes))} {self.traffic.name}"

    @property
    def _level(self) -> str:
        """What the peak is that of."""
        pattern = self.traffic.b.sparsity
        return self.traffic.compute.name if pattern is None else f"{self.traffic.compute.name} {pattern}"

    @property
    def bytes(self) -> int:
        """Bytes read and written, each matrix once."""
        return self.traffic.bytes

    @property
    def intensity(self) -> Figure:
        """Operations for each byte."""
        return self.traffic.intensity

    @property
    def ridge(self) -> Figure:
        """Operations for each byte from which on arithmetic is the bound."""
        return Figure(self.peak / self.bandwidth, "op/byte", self._kind, f"peak over bandwidth, {self.machine}")

    @property
    def compute_seconds(self) -> Figure:
        """Time of the arithmetic alone."""
        return Figure(self.traffic.ops / self.peak, "s", self._kind, f"2 M K N over the peak, {self.machine}")

    @property
    def memory_seconds(self) -> Figure:
        """Time of the bytes alone."""
        return Figure(self.bytes / self.bandwidth, "s", self._kind, f"bytes over bandwidth, {self.machine}")

    @property
    def seconds(self) -> Figure:
        """The least time, max(2 M K N / peak, bytes / bandwidth): real kernels take longer."""
        value = max(self.compute_seconds, self.memory_seconds)
        return Figure(value, "s", self._kind, f"max(2 M K N / peak, bytes / bandwidth), {self.machine}")

    @property
    def bound(self) -> str:
        """What takes longer: "memory" or "compute"; "compute" if both take as long."""
        return "memory" if self.memory_seconds > self.compute_seconds else "compute"

    @property
    def attained(self) -> Figure:
        """Operations a second at best."""
        return Figure(self.traffic.ops / self.seconds, "op/s", self._kind, f"2 M K N over the time, {self.machine}")

    def _view(self) -> tables.Table:
        rows = [
            ["operations", f"{self.traffic.ops:.4g}", "op"],
            ["bytes", f"{self.bytes:.4g}", "byte"],
            ["intensity", f"{self.intensity:.4g}", "op/byte"],
            ["ridge", f"{self.ridge:.4g}", "op/byte"],
            ["compute time", f"{self.compute_seconds * 1e6:.4g}", "us"],
            ["memory time", f"{self.memory_seconds * 1e6:.4g}", "us"],
            ["least time", f"{self.seconds * 1e6:.4g}", "us"],
            ["attained", f"{self.attained / 1e12:.4g}", "Top/s"],
        ]
        notes = [
            f"Bound by {self.bound}. Each matrix is read or written once; real kernels take longer.",
            *dict.fromkeys(figure.source for figure in (self.peak, self.bandwidth)),
        ]
        return tables.Table(["<what", "", "<unit"], rows, f"{self.name} on {self.machine}", notes)

    def __repr__(self) -> str:
        """Return one line."""
        return f"<Roofline of {self.name} on {self.machine}: {self.seconds * 1e6:.4g} us, {self.bound}-bound>"

    def plot(self, path: str | PathLike[str], *others: Roofline, labels: Any = None) -> Path:
        """Draw the roof with this product, and with others, as points.

        Parameters
        ----------
        path : path
            File to write; its suffix names the kind (``.png``, ``.pdf``, ``.svg``).
        *others : Roofline
            More products, of other formats, sizes or machines: each peak and bandwidth has a roof of its own.
        labels : sequence of str, optional
            One for each product, this one first; their names if not given.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        TypeError
            If one of the others is no Roofline.
        ValueError
            If there are more or fewer labels than products, or matplotlib does not know the suffix.
        OSError
            If the file cannot be written.
        """
        from lowprec.cost import _roofline_plot

        for each in others:
            if not isinstance(each, Roofline):
                msg = f"`others` must be results of lp.cost.roofline, got {each!r} of type {type(each).__name__}."
                raise TypeError(msg)
        all_of_them = (self, *others)
        words = [each.name for each in all_of_them] if labels is None else [str(word) for word in labels]
        if len(words) != len(all_of_them):
            msg = f"`labels` must be one for each product, {len(all_of_them)}, got {len(words)}."
            raise ValueError(msg)
        points = [
            _roofline_plot.Mark(word, each.machine, each._level, each.peak, each.bandwidth, each.intensity)
            for word, each in zip(words, all_of_them, strict=True)
        ]
        return _roofline_plot.save(points, Path(path))


def roofline(
    M: int,
    K: int,
    N: int,
    dtype: Any,
    machine: Any = None,
    *,
    peak: float | None = None,
    bandwidth: float | None = None,
    weights: Any = None,
    sparsity: Any = None,
    out_dtype: Any = None,
) -> Roofline:
    """Return the least time that a product of matrices takes on a machine, and what bounds it.

    Parameters
    ----------
    M, K, N : int
        Sizes: A is (M, K), B, the weights, is (K, N).
    dtype : str, FloatFormat, IntFormat, BlockFormat or dtype, or a pair of them
        Format of A and B, or one for each; that of A is the one that is multiplied in.
    machine : str or Machine, optional
        One of `machines`, or a `Machine` such as that of `this_machine`; "h100" unless `peak` is given.
    peak, bandwidth : float, optional
        Operations and bytes a second, both, in place of a machine. With `sparsity`, `peak` is that of sparse products,
        counting what is not kept.
    weights : str, format or Traffic, optional
        How B is stored, if otherwise than it is multiplied: ``"int4"`` with ``dtype="bf16"`` is a product of weights
        that are decoded on the way.
    sparsity : {"2:4", "1:2", "4:8"} or SparsityPattern, optional
        What is kept of B along K: fewer bytes, and the machine's peak with sparsity.
    out_dtype : str, FloatFormat, IntFormat, BlockFormat or dtype, optional
        Format of C. By default that of A if it is a float of 16 bits or more, else "bf16".

    Returns
    -------
    Roofline
        ``.seconds``, ``.bound``, ``.intensity``, ``.ridge``, ``.bytes``, ``.attained``, ``.plot(path)``; prints as a
        table.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a size is less than 1, a name is unknown, the machine has no peak for the format or no sparsity, a machine
        and a peak are both given, or only one of `peak` and `bandwidth`.

    Notes
    -----
    ``max(2 M K N / peak, bytes / bandwidth)``: each matrix crosses the memory once, arithmetic and transfers overlap
    wholly, and both run at the numbers of the data sheet. No kernel is faster; how much slower one is, this does not
    say.

    References
    ----------
    S. Williams, A. Waterman and D. Patterson, Roofline: An Insightful Visual Performance Model for Multicore
    Architectures, Communications of the ACM 52(4), 2009.

    Examples
    --------
    >>> import lowprec as lp
    >>> for name, options in {"bf16": {}, "int4": {"dtype": "bf16", "weights": "int4"}}.items():
    ...     r = lp.cost.roofline(1, 4096, 4096, **({"dtype": name} | options), machine="h100")
    ...     print(f"{name} weights: {r.bytes / 1e6:.1f} MB, {r.seconds * 1e6:.1f} us, bound by {r.bound}")
    bf16 weights: 33.6 MB, 10.0 us, bound by memory
    int4 weights: 8.4 MB, 2.5 us, bound by memory
    """
    bits = matmul_traffic(M, K, N, dtype, weights=weights, sparsity=sparsity, out_dtype=out_dtype)
    if peak is None and bandwidth is None:
        here = _machine(_DEFAULT if machine is None else machine)
        return Roofline(bits, here.name, here._peak(bits.compute, bits.b.sparsity), here.bandwidth)
    for name, value in (("peak", peak), ("bandwidth", bandwidth)):
        if machine is not None and value is not None:
            msg = f"`{name}` must not be given with a machine, got {value!r} beside {machine!r}."
            raise ValueError(msg)
        if value is None:
            msg = "`peak` and `bandwidth` must be given together, or a machine in their place; one of them is None."
            raise ValueError(msg)
    given = _rate(peak, "peak", "op/s"), _rate(bandwidth, "bandwidth", "byte/s")
    return Roofline(bits, "a machine as given", *given)


def _machine(value: Any) -> Machine:
    """Return a machine."""
    if isinstance(value, Machine):
        return value
    if not isinstance(value, str):
        return unknown(value, (), "machine", "lp.cost.machines()", "machine")
    return machine(value)


def _rate(value: Any, name: str, unit: str) -> Figure:
    """Check a rate; a figure stays what it is."""
    if isinstance(value, Figure) and 0 < value < math.inf:
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"`{name}` must be a number, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not value > 0 or math.isinf(value):
        msg = f"`{name}` must be above 0 and finite, got {value}."
        raise ValueError(msg)
    return Figure(float(value), unit, "published", "as given")
