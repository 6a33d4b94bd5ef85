"""Stored runs judged, listed and removed, as a person would: against predictions made by hand."""

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

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from waiting import wait_until

import trainrun
from trainrun.session.open_run import open_run

SHORT = ("budget=3ep", "data.limit=200", "model=linear", "logger=none")
QUICK = ("data=synthetic_table", *SHORT)  # spares every process the import of scikit-learn


def run_of(folder: Path) -> Path:
    """The newest run below a folder."""
    found = sorted(folder.glob("outputs/*/*/config.yaml"), key=lambda file: file.stat().st_mtime_ns)
    return found[-1].parent


def predictions(run: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Outputs, targets and sample indices of a split, by the model that `trainrun.load` gives."""
    model = trainrun.load(str(run)).cpu()
    data = open_run(run).parts.data
    with torch.no_grad():
        parts = [(model(batch.inputs), batch.targets, batch.indices) for batch in data.eval_batches(split)]
    outputs, targets, indices = (torch.cat(one) for one in zip(*parts, strict=True))
    return outputs, targets, indices


def rows(text: str, first: str) -> dict[str, list[str]]:
    """The lines below the one that begins with `first`, up to an empty one, by their first word."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.split()[:1] == [first])
    end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
    return {line.split()[0]: line.split()[1:] for line in lines[at + 1 : end]}


@pytest.mark.parametrize("data", ["digits", "breast_cancer"])
def test_the_report_by_class_is_scikit_learns(data: str, command: Callable, tmp_path: Path) -> None:
    command(*SHORT, f"data={data}")
    done = command("eval", "--split", "test", "last", "--checkpoint", "best", "data.eval_batch_size=17")
    assert "average" not in done.err  # the run has none
    outputs, targets, _ = predictions(run_of(tmp_path), "test")
    taken = outputs.argmax(1) if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long()
    expected = sk.classification_report(targets, taken, output_dict=True, zero_division=0)
    names = [str(c) for c in range(10)] if data == "digits" else ["malignant", "benign"]
    found = rows(done.err, "class")
    assert list(found) == [*names, "mean", "weighted"]
    truth = {name: expected[str(c)] for c, name in enumerate(names)}
    truth |= {"mean": expected["macro avg"], "weighted": expected["weighted avg"]}
    for name, figures in found.items():
        ours = [0.0 if one == "-" else float(one) for one in figures]
        assert ours == pytest.approx(list(truth[name].values()), abs=5e-5), name
    lines = done.err.rstrip().splitlines()[-len(names) :]
    matrix = [[int(n) if n != "." else 0 for n in line.split()[-len(names) :]] for line in lines]
    assert matrix == sk.confusion_matrix(targets, taken).tolist()
    answer = json.loads(done.out)
    assert answer["accuracy"] == pytest.approx(sk.accuracy_score(targets, taken))
    assert "epoch" not in answer and "\x1b" not in done.err


def test_the_residual_report_is_scikit_learns(command: Callable, tmp_path: Path) -> None:
    command(*SHORT, "data=diabetes")
    done = command("eval", "last", "--split", "val")
    outputs, targets, indices = predictions(run_of(tmp_path), "val")
    info = open_run(run_of(tmp_path)).parts.info
    scaling = info.target_scaling
    predicted = (outputs[:, 0].double() * scaling.std.double() + scaling.mean.double()).numpy()
    true = targets[:, 0].double().numpy()
    head = next(line for line in done.err.splitlines() if line.split()[:2] == ["mae", "rmse"])
    values = done.err.splitlines()[done.err.splitlines().index(head) + 1].split()
    truth = [
        sk.mean_absolute_error(true, predicted),
        sk.root_mean_squared_error(true, predicted),
        sk.r2_score(true, predicted),
        (predicted - true).mean(),
        sk.median_absolute_error(true, predicted),
        np.quantile(np.abs(predicted - true), 0.95),
    ]
    assert [float(one) for one in values] == pytest.approx(truth, abs=6e-3)
    largest = rows(done.err, "sample")
    order = np.argsort(-np.abs(predicted - true))[:5]
    assert list(largest) == [str(int(indices[i])) for i in order]
    for i, figures in zip(order, largest.values(), strict=True):
        ours = [float(one) for one in figures]
        assert ours == pytest.approx([true[i], predicted[i], predicted[i] - true[i]], abs=6e-3)


def test_the_weights_are_named_in_words(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "regularization=ema", "name=averaged", "checkpoint.keep_last=3")
    status = json.loads((run_of(tmp_path) / "status.json").read_text())
    best, last = status["best"]["step"], status["step"]
    words = re.search(r"weights +(.*)", command("eval", "averaged").err)
    assert (
        words
        and f"of step {best}, best on val/" in words[1]
        and "exponential moving average (ema)" in words[1]
    )
    words = re.search(r"weights +(.*)", command("eval", "averaged", "--checkpoint", "last").err)
    assert words and words[1].startswith(f"of step {last}, ") and "last" in words[1]


def test_a_name_used_twice_is_said_at_the_start_and_when_it_is_meant(
    command: Callable, tmp_path: Path
) -> None:
    assert "also the name" not in command(*QUICK, "name=demo").err
    first = run_of(tmp_path).relative_to(tmp_path)
    assert f"name: demo is also the name of {first}" in command(*QUICK, "name=demo").err
    second = run_of(tmp_path).relative_to(tmp_path)
    said = f"demo: {second}, the newest of 2 runs with that name"
    assert said in command("eval", "demo").err and said in command("resume", "demo").err
    assert "did you mean demo?" in command("eval", "dmeo", code=5).err
    assert [line.split()[:2] for line in command("runs").out.splitlines()[1:]] == [
        ["completed", str(first).removeprefix("outputs/")],
        ["completed", "demo"],
    ]


def test_a_sweeps_jobs_and_their_failures_are_listed_and_cleaned(command: Callable, tmp_path: Path) -> None:
    command(*QUICK, "-m", "optimizer.lr=0.01,1e30", code=7)
    found = [json.loads(line) for line in command("runs", "--json").out.splitlines()]
    assert [one["state"] for one in found] == ["completed", "failed"]
    assert found[0]["sweep"] == found[1]["sweep"] is not None
    assert [(one["data"], one["model"]) for one in found] == [("synthetic_table", "Linear")] * 2
    status = json.loads((tmp_path / found[0]["path"] / "status.json").read_text())
    assert found[0]["best"] == status["best"]["metrics"]["rmse"]
    assert str(found[0]["path"]) in command("eval", found[0]["run"]).err  # what is shown can be typed
    assert "norm" in command("runs", "--failed").out
    command("runs", "--clean", "--yes")
    assert [(tmp_path / one["path"]).exists() for one in found] == [True, False]


def test_a_run_that_was_killed_died_and_lives_again_when_resumed(command: Callable, tmp_path: Path) -> None:
    words = (
        "budget=5000ep",
        "data.limit=64",
        "model=linear",
        "logger=none",
        "checkpoint.every=1ep",
        "run_dir=outputs/k",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "trainrun", *words],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list(tmp_path.glob("outputs/k/checkpoints/step-*")))

    def state() -> Any:
        (line,) = command("runs", "--json").out.splitlines()
        return json.loads(line)["state"]

    assert state() == "running"
    assert "nothing to remove" in command("runs", "--clean", "--yes").err
    assert process.poll() is None  # looking disturbed nothing
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state() == "died"
    done = command("runs", "--clean", "--yes")
    assert "rm -r outputs/k" in done.err and (tmp_path / "outputs" / "k").is_dir()


def test_damaged_checkpoints_are_told_by_eval_and_before_a_resume_says_its_plan(
    command: Callable, tmp_path: Path
) -> None:
    command("data=iris", "model=linear", "budget=2ep", "logger=none", "run_dir=run")
    for file in tmp_path.glob("run/checkpoints/*/state.pt"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    told = command("eval", "run", code=5).err
    steps = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert all(f"{step} has another content in state.pt" in told for step in steps)
    refused = command("resume", "run", "budget=3ep", code=5).err
    assert "is damaged" in refused and "planned again" not in refused
