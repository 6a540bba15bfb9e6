"""Exact products of sparse rows of small integers against those of Python, NumPy and the dense product."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest
from llvmlite import ir
from test_integer_matmul import FEW, PAIRS, array, ends, f32, layouts, wide

import lowprec as lp
from lowprec import _dots, _jit, _patterns
from lowprec import _integer_product as _dense
from lowprec import _sparse_integer_product as _sparse
from lowprec._sparse_integer_product import product
from lowprec._sparse_rows import SparseRows
from lowprec.kernels import sparse_dot_rows, sparse_dots
from lowprec.reference import integer_dot

Array = np.ndarray[Any, Any]
CODES = {"2:4": (0x4, 0x8, 0x9, 0xC, 0xD, 0xE), "4:8": (0x4, 0x8, 0x9, 0xC, 0xD, 0xE), "1:2": (0x4, 0xE)}
# Panels are 8 to 128 columns wide, the first four columns go another way; a block of k is 32 to 256 long.
SHAPES = [(7, 5, 17), (5, 70, 3), (13, 70, 49)]
WAYS = [way for way in ("maddwd", "plain") if way in _dots.can()]


class Sparse(NamedTuple):
    """Rows in three spellings."""

    rows: SparseRows
    numbers: Array  # int64 (M, K)
    mask: Array  # what is kept


def places(code: int, pattern: str) -> list[int]:
    """Return the places of a code (PTX ISA 8.5, section 9.7.14.5)."""
    first, second = code % 4, code // 4
    if pattern == "1:2":
        return [first // 2]
    return [first, second] if pattern == "2:4" else [2 * i + j for i in (first, second) for j in (0, 1)]


def sparse(values: Array, codes: Array, k: int, pattern: str) -> Sparse:
    """Return rows from what they keep, group by group; values beyond the end of k are there but are not seen."""
    found = _patterns.pattern_of(pattern)
    m, groups = codes.shape
    room = np.zeros((m, groups * found.group), np.int64)
    mask = np.zeros(room.shape, bool)
    for i, group in np.ndindex(m, groups):
        for t, place in enumerate(places(int(codes[i, group]), pattern)):
            room[i, group * found.group + place] = int(values[i, group * found.kept + t])
            mask[i, group * found.group + place] = True
    padded = np.pad(codes, ((0, 0), (0, groups % 2)))
    nibbles = np.ascontiguousarray(padded[:, ::2] | padded[:, 1::2] << 4).astype(np.uint8)
    rows = SparseRows(values, k, found.kept, found.group, nibbles, found)
    return Sparse(rows, room[:, :k], mask[:, :k])


def make(name: str, m: int, k: int, seed: int = 0, kind: str = "any", pattern: str = "2:4") -> Sparse:
    """Return rows of a format."""
    found = _patterns.pattern_of(pattern)
    groups = -(-k // found.group)
    codes = np.random.default_rng(seed + 99).choice(np.array(CODES[pattern], np.uint8), (m, groups))
    return sparse(array(name, (m, groups * found.kept), seed, kind), codes, k, pattern)


def want(a: Sparse, b: Array, zero_a: Any = 0, zero_b: Any = 0, start: Any = 0) -> Array:
    """Return the exact sum in NumPy's int64, wrapped to 32 bits."""
    left = np.where(a.mask, a.numbers - np.atleast_1d(zero_a).astype(np.int64)[:, np.newaxis], 0)
    total = left @ (wide(b) - np.atleast_1d(zero_b).astype(np.int64))
    return np.asarray((total + start).astype(np.uint32).view(np.int32))


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Go each way that this CPU can go."""
    monkeypatch.setattr(_dots, "way", lambda: request.param)
    return str(request.param)


# ---------------------------------------------------------------------------------------------- every code, every tail
def test_every_code(way: str) -> None:
    """All pairs of codes; every place of b has a number of its own, so no line of a panel passes for another."""
    for pattern, each in CODES.items():
        codes = np.array(list(itertools.product(each, repeat=2)), np.uint8)
        found = _patterns.pattern_of(pattern)
        values = array("int8", (len(codes), 2 * found.kept), 1)
        for k in range(1, 2 * found.group + 1):
            count = -(-k // found.group)
            a = sparse(values[:, : count * found.kept], codes[:, :count], k, pattern)
            b = (np.arange(k)[:, np.newaxis] * 7 - np.arange(21) * 5 + 11).astype(np.int8)
            for n in (1, 21):
                got = product(a.rows, b[:, :n])
                assert np.array_equal(got, want(a, b[:, :n])), (pattern, k, n)
            for i in (0, len(codes) - 1):
                kept = np.flatnonzero(a.mask[i])
                assert got[i, 20] == integer_dot(a.numbers[i, kept].tolist(), b[kept, 20].tolist())


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pairing(one: str, other: str, way: str) -> None:
    """All numbers are at an end of the range, or most of them, so that any sum of too few bits would show."""
    for kind, (number, (m, k, n)) in itertools.product(("low", "high", "ends"), enumerate(SHAPES)):
        a, b = make(one, m, k, number, kind), array(other, (k, n), number + 9, kind)
        assert np.array_equal(product(a.rows, b), want(a, b)), (m, k, n)
        opposite = array(other, (k, n), number, "high" if kind == "low" else "low")
        assert np.array_equal(product(a.rows, opposite), want(a, opposite)), (m, k, n)


@pytest.mark.parametrize("pattern", CODES)
def test_every_k(pattern: str, way: str) -> None:
    """From one to more than a few groups, and around the borders of blocks and parts of k."""
    for k in (*range(1, 71), *(border + off for border in (256, 1024, 2048) for off in (-1, 1))):
        a, b = make("int8", 3, k, k, "ends", pattern), array("uint8", (k, 9), k + 1, "ends")
        for n in (2, 9):
            zeros = np.array([-3, 0, 200, 5, -128, 1, 2, 3, 4])[:n]
            assert np.array_equal(product(a.rows, b[:, :n], zero_a=7, zero_b=zeros), want(a, b[:, :n], 7, zeros)), k


def test_every_width(way: str) -> None:
    """Few columns, whole vectors and what is left over, panels of each width; more rows than a piece has."""
    a, b = make("int8", 11, 90, 1), array("int8", (90, 200), 2)
    right = want(a, b)
    for n in (*range(1, 41), 63, 64, 65, 95, 97, 113, 127, 128, 129, 200):
        assert np.array_equal(product(a.rows, b[:, :n]), right[:, :n]), n
        assert np.array_equal(product(a.rows, np.ascontiguousarray(b[:, :n])), right[:, :n]), n
    a = make("int8", 300, 37, 1)
    for n in (1, 5, 20):
        assert np.array_equal(product(a.rows, b[:37, :n]), want(a, b[:37, :n])), n


@pytest.mark.parametrize(("one", "other"), [("int8", "int8"), ("uint8", "uint8")])
def test_long_sums_wrap(one: str, other: str, way: str) -> None:
    """A sum of 140,000 kept products leaves 32 bits; the result is what is left modulo 2**32."""
    k, kind = 280_000, "low" if one == "int8" else "high"
    codes = np.resize(np.array(CODES["2:4"], np.uint8), (2, k // 4))
    values = array(one, (2, k // 2), 1, kind)
    found = _patterns.pattern_of("2:4")
    rows = SparseRows(values, k, 2, 4, codes[:, ::2] | codes[:, 1::2] << 4, found)
    b = array(other, (k, 9), 2, kind)
    b[: k // 2, 1] = ends(other)[1]
    total = int(wide(values[0, :1])[0] * wide(b[0, :1])[0]) * (k // 2)
    assert abs(total) > 2**31
    for n in (3, 9):
        got = product(rows, b[:, :n])
        assert got[0, 0] == got[1, n - 1] == np.uint32(total % 2**32).view(np.int32)
        assert np.array_equal(got[:, 1], want_long(values, b[:, 1]))


def want_long(values: Array, column: Array) -> Array:
    """Return the sum over equal values of a column whose first half and second half are each of one number."""
    half = len(column) // 2
    each = wide(values[:, 0]) * (half // 2)
    total = each * wide(column[:1])[0] + each * wide(column[-1:])[0]
    return np.asarray(total.astype(np.uint32).view(np.int32))


# ------------------------------------------------------------------------------------- layouts, zero points, what else
@pytest.mark.parametrize(("one", "other"), FEW)
def test_layouts_and_zero_points(one: str, other: str, way: str) -> None:
    rng = np.random.default_rng(5)
    for pattern, n in itertools.product(CODES, (2, 19)):
        a, b = make(one, 14, 45, 3, pattern=pattern), array(other, (45, n), 4)
        zero_a, zero_b = rng.integers(-300, 300, 14), rng.integers(-300, 300, n)
        start = rng.integers(-(2**31), 2**31, (14, n))
        right = want(a, b, zero_a, zero_b, start)
        for x, y in itertools.product(layouts(a.rows.values), layouts(b)):
            rows = a.rows._replace(values=x)
            assert np.array_equal(product(rows, y), want(a, b))
            assert np.array_equal(product(rows, y, zero_a=zero_a, zero_b=zero_b, start=start), right)
        for nibbles in layouts(a.rows.nibbles):
            assert np.array_equal(product(a.rows._replace(nibbles=nibbles), b), want(a, b))
        out = np.empty((14, n), np.int32)
        assert product(a.rows, b, zero_a=zero_a, zero_b=zero_b, start=start, out=out) is out
        assert np.array_equal(out, right)
        spaced = np.zeros((14, 2 * n), np.int32)[:, ::2]
        assert product(a.rows, b, zero_a=zero_a, zero_b=zero_b, start=start, out=spaced) is spaced
        assert np.array_equal(spaced, right)


def test_zero_points_near_and_far(way: str) -> None:
    """Beyond what 16 bits hold too."""
    for pattern, n in itertools.product(CODES, (1, 7)):
        a, b = make("int8", 5, 45, 3, "ends", pattern), array("uint8", (45, n), 4, "ends")
        for zero in (-128, 255, 2**14, -(2**14), 2**14 + 1, -(2**15), 2**31 - 1, -(2**31), np.array([3], np.uint8)):
            assert np.array_equal(product(a.rows, b, zero_a=zero, zero_b=zero), want(a, b, zero, zero)), zero
            assert np.array_equal(product(a.rows, b, zero_a=zero), want(a, b, zero)), zero
            assert np.array_equal(product(a.rows, b, zero_b=zero), want(a, b, 0, zero)), zero
        tiny = np.array([1, -2, 3, -4, 5]).astype(ml_dtypes.int4)
        assert np.array_equal(product(a.rows, b, zero_a=tiny), want(a, b, wide(tiny)))


def test_listed_places(way: str) -> None:
    """Columns given one by one; those from K on are of no number."""
    rng = np.random.default_rng(3)
    for one, other in FEW:
        values, b = array(one, (6, 10), 1, "ends"), array(other, (30, 7), 2, "ends")
        listed = np.sort(rng.permuted(np.broadcast_to(np.arange(34), (6, 34)), axis=1)[:, :10], axis=1)
        mask, numbers = np.zeros((6, 34), bool), np.zeros((6, 34), np.int64)
        np.put_along_axis(mask, listed, True, 1)
        np.put_along_axis(numbers, listed, wide(values), 1)
        a = Sparse(SparseRows(values, 30, 10, 30, listed=listed.astype(np.int32)), numbers[:, :30], mask[:, :30])
        start = rng.integers(-99, 99, (6, 7))
        assert np.array_equal(product(a.rows, b), want(a, b))
        zeros = np.arange(6) * 9, np.arange(7) - 3
        assert np.array_equal(product(a.rows, b, zero_a=zeros[0], zero_b=zeros[1]), want(a, b, *zeros))
        right = want(a, b, 0, 0, start).astype(np.float32) * f32(0.3) + f32(0.1)
        got = product(a.rows, b, start=start, row_scale=f32(0.3), bias=f32(0.1))
        assert got.tobytes() == right.tobytes()


def test_large_products_share_threads(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of packing and of rows for several threads; one thread gives the same."""
    a, tall = make("int8", 150, 1100, 6), make("int8", 700, 180, 6)
    b, column, zeros = (
        array("uint8", (1100, 130), 7),
        array("uint8", (180, 4), 7),
        (np.arange(150) - 75, np.arange(130)),
    )
    right, other = want(a, b, *zeros), want(tall, column)
    before = lp.get_num_threads()
    monkeypatch.setattr(_sparse, "_ALONE", 0)
    try:
        for threads in (1, 2, 3):
            lp.set_num_threads(threads)
            assert np.array_equal(product(a.rows, b, zero_a=zeros[0], zero_b=zeros[1]), right), threads
            assert np.array_equal(product(tall.rows, column), other), threads
    finally:
        lp.set_num_threads(before)


@pytest.mark.parametrize("pattern", CODES)
def test_in_chunks(pattern: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More columns, and more k, than there is room for packed ones."""
    a, b = make("int8", 9, 1300, 6, pattern=pattern), array("uint8", (1300, 230), 7)
    columns, zeros = np.arange(230, dtype=np.float32), np.arange(230)
    right, start = want(a, b, 3, zeros), np.full((9, 230), 5)
    monkeypatch.setattr(_sparse, "_PART", 64)
    for size in (1 << 12, 1 << 17, 1 << 18):
        monkeypatch.setattr(_sparse, "_PACKED_BYTES", size)
        _sparse._cut.cache_clear()
        assert np.array_equal(product(a.rows, b, zero_a=3, zero_b=zeros), right), size
        got = product(a.rows, b, zero_a=3, zero_b=zeros, start=start, row_scale=f32(0.7), column_scale=columns)
        assert np.array_equal(got, (right + np.int32(5)).astype(np.float32) * (f32(0.7) * columns)), size
    _sparse._cut.cache_clear()


# --------------------------------------------------------------------------------------------------------- the scaling
@pytest.mark.parametrize("keep", list(itertools.product([False, True], repeat=3)))
def test_scaling_is_the_dense_products(keep: tuple[bool, bool, bool], way: str) -> None:
    """Bit for bit, with sums above 2**24, scales that underflow and overflow, and both zeros."""
    rng = np.random.default_rng(8)
    for m, k, n in ((5, 4097, 7), (3, 4097, 2), (4, 1, 9)):
        a, b = make("int8", m, k, 1, "high"), rng.integers(200, 256, (k, n), np.uint8)
        given: dict[str, Any] = {
            "row_scale": f32(rng.standard_normal(m) * 2.0 ** rng.integers(-140, 120, m)),
            "column_scale": f32(rng.standard_normal(n) * 2.0 ** rng.integers(-30, 30, n)),
            "bias": f32(rng.standard_normal(n) * 2.0 ** rng.integers(-3, 40, n)),
        }
        given["bias"][:2] = [0.0, -0.0]
        chosen = {name: value for (name, value), there in zip(given.items(), keep, strict=True) if there}
        with np.errstate(over="ignore"):
            for start in (None, rng.integers(-(2**20), 2**20, (m, n))):
                got = product(a.rows, b, zero_b=3, start=start, **chosen)
                right = _dense.product(a.numbers.astype(np.int8), b, zero_b=3, start=start, **chosen)
                assert got.dtype == right.dtype == (np.float32 if any(keep) else np.int32)
                assert got.tobytes() == right.tobytes()


def test_nothing_to_sum() -> None:
    a, b = make("int8", 2, 0), np.zeros((0, 3), np.uint8)
    assert np.array_equal(product(a.rows, b, zero_a=5), np.zeros((2, 3), np.int32))
    assert np.array_equal(product(a.rows, b, start=np.array([7, 8, 9])), [[7, 8, 9]] * 2)
    assert np.array_equal(product(a.rows, b, bias=[1, 2, 3]), f32([[1, 2, 3]] * 2))
    assert product(make("int8", 0, 4).rows, np.zeros((4, 3), np.int8)).shape == (0, 3)
    assert product(make("int8", 5, 4).rows, np.zeros((4, 0), np.int8)).shape == (5, 0)


def test_others_than_small_integers_are_refused() -> None:
    a = make("int8", 2, 4).rows
    for wrong in (np.zeros((4, 2), np.int16), np.zeros((4, 2), np.float32)):
        with pytest.raises(TypeError, match="`b` must hold integers of at most 8 bits"):
            product(a, wrong)
        with pytest.raises(TypeError, match="`rows` must hold integers of at most 8 bits"):
            product(a._replace(values=wrong[:2]), np.zeros((4, 2), np.int8))


def test_upper_bits_of_a_byte_do_not_count(way: str) -> None:
    """Of the types of four bits and fewer, and where `formats` says so."""
    raw = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    four = lp.format("uint4")
    for name, n in itertools.product(("int4", "uint4", "int2", "uint1"), (3, 40)):
        kind = getattr(ml_dtypes, name)
        a = make("uint8", 20, 40)
        values, b = raw[:20, :20].view(kind), raw[:, :n].view(kind)
        codes = np.stack([a.rows.nibbles & 15, a.rows.nibbles >> 4], -1).reshape(20, -1)
        assert np.array_equal(product(a.rows._replace(values=values), b), want(sparse(values, codes, 40, "2:4"), b))
        narrow = sparse(raw[:20, :20] & 15, codes, 40, "2:4")
        got = product(narrow.rows._replace(values=raw[:20, :20]), raw[:, :n], formats=(four, four))
        assert np.array_equal(got, want(narrow, raw[:, :n] & 15))


# ------------------------------------------------------------------------------------------ compiled for another CPU
def assembly(way: str, lanes: int, cpu: str) -> str:
    """Return a micro-kernel's assembly, optimised for an x86 CPU."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = "x86_64-unknown-linux-gnu"
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 8), "tile")
    set.add(function.attributes, '"prefer-vector-width"="512"')
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    shape = sparse_dots.SHAPES[lanes]
    writer: Any = sparse_dots.Pairs
    writer(builder, shape, way).tile(shape.vectors, function.args)
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    target = llvm.Target.from_triple(module.triple).create_target_machine(cpu=cpu, opt=3)
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return str(target.emit_assembly(parsed))


@pytest.mark.parametrize(("lanes", "cpu"), [(16, "skylake-avx512"), (8, "znver3")])
def test_instruction_is_compiled(lanes: int, cpu: str) -> None:
    """Lines are its operands in memory, two pairs at a time and an odd one; all sums of a row stay in registers."""
    text, number = assembly("maddwd", lanes, cpu), sparse_dots.SHAPES[lanes].vectors
    register = "zmm" if lanes == 16 else "ymm"
    assert len(re.findall(rf"vpmaddwd\s+\d*\(.*%{register}", text)) == len(re.findall("vpmaddwd", text)) == 3 * number
    assert len(re.findall(rf"vmov\w+\s+%{register}\d+, \d*\(", text)) == number  # the sums of a row, nothing spilt
    assert "vpmulld" not in text


@pytest.mark.parametrize(
    ("features", "found"),
    [
        ({"avx2"}, ("maddwd", 8)),
        ({"avx2", "avxvnni"}, ("maddwd", 8)),
        ({"avx2", "avx512f", "avx512bw", "avx512vnni"}, ("maddwd", 16)),
        ({"avx512f"}, ("plain", 16)),
        ({"neon"}, ("plain", 4)),
    ],
)
def test_choice_of_a_way(features: set[str], found: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "cpu_features", lambda: frozenset(features))
        can = _dots.can.__wrapped__()
    monkeypatch.setattr(_dots, "can", lambda: can)
    monkeypatch.setattr(_dots, "way", lambda: next(iter(can)))
    assert _sparse._way() == found
    assert found in sparse_dots.TILES
    assert found[0] in sparse_dot_rows.WAYS


# ------------------------------------------------------------------------------------------------------ planted bugs
real_table, real_integers, real_matrix = _sparse._table, _sparse.Integers, _sparse._matrix


def exchanged(kind: Any, line: int) -> Array:
    """Exchange the lines of two codes."""
    table = real_table(kind, line).copy().reshape(256, -1)
    table[[0x49, 0x4C]] = table[[0x4C, 0x49]]
    return table


def too_deep(*numbers: int) -> Any:
    """Read a row of b that is beyond the end of k."""
    operand = real_integers(*numbers)
    return operand._replace(deep=operand.deep + 1)


def no_zero(b: Array, reading: Any, zero: Any) -> Any:
    """Forget the zero points of columns."""
    return real_matrix(b, reading, None)


BUGS: dict[str, tuple[str, Callable[..., Any], Callable[[], None]]] = {
    "codes exchanged": ("_table", exchanged, lambda: test_every_code("")),
    "k beyond the end": ("Integers", too_deep, lambda: test_every_k("2:4", "")),
    "no zero points of b": ("_matrix", no_zero, lambda: test_every_k("4:8", "")),
}


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, bug, check = BUGS[name]
    monkeypatch.setattr(_sparse, where, bug)
    with pytest.raises(AssertionError):
        check()
