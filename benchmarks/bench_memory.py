"""Memory of a product beyond its operands and its result."""

from __future__ import annotations

import sys

import numpy as np

import lowprec as lp
from benchmarks.common import QUICK, fresh, some

SIZES = some([512, 2048, 4096], [512])
EXTRA = """
import re, numpy as np, lowprec as lp

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

lp.matmul(np.ones((512, 512), np.float32), np.ones((512, 512), np.float32), {fmt!r})
a = np.ones(({n}, {n}), np.float32)
b = np.ones(({n}, {n}), np.float32)
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
before = peak()
c = lp.matmul(a, b, {fmt!r})
assert c[0, 0] == {n}
print(peak() - before - c.nbytes)
"""


class Memory:
    params = (SIZES,)
    param_names = ("n",)

    def setup(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.a, self.b = rng.standard_normal((2, n, n), dtype=np.float32)
        lp.matmul(self.a[:64, :64], self.b[:64, :64], "bf16")

    def peakmem_matmul(self, n: int) -> None:
        lp.matmul(self.a, self.b, "bf16")

    def track_extra(self, n: int) -> float:
        if not sys.platform.startswith("linux"):
            msg = "the peak is read from /proc"
            raise NotImplementedError(msg)
        return max(
            float(fresh(EXTRA.format(n=n, fmt=fmt))) for fmt in (["bf16"] if QUICK else ["bf16", "fp32", "fp64"])
        )

    track_extra.unit = "bytes"
