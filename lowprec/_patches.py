"""Where a convolution reads, and the patches that it reads, some megabytes at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lowprec import _threads
from lowprec._checks import Array
from lowprec.kernels.im2col import Window, fill_columns

# Measured: patches that just fill the caches are read back from there, and fewer cost more repacking of the weights.
_BUFFER_BYTES = 1 << 22
_LARGEST_BUFFER = 1 << 25
_FEWEST_POSITIONS = 1024
_DIRECT_POSITIONS = 256  # of an image that is its own matrix, from which on it is multiplied where it lies
_ALONE = 200_000  # elements of patches up to which the calling thread copies alone


class Layer(NamedTuple):
    """The lengths of a convolution."""

    images: int
    channels: int
    outputs: int
    groups: int
    padded: bool
    window: Window

    @property
    def positions(self) -> int:
        """Elements of one channel of the result of one image."""
        return self.window.out_height * self.window.out_width

    @property
    def depth(self) -> int:
        """Rows of the matrix of patches, those of all groups."""
        return self.channels * self.window.kernel_height * self.window.kernel_width

    @property
    def pointwise(self) -> bool:
        """Whether an image is its own matrix of patches."""
        w = self.window
        sizes = (w.height, w.width) == (w.out_height, w.out_width)
        return sizes and w.kernel_height == w.kernel_width == w.stride_rows == w.stride_columns == 1


class Part(NamedTuple):
    """What is summed at a time: positions of one image, or all positions of several."""

    image: int
    last_image: int
    first: int  # position
    last: int

    @property
    def columns(self) -> int:
        """Columns of the matrix of patches."""
        return (self.last_image - self.image) * (self.last - self.first)


# ------------------------------------------------------------------------------------------------------------ checks
def _integer(value: Any, name: str, low: int, kind: str = "an integer or a pair of them (rows, columns)") -> int:
    """Check one of the integers that say where a convolution reads."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__") or np.ndim(value):
        msg = f"`{name}` must be {kind}, got {value!r}."
        raise TypeError(msg)
    number = int(value.__index__())
    if number < low:
        msg = f"`{name}` must be at least {low}, got {number}."
        raise ValueError(msg)
    return number


def _pair(value: Any, name: str) -> tuple[Any, Any]:
    """Return one value twice, or the two of a pair."""
    if isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim):
        if len(value) != 2:
            msg = f"`{name}` must be one value or a pair (rows, columns), got {len(value)} values: {value!r}."
            raise ValueError(msg)
        return value[0], value[1]
    return value, value


def _integers(value: Any, name: str) -> tuple[int, int]:
    """Check a stride or a dilation."""
    rows, columns = _pair(value, name)
    return _integer(rows, name, 1), _integer(columns, name, 1)


def _padding(value: Any, extent: tuple[int, int], stride: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return what is added above and below, and left and right, for a kernel that spans ``extent``."""
    if isinstance(value, str):
        if value == "valid":
            return (0, 0), (0, 0)
        if value != "same":
            msg = f"`padding` must be 'valid', 'same', an integer or a pair (rows, columns), got {value!r}."
            raise ValueError(msg)
        if stride != (1, 1):
            msg = f"`padding` must be given in numbers for a `stride` other than 1, got 'same' with stride {stride}."
            raise ValueError(msg)
        above, before = ((length - 1) // 2 for length in extent)
        return (above, extent[0] - 1 - above), (before, extent[1] - 1 - before)
    rows, columns = (_pair(sides, "padding") for sides in _pair(value, "padding"))
    return (
        (_integer(rows[0], "padding", 0), _integer(rows[1], "padding", 0)),
        (_integer(columns[0], "padding", 0), _integer(columns[1], "padding", 0)),
    )


def lay_out(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: Any) -> Layer:
    """Check everything that is about shapes."""
    if w.ndim != 4:
        msg = f"`w` must have shape (O, C // groups, KH, KW), got {w.shape}."
        raise ValueError(msg)
    if x.ndim not in (3, 4):
        msg = f"`x` must have shape (N, C, H, W) or (C, H, W), got {x.shape}."
        raise ValueError(msg)
    steps, spread = _integers(stride, "stride"), _integers(dilation, "dilation")
    parts = _integer(groups, "groups", 1, "an integer")
    channels, height, width = x.shape[-3:]
    outputs, depth, *kernel = w.shape
    if outputs % parts:
        msg = f"`groups` must divide the {outputs} outputs of `w` of shape {w.shape}, got {parts}."
        raise ValueError(msg)
    if channels != depth * parts:
        msg = (
            f"`x` must have {depth * parts} channels, {depth} for each of {parts} groups as `w` of shape {w.shape} has "
            f"them, got {channels} in shape {x.shape}."
        )
        raise ValueError(msg)
    if 0 in kernel:
        msg = f"`w` must have at least one row and one column in a kernel, got shape {w.shape}."
        raise ValueError(msg)
    extent = (spread[0] * (kernel[0] - 1) + 1, spread[1] * (kernel[1] - 1) + 1)
    (top, bottom), (left, other) = _padding(padding, extent, steps)
    padded = (top + height + bottom, left + width + other)
    if padded[0] < extent[0] or padded[1] < extent[1]:
        rule = f"`w` must not reach beyond the padded image of {padded[0]} by {padded[1]}"
        msg = f"{rule}, got kernels that span {extent[0]} by {extent[1]}; give more `padding`."
        raise ValueError(msg)
    result = [(length - reach) // step + 1 for length, reach, step in zip(padded, extent, steps, strict=True)]
    # A step that is never taken, however long, is 1.
    every = zip((*steps, *spread), (*result, *kernel), strict=True)
    down, right, rows, columns = (step if count > 1 else 1 for step, count in every)
    window = Window(height, width, result[0], result[1], kernel[0], kernel[1], down, right, top, left, rows, columns)
    return Layer(x.shape[0] if x.ndim == 4 else 1, channels, outputs, parts, padded != (height, width), window)


# --------------------------------------------------------------------------------------------------------- the patches
def cut(layer: Layer, item: int, each: bool) -> list[Part]:
    """Cut the positions of the result so that the patches of a part fit their room; ``each`` parts the images."""
    whole = layer.positions
    column = max(1, layer.depth * item)
    room = max(1, min(max(_BUFFER_BYTES // column, _FEWEST_POSITIONS), _LARGEST_BUFFER // column))
    if layer.pointwise and whole >= _DIRECT_POSITIONS:
        return [Part(n, n + 1, 0, whole) for n in range(layer.images)]
    if room >= 2 * whole and not each:
        step = room // whole
        return [Part(n, min(layer.images, n + step), 0, whole) for n in range(0, layer.images, step)]
    step = -(-whole // -(-whole // room))  # equal parts of an image
    step = min(room, -(-step // 16) * 16)
    return [Part(n, n + 1, p, min(whole, p + step)) for n in range(layer.images) for p in range(0, whole, step)]


def rooms(layer: Layer, parts: list[Part], like: Array) -> Array:
    """Return room for the patches of any of the parts, none where all are images as they are."""
    counts = [part.columns for part in parts if not (layer.pointwise and part.last_image - part.image == 1)]
    return np.empty(layer.depth * max(counts, default=0), like.dtype)


def patches(images: Array, layer: Layer, part: Part, room: Array) -> Array:
    """Return the matrix of patches of a part, a column for each position; all are codes as unsigned integers."""
    whole = layer.positions
    if layer.pointwise and part.last_image - part.image == 1:
        found: Array = images[part.image].reshape(layer.depth, whole)[:, part.first : part.last]
        return found
    first, last = part.image * whole + part.first, (part.last_image - 1) * whole + part.last
    columns = room[: layer.depth * part.columns].reshape(layer.depth, part.columns)
    workers = 1 if columns.size <= _ALONE else _threads.get_num_threads()
    tall = max(1, layer.depth // (8 * workers))
    pieces = _threads.Pieces(-(-layer.depth // tall))

    def task() -> None:
        for piece in pieces:
            rows = piece * tall, min(layer.depth, (piece + 1) * tall)
            fill_columns(images, columns, layer.window, *rows, first, last)

    _threads.share(task, workers)
    return columns
