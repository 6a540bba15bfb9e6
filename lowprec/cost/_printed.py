"""What results of the cost model share: they print as tables, in text, in a terminal and in a notebook."""

from __future__ import annotations

from typing import Any, TypeVar

from lowprec import _text_tables as tables
from lowprec.cost._figure import Figure

Item = TypeVar("Item")


class Printed:
    """Something that makes a table of itself, and the ways to print it."""

    __slots__ = ()

    def _view(self) -> tables.Table:
        """Return the table."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Return the table as plain text."""
        return tables.plain(self._view())

    def __rich__(self) -> Any:
        """Return the table for rich."""
        return tables.rich_table(self._view())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return tables.to_html(self._view())

    def show(self) -> None:
        """Print the table to standard output, by rich where it is installed.

        Raises
        ------
        OSError
            If standard output cannot be written.
        """
        tables.show(self._view())


class Records(tuple[Item, ...], Printed):
    """A tuple of records that prints as a table; its records are what a program reads.

    Raises
    ------
    Nothing.
    """

    __slots__ = ()

    def _view(self) -> tables.Table:
        names = list(getattr(self[0], "_fields", ())) if self else []
        columns = [_column(name, [getattr(record, name) for record in self]) for name in names]
        rows = [[_cell(getattr(record, name)) for name in names] for record in self]
        return tables.Table(columns, rows)

    def __str__(self) -> str:
        """Return the table as plain text."""
        return Printed.__str__(self)

    def __repr__(self) -> str:
        """Return one line."""
        return f"<{len(self)} records; print them, or read them as a tuple>"


def _column(name: str, values: list[Any]) -> str:
    """Return a heading: words to the left, numbers to the right."""
    words = any(isinstance(value, str) for value in values)
    return f"{'<' if words else ''}{name.replace('_', ' ')}"


def _cell(value: Any) -> str:
    """Return a value as text."""
    if value is None:
        return ""
    if isinstance(value, Figure):
        return f"{float(value):.6g}{' ' * bool(value.unit)}{value.unit}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
