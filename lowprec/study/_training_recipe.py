"""Recipes of mixed-precision training: which format holds what, and how the loss is scaled."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from lowprec._checks import fmt_of
from lowprec.cost._candidates import Candidate
from lowprec.formats import FloatFormat
from lowprec.nn import Arithmetic

_CHOICES = {
    "scales": ("none", "current", "delayed"),
    "update": ("nearest", "stochastic", "kahan"),
    "optimizer": ("adam", "sgd"),
}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: the format of everything that is stored or multiplied.

    Parameters
    ----------
    name : str
        What tables call it.
    tensors : str
        Format in which activations and gradients are stored; ``"fp32"`` rounds nothing.
    weights : str
        Format in which weights are kept from step to step. fp32 below narrower tensors are the master weights.
    forward, gradients : str, optional
        Formats of the operands of products: of activations and weights, and of gradients. By default that of `tensors`.
    accumulator : str, optional
        How products are summed, as in `lowprec.matmul`; fp32 by default. A hardware preset is meant here too.
    scales : {"none", "current", "delayed"}
        Powers of two that bring the operands of each product to the top of their format, one for each tensor: none,
        found on the tensor itself, or by the largest magnitude that the tensor had in the 16 steps before. What is
        still beyond the format saturates.
    loss_scale : float or "dynamic"
        What the loss is multiplied by, and the gradient divided by, a power of two; or `DynamicLossScale` from 2**16
        with a growth interval of 100 steps.
    update : {"nearest", "stochastic", "kahan"}
        How a weight less its update becomes a weight: rounded to nearest even, rounded stochastically, or to nearest
        with Kahan's compensation, which is kept in the format of `weights`.
    optimizer : {"adam", "sgd"}
        Adam with 0.9, 0.999 and 1e-8, or gradient descent with momentum 0.9. Computed in float32.
    states : str
        Format in which the optimiser keeps its moments.
    seed : int
        Of stochastic rounding, beside the seed of a run.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a name is unknown, or the loss scale is not a positive power of two.

    References
    ----------
    Micikevicius et al., Mixed Precision Training, 2018, arXiv:1710.03740, section 3 (fp32 master weights, loss scale).
    Micikevicius et al., FP8 Formats for Deep Learning, 2022, arXiv:2209.05433, section 3 (E4M3 forward, E5M2 for
    gradients, a scale for each tensor).
    Gupta et al., Deep Learning with Limited Numerical Precision, 2015, arXiv:1502.02551 (stochastic rounding).
    Zamirai et al., Revisiting BFloat16 Training, 2020, arXiv:2010.06192 (weight updates that nearest rounding cancels;
    stochastic rounding and Kahan's summation of them).

    Examples
    --------
    >>> from lowprec.study import Recipe
    >>> Recipe.parse("bf16-pure+sr").update
    'stochastic'
    >>> Recipe.parse("fp8-hybrid").gradients
    'e5m2'
    """

    name: str = "custom"
    tensors: str = "fp32"
    weights: str = "fp32"
    forward: str | None = None
    gradients: str | None = None
    accumulator: str | None = None
    scales: str = "none"
    loss_scale: float | str = 1.0
    update: str = "nearest"
    optimizer: str = "adam"
    states: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not isinstance(self.name, str):
            msg = f"`name` must be a string, got {self.name!r} of type {type(self.name).__name__}."
            raise TypeError(msg)
        for field in ("tensors", "weights", "states", "forward", "gradients"):
            value = getattr(self, field)
            if value is not None:
                _float_format(value, field)
        for field, known in _CHOICES.items():
            value = getattr(self, field)
            if value not in known:
                msg = f"`{field}` must be one of {', '.join(known)}, got {value!r}{closest(value, known)}."
                raise ValueError(msg)
        scale = self.loss_scale
        if isinstance(scale, (bool, np.bool_)) or not isinstance(scale, (int, float, str, np.integer, np.floating)):
            msg = f"`loss_scale` must be a number or 'dynamic', got {scale!r} of type {type(scale).__name__}."
            raise TypeError(msg)
        if scale != "dynamic" and (isinstance(scale, str) or not _is_power(float(scale))):
            msg = f"`loss_scale` must be a power of two from 2**-126 to 2**127, or 'dynamic', got {scale!r}."
            raise ValueError(msg)
        if scale != "dynamic":
            object.__setattr__(self, "loss_scale", float(scale))
        object.__setattr__(self, "seed", check_integer("seed", self.seed, 0, 2**31 - 1))
        self.products, self.backward  # noqa: B018 - raises where an accumulator does not take the formats

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the recipe of a word.

        Parameters
        ----------
        word : str
            A name of `recipes`, then ``+`` and a change, any number of times: ``static`` (a loss scale of 1024),
            ``dynamic``, ``sr`` (stochastic rounding of weights), ``kahan``, ``delayed``, ``sgd``, ``states`` (those of
            the optimiser in the format of the weights).

        Returns
        -------
        Recipe
            With the word as its name.

        Raises
        ------
        TypeError
            If `word` is no string.
        ValueError
            If it is unknown; the closest are named.
        """
        if not isinstance(word, str):
            msg = f"`word` must be a string, got {word!r} of type {type(word).__name__}."
            raise TypeError(msg)
        head, *rest = (part.strip() for part in word.split("+"))
        if head not in _RECIPES:
            msg = f"`dtypes` must be recipes: {', '.join(_RECIPES)}; got {head!r}{closest(head, _RECIPES)}."
            raise ValueError(msg)
        values = dict(_RECIPES[head])
        for change in rest:
            if change not in _CHANGES:
                known = ", ".join(f"+{name}" for name in _CHANGES)
                msg = f"`dtypes` must have {known} after a recipe, got {change!r}{closest(change, _CHANGES)}."
                raise ValueError(msg)
            values |= _CHANGES[change]
            if change == "states":
                values["states"] = values.get("weights", "fp32")
        return cls(name="+".join([head, *rest]), **values)

    def with_(self, **changes: Any) -> Self:
        """Return the same recipe with other arguments.

        Parameters
        ----------
        **changes
            Arguments of `Recipe`. A new `accumulator` goes into the name.

        Returns
        -------
        Recipe
            A new one.

        Raises
        ------
        TypeError, ValueError
            As `Recipe`.
        """
        known = [field.name for field in fields(self)]
        for change in changes:
            if change not in known:
                msg = f"`{change}` must be left out for recipes of training, which have {', '.join(known)}."
                raise ValueError(msg)
        if changes.get("accumulator") is not None and "name" not in changes:
            changes["name"] = f"{self.name}/{changes['accumulator']}"
        return replace(self, **changes)

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        return self.name

    def key(self) -> str:
        """Return a text that is equal for equal recipes, whatever their names, and different for any other.

        Returns
        -------
        str
            A hash, in hexadecimal digits.

        Raises
        ------
        Nothing.
        """
        formats = [_float_format(getattr(self, field), field) for field in ("tensors", "weights", "states")]
        others = (self.scales, repr(self.loss_scale), self.update, self.optimizer, self.seed)
        text = repr((formats, self.products.key(), self.backward.key(), others))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def products(self) -> Arithmetic:
        """How products forward are computed, once their operands are scaled."""
        return Arithmetic(self.forward or self.tensors, self.accumulator, scales="none")

    @cached_property
    def backward(self) -> Arithmetic:
        """How products of gradients with weights, and with activations, are computed."""
        pair = (self.gradients or self.tensors, self.forward or self.tensors)
        named = tuple(_float_format(each, "gradients") for each in pair)
        return Arithmetic(named, self.accumulator, scales="none")

    @property
    def candidate(self) -> Candidate:
        """What the products forward are, for their price."""
        return self.products.candidate


_FP8: dict[str, Any] = {"tensors": "bf16", "forward": "e4m3fn", "gradients": "e5m2", "scales": "current"}
_RECIPES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16": {"tensors": "fp16"},
    "fp16-pure": {"tensors": "fp16", "weights": "fp16"},
    "bf16": {"tensors": "bf16"},
    "bf16-pure": {"tensors": "bf16", "weights": "bf16"},
    "fp8-hybrid": _FP8,
    "fp8-e4m3": _FP8 | {"gradients": "e4m3fn"},
}
_CHANGES: dict[str, dict[str, Any]] = {
    "static": {"loss_scale": 1024.0},
    "dynamic": {"loss_scale": "dynamic"},
    "sr": {"update": "stochastic"},
    "kahan": {"update": "kahan"},
    "delayed": {"scales": "delayed"},
    "sgd": {"optimizer": "sgd"},
    "states": {},
}


def recipes() -> tuple[str, ...]:
    """Return the names of the recipes that words start with.

    Returns
    -------
    tuple of str
        In the order of tables.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> from lowprec.study import recipes
    >>> recipes()[:2]
    ('fp32', 'fp16')
    """
    return tuple(_RECIPES)


def _float_format(value: Any, field: str) -> FloatFormat:
    """Return the format of signed numbers with zero that a field names."""
    found = fmt_of(value, field)
    if not isinstance(found, FloatFormat) or not (found.is_signed and found.has_zero):
        msg = f"`{field}` must be a float format with a sign and a zero, got {found.name}."
        raise ValueError(msg)
    return found


def _is_power(value: float) -> bool:
    """Say whether a number is a power of two that float32 holds as a normal number."""
    return 2.0**-126 <= value <= 2.0**127 and value.hex().startswith("0x1.0000000000000p")


def closest(value: Any, known: Any) -> str:
    """Return a hint at names that look alike, as the end of an error's sentence.

    Parameters
    ----------
    value : object
        What was given.
    known : iterable of str
        What there is.

    Returns
    -------
    str
        Empty if nothing is near.

    Raises
    ------
    Nothing.
    """
    close = difflib.get_close_matches(str(value), list(known), n=2, cutoff=0.5)
    return f"; the closest: {', '.join(map(repr, close))}" if close else ""


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Return an integer; refuse what is none, or out of range.

    Parameters
    ----------
    name : str
        Of the argument.
    value : object
        What was given.
    low, high : int
        What it must lie within.

    Returns
    -------
    int
        The number.

    Raises
    ------
    TypeError
        If it is no integer.
    ValueError
        If it is out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)
    return int(value)
