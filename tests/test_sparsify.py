"""sparsify and sparsity_mask against plain Python: criteria, ties, patterns, tails, tiles, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import sparsify_slow as slow
from hypothesis import given
from hypothesis import strategies as st

import lowprec as lp
from lowprec.pruning import transposable
from lowprec.pruning._choosing import choice_of, mask_for

DTYPES = [
    *(np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4),
    *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e4m3b11fnuz),
    *(ml_dtypes.float8_e3m4, ml_dtypes.float6_e2m3fn, ml_dtypes.float4_e2m1fn),
]
FORMATS = [np.dtype(dtype) for dtype in DTYPES]
# Every order of four magnitudes with every tie, in turn with signs.
ORDERS = np.array(list(itertools.product(range(4), repeat=4)))
SIGNS = np.array([1, -1, -1, 1, -1, 1, 1])


def plain(w: np.ndarray) -> np.ndarray:
    """Return numbers that the slow twin takes."""
    return w if w.dtype.kind in "iuf" else w.astype(np.float64)


def orders(dtype: np.dtype[Any]) -> np.ndarray:
    """Return 256 groups as a matrix, with all orders of small magnitudes; signed where the dtype is."""
    is_signed = dtype.kind != "u" and not dtype.name.startswith("uint")
    signs = np.resize(SIGNS, ORDERS.shape) if is_signed else np.ones_like(ORDERS)
    return (ORDERS * signs).reshape(32, 32).astype(np.float64).astype(dtype)


def same(a: lp.Sparse24, b: lp.Sparse24) -> None:
    """Compare two sparse arrays bit for bit."""
    assert (a.shape, a.axis, a.pattern, a.format) == (b.shape, b.axis, b.pattern, b.format)
    np.testing.assert_array_equal(a.nibbles, b.nibbles)
    assert np.array_equal(bits(a.values), bits(b.values))


def bits(x: Any) -> np.ndarray:
    """Return codes, or the bits of a plain array."""
    return x.codes if isinstance(x, lp.QuantizedArray) else np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


# ----------------------------------------------------------------------------------------------------------- magnitude
def check_orders(dtype: np.dtype[Any], axis: int = -1) -> None:
    """Compare values and codes of all orders with plain Python's mask, compressed by the container's own rule."""
    w = orders(dtype) if axis == -1 else np.ascontiguousarray(orders(dtype).T)
    want = slow.magnitude_mask(plain(w), "2:4", axis)
    np.testing.assert_array_equal(lp.sparsity_mask(w, axis=axis), want)
    same(lp.sparsify(w, axis=axis), lp.Sparse24.from_dense(w, mask=want, axis=axis))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_every_order_of_a_group(dtype: np.dtype[Any]) -> None:
    check_orders(dtype)


@pytest.mark.parametrize("dtype", [each for each in FORMATS if each.itemsize < 8], ids=str)
def test_every_order_of_a_group_down_columns(dtype: np.dtype[Any]) -> None:
    check_orders(dtype, 0)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64, np.uint64, np.longdouble, object, bool])
def test_masks_of_dtypes_without_a_format(dtype: Any) -> None:
    """A mask is made of any real numbers; a Sparse24 needs a format."""
    w = orders(np.dtype(dtype)) if dtype is not object else np.array(orders(np.dtype("i8")).tolist(), object)
    np.testing.assert_array_equal(lp.sparsity_mask(w), slow.magnitude_mask(w.astype(np.int64), "2:4"))
    with pytest.raises(TypeError, match="`w` must be of a dtype that stores a format"):
        lp.sparsify(w)


def check_codes(dtype: np.dtype[Any]) -> None:
    """Compare all codes of a narrow format, four at random, NaN apart."""
    codes = np.random.default_rng(1).integers(0, 1 << lp.format(dtype).bits, (16, 256)).astype(np.uint8)
    w = codes.view(dtype)
    w = np.where(np.isnan(w.astype(np.float32)), dtype.type(0), w).astype(dtype)
    same(lp.sparsify(w), lp.Sparse24.from_dense(w, mask=slow.magnitude_mask(plain(w), "2:4")))


@pytest.mark.parametrize("dtype", [dtype for dtype in FORMATS if dtype.itemsize == 1], ids=str)
def test_all_codes(dtype: np.dtype[Any]) -> None:
    check_codes(dtype)


@pytest.mark.parametrize("pattern", list(slow.PATTERNS))
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 32, 37])
def test_patterns_and_tails(pattern: str, length: int, rng: np.random.Generator) -> None:
    """Numbers with many ties, -0 and infinities; a last group of every length; rows and columns."""
    w = rng.integers(-3, 4, (6, length)).astype(np.float32)
    w[w == 3] = -0.0
    w[2, rng.integers(0, length, 5)] = np.inf
    want = slow.magnitude_mask(w, pattern)
    got = lp.sparsity_mask(w, pattern)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(lp.sparsity_mask(w.T, pattern, axis=0), want.T)
    kept, group, run = slow.PATTERNS[pattern]
    whole = length // group * group
    assert (got[:, :whole].reshape(6, -1, group).sum(axis=2) == kept).all()
    if run == 1 and length % group:
        assert (got[:, whole:].sum(axis=1) == min(kept, length % group)).all()
    if lp.SparsityPattern(kept, group, run).is_hardware:
        same(lp.sparsify(w, pattern), lp.Sparse24.from_dense(w, pattern=pattern, mask=want))
        down = np.ascontiguousarray(w.T)
        same(lp.sparsify(down, pattern, axis=0), lp.Sparse24.from_dense(down, pattern=pattern, mask=want.T, axis=0))


@pytest.mark.parametrize("shape", [(3, 20, 7), (2, 5, 4, 6), (2, 300), (1, 8), (40,), (0, 8), (3, 0), (0,)])
def test_shapes_and_layouts(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Every axis of arrays as they come: rows, columns, steps, reversed, read-only, of other byte order."""
    w = rng.standard_normal(shape).astype(np.float32)
    frozen = w.copy()
    frozen.flags.writeable = False
    step = np.repeat(w, 2, axis=-1)[..., ::2]
    for axis in range(-w.ndim, w.ndim):
        want = slow.magnitude_mask(w, "2:4", axis) if w.size else np.zeros(shape, bool)
        reference = lp.Sparse24.from_dense(w, mask=want, axis=axis)
        for form in (w, np.asfortranarray(w), frozen, step, w.astype(">f4"), w[::-1][::-1]):
            same(lp.sparsify(form, axis=axis), reference)
        np.testing.assert_array_equal(lp.sparsity_mask(w, axis=axis), want)


def test_threads_do_not_matter(rng: np.random.Generator) -> None:
    """The matrix is long enough for several pieces, with whole bytes in a row and without."""
    before = lp.get_num_threads()
    try:
        for shape, axis in (((300, 1024), 1), ((300, 1020), 1), ((1024, 600), 0), ((3, 1023, 300), 1)):
            w = rng.standard_normal(shape).astype(np.float16)
            made = []
            for threads in (1, 3):
                lp.set_num_threads(threads)
                made.append(lp.sparsify(w, axis=axis))
            same(*made)
            same(made[0], lp.Sparse24.from_dense(w, axis=axis, mask=lp.sparsity_mask(w, axis=axis)))
    finally:
        lp.set_num_threads(before)


def test_magnitude_of_extremes() -> None:
    """|-128| is larger than 127, |-2**63| than all; 2**53 + 1 is larger than 2**53."""
    assert lp.sparsity_mask(np.int8([127, -128, -127, 126]), "1:4").tolist() == [False, True, False, False]
    assert lp.sparsify(np.int8([127, 1, -128, -127])).values.tolist() == [127, -128]
    wide = np.array([2**53, 2**53 + 1, -(2**63), 0])
    assert lp.sparsity_mask(wide, "2:4").tolist() == [False, True, True, False]
    tiny = np.float32([1e-45, -1e-45, 0, -0.0, -np.inf, np.inf, np.inf, 1])
    assert lp.sparsity_mask(tiny).tolist() == [True, True, False, False, True, True, False, False]
    assert lp.sparsity_mask([1, 2.0, -3, 0], "1:2").tolist() == [False, True, True, False]
    assert lp.sparsity_mask([2**70, -(2**71), 3, 4]).tolist() == [True, True, False, False]


@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70).map(np.float32),
    st.sampled_from(["2:4", "1:2", "4:8"]),
)
def test_properties(w: np.ndarray, pattern: str) -> None:
    """At most what the pattern allows, nothing else changed, and no other choice of a group keeps more."""
    kept, group, run = slow.PATTERNS[pattern]
    s = lp.sparsify(w, pattern)
    dense, mask = s.to_dense(), lp.sparsity_mask(w, pattern)
    np.testing.assert_array_equal(dense, np.where(mask, w, 0))
    padded = np.pad(mask, (0, -w.size % group)).reshape(-1, group // run, run).any(axis=2)
    assert padded.sum(axis=1).max() <= kept // run
    same(lp.sparsify(dense, pattern, mask=mask), s)
    for begin in range(0, w.size, group):
        part, its = np.abs(w[begin : begin + group]).astype(np.float64), mask[begin : begin + group]
        if run == 1 and its.any() and not its.all():
            assert part[its].min() >= part[~its].max()


# -------------------------------------------------------------------------------------------------- quantised, formats
def test_quantised_weights_keep_their_codes(rng: np.random.Generator) -> None:
    """Numbers are ranked, not codes: with zero points and different scales these are of another order."""
    w = rng.standard_normal((8, 64)) * rng.exponential(size=(8, 64))
    for q in (
        lp.quantize(w, "int8", axis=0),
        lp.quantize(w, "uint8", axis=0, symmetric=False),
        lp.quantize(w, "mxfp4"),
        lp.quantize(w, "e4m3fn"),
        lp.quantize(w, "nf4", block_size=16),
    ):
        numbers = q.dequantize(np.float64)
        want = slow.magnitude_mask(numbers, "2:4")
        np.testing.assert_array_equal(lp.sparsity_mask(q), want)
        s = lp.sparsify(q)
        assert isinstance(s.values, lp.QuantizedArray)
        dense = s.to_dense()
        np.testing.assert_array_equal(dense.dequantize(np.float64), np.where(want, numbers, 0))
        np.testing.assert_array_equal(dense.codes[want], q.codes[want])


def test_dtype(rng: np.random.Generator) -> None:
    """Float formats are cast once, others quantised; what is kept is chosen before."""
    w = rng.standard_normal((8, 64))
    want = lp.sparsify(w)
    for fmt in ("bf16", "e4m3fn", "tf32", np.float16, "e2m1fn"):
        s = lp.sparsify(w, dtype=fmt)
        np.testing.assert_array_equal(s.nibbles, want.nibbles)
        np.testing.assert_array_equal(bits(s.values), bits(lp.cast(want.values, fmt)))
    for fmt in ("int8", "mxfp4", "nvfp4", "int4", "nf4"):
        same(lp.sparsify(w, dtype=fmt), lp.quantize(want, fmt))
    made = lp.sparsify(w, dtype="bf16", criterion="sparsegpt", hessian=np.eye(64))
    assert made.format == lp.format("bf16")
    eight = lp.sparsify(w, dtype="int8", criterion="sparsegpt", hessian=np.eye(64))
    same(eight, lp.quantize(lp.sparsify(w, criterion="sparsegpt", hessian=np.eye(64)), "int8"))


# --------------------------------------------------------------------------------------------- own scores and own masks
def test_own_scores(rng: np.random.Generator) -> None:
    """The largest is kept, of any sign; infinities are scores, too."""
    w, scores = rng.standard_normal((4, 24)), rng.integers(-4, 4, (4, 24)).astype(np.float64)
    scores[1, 3], scores[2, 5] = np.inf, -np.inf
    whole = np.array([[v if np.isinf(v) else int(v) for v in row] for row in scores.tolist()], object)
    for pattern in ("2:4", "3:5", "1:2"):
        want = slow.mask(whole, pattern)
        np.testing.assert_array_equal(lp.sparsity_mask(w, pattern, criterion=scores), want)
    s = lp.sparsify(w, criterion=scores)
    np.testing.assert_array_equal(s.to_dense(), np.where(slow.mask(whole, "2:4"), w, 0))
    assert s.recipe == "scores"


def test_own_mask(rng: np.random.Generator) -> None:
    w = rng.standard_normal((3, 10))
    mask = lp.sparsity_mask(rng.standard_normal((3, 10)))
    mask[1] = False  # fewer are allowed
    s = lp.sparsify(w, mask=mask)
    np.testing.assert_array_equal(s.to_dense(), np.where(mask, w, 0))
    same(s, lp.Sparse24.from_dense(w, mask=mask))
    assert s.recipe == "mask"
    mask = np.zeros((3, 10), bool)
    mask[2, 4:7] = True
    with pytest.raises(ValueError, match=r"`mask` must keep at most 2 of 4 elements .*\[1, 1, 1, 0\] at \[2, 4:8\]"):
        lp.sparsify(w, mask=mask)
    with pytest.raises(ValueError, match=r"at \[4:8, 2\]"):
        lp.sparsify(w.T, mask=mask.T, axis=0, criterion="sparsegpt", hessian=np.eye(10))


# ---------------------------------------------------------------------------------------------------------------- Wanda
def check_wanda() -> None:
    """Compare with the formula in NumPy, and with its square in fractions."""
    rng = np.random.default_rng(5)
    w, x = rng.standard_normal((12, 36)).astype(np.float32), rng.standard_normal((50, 36)) * rng.exponential(size=36)
    got = lp.sparsity_mask(w, criterion="wanda", activations=x)
    np.testing.assert_array_equal(got, slow.wanda_mask(w, x, "2:4"))
    scores = np.abs(w) * np.sqrt((x**2).sum(axis=0))
    for pattern in ("1:2", "4:8", "3:5"):
        each = lp.sparsity_mask(w, pattern, criterion="wanda", activations=x)
        np.testing.assert_array_equal(each, lp.sparsity_mask(w, pattern, criterion=scores))
    assert (got != lp.sparsity_mask(w)).any()


def test_wanda() -> None:
    check_wanda()


def test_activations_in_every_form(rng: np.random.Generator) -> None:
    """One array of any number of axes, batches of equal and other lengths, a generator, and the sums themselves."""
    w, x = rng.standard_normal((8, 32)), rng.standard_normal((60, 32)) * rng.exponential(size=32)

    class Loader:
        def __iter__(self) -> Iterator[np.ndarray]:
            return iter([x[:7], x[7:]])

    forms = [x.reshape(3, 20, 32), [x[:30], x[30:]], [x[:7], x[7:]], (each for each in (x[:1], x[1:])), Loader()]
    forms += [x.tolist(), (x[0], x[1:])]
    for criterion in ("wanda", "sparsegpt"):
        want = lp.sparsify(w, criterion=criterion, activations=x)
        for form in [(each for each in (x[:1], x[1:])) if isinstance(f, Iterator) else f for f in forms]:
            got = lp.sparsify(w, criterion=criterion, activations=form)
            np.testing.assert_array_equal(got.nibbles, want.nibbles)
            # Sums of 60 products in another order: 60 * 2**-53, times the condition of the Hessian, below 1e4.
            np.testing.assert_allclose(got.values, want.values, rtol=1e-9, atol=1e-10)
        got = lp.sparsify(w, criterion=criterion, hessian=3 * (x.T @ x))
        np.testing.assert_array_equal(got.nibbles, want.nibbles)
        np.testing.assert_allclose(got.values, want.values, rtol=1e-9, atol=1e-10)
    got = lp.sparsify(w, criterion="wanda", hessian=(x**2).sum(axis=0))
    same(got, lp.sparsify(w, criterion="wanda", activations=x))
    kernels = rng.standard_normal((8, 32, 3))  # the inputs may lie along any axis
    mask = lp.sparsity_mask(kernels, criterion="wanda", axis=1, activations=x)
    for i in range(3):
        np.testing.assert_array_equal(mask[..., i], lp.sparsity_mask(kernels[..., i], criterion="wanda", activations=x))


# ------------------------------------------------------------------------------------------------------------ SparseGPT
def correlated(inputs: int, tokens: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return a weight and activations that hang together, one of them always 0."""
    rng = np.random.default_rng(7)
    w = rng.standard_normal((10, inputs))
    x = rng.standard_normal((tokens, 6)) @ rng.standard_normal((6, inputs)) + 0.3 * rng.standard_normal(
        (tokens, inputs)
    )
    x[:, 5] = 0
    return w, x


def check_sparsegpt(pattern: str, inputs: int, columns: int, damp: float = 0.01) -> None:
    """Compare with elimination from the full inverse."""
    w, x = correlated(inputs)
    want, keep = slow.sparsegpt(w, x, pattern, damp)
    how: dict[str, Any] = {"criterion": "sparsegpt", "activations": x, "columns": columns, "damp": damp}
    got = lp.sparsify(w, pattern, **how)
    np.testing.assert_array_equal(got.to_dense() != 0, keep)
    # Elimination of up to 40 columns loses a factor of the Hessian's condition, below 1e4 here, of 40 * 2**-53.
    np.testing.assert_allclose(got.to_dense(), want, rtol=1e-9, atol=1e-9)
    turned = lp.sparsify(w.T, pattern, axis=0, **how)
    np.testing.assert_array_equal(turned.to_dense(), got.to_dense().T)


@pytest.mark.parametrize("pattern", ["2:4", "1:2", "4:8"])
@pytest.mark.parametrize(("inputs", "columns"), [(32, 128), (32, 8), (40, 7), (37, 5), (34, 1), (7, 3)])
def test_sparsegpt_is_elimination(pattern: str, inputs: int, columns: int) -> None:
    """Also with groups that cross the columns at work, and a short last group."""
    check_sparsegpt(pattern, inputs, columns)


def test_sparsegpt_with_a_mask(rng: np.random.Generator) -> None:
    """A mask of any origin, here one along both axes: what is kept makes up for the rest."""
    w, x = correlated(32)
    mask = lp.sparsity_mask(np.pad(w, ((0, 2), (0, 0))), transposable="best")[:10]
    want, _ = slow.sparsegpt(w, x, "2:4", 0.01, mask)
    got = lp.sparsify(w, mask=mask, criterion="sparsegpt", activations=x)
    np.testing.assert_allclose(got.to_dense(), want, rtol=1e-9, atol=1e-9)
    masked = np.where(mask, w, 0)
    errors = [np.square(x @ (each - w).T).sum() for each in (got.to_dense(), masked)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("how", ["best", "greedy"])
def test_sparsegpt_in_tiles(how: str) -> None:
    w, x = correlated(32)
    s = lp.sparsify(w, criterion="sparsegpt", activations=x, transposable=how)
    mask = s.to_dense() != 0
    assert mask.reshape(10, -1, 4).sum(axis=2).max() == 2
    assert np.pad(mask, ((0, 2), (0, 0))).reshape(3, 4, -1).sum(axis=1).max() == 2
    want, _ = slow.sparsegpt(w, x, "2:4", 0.01, mask)
    np.testing.assert_allclose(s.to_dense(), want, rtol=1e-9, atol=1e-9)


def test_sparsegpt_keeps_the_dtype() -> None:
    w, x = correlated(32)
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        narrow = w.astype(dtype)
        s = lp.sparsify(narrow, criterion="sparsegpt", activations=x)
        want = lp.sparsify(narrow.astype(np.float64), criterion="sparsegpt", activations=x)
        assert s.values.dtype == dtype
        np.testing.assert_array_equal(s.to_dense(), lp.cast(want.to_dense(), dtype))


# ---------------------------------------------------------------------------------------------------------------- tiles
def check_tiles(how: str) -> None:
    """Compare with a search of all patterns, and with a list sorted; small integers for ties."""
    rng = np.random.default_rng(3)
    w = np.concatenate([rng.integers(-5, 6, (8, 24)), rng.integers(-1, 2, (8, 24))])
    np.testing.assert_array_equal(lp.sparsity_mask(w, transposable=how), slow.tiles_mask(np.abs(w), how))
    tables = np.array(slow.tile_patterns())  # each of them is the best of a tile
    clear = tables * rng.uniform(5, 6, tables.shape) + rng.uniform(0, 1, tables.shape)
    np.testing.assert_array_equal(lp.sparsity_mask(clear, transposable=how), tables)
    real = rng.standard_normal((12, 16))
    np.testing.assert_array_equal(lp.sparsity_mask(real, transposable=how), slow.tiles_mask(np.abs(real), how))


@pytest.mark.parametrize("how", ["best", "greedy"])
def test_tiles(how: str) -> None:
    check_tiles(how)


def test_ninety_patterns() -> None:
    tables = slow.tile_patterns()
    assert len(tables) == 90
    found = np.zeros((90, 4, 4), bool)
    for i, way in enumerate(transposable._patterns()):
        for row, pair in enumerate(way):
            found[i, row, transposable._PAIRS[pair]] = True
    np.testing.assert_array_equal(found, tables)


@pytest.mark.parametrize("how", ["best", "greedy"])
@pytest.mark.parametrize("shape", [(8, 12), (7, 9), (1, 5), (2, 3, 6, 10)])
def test_tiles_of_all_shapes(how: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """2:4 along both axes whatever the axis says; the transpose of the array has the transpose of the mask's values."""
    w = rng.standard_normal(shape)
    mask = lp.sparsity_mask(w, transposable=how)
    for axis in (-1, -2):
        np.testing.assert_array_equal(lp.sparsity_mask(w, transposable=how, axis=axis), mask)
        s = lp.sparsify(w, transposable=how, axis=axis)
        np.testing.assert_array_equal(s.to_dense(), np.where(mask, w, 0))
        lp.Sparse24.from_dense(w, mask=mask, axis=axis)  # raises unless it fits
    if how == "best" and shape[-1] % 4 == shape[-2] % 4 == 0:
        assert mask.sum() == mask.size // 2
    x = rng.standard_normal((20, shape[-1]))
    norms = np.sqrt(np.square(x).sum(axis=0))
    by_wanda = lp.sparsity_mask(w, transposable=how, criterion="wanda", activations=x)
    np.testing.assert_array_equal(by_wanda, lp.sparsity_mask(w, transposable=how, criterion=np.abs(w) * norms))
    down = np.swapaxes(w, -1, -2)
    got = lp.sparsity_mask(down, transposable=how, axis=-2, criterion="wanda", activations=x)
    scores = np.swapaxes(np.abs(w) * norms, -1, -2)
    np.testing.assert_array_equal(got, lp.sparsity_mask(down, transposable=how, criterion=scores))


def test_tiles_keep_what_is_known_of_them() -> None:
    """Kept magnitude of normal numbers: rows alone .7437, tiles .7028; greedy .9852 of it, short in 15.5 % of tiles."""
    tiles = np.random.default_rng(0).standard_normal((5000, 4, 4))
    size = np.abs(tiles)
    rows, best, greedy = (
        lp.sparsity_mask(tiles), lp.sparsity_mask(tiles, transposable="best"),
        lp.sparsity_mask(tiles, transposable="greedy"),
    )  # fmt: skip
    share = {name: size[mask].sum() / size.sum() for name, mask in (("rows", rows), ("best", best), ("greedy", greedy))}
    # Of 5000 tiles the shares have a standard deviation of about 0.0007, the part of short tiles one of 0.005.
    assert share["rows"] == pytest.approx(0.7437, abs=0.003)
    assert share["best"] == pytest.approx(0.7028, abs=0.003)
    assert share["greedy"] / share["best"] == pytest.approx(0.9852, abs=0.003)
    assert (greedy.sum(axis=(1, 2)) < 8).mean() == pytest.approx(0.155, abs=0.02)


# ------------------------------------------------------------------------------------------------------------ bad input
W, X = np.ones((4, 8), np.float32), np.ones((3, 8))
GPT, WANDA = {"criterion": "sparsegpt"}, {"criterion": "wanda"}
NAN = np.where(np.arange(32).reshape(4, 8) == 11, np.nan, 1.0)
INFINITE = np.where(np.arange(32).reshape(4, 8) == 11, np.inf, 1.0)
BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: lp.sparsify(W, "3:4"), ValueError, '`pattern` must be "2:4", "1:2" or "4:8" in pairs, got "3:4"'),
    (lambda: lp.sparsify(W, axis=2), ValueError, r"`axis` must be from -2 to 1 for `w` of shape \(4, 8\), got 2"),
    (lambda: lp.sparsify(W, axis=1.0), TypeError, "`axis` must be an integer"),
    (lambda: lp.sparsify(np.float32(1)), ValueError, "`w` must have one axis or more"),
    (lambda: lp.sparsity_mask(1.0), ValueError, "`w` must have one axis or more"),
    (lambda: lp.sparsify(lp.sparsify(W)), TypeError, "`w` must be dense, got Sparse24"),
    (lambda: lp.sparsify(W.astype(complex)), TypeError, "`w` must be of a dtype that stores a format"),
    (lambda: lp.sparsity_mask(W.astype(complex)), TypeError, "`w` must hold real numbers"),
    (lambda: lp.sparsity_mask(["a", "b"]), TypeError, "`w` must hold real numbers"),
    (lambda: lp.sparsify(W, criterion="wander"), ValueError, "'wander'; the closest: 'wanda'"),
    (lambda: lp.sparsify(W, criterion=None), TypeError, "`criterion` must be one of"),
    (lambda: lp.sparsify(W, criterion=W[:2]), ValueError, r"`criterion` must have the shape of `w`, \(4, 8\)"),
    (lambda: lp.sparsify(W, criterion=NAN), ValueError, r"`criterion` must not hold NaN, got one at index \(1, 3\)"),
    (lambda: lp.sparsify(W, "4:8", criterion=INFINITE), ValueError, "`criterion` must be finite"),
    (lambda: lp.sparsify(W, criterion=-W, transposable="best"), ValueError, "scores of 0 or more"),
    (lambda: lp.sparsify(W, activations=X), ValueError, '`activations` must be left out with criterion="magnitude"'),
    (lambda: lp.sparsify(W, hessian=X, criterion=W), ValueError, "`hessian` must be left out with scores"),
    (lambda: lp.sparsify(W, **WANDA), ValueError, "`activations` or `hessian` must be given, .* got neither"),
    (lambda: lp.sparsify(W, **WANDA, activations=X, hessian=np.eye(8)), ValueError, "got both"),
    (lambda: lp.sparsify(W, **WANDA, activations=X[:, :5]), ValueError, "`activations` must have 8 features"),
    (lambda: lp.sparsify(W, **WANDA, activations=X[:0]), ValueError, "`activations` must hold one token"),
    (lambda: lp.sparsify(W, **WANDA, activations=iter(())), ValueError, "`activations` must hold .* no batch"),
    (lambda: lp.sparsify(W, **WANDA, activations=INFINITE), ValueError, r"`activations` must be finite, .*\(1, 3\)"),
    (lambda: lp.sparsify(W, **GPT, activations=NAN), ValueError, r"`activations` must be finite, .*\(1, 3\)"),
    (lambda: lp.sparsify(W, **WANDA, activations=1e200 * X), ValueError, "`activations` must have squares"),
    (lambda: lp.sparsify(W, **WANDA, hessian=np.eye(7)), ValueError, r"`hessian` must have shape \(8, 8\) or \(8,\)"),
    (lambda: lp.sparsify(W, **WANDA, hessian=-np.eye(8)), ValueError, "`hessian` must have no negative"),
    (lambda: lp.sparsify(W, **GPT, hessian=np.ones(8)), ValueError, r"`hessian` must have shape \(8, 8\), "),
    (lambda: lp.sparsify(W, **GPT, hessian=np.tri(8)), ValueError, "`hessian` must be symmetric"),
    (lambda: lp.sparsify(W, **GPT, activations=X, damp=0), ValueError, "`damp` must make the Hessian"),
    (lambda: lp.sparsify(W, **GPT, activations=X, damp=2), ValueError, "`damp` must be from 0 to 1"),
    (lambda: lp.sparsify(W, **GPT, activations=X, columns=0), ValueError, "`columns` must be 1 or more"),
    (lambda: lp.sparsify(W, **GPT, activations=X, progress=1), TypeError, "`progress` must be"),
    (lambda: lp.sparsify(W.astype(np.int8), **GPT, activations=X), TypeError, "array of floats .* int8"),
    (lambda: lp.sparsify(lp.quantize(W, "int8"), **GPT, activations=X), TypeError, "array of floats"),
    (lambda: lp.sparsify(W[0], **GPT, activations=X), ValueError, "`w` must have two axes"),
    (lambda: lp.sparsity_mask(W, **GPT, activations=X), ValueError, "changes the weights that it keeps"),
    (lambda: lp.sparsify(W, transposable="all"), ValueError, "`transposable` must be .*, got 'all'"),
    (lambda: lp.sparsify(W, transposable=True), TypeError, "`transposable` must be None"),
    (lambda: lp.sparsify(W, "1:2", transposable="best"), ValueError, '`transposable` must be None for "1:2"'),
    (lambda: lp.sparsify(W[0], transposable="best"), ValueError, "`axis` must be one of the last two"),
    (lambda: lp.sparsity_mask(np.ones((4, 4, 4)), axis=0, transposable="best"), ValueError, "one of the last two"),
    (lambda: lp.sparsify(W, mask=W), TypeError, "`mask` must be of dtype bool, got float32"),
    (lambda: lp.sparsify(W, mask=W[:1] > 2), ValueError, r"`mask` must have the shape of `w`, \(4, 8\), got \(1, 8\)"),
    (lambda: lp.sparsify(W, mask=W > 2, **WANDA, activations=X), ValueError, "`mask` must be left out"),
    (lambda: lp.sparsify(W, mask=W > 2, criterion=W), ValueError, "`mask` must be left out"),
    (lambda: lp.sparsify(W, mask=W > 2, transposable="best"), ValueError, "`mask` must be left out"),
    (lambda: lp.sparsify(lp.quantize(W, "int8"), dtype="bf16"), ValueError, "`dtype` must be left out"),
    (lambda: lp.sparsify(W, dtype="bf61"), ValueError, "`dtype` must"),
    (lambda: lp.sparsify(lp.quantize(W, "int8", axis=1)), ValueError, "scale for each index of its sparse axis"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


CRITERIA: dict[str, dict[str, Any]] = {
    "magnitude": {}, "wanda": {"criterion": "wanda", "activations": X}, "scores": {"criterion": W},
    "sparsegpt": {"criterion": "sparsegpt", "activations": X}, "mask": {"mask": W > 2},
    "tiles": {"transposable": "best"}, "greedy": {"transposable": "greedy"}, "pairs": {"pattern": "4:8"},
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz], ids=str)
@pytest.mark.parametrize("name", CRITERIA)
def test_nan_is_refused_by_its_place(name: str, dtype: Any) -> None:
    """Under every criterion, and with a mask that drops it."""
    with pytest.raises(ValueError, match=r"`w` must (not hold NaN, got one at|be finite, got nan at) index \(1, 3\)"):
        lp.sparsify(NAN.astype(dtype), **CRITERIA[name])


@pytest.mark.parametrize("name", ["wanda", "sparsegpt", "tiles", "greedy"])
def test_infinities_are_refused_where_they_would_be_added(name: str) -> None:
    with pytest.raises(ValueError, match=r"`w` must be finite, got inf at index \(1, 3\)"):
        lp.sparsify(INFINITE, **CRITERIA[name])


def test_nan_in_a_quantised_array_is_refused() -> None:
    q = lp.quantize(NAN, "e4m3fn", axis=0, nonfinite="propagate")
    with pytest.raises(ValueError, match=r"`w` must not hold NaN, got one at index \(1, 0\)"):
        lp.sparsify(q)


def test_what_is_chosen_does_not_hang_on_the_way() -> None:
    """The pass for 2:4 and the general mask agree on numbers that fill all bits, tails and all."""
    codes = np.random.default_rng(2).integers(0, 1 << 32, (50, 41), dtype=np.uint64).astype(np.uint32)
    w = codes.view(np.float32)
    w = np.where(np.isnan(w), np.float32(0), w)
    mask = mask_for(w, choice_of(w, lp.SparsityPattern(2, 4), -1, "magnitude", None, None, None))
    same(lp.sparsify(w), lp.Sparse24.from_dense(w, mask=mask))
