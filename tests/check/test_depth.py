"""Activations and gradients through depth, against arithmetic by hand and the schemes' theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun import init
from trainrun.check.depth import Level, levels
from trainrun.protocols import Batch, Outcome, Position


class Squares:
    """A task: half the squared distance to the targets, averaged over the samples."""

    def count(self, batch: Batch) -> Mapping[str, float]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return Outcome({"loss": (model(batch.inputs) - batch.targets).square().sum() / 2}, {})


def measured(model: nn.Module, inputs: Tensor, targets: Tensor) -> list[Level]:
    batch = Batch(inputs, targets, range(len(inputs)), Position())
    return levels(model, Squares(), batch)  # type: ignore[arg-type]


def deep(
    scheme: init.Init, depth: int, width: int, activation: Callable[[], nn.Module] | None
) -> list[Level]:
    """Of `depth` layers without bias, on normal inputs; the loss's gradient at the outputs is normal too."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=False), *([activation()] if activation else [])]
    model = nn.Sequential(*layers)
    scheme(model)
    inputs = torch.randn(512, width)
    with torch.no_grad():
        targets = model(inputs) + torch.randn(512, width)
    return measured(model, inputs, targets)


def test_figures_are_those_of_arithmetic_by_hand() -> None:
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    x, t = torch.randn(8, 3), torch.randn(8, 2)
    lower, upper = measured(nn.Sequential(first, nn.Tanh(), nn.Dropout(0.5), last), x, t)
    hidden = torch.tanh(x @ first.weight.T + first.bias).detach()
    outputs = (hidden @ last.weight.T + last.bias).detach()
    by_outputs = (outputs - t) / 8
    by_hidden = by_outputs @ last.weight.detach()
    for level, values, gradient in ((lower, hidden, by_hidden), (upper, outputs, by_outputs)):
        assert level.mean == pytest.approx(values.mean().item())
        assert level.std == pytest.approx(values.std(correction=0).item())
        assert level.gradient_std == pytest.approx(gradient.std(correction=0).item())
    assert (lower.layer, upper.layer) == ("0", "3")
    assert torch.equal(lower.weights, first.weight.detach().flatten())


def test_layers_come_in_the_order_in_which_they_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Conv1d(1, 2, 1)

        def forward(self, x: Tensor) -> Any:
            return self.last(self.first(x[:, None]).flatten(1))

    ordered = measured(Backwards(), torch.randn(4, 2), torch.randn(4, 2))
    assert [level.layer for level in ordered] == ["first", "last"]


def test_xavier_keeps_the_variance_of_linear_layers_both_ways() -> None:
    measured_levels = deep(init.xavier_normal(1.0, zero_residual=False), 10, 256, None)
    assert len(measured_levels) == 10
    for level in measured_levels:
        assert level.std == pytest.approx(1, rel=0.15)
        assert level.gradient_std == pytest.approx(1 / 512, rel=0.15)


def test_kaiming_keeps_the_second_moment_through_relu() -> None:
    measured_levels = deep(init.kaiming_normal("fan_in", "relu", zero_residual=False), 9, 512, nn.ReLU)
    for level in measured_levels:
        assert level.mean**2 + level.std**2 == pytest.approx(1, rel=0.25)


def test_small_weights_shrink_both_ways_by_the_root_of_the_width_times_their_std() -> None:
    measured_levels = deep(init.normal(0.01, zero_residual=False), 10, 256, nn.Tanh)
    factor = math.sqrt(256) * 0.01
    for depth, level in enumerate(measured_levels, 1):
        assert level.std == pytest.approx(factor**depth, rel=0.2)
        assert level.gradient_std == pytest.approx(factor ** (10 - depth) / 512, rel=0.2)


def test_zeros_stop_everything_but_the_gradient_at_the_outputs() -> None:
    *hidden, last = deep(init.zeros(zero_residual=False), 4, 16, nn.Tanh)
    for level in hidden:
        assert (level.mean, level.std, level.gradient_std) == (0, 0, 0)
        assert not level.weights.any()
    assert (last.mean, last.std) == (0, 0)
    assert last.gradient_std == pytest.approx(1 / 512, rel=0.1)


def test_where_no_gradient_flows_there_is_none() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    first, last = measured(model, torch.randn(4, 3), torch.randn(4, 3))
    assert math.isnan(first.gradient_std)
    assert last.gradient_std > 0


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
    hidden, two = measured(model, torch.randn(32, 3), torch.zeros(32, 2))
    assert hidden.dead == pytest.approx(6 / 8)
    assert two.dead is None


def test_a_channel_is_dead_where_it_is_0_in_every_place() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3)
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([-100.0, 100.0, 100.0, 100.0]))
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1))
    assert measured(model, torch.randn(16, 1, 8, 8), torch.zeros(16, 1))[0].dead == pytest.approx(1 / 4)


def test_a_sigmoid_of_large_sums_is_saturated() -> None:
    layer = nn.Linear(1, 4)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-50.0, 50.0, 0.0, 0.0]))
    layer_levels = measured(
        nn.Sequential(layer, nn.Sigmoid(), nn.Linear(4, 1)), torch.randn(8, 1), torch.zeros(8, 1)
    )
    assert [signal.saturated for signal in layer_levels] == [0.5, None]


def test_the_norm_of_the_gradient_is_that_of_arithmetic_by_hand() -> None:
    torch.manual_seed(0)
    layer, x, t = nn.Linear(3, 2), torch.randn(8, 3), torch.randn(8, 2)
    errors = (x @ layer.weight.T + layer.bias - t).detach()
    (signal,) = measured(layer, x, t)
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
    expected = levels(layers, Squares(), batch)  # type: ignore[arg-type]
    model = Named(layers)
    model.zero_grad()
    layer_levels = levels(model, Unpacking(calls), batch)  # type: ignore[arg-type]
    assert [signal.layer for signal in layer_levels] == ["first", "last"] * calls
    for level, same in zip(layer_levels[-2:], expected, strict=True):
        assert torch.equal(level.weights, same.weights)
        assert replace(level, layer="", weights=None) == replace(same, layer="", weights=None)
