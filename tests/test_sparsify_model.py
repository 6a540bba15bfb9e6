"""2:4 on one real layer: the order of the criteria's errors on text that none of them has seen."""

from __future__ import annotations

import numpy as np
import pytest
import smollm

import lowprec as lp
from lowprec.quantizers._compensation import factor

pytestmark = [pytest.mark.oracles, pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")]
LAYER, LENGTH, CALIBRATION, HELD_OUT = 1, 128, 16, 4


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    """Return what goes into two matrices of SmolLM2 for 2048 tokens and for the 512 after them."""
    windows = smollm.load().tokens(smollm.text())[: (CALIBRATION + HELD_OUT) * LENGTH].reshape(-1, LENGTH)
    keys = {kind: (LAYER, smollm.INPUTS[kind]) for kind in ("ffn_up", "attn_output")}
    seen = smollm.load().forward(windows, layers=LAYER + 1, capture=set(keys.values()))[1]
    return {kind: seen[key].astype(np.float64) for kind, key in keys.items()}


def error(w: np.ndarray, s: lp.Sparse24, x: np.ndarray) -> float:
    """Return the squared error of the outputs as a share of their squares."""
    return float(np.square(x @ (s.to_dense() - w).T).sum() / np.square(x @ w.T).sum())


@pytest.mark.parametrize("kind", ["ffn_up", "attn_output"])
def test_order(kind: str, inputs: dict[str, np.ndarray]) -> None:
    """SparseGPT < Wanda < magnitude, and the same for masks along both axes."""
    w = smollm.load().weight(f"blk.{LAYER}.{kind}.weight").astype(np.float64)
    x, held_out = inputs[kind][: CALIBRATION * LENGTH], inputs[kind][CALIBRATION * LENGTH :]
    plain = error(w, lp.sparsify(w), held_out)
    wanda = error(w, lp.sparsify(w, criterion="wanda", activations=x), held_out)
    corrected = error(w, lp.sparsify(w, criterion="sparsegpt", activations=x), held_out)
    assert corrected < wanda < plain
    tiles = error(w, lp.sparsify(w, transposable="best"), held_out)
    both = error(w, lp.sparsify(w, criterion="sparsegpt", activations=x, transposable="best"), held_out)
    assert plain < tiles
    assert corrected < both < tiles


@pytest.mark.parametrize("kind", ["ffn_up", "attn_output"])
def test_diagonals_foretell_the_errors(kind: str, inputs: dict[str, np.ndarray]) -> None:
    """On calibration data the errors are the sums, over what is dropped, of w**2 H[j, j], and of w**2 / U[j, j]**2.

    So they would be if the weights of a row were independent; those of these layers are nearly so.
    """
    w = smollm.load().weight(f"blk.{LAYER}.{kind}.weight").astype(np.float64)
    x = inputs[kind][: CALIBRATION * LENGTH]
    hessian, reference = x.T @ x, np.square(x @ w.T).sum()
    diagonal, pivots = np.diag(hessian), np.diag(factor(hessian, 0.01)) ** -2.0
    for criterion, costs in (("wanda", w**2 * diagonal), ("sparsegpt", w**2 * pivots)):
        dropped = costs[~lp.sparsity_mask(w, criterion=costs)].sum() / reference
        made = lp.sparsify(w, criterion=criterion, hessian=hessian)
        assert error(w, made, x) == pytest.approx(dropped, rel=0.15)
