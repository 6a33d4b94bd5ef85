"""Averaging late weights, against torch.optim.swa_utils."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from trainrun.protocols import Batch, Position
from trainrun.regularization.swa import SWA


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def wander(model: nn.Module, swa: SWA, steps: int) -> list[nn.Module]:
    """Random steps; the model after each."""
    passed = []
    for _ in range(steps):
        model(torch.randn(8, 3) + 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        swa.update(model)
        passed.append(copy.deepcopy(model))
    return passed


def batches(count: int = 5) -> list[Batch]:
    torch.manual_seed(3)
    sizes = [16] * (count - 1) + [1]  # the last has no variance
    return [Batch(torch.randn(n, 3), torch.zeros(n), range(n), Position()) for n in sizes]


@pytest.mark.parametrize(("start", "every"), [(1, 1), (0, 1), (4, 1), (3, 4), (12, 1)])
def test_the_average_is_torchs_of_the_weights_that_count(start: int, every: int) -> None:
    model, swa = make(), SWA(start, every)
    swa.start(model)
    passed = wander(model, swa, 12)
    theirs = AveragedModel(passed[0])
    for n, weights in enumerate(passed, 1):
        if n >= max(start, 1) and (n - max(start, 1)) % every == 0:
            theirs.update_parameters(weights)
    assert swa.model is not None
    for ours, expected in zip(swa.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_batch_norm_is_estimated_anew_as_torch_does() -> None:
    model, swa = make(), SWA(1, 1)
    swa.start(model)
    wander(model, swa, 6)
    assert swa.model is not None
    theirs, before = copy.deepcopy(swa.model).train(), copy.deepcopy(model.state_dict())
    swa.update_bn(batches(), nullcontext)
    update_bn([batch.inputs for batch in batches() if len(batch) > 1], theirs)
    torch.testing.assert_close(swa.model.state_dict(), theirs.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_there_is_no_average_before_it_starts() -> None:
    model, swa = make(), SWA(5, 1)
    swa.start(model)
    wander(model, swa, 4)
    swa.update_bn(iter(()), nullcontext)
    assert swa.model is None and swa.state_dict()["model"] == {}
    wander(model, swa, 1)
    assert swa.model is not None
    for ours, theirs in zip(swa.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("restored_after", [2, 7])
def test_a_restored_average_continues_identically(restored_after: int) -> None:
    model, swa = make(), SWA(5, 2)
    swa.start(model)
    wander(model, swa, restored_after)
    twin_model, twin = copy.deepcopy(model), SWA(5, 2)
    twin.start(make())
    wander(make(), twin, 6)  # what a rollback leaves behind
    twin.load_state_dict(copy.deepcopy(swa.state_dict()))
    assert (twin.model is None) == (swa.model is None)
    for trained, average in ((model, swa), (twin_model, twin)):
        torch.manual_seed(1)
        wander(trained, average, 5)
    assert swa.model is not None and twin.model is not None
    for a, b in zip(swa.model.state_dict().values(), twin.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_use_before_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"before SWA\.start"):
        SWA(1, 1).update(make())
