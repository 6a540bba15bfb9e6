"""Compilation: nothing at import, a cache that follows the sources, and no arithmetic that the text does not say."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import lowprec
from lowprec import _jit

# One call of each kind of kernel: elementwise, and a product with rounding while packing.
NUMBERS = """
import numpy as np, lowprec as lp
x = np.float32([1.00390625, -3.3, 0.1])
print(lp.round_to(x, "bf16").view(np.uint32).tolist(), lp.matmul(x[None], x[:, None], "bf16").view(np.uint32).tolist())
"""
# The first of the two compiles in a quarter of the time: enough where it matters only whether and where.
SHORT = NUMBERS.rpartition(", lp.matmul")[0] + ")\n"
# What an upgrade might bring: a helper gives other bits, and no file that calls it has changed.
EDIT = """

_before = round_word


@inline
def round_word(u, f):
    return add(_before(u, f), constant(u, 1))
"""
CONSTANT_KEY = """

def _fingerprint(hashed=""):
    return "always the same"
"""
HEAVY = ("matplotlib", "sklearn", "scipy", "rich", "tqdm", "torch", "onnx", "pandas", "hypothesis", "pytest", "jax")


def run(code: str, where: Path, **variables: str | None) -> str:
    """Run code in a fresh interpreter that sees ``where`` first, and return what it prints."""
    environment = dict(os.environ, PYTHONPATH=str(where), PYTHONDONTWRITEBYTECODE="1")
    for name, value in {"NUMBA_CACHE_DIR": str(where / "cache"), **variables}.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, cwd=where, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(directory: Path) -> dict[str, int]:
    """Return every file below a directory with its time of change."""
    return {str(p.relative_to(directory)): p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file()}


def edit(install: Path, name: str, text: str) -> None:
    path = install / "lowprec" / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """Return a directory that holds a copy of the package, as an installation of its own."""
    source = Path(lowprec.__file__).parent
    shutil.copytree(source, tmp_path / "lowprec", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_import_compiles_nothing_and_loads_nothing_heavy(install: Path) -> None:
    code = f"""
import sys
from numba.core import event
before = set(sys.modules)
with event.install_recorder("numba:compile") as recorder:
    import lowprec
print(len(recorder.buffer), [name for name in {HEAVY!r} if name in set(sys.modules) - before])
"""
    assert run(code, install) == "0 []\n"
    assert not [name for name in files(install) if name.endswith((".nbi", ".nbc"))]


def test_recorder_sees_a_compilation(install: Path) -> None:
    """The check above can fail."""
    code = f"""
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    {NUMBERS.strip().replace(chr(10), chr(10) + "    ")}
print(len(recorder.buffer) > 0)
"""
    assert run(code, install).endswith("True\n")


def test_edited_helper_reaches_its_callers(install: Path) -> None:
    old = run(NUMBERS, install)
    edit(install, "kernels/rounding.py", EDIT)
    new = run(NUMBERS, install)
    assert new != old
    text = (install / "lowprec/kernels/rounding.py").read_text(encoding="utf-8").removesuffix(EDIT)
    (install / "lowprec/kernels/rounding.py").write_text(text, encoding="utf-8")
    before = files(install / "cache")
    assert run(NUMBERS, install) == old
    assert files(install / "cache") == before, "the first sources are back, so what they compiled to serves again"


def test_constant_key_would_serve_old_numbers(install: Path) -> None:
    """The check above can fail: with a key that does not follow the sources the edit goes unseen."""
    edit(install, "_jit.py", CONSTANT_KEY)
    old = run(NUMBERS, install)
    edit(install, "kernels/rounding.py", EDIT)
    assert run(NUMBERS, install) == old


def test_key_follows_every_source_file(install: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_jit, "__file__", str(install / "lowprec" / "_jit.py"))
    first = _jit._fingerprint()
    seen = {first}
    sources = sorted((install / "lowprec").rglob("*.py"))
    for path in sources:
        text = path.read_bytes()
        path.write_bytes(text + b"#")
        seen.add(_jit._fingerprint())
        path.write_bytes(text)
    assert len(seen) == len(sources) + 1
    assert _jit._fingerprint() == first
    (install / "lowprec" / "new.py").touch()
    assert _jit._fingerprint() not in seen


def test_key_follows_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _jit._fingerprint()
    monkeypatch.setattr(_jit.numba, "__version__", "0.0.0")
    assert _jit._fingerprint() != first


def test_processes_share_the_cache(install: Path) -> None:
    first = run(SHORT, install)
    made = files(install / "cache")
    assert [name for name in made if name.endswith(".nbc")]
    assert run(SHORT, install) == first
    assert files(install / "cache") == made


def test_two_cold_processes_at_once(install: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=str(install), NUMBA_CACHE_DIR=str(install / "cache"))
    command = [sys.executable, "-W", "error", "-c", SHORT]
    both = [
        subprocess.Popen(command, env=environment, cwd=install, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = {process.communicate(timeout=300)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert answers == {run(SHORT, install)}


def test_cache_variable_is_honoured(install: Path) -> None:
    run(SHORT, install, NUMBA_CACHE_DIR=str(install / "elsewhere"))
    assert files(install / "elsewhere")
    assert not (install / "cache").exists()


def test_installation_is_not_written_to(install: Path) -> None:
    """So a read-only one serves as well."""
    before = files(install / "lowprec")
    answer = run(SHORT, install)
    for path in [*(install / "lowprec").rglob("*"), install / "lowprec"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        shutil.rmtree(install / "cache")
        assert run(SHORT, install) == answer
        assert files(install / "lowprec") == before
    finally:
        for path in [install / "lowprec", *(install / "lowprec").rglob("*")]:
            path.chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="HOME says where the cache lies on POSIX systems only")
def test_home_that_cannot_be_written(install: Path) -> None:
    nowhere = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": None}
    (install / "temporary").mkdir()
    answer = run(SHORT, install, TMPDIR=str(install / "temporary"), **nowhere)
    assert answer == run(SHORT, install)
    assert [name for name in files(install / "temporary") if name.endswith(".nbc")]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="/dev/null is not there")
def test_no_place_for_a_cache(install: Path) -> None:
    assert run(SHORT, install, NUMBA_CACHE_DIR="/dev/null/cache") == run(SHORT, install)


def test_stale_directories_go(tmp_path: Path) -> None:
    this, recent, stale = (digit * 20 for digit in "0a1")
    ages = {this: 90, recent: 1, stale: 90, "models": 90, "studies": 90}
    for name, days in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "kernel.nbc").touch()
        then = time.time() - days * 86400
        os.utime(tmp_path / name, (then, then))
    _jit._forget_stale(tmp_path, tmp_path / this)
    assert {p.name for p in tmp_path.iterdir()} == {this, recent, "models", "studies"}, "what is not ours stays"


def test_no_contraction(install: Path) -> None:
    """A product and a sum stay two operations, unless a kernel asks for the fused one by name."""
    code = """
import pathlib, sys
pathlib.Path("plain.py").write_text('''
from lowprec._jit import njit

@njit()
def plain(a, b, c):
    return a * b + c

@njit(fastmath={"contract"})
def contracted(a, b, c):
    return a * b + c
''')
sys.path.insert(0, "")
from plain import plain, contracted
x = 1.0 + 2.0**-30
print(plain(x, x, -1.0 - 2.0**-29), contracted(x, x, -1.0 - 2.0**-29) in (0.0, 2.0**-60))
for kernel in plain, contracted:
    text = next(iter(kernel.inspect_asm().values()))
    print("fma" in text or "fmadd" in text)
"""
    value, plain, contracted = run(code, install).splitlines()
    assert value == "0.0 True"
    assert plain == "False"
    if "fma" in str(llvm.get_host_cpu_features().flatten()):
        assert contracted == "True", "the check above cannot fail"


def kernels() -> dict[str, Dispatcher]:
    found = {}
    for info in pkgutil.walk_packages(lowprec.__path__, "lowprec."):
        if info.name.startswith(("lowprec.study", "lowprec.torch")) or info.name.endswith("cli"):  # extras; no kernels
            continue
        module = importlib.import_module(info.name)
        found |= {f"{info.name}.{n}": f for n, f in vars(module).items() if isinstance(f, Dispatcher)}
    return found


def test_every_kernel_has_the_packages_options() -> None:
    compiled = kernels()
    assert compiled
    for name, kernel in compiled.items():
        options = kernel.targetoptions
        assert not options.get("fastmath"), name
        assert not options.get("parallel"), name
        assert options["error_model"] == "numpy", name
        assert options["nogil"], name


def test_subnormals_survive_in_kernels() -> None:
    """Some libraries leave the CPU flushing subnormals; the kernels must not be read as if it did."""
    tiny = np.float32(2.0**-140)
    assert lowprec.round_to(np.array([tiny]), "fp32")[0] == tiny
    assert lowprec.matmul(np.array([[tiny]]), np.ones((1, 1), np.float32), "fp32")[0, 0] == tiny
