"""Rounding, encoding and decoding of 2**24 elements, against a copy of the same float32 array."""

from __future__ import annotations

import ml_dtypes
import numpy as np

import lowprec as lp
from benchmarks.common import DETERMINISTIC, ELEMENTS, medians, some
from lowprec import reference

SEED = 1
FORMATS = some([fmt.name for fmt in lp.formats()], ["bfloat16", "float8_e4m3fn", "int8"])
MODES = some(DETERMINISTIC, ["nearest_even", "to_odd"])
ML_DTYPES = [name for name in FORMATS if hasattr(ml_dtypes, name) or name == "float16"]


def source(fmt: str) -> np.ndarray:
    """Return normal numbers, positive where the format has no sign, wide enough to use an integer format."""
    x = np.random.default_rng(0).standard_normal(ELEMENTS, dtype=np.float32)
    if isinstance(lp.format(fmt), lp.IntFormat):
        x *= np.float32(lp.format(fmt).max)
    return x if lp.format(fmt).is_signed else np.abs(x, out=x)


class Round:
    """`round_to` and `encode` in every format and deterministic mode."""

    params = (FORMATS, MODES)
    param_names = ("format", "rounding")

    def setup(self, fmt: str, rounding: str) -> None:
        self.x, self.how = source(fmt), {"rounding": rounding}
        if rounding == "stochastic":
            self.how["rng"] = SEED
        self.out = np.empty_like(self.x)
        self.copy = lambda: np.copyto(self.out, self.x)
        few = self.x[:300]
        words = [reference.random_word(SEED, i) if rounding == "stochastic" else None for i in range(few.size)]
        want = [reference.round_to(float(v), fmt, rounding=rounding, word=w) for v, w in zip(few, words, strict=True)]
        np.testing.assert_array_equal(lp.round_to(few, fmt, **self.how), np.float32(want))
        dtype = np.float64 if fmt == "float64" else np.float32
        np.testing.assert_array_equal(lp.decode(lp.encode(few, fmt, **self.how), fmt, dtype=dtype), np.float32(want))

    def track_round_to_out(self, fmt: str, rounding: str) -> float:
        out = np.empty_like(self.x)
        ours, copy = medians(lambda: lp.round_to(self.x, fmt, out=out, **self.how), self.copy, pause=0)
        return ours / copy

    def track_round_to(self, fmt: str, rounding: str) -> float:
        ours, copy = medians(lambda: lp.round_to(self.x, fmt, **self.how), self.copy, pause=0)
        return ours / copy

    def track_encode(self, fmt: str, rounding: str) -> float:
        ours, copy = medians(lambda: lp.encode(self.x, fmt, **self.how), self.copy, pause=0)
        return ours / copy

    def track_encode_out(self, fmt: str, rounding: str) -> float:
        codes = np.empty(self.x.shape, lp.format(fmt).code_dtype)
        ours, copy = medians(lambda: lp.encode(self.x, fmt, out=codes, **self.how), self.copy, pause=0)
        return ours / copy

    track_round_to_out.unit = track_round_to.unit = track_encode.unit = track_encode_out.unit = "time of np.copyto"


class Stochastic(Round):
    """Stochastic rounding, ten rounds of Philox for each element: no mark to meet."""

    params = (some(["bfloat16", "float8_e4m3fn", "float4_e2m1fn"], ["bfloat16"]), ["stochastic"])


class Decode:
    """`decode` to float32 (float64 where float32 cannot hold the format)."""

    params = (FORMATS,)
    param_names = ("format",)

    def setup(self, fmt: str) -> None:
        x = source(fmt)
        self.codes = lp.encode(x, fmt)
        self.dtype = np.float64 if fmt == "float64" else np.float32
        self.out = np.empty_like(x)
        self.copy = lambda: np.copyto(self.out, x)
        want = [reference.decode(int(code), fmt) for code in self.codes[:300]]
        np.testing.assert_array_equal(lp.decode(self.codes[:300], fmt, dtype=self.dtype), np.array(want, self.dtype))

    def track_decode(self, fmt: str) -> float:
        ours, copy = medians(lambda: lp.decode(self.codes, fmt, dtype=self.dtype), self.copy, pause=0)
        return ours / copy

    def track_decode_out(self, fmt: str) -> float:
        values = np.empty(self.codes.shape, self.dtype)
        ours, copy = medians(lambda: lp.decode(self.codes, fmt, dtype=self.dtype, out=values), self.copy, pause=0)
        return ours / copy

    track_decode.unit = track_decode_out.unit = "time of np.copyto"


class MlDtypes:
    """``x.astype(dtype).astype(np.float32)`` against `round_to`: what users write today, both allocating."""

    params = (ML_DTYPES,)
    param_names = ("format",)

    def setup(self, fmt: str) -> None:
        self.x = source(fmt)
        self.dtype = np.dtype(getattr(ml_dtypes, fmt, fmt))
        lp.round_to(self.x[:100], fmt)

    def track_speedup(self, fmt: str) -> float:
        ours, theirs = medians(
            lambda: lp.round_to(self.x, fmt), lambda: self.x.astype(self.dtype).astype(np.float32), pause=0
        )
        return theirs / ours

    track_speedup.unit = "speed of astype there and back"
