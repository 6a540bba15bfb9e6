"""Products with a sparse operand: one element of a result, from the kept codes of a row and a whole column.

A group of four slots keeps two, and a 4-bit code, the nibble, says which. A slot is one element in "2:4", a pair of
elements in "4:8", half an element in "1:2".

References
----------
NVIDIA, PTX ISA 8.5, section 9.7.14.5: sparse matrix storage and its metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from lowprec.accumulators import Accumulator, Integer, Sequential
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as _format
from lowprec.reference import sums
from lowprec.reference.models import accumulate
from lowprec.reference.reals import real, rounded

__all__ = ["expanded", "kept_places", "nibble_of", "places_of", "sparse_dot", "sparse_matmul"]

_SIZES = {"2:4": (2, 4), "1:2": (1, 2), "4:8": (4, 8)}  # elements kept, and elements of a group


def _sizes(pattern: str) -> tuple[int, int]:
    """Return how many elements of a group are kept, and how many it has."""
    if pattern not in _SIZES:
        msg = f"`pattern` must be one of {', '.join(_SIZES)}, got {pattern!r}."
        raise ValueError(msg)
    return _SIZES[pattern]


def places_of(nibble: int, pattern: str = "2:4") -> tuple[int, ...]:
    """Return the places in a group that a nibble keeps.

    Parameters
    ----------
    nibble : int
        Low two bits: the first slot that is kept; high two bits: the second.
    pattern : {"2:4", "1:2", "4:8"}
        What a slot is.

    Returns
    -------
    tuple of int
        Places of elements, ascending.

    Raises
    ------
    ValueError
        If the first slot is not below the second, or in "1:2" the two are not the halves of one element.

    Notes
    -----
    PTX ISA 8.5, section 9.7.14.5: other nibbles are undefined.

    Examples
    --------
    >>> places_of(0x9), places_of(0xE, "1:2"), places_of(0xC, "4:8")
    ((1, 2), (1,), (0, 1, 6, 7))
    """
    kept, group = _sizes(pattern)
    slots = (nibble % 4, nibble // 4)
    elements = Fraction(group, 4)  # of a slot
    found = sorted({int(elements * slot + part) for slot in slots for part in range(max(1, int(elements)))})
    if not 0 <= nibble < 16 or slots[0] >= slots[1] or len(found) != kept:
        msg = f"`nibble` must be a legal code of {pattern}, got {nibble:#x}."
        raise ValueError(msg)
    return tuple(found)


def nibble_of(places: Sequence[int], pattern: str = "2:4") -> int:
    """Return the nibble of the places that a group keeps.

    Parameters
    ----------
    places : sequence of int
        Places of elements, ascending.
    pattern : {"2:4", "1:2", "4:8"}
        What a slot is.

    Returns
    -------
    int
        From 0x4 to 0xE.

    Raises
    ------
    ValueError
        If no nibble keeps these places.

    Notes
    -----
    The inverse of `places_of`, by trying all.

    Examples
    --------
    >>> hex(nibble_of((0, 3)))
    '0xc'
    """
    for nibble in range(16):
        try:
            if places_of(nibble, pattern) == tuple(places):
                return nibble
        except ValueError:
            _sizes(pattern)
    msg = f"`places` must be those of a nibble of {pattern}, got {tuple(places)}."
    raise ValueError(msg)


def kept_places(indices: Sequence[int], pattern: str = "2:4") -> list[int]:
    """Return the k of every value of a row.

    Parameters
    ----------
    indices : sequence of int
        Group by group, ascending: the place of each value in its group; in "4:8" that of each pair, 0 to 3.
    pattern : {"2:4", "1:2", "4:8"}
        The pattern.

    Returns
    -------
    list of int
        Ascending. In the last group some may lie beyond the row's length.

    Raises
    ------
    ValueError
        If an index is out of range, does not ascend in its group, or a group is not whole.

    Examples
    --------
    >>> kept_places([0, 3, 1, 2]), kept_places([1, 3], "4:8")
    ([0, 3, 5, 6], [2, 3, 6, 7])
    """
    kept, group = _sizes(pattern)
    run = 2 if pattern == "4:8" else 1  # elements that an index stands for
    count = kept // run
    found = []
    for start in range(0, len(indices), count):
        own = list(indices[start : start + count])
        if len(own) < count or own != sorted(set(own)) or not 0 <= own[0] <= own[-1] < group // run:
            msg = f"`indices` must be {count} ascending places in each group of {pattern}, got {own}."
            raise ValueError(msg)
        found += [start // count * group + i * run + j for i in own for j in range(run)]
    return found


def expanded(values: Sequence[int], indices: Sequence[int], length: int, pattern: str = "2:4") -> list[int]:
    """Return the dense row: zero, code 0, where nothing is kept.

    Parameters
    ----------
    values : sequence of int
        Codes of the kept elements.
    indices : sequence of int
        As in `kept_places`.
    length : int
        Elements of the dense row.
    pattern : {"2:4", "1:2", "4:8"}
        The pattern.

    Returns
    -------
    list of int
        `length` codes.

    Raises
    ------
    ValueError
        As `kept_places`.

    Examples
    --------
    >>> expanded([7, 8, 9, 0], [0, 3, 1, 2], 6)
    [7, 0, 0, 8, 0, 9]
    """
    row = [0] * length
    for k, code in zip(kept_places(indices, pattern), values, strict=True):
        if k < length:
            row[k] = code
    return row


def sparse_dot(
    model: Accumulator,
    values: Sequence[int],
    indices: Sequence[int],
    b: Sequence[int],
    c: int | None = None,
    *,
    formats: tuple[str | Format, str | Format],
    pattern: str = "2:4",
    c_format: str | FloatFormat | None = None,
    seed: int = 0,
    index: int = 0,
) -> int:
    """Return ``c + sum(values[j] * b[k_j])`` over the kept places ``k_j`` as a model evaluates it, code for code.

    Parameters
    ----------
    model : Accumulator
        How the sum is evaluated.
    values : sequence of int
        Codes of the kept elements.
    indices : sequence of int
        As in `kept_places`.
    b : sequence of int
        Codes of the whole column. Values at places beyond it are not part of the row.
    c : int, optional
        The code that the sum starts from; +0 if not given.
    formats : pair of str or FloatFormat or IntFormat
        The formats of `values` and of `b`.
    pattern : {"2:4", "1:2", "4:8"}
        The pattern.
    c_format : str or FloatFormat, optional
        As in `accumulate`.
    seed, index : int
        As in `accumulate`.

    Returns
    -------
    int
        As from `accumulate`.

    Raises
    ------
    TypeError
        As `accumulate`.
    ValueError
        As `accumulate` and `kept_places`.

    Notes
    -----
    Kept places are taken in ascending k, kept zeros included; what `b` holds at other places is not looked at, be it
    infinite or NaN. Then, by the kind of the model:

    `Sequential`
        A step for each kept place, with the random words that the dense sum has at that k. For finite operands this is
        the dense sum of the expanded row but for the sign of a zero, and for a subnormal `c` where sums flush: zeros
        of the expanded row flush it before the first kept place.
    `Exact`
        The sum of the kept products.
    `Integer`
        The dense sum of the expanded row: where it saturates by blocks, these are blocks of the dense k.
    All others
        The dense sum of two shorter operands, the kept values and what `b` holds at their places: blocks and trees, and
        random words too, count kept elements, as an instruction for sparse operands reads them.

    An instruction for dense operands alone is given the row of `expanded` instead.

    Examples
    --------
    >>> import lowprec as lp
    >>> one, inf = lp.reference.encode(1.0, "fp32"), lp.reference.encode(float("inf"), "fp32")
    >>> hex(sparse_dot(lp.Sequential(), [one, one], [0, 3], [one, inf, inf, one], formats=("fp32", "fp32")))
    '0x40000000'
    """
    if isinstance(model, Integer):
        row = expanded(values, indices, len(b), pattern)
        return accumulate(model, row, b, c, formats=formats, c_format=c_format)
    pairs = [(k, code) for k, code in zip(kept_places(indices, pattern), values, strict=True) if k < len(b)]
    left, right = [code for _, code in pairs], [b[k] for k, _ in pairs]
    if not isinstance(model, Sequential):
        return accumulate(model, left, right, c, formats=formats, c_format=c_format, seed=seed, index=index)
    first, second = _format(formats[0]), _format(formats[1])
    products = sums.dot_products([real(x, first) for x in left], [real(y, second) for y in right])
    r = real(0 if c is None else c, model.format)
    steps = sums.Stepper(model, seed, index)
    for (k, _), product in zip(pairs, products, strict=True):
        r = steps.add(steps.product(product, k), r, k)
    return rounded(r, model.format)


def sparse_matmul(
    model: Accumulator,
    values: Sequence[Sequence[int]],
    indices: Sequence[Sequence[int]],
    b: Sequence[Sequence[int]],
    c: Sequence[Sequence[int]] | None = None,
    *,
    formats: tuple[str | Format, str | Format],
    pattern: str = "2:4",
    seed: int = 0,
) -> list[list[int]]:
    """Return ``c + s @ b`` of nested lists of codes: `sparse_dot` of every row of s with every column of `b`.

    Parameters
    ----------
    model : Accumulator
        How each sum is evaluated.
    values, indices : nested sequences of int
        The kept codes of each row, and where they are kept.
    b : nested sequence of int
        K by N.
    c : nested sequence of int, optional
        M by N; +0 if not given.
    formats : pair of str or FloatFormat or IntFormat
        The formats of `values` and of `b`.
    pattern : {"2:4", "1:2", "4:8"}
        The pattern.
    seed : int
        For stochastic sums.

    Returns
    -------
    list of list of int
        M by N; without rows in `b`, N is that of `c`, or 0.

    Raises
    ------
    TypeError
        As `sparse_dot`.
    ValueError
        As `sparse_dot`.

    Examples
    --------
    >>> import lowprec as lp
    >>> sparse_matmul(lp.Integer(32), [[2, 3]], [[0, 2]], [[1], [9], [10], [9]], formats=("int8", "int8"))
    [[32]]
    """
    columns: list[tuple[int, ...]] = list(zip(*b, strict=True))
    if not b and c:
        columns = [()] * len(c[0])
    n = len(columns)
    return [
        [
            sparse_dot(
                model,
                values[i],
                indices[i],
                column,
                None if c is None else c[i][j],
                formats=formats,
                pattern=pattern,
                seed=seed,
                index=i * n + j,
            )
            for j, column in enumerate(columns)
        ]
        for i in range(len(values))
    ]
