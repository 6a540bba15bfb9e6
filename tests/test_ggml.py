"""GGML's formats: the bytes of its C library by their digests, a slow twin, the layouts, and bad input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction

import ggml_slow
import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec.quantizers import _ggml_rules, quantize_ggml

# SHA-256 (half of it) of what ggml_quantize_chunk makes of ggml_slow.blocks(): the ggml of llama-cpp-python 0.3.36,
# ggml-quants.c and ggml.c compiled by gcc -O2 for plain x86-64, without an importance matrix.
DIGESTS = {
    "q8_0": "8903b5ef0bbab8de03cf5c7fd3b775d2",
    "q4_0": "9ab4188c888bc86fd585c22a5cc05e45",
    "q4_1": "45760df6def76a916f4d76f038ae9aa3",
    "q5_0": "1b9aeb3eda3e1ed9bd827ad725911740",
    "q5_1": "24502175945217519acaf61f792fcb5f",
    "iq4_nl": "4f544845eeee170bfe0e6deec946d2ea",
    "mxfp4": "5f7f7ad9cd7d9213b75e4950e3386507",
}
BYTES = {"q8_0": 34, "q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24, "iq4_nl": 18, "mxfp4": 17}
ROUNDED = [name for name in BYTES if name != "iq4_nl"]  # fast twins


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.concatenate(list(ggml_slow.blocks().values()))


def digest(x: np.ndarray, name: str) -> str:
    return hashlib.sha256(lp.ggml_bytes(quantize_ggml(x, name)).tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("name", DIGESTS)
def test_bytes_of_the_c_library(data: np.ndarray, name: str) -> None:
    assert digest(data, name) == DIGESTS[name]


def edge_blocks() -> list[list[float]]:
    """Return blocks at the edges: zeros, subnormals, one number, powers of two and their neighbours, equal numbers."""
    rng = np.random.default_rng(1)
    base = rng.standard_normal(32)
    found = [np.zeros(32), np.full(32, -0.0), np.full(32, 3.25), np.full(32, -3.25), np.eye(32)[3] * -(2.0**-130)]
    found += [base * 2.0**e for e in (-149, -140, -127, -118, -24, -14, 0, 10)]
    found += [np.where(np.arange(32) == 9, 60000.0, base), np.where(np.arange(32) == 30, -1e-20, 0.0)]
    for e in (-30, 0, 9):
        for step in (-1, 0, 1):
            top = np.float32(2.0**e).view(np.int32) + np.int32(step)
            block = np.clip(base / 4, -0.9, 0.9) * 2.0**e
            block[17] = -top.view(np.float32)
            found.append(block)
    return [block.astype(np.float32).tolist() for block in found]


def assert_twin(x: list[list[float]], name: str) -> None:
    q = quantize_ggml(np.array(x, np.float32), name)
    for i, block in enumerate(x):
        codes, d, least = ggml_slow.quantize(block, name)
        assert q.codes[i].tolist() == codes, (name, i)
        kept = "e8m0fnu" if name == "mxfp4" else "fp16"
        assert float(q.scale[i, 0]) == lp.reference.round_to(d, kept, overflow="saturate"), (name, i)
        if least is not None:
            assert float(q.offset[i, 0]) == lp.reference.round_to(least, "fp16"), (name, i)


@pytest.mark.parametrize("name", ROUNDED)
def test_slow_twin(data: np.ndarray, name: str) -> None:
    assert_twin(edge_blocks() + data[::1031].tolist(), name)


def test_slow_twin_of_the_search(data: np.ndarray) -> None:
    assert_twin(edge_blocks()[::4] + data[:: len(data) // 5].tolist(), "iq4_nl")


def test_zero_blocks() -> None:
    for name, code in {"q8_0": 0, "q4_0": 8, "q4_1": 0, "q5_0": 16, "q5_1": 0, "iq4_nl": 8, "mxfp4": 0}.items():
        q = quantize_ggml(np.zeros((2, 64)), name)
        assert (q.codes == code).all()
        assert (q.dequantize() == 0).all(), name


@pytest.mark.parametrize("name", BYTES)
def test_any_bytes_come_back(name: str) -> None:
    # Every byte pattern is an array, and NaN scales too.
    raw = np.random.default_rng(7).integers(0, 256, (3, 5, 4 * BYTES[name]), np.uint8)
    q = lp.from_ggml_bytes(raw, name)
    assert q.shape == (3, 5, 128)
    assert q.scale.shape == (3, 5, 4)
    assert (lp.ggml_bytes(q) == raw).all()
    flat = lp.from_ggml_bytes(raw.tobytes(), name, (15, 128))
    assert (lp.ggml_bytes(flat) == raw.reshape(15, -1)).all()
    assert q.nbytes == raw.size + (q.zero_point is not None) * (q.nbytes - raw.size)


def test_layout_by_hand() -> None:
    ramp = np.arange(32, dtype=np.uint8)
    half = np.float16(0.5).tobytes()
    low = bytes(int(j & 15) | int(j & 15) << 4 for j in range(16))
    assert lp.ggml_bytes(lp.from_ggml_bytes(half + low, "q4_0")).tobytes() == half + low
    assert (lp.from_ggml_bytes(half + low, "q4_0").codes == ramp % 16).all()
    fives = half + bytes([0, 0, 255, 255]) + low
    assert (lp.from_ggml_bytes(fives, "q5_0").codes == ramp).all()
    assert (lp.from_ggml_bytes(fives, "q5_0").dequantize() == (ramp - 16.0) / 2).all()
    ones = half + np.float16(-3).tobytes() + bytes([0, 0, 255, 255]) + low
    assert (lp.from_ggml_bytes(ones, "q5_1").dequantize() == ramp / 2 - 3).all()
    eights = half + np.arange(-16, 16, dtype=np.int8).tobytes()
    assert (lp.from_ggml_bytes(eights, "q8_0").dequantize() == (ramp - 16.0) / 2).all()
    assert (lp.from_ggml_bytes(half + low, "iq4_nl").dequantize() == np.array(ggml_slow.IQ4 * 2) / 2).all()
    assert (lp.from_ggml_bytes(bytes([128]) + low, "mxfp4").dequantize() == np.array(ggml_slow.E2M1 * 2) * 2).all()


def test_sources(data: np.ndarray) -> None:
    small = data[:64].astype(ml_dtypes.bfloat16)
    assert digest(small, "q4_0") == digest(small.astype(np.float32), "q4_0")
    assert digest(data[:64].astype(np.float64) * (1 + 2.0**-40), "q4_0") == digest(data[:64], "q4_0")
    whole = np.arange(64).reshape(2, 32)
    assert digest(whole, "q8_0") == digest(whole.astype(np.float32), "q8_0")
    assert quantize_ggml(np.zeros((0, 32)), "q4_1").shape == (0, 32)


def test_mxfp4_differs_from_the_specification() -> None:
    # Ties: GGML takes the smaller magnitude, the specification the even code.
    x = np.zeros(32, np.float32)
    x[:4] = 16.0, 14.0, -7.0, 10.0
    ggml, right = quantize_ggml(x, "mxfp4").dequantize()[:4], [16.0, 16.0, -8.0, 8.0]
    assert ggml.tolist() == [16.0, 12.0, -6.0, 8.0]
    assert [4 * lp.reference.round_to(v / 4, "e2m1fn") for v in x[:4].tolist()] == right
    # Just below a power of two, the logarithm rounds up to it.
    x[:4] = np.nextafter(np.float32(2.0**20), np.float32(0)), 0, 0, 0
    assert float(quantize_ggml(x, "mxfp4").scale[0]) == 2.0**18
    assert lp.reference.scale_exponent(float(x[0]), "e2m1fn", "floor") == 17


def test_propagate() -> None:
    x = np.ones((2, 64), np.float32)
    x[1, 40] = np.nan
    x[0, 3] = -np.inf
    for name in BYTES:
        back = quantize_ggml(x, name, nonfinite="propagate").dequantize()
        assert np.isnan(back[1, 32:]).all()
        assert np.isnan(back[0, :32]).all()
        assert np.isfinite(back[0, 32:]).all()
        assert np.isfinite(back[1, :32]).all()


def bad(message: str, kind: type[Exception], call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_bad_input() -> None:
    x, q = np.ones((2, 32), np.float32), quantize_ggml(np.ones((2, 32)), "q4_0")
    bad(r"`x` must have a last axis that is a multiple of 32 for q4_0, got shape \(2, 31\)", ValueError,
        lambda: quantize_ggml(x[:, 1:], "q4_0"))  # fmt: skip
    bad("`x` must have a last axis", ValueError, lambda: quantize_ggml(1.0, "q4_0"))
    bad("`name` must be one of .*, got 'q4_2'; the closest: ", ValueError, lambda: quantize_ggml(x, "q4_2"))
    bad("`name` must be one of .* of type int", TypeError, lambda: quantize_ggml(x, 4))
    bad("`x` must hold real numbers, got dtype complex64", TypeError, lambda: quantize_ggml(x * 1j, "q4_0"))
    bad(r"`x` must be finite in float32, got nan at \(0, 0\)", ValueError, lambda: quantize_ggml(x * np.nan, "q8_0"))
    bad("`x` must be finite in float32, got inf", ValueError, lambda: quantize_ggml(x.astype(float) * 1e300, "q8_0"))
    bad("`x` must be small enough for the float16 scales of q8_0.* got one of 78740.2", ValueError,
        lambda: quantize_ggml(x * 1e7, "q8_0"))  # fmt: skip
    bad("`x` must be small enough for the float16 scales of q4_1", ValueError, lambda: quantize_ggml(x * 1e5, "q4_1"))
    bad("`nonfinite` must be one of raise, propagate", ValueError, lambda: quantize_ggml(x, "q8_0", nonfinite="no"))
    bad("`q` must be a QuantizedArray, got ndarray", TypeError, lambda: lp.ggml_bytes(x))
    bad("`q` must be in one of the formats q8_0, ", ValueError, lambda: lp.ggml_bytes(q.T))
    bad("`data` must be of dtype uint8, got float32", TypeError, lambda: lp.from_ggml_bytes(x, "q4_0"))
    bad("`data` must have a last axis of blocks of 18 bytes for q4_0", ValueError,
        lambda: lp.from_ggml_bytes(bytes(17), "q4_0"))  # fmt: skip
    bad(r"`shape` must have 32 elements .* got \(2, 16\)", ValueError,
        lambda: lp.from_ggml_bytes(bytes(18), "q4_0", (2, 16)))  # fmt: skip


# ------------------------------------------------------------------------------------------------------- planted bugs
def with_half(scale: np.ndarray) -> np.ndarray:
    """Return the reciprocal of the stored scale."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(inverse), inverse, np.float32(0))


def smaller(x: np.ndarray) -> np.ndarray:
    """Send ties of IQ4_NL to the smaller value."""
    table = np.array(ggml_slow.IQ4, np.float32)
    return np.searchsorted((table[:-1] + table[1:]) / 2, x, side="left")


@pytest.mark.parametrize(
    ("name", "where", "bug"),
    [
        ("q4_0", "_reciprocal", with_half),
        ("q4_1", "_reciprocal", with_half),
        ("iq4_nl", "_nearest", smaller),
        ("iq4_nl", "_TRIES", 6),
        ("iq4_nl", "_TRIES", -1),
    ],
)
def test_planted(data: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str, where: str, bug: object) -> None:
    monkeypatch.setattr(_ggml_rules, where, bug)
    assert digest(data, name) != DIGESTS[name]


def test_the_twin_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml_slow, "inverse", lambda d: 1 / d if d else Fraction(0))
    with pytest.raises(AssertionError):
        assert_twin(edge_blocks() + ggml_slow.blocks(64)["even"].tolist(), "q4_0")
