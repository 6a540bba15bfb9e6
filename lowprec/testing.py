"""Helpers for tests of low-precision code: every code, the points that matter, comparison of codes, strategies.

Nothing here uses the package's kernels, so that they can be tested with it. `hypothesis` is needed only by the
strategies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as _format
from lowprec.formats import formats as _formats

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["arrays", "assert_codes_equal", "codes", "formats", "points_that_matter", "values"]

_MOST_BITS = 24  # the widest format whose codes are listed one by one
_SAMPLE = 1000  # how many codes stand for a wider format, beside the edges of its binades
_SHOWN = 5  # how many differing elements a message shows


def codes(fmt: str | Format) -> npt.NDArray[Any]:
    """Return every code of a format, ascending.

    Parameters
    ----------
    fmt : str or FloatFormat or IntFormat
        Of at most 24 bits.

    Returns
    -------
    ndarray
        One-dimensional, of the format's `code_dtype`.

    Raises
    ------
    ValueError
        If the format is wider.

    Examples
    --------
    >>> from lowprec import testing
    >>> testing.codes("int2")
    array([0, 1, 2, 3], dtype=uint8)
    """
    fmt = _format(fmt)
    if fmt.bits > _MOST_BITS:
        msg = f"`fmt` must have at most {_MOST_BITS} bits to list its codes, got {fmt.name} with {fmt.bits}."
        raise ValueError(msg)
    return np.arange(2**fmt.bits, dtype=np.uint32).astype(fmt.code_dtype)


def values(fmt: str | Format, codes: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
    """Return the value of every code of a format, by the formula of IEEE 754-2019, 3.4.

    Parameters
    ----------
    fmt : str or FloatFormat or IntFormat
        The format.
    codes : array_like of int, optional
        Which codes; all of them if not given (then at most 24 bits).

    Returns
    -------
    ndarray of float64
        Exact, with signed zeros, infinities and NaN, in the shape of `codes`.

    Raises
    ------
    ValueError
        If `codes` is not given and the format is wider than 24 bits.

    Examples
    --------
    >>> from lowprec import testing
    >>> testing.values("e2m1fn")[:8]
    array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. , 6. ])
    """
    fmt = _format(fmt)
    code = np.asarray(_all_codes(fmt) if codes is None else codes).astype(np.uint64).astype(np.int64)
    if isinstance(fmt, IntFormat):
        wraps = (code >= 2 ** (fmt.bits - 1)) & fmt.is_signed
        return np.where(wraps, code - 2**fmt.bits, code).astype(np.float64)
    magnitude = code & (2**fmt.magnitude_bits - 1)
    negative = (code != magnitude) & fmt.is_signed
    exponent, t = magnitude >> fmt.mantissa_bits, magnitude & (2**fmt.mantissa_bits - 1)
    normal = (exponent > 0) | (not fmt.has_zero)
    significand = np.where(normal, t + 2**fmt.mantissa_bits, t).astype(np.float64)
    exponent = np.maximum(exponent, int(fmt.has_zero)) - fmt.bias
    finite = magnitude <= fmt.max_code
    with np.errstate(over="ignore", under="ignore"):
        value = np.ldexp(significand, np.where(finite, exponent, 0) - fmt.mantissa_bits)
    value = np.where(finite, value, np.nan)
    if fmt.inf_code is not None:
        value = np.where(magnitude == fmt.inf_code, np.inf, value)
    value = np.where(negative, -value, value)
    if fmt.nan == "negative_zero":
        value = np.where(code == fmt.nan_code, np.nan, value)
    return np.asarray(value)


def points_that_matter(fmt: str | Format, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
    """Return the numbers at which a rounding into a format can go wrong.

    Parameters
    ----------
    fmt : str or FloatFormat or IntFormat
        The target.
    dtype : dtype
        ``float16``, ``float32`` or ``float64``: what the points are given in.

    Returns
    -------
    ndarray
        One-dimensional, without repeats, the same on every call: all finite values of both signs (for an unsigned
        format too), the midpoints between neighbours, the largest value, the next one that an unbounded exponent
        range would have and the midpoint between them, half the smallest value; of each of these the two
        neighbours in `dtype`; zeros, infinities, NaN, huge numbers and subnormals of `dtype`. A format of more than
        16 bits is represented by 1,000 of its codes, drawn with a fixed seed, and the edges of all its binades.

    Raises
    ------
    TypeError
        If `dtype` is none of the three.

    Examples
    --------
    >>> from lowprec import testing
    >>> x = testing.points_that_matter("e2m1fn")
    >>> bool(np.isin([2.5, 6.0, 7.0, np.nextafter(2.5, 0), 0.25, np.inf], x).all())
    True
    """
    fmt = _format(fmt)
    dtype = np.dtype(dtype)
    if dtype not in (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)):
        msg = f"`dtype` must be float16, float32 or float64, got {dtype}."
        raise TypeError(msg)
    low = _magnitude_codes(fmt)
    value, following = values(fmt, low), values(fmt, np.minimum(low + 1, fmt.max_code))
    gap = 1.0 if isinstance(fmt, IntFormat) else 2.0 ** (fmt.emax - fmt.mantissa_bits)
    info = np.finfo(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        exact = np.concatenate([
            value,
            value / 2 + following / 2,  # halves first: the sum may overflow
            [fmt.max + gap / 2, fmt.max + gap, fmt.max + 1.5 * gap, fmt.max * 2, fmt.max * 1024],
            [fmt.smallest_subnormal / 2, fmt.smallest_subnormal / 4, fmt.smallest_normal, 0.49999997, 0.5, 1.0],
        ])  # fmt: skip
        exact = exact.astype(dtype)
    exact = exact[np.isfinite(exact)]
    inf = np.array(np.inf, dtype=dtype)
    with np.errstate(over="ignore", under="ignore"):
        around = np.concatenate([exact, np.nextafter(exact, inf), np.nextafter(exact, -inf)])
    ends = [0.0, info.max, info.max / 2, info.smallest_normal, info.smallest_subnormal, 3 * info.smallest_subnormal]
    special = np.array([*ends, info.smallest_normal - info.smallest_subnormal, np.inf], dtype=dtype)
    points = np.concatenate([around, special])
    points = np.concatenate([points, -points, np.array([np.nan], dtype=dtype)])
    bits = np.dtype(f"u{dtype.itemsize}")
    return np.unique(points.view(bits)).view(dtype)


def assert_codes_equal(
    got: npt.ArrayLike, want: npt.ArrayLike, fmt: str | Format, *, source: npt.ArrayLike | None = None
) -> None:
    """Raise unless two arrays of codes are the same, all codes of NaN counting as one.

    Parameters
    ----------
    got, want : array_like of unsigned int
        Codes, in arrays of one shape.
    fmt : str or FloatFormat or IntFormat
        Their format, for NaN and for the message.
    source : array_like, optional
        What was encoded, for the message.

    Returns
    -------
    None
        If they agree.

    Raises
    ------
    AssertionError
        If shapes or codes differ; the message shows the first differing elements as code, bits and value.

    Examples
    --------
    >>> from lowprec import testing
    >>> testing.assert_codes_equal([0x7F], [0xFF], "e4m3fn")
    >>> testing.assert_codes_equal([0x38, 0x39], [0x38, 0x3A], "e4m3fn")
    Traceback (most recent call last):
    ...
    AssertionError: 1 of 2 codes of float8_e4m3fn differ
      [1]  got 0x39 = 0 0111 001 = 1.125  want 0x3a = 0 0111 010 = 1.25
    """
    fmt = _format(fmt)
    a, b = np.asarray(got), np.asarray(want)
    if a.shape != b.shape:
        msg = f"shapes differ: got {a.shape}, want {b.shape}"
        raise AssertionError(msg)
    a, b = a.astype(np.uint64), b.astype(np.uint64)
    known = np.uint64(2**fmt.bits - 1)
    differ = a != b
    both_known = (a <= known) & (b <= known)
    differ &= ~(both_known & np.isnan(values(fmt, a & known)) & np.isnan(values(fmt, b & known)))
    if not differ.any():
        return
    lines = [f"{np.count_nonzero(differ)} of {differ.size} codes of {fmt.name} differ"]
    for index in np.argwhere(differ)[:_SHOWN]:
        i = tuple(int(n) for n in index)
        line = f"  {list(i)}  got {_shown(int(a[i]), fmt)}  want {_shown(int(b[i]), fmt)}"
        if source is not None:
            x = np.asarray(source)[i]
            line += f"  from {x!r}" + (f" = {float(x).hex()}" if np.asarray(x).dtype.kind == "f" else "")
        lines.append(line)
    raise AssertionError("\n".join(lines))


def formats(*, custom: bool = True) -> SearchStrategy[Format]:
    """Return a hypothesis strategy of formats: those of the table, and random custom ones.

    Parameters
    ----------
    custom : bool
        Whether to make custom formats (of at most 8 exponent and 12 mantissa bits).

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of FloatFormat and IntFormat.

    Raises
    ------
    ModuleNotFoundError
        If hypothesis is not installed.

    Examples
    --------
    >>> from lowprec import testing
    >>> strategy = testing.formats()
    """
    from hypothesis import strategies as st

    @st.composite
    def make(draw: Any) -> FloatFormat:
        """Draw facts until they agree with each other."""
        exponent_bits, mantissa_bits = draw(st.integers(1, 8)), draw(st.integers(0, 12))
        nan = draw(st.sampled_from(["ieee", "all_ones", "negative_zero", "none"]))
        facts = {
            "bias": draw(st.none() | st.integers(-20, 140)),
            "has_inf": nan == "ieee" or draw(st.booleans()),
            "is_signed": draw(st.booleans()),
            "has_zero": draw(st.booleans()),
        }
        try:
            return FloatFormat(exponent_bits=exponent_bits, mantissa_bits=mantissa_bits, nan=nan, **facts)
        except ValueError:
            from hypothesis import reject

            return reject()

    table = st.sampled_from(_formats())
    integers = st.builds(
        lambda bits, is_signed: IntFormat(bits=bits, is_signed=is_signed), st.integers(1, 32), st.booleans()
    )
    return st.one_of(table, make(), integers) if custom else table


def arrays(
    fmt: str | Format, *, dtype: npt.DTypeLike = np.float64, max_side: int = 6
) -> SearchStrategy[npt.NDArray[Any]]:
    """Return a hypothesis strategy of arrays of sources for a format.

    Parameters
    ----------
    fmt : str or FloatFormat or IntFormat
        The target. NaN is left out where it has none.
    dtype : dtype
        ``float16``, ``float32`` or ``float64``.
    max_side : int
        The largest length of an axis.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of arrays of zero to three axes, some empty, made of `points_that_matter` and of arbitrary floats.

    Raises
    ------
    ModuleNotFoundError
        If hypothesis is not installed.

    Examples
    --------
    >>> from lowprec import testing
    >>> strategy = testing.arrays("bf16", dtype=np.float32)
    """
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    fmt, dtype = _format(fmt), np.dtype(dtype)
    points = points_that_matter(fmt, dtype)
    points = points if fmt.has_nan else points[~np.isnan(points)]
    element = st.sampled_from(points.tolist()) | st.floats(width=dtype.itemsize * 8, allow_nan=fmt.has_nan)  # type: ignore[arg-type]
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=max_side), elements=element)


def _all_codes(fmt: Format) -> npt.NDArray[Any]:
    """Return `codes`, under a name that no argument hides."""
    return codes(fmt)


def _magnitude_codes(fmt: Format) -> npt.NDArray[np.int64]:
    """Return the codes of the finite magnitudes, ascending; of more than 16 bits only some."""
    if fmt.bits <= 16:
        return np.arange(fmt.max_code + 1, dtype=np.int64)
    m = fmt.mantissa_bits
    edges = [k << m for k in range(fmt.exponent_bits and (fmt.max_code >> m) + 1)]
    edges += [1 << k for k in range(m)]
    some = np.random.default_rng(0).integers(0, fmt.max_code + 1, _SAMPLE)
    near = [edge + step for edge in [*edges, fmt.max_code] for step in (-2, -1, 0, 1, 2)]
    chosen = np.unique(np.concatenate([some, np.array(near, dtype=np.int64)]))
    return chosen[(chosen >= 0) & (chosen <= fmt.max_code)]


def _shown(code: int, fmt: Format) -> str:
    """Return a code as hexadecimal, fields and value."""
    hexadecimal = f"{code:#0{2 + -(-fmt.bits // 4)}x}"
    if code >= 2**fmt.bits:
        return f"{hexadecimal} (more than {fmt.bits} bits)"
    bits = f"{code:0{fmt.bits}b}"
    if isinstance(fmt, FloatFormat):
        s, e = int(fmt.is_signed), int(fmt.is_signed) + fmt.exponent_bits
        bits = " ".join(part for part in (bits[:s], bits[s:e], bits[e:]) if part)
    return f"{hexadecimal} = {bits} = {float(values(fmt, code))!r}"
