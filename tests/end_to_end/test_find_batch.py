"""`trainrun find-batch`: what it finds is the largest that fits, and its command is the same run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OWN = """
import torch
from torch import nn


class Hungry(nn.Module):
    # Each sample takes 1.6 MB, `times` over in training.

    def __init__(self, num_outputs, times=2, norm=False):
        super().__init__()
        self.times, self.scale, self.head = times, nn.Parameter(torch.ones(())), nn.LazyLinear(num_outputs)
        self.norm = nn.BatchNorm1d(num_outputs) if norm else nn.Identity()

    def forward(self, x):
        wide = (x.mean(1, keepdim=True) * self.scale).expand(-1, 400_000)
        for _ in range(self.times):
            wide = torch.tanh(wide)
        return self.norm(self.head(x) + wide.mean(1, keepdim=True))
"""
DATA = ("data=iris", "logger=none")
HUNGRY = (*DATA, "model._target_=own.Hungry", "optimizer=sgd")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def found(command: Callable, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(command("find-batch", "--json", *words).out)
    return told


def steps(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(one["step"], one["loss"]) for one in map(json.loads, lines) if one["event"] == "train"]


def test_the_limit_decides_and_the_printed_command_is_the_same_run(command: Callable, own: Path) -> None:
    window = ("batch_size=8", "loop.accumulate=2", "budget=4step", "loop.log_every=1step")
    free = found(command, *HUNGRY, *window)
    assert [one["size"] for one in free["train"]] == [1, 2, 4, 8, 16]
    assert all(one["fits"] and one["size"] * one["pieces"] == 16 for one in free["train"])
    assert free["overrides"][:2] == ["batch_size=16", "loop.accumulate=1"]
    peaks = {one["size"]: one["peak_bytes"] for one in free["train"]}
    assert peaks[16] - peaks[1] > 15 * 2 * 1_600_000 * 0.5
    assert not [file for file in own.iterdir() if file.name not in ("own.py", "__pycache__")]

    limit = (3 * max(peaks[4], free["built_bytes"]) + peaks[16]) // 4  # a busy watcher may miss the very peak
    line = command("find-batch", *HUNGRY, *window, "--memory", f"{limit}B").out.splitlines()[-1].strip()
    words = shlex.split(line)[1:]
    sizes = dict(word.split("=") for word in words if word.startswith(("batch", "loop.acc", "data.eval")))
    size = int(sizes["batch_size"])
    assert 1 <= size < 16 and size * int(sizes["loop.accumulate"]) == 16
    command(*words, f"run_dir={own / 'cut'}")
    command(*HUNGRY, *window, f"run_dir={own / 'whole'}")
    ours, theirs = steps(own / "cut"), steps(own / "whole")
    assert [step for step, _ in ours] == [step for step, _ in theirs] == [1, 2, 3, 4]
    assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], rel=1e-4)


def test_what_has_no_room_at_all_is_exit_8(command: Callable, own: Path) -> None:
    words = (*HUNGRY, "batch_size=2", "+model.times=40")
    done = command("find-batch", *words, "--memory", "10MB", code=8)
    assert "no size fits into 10 MB" in done.err and "before the first step" in done.err
    built = 0.0
    for word, after in zip(done.err.split(), done.err.split()[1:], strict=False):
        built = float(word) if after == "MB" and word != "10" else built
    done = command("find-batch", *words, "--memory", f"{built + 80:.0f}MB", code=8)
    assert "batch_size=1" in done.err and "takes more than the limit" in done.err
    assert not done.out


def test_batch_norm_and_sizes_that_cannot_train_are_said(command: Callable, own: Path) -> None:
    told = found(command, *HUNGRY, "+model.norm=true", "+model.times=1", "batch_size=2", "loop.accumulate=2")
    broken = told["train"][0]
    assert broken["size"] == 1 and broken["fits"] is None and "more than 1 value" in broken["why"]
    assert told["batch_size"] == 4
    notes = dict(told["notes"])
    assert "sees 4 samples at a time and not 2" in notes["batch norm"]
    assert "batch norm estimates mean and variance from 4 samples" in notes["caution"]


def test_the_whole_training_set_is_cut_into_parts_of_one_size(command: Callable) -> None:
    words = (*DATA, "model=linear", "batch_size=full")
    told = found(command, *words)
    assert told["overrides"][:2] == ["batch_size=full", "loop.accumulate=1"]
    whole = told["window"]
    told = found(command, *words, "--max", "60")
    assert told["batch_size"] <= 60 and told["batch_size"] * (told["accumulate"] - 1) < whole
    assert told["batch_size"] * told["accumulate"] >= whole
    assert "batch_size=full" not in told["command"]


STREAM = """
import torch
from torch.utils.data import IterableDataset


class Points(IterableDataset):
    num_classes = 2

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        for index in range(self.count):
            yield torch.randn(3) + index % 2, index % 2
"""


def test_a_stream_is_judged_in_batches_that_it_can_fill(command: Callable, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STREAM)
    words = ["data=dataset", "model=linear", "logger=none", "batch_size=2", "budget=4step"]
    words += [
        "loop.eval_every=2step",
        "checkpoint.every=2step",
        "data.val_fraction=0",
        "data.test_fraction=0",
    ]
    words += ["data.train={_target_: own.Points, count: 100}", "+data.val={_target_: own.Points, count: 10}"]
    told = found(command, *words, "data.eval_batch_size=1")
    assert told["eval_batch_size"] == 10
    assert told["eval"][-1]["why"] == "the stream has 10 samples"
    assert told["overrides"] == ["batch_size=2", "loop.accumulate=1", "data.eval_batch_size=10"]


def test_beyond_the_window_is_for_the_rate_alone(command: Callable, tmp_path: Path) -> None:
    words = (*DATA, "model=linear", "batch_size=16", "data.val_fraction=0", "data.test_fraction=0")
    done = command("find-batch", *words, "--max", "40", "--out", str(tmp_path / "a.png"))
    assert "would be another run" in done.out and "no validation or test split" in done.out
    assert [line.split()[0] for line in done.out.splitlines() if "beyond the window" in line] == ["32", "40"]
    assert (
        done.out.splitlines()[-1]
        .strip()
        .endswith("batch_size=16 data.val_fraction=0 data.test_fraction=0 loop.accumulate=1")
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--memory", "much"), "--memory: must be a size such as 2GiB or 800MB, got much"),
        (("--max", "0"), "--max: must be at least 1, got 0"),
        (("--out", "a.jpg"), "--out: must be a .png, .pdf or .svg file"),
        (("modle=mlp",), "trainrun find-batch model=mlp"),
        (("model=mlp", "batch_size=0"), "batch_size"),
        (("monitor=val/nothing",), "monitor: the task has no metric nothing"),
    ],
)
def test_mistakes_are_answered_as_trainrun_would(
    words: tuple[str, ...], told: str, command: Callable
) -> None:
    done = command("find-batch", *words, code=2)
    assert told in done.err and not done.out
