"""`accumulator="x86-avx512bf16"` on each way that this CPU can go, against NumPy's float32 product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some
from lowprec import _native

SIZES = some([128, 512, 1024], [128])


@contextmanager
def forced(way: str) -> Iterator[None]:
    """Go one way for a while."""
    before = _native.way
    _native.way = lambda: way
    try:
        yield
    finally:
        _native.way = before


class Ways:
    """Square products of float32 operands, their rounding to bfloat16 included."""

    params = (list(_native.WAYS), SIZES)
    param_names = ("way", "n")

    def setup(self, way: str, n: int) -> None:
        if way not in _native.can():
            msg = f"this CPU cannot go the way {way}"
            raise NotImplementedError(msg)
        rng = np.random.default_rng(n)
        self.a, self.b = rng.standard_normal((2, n, n), dtype=np.float32)
        with forced("0"):
            want = self.ours(np.s_[:3])
        with forced(way):
            if not np.array_equal(self.ours(np.s_[:3]), want):
                msg = f"{way}: other bits than the emulation's."
                raise AssertionError(msg)

    def ours(self, rows: slice = np.s_[:]) -> np.ndarray:
        return lp.matmul(self.a[rows], self.b, "bf16", accumulator="x86-avx512bf16")

    def track_ratio_to_numpy(self, way: str, n: int) -> float:
        with forced(way):
            ours, numpys = medians(self.ours, lambda: self.a @ self.b)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"
