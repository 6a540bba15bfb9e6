"""Sparse24 as plain arrays, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._checks import Array
from lowprec._storage import own_dtype, plain_bits
from lowprec.arrays import QuantizedArray

if TYPE_CHECKING:
    from lowprec.sparse_arrays import Sparse24

_VERSION = 1
FORM = "lowprec.Sparse24"


def to_arrays(s: Sparse24, prefix: str = "") -> dict[str, Array]:
    """Return what `Sparse24.to_arrays` promises."""
    if not isinstance(prefix, str):
        msg = f"`prefix` must be a string, got {prefix!r} of type {type(prefix).__name__}."
        raise TypeError(msg)
    facts: dict[str, Any] = {
        "form": FORM,
        "version": _VERSION,
        "pattern": s.pattern,
        "axis": s.axis,
        "length": s.shape[s.axis],
        "recipe": s.recipe,
    }
    arrays: dict[str, Array] = {}
    if isinstance(s.values, QuantizedArray):
        arrays |= s.values.to_arrays(f"{prefix}values.")
    else:
        arrays[f"{prefix}values"], facts["values"] = plain_bits(s.values)
    arrays[f"{prefix}nibbles"] = s.nibbles
    arrays[f"{prefix}facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    return arrays


def form_of(facts: Any) -> str:
    """Return what an array of facts says that it describes; nothing if it says nothing."""
    try:
        found = json.loads(np.asarray(facts).tobytes())
    except (UnicodeDecodeError, json.JSONDecodeError):
        return ""
    return str(found.get("form", "")) if isinstance(found, dict) else ""


def from_arrays(arrays: Any, prefix: str = "") -> tuple[Any, Array, dict[str, Any]]:
    """Return values, packed codes and facts."""

    def get(name: str) -> Array:
        """Return an array, or say that it is missing."""
        if prefix + name not in arrays:
            msg = (
                f"`arrays` must have {prefix + name!r}, got {sorted(arrays)[:8]}; pass the prefix that was saved with."
            )
            raise ValueError(msg)
        return np.asarray(arrays[prefix + name])

    if form_of(get("facts")) != FORM:
        msg = f"`arrays` must hold a Sparse24 under the prefix {prefix!r}, got facts that are none."
        raise ValueError(msg)
    facts = json.loads(get("facts").tobytes())
    if facts["version"] != _VERSION:
        msg = f"`arrays` must be of version {_VERSION}, got {facts['version']}; load it with the lowprec that saved it."
        raise ValueError(msg)
    if "values" in facts:
        return own_dtype(get("values"), facts["values"]), get("nibbles"), facts
    return QuantizedArray.from_arrays(arrays, f"{prefix}values."), get("nibbles"), facts
