"""The workload `matmul`: products of random matrices, from short sums to long ones, against exact ones."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowprec.accumulators import Exact
from lowprec.cost._accuracy import max_ulp
from lowprec.cost._emulation import divisor
from lowprec.nn import Arithmetic
from lowprec.nn._operands import is_scaled
from lowprec.study._base import Metric, Workload
from lowprec.study._matmul_data import DISTRIBUTIONS, operands

LENGTHS = (16, 64, 256, 1024, 4096, 16384, 65536)
SETTINGS = (
    *("fp32", "bf16", "bf16/bf16", "fp16", "fp16/fp16", "e4m3fn", "int8"),
    *("nvidia-volta:fp16", "nvidia-hopper:bf16", "nvidia-hopper:e4m3fn"),
)
_MOST = 2**24
_VERSION = 1


@dataclass(frozen=True)
class Matmul(Workload):
    """Products of random matrices, one record for each setting, distribution and length of sum.

    Parameters
    ----------
    distributions : tuple of str
        What is drawn, see `matmul`.
    lengths : tuple of int
        Products per sum: K.
    rows : int
        Of x and w, so that there are ``rows**2`` sums.
    seeds : tuple of int
        Of the numbers; each distribution, length and seed is a part.

    Raises
    ------
    Nothing; `matmul` checks.
    """

    distributions: tuple[str, ...]
    lengths: tuple[int, ...]
    rows: int
    seeds: tuple[int, ...]
    name: str = field(default="matmul", init=False)
    source: str = field(default="random numbers; exact sums by math.fsum", init=False)
    metrics: tuple[Metric, ...] = field(
        default=(
            Metric("error", "relative error", "", False, ".1e"),
            Metric("sum_error", "error of the sum over |x| |w|", "", False, ".1e"),
            Metric("format_error", "error of the format alone", "", False, ".1e"),
            Metric("bias", "bias of the sum", "", False, "+.1e"),
            Metric("sqnr_db", "SQNR", "dB", True, ".1f"),
            Metric("max_ulp", "largest error", "ulp of fp32", False, ".3g"),
            Metric("not_finite", "infinite or NaN", "", False, ".1%"),
        ),
        init=False,
    )

    @property
    def parts(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the parts: distribution, length, seed."""
        return tuple(f"{name}, K={k}, seed {seed}" for name, k, seed in self._places())

    def _places(self) -> list[tuple[str, int, int]]:
        """Return distribution, length and seed of each part."""
        return [(name, k, seed) for name in self.distributions for k in self.lengths for seed in self.seeds]

    def fingerprint(self) -> str:
        """Return what decides the numbers of a part.

        Returns
        -------
        str
            Not the lists themselves: `evaluate` is asked by place, so the parts are in it.

        Raises
        ------
        Nothing.
        """
        return f"matmul {_VERSION}, {self.rows} rows, {'; '.join(self.parts)}, NumPy {np.__version__}"

    def notes(self, table: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        """Return how to read the measures.

        Parameters
        ----------
        table : sequence of dict
            The records.

        Returns
        -------
        tuple of str
            Sentences.

        Raises
        ------
        Nothing.
        """
        said = [
            "Norms are over all results of all seeds; lowest and highest: of one seed.",
            "relative error: ||y - xw|| / ||xw||, all in all; SQNR is the same in dB. error of the format alone: the "
            "same with an exact sum, rounded to fp32.",
            "error of the sum: against that exact sum of the same rounded operands, || || over || |x| |w| ||; bias: "
            "its mean with the sign of the result, over the mean size of the result: negative is towards zero.",
        ]
        lost = list(dict.fromkeys(record["label"] for record in table if record["sum_error"] is None))
        if lost:
            said.append(
                f"Not told apart for {', '.join(lost)}: with an exact sum the operands would have other scales or "
                "other random bits, or there is no such sum."
            )
        return tuple(said)

    def default_settings(self) -> tuple[Arithmetic, ...]:
        """Return formats of 32 to 8 bits, sums in fp32 and shorter, and three generations of tensor cores.

        Returns
        -------
        tuple of Arithmetic
            In the order of the table.

        Raises
        ------
        Nothing.
        """
        return tuple(Arithmetic(word) for word in SETTINGS)

    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return sums over the results of one part, of which `summarise` makes measures.

        Parameters
        ----------
        arithmetic : Arithmetic
            How to compute the product. Weight quantisers that need activations are given those of the part.
        part : int
            Index into `parts`.

        Returns
        -------
        dict
            Sums of squares and magnitudes; None where there is no exact sum to compare with.

        Raises
        ------
        TypeError, ValueError
            As `lowprec.nn.Arithmetic.linear`.
        """
        distribution, k, seed = self._places()[part]
        data = operands(distribution, k, self.rows, seed)
        y = _product(arithmetic, data.x, data.w)
        own = _exact_twin(arithmetic, k)
        summed = None if own is None else _product(own, data.x, data.w)
        finite = bool(np.isfinite(y).all())
        return {
            "noise": _squares(y - data.exact),
            "signal": _squares(data.exact),
            "sizes": _squares(data.sizes),
            "format_noise": None if summed is None else _squares(summed - data.exact),
            "sum_noise": None if summed is None else _squares(y - summed),
            "drift": None if summed is None else _total((y - summed) * np.sign(summed)),
            "magnitude": None if summed is None else _total(np.abs(summed)),
            "max_ulp": max_ulp(y, data.exact) if finite else math.inf,
            "not_finite": int(np.size(y) - np.isfinite(y).sum()),
            "results": int(np.size(y)),
        }

    def summarise(self, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return the measures of every distribution and length, over all seeds, with those of single seeds.

        Parameters
        ----------
        parts : sequence of dict
            What `evaluate` returned.

        Returns
        -------
        list of dict
            One for each distribution and length.

        Raises
        ------
        Nothing.
        """
        records = []
        count = len(self.seeds)
        for place in range(0, len(parts), count):
            distribution, k, _ = self._places()[place]
            seeds = parts[place : place + count]
            record: dict[str, Any] = {"distribution": distribution, "K": k}
            whole, single = _measures(seeds), [_measures([each]) for each in seeds]
            for name, value in whole.items():
                record[name] = value
                if count > 1 and all(each[name] is not None for each in single):
                    record[f"{name}_low"] = min(each[name] for each in single)
                    record[f"{name}_high"] = max(each[name] for each in single)
            records.append(record)
        return records


def matmul(
    distribution: str | Sequence[str] = tuple(DISTRIBUTIONS),
    K: int | Sequence[int] = LENGTHS,
    size: int = 8,
    seeds: int = 3,
    seed: int = 0,
) -> Matmul:
    """Return the workload `matmul`.

    Parameters
    ----------
    distribution : str or sequence of str
        ``"normal"``; ``"student_t"``, activations with 3 degrees of freedom; ``"lognormal"``, positive numbers;
        ``"activations"``, normals of which every 128th channel is 20 to 60 times larger, as language models have them
        in a few fixed channels (Dettmers et al. 2022, LLM.int8(), section 4; Xiao et al. 2023, SmoothQuant, section 3).
    K : int or sequence of int
        Products per sum.
    size : int
        Rows of x and of w.
    seeds : int
        How many.
    seed : int
        The first.

    Returns
    -------
    Matmul
        The workload.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a distribution is unknown, or a number is out of range.
    """
    names = _list("distribution", distribution, str)
    for name in names:
        if name not in DISTRIBUTIONS:
            close = difflib.get_close_matches(name, DISTRIBUTIONS, n=2, cutoff=0.4)
            hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
            msg = f"`distribution` must be of {', '.join(DISTRIBUTIONS)}, got {name!r}{hint}."
            raise ValueError(msg)
    lengths = _list("K", K, (int, np.integer))
    for given, value in [("K", k) for k in lengths] + [("size", size), ("seeds", seeds)]:
        _check(given, value, 1, _MOST)
    _check("seed", seed, 0, 2**32)
    return Matmul(names, tuple(map(int, lengths)), int(size), tuple(range(int(seed), int(seed) + int(seeds))))


def _list(name: str, value: Any, kind: Any) -> tuple[Any, ...]:
    """Return one value or several as a tuple without repetitions."""
    several = not isinstance(value, (str, bytes)) and isinstance(value, Iterable)
    found = tuple(dict.fromkeys(value)) if several else (value,)
    if not found:
        msg = f"`{name}` must have a value, got none."
        raise ValueError(msg)
    for each in found:
        if isinstance(each, bool) or not isinstance(each, kind):
            words = "a name or names" if kind is str else "an integer or integers"
            msg = f"`{name}` must be {words}, got {each!r} of type {type(each).__name__}."
            raise TypeError(msg)
    return found


def _check(name: str, value: Any, low: int, high: int) -> None:
    """Check an integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)


def _product(arithmetic: Arithmetic, x: Any, w: Any) -> NDArray[np.float64]:
    """Return a product in an arithmetic."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(arithmetic.linear(x, arithmetic.prepare(w, x, "w")), np.float64)


def _exact_twin(arithmetic: Arithmetic, k: int) -> Arithmetic | None:
    """Return the same arithmetic with an exact sum, None if operands would be scaled otherwise or there is none."""
    if arithmetic.rounding == "stochastic":
        return None  # other draws
    try:
        twin = arithmetic.with_(accumulator="exact")
    except ValueError:
        return None
    model = arithmetic.candidate.model()
    scaled = [fmt for fmt in arithmetic.formats if is_scaled(fmt, arithmetic.scales)]
    if any(divisor(fmt, model, k) != divisor(fmt, Exact(), k) for fmt in scaled):
        return None
    return twin


def _squares(values: NDArray[np.float64]) -> float:
    """Return the exact sum of squares, rounded; infinite or NaN where a value is."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _total(np.square(values))


def _total(values: NDArray[np.float64]) -> float:
    """Return the exact sum, rounded; what floats make of it where a value is not finite."""
    flat = values.ravel().tolist()
    return math.fsum(flat) if all(map(math.isfinite, flat)) else float(sum(flat))


def _measures(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the measures of several parts together."""

    def total(name: str) -> float | None:
        values = [part[name] for part in parts]
        return None if None in values else float(sum(values))

    def ratio(one: str, other: str) -> float | None:
        above, below = total(one), total(other)
        if above is None or not below:
            return None
        return math.inf if not math.isfinite(above) else math.sqrt(above / below)

    error = ratio("noise", "signal")
    drift, magnitude = total("drift"), total("magnitude")
    results = total("results")
    return {
        "error": error,
        "sum_error": ratio("sum_noise", "sizes"),
        "format_error": ratio("format_noise", "signal"),
        "bias": drift / magnitude if drift is not None and magnitude else None,
        "sqnr_db": None if error is None else math.inf if error == 0 else -20 * math.log10(error),
        "max_ulp": max(part["max_ulp"] for part in parts),
        "not_finite": total("not_finite") / results if results else None,  # type: ignore[operator]
    }
