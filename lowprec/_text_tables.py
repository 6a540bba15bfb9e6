"""Tables as text: with rich where it is installed, plain where it is not, and as HTML."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table of strings: what every printer below takes.

    Parameters
    ----------
    columns : sequence of str
        Headings. One that starts with ``<`` is aligned left, all others right.
    rows : sequence of sequence of str
        Cells.
    title : str
        Printed above; empty for none.
    notes : sequence of str
        Sentences, printed below.
    optional : sequence of str
        Headings of columns that a narrow terminal leaves out, the first one first.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    optional: Sequence[str] = ()

    def headings(self) -> list[str]:
        """Return the headings without their alignment."""
        return [column.removeprefix("<") for column in self.columns]

    def widths(self) -> list[int]:
        """Return how many characters each column takes."""
        return [max(map(len, column)) for column in zip(self.headings(), *self.rows, strict=True)]

    def fitted(self, width: int) -> Table:
        """Return the table without as many optional columns as it takes to fit in a width, if that can be."""
        table, left_out = self, []
        for name in self.optional:
            if sum(table.widths()) + 2 * (len(table.columns) - 1) <= width:
                break
            at = table.headings().index(name)
            rows = [[*row[:at], *row[at + 1 :]] for row in table.rows]
            table = table._replace(columns=[*table.columns[:at], *table.columns[at + 1 :]], rows=rows)
            left_out.append(name)
        if left_out:
            table = table._replace(notes=[*table.notes, f"Left out of a terminal this narrow: {', '.join(left_out)}."])
        return table


def plain(table: Table) -> str:
    """Return a table as lines of plain text.

    Parameters
    ----------
    table : Table
        What to print.

    Returns
    -------
    str
        Without a final newline; no line ends in a space.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> print(plain(Table(["<name", "bits"], [["bf16", "16"], ["fp4", "4"]])))
    name  bits
    ----  ----
    bf16    16
    fp4      4
    """
    widths = table.widths()
    lines = [table.headings(), ["-" * width for width in widths], *table.rows]
    text = [
        "  ".join(
            cell.ljust(width) if column.startswith("<") else cell.rjust(width)
            for cell, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*([table.title] if table.title else []), *text, *table.notes])


def rich_table(table: Table) -> Any:
    """Return a table as a renderable of rich.

    Parameters
    ----------
    table : Table
        What to print.

    Returns
    -------
    rich.console.Group
        Title, table and notes.

    Raises
    ------
    ImportError
        If rich is missing.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(
        box=box.SIMPLE_HEAD,
        title=table.title or None,
        title_justify="left",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for place, (column, head) in enumerate(zip(table.columns, table.headings(), strict=True)):
        left = column.startswith("<")
        grid.add_column(head, justify="left" if left else "right", overflow="fold", no_wrap=place == 0)
    for row in table.rows:
        grid.add_row(*map(Text, row))
    return Group(grid, *map(Text, table.notes))


def show(table: Table) -> None:
    """Print a table to standard output: by rich if that is a terminal and rich is installed, else as plain text.

    Parameters
    ----------
    table : Table
        What to print.

    Raises
    ------
    OSError
        If standard output cannot be written, such as a closed pipe.
    """
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            console = Console()
            console.print(rich_table(table.fitted(console.width)))
            return
    print(plain(table))


def to_html(table: Table) -> str:
    """Return a table as an HTML fragment.

    Parameters
    ----------
    table : Table
        What to print.

    Returns
    -------
    str
        A ``<table>`` with the title as caption, followed by the notes as paragraphs; everything escaped.

    Raises
    ------
    Nothing.

    Examples
    --------
    >>> to_html(Table(["<a"], [["1 < 2"]])).count("&lt;")
    1
    """
    styles = [' style="text-align:left"' if column.startswith("<") else "" for column in table.columns]

    def line(cells: Sequence[str], tag: str) -> str:
        marked = (f"<{tag}{style}>{html.escape(c)}</{tag}>" for c, style in zip(cells, styles, strict=True))
        return f"<tr>{''.join(marked)}</tr>"

    parts = ["<table>", f"<caption>{html.escape(table.title)}</caption>" if table.title else ""]
    parts += ["<thead>", line(table.headings(), "th"), "</thead>", "<tbody>"]
    parts += [line(row, "td") for row in table.rows]
    parts += ["</tbody>", "</table>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)]
    return "\n".join(part for part in parts if part)
