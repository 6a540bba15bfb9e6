"""The three matrices of a product: their formats, and the bits that they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lowprec import _text_tables as tables
from lowprec.blocks import block_format, is_block_name
from lowprec.codebooks import ElementFormat, element_of
from lowprec.cost._figure import Figure
from lowprec.cost._printed import Printed
from lowprec.cost._traffic import Traffic, traffic
from lowprec.formats import FloatFormat

_MOST = 2**30


@dataclass(frozen=True, eq=False, repr=False)
class MatmulTraffic(Printed):
    """What the three matrices of a product take, each read or written once; exact counts.

    Parameters
    ----------
    sizes : tuple of int
        M, K and N.
    compute : FloatFormat, IntFormat or CodebookFormat
        The format that is multiplied in.
    a, b, c : Traffic
        What is read of the matrices of shapes (M, K) and (K, N), and written of the one of shape (M, N).

    Raises
    ------
    Nothing.
    """

    sizes: tuple[int, int, int]
    compute: ElementFormat
    a: Traffic
    b: Traffic
    c: Traffic

    @property
    def ops(self) -> int:
        """Operations: 2 M K N, a multiplication and an addition each, kept or not."""
        m, k, n = self.sizes
        return 2 * m * k * n

    @property
    def macs(self) -> int:
        """Products that are summed: M K N, or the part of them that sparsity keeps."""
        m, k, n = self.sizes
        pattern = self.b.sparsity
        return m * n * (k if pattern is None else -(-k // pattern.group) * pattern.kept)

    @property
    def bytes(self) -> int:
        """Bytes that are read and written."""
        return self.a.bytes + self.b.bytes + self.c.bytes

    @property
    def intensity(self) -> Figure:
        """Operations for each byte."""
        return Figure(self.ops / self.bytes, "op/byte", "exact count", f"2 M K N over {self.bytes} bytes")

    @property
    def name(self) -> str:
        """The formats."""
        return self.a.name if self.a.name == self.b.name else f"{self.a.name} x {self.b.name}"

    def _view(self) -> tables.Table:
        m, k, n = self.sizes
        rows = [
            [word, each.name, f"{each.bits_per_element:.6g}", str(each.bytes)]
            for word, each in (("read A", self.a), ("read B", self.b), ("write C", self.c))
        ]
        rows.append(["in all", "", "", str(self.bytes)])
        notes = [f"{self.ops} operations, {self.intensity:.4g} to a byte."]
        return tables.Table(["<what", "<format", "bits per element", "bytes"], rows, f"{m} x {k} x {n}", notes)

    def __repr__(self) -> str:
        """Return one line."""
        return f"<Traffic of {' x '.join(map(str, self.sizes))} in {self.name}: {self.bytes} bytes>"


def matmul_traffic(
    M: int, K: int, N: int, dtype: Any, *, weights: Any = None, sparsity: Any = None, out_dtype: Any = None
) -> MatmulTraffic:
    """Return the bytes that a product of matrices reads and writes, each matrix once.

    Parameters
    ----------
    M, K, N : int
        Sizes: A is (M, K), B is (K, N), C is (M, N).
    dtype : str, FloatFormat, IntFormat, BlockFormat or dtype, or a pair of them
        Format of A and B, or one for each. Blocks go along K.
    weights : str, format or Traffic, optional
        How B is stored, if otherwise than it is multiplied; `traffic` makes one with scales of its own, such as
        ``lp.cost.traffic("int4", block_size=128, scale_dtype="fp16")``.
    sparsity : {"2:4", "1:2", "4:8"} or SparsityPattern, optional
        What is kept of B, along K.
    out_dtype : str, FloatFormat, IntFormat, BlockFormat or dtype, optional
        Format of C. By default that of A if it is a float of 16 bits or more, else "bf16".

    Returns
    -------
    MatmulTraffic
        ``.a``, ``.b``, ``.c``, ``.bytes``, ``.ops``, ``.intensity``; prints as a table.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a size is less than 1, a name is unknown, or `weights` is given with a pair of formats.

    Examples
    --------
    >>> import lowprec as lp
    >>> print(lp.cost.matmul_traffic(1, 4096, 4096, "int8", sparsity="2:4"))
    1 x 4096 x 4096
    what     format     bits per element     bytes
    -------  ---------  ----------------  --------
    read A   int8                      8      4096
    read B   int8, 2:4                 5  10485760
    write C  bfloat16                 16      8192
    in all                                10498048
    33554432 operations, 3.196 to a byte.
    """
    sizes = sizes_of(M, K, N)
    m, k, n = sizes
    first, second = _pair(dtype, weights)
    compute = _element(first)
    if out_dtype is None:
        out_dtype = compute if isinstance(compute, FloatFormat) and compute.bits >= 16 else "bf16"
    stored = second
    if isinstance(second, Traffic):
        if sparsity is not None and second.sparsity is not None:
            msg = f"`sparsity` must be given once, got {sparsity!r} beside `weights` that have {second.sparsity}."
            raise ValueError(msg)
        if sparsity is not None:
            msg = "`sparsity` must go into `weights` made by lp.cost.traffic; pass it there."
            raise ValueError(msg)
    else:
        stored = _named(second, "weights" if weights is not None else "dtype", sparsity)
    a = _named(first, "dtype", None).of((m, k), axis=-1)
    c = _named(out_dtype, "out_dtype", None).of((m, n), axis=-1)
    return MatmulTraffic(sizes, compute, a, stored.of((k, n), axis=0), c)


def _pair(dtype: Any, weights: Any) -> tuple[Any, Any]:
    """Return what A and B are stored in."""
    if not isinstance(dtype, (tuple, list)):
        return dtype, dtype if weights is None else weights
    if len(dtype) != 2:
        msg = f"`dtype` must be a format or a pair of them, got {len(dtype)}."
        raise ValueError(msg)
    if weights is not None:
        msg = f"`weights` must not be given with a pair of formats, got {weights!r} beside {dtype!r}."
        raise ValueError(msg)
    return dtype[0], dtype[1]


def _element(fmt: Any) -> ElementFormat:
    """Return the format of the elements."""
    return block_format(fmt).element if is_block_name(fmt) else _spoken(lambda: element_of(fmt, "dtype"), "dtype")


def _named(fmt: Any, argument: str, sparsity: Any) -> Traffic:
    """Return what a format takes; errors speak of the argument."""
    made: Traffic = _spoken(lambda: traffic(fmt, sparsity=sparsity), argument)
    return made


def _spoken(make: Any, argument: str) -> Any:
    """Call, with errors that name an argument in place of `fmt`."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("`fmt`", f"`{argument}`", 1)) from None


def sizes_of(*sizes: Any) -> tuple[int, int, int]:
    """Check M, K and N."""
    for name, value in zip("MKN", sizes, strict=True):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r} of type {type(value).__name__}."
            raise TypeError(msg)
        if not 1 <= value <= _MOST:
            msg = f"`{name}` must be from 1 to 2**30, got {value}."
            raise ValueError(msg)
    m, k, n = (int(value) for value in sizes)
    return m, k, n
