"""Race optimizers on the Rosenbrock function, each with weights and state of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainrun.regularization.kinds import WeightAverage

Place = tuple[float, float]
OptimizerAndAverage = tuple[Any, WeightAverage | None]  # an optimizer, and the average that it keeps

START, MINIMUM = (-1.2, 1.0), (1.0, 1.0)
RATES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4)
_ARRIVED = 1e-12  # a loss as good as 0: a distance of about 1e-6 from the minimum
_LOST = 1e12  # a loss that no optimizer returns from: its gradients throw the point ever further out


@dataclass(frozen=True)
class RacePath:
    """An optimizer's path: `places` from START on, one after every step with a finite loss."""

    lr: float
    gradients: int  # how often the gradient was evaluated
    places: list[Place]
    diverged: bool  # and so ended before its last step

    @property
    def losses(self) -> list[float]:
        return [rosenbrock(*place) for place in self.places]

    @property
    def last_loss(self) -> float:
        return math.inf if self.diverged else rosenbrock(*self.places[-1])


class Plane(nn.Module):
    """A point of the plane as the weights, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor(START, dtype=torch.float64))

    def place(self) -> Place:
        x, y = self.point.tolist()
        return x, y


Make = Callable[[Plane, float], OptimizerAndAverage]  # from the weights and a learning rate


def rosenbrock(x: float, y: float) -> float:
    """(1 - x)^2 + 100 (y - x^2)^2 (Rosenbrock, 1960): a curved valley, whose floor falls slowly to (1, 1)."""
    return (1 - x) * (1 - x) + 100 * (y - x * x) * (y - x * x)


def fastest(make: Make, rates: Sequence[float], steps: int) -> RacePath:
    """The path whose last loss is lowest, of those at each of `rates` until one arrives."""
    paths: list[RacePath] = []
    for lr in rates:
        paths.append(descend(make, lr, steps))
        if paths[-1].last_loss < _ARRIVED:
            break
    return min(paths, key=lambda path: max(path.last_loss, _ARRIVED))


def descend(make: Make, lr: float, steps: int) -> RacePath:
    """The path of `steps` steps from START of an optimizer, or of its weight average where it has one."""
    plane, gradients = Plane(), 0
    optimizer, weight_average = make(plane, lr)
    if weight_average is not None:
        weight_average.start(plane)

    def evaluate() -> float:
        nonlocal gradients
        gradients += 1
        x, y = plane.place()
        gradient = (2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x))
        plane.point.grad = torch.tensor(gradient, dtype=torch.float64)
        return rosenbrock(x, y)

    places, diverged = [plane.place()], False
    for _ in range(steps):
        optimizer.step(evaluate)
        if weight_average is not None:
            weight_average.update(plane)
        shown: Any = plane if weight_average is None else weight_average.model
        if diverged := not rosenbrock(*shown.place()) < _LOST:
            break
        places.append(shown.place())
    return RacePath(lr, gradients, places, diverged)
