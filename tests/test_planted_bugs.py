"""A suite that cannot fail proves nothing: each wrong model below must turn one of its checks red.

A bug is the oracle with one decision taken wrongly, put in the place of the public function. Every check must catch
at least one of them, and all must pass the right model and the package itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from fma_oracle import ORACLE, Array, Model
from test_linear_vecdot import check_bias_last, check_linear, check_vecdot
from test_matmul import (
    check_edges,
    check_float64_source,
    check_fp32_of_wide_operands,
    check_fp64,
    check_kind,
    check_mixed_pairs,
    check_operand_rounding,
    check_out_dtype,
    check_policies,
    check_signed_zeros,
    check_start,
    check_stored,
)
from test_matmul_shapes import check_shape

import lowprec as lp

Check = Callable[[Any], None]


# ------------------------------------------------------------------------------------------------ wrong roundings
class TiesAway(Model):
    """Ties away from zero in the operands' rounding (qtorch's 'nearest')."""

    def round_up(self, rounding: str, *rest: Any) -> Array:
        return super().round_up("nearest_away" if rounding == "nearest_even" else rounding, *rest)


class TiesByHalfAdded(Model):
    """floor(x + 0.5), which rounds the number just below a half up."""

    def round_up(self, rounding: str, whole: Array, t: Array, *rest: Any) -> Array:
        right = super().round_up(rounding, whole, t, *rest)
        return right | (t == np.nextafter(np.float32(0.5), np.float32(0))) if rounding == "nearest_even" else right


class NoSubnormals(Model):
    """Subnormal operands become zero."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        return super().round(x, fmt, **{**policies, "subnormals": "flush"})


class GapOfTheBinadeBelow(Model):
    """The subnormals' grid is twice too fine (an exponent range that is off by one)."""

    def gap_exponent(self, magnitude: Array, fmt: Any) -> Array:
        return super().gap_exponent(magnitude, fmt) - (magnitude < fmt.smallest_normal)


class CarryLost(Model):
    """A carry out of the top binade comes out as zero, not as an overflow (pychop: 65520 in fp16)."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        right, fmt = super().round(x, fmt, **policies), lp.format(fmt)
        carried = (np.abs(x) > fmt.max) & (np.abs(x) < 2.0 ** min(fmt.emax + 1, 1023))
        return np.where(carried & (right != np.sign(x) * fmt.max), 0.0, right)


class Saturates(Model):
    """The largest value where the policy says infinity or NaN."""

    def overflowed(self, fmt: Any, policy: str) -> float:
        return float(fmt.max)


class OverflowAlwaysOutward(Model):
    """Overflow in a directed mode goes to infinity on both sides."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        right, fmt = super().round(x, fmt, **policies), lp.format(fmt)
        outward = super().round(np.where(np.abs(x) > fmt.max, np.sign(x) * np.inf, x), fmt, **policies)
        return np.where(np.isinf(x), right, outward)


class MaxOf480(Model):
    """e4m3fn with the NaN's code as a number: 480 (qtorch, CPFloat)."""

    def largest(self, fmt: Any) -> float:
        return 480.0 if fmt.name == "float8_e4m3fn" else super().largest(fmt)


class NanLost(Model):
    """NaN becomes the largest value."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        right = super().round(x, fmt, **policies)
        return np.where(np.isnan(x), lp.format(fmt).max, right)


class NegativeZeroLost(Model):
    """-0 becomes +0."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        return super().round(x, fmt, **policies) + 0.0


class DoubleRounding(Model):
    """float64 goes through float32 (ml_dtypes, torch)."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        if lp.format(fmt).mantissa_bits > 23 or np.asarray(x).dtype != np.float64:
            return super().round(x, fmt, **policies)
        with np.errstate(all="ignore"):
            return super().round(np.float32(x), fmt, **policies)


class OneStreamForBoth(Model):
    """Stochastic rounding draws the same words for `a` and `b`."""

    def round(self, x: Any, fmt: Any, **policies: Any) -> Array:
        return super().round(x, fmt, **{**policies, "stream": 0})


# ----------------------------------------------------------------------------------------------------- wrong sums
class Reversed(Model):
    """k descending."""

    def order(self, length: int) -> Iterable[int]:
        return reversed(range(length))


class EvenThenOdd(Model):
    """Two partial orders, as an unrolled loop may have them."""

    def order(self, length: int) -> Iterable[int]:
        return [*range(0, length, 2), *range(1, length, 2)]


class TailOfKDropped(Model):
    """K cut to a multiple of 4."""

    def order(self, length: int) -> Iterable[int]:
        return range(length - length % 4 if length > 4 else length)


class FirstProductTwice(Model):
    """The first k once more at a block boundary."""

    def order(self, length: int) -> Iterable[int]:
        return [*range(length), 64] if length > 64 else range(length)


class TwoRoundings(Model):
    """A product rounded to binary32, then a sum: not fused."""

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        if r.dtype == np.float64:
            return super().fma(a, b, r)
        with np.errstate(all="ignore"):
            return np.float32(np.float32(a) * np.float32(b)) + r


class DoubleRoundedFma(Model):
    """a * b + r in float64, then to float32: right but for ties that are none."""

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        with np.errstate(all="ignore"):
            return (np.float64(a) * np.float64(b) + np.float64(r)).astype(r.dtype)


class FlushedSums(Model):
    """The accumulator has no subnormals (a CPU in FTZ mode)."""

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        sum_ = super().fma(a, b, r)
        return np.where(np.abs(sum_) < 2.0**-126, np.copysign(sum_.dtype.type(0), sum_), sum_)


class FlushedOperands(Model):
    """The multiplier reads subnormal float32 as zero (DAZ, as VDPBF16PS does)."""

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        a, b = (np.where(np.abs(x) < 2.0**-126, x.dtype.type(0), x) for x in (a, b))
        return super().fma(a, b, r)


class TruncatedSums(Model):
    """The accumulator rounds toward zero."""

    def fma(self, a: Array, b: Array, r: Array) -> Array:
        if r.dtype == np.float64:
            return super().fma(a, b, r)
        near = super().fma(a, b, r)
        with np.errstate(all="ignore"):
            exact = np.float64(a) * np.float64(b) + np.float64(r)
            return np.where(np.abs(near) > np.abs(exact), np.nextafter(near, np.float32(0)), near)


class WideSum(Model):
    """All of the sum in float64, rounded once at the end."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        with np.errstate(all="ignore"):
            wide = np.matmul(np.float64(a), np.float64(b)) + (0.0 if c is None else np.float64(c))
            return self.finish(wide.astype(dtype), c)


class BlocksOf16(Model):
    """Sums of 16 products, added up afterwards (BLAS with its own K blocks)."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        blocks = range(0, max(a.shape[-1], 1), 16)
        parts = [
            super(BlocksOf16, self).product(a[..., k : k + 16], b[..., k : k + 16, :], None, dtype) for k in blocks
        ]
        with np.errstate(all="ignore"):
            total = parts[0] if c is None else parts[0] + np.asarray(c).astype(dtype)
            for part in parts[1:]:
                total = total + part
        return self.finish(total, c)


class StartAddedLast(Model):
    """`c` is added to the sum, not started from."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        r = super().product(a, b, None, dtype)
        with np.errstate(all="ignore"):
            return self.finish(r if c is None else r + np.asarray(c).astype(dtype), c)


class StartsWithTheFirstProduct(Model):
    """r = a[0] * b[0], so that -0 survives a sum from +0."""

    def start(self, c: Any, shape: tuple[int, ...], dtype: type) -> Array:
        return -super().start(None, shape, dtype) if c is None else super().start(c, shape, dtype)


class NanAsItComes(Model):
    """The payload and sign of a NaN depend on where it came from."""

    def finish(self, r: Array, c: Any) -> Array:
        return r if np.isnan(r).sum() == 0 else np.where(np.isnan(r), -super().finish(r, c), r)


# ---------------------------------------------------------------------------------------------------- wrong tiles
class TailColumnsZero(Model):
    """The columns beyond a multiple of 8 are left at zero."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        r = super().product(a, b, c, dtype)
        n = r.shape[-1]
        if n > 8:
            r[..., n - n % 8 :] = 0
        return r


class LastColumnOf48(Model):
    """The column after a full tile of 48 repeats the one before."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        r = super().product(a, b, c, dtype)
        if r.shape[-1] == 49:
            r[..., 48] = r[..., 47]
        return r


class TailRowsZero(Model):
    """The ninth row of a tile of eight is lost."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        r = super().product(a, b, c, dtype)
        r[..., 8:9, :] = 0
        return r


class FirstBatchForAll(Model):
    """The batch of `b` is not stepped through."""

    def product(self, a: Array, b: Array, c: Any, dtype: type) -> Array:
        return super().product(a, np.broadcast_to(b[:1], b.shape) if b.ndim > 2 else b, c, dtype)


# ------------------------------------------------------------------------------------------------- wrong arguments
class PairSwapped(Model):
    """The pair's formats go to the wrong operands."""

    def operands(self, a: Any, b: Any, dtype: Any, *rest: Any) -> Any:
        return super().operands(a, b, dtype[::-1] if isinstance(dtype, tuple) else dtype, *rest)


class PairIgnored(Model):
    """The first format serves both operands."""

    def operands(self, a: Any, b: Any, dtype: Any, *rest: Any) -> Any:
        return super().operands(a, b, dtype[0] if isinstance(dtype, tuple) else dtype, *rest)


class SourceDecidesTheAccumulator(Model):
    """float64 arrays are summed in float64, whatever format they are rounded to."""

    def operands(self, a: Any, b: Any, dtype: Any, accumulator: str | None, policies: dict[str, Any]) -> Any:
        wide = "fp64" if np.float64 in (np.asarray(a).dtype, np.asarray(b).dtype) else None
        return super().operands(a, b, dtype, accumulator or wide, policies)


class StoredCodesRoundedAway(Model):
    """Arrays of a storage dtype are taken as bfloat16."""

    def operand(self, x: Any, fmt: Any, stream: int, policies: dict[str, Any]) -> Any:
        return super().operand(x, "bf16" if fmt is None else fmt, stream, policies)


class ResultByWayOfHalf(Model):
    """The result is rounded to a finer format first, then to the one asked for."""

    def result(self, r: Array, out_dtype: Any, policies: dict[str, Any], out: Any = None) -> Array:
        if out_dtype is None:
            return super().result(r, None, policies, out)
        return super().result(self.round(r, "e8m10").astype(r.dtype), out_dtype, policies, out)


class BiasFirst(Model):
    """The bias is where linear's sum starts."""

    def linear(self, x: Any, w: Any, bias: Any = None, dtype: Any = None, **keywords: Any) -> Array:
        return self.matmul(x, np.swapaxes(w, -1, -2), dtype, c=bias, **keywords)


class RowsWithColumns(Model):
    """Linear forgets to transpose square weights."""

    def linear(self, x: Any, w: Any, bias: Any = None, dtype: Any = None, **keywords: Any) -> Array:
        return super().linear(x, np.swapaxes(w, -1, -2) if w.shape[0] == w.shape[1] else w, bias, dtype, **keywords)


# ----------------------------------------------------------------------------------------------------- the checks
def of_matmul(check: Callable[..., None], *args: Any, **keywords: Any) -> Check:
    return lambda model: check(model.matmul, *args, **keywords)


def of(name: str, check: Callable[..., None], *args: Any) -> Check:
    return lambda model: check(getattr(model, name), *args)


CHECKS: dict[str, Check] = {
    "normal": of_matmul(check_kind, "normal", "fp32"),
    "normal in bf16": of_matmul(check_kind, "normal", "bf16"),
    "cancelling": of_matmul(check_kind, "cancelling", "fp32"),
    "powers": of_matmul(check_kind, "powers", "fp32"),
    "subnormal": of_matmul(check_kind, "subnormal", "fp32"),
    "tiny": of_matmul(check_kind, "tiny", "fp32"),
    "overflowing": of_matmul(check_kind, "overflowing", "fp32"),
    "infinite": of_matmul(check_kind, "infinite", "fp32"),
    "nan": of_matmul(check_kind, "nan", "e5m2"),
    "bits": of_matmul(check_kind, "bits", "bf16"),
    "zeros": of_matmul(check_kind, "zeros", "fp32"),
    "traps": of_matmul(check_kind, "traps", "fp32"),
    "edges": of_matmul(check_edges, (1, 8, 9), (*range(1, 34), 48, 49)),
    "rounding to fp16": of_matmul(check_operand_rounding, "fp16"),
    "rounding to e4m3fn": of_matmul(check_operand_rounding, "e4m3fn"),
    "rounding to e2m1fn": of_matmul(check_operand_rounding, "e2m1fn"),
    "rounding up": of_matmul(check_operand_rounding, "e5m2", rounding="toward_positive"),
    "float64 sources": of_matmul(check_float64_source, "bf16"),
    "start": of_matmul(check_start),
    "signed zeros": of_matmul(check_signed_zeros),
    "out_dtype": of_matmul(check_out_dtype),
    "fp64": of_matmul(check_fp64),
    "fp32 of wide operands": of_matmul(check_fp32_of_wide_operands),
    "mixed pairs": of_matmul(check_mixed_pairs, ("e4m3fn", "e5m2", "bf16")),
    "stored": of_matmul(check_stored, "float16"),
    "policies": of_matmul(check_policies, "e5m2", "stochastic"),
    "batches": of_matmul(check_shape, (5, 2, 3), (5, 3, 4)),
    "vecdot": of("vecdot", check_vecdot, "normal"),
    "linear": of("linear", check_linear, "normal"),
    "bias": of("linear", check_bias_last),
}

BUGS: dict[type[Model], tuple[str, ...]] = {
    TiesAway: ("rounding to fp16", "rounding to e4m3fn", "rounding to e2m1fn"),
    TiesByHalfAdded: ("rounding to e2m1fn",),
    NoSubnormals: ("rounding to fp16", "tiny"),
    GapOfTheBinadeBelow: ("rounding to fp16", "rounding to e4m3fn"),
    CarryLost: ("rounding to fp16",),
    Saturates: ("rounding to fp16", "rounding to e4m3fn", "infinite"),
    OverflowAlwaysOutward: ("rounding up",),
    MaxOf480: ("rounding to e4m3fn",),
    NanLost: ("nan", "bits"),
    NegativeZeroLost: ("rounding to fp16", "zeros"),
    DoubleRounding: ("float64 sources",),
    OneStreamForBoth: ("policies",),
    Reversed: ("normal", "normal in bf16", "cancelling", "powers", "vecdot", "linear"),
    EvenThenOdd: ("normal", "vecdot", "linear"),
    TailOfKDropped: ("normal", "normal in bf16", "vecdot"),
    FirstProductTwice: ("normal", "normal in bf16"),
    TwoRoundings: ("normal", "cancelling", "tiny", "fp32 of wide operands"),
    DoubleRoundedFma: ("traps", "fp64", "fp32 of wide operands"),
    FlushedSums: ("subnormal", "start"),
    FlushedOperands: ("tiny",),
    TruncatedSums: ("normal", "powers"),
    WideSum: ("normal", "overflowing"),
    BlocksOf16: ("normal", "normal in bf16", "linear"),
    StartAddedLast: ("start",),
    StartsWithTheFirstProduct: ("signed zeros", "start"),
    NanAsItComes: ("nan", "infinite", "bits", "start"),
    TailColumnsZero: ("edges", "normal"),
    LastColumnOf48: ("edges",),
    TailRowsZero: ("edges",),
    FirstBatchForAll: ("batches",),
    PairSwapped: ("mixed pairs",),
    PairIgnored: ("mixed pairs",),
    SourceDecidesTheAccumulator: ("fp64",),
    StoredCodesRoundedAway: ("stored", "fp64"),
    ResultByWayOfHalf: ("out_dtype",),
    BiasFirst: ("bias", "linear"),
    RowsWithColumns: ("bias square",),
}


def check_square_weights(linear: Callable[..., Array]) -> None:
    """Square weights are transposed like any other."""
    x, w = np.float32([[1.0, 2.0]]), np.float32([[1.0, 3.0], [0.5, 4.0]])
    np.testing.assert_array_equal(linear(x, w, None, "bf16"), np.float32([[7.0, 8.5]]))


CHECKS["bias square"] = of("linear", check_square_weights)


@pytest.mark.parametrize("name", CHECKS)
def test_right_model_is_green(name: str) -> None:
    CHECKS[name](ORACLE)


@pytest.mark.parametrize("name", CHECKS)
def test_package_is_green(name: str) -> None:
    CHECKS[name](lp)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_wrong_model_is_red(bug: type[Model]) -> None:
    for name in BUGS[bug]:
        with np.errstate(all="ignore"), pytest.raises(AssertionError):
            CHECKS[name](bug())


def test_every_check_catches_a_bug() -> None:
    assert set(CHECKS) == {name for names in BUGS.values() for name in names}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_wrong_function_in_place_of_the_public_one(bug: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests look the public function up when they run, so a wrong one put there is seen."""
    for function in ("matmul", "vecdot", "linear"):
        monkeypatch.setattr(lp, function, getattr(bug(), function))
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        CHECKS[BUGS[bug][0]](lp)
