"""The sums of AMD's matrix cores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lowprec.accumulators.base import Hardware, integer


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
        self._set(length=integer(self.length, "length", 1, 64))

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
        length = integer(self.length, "length", 2, 4)
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
        length = integer(self.length, "length", 1, 64)
        fraction = integer(self.fraction_bits, "fraction_bits", 23, 40)
        final = integer(self.final_bits, "final_bits", 24, 45)
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
