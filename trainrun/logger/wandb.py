"""Weights & Biases: curves, settings, pictures and text. A view; metrics.jsonl is the truth.

Written offline, below the run's folder, unless `mode` says otherwise: nothing leaves the machine unasked.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

import yaml

from trainrun.logger import drawing
from trainrun.logger.lines import evaluated_curves, logged_curves
from trainrun.logger.settings import flat
from trainrun.vocabulary import events
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Natural


class WandB:
    """One run of `project`; a resume goes on with the same one. Curves have the names of TensorBoard's.

    Every curve is drawn over `step`. What wandb was told cannot be taken back, so it is told of a step
    when a checkpoint is behind it, and of the test split at the end: no kill, and no rollback, shows a
    step twice. What waits lies in wandb/pending.jsonl, for a process that goes on.
    """

    def __init__(
        self, run_dir: Path, project: str, mode: Literal["offline", "online"], samples: Natural
    ) -> None:
        self.run_dir, self.project, self.mode, self.samples = run_dir, project, mode, samples
        try:
            import wandb
        except ImportError:
            raise ConfigError.of("logger.wandb", "needs a package: pip install 'trainrun[wandb]'") from None
        self.wandb: Any = wandb
        self.run: Any = None
        self.file = run_dir / "wandb" / "pending.jsonl"
        self.pending: list[dict[str, Any]] = []  # rows of curves that no checkpoint is behind yet
        self.at_end: list[dict[str, Any]] = []
        self.class_names: Sequence[str] = ()

    def __call__(self, event: events.Event) -> None:
        if self.run is not None or isinstance(event, events.Started):
            self._show(event)

    def _show(self, event: events.Event) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.StepsLogged():
                self._wait({**logged_curves(event), "step": event.step})
            case events.Evaluated():
                self._evaluated(event)
            case events.Sampled():
                self._wait({"sample": event.text, "step": event.step})
            case events.Pictured():
                picture = drawing.samples(event.pictures, event.shape, event.labels)
                self.run.log({**self._picture("samples", picture), "step": event.step})
            case events.CheckpointSaved():
                self._log_until(event.step)
            case events.RolledBack():
                self._keep_until(event.to)
            case events.Finished() | events.Interrupted() | events.Failed():
                self._end(event)
            case (
                events.Progressed()
                | events.Weighed()
                | events.Probed()
                | events.NotFinite()
                | events.Replanned()
                | events.Warned()
            ):
                pass
            case _:
                assert_never(event)

    def _wait(self, row: dict[str, Any]) -> None:
        self.pending.append(row)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _log_until(self, step: int) -> None:
        """Log what waited for a checkpoint of this step."""
        for row in (row for row in self.pending if row["step"] <= step):
            self.run.log(row)
        self._keep([row for row in self.pending if row["step"] > step])

    def _keep_until(self, step: int) -> None:
        self._keep([row for row in self.pending if row["step"] <= step])

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        self.pending = rows
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def _read_pending(self) -> Iterator[dict[str, Any]]:
        """What a process before this one left, but for half lines."""
        text = self.file.read_text(encoding="utf-8", errors="replace") if self.file.is_file() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int):
                    yield row

    def _evaluated(self, event: events.Evaluated) -> None:
        """The test split waits for the end of the run, which a resume may move."""
        row = {**evaluated_curves(event), "step": event.step}
        if event.split != "test":
            self._wait(row)
            return
        self.at_end = [row]
        if event.confusion is not None:
            picture = drawing.confusion(event.confusion, self.class_names)
            self.at_end.append({**self._picture("confusion/test", picture), "step": event.step})

    def _start(self, event: events.Started) -> None:
        self.class_names = event.class_names
        where = {"id": _run_id(self.run_dir), "dir": str(self.run_dir), "mode": self.mode, "resume": "allow"}
        config = flat(yaml.safe_load(event.config) or {})
        quiet = self.wandb.Settings(console="off", silent=True)
        self.run = self.wandb.init(
            project=self.project, name=event.name, config=config, settings=quiet, **where
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.file.parent.mkdir(exist_ok=True)
        self.pending = list(self._read_pending())
        self._log_until(event.step)
        self._keep([])

    def _end(self, event: events.Finished | events.Interrupted | events.Failed) -> None:
        if isinstance(event, events.Failed):
            self.run.finish(exit_code=event.exit_code)
            return
        self._log_until(event.step)
        if isinstance(event, events.Finished):
            for row in self.at_end:
                self.run.log(row)
            if event.best is not None:
                self.run.summary[f"best/{event.monitor.partition('/')[2]}"] = event.best
                self.run.summary["best/step"] = event.best_step
        self.run.finish(exit_code=int(isinstance(event, events.Interrupted)))

    def _picture(self, tag: str, picture: tuple[bytes, tuple[int, int]]) -> dict[str, Any]:
        from PIL import Image

        return {tag: self.wandb.Image(Image.open(io.BytesIO(picture[0])))}


def _run_id(run_dir: Path) -> str | None:
    """The run's own, so that a resume finds it; None where the folder has none."""
    try:
        return str(json.loads((run_dir / "status.json").read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
