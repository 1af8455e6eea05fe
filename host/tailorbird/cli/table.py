"""A table of a command's result, and how it is drawn on a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table. The first column is text, the others are right-aligned unless named in `words`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()


def drawn(table: Table) -> RichTable:
    """The table for a terminal."""
    page = RichTable(title=escape(table.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(table.columns):
        text = i == 0 or column in table.words
        page.add_column(escape(column), justify="left" if text else "right", header_style="dim", overflow="fold")
    for row in table.rows:
        page.add_row(*(escape(cell) for cell in row))
    return page
