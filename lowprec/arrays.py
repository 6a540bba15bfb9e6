"""Arrays that carry their scales: plain frozen data that products take as operands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._dequantizing import by_blocks
from lowprec._grid import block_lengths, cut, grid_shape, layout, spread, turned
from lowprec._parts import codes_of, read_only, scales_of, tensor_scale_of, zero_points_of
from lowprec._storage import from_arrays, to_arrays
from lowprec.codebooks import ElementFormat, element_of
from lowprec.codec import cast, decode, pack, unpack
from lowprec.formats import FloatFormat, Format, stored_format


class QuantizedArray:
    """Codes of a format with scales: per tensor, per slice of an axis, or per block along axes.

    The number that a code stands for is ``(value of the code - zero point) * (scale * tensor scale) + offset``.

    Parameters
    ----------
    codes : array_like of unsigned integers
        Codes of `format`, as `encode` gives them, or an array of the dtype that stores the format (float8_e4m3fn of
        ml_dtypes, int8, ...).
    scale : array_like of float
        The scales. Their dtype is the scale format: float32, `ml_dtypes.float8_e8m0fnu` and so on; Python numbers
        make float32. The shape is ``()`` without `axis`; the lengths of the axes in `axis` without `block_size`; with
        `block_size` that of `codes`, the length of each `axis` divided by its block and rounded up.
    zero_point : array_like of int, optional
        For integer formats: the code value that stands for 0. A scalar, or of the shape of `scale`.
    format : str, FloatFormat, IntFormat, CodebookFormat or dtype
        The format of the elements.
    axis : int or tuple of int, optional
        The axes along which scales differ.
    block_size : int or tuple of int, optional
        Consecutive elements along `axis` that share a scale, one number for each axis; the last block may be shorter.
        On all other axes scales then differ from element to element, as OCP's block formats have it.
    tensor_scale : float, optional
        A second scale, of all elements (NVFP4); kept in float32.
    offset : array_like of float, optional
        What is added to the scaled number, of the shape of `scale` (the minimum of GGML's formats).
    recipe : str, optional
        How the array was made, for `repr`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or dtype.
    ValueError
        If shapes do not fit, a code or zero point is out of range, or `axis` does not exist.

    Notes
    -----
    Codes of less than 8 bits are stored packed, and unpacked whenever `codes` is asked for; other arrays are not copied
    where that can be avoided. Nothing can be written through this object. It compares by identity. Scales may be any
    numbers here, NaN for a block that holds none; `quantize` makes positive ones.

    Examples
    --------
    >>> import ml_dtypes, numpy as np, lowprec as lp
    >>> codes = lp.encode(np.ones((2, 64)), "e2m1fn")
    >>> scale = np.full((2, 2), 0.5, ml_dtypes.float8_e8m0fnu)
    >>> q = lp.QuantizedArray(codes, scale, format="e2m1fn", axis=-1, block_size=32)
    >>> q
    QuantizedArray(shape=(2, 64), format='float4_e2m1fn', scale='float8_e8m0fnu', axis=1, block_size=32)
    >>> q.nbytes, q.dequantize()[0, 0]
    (68, np.float32(0.5))
    >>> q[1:, :32].shape
    (1, 32)
    """

    __slots__ = (
        "__weakref__", "_bytes", "_codes", "_order", "_shape", "axis", "block_size", "format", "offset", "recipe",
        "scale", "tensor_scale", "zero_point",
    )  # fmt: skip

    _bytes: Array | None
    _codes: Array | None
    _order: tuple[int, ...] | None
    _shape: tuple[int, ...]
    scale: Array
    zero_point: Array | None
    format: ElementFormat
    axis: int | tuple[int, ...] | None
    block_size: int | tuple[int, ...] | None
    tensor_scale: np.float32 | None
    offset: Array | None
    recipe: str

    __array_ufunc__ = None  # so that NumPy's operators do not take it for an object array

    def __init__(
        self,
        codes: ArrayLike,
        scale: ArrayLike,
        zero_point: ArrayLike | None = None,
        *,
        format: Any,  # noqa: A002 - the contract's name
        axis: int | tuple[int, ...] | None = None,
        block_size: int | tuple[int, ...] | None = None,
        tensor_scale: float | None = None,
        offset: ArrayLike | None = None,
        recipe: str = "",
    ) -> None:
        fmt = element_of(format, "format")
        patterns = codes_of(codes, fmt)
        along, block = layout(axis, block_size, patterns.ndim)
        scales = scales_of(scale, "scale")
        expected = grid_shape(patterns.shape, along, block)
        if scales.shape != expected:
            how = "".join(
                f", {name}={value}" for name, value in (("axis", along), ("block_size", block)) if value is not None
            )
            msg = f"`scale` must have shape {expected} for codes of shape {patterns.shape}{how}, got {scales.shape}."
            raise ValueError(msg)
        added = None if offset is None else scales_of(offset, "offset")
        if added is not None and added.shape not in ((), expected):
            msg = f"`offset` must be a scalar or have the shape of `scale`, {expected}, got {added.shape}."
            raise ValueError(msg)
        if not isinstance(recipe, str):
            msg = f"`recipe` must be a string, got {recipe!r} of type {type(recipe).__name__}."
            raise TypeError(msg)
        packed = fmt.bits < 8
        point = zero_points_of(zero_point, fmt, expected)
        values: dict[str, Any] = {
            "_codes": None if packed else read_only(patterns),
            "_bytes": read_only(pack(patterns, fmt)) if packed else None,
            "_shape": patterns.shape,
            "_order": None,
            "scale": read_only(scales),
            "zero_point": None if point is None else read_only(point),
            "format": fmt,
            "axis": along,
            "block_size": block,
            "tensor_scale": tensor_scale_of(tensor_scale),
            "offset": None if added is None else read_only(np.broadcast_to(added, expected)),
            "recipe": recipe,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: what was quantised stays as it is."""
        msg = f"`{name}` of a QuantizedArray must not be set; make a new one."
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        """Refuse, too."""
        self.__setattr__(name, None)

    def __reduce__(self) -> Any:
        """Pickle by what it is made of."""
        return _rebuilt, (self.codes, self.scale, self.zero_point, self._facts())

    def _facts(self) -> dict[str, Any]:
        """Return the keyword arguments that make an array like this one."""
        names = ("format", "axis", "block_size", "tensor_scale", "offset", "recipe")
        return {name: getattr(self, name) for name in names}

    @property
    def codes(self) -> Array:
        """The codes, one to an element of an unsigned array, read-only."""
        if self._codes is not None:
            return self._codes
        flat = unpack(self._bytes, self.format, math.prod(self._shape))
        codes = flat.reshape(self._shape)
        return read_only(codes if self._order is None else codes.transpose(self._order))

    @property
    def packed(self) -> Array:
        """The codes in C order as `pack` packs them: a uint8 array of one axis."""
        if self._bytes is not None and self._order is None:
            return self._bytes
        return read_only(pack(self.codes, self.format))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return self._shape if self._order is None else tuple(self._shape[axis] for axis in self._order)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def scale_format(self) -> Format:
        """Format of the scales."""
        return stored_format(self.scale.dtype)  # type: ignore[return-value]

    @property
    def blocks(self) -> tuple[int, ...]:
        """How many elements along each axis share a scale."""
        return block_lengths(self.shape, self.axis, self.block_size)

    @property
    def nbytes(self) -> int:
        """Bytes of packed codes, scales, offsets, and zero points at the elements' width (equal ones count once)."""
        points = 0 if self.zero_point is None else self.zero_point.size
        if self.zero_point is not None and points and (self.zero_point == self.zero_point.flat[0]).all():
            points = 1
        packed = sum(-(-bits // 8) for bits in (self.size * self.format.bits, points * self.format.bits))
        others = 0 if self.offset is None else self.scale.size * self.offset.dtype.itemsize
        return packed + self.scale.nbytes + others + (0 if self.tensor_scale is None else 4)

    @property
    def T(self) -> QuantizedArray:
        """The array with its axes reversed."""
        return self.transpose()

    @property
    def mT(self) -> QuantizedArray:
        """The array with its last two axes exchanged."""
        if self.ndim < 2:
            msg = f"`mT` must be asked of an array with 2 axes or more, got {self.ndim}."
            raise ValueError(msg)
        return self.transpose(*range(self.ndim - 2), self.ndim - 1, self.ndim - 2)

    def transpose(self, *axes: int) -> QuantizedArray:
        """Return the array with its axes in another order, without a copy.

        Parameters
        ----------
        *axes : int
            The order, each axis once; reversed if not given.

        Returns
        -------
        QuantizedArray
            Codes and scales are those of this array.

        Raises
        ------
        ValueError
            If `axes` are not the axes of the array, each once.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> q = lp.QuantizedArray(np.zeros((2, 3), np.uint8), np.ones(3, np.float32), format="int8", axis=1)
        >>> q.transpose(1, 0).axis
        0
        """
        order = tuple(axis + self.ndim if axis < 0 else axis for axis in axes) or tuple(range(self.ndim))[::-1]
        if sorted(order) != list(range(self.ndim)):
            msg = f"`axes` must be the axes 0 to {self.ndim - 1}, each once, got {axes}."
            raise ValueError(msg)
        axis, block, turn = turned(self.axis, self.block_size, order)
        grids = [
            x if x is None or turn is None else x.transpose(turn) for x in (self.scale, self.zero_point, self.offset)
        ]
        before = range(self.ndim) if self._order is None else self._order
        return self._like(
            _codes=None if self._codes is None else self._codes.transpose(order),
            _order=None if self._codes is not None else tuple(before[axis] for axis in order),
            _shape=tuple(self.shape[axis] for axis in order) if self._codes is not None else self._shape,
            scale=grids[0],
            zero_point=grids[1],
            offset=grids[2],
            axis=axis,
            block_size=block,
        )

    def _like(self, **changes: Any) -> QuantizedArray:
        """Return a copy with other attributes, which are known to be right."""
        made = object.__new__(QuantizedArray)
        for name in self.__slots__:
            if name != "__weakref__":
                object.__setattr__(made, name, changes.get(name, getattr(self, name)))
        return made

    def __getitem__(self, index: Any) -> QuantizedArray:
        """Return a part: integers and slices, on whole blocks where blocks are longer than one element.

        Raises
        ------
        TypeError
            If an index is neither an integer, a slice nor an ellipsis.
        IndexError
            If an index is out of range or there are too many.
        ValueError
            If a slice cuts a block, or takes a step along an axis with blocks.
        """
        return cut(self, index)

    def dequantize(self, dtype: Any = np.float32) -> Array:
        """Return the numbers that the codes stand for.

        Parameters
        ----------
        dtype : dtype
            A floating dtype of NumPy or ml_dtypes.

        Returns
        -------
        ndarray of `dtype`
            Of the shape of the codes.

        Raises
        ------
        TypeError
            If `dtype` is not a floating dtype that stores a format.

        Notes
        -----
        Differences, products and sums are taken in float64, where they are exact as long as the precisions of element
        and scales add to 53 or less; the result is rounded to `dtype` once, to nearest even.

        Examples
        --------
        >>> import numpy as np, lowprec as lp
        >>> lp.QuantizedArray(np.array([3, 5], np.uint8), 0.5, 4, format="uint4").dequantize()
        array([-0.5,  0.5], dtype=float32)
        """
        target = np.dtype(dtype)
        kept = stored_format(target.newbyteorder("="))
        if not isinstance(kept, FloatFormat):
            msg = f"`dtype` must be a floating dtype of NumPy or ml_dtypes, got {target}."
            raise TypeError(msg)
        fast = by_blocks(self) if target == np.float32 else None
        return self._numbers(target, kept) if fast is None else fast.astype(target, copy=False)

    def _numbers(self, target: np.dtype[Any], kept: FloatFormat) -> Array:
        """Return the numbers by array operations in float64."""
        values: Array = np.asarray(decode(self.codes, self.format, dtype=np.float64))
        scale = self.scale.astype(np.float64)
        with np.errstate(all="ignore"):
            if self.tensor_scale is not None:
                scale = np.asarray(scale * np.float64(self.tensor_scale))
            if self.zero_point is not None:
                values = values - self._spread(self.zero_point.astype(np.float64))
            values = np.asarray(values * self._spread(scale))
            if self.offset is not None:
                values = np.asarray(values + self._spread(self.offset.astype(np.float64)))
            if target in (np.float32, np.float64):
                return values.astype(target, copy=False)
        return np.asarray(cast(values, kept))

    def _spread(self, each: Array) -> Array:
        """Return an array of the scales' shape, made to broadcast with the codes."""
        return spread(each, self.shape, self.axis, self.block_size)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        """Refuse: whether codes or values are meant is for the caller to say."""
        msg = "`QuantizedArray` must not become a plain array unasked; call .dequantize(), or take .codes."
        raise TypeError(msg)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        if not self.ndim:
            msg = "`len` must be asked of an array with an axis, got a 0-d QuantizedArray."
            raise TypeError(msg)
        return self.shape[0]

    def __repr__(self) -> str:
        """Return what it is, without its numbers."""
        facts = [f"shape={self.shape}", f"format={self.format.name!r}", f"scale={self.scale_format.name!r}"]
        facts += [f"{name}=True" for name in ("zero_point", "offset") if getattr(self, name) is not None]
        facts += [f"{name}={value}" for name in ("axis", "block_size") if (value := getattr(self, name)) is not None]
        facts += [] if self.tensor_scale is None else [f"tensor_scale={float(self.tensor_scale):.6g}"]
        facts += [f"recipe={self.recipe!r}"] if self.recipe else []
        return f"QuantizedArray({', '.join(facts)})"

    def to_arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return plain arrays that hold everything, for `numpy.savez` and its like.

        Parameters
        ----------
        prefix : str
            Put before the names, so that several arrays can share a file.

        Returns
        -------
        dict of str to ndarray
            ``prefix + "codes"`` (packed, uint8), ``"scale"`` (float8 and bfloat16 as unsigned integers),
            ``"zero_point"`` and ``"offset"`` if there are any, and ``"facts"``, UTF-8 JSON as uint8.

        Raises
        ------
        TypeError
            If `prefix` is not a string.

        Examples
        --------
        >>> import lowprec as lp
        >>> sorted(lp.quantize([1.0, 2.0], "int8").to_arrays("w."))
        ['w.codes', 'w.facts', 'w.scale']
        """
        return to_arrays(self, prefix)

    @classmethod
    def from_arrays(cls, arrays: Any, prefix: str = "") -> QuantizedArray:
        """Return the array that `to_arrays` took apart.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave, such as what `numpy.load` opens.
        prefix : str
            What the names begin with.

        Returns
        -------
        QuantizedArray
            Equal to the one saved, bit for bit.

        Raises
        ------
        ValueError
            If a name is missing or the facts are not those of a QuantizedArray.

        Examples
        --------
        >>> import lowprec as lp
        >>> q = lp.quantize([1.0, 2.0], "int8")
        >>> lp.QuantizedArray.from_arrays(q.to_arrays()).dequantize()
        array([1.007874, 2.      ], dtype=float32)
        """
        return from_arrays(cls, arrays, prefix)


def assembled(
    codes: Array,
    shape: tuple[int, ...],
    scale: Array,
    zero_point: Array | None,
    *,
    format: ElementFormat,  # noqa: A002 - as in QuantizedArray
    axis: int | tuple[int, ...] | None,
    block_size: int | tuple[int, ...] | None,
    tensor_scale: np.float32 | None,
    recipe: str,
) -> QuantizedArray:
    """Return an array of parts that are known to be right, its own from now on; codes below 8 bits are packed."""
    made: QuantizedArray = object.__new__(QuantizedArray)
    packed = format.bits < 8
    values: dict[str, Any] = {
        "_codes": None if packed else read_only(codes),
        "_bytes": read_only(codes) if packed else None,
        "_shape": tuple(shape),
        "_order": None,
        "scale": read_only(scale),
        "zero_point": None if zero_point is None else read_only(zero_point),
        "format": format,
        "axis": axis,
        "block_size": block_size,
        "tensor_scale": tensor_scale,
        "offset": None,
        "recipe": recipe,
    }
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _rebuilt(codes: Array, scale: Array, point: Array | None, facts: dict[str, Any]) -> QuantizedArray:
    """Return a pickled array."""
    return QuantizedArray(codes, scale, point, **facts)
