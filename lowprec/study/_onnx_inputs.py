"""What an ONNX model is fed with: arrays of a file or of the caller, or random numbers."""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lowprec._checks import Array
from lowprec.study._onnx_model import Input, close

Feed = dict[str, Array]


class Feeds(NamedTuple):
    """The parts of a study.

    Parameters
    ----------
    every : tuple of dict
        What goes into the model, a dict for each part, those for calibration last.
    evaluated : int
        How many are evaluated.
    samples : tuple of range
        Which samples each part has.
    about : str
        In words.
    digest : str
        A hash of all of it.
    """

    every: tuple[Feed, ...]
    evaluated: int
    samples: tuple[range, ...]
    about: str
    digest: str


def integer(value: Any, name: str, low: int) -> int:
    """Check a count, which a command line gives as text.

    Parameters
    ----------
    value : int or str
        The count.
    name : str
        What errors call it.
    low : int
        The least there may be.

    Returns
    -------
    int
        The count.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is too small, or a text that is none.
    """
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            msg = f"`{name}` must be an integer, got {value!r}."
            raise ValueError(msg) from None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value < low:
        msg = f"`{name}` must be at least {low}, got {value}."
        raise ValueError(msg)
    return int(value)


def settings(value: Any, name: str, example: str) -> dict[str, Any]:
    """Return what a mapping, or a text ``name=value,name=value``, says.

    Parameters
    ----------
    value : mapping, str or None
        What was given.
    name : str
        What errors call it.
    example : str
        What it could be, for errors.

    Returns
    -------
    dict of str
        By name.

    Raises
    ------
    TypeError, ValueError
        If it is of another kind, or cannot be read.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(key): each for key, each in value.items()}
    if not isinstance(value, str):
        msg = f"`{name}` must be a dict or a text such as {example!r}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    pairs = [each.rpartition("=") for each in value.split(",") if each.strip()]
    if not all(key.strip() and text.strip() for key, _, text in pairs):
        msg = f"`{name}` must be written as {example!r}, got {value!r}."
        raise ValueError(msg)
    return {key.strip(): text.strip() for key, _, text in pairs}


def make_feeds(
    inputs: Sequence[Input],
    given: Any,
    *,
    shapes: Any,
    ranges: Any,
    samples: Any,
    batch: Any,
    seed: Any,
    calibration: Any,
) -> Feeds:
    """Return what every part is fed with.

    Parameters
    ----------
    inputs : sequence of Input
        What the model takes.
    given : str, path, mapping of arrays, sequence of such mappings, or None
        The inputs: an ``.npz`` file or a dict with an array for each input, samples along its first axis; a list of
        dicts, one for each part; or None for random numbers.
    shapes : mapping or str, optional
        Of random numbers: ``{"x": (1, 3, 48, 320)}``, or lengths of named axes, ``{"batch": 1}``.
    ranges : mapping or str, optional
        Of random numbers: ``{"ids": (0, 30522)}``, the second not reached.
    samples, batch, seed, calibration : int or str, optional
        How many samples are evaluated, how many are a part, of random numbers, and how many parts are set apart.

    Returns
    -------
    Feeds
        Checked against what the model takes.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    TypeError, ValueError
        If something is of the wrong kind, name, dtype or shape, a length is open, or integers have no range.
    """
    apart = integer(calibration, "calibration", 0)
    step = None if batch is None else integer(batch, "batch", 1)
    count = None if samples is None else integer(samples, "samples", 1)
    if given is None:
        start = integer(seed, "seed", 0)
        feeds, about = _random(inputs, shapes, ranges, count or 4, step, start, apart)
        spans = _spans(feeds)
    else:
        for value, name in ((shapes, "shapes"), (ranges, "ranges")):
            if value is not None:
                msg = f"`{name}` must be left out where `inputs` are given, got {value!r}; it is for random numbers."
                raise ValueError(msg)
        feeds, about = _given(inputs, given, count, step, apart)
        spans = _spans(feeds)
    digest = hashlib.sha256()
    for feed in feeds:
        for name, array in sorted(feed.items()):
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return Feeds(tuple(feeds), len(feeds) - apart, spans, about, digest.hexdigest())


def _spans(feeds: Sequence[Feed]) -> tuple[range, ...]:
    """Return which samples each part has."""
    spans, first = [], 0
    for feed in feeds:
        length = max((len(each) for each in feed.values() if each.ndim), default=1)
        spans.append(range(first, first + length))
        first += length
    return tuple(spans)


# ---------------------------------------------------------------------------------------------------- given by the user
def _given(
    inputs: Sequence[Input], given: Any, count: int | None, step: int | None, apart: int
) -> tuple[list[Feed], str]:
    """Return the parts of the caller's arrays."""
    about = "inputs given"
    if isinstance(given, (str, Path)):
        about = f"inputs of {Path(given).name}"
        given = _read(Path(given))
    size = 1
    if isinstance(given, Mapping):
        feeds, size = _cut(inputs, _checked(inputs, given, whole=True), step)
    elif isinstance(given, Sequence) and all(isinstance(each, Mapping) for each in given):
        if step is not None:
            msg = "`batch` must be left out where `inputs` are a list with a dict for each part."
            raise ValueError(msg)
        feeds = [_checked(inputs, each, whole=False) for each in given]
    else:
        msg = f"`inputs` must be an .npz file, a dict of arrays or a list of such dicts, got a {type(given).__name__}."
        raise TypeError(msg)
    wanted = len(feeds) - apart if count is None else -(-count // size)
    if wanted < 1 or len(feeds) < wanted + apart:
        msg = (
            f"`inputs` must have enough samples, got {len(feeds)} parts of {size} for {max(wanted, 1)} and "
            f"{apart} of `calibration`; lower `samples` or `calibration`."
        )
        raise ValueError(msg)
    return feeds[:wanted] + feeds[len(feeds) - apart :], about


def _read(file: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file."""
    if not file.is_file():
        msg = f"`inputs` must name an .npz file, got {str(file)!r}, which is not there."
        raise FileNotFoundError(msg)
    try:
        with file.open("rb") as opened:
            content = np.load(opened, allow_pickle=False)
            if isinstance(content, np.lib.npyio.NpzFile):
                return {name: content[name] for name in content.files}
    except (zipfile.BadZipFile, EOFError, OSError, KeyError, ValueError) as error:
        msg = f"`inputs` must name an .npz file, got {str(file)!r}, which cannot be read: {error}."
        raise ValueError(msg) from None
    msg = f"`inputs` must name an .npz file with an array for each input, got one array in {str(file)!r}."
    raise TypeError(msg)


def _checked(inputs: Sequence[Input], given: Mapping[str, Any], *, whole: bool) -> Feed:
    """Check names, dtypes and shapes; the first axis of ``whole`` arrays is that of all samples."""
    names = [each.name for each in inputs]
    unknown = [name for name in given if name not in names]
    if unknown:
        hint = close(str(unknown[0]), names)
        msg = f"`inputs` must be {', '.join(map(repr, names))}, got {unknown[0]!r} as well{hint or '.'}"
        raise ValueError(msg)
    missing = [name for name in names if name not in given]
    if missing:
        msg = f"`inputs` must hold all that the model takes; missing: {', '.join(map(repr, missing))}."
        raise ValueError(msg)
    feed = {}
    for each in inputs:
        array = np.asarray(given[each.name])
        if array.dtype != each.dtype:
            msg = (
                f"`inputs` must have dtype {each.dtype} for {each.name!r}, got {array.dtype}; convert it with .astype."
            )
            raise TypeError(msg)
        if each.shape is not None:
            first = 1 if whole and each.shape else 0
            fits = array.ndim == len(each.shape) and all(
                not isinstance(want, int) or want == have
                for want, have in zip(each.shape[first:], array.shape[first:], strict=True)
            )
            if not fits:
                more = ", the first axis that of the samples" if first else ""
                msg = f"`inputs` must have shape {each.spelled} for {each.name!r}{more}, got {array.shape}."
                raise ValueError(msg)
        feed[each.name] = array
    return feed


def _cut(inputs: Sequence[Input], feed: Feed, step: int | None) -> tuple[list[Feed], int]:
    """Return whole arrays in parts of some samples, and how many that are."""
    own = {each.shape[0] for each in inputs if each.shape and isinstance(each.shape[0], int)}
    if len(own) > 1:
        msg = "`inputs` must be a list with a dict for each part for a model whose inputs differ in their first length."
        raise ValueError(msg)
    size = step or (next(iter(own)) if own else 1)
    if own and size not in own:
        msg = f"`batch` must be {next(iter(own))}, the first length of the model's inputs, got {size}."
        raise ValueError(msg)
    lengths = {name: len(array) for name, array in feed.items() if array.ndim}
    total = max(lengths.values(), default=1)
    if len(set(lengths.values())) > 1 or total % size or not total:
        msg = f"`inputs` must all have the same number of samples, a multiple of {size}, got {lengths}."
        raise ValueError(msg)
    parts = range(0, total, size)
    return [{n: (a[i : i + size] if a.ndim else a) for n, a in feed.items()} for i in parts], size


# --------------------------------------------------------------------------------------------------------------- random
def _random(
    inputs: Sequence[Input], shapes: Any, ranges: Any, count: int, step: int | None, seed: int, apart: int
) -> tuple[list[Feed], str]:
    """Return parts of random numbers."""
    lengths = settings(shapes, "shapes", "x=1x3x48x320")
    bounds = settings(ranges, "ranges", "ids=0:30522")
    axes = {length for each in inputs for length in each.shape or () if isinstance(length, str)}
    known = [each.name for each in inputs]
    for name, mapping, names in (("shapes", lengths, [*known, *sorted(axes)]), ("ranges", bounds, known)):
        for key in mapping:
            if key not in names:
                msg = f"`{name}` must name inputs of the model{' or open lengths' if name == 'shapes' else ''}, "
                msg += f"{', '.join(map(repr, names))}, got {key!r}{close(key, names) or '.'}"
                raise ValueError(msg)
    made = {each.name: _shape(each, lengths, step) for each in inputs}
    limits = {each.name: _limits(each, bounds) for each in inputs}
    sizes = {shape[0] for shape in made.values() if shape}
    size = max(sizes, default=1)
    parts = -(-count // max(size, 1)) + apart
    feeds = []
    for part in range(parts):
        generators = (np.random.default_rng([seed, part, index]) for index in range(len(inputs)))
        feeds.append(
            {e.name: _draw(e, made[e.name], limits[e.name], r) for e, r in zip(inputs, generators, strict=True)}
        )
    spelled = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in made.items())
    return feeds, f"random inputs {spelled}, seed {seed}"


def _shape(each: Input, lengths: Mapping[str, Any], step: int | None) -> tuple[int, ...]:
    """Return the shape of an input of random numbers."""
    if each.name in lengths:
        value = lengths[each.name]
        words = value.lower().split("x") if isinstance(value, str) else value
        words = [words] if isinstance(words, (int, np.integer)) else list(words)
        shape = tuple(integer(word, f"shapes of {each.name}", 1) for word in words)
        fits = each.shape is None or (
            len(shape) == len(each.shape)
            and all(not isinstance(want, int) or want == have for want, have in zip(each.shape, shape, strict=True))
        )
        if not fits:
            msg = f"`shapes` must fit {each.spelled} for {each.name!r}, got {shape}."
            raise ValueError(msg)
        return shape
    shape_ = []
    for axis, length in enumerate(each.shape if each.shape is not None else (None, None)):
        if isinstance(length, int):
            shape_.append(length)
        elif isinstance(length, str) and length in lengths:
            shape_.append(integer(lengths[length], f"shapes of {length}", 1))
        elif axis == 0 and each.shape is not None:
            shape_.append(step or 1)
        else:
            example = "x".join("1" if i == 0 else "?" if not isinstance(n, int) else str(n) for i, n in
                               enumerate(each.shape or (None, None)))  # fmt: skip
            msg = (
                f"`shapes` must say how long {each.name!r} is, {each.spelled} in the file; write shapes={each.name}="
                f"{example} with numbers for ?, or give `inputs`."
            )
            raise ValueError(msg)
    return tuple(shape_)


def _limits(each: Input, bounds: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the range of random numbers, None for the normal distribution and for truth values."""
    if each.name not in bounds:
        if np.dtype(each.dtype).kind not in "iu":
            return None
        msg = (
            f"`ranges` must say from which integers {each.name!r} is drawn, such as ranges={each.name}=0:1000, "
            f"or give `inputs`; it is of dtype {each.dtype}."
        )
        raise ValueError(msg)
    value = bounds[each.name]
    words = value.split(":") if isinstance(value, str) else value
    try:
        low, high = (float(word) for word in words)
    except (TypeError, ValueError):
        msg = f"`ranges` must be two numbers low:high for {each.name!r}, got {value!r}."
        raise ValueError(msg) from None
    if not low < high or not math.isfinite(high - low):
        msg = f"`ranges` must go up and be finite, got {value!r} for {each.name!r}."
        raise ValueError(msg)
    dtype = np.dtype(each.dtype)
    if dtype.kind in "iu":
        bounds_ = np.iinfo(dtype)
        if low != int(low) or high != int(high) or low < bounds_.min or high > bounds_.max + 1:
            msg = f"`ranges` must be integers from {bounds_.min} to {bounds_.max + 1} for {dtype}, "
            raise ValueError(msg + f"got {value!r} for {each.name!r}.")
    return low, high


def _draw(each: Input, shape: tuple[int, ...], limits: tuple[float, float] | None, rng: np.random.Generator) -> Array:
    """Return random numbers for an input."""
    dtype = np.dtype(each.dtype)
    if dtype.kind in "iu" and limits is not None:
        return rng.integers(int(limits[0]), int(limits[1]), shape, dtype=dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "fV":
        numbers = rng.standard_normal(shape) if limits is None else rng.uniform(*limits, shape)
        return numbers.astype(dtype)
    msg = f"`inputs` must be given for {each.name!r} of dtype {dtype}, which cannot be drawn."
    raise ValueError(msg)
