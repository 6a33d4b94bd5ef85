"""What looks on has no say: logging, evaluating, saving, workers and surroundings change no bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torture.harness import PROJECT, TESTS, Run, assert_identical
from toy import same_bits

Straight = Callable[[str], Run]


def trained(run: Run) -> dict[str, Any]:
    """Of the last checkpoint, what training alone decides."""
    parts = run.state()
    counters = {name: parts["counters"][name] for name in ("step", "applied", "samples")}
    return {name: parts[name] for name in ("model", "averager", "optimizer", "position")} | counters


BYSTANDERS = {
    "logging often": ["loop.log_every=1step", "logger=[console,tensorboard,csv]"],
    "without health": ["loop.health=false"],
    "logging never": ["loop.log_every=1000step", "-q"],
    "evaluating often": ["loop.eval_every=1step"],
    "evaluating never": ["loop.eval_every=1000step", "checkpoint.keep_best=0"],
    "saving often": ["checkpoint.every=1step", "checkpoint.keep_last=1", "checkpoint.keep_every=2step"],
    "saving never": ["checkpoint.every=1000step"],
    "one worker": ["data.num_workers=1"],
    "two workers": ["data.num_workers=2", "loop.eval_every=1ep"],
}


@pytest.mark.parametrize("who", BYSTANDERS)
def test_the_weights_are_the_same(who: str, straight: Straight, tmp_path: Path) -> None:
    run = straight("average").new(tmp_path / "run")
    ended = run.start(*BYSTANDERS[who])
    assert ended.code == 0, ended
    assert run.status()["step"] == 60
    assert same_bits(trained(run), trained(straight("average")))


def test_another_seed_does_differ(straight: Straight, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    run = straight("average").new(tmp_path / "run")
    assert run.start("seed=1").code == 0
    assert not same_bits(trained(run), trained(straight("average")))


def test_place_home_time_zone_and_hash_seed_have_no_say(straight: Straight, tmp_path: Path) -> None:
    """In a process of its own, for a hash seed is chosen when Python starts."""
    place, home = tmp_path / "elsewhere", tmp_path / "home"
    shutil.copytree(PROJECT, place)
    home.mkdir()
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTHONHASHSEED": "4711", "HOME": str(home)}
    environment |= {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    run = straight("average").new(tmp_path / "run")
    command = [sys.executable, "-m", "trainrun", *run.words, f"run_dir={run.folder}"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_identical(run, straight("average"))


def test_the_number_of_threads_is_recorded_and_kept(straight: Straight, tmp_path: Path) -> None:
    """Sums are rounded by it; so a resume on another machine uses what the run began with."""
    base = straight("tiny").new(tmp_path / "straight")
    words = [*base.words, "data=digits", "data.limit=70", "model=cnn", "runtime.threads=null"]
    whole = replace(base, words=words)
    assert whole.start(environment={"OMP_NUM_THREADS": "2"}).code == 0
    run = whole.new(tmp_path / "run")
    strike = {"what": "SIGKILL", "of": "rename.*-old"}
    assert run.go_on(environment={"OMP_NUM_THREADS": "2"}, strikes=[strike]).code == -9
    assert json.loads((run.folder / "environment.json").read_text())["threads"] == 2
    ended = run.resume(environment={"OMP_NUM_THREADS": "1"})
    assert ended.code == 0, ended
    assert "runtime.threads: 2 as when the run began, for the same bits" in ended.err
    assert (run.folder / "trainrun.log").read_text().count("cpu, fp32, 2 threads") == 2
    assert_identical(run, whole)
