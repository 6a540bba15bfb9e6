"""Products of Dask arrays: every block of the result is one product with K whole, so the bits are those of NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from lowprec import _checks, _extras, accumulators
from lowprec._call import _as_array, is_dask, is_quantized, is_sparse, quantises
from lowprec._checks import Array
from lowprec._models import is_stochastic
from lowprec.accumulators import Accumulator
from lowprec.blocks import block_format, is_block_name
from lowprec.quantizers.api import quantize
from lowprec.rounding import Rounding

_HOW = ("dtype", "accumulator", "out_dtype", "rounding", "overflow", "subnormals", "random_bits")


class _Operand(NamedTuple):
    """One operand with the names of its axes."""

    name: str
    value: Any  # a Dask array, or what goes whole to every block
    axes: tuple[Any, ...]

    @property
    def whole(self) -> bool:
        """Whether every block gets all of it."""
        return not is_dask(self.value)


def matmul(function: Callable[..., Any], a: Any, b: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `lowprec.matmul` of operands of which one at least is a Dask array, lazily.

    Parameters
    ----------
    function : callable
        `lowprec.matmul`.
    a, b, how, c, rng, out
        What it was given; `how` holds dtype, accumulator, out_dtype, rounding, overflow, subnormals and random_bits.

    Returns
    -------
    dask.array.Array
        Its blocks of M and N, and of the axes before them, are those of the operands; K is rechunked to one block.

    Raises
    ------
    TypeError
        If an operand is of the wrong kind.
    ValueError
        As `lowprec.matmul`; or for stochastic rounding, which draws by an element's place in the whole array, `out`,
        and blocks of unknown size.
    """
    batch = max(_ndim(a), _ndim(b)) - 2
    left = _operand("a", a, ("k",) if _ndim(a) == 1 else (*_before(batch, _ndim(a) - 2), "m", "k"))
    right = _operand("b", b, ("k",) if _ndim(b) == 1 else (*_before(batch, _ndim(b) - 2), "k", "n"))
    if not (_ndim(a) and _ndim(b)):
        _shapes("`a` and `b` must have at least one axis (multiply by a 0-d scalar with *)", left, right)
    result = (*_before(batch, max(batch, 0)), *(["m"] if _ndim(a) > 1 else []), *(["n"] if _ndim(b) > 1 else []))
    return _lazy(function, [left, right], result, how, c, rng, out)


def vecdot(function: Callable[..., Any], a: Any, b: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any) -> Any:
    """Return `lowprec.vecdot` of operands of which one at least is a Dask array, lazily; see `matmul`.

    Parameters
    ----------
    function, a, b, how, c, rng, out
        As in `matmul`.

    Returns
    -------
    dask.array.Array
        Blocks of the leading axes are kept.

    Raises
    ------
    TypeError, ValueError
        As `matmul`.
    """
    batch = max(_ndim(a), _ndim(b)) - 1
    left = _operand("a", a, (*_before(batch, _ndim(a) - 1), "k"))
    right = _operand("b", b, (*_before(batch, _ndim(b) - 1), "k"))
    if not (_ndim(a) and _ndim(b)):
        _shapes("`a` and `b` must have at least one axis", left, right)
    return _lazy(function, [left, right], _before(batch, batch), how, c, rng, out)


def linear(
    function: Callable[..., Any], x: Any, w: Any, bias: Any, how: tuple[Any, ...], c: Any, rng: Any, out: Any
) -> Any:
    """Return `lowprec.linear` of operands of which one at least is a Dask array, lazily; see `matmul`.

    Parameters
    ----------
    function, x, w, bias, how, c, rng, out
        As in `matmul`, with a bias.

    Returns
    -------
    dask.array.Array
        Blocks of the rows of `x` and of `w` are kept.

    Raises
    ------
    TypeError, ValueError
        As `matmul`; or if `w` has not two axes, or `bias` not one element per row of it.
    """
    if _ndim(w) != 2:
        msg = f"`w` must have shape (N, K), got {np.shape(w)}."
        raise ValueError(msg)
    batch = _before(_ndim(x) - 1, _ndim(x) - 1)
    left, right = _operand("x", x, (*batch, "k")), _operand("w", w, ("n", "k"))
    if not left.axes[:-1] and not _ndim(x):
        _shapes("`x` must have shape (..., K)", left, right)
    operands = [left, right]
    if bias is not None:
        given = bias if is_dask(bias) else _as_array(bias, "bias")
        if given.shape not in ((right.value.shape[0],), ()):
            msg = f"`bias` must have shape ({right.value.shape[0]},) for `w` of {right.value.shape}, got {given.shape}."
            raise ValueError(msg)
        operands.append(_Operand("bias", given if is_dask(given) else _array().asarray(given), ("n",)[: given.ndim]))
    return _lazy(function, operands, (*batch, "n"), how, c, rng, out)


def _array() -> Any:
    """Import `dask.array`."""
    return _extras.require("dask.array", "A product of Dask arrays", "distributed")


def _ndim(x: Any) -> int:
    """Return how many axes an operand has."""
    return int(x.ndim) if hasattr(x, "ndim") else np.ndim(x)


def _before(batch: int, own: int) -> tuple[Any, ...]:
    """Return the names of an operand's leading axes, the last of `batch` ones."""
    return tuple(f"batch {axis:02}" for axis in range(batch - own, batch)) if own > 0 else ()


def _operand(name: str, value: Any, axes: tuple[Any, ...]) -> _Operand:
    """Check one operand; what NumPy holds becomes a Dask array, what carries scales stays whole."""
    if is_quantized(value) or is_sparse(value):
        if value.ndim > 2:
            msg = f"`{name}` must have at most two axes beside a Dask array, got {type(value).__name__} {value.shape}."
            raise ValueError(msg)
        return _Operand(name, value, axes)
    if not is_dask(value):
        value = _array().asarray(_as_array(value, name))
    if any(math.isnan(length) for length in value.shape):
        msg = f"`{name}` must have blocks of known sizes, got shape {value.shape}; call .compute_chunk_sizes() on it."
        raise ValueError(msg)
    return _Operand(name, value, axes)


def _shapes(rule: str, left: _Operand, right: _Operand) -> NoReturn:
    """Raise an error that shows both shapes."""
    one, other = np.shape(left.value), np.shape(right.value)
    msg = f"{rule}, got shapes {one} for `{left.name}` and {other} for `{right.name}`."
    raise ValueError(msg)


def _lazy(
    function: Callable[..., Any],
    operands: list[_Operand],
    result: tuple[Any, ...],
    how: tuple[Any, ...],
    c: Any,
    rng: Any,
    out: Any,
) -> Any:
    """Return the Dask array whose blocks are products."""
    named = dict(zip(_HOW, how, strict=True))
    _refuse_random(named, rng)
    if out is not None:
        msg = "`out` must be None for Dask arrays, whose products are computed later, got an array."
        raise ValueError(msg)
    sizes = _sizes(operands, result)
    shape = tuple(sizes[axis] for axis in result)
    if c is not None:
        start = c if is_dask(c) else _array().asarray(_as_array(c, "c"))
        try:
            fits = np.broadcast_shapes(start.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            msg = f"`c` must broadcast to the result's shape {shape}, got {start.shape}."
            raise ValueError(msg)
        operands = [*operands, _Operand("c", start, result[len(result) - start.ndim :])]
    meta = _tried(function, operands, sizes, named, len(result))
    operands = [each if each.whole else each._replace(value=_k_whole(each)) for each in operands]
    scales = _scales(operands[:2], named)
    places = [(each.value, None if each.whole else each.axes) for each in (*operands, *scales)]
    return _array().blockwise(
        _block,
        result,
        *(part for place in places for part in place),
        function=function,
        names=tuple(each.name for each in (*operands, *scales)),
        how=tuple(named.items()),
        new_axes={axis: sizes[axis] for axis in result if all(axis not in (places[i][1] or ()) for i in range(2))},
        concatenate=True,
        dtype=meta.dtype,
        meta=meta,
    )


def _refuse_random(named: dict[str, Any], rng: Any) -> None:
    """Refuse what draws random words by an element's place."""
    model = None if named["accumulator"] is None else accumulators.model(named["accumulator"])
    modes = _checks.modes(*(named[name] for name in ("rounding", "overflow", "subnormals", "random_bits")))
    if modes.rounding is Rounding.STOCHASTIC or (isinstance(model, Accumulator) and is_stochastic(model)):
        name = "rounding" if modes.rounding is Rounding.STOCHASTIC else "accumulator"
        msg = (
            f"`{name}` must not be stochastic for Dask arrays, got {named[name]!r}: its random bits go by an element's "
            "place in the whole array; round blocks with a seed each, or multiply NumPy arrays."
        )
        raise ValueError(msg)
    if rng is not None:
        msg = f"`rng` must be None for Dask arrays, where nothing is drawn, got {type(rng).__name__}."
        raise ValueError(msg)


def _sizes(operands: list[_Operand], result: tuple[Any, ...]) -> dict[Any, int]:
    """Return the length of every axis, or refuse operands that do not fit."""
    left, right = operands[:2]
    lengths = [dict(zip(each.axes, each.value.shape, strict=True)) for each in (left, right)]
    if lengths[0]["k"] != lengths[1]["k"]:
        axes = " and ".join(f"axis {each.axes.index('k') - len(each.axes)} of `{each.name}`" for each in (left, right))
        _shapes(f"`{left.name}` and `{right.name}` must have equal lengths of K ({axes})", left, right)
    sizes: dict[Any, int] = {"k": lengths[0]["k"]}
    for axis in result:
        found = {each[axis] for each in lengths if axis in each}
        if len(found - {1}) > 1:
            _shapes(f"`{left.name}` and `{right.name}` must have leading axes that broadcast", left, right)
        sizes[axis] = max(found - {1}, default=1)
    return sizes


def _tried(
    function: Callable[..., Any], operands: list[_Operand], sizes: dict[Any, int], named: dict[str, Any], ndim: int
) -> Array:
    """Compute one element of zeros, so that wrong arguments are refused now; return an empty array of its dtype."""
    given: dict[str, Any] = {}
    for each in operands:
        if each.whole:
            given[each.name] = each.value
        else:
            given[each.name] = np.zeros([sizes["k"] if axis == "k" else 1 for axis in each.axes], each.value.dtype)
    return np.empty((0,) * ndim, np.asarray(function(**given, **named)).dtype)


def _k_whole(operand: _Operand) -> Any:
    """Return an operand with K in one block."""
    if "k" not in operand.axes:
        return operand.value
    return operand.value.rechunk({operand.axes.index("k"): -1})


def _scales(operands: list[_Operand], named: dict[str, Any]) -> list[_Operand]:
    """Return what every block has to know of a whole operand: its scale, if one is found on the fly for all of it."""
    dtype = named["dtype"]
    pair = tuple(dtype) if isinstance(dtype, (tuple, list)) else (dtype, dtype)
    found = []
    for operand, fmt in zip(operands, pair, strict=True):
        if operand.whole or fmt is None or not quantises(fmt) or operand.value.dtype.kind in "iub":
            continue
        if is_block_name(fmt) and quantize(np.ones(block_format(fmt).block_size), fmt).tensor_scale is None:
            continue
        largest = operand.value.map_blocks(_largest, dtype=operand.value.dtype).max() if operand.value.size else None
        scale = _array().asarray(np.float32(1)) if largest is None else largest.map_blocks(_scale, fmt, dtype="float32")
        found.append(_Operand(f"{operand.name} scale", scale, ()))
    return found


def _largest(block: Array) -> Array:
    """Return a block's magnitudes; NaN stays."""
    return np.abs(block)


def _scale(largest: Any, fmt: Any) -> Array:
    """Return the scale of a tensor from its largest magnitude."""
    value = np.asarray(largest)
    if is_block_name(fmt):
        return np.asarray(quantize(np.full(block_format(fmt).block_size, value), fmt).tensor_scale)
    return np.asarray(quantize(value.reshape(1), fmt).scale).reshape(())


def _block(*blocks: Any, function: Callable[..., Any], names: tuple[str, ...], how: tuple[Any, ...]) -> Any:
    """Return one block of the result."""
    given = dict(zip(names, blocks, strict=True))
    named = dict(how)
    pair = named["dtype"] if isinstance(named["dtype"], (tuple, list)) else (named["dtype"],) * 2
    done = False
    for (name, block), fmt in zip(list(given.items())[:2], pair, strict=True):
        scale = given.pop(f"{name} scale", None)
        if scale is None:
            continue
        done = True
        if is_block_name(fmt):
            axis = -2 if name == "b" and block.ndim > 1 and function.__name__ == "matmul" else -1
            given[name] = quantize(block, fmt, axis=axis, tensor_scale=float(scale))
        else:
            given[name] = quantize(block, fmt, scale=np.float32(scale))
    if done:
        given |= {name: _of_integers(given[name], fmt) for name, fmt in zip(list(given)[:2], pair, strict=True)}
        named["dtype"] = None
    return function(**given, **named)


def _of_integers(x: Any, fmt: Any) -> Any:
    """Return integers beside an operand that was quantised, as `lowprec.matmul` takes them."""
    return x if is_quantized(x) else quantize(x, fmt, scale=np.float32(1))
