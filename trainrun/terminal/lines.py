"""Print lines for people: in colour on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO, TypeAlias, Union

from trainrun.terminal.visible import visible

if TYPE_CHECKING:
    from rich.text import Text

Line: TypeAlias = Union[str, "Text"]


def columns(file: TextIO) -> int | None:
    """How wide the terminal is; None where there is none, or it does not say."""
    try:
        return os.get_terminal_size(file.fileno()).columns or None
    except (OSError, ValueError):
        return None


def say(*lines: object) -> None:
    """Print on stderr: each text is one line, whatever it holds. Without any, an empty line."""
    if sys.stderr is not None:  # closed: nobody reads it
        print(*(visible(str(line)) for line in lines), sep="\n", file=sys.stderr, flush=True)


def show(lines: Iterable[Line], file: TextIO) -> None:
    """Print lines as they are, without wrapping."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=True)
    for line in lines:
        text = Text(line) if isinstance(line, str) else line
        console.print(text if visible(text.plain) == text.plain else Text(visible(text.plain)))


def answer(text: object) -> None:
    """Print a result on stdout, for a script that reads it."""
    print(text)


def replaceable(text: str) -> None:
    """Show progress in a line that the next one replaces; on a terminal only."""
    if width := columns(sys.stderr):
        print(f"\r\x1b[K{visible(text)[: width - 1]}", end="", file=sys.stderr, flush=True)
