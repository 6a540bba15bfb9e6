"""The same bits from every vector width and from the plain fallback, each forced in a process of its own."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from fma_oracle import ORACLE
from operands import KINDS, operands

import lowprec as lp

HERE = Path(__file__).resolve().parent
FEATURES = llvm.get_host_cpu_features()
HAS_FMA = bool(FEATURES.get("fma")) or platform.machine().lower() in ("arm64", "aarch64")
CAN = {
    "16": bool(FEATURES.get("avx512f")),
    "8": bool(FEATURES.get("avx2")) and bool(FEATURES.get("fma")),
    "4": HAS_FMA,
    "plain": True,
}


def products(mm: Callable[..., Any]) -> Iterator[np.ndarray]:
    """Yield results that pass through every kernel: kinds of operands, formats, remainders, starts, batches."""
    for seed, kind in enumerate(KINDS):
        a, b = operands(kind, 13, 67, 101, seed)
        yield mm(a, b, "bf16")
        yield mm(a, b)
        yield mm(a, b, ("e4m3fn", "fp16"), c=np.float32(-0.0))
    for m, k, n in ((1, 300, 97), (9, 1, 49), (8, 257, 48), (25, 515, 17), (6, 0, 5), (50, 40, 3)):
        a, b = operands("normal", m, k, n)
        yield mm(a, b, "tf32")
        yield mm(a.astype(np.float64) / 3, b.astype(np.float64) / 7, "e2m1fn")
        yield mm(a, b, "fp16", out_dtype="bf16")
    a, b = operands("normal", 7, 33, 19)
    yield mm(a, b, accumulator="fp64")
    yield mm(a.astype(np.float64) / 3, b.astype(np.float64) / 7)
    yield mm(np.stack([a, -a, a + 1]), b, "e5m2")
    yield mm(np.asfortranarray(a), b[::-1, ::-1], "bf16", rounding="stochastic", rng=3)


def digest(mm: Callable[..., Any]) -> str:
    """Hash dtype, shape and bytes of all results."""
    hashed = hashlib.sha256()
    for x in products(mm):
        hashed.update(f"{x.dtype} {x.shape}".encode())
        hashed.update(np.ascontiguousarray(x).tobytes())
    return hashed.hexdigest()


@pytest.fixture(scope="module")
def want() -> str:
    """Return the hash of what the oracle says."""
    return digest(ORACLE.matmul)


def in_a_process(**environment: str) -> str:
    """Return the hash that a fresh process with these environment variables prints."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("LOWPREC_LANES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    }
    path = os.pathsep.join([str(HERE), str(Path(lp.__file__).resolve().parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", "import lowprec as lp, test_variants; print(test_variants.digest(lp.matmul))"],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def test_this_process(want: str) -> None:
    assert digest(lp.matmul) == want


def test_hash_can_differ(want: str) -> None:
    """One bit in one result of many is seen."""

    def off(*args: Any, **keywords: Any) -> Any:
        r = ORACLE.matmul(*args, **keywords)
        if keywords.get("accumulator") == "fp64":
            r[0, 0] = np.nextafter(r[0, 0], 0)
        return r

    assert digest(off) != want


@pytest.mark.parametrize("lanes", CAN)
def test_every_variant(lanes: str, want: str) -> None:
    if not CAN[lanes]:
        pytest.skip(f"this CPU ({llvm.get_host_cpu_name()}) cannot run the variant of {lanes} lanes")
    assert in_a_process(LOWPREC_LANES=lanes) == want


def test_unknown_variant() -> None:
    """The variable is read: another value is refused."""
    with pytest.raises(RuntimeError, match=r"ValueError: .*LOWPREC_LANES.*must be.*got '3'"):
        in_a_process(LOWPREC_LANES="3")


def test_generic_cpu(want: str) -> None:
    """Code compiled for the oldest CPU of this architecture, without FMA instructions on x86."""
    assert in_a_process(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == want
