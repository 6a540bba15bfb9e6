"""The only place that compiles: Numba's `njit` and `cfunc` with this package's options and a cache that cannot lie.

Numba keys a cached function by the file that holds it, so after an upgrade a kernel would go on calling the old
arithmetic of another file. Here the cache lies in a directory whose name is a hash of every source file of the
package and of the compiler's identity: other sources, other directory.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba

_STALE_AFTER_DAYS = 30.0
# No fast-math and no contraction: a sum is what its text says. NumPy's error model: x / 0 is inf, not an exception.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "fastmath": False, "boundscheck": False}


def _hash_sources() -> str:
    """Hash the package's sources as they lie on disk now."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def sources() -> str:
    """Return the hash of the package's sources, as they were when its first kernel was imported.

    Returns
    -------
    str
        Hexadecimal SHA-256 of every ``.py`` file with its name.

    Raises
    ------
    Nothing.
    """
    return _hash_sources()


def cpu() -> tuple[str, str]:
    """Return name and features of the CPU that kernels are compiled for, in LLVM's words.

    Returns
    -------
    tuple of str
        For example ``"znver3"`` and ``"+avx2,+fma,..."``.

    Raises
    ------
    Nothing.
    """
    return (
        numba.config.CPU_NAME or llvm.get_host_cpu_name(),
        numba.config.CPU_FEATURES or llvm.get_host_cpu_features().flatten(),
    )


def _fingerprint(hashed: str = "") -> str:
    """Hash the package's sources with the identity of Python, Numba, LLVM and the CPU."""
    compilers = (sys.version, platform.machine(), numba.__version__, llvmlite.__version__)
    identity = (hashed or _hash_sources(), *compilers, *cpu())
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:20]


def _home() -> Path:
    """Return the home directory, or a place that does not exist where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def _roots() -> list[Path]:
    """List where the cache may lie, best first."""
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR)]
    found = []
    if os.environ.get("XDG_CACHE_HOME"):
        found.append(Path(os.environ["XDG_CACHE_HOME"]))
    elif sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        found.append(Path(os.environ["LOCALAPPDATA"]))
    else:
        found.append(_home() / ("Library/Caches" if sys.platform == "darwin" else ".cache"))
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return [*found, Path(tempfile.gettempdir()) / f"lowprec-{user}"]


def _own(directory: Path) -> bool:
    """Say whether a directory belongs to this user, where the system knows users."""
    return not hasattr(os, "getuid") or directory.stat().st_uid == os.getuid()


def _usable(directory: Path) -> bool:
    """Make the directory and say whether this user can write to it, and owns it and the one above.

    Compiled kernels are code: what another user could have put there is not loaded.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory):
            pass
        return _own(directory) and _own(directory.parent)
    except OSError:
        return False


def _forget_stale(parent: Path, keep: Path) -> None:
    """Delete the directories of other versions that nobody has used for a month, and nothing that lies beside them."""
    for old in parent.iterdir():
        try:
            ours = re.fullmatch("[0-9a-f]{20}", old.name)
            if ours and old != keep and time.time() - old.stat().st_mtime > _STALE_AFTER_DAYS * 86400:
                shutil.rmtree(old, ignore_errors=True)
        except OSError:
            continue


@cache
def cpu_features() -> frozenset[str]:
    """Return what the CPU that kernels are compiled for can do, in LLVM's words.

    Returns
    -------
    frozenset of str
        For example ``avx2`` and ``fma``.

    Raises
    ------
    Nothing.
    """
    if numba.config.CPU_NAME:
        named = (numba.config.CPU_FEATURES or "").split(",")
        return frozenset(name[1:] for name in named if name.startswith("+"))
    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def cache_directory() -> Path | None:
    """Return the directory of compiled kernels for exactly these sources, or None where nothing can be written.

    Returns
    -------
    pathlib.Path or None
        ``$NUMBA_CACHE_DIR/lowprec/<hash>`` if that variable is set, else below the user's cache directory, else below
        the temporary directory.

    Raises
    ------
    Nothing.
    """
    name = _fingerprint(sources())
    for root in _roots():
        directory = root / "lowprec" / name
        if root.parent == Path(tempfile.gettempdir()) and root.exists() and not _own(root):
            continue  # another user has made it
        new = not directory.exists()
        if _usable(directory):  # which also marks it as used today
            if new:
                _forget_stale(directory.parent, directory)
            return directory
    return None


def _compile_with(decorator: Callable[..., Any], *args: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Apply a Numba decorator while its cache points at our directory (Numba fixes the place at decoration)."""

    def wrap(function: Callable[..., Any]) -> Any:
        directory = cache_directory()
        saved, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(directory or "")
        try:
            return decorator(*args, cache=directory is not None, **{**_OPTIONS, **options})(function)
        finally:
            numba.config.CACHE_DIR = saved

    return wrap


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile on first call, cached on disk.

    Parameters
    ----------
    **options
        Passed to `numba.njit` on top of the package's own.

    Returns
    -------
    callable
        A decorator.

    Raises
    ------
    Nothing.
    """
    return _compile_with(numba.njit, **options)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a helper that only other kernels call, inlined into them by LLVM.

    Parameters
    ----------
    function : callable
        The helper.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        Never called from Python, so never cached by itself.

    Raises
    ------
    Nothing.
    """
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def address(function: Callable[..., Any], signature: str) -> int:
    """Compile a kernel now and return the address of its C entry point.

    Parameters
    ----------
    function : callable
        A module-level function.
    signature : str
        Numba signature of its C arguments.

    Returns
    -------
    int
        Valid as long as the process lives, in forked children too.

    Raises
    ------
    Nothing.
    """
    compiled = _compiled(function, signature)
    return int(compiled.address)


@cache
def _compiled(function: Callable[..., Any], signature: str) -> Any:
    """Keep compiled C entry points alive."""
    directory = cache_directory()
    saved, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(directory or "")
    try:
        return numba.cfunc(signature, cache=directory is not None, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = saved
