"""What only trying tells is told before a folder exists: models, splits, the user's own metrics."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.assembly.dry_run import _Squashes

Files = Callable[[Mapping[str, str]], None]
OWN = """
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

INPUTS = {
    "row": lambda x: x,
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy().astype(np.float64),
    "two": lambda x: (x, x),
    "dict": lambda x: {"a": x, "b": x},
    "text": lambda x: "text",
    "ints": lambda x: x.long(),
    "uint16": lambda x: x.abs().numpy().astype(np.uint16),
}
TARGETS = {"class": lambda i: i % 3, "value": lambda i: np.int64(i - 20), "token": lambda i: torch.arange(5)}

class Rows(Dataset):
    classes = ("cat", "dog", "emu")
    def __init__(self, inputs="row", target="class", width=4, size=40):
        self.inputs, self.target, self.size = INPUTS[inputs], TARGETS[target], size
        self.x = torch.randn(size, width, generator=torch.Generator().manual_seed(0))
    def __len__(self): return self.size
    def __getitem__(self, i): return self.inputs(self.x[i]), self.target(i)

class Windows(Dataset):
    def __len__(self): return 40
    def __getitem__(self, i): return (torch.arange(i, i + 8) % 5, torch.arange(i + 1, i + 9) % 5)

class Both(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.layer = nn.Linear(8, num_outputs)
    def forward(self, x):
        return self.layer(torch.cat([x["a"], x["b"]], 1))

def recall(o, t): return torch.stack([(o.argmax(1)[t == c] == c).float().mean() for c in range(3)])
def per_sample(o, t): return (o.argmax(1) == t).float()
def nothing(o, t): (o.argmax(1) == t).float()
def fails(o, t): return {}["x"]
def loss(o, t): return 0.1
def accuracy(o, t): return 0.1
def thirds(o, t): return [0.1, 0.2, 0.3]
def all_classes(o, t):
    if len(set(t.tolist())) < 3: raise ValueError("one class alone")
    return 1.0
def named(function): return lambda o, t: function(o, t)
half, third = named(lambda o, t: 0.5), named(lambda o, t: 0.25)
"""
RUN = (
    "data=dataset data.train._target_=own.Rows model=linear budget=1ep batch_size=16 logger=[csv] run_dir=run"
)
RUN += " runtime.threads=1 "


@pytest.fixture
def start(cli: Any, files: Files, quick_disk: None) -> Callable[[str], Any]:
    files({"own.py": OWN})
    return lambda words: cli(*shlex.split(RUN + words))


# words -> (exit code, what is said)
REFUSED = {
    "+data.train.inputs=two": (
        2,
        "model: takes one tensor, an input of Rows is a tuple of 2 (float32 of shape (4,), ",
    ),
    "+data.train.inputs=dict": (2, "model: takes one tensor, an input of Rows is a dict of 2 ("),
    "+data.train.inputs=text": (2, "model: takes one tensor, an input of Rows is a str 'text'"),
    "+data.train.inputs=two model._target_=own.Both": (2, "model: fails on inputs of the form list of 2 ("),
    "+data.train.inputs=ints": (2, "inputs are int64: where they are numbers, give floats in the data set"),
    "+data.train.inputs=uint16": (2, "where they are numbers, give floats"),
    "+data.train.target=token": (
        2,
        "task: learns one class per sample; a target of Rows is [0, 1, 2, 3, ...]",
    ),
    "data.val={_target_:own.Rows,width:5}": (
        4,
        "data.val: its inputs are shape (2, 5), those of the training",
    ),
    "data.test={_target_:own.Rows,width:5}": (4, "data.test: its inputs are shape (2, 5)"),
    "data.test={_target_:own.Rows,inputs:dict}": (4, "data.test: its inputs are the form dict of 2 ("),
    "task.metrics=[own.loss]": (2, "task.metrics: loss would take the place of loss"),
    "task.metrics=[own.accuracy]": (2, "task.metrics: accuracy would take the place of accuracy"),
    "task.metrics=[own.nothing]": (2, "task.metrics: nothing returns None: is its `return` missing?"),
    "task.metrics=[own.fails]": (2, "KeyError: 'x' (own.py:"),
    "task.metrics=[own.per_sample]": (2, "task.metrics: per_sample returns a number for each sample"),
    "task.metrics=[own.per_sample] monitor=val/per_sample monitor_mode=max": (
        2,
        "task.metrics: per_sample returns a number for each sample",
    ),
    "task.metrics=[own.recall,own.recall]": (2, "task.metrics: two are called recall"),
    "task.metrics=[own.recall] monitor=val/recall monitor_mode=max": (2, "monitor: there is no val/recall; "),
    "task.metrics=[own.recall] monitor=val/recall/cow monitor_mode=max": (
        2,
        "val/recall/dog, val/recall/emu",
    ),
    "task.metrics=[own.recall] monitor=val/recall/cat": (2, "monitor_mode: must be max or min"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_told_before_anything_is_written(start: Any, words: str, folder: Path) -> None:
    code, said = REFUSED[words]
    answer = start(words)
    assert answer.code == code and said in answer.err and "Traceback" not in answer.err
    assert not (folder / "run").exists()


TRAINED = [
    "+data.train.inputs=list",
    "+data.train.inputs=numpy",
    "+data.train.inputs=dict model._target_=own.Both",
    "+data.train.target=value task=regression loss=mse",
    "task.metrics=[own.thirds] data.val={_target_:own.Rows,size:3}",  # three samples, too
    "task.metrics=[own.all_classes] data.eval_batch_size=1",
]


@pytest.mark.parametrize("words", TRAINED)
def test_what_only_looks_odd_is_trained_on(start: Any, words: str) -> None:
    answer = start(words)
    assert answer.code == 0, answer.err


def test_a_vector_is_a_curve_per_class_everywhere(start: Any, folder: Path) -> None:
    answer = start("task.metrics=[own.recall,own.half,own.third] monitor=val/recall/cat monitor_mode=max")
    assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    val = next(line for line in lines if line["event"] == "eval")
    curves = ["recall/cat", "recall/dog", "recall/emu", "half", "third"]
    assert list(val)[-5:] == curves and (val["half"], val["third"]) == (0.5, 0.25)
    result = json.loads((folder / "run/result.json").read_text())
    assert result["best_value"] == val["recall/cat"] == result["best"]["metrics"]["recall/cat"]
    assert set(curves) < set((folder / "run/metrics.csv").read_text().splitlines()[0].split(","))


def test_the_plan_says_how_targets_are_read(start: Any, folder: Path) -> None:
    start("+data.train.target=value task=regression loss=mse")
    assert "targets are integers, read as numbers" in (folder / "run/trainrun.log").read_text()


def test_a_language_model_learns_the_tokens_of_a_data_set_of_ones_own(start: Any, folder: Path) -> None:
    words = "data.train._target_=own.Windows task=language_model model=gpt model.width=8 model.depth=1"
    words += " model.heads=2"
    assert "monitor: the task has no metric bits_per_byte; there are val/loss, val/perp" in start(words).err
    answer = start(f"{words} monitor=val/perplexity optimizer.lr=0.01 budget=60step")
    assert answer.code == 0, answer.err
    result = json.loads((folder / "run/result.json").read_text())
    assert result["test"]["metrics"]["perplexity"] < 3  # of 5 tokens, each of which follows from the last


def squashed(forward: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor]) -> list[tuple[str, str]]:
    with _Squashes() as squashes, torch.no_grad():
        loss(forward(torch.randn(4, 3)))
    return squashes.cautions


@pytest.mark.parametrize(
    ("forward", "squash"),
    [
        (lambda x: torch.sigmoid(x), "sigmoid"),
        (lambda x: x.sigmoid(), "sigmoid"),
        (nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()), "sigmoid"),
        (lambda x: x.sigmoid().reshape(2, 2, 3).flatten(0, 1), "sigmoid"),
        (lambda x: x.softmax(1), "softmax"),
        (nn.Softmax(1), "softmax"),
        (lambda x: x, ""),
        (lambda x: x * x.sigmoid(), ""),
        (nn.SiLU(), ""),
        (nn.MultiheadAttention(3, 1), ""),
    ],
)
def test_what_the_loss_applies_again_is_noticed(forward: Any, squash: str) -> None:
    if isinstance(forward, nn.MultiheadAttention):
        attention = forward
        forward = lambda x: attention(x, x, x)[0]  # noqa: E731
    loss = F.binary_cross_entropy_with_logits if squash != "softmax" else F.cross_entropy
    cautions = squashed(forward, lambda outputs: loss(outputs, torch.full((4, 3), 1 / 3)))
    assert len(cautions) == bool(squash) and all(squash in text for _, text in cautions)
    assert not squashed(forward, lambda outputs: F.mse_loss(outputs, torch.zeros(4, 3)))
