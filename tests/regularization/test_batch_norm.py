"""Running statistics of batches, against torch.optim.swa_utils.update_bn."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from trainrun.protocols import Batch, Position
from trainrun.regularization.kinds import estimate_batch_norm


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()


def batches(count: int = 5) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    sizes = [16] * (count - 1) + [1]  # the last has no variance
    return [
        Batch(torch.randn(n, 3, generator=generator), torch.zeros(n), range(n), Position()) for n in sizes
    ]


def test_it_is_the_mean_over_all_batches_as_torch_estimates_it() -> None:
    ours, theirs = make(), make().train()
    estimate_batch_norm(ours, batches(), nullcontext)
    update_bn([batch.inputs for batch in batches() if len(batch) > 1], theirs)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_only_statistics_change_and_twice_is_once() -> None:
    model, weights = make(), list(copy.deepcopy(make()).parameters())
    estimate_batch_norm(model, batches(), nullcontext)
    once = copy.deepcopy(model.state_dict())
    estimate_batch_norm(model, batches(), nullcontext)
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    assert not any(module.training for module in model.modules())
    assert model.get_submodule("1").momentum == 0.1


def test_interrupted_it_leaves_what_there_was() -> None:
    def broken_off() -> Iterator[Batch]:
        yield batches()[0]
        raise KeyboardInterrupt

    model, before = make(), make().state_dict()
    with pytest.raises(KeyboardInterrupt):
        estimate_batch_norm(model, broken_off(), nullcontext)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert not any(module.training for module in model.modules())
    assert model.get_submodule("1").momentum == 0.1


def test_without_batch_norm_nothing_is_read() -> None:
    def unread() -> Iterator[Batch]:
        pytest.fail("a batch was asked for")
        yield

    estimate_batch_norm(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), unread(), nullcontext)
