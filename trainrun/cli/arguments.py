"""The argument parser of the commands: its end is an exit code, not the end of the process."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

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
