"""Number formats as data: a few independent facts each, everything else derived from them.

To add a format, add one row to `_FLOATS` or `_INTEGERS`; names, tests, docs tables and kernels follow.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import ml_dtypes
import numpy as np

NanEncoding = Literal["ieee", "all_ones", "negative_zero", "none"]
_NAN_ENCODINGS = ("ieee", "all_ones", "negative_zero", "none")


def _code_dtype(bits: int) -> np.dtype[Any]:
    """Return the smallest unsigned dtype that holds a code of ``bits`` bits."""
    return np.dtype(next(t for t in (np.uint8, np.uint16, np.uint32, np.uint64) if np.dtype(t).itemsize * 8 >= bits))


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format, described by its independent facts.

    A code is, from the top bit down: sign (if signed), ``exponent_bits`` of biased exponent E, ``mantissa_bits`` of
    trailing significand T. Its value is ``(-1)**sign * 2**(E - bias) * (1 + T / 2**mantissa_bits)``, or for E = 0,
    ``(-1)**sign * 2**(1 - bias) * T / 2**mantissa_bits``, unless the code is an infinity or a NaN.

    Parameters
    ----------
    name : str, optional
        How the format is called; ``"e<exponent_bits>m<mantissa_bits>"`` if not given.
    exponent_bits, mantissa_bits : int
        Field widths: 1 to 11, and 0 to 52 (the hidden bit not counted).
    bias : int, optional
        Exponent bias; ``2**(exponent_bits - 1) - 1`` if not given.
    has_inf : bool, optional
        Whether two codes (one if unsigned) are infinities. By default true if `nan` is ``"ieee"`` or not given.
    nan : {"ieee", "all_ones", "negative_zero", "none"}, optional
        Where NaN lies: ``"ieee"``, exponent all ones and T not 0 (T = 0 is infinity); ``"all_ones"``, magnitude all
        ones only; ``"negative_zero"``, the code of -0, which then does not exist; ``"none"``, there is no NaN.
        By default ``"ieee"``, or ``"all_ones"`` if `has_inf` is false.
        Outside ``"ieee"`` an infinity is the largest magnitude that is not NaN.
    is_signed : bool
        Whether there is a sign bit.
    has_zero : bool
        False only for scale formats such as `float8_e8m0fnu`: E = 0 is then an ordinary binade, without zero or
        subnormals, whose value is ``2**-bias * (1 + T / 2**mantissa_bits)``.
    aliases : tuple of str
        Other names; not compared.
    storage : str, optional
        Name of the NumPy or ml_dtypes dtype that stores the format; not compared.
    source : str
        The defining document; not compared.

    Raises
    ------
    TypeError
        If a width or the bias is not an integer.
    ValueError
        If a fact is out of range, facts contradict each other, or a value would not fit in binary64.

    Notes
    -----
    Every attribute below is derived. Values are Python floats and exact.

    Examples
    --------
    >>> import lowprec as lp
    >>> fmt = lp.FloatFormat(name="e4m2fn", exponent_bits=4, mantissa_bits=2, has_inf=False)
    >>> fmt.max, fmt.smallest_subnormal, fmt.nan_code
    (384.0, 0.00390625, 63)
    """

    name: str = ""
    exponent_bits: int = field(kw_only=True)
    mantissa_bits: int = field(kw_only=True)
    bias: int = field(kw_only=True, default=None)  # type: ignore[assignment]
    has_inf: bool = field(kw_only=True, default=None)  # type: ignore[assignment]
    nan: NanEncoding = field(kw_only=True, default=None)  # type: ignore[arg-type]
    is_signed: bool = field(kw_only=True, default=True)
    has_zero: bool = field(kw_only=True, default=True)
    aliases: tuple[str, ...] = field(kw_only=True, default=(), compare=False, repr=False)
    storage: str | None = field(kw_only=True, default=None, compare=False, repr=False)
    source: str = field(kw_only=True, default="custom", compare=False, repr=False)

    def __post_init__(self) -> None:
        """Fill in the defaults that depend on other facts, then check."""
        for fact, low, high in (("exponent_bits", 1, 11), ("mantissa_bits", 0, 52)):
            value = getattr(self, fact)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                msg = f"`{fact}` must be an integer from {low} to {high}, got {value!r}."
                raise TypeError(msg)
            if not low <= value <= high:
                msg = f"`{fact}` must be from {low} to {high}, got {value}."
                raise ValueError(msg)
            object.__setattr__(self, fact, int(value))
        if self.nan is None:
            object.__setattr__(self, "nan", "all_ones" if self.has_inf is False else "ieee")
        if self.has_inf is None:
            object.__setattr__(self, "has_inf", self.nan == "ieee")
        if self.bias is None:
            object.__setattr__(self, "bias", 2 ** (self.exponent_bits - 1) - 1)
        if not self.name:
            object.__setattr__(self, "name", f"e{self.exponent_bits}m{self.mantissa_bits}")
        self._check()

    def _check(self) -> None:
        """Raise if the facts contradict each other or leave binary64."""
        msg = ""
        if not isinstance(self.name, str):
            msg = f"`name` must be a string, got {self.name!r}."
            raise TypeError(msg)
        if isinstance(self.bias, bool) or not isinstance(self.bias, (int, np.integer)):
            msg = f"`bias` must be an integer, got {self.bias!r}."
            raise TypeError(msg)
        object.__setattr__(self, "bias", int(self.bias))
        for fact in ("has_inf", "is_signed", "has_zero"):
            if not isinstance(getattr(self, fact), (bool, np.bool_)):
                msg = f"`{fact}` must be True or False, got {getattr(self, fact)!r}."
                raise TypeError(msg)
        if self.nan not in _NAN_ENCODINGS:
            msg = f"`nan` must be one of {', '.join(_NAN_ENCODINGS)}, got {self.nan!r}."
        elif self.nan == "ieee" and not self.has_inf:
            msg = '`has_inf` must be True with nan="ieee", got False; choose nan="all_ones", "negative_zero" or "none".'
        elif self.nan == "ieee" and (self.mantissa_bits < 1 or self.exponent_bits < 2):
            msg = (
                '`nan="ieee"` must have exponent_bits >= 2 and mantissa_bits >= 1 (NaN needs a non-zero mantissa), '
                f'got e{self.exponent_bits}m{self.mantissa_bits}; give has_inf=False, or nan="none".'
            )
        elif self.nan == "negative_zero" and not (self.is_signed and self.has_zero):
            msg = '`nan="negative_zero"` must have is_signed=True and has_zero=True.'
        elif self.is_signed and not self.has_zero:
            msg = "`has_zero` must be True for a signed format, got False."
        elif self.max_code < 1:
            msg = f"`{self.name}` must keep a finite value above its first code; give it more bits or fewer specials."
        elif self.emin < -1022 or self._exponent(self.max_code) > 1023:
            msg = (
                f"`bias` must keep the exponents in binary64's -1022 to 1023, got {self.bias}, which gives "
                f"{self.emin} to {self._exponent(self.max_code)}."
            )
        if msg:
            raise ValueError(msg)

    def _exponent(self, magnitude_code: int) -> int:
        """Return the exponent of the binade that ``magnitude_code`` lies in."""
        return max(magnitude_code >> self.mantissa_bits, int(self.has_zero)) - self.bias

    def _value(self, magnitude_code: int) -> float:
        """Return the value of a finite code without its sign."""
        e, t = magnitude_code >> self.mantissa_bits, magnitude_code & ((1 << self.mantissa_bits) - 1)
        hidden = 0 if e == 0 and self.has_zero else 1 << self.mantissa_bits
        return math.ldexp(hidden + t, self._exponent(magnitude_code) - self.mantissa_bits)  # exact: 53 bits at most

    @property
    def bits(self) -> int:
        """Width of a code."""
        return int(self.is_signed) + self.exponent_bits + self.mantissa_bits

    @property
    def precision(self) -> int:
        """Significand bits, the hidden one included (IEEE 754's p)."""
        return self.mantissa_bits + 1

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number."""
        return int(self.has_zero) - self.bias

    @property
    def emax(self) -> int:
        """Exponent of the largest finite number."""
        return self._exponent(self.max_code)

    @property
    def magnitude_bits(self) -> int:
        """Width of a code without its sign."""
        return self.exponent_bits + self.mantissa_bits

    @cached_property
    def max_code(self) -> int:
        """Code of the largest finite value."""
        top = (1 << self.magnitude_bits) - 1
        if self.nan == "ieee":
            return top - (1 << self.mantissa_bits)
        return top - int(self.nan == "all_ones") - int(self.has_inf)

    @property
    def inf_code(self) -> int | None:
        """Code of +infinity, or None."""
        return self.max_code + 1 if self.has_inf else None

    @property
    def nan_code(self) -> int | None:
        """Code of the canonical NaN (positive and quiet), or None."""
        top = (1 << self.magnitude_bits) - 1
        match self.nan:
            case "ieee":
                return self.max_code + 1 + (1 << (self.mantissa_bits - 1))
            case "all_ones":
                return top
            case "negative_zero":
                return 1 << self.magnitude_bits
            case _:
                return None

    @property
    def has_nan(self) -> bool:
        """Whether any code is NaN."""
        return self.nan != "none"

    @property
    def has_negative_zero(self) -> bool:
        """Whether -0 and +0 are two codes."""
        return self.is_signed and self.nan != "negative_zero"

    @property
    def has_subnormals(self) -> bool:
        """Whether any code lies below the smallest normal number, zero apart."""
        return self.has_zero and self.mantissa_bits > 0

    @cached_property
    def max(self) -> float:
        """Largest finite value."""
        return self._value(self.max_code)

    @cached_property
    def min(self) -> float:
        """Least finite value (most negative, or the smallest of an unsigned format)."""
        return -self.max if self.is_signed else self._value(0)

    @property
    def smallest_normal(self) -> float:
        """Smallest positive value with a full significand."""
        return 2.0**self.emin

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value."""
        return 2.0 ** (self.emin - self.mantissa_bits) if self.has_zero else self.smallest_normal

    @property
    def eps(self) -> float:
        """Gap between 1 and the next larger value, 2**-mantissa_bits."""
        return 2.0**-self.mantissa_bits

    @property
    def num_nans(self) -> int:
        """How many codes are NaN."""
        if self.nan == "ieee":
            return ((1 << self.mantissa_bits) - 1) << int(self.is_signed)
        return {"all_ones": 1 << int(self.is_signed), "negative_zero": 1, "none": 0}[self.nan]

    @property
    def num_values(self) -> int:
        """How many different real values the format holds (+0 and -0 count as one)."""
        codes = (self.max_code + 1) << int(self.is_signed)
        return codes - int(self.is_signed and self.has_zero)

    @property
    def default_overflow(self) -> str:
        """``"inf"`` where the format has infinities, else ``"nan"`` where it has NaN, else ``"saturate"``."""
        return "inf" if self.has_inf else "nan" if self.has_nan else "saturate"

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """Unsigned dtype of an array of codes."""
        return _code_dtype(self.bits)

    @property
    def storage_dtype(self) -> np.dtype[Any] | None:
        """NumPy or ml_dtypes dtype that stores the format (tf32 in float32), or None."""
        return None if self.storage is None else np.dtype(getattr(ml_dtypes, self.storage, self.storage))

    def __str__(self) -> str:
        """Return the name."""
        return self.name


@dataclass(frozen=True)
class IntFormat:
    """An integer format: two's complement if signed, plain binary if not.

    Parameters
    ----------
    name : str, optional
        How the format is called; ``"int<bits>"`` or ``"uint<bits>"`` if not given.
    bits : int
        Width, 1 to 32.
    is_signed : bool
        Whether negative integers are included.
    aliases, storage, source
        As in `FloatFormat`; not compared.

    Raises
    ------
    TypeError
        If `bits` is not an integer.
    ValueError
        If `bits` is out of range.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.format("int4").min, lp.format("int4").max
    (-8.0, 7.0)
    """

    name: str = ""
    bits: int = field(kw_only=True)
    is_signed: bool = field(kw_only=True, default=True)
    aliases: tuple[str, ...] = field(kw_only=True, default=(), compare=False, repr=False)
    storage: str | None = field(kw_only=True, default=None, compare=False, repr=False)
    source: str = field(kw_only=True, default="custom", compare=False, repr=False)

    exponent_bits = 0
    has_inf = False
    has_nan = False
    has_negative_zero = False
    has_subnormals = False
    has_zero = True
    num_nans = 0
    inf_code = None
    nan_code = None
    default_overflow = "saturate"
    smallest_normal = 1.0
    smallest_subnormal = 1.0
    eps = 1.0

    def __post_init__(self) -> None:
        """Check the width and fill in the name."""
        if isinstance(self.bits, bool) or not isinstance(self.bits, (int, np.integer)):
            msg = f"`bits` must be an integer from 1 to 32, got {self.bits!r}."
            raise TypeError(msg)
        if not 1 <= self.bits <= 32:
            msg = f"`bits` must be from 1 to 32, got {self.bits}."
            raise ValueError(msg)
        object.__setattr__(self, "bits", int(self.bits))
        if not self.name:
            object.__setattr__(self, "name", f"{'int' if self.is_signed else 'uint'}{self.bits}")

    @property
    def precision(self) -> int:
        """Magnitude bits, the sign not counted."""
        return self.bits - int(self.is_signed)

    mantissa_bits = precision
    magnitude_bits = precision
    bias = 0

    @property
    def max(self) -> float:
        """Largest value."""
        return float(2**self.precision - 1)

    @property
    def min(self) -> float:
        """Least value."""
        return float(-(2**self.precision)) if self.is_signed else 0.0

    @property
    def max_code(self) -> int:
        """Code of the largest value."""
        return int(2**self.precision - 1)

    @property
    def num_values(self) -> int:
        """How many values the format holds."""
        return 1 << self.bits

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """Unsigned dtype of an array of codes."""
        return _code_dtype(self.bits)

    @property
    def storage_dtype(self) -> np.dtype[Any] | None:
        """NumPy or ml_dtypes dtype that stores the format, or None."""
        return None if self.storage is None else np.dtype(getattr(ml_dtypes, self.storage, self.storage))

    def __str__(self) -> str:
        """Return the name."""
        return self.name


Format = FloatFormat | IntFormat

_OCP8 = "OCP 8-bit Floating Point Specification (OFP8), revision 1.0, section 5"
_OCPMX = "OCP Microscaling Formats (MX) Specification, version 1.0, section 5"
_GRAPHCORE = "Noune et al., 8-bit Numerical Formats for Deep Neural Networks, arXiv:2206.02915"
_ML_DTYPES = "ml_dtypes, README, section on specifications implemented in this library"

# THE table: name, exponent bits, mantissa bits, then only what differs from an IEEE 754 interchange format.
_FLOATS: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("float64", 11, 52, {"aliases": ("fp64", "f64"), "source": "IEEE 754-2019, 3.6, binary64"}),
    ("float32", 8, 23, {"aliases": ("fp32", "f32"), "source": "IEEE 754-2019, 3.6, binary32"}),
    ("tf32", 8, 10, {"storage": "float32", "source": "NVIDIA A100 Tensor Core GPU Architecture, whitepaper, 2020"}),
    ("bfloat16", 8, 7, {"aliases": ("bf16",), "source": "Intel BFLOAT16 Hardware Numerics Definition, rev. 1.0"}),
    ("float16", 5, 10, {"aliases": ("fp16", "f16"), "source": "IEEE 754-2019, 3.6, binary16"}),
    ("float8_e5m2", 5, 2, {"aliases": ("e5m2", "fp8_e5m2"), "source": _OCP8}),
    ("float8_e4m3fn", 4, 3, {"aliases": ("e4m3fn", "fp8_e4m3"), "nan": "all_ones", "has_inf": False, "source": _OCP8}),
    ("float8_e4m3", 4, 3, {"aliases": ("e4m3",), "source": _ML_DTYPES}),
    ("float8_e3m4", 3, 4, {"aliases": ("e3m4",), "source": _ML_DTYPES}),
    (
        "float8_e5m2fnuz",
        5,
        2,
        {"aliases": ("e5m2fnuz",), "bias": 16, "nan": "negative_zero", "has_inf": False, "source": _GRAPHCORE},
    ),
    (
        "float8_e4m3fnuz",
        4,
        3,
        {"aliases": ("e4m3fnuz",), "bias": 8, "nan": "negative_zero", "has_inf": False, "source": _GRAPHCORE},
    ),
    (
        "float8_e4m3b11fnuz",
        4,
        3,
        {"aliases": ("e4m3b11fnuz",), "bias": 11, "nan": "negative_zero", "has_inf": False, "source": _ML_DTYPES},
    ),
    (
        "float8_e8m0fnu",
        8,
        0,
        {
            "aliases": ("e8m0fnu",),
            "nan": "all_ones",
            "has_inf": False,
            "is_signed": False,
            "has_zero": False,
            "source": _OCPMX,
        },
    ),
    ("float6_e3m2fn", 3, 2, {"aliases": ("e3m2fn",), "nan": "none", "has_inf": False, "source": _OCPMX}),
    ("float6_e2m3fn", 2, 3, {"aliases": ("e2m3fn",), "nan": "none", "has_inf": False, "source": _OCPMX}),
    ("float4_e2m1fn", 2, 1, {"aliases": ("e2m1fn", "fp4"), "nan": "none", "has_inf": False, "source": _OCPMX}),
)

_INTEGERS: tuple[tuple[str, int, bool], ...] = (
    ("int8", 8, True),
    ("uint8", 8, False),
    ("int4", 4, True),
    ("uint4", 4, False),
    ("int2", 2, True),
    ("uint2", 2, False),
    ("int1", 1, True),
    ("uint1", 1, False),
)

_TABLE: tuple[Format, ...] = tuple(
    FloatFormat(name, exponent_bits=e, mantissa_bits=m, **{"storage": name, **facts}) for name, e, m, facts in _FLOATS
) + tuple(
    IntFormat(name, bits=bits, is_signed=signed, storage=name, source="two's complement, or plain binary if unsigned")
    for name, bits, signed in _INTEGERS
)
_BY_NAME: dict[str, Format] = {word: fmt for fmt in _TABLE for word in (fmt.name, *fmt.aliases)}
_BY_DTYPE: dict[np.dtype[Any], Format] = {
    fmt.storage_dtype: fmt for fmt in _TABLE if fmt.storage_dtype is not None and fmt.name != "tf32"
}
# Names that `blocks.py` explains; here only to say so.
BLOCK_FORMATS = (
    *("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8", "nvfp4", "nf4", "fp4_bnb"),
    *("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"),
)
_AMBIGUOUS = {"fp8": ("fp8_e4m3", "fp8_e5m2"), "float8": ("fp8_e4m3", "fp8_e5m2"), "fp6": ("e2m3fn", "e3m2fn")}


def formats() -> tuple[Format, ...]:
    """Return every format in the table, widest first, floats before integers.

    Returns
    -------
    tuple of FloatFormat and IntFormat
        The table. It does not change while the program runs.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> [fmt.name for fmt in lp.formats()][:3]
    ['float64', 'float32', 'tf32']
    """
    return _TABLE


def stored_format(dtype: np.dtype[Any]) -> Format | None:
    """Return the format that a NumPy or ml_dtypes dtype stores (float32 stores float32, not tf32), or None."""
    return _BY_DTYPE.get(dtype)


def format(fmt: Any, /) -> Format:  # noqa: A001 - the contract's name
    """Return the format that a name, dtype or format stands for.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat, numpy.dtype or scalar type
        A canonical name (`float8_e4m3fn`), an alias (`e4m3fn`), a custom IEEE-like name (`e5m7`), an
        integer's (`int3`, `uint5`), a NumPy or ml_dtypes dtype, or a format, which comes back unchanged.

    Returns
    -------
    FloatFormat or IntFormat
        Immutable; formats compare by their name and facts.

    Raises
    ------
    TypeError
        If `fmt` is of another kind.
    ValueError
        If the name is unknown (close ones are listed), ambiguous, or names a block format.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.format("bf16").max
    3.3895313892515355e+38
    >>> lp.format("e5m7").bits
    13
    """
    if isinstance(fmt, (FloatFormat, IntFormat)):
        return fmt
    if isinstance(fmt, str):
        return _named(fmt)
    if isinstance(fmt, (np.dtype, type)):
        try:
            found = stored_format(np.dtype(fmt).newbyteorder("="))
        except TypeError:
            found = None
        if found is not None:
            return found
    msg = (
        f"`fmt` must be a format name, a FloatFormat, an IntFormat or a dtype that stores one, got {fmt!r} of type "
        f"{type(fmt).__name__}; lp.formats() lists the formats."
    )
    raise TypeError(msg)


@lru_cache(maxsize=1024)
def _named(name: str) -> Format:
    """Look a name up in the table, or make the custom format that it spells."""
    word = name.strip().lower()
    if word in _BY_NAME:
        return _BY_NAME[word]
    if custom := re.fullmatch(r"e(\d+)m(\d+)", word):
        return FloatFormat(word, exponent_bits=int(custom[1]), mantissa_bits=int(custom[2]))
    if (whole := re.fullmatch(r"(u?)int(\d{1,2})", word)) and 1 <= int(whole[2]) <= 32:
        return IntFormat(bits=int(whole[2]), is_signed=not whole[1])
    if word in _AMBIGUOUS:
        one, other = _AMBIGUOUS[word]
        msg = f"`fmt` must name one format, got {name!r}, which is ambiguous; write {one!r} or {other!r}."
        raise ValueError(msg)
    if word in BLOCK_FORMATS:
        msg = (
            f"`fmt` must name an element format, got the block format {name!r}, whose elements share a scale; "
            "use lp.quantize, or encode the elements in their own format, such as 'e2m1fn' for mxfp4."
        )
        raise ValueError(msg)
    close = difflib.get_close_matches(word, list(_BY_NAME), n=4, cutoff=0.5)
    hint = f"the closest: {', '.join(map(repr, close))}." if close else "lp.formats() lists the names."
    msg = f"`fmt` must be a known format name, got {name!r}; {hint}"
    raise ValueError(msg)
