"""Operands that are hard for a sum of products, as codes, and what the package and the slow twin make of them.

Rows of A and columns of B consist of pieces of several kinds, so that ordinary and extreme data lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import lowprec as lp
from lowprec import accumulators as acc
from lowprec import reference

Array = np.ndarray[Any, Any]
Formats = tuple[Any, Any]
NVIDIA = (acc.FusedTruncated, acc.FusedTruncatedScaled, acc.FusedTruncatedGroupScaled, acc.Fp8ViaF16)
SCALED = (acc.FusedTruncatedScaled, acc.FusedTruncatedGroupScaled)
PIECE = 8  # numbers of one kind, one after the other
MILD = ("ties", "tiny", "zeros", "ties")
EXTREME = ("wide", "ties", "tiny", "huge", "zeros", "edges")


# ------------------------------------------------------------------------------------------------------------ operands
def nearest(x: Array, fmt: Any) -> Array:
    """Return codes of numbers, the largest one for those beyond."""
    with np.errstate(all="ignore"):
        return np.asarray(lp.encode(x, fmt, overflow="saturate")).astype(np.int64)


def piece(kind: str, fmt: Any, shape: tuple[int, int], depth: int, rng: np.random.Generator) -> Array:
    """Return codes of one kind; `depth` is how many bits below the largest addend the sum still sees."""
    fmt = lp.format(fmt)
    low, high = fmt.emin - fmt.mantissa_bits, fmt.emax
    signs = rng.choice([-1.0, 1.0], shape)
    odd = 1 + rng.integers(0, 2**fmt.mantissa_bits, shape) * 2.0**-fmt.mantissa_bits
    if kind == "ordinary":
        return nearest(rng.standard_normal(shape), fmt)
    if kind == "wide":
        return nearest(signs * odd * 2.0 ** rng.integers(low, high, shape, endpoint=True), fmt)
    if kind == "ties":  # products lie 0, or about `depth`, bits below 1, or 2**-2m of their own below that
        half, ulp = depth // 2, 2.0**-fmt.mantissa_bits
        steps = -np.clip([0, 0, 1, half, half + 1, depth - half, depth - half + 1, depth], 0, -low)
        some = rng.choice([1.0, 1.0, 1.0, 1.5, 1.25, 1 + ulp, 1 - ulp], shape)
        return nearest(signs * some * 2.0 ** rng.choice(steps, shape), fmt)
    if kind == "tiny":
        return nearest(signs * odd * 2.0 ** rng.integers(low, fmt.emin + 2, shape, endpoint=True), fmt)
    if kind == "huge":
        return nearest(signs * odd * 2.0 ** rng.integers(high - 1, high, shape, endpoint=True), fmt)
    if kind == "edges":  # products at float32's and float16's borders
        centres = np.clip(rng.choice([-75, -74, -63, -12, -11, -8, -7, 7, 8, 63, 64], shape), low, high)
        return nearest(signs * odd * 2.0**centres, fmt)
    if kind == "zeros":
        return nearest(rng.choice([0.0, -0.0, 0.0, -0.0, 1.0], shape), fmt)
    assert kind == "special"
    found = [fmt.max_code, 0, 1, int(nearest(np.array(1.0), fmt))]
    found += [fmt.inf_code] * 2 if fmt.inf_code is not None else []
    found += [fmt.nan_code, fmt.nan_code | (fmt.nan == "ieee")] if fmt.has_nan else []
    signs = rng.integers(0, 2, shape) if fmt.has_negative_zero else np.zeros(shape, int)
    return rng.choice(found, shape) | (signs << fmt.magnitude_bits)


def operand(fmt: Any, lines: int, k: int, depth: int, rng: np.random.Generator, special: float) -> Array:
    """Return codes (lines, k): pieces of ordinary data, of extremes, and single extremes within ordinary data.

    Every other group of lines has no kind that overflows; about `special` numbers of a line are infinite, NaN or so.
    """
    codes = piece("ordinary", fmt, (lines, k), depth, rng)
    step = max(1, min(64, lines // 3))
    for top in range(0, lines, step):
        kinds = EXTREME if top // step % 2 else MILD
        own = codes[top : top + step]
        for first in range(0, k, PIECE):
            if rng.random() < 0.4:
                some = own[:, first : first + PIECE]
                some[...] = piece(str(rng.choice(kinds)), fmt, some.shape, depth, rng)
        single = rng.random(own.shape) < 1 / (8 * PIECE)
        own[single] = piece(str(rng.choice(kinds)), fmt, own.shape, depth, rng)[single]
    hit = rng.random(codes.shape) < special / max(1, k)
    codes[hit] = piece("special", fmt, codes.shape, depth, rng)[hit]
    return codes


def cancelled(a: Array, formats: Formats, rng: np.random.Generator) -> None:
    """Write most of the first half of every other row once more, negated; half of the columns repeat likewise."""
    k = a.shape[1]
    fmt = lp.format(formats[0])
    sign, half = np.int64(1) << np.int64(fmt.magnitude_bits), k // 2
    for row in range(1, len(a), 2):
        flip = a[row, :half] ^ np.where(rng.random(half) < 0.8, sign, np.int64(0))
        bare = flip & (2**fmt.magnitude_bits - 1)
        a[row, half : 2 * half] = np.where((bare == 0) & (not fmt.has_negative_zero), 0, flip)


class Case:
    """One product: codes of A (m, k), B (k, n) and C (m, n), and of block scales for the models that have them."""

    def __init__(
        self,
        model: acc.Accumulator,
        formats: Formats,
        shape: tuple[int, int, int],
        seed: int = 0,
        special: float = 0.0,
        depth: int | None = None,
    ) -> None:
        m, k, n = shape
        self.model, self.formats = model, formats
        self.out = model.result_format or lp.format("fp32")
        self.c_format = getattr(model, "c_format", None) or self.out
        rng = np.random.default_rng([seed, m, k, n])
        depth = depth or getattr(model, "fraction_bits", 0) or lp.format(self.out).precision
        self.a = operand(formats[0], m, k, depth, rng, special)
        self.b = operand(formats[1], n, k, depth, rng, special).T.copy()
        half = k // 2
        self.b[half : 2 * half, ::2] = self.b[:half, ::2]
        cancelled(self.a, formats, rng)
        self.c = self._start(m, n, depth, rng, special)
        inner = model.inner if isinstance(model, acc.Chunked) else model
        self.scales = None
        if isinstance(inner, SCALED):
            blocks = -(-k // getattr(inner, "scale_block", inner.length))
            self.scales = (drawn_scales(inner, (m, blocks), rng), drawn_scales(inner, (blocks, n), rng))

    def _start(self, m: int, n: int, depth: int, rng: np.random.Generator, special: float) -> Array:
        """Return codes of c: near minus the sum, beside it, hard in themselves, and zeros."""
        with np.errstate(all="ignore"):
            sums = -np.nan_to_num(values(self.a, self.formats[0])) @ np.nan_to_num(values(self.b, self.formats[1]))
            near = np.where(np.isfinite(sums), sums, 1.0) * rng.choice([1.0, 1.0, 1.0009765625, 0.5, 64.0], (m, n))
        c = nearest(near, self.c_format)
        other = operand(self.c_format, m, n, depth, rng, special)
        return np.where(rng.random((m, n)) < 0.5, c, other)


def values(codes: Array, fmt: Any) -> Array:
    """Return the values of codes in float64."""
    return np.asarray(lp.decode(codes.astype(lp.format(fmt).code_dtype), fmt, dtype=np.float64))


def array(codes: Any, fmt: Any) -> Array:
    """Return codes as an array that keeps every bit where a dtype stores the format, else as float64 values."""
    fmt, codes = lp.format(fmt), np.asarray(codes)
    if fmt.storage_dtype is None:
        return values(codes, fmt)
    if fmt.name == "tf32":
        return (codes.astype(np.uint32) << 13).view(np.float32)
    return np.ascontiguousarray(codes.astype(fmt.code_dtype)).view(fmt.storage_dtype)


def scaled(codes: Any, scales: Any, fmt: Any, model: Any, axis: int = -1) -> lp.QuantizedArray:
    """Return an operand with block scales."""
    model = model.inner if isinstance(model, acc.Chunked) else model
    block = getattr(model, "scale_block", model.length)
    scale_format = lp.format(getattr(model, "scale_format", "e8m0fnu"))
    codes, scales = np.asarray(codes, lp.format(fmt).code_dtype), np.asarray(scales, np.uint8)
    return lp.QuantizedArray(
        codes, scales.view(scale_format.storage_dtype), format=fmt, axis=axis % codes.ndim, block_size=block
    )


def drawn_scales(model: Any, shape: tuple[int, int], rng: np.random.Generator) -> Any:
    """Return scales: near 1, at the ends, and rarely NaN."""
    if getattr(model, "scale_format", lp.format("e8m0fnu")).name == "float8_e8m0fnu":
        near, ends, nan = rng.integers(120, 135, shape), rng.choice([0, 1, 60, 100, 200, 254], shape), 255
    else:
        near, ends, nan = rng.integers(0x30, 0x48, shape), rng.choice([0, 1, 7, 8, 0x7E, 0x81, 0xB9], shape), 0xFF
    found = np.where(rng.random(shape) < 0.25, ends, near)
    return np.where(rng.random(shape) < 0.02, nan, found)


# ------------------------------------------------------------------------------------------------------------- results
def keywords(model: acc.Accumulator, formats: Formats) -> dict[str, Any]:
    """Return the arguments of a product that name formats and model."""
    return {"dtype": tuple(lp.format(f) for f in formats), "accumulator": model, "rounding": "toward_zero"}


def bits(result: Any) -> Array:
    """Return the bits of a result in float32 or float64."""
    x = np.ascontiguousarray(result)
    return x.view(f"u{x.dtype.itemsize}")


def product(case: Case) -> Array:
    """Return the bits that `matmul` gives."""
    c = array(case.c, case.c_format)
    if case.scales is not None:
        x = scaled(case.a, case.scales[0], case.formats[0], case.model)
        y = scaled(case.b, case.scales[1], case.formats[1], case.model, axis=0)
        return bits(lp.matmul(x, y, c=c, accumulator=case.model))
    a, b = array(case.a, case.formats[0]), array(case.b, case.formats[1])
    more = {"rng": 5} if has_draws(case.model) else {}
    return bits(lp.matmul(a, b, c=c, **keywords(case.model, case.formats), **more))


def has_draws(model: Any) -> bool:
    """Say whether a model is stochastic."""
    models = (model.inner, model.outer) if isinstance(model, acc.Chunked) else (model,)
    return any(getattr(m, "rounding", None) == "stochastic" for m in models)


def wanted_bits(code: int, model: acc.Accumulator, fmt: Any, dtype: Any) -> int:
    """Return the bits that a twin's code has in a result's dtype."""
    value = reference.decode(code, fmt)
    if not math.isnan(value):
        return int(bits(np.array(value, dtype))[0])
    if lp.format(fmt).name == np.dtype(dtype).name == "float32":
        return code
    if np.dtype(dtype).itemsize == 8:
        return 0x7FF8000000000000
    return 0x7FFFFFFF if isinstance(model, NVIDIA) else 0x7FC00000


def twin(case: Case, i: int, j: int, accumulate: Any = reference.accumulate) -> int:
    """Return the code of one element by the slow twin, or by another function that takes its arguments."""
    lines = zip((case.a[i], case.b[:, j]), case.formats, strict=True)
    a, b = ([x % 2 ** lp.format(fmt).bits for x in line.tolist()] for line, fmt in lines)
    c = int(case.c[i, j]) % 2 ** lp.format(case.c_format).bits
    how: dict[str, Any] = {"seed": 5, "index": i * case.b.shape[1] + j} if has_draws(case.model) else {}
    if case.scales is not None:
        how["scales"] = (case.scales[0][i].tolist(), case.scales[1][:, j].tolist())
    return int(accumulate(case.model, a, b, c, formats=case.formats, **how))


def places(shape: tuple[int, ...], count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Return places in a result: the corners of strips of columns, and others at random."""
    m, n = shape
    rng = np.random.default_rng(seed)
    edges = [j for j in (0, 127, 128, 255, 256, n - 1) if 0 <= j < n]
    found = {(int(rng.integers(m)), j) for j in edges}
    while len(found) < min(count, m * n):
        found.add((int(rng.integers(m)), int(rng.integers(n))))
    return sorted(found)[: m * n]


def wrong(case: Case, got: Array, where: Sequence[tuple[int, int]]) -> list[str]:
    """Return the elements that differ from the twin's: one line each, with what reproduces it."""
    dtype = np.dtype(f"f{got.dtype.itemsize}")
    lines = []
    for i, j in where:
        want = wanted_bits(twin(case, i, j), case.model, case.out, dtype)
        if int(got[i, j]) != want:
            a, b = values(case.a[i], case.formats[0]).tolist(), values(case.b[:, j], case.formats[1]).tolist()
            c = values(case.c[i, j], case.c_format)
            lines.append(f"[{i}, {j}]: got {int(got[i, j]):#x}, want {want:#x}: a={a} b={b} c={c}")
    return lines


def check_zeros(model: acc.Accumulator, numbers: Sequence[float], most: int = 3) -> None:
    """Hold sums of zeros, of numbers that cancel, and of numbers that vanish, against the twin."""
    rng = np.random.default_rng(0)
    for k in range(1, most + 1):
        case = Case(model, ("bf16", "bf16"), (12, k, 8))
        case.a, case.b = (nearest(rng.choice(numbers, shape), "bf16") for shape in ((12, k), (k, 8)))
        case.b[:, :3] = nearest(np.array(1.0), "bf16")
        sums = values(case.a, "bf16") @ values(case.b, "bf16")
        starts = np.where(rng.random((12, 8)) < 0.5, -sums, rng.choice([0.0, -0.0, 1.0, -1.0], (12, 8)))
        case.c = nearest(starts, case.c_format)
        lines = wrong(case, product(case), places((12, 8), 40, k))
        assert not lines, f"{model!r}: {len(lines)} wrong; {lines[:2]}"


# ---------------------------------------------------------------------------------------------------------- hypothesis
def drawn_codes(data: st.DataObject, fmt: Any, count: int, label: str) -> list[int]:
    """Draw codes: any at all, or powers of two a few steps apart, whose sums tie and cancel."""
    fmt = lp.format(fmt)
    middle = int(reference.encode(1.0, fmt))
    top = 1 << fmt.magnitude_bits
    signs = [0, top] if fmt.has_negative_zero else [0]
    step = 1 << fmt.mantissa_bits
    near = [middle + n * step + m for n in (-13, -12, -7, -6, -3, -1, 0, 1) for m in (0, 1) if middle + n * step >= 0]
    powers = st.builds(int.__or__, st.sampled_from(near), st.sampled_from(signs))
    some = st.sampled_from([0, 1, fmt.max_code, fmt.max_code | signs[-1], signs[-1]])
    return list(
        data.draw(st.lists(powers | st.integers(0, 2**fmt.bits - 1) | some, min_size=count, max_size=count), label)
    )


def drawn_wrong(data: st.DataObject, model: acc.Accumulator, formats: Formats, longest: int = 12) -> None:
    """Hold one product of drawn codes, one row by three columns, against the twin."""
    k = data.draw(st.integers(0, longest), "k")
    case = Case(model, formats, (1, 0, 3))
    case.a = np.array([drawn_codes(data, formats[0], k, "a")]).reshape(1, k)
    columns = [drawn_codes(data, formats[1], k, f"b[:, {j}]") for j in range(3)]
    case.b = np.array(columns, np.int64).reshape(3, k).T
    case.c = np.array([drawn_codes(data, case.c_format, 3, "c")])
    got = product(case)
    lines = wrong(case, got, [(0, j) for j in range(3)])
    assert not lines, f"{model!r}, {formats}: {lines[0]}"
