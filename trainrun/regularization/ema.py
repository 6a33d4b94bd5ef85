"""An exponential moving average of the weights, evaluated and kept in place of the raw ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.regularization.kinds import WeightAverage
from trainrun.vocabulary.ranges import Rate


class EMA(WeightAverage):
    """avg <- d avg + (1 - d) w after every applied step, over parameters and float buffers.

    d is `decay`, but at most (1 + n) / (10 + n) at the n-th update, so that the first random
    weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage).
    """

    name = "ema"

    def __init__(self, decay: Rate) -> None:
        self.decay, self.updates = decay, 0
        self.model: nn.Module | None = None
        self._followed: nn.Module | None = None
        self._averages: list[Tensor] = []  # its parameters in `model`; to walk over all modules is slow
        self._weights: list[Tensor] = []  # and in itself

    def start(self, model: nn.Module) -> None:
        self.model, self._followed = copy.deepcopy(model).requires_grad_(False).eval(), None

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        if self.model is None:
            raise RuntimeError("EMA.update before EMA.start")
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        if model is not self._followed:
            self._followed, self._averages, self._weights = model, _floats(self.model), _floats(model)
        averages, values = self._averages.copy(), self._weights.copy()
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            if ours.is_floating_point():  # looked up each time, for a module may replace its buffers
                averages.append(ours)
                values.append(theirs)
            else:
                ours.copy_(theirs)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        if self.model is None:
            raise RuntimeError("EMA.state_dict before EMA.start")
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.model is None:
            raise RuntimeError("EMA.load_state_dict before EMA.start")
        self.updates = int(state["updates"])
        self.model.load_state_dict(state["model"])


def _floats(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.is_floating_point()]
