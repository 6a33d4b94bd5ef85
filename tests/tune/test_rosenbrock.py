"""The race's courses, against the updates written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainrun.optimizer import SAM, ScheduleFreeAdamW
from trainrun.regularization.schedule_free import ScheduleFreeAverage
from trainrun.tune.rosenbrock import MINIMUM, START, OptimizerAndAverage, descend, fastest, rosenbrock


def sgd(momentum: float = 0.0):
    return lambda plane, lr: (torch.optim.SGD(plane.parameters(), lr, momentum), None)


def slopes(x: float, y: float) -> tuple[float, float]:
    """By torch's automatic differentiation of the formula."""
    point = torch.tensor([x, y], dtype=torch.float64, requires_grad=True)
    ((1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2).backward()
    assert point.grad is not None
    return point.grad[0].item(), point.grad[1].item()


def test_the_function_is_rosenbrocks() -> None:
    assert rosenbrock(*MINIMUM) == 0
    assert rosenbrock(*START) == pytest.approx(24.2)
    assert rosenbrock(0.0, 0.0) == 1


def test_a_course_is_the_updates_written_out() -> None:
    path = descend(sgd(momentum=0.9), 1e-3, 20)
    (x, y), (u, v) = START, (0.0, 0.0)
    expected = [START]
    for _ in range(20):
        a, b = slopes(x, y)
        u, v = 0.9 * u + a, 0.9 * v + b
        x, y = x - 1e-3 * u, y - 1e-3 * v
        expected.append((x, y))
    assert path.gradients == 20
    assert not path.diverged
    for place, wanted in zip(path.places, expected, strict=True):
        assert place == pytest.approx(wanted, rel=1e-9)
    assert path.last_loss == pytest.approx(rosenbrock(x, y))


def test_no_course_knows_of_another() -> None:
    alone = descend(sgd(0.9), 1e-3, 10)
    descend(sgd(0.9), 3e-3, 10)
    assert descend(sgd(0.9), 1e-3, 10) == alone


def test_the_rate_that_ends_lowest_wins_and_divergence_loses() -> None:
    rates = (1.0, 3e-3, 1e-3, 1e-5)
    ends = {lr: descend(sgd(), lr, 50).last_loss for lr in rates}
    assert ends[1.0] == math.inf
    assert fastest(sgd(), rates, 50).lr == min(ends, key=lambda lr: ends[lr])
    lost = fastest(sgd(), (1.0, 0.5), 50)
    assert lost.diverged
    assert all(map(math.isfinite, lost.losses))


def test_several_evaluations_a_step_are_counted() -> None:
    def sam(plane: nn.Module, lr: float) -> OptimizerAndAverage:
        return SAM(torch.optim.SGD(plane.parameters(), lr), 0.05, False), None

    assert descend(sam, 1e-3, 7).gradients == 14


def test_an_optimizer_with_an_average_is_where_its_average_is() -> None:
    groups = []

    def make(plane: nn.Module, lr: float) -> OptimizerAndAverage:
        optimizer = ScheduleFreeAdamW([{"params": [*plane.parameters()]}], lr, (0.9, 0.999), 1e-8, 0.0)
        groups.append(optimizer)
        return optimizer, ScheduleFreeAverage(optimizer)

    path = descend(make, 0.1, 1)
    # z after one step of Adam: lr against the slope's sign; x is then all z, for its share is 1
    assert path.places[1] == pytest.approx((START[0] + 0.1, START[1] + 0.1), abs=1e-6)
    two = descend(make, 0.1, 2)
    (weight,) = groups[-1].state
    z, y = groups[-1].state[weight]["z"].tolist(), weight.tolist()
    assert two.places[2] == pytest.approx([(b - 0.1 * a) / 0.9 for a, b in zip(z, y, strict=True)])
