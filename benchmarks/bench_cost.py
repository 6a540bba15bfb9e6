"""The cost model: a closed form in under 1 ms, 10,000 designs in seconds, a Pareto set of 1024 cubed in under 60 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import QUICK, some

FORMS: dict[str, Callable[[], Any]] = {
    "multiplier": lambda: lp.cost.multiplier("bf16", "dadda").ge,
    "mac bf16": lambda: lp.cost.mac("bf16").ge,
    "mac e4m3fn/exact": lambda: lp.cost.mac("e4m3fn", "exact", k=4608).ge,
    "mac int8": lambda: lp.cost.mac("int8").rel("int8/int32"),
    "mac preset": lambda: lp.cost.mac("bf16", "nvidia-hopper").ge,
    "dot e4m3fn": lambda: lp.cost.dot("e4m3fn", 32).per_lane,
    "dot mxfp4": lambda: lp.cost.dot("mxfp4", 32).per_lane,
    "cast": lambda: lp.cost.cast("fp32", "e4m3fn").ge,
    "accumulator_bits": lambda: lp.cost.accumulator_bits("e5m2", k=4608),
    "traffic": lambda: lp.cost.traffic("mxfp4", (4096, 4096)).bits_per_element,
    "roofline": lambda: lp.cost.roofline(512, 512, 512, "bf16", "h100").seconds,
    "energy": lambda: lp.cost.energy(512, 512, 512, "bf16").total,
    "systolic": lambda: lp.cost.systolic(128, 128, "bf16").matmul(512, 512, 512).cycles,
}


class ClosedForms:
    """Milliseconds of the calling thread for one figure, the mean of many; at most 1."""

    params = (some(list(FORMS), ["mac bf16", "dot mxfp4"]),)
    param_names = ("form",)

    def setup(self, form: str) -> None:
        self.call = FORMS[form]
        self.call()

    def track_milliseconds(self, form: str) -> float:
        repeats = 2 if QUICK else 200
        start = time.thread_time()
        for _ in range(repeats):
            self.call()
        return 1e3 * (time.thread_time() - start) / repeats

    track_milliseconds.unit = "ms"


class Sweep:
    """10,000 designs that all differ: floats of all widths, accumulators, rounding, subnormals; their gates."""

    def setup(self) -> None:
        self.designs = [
            (f"e{e}m{m}", accumulator, rounding, subnormals)
            for e in range(2, 9)
            for m in range(1, 24)
            for accumulator in ("fp32", "tf32", "bf16", "fp16", "e6m9", "e8m12", "e8m16", "exact")
            for rounding in ("nearest_even", "toward_zero", "to_odd", "stochastic")
            for subnormals in ("flush", "keep")
        ][: 50 if QUICK else 10_000]

    def track_seconds(self) -> float:
        start = time.thread_time()
        for fmt, accumulator, rounding, subnormals in self.designs:
            assert lp.cost.mac(fmt, accumulator, rounding=rounding, subnormals=subnormals).ge > 0
        return time.thread_time() - start

    track_seconds.unit = "s"


class Pareto:
    """The usual candidates on a product of 1024 x 1024 x 1024, kernels compiled; at most 60 s."""

    params = (["own units", "dot units"],)
    param_names = ("unit",)
    timeout = 600

    def setup(self, unit: str) -> None:
        size = 32 if QUICK else 1024
        self.x, self.w = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
        self.unit = "dot" if unit == "dot units" else None
        small = self.x[:32, :64], self.w[:32, :64]
        lp.cost.pareto(*small, ["bf16"] if QUICK else None, unit=self.unit, progress=False)

    def track_seconds(self, unit: str) -> float:
        start = time.perf_counter()
        lp.cost.pareto(self.x, self.w, ["bf16"] if QUICK else None, unit=self.unit, progress=False)
        return time.perf_counter() - start

    track_seconds.unit = "s"
