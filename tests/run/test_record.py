"""What is always written: strict JSON, one object a line, and a status for every state."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy import FINISHED

from trainrun.run.files import read_json
from trainrun.run.record import Record, restore_status, write_status
from trainrun.vocabulary.errors import ResumeError, StorageError
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Interrupted,
    Progressed,
    Replanned,
    Started,
    StepsLogged,
)

NAN, INF = float("nan"), float("inf")
STARTED = Started(
    name="demo",
    run_dir="outputs/x",
    step=0,
    total_steps=20,
    monitor="val/accuracy",
    plan=(("data", "toy"),),
    config="a: 1\n",
)
LOGGED = StepsLogged(
    step=5,
    epoch=1.0,
    loss=0.5,
    lr={"decay": 0.1, "no_decay": 0.1},
    grad_norm=2.0,
    grad_norm_after=None,
    clipped=None,
    skipped=0,
    metrics={"accuracy": 0.75},
    samples_per_s=123.456,
    data_wait=0.01234,
)


def evaluated(step: int, split: str = "val", is_best: bool = False, **metrics: float) -> Evaluated:
    return Evaluated(
        step=step, epoch=1.0, split=split, weights="raw", metrics=metrics, is_best=is_best, seconds=0.1
    )


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path)
    yield record
    record.close()


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_metrics_hold_what_was_computed_and_timing_what_happened(record: Record, tmp_path: Path) -> None:
    saved = CheckpointSaved(step=5, path="p", num_bytes=9, seconds=0.1, blocked_s=0.01)
    progressed = Progressed(step=3, samples_per_s=1.0)
    for event in (STARTED, progressed, LOGGED, evaluated(5, loss=0.4, accuracy=0.8), saved, FINISHED):
        record(event)
    record(Interrupted(step=7, signal="SIGTERM"))
    record(Failed(step=8, reason="boom", exit_code=1))
    train = {
        "event": "train",
        "step": 5,
        "epoch": 1.0,
        "loss": 0.5,
        "lr": 0.1,
        "grad_norm": 2.0,
        "accuracy": 0.75,
    }
    val = {
        "event": "eval",
        "step": 5,
        "epoch": 1.0,
        "split": "val",
        "weights": "raw",
        "loss": 0.4,
        "accuracy": 0.8,
    }
    end = {"event": "finished", "step": 20, "reason": "budget"}
    end |= {"monitor": "val/accuracy", "best": 0.9, "best_step": 10}
    assert lines(tmp_path / "metrics.jsonl") == [train, val, end]
    timing = lines(tmp_path / "timing.jsonl")
    happened = ["started", "train", "eval", "saved", "finished", "interrupted", "failed"]
    assert [line["event"] for line in timing] == happened
    assert all(line["time"] > 1.7e9 for line in timing)
    assert timing[1]["samples_per_s"] == 123.5


def test_numbers_that_are_not_finite_are_null_and_said(record: Record, tmp_path: Path) -> None:
    record(evaluated(5, loss=NAN, accuracy=0.5, worst=-INF))
    record(evaluated(6, loss=0.5))
    record(Failed(step=1, reason="x", exit_code=7))
    bad, good = lines(tmp_path / "metrics.jsonl")
    assert (bad["loss"], bad["accuracy"], bad["worst"], bad["nonfinite"]) == (None, 0.5, None, True)
    assert "nonfinite" not in good
    assert lines(tmp_path / "timing.jsonl")


def test_a_metric_that_is_not_finite_does_not_break_the_status(record: Record, tmp_path: Path) -> None:
    record(evaluated(5, loss=NAN, accuracy=0.5))
    assert read_json(tmp_path / "status.json")["metric"] == {"loss": None, "accuracy": 0.5}
    record(evaluated(6, loss=0.25))
    assert read_json(tmp_path / "status.json")["metric"] == {"loss": 0.25}


def test_rates_that_differ_by_group_are_all_recorded(record: Record, tmp_path: Path) -> None:
    clipped = {"grad_norm_after": 1.0, "clipped": 0.5}
    record(replace(LOGGED, lr={"a": 0.1, "b": 0.2}, skipped=3, **clipped))
    (line,) = lines(tmp_path / "metrics.jsonl")
    assert line["lr"] == {"a": 0.1, "b": 0.2}
    assert (line["skipped"], line["grad_norm_after"], line["clipped"]) == (3, 1.0, 0.5)


FIELDS = ("state", "step", "exit_code", "reason", "resumable")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([STARTED], ("running", 0, None, None, True)),
        ([STARTED, evaluated(5, loss=1.0)], ("running", 5, None, None, True)),
        ([STARTED, FINISHED], ("completed", 20, 0, "budget", False)),
        ([STARTED, Interrupted(step=7, signal="SIGINT")], ("interrupted", 7, 130, "SIGINT", True)),
        (
            [STARTED, Failed(step=9, reason="the disk is full", exit_code=9)],
            ("failed", 9, 9, "the disk is full", True),
        ),
        ([STARTED, FINISHED, STARTED], ("running", 0, None, None, True)),  # resumed: nothing of the end stays
        ([Failed(step=9, reason="x", exit_code=1), STARTED, FINISHED], ("completed", 20, 0, "budget", False)),
    ],
)
def test_the_status_follows_the_run(
    record: Record, tmp_path: Path, events: list[Event], expected: tuple[Any, ...]
) -> None:
    for event in events:
        record(event)
    status = read_json(tmp_path / "status.json")
    assert tuple(status[field] for field in FIELDS) == expected
    assert {"metric", "best", "name", "started"} <= status.keys()


def test_the_status_keeps_the_best_and_the_test_metrics(record: Record, tmp_path: Path) -> None:
    for event in (
        evaluated(5, is_best=True, accuracy=0.9),
        evaluated(10, accuracy=0.8),
        evaluated(5, split="test", accuracy=0.7),
    ):
        record(event)
    status = read_json(tmp_path / "status.json")
    assert status["best"] == {"step": 5, "metrics": {"accuracy": 0.9}}
    assert status["metric"] == {"accuracy": 0.8}
    assert status["test"] == {"accuracy": 0.7}
    assert status["step"] == 10


def test_entries_of_the_status_that_are_not_changed_stay(tmp_path: Path) -> None:
    write_status(tmp_path, run_id="abc", name="demo")
    started = read_json(tmp_path / "status.json")["started"]
    write_status(tmp_path, state="failed", exit_code=1)
    status = read_json(tmp_path / "status.json")
    assert (status["run_id"], status["name"], status["started"], status["state"]) == (
        "abc",
        "demo",
        started,
        "failed",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]  # no temporary stays


def test_cutting_forgets_what_came_after_and_writing_goes_on_there(record: Record, tmp_path: Path) -> None:
    record(evaluated(5, loss=0.5))
    num_bytes = record.metrics_bytes()
    record(evaluated(6, loss=0.4))
    assert record.metrics_bytes() > num_bytes
    record.close()
    again = Record(tmp_path)
    again.cut(num_bytes)
    again(evaluated(7, loss=0.3))
    again.close()
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [5, 7]
    assert b"\0" not in (tmp_path / "metrics.jsonl").read_bytes()


def test_a_record_shorter_than_its_checkpoint_is_refused(record: Record) -> None:
    record(evaluated(5, loss=0.5))
    with pytest.raises(ResumeError, match=r"has \d+ bytes, 100000 were saved; restore it"):
        record.cut(100_000)


def test_a_failing_disk_is_a_storage_failure(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        record(evaluated(5, loss=0.5))


def test_what_could_not_be_written_is_told_once(tmp_path: Path) -> None:
    """Closing a file tries again to write what is left in its buffer."""
    record = Record(tmp_path)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), record._metrics.fileno())
    with pytest.raises(StorageError, match=r"No space left on device; [\d,]+ bytes are free"):
        record(evaluated(5, loss=0.5))
    record.close()


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl", "trainrun.log", "checkpoints", "notes"])
def test_a_folder_with_links_or_pipes_is_not_written_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "run" / name).symlink_to(precious)
    with pytest.raises(ResumeError, match="is a link or a pipe"):
        Record(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(ResumeError, match="is a link or a pipe"):
        Record(tmp_path / "run")
    assert precious.read_text() == "precious"


def test_a_folder_in_place_of_a_record_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        Record(tmp_path)


def test_a_plan_by_the_clock_is_what_happened_and_the_first_and_last_are_in_the_status(
    record: Record, tmp_path: Path
) -> None:
    record(replace(STARTED, total_steps=None))
    writes = []
    for step, total in ((6, 300), (50, 280), (281, 281)):
        record(Replanned(step=step, total_steps=total, seconds=step / 10, is_first=step == 6))
        writes.append(read_json(tmp_path / "status.json")["total_steps"])
    assert writes == [300, 300, 281]
    assert lines(tmp_path / "metrics.jsonl") == []
    plans = [line for line in lines(tmp_path / "timing.jsonl") if line["event"] == "replanned"]
    assert [(line["step"], line["total_steps"], line["seconds"]) for line in plans] == [
        *[(6, 300, 0.6), (50, 280, 5.0), (281, 281, 28.1)]
    ]


def test_that_a_run_failed_is_written_where_no_other_file_finds_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(tmp_path, state="running", run_id="abc", reason="x" * 200)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trainrun.run.files.replace_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_status(tmp_path, step=7)
    write_status(tmp_path, state="failed", exit_code=9, reason="full")
    status = read_json(tmp_path / "status.json")
    assert (status["state"], status["exit_code"], status["run_id"]) == ("failed", 9, "abc")
    (tmp_path / "status.json").unlink()
    with pytest.raises(OSError, match="No space left"):
        write_status(tmp_path, state="failed")


def test_a_status_is_brought_in_line_with_the_records(record: Record, tmp_path: Path) -> None:
    record(STARTED)
    for event in (evaluated(5, is_best=True, loss=0.5), evaluated(10, loss=0.7)):
        record(event)
    started = lines(tmp_path / "timing.jsonl")[0]["time"]
    (tmp_path / "status.json").write_text("{")
    restore_status(tmp_path, best_step=5)
    status = read_json(tmp_path / "status.json")
    assert status["best"] == {"step": 5, "metrics": {"loss": 0.5}}
    assert (status["metric"], status["started"]) == ({"loss": 0.7}, started)
    restore_status(tmp_path, best_step=None)
    assert read_json(tmp_path / "status.json")["best"] is None


@pytest.mark.parametrize("tail", [b"\xff", bytes(100), b'{"event'])
def test_a_line_is_not_written_behind_half_a_line(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "timing.jsonl").write_bytes(b'{"event": "train"}\n' + tail)
    record = Record(tmp_path)
    record(STARTED)
    record.close()
    assert [line["event"] for line in lines(tmp_path / "timing.jsonl")] == ["train", "started"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of descriptors are read from /proc")
def test_views_are_synced_with_the_record(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss after a commit then takes no point that lies before its checkpoint."""
    (tmp_path / "tensorboard").mkdir()
    for name in ("tensorboard/events", "metrics.csv"):
        (tmp_path / name).touch()
    synced = list[str]()
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    record.sync()
    names = {os.path.relpath(path, tmp_path) for path in synced}
    assert {"metrics.jsonl", "tensorboard", "tensorboard/events", "metrics.csv"} <= names
