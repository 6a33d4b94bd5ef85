"""metrics.csv: a line per evaluation that a spreadsheet can read."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from trainrun.logger.csv import CSV
from trainrun.vocabulary.events import Evaluated, Probed, Progressed, RolledBack, Started


def started(step: int = 0, resumed_from: int | None = None) -> Started:
    return Started(
        name="demo",
        run_dir="x",
        step=step,
        total_steps=20,
        monitor="",
        plan=(),
        config="",
        resumed_from=resumed_from,
    )


def evaluated(step: int, split: str = "val", **metrics: float) -> Evaluated:
    return Evaluated(step=step, epoch=step / 5, split=split, weights="raw", metrics=metrics, seconds=0.1)


def rows(folder: Path) -> list[list[str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_line_per_evaluation_under_one_head(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    for event in (
        started(),
        Progressed(step=1, samples_per_s=1.0),
        evaluated(5, loss=0.5, accuracy=0.75),
        evaluated(10, loss=0.25, accuracy=1.0),
        evaluated(5, "test", loss=0.5, accuracy=0.5, extra=1.0),
    ):
        logger(event)
    assert rows(tmp_path) == [
        ["step", "epoch", "split", "loss", "accuracy"],
        ["5", "1.0", "val", "0.5", "0.75"],
        ["10", "2.0", "val", "0.25", "1.0"],
        ["5", "1.0", "test", "0.5", "0.5"],
    ]


def test_training_and_the_learning_rate_stand_beside_validation(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    trained = {"train": {"loss": 1.5, "accuracy": 0.25}, "lr": 0.1}
    for event in (started(), replace(evaluated(5, loss=0.5), **trained), evaluated(5, "test", loss=0.75)):
        logger(event)
    assert rows(tmp_path) == [
        ["step", "epoch", "split", "loss", "train_loss", "train_accuracy", "lr"],
        ["5", "1.0", "val", "0.5", "1.5", "0.25", "0.1"],
        ["5", "1.0", "test", "0.75", "", "", ""],
    ]


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    first = CSV(tmp_path)
    for event in (started(), evaluated(5, loss=0.5), evaluated(10, loss=0.4), evaluated(5, "test", loss=0.6)):
        first(event)
    second = CSV(tmp_path)
    for event in (started(5, resumed_from=5), evaluated(10, loss=0.3), evaluated(10, "test", loss=0.7)):
        second(event)
    assert [row[:4] for row in rows(tmp_path)] == [
        ["step", "epoch", "split", "loss"],
        ["5", "1.0", "val", "0.5"],
        ["10", "2.0", "val", "0.3"],
        ["10", "2.0", "test", "0.7"],
    ]


def test_a_run_resumed_before_its_first_line_writes_a_head(tmp_path: Path) -> None:
    CSV(tmp_path)(evaluated(5, loss=0.5))
    again = CSV(tmp_path)
    again(started(2, resumed_from=2))
    again(evaluated(5, loss=0.5))
    assert rows(tmp_path) == [["step", "epoch", "split", "loss"], ["5", "1.0", "val", "0.5"]]


@pytest.mark.parametrize("tail", ["10,2.0,va", "10,2.0,val,0.3", "\0\0\0\0", "ten,2.0,val,0.4\n", "\udcff\n"])
def test_what_a_kill_left_of_a_line_goes_and_every_step_is_there_once(tail: str, tmp_path: Path) -> None:
    first = CSV(tmp_path)
    for event in (started(), evaluated(5, loss=0.5), evaluated(10, loss=0.4)):
        first(event)
    with (tmp_path / "metrics.csv").open("a", errors="surrogateescape", newline="") as file:
        file.write(tail)
    second = CSV(tmp_path)
    for event in (
        started(10, resumed_from=10),
        evaluated(15, loss=0.3),
        RolledBack(step=17, to=10, lr_factor=1),
    ):
        second(event)
    second(evaluated(15, loss=0.2))
    assert [row[0] for row in rows(tmp_path)] == ["step", "5", "10", "15"]
    assert rows(tmp_path)[-1][-1] == "0.2"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def probed(step: int, **numbers: float) -> Probed:
    return Probed(step=step, numbers=numbers, pictures={}, texts={}, tables={})


def test_what_probes_return_stands_in_the_line_of_their_evaluation(tmp_path: Path) -> None:
    logger = CSV(tmp_path)
    for event in (
        started(),
        evaluated(5, loss=0.5),
        probed(5),
        evaluated(10, loss=0.4),
        probed(10, spread=1.5),
    ):
        logger(event)
    second = CSV(tmp_path)
    for event in (
        started(10),
        evaluated(15, loss=0.3),
        probed(15, spread=2.5),
        evaluated(15, "test", loss=0.2),
    ):
        second(event)
    assert rows(tmp_path) == [
        ["step", "epoch", "split", "loss", "probe_spread"],
        ["5", "1.0", "val", "0.5", ""],
        ["10", "2.0", "val", "0.4", "1.5"],
        ["15", "3.0", "val", "0.3", "2.5"],
        ["15", "3.0", "test", "0.2", ""],
    ]
