"""sparsify against torch's and torchao's sparsifiers, and against the rules of modelopt and apex, written anew.

nvidia-modelopt and apex are no packages that a test can install next to these; what they do is a few lines. Where an
oracle departs from the definition, the test says how, asks for exactly that, and lets nothing else through.
"""

from __future__ import annotations

import itertools
import logging
import warnings
from typing import Any

import numpy as np
import pytest
import sparsify_slow as slow

import lowprec as lp

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch")


def sparsified(torch: Any, sparsifier: Any, w: Array, x: Array | None = None) -> Array:
    """Return the mask that a sparsifier of torch makes for a linear layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.nn.Sequential(torch.nn.Linear(w.shape[1], w.shape[0], bias=False))
        model[0].weight.data = torch.from_numpy(w)
        sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
        if x is not None:
            model(torch.from_numpy(x))
        sparsifier.step()
        return np.asarray(model[0].parametrizations.weight[0].mask.bool().numpy())


def without_ties(groups: Array) -> Array:
    """Say which groups of four have four different magnitudes."""
    size = np.sort(np.abs(groups.reshape(-1, 4)), axis=1)
    return np.asarray((np.diff(size, axis=1) > 0).all(axis=1))


@pytest.mark.oracles
@pytest.mark.parametrize("shape", [(64, 256), (33, 100)])
def test_weight_norm_sparsifier(torch: Any, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Masks are identical; it ranks by squares, which tell float32 numbers apart that do not under- or overflow."""
    w = rng.standard_normal(shape).astype(np.float32)
    assert without_ties(w).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.pruning import WeightNormSparsifier

        sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    np.testing.assert_array_equal(sparsified(torch, sparsifier, w), lp.sparsity_mask(w))


@pytest.mark.oracles
def test_torchao_wanda(torch: Any, rng: np.random.Generator) -> None:
    """It ranks by |w| times the sum of squares and not its root: our mask of those scores, and not our Wanda's."""
    logging.disable(logging.WARNING)  # it tells of CUDA extensions that cannot be loaded
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("torchao")
            from torchao.sparsity import WandaSparsifier

            sparsifier = WandaSparsifier(semi_structured_block_size=4)
    finally:
        logging.disable(logging.NOTSET)
    w = rng.standard_normal((64, 256)).astype(np.float32)
    x = (rng.standard_normal((100, 256)) * rng.exponential(size=256)).astype(np.float32)
    got = sparsified(torch, sparsifier, w, x)
    squares = np.square(x.astype(np.float64)).sum(axis=0)
    np.testing.assert_array_equal(got, lp.sparsity_mask(w, criterion=np.abs(w) * squares))
    mine = lp.sparsity_mask(w, criterion="wanda", activations=x)
    np.testing.assert_array_equal(mine, lp.sparsity_mask(w, criterion=np.abs(w) * np.sqrt(squares)))
    assert (mine != got).any()


def m4n2_1d(w: Array) -> Array:
    """Do what modelopt 0.47 and apex do: the pattern of the largest sum in float32, patterns in the order of a set."""
    patterns = np.array(list(set(itertools.permutations([1.0, 1.0, 0.0, 0.0]))), np.float32)
    groups = np.abs(w.reshape(-1, 4)).astype(np.float32)
    return np.asarray(patterns[np.argmax(groups @ patterns.T, axis=1)].reshape(w.shape) > 0)


def test_modelopt_m4n2_1d(rng: np.random.Generator) -> None:
    """Masks are identical but for ties, of which it takes the first in its own order; what is kept is as large."""
    w = rng.standard_normal((256, 512)).astype(np.float32)
    assert without_ties(w).all()
    np.testing.assert_array_equal(m4n2_1d(w), lp.sparsity_mask(w))
    ties = np.array(list(itertools.product(range(3), repeat=4)), np.float32)
    theirs, mine = m4n2_1d(ties), lp.sparsity_mask(ties)
    np.testing.assert_array_equal(theirs[without_ties(ties)], mine[without_ties(ties)])
    np.testing.assert_array_equal((ties * theirs).sum(axis=1), (ties * mine).sum(axis=1))


def m4n2_2d_best(w: Array) -> Array:
    """Do what apex does: the pattern of the largest sum of each tile, from a product with all 90."""
    patterns = np.array(slow.tile_patterns(), np.float64).reshape(90, 16)
    rows, columns = w.shape
    tiles = np.abs(w).reshape(rows // 4, 4, columns // 4, 4).swapaxes(1, 2).reshape(-1, 16)
    best = patterns[np.argmax(tiles @ patterns.T, axis=1)]
    return np.asarray(best.reshape(rows // 4, columns // 4, 4, 4).swapaxes(1, 2).reshape(w.shape) > 0)


def m4n2_2d_greedy(w: Array) -> Array:
    """Do what apex does: entries of a tile from the largest on, while row and column have less than two."""
    mask = np.zeros(w.shape, bool)
    for top, left in itertools.product(range(0, w.shape[0], 4), range(0, w.shape[1], 4)):
        tile = np.abs(w[top : top + 4, left : left + 4])
        rows, columns = [0] * 4, [0] * 4
        for place in reversed(np.argsort(tile, axis=None)):
            r, c = divmod(int(place), 4)
            if rows[r] < 2 and columns[c] < 2:
                mask[top + r, left + c] = True
                rows[r] += 1
                columns[c] += 1
    return mask


def test_apex_tiles(rng: np.random.Generator) -> None:
    """Identical for numbers without ties."""
    w = rng.standard_normal((128, 160))
    np.testing.assert_array_equal(m4n2_2d_best(w), lp.sparsity_mask(w, transposable="best"))
    np.testing.assert_array_equal(m4n2_2d_greedy(w), lp.sparsity_mask(w, transposable="greedy"))
