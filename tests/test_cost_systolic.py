"""lp.cost.systolic: published numbers, hand checks, bad input. Its cycles against simulation: test_systolic.py."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import lowprec as lp

DFF = 5.67
TPUS = [  # name, rows and columns, arrays, clock, 10**12 operations a second
    ("tpuv1", 256, 1, 0.7e9, 91.75),
    ("tpuv2", 128, 2, 0.7e9, 45.9),
    ("tpuv3", 128, 4, 0.94e9, 123.2),
    ("tpuv4", 128, 8, 1.05e9, 275.3),
]


@pytest.mark.parametrize(("name", "side", "arrays", "clock", "published"), TPUS)
def test_peaks_of_tpus(name: str, side: int, arrays: int, clock: float, published: float) -> None:
    dtype = "int8" if side == 256 else "bf16"
    peak = lp.cost.systolic(side, side, dtype, clock=clock, arrays=arrays).peak_ops
    assert (peak.unit, peak.kind) == ("op/s", "exact count")
    assert peak == pytest.approx(published * 1e12, rel=1e-3)
    assert peak == 2 * side * side * arrays * clock
    assert peak == pytest.approx(lp.cost.machine(name).peak(dtype), rel=0.005)  # data sheets round to whole numbers


def test_cycles_of_the_facts() -> None:
    """Numbers of the fact sheet's section 2.7, there compared with another simulator."""
    whole = lp.cost.systolic(128, 128).matmul(512, 512, 512)
    assert (whole.cycles, whole.tiles, round(whole.utilisation, 3)) == (14304, 16, 0.573)
    double = lp.cost.systolic(128, 128, double_buffered=True).matmul(512, 512, 512)
    assert (double.cycles, round(double.utilisation, 3)) == (8574, 0.955)
    small = lp.cost.systolic(32, 32)
    assert small.matmul(64, 64, 64).cycles == 632
    assert small.matmul(100, 50, 70).cycles == 1164
    assert lp.cost.systolic(32, 32, dataflow="os").matmul(64, 64, 64).cycles == 504
    assert lp.cost.systolic(32, 32, dataflow="os", drain=True).matmul(64, 64, 64).cycles == 504 + 4 * 32
    eight = lp.cost.systolic(128, 128).matmul(8, 512, 512)
    assert round(lp.cost.systolic(128, 128, double_buffered=True).matmul(8, 512, 512).utilisation, 3) == 0.055
    assert eight.utilisation < 0.025


def test_decode_leaves_the_array_idle() -> None:
    """One row at a time: of `rows` cycles for each tile, one is of use."""
    run = lp.cost.systolic(128, 128, double_buffered=True).matmul(1, 4096, 4096)
    assert run.cycles == 128 * 1024 + 1 + 254
    assert run.utilisation == pytest.approx(1 / 128, rel=0.01)
    resident = lp.cost.systolic(128, 128, dataflow="is", double_buffered=True).matmul(1, 4096, 4096)
    assert resident.utilisation == pytest.approx(1 / 128, rel=0.05)


def test_parts_of_the_cycles() -> None:
    for how in ({}, {"double_buffered": True}, {"dataflow": "os"}, {"dataflow": "os", "drain": True}):
        run = lp.cost.systolic(3, 5, **how).matmul(4, 7, 11)
        assert run.fill + run.stream + run.drain == run.cycles
        assert all(
            isinstance(getattr(run, name), int) for name in ("fill", "stream", "drain", "cycles", "tiles", "macs")
        )
        assert run.seconds == pytest.approx(run.cycles / 0.7e9)
        assert run.ops_per_second == pytest.approx(2 * 4 * 7 * 11 / run.seconds)
        assert run.ops_per_second / run.array.peak_ops == pytest.approx(run.utilisation)


def test_input_stationary_is_the_transposed_product() -> None:
    for buffered in (False, True):
        ws = lp.cost.systolic(3, 5, dataflow="ws", double_buffered=buffered).matmul(4, 7, 11)
        inputs = lp.cost.systolic(3, 5, dataflow="is", double_buffered=buffered).matmul(11, 7, 4)
        assert ws.cycles == inputs.cycles


def test_several_arrays_share_the_tiles_of_columns() -> None:
    one, two, three = (lp.cost.systolic(4, 4, arrays=n).matmul(8, 8, 16) for n in (1, 2, 3))
    assert one.tiles == two.tiles == 8
    assert two.cycles * 2 == one.cycles == three.cycles * 2  # four tiles of columns: two on the busiest of three
    assert two.utilisation == one.utilisation == pytest.approx(three.utilisation * 1.5)
    assert lp.cost.systolic(4, 4, dataflow="os", arrays=3).matmul(8, 8, 16).cycles == 3 * (8 + 4 + 4 - 2)


def test_area_by_hand() -> None:
    """An int8 element: the MAC with its 32-bit register, and 8 + 8 flip-flops; formula 2.7 of the fact sheet."""
    array, mac = lp.cost.systolic(4, 6, "int8", arrays=2), lp.cost.mac("int8")
    element = mac.ge + 16 * DFF
    skew = (8 * 4 * 3 / 2 + 32 * 6 * 5 / 2) * DFF
    assert array.element == pytest.approx(element)
    assert array.skew == pytest.approx(skew)
    assert array.ge == array.area == pytest.approx(2 * (24 * element + skew))
    assert (array.ge.unit, array.ge.kind) == ("GE", "closed form")
    assert array.ge.low < array.ge < array.ge.high
    # Synthesised with its registers: 990 GE.
    assert array.element.low < 990 < array.element.high
    double = lp.cost.systolic(4, 6, "int8", double_buffered=True)
    assert double.element == pytest.approx(element + 16 * DFF)
    outputs = lp.cost.systolic(4, 6, ("int8", "int4"), dataflow="os")
    assert outputs.skew == pytest.approx((8 * 6 + 4 * 15) * DFF)
    inputs = lp.cost.systolic(4, 6, ("int8", "int4"), dataflow="is")
    assert inputs.skew == pytest.approx((4 * 6 + 32 * 15) * DFF)


def test_the_accumulator_decides_the_area_at_eight_bits() -> None:
    wide, narrow = (lp.cost.systolic(128, 128, "e4m3", accumulator=name).ge for name in ("fp32", "exact"))
    assert narrow < 0.6 * wide
    chunked = lp.cost.systolic(128, 128, "e4m3", accumulator=lp.Chunked("fp16", every=128))
    assert chunked.ge == lp.cost.systolic(128, 128, "e4m3", accumulator=lp.Sequential("fp16")).ge
    assert "outside the array" in str(chunked)


def test_prints_and_compares() -> None:
    array = lp.cost.systolic(256, 256, "int8")
    assert "91.75" in str(array)
    assert "91.75" in repr(array)
    assert array == lp.cost.systolic(256, 256, "int8")
    assert array != lp.cost.systolic(256, 256, "int8", clock=1e9)
    assert "14304" in str(lp.cost.systolic(128, 128).matmul(512, 512, 512))
    assert "<table>" in array._repr_html_()
    assert array.peak_ops > 0


def test_closed_forms_are_fast() -> None:
    array = lp.cost.systolic(128, 128)
    begin = time.thread_time()
    for size in range(1, 301):
        assert array.matmul(size, size, size).cycles > 0
    assert (time.thread_time() - begin) / 300 < 1e-3


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"rows": 0}, ValueError, "`rows` must be from 1"),
    ({"cols": -1}, ValueError, "`cols` must be from 1"),
    ({"rows": 1.5}, TypeError, "`rows` must be an integer"),
    ({"rows": True}, TypeError, "`rows` must be an integer"),
    ({"arrays": 0}, ValueError, "`arrays` must be from 1"),
    ({"clock": 0}, ValueError, "`clock` must be a positive"),
    ({"clock": float("nan")}, ValueError, "`clock` must be a positive"),
    ({"clock": "fast"}, TypeError, "`clock` must be a number"),
    ({"dataflow": "output"}, ValueError, "the closest: 'output-stationary'"),
    ({"dataflow": "os", "double_buffered": True}, ValueError, "loads no tiles"),
    ({"drain": True}, ValueError, "leave by the columns anyway"),
    ({"dtype": "mxfp4"}, ValueError, "`dtype` must be"),
    ({"dtype": "nf4"}, ValueError, "`dtype` must be"),
    ({"dtype": "bf61"}, ValueError, "`dtype`"),
    ({"dtype": ("bf16", "int8")}, ValueError, "`dtype` must be two floats or two integers"),
    ({"accumulator": "fp61"}, ValueError, "`accumulator`"),
    ({"accumulator": lp.Pairwise()}, ValueError, "one product after the other"),
    ({"accumulator": "nvidia-hopper", "dtype": "e4m3fn"}, ValueError, "one product after the other"),
    ({"accumulator": lp.FusedTruncated(4, 13)}, ValueError, "one product after the other"),
    ({"accumulator": lp.Integer(16, "saturate", 4), "dtype": "int8"}, ValueError, "one product after the other"),
    ({"accumulator": lp.Chunked("fp16", every=3)}, ValueError, "chunks of `rows` = 2"),
    ({"accumulator": lp.Chunked("fp16", every=2), "dataflow": "os"}, ValueError, "must not be chunked"),
    ({"clock": 10**400}, ValueError, "`clock` must be a positive"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_arrays(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lp.cost.systolic(**{"rows": 2, "cols": 2, **change})


def test_clock_of_any_kind_of_number() -> None:
    peaks = [float(lp.cost.systolic(2, 2, clock=clock).peak_ops) for clock in (np.float16(512), np.int64(512), 512)]
    assert peaks == [8 * 512.0] * 3


def test_bad_sizes() -> None:
    array = lp.cost.systolic(2, 2)
    for sizes, name in (((0, 1, 1), "M"), ((1, 0, 1), "K"), ((1, 1, -4), "N"), ((1, 1, 2**41), "N")):
        with pytest.raises(ValueError, match=f"`{name}` must be from 1"):
            array.matmul(*sizes)
    with pytest.raises(TypeError, match="`K` must be an integer"):
        array.matmul(1, 2.0, 1)  # type: ignore[arg-type]
    assert array.matmul(np.int64(1), 1, 1).cycles == 5
