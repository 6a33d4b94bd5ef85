"""Signals to real processes: saved in time, wherever they are; then the same line again."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import HANG_S, wait_until

CLUSTER = Path(__file__).resolve().parents[2] / "trainrun/cli/guide/cluster.md"
OWN = '''
import time

import torch
from torch.utils.data import Dataset


class Slow(Dataset):
    """Its samples do not come while the file `hang` is there, if it `hangs`."""

    num_classes = 2

    def __init__(self, num_samples: int, hangs: bool):
        self.num_samples, self.hangs = num_samples, hangs
        self.targets = [i % 2 for i in range(num_samples)]

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        import pathlib

        if self.hangs and pathlib.Path("hang").exists():
            pathlib.Path("waiting").touch()
            try:
                time.sleep(600)
            except Exception:
                pass
        return torch.randn(4) + index % 2, index % 2
'''
DATASET = "+data.{}={{_target_:own.Slow,num_samples:{},hangs:{}}}"
QUICK = ["model=mlp", "model.width=8", "logger=none", "batch_size=8", "runtime.threads=1"]


class Process:
    """A `trainrun` of its own process group, in `folder`."""

    def __init__(self, folder: Path, *words: str, job: str = "", **environment: str) -> None:
        (folder / "own.py").write_text(OWN)
        self.folder = folder
        self.process = subprocess.Popen(
            ["bash", job] if job else [sys.executable, "-m", "trainrun", *words],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, ready: Callable[[], bool]) -> None:
        wait_until(ready, self.process)

    def send(self, number: int, to_group: bool = False) -> tuple[int, str]:
        """(exit code, stderr)."""
        (os.killpg if to_group else os.kill)(self.process.pid, number)
        _, err = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, err


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text()) if (run / "status.json").exists() else {}


def step_of(run: Path) -> int:
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


@pytest.mark.parametrize(
    ("split", "workers"),
    [
        ("train", 2),
        ("val", 0),
        pytest.param("train", 0, marks=pytest.mark.torture),
        pytest.param("val", 2, marks=pytest.mark.torture),
    ],
)
def test_waiting_for_data_and_evaluating_are_left_at_once(tmp_path: Path, split: str, workers: int) -> None:
    """The whole group is signalled, as a terminal does, with loader processes alive."""
    words = [f"data.num_workers={workers}", "budget=10ep", "data=dataset", *QUICK]
    words += [DATASET.format(one, 64, str(one == split).lower()) for one in ("train", "val")]
    process = Process(tmp_path, *words, "run_dir=run")
    process.wait_for((tmp_path / "run" / ".lock").exists)
    (tmp_path / "hang").touch()
    process.wait_for((tmp_path / "waiting").exists)
    code, err = process.send(signal.SIGTERM, to_group=True)
    assert code == 143, err
    assert "Traceback" not in err
    assert status(tmp_path / "run")["state"] == "interrupted"
    (tmp_path / "hang").unlink()
    resumed = Process(tmp_path, "resume", "run")
    _, err = resumed.process.communicate(timeout=HANG_S)
    assert resumed.process.returncode == 0, err
    straight = Process(tmp_path, *words, "run_dir=straight")
    _, err = straight.process.communicate(timeout=HANG_S)
    assert straight.process.returncode == 0, err
    ours, theirs = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "straight"))
    assert ours == theirs


LONG = ["budget=100000step", "data.limit=64", "loop.log_every=20step", "loop.eval_every=200step", *QUICK]
LONG += ["checkpoint.every=1000000step", "checkpoint.keep_best=0"]


def test_usr1_saves_and_goes_on_then_hangup_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = Process(tmp_path, *LONG, "run_dir=run")
    process.wait_for(lambda: step_of(run) >= 20)
    kept = set((run / "checkpoints").glob("step-*"))
    os.kill(process.process.pid, signal.SIGUSR1)
    process.wait_for(lambda: bool(set((run / "checkpoints").glob("step-*")) - kept))
    assert process.process.poll() is None
    at = step_of(run)
    process.wait_for(lambda: step_of(run) > at)
    code, err = process.send(signal.SIGHUP)
    assert code == 129, err
    assert status(run)["exit_code"] == 129


def test_a_preempted_job_saves_asks_to_be_started_again_and_goes_on_by_the_same_line(tmp_path: Path) -> None:
    stand_in = tmp_path / "bin" / "scontrol"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    stand_in.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "4711", "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
    line = ["budget=400step", *LONG[1:], "run_dir=run", "resume=auto"]
    process = Process(tmp_path, *line, **slurm)
    process.wait_for(lambda: step_of(tmp_path / "run") >= 20)
    code, err = process.send(signal.SIGUSR2)
    assert code == 140, err
    assert (tmp_path / "called").read_text() == "requeue 4711\n"
    again = Process(tmp_path, *line, **slurm)
    _, err = again.process.communicate(timeout=HANG_S)
    assert again.process.returncode == 0, err
    starts = [json.loads(one) for one in (tmp_path / "run" / "timing.jsonl").read_text().splitlines()]
    assert [one["resumed_from"] is None for one in starts if one["event"] == "started"] == [True, False]
    done = status(tmp_path / "run")
    assert (done["state"], done["step"]) == ("completed", 400)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    third = Process(tmp_path, *line, **slurm)
    _, err = third.process.communicate(timeout=HANG_S)
    assert third.process.returncode == 0
    assert "nothing to do" in err
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == before


def test_the_guides_batch_file_is_preempted_and_goes_on(tmp_path: Path) -> None:
    """srun and scontrol are stand-ins; the words that train are replaced by shorter ones."""
    text = re.search(r"#!/bin/bash\n#SBATCH.*?(?=```)", CLUSTER.read_text(), re.S)
    assert text is not None
    job = text[0].replace("data=fashion_mnist budget=50ep", shlex.join(["budget=300step", *LONG[1:]]))
    (tmp_path / "job.sh").write_text(job)
    programs = {"srun": 'exec "$@"', "trainrun": f'exec {sys.executable} -m trainrun "$@"'}
    programs["scontrol"] = f'echo "$@" >> {tmp_path}/called'
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "4711", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = tmp_path / "runs" / "fashion"
    process = Process(tmp_path, job="job.sh", **slurm)
    process.wait_for(lambda: step_of(run) >= 20)
    code, err = process.send(signal.SIGUSR2)
    assert code == 140, err
    assert (tmp_path / "called").read_text() == "requeue 4711\n"
    again = Process(tmp_path, job="job.sh", **slurm)
    _, err = again.process.communicate(timeout=HANG_S)
    assert again.process.returncode == 0, err
    assert status(run)["step"] == 300


def test_a_time_limit_saves_and_says_so(tmp_path: Path) -> None:
    process = Process(tmp_path, *LONG, "run_dir=run", "runtime.time_limit=1s")
    _, err = process.process.communicate(timeout=HANG_S)
    assert process.process.returncode == 124, err
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["reason"]) == (
        "interrupted",
        "time_limit",
    )


def test_readers_that_go_away_are_no_disaster(tmp_path: Path) -> None:
    process = Process(tmp_path, "budget=300step", *LONG[1:], "run_dir=run", "-q")
    assert process.process.stdout is not None and process.process.stderr is not None
    process.process.stdout.close()
    process.process.stderr.close()
    assert process.process.wait(60) == 0
    assert status(tmp_path / "run")["state"] == "completed"


def test_a_pager_that_is_closed_early_does_not_end_the_run(tmp_path: Path) -> None:
    """As in `trainrun 2>&1 | head -3`, where a console speaks at every step."""
    words = [word for word in LONG[1:] if not word.startswith("logger")]
    words += ["budget=300step", "logger=console", "loop.log_every=1step", "run_dir=run"]
    process = Process(tmp_path, *words)
    assert process.process.stdout is not None and process.process.stderr is not None
    assert process.process.stderr.readline()
    process.process.stderr.close()
    process.process.stdout.close()
    assert process.process.wait(60) == 0
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["step"]) == ("completed", 300)
