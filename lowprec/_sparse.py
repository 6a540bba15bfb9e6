"""Products with a `Sparse24`: which way they go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _checks, _quantized, _sparse_integer_product, _sparse_product, _sparse_sums, hardware
from lowprec._block_sums import How, _points, _side, _whole_numbers, model_of
from lowprec._call import (
    _as_array,
    _bias,
    _Call,
    _finish,
    _multiply,
    _start,
    _target,
    is_quantized,
    is_sparse,
    is_whole,
    quantises,
)
from lowprec._checks import Array, writable
from lowprec._evaluation import Place
from lowprec._matrices import matrices
from lowprec._models import is_stochastic
from lowprec._patterns import pattern_of
from lowprec._plan import Plan
from lowprec._sparse_rows import SparseRows, columns_kept, columns_of
from lowprec._sums import Layout
from lowprec.accumulators import Chunked, Integer, Sequential
from lowprec.blocks import is_block_name
from lowprec.formats import IntFormat
from lowprec.formats import format as resolve
from lowprec.rounding import Rounding
from lowprec.sparse_arrays import Sparse24

SPARSE_UNITS = (
    "nvidia-ampere",
    "nvidia-ada",
    "nvidia-hopper",
    "nvidia-hopper-mma",
    "nvidia-blackwell",
    "nvidia-blackwell-mma",
    "nvidia-rtx-blackwell",
    "amd-cdna3",
)
"""Presets of hardware that has sparse instructions (PTX ISA 8.5, 9.7.14.5; AMD, CDNA3 ISA, 7.4)."""

_NOTHING = bytes(16)  # room for one zero of any dtype


class _Pair(NamedTuple):
    """A sparse operand beside another."""

    sparse: Sparse24
    other: Any
    left: bool  # whether the sparse one is the left operand
    names: tuple[str, str]

    def ordered(self, sparse: Any) -> tuple[Any, Any]:
        """Return the left and the right operand, with something in the place of the sparse one."""
        return (sparse, self.other) if self.left else (self.other, sparse)


class _Rest(NamedTuple):
    """The arguments that are neither operands nor formats, and the product of dense operands."""

    c: Any
    rng: Any
    out: Any
    bias: Any
    dense: Callable[..., Any]


def multiply(
    dense: Callable[..., Any], a: Any, b: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any, bias: Any = None
) -> Any:
    """Return the product of operands of which one at least is sparse; ``bias`` is added to the finished sums.

    ``dense`` is `matmul`, or `linear`, whose weights come transposed; ``how`` are the arguments dtype, accumulator,
    out_dtype, rounding, overflow, subnormals and random_bits.
    """
    if is_sparse(a) and is_sparse(b):
        b = b.to_dense()
    left = is_sparse(a)
    names = ("x", "w") if dense.__name__ == "linear" else ("a", "b")
    pair, rest = _Pair(a if left else b, b if left else a, left, names), _Rest(c, rng, out, bias, dense)
    s = pair.sparse
    if s.axis != (s.ndim - 1 if left or s.ndim == 1 else s.ndim - 2):
        return _expanded(pair, how, rest)
    if is_quantized(s.values) or is_quantized(pair.other) or _quantises(how[0], pair):
        return _with_scales(pair, how, rest)
    return _plain(pair, how, rest)


def _expanded(pair: _Pair, how: tuple[Any, ...], rest: _Rest) -> Any:
    """Return the product of the dense array."""
    a, b = pair.ordered(pair.sparse.to_dense())
    keywords = {**dict(zip(How._fields, how, strict=True)), "c": rest.c, "rng": rest.rng, "out": rest.out}
    return rest.dense(a, b.T, rest.bias, **keywords) if pair.names[0] == "x" else rest.dense(a, b, **keywords)


def _quantises(dtype: Any, pair: _Pair) -> bool:
    """Say whether floats are to be quantised."""
    formats = dtype if isinstance(dtype, (tuple, list)) else (dtype,)
    if not any(fmt is not None and quantises(fmt) for fmt in formats):
        return False
    return not (is_whole(pair.sparse.values) and is_whole(pair.other))


def takes_all(plan: Plan, accumulator: Any) -> bool:
    """Say whether a sum is that of the dense product: by hardware without sparse instructions, or of integers."""
    if plan.integer:
        return plan.model != Integer() or max(plan.a.fmt.bits, plan.b.fmt.bits) > 8
    inner = accumulator.inner if isinstance(accumulator, Chunked) else accumulator
    if not isinstance(inner, str):
        return False
    try:
        return hardware.preset(inner).name not in SPARSE_UNITS
    except ValueError:
        return False


@lru_cache(maxsize=256)
def exchanged(plan: Plan) -> Plan:
    """Return the plan of the same sums with the operands exchanged; products commute."""
    return replace(plan, a=plan.b, b=plan.a)


def _kept(s: Sparse24, dense: Array) -> Array:
    """Return what is kept of an array of the dense shape, in the order of the values."""
    columns = columns_of(s.nibbles, pattern_of(s.pattern), s.values.shape[s.axis])
    last = np.moveaxis(dense, s.axis, -1)
    kept = np.take_along_axis(last, np.minimum(columns, max(0, last.shape[-1] - 1)), axis=-1)
    kept[columns >= last.shape[-1]] = 0
    return np.moveaxis(kept, -1, s.axis)


def _plain(pair: _Pair, how: tuple[Any, ...], rest: _Rest) -> Any:
    """Return the product of plain numbers."""
    s, names = pair.sparse, pair.names
    pair = pair._replace(other=_as_array(pair.other, names[1] if pair.left else names[0]))
    # An array of the dense shape that takes no room stands for the dense array.
    shaped: Array = np.ndarray(s.shape, cast(Array, s.values).dtype, _NOTHING, 0, (0,) * s.ndim)
    call = _Call(*pair.ordered(shaped), how, rest.rng, names, rest.c)
    if takes_all(call.plan, how[1]):
        return _expanded(pair, how, rest)
    drawn = call.plan.modes.rounding is Rounding.STOCHASTIC and not call.plan.integer
    if drawn:  # random words are counted by the elements of the dense array
        call = _Call(*pair.ordered(s.to_dense()), how, rest.rng, names, rest.c)
    _, _, full, shape = matrices(*pair.ordered(shaped))
    start = _start(rest.c, shape, call.plan)
    target = _target(rest.out, shape, call, start)
    added = None if rest.bias is None else _bias(_as_array(rest.bias, "bias"), call.plan)
    if not drawn:
        call.a, call.b = pair.ordered(s.values)
    call.prepare()
    values, other = (call.a, call.b) if pair.left else (call.b, call.a)
    total = np.empty(full, call.plan.dtype)
    if start is not None:
        total[...] = np.broadcast_to(start, shape).reshape(full)
    one, two, _, _ = matrices(*pair._replace(other=other).ordered(shaped))
    kept = _kept(s, values) if drawn else values
    _sums(s, kept, two if pair.left else one, total, call, start is None, pair.left)
    total, plan = total.reshape(shape), call.plan
    if added is None and plan.out_fmt is None and plan.out_dtype == total.dtype and target is None:
        return total if total.ndim else total[()]
    result = np.empty(shape, plan.out_dtype) if target is None else target
    _finish(total, call, result, added)
    return result if result.ndim or target is not None else result[()]


def _sums(s: Sparse24, values: Array, other: Array, total: Array, call: _Call, fresh: bool, left: bool) -> None:
    """Write, or add, the sums of all matrices of a stack; ``other`` is (..., K, N), or (..., M, K) from the left."""
    k, pattern = s.shape[s.axis], pattern_of(s.pattern)
    if not k or not total.size:
        if fresh:
            total[...] = 0
        if total.dtype.kind == "f":
            total[np.isnan(total)] = np.nan
        return
    values, nibbles = values if s.axis == s.ndim - 1 else np.moveaxis(values, s.axis, -1), s.nibbles
    if values.ndim == 1:
        values, nibbles = values[np.newaxis], nibbles[np.newaxis]
    if not left and values.ndim == 2 and total.ndim > 2 and not _draws(call.plan):
        other, total = other.reshape(-1, k), total.reshape(-1, total.shape[-1])
    if total.ndim == 2 == other.ndim == values.ndim:
        rows = SparseRows(np.ascontiguousarray(values), k, pattern.kept, pattern.group, nibbles, pattern)
        sum_one(rows, other, total, call, Place(0, 0, total.shape[-1], call.seed), fresh, left)
        return
    batch = total.shape[:-2]
    values, nibbles, other = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (values, nibbles, other))
    for number, index in enumerate(np.ndindex(batch)):
        numbers = np.ascontiguousarray(values[index])
        rows = SparseRows(numbers, k, pattern.kept, pattern.group, nibbles[index], pattern)
        place = Place(0, number * total[index].size, total.shape[-1], call.seed)
        sum_one(rows, other[index], total[index], call, place, fresh, left)


def _draws(plan: Plan) -> bool:
    """Say whether a sum draws random words."""
    return plan.model is not None and is_stochastic(plan.model)


def sum_one(a: SparseRows, b: Array, total: Array, call: _Call, place: Place, fresh: bool, left: bool) -> None:
    """Write the sums of one matrix, or add to them: sparse rows times (K, N), or (M, K) times sparse columns.

    If ``fresh``, they start at +0.
    """
    plan = call.plan if left else exchanged(call.plan)
    if plan.model is None and not plan.mixed:
        out = total if left else np.empty(total.shape[::-1], total.dtype)
        if not left and not fresh:
            out[...] = total.T
        _sparse_product.multiply(a, b if left else b.T, out, plan, fresh)
        if not left:
            _sparse_product.transpose(out, total)
        return
    if plan.integer:
        start = None if fresh else total if left else total.T
        formats = (cast(IntFormat, plan.a.fmt), cast(IntFormat, plan.b.fmt))
        found = _sparse_integer_product.product(a, b if left else b.T, start=start, formats=formats)
        total[...] = found if left else found.T
        return
    if fresh:
        total[...] = 0
    if isinstance(plan.model, Sequential) and is_stochastic(plan.model):
        _sum_drawn(a, b, total, call, place, left)
        return
    turned = not left and (plan.raw or _draws(plan))  # the operands have to keep their sides
    out = total if left else np.ascontiguousarray(total.T)
    _sparse_sums.multiply(a, b if left else b.T, out, plan, place, turned)
    if not left:
        total[...] = out.T


def _sum_drawn(a: SparseRows, b: Array, total: Array, call: _Call, place: Place, left: bool) -> None:
    """Add the sums of products that draw random words: those of the dense product, but for what is not finite.

    Where a number that is not finite is kept, nothing that is drawn matters, and only what is kept is summed.
    """
    columns, inside = columns_kept(a)
    dense = np.zeros((a.values.shape[0], a.k), a.values.dtype)
    keep = np.zeros(dense.shape, np.bool_)
    for i, (row, count) in enumerate(zip(columns, inside, strict=True)):
        dense[i, row[:count]] = a.values[i, :count]
        keep[i, row[:count]] = True
    finite = np.isfinite(b.astype(np.float64))
    tame = b if finite.all() else np.where(finite, b, b.dtype.type(0))
    begin = total.copy()
    pair = (dense, tame) if left else (tame, dense.T)
    _multiply(pair[0], pair[1], total, call, begin, Layout(place.element, place.element_step))
    if not finite.all():
        met = (keep, ~finite) if left else (~finite, keep.T)
        wild = np.matmul(met[0].astype(np.float32), met[1].astype(np.float32)) > 0
        out = begin if left else np.ascontiguousarray(begin.T)
        plan = call.plan if left else exchanged(call.plan)
        _sparse_sums.multiply(a, b if left else b.T, out, plan, place, not left)
        total[wild] = (out if left else out.T)[wild]


def _with_scales(pair: _Pair, how: tuple[Any, ...], rest: _Rest) -> Any:
    """Return the product where one operand at least is quantised, or is to be."""
    s, other, given = pair.sparse, pair.other, How(*how)
    flying = _quantises(given.dtype, pair)
    scaled = is_quantized(s.values), is_quantized(other)
    whole = scaled[0] != scaled[1] and is_whole(other if scaled[0] else s.values)
    if flying or whole or all(scaled):
        found = _bytes(pair, given, rest, flying)
        return _expanded(pair, how, rest) if found is None else found
    # One operand becomes plain numbers.
    wide = given.dtype is not None
    q: Any = s.values if scaled[0] else other
    kind = np.float64 if wide and not _quantized._fits_single(q) else np.float32
    if given.dtype is None:
        own = _quantized._own(other if scaled[0] else s.values, "b" if scaled[0] == pair.left else "a")
        single = resolve("float32")
        first = single if scaled[0] else own
        second = own if scaled[0] else single
        given = given._replace(dtype=(first, second) if pair.left else (second, first))
    numbers = pair._replace(sparse=s.dequantize(kind)) if scaled[0] else pair._replace(other=other.dequantize(kind))
    if rest.bias is None:
        return _plain(numbers, tuple(given), rest)
    total = np.asarray(_plain(numbers, tuple(given._replace(out_dtype=None)), rest._replace(out=None, bias=None)))
    return _quantized._finished(total, None, None, given, rest.rng, rest.out, rest.bias)


def _bytes(pair: _Pair, how: How, rest: _Rest, flying: bool) -> Any:
    """Return the product of integers of at most 8 bits whose scales do not differ along K; None for all others."""
    s, other = pair.sparse, pair.other
    if s.ndim != 2 or np.ndim(other) < 2 or how.rounding == "stochastic" or rest.c is not None:
        return None
    if model_of(how.accumulator) not in (None, Integer()):
        return None
    if flying and any(
        is_block_name(fmt) for fmt in (how.dtype if isinstance(how.dtype, (tuple, list)) else [how.dtype])
    ):
        return None
    _checks.modes(how.rounding, how.overflow, how.subnormals, how.random_bits)
    shape = np.shape(other)
    if len(shape) > 2:
        if pair.left or is_quantized(other):
            return None
        pair = pair._replace(other=_as_array(other, pair.names[0]).reshape(-1, shape[-1]))
    a, b, given = _quantized.operands(*pair.ordered(s.values), how, rest.rng)
    if given.dtype is not None or not (is_quantized(a) and is_quantized(b)):
        return None
    sparse, other = (a, b) if pair.left else (b, a)
    fits = all(isinstance(q.format, IntFormat) and q.format.bits <= 8 and q.offset is None for q in (sparse, other))
    if not fits or s.shape[s.axis] != other.shape[0 if pair.left else 1] or not s.shape[s.axis]:
        return None
    sides = (_side(sparse, s.axis, np.float32), _side(other, 0 if pair.left else 1, np.float32))
    if any(side.block < q.shape[side.axis] for side, q in zip(sides, (sparse, other), strict=True)):
        return None
    if any(np.signbit(side.scale).any() for side in sides):
        return None
    pattern = pattern_of(s.pattern)
    codes, matrix = _whole_numbers(sparse), _whole_numbers(other)
    if not pair.left:
        codes, matrix = codes.T, matrix.T
    rows = SparseRows(np.ascontiguousarray(codes), s.shape[s.axis], pattern.kept, pattern.group, s.nibbles, pattern)
    scales = [np.take(side.scale, 0, axis=side.axis) for side in sides]
    points = [_points(side, 0) for side in sides]
    total = _sparse_integer_product.product(
        rows,
        matrix,
        zero_a=points[0],
        zero_b=points[1],
        row_scale=scales[0],
        column_scale=scales[1],
        formats=(cast(IntFormat, sparse.format), cast(IntFormat, other.format)),
    )
    total = total if pair.left else np.ascontiguousarray(total.T).reshape(*shape[:-1], -1)
    return _quantized._finished(total, None, None, given, rest.rng, rest.out, rest.bias)


def sum_rows(vecdot: Callable[..., Any], a: Any, b: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `vecdot`, given, of operands of which one at least is sparse, along their last axes."""
    if is_sparse(a) and is_sparse(b):
        b = b.to_dense()
    pair = _Pair(a if is_sparse(a) else b, b if is_sparse(a) else a, is_sparse(a), ("a", "b"))
    s = pair.sparse
    keywords = {**dict(zip(How._fields, how, strict=True)), "rng": rng}
    dense = pair.ordered(s.to_dense())
    scaled = is_quantized(s.values) or is_quantized(pair.other) or _quantises(how[0], pair)
    if scaled or s.axis != s.ndim - 1 or np.ndim(pair.other) == 0 or np.shape(pair.other)[-1] != s.shape[-1]:
        return vecdot(*dense, c=c, out=out, **keywords)
    other = _as_array(pair.other, "b" if pair.left else "a")
    plan = _Call(*pair._replace(other=other).ordered(s.values), how, rng).plan
    shape = _broadcast(s.shape[:-1], other.shape[:-1])
    if shape is None or not s.size or plan.stochastic or takes_all(plan, how[1]):
        return vecdot(*dense, c=c, out=out, **keywords)
    columns = columns_of(s.nibbles, pattern_of(s.pattern), s.values.shape[-1])
    inside = np.count_nonzero(columns < s.shape[-1], axis=-1)
    if (inside != inside.flat[0]).any():  # rows of several lengths
        return _of_lengths(vecdot, pair._replace(other=other), columns, inside, keywords | {"c": c, "out": out})
    length = int(inside.flat[0])
    spread = np.broadcast_to(columns[..., :length], (*shape, length))
    gathered = np.take_along_axis(np.broadcast_to(other, (*shape, other.shape[-1])), spread, axis=-1)
    kept = s.values[..., :length]
    return vecdot(*((kept, gathered) if pair.left else (gathered, kept)), c=c, out=out, **keywords)


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that two shapes broadcast to, if they do."""
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None


def _of_lengths(vecdot: Callable[..., Any], pair: _Pair, columns: Array, inside: Array, keywords: Any) -> Any:
    """Return `vecdot` where rows keep several numbers of elements, those of a number at a time."""
    s, out, c = pair.sparse, keywords.pop("out"), keywords.pop("c")
    shape = np.broadcast_shapes(inside.shape, pair.other.shape[:-1])
    counts = np.broadcast_to(inside, shape)
    values, places, others = (np.broadcast_to(x, (*shape, x.shape[-1])) for x in (s.values, columns, pair.other))
    addends = None if c is None else np.broadcast_to(_as_array(c, "c"), shape)
    result = None
    for count in np.unique(counts):
        which = counts == count
        gathered = np.take_along_axis(others[which], places[which][..., :count], axis=-1)
        kept = values[which][..., :count]
        begin = None if addends is None else addends[which]
        part = vecdot(*((kept, gathered) if pair.left else (gathered, kept)), c=begin, **keywords)
        if result is None:
            result = np.empty(shape, part.dtype)
        result[which] = part
    if out is None:
        return result
    writable(out, shape, cast(Array, result).dtype)[...] = result
    return out
