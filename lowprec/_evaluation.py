"""From a model of a sum to the kernels that evaluate it on a block of a result."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from lowprec import _checks, _jit, accumulators
from lowprec._checks import Array
from lowprec._models import wide_integers
from lowprec._rules import fits, make_rule
from lowprec.accumulators import Accumulator, Chunked, Exact, Integer, Pairwise, Sequential
from lowprec.formats import FloatFormat, Format
from lowprec.formats import format as resolve
from lowprec.kernels import (
    aligned_fast,
    aligned_general,
    exact,
    exact_fast,
    integers,
    late_fast,
    pairs,
    strip,
    strip_fast,
    strip_stochastic,
)
from lowprec.kernels.rounding import Rule
from lowprec.rounding import Rounding

_CALL = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_SINGLE = np.dtype(np.float32)
_SUM, _OUTER = 3, 5  # streams of random words; a product's is the one after its sum's


class Place(NamedTuple):
    """Where a block lies in the whole, for random words."""

    first_k: int
    element: int  # the index of the block's first element in the result
    element_step: int  # from a row to the next
    seed: int

    def moved(self, rows: int, columns: int, k: int = 0) -> Place:
        """Return the place of a block further on."""
        element = self.element + rows * self.element_step + columns
        return self._replace(first_k=self.first_k + k, element=element)


class Scales(NamedTuple):
    """Codes of block scales as int64, one per block of k: a row for each of A's, a column for each of B's."""

    a: Array
    b: Array


class Kernel:
    """A compiled kernel with its model's numbers."""

    def __init__(
        self,
        function: Callable[..., Any],
        numbers: tuple[int, ...] = (),
        general: Callable[..., Any] | None = None,
        **facts: Any,
    ) -> None:
        self.function, self.general = function, general
        self.kept = [facts.get("rule"), facts.get("product"), facts.get("product_rule")]
        facts["scale_b"] = _address(facts.pop("product_rule", None))
        self.fields = {**facts, "rule": _address(facts.get("rule")), "product": _address(facts.get("product"))}
        self.numbers = np.zeros(strip.PARAMETERS, np.int64)
        self.numbers[: len(numbers)] = numbers
        self._call: Any = None

    @property
    def address(self) -> int:
        """Where the compiled kernel lies."""
        return _jit.address(self.function, strip.SIGNATURE)

    def job(self, a: Array, b: Array, c: Array, place: Place, scales: Scales | None) -> Array:
        """Return the kernel's argument for a block."""
        if self.general is not None and not self.fields["product"]:
            self.fields["product"] = _jit.address(self.general, strip.SIGNATURE)
        size = a.itemsize
        fields = {
            "a": a.ctypes.data,
            "b": b.ctypes.data,
            "c": c.ctypes.data,
            "a_step": a.strides[0] // size,
            "b_step": b.strides[0] // size,
            "c_step": c.strides[0] // c.itemsize,
            "rows": c.shape[0],
            "columns": c.shape[1],
            "k": b.shape[0],
            "scale_a": 0,
            "random_bits": 0,
            "stream": _SUM,
            "minus_zero": 0,
            **place._asdict(),
            "seed": place.seed - (place.seed >> 63 << 64),  # the same bits as a signed number
            **self.fields,
        }
        if scales is not None:
            fields["scale_a"], fields["scale_b"] = scales.a.ctypes.data, scales.b.ctypes.data
        return np.concatenate((np.array(strip.Strip(**fields), np.int64), self.numbers))

    def run(self, a: Array, b: Array, c: Array, place: Place, scales: Scales | None = None) -> None:
        """Continue the sums in a block."""
        if self._call is None:
            self._call = _CALL(self.address)
        job = self.job(a, b, c, place, scales)
        self._call(job.ctypes.data)


class Chunks:
    """An inner evaluation for every chunk of k, added up by an outer one."""

    def __init__(self, inner: Any, every: int, outer: Kernel, tree: Kernel | None, leaf: int) -> None:
        self.inner, self.every, self.outer, self.tree, self.leaf = inner, every, outer, tree, leaf

    def run(self, a: Array, b: Array, c: Array, place: Place, scales: Scales | None = None) -> None:
        """Continue the sums in a block."""
        waiting: list[tuple[int, Array]] = []
        leaf: Array | None = None
        count = -(-b.shape[0] // self.every)
        for number in range(count):
            first = number * self.every
            part = slice(first, first + self.every)
            t = np.zeros(c.shape, c.dtype)
            self.inner.run(a[:, part], b[part], t, place.moved(0, 0, first), _part(scales, first, self.every, b))
            if self.tree is None:
                self.outer.run(t, b[:0], c, place._replace(first_k=number))
                continue
            leaf = np.zeros(c.shape, c.dtype) if leaf is None else leaf
            self.outer.run(t, b[:0], leaf, place)
            if (number + 1) % self.leaf and number + 1 < count:
                continue
            level, done = 0, leaf
            while waiting and waiting[-1][0] == level:
                other = waiting.pop()[1]
                self.outer.run(done, b[:0], other, place)
                level, done = level + 1, other
            waiting.append((level, done))
            leaf = None
        if waiting:
            total = waiting.pop()[1]
            while waiting:
                other = waiting.pop()[1]
                self.outer.run(total, b[:0], other, place)
                total = other
            self.outer.run(total, b[:0], c, place)


def _part(scales: Scales | None, first: int, every: int, b: Array) -> Scales | None:
    """Return the scales of a chunk."""
    if scales is None:
        return None
    block = b.shape[0] // max(1, scales.b.shape[0])
    return Scales(
        np.ascontiguousarray(scales.a[:, first // block : -(-(first + every) // block)]),
        scales.b[first // block :],
    )


class Reordered:
    """An evaluation of blocks of k in another order, padded to whole blocks."""

    def __init__(self, inner: Any, order: tuple[int, ...]) -> None:
        self.inner, self.order = inner, np.array(order)

    def run(self, a: Array, b: Array, c: Array, place: Place, scales: Scales | None = None) -> None:
        """Continue the sums in a block."""
        size = len(self.order)
        missing = -b.shape[0] % size
        a, b = np.pad(a, ((0, 0), (0, missing))), np.pad(b, ((0, missing), (0, 0)))
        order = np.add.outer(np.arange(0, b.shape[0], size), self.order).reshape(-1)
        self.inner.run(np.ascontiguousarray(a[:, order]), np.ascontiguousarray(b[order]), c, place, scales)


class Definition:
    """A model evaluated by its definition in `lowprec.reference`: slow, for what the kernels do not hold."""

    def __init__(self, model: Accumulator, operands: tuple[Format, Format]) -> None:
        self.model, self.operands = model, operands

    def run(self, a: Array, b: Array, c: Array, place: Place, scales: Scales | None = None) -> None:
        """Continue the sums in a block."""
        from lowprec import reference

        fmt = cast(FloatFormat, self.model.result_format or resolve("float32"))
        left = [[_code(x, self.operands[0]) for x in row] for row in a.tolist()]
        right = [[_code(x, self.operands[1]) for x in column] for column in b.T.tolist()]
        for i, row in enumerate(left):
            for n, column in enumerate(right):
                code = reference.accumulate(
                    self.model,
                    row,
                    column,
                    _code(float(c[i, n]), fmt),
                    formats=self.operands,
                    seed=place.seed,
                    index=place.element + i * place.element_step + n,
                    first_k=place.first_k,
                )
                c[i, n] = reference.decode(code, fmt)


def _code(x: float, fmt: Format) -> int:
    """Return the code of a value of a format."""
    from lowprec import reference

    return reference.encode(x, fmt)


def _address(array: Array | None) -> int:
    """Return where a rule lies, 0 for none."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _within_single(fmt: FloatFormat) -> bool:
    """Say whether sums in a format can be rounded by way of binary64: few enough bits, and float32's range."""
    return fmt.precision <= 51 and fmt.smallest_subnormal >= 2.0**-200 and fmt.max < 2.0**200


@lru_cache(maxsize=256)
def evaluation(model: Accumulator, operands: tuple[Format, Format], item: int) -> Any:
    """Return what evaluates a model on operands of some formats: an object with `run`."""
    if isinstance(model, Integer):
        saturate = int(model.overflow == "saturate")
        if wide_integers(model, operands):
            return Definition(model, operands)
        return Kernel(integers.integer, (model.length, saturate, model.bits, int(model.is_signed)))
    floats = cast("tuple[FloatFormat, FloatFormat]", operands)
    if isinstance(model, Chunked):
        return _chunked(model, floats, item)
    if isinstance(model, Sequential):
        return _sequential(model, floats, item)
    if isinstance(model, (Pairwise, Exact)):
        fmt = model.result_format or cast(FloatFormat, resolve("float32"))
        if item == 8 or not _within_single(fmt):
            return Definition(model, operands)
        minus = int(model.rounding is Rounding.TOWARD_NEGATIVE)
        rule = _rule(fmt, model.rounding)
        if isinstance(model, Pairwise):
            plain = model.rounding is Rounding.NEAREST_EVEN and fmt.name == "float32"
            function = exact.pairwise_single if plain else exact.pairwise
            return Kernel(function, (model.block,), rule=rule, minus_zero=minus)
        return Kernel(exact_fast.exact, (), exact.exact, rule=rule, minus_zero=minus)
    return _hardware(model, floats)


def _rule(fmt: FloatFormat, rounding: Rounding, overflow: Any = None, subnormals: str = "keep") -> Array:
    """Return the 64-bit rule of a step."""
    return make_rule(fmt, 64, _checks.modes(rounding, overflow, subnormals, 32), False)


def _sequential(model: Sequential, operands: tuple[FloatFormat, FloatFormat], item: int, outer: bool = False) -> Any:
    """Return the evaluation of one product after the other, or, as an outer sum, of the addition of one number."""
    fmt, product = model.format, model.product
    plain = (model.rounding, model.overflow, str(model.subnormals)) == (Rounding.NEAREST_EVEN, None, "keep")
    if plain and product is None and fmt.name == f"float{8 * item}" and not outer:
        return Kernel(strip.fused_single if item == 4 else strip.fused_double)
    if not all(_within_single(each) for each in (fmt, product or fmt)) or (outer and item == 8):
        return Definition(model, operands)
    facts: dict[str, Any] = {
        "rule": _rule(fmt, model.rounding, model.overflow, model.subnormals),
        "random_bits": model.random_bits or 0,
        "stream": _OUTER if outer else _SUM,
        "minus_zero": int(model.rounding is Rounding.TOWARD_NEGATIVE),
    }
    if outer:
        return Kernel(exact.add_rounded, **facts)
    if product is not None:
        facts["product"] = _rule(product, model.rounding, model.overflow, model.subnormals)
    short_operands = sum(each.precision for each in operands) <= 24
    usual = model.overflow is None and str(model.subnormals) == "keep" and product is None
    if item == 4 and fmt.name == "float32" and usual and short_operands and model.rounding in _SINGLE_MODES:
        return Kernel(strip_fast.single, _SINGLE_MODES[model.rounding], strip.sequential_single, **facts)
    if model.rounding is Rounding.STOCHASTIC and usual and short_operands and item == 4:
        step = _step(fmt, Sequential(fmt, "toward_zero"))  # type: ignore[arg-type]
        if step is not None:
            return Kernel(
                strip_stochastic.stochastic, (step[0] >> 23, step[1], step[2]), strip.sequential_single, **facts
            )
    steps = [_step(each, model) for each in (fmt, product) if each is not None]
    if item == 4 and short_operands and None not in steps:
        numbers = tuple(number for step in steps if step is not None for number in step)
        rule = facts.pop("product", None)
        # Where 24 bits are twice the precision and two more, a sum to nearest is not rounded twice (Figueroa, 1995).
        nearest = model.rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY)
        trust = int(nearest and product is not None and max(fmt.precision, product.precision) <= 11)
        facts |= {"scale_a": trust, "product_rule": rule}
        return Kernel(strip_fast.sequential, numbers, strip.sequential_single, **facts)
    return Kernel(strip.sequential_single if item == 4 else strip.sequential_double, **facts)


# For float32 sums: whether positive, and negative, inexact sums go up in magnitude, and whether their last bit is set.
_SINGLE_MODES = {
    Rounding.TOWARD_ZERO: (0, 0, 0),
    Rounding.TOWARD_POSITIVE: (1, 0, 0),
    Rounding.TOWARD_NEGATIVE: (0, 1, 0),
    Rounding.TO_ODD: (0, 0, 1),
}
_MODES = {
    Rounding.NEAREST_EVEN: strip_fast.NEAREST,
    Rounding.NEAREST_AWAY: strip_fast.AWAY,
    Rounding.TOWARD_ZERO: strip_fast.DIRECTED,
    Rounding.TOWARD_POSITIVE: strip_fast.DIRECTED + 1,
    Rounding.TOWARD_NEGATIVE: strip_fast.DIRECTED + 2,
}


def _step(fmt: FloatFormat, model: Sequential) -> tuple[int, ...] | None:
    """Return the `Step` of a rounding to a format, or None where the fast kernel does not hold it."""
    if model.rounding not in _MODES or str(model.subnormals) != "keep" or not 1 <= fmt.mantissa_bits <= 21:
        return None
    if not fits(fmt, _SINGLE) or fmt.emin < -126:
        return None
    rule = make_rule(fmt, 32, _checks.modes(model.rounding, model.overflow, "keep", 32), False)
    words = dict(zip(Rule._fields, rule.tolist(), strict=True))
    emin = (fmt.emin + 127) << 23
    return words["drop"] << 23, emin, words["most"], words["over"], words["under"], _MODES[model.rounding]


def _chunked(model: Chunked, operands: tuple[FloatFormat, FloatFormat], item: int) -> Any:
    """Return the evaluation of chunks."""
    outer = model.outer
    single = Sequential(outer.format, outer.rounding) if isinstance(outer, Pairwise) else cast(Sequential, outer)
    add = _sequential(single, operands, item, outer=True)
    if not isinstance(add, Kernel):
        return Definition(model, operands)
    inner = evaluation(cast(Accumulator, model.inner), operands, item)
    return Chunks(inner, model.every, add, add if isinstance(outer, Pairwise) else None, getattr(outer, "block", 1))


def _aligned(
    model: Any, operands: tuple[FloatFormat, FloatFormat], out: FloatFormat, keep: int, floor: int, how: int
) -> tuple[int, ...]:
    """Return the numbers of an aligned sum."""
    a, b = operands
    numbers = (model.length, model.fraction_bits, floor, a.mantissa_bits, a.emin, b.mantissa_bits, b.emin)
    return (*numbers, out.mantissa_bits, out.emin, out.emax, keep, how)


def _hardware(model: Accumulator, operands: tuple[FloatFormat, FloatFormat]) -> Any:
    """Return the evaluation of a model of hardware."""
    single = cast(FloatFormat, resolve("float32"))
    if isinstance(model, accumulators.FusedTruncated):
        out = model.out
        keep = out.mantissa_bits if model.kept_bits is None else model.kept_bits
        nearest = int(model.rounding is Rounding.NEAREST_EVEN)
        numbers = _aligned(model, operands, out, keep, cast(int, model.exponent_floor), nearest)
        short = sum(fmt.precision for fmt in operands) <= 24 and model.fraction_bits <= 27
        ordinary = short and (nearest or out == single) and cast(int, model.exponent_floor) >= -200
        first_emin = 0 if model.c_format is None else model.c_format.emin
        if ordinary:
            return Kernel(aligned_fast.fused, numbers, aligned_general.fused, random_bits=first_emin)
        return Kernel(aligned_general.fused, numbers, random_bits=first_emin)
    if isinstance(model, accumulators.FusedTruncatedLateC):
        how = 2 * model.final_bits + int(model.even_odd)
        numbers = _aligned(model, operands, single, 23, 0, how)
        short = sum(fmt.precision for fmt in operands) <= 24
        if short and model.fraction_bits <= 27 and model.fraction_bits + 2 + model.length.bit_length() <= 31:
            return Kernel(late_fast.late, numbers, aligned_general.late)
        return Kernel(aligned_general.late, numbers)
    if isinstance(model, accumulators.FusedTruncatedScaled):
        return Kernel(aligned_general.scaled, _aligned(model, operands, single, 23, model.exponent_floor, 0))
    if isinstance(model, accumulators.FusedTruncatedGroupScaled):
        how = 256 * model.group + model.scale_format.mantissa_bits
        numbers = _aligned(model, operands, single, 23, model.exponent_floor, how)
        kernel = Kernel(aligned_general.grouped, numbers)
        kernel.fields["rule"] = model.scale_block
        return kernel
    if isinstance(model, accumulators.Fp8ViaF16):
        half = cast(FloatFormat, resolve("float16"))
        rounding = "nearest_even" if model.out == half else "toward_zero"
        inner = accumulators.FusedTruncated(16, 25, model.out, rounding)  # type: ignore[arg-type]
        order = sorted(range(32), key=lambda k: (k % 4 > 1, k))
        return Reordered(_chunked(Chunked(inner, 32, model.out), (half, half), 4), tuple(order))  # type: ignore[arg-type]
    if isinstance(model, accumulators.FlushedPairwise):
        bits = [int(np.float32(fmt.smallest_normal).view(np.uint32)) for fmt in operands]
        return Kernel(pairs.flushed_pairwise, (model.length, *bits))
    simple = {
        accumulators.FmaPairOddFirst: pairs.odd_first,
        accumulators.EvenOddPair: pairs.even_odd,
        accumulators.BfDotRoundOdd: pairs.round_odd,
        accumulators.BfDotFused: pairs.fused_pair,
        accumulators.FusedExact: pairs.fused_exact,
    }
    return Kernel(simple[type(model)], (cast(Any, model).length,))
