"""Rows for a service that takes nothing back: held until a checkpoint is behind them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainrun.logger.lines import evaluated_curves, logged_curves
from trainrun.vocabulary import events

Row = dict[str, Any]  # with its `step`


class PendingRows:
    """Gives each row to `log` when its step is saved, so that no kill and no rollback shows a step twice.

    What waits lies in `file`, for a process that goes on.
    """

    def __init__(self, file: Path, log: Callable[[Row], None]) -> None:
        self.file, self.log = file, log
        self.rows: list[tuple[Row, Row]] = []  # and objects beside, which no file holds
        self.at_end: list[Row] = []

    def follow(self, event: events.Event) -> None:
        """Hold an event's curves back, and log what it settles.

        The test split waits for the end of the run, which a resume may move.
        """
        match event:
            case events.StepsLogged():
                self.add({**logged_curves(event), "step": event.step})
            case events.Evaluated(split="test"):
                self.at_end = [{**evaluated_curves(event), "step": event.step}]
            case events.Evaluated():
                self.add({**evaluated_curves(event), "step": event.step})
            case events.RolledBack():
                self.forget_after(event.to)
            case events.CheckpointSaved() | events.Interrupted() | events.Finished():
                self.log_until(event.step)
        for row in self.at_end if isinstance(event, events.Finished) else ():
            self.log(row)

    def add(self, row: Row, **objects: Any) -> None:
        """Hold a row back. `objects`, such as pictures, are lost where the process is killed."""
        self.rows.append((row, objects))
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def start(self, step: int) -> None:
        """Log what a process before this one left, as far as training goes on from there."""
        self.file.parent.mkdir(exist_ok=True)
        self.rows = [(row, {}) for row in self._read()]
        self.log_until(step)
        self._keep([])

    def log_until(self, step: int) -> None:
        """Log what waited for a checkpoint of this step."""
        for row, objects in self.rows:
            if row["step"] <= step:
                self.log({**row, **objects})
        self._keep([(row, objects) for row, objects in self.rows if row["step"] > step])

    def forget_after(self, step: int) -> None:
        """Forget what a rollback takes back."""
        self._keep([(row, objects) for row, objects in self.rows if row["step"] <= step])

    def _keep(self, rows: list[tuple[Row, Row]]) -> None:
        self.rows = rows
        self.file.write_text("".join(json.dumps(row) + "\n" for row, _ in rows), encoding="utf-8")

    def _read(self) -> Iterator[Row]:
        """The rows of the file, but for half lines."""
        text = self.file.read_text(encoding="utf-8", errors="replace") if self.file.is_file() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    yield row
