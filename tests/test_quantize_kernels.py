"""The kernels of quantising against their rules, written again in plain NumPy, on the points that matter.

The definitions here know nothing of the kernels: an element's code is the nearest of its values, found in a table.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec import _packing, _quantizing
from lowprec._dequantizing import by_blocks, dequantize_blocks
from lowprec._grid import block_lengths
from lowprec._quantizing import Scaling, block_shape, encode_blocks, largest, quantize_blocks
from lowprec.kernels.quantize import Shape
from lowprec.quantizers import steps
from lowprec.quantizers.recipe import make_recipe

Array = np.ndarray[Any, Any]
FLOATS = ("e4m3fn", "e5m2", "e3m2fn", "e2m3fn", "e2m1fn", "e4m3fnuz", "e5m2fnuz", "e3m4", "e4m2", "e2m1", "e5m1")
INTEGERS = ("int8", "int4", "int3", "int2")
RULES = ("floor", "ceil", "even", "rceil")
TINY, HUGE = np.float32(2.0**-149), np.finfo(np.float32).max


# ------------------------------------------------------------------------------------------------ the rules, slowly
def slow_codes(quotients: Array, fmt: Any) -> Array:
    """Return the code of the nearest finite value, of two the even one; beyond the ends the end."""
    every = np.arange(1 << fmt.bits)
    values = np.asarray(lp.decode(every, fmt, dtype=np.float64))
    kept = np.isfinite(values) & ~((values == 0) & np.signbit(values))
    every, values = every[kept], values[kept]
    order = np.argsort(values)
    every, values = every[order], values[order]
    x = np.clip(quotients.astype(np.float64), values[0], values[-1])
    right = np.clip(np.searchsorted(values, x), 1, len(values) - 1)
    below, above = x - values[right - 1], values[right] - x
    even = every[right] % 2 == 0
    codes = every[np.where((above < below) | ((above == below) & even), right, right - 1)]
    if fmt.has_negative_zero:
        codes = np.where((codes == 0) & np.signbit(quotients), 1 << (fmt.bits - 1), codes)
    return np.asarray(codes, np.uint8)


def slow_exponent(largest_one: float, rule: str, fmt: Any, unit: float) -> int:
    """Return the exponent of the scale of a block that is not zero, by the rule's words, in exact fractions."""
    emax = math.floor(math.log2(fmt.max * unit))
    a = Fraction(largest_one)
    if rule == "rceil":
        a = Fraction(float(np.float32(largest_one) / np.float32(fmt.max * unit)))
        if a == 0:
            return -127
    floor = math.frexp(float(a))[1] - 1
    if rule == "floor":
        return floor - emax
    if rule == "even":
        bits = fmt.mantissa_bits if isinstance(fmt, lp.FloatFormat) else fmt.bits - 2
        unit_of_a = Fraction(2) ** (floor - bits)
        return math.frexp(float(math.floor(a / unit_of_a + Fraction(1, 2)) * unit_of_a))[1] - 1 - emax
    ceil = floor + (a != Fraction(2) ** floor)
    return ceil if rule == "rceil" else ceil - emax


def slow_power_blocks(x: Array, rule: str, fmt: Any, unit: float) -> tuple[Array, Array]:
    """Return codes and scale codes of the rows of x."""
    scales = []
    for top in np.abs(x).max(axis=1):
        exponent = -127 if top == 0 else slow_exponent(float(top), rule, fmt, unit)
        scales.append(min(max(exponent, -127), 127) + 127)
    steps = np.array([math.ldexp(unit, e - 127) for e in scales], np.float32)
    with np.errstate(all="ignore"):
        quotients = x / steps[:, None]
    if isinstance(fmt, lp.IntFormat):
        codes = np.clip(np.rint(quotients), -fmt.max, fmt.max).astype(np.int64).astype(np.uint8)
    else:
        codes = slow_codes(quotients, fmt)
    return codes, np.array(scales, np.uint8)


def floats(name: str) -> lp.FloatFormat:
    """Return a float format."""
    fmt = lp.format(name)
    assert isinstance(fmt, lp.FloatFormat)
    return fmt


def neighbours(x: Array) -> Array:
    """Return float32 numbers with those just above and below."""
    x = np.asarray(x, np.float32)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])


def midpoints(fmt: Any) -> Array:
    """Return values, midpoints of neighbours, what lies beside these, ends and what lies beyond; both signs."""
    values = np.unique(np.asarray(lp.decode(np.arange(1 << fmt.bits), fmt, dtype=np.float64)))
    values = values[np.isfinite(values)]
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [values[-1] * 1.1, values[-1] * 1e9]])
    points = neighbours(points)
    return np.concatenate([points, -points, np.array([0.0, -0.0, TINY, -TINY], np.float32)])


def padded(x: Array, block: int) -> Array:
    """Return a matrix with rows of this length, zeros at its end."""
    whole = np.zeros(-(-x.size // block) * block, np.float32)
    whole[: x.size] = x
    return whole.reshape(-1, block)


def unpack(found: Array, fmt: Any, size: int) -> Array:
    """Return codes, one to a byte."""
    return np.asarray(found).reshape(-1) if fmt.bits == 8 else np.asarray(lp.unpack(found, fmt, size))


# ------------------------------------------------------------------------------------------------ elements
def check_elements(name: str) -> None:
    """Every value, midpoint and neighbour, divided by a few scales, in rows and down columns."""
    fmt = lp.format(name)
    points = midpoints(fmt)
    steps = np.array([1.0, 0.3, 2.0**-127, 3.0, 2.0**100, TINY], np.float32)
    with np.errstate(all="ignore"):
        x = np.clip(points * steps[:, None], -HUGE, HUGE)
        quotients = x / steps[:, None]
    if isinstance(fmt, lp.IntFormat):
        want = np.clip(np.rint(quotients), fmt.min, fmt.max).astype(np.int64).astype(np.uint8) & (2**fmt.bits - 1)
    else:
        want = slow_codes(quotients, fmt)
    rows = encode_blocks(x, Shape(x.shape[1], 1, x.shape[1]), fmt, steps)
    np.testing.assert_array_equal(unpack(rows, fmt, x.size), want.reshape(-1))
    down = np.ascontiguousarray(x.T)
    columns = encode_blocks(down, Shape(x.size, len(steps), x.shape[1]), fmt, steps)
    np.testing.assert_array_equal(unpack(columns, fmt, x.size), want.T.reshape(-1))


@pytest.mark.parametrize("name", FLOATS + INTEGERS + ("uint8", "uint4"))
def test_elements_at_every_midpoint(name: str) -> None:
    check_elements(name)


# ------------------------------------------------------------------------------------------------ powers of two
def power_points(fmt: Any, unit: float) -> Array:
    """Return largest magnitudes around every power of two, the limits of "even", and the ratios of "rceil"."""
    powers = np.ldexp(1.0, np.arange(-149, 128))
    bits = fmt.mantissa_bits if isinstance(fmt, lp.FloatFormat) else fmt.bits - 2
    some = np.concatenate([powers, powers * (2 - 2.0 ** -(bits + 1)), powers * (fmt.max * unit), powers * 1.5])
    points = neighbours(np.minimum(some, float(HUGE)))
    points = np.abs(points[np.isfinite(points)])
    return np.append(points, [0.0, HUGE]).astype(np.float32)


def check_powers(name: str, rule: str, block: int = 32) -> None:
    """Scales at every boundary, and elements that are midpoints of the scale."""
    fmt, unit = lp.format(name), 2.0**-6 if name == "int8" else 1.0
    tops = power_points(fmt, unit)
    rng = np.random.default_rng(5)
    some = rng.choice(midpoints(fmt), (tops.size, block)) / np.float32(fmt.max)
    with np.errstate(under="ignore"):
        x = np.clip(some, -1, 1) * tops[:, None]
    x[:, 3] = tops * rng.choice(np.array([-1, 1], np.float32), tops.size)
    shape = Shape(x.size, 1, block)
    ends = (-127, 127) if name == "int8" else None
    scaling = Scaling(floats("e8m0fnu"), rule, fmt.max, unit)
    found = quantize_blocks(x, shape, fmt, scaling, ends)
    codes, scales = slow_power_blocks(x, rule, fmt, unit)
    assert found is not None
    assert found.zero_point is None
    np.testing.assert_array_equal(found.scale.view(np.uint8), scales)
    np.testing.assert_array_equal(unpack(found.codes, fmt, x.size), codes.reshape(-1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["e4m3fn", "e5m2", "e3m2fn", "e2m3fn", "e2m1fn", "int8"])
def test_power_scales_at_every_boundary(name: str, rule: str) -> None:
    check_powers(name, rule)


# ------------------------------------------------------------------------------------------------ other scales
def slow_scale(quotient: Array, top: Array, fmt: Any, *, up: bool = False) -> Array:
    """Return scales rounded to their format, with the rules for zeros and ends, in float32."""
    values = np.asarray(lp.decode(np.arange(fmt.max_code + 1), fmt, dtype=np.float64))
    x = np.minimum(quotient.astype(np.float64), values[-1])
    if up:
        codes = np.searchsorted(values, x)
    else:
        right = np.clip(np.searchsorted(values, x), 1, len(values) - 1)
        below, above = x - values[right - 1], values[right] - x
        codes = np.where((above < below) | ((above == below) & (right % 2 == 0)), right, right - 1)
    rounded = values[np.maximum(codes, 1)]
    return np.where(top == 0, values[1] if fmt.bits <= 8 else 1.0, rounded).astype(np.float32)


def magnitudes(count: int) -> Array:
    """Return magnitudes of all sizes, zero, the smallest and the largest."""
    rng = np.random.default_rng(9)
    some = np.ldexp(1 + rng.random(count - 6), rng.integers(-149, 127, count - 6))
    return np.concatenate([some, [0, TINY, 2 * TINY, 3 * TINY, HUGE, 2.0**-126]]).astype(np.float32)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("scale", ["fp32", "bf16", "fp16", "e4m3fn", "e5m2"])
@pytest.mark.parametrize("name", ["int8", "e4m3fn"])
def test_scales_in_other_formats(name: str, scale: str, up: bool) -> None:
    fmt, of_scale, block = lp.format(name), floats(scale), 20
    tops = magnitudes(400)
    x = np.random.default_rng(2).uniform(-1, 1, (tops.size, block)).astype(np.float32) * tops[:, None]
    x[:, -1] = -tops
    with np.errstate(under="ignore"):
        quotient = tops / np.float32(fmt.max)
    if scale == "fp32":
        want = np.where(tops == 0, np.float32(1), np.maximum(quotient, TINY))
    else:
        want = slow_scale(quotient, tops, of_scale, up=up)
    found = quantize_blocks(
        x,
        Shape(x.size, 1, block),
        fmt,
        Scaling(of_scale, "up" if up else "nearest", fmt.max),
        (-127, 127) if name == "int8" else None,
    )
    assert found is not None
    np.testing.assert_array_equal(found.scale.astype(np.float32), want)
    with np.errstate(all="ignore"):
        quotients = x / want[:, None]
    codes = np.clip(np.rint(quotients), -127, 127).astype(np.int64).astype(np.uint8)
    np.testing.assert_array_equal(found.codes, codes if name == "int8" else slow_codes(quotients, fmt))


def check_two_levels() -> None:
    """NVFP4: float32(float32(a / 6) / g) to e4m3, then x / float32(s * g) to e2m1."""
    fmt, e4m3 = floats("e2m1fn"), floats("e4m3fn")
    for g in (1.0, 0.37, 1e-30, 1e30, float(TINY)):
        with np.errstate(over="ignore", under="ignore"):
            tops = np.concatenate([magnitudes(300), neighbours(np.float32(g) * 6 * midpoints(e4m3))])
        tops = np.abs(tops[np.isfinite(tops)])
        with np.errstate(over="ignore", under="ignore"):
            x = np.random.default_rng(3).choice(midpoints(fmt) / np.float32(6), (tops.size, 16)) * tops[:, None]
        x = np.clip(x, -tops[:, None], tops[:, None])
        x[:, 5] = tops
        outer = np.float32(g)
        with np.errstate(all="ignore"):
            scales = slow_scale(tops / np.float32(6) / outer, tops, e4m3)
            quotients = x / np.maximum(scales * outer, TINY)[:, None]
        found = quantize_blocks(x, Shape(x.size, 1, 16), fmt, Scaling(e4m3, "nearest", 6.0, 1.0, outer))
        assert found is not None
        np.testing.assert_array_equal(found.scale.astype(np.float32), scales)
        np.testing.assert_array_equal(unpack(found.codes, fmt, x.size), slow_codes(quotients, fmt).reshape(-1))


def test_two_levels() -> None:
    check_two_levels()


def check_affine(name: str) -> None:
    """Zero points, and ties with odd ones."""
    fmt, block = lp.format(name), 24
    low, high = np.float32(fmt.min), np.float32(fmt.max)
    lows, highs = -magnitudes(300), np.random.default_rng(1).permutation(magnitudes(300))
    span = np.random.default_rng(4).random((300, block)).astype(np.float32)
    with np.errstate(over="ignore"):
        x = lows[:, None] * span + highs[:, None] * (1 - span)
        x[:, 0], x[:, 1] = lows, highs
        x[::5] = np.abs(x[::5])
        x[1::7] = -np.abs(x[1::7])
        steps = np.float32(2.0) ** np.random.default_rng(6).integers(-20, 20, 60).astype(np.float32)
        # Ties: halves of a step, with the range of the codes, so that the zero point is odd or even.
        ties = (np.arange(block, dtype=np.float32) / 2)[None] * steps[:, None]
        ties[:, 0] = -steps * np.arange(60, dtype=np.float32) % np.float32(fmt.max)
        ties[:, 1] = ties[:, 0] + np.float32(fmt.max - fmt.min) * steps
        x = np.concatenate([x, ties])
        least, most = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
        width = np.minimum(most - least, HUGE)
    with np.errstate(under="ignore"):
        scale = np.maximum(width / (high - low), TINY)
    scale = np.where(np.abs(x).max(axis=1) == 0, np.float32(1), scale)
    points = np.clip(np.rint(low - least / scale), low, high)
    codes = np.clip(np.rint(x / scale[:, None]) + points[:, None].astype(np.float64), low, high)
    codes = codes.astype(np.int64).astype(np.uint8) & np.uint8(2**fmt.bits - 1)
    found = quantize_blocks(x, Shape(x.size, 1, block), fmt, Scaling(floats("fp32"), symmetric=False))
    assert found is not None
    assert found.zero_point is not None
    np.testing.assert_array_equal(found.scale, scale)
    np.testing.assert_array_equal(found.zero_point, points.astype(np.int64))
    np.testing.assert_array_equal(unpack(found.codes, fmt, x.size), codes.reshape(-1))


@pytest.mark.parametrize("name", ["uint8", "int8", "uint4", "int4", "uint2"])
def test_affine(name: str) -> None:
    check_affine(name)


# ------------------------------------------------------------------------------------------------ planted bugs
def test_bugs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = _quantizing._settings

    def wrong(**changes: Any) -> None:
        """Tell the kernel something else."""

        def settings(*args: Any) -> Any:
            numbers, reals = right(*args)
            fields = {
                name: change(getattr(numbers, name)) for name, change in changes.items() if name in numbers._fields
            }
            floats = {name: change(getattr(reals, name)) for name, change in changes.items() if name in reals._fields}
            return numbers._replace(**fields), reals._replace(**floats)

        monkeypatch.setattr(_quantizing, "_settings", settings)

    wrong(bump=lambda bump: bump - 1)
    for rule in ("ceil", "even", "rceil"):
        with pytest.raises(AssertionError):
            check_powers("e2m1fn", rule)
    wrong(share=lambda share: 1.0)
    with pytest.raises(AssertionError):
        check_two_levels()
    wrong(zero=lambda zero: 0)
    with pytest.raises(AssertionError):
        check_two_levels()
    wrong(low=lambda low: low + 1)
    with pytest.raises(AssertionError):
        check_affine("uint4")
    monkeypatch.setattr(_quantizing, "_settings", right)
    places = _quantizing._places

    def coarser(fmt: Any) -> dict[str, int]:
        """Subnormals one binade too early."""
        return {**places(fmt), "emin": places(fmt)["emin"] + 1}

    monkeypatch.setattr(_quantizing, "_places", coarser)
    with pytest.raises(AssertionError):
        check_elements("e4m3fn")
    with pytest.raises(AssertionError):
        check_two_levels()


# ------------------------------------------------------------------------------------------------ shapes
def data(*shape: int, seed: int = 0) -> Array:
    """Return numbers of many sizes, some of them zero."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * np.exp(3 * rng.standard_normal(shape))).astype(np.float32)
    x[rng.random(shape) < 0.1] = 0
    return x


RECIPES: list[dict[str, Any]] = [
    {"fmt": "int8", "axis": 0},
    {"fmt": "int8"},
    {"fmt": "int8", "axis": -1},
    {"fmt": "int8", "axis": -1, "block_size": 32, "divisor": 127.5},
    {"fmt": "int4", "axis": -1, "block_size": 32, "scale_dtype": "fp16"},
    {"fmt": "int4", "axis": 0, "block_size": 7},
    {"fmt": "uint8", "axis": 0, "symmetric": False},
    {"fmt": "uint4", "axis": -1, "block_size": 33, "symmetric": False},
    {"fmt": "int3", "axis": 0, "block_size": 3, "symmetric": False, "scale_dtype": "bf16", "scale_rule": "up"},
    {"fmt": "e4m3fn", "axis": 0},
    {"fmt": "e5m2", "axis": -1, "scale_dtype": "e4m3fn"},
    {"fmt": "mxfp8_e4m3"},
    {"fmt": "mxfp6_e2m3", "scale_rule": "rceil"},
    {"fmt": "mxfp4", "scale_rule": "even"},
    {"fmt": "mxfp4", "axis": 0},
    {"fmt": "mxint8", "scale_rule": "ceil"},
    {"fmt": "nvfp4"},
    {"fmt": "nvfp4", "axis": 0, "tensor_scale": None},
    {"fmt": "int8", "axis": (0, -1)},
    {"fmt": "int8", "axis": (0, 1), "block_size": (4, 16)},
    {"fmt": "int8", "axis": -1, "block_size": 16, "calibration": "mse"},
    {"fmt": "int8", "axis": 0, "scale_dtype": "power_of_two"},
]
SHAPES = [(7, 641), (2, 4101), (64, 80), (5, 3, 290), (3, 1, 64, 32), (4200,)]


def assert_same(a: Any, b: Any) -> None:
    """Assert that two quantised arrays are the same in every bit."""
    assert (a.shape, a.format, a.axis, a.block_size, a.recipe) == (b.shape, b.format, b.axis, b.block_size, b.recipe)
    assert a.tensor_scale == b.tensor_scale
    assert a.nbytes == b.nbytes
    for name in ("codes", "packed", "scale", "zero_point"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
            assert not one.flags.writeable
            np.testing.assert_array_equal(one.astype(np.float64), other.astype(np.float64))


def without_kernels(x: Array, fmt: Any, **how: Any) -> Any:
    """Return what `quantize` gives by array operations alone."""
    facts: dict[str, Any] = {
        "axis": None,
        "block_size": None,
        "symmetric": True,
        "scale_dtype": None,
        "scale_rule": None,
    }
    facts |= {"divisor": None, "tensor_scale": "auto", "rounding": "nearest_even", "nonfinite": "raise"}
    calibration = how.pop("calibration", "absmax")
    facts |= how
    recipe = make_recipe(fmt, x.ndim, **facts)
    return steps.quantized(x, recipe, calibration, tensor_scale=facts["tensor_scale"], kernels=False)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("how", RECIPES, ids=lambda how: "-".join(map(str, how.values())))
def test_same_without_kernels(how: dict[str, Any], shape: tuple[int, ...]) -> None:
    if len(shape) == 1 and how.get("axis") in (0, (0, -1), (0, 1)) and isinstance(how.get("axis"), tuple):
        how = {**how, "axis": (0,), "block_size": (16,) if "block_size" in how else None}
    x = data(*shape)
    q = lp.quantize(x, **how)
    plain = without_kernels(x, **how)
    assert_same(q, plain)
    numbers = plain._numbers(np.dtype(np.float32), floats("fp32"))
    np.testing.assert_array_equal(q.dequantize().view(np.uint32), numbers.view(np.uint32))
    np.testing.assert_array_equal(q.T.dequantize(), numbers.T)


@pytest.mark.parametrize(
    "how", [{"fmt": "int8"}, {"fmt": "int4", "axis": 0}, {"fmt": "uint4", "axis": 0, "symmetric": False}]
)
@pytest.mark.parametrize("shape", [(3, 70001), (200_000,), (2, 65536 * 2)], ids=str)
def test_long_blocks(how: dict[str, Any], shape: tuple[int, ...]) -> None:
    if len(shape) == 1:
        how = {**how, "axis": None}
    x = data(*shape)
    q = lp.quantize(x, **how)
    assert_same(q, without_kernels(x, **how))
    np.testing.assert_array_equal(q.dequantize(), q._numbers(np.dtype(np.float32), floats("fp32")))


@pytest.mark.parametrize("how", [RECIPES[0], RECIPES[6], RECIPES[13], RECIPES[14], RECIPES[16]])
def test_threads_layout_and_writing_make_no_difference(how: dict[str, Any]) -> None:
    x = data(96, 3000)
    want, before = lp.quantize(x, **how), lp.get_num_threads()
    try:
        lp.set_num_threads(1)
        assert_same(lp.quantize(x, **how), want)
        alone = want.dequantize()
        lp.set_num_threads(3)
        assert_same(lp.quantize(x, **how), want)
        np.testing.assert_array_equal(want.dequantize(), alone)
    finally:
        lp.set_num_threads(before)
    fixed = x.copy()
    fixed.flags.writeable = False
    assert_same(lp.quantize(fixed, **how), want)
    assert_same(lp.quantize(np.asfortranarray(x), **how), want)
    assert_same(lp.quantize(np.repeat(x, 2, axis=1)[:, ::2], **how), want)


# ------------------------------------------------------------------------------------------------ not finite
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("how", [RECIPES[0], RECIPES[1], RECIPES[2], RECIPES[6], RECIPES[13], RECIPES[16]])
def test_not_finite(how: dict[str, Any], bad: float) -> None:
    for place in ((0, 0), (3, 1500), (6, 2998)):
        x = data(7, 2999)
        x[place] = bad
        with pytest.raises(ValueError, match="must be finite"):
            lp.quantize(x, **how)
        q = lp.quantize(x, **how, nonfinite="propagate")
        assert np.isnan(q.dequantize()[place])
        assert_finite_elsewhere(q)


def assert_finite_elsewhere(q: Any) -> None:
    """Assert that one block is NaN, and all other scales finite."""
    scale = np.asarray(q.scale, np.float64)
    assert np.isnan(scale).sum() == 1


def test_not_finite_in_long_blocks() -> None:
    x = data(300_000)
    x[299_999] = -np.inf
    with pytest.raises(ValueError, match="299999"):
        lp.quantize(x, "int8")
    assert not np.isfinite(largest(x))
    assert largest(x[:-1]) == np.abs(x[:-1]).max()
    assert largest(x[:0]) == 0


# ------------------------------------------------------------------------------------------------ back
def test_points_offsets_and_tables() -> None:
    rng = np.random.default_rng(8)
    for fmt in (lp.format("uint5"), lp.format("int8"), lp.block_format("nf4").element, lp.format("e4m3fn")):
        count = len(fmt.values) if isinstance(fmt, lp.CodebookFormat) else 1 << fmt.bits
        codes = rng.integers(0, count, (40, 130), dtype=np.uint8)
        scale, offset = (rng.standard_normal((40, 5)).astype(np.float16) for _ in range(2))
        points = rng.integers(0, 16, (40, 5)) if isinstance(fmt, lp.IntFormat) else None
        q = lp.QuantizedArray(
            codes, scale, points, format=fmt, axis=1, block_size=32, offset=offset, tensor_scale=1 / 3
        )
        want = q._numbers(np.dtype(np.float32), floats("fp32"))
        for one, numbers in ((q, want), (q.T, want.T), (q.T.T, want)):
            found = by_blocks(one)
            assert found is not None
            np.testing.assert_array_equal(found.view(np.uint32), numbers.view(np.uint32))


def test_signs_of_zeros_come_back() -> None:
    fmt = lp.format("e2m1fn")
    codes = np.tile(np.array([0x80], np.uint8), 4096)  # two codes to a byte: 0 and -0
    back = dequantize_blocks(codes, 8192, Shape(8192, 1, 32), fmt, np.ones(256, np.float32))
    assert np.signbit(back[1::2]).all()
    assert not np.signbit(back[::2]).any()
    assert not back.any()


# ------------------------------------------------------------------------------------------------ packing
@pytest.mark.parametrize("bits", range(1, 8))
def test_packing(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for count in (1, 2, 3, 5, 8, 31, 1000, 16385, 65536 * 2 + 3):
        codes = rng.integers(0, 1 << bits, count, dtype=np.uint8)
        table = np.unpackbits(codes.reshape(-1, 1), axis=1, count=bits, bitorder="little")
        want = np.packbits(table, bitorder="little")
        packed = _packing.packed(codes, bits)
        np.testing.assert_array_equal(packed, want)
        np.testing.assert_array_equal(_packing.unpacked(packed, bits, count), codes)
        fmt = lp.IntFormat(bits=bits, is_signed=False)
        np.testing.assert_array_equal(lp.pack(codes, fmt), want)
        np.testing.assert_array_equal(lp.unpack(want.tobytes() + b"\xff\xff", fmt, count), codes)


# ------------------------------------------------------------------------------------------------ where blocks lie
@pytest.mark.parametrize(
    ("shape", "axis", "block", "want"),
    [
        ((4, 64), -1, 32, (256, 1, 32)),
        ((4, 65), -1, 32, (65, 1, 32)),
        ((4, 64), 0, None, (256, 1, 64)),
        ((4, 64), 1, None, (256, 64, 4)),
        ((64, 10), 0, 16, (640, 10, 16)),
        ((2, 64, 10), 1, 16, (640, 10, 16)),
        ((2, 64, 10), None, None, (1280, 1, 1280)),
        ((2, 64, 10), (0, 1), None, (1280, 1, 10)),
        ((2, 64, 10), (1, 2), None, (1280, 640, 2)),
        ((2, 64, 10), 1, None, None),
        ((64, 64), (0, 1), (32, 32), None),
        ((64, 64), (0, 1), (32, 64), (4096, 1, 2048)),
        ((1, 64, 1), 1, 32, (64, 1, 32)),
        ((0, 64), -1, 32, None),
        ((3,), 0, None, (3, 1, 1)),
    ],
)
def test_where_blocks_lie(shape: tuple[int, ...], axis: Any, block: Any, want: Any) -> None:
    ndim = len(shape)
    axis = axis % ndim if isinstance(axis, int) else axis
    found = block_shape(shape, block_lengths(shape, axis, block))
    assert (found is None) == (want is None)
    assert found is None or tuple(found) == want
