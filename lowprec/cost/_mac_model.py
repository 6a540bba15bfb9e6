"""A multiply-accumulate unit by closed forms: which blocks each accumulator takes."""

from __future__ import annotations

from typing import Any

from lowprec import accumulators as models
from lowprec._patterns import SparsityPattern, pattern_of
from lowprec.cost import _blocks, _units
from lowprec.cost._accumulator import Asked, Fixed, accumulator_of
from lowprec.cost._bill import (
    FP32,
    GUARD_K,
    READOUT,
    Bill,
    add_parts,
    calibrated,
    multiplier_group,
    split,
    with_groups,
    with_multiplier,
    words_of,
)
from lowprec.cost._cells import Cells, Part, merged, present, scaled, times
from lowprec.cost._dot_model import dot_bill
from lowprec.cost._shape import Operand, operand_of, pair_of
from lowprec.cost._width import products, whole, width
from lowprec.formats import FloatFormat, Format, IntFormat
from lowprec.rounding import Rounding

_ONE_BY_ONE = (models.FlushedPairwise, models.EvenOddPair, models.FmaPairOddFirst, models.BfDotRoundOdd)
_NARROW = 11, 7  # most bits of a sum's significand: narrow, and so narrow that synthesis leaves far less
_LANE = "Per lane of a dot unit of {lanes} products, its shared part included."


def mac_bill(
    fmt: Any,
    accumulator: Any = None,
    *,
    rounding: Any = None,
    subnormals: Any = None,
    register: bool = True,
    sparsity: Any = None,
    multiplier: Any = "array",
    k: int = GUARD_K,
) -> Bill:
    """Return what `lowprec.cost.mac` shows."""
    pair = pair_of(fmt)
    asked = accumulator_of(accumulator, pair, rounding, subnormals)
    bill = with_multiplier(model_bill(pair, asked, whole(k, "k"), register), pair, multiplier)
    if sparsity is not None:
        bill = _sparse(bill, pair, pattern_of(sparsity, "sparsity"))
    return bill


def model_bill(pair: tuple[Format, Format], asked: Asked, k: int, register: bool) -> Bill:
    """Return the parts of a unit for any accumulator."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    model, rule = asked.model, a.precision * b.precision
    if isinstance(model, models.Exact) and isinstance(pair[0], IntFormat):
        model = Fixed(width(k * products(*pair), a.is_signed or b.is_signed))
    if isinstance(model, Fixed):
        if isinstance(pair[0], FloatFormat):
            msg = (
                f"`accumulator` must be a float format, 'exact' or a model of floats for {words_of(pair)}, got {model}."
            )
            raise ValueError(msg)
        return Bill(
            f"MAC {words_of(pair)} + {model}",
            rule,
            _integer(a, b, model, register),
            groups=(multiplier_group("integer MAC", min(a.precision, b.precision)),),
        )
    if isinstance(model, models.Exact):
        return _exact(pair, asked, k, register)
    if isinstance(model, models.Chunked):
        return _chunked(pair, asked, k, register)
    length = getattr(model, "length", 1)
    if length > 1 and not isinstance(model, _ONE_BY_ONE):
        whole_unit = dot_bill(words_pair(pair), length, asked.model, register=register)
        notes = (*whole_unit.notes, _LANE.format(lanes=whole_unit.lanes))
        parts = scaled(whole_unit.elements, 1 / whole_unit.lanes)
        return whole_unit._replace(
            name=f"MAC {words_of(pair)} + {asked.words}", rule=rule, elements=parts, notes=notes, lanes=1
        )
    parts = _float(pair, asked)
    if register:
        parts["register"] = Part(_blocks.register(_result(asked).bits))
    how = f"{asked.rounding}, subnormals {'kept' if asked.keep_subnormals else 'flushed'}"
    groups = _groups(asked) + ("stochastic rounding",) * (asked.rounding is Rounding.STOCHASTIC)
    return Bill(f"MAC {words_of(pair)} + {asked.words} ({how})", rule, present(parts), groups=groups)


def words_pair(pair: tuple[Format, Format]) -> Any:
    """Return a pair as `fmt` may be given."""
    return pair if pair[0] != pair[1] else pair[0]


def _result(asked: Asked) -> FloatFormat:
    found = getattr(asked.model, "format", None) or asked.model.result_format  # type: ignore[union-attr]
    return found if isinstance(found, FloatFormat) else FP32


def _integer(a: Operand, b: Operand, model: Fixed, register: bool) -> dict[str, Part]:
    """Return a product and a carry-propagate addition, and what a saturating one takes besides."""
    limit: Cells = {}
    if model.overflow == "saturate":
        limit = times({"MUX": model.bits, "XOR": 2}, 1 / model.length)
    elif model.overflow == "raise":
        limit = {"XOR": 2 / model.length}
    return present(
        {
            "multiply": Part(_units.multiplier(a, b)),
            "add": Part(_blocks.adder(model.bits)),
            "saturate": Part(limit),
            "register": Part(_blocks.register(model.bits if register else 0)),
        }
    )


def _groups(asked: Asked) -> tuple[str, ...]:
    """Return the groups of designs that a float sum is of: synthesis differs by its width and by its subnormals."""
    model, bits, keep = asked.model, _result(asked).precision, asked.keep_subnormals
    adder, multiplied = split("float add", keep), split("float multiply", keep)
    fused = split("float MAC, narrow sum" if bits <= _NARROW[0] else "float MAC", keep)
    if bits <= _NARROW[1]:
        fused = f"float MAC, sum of {_NARROW[1]} bits or less"
    if isinstance(model, (models.FlushedPairwise, models.BfDotRoundOdd)) or getattr(model, "block", 0) == 1:
        return multiplied, adder
    if isinstance(model, models.Sequential) and model.product is not None:
        return multiplied, adder
    return (fused, adder) if isinstance(model, (models.Pairwise, models.EvenOddPair)) else (fused,)


def _float(pair: tuple[Format, Format], asked: Asked) -> dict[str, Part]:
    """Return one step of a float sum, per product."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    model, into, how, keep = asked.model, _result(asked), asked.rounding, asked.keep_subnormals

    def fused(fmt: FloatFormat = into) -> dict[str, Part]:
        return calibrated(_units.multiply_add(a, b, fmt, how, keep, asked.guards), "float MAC")

    def adder(fmt: FloatFormat = into) -> dict[str, Part]:
        return add_parts(fmt, how, keep, asked.guards)

    def multiplied(fmt: FloatFormat = into) -> dict[str, Part]:
        return calibrated(_units.multiply(a, b, fmt, how, keep), "float multiply")

    if isinstance(model, models.Sequential):
        return fused() if model.product is None else merged([multiplied(model.product), adder()])
    if isinstance(model, models.Pairwise):
        if model.block == 1:
            return merged([multiplied(), adder()])
        return merged([fused(), scaled(adder(), 1 / model.block)])
    if isinstance(model, models.FlushedPairwise):
        return merged([multiplied(), adder()])
    if isinstance(model, models.EvenOddPair):
        return merged([fused(), scaled(adder(), 2 / model.length)])
    if isinstance(model, models.BfDotRoundOdd):
        how = Rounding.TO_ODD
        return merged([multiplied(), adder()])
    if isinstance(model, models.FmaPairOddFirst):
        return fused()
    msg = f"`accumulator` must be a model that lp.cost has a formula for, got {model!r}."
    raise ValueError(msg)


def _exact(pair: tuple[Format, Format], asked: Asked, k: int, register: bool) -> Bill:
    """Return a fixed-point sum of exact products."""
    a, b = operand_of(pair[0]), operand_of(pair[1])
    bits = width(k * products(*pair), signed=True)
    parts = calibrated(_units.fixed_point(a, b, bits), "exact MAC")
    if register:
        parts["register"] = Part(_blocks.register(bits))
    out = asked.model.result_format  # type: ignore[union-attr]
    into = out if isinstance(out, FloatFormat) else FP32
    read = sum(part.ge for part in calibrated(_units.readout(bits, into, asked.rounding), "readout").values())
    note = READOUT.format(width=bits, k=k, out=into, ge=read)
    return Bill(f"MAC {words_of(pair)} + exact", a.precision * b.precision, parts, groups=("exact MAC",), notes=(note,))


def _chunked(pair: tuple[Format, Format], asked: Asked, k: int, register: bool) -> Bill:
    """Return an inner sum, and an outer one whose adder serves a chunk."""
    model = asked.model
    outer = accumulator_of(model.outer, pair, None, asked.subnormals)  # type: ignore[union-attr]
    every = model.every  # type: ignore[union-attr]
    within = accumulator_of(model.inner, pair, None, asked.subnormals)  # type: ignore[union-attr]
    inner = model_bill(pair, within, min(k, every), register)
    if isinstance(outer.model, Fixed) or isinstance(pair[0], IntFormat):
        bits = outer.model.bits if isinstance(outer.model, Fixed) else _result(outer).bits
        promotion = {"promote": Part(times(_blocks.adder(bits), 1 / every))}
        group = "integer MAC"
    else:
        bits = _result(outer).bits
        added = add_parts(_result(outer), outer.rounding, outer.keep_subnormals, outer.guards)
        once = merged([{"promote": part} for part in added.values()])
        promotion = scaled(once, 1 / every)
        group = split("float add", outer.keep_subnormals)
    kept = {"register": Part(_blocks.register(bits))} if register else {}
    note = f"Every {every} products the sum is added to an outer one, by an adder that is counted 1/{every}."
    whole_unit = inner._replace(
        name=f"MAC {words_of(pair)} + {asked.words}",
        elements=merged([inner.elements, promotion, kept]),
        notes=(*inner.notes, note),
    )
    return with_groups(whole_unit, group)


def _sparse(bill: Bill, pair: tuple[Format, Format], pattern: SparsityPattern) -> Bill:
    """Choose the element of `a` by its weight's place in the group: a multiplexer of group/run elements per product."""
    inputs = pattern.group // pattern.run
    select = {"MUX": (inputs - 1) * operand_of(pair[0]).bits}
    note = f"Sparse {pattern}: each MAC stands for {pattern.group / pattern.kept:g} of the dense product."
    return bill._replace(
        name=f"{bill.name}, {pattern}",
        elements=merged([bill.elements, {"select": Part(select)}]),
        notes=(*bill.notes, note),
    )


def bill_of_words(words: str, name: str = "other") -> Bill:
    """Return the MAC of ``"format/accumulator"``, or of a format with its default accumulator."""
    fmt, slash, accumulator = words.partition("/")
    if slash and not accumulator:
        msg = f'`{name}` must be words such as "int8/int32", got {words!r}.'
        raise ValueError(msg)
    return mac_bill(fmt.strip(), accumulator.strip() or None)
