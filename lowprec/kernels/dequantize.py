"""Codes and scales into float32 numbers, in one pass over memory; tiles are those of `lowprec.kernels.quantize`."""

from __future__ import annotations

import numpy as np

from lowprec._jit import njit
from lowprec.kernels.packing import unpack_codes
from lowprec.kernels.quantize import STRIP, blocks_of_tile, shape_of, spread, tile_place
from lowprec.kernels.words import full_width, restore_float_mode, standard_float_mode


@njit()
def dequantize_tiles(codes, bits, shape, first, last, table, scales, tensor, points, offsets, out):
    """Write ``(table[code] - point) * (scale * tensor) + offset``, computed in float64, rounded once to float32.

    ``table`` holds the float64 value of every code. ``codes`` are packed if ``bits`` is less than 8. Empty ``points``
    and ``offsets`` stand for none.
    """
    full_width()
    mode = standard_float_mode()
    s = shape_of(shape)
    many = blocks_of_tile(s)
    plain = points.size == 0 and offsets.size == 0
    step, point, offset = np.empty(many), np.zeros(many), np.full(many, -0.0)  # x + -0.0 is x for every x
    steps, shifts, added = np.empty(STRIP + 16), np.zeros(STRIP + 16), np.empty(STRIP + 16)
    room = np.empty(STRIP, np.uint8)
    for tile in range(first, last):
        at, count, start, end, runs, width, apart, repeats = tile_place(tile, s)
        for i in range(count):
            step[i] = np.float64(scales[at + i]) * tensor
            if points.size:
                point[i] = points[at + i]
            if offsets.size:
                offset[i] = offsets[at + i]
        spread(step, count, repeats, steps)
        if not plain:
            spread(point, count, repeats, shifts)
            spread(offset, count, repeats, added)
        for run in range(runs):
            begin = start + run * apart
            stop = min(begin + width, end)
            source = codes[begin:stop] if bits == 8 else room[: stop - begin]
            if bits < 8:
                unpack_codes(codes[begin * bits // 8 :], source, bits)
            target = out[begin:stop]
            if plain:
                for i in range(target.size):
                    target[i] = np.float32(table[source[i]] * steps[i])
            else:
                for i in range(target.size):
                    target[i] = np.float32((table[source[i]] - shifts[i]) * steps[i] + added[i])
    restore_float_mode(mode)
