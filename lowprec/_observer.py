"""What all observers of `lowprec.calibration` share, and the checks of their arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec._checks import Array
from lowprec._histogram import Histogram
from lowprec.codebooks import ElementFormat
from lowprec.formats import IntFormat

Range: TypeAlias = tuple[float, float] | tuple[Array, Array]

_LARGEST = 2.0**1022


def finite(x: Any, name: str) -> Array:
    """Return real numbers as float32 or float64, or say where one is not finite."""
    values = np.asarray(_checks.source(x, name).values)
    if values.size and not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        place = f" at index {where if len(where) > 1 else where[0]}" if where else ""
        msg = f"`{name}` must be finite, got {values[where]}{place}; replace it first, for example by np.nan_to_num."
        raise ValueError(msg)
    return values


def integer(value: Any, name: str) -> int:
    """Check an integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    return int(value)


def number(value: Any, name: str, above: float, most: float) -> float:
    """Check a number in a range open below."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"`{name}` must be a number, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not above < value <= most or value == np.inf:
        upto = f" and at most {most:g}" if most < np.inf else " and finite"
        msg = f"`{name}` must be above {above:g}{upto}, got {value}."
        raise ValueError(msg)
    return float(value)


def usable(fmt: ElementFormat, *, symmetric: bool) -> None:
    """Refuse formats that cannot be used that way."""
    if isinstance(fmt, IntFormat) and symmetric and fmt.min == 0:
        msg = f"`symmetric` must be False for `{fmt}`, which has no negative values, got True."
        raise ValueError(msg)
    if not isinstance(fmt, IntFormat) and not symmetric:
        msg = f"`symmetric` must be True for `{fmt}`: only integers have a zero point, got False."
        raise ValueError(msg)


class Observer(ABC):
    """What all observers share: batches go in by `update`, a range comes out by `range`.

    An observer's parameters are set when it is made. What it has seen is all that changes.
    """

    def __init__(self, *, axis: int | None = None) -> None:
        self._axis = None if axis is None else integer(axis, "axis")
        self._count = 0
        self._channels = 1

    @property
    def axis(self) -> int | None:
        """The axis that keeps a range for each index; None for one range of everything."""
        return self._axis

    @property
    def count(self) -> int:
        """How many numbers it has seen."""
        return self._count

    def update(self, x: ArrayLike) -> Self:
        """See a batch.

        Parameters
        ----------
        x : array_like of real numbers
            Any shape; with `axis`, of as many indices along it as the first batch. An empty one changes nothing.

        Returns
        -------
        Observer
            The observer itself.

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If a number is not finite, or `x` does not fit the batches before; nothing of `x` is counted then.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.AbsMax().update([1, -2]).update([0.5]).range
        (-2.0, 2.0)
        """
        values = finite(x, "x")
        if values.size and float(np.abs(values).max()) >= _LARGEST:
            msg = f"`x` must be less than 2**1022 in magnitude, got {float(np.abs(values).max())}; scale it down."
            raise ValueError(msg)
        channels = 1
        if self._axis is None:
            values = values.reshape(1, -1)
        else:
            if not -values.ndim <= self._axis < values.ndim:
                msg = f"`x` must have the axis {self._axis} that the observer keeps, got shape {values.shape}."
                raise ValueError(msg)
            values = np.moveaxis(values, self._axis, 0)
            channels = values.shape[0]
            if self._count and channels != self._channels:
                msg = f"`x` must have length {self._channels} along axis {self._axis} as before, got {channels}."
                raise ValueError(msg)
            values = values.reshape(channels, -1) if values.size else values.reshape(channels, 0)
        if values.size:
            self._channels = channels
            self._see(values)
            self._count += values.size
        return self

    @property
    def range(self) -> Range:
        """The range found so far: two floats, or with `axis` two float64 arrays.

        Raises
        ------
        ValueError
            If no number has been seen.
        """
        if not self._count:
            msg = f"`{type(self).__name__}` must see data before it has a range, got none; call update(x) first."
            raise ValueError(msg)
        lo, hi = self._ends()
        return (float(lo[0]), float(hi[0])) if self._axis is None else (lo, hi)

    def __repr__(self) -> str:
        """Return the parameters and what was seen."""
        return f"{type(self).__name__}({', '.join([*self._facts(), f'count={self._count}'])})"

    def _facts(self) -> list[str]:
        """Return the parameters, as `repr` shows them."""
        return [] if self._axis is None else [f"axis={self._axis}"]

    @abstractmethod
    def _see(self, x: Array) -> None:
        """Take in finite numbers, shape (channels, any), at least one."""

    @abstractmethod
    def _ends(self) -> tuple[Array, Array]:
        """Return the ends of the ranges, float64 of shape (channels,)."""


class Counting(Observer):
    """An observer that keeps a histogram."""

    def __init__(self, bins: int, *, symmetric: bool, axis: int | None) -> None:
        super().__init__(axis=axis)
        self._bins = integer(bins, "bins")
        if self._bins < 2 or self._bins % 2:
            msg = f"`bins` must be even and 2 or more, got {bins}."
            raise ValueError(msg)
        if not isinstance(symmetric, (bool, np.bool_)):
            msg = f"`symmetric` must be True or False, got {symmetric!r}."
            raise TypeError(msg)
        self._symmetric = bool(symmetric)

    @property
    def bins(self) -> int:
        """Number of bins of magnitudes."""
        return self._bins

    @property
    def symmetric(self) -> bool:
        """Whether the range is as long below 0 as above."""
        return self._symmetric

    def _facts(self) -> list[str]:
        return [f"bins={self._bins}", *([] if self._symmetric else ["symmetric=False"]), *super()._facts()]

    def _see(self, x: Array) -> None:
        if not self._count:
            self._histogram = Histogram(self._channels, self._bins)
        self._histogram.add(x)

    def _clip(self, largest: Array) -> tuple[Array, Array]:
        """Return ranges up to a magnitude, no longer than what was seen."""
        seen = self._histogram
        if not self._symmetric:
            return np.maximum(-largest, seen.low), np.minimum(largest, seen.high)
        largest = np.minimum(largest, np.maximum(np.abs(seen.low), np.abs(seen.high)))
        return -largest, largest
