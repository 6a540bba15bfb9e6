"""Sums in a named format, in a tree, exact, or of integers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lowprec.accumulators.base import Accumulator, float_format, integer, member
from lowprec.formats import FloatFormat, IntFormat
from lowprec.rounding import Overflow, Rounding, Subnormals


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
        fmt = float_format(self.format, "format")
        rounding = member(self.rounding, Rounding, "rounding")
        if not isinstance(self.fused, (bool, np.bool_)):
            msg = f"`fused` must be True or False, got {self.fused!r}."
            raise TypeError(msg)
        product = None if self.product is None else float_format(self.product, "product")
        if product is None and not self.fused:
            product = fmt
        overflow = None if self.overflow is None else member(self.overflow, Overflow, "overflow")
        for each in (fmt, *([] if product is None else [product])):
            if (overflow is Overflow.INF and not each.has_inf) or (overflow is Overflow.NAN and not each.has_nan):
                msg = f"`overflow` must be a policy that `{each}` can express, got {str(overflow)!r}."
                raise ValueError(msg)
        subnormals = member(self.subnormals, Subnormals, "subnormals", (Subnormals.KEEP, Subnormals.FLUSH))
        bits = self.random_bits
        if rounding is Rounding.STOCHASTIC:
            most = min(32, 52 - max(each.precision for each in (fmt, product or fmt)))
            if most < 1:
                msg = f"`format` must have at most 51 significand bits with stochastic rounding, got `{fmt}`."
                raise ValueError(msg)
            bits = most if bits is None else integer(bits, "random_bits", 1, most)
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
        rounding = member(self.rounding, Rounding, "rounding")
        if rounding is Rounding.STOCHASTIC:
            msg = '`rounding` must be deterministic in a tree, got "stochastic"; use lp.Sequential or lp.Chunked.'
            raise ValueError(msg)
        self._set(format=float_format(self.format, "format"), rounding=rounding)
        self._set(block=integer(self.block, "block", 1, 2**31 - 1))

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
        rounding = member(self.rounding, Rounding, "rounding")
        if rounding is Rounding.STOCHASTIC:
            msg = '`rounding` must be deterministic in an exact sum, got "stochastic"; round with out_dtype instead.'
            raise ValueError(msg)
        fmt = None if self.format is None else float_format(self.format, "format")
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
class Integer(Accumulator):
    """A sum of integer products in two's complement that wraps, saturates, or must not overflow.

    ::

        r = c or 0
        for each block of `length` products, k ascending: r = fit(r + exact sum of the block)
        with overflow="raise": r = c + the exact sum of all products, or an error

    Parameters
    ----------
    bits : int
        Width, 2 to 32.
    overflow : {"wrap", "saturate", "raise"}
        What `fit` does beyond the range: modulo ``2**bits``, or to the nearer end. "raise": an OverflowError that names
        the first element, in C order, whose sum the range does not hold, its value and the range. It is the final
        exact sum that counts, `c` included, and not what a running sum passes through: that depends on the order.
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
    overflow: Literal["wrap", "saturate", "raise"] = "wrap"
    length: int = 1
    is_signed: bool = True

    def __post_init__(self) -> None:
        """Check and normalise."""
        if not isinstance(self.overflow, str) or self.overflow.lower() not in {"wrap", "saturate", "raise"}:
            msg = f"`overflow` must be 'wrap', 'saturate' or 'raise', got {self.overflow!r}."
            raise TypeError(msg) if not isinstance(self.overflow, str) else ValueError(msg)
        if not isinstance(self.is_signed, (bool, np.bool_)):
            msg = f"`is_signed` must be True or False, got {self.is_signed!r}."
            raise TypeError(msg)
        self._set(bits=integer(self.bits, "bits", 2, 32), overflow=self.overflow.lower())
        self._set(length=integer(self.length, "length", 1, 2**15), is_signed=bool(self.is_signed))

    @property
    def result_format(self) -> IntFormat:
        """The integers of that width."""
        return IntFormat(bits=self.bits, is_signed=self.is_signed)

    def __str__(self) -> str:
        """Say what the model does."""
        if self.overflow == "raise":
            return f"{self.result_format} sum, exact, an error where it does not fit"
        step = "each product" if self.length == 1 else f"blocks of {self.length} products"
        return f"{self.result_format} sum, {step} added exactly, then {self.overflow}"
