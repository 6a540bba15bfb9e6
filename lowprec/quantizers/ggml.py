"""GGML's block formats: quantised by its own rules, and its bytes."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks
from lowprec._checks import Array
from lowprec.arrays import QuantizedArray
from lowprec.blocks import block_format
from lowprec.formats import FloatFormat, stored_format
from lowprec.quantizers import _ggml_rules as rules

_BLOCK = 32


@dataclass(frozen=True)
class _Layout:
    """How a format's blocks are found and stored: the scale, the minimum, high bits, low bits, in this order."""

    find: Callable[[Array], rules.Found]
    bits: int
    zero_point: int | None = None
    offset: bool = False
    scale_dtype: Any = np.float16

    @property
    def scale_bytes(self) -> int:
        """Bytes of a scale."""
        return int(np.dtype(self.scale_dtype).itemsize)

    @property
    def bytes(self) -> int:
        """Bytes of a block."""
        return self.scale_bytes * (1 + int(self.offset)) + self.bits * _BLOCK // 8


_LAYOUTS = {
    "q8_0": _Layout(rules.symmetric, 8),
    "q4_0": _Layout(partial(rules.signed, bits=4), 4, zero_point=8),
    "q4_1": _Layout(partial(rules.affine, bits=4), 4, offset=True),
    "q5_0": _Layout(partial(rules.signed, bits=5), 5, zero_point=16),
    "q5_1": _Layout(partial(rules.affine, bits=5), 5, offset=True),
    "iq4_nl": _Layout(rules.searched, 4),
    "mxfp4": _Layout(rules.microscaled, 4, scale_dtype=ml_dtypes.float8_e8m0fnu),
}


def quantize_ggml(x: ArrayLike, name: str, *, nonfinite: str = "raise") -> QuantizedArray:
    """Quantise along the last axis as GGML does, to the bit.

    Parameters
    ----------
    x : array_like of real numbers
        Rounded to float32 first, as GGML knows no other source. The last axis must be a multiple of 32.
    name : {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"}
        The format.
    nonfinite : {"raise", "propagate"}
        Whether a block with a NaN or an infinity is refused, or gets the scale NaN.

    Returns
    -------
    QuantizedArray
        With blocks of 32 along the last axis and float16 scales (e8m0 in MXFP4). Q4_0 and Q5_0 have unsigned codes with
        the zero point 8 or 16, and scales of either sign; Q4_1 and Q5_1 have the minimum of the block as `offset`.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers, or `name` is no string.
    ValueError
        If `name` is unknown, the last axis is no multiple of 32, a number is not finite with ``nonfinite="raise"``, or
        a scale or minimum is too large for float16.

    Notes
    -----
    All in float32, d the scale before it is stored in float16 (codes are found with the unrounded one), 1/d one
    division. Q8_0: d = max abs(x) / 127, code = x * (1/d), halves away from 0. Q4_0: d = m / -8 with m the number
    farthest from 0, code = trunc(x * (1/d) + 8.5), 15 at most. Q5_0: the same with 16 and 31. Q4_1: d = (max - min) /
    15, code = trunc((x - min) * (1/d) + 0.5). Q5_1: with 31. IQ4_NL: 16 scales are tried, and the best taken by least
    squares, weights x**2, without an importance matrix, sums in order and without fused multiply-adds. MXFP4: the
    scale rule "floor" by float32 logarithms (where GGML's exponent would wrap around, below 2**-125, the smallest), and
    ties to the smaller magnitude; ``quantize(x, "mxfp4")`` follows the OCP specification instead.

    Blocks of zeros have the scale 0. Where 1/d is beyond float32, d rounds to the scale 0, and the codes are those of
    0; GGML leaves them open.

    GGML, ggml-quants.c (llama.cpp as in llama-cpp-python 0.3.36) and gguf 0.19.0, quants.py.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> q = lp.quantizers.quantize_ggml(np.arange(-16.0, 16.0), "q4_0")
    >>> q.scale, q.codes[:5]
    (array([2.], dtype=float16), array([0, 1, 1, 2, 2], dtype=uint8))
    >>> q.dequantize()[:5]
    array([-16., -14., -14., -12., -12.], dtype=float32)
    """
    word, layout = _layout(name)
    _one_of(nonfinite, ("raise", "propagate"), "nonfinite")
    source = _single(x)
    if source.ndim < 1 or source.shape[-1] % _BLOCK:
        msg = (
            f"`x` must have a last axis that is a multiple of {_BLOCK} for {word}, got shape {source.shape}; "
            "pad it with zeros."
        )
        raise ValueError(msg)
    blocks = np.ascontiguousarray(source).reshape(-1, _BLOCK)
    lost = ~np.isfinite(blocks).all(axis=1)
    if lost.any():
        if nonfinite == "raise":
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(source))[0])
            mend = 'nonfinite="propagate" makes its block NaN'
            msg = f"`x` must be finite in float32, got {source[where]} at {where}; {mend}."
            raise ValueError(msg)
        blocks = np.where(lost[:, None], np.float32(0), blocks)
    codes, scale, least = layout.find(blocks)
    grid = (*source.shape[:-1], source.shape[-1] // _BLOCK)
    scales = _stored(np.where(lost, np.float32(np.nan), scale), layout.scale_dtype, word).reshape(grid)
    offset = None if least is None else _stored(least, layout.scale_dtype, word).reshape(grid)
    return _array(word, layout, codes.reshape(source.shape), scales, offset)


def ggml_bytes(q: QuantizedArray) -> Array:
    """Return the bytes of an array as GGML stores them.

    Parameters
    ----------
    q : QuantizedArray
        As `quantize` makes it with a GGML name, `from_ggml_bytes`, or ``quantize(x, "mxfp4")``: blocks of 32 along the
        last axis.

    Returns
    -------
    ndarray of uint8
        The last axis holds the row's blocks one after the other, of 34 (Q8_0), 18 (Q4_0, IQ4_NL), 20 (Q4_1), 22 (Q5_0),
        24 (Q5_1) or 17 (MXFP4) bytes.

    Raises
    ------
    TypeError
        If `q` is no QuantizedArray.
    ValueError
        If `q` is in none of these formats.

    Notes
    -----
    A block is its scale (float16, little endian; one byte in MXFP4), its minimum (float16, Q4_1 and Q5_1), four bytes
    of fifth bits (Q5_0 and Q5_1), bit j that of element j, then 16 bytes with the low four bits of element j in the low
    nibble and of element j + 16 in the high one; or in Q8_0 32 bytes.

    GGML, ggml-common.h.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> lp.ggml_bytes(lp.quantize(np.arange(-16.0, 16.0), "q4_0"))[:6]
    array([  0,  64, 128, 145, 145, 162], dtype=uint8)
    """
    if not isinstance(q, QuantizedArray):
        msg = f"`q` must be a QuantizedArray, got {type(q).__name__}."
        raise TypeError(msg)
    layout = _LAYOUTS[_name_of(q)]
    blocks = q.codes.reshape(-1, _BLOCK)
    parts: list[Array] = [np.ascontiguousarray(q.scale).reshape(-1, 1).view(np.uint8)]
    if q.offset is not None:
        parts.append(np.ascontiguousarray(q.offset).reshape(-1, 1).view(np.uint8))
    if layout.bits == 8:
        parts.append(blocks)
    else:
        if layout.bits == 5:
            parts.append(np.packbits(blocks >> 4, axis=1, bitorder="little"))
        low = blocks & 15
        parts.append(low[:, : _BLOCK // 2] | (low[:, _BLOCK // 2 :] << 4))
    data = np.concatenate(parts, axis=1)
    return data.reshape(*q.shape[:-1], q.shape[-1] // _BLOCK * layout.bytes)


def from_ggml_bytes(data: ArrayLike | bytes, name: str, shape: tuple[int, ...] | None = None) -> QuantizedArray:
    """Read an array from GGML's bytes.

    Parameters
    ----------
    data : array_like of uint8, or bytes
        Blocks one after the other, such as the data of a GGUF file's tensor.
    name : {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"}
        The format.
    shape : tuple of int, optional
        The shape of the array. That of `data`, with as many elements on the last axis as its bytes hold, if not given.

    Returns
    -------
    QuantizedArray
        With blocks of 32 along the last axis; `ggml_bytes` gives the same bytes back.

    Raises
    ------
    TypeError
        If `data` does not hold bytes, or `name` is no string.
    ValueError
        If `name` is unknown, or the number of bytes does not fit.

    Notes
    -----
    See `ggml_bytes` for the layout. Every byte is kept, and `dequantize` gives GGML's own float32 numbers.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> data = lp.ggml_bytes(lp.quantize(np.arange(-16.0, 16.0), "q4_0"))
    >>> lp.from_ggml_bytes(data, "q4_0").dequantize()[-3:]
    array([14., 14., 14.], dtype=float32)
    """
    word, layout = _layout(name)
    array = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _checks.plain_array(data, "data")
    if array.dtype != np.uint8:
        msg = f"`data` must be of dtype uint8, got {array.dtype}."
        raise TypeError(msg)
    if array.ndim < 1 or array.shape[-1] % layout.bytes:
        msg = f"`data` must have a last axis of blocks of {layout.bytes} bytes for {word}, got shape {array.shape}."
        raise ValueError(msg)
    full = (*array.shape[:-1], array.shape[-1] // layout.bytes * _BLOCK) if shape is None else tuple(shape)
    count = array.size // layout.bytes * _BLOCK
    if not full or full[-1] % _BLOCK or int(np.prod(full)) != count:
        msg = f"`shape` must have {count} elements and a last axis that is a multiple of {_BLOCK}, got {full}."
        raise ValueError(msg)
    blocks = np.ascontiguousarray(array).reshape(-1, layout.bytes)
    grid = (*full[:-1], full[-1] // _BLOCK)
    start = layout.scale_bytes
    scale = np.ascontiguousarray(blocks[:, :start]).view(layout.scale_dtype).reshape(grid)
    offset = None
    if layout.offset:
        offset = np.ascontiguousarray(blocks[:, start : 2 * start]).view(layout.scale_dtype).reshape(grid)
        start *= 2
    if layout.bits == 8:
        codes = blocks[:, start:]
    else:
        low = blocks[:, -_BLOCK // 2 :]
        codes = np.concatenate([low & 15, low >> 4], axis=1)
        if layout.bits == 5:
            codes = codes | np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little") << 4
    return _array(word, layout, codes.reshape(full), scale, offset)


def _layout(name: Any) -> tuple[str, _Layout]:
    """Return a format's name as the table spells it, and its layout."""
    word = _one_of(name, tuple(_LAYOUTS), "name")
    return word, _LAYOUTS[word]


def _one_of(value: Any, words: tuple[str, ...], name: str) -> str:
    """Check a word."""
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    word = value.strip().lower()
    if word not in words:
        close = difflib.get_close_matches(word, words, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r}{hint}"
        raise ValueError(msg)
    return word


def _single(x: ArrayLike) -> Array:
    """Return numbers as float32."""
    array = _checks.plain_array(x, "x")
    if array.dtype.kind not in "fiu" and not isinstance(stored_format(array.dtype.newbyteorder("=")), FloatFormat):
        msg = f"`x` must hold real numbers, got dtype {array.dtype}."
        raise TypeError(msg)
    with np.errstate(over="ignore", under="ignore"):
        return array.astype(np.float32, copy=False)


def _stored(values: Array, dtype: Any, name: str) -> Array:
    """Round scales or minima to the dtype that stores them."""
    with np.errstate(over="ignore", under="ignore"):
        stored = values.astype(dtype)
    if np.isinf(stored.astype(np.float32)).any():
        most = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
        msg = (
            f"`x` must be small enough for the float16 scales of {name}, at most 65504, got one of {most:g}; "
            "divide it first."
        )
        raise ValueError(msg)
    return stored


def _array(name: str, layout: _Layout, codes: Array, scale: Array, offset: Array | None) -> QuantizedArray:
    """Put the parts together."""
    return QuantizedArray(
        codes,
        scale,
        layout.zero_point,
        format=block_format(name).element,
        axis=codes.ndim - 1,
        block_size=_BLOCK,
        offset=offset,
        recipe=name,
    )


def _name_of(q: QuantizedArray) -> str:
    """Return the name of the GGML format that an array is in."""
    if q.axis == q.ndim - 1 and q.block_size == _BLOCK and q.shape[-1] % _BLOCK == 0 and q.tensor_scale is None:
        for name, layout in _LAYOUTS.items():
            if (
                q.format == block_format(name).element
                and q.scale.dtype == layout.scale_dtype
                and (q.offset is not None) == layout.offset
                and (q.offset is None or q.offset.dtype == q.scale.dtype)
                and (
                    q.zero_point is None
                    if layout.zero_point is None
                    else q.zero_point is not None and bool((q.zero_point == layout.zero_point).all())
                )
            ):
                return name
    msg = f"`q` must be in one of the formats {', '.join(_LAYOUTS)}, got {q!r}; lp.quantize(x, 'q4_0') makes one."
    raise ValueError(msg)
