"""The settings of a study: every combination of what was asked for; those that cannot run, with their reason."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lowprec import hardware
from lowprec._choice import _check_model as check_model
from lowprec.accumulators import Accumulator
from lowprec.accumulators import words as models
from lowprec.blocks import BlockFormat
from lowprec.codebooks import CodebookFormat
from lowprec.cost._candidates import Candidate
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as resolve
from lowprec.nn import Arithmetic, WeightRule
from lowprec.nn._choices import summed

_NAMES = {"dtype": "dtypes", "accumulator": "accumulators"}


class Grid(NamedTuple):
    """What runs, and what does not.

    Parameters
    ----------
    settings : tuple of Arithmetic
        Each once, in the order of the lists: formats outermost, then accumulators, weights, sparsity, scales.
    skipped : tuple of (str, str)
        What cannot run: its label and the reason.
    """

    settings: tuple[Any, ...]
    skipped: tuple[tuple[str, str], ...]


def grid(
    workload: Any,
    dtypes: Any = None,
    accumulators: Any = None,
    *,
    weights: Any = None,
    sparsity: Any = None,
    scales: Any = None,
    seed: int = 0,
) -> Grid:
    """Return the settings that the arguments of a study mean.

    Parameters
    ----------
    workload : Workload
        Its own settings where no formats are given; it may refuse some, and know words of its own.
    dtypes, accumulators, weights, sparsity, scales
        One or several of each, as in `lowprec.nn.Arithmetic`; every combination is a setting. A word that names its own
        accumulator or sparsity, such as ``"bf16/exact"``, keeps it.
    seed : int
        Of stochastic rounding.

    Returns
    -------
    Grid
        At least one setting.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, a list is empty, or no combination can run; the reasons are listed.
    """
    lists = {
        "accumulators": _checked("accumulators", accumulators, _check_accumulator),
        "weights": _checked("weights", weights, _check_weights),
        "sparsity": _checked("sparsity", sparsity, lambda word: Arithmetic("fp32", sparsity=word)),
        "scales": _checked("scales", scales, lambda word: Arithmetic("fp32", scales=word)),
    }
    starts = _starts(workload, dtypes, seed)
    usual = getattr(workload, "default_scales", "auto")
    settings: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for start, (accumulator, weight, pattern, scale) in itertools.product(
        starts, itertools.product(*lists.values())
    ):  # fmt: skip
        asked = {"accumulator": accumulator, "weights": weight, "sparsity": pattern, "scales": scale}
        given = {name: value for name, value in asked.items() if value is not None}
        try:
            setting = start.setting(given, usual)
            reason = _refusal(workload, setting)
        except ValueError as error:
            setting, reason = None, str(error)
        words = start.words(given) if setting is None else label(setting, usual)
        if reason is not None:
            skipped.setdefault(words, reason)
        elif setting is not None:
            settings.setdefault(setting.key(), setting)
    if not settings:
        reasons = "; ".join(f"{words}: {reason}" for words, reason in skipped.items())
        msg = f"`dtypes` must leave something to run, got only what {workload.name!r} cannot do: {reasons}"
        raise ValueError(msg)
    return Grid(tuple(settings.values()), tuple(skipped.items()))


def label(setting: Any, usual: str) -> str:
    """Return a few words for a setting; the workload's usual scales are not named.

    Parameters
    ----------
    setting : Arithmetic or object
        What runs.
    usual : str
        `default_scales` of the workload.

    Returns
    -------
    str
        Its label.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> label(lp.nn.Arithmetic("bf16", scales="power_of_two"), "power_of_two")
    'bf16'
    >>> label(lp.nn.Arithmetic("bf16"), "power_of_two")
    'bf16, scales auto'
    """
    words = str(setting.label)
    if not isinstance(setting, Arithmetic) or usual == "auto":
        return words
    named = f", scales {setting.scales}"
    return words.replace(named, "", 1) if setting.scales == usual else words if named in words else words + named


def distinct(settings: Sequence[Any], usual: str) -> list[str]:
    """Return a label for each of several settings, no two alike.

    Parameters
    ----------
    settings : sequence of Arithmetic or object
        What runs, each another one.
    usual : str
        `default_scales` of the workload.

    Returns
    -------
    list of str
        As `label`; those that would be alike have their seed or, where that is the same too, are numbered.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> distinct([lp.nn.Arithmetic("bf16", seed=seed) for seed in (0, 1)], "auto")
    ['bf16, seed 0', 'bf16, seed 1']
    """
    words = [label(setting, usual) for setting in settings]
    seeded = [
        f"{text}, seed {setting.seed}" if words.count(text) > 1 and hasattr(setting, "seed") else text
        for text, setting in zip(words, settings, strict=True)
    ]
    if len(set(seeded)) > len(set(words)):
        words = seeded
    return [
        f"{text} ({words[: at + 1].count(text)})" if words.count(text) > 1 else text for at, text in enumerate(words)
    ]


def facts(setting: Any, usual: str = "auto") -> dict[str, Any]:
    """Return the columns of a record that say what ran.

    Parameters
    ----------
    setting : Arithmetic or object
        What ran; one that is no Arithmetic has a method `columns`, which returns them, or nothing but its label.
    usual : str
        `default_scales` of the workload.

    Returns
    -------
    dict
        ``format`` (full name; activations and weights as ``x@w`` where they differ), ``label``, ``bits`` (of a weight
        as it is multiplied; of blocks, scales included), ``exponent_bits`` and ``mantissa_bits`` (None for what is no
        float format), ``accumulator``, ``scales``, ``weights``, ``activations``, ``sparsity``, ``seed``.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> found = facts(lp.nn.Arithmetic("bf16", weights="int4/32"))
    >>> found["format"], found["accumulator"], found["weights"]
    ('bfloat16', 'fp32', 'int4/32')
    """
    if not isinstance(setting, Arithmetic):
        columns: Callable[[], Mapping[str, Any]] = getattr(setting, "columns", dict)
        return {"format": setting.label, "label": setting.label, **columns()}
    one, other = setting.candidate.x, setting.candidate.w
    weights, activations = setting.weights, setting.activations
    only = isinstance(one, FloatFormat) and one == other
    return {
        "format": one.name if one == other else f"{one.name}@{other.name}",
        "label": label(setting, usual),
        "bits": other.bits,
        "exponent_bits": one.exponent_bits if isinstance(one, FloatFormat) and only else None,
        "mantissa_bits": one.mantissa_bits if isinstance(one, FloatFormat) and only else None,
        "accumulator": summed(setting.accumulator),
        "scales": setting.scales,
        "weights": None if weights is None else _spelled(weights),
        "activations": None if activations is None else str(activations),
        "sparsity": setting.sparsity,
        "seed": setting.seed,
    }


class _Start(NamedTuple):
    """A setting before the other lists have their say."""

    made: Any  # a setting that exists, or None
    dtype: Any  # what it is made of otherwise
    seed: int

    def setting(self, given: dict[str, Any], scales: str) -> Any:
        """Return the setting with all that the lists say."""
        if self.made is not None:
            if not isinstance(self.made, Arithmetic):
                changes = given | ({"seed": self.seed} if self.seed else {})
                if changes and callable(getattr(self.made, "with_", None)):
                    return self.made.with_(**changes)
                if given:
                    msg = f"{', '.join(given)} must not be given for {self.made.label}, which says all of it."
                    raise ValueError(msg)
                return self.made
            return self.made.with_(**given, seed=self.seed) if given or self.seed else self.made
        chosen = {"scales": scales} | given
        if isinstance(self.dtype, str):
            first, *rest = self.dtype.split()
            if {"/", ":"} & set(first):
                chosen.pop("accumulator", None)
            if any(re.fullmatch(r"\d+:\d+", word) for word in rest):
                chosen.pop("sparsity", None)
        return Arithmetic(self.dtype, chosen.pop("accumulator", None), seed=self.seed, **chosen)

    def words(self, given: dict[str, Any]) -> str:
        """Return a label for what cannot be made."""
        head = self.dtype if self.made is None else self.made.label
        if isinstance(head, tuple):
            head = "@".join(map(_spelled, head))
        more = [f"{name} {_spelled(value)}" for name, value in given.items()]
        return ", ".join([_spelled(head), *more])


def _starts(workload: Any, dtypes: Any, seed: int) -> list[_Start]:
    """Return what is asked for in `dtypes`, or the workload's own settings, each checked by itself."""
    if dtypes is None:
        return [_Start(each, None, seed) for each in workload.default_settings()]
    own: Callable[[str], Any] | None = getattr(workload, "setting", None)
    starts = []
    for value in _listed(dtypes, "dtypes"):
        if not isinstance(value, type) and callable(getattr(value, "key", None)):
            starts.append(_Start(value, None, seed))
            continue
        made = own(value) if own is not None and isinstance(value, str) else None
        if made is None:
            with _Renamed("dtype"):
                Arithmetic(value)
        starts.append(_Start(made, value, seed))
    return starts


def _refusal(workload: Any, setting: Any) -> str | None:
    """Return why a setting cannot run, or None."""
    if isinstance(setting, Arithmetic):
        try:
            _check_product(setting.candidate)
        except ValueError as error:
            return str(error)
    reason = workload.refuses(setting)
    return None if reason is None else str(reason)


def _check_product(candidate: Candidate) -> None:
    """Raise where a sum does not take the products of its formats."""
    if candidate.preset is not None:
        candidate.instruction  # noqa: B018 - raises where the preset has none for the formats
    elif candidate.is_block and candidate.accumulator != candidate.default_accumulator:
        Arithmetic(candidate).linear(np.zeros((1, 32), np.float32), np.zeros((1, 32), np.float32))
    elif not candidate.is_block:
        model = candidate.model()
        if isinstance(model, Accumulator):
            check_model(model, list(candidate.multiplied), None)


def _checked(name: str, value: Any, check: Callable[[Any], Any]) -> list[Any]:
    """Return one or several choices as a list, every one known."""
    found = [None] if value is None else _listed(value, name)
    for each in found:
        if each is not None:
            with _Renamed("accumulator"):
                check(each)
    return found


def _check_accumulator(value: Any) -> None:
    """Refuse what names no sum."""
    model = models.model(value)
    if isinstance(model, str):
        try:
            hardware.preset(model)
        except ValueError:
            fp32 = resolve("fp32")
            hardware.select(model, (fp32, fp32))  # raises with the names of all accumulators
            raise


def _check_weights(value: Any) -> None:
    """Refuse what names no way to store weights."""
    if not callable(value) or isinstance(value, type):
        WeightRule.parse(value)


class _Renamed:
    """Errors of one choice speak of the list that it is in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Raise the same error with the other name."""
        if isinstance(error, (TypeError, ValueError)):
            text = str(error).replace(f"`{self.name}`", f"`{_NAMES[self.name]}`", 1)
            raise type(error)(text) from None


_SINGLE = (str, Format, BlockFormat, CodebookFormat, Candidate, Accumulator, Arithmetic, WeightRule, np.dtype, Mapping)


def _listed(value: Any, name: str) -> list[Any]:
    """Return one or several things as a list."""
    alone = isinstance(value, (*_SINGLE, type)) or not isinstance(value, Iterable)
    found = [value] if alone else list(_all(value))
    if not found:
        msg = f"`{name}` must not be empty."
        raise ValueError(msg)
    return found


def _all(values: Iterable[Any]) -> Iterator[Any]:
    """Yield what is in an iterable, lists as the pairs that they stand for."""
    for each in values:
        yield tuple(each) if isinstance(each, list) else each


def _spelled(value: Any) -> str:
    """Return a short name of anything that a list may hold."""
    if isinstance(value, str):
        return value
    return str(getattr(value, "__name__", value))
