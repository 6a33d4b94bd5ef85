"""Where a run's events go: its record, trainrun.log, the loggers; a logger that fails is switched off."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun.logger.lines import lines_of
from trainrun.run.failures import Failures
from trainrun.run.record import Record
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import TrainrunError
from trainrun.vocabulary.events import Event

if TYPE_CHECKING:
    from trainrun.session.run_options import RunOptions

Sink = Callable[[Event], None]


def sinks_of(record: Record, loggers: Mapping[str, Sink], run_dir: Path, options: RunOptions) -> list[Sink]:
    """All sinks of a run in their order; with -q without the console."""
    views: list[Sink] = [LogFile(run_dir), Failures(run_dir)]
    views += [logger for name, logger in loggers.items() if name != "console" or not options.quiet]
    return [record, *map(FailSafeLogger, views), *([options.watch] if options.watch else [])]


class LogFile:
    """trainrun.log: every event as plain lines."""

    __name__ = "log"  # what a message about it calls it

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "trainrun.log"

    def __call__(self, event: Event) -> None:
        if lines := lines_of(event):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))


class FailSafeLogger:
    """A logger whose failure is reported once and never stops the run."""

    def __init__(self, logger: Sink) -> None:
        self.logger: Sink | None = logger

    def __call__(self, event: Event) -> None:
        if self.logger is None:
            return
        try:
            self.logger(event)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # nobody reads stderr
        except Exception as error:
            name = getattr(self.logger, "__name__", type(self.logger).__name__.lower())
            self.logger = None
            text = str(error) if isinstance(error, TrainrunError) else f"{type(error).__name__}: {error}"
            say(f"logger.{name}: failed and is off from here on: {text}")
