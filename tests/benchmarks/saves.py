"""The share of a run that goes into its saves, at the default cadence: CPU time of both threads."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import commands
import pictures
from contest import muted
from rows import row, title

from trainrun.checkpoint.store import Checkpoints
from trainrun.cli.main import main as trainrun
from trainrun.loop.loop import Loop

EPOCHS = 4


def main() -> None:
    title(f"Saves of {EPOCHS} epochs of the MLP, share of the loop's CPU time")
    if reason := pictures.missing():
        print(f"skipped: {reason}")
        return
    loop, waiting, writing = Spent(time.process_time), Spent(time.thread_time), Spent(time.thread_time)
    Loop.train = loop.timed_generator(Loop.train)  # type: ignore[method-assign]
    Checkpoints.begin = waiting.timed(Checkpoints.begin)  # type: ignore[method-assign]
    Checkpoints._write = writing.timed(Checkpoints._write)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands.enter(folder)
        with muted(folder / "log"):
            code = trainrun([*commands.MLP, f"budget={EPOCHS}ep", f"run_dir={folder / 'run'}"])
    assert code == 0, code
    row(f"{writing.calls} saves", (waiting.cpu_s + writing.cpu_s) / loop.cpu_s, "at most 0.01")
    row("  of it while the loop waits", waiting.cpu_s / loop.cpu_s)


class Spent:
    """CPU time of the calls of a function, by a clock of the thread or of the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.cpu_s, self.calls = clock, 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = self.clock()
            try:
                return function(*arguments)
            finally:
                self.cpu_s, self.calls = self.cpu_s + self.clock() - began, self.calls + 1

        return timed

    def timed_generator(self, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same from the first item that is asked for to the last; what the consumer does counts."""

        def timed(*arguments: Any) -> Iterator[Any]:
            began = self.clock()
            yield from function(*arguments)
            self.cpu_s += self.clock() - began

        return timed
