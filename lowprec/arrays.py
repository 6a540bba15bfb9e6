"""Arrays that carry their scales: plain frozen data that products take as operands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec.codec import cast, decode
from lowprec.formats import FloatFormat, Format, IntFormat, stored_format

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedArray:
    """Codes of a format with scales: per tensor, per slice of an axis, or per block along an axis.

    The number that a code stands for is ``(value of the code - zero point) * scale``.

    Parameters
    ----------
    codes : array_like of unsigned integers
        Codes of `format`, as `encode` gives them, or an array of the dtype that stores the format (float8_e4m3fn of
        ml_dtypes, int8, ...).
    scale : array_like of float
        The scales. Their dtype is the scale format: float32, `ml_dtypes.float8_e8m0fnu` and so on; Python numbers
        make float32. The shape is ``()`` without `axis`; ``(codes.shape[axis],)`` with `axis` alone; with
        `block_size` that of `codes`, the length of `axis` divided by `block_size` and rounded up.
    zero_point : array_like of int, optional
        For integer formats: the code value that stands for 0. A scalar, or of the shape of `scale`.
    format : str, FloatFormat, IntFormat or dtype
        The format of the elements.
    axis : int, optional
        The axis along which scales differ.
    block_size : int, optional
        Consecutive elements along `axis` that share a scale; the last block may be shorter.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind or dtype.
    ValueError
        If shapes do not fit, a code or zero point is out of range, or `axis` does not exist.

    Notes
    -----
    The arrays are not copied where that can be avoided, and cannot be written through this object. It compares by
    identity.

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
    """

    codes: Array
    scale: Array
    zero_point: Array | None = None
    format: Format = field(kw_only=True)
    axis: int | None = field(default=None, kw_only=True)
    block_size: int | None = field(default=None, kw_only=True)

    __array_ufunc__ = None  # so that NumPy's operators do not take it for an object array

    def __post_init__(self) -> None:
        """Check and normalise."""
        fmt = _checks.fmt_of(self.format, "format")
        codes = _codes(self.codes, fmt)
        axis, block = _axis(self.axis, codes.ndim), self.block_size
        if block is not None:
            block = _positive(block, "block_size")
            if axis is None:
                msg = f"`axis` must be given with block_size={block}, got None; pass axis=-1 for the last one."
                raise ValueError(msg)
        scale = _scale_array(self.scale)
        expected = _scale_shape(codes.shape, axis, block)
        if scale.shape != expected:
            how = "".join(
                f", {name}={value}" for name, value in (("axis", axis), ("block_size", block)) if value is not None
            )
            msg = f"`scale` must have shape {expected} for codes of shape {codes.shape}{how}, got {scale.shape}."
            raise ValueError(msg)
        values = {"codes": codes, "scale": scale, "zero_point": _zero_point(self.zero_point, fmt, expected)}
        for name, array in values.items():
            object.__setattr__(self, name, None if array is None else _read_only(array))
        for name, value in (("format", fmt), ("axis", axis), ("block_size", block)):
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the codes."""
        return tuple(self.codes.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.codes.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.codes.size

    @property
    def scale_format(self) -> Format:
        """Format of the scales."""
        return stored_format(self.scale.dtype)  # type: ignore[return-value]

    @property
    def nbytes(self) -> int:
        """Bytes of the codes packed without gaps, of the scales, and of zero points at the elements' width."""
        points = 0 if self.zero_point is None else self.zero_point.size
        return (
            sum(-(-bits // 8) for bits in (self.size * self.format.bits, points * self.format.bits)) + self.scale.nbytes
        )

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
        """Return the array with its axes in another order, as a view.

        Parameters
        ----------
        *axes : int
            The order, each axis once; reversed if not given.

        Returns
        -------
        QuantizedArray
            Codes and scales are views.

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
        by_block = self.block_size is not None
        scale, point = (
            array.transpose(order) if array is not None and by_block else array
            for array in (self.scale, self.zero_point)
        )
        axis = None if self.axis is None else order.index(self.axis)
        facts: dict[str, Any] = {"format": self.format, "axis": axis, "block_size": self.block_size}
        return QuantizedArray(self.codes.transpose(order), scale, point, **facts)  # type: ignore[arg-type]

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
        Difference and product are taken in float64, where they are exact as long as the precisions of element and scale
        add to 53 or less; the result is rounded to `dtype` once, to nearest even.

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
        values: Array = np.asarray(decode(self.codes, self.format, dtype=np.float64))
        with np.errstate(all="ignore"):
            if self.zero_point is not None:
                values = values - self._spread(self.zero_point.astype(np.float64))
            values = np.asarray(values * self._spread(self.scale.astype(np.float64)))
            if target in (np.float32, np.float64):
                return values.astype(target, copy=False)
        return np.asarray(cast(values, kept))

    def _spread(self, each: Array) -> Array:
        """Return an array of the scales' shape, made to broadcast with the codes."""
        if self.axis is None:
            return each
        if self.block_size is None:
            return each.reshape([-1 if axis == self.axis else 1 for axis in range(self.ndim)])
        spread = np.repeat(each, self.block_size, axis=self.axis)
        return spread[tuple(slice(length) for length in self.shape)]

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
        facts += ["zero_point=True"] if self.zero_point is not None else []
        facts += [f"{name}={value}" for name in ("axis", "block_size") if (value := getattr(self, name)) is not None]
        return f"QuantizedArray({', '.join(facts)})"


def _read_only(array: Array) -> Array:
    """Return a view that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _positive(value: Any, name: str) -> int:
    """Check a length."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer of 1 or more, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value < 1:
        msg = f"`{name}` must be 1 or more, got {value}."
        raise ValueError(msg)
    return int(value)


def _axis(axis: Any, ndim: int) -> int | None:
    """Check an axis, counted from the front."""
    if axis is None:
        return None
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        msg = f"`axis` must be an integer or None, got {axis!r} of type {type(axis).__name__}."
        raise TypeError(msg)
    if not -ndim <= axis < ndim:
        msg = f"`axis` must be from {-ndim} to {ndim - 1} for codes with {ndim} axes, got {axis}."
        raise ValueError(msg)
    return int(axis) % ndim


def _codes(codes: Any, fmt: Format) -> Array:
    """Return codes in the format's code dtype."""
    array = _checks.plain_array(codes, "codes")
    if array.dtype == fmt.storage_dtype and array.dtype.itemsize == fmt.code_dtype.itemsize and fmt.name != "tf32":
        array = array.view(fmt.code_dtype)
        return array & fmt.code_dtype.type((1 << fmt.bits) - 1) if fmt.bits < 8 else array
    if array.dtype.kind not in "iu":
        msg = (
            f"`codes` must be {fmt.code_dtype} codes of `{fmt}`, or an array of its own dtype, got dtype {array.dtype}."
        )
        raise TypeError(msg)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high >> fmt.bits:
        msg = f"`codes` must be from 0 to {2**fmt.bits - 1} for `{fmt}`, got {low if low < 0 else high}."
        raise ValueError(msg)
    return array.astype(fmt.code_dtype, copy=False)


def _scale_array(scale: Any) -> Array:
    """Return scales as an array of a floating dtype; Python numbers make float32."""
    array = _checks.plain_array(scale, "scale")
    if not hasattr(scale, "dtype") and array.dtype.kind in "iuf":
        array = array.astype(np.float32)
    if not isinstance(stored_format(array.dtype.newbyteorder("=")), FloatFormat):
        mend = (
            "; view codes of scales as their dtype, such as ml_dtypes.float8_e8m0fnu" if array.dtype.kind in "u" else ""
        )
        msg = f"`scale` must be of a floating dtype of NumPy or ml_dtypes, got {array.dtype}{mend}."
        raise TypeError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _scale_shape(shape: tuple[int, ...], axis: int | None, block: int | None) -> tuple[int, ...]:
    """Return the shape that scales must have."""
    if axis is None:
        return ()
    if block is None:
        return (shape[axis],)
    return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])


def _zero_point(point: Any, fmt: Format, shape: tuple[int, ...]) -> Array | None:
    """Return zero points as int64 of the scales' shape."""
    if point is None:
        return None
    if not isinstance(fmt, IntFormat):
        msg = f"`zero_point` must be None for the float format `{fmt}`, got {point!r}."
        raise ValueError(msg)
    array = _checks.plain_array(point, "zero_point")
    if array.dtype.kind not in "iu":
        msg = f"`zero_point` must be of integers, got dtype {array.dtype}."
        raise TypeError(msg)
    if array.shape not in ((), shape):
        msg = f"`zero_point` must be a scalar or have the shape of `scale`, {shape}, got {array.shape}."
        raise ValueError(msg)
    if array.size and (array.min() < fmt.min or array.max() > fmt.max):
        wrong = array.min() if array.min() < fmt.min else array.max()
        msg = f"`zero_point` must be from {int(fmt.min)} to {int(fmt.max)} for `{fmt}`, got {wrong}."
        raise ValueError(msg)
    return np.broadcast_to(array.astype(np.int64), shape)
