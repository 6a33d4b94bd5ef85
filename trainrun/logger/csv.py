"""metrics.csv: one line per evaluation, for spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from trainrun.events import Evaluated, Event, RolledBack, Started


class CSV:
    """Columns are those of the first evaluation: step, epoch, split, its metrics, then as train_loss and
    the like the means over training since the one before, and the learning rate.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.csv"
        self.columns: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started) and self.path.exists():
            self._cut(event.step)
        elif isinstance(event, RolledBack) and self.path.exists():
            self._cut(event.to)
        elif isinstance(event, Evaluated):
            row = {"step": event.step, "epoch": event.epoch, "split": event.split} | dict(event.metrics)
            row |= {f"train_{name}": value for name, value in event.train.items()}
            self._write([row | ({} if event.lr is None else {"lr": event.lr})], "a")

    def _cut(self, step: int) -> None:
        """Forget what a resumed run computes again: what came after `step`, and the test split."""
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step and row["split"] == "val"]
        self._write(rows, "w")

    def _write(self, rows: list[dict[str, Any]], mode: str) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            if rows and not file.tell():
                self.columns = self.columns or list(rows[0])
                csv.DictWriter(file, self.columns).writeheader()
            csv.DictWriter(file, self.columns, extrasaction="ignore").writerows(rows)
