"""What a process pays before its first result: the import, and the first product cold and from the cache."""

from __future__ import annotations

import statistics
import tempfile

from benchmarks.common import QUICK, fresh

TIMES = 1 if QUICK else 9
IMPORT = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
FIRST = """
import time, numpy as np, lowprec as lp
a = np.ones((256, 256), np.float32)
t = time.perf_counter()
c = lp.matmul(a, a, "bf16")
t = time.perf_counter() - t
assert (c == 256).all()
print(t)
"""


class Startup:
    """Every number is from fresh interpreters; the median of nine where it is not a first time."""

    timeout = 300

    def track_import_ratio(self) -> float:
        ours, theirs = [], []
        for name in ("lowprec", "numba, ml_dtypes"):
            fresh(IMPORT.format(name))
        for _ in range(TIMES):
            ours.append(float(fresh(IMPORT.format("lowprec"))))
            theirs.append(float(fresh(IMPORT.format("numba, ml_dtypes"))))
        return statistics.median(ours) / statistics.median(theirs)

    def track_import(self) -> float:
        return statistics.median(float(fresh(IMPORT.format("lowprec"))) for _ in range(TIMES))

    def track_first_matmul_cold(self) -> float:
        times = []
        for _ in range(1 if QUICK else 3):
            with tempfile.TemporaryDirectory() as cache:
                times.append(float(fresh(FIRST, NUMBA_CACHE_DIR=cache)))
        return statistics.median(times)

    def track_first_matmul_cached(self) -> float:
        with tempfile.TemporaryDirectory() as cache:
            fresh(FIRST, NUMBA_CACHE_DIR=cache)
            return statistics.median(float(fresh(FIRST, NUMBA_CACHE_DIR=cache)) for _ in range(TIMES))

    track_import_ratio.unit = "time of import numba, ml_dtypes"
    track_import.unit = track_first_matmul_cold.unit = track_first_matmul_cached.unit = "seconds"
