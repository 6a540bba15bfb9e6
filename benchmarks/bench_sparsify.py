"""Choosing what is kept of a 4096 x 4096 matrix, against a copy of the same array."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

import lowprec as lp
from benchmarks.common import ELEMENTS, QUICK, medians, some

SIZE = round(ELEMENTS**0.5)
DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "int8": np.int8,
    "float64": np.float64,
}
WAYS: dict[str, dict[str, Any]] = {
    "1:2": {"pattern": "1:2"},
    "4:8": {"pattern": "4:8"},
    "wanda": {"criterion": "wanda", "hessian": np.ones(SIZE)},
    "tiles, best": {"transposable": "best"},
    "tiles, greedy": {"transposable": "greedy"},
}


def source() -> np.ndarray:
    """Return normal numbers as a square matrix."""
    return np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32)


class Magnitude:
    """2:4 by magnitude, the result allocated: at most 6 times the copy of float32."""

    params = (some(list(DTYPES), ["float32"]), [-1, 0])
    param_names = ("dtype", "axis")

    def setup(self, dtype: str, axis: int) -> None:
        x = source()
        self.x = (30 * x).astype(np.int8) if dtype == "int8" else x.astype(DTYPES[dtype])
        self.out = np.zeros_like(self.x)
        s = lp.sparsify(self.x, axis=axis)
        kept = np.abs(s.values.astype(np.float32)).sum(dtype=np.float64)
        # Four normal numbers: the two largest have .7437 of the magnitude.
        assert QUICK or abs(kept / np.abs(self.x.astype(np.float32)).sum(dtype=np.float64) - 0.744) < 0.01

    def track_sparsify(self, dtype: str, axis: int) -> float:
        ours, copy = medians(lambda: lp.sparsify(self.x, axis=axis), lambda: np.copyto(self.out, self.x), pause=0)
        return ours / copy

    track_sparsify.unit = "time of np.copyto"


class Others:
    """Other patterns and criteria, of float32."""

    params = (some(list(WAYS), ["1:2"]),)
    param_names = ("way",)

    def setup(self, way: str) -> None:
        self.x, self.how = source(), WAYS[way]
        self.out = np.zeros_like(self.x)

    def track_sparsify(self, way: str) -> float:
        ours, copy = medians(lambda: lp.sparsify(self.x, **self.how), lambda: np.copyto(self.out, self.x), pause=0)
        return ours / copy

    track_sparsify.unit = "time of np.copyto"


class SparseGPT:
    """SparseGPT of a matrix of 1024 x 1024, the Hessian given."""

    def setup(self) -> None:
        size = 64 if QUICK else 1024
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2 * size, size // 4)) @ rng.standard_normal((size // 4, size))
        self.w, self.hessian = rng.standard_normal((size, size), dtype=np.float32), x.T @ x
        lp.sparsify(self.w[:8], criterion="sparsegpt", hessian=self.hessian)

    def time_sparsegpt(self) -> None:
        lp.sparsify(self.w, criterion="sparsegpt", hessian=self.hessian)
