"""Stochastic weight averaging: the plain mean of weights late in the run (Izmailov et al., 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from trainrun.protocols import Batch
from trainrun.regularization import batch_norm
from trainrun.regularization.kinds import WeightAverage
from trainrun.vocabulary.ranges import Period, Steps


class SWA(WeightAverage):
    """The mean of the weights after update `start` and every `every` updates from there on.

    Before it is judged, the running statistics of its batch norm are estimated anew over an epoch
    of training batches.
    """

    name = "swa"

    def __init__(self, start: Steps, every: Period) -> None:
        self.first, self.every = start, every
        self.updates, self.averaged = 0, 0
        self.model: nn.Module | None = None
        self._copy: nn.Module | None = None

    def start(self, model: nn.Module) -> None:
        self._copy = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        average = self._started_copy()
        self.updates += 1
        if self.updates < max(self.first, 1) or (self.updates - max(self.first, 1)) % self.every:
            return
        self.averaged += 1
        for weight, now in zip(average.parameters(), model.parameters(), strict=True):
            weight.lerp_(now, 1 / self.averaged) if weight.is_floating_point() else weight.copy_(now)
        for buffer, value in zip(average.buffers(), model.buffers(), strict=True):
            buffer.copy_(value)
        self.model = average

    def update_bn(
        self, batches: Iterable[Batch], autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        if self.model is not None:
            batch_norm.estimate(self.model, batches, autocast)

    def state_dict(self) -> dict[str, Any]:
        model = {} if self.model is None else self.model.state_dict()
        return {"seen": self.updates, "averaged": self.averaged, "model": model}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        average = self._started_copy()
        self.updates, self.averaged = int(state["seen"]), int(state["averaged"])
        if self.averaged:
            average.load_state_dict(state["model"])
        self.model = average if self.averaged else None

    def _started_copy(self) -> nn.Module:
        if self._copy is None:
            raise RuntimeError("SWA is used before SWA.start")
        return self._copy
