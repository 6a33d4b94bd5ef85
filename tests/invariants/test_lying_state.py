"""Stored state that lies is refused or costs nothing, and a refused resume leaves the folder as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torture.damage import forged
from torture.harness import CANNOT_RESUME, Run, assert_finishes_identical, assert_identical, snapshot

from trainrun.run.history import saved_step

Straight = Callable[[str], Run]
LARGEST_BYTES = 2 << 30


@pytest.fixture(scope="session")
def stopped(straight: Straight, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with three checkpoints that was killed before its end. Copy it."""
    run = straight("average").new(tmp_path_factory.mktemp("stopped") / "run")
    return run.killed(r"rename \S+ checkpoints/step-", 11)


def says(run: Run, **entries: Any) -> None:
    (run.folder / "status.json").write_text(json.dumps({**run.status(), **entries}))


# status.json

STATUSES: dict[str, Callable[[Run], object]] = {
    "emptied": lambda run: os.truncate(run.folder / "status.json", 0),
    "gone": lambda run: (run.folder / "status.json").unlink(),
    "another run's": lambda run: says(run, run_id="0123456789abcdef"),
    "of other types": lambda run: says(run, step="x", best=[1], seconds="many", started={}, run_id=5),
    "complete": lambda run: says(run, state="completed", reason="budget", step=60),
    "stopped early": lambda run: says(run, state="completed", reason="early_stopping"),
}


@pytest.mark.parametrize("kind", STATUSES)
def test_a_status_that_is_lost_or_lies_costs_nothing(
    kind: str, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    run = stopped.copy(tmp_path / "run")
    started = stopped.status()["started"]
    STATUSES[kind](run)
    ended = assert_finishes_identical(run, straight("average"))
    assert "damaged" not in ended.err
    assert run.status()["run_id"] == stopped.status()["run_id"]
    assert abs(run.status()["started"] - started) < 60  # not when it was resumed


# A state whose manifest is right

FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an epoch far away": lambda parts: parts["position"].update(epoch=10**9),
    "a sample far away": lambda parts: parts["position"].update(offset=10**9),
    "half a sample": lambda parts: parts["position"].update(offset=1.5),
    "true as a sample": lambda parts: parts["position"].update(offset=True),
    "a place within a window": lambda parts: parts["position"].update(offset=3),
    "updates beyond the steps": lambda parts: parts["counters"].update(applied=10**9),
    "an evaluation to come": lambda parts: parts["counters"].update(evaluated_at=10**9),
    "negative samples": lambda parts: parts["counters"].update(samples=-1),
    "seconds in words": lambda parts: parts["counters"].update(seconds="long"),
    "seconds of a part in words": lambda parts: parts["counters"]["seconds_by_part"].update(save="long"),
    "seconds of parts as a list": lambda parts: parts["counters"].update(seconds_by_part=[1.0]),
    "a learning rate factor": lambda parts: parts["counters"].update(lr_factor=1e9),
    "an end by what there is not": lambda parts: parts["counters"].update(stop_reason="early_stopping"),
    "an expanded weight": lambda parts: parts["model"].update({"head.weight": _expanded()}),
    "an expanded average": lambda parts: parts["averager"]["model"].update({"head.weight": _expanded()}),
    "an expanded moment": lambda parts: _moments(parts).update(exp_avg=_expanded()),
    "a sparse weight": lambda parts: parts["model"].update(
        {"head.weight": torch.sparse_coo_tensor(size=(10**6, 10**6), check_invariants=True)}
    ),
    "data in words": lambda parts: parts.update(data="waves"),
}


def _expanded() -> torch.Tensor:
    return torch.zeros(1, 1).expand(10**6, 10**6)


def _moments(parts: dict[str, Any]) -> dict[str, Any]:
    moments: dict[str, Any] = parts["optimizer"]["state"]["state"][0]
    return moments


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_state_that_no_run_comes_to_is_not_trained_from(
    kind: str, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    run = stopped.copy(tmp_path / "run")
    forged(FORGERIES[kind])(run.checkpoint())
    before = snapshot(run.folder)
    ended = run.resume(patience_s=20)
    assert ended.memory_bytes < LARGEST_BYTES
    if ended.code == CANNOT_RESUME:
        assert snapshot(run.folder) == before
        return
    assert ended.code == 0 and f"{stopped.checkpoint().name} is damaged and skipped" in ended.err, ended
    assert_identical(run, straight("average"))


# What is gone


@pytest.mark.parametrize("whole", [True, False])
def test_deleted_checkpoints_are_not_begun_anew_in_silence(whole: bool, stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    for path in [run.folder / "checkpoints"] if whole else run.checkpoints():
        shutil.rmtree(path)
    before = snapshot(run.folder)
    for ended in (run.resume(), run.go_on()):
        assert ended.code == CANNOT_RESUME and "bring that folder back" in ended.err, ended
        assert f"a checkpoint of step {saved_step(stopped.folder)}," in ended.err
    assert snapshot(run.folder) == before


def test_a_newest_checkpoint_that_is_gone_is_said(stopped: Run, straight: Straight, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    step = saved_step(run.folder)  # on a busy machine one more may lie there, not yet in the records
    assert step is not None
    for path in run.checkpoints():
        if int(path.name[5:]) >= step:
            shutil.rmtree(path)
    ended = assert_finishes_identical(run, straight("average"))
    assert f"that of step {step} is gone" in ended.err


def test_a_start_killed_before_its_first_checkpoint_begins_again_and_says_so(
    straight: Straight, tmp_path: Path
) -> None:
    run = straight("tiny").new(tmp_path / "run").killed(r"rename \S+ checkpoints/step-", 0)
    ended = assert_finishes_identical(run, straight("tiny"))
    assert "has no checkpoint yet: training begins at step 0" in ended.err


def test_without_its_environment_another_window_is_still_another_run(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    (run.folder / "environment.json").unlink()
    before = snapshot(run.folder)
    ended = run.resume("batch_size=8")
    assert ended.code == CANNOT_RESUME and "steps of 8 samples" in ended.err, ended
    assert snapshot(run.folder) == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99, None])
def test_a_config_that_is_cut_off_or_gone_is_named(share: float | None, stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    file = run.folder / "config.yaml"
    file.unlink() if share is None else os.truncate(file, int(share * file.stat().st_size))
    before = snapshot(run.folder)
    ended = run.resume()
    assert ended.code == CANNOT_RESUME and "config.yaml" in ended.err, ended
    assert snapshot(run.folder) == before


# What is no text, or half a line

TAILS = {"no text": b"\xff\xfe", "zeros": bytes(4096), "half a line": b'{"event": "tra'}


@pytest.mark.parametrize("kind", TAILS)
def test_a_tail_that_is_no_line_ends_no_command(
    kind: str, stopped: Run, straight: Straight, tmp_path: Path
) -> None:
    run = stopped.copy(tmp_path / "run")
    for name in ("metrics.jsonl", "timing.jsonl", "lineage.jsonl"):
        with (run.folder / name).open("ab") as file:
            file.write(TAILS[kind])
    folder, picture = str(run.folder), str(tmp_path / "run.png")
    for words in (["doctor", folder], ["plot", "run", folder, "--out", picture], ["eval", folder]):
        assert run.command(*words).code in (0, 3)
    assert_finishes_identical(run, straight("average"))
    assert len(run.started_at()) == len(stopped.started_at()) + 1


def test_a_damaged_line_within_the_record_is_said_and_ends_nothing(stopped: Run, tmp_path: Path) -> None:
    run = stopped.copy(tmp_path / "run")
    content = bytearray(run.metrics())
    content[40] = 0xFF
    (run.folder / "metrics.jsonl").write_bytes(content)
    ended = run.resume()
    assert ended.code == 0 and "metrics.jsonl: 1 line" in ended.err, ended
    assert json.loads((run.folder / "result.json").read_text())["reason"] == "budget"
