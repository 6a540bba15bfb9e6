"""Run a workload in every format with every accumulator: one record each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowprec.formats import FloatFormat, Format, formats
from lowprec.formats import format as find_format
from lowprec.study import metrics
from lowprec.study._extras import require
from lowprec.study.result import Record, StudyResult
from lowprec.study._registry import workload as find_workload
from lowprec.study.workloads import MLP as Workload


def study(
    workload: str | Workload = "digits",
    dtypes: Iterable[str | Format] | str | Format | None = None,
    accumulators: Iterable[Any] | str | None = None,
    *,
    scaled: bool = True,
    progress: bool = True,
) -> StudyResult:
    """Run a workload in many formats and say what each costs in accuracy.

    Weights and activations are rounded to the format (to nearest even) before every product, and the products are
    summed by the accumulator. The logits are compared with those of the same weights in float64.

    Parameters
    ----------
    workload : str or Workload
        ``"digits"``, a multilayer perceptron on the handwritten digits that ship with scikit-learn, or your own
        `lowprec.study.Workload`.
    dtypes : iterable of str or FloatFormat, optional
        The formats; every float format of `lowprec.formats` that can hold weights if not given, which leaves out
        `float8_e8m0fnu` alone (no sign, no zero). Integer formats are refused: they need a quantiser's scale, which
        this version of lowprec does not have.
    accumulators : iterable, optional
        Accumulators, as in `lowprec.matmul`, each tried with every format. If not given, what `lowprec.matmul` takes
        if it is given none: ``"fp32"``, or ``"fp64"`` for formats that float32 cannot hold.
    scaled : bool
        Whether formats narrower than 16 bits get a power-of-two scale per tensor, so that values neither overflow nor
        vanish: the largest one that keeps the tensor's largest magnitude inside the format (at most 2**16). It is
        applied before rounding and undone after the product, both exactly, and every record says what it was.
    progress : bool
        Whether a progress bar runs on standard error.

    Returns
    -------
    StudyResult
        One record per format and accumulator, formats in the order given. The same arguments give the same records,
        whatever the number of threads.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a workload, format or accumulator is unknown, a format cannot hold weights, or nothing is left to run.
    ImportError
        If scikit-learn (for the digits) or tqdm (for the progress bar) is missing;
        ``pip install "lowprec[study]"`` installs both.

    Notes
    -----
    The pixels of the digits have 17 levels, so that the first layer's input is exact in any format with 4 significand
    bits; its weights are not.

    Examples
    --------
    >>> import lowprec as lp
    >>> result = lp.study("digits", dtypes=["bf16", "e4m3fn"], progress=False)
    >>> [(row["format"], row["scaled"]) for row in result.table]
    [('bfloat16', False), ('float8_e4m3fn', True)]
    """
    chosen = find_workload(workload)
    pairs = _pairs(dtypes, accumulators)
    reference = chosen.reference()
    truth = _Reference(reference, metrics.cross_entropy(reference, chosen.labels))
    steps: Iterable[tuple[FloatFormat, Any]] = pairs
    bar = None
    if progress:
        steps = bar = require("tqdm", "A progress bar").tqdm(pairs, desc=chosen.name, unit="run")
    table: list[Record] = []
    for fmt, accumulator in steps:
        if bar is not None:
            bar.set_postfix_str(f"{fmt.name}, {accumulator}", refresh=False)
        table.append(_run(chosen, truth, fmt, accumulator, scaled=scaled))
    return StudyResult(
        table,
        workload=chosen.name,
        source=chosen.source,
        samples=len(chosen.labels),
        reference_cross_entropy=truth.cross_entropy,
        reference_accuracy=metrics.accuracy(reference, chosen.labels),
    )


class _Reference:
    """Reference logits and their cross-entropy, found once."""

    def __init__(self, logits: NDArray[np.float64], cross_entropy: float) -> None:
        self.logits = logits
        self.cross_entropy = cross_entropy


def _pairs(dtypes: Any, accumulators: Any) -> list[tuple[FloatFormat, Any]]:
    """Return the formats and accumulators to run, each pair once, in order."""
    if dtypes is None:
        chosen = [fmt for fmt in formats() if isinstance(fmt, FloatFormat) and fmt.is_signed and fmt.has_zero]
    else:
        if isinstance(dtypes, (str, Format)) or not isinstance(dtypes, Iterable):
            dtypes = [dtypes]
        chosen = [find_format(name) for name in dtypes]
    words = [accumulators] if isinstance(accumulators, str) or not isinstance(accumulators, Iterable) else accumulators
    words = list(words)
    single = find_format("float32")
    own = {fmt: "fp32" if _fits(fmt, single) else "fp64" for fmt in chosen}
    pairs = list(dict.fromkeys((fmt, own[fmt] if word is None else word) for fmt in chosen for word in words))
    if not pairs:
        name = "accumulators" if chosen else "dtypes"
        msg = f"`{name}` must not be empty."
        raise ValueError(msg)
    return pairs


def _fits(fmt: FloatFormat, wide: Format) -> bool:
    """Return whether every value of one format is a value of the other."""
    return fmt.precision <= wide.precision and fmt.max <= wide.max and fmt.smallest_subnormal >= wide.smallest_subnormal


def _run(workload: Workload, truth: _Reference, fmt: FloatFormat, accumulator: Any, *, scaled: bool) -> Record:
    """Return the record of one format and accumulator."""
    result = workload.forward(fmt, accumulator, scaled=scaled)
    logits = result.logits
    cross_entropy = metrics.cross_entropy(logits, workload.labels)
    return {
        "workload": workload.name,
        "format": fmt.name,
        "label": fmt.aliases[0] if fmt.aliases else fmt.name,
        "bits": fmt.bits,
        "exponent_bits": fmt.exponent_bits,
        "mantissa_bits": fmt.mantissa_bits,
        "accumulator": str(accumulator),
        "scaled": result.scaled,
        "weight_exponents": " ".join(map(str, result.weight_exponents)),
        "activation_exponents": " ".join(map(str, result.activation_exponents)),
        "sqnr_db": metrics.sqnr_db(logits, truth.logits),
        "cross_entropy_nats": cross_entropy,
        "cross_entropy_increase_nats": cross_entropy - truth.cross_entropy,
        "accuracy": metrics.accuracy(logits, workload.labels),
        "top1_agreement": metrics.top1_agreement(logits, truth.logits),
        "samples": len(workload.labels),
    }
