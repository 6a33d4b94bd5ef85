"""Adam and AdamW with lists that are kept: torch's own weights and state bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.optimizer import prepared

PAIRS = [(prepared.Adam, torch.optim.Adam), (prepared.AdamW, torch.optim.AdamW)]
Make = Callable[..., torch.optim.Optimizer]


def weights(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (5,), (2, 5), (2,))]


def over(make: Make, parameters: list[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    groups = [
        {"params": parameters[::2], "weight_decay": 0.1},
        {"params": parameters[1::2], "weight_decay": 0.0},
    ]
    return make(groups, lr=0.01, fused=True, **settings)


def set_gradients(parameters: list[nn.Parameter], step: int, unused: tuple[int, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(step)
    for number, parameter in enumerate(parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if number in unused else gradient


def state_of(optimizer: torch.optim.Optimizer) -> dict[Any, dict[str, Tensor]]:
    return optimizer.state_dict()["state"]


def assert_same(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer) -> None:
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine["params"], other["params"], strict=True))
    mine, other = state_of(ours), state_of(theirs)
    assert mine.keys() == other.keys()
    for key, memory in other.items():
        assert memory.keys() == mine[key].keys()
        assert all(torch.equal(value, mine[key][name]) for name, value in memory.items())


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize(("make", "original"), PAIRS)
def test_every_step_is_torchs(make: Make, original: Make, amsgrad: bool) -> None:
    a, b = weights(), weights()
    ours, theirs = over(make, a, amsgrad=amsgrad), over(original, b, amsgrad=amsgrad)
    for step in range(12):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimizer.param_groups[1]["betas"] = (0.9 - step / 100, 0.99)
        # A parameter without a gradient is not updated and its steps are not counted.
        unused = (1,) if step in (4, 5) else (0, 2) if step == 8 else ()
        for parameters in (a, b):
            set_gradients(parameters, step, unused)
        ours.step()
        theirs.step()
        assert_same(ours, theirs)
    assert state_of(ours)[0]["step"] != state_of(ours)[2]["step"]


@pytest.mark.parametrize(("make", "original"), PAIRS)
def test_a_stored_state_goes_on_in_either(make: Make, original: Make) -> None:
    a, b = weights(), weights()
    ours, theirs = over(make, a), over(original, b)
    for step in range(3):
        for optimizer, parameters in ((ours, a), (theirs, b)):
            set_gradients(parameters, step)
            optimizer.step()
    stored = copy.deepcopy(ours.state_dict())
    crossed = over(original, b)
    crossed.load_state_dict(stored)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for optimizer, parameters in ((ours, a), (crossed, b)):
        set_gradients(parameters, 3)
        optimizer.step()
    assert_same(ours, crossed)


def test_a_copy_is_one_of_its_own() -> None:
    a = weights()
    ours = over(prepared.AdamW, a)
    for step in range(2):
        set_gradients(a, step)
        ours.step()
    before = copy.deepcopy(ours.state_dict())
    twin = copy.deepcopy(ours)
    twin.step()
    twin.step()
    assert all(torch.equal(before["state"][k]["step"], state_of(ours)[k]["step"]) for k in before["state"])
    assert {float(memory["step"]) for memory in state_of(twin).values()} == {2.0}  # copies have no gradients


def test_hooks_are_called_around_every_step() -> None:
    a, calls = weights(), list[str]()
    ours = over(prepared.AdamW, a)
    for step in range(4):
        set_gradients(a, step)
        if step == 2:
            before = ours.register_step_pre_hook(lambda *_: calls.append("before"))
            after = ours.register_step_post_hook(lambda *_: calls.append("after"))
        ours.step()
    assert calls == ["before", "after", "before", "after"]
    before.remove()
    after.remove()
    ours.step()
    assert len(calls) == 4


def test_a_closure_is_evaluated_with_gradients() -> None:
    a, b = weights(), weights()
    ours, theirs = over(prepared.Adam, a), over(torch.optim.Adam, b)
    for optimizer, parameters in ((ours, a), (theirs, b)):
        for _ in range(3):

            def loss(parameters: list[nn.Parameter] = parameters) -> Tensor:
                for parameter in parameters:
                    parameter.grad = None
                value = sum((p**2).sum() for p in parameters)
                value.backward()
                return value

            returned = optimizer.step(loss)
            assert returned is not None
    assert_same(ours, theirs)


def test_what_is_not_fused_is_torchs_own_step() -> None:
    a, b = weights(), weights()
    ours = prepared.AdamW(a, lr=0.01, fused=False, foreach=False)
    theirs = torch.optim.AdamW(b, lr=0.01, fused=False, foreach=False)
    for step in range(3):
        for optimizer, parameters in ((ours, a), (theirs, b)):
            set_gradients(parameters, step)
            optimizer.step()
    assert_same(ours, theirs)
