"""A language model, 2 windows of 128 tokens, against the same forward pass on NumPy's float32 product."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.common import QUICK, medians, some
from lowprec import _fetch
from lowprec.nn import Arithmetic
from lowprec.study import workload

FORMATS = some(["fp32", "bf16", "e4m3fn", "int8", "nvfp4"], ["bf16"])
PRESETS = some(["nvidia-hopper:bf16", "nvidia-hopper:e4m3fn", "amd-cdna3:bf16"], [])
LENGTH = 4 if QUICK else 128


class Blas:
    """Products by `numpy.matmul`, in the place of an `Arithmetic`."""

    needs_calibration = False

    def key(self) -> str:
        return "numpy.matmul"

    def prepare(self, w: np.ndarray, calibration: Any, name: str) -> np.ndarray:  # noqa: ARG002
        return w

    def linear(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.matmul(x, w.T)

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.matmul(a, b)


class _Model:
    """What both classes share."""

    timeout = 900

    def setup(self, word: str) -> None:
        try:
            for file in _fetch.dataset("smollm2").files:
                _fetch.locate("smollm2", file.name)
        except FileNotFoundError as error:
            raise NotImplementedError(str(error)) from error  # asv skips
        made = workload("smollm2", windows=2, length=LENGTH)
        self.model, self.tokens, self.arithmetic = made.language_model, made.tokens(), Arithmetic(word)
        self.model.logits(self.tokens[:, :4], self.arithmetic)  # weights are prepared


class Forward(_Model):
    """bf16 with the fp32 accumulator: at most 1.3 times NumPy's time."""

    params = FORMATS
    param_names = ("format",)

    def track_ratio_to_numpy(self, word: str) -> float:  # noqa: ARG002
        blas = Blas()
        self.model.logits(self.tokens[:, :4], blas)
        ours, theirs = medians(
            lambda: self.model.logits(self.tokens, self.arithmetic), lambda: self.model.logits(self.tokens, blas)
        )
        return ours / theirs

    track_ratio_to_numpy.unit = "ratio"


class Hardware(_Model):
    """The sums of matrix hardware: at most 60 seconds."""

    params = PRESETS or ["nvidia-hopper:bf16"]
    param_names = ("preset",)

    def track_seconds(self, word: str) -> float:  # noqa: ARG002
        begin = time.perf_counter()
        self.model.logits(self.tokens, self.arithmetic)
        return time.perf_counter() - begin

    track_seconds.unit = "s"
