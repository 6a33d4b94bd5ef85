"""A preempted job asks to be started again; scontrol is a stand-in that writes down how it was called."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun.runtime.slurm import STARTER, is_job, preemption_signal, requeue


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stand-in, first on the path."""
    file = tmp_path / "scontrol"
    file.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return tmp_path


def test_the_job_is_requeued_by_its_number(scontrol: Path) -> None:
    assert is_job()
    assert requeue() == "scontrol requeue 4711: the job will start again and go on"
    assert (scontrol / "called").read_text() == "requeue 4711\n"


def test_a_refusal_is_told(scontrol: Path) -> None:
    (scontrol / "scontrol").write_text("#!/bin/sh\necho 'Job is held' >&2; exit 1\n")
    assert "scontrol requeue 4711 failed: Job is held; the run is saved" in requeue()


def test_a_machine_without_the_command_is_told(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(scontrol / "none"))
    assert "failed" in requeue()


def test_outside_a_job_nobody_is_asked(scontrol: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not is_job()
    assert "no Slurm job" in requeue()
    assert not (scontrol / "called").exists()


def test_who_else_starts_the_job_again_is_not_doubled(
    scontrol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STARTER, "submitit")
    assert requeue() == "submitit starts this job again, and it goes on"
    assert not (scontrol / "called").exists()


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", STARTER])
def test_only_what_is_started_again_is_told_by_a_signal(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert preemption_signal() is None
    monkeypatch.setenv(variable, "1")
    assert preemption_signal() == "USR2"
