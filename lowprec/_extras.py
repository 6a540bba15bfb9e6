"""Import what only an extra installs, at the moment of use, and say how to install it when it is missing."""

from __future__ import annotations

import importlib
from typing import Any

_PROJECTS = {"sklearn": "scikit-learn"}


def require(module: str, purpose: str, extra: str) -> Any:
    """Import a module of an extra.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"scipy.linalg"``.
    purpose : str
        What needs it: the subject of the error's sentence.
    extra : str
        Name of the extra that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If it cannot be imported; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        project = _PROJECTS.get(top, top)
        msg = f'{purpose} needs {project}, which cannot be imported ({error}); run: pip install "lowprec[{extra}]"'
        raise ImportError(msg, name=top) from error
