"""Label smoothing: targets that leave a little probability to every class (Szegedy et al., 2016)."""

from __future__ import annotations

from dataclasses import replace

import torch

from trainrun.protocols import Batch, DataInfo
from trainrun.regularization.kinds import BatchChange
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Rate


class LabelSmoothing(BatchChange):
    """(1 - amount) of the target's own probability, and amount / C to each of the C classes."""

    def __init__(self, amount: Rate) -> None:
        self.amount = amount

    def check(self, info: DataInfo) -> None:
        if info.kind != "classes":
            text = f"needs classes to smooth, the targets of {info.name} are {info.kind}"
            raise ConfigError.of("regularization.label_smoothing", text)

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        targets = probabilities(batch.targets, info.num_targets)
        smoothed = targets * (1 - self.amount) + self.amount / info.num_targets
        return replace(batch, targets=smoothed, unsmoothed=batch.targets)


def probabilities(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Classes (N,) as one-hot (N, C) float32; probabilities (N, C) as they are."""
    if targets.ndim == 2:
        return targets
    return torch.nn.functional.one_hot(targets, num_classes).float()
