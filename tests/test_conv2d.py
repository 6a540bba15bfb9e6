"""conv2d: the sums of matmul over patches, whatever the shapes, the parts, the threads and the memory layout."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conv_slow import (
    GEOMETRIES,
    NOTHING,
    SLOW,
    Sides,
    check_bias_last,
    check_geometry,
    check_kind,
    check_order,
    check_padding_is_zero,
    check_stochastic,
    layer,
)
from fma_oracle import assert_same_bits
from operands import KINDS

import lowprec as lp
from lowprec import _patches, reference


@pytest.mark.parametrize("number", range(len(GEOMETRIES)))
def test_geometry(number: int) -> None:
    check_geometry(lp.conv2d, number)


@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind: str) -> None:
    check_kind(lp.conv2d, kind)
    check_kind(lp.conv2d, kind, "fp32")


@pytest.mark.parametrize("check", [check_order, check_bias_last, check_stochastic, check_padding_is_zero])
def test_check(check: Callable[[Any], None]) -> None:
    check(lp.conv2d)
    check(SLOW)


def test_definition_is_a_convolution() -> None:
    """The definition itself, against loops over the textbook formula, and `reference.dot` over one window."""
    shape, weights, stride, sides, dilation, groups = GEOMETRIES[6]
    x, w = layer(shape, weights)
    keywords = {"stride": stride, "padding": sides, "dilation": dilation, "groups": groups, "dtype": "bf16"}
    got = SLOW(x, w, **keywords)
    x, w = (lp.round_to(v, "bf16") for v in (x, w))
    for n, o, i, j in np.ndindex(*got.shape):
        left, right = [], []
        for place in np.ndindex(*weights[1:]):
            y = i * stride[0] + place[1] * dilation[0] - sides[0][0]
            z = j * stride[1] + place[2] * dilation[1] - sides[1][0]
            inside = 0 <= y < shape[2] and 0 <= z < shape[3]
            left.append(float(x[n, place[0], y, z]) if inside else 0.0)
            right.append(float(w[(o, *place)]))
        assert float(got[n, o, i, j]) == float(reference.dot(left, right))


@pytest.mark.parametrize("room", [1, 100, 1000, 10_000])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_and_threads(room: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """How positions are cut, and who copies, changes nothing."""
    before = lp.get_num_threads()
    monkeypatch.setattr(_patches, "_BUFFER_BYTES", room)
    monkeypatch.setattr(_patches, "_FEWEST_POSITIONS", 1)
    monkeypatch.setattr(_patches, "_ALONE", 0)
    try:
        lp.set_num_threads(threads)
        for number in range(len(GEOMETRIES)):
            check_geometry(lp.conv2d, number)
        for kind in ("traps", "nan"):
            check_kind(lp.conv2d, kind)
        check_stochastic(lp.conv2d)
    finally:
        lp.set_num_threads(before)


def test_parts_cover_every_position_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for room, shape in itertools.product((1, 64, 500, 5000, 10**6), ((3, 2, 9, 7), (5, 1, 4, 40), (2, 40, 40))):
        monkeypatch.setattr(_patches, "_BUFFER_BYTES", room)
        monkeypatch.setattr(_patches, "_FEWEST_POSITIONS", 1)
        x = np.zeros(shape)
        w = np.zeros((1, shape[-3], 3, 3))
        place = _patches.lay_out(x, w, 1, 1, 1, 1)
        for each in (False, True):
            seen = np.zeros((place.images, place.positions), int)
            for part in _patches.cut(place, 4, each):
                seen[part.image : part.last_image, part.first : part.last] += 1
                assert part.columns * place.depth * 4 <= max(room, place.depth * 4)
                assert not each or part.last_image == part.image + 1
            assert (seen == 1).all()


@pytest.mark.parametrize(
    ("given", "sides"),
    [
        (0, NOTHING),
        ("valid", NOTHING),
        (2, ((2, 2), (2, 2))),
        (np.int64(1), ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([0, 3], ((0, 0), (3, 3))),
        (np.array([2, 1]), ((2, 2), (1, 1))),
        (((1, 2), (0, 3)), ((1, 2), (0, 3))),
        ((1, (0, 3)), ((1, 1), (0, 3))),
        ("same", ((1, 1), (1, 2))),
    ],
)
def test_padding_forms(given: Any, sides: Sides) -> None:
    x, w = layer((2, 3, 6, 7), (4, 3, 3, 4))
    assert_same_bits(lp.conv2d(x, w, padding=given, dtype="bf16"), SLOW(x, w, padding=sides, dtype="bf16"))


@pytest.mark.parametrize(("size", "spread"), list(itertools.product((1, 2, 3, 4, 5), (1, 2, 3))))
def test_same_has_the_size_of_the_image(size: int, spread: int) -> None:
    """As torch: what cannot be halved goes to the end."""
    x, w = layer((1, 2, 9, 8), (3, 2, size, 3))
    total = spread * (size - 1)
    sides = ((total // 2, total - total // 2), (1, 1))
    got = lp.conv2d(x, w, padding="same", dilation=(spread, 1), dtype="bf16")
    assert got.shape == (1, 3, 9, 8)
    assert_same_bits(got, SLOW(x, w, padding=sides, dilation=(spread, 1), dtype="bf16"))


def test_numbers_stand_for_pairs() -> None:
    x, w = layer((2, 3, 12, 13), (4, 3, 2, 2))
    want = SLOW(x, w, stride=(2, 2), dilation=(3, 3), dtype="bf16")
    for two, three in ((2, 3), ([2, 2], (3, 3)), (np.int8(2), np.array([3, 3]))):
        assert_same_bits(lp.conv2d(x, w, stride=two, dilation=three, dtype="bf16"), want)
    assert_same_bits(lp.conv2d(x, w, stride=10**30, dtype="bf16"), SLOW(x, w, stride=(99, 99), dtype="bf16"))
    assert_same_bits(
        lp.conv2d(x, w[:, :, :1, :1], dilation=10**30, dtype="bf16"), SLOW(x, w[:, :, :1, :1], dtype="bf16")
    )


def test_layouts() -> None:
    base, w = layer((2, 3, 8, 9), (4, 3, 3, 3))
    want = SLOW(base, w, dtype="bf16")
    channels_last = np.ascontiguousarray(base.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.zeros((2, 3, 16, 9), np.float32)
    wide[:, :, ::2] = base
    unaligned = np.frombuffer(b"x" + base.tobytes(), np.uint8)[1:].view(np.float32).reshape(base.shape)
    for x in (
        channels_last,
        np.asfortranarray(base),
        base[::-1, :, ::-1, ::-1].copy()[::-1, :, ::-1, ::-1],
        wide[:, :, ::2],
        unaligned,
        base.astype(">f4"),
        base.astype(np.float64),
        base.tolist(),
    ):
        assert_same_bits(lp.conv2d(x, w, dtype="bf16"), want)
    for v in (np.asfortranarray(w), w[..., ::-1].copy()[..., ::-1], w.astype(">f8")):
        assert_same_bits(lp.conv2d(base, v, dtype="bf16"), want)
    same = np.broadcast_to(base[:1], (3, 3, 8, 9))
    assert_same_bits(lp.conv2d(same, w, dtype="bf16"), SLOW(same, w, dtype="bf16"))
    pointwise = w[:, :, :1, :1]
    assert_same_bits(lp.conv2d(channels_last, pointwise, dtype="bf16"), SLOW(base, pointwise, dtype="bf16"))


@pytest.mark.parametrize(
    ("shape", "weights"),
    [
        ((0, 3, 5, 5), (4, 3, 3, 3)),
        ((2, 0, 5, 5), (4, 0, 3, 3)),
        ((2, 3, 5, 5), (0, 3, 3, 3)),
        ((2, 3, 0, 5), (4, 3, 3, 3)),
        ((2, 0, 5, 5), (4, 0, 1, 1)),
    ],
)
def test_empty(shape: tuple[int, ...], weights: tuple[int, ...]) -> None:
    """No images, no channels, no outputs, no rows: what is left is `c`, the bias, or +0."""
    x, w, bias = np.ones(shape, np.float32), np.ones(weights, np.float32), np.arange(weights[0], dtype=np.float32)
    c = np.full(shape[-1], -0.0, np.float32)
    for b, padding in itertools.product((None, bias), (((2, 2), (1, 1)), ((3, 1), (2, 0)))):
        keywords = {"dtype": "bf16", "padding": padding}
        start = np.resize(c, SLOW(x, w, **keywords).shape[-1:])
        assert_same_bits(lp.conv2d(x, w, b, **keywords), SLOW(x, w, b, **keywords))
        assert_same_bits(lp.conv2d(x, w, b, c=start, **keywords), SLOW(x, w, b, c=start, **keywords))
        assert_same_bits(lp.conv2d(x, w, b, out_dtype="bf16", **keywords), SLOW(x, w, b, out_dtype="bf16", **keywords))
    grouped = lp.conv2d(np.ones((2, 0, 5, 5)), np.ones((4, 0, 3, 3)), groups=2, dtype="bf16")
    assert_same_bits(grouped, np.zeros((2, 4, 3, 3), np.float32))


def test_start_bias_and_out() -> None:
    """`c` broadcasts, `bias` is one number or one for each output, `out` may be anything that can be written."""
    x, w = layer((2, 3, 5, 6), (4, 3, 3, 3))
    rng = np.random.default_rng(8)
    full = (2, 4, 3, 4)
    for shape, b in itertools.product(
        ((), (4,), (3, 1), (4, 1, 1), (2, 1, 1, 1), (1, 4, 1, 4), full), (None, (), (4,))
    ):
        c = np.float32(rng.standard_normal(shape))
        bias = None if b is None else np.float32(rng.standard_normal(b))
        for out_dtype in (None, "bf16", "e2m1fn"):
            keywords = {"dtype": "bf16", "c": c, "out_dtype": out_dtype}
            want = SLOW(x, w, bias, **keywords)
            assert_same_bits(lp.conv2d(x, w, bias, **keywords), want)
            whole = np.zeros((4, 4, 4, 5), want.dtype)
            for out in (np.empty_like(want), np.asfortranarray(np.empty_like(want)), whole[::2, :, :3, 1:]):
                assert lp.conv2d(x, w, bias, out=out, **keywords) is out
                assert_same_bits(out, want)
            assert not whole[1::2].astype(np.float32).any()
    out = np.float32(rng.standard_normal(full))
    want = SLOW(x, w, dtype="bf16", c=out)
    assert lp.conv2d(x, w, dtype="bf16", c=out, out=out) is out
    assert_same_bits(out, want)
    wide = np.float64(rng.standard_normal((4, 1, 1)))
    assert_same_bits(lp.conv2d(x, w, wide.ravel(), dtype="bf16", c=wide), SLOW(x, w, wide, dtype="bf16", c=wide))
    single = lp.conv2d(x[1], w, dtype="bf16", c=out[0])
    assert_same_bits(single, SLOW(x[1], w, dtype="bf16", c=out[0]))


def test_operands_are_left_alone() -> None:
    x, w, bias = np.full((1, 2, 4, 4), 0.1, np.float32), np.full((3, 2, 3, 3), 0.1, np.float32), np.full(3, 0.1)
    lp.conv2d(x, w, bias, padding=1, dtype="e2m1fn")
    assert (x == np.float32(0.1)).all()
    assert (w == np.float32(0.1)).all()
    assert (bias == 0.1).all()


def test_stochastic_generator_is_read_once() -> None:
    x, w = layer((1, 2, 4, 4), (3, 2, 3, 3))
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    lp.conv2d(x, w, dtype="e4m3fn", rounding="stochastic", rng=first)
    lp.matmul(x[0, 0], w[0, 0, :1, :1] * np.ones((4, 1), np.float32), "e4m3fn", rounding="stochastic", rng=second)
    assert first.bit_generator.state == second.bit_generator.state


# -------------------------------------------------------------------------------------------------------------- memory
PEAK = """
    import sys
    import numpy as np
    import lowprec as lp

    def status(name):
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

    shape, weights = eval(sys.argv[1]), eval(sys.argv[2])
    keywords = {"padding": 1, "dtype": "bf16", "out_dtype": eval(sys.argv[3])}
    for size in (20, 300):
        lp.conv2d(np.ones((1, weights[1], size, size), np.float32), np.ones(weights, np.float32), **keywords)
    x, w = np.ones(shape, np.float32), np.ones(weights, np.float32)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak so far, that of the compiler
    except OSError:
        print("no peak")
        sys.exit()
    before = status("VmRSS")
    result = lp.conv2d(x, w, **keywords)
    assert float(result.max()) == np.prod(weights[1:]), result.max()
    print(status("VmHWM") - before - result.nbytes - x.nbytes // 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ("(1, 16, 800, 800)", "(8, 16, 3, 3)", "None"),  # patches of 184 MB in bf16
        ("(1, 2, 3, 400000)", "(4, 2, 3, 3)", "'bf16'"),  # one line of the result is more than the room
        ("(64, 256, 14, 14)", "(64, 256, 3, 3)", "'fp16'"),
    ],
    ids=" ".join,
)
def test_patches_take_room_that_does_not_grow(arguments: tuple[str, ...]) -> None:
    """Beyond the result, and the image in bf16, 64 MB at most."""
    command = [sys.executable, "-c", textwrap.dedent(PEAK), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    if "no peak" in done.stdout:
        pytest.skip("this system does not let a process reset its peak memory")
    assert int(done.stdout) <= 64 * 2**20, f"{int(done.stdout) / 2**20:.1f} MiB"


# ------------------------------------------------------------------------------------------------------- against torch
@pytest.mark.oracles
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch may copy its input
@pytest.mark.parametrize("number", range(len(GEOMETRIES)))
def test_torch(number: int) -> None:
    torch = pytest.importorskip("torch")
    shape, weights, stride, sides, dilation, groups = GEOMETRIES[number]
    x, w = (np.float64(v) for v in layer(shape, weights))
    bias = np.arange(weights[0], dtype=np.float64)
    got = lp.conv2d(x, w, bias, stride=stride, padding=sides, dilation=dilation, groups=groups)
    padded = torch.from_numpy(np.pad(x, [(0, 0)] * (x.ndim - 2) + list(sides)))
    rest = {"stride": stride, "dilation": dilation, "groups": groups}
    want = torch.nn.functional.conv2d(padded, torch.from_numpy(w), torch.from_numpy(bias), **rest)
    # Two sums of K + 1 terms in float64 differ by at most 2 (K + 1) eps times the sum of magnitudes (Higham, 3.1).
    slack = 2 * (np.prod(weights[1:]) + 1) * np.finfo(np.float64).eps
    size = lp.conv2d(abs(x), abs(w), abs(bias), stride=stride, padding=sides, dilation=dilation, groups=groups)
    assert np.all(abs(got - want.numpy()) <= slack * size)
    if stride == (1, 1):
        got = lp.conv2d(x, w, padding="same", dilation=dilation, groups=groups)
        want = torch.nn.functional.conv2d(
            torch.from_numpy(x), torch.from_numpy(w), padding="same", dilation=dilation, groups=groups
        )
        size = lp.conv2d(abs(x), abs(w), padding="same", dilation=dilation, groups=groups)
        assert np.all(abs(got - want.numpy()) <= slack * size)
