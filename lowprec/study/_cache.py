"""What studies have measured, kept on disk by content: a stopped study goes on, a changed library starts anew."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lowprec import _jit
from lowprec._directories import cache_home, make_directory, write_file
from lowprec.formats import stored_format

_STALE_AFTER_DAYS = 30.0
_PACKAGES = ("numpy", "ml_dtypes", "numba", "llvmlite", "scipy")


class Identity(NamedTuple):
    """What decides a number beside the workload and the arithmetic: the software, and the CPU.

    Parameters
    ----------
    software : str
        Hash of the package's sources and data, and the versions of Python and of what it computes with, as text.
    cpu : str
        The CPU's name and a hash of its features, as text: NumPy chooses its exponential by them.
    """

    software: str
    cpu: str

    @property
    def digest(self) -> str:
        """Twenty hexadecimal digits that stand for both."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()[:20]


@cache
def identity() -> Identity:
    """Return the identity of this process.

    Returns
    -------
    Identity
        Of the sources as they were imported: an edit made later does not label old numbers as new.

    Raises
    ------
    Nothing.
    """
    digest = hashlib.sha256(_jit.sources().encode())
    data = Path(__file__).resolve().parent / "data"
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        digest.update(path.relative_to(data).as_posix().encode())
        digest.update(path.read_bytes())
    versions = []
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # scipy may be missing
            versions.append(f"{name} {importlib.metadata.version(name)}")
    software = [f"sources {digest.hexdigest()[:16]}", f"Python {platform.python_version()}", sys.platform, *versions]
    name, features = _jit.cpu()
    switched_off = os.environ.get("NPY_DISABLE_CPU_FEATURES", "")
    told = hashlib.sha256(f"{features} {switched_off}".encode()).hexdigest()[:8]
    return Identity(", ".join(software), f"{platform.machine()} {name} {told}")


def plain(value: Any) -> Any:
    """Return data as JSON holds it, so that what is fresh equals what was kept.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, NumPy scalars and arrays, lists, tuples and dicts of them with names as keys.

    Returns
    -------
    object
        None, bool, int, float, str, list or dict; floats with every bit, every NaN the same.

    Raises
    ------
    TypeError
        If something else is in it.

    Examples
    --------
    >>> import numpy as np
    >>> from lowprec.study._cache import plain
    >>> plain({"loss": np.float32(0.1), "curve": np.arange(2)})
    {'loss': 0.10000000149011612, 'curve': [0, 1]}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.ndarray):
        return plain(value.tolist() if stored_format(value.dtype) is None else value.astype(np.float64).tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)) or (
        isinstance(value, np.generic) and stored_format(value.dtype) is not None
    ):
        number = float(value)
        return math.nan if math.isnan(number) else number
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        if wrong := [name for name in value if not isinstance(name, str)]:
            msg = f"a dict must have names as keys, got {wrong[0]!r} of type {type(wrong[0]).__name__}."
            raise TypeError(msg)
        return {name: plain(each) for name, each in value.items()}
    msg = f"numbers, text, lists and dicts can be kept, got {type(value).__name__}."
    raise TypeError(msg)


class StudyCache:
    """Entries in a directory, one file each, read and written by any number of processes at once.

    Parameters
    ----------
    directory : pathlib.Path
        Made if it is not there, and tried.

    Raises
    ------
    OSError
        If it cannot be written; the message says what to do.
    """

    def __init__(self, directory: Path) -> None:
        try:
            make_directory(directory)
        except OSError as error:
            msg = f"{str(error).removesuffix('.')}; or compute without a cache: cache=False (`--no-cache`)."
            raise type(error)(msg) from None
        self.directory = directory

    def _path(self, who: Identity, key: str) -> Path:
        """Return the file of an entry."""
        return self.directory / who.digest / key[:2] / f"{key}.json"

    def get(self, who: Identity, key: str) -> dict[str, Any] | None:
        """Return what was kept, or None where there is nothing, or nothing that is whole.

        Parameters
        ----------
        who : Identity
            Of the process that computed it.
        key : str
            Of the entry.

        Returns
        -------
        dict or None
            As `plain` gave it.

        Raises
        ------
        Nothing.
        """
        try:
            content = json.loads(self._path(who, key).read_bytes())
            value = content["value"]
            return value if isinstance(value, dict) and content["check"] == _check(key, value) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, who: Identity, key: str, value: Mapping[str, Any], about: Mapping[str, str]) -> None:
        """Keep something: the whole file, or none of it.

        Parameters
        ----------
        who : Identity
            Of the process that computed it.
        key : str
            Of the entry.
        value : mapping
            As `plain` gave it.
        about : mapping
            For people who look into the file.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        content = {"about": dict(about), "value": value, "check": _check(key, value)}
        path = self._path(who, key)
        new = not path.parent.parent.exists()
        write_file(path, json.dumps(content, indent=1).encode())
        if new:
            self._forget_stale(path.parent.parent)

    def _forget_stale(self, keep: Path) -> None:
        """Delete what other versions of the library measured, if nobody has touched it for a month."""
        for old in self.directory.iterdir():
            with contextlib.suppress(OSError):
                last = max(path.stat().st_mtime for path in (old, *old.iterdir()))
                if old != keep and _is_ours(old) and time.time() - last > _STALE_AFTER_DAYS * 86400:
                    shutil.rmtree(old, ignore_errors=True)


def _check(key: str, value: Any) -> str:
    """Return a checksum of an entry, which says that it is whole and that it is this one."""
    return hashlib.sha256(f"{key} {json.dumps(value)}".encode()).hexdigest()


def _is_ours(directory: Path) -> bool:
    """Say whether a directory is one of those that `Identity.digest` names."""
    name = directory.name
    return (
        len(name) == 20 and set(name) <= set("0123456789abcdef") and directory.is_dir() and not directory.is_symlink()
    )


def open_cache(cache: bool | str | os.PathLike[str]) -> StudyCache | None:
    """Return the cache that an argument means.

    Parameters
    ----------
    cache : bool or path
        True: the user's own directory; False: none; or a directory.

    Returns
    -------
    StudyCache or None
        Which can be written.

    Raises
    ------
    TypeError
        If it is of another kind.
    OSError
        If the directory cannot be written.
    """
    return None if cache is False else StudyCache(_directory(cache))


def _directory(cache: Any) -> Path:
    """Return the directory that an argument means."""
    if cache is True or cache is None:
        return cache_home() / "studies"
    if not isinstance(cache, (str, os.PathLike)) or not os.fspath(cache):
        msg = f"`cache` must be True, False or a path, got {cache!r} of type {type(cache).__name__}."
        raise TypeError(msg)
    return Path(os.fspath(cache)).expanduser()


class CacheInfo(NamedTuple):
    """What a cache of studies holds: where it is, the number of its entries, its size, and how much is of today's use.

    Parameters
    ----------
    directory : pathlib.Path
        Where it is.
    entries : int
        Parts of studies.
    size_bytes : int
        Of all files.
    current : int
        Entries of this version of the library on this CPU; the others are of no use to it.
    """

    directory: Path
    entries: int
    size_bytes: int
    current: int


def cache_info(cache: str | os.PathLike[str] | None = None) -> CacheInfo:
    """Return what a cache of studies holds.

    Parameters
    ----------
    cache : path, optional
        Its directory; the user's own if not given.

    Returns
    -------
    CacheInfo
        All zero where there is none.

    Raises
    ------
    TypeError
        If `cache` is no path.

    Examples
    --------
    >>> from lowprec.study._cache import cache_info
    >>> cache_info("/nowhere").entries
    0
    """
    directory = _directory(cache)
    own = identity().digest
    files = [(old.name, path) for old in _versions(directory) for path in old.glob("*/*.json")]
    size = 0
    for _, path in files:
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return CacheInfo(directory, len(files), size, sum(name == own for name, _ in files))


def clear_cache(cache: str | os.PathLike[str] | None = None) -> int:
    """Delete what a cache of studies holds, and nothing else that lies beside it.

    Parameters
    ----------
    cache : path, optional
        Its directory; the user's own if not given.

    Returns
    -------
    int
        Number of entries that are gone.

    Raises
    ------
    TypeError
        If `cache` is no path.
    OSError
        If something cannot be deleted.
    """
    directory = _directory(cache)
    gone = cache_info(directory).entries
    for old in _versions(directory):
        # Under another name first: what a study that runs now writes goes to a new directory, not into one half gone.
        doomed = Path(tempfile.mkdtemp(dir=directory, prefix=".gone-"))
        shutil.rmtree(old.replace(doomed / old.name).parent)
    return gone


def _versions(directory: Path) -> Iterator[Path]:
    """Yield the directories of all versions."""
    if directory.is_dir():
        yield from sorted(path for path in directory.iterdir() if _is_ours(path))
