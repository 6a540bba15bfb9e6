"""What `lowprec.nn.Arithmetic` means, from its docstrings alone: one number at a time, by `lowprec.reference`.

A matrix is a list of rows; both operands of a product lie as rows along K, as activations and weights of a linear layer
do. All that is said to be rounded is rounded by `lowprec.reference`, all that is summed is summed by its `accumulate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import lowprec as lp
from lowprec.reference import accumulate, decode, dequantize_block, encode, fma, quantize_block, round_to, tensor_scale
from lowprec.reference.blocks import Row, block_dot
from lowprec.reference.integers import scaled

Matrix = list[list[float]]
Mask = Sequence[Sequence[bool]]


class Slow(NamedTuple):
    """An arithmetic whose words have been looked up: formats, the model of the sum, and the scales."""

    x: Any
    w: Any
    model: Any = None  # None: the default of the formats
    scales: str = "auto"
    rule: str | None = None  # of the scales of block formats
    rounding: str = "nearest_even"
    weights: Any = None  # (format, block size or None), for round to nearest alone
    activations: Any = None


class Scaled(NamedTuple):
    """A matrix of codes with scales: what one row's are, in the words of the definition."""

    rows: list[Row]


# ---------------------------------------------------------------------------------------------------- one tensor
def blocks(row: Sequence[float], size: int | None) -> list[list[float]]:
    """Cut a row."""
    return [list(row[i : i + size]) for i in range(0, len(row), size)] if size else [list(row)]


def flat(m: Matrix) -> list[float]:
    """Return all numbers of a tensor."""
    return [v for row in m for v in row]


def block_rows(m: Matrix, fmt: lp.BlockFormat, rule: str | None) -> Scaled:
    """Quantise every block of every row by the rule of a block format, or another."""
    element = fmt.element.values if isinstance(fmt.element, lp.CodebookFormat) else fmt.element
    whole = tensor_scale(flat(m), element, fmt.scale) if fmt.two_level and flat(m) else None
    rows = []
    for row in m:
        made = [
            quantize_block(
                part, element, scale_format=fmt.scale, scale_rule=rule or fmt.scale_rule, unit=fmt.unit,
                tensor_scale=whole, reciprocal=fmt.reciprocal,
            )
            for part in blocks(row, fmt.block_size) if part
        ]  # fmt: skip
        codes = [code for one in made for code in one.codes]
        scales = [one.scale * fmt.unit for one in made]
        rows.append(Row(codes, element, scales, fmt.block_size, None, whole, fmt.scale.name))
    return Scaled(rows)


def scaled_rows(m: Matrix, fmt: Any, scales: str, divisor: float | None = None) -> Scaled:
    """Quantise with one scale for the tensor, or one for each row."""
    if scales == "row":
        made = [quantize_block(row, fmt, divisor=divisor) if row else None for row in m]
        return Scaled([Row(b.codes if b else (), fmt, (b.scale if b else 1.0,)) for b in made])
    everything = flat(m)
    if not everything:
        return Scaled([Row((), fmt, (1.0,)) for _ in m])
    one = quantize_block(everything, fmt, divisor=divisor)
    k = len(m[0])
    return Scaled([Row(one.codes[i * k : (i + 1) * k], fmt, (one.scale,)) for i in range(len(m))])


def unscaled_rows(m: Matrix, fmt: Any) -> Scaled:
    """Return the codes of a format that takes numbers as they are, with the scale 1."""
    return Scaled([Row([encode(v, fmt) for v in row], fmt, (1.0,)) for row in m])


def stored(m: Matrix, fmt: Any, block: int | None) -> Matrix:
    """Round to a format and back to float32: by output, by block, by tensor for floats below 16 bits, or as it is."""
    if not m or not m[0]:
        return m
    if isinstance(fmt, lp.BlockFormat):
        factors = block_rows(m, fmt, None)
        return [_numbers(row) for row in factors.rows]
    if isinstance(fmt, lp.FloatFormat) and block is None:
        if fmt.bits >= 16:
            return [[round_to(v, fmt) for v in row] for row in m]
        k, one = len(m[0]), quantize_block(flat(m), fmt)
        numbers = dequantize_block(one, fmt)
        return [numbers[i * k : (i + 1) * k] for i in range(len(m))]
    affine = isinstance(fmt, lp.IntFormat) and not fmt.is_signed
    element = fmt.values if isinstance(fmt, lp.CodebookFormat) else fmt
    return [
        [v for part in blocks(row, block) for v in
         dequantize_block(quantize_block(part, element, symmetric=not affine), element)]
        for row in m
    ]  # fmt: skip


def _numbers(row: Row) -> list[float]:
    """Return a row of a block format as float32 numbers."""
    from lowprec.reference import Block

    size = row.block or len(row.codes)
    out: list[float] = []
    for i, scale in enumerate(row.scales):
        part = Block(tuple(row.codes[i * size : (i + 1) * size]), scale, None)
        out += dequantize_block(part, row.element, tensor_scale=row.tensor_scale)
    return out


# ------------------------------------------------------------------------------------------------------ the product
def product(how: Slow, x: Matrix, w: Matrix, bias: Sequence[float] | None = None, keep: Mask | None = None) -> Matrix:
    """Return ``x @ w.T + bias`` of two matrices that lie as rows along K; `keep` says what a sparse weight keeps."""
    x_fmt, w_fmt = (_resolved(f) for f in (how.x, how.w))
    if isinstance(x_fmt, lp.BlockFormat):
        a, b = block_rows(x, x_fmt, how.rule), block_rows(w, w_fmt, how.rule)
        return _of_codes(how.model, a, b, bias, keep, read_out=False)
    pair, scales = (x_fmt, w_fmt), how.scales
    whole = any(isinstance(f, lp.IntFormat) for f in pair)
    if scales == "auto":
        scales = "row" if whole else "tensor"
    if scales == "power_of_two" and not whole and any(_narrow(f) for f in pair):
        return _by_powers(how, x, w, pair, bias, keep)
    if scales == "power_of_two":
        scales = "row"
    if not any(_narrow(f) for f in pair) or (scales == "none" and not whole):
        return _plain(how, x, w, pair, bias, keep)
    operands = []
    for m, fmt in ((x, pair[0]), (w, pair[1])):
        if not _narrow(fmt):
            operands.append(unscaled_rows(m, fmt))
        elif how.scales == "none":
            operands.append(scaled_rows(m, fmt, "tensor"))
        else:
            k = len(m[0]) if m else 0
            operands.append(scaled_rows(m, fmt, scales, _divisor(fmt, how.model, k)))
    return _of_codes(how.model, *operands, bias, keep, read_out=how.scales != "none" and not whole)


def linear(how: Slow, x: Matrix, w: Matrix, bias: Sequence[float] | None = None, keep: Mask | None = None) -> Matrix:
    """Return the same with what is done to weights and activations before."""
    if how.weights is not None:
        w = stored(w, *how.weights)
        if keep is not None:
            w = [[v if kept else 0.0 for v, kept in zip(*pair, strict=True)] for pair in zip(w, keep, strict=True)]
    if how.activations is not None:
        x = stored(x, how.activations, None)
    return product(how, x, w, bias, keep)


def matmul(how: Slow, a: Matrix, b: Matrix) -> Matrix:
    """Return ``a @ b`` of two activations, both in the format of activations."""
    columns = [list(column) for column in zip(*b, strict=True)]
    if how.activations is not None:
        a, columns = (stored(m, how.activations, None) for m in (a, columns))
    return product(how._replace(w=how.x), a, columns)


def _resolved(fmt: Any) -> Any:
    """Return the format of a name."""
    if isinstance(fmt, str):
        try:
            return lp.format(fmt)
        except ValueError:
            return lp.block_format(fmt)
    return fmt


def _narrow(fmt: Any) -> bool:
    """Say whether a format needs scales: integers, and floats below 16 bits."""
    return isinstance(fmt, lp.IntFormat) or fmt.bits < 16


def _divisor(fmt: Any, model: Any, k: int) -> float | None:
    """Return what the largest magnitude becomes: so small that K products stay in the accumulator's format."""
    if isinstance(model, lp.Chunked):
        parts = [_divisor(fmt, model.inner, min(k, model.every)), _divisor(fmt, model.outer, k)]
        return min((part for part in parts if part is not None), default=None)
    out = None if model is None or isinstance(model, lp.Exact) else getattr(model, "format", None)
    out = out if isinstance(out, lp.FloatFormat) else getattr(model, "out", None)
    if not isinstance(fmt, lp.FloatFormat) or not isinstance(out, lp.FloatFormat) or k == 0:
        return None
    values = [v for v in (decode(code, fmt) for code in range(2**fmt.bits)) if v > 0 and math.isfinite(v)]
    fitting = [v for v in values if Fraction(v) ** 2 * k <= Fraction(out.max)]
    return max(fitting) if fitting else None


def _kept(codes: Sequence[Any], kept: Sequence[bool] | None) -> list[Any]:
    """Return what is kept of a row."""
    return list(codes) if kept is None else [code for code, one in zip(codes, kept, strict=True) if one]


def _plain(how: Slow, x: Matrix, w: Matrix, pair: Any, bias: Any, keep: Mask | None) -> Matrix:
    """Return the product of numbers that are rounded as they are."""
    model = how.model or lp.Sequential("fp32")
    out = model.result_format or lp.format("fp32")
    a, b = ([[encode(v, f, rounding=how.rounding) for v in row] for row in m] for m, f in ((x, pair[0]), (w, pair[1])))
    result = []
    for row in a:
        sums = []
        for n, other in enumerate(b):
            kept = None if keep is None else keep[n]
            code = accumulate(model, _kept(row, kept), _kept(other, kept), formats=pair)
            r = decode(code, out)
            if bias is not None:
                r = fma(round_to(bias[n], out), 1.0, r, out)
            sums.append(r)
        result.append(sums)
    return result


def _by_powers(how: Slow, x: Matrix, w: Matrix, pair: Any, bias: Any, keep: Mask | None) -> Matrix:
    """Multiply by the largest powers of two that keep both tensors inside, at most 2**16, and take them out again."""
    exponents, multiplied = [], []
    for m, fmt in ((x, pair[0]), (w, pair[1])):
        e = 0
        largest = max((abs(v) for v in flat(m)), default=0.0)
        if fmt.bits < 16 and largest > 0 and all(map(math.isfinite, flat(m))):
            limit = min(Fraction(fmt.max), Fraction(2**16))
            while Fraction(largest) * Fraction(2) ** (e + 1) <= limit:
                e += 1
            while Fraction(largest) * Fraction(2) ** e > limit:
                e -= 1
        exponents.append(e)
        multiplied.append([[math.ldexp(v, e) for v in row] for row in m])
    out = (how.model.result_format if how.model else None) or lp.format("fp32")
    narrow, power = out.bits < 32, sum(exponents)
    early = [_shifted(float(v), power, "fp32") for v in bias] if narrow and bias is not None else None
    total = _plain(how, *multiplied, pair, bias=early, keep=keep)
    found = [[_shifted(v, -power, "fp32" if out.bits <= 32 else out) for v in row] for row in total]
    if bias is None or narrow:
        return found
    return [[fma(float(b), 1.0, v, out) for v, b in zip(row, bias, strict=True)] for row in found]


def _shifted(v: float, power: int, fmt: Any) -> float:
    """Return a number times a power of two, rounded."""
    return round_to(Fraction(v) * Fraction(2) ** power, fmt) if v and math.isfinite(v) else v


def _of_codes(model: Any, a: Scaled, b: Scaled, bias: Any, keep: Mask | None, *, read_out: bool) -> Matrix:
    """Return the product of codes with scales; `read_out`: an exact sum of codes is rounded to float32, then scaled."""
    result = []
    for row in a.rows:
        sums = []
        for n, other in enumerate(b.rows):
            added = None if bias is None else float(bias[n])
            kept = None if keep is None or isinstance(model, lp.Integer) else keep[n]
            if row.block is not None:
                sums.append(block_dot(row, other, model=model, bias=added))
                continue
            one, two = (r._replace(codes=_kept(r.codes, kept)) for r in (row, other))
            sums.append(_read_out(one, two, added) if read_out and isinstance(model, lp.Exact)
                        else block_dot(one, two, model=model, bias=added))  # fmt: skip
        result.append(sums)
    return result


def _read_out(a: Row, b: Row, bias: float | None) -> float:
    """Return an exact sum of codes, rounded to float32, scaled, and the bias."""
    if any(math.isnan(row.scales[0]) for row in (a, b)):
        return math.nan
    total = sum(
        (
            Fraction(decode(p, a.element)) * Fraction(decode(q, b.element))
            for p, q in zip(a.codes, b.codes, strict=True)
        ),
        Fraction(0),
    )  # fmt: skip
    return scaled(total, a.scales[0], b.scales[0], bias)  # type: ignore[arg-type]
