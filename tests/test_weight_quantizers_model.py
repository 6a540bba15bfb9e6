"""Quantisers of weights on one real layer: the order of their errors, and what the Hessian foretells of GPTQ's."""

from __future__ import annotations

import numpy as np
import pytest
import smollm

from lowprec.quantizers import _gptq, awq, gptq, hqq, mse_clip, round_to_nearest
from lowprec.quantizers._settings import moment, squared

pytestmark = [pytest.mark.oracles, pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")]
LAYER, KIND, LENGTH, CALIBRATION, HELD_OUT = 1, "ffn_up", 128, 16, 4


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a weight of SmolLM2, what goes into it for 2048 tokens, and for the 512 after them."""
    model = smollm.load()
    windows = model.tokens(smollm.text())[: (CALIBRATION + HELD_OUT) * LENGTH].reshape(-1, LENGTH)
    x = smollm.activations(LAYER, KIND, windows)
    return model.weight(f"blk.{LAYER}.{KIND}.weight"), x[: CALIBRATION * LENGTH], x[CALIBRATION * LENGTH :]


@pytest.mark.parametrize("block", [32, 128])
def test_order_at_int4(block: int, layer: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """GPTQ < AWQ < MSE-clip < rounding, on text that none of them has seen."""
    w, x, held_out = layer
    plain = round_to_nearest(w, x, "int4", block_size=block).error(w, held_out)
    clipped = mse_clip(w, x, "int4", block_size=block).error(w, held_out)
    aware = awq(w, x, "int4", block_size=block, progress=False).error(w, held_out)
    corrected = gptq(w, x, "int4", block_size=block, progress=False).error(w, held_out)
    assert corrected < aware < clipped < plain


def test_pivots_foretell_gptq(layer: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Where all steps are equal, GPTQ's gain over rounding is the sum of the Hessian's pivots over its trace."""
    w, x, _ = layer
    level = np.random.default_rng(0).uniform(-1, 1, w.shape).astype(np.float32)
    level[:, ::32] = 1  # every group of 32 has the same largest number
    hessian = moment(x)
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    pivots = np.diag(_gptq.factor(hessian, 0)) ** -2.0
    how = {"block_size": 32}
    got, plain = (
        squared(made.dequantize(np.float64) - level, hessian).sum()
        for made in (
            gptq(level, x, "int8", static_groups=True, progress=False, **how),
            round_to_nearest(level, x, "int8", **how),
        )
    )
    assert got / plain == pytest.approx(pivots.sum() / np.trace(hessian), rel=0.1)


def test_affine_groups_lose_nothing(layer: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The file holds 4-bit codes with a scale and a minimum for each 32: HQQ, which has an offset, finds them again."""
    w, x, held_out = layer
    assert hqq(w, x, "uint4", block_size=32).error(w, held_out) < 1e-12
