"""Exact products of sparse rows of small integers with a matrix: blocking, threads, and the run of the kernels.

An instruction takes four k, where the dense product's takes two 16-bit integers of a word. Where the CPU has VPDPBUSD,
the dense product's takes four as well, so that no gain is to be expected there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _dots, _integer_product, _jit, _threads
from lowprec._checks import Array
from lowprec._dots import Reading
from lowprec._integer_product import _steps, _up, _vector, as_bytes, own_format
from lowprec._patterns import ONE_OF_TWO, PLACES
from lowprec._plan import address
from lowprec._room import PACKED
from lowprec._sparse_rows import SparseRows, columns_kept
from lowprec.formats import IntFormat
from lowprec.kernels import gemm, pack_pairs, sparse_dot_gemm, sparse_dot_rows, sparse_dots
from lowprec.kernels.gemm import Job
from lowprec.kernels.pack_integers import Integers
from lowprec.kernels.pack_pairs import Kept
from lowprec.kernels.sparse_dot_gemm import Scaling
from lowprec.kernels.sparse_dot_rows import Columns

_PACKED_BYTES = 1 << 25  # room for packed B at most
_ALONE = 4_000_000  # multiply-adds of kept numbers up to which the calling thread works alone
_PANEL_BYTES = 24 << 10  # of a panel of B, which has to stay in the first-level cache
_PART = 256  # groups of four k whose kept numbers are packed together
_ROW_BLOCK = 256
_PANELS = 4
_FARTHEST = 1 << 14  # a zero point so far from 0 can be subtracted in 16 bits
_SPARE = 256  # words beyond those of columns
_FEW = 4  # columns up to which kept numbers are not packed
_PIECE = 64  # rows that a thread then takes at once
_FLAG = IntFormat(bits=1, is_signed=False)


class _Kind(NamedTuple):
    """What a panel of B holds for each group."""

    group: int
    pairs: int  # of kept numbers
    lines: int

    @property
    def item(self) -> int:
        """Bytes of a column of a group."""
        return 4 * self.lines


_FOURS, _EIGHTS = _Kind(4, 1, pack_pairs.CHOSEN), _Kind(8, 2, 2 * pack_pairs.BESIDE)


class _Cut(NamedTuple):
    """How a product is cut; k counts groups."""

    columns: int  # of a chunk whose packed B fits its room
    deep: int  # groups of such a chunk
    k_block: int
    part: int
    vectors: int  # of a panel
    tall: int  # rows of a piece
    packed: int  # bytes of packed B


@lru_cache(maxsize=512)
def _cut(m: int, n: int, groups: int, kind: _Kind, lanes: int, workers: int) -> _Cut:
    """Choose how a product is cut: panels of equal width, and blocks of k that fill what a panel may have."""
    most = sparse_dots.SHAPES[lanes].vectors
    count = -(-n // lanes)
    vectors = -(-count // -(-count // most))
    width = vectors * lanes
    k_block = max(4, min(64, _PANEL_BYTES // (kind.item * width)) // 4 * 4)
    part = max(1, _PART * 4 // (kind.group * k_block)) * k_block
    deep = min(groups, max(1, _PACKED_BYTES // (part * kind.item * width)) * part)
    columns = min(n, max(1, _PACKED_BYTES // (deep * kind.item * width)) * width)
    tall = max(1, min(m, _ROW_BLOCK, -(-m // (4 * workers)) if workers > 1 else m))
    packed = deep * _up(columns, width) * kind.item
    return _Cut(columns, deep, k_block, min(part, _up(groups, 4)), vectors, tall, packed)


@lru_cache(maxsize=64)
def _table(kind: _Kind, line: int) -> Array:
    """Return for each byte of two codes how far into a panel the lines of both groups' pairs lie."""
    places = np.zeros((16, kind.pairs), np.uint32)
    for index, (code, pair) in enumerate(PLACES.items()):
        places[code] = pair if kind.pairs == 2 else index
    codes = np.arange(256)
    both = np.concatenate([places[codes & 15], places[codes >> 4] + np.uint32(kind.lines)], axis=1)
    return np.ascontiguousarray((both * np.uint32(line)).astype(np.uint16)).view(np.uint32)


class _Rows(NamedTuple):
    """Sparse rows as the kernels take them: bytes, and codes of "2:4" or "4:8"."""

    kind: _Kind
    values: Array
    nibbles: Array
    mask: int
    flip: int
    lesses: Array  # a word to subtract for each row


class _Matrix(NamedTuple):
    """The other operand."""

    data: Array  # bytes (K, N), adjacent along one axis
    mask: int
    flip: int
    lesses: Array  # a word for each column, and for a panel's width of columns beyond


class _Ends(NamedTuple):
    """What the sums are multiplied by and what is added, float32."""

    row_scales: Array
    column_scales: Array
    biases: Array


@lru_cache(maxsize=1)
def _halves() -> Array:
    """Return for two bytes of codes of "1:2" that of "2:4": two groups are one, which keeps a number of each half."""
    pairs = np.arange(256)
    second = [(pairs >> shift & 15 == ONE_OF_TWO[1]).astype(np.uint8) for shift in (0, 4)]
    codes = second[0] | second[1] << 2 | np.uint8(8)
    both: Array = codes | codes[:, np.newaxis] << 4
    return both.ravel()


def _way() -> tuple[str, int]:
    """Return the way to go, and the lanes of its vectors."""
    ways = _dots.can()
    way = "maddwd" if _dots.way() in ("vnni", "maddwd") and "maddwd" in ways else "plain"
    return way, ways[way]


def _two_of_four(nibbles: Array, values: Array) -> tuple[Array, Array]:
    """Return values and codes of "1:2" as those of "2:4"."""
    odd = nibbles.shape[1] % 2, values.shape[1] % 2
    nibbles = np.pad(nibbles, ((0, 0), (0, 1))) if odd[0] else np.ascontiguousarray(nibbles)
    values = np.pad(values, ((0, 0), (0, 1))) if odd[1] else values
    return values, _halves()[nibbles.view("<u2")]


def _rows(rows: SparseRows, reading: Reading, zero: Any) -> _Rows:
    """Return sparse rows as the kernels take them."""
    values, nibbles = as_bytes(rows.values), cast(Array, rows.nibbles)
    if rows.group == 2:
        values, nibbles = _two_of_four(nibbles, values)
    values, nibbles = (x if x.strides[1] == 1 else np.ascontiguousarray(x) for x in (values, nibbles))
    lesses = _vector(0 if zero is None else zero, np.uint32, len(values), 1) + np.uint32(reading.less)
    return _Rows(_EIGHTS if rows.group == 8 else _FOURS, values, nibbles, reading.mask, reading.flip, lesses)


def _matrix(b: Array, reading: Reading, zero: Any) -> _Matrix:
    """Return the other operand as the kernels take it."""
    lesses = np.zeros(b.shape[1] + _SPARE, np.uint32)
    lesses[: b.shape[1]] = _vector(0 if zero is None else zero, np.uint32, b.shape[1], 1)
    return _Matrix(as_bytes(b), reading.mask, reading.flip, lesses + np.uint32(reading.less))


def _multiply(a: _Rows, b: _Matrix, out: Array, deep: int, ends: _Ends | None, fresh: bool) -> None:
    """Write a product to words (M, N), on top of what they hold unless ``fresh``."""
    (m, n), kind, (way, lanes) = out.shape, a.kind, _way()
    groups = -(-deep // kind.group)
    workers = 1 if m * n * kind.pairs * 2 * groups <= _ALONE else _threads.get_num_threads()
    cut = _cut(m, n, groups, kind, lanes, workers)
    line = 4 * cut.vectors * lanes
    table, steps = _table(kind, line), _steps(b.data, -2)
    tile = _jit.address(sparse_dots.TILES[way, lanes], sparse_dots.SIGNATURE)
    pack = _jit.address(pack_pairs.pack_pairs, pack_pairs.SIGNATURE)
    packed = PACKED.borrow(cut.packed + 64)
    for first in range(0, n, cut.columns):
        for begin in range(0, groups, cut.deep):
            part, count = min(cut.columns, n - first), min(cut.deep, groups - begin)
            last = begin + count == groups
            job = Job(
                tile=tile,
                pack=pack,
                a=0,
                b=0,
                c=address(out) + 4 * first,
                packed_b=_up(address(packed), 64),
                row_bytes=out.strides[0],
                m=m,
                n=part,
                k=count,
                from_zero=int(fresh and begin == 0),
                final=int(last),
                tile_rows=1,
                lanes=lanes,
                tile_vectors=cut.vectors,
                item=kind.item,
                k_block=cut.k_block,
                row_block=cut.tall,
                panel_block=_PANELS,
                tail=cut.vectors * lanes,
            )
            left = Kept(
                address(a.values) + begin * kind.pairs * 2,
                a.values.strides[0],
                address(a.nibbles) + begin // 2,
                a.nibbles.strides[0],
                a.mask,
                a.flip,
                address(a.lesses),
                kind.pairs,
                address(table),
                2 * kind.lines * line,
            )
            right = Integers(
                address(b.data) + begin * kind.group * steps[1] + first * steps[0],
                *steps,
                part,
                min(count * kind.group, deep - begin * kind.group),
                b.mask,
                b.flip,
                0,
                address(b.lesses) + 4 * first,
                kind.group // 4,
            )
            scales = [0] * 3 if ends is None else [address(x) for x in ends]
            scaling = Scaling(cut.part, int(last and ends is not None), scales[0], *(x + 4 * first for x in scales[1:]))
            numbers = np.array((*job, *[0] * gemm.COUNTERS, *left, *right, *scaling), np.int64)
            _threads.share(lambda numbers=numbers: sparse_dot_gemm.sparse_dot_gemm(numbers), workers)  # type: ignore[misc]
    PACKED.give_back(packed)


def _multiply_columns(a: _Rows, b: _Matrix, out: Array, deep: int, ends: _Ends | None, fresh: bool) -> None:
    """Do the same for few columns."""
    m, n = out.shape
    workers = 1 if m * n * deep <= 2 * _ALONE else _threads.get_num_threads()
    columns = np.ascontiguousarray((b.data & np.uint8(b.mask) ^ np.uint8(b.flip)).T)
    row_scales, column_scales, biases = (0, 0, 0) if ends is None else (address(x) for x in ends)
    numbers = Columns(
        address(a.values),
        a.values.strides[0],
        address(a.nibbles),
        a.nibbles.strides[0],
        a.mask,
        a.flip,
        address(a.lesses),
        address(columns),
        columns.shape[1],
        address(b.lesses),
        address(out),
        out.strides[0],
        m,
        n,
        deep,
        int(fresh),
        int(ends is not None),
        row_scales,
        column_scales,
        biases,
        _PIECE,
        0,
    )
    job = np.array(numbers, np.int64)
    kernel = sparse_dot_rows.WAYS[_way()[0]]
    _threads.share(lambda: kernel(job), workers)


def _expanded(rows: SparseRows, b: Array, zero_a: Any, zero_b: Any, formats: tuple[IntFormat, IntFormat]) -> Array:
    """Return the sums by dense products, for places and zero points that the kernels do not take: right, not fast."""
    shape, listed = (len(rows.values), rows.k + 1), np.minimum(columns_kept(rows)[0], rows.k)
    dense, there = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    np.put_along_axis(dense, listed, as_bytes(rows.values), 1)
    result = _integer_product.product(dense[:, :-1], b, zero_b=zero_b, formats=formats)
    if zero_a is None or not np.any(zero_a):
        return result
    # The zero point is taken from the kept numbers only: times the sums of the rows of `b` that they meet.
    np.put_along_axis(there, listed, 1, 1)
    met = _integer_product.product(there[:, :-1], b, zero_b=zero_b, formats=(_FLAG, formats[1]))
    zeros = _vector(zero_a, np.uint32, shape[0], 1)[:, np.newaxis]
    return cast(Array, (result.view(np.uint32) - zeros * met.view(np.uint32)).view(np.int32))


def _is_far(zero: Any) -> bool:
    """Say whether a number less a zero point may not fit in 16 bits."""
    if zero is None:
        return False
    array = np.asarray(zero)
    array = array if array.dtype.kind in "fiub" else array.astype(np.int32)
    return bool(((array > _FARTHEST) | (array < -_FARTHEST)).any())


def product(
    rows: SparseRows,
    b: Array,
    *,
    zero_a: Any = None,
    zero_b: Any = None,
    start: Array | None = None,
    out: Array | None = None,
    row_scale: Any = None,
    column_scale: Any = None,
    bias: Any = None,
    formats: tuple[IntFormat, IntFormat] | None = None,
) -> Array:
    """Return ``start + sum over kept k of (a[i, k] - zero_a[i]) (b[k, j] - zero_b[j])`` modulo 2**32, or that scaled.

    What is not kept is not seen: it counts as ``zero_a[i]``. With a scale or a bias the result is float32: the sum
    rounded to float32, times ``float32(row_scale[i] * column_scale[j])``, plus ``bias[j]``, each step rounded once to
    nearest even; a scale that is not given is 1, and without a bias nothing is added.

    Parameters
    ----------
    rows : SparseRows
        M rows of K, whose values are integers of at most 8 bits in their storage dtype (also ml_dtypes').
    b : ndarray, shape (K, N)
        Such integers, in any layout.
    zero_a, row_scale : scalar or array_like, shape (M,), optional
        For each row of `rows`.
    zero_b, column_scale, bias : scalar or array_like, shape (N,), optional
        For each column of `b`.
    start : ndarray of integers, optional
        Broadcasts to the result.
    out : ndarray, shape (M, N), optional
        Where to put the result.
    formats : pair of IntFormat, optional
        What `rows` and `b` hold, if that is narrower than their dtypes say.

    Returns
    -------
    ndarray, shape (M, N)
        int32, or float32.

    Raises
    ------
    TypeError
        If an operand has more than 8 bits or holds no integers.
    ValueError
        If zero points, scales or `start` do not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec._patterns import pattern_of
    >>> from lowprec._sparse_integer_product import product
    >>> from lowprec._sparse_rows import SparseRows, columns_kept
    >>> values, codes = np.array([[1, -128]], np.int8), np.array([[0xD]], np.uint8)
    >>> rows = SparseRows(values, k=4, kept=2, group=4, nibbles=codes, pattern=pattern_of("2:4"))
    >>> product(rows, np.array([[7], [255], [7], [255]], np.uint8), zero_b=128)
    array([[-16129]], dtype=int32)
    """
    fmt_a, fmt_b = formats or (own_format(rows.values, "rows"), own_format(b, "b"))
    m, n = rows.values.shape[0], b.shape[1]
    ends: _Ends | None = None
    if not (row_scale is None and column_scale is None and bias is None):
        ends = _Ends(
            _vector(1 if row_scale is None else row_scale, np.float32, m, 1),
            _vector(1 if column_scale is None else column_scale, np.float32, n, 1),
            _vector(-0.0 if bias is None else bias, np.float32, n, 1),
        )
    dtype = np.dtype(np.int32 if ends is None else np.float32)
    direct = out is not None and out.flags.c_contiguous and out.dtype == dtype and out.shape == (m, n)
    result = cast(Array, out) if direct else np.empty((m, n), dtype)
    words = result.view(np.int32)
    if start is not None:
        words[...] = np.asarray(start).astype(np.int64).astype(np.uint32).view(np.int32)
    if rows.listed is not None or not rows.k or _is_far(zero_a) or _is_far(zero_b):
        total = _expanded(rows, b, zero_a, zero_b, (fmt_a, fmt_b)).view(np.uint32)
        total += np.uint32(0) if start is None else words.view(np.uint32)
        words[...] = total.view(np.int32)
        if ends is not None:
            scales = ends.row_scales[:, np.newaxis] * ends.column_scales
            result[...] = words.astype(np.float32) * scales + ends.biases
    elif result.size:
        left, right = _rows(rows, _dots._value(fmt_a), zero_a), _matrix(b, _dots._value(fmt_b), zero_b)
        few = n <= _FEW and left.kind is _FOURS
        (_multiply_columns if few else _multiply)(left, right, words, rows.k, ends, start is None)
    if direct or out is None:
        return result
    out[...] = result
    return out
