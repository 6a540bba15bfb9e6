"""Argument checks and the wording of errors: the name, the rule, what came, and the mend."""

from __future__ import annotations

import difflib
import math
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lowprec.formats import FloatFormat, Format, IntFormat, stored_format
from lowprec.formats import format as resolve
from lowprec.rounding import Overflow, Rounding, Subnormals

Member = TypeVar("Member", bound=StrEnum)
Array = np.ndarray[Any, Any]


class Modes(NamedTuple):
    """How to round: the checked keyword arguments that the public functions share."""

    rounding: Rounding
    overflow: Overflow | None
    subnormals: Subnormals
    random_bits: int


def member(value: object, kind: type[Member], name: str) -> Member:
    """Return the enum member that ``value`` names, or raise with the close names."""
    words = [str(m) for m in kind]
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    try:
        return kind(value.lower())
    except ValueError:
        close = difflib.get_close_matches(value.lower(), words, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r}{hint}"
        raise ValueError(msg) from None


def modes(rounding: object, overflow: object, subnormals: object, random_bits: object) -> Modes:
    """Check the keyword arguments that say how to round."""
    try:
        return _modes(rounding, overflow, subnormals, random_bits)
    except TypeError:  # either an unhashable argument, or what the check itself says
        return _modes.__wrapped__(rounding, overflow, subnormals, random_bits)


@lru_cache(maxsize=256)
def _modes(rounding: object, overflow: object, subnormals: object, random_bits: object) -> Modes:
    """Check, once per combination."""
    if isinstance(random_bits, bool) or not isinstance(random_bits, (int, np.integer)):
        msg = f"`random_bits` must be an integer from 1 to 32, got {random_bits!r}."
        raise TypeError(msg)
    if not 1 <= random_bits <= 32:
        msg = f"`random_bits` must be from 1 to 32, got {random_bits}."
        raise ValueError(msg)
    return Modes(
        member(rounding, Rounding, "rounding"),
        None if overflow is None else member(overflow, Overflow, "overflow"),
        member(subnormals, Subnormals, "subnormals"),
        int(random_bits),
    )


def fmt_of(value: object, name: str) -> Format:
    """Resolve a format; errors speak of the argument ``name``."""
    try:
        return resolve(value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", f"`{name}`", 1)) from None


def policy(fmt: Format, overflow: Overflow | None) -> Overflow:
    """Return the overflow policy, the format's own if none is given, or raise if the format cannot express it."""
    if overflow is None:
        return Overflow(fmt.default_overflow)
    if (overflow is Overflow.INF and not fmt.has_inf) or (overflow is Overflow.NAN and not fmt.has_nan):
        word = "infinity" if overflow is Overflow.INF else "NaN"
        can = [str(p) for p, ok in zip(Overflow, (fmt.has_inf, fmt.has_nan, True), strict=True) if ok]
        msg = f"`overflow` must be one of {', '.join(can)} for `{fmt}`, which has no {word}, got {str(overflow)!r}."
        raise ValueError(msg)
    return overflow


def seed(rng: object, rounding: Rounding) -> int:
    """Return the 64-bit seed that ``rng`` stands for; 0, unused, unless rounding is stochastic."""
    if rounding is not Rounding.STOCHASTIC:
        return 0
    if rng is None:
        msg = (
            '`rng` must be given with rounding="stochastic", got None; pass a seed such as rng=0 or a numpy Generator.'
        )
        raise ValueError(msg)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**64, dtype=np.uint64))
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        msg = f"`rng` must be an integer seed or a numpy.random.Generator, got {rng!r} of type {type(rng).__name__}."
        raise TypeError(msg)
    if not 0 <= rng < 2**64:
        msg = f"`rng` must be a seed from 0 to 2**64 - 1, got {rng}."
        raise ValueError(msg)
    return int(rng)


def odd_float(value: int) -> float:
    """Return an integer rounded to odd in 53 bits, which a second rounding to 51 bits or fewer does not see."""
    magnitude = abs(value)
    extra = max(0, magnitude.bit_length() - 53)
    kept = (magnitude >> extra) | int(magnitude & ((1 << extra) - 1) != 0)
    try:
        result = math.ldexp(kept, extra)
    except OverflowError:
        result = math.nextafter(math.inf, 0)
    return -result if value < 0 else result


def _odd_longdouble(x: Array) -> Array:
    """Round extended-precision numbers to odd in binary64."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        near = x.astype(np.float64)
        near = np.where(np.isinf(near) & np.isfinite(x), np.copysign(np.finfo(np.float64).max, near), near)
        rest = x - near.astype(x.dtype)
    even = (near.view(np.uint64) & np.uint64(1)) == 0
    moved = np.nextafter(near, np.where(rest > 0, np.inf, -np.inf))
    return np.where((rest != 0) & even & np.isfinite(x), moved, near)


def odd_sum(x: Array, y: Array) -> Array:
    """Return sums rounded to odd in binary64, which a second rounding to 51 bits or fewer does not see."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = x + y
        back = total - x
        rest = (x - (total - back)) + (y - back)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    moved = np.nextafter(total, np.where(rest > 0, np.inf, -np.inf))
    return np.asarray(np.where((rest != 0) & even & np.isfinite(total), moved, total))


def plain_array(x: object, name: str) -> Array:
    """Return ``x`` as a plain array; a mask cannot be honoured, so it is refused."""
    if isinstance(x, np.ma.MaskedArray):
        msg = f"`{name}` must not be a masked array, whose mask would be lost; pass {name}.filled(...)."
        raise TypeError(msg)
    try:
        return np.asarray(x)
    except TypeError as error:
        if "unasked" not in str(error):  # what arrays with scales or places say
            raise
        msg = f"`{name}` must be a plain array, got {type(x).__name__}: {error}"
        raise TypeError(msg) from None


class Source(NamedTuple):
    """Numbers to round: as float32 or float64, and, where those are not exact, the integers themselves."""

    values: Array  # native float32 or float64, exact or rounded to odd
    exact: Array | None  # the same elements as Python ints or extended floats where `values` is not exact
    dtype: np.dtype[Any] | None  # the float dtype that came, None for integers


def source(x: object, name: str) -> Source:
    """Turn anything that holds real numbers into float32 or float64 without losing what rounding needs."""
    array = plain_array(x, name)
    if not isinstance(x, np.ndarray) and array.dtype.kind in "fO" and not hasattr(x, "dtype"):
        array = _python_numbers(x, array)
    kind, dtype = array.dtype.kind, array.dtype
    stored = stored_format(dtype)
    if stored is not None and dtype.type.__module__ != "numpy":  # an ml_dtypes array: exact in float32
        return Source(array.astype(np.float32), None, dtype if isinstance(stored, FloatFormat) else None)
    if kind == "f" and dtype.itemsize <= 8:
        return Source(array.astype(f"=f{max(4, dtype.itemsize)}", copy=False), None, dtype.newbyteorder("="))
    if kind == "f":
        return Source(_odd_longdouble(array.astype(np.longdouble, copy=False)), array, np.dtype(np.float64))
    if kind in "biu" and (kind == "b" or dtype.itemsize <= 4):
        return Source(array.astype(np.float32 if dtype.itemsize <= 2 else np.float64), None, None)
    if kind in "iu" or (kind == "O" and all(type(v) is int for v in array.flat)):
        if kind in "iu" and (array.size == 0 or (array.max() <= 2**53 and array.min() >= -(2**53))):
            return Source(array.astype(np.float64), None, None)
        odd = np.array([odd_float(int(v)) for v in array.flat], np.float64).reshape(array.shape)
        return Source(odd, array.astype(object), None)
    msg = (
        f"`{name}` must hold real numbers (floats, integers or an ml_dtypes type), got dtype {dtype}; convert it, "
        f"for example with np.asarray({name}, dtype=np.float32)."
    )
    raise TypeError(msg)


def _python_numbers(x: object, array: Array) -> Array:
    """Keep Python ints that NumPy would turn into inexact floats; mixed lists stay as NumPy made them if exact."""
    if array.dtype.kind == "f" and (array.size == 0 or not np.any(np.abs(array) > 2**53)):
        return array
    items = np.asarray(x, dtype=object)
    if all(type(v) is int for v in items.flat):
        return items
    if all(type(v) in (int, float) for v in items.flat):
        odd = [v if isinstance(v, float) else odd_float(v) for v in items.flat]
        return np.array(odd, np.float64).reshape(items.shape)
    return array


def exactly(value: object) -> Any:
    """Return an element of `Source.exact` as a number that `lowprec.reference` takes: an int, Fraction or float."""
    from fractions import Fraction

    if isinstance(value, int):
        return value
    numerator, denominator = value.as_integer_ratio() if np.isfinite(value) else (0, 0)  # type: ignore[attr-defined,call-overload]
    return Fraction(numerator, denominator) if denominator and value != 0 else float(value)  # type: ignore[arg-type]


def writable(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Check an ``out`` argument."""
    if not isinstance(out, np.ndarray):
        msg = f"`out` must be a NumPy array, got {type(out).__name__}."
        raise TypeError(msg)
    if out.dtype != dtype:
        msg = f"`out` must have dtype {dtype}, got {out.dtype}; make it with np.empty(shape, {dtype})."
        raise TypeError(msg)
    if out.shape != shape:
        msg = f"`out` must have shape {shape}, got {out.shape}."
        raise ValueError(msg)
    if not out.flags.writeable:
        msg = "`out` must be writable, got a read-only array; pass a copy."
        raise ValueError(msg)
    if out.size and any(step == 0 and length > 1 for step, length in zip(out.strides, out.shape, strict=True)):
        msg = f"`out` must have an element for every result, got strides {out.strides}; pass a copy."
        raise ValueError(msg)
    return out


def overlap(x: Array, y: Array) -> bool:
    """Say whether two arrays share an element, or may do so."""
    try:
        return np.shares_memory(x, y, max_work=10_000)  # type: ignore[arg-type]
    except (np.exceptions.TooHardError, RuntimeError):
        return True


def refuse_integer(fmt: Format, name: str) -> FloatFormat:
    """Return a float format, or say why an integer format does not serve."""
    if isinstance(fmt, IntFormat):
        msg = (
            f"`{name}` must be a float format, got `{fmt}`; use one such as 'e4m3fn', or lp.quantize for integers with "
            "scales."
        )
        raise ValueError(msg)
    return fmt
