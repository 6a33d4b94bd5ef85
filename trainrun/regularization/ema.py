"""EMA, an exponential moving average of the weights: evaluated and kept in place of the raw ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.regularization.kinds import WeightAverage
from trainrun.runtime import divided
from trainrun.vocabulary.ranges import Rate


class EMA(WeightAverage):
    """avg <- d avg + (1 - d) w after every applied step, over parameters and float buffers.

    d is `decay`, but at most (1 + n) / (10 + n) at the n-th update, so that the first random
    weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    name = "ema"

    def __init__(self, decay: Rate) -> None:
        self.decay, self.updates = decay, 0
        # Float parameters of the copy and of the model: walking over all modules in each step is slow.
        self._averages: list[Tensor] = []
        self._weights: list[Tensor] = []

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        average = self.started_copy
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if model is not self._averaged_from:
            self._averaged_from, self._averages, self._weights = model, _floats(average), _floats(model)
        averages, values = self._averages.copy(), self._weights.copy()
        for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
            if ours.is_floating_point():  # listed in each step: a module may replace its buffers
                averages.append(ours)
                values.append(theirs)
            else:
                ours.copy_(theirs)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.updates = int(state["updates"])


def _floats(model: nn.Module) -> list[Tensor]:
    return [divided.local(p) for p in model.parameters() if p.is_floating_point()]
