"""requantize against its definition in plain integers and fractions, at every tie, and its errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _requantize
from lowprec.kernels import requantize as kernels
from lowprec.reference import requantize as reference

Array = np.ndarray[Any, Any]
METHODS = _requantize.METHODS
# Scales on whose multiples ties lie, their neighbours, generic ones, and those at the ends of the shifts.
SCALES = [
    *(1 / 16, 1 / 512, 1.75, 0.5, 0.25, 1.0, 3.0, 1.5, 2.0**-20, 0.75),
    *(float(np.nextafter(s, t)) for s in (1 / 16, 0.5, 1.75, 1.0) for t in (0.0, 2.0)),
    *(float(np.nextafter(np.float32(s), np.float32(t))) for s in (1 / 16, 0.5, 1.75) for t in (0.0, 2.0)),
    *(0.0317 * 0.0071 / 0.0413, 1 / 3, 0.1, 0.7, 1e-3, 2.0**-31, 2.0**-32, 2.0**-33, 1e-12, 1 - 2.0**-33, 127.99),
]


def points(scale: float, rng: np.random.Generator, bits: int = 31) -> Array:
    """Return sums: small ones, around the borders of some codes, powers of two, random ones, the ends."""
    borders = (np.concatenate([np.arange(-6, 7), [-135, -124, -64, 63, 121, 132]]) + 0.5) / scale
    borders = borders[np.abs(borders) < 2.0 ** (bits - 1)]
    near = (np.round(borders)[:, np.newaxis] + np.arange(-2, 3)).ravel()
    powers = np.array([s * 2**k + s for k in range(0, bits - 1, 3) for s in (-1, 1)])
    ends = np.array([-(2**bits), 2**bits - 1])
    wide = rng.integers(-(2 ** (bits - 4)), 2 ** (bits - 4), 20)
    return np.unique(np.concatenate([np.arange(-40, 41), near, powers, ends, wide]).astype(np.int64))


def limits(method: str, scale: float) -> bool:
    """Say whether a method takes a scale."""
    return method != "fixed_point_16x8" or scale < 127.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("out", "zero", "clip"), [("int8", -5, None), ("uint8", 128, (128, 200)), ("int16", 0, None)])
def test_every_method_is_its_definition(method: str, out: str, zero: int, clip: Any) -> None:
    rng = np.random.default_rng(0)
    fmt = lp.format(out)
    low, high = clip or (int(fmt.min), int(fmt.max))
    step = 1 if out == "int8" and method.startswith("fixed") else 2 if out == "int8" else 7
    for scale in SCALES[::step]:
        if not limits(method, scale):
            continue
        acc = points(scale, rng).astype(np.int32)
        want = [reference.requantize(int(a), scale, method, zero_point=zero, low=low, high=high) for a in acc]
        got = lp.requantize(acc, scale, out, zero_point=zero, method=method, clip=clip)
        assert got.dtype == np.dtype(out)
        np.testing.assert_array_equal(got, want, err_msg=f"scale {scale!r}")


@pytest.mark.parametrize(
    ("method", "bits"), [("fixed_point_16x8", 47), ("float", 53), ("float64_away", 53), ("exact", 53)]
)
def test_wide_sums(method: str, bits: int) -> None:
    rng = np.random.default_rng(1)
    for scale in (1 / 16, 0.1, 1e-9, 1e-12, 1.75):
        acc = points(scale, rng, bits)
        got = lp.requantize(acc, scale, "int16", method=method)
        want = [reference.requantize(int(a), scale, method, low=-(2**15), high=2**15 - 1) for a in acc]
        np.testing.assert_array_equal(got, want, err_msg=f"scale {scale!r}")


def test_exact_where_float64_lands_on_a_tie() -> None:
    """A product that float64 rounds to a tie, from above and from below: the tie's neighbour decides."""
    found = set()
    for k in range(1, 400, 2):
        for scale in (float(np.nextafter(k / 2 / 3, t)) for t in (0, 1e9)):
            exact = 3 * Fraction(scale)
            if Fraction(3 * scale) == Fraction(k, 2) != exact:
                found.add(exact > Fraction(k, 2))
                assert lp.requantize(3, scale, "int16", method="exact") == round(exact)
                assert lp.requantize(-3, scale, "int16", method="exact") == -round(exact)
    assert found == {True, False}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels(method: str, axis: int) -> None:
    rng = np.random.default_rng(2)
    acc = rng.integers(-3000, 3000, (3, 5, 4)).astype(np.int32)
    scales = rng.choice([1 / 16, 1 / 32, 0.0123, 1.75, 1 / 512], acc.shape[axis])
    got = lp.requantize(acc, scales, zero_point=3, method=method, axis=axis)
    place = np.moveaxis(got, axis, 0)
    for k, part in enumerate(np.moveaxis(acc, axis, 0)):
        np.testing.assert_array_equal(place[k], lp.requantize(part, scales[k], zero_point=3, method=method))


@pytest.mark.parametrize("shape", [(300_000,), (3, 100_001), (2, 3, 50_000), (40_000, 7), (1, 1), (0, 3), ()])
def test_bits_do_not_depend_on_threads_or_layout(shape: tuple[int, ...]) -> None:
    acc = np.random.default_rng(3).integers(-3000, 3000, shape).astype(np.int32)
    axis = len(shape) - 1 if len(shape) > 1 and shape[-1] < 10 else 1 if len(shape) == 3 else None
    scale = 1 / 16 if axis is None else np.resize([1 / 16, 0.01, 1 / 32], shape[axis])
    before = lp.get_num_threads()
    try:
        lp.set_num_threads(1)
        want = lp.requantize(acc, scale, axis=axis)
        lp.set_num_threads(3)
        np.testing.assert_array_equal(lp.requantize(acc, scale, axis=axis), want)
    finally:
        lp.set_num_threads(before)
    turned = np.asfortranarray(acc)
    np.testing.assert_array_equal(lp.requantize(turned, scale, axis=axis), want)
    if axis is None:
        few = want.reshape(-1)[:100]
        np.testing.assert_array_equal(few, [reference.requantize(int(a), 1 / 16) for a in acc.reshape(-1)[:100]])


def test_multiplier_is_its_definition() -> None:
    rng = np.random.default_rng(4)
    scales = np.concatenate([SCALES, 2.0 ** rng.uniform(-40, 29.9, 500), [5e-324, 1e-310, 2.0**30 - 1e-6]])
    pair = lp.quantize_multiplier(scales)
    want = [reference.multiplier(float(s)) for s in scales]
    np.testing.assert_array_equal(pair.multiplier, [q for q, _ in want])
    np.testing.assert_array_equal(pair.shift, [e for _, e in want])
    assert lp.quantize_multiplier(1 - 2.0**-33) == (2**30, 1)  # rounds up to 2**31, which is halved
    assert lp.quantize_multiplier(2.0**-33) == (0, 0)
    assert lp.quantize_multiplier(2.0**-32) == (2**30, -31)


def test_a_pair_is_its_scale() -> None:
    acc = np.arange(-5000, 5000, dtype=np.int32)
    for scale in (1 / 16, 0.0123, 1.75):
        for method in ("fixed_point", "fixed_point_ruy", "fixed_point_single_rounding", "fixed_point_16x8"):
            want = lp.requantize(acc, scale, method=method)
            np.testing.assert_array_equal(lp.requantize(acc, lp.quantize_multiplier(scale), method=method), want)
    scales = np.array([0.1, 0.2])
    both = np.stack([acc, acc])
    pair = lp.quantize_multiplier(scales)
    np.testing.assert_array_equal(lp.requantize(both, pair, axis=0), lp.requantize(both, scales, axis=0))
    # Two shifts and two multipliers, not a pair: Python floats in a tuple are scales.
    np.testing.assert_array_equal(lp.requantize(both, (0.1, 0.2), axis=0), lp.requantize(both, scales, axis=0))


def test_methods_differ_by_one_and_only_on_ties() -> None:
    rng = np.random.default_rng(5)
    acc = rng.integers(-(2**16), 2**16, 20_000).astype(np.int32)
    for scale, most in ((0.00135, 0.004), (1 / 512, 0.006)):
        codes = [lp.requantize(acc, scale, method=m).astype(int) for m in METHODS if m != "fixed_point_16x8"]
        spread = np.max(codes, axis=0) - np.min(codes, axis=0)
        assert spread.max() == 1
        assert np.mean(spread) < most


def test_left_shift_wraps() -> None:
    """Deployed two-step kernels shift in 32 bits: LiteRT's int8 convolution gives -128 for 44552616 * 200."""
    acc = np.array([44552616], np.int32)
    assert lp.requantize(acc, 200.0) == -128
    assert lp.requantize(acc, 200.0, method="fixed_point_ruy") == -128
    assert lp.requantize(acc, 200.0, method="fixed_point_single_rounding") == 127
    assert lp.requantize(acc, 200.0, method="float") == 127


def test_formats() -> None:
    acc = [-100, -3, 0, 5, 100]
    assert lp.requantize(acc, 0.5, "int4").dtype == ml_dtypes.int4
    assert lp.requantize(acc, 0.5, "int4", method="float").astype(int).tolist() == [-8, -2, 0, 2, 7]
    assert lp.requantize(acc, 0.5, "uint4", zero_point=8, method="float").astype(int).tolist() == [0, 6, 8, 10, 15]
    assert lp.requantize([2**31 - 1], 1.0, "int32", method="exact").tolist() == [2**31 - 1]
    assert lp.requantize(np.int8([3]), 0.5, method="float").tolist() == [2]
    assert lp.requantize(np.array(7, np.int32), 0.5).shape == ()


def test_tiny_scales_give_the_zero_point() -> None:
    acc = np.array([-(2**31), 2**31 - 1, 0], np.int32)
    for method in METHODS:
        if method != "float":
            assert (lp.requantize(acc, 5e-324, zero_point=4, method=method) == 4).all(), method
    subnormal = float(np.float32(1e-44))
    assert (lp.requantize(acc, subnormal, zero_point=4, method="float") == 4).all()


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "zero scale": (lambda: lp.requantize([1], 0.0), ValueError, "`scale` must be positive and finite, got 0.0"),
    "negative scale": (lambda: lp.requantize([1], -0.5), ValueError, "`scale` must be positive"),
    "NaN scale": (lambda: lp.requantize([1], float("nan")), ValueError, "`scale` must be positive and finite, got nan"),
    "infinite scale": (lambda: lp.requantize([1], [np.inf]), ValueError, "`scale` must be positive and finite"),
    "scale lost in float32": (
        lambda: lp.requantize([1], 1e-50, method="float"),
        ValueError,
        "positive and finite in fl",
    ),
    "large scale": (lambda: lp.requantize([1], 2.0**30), ValueError, "`scale` must be below 2**30"),
    "large 16x8 scale": (lambda: lp.requantize([1], 200.0, method="fixed_point_16x8"), ValueError, "below 2**7"),
    "text scale": (lambda: lp.requantize([1], "x"), TypeError, "`scale` must hold real numbers"),
    "complex scale": (lambda: lp.requantize([1], 1j), TypeError, "`scale` must hold real numbers"),
    "pair for floats": (lambda: lp.requantize([1], (2**30, 0), method="float"), TypeError, "`scale` must be a real"),
    "negative multiplier": (lambda: lp.requantize([1], (-1, 0)), ValueError, "multipliers from 0"),
    "large shift": (lambda: lp.requantize([1], (2**30, 31)), ValueError, "shifts from -31"),
    "float sums": (lambda: lp.requantize([0.5], 0.5), TypeError, "`acc` must hold integers"),
    "long sums": (lambda: lp.requantize([2**31], 0.5), ValueError, "`acc` must be from -2**31"),
    "long 16x8 sums": (lambda: lp.requantize([2**47], 0.5, method="fixed_point_16x8"), ValueError, "2**47"),
    "zero point": (
        lambda: lp.requantize([1], 0.5, zero_point=128),
        ValueError,
        "`zero_point` must be from -128 to 127",
    ),
    "zero point of int4": (lambda: lp.requantize([1], 0.5, "int4", zero_point=9), ValueError, "from -8 to 7"),
    "float zero point": (lambda: lp.requantize([1], 0.5, zero_point=0.5), TypeError, "`zero_point` must be an integer"),
    "clip": (lambda: lp.requantize([1], 0.5, clip=(5, 3)), ValueError, "`clip` must be (least, largest)"),
    "clip outside": (lambda: lp.requantize([1], 0.5, clip=(0, 300)), ValueError, "`clip` must be from -128"),
    "clip kind": (lambda: lp.requantize([1], 0.5, clip=3), TypeError, "`clip` must be a pair"),
    "float format": (lambda: lp.requantize([1], 0.5, "e4m3fn"), ValueError, "`out` must be an integer format"),
    "method": (lambda: lp.requantize([1], 0.5, method="fixedpoint"), ValueError, "the closest: 'fixed_point'"),
    "method kind": (lambda: lp.requantize([1], 0.5, method=3), TypeError, "`method` must be one of"),
    "no axis": (lambda: lp.requantize([1, 2], [0.5, 0.5]), ValueError, "`axis` must say which axis"),
    "far axis": (lambda: lp.requantize([1, 2], [0.5, 0.5], axis=1), ValueError, "`axis` must be from -1 to 0"),
    "axis kind": (lambda: lp.requantize([1, 2], [0.5, 0.5], axis=0.0), TypeError, "`axis` must be an integer"),
    "count": (lambda: lp.requantize([1, 2, 3], [0.5, 0.5], axis=0), ValueError, "`scale` must have shape (3,)"),
    "multiplier of zero": (lambda: lp.quantize_multiplier(0.0), ValueError, "`scale` must be positive"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, error, words = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).startswith("`")


# Wrong kernels, compiled from the right text with one change: each must show.
BUGS = {
    "half up for half away": ("(d + half - (1 if (d < 0) & (right > 0) else 0)) >> right", "(d + half) >> right"),
    "half away for half up": (
        "return (_high_product(a, q, left) + ((np",
        "return (_high_product(a - (a < 0), q, left) + ((np",
    ),
    "truncated product": ("(a * q + (1 << 30)) >> 31", "(a * q) >> 31"),
    "no wrap": ("np.int64(np.int32(np.int64(a) << left))", "np.int64(a) << left"),
    "ties to even in float64": (">= 0.5 else 0.0", "> 0.5 else 0.0"),
    "float64 for float32": ("np.rint(np.float32(a) * np.float32(f))", "np.rint(np.float64(a) * f)"),
    "double rounding in exact": ("if error * rest > 0:", "if False:"),
    "zero point after the clip": (" + zero, low), high)", ", low), high) + zero"),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = BUGS[name]
    text = inspect.getsource(kernels)
    assert text.count(right) >= 1
    text = text.replace(right, wrong).replace("@inline", "").replace("@njit()", "").replace("full_width()", "pass")
    namespace: dict[str, Any] = {}
    exec(compile(text, "planted", "exec"), namespace)
    namespace["fma"] = lambda a, b, c: float(Fraction(a) * Fraction(b) + Fraction(c))
    for kernel in ("fixed", "floating"):
        monkeypatch.setattr(kernels, kernel, namespace[kernel])
    with np.errstate(all="ignore"), pytest.raises((AssertionError, OverflowError)):
        check_some()


def check_some() -> None:
    """Compare every method with its definition where the bugs above show."""
    acc = np.concatenate([np.arange(-40, 41), [44552616, 2**31 - 1, -(2**24) - 1, 2**24 + 1, 2**25 + 1]])
    for scale in (1 / 16, 1.75, 200.0, 0.7, float(np.nextafter(0.5 / 3, 0)), 0.1, 16777217 / 2.0**26):
        for method in METHODS:
            if limits(method, scale):
                want = [reference.requantize(int(a), scale, method, zero_point=3) for a in acc]
                got = lp.requantize(acc.astype(np.int32), scale, method=method, zero_point=3)
                np.testing.assert_array_equal(got, want)


def test_without_a_bug_it_is_green() -> None:
    check_some()
