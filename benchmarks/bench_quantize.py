"""Quantising and dequantising 2**24 elements, against a copy of the same float32 array."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import ELEMENTS, medians, some

COLUMNS = 4096 if ELEMENTS > 1 << 16 else 256
RECIPES: dict[str, dict[str, Any]] = {
    "int8 per row": {"fmt": "int8", "axis": 0},
    "int8 per column": {"fmt": "int8", "axis": 1},
    "int8 per tensor": {"fmt": "int8"},
    "uint8 affine per row": {"fmt": "uint8", "axis": 0, "symmetric": False},
    "int4 groups of 32": {"fmt": "int4", "axis": -1, "block_size": 32, "scale_dtype": "fp16"},
    "int4 groups of 128 down columns": {"fmt": "int4", "axis": 0, "block_size": 128},
    "fp8 e4m3fn per row": {"fmt": "e4m3fn", "axis": 0},
    **{name: {"fmt": name} for name in ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4")},
}
NAMES = some(list(RECIPES), ["int8 per row", "mxfp4", "nvfp4"])
TORCHAO = importlib.util.find_spec("torchao") is not None


def source() -> np.ndarray:
    """Return normal numbers as a matrix."""
    return np.random.default_rng(0).standard_normal((ELEMENTS // COLUMNS, COLUMNS), dtype=np.float32)


class Quantize:
    """`quantize`, its result allocated, and `dequantize`, likewise."""

    params = (NAMES,)
    param_names = ("recipe",)

    def setup(self, recipe: str) -> None:
        self.x, self.how = source(), RECIPES[recipe]
        self.out = np.zeros_like(self.x)
        self.copy = lambda: np.copyto(self.out, self.x)
        self.q = lp.quantize(self.x, **self.how)
        step = np.abs(self.x).max() / 2  # of the coarsest element, e2m1
        assert np.abs(self.q.dequantize() - self.x).max() <= step

    def track_quantize(self, recipe: str) -> float:
        ours, copy = medians(lambda: lp.quantize(self.x, **self.how), self.copy, pause=0)
        return ours / copy

    def track_dequantize(self, recipe: str) -> float:
        ours, copy = medians(self.q.dequantize, self.copy, pause=0)
        return ours / copy

    def track_dequantize_beside_a_new_copy(self, recipe: str) -> float:
        ours, copy = medians(self.q.dequantize, self.x.copy, pause=0)
        return ours / copy

    track_quantize.unit = track_dequantize.unit = "time of np.copyto"
    track_dequantize_beside_a_new_copy.unit = "time of x.copy()"


class Torchao:
    """torchao's `to_mx` on the CPU against `quantize`, where torchao is installed."""

    params = (some(["mxfp8_e4m3", "mxfp6_e2m3", "mxfp4"], ["mxfp4"]),)
    param_names = ("format",)

    def setup(self, name: str) -> None:
        if not TORCHAO:
            raise NotImplementedError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx
        element = {"mxfp8_e4m3": torch.float8_e4m3fn, "mxfp6_e2m3": "fp6_e2m3", "mxfp4": torch.float4_e2m1fn_x2}[name]
        self.x = source()
        tensor = torch.from_numpy(self.x)
        self.theirs = lambda: to_mx(tensor, element, 32, ScaleCalculationMode.FLOOR)
        scale, codes = self.theirs()
        q = lp.quantize(self.x, name)
        assert np.array_equal(scale.view(torch.uint8).numpy().reshape(q.scale.shape), q.scale.view(np.uint8))
        if name == "mxfp8_e4m3":
            assert np.array_equal(codes.view(torch.uint8).numpy(), q.codes)

    def track_speedup(self, name: str) -> float:
        ours, theirs = medians(lambda: lp.quantize(self.x, name), self.theirs, pause=0)
        return theirs / ours

    track_speedup.unit = "speed of torchao's to_mx"


class Pack:
    """`pack` and `unpack`."""

    params = (some([2, 4, 6], [4]),)
    param_names = ("bits",)

    def setup(self, bits: int) -> None:
        self.fmt = lp.IntFormat(bits=bits, is_signed=False)
        self.codes = np.random.default_rng(0).integers(0, 1 << bits, ELEMENTS, dtype=np.uint8)
        self.packed = lp.pack(self.codes, self.fmt)
        self.out = np.zeros_like(self.codes)
        assert np.array_equal(lp.unpack(self.packed, self.fmt, ELEMENTS), self.codes)

    def track_pack(self, bits: int) -> float:
        ours, copy = medians(lambda: lp.pack(self.codes, self.fmt), lambda: np.copyto(self.out, self.codes), pause=0)
        return ours / copy

    def track_unpack(self, bits: int) -> float:
        ours, copy = medians(
            lambda: lp.unpack(self.packed, self.fmt, ELEMENTS), lambda: np.copyto(self.out, self.codes), pause=0
        )
        return ours / copy

    track_pack.unit = track_unpack.unit = "time of np.copyto of the codes"
