"""Quantisers of weights against their definitions in plain NumPy and plain Python."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from test_public_api import faults

import lowprec as lp
from lowprec.quantizers import (
    Divide,
    Rotation,
    _gptq,
    _hadamard,
    awq,
    gptq,
    hadamard,
    hqq,
    mse_clip,
    round_to_nearest,
    smoothquant,
)

Method = Callable[..., Any]
METHODS: dict[str, Method] = {
    "round_to_nearest": round_to_nearest,
    "mse_clip": mse_clip,
    "gptq": lambda w, x, fmt, **how: gptq(w, x, fmt, progress=False, **how),
    "awq": lambda w, x, fmt, **how: awq(w, x, fmt, progress=False, **how),
    "smoothquant": smoothquant,
    "hadamard": hadamard,
}
FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("int4", {"block_size": 32}),
    ("int3", {}),
    ("int8", {"block_size": 48, "divisor": 127.5, "scale_dtype": "bf16"}),
    ("uint4", {"block_size": 32, "symmetric": False}),
    ("e4m3fn", {"block_size": 32}),
    ("mxfp4", {"scale_rule": "rceil"}),
    ("mxint8", {}),
    ("nvfp4", {}),
    ("nf4", {}),
    ("int4", {"block_size": 100}),  # 100 and 28: the last block is shorter
]
INPUTS, TOKENS = 128, 400


@pytest.fixture
def layer(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a weight, calibration activations that hang together and have outliers, and others of the same kind."""
    w = rng.standard_normal((40, INPUTS)).astype(np.float32)
    mix = rng.standard_normal((24, INPUTS)) * rng.exponential(size=INPUTS) ** 2
    x = rng.standard_normal((2 * TOKENS, 24)) @ mix + 0.05 * rng.standard_normal((2 * TOKENS, INPUTS))
    x = x.astype(np.float32)
    return w, x[:TOKENS], x[TOKENS:]


# ------------------------------------------------------------------------------------------------------ what all share
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("fmt", "how"), FORMATS)
def test_result(name: str, fmt: str, how: dict[str, Any], layer: Any) -> None:
    """Shapes and formats are as asked; the effective weight, the layer's output and the error tell the same story."""
    w, x, held_out = layer
    method = partial(METHODS[name], grid=3) if name == "awq" else METHODS[name]
    made = method(w, x, fmt, **how)
    want = lp.quantize(w, fmt, axis=1 if "block_size" in how else 0 if fmt == "int3" else -1, **how)
    got = made.weight
    assert (got.shape, got.format, got.axis, got.block_size) == (w.shape, want.format, want.axis, want.block_size)
    assert (got.scale.shape, got.scale.dtype, got.nbytes) == (want.scale.shape, want.scale.dtype, want.nbytes)
    assert (got.zero_point is None) == (want.zero_point is None)
    assert (got.tensor_scale is None) == (want.tensor_scale is None)
    effective = made.dequantize(np.float64)
    output = held_out @ w.T.astype(np.float64)
    wrong = held_out @ effective.T - output
    # Sums of squares in float32 against float64 here: 2**-24 times the square root of their number is below 1e-6.
    assert made.error(w, held_out) == pytest.approx(np.sum(wrong**2) / np.sum(output**2), rel=1e-6)
    # float32 sums of K terms are off by K * 2**-24 of the sum of magnitudes at most, here below 2e-4 of the largest.
    np.testing.assert_allclose(made.linear(held_out), held_out @ effective.T, rtol=0, atol=2e-4 * np.abs(output).max())
    assert made.error(w, held_out) < 0.5
    assert method(w, x, fmt, **how).weight.codes.tobytes() == got.codes.tobytes()
    assert name in repr(made)


@pytest.mark.parametrize("name", METHODS)
def test_codes_are_the_nearest_for_their_scales(name: str, layer: Any) -> None:
    """All but GPTQ, which must not: each code is that of the transformed weight, clipped or not."""
    w, x, _ = layer
    made = METHODS[name](w, x, "int4", block_size=32)
    moved = w if made.transform is None else made.transform.weight(w)
    nearest = lp.quantize(moved, "int4", axis=1, block_size=32, scale=made.weight.scale).codes
    assert np.array_equal(nearest, made.weight.codes) == (name != "gptq")


@pytest.mark.parametrize("name", ["mse_clip", "gptq", "awq"])
def test_better_than_rounding(name: str, layer: Any) -> None:
    w, x, held_out = layer
    for fmt, block in (("int4", 32), ("int3", 64), ("e2m1fn", 32)):
        plain = round_to_nearest(w, x, fmt, block_size=block).error(w, held_out)
        assert METHODS[name](w, x, fmt, block_size=block).error(w, held_out) < plain


def test_rotation_spreads_outliers(layer: Any) -> None:
    w, x, held_out = layer
    w = np.where(np.arange(INPUTS) % 32 == 5, 20, 1) * w
    plain, turned = (method(w, x, "int4", block_size=32) for method in (round_to_nearest, hadamard))
    assert turned.error(w, held_out) < 0.3 * plain.error(w, held_out)


def test_round_to_nearest_is_quantize(layer: Any) -> None:
    w = layer[0]
    got = round_to_nearest(w, None, "int4", block_size=32, calibration="percentile")
    want = lp.quantize(w, "int4", axis=1, block_size=32, calibration="percentile")
    np.testing.assert_array_equal(got.dequantize(), want.dequantize())
    assert got.transform is None


def test_mse_clip_has_the_least_error_of_the_weight(layer: Any) -> None:
    w = layer[0]
    got, plain = (method(w, None, "int3", block_size=32).weight for method in (mse_clip, round_to_nearest))
    for ratio in (0.6, 0.7, 0.8, 0.9, 1):
        other = lp.quantize(w, "int3", axis=1, block_size=32, scale=np.float32(ratio) * plain.scale)
        errors = [((q.dequantize() - w) ** 2).reshape(40, 4, 32).sum(axis=-1) for q in (got, other)]
        assert (errors[0] <= errors[1] * (1 + 1e-5)).all()


# ---------------------------------------------------------------------------------------------------------------- GPTQ
def slow_gptq(w: np.ndarray, x: np.ndarray, fmt: str, block: int, order: list[int], static: bool) -> np.ndarray:
    """Return dequantised weights by the definition: H inverted and eliminated column by column (OBQ), no blocks."""
    h = 2 * x.T.astype(np.float64) @ x / len(x)
    h += 0.01 * np.diag(h).mean() * np.eye(len(h))
    for dead in np.flatnonzero(~x.any(axis=0)):
        h[dead, dead] += 1
    inverse, rest, done = np.linalg.inv(h), w.astype(np.float64), np.zeros_like(w, dtype=np.float64)
    scales: dict[int, Any] = {}
    for j in order:
        group = j // block
        if group not in scales:
            own = (w if static else rest)[:, group * block : (group + 1) * block].astype(w.dtype)
            scales[group] = lp.quantize(own, fmt, axis=1, block_size=own.shape[1]).scale
        column = rest[:, [j]].astype(w.dtype)
        done[:, j] = lp.quantize(column, fmt, axis=1, block_size=1, scale=scales[group]).dequantize(np.float64)[:, 0]
        error = (rest[:, j] - done[:, j]) / inverse[j, j]
        rest -= np.outer(error, inverse[j])
        rest[:, j] = done[:, j]
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]  # the inverse without input j
        inverse[j, j] = 1
    return done


@pytest.mark.parametrize("columns", [1, 7, 128])
@pytest.mark.parametrize(("block", "act_order"), [(32, False), (100, False), (128, False), (32, True)])
@pytest.mark.parametrize("fmt", ["int4", "e2m1fn"])
def test_gptq_is_obq_in_a_fixed_order(columns: int, block: int, act_order: bool, fmt: str, layer: Any) -> None:
    w, x, _ = layer
    x = x.copy()
    x[:, 5] = 0  # a dead input
    size = np.mean(x.astype(np.float64) ** 2, axis=0) if act_order else np.zeros(INPUTS)
    order = np.argsort(-size, kind="stable").tolist()
    got = gptq(w, x, fmt, block_size=block, columns=columns, act_order=act_order, progress=False)
    want = slow_gptq(w, x, fmt, block, order, static=act_order)
    # Scales are float32: 2**-24 each; a wrong code would be off by a seventh.
    equal = np.isclose(got.dequantize(np.float64), want, rtol=1e-6, atol=1e-9)
    assert equal.all(axis=1).mean() > 0.9  # one number near a midpoint may fall to the other side, and changes its row


def test_gptq_without_correlation_is_rounding(rng: np.random.Generator) -> None:
    """A diagonal Hessian spreads nothing: every code is that of `quantize`, in every format."""
    w = rng.standard_normal((30, INPUTS)).astype(np.float32)
    x = np.diag(rng.exponential(size=INPUTS))
    for fmt, how in FORMATS:
        got, want = gptq(w, x, fmt, progress=False, **how), round_to_nearest(w, x, fmt, **how)
        np.testing.assert_array_equal(got.weight.codes, want.weight.codes, err_msg=fmt)
        np.testing.assert_array_equal(got.weight.scale, want.weight.scale, err_msg=fmt)
        np.testing.assert_array_equal(got.dequantize(), want.dequantize(), err_msg=fmt)


@pytest.mark.parametrize("static", [False, True])
def test_gptq_static_groups(static: bool, layer: Any) -> None:
    w, x, _ = layer
    got = gptq(w, x, "int4", block_size=32, static_groups=static, progress=False).weight.scale
    plain = round_to_nearest(w, x, "int4", block_size=32).weight.scale
    assert np.array_equal(got, plain) == static
    np.testing.assert_array_equal(got[:, 0], plain[:, 0])


def test_gptq_keeps_what_is_representable(rng: np.random.Generator) -> None:
    """A weight on the grid has no error to spread."""
    grid = lp.quantize(rng.standard_normal((20, 64)).astype(np.float32), "int4", axis=1, block_size=32)
    made = gptq(grid.dequantize(), rng.standard_normal((200, 64)), "int4", block_size=32, progress=False)
    np.testing.assert_array_equal(made.weight.codes, grid.codes)


def test_factor(layer: Any) -> None:
    x = layer[1].astype(np.float64)
    h = 2 * x.T @ x / len(x)
    upper = _gptq.factor(h, 0.01)
    damped = h + 0.01 * np.diag(h).mean() * np.eye(INPUTS)
    assert np.array_equal(upper, np.triu(upper))
    # float64, of a matrix whose condition damping holds below 1e5: 1e5 * 2**-53 times the number of inputs.
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(INPUTS), atol=1e-9)
    inverse = np.linalg.cholesky(np.linalg.inv(damped)).T
    np.testing.assert_allclose(upper, inverse, rtol=1e-6, atol=1e-9 * np.abs(upper).max())


# ----------------------------------------------------------------------------------------------------------------- AWQ
def test_awq_takes_the_best_exponent(layer: Any) -> None:
    """The chosen scales are those of one of 20 exponents, and no other has a smaller calibration error."""
    w, x, _ = layer
    made = awq(w, x, "int4", block_size=32, clip=False, progress=False)
    size = np.abs(x).mean(axis=0, dtype=np.float64)
    tried = []
    for a in np.arange(20) / 20:
        s = size**a
        s = (s / np.sqrt(s.max() * s.min())).astype(np.float32)
        back = lp.quantize(w * s, "int4", axis=1, block_size=32).dequantize(np.float64) / s
        tried.append((np.sum((x @ (back - w).T) ** 2), s))
    best = min(tried, key=lambda each: each[0])
    # Scales are rounded to float32.
    np.testing.assert_allclose(made.transform.scale, best[1], rtol=1e-6)
    assert made.error(w, x) * np.sum((x.astype(np.float64) @ w.T) ** 2) == pytest.approx(best[0], rel=1e-5)


def test_awq_clip_is_the_best_for_each_block(layer: Any) -> None:
    w, x, _ = layer
    made = awq(w, x, "int4", block_size=32, grid=1, progress=False)  # one exponent, 0: no scales
    np.testing.assert_array_equal(made.transform.scale, 1)
    least = np.full((40, 4), np.inf)
    chosen = np.zeros((40, 4))
    for ratio in [1 - i / 20 for i in range(11)]:
        top = np.abs(w).reshape(40, 4, 32).max(axis=-1).repeat(32, axis=1) * np.float32(ratio)
        q = lp.quantize(np.clip(w, -top, top), "int4", axis=1, block_size=32)
        part = np.einsum("tgi,rgi->trg", x.reshape(-1, 4, 32), (q.dequantize() - w).reshape(40, 4, 32))
        error = (part.astype(np.float64) ** 2).mean(axis=0)
        better = error < least * (1 - 1e-6)
        least[better], chosen[better] = error[better], q.scale[better]
    assert (np.abs(made.weight.scale - chosen) < 1e-6 * chosen).mean() > 0.98


def test_awq_without_activations_is_rounding(layer: Any) -> None:
    w = layer[0]
    made = awq(w, np.zeros((3, INPUTS)), "int4", block_size=32, progress=False)
    np.testing.assert_array_equal(made.dequantize(), round_to_nearest(w, None, "int4", block_size=32).dequantize())


# --------------------------------------------------------------------------------------------- SmoothQuant, transforms
@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_smoothquant(alpha: float, layer: Any) -> None:
    w, x, _ = layer
    x, w = x.copy(), w.copy()
    x[:, 3], w[:, 9] = 0, 0
    made = smoothquant(w, x, "int8", alpha=alpha)
    for j in range(INPUTS):
        top, column = float(np.abs(x[:, j]).max()), float(np.abs(w[:, j]).max())
        want = top**alpha / column ** (1 - alpha) if top and column else 1
        assert made.transform.scale[j] == pytest.approx(want, rel=1e-6)


def test_smoothquant_helps_quantised_activations(layer: Any) -> None:
    w, x, held_out = layer
    held_out = held_out.astype(np.float64)
    want = held_out @ w.T

    def error(made: Any) -> float:
        moved = held_out if made.transform is None else made.transform.apply(held_out)
        seen = lp.quantize(moved, "int8").dequantize(np.float64)
        return float(np.sum((seen @ made.weight.dequantize(np.float64).T - want) ** 2))

    assert error(smoothquant(w, x, "int8")) < error(round_to_nearest(w, x, "int8"))


TRANSFORMS = {
    "divide": lambda n: Divide(np.linspace(0.1, 3, n)),
    "rotation": Rotation,
    "blocks": lambda n: Rotation(n, block=4, rng=1),
    "signs": lambda n: Rotation(n, rng=0),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform(name: str, rng: np.random.Generator) -> None:
    """The layer does not change, `undo` undoes `weight`, and folding into the layer before works."""
    turn, x, w = TRANSFORMS[name](24), rng.standard_normal((2, 5, 24)), rng.standard_normal((7, 24))
    # Rotations in float64, rounded to float32: 2**-24 of numbers of size 1 to 10.
    np.testing.assert_allclose(turn.apply(x) @ turn.weight(w).T, x @ w.T, atol=1e-6)
    np.testing.assert_allclose(turn.undo(turn.weight(w)), w, atol=1e-6)
    before, bias, z = rng.standard_normal((24, 11)), rng.standard_normal(24), rng.standard_normal((6, 11))
    np.testing.assert_allclose(z @ turn.fold(before).T + turn.fold(bias), turn.apply(z @ before.T + bias), atol=1e-6)
    for method in (turn.apply, turn.weight, turn.undo):
        assert method(np.ones((1, 24), np.float32)).dtype == np.float32
        with pytest.raises(ValueError, match="must have 24 features on its last axis"):
            method(np.ones((24, 23)))
    with pytest.raises(ValueError, match="`previous` must have 24 outputs on its first axis"):
        turn.fold(np.ones((23, 24)))
    with pytest.raises(ValueError, match=r"`x` must be finite, got nan at index \(0, 3\)"):
        turn.apply(np.where(np.arange(24) == 3, np.nan, 1)[None])


@pytest.mark.parametrize("n", [1, 2, 12, 20, 24, 28, 36, 44, 128, 576, 1536])
def test_hadamard_matrices(n: int) -> None:
    h = _hadamard.matrix(n).astype(np.float32)  # sums of integers below 2**24 are exact
    assert (np.abs(h) == 1).all()
    np.testing.assert_array_equal(h @ h.T, n * np.eye(n))


def test_rotation_sizes() -> None:
    assert _hadamard.matrix(6) is None
    assert _hadamard.matrix(92) is None
    assert (Rotation(6).block, Rotation(92).block, Rotation(7).block) == (2, 4, 1)
    assert np.array_equal(Rotation(64, rng=5).signs, Rotation(64, rng=np.random.default_rng(5)).signs)
    assert not np.array_equal(Rotation(64, rng=5).signs, Rotation(64, rng=6).signs)


# ----------------------------------------------------------------------------------------------------------------- HQQ
def slow_hqq(block: np.ndarray, top: int) -> tuple[float, float]:
    """Return scale and zero of one block, by the formulas."""
    scale = (block.max() - block.min()) / top
    zero = best = -block.min() / scale
    least, beta = np.inf, 10.0
    for _ in range(21):
        q = np.clip(np.round(block / scale + zero), 0, top)
        d = block - scale * (q - zero)
        if np.abs(d).mean() < least:
            least, best = np.abs(d).mean(), zero
        shrunk = [np.sign(v) * max(abs(v) - abs(v) ** -0.3 / beta, 0) if v else 0.0 for v in d]
        zero = np.mean(q - (block - shrunk) / scale)
        beta *= 1.01
    return scale, best


@pytest.mark.parametrize(("fmt", "block"), [("uint4", 32), ("int3", 100), ("uint2", None)])
def test_hqq(fmt: str, block: int | None, layer: Any) -> None:
    w = layer[0].astype(np.float64)
    made = hqq(w, None, fmt, block_size=block)
    element, length = lp.format(fmt), block or INPUTS
    for row in (0, 17):
        for group, begin in enumerate(range(0, INPUTS, length)):
            part = w[row, begin : begin + length]
            scale, zero = slow_hqq(part, 2**element.bits - 1)
            place = (row, group) if block else row
            assert made.weight.scale[place] == pytest.approx(scale, rel=1e-6)
            assert made.weight.offset[place] == pytest.approx(-(zero + element.min) * scale, rel=1e-5, abs=1e-6)
    plain = round_to_nearest(w, None, "uint" + fmt[-1], block_size=block, symmetric=False)
    assert made.error(w, layer[2]) < plain.error(w, layer[2]) * 1.02


def test_hqq_of_equal_numbers_is_exact() -> None:
    np.testing.assert_array_equal(hqq(np.full((2, 8), 3.25), None, "uint4", block_size=4).dequantize(), 3.25)


# --------------------------------------------------------------------------------------------------- learned codebooks
def slow_clusters(x: list[float], k: int) -> float:
    """Return the least squared error of k clusters of consecutive numbers, by trying every cut."""
    x = sorted(x)

    def cost(part: list[float]) -> float:
        middle = sum(part) / len(part)
        return sum((v - middle) ** 2 for v in part)

    def best(end: int, used: int) -> float:
        if used == 1:
            return cost(x[:end])
        return min(best(cut, used - 1) + cost(x[cut:end]) for cut in range(used - 1, end))

    return best(len(x), k)


def test_codebook_of_few_numbers_is_the_best(rng: np.random.Generator) -> None:
    for k in (2, 3, 4):
        x = rng.standard_normal(9)
        book = lp.learn_codebook(x, k=k)
        error = np.sum((lp.quantize(x, book, scale=1).dequantize(np.float64) - x) ** 2)
        # Values are rounded to float32, which moves the squared error by 2**-23 of each distance.
        assert error == pytest.approx(slow_clusters(x.tolist(), k), rel=1e-5)
        assert len(book.values) == k


def test_codebook_of_many_numbers(rng: np.random.Generator) -> None:
    """Lloyd-Max: 16 levels for N(0, 1) have a mean squared error of 0.009497 (Max, 1960, table I)."""
    x = np.array([NormalDist().inv_cdf((i + 0.5) / 50_000) for i in range(50_000)])
    rng.shuffle(x)
    book = lp.learn_codebook(x, bits=4)
    error = np.mean((lp.quantize(x, book, scale=1).dequantize() - x) ** 2)
    assert error == pytest.approx(0.009497, rel=0.01)
    middles = (np.array(book.values[1:]) + book.values[:-1]) / 2  # every value is the mean of those nearest to it
    means = [x[np.searchsorted(middles, x) == i].mean() for i in range(16)]
    np.testing.assert_allclose(book.values, means, atol=1e-3)
    np.testing.assert_allclose(lp.learn_codebook(x[::-1], bits=4).values, book.values, rtol=1e-6)


def test_codebook_weights_and_fewer_numbers() -> None:
    assert lp.learn_codebook([1.0, 2.0, 9.0], k=2, weights=[1, 1, 0]).values == (1, 2)
    assert lp.learn_codebook([0.0, 3.0, 10.0], k=2, weights=[2, 1, 5]).values == (1, 10)
    assert lp.learn_codebook([5.0, 7.0, 5.0], bits=3).values == (5, 7)
    assert lp.learn_codebook([1, 2], k=2, name="mine").name == "mine"


def test_codebook_of_blocks(layer: Any) -> None:
    """Learned for numbers divided by their block's largest, it beats NF4 on them."""
    w = layer[0]
    scaled = w.reshape(-1, 64) / np.abs(w).reshape(-1, 64).max(axis=1, keepdims=True)
    book = lp.learn_codebook(scaled, bits=4)
    ours = round_to_nearest(w, None, book, block_size=64, divisor=1)
    assert ours.weight.format == book
    assert ours.error(w, layer[2]) < round_to_nearest(w, None, "nf4").error(w, layer[2]) * 1.02


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("w", "message"),
    [
        (np.ones(4), r"`w` must have shape \(outputs, inputs\) and an element, got \(4,\)"),
        (np.ones((0, 4)), "`w` must have shape"),
        (np.array([[1.0, np.nan]]), r"`w` must be finite, got nan at index \(0, 1\)"),
    ],
)
def test_bad_weight(name: str, w: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METHODS[name](w, np.ones((1, 4)), "int4")


@pytest.mark.parametrize("name", ["gptq", "awq", "smoothquant"])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (None, TypeError, r"`x` must hold calibration activations of shape \(tokens, 4\), got None"),
        (np.ones((0, 4)), ValueError, "`x` must hold one token of calibration data or more"),
        (np.ones((2, 5)), ValueError, "`x` must have 4 features on its last axis, as `w` has inputs, got shape"),
        ([[0, 0, np.inf, 0]], ValueError, r"`x` must be finite, got inf at index \(0, 2\)"),
        (["a"], TypeError, "must hold real numbers"),
    ],
)
def test_bad_activations(name: str, x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        METHODS[name](np.ones((3, 4)), x, "int4")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda w, x: gptq(w, x, "int4", damp=0, progress=False),
            ValueError,
            "`damp` must make the Hessian of `x` positive",
        ),
        (lambda w, x: gptq(w, x, "int4", damp=-1), ValueError, "`damp` must be from 0 to 1, got -1"),
        (lambda w, x: gptq(w, x, "int4", columns=0), ValueError, "`columns` must be 1 or more, got 0"),
        (
            lambda w, x: gptq(w, x, "int4", act_order=True, static_groups=False),
            ValueError,
            "`static_groups` must not be",
        ),
        (lambda w, x: gptq(w, x, "int4", progress=1), TypeError, "`progress` must be True or False"),
        (lambda w, x: gptq(w, x, "q4_0"), ValueError, "`fmt` must not be GGML's `q4_0`"),
        (lambda w, x: awq(w, x, "int4", grid=0), ValueError, "`grid` must be 1 or more, got 0"),
        (lambda w, x: awq(w, x, "int4", clip=2), TypeError, "`clip` must be True or False"),
        (lambda w, x: smoothquant(w, x, "int8", alpha=2), ValueError, "`alpha` must be from 0 to 1, got 2"),
        (lambda w, x: smoothquant(w, x, "int8", alpha="a"), TypeError, "`alpha` must be a number from 0 to 1"),
        (
            lambda w, x: hadamard(w, x, "int4", rotation=3),
            ValueError,
            "`block` must divide the number of inputs, 4, got 3",
        ),
        (lambda w, x: Rotation(12, block=6), ValueError, "`block` must be the order of a known Hadamard matrix, got 6"),
        (lambda w, x: Rotation(0), ValueError, "`inputs` must be 1 or more, got 0"),
        (lambda w, x: Divide([1, 0]), ValueError, "`scale` must be positive and finite"),
        (lambda w, x: Divide([[1]]), ValueError, "`scale` must have one axis"),
        (lambda w, x: hqq(w, x, "e4m3fn"), ValueError, "only integers"),
        (lambda w, x: hqq(w, x, "uint4", norm=2), ValueError, "`norm` must be above 0 and at most 1, got 2"),
        (lambda w, x: hqq(w, x, "uint4", iterations=-1), ValueError, "`iterations` must be 0 or more"),
        (lambda w, x: round_to_nearest(w, x, "int4").error(w[:2], x), ValueError, "`w` must have the shape"),
        (
            lambda w, x: round_to_nearest(w, x, "int4").dequantize(np.int8),
            TypeError,
            "`dtype` must be float32 or float64",
        ),
        (lambda w, x: lp.learn_codebook([1, 2]), ValueError, "`bits` must be given, or `k` instead"),
        (lambda w, x: lp.learn_codebook([1, 2], 9), ValueError, "`bits` must be from 1 to 8, got 9"),
        (lambda w, x: lp.learn_codebook([1, 2], k=1), ValueError, "`k` must be from 2 to 256, got 1"),
        (lambda w, x: lp.learn_codebook([1, 1], 2), ValueError, "`x` must hold two different numbers"),
        (lambda w, x: lp.learn_codebook([], 2), ValueError, "`x` must hold two different numbers"),
        (lambda w, x: lp.learn_codebook([1, np.nan], 2), ValueError, "`x` must be finite, got nan at index 1"),
        (lambda w, x: lp.learn_codebook([1, 2], 2, weights=[-1, 1]), ValueError, "`weights` must be 0 or more"),
        (lambda w, x: lp.learn_codebook([1, 2], 2, weights=[1, 1, 1]), ValueError, "`weights` must broadcast"),
        (lambda w, x: lp.learn_codebook([1, 2], 2, iterations=-1), ValueError, "`iterations` must be 0 or more"),
    ],
)
def test_bad_arguments(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.eye(3, 4) + 1, np.ones((2, 4)))


# -------------------------------------------------------------------------------- planted: the comparisons see mistakes
def test_planted_error_that_is_not_spread_beyond_the_block(monkeypatch: pytest.MonkeyPatch, layer: Any) -> None:
    """Forget the later columns in U, as if every run of columns were a layer of its own."""
    factor = _gptq.factor

    def wrong(hessian: np.ndarray, damp: float) -> np.ndarray:
        upper = factor(hessian, damp).copy()
        upper[:64, 64:] = 0
        return upper

    monkeypatch.setattr(_gptq, "factor", wrong)
    with pytest.raises(AssertionError):
        test_gptq_is_obq_in_a_fixed_order(7, 32, False, "int4", layer)


def test_planted_scales_of_a_group_taken_too_early(monkeypatch: pytest.MonkeyPatch, layer: Any) -> None:
    """Take a group's scales without the errors of the columns at work: blocks that cross a run of columns differ."""
    w, x, _ = layer
    right = gptq(w, x, "int4", block_size=32, columns=7, progress=False).weight.scale
    want = gptq(w, x, "int4", block_size=32, columns=1, progress=False).weight.scale
    np.testing.assert_allclose(right, want, rtol=1e-6)
    early = gptq(w, x, "int4", block_size=32, static_groups=True, progress=False).weight.scale
    assert (np.abs(early - want) > 1e-3 * want).mean() > 0.5


# ------------------------------------------------------------------------------------------------------- public names
def test_public_names_are_documented() -> None:
    from lowprec import quantizers

    assert list(quantizers.__all__) == sorted(quantizers.__all__)
    assert set(quantizers.__all__) <= set(dir(quantizers))
    own = [name for name in quantizers.__all__ if not name.endswith("ggml") and "ggml" not in name]
    assert [fault for name in own for fault in faults(name, getattr(quantizers, name))] == []
    with pytest.raises(AttributeError, match="has no attribute 'gptqq'"):
        _ = quantizers.gptqq
