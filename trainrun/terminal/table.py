"""Small tables as lines of text, aligned and cut to terminal columns."""

from __future__ import annotations

from collections.abc import Container, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

GAP = 2


def laid_out(table: Sequence[Sequence[str]], left: int = 1) -> list[Text]:
    """A line per row, the heads in the first one; `left` columns of words, then figures."""
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    lines = [Text("  " + row_of(row, widths, range(left))) for row in table]
    lines[0].stylize("dim")
    return lines


def side_by_side(first: Sequence[str], columns: Sequence[Sequence[str]], width: float) -> list[list[Text]]:
    """Tables with the same first column, and of the others as many as `width` has room for, at least one."""
    tables: list[list[Text]] = []
    start = 0
    for end in range(1, len(columns) + 1):
        table = laid_out([*zip(first, *columns[start:end], strict=True)])
        if tables and max(line.cell_len for line in table) <= width:
            tables[-1] = table
        else:
            start = end - 1
            tables.append(laid_out([*zip(first, columns[start], strict=True)]))
    return tables


def heading(title: str) -> list[Text]:
    """An empty line, and the title of what follows, if any."""
    return [Text(), *([Text(title, style="bold")] if title else [])]


def row_of(cells: Sequence[str], widths: Sequence[int], left: Container[int]) -> str:
    """Cells cut to their widths; the columns in `left` begin at the left, the others end at the right."""
    parts = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = cut(cell, width)
        padding = " " * (width - cell_len(text))
        parts.append(text + padding if column in left else padding + text)
    return (" " * GAP).join(parts).rstrip()


def cut(text: str, width: int) -> str:
    """At most `width` columns of a text."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "\N{HORIZONTAL ELLIPSIS}"
