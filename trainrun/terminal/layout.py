"""Plain text in wrapped paragraphs and columns, as wide as the terminal, at most 110 columns."""

from __future__ import annotations

import functools
import itertools
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainrun.terminal import lines

NARROWEST = 60  # columns; below, a table of four columns is one word wide
WIDEST = 110  # columns; longer lines of prose are hard to read
_GAP = "  "
_wrapped = functools.partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)


def width() -> int:
    """Columns to fill: the terminal's, from NARROWEST to WIDEST; off a terminal WIDEST."""
    return max(NARROWEST, min(lines.columns(sys.stdout) or WIDEST, WIDEST))


def paragraph(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    """Lines of a text; `hanging` indents those after the first."""
    others = indent if hanging is None else hanging
    return _wrapped(text, width(), initial_indent=indent, subsequent_indent=others)


def columns(rows: Sequence[Sequence[str]], head: Sequence[str] = (), indent: str = "  ") -> list[str]:
    """Lines of a table; cells wrap where it is too wide, the widest columns first."""
    return [line for row in _laid_out([*([head] if head else []), *rows], indent) for line in row]


def page(blocks: Sequence[PageBlock]) -> list[str]:
    """Lines of a guide's blocks, an empty line between two of different kinds."""
    text: list[str] = []
    previous = "heading"
    for block in blocks:
        if previous != "heading" and (block.kind != previous or block.kind == "paragraph"):
            text.append("")
        text += _block(block)
        previous = block.kind
    return text


def _block(block: PageBlock) -> list[str]:
    if block.kind == "table":
        head, *rows = block.rows
        return _with_commands(head, rows) if head[-1] == "command" else columns(rows, head)
    if block.kind == "command":
        return [f"  {block.text}"]
    if block.kind == "bullet":
        return paragraph(block.text, "  - ", "    ")
    return paragraph(block.text)


def _with_commands(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose last column stands below its rows, where no command is cut."""
    text, *others = _laid_out([head[:-1], *(row[:-1] for row in rows)], "  ")
    for cells, row in zip(others, rows, strict=True):
        commands = [f"      {command.strip()}" for command in row[-1].split("<br>") if command]
        text += ["", *cells, *commands]
    return text


def _laid_out(table: Sequence[Sequence[str]], indent: str) -> list[list[str]]:
    if not table:
        return []
    widths = _widths(table, width() - len(indent) - len(_GAP) * (len(table[0]) - 1))
    rows = []
    for row in table:
        cells = [_wrapped(text, w) or [""] for text, w in zip(row, widths, strict=True)]
        lines = itertools.zip_longest(*cells, fillvalue="")
        padded = (_GAP.join(map(str.ljust, line, widths)) for line in lines)
        rows.append([f"{indent}{line}".rstrip() for line in padded])
    return rows


def _widths(table: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of the widest cells, or less where `room` is short; never less than the longest word."""
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for text in column for word in (text.split() or [""])) for column in columns]
    while sum(widths) > room and (wide := [i for i, w in enumerate(widths) if w > least[i]]):
        widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths


@dataclass
class PageBlock:
    """One piece of a page: `kind` is paragraph, heading, bullet, command or table."""

    kind: str
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)  # of a table, its head first
