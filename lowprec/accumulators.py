"""What an accumulator is: frozen models of a sum of products, each with its parameters by name.

A model says how ``c + sum(a[k] * b[k])`` is evaluated: in which order, with which intermediate roundings, in which
format. Models hold no arrays and do no arithmetic; the kernels and, independently of them, `lowprec.reference` do.

References
----------
A short name in a docstring below stands for one of these.

MMA-Sim: Xu et al., MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and Matrix Cores, arXiv:2511.10909.
KM: Khattak, Mikaitis, Accurate Models of NVIDIA Tensor Cores, arXiv:2512.07004.
SDM: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
ARM: Arm Architecture Reference Manual for A-profile, shared pseudocode of BFDOT and BFMMLA.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as resolve
from lowprec.rounding import Overflow, Rounding, Subnormals

_SUM_BITS = 62  # of an aligned integer sum at most
_ROUNDING_WORDS = {"rz": "toward_zero", "rne": "nearest_even"}


def _integer(value: Any, name: str, low: int, high: int) -> int:
    """Check an integer parameter."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"`{name}` must be an integer from {low} to {high}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if not low <= value <= high:
        msg = f"`{name}` must be from {low} to {high}, got {value}."
        raise ValueError(msg)
    return int(value)


def _member(value: Any, kind: Any, name: str, allowed: tuple[Any, ...] | None = None) -> Any:
    """Check a word that names a policy."""
    words = [str(m) for m in (allowed or tuple(kind))]
    if not isinstance(value, str):
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    if value.lower() not in words:
        close = difflib.get_close_matches(value.lower(), words, n=2)
        hint = f"; the closest: {', '.join(map(repr, close))}." if close else "."
        msg = f"`{name}` must be one of {', '.join(words)}, got {value!r}{hint}"
        raise ValueError(msg)
    return kind(value.lower())


def _float_format(value: Any, name: str) -> FloatFormat:
    """Check a format that sums are kept in: signed, with a zero."""
    try:
        fmt = resolve(value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", f"`{name}`", 1)) from None
    if not isinstance(fmt, FloatFormat):
        msg = f"`{name}` must be a float format, got `{fmt}`; for an integer sum use lp.Integer(bits)."
        raise ValueError(msg)
    if not fmt.is_signed or not fmt.has_zero:
        msg = f"`{name}` must be a signed format with a zero, got `{fmt}`, in which sums cannot be kept."
        raise ValueError(msg)
    return fmt


@dataclass(frozen=True, repr=False)
class Accumulator:
    """Base of all models of a sum; make one of its subclasses.

    Raises
    ------
    TypeError
        If it is called itself.

    Notes
    -----
    Models are frozen, hashable, and equal where their parameters are.
    """

    def __post_init__(self) -> None:
        """Refuse to be made."""
        msg = "`Accumulator` must be one of its subclasses, such as lp.Sequential or lp.FusedTruncated."
        raise TypeError(msg)

    @property
    def result_format(self) -> Format | None:
        """Format of the running sum, of ``c`` and of the result; None where the operands or the caller decide."""
        return None

    def _set(self, **values: Any) -> None:
        """Write normalised parameters while the object is made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Return the call that makes the model, parameters at their defaults left out."""
        shown = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value == self._default(each.name):
                continue
            if isinstance(value, (FloatFormat, IntFormat)):
                value = value.name if resolve_or_none(value.name) == value else value
            shown.append(f"{each.name}={(str(value) if isinstance(value, str) else value)!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _default(self, name: str) -> Any:
        """Return what a parameter is when it is not given."""
        made = type(self).__dataclass_fields__[name].default
        is_format = isinstance(made, str) and isinstance(getattr(self, name), (FloatFormat, IntFormat))
        return resolve_or_none(made) if is_format else made


def resolve_or_none(name: Any) -> Format | None:
    """Return the format of a name, or None."""
    try:
        return resolve(name)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True, repr=False)
class Sequential(Accumulator):
    """One product after the other, k ascending, each step rounded to a format.

    With the exact product (``fused=True``), and with the product rounded first (``fused=False``, or `product`)::

        r = c or +0
        for k ascending: r = round(a[k] * b[k] + r)
        for k ascending: r = round(round_product(a[k] * b[k]) + r)

    Parameters
    ----------
    format : str or FloatFormat
        The format of the running sum; ``c`` is rounded to it (nearest even) before the sum starts.
    rounding : str
        A member of `Rounding`, used in every rounding of the sum.
    fused : bool
        Whether the product enters the sum unrounded. False: it is rounded to `product`, or to `format`.
    product : str or FloatFormat, optional
        The format that products are rounded to; it makes `fused` False.
    overflow : str, optional
        A member of `Overflow`, by default the format's own.
    subnormals : {"keep", "flush"}
        Whether results below the smallest normal number survive.
    random_bits : int, optional
        How many random bits ``rounding="stochastic"`` draws: by default 32, or as many as fit with the format's
        precision in 52.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a name is unknown, or the format cannot hold a sum or a NaN that may arise.

    Notes
    -----
    Infinities and NaN follow IEEE 754-2019, 6 and 7.2, and every NaN is canonical. An exact zero sum of operands of
    unlike sign is +0, in ``toward_negative`` -0 (6.3). In stochastic rounding, step k of element i (its index in the
    result, C order) draws word ``k % 4`` of Philox4x32-10 with the counter (i mod 2**32, i div 2**32, 3, k div 4);
    rounding a product draws from stream 4 in place of 3.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.Sequential("fp16", "toward_zero")
    Sequential(format='float16', rounding='toward_zero')
    >>> ones = [1.0] * 4096
    >>> lp.vecdot(ones, ones, dtype="fp16", accumulator=lp.Sequential("fp16"))
    np.float32(2048.0)
    """

    format: FloatFormat = "float32"  # type: ignore[assignment]
    rounding: Rounding = "nearest_even"  # type: ignore[assignment]
    fused: bool = True
    product: FloatFormat | None = None
    overflow: Overflow | None = field(default=None, kw_only=True)
    subnormals: Subnormals = field(default="keep", kw_only=True)  # type: ignore[assignment]
    random_bits: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check and normalise."""
        fmt = _float_format(self.format, "format")
        rounding = _member(self.rounding, Rounding, "rounding")
        if not isinstance(self.fused, (bool, np.bool_)):
            msg = f"`fused` must be True or False, got {self.fused!r}."
            raise TypeError(msg)
        product = None if self.product is None else _float_format(self.product, "product")
        if product is None and not self.fused:
            product = fmt
        overflow = None if self.overflow is None else _member(self.overflow, Overflow, "overflow")
        for each in (fmt, *([] if product is None else [product])):
            if (overflow is Overflow.INF and not each.has_inf) or (overflow is Overflow.NAN and not each.has_nan):
                msg = f"`overflow` must be a policy that `{each}` can express, got {str(overflow)!r}."
                raise ValueError(msg)
        subnormals = _member(self.subnormals, Subnormals, "subnormals", (Subnormals.KEEP, Subnormals.FLUSH))
        bits = self.random_bits
        if rounding is Rounding.STOCHASTIC:
            most = min(32, 52 - max(each.precision for each in (fmt, product or fmt)))
            if most < 1:
                msg = f"`format` must have at most 51 significand bits with stochastic rounding, got `{fmt}`."
                raise ValueError(msg)
            bits = most if bits is None else _integer(bits, "random_bits", 1, most)
        elif bits is not None:
            msg = f'`random_bits` must be None unless rounding="stochastic", got {bits!r}.'
            raise ValueError(msg)
        self._set(format=fmt, rounding=rounding, fused=product is None, product=product, overflow=overflow)
        self._set(subnormals=subnormals, random_bits=bits)

    @property
    def result_format(self) -> FloatFormat:
        """The format of the running sum."""
        return self.format

    def __str__(self) -> str:
        """Say what the model does."""
        how = "fused multiply-add" if self.product is None else f"products rounded to {self.product}, then added"
        rules = [str(self.rounding)]
        rules += [f"{self.random_bits} random bits"] if self.random_bits is not None else []
        rules += [f"overflow {self.overflow}"] if self.overflow is not None else []
        rules += ["subnormals flushed"] if self.subnormals is Subnormals.FLUSH else []
        return f"k ascending, {how}, each step rounded to {self.format} ({', '.join(rules)})"


@dataclass(frozen=True, repr=False)
class Pairwise(Accumulator):
    """A binary tree: sums of neighbours, then sums of these, as NumPy's and most reduction kernels have it.

    ::

        for each block of `block` consecutive k: t = +0; for k in it, ascending: t = round(a[k] * b[k] + t)
        while more than one t is left: t[0] + t[1], t[2] + t[3], ...  each rounded; an odd one out moves up as it is
        r = round(c + t)      (c or +0)

    Parameters
    ----------
    format : str or FloatFormat
        The format of every sum.
    block : int
        Products of a leaf of the tree: 1 is the full tree.
    rounding : str
        A deterministic member of `Rounding`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a name is unknown, `block` is below 1, or the rounding is stochastic.

    Notes
    -----
    Infinities, NaN and zeros are as in `Sequential`. Without products r is c. The error bound grows with
    log2(K / block) + block instead of K (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, 4.2).

    Examples
    --------
    >>> import lowprec as lp
    >>> ones = [1.0] * 4096
    >>> lp.vecdot(ones, ones, dtype="fp16", accumulator=lp.Pairwise("fp16"))
    np.float32(4096.0)
    """

    format: FloatFormat = "float32"  # type: ignore[assignment]
    block: int = 1
    rounding: Rounding = "nearest_even"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        rounding = _member(self.rounding, Rounding, "rounding")
        if rounding is Rounding.STOCHASTIC:
            msg = '`rounding` must be deterministic in a tree, got "stochastic"; use lp.Sequential or lp.Chunked.'
            raise ValueError(msg)
        self._set(format=_float_format(self.format, "format"), rounding=rounding)
        self._set(block=_integer(self.block, "block", 1, 2**31 - 1))

    @property
    def result_format(self) -> FloatFormat:
        """The format of every sum."""
        return self.format

    def __str__(self) -> str:
        """Say what the model does."""
        leaf = "products" if self.block == 1 else f"sequential sums of {self.block} products"
        return f"binary tree over {leaf}, each step rounded to {self.format} ({self.rounding}), c last"


@dataclass(frozen=True, repr=False)
class Exact(Accumulator):
    """The true sum, rounded once: no order, no intermediate rounding.

    ::

        r = round(c + sum of a[k] * b[k])

    Parameters
    ----------
    format : str or FloatFormat, optional
        What the sum is rounded to. None: to `out_dtype` if that is given, else to float32.
    rounding : str
        A deterministic member of `Rounding`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a name is unknown or the rounding is stochastic.

    Notes
    -----
    For operands whose exponents lie in float32's range (bfloat16, tf32 and float32 included). A NaN operand,
    infinity times zero, and infinities of both signs give NaN; otherwise an infinity stays. An exact zero is +0 unless
    c and every product are -0; in ``toward_negative`` it is -0 unless they all are +0 (IEEE 754-2019, 6.3).

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([1e30, 1.0, -1e30], [1.0, 1.0, 1.0], dtype="fp32", accumulator="exact")
    np.float32(1.0)
    """

    format: FloatFormat | None = None
    rounding: Rounding = "nearest_even"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        rounding = _member(self.rounding, Rounding, "rounding")
        if rounding is Rounding.STOCHASTIC:
            msg = '`rounding` must be deterministic in an exact sum, got "stochastic"; round with out_dtype instead.'
            raise ValueError(msg)
        fmt = None if self.format is None else _float_format(self.format, "format")
        if fmt is not None and fmt.precision > 51:
            msg = f"`format` must have at most 51 significand bits in an exact sum, got `{fmt}`."
            raise ValueError(msg)
        self._set(format=fmt, rounding=rounding)

    @property
    def result_format(self) -> FloatFormat | None:
        """The format of the result."""
        return self.format

    def __str__(self) -> str:
        """Say what the model does."""
        return f"the exact sum, rounded once to {self.format or 'the result'} ({self.rounding})"


@dataclass(frozen=True, repr=False)
class Chunked(Accumulator):
    """Promotion, split-K, blocked summation: an inner sum for every chunk of K, added up by an outer one.

    ::

        for each chunk of `every` consecutive k: t = inner sum of the chunk, from +0
        r = outer sum of the t, k ascending, from c

    Parameters
    ----------
    inner : Accumulator or str
        How a chunk is summed: a model, or any word that `accumulator=` takes, a hardware preset for example.
    every : int
        Products per chunk. The last one may be shorter.
    outer : Accumulator or str
        `Sequential` (or a format's name, which means it) or `Pairwise`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If `every` is below 1, or `outer` is another model.

    Notes
    -----
    ``Chunked("nvidia-hopper", every=128)`` is the promotion of DeepSeek-V3 (arXiv:2412.19437, 3.3.2): tensor-core
    sums of 128 products added up in float32 by ordinary additions. A kernel that splits K into S parts is
    ``every=K / S``. A stochastic outer sum draws from stream 5, its step number the chunk's.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.Chunked("fp16", every=64)
    Chunked(inner=Sequential(format='float16'), every=64)
    """

    inner: Accumulator | str
    every: int = 128
    outer: Accumulator = "float32"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        inner = model(self.inner, "inner")
        outer = model(self.outer, "outer")
        if isinstance(inner, Integer) or not isinstance(outer, (Sequential, Pairwise)):
            which = ("inner", inner) if isinstance(inner, Integer) else ("outer", outer)
            rule = "a model of a float sum" if which[0] == "inner" else "lp.Sequential, lp.Pairwise or a format's name"
            msg = f"`{which[0]}` must be {rule}, got {which[1]!r}."
            raise ValueError(msg)
        if isinstance(inner, Chunked):
            msg = f"`inner` must not be chunked itself, got {inner!r}; give the outer one a Pairwise sum instead."
            raise ValueError(msg)
        self._set(inner=inner, outer=outer, every=_integer(self.every, "every", 1, 2**31 - 1))

    @property
    def result_format(self) -> FloatFormat:
        """The outer sum's."""
        return self.outer.result_format  # type: ignore[return-value]

    def __repr__(self) -> str:
        """Return the call that makes the model."""
        rest = "" if self.outer == Sequential() else f", outer={self.outer!r}"
        return f"Chunked(inner={self.inner!r}, every={self.every}{rest})"

    def __str__(self) -> str:
        """Say what the model does."""
        return f"chunks of {self.every}: [{self.inner}], added up: [{self.outer}]"


@dataclass(frozen=True, repr=False)
class Integer(Accumulator):
    """A sum of integer products in two's complement that wraps or saturates.

    ::

        r = c or 0
        for each block of `length` products, k ascending: r = fit(r + exact sum of the block)

    Parameters
    ----------
    bits : int
        Width, 2 to 32.
    overflow : {"wrap", "saturate"}
        What `fit` does beyond the range: modulo ``2**bits``, or to the nearer end.
    length : int
        Products per step: 1 for a scalar loop, 4 for VPDPBUSDS, 2 for VPDPWSSDS. It matters for saturation only.
    is_signed : bool
        Whether the sum is signed.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a number is out of range or `overflow` unknown.

    Notes
    -----
    SDM, VPDPBUSD and VPDPBUSDS: products and their sum are exact, and the sum is saturated once.

    Examples
    --------
    >>> import numpy as np, lowprec as lp
    >>> x = np.full(300, 127, np.int8)
    >>> lp.vecdot(x, x, accumulator="int16"), lp.vecdot(x, x, accumulator="int16_saturate")
    (np.int32(-10964), np.int32(32767))
    """

    bits: int = 32
    overflow: Literal["wrap", "saturate"] = "wrap"
    length: int = 1
    is_signed: bool = True

    def __post_init__(self) -> None:
        """Check and normalise."""
        if not isinstance(self.overflow, str) or self.overflow.lower() not in {"wrap", "saturate"}:
            msg = f"`overflow` must be 'wrap' or 'saturate', got {self.overflow!r}."
            raise TypeError(msg) if not isinstance(self.overflow, str) else ValueError(msg)
        if not isinstance(self.is_signed, (bool, np.bool_)):
            msg = f"`is_signed` must be True or False, got {self.is_signed!r}."
            raise TypeError(msg)
        self._set(bits=_integer(self.bits, "bits", 2, 32), overflow=self.overflow.lower())
        self._set(length=_integer(self.length, "length", 1, 2**15), is_signed=bool(self.is_signed))

    @property
    def result_format(self) -> IntFormat:
        """The integers of that width."""
        return IntFormat(bits=self.bits, is_signed=self.is_signed)

    def __str__(self) -> str:
        """Say what the model does."""
        step = "each product" if self.length == 1 else f"blocks of {self.length} products"
        return f"{self.result_format} sum, {step} added exactly, then {self.overflow}"


class Hardware(Accumulator):
    """Base of the models of hardware: blocks of `length` products, K padded with +0 to whole blocks."""

    length: int

    @property
    def result_format(self) -> FloatFormat:
        """float32, unless the model says otherwise."""
        return resolve("float32")  # type: ignore[return-value]


def _check_widths(length: int, fraction_bits: int) -> None:
    """See that an aligned sum fits its integer."""
    need = fraction_bits + 2 + (length + 1).bit_length()
    if need > _SUM_BITS:
        msg = (
            f"`fraction_bits` must leave room for the sum: {fraction_bits} alignment bits and length={length} need "
            f"{need} bits, more than {_SUM_BITS}; take at most {_SUM_BITS - need + fraction_bits}."
        )
        raise ValueError(msg)


@dataclass(frozen=True, repr=False)
class FusedTruncated(Hardware):
    """NVIDIA tensor cores: products and c aligned to the largest exponent, truncated, summed exactly, rounded once.

    With ``x`` the sum of the operands' exponents (a subnormal has the smallest normal exponent; nothing is
    normalised) and ``m`` the exact product of their significands, in [0, 4)::

        for each block of `length` products, k ascending:
            e = max(exponent_floor, x of every non-zero product, exponent of c if c != 0)
            S = sum of truncate(m * 2**(fraction_bits + x - e)), c's included          an exact integer sum
            c = round(S * 2**(e - fraction_bits))                                      to `out`

    Parameters
    ----------
    length : int
        Products per block.
    fraction_bits : int
        Alignment fraction bits F, below the leading binary point.
    out : str or FloatFormat
        Format of c and of the result: float32 or float16 in hardware, any IEEE-like format here.
    rounding : {"toward_zero", "nearest_even"}
        How S is rounded; "rz" and "rne" mean these. "rz13" is toward zero with ``kept_bits=13``.
    kept_bits : int, optional
        Fraction bits of the result that are kept, the others being zero; by default all of `out`.
    exponent_floor : int, optional
        The exponent of a block whose addends are all zero or tiny. By default the smallest normal exponent of `out`
        minus 7, as in Hopper and later.
    c_format : str or FloatFormat, optional
        Format of the first c: float16 where Volta adds a float16 c to a float32 sum. By default `out`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a parameter is out of range, or the sum would need more than 62 bits.

    Notes
    -----
    NaN anywhere, infinity times zero, and infinities of both signs give NaN with all bits but the sign set;
    otherwise an infinity stays. Rounding toward zero still gives infinity from 2**(emax + 1) on. Every zero is +0,
    also that of a negative result that underflows. The order within a block does not matter. MMA-Sim; KM; Fasi et
    al., Numerical behavior of NVIDIA tensor cores, PeerJ CS 330, 2021.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.FusedTruncated(length=16, fraction_bits=25)
    FusedTruncated(length=16, fraction_bits=25)
    >>> a, b = [2.0**12, 1.0, 2.0**-12], [2.0**12, 1.0, 2.0**-12]
    >>> lp.vecdot(a, b, dtype="fp16", c=-(2.0**24), accumulator=lp.FusedTruncated(4, 23))
    np.float32(0.0)
    """

    length: int
    fraction_bits: int
    out: FloatFormat = "float32"  # type: ignore[assignment]
    rounding: Rounding = "toward_zero"  # type: ignore[assignment]
    kept_bits: int | None = None
    exponent_floor: int | None = None
    c_format: FloatFormat | None = None

    def __post_init__(self) -> None:
        """Check and normalise."""
        length = _integer(self.length, "length", 1, 4096)
        fraction = _integer(self.fraction_bits, "fraction_bits", 1, _SUM_BITS)
        _check_widths(length, fraction)
        out = _float_format(self.out, "out")
        if out.nan != "ieee" or out.mantissa_bits > 23 or out.exponent_bits > 8:
            msg = f"`out` must be an IEEE-like format within float32, got `{out}`."
            raise ValueError(msg)
        word: Any = self.rounding
        kept = self.kept_bits
        if isinstance(word, str) and word.lower() == "rz13":
            word, kept = "toward_zero", 13 if kept is None else kept
        word = _ROUNDING_WORDS.get(word.lower(), word) if isinstance(word, str) else word
        allowed = (Rounding.TOWARD_ZERO, Rounding.NEAREST_EVEN)
        kept = None if kept is None else _integer(kept, "kept_bits", 1, out.mantissa_bits)
        floor = (
            out.emin - 7 if self.exponent_floor is None else _integer(self.exponent_floor, "exponent_floor", -400, 0)
        )
        c_format = None if self.c_format is None else _float_format(self.c_format, "c_format")
        if c_format == out:
            c_format = None
        if c_format is not None and (c_format.mantissa_bits > out.mantissa_bits or c_format.nan != "ieee"):
            msg = f"`c_format` must be an IEEE-like format no finer than `{out}`, got `{c_format}`."
            raise ValueError(msg)
        self._set(length=length, fraction_bits=fraction, out=out, rounding=_member(word, Rounding, "rounding", allowed))
        self._set(kept_bits=None if kept == out.mantissa_bits else kept, exponent_floor=floor, c_format=c_format)

    def _default(self, name: str) -> Any:
        """Return what a parameter is when it is not given; the floor depends on `out`."""
        return self.out.emin - 7 if name == "exponent_floor" else super()._default(name)

    @property
    def result_format(self) -> FloatFormat:
        """The format `out`."""
        return self.out

    def __str__(self) -> str:
        """Say what the model does."""
        kept = "" if self.kept_bits is None else f", {self.kept_bits} fraction bits kept"
        addend = "c" if self.c_format is None else f"a {self.c_format} c"
        return (
            f"blocks of {self.length} products and {addend} aligned to the largest exponent (at least "
            f"{self.exponent_floor}), truncated at {self.fraction_bits} fraction bits, summed exactly, rounded to "
            f"{self.out} ({self.rounding}{kept})"
        )


@dataclass(frozen=True, repr=False)
class FusedTruncatedScaled(Hardware):
    """`FusedTruncated` with a power-of-two scale for each block of each operand: MX formats on Blackwell.

    As `FusedTruncated` to float32 and toward zero, with the exponents of the two scales added to every product's x.

    Parameters
    ----------
    length : int
        Products per block, which share a scale (of `a`'s row, and of `b`'s column).
    fraction_bits : int
        Alignment fraction bits.
    exponent_floor : int
        As in `FusedTruncated`.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a parameter is out of range.

    Notes
    -----
    Scales are float8_e8m0fnu; a NaN scale (code 255) makes the result NaN even if every element is zero. Operands are
    `QuantizedArray` with one scale per `length` elements along K. MMA-Sim; PTX ISA, tcgen05.mma kind::mxf8f6f4.

    Examples
    --------
    >>> import lowprec as lp
    >>> str(lp.FusedTruncatedScaled())
    'blocks of 32 products with e8m0 scales, and c, aligned to the largest exponent (at least -133), ...'
    """

    length: int = 32
    fraction_bits: int = 25
    exponent_floor: int = -133

    def __post_init__(self) -> None:
        """Check and normalise."""
        length = _integer(self.length, "length", 1, 4096)
        fraction = _integer(self.fraction_bits, "fraction_bits", 1, _SUM_BITS)
        _check_widths(length, fraction)
        self._set(length=length, fraction_bits=fraction)
        self._set(exponent_floor=_integer(self.exponent_floor, "exponent_floor", -400, 0))

    def __str__(self) -> str:
        """Say what the model does."""
        return (
            f"blocks of {self.length} products with e8m0 scales, and c, aligned to the largest exponent (at least "
            f"{self.exponent_floor}), truncated at {self.fraction_bits} fraction bits, summed exactly, rounded to "
            "float32 (toward_zero)"
        )


@dataclass(frozen=True, repr=False)
class FusedTruncatedGroupScaled(Hardware):
    """Exact sums of groups, scaled, aligned, truncated and added: MXFP4 and NVFP4 on Blackwell.

    ::

        for each block of `length` products, for each group g of `group` of them:
            P = exact sum of the group's products
            M, X = product of the two scales' significands, sum of their exponents (not normalised)
            x = exponent_floor if every product of the group is zero or M == 0, else X
        e = max(every x, exponent of c; exponent_floor for c = 0)
        c = toward_zero(sum of truncate(P * M * 2**(fraction_bits + x - e)), and c's, * 2**(e - fraction_bits))

    Parameters
    ----------
    length : int
        Products per block.
    group : int
        Products per group; `length` is a multiple of it.
    fraction_bits : int
        Alignment fraction bits.
    exponent_floor : int
        As above.
    scale_block : int
        Elements that share a scale; a multiple of `group` that divides `length`.
    scale_format : {"e8m0fnu", "e4m3fn"}
        Format of the scales; the sign of e4m3fn is ignored.

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a parameter is out of range or the lengths do not divide each other.

    Notes
    -----
    For elements in float4_e2m1fn. A NaN scale makes the result NaN; c = NaN or infinity is as in `FusedTruncated`; a
    group that cancels to 0 still raises e. Every zero is +0. MMA-Sim; PTX ISA, tcgen05.mma kind::mxf4nvf4.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.FusedTruncatedGroupScaled(scale_block=16, scale_format="e4m3fn")
    FusedTruncatedGroupScaled(scale_block=16, scale_format='float8_e4m3fn')
    """

    length: int = 64
    group: int = 16
    fraction_bits: int = 35
    exponent_floor: int = -139
    scale_block: int = 32
    scale_format: FloatFormat = "float8_e8m0fnu"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        length, group = _integer(self.length, "length", 1, 4096), _integer(self.group, "group", 1, 256)
        fraction = _integer(self.fraction_bits, "fraction_bits", 1, 45)
        block = _integer(self.scale_block, "scale_block", 1, 4096)
        if length % group or block % group or length % block:
            msg = (
                f"`length` must be a multiple of `scale_block`, and that of `group`, got {length}, {block} and {group}."
            )
            raise ValueError(msg)
        need = fraction + 8 + length.bit_length()
        if need > _SUM_BITS:
            msg = (
                f"`fraction_bits` must leave room for the sum: {fraction} alignment bits and length={length} need "
                f"{need} bits, more than {_SUM_BITS}; take at most {_SUM_BITS - need + fraction}."
            )
            raise ValueError(msg)
        scale = resolve_or_none(self.scale_format)
        if scale is None or scale.name not in {"float8_e8m0fnu", "float8_e4m3fn"}:
            msg = f"`scale_format` must be 'e8m0fnu' or 'e4m3fn', got {str(scale or self.scale_format)!r}."
            raise ValueError(msg)
        self._set(length=length, group=group, fraction_bits=fraction, scale_block=block, scale_format=scale)
        self._set(exponent_floor=_integer(self.exponent_floor, "exponent_floor", -400, 0))

    def __str__(self) -> str:
        """Say what the model does."""
        return (
            f"blocks of {self.length} products: exact sums of {self.group}, times {self.scale_format} scales (one per "
            f"{self.scale_block}), and c, aligned to the largest exponent (at least {self.exponent_floor}), truncated "
            f"at {self.fraction_bits} fraction bits, summed exactly, rounded to float32 (toward_zero)"
        )


@dataclass(frozen=True, repr=False)
class FusedExact(Hardware):
    """AMD CDNA1, f16 and bf16: the exact sum of a few products and c, rounded once.

    ::

        for each block of `length` products, k ascending: c = nearest_even(c + exact sum of the products)

    Parameters
    ----------
    length : int
        Products per block: 4 (f16), 2 (bf16).

    Raises
    ------
    TypeError
        If `length` is not an integer.
    ValueError
        If `length` is out of range.

    Notes
    -----
    To float32, subnormals kept. Exact zero is +0; underflow to zero keeps its sign. NaN anywhere, infinity times
    zero and infinities of both signs give NaN (canonical; the payload of the hardware is not known). MMA-Sim; KM.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([1.0, 2.0**-12, -1.0, 0.0], [1.0, 2.0**-12, 1.0, 0.0], "fp16", accumulator=lp.FusedExact(4))
    np.float32(5.9604645e-08)
    """

    length: int

    def __post_init__(self) -> None:
        """Check."""
        self._set(length=_integer(self.length, "length", 1, 64))

    def __str__(self) -> str:
        """Say what the model does."""
        return f"blocks of {self.length} products and c summed exactly, rounded to float32 (nearest_even)"


@dataclass(frozen=True, repr=False)
class FlushedPairwise(Hardware):
    """AMD CDNA2, f16 and bf16: float32 products and pairwise sums, every result flushed.

    With fz(x) a subnormal float32 made zero, its sign kept, and all additions and products float32 to nearest even::

        a, b: subnormal or zero of the input's own format -> +0
        before every 4 * length products, which are an instruction: c subnormal or zero -> +0
        for each block: p[k] = fz(a[k] * b[k])
            length 2: s = fz(p[0] + p[1])        length 4: s = fz(fz(p[0] + p[1]) + fz(p[2] + p[3]))
            c = fz(c + s)

    Parameters
    ----------
    length : {2, 4}
        Products per block.

    Raises
    ------
    TypeError
        If `length` is not an integer.
    ValueError
        If `length` is not 2 or 4.

    Notes
    -----
    Infinities and NaN as in IEEE float32 (NaN canonical; the payload of the hardware is not known). MMA-Sim; KM.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([2.0**-14], [2.0**-15], "fp16", accumulator=lp.FlushedPairwise(4))
    np.float32(0.0)
    """

    length: int

    def __post_init__(self) -> None:
        """Check."""
        length = _integer(self.length, "length", 2, 4)
        if length == 3:
            msg = "`length` must be 2 or 4, got 3."
            raise ValueError(msg)
        self._set(length=length)

    def __str__(self) -> str:
        """Say what the model does."""
        return f"float32 products and sums of {self.length} in pairs, then c, subnormals flushed in and out"


@dataclass(frozen=True, repr=False)
class FusedTruncatedLateC(Hardware):
    """AMD CDNA3, f16, bf16, xf32, fp8: truncated sum of products, c added outside, both floored.

    ::

        for each block of `length` products, k ascending:
            ed = largest exponent x of a non-zero product
            Sp = sum of truncate(m * 2**(fraction_bits + x - ed))
            e = max(ed, exponent of c)                                     c = 0 has float32's smallest exponent
            T = floor of Sp to units of 2**(e - final_bits - 1), and c's floor to units of 2**(e - fraction_bits)
            c = nearest_even(T floored to `final_bits` fraction bits)

    With `even_odd`, products of even and of odd k have sums of their own, each with its own ed, which are then
    floored at `fraction_bits` to the larger exponent and added; c counts as 0 when its exponent is below e - 25.

    Parameters
    ----------
    length : int
        Products per block.
    fraction_bits : int
        Alignment fraction bits F of the products, and of c.
    final_bits : int
        Fraction bits that the total is floored to.
    even_odd : bool
        Whether even and odd k are summed apart (fp8 and bf8).

    Raises
    ------
    TypeError
        If a parameter is of the wrong kind.
    ValueError
        If a parameter is out of range.

    Notes
    -----
    To float32, subnormals kept. A product of magnitude 2**128 or more counts as infinite. NaN anywhere, infinity
    times zero and infinities of both signs give NaN (canonical). Zero is +0; negative underflow is -0. Flooring makes
    a tiny negative addend count as one negative unit. MMA-Sim.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.FusedTruncatedLateC(16, even_odd=True)
    FusedTruncatedLateC(length=16, even_odd=True)
    """

    length: int
    fraction_bits: int = 24
    final_bits: int = 31
    even_odd: bool = False

    def __post_init__(self) -> None:
        """Check and normalise."""
        length = _integer(self.length, "length", 1, 64)
        fraction = _integer(self.fraction_bits, "fraction_bits", 23, 40)
        final = _integer(self.final_bits, "final_bits", 24, 45)
        if final < fraction:
            msg = f"`final_bits` must be at least `fraction_bits`, got {final} and {fraction}."
            raise ValueError(msg)
        if not isinstance(self.even_odd, (bool, np.bool_)):
            msg = f"`even_odd` must be True or False, got {self.even_odd!r}."
            raise TypeError(msg)
        self._set(length=length, fraction_bits=fraction, final_bits=final, even_odd=bool(self.even_odd))

    def __str__(self) -> str:
        """Say what the model does."""
        apart = ", even and odd k apart" if self.even_odd else ""
        return (
            f"blocks of {self.length} products aligned and truncated at {self.fraction_bits} fraction bits{apart}; "
            f"c added, the total floored at {self.final_bits} fraction bits, rounded to float32 (nearest_even)"
        )


@dataclass(frozen=True, repr=False)
class FmaPairOddFirst(Hardware):
    """x86 VDPBF16PS: two fused multiply-adds per pair, the odd element first, subnormals zero in and out.

    ::

        for each pair: c = FMA(a[2i], b[2i], FMA(a[2i + 1], b[2i + 1], c))

    with FMA in float32 to nearest even, subnormal inputs taken as zero of their sign, and results below 2**-126
    (after rounding to 24 bits with an unbounded exponent) made zero of their sign.

    Raises
    ------
    Nothing.

    Notes
    -----
    The first NaN of a[2i], b[2i], a[2i + 1], b[2i + 1], c is returned, quieted, with its sign and payload; an invalid
    operation gives 0xFFC00000. An exact zero is +0 unless product and addend are both -0. MXCSR is not read. SDM,
    VDPBF16PS.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([1.0, 2.0**-12], [1.0, 2.0**-12], "bf16", accumulator=lp.FmaPairOddFirst())
    np.float32(1.0)
    """

    length: ClassVar[int] = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Nothing to check."""

    def __str__(self) -> str:
        """Say what the model does."""
        return "pairs, the odd k first: two float32 fused multiply-adds (nearest_even), subnormals zero in and out"


@dataclass(frozen=True, repr=False)
class EvenOddPair(Hardware):
    """Intel AMX TDPBF16PS: even and odd k in two sums of their own, c added last, once per instruction.

    ::

        for each block of `length` products:
            E = FMA(a[k], b[k], E) for even k, O likewise for odd k, both ascending from +0
            c = ADD(c, ADD(E, O))

    with FMA and ADD as in `FmaPairOddFirst`.

    Parameters
    ----------
    length : int
        Products per instruction, even, 2 to 32.

    Raises
    ------
    TypeError
        If `length` is not an integer.
    ValueError
        If `length` is odd or out of range.

    Notes
    -----
    Special values as in `FmaPairOddFirst`, the first NaN of each operation in the order of its operands. SDM,
    TDPBF16PS, operation section (vendor's text; not checked against silicon).

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.EvenOddPair()
    EvenOddPair()
    """

    length: int = 32

    def __post_init__(self) -> None:
        """Check."""
        length = _integer(self.length, "length", 2, 32)
        if length % 2:
            msg = f"`length` must be even, got {length}."
            raise ValueError(msg)
        self._set(length=length)

    def __str__(self) -> str:
        """Say what the model does."""
        return f"blocks of {self.length}: float32 FMA chains over even and odd k, added, then c, subnormals zero"


@dataclass(frozen=True, repr=False)
class BfDotRoundOdd(Hardware):
    """Arm BFDOT and BFMMLA without FEAT_EBF16: two products, two sums, each rounded to odd.

    ::

        for each pair: c = ADD(c, ADD(MUL(a[2i], b[2i]), MUL(a[2i + 1], b[2i + 1])))

    with float32 operations that round to odd, take subnormal inputs as zero and make results below 2**-126 zero
    (decided before rounding), both with their sign.

    Raises
    ------
    Nothing.

    Notes
    -----
    Overflow gives infinity. NaN is always 0x7FC00000. An exact zero is +0 unless both addends are -0. ARM, BFDOT with
    FPCR.EBF = 0, whose rounding bits are ignored.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([1.0, 2.0**-20], [1.0, 2.0**-20], "bf16", accumulator=lp.BfDotRoundOdd())
    np.float32(1.0000001)
    """

    length: ClassVar[int] = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Nothing to check."""

    def __str__(self) -> str:
        """Say what the model does."""
        return "pairs: float32 products, their sum, then c, each rounded to odd, subnormals zero in and out"


@dataclass(frozen=True, repr=False)
class BfDotFused(Hardware):
    """Arm BFDOT and BFMMLA with FEAT_EBF16 and FPCR.EBF = 1: the exact sum of two products, then c.

    ::

        for each pair: c = nearest_even(c + nearest_even(a[2i] * b[2i] + a[2i + 1] * b[2i + 1]))

    Raises
    ------
    Nothing.

    Notes
    -----
    In float32, subnormals kept (FPCR otherwise 0). NaN is always 0x7FC00000. An exact zero is +0 unless both addends
    are -0. ARM, BFDOT.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.vecdot([1.0, 2.0**-20], [1.0, 2.0**-20], "bf16", accumulator=lp.BfDotFused())
    np.float32(1.0)
    """

    length: ClassVar[int] = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Nothing to check."""

    def __str__(self) -> str:
        """Say what the model does."""
        return "pairs: the exact sum of two products rounded to float32, then c added (nearest_even)"


@dataclass(frozen=True, repr=False)
class Fp8ViaF16(Hardware):
    """FP8 mma.sync on Hopper and data-centre Blackwell: two float16 instructions and an addition.

    ::

        for each block of 32 products, from t = +0:
            t = FusedTruncated(16, 25, out) over the 16 with k mod 4 in {0, 1}
            t = FusedTruncated(16, 25, out) over the 16 with k mod 4 in {2, 3}, from t
            c = nearest_even(t + c)

    Parameters
    ----------
    out : {"float32", "float16"}
        Format of c and of the result.

    Raises
    ------
    TypeError
        If `out` is of the wrong kind.
    ValueError
        If `out` is another format.

    Notes
    -----
    What the compiler makes of it (CUTLASS issue 1986), so another version may differ. Special values as in
    `FusedTruncated`. KM's recorded outputs.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.Fp8ViaF16("fp16").result_format.name
    'float16'
    """

    length: ClassVar[int] = 32  # type: ignore[misc]
    out: FloatFormat = "float32"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check and normalise."""
        out = _float_format(self.out, "out")
        if out.name not in {"float32", "float16"}:
            msg = f"`out` must be 'float32' or 'float16', got '{out}'."
            raise ValueError(msg)
        self._set(out=out)

    @property
    def result_format(self) -> FloatFormat:
        """The format `out`."""
        return self.out

    def __str__(self) -> str:
        """Say what the model does."""
        return f"blocks of 32: two float16 tensor-core instructions of 16 products, then c added in {self.out}"


_INTEGER_WORDS = {
    f"{'' if signed else 'u'}int{bits}{'' if overflow == 'wrap' else '_saturate'}": (bits, overflow, signed)
    for bits in range(2, 33)
    for overflow in ("wrap", "saturate")
    for signed in (True, False)
}


@lru_cache(maxsize=512)
def _named(word: str) -> Accumulator | None:
    """Return the model that a word names, or None if it names none here."""
    if word == "exact":
        return Exact()
    if word == "pairwise":
        return Pairwise()
    if word in _INTEGER_WORDS:
        bits, overflow, signed = _INTEGER_WORDS[word]
        return Integer(bits, overflow, is_signed=signed)  # type: ignore[arg-type]
    fmt = resolve_or_none(word)
    return Sequential(_float_format(fmt, "accumulator")) if isinstance(fmt, FloatFormat) else None


def model(value: Any, name: str = "accumulator") -> Accumulator | str:
    """Return the model that an argument stands for; a word that names none here comes back, for the presets' table.

    Parameters
    ----------
    value : Accumulator, str, FloatFormat, dtype, Preset or Instruction
        A model, the name of a float format (`Sequential` in it), ``"exact"``, ``"pairwise"``, ``"int32"``,
        ``"int16_saturate"`` and the like, another word, a preset (its name), or a row of one (its model).
    name : str
        The argument's name, for errors.

    Returns
    -------
    Accumulator or str
        The model, or the word in lower case.

    Raises
    ------
    TypeError
        If `value` is of another kind.
    ValueError
        If it is a format in which sums cannot be kept.

    Examples
    --------
    >>> model("bf16")
    Sequential(format='bfloat16')
    >>> model("nvidia-hopper")
    'nvidia-hopper'
    """
    if isinstance(value, Accumulator):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        found = _named(word)
        if found is None and (word in ("fp8", "float8", "fp6") or re.fullmatch(r"e\d+m\d+", word)):
            _float_format(word, name)  # raises, and says what is wrong with the format
        return found or word
    if isinstance(value, IntFormat):
        return Integer(max(2, value.bits), is_signed=value.is_signed)
    if isinstance(value, (FloatFormat, np.dtype, type)):
        fmt = resolve(value)
        return model(fmt, name) if isinstance(fmt, IntFormat) else Sequential(_float_format(fmt, name))
    if isinstance(name_of := getattr(value, "preset_name", None), str):
        return name_of
    if isinstance(row := getattr(value, "model", None), Accumulator):
        return row
    msg = f"`{name}` must be a model such as lp.Sequential('fp16'), or a name, got {value!r} of {type(value).__name__}."
    raise TypeError(msg)
