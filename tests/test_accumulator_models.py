"""Models of sums as data: frozen, hashable, equal by value, printable, and impossible ones refused in plain words."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import accumulators

NAMELESS = lp.FloatFormat(name="mine", exponent_bits=6, mantissa_bits=9, source="a drawing board")
WRONGLY_NAMED = lp.FloatFormat(name="e5m2", exponent_bits=6, mantissa_bits=9)
# Every class, every parameter away from its default at least once; no two are equal.
MODELS = [
    lp.Sequential(),
    lp.Sequential("fp16"),
    lp.Sequential("fp16", fused=False),
    lp.Sequential("fp16", product="bf16"),
    lp.Sequential("e4m3fn", overflow="saturate"),
    lp.Sequential("e4m3fn", subnormals="flush"),
    lp.Sequential("fp64"),
    lp.Sequential("fp16", "stochastic"),
    lp.Sequential("fp16", "stochastic", random_bits=3),
    lp.Sequential("fp16", "stochastic", False, "bf16", overflow="inf", subnormals="flush", random_bits=1),
    lp.Sequential(NAMELESS),
    lp.Sequential(WRONGLY_NAMED, product=NAMELESS),
    *(lp.Sequential("bf16", mode) for mode in lp.Rounding if mode not in ("nearest_even", "stochastic")),
    lp.Pairwise(),
    lp.Pairwise("fp16"),
    lp.Pairwise("fp16", 8),
    lp.Pairwise("fp16", 8, "toward_zero"),
    lp.Exact(),
    lp.Exact("fp16"),
    lp.Exact("fp16", "to_odd"),
    lp.Chunked("fp16"),
    lp.Chunked("fp16", 64),
    lp.Chunked("fp16", 64, "bf16"),
    lp.Chunked("fp16", 64, lp.Pairwise("fp32", 2)),
    lp.Chunked("nvidia-hopper", 64),
    lp.Integer(),
    lp.Integer(16),
    lp.Integer(16, "saturate"),
    lp.Integer(16, "saturate", 4),
    lp.Integer(16, "saturate", 4, is_signed=False),
    lp.FusedTruncated(16, 25),
    lp.FusedTruncated(8, 25),
    lp.FusedTruncated(16, 24),
    lp.FusedTruncated(16, 24, exponent_floor=-132),
    lp.FusedTruncated(16, 24, exponent_floor=-13),  # begins like the default, -133
    lp.FusedTruncated(16, 24, "fp16", exponent_floor=-210),  # the default, -21, begins like this
    lp.FusedTruncated(16, 24, "fp16", "rne"),
    lp.FusedTruncated(16, 24, "bf16"),
    lp.FusedTruncated(32, 13, rounding="rz13"),
    lp.FusedTruncated(32, 13, kept_bits=12),
    lp.FusedTruncated(4, 23, exponent_floor=-131, c_format="fp16"),
    lp.FusedTruncatedScaled(),
    lp.FusedTruncatedScaled(16, 24, -100),
    lp.FusedTruncatedGroupScaled(),
    lp.FusedTruncatedGroupScaled(scale_block=16),
    lp.FusedTruncatedGroupScaled(scale_block=16, scale_format="e4m3fn"),
    lp.FusedTruncatedGroupScaled(32, 8, 30, -100, 16),
    lp.FusedExact(4),
    lp.FusedExact(2),
    lp.FlushedPairwise(4),
    lp.FlushedPairwise(2),
    lp.FusedTruncatedLateC(8),
    lp.FusedTruncatedLateC(4),
    lp.FusedTruncatedLateC(8, 25),
    lp.FusedTruncatedLateC(8, 25, 32),
    lp.FusedTruncatedLateC(8, even_odd=True),
    lp.FmaPairOddFirst(),
    lp.EvenOddPair(),
    lp.EvenOddPair(16),
    lp.BfDotRoundOdd(),
    lp.BfDotFused(),
    lp.Fp8ViaF16(),
    lp.Fp8ViaF16("fp16"),
]
CLASSES = [
    kind
    for _, kind in inspect.getmembers(accumulators, inspect.isclass)
    if issubclass(kind, accumulators.Accumulator) and kind not in (accumulators.Accumulator, accumulators.Hardware)
]


def rebuilt(model: Any) -> Any:
    """Evaluate a model's repr with nothing but the public names."""
    return eval(repr(model), {name: getattr(lp, name) for name in lp.__all__})


def test_list_has_every_class_and_every_parameter() -> None:
    assert {type(model) for model in MODELS} == set(CLASSES)
    assert {kind.__name__ for kind in CLASSES} <= set(lp.__all__)
    for kind in CLASSES:
        for parameter in dataclasses.fields(kind):
            assert len({getattr(m, parameter.name) for m in MODELS if type(m) is kind}) > 1, (kind, parameter.name)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_frozen_hashable_equal_by_value(model: Any) -> None:
    parameters = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    twin = type(model)(**parameters)
    assert twin == model
    assert hash(twin) == hash(model)
    assert repr(twin) == repr(model)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), dataclasses.replace(model)):
        assert copied == model
    for name in (*parameters, "anything"):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
            setattr(model, name, 1)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_repr_makes_the_model_again(model: Any) -> None:
    twin = rebuilt(model)
    assert twin == model
    assert type(twin) is type(model)


def test_no_two_are_equal_and_str_tells_them_apart() -> None:
    for one, other in itertools.combinations(MODELS, 2):
        assert one != other
        assert repr(one) != repr(other)
        assert str(one) != str(other), (one, other)
    assert len(set(MODELS)) == len(MODELS)


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_str_is_one_readable_line(model: Any) -> None:
    text = str(model)
    assert "\n" not in text
    assert "  " not in text
    assert "None" not in text
    assert "FloatFormat(" not in text or "mine" in repr(model) or "e5m2" in repr(model)


def test_str_says_the_numbers() -> None:
    text = str(lp.FusedTruncated(16, 25, "fp16", "rne", exponent_floor=-20, kept_bits=7))
    assert text == (
        "blocks of 16 products and c aligned to the largest exponent (at least -20), truncated at 25 fraction bits, "
        "summed exactly, rounded to float16 (nearest_even, 7 fraction bits kept)"
    )
    assert (
        str(lp.Sequential("fp16", "to_odd")) == "k ascending, fused multiply-add, each step rounded to float16 (to_odd)"
    )


# ---------------------------------------------------------------------------------------------------- what words mean


@pytest.mark.parametrize("mode", lp.Rounding)
def test_every_rounding_word(mode: lp.Rounding) -> None:
    for word in (mode, str(mode), str(mode).upper()):
        assert lp.Sequential("fp16", word).rounding is mode
    assert f"({mode}" in str(lp.Sequential("fp16", mode))
    for kind in (lp.Pairwise, lp.Exact):
        if mode == "stochastic":
            with pytest.raises(ValueError, match="`rounding` must be deterministic"):
                kind("fp16", rounding=mode)
        else:
            assert kind("fp16", rounding=str(mode)).rounding is mode
    if mode in ("toward_zero", "nearest_even"):
        assert lp.FusedTruncated(4, 23, rounding=str(mode)).rounding is mode
    else:
        with pytest.raises(ValueError, match=f"`rounding` must be one of toward_zero, nearest_even, got '{mode}'"):
            lp.FusedTruncated(4, 23, rounding=str(mode))


def test_short_words_of_hardware() -> None:
    assert lp.FusedTruncated(4, 23, rounding="rz") == lp.FusedTruncated(4, 23)
    assert lp.FusedTruncated(4, 23, rounding="RNE").rounding is lp.Rounding.NEAREST_EVEN
    assert lp.FusedTruncated(4, 23, rounding="rz13") == lp.FusedTruncated(4, 23, "fp32", "toward_zero", 13)


def test_one_meaning_has_one_model() -> None:
    """What makes no difference to the arithmetic makes none to the model."""
    assert lp.Sequential("fp16", fused=False) == lp.Sequential("fp16", product="fp16")
    assert lp.Sequential("fp16", fused=True, product="bf16") == lp.Sequential("fp16", fused=False, product="bf16")
    assert lp.Sequential("fp16", "stochastic") == lp.Sequential("fp16", "stochastic", random_bits=32)
    assert lp.Sequential("float16") == lp.Sequential(np.float16) == lp.Sequential(lp.format("f16"))
    assert lp.FusedTruncated(4, 23, c_format="fp32") == lp.FusedTruncated(4, 23)
    assert lp.FusedTruncated(4, 23, kept_bits=23) == lp.FusedTruncated(4, 23)
    assert lp.FusedTruncated(4, 23, exponent_floor=-133) == lp.FusedTruncated(4, 23)
    assert lp.FusedTruncated(np.int64(4), np.uint8(23)) == lp.FusedTruncated(4, 23)
    assert lp.Chunked("fp16", 64) == lp.Chunked(lp.Sequential("float16"), 64, lp.Sequential("fp32"))
    assert lp.Chunked(lp.preset("h100")) == lp.Chunked("nvidia-hopper") == lp.Chunked(" NVIDIA-Hopper ")
    assert lp.Integer(16, "SATURATE") == lp.Integer(16, "saturate")


@pytest.mark.parametrize(
    ("word", "model"),
    [
        ("fp32", lp.Sequential()),
        (" BF16 ", lp.Sequential("bf16")),
        ("e5m7", lp.Sequential("e5m7")),
        (np.float16, lp.Sequential("fp16")),
        (np.dtype(ml_dtypes.bfloat16), lp.Sequential("bf16")),
        (lp.format("e4m3fn"), lp.Sequential("e4m3fn")),
        ("exact", lp.Exact()),
        ("pairwise", lp.Pairwise()),
        ("int32", lp.Integer(32)),
        ("int24", lp.Integer(24)),
        ("int16_saturate", lp.Integer(16, "saturate")),
        ("uint16", lp.Integer(16, is_signed=False)),
        ("UINT32_SATURATE", lp.Integer(32, "saturate", is_signed=False)),
        (np.int8, lp.Integer(8)),
        (lp.format("int4"), lp.Integer(4)),
        (lp.IntFormat(bits=20, is_signed=False), lp.Integer(20, is_signed=False)),
        ("nvidia-hopper", "nvidia-hopper"),
        (lp.preset("h100"), "nvidia-hopper"),
        (lp.preset("h100").instruction("bf16"), lp.FusedTruncated(16, 25)),
        (lp.FusedExact(4), lp.FusedExact(4)),
    ],
)
def test_what_a_word_stands_for(word: Any, model: Any) -> None:
    assert accumulators.model(word) == model


# --------------------------------------------------------------------------------------------------------- refusals

WRONG: list[tuple[Any, type[Exception], str]] = [
    (accumulators.Accumulator, TypeError, "`Accumulator` must be one of its subclasses"),
    (accumulators.Hardware, TypeError, "must be one of its subclasses"),
    (lambda: lp.Sequential("fp17"), ValueError, "`format` must be a known format name, got 'fp17'.*'fp16'"),
    (lambda: lp.Sequential("int8"), ValueError, r"`format` must be a float format, got `int8`.*lp.Integer\(bits\)"),
    (lambda: lp.Sequential("e8m0fnu"), ValueError, "`format` must be a signed format with a zero"),
    (lambda: lp.Sequential(16), TypeError, "`format` must be a format name"),
    (lambda: lp.Sequential("fp16", "nearest"), ValueError, "`rounding` must be one of .*the closest: 'nearest_"),
    (lambda: lp.Sequential("fp16", None), TypeError, "`rounding` must be one of .*got None"),
    (lambda: lp.Sequential("fp16", fused=1), TypeError, "`fused` must be True or False, got 1"),
    (lambda: lp.Sequential("fp16", product="int8"), ValueError, "`product` must be a float format"),
    (lambda: lp.Sequential("fp16", overflow="wrap"), ValueError, "`overflow` must be one of inf, nan, saturate"),
    (
        lambda: lp.Sequential("e2m1fn", overflow="nan"),
        ValueError,
        "`overflow` must be a policy that `float4_e2m1fn` can",
    ),
    (lambda: lp.Sequential("fp16", product="e4m3fn", overflow="inf"), ValueError, "that `float8_e4m3fn` can express"),
    (lambda: lp.Sequential("fp16", subnormals="zero"), ValueError, "`subnormals` must be one of keep, flush"),
    (
        lambda: lp.Sequential("fp16", random_bits=8),
        ValueError,
        '`random_bits` must be None unless rounding="stochastic"',
    ),
    (lambda: lp.Sequential("fp16", "stochastic", random_bits=0), ValueError, "`random_bits` must be from 1 to 32"),
    (lambda: lp.Sequential("fp32", "stochastic", random_bits=29), ValueError, "`random_bits` must be from 1 to 28"),
    (lambda: lp.Sequential("fp64", "stochastic"), ValueError, "`format` must have at most 51 significand bits"),
    (lambda: lp.Pairwise("fp16", 0), ValueError, "`block` must be from 1 to 2147483647, got 0"),
    (lambda: lp.Pairwise("fp16", 2.0), TypeError, "`block` must be an integer .*got 2.0 of type float"),
    (lambda: lp.Pairwise("fp16", True), TypeError, "`block` must be an integer"),
    (lambda: lp.Exact("fp64"), ValueError, "`format` must have at most 51 significand bits in an exact sum"),
    (lambda: lp.Chunked("fp16", 0), ValueError, "`every` must be from 1 to 2147483647, got 0"),
    (lambda: lp.Chunked("fp16", outer="exact"), ValueError, "`outer` must be lp.Sequential, lp.Pairwise or a format"),
    (lambda: lp.Chunked("fp16", outer="nvidia-hopper"), ValueError, "`outer` must be lp.Sequential"),
    (lambda: lp.Chunked("int32"), ValueError, "`inner` must be a model of a float sum"),
    (lambda: lp.Chunked(lp.Chunked("fp16")), ValueError, "`inner` must not be chunked itself"),
    (lambda: lp.Chunked(3), TypeError, "`inner` must be a model such as"),
    (lambda: lp.Integer(1), ValueError, "`bits` must be from 2 to 32, got 1"),
    (lambda: lp.Integer(33), ValueError, "`bits` must be from 2 to 32, got 33"),
    (lambda: lp.Integer(16, "clip"), ValueError, "`overflow` must be 'wrap', 'saturate' or 'raise', got 'clip'"),
    (lambda: lp.Integer(16, None), TypeError, "`overflow` must be 'wrap', 'saturate' or 'raise', got None"),
    (lambda: lp.Integer(16, length=0), ValueError, "`length` must be from 1 to 32768, got 0"),
    (lambda: lp.Integer(16, is_signed=0), TypeError, "`is_signed` must be True or False"),
    (lambda: lp.FusedTruncated(0, 25), ValueError, "`length` must be from 1 to 4096, got 0"),
    (lambda: lp.FusedTruncated(-4, 25), ValueError, "`length` must be from 1 to 4096, got -4"),
    (lambda: lp.FusedTruncated(4.0, 25), TypeError, "`length` must be an integer"),
    (lambda: lp.FusedTruncated(16, 0), ValueError, "`fraction_bits` must be from 1 to 62, got 0"),
    (lambda: lp.FusedTruncated(16, 56), ValueError, "`fraction_bits` must leave room for the sum: .*take at most 55"),
    (lambda: lp.FusedTruncated(4096, 50), ValueError, "`fraction_bits` must leave room for the sum"),
    (lambda: lp.FusedTruncated(16, 25, "fp64"), ValueError, "`out` must be an IEEE-like format within float32"),
    (lambda: lp.FusedTruncated(16, 25, "e4m3fn"), ValueError, "`out` must be an IEEE-like format within float32"),
    (
        lambda: lp.FusedTruncated(16, 25, rounding="up"),
        ValueError,
        "`rounding` must be one of toward_zero, nearest_even",
    ),
    (lambda: lp.FusedTruncated(16, 25, kept_bits=24), ValueError, "`kept_bits` must be from 1 to 23, got 24"),
    (lambda: lp.FusedTruncated(16, 25, "fp16", "rz13"), ValueError, "`kept_bits` must be from 1 to 10, got 13"),
    (lambda: lp.FusedTruncated(16, 25, exponent_floor=1), ValueError, "`exponent_floor` must be from -400 to 0"),
    (lambda: lp.FusedTruncated(16, 25, "fp16", c_format="fp32"), ValueError, "`c_format` must be .* no finer than"),
    (lambda: lp.FusedTruncatedScaled(0), ValueError, "`length` must be from 1 to 4096"),
    (lambda: lp.FusedTruncatedScaled(32, 60), ValueError, "`fraction_bits` must leave room for the sum"),
    (
        lambda: lp.FusedTruncatedGroupScaled(64, 24),
        ValueError,
        "`length` must be a multiple of `scale_block`, and that",
    ),
    (lambda: lp.FusedTruncatedGroupScaled(scale_block=8), ValueError, "`length` must be a multiple of `scale_block`"),
    (lambda: lp.FusedTruncatedGroupScaled(4096, fraction_bits=45), ValueError, "`fraction_bits` must leave room"),
    (
        lambda: lp.FusedTruncatedGroupScaled(scale_format="e5m2"),
        ValueError,
        "`scale_format` must be 'e8m0fnu' or 'e4m3fn'",
    ),
    (lambda: lp.FusedTruncatedGroupScaled(scale_format="nope"), ValueError, "`scale_format` must be .*got 'nope'"),
    (lambda: lp.FusedExact(0), ValueError, "`length` must be from 1 to 64, got 0"),
    (lambda: lp.FlushedPairwise(3), ValueError, "`length` must be 2 or 4, got 3"),
    (lambda: lp.FlushedPairwise(8), ValueError, "`length` must be from 2 to 4, got 8"),
    (lambda: lp.FusedTruncatedLateC(0), ValueError, "`length` must be from 1 to 64"),
    (lambda: lp.FusedTruncatedLateC(8, 22), ValueError, "`fraction_bits` must be from 23 to 40, got 22"),
    (lambda: lp.FusedTruncatedLateC(8, 30, 29), ValueError, "`final_bits` must be at least `fraction_bits`"),
    (lambda: lp.FusedTruncatedLateC(8, even_odd=1), TypeError, "`even_odd` must be True or False"),
    (lambda: lp.EvenOddPair(3), ValueError, "`length` must be even, got 3"),
    (lambda: lp.EvenOddPair(34), ValueError, "`length` must be from 2 to 32, got 34"),
    (lambda: lp.Fp8ViaF16("bf16"), ValueError, "`out` must be 'float32' or 'float16', got 'bfloat16'"),
    (lambda: accumulators.model(None), TypeError, "`accumulator` must be a model such as"),
    (lambda: accumulators.model(3), TypeError, "`accumulator` must be a model such as"),
    (lambda: accumulators.model("e8m0fnu"), ValueError, "`accumulator` must be a signed format with a zero"),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_impossible_models_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_widest_possible_sums_are_taken() -> None:
    """What the refusals name as the most is possible."""
    assert lp.FusedTruncated(16, 55).fraction_bits == 55
    assert lp.FusedTruncatedGroupScaled(64, fraction_bits=45).fraction_bits == 45
    for length in (1, 2, 3, 15, 16, 17, 4096):
        with pytest.raises(ValueError, match="take at most") as told:
            lp.FusedTruncated(length, 62)
        most = int(str(told.value).rstrip(".").split()[-1])
        assert lp.FusedTruncated(length, most).fraction_bits == most
        worst = (length + 1) * (2 ** (most + 2))  # every product just below 4, every one cut at its last bit
        assert worst <= 2**62
        with pytest.raises(ValueError, match="take at most"):
            lp.FusedTruncated(length, most + 1)


def test_grouped_sums_fit_their_word() -> None:
    """The largest e2m1fn products and e4m3fn scales, at the most alignment bits that a length may have."""
    for length in (16, 64, 1024, 4096):
        bits = max(b for b in range(1, 46) if _possible(length, b))
        groups = length // 16
        worst = groups * (16 * 36) * (15 / 8) ** 2 * 2**bits + 2 ** (bits + 1)
        assert worst < 2**62


def _possible(length: int, bits: int) -> bool:
    try:
        lp.FusedTruncatedGroupScaled(length, fraction_bits=bits, scale_block=16)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_result_formats(model: Any) -> None:
    fmt = model.result_format
    if isinstance(model, lp.Integer):
        assert fmt == lp.IntFormat(bits=model.bits, is_signed=model.is_signed)
    elif isinstance(model, lp.Chunked):
        assert fmt == model.outer.format
    elif isinstance(model, lp.Exact):
        assert fmt is model.format
    else:
        assert fmt == getattr(model, "format", getattr(model, "out", lp.format("fp32")))
