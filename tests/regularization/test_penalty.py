"""Penalties: their formulas, what they leave alone, and what weight decay they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainrun.regularization.kinds import Penalty
from trainrun.regularization.penalty import L2, Elastic, L1Penalty, near_zero
from trainrun.vocabulary.errors import ConfigError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3)


NET = Net()
MATRICES = [NET.conv.weight.detach().double(), NET.head.weight.detach().double()]


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        (L1Penalty(0.3), 0.3 * sum(w.abs().sum() for w in MATRICES)),
        (L2(0.3), 0.3 * sum((w**2).sum() for w in MATRICES)),
        (Elastic(0.3, 0.25), 0.3 * sum(0.25 * w.abs().sum() + 0.75 * (w**2).sum() for w in MATRICES)),
        (Elastic(0.3, 1.0), 0.3 * sum(w.abs().sum() for w in MATRICES)),
    ],
)
def test_a_penalty_is_its_formula_on_matrices_and_kernels(penalty: Penalty, expected: torch.Tensor) -> None:
    assert penalty.penalty(NET).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("penalty", [L1Penalty(1.0), L2(1.0), Elastic(1.0, 0.5)])
def test_norms_and_biases_get_no_gradient(penalty: Penalty) -> None:
    net = Net()
    penalty.penalty(net).backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None}
    assert touched == {"conv.weight", "head.weight"}


def test_l2_is_weight_decay_of_twice_the_strength_for_plain_sgd() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(16, 5), torch.randn(16, 1)
    start = nn.Linear(5, 1, bias=False).state_dict()
    finals = []
    for penalty, decay in ((L2(0.07), 0.0), (None, 0.14)):
        model = nn.Linear(5, 1, bias=False)
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=decay)
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            (loss if penalty is None else loss + penalty.penalty(model)).backward()
            optimizer.step()
        finals.append(model.weight.detach())
    torch.testing.assert_close(*finals, rtol=1e-6, atol=1e-6)


def test_l1_pulls_every_weight_with_the_same_force() -> None:
    net = Net()
    L1Penalty(0.3).penalty(net).backward()
    assert net.head.weight.grad is not None
    torch.testing.assert_close(net.head.weight.grad, 0.3 * net.head.weight.detach().sign())


def test_frozen_weights_are_left_alone() -> None:
    net = Net()
    net.conv.requires_grad_(False)
    assert L2(1.0).penalty(net).item() == pytest.approx(net.head.weight.square().sum().item())


def test_a_penalty_on_nothing_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="a penalty needs a trained matrix or kernel"):
        L2(0.1).penalty(nn.BatchNorm1d(3))


def test_near_zero_counts_small_matrices_and_kernels_alone() -> None:
    net = Net()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.head.weight[0] = 0.5  # 2 of 6, beside a kernel of 18
        net.conv.weight[0, 0, 0, 0] = -0.00101
        net.conv.weight[0, 0, 0, 1] = -0.00099
    assert near_zero(net) == pytest.approx((6 - 2 + 18 - 1) / 24)
