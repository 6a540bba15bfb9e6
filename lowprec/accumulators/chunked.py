"""Sums of sums."""

from __future__ import annotations

from dataclasses import dataclass

from lowprec.accumulators.base import Accumulator, integer
from lowprec.accumulators.sums import Integer, Pairwise, Sequential
from lowprec.accumulators.words import model
from lowprec.formats import FloatFormat


@dataclass(frozen=True, repr=False)
class Chunked(Accumulator):
    """Promotion, split-K, blocked summation: an inner sum for every chunk of K, added up by an outer one.

    ::

        for each chunk of `every` consecutive k: t = inner sum of the chunk, from +0
        r = outer sum of the t, k ascending, from c

    Parameters
    ----------
    inner : Accumulator or str
        How a chunk is summed: a model, or any word that `accumulator=` takes, a hardware preset for example.
    every : int
        Products per chunk. The last one may be shorter.
    outer : Accumulator or str
        `Sequential` (or a format's name, which means it) or `Pairwise`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If `every` is below 1, or `outer` is another model.

    Notes
    -----
    ``Chunked("nvidia-hopper", every=128)`` is the promotion of DeepSeek-V3 (arXiv:2412.19437, 3.3.2): tensor-core
    sums of 128 products added up in float32 by ordinary additions. A kernel that splits K into S parts is
    ``every=K / S``. A stochastic outer sum draws from stream 5, its step number the chunk's.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.Chunked("fp16", every=64)
    Chunked(inner=Sequential(format='float16'), every=64)
    """

    inner: Accumulator | str
    every: int = 128
    outer: Accumulator = "float32"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        inner = model(self.inner, "inner")
        outer = model(self.outer, "outer")
        if isinstance(inner, Integer) or not isinstance(outer, (Sequential, Pairwise)):
            which = ("inner", inner) if isinstance(inner, Integer) else ("outer", outer)
            rule = "a model of a float sum" if which[0] == "inner" else "lp.Sequential, lp.Pairwise or a format's name"
            msg = f"`{which[0]}` must be {rule}, got {which[1]!r}."
            raise ValueError(msg)
        if isinstance(inner, Chunked):
            msg = f"`inner` must not be chunked itself, got {inner!r}; give the outer one a Pairwise sum instead."
            raise ValueError(msg)
        self._set(inner=inner, outer=outer, every=integer(self.every, "every", 1, 2**31 - 1))

    @property
    def result_format(self) -> FloatFormat:
        """The outer sum's."""
        return self.outer.result_format  # type: ignore[return-value]

    def __repr__(self) -> str:
        """Return the call that makes the model."""
        rest = "" if self.outer == Sequential() else f", outer={self.outer!r}"
        return f"Chunked(inner={self.inner!r}, every={self.every}{rest})"

    def __str__(self) -> str:
        """Say what the model does."""
        return f"chunks of {self.every}: [{self.inner}], added up: [{self.outer}]"
