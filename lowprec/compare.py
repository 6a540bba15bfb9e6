"""compare_accumulators: where two sums of the same products differ, by how much, and on how small an input."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks, _inputs, _shrink, hardware
from lowprec._checks import Array
from lowprec._comparison import Comparison, Differences, Pair, SmallestInput
from lowprec.accumulators import Accumulator
from lowprec.accumulators import model as as_model
from lowprec.codec import round_to
from lowprec.formats import FloatFormat, Format, IntFormat, stored_format
from lowprec.matmul import matmul, vecdot

__all__ = ["Comparison", "Pair", "SmallestInput", "compare_accumulators"]

_STARTS = 4  # differing results that a small input is looked for from
_ROWS = 48  # of each kind, where no operands are given


@dataclass(frozen=True)
class _Task:
    """How sums are made, all but the accumulator."""

    dtype: Any
    formats: tuple[Format | None, Format | None]
    dtypes: tuple[np.dtype[Any], np.dtype[Any]]
    c_dtype: np.dtype[Any] | None
    how: dict[str, Any]

    def sums(self, a: Array, b: Array, c: Array, accumulator: Any) -> Array:
        """Return the sums along rows, each as if it were alone."""
        start = None if self.c_dtype is None else c.astype(self.c_dtype)
        rows = a.astype(self.dtypes[0]), b.astype(self.dtypes[1])
        if self.how.get("rng") is None:
            return np.asarray(vecdot(*rows, self.dtype, accumulator=accumulator, c=start, **self.how))
        starts = [None] * len(a) if start is None else start
        alone = zip(*rows, starts, strict=True)
        return np.array([vecdot(x, y, self.dtype, accumulator=accumulator, c=z, **self.how) for x, y, z in alone])

    def fits(self, a: Array, b: Array, c: Array) -> Array:
        """Say which rows the formats hold."""
        good = np.ones(len(a), bool)
        for x, fmt, dtype in zip((a, b), self.formats, self.dtypes, strict=True):
            good &= _holds(x, fmt, dtype).all(axis=1)
        return np.asarray(good & (_holds(c, None, self.c_dtype) if self.c_dtype is not None else c == 0))


def _holds(x: Array, fmt: Format | None, dtype: np.dtype[Any]) -> Array:
    """Say which numbers a format and the array that carries them hold."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.asarray((x == np.trunc(x)) & (x >= info.min) & (x <= info.max))
    with np.errstate(all="ignore"):
        carried = x.astype(dtype).astype(np.float64)
        held = carried if fmt is None else np.asarray(round_to(carried, fmt))
    return np.asarray((held == x) | (np.isnan(held) & np.isnan(x)))


def compare_accumulators(
    a: ArrayLike | None = None,
    b: ArrayLike | None = None,
    dtype: Any = None,
    accumulators: Sequence[Any] = (),
    *,
    c: ArrayLike | None = None,
    out_dtype: Any = None,
    rounding: str = "nearest_even",
    rng: Any = None,
    k: int = 64,
    seed: int = 0,
) -> Comparison:
    """Say where accumulators differ on the same operands, by how much, and on how small an input.

    Parameters
    ----------
    a, b : array_like, optional
        Operands of `matmul`. Without them, rows that are built to tell sums apart: ordinary numbers, cancellation,
        exponents from all over the range, c near the negative sum, terms around the bits where designs cut, ties,
        subnormal and special numbers.
    dtype : str, FloatFormat, dtype, or a pair of them, optional
        As in `matmul`; must be given without `a` and `b`.
    accumulators : sequence
        Two or more of what `matmul` takes as `accumulator`.
    c, out_dtype, rounding, rng
        As in `matmul`.
    k : int
        Products of a built row.
    seed : int
        Of the built rows.

    Returns
    -------
    Comparison
        ``.pairs`` has a `Pair` for every two accumulators, ``.table`` the same as records; ``print`` shows a table
        and the smallest inputs.

    Raises
    ------
    TypeError
        As `matmul`, or if `accumulators` is not a sequence.
    ValueError
        As `matmul`; or if there are fewer than two accumulators, only one of `a` and `b`, or neither these nor a
        `dtype`.

    Notes
    -----
    The smallest input is found by delta debugging (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing
    Input, IEEE TSE 28, 2002): from a differing result, terms are dropped, moved to the front and made powers of two
    or 1 while the results still differ. It is small, not always the least one possible. A c that never matters is
    None.

    Examples
    --------
    >>> import lowprec as lp
    >>> result = lp.compare_accumulators(dtype="bf16", accumulators=["nvidia-ampere", "nvidia-hopper"])
    >>> result.pairs[0].different > 0
    True
    """
    names = _names(accumulators)
    if (a is None) != (b is None):
        msg = f"`{'a' if a is None else 'b'}` must be given with the other operand, got None; give both or neither."
        raise ValueError(msg)
    if a is None and c is not None:
        msg = "`c` must be None without `a` and `b`, which bring their own, got an array; give all three."
        raise ValueError(msg)
    if isinstance(rng, np.random.Generator):
        rng = int(rng.integers(0, 2**63))
    how = {"out_dtype": out_dtype, "rounding": rounding, "rng": rng}
    formats: tuple[Format | None, Format | None]
    start: Array | None
    if a is None or b is None:
        formats = _formats(dtype)
        x, y, starts, title = _built(formats, k, seed)
        start = starts
        results = [vecdot(x, y, dtype, accumulator=each, c=start, **how) for each in accumulators]

        def row(at: tuple[int, ...]) -> tuple[Array, Array, Any]:
            """Return a built row."""
            return x[at[0]], y[at[0]], starts[at[0]]
    else:
        x, y = _checks.plain_array(a, "a"), _checks.plain_array(b, "b")
        results = [matmul(x, y, dtype, accumulator=each, c=c, **how) for each in accumulators]
        formats = _formats(dtype) if dtype is not None else (stored_format(x.dtype), stored_format(y.dtype))
        start = None if c is None else np.broadcast_to(np.asarray(c), np.shape(results[0]))
        words = " x ".join(dict.fromkeys(str(fmt) for fmt in formats))
        title = f"{words}, {x.shape} @ {y.shape}, {np.size(results[0])} results"

        def row(at: tuple[int, ...]) -> tuple[Array, Array, Any]:
            """Return what one result is made of."""
            return _operands(x, y, start, at)

    arrays = [np.asarray(result) for result in results]
    start_dtype = None if start is None else np.asarray(start).dtype
    task = _Task(dtype, formats, (x.dtype, y.dtype), start_dtype, how)
    held = [_result_format(each, formats, start_dtype, out_dtype) for each in accumulators]
    pairs = []
    for i, j in itertools.combinations(range(len(arrays)), 2):
        found = Differences(arrays[i], arrays[j], (held[i], held[j]))
        largest, where = found.largest()
        pairs.append(
            Pair(
                names[i],
                names[j],
                int(found.unequal.sum()),
                int(found.unequal.size),
                int((found.one_nan & found.unequal).sum()),
                int(found.payloads.sum()),
                largest,
                where,
                _smallest(task, (accumulators[i], accumulators[j]), found.unequal, row),
            )
        )
    return Comparison(names, title, tuple(pairs))


def _names(accumulators: Any) -> tuple[str, ...]:
    """Check the accumulators and return what they are called."""
    if isinstance(accumulators, str) or not isinstance(accumulators, Sequence):
        msg = f"`accumulators` must be a list of accumulators, got {accumulators!r} of {type(accumulators).__name__}."
        raise TypeError(msg)
    if len(accumulators) < 2:
        msg = f"`accumulators` must have two or more entries, got {len(accumulators)}; give what to compare."
        raise ValueError(msg)
    return tuple(each if isinstance(each, str) else str(getattr(each, "name", repr(each))) for each in accumulators)


def _formats(dtype: Any) -> tuple[Format, Format]:
    """Return the operands' formats."""
    if dtype is None:
        msg = "`dtype` must be given without `a` and `b`, got None; name a format such as 'bf16'."
        raise ValueError(msg)
    both = tuple(dtype) if isinstance(dtype, (tuple, list)) else (dtype, dtype)
    if len(both) != 2:
        msg = f"`dtype` must be a format or a pair of them, got {len(both)}."
        raise ValueError(msg)
    return _checks.fmt_of(both[0], "dtype"), _checks.fmt_of(both[1], "dtype")


def _result_format(
    accumulator: Any, formats: tuple[Format | None, Format | None], c: np.dtype[Any] | None, out_dtype: Any
) -> Format | None:
    """Return the format that holds an accumulator's results; None for that of their array."""
    if out_dtype is not None:
        return _checks.fmt_of(out_dtype, "out_dtype")
    meant = as_model(accumulator)
    if isinstance(meant, Accumulator):
        return meant.result_format
    if formats[0] is None or formats[1] is None:
        return None
    return hardware.select(meant, (formats[0], formats[1]), c=None if c is None else stored_format(c)).out


def _built(formats: tuple[Format, Format], k: Any, seed: Any) -> tuple[Array, Array, Array, str]:
    """Return built rows and what they are."""
    for name, value, low in (("k", k, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
            raise TypeError(msg)
        if value < low or (name == "k" and value > 2**16):
            msg = f"`{name}` must be from {low}{' to 65536' if name == 'k' else ''}, got {value}."
            raise ValueError(msg)
    one, other = formats
    words = " x ".join(dict.fromkeys(str(fmt) for fmt in formats))
    if isinstance(one, IntFormat) and isinstance(other, IntFormat):
        x, y, c = _inputs.integers((one, other), int(k), 8 * _ROWS, int(seed))
    elif isinstance(one, FloatFormat) and isinstance(other, FloatFormat):
        x, y, c, _ = _inputs.build((one, other), int(k), _ROWS, int(seed))
        c = c.astype(np.float32)
    else:
        msg = f"`dtype` must be two float formats or two integer formats, got `{one}` and `{other}`."
        raise ValueError(msg)
    return x, y, c, f"{words}, {len(x)} built rows of {k} products"


def _operands(a: Array, b: Array, c: Array | None, at: tuple[int, ...]) -> tuple[Array, Array, Any]:
    """Return the row of a, the column of b and the c that make one result of a product."""
    start = None if c is None else c[at]
    place = list(at)
    column = place.pop() if b.ndim > 1 else None
    line = place.pop() if a.ndim > 1 else None
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.broadcast_to(a, batch + a.shape[-2:])[tuple(place)][line] if a.ndim > 1 else a
    y = np.broadcast_to(b, batch + b.shape[-2:])[tuple(place)][:, column] if b.ndim > 1 else b
    return x, y, start


def _smallest(
    task: _Task,
    accumulators: tuple[Any, Any],
    unequal: Array,
    row: Callable[[tuple[int, ...]], tuple[Array, Array, Any]],
) -> SmallestInput | None:
    """Return a small input on which two accumulators differ."""

    def differs(a: Array, b: Array, c: Array) -> Array:
        """Say which rows the accumulators differ on."""
        if not len(a):
            return np.zeros(0, bool)
        first, second = (task.sums(a, b, c, each) for each in accumulators)
        return np.asarray(Differences(first, second).unequal)

    starts = []
    for flat in np.flatnonzero(unequal):
        a, b, c = row(tuple(int(i) for i in np.unravel_index(flat, unequal.shape)))
        values = [np.asarray(x).astype(np.float64) for x in (a, b)]
        for i, fmt in enumerate(task.formats):
            if isinstance(fmt, FloatFormat):
                values[i] = np.asarray(round_to(values[i], fmt), np.float64)
        starts.append((values[0], values[1], 0.0 if c is None else float(c)))
        if len(starts) == 64 * _STARTS:
            break
    starts.sort(key=_shrink.cost)
    found = []
    for start in starts[: 4 * _STARTS]:
        if differs(*(np.array([part]) for part in start))[0]:
            found.append(_shrink.shrink(differs, task.fits, start))
        if len(found) == _STARTS:
            break
    if not found:
        return None
    a, b, c = min(found, key=_shrink.cost)
    x, y = a.astype(task.dtypes[0]), b.astype(task.dtypes[1])
    results = [task.sums(a[np.newaxis], b[np.newaxis], np.array([c]), each)[0] for each in accumulators]
    shown = None if task.c_dtype is None or (c == 0 and not np.signbit(c)) else task.c_dtype.type(c)
    return SmallestInput(x, y, shown, (results[0], results[1]))
