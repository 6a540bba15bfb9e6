"""Codes of less than 8 bits into bytes without gaps, and out of them.

The stream of bits begins with the lowest bit of the first byte, so that eight codes of n bits fill n bytes. Codes must
have no bits above their width.
"""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.words import both, constant, either, full_width, shl, shr


@njit()
def pack_codes(codes, out, bits):
    """Pack codes into bytes; what is left of the last one is 0."""
    full_width()
    count, start, done = codes.size, 0, 0
    if bits == 4:
        done = count // 2
        for i in range(done):
            a, b = codes[np.uint64(2 * i)], codes[np.uint64(2 * i + 1)]
            out[i] = either(a, shl(b, constant(b, 4)))
        start, done = done, 2 * done
    elif bits == 2:
        done = count // 4
        for i in range(done):
            at = np.uint64(4 * i)
            a, b, c, d = codes[at], codes[at + np.uint64(1)], codes[at + np.uint64(2)], codes[at + np.uint64(3)]
            low, high = either(a, shl(b, constant(b, 2))), either(c, shl(d, constant(d, 2)))
            out[i] = either(low, shl(high, constant(high, 4)))
        start, done = done, 4 * done
    elif bits == 6:
        done = count // 4
        for i in range(done):
            at, to = np.uint64(4 * i), np.uint64(3 * i)
            a, b, c, d = codes[at], codes[at + np.uint64(1)], codes[at + np.uint64(2)], codes[at + np.uint64(3)]
            out[to] = either(a, shl(b, constant(b, 6)))
            out[to + np.uint64(1)] = either(shr(b, constant(b, 2)), shl(c, constant(c, 4)))
            out[to + np.uint64(2)] = either(shr(c, constant(c, 4)), shl(d, constant(d, 2)))
        start, done = 3 * done, 4 * done
    word, filled = np.uint64(0), 0
    for i in range(done, count):
        word |= np.uint64(codes[i]) << np.uint64(filled)
        filled += bits
        if filled >= 8:
            out[start] = np.uint8(word & np.uint64(0xFF))
            word >>= np.uint64(8)
            start, filled = start + 1, filled - 8
    if filled:
        out[start] = np.uint8(word & np.uint64(0xFF))


@njit()
def unpack_codes(data, out, bits):
    """Unpack as many codes as there is room for."""
    full_width()
    count, start, done = out.size, 0, 0
    if bits == 4:
        done = count // 2
        for i in range(done):
            a = data[i]
            out[np.uint64(2 * i)] = both(a, constant(a, 15))
            out[np.uint64(2 * i + 1)] = shr(a, constant(a, 4))
        start, done = done, 2 * done
    elif bits == 2:
        done = count // 4
        for i in range(done):
            a, at = data[i], np.uint64(4 * i)
            out[at] = both(a, constant(a, 3))
            out[at + np.uint64(1)] = both(shr(a, constant(a, 2)), constant(a, 3))
            out[at + np.uint64(2)] = both(shr(a, constant(a, 4)), constant(a, 3))
            out[at + np.uint64(3)] = shr(a, constant(a, 6))
        start, done = done, 4 * done
    elif bits == 6:
        done = count // 4
        for i in range(done):
            at, to = np.uint64(3 * i), np.uint64(4 * i)
            a, b, c = data[at], data[at + np.uint64(1)], data[at + np.uint64(2)]
            mask = constant(a, 63)
            out[to] = both(a, mask)
            out[to + np.uint64(1)] = both(either(shr(a, constant(a, 6)), shl(b, constant(b, 2))), mask)
            out[to + np.uint64(2)] = both(either(shr(b, constant(b, 4)), shl(c, constant(c, 4))), mask)
            out[to + np.uint64(3)] = shr(c, constant(c, 2))
        start, done = 3 * done, 4 * done
    word, filled = np.uint64(0), 0
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for i in range(done, count):
        if filled < bits:
            word |= np.uint64(data[start]) << np.uint64(filled)
            start, filled = start + 1, filled + 8
        out[i] = np.uint8(word & mask)
        word >>= np.uint64(bits)
        filled -= bits
