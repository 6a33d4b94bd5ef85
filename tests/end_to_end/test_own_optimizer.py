"""A LightningModule with its own optimizer and schedule through the command, against a loop by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.data.order import epoch_order, hold_out

CODE = """
import os
import signal
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

X = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) - 0.5


class Pairs(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i], X[i].sum()


class Lit(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight), nn.init.zeros_(self.layer.bias)

    def training_step(self, batch, batch_idx):
        if os.path.exists(f"stop{self.global_step}"):
            os.remove(f"stop{self.global_step}")
            os.kill(os.getpid(), signal.SIGTERM)
        return F.mse_loss(self.layer(batch[0])[:, 0], batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class Plateau(Lit):
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.3)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Two(Lit):
    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.Adam(self.parameters())]
"""
OWN = ("data=dataset", "data.train._target_=lit.Pairs", "task=lightning", "optimizer=own", "init=default")
SHORT = (*OWN, "batch_size=14", "budget=4ep", "loop.log_every=1step", "logger=none")


@pytest.fixture(autouse=True)
def lit(tmp_path: Path) -> None:
    (tmp_path / "lit.py").write_text(CODE)


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["event"] == event]


def test_losses_and_rates_are_those_of_a_loop_by_hand(command: Callable, tmp_path: Path) -> None:
    done = command(*SHORT, "model._target_=lit.Lit", "run_dir=run", "logger=console")
    assert "configure_optimizers, lr 0.5 of SGD; ExponentialLR every epoch" in done.err
    names: dict[str, Any] = {}
    exec(CODE, names)
    x, layer = names["X"], nn.Linear(3, 1)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rest, _ = hold_out(torch.arange(60), 9, 0, "test", None)
    train, val = hold_out(rest, 9, 0, "val", None)
    losses, rates = [], []
    for epoch in range(4):
        for rows in epoch_order(train, 0, epoch, None).split(14):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.zero_grad()
            (layer(x[rows])[:, 0] - x[rows].sum(1)).square().mean().backward()
            optimizer.step()
        scheduler.step()
        losses.append((layer(x[val])[:, 0] - x[val].sum(1)).square().mean().item())
    evaluations = [record for record in records(tmp_path / "run", "eval") if record["split"] == "val"]
    assert [record["loss"] for record in evaluations] == pytest.approx(losses, rel=1e-6)
    assert [record["lr"] for record in records(tmp_path / "run", "train")] == rates


@pytest.mark.parametrize("model", ["lit.Lit", "lit.Plateau"])
@pytest.mark.parametrize("step", [2, 4])
def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(
    model: str, step: int, command: Callable, tmp_path: Path
) -> None:
    """The step after the signal is done: once the stop is at an epoch's end, once inside."""
    command(*SHORT, f"model._target_={model}", "run_dir=whole")
    (tmp_path / f"stop{step}").touch()
    command(*SHORT, f"model._target_={model}", "run_dir=parts", code=143)
    command("resume", "parts")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (parts / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert len({record["lr"] for record in records(whole, "train")}) > 1
    ends = [torch.load(run / "checkpoints/step-000000012/state.pt") for run in (whole, parts)]
    assert str(ends[0]["model"]) == str(ends[1]["model"])
    assert str(ends[0]["optimizer"]) == str(ends[1]["optimizer"])
    command("resume", "parts", "budget=5ep")
    assert records(parts, "finished")[-1]["step"] == 15


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scheduler=cosine",), "scheduler: has no effect because optimizer=own takes what configure_opt"),
        (("scheduler.warmup=5step",), "scheduler.warmup: has no effect because optimizer=own"),
        (("optimizer.lr=0.1",), "optimizer.lr: has no effect because optimizer=own"),
        (("optimizer.lr_scaling=linear",), "optimizer.lr_scaling: has no effect because optimizer=own"),
        (("parameters.rules={layer.bias: {freeze: true}}",), "parameters.rules: has no effect because"),
        (("task=regression", "loss=mse"), "optimizer: own calls the configure_optimizers of a LightningMod"),
        (
            ("model._target_=lit.Two",),
            "optimizer: own needs one optimizer of Two.configure_optimizers, got SGD",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(
    words: tuple[str, ...], said: str, command: Callable, tmp_path: Path
) -> None:
    done = command(*SHORT, "model._target_=lit.Lit", *words, "run_dir=run", code=2)
    assert said in done.err and not (tmp_path / "run").exists()


def test_no_rate_is_searched_for(command: Callable) -> None:
    done = command("find-lr", *OWN, "model._target_=lit.Lit", code=2)
    assert "optimizer: own has no rate to find" in done.err
