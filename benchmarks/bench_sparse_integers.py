"""Exact products of sparse rows of int8 against our own dense int8 product of the same shape."""

from __future__ import annotations

from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some
from lowprec._patterns import ONE_OF_TWO, PLACES, pattern_of, place_table
from lowprec._sparse_integer_product import product
from lowprec._sparse_rows import SparseRows

SHAPES = some(
    ["1024x1024x1", "4096x4096x1", "1024x1024x64", "1024x1024x1024", "2048x2048x256", "4096x4096x2048"],
    ["1024x1024x1", "1024x1024x64"],
)


def sparse(m: int, k: int, pattern: str) -> tuple[SparseRows, np.ndarray[Any, Any]]:
    """Return rows of int8 of which any numbers are kept, and the same as a dense array; k is a multiple of 16."""
    rng, found = np.random.default_rng(1), pattern_of(pattern)
    codes = rng.choice(np.array(ONE_OF_TWO if found.group == 2 else list(PLACES), np.uint8), (m, k // found.group))
    values = rng.integers(-128, 128, (m, k // 2), np.int8)
    places = place_table(found)[codes] + found.group * np.arange(k // found.group)[:, np.newaxis]
    dense = np.zeros((m, k), np.int8)
    np.put_along_axis(dense, places.reshape(m, -1), values, 1)
    return SparseRows(values, k, found.kept, found.group, codes[:, ::2] | codes[:, 1::2] << 4, found), dense


class Sparse:
    """int8 x int8 with half of the weights."""

    params = (["2:4"], SHAPES)
    param_names = ("pattern", "shape")

    def setup(self, pattern: str, shape: str) -> None:
        m, k, n = (int(length) for length in shape.split("x"))
        self.rows, self.dense = sparse(m, k, pattern)
        self.b = np.random.default_rng(2).integers(-128, 128, (k, n), np.int8)
        if not np.array_equal(product(self.rows, self.b), lp.matmul(self.dense, self.b)):
            msg = f"{pattern}, {shape}: other integers."
            raise AssertionError(msg)

    def track_ratio_to_dense(self, pattern: str, shape: str) -> float:
        ours, denses = medians(lambda: product(self.rows, self.b), lambda: lp.matmul(self.dense, self.b))
        return denses / ours

    track_ratio_to_dense.unit = "speed of the dense product"  # type: ignore[attr-defined]


class Patterns(Sparse):
    """The other patterns that hardware has."""

    params = (["4:8", "1:2"], SHAPES[-1:])


class Ends(Sparse):
    """With zero points and scales for every row and column, to float32; both sides do the same."""

    params = (["2:4"], SHAPES[-2:])

    def setup(self, pattern: str, shape: str) -> None:
        super().setup(pattern, shape)
        m, n = len(self.dense), self.b.shape[1]
        self.how: dict[str, Any] = {"zero_b": np.arange(n) % 100, "row_scale": np.linspace(0.5, 2, m)}
        self.how |= {"column_scale": np.linspace(0.5, 2, n), "bias": np.arange(n)}

    def track_ratio_to_dense(self, pattern: str, shape: str) -> float:
        from lowprec._integer_product import product as dense

        def ours() -> Any:
            return product(self.rows, self.b, **self.how)

        mine, denses = medians(ours, lambda: dense(self.dense, self.b, **self.how))
        return denses / mine

    track_ratio_to_dense.unit = "speed of the dense product"  # type: ignore[attr-defined]
