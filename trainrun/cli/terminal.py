"""Lines for people: in colour on a terminal, plain elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO, TypeAlias, Union

if TYPE_CHECKING:
    from rich.text import Text

Line: TypeAlias = Union[str, "Text"]


def columns(file: TextIO) -> int | None:
    """How wide the terminal is; None where there is none, or it does not say."""
    try:
        return os.get_terminal_size(file.fileno()).columns or None
    except (OSError, ValueError):
        return None


def show(lines: Iterable[Line], file: TextIO) -> None:
    """Print lines as they are, without wrapping."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(line) if isinstance(line, str) else line)
