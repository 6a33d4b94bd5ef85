"""The schedule-free average as a model: weights from the optimizer, buffers from training."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from trainrun.optimizer import schedule_free_adamw
from trainrun.protocols import Batch, Position
from trainrun.regularization.schedule_free import BATCHES, ScheduleFreeAverage


def trained(steps: int) -> tuple[nn.Module, ScheduleFreeAverage, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    model[2].bias.requires_grad_(False)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = schedule_free_adamw([{"params": params}], 0.05, (0.5, 0.99), 1e-8, 0.0)
    average = ScheduleFreeAverage(optimizer)  # type: ignore[arg-type]
    average.start(model)
    walked = []
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        average.update(model)
        walked.append(optimizer.state[model[0].weight]["z"].clone())
    return model, average, walked


def test_at_a_constant_rate_it_is_the_mean_of_the_path() -> None:
    model, average, walked = trained(5)
    assert average.model is not None
    torch.testing.assert_close(average.model[0].weight, torch.stack(walked).mean(0), rtol=1e-4, atol=1e-6)  # type: ignore[index]
    assert not torch.equal(average.model[0].weight, model[0].weight)  # type: ignore[index]


def test_buffers_and_frozen_weights_are_the_models() -> None:
    model, average, _ = trained(3)
    assert average.model is not None
    for ours, theirs in zip(average.model.buffers(), model.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(average.model[2].bias, model[2].bias)  # type: ignore[index]


def test_running_statistics_are_estimated_of_the_average_on_some_batches() -> None:
    model, average, _ = trained(3)
    assert average.model is not None
    inputs = [torch.randn(8, 3) for _ in range(BATCHES + 1)]
    theirs = copy.deepcopy(average.model).train()
    average.update_bn((Batch(x, x, range(8), Position()) for x in inputs), nullcontext)
    update_bn(inputs[:BATCHES], theirs)
    torch.testing.assert_close(average.model.state_dict(), theirs.state_dict())
    assert not torch.equal(average.model.get_buffer("1.running_mean"), model.get_buffer("1.running_mean"))


def test_loading_gives_the_same_weights() -> None:
    model, average, _ = trained(3)
    other = ScheduleFreeAverage(average.optimizer)
    other.start(model)
    other.load_state_dict(average.state_dict())
    assert other.model is not None and average.model is not None
    for ours, theirs in zip(other.model.parameters(), average.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
