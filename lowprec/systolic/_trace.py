"""Trace: what every element of an array holds after every cycle, and the ways to look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lowprec import _text_tables as tables
from lowprec._checks import Array
from lowprec.accumulators.base import integer
from lowprec.systolic._machine import Registers

_ROOM = 1 << 28  # bytes of a trace
_PICTURE = 32  # rows and columns of a picture
_FRAMES = 400
_CELLS = 400_000  # of a page


class Held(NamedTuple):
    """Registers of one kind: (rows, cols) numbers, and which ones they are.

    Parameters
    ----------
    values : array
        The numbers; of no meaning where there is none.
    indices : array of int
        (rows, cols, 2), the number's row and column in its matrix; -1 where there is none, -2 where it fills a tile up.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.array([[1, 2], [3, 4]], np.int8)
    >>> held = lp.systolic.simulate(x, x, rows=2, cols=2, trace=True).trace.at(2).b
    >>> held.values.tolist(), held.indices[1, 0].tolist()
    ([[1, 2], [3, 4]], [1, 0])
    """

    values: Array
    indices: Array


class Moment(NamedTuple):
    """What the elements hold after a cycle.

    Parameters
    ----------
    cycle : int
        Which one, from 0.
    phase : str
        What for: ``"fill"``, ``"stream"`` or ``"drain"``.
    a, b, c : Held
        The elements' numbers of `a`, of `b`, and their sums, of which `indices` says what they will become.
    active : array of bool
        Which elements have done a step in this cycle.
    left : array of int
        (count, 2), the elements of the result, of tiles of K perhaps, that left in this cycle.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.array([[1, 2], [3, 4]], np.int8)
    >>> moment = lp.systolic.simulate(x, x, rows=2, cols=2, trace=True).trace.at(3)
    >>> moment.phase, moment.active.tolist(), moment.left.tolist()
    ('stream', [[True, True], [True, False]], [[0, 0]])
    """

    cycle: int
    phase: str
    a: Held
    b: Held
    c: Held
    active: Array
    left: Array


class Recorder:
    """Keeps what `simulate` shows it.

    Parameters
    ----------
    size : pair of int
        Rows and columns of the array.
    shape : tuple of int
        M, K and N.
    dataflow : str
        What stays.
    buffered : bool
        Whether tiles are loaded while others are worked on.
    """

    def __init__(self, size: tuple[int, int], shape: tuple[int, int, int], dataflow: str, buffered: bool) -> None:
        self.size, self.shape, self.dataflow, self.buffered = size, shape, dataflow, buffered
        self.parts: dict[str, list[Array]] = {}
        self.phases: list[str] = []
        self.left: list[Array] = []
        self.bytes = 0

    def __call__(self, machine: Registers, phase: str, left: Array) -> None:
        """Copy all registers."""
        kinds = {"a": machine.a, "b": machine.b, "c": machine.sums}
        arrays = {f"{name} {part}": each for name, held in kinds.items() for part, each in held._asdict().items()}
        arrays["active"] = machine.active
        self.bytes += sum(array.nbytes for array in arrays.values())
        if self.bytes > _ROOM:
            rows, cols = self.size
            msg = (
                f"`trace` must be False for {rows} x {cols} elements and so many cycles, got True: after "
                f"{len(self.phases)} cycles it takes more than {_ROOM >> 20} MiB; trace a smaller product."
            )
            raise ValueError(msg)
        for name, array in arrays.items():
            self.parts.setdefault(name, []).append(array.copy())
        self.phases.append(phase)
        self.left.append(left)

    def trace(self) -> Trace:
        """Return what was kept."""
        parts = {name: np.stack(arrays) for name, arrays in self.parts.items()}
        return Trace(self.size, self.shape, self.dataflow, self.buffered, tuple(self.phases), parts, tuple(self.left))


@dataclass(frozen=True, eq=False)
class Trace:
    """What every element of a systolic array holds after every cycle: its numbers of `a`, of `b`, and its sum.

    Double-buffered, numbers of the next tile, which come down and wait, are not shown until they are taken.

    Parameters
    ----------
    size : pair of int
        Rows and columns of the array.
    shape : tuple of int
        M, K and N.
    dataflow : str
        ``"ws"``, ``"os"`` or ``"is"``.
    buffered : bool
        Whether tiles were loaded while others were worked on.
    phases : tuple of str
        What each cycle was for.
    parts : dict of str to array
        What `at` takes apart.
    left : tuple of array
        Places of the results that left in each cycle.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.array([[1, 2], [3, 4]], np.int8)
    >>> trace = lp.systolic.simulate(x, x, rows=2, cols=2, trace=True).trace
    >>> print(trace.table(3))
    cycle 3, stream
    ...
    """

    size: tuple[int, int]
    shape: tuple[int, int, int]
    dataflow: str
    buffered: bool
    phases: tuple[str, ...]
    parts: dict[str, Array] = field(repr=False)
    left: tuple[Array, ...] = field(repr=False)

    def __len__(self) -> int:
        """Return how many cycles there are."""
        return len(self.phases)

    def at(self, cycle: int) -> Moment:
        """Return what the elements hold after a cycle.

        Parameters
        ----------
        cycle : int
            From 0; negative ones count from the end.

        Returns
        -------
        Moment
            ``.a``, ``.b``, ``.c`` with ``.values`` and ``.indices``, ``.active``, ``.phase``, ``.left``.

        Raises
        ------
        TypeError
            If `cycle` is no integer.
        ValueError
            If there is no such cycle.
        """
        number = integer(cycle, "cycle", -len(self), len(self) - 1) % len(self)
        _, k, n = self.shape

        def held(name: str, columns: int) -> Held:
            places = self.parts[f"{name} places"][number]
            return Held(self.parts[f"{name} values"][number], _split(places, columns))

        active, left = self.parts["active"][number], _split(self.left[number], n)
        return Moment(number, self.phases[number], held("a", k), held("b", n), held("c", n), active, left)

    def names(self, cycle: int) -> list[list[dict[str, str]]]:
        """Return what each element holds, by name: ``"a"``, ``"b"`` and ``"c"``, an empty string for nothing.

        Parameters
        ----------
        cycle : int
            As for `at`.

        Returns
        -------
        list of list of dict
            For each row and column ``{"a": "a01", "b": "b12", "c": "c02"}``; padding is ``"0"``.

        Raises
        ------
        TypeError
            If `cycle` is no integer.
        ValueError
            If there is no such cycle.
        """
        moment = self.at(cycle)
        rows, cols = self.size
        return [
            [
                {name: self.name(name, *getattr(moment, name).indices[r, c].tolist()) for name in "abc"}
                for c in range(cols)
            ]
            for r in range(rows)
        ]

    def name(self, letter: str, row: int, column: int) -> str:
        """Return the name of a number of a matrix.

        Parameters
        ----------
        letter : str
            The matrix.
        row, column : int
            The number's place, as in `Held`.

        Returns
        -------
        str
            Such as ``"a01"``, ``"a0,12"`` in larger products, ``"0"`` for padding, or ``""`` for none.

        Raises
        ------
        Nothing.
        """
        if row < 0:
            return "" if row == -1 else "0"
        return f"{letter}{row}{column}" if max(self.shape) <= 10 else f"{letter}{row},{column}"

    def table(self, cycle: int) -> str:
        """Return a cycle as a table of text: for each element what it multiplies, and what sum comes of it.

        Parameters
        ----------
        cycle : int
            As for `at`.

        Returns
        -------
        str
            ``a01 b12 > c02`` where an element has done a step; else what it holds.

        Raises
        ------
        TypeError
            If `cycle` is no integer.
        ValueError
            If there is no such cycle.
        """
        moment = self.at(cycle)
        rows = []
        for r, line in enumerate(self.names(cycle)):
            cells = []
            for c, held in enumerate(line):
                if moment.active[r, c]:
                    cells.append(f"{held['a']} {held['b']} > {held['c']}")
                else:
                    cells.append(" ".join(filter(None, held.values())) or ".")
            rows.append([str(r), *cells])
        left = [self.name("c", *place) for place in moment.left.tolist()]
        notes = [f"left the array: {' '.join(left)}"] if left else []
        columns = ["row", *(f"<column {c}" for c in range(self.size[1]))]
        return tables.plain(tables.Table(columns, rows, f"cycle {moment.cycle}, {moment.phase}", notes))

    def __str__(self) -> str:
        """Return the tables of all cycles."""
        return "\n\n".join(map(self.table, range(len(self))))

    def plot(self, path: str | PathLike[str], *, cycle: int) -> Path:
        """Draw a cycle: the elements with what they hold, what is about to enter, and what has left.

        Parameters
        ----------
        path : path
            File to write; its suffix names the kind (``.png``, ``.pdf``, ``.svg``).
        cycle : int
            As for `at`.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        TypeError
            If `cycle` is no integer.
        ValueError
            If there is no such cycle, the array is too large for a picture, or matplotlib does not know the suffix.
        OSError
            If the file cannot be written.
        """
        number = self.at(cycle).cycle
        self._fits(1, _FRAMES, "a picture")
        from lowprec.systolic import _pictures

        return _pictures.save(self, number, Path(path))

    def to_gif(self, path: str | PathLike[str], *, seconds: float = 0.8) -> Path:
        """Draw all cycles as an animated GIF.

        Parameters
        ----------
        path : path
            File to write, ``.gif``.
        seconds : float
            How long each cycle is shown.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ImportError
            If matplotlib is missing; ``pip install "lowprec[study]"`` installs it.
        TypeError
            If `seconds` is no number.
        ValueError
            If the array or the number of cycles is too large, the suffix is another, or `seconds` not positive.
        OSError
            If the file cannot be written.
        """
        from lowprec._observer import number

        each = number(seconds, "seconds", 0.02, 60)
        target = Path(path)
        if target.suffix.lower() != ".gif":
            msg = f"`path` must end in .gif, got {target.name!r}."
            raise ValueError(msg)
        self._fits(len(self), _FRAMES, "an animation")
        from lowprec.systolic import _pictures

        return _pictures.animate(self, target, each)

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write all cycles as one page with a slider and buttons to step; it needs no network.

        Parameters
        ----------
        path : path
            File to write.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ValueError
            If there are too many elements times cycles.
        OSError
            If the file cannot be written.
        """
        self._fits(len(self), _CELLS // (self.size[0] * self.size[1]), "a page")
        from lowprec.systolic import _page

        target = Path(path)
        target.write_text(_page.page(self), encoding="utf-8")
        return target

    def _fits(self, cycles: int, most: int, what: str) -> None:
        """See that a picture can be read."""
        if max(self.size) > _PICTURE:
            msg = f"`rows` and `cols` must be at most {_PICTURE} for {what}, got {self.size[0]} and {self.size[1]}."
            raise ValueError(msg)
        if cycles > most:
            msg = f"the trace must have at most {most} cycles for {what}, got {cycles}; trace a smaller product."
            raise ValueError(msg)


def _split(places: Array, columns: int) -> Any:
    """Return places as rows and columns of a matrix; what is no place stays what it is."""
    index = np.stack(np.divmod(places, columns), axis=-1)
    index[places < 0] = places[places < 0][:, np.newaxis]
    return index
