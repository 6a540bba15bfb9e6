"""What a product with a `Sparse24` must return, written from its contract, and operands for it.

`Kept` is a sparse operand in three spellings: the object, the dense array, and which of its elements are kept. `Slow`
is the definition of `fma_oracle` with steps for kept elements alone; `wanted` asks the specification in code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from fma_oracle import Model, bits
from operands import operands

import lowprec as lp
from lowprec import reference

Array = np.ndarray[Any, Any]
PATTERNS = ("2:4", "1:2", "4:8")
GROUP = {"2:4": 4, "1:2": 2, "4:8": 8}
NIBBLES = {"2:4": (0x4, 0x8, 0x9, 0xC, 0xD, 0xE), "1:2": (0x4, 0xE), "4:8": (0x4, 0x8, 0x9, 0xC, 0xD, 0xE)}


class Kept(NamedTuple):
    """A sparse operand."""

    s: Any  # the Sparse24
    dense: Array  # zeros where nothing is kept
    mask: Array  # what is kept, of the dense array's shape
    values: Array  # as given to Sparse24
    indices: Array


def drawn_nibbles(rng: np.random.Generator, shape: tuple[int, ...], pattern: str) -> Array:
    """Return nibbles for rows of `shape`: every legal one, if there is room."""
    rows, length = shape[:-1], shape[-1]
    groups = (*rows, -(-length // GROUP[pattern]))
    count = int(np.prod(groups))
    return np.resize(rng.permuted(np.resize(NIBBLES[pattern], count + 6)), count).reshape(groups)


def places(nibbles: Array, pattern: str) -> Array:
    """Return the k of each kept element along the last axis."""
    table = {n: reference.places_of(n, pattern) for n in NIBBLES[pattern]}
    kept = len(table[0x4])
    found = np.array([table[int(n)] for n in nibbles.flat], int).reshape(*nibbles.shape, kept)
    found += GROUP[pattern] * np.arange(nibbles.shape[-1])[:, None]
    return found.reshape(*nibbles.shape[:-1], kept * nibbles.shape[-1])


def keep(full: Any, pattern: str = "2:4", axis: int = -1, nibbles: Any = None, seed: int = 0) -> Kept:
    """Keep elements of an array as nibbles say (along `axis`, moved last), which are drawn if not given."""
    full = np.moveaxis(np.asarray(full), axis, -1)
    length, group = full.shape[-1], GROUP[pattern]
    if nibbles is None:
        nibbles = drawn_nibbles(np.random.default_rng([seed, *full.shape]), full.shape, pattern)
    nibbles = np.broadcast_to(nibbles, (*full.shape[:-1], -(-length // group)))
    k = places(nibbles, pattern)
    room = np.zeros((*full.shape[:-1], group * nibbles.shape[-1]), full.dtype)
    room[..., :length] = full
    values = np.take_along_axis(room, k, -1)
    mask = np.zeros(room.shape, bool)
    np.put_along_axis(mask, k, True, -1)
    mask = mask[..., :length]
    indices = k % group
    if pattern == "4:8":
        indices = indices[..., ::2] // 2
    dense = np.where(mask, full, np.zeros((), full.dtype))
    values, indices, dense, mask = (np.moveaxis(x, -1, axis) for x in (values, indices.astype(np.uint8), dense, mask))
    s = lp.Sparse24(values, indices, pattern=pattern, axis=axis, length=length)
    return Kept(s, dense, mask, values, indices)


class Slow(Model):
    """The definition: steps for kept elements alone."""

    def __init__(self, first: Any = None, second: Any = None) -> None:
        """Keep the masks of both operands; None: all of it."""
        self.masks = first, second

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        """Return the batched 2-D product; a step that is not kept does nothing."""
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        first, second = self.masks
        first = np.ones(a.shape, bool) if first is None else first[None] if first.ndim == 1 else first
        second = np.ones(b.shape, bool) if second is None else second[:, None] if second.ndim == 1 else second
        first, second = np.broadcast_to(first, a.shape), np.broadcast_to(second, b.shape)
        r = self.start(c, shape, dtype)
        for k in self.order(a.shape[-1]):
            step = self.fma(a[..., :, k, None], b[..., None, k, :], r)
            r = np.where(first[..., :, k, None] & second[..., None, k, :], step, r)
        return self.finish(r, c)

    def after_each_k(self, a: Array, b: Array) -> Iterator[Array]:
        """Yield the float32 product of the first 0, 1, 2, ... elements of K."""
        mask, _ = self.masks
        r = np.zeros((a.shape[0], b.shape[1]), np.float32)
        yield r
        for k in range(a.shape[1]):
            r = np.where(mask[:, k, None], self.fma(a[:, k, None], b[k], r), r)
            yield self.finish(r, None)


class Product:
    """matmul of fp32 and fp64 sums by the definition, one overridable method per decision."""

    slow: type[Slow] = Slow

    def places(self, s: Any) -> Array:
        """Return the k of each value, the sparse axis last."""
        indices = np.moveaxis(s.indices, s.axis, -1).astype(int)
        found = np.empty(np.moveaxis(s.values, s.axis, -1).shape, int)
        for row in np.ndindex(found.shape[:-1]):
            found[row] = reference.kept_places(indices[row].tolist(), s.pattern)
        return found

    def parts(self, s: Any) -> tuple[Array, Array]:
        """Return the dense array, and which of its elements are kept."""
        values, k = np.moveaxis(s.values, s.axis, -1), self.places(s)
        length = s.shape[s.axis]
        dense = np.zeros((*values.shape[:-1], length + 8), values.dtype)
        mask = np.zeros(dense.shape, bool)
        np.put_along_axis(dense, k, values, -1)
        np.put_along_axis(mask, k, True, -1)
        return np.moveaxis(dense[..., :length], -1, s.axis), np.moveaxis(mask[..., :length], -1, s.axis)

    def __call__(self, a: Any, b: Any, dtype: Any = None, **keywords: Any) -> Array:
        """Return ``a @ b``, either of which may be a Sparse24."""
        (a, first), (b, second) = self.operand(a, -1), self.operand(b, -2)
        if np.asarray(a).dtype.kind in "iu":
            return np.asarray((a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32))
        return self.slow(first, second).matmul(a, b, dtype, **keywords)

    def operand(self, x: Any, summed: int) -> tuple[Any, Any]:
        """Return an operand as a dense array, and what of it is kept; None: all, if another axis is sparse."""
        if not isinstance(x, lp.Sparse24):
            return x, None
        dense, mask = self.parts(x)
        return dense, mask if x.axis == max(0, x.ndim + summed) else None


def code_array(codes: Any, fmt: Any) -> Array:
    """Return codes as an array of the dtype that stores the format."""
    fmt = lp.format(fmt)
    codes = np.asarray(codes).astype(fmt.code_dtype)
    if fmt.name == "tf32":
        codes = codes << 13
    return codes.view(fmt.storage_dtype)


def codes_of(x: Array, fmt: Any) -> list[list[int]]:
    """Return a 2-D array's codes as nested lists."""
    fmt = lp.format(fmt)
    shift = 13 if fmt.name == "tf32" else 0
    return [[code >> shift & (1 << fmt.bits) - 1 for code in row] for row in bits(x).tolist()]


def wanted(kept: Kept, b: Array, model: Any, formats: tuple[Any, Any], c: Any = None, seed: int = 0) -> Array:
    """Return the codes that the specification gives; `kept` and `b` hold numbers of the formats' storage dtypes."""
    pattern = str(kept.s.pattern)
    values, indices = codes_of(kept.values, formats[0]), kept.indices.tolist()
    if c is None and not b.size:
        c = [[0] * b.shape[1]] * len(values)
    found = reference.sparse_matmul(
        model, values, indices, codes_of(b, formats[1]), c, formats=formats, pattern=pattern, seed=seed
    )
    return np.array(found, np.uint64).reshape(kept.values.shape[0], b.shape[1])


def finite(x: Array) -> Array:
    """Return an array with 1 for NaN and for infinities."""
    return np.where(np.isfinite(x), x, np.ones((), x.dtype))


def same_but_zeros(got: Any, want: Any, what: str = "") -> None:
    """Fail unless dtype, shape and all bits agree, but for the signs of zeros."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    zero = np.zeros((), got.dtype)
    np.testing.assert_array_equal(bits(np.where(got == 0, zero, got)), bits(np.where(want == 0, zero, want)), what)


def digest(mm: Callable[..., Any]) -> str:
    """Hash products by the kernels of fp32 and int32 sums: remainders, special values, vectors."""
    found = hashlib.sha256()
    for number, (m, k, n) in enumerate(((9, 67, 101), (8, 132, 17), (25, 30, 3), (33, 261, 1), (2, 12, 48))):
        a, b = operands(("cancelling", "infinite", "nan", "traps", "powers")[number], m, k, n)
        kept = keep(a, PATTERNS[number % 3])
        whole = keep((np.arange(m * k).reshape(m, k) * 37 % 256 - 128).astype(np.int8), PATTERNS[number % 3])
        right = (np.arange(k * n).reshape(k, n) * 91 % 256).astype(np.uint8)
        products = (mm(kept.s, b), mm(kept.s, b[:, 0]), mm(b.T, kept.s.T, c=np.float32(-0.0)), mm(whole.s, right))
        for x in products:
            found.update(f"{x.dtype} {x.shape}".encode() + np.ascontiguousarray(x).tobytes())
    return found.hexdigest()
