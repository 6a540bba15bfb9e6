"""Products summed by a model, rounding of float32 operands included, against NumPy's float32 product."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import QUICK, medians, some
from lowprec import reference

SIZES = some([512, 1024], [])
SIZES = SIZES or [64]
# What is summed how: a name, the operands' format, and the rest of the call.
SUMS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp16 in fp16": ("fp16", {"accumulator": "fp16"}),
    "bf16 in bf16": ("bf16", {"accumulator": "bf16"}),
    "bf16 in tf32": ("bf16", {"accumulator": "tf32"}),
    "e4m3fn in fp16": ("e4m3fn", {"accumulator": "fp16"}),
    "e4m3fn in e4m3fn": ("e4m3fn", {"accumulator": "e4m3fn"}),
    "e4m3fn in e5m7": ("e4m3fn", {"accumulator": "e5m7"}),
    "fp16 in fp16, unfused": ("fp16", {"accumulator": lp.Sequential("fp16", fused=False)}),
    "fp16 in fp16, toward zero": ("fp16", {"accumulator": lp.Sequential("fp16", "toward_zero")}),
    "fp16 in fp16, nearest away": ("fp16", {"accumulator": lp.Sequential("fp16", "nearest_away")}),
    "fp16 in fp16, to odd": ("fp16", {"accumulator": lp.Sequential("fp16", "to_odd")}),
    "fp16 in fp16, stochastic": ("fp16", {"accumulator": lp.Sequential("fp16", "stochastic"), "rng": 0}),
    "bf16 in fp32, toward zero": ("bf16", {"accumulator": lp.Sequential("fp32", "toward_zero")}),
    "fp32 in fp32, toward zero": ("fp32", {"accumulator": lp.Sequential("fp32", "toward_zero")}),
    "pairwise": ("bf16", {"accumulator": "pairwise"}),
    "exact": ("bf16", {"accumulator": "exact"}),
    "chunks of 128": ("bf16", {"accumulator": lp.Chunked("fp32", 128)}),
    "nvidia-volta fp16": ("fp16", {"accumulator": "nvidia-volta"}),
    "nvidia-ampere fp16": ("fp16", {"accumulator": "nvidia-ampere"}),
    "nvidia-ampere fp16 to fp16": ("fp16", {"accumulator": "nvidia-ampere", "out_dtype": "fp16"}),
    "nvidia-ampere tf32": ("tf32", {"accumulator": "nvidia-ampere"}),
    "nvidia-hopper bf16": ("bf16", {"accumulator": "nvidia-hopper"}),
    "nvidia-hopper fp16": ("fp16", {"accumulator": "nvidia-hopper"}),
    "nvidia-hopper e4m3fn": ("e4m3fn", {"accumulator": "nvidia-hopper"}),
    "nvidia-hopper-mma e4m3fn": ("e4m3fn", {"accumulator": "nvidia-hopper-mma"}),
    "nvidia-hopper e4m3fn, promoted": ("e4m3fn", {"accumulator": lp.Chunked("nvidia-hopper", 128)}),
    "nvidia-blackwell e4m3fn": ("e4m3fn", {"accumulator": "nvidia-blackwell"}),
    "amd-cdna1 fp16": ("fp16", {"accumulator": "amd-cdna1"}),
    "amd-cdna2 fp16": ("fp16", {"accumulator": "amd-cdna2"}),
    "amd-cdna3 bf16": ("bf16", {"accumulator": "amd-cdna3"}),
    "amd-cdna3 e4m3fnuz": ("e4m3fnuz", {"accumulator": "amd-cdna3"}),
    "x86-avx512bf16": ("bf16", {"accumulator": "x86-avx512bf16"}),
    "x86-amx-bf16": ("bf16", {"accumulator": "x86-amx-bf16"}),
    "arm-bf16": ("bf16", {"accumulator": "arm-bf16"}),
    "arm-ebf16": ("bf16", {"accumulator": "arm-ebf16"}),
}
NAMES = some(list(SUMS), ["fp16 in fp16", "nvidia-hopper bf16", "exact"])


def operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, n), dtype=np.float32), rng.standard_normal((n, n), dtype=np.float32)


def check(a: np.ndarray, b: np.ndarray, name: str) -> None:
    """Compile, and compare two elements with the specification in code."""
    fmt, how = SUMS[name]
    got = np.asarray(lp.matmul(a, b, fmt, **how))
    if "stochastic" in name or "promoted" in name:
        return
    model = how["accumulator"]
    if isinstance(model, str) and "-" in model:
        model = lp.preset(model).instruction(fmt, out_dtype=how.get("out_dtype")).model
    elif isinstance(model, str):
        model = {"exact": lp.Exact(), "pairwise": lp.Pairwise()}.get(model) or lp.Sequential(model)
    out = model.result_format or lp.format("fp32")
    for i, j in ((0, 0), (len(a) - 1, len(a) // 2)):
        row, column = (lp.encode(x, fmt).tolist() for x in (a[i], b[:, j]))
        want = reference.decode(reference.accumulate(model, row, column, formats=(fmt, fmt)), out)
        if not (float(got[i, j]) == want or (np.isnan(want) and np.isnan(float(got[i, j])))):
            msg = f"{name}: element ({i}, {j}) is {got[i, j]!r}, must be {want!r}."
            raise AssertionError(msg)


class Sums:
    """One product of n by n matrices of normal numbers."""

    params = (NAMES, SIZES)
    param_names = ("sum", "n")

    def setup(self, name: str, n: int) -> None:
        self.a, self.b = operands(n)
        self.fmt, self.how = SUMS[name]
        check(self.a, self.b, name)

    def time_matmul(self, name: str, n: int) -> None:
        lp.matmul(self.a, self.b, self.fmt, **self.how)

    def track_ratio_to_numpy(self, name: str, n: int) -> float:
        ours, numpys = medians(
            lambda: lp.matmul(self.a, self.b, self.fmt, **self.how), lambda: np.matmul(self.a, self.b)
        )
        return numpys / ours

    track_ratio_to_numpy.unit = "speed of np.matmul in float32"


class Simulator:
    """Hopper bf16 products of 256 by 256 matrices on one thread, against MMA-Sim (PyPI mmasim)."""

    def setup(self) -> None:
        if QUICK or importlib.util.find_spec("mmasim") is None or importlib.util.find_spec("torch") is None:
            msg = "mmasim and torch are not installed, or this is a quick run"
            raise NotImplementedError(msg)
        import torch

        torch.set_num_threads(1)

    def track_ratio_to_mmasim(self) -> float:
        from benchmarks.simulator import hopper_bf16

        n = 256
        a, b = operands(n)
        theirs = hopper_bf16(a, b)
        before = lp.get_num_threads()
        lp.set_num_threads(1)
        try:
            got = lp.matmul(a, b, "bf16", accumulator="nvidia-hopper")
            begin = time.perf_counter()
            want = theirs()
            seconds = time.perf_counter() - begin
            if not np.array_equal(got, want):
                msg = "matmul and MMA-Sim differ"
                raise AssertionError(msg)
            (ours,) = medians(lambda: lp.matmul(a, b, "bf16", accumulator="nvidia-hopper"))
        finally:
            lp.set_num_threads(before)
        return seconds / ours

    track_ratio_to_mmasim.unit = "speed of MMA-Sim"
