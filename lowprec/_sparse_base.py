"""What a Sparse24 holds, and what follows from that alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lowprec import _compression as compression
from lowprec import _sparse_parts
from lowprec._checks import Array
from lowprec._parts import read_only
from lowprec._patterns import SparsityPattern
from lowprec._sparse_parts import Elements
from lowprec.arrays import QuantizedArray
from lowprec.codebooks import ElementFormat


class SparseFacts:
    """Values, the codes of their places, and the facts about both; frozen."""

    __slots__ = ("__weakref__", "_length", "_nibbles", "_pattern", "axis", "recipe", "values")

    _nibbles: Array
    _pattern: SparsityPattern
    _length: int
    values: Elements
    axis: int
    recipe: str

    __array_ufunc__ = None  # so that NumPy's operators do not take it for an object array

    def _take(
        self, values: Elements, packed: Array, pattern: SparsityPattern, axis: int, length: int, recipe: str
    ) -> None:
        """Take parts that are known to be right."""
        parts = {
            "values": values if isinstance(values, QuantizedArray) else read_only(values),
            "_nibbles": read_only(packed),
            "_pattern": pattern,
            "_length": length,
            "axis": axis,
            "recipe": recipe,
        }
        for name, value in parts.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: what is sparse stays as it is."""
        msg = f"`{name}` of a Sparse24 must not be set; make a new one, for example with .with_values()."
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        """Refuse, too."""
        self.__setattr__(name, None)

    @property
    def pattern(self) -> str:
        """The name of the pattern: "2:4", "1:2" or "4:8"."""
        return str(self._pattern)

    @property
    def nibbles(self) -> Array:
        """The codes of the groups as bytes, read-only and C-contiguous: (..., ceil(groups / 2)), the sparse axis last.

        The code of an even group is in the low half of its byte. An odd last one has 0x4 above it.
        """
        return read_only(np.ascontiguousarray(self._nibbles))

    @property
    def _codes(self) -> Array:
        """The codes of the groups, one to a byte, the sparse axis last."""
        return compression.unpack_nibbles(self._nibbles, compression.group_count(self._length, self._pattern))

    @property
    def indices(self) -> Array:
        """The places of kept elements in their groups, as the constructor takes them; uint8, read-only."""
        places = compression.indices_of_nibbles(self._codes, self._pattern)
        return read_only(np.moveaxis(places, -1, self.axis))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense array."""
        return (*self.values.shape[: self.axis], self._length, *self.values.shape[self.axis + 1 :])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.values.ndim

    @property
    def size(self) -> int:
        """Number of elements of the dense array."""
        return math.prod(self.shape)

    @property
    def format(self) -> ElementFormat:
        """Format of the elements."""
        return _sparse_parts.format_of(self.values)

    @property
    def mask(self) -> Array:
        """Which elements of the dense array are kept: bool, read-only."""
        ones = np.ones((*self._nibbles.shape[:-1], self._kept), np.bool_)
        dense = compression.scatter(ones, self._codes, self._pattern, self._length, fill=False)
        return read_only(np.moveaxis(dense, -1, self.axis))

    @property
    def _kept(self) -> int:
        """Kept elements along the sparse axis."""
        return int(self.values.shape[self.axis])

    @property
    def density(self) -> float:
        """The part of the dense array's elements that is kept."""
        if not self.size or self._length % self._pattern.group == 0:
            return self._pattern.density
        return float(np.count_nonzero(self.mask)) / self.size

    @property
    def nbytes(self) -> int:
        """Bytes of the values, at the bits of their format, and of 4 bits for each group, both rounded up."""
        values = self.values
        packed: int = -(-math.prod(values.shape) * self.format.bits // 8)
        groups: int = math.prod(self._nibbles.shape[:-1]) * compression.group_count(self._length, self._pattern)
        return (values.nbytes if isinstance(values, QuantizedArray) else packed) + -(-groups // 2)

    @property
    def _block(self) -> int:
        """How many elements of the dense array along the sparse axis cannot be taken apart."""
        if not isinstance(self.values, QuantizedArray) or self.values.block_size is None:
            return self._pattern.group
        block = self.values.blocks[self.axis]
        return self._pattern.group if block >= self._kept else block // self._pattern.kept * self._pattern.group

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        """Refuse: whether zeros are wanted is for the caller to say."""
        msg = "`Sparse24` must not become a plain array unasked; call .to_dense(), or take .values."
        raise TypeError(msg)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Return what it is, without its numbers."""
        facts = [f"shape={self.shape}", f"format={self.format.name!r}"]
        if isinstance(self.values, QuantizedArray):
            facts += [f"scale={self.values.scale_format.name!r}"]
        facts += [f"pattern={self.pattern!r}", f"axis={self.axis}"]
        facts += [f"recipe={self.recipe!r}"] if self.recipe else []
        return f"Sparse24({', '.join(facts)})"
