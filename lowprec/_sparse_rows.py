"""Matrices of which every row keeps equally many numbers of each group, as the products take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec._patterns import SparsityPattern, place_table


class SparseRows(NamedTuple):
    """A matrix of which every row keeps equally many numbers of each group of columns."""

    values: Array  # (M, kept numbers), adjacent along the rows
    k: int  # columns
    kept: int  # numbers of a group
    group: int  # columns of a group
    nibbles: Array | None = None  # (M, bytes), two groups to a byte
    pattern: SparsityPattern | None = None  # what the nibbles mean
    listed: Array | None = None  # (M, kept numbers) of int32: columns, ascending; at least K for those of none


def columns_of(nibbles: Array, pattern: SparsityPattern, count: int) -> Array:
    """Return the columns of so many kept numbers of each row of codes, (..., count) of int64."""
    codes = np.stack([nibbles & 15, nibbles >> 4], axis=-1).reshape(*nibbles.shape[:-1], -1)
    codes = codes[..., : count // pattern.kept]
    first = np.arange(codes.shape[-1]) * pattern.group
    return np.asarray((place_table(pattern)[codes] + first[:, np.newaxis]).reshape(*nibbles.shape[:-1], count))


def columns_kept(a: SparseRows) -> tuple[Array, Array]:
    """Return the column of each kept number, (M, kept numbers) of int64, and how many of a row's lie below K."""
    if a.nibbles is None or a.pattern is None:
        columns = np.asarray(a.listed).astype(np.int64)
    else:
        columns = columns_of(a.nibbles, a.pattern, a.values.shape[1])
    return columns, np.count_nonzero(columns < a.k, axis=1)
