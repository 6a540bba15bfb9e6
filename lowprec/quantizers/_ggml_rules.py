"""How GGML finds the scale and the codes of its blocks, in float32, operation by operation.

Written from the behaviour of ggml-quants.c (llama.cpp, MIT licence) and checked against its bytes. Every function
takes blocks, a float32 array of shape (blocks, 32) of finite numbers, and returns their codes (uint8), the float32
scales, and the float32 minima or None.
"""

from __future__ import annotations

import numpy as np

from lowprec._checks import Array
from lowprec._codebook_tables import IQ4_NL

Found = tuple[Array, Array, Array | None]

_TRIES = 7  # to each side of the first scale
_TINY = np.float32(1e-15)  # blocks below it become zeros
_CHUNK = 1 << 15  # blocks at a time


def signed(blocks: Array, bits: int) -> Found:
    """Q4_0 and Q5_0: the number farthest from 0 becomes the least code, so the scale has the opposite sign."""
    half = np.float32(1 << (bits - 1))
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = farthest / -half
    codes = np.trunc(blocks * _reciprocal(scale) + (half + np.float32(0.5)))
    return np.minimum(codes, 2 * half - 1).astype(np.uint8), scale[:, 0], None


def affine(blocks: Array, bits: int) -> Found:
    """Q4_1 and Q5_1: from the least number, code 0, to the largest."""
    last = np.float32((1 << bits) - 1)
    least = blocks.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        scale = (blocks.max(axis=1, keepdims=True) - least) / last
        codes = np.trunc((blocks - least) * _reciprocal(scale) + np.float32(0.5))
    return np.minimum(codes, last).astype(np.uint8), scale[:, 0], least[:, 0]


def symmetric(blocks: Array) -> Found:
    """Q8_0: whole numbers from -127 to 127, halves away from 0."""
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    quotient = blocks * _reciprocal(scale)
    whole = np.trunc(quotient)
    whole += np.trunc(2 * (quotient - whole))  # exact: the quotient is 127 and a little at most
    return whole.astype(np.int8).view(np.uint8), scale[:, 0], None


def searched(blocks: Array) -> Found:
    """IQ4_NL: the scale of 16 that fits best, by least squares with the weights x**2.

    The first scale makes the number farthest from 0 the least value of the table, -127, with the other sign; then come
    scales that make it -134 to -120. Each gives codes, and they the best scale d = sum(w q x) / sum(w q q). The largest
    sum(w q x)**2 / sum(w q q) wins, the first of equals. Sums run over the elements in order.
    """
    found = [_search(blocks[start : start + _CHUNK]) for start in range(0, len(blocks), _CHUNK)]
    codes, scales = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return codes, scales, None


def _search(blocks: Array) -> tuple[Array, Array]:
    """Return codes and scales of a number of blocks at once."""
    table = np.array(IQ4_NL, np.float32)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    live = np.abs(farthest) >= _TINY
    kept, farthest = blocks[live], farthest[live]
    columns = np.ascontiguousarray(kept.T)
    weights = columns * columns

    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        scale, best = np.zeros_like(farthest), np.zeros_like(farthest)
        for attempt in range(-1 - _TRIES, _TRIES + 1):
            first = attempt == -1 - _TRIES
            inverse = 1 / (-farthest / table[0]) if first else (np.float32(attempt) + table[0]) / farthest
            with_x, with_q = np.zeros_like(farthest), np.zeros_like(farthest)
            for x, w in zip(columns, weights, strict=True):
                q = table[_nearest(inverse * x)]
                with_x += w * q * x
                with_q += w * q * q
            fitted = with_x / with_q
            if first:
                scale = np.where(with_q > 0, fitted, np.float32(0))
                best = scale * with_x
            else:
                better = (with_q > 0) & (with_x * with_x > best * with_q)
                scale, best = np.where(better, fitted, scale), np.where(better, fitted * with_x, best)
        scales = np.zeros(len(blocks), np.float32)
        scales[live] = scale
        return _nearest(blocks * _reciprocal(scales)[:, None]).astype(np.uint8), scales


def _nearest(x: Array) -> Array:
    """Return the codes of the values of IQ4_NL's table that are nearest, of two at the same distance the larger."""
    table = np.array(IQ4_NL, np.float32)
    below = np.clip(np.searchsorted(table, x, side="right") - 1, 0, len(table) - 2)
    return below + (x - table[below] >= table[below + 1] - x)


def microscaled(blocks: Array) -> Found:
    """MXFP4 as GGML makes it: the rule "floor" in float32 logarithms, and ties to the smaller magnitude."""
    farthest = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore"):
        logarithm = np.log2(farthest.astype(np.float64)).astype(np.float32)
    exponent = np.where(farthest > 0, np.floor(np.maximum(logarithm, np.float32(-125))) - 2, -127)
    scale = np.ldexp(np.float32(1), exponent.astype(np.int32))
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    midpoints = (magnitudes[:-1] + magnitudes[1:]) / 2
    with np.errstate(over="ignore", under="ignore"):
        codes = np.searchsorted(midpoints, np.abs(blocks) / scale[:, None], side="left")
    return (codes + 8 * ((codes > 0) & (blocks < 0))).astype(np.uint8), scale, None


def _reciprocal(scale: Array) -> Array:
    """Return 1 / scale in float32; 0 where that is no number, in blocks whose scale float16 rounds to 0."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    return np.where(np.isfinite(inverse), inverse, np.float32(0))
