"""Files of arrays: plain, quantised and sparse."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import numpy as np

from lowprec._checks import Array
from lowprec._sparse_storage import FORM, form_of
from lowprec._storage import own_dtype, plain_bits
from lowprec.arrays import QuantizedArray
from lowprec.sparse_arrays import Sparse24


def save(path: str | PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Save arrays, also quantised and sparse ones, in one file.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.npz`` (NumPy) or ``.safetensors`` (needs the package safetensors).
    arrays : mapping of str to QuantizedArray, Sparse24 or array_like
        What to save, by name.

    Raises
    ------
    TypeError
        If `arrays` is no mapping.
    ValueError
        If the path ends otherwise, or a name holds ``::``, which parts names from parts of a `QuantizedArray` or
        `Sparse24`.
    ModuleNotFoundError
        If safetensors is missing.

    Examples
    --------
    >>> import lowprec as lp, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
    >>> lp.save(path, {"w": lp.quantize([[1.0, -2.0]], "int4", axis=0)})
    >>> lp.load(path)["w"].dequantize()
    array([[ 0.8571429, -2.       ]], dtype=float32)
    """
    if not isinstance(arrays, Mapping):
        msg = f"`arrays` must be a mapping of names to arrays, got {type(arrays).__name__}; write {{'w': w}}."
        raise TypeError(msg)
    plain: dict[str, Array] = {}
    for name, array in arrays.items():
        if "::" in name:
            msg = f"`arrays` must have names without '::', got {name!r}; rename it."
            raise ValueError(msg)
        if isinstance(array, (QuantizedArray, Sparse24)):
            plain |= array.to_arrays(f"{name}::")
            continue
        bits, own = plain_bits(np.asarray(array))
        plain[name if bits.dtype == np.asarray(array).dtype else f"{name}::dtype::{own}"] = bits
    if _suffix(path) == ".npz":
        with open(path, "wb") as file:  # noqa: PTH123 - a str is a path as well
            np.savez(file, **plain)  # type: ignore[arg-type]
    else:
        _safetensors().save_file({name: np.array(array, order="C") for name, array in plain.items()}, fspath(path))


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Load what `save` saved.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.npz`` or ``.safetensors``.

    Returns
    -------
    dict of str to ndarray, QuantizedArray or Sparse24
        Equal to what was saved, bit for bit, dtypes of ml_dtypes included.

    Raises
    ------
    ValueError
        If the path ends otherwise or the file's contents are not such.
    ModuleNotFoundError
        If safetensors is missing.

    Notes
    -----
    Nothing in a file is run: pickles are refused.

    Examples
    --------
    >>> import lowprec as lp, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "two.npz"
    >>> lp.save(path, {"bias": [1.0, 2.0], "w": lp.quantize([1.0, 2.0], "mxfp4")})
    >>> lp.load(path)["w"].dequantize()
    array([1., 2.], dtype=float32)
    """
    if _suffix(path) == ".npz":
        with np.load(path, allow_pickle=False) as file:
            plain = {name: file[name] for name in file.files}
    else:
        plain = _safetensors().load_file(fspath(path))
    found: dict[str, Any] = {}
    for name, array in plain.items():
        first, _, rest = name.partition("::")
        if not rest:
            found[name] = array
        elif rest.startswith("dtype::"):
            found[first] = own_dtype(array, rest.removeprefix("dtype::"))
        elif first not in found:
            prefix = f"{first}::"
            sparse = form_of(plain.get(f"{prefix}facts", np.empty(0, np.uint8))) == FORM
            found[first] = (Sparse24 if sparse else QuantizedArray).from_arrays(plain, prefix)
    return found


def _suffix(path: str | PathLike[str]) -> str:
    """Return how a path ends, if that is known here."""
    for known in (".npz", ".safetensors"):
        if fspath(path).endswith(known):
            return known
    msg = f"`path` must end in .npz or .safetensors, got {fspath(path)!r}."
    raise ValueError(msg)


def _safetensors() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        msg = "files that end in .safetensors need the package safetensors; pip install 'lowprec[files]', or use .npz."
        raise ModuleNotFoundError(msg) from None
    return safetensors.numpy
