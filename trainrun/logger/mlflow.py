"""MLflow: curves, settings, pictures and text. A view; metrics.jsonl is the truth.

Written below the run's folder, unless `uri` says otherwise: nothing leaves the machine unasked.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from trainrun.logger import drawing
from trainrun.logger.lines import probed_curves
from trainrun.logger.pending import PendingRows, Row
from trainrun.logger.settings import flat, run_id_in
from trainrun.vocabulary import events
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Natural

_TAG = "trainrun.run_id"
_MOST_PARAMS = 100  # that MLflow takes at once
# MLflow refuses plain folders unless asked; and it would tell its makers of its use.
_ENVIRONMENT = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


class MLflow:
    """One run of `experiment`; a resume goes on with the same one. Curves have the names of TensorBoard's.

    MLflow forgets nothing, so it is told of a step when a checkpoint is behind it. Its parameters are
    those of the first start: they cannot change there.
    """

    def __init__(self, run_dir: Path, experiment: str, uri: str | None, samples: Natural) -> None:
        self.run_dir, self.experiment, self.samples = run_dir, experiment, samples
        self.folder = run_dir / "mlflow"
        self.uri = uri or self.folder.resolve().as_uri()
        with _environment():
            try:
                from mlflow import entities
                from mlflow.tracking import MlflowClient
            except ImportError:
                text = "needs a package: pip install 'trainrun[mlflow]'"
                raise ConfigError.of("logger.mlflow", text) from None
        self.entities, self.client_of = entities, MlflowClient
        self.client: Any = None
        self.run_id = ""
        self.pending = PendingRows(self.folder / "pending.jsonl", self._log)
        self.class_names: Sequence[str] = ()

    def __call__(self, event: events.Event) -> None:
        if self.run_id or isinstance(event, events.Started):
            with _environment():
                self.pending.follow(event)
                self._show(event)

    def _show(self, event: events.Event) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.Evaluated(split="test", confusion=matrix) if matrix is not None:
                self._picture("confusion/test", drawing.confusion(matrix, self.class_names), event.step)
            case events.Sampled():
                self._text("sample", event.text, event.step)
            case events.Probed():
                self._probed(event)
            case events.Pictured():
                picture = drawing.samples(event.pictures, event.shape, event.labels)
                self._picture("samples", picture, event.step)
            case events.Finished() | events.Interrupted() | events.Failed():
                self._end(event)

    def _start(self, event: events.Started) -> None:
        self.folder.mkdir(exist_ok=True)
        self.class_names = event.class_names
        self.client = self.client_of(tracking_uri=self.uri)
        experiment = self.client.get_experiment_by_name(self.experiment)
        place = experiment.experiment_id if experiment else self.client.create_experiment(self.experiment)
        own_id = run_id_in(self.run_dir)
        earlier = self.client.search_runs([place], f"tags.`{_TAG}` = '{own_id}'") if own_id else []
        if earlier:
            self.run_id = earlier[0].info.run_id
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            run = self.client.create_run(place, run_name=event.name, tags={_TAG: own_id or ""})
            self.run_id = run.info.run_id
        self._settings(event.config)
        self.pending.start(event.step)

    def _settings(self, config: str) -> None:
        """The settings as parameters, those that it has not yet, and whole as a file."""
        present = self.client.get_run(self.run_id).data.params
        settings = {_named(key): str(value) for key, value in flat(yaml.safe_load(config) or {}).items()}
        params = [self.entities.Param(k, v) for k, v in settings.items() if k not in present]
        for first in range(0, len(params), _MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[first : first + _MOST_PARAMS])
        self.client.log_text(self.run_id, config, "config.yaml")

    def _log(self, row: Row) -> None:
        now, step = int(time.time() * 1000), row["step"]
        values = {_named(name): float(value) for name, value in row.items() if name != "step"}
        metrics = [self.entities.Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def _probed(self, event: events.Probed) -> None:
        self.pending.add({**probed_curves(event), "step": event.step})
        for name, picture in event.pictures.items():
            self._picture(f"probe/{name}", picture, event.step)
        for name, text in event.texts.items():
            self._text(f"probe/{name}", text, event.step)
        for name, rows in event.tables.items():
            self._text(f"probe/{name}", json.dumps(list(rows), indent=1), event.step, "json")

    def _end(self, event: events.Finished | events.Interrupted | events.Failed) -> None:
        if isinstance(event, events.Finished):
            best = {} if event.best is None else {f"best/{event.monitor.partition('/')[2]}": event.best}
            self._log({**best, "step": event.best_step or 0})
        states = {events.Finished: "FINISHED", events.Interrupted: "KILLED", events.Failed: "FAILED"}
        self.client.set_terminated(self.run_id, states[type(event)])

    def _text(self, name: str, text: str, step: int, kind: str = "txt") -> None:
        self.client.log_text(self.run_id, text, f"{_named(name)}/step-{step:09d}.{kind}")

    def _picture(self, name: str, picture: events.Picture, step: int) -> None:
        """A file of the step: one that is computed again takes its place."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"step-{step:09d}.png"
            file.write_bytes(picture[0])
            self.client.log_artifact(self.run_id, str(file), _named(name))


def _named(name: str) -> str:
    """A name in the characters that MLflow takes, of one level: no file may have the name of a folder."""
    group, _, rest = re.sub(r"[^\w\-. :/]", "_", name).partition("/")
    separator = "." if group == "lr" else "/"  # the largest is `lr` itself
    return separator.join(filter(None, (group, rest.replace("/", "."))))


@contextmanager
def _environment() -> Iterator[None]:
    """Within, MLflow's own switches are set, where the user has not set them."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
