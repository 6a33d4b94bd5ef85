"""A run from the shell: its folder, its figures, its reproducibility, and how it goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from imports import assert_light, run_counted
from waiting import HANG_S, wait_until

SHORT = ("budget=3ep", "data.limit=200", "logger=none")


def run_of(folder: Path, which: int = -1) -> Path:
    """One of the runs below a folder, by age."""
    found = sorted(folder.glob("outputs/*/*/config.yaml"), key=lambda file: file.stat().st_mtime_ns)
    return found[which].parent


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_leaves_the_folder_that_is_promised(command: Callable, tmp_path: Path) -> None:
    done = command("budget=2ep", "data.limit=100", "name=first")
    run = run_of(tmp_path)
    names = {path.name for path in run.iterdir()}
    assert names >= {
        *("config.yaml", ".hydra", "environment.json", "status.json", "metrics.jsonl", "timing.jsonl"),
        "result.json",
        *("trainrun.log", "tensorboard", "checkpoints", ".lock"),
    }
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["name"], status["resumable"]) == (
        "completed",
        0,
        "first",
        False,
    )
    assert {"step", "metric", "best", "reason", "test"} <= status.keys()
    result = json.loads((run / "result.json").read_text())
    assert result["test"]["metrics"] == status["test"]
    assert (result["steps"], result["samples"]) == (status["step"], 200)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"] == "trainrun budget=2ep data.limit=100 name=first"
    assert environment["packages"]["torch"]
    assert environment["data"]["fingerprint"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["split_seed"] == config["seed"] == 0  # every value resolved
    events = [record["event"] for record in lines(run / "metrics.jsonl")]
    assert events.count("finished") == 1
    assert events[-1] == "finished"
    splits = [record["split"] for record in lines(run / "metrics.jsonl") if record["event"] == "eval"]
    assert splits.count("test") == 1
    assert splits[-1] == "test"
    assert "\x1b" not in done.err  # off a terminal: no control codes
    assert done.out == ""  # people read stderr
    assert str(run.relative_to(tmp_path)) in done.err


def test_the_same_command_gives_the_same_bytes_and_another_seed_does_not(
    command: Callable, tmp_path: Path
) -> None:
    texts = []
    for words in (("seed=42",), ("seed=42",), ("seed=42", "runtime.deterministic=true"), ("seed=43",)):
        command(*SHORT, "regularization=dropout", *words)
        texts.append((run_of(tmp_path) / "metrics.jsonl").read_bytes())
    assert texts[0] == texts[1] == texts[2]
    assert texts[0] != texts[3]


def test_eval_gives_the_logged_numbers_from_the_folder_alone(command: Callable, tmp_path: Path) -> None:
    done = command(*SHORT, "regularization=ema", "name=judged")
    assert "the ema weights of step" in done.err.partition("finished in")[2]
    moved = tmp_path / "elsewhere"
    run_of(tmp_path).rename(moved)
    for split, checkpoint in (("val", "best"), ("val", "last"), ("test", "best")):
        answer = json.loads(command("eval", str(moved), "--split", split, "--checkpoint", checkpoint).out)
        logged = [record for record in lines(moved / "metrics.jsonl") if record.get("split") == split]
        same = next(record for record in reversed(logged) if record["step"] == answer["step"])
        assert {**same, "epoch": None} == {**answer, "epoch": None}
        assert answer["weights"] == "ema"
    done = command("eval", str(moved), "--checkpoint", "7", code=5)
    assert "there are best, last and steps" in done.err


def test_a_finished_run_resumed_has_nothing_to_do_and_with_a_larger_budget_goes_on(
    command: Callable, tmp_path: Path
) -> None:
    command(*SHORT, "name=demo")
    run = run_of(tmp_path)
    before = (run / "metrics.jsonl").read_bytes()
    assert "nothing to do" in command("resume", "demo").err
    assert (run / "metrics.jsonl").read_bytes() == before
    done = command("resume", "demo", "budget=5ep")
    assert "budget: 3ep -> 5ep" in done.err
    assert json.loads((run / "status.json").read_text())["step"] == 5 * 7
    result = json.loads((run / "result.json").read_text())
    assert (result["steps"], result["samples"], result["last"]["step"]) == (5 * 7, 5 * 200, 5 * 7)
    steps = [record["step"] for record in lines(run / "metrics.jsonl") if record.get("split") == "val"]
    assert steps == [7, 14, 21, 28, 35]
    assert "nothing to do" in command("resume", "demo").err  # the new budget is the run's
    refused = command("resume", "demo", "seed=1", "model.hidden=64", code=2).err
    assert "seed: cannot change on resume" in refused
    assert "model.hidden: cannot change on resume" in refused


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.torture)]
)
def test_a_stopped_and_resumed_run_is_byte_for_byte_the_straight_one(
    number: int, code: int, tmp_path: Path
) -> None:
    words = [
        "budget=300ep",
        "data.limit=64",
        "batch_size=16",
        "loop.log_every=7step",
        "regularization=[dropout,ema]",
    ]
    words += [
        "checkpoint.every=10ep",
        "loop.eval_every=10ep",
        "logger=none",
        "model=mlp",
        "runtime.threads=1",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "trainrun"]
    straight = subprocess.run(
        [*start, *words, "run_dir=straight"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert straight.returncode == 0, straight.stderr
    process = subprocess.Popen(
        [*start, *words, "run_dir=stopped"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.stat().st_size > 500)
    process.send_signal(number)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == code, err
    status = json.loads((tmp_path / "stopped" / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["resumable"]) == ("interrupted", code, True)
    assert 0 < status["step"] < 1200
    resumed = subprocess.run(
        [*start, "resume", "stopped"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert metrics.read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    last = "checkpoints/step-000001200/state.pt"
    import torch

    ours, theirs = (torch.load(tmp_path / name / last, weights_only=True) for name in ("stopped", "straight"))
    for part in ("model", "averager"):
        for key, tensor in _tensors(theirs[part]).items():
            assert torch.equal(tensor, _tensors(ours[part])[key])


def test_a_sweep_runs_every_job_even_after_one_fails(command: Callable, tmp_path: Path) -> None:
    done = command(*SHORT, "-m", "model=linear,mlp", "optimizer.lr=0.01,1e30", code=7)
    (file,) = tmp_path.glob("outputs/multirun/*/sweep.json")
    jobs = json.loads(file.read_text())["jobs"]
    assert [one["state"] for one in jobs] == ["completed", "failed", "completed", "failed"]
    assert "norm is" in done.err
    folders = [file.parent / one["folder"] for one in jobs]
    states = [json.loads((folder / "status.json").read_text())["exit_code"] for folder in folders]
    assert states == [0, 7, 0, 7]


def test_a_sweep_with_a_mistake_in_one_job_starts_none(command: Callable, tmp_path: Path) -> None:
    done = command("-m", "optimizer.lr=0.1,-1", "seed=0,1", code=2)
    assert done.err.count("optimizer.lr: must be a number greater than 0, got -1") == 1
    assert not list(tmp_path.iterdir())


def test_quiet_prints_the_folder_alone_and_verbose_the_coverage(command: Callable, tmp_path: Path) -> None:
    done = command(*SHORT, "-q")
    assert done.out.strip() == str(run_of(tmp_path).relative_to(tmp_path))
    assert done.err == ""
    rules = "parameters.rules={head*:{lr:0.1,init:xavier_uniform},body.0.*:{freeze:true}}"
    done = command("-v", *SHORT, "budget=1step", rules)
    rows = {line.split()[0]: line for line in done.err.splitlines() if re.match(r"(body|neck|head)\.", line)}
    assert re.search(
        r"head\.weight +10 x 128 +lr x 0\.1, decay 0\.01 +0\.0002 +0\.01 +xavier_uniform", rows["head.weight"]
    )
    assert re.search(r"neck\.1\.bias +128 +decay 0 +0\.002 +0 +auto", rows["neck.1.bias"])
    assert "frozen" in rows["body.0.weight"]
    assert re.search(r"^ +neck +Sequential +128 +32,896$", done.err, re.MULTILINE)  # 256 x 128 + 128


def test_a_used_folder_is_refused_and_a_live_one_is_busy(command: Callable, tmp_path: Path) -> None:
    command(*SHORT, "run_dir=mine")
    assert "holds a run already" in command(*SHORT, "run_dir=mine", code=6).err
    from trainrun.run.lock import lock

    with lock(tmp_path / "mine"):
        assert str(os.getpid()) in command("resume", "mine", "budget=9ep", code=6).err


def test_missing_data_exit_with_four_and_leave_nothing(command: Callable, tmp_path: Path) -> None:
    done = command("data=mnist", code=4)
    assert "digits" in done.err
    assert "data.download=true" in done.err
    assert not list(tmp_path.iterdir())


def test_runs_are_found_by_path_prefix_name_and_last(command: Callable, tmp_path: Path) -> None:
    command(*SHORT, "name=alpha")
    run = run_of(tmp_path).relative_to(tmp_path)
    for name in ("alpha", "last", str(run), str(run)[len("outputs/") : -1]):
        assert str(run) in command("eval", name).err
    assert "no run is called beta" in command("eval", "beta", code=5).err


def test_skipped_fp16_steps_are_counted_and_shown(command: Callable, tmp_path: Path) -> None:
    done = command(
        *SHORT, "precision=fp16", "precision.init_scale=1e30", "loop.log_every=1step", "logger=[console]"
    )
    records = [record for record in lines(run_of(tmp_path) / "metrics.jsonl") if record["event"] == "train"]
    assert records[0]["skipped"] == 1
    assert records[0]["lr"] == records[1]["lr"]  # the schedule did not advance
    assert "skipped 1" in done.err


def _tensors(tree: Any, at: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in _tensors(value, f"{at}.{key}").items()}
    return {at: tree} if hasattr(tree, "shape") else {}


# words -> (most modules at the end of a run of one step, what it must not import beside these).
STARTS = {
    "budget=1step logger=none": (1560, ("rich", "tensorboard", "PIL")),  # 1544 today, 1122 of them torch's
    "budget=1step": (1820, ()),  # 1803 today: the default loggers
}


@pytest.mark.parametrize("words", STARTS)
def test_a_run_imports_no_compiler_and_no_science_library(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count, which no load changes: what a start takes beyond torch follows from it."""
    monkeypatch.chdir(tmp_path)
    done = run_counted(*words.split())
    assert done.code == 0, done.err
    most, more = STARTS[words]
    compiler = ("torch._dynamo", "torch._inductor", "sympy")
    assert_light(done, most, (*compiler, "sklearn", "scipy", "matplotlib", "pandas", "torchvision", *more))


def test_what_a_users_module_leaves_open_is_written_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "file = open('events.txt', 'w')\ndef log(event):\n    file.write(type(event).__name__ + '\\n')\n"
    )
    words = ["budget=1step", "logger=none", "+logger.mine._target_=mine.log"]
    subprocess.run([sys.executable, "-m", "trainrun", *words], cwd=tmp_path, check=True, capture_output=True)
    events = (tmp_path / "events.txt").read_text().split()
    assert events[0] == "Started" and events[-1] == "Finished"


def test_what_the_collector_alone_closes_is_written_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "own_log.py").write_text(
        "class Log:\n"
        "    def __init__(self):\n"
        "        self.file, self.me = open('own.txt', 'w'), self  # closed by the collector alone\n"
        "    def __call__(self, event):\n"
        "        self.file.write(type(event).__name__ + '\\n')\n"
        "LOG = Log()\n"
        "def own():\n    return LOG\n"
    )
    line = [
        sys.executable,
        "-m",
        "trainrun",
        "budget=2step",
        "logger=none",
        "+logger.own._target_=own_log.own",
    ]
    assert subprocess.run(line, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "own.txt").read_text().splitlines()[-1] == "Finished"
