"""What quantising and products of quantised operands refuse, and in which words; and odd input that they take."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp

X = np.arange(12.0).reshape(3, 4) - 5
NOT_FINITE = np.where(np.eye(3, 4, 1) > 0, np.nan, X)
GRID = "`scale` must be positive and finite in float32, got "
POINT = "`zero_point` must be "


# ------------------------------------------------------------------------------------------------------------- quantize


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        # scales and zero points that are given
        ({"scale": 0.0}, ValueError, GRID + "0.0"),
        ({"scale": -1.0}, ValueError, GRID + "-1.0"),
        ({"scale": np.nan}, ValueError, GRID + "nan"),
        ({"scale": np.inf}, ValueError, GRID + "inf"),
        ({"scale": 2.0**-150}, ValueError, GRID + "0.0"),
        ({"scale": [1.0, 0.0, 2.0], "axis": 0}, ValueError, GRID + "0.0"),
        ({"scale": [1.0, 2.0], "axis": 0}, ValueError, r"`scale` must be a scalar or have shape \(3,\) .*got \(2,\)"),
        ({"scale": np.ones((3, 1)), "axis": 0}, ValueError, r"`scale` must be a scalar or have shape \(3,\)"),
        ({"scale": "a"}, TypeError, "`scale` must be of real numbers, got dtype <U1"),
        ({"scale": True}, TypeError, "`scale` must be of real numbers, got dtype bool"),
        ({"scale": 1j}, TypeError, "`scale` must be of real numbers, got dtype complex128"),
        ({"zero_point": 3}, ValueError, "`zero_point` must come with `scale`"),
        ({"scale": 1.0, "zero_point": 128}, ValueError, POINT + "from -128 to 127 for `int8`, got 128"),
        ({"scale": 1.0, "zero_point": -129}, ValueError, POINT + "from -128 to 127 for `int8`, got -129"),
        ({"scale": 1.0, "zero_point": 0.5}, TypeError, POINT + "of integers"),
        ({"scale": 1.0, "zero_point": 2**70}, TypeError, POINT + "of integers of 64 bits at most"),
        ({"scale": 1.0, "zero_point": [0, 1], "axis": 0}, ValueError, POINT + r"a scalar or .*\(3,\), got \(2,\)"),
        ({"scale": 1.0, "zero_point": np.ma.array(1, mask=True)}, TypeError, "must not be a masked array"),
        ({"fmt": "e4m3fn", "scale": 1.0, "zero_point": 0}, ValueError, POINT + "None for `float8_e4m3fn`"),
        ({"fmt": "nf4", "scale": 1.0, "zero_point": 0}, ValueError, POINT + "None for `nf4`"),
        # formats
        ({"fmt": "fp8"}, ValueError, "ambiguous; write 'fp8_e4m3' or 'fp8_e5m2'"),
        ({"fmt": "mxfp5"}, ValueError, "`fmt` must be a known format or block format, got 'mxfp5'.*'mxfp4'"),
        ({"fmt": "nvpf4"}, ValueError, "the closest: 'nvfp4'"),
        ({"fmt": "q4_k"}, ValueError, "the closest: 'q4_"),
        ({"fmt": "int32"}, ValueError, "`fmt` must have at most 16 bits to be quantised to, got `int32`"),
        ({"fmt": "int1"}, ValueError, "`fmt` must have a positive value for symmetric scales, got `int1`"),
        ({"fmt": "uint8"}, ValueError, "`symmetric` must be False for the unsigned `uint8`"),
        ({"fmt": "e8m0fnu"}, ValueError, "`fmt` must be a signed format"),
        ({"fmt": None}, TypeError, "`fmt` must be a format name"),
        (
            {"fmt": "e4m3fn", "symmetric": False},
            ValueError,
            "`symmetric` must be True .*only integers have zero points",
        ),
        ({"symmetric": 1}, TypeError, "`symmetric` must be True or False, got 1"),
        # layout
        ({"axis": 2}, ValueError, "`axis` must be from -2 to 1 for codes with 2 axes, got 2"),
        ({"axis": (0, -2)}, ValueError, "`axis` must name at least one axis, each once"),
        ({"axis": 1.0}, TypeError, "`axis` must be an integer"),
        ({"block_size": 2}, ValueError, "`axis` must be given with block_size=2.*pass axis=-1"),
        ({"axis": 0, "block_size": 0}, ValueError, "`block_size` must be 1 or more, got 0"),
        ({"axis": 0, "block_size": 2.0}, TypeError, "`block_size` must be an integer of 1 or more"),
        ({"axis": (0, 1), "block_size": 2}, ValueError, "`block_size` must have one number for each axis"),
        # scales that are found
        ({"calibration": "absmx"}, ValueError, "`calibration` must be one of absmax, minmax, mse, .*got 'absmx'"),
        ({"calibration": -1.0}, ValueError, "`calibration` must be finite magnitudes of 0 or more, got -1.0"),
        ({"calibration": np.nan}, ValueError, "`calibration` must be finite magnitudes"),
        ({"calibration": [1, 2]}, ValueError, "`calibration` must have a range for all, or for each scale"),
        ({"calibration": None}, TypeError, "`calibration` must be a name, an observer or numbers"),
        ({"scale_dtype": "fp33"}, ValueError, "`scale_dtype` must be a known format name.*'fp32'"),
        ({"scale_dtype": "int8"}, ValueError, "`scale_dtype` must be a float format .*power_of_two"),
        ({"scale_dtype": "fp64"}, ValueError, "`scale_dtype` must be a float format .* 32 bits at most"),
        ({"scale_rule": "flor"}, ValueError, "`scale_rule` must be one of nearest, .*got 'flor'; the closest: 'floor'"),
        ({"scale_rule": 3}, TypeError, "`scale_rule` must be a string or None"),
        ({"scale_rule": "up", "scale_dtype": "power_of_two"}, ValueError, "must be one of floor, .* for powers of two"),
        ({"divisor": 0}, ValueError, "`divisor` must be positive and finite, got 0; int8 has 127, 127.5 and 128"),
        ({"divisor": np.nan}, ValueError, "`divisor` must be positive and finite"),
        ({"divisor": "127"}, TypeError, "`divisor` must be a real number"),
        ({"divisor": 128, "symmetric": False}, ValueError, "`divisor` must be left out with symmetric=False"),
        ({"divisor": 4, "fmt": "mxfp4"}, ValueError, "`divisor` must be left out with scale_rule='floor'"),
        ({"tensor_scale": 1.0}, ValueError, "`tensor_scale` must be left out for `int8`, got 1.0; nvfp4 has one"),
        ({"tensor_scale": 0.0, "fmt": "nvfp4"}, ValueError, "`tensor_scale` must be positive and finite in float32"),
        ({"tensor_scale": 1e60, "fmt": "nvfp4"}, ValueError, "`tensor_scale` must be positive and finite in float32"),
        ({"tensor_scale": "aut", "fmt": "nvfp4"}, TypeError, "`tensor_scale` must be a real number, 'auto' or None"),
        ({"tensor_scale": [1.0], "fmt": "nvfp4"}, TypeError, "`tensor_scale` must be a real number, 'auto' or None"),
        # rounding and policy
        ({"rounding": "nearest"}, ValueError, "`rounding` must be one of .*the closest: 'nearest_even'"),
        ({"rounding": "stochastic"}, ValueError, "`rng` must be given"),
        ({"rounding": "toward_zero", "fmt": "nf4"}, ValueError, "`rounding` must be 'nearest_even' for the codebook"),
        ({"nonfinite": "skip"}, ValueError, "`nonfinite` must be 'raise' or 'propagate', got 'skip'"),
        ({"nonfinite": "propagate", "axis": 0, "scale_dtype": "e2m1fn"}, ValueError, "scales without NaN"),
        # GGML's own rules
        ({"fmt": "q4_0"}, ValueError, "`x` must have a last axis that is a multiple of 32 .*pad it with zeros"),
        ({"fmt": "q4_0", "axis": 0}, ValueError, "`axis` must be left out for `q4_0`, whose rules are GGML's, got 0"),
        ({"fmt": "q8_0", "scale": np.ones(3)}, ValueError, "`scale` must be left out for `q8_0`"),
        # numbers
        ({"x": NOT_FINITE}, ValueError, r"`x` must be finite, got nan at index \(0, 1\).*nonfinite='propagate'"),
        ({"x": [1.0, -np.inf]}, ValueError, "`x` must be finite, got -inf at index 1"),
        ({"x": np.inf}, ValueError, "`x` must be finite, got inf; replace it"),
        ({"x": "1.0"}, TypeError, "`x` must hold real numbers"),
        ({"x": None}, TypeError, "`x` must hold real numbers"),
        ({"x": [1 + 2j]}, TypeError, "`x` must hold real numbers"),
        ({"x": np.ma.masked_less(X, 0)}, TypeError, "`x` must not be a masked array"),
        ({"x": lp.quantize(X, "int8")}, TypeError, r"call .dequantize\(\), or take .codes"),
        ({"x": 1.0, "fmt": "mxfp4"}, ValueError, "`x` must have an axis for the block format `mxfp4`"),
        ({"x": [], "calibration": "mse"}, ValueError, "`x` must hold numbers for calibration='mse'"),
    ],
)
def test_quantize_refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lp.quantize(**{"x": X, "fmt": "int8", **arguments})


@pytest.mark.parametrize(
    "x",
    [1.5, np.float32(2), ml_dtypes.bfloat16(3), [], [[]], np.zeros((0, 4)), range(3), (1.0, 2.0), [True, False],
     np.float16([1, 2]), np.array([1, 2], ml_dtypes.float8_e4m3fn), np.array([1, -7], np.int64), [2**70, 1],
     np.array([1, 2], object), np.array([1e300, -1e-300]), np.array([1e-310, 1e-320]), X.astype(">f4"), X[::-1, ::2],
     np.asfortranarray(X), np.array([2**63 - 1, -(2**63)]), np.array([2**64 - 1], np.uint64), np.array([-0.0, 0.0])],
    ids=lambda x: f"{type(x).__name__} {str(x)[:20]}",
)  # fmt: skip
@pytest.mark.parametrize("fmt", ["int8", "uint4", "e4m3fn"])
def test_odd_numbers(x: Any, fmt: str) -> None:
    """Codes within half a step of the numbers, of their shape, whatever holds them."""
    q = lp.quantize(x, fmt, symmetric=fmt != "uint4")
    numbers = np.array([float(one) for one in np.asarray(x, object).reshape(-1)], np.float64).reshape(q.shape)
    assert q.shape == np.shape(x)
    largest = np.abs(numbers).max(initial=0)
    if 1e-30 < largest < 1e30:
        assert np.abs(q.dequantize(np.float64) - numbers).max(initial=0) <= largest * {"uint4": 1 / 15}.get(fmt, 1 / 16)
    again = lp.quantize(numbers.copy(), fmt, symmetric=fmt != "uint4")
    assert again.codes.tobytes() == q.codes.tobytes()


def test_read_only_and_long_blocks() -> None:
    """A block far longer than its axis costs no memory; the input is neither written nor kept."""
    x = X.copy()
    x.flags.writeable = False
    for block in (4, 10**9, 10**20):
        q = lp.quantize(x, "int8", axis=-1, block_size=block)
        assert q.scale.shape == (3, 1)
        np.testing.assert_array_equal(q.codes, lp.quantize(x, "int8", axis=0).codes)
        np.testing.assert_array_equal(q.dequantize(), lp.quantize(x, "int8", axis=0).dequantize())
    assert lp.quantize(np.zeros((3, 0)), "int8", axis=-1, block_size=10**20).scale.shape == (3, 0)


def test_zero_points_given_use_all_codes() -> None:
    assert lp.quantize([-1e9, 1e9], "int8", scale=1.0, zero_point=0).codes.view(np.int8).tolist() == [-128, 127]
    assert lp.quantize([-1e9, 1e9], "int8", scale=1.0).codes.view(np.int8).tolist() == [-127, 127]
    assert lp.quantize([-1.0, 1.0], "uint8", scale=0.5, zero_point=3).codes.tolist() == [1, 5]


def test_subnormal_scales() -> None:
    """A subnormal scale is a scale; one that would be 0 is the smallest there is."""
    tiny = np.float32(2.0**-149)
    assert lp.quantize([1.0, -1.0], "int8", scale=tiny).codes.view(np.int8).tolist() == [127, -127]
    q = lp.quantize(np.full(4, tiny), "int8")
    assert (q.scale, q.codes[0]) == (tiny, 1)
    assert lp.quantize(np.full(4, 1e-300), "int8").scale == tiny
    assert lp.quantize(np.full(16, 1e308), "nvfp4").tensor_scale == np.finfo(np.float32).max
    assert lp.quantize(np.full(4, 1e308), "int8").scale == np.finfo(np.float32).max


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn", "mxfp4", "nvfp4", "nf4"])
def test_propagate(fmt: str) -> None:
    """The block with NaN reads as NaN, the others as without it."""
    x = np.linspace(-1, 1, 256).reshape(2, 128)
    bad = x.copy()
    bad[0, 70] = -np.inf
    how = {"axis": -1, "block_size": 32} if fmt in ("int8", "e4m3fn") else {}
    with pytest.raises(ValueError, match=r"`x` must be finite, got -inf at index \(0, 70\)"):
        lp.quantize(bad, fmt, **how)
    got = lp.quantize(bad, fmt, nonfinite="propagate", **how).dequantize()
    size = lp.quantize(x, fmt, **how).block_size
    hit = np.zeros(x.shape, bool)
    hit[0, 70 // size * size : 70 // size * size + size] = True
    assert np.array_equal(np.isnan(got), hit)
    np.testing.assert_array_equal(got[~hit], lp.quantize(x, fmt, **how).dequantize()[~hit])


# ------------------------------------------------------------------------------------------------------------- products

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((3, 64)), RNG.standard_normal((64, 4))
QA, QB = lp.quantize(A, "int8"), lp.quantize(B, "int4", axis=0, block_size=32)
FA, FB = lp.quantize(A, "e2m1fn"), lp.quantize(B, "e2m1fn")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": QB[:32]}, ValueError, r"`a` must have as many columns as `b` has rows, .*\(3, 64\) .*\(32, 4\)"),
        ({"a": A[:, :32]}, ValueError, "`a` must have as many columns as `b` has rows"),
        ({"a": lp.quantize(1.0, "int8")}, ValueError, r"got shapes \(\) for `a`"),
        ({"a": lp.quantize(np.ones((2, 3, 64)), "int8"), "b": lp.quantize(np.ones((3, 64, 4)), "int8")}, ValueError,
         r"`a` and `b` must have axes before the last two that broadcast, got shapes \(2, 3, 64\) and \(3, 64, 4\)"),
        ({"dtype": "int8"}, ValueError, "`dtype` must be None for two QuantizedArray, .*got 'int8'"),
        ({"a": lp.quantize(A, "int8", axis=1)}, ValueError, r"must not have a scale for every k, .*\.dequantize\(\)"),
        ({"b": lp.quantize(B, "int8", axis=1, block_size=2)}, ValueError, "must not have a scale for every k"),
        ({"b": lp.quantize(B.T, "q4_1").T}, ValueError, r"`a` and `b` must have no offsets .*multiply .dequantize\(\)"),
        ({"b": lp.quantize(B.T, "q4_1").T, "accumulator": "exact"}, ValueError, "must have no offsets"),
        ({"c": np.ones(5)}, ValueError, r"`c` must broadcast to the result's shape \(3, 4\), got \(5,\)"),
        ({"c": "a"}, TypeError, "`c` must hold real numbers"),
        ({"out": np.empty((3, 5), np.float32)}, ValueError, r"`out` must have shape \(3, 4\), got \(3, 5\)"),
        ({"out": np.empty((3, 4), np.int32)}, TypeError, "`out` must have dtype float32"),
        ({"out": [1]}, TypeError, "`out` must be a NumPy array, got list"),
        ({"out_dtype": "fp17"}, ValueError, "`out_dtype` must be a known format name.*'fp16'"),
        ({"out_dtype": "bf16", "rounding": "stochastic"}, ValueError, "`rng` must be given"),
        ({"rounding": "xx"}, ValueError, "`rounding` must be one of"),
        ({"overflow": "xx"}, ValueError, "`overflow` must be one of"),
        ({"subnormals": "xx"}, ValueError, "`subnormals` must be one of"),
        ({"accumulator": "nvidia-hoper"}, ValueError, "`accumulator` must be .*the closest: 'nvidia-hopper'"),
        ({"accumulator": "fp16"}, ValueError, "`accumulator` must suit the operands"),
        ({"a": FA, "b": FB, "accumulator": "int32"}, ValueError, "`accumulator` must suit the operands"),
        ({"a": FA, "b": FB, "accumulator": "nvidia-hopper"}, ValueError, "the operand formats of nvidia-hopper"),
        ({"b": lp.quantize(B, "int8"), "accumulator": lp.Integer(12, "raise")}, OverflowError,
         r"`accumulator` must hold every sum: element \[0, 0\] of the result is -30223"),
        ({"a": np.full((3, 64), 2**40)}, ValueError, "`a` must hold integers of 32 bits at most"),
        ({"a": "a"}, TypeError, "`a` must hold real numbers"),
        ({"a": np.ma.masked_less(A, 0)}, TypeError, "`a` must not be a masked array"),
        ({"a": A, "b": B, "dtype": "uint8"}, ValueError, "`dtype` must be a signed format .*call lp.quantize"),
        ({"a": A, "b": B, "dtype": ("int8", "bf16")}, ValueError, "`dtype` must be two formats to quantise to"),
        ({"a": A, "b": B, "dtype": ("int8",)}, ValueError, "`dtype` must be one format or a pair"),
        ({"a": A, "b": B, "dtype": "q4_0"}, ValueError, "`dtype` must not be a format of GGML .*call lp.quantize"),
        ({"a": A, "b": B, "dtype": "int32"}, ValueError, "`dtype` must have at most 16 bits"),
        ({"a": A, "b": B * np.nan, "dtype": "int8"}, ValueError, r"`b` must be finite, .*call lp.quantize with nonfin"),
        ({"a": A, "b": B, "dtype": "int8", "rounding": "stochastic"}, ValueError, "`rng` must be given"),
    ],
)  # fmt: skip
def test_matmul_refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lp.matmul(**{"a": QA, "b": QB, **arguments})


def test_linear_and_vecdot_refuse() -> None:
    for call, message in [
        (lambda: lp.linear(QA, QB.T, np.ones(3)), r"`bias` must have shape \(4,\), got \(3,\)"),
        (lambda: lp.linear(QA, QB), r"`x` must have shape \(..., K\) with K = 4"),
        (lambda: lp.linear(QA, lp.quantize(np.ones((2, 4, 64)), "int8")), r"`w` must have shape \(N, K\)"),
        (lambda: lp.vecdot(QA, QB), "`a` and `b` must have last axes of one length"),
        (lambda: lp.vecdot(lp.quantize(1.0, "int8"), QB), "`a` and `b` must have at least one axis"),
        (lambda: lp.vecdot(QA, lp.quantize(np.ones((2, 64)), "int8")), "leading axes that broadcast together"),
        (lambda: lp.vecdot(QA, QA, c=[1, 2]), r"`c` must broadcast to the result's shape \(3,\), got \(2,\)"),
        (lambda: lp.vecdot(QA, QA, out=np.empty(4, np.float32)), r"`out` must have shape \(3,\), got \(4,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_out_is_untouched_by_an_error() -> None:
    out = np.full((3, 4), 7, np.float32)
    for arguments in ({"c": np.ones(5)}, {"accumulator": "fp16"}, {"out_dtype": "bf16"}):
        with pytest.raises((ValueError, TypeError)):
            lp.matmul(QA, QB, out=out, **arguments)
    assert (out == 7).all()
