"""What floating-point units have to give, by the package's emulation, and vectors that go to their corners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lowprec.accumulators import FusedTruncated, Sequential
from lowprec.codec import decode, encode
from lowprec.formats import FloatFormat, Format
from lowprec.matmul import vecdot
from lowprec.reference import reals
from lowprec.rounding import Rounding, Subnormals
from lowprec.rtl import _vectors
from lowprec.rtl._bits import Array, join, split

Ports = Mapping[str, Array]


def flushed(codes: Array, fmt: FloatFormat) -> Array:
    """Return codes with those of subnormal numbers replaced by zeros of their sign."""
    if not fmt.has_subnormals:
        return codes
    kind = codes.dtype.type
    below = (codes >> kind(fmt.mantissa_bits)) & kind((1 << fmt.exponent_bits) - 1) == 0
    is_nan = codes == kind(fmt.nan_code) if fmt.nan == "negative_zero" and fmt.nan_code is not None else False
    sign = kind(1 << fmt.magnitude_bits) if fmt.has_negative_zero else kind(0)
    return np.where(below & ~np.asarray(is_nan), codes & sign, codes)


def values(codes: Array, fmt: FloatFormat, *, flush: bool) -> Array:
    """Return the values of codes in float64, which holds every format's."""
    narrow = codes.astype(fmt.code_dtype)
    return np.asarray(decode(flushed(narrow, fmt) if flush else narrow, fmt, dtype=np.float64))


def codes_of(x: Array, fmt: FloatFormat) -> Array:
    """Return the codes of values that the format has."""
    return np.asarray(encode(np.asarray(x, np.float64), fmt)).astype(np.uint64)


def mac(inputs: Ports, formats: tuple[FloatFormat, FloatFormat], model: Sequential) -> dict[str, Array]:
    """Return one step of the sum."""
    fmt, flush = model.format, model.subnormals is Subnormals.FLUSH
    if model.rounding is Rounding.STOCHASTIC:
        return {"y": drawn(inputs, formats, model)}
    a, b = (values(inputs[port], form, flush=flush) for port, form in zip("ab", formats, strict=True))
    c = values(inputs["c"], fmt, flush=flush)
    y = vecdot(a[:, None], b[:, None], dtype=formats, c=c, accumulator=model)
    return {"y": codes_of(y, fmt)}


def multiply(inputs: Ports, formats: tuple[FloatFormat, FloatFormat], model: Sequential) -> dict[str, Array]:
    """Return the product rounded: one step of the sum from a zero of its own sign."""
    fmt, flush = model.format, model.subnormals is Subnormals.FLUSH
    a, b = (values(inputs[port], form, flush=flush) for port, form in zip("ab", formats, strict=True))
    zero = np.where(np.signbit(a) != np.signbit(b), -0.0, 0.0)
    y = vecdot(a[:, None], b[:, None], dtype=formats, c=zero, accumulator=model)
    return {"y": codes_of(y, fmt)}


def add(inputs: Ports, model: Sequential) -> dict[str, Array]:
    """Return the sum rounded: one step from a, with the product of b and one."""
    fmt, flush = model.format, model.subnormals is Subnormals.FLUSH
    a, b = (values(inputs[port], fmt, flush=flush) for port in "ab")
    y = vecdot(b[:, None], np.ones((b.size, 1)), dtype=(fmt, "float16"), c=a, accumulator=model)
    return {"y": codes_of(y, fmt)}


def cast(inputs: Ports, source: FloatFormat, fmt: FloatFormat, rounding: Rounding, *, flush: bool) -> dict[str, Array]:
    """Return the codes of the numbers in the other format."""
    found = values(inputs["a"], source, flush=flush)
    return {"y": encode(found, fmt, rounding=rounding, subnormals="flush" if flush else "keep").astype(np.uint64)}


def drawn(inputs: Ports, formats: tuple[FloatFormat, FloatFormat], model: Sequential) -> Array:
    """Return one step with stochastic rounding by the words of the port `random`, one number at a time."""
    fmt, bits = model.format, model.random_bits or 0
    flush = model.subnormals is Subnormals.FLUSH
    narrow = [inputs[port].astype(form.code_dtype) for port, form in zip("abc", (*formats, fmt), strict=True)]
    if flush:
        narrow = [flushed(codes, form) for codes, form in zip(narrow, (*formats, fmt), strict=True)]
    found = []
    for x, y, z, word in zip(*(each.tolist() for each in narrow), inputs["random"].tolist(), strict=True):
        total = reals.add(reals.multiply(reals.real(x, formats[0]), reals.real(y, formats[1])), reals.real(z, fmt))
        overflow = None if model.overflow is None else str(model.overflow)
        code = reals.rounded(total, fmt, "stochastic", overflow, str(model.subnormals), word << (32 - bits), bits)
        found.append(code)
    return np.array(found, np.uint64)


def mac_vectors(formats: tuple[FloatFormat, FloatFormat], model: Sequential) -> Any:
    """Return the maker of operands at the corners, of c near minus the product, and of random words."""
    make = _vectors.mac_vectors(*formats, model.format)

    def with_words(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        found = dict(make(rng, count, given))
        return found | words(rng, count, model)

    return with_words


def words(rng: np.random.Generator, count: int, model: Sequential) -> dict[str, Array]:
    """Return what the port `random` is given in stochastic rounding: the ends more often than not."""
    if model.rounding is not Rounding.STOCHASTIC:
        return {}
    bits = model.random_bits or 1
    ends = rng.choice(np.array([0, (1 << bits) - 1], np.uint64), count)
    drawn_words = rng.integers(0, 1 << bits, count, dtype=np.uint64)
    return {"random": np.where(rng.random(count) < 0.3, ends, drawn_words)}


def dot(
    inputs: Ports, formats: tuple[FloatFormat, FloatFormat], model: FusedTruncated, *, flush: bool
) -> dict[str, Array]:
    """Return one block of the sum; with `flush`, subnormals of the operands are zeros, and small results +0."""
    out = model.out
    a, b = (
        values(split(inputs[port], fmt.bits, model.length), fmt, flush=flush)
        for port, fmt in zip("ab", formats, strict=True)
    )
    c = values(inputs["c"], model.c_format or out, flush=flush)
    y = np.asarray(vecdot(a, b, dtype=formats, c=c, accumulator=model), np.float64)
    codes = np.where(np.isnan(y), np.uint64((1 << out.magnitude_bits) - 1), codes_of(y, out))
    if flush:
        low = np.abs(y) < out.smallest_normal
        codes = np.where(low, np.uint64(0), codes)
    return {"y": codes}


def lane_vectors(formats: tuple[Format, Format], c_format: FloatFormat, length: int) -> Any:
    """Return the maker of rows for a dot unit: corners, rows near one, products that cancel, c near minus the sum."""

    def numbers(codes: Array, fmt: Format) -> Array:
        return np.asarray(decode(codes.astype(fmt.code_dtype), fmt, dtype=np.float64))

    def make(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        rows = []
        for fmt in formats:
            size = (count, length)
            corner = _vectors.draw(fmt, rng, count * length).reshape(size)
            near = encode(rng.standard_normal(size) * 2.0 ** rng.integers(-4, 5, (count, 1)), fmt, overflow="saturate")
            rows.append(np.where(rng.random((count, 1)) < 0.4, corner, near.astype(np.uint64)))
        a, b = rows
        if length > 1:  # the second half repeats the first with the other sign
            half = length // 2
            again = rng.random(count) < 0.3
            b[again, half : 2 * half] = b[again, :half]
            if isinstance(formats[0], FloatFormat) and formats[0].is_signed:
                a[again, half : 2 * half] = a[again, :half] ^ np.uint64(1 << formats[0].magnitude_bits)
            else:
                a[again, half : 2 * half] = a[again, :half]
        with np.errstate(all="ignore"):
            total = (numbers(a, formats[0]) * numbers(b, formats[1])).sum(axis=1)
        c = _vectors.addends(total, c_format, rng)
        return {"a": join(a, formats[0].bits), "b": join(b, formats[1].bits), "c": given.get("c", c)}

    return make


def is_nan(codes: Array, fmt: FloatFormat) -> Array:
    """Say which codes are NaN."""
    return np.isnan(values(codes, fmt, flush=False))


def cast_vectors(source: FloatFormat, fmt: FloatFormat) -> Any:
    """Return the maker of numbers for a cast: corners, and numbers on and beside the midpoints of the other format."""

    def make(rng: np.random.Generator, count: int, given: dict[str, Array]) -> dict[str, Array]:
        if "a" in given:
            return {"a": given["a"]}
        with np.errstate(all="ignore"):
            base = values(_vectors.draw(fmt, rng, count), fmt, flush=False)
            step = 2.0**-fmt.precision
            away = rng.choice(np.array([1, 1 + step, 1 + step / 4, 1 - step, 1.5, 0.5, 0.75, 0.25, 1.25]), count)
            target = np.where(np.isfinite(base), base, 1.0) * away
        near = encode(target, source, overflow="saturate").astype(np.uint64)
        nudged = near.astype(np.int64) + rng.integers(-1, 2, count)
        near = np.clip(nudged, 0, (1 << source.bits) - 1).astype(np.uint64)
        codes = np.where(rng.random(count) < 0.5, near, _vectors.draw(source, rng, count))
        return {"a": codes if fmt.has_nan else np.where(is_nan(codes, source), np.uint64(0), codes)}

    return make
