"""Several optimizers behind one face do what each does alone, also through a state dict."""

from __future__ import annotations

import copy

import torch
from torch.optim import SGD, AdamW

from trainrun.optimizer.composite import CompositeOptimizer


def pair() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]


def joined(weights: list[torch.nn.Parameter]) -> CompositeOptimizer:
    sgd = SGD([{"params": [weights[0]], "name": "a"}], lr=0.1, momentum=0.9)
    return CompositeOptimizer([sgd, AdamW([{"params": [weights[1]], "name": "b"}], lr=0.01, fused=True)])


def train(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack([(w**2).sum() for w in weights]).sum().backward()
        optimizer.step()


def test_each_part_is_what_it_is_alone() -> None:
    together, alone = pair(), pair()
    train(joined(together), together, 5)
    train(SGD([alone[0]], lr=0.1, momentum=0.9), alone[:1], 5)
    train(AdamW([alone[1]], lr=0.01, fused=True), alone[1:], 5)
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.equal(ours, theirs)


def test_a_learning_rate_set_on_a_group_reaches_its_part() -> None:
    weights = pair()
    optimizer = joined(weights)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(optimizer, weights, 1)
    assert all(w.tolist() == [1.0, -2.0] for w in weights)


def test_loading_goes_on_where_saving_left_off() -> None:
    straight, broken = pair(), pair()
    train(joined(straight), straight, 6)
    first = joined(broken)
    train(first, broken, 3)
    stored = copy.deepcopy(first.state_dict())
    second = joined(broken)
    second.load_state_dict(stored)
    train(second, broken, 3)
    for ours, theirs in zip(broken, straight, strict=True):
        assert torch.equal(ours, theirs)
    assert second.param_groups[0] is second.parts[0].param_groups[0]
