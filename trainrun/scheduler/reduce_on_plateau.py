"""Reduce the learning rate on a plateau: when the monitored metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trainrun.scheduler.closed_form import Warmed, constant, floor_of
from trainrun.vocabulary.ranges import Fraction, Natural, NonNegative, Rate, Steps


@dataclass(eq=False)
class Plateau:
    """Multiply by `factor` when the metric has not improved for more than `patience` evaluations.

    As torch's ReduceLROnPlateau, with two differences. A metric that is not finite is ignored. The least
    improvement, `threshold`, is a share of the best value's size: torch takes a constant negative
    metric for an improving one. After a reduction `cooldown` evaluations are not counted.
    """

    after: Warmed
    floor: float
    maximize: bool
    factor: float
    patience: int
    threshold: float
    cooldown: int
    scale: float = 1.0
    best: float | None = None
    bad: int = 0  # evaluations without an improvement
    resting: int = 0  # evaluations that are not counted yet
    needs_metric: ClassVar = True

    def __call__(self, update: int) -> tuple[float, float | None]:
        warm, _ = self.after(update)
        return warm * max(self.scale, self.floor), None

    def observe(self, metric: float) -> None:
        if not math.isfinite(metric):
            return
        if self.best is None or self._better(metric, self.best):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.resting > 0:
            self.resting, self.bad = self.resting - 1, 0
        if self.bad > self.patience:
            self.scale, self.bad, self.resting = self.scale * self.factor, 0, self.cooldown

    def _better(self, metric: float, best: float) -> bool:
        least = self.threshold * abs(best)
        return metric > best + least if self.maximize else metric < best - least

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "best": self.best, "bad": self.bad, "resting": self.resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.best, self.bad, self.resting = (state[key] for key in self.state_dict())


def plateau(
    base_lr: float,
    maximize: bool,
    factor: Rate,
    patience: Natural,
    threshold: NonNegative,
    cooldown: Natural,
    warmup: Steps,
    warmup_start: Fraction,
    min_lr: NonNegative,
) -> Plateau:
    """Lower the learning rate when the monitored metric stalls."""
    after, floor = constant(warmup, warmup_start), floor_of(min_lr, base_lr)
    return Plateau(after, floor, maximize, factor, patience, threshold, cooldown)
