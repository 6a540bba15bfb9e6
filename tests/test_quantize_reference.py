"""`quantize` against its definition in fractions: codes, scales and zero points equal, on points that matter."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec import reference
from lowprec.reference import quantize as right

Array = np.ndarray[Any, Any]
SIZE = 16
RULES = ("floor", "ceil", "even", "rceil")
MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8")
WORDS = {"float16": "fp16", "float32": "fp32", "bfloat16": "bf16"}


def values_of(fmt: Any) -> list[float]:
    """Return the finite magnitudes of a format."""
    if hasattr(fmt, "values"):
        return sorted({abs(v) for v in fmt.values})
    codes = range(min(2**fmt.bits, 256)) if fmt.bits <= 8 else range(0, 2 ** (fmt.bits - 1), 2 ** (fmt.bits - 8))
    return sorted({abs(v) for v in (reference.decode(c, fmt) for c in codes) if math.isfinite(v)})


def neighbours(x: float) -> list[float]:
    """Return a float32 number with its neighbours."""
    single = np.float32(x)
    return [float(v) for v in (np.nextafter(single, np.float32(0)), single, np.nextafter(single, np.float32(np.inf)))]


def blocks(fmt: Any, rng: np.random.Generator, *, ties: bool = True) -> Array:
    """Return float32 blocks that matter for an element format: those for its values and midpoints may be left out."""
    values, largest = values_of(fmt), values_of(fmt)[-1]
    rows: list[list[float]] = [[0.0] * SIZE, [-0.0] * SIZE, [0.0, -0.0] * (SIZE // 2)]
    # Every midpoint of two values, and the values, with neighbours: at a scale of 1, and at another one.
    middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    some = middles if len(middles) < 40 else [*middles[:16], *middles[16:-16:11], *middles[-16:]]
    points = [v for m in some for v in neighbours(m)] + values[:8] + values[-8:] if ties else []
    for at in range(0, len(points), SIZE - 1):
        chunk = [(-1) ** i * v for i, v in enumerate(points[at : at + SIZE - 1])]
        row = [largest, *chunk, *[0.0] * (SIZE - 1 - len(chunk))]
        rows += [row, [-v * 2.0**-7 for v in row], [v * 0.7 for v in row]]
    base = rng.standard_normal(SIZE).clip(-2, 2) / 4
    # Largest magnitudes at powers of two, at the largest element, and where "even" carries, with neighbours.
    for top in (1.0, largest, 2 - 2.0**-3, 2 - 2.0**-4, 2 - 2.0**-5, 1.5, 1.75):
        for e, value in itertools.product((-12, 3) if ties else (3,), neighbours(top)):
            row = (base * value * 2.0**e).tolist()
            row[int(rng.integers(SIZE))] = -value * 2.0**e
            rows.append(row)
    # Quotients that round to a power of two, as subnormal numbers only do.
    for e, value in itertools.product((-127, -126, -133), neighbours(largest * 2.0**20)):
        rows.append([value * 2.0 ** (e - 20), *[0.0] * (SIZE - 1)])
    for e in (-149, -148, -140, -135, -133, -127, -126, -120, -60, 60, 100, 126):
        row = (base * 2.0**e).tolist()
        row[5] = 1.5 * 2.0**e
        rows.append(row)
    rows.append([*(base * 1e-3).tolist()[1:], -3e38])
    rows.append([*(base * 1e-3).tolist()[1:], float(np.finfo(np.float32).max)])
    rows.append([1e30, *[2.0**-149] * (SIZE - 1)])
    rows.append([1.0, *[-(2.0**-149)] * (SIZE - 1)])
    rows += (rng.standard_normal((6, SIZE)) * np.exp2(rng.integers(-20, 20, (6, 1)))).tolist()
    rows += np.abs(rng.standard_normal((3, SIZE))).tolist() + (-np.abs(rng.standard_normal((3, SIZE)))).tolist()
    return np.array(rows, np.float32)


def element_of(fmt: Any) -> Any:
    """Return what the twin takes for an element."""
    return fmt.values if hasattr(fmt, "values") else fmt


def quantize(x: Array, fmt: Any, **how: Any) -> lp.QuantizedArray:
    """Quantise rows, and ask for the same of arrays that are large enough for the kernels, along rows and columns."""
    q = lp.quantize(x, fmt, **how)
    many = np.tile(x, (-(-6000 // x.size), 1))
    along = {key: value for key, value in how.items() if key != "axis"}
    columns = lp.quantize(np.ascontiguousarray(many.T), fmt, axis=0, **along).T
    for large in (lp.quantize(many, fmt, **how), columns):
        for start in range(0, len(many), len(x)):
            part = slice(start, start + len(x))
            assert np.array_equal(large.codes[part], q.codes)
            assert np.array_equal(*(each.astype(np.float64) for each in (large.scale[part], q.scale)), equal_nan=True)
            assert q.zero_point is None or np.array_equal(large.zero_point[part], q.zero_point)
        assert large.tensor_scale == q.tensor_scale
    return q


def assert_equal(x: Array, q: lp.QuantizedArray, fmt: Any, **how: Any) -> None:
    """Compare a quantised array of rows, each one or more blocks of SIZE, with the twin, block by block."""
    fmt = element_of(fmt)
    outer = how.get("tensor_scale")
    if q.recipe.split()[0] in ("nf4", "fp4_bnb"):
        how["reciprocal"] = True
    if outer is not None:
        assert float(q.tensor_scale) == outer
    scales = q.scale.astype(np.float64)
    back, codes = q.dequantize(), q.codes
    for i, row in enumerate(x.tolist()):
        for j, at in enumerate(range(0, len(row), SIZE)):
            block = row[at : at + SIZE]
            want = reference.quantize_block(block, fmt, **how)
            assert scales[i, j] == want.scale, (block, want.scale)
            point = None if q.zero_point is None else int(q.zero_point[i, j])
            assert point == want.zero_point, block
            assert codes[i, at : at + SIZE].tolist() == list(want.codes), block
            numbers = reference.dequantize_block(want, fmt, tensor_scale=outer, unit=how.get("unit", 1.0))
            limited = [math.copysign(min(abs(v), 2.0**128), v) for v in numbers]
            with np.errstate(over="ignore"):
                assert np.array_equal(back[i, at : at + SIZE], np.array(limited).astype(np.float32)), block


@pytest.fixture
def local() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MX)
def test_microscaling(name: str, rule: str, local: np.random.Generator) -> None:
    row = lp.block_format(name)
    x = blocks(row.element, local, ties=rule == "floor")
    q = quantize(x, name, block_size=SIZE, scale_rule=rule)
    assert_equal(x, q, row.element, scale_format="e8m0fnu", scale_rule=rule, unit=row.unit)


def test_default_rule_is_floor(local: np.random.Generator) -> None:
    for name in MX:
        x = local.standard_normal((4, 64), dtype=np.float32)
        one, other = quantize(x, name), quantize(x, name, scale_rule="floor")
        assert one.block_size == 32
        assert np.array_equal(one.codes, other.codes)
        assert np.array_equal(one.scale.view(np.uint8), other.scale.view(np.uint8))


@pytest.mark.parametrize("name", ["nf4", "fp4_bnb"])
def test_tables(name: str, local: np.random.Generator) -> None:
    row = lp.block_format(name)
    x = blocks(row.element, local)
    assert_equal(x, quantize(x, name, block_size=SIZE), row.element)
    assert_equal(x, quantize(x, row.element, axis=-1, block_size=SIZE), row.element)


def test_nvfp4_one_level(local: np.random.Generator) -> None:
    element = lp.format("e2m1fn")
    x = blocks(element, local)
    assert_equal(x, quantize(x, "nvfp4", tensor_scale=None), element, scale_format="e4m3fn")


@pytest.mark.parametrize("e", [0, 10, -126, -140])
def test_nvfp4_two_levels(e: int, local: np.random.Generator) -> None:
    element = lp.format("e2m1fn")
    x = blocks(element, local, ties=e == 0)
    x = x[np.abs(x).max(axis=1) < 1e3]
    x = np.ldexp(x, e)
    outer = reference.tensor_scale([float(v) for v in x.ravel()])
    assert_equal(x, quantize(x, "nvfp4"), element, scale_format="e4m3fn", tensor_scale=outer)


def test_nvfp4_extremes() -> None:
    element = lp.format("e2m1fn")
    for number in (0.0, 2.0**-149, 2.0**-140, 3.4e38):
        x = np.full((2, SIZE), number, np.float32)
        outer = reference.tensor_scale([float(v) for v in x.ravel()])
        assert_equal(x, quantize(x, "nvfp4"), element, scale_format="e4m3fn", tensor_scale=outer)


LINEAR = ("int8", "int4", "int2", "int5", "e4m3fn", "e5m2", "e2m1fn", "e3m2fn", "fp16")
SCALES = ("fp32", "fp16", "bf16", "e4m3fn", "e8m0fnu")
PAIRS = [pair for pair in itertools.product(LINEAR, SCALES) if pair[1] == "fp32" or pair[0] == "int8"]


@pytest.mark.parametrize(("fmt", "scale"), PAIRS)
def test_symmetric(fmt: str, scale: str, local: np.random.Generator) -> None:
    element = lp.format(fmt)
    x = blocks(element, local, ties=scale == "fp32")
    for rule in ("nearest", "up") if scale in ("fp16", "e8m0fnu") else ("nearest",):
        q = quantize(x, fmt, axis=-1, block_size=SIZE, scale_dtype=scale, scale_rule=rule)
        assert_equal(x, q, element, scale_format=scale, scale_rule=rule)


@pytest.mark.parametrize("divisor", [127, 127.5, 128, 100])
def test_divisors(divisor: float, local: np.random.Generator) -> None:
    x = blocks(lp.format("int8"), local, ties=False)
    q = quantize(x, "int8", axis=-1, block_size=SIZE, divisor=divisor)
    assert_equal(x, q, lp.format("int8"), divisor=divisor)
    assert ((q.codes == 128).any()) == (divisor > 127)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", ["fp32", "fp16", "e4m3fn"])
def test_powers_of_two_in_other_scale_formats(scale: str, rule: str, local: np.random.Generator) -> None:
    x = blocks(lp.format("int4"), local, ties=False)
    q = quantize(x, "int4", axis=-1, block_size=SIZE, scale_dtype=scale, scale_rule=rule)
    assert_equal(x, q, lp.format("int4"), scale_format=scale, scale_rule=rule)


@pytest.mark.parametrize(("scale", "rule"), [("fp32", "nearest"), ("fp16", "nearest"), ("bf16", "up"),
                                             ("e4m3fn", "nearest"), ("e8m0fnu", "rceil")])  # fmt: skip
@pytest.mark.parametrize("fmt", ["uint8", "int4", "uint2"])
def test_affine(fmt: str, scale: str, rule: str, local: np.random.Generator) -> None:
    element = lp.format(fmt)
    x = blocks(element, local, ties=scale == "fp32")
    apart = np.where(np.arange(SIZE) % 2, 3e38, -3e38)[None].astype(np.float32)  # further apart than the largest number
    x = np.concatenate([x, np.abs(x[::4]), -np.abs(x[1::4]), apart])
    how = {"scale_rule": rule, "symmetric": False}
    q = quantize(x, fmt, axis=-1, block_size=SIZE, scale_dtype=scale, **how)
    assert_equal(x, q, element, scale_format=scale, **how)


@pytest.mark.parametrize("fmt", ["int8", "e4m3fn", "mxfp4", "nvfp4"])
def test_double_sources(fmt: str, local: np.random.Generator) -> None:
    row = lp.block_format(fmt) if fmt in ("mxfp4", "nvfp4") else None
    element = lp.format(fmt) if row is None else row.element
    x = blocks(element, local).astype(np.float64)
    x = x[np.abs(x).max(axis=1) < 1e20]
    x = x * (1 + local.integers(-3, 4, x.shape) * 2.0**-45)
    how: dict[str, Any] = {"arithmetic": "float64"}
    if row is not None:
        how |= {"scale_format": row.scale, "scale_rule": row.scale_rule}
    if fmt == "nvfp4":
        how["tensor_scale"] = reference.tensor_scale(x.ravel().tolist(), arithmetic="float64")
    assert_equal(x, quantize(x, fmt, axis=-1, block_size=SIZE), element, **how)


def test_tail_blocks(local: np.random.Generator) -> None:
    for length in (1, 15, 17, 31, 40):
        x = local.standard_normal((3, length), dtype=np.float32)
        for name in ("mxfp8_e4m3", "mxfp4", "nf4"):
            row = lp.block_format(name)
            q = quantize(x, name, block_size=SIZE)
            assert q.scale.shape == (3, -(-length // SIZE))
            assert_equal(x, q, row.element, scale_format=row.scale, scale_rule=row.scale_rule)
        assert_equal(x, quantize(x, "int8", axis=-1, block_size=SIZE), lp.format("int8"))
        down = lp.quantize(x.T, "int8", axis=0, block_size=SIZE)
        assert_equal(x, down.T, lp.format("int8"))


def test_one_scale_and_one_per_row(local: np.random.Generator) -> None:
    x = local.standard_normal((4, SIZE), dtype=np.float32)
    whole = lp.quantize(x, "int8")
    want = reference.quantize_block([float(v) for v in x.ravel()], "int8")
    assert (whole.codes.ravel().tolist(), float(whole.scale)) == (list(want.codes), want.scale)
    rows = lp.quantize(x, "uint8", axis=0, symmetric=False)
    for i, row in enumerate(x.tolist()):
        each = reference.quantize_block(row, "uint8", symmetric=False)
        assert reference.Block(tuple(rows.codes[i].tolist()), float(rows.scale[i]), int(rows.zero_point[i])) == each
    tiles = lp.quantize(x, "e4m3fn", axis=(0, 1), block_size=(2, 8))
    for i, j in itertools.product(range(2), range(2)):
        part = (slice(2 * i, 2 * i + 2), slice(8 * j, 8 * j + 8))
        tile = reference.quantize_block(x[part].ravel().tolist(), "e4m3fn")
        assert (tiles.codes[part].ravel().tolist(), float(tiles.scale[i, j])) == (list(tile.codes), tile.scale)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_lost_blocks(lost: float) -> None:
    x = np.ones((2, 2 * SIZE), np.float32)
    x[1, SIZE + 3] = lost
    for fmt in ("int8", "e4m3fn", "nf4", "mxfp4", "mxint8"):
        axis = -1
        q = quantize(x, fmt, axis=axis, block_size=SIZE, nonfinite="propagate")
        assert np.isnan(q.dequantize()[1, SIZE:]).all()
        assert np.isfinite(q.dequantize()[0]).all()
        assert np.isfinite(q.dequantize()[1, :SIZE]).all()
        want = reference.quantize_block(x[1, SIZE:].tolist(), "int8")
        assert math.isnan(want.scale)
        assert set(want.codes) == {0}
        with pytest.raises(ValueError, match=r"finite.*1, 19"):
            quantize(x, fmt, axis=axis, block_size=SIZE)


# --------------------------------------------------------------------------------------------------------- properties
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)
ROWS = st.lists(NUMBERS, min_size=SIZE, max_size=SIZE).map(lambda row: np.array(row, np.float32))
ANY = ("int8", "int4", "e4m3fn", "e2m1fn", "nf4", *MX)


@given(ROWS, st.sampled_from(ANY))
def test_dequantised_numbers_stay(row: Array, fmt: str) -> None:
    q = lp.quantize(row, fmt, axis=-1, block_size=SIZE)
    back = q.dequantize(np.float64)
    again = lp.quantize(back, fmt, axis=-1, block_size=SIZE, scale=q.scale)
    assert np.array_equal(again.codes, q.codes)
    assert np.array_equal(again.dequantize(np.float64), back)


@given(ROWS, st.sampled_from(MX))
def test_floor_finds_its_own_scale_again(row: Array, fmt: str) -> None:
    q = lp.quantize(row, fmt, block_size=SIZE)
    again = lp.quantize(q.dequantize(np.float64), fmt, block_size=SIZE)
    assert np.array_equal(again.dequantize(np.float64), q.dequantize(np.float64))


@given(ROWS, st.sampled_from([*ANY, "uint8"]))
def test_error_is_half_a_step_at_most(row: Array, fmt: str) -> None:
    q = lp.quantize(row, fmt, axis=-1, block_size=SIZE, symmetric=fmt != "uint8")
    element = q.format
    ladder = np.array([0.0, *values_of(element)]) if fmt != "uint8" else np.arange(512.0)
    step = float(q.scale[0].astype(np.float64)) * float(1 if q.tensor_scale is None else q.tensor_scale)
    shift = 0 if q.zero_point is None else int(q.zero_point[0])
    for x, back in zip(row.astype(np.float64), q.dequantize(np.float64), strict=True):
        place = abs(x) / step
        if fmt == "uint8" and not -shift <= x / step <= 255 - shift:
            continue
        if place > ladder[-1]:
            continue
        above = int(np.searchsorted(ladder, place, side="left"))
        gap = ladder[above] - ladder[max(above - 1, 0)]
        if fmt == "nf4":
            gap = 0.31
        assert abs(x - back) <= gap * step / 2 + abs(x) * 2.0**-22


@given(ROWS, st.sampled_from([*ANY, "nvfp4"]), st.integers(-40, 20))
def test_powers_of_two_move_the_scale_only(row: Array, fmt: str, e: int) -> None:
    row = np.where(np.abs(row) < 1e-15, 0, row / np.float32(1e6)).astype(np.float32)
    if not row.any():
        return
    q, moved = (lp.quantize(x, fmt, axis=-1, block_size=SIZE) for x in (row, np.ldexp(row, e)))
    assert np.array_equal(q.codes, moved.codes)
    assert np.array_equal(np.ldexp(q.dequantize(np.float64), e), moved.dequantize(np.float64))


@given(ROWS, ROWS, ROWS, st.sampled_from(ANY))
def test_blocks_do_not_touch(one: Array, two: Array, three: Array, fmt: str) -> None:
    pair = lp.quantize(np.concatenate([one, two]), fmt, axis=-1, block_size=SIZE)
    other = lp.quantize(np.concatenate([one, three]), fmt, axis=-1, block_size=SIZE)
    assert np.array_equal(pair.codes[:SIZE], other.codes[:SIZE])
    assert pair.scale[0] == other.scale[0]


# ------------------------------------------------------------------------------------------- the twin against the rules
def test_the_twin_says_the_specification() -> None:
    # OCP MX 6.3 by hand: a = 7 in E2M1 (emax 2): X = 2**(2 - 2); 7 saturates to 6.
    assert reference.quantize_block([7.0], "e2m1fn", scale_format="e8m0fnu", scale_rule="floor") == ((7,), 1.0, None)
    assert reference.quantize_block([7.0], "e2m1fn", scale_format="e8m0fnu", scale_rule="rceil") == ((6,), 2.0, None)
    # The smallest and the largest scale of E8M0.
    assert reference.quantize_block([0.0], "e4m3fn", scale_format="e8m0fnu", scale_rule="floor").scale == 2.0**-127
    with pytest.raises(ValueError, match="must be one of nearest, up, floor, ceil, even, rceil, got 'down'"):
        reference.quantize_block([1.0], "int8", scale_rule="down")
    with pytest.raises(ValueError, match="must have a number or more"):
        reference.quantize_block([], "int8")
    with pytest.raises(ValueError, match="must be False for uint8"):
        reference.quantize_block([1.0], "uint8")
    with pytest.raises(ValueError, match="must be True for elements that are not integers"):
        reference.quantize_block([1.0], "e4m3fn", symmetric=False)


# ---------------------------------- planted bugs: in the twin, where they show that these operands tell them apart
def reciprocal(x: float, step: float, arithmetic: Any) -> float:
    """Multiply by the rounded reciprocal where the definition divides."""
    inverse = right._rounded(1 / right.Fraction(step), arithmetic)
    return math.copysign(right._rounded(right.Fraction(x) * right.Fraction(inverse), arithmetic), x)


PLANTS = {
    "times 1/s, int8": ("_divided", reciprocal, lambda rng: test_symmetric("int8", "fp32", rng)),
    "exact midpoints, nf4": ("half_code", right.nearest_code, lambda rng: test_tables("nf4", rng)),
    "ceil: + 1": ("_ceil_log2", lambda a: right._floor_log2(a) + 1, lambda rng: test_microscaling(MX[0], "ceil", rng)),
    "even: one bit more": ("_fraction_bits", lambda fmt: 4, lambda rng: test_microscaling(MX[0], "even", rng)),
    "even: one bit less": ("_fraction_bits", lambda fmt: 2, lambda rng: test_microscaling(MX[0], "even", rng)),
    "rceil: exact": ("_rounded", lambda exact, arithmetic: exact, lambda rng: test_microscaling(MX[0], "rceil", rng)),
    "tables: ties up": (
        "nearest_code",
        lambda x, table: min(range(16), key=lambda c: (abs(table[c] - right.Fraction(x)), -table[c], c)),
        lambda rng: test_tables("nf4", rng),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_planted(name: str, local: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    where, bug, check = PLANTS[name]
    monkeypatch.setattr(right, where, bug)
    with pytest.raises(AssertionError):
        check(local)
