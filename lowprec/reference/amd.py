"""AMD matrix cores: `FusedExact` (CDNA1), `FlushedPairwise` (CDNA2), `FusedTruncatedLateC` (CDNA3); all to float32.

References
----------
MMA-Sim (arXiv:2511.10909); Khattak and Mikaitis (arXiv:2512.07004).
"""

from __future__ import annotations

from collections.abc import Sequence

from lowprec.accumulators import FlushedPairwise, FusedExact, FusedTruncatedLateC
from lowprec.formats import FloatFormat
from lowprec.reference.numbers import encode
from lowprec.reference.reals import ZERO, Real, add, multiply, real, rounded
from lowprec.reference.terms import (
    Term,
    blocks,
    log2_floor,
    pack,
    product,
    shift_floored,
    shift_truncated,
    special_sum,
    term,
)

_NOTHING = -999  # exponent of a sum without addends


def fused_exact(
    model: FusedExact, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: blocks and c exact, rounded once; an exact zero is +0."""
    out = model.result_format
    products = [product(term(x, formats[0]), term(y, formats[1])) for x, y in zip(a, b, strict=True)]
    for block in blocks(products, model.length):
        terms = [*block, term(c, out)]
        special = special_sum(terms)
        if special is not None:
            c = encode(special, out)
            continue
        unit = min(t.x - t.p for t in terms)
        c = pack(sum(t.m << (t.x - t.p - unit) for t in terms), unit, out, nearest=True)
    return c


def flushed_pairwise(
    model: FlushedPairwise, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: IEEE operations, subnormal inputs +0, subnormal results zero of their sign.

    c is an input where an instruction of four blocks begins.
    """
    out = model.result_format

    def enter(code: int, fmt: FloatFormat) -> Real:
        x = real(code, fmt)
        return ZERO if not x.special and x.magnitude < fmt.smallest_normal else x

    def flush(x: Real) -> Real:
        return real(rounded(x, out, subnormals="flush"), out)

    products = [flush(multiply(enter(x, formats[0]), enter(y, formats[1]))) for x, y in zip(a, b, strict=True)]
    for start in range(0, len(products), model.length):
        level = products[start : start + model.length]
        level += [ZERO] * (model.length - len(level))
        while len(level) > 1:
            level = [flush(add(x, y)) for x, y in zip(level[0::2], level[1::2], strict=True)]
        addend = real(c, out) if start % (4 * model.length) else enter(c, out)
        c = rounded(add(addend, level[0]), out, subnormals="flush")
    return c


def truncated_late_c(
    model: FusedTruncatedLateC, a: Sequence[int], b: Sequence[int], c: int, formats: tuple[FloatFormat, FloatFormat]
) -> int:
    """Return the code of the sum: products truncated among themselves, then c, both floored."""
    out = model.result_format
    products = [_bounded(product(term(x, formats[0]), term(y, formats[1]))) for x, y in zip(a, b, strict=True)]
    for block in blocks(products, model.length):
        addend = term(c, out)
        special = special_sum([*block, addend])
        c = _late_c(model, block, addend, out) if special is None else encode(special, out)
    return c


def _bounded(t: Term) -> Term:
    """Return the product, infinite if its magnitude is 2**128 or more."""
    if t.special is None and t.m != 0 and log2_floor(t.m) + t.x - t.p >= 128:
        return t._replace(special=float("-inf") if t.m < 0 else float("inf"))
    return t


def _aligned(terms: Sequence[Term], fraction_bits: int) -> tuple[int, int]:
    """Return the sum of the truncated terms in units of ``2**(e - fraction_bits)``, and e, the largest exponent."""
    e = max([_NOTHING, *(t.x for t in terms if t.m != 0)])
    return sum(shift_truncated(t.m, fraction_bits - t.p + t.x - e) for t in terms), e


def _late_c(model: FusedTruncatedLateC, block: Sequence[Term], addend: Term, out: FloatFormat) -> int:
    """Return the code of one block's sum and c, all of them finite."""
    fraction, final = model.fraction_bits, model.final_bits
    if model.even_odd:
        parts = [_aligned(block[first::2], fraction) for first in (0, 1)]
        ed = max(e for _, e in parts)
        total = sum(shift_floored(s, e - ed) for s, e in parts)
    else:
        total, ed = _aligned(block, fraction)
    e = max(ed, addend.x)
    if model.even_odd and addend.x < e - 25:
        addend = Term(0, out.emin, out.mantissa_bits)
    unit = e - final - 1
    aligned = shift_floored(addend.m, fraction - addend.p + addend.x - e)
    total = shift_floored(total, ed - fraction - unit) + (aligned << (final + 1 - fraction))
    if total == 0:
        return 0
    top = max(log2_floor(total) + unit, out.emin)
    return pack(shift_floored(total, final - top + unit), top - final, out, nearest=True)
