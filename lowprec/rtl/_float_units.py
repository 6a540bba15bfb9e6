"""Floating-point units as designs: what was asked for, checked; Verilog, emulation and vectors put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lowprec.accumulators import Accumulator, Sequential
from lowprec.accumulators import model as model_of
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.formats import format as resolve
from lowprec.rounding import Overflow, Rounding, Subnormals
from lowprec.rtl import _float_model as emulation
from lowprec.rtl import _vectors
from lowprec.rtl._bits import Array
from lowprec.rtl._cast import cast_text
from lowprec.rtl._design import Design, registered
from lowprec.rtl._float import add_text, check_nan, mac_text, multiply_text
from lowprec.rtl._float_finish import Policy
from lowprec.rtl._request import Request, unused


def float_operand(fmt: Format, name: str) -> FloatFormat:
    """Return a float format that the units take: any that the emulation sums in float64 or less."""
    if isinstance(fmt, IntFormat):
        msg = f"`{name}` must be a float format for this unit, got `{fmt}`."
        raise ValueError(msg)
    if fmt.precision > 24:
        msg = f"`{name}` must have at most 24 significand bits, those of float32, got `{fmt}` with {fmt.precision}."
        raise ValueError(msg)
    return fmt


def words(*parts: Any) -> str:
    """Return an identifier of some words."""
    return re.sub(r"\W", "_", "_".join(str(part) for part in parts if part))


def tail(rounding: Rounding, subnormals: Subnormals, usual: Subnormals = Subnormals.FLUSH) -> str:
    """Return what a name says of policies that are not the usual ones."""
    modes = ([str(rounding)] if rounding is not Rounding.NEAREST_EVEN else []) + (
        [str(subnormals)] if subnormals is not usual else []
    )
    return "_".join(modes)


def sum_model(request: Request, usual: FloatFormat | None = None) -> Sequential:
    """Return the model of one step: the accumulator's own policies, or those asked for."""
    given = request.accumulator
    if given is None:
        given = resolve("float32") if usual is None else usual
    model: Accumulator | str = model_of(given)
    if not isinstance(model, Sequential) or not model.fused:
        msg = (
            "`accumulator` must be the name of a float format, 'exact' or a fused lp.Sequential for this unit, got "
            f'{given!r}; sums of several products are unit="dot".'
        )
        raise ValueError(msg)
    subnormals = request.subnormals
    if subnormals is Subnormals.FLUSH_INPUTS:
        msg = '`subnormals` must be "flush" (operands and results) or "keep" in a float unit, got "flush_inputs".'
        raise ValueError(msg)
    if isinstance(request.accumulator, Sequential):  # a model says all of it
        if request.rounding_given and request.rounding is not model.rounding:
            msg = f"`rounding` must be left out or that of the model, {model.rounding}, got {request.rounding}."
            raise ValueError(msg)
        if request.subnormals_given and subnormals is not model.subnormals:
            msg = f"`subnormals` must be left out or that of the model, {model.subnormals}, got {subnormals}."
            raise ValueError(msg)
        return model
    return Sequential(model.format, request.rounding, overflow=model.overflow, subnormals=subnormals)


def policy_of(model: Sequential) -> Policy:
    """Return how the unit rounds."""
    fmt = model.format
    return Policy(
        fmt,
        model.rounding,
        Overflow(fmt.default_overflow) if model.overflow is None else model.overflow,
        model.subnormals is Subnormals.FLUSH,
        model.random_bits or 0,
    )


def finished(
    module: tuple[str, Mapping[str, int], Mapping[str, int]],
    name: str,
    unit: str,
    expected: Callable[[Any], Mapping[str, Any]],
    register: bool,
    **rest: Any,
) -> Design:
    """Return the design, its outputs in registers if asked."""
    text, inputs, outputs = module
    top = name
    if register:
        top = f"{name}_registered"
        text += "\n" + registered(top, name, inputs, outputs)
    return Design(top, text, top, inputs, outputs, expected, unit=unit, latency=int(register), **rest)


def facts_of(model: Sequential, **rest: Any) -> dict[str, Any]:
    """Return what a design was made from."""
    found = {"accumulator": model.format.name, "rounding": str(model.rounding), "subnormals": str(model.subnormals)}
    if model.random_bits is not None:
        found["random_bits"] = model.random_bits  # type: ignore[assignment]
    return rest | found


def mac(request: Request) -> Design:
    """Return y = round(a * b + c): one step of a fused `Sequential` sum."""
    unused(request, "float mac", "kind", "lanes", "to", "k")
    formats = float_operand(request.a, "fmt"), float_operand(request.b, "fmt")
    model = sum_model(request)
    fmt = float_operand(model.format, "accumulator")
    check_nan(fmt, formats)
    pair = words(*(formats if formats[0] != formats[1] else formats[:1]))
    name = words("mac", pair, fmt, tail(model.rounding, model.subnormals))
    return finished(
        mac_text(name, formats, policy_of(model)).parts(),
        name,
        "mac",
        lambda ports: emulation.mac(ports, formats, model),
        request.register,
        facts=facts_of(model, a=formats[0].name, b=formats[1].name),
        vectors=emulation.mac_vectors(formats, model),
        formats={"a": formats[0], "b": formats[1], "c": fmt, "y": fmt},
    )


def multiply(request: Request) -> Design:
    """Return y = round(a * b)."""
    unused(request, "multiply", "kind", "lanes", "to", "k")
    formats = float_operand(request.a, "fmt"), float_operand(request.b, "fmt")
    same = formats[0] == formats[1] and formats[0].is_signed and formats[0].has_zero
    model = _deterministic(sum_model(request, formats[0] if same else None))
    fmt = float_operand(model.format, "accumulator")
    check_nan(fmt, formats)
    pair = words(*(formats if formats[0] != formats[1] else formats[:1]))
    name = words("multiply", pair, fmt, tail(model.rounding, model.subnormals))
    return finished(
        multiply_text(name, formats, policy_of(model)).parts(),
        name,
        "multiply",
        lambda ports: emulation.multiply(ports, formats, model),
        request.register,
        facts=facts_of(model, a=formats[0].name, b=formats[1].name),
        vectors=_vectors.plain_vectors({"a": formats[0], "b": formats[1]}),
        formats={"a": formats[0], "b": formats[1], "y": fmt},
    )


def add(request: Request) -> Design:
    """Return y = round(a + b), all in one format."""
    unused(request, "add", "kind", "lanes", "to", "k")
    fmt = float_operand(request.a, "fmt")
    model = _deterministic(sum_model(request, fmt))
    if request.b != fmt or model.format != fmt:
        other = request.b if request.b != fmt else model.format
        msg = f"`fmt` must be one format for both operands and the result of an adder, got `{fmt}` and `{other}`."
        raise ValueError(msg)
    name = words("add", fmt, tail(model.rounding, model.subnormals))

    def vectors(rng: np.random.Generator, count: int, given: Mapping[str, Array]) -> dict[str, Array]:
        a = given.get("a", _vectors.draw(fmt, rng, count))
        return {"a": a, "b": given.get("b", _vectors.addends(emulation.values(a, fmt, flush=False), fmt, rng))}

    return finished(
        add_text(name, policy_of(model)).parts(),
        name,
        "add",
        lambda ports: emulation.add(ports, model),
        request.register,
        facts=facts_of(model, a=fmt.name, b=fmt.name),
        vectors=vectors,
        formats={"a": fmt, "b": fmt, "y": fmt},
    )


def _deterministic(model: Sequential) -> Sequential:
    """Refuse stochastic rounding, which only the multiply-accumulate unit has."""
    if model.rounding is Rounding.STOCHASTIC:
        msg = '`rounding` must be deterministic in this unit, got "stochastic", which the float mac has.'
        raise ValueError(msg)
    return model


def cast(request: Request) -> Design:
    """Return y = the number of a in another format; subnormal numbers are kept unless asked otherwise."""
    unused(request, "cast", "kind", "lanes", "accumulator", "k")
    source = float_operand(request.a, "fmt")
    if request.b != source:
        msg = f"`fmt` must be one format for a cast, got `{source}` and `{request.b}`; the result's is `to`."
        raise ValueError(msg)
    if request.to is None:
        msg = "`to` must be given for a cast: the format of the result."
        raise ValueError(msg)
    fmt = float_operand(request.to, "to")
    subnormals = request.subnormals if request.subnormals_given else Subnormals.KEEP
    if subnormals is Subnormals.FLUSH_INPUTS:
        msg = '`subnormals` must be "flush" (operand and result) or "keep" in a cast, got "flush_inputs".'
        raise ValueError(msg)
    flush = subnormals is Subnormals.FLUSH
    policy = Policy(fmt, request.rounding, Overflow(fmt.default_overflow), flush)
    name = words("cast", source, fmt, tail(request.rounding, subnormals, Subnormals.KEEP))
    return finished(
        cast_text(name, source, policy).parts(),
        name,
        "cast",
        lambda ports: emulation.cast(ports, source, fmt, request.rounding, flush=flush),
        request.register,
        facts={"a": source.name, "to": fmt.name, "rounding": str(request.rounding), "subnormals": str(subnormals)},
        vectors=emulation.cast_vectors(source, fmt),
        refused={} if fmt.has_nan or not source.has_nan else {"a": lambda codes: emulation.is_nan(codes, source)},
        formats={"a": source, "y": fmt},
    )
