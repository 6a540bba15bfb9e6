"""The short way to 2:4 by magnitude: values and their places in one pass over the bits of an array."""

from __future__ import annotations

import numpy as np

from lowprec._checks import Array
from lowprec._compression import group_count
from lowprec._packing import operand, share
from lowprec._patterns import SparsityPattern
from lowprec.formats import FloatFormat, stored_format
from lowprec.kernels.sparsify import compress_fours
from lowprec.pruning.masks import refuse_nan
from lowprec.sparse_arrays import Sparse24, assembled

_FOURS = SparsityPattern(2, 4)
_PIECE = 1 << 17  # numbers that a thread takes at a time
_LONE = 0x8  # the code of a last group with one element, as Sparse24.from_dense has it


def compressed_by_magnitude(w: Array, axis: int, recipe: str) -> Sparse24:
    """Return the largest two of each four along an axis, the first of equals; refuse NaN."""
    rows = np.moveaxis(w, axis, -1)
    length, lead = rows.shape[-1], rows.shape[:-1]
    groups = group_count(length, _FOURS)
    if length % 4:
        padded = np.zeros((*lead, 4 * groups), w.dtype)
        padded[..., :length] = rows
        rows = padded
    word = np.dtype(f"u{w.dtype.itemsize}").type
    x = operand(np.ascontiguousarray(rows)).reshape(-1).view(word)
    values = np.empty(x.size // 2, word)
    nibbles = np.empty((*lead, (groups + 1) // 2), np.uint8)
    if _compress(x, groups, w.dtype, values, nibbles.reshape(-1)):
        refuse_nan(w, "w")
    if length % 4 == 1:
        last = nibbles[..., -1]
        nibbles[..., -1] = last & 0xF0 | _LONE if groups % 2 else last & 0x0F | _LONE << 4
    kept = values.view(w.dtype).reshape(*lead, 2 * groups)
    return assembled(np.moveaxis(kept, -1, axis), nibbles, _FOURS, axis, length, recipe)


def _compress(x: Array, groups: int, dtype: np.dtype[np.generic], values: Array, nibbles: Array) -> bool:
    """Compress rows of so many groups on all threads; say whether there may be NaN."""
    fmt, word, ones = stored_format(dtype), x.dtype.type, (1 << 8 * dtype.itemsize) - 1
    hidden = False
    if isinstance(fmt, FloatFormat):  # magnitudes of codes are in the order of their numbers
        mask, turn, shift = (1 << fmt.magnitude_bits) - 1, 0, 0
        limit = fmt.max_code if fmt.inf_code is None else fmt.inf_code
        hidden = fmt.nan == "negative_zero"  # the NaN's magnitude is that of zero
    else:
        bits = 8 * dtype.itemsize if fmt is None else fmt.bits
        mask, limit, shift = (1 << bits) - 1, ones, bits - 1
        turn = ones if fmt is not None and fmt.is_signed else 0
    # Where the codes of a row fill whole bytes, rows do not matter: any two groups are a unit of work.
    unit = groups if groups % 2 else 2
    wide = (unit + 1) // 2

    def work(first: int, last: int) -> int:
        most = compress_fours(
            x[4 * unit * first : 4 * unit * last], groups if groups % 2 else unit * (last - first), word(shift),
            word(turn), word(mask), values[2 * unit * first : 2 * unit * last], nibbles[wide * first : wide * last],
        )  # fmt: skip
        return int(most)

    units = x.size // (4 * unit) if x.size else 0
    return max(share(work, units, max(1, _PIECE // (4 * max(1, unit)))), default=0) > limit or hidden
