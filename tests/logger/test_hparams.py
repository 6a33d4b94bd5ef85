"""What TensorBoard's own HParams backend makes of several runs in one folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import toy
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from trainrun.logger.tensorboard import TensorBoard
from trainrun.vocabulary.events import Evaluated, Started

CONFIG = """\
name: {name}
seed: 0
optimizer:
  _target_: trainrun.optimizer.{optimizer}
  lr: {lr}
  betas: [0.9, 0.99]
  amsgrad: {amsgrad}
loop:
  clip: null
logger:
  console:
    width: {lr}
"""


def train(folder: Path, name: str, optimizer: str, lr: float, amsgrad: str, accuracy: float) -> None:
    """A run whose validation accuracy falls after its best."""
    folder.mkdir(parents=True)
    config = CONFIG.format(name=name, optimizer=optimizer, lr=lr, amsgrad=amsgrad)
    logger, best = TensorBoard(folder, 0, histograms=False), {"best": accuracy, "monitor": "val/accuracy"}
    logger(Started(name=name, run_dir="x", step=0, total_steps=9, monitor="", plan=(), config=config))
    for step, value in ((5, accuracy), (9, accuracy / 2)):
        metrics = {"accuracy": value}
        logger(Evaluated(step=step, epoch=1.0, split="val", weights="raw", metrics=metrics, seconds=0.1))
    logger(toy.replace(toy.FINISHED, **best))


def tab(folder: Path) -> tuple[Any, list[Any]]:
    """The columns and the rows of the tab, as its server answers."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(SimpleNamespace(data_provider=provider))
    request = RequestContext()
    contents = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, contents, [])
    columns = [api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos]
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=99, col_params=columns, allowed_statuses=[api_pb2.STATUS_SUCCESS]
    )
    handler = list_session_groups.Handler(request, context, "", asked)
    return experiment, list(handler.run().session_groups)


def test_each_run_is_a_row_with_its_settings_and_the_metrics_of_its_end(tmp_path: Path) -> None:
    train(tmp_path / "a", "one", "adamw", 0.1, "false", 0.75)
    train(tmp_path / "b", "two", "sgd", 0.01, "true", 0.5)
    experiment, rows = tab(tmp_path)
    differs = {info.name for info in experiment.hparam_infos if info.differs}
    assert differs == {"optimizer", "optimizer.lr", "optimizer.amsgrad"}
    assert {info.name for info in experiment.hparam_infos} == differs | {"seed", "optimizer.betas"}
    assert {info.name.tag for info in experiment.metric_infos} == {"val/accuracy", "best/accuracy"}
    by_run = {}
    for row in rows:
        values = {value.name.tag: value.value for value in row.metric_values}
        settings = row.hparams
        shown = settings["optimizer"].string_value, settings["optimizer.lr"].number_value
        by_run[row.sessions[0].name] = (
            *shown,
            settings["optimizer.amsgrad"].bool_value,
            values["best/accuracy"],
        )
    assert by_run == {
        "a/tensorboard": ("adamw", 0.1, False, 0.75),
        "b/tensorboard": ("sgd", 0.01, True, 0.5),
    }


def test_there_is_no_run_beside_the_runs_own(tmp_path: Path) -> None:
    train(tmp_path / "a", "one", "adamw", 0.1, "false", 0.75)
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    assert list(multiplexer.Runs()) == ["a/tensorboard"]
