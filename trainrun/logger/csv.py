"""metrics.csv: one line per evaluation, for spreadsheets."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, TextIO

from trainrun.vocabulary.events import Evaluated, Event, Probed, RolledBack, Started


class CSV:
    """One row per evaluation; the columns are those of the first one.

    They are step, epoch, split, its metrics, then as train_loss and the like the means over training
    since the evaluation before, the learning rate, and as probe_spread and the like what probes return.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.csv"
        self.columns: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started() if self.path.exists():
                self._cut(event.step)
            case RolledBack() if self.path.exists():
                self._cut(event.to)
            case Evaluated():
                row = {"step": event.step, "epoch": event.epoch, "split": event.split} | dict(event.metrics)
                row |= {f"train_{name}": value for name, value in event.train.items()}
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    self._write([row | ({} if event.lr is None else {"lr": event.lr})], file)

            case Probed() if event.numbers:
                rows = self._rows(event.step)
                rows[-1] |= {f"probe_{name}": value for name, value in event.numbers.items()}
                self.columns = list(dict.fromkeys([*self.columns, *rows[-1]]))
                self._replace(rows)

    def _cut(self, step: int) -> None:
        """Replace the file without what came after `step`, the test split, and what a kill left of a line."""
        rows = self._rows(step)
        self.columns = list(rows[0]) if rows else []
        self._replace(rows)

    def _rows(self, step: int) -> list[dict[str, Any]]:
        """The evaluations of the validation split up to `step`, each whole and once."""
        text = self.path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
        table = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        rows: dict[int, dict[str, Any]] = {}
        for row in table:
            place = row.get("step") or ""
            is_whole = place.isdecimal() and None not in row and None not in row.values()
            if is_whole and int(place) <= step and row.get("split") == "val":
                rows[int(place)] = row
        return list(rows.values())

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        temporary = self.path.with_name(f".tmp-{self.path.name}")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            self._write(rows, file)
        temporary.replace(self.path)

    def _write(self, rows: list[dict[str, Any]], file: TextIO) -> None:
        if rows and not file.tell():
            self.columns = self.columns or list(rows[0])
            csv.DictWriter(file, self.columns).writeheader()
        csv.DictWriter(file, self.columns, extrasaction="ignore").writerows(rows)
