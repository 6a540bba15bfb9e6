"""probe: what a dot product does inside, found by calling it; and the hardware that does the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lowprec import _checks, _inputs, _measure, _order, accumulators, hardware
from lowprec._align import Found
from lowprec._ask import Asker, Powers, same_number
from lowprec._checks import Array
from lowprec._report import ProbeReport
from lowprec.accumulators import Accumulator
from lowprec.codec import round_to
from lowprec.formats import FloatFormat
from lowprec.matmul import vecdot

__all__ = ["ProbeReport", "probe"]

_POOL = 32  # rows of each kind that vectors are chosen from
_CHOSEN = 72  # vectors that tell the presets apart, at most
_SEEDS = (20250611, 20250612)
_DEFAULT_K = 64


def probe(
    function: Callable[..., Any],
    dtype: Any = "fp16",
    *,
    k: int = _DEFAULT_K,
    out: Any = None,
) -> ProbeReport:
    """Find out how a function adds up a dot product: order, blocks, alignment, rounding, and which hardware fits.

    Parameters
    ----------
    function : callable
        ``function(a, b, c)`` returns ``c + a[0] * b[0] + ... + a[k - 1] * b[k - 1]``, one number of any type. `a` and
        `b` are float32 arrays (float64 for wider formats) of `k` elements that `dtype` holds, `c` is a Python float
        that the result's format holds. A function that ignores c is recognised.
    dtype : str, FloatFormat or dtype, or a pair of them
        Formats of a and b.
    k : int
        Length of the vectors, 8 to 1024. Blocks are seen up to half of it.
    out : str, FloatFormat or dtype, optional
        Format that the function rounds the finished sum to, if it does: presets are compared with `out_dtype` set to
        it.

    Returns
    -------
    ProbeReport
        Parameters, a model, and the presets that fit; ``print`` shows it. About 130 calls are made, 150 more at
        most for an order without a name.

    Raises
    ------
    TypeError
        If `function` cannot be called or returns anything but one real number, or an argument is of the wrong kind.
    ValueError
        If `function` does not compute the dot product of small integers, or an argument is out of range.
    RuntimeError
        If `function` raises; its exception is the cause.

    Notes
    -----
    Order: M and -M in two places, units everywhere else; the units that are gone were added before the two met (Xie,
    Gao, Xue, FPRev: Revealing the Order of Floating-Point Summation by Numerical Testing, arXiv:2411.00442).
    Alignment, rounding, c and subnormals: single products around the bits where designs cut (Fasi, Higham, Mikaitis,
    Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ CS 330, 2021; Li et al., FTTN: Feature-Targeted Testing
    for Numerical Properties of NVIDIA and AMD Matrix Accelerators, arXiv:2403.00232). That a preset fits means that it
    gave the same numbers, signs of zero included, in all calls, NaN being equal to NaN; vectors that tell the presets
    apart are among them.

    Examples
    --------
    >>> import lowprec as lp
    >>> def unit(a, b, c):
    ...     return lp.vecdot(a, b, "bf16", c=c, accumulator="nvidia-ampere")
    >>> report = lp.probe(unit, "bf16")
    >>> report.block_length, report.fraction_bits, report.rounding, report.c_place
    (8, 24, 'toward_zero', 'inside')
    >>> report.presets
    ('nvidia-ampere', 'nvidia-ada')
    """
    if not callable(function):
        msg = f"`function` must be callable as function(a, b, c), got {type(function).__name__}."
        raise TypeError(msg)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        msg = f"`k` must be an integer from 8 to 1024, got {k!r} of type {type(k).__name__}."
        raise TypeError(msg)
    if not 8 <= k <= 1024:
        msg = f"`k` must be from 8 to 1024, got {k}."
        raise ValueError(msg)
    formats = _formats(dtype)
    if out is not None:
        _checks.fmt_of(out, "out")
    ask = Asker(function, formats, int(k))
    _measure.check(ask)
    pool = _pool(ask, formats)
    if not _repeats(ask, pool):
        return ProbeReport(formats, int(k), ask.calls, deterministic=False)
    found = _measure.measure(ask)
    rows = _instructions(formats)
    vectors = _chosen(ask, pool, {row.model for _, row in rows}, formats, out)
    answers = [ask.vectors(a, b, float(c)).value for a, b, c in zip(*vectors, strict=True)]
    again = [ask.vectors(a, b, float(c), again=True).value for a, b, c in list(zip(*vectors, strict=True))[:4]]
    if not all(same_number(x, y) for x, y in zip(answers, again, strict=False)):
        return ProbeReport(formats, int(k), ask.calls, deterministic=False)
    vectors = _all_asked(ask)
    answers = [answer.value for answer in ask.memory.values()]
    missed = {
        model: _missed(model, vectors, answers, formats, out)
        for model in dict.fromkeys([*(row.model for _, row in rows), *_rebuilt(found)])
    }
    table = [
        {
            "preset": preset.name,
            "instruction": row.name,
            "model": row.model,
            "evidence": row.evidence,
            "missed": missed[row.model],
            "calls": len(answers),
        }
        for preset, row in rows
    ]
    fitting = tuple(dict.fromkeys(record["preset"] for record in table if record["missed"] == 0))
    model = next((each for each, count in missed.items() if count == 0), None)
    return _report(ask, found, formats, deterministic=True, model=model, presets=fitting, table=table)


def _formats(dtype: Any) -> tuple[FloatFormat, FloatFormat]:
    """Check the operands' formats."""
    both = tuple(dtype) if isinstance(dtype, (tuple, list)) else (dtype, dtype)
    if len(both) != 2:
        msg = f"`dtype` must be a format or a pair of them, got {len(both)}."
        raise ValueError(msg)
    formats = tuple(_checks.fmt_of(each, "dtype") for each in both)
    for fmt in formats:
        if not isinstance(fmt, FloatFormat) or not fmt.is_signed or not fmt.has_zero:
            msg = f"`dtype` must be a signed float format, got `{fmt}`; choose one such as 'fp16'."
            raise ValueError(msg)
    lacks = [fmt for fmt in formats if fmt.max < 2 or fmt.smallest_subnormal > 1]
    if lacks or Powers(*formats).top < 1:  # type: ignore[arg-type]
        msg = f"`dtype` must hold 1 and 2, which `{(lacks or formats)[0]}` does not; choose another format."
        raise ValueError(msg)
    return formats  # type: ignore[return-value]


Vectors = tuple[Array, Array, Array]


def _pool(ask: Asker, formats: tuple[FloatFormat, FloatFormat]) -> Vectors:
    """Return vectors to choose from, dense ones first."""
    made = [_inputs.build(formats, ask.k, _POOL, seed) for seed in _SEEDS]
    a, b, c = (np.concatenate([each[i] for each in made]) for i in range(3))
    return a.astype(ask.dtype), b.astype(ask.dtype), c if ask.has_c else np.zeros_like(c)


def _repeats(ask: Asker, pool: Vectors) -> bool:
    """Say whether equal questions get equal answers."""
    rows = [(pool[0][i], pool[1][i], float(pool[2][i])) for i in range(4)]
    return all(ask.vectors(*row).same(ask.vectors(*row, again=True)) for row in rows)


def _instructions(formats: tuple[FloatFormat, FloatFormat]) -> list[tuple[Any, Any]]:
    """Return the presets and their instructions for the operands."""
    return [
        (preset, row)
        for preset in hardware.presets()
        for row in preset.instructions
        if formats[0] in row.a and formats[1] in row.b and row.scale_format is None
    ]


def _sums(model: Accumulator, vectors: Vectors, formats: tuple[FloatFormat, FloatFormat], out: Any) -> Array:
    """Return a model's answers."""
    a, b, c = vectors
    narrower = getattr(model, "c_format", None)
    if narrower is not None:
        c = round_to(c, narrower)
    with np.errstate(all="ignore"):
        return np.asarray(vecdot(a, b, formats, accumulator=model, c=c, out_dtype=out)).astype(np.float64)


def _chosen(
    ask: Asker, pool: Vectors, models: set[Accumulator], formats: tuple[FloatFormat, FloatFormat], out: Any
) -> Vectors:
    """Return vectors that tell models apart, and some more."""
    picked: list[int] = list(range(0, len(pool[0]), max(1, len(pool[0]) // 24)))
    if models:
        results = np.array([_sums(model, pool, formats, out) for model in models])
        results = np.where(np.isnan(results), np.inf, results) + 0.0
        one, other = np.triu_indices(len(results), 1)
        apart = results[one] != results[other]  # pairs of models x vectors
        left = apart.any(axis=1)
        need = np.full(len(apart), 2)  # vectors that tell each pair apart
        while (left & (need > 0)).any() and len(picked) < _CHOSEN:
            gain = (apart & (need > 0)[:, np.newaxis]).sum(axis=0)
            gain[picked] = 0
            best = int(np.argmax(gain))
            if gain[best] == 0:
                break
            picked.append(best)
            need -= apart[:, best]
    return pool[0][picked], pool[1][picked], pool[2][picked]


def _all_asked(ask: Asker) -> Vectors:
    """Return every vector that was asked for."""
    keys = list(ask.memory)
    a, b = (np.array([np.frombuffer(key[i], ask.dtype) for key in keys]) for i in (0, 1))
    return a, b, np.array([np.frombuffer(key[2], np.float64)[0] * ask.has_c for key in keys])


def _missed(
    model: Accumulator,
    vectors: Vectors,
    answers: list[float],
    formats: tuple[FloatFormat, FloatFormat],
    out: Any,
) -> int:
    """Return how many answers a model does not give."""
    given = _sums(model, vectors, formats, out).tolist()
    return sum(not same_number(x, y) for x, y in zip(given, answers, strict=True))


def _rebuilt(found: Found) -> Iterator[Accumulator]:
    """Yield models with the parameters that were measured; whether they fit is seen by running them."""
    out = found.output
    if out is None:
        return
    for rounding in [found.sum_rounding or found.rounding] if found.rounding else ["toward_zero", "nearest_even"]:
        yield from _made(found, out, rounding)


def _made(found: Found, out: FloatFormat, rounding: Any) -> Iterator[Accumulator]:
    """Yield models with a rounding."""
    length, bits = found.length, found.fraction_bits
    flush = found.subnormals.get("results") or found.subnormals.get("c") or "keep"
    words = found.name.name if found.name else ""
    makers: list[Callable[[], Accumulator]] = [
        lambda: accumulators.Exact(out, rounding),
        lambda: accumulators.Sequential(out, rounding, found.products != "rounded", subnormals=flush),  # type: ignore[arg-type]
        lambda: accumulators.Sequential(out, rounding, fused=False, subnormals=flush),  # type: ignore[arg-type]
    ]
    if "pairwise" in words and length:
        makers.append(lambda: accumulators.Pairwise(out, length, rounding))
    if "each summed from left to right" in words and length:
        inner = accumulators.Sequential(out, rounding)
        makers.append(lambda: accumulators.Chunked(inner, length, inner))
    if length and bits is not None:
        floor = found.exponent_floor
        makers.append(
            lambda: accumulators.FusedTruncated(
                length,
                bits,
                out,
                rounding,
                kept_bits=found.kept_bits,
                exponent_floor=floor,
                c_format=None if found.c_emax == found.emax else "float16",  # type: ignore[arg-type]
            )
        )
        if found.fraction_bits_c is not None and math.isfinite(found.fraction_bits_c):
            final = int(found.fraction_bits_c)
            makers.append(lambda: accumulators.FusedTruncatedLateC(length, bits, final, found.even_odd))
    if length and found.alignment == "exact":
        makers.append(lambda: accumulators.FusedExact(length))
    for make in makers:
        try:
            yield make()
        except ValueError:  # parameters that no model has
            continue


def _report(ask: Asker, found: Found, formats: tuple[FloatFormat, FloatFormat], **rest: Any) -> ProbeReport:
    """Put together what was found."""
    tree = None if found.order is None else _order.text(found.order.tree, ask.k)
    named = None if found.name is None else found.name.name
    unknown = f"{found.mantissa_bits} fraction bits, exponents to {found.emax}"
    late = found.c_place == "late" and found.late_alignment is not None
    final = found.fraction_bits_c
    return ProbeReport(
        formats,
        ask.k,
        ask.calls,
        result_format=str(found.output) if found.output else unknown,
        kept_bits=found.kept_bits,
        sum_bits=found.sum_bits,
        rounding=found.rounding,
        sum_rounding=found.sum_rounding,
        products=found.products,
        block_length=found.length,
        order=named,
        tree=tree,
        alignment=found.alignment,
        fraction_bits=found.fraction_bits,
        c_place=found.c_place,
        final_bits=int(final) if late and final is not None and math.isfinite(final) else None,
        late_alignment=found.late_alignment,
        even_odd=found.even_odd,
        exponent_floor=found.exponent_floor,
        subnormals=found.subnormals,
        overflow=found.overflow,
        zeros=found.zeros,
        nans=found.nans,
        **rest,
    )
