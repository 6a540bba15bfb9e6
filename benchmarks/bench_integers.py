"""Exact integer products against NumPy's float32 product, and beside torch's int8 product where torch is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np

import lowprec as lp
from benchmarks.common import medians, some
from lowprec import _dots
from lowprec._integer_product import product

SIZES = some([128, 512, 1024, 2048], [128])
PAIRS = some(["int8 x int8", "uint8 x int8", "int8 x int4", "int4 x int4", "int2 x int2"], ["int8 x int8"])
WAYS = list(_dots.WAYS)


@contextmanager
def forced(way: str) -> Iterator[None]:
    """Go one way for a while."""
    before = _dots.way
    _dots.way = lambda: way  # type: ignore[assignment]
    try:
        yield
    finally:
        _dots.way = before


def operand(name: str, n: int, seed: int) -> np.ndarray[Any, Any]:
    """Return a square matrix of all integers of a format."""
    bits = int(name.removeprefix("u").removeprefix("int"))
    low = 0 if name[0] == "u" else -(1 << (bits - 1))
    x = np.random.default_rng(seed).integers(low, low + (1 << bits), (n, n))
    return x.astype(np.int8 if low else np.uint8).astype(getattr(ml_dtypes, name, None) or np.dtype(name))


def floats(n: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return operands of NumPy's product."""
    a, b = np.random.default_rng(n).standard_normal((2, n, n), dtype=np.float32)
    return a, b


class Pairs:
    """Square products through `matmul`, on the best way of this CPU."""

    params = (PAIRS, SIZES)
    param_names = ("operands", "n")

    def setup(self, pair: str, n: int) -> None:
        one, other = pair.split(" x ")
        self.a, self.b = operand(one, n, 1), operand(other, n, 2)
        self.x, self.y = floats(n)
        want = self.a[:3].astype(np.int32) @ self.b.astype(np.int32)
        if not np.array_equal(lp.matmul(self.a, self.b)[:3], want):
            msg = f"{pair}: wrong integers."
            raise AssertionError(msg)

    def track_ratio_to_numpy(self, pair: str, n: int) -> float:
        ours, numpys = medians(lambda: lp.matmul(self.a, self.b), lambda: self.x @ self.y)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]


class Ends(Pairs):
    """The same with zero points and scales for every row and column, to float32."""

    params = (PAIRS[:1], SIZES)

    def setup(self, pair: str, n: int) -> None:
        super().setup(pair, n)
        vectors = np.arange(n) % 100, np.linspace(0.5, 2, n, dtype=np.float32)
        self.how: dict[str, Any] = {"zero_a": vectors[0], "zero_b": vectors[0]}
        self.how |= {"row_scale": vectors[1], "column_scale": vectors[1], "bias": vectors[1]}

    def track_ratio_to_numpy(self, pair: str, n: int) -> float:
        ours, numpys = medians(lambda: product(self.a, self.b, **self.how), lambda: self.x @ self.y)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]


class Ways:
    """int8 x int8 on each way that this CPU can go."""

    params = (WAYS, some([512, 1024], [128]) or [128])
    param_names = ("way", "n")

    def setup(self, way: str, n: int) -> None:
        if way not in _dots.can():
            msg = f"this CPU cannot go the way {way}"
            raise NotImplementedError(msg)
        self.a, self.b = operand("int8", n, 1), operand("int8", n, 2)
        self.x, self.y = floats(n)

    def track_ratio_to_numpy(self, way: str, n: int) -> float:
        with forced(way):
            ours, numpys = medians(lambda: product(self.a, self.b), lambda: self.x @ self.y)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]


class Torch:
    """int8 x int8 against ``torch._int_mm``, on all cores."""

    params = (SIZES,)
    param_names = ("n",)

    def setup(self, n: int) -> None:
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError:
            msg = "torch is not installed"
            raise NotImplementedError(msg) from None
        self.a, self.b = operand("int8", n, 1), operand("int8", n, 2)
        self.left, self.right, self.multiply = torch.from_numpy(self.a), torch.from_numpy(self.b), torch._int_mm
        if not np.array_equal(self.multiply(self.left, self.right).numpy(), lp.matmul(self.a, self.b)):
            msg = "torch: other integers."
            raise AssertionError(msg)

    def track_ratio_to_torch(self, n: int) -> float:
        ours, torchs = medians(lambda: lp.matmul(self.a, self.b), lambda: self.multiply(self.left, self.right))
        return torchs / ours

    track_ratio_to_torch.unit = "speed of torch._int_mm"  # type: ignore[attr-defined]
