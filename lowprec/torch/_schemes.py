"""What a layer computes with, forward and backward: an Arithmetic for every pair of operands."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from lowprec._models import is_stochastic
from lowprec.formats import FloatFormat
from lowprec.nn import Arithmetic
from lowprec.nn._convolution import Plain, multiplied, pair_product, plain
from lowprec.torch._layers import MODEL, OUTSIDE

Role = Literal["activation", "weight", "gradient"]

ARITHMETIC = ("dtype", "accumulator", "weights", "activations", "sparsity", "scales", "scale_rule", "rounding", "seed")
OPTIONS = (*ARITHMETIC, "gradients", "backward")
_GRADIENTS = ("input", "weight")


@dataclass(frozen=True)
class Scheme:
    """How the products of a layer are computed.

    Parameters
    ----------
    forward : Arithmetic
        Of the forward pass.
    backward : Arithmetic or None
        Of the backward pass; None: torch's own.
    to_input, to_weight : format
        Of the gradient that comes in, in the product that gives the gradient of the input, and in that of the weight.

    Raises
    ------
    Nothing.
    """

    forward: Arithmetic
    backward: Arithmetic | None
    to_input: Any
    to_weight: Any

    @cached_property
    def plain(self) -> Plain | None:
        """Arguments of `lowprec.matmul` if the forward pass does nothing else."""
        return plain(self.forward)

    @cached_property
    def products(self) -> Arithmetic:
        """What multiplies operands that came back from storage."""
        return multiplied(self.forward)

    @cached_property
    def labels(self) -> tuple[str, str]:
        """Short names of forward and backward arithmetic for the report."""
        if self.backward is None:
            return self.forward.label, "torch"
        found = []
        for fmt in dict.fromkeys((self.to_input, self.to_weight)):
            pair = multiplied(self.backward, (fmt, self.backward.formats[1]))
            found.append(pair.label)
        return self.forward.label, " | ".join(dict.fromkeys(found))

    @cached_property
    def stores(self) -> bool:
        """Whether weights are stored or pruned before they are multiplied."""
        how = self.forward
        return how.weights is not None or how.sparsity is not None or how.candidate.is_storage

    @cached_property
    def stochastic(self) -> bool:
        """Whether each product draws random numbers."""
        return any(
            how is not None and (str(how.rounding) == "stochastic" or is_stochastic(how._model))
            for how in (self.forward, self.backward)
        )

    def of(self, one: Role, other: Role, backward: bool, result: str = "input") -> Arithmetic:
        """Return what multiplies two operands by their roles, stored weights back from their storage."""
        how = self.backward if backward else self.forward
        if how is None:  # the caller runs torch's own
            msg = "`backward` must be emulated here."
            raise ValueError(msg)
        formats = {"activation": how.formats[0], "weight": how.formats[1]}
        formats["gradient"] = self.to_input if result == "input" else self.to_weight
        return multiplied(how, (formats[one], formats[other]))

    def ways(self, one: Role, other: Role, backward: bool, result: str = "input") -> tuple[Arithmetic, Plain | None]:
        """Return the same, and the arguments of `lowprec.matmul` that it comes to, found once."""
        key = (one, other, backward, result)
        try:
            return self._ways[key]
        except KeyError:
            how = self.of(*key)
            self._ways[key] = how, plain(how)
            return self._ways[key]

    @cached_property
    def _ways(self) -> dict[Any, tuple[Arithmetic, Plain | None]]:
        return {}

    def check(self) -> None:
        """Multiply two numbers in every way that a model would, so that what cannot be is said at once."""
        one = np.ones((1, 1), np.float32)
        pairs: list[tuple[Role, Role, bool, str]] = [("activation", "weight", False, "input")]
        pairs.append(("activation", "activation", False, "input"))
        if self.backward is not None:
            pairs += [("gradient", "weight", True, "input"), ("gradient", "activation", True, "weight")]
        for first, second, backward, result in pairs:
            pair_product(self.of(first, second, backward, result), one, one)


def _word(value: Any, name: str) -> Any:
    """Return a format of gradients."""
    try:
        return Arithmetic(value).formats[0]
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`dtype`", f"`{name}`")) from None


def make(options: Mapping[str, Any]) -> Scheme:
    """Return the scheme of some options of `emulate`, checked."""
    dtype = options.get("dtype", "fp32")
    if isinstance(dtype, Arithmetic):
        changed = {name: options[name] for name in ARITHMETIC[1:] if name in options}
        forward = dtype.with_(**changed) if changed else dtype
    else:
        chosen = {name: options[name] for name in ARITHMETIC if name in options}
        forward = Arithmetic(**({"scales": "none"} | chosen))
    backward = _backward(forward, options.get("backward"))
    gradients = options.get("gradients")
    if backward is None and gradients is not None:
        msg = f"`gradients` must be None with backward='native', which runs torch's own, got {gradients!r}."
        raise ValueError(msg)
    words = dict.fromkeys(_GRADIENTS, gradients)
    if isinstance(gradients, Mapping):
        unknown = [key for key in gradients if key not in _GRADIENTS]
        if unknown:
            msg = f"`gradients` must have the keys 'input' and 'weight', got {unknown[0]!r}."
            raise ValueError(msg)
        words = {name: gradients.get(name) for name in _GRADIENTS}
    own = backward.formats if backward is not None else (None, None)
    formats = {name: own[0] if word is None else _word(word, "gradients") for name, word in words.items()}
    scheme = Scheme(forward, backward, formats["input"], formats["weight"])
    try:
        scheme.check()
    except ValueError as error:
        if gradients is None and options.get("backward") is None:
            raise
        msg = f"`gradients` and `backward` must go with `dtype`: {error}"
        raise ValueError(msg) from None
    return scheme


def _backward(forward: Arithmetic, value: Any) -> Arithmetic | None:
    """Return the arithmetic of the backward pass, without what is done to operands before."""
    if isinstance(value, Arithmetic):
        return multiplied(value)
    if isinstance(value, str) and value == "native":
        return None
    base = multiplied(forward)
    if value is None:
        return base
    if isinstance(value, Mapping):
        own = ("dtype", "accumulator", "scales", "scale_rule", "rounding", "seed")
        unknown = [key for key in value if key not in own]
        if unknown:
            close = difflib.get_close_matches(str(unknown[0]), own, n=2, cutoff=0.4)
            hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
            msg = f"`backward` must have keys of {', '.join(own)}, got {unknown[0]!r}{hint}."
            raise ValueError(msg)
        try:
            return base.with_(**value)
        except (TypeError, ValueError) as error:
            msg = f"`backward` must be an arithmetic: {error}"
            raise type(error)(msg) from None
    msg = f"`backward` must be an Arithmetic, a dict of its arguments, 'native' or None, got {value!r}."
    raise TypeError(msg)


class Rules:
    """Which scheme a layer has: skipped, by the first rule whose pattern fits, or as all others.

    A pattern fits a layer if it fits its name or the name of a layer that holds it.
    """

    def __init__(self, options: Mapping[str, Any], skip: Any, rules: Any) -> None:
        self._patterns: list[tuple[str, Scheme | None]] = [(word, None) for word in _words(skip)]
        if rules is not None and not isinstance(rules, Mapping):
            msg = f"`rules` must be a dict from patterns of layers to dicts of arguments or None, got {rules!r}."
            raise TypeError(msg)
        self.default = make(options)
        for pattern, rule in (rules or {}).items():
            if not isinstance(pattern, str):
                msg = f"`rules` must have strings as patterns, got {pattern!r} of type {type(pattern).__name__}."
                raise TypeError(msg)
            self._patterns.append((pattern, _rule(options, pattern, rule)))
        self._found: dict[str, Scheme | None] = {}
        self._used: set[str] = set()

    def scheme(self, layer: str) -> Scheme | None:
        """Return the scheme of a layer, None if it runs as it is."""
        try:
            return self._found[layer]
        except KeyError:
            pass
        found: Scheme | None = self.default
        names = _with_parents(layer)
        for pattern, scheme in self._patterns:
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                self._used.add(pattern)
                found = scheme
                break
        self._found[layer] = found
        return found

    def unused(self) -> list[str]:
        """Return the patterns that fitted no layer that multiplied."""
        return [pattern for pattern, _ in self._patterns if pattern not in self._used]


@lru_cache(maxsize=4096)
def _with_parents(layer: str) -> tuple[str, ...]:
    """Return a layer's name and those of all that hold it."""
    if layer in (MODEL, OUTSIDE):
        return ("", layer)
    parts = layer.split(".")
    return tuple(".".join(parts[:end]) for end in range(len(parts), 0, -1))


def _words(skip: Any) -> list[str]:
    """Check patterns of layers to be left alone."""
    if isinstance(skip, str):
        return [skip]
    if not isinstance(skip, Iterable):
        msg = f"`skip` must be a pattern of layers or a list of them, got {skip!r} of type {type(skip).__name__}."
        raise TypeError(msg)
    words = list(skip)
    for word in words:
        if not isinstance(word, str):
            msg = f"`skip` must hold strings such as 'lm_head' or 'layers.*', got {word!r} of {type(word).__name__}."
            raise TypeError(msg)
    return words


def _rule(options: Mapping[str, Any], pattern: str, rule: Any) -> Scheme | None:
    """Return the scheme that a rule makes of the options for all layers."""
    if rule is None:
        return None
    if isinstance(rule, (str, FloatFormat, Arithmetic)):
        rule = {"dtype": rule}
    if not isinstance(rule, Mapping):
        msg = f"`rules[{pattern!r}]` must be a dict of arguments, a format, an Arithmetic or None, got {rule!r}."
        raise TypeError(msg)
    unknown = [key for key in rule if key not in OPTIONS]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), OPTIONS, n=2, cutoff=0.4)
        hint = f"; the closest: {', '.join(map(repr, close))}" if close else ""
        msg = f"`rules[{pattern!r}]` must have keys of {', '.join(OPTIONS)}, got {unknown[0]!r}{hint}."
        raise ValueError(msg)
    whole = dict(options)
    if "dtype" in rule and "accumulator" not in rule:
        whole.pop("accumulator", None)  # that of another format
    if "dtype" in rule and any(isinstance(each.get("dtype"), Arithmetic) for each in (rule, whole)):
        whole = {name: value for name, value in whole.items() if name not in ARITHMETIC}
    try:
        return make(whole | dict(rule))
    except (TypeError, ValueError) as error:
        msg = f"`rules[{pattern!r}]` must be a valid choice: {error}"
        raise type(error)(msg) from None
