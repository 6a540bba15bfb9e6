"""search_permutation: an order of channels in which structured sparsity loses less."""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec._checks import Array
from lowprec._extras import require
from lowprec._observer import finite, integer, number
from lowprec._patterns import SparsityPattern, pattern_of
from lowprec.arrays import QuantizedArray
from lowprec.pruning import _search
from lowprec.pruning.masks import numbers_of
from lowprec.quantizers._settings import fresh

_METHODS = ("greedy", "exhaustive")


@dataclass(frozen=True, eq=False)
class ChannelPermutation:
    """An order of channels: what `search_permutation` returns.

    Parameters
    ----------
    order : array_like of int
        For each new place the old channel: every number from 0 to n - 1 once.
    pattern : str
        What it was sought for.
    kept_before, kept_after : float
        The part of all scores that the pattern keeps of channels as they were, and in this order; 1 where all scores
        are zero.
    seconds : float
        How long the search took.
    finished : bool
        False if the time limit ended it.

    Raises
    ------
    TypeError
        If `order` does not hold integers.
    ValueError
        If `order` is no permutation.

    Notes
    -----
    A layer whose input channels are permuted needs inputs in the same order, so the layer before has to put out its
    channels in that order: ``apply(w1, axis=0)`` and ``apply(b1)`` for its weight (outputs, inputs) and bias, and
    ``apply(w2)`` for this layer. What lies between them must treat all channels alike (an activation function) or be
    permuted too (the weights of a normalisation). Every product of the sum is then the same, in another order: the
    bits of the network's result are the same with ``accumulator="exact"``; other sums round in another order.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w1, b1, w2, x = (np.random.default_rng(i).standard_normal(s) for i, s in enumerate([(16, 5), 16, (3, 16), 5]))
    >>> found = lp.search_permutation(w2, method="exhaustive")
    >>> bool(found.kept_after > found.kept_before)
    True
    >>> def network(w1, b1, w2):
    ...     hidden = np.maximum(lp.linear(x, w1, b1, "bf16", accumulator="exact"), 0)
    ...     return lp.linear(hidden, w2, dtype="bf16", accumulator="exact")
    >>> before, after = network(w1, b1, w2), network(found.apply(w1, axis=0), found.apply(b1), found.apply(w2))
    >>> np.array_equal(before, after)
    True
    """

    order: Array
    pattern: str
    kept_before: float
    kept_after: float
    seconds: float
    finished: bool

    def __post_init__(self) -> None:
        """Check the order."""
        given = np.asarray(self.order)
        if given.dtype.kind not in "iu":
            msg = f"`order` must hold integers, got dtype {given.dtype}."
            raise TypeError(msg)
        if given.ndim != 1 or not np.array_equal(np.sort(given), np.arange(given.size)):
            msg = f"`order` must hold every number from 0 to n - 1 once, got {given.tolist()!r:.60}."
            raise ValueError(msg)
        order = given.astype(np.int64)
        order.flags.writeable = False
        object.__setattr__(self, "order", order)

    @property
    def inverse(self) -> Array:
        """For each old channel its new place, int64: ``order[inverse]`` and ``inverse[order]`` count from 0."""
        inverse = np.empty_like(self.order)
        inverse[self.order] = np.arange(self.order.size)
        inverse.flags.writeable = False
        return inverse

    def apply(self, x: ArrayLike, axis: int = -1) -> Array:
        """Return channels in the new order.

        Parameters
        ----------
        x : array_like
            A weight, a bias or activations, of any dtype.
        axis : int
            Where the channels lie.

        Returns
        -------
        ndarray
            A copy, of the dtype and shape of `x`.

        Raises
        ------
        TypeError
            If `x` carries scales or places, which belong to the old order: permute first, then quantise or sparsify.
        ValueError
            If the axis does not exist or has another number of channels.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.ChannelPermutation([2, 0, 1], "2:4", 1, 1, 0, True).apply([10, 20, 30])
        array([30, 10, 20])
        """
        return self._moved(x, axis, self.order)

    def apply_inverse(self, x: ArrayLike, axis: int = -1) -> Array:
        """Return channels in the old order.

        Parameters
        ----------
        x : array_like
            What has its channels in the new order.
        axis : int
            Where the channels lie.

        Returns
        -------
        ndarray
            A copy, of the dtype and shape of `x`.

        Raises
        ------
        TypeError, ValueError
            As `apply`.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.ChannelPermutation([2, 0, 1], "2:4", 1, 1, 0, True).apply_inverse([30, 10, 20])
        array([10, 20, 30])
        """
        return self._moved(x, axis, self.inverse)

    def _moved(self, x: Any, axis: int, order: Array) -> Array:
        """Return a copy with the channels of an axis in an order."""
        if hasattr(x, "to_arrays"):  # a QuantizedArray or Sparse24
            msg = f"`x` must be a plain array, got {type(x).__name__}; permute channels before anything is quantised."
            raise TypeError(msg)
        values = _checks.plain_array(x, "x")
        at = _axis(axis, values.ndim, "x")
        if values.shape[at] != order.size:
            msg = f"`x` must have {order.size} channels along axis {axis}, got shape {values.shape}."
            raise ValueError(msg)
        return np.take(values, order, axis=at)

    def __repr__(self) -> str:
        """Return one line."""
        kept = f"kept_before={self.kept_before:.4f}, kept_after={self.kept_after:.4f}"
        rest = f"seconds={self.seconds:.3g}, finished={self.finished}"
        return f"ChannelPermutation({self.order.size} channels, {self.pattern!r}, {kept}, {rest})"


def search_permutation(
    w: ArrayLike | QuantizedArray | list[Any] | tuple[Any, ...],
    pattern: str | SparsityPattern = "2:4",
    *,
    axis: int = -1,
    method: str = "greedy",
    stripe: int | None = None,
    scores: Any = None,
    escapes: int = 0,
    rng: int | np.random.Generator | None = None,
    time_limit: float | None = None,
    progress: bool = False,
) -> ChannelPermutation:
    """Search for an order of a weight's input channels in which a pattern keeps more of its magnitude.

    Parameters
    ----------
    w : array_like or QuantizedArray, or a list or tuple of arrays
        A weight of two axes or more, finite. Several weights that share an input: what they keep adds up.
    pattern : str or SparsityPattern
        What will be kept of each group: ``"2:4"``, ``"1:2"``, ``"4:8"`` (in pairs), or any other.
    axis : int
        The axis of the channels: that along which groups lie.
    method : str
        ``"greedy"``: swap the two channels that gain most, until no swap gains. ``"exhaustive"``: divide the channels
        of each `stripe` of groups, near or far, in the best of all ways, until none gains. Finds a little more.
    stripe : int, optional
        Of ``"exhaustive"``: how many channels are divided at once, a multiple of the group; two groups if not given.
        For ``"2:4"``, 8 channels have 35 divisions and 12 have 5,775; more than 10,000 are refused.
    scores : array_like or list of arrays, optional
        What is to be kept, 0 or more, in the shape of `w`: for example ``abs(w) * norms`` of Wanda. ``abs(w)`` if not
        given.
    escapes : int
        How often, at the end, two channels (greedy: three) change places at random and the search goes on; kept where
        that is no worse.
    rng : int or numpy.random.Generator, optional
        Seed of these moves; needed for them.
    time_limit : float, optional
        Seconds of search, after which the best order so far is returned, with ``finished=False``.
    progress : bool
        Show a bar (needs tqdm: ``pip install "lowprec[quantize]"``).

    Returns
    -------
    ChannelPermutation
        The order; it never keeps less than the channels as they were. Inside a group channels ascend, but for
        patterns of runs.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `w` has fewer than two axes, a number is not finite or a score below 0, shapes differ, the axis does not
        exist, `stripe` is no multiple of the group, or an argument is out of range.
    ImportError
        If a bar is asked for and tqdm is missing.

    Notes
    -----
    Scores are rounded to whole numbers of 2**-23 (``"2:4"``) of the largest, so that each step gains a whole number,
    the search ends, and its result depends neither on threads nor on the machine; only a time limit brings time into
    it. The kept parts are of the scores themselves, in float64.

    A greedy search holds a table of 8 bytes for each two channels and computes ``rows * channels**2`` maxima; a step
    renews two groups of it. Ended before the table is full, it leaves channels as they were. A window of two groups of
    ``"2:4"`` takes ``70 * rows`` sums. A last group that is not whole keeps its size; which channels it has is part of
    the search.

    References
    ----------
    J. Pool and C. Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021, sections 3 and 4. Here windows are taken in
    order and divided at once; there the best of all windows goes first.

    See Also
    --------
    sparsify : What to do then.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> w = np.array([[4.0, 3.0, 2.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    >>> found = lp.search_permutation(w)
    >>> found.kept_before, found.kept_after
    (0.8, 1.0)
    >>> lp.search_permutation(w, method="exhaustive").apply(w).reshape(2, 4)
    array([[4., 3., 0., 0.],
           [2., 1., 0., 0.]])
    """
    wanted = pattern_of(pattern)
    kind = _method(method)
    many = _stripe(stripe, wanted, kind)
    values = _scores(w, scores, axis)
    tries = integer(escapes, "escapes")
    if tries < 0:
        msg = f"`escapes` must be 0 or more, got {tries}."
        raise ValueError(msg)
    limit = None if time_limit is None else number(time_limit, "time_limit", 0, np.inf)
    if not isinstance(progress, (bool, np.bool_)):
        msg = f"`progress` must be True or False, got {progress!r}."
        raise TypeError(msg)
    if tries and rng is None:
        msg = "`rng` must be given with `escapes`, got None; pass a seed such as rng=0 or a numpy Generator."
        raise ValueError(msg)
    random = fresh(0 if rng is None else rng)
    bar = require("tqdm", "A progress bar", "quantize").tqdm if progress else nullcontext
    with bar(**({"desc": f"{kind} search", "leave": False, "delay": 1} if progress else {})) as shown:
        clock = _search.Clock(limit, shown)
        size = values.shape[1]
        search: _search.Search
        if kind == "greedy":
            search = _search.Swaps(values, wanted, clock)
        else:
            search = _search.Windows(values, wanted, clock, many)
        search.run(tries, random)
        seconds = clock.seconds()
    order = search.order[:size]
    if wanted.run == 1:
        order = np.concatenate([np.sort(part) for part in np.split(order, range(wanted.group, size, wanted.group))])
    before, after = kept_part(values, wanted), kept_part(values[:, order], wanted)
    if (
        np.array_equal(order, np.arange(size)) or after <= before
    ):  # or the rounding to whole numbers made the difference
        order, after = np.arange(size), before
    return ChannelPermutation(order, str(wanted), before, after, seconds, not clock.late)


def kept_part(scores: Array, pattern: SparsityPattern) -> float:
    """Return the part of scores (rows, channels) of 0 or more that a pattern keeps, in float64; 1 if all are zero."""
    size, (rows, length) = pattern.group, scores.shape
    total = kept = 0.0
    step = max(1, (1 << 20) // max(1, length))
    for first in range(0, rows, step):
        part = np.pad(scores[first : first + step], ((0, 0), (0, -length % size)))
        runs = part.reshape(len(part), -1, size // pattern.run, pattern.run).sum(axis=-1)
        dropped = (size - pattern.kept) // pattern.run
        total += float(part.sum())
        kept += float(np.partition(runs, dropped - 1, axis=-1)[..., dropped:].sum())
    return kept / total if total else 1.0


def _axis(axis: Any, ndim: int, name: str) -> int:
    """Check an axis."""
    at = integer(axis, "axis")
    if not -ndim <= at < ndim:
        msg = f"`axis` must be an axis of `{name}`, which has {ndim}, got {at}."
        raise ValueError(msg)
    return at % ndim


def _method(method: Any) -> str:
    """Check the name of a method."""
    if not isinstance(method, str):
        msg = f"`method` must be one of {', '.join(_METHODS)}, got {method!r} of type {type(method).__name__}."
        raise TypeError(msg)
    if method.lower() not in _METHODS:
        close = difflib.get_close_matches(method.lower(), _METHODS, n=1)
        hint = f"; the closest: {close[0]!r}." if close else "."
        msg = f"`method` must be one of {', '.join(_METHODS)}, got {method!r}{hint}"
        raise ValueError(msg)
    return method.lower()


def _stripe(stripe: Any, pattern: SparsityPattern, method: str) -> int:
    """Return how many groups are divided at once."""
    size = pattern.group
    if method == "greedy":
        if stripe is not None:
            msg = f'`stripe` must be None with method="greedy", got {stripe!r}; pass method="exhaustive".'
            raise ValueError(msg)
        return 2
    if pattern.run > 1:
        msg = f'`method` must be "greedy" for "{pattern}", whose runs can be made up in too many ways.'
        raise ValueError(msg)
    width = 2 * size if stripe is None else integer(stripe, "stripe")
    if width % size or width < 2 * size:
        msg = f'`stripe` must be a multiple of {size}, the group of "{pattern}", and at least {2 * size}, got {width}.'
        raise ValueError(msg)
    if _search.divisions(size, width // size) > _search.MOST_DIVISIONS:
        hint = 'method="greedy"' if width == 2 * size else f"{width - size}"
        msg = (
            f"`stripe` must have at most {_search.MOST_DIVISIONS} divisions into groups, got {width}, which has "
            f"{_search.divisions(size, width // size)}; try {hint}."
        )
        raise ValueError(msg)
    return width // size


def _scores(w: Any, scores: Any, axis: Any) -> Array:
    """Return what is to be kept as rows x channels, from 0 to 1, of all weights together."""
    several = isinstance(w, (list, tuple)) and bool(w) and all(isinstance(x, (np.ndarray, QuantizedArray)) for x in w)
    weights = list(w) if several and all(x.ndim > 1 for x in w) else [w]
    if scores is None:
        given: list[Any] = [None] * len(weights)
    else:
        given = list(scores) if len(weights) > 1 else [scores]
        if len(given) != len(weights):
            msg = f"`scores` must hold one array for each of {len(weights)} weights, got {len(given)}."
            raise ValueError(msg)
    rows = []
    for weight, score in zip(weights, given, strict=True):
        values = finite(numbers_of(weight, "w"), "w")
        if values.ndim < 2:
            msg = f"`w` must have two axes or more, outputs and inputs, got shape {values.shape}."
            raise ValueError(msg)
        at = _axis(axis, values.ndim, "w")
        if not values.size:
            msg = f"`w` must have an element, got shape {values.shape}."
            raise ValueError(msg)
        if score is not None:
            shape, values = values.shape, finite(score, "scores")
            if values.shape != shape:
                msg = f"`scores` must have the shape {shape} of `w`, got {values.shape}."
                raise ValueError(msg)
            if (values < 0).any():
                msg = f"`scores` must be 0 or more, got {values.min()}; pass what is to be kept, such as abs(w)."
                raise ValueError(msg)
        flat = np.abs(np.moveaxis(values, at, -1).astype(np.float64))
        rows.append(flat.reshape(-1, flat.shape[-1]))
    lengths = {each.shape[1] for each in rows}
    if len(lengths) > 1:
        msg = f"`w` must hold weights with the same number of channels along axis {axis}, got {sorted(lengths)}."
        raise ValueError(msg)
    top = max(float(each.max()) for each in rows)
    return np.concatenate(rows) / (top or 1.0)
