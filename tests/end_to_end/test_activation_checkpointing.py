"""Whole runs with activation checkpointing are those without: records, weights, resumes, own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import same_bits

import trainrun
from tests.end_to_end.test_finetuning import as_killed_after
from trainrun.model.activation_checkpointing import plain_forwards

ON = "runtime.activation_checkpointing=auto"
SHORT = ("data.limit=80", "batch_size=8", "budget=6step", "loop.log_every=1step", "logger=none")
MLP = (*SHORT, "model=mlp", "model.norm=batch", "model.dropout=0.2")
CODE = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset


class Digits(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.rand(4, generator=torch.Generator().manual_seed(i)), i % 3


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.dropout = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3)

    def forward(self, x, *, gate):
        y = self.dropout(self.norm(self.linear(x)))
        return y * gate, gate + y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Gated() for _ in range(3)])
        self.head = nn.Linear(4, 3)

    def forward(self, x, targets=None):
        gate = torch.ones_like(x)
        for block in self.blocks:
            x, gate = block(x, gate=gate)
        y = self.head(x + gate)
        return y, None if targets is None else F.cross_entropy(y, targets)


class Lit(Net):
    def training_step(self, batch, index):
        return self(*batch)[1]
"""


def state_of(folder: Path, step: int) -> object:
    return torch.load(folder / "checkpoints" / f"step-{step:09d}" / "state.pt", weights_only=True)["model"]


def assert_same(folder: Path, other: Path) -> None:
    assert (folder / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert same_bits(state_of(folder, 6), state_of(other, 6))


def test_a_run_may_go_on_with_it_or_without(
    command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(*MLP, "run_dir=plain", "checkpoint.every=2step")
    command(*MLP, ON, "run_dir=whole", "checkpoint.every=2step")
    assert_same(tmp_path / "whole", tmp_path / "plain")
    changing = as_killed_after(4, tmp_path / "whole", tmp_path / "changing")
    done = command("resume", "changing", "runtime.activation_checkpointing='body.[12]'")
    assert "runtime.activation_checkpointing: auto -> body.[12] (free)" in done.err
    assert "\nmemory: " in done.err and " MB at most in this process" in done.err
    assert_same(changing, tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    assert plain_forwards(trainrun.load("whole")) == {}, "what is not trained stays as its author wrote it"
    lines = map(json.loads, (tmp_path / "whole" / "timing.jsonl").read_text().splitlines())
    assert all(line["rss_peak_bytes"] > 1e7 for line in lines if line["event"] == "train")


@pytest.mark.parametrize(
    "words", [("model._target_=own.Net", "task=model_loss"), ("model._target_=own.Lit", "task=lightning")]
)
def test_own_models_whose_blocks_return_several_tensors(
    words: tuple[str, ...], command: Callable, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(CODE)
    words = ("data=dataset", "data.train._target_=own.Digits", *SHORT[1:], "precision=bf16", *words)
    command(*words, "run_dir=plain")
    command(*words, "runtime.activation_checkpointing='blocks.*'", "run_dir=less")
    assert_same(tmp_path / "less", tmp_path / "plain")


def test_what_matches_nothing_is_refused_before_anything_is_written(
    command: Callable, tmp_path: Path
) -> None:
    words = (*MLP, "runtime.activation_checkpointing='layers.*'", "run_dir=run")
    assert "matches no module, got layers.*; modules are body, body.0, " in command(*words, code=2).err
    fixed = command(*MLP, "gradient_checkpointing=true", code=2).err
    assert fixed.strip().endswith(ON)
    assert not (tmp_path / "run").exists()


@pytest.mark.torture
@pytest.mark.parametrize("mode", ["model", "step"])
def test_compiled_models_draw_the_same_and_count_statistics_once(
    mode: str, command: Callable, tmp_path: Path
) -> None:
    words = (*MLP, f"runtime.compile={mode}")
    command(*words, "run_dir=plain")
    command(*words, ON, "run_dir=less")
    ours, theirs = (state_of(tmp_path / name, 6) for name in ("less", "plain"))
    assert isinstance(ours, dict) and isinstance(theirs, dict)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, msg=name)
