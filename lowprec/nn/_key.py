"""A text of all fields of a value: equal for equal values, different for any other."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from lowprec.nn._choices import called
from lowprec.rounding import Rounding


def canonical(value: Any) -> str:
    """Return a text of all fields of a value, and of theirs."""
    if isinstance(value, Rounding) or value is None or isinstance(value, (str, bool, int)):
        return repr(str(value)) if isinstance(value, str) else repr(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(canonical, value))})"
    if is_dataclass(value) and not isinstance(value, type):
        inside = ",".join(f"{each.name}={canonical(getattr(value, each.name))}" for each in fields(value))
        return f"{type(value).__name__}({inside})"
    if callable(value):
        return _of_function(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    return repr(value)


def _of_function(function: Any) -> str:
    """Return what tells a function from others: its own key, or its name and text."""
    own = getattr(function, "key", None)
    if isinstance(own, str):
        return f"function {own}"
    try:
        closed = inspect.getclosurevars(function).nonlocals
        text = inspect.getsource(function)
    except (OSError, TypeError):
        closed, text = {"?": None}, ""
    if closed:
        msg = (
            f"`weights` must have an attribute `key`, a string that tells {called(function)} from other functions, "
            "since its own text does not say all that it does."
        )
        raise ValueError(msg)
    return f"function {function.__module__}.{function.__qualname__} {hashlib.sha256(text.encode()).hexdigest()}"
