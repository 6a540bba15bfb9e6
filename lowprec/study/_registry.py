"""Names of workloads: where each is made, imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lowprec.study._base import Workload


class Entry(NamedTuple):
    """Where a workload is made.

    Parameters
    ----------
    module, factory : str
        A function of keyword arguments, which gives a workload; that of a prefix is given the rest of the name first.
    about : str
        One line for people.
    """

    module: str
    factory: str
    about: str


WORKLOADS: Mapping[str, Entry] = {
    "digits": Entry("lowprec.study.workloads", "digits", "a small network on scikit-learn's handwritten digits"),
    "matmul": Entry("lowprec.study._matmul", "matmul", "products of random matrices, from short sums to long ones"),
    "smollm2": Entry("lowprec.study._smollm2", "smollm2", "a language model of 135 million parameters on news text"),
    "training": Entry(
        "lowprec.study._training_workload", "Training", "mixed-precision training by recipes, on handwritten digits"
    ),
    "data_parallel": Entry(
        "lowprec.study._compression_workload", "DataParallel", "gradients compressed between data-parallel workers"
    ),
    "ppocr": Entry("lowprec.study._ppocr", "PPOCR", "a recogniser of text lines, PP-OCRv4, on rendered lines"),
}
PREFIXES: Mapping[str, Entry] = {
    "onnx": Entry("lowprec.study._onnx_workload", "OnnxWorkload", "any model in an ONNX file"),
    "torch": Entry("lowprec.study._torch_workload", "TorchWorkload", "a torch model, module:function gives it"),
}


def describe() -> dict[str, str]:
    """Return all names with one line on each.

    Returns
    -------
    dict of str
        In the order of the table; names with a prefix as ``prefix:...``.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> from lowprec.study._registry import describe
    >>> describe()["digits"]
    "a small network on scikit-learn's handwritten digits"
    """
    lines = {name: entry.about for name, entry in WORKLOADS.items()}
    return lines | {f"{prefix}:...": entry.about for prefix, entry in PREFIXES.items()}


def factory(name: str) -> tuple[Callable[..., Workload], tuple[str, ...]]:
    """Return what makes a workload, and what it is given beside its options.

    Parameters
    ----------
    name : str
        A name of the table, or a prefix with what it is about: ``"onnx:model.onnx"``.

    Returns
    -------
    callable, tuple of str
        The function, and its positional arguments: what follows a prefix.

    Raises
    ------
    ValueError
        If the name is unknown; close ones are listed.
    ImportError
        If what it needs is not installed.
    """
    prefix, colon, rest = name.partition(":")
    entry = WORKLOADS.get(name)
    if entry is None and colon and prefix in PREFIXES:
        if not rest:
            msg = f"`workload` must have something after {prefix!r}: {PREFIXES[prefix].about}; got {name!r}."
            raise ValueError(msg)
        entry = PREFIXES[prefix]
    if entry is None:
        known = list(describe())
        close = difflib.get_close_matches(name, [*WORKLOADS, *(f"{word}:" for word in PREFIXES)], n=2, cutoff=0.5)
        hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
        msg = f"`workload` must be one of {', '.join(map(repr, known))} or a Workload, got {name!r}{hint}."
        raise ValueError(msg)
    made = getattr(importlib.import_module(entry.module), entry.factory)
    return made, (rest,) if name not in WORKLOADS else ()


def options_of(made: Callable[..., Workload], given: tuple[str, ...]) -> list[str] | None:
    """Return the names of the options that a factory takes, or None if it takes any.

    Parameters
    ----------
    made : callable
        As `factory` returns it.
    given : tuple of str
        Its positional arguments.

    Returns
    -------
    list of str or None
        In its own order.

    Raises
    ------
    Nothing.
    """
    parameters = list(inspect.signature(made).parameters.values())
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters[len(given) :] if each.kind is not each.VAR_POSITIONAL]


def workload(name: str | Workload, **options: Any) -> Workload:
    """Return the workload of a name.

    Parameters
    ----------
    name : str or Workload
        A name: ``"digits"``, or another that ``lowprec study --list`` prints; or a workload, which comes back
        unchanged.
    **options
        What the workload lets one choose.

    Returns
    -------
    Workload
        What `lowprec.study.study` runs.

    Raises
    ------
    TypeError
        If `name` is of another kind, or a workload that is made already is given options.
    ValueError
        If the name or an option is unknown, or as the workload says.
    ImportError
        If what it needs is not installed.

    Examples
    --------
    >>> from lowprec.study import workload
    >>> workload("digits").name
    'digits'
    """
    from lowprec.study._base import Workload as Base

    if isinstance(name, Base):
        if options:
            msg = f"`options` must be none for a workload that is made already, got {', '.join(options)}."
            raise TypeError(msg)
        return name
    if not isinstance(name, str):
        msg = f"`workload` must be a name or a Workload, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    made, given = factory(name)
    known = options_of(made, given)
    for option in options:
        if known is not None and option not in known:
            close = difflib.get_close_matches(option, known, n=2, cutoff=0.5)
            hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
            own = f"the options {', '.join(known)}" if known else "no options"
            msg = f"`{option}` must be an option of the workload {name!r}, which has {own}{hint}."
            raise ValueError(msg)
    return made(*given, **options)
