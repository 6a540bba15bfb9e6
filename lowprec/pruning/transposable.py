"""Masks that are 2:4 along both axes of a matrix: tiles of four by four, with two kept in each row and column."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import numpy as np

from lowprec._checks import Array
from lowprec.kernels import sparsify as kernels

TILE = kernels.TILE
_PAIRS = np.array(list(combinations(range(TILE), 2)))


@cache
def _patterns() -> Array:
    """Return the 90 ways to keep two in each row and column: for each row the number of its pair, in order."""
    ways = np.array(list(product(range(len(_PAIRS)), repeat=TILE)))
    in_column = np.zeros((len(ways), TILE), int)
    for row in range(TILE):
        for place in range(2):
            np.add.at(in_column, (np.arange(len(ways)), _PAIRS[ways[:, row], place]), 1)
    return np.ascontiguousarray(ways[(in_column == 2).all(axis=1)])


def doubly_sparse(scores: Array, how: str) -> Array:
    """Return the mask of a matrix of scores of 0 or more: "best" of the 90 patterns of each tile, or "greedy".

    Tiles that reach beyond the matrix are filled up with what is worth nothing.
    """
    rows, columns = scores.shape
    high, wide = -(-rows // TILE), -(-columns // TILE)
    room = np.full((high * TILE, wide * TILE), 0.0 if how == "best" else -1.0)
    room[:rows, :columns] = scores
    tiles = np.ascontiguousarray(room.reshape(high, TILE, wide, TILE).swapaxes(1, 2)).reshape(-1, TILE, TILE)
    out = np.zeros(tiles.shape, bool)
    if how == "best":
        kernels.best_tiles(tiles, _PAIRS, _patterns(), out)
    else:
        kernels.greedy_tiles(tiles, out)
    mask = out.reshape(high, wide, TILE, TILE).swapaxes(1, 2).reshape(room.shape)
    return np.ascontiguousarray(mask[:rows, :columns])
