"""encode, decode, round_to, cast, pack, unpack: between numbers and the codes of a format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lowprec import _checks, _threads
from lowprec._checks import Array, Modes, Source
from lowprec._rules import POWER_THRESHOLD, bare_powers, decode_width, fits, make_decoding, make_rule, rule_width
from lowprec.codebooks import CodebookFormat, element_of
from lowprec.formats import Format, IntFormat
from lowprec.kernels import codec as kernels
from lowprec.rounding import Rounding

_CHUNK = 1 << 18
_MANY = 1 << 14  # codes below which packing does not call kernels that might have to be compiled


def _each_chunk(work: Callable[[slice, int], object], size: int) -> None:
    """Call ``work(slice, start)`` for every chunk of a long array, on all threads."""
    count = -(-size // _CHUNK)
    if count <= 1:
        work(slice(0, size), 0)
        return
    pieces = _threads.Pieces(count)

    def task() -> None:
        for piece in pieces:
            work(slice(piece * _CHUNK, min(size, (piece + 1) * _CHUNK)), piece * _CHUNK)

    _threads.share(task, min(count, _threads.get_num_threads()))


def _refuse_nan(values: Array, fmt: Format, name: str) -> None:
    """Raise if there is a NaN for a format without one."""
    found: list[bool] = []
    flat = values.reshape(-1)
    _each_chunk(lambda part, _: found.append(bool(kernels.any_nan(flat[part]))), flat.size)
    if any(found):
        msg = f"`{name}` must hold no NaN for `{fmt}`, which has none; replace it first, for example by np.nan_to_num."
        raise ValueError(msg)


def _words(values: Array) -> Array:
    """View floats as their bits."""
    return values.view(np.uint32 if values.dtype.itemsize == 4 else np.uint64)


def _too_fine(src: Source, fmt: Format, modes: Modes) -> bool:
    """Say whether sources rounded to odd would not be enough, so that the reference has to do it."""
    if src.exact is None:
        return False
    extra = modes.random_bits if modes.rounding is Rounding.STOCHASTIC else 2
    return not isinstance(fmt, IntFormat) and fmt.precision + extra > 53


def _by_reference(src: Source, fmt: Format, modes: Modes, seed: int, function: str) -> list[Any]:
    """Round element by element with the specification's function of that name."""
    from lowprec import reference  # rarely needed, and not on the way of an import

    elements = src.exact if src.exact is not None else src.values
    stochastic = modes.rounding is Rounding.STOCHASTIC
    return [
        getattr(reference, function)(
            _checks.exactly(value),
            fmt,
            rounding=modes.rounding,
            overflow=modes.overflow,
            subnormals=modes.subnormals,
            word=reference.random_word(seed, index) if stochastic else None,
            random_bits=modes.random_bits,
        )
        for index, value in enumerate(elements.flat)
    ]


def round_into(
    values: Array, out: Array, fmt: Format, modes: Modes, seed: int, *, codes: bool, stream: int = 0
) -> None:
    """Round contiguous float32 or float64 numbers into a contiguous array of codes, or of values of the same dtype."""
    flat, target = values.reshape(-1), out.reshape(-1)
    width = 64 if flat.dtype == np.float64 else rule_width(fmt)
    if modes.rounding is Rounding.STOCHASTIC:
        rule = make_rule(fmt, 64, modes, codes)
        drawn = kernels.encode_stochastic if codes else kernels.round_stochastic
        key, bits = np.uint64(seed), np.uint64(modes.random_bits)

        def work(part: slice, start: int) -> None:
            drawn(flat[part], target[part], rule, key, np.uint64(start), np.uint64(stream), bits)

        _each_chunk(work, flat.size)
        return
    if flat.dtype == np.float32 and bare_powers(fmt):
        rule = make_rule(fmt, 64, modes, True).astype(np.uint32)
        threshold = np.uint32(POWER_THRESHOLD[modes.rounding])
        powers = kernels.encode_powers if codes else kernels.round_powers
        words, target = _words(flat), target if codes else _words(target)
        _each_chunk(lambda part, _: powers(words[part], target[part], rule, threshold), flat.size)
        return
    rule = make_rule(fmt, width, modes, codes)
    if width == 64 and flat.dtype == np.float32:
        wide = kernels.encode_wide if codes else kernels.round_wide
        _each_chunk(lambda part, _: wide(flat[part], target[part], rule), flat.size)
        return
    words = _words(flat)
    target = target if codes else _words(target)
    if not codes and words.ctypes.data == target.ctypes.data:
        _each_chunk(lambda part, _: kernels.round_in_place(target[part], rule), words.size)
    else:
        kernel = kernels.encode_array if codes else kernels.round_array
        _each_chunk(lambda part, _: kernel(words[part], target[part], rule), words.size)


def _same_place(x: Array, out: Array) -> bool:
    """Say whether two arrays are the same elements in the same order."""
    return x.ctypes.data == out.ctypes.data and x.strides == out.strides and x.shape == out.shape


def encode(
    x: ArrayLike,
    fmt: Any,
    *,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Round numbers to a format and return their codes.

    Every source rounds once: float64, extended, integer and Python-int sources too.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape, strides and byte order: float16, float32, float64 or longer, integers, booleans,
        ml_dtypes types, Python ints of any size.
    fmt : str, FloatFormat, IntFormat or dtype
        The format.
    rounding : str or Rounding
        `Rounding` defines the seven modes.
    overflow : str or Overflow, optional
        ``"inf"``, ``"nan"`` or ``"saturate"``; by default the first of these that the format can express.
    subnormals : str or Subnormals
        ``"keep"``, ``"flush"`` (results) or ``"flush_inputs"``.
    rng : int or numpy.random.Generator, optional
        Seed of stochastic rounding, needed there: the result depends on seed and element index only. A generator
        gives one seed.
    random_bits : int
        How many random bits stochastic rounding compares with, 1 to 32.
    out : ndarray, optional
        Where to put the codes, of the shape of `x` and dtype ``fmt.code_dtype``; must not overlap `x`.

    Returns
    -------
    ndarray of uint8, uint16, uint32 or uint64
        Codes in the low bits, with the shape of `x`; a scalar for a 0-d source.

    Raises
    ------
    TypeError
        If `x` holds no real numbers, `out` has another dtype, or an argument is of the wrong kind.
    ValueError
        If a name is unknown, the format cannot express `overflow`, `x` holds NaN and the format has none, `rng` is
        missing for stochastic rounding, or `out` has another shape, is read-only or overlaps `x`. `out` is then
        untouched.

    Notes
    -----
    NaN becomes the canonical NaN, ``fmt.nan_code``: sign and payload are dropped. Formats without -0 give +0.
    A negative number that an unsigned format cannot hold becomes NaN, or its smallest value under ``"saturate"``.

    References
    ----------
    IEEE 754-2019, clauses 4.3 and 7.4; OCP OFP8 specification 1.0, section 5.2.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.encode([1.0, 448.0, 1000.0], "e4m3fn")
    array([ 56, 126, 127], dtype=uint8)
    >>> lp.encode(1000.0, "e4m3fn", overflow="saturate")
    np.uint8(126)
    """
    how = _checks.modes(rounding, overflow, subnormals, random_bits)
    if isinstance(fmt, CodebookFormat):
        return _by_table(fmt.encode(x), fmt, how, out)
    form = _checks.fmt_of(fmt, "fmt")
    _checks.policy(form, how.overflow)
    seed = _checks.seed(rng, how.rounding)
    src = _checks.source(x, "x")
    shape = src.values.shape
    result = None if out is None else _checks.writable(out, shape, form.code_dtype)
    if result is not None and _checks.overlap(result, src.values):
        msg = "`out` must not overlap `x`, got arrays that share memory; pass another array."
        raise ValueError(msg)
    if not form.has_nan:
        _refuse_nan(np.ascontiguousarray(src.values), form, "x")
    direct = result is not None and result.flags.c_contiguous
    target = result if result is not None and direct else np.empty(shape, form.code_dtype)
    if _too_fine(src, form, how):
        codes = _by_reference(src, form, how, seed, "encode")
        target[...] = np.array(codes, form.code_dtype).reshape(shape)
    else:
        round_into(np.ascontiguousarray(src.values), target, form, how, seed, codes=True)
    if result is None:
        return target[()]
    if not direct:
        result[...] = target
    return result


def round_to(
    x: ArrayLike,
    fmt: Any,
    *,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
    out: Array | None = None,
) -> Any:
    """Round numbers to a format and return the values (fake quantisation).

    Equal to ``decode(encode(x, ...))``, in one pass.

    Parameters
    ----------
    x, fmt, rounding, overflow, subnormals, rng, random_bits
        As in `encode`.
    out : ndarray, optional
        Where to put the result, of the result's shape and dtype; may be `x` itself.

    Returns
    -------
    ndarray of float
        float32 for float32 sources, float64 for float64 and integer ones; float16 for float16 if that holds every
        value of the format, else float32; float32 for ml_dtypes sources. A scalar for a 0-d source. In a custom
        format whose exponents float32 lacks, a float32 source may round to a value that float32 shows as infinity.

    Raises
    ------
    TypeError
        If `x` holds no real numbers, `out` has another dtype, or an argument is of the wrong kind.
    ValueError
        As `encode`; or if `out` has another shape or is read-only. `out` is then untouched.

    Notes
    -----
    NaN results are the canonical quiet NaN. See `encode` for the rest.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.round_to([0.1, 3.14159], "bf16")
    array([0.10009766, 3.140625  ])
    >>> lp.round_to(0.1, "bf16", rounding="toward_zero")
    np.float64(0.099609375)
    """
    form = _checks.fmt_of(fmt, "fmt")
    how = _checks.modes(rounding, overflow, subnormals, random_bits)
    _checks.policy(form, how.overflow)
    seed = _checks.seed(rng, how.rounding)
    src = _checks.source(x, "x")
    values = src.values
    dtype = _result_dtype(src, form)
    result = None if out is None else _checks.writable(out, values.shape, dtype)
    if result is not None and not _same_place(values, result) and _checks.overlap(values, result):
        msg = "`out` must be `x` itself or must not overlap it, got arrays that share memory; pass another array."
        raise ValueError(msg)
    if not form.has_nan:
        _refuse_nan(np.ascontiguousarray(values), form, "x")
    target = result
    if target is None or not target.flags.c_contiguous or not target.dtype.isnative or target.dtype != values.dtype:
        target = np.empty(values.shape, values.dtype)
    if _too_fine(src, form, how):
        target[...] = np.array(_by_reference(src, form, how, seed, "round_to"), dtype).reshape(values.shape)
    else:
        round_into(np.ascontiguousarray(values), target, form, how, seed, codes=False)
    if result is None:
        return target.astype(dtype, copy=False)[()]
    if result is not target:
        result[...] = target
    return result


def _result_dtype(src: Source, fmt: Format) -> np.dtype[Any]:
    """Return the dtype that `round_to` answers in."""
    if src.dtype is None or src.dtype == np.float64:
        return np.dtype(np.float64)
    if src.dtype == np.float16 and fits(fmt, src.dtype):
        return src.dtype
    return np.dtype(np.float32)


def decode(codes: ArrayLike, fmt: Any, *, dtype: Any = np.float32, out: Array | None = None) -> Any:
    """Return the values of codes. Exact.

    Parameters
    ----------
    codes : array_like of unsigned integers
        Codes in the low bits, of any shape. Bits above the format's width must be 0.
    fmt : str, FloatFormat, IntFormat or dtype
        The format.
    dtype : dtype
        float32, float64 or float16.
    out : ndarray, optional
        Where to put the values, of the shape of `codes` and of `dtype`; must not overlap `codes`.

    Returns
    -------
    ndarray of `dtype`
        With the shape of `codes`; a scalar for a 0-d source. Every NaN code gives the canonical quiet NaN.

    Raises
    ------
    TypeError
        If `codes` is not an integer array, `dtype` is another, or `out` has another dtype.
    ValueError
        If a code is out of range, `dtype` cannot hold every value of the format, or `out` has another shape, is
        read-only or overlaps `codes`.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.decode([56, 126, 127], "e4m3fn")
    array([  1., 448.,  nan], dtype=float32)
    """
    target = np.dtype(dtype)
    if target not in (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)):
        msg = f"`dtype` must be float16, float32 or float64, got {target}; convert the result with astype."
        raise TypeError(msg)
    if isinstance(fmt, CodebookFormat):
        return _by_table(fmt.decode(codes, target), fmt, None, out)
    form = _checks.fmt_of(fmt, "fmt")
    if not fits(form, target):
        wider = "float32" if fits(form, np.dtype(np.float32)) else "float64"
        msg = f"`dtype` must hold every value of `{form}`, got {target}; pass dtype=np.{wider}."
        raise ValueError(msg)
    array = _checked_codes(codes, form)
    place = None if out is None else _checks.writable(out, array.shape, target)
    if place is not None and _checks.overlap(place, array):
        msg = "`out` must not overlap `codes`, got arrays that share memory; pass another array."
        raise ValueError(msg)
    if target.itemsize == 2 or (place is not None and not place.flags.c_contiguous):
        values = np.asarray(decode(codes, form, dtype=np.float32 if target.itemsize == 2 else target)).astype(target)
        if place is None:
            return values[()]
        place[...] = values
        return place
    values = np.empty(array.shape, target) if place is None else place
    flat, result = np.ascontiguousarray(array).reshape(-1), values.reshape(-1)
    if isinstance(form, IntFormat):
        sign = 1 << (form.bits - 1) if form.is_signed else 1 << form.bits
        _each_chunk(
            lambda part, _: kernels.decode_integer(flat[part], result[part], sign, 1 << form.bits),
            flat.size,
        )
    elif target.itemsize == 4 and decode_width(form) == 32:
        decoding = make_decoding(form, 32)
        words = result.view(np.uint32)
        _each_chunk(lambda part, _: kernels.decode_32(flat[part], words[part], decoding), flat.size)
    else:
        wide = np.empty(flat.shape, np.float64) if target.itemsize == 4 else result
        decoding = make_decoding(form, 64)
        words = wide.view(np.uint64)
        _each_chunk(lambda part, _: kernels.decode_64(flat[part], words[part], decoding), flat.size)
        if wide is not result:
            result[...] = wide
    return values[()] if place is None else place


def _by_table(found: Array, fmt: CodebookFormat, how: Modes | None, out: Any) -> Any:
    """Return what a codebook gives, in ``out`` if that is asked for; it has one rounding only."""
    if how is not None and (how.rounding is not Rounding.NEAREST_EVEN or str(how.overflow or "saturate") != "saturate"):
        msg = f"`rounding` and `overflow` must be left at nearest and saturate for the codebook `{fmt}`, got {how}."
        raise ValueError(msg)
    if out is None:
        return found[()]
    _checks.writable(out, found.shape, found.dtype)[...] = found
    return out


def _largest(array: Array) -> int:
    """Return the largest of some unsigned integers."""
    if not array.flags.c_contiguous or not array.dtype.isnative:
        return int(array.max())
    flat = array.reshape(-1)
    found: list[int] = []
    _each_chunk(lambda part, _: found.append(int(flat[part].max())), flat.size)
    return max(found)


def _checked_codes(codes: ArrayLike, fmt: Format | CodebookFormat) -> Array:
    """Return codes in the format's code dtype, or raise."""
    array = np.asarray(codes)
    if array.dtype.kind not in "iu" and not (array.size == 0 and array.dtype.kind == "f"):
        msg = (
            f"`codes` must be unsigned integers, got dtype {array.dtype}; view a storage array with "
            f".view(np.{fmt.code_dtype}), or encode values first."
        )
        raise TypeError(msg)
    if array.size and array.dtype.itemsize * 8 > fmt.bits - int(array.dtype.kind == "i"):
        low, high = (0, _largest(array)) if array.dtype.kind == "u" else (int(array.min()), int(array.max()))
        if low < 0 or high >> fmt.bits:
            msg = f"`codes` must be from 0 to {2**fmt.bits - 1} for `{fmt}`, got {low if low < 0 else high}."
            raise ValueError(msg)
    return array.astype(fmt.code_dtype, copy=False)


def cast(
    x: ArrayLike,
    fmt: Any,
    *,
    rounding: str = "nearest_even",
    overflow: str | None = None,
    subnormals: str = "keep",
    rng: Any = None,
    random_bits: int = 32,
) -> Any:
    """Round numbers to a format and return them in its NumPy or ml_dtypes storage dtype.

    Unlike ``x.astype(...)`` of ml_dtypes, float64 and integer sources round once, and every rounding mode and
    overflow policy is there.

    Parameters
    ----------
    x, fmt, rounding, overflow, subnormals, rng, random_bits
        As in `encode`.

    Returns
    -------
    ndarray of ``fmt.storage_dtype``
        tf32 is stored in float32. A scalar for a 0-d source.

    Raises
    ------
    TypeError
        As `encode`.
    ValueError
        As `encode`; or if no dtype stores the format (custom formats).

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.cast([1.0, 3.14159], "bf16")
    array([1, 3.14062], dtype=bfloat16)
    """
    form = _checks.fmt_of(fmt, "fmt")
    storage = form.storage_dtype
    if storage is None:
        msg = f"`fmt` must have a storage dtype, got the custom format `{form}`; use lp.encode or lp.round_to."
        raise ValueError(msg)
    keywords = {"rounding": rounding, "overflow": overflow, "subnormals": subnormals, "random_bits": random_bits}
    if form.name == "tf32":
        values = np.asarray(round_to(x, form, rng=rng, **keywords))  # type: ignore[arg-type]
        return values.astype(np.float32)[()]
    codes = np.asarray(encode(x, form, rng=rng, **keywords))  # type: ignore[arg-type]
    if isinstance(form, IntFormat) and form.is_signed and form.bits < 8:
        codes = decode(codes, form).astype(np.int8)
        return codes.astype(storage)[()]
    return codes.view(storage)[()]


def pack(codes: ArrayLike, fmt: Any) -> Array:
    """Pack codes into bytes without gaps, in C order.

    The bytes are one stream of bits, the least significant bit of each byte first: two 4-bit codes to a byte, the
    first in the low half (as in ONNX and torch's float4_e2m1fn_x2); four 6-bit codes in three bytes; codes of 8, 16
    and 32 bits in little-endian order.

    Parameters
    ----------
    codes : array_like of unsigned integers
        As in `decode`.
    fmt : str, FloatFormat, IntFormat or dtype
        The format.

    Returns
    -------
    ndarray of uint8, shape (ceil(size * bits / 8),)
        Unused bits of the last byte are 0.

    Raises
    ------
    TypeError
        If `codes` is not an integer array.
    ValueError
        If a code is out of range.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.pack([1, 2, 15], "fp4")
    array([33, 15], dtype=uint8)
    """
    form = element_of(fmt, "fmt")
    flat = _checked_codes(codes, form).reshape(-1)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    if form.bits == flat.dtype.itemsize * 8:
        return np.ascontiguousarray(little).view(np.uint8).copy()
    if form.bits < 8 and flat.size >= _MANY:
        from lowprec import _packing  # when needed: most programs never do

        return _packing.packed(np.ascontiguousarray(flat), form.bits)
    if form.bits == 4:
        even = np.zeros(flat.size + flat.size % 2, np.uint8)
        even[: flat.size] = flat
        return even[0::2] | (even[1::2] << 4)
    return np.packbits(_bit_table(little, form.bits), bitorder="little")


def _bit_table(codes: Array, bits: int) -> Array:
    """Return the bits of little-endian codes, shape (size, bits), least significant first."""
    as_bytes = np.ascontiguousarray(codes).view(np.uint8).reshape(codes.size, codes.dtype.itemsize)
    return np.unpackbits(as_bytes, axis=1, count=bits, bitorder="little")


def unpack(data: Any, fmt: Any, count: int) -> Array:
    r"""Unpack the codes that `pack` packed.

    Parameters
    ----------
    data : bytes, bytearray, memoryview or array_like of uint8
        The packed bytes.
    fmt : str, FloatFormat, IntFormat or dtype
        The format.
    count : int
        How many codes there are.

    Returns
    -------
    ndarray of unsigned integers, shape (count,)
        Codes in the format's code dtype.

    Raises
    ------
    TypeError
        If `data` is not bytes, or `count` not an integer.
    ValueError
        If `count` is negative, or `data` has fewer bytes than `count` codes take; more are ignored.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.unpack(b"!\x0f", "fp4", 3)
    array([ 1,  2, 15], dtype=uint8)
    """
    form = element_of(fmt, "fmt")
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        msg = f"`count` must be an integer, got {count!r}; pass how many codes were packed."
        raise TypeError(msg)
    if isinstance(data, (bytes, bytearray, memoryview)):
        data = np.frombuffer(data, np.uint8)
    array = np.asarray(data)
    if array.dtype != np.uint8:
        msg = f"`data` must be bytes or a uint8 array, got dtype {array.dtype}; view it with .view(np.uint8)."
        raise TypeError(msg)
    if count < 0:
        msg = f"`count` must be 0 or more, got {count}; pass how many codes were packed."
        raise ValueError(msg)
    needed = -(-int(count) * form.bits // 8)
    if array.size < needed:
        msg = f"`data` must hold at least {needed} bytes for {count} codes of {form.bits} bits, got {array.size}."
        raise ValueError(msg)
    array = array.reshape(-1)[:needed]
    if form.bits == form.code_dtype.itemsize * 8:
        return np.ascontiguousarray(array.reshape(-1)).view(form.code_dtype.newbyteorder("<")).astype(form.code_dtype)
    if form.bits < 8 and count >= _MANY:
        from lowprec import _packing

        return _packing.unpacked(np.ascontiguousarray(array), form.bits, int(count))
    bits = np.unpackbits(array.reshape(-1), count=int(count) * form.bits, bitorder="little").reshape(-1, form.bits)
    table = np.zeros((int(count), form.code_dtype.itemsize * 8), np.uint8)
    table[:, : form.bits] = bits
    packed = np.packbits(table, axis=1, bitorder="little").reshape(-1)
    return packed.view(form.code_dtype.newbyteorder("<")).astype(form.code_dtype)
