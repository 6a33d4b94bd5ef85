"""What became of a job, from the files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainrun.sweep.outcome import JobOutcome, evaluations_in, outcome

BEST = {"step": 8, "metrics": {"accuracy": 0.75, "loss": 1.0}}


def write(folder: Path, **status: Any) -> Path:
    (folder / "status.json").write_text(json.dumps({"monitor": "val/accuracy", "best": BEST} | status))
    return folder


@pytest.mark.parametrize(
    ("status", "state", "is_over"),
    [
        ({"state": "completed", "reason": "budget", "exit_code": 0}, "completed", True),
        ({"state": "failed", "reason": "x", "exit_code": 7}, "failed", True),
        ({"state": "interrupted", "reason": "SIGINT", "exit_code": 130}, "interrupted", False),
        ({"state": "interrupted", "reason": "pruned", "exit_code": 0}, "pruned", True),
        ({"state": "interrupted", "reason": "paused", "exit_code": 0}, "paused", False),
        ({"state": "running"}, "interrupted", False),  # its process is gone: nobody runs a job twice
        ({"state": "nonsense"}, "interrupted", False),
    ],
)
def test_states(tmp_path: Path, status: dict, state: str, is_over: bool) -> None:
    job = outcome(write(tmp_path, **status))
    assert (job.state, job.is_over, job.value) == (state, is_over, 0.75)


def test_a_folder_without_a_status_is_pending(tmp_path: Path) -> None:
    assert outcome(tmp_path / "none") == JobOutcome("pending")
    (tmp_path / "status.json").write_text("{damaged")
    assert outcome(tmp_path).state == "pending"


@pytest.mark.parametrize("best", [None, {}, {"metrics": None}, {"metrics": {"accuracy": None}}, 3])
def test_a_job_without_a_number_has_no_value(tmp_path: Path, best: Any) -> None:
    assert outcome(write(tmp_path, state="completed", best=best)).value is None


def test_every_evaluation_that_came_to_a_number_is_read(tmp_path: Path) -> None:
    lines = [
        {"event": "train", "step": 5, "loss": 2.0},
        {"event": "eval", "step": 10, "split": "val", "accuracy": 0.5},
        {"event": "eval", "step": 20, "split": "val", "accuracy": None, "nonfinite": True},
        {"event": "eval", "step": 30, "split": "val", "accuracy": 0.25},
        {"event": "eval", "step": 30, "split": "test", "accuracy": 0.125},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"event": "eval", "st'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert evaluations_in(tmp_path, "val/accuracy") == [(10, 0.5), (30, 0.25)]
    assert evaluations_in(tmp_path / "none", "val/accuracy") == []
