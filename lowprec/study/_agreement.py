"""How near a model's outputs are to those of the same model in float32: without labels."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec.nn._key import canonical, code_text
from lowprec.study._base import Metric, least, mean, most

SQNR = Metric("sqnr_db", "SQNR", "dB", True, ".1f")
LARGEST = Metric("largest_error", "largest error", "", False, ".2e")
TOP1 = Metric("top1_agreement", "top-1 agreement", "", True, ".2%")


def compare(found: Mapping[str, Array], reference: Mapping[str, Array]) -> dict[str, list[float]]:
    """Return what decides the measures of one part.

    Parameters
    ----------
    found, reference : dict of str to ndarray
        Outputs in an arithmetic and in float32.

    Returns
    -------
    dict of str to list of float
        For each output: squared signal and squared error summed, the largest error, how many rows agree in their
        largest element along the last axis, and how many rows there are. An output of integers or of one element per
        row has no such rows, one of integers no signal: its equal elements are the rows that agree.

    Raises
    ------
    ValueError
        If the shape of an output depends on the arithmetic.
    """
    result: dict[str, list[float]] = {}
    for name, right in reference.items():
        one = found[name]
        if one.shape != right.shape:
            msg = (
                f"`outputs` must keep their shape in every arithmetic; {name!r} has {one.shape} in place of "
                f"{right.shape}; choose others with outputs=."
            )
            raise ValueError(msg)
        result[name] = _compare(np.asarray(one), np.asarray(right))
    return result


def _compare(one: Array, right: Array) -> list[float]:
    """Return the five numbers of one output."""
    if right.dtype.kind in "biu":
        return [0.0, 0.0, 0.0, float(np.count_nonzero(one == right)), float(right.size)]
    wide, exact = one.astype(np.float64), right.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        # Infinities that are the same in both are no error: masks are made of them.
        error = np.where(wide == exact, 0.0, np.abs(wide - exact))
        finite = np.where(np.isfinite(exact), exact, 0.0)
        signal, noise = float(np.sum(np.square(finite))), float(np.sum(np.square(error)))
        largest = float(np.max(error, initial=0.0))
    agree, rows = 0.0, 0.0
    if right.ndim and right.shape[-1] > 1:
        same = one.argmax(axis=-1) == right.argmax(axis=-1)
        same &= ~np.isnan(wide).any(axis=-1)
        agree, rows = float(np.count_nonzero(same)), float(same.size)
    return [signal, noise, largest, agree, rows]


def metrics(outputs: Sequence[str]) -> tuple[Metric, ...]:
    """Return the measures of a model.

    Parameters
    ----------
    outputs : sequence of str
        Names of its outputs.

    Returns
    -------
    tuple of Metric
        SQNR, largest error, top-1 agreement; of several outputs the worst, and the SQNR of each.

    Raises
    ------
    Nothing.
    """
    each = tuple(Metric(f"sqnr_db {name}", f"SQNR of {name}", "dB", True, ".1f") for name in outputs)
    return (SQNR, LARGEST, TOP1, *(each if len(outputs) > 1 else ()))


def summarise(parts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Return the measures of all parts together, and the least and the largest of single parts.

    Parameters
    ----------
    parts : sequence of dict
        As `compare` returns them.

    Returns
    -------
    dict of str to float
        ``sqnr_db`` is 10 log10 of signal over error, both summed over all parts; inf where nothing differs, -inf where
        something is infinite, NaN where something is NaN. ``top1_agreement`` is NaN where there are no rows.

    Raises
    ------
    Nothing.
    """
    names = list(parts[0])
    record = _measures({name: _pool([part[name] for part in parts]) for name in names})
    if len(parts) > 1:
        singles = [_measures(part) for part in parts]
        for key in list(record):
            values = [single[key] for single in singles]
            record[f"{key}_low"], record[f"{key}_high"] = least(values), most(values)
    return record


def _pool(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the five numbers of several parts together."""
    columns = list(zip(*rows, strict=True))
    added = [mean(column) * len(column) for column in columns]
    return [added[0], added[1], most(columns[2]), added[3], added[4]]


def _measures(outputs: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the measures of some outputs."""
    ratios = {name: _decibels(each[0], each[1]) for name, each in outputs.items() if each[0] or each[1]}
    agree, rows = (math.fsum(each[i] for each in outputs.values()) for i in (3, 4))
    record = {
        SQNR.name: least(list(ratios.values())) if ratios else math.inf,
        LARGEST.name: most([each[2] for each in outputs.values()]),
        TOP1.name: agree / rows if rows else math.nan,
    }
    if len(outputs) > 1:
        record |= {f"sqnr_db {name}": ratios.get(name, math.inf) for name in outputs}
    return record


def _decibels(signal: float, noise: float) -> float:
    """Return a ratio in dB."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise):
        return -noise
    return 10 * math.log10(signal / noise) if signal else -math.inf


# ------------------------------------------------------------------------------------------------- a user's function
@contextmanager
def _current_folder() -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python -m`` does."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def find_function(spelled: str, argument: str) -> tuple[Callable[..., Any], str]:
    """Return a function by ``module:function``, and the hash of the file that it is in.

    Parameters
    ----------
    spelled : str
        The module, found as Python finds it and in the current folder, and the function's name in it.
    argument : str
        What errors call it.

    Returns
    -------
    callable, str
        The function, and a hash of its name, of its module's file, and of the file that it is written in.

    Raises
    ------
    TypeError
        If it is no string, or names something that cannot be called.
    ValueError
        If it is of another form, or there is no such module or function; functions with close names are listed.
    """
    from lowprec.study._onnx_model import close

    if not isinstance(spelled, str):
        msg = f"`{argument}` must be a text module:function, got {spelled!r} of type {type(spelled).__name__}."
        raise TypeError(msg)
    name, _, function = spelled.partition(":")
    if not (function.isidentifier() and all(part.isidentifier() for part in name.split("."))):
        msg = f"`{argument}` must be module:function, such as 'mine:load' for load() in mine.py, got {spelled!r}."
        raise ValueError(msg)
    try:
        with _current_folder():
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        msg = (
            f"`{argument}` must name a module that can be imported, got {name!r}; it is looked for in {Path.cwd()} too."
        )
        raise ValueError(msg) from None
    found = getattr(module, function, None)
    if found is None:
        own = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        hint = close(function, own) or f"; it has {', '.join(own) or 'none'}."
        msg = f"`{argument}` must name a function of {name!r}, got {function!r}{hint}"
        raise ValueError(msg)
    if not callable(found):
        msg = f"`{argument}` must name a function, got {spelled!r}, which is a {type(found).__name__}."
        raise TypeError(msg)
    file = getattr(module, "__file__", None)
    content = Path(file).read_bytes() if file else inspect.getsource(found).encode()
    return found, _hash_of(spelled, hashlib.sha256(content).hexdigest(), _file_hash(found))


def source_hash(function: Callable[..., Any], name: str) -> str:
    """Return a hash of the file that a function is in, or of its own text, and of what tells it from others there.

    Parameters
    ----------
    function : callable
        A user's function.
    name : str
        What it is called, for errors.

    Returns
    -------
    str
        The sha256, in hexadecimal.

    Raises
    ------
    ValueError
        If neither can be read, or what it closes over is not plain values; a study that is kept on disk has to know
        when it changes.
    """
    text = _file_hash(function)
    if not text:
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):
            msg = f"`metric` must be a function whose text can be read, got {name}; write it in a file."
            raise ValueError(msg) from None
    own = getattr(function, "key", None)
    if isinstance(own, str):
        return _hash_of(text, name, own)
    cells = getattr(function, "__closure__", None) or ()
    names = sorted((getattr(function, "__kwdefaults__", None) or {}).items())
    held = (getattr(function, "__defaults__", None), tuple(names), tuple(cell.cell_contents for cell in cells))
    code = getattr(function, "__code__", None)
    try:
        return _hash_of(text, name, canonical(held), "" if code is None else code_text(code))
    except ValueError:
        msg = (
            f"`metric` must be told from others of its text by plain values, got {name}, which closes over something "
            "else; give it an attribute `key`, a string that says what."
        )
        raise ValueError(msg) from None


def _file_hash(function: Any) -> str:
    """Return the sha256 of the file that a function is written in, empty if there is none."""
    file = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file is not None and Path(file).is_file() else ""


def _hash_of(*texts: str) -> str:
    """Return a hash of several texts."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def called(function: Callable[..., Any]) -> str:
    """Return what a user's measure is called in records.

    Parameters
    ----------
    function : callable
        The measure.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    Nothing.
    """
    return str(getattr(function, "__name__", type(function).__name__))


def own_metric(function: Callable[..., Any]) -> Metric:
    """Return how a user's measure is shown.

    Parameters
    ----------
    function : callable
        Its attributes ``label``, ``unit``, ``larger_is_better`` and ``format`` are taken where it has them.

    Returns
    -------
    Metric
        Larger is better, and four digits, where nothing is said.

    Raises
    ------
    Nothing.
    """
    name = called(function)
    return Metric(
        name,
        getattr(function, "label", name.replace("_", " ")),
        getattr(function, "unit", ""),
        bool(getattr(function, "larger_is_better", True)),
        getattr(function, "format", ".4g"),
    )


def number(value: Any, name: str) -> float:
    """Check what a user's measure returned.

    Parameters
    ----------
    value : object
        Should be a number, or an array or tensor of one element.
    name : str
        Of the measure.

    Returns
    -------
    float
        The number.

    Raises
    ------
    TypeError
        If it is something else.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        msg = f"`metric` must return a number, got {type(value).__name__} from {name}."
        raise TypeError(msg) from None
