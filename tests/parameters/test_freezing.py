"""What is frozen stays as it was to the last bit, statistics included, until the step that ends it."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from trainrun.parameters import Parameters
from trainrun.parameters.freezing import frozen_modules
from trainrun.vocabulary.errors import ConfigError

FROZEN = {"backbone": {"freeze": True}}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten())
        self.head = nn.Linear(3 * 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x))
        return out


def trained(steps: int, until: int | None, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """The state dict after each step of a plain loop, evaluated between the steps."""
    torch.manual_seed(seed)
    model, parameters = Net(), Parameters(False, 1.0, FROZEN, until, None)
    configs = parameters.param_configs(model, 0.1)
    optimizer = torch.optim.AdamW(parameters.groups(model, configs, 0.1), lr=1.0)
    freezing = parameters.freezing(model, configs)
    assert freezing is not None
    states = [copy.deepcopy(model.state_dict())]
    for step in range(steps):
        model.eval()
        model.train()  # as an evaluation leaves it
        freezing(model, step)
        optimizer.zero_grad()
        model(torch.randn(8, 1, 4, 4)).square().mean().backward()
        optimizer.step()
        states.append(copy.deepcopy(model.state_dict()))
    return states


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_backbone_and_its_statistics_stay_and_the_head_moves() -> None:
    first, *_, last = trained(5, None)
    assert changed(first, last) == {"head.weight", "head.bias"}


def test_from_the_step_on_everything_moves() -> None:
    states = trained(6, until=4)
    heads = {"head.weight", "head.bias"}
    assert [changed(a, b) for a, b in pairwise(states[:5])] == [heads] * 4
    assert changed(states[4], states[5]) == set(states[0])


def test_a_frozen_part_draws_no_dropout_and_a_trained_one_does() -> None:
    model, parameters = Net(), Parameters(False, 1.0, FROZEN, 1, None)
    freezing = parameters.freezing(model, parameters.param_configs(model, None))
    assert freezing is not None
    dropout = model.body[2]
    for step, is_drawn in ((0, False), (1, True), (0, False)):  # a rollback goes back
        parameters.groups(model, parameters.param_configs(Net(), None), 1.0)
        freezing(model.train(), step)
        assert dropout.training is is_drawn
        assert model.training and model.head.training


def test_modules_with_a_trained_part_are_not_frozen() -> None:
    model = Net()
    model.body[0].requires_grad_(False)
    assert frozen_modules(model) == [model.body[0]]
    model.body.requires_grad_(False)
    assert frozen_modules(model) == [model.body, *model.body]


def test_nothing_frozen_needs_no_freezing_and_an_end_without_a_beginning_is_refused() -> None:
    model, whole = Net(), Parameters(False, 1.0, {}, None, None)
    assert whole.freezing(model, whole.param_configs(model, None)) is None
    ended = Parameters(False, 1.0, {}, 3, None)
    with pytest.raises(ConfigError, match=r"unfreeze_at: has no effect because no rule freezes"):
        ended.freezing(model, ended.param_configs(model, None))


def test_what_the_model_froze_itself_stays_frozen_after_the_step() -> None:
    model = Net()
    model.body[0].requires_grad_(False)
    parameters = Parameters(False, 1.0, FROZEN, 2, None)
    configs = parameters.param_configs(model, None)
    groups = parameters.groups(model, configs, 1.0)
    assert {id(p) for group in groups for p in group["params"]} == {
        id(p) for p in (*model.body[1].parameters(), *model.head.parameters())
    }
    freezing = parameters.freezing(model, configs)
    assert freezing is not None and set(freezing.held) == {"body.1.weight", "body.1.bias"}
