"""What the benchmarks share: timing in turn, and the sizes of a quick run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lowprec as lp

# A quick run is for seeing that no benchmark is broken: few parameters, small sizes, numbers that mean nothing.
QUICK = bool(os.environ.get("LOWPREC_BENCHMARK_QUICK"))
ELEMENTS = 1 << 16 if QUICK else 1 << 24
ROUNDS = 1 if QUICK else 5
PAUSE, WARM_UP, TURN = (0, 0, 0.001) if QUICK else (0.15, 0.005, 0.02)  # seconds
FLOATS = [fmt.name for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat)]
DETERMINISTIC = [mode.value for mode in lp.Rounding if mode != lp.Rounding.STOCHASTIC]
REPOSITORY = Path(__file__).resolve().parents[1]


def some(everything: list[Any], few: list[Any]) -> list[Any]:
    """Return all parameters, or in a quick run a few of them."""
    return [each for each in everything if each in few] if QUICK else everything


def medians(*calls: Callable[[], Any], pause: float = PAUSE) -> list[float]:
    """Return the median seconds of each call, run in turn so that a slow moment of the machine meets all of them.

    A turn is a pause, a warm-up, and then calls one after the other. The pause is there because OpenBLAS' threads go
    on spinning for a tenth of a second after a product and would take a core from whoever comes next.
    """
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, taken in zip(calls, samples, strict=True):
            time.sleep(pause)
            call()
            begin = time.perf_counter()
            call()
            once = time.perf_counter() - begin
            for _ in range(int(WARM_UP / once)):
                call()
            count = max(1, int(TURN / once))
            begin = time.perf_counter()
            for _ in range(count):
                call()
            taken.append((time.perf_counter() - begin) / count)
    return [statistics.median(taken) for taken in samples]


def fresh(code: str, **variables: str) -> str:
    """Run code in a fresh interpreter and return the last line that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.splitlines()[-1]
