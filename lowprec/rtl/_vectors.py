"""Inputs that go to the corners: where units of arithmetic are wrong when they are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from lowprec.codec import decode, encode
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.rtl._bits import Array


def _integers(rng: np.random.Generator, bits: int, count: int) -> Array:
    """Return random codes of a width up to 64 bits."""
    return rng.integers(0, 1 << bits, count, dtype=np.uint64, endpoint=False) if bits < 64 else _words(rng, count)


def _words(rng: np.random.Generator, count: int) -> Array:
    return rng.integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)


def integer_corners(bits: int) -> list[int]:
    """Return the codes of a width at which carries and signs go wrong: ends, single bits, runs of ones."""
    top, ones = 1 << (bits - 1), (1 << bits) - 1
    some = {
        0,
        1,
        ones,
        ones - 1,
        top,
        top - 1,
        (top + 1) & ones,
        int("01" * bits, 2) & ones,
        int("10" * bits, 2) & ones,
    }
    for place in range(bits):
        some |= {1 << place, ones ^ (1 << place), (1 << place) - 1, ones ^ ((1 << place) - 1)}
    return sorted(some)


def float_corners(fmt: FloatFormat) -> list[int]:
    """Return the codes of a format around its zeros, ends and specials."""
    m = fmt.mantissa_bits
    top = (1 << fmt.magnitude_bits) - 1
    fields = sorted({0, 1, 2, fmt.bias - 1, fmt.bias, fmt.bias + 1, (top >> m) - 2, (top >> m) - 1, top >> m})
    tails = sorted({0, 1, (1 << m) - 1, (1 << m) >> 1, max(0, (1 << m) - 2)})
    some = {(e << m) | t for e in fields if 0 <= e <= top >> m for t in tails if t < 1 << m}
    some |= {fmt.max_code, min(top, fmt.max_code + 1)}
    return sorted(some | ({code | (1 << fmt.magnitude_bits) for code in some} if fmt.is_signed else set()))


def draw(fmt: Format, rng: np.random.Generator, count: int) -> Array:
    """Return codes of a format: a quarter uniform, the others at corners and at the ends of the exponents."""
    bits = fmt.bits
    uniform = _integers(rng, bits, count)
    if isinstance(fmt, IntFormat):
        corners = np.array(integer_corners(bits), np.uint64)
        small = _integers(rng, bits, count) >> rng.integers(0, bits, count, dtype=np.uint64)
        return np.where(
            rng.random(count) < 0.4, rng.choice(corners, count), np.where(rng.random(count) < 0.5, uniform, small)
        )
    corners = np.array(float_corners(fmt), np.uint64)
    m, top = fmt.mantissa_bits, (1 << fmt.exponent_bits) - 1
    ends = np.array(sorted({0, 1, max(0, top - 2), max(0, top - 1), top}), np.uint64)
    near = np.clip(fmt.bias + rng.integers(-3, 4, count), 0, top).astype(np.uint64)
    exponent = np.where(rng.random(count) < 0.5, rng.choice(ends, count), near)
    ones = np.uint64((1 << m) - 1)
    tail = _integers(rng, m, count) if m else np.zeros(count, np.uint64)
    few = np.uint64(1) << rng.integers(0, max(1, m), count, dtype=np.uint64)
    which = rng.integers(0, 5, count)
    tail = np.select(
        [which == 0, which == 1, which == 2], [np.zeros_like(tail), np.full_like(tail, ones), few & ones], tail
    )
    made = (exponent << np.uint64(m)) | tail
    if fmt.is_signed:
        made |= rng.integers(0, 2, count, dtype=np.uint64) << np.uint64(fmt.magnitude_bits)
    which = rng.integers(0, 4, count)
    return np.select([which == 0, which == 1], [uniform, rng.choice(corners, count)], made)


def addends(product: Array, fmt: FloatFormat, rng: np.random.Generator) -> Array:
    """Return codes to add to products: beside their negatives, up to 30 binades off, and at corners.

    `product` holds the products as float64; where they are not numbers, corners come.
    """
    count = product.size
    corners = draw(fmt, rng, count)
    moved = np.ldexp(-product, rng.integers(-30, 31, count))
    with np.errstate(all="ignore"):
        exact = np.where(rng.random(count) < 0.5, -product, np.where(rng.random(count) < 0.7, moved, -moved))
    finite = np.isfinite(exact)
    near = encode(np.where(finite, exact, 0.0), fmt, rounding="toward_zero", overflow="saturate").astype(np.uint64)
    step = rng.integers(-2, 3, count)
    magnitude = np.uint64((1 << fmt.magnitude_bits) - 1)
    shifted = np.clip((near & magnitude).astype(np.int64) + step, 0, fmt.max_code).astype(np.uint64)
    near = np.where(rng.random(count) < 0.3, near, (near & ~magnitude) | shifted)
    return np.where(finite & (rng.random(count) < 0.7), near, corners)


def products(a: Array, b: Array, fmt_a: FloatFormat, fmt_b: FloatFormat) -> Array:
    """Return products as float64, for `addends`; rounded where 53 bits are not enough."""
    with np.errstate(all="ignore"):
        return _values(a, fmt_a) * _values(b, fmt_b)


def _values(codes: Array, fmt: FloatFormat) -> Array:
    return np.asarray(decode(codes.astype(fmt.code_dtype), fmt, dtype=np.float64))


def mac_vectors(fmt_a: FloatFormat, fmt_b: FloatFormat, fmt_c: FloatFormat) -> Any:
    """Return the vectors of a multiply-accumulate unit of floats: its ports are a, b and c."""

    def make(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        a = given.get("a", draw(fmt_a, rng, count))
        b = given.get("b", draw(fmt_b, rng, count))
        return {"a": a, "b": b, "c": given.get("c", addends(products(a, b, fmt_a, fmt_b), fmt_c, rng))}

    return make


def plain_vectors(ports: dict[str, Format]) -> Any:
    """Return the vectors of a unit whose ports are drawn one by one."""

    def make(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        return {port: given.get(port, draw(fmt, rng, count)) for port, fmt in ports.items()}

    return make
