"""What a resumed run finds changed: settings that take effect, and data that are not the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def rates(folder: Path) -> list[tuple[int, float]]:
    """(step, learning rate) of every logged step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["lr"]) for line in lines if line["event"] == "train"]


def test_a_scheduler_of_torchs_that_changes_on_resume_takes_effect(command: Callable, tmp_path: Path) -> None:
    common = ("data=iris", "scheduler=torch", "optimizer.lr=0.1", "loop.log_every=1step", "run_dir=run")
    command(*common, "scheduler.arguments={step_size: 2, gamma: 0.5}", "budget=4step")
    assert rates(tmp_path / "run") == [(1, 0.1), (2, 0.1), (3, 0.05), (4, 0.05)]
    said = command("resume", "run", "budget=8step", "scheduler.arguments={step_size: 3, gamma: 0.1}").err
    assert "scheduler.arguments.step_size: 2 -> 3 (takes effect)" in said
    assert "of the metric" not in said
    found = rates(tmp_path / "run")[4:]
    assert [step for step, _ in found] == [5, 6, 7, 8]
    assert [lr for _, lr in found] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    again = command(
        "resume",
        "run",
        "scheduler.name=ReduceLROnPlateau",
        "scheduler.arguments={patience: 3}",
        "budget=9step",
    )
    assert "what the schedule has seen of the metric stays" in again.err
