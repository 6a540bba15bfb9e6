"""What every test file shares: the header, hypothesis profiles, the seeded generator."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from lowprec._directories import VARIABLE, cache_home

SEED = 20250611

# The same examples on every run; the nightly profile looks further.
settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what studies measure apart from the user's own, which neither helps a test nor is spoilt by one."""
    found = cache_home() / "models"
    directory = tmp_path_factory.mktemp("cache")
    if found.is_dir():
        (directory / "models").symlink_to(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(directory))
        yield directory


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def _cpu() -> str:
    """Return the processor's name as Linux gives it, else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def pytest_report_header() -> list[str]:
    packages = ("numpy", "numba", "ml_dtypes", "gfloat", "hypothesis", "torch")
    return [
        "lowprec: " + ", ".join(map(_version, packages)),
        f"lowprec: {_cpu()}, {os.cpu_count()} CPUs, LOWPREC_SHARED={os.environ.get('LOWPREC_SHARED', 'unset')}",
    ]


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator that starts the same in every test."""
    return np.random.default_rng(SEED)
