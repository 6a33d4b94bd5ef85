"""Sweeps as a user meets them: issued again, widened, poisoned, killed, gone on with, searched."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from scipy import stats
from waiting import HANG_S, wait_until

QUICK = ("data=synthetic_table", "model=linear", "budget=2ep", "data.limit=200", "logger=[]")
RATES = "optimizer.lr=0.01,0.02,0.03"
# A model whose name decides what becomes of it; a file named slow makes every step take a while.
NET = """
import os, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, kind: str):
        super().__init__()
        if kind == "unbuilt":
            raise ValueError("no such kind")
        self.body, self.kind, self.calls = nn.LazyLinear(num_outputs), kind, 0

    def forward(self, x):
        self.calls += 1
        if os.path.exists("slow"):
            time.sleep(0.05)
        if self.calls > 10 and not os.path.exists("mended"):
            if self.kind == "raises":
                raise RuntimeError("this model\\nis poisoned")
            if self.kind == "diverges":
                return self.body(x) * float("nan")
            if self.kind == "killed":
                os.kill(os.getpid(), 9)
            if self.kind == "once" and not os.path.exists("tried"):
                open("tried", "w").close()
                raise RuntimeError("only the first time")
            if self.kind == "threads":
                torch.set_num_threads(7)
                torch.set_default_dtype(torch.float64)
        return self.body(x)
"""


def sweep_of(folder: Path, name: str = "*") -> tuple[Path, dict[str, Any]]:
    (file,) = folder.glob(f"outputs/multirun/{name}/sweep.json")
    return file.parent, json.loads(file.read_text())


def timeless(content: dict[str, Any]) -> Any:
    """What does not depend on the clock, or on how often it was started."""
    jobs = [{k: v for k, v in one.items() if k != "seconds"} for one in content["jobs"]]
    return jobs, content["settings"], content["best"]


def starts(folder: Path) -> int:
    lines = (folder / "timing.jsonl").read_text().splitlines()
    return sum(json.loads(line)["event"] == "started" for line in lines)


# Known by content


def test_the_same_line_again_runs_nothing_and_a_wider_one_what_is_new(
    command: Callable, tmp_path: Path
) -> None:
    command(*QUICK, "-m", RATES)
    folder, first = sweep_of(tmp_path)
    before = {file: file.read_bytes() for file in folder.glob("*/metrics.jsonl")}
    again = command("-m", "optimizer.lr=0.03,1e-2,0.020", *QUICK)  # the same in another order and writing
    assert "3 jobs: 3 done before" in again.err
    assert {file: file.read_bytes() for file in folder.glob("*/metrics.jsonl")} == before
    wider = command(*QUICK, "-m", RATES + ",0.04")
    assert "4 jobs: 3 done before, 1 new" in wider.err
    assert len(sweep_of(tmp_path)[1]["jobs"]) == 4
    assert all(starts(one.parent) == 1 for one in folder.glob("*/metrics.jsonl"))
    assert first["state"] == "completed"


def test_a_change_in_a_setting_that_matters_is_never_skipped(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "optimizer.lr=0.01,0.02", "name=mine")
    other = command(*QUICK, "-m", "optimizer.lr=0.01,0.02", "name=mine", "optimizer.weight_decay=0.5")
    assert "2 jobs: 2 new" in other.err
    same = command(
        *QUICK, "-m", "optimizer.lr=0.01,0.02", "name=mine", "loop.log_every=3step", "logger=[csv]"
    )
    assert "2 jobs: 2 done before" in same.err
    (tmp_path / "conf/optimizer").mkdir(parents=True)
    own = "_target_: torch.optim.AdamW\nlr: 0.1\nweight_decay: 0.3\n"
    (tmp_path / "conf/optimizer/adamw.yaml").write_text(own)  # a changed default is a change
    assert "2 jobs: 2 new" in command(*QUICK, "-m", "optimizer.lr=0.01,0.02", "name=mine").err


def test_two_points_that_are_one_experiment_are_one_job(command: Callable, tmp_path: Path) -> None:
    done = command(*QUICK, "-m", "optimizer.lr=0.01,1e-2,0.010")
    assert "1 job: 1 new" in done.err and len(sweep_of(tmp_path)[1]["jobs"]) == 1


def test_killed_in_job_4_and_issued_again_it_comes_to_the_same_table(
    command: Callable, tmp_path: Path
) -> None:
    words = ["data=synthetic_table", "model._target_=net.Net", "model.kind=a", "budget=6ep", "data.limit=200"]
    words += ["checkpoint.every=3step", "logger=[]", "optimizer.lr=0.01,0.02,0.03", "batch_size=16,32", "-m"]
    (tmp_path / "net.py").write_text(NET)
    command(*words, "run_dir=straight")
    process = start(words, tmp_path)
    wait_until(lambda: len(list(tmp_path.glob("outputs/multirun/*/*/result.json"))) == 3)
    (tmp_path / "slow").touch()  # so that it is met in the middle of job 4
    wait_until(lambda: len(list(tmp_path.glob("outputs/multirun/*/*/checkpoints/step-*3"))) > 0)
    wait_until(lambda: len(unfinished(tmp_path)) == 1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_S)
    (tmp_path / "slow").unlink()
    done = command(*words)
    assert "6 jobs: 3 done before, 1 to go on with, 2 new" in done.err
    folder, content = sweep_of(tmp_path)
    straight = json.loads((tmp_path / "straight/sweep.json").read_text())
    assert timeless(content) == timeless(straight)
    for job in content["jobs"]:
        ours, theirs = (one / job["folder"] / "metrics.jsonl" for one in (folder, tmp_path / "straight"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert sorted(starts(folder / job["folder"]) for job in content["jobs"]) == [1, 1, 1, 1, 1, 2]


def unfinished(folder: Path) -> list[Path]:
    """Jobs that have saved and are not complete."""
    jobs = folder.glob("outputs/multirun/*/*/checkpoints/step-*")
    return list({one.parents[1] for one in jobs if not (one.parents[1] / "result.json").exists()})


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainrun", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.parametrize(
    "is_group", [True, pytest.param(False, marks=pytest.mark.torture)], ids=["terminal", "process"]
)
def test_ctrl_c_saves_the_job_and_ends_the_sweep(command: Callable, tmp_path: Path, is_group: bool) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "slow").touch()
    words = [
        "data=synthetic_table",
        "model._target_=net.Net",
        "model.kind=a",
        "budget=50ep",
        "seed=range(3)",
        "-m",
    ]
    process = start([*words, "checkpoint.every=2step"], tmp_path)
    wait_until(lambda: len(unfinished(tmp_path)) == 1)
    (os.killpg if is_group else os.kill)(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, told
    folder, content = sweep_of(tmp_path)
    assert [one["state"] for one in content["jobs"]] == ["interrupted", "pending", "pending"]
    assert f"trainrun resume {folder.relative_to(tmp_path)}" in told and "Traceback" not in told
    (tmp_path / "slow").unlink()
    done = command("resume", str(folder), "sweep.retries=1")
    assert "3 jobs: 1 to go on with, 2 new" in done.err
    assert [one["state"] for one in sweep_of(tmp_path)[1]["jobs"]] == ["completed"] * 3


def test_two_starts_of_one_sweep_do_not_meet(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "slow").touch()
    words = [
        "data=synthetic_table",
        "model._target_=net.Net",
        "model.kind=a",
        "budget=50ep",
        "seed=0,1",
        "-m",
    ]
    process = start([*words, "checkpoint.every=2step"], tmp_path)
    wait_until(lambda: len(unfinished(tmp_path)) == 1)
    assert f"in use by process {process.pid}" in command(*words, code=6).err
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=HANG_S)
    assert process.returncode == 143


# Isolated


def test_poison_ends_its_own_job_alone(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    kinds = "a,raises,b,c,diverges,threads,d,e,f"
    words = (
        "data=synthetic_table",
        "model._target_=net.Net",
        f"model.kind={kinds}",
        "budget=4ep",
        "logger=[]",
    )
    done = command("-m", *words, code=1)  # of the first that failed
    folder, content = sweep_of(tmp_path)
    states = [one["state"] for one in content["jobs"]]
    assert states == [
        "failed" if kind in ("raises", "diverges") else "completed" for kind in kinds.split(",")
    ]
    assert [one["exit_code"] for one in content["jobs"] if one["state"] == "failed"] == [1, 7]
    values = {one["value"] for one in content["jobs"] if one["state"] == "completed"}
    assert len(values) == 1  # what one job did to torch reached no other
    logs = [(folder / content["jobs"][at]["folder"] / "trainrun.log").read_text() for at in (1, 4)]
    assert "Traceback" in logs[0] and "RuntimeError: this model\nis poisoned" in logs[0]
    assert "Traceback" in logs[1] and "NonFinite" in logs[1]
    told = [line for line in done.err.splitlines() if " failed: " in line]
    assert "job 2 of 9, model.kind=raises: failed: RuntimeError: this model is poisoned" in told
    assert done.err.index("job 2 of 9, model.kind=raises: failed") < done.err.index(
        "job 3 of 9, model.kind=b"
    )
    assert len(content["settings"]) == 9 and sum(one["mean"] is not None for one in content["settings"]) == 7


def test_failed_jobs_are_repeated_when_asked(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = ("data=synthetic_table", "model._target_=net.Net", "budget=4ep", "logger=[]", "-m")
    command(*words, "model.kind=a,raises,killed", code=1)
    again = command(*words, "model.kind=a,raises,killed", code=1)
    assert "3 jobs: 1 done before, 2 failed before" in again.err
    content = sweep_of(tmp_path)[1]
    assert [one["exit_code"] for one in content["jobs"]] == [0, 1, 137]
    line = next(line for line in again.err.splitlines() if "repeat_failed" in line)
    (tmp_path / "mended").touch()
    mended = command(*shlex.split(line)[1:])
    assert "3 jobs: 1 done before, 2 to repeat" in mended.err
    assert [one["state"] for one in sweep_of(tmp_path)[1]["jobs"]] == ["completed"] * 3


def test_retries_and_fail_fast(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = ("data=synthetic_table", "model._target_=net.Net", "budget=4ep", "logger=[]", "-m")
    done = command(*words, "model.kind=once,a", "sweep.retries=1")
    assert done.err.count("only the first time") == 1 and "is tried again, 1 of 1" in done.err
    done = command(*words, "model.kind=a,raises,b", "sweep.fail_fast=true", "name=fast", code=1)
    assert [one["state"] for one in sweep_of(tmp_path, "fast")[1]["jobs"]] == [
        "completed",
        "failed",
        "pending",
    ]


def test_a_job_that_cannot_be_built_is_told_and_the_others_run(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = ("data=synthetic_table", "model._target_=net.Net", "budget=2ep", "logger=[]", "-m")
    done = command(*words, "model.kind=unbuilt,a", code=2)
    assert "job 1 of 2, model.kind=unbuilt: failed: model: net.Net: no such kind" in done.err
    folder, content = sweep_of(tmp_path)
    jobs = content["jobs"]
    assert [(one["state"], one["exit_code"]) for one in jobs] == [("failed", 2), ("completed", 0)]
    assert "Traceback" in (folder / jobs[0]["folder"] / "trainrun.log").read_text()


# A result


def test_the_command_that_repeats_the_best_run_repeats_it(command: Callable, tmp_path: Path) -> None:
    done = command(*QUICK, "-m", RATES, "seed=range(2)", "name=demo", "sweep.retries=1")
    folder, content = sweep_of(tmp_path)
    best = content["best"]
    assert best["command"] in done.err
    command(*shlex.split(best["command"])[1:], "run_dir=again")
    ours, theirs = folder / best["folder"] / "metrics.jsonl", tmp_path / "again/metrics.jsonl"
    assert ours.read_bytes() == theirs.read_bytes()


def test_the_result_has_means_over_seeds_and_the_best_settings_best_run(
    command: Callable, tmp_path: Path
) -> None:
    command(*QUICK, "-m", RATES, "seed=range(3)")
    folder, content = sweep_of(tmp_path)
    values = {}
    for job in content["jobs"]:
        status = json.loads((folder / job["folder"] / "status.json").read_text())
        values.setdefault(job["swept"]["optimizer.lr"], []).append(status["best"]["metrics"]["rmse"])
    means = {rate: sum(found) / 3 for rate, found in values.items()}
    told = {one["swept"]["optimizer.lr"]: one["mean"] for one in content["settings"]}
    assert told == pytest.approx(means) and list(told.values()) == sorted(told.values())
    assert content["mode"] == "min" and content["best"]["value"] == min(values[min(means, key=means.get)])
    assert all(one["count"] == 3 and one["std"] > 0 for one in content["settings"])


def test_quiet_prints_the_best_runs_folder_alone(command: Callable, tmp_path: Path) -> None:
    done = command(*QUICK, "-m", RATES, "-q")
    folder, content = sweep_of(tmp_path)
    assert done.out.strip() == str((folder / content["best"]["folder"]).relative_to(tmp_path))


# Language


def test_pairs_seeds_and_folds(command: Callable, tmp_path: Path) -> None:
    command(
        *QUICK,
        "-m",
        "optimizer=sgd,adamw",
        "optimizer.lr=0.1,0.01",
        "sweep.zip=[optimizer,optimizer.lr]",
        "name=a",
    )
    jobs = sweep_of(tmp_path, "a")[1]["jobs"]
    assert [one["swept"] for one in jobs] == [
        {"optimizer": "sgd", "optimizer.lr": 0.1},
        {"optimizer": "adamw", "optimizer.lr": 0.01},
    ]
    words = ("data=wine", "model=linear", "budget=2ep", "logger=[]", "-m", "data.fold=range(3)", "name=b")
    done = command(*words)
    (setting,) = sweep_of(tmp_path, "b")[1]["settings"]
    assert setting["swept"] == {} and setting["count"] == 3
    assert "3 of 3" in done.err


def test_a_space_may_be_kept_in_an_experiments_file(command: Callable, tmp_path: Path) -> None:
    text = """# @package _global_
budget: 2ep
sweep:
  trials: 3
hydra:
  sweeper:
    params:
      optimizer.lr: tag(log, interval(1e-4, 1e-1))
      batch_size: 16,32
"""
    (tmp_path / "space.yaml").write_text(text)
    command(
        "space.yaml",
        "-m",
        "hydra/sweeper=random",
        *(word for word in QUICK if "budget" not in word),
        "name=a",
    )
    jobs = sweep_of(tmp_path, "a")[1]["jobs"]
    assert len(jobs) == 3 and all(set(one["swept"]) == {"optimizer.lr", "batch_size"} for one in jobs)
    command(
        "space.yaml", "-m", "hydra/sweeper=random", *QUICK, "optimizer.lr=0.5", "name=b"
    )  # the shell wins
    assert all(set(one["swept"]) == {"batch_size"} for one in sweep_of(tmp_path, "b")[1]["jobs"])


# Search

SPACE = ("optimizer.lr=tag(log,interval(1e-4,1e-1))", "batch_size=16,32")


def test_more_trials_of_a_random_search_keep_the_first(command: Callable, tmp_path: Path) -> None:
    words = (*QUICK, "-m", "hydra/sweeper=random", *SPACE)
    command(*words, "sweep.trials=2")
    first = sweep_of(tmp_path)[1]["jobs"]
    done = command(*words, "sweep.trials=4")
    assert "4 jobs: 2 done before, 2 new" in done.err
    assert [one["key"] for one in sweep_of(tmp_path)[1]["jobs"]][:2] == [one["key"] for one in first]


def test_an_optuna_study_goes_on_where_it_ended(command: Callable, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    words = (*QUICK, "-m", "hydra/sweeper=optuna", *SPACE)
    command(*words, "sweep.trials=3")
    folder, first = sweep_of(tmp_path)
    done = command("resume", str(folder), "sweep.trials=5")
    content = sweep_of(tmp_path)[1]
    assert len(content["jobs"]) == 5 and content["jobs"][:3] == first["jobs"]
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")
    assert [one.number for one in study.trials] == [0, 1, 2, 3, 4]
    told = {one["swept"]["optimizer.lr"]: one["value"] for one in content["jobs"]}
    assert {one.params["optimizer.lr"]: one.value for one in study.trials} == told
    assert study.best_value == content["best"]["value"]
    assert repr(study.best_params["optimizer.lr"]) in done.err  # the best parameters are printed


def test_hopeless_trials_are_pruned_while_they_train(command: Callable, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    words = (
        "data=wine",
        "model=mlp",
        "budget=8ep",
        "logger=[]",
        "-m",
        "hydra/sweeper=optuna",
        "sweep.trials=8",
    )
    space = ("optimizer.lr=tag(log,interval(1e-7,1e-1))", "hydra.sweeper.startup_trials=2")
    done = command(*words, *space)
    jobs = sweep_of(tmp_path)[1]["jobs"]
    pruned = [one for one in jobs if one["state"] == "pruned"]
    full = max(one["step"] for one in jobs)
    assert pruned and all(0 < one["step"] < full for one in pruned)
    assert "pruned" in done.err


def test_halving_goes_on_exactly_where_candidates_waited(command: Callable, tmp_path: Path) -> None:
    words = ("data=wine", "model=mlp", "budget=9ep", "logger=[]")
    search = (
        "-m",
        "hydra/sweeper=halving",
        "hydra.sweeper.reduction=3",
        "optimizer.lr=0.001,0.01,0.1",
        "seed=0,1",
    )
    command(*words, *search, "name=a")
    folder, content = sweep_of(tmp_path, "a")
    states = {
        rate: {one["state"] for one in content["jobs"] if one["swept"]["optimizer.lr"] == rate}
        for rate in (0.001, 0.01, 0.1)
    }
    assert sorted(map(tuple, states.values())) == [("completed",), ("paused",), ("paused",)]
    (winner,) = (rate for rate, found in states.items() if found == {"completed"})
    command(*words, f"optimizer.lr={winner}", "seed=1", "run_dir=straight")
    key = next(one["key"] for one in content["jobs"] if one["swept"] == {"optimizer.lr": winner, "seed": 1})
    assert (folder / key / "metrics.jsonl").read_bytes() == (tmp_path / "straight/metrics.jsonl").read_bytes()
    again = command(*words, *search, "name=a")
    assert "new" not in again.err and "to go on with" not in again.err
    assert timeless(sweep_of(tmp_path, "a")[1]) == timeless(content)


def test_every_job_starts_from_the_run_that_was_the_last_before_the_sweep(
    command: Callable, tmp_path: Path
) -> None:
    command(*QUICK, "run_dir=outputs/first")
    command(*QUICK, "-m", "optimizer.lr=0.01,0.02", "init_from=last")
    folder, content = sweep_of(tmp_path)
    for job in content["jobs"]:
        environment = json.loads((folder / job["folder"] / "environment.json").read_text())
        assert environment["init_from"]["path"].startswith("outputs/first/")
    assert "2 jobs: 2 done before" in command("resume", str(folder)).err


def test_a_study_that_moved_or_was_refused_goes_on(command: Callable, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    words = (*QUICK, "-m", "hydra/sweeper=optuna", SPACE[0], "name=mine")
    command(*words, "batch_size=16,32", "sweep.trials=2")
    refused = command(*words, "batch_size=16,64", "sweep.trials=3", code=2)
    assert "the study in study.db has other values of batch_size" in refused.err
    (tmp_path / "outputs/multirun/mine").rename(tmp_path / "moved")
    command("resume", "moved", "sweep.trials=3")
    storage = f"sqlite:///{tmp_path / 'moved/study.db'}"
    assert optuna.get_all_study_names(storage) == ["mine"]
    trials = optuna.load_study(study_name="mine", storage=storage).trials
    assert [one.state.name for one in trials] == ["COMPLETE"] * 3
    jobs = json.loads((tmp_path / "moved/sweep.json").read_text())["jobs"]
    assert [one["state"] for one in jobs] == ["completed"] * 3


def test_a_failed_trial_that_is_repeated_is_not_pruned(command: Callable, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    (tmp_path / "net.py").write_text(NET)
    words = ("data=synthetic_table", "model._target_=net.Net", "model.kind=raises", "budget=4ep", "logger=[]")
    command(*words, "-m", "hydra/sweeper=optuna", SPACE[0], "sweep.trials=2", "name=mine", code=1)
    (tmp_path / "mended").touch()
    command("resume", "mine", "sweep.repeat_failed=true")
    assert [one["state"] for one in sweep_of(tmp_path)[1]["jobs"]] == ["completed"] * 2


def test_jobs_that_goes_on_take_places_and_limits_from_the_line(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "slow").touch()
    words = (
        "data=synthetic_table",
        "model._target_=net.Net",
        "model.kind=a,b",
        "budget=9ep",
        "logger=[]",
        "-m",
    )
    command(*words, "runtime.time_limit=1s", code=124)
    (tmp_path / "slow").unlink()
    done = command(*words, "runtime.time_limit=10min", "loop.log_every=7step")
    assert "2 jobs: 2 to go on with" in done.err
    folder, content = sweep_of(tmp_path)
    assert [one["state"] for one in content["jobs"]] == ["completed"] * 2
    assert all(one["seconds"] > 0 for one in content["jobs"])
    assert "log_every: 7step" in (folder / content["jobs"][0]["folder"] / "config.yaml").read_text()


def test_other_weights_to_start_from_are_another_experiment(command: Callable, tmp_path: Path) -> None:
    words = (*QUICK, "-m", "optimizer.lr=0.01,0.02", "init_from=outputs/first", "name=mine")
    command(*QUICK, "run_dir=outputs/first")
    command(*words)
    shutil.rmtree(tmp_path / "outputs/first")
    command(*QUICK, "run_dir=outputs/first", "seed=9")
    assert "2 jobs: 2 new" in command(*words).err


def test_what_lies_in_the_folder_and_is_not_asked_for_is_said(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", RATES, "name=mine")
    assert "2 more jobs lie here" in command(*QUICK, "-m", "optimizer.lr=0.01,0.5", "name=mine").err


def test_a_glob_is_every_option_of_that_name(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "optimizer=glob(ada*,exclude=adad*)", "budget=1step")
    swept = [one["swept"]["optimizer"] for one in sweep_of(tmp_path)[1]["jobs"]]
    assert swept == ["adafactor", "adagrad", "adam", "adamax", "adamw"]


def test_axes_may_stand_in_any_order(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "seed=0,1", "++optimizer.lr=0.01,0.02")
    done = command(*QUICK, "-m", "optimizer.lr=0.01,0.02", "seed=0,1")
    assert "4 jobs: 4 done before" in done.err
    assert len(sweep_of(tmp_path)[1]["settings"]) == 2


def test_a_sweeps_name_is_not_its_jobs_and_it_is_told_from_a_run(command: Callable, tmp_path: Path) -> None:
    done = command(*QUICK, "-m", RATES, "seed=0,1", "name=mine")
    content = sweep_of(tmp_path)[1]
    (best,) = (one for one in content["settings"] if content["best"]["key"] in one["jobs"])
    tests = [one["test"]["rmse"] for one in content["jobs"] if one["key"] in best["jobs"]]
    assert f"which chose nothing: rmse {sum(tests) / 2:.4f} +/- " in done.err
    listed = command("runs").out.splitlines()[1:]
    assert all("mine/" in line for line in listed) and len(listed) == 6
    told = command("eval", "mine", code=2).err
    assert "mine is a sweep; name one of its jobs, such as the best, outputs/multirun/mine/" in told
    assert "usage: trainrun resume RUN" in command("resume", "--help").out
    assert "6 jobs: 6 done before" in command("-q", "resume", "mine").err


def test_null_is_no_option(command: Callable, tmp_path: Path) -> None:
    told = command(*QUICK, "-m", "scheduler=cosine,null", code=2).err
    assert told.startswith("scheduler: no option 'null'") and "recursion" not in told
    assert not list(tmp_path.iterdir())


# What is refused


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-m optimizer.lr=interval(1e-4,1e-1)", "optimizer.lr: is an interval"),
        ("-m seed=0,1 sweep.trials=3", "sweep.trials: is the number of points of a search"),
        ("-m hydra/sweeper=random batch_size=16,32", "sweep.trials: hydra/sweeper=random needs the number"),
        ("-m hydra/sweeper=random seed=0,1 sweep.trials=2", "hydra/sweeper: random has nothing to search"),
        (
            "-m hydra/sweeper=random hydra.sweeper.seed=x batch_size=1,2 sweep.trials=2",
            "hydra.sweeper.seed: must be",
        ),
        (
            "-m hydra/sweeper=optuna hydra.sweeper.pruner=x batch_size=1,2 sweep.trials=2",
            "hydra.sweeper.pruner: must be",
        ),
        ("-m optimizer.lr=tag(log,interval(0,1)) hydra/sweeper=random sweep.trials=2", "must start above 0"),
        ("-m optimizer.lr=interval(2,1) hydra/sweeper=random sweep.trials=2", "must start below its end"),
        (
            "-m sweep.zip=[seed,batch_size] seed=0,1 batch_size=1,2,3",
            "sweep.zip: needs lists of the same length",
        ),
        ("-m sweep.zip=[seed,nope] seed=0,1", "nope is not swept"),
        ("-m sweep.exclude=[seed=3] seed=0,1", "'seed=3' excludes none of the 2 jobs"),
        ("-m sweep.exclude=[seeed=1] seed=0,1", "did you mean seed?"),
        ("-m sweep.exclude=[batch_size<9] batch_size=1,2", "excludes all of the 2 jobs"),
        ("-m sweep.exclude=seed=1 seed=0,1", "sweep.exclude: must be a list"),
        ("sweep.exclude=[seed=1] seed=1", "sweep.exclude: is a setting of a sweep; start one with -m"),
        (
            "-m sweep.exclude=[batch_size>0] batch_size=1,2 hydra/sweeper=random sweep.trials=2",
            "leaves out all but 0 of 1000 points that were drawn",
        ),
        (
            "-m sweep.exclude=[batch_size>0] batch_size=1,2 hydra/sweeper=optuna sweep.trials=2",
            "leaves out all but 0 of 1000 points that were drawn",
        ),
        ("-m sweep.retries=0,1", "sweep.retries: cannot be swept"),
        ("-m name=a,b", "name: cannot be swept"),
        ("-m sweep.retries=-1 seed=0,1", "sweep.retries: must be"),
        ("sweep.trials=3", "sweep.trials: is a setting of a sweep; start one with -m"),
        ("hydra/sweeper=random", "hydra/sweeper: is a setting of a sweep"),
        ("-m hydra/launcher=nope seed=0,1", "hydra/launcher: no option 'nope'"),
        ("-m data=digits,diabetes model=linear", "monitor: the jobs of a sweep are ranked by one"),
        (
            "-m data=diabetes monitor=val/rmse,val/mae",
            "monitor: the jobs of a sweep are ranked by one",
        ),
        ("-m ++run_dir=a,b", "run_dir: cannot be swept"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    command: Callable, tmp_path: Path, words: str, told: str
) -> None:
    assert told in command(*words.split(), code=2).err
    assert not list(tmp_path.iterdir())


def test_a_stored_sweep_is_gone_on_with_as_it_was_begun(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "seed=0,1", "name=mine")
    assert "2 jobs: 2 done before" in command("resume", "mine").err
    assert "budget: makes another sweep" in command("resume", "mine", "budget=3ep", code=2).err
    (tmp_path / "conf/optimizer").mkdir(parents=True)
    (tmp_path / "conf/optimizer/adamw.yaml").write_text("_target_: torch.optim.AdamW\nlr: 0.1\n")
    assert "2 of its jobs would be different" in command("resume", "mine", code=5).err


@pytest.mark.parametrize(
    "word",
    [
        "runtime.trust=[os]",
        "--config-d=conf",
        "+hydra.launcher.setup=[ls]",
        "hydra/launcher=joblib hydra.launcher.temp_folder=/",
        "--config-dir=conf",
    ],
)
def test_a_stored_line_does_not_say_what_runs(command: Callable, tmp_path: Path, word: str) -> None:
    command(*QUICK, "-m", "seed=0,1", "name=mine")
    folder, content = sweep_of(tmp_path)
    (folder / "sweep.json").write_text(json.dumps(content | {"words": [*content["words"], *word.split()]}))
    assert "is taken only from the command line" in command("resume", "mine", code=2).err


def test_a_stored_line_imports_nothing_that_came_with_it(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "seed=0,1", "run_dir=theirs")
    file = tmp_path / "theirs/sweep.json"
    (tmp_path / "theirs/evil.py").write_text(f"open('ran', 'w').close()\n{NET}")
    words = ["model._target_=theirs.evil.Net", "model.kind=a"]
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"words": [*content["words"], *words]}))
    assert (
        "theirs.evil.Net is named by a run that may be a stranger's"
        in command("resume", "theirs", code=2).err
    )
    assert not (tmp_path / "ran").exists()


def test_a_folder_with_something_else_in_it_stays_as_it_is(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    assert "holds something else" in command(*QUICK, "-m", "seed=0,1", "run_dir=mine", code=6).err
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# Exclusion rules


def test_a_rule_leaves_out_jobs_and_the_others_stay_what_they_are(command: Callable, tmp_path: Path) -> None:
    words = [*QUICK, "-m", "name=mine", "optimizer=sgd,adamw", "optimizer.lr=0.001,0.01"]
    rule = 'sweep.exclude=["optimizer=sgd and optimizer.lr<0.01"]'
    first = command(*words, rule)
    assert "every combination; 1 excluded by sweep.exclude" in first.err and "3 jobs: 3 new" in first.err
    jobs = {job["key"]: tuple(job["swept"].values()) for job in sweep_of(tmp_path)[1]["jobs"]}
    assert set(jobs.values()) == {("sgd", 0.01), ("adamw", 0.001), ("adamw", 0.01)}
    assert "3 jobs: 3 done before" in command("resume", "mine").err
    whole = command(*words)
    assert "4 jobs: 3 done before, 1 new" in whole.err
    assert (
        jobs.items()
        < {job["key"]: tuple(job["swept"].values()) for job in sweep_of(tmp_path)[1]["jobs"]}.items()
    )
    assert "1 more job" in command(*words, rule).err


def test_a_rule_may_leave_out_what_would_be_refused(command: Callable, tmp_path: Path) -> None:
    """L-BFGS takes no clipping: that job alone is a mistake."""
    words = [*QUICK, "-m", "optimizer=lbfgs,adamw", "loop.clip.norm=null,1", "batch_size=full"]
    assert "loop.clip" in command(*words, code=2).err
    done = command(*words, 'sweep.exclude=["optimizer=lbfgs and loop.clip.norm!=null"]')
    assert "3 jobs: 3 completed" in done.err


def test_a_search_draws_anew_what_a_rule_leaves_out(command: Callable, tmp_path: Path) -> None:
    rate = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
    words = [*QUICK, "-m", "hydra/sweeper=random", "sweep.trials=5", rate]
    done = command(*words, 'sweep.exclude=["optimizer.lr<0.01"]')
    assert "excluded by sweep.exclude, drawn anew" in done.err
    rates = [job["swept"]["optimizer.lr"] for job in sweep_of(tmp_path)[1]["jobs"]]
    assert len(rates) == 5 and min(rates) >= 0.01


def test_a_sweep_over_seeds_is_compared_with_intervals_and_a_paired_test(
    command: Callable, tmp_path: Path
) -> None:
    """The numbers of each job by its own records, the statistics by scipy."""
    done = command(*QUICK, "-m", "name=mine", "optimizer.lr=0.001,0.1", "seed=range(4)")
    assert "all metrics:\n  trainrun compare outputs/multirun/mine" in done.err
    folder, content = sweep_of(tmp_path)
    best, other = (
        [json.loads((folder / key / "status.json").read_text()) for key in setting["jobs"]]
        for setting in content["settings"]
    )
    text = [" ".join(line.split()) for line in command("compare", "mine").out.splitlines()]
    for split, name in (("val", "rmse"), ("val", "r2"), ("test", "mae")):
        first, second = (
            [job["best"]["metrics"][name] if split == "val" else job["test"][name] for job in jobs]
            for jobs in (best, other)
        )
        cells = [
            f"{mean(row):.4f} +/- {stats.t.ppf(0.975, 3) * stats.sem(row):.4f}" for row in (first, second)
        ]
        assert f"{split}/{name} {' '.join(cells)}" in text
        test = stats.ttest_rel(first, second)
        half = test.confidence_interval(0.95).high - mean(first) + mean(second)
        difference = f"{mean(first) - mean(second):+.4g} +/- {half:.2g}"
        assert f"{split}/{name} 4 {difference} {test.statistic:.3g} {test.pvalue:.2g}" in text
    assert command("compare", "mine", "--latex").out.count(r"\\") == 3
    assert command("compare", "mine", "--csv").out.startswith(
        "setting,optimizer.lr,metric,jobs,mean,ci95\n1,0.1,val/rmse,4,"
    )
