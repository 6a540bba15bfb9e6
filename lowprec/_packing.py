"""Codes of less than 8 bits into bytes and out of them, and how long arrays are shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lowprec import _threads
from lowprec._checks import Array
from lowprec.kernels import packing

PIECE = 1 << 16  # numbers that a thread takes at a time


class _Memory:
    """An array's memory, as NumPy asks for it, without its being read-only."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def operand(array: Array) -> Array:
    """Return an array that kernels read, as one that could be written: else they are compiled again for the other."""
    return array if array.flags.writeable else np.asarray(_Memory(array))


def share(work: Callable[[int, int], Any], count: int, grain: int) -> list[Any]:
    """Call ``work(first, last)`` on pieces of so many things, on all threads, and return what the calls returned."""
    pieces = -(-count // grain)
    found: list[Any] = []
    if pieces <= 1:
        return [work(0, count)] if count else found
    numbers = _threads.Pieces(pieces)

    def task() -> None:
        for piece in numbers:
            found.append(work(piece * grain, min(count, (piece + 1) * grain)))

    _threads.share(task, min(pieces, _threads.get_num_threads()))
    return found


def packed(codes: Array, bits: int) -> Array:
    """Return codes of less than 8 bits, a contiguous uint8 array, as `lowprec.pack` packs them, on all threads."""
    flat = operand(codes.reshape(-1))
    out = np.empty(-(-flat.size * bits // 8), np.uint8)
    share(
        lambda first, last: packing.pack_codes(
            flat[first * PIECE : last * PIECE], out[first * PIECE * bits // 8 :], bits
        ),
        -(-flat.size // PIECE),
        1,
    )
    return out


def unpacked(data: Array, bits: int, count: int) -> Array:
    """Return codes of less than 8 bits out of packed ones, a contiguous uint8 array, on all threads."""
    data, out = operand(data), np.empty(count, np.uint8)
    share(
        lambda first, last: packing.unpack_codes(
            data[first * PIECE * bits // 8 :], out[first * PIECE : last * PIECE], bits
        ),
        -(-count // PIECE),
        1,
    )
    return out
