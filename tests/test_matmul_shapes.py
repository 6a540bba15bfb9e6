"""Every shape that np.matmul takes, and one answer for every layout of the same numbers in memory."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits
from operands import operands

import lowprec as lp

SHAPES = [
    ((3,), (3,)),
    ((0,), (0,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((1, 1), (1, 1)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((2, 1, 3, 2, 3), (4, 1, 3, 5)),
    ((7, 33, 20), (7, 20, 50)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((2, 3), (3, 0)),
    ((0, 0), (0, 0)),
    ((0, 2, 3), (3, 4)),
    ((5, 2, 0), (5, 0, 4)),
    ((5, 0, 3), (3, 4)),
    ((0, 2, 3), (1, 3, 4)),
    ((2, 0), (0,)),
    ((0,), (0, 4)),
    ((0,), (3, 0, 4)),
]


def check_shape(mm: Callable[..., np.ndarray], first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Compare the shape with np.matmul's, and the bits with the oracle's."""
    rng = np.random.default_rng(0)
    a, b = (np.float32(rng.standard_normal(shape)) for shape in (first, second))
    got = mm(a, b, "bf16")
    assert np.shape(got) == np.shape(np.matmul(a, b))
    assert_same_bits(got, ORACLE.matmul(a, b, "bf16"))


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_shapes_of_np_matmul(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    check_shape(lp.matmul, first, second)


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_start_broadcasts_to_the_result(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """`c` in the result's shape, in its last axes, and as one number."""
    rng = np.random.default_rng(1)
    a, b = (np.float32(rng.standard_normal(shape)) for shape in (first, second))
    shape = np.shape(np.matmul(a, b))
    full = np.float32(rng.standard_normal(shape))
    for c in (full, full[(0,) * min(1, full.ndim)] if full.size else full, np.float32(2.5)):
        got = lp.matmul(a, b, "bf16", c=c)
        assert np.shape(got) == shape
        assert_same_bits(got, ORACLE.matmul(a, b, "bf16", c=c))


@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_out_of_every_shape(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    a, b = (np.float32(rng.standard_normal(shape)) for shape in (first, second))
    out = np.full(np.shape(np.matmul(a, b)), np.nan, np.float32)
    assert lp.matmul(a, b, "bf16", out=out) is out
    assert_same_bits(out, ORACLE.matmul(a, b, "bf16"))


def test_one_dimensional_product_is_a_scalar() -> None:
    """As np.matmul: a float32 scalar, not a 0-d array."""
    x = np.float32([1.0, 2.0])
    assert type(lp.matmul(x, x, "bf16")) is type(np.matmul(x, x))


def test_lists_and_float16() -> None:
    """Lists are float64, as NumPy makes them; float16 is its own format."""
    got = lp.matmul([[1.0, 2.0]], [[3.0], [1 / 3]])
    assert_same_bits(got, ORACLE.matmul(np.float64([[1.0, 2.0]]), np.float64([[3.0], [1 / 3]])))
    half = np.float16([[1.0, 2.0**-24], [65504.0, np.inf]])
    assert_same_bits(lp.matmul(half, half), ORACLE.matmul(half, half))


def layouts(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same 2-D numbers laid out in memory in many ways."""
    m, n = x.shape
    wide = np.zeros((2 * m + 3, 3 * n + 1), x.dtype)
    wide[1 : 2 * m + 1 : 2, 1 : 3 * n + 1 : 3] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    padded = np.zeros((m, n + 5), x.dtype)
    padded[:, :n] = x
    found = {
        "C": np.ascontiguousarray(x),
        "Fortran": np.asfortranarray(x),
        "strided": wide[1 : 2 * m + 1 : 2, 1 : 3 * n + 1 : 3],
        "sliced": padded[:, :n],
        "rows reversed": x[::-1].copy()[::-1],
        "columns reversed": x[:, ::-1].copy()[:, ::-1],
        "both reversed": np.asfortranarray(x[::-1, ::-1])[::-1, ::-1],
        "unaligned": unaligned,
        "read-only": frozen,
    }
    if x.dtype.kind == "f":
        found["big-endian"] = x.astype(x.dtype.newbyteorder(">"))
        found["big-endian Fortran"] = np.asfortranarray(x.astype(x.dtype.newbyteorder(">")))
    return found


@pytest.mark.parametrize("dtype", ["bf16", "fp32", None])
@pytest.mark.parametrize("stored", ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn"])
def test_bits_do_not_depend_on_memory_layout(stored: str, dtype: str | None) -> None:
    a, b = operands("normal", 13, 37, 50)
    a, b = (x.astype(getattr(ml_dtypes, stored, stored)) for x in (a, b))
    want = ORACLE.matmul(a, b, dtype)
    for name, x in layouts(a).items():
        assert_same_bits(lp.matmul(x, b, dtype), want, f"a {name}")
    for name, x in layouts(b).items():
        assert_same_bits(lp.matmul(a, x, dtype), want, f"b {name}")
    for name, x in layouts(np.ascontiguousarray(a.T)).items():
        assert_same_bits(lp.matmul(x.T, b, dtype), want, f"a transposed {name}")
    for name, x in layouts(np.ascontiguousarray(b.T)).items():
        assert_same_bits(lp.matmul(a, x.T, dtype), want, f"b transposed {name}")


def test_layouts_of_the_start() -> None:
    a, b = operands("normal", 13, 21, 50)
    c = np.float32(np.random.default_rng(3).standard_normal((13, 50)))
    want = ORACLE.matmul(a, b, "bf16", c=c)
    for name, x in layouts(c).items():
        assert_same_bits(lp.matmul(a, b, "bf16", c=x), want, name)


def test_stride_zero() -> None:
    """Broadcast views, in the matrix and in the batch."""
    rng = np.random.default_rng(4)
    row, matrix = np.float32(rng.standard_normal(20)), np.float32(rng.standard_normal((20, 33)))
    flat = np.broadcast_to(row, (7, 20))
    assert_same_bits(lp.matmul(flat, matrix, "bf16"), ORACLE.matmul(flat, matrix, "bf16"))
    assert_same_bits(lp.matmul(matrix.T, flat.T, "bf16"), ORACLE.matmul(matrix.T, flat.T, "bf16"))
    column = np.broadcast_to(row[:, None], (20, 33))
    assert_same_bits(lp.matmul(flat, column, "bf16"), ORACLE.matmul(flat, column, "bf16"))
    batch = np.broadcast_to(matrix, (4, 20, 33))
    assert_same_bits(lp.matmul(flat, batch, "bf16"), ORACLE.matmul(flat, batch, "bf16"))
    assert_same_bits(lp.matmul(np.broadcast_to(flat, (4, 7, 20)), batch, "bf16"), ORACLE.matmul(flat, batch, "bf16"))


def test_strided_batches() -> None:
    """Batch axes reversed, transposed, stepped and interleaved with the matrix axes."""
    rng = np.random.default_rng(5)
    a, b = np.float32(rng.standard_normal((4, 6, 9, 12))), np.float32(rng.standard_normal((6, 4, 12, 10)))
    for x, y in (
        (a[::-1, ::2], b[:3].transpose(1, 0, 2, 3)),
        (a.transpose(1, 0, 2, 3), b),
        (a[:, 0], b[0]),
        (a.transpose(2, 1, 0, 3), b[:, :1, :, :4][None, :, 0]),
        (np.moveaxis(a, 3, 0)[:9].transpose(1, 2, 3, 0)[..., :9], rng.standard_normal((6, 9, 2)).astype(np.float32)),
    ):
        got = lp.matmul(x, y, "bf16")
        assert got.shape == np.matmul(x, y).shape
        assert_same_bits(got, ORACLE.matmul(x, y, "bf16"))


def test_batch_split_does_not_show() -> None:
    """One call on a batch, and one call on each of its members."""
    a, b = np.float32(np.random.default_rng(6).standard_normal((2, 11, 30, 30)))
    whole = lp.matmul(a, b, "e4m3fn")
    assert_same_bits(np.stack([lp.matmul(x, y, "e4m3fn") for x, y in zip(a, b, strict=True)]), whole)
    assert_same_bits(np.concatenate([lp.matmul(a[:5], b[:5], "e4m3fn"), lp.matmul(a[5:], b[5:], "e4m3fn")]), whole)


def test_block_of_a_larger_product() -> None:
    """An output depends on its row and its column only, wherever the tile boundaries fall."""
    a, b = operands("normal", 200, 300, 190)
    whole = lp.matmul(a, b, "bf16")
    for i, j in ((0, 0), (1, 3), (90, 97), (192, 176)):
        assert_same_bits(lp.matmul(a[i : i + 7], b[:, j : j + 14], "bf16"), whole[i : i + 7, j : j + 14])
    assert_same_bits(whole, ORACLE.matmul(a, b, "bf16"))


@pytest.mark.parametrize("seed", range(150))
def test_random_calls(seed: int) -> None:
    """Shapes, batches, views, dtypes, formats and keywords drawn together."""
    rng = np.random.default_rng(seed)
    m, k, n = (int(x) for x in rng.choice([1, 2, 3, 6, 8, 9, 16, 17, 33, 50, 97, 130], 3))
    batch = tuple(rng.integers(1, 4, rng.integers(0, 3)))
    first = tuple(int(x) if rng.random() < 0.7 else 1 for x in batch[int(rng.integers(0, len(batch) + 1)) :])
    a, b = draw_view(rng, (*first, m, k)), draw_view(rng, (*batch, k, n))
    dtype = rng.choice(["bf16", "fp32", "tf32", "e4m3fn", "e2m1fn", "e5m7", "e3m2fn"])
    pair = (str(dtype), str(rng.choice(["e5m2", "fp16", "fp32"]))) if rng.random() < 0.4 else str(dtype)
    keywords = {}
    if rng.random() < 0.4:
        keywords["c"] = draw_view(rng, (m, n)).astype(np.float32)
    if rng.random() < 0.3:
        keywords["out_dtype"] = str(rng.choice(["bf16", "fp16", "e5m2", "tf32"]))
    if rng.random() < 0.4:
        keywords["rounding"] = str(rng.choice([str(r) for r in lp.Rounding]))
        keywords["rng"] = seed
    if rng.random() < 0.3:
        keywords["subnormals"] = str(rng.choice(["flush", "flush_inputs"]))
    if rng.random() < 0.2:
        keywords["overflow"] = "saturate"
    if rng.random() < 0.15 and m * k * n < 5000:
        keywords["accumulator"] = "fp64"
    got = lp.matmul(a, b, pair, **keywords)
    assert_same_bits(got, ORACLE.matmul(a, b, pair, **keywords), f"{a.shape} {b.shape} {pair} {keywords.keys()}")


def draw_view(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return a random view, in a random dtype, of random numbers of many magnitudes."""
    steps = [int(rng.choice([1, 1, 1, 2, -1])) for _ in shape]
    base = rng.standard_normal([n * abs(s) for n, s in zip(shape, steps, strict=True)])
    base *= 2.0 ** rng.integers(-9, 9, base.shape)
    base = base.astype(rng.choice(["f4", "f4", "f8", "f2"]))
    if rng.random() < 0.3:
        base = np.asfortranarray(base)
    view = base[tuple(slice(None, None, s) for s in steps)]
    if rng.random() < 0.2 and len(shape) > 2:
        view = np.broadcast_to(view[:1], view.shape)
    return view
