"""What matmul must return, written from the contract: no import from `lowprec.kernels`, no njit, plain NumPy.

`Model` is the definition with one overridable method per decision, so that `test_planted_bugs` can get one wrong.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import lowprec as lp

Array = np.ndarray[Any, Any]
NAN32 = np.uint32(0x7FC00000).view(np.float32)
NAN64 = np.uint64(0x7FF8000000000000).view(np.float64)


# ---------------------------------------------------------------------------------------------- comparison of bits
def bits(x: Any) -> Array:
    """Return the bit patterns of ``x`` (native byte order) as unsigned integers."""
    x = np.ascontiguousarray(x).reshape(np.shape(x))
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    return x.view(f"u{x.dtype.itemsize}")


def assert_same_bits(got: Any, want: Any, what: str = "") -> None:
    """Fail unless dtype, shape and every bit agree."""
    if np.dtype(getattr(got, "dtype", type(got))) != want.dtype:
        raise AssertionError(f"{what}: dtype {got.dtype}, want {want.dtype}")
    if np.shape(got) != want.shape:
        raise AssertionError(f"{what}: shape {np.shape(got)}, want {want.shape}")
    np.testing.assert_array_equal(bits(got), bits(want), err_msg=what)


# -------------------------------------------------------------------------------------------------- fma, four ways
def fma32(a: Any, b: Any, r: Any) -> Array:
    """Return fma(a, b, r) in binary32: exact product in float64, TwoSum, round to odd, then one rounding."""
    with np.errstate(all="ignore"):
        p = np.float64(a) * np.float64(b)  # 24 + 24 bits: exact, and never below 2**-298
        r = np.float64(r)
        s = p + r
        rest = s - p
        error = (p - (s - rest)) + (r - rest)
        odd = bits(s) & np.uint64(1)
        move = (error != 0) & np.isfinite(error) & (odd == 0)
        s = np.where(move, np.nextafter(s, np.where(error > 0, np.inf, -np.inf)), s)
        return np.asarray(s).astype(np.float32)


def fma_exact(a: float, b: float, r: float, precision: int = 24, emin: int = -126, emax: int = 127) -> float:
    """Return fma(a, b, r) rounded once to a binary format, by Fraction; zeros, infinities and NaN as IEEE 754."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(r)):
        if math.isnan(a) or math.isnan(b) or math.isnan(r):
            return math.nan
        if math.isinf(a) or math.isinf(b):
            if a == 0 or b == 0:
                return math.nan
            p = math.copysign(math.inf, a) * math.copysign(1.0, b)
            return math.nan if math.isinf(r) and r != p else p
        return r
    exact = Fraction(a) * Fraction(b) + Fraction(r)
    if exact == 0:
        product = math.copysign(1.0, a) * math.copysign(1.0, b)
        zeros = Fraction(a) * Fraction(b) == 0
        return -0.0 if zeros and product < 0 and math.copysign(1.0, r) < 0 else 0.0
    sign, size = (-1 if exact < 0 else 1), abs(exact)
    e = size.numerator.bit_length() - size.denominator.bit_length()
    e = max(e if Fraction(2) ** e <= size else e - 1, emin)
    grain = Fraction(2) ** (e - precision + 1)
    rounded = round(size / grain) * grain  # Python rounds half to even
    if rounded >= Fraction(2) ** (emax + 1):
        return sign * math.inf
    return math.copysign(float(rounded), sign)


@functools.cache
def libm(name: str) -> Callable[[float, float, float], float] | None:
    """Return the C library's fma or fmaf, or None where there is none."""
    number = ctypes.c_float if name == "fmaf" else ctypes.c_double
    path = "ucrtbase" if sys.platform == "win32" else ctypes.util.find_library("m") or ctypes.util.find_library("c")
    try:
        function = getattr(ctypes.CDLL(path), name)
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [number] * 3, number
    return function  # type: ignore[no-any-return]


_C = """
#include <math.h>
#define LOOP(NAME, T, FMA) void NAME(const T *a, const T *b, T *r, long m, long k, long n) {\\
    for (long i = 0; i < m; i++) for (long j = 0; j < n; j++) { T s = r[i * n + j];\\
        for (long l = 0; l < k; l++) s = FMA(a[i * k + l], b[l * n + j], s);\\
        r[i * n + j] = s; } }
LOOP(loop32, float, fmaf)
LOOP(loop64, double, fma)
"""


@functools.cache
def c_library() -> ctypes.CDLL | None:
    """Compile the loop with the system's C compiler; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="fma_oracle_"))
    try:
        (folder / "loop.c").write_text(_C)
        flags = ["-O1", "-ffp-contract=off", "-fno-builtin", "-shared", "-fPIC"]
        command = [compiler, *flags, str(folder / "loop.c"), "-o", str(folder / "loop.so"), "-lm"]
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
            return None
        return ctypes.CDLL(str(folder / "loop.so"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def c_matmul(a: Any, b: Any, start: Any, dtype: type = np.float32) -> Array:
    """Return the 2-D product by the compiled C loop (`c_library` must not be None)."""
    a, b, r = (np.array(x, dtype, order="C") for x in (a, b, start))
    function = getattr(c_library(), "loop32" if dtype is np.float32 else "loop64")
    sizes = (ctypes.c_long(v) for v in (*a.shape, b.shape[1]))
    function(*(ctypes.c_void_p(x.ctypes.data) for x in (a, b, r)), *sizes)
    return r


@functools.cache
def _fma64_elementwise() -> Callable[..., Array]:
    """Return an elementwise binary64 fma: the C loop with K = 1, else the C library's fma, else Fraction."""
    one = libm("fma") or (lambda a, b, r: fma_exact(a, b, r, 53, -1022, 1023))
    return np.frompyfunc(lambda a, b, r: one(float(a), float(b), float(r)), 3, 1)


def fma64(a: Any, b: Any, r: Any) -> Array:
    """Return fma(a, b, r) in binary64, elementwise."""
    with np.errstate(all="ignore"):
        return np.asarray(_fma64_elementwise()(a, b, r)).astype(np.float64)


# ------------------------------------------------------------------------------------------------------- rounding
def philox(index: Any, stream: int, seed: int) -> Array:
    """Return output[0] of Philox4x32-10 for counter (index, stream, 0) and key ``seed``, as uint64 below 2**32."""
    low = np.uint64(0xFFFFFFFF)
    index = np.asarray(index, np.uint64)
    zero = np.zeros_like(index)
    counter = [index & low, index >> np.uint64(32), zero + np.uint64(stream), zero]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (p1 >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
            p1 & low,
            (p0 >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
            p0 & low,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter[0]


class Model:
    """The contract of rounding, matmul, vecdot and linear; every method is one decision that a bug can get wrong."""

    def round_up(self, rounding: str, whole: Array, t: Array, negative: Array, words: Any, random_bits: int) -> Array:
        """Return where a magnitude ``whole + t`` (in units of the gap, 0 <= t < 1) goes up to ``whole + 1``."""
        match rounding:
            case "nearest_even":
                return (t > 0.5) | ((t == 0.5) & (whole % 2 == 1))
            case "nearest_away":
                return t >= 0.5
            case "toward_zero":
                return np.zeros_like(negative)
            case "toward_positive":
                return (t > 0) & ~negative
            case "toward_negative":
                return (t > 0) & negative
            case "to_odd":
                return (t > 0) & (whole % 2 == 0)
        scale = 2.0**random_bits
        return np.floor(t * scale) + (words() >> np.uint64(32 - random_bits)) >= scale

    def gap_exponent(self, magnitude: Array, fmt: Any) -> Array:
        """Return the exponent of the gap between a format's values near ``magnitude``."""
        exponent = np.frexp(magnitude)[1] - 1
        return np.maximum(exponent, fmt.emin) - fmt.mantissa_bits

    def overflowed(self, fmt: Any, policy: str) -> float:
        """Return what an overflow becomes, sign apart."""
        return {"inf": np.inf, "nan": np.nan, "saturate": fmt.max}[policy]

    def largest(self, fmt: Any) -> float:
        """Return the largest finite value."""
        return float(fmt.max)

    def round(
        self,
        x: Any,
        fmt: Any,
        *,
        rounding: str = "nearest_even",
        overflow: str | None = None,
        subnormals: str = "keep",
        rng: int | None = None,
        random_bits: int = 32,
        stream: int = 0,
    ) -> Array:
        """Return the values (float64) that ``x`` rounds to in the float format ``fmt``."""
        fmt = lp.format(fmt)
        policy = overflow or fmt.default_overflow
        subnormals = subnormals if fmt.has_subnormals else "keep"  # there is nothing to flush
        with np.errstate(invalid="ignore"):  # a signalling NaN may become quiet
            x = np.asarray(x).astype(np.float64)
        if np.isnan(x).any() and not fmt.has_nan:
            raise ValueError(f"{fmt} has no NaN")
        magnitude, negative, infinite = np.abs(x), np.signbit(x), np.isinf(x)
        finite = np.where(np.isfinite(x), magnitude, 0.0)
        if subnormals == "flush_inputs":
            finite = np.where(finite < fmt.smallest_normal, 0.0, finite)
        gap = self.gap_exponent(finite, fmt)
        units = np.ldexp(finite, -gap)
        whole = np.floor(units)

        def words() -> Array:
            return philox(np.arange(x.size).reshape(x.shape), stream, rng or 0)

        up = self.round_up(rounding, whole, units - whole, negative, words, random_bits)
        with np.errstate(over="ignore"):
            rounded = np.ldexp(whole + up, gap)
        largest = self.largest(fmt)
        over = rounded > largest
        inward = (rounding in ("toward_zero", "to_odd")) | (negative if rounding == "toward_positive" else False)
        inward = inward | (~negative if rounding == "toward_negative" else False)
        rounded = np.where(over, np.where(inward, largest, self.overflowed(fmt, policy)), rounded)
        if subnormals == "flush":
            rounded = np.where(rounded < fmt.smallest_normal, 0.0, rounded)
        rounded = np.where(infinite, self.overflowed(fmt, policy), rounded)
        result = np.where(negative, -rounded, rounded)
        if not fmt.has_negative_zero:
            result = np.where(result == 0, 0.0, result)
        below = fmt.min if policy == "saturate" else np.nan
        if not fmt.has_zero:
            nothing = (finite == 0) & ~infinite
            result = np.where(nothing, below, np.where(negative, -fmt.min, np.maximum(result, fmt.min)))
        if not fmt.is_signed:
            result = np.where(result < 0, below, result)
        return np.where(np.isnan(x), np.nan, result)

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        """Return fma(a, b, r) in the accumulator's format, which is the dtype of ``r``."""
        if r.dtype == np.float64:
            return fma64(a, b, r)
        if np.float64 in (a.dtype, b.dtype):  # operands wider than binary32: nothing but Fraction will do
            return np.asarray(np.frompyfunc(fma_exact, 3, 1)(*(np.float64(v) for v in (a, b, r)))).astype(np.float32)
        return fma32(a, b, r)

    def order(self, length: int) -> Iterable[int]:
        """Return the k in the order in which they are summed."""
        return range(length)

    def start(self, c: Any, shape: tuple[int, ...], dtype: type) -> Array:
        """Return the accumulator before the first product."""
        return np.zeros(shape, dtype) if c is None else np.broadcast_to(np.asarray(c).astype(dtype), shape).copy()

    def finish(self, r: Array, c: Any) -> Array:
        """Return the accumulator after the last product, its NaN made canonical."""
        return np.where(np.isnan(r), NAN64 if r.dtype == np.float64 else NAN32, r)

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        """Return the batched 2-D product of operands that are already rounded."""
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        r = self.start(c, shape, dtype)
        for k in self.order(a.shape[-1]):
            r = self.fma(a[..., :, k, None], b[..., None, k, :], r)
        return self.finish(r, c)

    def operand(self, x: Any, fmt: Any, stream: int, policies: dict[str, Any]) -> tuple[Array, Any]:
        """Return an operand rounded to its format (in float32 where the format fits), and the format."""
        fmt = lp.format(np.asarray(x).dtype.newbyteorder("=") if fmt is None else fmt)
        values = self.round(x, fmt, stream=stream, **policies)
        return (values if is_wide(fmt) else values.astype(np.float32)), fmt

    def operands(self, a: Any, b: Any, dtype: Any, accumulator: str | None, policies: dict[str, Any]) -> Any:
        """Return both operands rounded, and the accumulator's dtype."""
        first, second = dtype if isinstance(dtype, tuple) else (dtype, dtype)
        a, fmt_a = self.operand(a, first, 0, policies)
        b, fmt_b = self.operand(b, second, 1, policies)
        wide = accumulator in ("fp64", "float64") if accumulator else is_wide(fmt_a) or is_wide(fmt_b)
        return a, b, np.float64 if wide else np.float32

    def result(self, r: Array, out_dtype: Any, policies: dict[str, Any], out: Any = None) -> Array:
        """Return the accumulator as the result's dtype, rounded once, in ``out`` if given."""
        if out_dtype is not None:
            fmt = lp.format(out_dtype)
            values = self.round(r, fmt, stream=2, **policies)
            r = values.astype(fmt.storage_dtype)
            if fmt.name == "tf32":
                r = np.where(np.isnan(values), NAN32, r)
            elif fmt.nan_code is not None:
                r = np.where(np.isnan(values), np.array(fmt.nan_code, fmt.code_dtype), bits(r)).view(r.dtype)
        if out is None:
            return r
        out[...] = r
        return out  # type: ignore[no-any-return]

    def matmul(
        self,
        a: Any,
        b: Any,
        dtype: Any = None,
        *,
        accumulator: str | None = None,
        c: Any = None,
        out_dtype: Any = None,
        out: Any = None,
        **policies: Any,
    ) -> Array:
        """Return what ``lp.matmul`` must return."""
        a, b, accumulator_dtype = self.operands(a, b, dtype, accumulator, policies)
        row, column = a.ndim == 1, b.ndim == 1
        a, b = (a[None, :] if row else a), (b[:, None] if column else b)
        drop = tuple(axis for axis, gone in ((-2, row), (-1, column)) if gone)
        if c is not None and drop:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            shape = (*batch, *(() if row else a.shape[-2:-1]), *(() if column else b.shape[-1:]))
            c = np.expand_dims(np.broadcast_to(c, shape), drop)
        r = self.product(a, b, c, accumulator_dtype)
        return self.result(np.squeeze(r, drop) if drop else r, out_dtype, policies, out)

    def vecdot(
        self,
        a: Any,
        b: Any,
        dtype: Any = None,
        *,
        accumulator: str | None = None,
        c: Any = None,
        out_dtype: Any = None,
        out: Any = None,
        **policies: Any,
    ) -> Array:
        """Return what ``lp.vecdot`` must return."""
        if np.shape(a)[-1] != np.shape(b)[-1]:
            raise ValueError(f"{np.shape(a)} and {np.shape(b)} differ in their last axis")
        a, b, accumulator_dtype = self.operands(a, b, dtype, accumulator, policies)
        a, b = np.broadcast_arrays(a, b)
        c = None if c is None else np.broadcast_to(c, a.shape[:-1])[..., None, None]
        r = self.product(a[..., None, :], b[..., :, None], c, accumulator_dtype)[..., 0, 0]
        return self.result(r, out_dtype, policies, out)

    def linear(self, x: Any, w: Any, bias: Any = None, dtype: Any = None, **keywords: Any) -> Array:
        """Return what ``lp.linear`` must return: matmul(x, w.T), then + bias in the accumulator's format."""
        out_dtype, out = keywords.pop("out_dtype", None), keywords.pop("out", None)
        policies = {key: keywords[key] for key in keywords if key not in ("c", "accumulator")}
        r = self.matmul(x, np.swapaxes(w, -1, -2), dtype, **keywords)
        if bias is not None:
            with np.errstate(all="ignore"):
                r = r + np.asarray(bias).astype(r.dtype)
            r = np.where(np.isnan(r), NAN64 if r.dtype == np.float64 else NAN32, r)
        return self.result(r, out_dtype, policies, out)


def is_wide(fmt: Any) -> bool:
    """Return whether a float format holds values that float32 does not."""
    f32 = lp.format("fp32")
    return fmt.mantissa_bits > 23 or fmt.max > f32.max or fmt.emin - fmt.mantissa_bits < f32.emin - f32.mantissa_bits


ORACLE = Model()
FLOATS = tuple(fmt for fmt in lp.formats() if isinstance(fmt, lp.FloatFormat))
NARROW = tuple(fmt for fmt in FLOATS if not is_wide(fmt))
