"""conv2d: the sums of matmul over the patches of images."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._call import _as_array, _bias, _Call, _finish, _multiply, _start, _target, is_quantized, is_sparse
from lowprec._checks import Array
from lowprec._evaluation import Place
from lowprec._models import is_stochastic
from lowprec._patches import Layer, Part, cut, lay_out, patches, rooms
from lowprec._plan import Plan, make_plan
from lowprec._sums import Layout
from lowprec.codec import round_into
from lowprec.rounding import Rounding


@lru_cache(maxsize=256)
def _weights_first(plan: Plan) -> Plan:
    """Return the plan of the same sums with the weights as the left operand; products commute."""
    return replace(plan, a=plan.b, b=plan.a)


def _of_result(whole: Any, layer: Layer, part: Part) -> Any:
    """Return a part of an array of the result's shape, as (output, image, position); a view of a contiguous array."""
    width = layer.window.out_width
    top, bottom = part.first // width, -(-part.last // width)
    lines = whole[part.image : part.last_image, :, top:bottom]
    flat = lines.reshape(*lines.shape[:2], (bottom - top) * width)
    return flat[..., part.first - top * width : part.last - top * width].transpose(1, 0, 2)


def _sum_part(
    call: _Call, columns: Array, total: Array, layer: Layer, part: Part, start: Array | None, kernels: Any
) -> None:
    """Write the sums of a part to ``total``, whose elements are (output, image, position): the one place that sums.

    ``kernels`` are the rows of each group of sparse weights, or None.
    """
    each, depth, count = layer.outputs // layer.groups, layer.depth // layer.groups, columns.shape[1]
    batch = (layer.groups,) if layer.groups > 1 else ()
    weights, read = call.b.reshape(*batch, each, depth), columns.reshape(*batch, depth, count)
    out = total.reshape(*batch, each, count)
    begin = None if start is None else _of_result(start, layer, part).reshape(out.shape)
    if kernels is not None:
        if begin is not None:
            total[...] = begin.reshape(total.shape)
        _sum_sparse(call, columns, total, layer, part, kernels, begin is None)
        return
    if call.plan.raw:  # which of two NaN goes on depends on the side that it is on
        turned = np.empty((*batch, count, each), out.dtype)
        begin = None if begin is None else begin.swapaxes(-1, -2)
        _multiply(read.swapaxes(-1, -2), weights.swapaxes(-1, -2), turned, call, begin)
        out[...] = turned.swapaxes(-1, -2)
        return
    first = part.image * layer.outputs * layer.positions + part.first
    flipped = copy.copy(call)
    flipped.plan = _weights_first(call.plan)
    _multiply(weights, read, out, flipped, begin, Layout(first, layer.positions, each * layer.positions))


def _sum_sparse(call: _Call, columns: Array, total: Array, layer: Layer, part: Part, kernels: Any, fresh: bool) -> None:
    """Write the sums of a part to ``total``, or add to them, of sparse weights."""
    from lowprec import _sparse

    each, depth = layer.outputs // layer.groups, layer.depth // layer.groups
    out = total.reshape(layer.outputs, -1)
    turned = copy.copy(call)
    turned.plan = call.plan if call.plan.raw else _weights_first(call.plan)
    first = part.image * layer.outputs * layer.positions + part.first
    for group in range(layer.groups):
        rows = kernels[group]
        read, sums = columns[group * depth : (group + 1) * depth], out[group * each : (group + 1) * each]
        place = Place(0, first + group * each * layer.positions, layer.positions, call.seed)
        if call.plan.raw:
            _sparse.sum_one(rows, read.T, sums.T, turned, place, fresh, left=False)
        else:
            _sparse.sum_one(rows, read, sums, turned, place, fresh, left=True)


def _sparse_weights(w: Any) -> tuple[Any, Any]:
    """Return sparse weights as a dense array, and the places that are kept, None unless they are input channels."""
    from lowprec import _sparse_convolution

    if is_quantized(w.values):
        msg = f"`w` must have plain values in a convolution, got {w!r}; pass w.dequantize()."
        raise TypeError(msg)
    return w.to_dense(), _sparse_convolution.kernels_of(w)


def _refuse_without_zero(call: _Call) -> None:
    """Raise if a format cannot hold the padding."""
    for fmt in (call.plan.a.fmt, call.plan.a.own):
        if not getattr(fmt, "has_zero", True):
            msg = f"`padding` must be 0 for `{fmt}`, which has no zero to pad with; pad `x` with another value."
            raise ValueError(msg)


def _make_call(x: Array, w: Array, how: tuple[Any, ...], rng: Any, c: Any) -> _Call:
    """Check the arguments that are not about shapes."""
    try:
        return _Call(x, w, how, rng, ("x", "w"), c)
    except TypeError as error:
        raise TypeError(str(error).replace("`a`", "`x`").replace("`b`", "`w`")) from None


def _round_once(call: _Call, layer: Layer) -> None:
    """Round images that are copied many times to codes first: the copies are short, and reading them is exact."""
    plan, x, fmt = call.plan, call.a, call.plan.a.fmt
    storage = fmt.storage_dtype
    if plan.integer or plan.raw or plan.modes.rounding is Rounding.STOCHASTIC or plan.a.own is not None:
        return
    if storage is None or fmt.name == "tf32" or storage.itemsize >= x.itemsize:
        return
    if layer.depth * layer.positions <= math.prod(x.shape[-3:]):
        return
    model = plan.dtype if plan.model is None else plan.model
    modes = (*plan.modes[:3], plan.modes.random_bits)
    again = make_plan((fmt, plan.b.fmt), model, plan.out_fmt, *modes, storage, call.b.dtype)
    if not again.a.convert:
        codes = np.empty(x.shape, fmt.code_dtype)
        round_into(np.ascontiguousarray(x), codes, fmt, plan.modes, 0, codes=True)
        call.a, call.plan = codes.view(storage), again


def _sum_all(
    call: _Call,
    layer: Layer,
    result: Array,
    start: Array | None,
    bias: Array | None,
    finish: bool,
    kernels: Any = None,
) -> None:
    """Write the sums of all parts to ``result``, rounded to its format if they are to be finished."""
    item, plan = call.a.itemsize, call.plan
    shape = (layer.images, layer.channels, layer.window.height, layer.window.width)
    patterns = np.ascontiguousarray(call.a).view(f"u{item}").reshape(shape)
    parts = cut(layer, item, is_stochastic(plan.model))
    room = rooms(layer, parts, patterns)
    if kernels is not None:
        weights = call.b.reshape(layer.groups, layer.outputs // layer.groups, -1)
        kernels = [kernels.rows(each, group) for group, each in enumerate(weights)]
    finished = bias is not None or plan.out_fmt is not None
    for part in parts:
        columns = patches(patterns, layer, part, room).view(call.a.dtype)
        place = _of_result(result, layer, part)
        direct = place.flags.c_contiguous and place.dtype == plan.dtype and not (finish and finished)
        total = place if direct else np.empty(place.shape, plan.dtype)
        _sum_part(call, columns, total, layer, part, start, kernels)
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
    w : array_like or Sparse24, shape (O, C // groups, KH, KW)
        Weights, one kernel for each output and each channel of its group. Of a `Sparse24` that is sparse along its
        second axis only what is kept is summed, as in `matmul`.
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
    dense, kernels = _sparse_weights(w) if is_sparse(w) else (w, None)
    images, weights = _as_array(x, "x"), _as_array(dense, "w")
    layer = lay_out(images, weights, stride, padding, dilation, groups)
    how = (dtype, accumulator, out_dtype, rounding, overflow, subnormals, random_bits)
    call = _make_call(images, weights, how, rng, c)
    if kernels is not None:
        from lowprec import _sparse

        kernels = None if _sparse.takes_all(call.plan, accumulator) else kernels
    if layer.padded:
        _refuse_without_zero(call)
    added = None
    if bias is not None:
        given = _as_array(bias, "bias")
        if given.shape not in (weights.shape[:1], ()):
            msg = f"`bias` must have shape ({weights.shape[0]},) for `w` of shape {weights.shape}, got {given.shape}."
            raise ValueError(msg)
        added = _bias(given, call.plan).reshape(-1, 1, 1)
    full = (layer.images, layer.outputs, layer.window.out_height, layer.window.out_width)
    shape = full[images.ndim == 3 :]
    start = _start(c, shape, call.plan)
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
        _round_once(call, layer)
        _sum_all(call, layer, result, start, added, not apart, kernels)
    result = result.reshape(shape)
    if apart:
        target = np.empty(shape, call.plan.out_dtype) if target is None else target
        _finish(result, call, target, added)
    elif target is None:
        return result
    elif not target.flags.c_contiguous:
        target[...] = result
    return target
