"""Any number of labels per sample: one logit for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from trainrun.task.base import Task, f1_macro


class Multilabel(Task):
    """Targets are 0 or 1 per label, (N, K). Metrics: accuracy over all labels, f1_macro over labels."""

    kinds: ClassVar[tuple[str, ...]] = ("labels",)
    metric_modes: Mapping[str, str] = {"loss": "min", "accuracy": "max", "f1_macro": "max"}

    def targets(self, targets: Tensor) -> Tensor:
        return targets.float()

    def quick_sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct": ((outputs > 0) == (targets > 0.5)).sum()}

    def sums(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        predicted, true = outputs > 0, targets > 0.5
        counts = {"hits": (predicted & true).sum(0), "claimed": predicted.sum(0), "real": true.sum(0)}
        return counts | self.quick_sums(outputs, targets)

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        accuracy = float(sums["correct"]) / (num_samples * self.info.num_targets)
        if "hits" not in sums:
            return {"accuracy": accuracy}
        return {"accuracy": accuracy, "f1_macro": f1_macro(sums["hits"], sums["claimed"], sums["real"])}

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probability of each label, (N, K) float64 on the host."""
        return torch.sigmoid(model(inputs).cpu().double())
