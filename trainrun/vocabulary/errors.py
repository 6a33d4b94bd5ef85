"""What can go wrong, as exceptions that know their exit code.

    TrainrunError                1  unexpected
    |-- ConfigError              2  the command line or the configuration is wrong
    |-- DataError                4  data are missing, corrupt or changed
    |-- ResumeError              5  no valid checkpoint, or the settings do not fit it
    |-- FolderBusyError          6  another process owns the run's folder
    |-- NonFiniteError           7  a loss, gradient or weight is not a finite number
    |-- OutOfMemoryError         8  the micro-batch does not fit, or a loader process was killed for memory
    |-- StorageError             9  the disk is full, read-only or gone
    `-- RankFailedError         10  another process of the run failed

Messages are written for people: `key: what is wrong, got value; what to do`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# What a run exits with after the first signal: 128 + its number.
INTERRUPTED = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration.

    `fix` replaces the faulty override in the command line that is offered as the corrected one;
    it is a whole `key=value`, or a whole command where its first word is `trainrun`.
    """

    key: str
    text: str
    fix: str | None = None

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


class TrainrunError(Exception):
    """Base of every error that trainrun raises on purpose. Each argument is one line."""

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it, below the cell of a notebook: its text, as the command does."""
        return [f"trainrun: {self}"]


class ConfigError(TrainrunError):
    """All problems of a configuration at once."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = list(problems)

    @classmethod
    def of(cls, key: str, text: str, fix: str | None = None) -> ConfigError:
        return cls([Problem(key, text, fix)])


class DataError(TrainrunError):
    exit_code = 4


class ResumeError(TrainrunError):
    exit_code = 5


class FolderBusyError(TrainrunError):
    exit_code = 6


class NonFiniteError(TrainrunError):
    exit_code = 7


class OutOfMemoryError(TrainrunError):
    exit_code = 8


class EvaluationOutOfMemoryError(OutOfMemoryError):
    """Met in a split, not in training: a smaller data.eval_batch_size helps."""


class StorageError(TrainrunError):
    exit_code = 9


class RankFailedError(TrainrunError):
    exit_code = 10
