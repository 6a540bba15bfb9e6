"""Layers that torch fuses, taken apart into products: attention and bilinear."""

from __future__ import annotations

import math
from typing import Any

import torch


def scores_of(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, is_causal: bool, scale: float | None
) -> torch.Tensor:
    """Return ``q @ k.T * scale`` with the mask: one product, then operations in the tensors' dtype."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = torch.matmul(q, k.mT) * factor
    if is_causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        return scores.masked_fill(~keep, -math.inf)
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -math.inf)
    return scores + mask.to(scores.dtype)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """Return scaled dot-product attention as two products with a softmax between them.

    Tensors of 16 bits are widened to float32 first, as fused kernels keep scores: only the operands of the two products
    are rounded, and the result to the tensors' dtype. A row without a key is 0, as in torch.
    """
    if torch.is_autocast_enabled("cpu"):
        narrow = torch.get_autocast_dtype("cpu")
        query, key, value = (each.to(narrow) for each in (query, key, value))
    dtype = query.dtype
    wide = dtype if dtype == torch.float64 else torch.float32
    with torch.autocast("cpu", enabled=False):
        q, k, v = (each.to(wide) for each in (query, key, value))
        if enable_gqa:
            k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
            v = v.repeat_interleave(q.shape[-3] // v.shape[-3], -3)
        weights: Any = torch._safe_softmax(scores_of(q, k, attn_mask, is_causal, scale), -1)
        weights = torch.dropout(weights, dropout_p, train=True) if dropout_p > 0 else weights
        result: torch.Tensor = torch.matmul(weights, v).to(dtype)
        return result


def bilinear(
    input1: torch.Tensor, input2: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return ``x1 @ w @ x2`` for each output: one product with the weight, and one of its rows with x2."""
    outputs, one, other = weight.shape
    x1, x2 = input1.reshape(-1, one), input2.reshape(-1, other)
    inner = torch.matmul(x1, weight.permute(1, 0, 2).reshape(one, outputs * other)).reshape(-1, outputs, other)
    result = torch.bmm(inner, x2.unsqueeze(-1)).reshape(*input1.shape[:-1], outputs)
    return result if bias is None else result + bias


def flash_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of attention from its weights: four products, in the order of autograd."""
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    to_v = torch.matmul(weights.mT, grad)
    to_weights = torch.matmul(grad, v.mT)
    to_scores: Any = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype) * factor
    return torch.matmul(to_scores, k), torch.matmul(to_scores.mT, q), to_v
