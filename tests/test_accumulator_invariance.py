"""Sums by model have the same bits for any threads, split, layout, batch and blocking; stochastic ones too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import accumulator_points as points
import numpy as np
import pytest
from accumulator_cases import Case, array, bits, has_draws, scaled

import lowprec as lp
from lowprec import _sums
from lowprec import accumulators as acc

Array = np.ndarray[Any, Any]
DRAWS = acc.Sequential("fp16", "stochastic", random_bits=9)
STOCHASTIC = [
    DRAWS,
    acc.Sequential("bf16", "stochastic", product="e5m2"),
    acc.Chunked(DRAWS, 7, acc.Sequential("e5m7", "stochastic")),
    acc.Chunked(points.HOPPER, 16, acc.Sequential("bf16", "stochastic")),
]
CASES: list[tuple[Any, Any]] = [
    (acc.Sequential("fp16"), ("fp16", "fp16")),
    (acc.Sequential("e5m7", "toward_negative", fused=False), ("bf16", "e4m3fn")),
    (acc.Sequential("fp16", "to_odd"), ("fp64", "fp64")),
    (acc.Pairwise("bf16", 3), ("bf16", "bf16")),
    (acc.Exact("bf16", "toward_negative"), ("bf16", "bf16")),
    (acc.Chunked("fp16", 7, acc.Pairwise("fp32", 2)), ("fp16", "fp16")),
    (points.HOPPER, ("bf16", "bf16")),
    (points.HOPPER_F16, ("fp16", "fp16")),
    (points.VOLTA_C16, ("fp16", "fp16")),
    (points.CDNA1, ("fp16", "fp16")),
    (points.CDNA2, ("fp16", "fp16")),
    (points.CDNA3, ("bf16", "bf16")),
    (points.CDNA3_FP8, ("e5m2fnuz", "e4m3fnuz")),
    (points.ZEN5, ("bf16", "bf16")),
    (points.AMX, ("bf16", "bf16")),
    (points.ARM, ("bf16", "bf16")),
    (points.EBF16, ("bf16", "bf16")),
    (points.HMMA, ("e4m3fn", "e5m2")),
    *((model, ("fp16", "bf16")) for model in STOCHASTIC),
]
IDS = [repr(model) for model, _ in CASES]


class Product:
    """A product that can be asked for whole or in part."""

    def __init__(self, model: Any, formats: Any, shape: tuple[int, int, int] = (7, 37, 141), seed: int = 0) -> None:
        case = Case(model, formats, shape, seed, special=1)
        self.model, self.draws = model, has_draws(model)
        self.a, self.b = (array(x, fmt) for x, fmt in zip((case.a, case.b), formats, strict=True))
        self.c = array(case.c, case.c_format)

    def how(self) -> dict[str, Any]:
        """Return the keywords of every product."""
        return {"accumulator": self.model, **({"rng": 11} if self.draws else {})}

    def matmul(self, a: Any, b: Any, **more: Any) -> Array:
        return np.asarray(lp.matmul(a, b, **self.how(), **more))

    def whole(self) -> Array:
        return bits(self.matmul(self.a, self.b, c=self.c))


@pytest.fixture(params=CASES, ids=IDS)
def one(request: pytest.FixtureRequest) -> Product:
    """Return a product of each kind."""
    return Product(*request.param)


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = lp.get_num_threads()
    yield
    lp.set_num_threads(before)


# ------------------------------------------------------------------------------------------------------------- threads
def test_threads(one: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sums, "_ALONE", 0)
    monkeypatch.setattr(_sums, "_PIECE", 2000)
    monkeypatch.setattr(_sums, "_PIECE_ROWS", 1)
    want = None
    for threads in (1, 2, 5):
        lp.set_num_threads(threads)
        for got in (one.whole(), one.whole()):
            want = got if want is None else want
            np.testing.assert_array_equal(got, want)


def test_threads_of_vecdot(one: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = one.a[:, None, :], one.b.T[None], one.c
    want = None
    for threads, piece in ((1, 1 << 21), (2, 1 << 21), (2, 2000), (5, 500)):
        lp.set_num_threads(threads)
        monkeypatch.setattr(_sums, "_ALONE", 0 if threads > 1 else 1 << 30)
        monkeypatch.setattr(_sums, "_PIECE", piece)
        monkeypatch.setattr(_sums, "_PIECE_ROWS", 1)
        got = bits(lp.vecdot(a, b, c=c, **one.how()))
        want = got if want is None else want
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(want, one.whole())


@pytest.mark.parametrize(("room", "piece", "columns"), [(1, 1, 1), (300, 100, 16), (3000, 4000, 128), (40, 1 << 21, 5)])
def test_blocking(one: Product, room: int, piece: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private sizes of blocks and pieces decide nothing."""
    want = one.whole()
    vectors = bits(lp.vecdot(one.a, one.b.T[: len(one.a)], **one.how()))
    for name, value in (
        ("_ROOM", room),
        ("_PIECE", piece),
        ("_PIECE_ROWS", 1),
        ("_PIECE_COLUMNS", columns),
        ("_ALONE", 10),
    ):
        assert hasattr(_sums, name)
        monkeypatch.setattr(_sums, name, value)
    np.testing.assert_array_equal(one.whole(), want)
    np.testing.assert_array_equal(bits(lp.vecdot(one.a, one.b.T[: len(one.a)], **one.how())), vectors)


# -------------------------------------------------------------------------------------------------------------- splits
def test_rows_and_columns(one: Product) -> None:
    """A product of slices is the slice of the product; with random words only where the index stays."""
    want = one.whole()
    rows = (slice(0, 1), slice(0, 5)) if one.draws else (slice(0, 1), slice(2, 3), slice(1, 7), slice(0, 7, 2))
    columns = (
        (slice(None),) if one.draws else (slice(0, 1), slice(3, 11), slice(127, 129), slice(5, 141, 3), slice(None))
    )
    for i in rows:
        for j in columns:
            got = bits(one.matmul(one.a[i], one.b[:, j], c=one.c[i, j]))
            np.testing.assert_array_equal(got, want[i, j])


def test_random_words_are_those_of_the_place() -> None:
    """Other places draw others: a slice further down differs, and so does another seed."""
    x = np.full((40, 50), 0.3333, np.float16)
    whole = lp.matmul(x, x.T, accumulator=DRAWS, rng=11)
    assert (lp.matmul(x[20:], x.T, accumulator=DRAWS, rng=11) != whole[20:]).any()
    assert (lp.matmul(x, x.T, accumulator=DRAWS, rng=12) != whole).any()
    assert len(np.unique(whole)) > 3


def test_vecdot_is_the_diagonal(one: Product) -> None:
    """With random words, of a product of one row: an element's index is the same then."""
    columns = one.b.T
    if one.draws:
        got = lp.vecdot(one.a[:1], columns, c=one.c[0], **one.how())
        np.testing.assert_array_equal(bits(got), bits(one.matmul(one.a[:1], one.b, c=one.c[:1]))[0])
        return
    n = len(one.a)
    got = lp.vecdot(one.a, columns[:n], c=np.diagonal(one.c).copy(), **one.how())
    np.testing.assert_array_equal(bits(got), np.diagonal(one.whole()))
    for i in (0, n - 1):
        single = lp.vecdot(one.a[i], columns[i], c=one.c[i, i], **one.how())
        np.testing.assert_array_equal(bits(single)[0], one.whole()[i, i])
        np.testing.assert_array_equal(bits(one.matmul(one.a[i], one.b[:, i], c=one.c[i, i]))[0], one.whole()[i, i])


def test_linear_is_matmul_and_bias(one: Product) -> None:
    got = lp.linear(one.a, one.b.T, c=one.c, **one.how())
    np.testing.assert_array_equal(bits(got), one.whole())
    bias = np.float32(np.linspace(-3, 3, one.b.shape[1]))
    sums = one.matmul(one.a, one.b)
    got = lp.linear(one.a, one.b.T, bias, **one.how())
    fmt = one.model.result_format or lp.format("fp32")
    own = lp.round_to(bias, fmt).astype(np.float64)
    with np.errstate(all="ignore"):
        want = lp.round_to(sums.astype(np.float64) + own, fmt)
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    assert same.all()  # by way of binary64, which matters at ties only: there are none here


# ------------------------------------------------------------------------------------------------------------- layouts
def layouts(x: Array) -> Iterator[Array]:
    """Yield a matrix in other layouts of memory, and in the other byte order."""
    yield np.asfortranarray(x)
    yield np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]
    room = np.zeros((2 * x.shape[0], 3 * x.shape[1]), x.dtype)
    room[1::2, 2::3] = x
    yield room[1::2, 2::3]
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    odd = raw.view(x.dtype).reshape(x.shape)
    odd[...] = x
    yield odd
    if x.dtype.kind == "f" and x.dtype.isnative and x.dtype.type.__module__ == "numpy":
        yield x.astype(x.dtype.newbyteorder())


def test_layouts(one: Product) -> None:
    want = one.whole()
    for a in layouts(one.a):
        np.testing.assert_array_equal(bits(one.matmul(a, one.b, c=one.c)), want)
    for b in layouts(one.b):
        np.testing.assert_array_equal(bits(one.matmul(one.a, b, c=one.c)), want)
    for c in layouts(one.c):
        np.testing.assert_array_equal(bits(one.matmul(one.a, one.b, c=c)), want)
    got = lp.matmul(one.b.T, one.a.T, c=one.c.T, accumulator=one.model) if not one.draws and symmetric(one) else None
    if got is not None:
        np.testing.assert_array_equal(bits(got), want.T)


def symmetric(one: Product) -> bool:
    """Say whether a and b can change places: all but x86's NaN, which are a's before b's."""
    return not isinstance(one.model, (acc.FmaPairOddFirst, acc.EvenOddPair))


# ------------------------------------------------------------------------------------------------------ batches, c, out
def test_batches(one: Product) -> None:
    """A stack is its matrices one by one, broadcast; random words go on counting from matrix to matrix."""
    a = np.stack([one.a, one.a[::-1], one.a]).reshape(3, 1, *one.a.shape)
    b = np.stack([one.b, one.b[:, ::-1]])
    c = np.stack([one.c, one.c])
    got = bits(one.matmul(a, b, c=c))
    assert got.shape == (3, 2, *one.c.shape)
    if one.draws:
        flat = bits(lp.vecdot(a[..., None, :], b.mT[..., None, :, :], c=c, **one.how()))
        np.testing.assert_array_equal(got, flat)
        return
    for i in range(3):
        for j in range(2):
            np.testing.assert_array_equal(got[i, j], bits(one.matmul(a[i, 0], b[j], c=c[j])))
    np.testing.assert_array_equal(
        bits(one.matmul(one.a[0], b, c=c[:, 0])), bits(one.matmul(one.a[:1], b, c=c[:, :1]))[:, 0]
    )


def test_start_is_broadcast(one: Product) -> None:
    for c in (one.c[0], one.c[:, :1], one.c[:1, :1], one.c[0, 0]):
        full = np.broadcast_to(c, one.c.shape).copy()
        np.testing.assert_array_equal(bits(one.matmul(one.a, one.b, c=c)), bits(one.matmul(one.a, one.b, c=full)))
    zeros = np.zeros(one.c.shape, one.c.dtype)
    np.testing.assert_array_equal(bits(one.matmul(one.a, one.b)), bits(one.matmul(one.a, one.b, c=zeros)))


def test_out(one: Product) -> None:
    want = one.matmul(one.a, one.b, c=one.c)
    for order in ("C", "F"):
        out = np.full(want.shape, 7, want.dtype, order=order)
        assert one.matmul(one.a, one.b, c=one.c, out=out) is out
        np.testing.assert_array_equal(bits(out), bits(want))
    room = np.full((2 * want.shape[0], 2 * want.shape[1]), 7, want.dtype)
    one.matmul(one.a, one.b, c=one.c, out=room[::2, 1::2])
    np.testing.assert_array_equal(bits(room[::2, 1::2]), bits(want))
    assert (room[1::2] == 7).all()
    assert (room[:, ::2] == 7).all()


def test_out_may_be_c(one: Product) -> None:
    want = one.matmul(one.a, one.b, c=one.c)
    start = np.asarray(one.c).astype(want.dtype)
    again = one.matmul(one.a, one.b, c=start)
    both = start.copy()
    assert one.matmul(one.a, one.b, c=both, out=both) is both
    np.testing.assert_array_equal(bits(both), bits(again))
    if not (np.isnan(start).any() and isinstance(one.model, (acc.FmaPairOddFirst, acc.EvenOddPair))):
        np.testing.assert_array_equal(bits(again), bits(want))


CHAINS = [(model, formats) for model, formats in CASES if isinstance(model, acc.Hardware) and model != points.VOLTA_C16]


@pytest.mark.parametrize(("model", "formats"), [(acc.Sequential("tf32"), ("bf16", "bf16")), *CHAINS], ids=str)
def test_chains(model: Any, formats: Any) -> None:
    """Where a model goes on from its own result, K may be cut at the end of a block."""
    one = Product(model, formats, (5, 77, 40))
    length = 4 * model.length if isinstance(model, acc.FlushedPairwise) else getattr(model, "length", 5)
    first = one.matmul(one.a[:, :length], one.b[:length], c=one.c)
    got = one.matmul(one.a[:, length:], one.b[length:], c=first)
    np.testing.assert_array_equal(bits(got), one.whole())


# ------------------------------------------------------------------------------------------------- scales, and integers
@pytest.mark.parametrize("model", [points.MX, points.NVFP4], ids=repr)
def test_block_scales(model: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt, block = ("e5m2", 32) if model is points.MX else ("e2m1fn", 16)
    case = Case(model, (fmt, fmt), (5, 5 * block, 70))
    sa, sb = rng.integers(110, 140, (5, 5)), rng.integers(110, 140, (5, 70))
    if model is points.NVFP4:
        sa, sb = sa % 256 // 2, sb // 2
    a, b = scaled(case.a, sa, fmt, model), scaled(case.b, sb, fmt, model, axis=0)
    want = bits(lp.matmul(a, b, accumulator=model))
    rows = scaled(case.b.T, sb.T, fmt, model)
    for j in (0, 33, 69):
        column = scaled(case.b.T[j], sb.T[j], fmt, model)
        for i in (0, 4):
            got = lp.vecdot(scaled(case.a[i], sa[i], fmt, model), column, accumulator=model)
            np.testing.assert_array_equal(bits(got)[0], want[i, j])
    np.testing.assert_array_equal(bits(lp.linear(a, rows, accumulator=model)), want)
    for name, value in (("_ROOM", 500), ("_PIECE", 3000), ("_PIECE_ROWS", 1), ("_PIECE_COLUMNS", 16), ("_ALONE", 0)):
        monkeypatch.setattr(_sums, name, value)
    for threads in (1, 2, 5):
        lp.set_num_threads(threads)
        np.testing.assert_array_equal(bits(lp.matmul(a, b, accumulator=model)), want)


@pytest.mark.parametrize(
    "model", [acc.Integer(16, "saturate", 4), acc.Integer(16), acc.Integer(32, "saturate")], ids=repr
)
def test_integers(model: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rng.integers(-128, 128, (9, 61), np.int8), rng.integers(-128, 128, (61, 150), np.int8)
    c = rng.integers(-30000, 30000, (9, 150))
    want = lp.matmul(a, b, c=c, accumulator=model)
    for x, y in zip(layouts(a), layouts(b), strict=False):
        np.testing.assert_array_equal(lp.matmul(x, y, c=c, accumulator=model), want)
    np.testing.assert_array_equal(lp.matmul(a[2:5], b[:, 7:140], c=c[2:5, 7:140], accumulator=model), want[2:5, 7:140])
    np.testing.assert_array_equal(lp.vecdot(a, b.T[:9], c=np.diagonal(c), accumulator=model), np.diagonal(want))
    np.testing.assert_array_equal(lp.linear(a, b.T, c=c, accumulator=model), want)
    both = c.astype(np.int32)
    np.testing.assert_array_equal(lp.matmul(a, b, c=both, accumulator=model, out=both), want)
    for name, value in (("_ROOM", 500), ("_PIECE", 3000), ("_PIECE_ROWS", 1), ("_PIECE_COLUMNS", 16), ("_ALONE", 0)):
        monkeypatch.setattr(_sums, name, value)
    for threads in (1, 2, 5):
        lp.set_num_threads(threads)
        np.testing.assert_array_equal(lp.matmul(a, b, c=c, accumulator=model), want)


def test_every_seed_is_taken() -> None:
    """Seeds from 2**63 on do not fit in a signed number."""
    x = np.linspace(0.1, 2.0, 50, dtype=np.float32)
    model = lp.Sequential("fp16", "stochastic")
    for seed in (0, 2**63 - 1, 2**63, 2**64 - 1):
        got = lp.vecdot(x, x, "fp16", accumulator=model, rng=seed)
        codes = lp.encode(x, "fp16").tolist()
        want = lp.reference.accumulate(model, codes, codes, formats=("fp16", "fp16"), seed=seed)
        assert float(got) == lp.reference.decode(want, "fp16"), seed


def test_an_addend_of_another_format_is_rounded_to_it() -> None:
    model = lp.FusedTruncated(4, 23, exponent_floor=-131, c_format="fp16")
    for c in (1 + 2.0**-20, 2.0**100, 2.0**-127, 65519.0):
        got = lp.vecdot([0.0], [0.0], "fp16", c=np.float32(c), accumulator=model)
        assert float(got) == float(lp.round_to(np.float32(c), "fp16")), c
