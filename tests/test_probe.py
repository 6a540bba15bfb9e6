"""probe: the parameters of known sums recovered from outside, the presets found again, and what goes wrong said."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lowprec as lp
from lowprec import _order
from lowprec.formats import FloatFormat

Box = Callable[[np.ndarray, np.ndarray, float], Any]


def rows() -> list[tuple[str, lp.Instruction, FloatFormat]]:
    """Return every model of a preset, once for each format."""
    found: dict[Any, tuple[str, lp.Instruction, FloatFormat]] = {}
    for preset in lp.presets():
        for row in preset.instructions:
            for fmt in row.a:
                if row.scale_format is None and isinstance(fmt, FloatFormat):
                    found.setdefault((row.model, fmt), (preset.name, row, fmt))
    return list(found.values())


def black_box(model: Any, dtype: Any) -> Box:
    start = getattr(model, "c_format", None) or "fp64"
    return lambda a, b, c: lp.vecdot(a, b, dtype, accumulator=model, c=lp.round_to(np.float64(c), start))


# -------------------------------------------------------------------------- our own presets, handed over as black boxes
EXPECTED: dict[str, dict[str, Any]] = {
    "Sequential": {"block_length": 1, "c_place": "first", "products": "exact"},
    "FusedExact": {"alignment": "exact", "c_place": "inside"},
    "FlushedPairwise": {"c_place": "late"},
    "FmaPairOddFirst": {"block_length": 2, "c_place": "first", "order": "pairs, the odd place first, ascending"},
    "EvenOddPair": {
        "block_length": 32,
        "c_place": "late",
        "order": "blocks of 32, even and odd places in chains of their own, ascending",
    },
    "BfDotRoundOdd": {"block_length": 2, "c_place": "late", "rounding": "to_odd"},
    "BfDotFused": {"block_length": 2, "c_place": "late", "rounding": "nearest_even"},
    "Fp8ViaF16": {
        "block_length": 32,
        "fraction_bits": 25,
        "c_place": "late",
        "order": "blocks of 32: places 0 and 1 of every four, then 2 and 3, then the running sum, ascending",
    },
}
FLUSHED = ("FlushedPairwise", "FmaPairOddFirst", "EvenOddPair", "BfDotRoundOdd")


@pytest.mark.parametrize(
    ("preset", "row", "fmt"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}-{each[2]}") for each in rows()]
)
def test_presets_are_recovered(preset: str, row: lp.Instruction, fmt: FloatFormat) -> None:
    model = row.model
    report = lp.probe(black_box(model, fmt), fmt)
    assert report.deterministic
    assert report.calls < 300
    assert preset in report.presets
    assert report.model == model
    assert report.result_format == str(model.result_format)
    kind = type(model).__name__
    for name, value in EXPECTED.get(kind, {}).items():
        assert getattr(report, name) == value, name
    if kind in ("FusedTruncated", "FusedTruncatedLateC", "FusedExact", "FlushedPairwise"):
        narrow = fmt.bits <= 6  # sums of products are no wider than 25 bits: seen next to a c in float32 alone
        hidden = narrow and str(model.result_format) == "float16"
        assert report.block_length == model.length
        if kind.startswith("FusedTruncated"):
            assert report.fraction_bits == (None if hidden else model.fraction_bits)
            assert report.alignment == (None if hidden else "toward_zero")
            late = kind.endswith("LateC")
            assert report.c_place == (None if hidden else "late" if late else "inside")
    if kind == "FusedTruncated":
        assert report.rounding == str(model.rounding)
        assert report.kept_bits == model.kept_bits
        assert report.exponent_floor in (None, model.exponent_floor)
        assert (report.exponent_floor is not None) == (fmt.name == "float16" and str(model.out) == "float16")
    if kind == "FusedTruncatedLateC":
        assert report.final_bits == model.final_bits
        assert report.even_odd == model.even_odd
        assert report.late_alignment == ("toward_zero" if model.even_odd else "toward_negative")
    fates = set(report.subnormals.values()) - {None}
    assert fates == ({"flush"} if kind in FLUSHED else {"keep"})


def test_all_fitting_presets_have_equal_arithmetic() -> None:
    report = lp.probe(black_box("nvidia-ampere", "fp16"), "fp16")
    assert report.presets == ("nvidia-turing", "nvidia-ampere", "nvidia-ada")
    for record in report.table:
        assert (record["missed"] == 0) == (record["model"] == report.model)


def test_mixed_operands() -> None:
    dtype = ("e5m2", "e4m3fn")
    report = lp.probe(black_box("nvidia-hopper", dtype), dtype)
    assert (report.block_length, report.fraction_bits, report.kept_bits) == (32, 13, 13)
    assert report.presets == ("nvidia-hopper",)


# ---------------------------------------------------------------------- boxes written here, from the words of the model
def exponent(x: float) -> int:
    return max(math.frexp(x)[1] - 1, -14)  # float16 operands, subnormals unnormalised


def tensor_core(length: int = 8, bits: int = 24, *, late: bool = False, cut: Callable[[Fraction], int] = int) -> Box:
    """Return blocks of products aligned and cut, c inside or late, to float32 toward zero."""

    def box(a: np.ndarray, b: np.ndarray, c: float) -> np.float32:
        total = Fraction(c)
        for at in range(0, len(a), length):
            terms = [
                (Fraction(float(x)) * Fraction(float(y)), exponent(x) + exponent(y))
                for x, y in zip(a[at : at + length].tolist(), b[at : at + length].tolist(), strict=True)
                if x and y
            ]
            if total and not late:
                terms.append((total, math.frexp(float(total))[1] - 1))
            top = max((e for _, e in terms), default=0)
            unit = Fraction(2) ** (top - bits)
            block = sum(cut(value / unit) for value, _ in terms) * unit
            total = toward_zero(block + total if late else block)
        return np.float32(float(total))

    return lambda a, b, c: box(a, b, c) if np.isfinite([*a, *b, c]).all() else np.float32(np.nan)


def toward_zero(x: Fraction) -> Fraction:
    if not x:
        return x
    e = abs(x.numerator).bit_length() - x.denominator.bit_length()
    e -= abs(x) < Fraction(2) ** e
    unit = Fraction(2) ** (max(e, -126) - 23)
    return int(x / unit) * unit


@pytest.mark.parametrize(("length", "bits"), [(4, 23), (8, 24), (8, 23), (8, 25), (16, 24), (16, 26), (4, 30)])
def test_block_length_and_alignment_to_the_bit(length: int, bits: int) -> None:
    report = lp.probe(tensor_core(length, bits), "fp16")
    assert (report.block_length, report.fraction_bits, report.rounding) == (length, bits, "toward_zero")
    assert (report.alignment, report.c_place) == ("toward_zero", "inside")
    known = {(4, 23): "nvidia-volta", (8, 24): "nvidia-ampere", (8, 25): "nvidia-hopper-mma"}
    assert report.presets == () if (length, bits) not in known else known[length, bits] in report.presets
    assert isinstance(report.model, lp.FusedTruncated)
    assert (report.model.length, report.model.fraction_bits) == (length, bits)


def test_late_c_and_floor_are_told_apart() -> None:
    late = lp.probe(tensor_core(late=True), "fp16")
    assert (late.block_length, late.fraction_bits, late.c_place, late.presets) == (8, 24, "late", ())
    floor = lp.probe(tensor_core(cut=math.floor), "fp16")
    assert (floor.fraction_bits, floor.alignment, floor.presets) == (24, "toward_negative", ())
    assert late.model is None
    assert floor.model is None
    assert "the nearest is" in str(floor)


def chain(order: Callable[[int], list[int]]) -> Box:
    """Return a float32 sum in some order, c first."""

    def box(a: np.ndarray, b: np.ndarray, c: float) -> np.float32:
        total = np.float32(c)
        for i in order(len(a)):
            total = np.float32(total + a[i] * b[i])
        return total

    return box


def ascending(n: int) -> list[int]:
    return list(range(n))


def trees(a: np.ndarray, b: np.ndarray, c: float) -> np.float32:
    """Return a binary tree over sums of 8, c last."""
    parts = [chain(ascending)(a[i : i + 8], b[i : i + 8], 0.0) for i in range(0, len(a), 8)]
    while len(parts) > 1:
        parts = [np.float32(x + y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return np.float32(np.float32(c) + parts[0])


@pytest.mark.parametrize(
    ("box", "order", "place", "length"),
    [
        (chain(ascending), "one product after the other, ascending", "first", 1),
        (chain(lambda n: list(range(n))[::-1]), "one product after the other, descending", "first", 1),
        (chain(lambda n: [i ^ 1 for i in range(n)]), "pairs, the odd place first, ascending", "first", 2),
        (trees, "pairwise over sums of 8 from left to right", "last", 8),
        (chain(lambda n: [*range(0, n, 2), *range(1, n, 2)]), None, "first", None),
    ],
)
def test_orders(box: Box, order: str | None, place: str, length: int | None) -> None:
    report = lp.probe(box, "bf16")
    assert (report.order, report.block_length) == (order, length)
    assert report.tree is not None
    assert report.c_place == (place if order else None)
    assert report.result_format == "float32"


@pytest.mark.parametrize("rounding", ["toward_zero", "toward_positive", "toward_negative", "to_odd", "nearest_away"])
def test_roundings_of_chains(rounding: str) -> None:
    model = lp.Sequential("fp32", rounding)
    report = lp.probe(black_box(model, "fp16"), "fp16")
    assert report.rounding == rounding
    assert report.block_length == 1
    assert report.model == model


@pytest.mark.parametrize(
    "model",
    [
        lp.Sequential("fp16"),
        lp.Sequential("bf16"),
        lp.Sequential("fp16", fused=False),
        lp.Sequential("fp32", subnormals="flush"),
        lp.Pairwise("fp32"),
        lp.Pairwise("fp32", 16),
        lp.Exact("fp32"),
        lp.FusedTruncated(8, 20),
        lp.FusedTruncated(16, 25, "bf16"),
        lp.Chunked("fp32", 16),
    ],
    ids=repr,
)
def test_models_that_no_hardware_has(model: Any) -> None:
    report = lp.probe(black_box(model, "fp16"), "fp16")
    assert report.model == model
    assert report.result_format == str(model.result_format)
    assert report.products == ("rounded" if getattr(model, "product", None) is not None else "exact")


def test_result_rounded_afterwards() -> None:
    def box(a: np.ndarray, b: np.ndarray, c: float) -> Any:
        return lp.vecdot(a, b, "bf16", accumulator="nvidia-hopper", c=c, out_dtype="bf16")

    report = lp.probe(box, "bf16", out="bf16")
    assert (report.result_format, report.rounding) == ("bfloat16", "nearest_even")
    assert "nvidia-hopper" in report.presets
    assert lp.probe(box, "bf16").presets == ()


def test_plain_numpy_loop_rounds_its_products() -> None:
    report = lp.probe(chain(ascending), "bf16")
    assert report.model == lp.Sequential("fp32", fused=False)  # seen where products overflow or are subnormal
    assert report.presets == ()
    assert lp.probe(chain(ascending), "e4m3fn").model == lp.Sequential("fp32")  # no such products there


def test_function_that_ignores_c() -> None:
    report = lp.probe(lambda a, b, c: lp.vecdot(a, b, "fp16", accumulator="nvidia-hopper"), "fp16")
    assert (report.c_place, report.block_length, report.fraction_bits) == ("ignored", 16, 25)
    assert (report.rounding, report.result_format) == ("toward_zero", "float32")
    assert "nvidia-hopper" in report.presets
    assert "nvidia-ampere" not in report.presets


@pytest.mark.parametrize("k", [8, 16, 40])
def test_other_lengths(k: int) -> None:
    report = lp.probe(black_box("nvidia-ampere", "bf16"), "bf16", k=k)
    assert report.presets == ("nvidia-ampere", "nvidia-ada") if k > 8 else "nvidia-ampere" in report.presets
    assert report.block_length == 8


# ------------------------------------------------------------------------------------------------ what functions return
@pytest.mark.parametrize(
    "wrap",
    [float, np.float64, np.asarray, lambda x: np.array([[x]]), lambda x: [float(x)]],
    ids=["float", "float64", "0-d", "1x1", "list"],
)
def test_kinds_of_numbers(wrap: Callable[[Any], Any]) -> None:
    report = lp.probe(lambda a, b, c: wrap(lp.vecdot(a, b, "bf16", accumulator="arm-bf16", c=c)), "bf16")
    assert report.presets == ("arm-bf16",)


def test_small_types_and_tensors() -> None:
    class Tensor:
        def __init__(self, value: float) -> None:
            self.value = value

        def item(self) -> float:
            return self.value

    model = lp.Sequential("bf16")
    for wrap in (ml_dtypes.bfloat16, Tensor):
        report = lp.probe(
            lambda a, b, c, wrap=wrap: wrap(float(lp.vecdot(a, b, "bf16", accumulator=model, c=c))), "bf16"
        )
        assert report.model == model


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        (None, TypeError, "one real number"),
        ("1.0", TypeError, "one real number"),
        (1j, TypeError, "one real number"),
        (True, TypeError, "one real number"),
        ([1.0, 2.0], ValueError, "one number, got an array of shape"),
        (np.zeros(0), ValueError, "one number, got an array of shape"),
        (7.0, ValueError, "must return c"),
        (math.nan, ValueError, "must return c"),
        (0, ValueError, "got 0"),
    ],
)
def test_nonsense_is_refused(result: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        lp.probe(lambda a, b, c: result)
    assert "`function`" in str(caught.value)


def test_exception_is_the_cause() -> None:
    def box(a: np.ndarray, b: np.ndarray, c: float) -> float:
        raise KeyError("lost")

    with pytest.raises(RuntimeError, match="KeyError: 'lost'") as caught:
        lp.probe(box)
    assert isinstance(caught.value.__cause__, KeyError)


def test_own_copies_are_handed_over() -> None:
    def box(a: np.ndarray, b: np.ndarray, c: float) -> Any:
        result = lp.vecdot(a, b, "bf16", accumulator="x86-amx-bf16", c=c)
        a[:] = b[:] = 9
        return result

    assert lp.probe(box, "bf16").presets == ("x86-amx-bf16",)


def test_chance_is_seen(rng: np.random.Generator) -> None:
    model = lp.Sequential("fp16", "stochastic")
    report = lp.probe(lambda a, b, c: lp.vecdot(a, b, "fp16", accumulator=model, c=c, rng=rng.integers(2**31)), "fp16")
    assert not report.deterministic
    assert report.presets == ()
    assert "not deterministic" in str(report)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"function": 3}, TypeError, "`function` must be callable"),
        ({"k": 7}, ValueError, "`k` must be from 8 to 1024, got 7"),
        ({"k": 1.5}, TypeError, "`k` must be an integer"),
        ({"k": True}, TypeError, "`k` must be an integer"),
        ({"dtype": "int8"}, ValueError, "`dtype` must be a signed float format"),
        ({"dtype": "e8m0fnu"}, ValueError, "`dtype` must be a signed float format"),
        ({"dtype": "bf17"}, ValueError, "`dtype`"),
        ({"dtype": ("bf16",) * 3}, ValueError, "a pair of them"),
        ({"out": "bf17"}, ValueError, "`out`"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        lp.probe(**{"function": lambda a, b, c: 0.0, **arguments})


def test_report_reads_well() -> None:
    report = lp.probe(black_box("nvidia-hopper", "e4m3fn"), "e4m3fn")
    text = str(report)
    for words in ("13 fraction bits used", "blocks of 32 in one step", "inside", "nvidia-hopper: wgmma", "silicon"):
        assert words in text, words
    assert "<table>" in report._repr_html_()
    with pytest.raises(AttributeError):
        report.k = 3  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ orders by themselves
@pytest.mark.parametrize("has_c", [True, False])
def test_trees_with_names_are_found_in_few_calls(has_c: bool) -> None:
    names, orders, tables = _order._catalogue(16, has_c)
    assert len(names) == len(orders)
    for named, table in zip(names, tables, strict=True):
        calls = 0

        def size(i: int, j: int, table: np.ndarray = table) -> int:
            nonlocal calls
            calls += 1
            return int(table[i, j])

        found, name = _order.discover(size, 16, has_c, 0)
        assert calls <= 40
        if not np.array_equal(_order.sizes(found), table):
            pytest.fail(f"{named} was taken for {name}")


def test_trees_without_a_name_are_found(rng: np.random.Generator) -> None:
    for _ in range(20):
        parts: list[Any] = list(range(20))
        while len(parts) > 1:
            at = sorted(rng.choice(len(parts), 2, replace=False).tolist(), reverse=True)
            parts.append(_order.node(*(parts.pop(i) for i in at)))
        table = _order.sizes(_order.Order(parts[0], False))
        found, _ = _order.discover(lambda i, j, table=table: int(table[i, j]), 19, True, 400)
        assert found.tree == parts[0]


def test_sizes_of_no_tree_are_refused(rng: np.random.Generator) -> None:
    table = rng.integers(2, 20, (20, 20))
    with pytest.raises(_order.Unclear):
        _order.discover(lambda i, j: int(table[i, j]), 19, True, 400)


def test_tree_as_text() -> None:
    assert _order.text(((0, 1, 2, 8), 3, 4, (5, 6, 7)), 8) == "((0..2 c) 3 4 (5..7))"
