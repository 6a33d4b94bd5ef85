"""`trainrun show loop --as-code`: the printed script, run by Python alone, ends with the run's weights."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

Command = Callable[..., Any]

RUNS = {
    "the default digits": ["budget=2ep"],
    "accumulation, clipping and AdamW on a table": [
        *("data=breast_cancer", "batch_size=8", "loop.accumulate=4", "loop.clip.norm=0.5", "budget=4ep"),
        *("scheduler=warmup_cosine", "optimizer=adamw"),
    ],
    "momentum with smoothed labels and EMA": [
        *("data.limit=300", "optimizer=momentum", "regularization=[label_smoothing,ema]", "budget=2ep"),
    ],
    "bf16": ["data.limit=300", "precision=bf16", "loop.accumulate=2", "budget=2ep"],
    "an own data set that draws": [
        "data._target_=mine.Noisy",
        "+data.size=90",
        "budget=2ep",
        "batch_size=16",
    ],
    "own values, accumulated": [
        *("data=dataset", "data.train._target_=mine.Lines", "task=regression", "loss=mse", "model=mlp"),
        *("data.val_fraction=0.2", "budget=3ep", "batch_size=4", "loop.accumulate=3", "model.dropout=0.1"),
    ],
    "regression": ["data=diabetes", "loss=huber", "scheduler=step", "regularization=[dropout]", "budget=3ep"],
}


OWN = '''
import torch
from torch.utils.data import Dataset


class Noisy(Dataset):
    """Points with noise of their own at each reading; the class is the sign of their sum."""

    def __init__(self, size):
        self.points = torch.randn(size, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        return self.points[i] + torch.randn(1, 4, 4) / 9, int(self.points[i].sum() > 0)


class Lines(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.tensor([i, i * i % 7]) / 60, i * 2.5
'''


@pytest.fixture(autouse=True)
def mine(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)


@pytest.mark.parametrize("words", RUNS.values(), ids=RUNS)
def test_the_script_ends_with_the_weights_and_figures_of_the_run(
    words: list[str], command: Command, tmp_path: Path
) -> None:
    script = command("show", "loop", "--as-code", *words).out
    (tmp_path / "plain.py").write_text(script)
    assert_tidy(tmp_path / "plain.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "plain.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    command(*words, "run_dir=run", "logger=none")
    last = torch.load(max((tmp_path / "run/checkpoints").iterdir()) / "state.pt")["model"]
    assert_alike(torch.load(tmp_path / "last.pt"), last)
    events = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    evaluations = [event for event in events if event["event"] == "eval"]
    metric = next(name for name in ("accuracy", "rmse") if name in evaluations[0])
    printed = re.findall(r"loss ([\d.]+), \w+ ([\d.]+)", done.stdout)  # each validation, then the test split
    expected = [(event["loss"], event[metric]) for event in evaluations]
    assert [tuple(map(float, pair)) for pair in printed] == pytest.approx(
        [pytest.approx(pair, rel=1e-4, abs=1e-4) for pair in expected]
    )


def assert_alike(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every tensor to 1e-5 of its size."""
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        distance = (weights[name].double() - tensor.double()).norm()
        assert distance <= 1e-5 * tensor.double().norm(), name


def assert_tidy(file: Path) -> None:
    """ruff's strict rules find nothing but prints."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        return
    words = ["check", "--select=ALL", "--ignore=I,INP,T20,D,S,COM,PLR,FBT,CPY", "--isolated", file.name]
    done = subprocess.run([ruff, *words], cwd=file.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("words", [(), ("model=mlp",)])
def test_the_default_run_is_a_screen(words: tuple[str, ...], command: Command) -> None:
    assert len(command("show", "loop", "--as-code", *words).out.splitlines()) <= 70


def test_what_it_cannot_write_is_refused_by_name(command: Command) -> None:
    done = command("show", "loop", "--as-code", "regularization=mixup", code=2)
    text = "show loop --as-code: regularization=mixup is not in the plain script; leave it out"
    assert text in done.err and not done.out
    assert "task=language_model" in command("show", "loop", "--as-code", "data=text", code=2).err
    assert "monitor=val/f1_macro" in command("show", "loop", "--as-code", "monitor=val/f1_macro", code=2).err
    assert "trainrun show loop --as-code seed=1" in command("show", "--as-code", "seed=1", code=2).err
