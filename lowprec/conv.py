"""conv2d: the sums of matmul over the patches of images."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _product, _threads
from lowprec._checks import Array
from lowprec._plan import Plan, Side
from lowprec.codec import round_into, round_to
from lowprec.kernels.im2col import Window, fill_columns
from lowprec.matmul import _as_array, _Call, _finish, _start, _target
from lowprec.rounding import Rounding

# Measured: patches that just fill the caches are read back from there, and fewer cost more repacking of the weights.
_BUFFER_BYTES = 1 << 22
_LARGEST_BUFFER = 1 << 25
_FEWEST_POSITIONS = 1024
_ALONE = 200_000  # elements of patches up to which the calling thread copies alone


class _Layer(NamedTuple):
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


class _Part(NamedTuple):
    """What is summed at a time: positions of one image, or all positions of several."""

    image: int
    last_image: int
    first: int  # position
    last: int


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


def _lay_out(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: Any) -> _Layer:
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
    return _Layer(x.shape[0] if x.ndim == 4 else 1, channels, outputs, parts, padded != (height, width), window)


# --------------------------------------------------------------------------------------------------------- the patches
def _cut(layer: _Layer, item: int) -> list[_Part]:
    """Cut the positions of the result so that the patches of a part fit their room."""
    whole = layer.positions
    column = max(1, layer.depth * item)
    room = max(1, min(max(_BUFFER_BYTES // column, _FEWEST_POSITIONS), _LARGEST_BUFFER // column))
    if layer.pointwise and whole >= _FEWEST_POSITIONS:
        return [_Part(n, n + 1, 0, whole) for n in range(layer.images)]
    if room >= 2 * whole:
        step = room // whole
        return [_Part(n, min(layer.images, n + step), 0, whole) for n in range(0, layer.images, step)]
    step = -(-whole // -(-whole // room))  # equal parts of an image
    step = min(room, -(-step // 16) * 16)
    return [_Part(n, n + 1, p, min(whole, p + step)) for n in range(layer.images) for p in range(0, whole, step)]


def _patches(images: Array, layer: _Layer, part: _Part, room: Array) -> Array:
    """Return the matrix of patches of a part, a column for each position; all are codes as unsigned integers."""
    whole = layer.positions
    if layer.pointwise and part.last_image - part.image == 1:
        found: Array = images[part.image].reshape(layer.depth, whole)[:, part.first : part.last]
        return found
    first, last = part.image * whole + part.first, (part.last_image - 1) * whole + part.last
    columns = room[: layer.depth * (last - first)].reshape(layer.depth, last - first)
    workers = 1 if columns.size <= _ALONE else _threads.get_num_threads()
    tall = max(1, layer.depth // (8 * workers))
    pieces = _threads.Pieces(-(-layer.depth // tall))

    def task() -> None:
        for piece in pieces:
            rows = piece * tall, min(layer.depth, (piece + 1) * tall)
            fill_columns(images, columns, layer.window, *rows, first, last)

    _threads.share(task, workers)
    return columns


# --------------------------------------------------------------------------------------------------------------- sums
@lru_cache(maxsize=256)
def _weights_first(plan: Plan) -> Plan:
    """Return the plan of the same sums with the weights as the left operand; products commute."""
    return replace(plan, a=plan.b, b=plan.a)


def _of_result(whole: Any, layer: _Layer, part: _Part) -> Any:
    """Return a part of an array of the result's shape, as (output, image, position); a view of a contiguous array."""
    width = layer.window.out_width
    top, bottom = part.first // width, -(-part.last // width)
    lines = whole[part.image : part.last_image, :, top:bottom]
    flat = lines.reshape(*lines.shape[:2], (bottom - top) * width)
    return flat[..., part.first - top * width : part.last - top * width].transpose(1, 0, 2)


def _sum_part(w: Array, columns: Array, total: Array, layer: _Layer, part: _Part, plan: Plan, start: Any) -> None:
    """Write the sums of a part to ``total``, whose elements are (output, image, position).

    This is the one place where sums are made. A sum that draws by the index of its element in the result finds it, for
    row ``o`` and column ``p`` of these matrices, as ``rows[o] + columns[p]``: ``rows = positions * arange(outputs)``
    and ``columns = outputs * positions * image + position``.
    """
    outputs, depth, count = layer.outputs, layer.depth // layer.groups, columns.shape[1]
    batch = (layer.groups,) if layer.groups > 1 else ()
    left = w.reshape(*batch, outputs // layer.groups, depth)
    right = columns.reshape(*batch, depth, count)
    out = total.reshape(*batch, outputs // layer.groups, count)
    begin = None if start is None else _of_result(start, layer, part).reshape(out.shape)
    _product.multiply(left, right, out, _weights_first(plan), begin)


def _refuse_without_zero(side: Side) -> None:
    """Raise if a format cannot hold the padding."""
    for fmt in (side.fmt, side.own):
        if fmt is not None and not fmt.has_zero:
            msg = (
                f"`padding` must be 0 for `{fmt}`, which has no zero to pad with, got more; pad `x` with another value."
            )
            raise ValueError(msg)


def _make_call(x: Array, w: Array, how: tuple[Any, ...], rng: Any) -> _Call:
    """Check the arguments that are not about shapes."""
    try:
        return _Call(x, w, how, rng, ("x", "w"))
    except TypeError as error:
        raise TypeError(str(error).replace("`a`", "`x`").replace("`b`", "`w`")) from None


def _round_once(call: _Call, how: tuple[Any, ...], layer: _Layer) -> _Call:
    """Round images that are copied many times to codes first: the copies are short, and reading them is exact."""
    plan, x, fmt = call.plan, call.a, call.plan.a.fmt
    storage = fmt.storage_dtype
    if plan.modes.rounding is Rounding.STOCHASTIC or storage is None or storage.itemsize >= x.itemsize:
        return call
    if layer.depth * layer.positions <= math.prod(x.shape[-3:]):
        return call
    codes = np.empty(x.shape, fmt.code_dtype)
    again = _Call(codes.view(storage), call.b, how, None, call.names)
    if again.plan.a.convert:
        return call
    round_into(np.ascontiguousarray(x), codes, fmt, plan.modes, 0, codes=True)
    return again


def _sum_all(call: _Call, layer: _Layer, result: Array, start: Array | None, bias: Array | None, finish: bool) -> None:
    """Write the sums of all parts to ``result``, rounded to its format if they are to be finished."""
    item, plan = call.a.itemsize, call.plan
    shape = (layer.images, layer.channels, layer.window.height, layer.window.width)
    patterns = np.ascontiguousarray(call.a).view(f"u{item}").reshape(shape)
    parts = _cut(layer, item)
    most = max((part.last_image - part.image) * (part.last - part.first) for part in parts)
    room = np.empty(layer.depth * most, patterns.dtype)
    for part in parts:
        columns = _patches(patterns, layer, part, room).view(call.a.dtype)
        place = _of_result(result, layer, part)
        direct = place.flags.c_contiguous and not (finish and (bias is not None or plan.out_fmt is not None))
        total = place if direct else np.empty(place.shape, plan.dtype)
        _sum_part(call.b, columns, total, layer, part, plan, start)
        if direct:
            continue
        if finish:
            _finish(total, call, place, bias)
        else:
            place[...] = total


def conv2d(
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    dtype: Any = None,
    accumulator: Any = None,
    c: ArrayLike | None = None,
    out_dtype: Any = None,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Apply a 2-D convolution layer with the rounding and the sum of `matmul`.

    As in every deep-learning library this is a correlation: the kernel is not flipped.

    Parameters
    ----------
    x : array_like, shape (N, C, H, W) or (C, H, W)
        Images.
    w : array_like, shape (O, C // groups, KH, KW)
        Weights, one kernel for each output and each channel of its group.
    bias : array_like, shape (O,) or (), optional
        Rounded to the accumulator's format, and added to the finished sum with one rounding there.
    stride, dilation : int or pair of int
        Steps between the positions of the kernel, and between its elements; a pair is (rows, columns).
    padding : int, pair, or {"valid", "same"}
        Zeros around every image: a number for all sides, or a pair (rows, columns) of numbers or of pairs
        ``((top, bottom), (left, right))``. "valid" is 0. "same", for stride 1, gives the result the size of the image;
        what cannot be halved is added below and to the right.
    groups : int
        Into how many groups channels and outputs are divided; an output sums over the channels of its group.
    dtype : str, FloatFormat, dtype, or a pair of them, optional
        Format of `x` and `w`, or one for each; as in `matmul`.
    accumulator, c, out_dtype, rounding, overflow, subnormals, rng, random_bits, out
        As in `matmul`; `c` must broadcast to the result.

    Returns
    -------
    ndarray, shape (N, O, OH, OW) or (O, OH, OW)
        In the dtype that `matmul` would give. ``OH = (top + H + bottom - dilation * (KH - 1) - 1) // stride + 1``, and
        OW likewise.

    Raises
    ------
    TypeError
        As `matmul`; or if `stride`, `padding`, `dilation` or `groups` is no integer where it must be one.
    ValueError
        As `matmul`; or if shapes do not fit (they are shown), a number is too small, a kernel is larger than the padded
        image, `padding` is "same" with another stride than 1, or the format of `x` has no zero to pad with.

    Notes
    -----
    One element of the result is the loop of `matmul` over ``k = (channel, kernel row, kernel column)``, the last index
    fastest: the order of ``w.reshape(O, -1)``, and that of implicit GEMM. Padding is +0 and takes part in the sum like
    any other element; in an accumulator that sums by blocks it fills its places. So the bits are those of `matmul` on
    the matrix of all patches, which is never made: parts of some megabytes are, one after the other.

    Each element of `x` and `w` is rounded once, however many patches it is in; stochastic rounding draws by the element
    index in `x`, in `w`, and in the result.

    References
    ----------
    Chetlur et al., cuDNN: Efficient Primitives for Deep Learning, arXiv:1410.0759, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import lowprec as lp
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 4, 4) / 10
    >>> w = np.ones((1, 1, 3, 3), np.float32)
    >>> lp.conv2d(x, w, dtype="bf16")
    array([[[4.501465 , 5.4018555],
            [8.099609 , 8.996094 ]]], dtype=float32)
    >>> lp.conv2d(x, w, padding="same", stride=1, dtype="e4m3fn", out_dtype="bf16").shape
    (1, 4, 4)
    """
    images, weights = _as_array(x, "x"), _as_array(w, "w")
    layer = _lay_out(images, weights, stride, padding, dilation, groups)
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    call = _make_call(images, weights, how, rng)
    if layer.padded:
        _refuse_without_zero(call.plan.a)
    added = None
    if bias is not None:
        given = _as_array(bias, "bias")
        if given.shape not in (weights.shape[:1], ()):
            msg = f"`bias` must have shape ({weights.shape[0]},) for `w` of shape {weights.shape}, got {given.shape}."
            raise ValueError(msg)
        added = np.asarray(round_to(given, call.plan.dtype)).astype(call.plan.dtype).reshape(-1, 1, 1)
    full = (layer.images, layer.outputs, layer.window.out_height, layer.window.out_width)
    shape = full[images.ndim == 3 :]
    start = _start(c, shape, call.plan.dtype)
    target = _target(out, shape, call, start)
    call.prepare()
    if start is not None:
        start = np.broadcast_to(start, full)
    fmt = call.plan.out_fmt
    # All sums come first where the element index matters, or where one of them may turn out to have no code.
    apart = fmt is not None and (call.plan.modes.rounding is Rounding.STOCHASTIC or not fmt.has_nan)
    if target is None or apart or not target.flags.c_contiguous:
        result = np.empty(full, call.plan.dtype if apart else call.plan.out_dtype)
    else:
        result = target.reshape(full)
    if result.size:
        _sum_all(_round_once(call, how, layer), layer, result, start, added, not apart)
    result = result.reshape(shape)
    if apart:
        target = np.empty(shape, call.plan.out_dtype) if target is None else target
        _finish(result, call, target, added)
    elif target is None:
        return result
    elif not target.flags.c_contiguous:
        target[...] = result
    return target
