"""The sums of x86's and Arm's vector and tile instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lowprec.accumulators.base import Hardware, integer


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
        length = integer(self.length, "length", 2, 32)
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
