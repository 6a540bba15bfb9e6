"""The way to the kernels of quantising: which blocks they take, in what numbers they are told, and the threads."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lowprec import _threads
from lowprec._checks import Array
from lowprec._packing import PIECE, operand, packed, share
from lowprec._rules import bare_powers
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.formats import FloatFormat, IntFormat
from lowprec.kernels import quantize as kernels
from lowprec.kernels.quantize import AFFINE, FLOAT, GIVEN, INTEGER, LINEAR, POWER, STRIP, WIDTH, Numbers, Reals, Shape

_LONG = 1 << 16  # numbers of a block that several threads share, in two passes
_POWERS = ("floor", "ceil", "even", "rceil")


class Scaling(NamedTuple):
    """How the scales of blocks are found; what the words mean is said by `lowprec.quantize`."""

    format: FloatFormat  # of the scales
    rule: str = "nearest"  # nearest, up; floor, ceil, even, rceil for float8_e8m0fnu
    divisor: float = 1.0  # the largest magnitude is divided by divisor * unit
    unit: float = 1.0  # what an element of 1 stands for at a scale of 1
    tensor: np.float32 | None = None  # the scale above the scales
    symmetric: bool = True


class Found(NamedTuple):
    """What blocks have become."""

    codes: Array  # uint8: as `lowprec.pack` packs them if the element has less than 8 bits, else in the shape of x
    scale: Array  # in the scale format's dtype, in C order with one axis
    zero_point: Array | None  # int64, likewise


def block_shape(shape: tuple[int, ...], blocks: tuple[int, ...]) -> Shape | None:
    """Return the matrices that blocks of these lengths along each axis make of an array in C order.

    Returns
    -------
    Shape or None
        None where scales in C order do not follow from it: where whole axes come before one that is cut to elements,
        and in tiles that are cut along two axes.
    """
    axes = [(n, min(b, n)) for n, b in zip(shape, blocks, strict=True) if n != 1]
    first = next((i for i, (_, b) in enumerate(axes) if b > 1), len(axes))
    last = next((i for i in range(len(axes), first, -1) if axes[i - 1][1] > 1), first)
    if any(n != b for n, b in axes[first + 1 : last]) or math.prod(shape) == 0:
        return None
    columns = math.prod(n for n, _ in axes[last:])
    rows = math.prod(n for n, _ in axes[first:last])
    block = math.prod(b for _, b in axes[first:last])
    if first == last:  # every number is a block
        return Shape(math.prod(shape), 1, 1)
    if columns == 1 and rows % block == 0:
        return Shape(math.prod(shape), 1, block)
    return Shape(rows * columns, columns, block)


def encodable(element: ElementFormat) -> bool:
    """Say whether the kernels encode a format: integers and signed floats of at most 8 bits."""
    if isinstance(element, IntFormat):
        return element.bits <= 8
    if isinstance(element, CodebookFormat) or element.bits > 8 or not (element.is_signed and element.has_zero):
        return False
    return element.emin >= -126 and element.emax + 23 - element.mantissa_bits <= 127


def scalable(scaling: Scaling) -> bool:
    """Say whether the kernels find such scales."""
    if scaling.rule in _POWERS:
        return bare_powers(scaling.format) and scaling.symmetric
    fmt = scaling.format
    stored = (
        fmt.storage_dtype is not None and fmt.storage_dtype.itemsize == fmt.code_dtype.itemsize and fmt.name != "tf32"
    )
    return stored and fmt.has_zero and fmt.mantissa_bits <= 23 and fmt.emin >= -126 and fmt.emax <= 127


def quantize_blocks(
    x: Array, shape: Shape, element: ElementFormat, scaling: Scaling, ends: tuple[int, int] | None = None
) -> Found | None:
    """Find the scales of blocks, and encode every number divided by its scale, in one pass over memory.

    Parameters
    ----------
    x : ndarray of float32, C-contiguous
        The numbers.
    shape : Shape
        Where the blocks lie: `block_shape` of the array's shape.
    element : IntFormat or FloatFormat
        One that is `encodable`.
    scaling : Scaling
        One that is `scalable`.
    ends : pair of int, optional
        Least and largest code value of an integer format; those of the format if not given.

    Returns
    -------
    Found or None
        None if a number is NaN or infinite.

    Notes
    -----
    All arithmetic is float32's, as `lowprec.quantize` defines it. The result does not depend on the number of threads.
    """
    numbers, reals = _settings(element, scaling, shape, ends)
    affine = numbers.kind == AFFINE
    flat, codes = operand(x.reshape(-1)), np.empty(_count(x, shape), np.uint32)
    points = np.empty(codes.size if affine else 0, np.float32)
    if is_long(codes, shape):
        pairs = _extents(flat, shape)  # blocks of two numbers that reach as far
        scratch = np.empty(pairs.size, np.uint8)
        if _run(pairs.reshape(-1), Shape(pairs.size, 1, 2), numbers._replace(bits=8), reals, codes, points, scratch):
            return None
        scale = _stored(codes, scaling.format)
        steps = scale.astype(np.float32) * np.float32(reals.tensor)
        smallest = np.finfo(np.float32).smallest_subnormal
        made = encode_blocks(x, shape, element, np.maximum(steps, smallest), points if affine else None, ends)
    else:
        room = _room(flat, numbers)
        if _run(flat, shape, numbers, reals, codes, points, room):
            return None
        made = _packed(room, x, element, numbers)
        scale = _stored(codes, scaling.format)
    return Found(made, scale, points.astype(np.int64) if affine else None)


def encode_blocks(
    x: Array,
    shape: Shape,
    element: ElementFormat,
    steps: Array,
    points: Array | None = None,
    ends: tuple[int, int] | None = None,
) -> Array:
    """Encode every number divided by its block's ``steps``, which are positive float32 numbers in C order.

    Parameters
    ----------
    x, shape, element, ends
        As in `quantize_blocks`; all numbers finite.
    steps : ndarray of float32
        What the numbers of each block are divided by.
    points : ndarray, optional
        The zero point of each block.

    Returns
    -------
    ndarray of uint8
        As `Found.codes`.
    """
    numbers = Numbers(kind=GIVEN, **_element_numbers(element, shape))
    reals = Reals(1.0, 1.0, 1.0, *_ends(element, ends))
    flat, divisors = operand(x.reshape(-1)), np.array(steps.reshape(-1), np.float32).view(np.uint32)
    zeros = np.empty(0, np.float32) if points is None else np.array(points.reshape(-1), np.float32)
    room = _room(flat, numbers)
    if not is_long(divisors, shape):
        _run(flat, shape, numbers, reals, divisors, zeros, room)
    else:
        for i, part in enumerate(long_blocks(flat.size, shape)):
            pieces = -(-(part.stop - part.start) // PIECE)
            where = slice(part.start * numbers.bits // 8, None)
            same, zero = np.repeat(divisors[i], pieces), np.repeat(zeros[i : i + 1], pieces)
            few = Shape(part.stop - part.start, 1, PIECE)
            _run(flat[part], few, numbers, reals, same, zero, room[where])
    return _packed(room, x, element, numbers)


def largest(x: Array) -> np.float32:
    """Return the largest magnitude of C-contiguous float32 numbers; NaN or infinity if there is one."""
    if x.size == 0:
        return np.float32(0)
    pairs = _extents(operand(x.reshape(-1)), Shape(x.size, 1, x.size))
    return np.float32(np.abs(pairs).max())


def tiles_of(size: int, shape: Shape) -> tuple[int, int]:
    """Return how many tiles an array has, and how many of them are a piece of work."""
    length, columns, block = shape
    down = -(-(length // columns) // block)
    if columns == 1:
        many = max(1, STRIP // block)
        tiles, numbers = -(-down // many), min(many * block, length)
    else:
        tiles, numbers = down * -(-columns // WIDTH), min(columns, WIDTH) * min(block, length // columns)
    return tiles * (size // length), max(1, PIECE // numbers)


def _run(flat: Array, shape: Shape, numbers: Numbers, reals: Reals, codes: Array, points: Array, out: Array) -> int:
    """Run the kernel on all tiles, on all threads; return how many blocks are not finite."""
    where, integers, floats = np.array(shape, np.int64), np.array(numbers, np.int64), np.array(reals, np.float32)
    tiles, grain = tiles_of(flat.size, shape)

    def work(first: int, last: int) -> int:
        return int(kernels.quantize_tiles(flat, where, first, last, integers, floats, codes, points, out))

    return sum(share(work, tiles, grain))


def _count(x: Array, shape: Shape) -> int:
    """Return how many blocks there are."""
    return x.size // shape.length * -(-(shape.length // shape.columns) // shape.block) * shape.columns


def is_long(blocks: Array, shape: Shape) -> bool:
    """Say whether blocks are so long, and so few, that threads share them in two passes over memory."""
    return shape.columns == 1 and shape.block > _LONG and blocks.size < 8 * _threads.get_num_threads()


def long_blocks(size: int, shape: Shape) -> list[slice]:
    """Return where the blocks of rows lie."""
    return [
        slice(start, min(start + shape.block, row + shape.length))
        for row in range(0, size, shape.length)
        for start in range(row, row + shape.length, shape.block)
    ]


def _extents(flat: Array, shape: Shape) -> Array:
    """Return the largest number and the least one of each block of rows, 0 included; shape (blocks, 2)."""
    found = []
    for part in long_blocks(flat.size, shape):
        ends = _ends_of_run(flat[part])
        found.append([max(most for most, _ in ends), max(least for _, least in ends)])
    pairs = np.array(found, np.uint32)
    pairs[:, 1] = np.where(pairs[:, 1] >> 31, pairs[:, 1], 0)
    return pairs.view(np.float32)


def _ends_of_run(run: Array) -> list[tuple[int, int]]:
    """Return the signed and the unsigned maximum of pieces of a run."""
    return share(lambda first, last: kernels.extent(run[first:last]), run.size, 4 * PIECE)


def _ends(element: ElementFormat, ends: tuple[int, int] | None) -> tuple[float, float]:
    """Return the least and the largest element."""
    return (float(element.min), float(element.max)) if ends is None else (float(ends[0]), float(ends[1]))


def aligned(bits: int, shape: Shape) -> bool:
    """Say whether every tile begins with a byte of packed codes."""
    return all(n * bits % 8 == 0 for n in (shape.length, shape.block if shape.columns == 1 else shape.columns))


def _element_numbers(element: ElementFormat, shape: Shape) -> dict[str, int]:
    """Return what the kernel is told of the elements."""
    told = {"width": element.bits, "bits": element.bits if aligned(element.bits, shape) else 8}
    if not isinstance(element, FloatFormat):
        return {"element": INTEGER, "drop": 0, "emin": 0, "sign": 0, "zero_sign": 0, **told}
    sign = 1 << (element.bits - 1)
    zero_sign = sign * int(element.has_negative_zero)
    return {"element": FLOAT, **_places(element), "sign": sign, "zero_sign": zero_sign, **told}


def _places(fmt: FloatFormat) -> dict[str, int]:
    """Return where a format's last place and smallest normal number lie in float32."""
    return {"drop": 23 - fmt.mantissa_bits, "emin": 127 + fmt.emin}


def _scale_numbers(scaling: Scaling) -> dict[str, int]:
    """Return what the kernel is told of scales that are not bare powers of two."""
    fmt = scaling.format
    smallest = fmt.bits <= 8
    return {
        "zero": 1 if smallest else fmt.bias << fmt.mantissa_bits,  # the code of 1
        "zero_bits": _bits(fmt.smallest_subnormal if smallest else 1.0),
        **{f"scale_{name}": number for name, number in _places(fmt).items()},
        "scale_most": fmt.max_code,
        "scale_most_bits": _bits(fmt.max),
        "scale_least_bits": _bits(fmt.smallest_subnormal),
        "scale_up": int(scaling.rule == "up"),
    }


def _bits(value: float) -> int:
    """Return the bits of a float32 number."""
    return int(np.float32(value).view(np.uint32))


def _settings(
    element: ElementFormat, scaling: Scaling, shape: Shape, ends: tuple[int, int] | None
) -> tuple[Numbers, Reals]:
    """Return what the kernel is told."""
    low, high = _ends(element, ends)
    tensor = scaling.unit if scaling.tensor is None else float(scaling.tensor)
    divisor, share = scaling.divisor * scaling.unit, 1.0
    told = _element_numbers(element, shape)
    if scaling.rule in _POWERS:
        emax = 0
        if scaling.rule != "rceil":
            divisor, emax = 1.0, math.frexp(element.max * scaling.unit)[1] - 1
        bump = {"floor": 0, "even": 1 << (22 - _fraction_bits(element))}.get(scaling.rule, 0x7FFFFF)
        numbers = Numbers(kind=POWER, emax=emax, bump=bump, **told)
    else:
        share = 1.0 if scaling.tensor is None else float(scaling.tensor)
        divisor = divisor if scaling.symmetric else high - low
        numbers = Numbers(kind=LINEAR if scaling.symmetric else AFFINE, **told, **_scale_numbers(scaling))
    return numbers, Reals(divisor, share, tensor, low, high)


def _fraction_bits(element: ElementFormat) -> int:
    """Return the bits after the leading one of the largest element."""
    return element.mantissa_bits if isinstance(element, FloatFormat) else max(0, element.bits - 2)


def _stored(codes: Array, fmt: FloatFormat) -> Array:
    """Return codes of scales in the dtype that stores them."""
    return codes.astype(fmt.code_dtype, copy=False).view(fmt.storage_dtype)


def _room(flat: Array, numbers: Numbers) -> Array:
    """Return room for the codes."""
    return np.empty(-(-flat.size * numbers.bits // 8), np.uint8)


def _packed(room: Array, x: Array, element: ElementFormat, numbers: Numbers) -> Array:
    """Return codes in the shape of x, or packed ones."""
    if element.bits == 8:
        return room.reshape(x.shape)
    return room if numbers.bits == element.bits else packed(room, element.bits)
