"""What a product is made of, resolved once per combination of arguments: formats, accumulator, kernels, rules."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np

from lowprec import _checks, _jit
from lowprec._checks import Array, Modes
from lowprec._rules import decode_width, fits, make_decoding, make_rule, rule_width
from lowprec.formats import FloatFormat, Format, IntFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.kernels import convert, pack, tile
from lowprec.rounding import Rounding, Subnormals

if TYPE_CHECKING:
    from lowprec._models import Facts
    from lowprec.accumulators import Accumulator

LANES = ("16", "8", "4", "plain")
_SINGLE = np.dtype(np.float32)


class Side(NamedTuple):
    """How one operand is read."""

    fmt: Any  # FloatFormat, or IntFormat in products of integers
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
    model: Accumulator | None = None  # None for the native sums, fused multiply-adds in float32 and float64
    facts: Facts | None = None  # of the model

    @property
    def warning(self) -> str | None:
        """A warning to be given with every product."""
        return None if self.facts is None else self.facts.warning

    @property
    def integer(self) -> bool:
        """Whether integers are multiplied."""
        return self.facts is not None and self.facts.integer

    @property
    def item(self) -> int:
        """Bytes of the numbers that the kernels take."""
        return self.dtype.itemsize if self.facts is None else self.facts.item

    @cached_property
    def sum_format(self) -> Format:
        """The format of the running sum."""
        found = None if self.model is None else self.model.result_format
        return resolve(self.dtype) if found is None else found

    @property
    def start_format(self) -> Format:
        """The format that ``c`` is rounded to."""
        own: Format | None = getattr(self.model, "c_format", None)
        return self.sum_format if own is None else own

    @property
    def raw(self) -> bool:
        """Whether NaN keep their payload on the way."""
        return self.facts is not None and self.facts.nan_bits is None

    @cached_property
    def nan_code(self) -> int | None:
        """The code of a NaN in the result's format where it is not the canonical one."""
        if self.out_fmt is None or self.model is None or self.facts is None or not self.facts.all_ones_nan:
            return None
        return (1 << self.out_fmt.magnitude_bits) - 1 if self.out_fmt == self.model.result_format else None

    @property
    def stochastic(self) -> bool:
        """Whether the sum, or the rounding of its operands and result, draws random words."""
        drawn = self.facts is not None and self.facts.stochastic
        return drawn or self.modes.rounding is Rounding.STOCHASTIC

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
    k_block: int = 256  # measured: a panel of B then just fills the first-level cache, a block of A some of the second


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


def _plain(value: Any) -> np.dtype[Any] | None:
    """Return the dtype of a sum that is the CPU's own, where an argument names it by its format, or None."""
    try:
        fmt = resolve(value)
    except (TypeError, ValueError):
        return None
    return np.dtype(fmt.name) if fmt.name in ("float32", "float64") else None


def _own_format(dtype: np.dtype[Any], name: str) -> Format:
    """Return the format that an operand is in already."""
    fmt = stored_format(dtype.newbyteorder("="))
    if fmt is not None:
        return fmt
    if dtype.kind in "iu" and dtype.itemsize <= 4:
        return IntFormat(bits=8 * dtype.itemsize, is_signed=dtype.kind == "i")
    if dtype.kind == "b":
        return resolve("uint8")
    if dtype.kind in "iu":
        msg = f"`{name}` must have integers of at most 32 bits, got dtype {dtype}; convert it, for example to int8."
    else:
        msg = f"`{name}` must hold real numbers (floats or an ml_dtypes type), got dtype {dtype}; convert it first."
    raise TypeError(msg)


def _is_integer(dtype: np.dtype[Any]) -> bool:
    """Say whether an array of a dtype holds integers."""
    return dtype.kind in "iub" or isinstance(stored_format(dtype.newbyteorder("=")), IntFormat)


def formats_are_floats(formats: list[Format]) -> bool:
    """Say whether both formats are floats."""
    return all(isinstance(fmt, FloatFormat) for fmt in formats)


def _formats(dtype: Any, dtype_a: np.dtype[Any], dtype_b: np.dtype[Any]) -> list[Format]:
    """Return the formats of both operands: floats, or integers."""
    if dtype is None:
        formats = [_own_format(dtype_a, "a"), _own_format(dtype_b, "b")]
    else:
        pair = dtype if isinstance(dtype, tuple) else (dtype, dtype)
        if len(pair) != 2:
            msg = f"`dtype` must be one format or a pair (for a, for b), got {len(pair)} of them."
            raise ValueError(msg)
        formats = [_checks.fmt_of(each, "dtype") for each in pair]
        for fmt, kind in zip(formats, (dtype_a, dtype_b), strict=True):
            if isinstance(fmt, IntFormat) and not _is_integer(kind):
                _checks.refuse_integer(fmt, "dtype")
    if len({isinstance(fmt, IntFormat) for fmt in formats}) == 2:
        msg = (
            f"`dtype` must be two float formats or two integer formats, got {formats[0]} and {formats[1]}; "
            'write for example dtype="bf16" for both.'
        )
        raise ValueError(msg) if dtype is not None else TypeError(msg)
    return formats


def address(array: Array) -> int:
    """Return where an array's data lie."""
    return int(array.__array_interface__["data"][0])


def _side(fmt: Format, dtype: np.dtype[Any], modes: Modes, item: int) -> Side:
    """Plan how an operand of a dtype is read as numbers of a format."""
    if isinstance(fmt, IntFormat):
        nothing = np.zeros(0, np.uint32)
        return Side(fmt, "integer", False, None, nothing, nothing, (0, 0, 0, 0))
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
    c: np.dtype[Any] | None = None,
    scales: tuple[FloatFormat, int] | None = None,
) -> Plan:
    """Resolve the arguments of a product that are not arrays."""
    modes = _checks.modes(rounding, overflow, subnormals, random_bits)
    formats = _formats(dtype, dtype_a, dtype_b)
    for fmt in formats:
        if modes.overflow is not None and isinstance(fmt, FloatFormat):
            _checks.policy(fmt, modes.overflow)
    out = None if out_dtype is None else _checks.fmt_of(out_dtype, "out_dtype")
    wide = not all(fits(fmt, _SINGLE) for fmt in formats)
    total = np.dtype(np.float64 if wide else np.float32)
    model: Accumulator | None = None
    facts: Facts | None = None
    plain = total if accumulator is None and formats_are_floats(formats) else _plain(accumulator)
    if plain is not None and scales is None and formats_are_floats(formats):
        total = plain
    else:
        # Imported when needed: most programs never do.
        from lowprec._choice import choose

        c_format = None if c is None else stored_format(c.newbyteorder("="))
        model, native, facts = choose(accumulator, formats, c_format, out, scales)
        total = native if native is not None else np.dtype(f"{'i' if facts.integer else 'f'}{facts.item}")
        facts = None if native is not None and facts.warning is None else facts
    result = total
    if model is not None and facts is not None:
        held = model.result_format
        if isinstance(held, IntFormat):
            result = total = np.dtype(np.int32 if held.is_signed else np.uint32)
        else:
            result = np.dtype(np.float32 if held is None or fits(held, _SINGLE) else np.float64)
    out_fmt = None
    if out is not None:
        if facts is not None and facts.integer:
            msg = f"`out_dtype` must be None for an integer sum, got `{out}`; convert the result."
            raise ValueError(msg)
        fmt = _checks.refuse_integer(out, "out_dtype")
        if fmt.storage_dtype is None:
            msg = f"`out_dtype` must be a format with a storage dtype, got the custom format `{fmt}`."
            raise ValueError(msg)
        out_fmt = None if fmt.name == str(result) else fmt
        result = fmt.storage_dtype
        if out_fmt is not None and modes.overflow is not None:
            _checks.policy(out_fmt, modes.overflow)
    sides = [_side(fmt, kind, modes, total.itemsize) for fmt, kind in zip(formats, (dtype_a, dtype_b), strict=True)]
    mixed = model is None and wide and total.itemsize == 4
    return Plan(sides[0], sides[1], total, out_fmt, result, modes, mixed, model, facts)
