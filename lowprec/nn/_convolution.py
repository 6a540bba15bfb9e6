"""Convolutions of one to three dimensions, transposed ones and their gradients, by an Arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec.conv import conv2d
from lowprec.formats import FloatFormat, IntFormat
from lowprec.matmul import matmul
from lowprec.nn._arithmetic import Arithmetic, _floats, _plus
from lowprec.nn._operands import is_scaled
from lowprec.nn._weights import Calibration
from lowprec.rounding import Rounding

_ROOM = 1 << 25  # bytes of patches at a time, where the rows of a product do not depend on each other


class Plain(NamedTuple):
    """The arguments of `lowprec.matmul` that are all of an arithmetic that does nothing else."""

    dtype: tuple[Any, Any]
    accumulator: Any
    rounding: str
    seed: int


@lru_cache(maxsize=256)
def plain(arithmetic: Arithmetic) -> Plain | None:
    """Return the arguments of `lowprec.matmul` that an arithmetic comes to; None if it scales, stores or prunes."""
    formats = arithmetic.formats
    does_more = arithmetic.weights is not None or arithmetic.activations is not None or arithmetic.sparsity is not None
    if does_more or arithmetic.candidate.is_storage or arithmetic.candidate.is_block or arithmetic._powers:
        return None
    if any(is_scaled(fmt, arithmetic.scales) for fmt in formats):
        return None
    return Plain(formats, arithmetic._model, str(arithmetic.rounding), arithmetic._rng(""))


@lru_cache(maxsize=256)
def multiplied(arithmetic: Arithmetic, formats: tuple[Any, Any] | None = None) -> Arithmetic:
    """Return what is left of an arithmetic once its operands come back from storage, with other formats if given."""
    model = arithmetic._block_model
    if formats is not None and any(a is not b and a != b for a, b in zip(formats, arithmetic.formats, strict=True)):
        floats = arithmetic.candidate.accumulator
        model = None if floats == arithmetic.candidate.default_accumulator else model
    return Arithmetic(
        arithmetic.formats if formats is None else formats,
        model,
        scales=arithmetic.scales,
        scale_rule=arithmetic.scale_rule,
        rounding=str(arithmetic.rounding),
        seed=arithmetic.seed,
    )


@dataclass(frozen=True, eq=False)
class PreparedKernel:
    """The weight of a convolution as it comes back from its storage, and what multiplies it.

    Parameters
    ----------
    values : ndarray
        Of the weight's own shape.
    arithmetic : Arithmetic
        Of the products: nothing is stored or pruned any more.

    Raises
    ------
    Nothing; `prepare_kernel` makes it.
    """

    values: Array
    arithmetic: Arithmetic


def prepare_kernel(
    arithmetic: Arithmetic, w: ArrayLike, calibration: Calibration = None, *, transposed: bool = False
) -> PreparedKernel:
    """Prune and store the weight of a convolution, once for many products.

    Parameters
    ----------
    arithmetic : Arithmetic
        How.
    w : array_like, shape (outputs, channels / groups, ...)
        The weight; (channels, outputs / groups, ...) of a transposed convolution.
    calibration : ndarray, shape (patches, K) or callable, optional
        As in `Arithmetic.prepare`; K is (channel, place in the kernel), the last fastest.
    transposed : bool
        Whether it is that of a transposed convolution.

    Returns
    -------
    PreparedKernel
        For `convolution`.

    Raises
    ------
    ValueError
        As `Arithmetic.prepare`.

    Notes
    -----
    Each output is one row, over (channel, place in the kernel), the last fastest; with a sparsity pattern over (place,
    channel), because hardware prunes along channels. Pruned weights stay in their places as zeros and are summed.
    """
    values = np.asarray(w)
    if arithmetic.weights is None and arithmetic.sparsity is None and not arithmetic.candidate.is_storage:
        return PreparedKernel(values, multiplied(arithmetic))
    turned = values.swapaxes(0, 1) if transposed else values
    last = arithmetic.sparsity is not None
    moved = np.moveaxis(turned, 1, -1) if last else turned
    ready = arithmetic.prepare(np.ascontiguousarray(moved).reshape(len(moved), -1), calibration).values
    ready = ready.reshape(moved.shape)
    ready = np.moveaxis(ready, -1, 1) if last else ready
    return PreparedKernel(ready.swapaxes(0, 1) if transposed else ready, multiplied(arithmetic))


def _each(value: int | Sequence[int], count: int, name: str, low: int) -> tuple[int, ...]:
    """Return one number for each spatial dimension."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or not all(isinstance(n, (int, np.integer)) for n in numbers):
        msg = f"`{name}` must be an integer or {count} of them, one for each spatial dimension, got {value!r}."
        raise ValueError(msg)
    if min(numbers, default=low) < low:
        msg = f"`{name}` must be at least {low}, got {value!r}."
        raise ValueError(msg)
    return tuple(map(int, numbers))


def _sizes(x: Array, w: Array, groups: int, transposed: bool) -> int:
    """Check shapes and groups; return the number of spatial dimensions."""
    count = x.ndim - 2
    if count not in (1, 2, 3):
        msg = f"`x` must have shape (N, C, ...) with one to three spatial dimensions, got {x.shape}."
        raise ValueError(msg)
    channels = w.shape[0] if transposed else w.shape[1] * groups if w.ndim > 1 else 0
    if w.ndim != x.ndim or groups < 1 or w.shape[0] % groups or channels != x.shape[1] or 0 in w.shape[2:]:
        msg = f"`w` must fit `x` of shape {x.shape} in {groups} group(s), got {w.shape}."
        raise ValueError(msg)
    return count


def _windows(x: Array, kernel: tuple[int, ...], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Return all patches of padded images as a view, shape (N, C, positions..., kernel...)."""
    count = len(kernel)
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    if any(size < span for size, span in zip(x.shape[2:], spans, strict=True)):
        msg = f"`w` must not reach beyond the padded images of {x.shape[2:]}, got a kernel that spans {spans}."
        raise ValueError(msg)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(2, 2 + count)))
    steps = [slice(None, None, step) for step in stride]
    return view[(slice(None), slice(None), *steps, *(slice(None, None, d) for d in dilation))]


def _padded(x: Array, sides: Sequence[tuple[int, int]]) -> Array:
    """Return images with zeros around them, or less of them where a side is negative."""
    grown = [(0, 0), (0, 0), *((max(a, 0), max(b, 0)) for a, b in sides)]
    whole = np.pad(x, grown) if any(any(side) for side in grown) else x
    cuts = tuple(slice(-min(a, 0), size + min(b, 0)) for (a, b), size in zip(sides, whole.shape[2:], strict=True))
    # After growing, the sizes are those of the grown image; a cut side was not grown.
    return whole[(slice(None), slice(None), *cuts)]


def _kernel(arithmetic: Arithmetic, w: Any, x: Callable[[], Array] | None, transposed: bool) -> PreparedKernel:
    """Return a weight prepared, whether it was before or not."""
    if isinstance(w, PreparedKernel):
        return w
    return prepare_kernel(arithmetic, w, x, transposed=transposed)


def convolution(
    arithmetic: Arithmetic,
    x: ArrayLike,
    w: ArrayLike | PreparedKernel,
    bias: ArrayLike | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Apply a convolution layer of one, two or three spatial dimensions.

    Parameters
    ----------
    arithmetic : Arithmetic
        How activations are rounded, and its products computed: as a prepared `w` says.
    x : array_like, shape (N, C, ...)
        Images.
    w : array_like, shape (O, C / groups, ...), or PreparedKernel
        Weights.
    bias : array_like, shape (O,), optional
        Added to the finished sums, as in `lowprec.linear`.
    stride, padding, dilation : int or sequence of int
        One for each spatial dimension, or one for all.
    groups : int
        As in `lowprec.conv2d`.

    Returns
    -------
    ndarray, shape (N, O, ...)
        In the dtype that `Arithmetic.linear` gives.

    Raises
    ------
    ValueError
        If shapes do not fit, or as `Arithmetic.linear`.

    Notes
    -----
    One element is the sum over k = (channel, place in the kernel), the last index fastest, padding as +0. An arithmetic
    that only rounds and sums gives the bits of `lowprec.conv2d`; a 1-D convolution is one of images of height 1. Any
    other is `Arithmetic.linear` of the matrix of all patches: a row is a patch, and each group a product of its own
    with its own scales. Where activations are rounded
    before, each image is a row.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.ones((1, 2, 8), np.float32), np.full((1, 2, 3), 0.1, np.float32)
    >>> lp.nn.convolution(lp.nn.Arithmetic("bf16"), x, w, stride=2)
    array([[[0.60058594, 0.60058594, 0.60058594]]], dtype=float32)
    """
    images = np.asarray(x)
    shape = w.values if isinstance(w, PreparedKernel) else np.asarray(w)
    count = _sizes(images, shape, groups, transposed=False)
    steps, spread = _each(stride, count, "stride", 1), _each(dilation, count, "dilation", 1)
    sides = _each(padding, count, "padding", 0)

    def rows() -> Array:
        return patches(images, shape.shape[2:], stride=steps, padding=sides, dilation=spread)

    ready = _kernel(arithmetic, w, rows, transposed=False)
    around = [(p, p) for p in sides]
    active = rounded_images(arithmetic, images)
    return _correlate(ready.arithmetic, active, ready.values, bias, steps, around, spread, groups)


def rounded_images(arithmetic: Arithmetic, x: Array) -> Array:
    """Return images as what an arithmetic does to activations leaves them; a row is an image."""
    if arithmetic.activations is None or not x.size:
        return x
    floats = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    return arithmetic._active(floats.reshape(len(x), -1), "x").reshape(x.shape)


def patches(
    x: Array,
    kernel: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
) -> Array:
    """Return the matrix of patches that a convolution of all channels multiplies, one row per image and position."""
    count = x.ndim - 2
    steps, spread = _each(stride, count, "stride", 1), _each(dilation, count, "dilation", 1)
    sides = _each(padding, count, "padding", 0)
    if not transposed:
        return _rows(_windows(_padded(x, [(p, p) for p in sides]), tuple(kernel), steps, spread), count)
    longer = _each(output_padding, count, "output_padding", 0)
    around = _around(tuple(kernel), sides, spread, longer)
    return _rows(_windows(_padded(_apart(x, steps), around), tuple(kernel), (1,) * count, spread), count)


def _around(
    kernel: Sequence[int], sides: Sequence[int], dilation: Sequence[int], longer: Sequence[int]
) -> list[tuple[int, int]]:
    """Return what is added around the images of a transposed convolution; less than nothing is cut off."""
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return [(span - p, span - p + more) for span, p, more in zip(spans, sides, longer, strict=True)]


def _apart(x: Array, steps: Sequence[int]) -> Array:
    """Return images with zeros between their elements."""
    if all(step == 1 for step in steps):
        return x
    sizes = [(size - 1) * step + 1 if size else 0 for size, step in zip(x.shape[2:], steps, strict=True)]
    apart = np.zeros((*x.shape[:2], *sizes), x.dtype)
    apart[(slice(None), slice(None), *(slice(None, None, step) for step in steps))] = x
    return apart


def _rows(view: Array, count: int) -> Array:
    """Return patches as a matrix: a row for each image and position, of (channel, place in the kernel)."""
    order = (0, *range(2, 2 + count), 1, *range(2 + count, 2 + 2 * count))
    turned = view.transpose(order)
    return turned.reshape(math.prod(turned.shape[: count + 1]), math.prod(turned.shape[count + 1 :]))


def _correlate(
    arithmetic: Arithmetic,
    x: Array,
    w: Array,
    bias: Any,
    stride: tuple[int, ...],
    sides: Sequence[tuple[int, int]],
    dilation: tuple[int, ...],
    groups: int,
) -> Array:
    """Return the sums of a convolution; sides may be negative, which cuts."""
    count, simple = x.ndim - 2, plain(arithmetic)
    if simple is not None and count < 3 and min(min(side) for side in sides) >= 0:
        lift = count == 1
        result = conv2d(
            x[:, :, None] if lift else x,
            w[:, :, None] if lift else w,
            bias,
            stride=(1, *stride) if lift else stride,
            padding=((0, 0), *sides) if lift else tuple(sides),
            dilation=(1, *dilation) if lift else dilation,
            groups=groups,
            dtype=simple.dtype,
            accumulator=simple.accumulator,
            rounding=simple.rounding,
            rng=simple.seed,
        )
        return np.asarray(result[:, :, 0] if lift else result)
    view = _windows(_padded(x, sides), w.shape[2:], stride, dilation)
    images, each = len(x), len(w) // groups
    depth = math.prod(w.shape[1:])
    place = view.shape[2 : 2 + count]
    step = max(1, images)
    if simple is not None:  # rows do not depend on each other, so images can come apart
        step = max(1, _ROOM // max(1, x.itemsize * math.prod(place) * depth * groups))
    parts = []
    for first in range(0, max(1, images), step):
        some = view[first : first + step]
        outputs = []
        together = _groups_at_once(arithmetic, some, depth) if groups > 1 else 1
        for group in range(0, groups, together):
            until = min(group + together, groups)
            part = some[:, group * w.shape[1] : until * w.shape[1]]
            kernels = w[group * each : until * each].reshape(-1, each, depth)
            added = None if bias is None else np.asarray(bias)[group * each : until * each]
            if together == 1:
                outputs.append(arithmetic.linear(_rows(part, count), kernels[0], added))
                continue
            rows = np.stack([_rows(one, count) for one in np.split(part, until - group, axis=1)])
            sums = np.moveaxis(arithmetic.matmul(rows, kernels.swapaxes(1, 2)), 0, 1)
            outputs.append(_plus(sums.reshape(rows.shape[1], -1), None if added is None else _floats(added, "bias")))
        whole = np.concatenate(outputs, axis=-1).reshape(len(some), *place, len(w))
        parts.append(np.moveaxis(whole, -1, 1))
    return np.ascontiguousarray(np.concatenate(parts))


def _groups_at_once(arithmetic: Arithmetic, view: Array, depth: int) -> int:
    """Return how many groups of a convolution are one batch of products, which has the bits of one after the other.

    It has where each group is divided by its own scales in either way and nothing is drawn: for integers and floats of
    one format. More than one group is held in memory then.
    """
    one, other = arithmetic.formats
    batched = (
        one == other
        and isinstance(one, (FloatFormat, IntFormat))
        and is_scaled(one, arithmetic.scales)
        and arithmetic.scales != "none"
        and arithmetic.rounding is not Rounding.STOCHASTIC
        and "stochastic" not in repr(arithmetic.accumulator)
    )
    places = math.prod(view.shape[:1] + view.shape[2 : view.ndim // 2 + 1])
    return max(1, _ROOM // max(1, view.itemsize * places * depth)) if batched and places else 1


def transposed_convolution(
    arithmetic: Arithmetic,
    x: ArrayLike,
    w: ArrayLike | PreparedKernel,
    bias: ArrayLike | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Apply a transposed convolution, which is also the gradient of a convolution with respect to its images.

    Parameters
    ----------
    arithmetic, x, bias, stride, padding, dilation, groups
        As in `convolution`; stride, padding and dilation are those of the convolution that this one transposes.
    w : array_like, shape (C, O / groups, ...), or PreparedKernel
        Weights.
    output_padding : int or sequence of int
        What the result is longer at the end of each dimension.

    Returns
    -------
    ndarray, shape (N, O, ...)
        Of size ``(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1``.

    Raises
    ------
    ValueError
        As `convolution`.

    Notes
    -----
    It is `convolution` with stride 1 of the images with ``stride - 1`` zeros between their elements and
    ``dilation * (kernel - 1) - padding`` around them, with the kernels flipped and inputs and outputs exchanged. The
    zeros take part in the sums, as padding does.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.ones((1, 1, 2), np.float32), np.array([[[1.0, 2.0]]], np.float32)
    >>> lp.nn.transposed_convolution(lp.nn.Arithmetic("bf16"), x, w, stride=2)
    array([[[1., 2., 1., 2.]]], dtype=float32)
    """
    images = np.asarray(x)
    shape = w.values if isinstance(w, PreparedKernel) else np.asarray(w)
    count = _sizes(images, shape, groups, transposed=True)
    steps, spread = _each(stride, count, "stride", 1), _each(dilation, count, "dilation", 1)
    sides, longer = _each(padding, count, "padding", 0), _each(output_padding, count, "output_padding", 0)
    kernel = shape.shape[2:]
    around = _around(kernel, sides, spread, longer)
    apart = _apart(rounded_images(arithmetic, images), steps)

    def rows() -> Array:
        return _rows(_windows(_padded(apart, around), kernel, (1,) * count, spread), count)

    ready = _kernel(arithmetic, w, rows, transposed=True)
    values = ready.values
    each = values.shape[0] // groups
    # (groups, inputs, outputs, ...) to (groups, outputs, inputs, ...), flipped in space.
    turned = values.reshape(groups, each, *values.shape[1:]).swapaxes(1, 2)
    turned = np.flip(turned, axis=tuple(range(3, 3 + count))).reshape(groups * values.shape[1], each, *kernel)
    return _correlate(ready.arithmetic, apart, np.ascontiguousarray(turned), bias, (1,) * count, around, spread, groups)


def weight_gradient(
    arithmetic: Arithmetic,
    grad: ArrayLike,
    x: ArrayLike,
    kernel: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Return the gradient of a convolution with respect to its weights.

    Parameters
    ----------
    arithmetic : Arithmetic
        How products are computed: the first of its two formats is that of `grad`, the second that of `x`.
    grad : array_like, shape (N, O, ...)
        Gradient with respect to the result.
    x : array_like, shape (N, C, ...)
        Images.
    kernel : sequence of int
        Lengths of the kernel.
    stride, padding, dilation, groups
        As in `convolution`.

    Returns
    -------
    ndarray, shape (O, C / groups, ...)
        The gradient.

    Raises
    ------
    ValueError
        As `convolution`.

    Notes
    -----
    For each group ``grad @ patches``: the sum is over k = (image, position), the last index fastest.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> ones = np.ones((1, 1, 4), np.float32)
    >>> lp.nn.weight_gradient(lp.nn.Arithmetic("bf16"), ones[..., :3], ones, (2,))
    array([[[3., 3.]]], dtype=float32)
    """
    images, outer = np.asarray(x), np.asarray(grad)
    count = images.ndim - 2
    steps, spread = _each(stride, count, "stride", 1), _each(dilation, count, "dilation", 1)
    sides = _each(padding, count, "padding", 0)
    view = _windows(_padded(images, [(p, p) for p in sides]), tuple(kernel), steps, spread)
    # What a stride leaves over at the end was never read.
    view = view[(slice(None), slice(None), *(slice(size) for size in outer.shape[2:]))]
    each, depth = outer.shape[1] // groups, images.shape[1] // groups
    results = []
    for group in range(groups):
        patches = _rows(view[:, group * depth : (group + 1) * depth], count)
        left = np.moveaxis(outer[:, group * each : (group + 1) * each], 1, 0).reshape(each, -1)
        results.append(pair_product(arithmetic, left, patches))
    return np.concatenate(results).reshape(outer.shape[1], depth, *kernel)


def pair_product(arithmetic: Arithmetic, a: Array, b: Array) -> Array:
    """Return the product of two matrices (M, K), (K, N) in the two formats of an arithmetic, or of batches of them.

    Nothing is stored or pruned; scales are those of `Arithmetic.linear`, of each matrix of a batch.
    """
    simple = plain(arithmetic)
    if simple is not None:
        return np.asarray(
            matmul(a, b, simple.dtype, accumulator=simple.accumulator, rounding=simple.rounding, rng=simple.seed)
        )
    if a.ndim == b.ndim == 2:
        return arithmetic.linear(a, b.T)
    if arithmetic.formats[0] == arithmetic.formats[1]:
        return arithmetic.matmul(a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
    found = [arithmetic.linear(left[place], right[place].T) for place in np.ndindex(batch)]
    if not found:
        return np.zeros((*batch, a.shape[-2], b.shape[-1]), np.float32)
    return np.stack(found).reshape(*batch, a.shape[-2], b.shape[-1])
