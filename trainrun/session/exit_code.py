"""The exit code of a piece of work; what it raises is reported on stderr."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator

from trainrun import ranks
from trainrun.config.commands import COMMANDS
from trainrun.config.suggest import corrected_line
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, OutOfMemory, StorageFailed, TrainrunError

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # of a disk, not of the code


def guarded(command: Callable[[], int], words: list[str]) -> int:
    """The command's exit code, or that of what it raised, which is reported."""
    try:
        return command()
    except TrainrunError as error:
        if ranks.tell(error):
            _report(error, words)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads the rest
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            if ranks.tell(error):
                text = f"{error.filename or 'output'}: cannot be written: {error.strerror}"
                _report(StorageFailed(f"{text}; make room, or write elsewhere"), words)
            return StorageFailed.exit_code
        if _is_out_of_memory(error):
            text = "out of memory before training began; take a smaller model, fewer data, or precision=bf16"
            _report(OutOfMemory(text), words)
            return OutOfMemory.exit_code
        if (dead := _dead_worker(error)) is not None:
            _report(dead, words)
            return dead.exit_code
        if ranks.tell(error):
            say(*_traceback(error), "", f"{_who()}unexpected {type(error).__name__}: {error}")
        return 1


def _traceback(error: Exception) -> Iterator[str]:
    """The lines of a traceback; what an exception says is one of them, whatever it holds."""
    for part in traceback.format_exception(error):
        yield from part.splitlines() if part.startswith("  ") else [part.strip("\n")]


def _is_out_of_memory(error: Exception) -> bool:
    from trainrun.runtime.machine import is_out_of_memory

    return is_out_of_memory(error)


def _dead_worker(error: Exception) -> TrainrunError | None:
    from trainrun.data.workers import workers_error

    return workers_error(error)


def _who() -> str:
    return "" if ranks.is_main_process() else f"rank {ranks.rank()}: "


def _report(error: TrainrunError, words: list[str]) -> None:
    if not isinstance(error, ConfigError):
        first, *more = error.args or ("",)
        say(f"{_who()}{first}", *more)
    else:
        say(*error.problems)
        command, rest = shlex.join(ranks.command()), words
        if words and words[0] in COMMANDS:
            command, rest = f"{command} {words[0]}", words[1:]
        if line := corrected_line(rest, error.problems, command):
            say("", f"  {line}")
