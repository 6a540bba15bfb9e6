"""The same bits for any number of threads, from any thread and process; no abort, no deadlock, Ctrl-C gets through."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fma_oracle import ORACLE, assert_same_bits
from operands import operands

import lowprec as lp

TIMEOUT = 120.0  # a deadlock, not slowness, takes longer: each script needs seconds
HERE = Path(__file__).resolve().parent
PREAMBLE = """
import os, sys, signal, threading, time
import numpy as np
import lowprec as lp
from operands import operands

def bits(x):
    return np.ascontiguousarray(x).view(np.uint32)

def same(x, y):
    return x.shape == y.shape and bool((bits(x) == bits(y)).all())

PAIRS = [operands("normal", m, k, n, seed) for seed, (m, k, n) in
         enumerate([(300, 257, 290), (33, 1000, 400), (64, 64, 64), (5, 3, 7), (257, 90, 513), (1, 5000, 900)])]
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def start(script: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python on a script, in its own process group, with the package and the tests' helpers importable."""
    path = [str(HERE), str(Path(lp.__file__).resolve().parents[1])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = TIMEOUT) -> str:
    """Return all output of a process that must end by itself, in time, with status 0 and the last word ``ok``."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"no end after {timeout} s; output: {output}") from None
    assert process.returncode == 0, f"status {process.returncode}; output: {output}"
    assert output.rstrip().endswith("ok"), output
    return output


@pytest.fixture(autouse=True)
def _thread_count() -> Iterator[None]:
    before = lp.get_num_threads()
    yield
    lp.set_num_threads(before)


# ------------------------------------------------------------------------------------------------ number of threads
SHAPES = [
    ((311, 300), (300, 509)),  # several tiles each way
    ((1, 3000), (3000, 2000)),  # one row
    ((2000, 1500), (1500, 3)),  # a few columns
    ((3, 40000), (40000, 50)),  # a long sum
    ((64, 65, 66), (64, 66, 67)),  # many small products
    ((3, 200, 100), (100, 333)),  # one matrix for a batch
    ((200, 100), (7, 100, 333)),
    ((2, 1, 90, 80), (5, 80, 190)),
]


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_thread_count_never_changes_bits(first: tuple[int, ...], second: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.float32(rng.standard_normal(shape)) for shape in (first, second))
    lp.set_num_threads(1)
    want = lp.matmul(a, b, dtype)
    if a.shape[-1] < 5000:  # the bits are right, not only the same
        rows = slice(None, None, max(1, a.shape[-2] // 5))
        columns = slice(None, None, max(1, b.shape[-1] // 23))
        assert_same_bits(want[..., rows, columns], ORACLE.matmul(a[..., rows, :], b[..., columns], dtype))
    for threads in (2, 3, 8):
        lp.set_num_threads(threads)
        assert lp.get_num_threads() == threads
        assert_same_bits(lp.matmul(a, b, dtype), want, f"{threads} threads")


@pytest.mark.parametrize(
    "keywords", [{"accumulator": "fp64"}, {"rounding": "stochastic", "rng": 5}, {"out_dtype": "bf16"}]
)
def test_thread_count_never_changes_bits_in_other_paths(keywords: dict[str, object]) -> None:
    a, b = operands("cancelling", 250, 260, 270)
    bias = np.arange(270, dtype=np.float32)
    results = []
    for threads in (1, 2, 3, 8):
        lp.set_num_threads(threads)
        results.append(
            (
                lp.matmul(a, b, "e4m3fn", **keywords),
                lp.vecdot(a, b.T[:250], "e4m3fn", **keywords),
                lp.linear(a, b.T, bias, "e4m3fn", **keywords),
            )
        )
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            assert_same_bits(got, want)


def test_any_split_of_a_batch() -> None:
    a, b = np.float32(np.random.default_rng(1).standard_normal((2, 24, 70, 70)))
    lp.set_num_threads(3)
    whole = lp.matmul(a, b, "bf16")
    for size in (1, 5, 23):
        parts = [lp.matmul(a[i : i + size], b[i : i + size], "bf16") for i in range(0, 24, size)]
        assert_same_bits(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("n", "kind"),
    [(0, ValueError), (-1, ValueError), (10**6, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError)],
)
def test_bad_thread_counts_change_nothing(n: object, kind: type[Exception]) -> None:
    lp.set_num_threads(3)
    with pytest.raises(kind, match=r"`n` must .*got"):
        lp.set_num_threads(n)
    assert lp.get_num_threads() == 3


def test_thread_count_takes_numpy_integers() -> None:
    lp.set_num_threads(np.int64(2))
    assert lp.get_num_threads() == 2


# ---------------------------------------------------------------------------------------------------- many threads
def test_eight_python_threads_at_once() -> None:
    """In a fresh process, so that the first calls, compile or cache load included, come from all threads at once."""
    script = """
    barrier, found, errors = threading.Barrier(8), {}, []

    def work(i):
        try:
            barrier.wait()
            found[i] = [lp.matmul(*PAIRS[(i + j) % len(PAIRS)], "bf16") for j in range(12)]
        except BaseException as error:
            errors.append(error)

    for count in (2, 1, 8):
        lp.set_num_threads(count)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert not errors, errors
        want = [lp.matmul(*pair, "bf16") for pair in PAIRS]
        for i in range(8):
            assert all(same(r, want[(i + j) % len(PAIRS)]) for j, r in enumerate(found[i]))
    print("ok")
    """
    finish(start(script))


def test_thread_count_changes_while_others_work() -> None:
    script = """
    want = [lp.matmul(*pair, "e4m3fn") for pair in PAIRS]
    stop, wrong = time.monotonic() + 2, []

    def work():
        while time.monotonic() < stop:
            wrong.extend(i for i, pair in enumerate(PAIRS) if not same(lp.matmul(*pair, "e4m3fn"), want[i]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    while time.monotonic() < stop:
        for n in (1, 2, 5, 3, 16):
            lp.set_num_threads(n)
    [t.join() for t in threads]
    assert not wrong, wrong
    print("ok")
    """
    finish(start(script))


def test_call_while_the_interpreter_ends() -> None:
    """A product in an atexit function, when pools can start no more threads."""
    script = """
    import atexit
    lp.set_num_threads(4)
    want = lp.matmul(*PAIRS[0], "bf16")

    def last():
        assert same(lp.matmul(*PAIRS[0], "bf16"), want)
        print("ok")

    atexit.register(last)
    """
    finish(start(script))


# ------------------------------------------------------------------------------------------------------- processes
def test_heap_is_left_alone() -> None:
    """Under glibc's checking allocator: a buffer freed too soon, or overrun, aborts or shows in the bits."""
    try:
        ctypes.CDLL("libc_malloc_debug.so.0")
    except OSError:
        pytest.skip("the C library has no libc_malloc_debug.so.0")
    script = """
    for n in (1, 4):
        lp.set_num_threads(n)
        for a, b in PAIRS:
            want = lp.matmul(a, b, "bf16")
            batch = lp.matmul(np.stack([a[:9, :50]] * 4), b[:50, :60], "e4m3fn")
            wide = lp.matmul(a[:9, :50], b[:50, :60], "bf16", accumulator="fp64")
            for _ in range(5):
                x = [np.empty(8 * i, np.uint8) for i in range(1, 200)]
                assert same(lp.matmul(a, b, "bf16"), want)
                assert same(lp.matmul(np.stack([a[:9, :50]] * 4), b[:50, :60], "e4m3fn"), batch)
                assert (lp.matmul(a[:9, :50], b[:50, :60], "bf16", accumulator="fp64") == wide).all()
                lp.linear(a[:9], b.T[:50], np.ones(min(50, b.shape[1]), np.float32), "bf16")
                lp.vecdot(a[:9], a[:9], "bf16")
    print("ok")
    """
    finish(start(script, LD_PRELOAD="libc_malloc_debug.so.0", GLIBC_TUNABLES="glibc.malloc.check=3"))


@needs_fork
def test_fork() -> None:
    """The child computes, forks again, exits 0; the parent goes on. The pool's threads exist in the parent only."""
    script = """
    lp.set_num_threads(4)
    want = [lp.matmul(*pair, "bf16") for pair in PAIRS]

    def right():
        return all(same(lp.matmul(*pair, "bf16"), w) for pair, w in zip(PAIRS, want))

    for turn in range(3):
        child = os.fork()
        if child == 0:
            code = 0 if right() else 3
            grandchild = os.fork()
            if grandchild == 0:
                lp.set_num_threads(3)
                os._exit(0 if right() else 4)
            _, status = os.waitpid(grandchild, 0)
            os._exit(code or os.waitstatus_to_exitcode(status))
        assert right()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
        assert right()
    print("ok")
    """
    finish(start(script))


@needs_fork
def test_fork_before_the_first_product() -> None:
    script = """
    child = os.fork()
    got = lp.matmul(*PAIRS[0], "bf16")
    lp.set_num_threads(1)
    good = same(got, lp.matmul(*PAIRS[0], "bf16"))
    if child == 0:
        os._exit(0 if good else 3)
    _, status = os.waitpid(child, 0)
    assert good and os.waitstatus_to_exitcode(status) == 0, status
    print("ok")
    """
    finish(start(script))


@needs_fork
def test_fork_while_another_thread_multiplies() -> None:
    """The fork happens in the middle of a product, while locks may be held."""
    script = """
    lp.set_num_threads(4)
    want = [lp.matmul(*pair, "bf16") for pair in PAIRS]
    stop = threading.Event()

    def work():
        while not stop.is_set():
            lp.matmul(*PAIRS[0], "bf16")
            lp.matmul(*PAIRS[4], "bf16")

    threads = [threading.Thread(target=work) for _ in range(2)]
    [t.start() for t in threads]
    for turn in range(15):
        time.sleep(0.01)
        child = os.fork()
        if child == 0:
            os._exit(0 if all(same(lp.matmul(*p, "bf16"), w) for p, w in zip(PAIRS, want)) else 3)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status
    stop.set()
    [t.join() for t in threads]
    print("ok")
    """
    finish(start(script))


POOL = """
import concurrent.futures, multiprocessing
if __name__ == "__main__":
    lp.set_num_threads(4)
    want = [lp.matmul(*pair, "bf16") for pair in PAIRS]
    context = multiprocessing.get_context("{method}")
    {pool}
    assert all(same(r, w) for r, w in zip(got, want * 2, strict=True))
    assert all(same(lp.matmul(*pair, "bf16"), w) for pair, w in zip(PAIRS, want))
    print("ok")
"""
EXECUTOR = """
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(lp.matmul, *pair, "bf16") for pair in PAIRS * 2]
        got = [future.result() for future in futures]
"""
WORKERS = """
    with context.Pool(2) as pool:
        got = pool.starmap(lp.matmul, [(*pair, "bf16") for pair in PAIRS * 2])
"""


@pytest.mark.parametrize("pool", [EXECUTOR, WORKERS], ids=["ProcessPoolExecutor", "Pool"])
@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_process_pools(method: str, pool: str) -> None:
    finish(start(POOL.format(method=method, pool=pool)))


# ---------------------------------------------------------------------------------------------------------- Ctrl-C
INTERRUPT = """
signal.signal(signal.SIGINT, signal.default_int_handler)
lp.set_num_threads({threads})
want = [lp.matmul(*pair, "bf16") for pair in PAIRS]
rng = np.random.default_rng(0)
k = 1 << 14  # half a tera-operation in one call, without the memory: every row and column is the same
a = np.broadcast_to(np.float32(rng.standard_normal(k)), (4096, k))
b = np.broadcast_to(np.float32(rng.standard_normal((k, 1))), (k, 4096))
print("go", flush=True)
try:
    while True:
        lp.matmul(a, b, "bf16")
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert all(same(lp.matmul(*pair, "bf16"), w) for pair, w in zip(PAIRS, want))
print("ok")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process")
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c(threads: int) -> None:
    """KeyboardInterrupt within a second or at the end of the call; the next product is right."""
    process = start(INTERRUPT.format(threads=threads))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "go\n"
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        output = finish(process, 60)
        assert output.startswith("interrupted"), output
        assert time.monotonic() - sent < 30
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_many_interrupts_leave_memory_alone() -> None:
    """Interrupts at every stage of a call; a helper thread that went on writing would corrupt what comes next."""
    script = """
    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    lp.set_num_threads(6)
    want = [lp.matmul(*pair, "bf16") for pair in PAIRS]
    rng, caught, end = np.random.default_rng(0), 0, time.monotonic() + 3
    while time.monotonic() < end:
        for i, pair in enumerate(PAIRS):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 10.0 ** rng.uniform(-5, -2.7))
                    lp.matmul(*pair, "bf16")
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                caught += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert same(lp.matmul(*pair, "bf16"), want[i])
    assert caught > 20, caught
    print("ok")
    """
    finish(start(script), 40)
