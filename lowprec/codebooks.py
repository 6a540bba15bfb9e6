"""Formats that are a table of values: NF4, FP4 of bitsandbytes, IQ4_NL, and what `learn_codebook` finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lowprec import _checks, _threads
from lowprec._checks import Array
from lowprec.formats import Format

_MOST = 256
_SMALL = 1 << 14  # numbers below which a search needs no kernel
_SHORT = 63  # midpoints above which a search by halves is faster
_PIECE = 1 << 18


@dataclass(frozen=True)
class CodebookFormat:
    """An element format whose codes are indices of a table of values.

    Parameters
    ----------
    name : str
        How the format is called.
    values : iterable of float
        The value of each code, code 0 first: 2 to 256 finite numbers in any order.
    source : str
        Where the table comes from; not compared.

    Raises
    ------
    TypeError
        If `values` are not real numbers.
    ValueError
        If there are too few or too many values, or one is not finite.

    Notes
    -----
    A number is encoded as the code of the nearest value; of two at the same distance the smaller value is taken, of
    two equal values the smaller code.

    Examples
    --------
    >>> import lowprec as lp
    >>> thirds = lp.CodebookFormat("thirds", [-1, -1 / 3, 1 / 3, 1])
    >>> thirds.bits, lp.encode([0.9, 0.0, -7.0], thirds).tolist()
    (2, [3, 1, 0])
    """

    name: str
    values: tuple[float, ...]
    source: str = field(kw_only=True, default="custom", compare=False, repr=False)

    exponent_bits = 0
    is_signed = True
    has_inf = False
    has_nan = False
    has_zero = True
    nan_code = None
    inf_code = None
    default_overflow = "saturate"
    storage_dtype = None

    def __post_init__(self) -> None:
        """Check the table."""
        if not isinstance(self.name, str):
            msg = f"`name` must be a string, got {self.name!r} of type {type(self.name).__name__}."
            raise TypeError(msg)
        values: Iterable[Any] = self.values
        table = np.asarray(list(values) if not isinstance(values, np.ndarray) else values)
        if table.dtype.kind not in "fiu" or table.ndim != 1:
            msg = f"`values` must be a sequence of real numbers, got {self.values!r}."
            raise TypeError(msg)
        if not 2 <= table.size <= _MOST:
            msg = f"`values` must have 2 to {_MOST} numbers, one for each code, got {table.size}."
            raise ValueError(msg)
        if not np.isfinite(table).all():
            msg = f"`values` must be finite, got {table[~np.isfinite(table)][0]}."
            raise ValueError(msg)
        object.__setattr__(self, "values", tuple(float(value) for value in table))

    @property
    def bits(self) -> int:
        """Width of a code."""
        return (len(self.values) - 1).bit_length()

    @cached_property
    def max(self) -> float:
        """Largest value."""
        return max(self.values)

    @cached_property
    def min(self) -> float:
        """Least value."""
        return min(self.values)

    @property
    def num_values(self) -> int:
        """How many different values the table holds."""
        return len(set(self.values))

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """Unsigned dtype of an array of codes."""
        return np.dtype(np.uint8)

    @cached_property
    def table(self) -> Array:
        """The values as a read-only float64 array, by code."""
        table = np.array(self.values)
        table.flags.writeable = False
        return table

    @cached_property
    def _search(self) -> tuple[Array, Array]:
        """Codes in the order of their values, and the midpoints between neighbours."""
        order = np.argsort(self.table, kind="stable")
        distinct = np.concatenate([[True], np.diff(self.table[order]) > 0])
        order = order[distinct].astype(np.uint8)
        ascending = self.table[order]
        return order, (ascending[:-1] + ascending[1:]) / 2

    def encode(self, x: Any) -> Array:
        """Return the codes of the values nearest to numbers.

        Parameters
        ----------
        x : array_like of float
            Numbers; beyond the ends of the table they get the end's code.

        Returns
        -------
        ndarray of uint8
            Codes.

        Raises
        ------
        ValueError
            If a number is NaN.

        Notes
        -----
        The midpoint of two neighbours is taken in float64; it is exact for tables of float32 values of like size.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.CodebookFormat("signs", [-1, 1]).encode([0.0, 0.1])
        array([0, 1], dtype=uint8)
        """
        numbers = np.asarray(_checks.source(x, "x").values, np.float64).reshape(np.shape(x))
        if np.isnan(numbers).any():
            msg = f"`x` must hold no NaN for `{self}`, which has none; replace it first, for example by np.nan_to_num."
            raise ValueError(msg)
        return _codes(numbers, *self._search)

    def encode_single(self, x: Array) -> Array:
        """Return the codes of float32 numbers, none NaN, by midpoints rounded to float32.

        Between two codes of one value the midpoint decides too: at it the smaller code, above it the larger.
        """
        values = self.table.astype(np.float32)
        order = np.argsort(values, kind="stable").astype(np.uint8)
        return _codes(x, order, (values[order][:-1] + values[order][1:]) / np.float32(2))

    def decode(self, codes: Any, dtype: Any = np.float32) -> Array:
        """Return the values of codes.

        Parameters
        ----------
        codes : array_like of unsigned integers
            Codes.
        dtype : dtype
            A NumPy floating dtype; values are rounded to it.

        Returns
        -------
        ndarray of `dtype`
            Values.

        Raises
        ------
        TypeError
            If `codes` are not integers.
        ValueError
            If a code is out of range.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.CodebookFormat("signs", [-1, 1]).decode([0, 1, 1])
        array([-1.,  1.,  1.], dtype=float32)
        """
        array = _checks.plain_array(codes, "codes")
        if array.dtype.kind not in "iu":
            msg = f"`codes` must be unsigned integers, got dtype {array.dtype}."
            raise TypeError(msg)
        if array.size and (int(array.min()) < 0 or int(array.max()) >= len(self.values)):
            wrong = array.min() if int(array.min()) < 0 else array.max()
            msg = f"`codes` must be from 0 to {len(self.values) - 1} for `{self}`, got {wrong}."
            raise ValueError(msg)
        return np.asarray(self.table.astype(dtype)[array])

    def __str__(self) -> str:
        """Return the name."""
        return self.name


def _codes(numbers: Array, order: Array, midpoints: Array) -> Array:
    """Return ``order[number of midpoints below a number]`` for every number; both are of one dtype."""
    if numbers.size < _SMALL or midpoints.size > _SHORT:
        return np.asarray(order[np.searchsorted(midpoints, numbers, side="left")])
    from lowprec.kernels.tables import count_below  # when needed: most programs never do

    flat = np.ascontiguousarray(numbers).reshape(-1)
    codes = np.empty(flat.size, np.uint8)
    pieces = _threads.Pieces(-(-flat.size // _PIECE))

    def task() -> None:
        for piece in pieces:
            part = slice(piece * _PIECE, (piece + 1) * _PIECE)
            count_below(flat[part], midpoints, order, codes[part])

    _threads.share(task, min(_threads.get_num_threads(), -(-flat.size // _PIECE)))
    return codes.reshape(numbers.shape)


ElementFormat = Format | CodebookFormat


def element_of(value: Any, name: str) -> ElementFormat:
    """Return an element format: a codebook as it is, anything else as `format` understands it."""
    return value if isinstance(value, CodebookFormat) else _checks.fmt_of(value, name)
