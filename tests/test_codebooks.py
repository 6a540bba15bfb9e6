"""Formats that are tables: nearest values by a slow search, ties, errors, and the kernel of large arrays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import lowprec as lp
from lowprec.blocks import FP4_BNB, IQ4_NL, NF4

UNEVEN = lp.CodebookFormat("uneven", [0.5, -3.0, 0.5, 7.25, 0.0])
LONG = lp.CodebookFormat("long", np.random.default_rng(0).standard_normal(200).astype(np.float32))
BOOKS = [NF4, FP4_BNB, IQ4_NL, UNEVEN, LONG]


def nearest(x: float, values: tuple[float, ...]) -> int:
    """Return the nearest value's code; ties to the smaller value, then to the smaller code."""
    return min(range(len(values)), key=lambda c: (abs(Fraction(values[c]) - Fraction(x)), values[c], c))


def points(book: lp.CodebookFormat) -> np.ndarray:
    values = np.sort(np.array(book.values))
    middles = (values[:-1] + values[1:]) / 2
    all_points = np.concatenate([values, middles, [values[0] * 3, values[-1] * 3, 0.0, -0.0]])
    around = [all_points, np.nextafter(all_points, np.inf), np.nextafter(all_points, -np.inf)]
    return np.concatenate(around)


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_nearest(book: lp.CodebookFormat) -> None:
    x = points(book)
    want = [nearest(v, book.values) for v in x]
    assert lp.encode(x, book).tolist() == want
    many = np.tile(x, -(-20_000 // x.size))
    assert np.array_equal(lp.encode(many, book)[: x.size], want)  # by the kernel, for short tables
    assert np.array_equal(
        lp.encode(many.astype(np.float32), book), lp.encode(many.astype(np.float32)[:, None], book)[:, 0]
    )
    assert np.array_equal(lp.decode(lp.encode(book.values, book), book, dtype=np.float64), book.values)


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_kernel_and_search_agree(book: lp.CodebookFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([points(book), rng.standard_normal(70_000) * book.max])
    single = x.astype(np.float32)
    got = lp.encode(x, book), book.encode_single(single)
    monkeypatch.setattr("lowprec.codebooks._SMALL", 1 << 60)
    assert np.array_equal(got[0], lp.encode(x, book))
    assert np.array_equal(got[1], book.encode_single(single))


def test_pack_and_keywords() -> None:
    codes = np.array([0, 3, 4, 1], np.uint8)
    assert UNEVEN.bits == 3
    assert np.array_equal(lp.unpack(lp.pack(codes, UNEVEN), UNEVEN, 4), codes)
    out = np.empty(2, np.uint8)
    assert lp.encode([7.0, 0.4], UNEVEN, out=out) is out
    assert out.tolist() == [3, 0]
    with pytest.raises(ValueError, match="`rounding` and `overflow` must be left"):
        lp.encode(1.0, UNEVEN, rounding="toward_zero")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, [1, 2]), TypeError, "`name` must be a string"),
        (("x", ["a", "b"]), TypeError, "`values` must be a sequence of real numbers"),
        (("x", [1.0]), ValueError, "`values` must have 2 to 256 numbers"),
        (("x", range(257)), ValueError, "`values` must have 2 to 256 numbers"),
        (("x", [0.0, np.inf]), ValueError, "`values` must be finite, got inf"),
    ],
)
def test_wrong_tables(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lp.CodebookFormat(*arguments)


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match="`x` must hold no NaN"):
        lp.encode([np.nan], NF4)
    with pytest.raises(ValueError, match="`codes` must be from 0 to 4"):
        lp.decode([5], UNEVEN)
    with pytest.raises(TypeError, match="`codes` must be unsigned integers"):
        lp.decode([0.5], UNEVEN)
