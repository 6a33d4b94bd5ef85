"""The average that a schedule-free optimizer keeps, as the weights that are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from trainrun.regularization.kinds import WeightAverage

BATCHES = 50  # from which batch norm's statistics are estimated: they differ little from the model's own


class KeepsAverage(Protocol):
    """An optimizer that can write its average of each weight into a copy of it."""

    def average_into(self, copies: Mapping[Tensor, Tensor]) -> None: ...


class ScheduleFreeAverage(WeightAverage):
    """A copy with the optimizer's average and, as its authors advise, batch norm's statistics of its own."""

    name = "schedule_free"
    bn_batches = BATCHES

    def __init__(self, optimizer: KeepsAverage) -> None:
        self.optimizer = optimizer
        self._copies: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        average = self.started_copy
        if model is not self._averaged_from:
            self._averaged_from = model
            self._copies = dict(zip(model.parameters(), average.parameters(), strict=True))
        self.optimizer.average_into(self._copies)
        for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
            ours.copy_(theirs)
