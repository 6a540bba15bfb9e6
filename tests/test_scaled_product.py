"""Products in blocks with scales: bit by bit what the formula says, by every vector width, however work is cut."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fma_oracle import ORACLE
from test_variants import CAN

import lowprec as lp
from lowprec import _checks, _scaled_product

HERE = Path(__file__).resolve().parent
SHAPES = [(1, 1, 1, 1), (7, 32, 17, 32), (13, 67, 101, 16), (9, 100, 33, 32), (300, 40, 5, 8), (5, 700, 20, 64)]


def operands(m: int, k: int, n: int, block: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return numbers and scales that cancel, underflow and overflow here and there."""
    rng = np.random.default_rng(seed)
    count = -(-k // block)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    a[:, k // 2 :] *= np.float32(1e-3)
    b[k // 2 :] = -b[k // 2 :]
    rows = (rng.random((m, count)) * 2.0 ** rng.integers(-4, 5, (m, count))).astype(np.float32)
    columns = (rng.random((count, n)) * 2.0 ** rng.integers(-4, 5, (count, n))).astype(np.float32)
    rows[0, -1], columns[-1, 0] = 1e-30, 1e-14
    a[-1, 0], b[0, -1] = 3e38, 3e38
    if m > 8:
        a[1, 0], rows[2, 0], a[3, -1] = np.nan, np.inf, -0.0
    return a, b, rows, columns


def defined(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: int, start: Any) -> np.ndarray:
    """Return what the formula says: blocks by the C loop, scales by float64 sums rounded to odd and then once."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32) if start is None else start.copy()
    with np.errstate(all="ignore"):
        for t, first in enumerate(range(0, a.shape[1], block)):
            part = np.asarray(ORACLE.matmul(a[:, first : first + block], b[first : first + block]))
            scale = (rows[:, t, None] * columns[t]).astype(np.float64)
            total = _checks.odd_sum(part * scale, total.astype(np.float64)).astype(np.float32)
    total[np.isnan(total)] = np.nan
    return total


def got(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray, block: int, start: Any) -> np.ndarray:
    out = np.full((a.shape[0], b.shape[1]), 7, np.float32) if start is None else start.copy()
    _scaled_product.multiply(a, b, rows, columns, block, out, start is None)
    return out


def same(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.array_equal(x.view(np.uint32), y.view(np.uint32)))


@pytest.mark.parametrize("shape", SHAPES)
def test_formula(shape: tuple[int, int, int, int]) -> None:
    m, k, n, block = shape
    numbers = operands(*shape)
    assert same(got(*numbers, block, None), defined(*numbers, block, None))
    start = np.random.default_rng(1).standard_normal((m, n)).astype(np.float32)
    assert same(got(*numbers, block, start), defined(*numbers, block, start))
    assert k // block + 1 >= numbers[2].shape[1]


def test_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of K and of columns, and threads, cut the work elsewhere than blocks do."""
    numbers = operands(70, 1500, 130, 24)
    want = defined(*numbers, 24, None)
    assert same(got(*numbers, 24, None), want)
    monkeypatch.setattr("lowprec._product._PACKED_BYTES", 1 << 16)
    monkeypatch.setattr("lowprec._product._ALONE", 0)
    from lowprec import _product

    _product._blocking.cache_clear()
    try:
        assert same(got(*numbers, 24, None), want)
    finally:
        _product._blocking.cache_clear()


def test_negative_zero_of_a_block_survives_its_padding() -> None:
    """A sum of -0 (an underflow) stays one when the block is filled up."""
    a, b = np.float32([[-1e-30, 0]]), np.float32([[1e-30], [0]])
    scale = np.ones((1, 1), np.float32)
    start = np.full((1, 1), -0.0, np.float32)
    for k in (1, 2):
        numbers = (a[:, :k], b[:k], scale, scale)
        found = got(*numbers, 8, start)
        assert same(found, defined(*numbers, 8, start))
    assert np.signbit(got(a[:, :1], b[:1], scale, scale, 8, start)).all()


def digest() -> str:
    """Hash the results of all shapes."""
    hashed = hashlib.sha256()
    for seed, shape in enumerate(SHAPES):
        numbers = operands(*shape, seed)
        hashed.update(got(*numbers, shape[3], None).tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize("lanes", CAN)
def test_every_vector_width(lanes: str) -> None:
    if not CAN[lanes]:
        pytest.skip(f"this CPU has no vectors of {lanes} lanes with a fused multiply-add")
    hashed = hashlib.sha256()
    for seed, shape in enumerate(SHAPES):
        hashed.update(defined(*operands(*shape, seed), shape[3], None).tobytes())
    path = os.pathsep.join([str(HERE), str(Path(lp.__file__).resolve().parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", "import test_scaled_product; print(test_scaled_product.digest())"],
        env={**os.environ, "PYTHONPATH": path, "LOWPREC_LANES": lanes},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashed.hexdigest()


def test_planted_bugs_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales one block late, and blocks filled up with zeros of one sign, give other bits."""
    numbers = operands(13, 67, 101, 16)
    a, b, rows, columns = numbers
    want = defined(*numbers, 16, None)
    assert not same(got(a, b, np.roll(rows, 1, axis=1), columns, 16, None), want)
    split = defined(a, b, rows, columns, 16, None)
    unfused = np.zeros_like(split)
    with np.errstate(all="ignore"):
        for t, first in enumerate(range(0, 67, 16)):
            part = np.asarray(ORACLE.matmul(a[:, first : first + 16], b[first : first + 16]))
            unfused = unfused + part * (rows[:, t, None] * columns[t])
    assert not same(unfused, want)


def test_sums_of_unsigned_integers_stay_exact() -> None:
    """A block of 1024 products of 255 and -127 is beyond what float32 sums hold, so it must not be summed there."""
    w = lp.QuantizedArray(
        np.full((2048, 3), -127, np.int8), np.ones((2, 3), np.float32), format="int8", axis=0, block_size=1024
    )
    x = np.full((2, 2048), 255, np.uint8)
    x[:, ::7] = 254
    part = (
        x[:, :1024].astype(np.int64) @ np.full((1024, 3), -127),
        x[:, 1024:].astype(np.int64) @ np.full((1024, 3), -127),
    )
    want = (part[0].astype(np.float32).astype(np.float64) + part[1].astype(np.float32)).astype(np.float32)
    assert np.array_equal(lp.matmul(x, w), want)


def test_blocks_draw_words_of_their_own() -> None:
    """Equal blocks in stochastic sums do not all round the same way."""
    a = lp.QuantizedArray(np.full((1, 64 * 16), 0x39, np.uint8), np.ones((1, 64), np.float32), format="e4m3fn", axis=1,
                          block_size=16)  # fmt: skip
    model = lp.Sequential("bf16", "stochastic")
    parts = [lp.matmul(a[:, :16], a.T[:16], accumulator=model, rng=seed)[0, 0] for seed in range(40)]
    assert len(set(parts)) > 1  # one block can come out in several ways
    whole = [lp.matmul(a, a.T, accumulator=model, rng=seed)[0, 0] for seed in range(8)]
    assert any(value not in {64 * part for part in parts} for value in whole)
    assert whole == [lp.matmul(a, a.T, accumulator=model, rng=seed)[0, 0] for seed in range(8)]


def test_room_of_weights_is_not_shared_with_results() -> None:
    """The room that a dequantised weight took is used again by the next product, and by no result."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 96)).astype(np.float32)
    weights = [
        lp.quantize(rng.standard_normal((96, n)).astype(np.float32), "int4", axis=1) for n in (130, 64, 257, 130)
    ]
    want = [lp.matmul(x, w.dequantize()) for w in weights]
    got = [lp.matmul(x, w) for w in weights] + [lp.linear(x, w.T) for w in weights]
    for result, right in zip(got, want * 2, strict=True):
        assert same(result, right)
    with pytest.raises(ValueError, match="must have as many columns"):
        lp.matmul(x[:, :5], weights[0])
    assert same(lp.matmul(x, weights[2]), want[2])
