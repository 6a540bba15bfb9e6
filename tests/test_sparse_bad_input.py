"""What products with a Sparse24 refuse, and in which words; and odd operands that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import assert_same_bits
from sparse_slow import PATTERNS, Slow, keep, same_but_zeros

import lowprec as lp

Array = np.ndarray[Any, Any]
F32 = np.float32


def sparse(*shape: int, axis: int = -1, fill: Any = None, dtype: Any = F32) -> Any:
    """Return a Sparse24 of small numbers, or of one number."""
    full = np.arange(np.prod(shape)).reshape(shape) % 7 - 3 if fill is None else np.full(shape, fill)
    return keep(full.astype(dtype), axis=axis).s


S, B = sparse(3, 8), np.ones((8, 2), F32)
Q = lp.quantize(B, "int8")
SHARED = np.ones((8, 8), F32)
W = sparse(2, 8, 3, 3, axis=1)
X = np.ones((1, 8, 4, 4), F32)
NO_ARRAY = r"`Sparse24` must not become a plain array unasked; call .to_dense\(\), or take .values"

REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # shapes
    "K": (lambda: lp.matmul(S, B[:7]), ValueError, r"\(8 and 7\), got shapes \(3, 8\) for `a` and \(7, 2\) for `b`"),
    "K, on the right": (lambda: lp.matmul(B[:7].T, S.T), ValueError, r"got shapes \(2, 7\) for `a` and \(8, 3\)"),
    "kept K": (lambda: lp.matmul(S, B[:4]), ValueError, r"\(8 and 4\)"),
    "no axis": (lambda: lp.matmul(S, 3.0), ValueError, "`a` and `b` must have at least one axis"),
    "batch": (
        lambda: lp.matmul(sparse(2, 3, 8), np.ones((3, 8, 2), F32)),
        ValueError,
        "`a` and `b` must have batch axes that broadcast together",
    ),
    "c": (lambda: lp.matmul(S, B, c=np.ones((2, 2))), ValueError, r"`c` must broadcast .* \(3, 2\), got \(2, 2\)"),
    "out": (lambda: lp.matmul(S, B, out=np.empty((2, 3), F32)), ValueError, r"`out` must have shape \(3, 2\)"),
    "vecdot": (lambda: lp.vecdot(S, B[:7].T), ValueError, "`a` and `b` must have last axes of one length"),
    "vecdot, batch": (
        lambda: lp.vecdot(S, B.T),
        ValueError,
        r"`a` and `b` must have leading axes that broadcast together, got shapes \(3, 8\)",
    ),
    "vecdot, no axis": (lambda: lp.vecdot(S, 1.0), ValueError, "`a` and `b` must have at least one axis"),
    "linear": (lambda: lp.linear(B[:7].T, S), ValueError, r"`x` must have shape \(..., K\) with K = 8"),
    "linear, axes": (lambda: lp.linear(B.T, sparse(2, 3, 8)), ValueError, r"`w` must have shape \(N, K\)"),
    "linear, bias": (lambda: lp.linear(B.T, S, np.ones(4)), ValueError, r"`bias` must have shape \(3,\)"),
    "conv2d, axes": (lambda: lp.conv2d(X, S), ValueError, r"`w` must have shape \(O, C // groups, KH, KW\)"),
    "conv2d, channels": (lambda: lp.conv2d(X[:, :7], W), ValueError, "`x` must have 8 channels"),
    "conv2d, kept channels": (lambda: lp.conv2d(X[:, :4], W), ValueError, "`x` must have 8 channels"),
    "conv2d, groups": (
        lambda: lp.conv2d(np.ones((1, 16, 4, 4), F32), sparse(3, 8, 3, 3, axis=1), groups=2),
        ValueError,
        "`groups` must divide the 3 outputs",
    ),
    "conv2d, bias": (lambda: lp.conv2d(X, W, np.ones(3)), ValueError, r"`bias` must have shape \(2,\)"),
    # kinds
    "a word": (lambda: lp.matmul(S, "x"), TypeError, "`b` must hold real numbers"),
    "nothing": (lambda: lp.matmul(S, None), TypeError, "`b` must hold real numbers"),
    "complex": (lambda: lp.matmul(S, B * 1j), TypeError, "`b` must hold real numbers"),
    "complex, on the left": (lambda: lp.matmul(B.T * 1j, S.T), TypeError, "`a` must hold real numbers"),
    "masked": (lambda: lp.matmul(S, np.ma.array(B, mask=B > 0)), TypeError, "`b` must not be a masked array"),
    "sparse c": (lambda: lp.matmul(S, B, c=S), TypeError, "unasked"),
    "sparse out": (lambda: lp.matmul(S, B, out=S), TypeError, "`out` must be a NumPy array, got Sparse24"),
    "list out": (lambda: lp.matmul(S, B, out=[[0] * 2] * 3), TypeError, "`out` must be a NumPy array, got list"),
    "out dtype": (lambda: lp.matmul(S, B, out=np.empty((3, 2))), TypeError, "`out` must have dtype float32"),
    "read-only": (lambda: lp.matmul(S, B, out=np.broadcast_to(F32(0), (3, 2))), ValueError, "`out` must be writable"),
    "overlap": (
        lambda: lp.matmul(sparse(8, 8), SHARED, out=SHARED),
        ValueError,
        "`out` must not overlap `b`, got arrays that share memory",
    ),
    "ints and floats": (lambda: lp.matmul(sparse(3, 8, dtype=np.int8), B), TypeError, "`dtype` must be two float"),
    "floats and ints": (lambda: lp.matmul(S, B.astype(np.int8)), TypeError, "`dtype` must be two float formats"),
    "sparse images": (lambda: lp.conv2d(sparse(1, 8, 4, 4, axis=1), np.ones((2, 8, 3, 3))), TypeError, "Sparse24"),
    "quantised kernels": (lambda: lp.conv2d(X, lp.quantize(W, "int8")), TypeError, "`w` must have plain values"),
    "numpy": (lambda: np.asarray(S), TypeError, NO_ARRAY),
    "round_to": (lambda: lp.round_to(S, "bf16"), TypeError, NO_ARRAY),
    "encode": (lambda: lp.encode(S, "bf16"), TypeError, NO_ARRAY),
    "operator": (lambda: S @ B, TypeError, "Sparse24"),
    "operator, on the right": (lambda: B.T @ S.T, TypeError, "Sparse24"),
    # names and policies
    "ambiguous": (lambda: lp.matmul(S, B, "fp8"), ValueError, "'fp8', which is ambiguous"),
    "three formats": (lambda: lp.matmul(S, B, ("bf16",) * 3), ValueError, "`dtype` must be one format or a pair"),
    "unknown sum": (lambda: lp.matmul(S, B, accumulator="fp33"), ValueError, "got 'fp33'; the closest: 'fp32'"),
    "sum of integers": (lambda: lp.matmul(S, B, accumulator="int32"), ValueError, "takes integer operands, got float"),
    "sum of floats": (
        lambda: lp.matmul(sparse(3, 8, dtype=np.int8), B.astype(np.int8), accumulator="fp16"),
        ValueError,
        "takes float operands",
    ),
    "hardware": (
        lambda: lp.matmul(S, B, accumulator="nvidia-hopper"),
        ValueError,
        "`dtype` must be one of the operand formats of nvidia-hopper",
    ),
    "dense hardware": (
        lambda: lp.matmul(S, B, "e4m3fn", accumulator="nvidia-volta"),
        ValueError,
        "`dtype` must be one of the operand formats of nvidia-volta",
    ),
    "no seed": (lambda: lp.matmul(S, B, "bf16", rounding="stochastic"), ValueError, "`rng` must be given"),
    "no seed of the sum": (
        lambda: lp.matmul(S, B, accumulator=lp.Sequential("bf16", "stochastic")),
        ValueError,
        "`rng` must be given",
    ),
    "quantised dtype": (lambda: lp.matmul(lp.quantize(S, "int8"), Q, "bf16"), ValueError, "`dtype` must be None"),
    # values
    "NaN": (lambda: lp.matmul(sparse(2, 8, fill=np.nan), B, "e2m1fn"), ValueError, "`a` must hold no NaN for"),
    "NaN of b": (lambda: lp.matmul(S, B * np.nan, "e2m1fn"), ValueError, "`b` must hold no NaN for"),
    "NaN quantised": (lambda: lp.matmul(sparse(2, 8, fill=np.nan), B, "int8"), ValueError, "must be finite, got nan"),
    "infinity quantised": (lambda: lp.matmul(S, B * np.inf, "int8"), ValueError, "`b` must be finite, got inf"),
    "a sum without NaN": (
        lambda: lp.matmul(sparse(2, 8, fill=np.inf), B * 0, out_dtype="e2m1fn"),
        ValueError,
        "`out_dtype` must have a NaN for a result that is one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_out_is_untouched_by_what_is_refused() -> None:
    out = np.full((3, 2), 7, F32)
    for arguments in ({"dtype": "e2m1fn", "b": B * np.nan}, {"c": np.ones(3)}, {"accumulator": "fp33"}):
        with pytest.raises(ValueError, match="must"):
            lp.matmul(S, out=out, **{"b": B, **arguments})
    assert (out == 7).all()


# ------------------------------------------------------------------------------------------------- odd, and all right
@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_sparse_operands(pattern: str) -> None:
    """The product of both dense arrays, for finite numbers."""
    rng = np.random.default_rng(1)
    s, t = (keep(rng.standard_normal((m, 21), F32), pattern, seed=m) for m in (5, 6))
    want = lp.matmul(s.dense, t.dense.T)
    same_but_zeros(lp.matmul(s.s, t.s.T), want)
    same_but_zeros(lp.linear(s.s, t.s), want)
    same_but_zeros(
        lp.matmul(s.s, keep(t.dense.T, pattern).s, "bf16"), lp.matmul(s.dense, keep(t.dense.T, pattern).dense, "bf16")
    )
    same_but_zeros(lp.vecdot(s.s, t.s[:5]), np.diagonal(want))


def test_operands_of_any_kind() -> None:
    for b in (B > 0, B.astype(np.int64), B.tolist(), B.astype(ml_dtypes.float8_e4m3fn), B.astype(">f8"), range(8)):
        assert_same_bits(lp.matmul(S, b, "bf16"), lp.matmul(S, np.asarray(b, np.float64), "bf16"), str(b))
    whole = keep(np.arange(24).reshape(3, 8).astype(np.int8))
    same = lp.matmul(whole.s, B / 3, "bf16")
    assert_same_bits(same, Slow(whole.mask).matmul(whole.dense, B / 3, "bf16"))
    same_but_zeros(lp.matmul(S, Q), lp.matmul(S.to_dense(), Q))
    assert_same_bits(lp.matmul(whole.s, Q), lp.matmul(whole.dense, Q))
    assert_same_bits(lp.linear(Q.T, whole.s), lp.linear(Q.T, whole.dense))


def test_custom_and_codebook_formats() -> None:
    """Formats without a dtype of their own, and tables of values."""
    rng = np.random.default_rng(2)
    kept, b = keep(rng.standard_normal((4, 64), F32)), rng.standard_normal((64, 5), F32)
    for fmt in ("e5m7", "e4m3fnuz", "e2m3fn"):
        assert_same_bits(lp.matmul(kept.s, b, fmt), Slow(kept.mask).matmul(kept.dense, b, fmt), fmt)
    q = lp.quantize(kept.dense, "nf4")
    s = lp.Sparse24.from_dense(q, mask=kept.mask)
    same_but_zeros(lp.matmul(s, b), lp.matmul(q, b))
    other = lp.quantize(b, "nf4", axis=0)
    assert_same_bits(lp.matmul(s, other), lp.matmul(q, other))
