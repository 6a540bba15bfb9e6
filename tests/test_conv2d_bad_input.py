"""Bad input to conv2d: the right exception, a message that says what must be, and `out` left as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _patches

X, W = np.ones((2, 4, 5, 6), np.float32), np.ones((6, 2, 3, 3), np.float32)


def call(*args: Any, **keywords: Any) -> Callable[[], Any]:
    return lambda: lp.conv2d(*args, **{"groups": 2, "dtype": "bf16", **keywords})


CASES: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "axes of x": (call(X[0, 0], W), ValueError, ("`x`", r"\(N, C, H, W\)", r"\(5, 6\)")),
    "axes of w": (call(X, W[0]), ValueError, ("`w`", r"\(O, ", r"\(2, 3, 3\)")),
    "channels": (call(X[:, :3], W), ValueError, ("`x`", "4 channels", r"\(6, 2, 3, 3\)", "got 3")),
    "groups do not divide": (call(X, W, groups=4), ValueError, ("`groups`", "divide", "6", "got 4")),
    "groups of 0": (call(X, W, groups=0), ValueError, ("`groups`", "at least 1", "got 0")),
    "groups a pair": (call(X, W, groups=(1, 2)), TypeError, ("`groups`", "integer", r"\(1, 2\)")),
    "stride of 0": (call(X, W, stride=0), ValueError, ("`stride`", "at least 1", "got 0")),
    "stride a float": (call(X, W, stride=1.0), TypeError, ("`stride`", "integer", r"got 1\.0")),
    "stride a bool": (call(X, W, stride=True), TypeError, ("`stride`", "integer", "True")),
    "stride of three": (call(X, W, stride=(1, 1, 1)), ValueError, ("`stride`", "pair", "3 values")),
    "stride a word": (call(X, W, stride="same"), TypeError, ("`stride`", "integer", "same")),
    "stride None": (call(X, W, stride=None), TypeError, ("`stride`", "integer", "None")),
    "dilation negative": (call(X, W, dilation=(1, -1)), ValueError, ("`dilation`", "at least 1", "got -1")),
    "padding negative": (call(X, W, padding=(0, -1)), ValueError, ("`padding`", "at least 0", "got -1")),
    "padding a word": (call(X, W, padding="full"), ValueError, ("`padding`", "valid", "same", "'full'")),
    "padding of three": (call(X, W, padding=(1, 1, 1)), ValueError, ("`padding`", "pair", "3 values")),
    "padding nested": (call(X, W, padding=((1, 1), (1, (1, 2)))), TypeError, ("`padding`", "integer")),
    "same with a stride": (call(X, W, stride=2, padding="same"), ValueError, ("`padding`", "`stride`", "same", "2")),
    "kernel too large": (call(X, W, dilation=3), ValueError, ("`w`", "5 by 6", "7 by 7", "padding")),
    "kernel of no rows": (call(X, W[:, :, :0]), ValueError, ("`w`", "at least one", r"\(6, 2, 0, 3\)")),
    "bias": (call(X, W, np.ones(5)), ValueError, ("`bias`", r"\(6,\)", r"\(5,\)")),
    "c": (call(X, W, c=np.ones((5, 1, 1))), ValueError, ("`c`", r"\(2, 6, 3, 4\)", r"\(5, 1, 1\)")),
    "out shape": (call(X, W, out=np.ones((2, 6, 4, 3), np.float32)), ValueError, ("`out`", r"\(2, 6, 3, 4\)")),
    "out dtype": (call(X, W, out=np.ones((2, 6, 3, 4))), TypeError, ("`out`", "float32", "float64")),
    "unknown format": (call(X, W, dtype="bf61"), ValueError, ("`dtype`", "bf61", "bf16")),
    "unknown accumulator": (call(X, W, accumulator="nvidia-hoper"), ValueError, ("`accumulator`", "nvidia-hopper")),
    "complex x": (call(X + 0j, W), TypeError, ("`x`", "complex")),
    "complex w": (call(X, W + 0j), TypeError, ("`w`", "complex")),
    "complex x, no dtype": (call(X + 0j, W, dtype=None), TypeError, ("`x`", "complex")),
    "masked x": (call(np.ma.array(X), W), TypeError, ("`x`", "mask")),
    "NaN in x": (call(X * np.nan, W, dtype="e2m1fn"), ValueError, ("`x`", "NaN", "e2m1fn")),
    "NaN in w": (call(X, W * np.nan, dtype=("bf16", "e2m1fn")), ValueError, ("`w`", "NaN", "e2m1fn")),
    "rng": (call(X, W, rounding="stochastic"), ValueError, ("`rng`", "stochastic")),
    "no zero to pad with": (
        call(X, W, padding=1, dtype=("e8m0fnu", "bf16")),
        ValueError,
        ("`padding`", "e8m0fnu", "no zero"),
    ),
    "no zero in stored codes": (
        call(X.astype(ml_dtypes.float8_e8m0fnu), W, padding=1),
        ValueError,
        ("`padding`", "e8m0fnu", "no zero"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    function, kind, patterns = CASES[name]
    with pytest.raises(kind, match=r"`\w+`.* must ") as caught:
        function()
    for pattern in patterns:
        assert re.search(pattern, str(caught.value)), f"no {pattern!r} in: {caught.value}"


def test_out_is_untouched_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patches, "_BUFFER_BYTES", 1)
    monkeypatch.setattr(_patches, "_FEWEST_POSITIONS", 1)
    x = X.copy()
    x[-1, -1, -1, -1] = np.nan
    out = np.full((2, 6, 3, 4), 3.0, np.float32)
    with pytest.raises(ValueError, match="`x` must hold no NaN"):
        lp.conv2d(x, W, groups=2, dtype="e2m1fn", out=out)
    assert (out == 3.0).all()
    out = np.full((2, 6, 3, 4), 3.0, ml_dtypes.float4_e2m1fn)
    with pytest.raises(ValueError, match="NaN"):  # the sum of the last position
        lp.conv2d(x, W, groups=2, dtype="bf16", out_dtype="e2m1fn", out=out)
    assert (out == 3.0).all()


def test_out_must_not_overlap() -> None:
    base = np.float32(np.random.default_rng(0).standard_normal((2, 4, 5, 5)))
    w = np.ones((4, 4, 1, 1), np.float32)
    for x, out in ((base, base), (base, base[::-1]), (base[:, :, :4], base[:, :, 1:])):
        with pytest.raises(ValueError, match="`out` must not overlap `x`"):
            lp.conv2d(x, w, dtype="bf16", out=out)
