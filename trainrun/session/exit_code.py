"""Exit codes: run a command, report what it raises on stderr, and return the code that says so."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from trainrun import ranks
from trainrun.config.commands import COMMANDS
from trainrun.config.suggest import corrected_line
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import (
    ConfigError,
    NonFiniteError,
    OutOfMemoryError,
    StorageError,
    TrainrunError,
)

_PACKAGE = Path(__file__).resolve().parents[1]
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # of a disk, not of the code


def run_guarded(command: Callable[[], int], words: list[str]) -> int:
    """The command's exit code, or that of what it raised, which is reported."""
    try:
        return command()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads the rest
        return 0
    except Exception as error:
        return _exit_of(error, words)


def _exit_of(error: Exception, words: list[str]) -> int:
    is_of_all = isinstance(error, NonFiniteError)  # whichever rank is the first to say it
    who = "" if is_of_all or ranks.is_lowest_living() else f"rank {ranks.rank()}: "
    failure = _as_trainrun_error(error)
    if failure is None:
        if ranks.report_failure(error):
            say(*_lines(error), "", f"{who}unexpected {type(error).__name__}: {error}")
        return 1
    is_by_rank = failure is not error and not isinstance(failure, StorageError)  # memory differs by rank
    if is_by_rank or ranks.report_failure(error):
        if "-v" in words and (lines := _own_traceback(failure)):
            say(*lines, "")
        _report(failure, words, who)
    return failure.exit_code


def _own_traceback(failure: TrainrunError) -> list[str]:
    """The traceback of the user's code that an error in our words comes from; none where it is our own."""
    error: BaseException | None = failure
    while isinstance(error, TrainrunError):
        error = error.__cause__ or error.__context__
    if error is None:
        return []
    if error.__traceback__ is None:  # a loader process sends its own as text
        return str(error).splitlines()
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    mine = [file for file in files if Path.cwd() in file.parents and _PACKAGE not in file.parents]
    return _lines(error) if any("site-packages" not in file.parts for file in mine) else []


def _lines(error: BaseException) -> list[str]:
    """A traceback, what the error says in one line, whatever it holds."""
    lines: list[str] = []
    for part in traceback.format_exception(error):
        lines += part.splitlines() if part.startswith("  ") else [part.strip("\n")]
    return lines


def _as_trainrun_error(error: Exception) -> TrainrunError | None:
    """The error itself, or what a full disk, a lack of memory or a dead worker is called here."""
    if isinstance(error, TrainrunError):
        return error
    if type(error).__name__ == "BdbQuit":  # of bdb, which only a debugger imports
        return TrainrunError("the debugger was quit, and the run ended")
    if isinstance(error, OSError) and error.errno in _STORAGE:
        text = f"{error.filename or 'output'}: cannot be written: {error.strerror}"
        return StorageError(f"{text}; make room, or write elsewhere")
    from trainrun.data.workers import workers_error
    from trainrun.runtime.machine import is_out_of_memory  # imports torch, which no mistake waits for

    if is_out_of_memory(error):
        text = "out of memory before training began; take a smaller model, fewer data, or precision=bf16"
        return OutOfMemoryError(text)
    return workers_error(error)


def _report(error: TrainrunError, words: list[str], who: str) -> None:
    if not isinstance(error, ConfigError):
        first, *more = error.args or ("",)
        say(f"{who}{first}", *more)
        return
    say(*error.problems)
    command = shlex.join(ranks.command())
    if words and words[0] in COMMANDS:
        command, words = f"{command} {words[0]}", words[1:]
    if line := corrected_line(words, error.problems, command):
        say("", f"  {_for_ranks(line)}")


def _for_ranks(line: str) -> str:
    """A whole command, begun as this one was where it trains a run; other commands use one process."""
    program, _, rest = line.partition(" ")
    word = rest.partition(" ")[0]
    if program != "trainrun" or word == "-m" or (word in COMMANDS and word != "resume"):
        return line
    return f"{shlex.join(ranks.command())} {rest}"
