"""What a resumed run finds changed: settings that take effect, and data that are not the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml


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
    assert "the schedule keeps what it has seen of the metric" in again.err


def lineage(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "lineage.jsonl").read_text().splitlines()]


def test_every_process_is_in_the_lineage_with_what_it_changed(command: Callable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    line = ("data=iris", "scheduler=linear", "optimizer.lr=0.1", "loop.log_every=1step", "run_dir=run")
    command(*line, "budget=4step", "resume=auto")
    said = command("resume", "run", "budget=8step", "loop.log_every=2step", "scheduler.min_lr=0.02").err
    assert "budget: 4step -> 8step (takes effect)" in said
    assert "loop.log_every: 1step -> 2step (free)" in said
    assert "step 4: 0.025   step 5: 0.06" in said  # 0.1 (1 - 3/4), and 0.02 + 0.08 (1 - 4/8)
    assert "step 8: 0.03" in said  # 0.02 + 0.08 / 8
    said = command(*line, "budget=4step", "optimizer.weight_decay=0.5", "resume=auto").err
    assert "complete at step 8: nothing to do" in said  # the stored budget is the base
    command(*line, "budget=10step", "resume=auto")
    command("resume", "run", "budget=12step", "scheduler=constant")

    first, longer, again, replaced = lineage(run)
    assert first["command"].startswith("trainrun data=iris")
    assert (first["from_step"], first["changes"]) == (0, {})
    assert [step for step, _ in first["lr"]] == [1, 2, 3, 3, 4]
    assert [lr for _, lr in first["lr"]] == pytest.approx([0.1, 0.075, 0.05, 0.05, 0.025])
    assert (longer["from_step"], longer["command"]) == (
        4,
        "trainrun resume run budget=8step loop.log_every=2step scheduler.min_lr=0.02",
    )
    assert longer["changes"] == {
        "budget": ["4step", "8step", "takes effect"],
        "loop.log_every": ["1step", "2step", "free"],
        "scheduler.min_lr": [0.0, 0.02, "takes effect"],
    }
    assert again["changes"] == {"budget": ["8step", "10step", "takes effect"]}
    assert again["command"].endswith("budget=10step resume=auto")
    assert replaced["changes"]["scheduler._target_"][2] == "takes effect"
    found = dict(rates(run))
    for process in (longer, again, replaced):
        for step, lr in process["lr"]:
            if step in found and step <= process["from_step"] + 4:
                assert found[step] == pytest.approx(lr), (process["command"], step)
    assert found[12] == 0.1


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


def test_a_refused_change_is_answered_with_the_line_of_the_new_run(command: Callable, tmp_path: Path) -> None:
    command("data=iris", "model=linear", "optimizer=sgd", "budget=2step", "run_dir=run", "logger=none")
    refused = command("resume", "run", "seed=3", "optimizer.lr=0.02", code=2).err
    line = refused.strip().splitlines()[-1].strip()
    words = shlex.split(line)
    assert words[0] == "trainrun"
    assert {"data=iris", "model=linear", "optimizer=sgd", "seed=3", "optimizer.lr=0.02"} <= set(words)
    assert not any(word.startswith("run_dir") for word in words)
    command(*words[1:], "run_dir=new")
    settings = yaml.safe_load((tmp_path / "new" / "config.yaml").read_text())
    assert (settings["seed"], settings["optimizer"]["lr"]) == (3, 0.02)


def test_a_change_that_leaves_nothing_to_do_is_not_said_to_take_effect(command: Callable) -> None:
    command("data=iris", "model=linear", "budget=2step", "run_dir=run", "logger=none")
    said = command("resume", "run", "optimizer.lr=0.5").err
    assert "nothing to do; optimizer.lr stays as it was" in said
    assert "takes effect" not in said


def test_the_same_line_with_another_budget_does_not_contradict_itself(command: Callable) -> None:
    line = ("data=iris", "model=linear", "run_dir=run", "resume=auto", "logger=none")
    command(*line, "budget=2step", "seed=4")
    said = command(*line, "budget=4step").err
    assert "seed=4: kept from the first start" in said
    assert "budget=2step was said" not in said
    assert "budget: 2step -> 4step (takes effect)" in said
    assert "trainrun resume run budget=8step" in said  # its last words, as a first run's


def test_a_run_that_met_its_mark_goes_on_where_the_mark_is_lifted(command: Callable, tmp_path: Path) -> None:
    line = ("data=iris", "monitor=val/accuracy", "loop.eval_every=2step", "budget=6step", "run_dir=run")

    def status() -> tuple[int, str]:
        found = json.loads((tmp_path / "run" / "status.json").read_text())
        return found["step"], found["reason"]

    command(*line, "loop.stop_at=0")
    assert status() == (2, "stop_at")
    assert "nothing to do" in command("resume", "run").err
    command("resume", "run", "loop.stop_at=null")
    assert status() == (6, "budget")
