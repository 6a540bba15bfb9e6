"""GGML's formats against the gguf package, and against the file of a language model."""

from __future__ import annotations

import warnings
from typing import Any

import ggml_slow
import numpy as np
import pytest
import smollm

import lowprec as lp
from lowprec.quantizers import quantize_ggml

pytestmark = pytest.mark.oracles

BOTH = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "mxfp4")


@pytest.fixture(scope="module")
def gguf() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    found = ggml_slow.blocks()
    normal = np.random.default_rng(3).standard_normal((8192, 32), dtype=np.float32)
    return np.concatenate([*found.values(), normal, np.zeros((1, 32), np.float32)]).reshape(-1, 32)


@pytest.mark.parametrize("name", BOTH)
def test_gguf_quantises_the_same(gguf: Any, data: np.ndarray, name: str) -> None:
    with np.errstate(all="ignore"):
        want = gguf.quants.quantize(data, gguf.GGMLQuantizationType[name.upper()])
    q = quantize_ggml(data, name)
    assert data.size > 1_300_000
    assert np.array_equal(lp.ggml_bytes(q), want)


@pytest.mark.parametrize("name", [*BOTH, "iq4_nl"])
def test_gguf_dequantises_the_same(gguf: Any, data: np.ndarray, name: str) -> None:
    kind = gguf.GGMLQuantizationType[name.upper()]
    made = lp.ggml_bytes(quantize_ggml(data, name))
    raw = np.random.default_rng(9).integers(0, 256, (4096, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    for rows in (made, raw):  # random bytes hold infinite and NaN scales too
        with np.errstate(all="ignore"):
            want = gguf.quants.dequantize(rows, kind)
            got = lp.from_ggml_bytes(rows, name).dequantize()
        # gguf reads the byte 255 of an E8M0 scale as 2**128, which the specification calls NaN.
        same = (rows[:, :1] != 255) if name == "mxfp4" else np.full((len(rows), 1), True)
        assert np.array_equal(*(np.where(same, each, 0) for each in (got, want)), equal_nan=True)
        if not same.all():
            assert np.isnan(got[~same[:, 0]]).all()


def test_mxfp4_is_read_as_the_specification_says(data: np.ndarray) -> None:
    # The bytes of GGML and the array that `quantize` makes are one format.
    q = lp.quantize(data, "mxfp4")
    back = lp.from_ggml_bytes(lp.ggml_bytes(q), "mxfp4")
    assert np.array_equal(back.codes, q.codes)
    assert np.array_equal(back.scale.view(np.uint8), q.scale.view(np.uint8))
    ggml = quantize_ggml(data, "mxfp4")
    assert np.array_equal(ggml.scale.view(np.uint8), q.scale.view(np.uint8))
    # Where the elements differ, they are ties, and GGML's is the smaller magnitude; or zeros, where GGML has no sign.
    one, other = ggml.dequantize(), q.dequantize()
    differ = one != other
    x, step = data[differ].astype(np.float64), np.repeat(q.scale.astype(np.float64), 32, axis=-1)[differ]
    assert 0 < np.count_nonzero(differ) < data.size // 20
    assert np.array_equal(np.abs(x) / step, (np.abs(one[differ]) + np.abs(other[differ])) / 2 / step)
    assert (np.abs(one[differ]) < np.abs(other[differ])).all()
    zeros = ~differ & (ggml.codes != q.codes)
    assert (ggml.codes[zeros] == 0).all()
    assert (q.codes[zeros] == 8).all()


def test_a_model_comes_back_byte_for_byte() -> None:
    if smollm.missing():
        pytest.skip(smollm.missing())
    model = smollm.load()
    names = model.names("Q4_1")
    assert len(names) == 210
    values = 0
    for name in names[::7]:
        raw = model.raw(name)
        weight = lp.from_ggml_bytes(raw, "q4_1").dequantize()
        assert np.array_equal(weight, model.weight(name))
        assert np.array_equal(lp.ggml_bytes(lp.quantize(weight, "q4_1")), raw), name
        values += weight.size
    assert values > 14_000_000
    name = model.names("Q8_0")[0]
    rows = model.raw(name)[:4096]
    weight = lp.from_ggml_bytes(rows, "q8_0").dequantize()
    assert np.array_equal(lp.ggml_bytes(lp.quantize(weight, "q8_0")), rows)
