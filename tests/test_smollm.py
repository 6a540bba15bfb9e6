"""The real model that tests take weights and activations from: its tokens, its perplexity, what it says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import smollm

pytestmark = [pytest.mark.oracles, pytest.mark.skipif(bool(smollm.missing()), reason=smollm.missing() or "there")]


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return smollm.load().tokens(smollm.text())


def test_file_is_the_one_that_the_numbers_were_measured_on() -> None:
    assert hashlib.sha256(smollm.load().path.read_bytes()).hexdigest().startswith(smollm.GGUF_SHA256)


def test_tokens(tokens: np.ndarray) -> None:
    model = smollm.load()
    assert tokens.size == smollm.TOKENS
    assert model.text(tokens) == smollm.text()


def test_perplexity(tokens: np.ndarray) -> None:
    windows = (2, 64)
    got = smollm.load().perplexity(tokens[: np.prod(windows)].reshape(windows))
    # The tolerance that comes with these four-decimal numbers: float32 sums in the order of whatever BLAS.
    assert got == pytest.approx(smollm.PERPLEXITIES[windows], abs=5e-4)


def test_it_speaks() -> None:
    model = smollm.load()
    logits = model.logits(model.tokens("The capital of France is")[None])
    assert model.text([logits[0, -1].argmax()]) == " Paris"


def test_capture_is_what_the_product_sees(tokens: np.ndarray) -> None:
    """Doubling a matrix's weights doubles what goes into the next one: the names stand for the places meant."""
    model, windows = smollm.load(), tokens[:32].reshape(1, 32)
    keys = {(0, "attn_norm"), (0, "attn_heads"), (0, "ffn_norm"), (0, "ffn_hidden")}
    twice = {"blk.0.ffn_up.weight": model.weight("blk.0.ffn_up.weight") * 2}
    plain, changed = (model.forward(windows, layers=1, capture=keys, weights=w)[1] for w in (None, twice))
    np.testing.assert_array_equal(changed[0, "ffn_hidden"], plain[0, "ffn_hidden"] * 2)
    np.testing.assert_array_equal(changed[0, "ffn_norm"], plain[0, "ffn_norm"])
    assert {key: value.shape for key, value in plain.items()} == {
        key: (32, 1536 if key[1] == "ffn_hidden" else 576) for key in keys
    }
