"""Sweeps under the launchers: several jobs at once on this machine, and the clusters' launchers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from waiting import HANG_S, wait_until

# A model that is built once another job has begun to build its own, and slow while there is a file `slow`.
MEET = """
import os, time
from pathlib import Path
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, others):
        super().__init__()
        Path(f"met-{os.getpid()}").touch()
        until = time.monotonic() + 600
        while len(list(Path().glob("met-*"))) < others:
            if time.monotonic() > until:
                raise RuntimeError("nobody else came")
            time.sleep(0.05)
        self.head = nn.Sequential(nn.Conv2d(input_shape[0], 4, 1), nn.Flatten(), nn.Linear(256, num_outputs))

    def forward(self, x):
        time.sleep(0.1 if Path("slow").exists() else 0)
        return self.head(x)
"""
# A cluster of one machine: jobs of an array begin at once, and again when that is asked for.
SLURM = {
    "sbatch": """
echo "Submitted batch job 77"
for task in 0 1; do
  (while :; do
    rm -f again_77_$task
    env SLURM_JOB_ID=$((77 + task)) SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task bash "${@: -1}"
    [ -e again_77_$task ] || break
  done) >/dev/null 2>&1 &
done
""",
    "srun": f'while [ "$1" != "{sys.executable}" ]; do shift; done; exec "$@"',
    "scontrol": 'echo "$@" $(grep -c interrupted cut/*/timing.jsonl) >>called; touch again_$2',
    "sacct": 'echo "JobID|State|NodeList"; for task in 0 1; do echo "77_$task|RUNNING|here"; done',
}
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SHORT = ("data.limit=300", "logger=none")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "meet.py").write_text(MEET)
    return tmp_path


def trainrun(folder: Path, *words: str, cores: int = 1, before: str = "") -> subprocess.Popen[str]:
    """The command in a process group of its own. `before`: what Python does first."""
    code = f"{before}\nimport sys\nfrom trainrun.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int) -> str:
    """What it said."""
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    return said


def states(sweep: Path) -> list[str]:
    return [one["state"] for one in json.loads((sweep / "sweep.json").read_text())["jobs"]]


def statuses(sweep: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(sweep.glob("*/status.json"))]


def trained(sweep: Path, jobs: int) -> bool:
    """Whether so many jobs have evaluated and saved."""
    return (
        len(list(sweep.glob("*/checkpoints/step-*/manifest.json"))) >= jobs and len(statuses(sweep)) == jobs
    )


def test_two_jobs_run_at_once_each_with_half_of_the_cores(project: Path) -> None:
    words = ("-m", "seed=0,1", "model._target_=meet.Net", "model.others=2", "budget=2step", *SHORT, *JOBLIB)
    said = ended(trainrun(project, *words, "run_dir=two", cores=6), 0)
    assert states(project / "two") == ["completed", "completed"]
    configs = [yaml.safe_load(file.read_text()) for file in (project / "two").glob("*/config.yaml")]
    assert [one["runtime"]["threads"] for one in configs] == [3, 3]
    assert "job 1 of 2, seed=0: completed at step 2" in said and "job 2 of 2, seed=1: completed" in said


@pytest.mark.parametrize("how", ["ctrl_c", pytest.param("sigterm_to_the_starter", marks=pytest.mark.torture)])
def test_a_signal_saves_all_jobs_and_the_sweep_goes_on(project: Path, how: str) -> None:
    (project / "slow").touch()
    words = (
        "-m",
        "seed=0,1",
        "model._target_=meet.Net",
        "model.others=2",
        "budget=30step",
        "loop.eval_every=2step",
    )
    process = trainrun(project, *words, *SHORT, "checkpoint.every=2step", *JOBLIB, "run_dir=cut", cores=2)
    sweep = project / "cut"
    wait_until(lambda: trained(sweep, 2), process)
    if how == "ctrl_c":
        os.killpg(process.pid, signal.SIGINT)
        said, name = ended(process, 130), "SIGINT"
    else:
        process.terminate()
        said, name = ended(process, 143), "SIGTERM"
    assert [(one["state"], one["reason"]) for one in statuses(sweep)] == [("interrupted", name)] * 2
    assert all(0 < one["step"] < 30 for one in statuses(sweep))
    assert "trainrun resume cut" in said
    (project / "slow").unlink()
    said = ended(trainrun(project, "resume", "cut", cores=2), 0)
    assert "2 to go on with" in said
    assert states(sweep) == ["completed", "completed"]
    assert [one["step"] for one in statuses(sweep)] == [30, 30]


def test_submitit_runs_jobs_here_and_a_failure_stays_in_its_job(project: Path) -> None:
    words = (
        "-m",
        "optimizer=sgd",
        "optimizer.lr=0.1,1e35,0.2",
        "loop.clip.norm=null",
        "budget=20step",
        "loop.eval_every=10step",
    )
    said = ended(
        trainrun(project, *words, *SHORT, "hydra/launcher=submitit_local", "run_dir=sub", cores=2), 7
    )
    assert "3 jobs: 2 completed, 1 failed" in said
    told = json.loads((project / "sub" / "sweep.json").read_text())["jobs"]
    assert [one["state"] for one in told] == ["completed", "failed", "completed"]
    log = (project / "sub" / told[1]["folder"] / "trainrun.log").read_text()
    assert "Traceback" in log and "NonFinite" in log
    again = ended(trainrun(project, "resume", "sub", cores=2), 7)
    assert "2 done before, 1 failed before" in again


def test_a_job_preempted_under_submitit_is_saved_started_again_and_goes_on(project: Path) -> None:
    (project / "slow").touch()
    words = (
        "-m",
        "seed=range(1)",
        "model._target_=meet.Net",
        "model.others=1",
        "budget=30step",
        "loop.eval_every=2step",
    )
    words = (*words, *SHORT, "checkpoint.every=1ep", "hydra/launcher=submitit_local", "run_dir=pre")
    process, sweep = trainrun(project, *words), project / "pre"
    wait_until(lambda: len(list(sweep.glob("*/metrics.jsonl"))) == 1, process)
    metrics = next(sweep.glob("*/metrics.jsonl"))
    wait_until(lambda: metrics.read_text().count("eval") >= 2, process)
    first = statuses(sweep)[0]["pid"]
    task = parent_of(first)
    os.kill(task, signal.SIGUSR2)  # as submitit's local executor does shortly before the time is up
    wait_until(lambda: statuses(sweep)[0].get("pid") not in (None, first), process)
    (project / "slow").unlink()
    ended(process, 0)
    assert states(sweep) == ["completed"]
    timing = [json.loads(line) for line in next(sweep.glob("*/timing.jsonl")).read_text().splitlines()]
    events = [one["event"] for one in timing]
    cut = events.index("interrupted")
    assert timing[cut]["signal"] == "SIGTERM" and timing[cut]["step"] > 0
    begun = [one for one in timing if one["event"] == "started"]
    assert [one["resumed_from"] for one in begun] == [None, timing[cut]["step"]]


@pytest.mark.torture
def test_a_preempted_job_of_slurm_is_saved_and_then_started_again_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = project / "programs"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (project / "slow").touch()
    words = (
        "-m",
        "seed=0,1",
        "model._target_=meet.Net",
        "model.others=2",
        "budget=30step",
        "loop.eval_every=2step",
    )
    process = trainrun(project, *words, *SHORT, "hydra/launcher=submitit_slurm", "run_dir=cut")
    sweep = project / "cut"
    wait_until(lambda: len([one for one in statuses(sweep) if one.get("step")]) == 2, process)
    folder, first = next(
        (file.parent, json.loads(file.read_text())["pid"]) for file in sweep.glob("*/status.json")
    )
    for pid in (parent_of(first), first):  # Slurm tells all processes of a job's step
        os.kill(pid, signal.SIGUSR2)
    wait_until(
        lambda: json.loads((folder / "status.json").read_text()).get("pid") not in (None, first), process
    )
    (project / "slow").unlink()
    ended(process, 0)
    assert states(sweep) == ["completed", "completed"]
    (called,) = (project / "called").read_text().splitlines()
    assert called.startswith("requeue 77_") and ":1" in called
    events = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    (cut,) = [one["step"] for one in events if one["event"] == "interrupted"]
    assert [one["resumed_from"] for one in events if one["event"] == "started"] == [None, cut]


def parent_of(pid: int) -> int:
    told = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in told if line.startswith("PPid"))


def test_a_cluster_that_is_not_here_is_told(project: Path) -> None:
    said = ended(trainrun(project, "-m", "seed=0,1", "hydra/launcher=submitit_slurm", "run_dir=no"), 2)
    assert "hydra/launcher: submitit_slurm needs a machine of a Slurm cluster; there is no srun here" in said
    assert "trainrun -m seed=0,1 hydra/launcher=submitit_local run_dir=no" in said
    assert not (project / "no").exists()


def test_the_slurm_launchers_settings_are_shown(command: Callable) -> None:
    words = (
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.gpus_per_node=1",
    )
    shown = yaml.safe_load(command("--cfg", "hydra", "-p", "hydra.launcher", *words).out)
    assert (shown["partition"], shown["gpus_per_node"]) == ("gpu", 1)
    assert shown["_target_"].endswith("SlurmLauncher")


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("hydra/launcher=joblib",), "sweep"),
        (("hydra/launcher=submitit_local",), "slurm"),
        (("hydra/launcher=submitit_slurm",), "slurm"),
        (("hydra/launcher=ray",), "ray"),
        (("hydra/sweeper=optuna", "sweep.trials=2"), "sweep"),
    ],
    ids=lambda value: value[0].partition("=")[2] if isinstance(value, tuple) else value,
)
def test_a_missing_extra_is_told_with_its_install_line(
    project: Path, words: tuple[str, ...], extra: str
) -> None:
    missing = "import sys, hydra_plugins\nhydra_plugins.__path__ = []\nsys.modules['optuna'] = None"
    said = ended(trainrun(project, "-m", "model=cnn,linear", *words, "run_dir=no", before=missing), 2)
    name = words[0].partition("=")[2]
    assert f"{words[0].partition('=')[0]}: {name} is not installed: pip install 'trainrun[{extra}]'" in said
    assert not (project / "no").exists()


@pytest.mark.skipif(
    find_spec("hydra_plugins.hydra_ray_launcher") is None, reason="hydra-ray-launcher is not installed"
)
def test_jobs_run_on_a_local_ray(project: Path) -> None:
    words = ("-m", "seed=0,1", "budget=2step", *SHORT, "hydra/launcher=ray", "run_dir=ray")
    said = ended(trainrun(project, *words), 0)
    assert states(project / "ray") == ["completed", "completed"], said
