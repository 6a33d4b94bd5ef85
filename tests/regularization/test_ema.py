"""The moving average against a loop over numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainrun.regularization.ema import EMA


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def wander(model: nn.Module, steps: int, average: EMA) -> list[dict[str, torch.Tensor]]:
    """Random steps; every state the model passed through."""
    states = []
    for _ in range(steps):
        model(torch.randn(8, 3) + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        average.update(model)
        states.append(copy.deepcopy(model.state_dict()))
    return states


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_the_average_is_a_brute_force_loops_over_parameters_and_buffers(decay: float) -> None:
    model, ema = make(), EMA(decay)
    ema.start(model)
    expected = {name: value.double().tolist() for name, value in model.state_dict().items()}
    for n, state in enumerate(wander(model, 30, ema), start=1):
        d = min(decay, (1 + n) / (10 + n))
        for name, value in state.items():
            if value.is_floating_point():
                old = torch.tensor(expected[name], dtype=torch.float64)
                expected[name] = (d * old + (1 - d) * value.double()).tolist()
            else:
                expected[name] = value.tolist()
    assert ema.model is not None
    for name, value in ema.model.state_dict().items():
        torch.testing.assert_close(
            value.double(), torch.tensor(expected[name]).double(), rtol=1e-5, atol=1e-5, msg=name
        )


class Drifting(nn.Module):
    """Puts a new tensor in its buffer's place, as modules of users' do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("total", torch.zeros(2))
        self.total: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total + x.sum(0)
        return self.layer(x)


def test_a_buffer_that_a_module_replaces_is_followed() -> None:
    model, ema = Drifting(), EMA(0.5)
    ema.start(model)
    expected = torch.zeros(2)
    for n in range(1, 6):
        model(torch.ones(1, 2))
        ema.update(model)
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * n
    assert ema.model is not None
    torch.testing.assert_close(ema.model.get_buffer("total"), expected)


def test_an_average_that_starts_anew_forgets_what_it_followed() -> None:
    model, ema = make(), EMA(0.0)
    for _ in range(2):
        ema.start(make())
        wander(model, 2, ema)
        assert ema.model is not None
        for ours, theirs in zip(ema.model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_copy_is_separate_in_evaluation_mode_and_untrained() -> None:
    model, ema = make(), EMA(0.9)
    before = copy.deepcopy(model.state_dict())
    assert ema.model is None
    ema.start(model)
    assert ema.model is not None and not ema.model.training and model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    ema.update(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    addresses = {t.data_ptr() for t in model.state_dict().values()}
    assert addresses.isdisjoint(t.data_ptr() for t in ema.model.state_dict().values())


def test_a_restored_average_continues_identically() -> None:
    model, ema = make(), EMA(0.9)
    ema.start(model)
    wander(model, 5, ema)
    stored = copy.deepcopy(ema.state_dict())
    twin_model, twin = copy.deepcopy(model), EMA(0.9)
    twin.start(make())
    twin.load_state_dict(stored)
    for trained, average in ((model, ema), (twin_model, twin)):
        torch.manual_seed(1)
        wander(trained, 5, average)
    assert ema.model is not None and twin.model is not None
    for a, b in zip(ema.model.state_dict().values(), twin.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("use", [lambda e: e.update(make()), EMA.state_dict, lambda e: e.load_state_dict({})])
def test_use_before_start_is_an_error(use: object) -> None:
    with pytest.raises(RuntimeError, match=r"before EMA\.start"):
        use(EMA(0.9))  # type: ignore[operator]
