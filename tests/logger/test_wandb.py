"""What wandb is told, by a module that stands in for it."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy

from trainrun.config.compose.composer import Composer
from trainrun.logger import drawing
from trainrun.logger.wandb import WandB
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

STARTED = Started(
    name="demo",
    run_dir="x",
    step=0,
    total_steps=20,
    monitor="",
    plan=(),
    config="optimizer:\n  _target_: trainrun.optimizer.adamw\n  lr: 0.1\n",
)
TEST = Evaluated(step=5, epoch=None, split="test", weights="raw", metrics={"accuracy": 0.5}, seconds=0.1)
LOGGED = replace(toy.LOGGED, epoch=0.5, loss=0.25, grad_norm=2.0, samples_per_s=100.0, data_wait=0.5)


class Run:
    """Keeps what it is told."""

    def __init__(self, **given: Any) -> None:
        self.given, self.summary = given, dict[str, Any]()
        self.lines, self.axes, self.ended = list[Any](), list[Any](), list[int]()

    def log(self, values: dict[str, Any]) -> None:
        assert not self.ended
        self.lines.append(values)

    def define_metric(self, name: str, **more: str) -> None:
        self.axes.append((name, more))

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Those that were begun, in order."""
    begun: list[Run] = []

    def init(**given: Any) -> Run:
        begun.append(Run(**given))
        return begun[-1]

    fake = SimpleNamespace(init=init, Settings=dict, Image=lambda image: image.size, Table=dict)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return begun


def test_settings_curves_pictures_and_the_best_are_told(runs: list[Run], tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"run_id": "0123abcd"}))
    logger = WandB(tmp_path, "mine", "offline", 2)
    shown = Pictured(step=0, pictures=[bytes(4)], shape=(2, 2, 1), labels=["a"])
    written, test = Sampled(step=5, text="once"), replace(TEST, confusion=[[1, 0], [0, 1]])
    for event in (STARTED, shown, LOGGED, written, test, toy.FINISHED):
        logger(event)
    (run,) = runs
    given = {key: run.given[key] for key in ("project", "name", "id", "dir", "mode", "resume", "config")}
    assert given == {
        "project": "mine",
        "name": "demo",
        "id": "0123abcd",
        "dir": str(tmp_path),
        "mode": "offline",
        "resume": "allow",
        "config": {"optimizer": "adamw", "optimizer.lr": 0.1},
    }
    assert run.axes == [("step", {}), ("*", {"step_metric": "step"})]
    speed = {"speed/samples_per_s": 100.0, "speed/data_wait": 0.5}
    samples, confusion = run.lines.pop(0), run.lines.pop()
    assert run.lines == [
        {"train/loss": 0.25, "train/grad_norm": 2.0, "train/epoch": 0.5, "lr": 0.1, "step": 5} | speed,
        {"sample": "once", "step": 5},
        {"test/accuracy": 0.5, "step": 5},
    ]
    assert set(samples) == {"samples", "step"} and set(confusion) == {"confusion/test", "step"}
    assert run.summary == {"best/accuracy": 0.9, "best/step": 10}
    assert run.ended == [0]


@pytest.mark.parametrize(
    ("end", "code"),
    [(Interrupted(step=7, signal="SIGINT"), 1), (Failed(step=7, reason="x", exit_code=7), 7)],
    ids=["interrupted", "failed"],
)
def test_a_run_that_stops_early_is_ended_and_goes_on_as_the_same(
    end: Any, code: int, runs: list[Run], tmp_path: Path
) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"run_id": "0123abcd"}))
    for events in ((STARTED, LOGGED, end), (replace(STARTED, step=5), toy.FINISHED)):
        logger = WandB(tmp_path, "mine", "offline", 0)
        for event in events:
            logger(event)
    assert [run.ended for run in runs] == [[code], [0]]
    assert [run.given["id"] for run in runs] == ["0123abcd"] * 2


def test_what_failed_before_it_started_is_no_run(runs: list[Run], tmp_path: Path) -> None:
    WandB(tmp_path, "mine", "offline", 0)(Failed(step=0, reason="x", exit_code=9))
    assert not runs


def test_a_missing_package_is_answered_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(
        ConfigError, match=r"^logger.wandb: needs a package: pip install 'trainrun\[wandb\]'$"
    ):
        WandB(tmp_path, "mine", "offline", 0)
    for spec in (None, importlib.util.spec_from_loader("wandb", None)):  # the latter as a mere folder has it
        monkeypatch.setattr("trainrun.config.rules.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(ConfigError, match=r"pip install 'trainrun\[wandb\]'"):
            Composer().checked(["logger=[console,wandb]"])


def evaluated(step: int) -> Evaluated:
    return replace(TEST, step=step, split="val")


def saved(step: int) -> CheckpointSaved:
    return CheckpointSaved(step=step, path="p", num_bytes=9, seconds=0.1, blocked_s=0.01)


@pytest.mark.parametrize("tail", ["", '{"step": 1', "[5]\n\x00"])
def test_every_step_is_told_once_after_kills(tail: str, runs: list[Run], tmp_path: Path) -> None:
    """The first process dies before it hears of its save of step 10, the second after the test split."""
    processes: list[list[Event]] = [
        [STARTED, evaluated(5), saved(5), evaluated(10), evaluated(15)],
        [replace(STARTED, step=10), evaluated(15), evaluated(20), saved(20), TEST],
        [replace(STARTED, step=20), TEST, toy.FINISHED],
    ]
    for events in processes:
        logger = WandB(tmp_path, "mine", "offline", 0)
        for event in events:
            logger(event)
        with (tmp_path / "wandb/pending.jsonl").open("a") as file:
            file.write(tail)
    lines = [line for run in runs for line in run.lines]
    assert [line["step"] for line in lines if "val/accuracy" in line] == [5, 10, 15, 20]
    assert [line["step"] for line in lines if "test/accuracy" in line] == [5]


def test_what_a_rollback_takes_back_is_not_told(runs: list[Run], tmp_path: Path) -> None:
    logger = WandB(tmp_path, "mine", "offline", 0)
    back = RolledBack(step=12, to=5, lr_factor=0.5)
    for event in (STARTED, evaluated(5), saved(5), evaluated(10), back, evaluated(10), toy.FINISHED):
        logger(event)
    assert [line["step"] for line in runs[0].lines] == [5, 10]


def test_what_probes_return_waits_for_its_checkpoint(runs: list[Run], tmp_path: Path) -> None:
    logger = WandB(tmp_path, "mine", "offline", 0)
    probed = Probed(
        step=5,
        numbers={"spread": 0.5},
        pictures={"grid": drawing.samples([bytes(4)], (2, 2, 1), ["a"])},
        texts={"note": "hello"},
        tables={"worst": [{"i": 1}, {"i": 2, "p": 0.5}]},
    )
    for event in (STARTED, probed, saved(4)):
        logger(event)
    assert runs[0].lines == []
    logger(saved(5))
    (line,) = runs[0].lines
    picture = line.pop("probe/grid")
    assert picture[0] >= 64
    table = {"columns": ["i", "p"], "data": [[1, None], [2, 0.5]]}
    assert line == {"step": 5, "probe/spread": 0.5, "probe/note": "hello", "probe/worst": table}
