"""Several optimizers as one, and SAM against its definition."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from trainrun import optimizer
from trainrun.optimizer.sam import SAM, CompositeOptimizer
from trainrun.vocabulary.errors import ConfigError


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


A = torch.tensor([[3.0, 1.0], [1.0, 0.5]], dtype=torch.float64)


def loss(w: Tensor, b: Tensor) -> Tensor:
    return 0.5 * w @ A @ w + (w**4).sum() + (b * w).sum() ** 2


def gradient(w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """By hand."""
    return A @ w + 4 * w**3 + 2 * (b * w).sum() * b, 2 * (b * w).sum() * w


def start() -> tuple[nn.Parameter, nn.Parameter]:
    w, b = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.3])
    return nn.Parameter(w.double()), nn.Parameter(b.double())


def closure_of(sam: SAM, w: Tensor, b: Tensor) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        sam.zero_grad()
        value = loss(w, b)
        value.backward()
        return value.detach()

    return closure


def of_sgd(w: Tensor, b: Tensor, rho: float, adaptive: bool) -> SAM:
    params = [{"params": [w]}, {"params": [b]}]
    sam = optimizer.sam(
        params, lambda p, lr, wd: optimizer.momentum(p, lr, 0.5, wd), 0.01, 0.1, rho, adaptive
    )
    assert isinstance(sam, SAM)
    return sam


@pytest.mark.parametrize("adaptive", [False, True], ids=["sam", "asam"])
def test_each_step_is_the_papers_formula(adaptive: bool) -> None:
    w, b = start()
    sam = of_sgd(w, b, 0.1, adaptive)
    x, y = w.detach().clone(), b.detach().clone()
    vx, vy = torch.zeros(2), torch.zeros(2)
    for _ in range(7):
        value = sam.step(closure_of(sam, w, b))
        assert float(value) == pytest.approx(float(loss(x, y)))
        gx, gy = gradient(x, y)
        tx, ty = (x.abs(), y.abs()) if adaptive else (torch.ones(2).double(),) * 2
        norm = torch.cat([tx * gx, ty * gy]).norm()
        gx, gy = gradient(x + 0.1 * tx**2 * gx / norm, y + 0.1 * ty**2 * gy / norm)
        vx, vy = 0.5 * vx + gx + 0.1 * x, 0.5 * vy + gy + 0.1 * y
        x, y = x - 0.01 * vx, y - 0.01 * vy
    torch.testing.assert_close(w.detach(), x, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(b.detach(), y, rtol=1e-9, atol=1e-12)


def test_the_bases_memory_is_all_that_is_stored() -> None:
    w, b = start()
    sam = of_sgd(w, b, 0.1, False)
    sam.step(closure_of(sam, w, b))
    assert [set(of_one) for of_one in sam.state_dict()["state"].values()] == [{"momentum_buffer"}] * 2


def test_weights_are_back_where_they_were_when_the_second_evaluation_fails() -> None:
    w, b = start()
    sam = of_sgd(w, b, 0.1, False)
    calls = []

    def closure() -> Tensor:
        calls.append(w.detach().clone())
        if len(calls) == 2:
            raise ArithmeticError
        return closure_of(sam, w, b)()

    with pytest.raises(ArithmeticError):
        sam.step(closure)
    assert not torch.equal(calls[0], calls[1])
    assert torch.equal(w.detach(), calls[0])


def test_what_needs_a_closure() -> None:
    w, b = start()
    lbfgs = torch.optim.LBFGS([w])
    assert optimizer.needs_closure(of_sgd(w, b, 0.1, False))
    assert optimizer.needs_closure(lbfgs)
    assert not optimizer.needs_closure(torch.optim.SGD([w]))


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x).relu())
        return out


def by_module(model: nn.Module, **modules: Callable[..., torch.optim.Optimizer]) -> CompositeOptimizer:
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim == 1]
    groups = [
        {"params": params, "name": f"decay {decay:g}", "lr": 0.1, "base_lr": 0.1, "weight_decay": decay}
        for params, decay in ((decayed, 0.1), (rest, 0.0))
    ]
    made = optimizer.per_module(groups, model, modules, 0.1, 0.1)
    assert isinstance(made, CompositeOptimizer)
    return made


def sgd(groups: object, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return SGD(groups, lr, momentum=0.9, weight_decay=weight_decay)  # type: ignore[arg-type]


def adamw(groups: object, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return AdamW(groups, lr, weight_decay=weight_decay)  # type: ignore[arg-type]


def descend(model: nn.Module, step: Callable[[], object], times: int) -> None:
    for _ in range(times):
        model.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        step()


def test_modules_train_as_with_optimizers_of_their_own() -> None:
    ours, theirs = Three(), Three()
    joint = by_module(ours, first=adamw, second=sgd)
    descend(ours, joint.step, 5)
    parts = [
        [{"params": [p], "weight_decay": 0.1 * (p.ndim > 1)} for p in part.parameters()]
        for part in (theirs.first, theirs.second)
    ]
    by_hand = [AdamW(parts[0], 0.1), SGD(parts[1], 0.1, momentum=0.9)]
    descend(theirs, lambda: [part.step() for part in by_hand], 5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
    names = [group["name"] for group in joint.param_groups]
    assert names == ["first, decay 0.1", "first, decay 0", "second, decay 0.1", "second, decay 0"]
    assert [group["module"] for group in joint.param_groups] == ["first", "first", "second", "second"]


def test_one_module_is_stepped_alone_and_all_of_it_is_stored() -> None:
    def muon(groups: object, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return CompositeOptimizer([adamw(groups, lr, weight_decay)])  # an optimizer of several, as muon is

    straight, broken = Three(), Three()
    joint = by_module(straight, first=muon, second=sgd)
    second = copy.deepcopy(straight.second.state_dict())
    descend(straight, joint.modules["first"].step, 3)
    assert all(torch.equal(value, second[name]) for name, value in straight.second.state_dict().items())
    descend(straight, joint.step, 3)

    joint = by_module(broken, first=muon, second=sgd)
    descend(broken, joint.modules["first"].step, 3)
    stored = copy.deepcopy(joint.state_dict())
    joint = by_module(broken, first=muon, second=sgd)
    joint.load_state_dict(stored)
    descend(broken, joint.step, 3)
    for mine, other in zip(broken.parameters(), straight.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_modules_that_are_not_there_and_parameters_of_none_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"modules.third: the model has no such module; it has first, second"
    ):
        by_module(Three(), first=sgd, third=sgd)
    with pytest.raises(ConfigError, match=r"optimizer.modules: leave second.0.weight without an optimizer"):
        by_module(Three(), first=sgd)
    frozen = Three()
    frozen.second.requires_grad_(False)
    assert list(by_module(frozen, first=sgd).modules) == ["first"]
