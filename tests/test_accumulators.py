"""Sums that one composes: the kernels equal the slow twins, bit for bit, for every model, on operands that are hard.

Models of hardware are in `test_accumulators_hardware`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from accumulator_cases import (
    Array,
    Case,
    array,
    bits,
    check_zeros,
    drawn_wrong,
    nearest,
    places,
    product,
    values,
    wanted_bits,
    wrong,
)
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import accumulators as acc
from lowprec import reference
from lowprec.rounding import Rounding

ROUNDINGS = [mode.value for mode in Rounding]
DETERMINISTIC = [mode for mode in ROUNDINGS if mode != "stochastic"]
SUMS = ["fp16", "bf16", "tf32", "e5m7", "e4m3fn", "e5m2", "e3m4", "fp32"]
SHORT = [("fp16", "fp16"), ("bf16", "bf16"), ("e4m3fn", "e5m2"), ("tf32", "bf16"), ("e2m1fn", "e2m3fn")]
PAIRS = [
    *SHORT,
    ("fp32", "fp32"),
    ("e3m2fn", "fp16"),
    ("e5m2fnuz", "e4m3fnuz"),
    ("e4m3b11fnuz", "e3m4"),
    ("fp16", "e5m7"),
]
SHAPES = [
    (3, 37, 300),
    (2, 5, 7),
    (3, 16, 129),
    (1, 33, 1),
    (2, 24, 128),
    (3, 1, 7),
    (2, 7, 130),
    (3, 150, 7),
    (2, 530, 3),
]


def check(model: acc.Accumulator, formats: Any, number: int, *, count: int = 7, shapes: int = 2) -> None:
    """Hold some products of a model against its twin; the number chooses shapes and operands."""
    for turn in range(shapes):
        shape = SHAPES[(number * shapes + turn) % len(SHAPES)]
        case = Case(model, formats, shape, number, special=(number + turn) % 2)
        got = product(case)
        lines = wrong(case, got, places(got.shape, min(count, 2 + 500 // shape[1]), number))
        assert not lines, f"{model!r}, {formats}, {shape}: {len(lines)} wrong; " + "\n".join(lines[:2])


def numbered(models: Any) -> list[Any]:
    """Return models with their numbers, for `pytest.mark.parametrize`."""
    return [pytest.param(n, model, id=repr(model)) for n, model in enumerate(models)]


# ---------------------------------------------------------------------------------------------------------- Sequential
def sequentials() -> list[acc.Sequential]:
    """Return every format with every rounding, fused or not, and with products in a format of their own."""
    found = [acc.Sequential(fmt, how) for fmt in SUMS for how in ROUNDINGS]
    products = ["e5m2", "fp16", "fp32", "e4m3fn", "bf16", "e5m7"]
    for n, model in enumerate(list(found)):
        found.append(replace(model, fused=False))
        if n % 2:
            found.append(replace(model, product=products[n % len(products)], random_bits=None))
    draws = acc.Sequential("fp16", "stochastic")
    found += [replace(draws, random_bits=n) for n in (1, 2, 13, 31)]
    return [*found, replace(draws, product="e4m3fn", random_bits=3)]


def policies() -> list[acc.Sequential]:
    """Return every policy that a format can express, with all roundings in turn."""
    found = []
    for fmt in SUMS:
        can = lp.format(fmt)
        for overflow in ("inf", "nan", "saturate"):
            if {"inf": can.has_inf, "nan": can.has_nan, "saturate": True}[overflow]:
                for subnormals in ("keep", "flush"):
                    how = ROUNDINGS[len(found) % len(ROUNDINGS)]
                    fused = len(found) % 3 > 0
                    found.append(acc.Sequential(fmt, how, fused, overflow=overflow, subnormals=subnormals))
    return found


@pytest.mark.parametrize(("number", "model"), numbered(sequentials()))
def test_sequential(number: int, model: acc.Sequential) -> None:
    check(model, PAIRS[number % len(PAIRS)], number)


@pytest.mark.parametrize(("number", "model"), numbered(policies()))
def test_sequential_policies(number: int, model: acc.Sequential) -> None:
    check(model, PAIRS[number % len(PAIRS)], number)


@pytest.mark.parametrize("pair", [("fp16", "fp16"), ("bf16", "bf16"), ("tf32", "fp16"), ("fp32", "fp32")], ids=str)
@pytest.mark.parametrize("fmt", SUMS)
def test_one_step_at_every_tie(fmt: str, pair: Any) -> None:
    """Products at half a last place, and a little off it, below what binary32 or binary64 shows beside the sum."""
    p, ulp = lp.format(fmt).precision, 2.0 ** (1 - lp.format(fmt).precision)
    fractions = [1.0, 1.5] + [1 + s * 2.0 ** -lp.format(f).mantissa_bits for f in pair for s in (1, -1)]
    a = nearest(np.array([[s * x] for x in fractions for s in (1, -1)]), pair[0])
    b = nearest(np.array([[x * 2.0**-d for x in fractions for d in (p - 1, p, p + 1, p + 2)]]), pair[1])
    for how in DETERMINISTIC:
        for c in (1.0, 1 + ulp, 2 - ulp, -1.5, -1 - ulp):
            case = Case(acc.Sequential(fmt, how), pair, (len(a), 1, b.shape[1]))
            case.a, case.b, case.c = a, b, np.full((len(a), b.shape[1]), nearest(np.array(c), fmt))
            np.testing.assert_array_equal(product(case), stepped(case))


WIDE = [("fp64", "fp64"), ("fp64", "fp32"), ("bf16", "fp64")]


@pytest.mark.parametrize(("number", "model"), numbered([m for m in sequentials() if m.format.bits <= 19][::3]))
def test_sequential_of_float64(number: int, model: acc.Sequential) -> None:
    """Products of 106 bits, of any exponent."""
    check(model, WIDE[number % 3], number, shapes=1)


def test_sequential_of_float64_far_out() -> None:
    """Products far below and above the range of the sum, and halves of its last place that they move."""
    tiny, huge = 2.0**-1074, 2.0**1023
    ties = [1 + 2.0**-11, 1 + 3 * 2.0**-11, -(1 + 2.0**-11)]
    for how in DETERMINISTIC:
        for a, b, c in [
            *(([t, sign * tiny], [1.0, tiny], 0.0) for t in ties for sign in (1, -1)),
            *(([x], [y], c) for x in (tiny, -tiny) for y in (tiny, 1.0) for c in (0.0, -0.0, 1.0, -(2.0**-24))),
            ([huge, -huge, 1.0], [huge, huge, 1.0], 0.0),
            ([1 + 2.0**-52] * 2, [1 + 2.0**-52, -1 - 2.0**-51], 0.0),
            ([0.0, -tiny], [-tiny, tiny], -0.0),
        ]:
            for model in (acc.Sequential("fp16", how), acc.Sequential("fp16", how, product="bf16")):
                code = [[reference.encode(v, "fp64") for v in x] for x in (a, b)]
                start = reference.encode(c, "fp16")
                want = reference.accumulate(model, *code, start, formats=("fp64", "fp64"))
                got = lp.vecdot(np.array(a), np.array(b), "fp64", accumulator=model, c=c)
                assert int(bits(got)[0]) == wanted_bits(want, model, "fp16", got.dtype), (model, a, b, c)


def stepped(case: Case) -> Array:
    """Return every element's bits by a loop over `round_to`: of a sum of two float64 numbers, rounded to odd there."""
    model: Any = case.model
    a, b, r = (values(x, f) for x, f in zip((case.a, case.b, case.c), (*case.formats, model.format), strict=True))
    with np.errstate(all="ignore"):
        for k in range(a.shape[1]):
            p = a[:, k : k + 1] * b[k]
            s = p + r
            back = s - p
            rest = (p - (s - back)) + (r - back)
            inexact = (rest != 0) & np.isfinite(rest) & (s.view(np.int64) % 2 == 0)
            s = np.where(inexact, np.nextafter(s, np.where(rest > 0, np.inf, -np.inf)), s)
            if model.rounding == "toward_negative":
                s = np.where((s == 0) & ((p != 0) | np.signbit(p) | np.signbit(r)), -0.0, s)
            r = np.asarray(lp.round_to(s, model.format, rounding=model.rounding))
        found = bits(r.astype(np.float32))
    return np.where(np.isnan(r), np.uint32(0x7FC00000), found)


@pytest.mark.parametrize("how", DETERMINISTIC)
@pytest.mark.parametrize("fmt", SUMS)
def test_fused_is_a_loop_over_round_to(fmt: str, how: str) -> None:
    for number, shape in enumerate([(3, 37, 300), (4, 270, 129)]):
        pair = PAIRS[(SUMS.index(fmt) + DETERMINISTIC.index(how) + number) % len(PAIRS)]
        case = Case(acc.Sequential(fmt, how), pair, shape, number, special=number)
        np.testing.assert_array_equal(product(case), stepped(case))


SLOW = [
    (acc.Sequential("fp64", "toward_zero"), ("fp16", "fp16")),
    (acc.Sequential("fp64", product="fp16"), ("fp64", "fp64")),
    (acc.Sequential("fp64"), ("fp64", "bf16")),
    (acc.Sequential(lp.FloatFormat(exponent_bits=10, mantissa_bits=12)), ("fp16", "bf16")),
    (acc.Sequential(lp.FloatFormat(exponent_bits=8, mantissa_bits=40)), ("fp16", "bf16")),
    (acc.Pairwise("fp64", 2), ("bf16", "fp16")),
    (acc.Pairwise("fp16", 3), ("fp64", "fp16")),
    (acc.Exact("fp16", "toward_positive"), ("fp64", "bf16")),
    (acc.Exact(lp.FloatFormat(exponent_bits=8, mantissa_bits=30)), ("bf16", "bf16")),
    (acc.Chunked("fp64", 3, acc.Pairwise("fp64")), ("fp64", "fp64")),
    (acc.Chunked("fp64", 3, "fp16"), ("fp16", "fp64")),
    (acc.Chunked("fp16", 3, "fp64"), ("fp64", "fp16")),
]


@pytest.mark.parametrize(("model", "formats"), SLOW, ids=lambda x: repr(x) if isinstance(x, acc.Accumulator) else None)
def test_beyond_the_kernels(model: acc.Accumulator, formats: Any) -> None:
    """What is evaluated by its definition, or in float64, is the same sum."""
    for number, shape in enumerate([(2, 9, 4), (1, 12, 3)]):
        case = Case(model, formats, shape, number, special=number)
        got = product(case)
        lines = wrong(case, got, places(got.shape, 8))
        assert not lines, lines[:2]


def zero_models() -> list[acc.Accumulator]:
    """Return models of every class with every rounding, for the sign of a zero."""
    found: list[acc.Accumulator] = []
    for how in DETERMINISTIC:
        step = acc.Sequential("fp16", how)
        found += [step, replace(step, fused=False), acc.Pairwise("bf16", 1, how), acc.Pairwise("fp16", 2, how)]
        found += [acc.Exact("bf16", how), acc.Chunked(acc.Pairwise("fp16", 2, how), 2, step)]
        found += [acc.Chunked(step, 2, acc.Pairwise("fp16", 1, how)), replace(step, subnormals="flush")]
    return [*found, acc.Sequential("e4m3fnuz"), acc.Sequential("fp16", "stochastic")]


@pytest.mark.parametrize("model", zero_models(), ids=repr)
def test_signs_of_zeros(model: acc.Accumulator) -> None:
    check_zeros(model, [0.0, -0.0, 1.0, -1.0, 2.0**-80], 4)


# ------------------------------------------------------------------------------------------- Pairwise, Exact, Chunked
PAIRWISE = [
    acc.Pairwise(fmt, block, DETERMINISTIC[(n + block) % len(DETERMINISTIC)])
    for n, fmt in enumerate(SUMS)
    for block in (1, 3, 8)
]


@pytest.mark.parametrize(("number", "model"), numbered(PAIRWISE))
def test_pairwise(number: int, model: acc.Pairwise) -> None:
    check(model, PAIRS[number % len(PAIRS)], number, shapes=3)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_pairwise_for_every_length(block: int) -> None:
    model = acc.Pairwise("fp16", block)
    for k in [*range(20), 31, 32, 33, 63, 64, 65, 127]:
        case = Case(model, ("fp16", "fp16"), (1, k, 2), k)
        lines = wrong(case, product(case), [(0, 1)])
        assert not lines, (k, lines)


EXACT = [acc.Exact(fmt, how) for fmt in (None, "fp16", "bf16", "e4m3fn") for how in DETERMINISTIC]


@pytest.mark.parametrize(("number", "model"), numbered(EXACT))
def test_exact(number: int, model: acc.Exact) -> None:
    check(model, PAIRS[number % len(PAIRS)], number)


@pytest.mark.parametrize("out", ["fp16", "bf16", "e4m3fn", "e5m2", "fp32", "e3m4"])
def test_exact_is_rounded_to_the_result_once(out: str) -> None:
    case = Case(acc.Exact(out), ("bf16", "fp32"), (2, 21, 40), 3, special=1)
    a, b = array(case.a, "bf16"), array(case.b, "fp32")
    got = lp.matmul(a, b, c=array(case.c, out), accumulator="exact", out_dtype=out)
    assert got.dtype == lp.format(out).storage_dtype
    for i, j in places(got.shape, 20):
        want = reference.accumulate(
            acc.Exact(out), case.a[i].tolist(), case.b[:, j].tolist(), int(case.c[i, j]), formats=case.formats
        )
        assert int(got[i, j : j + 1].view(lp.format(out).code_dtype)[0]) == want


def test_exact_sees_every_bit() -> None:
    """Beside a tie, an addend at every distance down to where no product of the formats lies, and of either sign."""
    for fmt, (top, low) in {"fp16": (1.0, 2.0**-11), "fp32": (1.0, 2.0**-24), "bf16": (2.0**60, 2.0**52)}.items():
        rows = [[top, low, s * 2.0**-d] for d in [*range(26, 70), *range(70, 127, 3)] for s in (1.0, -1.0, 0.0)]
        more = [[*row, 2.0**-110 * s] for row in rows[::3] for s in (1.0, -1.0)]
        a, b = np.array([[*row, 0.0] for row in rows] + more), np.array([1.0, 1.0, 2.0**-3, 1.0])
        totals = [sum(Fraction(x) * Fraction(y) for x, y in zip(row, b.tolist(), strict=True)) for row in a.tolist()]
        for how in DETERMINISTIC:
            case = Case(acc.Exact(fmt, how), ("bf16", "bf16"), (len(a), 4, 1))
            case.a, case.b = nearest(a, "bf16"), nearest(b[:, None], "bf16")
            for c in (0.0, top, -top):
                case.c = np.full((len(a), 1), nearest(np.array(c), fmt))
                wanted = [reference.round_to(total + Fraction(c), fmt, rounding=how) for total in totals]
                np.testing.assert_array_equal(product(case)[:, 0].view(np.float32), np.float32(wanted))


INNER: list[Any] = [
    acc.Sequential("fp16"),
    acc.Sequential("fp32"),
    acc.Sequential("bf16", "stochastic", random_bits=7),
    acc.Sequential("e5m2", "to_odd", fused=False),
    acc.Pairwise("fp16", 2, "toward_negative"),
    acc.Exact(),
    acc.Exact("bf16", "toward_zero"),
    acc.FusedTruncated(16, 25),
    acc.FusedTruncated(8, 24, "fp16", "rne"),
    acc.FusedTruncated(4, 23, c_format="fp16"),
    acc.FusedExact(4),
    acc.FlushedPairwise(2),
    acc.FusedTruncatedLateC(8),
    acc.FmaPairOddFirst(),
    acc.EvenOddPair(8),
    acc.BfDotRoundOdd(),
    acc.BfDotFused(),
    acc.Fp8ViaF16(),
]
OUTER = ["fp32", acc.Sequential("fp16", "toward_negative"), acc.Pairwise("fp32", 2), acc.Pairwise("bf16")]
OUTER += [acc.Sequential("e5m7", "stochastic"), acc.Sequential("fp32", "toward_zero", overflow="saturate")]
CHUNKED = [
    acc.Chunked(inner, every, OUTER[(n + t) % len(OUTER)])
    for n, inner in enumerate(INNER)
    for t, every in enumerate((7, 16, 64))
]


@pytest.mark.parametrize(("number", "model"), numbered(CHUNKED))
def test_chunked(number: int, model: acc.Chunked) -> None:
    formats = ("e4m3fn", "e5m2") if isinstance(model.inner, acc.Fp8ViaF16) else PAIRS[number % 2]
    formats = ("bf16", "bf16") if isinstance(model.inner, (acc.FmaPairOddFirst, acc.EvenOddPair)) else formats
    check(model, formats, number, count=8)


# ------------------------------------------------------------------------------------------------------------- Integer
INTEGERS = [
    acc.Integer(bits_, overflow, length, signed)
    for bits_, signed in ((8, True), (16, True), (24, True), (32, True), (32, False), (12, False), (2, True))
    for overflow, length in (("wrap", 1), ("wrap", 4), ("saturate", 1), ("saturate", 3), ("saturate", 4))
]
INTEGER_PAIRS = ["int8 int8", "uint8 int8", "int16 int16", "uint8 uint8", "int4 int8", "int32 int32", "uint32 int8"]


@pytest.mark.parametrize("pair", INTEGER_PAIRS)
@pytest.mark.parametrize("model", INTEGERS, ids=repr)
def test_integer(model: acc.Integer, pair: str, rng: np.random.Generator) -> None:
    formats = [lp.IntFormat(bits=int(w.lstrip("uint")), is_signed=w[0] == "i") for w in pair.split()]
    low, high = int(model.result_format.min), int(model.result_format.max)
    for m, k, n in ((2, 9, 130), (3, 17, 5), (1, 0, 3)):
        operands = []
        for fmt, shape in zip(formats, ((m, k), (k, n)), strict=True):
            edges = [int(fmt.min), int(fmt.max), int(fmt.max) - 1, 0, 1]
            x = rng.integers(int(fmt.min), int(fmt.max), shape, endpoint=True)
            operands.append(np.where(rng.random(shape) < 0.5, rng.choice(edges, shape), x))
        c = rng.choice([low, high, 0, low + 1, high - 1], (m, n))
        a, b = (
            x.astype(lp.format(w).storage_dtype if w == "int4" else w)
            for x, w in zip(operands, pair.split(), strict=True)
        )
        got = lp.matmul(a, b, c=c, accumulator=model)
        assert got.dtype == (np.int32 if model.is_signed else np.uint32)
        for i, j in places(got.shape, 12):
            codes = [
                (x % 2**fmt.bits).tolist() for x, fmt in zip((operands[0][i], operands[1][:, j]), formats, strict=True)
            ]
            code = reference.accumulate(model, *codes, int(c[i, j]) % 2**model.bits, formats=tuple(formats))
            assert int(got[i, j]) == reference.decode(code, model.result_format)


# ------------------------------------------------------------------------------------------------- any model, any codes
OPERANDS = st.sampled_from(
    ["fp16", "bf16", "e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "e5m2fnuz", "e4m3b11fnuz", "tf32", "fp32"]
)
FORMATS = st.builds("e{}m{}".format, st.integers(2, 8), st.integers(1, 23)) | st.sampled_from(SUMS)


def sequential_models(draw: Any) -> acc.Sequential:
    """Draw a `Sequential`."""
    how = draw(st.sampled_from(ROUNDINGS))
    product = draw(st.none() | FORMATS)
    subnormals = draw(st.sampled_from(["keep", "flush"]))
    overflow = draw(st.sampled_from([None, "saturate"]))
    bits_ = draw(st.none() | st.integers(1, 28)) if how == "stochastic" else None
    model = acc.Sequential(draw(FORMATS), how, draw(st.booleans()), product, overflow=overflow, subnormals=subnormals)
    return model if bits_ is None else replace(model, random_bits=min(bits_, model.random_bits or 1))


@given(st.data())
def test_any_sequential(data: st.DataObject) -> None:
    drawn_wrong(data, sequential_models(data.draw), (data.draw(OPERANDS), data.draw(OPERANDS)))


@given(st.data())
def test_any_tree_or_exact_sum(data: st.DataObject) -> None:
    how = data.draw(st.sampled_from(DETERMINISTIC))
    tree = acc.Pairwise(data.draw(FORMATS), data.draw(st.integers(1, 5)), how)
    model = data.draw(st.sampled_from([tree, acc.Exact(tree.format, how)]))
    drawn_wrong(data, model, (data.draw(OPERANDS), data.draw(OPERANDS)))


@given(st.data())
def test_any_chunks(data: st.DataObject) -> None:
    inner = sequential_models(data.draw)
    outer = sequential_models(data.draw) if data.draw(st.booleans()) else acc.Pairwise(data.draw(FORMATS))
    model = acc.Chunked(inner, data.draw(st.integers(1, 6)), outer)
    drawn_wrong(data, model, (data.draw(OPERANDS), data.draw(OPERANDS)))
