"""What commands share: an argument parser whose end is an exit code, and the file of a picture."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, StorageError

WIDE = 100  # columns of tables and charts, where there is no terminal to ask


class ParserExitError(Exception):
    """The words are answered: with the help (code 0), or with what is wrong with them (code 2)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, which raises ParserExitError where that one would end the process."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print the message to stderr and raise."""
        if message:
            self._print_message(message, sys.stderr)
        raise ParserExitError(status)


def picture_file(name: str) -> Path:
    """The file that --out names. Raises ConfigError for one that cannot become a picture."""
    file = Path(name)
    if file.suffix not in (".png", ".pdf", ".svg") or not file.parent.is_dir():
        raise ConfigError.of("--out", f"must be a .png, .pdf or .svg file in an existing folder, got {file}")
    return file


def paint(file: Path, draw: Callable[[Path], None]) -> None:
    """Have the picture drawn, and say where it is. Raises StorageError where it cannot be written."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a name in letters that the font lacks
            draw(file)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror}") from error
    say("", f"picture: {file}")
