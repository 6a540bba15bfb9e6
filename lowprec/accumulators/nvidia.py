"""The sums of NVIDIA's tensor cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lowprec.accumulators.base import Hardware, float_format, integer, member, resolve_or_none
from lowprec.formats import FloatFormat
from lowprec.rounding import Rounding

_SUM_BITS = 62  # of an aligned integer sum at most  # of an aligned integer sum at most
_ROUNDING_WORDS = {"rz": "toward_zero", "rne": "nearest_even"}


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
        length = integer(self.length, "length", 1, 4096)
        fraction = integer(self.fraction_bits, "fraction_bits", 1, _SUM_BITS)
        _check_widths(length, fraction)
        out = float_format(self.out, "out")
        if out.nan != "ieee" or out.mantissa_bits > 23 or out.exponent_bits > 8:
            msg = f"`out` must be an IEEE-like format within float32, got `{out}`."
            raise ValueError(msg)
        word: Any = self.rounding
        kept = self.kept_bits
        if isinstance(word, str) and word.lower() == "rz13":
            word, kept = "toward_zero", 13 if kept is None else kept
        word = _ROUNDING_WORDS.get(word.lower(), word) if isinstance(word, str) else word
        allowed = (Rounding.TOWARD_ZERO, Rounding.NEAREST_EVEN)
        kept = None if kept is None else integer(kept, "kept_bits", 1, out.mantissa_bits)
        floor = out.emin - 7 if self.exponent_floor is None else integer(self.exponent_floor, "exponent_floor", -400, 0)
        c_format = None if self.c_format is None else float_format(self.c_format, "c_format")
        if c_format == out:
            c_format = None
        if c_format is not None and (c_format.mantissa_bits > out.mantissa_bits or c_format.nan != "ieee"):
            msg = f"`c_format` must be an IEEE-like format no finer than `{out}`, got `{c_format}`."
            raise ValueError(msg)
        self._set(length=length, fraction_bits=fraction, out=out, rounding=member(word, Rounding, "rounding", allowed))
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
        length = integer(self.length, "length", 1, 4096)
        fraction = integer(self.fraction_bits, "fraction_bits", 1, _SUM_BITS)
        _check_widths(length, fraction)
        self._set(length=length, fraction_bits=fraction)
        self._set(exponent_floor=integer(self.exponent_floor, "exponent_floor", -400, 0))

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
        length, group = integer(self.length, "length", 1, 4096), integer(self.group, "group", 1, 256)
        fraction = integer(self.fraction_bits, "fraction_bits", 1, 45)
        block = integer(self.scale_block, "scale_block", 1, 4096)
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
        self._set(exponent_floor=integer(self.exponent_floor, "exponent_floor", -400, 0))

    def __str__(self) -> str:
        """Say what the model does."""
        return (
            f"blocks of {self.length} products: exact sums of {self.group}, times {self.scale_format} scales (one per "
            f"{self.scale_block}), and c, aligned to the largest exponent (at least {self.exponent_floor}), truncated "
            f"at {self.fraction_bits} fraction bits, summed exactly, rounded to float32 (toward_zero)"
        )


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
        out = float_format(self.out, "out")
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
