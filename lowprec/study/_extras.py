"""Import what only the extra `study` installs, at the moment of use, and say how to install it when it is missing."""

from __future__ import annotations

from typing import Any

from lowprec import _extras


def require(module: str, purpose: str) -> Any:
    """Import a module of the extra `study`.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"sklearn.datasets"``.
    purpose : str
        What needs it: the subject of the error's sentence.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If it cannot be imported; the message names the command that installs it.
    """
    return _extras.require(module, purpose, "study")
