"""What the bridge to torch adds to a product's own time; asv skips it where torch is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some

SIZES = some([64, 576, 1024], [64])
FORMATS = some(["bfloat16", "float8_e4m3fn"], ["bfloat16"])


class Bridge:
    """A linear layer inside `emulate`, against `lowprec.linear` and `matmul` of the same arrays."""

    params = (FORMATS, SIZES)
    param_names = ("format", "n")

    def setup(self, fmt: str, n: int) -> None:
        try:
            import torch
        except ImportError as error:
            raise NotImplementedError from error
        self.torch: Any = torch
        rng = np.random.default_rng(0)
        self.x, w = (rng.standard_normal((n, n), np.float32) for _ in range(2))
        self.w, self.b = w, rng.standard_normal(n, np.float32)
        self.layer, self.plain = torch.nn.Linear(n, n), torch.nn.Linear(n, n, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(w))
            self.plain.weight.copy_(torch.from_numpy(w))
            self.layer.bias.copy_(torch.from_numpy(self.b))

    def track_time_over_linear(self, fmt: str, n: int) -> float:
        x = self.torch.from_numpy(self.x)
        with self.torch.no_grad(), lp.torch.emulate(fmt):
            one, other = medians(lambda: self.layer(x), lambda: lp.linear(self.x, self.w, self.b, fmt))
        return one / other

    def track_time_over_matmul(self, fmt: str, n: int) -> float:
        x = self.torch.from_numpy(self.x)
        with self.torch.no_grad(), lp.torch.emulate(fmt):
            one, other = medians(lambda: self.plain(x), lambda: lp.matmul(self.x, self.w.T, fmt))
        return one / other
