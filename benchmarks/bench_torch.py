"""What the bridge to torch adds to a product's own time; asv skips it where torch is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np

import lowprec as lp
from benchmarks.common import medians, some

SIZES = some([64, 576, 1024], [64])
FORMATS = some(["bfloat16", "float8_e4m3fn"], ["bfloat16"])


class Bridge:
    """A linear layer inside `emulate`, against `lowprec.linear` of the same arrays."""

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
        self.layer = torch.nn.Linear(n, n)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(w))
            self.layer.bias.copy_(torch.from_numpy(self.b))

    def ratios(self, fmt: str) -> tuple[float, float]:
        """Return the layer's time over that of `linear`, and over that of `matmul`."""
        x = self.torch.from_numpy(self.x)
        with self.torch.no_grad(), lp.torch.emulate(fmt) as emulation:
            inside = lambda: self.layer(x)  # noqa: E731
            bridge, linear, matmul = medians(
                inside,
                lambda: lp.linear(self.x, self.w, self.b, fmt),
                lambda: lp.matmul(self.x, self.w.T, fmt),
            )
        del emulation
        return bridge / linear, bridge / matmul

    def track_time_over_linear(self, fmt: str, n: int) -> float:
        return self.ratios(fmt)[0]

    def track_time_over_matmul(self, fmt: str, n: int) -> float:
        return self.ratios(fmt)[1]
