"""Products of quantised operands against NumPy's float32 product of as many numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some

SIZES = some([512, 1024, 2048], [128])
_GROUP = {"axis": 0, "block_size": 128}
# Weights (K, N) that a float32 array is multiplied by.
WEIGHTS: dict[str, tuple[str, dict[str, Any]]] = {
    "int4 g128": ("int4", {**_GROUP, "scale_dtype": "fp16"}),
    "int4 g32": ("int4", {"axis": 0, "block_size": 32, "scale_dtype": "fp16"}),
    "int8 per column": ("int8", {"axis": 1}),
    "mxfp4": ("mxfp4", {"axis": 0}),
    "nvfp4": ("nvfp4", {"axis": 0}),
    "nf4": ("nf4", {"axis": 0}),
}
BOTH = ["int8 rows, columns", "int4 rows, columns", "int8 g128", "mxfp8_e4m3", "mxfp4", "nvfp4", "mxint8"]


class WeightOnly:
    """float32 times a quantised array; the other way round for weights (N, K), as `linear` has them."""

    params = (some(list(WEIGHTS), ["int4 g128"]), SIZES)
    param_names = ("weights", "n")

    def setup(self, weights: str, n: int) -> None:
        self.x, self.y = np.random.default_rng(n).standard_normal((2, n, n), dtype=np.float32)
        fmt, how = WEIGHTS[weights]
        self.w = lp.quantize(self.y, fmt, **how)
        if not np.array_equal(lp.matmul(self.x[:3], self.w), lp.matmul(self.x[:3], self.w.dequantize())):
            msg = f"{weights}: wrong numbers."
            raise AssertionError(msg)

    def track_ratio_to_numpy(self, weights: str, n: int) -> float:
        ours, numpys = medians(lambda: lp.matmul(self.x, self.w), lambda: self.x @ self.y)
        return numpys / ours

    def track_linear_ratio_to_numpy(self, weights: str, n: int) -> float:
        weight = self.w.T
        ours, numpys = medians(lambda: lp.linear(self.x, weight), lambda: self.x @ self.y)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]
    track_linear_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]


class Both:
    """Two quantised operands."""

    params = (some(BOTH, BOTH[:1]), SIZES)
    param_names = ("operands", "n")

    def setup(self, kind: str, n: int) -> None:
        self.x, self.y = np.random.default_rng(n).standard_normal((2, n, n), dtype=np.float32)
        word, _, rest = kind.partition(" ")
        if "rows" in rest:
            how: tuple[dict[str, Any], dict[str, Any]] = {"axis": 0}, {"axis": 1}
        elif rest:
            how = {"axis": 1, "block_size": 128}, _GROUP
        else:
            how = {"axis": 1}, {"axis": 0}
        self.a, self.b = lp.quantize(self.x, word, **how[0]), lp.quantize(self.y, word, **how[1])

    def track_ratio_to_numpy(self, kind: str, n: int) -> float:
        ours, numpys = medians(lambda: lp.matmul(self.a, self.b), lambda: self.x @ self.y)
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"  # type: ignore[attr-defined]
