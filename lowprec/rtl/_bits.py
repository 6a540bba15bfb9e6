"""Numbers on ports: arrays of unsigned codes, their bits in words of 64 vectors, and buses of several codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def code_dtype(bits: int) -> np.dtype[Any]:
    """Return the dtype of a port's array: uint64 up to 64 bits, else Python integers in an object array."""
    return np.dtype(np.uint64 if bits <= 64 else object)


def port_array(value: Any, bits: int, name: str) -> Array:
    """Check the values of a port of so many bits; return them as one row of unsigned codes."""
    array = np.asarray(value)
    if not isinstance(value, np.ndarray) and array.dtype.kind == "f":
        array = np.asarray(value, dtype=object)  # NumPy makes floats of lists of large integers
    if array.dtype.kind not in "uiO" or (array.dtype.kind == "O" and not all(type(v) is int for v in array.flat)):
        msg = f"`{name}` must hold unsigned codes (integers), got dtype {array.dtype}; lp.encode(x, fmt) makes them."
        raise TypeError(msg)
    if array.ndim > 1:
        msg = f"`{name}` must have one axis, one element per vector, got shape {array.shape}."
        raise ValueError(msg)
    array = np.atleast_1d(array)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= 1 << bits):
        msg = f"`{name}` must hold codes from 0 to 2**{bits} - 1, got {int(array.min())} to {int(array.max())}."
        raise ValueError(msg)
    return array.astype(code_dtype(bits))


def port_arrays(inputs: Any, ports: Mapping[str, int], name: str) -> dict[str, Array]:
    """Check the values of all ports: the right names, as many values on each."""
    if not isinstance(inputs, Mapping):
        msg = (
            f"`inputs` must be a mapping of port to codes, got {type(inputs).__name__}; {name} has {', '.join(ports)}."
        )
        raise TypeError(msg)
    if set(inputs) != set(ports):
        msg = f"`inputs` must hold the ports {', '.join(ports)} of {name}, got {', '.join(map(str, inputs)) or 'none'}."
        raise ValueError(msg)
    arrays = {port: port_array(inputs[port], bits, f"inputs[{port!r}]") for port, bits in ports.items()}
    lengths = {array.size for array in arrays.values()}
    if len(lengths) > 1:
        said = ", ".join(f"{port}: {array.size}" for port, array in arrays.items())
        msg = f"`inputs` must hold equally many values on every port, got {said}."
        raise ValueError(msg)
    return arrays


def to_words(codes: Array, bits: int) -> npt.NDArray[np.uint64]:
    """Return the bits of codes as (bits, words): bit v of word w of row i is bit i of vector 64 w + v."""
    count = codes.size
    if codes.dtype == object:
        size = -(-bits // 8)
        raw = b"".join(int(code).to_bytes(size, "little") for code in codes)
        columns = np.frombuffer(raw, np.uint8).reshape(count, size)
    else:
        columns = codes.astype("<u8").view(np.uint8).reshape(count, 8)
    rows = np.unpackbits(columns, axis=1, count=bits, bitorder="little").T
    padded = np.zeros((bits, -(-count // 64) * 64), np.uint8)
    padded[:, :count] = rows
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def from_words(words: npt.NDArray[np.uint64], count: int) -> Array:
    """Return the codes of `count` vectors, the reverse of `to_words`."""
    bits = words.shape[0]
    rows = np.unpackbits(np.ascontiguousarray(words.astype("<u8")).view(np.uint8), axis=1, bitorder="little")
    columns = np.packbits(np.ascontiguousarray(rows[:, :count].T), axis=1, bitorder="little")
    if bits > 64:
        out = np.empty(count, object)
        out[:] = [int.from_bytes(row.tobytes(), "little") for row in columns]
        return out
    wide = np.zeros((count, 8), np.uint8)
    wide[:, : columns.shape[1]] = columns
    return wide.view("<u8").reshape(count).astype(np.uint64)


def join(codes: npt.ArrayLike, bits: int) -> Array:
    """Put the codes of several lanes on one bus.

    Parameters
    ----------
    codes : array_like
        Unsigned codes, (vectors, lanes).
    bits : int
        Bits of a lane; lane 0 lies in the lowest bits.

    Returns
    -------
    ndarray
        One code per vector: uint64 if lanes * bits is at most 64, else Python integers.

    Raises
    ------
    TypeError
        If the codes are not integers.
    ValueError
        If the array has not two axes, or a code does not fit.

    Examples
    --------
    >>> join([[1, 2], [3, 4]], 8).tolist()
    [513, 1027]
    """
    array = np.asarray(codes)
    if array.ndim != 2:
        msg = f"`codes` must have two axes, (vectors, lanes), got shape {array.shape}."
        raise ValueError(msg)
    width = bits * array.shape[1]
    rows = [to_words(port_array(lane, bits, "codes"), bits) for lane in array.T]
    return from_words(np.concatenate(rows), array.shape[0]).astype(code_dtype(width))


def split(codes: Array, bits: int, lanes: int) -> Array:
    """Take a bus apart: the reverse of `join`.

    Parameters
    ----------
    codes : ndarray
        One code per vector.
    bits, lanes : int
        Bits of a lane, and how many there are.

    Returns
    -------
    ndarray
        (vectors, lanes).

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> split(np.array([513, 1027], np.uint64), 8, 2).tolist()
    [[1, 2], [3, 4]]
    """
    words = to_words(codes, bits * lanes)
    columns = [from_words(words[bits * lane : bits * (lane + 1)], codes.size) for lane in range(lanes)]
    return np.stack(columns, axis=1)


def signed(codes: Array, bits: int) -> Array:
    """Return the integers that two's complement codes stand for: int64, or Python integers beyond 64 bits."""
    if bits <= 64:
        shift = np.uint64(64 - bits)
        return (codes.astype(np.uint64) << shift).view(np.int64) >> np.int64(64 - bits)
    top = 1 << (bits - 1)
    return np.array([int(code) - ((int(code) & top) << 1) for code in codes], object)


def unsigned(values: Array, bits: int) -> Array:
    """Return the two's complement codes of integers, modulo 2**bits."""
    mask = (1 << bits) - 1
    if bits <= 64 and values.dtype != object:
        return values.astype(np.int64).view(np.uint64) & np.uint64(mask)
    return np.array([int(value) & mask for value in values], code_dtype(bits))
