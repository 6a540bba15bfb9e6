"""MMA-Sim's product in the words of its own classes: one call for each instruction of 64 rows, as fast as it gets."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np


def hopper_bf16(a: np.ndarray, b: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that multiplies matrices, rounded to bfloat16, as Hopper's wgmma does."""
    import torch
    from mmasim.nv_ptx import WGMMA

    m, k = a.shape
    n = b.shape[1]
    unit = WGMMA("Hopper", f"m64n{n}k16.f32.bf16.bf16")
    left, right = (torch.from_numpy(x.astype(ml_dtypes.bfloat16).astype(np.float32)).to(torch.bfloat16) for x in (a, b))

    def product() -> np.ndarray:
        parts = []
        for top in range(0, m, 64):
            c = torch.zeros((64, n), dtype=torch.float32)
            for first in range(0, k, 16):
                c = unit(left[top : top + 64, first : first + 16], right[first : first + 16], c)
            parts.append(c.numpy())
        return np.concatenate(parts)

    return product
