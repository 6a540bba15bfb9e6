"""Matrix products of float32 operands, rounding included, against NumPy's float32 and what users write today."""

from __future__ import annotations

import importlib.util

import ml_dtypes
import numpy as np

import lowprec as lp
from benchmarks.common import FLOATS, medians, some
from lowprec import reference

SIZES = some([64, 128, 512, 1024, 2048], [64])
# Every format that float32 holds, so that products accumulate in float32; scale formats have no sign.
FORMATS = some([f for f in FLOATS if f != "float64" and lp.format(f).is_signed], ["bfloat16", "float8_e4m3fn"])
ML_DTYPES = some(["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"], ["bfloat16"])
TORCH = some(["bfloat16", "float16"], ["bfloat16"])


def operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, n), dtype=np.float32), rng.standard_normal((n, n), dtype=np.float32)


def check(a: np.ndarray, b: np.ndarray, fmt: str) -> None:
    """Compile, and compare a few elements, corners among them, with the specification in code."""
    got = lp.matmul(a, b, fmt)
    n = len(a)
    for i, j in ((0, 0), (0, n - 1), (n - 1, 0), (n - 1, n - 1), (n // 3, n // 2)):
        row = [reference.round_to(float(x), fmt) for x in a[i]]
        column = [reference.round_to(float(x), fmt) for x in b[:, j]]
        want = np.float32(reference.dot(row, column))
        if got[i, j].view(np.uint32) != want.view(np.uint32):
            msg = f"matmul in {fmt}, n = {n}: element ({i}, {j}) is {got[i, j]!r}, must be {want!r}."
            raise AssertionError(msg)


class Product:
    """One product of n by n matrices."""

    params = (FORMATS, SIZES)
    param_names = ("format", "n")

    def setup(self, fmt: str, n: int) -> None:
        self.a, self.b = operands(n)
        check(self.a, self.b, fmt)

    def time_matmul(self, fmt: str, n: int) -> None:
        lp.matmul(self.a, self.b, fmt)

    def track_ratio_to_numpy(self, fmt: str, n: int) -> float:
        ours, numpys = medians(lambda: lp.matmul(self.a, self.b, fmt), lambda: np.matmul(self.a, self.b))
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"


class NumPy:
    """What the ratios are taken against."""

    params = (SIZES,)
    param_names = ("n",)

    def setup(self, n: int) -> None:
        self.a, self.b = operands(n)
        np.matmul(self.a, self.b)

    def time_matmul(self, n: int) -> None:
        np.matmul(self.a, self.b)

    def track_gflops(self, n: int) -> float:
        (seconds,) = medians(lambda: np.matmul(self.a, self.b))
        return 2 * n**3 / seconds / 1e9

    track_gflops.unit = "GFLOP/s"


class OneLiner:
    """``a.astype(dtype).astype(np.float32) @ b.astype(dtype).astype(np.float32)``: what users write today.

    The order of its sums is whatever BLAS chooses, so its last bits depend on the machine.
    """

    params = (ML_DTYPES, SIZES)
    param_names = ("format", "n")

    def setup(self, fmt: str, n: int) -> None:
        self.a, self.b = operands(n)
        self.dtype = np.dtype(getattr(ml_dtypes, fmt, fmt))
        check(self.a, self.b, fmt)

    def one_liner(self) -> np.ndarray:
        return self.a.astype(self.dtype).astype(np.float32) @ self.b.astype(self.dtype).astype(np.float32)

    def track_ratio_to_one_liner(self, fmt: str, n: int) -> float:
        ours, theirs = medians(lambda: lp.matmul(self.a, self.b, fmt), self.one_liner)
        return theirs / ours

    track_ratio_to_one_liner.unit = "speed of the astype one-liner"


class Stored:
    """Operands that already are in the format: ``np.matmul`` of ml_dtypes arrays against `lp.matmul` of the same."""

    params = (ML_DTYPES, SIZES)
    param_names = ("format", "n")

    def setup(self, fmt: str, n: int) -> None:
        a, b = operands(n)
        check(a, b, fmt)
        dtype = np.dtype(getattr(ml_dtypes, fmt, fmt))
        self.a, self.b = a.astype(dtype), b.astype(dtype)
        if fmt == "float16" and n > 512:
            msg = "np.matmul of float16 takes seconds"
            raise NotImplementedError(msg)
        if not np.array_equal(lp.matmul(self.a, self.b), lp.matmul(a, b, fmt)):
            msg = f"matmul of stored {fmt} differs from the product that rounds"
            raise AssertionError(msg)

    def track_ratio_to_numpy(self, fmt: str, n: int) -> float:
        ours, theirs = medians(lambda: lp.matmul(self.a, self.b), lambda: np.matmul(self.a, self.b))
        return theirs / ours

    track_ratio_to_numpy.unit = "speed of np.matmul of the same arrays"


class Torch:
    """torch's own product in the format, casts included; other bits (it may flush subnormals and reorder the sum)."""

    params = (TORCH, SIZES)
    param_names = ("format", "n")

    def setup(self, fmt: str, n: int) -> None:
        if importlib.util.find_spec("torch") is None:
            msg = "torch is not installed"
            raise NotImplementedError(msg)
        import torch

        torch.set_num_threads(lp.get_num_threads())
        self.a, self.b = operands(n)
        check(self.a, self.b, fmt)
        a, b, dtype = torch.from_numpy(self.a), torch.from_numpy(self.b), getattr(torch, fmt)
        self.theirs = lambda: (a.to(dtype) @ b.to(dtype)).to(torch.float32)

    def track_ratio_to_torch(self, fmt: str, n: int) -> float:
        ours, theirs = medians(lambda: lp.matmul(self.a, self.b, fmt), self.theirs)
        return theirs / ours

    track_ratio_to_torch.unit = "speed of torch's product in the format"
