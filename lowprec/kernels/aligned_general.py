"""The general forms of the aligned sums over a block of results: `Strip` kernels, one result at a time."""

from __future__ import annotations

from lowprec.kernels.aligned import (
    _grouped,
    _scaled,
    aligned,
    clean,
    codes,
    fused_truncated,
    late_c,
    numbers,
    scale_is_nan,
)
from lowprec.kernels.strip import parameters, strip

NVIDIA_NAN = 0x7FFFFFFF
CANONICAL_NAN = 0x7FC00000


def scaled(job):
    """Continue sums of blocks with a power-of-two scale each."""
    j, o = strip(job), aligned(parameters(job))
    blocks = (j.k + o.length - 1) // o.length
    for i in range(j.rows):
        a = numbers(j.a + i * j.a_step * 4, j.k)
        scale_a = codes(j.scale_a + i * blocks * 8, blocks)
        for n in range(j.columns):
            b = numbers(j.b + n * 4, j.k * j.b_step)
            scale_b = codes(j.scale_b + n * 8, blocks * j.b_step)
            c = numbers(j.c + (i * j.c_step + n) * 4, 1)
            for block in range(blocks):
                first = block * o.length
                sa, sb = scale_a[block], scale_b[block * j.b_step]
                if scale_is_nan(sa, 0) or scale_is_nan(sb, 0):
                    c[0] = clean(float("nan"), NVIDIA_NAN)
                    continue
                count = min(o.length, j.k - first)
                c[0] = clean(_scaled(a, b, j.b_step, first, count, c[0], o, sa + sb - 254), NVIDIA_NAN)


def grouped(job):
    """Continue sums of scaled groups; a scale's block length lies in the place of the rule."""
    j, o = strip(job), aligned(parameters(job))
    scales = (j.k + j.rule - 1) // j.rule
    fraction = o.how & 0xFF
    for i in range(j.rows):
        a = numbers(j.a + i * j.a_step * 4, j.k)
        scale_a = codes(j.scale_a + i * scales * 8, scales)
        for n in range(j.columns):
            b = numbers(j.b + n * 4, j.k * j.b_step)
            scale_b = codes(j.scale_b + n * 8, scales * j.b_step)
            c = numbers(j.c + (i * j.c_step + n) * 4, 1)
            for first in range(0, j.k, o.length):
                last = min(first + o.length, j.k)
                bad = False
                for at in range(first // j.rule, (last + j.rule - 1) // j.rule):
                    bad |= scale_is_nan(scale_a[at], fraction) or scale_is_nan(scale_b[at * j.b_step], fraction)
                if bad:
                    c[0] = clean(float("nan"), NVIDIA_NAN)
                    continue
                value = _grouped(a, b, j.b_step, first, last, c[0], o, scale_a, scale_b, j.b_step, j.rule)
                c[0] = clean(value, NVIDIA_NAN)


def fused(job):
    """Continue sums of blocks aligned with c and truncated.

    A first c of another format has its smallest normal exponent in the place of `random_bits`.
    """
    j, o = strip(job), aligned(parameters(job))
    for i in range(j.rows):
        a = numbers(j.a + i * j.a_step * 4, j.k)
        for n in range(j.columns):
            b = numbers(j.b + n * 4, j.k * j.b_step)
            c = numbers(j.c + (i * j.c_step + n) * 4, 1)
            for first in range(0, j.k, o.length):
                count = min(o.length, j.k - first)
                emin = j.random_bits if first == 0 and j.random_bits else o.c_emin
                value = fused_truncated(a, b, j.b_step, first, count, c[0], o, o.c_bits, emin)
                c[0] = clean(value, NVIDIA_NAN)


def late(job):
    """Continue sums of blocks truncated without c, which is added late."""
    j, o = strip(job), aligned(parameters(job))
    for i in range(j.rows):
        a = numbers(j.a + i * j.a_step * 4, j.k)
        for n in range(j.columns):
            b = numbers(j.b + n * 4, j.k * j.b_step)
            c = numbers(j.c + (i * j.c_step + n) * 4, 1)
            for first in range(0, j.k, o.length):
                count = min(o.length, j.k - first)
                c[0] = clean(late_c(a, b, j.b_step, first, count, c[0], o), CANONICAL_NAN)
