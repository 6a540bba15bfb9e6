"""Systolic arrays: a 128 x 128 array on 512 x 512 x 512 cycle by cycle, and the closed forms."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import QUICK, some

SIDE, SIZE = (8, 32) if QUICK else (128, 512)
SUMS: dict[str, tuple[str, Any]] = {
    "fp32": ("fp32", None),
    "int8 to int32": ("int8", None),
    "bf16 to fp32": ("bf16", None),
    "e4m3 to fp16": ("e4m3fn", "fp16"),
    "bf16 to bf16, stochastic": ("bf16", lp.Sequential("bf16", "stochastic")),
}
WAYS: dict[str, dict[str, Any]] = {
    "ws": {"dataflow": "ws"},
    "ws, double-buffered": {"dataflow": "ws", "double_buffered": True},
    "os": {"dataflow": "os"},
}


class Simulate:
    """Every register in every cycle: at most 10 seconds."""

    params = (some(list(SUMS), ["fp32"]), some(list(WAYS), ["ws"]))
    param_names = ("sum", "dataflow")
    timeout = 300

    def setup(self, name: str, way: str) -> None:
        rng = np.random.default_rng(0)
        dtype, accumulator = SUMS[name]
        self.how = {"dtype": dtype, "accumulator": accumulator, "rng": 1, **WAYS[way]}
        if "int" in dtype:
            self.x = rng.integers(-128, 128, (SIZE, SIZE)).astype(np.int8)
        else:
            self.x = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        small = self.x[:5, :9], self.x[:9, :7]
        got = lp.systolic.simulate(*small, rows=4, cols=3, **self.how)
        want = lp.matmul(*small, dtype, accumulator=accumulator, rng=1)
        if got.values.tobytes() != want.tobytes():
            msg = f"{name}: other bits than matmul's."
            raise AssertionError(msg)

    def track_seconds(self, name: str, way: str) -> float:  # noqa: ARG002
        begin = time.perf_counter()
        lp.systolic.simulate(self.x, self.x, rows=SIDE, cols=SIDE, **self.how)
        return time.perf_counter() - begin

    track_seconds.unit = "s"


class ClosedForm:
    """One product on an array, and the array itself: at most a millisecond each."""

    def setup(self) -> None:
        self.array = lp.cost.systolic(128, 128, "bf16")

    def time_matmul(self) -> None:
        self.array.matmul(512, 512, 512).cycles  # noqa: B018

    def time_array(self) -> None:
        lp.cost.systolic(128, 128, "bf16").ge  # noqa: B018
