"""Run a workload in every setting of a grid: records, kept on disk, the same whoever computes them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

from lowprec.study import _engine, _registry
from lowprec.study._base import Workload
from lowprec.study._cache import open_cache, plain
from lowprec.study._settings import distinct, facts, grid
from lowprec.study.result import StudyResult


def study(
    workload: str | Workload = "digits",
    dtypes: Iterable[Any] | Any = None,
    accumulators: Iterable[Any] | Any = None,
    *,
    weights: Iterable[Any] | Any = None,
    sparsity: Iterable[str | None] | str | None = None,
    scales: Iterable[str] | str | None = None,
    scaled: bool | None = None,
    seed: int = 0,
    cache: bool | str | os.PathLike[str] = True,
    executor: Executor | None = None,
    progress: bool = True,
    **options: Any,
) -> StudyResult:
    """Run a workload in many arithmetics and say what each costs in accuracy.

    The grid is every combination of `dtypes`, `accumulators`, `weights`, `sparsity` and `scales`; each combination is a
    `lowprec.nn.Arithmetic`. A combination that cannot run, such as a hardware preset with a format that it lacks, is
    left out and listed in the result with its reason.

    Parameters
    ----------
    workload : str or Workload
        ``"digits"``, a multilayer perceptron on the handwritten digits that ship with scikit-learn; another name that
        ``lowprec study --list`` prints; or your own `lowprec.study.Workload`.
    dtypes : iterable, optional
        Formats, pairs of them (for activations and weights), words such as ``"e4m3fn/exact"``,
        ``"nvidia-hopper:e4m3fn"`` or ``"int8 2:4"``, or whole `lowprec.nn.Arithmetic`. If not given, what the workload
        runs by default: for the digits every float format of `lowprec.formats` that can hold weights.
    accumulators : iterable, optional
        Accumulators, as in `lowprec.matmul`, each tried with every format; None stands for a format's own. A word in
        `dtypes` that names its own keeps it.
    weights : iterable, optional
        In which formats weights are stored, as in `lowprec.nn.Arithmetic`: ``"int4/32"``, ``"gptq:int4/128"``; None
        for as they are.
    sparsity : iterable of str, optional
        Patterns, as in `lowprec.nn.Arithmetic`: ``"2:4"``, ``"2:4 wanda"``; None for dense.
    scales : iterable of str, optional
        Rules for scales, as in `lowprec.nn.Arithmetic`; by default the workload's own: for the digits powers of two,
        for most others ``"auto"``.
    scaled : bool, optional
        True for ``scales="power_of_two"``, False for ``scales="none"``.
    seed : int
        Of stochastic rounding, and of the workload if it has an option of that name.
    cache : bool or path
        Whether numbers are kept on disk and used again, and where: by default in ``$LOWPREC_CACHE_DIR/studies``, else
        below the user's cache directory.
    executor : concurrent.futures.Executor, optional
        What computes: threads, processes, or a cluster, such as ``distributed.Client().get_executor()``. The records
        are the same with any, and without.
    progress : bool
        Whether a progress bar runs on standard error.
    **options
        Of the workload of that name.

    Returns
    -------
    StudyResult
        One record per setting, formats in the order given; several where a workload says so. The same arguments give
        the same records to the last bit, whatever the number of threads and workers, and whatever was kept.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or cannot be pickled on its way to another process.
    ValueError
        If a workload, an option of it, a format or another name is unknown, or nothing is left to run.
    ImportError
        If what a workload needs is missing, or tqdm for the progress bar; ``pip install "lowprec[study]"``.
    OSError
        If the cache cannot be written; nothing has been computed then.
    RuntimeError
        If the executor breaks, or its workers run other versions of the packages; what is done is kept.

    Notes
    -----
    One setting on one part of the workload (a window of text, a seed) is one unit of work, computed and kept by itself:
    a study that was stopped goes on where it was. A unit is found again by a hash of the workload's fingerprint, of all
    parameters of the arithmetic, of the package's sources, and of the versions of Python, NumPy, Numba, ml_dtypes and
    the CPU; if one of them changes, it is computed anew.

    Examples
    --------
    >>> import lowprec as lp
    >>> result = lp.study("digits", dtypes=["bf16", "e4m3fn"], cache=False, progress=False)
    >>> [(row["format"], row["scaled"]) for row in result.table]
    [('bfloat16', False), ('float8_e4m3fn', True)]
    """
    _engine.check_executor(executor)
    if scaled is not None:
        if scales is not None:
            msg = f"`scaled` must be left out where `scales` is given, got {scaled!r} beside {scales!r}."
            raise ValueError(msg)
        scales = "power_of_two" if scaled else "none"
    named = _named(workload, options, seed)
    chosen = _registry.workload(workload, **(options if named is None else named[1]))
    plan = grid(chosen, dtypes, accumulators, weights=weights, sparsity=sparsity, scales=scales, seed=seed)
    kept = open_cache(cache)
    usual = chosen.default_scales
    if not len(chosen.parts):
        msg = f"`workload` must have one part at least, got {chosen.name!r} with none."
        raise ValueError(msg)
    labels = distinct(plan.settings, usual)
    units = [
        _engine.Unit(
            setting,
            part,
            ", ".join([chosen.name, words, *([name] if len(chosen.parts) > 1 else [])]),
            _engine.key_of(chosen, setting, part),
        )
        for setting, words in zip(plan.settings, labels, strict=True)
        for part, name in enumerate(chosen.parts)
    ]
    outcome = _engine.run(chosen, units, named=named, cache=kept, executor=executor, progress=progress)
    table, settings = [], []
    count = len(chosen.parts)
    for place, (setting, words) in enumerate(zip(plan.settings, labels, strict=True)):
        summary = chosen.summarise(outcome.values[place * count : (place + 1) * count])
        for each in summary if isinstance(summary, list) else [summary]:
            table.append({"workload": chosen.name, **facts(setting, usual), "label": words, **plain(each)})
            settings.append(setting)
    notes = getattr(chosen, "notes", ())
    return StudyResult(
        table,
        workload=chosen.name,
        source=chosen.source,
        metrics=chosen.metrics,
        skipped=plan.skipped,
        notes=tuple(notes(table) if callable(notes) else notes),
        seed=seed,
        settings=settings,
        cached=outcome.cached,
        computed=len(units) - outcome.cached,
    )


def _named(workload: Any, options: dict[str, Any], seed: int) -> tuple[str, dict[str, Any]] | None:
    """Return name and options of a workload that is made from them, the seed among them if it has one."""
    if not isinstance(workload, str):
        return None
    made, given = _registry.factory(workload)
    known = _registry.options_of(made, given)
    takes = known is not None and "seed" in known
    return workload, {**options, "seed": seed} if takes else dict(options)
