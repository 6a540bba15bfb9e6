"""What conv2d must return, written from its contract, and the checks that it and wrong versions of it are put to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from fma_oracle import NAN32, ORACLE, Array, assert_same_bits
from operands import operands

from lowprec import reference

Sides = tuple[tuple[int, int], tuple[int, int]]
NOTHING: Sides = ((0, 0), (0, 0))


class Slow:
    """What conv2d must return, one overridable method per decision."""

    def patches(self, x: Array, kernel: tuple[int, int], stride: Any, sides: Sides, dilation: Any) -> Array:
        """Return all patches, shape (images, channels, kernel rows, kernel columns, rows, columns)."""
        padded = np.pad(x, ((0, 0), (0, 0), *sides))
        places = [
            [start * step for start in range((size - spread * (length - 1) - 1) // step + 1)]
            for size, step, spread, length in zip(padded.shape[2:], stride, dilation, kernel, strict=True)
        ]
        found = np.empty((*x.shape[:2], *kernel, *map(len, places)), x.dtype)
        for i, j in np.ndindex(*kernel):
            rows, columns = np.add(places[0], i * dilation[0]), np.add(places[1], j * dilation[1])
            found[:, :, i, j] = padded[:, :, rows[:, None], columns]
        return found

    def matrices(self, patches: Array, w: Array, groups: int) -> tuple[Array, Array]:
        """Return weights (groups, outputs, k) and patches (images, groups, k, positions)."""
        images, channels, height, width = patches.shape[:4]
        depth = channels // groups * height * width
        read = patches.reshape(images, groups, depth, patches.shape[4] * patches.shape[5])
        return w.reshape(groups, w.shape[0] // groups, depth), read

    def operands(self, x: Any, w: Any, dtype: Any, accumulator: Any, policies: dict[str, Any]) -> Any:
        """Return both operands rounded, each element once, and the accumulator's dtype."""
        return ORACLE.operands(x, w, dtype, accumulator, policies)

    def start(self, c: Any, bias: Any, shape: tuple[int, ...]) -> Any:
        """Return where the sums start."""
        return None if c is None else np.broadcast_to(c, shape)

    def end(self, r: Array, bias: Any) -> Array:
        """Return the finished sums with the bias."""
        if bias is None:
            return r
        with np.errstate(all="ignore"):
            r = r + np.asarray(bias).astype(r.dtype).reshape(-1, 1, 1)
        return np.where(np.isnan(r), r.dtype.type(np.nan), r)

    def __call__(
        self,
        x: Any,
        w: Any,
        bias: Any = None,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: Sides = NOTHING,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        dtype: Any = None,
        accumulator: Any = None,
        c: Any = None,
        out_dtype: Any = None,
        **policies: Any,
    ) -> Array:
        """Return the layer's result."""
        single = np.ndim(x) == 3
        a, b, total = self.operands(x, w, dtype, accumulator, policies)
        read = self.patches(a[None] if single else a, b.shape[2:], stride, padding, dilation)
        shape = (read.shape[0], b.shape[0], *read.shape[4:])
        begin = self.start(c, bias, shape)
        left, right = self.matrices(read, b, groups)
        if begin is not None:
            begin = begin.reshape(shape[0], groups, shape[1] // groups, shape[2] * shape[3])
        r = self.end(ORACLE.product(left, right, begin, total).reshape(shape), bias)
        return ORACLE.result(r[0] if single else r, out_dtype, policies)


SLOW = Slow()


def layer(shape: tuple[int, ...], weights: tuple[int, ...], kind: str = "normal", seed: int = 0) -> tuple[Array, Array]:
    """Return float32 images and weights of one kind of operands."""
    rows, depth = weights[0], int(np.prod(weights[1:]))
    some = max(1, -(-int(np.prod(shape)) // max(1, depth)))
    w, x = operands(kind, rows, depth, some, seed)
    return np.resize(x.T, shape), w.reshape(weights)


# images, weights, stride, padding, dilation, groups
GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, int], Sides, tuple[int, int], int]] = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), NOTHING, (1, 1), 1),
    ((2, 3, 5, 6), (4, 3, 3, 3), (1, 1), NOTHING, (1, 1), 1),
    ((3, 5, 6), (4, 3, 2, 4), (1, 1), NOTHING, (1, 1), 1),
    ((2, 3, 5, 6), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 3, 5, 6), (4, 3, 3, 2), (1, 1), ((1, 2), (3, 0)), (1, 1), 1),
    ((2, 3, 9, 8), (4, 3, 3, 3), (2, 3), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 3, 9, 8), (4, 3, 2, 3), (3, 2), ((0, 1), (5, 5)), (2, 3), 1),
    ((2, 3, 7, 7), (4, 3, 3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    ((2, 4, 5, 6), (6, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    ((2, 6, 5, 5), (6, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    ((2, 3, 5, 5), (9, 1, 3, 3), (2, 1), ((1, 0), (0, 1)), (1, 2), 3),
    ((2, 7, 4, 5), (5, 7, 1, 1), (1, 1), NOTHING, (1, 1), 1),
    ((7, 40, 30), (5, 7, 1, 1), (1, 1), NOTHING, (1, 1), 1),  # an image is its own matrix
    ((2, 6, 40, 30), (4, 3, 1, 1), (1, 1), NOTHING, (1, 1), 2),
    ((2, 7, 4, 5), (5, 7, 1, 1), (2, 2), ((1, 1), (0, 0)), (1, 1), 1),
    ((2, 3, 4, 5), (5, 3, 4, 5), (1, 1), NOTHING, (1, 1), 1),  # one position
    ((2, 3, 2, 2), (5, 3, 3, 3), (7, 7), ((9, 9), (9, 9)), (4, 4), 1),  # most patches hold padding alone
    ((3, 2, 3, 70), (4, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 2, 1, 200), (3, 2, 1, 9), (1, 4), ((0, 0), (4, 4)), (1, 1), 1),
]


# --------------------------------------------------------------------------------------------------------------- checks
def check_geometry(conv2d: Callable[..., Array], number: int) -> None:
    """One set of shapes."""
    shape, weights, stride, sides, dilation, groups = GEOMETRIES[number]
    x, w = layer(shape, weights)
    keywords = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups, "dtype": "bf16"}
    assert_same_bits(conv2d(x, w, **keywords), SLOW(x, w, **keywords), str(GEOMETRIES[number]))


def check_kind(conv2d: Callable[..., Array], kind: str, dtype: Any = "bf16") -> None:
    """Values that tie, cancel, overflow, or are no numbers; with them the order of the sum is seen."""
    x, w = layer((2, 6, 5, 7), (8, 3, 3, 3), kind)
    c, bias = layer((2, 8, 5, 7), (8, 1, 1, 1), "normal", 1)
    keywords = {"padding": ((1, 1), (1, 1)), "groups": 2, "dtype": dtype}
    for b, start in itertools.product((None, np.abs(bias.reshape(8))), (None, c)):
        assert_same_bits(conv2d(x, w, b, c=start, **keywords), SLOW(x, w, b, c=start, **keywords), f"{kind} {dtype}")


def check_order(conv2d: Callable[..., Array]) -> None:
    """Channel, kernel row, kernel column: in binary32 the ones before 2**24 count, most of those after it are lost."""
    ones = np.ones((1, 2, 3, 2), np.float32)
    for place in np.ndindex(2, 3, 2):
        w = ones.copy()
        w[(0, *place)] = 2.0**24
        want = np.float32(reference.dot([1.0] * 12, w.ravel().tolist()))
        assert_same_bits(conv2d(ones, w, dtype="fp32"), want.reshape(1, 1, 1, 1), str(place))


def check_bias_last(conv2d: Callable[..., Array]) -> None:
    """2**24 + 1 + 1 is 2**24 in binary32 from the left, 2**24 + 2 with the bias last."""
    x, w = np.ones((1, 2, 1, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    got = conv2d(x, w, np.float32([2.0**24]), dtype="bf16")
    assert_same_bits(got, np.float32([[[[2.0**24 + 2]]]]))


def check_stochastic(conv2d: Callable[..., Array]) -> None:
    """Every element draws once, by its index in its own array."""
    x, w = layer((2, 4, 6, 5), (6, 2, 3, 3))
    x[1] = x[0]
    for out_dtype, dtype in itertools.product((None, "bf16", "e4m3fn", "e2m1fn"), ("e4m3fn", ("bf16", "e5m2"))):
        keywords = {"dtype": dtype, "out_dtype": out_dtype, "rounding": "stochastic", "rng": 11, "random_bits": 9}
        keywords |= {"padding": ((1, 1), (1, 1)), "groups": 2}
        assert_same_bits(conv2d(x, w, **keywords), SLOW(x, w, **keywords), f"{dtype} {out_dtype}")


def check_padding_is_zero(conv2d: Callable[..., Array]) -> None:
    """Add padding, which is +0, like any other element: times infinity it is NaN, and -0 from `c` becomes +0."""
    x, w = np.full((1, 1, 2, 2), -1.0, np.float32), np.full((1, 1, 1, 2), np.inf, np.float32)
    got = conv2d(x, w, padding=((0, 0), (1, 0)), dtype="bf16")
    assert_same_bits(got, np.float32([[[[NAN32, -np.inf]] * 2]]))
    start = np.full((1, 1, 1, 3), -0.0, np.float32)
    w = np.float32([[[[1.0]]]])
    got = conv2d(np.full((1, 1, 1, 1), -0.0, np.float32), w, padding=((0, 0), (1, 1)), dtype="bf16", c=start)
    assert_same_bits(got, np.float32([[[[0.0, -0.0, 0.0]]]]))
