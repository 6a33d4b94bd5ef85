"""Runs that are broken in one way each, and healthy ones: `trainrun check` names the cause alone."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OWN = """
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset


class Digits(Dataset):
    classes = [str(n) for n in range(10)]

    def __init__(self, part, fault=""):
        pictures, targets = map(torch.tensor, load_digits(return_X_y=True))
        first, last = {"train": (0, 1200), "val": (1200, 1500), "test": (1500, 1797)}[part]
        if fault == "leak" and part == "val":
            first, last = 1000, 1300
        self.inputs = (pictures[first:last].float() - 4.9) / 6
        self.targets = targets[first:last]
        if fault == "raw":
            self.inputs = pictures[first:last].float() * 16
        if fault == "shuffled":
            self.targets = self.targets[torch.randperm(last - first, generator=torch.Generator())]
        if fault == "shifted" and part == "val":
            self.targets = (self.targets + 1) % 10

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], int(self.targets[index])


class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, bias=0.0, scale=1.0, unused=False):
        super().__init__()
        self.hidden, self.head = nn.Linear(input_shape[0], 64), nn.Linear(64, num_outputs)
        self.bias, self.scale = nn.Parameter(torch.full((64,), bias)), scale
        self.extra = nn.Linear(2, 2) if unused else None

    def forward(self, x):
        x = torch.relu(self.hidden(x) + self.bias) * self.scale
        return self.head(x) / self.scale
"""


def digits(fault: str, *parts: str) -> tuple[str, ...]:
    """The run of a data set of the user's own that is broken so."""
    one = "data.{}={{_target_:own.Digits,part:{},fault:'{}'}}"
    return (
        "data=dataset",
        "model=mlp",
        *(one.format(part, part, fault) for part in ("train", "val", "test")),
    )


BROKEN: dict[str, tuple[tuple[str, ...], str]] = {
    "learning rate x 1000": (("optimizer.lr=2",), "learning rate too high"),
    "learning rate x 0.001": (("optimizer.lr=2e-6",), "learning rate too low"),
    "no normalisation": (digits("raw"), "inputs not standardised"),
    "zeros init": (("init=zeros",), "zero weights"),
    "30 layers of sigmoid": (
        ("model=mlp", "model.width=32", "model.depth=30", "model.activation=sigmoid"),
        "vanishing",
    ),
    "shuffled labels": (digits("shuffled"), "targets unrelated to inputs"),
    "labels off by one class": (digits("shifted"), "labels off by one class"),
    "data leak": (digits("leak"), "data leak between splits"),
    "dead units": (("model=mlp", "parameters.rules={*bias:{init:{constant:{value:-10}}}}"), "dead units"),
    "fp16 overflow": (
        ("data=breast_cancer", "model._target_=own.Net", "+model.scale=1e6", "precision=fp16"),
        "fp16 overflow",
    ),
    "batch of one": (("model=mlp", "model.norm=batch", "batch_size=1"), "tiny batches"),
    "two samples": (("data.limit=2",), "too few training samples"),
}
HEALTHY = [
    (),
    ("model=mlp", "optimizer=momentum"),
    ("model=linear", "optimizer=sgd"),
    ("data=breast_cancer", "optimizer=rmsprop"),
    ("data=wine",),
    ("data=diabetes",),
    ("data=diabetes", "model=linear", "optimizer=momentum"),
    pytest.param(
        ("data=synthetic", "data.num_samples=600", "model=resnet", "augment=crop_flip"),
        marks=pytest.mark.torture,
    ),
    digits(""),
]


def check(command: Callable, folder: Path, *words: str, code: int) -> dict[str, Any]:
    (folder / "own.py").write_text(OWN)
    found = json.loads(command("check", "--json", *words, code=code).out)
    assert found["exit_code"] == code
    assert {path.name for path in folder.iterdir()} <= {"own.py", "__pycache__"}
    return found


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_run_is_told_with_its_cause_alone(fault: str, command: Callable, tmp_path: Path) -> None:
    words, cause = BROKEN[fault]
    found = check(command, tmp_path, *words, code=3)
    assert {one["name"] for one in found["findings"]} == {cause}
    if found["command"]:  # the fix works
        check(command, tmp_path, *shlex.split(found["command"])[2:], code=0)
    else:
        assert found["findings"][0]["advice"]


@pytest.mark.parametrize("words", HEALTHY, ids=lambda words: " ".join(words)[:40] or "default")
def test_nothing_is_found_in_a_healthy_run(words: tuple[str, ...], command: Callable, tmp_path: Path) -> None:
    assert check(command, tmp_path, *words, code=0)["findings"] == []
