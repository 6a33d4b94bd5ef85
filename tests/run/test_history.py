"""Curves read back from records written by hand, and from those that a run's own events write."""

from __future__ import annotations

import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest

from trainrun.run.history import (
    curves_of,
    end_of,
    epochs_of,
    is_contradicted,
    is_number,
    records_or_none,
    saved_step,
    unread_lines,
)
from trainrun.run.history import (
    records as records_of,
)
from trainrun.run.record import Record
from trainrun.vocabulary.events import Evaluated, RolledBack, Started, StepsLogged


def logged(step: int, loss: float, **more: Any) -> StepsLogged:
    values: dict[str, Any] = {
        "epoch": step / 10,
        "lr": {"all": 0.1},
        "grad_norm": 2.0,
        "grad_norm_after": None,
    }
    values |= {"clipped": None, "skipped": 0, "samples_per_s": 100.0 * step, "data_wait": 0.25}
    return StepsLogged(step=step, loss=loss, **values | more)


def evaluated(step: int, split: str = "val") -> Evaluated:
    metrics = {"loss": 0.4, "accuracy": step / 100}
    return Evaluated(step=step, epoch=1.0, split=split, weights="raw", metrics=metrics, seconds=0.1)


def started(step: int) -> Started:
    return Started(name="demo", run_dir="x", step=step, total_steps=20, monitor="", plan=(), config="")


def write(folder: Path, *events: Any) -> None:
    record = Record(folder)
    for event in events:
        record(event)
    record.close()


def test_every_number_has_a_curve_by_the_name_that_tensorboard_shows(tmp_path: Path) -> None:
    groups = {"head": 0.2, "body": 0.1}
    clipped = {"clipped": 0.5, "grad_norm_after": 1.0, "metrics": {"accuracy": 0.75}}
    events = (started(0), logged(5, 0.5), evaluated(5), logged(10, 0.25, lr=groups, **clipped))
    write(tmp_path, *events, evaluated(10), evaluated(5, "test"))
    assert curves_of(tmp_path) == {
        "train/loss": [(5, 0.5), (10, 0.25)],
        "lr": [(5, 0.1), (10, 0.2)],
        "train/grad_norm": [(5, 2.0), (10, 2.0)],
        "val/loss": [(5, 0.4), (10, 0.4)],
        "val/accuracy": [(5, 0.05), (10, 0.1)],
        "lr/head": [(10, 0.2)],
        "lr/body": [(10, 0.1)],
        "train/grad_norm_after": [(10, 1.0)],
        "train/clipped": [(10, 0.5)],
        "train/accuracy": [(10, 0.75)],
        "test/loss": [(5, 0.4)],
        "test/accuracy": [(5, 0.05)],
        "speed/samples_per_s": [(5, 500.0), (10, 1000.0)],
        "speed/data_wait": [(5, 0.25), (10, 0.25)],
    }
    assert epochs_of(tmp_path) == 1.0


def test_what_a_rollback_and_a_resume_compute_again_is_there_once(tmp_path: Path) -> None:
    back = RolledBack(step=15, to=5, lr_factor=0.5)
    write(tmp_path, started(0), logged(5, 0.5), logged(10, 9.0), evaluated(10), back, logged(10, 0.4))
    assert curves_of(tmp_path)["train/loss"] == [(5, 0.5), (10, 0.4)]
    assert curves_of(tmp_path)["val/loss"] == []
    other = tmp_path / "other"
    other.mkdir()
    write(other, started(0), logged(5, 0.5), logged(10, 0.4), started(5), logged(10, 0.4, samples_per_s=7.0))
    assert curves_of(other)["speed/samples_per_s"] == [(5, 500.0), (10, 7.0)]


def test_what_cannot_be_read_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"event": "train", "step": 5, "loss": None, "nonfinite": True, "grad_norm": 1.0},
        {"event": "train", "step": "six", "loss": 1.0},
        {"event": "train", "loss": 1.0},
        {"event": "train", "step": 7, "loss": 10**400},
        {"event": "eval", "step": 5, "split": "val", "weights": "raw", "loss": "low", "accuracy": True},
        {"event": ["train"], "step": 5, "loss": 1.0},
        ["event"],
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"event": "train", "step": 9, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert curves_of(tmp_path) == {"train/grad_norm": [(5, 1.0)]}
    assert curves_of(tmp_path / "nowhere") == {}
    assert epochs_of(tmp_path) is None


def jsonl(file: Path, *records: Any) -> None:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_step_that_is_told_twice_or_out_of_order_is_there_once(tmp_path: Path) -> None:
    steps = [(10, 9.0), (5, 0.5), (10, 0.4), (5, 0.5)]
    jsonl(tmp_path / "metrics.jsonl", *({"event": "train", "step": s, "loss": x} for s, x in steps))
    assert curves_of(tmp_path) == {"train/loss": [(5, 0.5), (10, 0.4)]}


def test_only_the_last_record_tells_that_a_run_came_to_its_end(tmp_path: Path) -> None:
    assert end_of(tmp_path) is None and not is_contradicted(tmp_path)
    end, train = {"event": "finished", "step": 20, "reason": "budget"}, {"event": "train", "step": 20}
    for records, is_end in (
        ([train, end], True),
        ([train, end, train], False),
        ([{"event": "finished"}], False),
    ):
        jsonl(tmp_path / "metrics.jsonl", *records)
        assert (end_of(tmp_path) == end) is is_end
        assert is_contradicted(tmp_path) is not is_end
    jsonl(tmp_path / "metrics.jsonl", *([{"event": "train", "step": 1, "x": "y" * 100}] * 2000), end)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\xff{")
    assert end_of(tmp_path) == end


def test_the_checkpoint_that_the_records_tell_of_last(tmp_path: Path) -> None:
    assert saved_step(tmp_path) is None
    saved = [{"event": "saved", "step": step} for step in (10, 20, "many")]
    jsonl(tmp_path / "timing.jsonl", *saved, {"event": "train", "step": 25})
    assert saved_step(tmp_path) == 20
    jsonl(tmp_path / "metrics.jsonl", {"event": "finished", "step": 30})
    assert saved_step(tmp_path) == 30


def test_a_pipe_in_place_of_a_record_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert curves_of(tmp_path) == {} and end_of(tmp_path) is None
    assert [*records_of(tmp_path / "metrics.jsonl")] == []


def test_unread_lines_are_counted_in_the_first_bytes(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "metrics.jsonl", {"event": "train", "step": 1}, "no event", {"event": "train", "step": 2}
    )
    size = (tmp_path / "metrics.jsonl").stat().st_size
    assert unread_lines(tmp_path / "metrics.jsonl", size) == 1
    assert unread_lines(tmp_path / "metrics.jsonl", size - 5) == 2


def test_what_is_a_number() -> None:
    assert is_number(1) and is_number(0.5)
    assert not any(map(is_number, (True, None, "1", [1], math.nan, math.inf, 10**400)))


LINES = (
    '{"event": "train", "step": 1}',
    '{"event": "train", "step": 2}, {"event": "train", "step": 3}',
    '{"event": "train", "step": 4, "loss": [1',
    "2]}",
    "",
    '[{"event": "train"}]',
    '{"event": 3}',
    "\u2028",
    "[" * 5000,
    '{"event": "train", "step": ' + "9" * 5000 + "}",
)


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_records_by_themselves_whatever_stands_beside(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    lines = [draw.choice(LINES[: 1 if draw.random() < 0.9 else None]) for _ in range(1000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    expected = [json.loads(line) if line == LINES[0] else None for line in lines]
    assert [*records_or_none(tmp_path / "metrics.jsonl")] == expected
    assert [*records_of(tmp_path / "metrics.jsonl")] == [record for record in expected if record]


def test_a_long_record_is_read_once_and_the_epochs_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"event": "train", "step": step, "epoch": step / 10, "loss": 0.5} for step in range(1, 20_001)]
    jsonl(tmp_path / "metrics.jsonl", *lines, {"event": "finished", "step": 20_000})
    parsed: list[int] = []
    loads = json.loads

    def counted(text: str) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    size = (tmp_path / "metrics.jsonl").stat().st_size
    assert len(curves_of(tmp_path)["train/loss"]) == 20_000
    assert sum(parsed) < 1.02 * size and len(parsed) < 100
    parsed.clear()
    assert epochs_of(tmp_path) == 2000.0
    assert sum(parsed) < 70_000


def test_epochs_are_found_also_far_before_the_end(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "metrics.jsonl",
        {"event": "train", "step": 5, "epoch": 0.5},
        *[{"event": "eval", "step": 5, "text": "y" * 1000}] * 100,
    )
    assert epochs_of(tmp_path) == 0.5


def test_what_is_left_out_makes_no_curve(tmp_path: Path) -> None:
    ratios = {"head": 0.1, "body": 0.2}
    jsonl(tmp_path / "metrics.jsonl", {"event": "train", "step": 5, "loss": 0.5, "update_ratio": ratios})
    assert curves_of(tmp_path, ["update_ratio"]) == {"train/loss": [(5, 0.5)]}
