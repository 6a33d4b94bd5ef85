"""Numbers on a schedule, augmentation that ends: against steps taken by hand, and resumed bit for bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import trainrun
from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.protocols import BatchSpec, Position

QUIET = ("logger=none", "runtime.threads=1")


def events(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = max((folder / "checkpoints").iterdir())
    return torch.load(newest / "state.pt", weights_only=True)["model"]  # type: ignore[no-any-return]


def test_weights_are_those_of_gradient_descent_whose_decay_goes_down_by_hand(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """w <- w - lr (gradient + decay w), the decay 0.5, 0.4 ... 0.1, and 0 after five; biases have none."""
    words = ["data=iris", "model=linear", "optimizer=sgd", "optimizer.lr=0.1", "optimizer.weight_decay=0.5"]
    words += ["scheduler=constant", "batch_size=full", "budget=5step", "loop.log_every=1step", *QUIET]
    command(*words, "run_dir=run", "scheduler.also={optimizer.weight_decay: linear}")
    monkeypatch.chdir(tmp_path)
    parts = build(Composer().checked(words).settings)
    batch = next(iter(parts.data.train_batches(Position(), BatchSpec(10_000, 1), 0)))
    weight, bias = (parameter.detach().clone() for parameter in parts.state.model.parameters())
    for decay in (0.5, 0.4, 0.3, 0.2, 0.1):
        weight, bias = weight.requires_grad_(), bias.requires_grad_()
        loss = F.cross_entropy(F.linear(batch.inputs, weight, bias), batch.targets)
        slopes = torch.autograd.grad(loss, (weight, bias))
        weight = (weight - 0.1 * (slopes[0] + decay * weight)).detach()
        bias = (bias - 0.1 * slopes[1]).detach()
    stored = [*weights(tmp_path / "run").values()]
    torch.testing.assert_close(stored, [weight, bias], rtol=1e-5, atol=1e-6)
    logged = [event["optimizer.weight_decay"] for event in events(tmp_path / "run")]
    assert logged == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


SCHEDULED = (
    *(
        "data=digits",
        "data.limit=120",
        "model=mlp",
        "model.dropout=0.2",
        "budget=9step",
        "loop.log_every=1step",
    ),
    *("regularization=[mixup,ema]", "augment=crop_flip", "augment.flip=0", "augment.until=5step"),
    "scheduler.also={optimizer.betas.0: {to: 0.5, by: cosine}, model.dropout: {to: 0.6, by: linear}, "
    "regularization.mixup.alpha: {to: 1, by: linear}, optimizer.weight_decay: {to: 0.1, by: exponential}}",
)


def test_a_run_that_was_stopped_ends_in_the_same_bytes(command: Callable[..., Any], tmp_path: Path) -> None:
    command(*SCHEDULED, *QUIET, "run_dir=whole")
    (tmp_path / "stop.py").write_text(
        "import os, signal\n\n\ndef stop(event):\n"
        "    if type(event).__name__ == 'StepsLogged' and event.step == 4:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    stop = "+logger.stop={_target_: stop.stop}"
    command(*SCHEDULED, "runtime.threads=1", "logger=none", stop, "run_dir=parts", code=143)
    command("resume", "parts", "logger=none")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "parts/metrics.jsonl").read_bytes()
    betas = [event["optimizer.betas.0"] for event in events(tmp_path / "parts")]
    expected = [0.5 + 0.4 * (1 + math.cos(math.pi * update / 9)) / 2 for update in range(9)]
    assert betas == pytest.approx(expected)


def test_a_number_returns_to_its_setting_when_a_resume_takes_its_schedule_away(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("data=iris", "model=linear", "optimizer=sgd", "optimizer.weight_decay=0.5", "scheduler=constant")
    command(*words, *QUIET, "budget=4step", "run_dir=run", "scheduler.also={optimizer.weight_decay: linear}")
    done = command("resume", "run", "budget=6step", "scheduler=cosine")
    assert "weight_decay: linear -> None (takes effect)" in done.err
    stored = torch.load(tmp_path / "run/checkpoints/step-000000006/state.pt", weights_only=True)
    groups = stored["optimizer"]["state"]["param_groups"]
    assert sorted(group["weight_decay"] for group in groups) == [0, 0.5]


def test_augmentation_that_ends_at_once_after_the_first_epoch_trains_on_plain_samples(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    """Until the end of step 4 the run is one with augmentation, and from plain weights on one without."""
    words = ("data=digits", "data.limit=128", "batch_size=32", "model=linear", "scheduler=constant")
    words += ("loop.log_every=1step", "optimizer=sgd", *QUIET)
    on = ("augment=crop_flip", "augment.flip=0")
    command(*words, *on, "budget=4step", "run_dir=first")
    command(*words, *on, "budget=8step", "augment.until=50%", "run_dir=both")
    command(*words, *on, "budget=8step", "run_dir=on")
    command(*words, "budget=8step", "run_dir=off")
    losses = {name: [e["loss"] for e in events(tmp_path / name)] for name in ("first", "both", "on", "off")}
    assert losses["both"][:4] == losses["first"] == losses["on"][:4] != losses["off"][:4]
    assert losses["both"][4] != losses["on"][4]
    # The fifth step's loss is that of step 4's weights on the samples as they are.
    state = torch.load(tmp_path / "first/checkpoints/step-000000004/state.pt", weights_only=True)["model"]
    parts = build(Composer().checked([*words, "budget=8step"]).settings)
    batch = next(iter(parts.data.train_batches(Position(1, 0), BatchSpec(32, 1), 0)))
    parts.state.model.load_state_dict(state)
    expected = float(F.cross_entropy(parts.state.model(batch.inputs), batch.targets).detach())
    assert losses["both"][4] == pytest.approx(expected, rel=1e-6)


def test_until_is_refused_where_nothing_is_augmented(command: Callable[..., Any]) -> None:
    assert "augment.until: has no effect because augment=none" in command("augment.until=85%", code=2).err
    words = ("augment=crop_flip", "augment.until=85%", "budget=30s")
    assert "augment.until: a share of the run is not known" in command(*words, code=2).err


def test_the_picture_and_the_table_show_what_is_scheduled(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    also = "scheduler.also={optimizer.weight_decay: {to: 0.1, by: linear}}"
    done = command("plot", "scheduler", "budget=10step", also, "--at", "1,6,10", *QUIET)
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["step", "warmup_cosine", "optimizer.weight_decay"]
    assert [row[2] for row in rows[1:]] == ["0.01", "0.055", "0.091"]
    assert (tmp_path / "scheduler.png").is_file()


def test_from_python_the_history_has_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["data=iris", "model=linear", "budget=4step", "loop.log_every=1step", "run_dir=run", *QUIET]
    trainrun.train([*words, "scheduler.also={optimizer.weight_decay: linear}"])
    assert [event["optimizer.weight_decay"] for event in events(tmp_path / "run")] == pytest.approx(
        [0.01, 0.0075, 0.005, 0.0025]
    )
