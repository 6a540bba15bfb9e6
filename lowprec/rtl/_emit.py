"""emit: from a format to Verilog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from lowprec.accumulators import Exact
from lowprec.blocks import block_format, is_block_name
from lowprec.formats import IntFormat
from lowprec.rtl import _block_dot, _dot, _exact, _float_units, _integer, _multiplier
from lowprec.rtl._design import Design
from lowprec.rtl._request import Request, element, flag, pair, rounding_of, subnormals_of, whole, word


def _mac(request: Request) -> Design:
    """Return a multiply-accumulate unit: of integers, of floats into a fixed-point sum, or of floats."""
    kinds = {isinstance(fmt, IntFormat) for fmt in (request.a, request.b)}
    if len(kinds) > 1:
        msg = f"`fmt` must be two floats or two integers, got `{request.a}` and `{request.b}`; convert one."
        raise ValueError(msg)
    if kinds == {True}:
        return _integer.build(request)
    if isinstance(request.accumulator, Exact) or request.accumulator == "exact":
        return _exact.build(request)
    return _float_units.mac(request)


def _any_dot(request: Request) -> Design:
    """Return a dot unit: of floats, or of the elements of blocks with scales."""
    return _dot.build(request) if request.block is None else _block_dot.build(request)


# One line per unit: `emit` finds it here.
_UNITS: Mapping[str, Callable[[Request], Design]] = MappingProxyType(
    {
        "mac": _mac,
        "multiply": _float_units.multiply,
        "add": _float_units.add,
        "cast": _float_units.cast,
        "dot": _any_dot,
        "multiplier": _multiplier.build,
        "adder": _integer.adder,
        "readout": _exact.readout,
    }
)


def emit(
    fmt: Any,
    accumulator: Any = None,
    *,
    unit: str = "mac",
    kind: str | None = None,
    lanes: int | None = None,
    to: Any = None,
    rounding: str | None = None,
    subnormals: str | None = None,
    k: int | None = None,
    register: bool = False,
) -> Design:
    """Write the Verilog of a unit.

    Parameters
    ----------
    fmt : str, FloatFormat, IntFormat, or a pair of them
        Of the operands; of a ``"dot"`` also a block format such as ``"mxfp4"``. For ``unit="multiplier"`` and
        ``"adder"`` also a width in bits, or a pair of them, unsigned; a float format stands for its significand with
        the leading bit.
    accumulator : str or model, optional
        Of a ``"mac"``, as for `lowprec.matmul`: ``"fp32"`` by default for floats and ``"int32"`` for integers. A fused
        `Sequential` brings its own policies; with ``"stochastic"`` rounding the unit has a port `random`. The result
        of ``"multiply"`` and ``"add"``, by default that of the operands. Of a ``"dot"``, a `FusedTruncated`, a preset
        whose row is one, or a format's name: aligned products are cut at its fraction bits.
    unit : str
        ``"mac"`` (y = c + a * b), ``"multiplier"``, ``"adder"``, ``"readout"`` (an exact accumulator's sum, rounded);
        of floats also ``"multiply"`` (y = a * b) and ``"add"`` (y = a + b), rounded, ``"cast"`` (a in the format `to`)
        and ``"dot"`` (y = c + a[0] * b[0] + ..., fused as in tensor cores).
    kind : str, optional
        Structure of a multiplier: ``"grid"`` (a full adder for each pair of bits) and ``"array"`` (without those that
        zeros make needless) of unsigned factors, ``"dadda"`` where both or none are signed, ``"booth"`` (radix 4) and
        ``"operator"`` (Verilog's ``*``) of any. By default the first that takes the operands' signs; inside a mac
        ``"operator"``.
    lanes : int, optional
        Products of a dot unit: a model's length, or 16.
    to : str or FloatFormat, optional
        Result of a cast, and of a readout, there float32 by default.
    rounding : str, optional
        A deterministic member of `Rounding`: ``"nearest_even"`` by default, in a dot unit ``"toward_zero"``.
    subnormals : {"flush", "keep"}, optional
        What float units do with subnormals: ``"flush"``, by default, counts those of the operands as zeros and makes
        zeros of results below the smallest normal number. Casts and dot units keep them by default; an exact
        accumulator and its readout always do.
    k : int, optional
        Products per sum that an exact accumulator has room for, all of them the largest: 256 by default.
    register : bool
        Whether outputs are kept in flip-flops, clocked by `clk`: the accumulator's register.

    Returns
    -------
    Design
        Verilog with its ports `a`, `b`, `c`, `y`, and the emulation's word on the outputs.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a format has no such unit (codebooks, block formats), a word is unknown, a size out of range, or an argument
        is given that the unit has no use for.

    Examples
    --------
    >>> import lowprec as lp
    >>> lp.rtl.emit(11, unit="multiplier", kind="array").cells
    {'FA': 99, 'HA': 11, 'AND': 121}
    >>> design = lp.rtl.emit("int8")
    >>> design.inputs, design.outputs
    ({'a': 8, 'b': 8, 'c': 32}, {'y': 32})
    >>> design.expected({"a": [3], "b": [255], "c": [10]})["y"].tolist()  # 255 is the code of -1
    [7]
    """
    which = word(unit, "unit", _UNITS)
    if which in {"multiplier", "adder"}:
        fmt = _widths(fmt)
    block = block_format(fmt) if which == "dot" and is_block_name(fmt) else None
    a, b = pair(fmt if block is None else block.element)
    request = Request(
        a,
        b,
        accumulator,
        kind,
        None if lanes is None else whole(lanes, "lanes", 1, 1024),
        None if to is None else element(to, "to"),
        rounding_of("nearest_even" if rounding is None else rounding),
        subnormals_of("flush" if subnormals is None else subnormals),
        whole(256 if k is None else k, "k", 1, 2**40),
        flag(register, "register"),
        subnormals is not None,
        rounding is not None,
        k is not None,
        block,
    )
    return _UNITS[which](request)


def _widths(fmt: Any) -> Any:
    """Turn widths into formats of unsigned integers."""
    if isinstance(fmt, (tuple, list)):
        return type(fmt)(_widths(one) for one in fmt)
    if isinstance(fmt, (int, np.integer)):
        return IntFormat(bits=whole(fmt, "fmt", 1, 32), is_signed=False)
    return fmt
