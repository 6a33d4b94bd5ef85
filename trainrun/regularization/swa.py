"""SWA, stochastic weight averaging: the plain mean of weights late in the run (Izmailov et al., 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from trainrun.regularization.kinds import WeightAverage
from trainrun.vocabulary.ranges import Period, Steps


class SWA(WeightAverage):
    """The mean of the weights after update `start` and every `every` updates from there on.

    Before an evaluation, batch norm's running statistics are estimated again from an epoch of
    training batches.
    """

    name = "swa"
    bn_batches = None

    def __init__(self, start: Steps, every: Period) -> None:
        self.first, self.every = max(start, 1), every
        self.updates, self.averaged = 0, 0

    def start(self, model: nn.Module, clone: Callable[[nn.Module], nn.Module] = copy.deepcopy) -> None:
        super().start(model, clone)
        self.model = None  # until the first average

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        average = self.started_copy
        self.updates += 1
        if self.updates < self.first or (self.updates - self.first) % self.every:
            return
        self.averaged += 1
        for weight, now in zip(average.parameters(), model.parameters(), strict=True):
            weight.lerp_(now, 1 / self.averaged) if weight.is_floating_point() else weight.copy_(now)
        for buffer, value in zip(average.buffers(), model.buffers(), strict=True):
            buffer.copy_(value)
        self.model = average

    def state_dict(self) -> dict[str, Any]:
        model = {} if self.model is None else self.model.state_dict()
        return {"seen": self.updates, "averaged": self.averaged, "model": model}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates, self.averaged = int(state["seen"]), int(state["averaged"])
        if self.averaged:
            super().load_state_dict(state)
        self.model = self.started_copy if self.averaged else None
