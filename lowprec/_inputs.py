"""Inputs that are built to tell sums apart: rows of a, columns of b and addends for a pair of formats."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec.codec import round_to
from lowprec.formats import FloatFormat, IntFormat

_CUTS = (10, 11, 12, 13, 14, 15, 22, 23, 24, 25, 26, 27, 31, 32, 35)  # bits below the largest term that designs cut at


class Inputs(NamedTuple):
    """Rows for `vecdot`: what sums over the last axis, the addends, and the kind of each row."""

    a: Array
    b: Array
    c: Array
    kinds: list[str]


class _Maker:
    """Draws rows for a pair of formats."""

    def __init__(self, formats: tuple[FloatFormat, FloatFormat], k: int, seed: int) -> None:
        self.formats, self.k = formats, k
        self.rng = np.random.default_rng(seed)
        self.high = [math.frexp(min(fmt.max, 2.0**120))[1] - 2 for fmt in formats]
        self.low = [max(fmt.emin, -100) for fmt in formats]
        self.deep = [max(fmt.emin - fmt.mantissa_bits, -100) for fmt in formats]

    def round(self, x: Array, which: int) -> Array:
        """Round to a format, no further than its largest numbers."""
        fmt = self.formats[which]
        limit = min(fmt.max, 2.0**120)
        return np.asarray(round_to(np.clip(x, -limit, limit), fmt), np.float64)

    def significands(self, *shape: int) -> Array:
        """Return random numbers in [1, 2) with signs."""
        return np.asarray(self.rng.uniform(1, 2, shape) * self.rng.choice([-1.0, 1.0], shape))

    def powers(self, e: Array, *, subnormal: bool = False) -> tuple[Array, Array]:
        """Return factors of 2**e, as equal as the formats let them be."""
        low = self.deep if subnormal else self.low
        x = np.clip(e // 2, low[0], self.high[0])
        y = np.clip(e - x, low[1], self.high[1])
        x = np.clip(e - y, low[0], self.high[0])
        return np.ldexp(1.0, x.astype(int)), np.ldexp(1.0, y.astype(int))

    def some(self, rows: int, used: int) -> Array:
        """Return a mask with a few places of every row set."""
        order = np.argsort(self.rng.random((rows, self.k)), axis=1)
        return order < self.rng.integers(1, used + 1, (rows, 1))

    def ranks(self, rows: int) -> Array:
        """Return a random order of the places of every row, one that starts with neighbours in a block."""
        size = np.minimum(self.rng.choice([2, 4, 8, 16, self.k], (rows, 1)), self.k)
        block = self.rng.integers(0, -(-self.k // size), (rows, 1))
        outside = np.arange(self.k) // size != block
        return np.argsort(np.argsort(self.rng.random((rows, self.k)) + outside, axis=1), axis=1)

    def sums(self, a: Array, b: Array) -> Array:
        """Return sums of products, near enough."""
        return np.asarray((a * b).sum(axis=1))

    def normal(self, n: int) -> tuple[Array, Array, Array]:
        """Make ordinary numbers."""
        a, b = self.rng.standard_normal((2, n, self.k))
        return a, b, self.rng.standard_normal(n)

    def cancel(self, n: int) -> tuple[Array, Array, Array]:
        """Put every product with its opposite somewhere else, and a little more."""
        a, b = self.significands(2 * n, self.k).reshape(2, n, self.k) * 2.0
        half = self.k // 2
        a[:, half : 2 * half], b[:, half : 2 * half] = -a[:, half - 1 :: -1], b[:, half - 1 :: -1]
        extra = self.some(n, 3)
        a[extra] *= 1.5
        return a, b, self.rng.standard_normal(n) * 2.0 ** self.rng.integers(-20, 4, n)

    def wide(self, n: int) -> tuple[Array, Array, Array]:
        """Take exponents from all over the range."""
        span = [np.ldexp(1.0, self.rng.integers(self.low[i], self.high[i] + 1, (n, self.k))) for i in (0, 1)]
        keep = self.some(n, self.k)
        a, b = (self.significands(n, self.k) * s for s in span)
        c = np.ldexp(self.significands(n), self.rng.integers(-20, 16, n))
        return np.where(keep, a, 0), b, c

    def near(self, n: int) -> tuple[Array, Array, Array]:
        """Make an addend that all but cancels the products."""
        a, b = self.significands(2 * n, self.k).reshape(2, n, self.k)
        a = np.where(self.some(n, self.k), a, 0)
        a, b = self.round(a, 0), self.round(b, 1)
        c = -self.sums(a, b)
        return a, b, c * (1 + self.rng.choice([0, 1, -1, 2, -3], n) * 2.0**-23)

    def cut(self, n: int) -> tuple[Array, Array, Array]:
        """Make one large term, and some at the places where designs cut, half of them with nothing but these."""
        depth = self.rng.choice(_CUTS, (n, self.k)) + self.rng.integers(-1, 2, (n, self.k))
        top = np.full((n, 1), sum(self.high) - 1) - self.rng.integers(0, 3, (n, 1))
        room = np.maximum(top, 0) if sum(self.high) - sum(self.low) > 40 else top
        x, y = self.powers(np.minimum(room - depth, top))
        big = self.powers(np.broadcast_to(room, (n, self.k)))
        first = self.ranks(n)
        odd = 1 + (self.rng.random((n, self.k)) < 0.3) * 0.5
        sign = self.rng.choice([-1.0, 1.0], (n, self.k))
        used = first < self.rng.integers(2, 8, (n, 1))
        a = np.where(first == 0, big[0], np.where(used, x * odd * sign, 0))
        b = np.where(first == 0, big[1], y)
        again = (first == 1) & (self.rng.random((n, 1)) < 0.6)
        a, b = np.where(again, -big[0], a), np.where(again, big[1], b)
        c = np.where(self.rng.random(n) < 0.5, 0, np.ldexp(1.0, (room[:, 0] - depth[:, 0]).astype(int)))
        return a, b, c * self.rng.choice([-1, 1, 1.5], n)

    def ties(self, n: int) -> tuple[Array, Array, Array]:
        """Make an addend with an odd or even last bit, half its unit, and a little less or more."""
        bits = self.rng.choice([7, 10, 13, 23], n)
        e = self.rng.integers(max(-8, sum(self.low)), min(sum(self.high), 6) + 1, n)
        c = np.ldexp(1 + self.rng.integers(0, 4, n) * 2.0**-bits, e + bits + 1)
        a, b = np.zeros((2, n, self.k))
        places = np.argsort(self.ranks(n), axis=1)[:, :3]
        rows = np.arange(n)
        depths = np.zeros(n, np.int64), self.rng.integers(1, 16, n), np.zeros(n, np.int64)
        for i, (depth, chance) in enumerate(zip(depths, (1.0, 0.7, 0.3), strict=True)):
            x, y = self.powers(e - depth)
            a[rows, places[:, i]] = x * (self.rng.random(n) < chance) * self.rng.choice([-1, 1], n)
            b[rows, places[:, i]] = y
        return a, b, np.where((np.abs(c) < 6e4) | (self.rng.random(n) < 0.8), c, 1.0)

    def subnormal(self, n: int) -> tuple[Array, Array, Array]:
        """Make subnormal operands, and results where the formats reach them."""
        fmt_a, fmt_b = self.formats
        a = self.rng.integers(1, 2 ** max(1, fmt_a.mantissa_bits), (n, self.k)) * fmt_a.smallest_subnormal
        scale = np.ldexp(1.0, self.rng.integers(fmt_b.emin, self.high[1] + 1, (n, 1)))
        if fmt_b.emin < -100:
            scale = np.ldexp(1.0, self.rng.integers(-20, 1, (n, 1)))
        b = self.significands(n, self.k) * scale
        a = np.where(self.some(n, 8), a, 0) * self.rng.choice([-1, 1], (n, self.k))
        c = self.rng.choice([0.0, -0.0, 2.0**-127, -(2.0**-126), 2.0**-149, 2.0**-15, 2.0**-24], n)
        return a, b, c

    def least(self, n: int) -> tuple[Array, Array, Array]:
        """Make half of the smallest result and less, with no term that is large."""
        first = self.ranks(n)
        depth = np.where(first == 0, 0, self.rng.integers(0, 26, (n, self.k)))
        x, y = self.powers((-149 if sum(self.deep) < -150 else -24) - 1 - depth, subnormal=True)
        sign = self.rng.choice([-1.0, 1.0, 1.0, 1.0], (n, self.k))
        return np.where(first < self.rng.integers(1, 4, (n, 1)), x * sign, 0), y, np.zeros(n)

    def special(self, n: int) -> tuple[Array, Array, Array]:
        """Put NaN, infinities and zeros with signs among ordinary numbers, where the formats have them."""
        a, b, c = self.normal(n)
        a, b = self.round(a, 0), self.round(b, 1)
        words = [0.0, -0.0]
        for which, x in ((0, a), (1, b)):
            fmt = self.formats[which]
            own = words + [math.nan] * fmt.has_nan + [math.inf, -math.inf] * fmt.has_inf
            chosen = self.some(n, 2)
            x[chosen] = self.rng.choice(own, int(chosen.sum()))
        zero = self.rng.random(n) < 0.2
        a[zero] = np.where(self.rng.random((int(zero.sum()), self.k)) < 0.5, -0.0, 0.0)
        b[zero] = np.abs(np.where(np.isfinite(b[zero]), b[zero], 1.0))
        c[zero] = np.where(self.rng.random(int(zero.sum())) < 0.5, -0.0, 0.0)
        return a, b, np.where(self.rng.random(n) < 0.2, self.rng.choice([math.inf, -math.inf, math.nan], n), c)


KINDS = ("normal", "cancel", "wide", "near", "cut", "ties", "subnormal", "least", "special")


def build(formats: tuple[FloatFormat, FloatFormat], k: int, rows: int, seed: int) -> Inputs:
    """Return rows of every kind.

    Parameters
    ----------
    formats : tuple of FloatFormat
        Of a and b.
    k : int
        Products per row.
    rows : int
        Rows of each kind.
    seed : int
        Equal seeds give equal rows.

    Returns
    -------
    Inputs
        Operands that their formats hold, in float32 or, where that is too narrow, float64.
    """
    maker = _Maker(formats, k, seed)
    dtype = [np.float64 if fmt.precision > 24 or fmt.emax > 127 else np.float32 for fmt in formats]
    parts = []
    for kind in KINDS:
        with np.errstate(all="ignore"):
            a, b, c = getattr(maker, kind)(rows)
            a, b = (x if kind == "special" else maker.round(x, i) for i, x in enumerate((a, b)))
        parts.append((a.astype(dtype[0]), b.astype(dtype[1]), round_to(np.asarray(c, np.float64), "float32")))
    a, b, c = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return Inputs(a, b, c, [kind for kind in KINDS for _ in range(rows)])


def integers(formats: tuple[IntFormat, IntFormat], k: int, rows: int, seed: int) -> tuple[Array, Array, Array]:
    """Return rows of integers of all sizes, and addends near the ends of int32."""
    rng = np.random.default_rng(seed)
    parts = []
    for fmt in formats:
        low, high = int(fmt.min), int(fmt.max)
        values = rng.integers(low, high + 1, (rows, k))
        values = np.where(rng.random((rows, k)) < 0.3, rng.choice([low, high], (rows, k)), values)
        parts.append(np.where(rng.random((rows, 1)) < rng.random((rows, k)), 0, values).astype(fmt.storage_dtype))
    near = rng.choice([-(2**31), 2**31 - 1], rows) + rng.integers(-(2**16), 2**16, rows)
    c = np.where(rng.random(rows) < 0.5, near, rng.integers(-1000, 1000, rows))
    return parts[0], parts[1], np.clip(c, -(2**31), 2**31 - 1).astype(np.int32)
