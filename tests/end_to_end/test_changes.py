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


def test_other_data_than_the_runs_are_refused(
    command: Callable, small_mnist: Callable, tmp_path: Path
) -> None:
    small_mnist(tmp_path / "before")
    small_mnist(tmp_path / "after", num_train=301)
    moved = (tmp_path / "before").rename(tmp_path / "moved")
    small_mnist(tmp_path / "before")
    command("data=mnist", "data.root=before", "model=linear", "budget=3step", "run_dir=run")
    assert command("resume", "run", "budget=4step", "data.root=moved").code == 0
    for words in (["resume", "run", "budget=5step"], ["eval", "run"]):
        said = command(*words, "data.root=after", code=4).err
        assert "data: the run has seen mnist (" in said
        assert "bring the run's data back" in said
    images = moved / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + bytes([images.read_bytes()[-1] ^ 1]))
    assert "here are mnist (" in command("eval", "run", "data.root=moved", code=4).err
    assert command("eval", "run", "data.root=before").code == 0
