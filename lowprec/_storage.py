"""QuantizedArray as plain arrays, and back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from lowprec._checks import Array
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.codec import unpack
from lowprec.formats import FloatFormat, IntFormat, stored_format
from lowprec.formats import format as resolve

if TYPE_CHECKING:
    from lowprec.arrays import QuantizedArray

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (FloatFormat, IntFormat, CodebookFormat)}
_VERSION = 1
_FORM = "lowprec.QuantizedArray"


def _described(fmt: ElementFormat) -> Any:
    """Return a format as JSON: the name of one in the table, all fields of another."""
    try:
        if not isinstance(fmt, CodebookFormat) and resolve(fmt.name) == fmt:
            return fmt.name
    except ValueError:
        pass
    kept = {each.name: getattr(fmt, each.name) for each in fields(fmt) if each.compare}
    return {"kind": type(fmt).__name__, **kept}


def _format(described: Any) -> ElementFormat:
    """Return the format that `_described` wrote down."""
    if isinstance(described, str):
        return resolve(described)
    facts = dict(described)
    return _KINDS[facts.pop("kind")](**facts)  # type: ignore[no-any-return]


def plain_bits(array: Array) -> tuple[Array, str]:
    """Return an array in a dtype that every file format knows, and the name of its own."""
    fmt = stored_format(array.dtype)
    name = str(array.dtype) if fmt is None else fmt.name
    if array.dtype.type.__module__ != "numpy":
        array = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return np.ascontiguousarray(array).reshape(array.shape), name


def to_arrays(q: QuantizedArray, prefix: str = "") -> dict[str, Array]:
    """Return what `QuantizedArray.to_arrays` promises."""
    if not isinstance(prefix, str):
        msg = f"`prefix` must be a string, got {prefix!r} of type {type(prefix).__name__}."
        raise TypeError(msg)
    scale, scale_name = plain_bits(q.scale)
    facts: dict[str, Any] = {
        "form": _FORM,
        "version": _VERSION,
        "shape": q.shape,
        "format": _described(q.format),
        "scale": scale_name,
        "axis": q.axis,
        "block_size": q.block_size,
        "recipe": q.recipe,
    }
    arrays = {"codes": q.packed, "scale": scale}
    if q.tensor_scale is not None:
        facts["tensor_scale"] = float(q.tensor_scale)
    if q.zero_point is not None:
        arrays["zero_point"] = np.ascontiguousarray(q.zero_point).reshape(q.zero_point.shape)
    if q.offset is not None:
        arrays["offset"], facts["offset"] = plain_bits(q.offset)
    text = json.dumps(facts).encode()
    arrays["facts"] = np.frombuffer(text, np.uint8)
    return {prefix + name: array for name, array in arrays.items()}


def from_arrays(make: type[QuantizedArray], arrays: Any, prefix: str = "") -> QuantizedArray:
    """Return what `QuantizedArray.from_arrays` promises."""

    def get(name: str) -> Array:
        """Return an array, or say that it is missing."""
        if prefix + name not in arrays:
            msg = (
                f"`arrays` must have {prefix + name!r}, got {sorted(arrays)[:8]}; pass the prefix that was saved with."
            )
            raise ValueError(msg)
        return np.asarray(arrays[prefix + name])

    try:
        facts = json.loads(get("facts").tobytes())
        right = isinstance(facts, dict) and facts.get("form") == _FORM
    except (UnicodeDecodeError, json.JSONDecodeError):
        right = False
    if not right:
        msg = f"`arrays` must hold a QuantizedArray under the prefix {prefix!r}, got facts that are none."
        raise ValueError(msg)
    if facts["version"] != _VERSION:
        msg = f"`arrays` must be of version {_VERSION}, got {facts['version']}; load it with the lowprec that saved it."
        raise ValueError(msg)
    fmt, shape = _format(facts["format"]), tuple(facts["shape"])
    size = int(np.prod(shape, dtype=np.int64))

    def several(name: str) -> Any:
        """Return a number, or the numbers of a list as a tuple."""
        return tuple(facts[name]) if isinstance(facts[name], list) else facts[name]

    return make(
        unpack(get("codes"), fmt, size).reshape(shape),
        own_dtype(get("scale"), facts["scale"]),
        get("zero_point") if prefix + "zero_point" in arrays else None,
        format=fmt,
        axis=several("axis"),
        block_size=several("block_size"),
        tensor_scale=facts.get("tensor_scale"),
        offset=own_dtype(get("offset"), facts["offset"]) if "offset" in facts else None,
        recipe=facts["recipe"],
    )


def own_dtype(array: Array, name: str) -> Array:
    """Return numbers in their own dtype again."""
    fmt = resolve(name)
    dtype = np.dtype(name) if fmt.storage_dtype is None else fmt.storage_dtype
    return array if array.dtype == dtype else array.view(dtype)
