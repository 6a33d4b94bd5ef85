"""Dead and saturated units and gradients of models whose answer is known by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trainrun.check.signals import signals
from trainrun.protocols import Batch, Outcome, Position


class Squares:
    """A task: half the squared distance to the targets, averaged over the samples."""

    def count(self, batch: Batch) -> Mapping[str, float]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return Outcome({"loss": (model(batch.inputs) - batch.targets).square().sum() / 2}, {})


def asked(model: nn.Module, inputs: Tensor, targets: Tensor) -> list:
    return signals(model, Squares(), Batch(inputs, targets, range(len(inputs)), Position()))  # type: ignore[arg-type]


class Functional(nn.Module):
    """ReLU that no module tells of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize("kind", ["module", "function"])
def test_units_with_a_bias_far_below_0_are_dead(kind: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    model = plain if kind == "module" else Functional()
    first = plain[0] if kind == "module" else model.first
    with torch.no_grad():
        first.bias[:6] = -100
        first.bias[6:] = 100
    hidden, two = asked(model, torch.randn(32, 3), torch.zeros(32, 2))
    assert hidden.dead == pytest.approx(6 / 8)
    assert two.dead is None


def test_a_channel_is_dead_where_it_is_0_in_every_place() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([-100.0, 100.0, 100.0, 100.0]))
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1))
    assert asked(model, torch.randn(16, 1, 8, 8), torch.zeros(16, 1))[0].dead == pytest.approx(1 / 4)


def test_a_sigmoid_of_large_sums_is_saturated() -> None:
    layer = nn.Linear(1, 4)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-50.0, 50.0, 0.0, 0.0]))
    layer_signals = asked(
        nn.Sequential(layer, nn.Sigmoid(), nn.Linear(4, 1)), torch.randn(8, 1), torch.zeros(8, 1)
    )
    assert [signal.saturated for signal in layer_signals] == [0.5, None]


def test_the_norm_of_the_gradient_is_that_of_arithmetic_by_hand() -> None:
    torch.manual_seed(0)
    layer, x, t = nn.Linear(3, 2), torch.randn(8, 3), torch.randn(8, 2)
    errors = (x @ layer.weight.T + layer.bias - t).detach()
    (signal,) = asked(layer, x, t)
    assert signal.gradient_norm == pytest.approx(float((errors.T @ x / 8).norm()), rel=1e-5)


class Named(nn.Module):
    """Hands its inputs on by name, and gives two tensors."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.first, self.activation, self.last = layers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.activation(self.first(input=x))
        return self.last(input=hidden), hidden


class Unpacking(Squares):
    """Takes the first of two tensors."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        for _ in range(self.calls):
            outputs = model(batch.inputs)[0]
        return Outcome({"loss": (outputs - batch.targets).square().sum() / 2}, {})


@pytest.mark.parametrize("calls", [1, 2])
def test_figures_are_the_same_whatever_the_outputs_lie_in(calls: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    batch = Batch(torch.randn(8, 3), torch.randn(8, 2), range(8), Position())
    expected = signals(layers, Squares(), batch)  # type: ignore[arg-type]
    model = Named(layers)
    model.zero_grad()
    layer_signals = signals(model, Unpacking(calls), batch)  # type: ignore[arg-type]
    assert [signal.layer for signal in layer_signals] == ["first", "last"] * calls
    assert [replace(signal, layer="") for signal in layer_signals[-2:]] == [
        replace(signal, layer="") for signal in expected
    ]
