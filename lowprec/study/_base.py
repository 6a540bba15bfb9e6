"""What a workload is: independent parts that are evaluated in an arithmetic, and a summary of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from lowprec.nn import Arithmetic


class Metric(NamedTuple):
    """A measure that a workload reports.

    Parameters
    ----------
    name : str
        Key of the record: ``"perplexity"``.
    label : str
        What axes and columns call it: ``"perplexity"``, ``"SQNR"``.
    unit : str
        ``"dB"``, ``"nats"``, ``""``.
    larger_is_better : bool
        Which way is good.
    format : str
        How tables print it, as in `format`: ``".2f"``, ``".1%"``.

    Raises
    ------
    Nothing.
    """

    name: str
    label: str
    unit: str
    larger_is_better: bool
    format: str


class Workload(ABC):
    """Something whose products can be computed in any arithmetic, and measures of what comes out.

    A subclass gives `name`, `metrics`, `parts`, `fingerprint` and `evaluate`; `summarise` may stay as it is. An object
    must be picklable to run in other processes.

    Raises
    ------
    Nothing; methods say theirs.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> from lowprec.study import Metric, Workload
    >>> class Dots(Workload):
    ...     name = "dots"
    ...     source = "numpy.random.default_rng(part)"
    ...     metrics = (Metric("error", "relative error", "", False, ".1e"),)
    ...     parts = ("seed 0", "seed 1")
    ...
    ...     def fingerprint(self) -> str:
    ...         return "dots of 64, version 1"
    ...
    ...     def evaluate(self, arithmetic, part):
    ...         x = np.random.default_rng(part).standard_normal((1, 64)).astype(np.float32)
    ...         exact = float(np.sum(x.astype(np.float64) ** 2))
    ...         return {"error": abs(float(arithmetic.linear(x, x)[0, 0]) - exact) / exact}
    >>> Dots().evaluate(lp.nn.Arithmetic("bf16"), 0)["error"] < 2**-7
    True
    """

    name: str
    """What tables call it."""
    source: str = "custom"
    """Where its weights and data come from."""
    metrics: tuple[Metric, ...] = ()
    """What it reports; the first is what plots show unless told otherwise."""
    parts: tuple[str, ...] = ("all",)
    """Names of its independent parts: windows of text, seeds."""
    default_scales: str = "auto"
    """The `scales` of `Arithmetic` that a study takes if it is not told."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a text that changes with anything that decides the numbers: weights, data, sizes, seed.

        Returns
        -------
        str
            A hash, or any text.
        """

    @abstractmethod
    def evaluate(self, arithmetic: Arithmetic, part: int) -> dict[str, Any]:
        """Return what one part gives in an arithmetic.

        Parameters
        ----------
        arithmetic : Arithmetic
            How to compute products.
        part : int
            Index into `parts`.

        Returns
        -------
        dict
            Numbers, strings, or lists of them: what JSON holds. The same for the same arguments, in any process.
        """

    def summarise(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the record's part of what all parts gave.

        Parameters
        ----------
        parts : sequence of dict
            What `evaluate` returned, in the order of `parts`.

        Returns
        -------
        dict
            For each metric its mean over the parts (elementwise for lists), and, for several parts, the least and the
            largest as ``<name>_low`` and ``<name>_high``; None where a part has None. Other keys
            that all parts share are kept where all are equal.
        """
        record: dict[str, Any] = {}
        names = {metric.name for metric in self.metrics}
        for key in [key for key in parts[0] if all(key in part for part in parts)]:
            values = [part[key] for part in parts]
            if key in names and any(value is None for value in values):
                record[key] = None
                continue
            if key not in names:
                if all(value == values[0] for value in values):
                    record[key] = values[0]
                continue
            if isinstance(values[0], list):
                record[key] = [mean(column) for column in zip(*values, strict=True)]
                continue
            record[key] = mean(values)
            if len(values) > 1:
                record[f"{key}_low"], record[f"{key}_high"] = least(values), most(values)
        return record

    def default_settings(self) -> tuple[Arithmetic, ...]:
        """Return what a study runs if no formats are given.

        Returns
        -------
        tuple of Arithmetic
            In the order of the table.
        """
        return tuple(Arithmetic(name, scales=self.default_scales) for name in ("fp32", "fp16", "bf16", "e4m3fn"))

    def refuses(self, arithmetic: Arithmetic) -> str | None:
        """Say why a setting cannot run.

        Parameters
        ----------
        arithmetic : Arithmetic
            The setting.

        Returns
        -------
        str or None
            The reason, or None if it can.
        """
        del arithmetic
        return None


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded once; NaN or infinity where one of the values or the sum is.

    Parameters
    ----------
    values : sequence of float
        At least one.

    Returns
    -------
    float
        ``math.fsum(values) / len(values)``.

    Raises
    ------
    Nothing.
    """
    if not all(map(math.isfinite, values)):
        return float(sum(values) / len(values))
    return math.fsum(values) / len(values)


def least(values: Sequence[float]) -> float:
    """Return the least value, NaN where one is.

    Parameters
    ----------
    values : sequence of float
        At least one.

    Returns
    -------
    float
        One of them.

    Raises
    ------
    Nothing.
    """
    return math.nan if any(map(math.isnan, values)) else min(values)


def most(values: Sequence[float]) -> float:
    """Return the largest value, NaN where one is.

    Parameters
    ----------
    values : sequence of float
        At least one.

    Returns
    -------
    float
        One of them.

    Raises
    ------
    Nothing.
    """
    return math.nan if any(map(math.isnan, values)) else max(values)
