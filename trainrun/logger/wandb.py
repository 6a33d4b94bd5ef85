"""Weights & Biases: curves, settings, pictures and text. A view; metrics.jsonl is the truth.

Written offline, below the run's folder, unless `mode` says otherwise: nothing leaves the machine unasked.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

import yaml

from trainrun.logger import drawing
from trainrun.logger.lines import evaluated_curves, logged_curves, probed_curves
from trainrun.logger.pending import PendingRows
from trainrun.logger.settings import flat, run_id_in
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
        self.pending = PendingRows(run_dir / "wandb" / "pending.jsonl", lambda row: self.run.log(row))
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
                self.pending.add({**logged_curves(event), "step": event.step})
            case events.Evaluated():
                self._evaluated(event)
            case events.Sampled() | events.Probed():
                self._written(event)
            case events.Pictured():
                picture = drawing.samples(event.pictures, event.shape, event.labels)
                self.run.log({**self._picture("samples", picture), "step": event.step})
            case events.CheckpointSaved():
                self.pending.log_until(event.step)
            case events.RolledBack():
                self.pending.forget_after(event.to)
            case events.Finished() | events.Interrupted() | events.Failed():
                self._end(event)
            case (
                events.Progressed()
                | events.Weighed()
                | events.NotFinite()
                | events.Replanned()
                | events.Warned()
            ):
                pass
            case _:
                assert_never(event)

    def _written(self, event: events.Sampled | events.Probed) -> None:
        if isinstance(event, events.Sampled):
            self.pending.add({"sample": event.text, "step": event.step})
            return
        objects: dict[str, Any] = {}
        for name, picture in event.pictures.items():
            objects |= self._picture(f"probe/{name}", picture)
        for name, rows in event.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[row.get(key) for key in columns] for row in rows]
            objects[f"probe/{name}"] = self.wandb.Table(columns=columns, data=data)
        texts = {f"probe/{name}": text for name, text in event.texts.items()}
        self.pending.add({**probed_curves(event), **texts, "step": event.step}, **objects)

    def _evaluated(self, event: events.Evaluated) -> None:
        """The test split waits for the end of the run, which a resume may move."""
        row = {**evaluated_curves(event), "step": event.step}
        if event.split != "test":
            self.pending.add(row)
            return
        self.at_end = [row]
        if event.confusion is not None:
            picture = drawing.confusion(event.confusion, self.class_names)
            self.at_end.append({**self._picture("confusion/test", picture), "step": event.step})

    def _start(self, event: events.Started) -> None:
        self.class_names = event.class_names
        where = {
            "id": run_id_in(self.run_dir),
            "dir": str(self.run_dir),
            "mode": self.mode,
            "resume": "allow",
        }
        config = flat(yaml.safe_load(event.config) or {})
        quiet = self.wandb.Settings(console="off", silent=True)
        self.run = self.wandb.init(
            project=self.project, name=event.name, config=config, settings=quiet, **where
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.pending.start(event.step)

    def _end(self, event: events.Finished | events.Interrupted | events.Failed) -> None:
        if isinstance(event, events.Failed):
            self.run.finish(exit_code=event.exit_code)
            return
        self.pending.log_until(event.step)
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
