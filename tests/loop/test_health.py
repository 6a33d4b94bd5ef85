"""What is measured against plain arithmetic, and measuring changes no bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import CLASSES, FEATURES, Toy, ToyData, ToyTask, adamw, momentum, new_state, new_step, same_bits

from trainrun.checkpoint.state import TrainState
from trainrun.loop.health import measure_health
from trainrun.loop.step import Step
from trainrun.optimizer.sam import SAM
from trainrun.protocols import StepResult
from trainrun.vocabulary.events import StepsLogged

pytestmark = pytest.mark.usefixtures("quick_disk")
SAMPLES = torch.arange(12)


def relus(bias: float = 0.0) -> nn.Module:
    """Two hidden layers, of which the first has 3 of 8 units pushed by `bias`."""
    torch.manual_seed(0)
    first = nn.Linear(FEATURES, 8)
    with torch.no_grad():
        first.bias[:3] += bias
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def in_two_groups(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """As new_state asks, with the biases in a group of their own."""
    (group,) = parameters
    matrices = [p for p in group["params"] if p.ndim > 1]
    vectors = [p for p in group["params"] if p.ndim < 2]
    groups = [group | {"params": matrices, "name": "a"}, group | {"params": vectors, "name": "b"}]
    return torch.optim.SGD(groups, lr)


def sam(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return SAM(momentum(parameters, lr), 0.05, False)


def lbfgs(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr, max_iter=3)


def stepped(state: TrainState, step: Any, accumulate: int = 1) -> StepResult:
    data = ToyData()
    return measure_health(step, state, [data.batch(part) for part in SAMPLES.chunk(accumulate)])


def new(model: nn.Module, optimizer: Any = momentum, accumulate: int = 1) -> tuple[TrainState, Step]:
    return new_state(model, optimizer), new_step(ToyData(), ToyTask(), accumulate=accumulate)


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([t.detach().flatten().double() for t in tensors]).norm())


class Halved(torch.optim.SGD):
    """Takes half of its base's step back."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        before = [p.clone() for group in self.param_groups for p in group["params"]]
        loss = super().step(closure)
        for p, old in zip((p for group in self.param_groups for p in group["params"]), before, strict=True):
            p.lerp_(old, 0.5)
        return loss


def halved(parameters: Any, lr: float) -> torch.optim.Optimizer:
    torch.optim.SGD(parameters, lr)  # torch tells of the steps of a class from its first object on
    return Halved(parameters, lr)


@pytest.mark.parametrize("optimizer", [in_two_groups, momentum, adamw, sam, lbfgs, halved])
def test_the_ratio_is_that_of_weights_before_and_after(optimizer: Any) -> None:
    state, step = new(relus(), optimizer)
    groups = {group["name"]: group["params"] for group in state.optimizer.param_groups}
    before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}
    result = stepped(state, step)
    expected = {
        name: norm([a - b for a, b in zip(group, before[name], strict=True)]) / norm(before[name])
        for name, group in groups.items()
    }
    ratios = {name: float(value) for name, value in result.health["update_ratio"].items()}
    assert ratios == pytest.approx(expected, rel=1e-4)
    assert min(ratios.values()) > 0


def dead_by_hand(model: nn.Sequential, inputs: Tensor) -> float:
    """Of 14 hidden units the share that is 0 for every sample."""
    with torch.no_grad():
        first = model[0](inputs).clamp(min=0)
        second = model[2](first).clamp(min=0)
    units = torch.cat([first, second], 1)
    return sum(bool((units[:, unit] == 0).all()) for unit in range(14)) / 14


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("bias", [0.0, -100.0])
def test_dead_units_are_those_that_give_0_for_the_whole_window(bias: float, accumulate: int) -> None:
    model = relus(bias)
    expected = dead_by_hand(model, ToyData().inputs[SAMPLES])  # type: ignore[arg-type]
    state, step = new(model, accumulate=accumulate)
    assert float(stepped(state, step, accumulate).health["dead_units"]) == pytest.approx(expected)
    assert expected >= 3 / 14 if bias else expected < 3 / 14


class Convolved(nn.Module):
    """A channel is a unit, in pictures; in a sequence a feature is."""

    def __init__(self, as_sequence: bool) -> None:
        super().__init__()
        self.as_sequence, self.head = as_sequence, nn.Linear(4, CLASSES)
        self.conv, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True)
        with torch.no_grad():
            self.conv.bias[1] = -100.0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        pictures = self.conv(x.view(-1, 1, 1, FEATURES))
        if self.as_sequence:
            return self.head(self.relu(pictures.flatten(2).transpose(1, 2)).mean(1))
        return self.head(self.relu(pictures).mean((2, 3)))


@pytest.mark.parametrize("as_sequence", [False, True])
def test_a_unit_is_a_channel_or_a_feature(as_sequence: bool) -> None:
    torch.manual_seed(0)
    state, step = new(Convolved(as_sequence))
    assert float(stepped(state, step).health["dead_units"]) == 1 / 4


def test_beside_one_dimensional_convolutions_three_dimensions_do_not_tell_the_unit() -> None:
    layers = (
        nn.Unflatten(1, (1, FEATURES)),
        nn.Conv1d(1, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(CLASSES),
    )
    model = nn.Sequential(*layers)
    model(torch.zeros(1, FEATURES))
    state, step = new(model)
    assert "dead_units" not in stepped(state, step).health


def test_a_model_without_relu_has_no_dead_units() -> None:
    state, step = new(nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES)))
    health = stepped(state, step).health
    assert list(health) == ["update_ratio"] and list(health["update_ratio"]) == ["all"]


def test_a_step_without_an_update_says_nothing() -> None:
    state, step = new(relus())
    data = ToyData()
    data.inputs[3] = float("nan")
    result = measure_health(step, state, [data.batch(SAMPLES)])
    assert not result.applied and not result.health


def test_nothing_is_left_behind() -> None:
    state, step = new(relus())
    stepped(state, step)
    assert not any(module._forward_hooks for module in state.model.modules())
    assert not state.optimizer._optimizer_step_pre_hooks and not state.optimizer._optimizer_step_post_hooks


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, CLASSES))


@pytest.mark.parametrize("optimizer", [momentum, adamw, sam])
def test_a_run_has_the_same_bits_with_it_and_without(optimizer: Callable[..., Any], tmp_path: Path) -> None:
    toy = Toy(tmp_path / "with", with_dropout, {"optimizer": optimizer}, log_every=1)
    watched = toy.train()
    plain = replace(toy, folder=tmp_path / "without", health=False).train()
    assert same_bits(watched.weights, plain.weights)
    assert same_bits(watched.state.optimizer.state_dict(), plain.state.optimizer.state_dict())
    logs, without = watched.of(StepsLogged), plain.of(StepsLogged)
    assert [log.loss for log in logs] == [log.loss for log in without]
    assert all(log.update_ratio and log.dead_units is not None for log in logs)
    assert not any(log.update_ratio or log.dead_units is not None for log in without)


@pytest.mark.parametrize("killed_at", [2, 3, 7])
def test_a_run_that_was_stopped_tells_the_same(killed_at: int, tmp_path: Path) -> None:
    toy = Toy(tmp_path / "straight", with_dropout)
    straight, stopped = toy.train(), toy.but(folder=tmp_path / "stopped")
    stopped.train(signal_at=killed_at)
    assert stopped.train().metrics == straight.metrics
    assert b"dead_units" in straight.metrics and b"update_ratio" in straight.metrics


def test_only_the_step_that_ends_a_window_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def spy(step: Any, state: TrainState, window: Any) -> StepResult:
        looked.append(state.step + 1)
        return measure_health(step, state, window)

    monkeypatch.setattr("trainrun.loop.loop.measure_health", spy)
    Toy(tmp_path / "run", log_every=5, state={"total_steps": 16}).train()
    assert looked == [5, 10, 15, 16]
