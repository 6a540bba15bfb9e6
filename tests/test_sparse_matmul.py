"""matmul with a Sparse24 against its definition, bit for bit: the running fp32 or fp64 sum over kept elements."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import NAN32, assert_same_bits, bits
from hypothesis import given, settings
from hypothesis import strategies as st
from operands import KINDS, operands, random_values, without_nan
from sparse_slow import GROUP, NIBBLES, PATTERNS, Kept, Slow, code_array, finite, keep, same_but_zeros, wanted

import lowprec as lp
from lowprec import reference

Array = np.ndarray[Any, Any]
FORMATS = ("fp32", "fp64", "tf32", "bf16", "fp16", "e4m3fn", "e5m2", "e2m1fn", "e3m2fn")
SPECIALS = np.array([1.0, 0.0, -0.0, np.inf, -np.inf, np.nan, -(2.0**-149), 3e38], np.float32)


def check(kept: Kept, b: Array, dtype: Any = None, what: str = "", **keywords: Any) -> None:
    """Hold ``s @ b`` and ``b.T @ s.T`` against the definition."""
    got = lp.matmul(kept.s, b, dtype, **keywords)
    assert_same_bits(got, Slow(kept.mask).matmul(kept.dense, b, dtype, **keywords), what)


# --------------------------------------------------------------------------------------------- the specification itself
@pytest.mark.parametrize("pattern", PATTERNS)
def test_nibbles_are_places(pattern: str) -> None:
    """A nibble is slot | slot << 2; a slot is one element, a pair of "4:8", half of one of "1:2"."""
    legal = []
    for nibble in range(16):
        try:
            found = reference.places_of(nibble, pattern)
        except ValueError:
            continue
        legal.append(nibble)
        assert reference.nibble_of(found, pattern) == nibble
        slots = sorted({4 * place // GROUP[pattern] for place in found})
        assert pattern == "1:2" or slots == [nibble % 4, nibble // 4]
    assert tuple(legal) == NIBBLES[pattern]
    assert pattern != "1:2" or [reference.places_of(n, pattern) for n in legal] == [(0,), (1,)]
    for places in ((), (1, 0), (0, 0), (0, GROUP[pattern]), (0, 1, 2)):
        with pytest.raises(ValueError, match="`places` must be those of a nibble"):
            reference.nibble_of(places, pattern)


def test_specification_refuses() -> None:
    for call, message in (
        (lambda: reference.places_of(4, "2:8"), "`pattern` must be one of"),
        (lambda: reference.nibble_of((0, 1), "2:8"), "`pattern` must be one of"),
        (lambda: reference.places_of(0x14), "`nibble` must be a legal code"),
        (lambda: reference.kept_places([0, 4]), "`indices` must be 2 ascending places"),
        (lambda: reference.kept_places([1, 0]), r"got \[1, 0\]"),
        (lambda: reference.kept_places([0, 1, 2]), r"got \[2\]"),
        (lambda: reference.expanded([1, 2, 3], [0, 1], 4), "zip"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_definitions_agree(pattern: str) -> None:
    """The one in integers and fractions, and the one in arrays: codes of fp32, specials among them."""
    for length in (1, 2, 3, 4, 5, 7, 8, 11):
        a, b = random_values("fp32", (3, length), length), random_values("fp32", (length, 4), length)
        kept = keep(finite(a) if length % 2 else a, pattern)
        want = Slow(kept.mask).product(kept.dense, b, None, np.float32)
        assert_same_bits(wanted(kept, b, lp.Sequential(), ("fp32", "fp32")).astype(np.uint32), bits(want))


# ------------------------------------------------------------------------------------------------ points that matter
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_place_of_a_group(pattern: str) -> None:
    """Every nibble, every place of b special in turn: what is not kept is not seen, what is kept counts."""
    group = GROUP[pattern]
    for special in (np.inf, -np.inf, np.nan, -0.0, 2.0**-149):
        b = np.ones((2 * group, group), np.float32)
        b[np.arange(group), np.arange(group)] = special
        full = np.ones((len(NIBBLES[pattern]), 2 * group), np.float32)
        for value in (1.0, 0.0, -0.0, np.inf):
            full[:, :group] = value
            kept = keep(full, pattern, nibbles=np.array(NIBBLES[pattern])[:, None])
            check(kept, b, what=f"{special} {value}")
            if value == 0 and not np.isfinite(special):
                got = lp.matmul(kept.s, b)
                assert (np.isnan(got) == kept.mask[:, :group]).all()


def test_infinities_and_nan_are_seen_at_kept_places_only() -> None:
    s = lp.Sparse24(np.float32([[0, 2]]), np.uint8([[1, 3]]))
    for b, want in (
        ([np.inf, 1, np.nan, 3], 6.0),
        ([1, np.inf, 1, 1], NAN32),  # a kept zero counts
        ([1, 1, 1, -np.inf], -np.inf),
        ([np.nan, np.nan, np.nan, 0.5], NAN32),
        ([-np.inf, -1, np.inf, -0.0], 0.0),
    ):
        assert_same_bits(lp.matmul(s, np.float32(b)[:, None]), np.float32([[want]]), str(b))
        assert_same_bits(lp.matmul(np.float32(b)[None], s.T), np.float32([[want]]), str(b))


def test_zero_keeps_the_sign_of_the_sum_of_kept_products() -> None:
    """Adding +0 * b turns -0 into +0 in the dense product; an element that is not kept adds nothing."""
    s = lp.Sparse24(np.float32([[-1, 1], [-1, 0]]), np.uint8([[0, 3], [0, 3]]))
    b = np.float32([[0.0], [1.0], [1.0], [-0.0]])
    c = np.full((2, 1), -0.0, np.float32)
    assert_same_bits(lp.matmul(s, b, c=c), np.float32([[-0.0], [-0.0]]))
    assert_same_bits(lp.matmul(s, b), np.float32([[0.0], [0.0]]))
    assert_same_bits(lp.matmul(s.to_dense(), b, c=c), np.float32([[0.0], [0.0]]))
    b[3] = 0.0
    assert_same_bits(lp.matmul(s, b, c=c), np.float32([[0.0], [0.0]]))


def test_nothing_kept() -> None:
    """K of 0, and K of 1 or 2 with both kept places beyond: c or +0."""
    for length in (0, 1, 2):
        groups = min(length, 1)
        s = lp.Sparse24(np.zeros((2, 2 * groups), np.float32), np.full((2, 2 * groups), [2, 3][: 2 * groups] * groups),
                        length=length)  # fmt: skip
        assert s.shape == (2, length)
        b = np.full((length, 3), np.nan, np.float32)
        c = np.float32([[-0.0, np.inf, 2.0**-149]] * 2)
        assert_same_bits(lp.matmul(s, b), np.zeros((2, 3), np.float32))
        assert_same_bits(lp.matmul(s, b, c=c), c)
        assert_same_bits(lp.matmul(b.T, s.T, c=c[0, 0]), np.full((3, 2), -0.0, np.float32))


def test_order_is_ascending_k() -> None:
    """In binary32 the addends before 2**24 count, most of those after it are lost: each place in turn."""
    for pattern in PATTERNS:
        full = np.ones((1, 24), np.float32)
        for place in range(24):
            kept = keep(full, pattern, seed=place)
            b = np.ones((24, 1), np.float32)
            b[place] = 2.0**24
            check(kept, b, what=f"{pattern} {place}")


def test_index_of_each_value_is_its_own() -> None:
    """Rows differ in every group; b[k] = 2**k says which places were read."""
    for pattern, length in itertools.product(PATTERNS, (20, 22, 23)):
        kept = keep(np.ones((40, length), np.float32), pattern)
        b = 2.0 ** np.arange(length, dtype=np.float32)[:, None]
        want = (kept.mask * 2.0 ** np.arange(length)).sum(-1)
        assert_same_bits(lp.matmul(kept.s, b), want.astype(np.float32)[:, None])


def test_order_of_values() -> None:
    """The values of a group are not exchanged, the two elements of a pair neither."""
    for pattern, length in itertools.product(PATTERNS, (20, 22, 23)):
        full = 2.0 ** np.arange(length, dtype=np.float32)[None].repeat(40, 0)
        kept = keep(full, pattern)
        got = lp.matmul(kept.s, np.eye(length, dtype=np.float32))
        assert_same_bits(got, kept.dense, pattern)


# ------------------------------------------------------------------------------------------------- kinds and formats
@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    """Cancelling, tying, subnormal, overflowing, infinite, NaN-bearing, of every pattern."""
    a, b = operands(kind, 11, 67, 37)
    for pattern in PATTERNS:
        check(keep(a, pattern), b, what=pattern)
    check(keep(a), b, "bf16")
    c = operands(kind, 11, 1, 37, 1)[0] * np.float32(1)
    check(keep(a, "4:8"), b, ("bf16", "fp16"), c=np.broadcast_to(c, (11, 37)))
    dense = operands(kind, 37, 67, 1)[0]
    assert_same_bits(lp.matmul(dense, keep(a).s.T), Slow(None, keep(a).mask.T).matmul(dense, keep(a).dense.T))


@pytest.mark.parametrize("fmt", FORMATS)
def test_formats(fmt: str) -> None:
    """Rounded on the way, and stored in the format; specials in kept values and in b."""
    pattern = "1:2" if fmt in ("tf32", "fp64") else "4:8" if fmt == "e2m1fn" else "2:4"
    for kind in ("cancelling", "powers", "overflowing", "nan", "tiny"):
        a, b = (without_nan(x, fmt) for x in operands(kind, 7, 30, 9))
        check(keep(a, pattern), b, fmt, kind)
        check(keep(a, "2:4"), b, (fmt, "bf16"), kind)
    values, b = random_values(fmt, (6, 14)), random_values(fmt, (14, 5), 1)
    kept = keep(values, pattern)
    check(kept, b)
    codes = wanted(kept, b, lp.Sequential("fp64" if fmt == "fp64" else "fp32"), (fmt, fmt))
    got = lp.matmul(kept.s, b)
    assert_same_bits(bits(got), codes.astype(bits(got).dtype))


def test_formats_of_each_operand() -> None:
    """Every pair of dtypes that are stored, without `dtype`, and `fp64` sums of narrow formats."""
    for left, right in itertools.product(("fp32", "bf16", "e4m3fn", "fp64"), ("fp16", "e5m2", "fp64")):
        kept, b = keep(random_values(left, (3, 10))), random_values(right, (10, 4))
        check(kept, b)
    a, b = operands("cancelling", 5, 23, 6)
    check(keep(a), b, accumulator="fp64")
    check(keep(a.astype(np.float64) / 3, "4:8"), b.astype(np.float64) / 7)
    check(keep(a.astype(np.float64) / 3), b.astype(np.float64) / 7, "e2m1fn")


def test_other_arguments() -> None:
    a, b = operands("normal", 6, 21, 10)
    kept, c = keep(a), operands("normal", 6, 1, 10, 3)[0] @ np.ones((1, 10), np.float32)
    for start in (c, c[:1], c[:, :1], np.float32(-0.0), 3, c.astype(np.float64) / 3):
        check(kept, b, "bf16", c=start)
    for out_dtype in ("bf16", "e4m3fn", "e2m1fn", "fp64", "tf32", np.float16):
        check(kept, b, "fp16", out_dtype=out_dtype)
        check(kept, b * 1000, "bf16", out_dtype=out_dtype, overflow="saturate", rounding="toward_zero")
    for rounding in ("nearest_away", "toward_positive", "toward_negative", "to_odd"):
        check(kept, b, "e4m3fn", rounding=rounding)
    check(kept, b * 2.0**-13, "fp16", subnormals="flush")
    check(kept, b * 2.0**-13, "fp16", subnormals="flush_inputs")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_stochastic_operands_draw_by_their_place_in_the_dense_array(pattern: str) -> None:
    a, b = operands("normal", 6, 21, 5)
    kept = keep(a, pattern)
    for keywords in ({"rng": 3}, {"rng": 2**40 + 1, "random_bits": 5, "out_dtype": "bf16"}):
        check(kept, b, "e4m3fn", rounding="stochastic", **keywords)
        columns = keep(a.T, pattern, axis=0)
        got = lp.matmul(b.T, columns.s, "e4m3fn", rounding="stochastic", **keywords)
        want = Slow(None, columns.mask).matmul(b.T, columns.dense, "e4m3fn", rounding="stochastic", **keywords)
        assert_same_bits(got, want)


def test_out() -> None:
    a, b = operands("normal", 6, 21, 10)
    kept = keep(a)
    want = Slow(kept.mask).matmul(kept.dense, b, "bf16")
    for out in (np.full((6, 10), np.nan, np.float32), np.full((10, 6), np.nan, np.float32).T,
                np.full((6, 30), np.nan, np.float32)[:, ::3]):  # fmt: skip
        assert lp.matmul(kept.s, b, "bf16", out=out) is out
        assert_same_bits(out, want)
    c = want.copy()
    lp.matmul(kept.s, b, "bf16", c=c, out=c)
    assert_same_bits(c, Slow(kept.mask).matmul(kept.dense, b, "bf16", c=want))
    out = np.empty((6, 10), ml_dtypes.bfloat16)
    lp.matmul(kept.s, b, "fp16", out_dtype="bf16", out=out)
    assert_same_bits(out, Slow(kept.mask).matmul(kept.dense, b, "fp16", out_dtype="bf16"))


# ---------------------------------------------------------------------------------------------------------- hypothesis
@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Kept, Array, Array | None]:
    """Draw a format, two rows of codes and where they are kept, three columns, and where the sums start."""
    fmt, pattern = draw(st.sampled_from(FORMATS[:-1])), draw(st.sampled_from(PATTERNS))
    length = draw(st.integers(0, 19))
    number = lp.format(fmt)
    one, step = int(reference.encode(1.0, fmt)), 1 << number.mantissa_bits
    near = [one + n * step for n in (-12, -6, -1, 0, 1, 2) if 0 <= one + n * step <= number.max_code]
    code = st.sampled_from([0, 1, one, number.max_code, *near]) | st.integers(0, 2**number.magnitude_bits - 1)
    signed = st.builds(lambda x, s: x | s << number.magnitude_bits, code, st.integers(0, 1))

    def codes(rows: int, columns: int) -> Array:
        drawn = draw(st.lists(signed, min_size=rows * columns, max_size=rows * columns))
        return code_array(np.array(drawn, np.uint64).reshape(rows, columns), fmt)

    groups = -(-length // GROUP[pattern])
    nibbles = draw(st.lists(st.sampled_from(NIBBLES[pattern]), min_size=2 * groups, max_size=2 * groups))
    kept = keep(codes(2, length), pattern, nibbles=np.array(nibbles, int).reshape(2, groups))
    c = draw(st.none() | st.sampled_from([-0.0, 1.0, -(2.0**24), np.inf]))
    return fmt, kept, codes(length, 3), c


@given(cases())
@settings(max_examples=80)
def test_any_codes(case: tuple[str, Kept, Array, Any]) -> None:
    """The specification in integers, any codes; and for finite ones the dense product, but for signs of zeros."""
    fmt, kept, b, c = case
    model = lp.Sequential("fp64" if fmt == "fp64" else "fp32")
    start = None if c is None else np.full((2, 3), c, np.float64 if fmt == "fp64" else np.float32)
    given_c = None if start is None else bits(start).astype(object).tolist()
    want = wanted(kept, b, model, (fmt, fmt), given_c)
    got = lp.matmul(kept.s, b, c=start)
    np.testing.assert_array_equal(bits(got), want.astype(bits(got).dtype))
    if np.isfinite(kept.dense.astype(np.float64)).all() and np.isfinite(b.astype(np.float64)).all():
        same_but_zeros(got, lp.matmul(kept.dense, b, c=start))
