"""Weights & Biases: curves, settings, pictures and text. A view; metrics.jsonl is the truth.

Written offline, below the run's folder, unless `mode` says otherwise: nothing leaves the machine unasked.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from trainrun.logger import drawing
from trainrun.logger.lines import probed_curves
from trainrun.logger.pending import PendingRows
from trainrun.logger.settings import flat, run_id_in
from trainrun.vocabulary import events
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Natural


class WandB:
    """One run of `project`; a resume goes on with the same one. Curves have the names of TensorBoard's.

    Every curve is drawn over `step`. What wandb was told cannot be taken back, so it is told of a step
    when a checkpoint is behind it: no kill, and no rollback, shows a step twice.
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
        self.class_names: Sequence[str] = ()

    def __call__(self, event: events.Event) -> None:
        if self.run is None and not isinstance(event, events.Started):
            return
        self.pending.follow(event)
        match event:
            case events.Started():
                self._start(event)
            case events.Evaluated(split="test", confusion=matrix) if matrix is not None:
                picture = self._image(drawing.confusion(matrix, self.class_names))
                self.pending.at_end.append({"confusion/test": picture, "step": event.step})
            case events.Sampled():
                self.pending.add({"sample": event.text, "step": event.step})
            case events.Probed():
                self._probed(event)
            case events.Pictured():
                picture = self._image(drawing.samples(event.pictures, event.shape, event.labels))
                self.run.log({"samples": picture, "step": event.step})
            case events.Finished() | events.Interrupted() | events.Failed():
                self._end(event)

    def _start(self, event: events.Started) -> None:
        self.class_names = event.class_names
        self.run = self.wandb.init(
            project=self.project,
            name=event.name,
            id=run_id_in(self.run_dir),
            dir=str(self.run_dir),
            mode=self.mode,
            resume="allow",
            config=flat(yaml.safe_load(event.config) or {}),
            settings=self.wandb.Settings(console="off", silent=True),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.pending.start(event.step)

    def _probed(self, event: events.Probed) -> None:
        objects = {f"probe/{name}": self._image(picture) for name, picture in event.pictures.items()}
        for name, rows in event.tables.items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[row.get(key) for key in columns] for row in rows]
            objects[f"probe/{name}"] = self.wandb.Table(columns=columns, data=data)
        texts = {f"probe/{name}": text for name, text in event.texts.items()}
        self.pending.add({**probed_curves(event), **texts, "step": event.step}, **objects)

    def _end(self, event: events.Finished | events.Interrupted | events.Failed) -> None:
        if isinstance(event, events.Finished) and event.best is not None:
            self.run.summary[f"best/{event.monitor.partition('/')[2]}"] = event.best
            self.run.summary["best/step"] = event.best_step
        is_interrupted = isinstance(event, events.Interrupted)
        self.run.finish(
            exit_code=event.exit_code if isinstance(event, events.Failed) else int(is_interrupted)
        )

    def _image(self, picture: events.Picture) -> Any:
        from PIL import Image

        return self.wandb.Image(Image.open(io.BytesIO(picture[0])))
