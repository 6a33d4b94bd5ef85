"""A budget by the clock from the shell: how long it trains, what it says, and what a resume makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def records(file: Path, event: str) -> list[dict]:
    found = map(json.loads, file.read_text().splitlines())
    return [record for record in found if record["event"] == event]


def test_a_run_by_the_clock_ends_in_its_time_and_goes_on_with_more(command: Callable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    common = (
        "data=iris",
        "model=linear",
        "scheduler=warmup_linear",
        "loop.log_every=1step",
        "logger=console",
    )
    said = command(*common, "budget=1.5s", "run_dir=run").err
    assert "for 1.5s of training" in said and "after a warm-up of 10%" in said
    assert "no second run has the same bits" in said
    assert " planned: about " in said
    (finished,) = records(run / "timing.jsonl", "finished")
    assert finished["seconds"] >= 1.4  # tests/test_budget.py holds the rest, with a clock of its own
    rates = [record["lr"] for record in records(run / "metrics.jsonl", "train")]
    assert rates[-1] <= 0.3 * max(rates)
    status = json.loads((run / "status.json").read_text())
    assert status["total_steps"] == status["step"] == finished["step"]
    assert "nothing to do" in command("resume", "run").err
    assert "nothing to do" in command("resume", "run", "budget=1s").err

    command("resume", "run", "budget=3s")
    later = records(run / "timing.jsonl", "finished")[-1]
    assert later["seconds"] >= 2.7
    assert later["step"] > finished["step"]
    resumed = [r["lr"] for r in records(run / "metrics.jsonl", "train") if r["step"] > finished["step"]]
    assert resumed[0] == pytest.approx(max(rates) / 2, rel=0.5)  # half of the new time is used
    assert resumed[-1] <= 0.3 * max(rates)

    steps = later["step"] + 10
    command("resume", "run", f"budget={steps}step")
    assert records(run / "metrics.jsonl", "finished")[-1]["step"] == steps
    assert "budget=10s" in command("resume", "run", "budget=10s", "checkpoint.every=5%", code=2).err
