"""Patterns of structured sparsity, and the 4-bit codes that hardware keeps of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from lowprec._checks import Array

_HARDWARE = ((2, 4, 1), (1, 2, 1), (4, 8, 2))


@dataclass(frozen=True)
class SparsityPattern:
    """How many elements are kept of every aligned group along an axis.

    Parameters
    ----------
    kept : int
        Elements kept of each group.
    group : int
        Elements of a group; groups start at multiples of it.
    run : int
        Elements that are kept or dropped together, at multiples of it; divides both others.

    Raises
    ------
    TypeError
        If a number is no integer.
    ValueError
        If ``1 <= run <= kept < group`` does not hold, or `run` does not divide both.

    Notes
    -----
    Sparse tensor cores have three patterns: ``SparsityPattern(2, 4)``, "2:4", for elements of 16 and 8 bits; "1:2",
    ``SparsityPattern(1, 2)``, for tf32; and "4:8", ``SparsityPattern(4, 8, run=2)``, for 4-bit elements, which go in
    pairs. Others make masks only.

    References
    ----------
    NVIDIA, PTX ISA 8.5, section 9.7.14.5, warp-level matrix multiply-accumulate with sparse matrices.

    Examples
    --------
    >>> import lowprec as lp
    >>> str(lp.SparsityPattern(2, 4)), lp.SparsityPattern(1, 4).density
    ('2:4', 0.25)
    """

    kept: int
    group: int
    run: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("kept", "group", "run"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                msg = f"`{name}` must be an integer, got {value!r}."
                raise TypeError(msg)
            object.__setattr__(self, name, int(value))
        if not 1 <= self.run <= self.kept < self.group or self.kept % self.run or self.group % self.run:
            msg = (
                "`kept`, `group` and `run` must have 1 <= run <= kept < group, and `run` must divide both, got "
                f"{self.kept}, {self.group} and {self.run}."
            )
            raise ValueError(msg)

    def __str__(self) -> str:
        """Return the name that `pattern` arguments take."""
        name = f"{self.kept}:{self.group}"
        return name if pattern_of(name) == self else f"{name}/{self.run}"

    @property
    def density(self) -> float:
        """The part that is kept."""
        return self.kept / self.group

    @property
    def is_hardware(self) -> bool:
        """Whether sparse tensor cores have it, so that a `Sparse24` can."""
        return (self.kept, self.group, self.run) in _HARDWARE

    @property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """The places of each way to keep elements of a group, in lexicographic order."""
        runs = combinations(range(self.group // self.run), self.kept // self.run)
        return tuple(tuple(self.run * i + j for i in each for j in range(self.run)) for each in runs)


def pattern_of(value: Any, name: str = "pattern") -> SparsityPattern:
    """Return a pattern by its name, or as it is."""
    if isinstance(value, SparsityPattern):
        return value
    if not isinstance(value, str):
        msg = f'`{name}` must be a string such as "2:4" or a SparsityPattern, got {value!r}.'
        raise TypeError(msg)
    return _parsed(value, name)


@lru_cache(maxsize=64)
def _parsed(value: str, name: str) -> SparsityPattern:
    """Return a pattern by its name."""
    found = re.fullmatch(r"\s*(\d{1,4})\s*:\s*(\d{1,4})(?:/(\d{1,4}))?\s*", value)
    if found is None:
        msg = f'`{name}` must be written "kept:group", such as "2:4", got {value!r}.'
        raise ValueError(msg)
    kept, group = int(found[1]), int(found[2])
    run = int(found[3]) if found[3] else 2 if (kept, group) == (4, 8) else 1
    try:
        return SparsityPattern(kept, group, run)
    except ValueError:
        msg = f"`{name}` must keep at least 1 element and fewer than the group has, got {value!r}."
        raise ValueError(msg) from None


def hardware_pattern(value: Any, name: str = "pattern") -> SparsityPattern:
    """Return a pattern that a `Sparse24` can have."""
    found = pattern_of(value, name)
    if not found.is_hardware:
        msg = f'`{name}` must be "2:4", "1:2" or "4:8" in pairs, got "{found}"; lp.sparsity_mask takes any.'
        raise ValueError(msg)
    return found


PLACES = {0x4: (0, 1), 0x8: (0, 2), 0x9: (1, 2), 0xC: (0, 3), 0xD: (1, 3), 0xE: (2, 3)}
"""The legal codes of a group, and the two of four places that each keeps (i0 | i1 << 2, i0 < i1)."""
ONE_OF_TWO = (0x4, 0xE)
"""The codes of "1:2": a wide element counts as two places, so the first is {0, 1} and the second {2, 3}."""


def legal_nibbles(pattern: SparsityPattern) -> Array:
    """Return for each of 16 codes whether it is legal."""
    table = np.zeros(16, bool)
    table[list(ONE_OF_TWO if pattern.group == 2 else PLACES)] = True
    return table


def place_table(pattern: SparsityPattern) -> Array:
    """Return for each of 16 codes the places of a group's kept elements, ascending; zeros for illegal codes."""
    table = np.zeros((16, pattern.kept), np.uint8)
    for code, pair in PLACES.items():
        if pattern.group == 4:
            table[code] = pair
        elif pattern.group == 8:
            table[code] = [2 * i + j for i in pair for j in range(2)]
    if pattern.group == 2:
        table[ONE_OF_TWO[1]] = 1
    return table


def fill_table() -> Array:
    """Return the code of each of the 16 sets of places (bit i: place i) of at most two, 0 for larger sets.

    A set of fewer is filled up as CUTLASS's converter does: {} to {2, 3}, {0} to {0, 2}, {1} to {1, 2}, {2} and {3} to
    {2, 3}.
    """
    table = np.zeros(16, np.uint8)
    for code, (first, second) in PLACES.items():
        table[1 << first | 1 << second] = code
    table[[0b0000, 0b0001, 0b0010, 0b0100, 0b1000]] = (0xE, 0x8, 0x9, 0xE, 0xE)
    return table
