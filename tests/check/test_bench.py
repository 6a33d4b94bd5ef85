"""Losses of outputs that know nothing, against their formulas; and that nothing of the run is disturbed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from trainrun.check import examine
from trainrun.check.bench import Bench, Patience, blank_loss, blind_loss, isolated, without_dropout


def test_the_loss_of_outputs_of_0_is_that_of_equal_chances(
    bench: Callable[..., Bench], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    of = bench(*classes)
    assert math.isclose(blank_loss(of.parts.task, of.model, of.batch), math.log(3), rel_tol=1e-6)
    of = bench("data=breast_cancer", "task=binary", "loss=bce_with_logits")
    assert math.isclose(blank_loss(of.parts.task, of.model, of.batch), math.log(2), rel_tol=1e-6)
    of = bench(*table)
    targets = of.parts.task.targets(of.batch.targets)
    assert math.isclose(
        blank_loss(of.parts.task, of.model, of.batch), float(targets.square().mean()), rel_tol=1e-5
    )


def test_the_loss_without_inputs_is_entropy_or_variance(
    bench: Callable[..., Bench], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    of = bench(*classes)
    shares = torch.bincount(of.batch.targets).double() / len(of.batch)
    entropy = -float((shares * shares.log()).sum())
    assert math.isclose(blind_loss(of.parts.task, of.model, of.batch), entropy, rel_tol=1e-4)
    of = bench(*table)
    variance = float(of.parts.task.targets(of.batch.targets).var(correction=0))
    assert math.isclose(blind_loss(of.parts.task, of.model, of.batch), variance, rel_tol=1e-4)


def test_without_dropout_two_passes_are_equal() -> None:
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 4)).train()
    x = torch.randn(8, 4)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(without_dropout(model)(x), model(x))
    deep = nn.LSTM(4, 8, num_layers=3, dropout=0.5).train()
    assert not torch.equal(deep(x)[0], deep(x)[0])
    assert torch.equal(without_dropout(deep)(x)[0], deep(x)[0])


def test_generators_come_out_as_they_were() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = drawn()
    seed()
    with isolated():
        drawn()
    assert drawn() == expected


def test_a_check_leaves_the_run_as_it_was(bench: Callable[..., Bench], classes: tuple[str, ...]) -> None:
    parts = bench(*classes, "model=mlp", "model.norm=batch").parts
    before = {key: value.clone() for key, value in parts.state.model.state_dict().items()}
    drawn = torch.get_rng_state()
    examine(parts)
    after = parts.state.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(drawn, torch.get_rng_state())
    assert parts.state.step == 0 and not parts.state.optimizer.state
    assert all(p.grad is None for p in parts.state.model.parameters())


def test_patience_ends() -> None:
    assert Patience(0.0, 60.0).is_over
    assert Patience(60.0, 0.0).is_over
    assert not Patience(60.0, 60.0).is_over
