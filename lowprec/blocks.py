"""THE table of block formats: an element format, how many elements share a scale, and how the scale is found."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

from lowprec import _codebook_tables
from lowprec.codebooks import CodebookFormat, ElementFormat
from lowprec.formats import Format
from lowprec.formats import format as resolve

SCALE_RULES = ("nearest", "up", "floor", "ceil", "even", "rceil")


@dataclass(frozen=True)
class BlockFormat:
    """A block format.

    Parameters
    ----------
    name : str
        How it is called.
    element : FloatFormat, IntFormat or CodebookFormat
        The format of the elements.
    block_size : int
        How many elements share a scale.
    scale : FloatFormat
        The format of the scales.
    scale_rule : str
        How `quantize` finds a scale if not told otherwise.
    two_level : bool
        Whether a float32 scale of the whole tensor multiplies the scales.
    unit : float
        What a code value of 1 stands for at a scale of 1: 2**-6 for MXINT8, whose elements are fractions.
    ggml : bool
        Whether GGML defines how it is quantised, and its bytes.
    offset : bool
        Whether each block has an offset beside its scale.
    reciprocal : bool
        Whether numbers are multiplied by the rounded reciprocal of the scale, not divided by it, and midpoints between
        values are float32 numbers, as bitsandbytes has it.
    source : str
        Where it is defined; not compared.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> mx = lp.block_format("mxfp4")
    >>> mx.element.name, mx.block_size, mx.scale.name, mx.bits
    ('float4_e2m1fn', 32, 'float8_e8m0fnu', 4.25)
    """

    name: str
    element: ElementFormat
    block_size: int
    scale: Format
    scale_rule: str = "nearest"
    two_level: bool = False
    unit: float = 1.0
    ggml: bool = False
    offset: bool = False
    reciprocal: bool = False
    source: str = field(default="custom", compare=False, repr=False)

    @property
    def bits(self) -> float:
        """Bits per element, scales and offsets included, a tensor scale not."""
        return self.element.bits + self.scale.bits * (1 + int(self.offset)) / self.block_size

    def __str__(self) -> str:
        """Return the name."""
        return self.name


_MX = "OCP Microscaling Formats (MX) Specification, version 1.0, section 5.2 and 6.3"
_GGML = "GGML, ggml-quants.c and gguf-py quants.py (gguf 0.19.0)"
_BNB = "bitsandbytes 0.50.2, functional.quantize_4bit; Dettmers et al., QLoRA, arXiv:2305.14314"


def _mx(name: str, element: str, unit: float = 1.0) -> BlockFormat:
    """Return a microscaling format."""
    return BlockFormat(name, resolve(element), 32, resolve("e8m0fnu"), "floor", unit=unit, source=_MX)


def _codebook(name: str, values: tuple[float, ...], source: str) -> CodebookFormat:
    """Return a format that is a table."""
    return CodebookFormat(name, values, source=source)


NF4 = _codebook("nf4", _codebook_tables.NF4, _BNB)
FP4_BNB = _codebook("fp4_bnb", _codebook_tables.FP4_BNB, _BNB)
IQ4_NL = _codebook("iq4_nl", tuple(float(value) for value in _codebook_tables.IQ4_NL), _GGML)
_SINGLE, _HALF = resolve("float32"), resolve("float16")

_TABLE: tuple[BlockFormat, ...] = (
    _mx("mxfp8_e4m3", "e4m3fn"),
    _mx("mxfp8_e5m2", "e5m2"),
    _mx("mxfp6_e2m3", "e2m3fn"),
    _mx("mxfp6_e3m2", "e3m2fn"),
    _mx("mxfp4", "e2m1fn"),
    _mx("mxint8", "int8", 2.0**-6),
    BlockFormat(
        "nvfp4",
        resolve("e2m1fn"),
        16,
        resolve("e4m3fn"),
        two_level=True,
        source="NVIDIA, Introducing NVFP4 for Efficient and Accurate Low-Precision Inference, 2025; torchao 0.18",
    ),
    BlockFormat("nf4", NF4, 64, _SINGLE, reciprocal=True, source=_BNB),
    BlockFormat("fp4_bnb", FP4_BNB, 64, _SINGLE, reciprocal=True, source=_BNB),
    BlockFormat("q8_0", resolve("int8"), 32, _HALF, ggml=True, source=_GGML),
    BlockFormat("q4_0", resolve("uint4"), 32, _HALF, ggml=True, source=_GGML),
    BlockFormat("q4_1", resolve("uint4"), 32, _HALF, ggml=True, offset=True, source=_GGML),
    BlockFormat("q5_0", resolve("uint5"), 32, _HALF, ggml=True, source=_GGML),
    BlockFormat("q5_1", resolve("uint5"), 32, _HALF, ggml=True, offset=True, source=_GGML),
    BlockFormat("iq4_nl", IQ4_NL, 32, _HALF, ggml=True, source=_GGML),
)
_BY_NAME = {row.name: row for row in _TABLE}


def block_formats() -> tuple[BlockFormat, ...]:
    """Return the table of block formats.

    Returns
    -------
    tuple of BlockFormat
        In the order of the documentation.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> import lowprec as lp
    >>> [row.name for row in lp.block_formats()][:3]
    ['mxfp8_e4m3', 'mxfp8_e5m2', 'mxfp6_e2m3']
    """
    return _TABLE


def is_block_name(value: Any) -> bool:
    """Say whether a value is a block format or the name of one."""
    return isinstance(value, BlockFormat) or (isinstance(value, str) and value.strip().lower() in _BY_NAME)


def block_format(name: Any, /) -> BlockFormat:
    """Return the block format of a name.

    Parameters
    ----------
    name : str or BlockFormat
        A name of the table, or a block format, which comes back unchanged.

    Returns
    -------
    BlockFormat
        The row.

    Raises
    ------
    TypeError
        If `name` is of another kind.
    ValueError
        If the name is unknown; close ones are listed.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.block_format("nvfp4").bits
    4.5
    """
    if isinstance(name, BlockFormat):
        return name
    if not isinstance(name, str):
        msg = f"`name` must be the name of a block format or a BlockFormat, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    word = name.strip().lower()
    if word in _BY_NAME:
        return _BY_NAME[word]
    close = difflib.get_close_matches(word, list(_BY_NAME), n=4, cutoff=0.5)
    hint = f"the closest: {', '.join(map(repr, close))}." if close else "lp.block_formats() lists the names."
    msg = f"`name` must be a known block format, got {name!r}; {hint}"
    raise ValueError(msg)
