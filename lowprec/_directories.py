"""Where the library keeps what it downloads and what it has measured: one directory per user, named by a variable."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "LOWPREC_CACHE_DIR"


def cache_home() -> Path:
    """Return the directory of models and measurements; nothing is made.

    Returns
    -------
    pathlib.Path
        ``$LOWPREC_CACHE_DIR``, else ``$XDG_CACHE_HOME/lowprec`` (if that variable is an absolute path, as the XDG base
        directory specification has it), else ``~/.cache/lowprec``. Always absolute. Models lie in ``models/`` below
        it, results of studies in ``studies/``.

    Raises
    ------
    OSError
        If no variable is set and the user has no home directory.

    Examples
    --------
    >>> import os
    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, LOWPREC_CACHE_DIR="/somewhere/else"):
    ...     str(cache_home())
    '/somewhere/else'
    """
    if own := os.environ.get(VARIABLE):
        return Path(os.path.abspath(Path(own).expanduser()))  # noqa: PTH100 - links stay as the user wrote them
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():
        return Path(shared) / "lowprec"
    try:
        return Path.home() / ".cache" / "lowprec"
    except RuntimeError:
        msg = f"The cache has no place: this user has no home directory; set {VARIABLE} to a folder."
        raise FileNotFoundError(msg) from None


def make_directory(directory: Path) -> Path:
    """Make a directory with all above it, if it is not there.

    Parameters
    ----------
    directory : pathlib.Path
        Where.

    Returns
    -------
    pathlib.Path
        The same.

    Raises
    ------
    OSError
        If it cannot be made, or cannot be written to; the message names it, and the variable that names another
        (`LOWPREC_CACHE_DIR`).
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise cannot_write(directory, error) from error
    return directory


def write_file(path: Path, data: bytes) -> Path:
    """Write a whole file or none of it: under a temporary name first, which is then changed.

    Parameters
    ----------
    path : pathlib.Path
        The file. Its directory is made if it is not there. What is there is replaced.
    data : bytes
        What is to stand in it.

    Returns
    -------
    pathlib.Path
        The file. Whoever reads it at any time, in this process or another, sees the old file or the new one.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path.parent, error) from error
    except BaseException:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise
    return path


def cannot_write(directory: Path, error: OSError) -> OSError:
    """Return the error that says what cannot be written and what to do.

    Parameters
    ----------
    directory : pathlib.Path
        Where something should have been written.
    error : OSError
        What the system said.

    Returns
    -------
    OSError
        Of the same class.

    Raises
    ------
    Nothing.
    """
    why = error.strerror or str(error) or type(error).__name__
    msg = f"{str(directory)!r} cannot be written ({why}); set {VARIABLE} to a folder that can."
    found = type(error)(msg)
    found.errno = error.errno
    return found
