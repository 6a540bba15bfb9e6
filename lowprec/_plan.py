"""What a product is made of, resolved once per combination of arguments: formats, accumulator, kernels, rules."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np

from lowprec import _checks, _jit
from lowprec._checks import Array, Modes
from lowprec._rules import decode_width, fits, make_decoding, make_rule, rule_width
from lowprec.formats import FloatFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.kernels import convert, pack, tile
from lowprec.rounding import Rounding, Subnormals

LANES = ("16", "8", "4", "plain")
_SINGLE = np.dtype(np.float32)


class Side(NamedTuple):
    """How one operand is read."""

    fmt: FloatFormat
    kind: str  # the converter's name
    convert: bool  # the array has to be made float32 or float64 first
    own: FloatFormat | None  # the format of its codes, None for numbers
    rule: Array
    decoding: Array
    numbers: tuple[int, int, int, int]  # the last four fields of `convert.Operand`


@dataclass(frozen=True, eq=False)
class Plan:
    """A product, all but its arrays. Compared by identity: equal arguments give the same plan."""

    a: Side
    b: Side
    dtype: np.dtype[Any]  # of the accumulator
    out_fmt: FloatFormat | None  # the result is rounded to it, None for the accumulator itself
    out_dtype: np.dtype[Any]
    modes: Modes
    mixed: bool  # float64 operands summed in binary32

    @cached_property
    def ready(self) -> bool:
        """Whether the operands need no conversion and no look for NaN."""
        return not any(side.convert or not side.fmt.has_nan for side in (self.a, self.b))

    @cached_property
    def kernels(self) -> Kernels:
        """The compiled kernels."""
        return kernels(self.a.kind, self.b.kind, self.dtype.itemsize)


class Kernels(NamedTuple):
    """Addresses and blocking of the compiled kernels of a plan."""

    tile: int
    pack: int
    convert_a: int
    convert_b: int
    shape: tile.Shape


@cache
def lanes() -> str:
    """Return the micro-kernels' vectors for this CPU; the variable LOWPREC_LANES forces one, for tests."""
    forced = os.environ.get("LOWPREC_LANES")
    if forced is not None:
        if forced not in LANES:
            msg = f"the variable `LOWPREC_LANES` must be one of {', '.join(LANES)}, got {forced!r}."
            raise ValueError(msg)
        return forced
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return "4"
    if numba.config.CPU_NAME:
        features = set((numba.config.CPU_FEATURES or "").split(","))
    else:
        features = {f"+{name}" for name, there in llvm.get_host_cpu_features().items() if there}
    if "+avx512f" in features:
        return "16"
    return "8" if {"+fma", "+avx2"} <= features else "plain"


@lru_cache(maxsize=256)
def kernels(kind_a: str, kind_b: str, item: int) -> Kernels:
    """Compile, or load from the cache, what a plan needs."""
    which = lanes()
    return Kernels(
        _jit.address(tile.TILES[which, item], tile.SIGNATURE),
        _jit.address(pack.pack, pack.SIGNATURE),
        _jit.address(convert.CONVERTERS[kind_a, item], convert.SIGNATURE),
        _jit.address(convert.CONVERTERS[kind_b, item], convert.SIGNATURE),
        tile.SHAPES[which, item],
    )


def _accumulator(value: Any, wide: bool) -> np.dtype[Any]:
    """Return the dtype of the accumulator."""
    if value is None:
        return np.dtype(np.float64 if wide else np.float32)
    fmt = _checks.fmt_of(value, "accumulator")
    if fmt.name in ("float32", "float64"):
        return np.dtype(fmt.name)
    msg = f"`accumulator` must be 'fp32' or 'fp64' in this release, got {str(value)!r}; others come in a later one."
    raise ValueError(msg)


def _own_format(dtype: np.dtype[Any], name: str) -> FloatFormat:
    """Return the format that an operand is in already."""
    fmt = stored_format(dtype.newbyteorder("="))
    if isinstance(fmt, FloatFormat):
        return fmt
    if dtype.kind in "biu" or fmt is not None:
        msg = (
            f"`dtype` must be given for integer operands, got None with `{name}` of dtype {dtype}; write for example "
            'dtype="bf16" (exact integer products come with the quantisers, in a later release).'
        )
    else:
        msg = f"`{name}` must hold real numbers (floats or an ml_dtypes type), got dtype {dtype}; convert it first."
    raise TypeError(msg)


def address(array: Array) -> int:
    """Return where an array's data lie."""
    return int(array.__array_interface__["data"][0])


def _side(fmt: FloatFormat, dtype: np.dtype[Any], modes: Modes, item: int) -> Side:
    """Plan how an operand of a dtype is read as numbers of a format."""
    stored = stored_format(dtype.newbyteorder("="))
    width = rule_width(fmt)
    own: FloatFormat | None = None
    convert = dtype not in (np.dtype(np.float32), np.dtype(np.float64))
    if (dtype.kind in "fiuO" and dtype.itemsize >= 4 and dtype != np.float32) or dtype.kind == "O":
        kind, width = "float64", 64
    elif isinstance(stored, FloatFormat) and convert and width == 32 and decode_width(stored) == 32:
        kind, own, convert = f"uint{8 * dtype.itemsize}", stored, False
    else:
        kind = "wide" if width == 64 else "float32"
    rule = make_rule(fmt, width, modes, False)
    decoding = make_decoding(own or resolve("e5m2"), 32)
    how, limit = _short_way(fmt, kind, width, modes, own)
    return Side(fmt, kind, convert, own, rule, decoding, (address(rule), address(decoding), how, limit))


def _short_way(fmt: FloatFormat, kind: str, width: int, modes: Modes, own: FloatFormat | None) -> tuple[int, int]:
    """Return the last two fields of an `Operand`: whether rounding is needed at all, or has a short way."""
    if modes.subnormals is not Subnormals.KEEP or kind == "wide":
        return convert.GENERAL, 0
    if fmt in (own, resolve(kind) if kind in ("float32", "float64") else None):
        return convert.EXACT, 0
    mantissa, bias = (23, 127) if width == 32 else (52, 1023)
    drop = mantissa - fmt.mantissa_bits
    if own or modes.rounding is not Rounding.NEAREST_EVEN or not fmt.has_zero or not fmt.is_signed:
        return convert.GENERAL, 0
    if drop < 2 or fmt.emin + drop >= bias or fmt.emin < 1 - bias:
        return convert.GENERAL, 0
    # The largest anchor, 1.5 * 2**(exponent + drop), must be finite.
    top = min(fmt.max, 2.0 ** (bias + 1 - drop) * (1 - 2.0 ** -(mantissa + 1)))
    word = np.array(top, f"f{width // 8}").view(f"u{width // 8}")
    return convert.NEAREST, int(word)


@lru_cache(maxsize=1024)
def make_plan(
    dtype: Any,
    accumulator: Any,
    out_dtype: Any,
    rounding: Any,
    overflow: Any,
    subnormals: Any,
    random_bits: Any,
    dtype_a: np.dtype[Any],
    dtype_b: np.dtype[Any],
) -> Plan:
    """Resolve the arguments of a product that are not arrays."""
    modes = _checks.modes(rounding, overflow, subnormals, random_bits)
    if dtype is None:
        formats = [_own_format(dtype_a, "a"), _own_format(dtype_b, "b")]
    else:
        pair = dtype if isinstance(dtype, tuple) else (dtype, dtype)
        if len(pair) != 2:
            msg = f"`dtype` must be one format or a pair (for a, for b), got {len(pair)} of them."
            raise ValueError(msg)
        formats = [_checks.refuse_integer(_checks.fmt_of(each, "dtype"), "dtype") for each in pair]
    for fmt in formats:
        if modes.overflow is not None:
            _checks.policy(fmt, modes.overflow)
    wide = not all(fits(fmt, _SINGLE) for fmt in formats)
    total = _accumulator(accumulator, wide)
    out_fmt = None
    result = total
    if out_dtype is not None:
        fmt = _checks.refuse_integer(_checks.fmt_of(out_dtype, "out_dtype"), "out_dtype")
        if fmt.storage_dtype is None:
            msg = f"`out_dtype` must be a format with a storage dtype, got the custom format `{fmt}`."
            raise ValueError(msg)
        result = fmt.storage_dtype
        out_fmt = None if fmt.name == str(total) else fmt
        if out_fmt is not None and modes.overflow is not None:
            _checks.policy(out_fmt, modes.overflow)
    sides = [_side(fmt, kind, modes, total.itemsize) for fmt, kind in zip(formats, (dtype_a, dtype_b), strict=True)]
    return Plan(sides[0], sides[1], total, out_fmt, result, modes, wide and total.itemsize == 4)
