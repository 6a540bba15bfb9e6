"""Memory: packed operands live while they are read, and a product takes little beyond its operands and result."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import lowprec as lp


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_packed_operands_live_as_long_as_they_are_read(threads: int) -> None:
    """Once they were freed before the product began: wrong numbers, or a crash, where memory came from the system."""
    rng = np.random.default_rng(3)
    a, b = (np.float32(rng.standard_normal((1100, 1100))) for _ in range(2))
    rows, columns = rng.integers(0, 1100, (2, 500))
    want = lp.vecdot(a[rows], b.T[columns], "bf16")
    before = lp.get_num_threads()
    try:
        lp.set_num_threads(threads)
        for _ in range(6):
            np.testing.assert_array_equal(lp.matmul(a, b, "bf16")[rows, columns], want)
            np.full(1 << 21, np.nan)  # overwrites what was freed
    finally:
        lp.set_num_threads(before)


PEAK = """
    import sys
    import numpy as np
    import lowprec as lp

    def status(name):
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

    m, k, n = map(int, sys.argv[1:4])
    dtype, out_dtype, transposed = sys.argv[4], sys.argv[5] if sys.argv[5] != "-" else None, sys.argv[6] == "T"
    accumulator = sys.argv[7] if sys.argv[7:] else None
    warm = np.ones((300, 300), np.float32)
    lp.matmul(warm, warm, dtype, out_dtype=out_dtype, accumulator=accumulator)
    a = np.ones((m, k), np.float32)
    b = np.ones((n, k), np.float32).T if transposed else np.ones((k, n), np.float32)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak so far, that of the compiler
    except OSError:
        print("no peak")
        sys.exit()
    before = status("VmRSS")
    result = lp.matmul(a, b, dtype, out_dtype=out_dtype, accumulator=accumulator)
    assert float(result[0, 0]) == k, result[0, 0]
    print(status("VmHWM") - before - result.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ("3000", "4096", "4000", "bf16", "-", "-"),
        ("64", "32768", "2048", "bf16", "-", "T"),
        ("5000", "128", "5000", "fp16", "fp32", "-"),
        ("6000", "128", "4000", "fp16", "bf16", "-"),
        ("256", "4096", "4000", "bf16", "-", "-", "nvidia-hopper"),
        ("64", "32768", "2048", "bf16", "-", "T", "exact"),
        ("2000", "64", "3000", "fp16", "fp16", "-", "amd-cdna3"),
    ],
    ids=" ".join,
)
def test_a_product_takes_at_most_64_megabytes_more(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PEAK), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    if "no peak" in done.stdout:
        pytest.skip("this system does not let a process reset its peak memory")
    assert int(done.stdout) <= 64 * 2**20, f"{int(done.stdout) / 2**20:.1f} MiB"
