"""GGUF files: the fields and the tensors of a model, read lazily.

The package `gguf` reads them too, and the tests hold this reader against it; it takes six seconds for a vocabulary of
49,152 words, for it makes an array of every string. Here it is a tenth of one.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lowprec.quantizers.ggml import from_ggml_bytes

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
# Number and name of each type, elements of a block, and its bytes.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 20: ("IQ4_NL", 32, 18), 39: ("MXFP4", 32, 17),
}  # fmt: skip
_PLAIN: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


class Tensor(NamedTuple):
    """Where a tensor lies in a file: its type, its shape (rows first), and its bytes."""

    type: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class GGUF:
    """A GGUF file, version 2 or 3, little endian.

    Parameters
    ----------
    path : pathlib.Path
        The file. Its header is read; tensors are mapped, and read when they are asked for.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not a GGUF file, or is cut short.

    Notes
    -----
    The format is specified in ggml's ``docs/gguf.md``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        size = self.path.stat().st_size
        if size < 24:
            msg = f"{str(self.path)!r} is not a GGUF file: it has {size} bytes."
            raise ValueError(msg)
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes: NDArray[np.uint8] = np.frombuffer(mapped, np.uint8)
        cursor = _Cursor(memoryview(mapped), self.path)
        magic, version = bytes(self._bytes[:4]), cursor.skip(4).number(4)
        if magic != b"GGUF" or version not in (2, 3):
            msg = f"{str(self.path)!r} is not a GGUF file of version 2 or 3: it begins with {bytes(self._bytes[:8])!r}."
            raise ValueError(msg)
        tensors, fields = cursor.number(10), cursor.number(10)
        self.fields: dict[str, Any] = {}
        for _ in range(fields):
            name = cursor.text()
            self.fields[name] = cursor.value(cursor.number(4))
        found = [self._entry(cursor) for _ in range(tensors)]
        alignment = self.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            msg = f"{str(self.path)!r} is no valid GGUF file: general.alignment is {alignment!r}."
            raise ValueError(msg)
        start = -(-cursor.at // alignment) * alignment
        self.tensors: dict[str, Tensor] = {}
        for name, tensor in found:
            placed = tensor._replace(start=start + tensor.start)
            if placed.start + placed.nbytes > size:
                end = placed.start + placed.nbytes
                msg = f"{str(self.path)!r} is cut short: tensor {name} ends at byte {end} of {size}."
                raise ValueError(msg)
            self.tensors[name] = placed

    def _entry(self, cursor: _Cursor) -> tuple[str, Tensor]:
        """Read the entry of one tensor; its start is still relative to that of the data."""
        name = cursor.text()
        shape = tuple(cursor.number(10) for _ in range(cursor.number(4)))[::-1]
        kind, start = cursor.number(4), cursor.number(10)
        if kind not in _TYPES:
            known = ", ".join(row[0] for row in _TYPES.values())
            msg = f"{str(self.path)!r} must hold tensors of {known}; {name} is of type {kind}."
            raise ValueError(msg)
        word, block, size = _TYPES[kind]
        count = math.prod(shape)
        if shape and shape[-1] % block:
            msg = f"{str(self.path)!r} is no valid GGUF file: {name} has shape {shape}, in blocks of {block}."
            raise ValueError(msg)
        return name, Tensor(word, shape, start, count // block * size)

    def field(self, name: str) -> Any:
        """Return a field.

        Parameters
        ----------
        name : str
            Such as ``llama.block_count``.

        Returns
        -------
        int, float, bool, str or list
            As the file has it.

        Raises
        ------
        ValueError
            If the file has no such field.
        """
        if name not in self.fields:
            msg = f"{str(self.path)!r} must have the field {name}."
            raise ValueError(msg)
        return self.fields[name]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's bytes.

        Parameters
        ----------
        name : str
            Of the tensor.

        Returns
        -------
        ndarray of uint8, shape (..., bytes of a row)
            A view of the file.

        Raises
        ------
        ValueError
            If the file has no such tensor.
        """
        tensor = self._tensor(name)
        return self._bytes[tensor.start : tensor.start + tensor.nbytes].reshape(*tensor.shape[:-1], -1)

    def numbers(self, name: str) -> NDArray[np.float32]:
        """Return a tensor's numbers.

        Parameters
        ----------
        name : str
            Of the tensor.

        Returns
        -------
        ndarray of float32
            Read-only; GGML's own numbers, bit by bit.

        Raises
        ------
        ValueError
            If the file has no such tensor.
        """
        tensor, data = self._tensor(name), self.raw(name)
        if tensor.type in _PLAIN:
            values = np.array(data.view(_PLAIN[tensor.type]), np.float32)
        else:
            values = np.asarray(from_ggml_bytes(np.asarray(data), tensor.type.lower()).dequantize(), np.float32)
        values.flags.writeable = False
        return values

    def _tensor(self, name: str) -> Tensor:
        """Return the entry of a tensor."""
        if name not in self.tensors:
            msg = f"{str(self.path)!r} must have the tensor {name}."
            raise ValueError(msg)
        return self.tensors[name]


class _Cursor:
    """A place in the header of a file, that moves as it is read."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def skip(self, count: int) -> _Cursor:
        """Move on."""
        self.at += count
        return self

    def number(self, kind: int) -> Any:
        """Read a number of one of GGUF's types."""
        layout = _SCALARS[kind]
        try:
            (value,) = struct.unpack_from(layout, self.data, self.at)
        except struct.error:
            raise self._short() from None
        self.at += struct.calcsize(layout)
        return value

    def text(self) -> str:
        """Read a string."""
        length = self.number(10)
        end = self.at + length
        if end > len(self.data):
            raise self._short()
        value = bytes(self.data[self.at : end]).decode("utf-8", "replace")
        self.at = end
        return value

    def value(self, kind: int) -> Any:
        """Read a value of any type."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number(4), self.number(10)
            if count > len(self.data):
                raise self._short()
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            msg = f"{str(self.path)!r} is no valid GGUF file: a field of type {kind}."
            raise ValueError(msg)
        return self.number(kind)

    def _short(self) -> ValueError:
        """Return the error of a file that ends too soon."""
        return ValueError(f"{str(self.path)!r} is cut short: its header ends at byte {len(self.data)}.")
