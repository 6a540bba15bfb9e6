"""Observers: the range of data that come in batches, from which a quantiser takes its scale."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._clipping import best_ranges
from lowprec._histogram import below, entropy_bins
from lowprec._observer import Counting, Observer, integer, number, usable
from lowprec.codebooks import ElementFormat, element_of

_TOGETHER = 256  # groups whose histograms are held at a time


class MinMax(Observer):
    """The least and the largest number seen: the range for affine quantisation.

    Parameters
    ----------
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If `axis` is not an integer.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.MinMax().update([1, 5]).update([2, -1]).range
    (-1.0, 5.0)
    """

    _lo: Array
    _hi: Array

    def _see(self, x: Array) -> None:
        lo, hi = (end.astype(np.float64) for end in (x.min(axis=1), x.max(axis=1)))
        self._lo, self._hi = (np.minimum(self._lo, lo), np.maximum(self._hi, hi)) if self._count else (lo, hi)

    def _ends(self) -> tuple[Array, Array]:
        return self._lo.copy(), self._hi.copy()


class AbsMax(MinMax):
    """The largest magnitude a seen, as the range from -a to a.

    Parameters
    ----------
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If `axis` is not an integer.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.AbsMax(axis=0).update([[1, -2], [0, 0.5]]).range[1]
    array([2. , 0.5])
    """

    def _ends(self) -> tuple[Array, Array]:
        largest = np.maximum(np.abs(self._lo), np.abs(self._hi))
        return -largest, largest


class MovingAverage(Observer):
    """Least and largest number of a batch, averaged over batches with weights that fade.

    The first batch gives the range; each later one moves both ends by `momentum` times their distance from its own.

    Parameters
    ----------
    momentum : float
        Above 0, at most 1; 0.01 in torch and onnxruntime.
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If `momentum` is not a number or `axis` not an integer.
    ValueError
        If `momentum` is out of range.

    Notes
    -----
    In float64: ``lo = lo + momentum * (min(x) - lo)``, and the same for the upper end, as torch's
    MovingAverageMinMaxObserver has it (in float32).

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.MovingAverage(0.5).update([0, 4]).update([0, 8]).range
    (0.0, 6.0)
    """

    def __init__(self, momentum: float = 0.01, *, axis: int | None = None) -> None:
        super().__init__(axis=axis)
        self._momentum = number(momentum, "momentum", 0, 1)

    @property
    def momentum(self) -> float:
        """What a new batch counts."""
        return self._momentum

    def _facts(self) -> list[str]:
        return [f"momentum={self._momentum:g}", *super()._facts()]

    _lo: Array
    _hi: Array

    def _see(self, x: Array) -> None:
        lo, hi = (end.astype(np.float64) for end in (x.min(axis=1), x.max(axis=1)))
        if self._count:
            lo, hi = self._lo + self._momentum * (lo - self._lo), self._hi + self._momentum * (hi - self._hi)
        self._lo, self._hi = lo, hi

    def _ends(self) -> tuple[Array, Array]:
        return self._lo.copy(), self._hi.copy()


class Percentile(Counting):
    """The range that holds a percentage of all numbers seen.

    Parameters
    ----------
    percentile : float
        Above 0, at most 100; 99.9, 99.99 and 99.999 are usual.
    bins : int
        Bins of the histogram of magnitudes, even.
    symmetric : bool
        True: the range from -t to t that holds `percentile` of the numbers. False: half of the rest is cut off at
        either end.
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `percentile` or `bins` is out of range.

    Notes
    -----
    t is the upper edge of the first bin up to which at least `percentile` of the numbers lie, so it is at most one
    bin's width above the true one, and never beyond the largest number seen. The histogram's range grows by doubling,
    which adds neighbouring bins in pairs: a batch larger than all before it leaves counts exact and at least
    ``bins / 2`` bins in use. The range therefore depends, within a bin, on which batch was first.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> observer = lp.Percentile(95, bins=128)
    >>> observer.update(np.arange(65)).update([1000]).range  # from 0 to 1024 by now, in bins of 8
    (-64.0, 64.0)
    """

    def __init__(
        self, percentile: float = 99.99, *, bins: int = 2048, symmetric: bool = True, axis: int | None = None
    ) -> None:
        super().__init__(bins, symmetric=symmetric, axis=axis)
        self._percentile = number(percentile, "percentile", 0, 100)

    @property
    def percentile(self) -> float:
        """What percentage the range holds."""
        return self._percentile

    def _facts(self) -> list[str]:
        return [f"{self._percentile:g}", *super()._facts()]

    def _ends(self) -> tuple[Array, Array]:
        seen, bins, share = self._histogram, self._bins, self._percentile / 100
        if self._symmetric:
            return self._clip(np.array([below(each, share) for each in seen.magnitudes()]) / bins * seen.top)
        counts = seen.centres()[1]
        high = np.array([below(each, (1 + share) / 2) for each in counts])
        low = 2 * bins - np.array([below(each[::-1], (1 + share) / 2) for each in counts])
        low, high = ((edge - bins) / bins * seen.top for edge in (low, high))
        return np.maximum(low, seen.low), np.minimum(high, seen.high)


class MSE(Counting):
    """The range that quantises what was seen with the least squared error.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat or CodebookFormat
        The format that will be quantised to.
    bins : int
        Bins of the histogram of magnitudes, even.
    symmetric : bool
        Whether the quantisation will have no zero point.
    divisor : float, optional
        What the range will be divided by for the scale; the format's largest value if not given.
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `bins` or `divisor` is out of range, or the format is unknown or cannot be used symmetrically.

    Notes
    -----
    Every number of a bin is taken to lie in its middle. The ranges tried are those of the data times 0.01, 0.02, ...,
    1 for integer formats and up to 2 for others; without symmetry both ends shrink together first, then each alone as
    long as that makes the error less. All are tried, and of equal errors the range nearest to the data's own is taken.
    (Published grids of 0.25 to 4 in steps of 0.1 waste three quarters on ranges beyond the data, and cannot reach the
    best range of 2 bits or of data with far outliers.) An outlier of a hundred times the rest needs `Percentile`.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.random.default_rng(0).standard_normal(100_000)
    >>> [round(lp.MSE(fmt).update(x).range[1], 2) for fmt in ("int2", "int4", "int8")]
    [1.23, 2.46, 3.88]
    """

    def __init__(
        self,
        fmt: Any,
        *,
        bins: int = 2048,
        symmetric: bool = True,
        divisor: float | None = None,
        axis: int | None = None,
    ) -> None:
        super().__init__(bins, symmetric=symmetric, axis=axis)
        self._format = element_of(fmt, "fmt")
        usable(self._format, symmetric=self._symmetric)
        self._divisor = float(self._format.max) if divisor is None else number(divisor, "divisor", 0, np.inf)

    @property
    def format(self) -> ElementFormat:
        """The format whose error is least."""
        return self._format

    @property
    def divisor(self) -> float:
        """What the range is divided by."""
        return self._divisor

    def _facts(self) -> list[str]:
        return [repr(self._format.name), *super()._facts()]

    def _ends(self) -> tuple[Array, Array]:
        centres, counts = self._histogram.centres()
        how: dict[str, Any] = {"symmetric": self._symmetric, "divisor": self._divisor}
        return best_ranges(centres, self._format, **how, weights=counts)


class Entropy(Counting):
    """The range whose quantised histogram loses the least information, as TensorRT calibrates.

    Parameters
    ----------
    bins : int
        Bins of the histogram of magnitudes, even.
    levels : int
        Levels that magnitudes will have: 128 for int8.
    symmetric : bool
        True: from -t to t. False: the same, no further than the least and the largest number seen.
    axis : int, optional
        Keep a range for each index along this axis.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `bins` or `levels` is out of range, or there are more levels than bins.

    Notes
    -----
    S. Migacz, "8-bit inference with TensorRT" (2017). For i from `levels` to `bins`: P is the first i bins with the
    rest added to the last of them; Q is the first i bins without the rest, merged into `levels` runs of equal length
    (bin j into run ``j * levels // i``), each run's count spread evenly over those of its bins that hold something.
    Both are normalised; t is the upper edge of the i bins with the least divergence ``sum(P * log(P / Q))``, the
    largest of equals, and no larger than the largest magnitude seen. Where P has something in a bin in which Q has
    nothing, i is passed over. The histogram grows as `Percentile` describes.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.random.default_rng(0).standard_normal(100_000)
    >>> lo, hi = lp.Entropy().update(x).update([40]).range
    >>> 3 < hi < 5
    True
    """

    def __init__(self, *, bins: int = 2048, levels: int = 128, symmetric: bool = True, axis: int | None = None) -> None:
        super().__init__(bins, symmetric=symmetric, axis=axis)
        self._levels = integer(levels, "levels")
        if not 1 < self._levels <= self._bins:
            msg = f"`levels` must be from 2 to the number of bins, {self._bins}, got {levels}."
            raise ValueError(msg)

    @property
    def levels(self) -> int:
        """Number of levels of magnitudes."""
        return self._levels

    def _facts(self) -> list[str]:
        return [*super()._facts()[:1], f"levels={self._levels}", *super()._facts()[1:]]

    def _ends(self) -> tuple[Array, Array]:
        kept = [entropy_bins(each, self._levels) for each in self._histogram.magnitudes()]
        return self._clip(np.array(kept) / self._bins * self._histogram.top)


# What a word given for `calibration` makes, from the element format, whether there is no zero point, and the divisor.
_MAKERS: dict[str, Callable[[ElementFormat, bool, float, int | None], Observer]] = {
    "absmax": lambda fmt, symmetric, divisor, axis: AbsMax(axis=axis) if symmetric else MinMax(axis=axis),
    "minmax": lambda fmt, symmetric, divisor, axis: MinMax(axis=axis),
    "moving_average": lambda fmt, symmetric, divisor, axis: MovingAverage(axis=axis),
    "percentile": lambda fmt, symmetric, divisor, axis: Percentile(symmetric=symmetric, axis=axis),
    "mse": lambda fmt, symmetric, divisor, axis: MSE(fmt, symmetric=symmetric, divisor=divisor, axis=axis),
    "entropy": lambda fmt, symmetric, divisor, axis: Entropy(symmetric=symmetric, axis=axis),
}


def make(name: str, fmt: ElementFormat, *, symmetric: bool = True, divisor: float, axis: int | None = None) -> Observer:
    """Return the observer that a word stands for, with its default parameters."""
    if not isinstance(name, str):
        msg = f"`calibration` must be an observer or one of {', '.join(_MAKERS)}, got {name!r}."
        raise TypeError(msg)
    if name not in _MAKERS:
        close = difflib.get_close_matches(name, _MAKERS, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`calibration` must be an observer or one of {', '.join(_MAKERS)}, got {name!r}{hint}"
        raise ValueError(msg)
    return _MAKERS[name](fmt, symmetric, divisor, axis)


def ranges(
    kind: str, groups: Array, valid: Array | None = None, *, fmt: ElementFormat, symmetric: bool, divisor: float
) -> tuple[Array, Array]:
    """Return the range of each group of numbers that an observer of a kind would find.

    Parameters
    ----------
    kind : str
        The word for an observer.
    groups : ndarray of float32 or float64
        Finite numbers, shape (groups, elements).
    valid : ndarray of bool, optional
        Of the shape of `groups`; False where there is no number. Each group has one.
    fmt : format
        Of the elements.
    symmetric : bool
        Whether zero points are 0.
    divisor : float
        What the range is divided by, in symmetric use.

    Returns
    -------
    lo, hi : ndarray
        Shape (groups,), of the dtype of `groups`.

    Raises
    ------
    TypeError, ValueError
        If `kind` is not a word for an observer.

    Notes
    -----
    ``"mse"`` takes the numbers themselves, not a histogram.
    """
    make(kind, fmt, symmetric=symmetric, divisor=divisor)
    if kind == "mse":
        return best_ranges(groups, fmt, symmetric=symmetric, divisor=divisor, weights=valid)
    if kind in ("absmax", "minmax", "moving_average"):
        kept: dict[str, Any] = {} if valid is None else {"where": valid}
        lo = groups.min(axis=1, initial=np.inf, **kept)
        hi = groups.max(axis=1, initial=-np.inf, **kept)
        if kind == "absmax" and symmetric:
            hi = np.maximum(np.abs(lo), np.abs(hi))
            lo = -hi
        return lo, hi
    lo, hi = np.empty((2, len(groups)), groups.dtype)
    together = _TOGETHER if valid is None else 1
    for begin in range(0, len(groups), together):
        part = slice(begin, begin + together)
        some = groups[part] if valid is None else groups[part][valid[part]].reshape(1, -1)
        observer = make(kind, fmt, symmetric=symmetric, divisor=divisor, axis=0)
        lo[part], hi[part] = observer.update(some).range
    return lo, hi
