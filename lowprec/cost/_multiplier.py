"""multiplier: what a multiplier takes, and the rule of thumb."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import numpy as np

from lowprec.cost import _blocks
from lowprec.cost._bill import multiplier_group, recoded_signed
from lowprec.cost._cells import Cells, Part, total
from lowprec.cost._result import Cost
from lowprec.cost._shape import Operand, operand_of, pair_of

MultiplierKind = Literal["grid", "array", "dadda", "booth"]
KINDS = ("grid", "array", "dadda", "booth")
_MOST = 4096
SOURCE = "docs/cost.md, section Multipliers; the cells of the emitted netlists (lp.rtl) are counted and equal"


def multiplier(n_or_format: Any, kind: MultiplierKind = "grid") -> Cost:
    """Return what a multiplier takes: its cells exactly, its gate equivalents by a closed form.

    For n by m bits, n >= m >= 2, unsigned:

    =========  =========================  =================  ======  ===============================
    kind       FA                         HA                 AND     besides
    =========  =========================  =================  ======  ===============================
    ``grid``   ``n*m``                    0                  n*m     the rule of thumb as it is drawn
    ``array``  ``n*(m-1) - m``            m                  n*m
    ``dadda``  ``n*n - 4*n + 3``          ``n - 1``          n*m     CPA: a (2n-2)-bit adder; n = m > 2
    ``booth``  ``(rows-1)*(n+1)``         0                  --      rows of n + 1 bits, recoded; see docs/cost.md
    =========  =========================  =================  ======  ===============================

    Parameters
    ----------
    n_or_format : int, str, FloatFormat or IntFormat, or a pair of them
        Bits of unsigned factors, or the format: of a float its significand with the leading 1 (11 bits for fp16), of
        a signed integer its two's complement (Baugh and Wooley: two HA and an XOR per bit of both more).
    kind : {"grid", "array", "dadda", "booth"}
        How the partial products are made and added. In a grid every AND has a full adder, of which those at the edges
        have inputs of 0: `counts` are those of the drawing, `ge` those of what synthesis leaves, the array.
        ``"dadda"`` adds the columns in a tree, of which `counts` has FA and HA, and then in an adder of ``CPA`` bits;
        ``"booth"`` (radix 4) halves the rows: m // 2 + 1 of unsigned factors, half as many as m of signed ones.

    Returns
    -------
    Cost
        ``counts`` are exact, ``ge`` is a closed form. ``rule`` is (M+1)x(M+1).

    Raises
    ------
    TypeError
        If `n_or_format` is neither a number of bits nor a format.
    ValueError
        If the bits are not from 1 to 4096, the kind is unknown, or the format is a block or a table, or has no sign
        and no zero.

    Notes
    -----
    Dadda, "Some schemes for parallel multipliers", Alta Frequenza 34 (1965); Baugh and Wooley, IEEE Trans. Computers
    C-22 (1973); MacSorley, Proc. IRE 49 (1961).

    Examples
    --------
    >>> import lowprec as lp
    >>> [lp.cost.multiplier(fmt).rule for fmt in ("fp32", "fp16", "bf16", "e4m3fn", "e5m2", "e2m1fn")]
    [576, 121, 64, 16, 9, 4]
    >>> lp.cost.multiplier("fp16").counts, lp.cost.multiplier(11, "array").counts
    ({'FA': 121, 'HA': 0, 'AND': 121}, {'FA': 99, 'HA': 11, 'AND': 121})
    """
    a, b = _factors(n_or_format)
    if not isinstance(kind, str):
        msg = f"`kind` must be one of {', '.join(KINDS)}, got {kind!r} of type {type(kind).__name__}."
        raise TypeError(msg)
    word = kind.lower()
    if word not in KINDS:
        close = difflib.get_close_matches(word, KINDS, n=1)
        msg = f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}{f'; the closest: {close[0]!r}' * bool(close)}."
        raise ValueError(msg)
    n, m = max(a.precision, b.precision), min(a.precision, b.precision)
    signed = not a.is_float and (a.is_signed or b.is_signed)
    correction = _blocks.sign_correction(n, m, signed)
    notes: tuple[str, ...] = ()
    counted: Cells | None = None
    array = _blocks.array(n, m)
    parts = {"multiply": Part(array)}
    if word == "grid":
        counted = total({"FA": n * m, "AND": n * m}, correction)
        notes = ("Cells as drawn; the inputs of 0 at the edges fold away, and GE are of the array that is left.",)
    elif word == "dadda":
        tree, final = dadda_cells(n, m)
        counted = total({"AND": n * m}, tree, correction) | {"CPA": final}
        notes = ("FA and HA are of the tree; CPA: the bits of the adder after it.",)
    elif word == "booth":
        parts = {"multiply": Part(_blocks.booth(n, m, recoded_signed(a, b)))}
        notes = ("Pays from about 8 bits on; below 4 bits synthesis leaves far less.",)
    if correction and word != "booth":
        parts["sign"] = Part(correction)
    name = f"{n} x {m} bit multiplier, {word}" + (", signed" if signed else "")
    group = "Booth multiplier" if word == "booth" else "signed multiplier" if signed else "multiplier"
    groups = (multiplier_group(group, m),)
    return Cost(name, n * m, parts, "closed form", SOURCE, groups, notes, counted=counted, count_kind="exact count")


def _factors(value: Any) -> tuple[Operand, Operand]:
    """Return the shapes of both factors."""
    each = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(each) == 2 and all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in each):
        for bits in each:
            if not 1 <= bits <= _MOST:
                msg = f"`n_or_format` must be from 1 to {_MOST} bits, got {bits}."
                raise ValueError(msg)
        a, b = (Operand(f"uint{int(v)}", int(v), 0, False, False, int(v)) for v in each)
        return a, b
    try:
        a_format, b_format = pair_of(value)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", "`n_or_format`", 1)) from None
    return operand_of(a_format), operand_of(b_format)


def dadda_cells(n: int, m: int) -> tuple[dict[str, float], int]:
    """Return the FA and HA of Dadda's tree, and the bits of the adder after it.

    The columns are brought down to 2 bits in stages whose greatest heights are 2, 3, 4, 6, 9, 13, ... from the last
    to the first; a column is compressed just as far as its stage asks for.
    """
    columns = [min(i + 1, m, n + m - 1 - i) for i in range(n + m - 1)] + [0]
    limits = [2]
    while limits[-1] < m:
        limits.append(limits[-1] * 3 // 2)
    full = half = 0
    for limit in reversed([each for each in limits if each < m]):
        carries = 0
        for i, height in enumerate(columns):
            left, carried = height + carries, 0
            while left > limit:
                two = left == limit + 1
                left -= 1 if two else 2
                half, full, carried = half + two, full + (not two), carried + 1
            columns[i], carries = left, carried
    wide = [i for i, height in enumerate(columns) if height == 2]
    return {"FA": full, "HA": half}, (len(columns) - 1 - wide[0] if wide else 0)
