"""Bad input: the right exception, a message that names the argument and says what came, and `out` left as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits

import lowprec as lp

A, B = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
READ_ONLY = np.zeros((2, 4), np.float32)
READ_ONLY.flags.writeable = False
NAN = np.float32([[1.0, np.nan, 1.0]] * 2)


def call(*args: Any, **keywords: Any) -> Callable[[], Any]:
    return lambda: lp.matmul(*args, **keywords)


# What is wrong: the call, the exception, and patterns that its message must all hold.
CASES: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "unknown format": (call(A, B, "bf61"), ValueError, ("`dtype`", "'bf61'", "bf16")),
    "unknown format, near e4m3fn": (call(A, B, "e4m3f"), ValueError, ("`dtype`", "e4m3fn")),
    "unknown format in a pair": (call(A, B, ("bf16", "e5m22x")), ValueError, ("`dtype`", "e5m22x", "e5m2")),
    "ambiguous fp8": (call(A, B, "fp8"), ValueError, ("`dtype`", "'fp8'", "fp8_e4m3", "fp8_e5m2")),
    "GGML format": (call(A, B, "q4_1"), ValueError, ("`dtype`", "GGML", "lp.quantize")),
    "dtype of another kind": (call(A, B, 3.5), TypeError, ("`dtype`", "3.5")),
    "pair of one": (call(A, B, ("bf16",)), (TypeError, ValueError), ("`dtype`", "pair|two|2")),
    "pair of three": (call(A, B, ("bf16", "bf16", "bf16")), (TypeError, ValueError), ("`dtype`", "pair|two|2")),
    "inner dimensions": (
        call(A, np.ones((4, 5), np.float32), "bf16"),
        ValueError,
        (r"`[ab]`", r"\(2, 3\)", r"\(4, 5\)"),
    ),
    "inner dimension of one": (call(A, np.ones((1, 5)), "bf16"), ValueError, (r"`[ab]`", r"\(2, 3\)", r"\(1, 5\)")),
    "vector too short": (call(A, np.ones(2), "bf16"), ValueError, (r"`[ab]`", r"\(2, 3\)", r"\(2,\)")),
    "two vectors": (call(np.ones(3), np.ones(2), "bf16"), ValueError, (r"`[ab]`", r"\(3,\)", r"\(2,\)")),
    "batches": (
        call(np.ones((2, 2, 3)), np.ones((3, 3, 4)), "bf16"),
        ValueError,
        (r"`[ab]`", r"\(2, 2, 3\)", r"\(3, 3, 4\)"),
    ),
    "scalar a": (call(1.0, B, "bf16"), ValueError, ("`a`", r"\(\)|scalar")),
    "scalar b": (call(A, np.float32(2.0), "bf16"), ValueError, ("`b`", r"\(\)|scalar")),
    "object a": (call(np.array([[1, "x", None]], object), B, "bf16"), TypeError, ("`a`", "object")),
    "object b": (call(A, np.array([[1], ["x"], [None]], object), "bf16"), TypeError, ("`b`", "object")),
    "complex a": (call(A + 0j, B, "bf16"), TypeError, ("`a`", "complex")),
    "complex b": (call(A, B + 0j, "bf16"), TypeError, ("`b`", "complex")),
    "complex a, no dtype": (call(A + 0j, B), TypeError, ("`a`", "complex")),
    "string a": (call(np.array([["1", "2", "3"]]), B, "bf16"), TypeError, ("`a`", "U1|str")),
    "string b, no dtype": (call(A, np.array([["1"], ["2"], ["3"]])), TypeError, ("`b`", "U1|str")),
    "dates": (call(A, np.zeros((3, 1), "M8[s]"), "bf16"), TypeError, ("`b`", "datetime")),
    "none": (call(None, B, "bf16"), (TypeError, ValueError), ("`a`",)),
    "unsigned format": (call(A, B, "uint8"), ValueError, ("`dtype`", "uint8", "signed", "lp.quantize")),
    "integer format in a pair": (call(A, B, ("bf16", "uint4")), ValueError, ("`dtype`", "uint4", "lp.quantize")),
    "integers times floats, no dtype": (call(A.astype(np.int8), B), TypeError, ("`dtype`", "int8", "float32")),
    "int4 arrays with a float sum": (
        call(A.astype(ml_dtypes.int4), B.astype(ml_dtypes.int4), accumulator="fp16"),
        ValueError,
        ("`accumulator`", "float16", "int4"),
    ),
    "int64 arrays, no dtype": (call(A.astype(np.int64), B.astype(np.int64)), TypeError, ("`a`", "32 bits", "int64")),
    "NaN in a without NaN": (call(NAN, B, "e2m1fn"), ValueError, ("`a`", "NaN", "e2m1fn")),
    "NaN in b without NaN": (
        call(A, np.full((3, 4), np.nan), ("bf16", "e3m2fn")),
        ValueError,
        ("`b`", "NaN", "e3m2fn"),
    ),
    "NaN in the result without NaN": (
        call(A, B * np.float32(np.inf) * [1, -1, 1, -1], "bf16", c=np.float32(np.nan), out_dtype="e2m1fn"),
        ValueError,
        ("NaN", "e2m1fn"),
    ),
    "out not an array": (call(A, B, "bf16", out=[[0.0] * 4] * 2), TypeError, ("`out`", "list")),
    "out of wrong shape": (
        call(A, B, "bf16", out=np.zeros((4, 2), np.float32)),
        ValueError,
        ("`out`", r"\(2, 4\)", r"\(4, 2\)"),
    ),
    "out with an axis more": (
        call(A, B, "bf16", out=np.zeros((1, 2, 4), np.float32)),
        ValueError,
        ("`out`", r"\(2, 4\)", r"\(1, 2, 4\)"),
    ),
    "out of wrong dtype": (call(A, B, "bf16", out=np.zeros((2, 4))), TypeError, ("`out`", "float32", "float64")),
    "out of wrong out_dtype": (
        call(A, B, "bf16", out_dtype="bf16", out=np.zeros((2, 4), np.float32)),
        TypeError,
        ("`out`", "bfloat16", "float32"),
    ),
    "out not of fp64": (
        call(A, B, "bf16", accumulator="fp64", out=np.zeros((2, 4), np.float32)),
        TypeError,
        ("`out`", "float64", "float32"),
    ),
    "out read-only": (call(A, B, "bf16", out=READ_ONLY), ValueError, ("`out`", "writ|read-only")),
    "rng missing": (call(A, B, "bf16", rounding="stochastic"), ValueError, ("`rng`", "stochastic", "None")),
    "rng a float": (call(A, B, "bf16", rounding="stochastic", rng=0.5), TypeError, ("`rng`", "0.5")),
    "rng a string": (call(A, B, "bf16", rounding="stochastic", rng="1"), TypeError, ("`rng`", "'1'")),
    "rng legacy": (
        call(A, B, "bf16", rounding="stochastic", rng=np.random.RandomState(0)),
        TypeError,
        ("`rng`", "RandomState"),
    ),
    "rng negative": (call(A, B, "bf16", rounding="stochastic", rng=-1), ValueError, ("`rng`", "-1")),
    "rng too large": (call(A, B, "bf16", rounding="stochastic", rng=2**64), ValueError, ("`rng`", str(2**64))),
    "random_bits of 0": (
        call(A, B, "bf16", rounding="stochastic", rng=0, random_bits=0),
        ValueError,
        ("`random_bits`", "0"),
    ),
    "random_bits of 33": (
        call(A, B, "bf16", rounding="stochastic", rng=0, random_bits=33),
        ValueError,
        ("`random_bits`", "33"),
    ),
    "random_bits a float": (
        call(A, B, "bf16", rounding="stochastic", rng=0, random_bits=8.0),
        TypeError,
        ("`random_bits`", r"8\.0"),
    ),
    "rounding unknown": (
        call(A, B, "bf16", rounding="nearest_evn"),
        ValueError,
        ("`rounding`", "nearest_evn", "nearest_even"),
    ),
    "rounding of another kind": (call(A, B, "bf16", rounding=1), TypeError, ("`rounding`", "1")),
    "overflow unknown": (call(A, B, "bf16", overflow="saturated"), ValueError, ("`overflow`", "saturated", "saturate")),
    "overflow of another kind": (call(A, B, "bf16", overflow=True), TypeError, ("`overflow`", "True")),
    "infinity in e4m3fn": (
        call(A, B, "e4m3fn", overflow="inf"),
        ValueError,
        ("`overflow`", "e4m3fn", "inf", "saturate"),
    ),
    "infinity in the pair's second": (
        call(A, B, ("bf16", "e4m3fn"), overflow="inf"),
        ValueError,
        ("`overflow`", "e4m3fn"),
    ),
    "NaN policy in e2m1fn": (call(A, B, "e2m1fn", overflow="nan"), ValueError, ("`overflow`", "e2m1fn", "saturate")),
    "subnormals unknown": (call(A, B, "bf16", subnormals="flushed"), ValueError, ("`subnormals`", "flushed", "flush")),
    "subnormals of another kind": (call(A, B, "bf16", subnormals=False), TypeError, ("`subnormals`", "False")),
    "accumulator unknown": (call(A, B, "bf16", accumulator="fp23"), ValueError, ("`accumulator`", "fp23", "fp32")),
    "accumulator of another kind": (call(A, B, "bf16", accumulator=32), TypeError, ("`accumulator`", "32")),
    "accumulator close to one": (call(A, B, "bf16", accumulator="nvidia-hoper"), ValueError, ("nvidia-hopper",)),
    "preset without a row": (call(A, B, "bf16", accumulator="nvidia-volta"), ValueError, ("nvidia-volta", "float16")),
    "integer sum of floats": (call(A, B, "bf16", accumulator="int32"), ValueError, ("`accumulator`", "bfloat16")),
    "scales missing": (
        call(A, B, "e2m1fn", accumulator=lp.FusedTruncatedScaled()),
        ValueError,
        ("`a`", "scales", "QuantizedArray"),
    ),
    "stochastic sum without a seed": (
        call(A, B, "bf16", accumulator=lp.Sequential("fp16", "stochastic")),
        ValueError,
        ("`rng`",),
    ),
    "wide operands for hardware": (
        call(A, B, "fp64", accumulator=lp.FusedTruncated(4, 23)),
        ValueError,
        ("`dtype`", "float64"),
    ),
    "out_dtype unknown": (call(A, B, "bf16", out_dtype="fp61"), ValueError, ("`out_dtype`", "fp61", "fp16")),
    "out_dtype ambiguous": (call(A, B, "bf16", out_dtype="fp8"), ValueError, ("`out_dtype`", "fp8_e4m3", "fp8_e5m2")),
    "out_dtype of another kind": (call(A, B, "bf16", out_dtype=16), TypeError, ("`out_dtype`", "16")),
    "out_dtype an integer": (call(A, B, "bf16", out_dtype="int8"), ValueError, ("`out_dtype`", "int8")),
    "c of wrong shape": (
        call(A, B, "bf16", c=np.zeros((4, 2), np.float32)),
        ValueError,
        ("`c`", r"\(2, 4\)", r"\(4, 2\)"),
    ),
    "c larger than the result": (
        call(A, B, "bf16", c=np.zeros((3, 2, 4), np.float32)),
        ValueError,
        ("`c`", r"\(3, 2, 4\)"),
    ),
    "c complex": (call(A, B, "bf16", c=np.zeros((2, 4), complex)), TypeError, ("`c`", "complex")),
    "c a string": (call(A, B, "bf16", c="zero"), TypeError, ("`c`",)),
    "vecdot lengths": (
        lambda: lp.vecdot(np.ones((2, 3)), np.ones((2, 4)), "bf16"),
        ValueError,
        (r"`[ab]`", r"\(2, 3\)", r"\(2, 4\)"),
    ),
    "vecdot batches": (
        lambda: lp.vecdot(np.ones((2, 3)), np.ones((5, 3)), "bf16"),
        ValueError,
        (r"`[ab]`", r"\(2, 3\)", r"\(5, 3\)"),
    ),
    "vecdot scalar": (lambda: lp.vecdot(1.0, np.ones(3), "bf16"), ValueError, ("`a`",)),
    "vecdot complex": (lambda: lp.vecdot(np.ones(3), np.ones(3) * 1j, "bf16"), TypeError, ("`b`", "complex")),
    "vecdot unknown format": (lambda: lp.vecdot(np.ones(3), np.ones(3), "e4m3fm"), ValueError, ("`dtype`", "e4m3fn")),
    "linear features": (
        lambda: lp.linear(A, np.ones((5, 4)), None, "bf16"),
        ValueError,
        (r"`[xw]`", r"\(2, 3\)", r"\(5, 4\)"),
    ),
    "linear weight of one axis": (lambda: lp.linear(A, np.ones(3), None, "bf16"), ValueError, ("`w`", r"\(3,\)")),
    "linear scalar": (lambda: lp.linear(1.0, np.ones((5, 3)), None, "bf16"), ValueError, ("`x`",)),
    "linear bias": (
        lambda: lp.linear(A, np.ones((5, 3)), np.ones(4), "bf16"),
        ValueError,
        ("`bias`", r"\(4,\)", "5"),
    ),
    "linear complex bias": (
        lambda: lp.linear(A, np.ones((5, 3)), np.ones(5) * 1j, "bf16"),
        TypeError,
        ("`bias`", "complex"),
    ),
    "linear complex x": (lambda: lp.linear(A * 1j, np.ones((5, 3)), None, "bf16"), TypeError, ("`x`", "complex")),
    "linear object w": (lambda: lp.linear(A, np.full((5, 3), None), None, "bf16"), TypeError, ("`w`", "object")),
    "linear unknown format": (
        lambda: lp.linear(A, np.ones((5, 3)), None, "bfloat61"),
        ValueError,
        ("`dtype`", "bfloat16"),
    ),
    "threads 0": (lambda: lp.set_num_threads(0), ValueError, ("`n`", "0")),
    "threads negative": (lambda: lp.set_num_threads(-2), ValueError, ("`n`", "-2")),
    "threads a float": (lambda: lp.set_num_threads(2.0), TypeError, ("`n`", r"2\.0")),
    "threads a string": (lambda: lp.set_num_threads("2"), TypeError, ("`n`", "'2'")),
    "threads none": (lambda: lp.set_num_threads(None), TypeError, ("`n`", "None")),
    "threads a bool": (lambda: lp.set_num_threads(True), TypeError, ("`n`", "True")),
}


def check_message(function: Callable[[], Any], kind: Any, patterns: tuple[str, ...]) -> None:
    """Fail unless ``function`` raises exactly such an exception with a message that holds every pattern."""
    before = lp.get_num_threads()
    try:
        function()
    except Exception as error:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(error) not in kinds:
            raise AssertionError(f"{type(error).__name__} instead of {kinds}: {error}") from error
        for pattern in (*patterns, r"[.?]$"):
            if not re.search(pattern, str(error)):
                raise AssertionError(f"no {pattern!r} in: {error}") from error
    else:
        raise AssertionError("no exception")
    assert lp.get_num_threads() == before


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    check_message(*CASES[name])


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("threads")])
def test_message_says_what_must_be(name: str) -> None:
    """`name` must ..., got ...: the house's wording."""
    with pytest.raises((TypeError, ValueError, NotImplementedError), match=r"`\w+`.* must .*") as caught:
        CASES[name][0]()
    assert "assert" not in str(caught.value).lower()


def bad_calls(out: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Return calls with a good `out` that fail for another reason, as late as can be."""
    many = np.ones((300, 3), np.float32)
    many[-1, -1] = np.nan
    tall = np.zeros((300, 4), np.float32)
    return {
        "format": lambda: lp.matmul(A, B, "bf61", out=out),
        "shapes": lambda: lp.matmul(A, B[:2], "bf16", out=out),
        "NaN in a": lambda: lp.matmul(NAN, B, "e2m1fn", out=out),
        "NaN in b": lambda: lp.matmul(A, np.full((3, 4), np.nan), ("bf16", "e2m1fn"), out=out),
        "shape of c": lambda: lp.matmul(A, B, "bf16", c=np.zeros((3, 4)), out=out),
        "rng": lambda: lp.matmul(A, B, "bf16", rounding="stochastic", out=out),
        "policy": lambda: lp.matmul(A, B, "e4m3fn", overflow="inf", out=out),
        "kind": lambda: lp.matmul(A, B * 1j, "bf16", out=out),
        "accumulator": lambda: lp.matmul(A, B, "bf16", accumulator="fp23", out=out),
        "late NaN": lambda: lp.matmul(many, B, "e2m1fn", out=tall),
        "late NaN in linear": lambda: lp.linear(many, B.T, None, "e2m1fn", out=tall),
        "bias": lambda: lp.linear(A, B.T, np.ones(3), "bf16", out=out),
        "late NaN in vecdot": lambda: lp.vecdot(many[None, -4:], many[-4:], "e2m1fn", out=out[:1]),
    }


@pytest.mark.parametrize("name", bad_calls(np.zeros((2, 4), np.float32)))
def test_out_is_untouched_after_an_error(name: str) -> None:
    out = np.full((2, 4), 7.0, np.float32)
    with pytest.raises((TypeError, ValueError)):
        bad_calls(out)[name]()
    assert (out == 7.0).all()


def test_out_is_untouched_when_the_result_has_no_code() -> None:
    """A NaN in the last row of a result that must go into a format without NaN."""
    a = np.ones((2000, 3), np.float32)
    a[-1] = np.inf, -np.inf, 0
    out = np.full((2000, 4), 3.0, ml_dtypes.float4_e2m1fn)
    with pytest.raises(ValueError, match="NaN"):
        lp.matmul(a, B, "bf16", out_dtype="e2m1fn", out=out)
    assert (out == 3.0).all()


def overlaps() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return square operands, and an `out` that shares memory with one of them."""
    rng = np.random.default_rng(0)
    found = {}
    for name in ("a itself", "b itself", "a transposed", "b shifted", "a reversed", "half of b"):
        a, b = np.float32(rng.standard_normal((2, 12, 12)))
        if name == "b shifted":
            base = np.float32(rng.standard_normal((13, 12)))
            found[name] = a, base[:12], base[1:]
        elif name == "half of b":
            base = np.float32(rng.standard_normal((12, 24)))
            found[name] = a, base[:, :12], base[:, 6:18]
        else:
            out = {"a itself": a, "b itself": b, "a transposed": a.T, "a reversed": a[::-1]}[name]
            found[name] = a, b, out
    return found


@pytest.mark.parametrize("name", overlaps())
@pytest.mark.parametrize("function", ["matmul", "linear"])
def test_out_that_overlaps_an_operand(name: str, function: str) -> None:
    """Either refused with `out` intact, or computed as if it did not overlap: never a mixture."""
    a, b, out = overlaps()[name]
    before, want = out.copy(), getattr(ORACLE, function)(a.copy(), b.copy(), dtype="bf16")
    try:
        getattr(lp, function)(a, b, dtype="bf16", out=out)
    except ValueError as error:
        assert re.search("`out`.*(overlap|share)", str(error))  # noqa: PT017
        assert_same_bits(out, before)
    else:
        assert_same_bits(out, want)


def test_out_may_be_the_start() -> None:
    """`c` itself is fine, and so is any overlap with `c` that is not refused."""
    rng = np.random.default_rng(1)
    a, b, c = np.float32(rng.standard_normal((3, 12, 12)))
    want = ORACLE.matmul(a, b, "bf16", c=c)
    out = c.copy()
    assert lp.matmul(a, b, "bf16", c=out, out=out) is out
    assert_same_bits(out, want)
    base = np.zeros((13, 12), np.float32)
    for start, out in ((base[:12], base[1:]), (base[1:], base[:12]), (base[12:0:-1], base[1:])):
        start[...] = c
        try:
            lp.matmul(a, b, "bf16", c=start, out=out)
        except ValueError as error:
            assert re.search("`(out|c)`.*(overlap|share)", str(error))  # noqa: PT017
        else:
            assert_same_bits(out, want)
    row = np.zeros((12, 12), np.float32)
    row[3] = c[0]
    try:
        lp.matmul(a, b, "bf16", c=row[3], out=row)
    except ValueError as error:
        assert re.search("`(out|c)`.*(overlap|share)", str(error))  # noqa: PT017
    else:
        assert_same_bits(row, ORACLE.matmul(a, b, "bf16", c=c[0]))


def test_out_with_stride_zero() -> None:
    """An `out` that holds one element many times is refused, or left with a result in each."""
    out = np.lib.stride_tricks.as_strided(np.zeros(4, np.float32), (2, 4), (0, 4))
    with pytest.raises(ValueError, match="`out`"):
        lp.matmul(np.float32([[1, 2, 3], [4, 5, 6]]), B, "bf16", out=out)


def test_subclasses_of_ndarray() -> None:
    class Sub(np.ndarray):
        pass

    assert_same_bits(np.asarray(lp.matmul(A.view(Sub), B.view(Sub), "bf16")), ORACLE.matmul(A, B, "bf16"))


def test_good_input_after_bad() -> None:
    """Nothing sticks: the same call is right after every failure."""
    want = ORACLE.matmul(A, B, "bf16")
    for function, *_ in CASES.values():
        with pytest.raises((TypeError, ValueError, NotImplementedError)):
            function()
    assert_same_bits(lp.matmul(A, B, "bf16"), want)
