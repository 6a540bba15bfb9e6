"""The dataflows of systolic arrays: their names, and the arguments that only some of them have."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

DATAFLOWS = {"ws": "weight-stationary", "os": "output-stationary", "is": "input-stationary"}
"""What stays in its place, by short names."""


def dataflow_of(value: Any) -> str:
    """Return the short name of a dataflow.

    Parameters
    ----------
    value : str
        A short or a long name.

    Returns
    -------
    str
        One of `DATAFLOWS`.

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If the name is unknown; the error lists the close one.

    Examples
    --------
    >>> dataflow_of("weight-stationary")
    'ws'
    """
    if not isinstance(value, str):
        msg = f"`dataflow` must be one of 'ws', 'os', 'is', got {value!r} of type {type(value).__name__}."
        raise TypeError(msg)
    word = value.strip().lower().replace("_", "-").replace(" ", "-")
    long = {words: name for name, words in DATAFLOWS.items()}
    name = long.get(word, word)
    if name not in DATAFLOWS:
        close = difflib.get_close_matches(word, [*DATAFLOWS, *long], n=1, cutoff=0.4)
        hint = f"; the closest: {close[0]!r}." if close else "."
        msg = f"`dataflow` must be 'ws' (weights stay), 'os' (outputs stay) or 'is' (inputs stay), got {value!r}{hint}"
        raise ValueError(msg)
    return name


def flags_of(dataflow: str, double_buffered: Any, drain: Any) -> tuple[bool, bool]:
    """Return both flags, once they suit a dataflow.

    Parameters
    ----------
    dataflow : str
        One of `DATAFLOWS`.
    double_buffered, drain : bool
        The arguments of these names.

    Returns
    -------
    pair of bool
        The same.

    Raises
    ------
    TypeError
        If one is no bool.
    ValueError
        If one does not go with the dataflow.
    """
    for name, value, of_os in (("double_buffered", double_buffered, False), ("drain", drain, True)):
        if not isinstance(value, (bool, np.bool_)):
            msg = f"`{name}` must be True or False, got {value!r} of type {type(value).__name__}."
            raise TypeError(msg)
        if value and (dataflow == "os") is not of_os:
            why = "which loads no tiles" if dataflow == "os" else "whose results leave by the columns anyway"
            msg = f"`{name}` must be False with dataflow={dataflow!r}, {why}, got True."
            raise ValueError(msg)
    return bool(double_buffered), bool(drain)
