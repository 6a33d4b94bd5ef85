"""What an optimizer will keep, against what it keeps after a step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from trainrun import optimizer as optimizers
from trainrun.optimizer import memory
from trainrun.optimizer.memory import state_bytes


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 5), nn.Linear(5, 2)
    )


def build(name: str, net: nn.Module) -> Optimizer:
    params = [{"params": list(net.parameters()), "name": "all"}]
    lr, betas, eps = 1e-3, (0.9, 0.99), 1e-8
    if name == "muon":
        return optimizers.muon(params, net, lr, 0.9, 5, betas, eps, 0.0)
    if name == "lion":
        return optimizers.lion(params, lr, betas, 0.0)
    if name == "schedule_free":
        return optimizers.schedule_free_adamw(params, lr, betas, eps, 0.0)
    return getattr(torch.optim, name)(params, lr)  # type: ignore[no-any-return]


NAMES = ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adadelta", "Adagrad"]


ALL = [*NAMES, "muon", "lion", "schedule_free"]


@pytest.mark.parametrize(
    ("name", "small_bytes"),
    [*((name, 0) for name in ALL), *((name, 1 << 20) for name in (*ALL, "Adafactor"))],
)
def test_it_is_what_a_step_leaves(name: str, small_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both on meta tensors, as for large models, and on the host."""
    monkeypatch.setattr(memory, "_SMALL_BYTES", small_bytes)
    net = model()
    optimizer = build(name, net)
    said = state_bytes(optimizer)
    assert not any(p.grad is not None for p in net.parameters())
    assert name == "Adagrad" or not optimizer.state  # nothing was made but by Adagrad, before any step
    net(torch.randn(4, 3, 4, 4)).sum().backward()
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values()]
    expected = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    assert said == expected
    assert state_bytes(optimizer) == expected


class Own(Optimizer):
    """Has an attribute, which no copy of an optimizer gets."""

    def __init__(self, params: list[nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.1})
        self.beta = 0.9

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for p in self.param_groups[0]["params"]:
            self.state[p]["mean"] = self.beta * p.grad


def test_an_optimizer_of_ones_own_is_not_guessed_and_nothing_is_touched() -> None:
    net = model()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = Own(list(net.parameters()))
    assert state_bytes(optimizer) is None
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not optimizer.state


@pytest.mark.parametrize("name", ["Adafactor", "LBFGS"])
def test_what_only_a_step_would_tell_is_not_guessed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SMALL_BYTES", 0)
    net = model()
    params = list(net.parameters())
    optimizer = getattr(torch.optim, name)(params)
    assert state_bytes(optimizer) is None
    assert all(p.device.type == "cpu" and p.grad is None for p in params)
