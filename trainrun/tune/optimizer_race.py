"""The race of an optimizer, as its settings make it, over the Rosenbrock function."""

from __future__ import annotations

from trainrun.assembly.factory import Factory
from trainrun.assembly.optimizer import lr_of, optimizer_over, weight_average_of
from trainrun.config.compose.composer import Composition
from trainrun.tune.rosenbrock import RATES, OptimizerAndAverage, Plane, RacePath, fastest


def race_path(composition: Composition, is_fixed: bool, steps: int) -> RacePath:
    """The path of a composed optimizer, at its own rate or at the one of RATES that ends lowest."""
    make = Factory(composition.settings, None, None)

    def optimizer_at(plane: Plane, lr: float) -> OptimizerAndAverage:
        groups = [{"params": [plane.point], "name": "all", "lr": lr}]
        optimizer = optimizer_over(make, plane, groups, lr)
        return optimizer, weight_average_of(None, optimizer)

    is_fixed = is_fixed or "lr" not in composition.settings["optimizer"]
    return fastest(optimizer_at, [lr_of(make, 1)[0]] if is_fixed else RATES, steps)
