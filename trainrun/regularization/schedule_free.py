"""The average that a schedule-free optimizer keeps, as the weights that are evaluated."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainrun.protocols import Batch
from trainrun.regularization import batch_norm
from trainrun.regularization.kinds import WeightAverage

BATCHES = 50  # of which running statistics are estimated: the average is not far from the path


class KeepsAverage(Protocol):
    """An optimizer that can write its average of each weight into a copy of it."""

    def average_into(self, copies: Mapping[Tensor, Tensor]) -> None: ...


class ScheduleFreeAverage(WeightAverage):
    """A copy of the model with the optimizer's average.

    Buffers are the model's own, but that the running statistics of batch norm are estimated anew
    over some training batches before it is judged, as the authors of the method advise.
    """

    name = "schedule_free"

    def __init__(self, optimizer: KeepsAverage) -> None:
        self.optimizer = optimizer
        self.model: nn.Module | None = None
        self._copies: dict[Tensor, Tensor] = {}
        self._followed: nn.Module | None = None

    def start(self, model: nn.Module) -> None:
        self.model, self._followed = copy.deepcopy(model).requires_grad_(False).eval(), None

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        if self.model is None:
            raise RuntimeError("ScheduleFreeAverage.update before start")
        if model is not self._followed:
            self._followed = model
            self._copies = dict(zip(model.parameters(), self.model.parameters(), strict=True))
        self.optimizer.average_into(self._copies)
        for ours, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)

    def update_bn(
        self, batches: Iterable[Batch], autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        if self.model is not None:
            batch_norm.estimate(self.model, islice(batches, BATCHES), autocast)

    def state_dict(self) -> dict[str, Any]:
        if self.model is None:
            raise RuntimeError("ScheduleFreeAverage.state_dict before start")
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.model is None:
            raise RuntimeError("ScheduleFreeAverage.load_state_dict before start")
        self.model.load_state_dict(state["model"])
