"""Arithmetic against its slow twin, against matmul and linear, and against what candidates are judged by."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec.cost._candidates import Candidate
from lowprec.cost._emulation import product as candidate_product
from lowprec.nn import Arithmetic
from tests import nn_slow as slow
from tests import sparsify_slow
from tests.nn_slow import Slow

Array = np.ndarray[Any, Any]
fp32, fp16, bf16, int32 = lp.Sequential("fp32"), lp.Sequential("fp16"), lp.Sequential("bf16"), lp.Integer(32)
SCALES = ("none", "auto", "tensor", "row", "power_of_two")


def data(seed: int, *shape: int, spread: float = 1.0) -> Array:
    """Return numbers of many sizes, with a zero, a negative zero and an outlier."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))
    if x.size > 8:
        x.flat[2], x.flat[5], x.flat[8] = 0.0, -0.0, 19.0
    return x.astype(np.float32)


def bits(x: Any) -> list[Any]:
    """Return what equal bits are equal in; every NaN is one."""
    x = np.asarray(x, np.float64)
    return np.where(np.isnan(x), np.nan, x).view(np.int64).tolist()


def check(how: Arithmetic, twin: Slow, x: Array, w: Array, **more: Any) -> None:
    """Compare linear with and without bias, and matmul."""
    bias = data(3, len(w))
    rows, weights = x.astype(np.float64).tolist(), w.astype(np.float64).tolist()
    assert bits(how.linear(x, w)) == bits(slow.linear(twin, rows, weights, **more))
    assert bits(how.linear(x, w, bias)) == bits(slow.linear(twin, rows, weights, bias.tolist(), **more))
    if "keep" not in more:
        assert bits(how.matmul(x, w.T)) == bits(slow.matmul(twin, rows, w.T.astype(np.float64).tolist()))


# ------------------------------------------------------------------------------------------------ against the twin
PAIRS = ("fp32", "bf16", "fp16", "e4m3fn", "e5m2", "e2m1fn", ("e4m3fn", "e5m2"), ("bf16", "e4m3fn"), ("e4m3fn", "fp16"))


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("dtype", [*PAIRS, "int8", "int4", ("int8", "int4")], ids=str)
def test_formats_and_scales(dtype: Any, scales: str) -> None:
    one, other = dtype if isinstance(dtype, tuple) else (dtype, dtype)
    model = int32 if "int" in one else fp32
    check(Arithmetic(dtype, scales=scales), Slow(one, other, model, scales), data(1, 2, 9), data(2, 3, 9))


@pytest.mark.parametrize("dtype", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4"])
def test_block_formats(dtype: str) -> None:
    x, w = data(1, 2, 35, spread=6), data(2, 2, 35)
    check(Arithmetic(dtype), Slow(dtype, dtype), x, w)
    check(Arithmetic(dtype, "exact"), Slow(dtype, dtype, lp.Exact()), x, w)
    if dtype.startswith("mxfp"):
        check(Arithmetic(dtype, scale_rule="rceil"), Slow(dtype, dtype, rule="rceil"), x, w)


SUMS: dict[Any, Any] = {"fp16": fp16, "bf16": bf16, "fp64": lp.Sequential("fp64"), "exact": lp.Exact(),
                        "pairwise": lp.Pairwise(), lp.Chunked("fp16", 4): lp.Chunked("fp16", 4)}  # fmt: skip


@pytest.mark.parametrize("scales", ["none", "auto", "power_of_two"])
@pytest.mark.parametrize("dtype", ["bf16", "e4m3fn"])
@pytest.mark.parametrize("accumulator", SUMS, ids=str)
def test_sums_of_floats(accumulator: Any, dtype: str, scales: str) -> None:
    if accumulator == "exact" or not (dtype == "e4m3fn" and scales == "power_of_two"):
        check(Arithmetic(dtype, accumulator, scales=scales), Slow(dtype, dtype, SUMS[accumulator], scales),
              data(1, 2, 9), data(2, 3, 9))  # fmt: skip


@pytest.mark.parametrize("word", ["fp16", "bf16"])
def test_powers_of_two_with_narrow_sums_take_the_bias_at_the_scale_of_the_sum(word: str) -> None:
    x, w, bias = data(1, 2, 9), data(2, 3, 9), np.float32([0.01, -0.02, 0.003])
    how = Arithmetic("e2m1fn", word, scales="power_of_two")
    want = slow.linear(Slow("e2m1fn", "e2m1fn", SUMS[word], "power_of_two"), x.tolist(), w.tolist(), bias.tolist())
    assert bits(how.linear(x, w, bias)) == bits(want)


@pytest.mark.parametrize(("word", "model"), [("int16_saturate", lp.Integer(16, "saturate")), ("exact", lp.Exact())])
def test_sums_of_integers(word: str, model: Any) -> None:
    for scales in ("none", "auto"):
        check(
            Arithmetic("int8", word, scales=scales), Slow("int8", "int8", model, scales), data(1, 2, 9), data(2, 3, 9)
        )


HARDWARE = [("nvidia-volta", "fp16"), ("nvidia-hopper", "e4m3fn"), ("nvidia-blackwell", "mxfp4"),
            ("nvidia-blackwell", "nvfp4"), ("amd-cdna1", "bf16"), ("amd-cdna3", "e4m3fnuz"),
            ("x86-avx512bf16", "bf16"), ("x86-amx-bf16", "int8")]  # fmt: skip


@pytest.mark.filterwarnings("ignore::lowprec.ApproximationWarning")
@pytest.mark.parametrize(("preset", "dtype"), HARDWARE, ids=str)
def test_hardware(preset: str, dtype: str) -> None:
    how = Arithmetic(dtype, preset)
    check(how, Slow(dtype, dtype, how.candidate.instruction.model), data(1, 2, 35), data(2, 2, 35))


SPARSE = ["bf16", "bf16/exact", "bf16/pairwise", "e4m3fn", "e4m3fn/exact", "int8", "int8/int16_saturate", "mxfp4"]


@pytest.mark.parametrize("word", SPARSE)
def test_sparse_weights(word: str) -> None:
    x, w = data(1, 2, 12), data(2, 3, 12)
    keep = sparsify_slow.magnitude_mask(w, "2:4")
    how = Arithmetic(f"{word} 2:4")
    model = None if word == "mxfp4" else how.candidate.model()
    dtype = word.partition("/")[0]
    check(how, Slow(dtype, dtype, model), x, np.where(keep, w, np.float32(0)), keep=keep)
    ready = how.prepare(w)
    assert bits(how.linear(x, ready)) == bits(how.linear(x, np.where(keep, w, np.float32(0))))
    assert ((ready.values != 0) <= keep).all()


WEIGHTS: dict[str, Any] = {
    "int4": ("int4", None), "int8/5": ("int8", 5), "uint4": ("uint4", None), "uint4/8": ("uint4", 8),
    "nf4": ("nf4", None), "mxfp4": ("mxfp4", None), "nvfp4": ("nvfp4", None), "bf16": ("bf16", None),
    "e4m3fn": ("e4m3fn", None), "e2m1fn/7": ("e2m1fn", 7),
}  # fmt: skip


@pytest.mark.parametrize("word", WEIGHTS)
def test_stored_weights_and_activations(word: str) -> None:
    fmt, block = WEIGHTS[word]
    rule = (slow._resolved(fmt), block)
    x, w = data(1, 2, 20), data(2, 3, 20)
    check(Arithmetic("fp32", weights=word), Slow("fp32", "fp32", fp32, weights=rule), x, w)
    if block is None:
        check(Arithmetic("bf16", activations=word), Slow("bf16", "bf16", fp32, activations=rule[0]), x, w)


def test_a_word_with_stored_weights_is_that_rule() -> None:
    x, w = data(1, 2, 20), data(2, 3, 20)
    for scales in ("auto", "row"):
        check(
            Arithmetic("bf16@int4", scales=scales), Slow("bf16", "bf16", fp32, weights=(lp.format("int4"), None)), x, w
        )
    assert bits(Arithmetic("bf16@nf4").linear(x, w)) == bits(Arithmetic("bf16", weights="nf4").linear(x, w))


def test_methods_are_the_quantisers() -> None:
    x, w = data(1, 64, 32), data(2, 4, 32)
    q = lp.quantizers
    for word, want in {
        "gptq:int4/16": q.gptq(w, x, "int4", block_size=16, progress=False),
        "awq:uint4/16": q.awq(w, x, "uint4", block_size=16, symmetric=False, progress=False),
        "hqq:uint4/8": q.hqq(w, None, "uint4", block_size=8),
        "mse:int3/16": q.mse_clip(w, None, "int3", block_size=16),
        "hadamard:int4": q.hadamard(w, None, "int4", rng=7),
        "q4_0": lp.quantize(w, "q4_0"),
    }.items():
        how = Arithmetic("bf16", weights=word, seed=7)
        ready = how.prepare(w, lambda: x)
        assert bits(ready.values) == bits(want.dequantize()), word
        assert bits(how.linear(x, ready)) == bits(lp.linear(x, want.dequantize(), dtype="bf16")), word
    for criterion in ("wanda", "sparsegpt"):
        how = Arithmetic("fp32", sparsity=f"2:4 {criterion}")
        want = lp.sparsify(w, criterion=criterion, activations=x)
        assert bits(how.prepare(w, x).values) == bits(want.to_dense())
        assert bits(how.linear(x, how.prepare(w, x))) == bits(lp.linear(x, want, dtype="fp32"))
    twice = Arithmetic("fp32", weights=lambda w, calibration: w * 2)
    assert bits(twice.linear(x, w)) == bits(lp.linear(x, w * 2))


# ------------------------------------------------------------------------------------ against what was there before
@pytest.mark.parametrize("dtype", ["fp16", "e4m3fn", "int8", "mxfp4", "nvfp4"])
def test_without_scales_it_is_linear_and_matmul(dtype: str) -> None:
    how, bias = Arithmetic(dtype, scales="none"), data(4, 5)
    for kind in (np.float32, np.float64, ml_dtypes.bfloat16, np.float16):
        x, w = data(1, 2, 3, 33).astype(kind), data(2, 5, 33).astype(kind)
        assert bits(how.linear(x, w, bias)) == bits(lp.linear(x, w, bias, dtype=dtype))
        b = data(2, 2, 33, 5).astype(kind) * kind(3)
        for right in (b, b[0], b[:, None]):
            assert bits(how.matmul(x, right)) == bits(lp.matmul(x, right, dtype=dtype))


@pytest.mark.parametrize(
    "word", ["e4m3fn", "e5m2/fp16", "int8", "int8@int4", "bf16@int4", "e4m3fn/exact 2:4", "int8 2:4"]
)
@pytest.mark.parametrize("scales", ["tensor", "row"])
def test_with_scales_it_is_the_product_of_a_candidate(word: str, scales: str) -> None:
    x, w = data(1, 4, 40), data(2, 5, 40)
    assert bits(Arithmetic(word, scales=scales).linear(x, w)) == bits(
        candidate_product(Candidate.parse(word), x, w, scales)
    )


@pytest.mark.parametrize("dtype", ["e4m3fn", "e4m3fn/exact", "int8", "nvfp4", "mxfp4", "bf16"])
@pytest.mark.parametrize("activations", [None, "e4m3fn", "nvfp4", "int8"])
@pytest.mark.parametrize("scales", ["auto", "power_of_two"])
def test_each_matrix_of_a_batch_is_as_if_alone(dtype: str, activations: Any, scales: str) -> None:
    """One scale for the whole batch would be seen: the second matrix is a thousand times the first."""
    a, b = data(1, 2, 3, 20), data(2, 2, 20, 4)
    a[1] *= 1000
    how = Arithmetic(dtype, activations=activations, scales=scales)
    assert bits(how.matmul(a, b)) == bits([how.matmul(*pair) for pair in zip(a, b, strict=True)])
    assert bits(how.matmul(a, b[:1])) == bits([how.matmul(one, b[0]) for one in a])


def test_a_scale_stays_small_enough_for_the_sum() -> None:
    ones = np.ones((1, 64), np.float32)
    for model in ("fp16", lp.Chunked("fp16", 8), lp.Chunked("fp32", 8, "fp16")):
        assert 63.5 < Arithmetic("e4m3fn", model).linear(ones, ones)[0, 0] < 64.5


def test_powers_of_two_leave_wide_formats_alone() -> None:
    x, w = data(1, 2, 9) * np.float32(1e-6), data(2, 9, 3)
    how = Arithmetic(("fp16", "e4m3fn"), scales="power_of_two")
    assert bits(how.matmul(x, w)) == bits(lp.matmul(x, w, "fp16"))


# -------------------------------------------------------------------------------------------------- edges, specials
@pytest.mark.parametrize("scales", ["auto", "none", "row", "power_of_two"])
@pytest.mark.parametrize("word", ["fp32", "e4m3fn", "e4m3fn/exact", "int8", "mxfp4", "nvfp4", "bf16@int4", "int8 2:4"])
def test_nothing_to_multiply(word: str, scales: str) -> None:
    how, bias = Arithmetic(word, scales=scales), np.float32([1, 2, 3, 4])
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    assert how.linear(zeros(3, 0), zeros(4, 0), bias).tolist() == [bias.tolist()] * 3
    assert how.linear(zeros(2, 0, 8), zeros(4, 8), bias).shape == (2, 0, 4)
    assert how.linear(zeros(3, 8), zeros(0, 8)).shape == (3, 0)
    assert how.linear(zeros(8), zeros(4, 8), bias).tolist() == bias.tolist()
    for a, b in [((2, 3, 0), (2, 0, 5)), ((0, 3, 4), (0, 4, 5)), ((2, 0, 4), (2, 4, 5)), ((3, 4), (2, 4, 5))]:
        assert not how.matmul(zeros(*a), zeros(*b)).any()
        assert how.matmul(zeros(*a), zeros(*b)).shape == np.matmul(zeros(*a), zeros(*b)).shape


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_specials_make_nan_of_what_shares_their_scale(special: float) -> None:
    x, w = data(1, 3, 32), data(2, 4, 32)
    x[1, 3] = special
    for dtype, scales, nan in [
        ("int8", "row", [0, 1, 0]), ("int8", "tensor", [1, 1, 1]), ("e4m3fn", "row", [0, 1, 0]),
        ("mxfp4", "auto", [0, 1, 0]),
        ("e4m3fn", "tensor", [1, 1, 1]), (("bf16", "e4m3fn"), "row", [0, int(np.isnan(special)), 0]),
        ("bf16", "auto", [0, int(np.isnan(special)), 0]),
    ]:  # fmt: skip
        assert np.isnan(Arithmetic(dtype, scales=scales).linear(x, w)).any(1).tolist() == nan, (dtype, scales)


def test_the_ends_of_float32() -> None:
    x, w, bias = data(1, 2, 9), data(2, 3, 9), np.ones(3, np.float32)
    for factor in (1e-40, 1e-30, 1e30, 1e37):
        for scales in ("auto", "row", "power_of_two"):
            big = x * np.float32(factor)
            twin = Slow("e4m3fn", "e4m3fn", fp32, scales)
            want = slow.linear(twin, big.tolist(), w.tolist(), bias.tolist())
            assert bits(Arithmetic("e4m3fn", scales=scales).linear(big, w, bias)) == bits(want)
    got = Arithmetic("e4m3fn", "exact").linear(
        x * np.float32(1e37), w * np.float32(1e5), np.full(3, -np.inf, np.float32)
    )
    assert not np.signbit(got[np.isnan(got)]).any()


# ------------------------------------------------------------------------------------------------ stochastic rounding
def test_random_words_are_those_of_seed_and_name() -> None:
    x, w = data(1, 3, 32), data(2, 4, 32)
    for dtype, scales in [("bf16", "none"), ("e4m3fn", "auto"), ("int8", "auto"), ("mxfp4", "auto")]:
        how = Arithmetic(dtype, scales=scales, rounding="stochastic", seed=1)

        def run(how: Arithmetic, name: str) -> list[Any]:
            return bits(how.linear(x, how.prepare(w, name=name)))

        assert run(how, "a") == run(how, "a") != run(how, "b")
        assert run(how, "a") != run(how.with_(seed=2), "a")


def test_stochastic_rounding_is_not_biased() -> None:
    """Operands that draw the same words, or a number rounded twice with one, would be wrong by many deviations."""
    v = np.random.default_rng(1).uniform(0.1, 1, (1, 1024)).astype(np.float32)
    ones, seeds = np.ones((1, 1024), np.float32), range(60)

    def off(results: list[Any], want: float) -> float:
        found = np.array(results, np.float64).ravel()
        return abs(found.mean() - want) / (found.std() / len(found) ** 0.5)

    how = Arithmetic("int4", rounding="stochastic")
    assert off([how.with_(seed=s).matmul(v, v.T) for s in seeds], (v.astype(float) @ v.T.astype(float)).item()) < 4
    how = Arithmetic(("e2m1fn", "fp32"), activations="int4", rounding="stochastic", scales="none")
    assert off([how.with_(seed=s).linear(v, ones) for s in seeds], float(v.sum())) < 4


def test_threads_do_not_matter() -> None:
    x, w, found = data(1, 64, 256), data(2, 48, 256), []
    before = lp.get_num_threads()
    try:
        for threads in (1, 2):
            lp.set_num_threads(threads)
            found.append(
                [bits(Arithmetic(d).linear(x, w)) for d in ("bf16", "e4m3fn", "int8", "mxfp4", "e4m3fn/exact")]
            )
    finally:
        lp.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("accumulator", "label"),
    [
        (lp.Chunked("nvidia-hopper", every=128), "e4m3fn/nvidia-hopper every 128"),
        (lp.Chunked("fp16", every=64, outer=lp.Pairwise("bf16")), "e4m3fn/fp16 every 64, then Pairwise"),
        (lp.Chunked("fp16", every=64, outer="bf16"), "e4m3fn/fp16 every 64, then bf16"),
    ],
)
def test_labels_of_chunked_sums_are_words(accumulator: Any, label: str) -> None:
    found = Arithmetic("e4m3fn", accumulator)
    assert found.label.startswith(label)
    assert found.key() != Arithmetic("e4m3fn", accumulator.inner).key()


@pytest.mark.parametrize(
    ("dtype", "accumulator", "scales"),
    [
        ("int8", None, "auto"),
        ("e4m3fn", None, "row"),
        ("e4m3fn", "exact", "auto"),
        ("int8", None, "none"),
        ("e4m3fn", lp.Sequential("bf16", rounding="stochastic"), "auto"),
    ],
)
def test_groups_at_once_have_the_bits_of_each_by_itself(dtype: str, accumulator: Any, scales: str) -> None:
    how = Arithmetic(dtype, accumulator, scales=scales)
    rng = np.random.default_rng(5)
    x, w, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 6, 5, 4), (12, 2, 3, 3), (12,)))
    found = lp.nn.convolution(how, x, w, bias, groups=3, padding=1)
    for g in range(3):
        own = slice(4 * g, 4 * g + 4)
        alone = lp.nn.convolution(how, x[:, 2 * g : 2 * g + 2], w[own], bias[own], padding=1)
        assert found[:, own].tobytes() == alone.tobytes()
