"""Exact products of small integers, with zero points and scales: blocking, threads, and the run of the kernels."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _dots, _threads
from lowprec._checks import Array
from lowprec._dots import Dots, Reading
from lowprec._plan import address
from lowprec._product import _offsets
from lowprec._room import PACKED
from lowprec.formats import IntFormat, stored_format
from lowprec.kernels import dot_gemm, gemm
from lowprec.kernels.dot_gemm import Finish
from lowprec.kernels.gemm import Job
from lowprec.kernels.pack_integers import K_BLOCK, Integers

_PACKED_BYTES = 1 << 25  # room for packed B at most
_ALONE = 8_000_000  # multiply-adds up to which the calling thread works alone
_SMALL = 8_000_000  # multiply-adds up to which the products of a batch are shared out whole
_ROW_BLOCK = 256
_PANELS = 4


class _Ends(NamedTuple):
    """What is done to the sums; vectors of words with the batch axes before the last, None for nothing."""

    row_zeros: Array | None = None
    column_zeros: Array | None = None
    row_scales: Array | None = None
    column_scales: Array | None = None
    biases: Array | None = None


def own_format(x: Array, name: str) -> IntFormat:
    """Return the format of an operand of at most 8 bits."""
    fmt = IntFormat(bits=8, is_signed=False) if x.dtype.kind == "b" else stored_format(x.dtype)
    if not isinstance(fmt, IntFormat) or fmt.bits > 8:
        msg = f"`{name}` must hold integers of at most 8 bits, got dtype {x.dtype}; convert it, for example to int8."
        raise TypeError(msg)
    return fmt


def as_bytes(x: Array) -> Array:
    """Return integers that fit in a byte as bytes of which the low bits count, adjacent along one of the last axes."""
    if x.itemsize != 1:
        x = x.astype(np.int32).astype(np.uint8) if x.dtype.kind not in "iub" else x.astype(np.uint8)
    x = x.view(np.uint8)
    fine = (x.strides[-1] == 1 or x.shape[-1] == 1) and x.strides[-2] >= 0
    fine = fine or ((x.strides[-2] == 1 or x.shape[-2] == 1) and x.strides[-1] >= 0)
    return x if fine else np.ascontiguousarray(x)


def _steps(x: Array, along: int) -> tuple[int, int]:
    """Return bytes from row to row and from k to k, where k is the axis ``along``; one of them is 1."""
    row, k = x.strides[-3 - along], x.strides[along]
    if x.shape[along] == 1:
        k = 1 if row != 1 else x.shape[-3 - along]
    if x.shape[-3 - along] == 1 and k != 1:
        row = 1
    return row, k


def _operand(steps: tuple[int, int], rows: int, deep: int, how: Reading, folded: int) -> Integers:
    """Describe an operand but for its addresses."""
    return Integers(0, *steps, rows, deep, how.mask, how.flip, (how.less + folded) % 2**32, 0, 0)


@lru_cache(maxsize=1024)
def _template(
    kernels: Dots,
    shape: tuple[int, int, int],
    steps: tuple[tuple[int, int], tuple[int, int]],
    folded: tuple[int, int],
    row_bytes: int,
    tall: int,
    from_zero: bool,
    zeros: bool,
    scaled: bool,
) -> Array:
    """Return a job's numbers but for all addresses of arrays."""
    (m, n, deep), tile = shape, kernels.shape
    job = Job(
        tile=kernels.tile,
        pack=kernels.pack,
        a=0,
        b=0,
        c=0,
        packed_b=0,
        row_bytes=row_bytes,
        m=m,
        n=n,
        k=_up(deep, kernels.per) // kernels.per,
        from_zero=int(from_zero),
        final=0,
        tile_rows=tile.rows,
        lanes=tile.lanes,
        tile_vectors=tile.vectors,
        item=4,
        k_block=K_BLOCK,
        row_block=tall,
        panel_block=_PANELS,
        tail=tile.lanes,
    )
    left = _operand(steps[0], m, deep, kernels.a, folded[0])
    right = _operand(steps[1], n, deep, kernels.b, folded[1])
    finish = Finish(kernels.steps, deep, int(zeros), 0, 0, 0, 0, int(scaled), 0, 0, 0)
    return np.array((*job, *[0] * gemm.COUNTERS, *left, *right, *finish), np.int64)


_SUMS_A = gemm.A_DATA + Integers._fields.index("sums")
_SUMS_B = gemm.B_DATA + Integers._fields.index("sums")
_ROW_SUMS, _COLUMN_SUMS = (dot_gemm.FINISH + Finish._fields.index(name) for name in ("row_sums", "column_sums"))
_VECTORS = [
    dot_gemm.FINISH + Finish._fields.index(name)
    for name in ("row_zeros", "column_zeros", "row_scales", "column_scales", "biases")
]


def _up(number: int, unit: int) -> int:
    """Round up to a multiple."""
    return -(-number // unit) * unit


class _Run:
    """One shape of product: its kernels, and the numbers of its jobs."""

    def __init__(self, a: Array, b: Array, out: Array, kernels: Dots, ends: _Ends, folded: tuple[int, int]) -> None:
        self.kernels, self.ends = kernels, ends
        self.m, self.deep, self.n = a.shape[-2], a.shape[-1], b.shape[-1]
        self.steps = (_steps(a, -1), _steps(b, -2))
        self.folded, self.row_bytes = folded, out.strides[-2]
        self.groups = _up(self.deep, kernels.per) // kernels.per
        self.blocks = -(-self.groups // K_BLOCK)

    def packed_bytes(self, columns: int) -> int:
        """Return the room of so many packed columns."""
        return self.groups * _up(columns, self.kernels.shape.lanes) * 4

    def numbers(self, columns: int, tall: int, fresh: bool) -> Array:
        """Return the numbers of a job of so many columns."""
        shape = (self.m, columns, self.deep)
        zeros, scaled = self.ends.row_zeros is not None, self.ends.row_scales is not None
        return _template(
            self.kernels, shape, self.steps, self.folded, self.row_bytes, tall, fresh, zeros, scaled
        ).copy()

    def sums(self, numbers: Array, columns: int, count: int = 1) -> Array | None:
        """Make room for the sums of rows and columns of so many jobs, where there are zero points."""
        if self.ends.row_zeros is None:
            return None
        room = np.empty((count, self.blocks * (self.m + columns)), np.int32)
        at = address(room) + np.arange(count) * room.strides[0]
        at = at if count > 1 else at[0]
        numbers[..., _SUMS_A] = numbers[..., _ROW_SUMS] = at
        numbers[..., _SUMS_B] = numbers[..., _COLUMN_SUMS] = at + self.blocks * self.m * 4
        return room


def _one(run: _Run, at: tuple[int, int, int], vectors: list[int], fresh: bool) -> None:
    """Write one product; ``at`` are the addresses of a, b and c, ``vectors`` those of what comes after."""
    m, n, kernels = run.m, run.n, run.kernels
    workers = 1 if m * n * run.deep <= _ALONE else _threads.get_num_threads()
    columns = min(n, max(1, _PACKED_BYTES // (run.groups * 4 * kernels.shape.columns)) * kernels.shape.columns)
    tall = min(m, _ROW_BLOCK) if workers == 1 else min(_ROW_BLOCK, -(-m // (4 * workers)))
    packed = PACKED.borrow(run.packed_bytes(columns) + 64)
    for first in range(0, n, columns):
        part = min(columns, n - first)
        numbers = run.numbers(part, _up(max(1, tall), kernels.shape.rows), fresh)
        numbers[gemm.A_DATA] = at[0]
        numbers[gemm.B_DATA] = at[1] + first * run.steps[1][0]
        numbers[gemm.C] = at[2] + 4 * first
        numbers[gemm.PACKED_B] = (address(packed) + 63) // 64 * 64
        for place, name, where in zip(_VECTORS, _Ends._fields, vectors, strict=True):
            numbers[place] = where if name.startswith("row") else where + 4 * first
        room = run.sums(numbers, part)
        _threads.share(lambda numbers=numbers: dot_gemm.dot_gemm(numbers), workers)  # type: ignore[misc]
        del room
    PACKED.give_back(packed)


def _many(run: _Run, a: Array, b: Array, out: Array, fresh: bool) -> None:
    """Write the products of a batch of small matrices, each done by one thread."""
    count = math.prod(out.shape[:-2])
    tall = _up(min(run.m, _ROW_BLOCK), run.kernels.shape.rows)
    jobs = np.tile(run.numbers(run.n, tall, fresh), (count, 1))
    for place, x in ((gemm.A_DATA, a), (gemm.B_DATA, b), (gemm.C, out)):
        jobs[:, place] = address(x) + _offsets(x)
    for place, vector in zip(_VECTORS, run.ends, strict=True):
        if vector is not None:
            jobs[:, place] = address(vector) + _offsets(vector[..., np.newaxis, :])
    room = run.sums(jobs, run.n, count)
    claimed = np.zeros(1, np.int64)
    workers = 1 if count * run.m * run.n * run.deep <= _ALONE else min(count, _threads.get_num_threads())
    size = run.packed_bytes(run.n)
    _threads.share(lambda: dot_gemm.dot_gemm_many(jobs, claimed, size), workers)
    del room


def sums(a: Array, b: Array, out: Array, kernels: Dots, ends: _Ends, folded: tuple[int, int], fresh: bool) -> None:
    """Write products of bytes to a C-contiguous array of words, on top of what it holds unless ``fresh``; K > 0."""
    if not out.size:
        return
    if out.ndim > 2 and math.prod(out.shape[:-2]) == 1:
        a, b, out = (x.reshape(x.shape[-2:]) for x in (a, b, out))
        ends = _Ends(*[None if x is None else x.reshape(x.shape[-1]) for x in ends])
    batch = out.shape[:-2]
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    lengths = [out.shape[-2] if name.startswith("row") else out.shape[-1] for name in _Ends._fields]
    spread: list[Array | None] = [
        None if x is None else np.broadcast_to(x, (*batch, length)) for x, length in zip(ends, lengths, strict=True)
    ]
    ends = _Ends(*spread)
    run = _Run(a, b, out, kernels, ends, folded)
    if batch and run.m * run.n * run.deep <= _SMALL:
        _many(run, a, b, out, fresh)
        return
    for index in np.ndindex(batch):
        vectors = [0 if x is None else address(x[index]) for x in ends]
        _one(run, (address(a[index]), address(b[index]), address(out[index])), vectors, fresh)


def _vector(x: Any, dtype: type, length: int, axes: int) -> Array:
    """Return a scalar, or a vector for every matrix of a batch, with its last axis adjacent and of a full length."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        array = array.astype(np.float32 if dtype is np.float32 else np.int32)
    if dtype is np.uint32:
        array = (array.astype(np.int64) if array.dtype != np.uint64 else array).astype(np.uint32)
    else:
        array = array.astype(dtype, copy=False)
    shape = (*array.shape[:-1], length) if array.ndim else (length,)
    whole = np.ascontiguousarray(np.broadcast_to(array, shape))
    return whole.reshape((1,) * (axes - whole.ndim) + whole.shape)


def _zero(x: Any) -> int | None:
    """Return a zero point that is one number, 0 for none; None where there are several."""
    if x is None:
        return 0
    array = np.asarray(x)
    return int(array.reshape(())[()]) if array.size == 1 else None


def product(
    a: Array,
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
    """Return ``start + sum over k of (a[i, k] - zero_a[i]) (b[k, j] - zero_b[j])`` modulo 2**32, scaled if asked for.

    With a scale or a bias the result is float32: the sum rounded to float32, times
    ``float32(row_scale[i] * column_scale[j])``, plus ``bias[j]``, each step rounded once to nearest even; a scale that
    is not given is 1, and without a bias nothing is added.

    Parameters
    ----------
    a, b : ndarray, shapes (..., M, K) and (..., K, N)
        Integers of at most 8 bits in any pairing, in their storage dtype (also ml_dtypes'), any layout; leading axes
        broadcast.
    zero_a, row_scale : scalar or array_like, shape (..., M), optional
        For each row of `a`.
    zero_b, column_scale, bias : scalar or array_like, shape (..., N), optional
        For each column of `b`.
    start : ndarray of integers, optional
        Broadcasts to the result.
    out : ndarray, optional
        Where to put the result.
    formats : pair of IntFormat, optional
        What `a` and `b` hold, if that is narrower than their dtypes say.

    Returns
    -------
    ndarray, shape (..., M, N)
        int32, or float32.

    Raises
    ------
    TypeError
        If an operand has more than 8 bits or holds no integers.
    ValueError
        If shapes do not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec._integer_product import product
    >>> a, b = np.array([[1, -128]], np.int8), np.array([[255], [255]], np.uint8)
    >>> product(a, b, zero_b=128)
    array([[-16129]], dtype=int32)
    """
    fmt_a, fmt_b = formats or (own_format(a, "a"), own_format(b, "b"))
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, n, axes = a.shape[-2], b.shape[-1], len(batch) + 1
    kernels = _dots.choose(fmt_a, fmt_b, _dots.way())
    scaled = not (row_scale is None and column_scale is None and bias is None)
    shape = (*batch, m, n)
    dtype = np.dtype(np.float32 if scaled else np.int32)
    direct = out is not None and out.flags.c_contiguous and out.dtype == dtype and out.shape == shape
    result = cast(Array, out) if direct else np.empty(shape, dtype)
    words = result.view(np.int32)
    if start is not None:
        words[...] = np.asarray(start).astype(np.int64).astype(np.uint32).view(np.int32)
    folded = [0, 0]
    zeros: list[Array] = []
    for side, (zero, how, length) in enumerate(((zero_a, kernels.a, m), (zero_b, kernels.b, n))):
        one = _zero(zero)
        if kernels.folds and one is not None and abs(one) <= 1 << 14:
            folded[side] = one
        left = 0 if zero is None or folded[side] else zero
        zeros.append(_vector(left, np.uint32, length, axes) - np.uint32(how.offset % 2**32))
    corrected = any(z.any() for z in zeros)
    ends = _Ends(
        *(zeros if corrected else (None, None)),
        *(
            (
                _vector(1 if row_scale is None else row_scale, np.float32, m, axes),
                _vector(1 if column_scale is None else column_scale, np.float32, n, axes),
                _vector(-0.0 if bias is None else bias, np.float32, n, axes),
            )
            if scaled
            else ()
        ),
    )
    if not a.shape[-1]:
        _without_products(words, result, ends, start is None)
    elif result.size:
        x, y = as_bytes(a), as_bytes(b)
        sums(x, y, words, kernels, ends, (folded[0], folded[1]), start is None)
    if direct or out is None:
        return result
    out[...] = result
    return out


def _without_products(words: Array, result: Array, ends: _Ends, fresh: bool) -> None:
    """Finish sums of nothing."""
    if fresh:
        words[...] = 0
    if ends.row_scales is not None:
        scales = ends.row_scales[..., np.newaxis] * cast(Array, ends.column_scales)[..., np.newaxis, :]
        result[...] = words.astype(np.float32) * scales + cast(Array, ends.biases)[..., np.newaxis, :]
