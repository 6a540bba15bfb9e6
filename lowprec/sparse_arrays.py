"""Sparse arrays that keep 2 of every 4 elements, as sparse tensor cores take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec import _compression as compression
from lowprec import _metadata, _sparse_checks, _sparse_parts
from lowprec._checks import Array, plain_array
from lowprec._patterns import SparsityPattern, hardware_pattern
from lowprec._sparse_base import SparseFacts
from lowprec._sparse_parts import Elements
from lowprec._sparse_storage import from_arrays, to_arrays
from lowprec.arrays import QuantizedArray
from lowprec.codec import cast
from lowprec.formats import FloatFormat, stored_format


class Sparse24(SparseFacts):
    """The kept elements of an array with 2:4 structured sparsity, and the places where they stood.

    In every aligned group of elements along one axis only some are kept: two of four in "2:4"; one of two in "1:2", for
    tf32; two of four pairs in "4:8", for elements of 4 bits. All others are zero.

    Parameters
    ----------
    values : array_like or QuantizedArray
        The kept elements, group by group, in ascending order of their places. The shape is the dense one with the
        length K of `axis` replaced by what is kept of ``ceil(K / group)`` groups. An array of any dtype that stores a
        format, or a `QuantizedArray`, whose blocks along `axis` then count kept elements.
    indices : array_like of int
        The place of each kept element in its group, of the shape of `values`: 0 to 3 for "2:4", 0 or 1 for "1:2". For
        "4:8" the place of each pair, 0 to 3, so half as many along `axis`. Ascending in each group.
    pattern : {"2:4", "1:2", "4:8"} or SparsityPattern
        What is kept.
    axis : int
        The axis along which it is kept.
    length : int, optional
        K, the length of the dense array along `axis`; all of the groups by default. If K is no multiple of the group,
        the last group is padded: what is kept of places from K on must be zero.
    recipe : str, optional
        How the array was made, for `repr`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or dtype.
    ValueError
        If shapes do not fit, indices do not ascend or are out of range, `axis` does not exist, something that is not
        zero is kept in the padding, or a `QuantizedArray` has offsets, a scale for each index of `axis`, blocks that
        are not whole groups, or no zero.

    Notes
    -----
    Stored are the values and 4 bits for each group. Nothing can be written through this object; values are not copied
    where that can be avoided. It compares by identity. Kept elements may be zero, of either sign.

    References
    ----------
    NVIDIA, PTX ISA 8.5, section 9.7.14.5.1, sparse matrix storage.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> s = lp.Sparse24(np.float32([[1, 2, 3, 4]]), [[0, 3, 1, 2]])
    >>> s
    Sparse24(shape=(1, 8), format='float32', pattern='2:4', axis=1)
    >>> s.to_dense()
    array([[1., 0., 0., 2., 0., 3., 4., 0.]], dtype=float32)
    >>> s.nbytes, s.metadata()
    (17, array([[17564]], dtype=uint16))
    """

    __slots__ = ()

    def __init__(
        self,
        values: Any,
        indices: Any,
        *,
        pattern: str | SparsityPattern = "2:4",
        axis: int = -1,
        length: int | None = None,
        recipe: str = "",
    ) -> None:
        kept = _sparse_parts.elements_of(values, "values")
        how = hardware_pattern(pattern)
        along = _sparse_checks.axis_of(axis, kept.ndim)
        places = _sparse_checks.places_of(indices, kept.shape, how, along)
        self._set(kept, compression.nibbles_of_indices(places, how), how, along, length, recipe)

    def _set(
        self, values: Elements, nibbles: Array, pattern: SparsityPattern, axis: int, length: int | None, recipe: str
    ) -> None:
        """Take checked elements and legal codes (..., groups), with the sparse axis last; check the rest."""
        if not isinstance(recipe, str):
            msg = f"`recipe` must be a string, got {recipe!r} of type {type(recipe).__name__}."
            raise TypeError(msg)
        groups = nibbles.shape[-1]
        covered = _sparse_checks.length_of(length, groups, pattern)
        if isinstance(values, QuantizedArray):
            _sparse_parts.resized(values, axis, pattern.kept, pattern.group)
        if covered % pattern.group:
            _sparse_checks.check_padding(values, nibbles, pattern, axis, covered)
        self._take(values, compression.pack_nibbles(nibbles), pattern, axis, covered, recipe)

    def __reduce__(self) -> Any:
        """Pickle by what it is made of."""
        return _rebuilt, (self.values, self.nibbles, self.pattern, self.axis, self._length, self.recipe)

    @classmethod
    def from_dense(
        cls, x: Any, *, pattern: str | SparsityPattern = "2:4", axis: int = -1, mask: Any = None
    ) -> Sparse24:
        """Compress an array that fits the pattern already, or that a mask makes fit.

        Parameters
        ----------
        x : array_like or QuantizedArray
            At most two of each group of four are not zero (or what else `pattern` says).
        pattern : {"2:4", "1:2", "4:8"} or SparsityPattern
            What is kept.
        axis : int
            The axis along which it is kept.
        mask : array_like of bool, optional
            What is kept, of the shape of `x`; what is not becomes zero. It then decides in place of the zeros of `x`.

        Returns
        -------
        Sparse24
            ``to_dense()`` gives `x` back, masked, but for the signs of zeros: one that is not kept becomes +0.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind or dtype.
        ValueError
            If a group has more than the pattern keeps; the first is named. Or if `x` has no axis `axis`, `mask` another
            shape, or `x` is quantised in a way that a `Sparse24` cannot hold.

        Notes
        -----
        Zeros of both signs count as zero, NaN as not zero; an element of a quantised array is zero if its code is that
        of a zero, or its zero point. Groups with fewer than two are filled up as CUTLASS's converter does it: for
        "2:4", places {2, 3} are kept of a group of zeros, {0, 2} if only place 0 is not zero, {1, 2} for place 1, {2,
        3} for places 2 and 3. The same holds for the pairs of "4:8"; of "1:2" the second of two zeros is kept. The last
        group is padded with zeros.

        References
        ----------
        PyTorch 2.13, torch/sparse/_semi_structured_conversions.py, sparse_semi_structured_from_dense_cutlass.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> s = lp.Sparse24.from_dense(np.float32([[0, 5, 0, 6], [0, 7, 0, 0]]))
        >>> s.values.tolist(), s.indices.tolist()
        ([[5.0, 6.0], [7.0, 0.0]], [[1, 3], [1, 2]])
        """
        how = hardware_pattern(pattern)
        dense = _sparse_parts.elements_of(x, "x")
        along = _sparse_checks.axis_of(axis, dense.ndim)
        if mask is None:
            keep = np.logical_not(_sparse_parts.is_zero(dense))
        else:
            keep = plain_array(mask, "mask")
            if keep.dtype != np.bool_:
                msg = f"`mask` must be of dtype bool, got {keep.dtype}; write mask != 0."
                raise TypeError(msg)
            if keep.shape != dense.shape:
                msg = f"`mask` must have the shape of `x`, {dense.shape}, got {keep.shape}."
                raise ValueError(msg)
        nibbles = compression.nibbles_of_keep(np.moveaxis(keep, along, -1), how)
        at = compression.first_true(nibbles == 0)
        if at is not None:
            _sparse_checks.refuse_group(dense, keep, at, how, along, masked=mask is not None)
        return compressed(dense, nibbles, how, along, keep=None if mask is None else keep)

    @classmethod
    def from_metadata(
        cls,
        values: Any,
        metadata: Any,
        *,
        layout: str = "plain",
        pattern: str | SparsityPattern = "2:4",
        axis: int = -1,
        length: int | None = None,
    ) -> Sparse24:
        """Return the array of kept elements and the words that hardware takes their places in.

        Parameters
        ----------
        values : array_like or QuantizedArray
            The kept elements, as `Sparse24` takes them.
        metadata : array_like of int
            The words, as `metadata` gives them; signed words of the same width serve, too.
        layout : {"plain", "cutlass"}
            Their order.
        pattern : {"2:4", "1:2", "4:8"} or SparsityPattern
            What is kept.
        axis : int
            The axis along which it is kept.
        length : int, optional
            The length of the dense array along `axis`, as `Sparse24` takes it.

        Returns
        -------
        Sparse24
            Codes in the last word of a row, beyond the last group, are not read.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind or dtype, such as words of the wrong width.
        ValueError
            If a code is none of the pattern's; the first is named. Or if shapes do not fit, or the layout is not
            defined for the shape; and as `Sparse24` raises.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.Sparse24.from_metadata(np.float16([[1, 2, 3, 4]]), np.uint16([[0x449C]])).indices
        array([[0, 3, 1, 2]], dtype=uint8)
        """
        how = hardware_pattern(pattern)
        kept = _sparse_parts.elements_of(values, "values")
        along = _sparse_checks.axis_of(axis, kept.ndim)
        layout = _metadata.checked_layout(layout)
        bits = _sparse_parts.format_of(kept).bits
        groups = _sparse_checks.groups_of(kept.shape, how, along)
        shape = list(kept.shape)
        shape[along] = -(-groups // (2 * _metadata.word_dtype(bits).itemsize))
        words = _metadata.checked_words(metadata, bits, tuple(shape))
        if layout == "cutlass":
            dense = list(kept.shape)
            dense[along] = _sparse_checks.length_of(length, groups, how)
            _metadata.check_cutlass(tuple(dense), along, bits, how)
            words = _metadata.from_cutlass(words)
        nibbles = _metadata.nibbles_of_words(np.moveaxis(words, along, -1), groups)
        _metadata.check_nibbles(nibbles, how, "metadata")
        made: Sparse24 = object.__new__(cls)
        made._set(kept, nibbles, how, along, length, "")
        return made

    @property
    def T(self) -> Sparse24:
        """The array with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> Sparse24:
        """The array with its last two axes exchanged."""
        if self.ndim < 2:
            msg = f"`mT` must be asked of an array with 2 axes or more, got {self.ndim}."
            raise ValueError(msg)
        return self.transpose(*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)

    def transpose(self, *axes: int) -> Sparse24:
        """Return the array with its axes in another order, without a copy.

        Parameters
        ----------
        *axes : int
            The order, each axis once; reversed if not given.

        Returns
        -------
        Sparse24
            Sparse along the same axis, wherever it is now.

        Raises
        ------
        ValueError
            If `axes` are not the axes of the array, each once.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.Sparse24(np.float32([[1, 2]]), [[0, 1]]).transpose(1, 0)
        Sparse24(shape=(4, 1), format='float32', pattern='2:4', axis=0)
        """
        order = tuple(axis + self.ndim if axis < 0 else axis for axis in axes) or tuple(range(self.ndim))[::-1]
        if sorted(order) != list(range(self.ndim)):
            msg = f"`axes` must be the axes 0 to {self.ndim - 1}, each once, got {axes}."
            raise ValueError(msg)
        others = [axis - int(axis > self.axis) for axis in order if axis != self.axis]
        packed = self._nibbles.transpose(*others, self.ndim - 1)
        values = self.values.transpose(*order)
        return assembled(values, packed, self._pattern, order.index(self.axis), self._length, self.recipe)

    def __getitem__(self, index: Any) -> Sparse24:
        """Return a part: integers and slices, whole groups (and whole blocks of scales) along the sparse axis.

        Raises
        ------
        TypeError
            If an index is neither an integer, a slice nor an ellipsis, or an integer for the sparse axis.
        IndexError
            If an index is out of range or there are too many.
        ValueError
            If a slice cuts a group or a block of scales, or takes a step along the sparse axis.
        """
        items = _sparse_checks.expanded_index(index, self.ndim)
        axis, pattern = self.axis, self._pattern
        start, stop = _sparse_checks.whole_groups(items[axis], self._length, self._block, axis)
        first, last = compression.group_count(start, pattern), compression.group_count(stop, pattern)
        codes = self._codes[(*items[:axis], *items[axis + 1 :], slice(first, last))]
        items[axis] = slice(first * pattern.kept, last * pattern.kept)
        values = self.values[tuple(items)]
        along = sum(isinstance(item, slice) for item in items[:axis])
        return assembled(values, compression.pack_nibbles(codes), pattern, along, stop - start, self.recipe)

    def to_dense(self) -> Elements:
        """Return the dense array, with zeros where nothing is kept.

        Returns
        -------
        ndarray or QuantizedArray
            As `values` are. Zeros are +0; in a quantised array the code of +0, or the zero point. A new array, but for
            the scales.

        Raises
        ------
        Nothing.

        Notes
        -----
        Quantised zeros take the sign of their scale, and are NaN where it is NaN or infinite; in
        ``dequantize().to_dense()`` they are +0.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.Sparse24(np.float32([1, 2]), [1, 0], pattern="1:2", axis=0).to_dense()
        array([0., 1., 2., 0.], dtype=float32)
        """
        values, pattern, axis = self.values, self._pattern, self.axis
        zero = _sparse_parts.zero_of(values)
        if np.ndim(zero):
            zero = np.moveaxis(zero, axis, -1)[..., :: pattern.kept, None]
        bits = np.moveaxis(_sparse_parts.bits_of(values), axis, -1)
        dense = compression.scatter(np.ascontiguousarray(bits), self._codes, pattern, self._length, zero)
        return _sparse_parts.like(values, np.moveaxis(dense, -1, axis), axis, pattern.kept, pattern.group)

    def with_values(self, values: Any) -> Sparse24:
        """Return an array with other values in the same places.

        Parameters
        ----------
        values : array_like or QuantizedArray
            Of the shape of `values`, in any format.

        Returns
        -------
        Sparse24
            Shares the places with this one.

        Raises
        ------
        TypeError
            If `values` are of a dtype that stores no format.
        ValueError
            If their shape is another, and as `Sparse24` raises.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> s = lp.Sparse24(np.float32([1, 2]), [0, 3])
        >>> s.with_values(lp.cast(s.values, "bf16"))
        Sparse24(shape=(4,), format='bfloat16', pattern='2:4', axis=0)
        """
        kept = _sparse_parts.elements_of(values, "values")
        if kept.shape != self.values.shape:
            msg = f"`values` must have the shape of those that they replace, {self.values.shape}, got {kept.shape}."
            raise ValueError(msg)
        if isinstance(kept, QuantizedArray):
            _sparse_parts.resized(kept, self.axis, self._pattern.kept, self._pattern.group)
        if self._length % self._pattern.group:
            _sparse_checks.check_padding(kept, self._codes, self._pattern, self.axis, self._length)
        return assembled(kept, self._nibbles, self._pattern, self.axis, self._length, self.recipe)

    def dequantize(self, dtype: Any = np.float32) -> Sparse24:
        """Return the array with plain numbers of a floating dtype for values.

        Parameters
        ----------
        dtype : dtype
            A floating dtype of NumPy or ml_dtypes.

        Returns
        -------
        Sparse24
            With the numbers that a `QuantizedArray` stands for, or plain values rounded to nearest even.

        Raises
        ------
        TypeError
            If `dtype` is not a floating dtype that stores a format.
        ValueError
            If `dtype` has no zero, or no NaN for values that are one.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> s = lp.Sparse24(lp.quantize(np.float32([1, -2]), "int8"), [0, 3])
        >>> s.dequantize().values
        array([ 1.007874, -2.      ], dtype=float32)
        """
        if isinstance(self.values, QuantizedArray):
            numbers = self.values.dequantize(dtype)
            if self._length % self._pattern.group:  # a zero times a scale that is NaN or infinite is none
                last = np.moveaxis(numbers, self.axis, -1)[..., self._kept - self._pattern.kept :]
                last[_sparse_checks.beyond_end(self._codes, self._pattern, self._length)] = 0
            return self.with_values(numbers)
        target = np.dtype(dtype).newbyteorder("=")
        kept = stored_format(target)
        if not isinstance(kept, FloatFormat):
            msg = f"`dtype` must be a floating dtype of NumPy or ml_dtypes, got {target}."
            raise TypeError(msg)
        return self if self.values.dtype == target else self.with_values(cast(self.values, kept))

    def metadata(self, layout: str = "plain") -> Array:
        """Return the places of kept elements in the words that sparse tensor cores take.

        Parameters
        ----------
        layout : {"plain", "cutlass"}
            Words in the order of the groups, or in the order that CUTLASS's kernels (and torch's converters) want.

        Returns
        -------
        ndarray
            For elements of 16 bits or more uint16 words of 4 groups, for others uint32 words of 8; the first group is
            in the lowest 4 bits. They lie along the sparse axis, all other axes are those of the values. Where the last
            word has more room than there are groups, it has the code 0x4.

        Raises
        ------
        TypeError
            If `layout` is not a string.
        ValueError
            If `layout` is unknown, or "cutlass" for an array without two axes, sparse along the first, with a number of
            rows that is no multiple of 32 (16 for elements of 8 bits and less), or a number of columns that does not
            fill an even number of words.

        References
        ----------
        NVIDIA, PTX ISA 8.5, section 9.7.14.5.1, sparse matrix storage; CUTLASS 3.5,
        tools/util/include/cutlass/util/host_reorder.h, reorder_meta.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> s = lp.Sparse24(np.float16([[1, 2, 3, 4]]), [[0, 3, 1, 2]])
        >>> [hex(word) for word in s.metadata()[0].tolist()]
        ['0x449c']
        """
        layout = _metadata.checked_layout(layout)
        if layout == "cutlass":
            _metadata.check_cutlass(self.shape, self.axis, self.format.bits, self._pattern)
        words = _metadata.words_of(self._codes, _metadata.word_dtype(self.format.bits))
        return _metadata.to_cutlass(words) if layout == "cutlass" else np.moveaxis(words, -1, self.axis)

    def to_arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return plain arrays that hold everything, for `numpy.savez` and its like.

        Parameters
        ----------
        prefix : str
            Put before the names, so that several arrays can share a file.

        Returns
        -------
        dict of str to ndarray
            ``prefix + "values"`` (float8 and bfloat16 as unsigned integers), or what `QuantizedArray.to_arrays` gives
            with the prefix ``prefix + "values."``; ``"nibbles"``; and ``"facts"``, UTF-8 JSON as uint8.

        Raises
        ------
        TypeError
            If `prefix` is not a string.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> sorted(lp.Sparse24(np.float32([1, 2]), [0, 3]).to_arrays("w."))
        ['w.facts', 'w.nibbles', 'w.values']
        """
        return to_arrays(self, prefix)

    @classmethod
    def from_arrays(cls, arrays: Any, prefix: str = "") -> Sparse24:
        """Return the array that `to_arrays` took apart.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave, such as what `numpy.load` opens.
        prefix : str
            What the names begin with.

        Returns
        -------
        Sparse24
            Equal to the one saved, bit for bit.

        Raises
        ------
        ValueError
            If a name is missing, the facts are not those of a Sparse24, or a code is not legal.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> s = lp.Sparse24(np.float32([1, 2]), [0, 3])
        >>> lp.Sparse24.from_arrays(s.to_arrays()).to_dense()
        array([1., 0., 0., 2.], dtype=float32)
        """
        values, packed, facts = from_arrays(arrays, prefix)
        how = hardware_pattern(facts["pattern"])
        kept = _sparse_parts.elements_of(values, "values")
        along = _sparse_checks.axis_of(facts["axis"], kept.ndim)
        groups = _sparse_checks.groups_of(kept.shape, how, along)
        expected = (*kept.shape[:along], *kept.shape[along + 1 :], -(-groups // 2))
        if packed.dtype != np.uint8 or packed.shape != expected:
            msg = f"`arrays` must have nibbles of uint8 and shape {expected}, got {packed.dtype} {packed.shape}."
            raise ValueError(msg)
        nibbles = compression.unpack_nibbles(packed, groups)
        _metadata.check_nibbles(nibbles, how, "nibbles")
        made: Sparse24 = object.__new__(cls)
        made._set(kept, nibbles, how, along, facts["length"], facts["recipe"])
        return made


def assembled(
    values: Elements, packed: Array, pattern: SparsityPattern, axis: int, length: int, recipe: str = ""
) -> Sparse24:
    """Return an array of parts that are known to be right: `packed` as `Sparse24.nibbles`, `axis` from the front."""
    made: Sparse24 = object.__new__(Sparse24)
    made._take(values, packed, pattern, axis, length, recipe)
    return made


def compressed(
    dense: Elements,
    nibbles: Array,
    pattern: SparsityPattern,
    axis: int,
    *,
    keep: Array | None = None,
    recipe: str = "",
) -> Sparse24:
    """Return what legal codes (..., groups), the sparse axis last, keep of an array; False in `keep` makes a zero."""
    zero = _sparse_parts.zero_of(dense)
    bits = _sparse_parts.bits_of(dense)
    if keep is not None:
        bits = np.where(keep, bits, zero).astype(bits.dtype, copy=False)
    if np.ndim(zero):
        zero = np.moveaxis(zero, axis, -1)
    length = dense.shape[axis]
    kept = compression.gather(np.moveaxis(bits, axis, -1), nibbles, pattern, zero)
    values = _sparse_parts.like(dense, np.moveaxis(kept, -1, axis), axis, pattern.group, pattern.kept)
    return assembled(values, compression.pack_nibbles(nibbles), pattern, axis, length, recipe)


def in_places_of(s: Sparse24, dense: Elements) -> Sparse24:
    """Return what stands in another dense array where `s` keeps elements."""
    return compressed(dense, s._codes, s._pattern, s.axis, recipe=s.recipe)


def _rebuilt(values: Elements, packed: Array, pattern: str, axis: int, length: int, recipe: str) -> Sparse24:
    """Return a pickled array."""
    return assembled(values, packed, hardware_pattern(pattern), axis, length, recipe)
