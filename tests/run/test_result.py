"""result.json: the numbers that a run ended with, whatever happened on the way."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy

from trainrun.run.record import Record, result_of
from trainrun.vocabulary.errors import StorageError
from trainrun.vocabulary.events import Evaluated, Event, Started, StepsLogged

STARTED = Started(name="a", run_dir="a", step=0, total_steps=20, monitor="val/accuracy", plan=(), config="")
LOGGED = StepsLogged(
    step=10,
    epoch=1.5,
    loss=0.5,
    lr={"decay": 0.1, "no_decay": 0.2},
    grad_norm=2.0,
    grad_norm_after=1.0,
    clipped=0.5,
    skipped=1,
    spikes=2,
    metrics={"accuracy": 0.75},
    samples_per_s=1.0,
    data_wait=0.0,
)
FINISHED = replace(toy.FINISHED, skipped=1, kept_weights="ema", seconds=1.23456)
FINISHED = replace(FINISHED, seconds_by_part={"steps": 1.0, "data": 0.235})


def evaluated(step: int, split: str, accuracy: float, weights: str = "raw") -> Evaluated:
    metrics = {"loss": 1 - accuracy, "accuracy": accuracy}
    return Evaluated(step=step, epoch=1.0, split=split, weights=weights, metrics=metrics, seconds=0.1)


WHOLE: list[Event] = [
    *[STARTED, LOGGED, evaluated(10, "val", 0.9, "ema"), replace(LOGGED, step=20, epoch=3.0, loss=0.25)],
    *[evaluated(20, "val", 0.8, "ema"), evaluated(10, "test", 0.7, "ema"), FINISHED],
]


def result_of_run(run_dir: Path, events: list[Event]) -> dict[str, Any]:
    with closing(Record(run_dir)) as record:
        for event in events:
            record(event)
    return json.loads((run_dir / "result.json").read_text())


def test_it_holds_what_the_run_came_to(tmp_path: Path) -> None:
    assert result_of_run(tmp_path, WHOLE) == {
        "reason": "budget",
        "steps": 20,
        "epochs": 3.0,
        "samples": 640,
        "skipped_steps": 1,
        "spikes": 2,
        "parameters": 12,
        "monitor": "val/accuracy",
        "best_value": 0.9,
        "kept": {"step": 10, "weights": "ema"},
        "best": {"step": 10, "weights": "ema", "metrics": {"loss": pytest.approx(0.1), "accuracy": 0.9}},
        "last": {"step": 20, "weights": "ema", "metrics": {"loss": pytest.approx(0.2), "accuracy": 0.8}},
        "test": {"step": 10, "weights": "ema", "metrics": {"loss": pytest.approx(0.3), "accuracy": 0.7}},
        "train": {"loss": 0.25, "accuracy": 0.75},
        "seconds": 1.235,
        "seconds_by_part": {"steps": 1.0, "data": 0.235},
    }


def test_it_is_the_same_where_several_processes_wrote_the_record(tmp_path: Path) -> None:
    (tmp_path / "straight").mkdir()
    (tmp_path / "resumed").mkdir()
    with closing(Record(tmp_path / "resumed")) as record:
        for event in WHOLE[:3]:
            record(event)
    assert not (tmp_path / "resumed" / "result.json").exists()
    resumed = result_of_run(tmp_path / "resumed", [replace(STARTED, step=10, resumed_from=10), *WHOLE[3:]])
    assert resumed == result_of_run(tmp_path / "straight", WHOLE)


def test_what_goes_on_has_none_until_its_new_end(tmp_path: Path) -> None:
    result_of_run(tmp_path, WHOLE)
    with closing(Record(tmp_path)) as record:
        record(replace(STARTED, step=20, resumed_from=20))
        assert not (tmp_path / "result.json").exists()
        record(evaluated(30, "val", 0.95))
        record(evaluated(30, "test", 0.6))
        record(replace(FINISHED, step=30, best=0.95, best_step=30))
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["best"]["step"], result["test"]["metrics"]["accuracy"]) == (30, 0.6)


def test_what_there_was_not_is_null_and_so_is_what_is_not_finite(tmp_path: Path) -> None:
    none = replace(FINISHED, monitor="", best=None, best_step=None)
    result = result_of_run(tmp_path, [STARTED, replace(LOGGED, loss=float("nan")), none])
    assert (result["monitor"], result["best"], result["last"], result["test"]) == (None, None, None, None)
    assert result["train"] == {"loss": None, "accuracy": 0.75}


def test_of_a_step_evaluated_twice_the_later_counts() -> None:
    twice = [
        {"event": "eval", "step": 10, "split": "val", "weights": "raw", "accuracy": accuracy}
        for accuracy in (0.1, 0.9)
    ]
    best = result_of(FINISHED, twice)["best"]
    assert best == {"step": 10, "weights": "raw", "metrics": {"accuracy": 0.9}}


def test_a_run_has_not_ended_before_it_is_written(tmp_path: Path) -> None:
    with closing(Record(tmp_path)) as record:
        for event in WHOLE[:-1]:
            record(event)
        (tmp_path / ".tmp-result.json").mkdir()  # what it is written through
        with pytest.raises(StorageError):
            record(FINISHED)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "running"
