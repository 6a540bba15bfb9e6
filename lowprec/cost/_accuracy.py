"""How near a product is to its reference, in one number."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array


class Metric(NamedTuple):
    """A measure of accuracy.

    Parameters
    ----------
    name : str
        As the argument `metric` has it.
    label : str
        In words, with its unit.
    larger_is_better : bool
        Which way.
    measure : callable
        ``measure(y, reference)``, both float64 of one shape and finite, to a float.
    meaning : str
        How it is computed, in words.
    logarithmic : bool
        Whether its axis is.
    """

    name: str
    label: str
    larger_is_better: bool
    measure: Callable[[Array, Array], float]
    meaning: str = ""
    logarithmic: bool = False

    def of(self, y: Array, reference: Array) -> float:
        """Return the accuracy of a product; NaN if it holds a number that is not finite where the reference does."""
        if not np.isfinite(y).all():
            return float("nan")
        with np.errstate(over="ignore"):
            found = self.measure(y, reference)
        try:
            return float(found)
        except (TypeError, ValueError):
            msg = f"`metric` must return a number, got {found!r} from {self.name}."
            raise TypeError(msg) from None


def snr_db(y: Array, reference: Array) -> float:
    """Return ``10 log10(sum ref^2 / sum (y - ref)^2)``; infinite if there is no error."""
    signal, noise = float(np.sum(np.square(reference))), float(np.sum(np.square(y - reference)))
    if noise == 0:
        return float("inf")
    return float(10 * (np.log10(signal) - np.log10(noise))) if signal else float("-inf")


def max_ulp(y: Array, reference: Array) -> float:
    """Return the largest error, in gaps between the float32 numbers around the reference."""
    exponents = np.frexp(reference)[1] - 1
    gaps = np.ldexp(1.0, np.maximum(np.where(reference == 0, -200, exponents), -126) - 23)
    return float(np.max(np.abs(y - reference) / gaps))


def max_rel(y: Array, reference: Array) -> float:
    """Return the largest ``|y - ref| / |ref|``; infinite where the reference is 0 and the product is not."""
    error = np.abs(y - reference)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.max(np.where(error == 0, 0.0, error / np.abs(reference))))


def mse(y: Array, reference: Array) -> float:
    """Return the mean of ``(y - ref)^2``."""
    return float(np.mean(np.square(y - reference)))


def top1(y: Array, reference: Array) -> float:
    """Return the part of the rows whose largest element stands in the same place."""
    return float(np.mean(np.argmax(y, axis=1) == np.argmax(reference, axis=1)))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("snr_db", "SNR (dB)", True, snr_db, "10 log10(sum ref^2 / sum (y - ref)^2)"),
            Metric(
                "max_ulp",
                "largest error (ulp of float32)",
                False,
                max_ulp,
                "largest |y - ref| in gaps between the float32 numbers around ref",
                True,
            ),
            Metric("max_rel", "largest relative error", False, max_rel, "largest |y - ref| / |ref|", True),
            Metric("mse", "mean squared error", False, mse, "mean of (y - ref)^2", True),
            Metric(
                "top1", "top-1 agreement", True, top1, "part of the rows whose largest element stands in the same place"
            ),
        )
    }
)
"""The measures by name."""


def metric_of(value: Any, larger_is_better: Any) -> Metric:
    """Return the measure that the arguments of `pareto` mean."""
    if larger_is_better is not None and not isinstance(larger_is_better, (bool, np.bool_)):
        msg = f"`larger_is_better` must be True or False, got {larger_is_better!r}."
        raise TypeError(msg)
    if isinstance(value, str):
        found = METRICS.get(value.strip().lower())
        if found is None:
            close = difflib.get_close_matches(value.lower(), METRICS, n=2, cutoff=0.4)
            hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
            msg = f"`metric` must be one of {', '.join(METRICS)} or a function (y, reference), got {value!r}{hint}"
            raise ValueError(msg)
        if larger_is_better not in (None, found.larger_is_better):
            msg = f"`larger_is_better` must be {found.larger_is_better} for {found.name}, got {larger_is_better}."
            raise ValueError(msg)
        return found
    if not callable(value):
        msg = f"`metric` must be a name or a function, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if larger_is_better is None:
        msg = "`larger_is_better` must be given with a function as `metric`, got None; say True or False."
        raise ValueError(msg)
    name = getattr(value, "__name__", type(value).__name__)
    return Metric(name, name, bool(larger_is_better), value)
