"""One call of a product: its operands, what its other arguments amount to, and what comes before and after the sum."""

from __future__ import annotations

import sys
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lowprec import _checks, _product
from lowprec._checks import Array
from lowprec._plan import Plan, Side, make_plan
from lowprec.codec import round_into, round_to
from lowprec.formats import BLOCK_FORMATS, FloatFormat, IntFormat, stored_format
from lowprec.kernels import codec as codec_kernels
from lowprec.rounding import Rounding

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from lowprec.arrays import QuantizedArray
    from lowprec.sparse_arrays import Sparse24

_FLOAT32 = np.dtype(np.float32)


def _as_array(x: Any, name: str) -> Array:
    """Return an operand as a native, aligned array of real numbers."""
    if type(x) is np.ndarray and x.dtype is _FLOAT32 and x.flags.aligned:
        return x
    array = _checks.plain_array(x, name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    if array.dtype.kind not in "fiub" and stored_format(array.dtype) is None:
        _checks.source(array, name)  # raises, unless these are Python ints
    return array


def is_quantized(x: Any) -> TypeIs[QuantizedArray]:
    """Say whether an operand is a `QuantizedArray`; without importing what makes them."""
    module = sys.modules.get("lowprec.arrays")
    return module is not None and isinstance(x, module.QuantizedArray)


def is_sparse(x: Any) -> TypeIs[Sparse24]:
    """Say whether an operand is a `Sparse24`; without importing what makes them."""
    module = sys.modules.get("lowprec.sparse_arrays")
    return module is not None and isinstance(x, module.Sparse24)


def is_dask(x: Any) -> bool:
    """Say whether an operand is a Dask array; without importing Dask."""
    if type(x) is np.ndarray:
        return False
    module = sys.modules.get("dask.array.core")
    return module is not None and isinstance(x, module.Array)


@lru_cache(maxsize=256)
def quantises(fmt: Any) -> bool:
    """Say whether a format is one that floats are quantised to: of integers, or a block format."""
    blocks = sys.modules.get("lowprec.blocks")
    if (isinstance(fmt, str) and fmt.strip().lower() in BLOCK_FORMATS) or (
        blocks is not None and isinstance(fmt, blocks.BlockFormat)
    ):
        return True
    try:
        return isinstance(_checks.fmt_of(fmt, "dtype"), IntFormat)
    except (TypeError, ValueError):
        return False


def is_whole(x: Any) -> bool:
    """Say whether an operand holds integers."""
    array = np.asarray(x)
    return array.dtype.kind in "iub" or isinstance(stored_format(array.dtype), IntFormat)


def wants_scales(a: Any, b: Any, dtype: Any) -> bool:
    """Say whether a product is one of quantised operands, or of floats that are to be quantised."""
    if is_quantized(a) or is_quantized(b):
        return True
    if dtype is None:
        return False
    pair = dtype if isinstance(dtype, (tuple, list)) else (dtype,)
    try:
        asked = [quantises(fmt) for fmt in pair]
    except TypeError:
        return False
    if not any(asked):
        return False
    return not (is_whole(a) and is_whole(b))


class _Scales(NamedTuple):
    """Block scales of both operands."""

    kind: tuple[FloatFormat, int]  # their format, and elements per scale
    codes: tuple[Array, Array]  # a's (..., M, blocks) and b's (..., blocks, N), as int64


def _read(a: Any, b: Any, names: tuple[str, str] = ("a", "b")) -> tuple[Array, Array, _Scales | None]:
    """Return both operands as arrays, and their scales if they are quantised."""
    if not is_quantized(a) and not is_quantized(b):
        return _as_array(a, names[0]), _as_array(b, names[1]), None
    codes, kinds, scales = [], [], []
    for x, name, along in ((a, names[0], -1), (b, names[1], -2)):
        if not is_quantized(x):
            msg = f"`{name}` must be a QuantizedArray as the other operand is, got {type(x).__name__}."
            raise TypeError(msg)
        storage = x.format.storage_dtype
        if (
            not isinstance(x.block_size, int)
            or not isinstance(x.axis, int)
            or x.axis != x.ndim + along
            or x.zero_point is not None
        ):
            what = f"axis={x.axis}, block_size={x.block_size}" + ("" if x.zero_point is None else ", zero points")
            msg = (
                f"`{name}` must have block scales along K (axis {x.ndim + along}) and no zero points, got {what}; "
                f"multiply {name}.dequantize() instead."
            )
            raise ValueError(msg)
        if storage is None or storage.itemsize != x.codes.itemsize or not isinstance(x.scale_format, FloatFormat):
            msg = f"`{name}` must have elements and scales in float formats of the table, got {x!r}."
            raise ValueError(msg)
        codes.append(x.codes.view(storage))
        kinds.append((x.scale_format, x.block_size))
        scales.append(x.scale)
    if kinds[0] != kinds[1]:
        msg = (
            f"`{names[0]}` and `{names[1]}` must have the same scale format and block size, got {kinds[0][0]} for "
            f"every {kinds[0][1]} and {kinds[1][0]} for every {kinds[1][1]}."
        )
        raise ValueError(msg)
    if kinds[0][0].bits != 8:
        msg = (
            f"`{names[0]}` and `{names[1]}` must have scales that an instruction takes, e8m0fnu or e4m3fn, got "
            f"{kinds[0][0]}; multiply what `.dequantize()` gives."
        )
        raise ValueError(msg)
    patterns = [np.ascontiguousarray(scale).view(np.uint8).astype(np.int64) for scale in scales]
    return codes[0], codes[1], _Scales(kinds[0], (patterns[0], patterns[1]))


class _Call:
    """One call's operands, and what its other arguments amount to."""

    __slots__ = ("a", "b", "names", "plan", "scales", "seed")

    def __init__(
        self,
        a: Array,
        b: Array,
        how: tuple[Any, ...],
        rng: Any,
        names: tuple[str, str] = ("a", "b"),
        c: Any = None,
        scales: Any = None,
    ) -> None:
        self.a, self.b, self.names, self.scales = a, b, names, scales
        addend = None if c is None else getattr(c, "dtype", None)
        kinds = (a.dtype, b.dtype, addend, None if scales is None else scales.kind)
        try:
            self.plan = make_plan(*how, *kinds)
        except TypeError:  # an unhashable argument, or what the check itself says
            dtype = tuple(how[0]) if isinstance(how[0], list) else how[0]
            self.plan = make_plan.__wrapped__(dtype, *how[1:], *kinds)
        if self.plan.warning is not None:
            from lowprec._instructions import ApproximationWarning

            warnings.warn(self.plan.warning, ApproximationWarning, stacklevel=3)
        self.seed = _checks.seed(rng, Rounding.STOCHASTIC if self.plan.stochastic else Rounding.NEAREST_EVEN)

    def prepare(self) -> None:
        """Make the operands readable for the kernels; nothing can fail after this."""
        plan = self.plan
        if plan.integer:
            self.a, self.b = (_integers(x, side) for x, side in ((self.a, plan.a), (self.b, plan.b)))
            return
        if plan.modes.rounding is Rounding.STOCHASTIC:
            self._round_stochastically()
            plan = self.plan
        if plan.ready:
            return
        self.a = _prepared(self.a, plan.a, plan, self.names[0])
        self.b = _prepared(self.b, plan.b, plan, self.names[1])

    def _round_stochastically(self) -> None:
        """Round both operands whole; that the packer rounds the results again changes nothing."""
        plan = self.plan
        rounded = []
        for x, side, stream, name in (
            (self.a, plan.a, 0, self.names[0]),
            (self.b, plan.b, 1, self.names[1]),
        ):
            values = np.ascontiguousarray(_checks.source(x, name).values).reshape(x.shape)
            if not side.fmt.has_nan:
                _refuse_nan(values, side.fmt.name, name)
            if side.fmt.max > np.finfo(values.dtype).max:
                values = values.astype(np.float64)
            out = np.empty_like(values)
            round_into(values, out, side.fmt, plan.modes, self.seed, codes=False, stream=stream)
            rounded.append(out)
        self.a, self.b = rounded
        modes = (*plan.modes[:3], plan.modes.random_bits)
        formats = (plan.a.fmt, plan.b.fmt)
        model = plan.dtype if plan.model is None else plan.model
        self.plan = make_plan(formats, model, plan.out_fmt, *modes, self.a.dtype, self.b.dtype)


def _integers(x: Array, side: Side) -> Array:
    """Return integer operands in their format: those out of its range saturate."""
    if stored_format(x.dtype) == side.fmt:
        return x
    if x.dtype.kind not in "iub":
        x = x.astype(np.int32)
    low, high = int(side.fmt.min), int(side.fmt.max)
    bounds = (0, 1) if x.dtype.kind == "b" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return x if low <= bounds[0] and bounds[1] <= high else np.clip(x, low, high)


def _refuse_nan(x: Array, fmt: str, name: str) -> None:
    """Raise if an operand holds NaN."""
    if x.dtype in (np.float32, np.float64) and (x.flags.c_contiguous or x.flags.f_contiguous):
        found = bool(codec_kernels.any_nan(x.ravel(order="K")))
    else:
        found = bool(np.isnan(x).any())
    if found:
        msg = f"`{name}` must hold no NaN for `{fmt}`, which has none; replace it first, for example by np.nan_to_num."
        raise ValueError(msg)


def _prepared(x: Array, side: Side, plan: Plan, name: str) -> Array:
    """Return an operand as the packer sees it, and refuse NaN for a format without one."""
    if side.convert:
        src = _checks.source(x, name)
        x = src.values
        if src.exact is not None and side.fmt.precision > 51:
            x = np.asarray(round_to(src.exact, side.fmt, rounding=plan.modes.rounding))
    if not side.fmt.has_nan:
        _refuse_nan(x, side.fmt.name, name)
    return x


def _start(c: Any, shape: tuple[int, ...], plan: Plan) -> Array | None:
    """Return ``c`` in the accumulator's format, or None."""
    if c is None:
        return None
    array = _as_array(c, "c")
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        msg = f"`c` must broadcast to the result's shape {shape}, got {array.shape}."
        raise ValueError(msg)
    if plan.integer:
        if array.dtype.kind not in "iub" or array.dtype == np.uint64:
            msg = f"`c` must hold integers of at most 63 bits for an integer sum, got dtype {array.dtype}."
            raise TypeError(msg)
        low, high = int(plan.sum_format.min), int(plan.sum_format.max)
        if array.size and (int(array.min()) < low or int(array.max()) > high):
            msg = (
                f"`c` must lie in the range of {plan.sum_format}, {low} to {high}, got {array.min()} to {array.max()}."
            )
            raise ValueError(msg)
        return array
    fmt = plan.start_format
    if array.dtype == plan.dtype and fmt.name == str(plan.dtype):
        return array
    return np.asarray(round_to(array, fmt)).astype(plan.dtype)


def _multiply(x: Array, y: Array, out: Array, call: _Call, start: Array | None, layout: Any = None) -> None:
    """Write the sums of a product, whatever their model; ``layout`` says where ``out`` lies in the whole result."""
    if call.plan.model is None:
        _product.multiply(x, y, out, call.plan, start)
        return
    from lowprec import _sums

    scales = None
    if call.scales is not None:
        batch = out.shape[:-2]
        one, other = call.scales.codes
        scales = (np.broadcast_to(one, (*batch, *one.shape[-2:])), np.broadcast_to(other, (*batch, *other.shape[-2:])))
    _sums.multiply(x, y, out, call.plan, start, call.seed, layout, scales)


def _target(out: Any, shape: tuple[int, ...], call: _Call, c: Array | None) -> Array | None:
    """Check ``out``; it must not share memory with what is read after it is written."""
    if out is None:
        return None
    place = _checks.writable(out, shape, call.plan.out_dtype)
    for name, x in zip(call.names, (call.a, call.b), strict=True):
        if _checks.overlap(place, x):
            msg = f"`out` must not overlap `{name}`, got arrays that share memory; pass out=None or another array."
            raise ValueError(msg)
    if c is not None and _checks.overlap(place, c):
        same = place.ctypes.data == c.ctypes.data and place.strides == c.strides and place.shape == c.shape
        if not same:
            msg = "`out` must not overlap `c` unless it is `c`, got arrays that share memory; pass another array."
            raise ValueError(msg)
    return place


def _finish(total: Array, call: _Call, out: Array, bias: Array | None = None) -> None:
    """Write sums to ``out``, plus the bias, rounded to its format."""
    plan = call.plan
    if bias is not None:
        total = _add_bias(total, bias, plan)
    if plan.out_fmt is None:
        if total is not out:
            out[...] = total
        return
    fmt = plan.out_fmt
    if not fmt.has_nan and np.isnan(total).any():
        msg = f"`out_dtype` must have a NaN for a result that is one, got `{fmt}`; choose another format."
        raise ValueError(msg)
    total = np.ascontiguousarray(total)
    if plan.nan_code is not None:
        codes = np.empty(total.shape, fmt.code_dtype)
        round_into(total, codes, fmt, call.plan.modes, call.seed, codes=True, stream=2)
        codes[np.isnan(total)] = plan.nan_code
        out[...] = codes.view(plan.out_dtype)
        return
    if fmt.name == "tf32":
        values = np.empty_like(total)
        round_into(total, values, fmt, call.plan.modes, call.seed, codes=False, stream=2)
        out[...] = values
        return
    codes = np.empty(total.shape, fmt.code_dtype)
    round_into(total, codes, fmt, call.plan.modes, call.seed, codes=True, stream=2)
    out[...] = codes.view(plan.out_dtype)


def _add_bias(total: Array, bias: Array, plan: Plan) -> Array:
    """Add a bias to finished sums, rounded once to their format (integers: to its range)."""
    if plan.integer:
        from lowprec import _integer_sums

        return _integer_sums.add_bias(total, bias, plan.model)  # type: ignore[arg-type]
    fmt = plan.sum_format
    with np.errstate(over="ignore", invalid="ignore"):
        if fmt.name == str(plan.dtype):
            total = np.add(total, bias)
        else:  # formats narrower than the dtype: binary64 holds the sum, rounded to odd
            total = round_to(_checks.odd_sum(total, np.broadcast_to(bias, total.shape)), fmt).astype(plan.dtype)
    total[np.isnan(total)] = np.nan
    return total


def _bias(bias: Array, plan: Plan) -> Array:
    """Return a bias in the dtype of the sums, rounded to their format."""
    if plan.integer:
        if bias.dtype.kind not in "iub":
            msg = f"`bias` must hold integers for an integer sum, got dtype {bias.dtype}."
            raise TypeError(msg)
        return bias.astype(np.int64)
    return np.asarray(round_to(bias, plan.sum_format)).astype(plan.dtype)
