"""`accumulate`: any model's sum of products, one dot product at a time, from codes to a code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lowprec.accumulators import (
    Accumulator,
    BfDotFused,
    BfDotRoundOdd,
    Chunked,
    EvenOddPair,
    Exact,
    FlushedPairwise,
    FmaPairOddFirst,
    Fp8ViaF16,
    FusedExact,
    FusedTruncated,
    FusedTruncatedGroupScaled,
    FusedTruncatedLateC,
    FusedTruncatedScaled,
    Integer,
    Pairwise,
    Sequential,
)
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as _format
from lowprec.reference import amd, nvidia, sums, vectors
from lowprec.reference.numbers import decode
from lowprec.reference.reals import Real, real, rounded
from lowprec.reference.terms import Term, term

_HARDWARE: dict[type[Accumulator], Callable[..., int]] = {
    Fp8ViaF16: nvidia.fp8_via_f16,
    FusedExact: amd.fused_exact,
    FlushedPairwise: amd.flushed_pairwise,
    FusedTruncatedLateC: amd.truncated_late_c,
    FmaPairOddFirst: vectors.fma_pair_odd_first,
    EvenOddPair: vectors.even_odd_pair,
    BfDotRoundOdd: vectors.bf_dot_round_odd,
    BfDotFused: vectors.bf_dot_fused,
}
_SCALED: dict[type[Accumulator], Callable[..., int]] = {
    FusedTruncatedScaled: nvidia.scaled,
    FusedTruncatedGroupScaled: nvidia.group_scaled,
}
Scales = tuple[Sequence[int], Sequence[int]]


def accumulate(
    model: Accumulator,
    a: Sequence[int],
    b: Sequence[int],
    c: int | None = None,
    *,
    formats: tuple[str | Format, str | Format],
    c_format: str | FloatFormat | None = None,
    seed: int = 0,
    index: int = 0,
    first_k: int = 0,
    scales: Scales | None = None,
) -> int:
    """Return ``c + sum(a[k] * b[k])`` as a model evaluates it, code for code.

    Parameters
    ----------
    model : Accumulator
        How the sum is evaluated.
    a, b : sequence of int
        Codes, of equal length.
    c : int, optional
        The code that the sum starts from; +0 if not given.
    formats : pair of str or FloatFormat or IntFormat
        The formats of `a` and of `b`.
    c_format : str or FloatFormat, optional
        The format of `c`: the one in which the model takes it, which is the default.
    seed, index : int
        For stochastic rounding: the key, and the element's index in the result, C order.
    first_k : int
        The k of the first product; random words count from it.
    scales : pair of sequences of int, optional
        For the models with block scales: codes of the scales of `a` and of `b`, one for each begun block.

    Returns
    -------
    int
        The code in the model's `result_format`: float32 for ``Exact()``, two's complement for `Integer`.

    Raises
    ------
    TypeError
        If `model` is not an `Accumulator`.
    ValueError
        If lengths, formats or scales do not fit the model, or a preset's name stands where a model is needed.

    Notes
    -----
    The words are those of each model's docstring; the last block of a model of hardware is padded with +0. Tensor
    cores give a NaN with all bits but the sign set, Arm gives 0x7FC00000, x86 keeps payloads, and all other models
    give the format's `nan_code`. Without a product the result is `c`.

    Examples
    --------
    >>> import lowprec as lp
    >>> from lowprec.accumulators import FusedTruncated
    >>> one, small = lp.reference.encode(1.0, "bf16"), lp.reference.encode(2.0**-13, "bf16")
    >>> hex(lp.reference.accumulate(FusedTruncated(16, 25), [one, small], [one, small], formats=("bf16", "bf16")))
    '0x3f800000'
    """
    if not isinstance(model, Accumulator):
        msg = f"`model` must be an Accumulator, got {model!r} of type {type(model).__name__}."
        raise TypeError(msg)
    if len(a) != len(b):
        msg = f"`a` and `b` must have the same length, got {len(a)} and {len(b)}."
        raise ValueError(msg)
    operands = (_format(formats[0]), _format(formats[1]))
    out = _result_format(model)
    c_fmt = _c_format(model, c_format)
    start = 0 if c is None else c
    if isinstance(model, Chunked):
        numbers = _chunks(model, a, b, operands, (seed, index, first_k), scales)
        total = sums.chunk_sum(_outer(model), numbers, real(start, out), seed=seed, index=index)
        return rounded(total, out)
    blocks = _scales(model, len(a), scales)
    if isinstance(model, Integer):
        if not (isinstance(operands[0], IntFormat) and isinstance(operands[1], IntFormat)):
            msg = f"`formats` must be integer formats for {model!r}, got {operands[0]} and {operands[1]}."
            raise ValueError(msg)
        values = [int(decode(x, operands[0])) * int(decode(y, operands[1])) for x, y in zip(a, b, strict=True)]
        return sums.integer(model, values, int(decode(start, out))) & ((1 << model.bits) - 1)
    if isinstance(model, (Sequential, Pairwise, Exact)):
        products = sums.dot_products([real(x, operands[0]) for x in a], [real(y, operands[1]) for y in b])
        if isinstance(model, Exact):
            return sums.exact(model, products, real(start, out), out)  # type: ignore[arg-type]
        if isinstance(model, Pairwise):
            return rounded(sums.pairwise(model, products, real(start, out)), out)
        total = sums.sequential(model, products, real(start, out), seed=seed, index=index, first_k=first_k)
        return rounded(total, out)
    for fmt in operands:
        if not isinstance(fmt, FloatFormat):
            msg = f"`formats` must be float formats for {model!r}, got {fmt}."
            raise ValueError(msg)
    if isinstance(model, FusedTruncated):
        return nvidia.fused_truncated(model, a, b, start, operands, c_fmt)  # type: ignore[arg-type]
    if blocks is not None:
        return _SCALED[type(model)](model, a, b, start, operands, blocks)
    return _HARDWARE[type(model)](model, a, b, start, operands)


def _result_format(model: Accumulator) -> Format:
    """Return the format of the result, float32 where the model leaves it open."""
    return model.result_format or _format("float32")


def _c_format(model: Accumulator, c_format: Any) -> Format:
    """Return the format of c, after checking that the model takes it."""
    own = getattr(model, "c_format", None) or _result_format(model)
    if c_format is not None and _format(c_format) != own:
        msg = f"`c_format` must be {own} for {model!r}, got {_format(c_format)}."
        raise ValueError(msg)
    return own


def _scale_block(model: Any) -> int | None:
    """Return how many elements share a scale, or None for a model without scales."""
    if isinstance(model, FusedTruncatedGroupScaled):
        return model.scale_block
    return model.length if isinstance(model, FusedTruncatedScaled) else None


def _scales(model: Accumulator, count: int, scales: Scales | None) -> tuple[list[Term], list[Term]] | None:
    """Return the scales of both operands taken apart, or None for a model without them."""
    block = _scale_block(model)
    if (block is None) != (scales is None):
        rule = "be left out" if block is None else "be given"
        msg = f"`scales` must {rule} for {model!r}."
        raise ValueError(msg)
    if block is None or scales is None:
        return None
    if any(len(each) != -(-count // block) for each in scales):
        msg = f"`scales` must hold {-(-count // block)} codes each for {count} products in blocks of {block}, got "
        msg += f"{len(scales[0])} and {len(scales[1])}."
        raise ValueError(msg)
    fmt = getattr(model, "scale_format", None) or _format("float8_e8m0fnu")
    a, b = ([term(code % 2**fmt.magnitude_bits, fmt) for code in each] for each in scales)  # a sign bit is ignored
    return a, b


def _outer(model: Chunked) -> Sequential | Pairwise:
    """Return the outer sum."""
    if not isinstance(model.outer, (Sequential, Pairwise)):
        raise AssertionError
    return model.outer


def _chunks(
    model: Chunked,
    a: Sequence[int],
    b: Sequence[int],
    operands: tuple[Format, Format],
    draw: tuple[int, int, int],
    scales: Scales | None,
) -> list[Real]:
    """Return the inner sum of every chunk, each from +0."""
    inner, every = model.inner, model.every
    if not isinstance(inner, Accumulator):
        msg = f"`model` must hold a model as `inner`, got the name {inner!r}; look the preset up first."
        raise ValueError(msg)
    block = _scale_block(inner)
    if block is not None and every % block:
        msg = f"`model` must have `every` a multiple of {block}, the elements that share a scale, got {every}."
        raise ValueError(msg)
    seed, index, first_k = draw
    found = []
    for start in range(0, len(a), every):
        part = slice(start, start + every)
        own = scales
        if scales is not None and block is not None:
            blocks = slice(start // block, (start + every) // block)
            own = (scales[0][blocks], scales[1][blocks])
        code = accumulate(
            inner, a[part], b[part], formats=operands, seed=seed, index=index, first_k=first_k + start, scales=own
        )
        found.append(real(code, _result_format(inner)))
    return found
