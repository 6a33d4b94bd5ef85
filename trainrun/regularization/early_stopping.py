"""Early stopping: end the run when the monitored metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainrun.regularization.kinds import Stopper
from trainrun.vocabulary.ranges import Count, NonNegative


class EarlyStopping(Stopper):
    """Stop after `patience` evaluations without an improvement by more than `min_delta`.

    A metric that is not finite is never an improvement. With `restore_best` the run ends with
    the best weights seen, else with the last ones.
    """

    name = "early_stopping"

    def __init__(self, patience: Count, min_delta: NonNegative, restore_best: bool) -> None:
        self.patience, self.min_delta, self.restore_best = patience, min_delta, restore_best
        self.best: float | None = None
        self.waited = 0

    def observe(self, value: float, maximize: bool) -> bool:
        gain = math.inf if self.best is None else (value - self.best) * (1 if maximize else -1)
        if math.isfinite(value) and gain > self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]
