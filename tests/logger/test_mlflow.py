"""What MLflow is told, by a client that stands in for its own."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import toy

from trainrun.config.compose.composer import Composer
from trainrun.logger import drawing
from trainrun.logger.mlflow import MLflow
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Interrupted,
    Pictured,
    Probed,
    RolledBack,
    Sampled,
    Started,
)

CONFIG = "optimizer:\n  _target_: trainrun.optimizer.adamw\n  lr: 0.1\n"
STARTED = Started(name="demo", run_dir="x", step=0, total_steps=20, monitor="", plan=(), config=CONFIG)
TEST = Evaluated(step=5, epoch=None, split="test", weights="raw", metrics={"accuracy": 0.5}, seconds=0.1)


class Store:
    """Keeps what its clients tell it, as a server would."""

    def __init__(self) -> None:
        self.uris, self.metrics = list[str](), list[tuple[str, float, int]]()
        self.params, self.tags, self.files = dict[str, str](), dict[str, str](), dict[str, Any]()
        self.states, self.runs = list[str](), list[str]()


class Client:
    store: Store

    def __init__(self, tracking_uri: str) -> None:
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
        self.store.uris.append(tracking_uri)

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if self.store.runs else None

    def create_experiment(self, name: str) -> str:
        return name

    def search_runs(self, experiments: list[str], words: str) -> list[Any]:
        assert (experiments, words) == (["mine"], "tags.`trainrun.run_id` = '0123abcd'")
        return [self.get_run(run) for run in self.store.runs]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        self.store.runs.append(run_name)
        self.store.tags |= tags
        return self.get_run(run_name)

    def get_run(self, run_id: str) -> Any:
        data = SimpleNamespace(params=dict(self.store.params))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id), data=data)

    def update_run(self, run_id: str, status: str) -> None:
        self.store.states.append(status)

    def set_terminated(self, run_id: str, status: str) -> None:
        self.store.states.append(status)

    def log_batch(self, run_id: str, metrics: Sequence[Any] = (), params: Sequence[Any] = ()) -> None:
        assert run_id == "demo"
        self.store.metrics += [(metric.key, metric.value, metric.step) for metric in metrics]
        for param in params:
            assert param.key not in self.store.params
            self.store.params[param.key] = param.value

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.store.files[name] = text

    def log_artifact(self, run_id: str, file: str, folder: str) -> None:
        self.store.files[f"{folder}/{Path(file).name}"] = Path(file).read_bytes()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    (tmp_path / "status.json").write_text(json.dumps({"run_id": "0123abcd"}))
    package: Any = ModuleType("mlflow")
    tracking: Any = ModuleType("mlflow.tracking")
    tracking.MlflowClient = type("Told", (Client,), {"store": Store()})
    package.entities = SimpleNamespace(
        Metric=lambda key, value, time, step: SimpleNamespace(key=key, value=value, step=step),
        Param=lambda key, value: SimpleNamespace(key=key, value=value),
    )
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    result: Store = tracking.MlflowClient.store
    return result


def saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(step=step, path="p", num_bytes=9, seconds=0.1, blocked_s=0.01)


def evaluated(step: int) -> Evaluated:
    return replace(TEST, step=step, split="val")


def tell(folder: Path, *events: Event) -> None:
    logger = MLflow(folder, "mine", None, 0)
    for event in events:
        logger(event)


def test_settings_curves_pictures_and_the_best_are_told(store: Store, tmp_path: Path) -> None:
    shown = Pictured(step=0, pictures=[bytes(4)], shape=(2, 2, 1), labels=["a"])
    grid = drawing.samples([bytes(4)], (2, 2, 1), ["a"])
    probed = Probed(
        step=5,
        numbers={"iou/cat (big)": 0.5},
        pictures={"grid": grid},
        texts={"n": "t"},
        tables={"w": [{"i": 1}]},
    )
    logged = replace(toy.LOGGED, lr={"a": 0.1, "b": 0.2})
    test = replace(TEST, confusion=[[1, 0], [0, 1]])
    tell(tmp_path, STARTED, shown, logged, Sampled(step=5, text="once"), probed, test, toy.FINISHED)
    assert store.uris == [f"file://{tmp_path}/mlflow"]
    assert store.params == {"optimizer": "adamw", "optimizer.lr": "0.1"}
    assert (store.tags, store.states) == ({"trainrun.run_id": "0123abcd"}, ["FINISHED"])
    curves = {name: (value, step) for name, value, step in store.metrics}
    assert len(curves) == len(store.metrics)  # none twice
    assert (curves["lr"], curves["lr.a"], curves["train/loss"]) == ((0.2, 5), (0.1, 5), (0.5, 5))
    assert (curves["test/accuracy"], curves["best/accuracy"]) == ((0.5, 5), (0.9, 10))
    assert curves["probe/iou.cat _big_"] == (0.5, 5)
    assert not [name for name in curves if any(other.startswith(f"{name}/") for other in curves)]
    assert store.files["probe/grid/step-000000005.png"] == grid[0]
    assert store.files["config.yaml"] == CONFIG
    assert store.files["probe/w/step-000000005.json"] == '[\n {\n  "i": 1\n }\n]'
    texts = {"sample/step-000000005.txt": "once", "probe/n/step-000000005.txt": "t"}
    assert texts.items() <= store.files.items()
    assert {"samples/step-000000000.png", "confusion/test/step-000000005.png"} <= store.files.keys()
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ


@pytest.mark.parametrize(
    ("end", "state"),
    [(Interrupted(step=7, signal="SIGINT"), "KILLED"), (Failed(step=7, reason="x", exit_code=7), "FAILED")],
)
def test_a_run_that_stops_early_goes_on_as_the_same(
    end: Event, state: str, store: Store, tmp_path: Path
) -> None:
    tell(tmp_path, STARTED, toy.LOGGED, end)
    again = replace(STARTED, step=5, config=CONFIG.replace("0.1", "0.2") + "seed: 1\n")
    tell(tmp_path, again, toy.FINISHED)
    assert store.states == [state, "RUNNING", "FINISHED"]
    assert store.runs == ["demo"]
    assert store.params == {"optimizer": "adamw", "optimizer.lr": "0.1", "seed": "1"}


def test_every_step_is_told_once_after_kills_and_rollbacks(store: Store, tmp_path: Path) -> None:
    back = RolledBack(step=12, to=5, lr_factor=0.5)
    tell(tmp_path, STARTED, evaluated(5), saved(5), evaluated(10), back, evaluated(10), evaluated(15))
    tell(tmp_path, replace(STARTED, step=10), evaluated(15), evaluated(20), saved(20), TEST)
    tell(tmp_path, replace(STARTED, step=20), TEST, toy.FINISHED)
    told = [(name, step) for name, _, step in store.metrics]
    assert [step for name, step in told if name == "val/accuracy"] == [5, 10, 15, 20]
    assert [step for name, step in told if name == "test/accuracy"] == [5]


def test_what_failed_before_it_started_is_no_run(store: Store, tmp_path: Path) -> None:
    tell(tmp_path, Failed(step=0, reason="x", exit_code=9))
    assert not store.runs


def test_a_missing_package_is_answered_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    message = r"^logger.mlflow: needs a package: pip install 'trainrun\[mlflow\]'$"
    with pytest.raises(ConfigError, match=message):
        MLflow(tmp_path, "mine", None, 0)
    for spec in (None, importlib.util.spec_from_loader("mlflow", None)):  # the latter as a mere folder has it
        monkeypatch.setattr("trainrun.config.rules.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(ConfigError, match=r"pip install 'trainrun\[mlflow\]'"):
            Composer().checked(["logger=[console,mlflow]"])
