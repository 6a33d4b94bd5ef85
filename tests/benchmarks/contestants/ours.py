"""trainrun by its real command, with default loggers, health figures, evaluation and saves."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from turns import Contestant

from trainrun.checkpoint.state import TrainState
from trainrun.cli.main import main
from trainrun.loop.windows import Windows

_plain_windows = Windows.__call__


def train(contestant: Contestant, words: list[str], run_dir: Path) -> None:
    """`trainrun WORDS`, its windows behind the baton. Contestants are set up one after another."""

    def windows(self: Windows, state: TrainState) -> Generator[Any]:
        yield from contestant.feed(_plain_windows(self, state))

    Windows.__call__ = windows  # type: ignore[method-assign]
    code = main([*words, f"run_dir={run_dir}"])
    raise RuntimeError(f"trainrun {' '.join(words)} ended with exit code {code}")
