"""Quantisers of weights and observers, in seconds: a layer of 1536 x 576 or 576 x 1536 in int4, groups of 32."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import QUICK, some

LAYERS = some([(1536, 576), (576, 1536)], [(1536, 576)])
TOKENS = 256 if QUICK else 8192
METHODS: dict[str, Callable[..., Any]] = {
    "round_to_nearest": lp.quantizers.round_to_nearest,
    "mse_clip": lp.quantizers.mse_clip,
    "gptq": lambda w, x, fmt, **how: lp.quantizers.gptq(w, x, fmt, progress=False, **how),
    "awq": lambda w, x, fmt, **how: lp.quantizers.awq(w, x, fmt, progress=False, **how),
    "smoothquant": lp.quantizers.smoothquant,
    "hadamard": lp.quantizers.hadamard,
    "hqq": lp.quantizers.hqq,
}
OBSERVERS: dict[str, Callable[[], Any]] = {
    "AbsMax": lp.AbsMax,
    "MovingAverage": lp.MovingAverage,
    "Percentile": lp.Percentile,
    "MSE": lambda: lp.MSE("int8"),
    "Entropy": lp.Entropy,
}


class Weights:
    """Seconds that a weight quantiser takes, calibration on 8192 tokens included; the mark for gptq is 20."""

    params = (LAYERS, list(METHODS))
    param_names = ("layer", "method")
    unit = "s"
    timeout = 300

    def setup(self, layer: tuple[int, int], method: str) -> None:
        outputs, inputs = (n // 4 for n in layer) if QUICK else layer
        rng = np.random.default_rng(0)
        self.w = rng.standard_normal((outputs, inputs), dtype=np.float32)
        mix = rng.standard_normal((inputs, inputs), dtype=np.float32) * np.exp(
            -np.arange(inputs, dtype=np.float32) / 99
        )
        self.x = rng.standard_normal((TOKENS, inputs), dtype=np.float32) @ mix.T
        self.fmt = "uint4" if method == "hqq" else "int4"
        METHODS[method](self.w[:8], self.x, self.fmt, block_size=32)  # compiled, and a check that it runs

    def track_seconds(self, layer: tuple[int, int], method: str) -> float:
        begin = time.perf_counter()
        METHODS[method](self.w, self.x, self.fmt, block_size=32)
        return time.perf_counter() - begin


class Observers:
    """Seconds from 4 batches of 2**20 numbers to their range."""

    params = (list(OBSERVERS),)
    param_names = ("observer",)
    unit = "s"

    def setup(self, observer: str) -> None:
        self.x = np.random.default_rng(0).standard_normal((4, 1 << (12 if QUICK else 20)), dtype=np.float32)
        OBSERVERS[observer]().update(self.x[:, :100])

    def track_seconds(self, observer: str) -> float:
        begin = time.perf_counter()
        seen = OBSERVERS[observer]()
        for batch in self.x:
            seen.update(batch)
        seen.range  # noqa: B018 - the search happens here
        return time.perf_counter() - begin
