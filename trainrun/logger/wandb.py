"""Weights & Biases: curves, settings, pictures and text. A view; metrics.jsonl is the truth.

Written offline, below the run's folder, unless `mode` says otherwise: nothing leaves the machine unasked.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from trainrun.errors import ConfigError
from trainrun.events import (
    Evaluated,
    Event,
    Failed,
    Finished,
    Interrupted,
    Pictured,
    Sampled,
    Started,
    StepsLogged,
)
from trainrun.logger import drawing
from trainrun.logger.curves import evaluated, logged
from trainrun.logger.settings import flat
from trainrun.ranges import Natural


class WandB:
    """One run of `project`; a resume goes on with the same one. Curves have the names of TensorBoard's.

    Every curve is drawn over `step`, which a resume may write again: wandb's own count cannot go back.
    """

    def __init__(
        self, run_dir: Path, project: str, mode: Literal["offline", "online"], samples: Natural
    ) -> None:
        self.run_dir, self.project, self.mode, self.samples = run_dir, project, mode, samples
        self.wandb = _imported()
        self.run: Any = None
        self.class_names: Sequence[str] = ()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif self.run is None:
            return
        elif isinstance(event, StepsLogged):
            self._log(event.step, logged(event))
        elif isinstance(event, Evaluated):
            self._log(event.step, evaluated(event))
            if event.split == "test" and event.confusion is not None:
                picture = drawing.confusion(event.confusion, self.class_names)
                self._log(event.step, self._picture("confusion/test", picture))
        elif isinstance(event, Pictured):
            picture = drawing.samples(event.pictures, event.shape, event.labels)
            self._log(event.step, self._picture("samples", picture))
        elif isinstance(event, Sampled):
            self._log(event.step, {"sample": event.text})
        elif isinstance(event, Finished):
            self._finish(event)
        elif isinstance(event, (Interrupted, Failed)):
            self.run.finish(exit_code=getattr(event, "exit_code", 1))

    def _start(self, event: Started) -> None:
        self.class_names = event.class_names
        self.run = self.wandb.init(
            project=self.project,
            name=event.name,
            id=_run_id(self.run_dir),
            dir=str(self.run_dir),
            config=flat(yaml.safe_load(event.config) or {}),
            mode=self.mode,
            resume="allow",
            settings=self.wandb.Settings(console="off", silent=True),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def _finish(self, event: Finished) -> None:
        if event.best is not None:
            self.run.summary[f"best/{event.monitor.partition('/')[2]}"] = event.best
            self.run.summary["best/step"] = event.best_step
        self.run.finish(exit_code=0)

    def _picture(self, tag: str, picture: tuple[bytes, tuple[int, int]]) -> dict[str, Any]:
        from PIL import Image

        return {tag: self.wandb.Image(Image.open(io.BytesIO(picture[0])))}

    def _log(self, step: int, values: dict[str, Any]) -> None:
        self.run.log({**values, "step": step})


def _imported() -> Any:
    try:
        import wandb
    except ImportError:
        raise ConfigError.one("logger.wandb", "needs a package: pip install 'trainrun[wandb]'") from None
    return wandb


def _run_id(run_dir: Path) -> str | None:
    """The run's own, so that a resume finds it; None where the folder has none."""
    try:
        return str(json.loads((run_dir / "status.json").read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
