"""Tensors as arrays and back, without copies."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from lowprec._checks import Array

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Tensors of these dtypes are multiplied in the emulation."""

_PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def to_array(tensor: torch.Tensor) -> Array:
    """Return a tensor's memory as an array; bfloat16 as that of ml_dtypes."""
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


def to_floats(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array of float32 or float64; copied only if it is of another dtype."""
    array = to_array(tensor)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def to_tensor(array: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return an array as a tensor, rounded to nearest even where the dtype is narrower."""
    tensor = torch.from_numpy(np.asarray(array))
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def why_not(tensors: list[torch.Tensor]) -> str | None:
    """Return why operands cannot be multiplied in the emulation, None if they can."""
    for tensor in tensors:
        if tensor.layout != torch.strided:
            return f"tensors must be dense, got the layout {str(tensor.layout).removeprefix('torch.')}"
        if tensor.is_quantized:
            return f"tensors must hold floats, got the quantised dtype {str(tensor.dtype).removeprefix('torch.')}"
        if type(tensor) not in _PLAIN and not isinstance(tensor, torch.nn.Parameter):
            return f"tensors must be plain, got {type(tensor).__name__}, which computes in its own way"
        if tensor.device.type != "cpu":
            return f"tensors must be on the CPU, got one on {tensor.device}; move the model and its data with .cpu()"
        if tensor.dtype not in FLOATS:
            return f"tensors must be real floats of 16 to 64 bits, got {str(tensor.dtype).removeprefix('torch.')}"
    return None
