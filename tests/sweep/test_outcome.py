"""What became of a job, from the files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainrun.sweep.outcome import JobOutcome, outcome

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
