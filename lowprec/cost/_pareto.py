"""pareto: accuracy from the emulation on given tensors, cost from the model, and what no other choice beats."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec._checks import Array
from lowprec._observer import finite
from lowprec.cost import _emulation, _prices
from lowprec.cost._accuracy import metric_of
from lowprec.cost._candidates import Candidate, candidates_of, check_lanes
from lowprec.cost._figure import Figure
from lowprec.cost._pareto_result import ParetoRecord, ParetoResult, front

_SCALES = ("tensor", "row")


def pareto(
    x: ArrayLike,
    w: ArrayLike,
    formats: Any = None,
    metric: str | Callable[[Array, Array], float] = "snr_db",
    cost: str | Callable[[Candidate], float] = "ge",
    *,
    accumulators: Any = None,
    unit: str | None = None,
    lanes: int = 32,
    scales: str = "tensor",
    reference: ArrayLike | None = None,
    larger_is_better: bool | None = None,
    table: str = "jouppi2021",
    interpolate: bool = False,
    progress: bool = True,
) -> ParetoResult:
    """Say which formats and accumulators are worth their cost, on tensors of your own.

    For every candidate the product of `lowprec.linear`, ``x @ w.T``, is computed bit by bit as such hardware would,
    and compared with the float64 product.

    Parameters
    ----------
    x : array_like (..., K)
        Activations: tokens and inputs, finite. Leading axes are all tokens.
    w : array_like (N, K)
        Weights: outputs and inputs, finite.
    formats : iterable of candidates, optional
        Words ``[preset:]format[@format of w][/accumulator] [2:4] [dotN]``, see Notes, or whatever
        `Candidate.parse` takes. If not given, about twenty usual ones, of them those that `cost` has a model for.
    metric : {"snr_db", "max_ulp", "max_rel", "mse", "top1"} or callable
        The measure of accuracy, or a function ``(y, reference) -> float`` of float64 arrays of shape (M, N).
    cost : {"ge", "bits", "energy"} or callable
        What is paid: gate equivalents for each product, bits for each weight, or pJ for each multiplication and
        addition by `table`; or a function of a `Candidate`.
    accumulators : iterable, optional
        Each is tried with every format, in place of the one that it names.
    unit : {None, "dot"}
        None: formats are priced as a MAC, blocks and presets as the dot unit that they need. "dot": all as a lane of a
        dot unit, like for like; the sums are then those of such a unit.
    lanes : int
        Products that a dot unit sums at once, where a candidate does not say.
    scales : {"tensor", "row"}
        Integers and floats below 16 bits get one scale for all of x and one for all of w, or one for each row.
    reference : array_like (..., N), optional
        What products are compared with, in place of the float64 product.
    larger_is_better : bool, optional
        Which way a function as `metric` goes.
    table : str
        The table of energies, as in `lowprec.cost.energy`.
    interpolate : bool
        Whether energies that the table lacks may be interpolated.
    progress : bool
        Whether a progress bar runs on standard error, where tqdm is installed.

    Returns
    -------
    ParetoResult
        Print it, or take its `.table`, `.front`, `.to_csv`, `.plot`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes do not fit, a number is not finite, a name is unknown (close ones are listed), nothing is left to
        compare, or a candidate has no cost (it is named).

    Notes
    -----
    In words of candidates, ``e4m3fn/exact`` is a format and an accumulator of `lowprec.matmul`; ``int8@int4`` are two
    formats, of x and of w; ``int8 2:4`` prunes the weights by magnitude; ``e4m3fn dot16`` is a fused dot unit of 16
    lanes, which aligns its products to the largest and truncates them to 24 fraction bits; ``nvidia-hopper:e4m3fn`` is
    a hardware preset, the same as ``e4m3fn/nvidia-hopper``. ``bf16@int4`` is bf16 with weights that are only stored in
    int4: decoded, rounded to bf16, then multiplied.

    A scale is the largest magnitude over the largest value of the format, as in `lowprec.quantize`; that of a float is
    larger where sums of K products could otherwise leave the accumulator's format. Block formats have their own
    scales, along K. Exact sums of codes are rounded to float32, then scaled.

    A candidate is on the front if no other is at least as good in both and better in one; equal ones stay. A product
    that holds infinities or NaN has the accuracy NaN, and is on no front.

    Gate equivalents are those of `lowprec.cost.mac` with its register and of `lowprec.cost.dot` for each lane; a
    sparse unit's are for each product of the dense matrices.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x, w = np.random.default_rng(0).standard_normal((2, 16, 256)).astype(np.float32)
    >>> r = lp.cost.pareto(x, w, ["bf16", "e4m3fn/exact", "int8", "mxfp4"], cost="bits", progress=False)
    >>> [(record["candidate"], record["bits"], round(record["accuracy"], 1)) for record in r.front]
    [('mxfp4 dot32', 4.25, 16.6), ('int8/int32', 8.0, 39.5), ('bf16/fp32', 16.0, 53.1)]
    """
    left, right = _matrices(x, w)
    measure = metric_of(metric, larger_is_better)
    paid = _prices.cost_of(cost)
    _one_of(scales, "scales", _SCALES)
    if unit is not None:
        _one_of(unit, "unit", ("dot",))
    lanes = check_lanes(lanes)
    k = left.shape[1]
    chosen = list(
        {
            str(each): each
            for each in (_prices.in_units(found, unit, lanes) for found in candidates_of(formats, accumulators))
        }.values()
    )
    pricing = _prices.Pricing(paid, k, (right.shape[0], k), scales, table, interpolate)
    chosen, prices, left_out = _priced(chosen, pricing, strict=formats is not None)
    target = _reference(reference, x, left, right)
    accuracies = []
    for candidate in _bar(chosen, progress):
        accuracies.append(measure.of(_product(candidate, left, right, scales), target))
    best = front(
        [(float(price), value) for price, value in zip(prices, accuracies, strict=True)], measure.larger_is_better
    )
    records = [
        _record(candidate, pricing, price, value, marked)
        for candidate, price, value, marked in zip(chosen, prices, accuracies, best, strict=True)
    ]
    name = paid if isinstance(paid, str) else pricing.label
    return ParetoResult(
        records,
        measure.name,
        measure.label,
        measure.larger_is_better,
        name,
        pricing.label,
        (left.shape[0], k, right.shape[0]),
        scales,
        measure.logarithmic,
        left_out,
    )


def _priced(
    chosen: list[Candidate], pricing: _prices.Pricing, *, strict: bool
) -> tuple[list[Candidate], list[Figure], tuple[str, ...]]:
    """Return the candidates that have a price, their prices, and the others' names, which are refused if `strict`.

    Before any product, which takes longer.
    """
    prices: dict[Candidate, Figure] = {}
    left_out = []
    for candidate in chosen:
        try:
            prices[candidate] = pricing.of(candidate)
        except ValueError:
            if strict:
                raise
            left_out.append(str(candidate))
    if not prices:
        pricing.of(chosen[0])  # raises
    return list(prices), list(prices.values()), tuple(left_out)


def _record(candidate: Candidate, pricing: _prices.Pricing, price: Any, value: float, marked: bool) -> ParetoRecord:
    """Return the record of a candidate."""
    names = [str(candidate.x), str(candidate.w)]
    said = candidate.accumulator
    return {
        "candidate": str(candidate),
        "x_format": names[0],
        "w_format": names[1],
        "accumulator": said if isinstance(said, str) else repr(said),
        "sparsity": candidate.sparsity or "",
        "family": candidate.family,
        "unit": _unit(candidate),
        "bits": float(pricing.bits(candidate)),
        "cost": float(price),
        "cost_low": float(price.low),
        "cost_high": float(price.high),
        "cost_kind": price.kind,
        "relative": pricing.relative(price),
        "accuracy": value,
        "front": marked,
    }


def _unit(candidate: Candidate) -> str:
    """Return what multiplies and adds: MAC, or a dot unit with its lanes."""
    lanes = candidate.lanes
    if lanes is None and candidate.preset is not None:
        lanes = getattr(candidate.instruction.model, "length", 1)
        lanes = None if lanes == 1 else lanes
    return "MAC" if lanes is None else f"dot{lanes}"


def _product(candidate: Candidate, left: Array, right: Array, scales: str) -> Array:
    """Return a candidate's product, or say which candidate cannot be computed."""
    try:
        return _emulation.product(candidate, left, right, scales)
    except ValueError as error:
        msg = f"`formats` must be candidates that can be computed, but {str(candidate)!r} cannot: {error}"
        raise ValueError(msg) from None


def _matrices(x: Any, w: Any) -> tuple[Array, Array]:
    """Check the tensors."""
    left, right = finite(x, "x"), finite(w, "w")
    if right.ndim != 2 or not right.size:
        msg = f"`w` must have shape (outputs, inputs) with an element, got {right.shape}."
        raise ValueError(msg)
    if left.ndim < 1 or not left.size or left.shape[-1] != right.shape[1]:
        msg = (
            f"`x` must have shape (tokens, inputs) with the {right.shape[1]} inputs of `w` and a token, got "
            f"{left.shape} and `w` of {right.shape}; `w` is (outputs, inputs), so that the product is x @ w.T."
        )
        raise ValueError(msg)
    return np.ascontiguousarray(left.reshape(-1, left.shape[-1])), np.ascontiguousarray(right)


def _reference(reference: Any, x: Any, left: Array, right: Array) -> Array:
    """Return what products are compared with."""
    if reference is None:
        product = _emulation.reference_product(left, right)
        if not np.isfinite(product).all():
            msg = "`x` and `w` must have a product that float64 holds, got one that overflows; scale them down."
            raise ValueError(msg)
        return product
    target = finite(reference, "reference").astype(np.float64)
    shape = (*np.shape(x)[:-1], right.shape[0])
    if target.shape != shape:
        msg = f"`reference` must have the product's shape {shape}, got {target.shape}."
        raise ValueError(msg)
    return target.reshape(-1, right.shape[0])


def _one_of(value: Any, name: str, words: tuple[str, ...]) -> None:
    """Check a word."""
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value not in words:
        close = difflib.get_close_matches(value.lower(), words, n=1)
        hint = f"; the closest: {close[0]!r}." if close else "."
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r}{hint}"
        raise ValueError(msg)


def _bar(chosen: list[Candidate], progress: Any) -> Iterable[Candidate]:
    """Return the candidates with a progress bar around them, if there is one to have."""
    if not isinstance(progress, (bool, np.bool_)):
        msg = f"`progress` must be True or False, got {progress!r}."
        raise TypeError(msg)
    if not progress:
        return chosen
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        return chosen
    return _told(tqdm(chosen, desc="pareto", unit="candidate"))


def _told(bar: Any) -> Iterable[Candidate]:
    """Name the candidate that is being computed."""
    for candidate in bar:
        bar.set_postfix_str(str(candidate))
        yield candidate
