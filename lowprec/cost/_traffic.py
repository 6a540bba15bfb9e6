"""Bits that arrays and products take: elements, scales, zero points, and what says which elements are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from lowprec import _checks
from lowprec import _text_tables as tables
from lowprec._grid import Axis, grid_shape, layout
from lowprec._patterns import SparsityPattern, hardware_pattern
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import ElementFormat, element_of
from lowprec.cost._figure import Figure
from lowprec.cost._printed import Printed
from lowprec.formats import Format, IntFormat

_NIBBLE = 4  # bits that say which elements of a group are kept
_TENSOR_SCALE = 32
_WORD = {"tf32": 32}  # bits of the words that memory holds, where they are more than those of the format
_MOST = 2**63


@dataclass(frozen=True, eq=False, repr=False)
class Traffic(Printed):
    """What an array takes in a format, in bits.

    Made by `traffic`; everything is an exact count.

    Parameters
    ----------
    name : str
        The format, with what belongs to it.
    shape : tuple of int, optional
        Of the dense array; None if only bits per element are asked for.
    element : FloatFormat, IntFormat or CodebookFormat
        Of the elements.
    scale, zero_point : FloatFormat, IntFormat or None
        Of the scales and zero points.
    scales_per_block : int
        1, or 2 where each block has an offset beside its scale.
    tensor_bits : int
        Bits that the whole array takes once.
    axis, block_size
        Where scales lie (see `lowprec.quantize`).
    sparsity : SparsityPattern, optional
        What is kept.
    sparse_axis : int
        Along which axis.

    Raises
    ------
    Nothing.
    """

    name: str
    shape: tuple[int, ...] | None
    element: ElementFormat
    scale: Format | None = None
    zero_point: Format | None = None
    scales_per_block: int = 1
    tensor_bits: int = 0
    axis: Any = None
    block_size: Any = None
    sparsity: SparsityPattern | None = None
    sparse_axis: int = -1

    @property
    def _bits(self) -> int:
        """Bits of an element in memory."""
        return _WORD.get(self.element.name, self.element.bits)

    @property
    def parts(self) -> dict[str, int]:
        """Bits of elements, metadata, scales, zero points and of the tensor, of the shape; each in whole bytes."""
        if self.shape is None:
            msg = "`shape` must be given for bits in all, got None; pass it to lp.cost.traffic."
            raise ValueError(msg)
        kept, groups = _kept(self.shape, self.sparsity, self.sparse_axis)
        blocks = _blocks(self.shape, self.axis, self.block_size) if self.scale or self.zero_point else 0
        bits = {
            "elements": kept * self._bits,
            "metadata": groups * _NIBBLE,
            "scales": blocks * self.scale.bits * self.scales_per_block if self.scale else 0,
            "zero points": blocks * self.zero_point.bits if self.zero_point else 0,
            "tensor": self.tensor_bits,
        }
        return {name: -(-count // 8) * 8 for name, count in bits.items() if count}

    @property
    def bits(self) -> int:
        """Bits in all, of the shape."""
        return sum(self.parts.values())

    @property
    def bytes(self) -> int:
        """Bytes in all, of the shape: the `nbytes` of such a `QuantizedArray` or `Sparse24`."""
        return self.bits // 8

    @property
    def per_element(self) -> dict[str, float]:
        """Bits for each element of a large dense array, part by part: no padding, nothing of the whole tensor."""
        density = Fraction(1) if self.sparsity is None else Fraction(self.sparsity.kept, self.sparsity.group)
        block = self.block_size
        size = math.prod(block) if isinstance(block, tuple) else block
        found = {
            "elements": self._bits * density,
            "metadata": Fraction(_NIBBLE, self.sparsity.group) if self.sparsity else Fraction(0),
            "scales": Fraction(self.scale.bits * self.scales_per_block, size) if self.scale and size else Fraction(0),
            "zero points": Fraction(self.zero_point.bits, size) if self.zero_point and size else Fraction(0),
        }
        return {name: float(count) for name, count in found.items() if count}

    @property
    def bits_per_element(self) -> Figure:
        """Bits for each element of the dense array: of this shape if there is one, else of a large array."""
        elements = math.prod(self.shape) if self.shape is not None else 0
        value = self.bits / elements if elements else sum(self.per_element.values())
        return Figure(value, "bit", "exact count", self.name)

    def of(self, shape: Any, axis: int | None = None) -> Traffic:
        """Return the same for another shape.

        Parameters
        ----------
        shape : tuple of int
            Of the dense array.
        axis : int, optional
            Along which blocks and sparsity go, if another.

        Returns
        -------
        Traffic
            Of that shape.

        Raises
        ------
        TypeError
            If a length is no integer.
        ValueError
            If a length is negative, or an axis does not exist.

        Examples
        --------
        >>> import lowprec as lp
        >>> lp.cost.traffic("mxfp4").of((64, 128)).bytes
        4352
        """
        lengths = shape_of(shape)
        turned = self if axis is None else replace(self, axis=_moved(self.axis, axis), sparse_axis=axis)
        return replace(turned, shape=_checked(turned, lengths))

    def _view(self) -> tables.Table:
        rows = []
        for name, count in (self.per_element if self.shape is None else self.parts).items():
            bits = count / (math.prod(self.shape) or 1) if self.shape is not None else count
            rows.append([name, f"{bits:.6g}", *([] if self.shape is None else [str(int(count) // 8)])])
        columns = ["<part", "bits per element", *([] if self.shape is None else ["bytes"])]
        each = self.bits_per_element
        rows.append(["in all", f"{each:.6g}", *([] if self.shape is None else [str(self.bytes)])])
        size = "" if self.shape is None else f", {' x '.join(map(str, self.shape))}"
        return tables.Table(columns, rows, f"{self.name}{size}")

    def __repr__(self) -> str:
        """Return one line."""
        size = "" if self.shape is None else f", {' x '.join(map(str, self.shape))}: {self.bytes} bytes"
        return f"<Traffic of {self.name}: {self.bits_per_element:.6g} bits per element{size}>"


def traffic(
    fmt: Any,
    shape: Any = None,
    *,
    axis: Any = None,
    block_size: Any = None,
    scale_dtype: Any = None,
    zero_point: Any = None,
    sparsity: Any = None,
    sparse_axis: int = -1,
) -> Traffic:
    """Return the bits that an array takes in a format, with its scales and with the metadata of its sparsity.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat, CodebookFormat, BlockFormat or dtype
        Format of the elements, or a block format.
    shape : int or tuple of int, optional
        Of the dense array. Without it only bits per element are known.
    axis, block_size : int or tuple of int, optional
        Where scales lie, as in `lowprec.quantize`: one for the array without both, one for each index of `axis`, or
        one for each block along it. A `block_size` alone goes along the last axis; so do block formats.
    scale_dtype : str, FloatFormat or dtype, optional
        Format of the scales; "fp32" where `axis` or `block_size` ask for scales. A block format has its own.
    zero_point : bool, str or IntFormat, optional
        Format of zero points, one for each scale; True for that of the elements. For integers.
    sparsity : {"2:4", "1:2", "4:8"} or SparsityPattern, optional
        What is kept; scales remain as many as the dense array has.
    sparse_axis : int
        Along which axis.

    Returns
    -------
    Traffic
        ``.bits_per_element``, ``.bytes``, ``.bits``, ``.parts``; prints as a table.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, a length negative, an axis does not exist, a pattern is none that hardware has, or
        scales are asked for that a block format has already.

    Notes
    -----
    Equal to the `nbytes` of what `lowprec.quantize` and `lowprec.sparsify` make of such a shape, as long as zero points
    differ (a `QuantizedArray` counts equal ones once) and groups fit the shape. The metadata of sparsity are 4 bits
    for a group, whatever the width of the elements: 2:4 takes 9 of 16 bits, 5 of 8, 3 of 4. Elements of tf32 lie in
    words of 32 bits.

    See Also
    --------
    matmul_traffic : Of the three matrices of a product.

    Examples
    --------
    >>> import lowprec as lp
    >>> for name in ("mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "nvfp4"):
    ...     print(name, float(lp.cost.traffic(name).bits_per_element))
    mxfp8_e4m3 8.25
    mxfp6_e2m3 6.25
    mxfp4 4.25
    nvfp4 4.5
    >>> float(lp.cost.traffic("int8", sparsity="2:4").bits_per_element)
    5.0
    >>> print(lp.cost.traffic("int4", (4096, 4096), block_size=128, scale_dtype="fp16", zero_point=True))
    int4, scales of float16 and zero points of int4 in blocks of 128, 4096 x 4096
    part         bits per element    bytes
    -----------  ----------------  -------
    elements                    4  8388608
    scales                  0.125   262144
    zero points           0.03125    65536
    in all                4.15625  8716288
    """
    pattern = None if sparsity is None else hardware_pattern(sparsity, "sparsity")
    lengths = None if shape is None else shape_of(shape)
    if block_size is not None and axis is None:
        axis = -1
    if is_block_name(fmt):
        made = _of_block(fmt, axis, block_size, scale_dtype, zero_point)
    else:
        made = _of_element(fmt, axis, block_size, scale_dtype, zero_point)
    along = _integer(sparse_axis, "sparse_axis")
    name = made.name if pattern is None else f"{made.name}, {pattern}"
    made = replace(made, name=name, sparsity=pattern, sparse_axis=along)
    if lengths is None:
        _blocks_alone(made)
        return made
    return replace(made, shape=_checked(made, lengths))


def _of_block(fmt: Any, axis: Any, block_size: Any, scale_dtype: Any, zero_point: Any) -> Traffic:
    """Return what a block format takes."""
    made = block_format(fmt)
    for name, value in (("block_size", block_size), ("scale_dtype", scale_dtype), ("zero_point", zero_point)):
        if value is not None:
            msg = f"`{name}` must not be given for the block format `{made}`, which has its own, got {value!r}."
            raise ValueError(msg)
    unsigned = isinstance(made.element, IntFormat) and made.element.min == 0 and not made.offset
    once = _TENSOR_SCALE if made.two_level or made.unit != 1 else made.element.bits if unsigned else 0
    return Traffic(
        made.name,
        None,
        made.element,
        made.scale,
        scales_per_block=1 + int(made.offset),
        tensor_bits=once,
        axis=-1 if axis is None else axis,
        block_size=made.block_size,
    )


def _of_element(fmt: Any, axis: Any, block_size: Any, scale_dtype: Any, zero_point: Any) -> Traffic:
    """Return what elements with scales take."""
    element = element_of(fmt, "fmt")
    asked = axis is not None or block_size is not None
    scale = None
    if scale_dtype is not None or asked:
        scale = _checks.refuse_integer(
            _checks.fmt_of("fp32" if scale_dtype is None else scale_dtype, "scale_dtype"), "scale_dtype"
        )
    point = _zero_point(zero_point, element)
    words = [element.name]
    if scale is not None or point is not None:
        of = [f"scales of {scale.name}"] if scale is not None else []
        of += [f"zero points of {point.name}"] if point is not None else []
        where = f"in blocks of {block_size}" if block_size is not None else f"along axis {axis}" if asked else "of all"
        words.append(f"{' and '.join(of)} {where}")
    return Traffic(", ".join(words), None, element, scale, point, axis=axis, block_size=block_size)


def _zero_point(value: Any, element: ElementFormat) -> Format | None:
    """Return the format of zero points."""
    if value is None or value is False:
        return None
    if not isinstance(element, IntFormat):
        msg = f"`zero_point` must be None for `{element.name}`: only integers have zero points, got {value!r}."
        raise ValueError(msg)
    return element if value is True else _checks.fmt_of(value, "zero_point")


def _integer(value: Any, name: str) -> int:
    """Check an integer."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    return int(value)


def shape_of(shape: Any) -> tuple[int, ...]:
    """Check a shape."""
    items = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    lengths = tuple(_integer(item, "shape") for item in items)
    if min(lengths, default=0) < 0:
        msg = f"`shape` must have lengths of 0 or more, got {lengths}."
        raise ValueError(msg)
    if math.prod(lengths) >= _MOST:
        msg = f"`shape` must have fewer than 2**63 elements, got {lengths}."
        raise ValueError(msg)
    return lengths


def _checked(made: Traffic, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check that axes exist in a shape."""
    layout(made.axis, made.block_size, len(shape))
    if made.sparsity is not None and not -len(shape) <= made.sparse_axis < len(shape):
        msg = f"`sparse_axis` must be from {-len(shape)} to {len(shape) - 1} for shape {shape}, got {made.sparse_axis}."
        raise ValueError(msg)
    return shape


def _blocks_alone(made: Traffic) -> None:
    """Refuse scales whose count only a shape tells, where there is none; check the rest as far as it can be."""
    if made.axis is not None and made.block_size is None:
        msg = f"`shape` must be given for scales along axis {made.axis}, got None; their count depends on it."
        raise ValueError(msg)
    if made.block_size is not None:
        axes = made.axis if isinstance(made.axis, (tuple, list)) else (made.axis,)
        most = max((max(one, -1 - one) + 1 for one in axes if isinstance(one, (int, np.integer))), default=1)
        layout(made.axis, made.block_size, max(most, len(axes)))


def _moved(axis: Any, to: int) -> Axis:
    """Return the axis of blocks along another one."""
    if isinstance(axis, tuple):
        return axis  # blocks along several axes stay where they are
    return None if axis is None else to


def _kept(shape: tuple[int, ...], pattern: SparsityPattern | None, axis: int) -> tuple[int, int]:
    """Return how many elements are kept, and of how many groups."""
    elements = math.prod(shape)
    if pattern is None:
        return elements, 0
    length = shape[axis]
    rows = elements // length if length else 0
    groups = rows * -(-length // pattern.group)
    return groups * pattern.kept, groups


def _blocks(shape: tuple[int, ...], axis: Any, block_size: Any) -> int:
    """Return how many scales there are."""
    along, block = layout(axis, block_size, len(shape))
    return math.prod(grid_shape(shape, along, block))
