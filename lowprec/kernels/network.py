"""What stands between the products of a transformer: norms, softmax, gates and rotations, to the bit.

All of it is in float64, rounded once to float32 at the end; sums run over ascending indices. `exp` is a polynomial of
plain multiplications and additions, so that no mathematical library and no vector unit decides its last bit.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import inline, njit
from lowprec.kernels.words import bits_float, float_bits

_LOG2_E = 1.4426950408889634
# ln 2 in two parts: k * _LN2_HIGH is exact for |k| < 2048.
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
_MAGIC = 6755399441055744.0  # 1.5 * 2**52: a float64 plus this is rounded to an integer, which is in its low bits
_LARGEST, _SMALLEST = 709.0, -708.0
# 1 / n! for n = 13 down to 0.
_C13, _C12, _C11, _C10 = 1 / 6227020800, 1 / 479001600, 1 / 39916800, 1 / 3628800
_C9, _C8, _C7, _C6, _C5, _C4, _C3 = 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6


@inline
def exp64(x):
    """Return e**x of a float64, within 2 units in the last place; 0 below -708, infinity above 709."""
    inside = min(max(x, _SMALLEST), _LARGEST)
    shifted = inside * _LOG2_E + _MAGIC
    k = shifted - _MAGIC
    r = (inside - k * _LN2_HIGH) - k * _LN2_LOW
    p = (((_C13 * r + _C12) * r + _C11) * r + _C10) * r + _C9
    p = ((((p * r + _C8) * r + _C7) * r + _C6) * r + _C5) * r + _C4
    p = (((p * r + _C3) * r + 0.5) * r + 1.0) * r + 1.0
    power = bits_float((float_bits(shifted) + np.uint64(1023)) << np.uint64(52))
    result = p * power
    result = np.inf if x > _LARGEST else result
    result = 0.0 if x < _SMALLEST else result
    return x if x != x else result  # NaN


@njit()
def softmax_causal(scores, divisor, out):
    """Write softmax(scores / divisor) of rows: row i of a matrix (rows, length) sees columns 0 to i, the rest is 0."""
    matrices, rows, length = scores.shape
    raised = np.empty(length, np.float64)
    for m in range(matrices):
        for i in range(rows):
            count = min(i + 1, length)
            top = -np.inf
            for j in range(count):
                s = np.float64(np.float32(scores[m, i, j] / divisor))
                raised[j] = s
                top = max(top, s)
            for j in range(count):
                raised[j] = exp64(raised[j] - top)
            total = 0.0
            for j in range(count):
                total += raised[j]
            for j in range(count):
                out[m, i, j] = np.float32(raised[j] / total)
            for j in range(count, length):
                out[m, i, j] = np.float32(0.0)


@njit()
def rms_norm(x, weight, epsilon, out):
    """Write x / sqrt(mean(x**2) + epsilon) * weight of every row."""
    rows, width = x.shape
    for i in range(rows):
        total = 0.0
        for j in range(width):
            value = np.float64(x[i, j])
            total += value * value
        root = np.sqrt(total / width + epsilon)
        for j in range(width):
            out[i, j] = np.float32(np.float64(x[i, j]) / root * np.float64(weight[j]))


@njit()
def silu_gate(gate, up, out):
    """Write gate / (1 + exp(-gate)) * up of every element; all are flat."""
    for i in range(gate.size):
        g = np.float64(gate[i])
        out[i] = np.float32(g / (1.0 + exp64(-g)) * np.float64(up[i]))


@njit()
def rotate_pairs(x, cos, sin, out):
    """Turn the interleaved pairs of (tokens, heads, size) by angles (positions, size / 2), window after window."""
    tokens, heads, size = x.shape
    length = cos.shape[0]
    for i in range(tokens):
        for h in range(heads):
            for j in range(size // 2):
                even, odd = np.float64(x[i, h, 2 * j]), np.float64(x[i, h, 2 * j + 1])
                c, s = np.float64(cos[i % length, j]), np.float64(sin[i % length, j])
                out[i, h, 2 * j] = np.float32(even * c - odd * s)
                out[i, h, 2 * j + 1] = np.float32(even * s + odd * c)


@njit()
def compare_logits(logits, reference, targets, out):
    """Write per row what it loses: surprise, divergence from the reference, their squares, and whether both agree.

    ``out`` has shape (rows, 5): the surprise at ``targets`` in nats (0 where the target is negative), the
    Kullback-Leibler divergence of the reference's distribution from this one in nats, the sum of the reference's
    squares, that of the differences', and 1 where both have the same first maximum. A row with a NaN agrees with none.
    """
    rows, width = logits.shape
    for i in range(rows):
        top, other = -np.inf, -np.inf
        best, wanted = -1, -1
        for j in range(width):
            x, y = logits[i, j], reference[i, j]
            if x > top:
                top, best = np.float64(x), j
            if y > other:
                other, wanted = np.float64(y), j
        total, normal, signal, noise = 0.0, 0.0, 0.0, 0.0
        for j in range(width):
            x, y = np.float64(logits[i, j]), np.float64(reference[i, j])
            total += exp64(x - top)
            normal += exp64(y - other)
            signal += y * y
            noise += (x - y) * (x - y)
        here, there = top + np.log(total), other + np.log(normal)
        divergence = 0.0
        for j in range(width):
            x, y = np.float64(logits[i, j]), np.float64(reference[i, j])
            divergence += exp64(y - other) / normal * ((y - there) - (x - here))
        out[i, 0] = here - np.float64(logits[i, targets[i]]) if targets[i] >= 0 else 0.0
        out[i, 1] = divergence
        out[i, 2] = signal
        out[i, 3] = noise
        out[i, 4] = 1.0 if best == wanted and total == total else 0.0
