"""Which elements of a group are kept: the largest two of four, compressed in one pass, and masks of any group."""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.words import both, constant, differ, full_width, larger, less, pick, shr, sub

STRIP = 1024  # groups that are worked on at a time, an even number
WIDTH = 256  # columns that are worked on at a time, where groups lie down the columns
TILE = 4  # rows and columns of a doubly sparse tile


@inline
def _most(a, b, c):
    """Say whether at least two of three hold."""
    return (a & b) | (a & c) | (b & c)


@inline
def _magnitude(x, shift, flip, mask):
    """Return the bits of |x|: two's complement turned over where ``flip`` is set, then ``mask``."""
    sign = both(sub(constant(x, 0), shr(x, shift)), flip)
    return both(sub(differ(x, sign), sign), mask)


@inline
def _two_of_four(a, b, c, d, shift, flip, mask):
    """Return the two of four words that are largest in magnitude, their code, and the largest magnitude.

    One beats another if it is larger, or comes first and is as large; those that beat two others are kept.
    """
    p, q = _magnitude(a, shift, flip, mask), _magnitude(b, shift, flip, mask)
    r, s = _magnitude(c, shift, flip, mask), _magnitude(d, shift, flip, mask)
    ba, ca, da, cb, db, dc = less(p, q), less(p, r), less(p, s), less(q, r), less(q, s), less(r, s)
    keep_a, keep_b = not _most(ba, ca, da), _most(ba, not cb, not db)
    keep_c, keep_d = _most(ca, cb, not dc), _most(da, db, dc)
    low = pick(keep_a, np.uint8(0), pick(keep_b, np.uint8(1), np.uint8(2)))
    high = pick(keep_d, np.uint8(12), pick(keep_c, np.uint8(8), np.uint8(4)))
    first, second = pick(keep_a, a, pick(keep_b, b, c)), pick(keep_d, d, pick(keep_c, c, b))
    return first, second, low | high, larger(larger(p, q), larger(r, s))


@inline
def _along(x, shift, flip, mask, values, codes):
    """Compress groups that lie one after the other."""
    most = both(mask, constant(mask, 0))
    for g in range(codes.size):
        values[2 * g], values[2 * g + 1], codes[g], found = _two_of_four(
            x[4 * g], x[4 * g + 1], x[4 * g + 2], x[4 * g + 3], shift, flip, mask
        )
        most = larger(most, found)
    return most


@inline
def _across(a, b, c, d, shift, flip, mask, first, second, codes):
    """Compress groups that lie side by side, in four rows."""
    most = both(mask, constant(mask, 0))
    for i in range(codes.size):
        first[i], second[i], codes[i], found = _two_of_four(a[i], b[i], c[i], d[i], shift, flip, mask)
        most = larger(most, found)
    return most


@njit()
def compress_rows(x, groups, shift, flip, mask, values, nibbles):
    """Keep the two of each four words of a row that are largest in magnitude, the first of equals.

    ``x`` holds rows of ``groups`` times four words, ``values`` gets half as many, and ``nibbles`` for each row a byte
    for two groups, i0 | i1 << 2 of the first in the low half; the last half of an odd number is 4. Returns the largest
    magnitude.
    """
    full_width()
    most = both(mask, constant(mask, 0))
    codes = np.zeros(STRIP, np.uint8)
    width = (groups + 1) // 2
    for row in range(nibbles.size // width):
        for first in range(0, groups, STRIP):
            count = min(STRIP, groups - first)
            begin = row * groups + first
            found = _along(
                x[4 * begin : 4 * (begin + count)], shift, flip, mask, values[2 * begin : 2 * (begin + count)],
                codes[:count],
            )  # fmt: skip
            most = larger(most, found)
            if count % 2:
                codes[count] = 4
            out = nibbles[row * width + first // 2 : row * width + (first + count + 1) // 2]
            for i in range(out.size):
                out[i] = codes[2 * i] | codes[2 * i + 1] << 4
    return most


@njit()
def compress_columns(x, groups, columns, first, last, shift, flip, mask, values, nibbles):
    """Do the same down the columns of matrices, for the strips ``first`` to ``last`` of `WIDTH` columns.

    ``x`` holds matrices of four times ``groups`` rows, ``values`` gets matrices of half as many rows, and ``nibbles``
    what `compress_rows` gives it for the columns as rows.
    """
    full_width()
    most = both(mask, constant(mask, 0))
    codes = np.empty((2, WIDTH), np.uint8)
    strips, width = (columns + WIDTH - 1) // WIDTH, (groups + 1) // 2
    for strip in range(first, last):
        matrix, left = strip // strips, strip % strips * WIDTH
        count = min(WIDTH, columns - left)
        out = nibbles[(matrix * columns + left) * width :]
        for g in range(groups):
            at, to = 4 * (matrix * groups + g) * columns + left, 2 * (matrix * groups + g) * columns + left
            found = _across(
                x[at : at + count], x[at + columns : at + columns + count],
                x[at + 2 * columns : at + 2 * columns + count], x[at + 3 * columns : at + 3 * columns + count],
                shift, flip, mask, values[to : to + count], values[to + columns : to + columns + count],
                codes[g % 2, :count],
            )  # fmt: skip
            most = larger(most, found)
            if g % 2:
                for i in range(count):
                    out[i * width + g // 2] = codes[0, i] | codes[1, i] << 4
            elif g == groups - 1:
                for i in range(count):
                    out[i * width + g // 2] = codes[0, i] | 0x40
    return most


@njit()
def keep_largest(keys, kept, group, out):
    """Mark the ``kept`` largest keys of each group along rows, the first of equals; all of a shorter last group."""
    rows, length = keys.shape
    for row in range(rows):
        for begin in range(0, length, group):
            end = min(begin + group, length)
            for i in range(begin, end):
                out[row, i] = end - begin <= kept
            for _ in range(kept if end - begin > kept else 0):
                best = -1
                for i in range(begin, end):
                    if not out[row, i] and (best < 0 or keys[row, i] > keys[row, best]):
                        best = i
                out[row, best] = True


@njit()
def best_tiles(scores, pairs, patterns, out):
    """Mark in each tile (tiles, 4, 4) the pattern of largest sum, the first of equals.

    ``pairs`` are the two places of each way to keep a row, ``patterns`` four such ways, one for each row. Sums are
    (row 0 + row 1) + (row 2 + row 3), each the sum of two.
    """
    of_row = np.empty((TILE, len(pairs)), scores.dtype)
    for t in range(len(scores)):
        for r in range(TILE):
            for p in range(len(pairs)):
                of_row[r, p] = scores[t, r, pairs[p, 0]] + scores[t, r, pairs[p, 1]]
        best, most = 0, -np.inf
        for k in range(len(patterns)):
            way = patterns[k]
            total = (of_row[0, way[0]] + of_row[1, way[1]]) + (of_row[2, way[2]] + of_row[3, way[3]])
            if total > most:
                best, most = k, total
        for r in range(TILE):
            for p in range(2):
                out[t, r, pairs[patterns[best, r], p]] = True


@njit()
def greedy_tiles(scores, out):
    """Mark in each tile (tiles, 4, 4) the largest first, in row order where equal, at most two in a row or column.

    Negative scores are never marked.
    """
    rows, columns = np.zeros(TILE, np.int64), np.zeros(TILE, np.int64)
    for t in range(len(scores)):
        rows[:], columns[:] = 0, 0
        for _ in range(TILE * TILE // 2):
            best, most = -1, -1.0  # where there is nothing, scores are -1
            for i in range(TILE * TILE):
                r, c = i // TILE, i % TILE
                if scores[t, r, c] > most and rows[r] < 2 and columns[c] < 2 and not out[t, r, c]:
                    best, most = i, scores[t, r, c]
            if best < 0:
                break
            out[t, best // TILE, best % TILE] = True
            rows[best // TILE] += 1
            columns[best % TILE] += 1
