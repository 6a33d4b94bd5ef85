"""A job as a launcher calls it: its end is in its folder, whatever ended it, and others are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.run.lock import lock
from trainrun.session.child import in_child
from trainrun.sweep import job as jobs
from trainrun.sweep.job import (
    STOP,
    Job,
    _exit_of,
    _free,
    _own_gpus,
    _record_exit,
    _saved_first,
    _wait_for_owner,
    stop,
)
from trainrun.sweep.outcome import JobOutcome, outcome
from trainrun.vocabulary.errors import ConfigError, FolderBusyError


def write(folder: Path, **status: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps(status))
    return folder


def job_of(folder: Path, **changes: Any) -> Job:
    options = {"retries": 0, "fail_fast": False, "ranks": 1} | changes
    share, threads = options.pop("share", None), options.pop("threads", None)
    search = SimpleNamespace(threads=threads, gpus=[], is_local=True, pruner=None)
    return Job(folder, {"key": "job 1 of 2:"}, {"key": 0}, options, search, True, share)  # type: ignore[arg-type]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[int]]:
    """Call a job whose training is `work(attempt)` in its child; returns the attempts that were made."""

    def run(work: Callable[[int], int], **changes: Any) -> list[int]:
        def train(self: Job, composition: Any, folder: Path) -> int:
            folder.mkdir(exist_ok=True)
            with (tmp_path / "attempts").open("a") as file:
                file.write("x")
            return work((tmp_path / "attempts").stat().st_size)

        monkeypatch.setattr(jobs, "_warm", lambda settings: None)
        monkeypatch.setattr(Job, "_train", train)
        job_of(tmp_path, **changes)(SimpleNamespace(settings={}), tmp_path / "key")  # type: ignore[arg-type]
        attempts = tmp_path / "attempts"
        return list(range(attempts.stat().st_size)) if attempts.exists() else []

    return run


def completed(folder: Path) -> int:
    write(folder, state="completed", reason="budget", exit_code=0, monitor="val/accuracy", step=40)
    return 0


def test_a_job_that_ends_well_says_so_in_a_line(
    trained: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(trained(lambda attempt: completed(tmp_path / "key"))) == 1
    assert capsys.readouterr().err == "job 1 of 2: completed at step 40\n"


def test_an_error_is_written_with_its_traceback_and_tried_again(
    trained: Callable, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def work(attempt: int) -> int:
        if attempt < 3:
            raise ConfigError.of("seed", "is wrong; take another")
        return completed(tmp_path / "key")

    assert len(trained(work, retries=3)) == 3
    err = capfd.readouterr().err
    assert "job 1 of 2: failed: seed: is wrong\n" in err
    assert err.count("is tried again") == 2 and "2 of 3" in err
    assert "Traceback" in (tmp_path / "key/trainrun.log").read_text()
    assert outcome(tmp_path / "key").state == "completed"


def test_without_retries_it_stays_failed_and_may_stop_the_others(trained: Callable, tmp_path: Path) -> None:
    def work(attempt: int) -> int:
        raise ValueError("no\nluck")

    trained(work, fail_fast=True)
    ended = outcome(tmp_path / "key")
    assert (ended.state, ended.exit_code, ended.reason) == ("failed", 1, "ValueError: no luck")
    assert (tmp_path / STOP).read_text() == "sweep.fail_fast"
    assert not trained(work)[1:]  # no job begins where the sweep is stopped


@pytest.mark.parametrize(
    ("number", "state", "code", "reason"),
    [
        (signal.SIGKILL, "failed", 137, "killed by SIGKILL"),
        (signal.SIGALRM, "failed", 142, "killed by SIGALRM"),
        (signal.SIGTERM, "interrupted", 143, "SIGTERM"),
    ],
)
def test_what_kills_it_is_written_by_its_starter(
    number: int, state: str, code: int, reason: str, trained: Callable, tmp_path: Path
) -> None:
    def work(attempt: int) -> int:
        os.kill(os.getpid(), number)
        time.sleep(10)
        return 0

    trained(work)
    ended = outcome(tmp_path / "key")
    assert (ended.state, ended.exit_code, ended.reason) == (state, code, reason)
    assert (tmp_path / STOP).exists() == (state == "interrupted")  # which is meant for all


def test_a_job_has_its_threads(trained: Callable, tmp_path: Path) -> None:
    def work(attempt: int) -> int:
        (tmp_path / "threads").write_text(os.environ["OMP_NUM_THREADS"])
        return completed(tmp_path / "key")

    trained(work, threads=3)
    assert (tmp_path / "threads").read_text() == "3"


def test_the_first_reason_to_stop_stays(tmp_path: Path) -> None:
    stop(tmp_path, "SIGINT")
    stop(tmp_path, "sweep.fail_fast")
    assert (tmp_path / STOP).read_text() == "SIGINT"
    stop(tmp_path / "gone", "SIGINT")  # not an error: who is told is being ended


@pytest.mark.parametrize(("step", "answer"), [(49, None), (50, "paused"), (51, "paused")])
def test_a_share_of_the_budget_is_where_it_pauses(step: int, answer: str | None, tmp_path: Path) -> None:
    should_stop = job_of(tmp_path, share=0.25)._should_stop(tmp_path / "key", "accuracy")
    assert should_stop is not None
    assert should_stop(SimpleNamespace(step=step), 200) == answer  # type: ignore[arg-type]
    assert job_of(tmp_path)._should_stop(tmp_path / "key", "accuracy") is None


@pytest.mark.parametrize(
    ("status", "code", "ended"),
    [
        ({}, 0, JobOutcome("pending")),
        ({}, 3, ("failed", 3, "failed before training")),
        ({}, 130, ("interrupted", 130, "SIGINT")),
        ({}, -9, ("failed", 137, "killed by SIGKILL")),
        ({"state": "failed", "reason": "boom", "exit_code": 7}, 7, ("failed", 7, "boom")),
        ({"state": "failed", "reason": "earlier", "exit_code": 7}, -9, ("failed", 137, "killed by SIGKILL")),
        ({"state": "completed", "reason": "budget", "exit_code": 0}, -9, ("completed", 0, "budget")),
        (
            {"state": "interrupted", "reason": "SIGTERM", "exit_code": 143},
            143,
            ("interrupted", 143, "SIGTERM"),
        ),
    ],
)
def test_an_end_is_written_only_where_none_is_told(
    status: dict, code: int, ended: Any, tmp_path: Path
) -> None:
    folder = write(tmp_path / "key", **status) if status else tmp_path / "key"
    folder.mkdir(exist_ok=True)
    _record_exit(folder, code, "job 1 of 1:")
    job = outcome(folder)
    assert job == ended or (job.state, job.exit_code, job.reason) == ended


def test_of_a_job_that_another_process_has_nothing_is_written(tmp_path: Path) -> None:
    folder = write(tmp_path / "key", state="running")
    with lock(folder):
        _record_exit(folder, -9, "job 1 of 1:")
    assert outcome(folder).exit_code == 0


def test_an_owner_is_waited_for_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "OWNER_S", 0.2)
    folder = write(tmp_path / "key", state="running")
    with lock(folder):
        began = time.monotonic()
        _wait_for_owner(folder)
        assert time.monotonic() - began >= 0.2
    monkeypatch.setattr(jobs, "OWNER_S", 60)
    _wait_for_owner(folder)  # free: at once


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (FolderBusyError("key: is\nheld"), 6, "key: is"),
        (MemoryError(), 8, "out of memory before training began"),
        (ValueError("two\nlines"), 1, "ValueError: two lines"),
    ],
)
def test_causes_are_one_line(error: Exception, code: int, cause: str) -> None:
    assert _exit_of(error) == (code, cause)


def test_a_job_that_goes_on_takes_from_the_line_what_changes_no_result() -> None:
    words = [
        "loop.log_every=5step",
        "optimizer.lr=0.1",
        "logger=[]",
        "name=a",
        "checkpoint.keep_best=0",
        "seed=1",
    ]
    assert _free([*words, "data.num_workers=2"]) == [
        "loop.log_every=5step",
        "logger=[]",
        "data.num_workers=2",
    ]


def test_submitits_signal_saves_first(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[str] = []
    for number, name in ((signal.SIGUSR2, "submitit"), (signal.SIGTERM, "run")):
        signal.signal(number, lambda *arguments, name=name: received.append(name))
    try:
        with _saved_first() as starter:
            assert starter is None
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
        with _saved_first() as starter:
            assert starter == "submitit"
            signal.raise_signal(signal.SIGUSR2)
            assert received == ["run"]
        assert received == ["run", "submitit"]
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_what_all_jobs_share_is_imported_without_asking_cuda() -> None:
    code = """
import torch
def ask(*words): raise AssertionError("asked CUDA, after which no fork can use it")
for name in ("is_available", "device_count", "_lazy_init", "current_device"): setattr(torch.cuda, name, ask)
from trainrun.sweep.job import _warm
from trainrun.config.compose.composer import Composer
_warm(Composer().checked([]).settings)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_jobs_at_once_take_different_gpus_and_free_them(tmp_path: Path) -> None:
    def job() -> int:
        with _own_gpus(tmp_path, ["0", "1"]):
            (tmp_path / f"has-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
            while not (tmp_path / "go").exists():
                time.sleep(0.01)
        return 0

    def two() -> int:
        other = os.fork()
        if other == 0:
            os._exit(job())
        third = os.fork()
        if third == 0:
            os._exit(job())
        while len(list(tmp_path.glob("has-*"))) < 2:
            time.sleep(0.01)
        (tmp_path / "go").touch()
        os.waitpid(other, 0)
        os.waitpid(third, 0)
        return job()

    assert in_child(two, []) == 0
    assert sorted(file.read_text() for file in tmp_path.glob("has-*")) == ["0", "0", "1"]


def test_without_gpus_nothing_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with _own_gpus(tmp_path, []):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not list(tmp_path.iterdir())
