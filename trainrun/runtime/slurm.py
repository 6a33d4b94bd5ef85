"""Slurm: the cores of a task, and asking for the job to be started again, if nobody else does."""

from __future__ import annotations

import os
import subprocess

from trainrun.ranks.launcher import is_srun

STARTER = "TRAINRUN_STARTED_AGAIN_BY"  # in the environment: who starts a sweep's job again, instead of this


def is_job() -> bool:
    """Whether this process runs as a job of Slurm's."""
    return "SLURM_JOB_ID" in os.environ


def cores_of_task() -> int | None:
    """The cores of each rank that srun started, where they were asked for."""
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(asked) if is_srun() and asked.isdigit() else None


def preemption_signal() -> str | None:
    """The signal that announces the end of this process, which is started again then."""
    return "USR2" if is_job() or STARTER in os.environ else None


def requeue() -> str:
    """Have Slurm start this job again with the same line; returns what to tell of it."""
    if starter := os.environ.get(STARTER):
        return f"{starter} starts this job again, and it goes on"
    if not is_job():
        return "no Slurm job: nobody was asked to start this run again"
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip()
        return f"{' '.join(command)} failed: {reason}; the run is saved, start its line again"
    return f"{' '.join(command)}: the job will start again and go on"
