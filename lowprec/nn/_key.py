"""A text of all fields of a value: equal for equal values, different for any other."""

from __future__ import annotations

import builtins
import enum
import hashlib
import types
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from lowprec.nn._choices import called
from lowprec.rounding import Rounding

_KINDS = 0x3FF  # flags that say what kind of function it is, and not what a module imports from __future__


def canonical(value: Any, seen: tuple[Any, ...] = ()) -> str:
    """Return a text of all fields of a value, and of theirs; `seen`: the functions that it is part of."""
    if isinstance(value, (Rounding, str)):
        return repr(str(value))
    if isinstance(value, np.generic):
        return canonical(value.item(), seen)
    if value is None or isinstance(value, (bool, int, bytes, complex)):
        return repr(value)
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, (tuple, list)):
        return f"({','.join(canonical(each, seen) for each in value)})"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if is_dataclass(value) and not isinstance(value, type):
        inside = ",".join(f"{each.name}={canonical(getattr(value, each.name), seen)}" for each in fields(value))
        does = f",{_of_function(type(value).__call__, seen)}" if callable(value) else ""
        return f"{type(value).__name__}({inside}{does})"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
    return _of_function(value, seen)


def _of_function(function: Any, seen: tuple[Any, ...]) -> str:
    """Return what tells a function from others: its own key, or its code and all that it reads."""
    own = getattr(function, "key", None)
    if isinstance(own, str):
        return f"function {own!r}"
    if function in seen:
        return f"itself {seen.index(function)}"
    if not isinstance(function, types.FunctionType) or function.__closure__:
        first = seen[0] if seen else function
        msg = (
            f"`weights` must have an attribute `key`, a string that tells {called(first)} from other functions, since "
            f"its own code does not say all that it does"
        )
        raise ValueError(msg + (f": it uses {called(function)}." if seen else "."))
    more = (function.__defaults__, tuple(sorted((function.__kwdefaults__ or {}).items())))
    seen = (*seen, function)
    read = []
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__:
            value = function.__globals__[name]
            known = isinstance(value, types.ModuleType)
            read.append(f"{name}=module {value.__name__}" if known else f"{name}={canonical(value, seen)}")
        elif hasattr(builtins, name):
            read.append(name)
    text = ",".join([code_text(function.__code__), canonical(more, seen), *read])
    return f"function {hashlib.sha256(text.encode()).hexdigest()}"


def _names(code: types.CodeType) -> set[str]:
    """Return all names that a function looks up, its inner ones too."""
    found = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found |= _names(const)
    return found


def code_text(code: types.CodeType) -> str:
    """Return a text of compiled code: what it does, not where it stands."""
    consts = ",".join(map(_constant, code.co_consts))
    shape = (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags & _KINDS,
        code.co_exceptiontable,
    )
    return f"code({shape},{code.co_code!r},{consts},{code.co_names},{code.co_varnames},{code.co_freevars})"


def _constant(value: Any) -> str:
    """Return a text of a constant, the same in every process."""
    if isinstance(value, types.CodeType):
        return code_text(value)
    if isinstance(value, frozenset):
        return f"set({','.join(sorted(map(_constant, value)))})"
    if isinstance(value, tuple):
        return f"({','.join(map(_constant, value))})"
    return f"{type(value).__name__} {value!r}"
