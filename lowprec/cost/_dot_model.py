"""Dot units of several lanes by closed forms: fused and truncated, exact, of integers, of blocks with scales."""

from __future__ import annotations

from typing import Any

from lowprec import accumulators as models
from lowprec.blocks import BlockFormat, block_format, is_block_name
from lowprec.codebooks import CodebookFormat
from lowprec.cost import _blocks, _units
from lowprec.cost._accumulator import Asked, Fixed, accumulator_of
from lowprec.cost._bill import (
    FP32,
    GUARD_K,
    READOUT,
    Bill,
    add_parts,
    calibrated,
    with_groups,
    with_multiplier,
    words_of,
)
from lowprec.cost._cells import Cells, Part, merged, present, scaled, times, total
from lowprec.cost._shape import Operand, operand_of, pair_of
from lowprec.cost._width import products, whole, width
from lowprec.formats import FloatFormat, Format, IntFormat

_TRUNCATION = (
    "Products and c are aligned to the largest exponent and cut at {kept} bits; infinities and NaN are not counted."
)
_MOST_LANES = 65536
_WIDEST_INTEGER = 24  # bits of an exact product; elements with more are aligned and cut, as those without scales are
_ALIGNED = (
    models.FusedTruncated,
    models.FusedTruncatedScaled,
    models.FusedTruncatedLateC,
    models.FusedExact,
    models.BfDotFused,
)
_LATE = (models.FusedTruncatedLateC, models.BfDotFused)  # c is added by an adder of its own


def dot_bill(
    fmt: Any,
    lanes: int | None = None,
    accumulator: Any = None,
    *,
    rounding: Any = None,
    register: bool = True,
    multiplier: Any = "array",
    k: int = GUARD_K,
) -> Bill:
    """Return what `lowprec.cost.dot` shows."""
    if lanes is not None and whole(lanes, "lanes", 2) > _MOST_LANES:
        msg = f"`lanes` must be from 2 to {_MOST_LANES}, got {lanes if lanes < 10**20 else 'more'}."
        raise ValueError(msg)
    bill = _bill(fmt, lanes, accumulator, rounding, register, whole(k, "k"))
    element = block_format(fmt).element if is_block_name(fmt) else None
    return with_multiplier(bill, pair_of(fmt) if element is None else (element, element), multiplier)  # type: ignore[arg-type]


def _bill(fmt: Any, lanes: int | None, accumulator: Any, rounding: Any, register: bool, k: int) -> Bill:
    """Return the bill of a dot unit with array multipliers."""
    if is_block_name(fmt):
        return _block_bill(block_format(fmt), lanes, accumulator, rounding, register)
    pair = pair_of(fmt)
    asked = accumulator_of(accumulator, pair, rounding)
    model = asked.model
    count = whole(getattr(model, "length", 16) if lanes is None else lanes, "lanes", 2)
    a, b = operand_of(pair[0]), operand_of(pair[1])
    rule = a.precision * b.precision * count
    name = f"dot of {count} {words_of(pair)} + {asked.words}"
    if isinstance(model, models.Exact) and isinstance(pair[0], IntFormat):
        model = Fixed(width(whole(k, "k") * products(*pair), a.is_signed or b.is_signed))
    if isinstance(model, Fixed):
        if isinstance(pair[0], FloatFormat):
            msg = (
                f"`accumulator` must be a float format, 'exact' or a model of floats for {words_of(pair)}, got {model}."
            )
            raise ValueError(msg)
        parts = _integer(a, b, count, model, register)
        return Bill(name, rule, parts, groups=("integer dot",), lanes=count)
    if isinstance(model, models.Exact):
        return _exact(pair, count, asked, register, whole(k, "k"), name, rule)
    if isinstance(model, models.Fp8ViaF16):
        inner = dot_bill(fmt, count, models.FusedTruncated(16, 25, model.out), register=register)
        once = merged([{"promote": part} for part in add_parts(FP32, asked.rounding, False).values()])
        return with_groups(inner._replace(name=name, elements=merged([inner.elements, once])), "float add")
    if isinstance(model, models.FusedTruncatedGroupScaled):
        return _groups(pair, count, model, asked, register, name, rule)
    if isinstance(model, (models.Sequential, *_ALIGNED)):
        return _fused(pair, count, asked, register, name, rule)
    msg = (
        f"`accumulator` must be a float or integer format, 'exact', or a model that adds several products at once, got "
        f"{model!r}; lp.cost.mac takes it."
    )
    raise ValueError(msg)


def tree(lanes: int, bits: int) -> Cells:
    """Add `lanes` numbers of `bits` bits in a tree, whose adders grow by a bit from level to level."""
    cells, left = 0, lanes
    while left > 1:
        cells += (left // 2) * bits
        left, bits = left - left // 2, bits + 1
    return {"FA": cells}


def _integer(a: Operand, b: Operand, lanes: int, model: Fixed, register: bool) -> dict[str, Part]:
    limit: Cells = {"MUX": model.bits, "XOR": 2} if model.overflow == "saturate" else {}
    return present(
        {
            "multiply": Part(times(_units.multiplier(a, b), lanes)),
            "tree": Part(tree(lanes, a.precision + b.precision)),
            "add": Part(_blocks.adder(model.bits)),
            "saturate": Part(limit),
            "register": Part(_blocks.register(model.bits if register else 0)),
        }
    )


def _kept(asked: Asked, a: Operand, b: Operand) -> int:
    """Return at how many bits a fused dot cuts its aligned products."""
    model = asked.model
    if isinstance(model, (models.FusedTruncated, models.FusedTruncatedScaled, models.FusedTruncatedLateC)):
        return int(model.fraction_bits) + 2
    if isinstance(model, (models.FusedExact, models.BfDotFused)):  # enough for a correct rounding of the sum
        return 2 * (a.precision + b.precision) + FP32.precision + 3
    return int(model.format.precision) + 1  # type: ignore[union-attr]


def _fused(pair: tuple[Format, Format], lanes: int, asked: Asked, register: bool, name: str, rule: int) -> Bill:
    """Largest exponent, alignment, truncation, one sum, one normalisation and rounding."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    model = asked.model
    into = getattr(model, "out", None) or getattr(model, "format", None) or FP32
    kept = _kept(asked, a, b)
    exponent = max(a.exponent_bits, b.exponent_bits, into.exponent_bits) + 2
    bits = kept + 2 + lanes.bit_length()
    lane = calibrated(_units.aligned_lane(a, b, kept, exponent, bits), "fused dot")
    tail = calibrated(_units.aligned_tail(into, kept, exponent, bits, asked.rounding), "fused dot")
    extra: list[dict[str, Part]] = []
    if isinstance(model, models.FusedTruncatedScaled):
        extra.append({"scale": Part({"FA": 2 * 8 + exponent})})
    if isinstance(model, _LATE):
        extra.append(merged([{"add": part} for part in add_parts(FP32, asked.rounding, False).values()]))
    if register:
        extra.append({"register": Part(_blocks.register(into.bits))})
    parts = merged([scaled(lane, lanes), tail, *extra])
    note = _TRUNCATION.format(kept=kept)
    groups = ("fused dot", "float add") if isinstance(model, _LATE) else ("fused dot",)
    return Bill(name, rule, parts, groups=groups, notes=(note,), lanes=lanes)


def _exact(pair: tuple[Format, Format], lanes: int, asked: Asked, register: bool, k: int, name: str, rule: int) -> Bill:
    """Products in fixed point, a tree of them, and a fixed-point sum."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    one, all_of = width(products(*pair), True), width(k * products(*pair), True)
    lane = _units.fixed_point(a, b, one)
    cells: dict[str, Cells] = {part: times(each, lanes) for part, each in lane.items()}
    cells |= {"add": {"XOR": lanes * one}, "tree": tree(lanes, one), "accumulate": _blocks.adder(all_of)}
    parts = calibrated(cells, "exact MAC")
    if register:
        parts["register"] = Part(_blocks.register(all_of))
    read = sum(part.ge for part in calibrated(_units.readout(all_of, FP32, asked.rounding), "readout").values())
    note = READOUT.format(width=all_of, k=k, out=FP32, ge=read)
    return Bill(name, rule, parts, groups=("exact MAC",), notes=(note,), lanes=lanes)


def _block_bill(mx: BlockFormat, lanes: int | None, accumulator: Any, rounding: Any, register: bool) -> Bill:
    """Products of elements as integers, their tree, the scales, and one float addition."""
    element = mx.element
    if isinstance(element, CodebookFormat) or mx.offset:
        what = "an offset" if mx.offset else "elements from a table"
        msg = (
            f"`fmt` must be a block format whose elements multiply as they are, got '{mx}' with {what}; it is "
            "dequantised first: take the cost of the format that it becomes, such as 'fp16'."
        )
        raise ValueError(msg)
    count = whole(mx.block_size if lanes is None else lanes, "lanes", 2)
    pair: tuple[Format, Format] = (element, element)
    asked = accumulator_of("fp32" if accumulator is None else accumulator, (FP32, FP32), rounding)
    a = operand_of(element)
    rule = a.precision**2 * count
    name = f"dot of {count} {mx} + {asked.words}"
    if isinstance(asked.model, models.FusedTruncatedGroupScaled):
        return _groups(pair, count, asked.model, asked, register, name, rule)
    if not isinstance(asked.model, models.Sequential):
        msg = f"`accumulator` must be a float format or a model of scaled groups for blocks, got {asked.model!r}."
        raise ValueError(msg)
    into = asked.model.format
    if isinstance(element, FloatFormat) and width(products(*pair), True) > _WIDEST_INTEGER:
        bill = _fused(pair, count, asked, register, name, rule)
        scales = {"scale": Part({"FA": 2 * mx.scale.bits})}
        return bill._replace(elements=merged([bill.elements, scales]))
    summed, cells = _elements(pair, count)
    scale = mx.scale
    exponents: Cells = {"FA": 2 * scale.bits}
    if isinstance(scale, FloatFormat) and scale.precision > 1:  # significands multiply each other, then the sum
        significands = total(
            _blocks.array(scale.precision, scale.precision), _blocks.array(summed, 2 * scale.precision)
        )
        cells["scale"] = significands
        summed += 2 * scale.precision
    cells = cells | {"exponents": total(cells.get("exponents", {}), exponents)}
    cells |= {"normalise": total(*_units.readout(summed, into, asked.rounding).values())}
    parts = calibrated(cells, "block dot")
    adder = merged([{"accumulate": part} for part in add_parts(into, asked.rounding, asked.keep_subnormals).values()])
    kept = {"register": Part(_blocks.register(into.bits))} if register else {}
    note = f"Per {count} products: one sum of integers, one product of scales, one addition in {into}."
    return Bill(name, rule, merged([parts, adder, kept]), groups=("block dot",), notes=(note,), lanes=count)


def _elements(pair: tuple[Format, Format], lanes: int) -> tuple[int, dict[str, Cells]]:
    """Return the width of the exact sum of some products, and the cells that find it."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    if isinstance(pair[0], IntFormat):
        one = a.precision + b.precision
        lane: dict[str, Cells] = {"multiply": _units.multiplier(a, b)}
    else:
        one = width(products(*pair), True)
        lane = _units.fixed_point(a, b, one) | {"add": {"XOR": one}}
    cells = {part: times(each, lanes) for part, each in lane.items()}
    return one + (lanes - 1).bit_length(), cells | {"tree": tree(lanes, one)}


def _groups(
    pair: tuple[Format, Format],
    lanes: int,
    model: models.FusedTruncatedGroupScaled,
    asked: Asked,
    register: bool,
    name: str,
    rule: int,
) -> Bill:
    """Exact sums of groups, times their scales, aligned and truncated."""
    if lanes > model.group and lanes % model.group:
        msg = f"`lanes` must be whole groups of {model.group}, got {lanes}; their sums are scaled one by one."
        raise ValueError(msg)
    count = max(1, lanes // model.group)
    summed, cells = _elements(pair, min(model.group, lanes))
    p = model.scale_format.precision
    if p > 1:
        cells["scale"] = total(_blocks.array(p, p), _blocks.array(summed, 2 * p))
        summed += 2 * p
    kept, exponent = model.fraction_bits + 2, FP32.exponent_bits + 2
    bits = kept + 2 + count.bit_length()
    sums = {part: times(each, count) for part, each in cells.items()}
    one = Operand("group", max(1, summed - 1), 0, True, True, summed)
    align = _units.aligned_lane(one, one._replace(precision=1), kept, exponent, bits)
    align.pop("multiply")
    groups = merged([calibrated(sums, "block dot"), scaled(calibrated(align, "fused dot"), count)])
    tail = calibrated(_units.aligned_tail(FP32, kept, exponent, bits, asked.rounding), "fused dot")
    kept_sum = {"register": Part(_blocks.register(FP32.bits))} if register else {}
    note = f"Groups of {model.group} products are summed exactly, scaled, aligned and truncated at {kept} bits."
    return Bill(
        name,
        rule,
        merged([groups, tail, kept_sum]),
        groups=("block dot", "fused dot"),
        notes=(note,),
        lanes=lanes,
    )
